//! A certificate chain with its key, read from PEM and checked as far as one can without asking
//! others.

use ring::digest;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm as Signature;

/// What a server shows, and signs with.
#[derive(Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    algorithm: SignatureAlgorithm,
    end_point: Option<Box<[u8]>>,
    names: Vec<String>,
    /// Seconds since 1970.
    valid: (i64, i64),
}

/// What is wrong with a certificate or a key.
#[derive(Debug)]
pub enum Fault {
    /// In the file of the certificate there is none.
    NoCertificate,
    Certificate(String),
    /// In the file of the key there is none that is not encrypted.
    NoKey,
    Key(String),
    /// The key is another certificate's.
    Mismatch,
    /// In the file of what was revoked there is no list.
    NoRevoked,
    Revoked(String),
}

impl Fault {
    /// It is about the file of the key.
    pub fn is_about_key(&self) -> bool {
        matches!(self, Fault::NoKey | Fault::Key(_) | Fault::Mismatch)
    }

    /// It is about the file of what was revoked.
    pub fn is_about_revoked(&self) -> bool {
        matches!(self, Fault::NoRevoked | Fault::Revoked(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoCertificate => out.write_str("no certificate in PEM form is in it"),
            Fault::Certificate(why) => write!(out, "this is no sound certificate: {why}"),
            Fault::NoKey => {
                out.write_str("no private key in PEM form, without a password, is in it")
            }
            Fault::Key(why) => write!(out, "this private key cannot be used: {why}"),
            Fault::Mismatch => out.write_str("the key does not belong to the certificate"),
            Fault::NoRevoked => {
                out.write_str("no list of revoked certificates in PEM form is in it")
            }
            Fault::Revoked(why) => {
                write!(out, "this is no sound list of revoked certificates: {why}")
            }
        }
    }
}

impl Identity {
    /// Of the texts of two PEM files: the chain, the server's own certificate first, and its key
    /// (PKCS #8, PKCS #1 or SEC 1).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Identity, Fault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| Fault::Certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(Fault::NoCertificate);
        }
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(key) => key,
            Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(Fault::NoKey),
            Err(error) => return Err(Fault::Key(error.to_string())),
        };
        Identity::new(chain, &key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Identity, Fault> {
        let first = chain.first().ok_or(Fault::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| Fault::Certificate(error.to_string()))?;
        let end_point = end_point(&parsed, first);
        let names = names(&parsed);
        let validity = parsed.validity();
        let valid = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let key = any_supported_type(key).map_err(|error| Fault::Key(error.to_string()))?;
        let algorithm = key.algorithm();
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(Fault::Mismatch),
            Err(error) => return Err(Fault::Certificate(error.to_string())),
        }
        Ok(Identity { certified: Arc::new(certified), algorithm, end_point, names, valid })
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    pub(super) fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// The kind of its key.
    pub fn kind(&self) -> &'static str {
        match self.algorithm {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        }
    }

    /// A signature of it takes as long as a hundred of another kind.
    pub(super) fn is_slow(&self) -> bool {
        self.algorithm == SignatureAlgorithm::RSA
    }

    /// The domains that it is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when until when it holds, in seconds since 1970.
    pub fn valid(&self) -> (i64, i64) {
        self.valid
    }

    /// Whether it is for this domain (RFC 6125 §6.4.3).
    pub fn is_for(&self, domain: &str) -> bool {
        let parent = domain.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent.is_some_and(|parent| parent.eq_ignore_ascii_case(suffix)),
            None => name.eq_ignore_ascii_case(domain),
        })
    }
}

pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// RFC 5929 §4.1: by the hash of the certificate's own signature, but none weaker than SHA-256.
/// `None` where that signature has no hash of its own.
pub(super) fn end_point(certificate: &X509Certificate<'_>, der: &[u8]) -> Option<Box<[u8]>> {
    let identifier = &certificate.signature_algorithm;
    let of_oid = |oid: &str| match oid {
        // sha384WithRSAEncryption, ecdsa-with-SHA384, id-sha384.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            &digest::SHA384
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            &digest::SHA512
        }
        _ => &digest::SHA256,
    };
    let hash = match Signature::try_from(identifier) {
        Ok(Signature::ED25519) => return None,
        Ok(Signature::RSASSA_PSS(params)) => of_oid(&params.hash_algorithm_oid().to_id_string()),
        _ => of_oid(&identifier.algorithm.to_id_string()),
    };
    Some(digest::digest(hash, der).as_ref().into())
}
