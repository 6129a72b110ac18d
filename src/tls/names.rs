//! Which certificate a client is shown: by the name that it asks for, and by what it can check.

use super::identity::Identity;
use super::noted::note_choice;
use crate::bytes::hash::Map;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};
use std::sync::Arc;

/// Certificates that are good for the same; one of each kind of key, those that sign fast first.
type Kinds = Vec<Arc<Identity>>;

/// All certificates of a server.
#[derive(Debug, Default)]
pub struct Names {
    /// For clients that name nobody, or somebody else.
    default: Kinds,
    exact: Map<Box<str>, Kinds>,
    /// By what stands behind `*.`.
    wild: Map<Box<str>, Kinds>,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For<'a> {
    /// Whoever is meant by no other.
    Anybody,
    /// This name, or with `*.` in front every name with one label more.
    Name(&'a str),
}

impl Names {
    /// Adds a certificate; a second one for the same is shown to clients that cannot check the
    /// first.
    pub fn add(&mut self, whom: For<'_>, identity: Identity) {
        let kinds = match whom {
            For::Anybody => &mut self.default,
            For::Name(name) => {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(suffix) => self.wild.entry(suffix.into()).or_default(),
                    None => self.exact.entry(name.into()).or_default(),
                }
            }
        };
        kinds.push(Arc::new(identity));
        kinds.sort_by_key(|identity| identity.is_slow());
    }

    /// No certificate is there at all.
    pub fn is_empty(&self) -> bool {
        self.default.is_empty() && self.exact.is_empty() && self.wild.is_empty()
    }

    /// Every certificate.
    pub fn each(&self) -> impl Iterator<Item = &Arc<Identity>> {
        let named = self.exact.values().chain(self.wild.values());
        self.default.iter().chain(named.flatten())
    }

    fn kinds(&self, name: Option<&str>) -> &Kinds {
        let of = |name: &str| {
            let wild = || self.wild.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wild)
        };
        name.and_then(of).unwrap_or(&self.default)
    }

    /// The certificate for this client.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Option<&Arc<Identity>> {
        // The name comes in lower case, and without a dot at its end.
        let kinds = self.kinds(hello.server_name());
        kinds.iter().find(|identity| can_check(hello, identity)).or_else(|| kinds.first())
    }
}

fn can_check(hello: &ClientHello<'_>, identity: &Identity) -> bool {
    let key = &identity.certified().key;
    if key.choose_scheme(hello.signature_schemes()).is_none() {
        return false;
    }
    // TLS 1.2 has the kind of key in the suite, TLS 1.3 has not.
    hello.cipher_suites().iter().any(|suite| {
        let is_rsa = match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => return true,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => true,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => false,
            _ => return false,
        };
        is_rsa == (identity.algorithm() == SignatureAlgorithm::RSA)
    })
}

/// What rustls asks.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<Names>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.choose(&hello)?;
        note_choice(identity, hello.server_name());
        Some(Arc::clone(identity.certified()))
    }
}
