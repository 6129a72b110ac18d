//! Password hashes: argon2id in PHC strings for new ones (RFC 9106), and whatever other mail servers
//! and systems had before.
//!
//! A hash carries its own costs; those in the settings are for new ones. One that asks for more
//! than a check may cost is no hash here.

mod crypt;
mod digest;
#[cfg(test)]
mod tests;

use crate::proto::sasl::Keys;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::fmt;

/// KiB of memory that a stored hash may ask for; an imported one could ask for all there is.
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// Passes that a stored hash may ask for.
const PASSES_MAX: u32 = 64;

/// What a new hash costs. The default is the first choice of the OWASP for argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Cost {
    /// As little as argon2 takes, for tests and simulations.
    pub const LEAST: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
}

/// The costs are out of bounds, or there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHashed;

impl fmt::Display for NotHashed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the password could not be hashed: costs out of bounds, or no memory")
    }
}

/// Hashes a password, prepared by SASLprep. Takes its time and memory: not on a shard.
pub fn hash(password: &str, salt: &[u8; 16], cost: Cost) -> Result<String, NotHashed> {
    if cost.memory_kib > MEMORY_KIB_MAX || cost.passes > PASSES_MAX {
        return Err(NotHashed);
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None);
    let params = params.map_err(|_| NotHashed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string()).map_err(|_| NotHashed)
}

/// Whether `stored` is the hash of this password. Takes its time and memory: not on a shard.
pub fn verify(password: &str, stored: &str) -> bool {
    read(stored).is_some_and(|stored| match stored {
        Stored::Argon2(hash) => {
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
        }
        Stored::Scrypt(hash) => {
            scrypt::Scrypt::new().verify_password(password.as_bytes(), &hash).is_ok()
        }
        Stored::Scram(keys) => keys.are_of(password),
        Stored::Crypt(hash) => hash.verify(password),
        Stored::Digest(hash) => hash.verify(password),
    })
}

/// Whether [`verify`] can work with this.
pub fn is_hash(text: &str) -> bool {
    read(text).is_some()
}

/// Whether this is weaker than what is made at such a cost: of another kind, or with less memory or
/// fewer passes.
pub fn is_outdated(stored: &str, cost: Cost) -> bool {
    let Some(Stored::Argon2(hash)) = read(stored) else { return true };
    let params = Params::try_from(&hash).ok();
    let is_current = params
        .is_some_and(|params| params.m_cost() >= cost.memory_kib && params.t_cost() >= cost.passes);
    !is_current || hash.algorithm.as_str() != Algorithm::Argon2id.as_str()
}

/// A hash in one of the forms that are known.
enum Stored<'a> {
    Argon2(PasswordHash),
    Scrypt(PasswordHash),
    Scram(Keys),
    Crypt(crypt::Crypt<'a>),
    Digest(digest::Digest),
}

fn read(text: &str) -> Option<Stored<'_>> {
    if let Some(keys) = Keys::parse(text) {
        return Some(Stored::Scram(keys));
    }
    if let Some(hash) = crypt::read(text) {
        return Some(Stored::Crypt(hash));
    }
    if let Some(hash) = digest::read(text) {
        return Some(Stored::Digest(hash));
    }
    let hash = PasswordHash::new(text).ok()?;
    hash.hash.as_ref()?;
    if hash.algorithm.as_str() == "scrypt" {
        let params = scrypt::Params::try_from(&hash).ok()?;
        let (log_n, r, p) = (params.log_n(), params.r(), params.p());
        let is_cheap = crypt::is_cheap(u64::from(log_n), u64::from(r), u64::from(p));
        return is_cheap.then_some(Stored::Scrypt(hash));
    }
    let params = Params::try_from(&hash).ok()?;
    let is_argon2 = Algorithm::try_from(hash.algorithm.as_str()).is_ok();
    let is_bounded = params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX;
    (is_argon2 && is_bounded).then_some(Stored::Argon2(hash))
}

/// A password or hash as other servers write it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// For [`verify`].
    Hash(String),
    /// `{PLAIN}`: the password itself, to be hashed.
    Plain(String),
}

/// Reads what stands in the password field of Dovecot's passwd-file, htpasswd or /etc/shadow: a hash
/// of [`is_hash`], with a scheme in braces before it or not. `None`: of no kind that is known.
pub fn import(text: &str) -> Option<Imported> {
    let Some((scheme, value)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return is_hash(text).then(|| Imported::Hash(text.into()));
    };
    let hash = match &*scheme.to_ascii_uppercase() {
        "PLAIN" | "CLEAR" | "CLEARTEXT" | "PLAINTEXT" => {
            return (!value.is_empty()).then(|| Imported::Plain(value.into()));
        }
        "CRYPT" | "BLF-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "MD5-CRYPT" | "MD5"
        | "ARGON2I" | "ARGON2ID" => value.into(),
        // Dovecot parts with commas what RFC 5803 does with signs.
        scheme @ ("SCRAM-SHA-1" | "SCRAM-SHA-256") => {
            let mut fields = value.split(',');
            let mut next = || fields.next();
            let (iterations, salt, stored, server) = (next()?, next()?, next()?, next()?);
            format!("{scheme}${iterations}:{salt}${stored}:{server}")
        }
        _ => text.into(),
    };
    is_hash(&hash).then_some(Imported::Hash(hash))
}

/// The value of a digit in the base64 of crypt(3).
fn base64_crypt(digit: u8) -> u8 {
    match digit {
        b'/' => 1,
        b'0'..=b'9' => digit - b'0' + 2,
        b'A'..=b'Z' => digit - b'A' + 12,
        b'a'..=b'z' => digit - b'a' + 38,
        _ => 0,
    }
}
