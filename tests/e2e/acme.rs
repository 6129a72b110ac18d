//! Certificates of an authority: against pebble, the test server of the ACME protocol's makers.
//!
//! `CLIENTS_REQUIRED=1` makes a missing pebble a failure.

use crate::harness::{PATIENCE, Port, Server};
use crate::privileges::{USER, assert_all_belong_to, low_port, user};
use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const ACCOUNT_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// An authority with the DNS that it asks, which says 127.0.0.1 of every name.
struct Authority {
    dir: TempDir,
    port: u16,
    /// Where it looks for proofs.
    looks_at: u16,
    processes: Vec<Child>,
}

impl Authority {
    /// `extra` are lines of its configuration. `None` where it is not installed.
    fn start(extra: &str) -> Option<Authority> {
        Authority::looking_at(Port::find().release(), extra)
    }

    /// One that looks for proofs at this port.
    fn looking_at(looks_at: u16, extra: &str) -> Option<Authority> {
        if Command::new("pebble").arg("-h").output().is_err() {
            let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|value| value == "1");
            assert!(!required, "pebble is not installed");
            println!("skipped: pebble is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // Users who are not root read its certificate.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        let [port, manage, dns, dns_manage] = std::array::from_fn(|_| Port::find().release());
        let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        fs::write(dir.path().join("cert.pem"), pair.cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "127.0.0.1:{port}",
                "managementListenAddress": "127.0.0.1:{manage}",
                "certificate": "cert.pem",
                "privateKey": "key.pem",
                {extra}
                "httpPort": {looks_at},
                "tlsPort": {looks_at}
            }}}}"#
        );
        fs::write(dir.path().join("config.json"), config).unwrap();
        let mut authority = Authority { dir, port, looks_at, processes: Vec::new() };
        let dns = format!("127.0.0.1:{dns}");
        let manage = format!("127.0.0.1:{dns_manage}");
        authority.run(&[
            "pebble-challtestsrv",
            "-dns01",
            &dns,
            "-management",
            &manage,
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        authority.run(&["pebble", "-config", "config.json", "-dnsserver", &dns]);
        for port in [dns_manage, port] {
            let begun = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            wait_until("the authority listens", begun);
        }
        Some(authority)
    }

    fn run(&mut self, words: &[&str]) {
        let log = File::create(self.dir.path().join(format!("{}.log", words[0]))).unwrap();
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env("PEBBLE_VA_NOSLEEP", "1")
            // By itself it refuses one good nonce of twenty; the library tries three times only.
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn();
        self.processes.push(child.unwrap());
    }

    /// A server's settings to have its certificate from here.
    fn settings(&self, challenge: &str, listen: u16, more: &str) -> String {
        format!(
            "[acme]\ndirectory = \"https://127.0.0.1:{}/dir\"\nca_file = \"{}\"\n\
             domains = [\"mx.local.example\", \"local.example\"]\ncontact = [\"a@local.example\"]\n\
             challenge = \"{challenge}\"\nlisten = [\"127.0.0.1:{listen}\"]\nterms_agreed = true\n\
             {more}",
            self.port,
            self.dir.path().join("cert.pem").display(),
        )
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("pebble.log")).unwrap_or_default();
            println!("---- the authority\n{log}");
        }
    }
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if holds() {
            return;
        }
        std::thread::park_timeout(PAUSE);
    }
    panic!("it never came that {what}");
}

/// Who signed the certificate that a client of IMAP is shown, in the words of openssl.
fn shown(port: u16) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-starttls", "imap", "-servername", "mx.local.example", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn certificate(server: &Server) -> String {
    fs::read_to_string(server.data_dir().join("tls/acme.pem")).unwrap_or_default()
}

/// As if the last try had been long ago.
fn forget_tries(server: &Server) {
    let state = r#"{"at":0,"failures":0,"why":"","next":0}"#;
    fs::write(server.data_dir().join("tls/acme-state.json"), state).unwrap();
}

#[test]
fn a_certificate_is_handed_out_kept_and_renewed_when_it_is_wished() {
    let Some(authority) = Authority::start("") else { return };
    let mut server = Server::set_up(&authority.settings("http-01", authority.looks_at, ""));
    server.start();
    let log = server.await_log(&["event=certificate_issued"]);
    assert!(log.contains("names=\"mx.local.example local.example\""), "{log}");
    let listed = server.pombal(&["--json", "cert", "list"], "");
    let rows: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut names: Vec<&str> =
        rows[0]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["local.example", "mx.local.example"], "{listed}");
    assert_eq!(rows[0]["problem"], serde_json::Value::Null, "{listed}");
    for entry in fs::read_dir(server.data_dir().join("tls")).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_str().unwrap().starts_with("acme") {
            continue;
        }
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    let first = certificate(&server);
    assert!(first.contains("PRIVATE KEY") && first.matches("BEGIN CERTIFICATE").count() >= 2);

    // Clients are shown it without a restart.
    wait_until("clients are shown it", || shown(server.imap()).contains("Pebble"));

    // The authority is spared those who ask again and again.
    let refused = server.try_pombal(&["cert", "renew"], "");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && why.contains("a moment ago"), "{why}");
    forget_tries(&server);
    server.restart();
    server.pombal(&["cert", "renew"], "");
    let second = certificate(&server);
    assert_ne!(first, second);
    // What is good and there is not asked for: the next life begins with it.
    forget_tries(&server);
    server.restart();
    server.pombal(&["user", "list"], "");
    assert_eq!(certificate(&server), second);
    server.stop();
    let stopped = server.try_pombal(&["cert", "renew"], "");
    assert!(String::from_utf8_lossy(&stopped.stderr).contains("no server runs"));
}

