//! Password hashes: argon2id in PHC strings (RFC 9106).
//!
//! A hash carries its own costs; those in the settings are for new ones.

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
    let Some(stored) = read(stored) else {
        return false;
    };
    Argon2::default().verify_password(password.as_bytes(), &stored).is_ok()
}

/// Whether [`verify`] can work with this.
pub fn is_hash(text: &str) -> bool {
    read(text).is_some()
}

fn read(text: &str) -> Option<PasswordHash> {
    let stored = PasswordHash::new(text).ok()?;
    let params = Params::try_from(&stored).ok()?;
    let is_argon2 = Algorithm::try_from(stored.algorithm.as_str()).is_ok();
    let is_bounded = params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX;
    (is_argon2 && is_bounded && stored.hash.is_some()).then_some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_what_it_hashed_and_nothing_else() {
        let stored = hash("correct horse", &[7; 16], Cost::LEAST).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{stored}");
        assert!(verify("correct horse", &stored));
        assert!(!verify("correct horse ", &stored));
        assert!(!verify("", &stored));
        assert_ne!(stored, hash("correct horse", &[8; 16], Cost::LEAST).unwrap());
    }

    #[test]
    fn takes_hashes_of_other_makers() {
        // Made by the reference implementation: `echo -n password | argon2 somesalt -id -m 16 -t 2`.
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(is_hash(stored));
        assert!(verify("password", stored));
    }

    #[test]
    fn refuses_what_is_no_hash_or_costs_too_much() {
        let bad = [
            "",
            "x",
            "$",
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ",
            "$pbkdf2-sha256$i=1000$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=1048576,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=8,t=1000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ];
        for stored in bad {
            assert!(!is_hash(stored) && !verify("password", stored), "{stored}");
        }
        assert_eq!(hash("x", &[0; 16], Cost { lanes: 0, ..Cost::LEAST }), Err(NotHashed));
    }
}
