//! Certificates that clients show: who may sign them, whether one is good, and what names are in it.
//!
//! A handshake only sees to it that the client holds the key of what it shows. Whether the certificate
//! is one of ours is looked at behind every handshake, also behind one that goes on with an earlier
//! session: its ticket brings the certificate along, which may be over or revoked by now.
//!
//! ```text
//!   Authorities ── who signs, what was revoked        Asking ── whether a client is asked at all
//!   Client ─────── what was shown, and whether it holds
//! ```

use super::identity::Fault;
use crate::model::limits::{
    TLS_CLIENT_CHAIN_MAX, TLS_CLIENT_CHAIN_OCTETS_MAX, TLS_SUBJECT_CHARS_MAX,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Whether a client is asked for its certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    #[default]
    No,
    /// One that is not good is as good as none.
    Optional,
    /// No handshake without a good one.
    Required,
}

/// Where in a certificate the name of its owner stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameField {
    /// The rfc822Names of subjectAltName (RFC 5280 §4.2.1.6).
    #[default]
    SanEmail,
    /// The common name of the subject.
    SubjectCn,
    /// emailAddress in the subject, as before there was a place for it (RFC 5280 §4.1.2.6).
    SubjectEmail,
}

/// Those who sign for clients.
#[derive(Clone, Debug)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The earliest end of one of their certificates, in seconds since 1970.
    until: i64,
}

impl Authorities {
    /// Of the texts of PEM files: certificates of authorities, and their lists of what they revoked.
    /// Where an authority has no list, nothing of it was revoked.
    pub fn from_pem(authorities: &[u8], revoked: Option<&[u8]>) -> Result<Authorities, Fault> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
        let all = all.map_err(|error| Fault::Certificate(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        let mut until = i64::MAX;
        for der in all {
            let (_, parsed) = X509Certificate::from_der(&der)
                .map_err(|error| Fault::Certificate(error.to_string()))?;
            until = until.min(parsed.validity().not_after.timestamp());
            roots.add(der).map_err(|error| Fault::Certificate(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(Fault::NoCertificate);
        }
        let lists =
            revoked.map(|text| CertificateRevocationListDer::pem_slice_iter(text).collect());
        let lists: Vec<_> = lists
            .transpose()
            .map_err(|error: rustls::pki_types::pem::Error| Fault::Revoked(error.to_string()))?
            .unwrap_or_default();
        if revoked.is_some() && lists.is_empty() {
            return Err(Fault::NoRevoked);
        }
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists)
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| Fault::Revoked(error.to_string()))?;
        Ok(Authorities { verifier, until })
    }

    /// When the first of their certificates is over, in seconds since 1970.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// What rustls asks during a handshake.
    pub(super) fn verifier(&self, required: bool) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier { of: Arc::clone(&self.verifier), required })
    }

    /// Looks at what a client has shown and proven to hold the key of.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Client> {
        let (first, between) = chain.split_first()?;
        let verdict = check(&*self.verifier, first, between, now).map(drop);
        let (subject, names) = match X509Certificate::from_der(first) {
            Ok((_, parsed)) => {
                let subject: String = parsed.subject().to_string();
                let subject = subject.chars().take(TLS_SUBJECT_CHARS_MAX).collect();
                // None of one that does not hold.
                (subject, if verdict.is_ok() { names(&parsed) } else { Box::default() })
            }
            Err(_) => Default::default(),
        };
        Some(Client { subject, names, verdict })
    }
}

/// What is known of a client by its certificate, which is not kept.
#[derive(Clone, Debug)]
pub struct Client {
    subject: Box<str>,
    names: Box<[(NameField, Box<str>)]>,
    verdict: Result<(), Error>,
}

impl Client {
    /// Why it counts for nothing.
    pub fn fault(&self) -> Option<&Error> {
        self.verdict.as_ref().err()
    }

    /// Whom it is for, for the log; of a long one the front.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The names of its owner, in the order in which they stand there; none of one that does not hold.
    pub fn names(&self, field: NameField) -> impl Iterator<Item = &str> {
        self.names.iter().filter(move |(of, _)| *of == field).map(|(_, name)| &**name)
    }
}

fn names(certificate: &X509Certificate<'_>) -> Box<[(NameField, Box<str>)]> {
    let subject = certificate.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().ok().map(Box::from)
    };
    let common = subject.iter_common_name().filter_map(text);
    let email = subject.iter_email().filter_map(text);
    let mut names: Vec<_> = common.map(|name| (NameField::SubjectCn, name)).collect();
    names.extend(email.map(|name| (NameField::SubjectEmail, name)));
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        names.extend(extension.value.general_names.iter().filter_map(|name| match name {
            GeneralName::RFC822Name(name) => Some((NameField::SanEmail, Box::from(*name))),
            _ => None,
        }));
    }
    names.into()
}

/// What rustls asks, and what is asked again behind the handshake.
#[derive(Debug)]
struct Verifier {
    /// Those who sign.
    of: Arc<dyn ClientCertVerifier>,
    /// Else any certificate is taken whose key the client holds; what it is worth is said later.
    required: bool,
}

/// The one check. Each certificate that is tried as signer of another costs a shard up to a
/// millisecond, and a client may show the same name many times: four of them are tried in fifteen ways at
/// most.
fn check(
    authorities: &dyn ClientCertVerifier,
    first: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<ClientCertVerified, Error> {
    if between.len() >= TLS_CLIENT_CHAIN_MAX {
        let why = format!("more than {TLS_CLIENT_CHAIN_MAX} certificates");
        return Err(Error::General(why));
    }
    authorities.verify_client_cert(first, between, now)
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.of.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Also where any will do: a stranger would have all of them kept, connection by connection.
        let octets: usize = between.iter().map(|one| one.len()).sum();
        if first.len() + octets > TLS_CLIENT_CHAIN_OCTETS_MAX {
            let why = format!("more than {TLS_CLIENT_CHAIN_OCTETS_MAX} octets of certificates");
            return Err(Error::General(why));
        }
        if self.required {
            check(&*self.of, first, between, now)
        } else {
            Ok(ClientCertVerified::assertion())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.of.supported_verify_schemes()
    }
}
