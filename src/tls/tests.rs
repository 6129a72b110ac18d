//! Streams on the simulated network: a client of rustls at the other end, records cut everywhere.

use super::*;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::{Chain, Shared};
use crate::bytes::codec::to_usize;
use crate::env::sim::{Faults, Sim, SimEnv};
use crate::env::{Conn, Env, Listener as _};
use crate::model::time::Mono;
use futures_lite::future::zip;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod clients;
mod openssl;
mod servers;

type SimConn = <SimEnv as Env>::Conn;

const HOST: &str = "mx.local.example";

/// A certificate with its key, both PEM; Ed25519, whose signatures are as long each time.
fn pem(name: &str, algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A server's side, and the roots that its clients trust.
struct Server {
    context: Context,
    roots: Arc<RootCertStore>,
    asking: Asking,
    /// Its certificates, by their hosts.
    shown: Vec<(String, (String, String))>,
}

impl Server {
    fn new(hosts: &[&str]) -> Server {
        Server::with(hosts, None)
    }

    /// One that knows who signs for clients.
    fn with(hosts: &[&str], authorities: Option<Authorities>) -> Server {
        let pair = |host: &&str| ((*host).to_owned(), pem(host, &PKCS_ED25519));
        Server::showing(hosts.iter().map(pair).collect(), authorities)
    }

    fn showing(shown: Vec<(String, (String, String))>, authorities: Option<Authorities>) -> Server {
        let mut names = Names::default();
        let mut roots = RootCertStore::empty();
        for (index, (host, (chain, key))) in shown.iter().enumerate() {
            let whom = if index == 0 { For::Anybody } else { For::Name(host) };
            names.add(whom, Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
            roots.add(CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()).unwrap();
        }
        let context = Context::new(names, authorities).unwrap();
        Server { context, roots: Arc::new(roots), asking: Asking::No, shown }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth()
    }

    async fn accept(&self, env: &SimEnv, conn: SimConn) -> Result<Stream<SimEnv>, Failure> {
        let aside: &Aside = &|step| Box::pin(async { Some(step()) });
        let deadline = env.now().after(Duration::from_mins(1));
        let Server { context, asking, .. } = self;
        let terms = Terms { context, aside, protocol: "imap", asking: *asking };
        Stream::plain(conn).secure(env, terms, deadline).await
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 993))
}

async fn pair(env: &SimEnv) -> (SimConn, SimConn) {
    let listener = env.listen(address()).unwrap();
    let (near, far) = zip(env.connect(address(), None, Mono::NEVER), listener.accept()).await;
    (near.unwrap(), far.unwrap())
}

/// The other end: a client as programs have it, or a server.
struct Peer {
    tls: Connection,
    conn: SimConn,
    buffer: Buffer,
}

impl Peer {
    fn new(config: &Arc<ClientConfig>, host: &str, conn: SimConn) -> Peer {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Peer { tls: tls.into(), conn, buffer: Buffer::new() }
    }

    fn serving(config: &Arc<ServerConfig>, conn: SimConn) -> Peer {
        let tls = ServerConnection::new(Arc::clone(config)).unwrap();
        Peer { tls: tls.into(), conn, buffer: Buffer::new() }
    }

    /// Sends what it has to say, and reads once if `wants`.
    async fn turn(&mut self, reads: bool) -> io::Result<()> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        let mut chain = Chain::new();
        chain.put(&out);
        self.conn.write(&mut chain, Mono::NEVER).await?;
        if reads {
            if self.conn.read(&mut self.buffer, Mono::NEVER).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            while !self.buffer.is_empty() {
                let mut front = self.buffer.filled();
                let taken = self.tls.read_tls(&mut front)?;
                self.buffer.consume(taken);
                self.tls.process_new_packets().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    async fn shake(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.turn(true).await?;
        }
        self.turn(false).await
    }

    async fn say(&mut self, text: &[u8]) -> io::Result<()> {
        for piece in text.chunks(10_000) {
            self.tls.writer().write_all(piece)?;
            self.turn(false).await?;
        }
        Ok(())
    }

    /// Hears so many octets, or up to the proper end.
    async fn hear(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut heard = Vec::new();
        let mut room = vec![0; 20_000];
        while heard.len() < count {
            match self.tls.reader().read(&mut room) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(true).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }
}

/// Reads so many octets, or up to the end.
async fn read(stream: &mut Stream<SimEnv>, count: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = Buffer::new();
    while all.len() < count && stream.read(&mut buffer, Mono::NEVER).await? > 0 {
        all.extend_from_slice(buffer.filled());
        buffer.consume(buffer.len());
    }
    Ok(all)
}

fn text(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| at.to_le_bytes()[usize::from(at % 7 == 0)] ^ 0x5a).collect()
}

/// Whatever the network does to the records, both ends hear what the other said.
#[test]
fn carries_everything_however_records_are_cut() {
    let server = Server::new(&[HOST]);
    for seed in 0..60 {
        let version = if seed % 2 == 0 { &TLS13 } else { &TLS12 };
        let config = Arc::new(server.client(version));
        let cuts = [0, 200_000, 900_000][to_usize(seed % 3)];
        let sim = Sim::new(seed, Faults { cuts, window_octets: 20_000, ..Faults::none() });
        let env = sim.env(0);
        let (up, down) = (text(3 + 997 * to_usize(seed)), text(5 + 1_999 * to_usize(seed)));
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
            shaken.unwrap();
            let mut stream = stream.unwrap();
            let facts = Arc::clone(stream.facts().unwrap());
            assert_eq!(facts.is_1_3(), seed % 2 == 0);
            assert_eq!(facts.name(), Some(HOST));
            let (said, heard) = zip(client.say(&up), read(&mut stream, up.len())).await;
            said.unwrap();
            assert!(heard.unwrap() == up, "seed {seed}");
            let mut chain = Chain::new();
            chain.put(&down[..3]);
            let owner: Rc<dyn Shared> = Rc::new(down.clone());
            chain.link(&owner, 3..down.len());
            let (written, heard) =
                zip(stream.write(&mut chain, Mono::NEVER), client.hear(down.len())).await;
            written.unwrap();
            assert!(heard.unwrap() == down, "seed {seed}");
            let ((), rest) = zip(stream.close(), client.hear(1)).await;
            assert_eq!(rest.unwrap(), b"", "the end is a proper one");
        })
        .unwrap();
    }
}

