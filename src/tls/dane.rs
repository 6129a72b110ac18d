//! TLSA records (RFC 6698, RFC 7671): which certificates they are for.
//!
//! ```text
//!   usage     2 DANE-TA: who signs      3 DANE-EE: the server's own certificate
//!   selector  0 the certificate         1 its key
//!   matching  0 as it is                1 SHA-256         2 SHA-512
//! ```
//! Others are of no use here: PKIX-TA and PKIX-EE prove nothing between mail servers (RFC 7672 §3.1.3).

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, SHA512, SHA512_OUTPUT_LEN, digest};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

/// Whom a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Usage {
    /// One who signs for the server (DANE-TA).
    Anchor,
    /// The server itself (DANE-EE).
    EndEntity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Selector {
    Certificate,
    Key,
}

/// From the weakest to the strongest digest; what is no digest is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Matching {
    Full,
    Sha256,
    Sha512,
}

/// A record that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Association {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Box<[u8]>,
}

/// A certificate, and the key in it, as they are compared.
pub(super) struct Shown<'a> {
    pub(super) certificate: &'a [u8],
    /// `None` where the certificate cannot be read.
    pub(super) key: Option<&'a [u8]>,
}

impl Association {
    /// Of the fields of a TLSA record (RFC 6698 §2.1). `None`: it is unusable, by its values, the length
    /// of its digest, or because what it holds whole cannot be read (RFC 7672 §2.1.1).
    pub fn new(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Association> {
        let usage = match usage {
            2 => Usage::Anchor,
            3 => Usage::EndEntity,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let (matching, is_sound) = match (matching, selector) {
            (0, Selector::Certificate) => (
                Matching::Full,
                X509Certificate::from_der(data).is_ok_and(|(rest, _)| rest.is_empty()),
            ),
            (0, Selector::Key) => (
                Matching::Full,
                SubjectPublicKeyInfo::from_der(data).is_ok_and(|(rest, _)| rest.is_empty()),
            ),
            (1, _) => (Matching::Sha256, data.len() == SHA256_OUTPUT_LEN),
            (2, _) => (Matching::Sha512, data.len() == SHA512_OUTPUT_LEN),
            _ => return None,
        };
        is_sound.then(|| Association { usage, selector, matching, data: data.into() })
    }

    /// It is about somebody who signs, for a name.
    pub(super) fn needs_name(&self) -> bool {
        self.usage == Usage::Anchor
    }

    /// The certificate of one who signs, where the record holds it whole.
    pub(super) fn anchor_certificate(&self) -> Option<&[u8]> {
        self.whole(Selector::Certificate)
    }

    /// The key of one who signs, where the record holds it whole.
    pub(super) fn anchor_key(&self) -> Option<&[u8]> {
        self.whole(Selector::Key)
    }

    fn whole(&self, selector: Selector) -> Option<&[u8]> {
        let is_whole = self.usage == Usage::Anchor
            && self.selector == selector
            && self.matching == Matching::Full;
        is_whole.then_some(&self.data)
    }

    fn is_for(&self, usage: Usage, shown: &Shown<'_>) -> bool {
        let octets = match self.selector {
            Selector::Certificate => Some(shown.certificate),
            Selector::Key => shown.key,
        };
        self.usage == usage
            && octets.is_some_and(|octets| match self.matching {
                Matching::Full => *octets == *self.data,
                Matching::Sha256 => digest(&SHA256, octets).as_ref() == &*self.data,
                Matching::Sha512 => digest(&SHA512, octets).as_ref() == &*self.data,
            })
    }
}

/// Those that count: of several digests for the same usage and selector the strongest, and what is no
/// digest (RFC 7671 §9).
pub(super) fn strongest(all: &[Association]) -> impl Iterator<Item = &Association> {
    let strength = |one: &Association| {
        let same =
            all.iter().filter(|other| (other.usage, other.selector) == (one.usage, one.selector));
        same.map(|other| other.matching).max()
    };
    all.iter()
        .filter(move |one| one.matching == Matching::Full || Some(one.matching) == strength(one))
}

/// Whether one of them is for this certificate.
pub(super) fn any_for(all: &[Association], usage: Usage, shown: &Shown<'_>) -> bool {
    strongest(all).any(|association| association.is_for(usage, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_records_that_can_be_used() {
        for (usage, selector, matching, octets, usable) in [
            (3, 1, 1, 32, true),
            (3, 0, 2, 64, true),
            (2, 0, 1, 32, true),
            (2, 1, 2, 64, true),
            (0, 0, 1, 32, false),
            (1, 1, 1, 32, false),
            (4, 1, 1, 32, false),
            (255, 1, 1, 32, false),
            (3, 2, 1, 32, false),
            (3, 1, 3, 32, false),
            (3, 1, 1, 31, false),
            (3, 1, 1, 0, false),
            (3, 1, 2, 32, false),
            // No certificate, no key.
            (3, 0, 0, 32, false),
            (2, 1, 0, 32, false),
        ] {
            let made = Association::new(usage, selector, matching, &vec![7; octets]);
            assert_eq!(made.is_some(), usable, "{usage} {selector} {matching} of {octets} octets");
        }
    }

    /// RFC 7671 §9: the weaker digest is as if it were not there.
    #[test]
    fn the_strongest_digest_counts() {
        let octets = b"a certificate";
        let shown = Shown { certificate: octets, key: None };
        let of = |usage, matching, octets: &[u8]| {
            let digest = digest(if matching == 1 { &SHA256 } else { &SHA512 }, octets);
            Association::new(usage, 0, matching, digest.as_ref()).unwrap()
        };
        let weak = of(3, 1, octets);
        let check = |all: &[Association]| any_for(all, Usage::EndEntity, &shown);
        assert!(check(std::slice::from_ref(&weak)));
        assert!(check(&[weak.clone(), of(3, 2, octets)]));
        assert!(!check(&[weak.clone(), of(3, 2, b"another")]));
        // Another usage is another matter.
        assert!(check(&[weak.clone(), of(2, 2, b"another")]));
        assert!(!any_for(&[weak], Usage::Anchor, &shown));
    }
}