/// The proof is shown on a port that only root may bind, by a server that is root no more, and so it is
/// once more a life later.
#[test]
fn a_server_that_is_root_no_more_has_its_certificate_too() {
    let Some(uid) = user() else { return };
    let low = low_port();
    for challenge in ["http-01", "tls-alpn-01"] {
        let Some(authority) = Authority::looking_at(low, "") else { return };
        let settings = authority.settings(challenge, low, "");
        let mut server = Server::set_up_openly(&format!("user = \"{USER}\"\n"), &settings);
        server.start();
        server.await_log(&["event=privileges_dropped"]);
        server.await_log(&["event=certificate_issued"]);
        wait_until("clients are shown it", || shown(server.imap()).contains("Pebble"));
        assert_all_belong_to(uid, &server.data_dir());
        let first = certificate(&server);
        server.stop();
        forget_tries(&server);
        chown(server.data_dir().join("tls/acme-state.json"), Some(uid), None).unwrap();
        server.start();
        server.pombal(&["cert", "renew"], "");
        assert_ne!(certificate(&server), first);
        assert_all_belong_to(uid, &server.data_dir());
        server.stop();
    }
}

#[test]
fn a_certificate_is_renewed_with_a_third_of_its_life_left_and_for_other_domains_at_once() {
    let Some(authority) = Authority::start("\"certificateValidityPeriod\": 12,") else { return };
    let mut server = Server::set_up(&authority.settings("http-01", authority.looks_at, ""));
    server.start();
    server.await_log(&["event=certificate_issued"]);
    let first = certificate(&server);
    forget_tries(&server);
    server.restart();
    wait_until("the certificate is another", || certificate(&server) != first);
    // No other within the hour, however short its life.
    let noted = || -> Option<u64> {
        let state = fs::read_to_string(server.data_dir().join("tls/acme-state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_str(&state).ok()?;
        Some(state["next"].as_u64()? - state["at"].as_u64()?)
    };
    wait_until("the next try is an hour later", || noted() == Some(3_600));
    server.stop();

    forget_tries(&server);
    server.edit("\"local.example\"]", |_| "\"other.example\"]".into());
    server.start();
    server.await_log(&["event=certificate_issued", "other.example"]);
}

#[test]
fn a_proof_that_is_not_found_is_told_with_what_to_do_and_asked_for_later() {
    let Some(authority) = Authority::start("") else { return };
    let elsewhere = Port::find().release();
    let mut server = Server::set_up(&authority.settings("http-01", elsewhere, ""));
    // So many that the first proof has failed before the last one is shown.
    let names: Vec<String> = (0..48).map(|n| format!("\"n{n}.local.example\"")).collect();
    let names = format!("\"local.example\", {}]", names.join(", "));
    server.edit("\"local.example\"]", |_| names.clone());
    server.start();
    let log = server.await_log(&["event=acme_failed"]);
    for word in ["local.example: ", "port 80 of every address", "failures=1", "again_in="] {
        assert!(log.contains(word), "{word}: {log}");
    }
    let listed = server.pombal(&["cert", "list"], "");
    assert!(listed.contains("did not find the proof") && listed.contains("again at"), "{listed}");
    // A server that is started again and again asks no sooner.
    let state = || fs::read_to_string(server.data_dir().join("tls/acme-state.json")).unwrap();
    let before = state();
    assert!(before.contains("\"failures\":1"), "{before}");
    for _ in 0..2 {
        server.restart();
        let refused = server.try_pombal(&["cert", "renew"], "");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("a moment ago"));
    }
    let after = fs::read_to_string(server.data_dir().join("tls/acme-state.json")).unwrap();
    assert_eq!(before, after);
}

#[test]
fn proves_by_tls_for_an_account_that_the_authority_knows() {
    let extra = format!(
        "\"externalAccountBindingRequired\": true, \
         \"externalAccountMACKeys\": {{\"kid-1\": \"{ACCOUNT_KEY}\"}},"
    );
    let Some(authority) = Authority::start(&extra) else { return };
    let settings = |more: &str| authority.settings("tls-alpn-01", authority.looks_at, more);
    let mut server = Server::set_up(&settings(""));
    server.start();
    let log = server.await_log(&["event=acme_failed"]);
    assert!(log.contains("acme.external_account"), "{log}");
    server.stop();

    let key = authority.dir.path().join("account.key");
    fs::write(&key, format!("{ACCOUNT_KEY}\n")).unwrap();
    let more = format!("external_account = \"kid-1\"\nexternal_key_file = \"{}\"\n", key.display());
    let mut server = Server::set_up(&settings(&more));
    server.start();
    server.await_log(&["event=certificate_issued"]);
    assert!(certificate(&server).contains("BEGIN CERTIFICATE"));
}