/// Both ends make the same of the secret, and that without rustls's help on our side.
#[test]
fn knows_the_bindings_of_a_channel() {
    let server = Server::new(&[HOST]);
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(server.client(version));
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (_, stream) = zip(client.shake(), server.accept(&env, far)).await;
            let stream = stream.unwrap();
            let facts = stream.facts().unwrap();
            let label = b"EXPORTER-Channel-Binding";
            let binding = client.tls.export_keying_material([0; 32], label, Some(b"")).unwrap();
            assert_eq!(facts.exporter(), facts.is_1_3().then_some(binding));
            assert_eq!(facts.server_end_point(), None, "Ed25519 has no hash of its own");
            assert_eq!(facts.group(), Some("x25519"));
            assert!(facts.suite().starts_with("TLS_"), "{}", facts.suite());
        })
        .unwrap();
    }
}

#[test]
fn shows_the_certificate_that_is_asked_for() {
    let server = Server::new(&[HOST, "mail.other.example", "*.wild.example"]);
    for (asked, good) in [
        (HOST, true),
        ("mail.other.example", true),
        ("a.wild.example", true),
        ("wild.example", false),
        ("a.b.wild.example", false),
    ] {
        let config = Arc::new(server.client(&TLS13));
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, asked, near);
            let shaking = async {
                let shaken = client.shake().await;
                drop(client);
                shaken
            };
            let (shaken, _) = zip(shaking, server.accept(&env, far)).await;
            assert_eq!(shaken.is_ok(), good, "{asked}: {shaken:?}");
        })
        .unwrap();
    }
}

#[test]
fn agrees_on_a_protocol_and_never_fails_for_it() {
    let server = Server::new(&[HOST]);
    for (offered, agreed) in [
        (vec!["imap"], Some("imap")),
        (vec!["h2", "imap"], Some("imap")),
        (vec!["h2", "http/1.1"], None),
        (vec!["pop3"], None),
        (vec![], None),
    ] {
        let mut config = server.client(&TLS13);
        config.alpn_protocols = offered.iter().map(|name| (*name).into()).collect();
        let config = Arc::new(config);
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
            shaken.unwrap();
            let stream = stream.unwrap();
            assert_eq!(stream.facts().unwrap().alpn(), agreed, "{offered:?}");
        })
        .unwrap();
    }
}

/// The next connection goes on with the session of the first, on another shard too, since all have
/// the same keys.
#[test]
fn resumes_sessions() {
    let server = Server::new(&[HOST]);
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(server.client(version));
        for resumed in [false, true, true] {
            let sim = Sim::new(1, Faults::none());
            let env = sim.env(0);
            sim.run_until(async {
                let (near, far) = pair(&env).await;
                let mut client = Peer::new(&config, HOST, near);
                let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
                shaken.unwrap();
                let mut stream = stream.unwrap();
                assert_eq!(stream.facts().unwrap().is_resumed(), resumed);
                // The tickets come with what is said first.
                let mut chain = Chain::new();
                chain.put(b"* OK\r\n");
                stream.write(&mut chain, Mono::NEVER).await.unwrap();
                assert_eq!(client.hear(6).await.unwrap(), b"* OK\r\n");
            })
            .unwrap();
        }
    }
}

