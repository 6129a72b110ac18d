//! Certificates that servers show to us, and whether they prove what is demanded.
//!
//! During a handshake it is only seen to that the server holds the key of what it shows. What that is
//! worth is looked at behind it: a session that goes on with an earlier one brings its certificate
//! along, which may be over by now, or be asked for by other records. So one handshake does for all
//! demands, and one that nobody insists on never costs the encryption.

use super::dane::{Association, Shown, Usage, any_for, strongest};
use super::demand::Proof;
use super::identity::{end_point, names};
use crate::model::limits::{
    TLS_SERVER_CHAIN_MAX, TLS_SERVER_CHAIN_OCTETS_MAX, TLS_SUBJECT_CHARS_MAX,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, Der, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

/// How a server has proven who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proven {
    /// By an authority, for a name.
    Authority,
    /// By a record for its own certificate.
    DaneEndEntity,
    /// By a record for one who signed it, for a name.
    DaneAnchor,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is over, or has not begun.
    Expired,
    /// It is for others.
    WrongName,
    /// It is signed by nobody whom we know.
    UnknownIssuer,
    /// No TLSA record is for it, or for one who signed it.
    NoRecord,
    Other(Box<str>),
}

/// What is known of a server by its certificate, which is not kept here.
#[derive(Clone, Debug)]
pub struct Server {
    subject: Box<str>,
    end_point: Option<Box<[u8]>>,
    verdict: Option<Result<Proven, Distrust>>,
}

impl fmt::Display for Distrust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distrust::Expired => out.write_str("the certificate is not good at this time"),
            Distrust::WrongName => out.write_str("the certificate is for other names"),
            Distrust::UnknownIssuer => {
                out.write_str("the certificate is signed by nobody who is trusted")
            }
            Distrust::NoRecord => out.write_str("no TLSA record is for the certificate"),
            Distrust::Other(why) => out.write_str(why),
        }
    }
}

impl From<Error> for Distrust {
    fn from(error: Error) -> Distrust {
        use CertificateError as Why;
        match error {
            Error::InvalidCertificate(
                Why::Expired
                | Why::ExpiredContext { .. }
                | Why::NotValidYet
                | Why::NotValidYetContext { .. },
            ) => Distrust::Expired,
            Error::InvalidCertificate(
                Why::NotValidForName | Why::NotValidForNameContext { .. },
            ) => Distrust::WrongName,
            // Nor by somebody who has only the same name.
            Error::InvalidCertificate(Why::UnknownIssuer | Why::BadSignature) => {
                Distrust::UnknownIssuer
            }
            other => Distrust::Other(other.to_string().into()),
        }
    }
}

impl Server {
    /// Whom its certificate is for, for the log; of a long one the front.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether it has proven who it is; `None` where nothing was asked.
    pub fn verdict(&self) -> Option<&Result<Proven, Distrust>> {
        self.verdict.as_ref()
    }

