//! TLS of a sink: a certificate from files, or a self-signed one that is made at the start.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// With the certificate of these files.
pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let named =
        |path: &Path, error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| named(certificate, error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
    acceptor(chain, secret)
}

/// With a certificate that nobody knows.
pub(crate) fn self_signed(name: &str) -> Result<TlsAcceptor, String> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])
        .map_err(|error| format!("self-signed certificate: {error}"))?;
    let secret = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| format!("self-signed certificate: {error}"))?;
    acceptor(vec![made.cert.der().clone()], secret)
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, String> {
    let failed = |error: rustls::Error| format!("certificate: {error}");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(failed)?;
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
