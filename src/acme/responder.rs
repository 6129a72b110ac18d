//! Shows the authority that the domains are ours, at the port where it looks.
//!
//! HTTP-01 (RFC 8555 §8.3): `GET /.well-known/acme-challenge/TOKEN` on port 80 gives the proof as text.
//! TLS-ALPN-01 (RFC 8737): whoever offers the protocol `acme-tls/1` on port 443 is shown a certificate
//! with the hash of the proof in it, and nothing is said. Everything else is refused: this is no web
//! server. A client has [`PATIENCE`]; [`CLIENTS_MAX`] are served at once on a port, and
//! [`CLIENTS_PER_SITE_MAX`] of one address. For one more the oldest makes way of the address that has
//! most: the authority asks at once, from a few addresses, so that who is slow or silent, or comes again
//! and again, does not keep it waiting.

use crate::model::site::site;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{self, IpAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for all of it.
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS_MAX: usize = 64;
/// Of them, those of one address (IPv6: one /64).
const CLIENTS_PER_SITE_MAX: usize = 4;
/// Octets of a request's head.
const HEAD_OCTETS_MAX: usize = 8 << 10;
/// The pause after an accept that failed.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

const HTTP_PATH: &str = "/.well-known/acme-challenge/";
const ALPN: &[u8] = b"acme-tls/1";

/// How the authority is shown that a domain is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    Http01,
    TlsAlpn01,
}

/// The proofs that are shown at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<RwLock<Proofs>>);

#[derive(Debug, Default)]
struct Proofs {
    /// By token.
    texts: BTreeMap<String, String>,
    /// By domain.
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut Proofs)) {
        // Nothing panics while it holds the lock.
        if let Ok(mut proofs) = self.0.write() {
            change(&mut proofs);
        }
    }

    pub(super) fn show_text(&self, token: &str, proof: &str) {
        self.change(|proofs| drop(proofs.texts.insert(token.into(), proof.into())));
    }

    /// `digest` is the SHA-256 of the proof (RFC 8737 §3).
    pub(super) fn show_certificate(&self, domain: &str, digest: &[u8]) -> Result<(), String> {
        let certified = Arc::new(certificate(domain, digest)?);
        self.change(|proofs| drop(proofs.certificates.insert(domain.into(), certified)));
        Ok(())
    }

    pub(super) fn clear(&self) {
        self.change(|proofs| *proofs = Proofs::default());
    }

    fn text(&self, token: &str) -> Option<String> {
        self.0.read().ok()?.texts.get(token).cloned()
    }
}

fn certificate(domain: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&pair).map_err(failed)?;
    let key = PrivateKeyDer::try_from(pair.serialize_der())?;
    let key = any_ecdsa_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

impl ResolvesServerCert for Board {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: only this protocol is answered, and only for a domain that is being proved.
        let mut offered = hello.alpn()?;
        if !offered.any(|protocol| protocol == ALPN) {
            return None;
        }
        let domain = hello.server_name()?.to_ascii_lowercase();
        self.0.read().ok()?.certificates.get(&domain).cloned()
    }
}

/// Those who are served on a port, and where they come from; the oldest first.
#[derive(Default)]
struct Served(VecDeque<(IpAddr, AbortHandle)>);

impl Served {
    /// Sees to it that there is room for one more of this address.
    fn make_way(&mut self, site: IpAddr) {
        self.0.retain(|(_, one)| !one.is_finished());
        let of = |site: IpAddr| self.0.iter().filter(|(other, _)| *other == site).count();
        let first = |fits: &dyn Fn(IpAddr) -> bool| self.0.iter().position(|(one, _)| fits(*one));
        let leaves = if of(site) >= CLIENTS_PER_SITE_MAX {
            first(&|one| one == site)
        } else if self.0.len() >= CLIENTS_MAX {
            let most = self.0.iter().map(|(one, _)| of(*one)).max();
            first(&|one| Some(of(one)) == most)
        } else {
            None
        };
        if let Some((_, one)) = leaves.and_then(|at| self.0.remove(at)) {
            one.abort();
        }
    }
}

