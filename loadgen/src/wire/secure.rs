//! TLS as a client, where it is asked for: from the first octet on, or after STARTTLS.
//!
//! Chosen once for all connections of a run. Certificates are not checked: what is measured is
//! the server, not who it is.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tickets::Tickets;
use crate::cli::{Protocol, TlsOptions};

/// Octets of what a server says before a handshake.
const CLEAR_OCTETS_MAX: usize = 16 << 10;

/// How connections are encrypted.
pub(crate) struct Encryption {
    connector: TlsConnector,
    /// Asked for in this protocol; none: from the first octet on.
    starttls: Option<Protocol>,
    name: ServerName<'static>,
    full: AtomicU64,
    resumed: AtomicU64,
}

/// How the connections of a run were encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Handshakes {
    pub(crate) full: u64,
    /// Those that went on with the session of an earlier connection.
    pub(crate) resumed: u64,
}

static ENCRYPTION: OnceLock<Encryption> = OnceLock::new();

/// All connections that are made from now on are as `options` say.
pub(crate) fn choose(options: &TlsOptions) -> std::result::Result<(), String> {
    if !options.tls && options.starttls.is_none() {
        return Ok(());
    }
    ENCRYPTION.set(Encryption::new(options)?).map_err(|_| "chosen twice".to_owned())
}

/// The handshakes until now, where connections are encrypted.
pub(crate) fn handshakes() -> Option<Handshakes> {
    ENCRYPTION.get().map(Encryption::handshakes)
}

impl Encryption {
    pub(crate) fn new(options: &TlsOptions) -> std::result::Result<Encryption, String> {
        let name = ServerName::try_from(options.tls_name.clone())
            .map_err(|error| format!("--tls-name: {error}"))?;
        let provider = Arc::new(ring::default_provider());
        let version =
            if options.tls_1_2 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.resumption = if options.tls_resume.is_on() {
            Resumption::store(Arc::new(Tickets::default()))
        } else {
            Resumption::disabled()
        };
        let connector = TlsConnector::from(Arc::new(config));
        let (full, resumed) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Encryption { connector, starttls: options.starttls, name, full, resumed })
    }

    /// Encrypts a connection. Returns it with the greeting that was heard in clear.
    pub(crate) async fn encrypt(&self, mut stream: TcpStream) -> Result<(Stream, Vec<u8>)> {
        let greeting = match self.starttls {
            None => Vec::new(),
            Some(protocol) => ask(&mut stream, protocol).await?,
        };
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let counter = if is_resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok((Stream::Tls(Box::new(stream)), greeting))
    }

    fn handshakes(&self) -> Handshakes {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Handshakes { full: count(&self.full), resumed: count(&self.resumed) }
    }
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
pub(crate) async fn encrypt(stream: TcpStream) -> Result<(Stream, Vec<u8>)> {
    match ENCRYPTION.get() {
        Some(encryption) => encryption.encrypt(stream).await,
        None => Ok((Stream::Plain(stream), Vec::new())),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio::sync::Barrier;
    use tokio_rustls::TlsAcceptor;

    use crate::cli::Switch;

    /// A server that gives two tickets to each connection and says a word.
    async fn serve(listener: TcpListener) {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], secret)
            .unwrap();
        config.ticketer = ring::Ticketer::new().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::task::spawn_local(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                stream.write_all(b"220 here\r\n").await.unwrap();
                stream.read_u8().await.ok();
            });
        }
    }

    /// `sessions` at a time make `rounds` connections each; all of a round begin together.
    fn connect(sessions: usize, rounds: usize, resume: Switch) -> Handshakes {
        let options = TlsOptions {
            tls: true,
            starttls: None,
            tls_resume: resume,
            tls_1_2: false,
            tls_name: "localhost".into(),
        };
        let encryption = Arc::new(Encryption::new(&options).unwrap());
        let local = tokio::task::LocalSet::new();
        let all = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            tokio::task::spawn_local(serve(listener));
            let together = Arc::new(Barrier::new(sessions));
            let each = (0..sessions).map(|_| {
                let (encryption, together) = (Arc::clone(&encryption), Arc::clone(&together));
                tokio::task::spawn_local(async move {
                    for _ in 0..rounds {
                        together.wait().await;
                        let stream = TcpStream::connect(to).await.unwrap();
                        let (mut stream, _) = encryption.encrypt(stream).await.unwrap();
                        assert_eq!(stream.read_u8().await.unwrap(), b'2');
                    }
                })
            });
            for session in each.collect::<Vec<_>>() {
                session.await.unwrap();
            }
        };
        crate::run::runtime().block_on(local.run_until(all));
        encryption.handshakes()
    }

    #[test]
    fn all_connections_after_the_first_ones_resume() {
        assert_eq!(connect(64, 4, Switch::On), Handshakes { full: 64, resumed: 192 });
        assert_eq!(connect(4, 2, Switch::Off), Handshakes { full: 8, resumed: 0 });
    }
}
