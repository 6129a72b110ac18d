//! Users who show a certificate: who is let in, what is told of it, and what a change of those who sign
//! is worth. `tests/clients/external.py` has the three protocols by clients of others.

use crate::harness::Server;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    StreamOwned, SupportedProtocolVersion,
};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Those who sign for clients of a server, with their files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// A certificate and its key.
pub(crate) struct Shown(CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    /// Writes `ca.pem` and `ca.key` into this directory.
    pub(crate) fn new(dir: &Path) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Those who sign for clients");
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(dir.join("ca.key"), key.serialize_pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), dir: dir.into() }
    }

    /// Names them in the configuration, with `more` keys of `[tls]`.
    pub(crate) fn configure(&self, server: &Server, more: &str) {
        let mut text = fs::read_to_string(server.config()).unwrap();
        text.push_str("[tls]\nclient_ca = \"");
        text.push_str(&self.dir.join("ca.pem").display().to_string());
        text.push_str("\"\n");
        text.push_str(more);
        fs::write(server.config(), text).unwrap();
    }

    fn sign(&self, common_name: &str, emails: &[&str], serial: u64) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        let email = |email: &&str| SanType::Rfc822Name((*email).try_into().unwrap());
        params.subject_alt_names = emails.iter().map(email).collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Shown(certificate.der().clone(), key)
    }

    /// Writes a list that revokes these.
    fn revoke(&self, file: &Path, serials: &[u64]) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(file, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }
}