/// Answers on `ports` for as long as the runtime lives.
pub(super) fn serve(
    challenge: Challenge,
    ports: Vec<net::TcpListener>,
    board: &Board,
) -> io::Result<()> {
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(board.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for port in ports {
        port.set_nonblocking(true)?;
        let listener = TcpListener::from_std(port)?;
        let (board, acceptor) = (board.clone(), acceptor.clone());
        tokio::spawn(async move {
            let mut served = Served::default();
            loop {
                let Ok((stream, peer)) = listener.accept().await else {
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                    continue;
                };
                let site = site(peer.ip());
                served.make_way(site);
                let (board, acceptor) = (board.clone(), acceptor.clone());
                let task = tokio::spawn(async move {
                    let answer = async {
                        match challenge {
                            Challenge::Http01 => answer_http(stream, &board).await,
                            // The handshake is all that is asked for (RFC 8737 §3).
                            Challenge::TlsAlpn01 => acceptor.accept(stream).await?.shutdown().await,
                        }
                    };
                    // Whoever breaks off has no answer.
                    drop(timeout(PATIENCE, answer).await);
                });
                served.0.push_back((site, task.abort_handle()));
            }
        });
    }
    Ok(())
}

async fn answer_http(mut stream: TcpStream, board: &Board) -> io::Result<()> {
    let mut head = Vec::new();
    let path = loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let is_read = matches!(request.method, Some("GET" | "HEAD"));
                break request.path.filter(|_| is_read).map(str::to_owned);
            }
            Ok(httparse::Status::Partial) if head.len() < HEAD_OCTETS_MAX => {}
            _ => break None,
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let proof = path.as_deref().and_then(|path| path.strip_prefix(HTTP_PATH));
    let (status, text) = match proof.and_then(|token| board.text(token)) {
        Some(proof) => ("200 OK", proof),
        None => ("404 Not Found", String::new()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    /// A client of this address of ours.
    async fn connect(host: u8, to: net::SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(net::SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
        socket.connect(to).await.unwrap()
    }

    async fn ask(mut authority: TcpStream) {
        let request = format!("GET {HTTP_PATH}token HTTP/1.1\r\nHost: a.example\r\n\r\n");
        authority.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        authority.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nproof"), "{answer}");
    }

    /// Which of them are still served.
    fn left(clients: &[TcpStream]) -> Vec<bool> {
        let is_served = |one: &TcpStream| {
            one.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        clients.iter().map(is_served).collect()
    }

    fn within(test: impl AsyncFnOnce(net::SocketAddr)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let port = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap();
            let board = Board::default();
            board.show_text("token", "proof");
            serve(Challenge::Http01, vec![port], &board).unwrap();
            test(address).await;
        });
    }

    /// As many as are served say nothing, and stay: the authority is answered, for the oldest of those of
    /// whom there are most.
    #[test]
    fn the_oldest_of_the_most_makes_way_for_who_asks() {
        within(async |address| {
            let mut silent = Vec::new();
            for client in 0..CLIENTS_MAX {
                // Two of one address, then four of each of the others.
                let host = u8::try_from((client + 2) / 4).unwrap() + 2;
                silent.push(connect(host, address).await);
            }
            ask(connect(100, address).await).await;
            assert_eq!(silent[2].read(&mut [0]).await.unwrap(), 0, "it is hung up on");
            let left = left(&silent);
            assert!((0..CLIENTS_MAX).all(|client| left[client] == (client != 2)), "{left:?}");
        });
    }

    /// One address alone, however often it comes, keeps nobody else from being served.
    #[test]
    fn a_flood_of_one_address_is_its_own_trouble() {
        within(async |address| {
            let authority = connect(100, address).await;
            let mut silent = Vec::new();
            for _ in 0..2 * CLIENTS_MAX {
                silent.push(connect(2, address).await);
            }
            ask(authority).await;
            ask(connect(101, address).await).await;
            let last = silent.len() - CLIENTS_PER_SITE_MAX;
            for gone in &mut silent[..last] {
                assert_eq!(gone.read(&mut [0]).await.unwrap(), 0, "it is hung up on");
            }
            assert_eq!(left(&silent[last..]), [true; CLIENTS_PER_SITE_MAX]);
        });
    }
}
