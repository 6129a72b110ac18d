//! What other servers have to prove, by a real name server (Knot) with a signed root, a host that serves
//! policies (openssl), and a server of ours that takes the mail by TLS.

use crate::client::{Link, Maildrop, find, smtp, stuff};
use crate::harness::{PASSWORD, PATIENCE, Server};
use crate::knot::Knot;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.plain\nmax_age: 86400\n";

/// Who signs, and what was signed.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Ca {
    fn new(dir: &Path) -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Ca { issuer: Issuer::new(params, key), dir: dir.into() }
    }

    /// Writes `name.pem` and `name.key`; the digest of the key, as a TLSA record has it.
    fn sign(&self, name: &str, hosts: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let signed = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::write(self.dir.join(format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(signed.der()).unwrap();
        let mut digest = String::new();
        for octet in Sha256::digest(parsed.public_key().raw) {
            write!(digest, "{octet:02x}").unwrap();
        }
        digest
    }
}

/// Serves the files of a directory by HTTPS; ends with it.
struct Host {
    child: Child,
    port: u16,
    /// It would end if nobody held it.
    _said: BufReader<ChildStdout>,
}

impl Host {
    fn start(dir: &Path) -> Host {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-WWW"])
            .args(["-cert", "../policy.pem", "-key", "../policy.key"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "it says where it listens");
            if let Some(port) = line.trim().strip_prefix("ACCEPT 127.0.0.1:") {
                break port.parse().unwrap();
            }
        };
        Host { child, port, _said: said }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Both ends, and what stands between them.
struct World {
    here: Server,
    there: Server,
    _knot: Knot,
    host: Option<Host>,
    _dir: tempfile::TempDir,
}

/// Domains by the same server: d.signed and bad.signed have TLSA records, of which the latter is for another
/// key; d.plain and other.plain have the same policy, which names the server of the former. It names the
/// second server of two.plain too; unproven.plain has it from a host that does not prove its name.
fn world() -> Option<World> {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let ca = Ca::new(at);
    let digest = ca.sign("there", &["mx.signed", "mx.plain"]);
    ca.sign("policy", &["mta-sts.d.plain", "mta-sts.other.plain", "mta-sts.two.plain"]);
    let www = at.join("www");
    fs::create_dir_all(www.join(".well-known")).unwrap();
    fs::write(www.join(".well-known/mta-sts.txt"), POLICY).unwrap();
    let host = Host::start(&www);
    let tls =
        format!("[tls]\ncertificate = \"{0}/there.pem\"\nkey = \"{0}/there.key\"\n", at.display());
    let there = Server::with_users(&tls, &["b"]);
    for domain in
        ["d.signed", "bad.signed", "d.plain", "other.plain", "two.plain", "unproven.plain"]
    {
        there.pombal(&["domain", "add", domain], "");
        there.pombal(&["alias", "add", &format!("@{domain}"), "b@local.example"], "");
    }
    let port = there.smtp();
    let signed = format!(
        "d MX 1 mx\nmx A 127.0.0.1\n_{port}._tcp.mx TLSA 3 1 1 {digest}\n\
         bad MX 1 mxbad\nmxbad A 127.0.0.1\n_{port}._tcp.mxbad TLSA 3 1 1 {}\n",
        "00".repeat(32)
    );
    let mut plain = String::from(
        "d MX 1 mx\nmx A 127.0.0.1\n_mta-sts.d TXT \"v=STSv1; id=1\"\n\
        mta-sts.d A 127.0.0.1\nother MX 1 mx2\nmx2 A 127.0.0.1\n\
        _mta-sts.other TXT \"v=STSv1; id=1\"\nmta-sts.other A 127.0.0.1\n",
    );
    for (domain, hosts) in [("two", &["mx2", "mx"][..]), ("unproven", &["mx2"])] {
        writeln!(plain, "_mta-sts.{domain} TXT \"v=STSv1; id=1\"").unwrap();
        writeln!(plain, "mta-sts.{domain} A 127.0.0.1").unwrap();
        for (preference, host) in hosts.iter().enumerate() {
            writeln!(plain, "{domain} MX {preference} {host}").unwrap();
        }
    }
    let knot = Knot::with_root(at, &[("signed.", &signed)], &[("plain.", &plain)], &[])?;
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{}\"]\ntrust_anchors = \"{}\"\n\
         [queue]\nport = {port}\nca_file = \"{}/ca.pem\"\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n\
         [mta_sts]\nport = {}\n",
        knot.address(),
        knot.anchors().display(),
        at.display(),
        host.port,
    );
    let here = Server::with_users(&settings, &["a"]);
    Some(World { here, there, _knot: knot, host: Some(host), _dir: dir })
}

impl World {
    /// Sends a message, and says what its first attempt came to. Each goes to an address of its own.
    fn send(&self, recipient: &str, fields: &str) -> String {
        let mut link = smtp(self.here.smtp(), "EHLO").unwrap();
        link.command("MAIL FROM:<a@local.example>", 250).unwrap();
        link.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
        link.command("DATA", 354).unwrap();
        let text = format!("{fields}Subject: for {recipient}\r\n\r\ntext\r\n");
        link.send(stuff(text.as_bytes())).unwrap();
        link.expect(250).unwrap();
        link.command("QUIT", 221).unwrap();
        self.here.await_log(&["event=attempt", &format!("recipient={recipient} ")])
    }

    /// Waits until so many policies are kept: who asked for one does not wait for that.
    #[expect(clippy::disallowed_methods, reason = "no shard waits here")]
    fn await_policies(&self, count: usize) {
        let journal = self.here.data_dir().join("mta-sts.journal");
        let pause = Duration::from_millis(20);
        let mut kept = String::new();
        let is_there = (0..PATIENCE.as_millis() / pause.as_millis()).any(|_| {
            kept = fs::read_to_string(&journal).unwrap_or_default();
            let is_there = kept.lines().count() == count;
            if !is_there {
                sleep(pause);
            }
            is_there
        });
        assert!(is_there, "{kept}");
    }

    fn stop(mut self) {
        self.here.stop();
        self.there.stop();
    }
}

#[track_caller]
fn assert_has(log: &str, words: &[&str]) {
    for word in words {
        assert!(log.contains(word), "{word} in {log}");
    }
}

/// RFC 7672: a certificate that the records are for is enough, and no other will do; who wants his mail to
/// arrive rather than to be safe says so.
#[test]
fn a_server_has_to_fit_its_tlsa_records() {
    let Some(world) = world() else { return };
    assert_has(&world.send("one@d.signed", ""), &["outcome=delivered", "tls=TLSv1.3"]);
    let refused = world.send("one@bad.signed", "");
    assert_has(&refused, &["outcome=deferred", "no TLSA record is for the certificate"]);
    let optional = world.send("two@bad.signed", "TLS-Required: No\r\n");
    assert_has(&optional, &["outcome=delivered", "tls=TLSv1.3"]);
    let mail = Maildrop::open_filled(world.there.pop3(), "b", 2).unwrap().retrieve_all().unwrap();
    assert!(mail.iter().all(|mail| find(mail, b"for ").is_some()));
    world.stop();
}

/// RFC 8461: the policy is fetched by our resolver and the authorities that are set; who is not named gets
/// nothing; and a restart with the host gone forgets none of it.
#[test]
fn a_policy_names_who_gets_the_mail_and_outlives_a_restart() {
    let Some(mut world) = world() else { return };
    let not_named = ["outcome=deferred", "the MTA-STS policy does not name it"];
    for name in ["one", "two"] {
        let sent = world.send(&format!("{name}@d.plain"), "");
        assert_has(&sent, &["outcome=delivered", "tls=TLSv1.3"]);
        assert_has(&world.send(&format!("{name}@other.plain"), ""), &not_named);
        world.await_policies(2);
        world.host = None;
        world.here.restart();
    }
    assert_has(&world.send("three@other.plain", "TLS-Required: No\r\n"), &["outcome=delivered"]);
    world.stop();
}

/// RFC 8461 §5: a server that the policy does not name is passed over, and the next one that it names gets
/// the mail.
#[test]
fn a_server_that_is_not_named_is_passed_over() {
    let Some(world) = world() else { return };
    let sent = world.send("one@two.plain", "");
    assert_has(&sent, &["outcome=delivered", "host=mx.plain", "tls=TLSv1.3", "attempt=1 "]);
    world.stop();
}

/// RFC 8461 §3.3: what a host says that proves no such name is no policy.
#[test]
fn a_host_that_does_not_prove_its_name_has_no_policy() {
    let Some(world) = world() else { return };
    let sent = world.send("one@unproven.plain", "");
    assert_has(&sent, &["outcome=delivered", "host=mx2.plain"]);
    let failed = world.here.await_log(&["event=sts_policy_failed", "domain=unproven.plain"]);
    assert_has(&failed, &["certificate"]);
    world.stop();
}

/// A password goes to nobody who has not proven who he is.
#[test]
fn a_login_is_for_a_server_that_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    Ca::new(dir.path()).sign("there", &["127.0.0.1"]);
    fs::write(dir.path().join("password"), PASSWORD).unwrap();
    let tls = format!("[tls]\ncertificate = \"{at}/there.pem\"\nkey = \"{at}/there.key\"\n");
    let mut there = Server::with_users(&tls, &["a", "b"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["alias", "add", "b@there.example", "b@local.example"], "");
    let settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         [queue]\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n\
         [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:{}\"\nuser = \"a@local.example\"\n\
         password_file = \"{at}/password\"\n",
        there.submission(),
    );
    let mut here = Server::with_users(&settings, &["a"]);
    let mut link = smtp(here.smtp(), "EHLO").unwrap();
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command("RCPT TO:<b@there.example>", 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(stuff(b"From: a@local.example\r\nSubject: by login\r\n\r\n")).unwrap();
    link.expect(250).unwrap();
    let refused = here.await_log(&["event=attempt", "recipient=b@there.example"]);
    assert_has(&refused, &["outcome=deferred", "no TLS with the server"]);
    here.edit("[queue]\n", |queue| format!("{queue}ca_file = \"{at}/ca.pem\"\n"));
    here.restart();
    here.await_log(&["event=attempt", "recipient=b@there.example", "outcome=delivered"]);
    let mail = Maildrop::open_filled(there.pop3(), "b", 1).unwrap().retrieve_all().unwrap();
    assert!(find(&mail[0], b"with ESMTPSA").is_some());
    here.edit("[[route]]\n", |route| format!("{route}tls = \"may\"\n"));
    let checked = here.try_pombal(&["check"], "");
    assert_eq!(checked.status.code(), Some(2));
    here.stop();
    there.stop();
}

/// RFC 8689: offered within TLS alone, kept to on the way out, and told to a next server that is proven. What
/// cannot go that way comes back without its text.
#[test]
fn a_message_that_requires_tls_goes_to_proven_servers_or_comes_back() {
    let Some(world) = world() else { return };
    let mut clear = smtp(world.here.submission(), "EHLO").unwrap();
    let offered = clear.command("EHLO x", 250).unwrap().text;
    assert!(!offered.contains("REQUIRETLS"), "{offered}");
    let mut link = Link::connect(world.here.submissions()).unwrap().encrypt().unwrap();
    link.expect(220).unwrap();
    let offered = link.command("EHLO x", 250).unwrap().text;
    assert!(offered.contains("REQUIRETLS"), "{offered}");
    // a@local.example and his password.
    for link in [&mut clear, &mut link] {
        link.command("AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=", 235).unwrap();
    }
    clear.command("MAIL FROM:<a@local.example> REQUIRETLS", 530).unwrap();
    for (recipient, fields) in [
        ("one@d.signed", ""),
        ("one@d.plain", ""),
        // The header does not count beside the parameter (§4.1).
        ("one@bad.signed", "TLS-Required: No\r\n"),
    ] {
        link.command("MAIL FROM:<a@local.example> REQUIRETLS RET=FULL", 250).unwrap();
        link.command(&format!("RCPT TO:<{recipient}>"), 250).unwrap();
        link.command("DATA", 354).unwrap();
        let text = format!("{fields}From: a@local.example\r\nSubject: x\r\n\r\nsecret\r\n");
        link.send(stuff(text.as_bytes())).unwrap();
        link.expect(250).unwrap();
    }
    for recipient in ["one@d.signed", "one@d.plain"] {
        let words = ["event=attempt", &format!("recipient={recipient} "), "outcome=delivered"];
        assert_has(&world.here.await_log(&words), &["tls=TLSv1.3"]);
    }
    let failed = ["event=attempt", "recipient=one@bad.signed ", "outcome=failed"];
    assert_has(&world.here.await_log(&failed), &["550 5.7.10"]);
    let report = Maildrop::open_filled(world.here.pop3(), "a", 1).unwrap().retrieve_all().unwrap();
    let report = String::from_utf8(report[0].clone()).unwrap();
    assert_has(&report, &["one@bad.signed", "Status: 5.7.10", "Subject: x", "text/rfc822-headers"]);
    assert!(!report.contains("secret"), "{report}");
    world.stop();
}