/// In the middle of a record that has come in part, and with the answer to one that has not gone.
#[test]
fn moves_to_another_shard() {
    let server = Server::new(&[HOST]);
    for seed in 0..40 {
        let config = Arc::new(server.client(if seed % 2 == 0 { &TLS13 } else { &TLS12 }));
        let sim = Sim::new(seed, Faults { cuts: 500_000, ..Faults::none() });
        let (env, other) = (sim.env(0), sim.env(1));
        let up = text(40_000);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
            shaken.unwrap();
            let mut stream = stream.unwrap();
            let moving = async {
                let mut heard = Vec::new();
                let mut buffer = Buffer::new();
                while heard.len() < up.len() {
                    assert!(stream.read(&mut buffer, Mono::NEVER).await.unwrap() > 0);
                    heard.extend_from_slice(buffer.filled());
                    buffer.consume(buffer.len());
                    stream = Stream::attach(&other, stream.detach().unwrap()).unwrap();
                }
                assert!(stream.facts().is_some());
                heard
            };
            let (said, heard) = zip(client.say(&up), moving).await;
            said.unwrap();
            assert!(heard == up, "seed {seed}");
        })
        .unwrap();
    }
}

/// An end of TCP is no end of what was said: somebody may have cut it off.
#[test]
fn tells_a_proper_end_from_a_cut() {
    let server = Server::new(&[HOST]);
    for proper in [true, false] {
        let config = Arc::new(server.client(&TLS13));
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
            shaken.unwrap();
            let mut stream = stream.unwrap();
            client.say(b"QUIT\r\n").await.unwrap();
            if proper {
                client.tls.send_close_notify();
                client.turn(false).await.unwrap();
            }
            client.conn.finish();
            assert_eq!(read(&mut stream, 6).await.unwrap(), b"QUIT\r\n");
            let end = read(&mut stream, 1).await;
            let end = end.map_err(|error| error.kind());
            let want = if proper { Ok(Vec::new()) } else { Err(ErrorKind::UnexpectedEof) };
            assert_eq!(end, want);
            // What we still have to say can be said.
            let mut chain = Chain::new();
            chain.put(b"bye");
            assert!(stream.write(&mut chain, Mono::NEVER).await.is_ok());
        })
        .unwrap();
    }
}

#[test]
fn refuses_what_is_no_handshake() {
    let server = Server::new(&[HOST]);
    let forged = [&[23, 3, 3, 0, 5][..], b"hello"].concat();
    let old = [22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 0].to_vec();
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &vec![0; 100_000]].concat();
    for (sent, want) in [
        (b"EHLO client.example\r\n".to_vec(), "the client does not speak TLS"),
        (forged, "the client does not speak TLS"),
        (old, "received corrupt message"),
        (endless, ""),
        (vec![22, 3], "the client went away"),
        (Vec::new(), "the client went away"),
    ] {
        let sim = Sim::new(1, Faults { cuts: 100_000, ..Faults::none() });
        let env = sim.env(0);
        sim.run_until(async {
            let (mut near, far) = pair(&env).await;
            let mut chain = Chain::new();
            chain.put(&sent);
            let talk = async {
                // It may be hung up on before all is sent.
                drop(near.write(&mut chain, Mono::NEVER).await);
                near.finish();
                let mut buffer = Buffer::new();
                drop(near.read(&mut buffer, Mono::NEVER).await);
            };
            let ((), shaken) = zip(talk, server.accept(&env, far)).await;
            let failure = shaken.err().expect("that is no handshake").to_string();
            assert!(failure.starts_with(want), "{failure}, not {want}");
        })
        .unwrap();
    }
}

