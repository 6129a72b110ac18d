//! Sets of keys that tokens are signed with (RFC 7517 §5), out of a file or as they are published.

use crate::model::limits::{OAUTH_KEYS_MAX, OAUTH_KEYS_TRIED_MAX, OAUTH_WORD_OCTETS_MAX};
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

/// Octets of the shortest secret that two sides may share: as many as the hash has (RFC 7518 §3.2). 0 for
/// algorithms without one.
fn secret_octets_min(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 0,
    }
}

/// A key that tokens may be signed with.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kid: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    pub material: DecodingKey,
}

/// Keys by their names.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// The octets that it was read from; what tells two apart.
    source: Box<[u8]>,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &KeySet) -> bool {
        self.source == other.source
    }
}

impl Eq for KeySet {}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl KeySet {
    /// A set that the operator has in a file: secrets may be in it. An error: why it is none.
    pub fn from_file(json: &[u8]) -> Result<KeySet, String> {
        KeySet::read(json, true)
    }

    /// A set that is published. A secret that everybody can read is none, and is left out.
    pub fn published(json: &[u8]) -> Result<KeySet, String> {
        KeySet::read(json, false)
    }

    /// What is no key for signatures, or none that we know, is passed over (RFC 7517 §5).
    fn read(json: &[u8], with_secrets: bool) -> Result<KeySet, String> {
        let set: Set = serde_json::from_slice(json)
            .map_err(|error| format!("no set of keys (JWKS): {error}"))?;
        let keys: Vec<Key> = set
            .keys
            .into_iter()
            .take(OAUTH_KEYS_MAX)
            .filter_map(|value| Key::read(serde_json::from_value(value).ok()?))
            .filter(|key| with_secrets || key.material.family() != AlgorithmFamily::Hmac)
            .collect();
        if keys.is_empty() {
            return Err("no key in it that signatures could be checked with".into());
        }
        Ok(KeySet { keys, source: json.into() })
    }

    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether a secret is among them.
    pub fn has_secrets(&self) -> bool {
        self.keys.iter().any(|key| key.material.family() == AlgorithmFamily::Hmac)
    }

    /// The keys that may have signed by this algorithm: those of that name, or a few if none is named.
    pub(super) fn fitting(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| {
            key.material.family() == algorithm.family()
                && key.secret_octets() >= secret_octets_min(algorithm)
                && key.algorithm.is_none_or(|only| only == algorithm)
                && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        };
        self.keys.iter().filter(fits).take(OAUTH_KEYS_TRIED_MAX)
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<Key> {
        let material = DecodingKey::from_jwk(&jwk).ok()?;
        let common = jwk.common;
        let signs = common.public_key_use.is_none_or(|only| only == PublicKeyUse::Signature);
        let verifies = common.key_operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
        // One that names an algorithm which is none of signatures is for something else.
        let algorithm = match common.key_algorithm {
            Some(only) => Some(Algorithm::try_from(only).ok()?),
            None => None,
        };
        let short = common.key_id.as_ref().is_none_or(|kid| kid.len() <= OAUTH_WORD_OCTETS_MAX);
        let key = Key { kid: common.key_id, algorithm, material };
        let least = secret_octets_min(algorithm.unwrap_or(Algorithm::HS256));
        let strong = key.material.family() != AlgorithmFamily::Hmac || key.secret_octets() >= least;
        (signs && verifies && short && strong).then_some(key)
    }

    /// 0 of a key that is none.
    fn secret_octets(&self) -> usize {
        match self.material.kind() {
            DecodingKeyKind::SecretOrDer(secret)
                if self.material.family() == AlgorithmFamily::Hmac =>
            {
                secret.len()
            }
            _ => 0,
        }
    }
}
