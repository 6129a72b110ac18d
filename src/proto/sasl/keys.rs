//! What a server keeps to take SCRAM: keys that tell whether a client knows the password, and of
//! which none can be had without guessing it (RFC 5802 §3).
//!
//! As text, which is how the directory keeps it and others write it (RFC 5803 §3):
//!
//! ```text
//! SCRAM-SHA-256$4096:salt$StoredKey:ServerKey        each in base64
//! ```

use crate::model::limits::{SCRAM_ITERATIONS_MAX, SCRAM_SALT_OCTETS_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;

/// The hash function under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// The mechanism's name without -PLUS.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "SCRAM-SHA-1",
            Hash::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// Octets of a hash.
    pub const fn octets(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    pub(super) fn mac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any size");
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Hash::Sha1 => of::<Hmac<Sha1>>(key, text),
            Hash::Sha256 => of::<Hmac<Sha256>>(key, text),
        }
    }

    fn digest(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(octets).to_vec(),
            Hash::Sha256 => Sha256::digest(octets).to_vec(),
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.octets()];
        let password = password.as_bytes();
        match self {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut out),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
        }
        out
    }

    /// What a client that knows the password sends for these signed octets.
    #[cfg(any(test, feature = "sim"))]
    pub fn proof(self, password: &str, salt: &[u8], iterations: u32, signed: &[u8]) -> Vec<u8> {
        let client_key = self.mac(&self.salted(password, salt, iterations), b"Client Key");
        let signature = self.mac(&self.digest(&client_key), signed);
        client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect()
    }
}

/// See the header of this file.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub hash: Hash,
    pub iterations: u32,
    pub salt: Box<[u8]>,
    pub(super) stored_key: Box<[u8]>,
    pub(super) server_key: Box<[u8]>,
}

impl Keys {
    /// Makes the keys of a password that was prepared by SASLprep. Takes its time: not on a shard.
    pub fn derive(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Keys {
        let salted = hash.salted(password, salt, iterations);
        let stored_key = hash.digest(&hash.mac(&salted, b"Client Key")).into();
        let server_key = hash.mac(&salted, b"Server Key").into();
        Keys { hash, iterations, salt: salt.into(), stored_key, server_key }
    }

    /// Keys that nobody can show to know, for a user who has none: of octets that are random, or
    /// as good as that.
    pub fn unknown(hash: Hash, salt: &[u8], iterations: u32) -> Keys {
        let key: Box<[u8]> = vec![0; hash.octets()].into();
        Keys { hash, iterations, salt: salt.into(), stored_key: key.clone(), server_key: key }
    }

    /// Reads the text form; `None` if it is none, or asks for more work than anybody should.
    pub fn parse(text: &str) -> Option<Keys> {
        let (name, rest) = text.split_once('$')?;
        let hash = [Hash::Sha1, Hash::Sha256].into_iter().find(|hash| hash.name() == name)?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let octets = |text: &str| STANDARD.decode(text).ok().map(Box::from);
        let keys = Keys {
            hash,
            iterations: iterations.parse().ok()?,
            salt: octets(salt)?,
            stored_key: octets(stored)?,
            server_key: octets(server)?,
        };
        let is_sound = (1..=SCRAM_ITERATIONS_MAX).contains(&keys.iterations)
            && (1..=SCRAM_SALT_OCTETS_MAX).contains(&keys.salt.len())
            && keys.stored_key.len() == hash.octets()
            && keys.server_key.len() == hash.octets();
        is_sound.then_some(keys)
    }

    /// Whether these are the keys of this password. Takes its time: not on a shard.
    pub fn are_of(&self, password: &str) -> bool {
        let made = Keys::derive(self.hash, password, &self.salt, self.iterations);
        equal(&made.stored_key, &self.stored_key)
    }

    /// Whether `proof` was made by one who knows the password (RFC 5802 §3).
    pub(super) fn proves(&self, signed: &[u8], proof: &[u8]) -> bool {
        let signature = self.hash.mac(&self.stored_key, signed);
        let client_key: Vec<u8> =
            signature.iter().zip(proof).map(|(one, other)| one ^ other).collect();
        equal(&self.hash.digest(&client_key), &self.stored_key)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |octets: &[u8]| STANDARD.encode(octets);
        let Keys { hash, iterations, salt, stored_key, server_key } = self;
        let (stored, server) = (text(stored_key), text(server_key));
        write!(out, "{}${iterations}:{}${stored}:{server}", hash.name(), text(salt))
    }
}

/// Without the keys: with them anybody could stand in for the server.
impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Keys({}, {})", self.hash.name(), self.iterations)
    }
}

/// Compares without telling by its time where the first difference is.
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |sum, (one, other)| sum | std::hint::black_box(one ^ other))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_others_write() {
        let keys = Keys::derive(Hash::Sha256, "pencil", b"salt of sixteen.", 4096);
        assert_eq!(Keys::parse(&keys.to_string()), Some(keys.clone()));
        assert!(keys.are_of("pencil") && !keys.are_of("pencils"));
        // The keys of RFC 5802 §5, as Dovecot and PostgreSQL would write them.
        let text = "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";
        let keys = Keys::parse(text).unwrap();
        assert!(keys.are_of("pencil"));
        assert_eq!(keys.to_string(), text);
    }

    #[test]
    fn refuses_what_is_none_or_costs_too_much() {
        for bad in [
            "",
            "$",
            "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
            "SCRAM-SHA-1$0:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
            "SCRAM-SHA-1$4096:$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
            "SCRAM-SHA-1$99999999:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
            "SCRAM-MD5$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
        ] {
            assert_eq!(Keys::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn compares_all_octets() {
        assert!(equal(b"", b"") && equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab"));
    }
}
