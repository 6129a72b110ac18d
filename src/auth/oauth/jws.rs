//! Signed tokens: who signed them, checked by `jsonwebtoken` with the arithmetic of `ring`.
//!
//! ```text
//! token := base64url(header) "." base64url(claims) "." base64url(signature)      RFC 7515 §7.1
//! ```
//! The header says by which algorithm, and often with which key. It is a stranger's word until the
//! signature is checked, so it chooses among what the operator allows and the keys that fit, and
//! nothing else: RFC 8725 §3.1. `none` is no algorithm here.

use super::Fault;
use super::keys::Key;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, Validation, decode,
};
use ring::signature::{self as by_ring, UnparsedPublicKey, VerificationAlgorithm};
use ring::{hmac, signature::RsaPublicKeyComponents};
use serde_json::{Map, Value};

/// What is said of a token in JSON.
pub(super) type Claims = Map<String, Value>;

/// What a token says of how it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The algorithm by its name; none that we have, perhaps.
    pub alg: String,
    /// The key by its name.
    pub kid: Option<String>,
    /// In lower case, without `application/` (RFC 7515 §4.1.9); `jwt` where it is not said.
    pub typ: String,
}

/// Reads the header; `None` where this is no signed token at all, but one that only who made it can read.
pub(super) fn header(token: &str) -> Option<Result<Header, Fault>> {
    let mut parts = token.split('.');
    let (first, Some(_), Some(_), None) = (parts.next()?, parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let json = URL_SAFE_NO_PAD.decode(first).ok()?;
    let fields: Map<String, Value> = serde_json::from_slice(&json).ok()?;
    let text = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Fault::Malformed),
    };
    let read = || {
        let typ = text("typ")?.unwrap_or_else(|| "jwt".into()).to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ).into();
        Ok(Header { alg: text("alg")?.ok_or(Fault::Malformed)?, kid: text("kid")?, typ })
    };
    Some(read())
}

/// What is said of the token, if this key signed it by this algorithm.
pub(super) fn open(token: &str, key: &Key, algorithm: Algorithm) -> Result<Claims, Fault> {
    install();
    let mut validation = Validation::new(algorithm);
    // What is claimed is looked at elsewhere, by the clock of the server.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let opened = decode::<Claims>(token, &key.material, &validation);
    opened.map(|opened| opened.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Fault::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Fault::Algorithm,
        _ => Fault::Malformed,
    })
}

/// The arithmetic is chosen once for the process.
fn install() {
    // It is there already from the second time on.
    let _ = RING.install_default();
}

static RING: CryptoProvider = CryptoProvider {
    signer_factory: refuse_to_sign,
    verifier_factory: verifier,
    // For keys that are written, which none is here.
    key_utils: KeyUtils::new_unimplemented(),
};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library asks for it so")]
fn refuse_to_sign(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(new_error(ErrorKind::UnsupportedAlgorithm))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library asks for it so")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    // A public key is never taken for a secret that both sides have.
    if algorithm.family() != key.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }))
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let is_right = match (self.key.family(), self.key.kind()) {
            (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                let algorithm = by_hmac(self.algorithm).ok_or_else(signature::Error::new)?;
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, message, signature).is_ok()
            }
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let parameters = by_rsa(self.algorithm).ok_or_else(signature::Error::new)?;
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (_, DecodingKeyKind::SecretOrDer(point)) => {
                let algorithm = by_curve(self.algorithm).ok_or_else(signature::Error::new)?;
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            _ => false,
        };
        if is_right { Ok(()) } else { Err(signature::Error::new()) }
    }
}

fn by_hmac(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// RFC 7518 §3.3 wants 2048 bits or more, as these do.
fn by_rsa(algorithm: Algorithm) -> Option<&'static by_ring::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&by_ring::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&by_ring::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&by_ring::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn by_curve(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&by_ring::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&by_ring::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&by_ring::ED25519),
        _ => None,
    }
}