/// Who the server is does not matter here.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that keeps its tickets from one connection to the next.
pub(crate) fn client(
    version: &'static SupportedProtocolVersion,
    shown: Option<&Shown>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    Arc::new(match shown {
        Some(Shown(certificate, key)) => {
            let chain = vec![certificate.clone()];
            builder.with_client_auth_cert(chain, key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// A session of IMAP by TLS.
struct Imap {
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    greeting: String,
}

impl Imap {
    fn connect(server: &Server, config: &Arc<ClientConfig>) -> io::Result<Imap> {
        let name = ServerName::try_from("mx.local.example").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", server.imaps()))?;
        let mut reader = BufReader::new(StreamOwned::new(tls, tcp));
        let mut greeting = String::new();
        if reader.read_line(&mut greeting)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Imap { reader, greeting })
    }

    fn is_offered(&self) -> bool {
        self.greeting.contains("AUTH=EXTERNAL")
    }

    fn is_resumed(&self) -> bool {
        self.reader.get_ref().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The tagged answer.
    fn ask(&mut self, command: &str) -> String {
        self.reader.get_mut().write_all(format!("a {command}\r\n").as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "{command}");
            if let Some(answer) = line.strip_prefix("a ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    fn external(&mut self, authzid: &str) -> bool {
        use base64::Engine as _;
        let initial = base64::engine::general_purpose::STANDARD.encode(authzid);
        let initial = if initial.is_empty() { "=" } else { &initial };
        self.ask(&format!("AUTHENTICATE EXTERNAL {initial}")).starts_with("OK")
    }
}

/// Whether EXTERNAL is offered to this client, once all shards have heard of a reload.
fn is_offered(server: &Server, config: &Arc<ClientConfig>) -> bool {
    Imap::connect(server, config).unwrap().is_offered()
}

const MASTER: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n\
                      masters = [\"ann@local.example\"]\n";

#[test]
fn what_it_lets_in_and_what_not_is_told() {
    let mut server = Server::set_up(MASTER);
    let (ours, others) = (server.dir().join("ours"), server.dir().join("others"));
    let (ours, others) = (Authority::new(&ours), Authority::new(&others));
    ours.configure(&server, "");
    server.pombal(&["domain", "add", "local.example"], "");
    server.start();
    server.add_user("ann");
    server.add_user("bob");
    let ann = client(&TLS13, Some(&ours.sign("x", &["ann@local.example"], 1)));
    let bob = client(&TLS13, Some(&ours.sign("x", &["bob@local.example"], 2)));
    assert!(Imap::connect(&server, &ann).unwrap().external(""));
    server.await_log(&["event=login", "protocol=imap", "method=EXTERNAL"]);
    // Ann is a master, Bob is none.
    assert!(Imap::connect(&server, &ann).unwrap().external("bob@local.example"));
    server.await_log(&["event=master_login", "user=bob@local.example", "master=ann@local.example"]);
    assert!(!Imap::connect(&server, &bob).unwrap().external("ann@local.example"));
    let failed = ["event=login_failed", "user=bob@local.example", "method=EXTERNAL", "why=foreign"];
    server.await_log(&failed);
    assert_eq!(server.figure("pombal_tls_client_certificates_refused_total"), 0);
    assert!(server.figure("pombal_tls_client_certificates_total") >= 3);

    let eve = client(&TLS13, Some(&ours.sign("Eve Nobody", &["eve@local.example"], 3)));
    assert!(!is_offered(&server, &eve));
    let refused = "event=client_certificate_refused";
    server.await_log(&[refused, "protocol=imap", "Eve Nobody", "it names no user who may log in"]);
    let forged = client(&TLS13, Some(&others.sign("Mallory", &["ann@local.example"], 4)));
    assert!(!is_offered(&server, &forged));
    server.await_log(&[refused, "Mallory", "invalid peer certificate"]);
    assert_eq!(server.figure("pombal_tls_client_certificates_refused_total"), 2);
    // Who is switched off is nobody, whatever he has shown before.
    let mut open = Imap::connect(&server, &bob).unwrap();
    assert!(open.is_offered());
    server.pombal(&["user", "disable", "bob@local.example"], "");
    assert!(!open.external(""));
    server.await_log(&["event=login_failed", "user=bob@local.example", "why=disabled"]);
    assert!(!is_offered(&server, &bob));
    assert!(!Imap::connect(&server, &ann).unwrap().external("bob@local.example"));
    server.pombal(&["user", "enable", "bob@local.example"], "");
    assert!(Imap::connect(&server, &bob).unwrap().external(""));
    // And so is whose account is gone.
    let mut open = Imap::connect(&server, &bob).unwrap();
    server.pombal(&["user", "del", "bob@local.example"], "");
    assert!(!open.external(""));
    server.await_log(&["event=login_failed", "user=bob@local.example", "why=refused"]);
    assert!(!is_offered(&server, &bob));
    server.stop();
}

/// New connections are held to those who sign now, and those with a ticket too.
#[test]
fn other_authorities_end_what_the_first_have_signed() {
    let mut server = Server::set_up("");
    let dir = server.dir().join("authority");
    let first = Authority::new(&dir);
    let list = dir.join("revoked.pem");
    first.configure(&server, &format!("client_crl = \"{}\"\n", list.display()));
    first.revoke(&list, &[99]);
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user("ann");
    server.start();
    for version in BOTH {
        let shown = first.sign("x", &["ann@local.example"], 7);
        let ann = client(version, Some(&shown));
        let mut resumed = 0;
        for _ in 0..4 {
            let mut imap = Imap::connect(&server, &ann).unwrap();
            assert!(imap.external(""));
            resumed += usize::from(imap.is_resumed());
            imap.ask("LOGOUT");
        }
        assert_eq!(resumed, 3, "the tickets are of use");
        // Nothing about the certificate has changed but that it is on the list.
        first.revoke(&list, &[7]);
        let log = server.reload_as_it_is();
        assert!(!log.contains("certificates_refused"), "{log}");
        for _ in 0..8 {
            // Some on each shard, as soon as it has heard.
            while is_offered(&server, &ann) {}
        }
        server.await_log(&["event=client_certificate_refused", "Revoked"]);
        first.revoke(&list, &[99]);
        server.reload_as_it_is();
        for _ in 0..8 {
            while !is_offered(&server, &ann) {}
        }
    }
    for version in BOTH {
        let ann = client(version, Some(&first.sign("x", &["ann@local.example"], 7)));
        assert!(Imap::connect(&server, &ann).unwrap().external(""));
        let mut open = Imap::connect(&server, &ann).unwrap();
        let old = fs::read(dir.join("ca.pem")).unwrap();
        let second = Authority::new(&dir);
        second.revoke(&list, &[99]);
        server.reload_as_it_is();
        for _ in 0..8 {
            while is_offered(&server, &ann) {}
        }
        let new = client(version, Some(&second.sign("x", &["ann@local.example"], 7)));
        assert!(Imap::connect(&server, &new).unwrap().external(""));
        // A connection that is open goes on as it began.
        assert!(open.external(""));
        // What cannot be used changes nothing.
        fs::write(dir.join("ca.pem"), "nothing").unwrap();
        let log = server.reload_as_it_is();
        assert!(log.contains("event=certificates_refused"), "{log}");
        assert!(log.contains("no certificate in PEM form"), "{log}");
        assert!(is_offered(&server, &new));
        fs::write(dir.join("ca.pem"), old).unwrap();
        first.revoke(&list, &[99]);
        server.reload_as_it_is();
        for _ in 0..8 {
            while !is_offered(&server, &ann) {}
        }
    }
    server.stop();
}

#[test]
fn where_one_is_required_nobody_logs_in_without() {
    let mut server = Server::set_up("");
    let authority = Authority::new(&server.dir().join("authority"));
    authority.configure(&server, "client_name = \"subject-cn\"\nclient_required = [\"imap\"]\n");
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user("ann");
    server.start();
    for version in BOTH {
        assert!(Imap::connect(&server, &client(version, None)).is_err());
        server.await_log(&["event=tls_failed", "protocol=imap", "no certificates"]);
        // The common name alone, in the one domain that there is.
        let ann = client(version, Some(&authority.sign("ann", &["bob@local.example"], 1)));
        assert!(Imap::connect(&server, &ann).unwrap().external("ann@local.example"));
        // Whoever is let in may use a password as well.
        let any = client(version, Some(&authority.sign("nobody here", &[], 2)));
        let mut imap = Imap::connect(&server, &any).unwrap();
        assert!(!imap.is_offered());
        // SASLprep would make Ann of them: no name of theirs becomes another's.
        for near in ["\u{ff41}\u{ff4e}\u{ff4e}", "a\u{ad}nn@local.example"] {
            let shown = authority.sign(near, &[], 3);
            assert!(!is_offered(&server, &client(version, Some(&shown))), "{near}");
        }
        assert!(imap.ask("LOGIN ann@local.example secret").starts_with("OK"));
    }
    // In clear there is no way in, though passwords are allowed there.
    let mut clear = BufReader::new(TcpStream::connect(("127.0.0.1", server.imap())).unwrap());
    let mut line = String::new();
    clear.read_line(&mut line).unwrap();
    assert!(line.contains("LOGINDISABLED"), "{line}");
    assert!(!line.contains("AUTH="), "{line}");
    clear.get_mut().write_all(b"a LOGIN ann@local.example secret\r\n").unwrap();
    line.clear();
    clear.read_line(&mut line).unwrap();
    assert!(line.starts_with("a NO [PRIVACYREQUIRED]"), "{line}");
    // Elsewhere there is.
    let mut pop3 = BufReader::new(TcpStream::connect(("127.0.0.1", server.pop3())).unwrap());
    pop3.get_mut().write_all(b"USER ann@local.example\r\nPASS secret\r\n").unwrap();
    for _ in 0..3 {
        line.clear();
        pop3.read_line(&mut line).unwrap();
        assert!(line.starts_with("+OK"), "{line}");
    }
    server.stop();
}

#[test]
fn authorities_that_cannot_be_used_are_told_with_their_file() {
    let server = Server::set_up("");
    let dir = server.dir().join("authority");
    let list = dir.join("revoked.pem");
    let authority = Authority::new(&dir);
    authority.configure(&server, &format!("client_crl = \"{}\"\n", list.display()));
    let check = |want: &str| {
        let checked = server.try_pombal(&["check"], "");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains(want), "{said}, not {want}");
    };
    check("revoked.pem: No such file");
    authority.revoke(&list, &[1]);
    assert!(server.try_pombal(&["check"], "").status.success());
    fs::copy(dir.join("ca.pem"), &list).unwrap();
    check("revoked.pem: no list of revoked certificates in PEM form");
    fs::write(dir.join("ca.pem"), "").unwrap();
    check("ca.pem: no certificate in PEM form");
}
