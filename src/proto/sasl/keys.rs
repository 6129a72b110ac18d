//! What a server keeps to take SCRAM: keys that tell whether a client knows the password, and of
//! which none can be had without guessing it (RFC 5802 §3).
//!
//! As text, which is how the directory keeps it and others write it (RFC 5803 §3):
//!
//! ```text
//! SCRAM-SHA-256$4096:salt$StoredKey:ServerKey        each in base64
//! ```
//!
//! Hash, iterations and salt are the *terms*: the client is told them before anybody knows which
//! password it will show. So whoever has several passwords has keys of all of them on the same terms, a
//! [`Ring`], or only one of them is of use.

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

    /// What a client that knows the password sends for these signed octets, and what the server has
    /// to answer (RFC 5802 §3). Takes its time.
    pub(super) fn prove(
        self,
        password: &str,
        salt: &[u8],
        iterations: u32,
        signed: &[u8],
    ) -> (Vec<u8>, Vec<u8>) {
        let salted = self.salted(password, salt, iterations);
        let client_key = self.mac(&salted, b"Client Key");
        let signature = self.mac(&self.digest(&client_key), signed);
        let proof = client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
        (proof, self.mac(&self.mac(&salted, b"Server Key"), signed))
    }

    /// The first of the two, for tests elsewhere.
    #[cfg(any(test, feature = "sim"))]
    pub fn proof(self, password: &str, salt: &[u8], iterations: u32, signed: &[u8]) -> Vec<u8> {
        self.prove(password, salt, iterations, signed).0
    }
}

/// What keys are made by, beside the password; what the client is told of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub hash: Hash,
    pub iterations: u32,
    pub salt: Box<[u8]>,
}

impl Terms {
    /// Reads `SCRAM-SHA-256$4096:salt`; `None` if it is none, or asks for more work than anybody should.
    pub fn parse(text: &str) -> Option<Terms> {
        let (name, head) = text.split_once('$')?;
        let hash = [Hash::Sha1, Hash::Sha256].into_iter().find(|hash| hash.name() == name)?;
        let (iterations, salt) = head.split_once(':')?;
        let terms = Terms { hash, iterations: iterations.parse().ok()?, salt: octets(salt)? };
        let is_sound = (1..=SCRAM_ITERATIONS_MAX).contains(&terms.iterations)
            && (1..=SCRAM_SALT_OCTETS_MAX).contains(&terms.salt.len());
        is_sound.then_some(terms)
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Terms { hash, iterations, salt } = self;
        write!(out, "{}${iterations}:{}", hash.name(), STANDARD.encode(salt))
    }
}

fn octets(text: &str) -> Option<Box<[u8]>> {
    STANDARD.decode(text).ok().map(Box::from)
}

/// See the header of this file.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub terms: Terms,
    pub(super) stored_key: Box<[u8]>,
    pub(super) server_key: Box<[u8]>,
}

impl Keys {
    /// Makes the keys of a password that was prepared by SASLprep. Takes its time: not on a shard.
    pub fn derive(hash: Hash, password: &str, salt: &[u8], iterations: u32) -> Keys {
        Keys::of(Terms { hash, iterations, salt: salt.into() }, password)
    }

    /// The same on given terms.
    pub fn of(terms: Terms, password: &str) -> Keys {
        let hash = terms.hash;
        let salted = hash.salted(password, &terms.salt, terms.iterations);
        let stored_key = hash.digest(&hash.mac(&salted, b"Client Key")).into();
        let server_key = hash.mac(&salted, b"Server Key").into();
        Keys { terms, stored_key, server_key }
    }

    /// Keys that nobody can show to know, for a user who has none: of octets that are random, or
    /// as good as that.
    pub fn unknown(terms: Terms) -> Keys {
        let key: Box<[u8]> = vec![0; terms.hash.octets()].into();
        Keys { terms, stored_key: key.clone(), server_key: key }
    }

    /// Reads the text form; `None` if it is none, or asks for more work than anybody should.
    pub fn parse(text: &str) -> Option<Keys> {
        let (terms, keys) = text.rsplit_once('$')?;
        let terms = Terms::parse(terms)?;
        let (stored, server) = keys.split_once(':')?;
        let (stored_key, server_key) = (octets(stored)?, octets(server)?);
        let is_sound =
            [&stored_key, &server_key].iter().all(|key| key.len() == terms.hash.octets());
        is_sound.then_some(Keys { terms, stored_key, server_key })
    }

    /// Whether these are the keys of this password. Takes its time: not on a shard.
    pub fn are_of(&self, password: &str) -> bool {
        let made = Keys::of(self.terms.clone(), password);
        equal(&made.stored_key, &self.stored_key)
    }

    /// Whether `proof` was made by one who knows the password (RFC 5802 §3).
    fn proves(&self, signed: &[u8], proof: &[u8]) -> bool {
        let hash = self.terms.hash;
        let signature = hash.mac(&self.stored_key, signed);
        let client_key: Vec<u8> =
            signature.iter().zip(proof).map(|(one, other)| one ^ other).collect();
        equal(&hash.digest(&client_key), &self.stored_key)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { terms, stored_key, server_key } = self;
        write!(out, "{terms}${}:{}", STANDARD.encode(stored_key), STANDARD.encode(server_key))
    }
}

/// Without the keys: with them anybody could stand in for the server.
impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Keys({}, {})", self.terms.hash.name(), self.terms.iterations)
    }
}

/// The keys of which a client has to know one password; all on the same terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring(Vec<Keys>);

impl Ring {
    pub fn new(first: Keys) -> Ring {
        Ring(vec![first])
    }

    /// Adds keys; false, and they are left out, if they are on other terms.
    pub fn add(&mut self, keys: Keys) -> bool {
        let fits = keys.terms == *self.terms();
        if fits {
            self.0.push(keys);
        }
        fits
    }

    pub fn terms(&self) -> &Terms {
        &self.first().terms
    }

    #[expect(clippy::len_without_is_empty, reason = "there are always some")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn first(&self) -> &Keys {
        self.0.first().expect("a ring is made of keys")
    }

    /// The keys whose password this proof was made with. Each is tried, whichever it is.
    pub(super) fn proven(&self, signed: &[u8], proof: &[u8]) -> Option<&Keys> {
        self.0.iter().fold(None, |found, keys| {
            let proves = keys.proves(signed, proof);
            found.or(proves.then_some(keys))
        })
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
    fn one_of_several_passwords_is_enough_on_the_same_terms() {
        let keys = |password, salt: &[u8]| Keys::derive(Hash::Sha256, password, salt, 2);
        let mut ring = Ring::new(keys("one", b"salt"));
        assert!(ring.add(keys("two", b"salt")) && !ring.add(keys("three", b"pepper")));
        assert_eq!(ring.len(), 2);
        let proven = |password| {
            let proof = Hash::Sha256.proof(password, b"salt", 2, b"signed");
            ring.proven(b"signed", &proof).cloned()
        };
        assert_eq!(proven("one"), Some(keys("one", b"salt")));
        assert_eq!(proven("two"), Some(keys("two", b"salt")));
        assert_eq!(proven("three"), None);
        let terms = ring.terms().to_string();
        assert_eq!(terms, "SCRAM-SHA-256$2:c2FsdA==");
        assert_eq!(Terms::parse(&terms).as_ref(), Some(ring.terms()));
    }

    #[test]
    fn compares_all_octets() {
        assert!(equal(b"", b"") && equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd") && !equal(b"abc", b"ab"));
    }
}