/// The message behind one that ended it all is looked at no more, wherever it lies.
#[test]
fn refuses_messages_behind_one_that_is_wrong() {
    let server = Server::new(&[HOST]);
    let exchange: &[u8] = &[16, 0, 0, 2, 1, 0];
    let finished: &[u8] = &[20, 0, 0, 0];
    let octet_by_octet = [vec![vec![16, 0, 255, 0]], vec![vec![0]; 30_000]].concat();
    for cuts in [0, 500_000] {
        for (flight, want) in [
            (vec![[exchange, finished].concat()], "InvalidKeyShare"),
            (vec![exchange.to_vec(), finished.to_vec()], "InvalidKeyShare"),
            (vec![[finished, exchange, finished].concat()], "unexpected handshake message"),
            (vec![exchange[..3].to_vec(), [&exchange[3..], finished].concat()], "InvalidKeyShare"),
            (vec![exchange[..3].to_vec(), vec![0; 200]], "corrupt message"),
            (octet_by_octet.clone(), "too many records"),
        ] {
            let config = Arc::new(server.client(&TLS12));
            let sim = Sim::new(1, Faults { cuts, ..Faults::none() });
            let env = sim.env(0);
            sim.run_until(async {
                let (near, far) = pair(&env).await;
                let mut client = Peer::new(&config, HOST, near);
                let attack = async {
                    client.turn(false).await.unwrap();
                    client.conn.read(&mut client.buffer, Mono::NEVER).await.unwrap();
                    let mut chain = Chain::new();
                    for message in &flight {
                        chain.put(&[22, 3, 3, 0, u8::try_from(message.len()).unwrap()]);
                        chain.put(message);
                    }
                    // It may be hung up on before all is sent.
                    drop(client.conn.write(&mut chain, Mono::NEVER).await);
                    // The last record is the alert.
                    let mut heard = Vec::new();
                    while client
                        .conn
                        .read(&mut client.buffer, Mono::NEVER)
                        .await
                        .is_ok_and(|count| count > 0)
                    {
                        heard = client.buffer.filled().to_vec();
                        client.buffer.consume(client.buffer.len());
                    }
                    heard
                };
                let (heard, shaken) = zip(attack, server.accept(&env, far)).await;
                let failure = shaken.err().expect("that is no handshake").to_string();
                assert!(failure.contains(want), "{failure}, not {want}");
                // rustls has no alert for the former, and does not know of the latter.
                let is_told = heard.windows(3).any(|octets| octets == [21, 3, 3]);
                let is_quiet = ["corrupt message", "too many records"].contains(&want);
                assert!(is_told || is_quiet, "{want}");
            })
            .unwrap();
        }
    }
}

/// Whatever a stranger puts into the stream, the session ends with an error and keeps nothing of it.
#[test]
fn refuses_records_that_were_changed() {
    let server = Server::new(&[HOST]);
    for at in 0..60 {
        let config = Arc::new(server.client(&TLS13));
        let sim = Sim::new(at, Faults::none());
        let env = sim.env(0);
        sim.run_until(async {
            let (near, far) = pair(&env).await;
            let mut client = Peer::new(&config, HOST, near);
            let (shaken, stream) = zip(client.shake(), server.accept(&env, far)).await;
            shaken.unwrap();
            let mut stream = stream.unwrap();
            client.tls.writer().write_all(b"a LOGIN alice secret\r\n").unwrap();
            let mut record = Vec::new();
            client.tls.write_tls(&mut record).unwrap();
            // rustls does not look at the type and version in front: they say nothing here.
            let index = 3 + to_usize(at) % (record.len() - 3);
            record[index] ^= 1;
            let mut chain = Chain::new();
            chain.put(&record);
            client.conn.write(&mut chain, Mono::NEVER).await.unwrap();
            client.conn.finish();
            let end = read(&mut stream, 1).await;
            assert!(end.is_err(), "octet {index}: {end:?}");
        })
        .unwrap();
    }
}

#[test]
fn a_slow_client_is_given_up_at_the_deadline() {
    let server = Server::new(&[HOST]);
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    sim.run_until(async {
        let (mut near, far) = pair(&env).await;
        let mut chain = Chain::new();
        chain.put(&[22, 3, 1, 2]);
        near.write(&mut chain, Mono::NEVER).await.unwrap();
        let begun = env.now();
        let failure = server.accept(&env, far).await.err().unwrap();
        assert_eq!(failure.to_string(), "the client is too slow");
        assert!(env.now().since(begun) < Duration::from_secs(65));
    })
    .unwrap();
}

#[test]
fn says_what_is_wrong_with_a_certificate() {
    let (chain, key) = pem(HOST, &PKCS_ED25519);
    let (_, other) = pem(HOST, &PKCS_ED25519);
    let fault = |chain: &str, key: &str| {
        Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(fault(&chain, &other), "the key does not belong to the certificate");
    assert_eq!(fault("", &key), "no certificate in PEM form is in it");
    assert_eq!(fault(&chain, ""), "no private key in PEM form, without a password, is in it");
    assert_eq!(fault(&chain, &chain), "no private key in PEM form, without a password, is in it");
    let torn = chain.replacen("MII", "AII", 1).replacen("MIH", "AIH", 1).replacen("MIG", "AIG", 1);
    assert!(fault(&torn, &key).starts_with("this is no sound certificate"), "{torn}");
}