    pub(super) fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// Looks at what a server has shown, and proven to hold the key of.
    pub(super) fn judge(
        proof: &Proof,
        roots: &RootCertStore,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Server {
        let first = chain.first();
        let parsed =
            first.and_then(|first| Some((first, X509Certificate::from_der(first).ok()?.1)));
        let subject = parsed.as_ref().map(|(_, parsed)| parsed.subject().to_string());
        let subject = subject.unwrap_or_default().chars().take(TLS_SUBJECT_CHARS_MAX).collect();
        let end_point = parsed.as_ref().and_then(|(first, parsed)| end_point(parsed, first));
        let verdict = match proof {
            Proof::Any => None,
            Proof::Authority { names } => Some(by_authority(roots, chain, names, now)),
            Proof::Dane { associations, names } => Some(by_dane(associations, chain, names, now)),
        };
        Server { subject, end_point, verdict }
    }
}

fn by_authority(
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    names: &[Box<str>],
    now: UnixTime,
) -> Result<Proven, Distrust> {
    let (first, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let certificate = ParsedCertificate::try_from(first)?;
    signed(&certificate, roots, between, now)?;
    if is_for_any(&certificate, names) { Ok(Proven::Authority) } else { Err(Distrust::WrongName) }
}

/// RFC 7672 §3.1: a record for the server's own certificate needs nothing else, neither a name nor a
/// date. One for somebody who signs needs both.
fn by_dane(
    associations: &[Association],
    chain: &[CertificateDer<'_>],
    wanted: &[Box<str>],
    now: UnixTime,
) -> Result<Proven, Distrust> {
    let (first, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let is_recorded = |usage, certificate: &CertificateDer<'_>| {
        let parsed = X509Certificate::from_der(certificate).ok();
        let key = parsed.as_ref().map(|(_, parsed)| parsed.public_key().raw);
        any_for(associations, usage, &Shown { certificate, key })
    };
    if is_recorded(Usage::EndEntity, first) {
        return Ok(Proven::DaneEndEntity);
    }
    let in_chain = between.iter().filter(|one| is_recorded(Usage::Anchor, one)).cloned();
    let in_records = strongest(associations)
        .filter_map(Association::anchor_certificate)
        .map(CertificateDer::from);
    let mut verdict = Err(Distrust::NoRecord);
    for anchor in in_chain.chain(in_records) {
        match by_anchor(&anchor, first, between, now) {
            Ok(()) => return named(first, wanted),
            Err(why) => verdict = Err(why),
        }
    }
    // A key has no name: it may be that of whoever is said to have signed.
    for key in strongest(associations).filter_map(Association::anchor_key) {
        let roots = RootCertStore { roots: nameless(key, chain) };
        match ParsedCertificate::try_from(first)
            .map_err(Distrust::from)
            .and_then(|certificate| signed(&certificate, &roots, between, now))
        {
            Ok(()) => return named(first, wanted),
            // Of a key that nobody claims to be signed by nothing is known.
            Err(Distrust::UnknownIssuer) => {}
            Err(why) => verdict = Err(why),
        }
    }
    verdict
}

/// Whether `anchor` has signed it, as far as what the anchor says of itself allows (RFC 7671 §5.2.1).
fn by_anchor(
    anchor: &CertificateDer<'_>,
    first: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Distrust> {
    let unsound = |what: &str| Distrust::Other(format!("the trust anchor: {what}").into());
    let (_, parsed) =
        X509Certificate::from_der(anchor).map_err(|error| unsound(&error.to_string()))?;
    let constraints = parsed.basic_constraints().map_err(|error| unsound(&error.to_string()))?;
    let depth = match constraints.map(|constraints| constraints.value) {
        Some(of) if !of.ca => return Err(unsound("it may sign no certificates")),
        Some(of) => of.path_len_constraint.and_then(|depth| usize::try_from(depth).ok()),
        None => None,
    };
    // More certificates than may lie between are not even looked at.
    let between: Vec<_> = between.iter().filter(|one| *one != anchor).cloned().collect();
    let between = between.get(..depth.unwrap_or(usize::MAX)).unwrap_or(&between);
    let mut roots = RootCertStore::empty();
    roots.add(anchor.clone().into_owned())?;
    signed(&ParsedCertificate::try_from(first)?, &roots, between, now)
}

/// This key by each name that is said to have signed one of these.
fn nameless(key: &[u8], chain: &[CertificateDer<'_>]) -> Vec<TrustAnchor<'static>> {
    // Of both it is the content that counts, without the head of the sequence.
    let content = |der: &[u8]| Any::from_der(der).ok().map(|(_, any)| Der::from(any.data.to_vec()));
    let Some(key) = content(key) else { return Vec::new() };
    let anchor = |certificate: &CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = content(parsed.issuer().as_raw())?;
        let subject_public_key_info = key.clone();
        Some(TrustAnchor { subject, subject_public_key_info, name_constraints: None })
    };
    chain.iter().filter_map(anchor).collect()
}

fn signed(
    certificate: &ParsedCertificate<'_>,
    roots: &RootCertStore,
    between: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Distrust> {
    if between.len() >= TLS_SERVER_CHAIN_MAX {
        let why = format!("more than {TLS_SERVER_CHAIN_MAX} certificates");
        return Err(Distrust::Other(why.into()));
    }
    let algorithms = algorithms().all;
    let checked =
        verify_server_cert_signed_by_trust_anchor(certificate, roots, between, now, algorithms);
    Ok(checked?)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

fn is_for_any(certificate: &ParsedCertificate<'_>, wanted: &[Box<str>]) -> bool {
    let mut names = wanted.iter().filter_map(|name| ServerName::try_from(&**name).ok());
    names.any(|name| verify_server_name(certificate, &name).is_ok())
}

/// RFC 7672 §3.2.3: the common name counts where there is no other.
fn named(first: &CertificateDer<'_>, wanted: &[Box<str>]) -> Result<Proven, Distrust> {
    if is_for_any(&ParsedCertificate::try_from(first)?, wanted) {
        return Ok(Proven::DaneAnchor);
    }
    let common_is_wanted = X509Certificate::from_der(first).is_ok_and(|(_, parsed)| {
        let mut common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names(&parsed).is_empty()
            && common.any(|name| wanted.iter().any(|wanted| is_same(name, wanted)))
    });
    if common_is_wanted { Ok(Proven::DaneAnchor) } else { Err(Distrust::WrongName) }
}

/// Whether a name, or a wildcard for one label, is that of a domain.
fn is_same(presented: &str, domain: &str) -> bool {
    match presented.strip_prefix("*.") {
        Some(suffix) => domain
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix)),
        None => presented.eq_ignore_ascii_case(domain),
    }
}

/// What rustls asks during a handshake: whether the server holds the key of what it shows, whoever it is.
#[derive(Debug)]
pub struct Holder(WebPkiSupportedAlgorithms);

impl Holder {
    /// Shared, as rustls takes it.
    pub fn new() -> Arc<Holder> {
        Arc::new(Holder(algorithms()))
    }

    /// As the function of rustls does it, but for the certificate, of which only the key matters: webpki
    /// would not read old ones and odd ones at all, and they are good enough to encrypt with.
    fn verify_1_2(
        &self,
        message: &[u8],
        info: &SubjectPublicKeyInfo<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<(), Error> {
        let unsound = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, content) = Any::from_der(info.raw).map_err(unsound)?;
        let (_, algorithm) = Any::from_der(content.data).map_err(unsound)?;
        let candidates = self.0.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let mut candidates = candidates.into_iter().flat_map(|(_, candidates)| *candidates);
        let candidate = candidates
            .find(|candidate| candidate.public_key_alg_id().as_ref() == algorithm.data)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        candidate
            .verify_signature(&info.subject_public_key.data, message, signed.signature())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate);
    parsed
        .map(|(_, parsed)| parsed)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

impl ServerCertVerifier for Holder {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // TLS holds them for as long as the connection lasts.
        let octets: usize = between.iter().map(|one| one.len()).sum();
        if first.len() + octets > TLS_SERVER_CHAIN_OCTETS_MAX {
            let why = format!("more than {TLS_SERVER_CHAIN_OCTETS_MAX} octets of certificates");
            return Err(Error::General(why));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        self.verify_1_2(message, parsed.public_key(), signed)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
