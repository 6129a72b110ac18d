//! Certificates of a running server: which one is shown, and what happens when they change.

use crate::harness::Server;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

type Tls = BufReader<StreamOwned<ClientConnection, TcpStream>>;

const HOST: &str = "mx.local.example";

/// A pair of files, and what is in them.
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(server: &Server, name: &str) -> Files {
        let dir = server.dir().join("certificates");
        fs::create_dir_all(&dir).unwrap();
        Files { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
    }

    /// Writes a new certificate for `host`; returns it.
    fn write(&self, host: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let chain = chain.self_signed(&key).unwrap().pem();
        fs::write(&self.key, key.serialize_pem()).unwrap();
        fs::write(&self.chain, &chain).unwrap();
        CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
    }

    fn keys(&self) -> String {
        format!("certificate = \"{}\"\nkey = \"{}\"\n", self.chain.display(), self.key.display())
    }
}

/// A connection to the port of IMAP by TLS, if the server shows exactly this certificate for `host`.
fn connect(server: &Server, host: &str, shown: &CertificateDer<'static>) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(shown.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", server.imaps()))?;
    let mut reader = BufReader::new(StreamOwned::new(tls, tcp));
    assert!(hear(&mut reader)?.starts_with("* OK"));
    Ok(reader)
}

fn hear(reader: &mut Tls) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line)
}

fn noop(reader: &mut Tls) -> String {
    reader.get_mut().write_all(b"a NOOP\r\n").unwrap();
    hear(reader).unwrap()
}

#[test]
fn certificates_change_without_dropping_a_connection() {
    let mut server = Server::set_up("");
    let (first, other) = (Files::new(&server, "first"), Files::new(&server, "other"));
    let mut text = fs::read_to_string(server.config()).unwrap();
    text.push_str("[tls]\n");
    text.push_str(&first.keys());
    text.push_str("[[tls.sni]]\nname = \"*.other.example\"\n");
    text.push_str(&other.keys());
    fs::write(server.config(), text).unwrap();
    let (old, wild) = (first.write(HOST), other.write("*.other.example"));
    server.start();
    let mut open = connect(&server, HOST, &old).unwrap();
    drop(connect(&server, "imap.other.example", &wild).unwrap());
    assert!(connect(&server, "other.example", &wild).is_err(), "that is another name");
    server.await_log(&["event=tls_failed", "protocol=imap"]);
    assert!(server.figure("pombal_tls_handshakes_failed_total") >= 1);

    // Half of a change: nothing of it is taken.
    let key = fs::read(&first.key).unwrap();
    let new = first.write(HOST);
    let fresh = fs::read(&first.key).unwrap();
    fs::write(&first.key, key).unwrap();
    let log = server.reload_as_it_is();
    assert!(log.contains("event=certificates_refused"), "{log}");
    let checked = server.try_pombal(&["check"], "");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2));
    assert!(said.contains("first.key: the key does not belong to the certificate"), "{said}");
    drop(connect(&server, HOST, &old).unwrap());

    fs::write(&first.key, fresh).unwrap();
    let log = server.reload_as_it_is();
    assert!(log.contains("event=certificate "), "{log}");
    for _ in 0..8 {
        // Some on each shard, as soon as it has heard.
        while connect(&server, HOST, &new).is_err() {}
    }
    assert!(noop(&mut open).starts_with("a OK"));
    let name = "pombal_tls_1_3_handshakes_total";
    assert!(server.figure(name) >= 10, "{}", server.figure(name));
    server.stop();
}

/// It is one of those that clients are shown, as long as there is no other for those who name nobody.
#[test]
fn the_certificate_of_the_first_start_is_listed_until_there_is_another() {
    let mut server = Server::set_up("");
    let listed = server.pombal(&["cert", "list"], "");
    assert_eq!(listed, "", "none is made before the server starts");
    server.start();
    let made = server.data_dir().join("tls/self-signed.pem");
    let listed = server.pombal(&["cert", "list"], "");
    let begin = format!("self-signed {}: {HOST} until ", made.display());
    assert!(listed.starts_with(&begin) && listed.lines().count() == 1, "{listed}");
    let listed = server.pombal(&["--json", "cert", "list"], "");
    let rows: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(rows[0]["source"], "self-signed", "{listed}");
    assert_eq!(rows[0]["names"], serde_json::json!([HOST]), "{listed}");
    let named = Files::new(&server, "named");
    named.write(HOST);
    let mut text = fs::read_to_string(server.config()).unwrap();
    text.push_str("[tls]\n");
    text.push_str(&named.keys());
    fs::write(server.config(), text).unwrap();
    let listed = server.pombal(&["cert", "list"], "");
    assert!(listed.starts_with("file ") && listed.lines().count() == 1, "{listed}");
    server.stop();
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_with_its_file() {
    let server = Server::set_up("");
    let files = Files::new(&server, "mine");
    let text = fs::read_to_string(server.config()).unwrap();
    fs::write(server.config(), format!("{text}[tls]\n{}", files.keys())).unwrap();
    let check = |want: &str| {
        let checked = server.try_pombal(&["check"], "");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains(want), "{said}, not {want}");
    };
    check("mine.pem: No such file");
    files.write(HOST);
    assert!(server.try_pombal(&["check"], "").status.success());
    fs::write(&files.key, "").unwrap();
    check("mine.key: no private key in PEM form");
    fs::write(&files.chain, "").unwrap();
    check("mine.pem: no certificate in PEM form");
    let key = KeyPair::generate().unwrap();
    let mut over = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    over.not_after = rcgen::date_time_ymd(2026, 1, 2);
    fs::write(&files.chain, over.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    check("mine.pem: the certificate has expired");
}
