//! Keys that sign, by domain.

use crate::bytes::hash::Map;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::sync::Arc;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// rsa-sha256 (RFC 8301): what everybody checks.
    Rsa,
    /// ed25519-sha256 (RFC 8463): short, and not known everywhere.
    Ed25519,
}

impl Algorithm {
    /// `k=` of the record, and the first word of `a=`.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }
}

/// Why a file holds no key that can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// No private key in PEM.
    NoPem,
    /// RSA of less than 2048 bits (RFC 8301 §3.2), or more than 4096, or another kind of key.
    Unfit,
}

impl fmt::Display for BadKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            BadKey::NoPem => "no private key in PEM",
            BadKey::Unfit => "neither an RSA key of 2048 to 4096 bits nor an Ed25519 key",
        })
    }
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key and where its public half is published.
pub struct Key {
    selector: Box<str>,
    pair: Pair,
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({}, {}, {} bits)", self.selector, self.algorithm().name(), self.bits())
    }
}

impl Key {
    /// Reads a private key in PEM: PKCS#8, or PKCS#1 as older tools write RSA keys.
    pub fn from_pem(selector: &str, pem: &[u8]) -> Result<Key, BadKey> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| BadKey::NoPem)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = || rsa::KeyPair::from_pkcs8(der).map(Pair::Rsa);
                let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519);
                ed25519.or_else(|_| rsa())
            }
            PrivateKeyDer::Pkcs1(der) => {
                rsa::KeyPair::from_der(der.secret_pkcs1_der()).map(Pair::Rsa)
            }
            _ => return Err(BadKey::Unfit),
        };
        Ok(Key { selector: selector.into(), pair: pair.map_err(|_| BadKey::Unfit)? })
    }

    pub fn selector(&self) -> &str {
        &self.selector
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::Rsa,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    pub fn bits(&self) -> usize {
        match &self.pair {
            Pair::Rsa(pair) => pair.public().modulus_len() * 8,
            Pair::Ed25519(_) => 256,
        }
    }

    /// The public half, as its kind writes it: RSAPublicKey in DER (RFC 8017), or 32 octets.
    pub(super) fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The signature over `data`; `None`: the library cannot, which a sound key knows nothing of.
    pub(super) fn sign(&self, data: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, data, &mut out).ok()?;
                Some(out)
            }
            // RFC 8463 §3: the hash is what is signed.
            Pair::Ed25519(pair) => {
                let hash = ring::digest::digest(&ring::digest::SHA256, data);
                Some(pair.sign(hash.as_ref()).as_ref().to_vec())
            }
        }
    }
}

/// A selector is one or more labels of a domain (RFC 6376 §3.1).
pub fn is_selector(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
    };
    text.len() <= 63 && text.split('.').all(is_label)
}

/// All keys of the server; a copy costs what the names of the domains do.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_domain: Map<Box<str>, Arc<[Key]>>,
}

impl Keys {
    /// These are the keys of `domain`, in A-labels and lower case, from now on; none: it has no more.
    pub fn set(&mut self, domain: &str, mut keys: Vec<Key>) {
        keys.sort_by(|one, other| {
            (one.algorithm(), &one.selector).cmp(&(other.algorithm(), &other.selector))
        });
        if keys.is_empty() {
            self.by_domain.remove(domain);
        } else {
            self.by_domain.insert(domain.into(), keys.into());
        }
    }

    /// `domain` has the keys that it has among the others, or none.
    pub fn follow(&mut self, domain: &str, others: &Keys) {
        match others.by_domain.get(domain) {
            Some(keys) => self.by_domain.insert(domain.into(), Arc::clone(keys)),
            None => self.by_domain.remove(domain),
        };
    }

    /// The keys for mail from `domain`, and whose they are: its own, or those of the nearest domain
    /// above it that has any (RFC 6376 §3.5, `d=`; RFC 7489 §3.1.1 takes them as aligned).
    pub fn of<'k>(&'k self, domain: &str) -> Option<(&'k str, &'k [Key])> {
        let mut rest = domain;
        loop {
            if let Some((domain, keys)) = self.by_domain.get_key_value(rest) {
                return Some((domain, keys));
            }
            rest = rest.split_once('.')?.1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_domain.is_empty()
    }

    /// Domains with their keys, in the order of the alphabet.
    pub fn all(&self) -> Vec<(&str, &[Key])> {
        let mut all: Vec<(&str, &[Key])> =
            self.by_domain.iter().map(|(domain, keys)| (&**domain, &**keys)).collect();
        all.sort_by_key(|(domain, _)| *domain);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_selectors() {
        for good in ["a", "2026-11", "s_1", "a.b", "202611-ed25519"] {
            assert!(is_selector(good), "{good}");
        }
        for bad in ["", ".", "a.", "-a", "a b", "é", "a/b", "a\n", &"x".repeat(64)] {
            assert!(!is_selector(bad), "{bad}");
        }
    }

    #[test]
    fn finds_the_keys_of_a_domain_or_of_one_above() {
        let mut keys = Keys::default();
        let key = |selector| Key::from_pem(selector, super::super::sign::tests::ED25519).unwrap();
        keys.set("b.example", vec![key("two"), key("one")]);
        keys.set("x.b.example", vec![key("x")]);
        keys.set("c.example", vec![key("gone")]);
        keys.set("c.example", Vec::new());
        let of = |domain: &str| {
            keys.of(domain).map(|(owner, keys)| {
                format!("{owner} {:?}", keys.iter().map(Key::selector).collect::<Vec<_>>())
            })
        };
        assert_eq!(of("b.example").as_deref(), Some("b.example [\"one\", \"two\"]"));
        assert_eq!(of("a.y.b.example").as_deref(), Some("b.example [\"one\", \"two\"]"));
        assert_eq!(of("a.x.b.example").as_deref(), Some("x.b.example [\"x\"]"));
        assert_eq!(of("example"), None);
        assert_eq!(of("c.example"), None);
        assert_eq!(of("ab.example"), None);
    }

    #[test]
    fn tells_what_is_no_key() {
        assert_eq!(Key::from_pem("s", b"x").unwrap_err(), BadKey::NoPem);
        let strange = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(Key::from_pem("s", strange).unwrap_err(), BadKey::Unfit);
    }
}
