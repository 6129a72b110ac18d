//! TLS as a client, where it is asked for: from the first octet on, or after STARTTLS.
//!
//! Chosen once for all connections of a run. Certificates are not checked: what is measured is
//! the server, not who it is.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::{Protocol, TlsOptions};

/// Octets of what a server says before a handshake.
const CLEAR_OCTETS_MAX: usize = 16 << 10;

/// How connections are encrypted.
struct Encryption {
    connector: TlsConnector,
    /// Asked for in this protocol; none: from the first octet on.
    starttls: Option<Protocol>,
    name: ServerName<'static>,
}

static ENCRYPTION: OnceLock<Encryption> = OnceLock::new();

/// All connections that are made from now on are as `options` say.
pub(crate) fn choose(options: &TlsOptions) -> std::result::Result<(), String> {
    if !options.tls && options.starttls.is_none() {
        return Ok(());
    }
    let name = ServerName::try_from(options.tls_name.clone())
        .map_err(|error| format!("--tls-name: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let version = if options.tls_1_2 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    if !options.tls_resume.is_on() {
        config.resumption = Resumption::disabled();
    }
    let connector = TlsConnector::from(Arc::new(config));
    let encryption = Encryption { connector, starttls: options.starttls, name };
    ENCRYPTION.set(encryption).map_err(|_| "chosen twice".to_owned())
}

/// Takes every certificate, and checks what is signed with it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection in clear, or encrypted.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Encrypts a new connection if that was chosen. Returns it with the greeting that was heard in
/// clear: a session is to hear it once more.
pub(crate) async fn encrypt(mut stream: TcpStream) -> Result<(Stream, Vec<u8>)> {
    let Some(encryption) = ENCRYPTION.get() else { return Ok((Stream::Plain(stream), Vec::new())) };
    let greeting = match encryption.starttls {
        None => Vec::new(),
        Some(protocol) => ask(&mut stream, protocol).await?,
    };
    let connecting = encryption.connector.connect(encryption.name.clone(), stream);
    Ok((Stream::Tls(Box::new(connecting.await?)), greeting))
}

/// Whether an answer is whole.
type Ends = fn(&[u8]) -> bool;

/// Asks for TLS; returns the greeting.
async fn ask(stream: &mut TcpStream, protocol: Protocol) -> Result<Vec<u8>> {
    let (ends, asking): (Ends, &[&str]) = match protocol {
        Protocol::Smtp => (is_reply, &["EHLO loadgen.example.test\r\n", "STARTTLS\r\n"]),
        Protocol::Pop3 => (is_line, &["STLS\r\n"]),
        Protocol::Imap => (is_line, &["s STARTTLS\r\n"]),
    };
    let greeting = hear(stream, ends).await?;
    let mut answer = Vec::new();
    for command in asking {
        stream.write_all(command.as_bytes()).await?;
        answer = hear(stream, ends).await?;
    }
    let is_good = [&b"220 "[..], b"+OK", b"s OK"].iter().any(|good| answer.starts_with(good));
    if is_good { Ok(greeting) } else { Err(Error::other("TLS is refused")) }
}

async fn hear(stream: &mut TcpStream, ends: Ends) -> Result<Vec<u8>> {
    let mut heard = Vec::new();
    while !ends(&heard) {
        if heard.len() > CLEAR_OCTETS_MAX || stream.read_buf(&mut heard).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(heard)
}

fn is_line(heard: &[u8]) -> bool {
    heard.ends_with(b"\r\n")
}

/// The last line of a reply has a space behind its code.
fn is_reply(heard: &[u8]) -> bool {
    let Some(lines) = heard.strip_suffix(b"\r\n") else { return false };
    let last = lines.rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
    last.get(3).is_none_or(|octet| *octet == b' ')
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
