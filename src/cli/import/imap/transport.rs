//! The way to another server: its address, and a connection to it, in clear or encrypted.
//!
//! ```text
//!   imaps://[LOGIN@]HOST[:993]   TLS from the first octet on
//!   imap://[LOGIN@]HOST[:143]    STARTTLS; in clear where that is asked for, or on this machine
//!   pop3s://…:995  pop3://…:110  the same
//! ```
//!
//! Certificates are held against the authorities of the system, or those of a file, unless the operator
//! says that any will do.

use super::super::super::Failure;
use crate::tls::Holder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a connection to one address.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a server may say nothing. Some look through all of a mailbox before they answer.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// Where a server is, and who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether TLS comes before anything else.
    pub(super) is_tls: bool,
    pub(super) login: Option<String>,
}

impl Place {
    /// Reads a URL of a protocol, which stands for it with `s` behind it if it begins with TLS.
    pub(super) fn read(text: &str, protocol: &str, ports: [u16; 2]) -> Result<Place, Failure> {
        let wrong = |why: &str| {
            Failure::Wrong(format!("{text}: {why}: such as {protocol}s://ann@mail.example.org"))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no address"))?;
        let is_tls = match scheme.strip_prefix(protocol) {
            Some("s") => true,
            Some("") => false,
            _ => return Err(wrong("another protocol")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, server) = match rest.rsplit_once('@') {
            Some((login, server)) => {
                (Some(unquote(login).ok_or_else(|| wrong("a login"))?), server)
            }
            None => (None, rest),
        };
        let (host, port) = match server.rsplit_once(':') {
            // An address of IPv6 stands in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("no such port"))?)
            }
            _ => (server, ports[usize::from(is_tls)]),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = !host.is_empty() && host.chars().all(|letter| letter.is_ascii_graphic());
        if !is_host || host.contains(['/', '@', '[', ']']) {
            return Err(wrong("no host"));
        }
        let login = login.filter(|login| !login.is_empty());
        Ok(Place { host: host.into(), port, is_tls, login })
    }
}

/// Text in which `%` and two hexadecimal digits stand for an octet (RFC 3986 §2.1).
fn unquote(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            octets.push(first);
            continue;
        }
        let (digits, behind) = behind.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(octets).ok()
}

/// Who is trusted to say which server it is.
#[derive(Clone, Debug)]
pub(super) enum Trust<'a> {
    System,
    /// The authorities in this file.
    File(&'a Path),
    /// Whoever it is.
    Anyone,
}

impl Trust<'_> {
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let failed = |why: String| Failure::Failed(why);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?;
        let roots = match self {
            Trust::Anyone => {
                let config = builder.dangerous().with_custom_certificate_verifier(Holder::new());
                return Ok(Arc::new(config.with_no_client_auth()));
            }
            Trust::System => {
                let mut roots = RootCertStore::empty();
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                roots
            }
            Trust::File(path) => {
                let unusable = |why: String| failed(format!("{}: {why}", path.display()));
                let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(&text) {
                    let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                    roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(unusable("there is no certificate in it".into()));
                }
                roots
            }
        };
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// A connection.
pub(super) enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects to the first address of a host that answers.
    pub(super) fn connect(place: &Place) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (place.host.as_str(), place.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(SILENCE_MAX))?;
                    stream.set_write_timeout(Some(SILENCE_MAX))?;
                    stream.set_nodelay(true)?;
                    return Ok(Stream::Clear(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same connection, encrypted, once the server has shown who it is.
    pub(super) fn encrypt(self, host: &str, config: &Arc<ClientConfig>) -> io::Result<Stream> {
        let Stream::Clear(mut stream) = self else { return Ok(self) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut session =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    /// Whether nobody on the way can read along.
    pub(super) fn is_private(&self) -> bool {
        match self {
            Stream::Tls(_) => true,
            Stream::Clear(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

/// Whether trying once more cannot help: the server is not the one that it should be.
pub(super) fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidCertificate(_)))
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
        .map_err(patient)
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.write(octets),
            Stream::Tls(stream) => stream.write(octets),
        }
        .map_err(patient)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
        .map_err(patient)
    }
}

/// A wait that was too long is called "would block" by the system.
fn patient(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "the server says nothing any more")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = match Place::read(text, "imap", [143, 993]) {
            Ok(Place { host, port, is_tls, login }) => format!("{host} {port} {is_tls} {login:?}"),
            Err(failure) => failure.text().split(": such").next().unwrap().to_owned(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn reads_where_a_server_is_and_who_logs_in() {
        check("imaps://mail.example.org", "mail.example.org 993 true None");
        check("imap://ann@mail.example.org/", "mail.example.org 143 false Some(\"ann\")");
        check("imap://ann@b.example*master@h:1143", "h 1143 false Some(\"ann@b.example*master\")");
        check("imaps://a%40b%2F%25@[::1]:99", "::1 99 true Some(\"a@b/%\")");
        check("imaps://[::1]", "::1 993 true None");
        check("imaps://@h", "h 993 true None");
        check("mail.example.org", "mail.example.org: no address");
        check("pop3://h", "pop3://h: another protocol");
        check("imap://h:x", "imap://h:x: no such port");
        check("imap://", "imap://: no host");
        check("imap://h/INBOX", "imap://h/INBOX: no host");
        check("imap://%f@h", "imap://%f@h: a login");
    }
}
