//! Logins by token over real sockets: an authorization server (`idp.py`), curl, and raw dialogs.
//!
//! Needs python3 with PyJWT, and curl; `CLIENTS_REQUIRED=1` makes it a failure that they are not there.

use crate::client::Link;
use crate::harness::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const ISSUER: &str = "https://idp.example";
const SECRET: &str = "a secret: with %, + and /";
/// Cheap hashes, and tokens in clear as well.
const OPEN: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n";
/// Failures that cost nothing.
const FREE: &str =
    "free_failures = 1000\nfree_network_failures = 1000\nfree_account_failures = 1000\n";
/// Neither passwords nor tokens in clear.
const CLOSED: &str = "[auth]\nargon2_memory = \"8K\"\nargon2_passes = 1\n";

/// An authorization server.
struct Idp {
    dir: TempDir,
    child: Child,
    says: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    url: String,
}

impl Idp {
    fn start(by_tls: bool) -> Option<Idp> {
        let there = |program: &str, words: &[&str]| {
            let tried = Command::new(program).args(words).output();
            tried.is_ok_and(|output| output.status.success())
        };
        if !there("python3", &["-c", "import jwt, cryptography"]) || !there("curl", &["--version"])
        {
            let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|value| value == "1");
            assert!(!required, "PyJWT or curl is not installed");
            println!("skipped: PyJWT or curl is not installed");
            return None;
        }
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/idp.py");
        let mut command = Command::new("python3");
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        if by_tls {
            let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
            let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
            fs::write(&cert, pair.cert.pem()).unwrap();
            fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
            command.args([cert, key]);
        }
        fs::write(dir.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut output = BufReader::new(output);
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        let scheme = if by_tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}", port.trim());
        Some(Idp { dir, child, says: RefCell::new((input, output)), url })
    }

    fn ask(&self, wish: &Value) -> Value {
        let mut says = self.says.borrow_mut();
        writeln!(says.0, "{wish}").unwrap();
        let mut line = String::new();
        says.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// A signed token of this user, with these claims instead.
    fn token(&self, user: &str, alg: &str, instead: &Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": "mail", "exp": 4_000_000_000_u64, "scope": "openid mail",
            "email": user, "email_verified": true,
        });
        for (name, value) in instead.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = self.ask(&json!({"sign": claims, "alg": alg}));
        token.as_str().unwrap().to_owned()
    }

    /// How often this path was asked for.
    fn asked(&self, path: &str) -> u64 {
        self.ask(&json!({"asked": null}))[path].as_u64().unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `[auth.oauth]` with keys that are published.
    fn signed(&self) -> String {
        let ca = self.file("cert.pem");
        let ca = if ca.exists() { format!("ca_file = {ca:?}\n") } else { String::new() };
        format!(
            "[auth.oauth]\njwks_url = \"{}/jwks\"\njwks_min_interval = \"1s\"\n{ca}\
             issuers = [\"{ISSUER}\"]\naudiences = [\"mail\"]\nscopes = [\"mail\"]\n\
             openid_configuration = \"{ISSUER}/.well-known/openid-configuration\"\n",
            self.url
        )
    }

    /// `[auth.oauth]` with introspection.
    fn asking(&self) -> String {
        let (url, secret) = (&self.url, self.file("secret"));
        format!(
            "[auth.oauth]\nintrospection_url = \"{url}/introspect\"\nclient_id = \"pombal\"\n\
             client_secret_file = {secret:?}\nscopes = [\"mail\"]\ntimeout = \"30s\"\n"
        )
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// OAUTHBEARER's message, or XOAUTH2's (RFC 7628 §3.1).
fn message(mechanism: &str, user: &str, token: &str) -> String {
    let text = if mechanism == "XOAUTH2" {
        format!("user={user}\x01auth=Bearer {token}\x01\x01")
    } else {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let authzid = if user.is_empty() { String::new() } else { format!("a={user}") };
        format!("n,{authzid},\x01host=mx.local.example\x01port=143\x01auth=Bearer {token}\x01\x01")
    };
    STANDARD.encode(text)
}

/// A dialog in one of the protocols: what the server says of an exchange.
struct Dialog {
    link: Link,
    protocol: &'static str,
}

impl Dialog {
    fn open(server: &Server, protocol: &'static str) -> Dialog {
        let port = match protocol {
            "imap" => server.imap(),
            "pop3" => server.pop3(),
            _ => server.submission(),
        };
        let mut dialog = Dialog { link: Link::connect(port).unwrap(), protocol };
        dialog.line();
        if protocol == "smtp" {
            dialog.link.command("EHLO client.example", 250).unwrap();
        }
        dialog
    }

    fn say(&mut self, line: &str) -> String {
        self.link.send(format!("{line}\r\n")).unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let line = self.link.line().unwrap().unwrap_or_default();
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Logs in, with an initial response or without; what is said to a refused token is answered by
    /// ^A (RFC 7628 §3.2.3). The challenge, if there was one, and the last line.
    fn log_in(&mut self, mechanism: &str, at_once: bool, message: &str) -> (Value, String) {
        let verb = match self.protocol {
            "imap" => "a AUTHENTICATE",
            _ => "AUTH",
        };
        let mut line = if at_once {
            self.say(&format!("{verb} {mechanism} {message}"))
        } else {
            let go = self.say(&format!("{verb} {mechanism}"));
            assert!(["+", "334"].contains(&go.trim_end()), "{go}");
            self.say(message)
        };
        let mut told = Value::Null;
        if let Some(challenge) = line.strip_prefix("+ ").or_else(|| line.strip_prefix("334 ")) {
            told = serde_json::from_slice(&STANDARD.decode(challenge).unwrap()).unwrap();
            line = self.say("AQ==");
        }
        // IMAP tells capabilities in front, or not.
        (told, line)
    }
}

const PROTOCOLS: [&str; 3] = ["imap", "pop3", "smtp"];
const MECHANISMS: [&str; 2] = ["OAUTHBEARER", "XOAUTH2"];

/// What the last line of a login says, in one word of ours.
fn outcome(line: &str) -> &'static str {
    let known = [
        ("a OK", "in"),
        ("+OK", "in"),
        ("235 2.7.0", "in"),
        ("a NO [AUTHENTICATIONFAILED]", "refused"),
        ("-ERR [AUTH] you may not", "foreign"),
        ("-ERR [AUTH]", "refused"),
        ("535 5.7.8 You may not", "foreign"),
        ("535 5.7.8", "refused"),
        ("a NO [AUTHORIZATIONFAILED]", "foreign"),
        ("a NO [UNAVAILABLE]", "later"),
        ("-ERR [SYS/TEMP]", "later"),
        ("454 4.7.0", "later"),
    ];
    let found = known.iter().find(|(start, _)| line.starts_with(start));
    found.unwrap_or_else(|| panic!("what is that: {line}")).1
}

/// The same by one token in each protocol, by each mechanism, in each of the two ways.
#[track_caller]
fn everywhere(server: &Server, user: &str, token: &str, want: &str, told: &str) {
    for protocol in PROTOCOLS {
        for mechanism in MECHANISMS {
            for at_once in [true, false] {
                let mut dialog = Dialog::open(server, protocol);
                let message = message(mechanism, user, token);
                let (error, line) = dialog.log_in(mechanism, at_once, &message);
                let what = format!("{protocol} {mechanism} {at_once}: {line} {error}");
                assert_eq!(outcome(&line), want, "{what}");
                let status = error["status"].as_str().unwrap_or("nothing");
                let status = match status {
                    "401" => "invalid_token",
                    "403" => "insufficient_scope",
                    other => other,
                };
                assert_eq!(status, told, "{what}");
                if told != "nothing" {
                    assert_eq!(error["scope"], "mail", "{what}");
                }
            }
        }
    }
}

/// curl as it is: whether it got in.
fn curl(server: &Server, protocol: &str, extra: &[&str], user: &str, token: &str) -> bool {
    let port = match protocol {
        "imaps" => server.imaps(),
        "pop3s" => server.pop3s(),
        _ => server.submissions(),
    };
    let mail = server.dir().join("mail");
    fs::write(&mail, format!("From: {user}\r\nSubject: by a token\r\n\r\ntext\r\n")).unwrap();
    let mut command = Command::new("curl");
    command.args(["-sS", "-k", "--max-time", "60", "-u", &format!("{user}:")]);
    command
        .args(["--oauth2-bearer", token])
        .args(extra)
        .arg(format!("{protocol}://127.0.0.1:{port}/"));
    if protocol == "smtps" {
        command.args(["--mail-from", user, "--mail-rcpt", user, "--upload-file"]).arg(mail);
    }
    let output = command.output().unwrap();
    // 67: the login was refused.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 67)), "{protocol}: {output:?}");
    code == Some(0)
}

#[test]
fn curl_logs_in_by_signed_tokens_over_tls() {
    let Some(idp) = Idp::start(true) else { return };
    let user = "ann@local.example";
    let good = idp.token(user, "RS256", &json!({}));
    let bad = idp.token(user, "RS256", &json!({"exp": 1_000_000_000}));
    for mechanism in MECHANISMS {
        // curl takes the best that is offered.
        let extra = format!("{CLOSED}mechanisms = [\"{mechanism}\"]\n{}", idp.signed());
        let server = Server::with_users(&extra, &["ann", "bob"]);
        let asked = idp.asked("/jwks");
        for protocol in ["imaps", "pop3s", "smtps"] {
            for extra in [&["--sasl-ir"][..], &[]] {
                let by = |token| curl(&server, protocol, extra, user, token);
                assert!(by(&good), "{protocol} {mechanism} {extra:?}");
                assert!(!by(&bad), "{protocol} {mechanism} {extra:?}: expired");
            }
        }
        for alg in ["PS256", "ES256", "EdDSA"] {
            let token = idp.token(user, alg, &json!({}));
            assert!(curl(&server, "imaps", &[], user, &token), "{alg}");
        }
        // The keys were fetched once for all of them.
        assert_eq!(idp.asked("/jwks") - asked, 1);
        let method = format!("method={mechanism}");
        for protocol in ["protocol=imap", "protocol=pop3", "protocol=smtp"] {
            let user = "user=ann@local.example";
            server.await_log(&["event=login ", &method, protocol, user, "tls=TLSv1.3"]);
            server.await_log(&["event=login_failed", &method, protocol, "why=refused"]);
            server.await_log(&["event=token_refused", protocol, "why=expired"]);
        }
        let log = fs::read_to_string(server.dir().join("log")).unwrap();
        assert!(!log.contains(&good) && !log.contains(&bad), "a token is in the log");
    }
}

/// The authority vouches for him, and he is off here all the same: as one whom nobody knows here.
#[test]
fn a_token_of_who_is_switched_off_is_one_of_nobody() {
    let Some(idp) = Idp::start(false) else { return };
    let server = Server::with_users(&format!("{OPEN}{FREE}{}", idp.signed()), &["ann"]);
    let token = |user: &str| idp.token(user, "RS256", &json!({}));
    let [ann, eve] = [token("ann@local.example"), token("eve@local.example")];
    everywhere(&server, "ann@local.example", &ann, "in", "nothing");
    server.pombal(&["user", "disable", "ann@local.example"], "");
    everywhere(&server, "ann@local.example", &ann, "refused", "invalid_token");
    server.await_log(&["event=login_failed", "user=ann@local.example", "why=disabled"]);
    everywhere(&server, "eve@local.example", &eve, "refused", "invalid_token");
    server.pombal(&["user", "enable", "ann@local.example"], "");
    everywhere(&server, "ann@local.example", &ann, "in", "nothing");
}

#[test]
fn is_offered_where_somebody_judges_and_nobody_listens() {
    let Some(idp) = Idp::start(true) else { return };
    let offers = |server: &Server, protocol| {
        let mut dialog = Dialog::open(server, protocol);
        let mut told = String::new();
        let ask = match protocol {
            "imap" => "a CAPABILITY",
            "pop3" => "CAPA",
            _ => "EHLO again.example",
        };
        dialog.link.send(format!("{ask}\r\n")).unwrap();
        loop {
            let line = dialog.line();
            told.push_str(&line);
            told.push('\n');
            if line == "." || line.starts_with("a OK") || line.starts_with("250 ") {
                break;
            }
        }
        MECHANISMS.map(|mechanism| told.contains(mechanism))
    };
    let refused = |server: &Server, protocol| {
        let mut dialog = Dialog::open(server, protocol);
        let verb = if protocol == "imap" { "a AUTHENTICATE" } else { "AUTH" };
        dialog.say(&format!("{verb} OAUTHBEARER"))
    };
    let server = Server::with_users(&format!("{CLOSED}{}", idp.signed()), &["ann"]);
    for protocol in PROTOCOLS {
        assert_eq!(offers(&server, protocol), [false; 2], "{protocol} in clear");
        let line = refused(&server, protocol);
        assert!(
            ["a NO", "-ERR", "538 5.7.11"].iter().any(|start| line.starts_with(start)),
            "{line}"
        );
    }
    drop(server);
    let server = Server::with_users(&format!("{OPEN}{}", idp.signed()), &["ann"]);
    for protocol in PROTOCOLS {
        assert_eq!(offers(&server, protocol), [true; 2], "{protocol}");
    }
    // As `auth.mechanisms` says, and not at all where nobody judges; both without a restart.
    let only = format!("{OPEN}mechanisms = [\"PLAIN\", \"XOAUTH2\"]\n");
    server.reload(OPEN, &only);
    for protocol in PROTOCOLS {
        while offers(&server, protocol) != [false, true] {}
    }
    server.reload(&idp.signed(), "");
    for protocol in PROTOCOLS {
        while offers(&server, protocol) != [false; 2] {}
        let line = refused(&server, protocol);
        assert!(["a NO", "-ERR", "504"].iter().any(|start| line.starts_with(start)), "{line}");
    }
}

#[test]
fn says_why_a_token_is_refused_and_lets_nobody_in_as_another() {
    let Some(idp) = Idp::start(false) else { return };
    let extra = format!("{OPEN}{FREE}{}", idp.signed());
    let mut server = Server::with_users(&extra, &["ann", "bob"]);
    let ann = "ann@local.example";
    let good = idp.token(ann, "RS256", &json!({}));
    everywhere(&server, ann, &good, "in", "nothing");
    everywhere(&server, "ANN@LOCAL.EXAMPLE", &good, "in", "nothing");
    everywhere(&server, "bob@local.example", &good, "foreign", "invalid_token");
    everywhere(&server, "nobody@local.example", &good, "foreign", "invalid_token");
    for (instead, told) in [
        (json!({"exp": 1_000_000_000}), "invalid_token"),
        (json!({"aud": "calendar"}), "invalid_token"),
        (json!({"iss": "https://evil.example"}), "invalid_token"),
        (json!({"email_verified": false}), "invalid_token"),
        (json!({"email_verified": null}), "invalid_token"),
        (json!({"email": "nobody@local.example"}), "invalid_token"),
        (json!({"scope": "openid"}), "insufficient_scope"),
    ] {
        let token = idp.token(ann, "ES256", &instead);
        everywhere(&server, ann, &token, "refused", told);
    }
    everywhere(&server, ann, "an-opaque-one", "refused", "invalid_token");

    // The token alone says who it is; without one a client hears where there are some.
    let mut dialog = Dialog::open(&server, "imap");
    let (_, line) = dialog.log_in("OAUTHBEARER", true, &message("OAUTHBEARER", "", &good));
    assert_eq!(outcome(&line), "in");
    let mut dialog = Dialog::open(&server, "smtp");
    let (told, line) =
        dialog.log_in("OAUTHBEARER", false, &STANDARD.encode("n,,\x01auth=\x01\x01"));
    assert_eq!(outcome(&line), "refused");
    let openid = format!("{ISSUER}/.well-known/openid-configuration");
    assert_eq!(told["openid-configuration"], openid);
    // The session goes on, and the client may give up instead of answering.
    let bad = message("XOAUTH2", ann, "a.b.c");
    assert!(dialog.say(&format!("AUTH XOAUTH2 {bad}")).starts_with("334 "));
    assert!(dialog.say("*").starts_with("501 "));
    let (_, line) = dialog.log_in("XOAUTH2", true, &message("XOAUTH2", ann, &good));
    assert_eq!(outcome(&line), "in");

    // Tokens of some length, as they are with many groups in them.
    let long = idp.token(ann, "RS256", &json!({"groups": vec!["a group of some length"; 200]}));
    assert!(long.len() > 6_000);
    everywhere(&server, ann, &long, "in", "nothing");

    // A token that is remembered is of no use to somebody who is gone.
    server.pombal(&["user", "del", ann], "");
    everywhere(&server, ann, &good, "refused", "invalid_token");
    server.assert_alive();
}

#[test]
fn keys_are_exchanged_and_strangers_do_not_make_us_ask() {
    let Some(idp) = Idp::start(true) else { return };
    let extra = format!("{OPEN}{FREE}{}", idp.signed());
    let server = Server::with_users(&extra, &["ann"]);
    let ann = "ann@local.example";
    let log_in = |token: &str| {
        let mut dialog = Dialog::open(&server, "pop3");
        let (_, line) = dialog.log_in("XOAUTH2", true, &message("XOAUTH2", ann, token));
        outcome(&line)
    };
    let old = idp.token(ann, "RS256", &json!({}));
    assert_eq!(log_in(&old), "in");
    idp.ask(&json!({"rotate": "second"}));
    let new = idp.token(ann, "RS256", &json!({}));
    // At the latest when the pause since the last fetch is over.
    while log_in(&new) != "in" {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    // The same names for other keys.
    idp.ask(&json!({"rotate": "second"}));
    let new = idp.token(ann, "PS256", &json!({}));
    while log_in(&new) != "in" {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    // What is not published any more is no key, but for those whose token is remembered.
    let other = idp.token(ann, "ES256", &json!({}));
    assert_eq!(log_in(&other), "in");
    // While they cannot be had, those there are go on.
    idp.ask(&json!({"status": 500}));
    let third = idp.token(ann, "EdDSA", &json!({}));
    assert_eq!(log_in(&third), "in");
    idp.ask(&json!({"status": 0}));

    // However many keys strangers name, they are fetched once in a while only.
    server.reload("jwks_min_interval = \"1s\"", "jwks_min_interval = \"1h\"");
    let before = idp.asked("/jwks");
    let unknown = idp.ask(&json!({"sign": {}, "headers": {"kid": "nobody's"}}));
    // Twice it is looked for; then nobody knows it, and that is not held against whoever names it.
    let mut later = 0;
    while idp.asked("/jwks") == before || later < 50 {
        match log_in(unknown.as_str().unwrap()) {
            "refused" => later = 0,
            said => {
                assert_eq!(said, "later");
                later += 1;
            }
        }
    }
    assert!(idp.asked("/jwks") - before <= 5, "{}", idp.asked("/jwks"));
}

#[test]
fn who_made_a_token_is_asked_once_and_trouble_is_for_now() {
    let Some(idp) = Idp::start(false) else { return };
    let extra = format!("{OPEN}{FREE}{}", idp.asking());
    let server = Server::with_users(&extra, &["ann", "bob"]);
    let ann = "ann@local.example";
    let grant = |token: &str, mut answer: Value| {
        if let Some(claims) = answer.as_object_mut() {
            claims.insert("email_verified".into(), json!(true));
        }
        idp.ask(&json!({"grant": token, "answer": answer}))
    };
    grant(
        "good+/=",
        json!({"active": true, "scope": "mail", "email": ann, "exp": 4_000_000_000_u64}),
    );
    everywhere(&server, ann, "good+/=", "in", "nothing");
    let asked = idp.asked("/introspect");
    assert!((1..=2).contains(&asked), "once for each of two shards: {asked}");
    everywhere(&server, "bob@local.example", "good+/=", "foreign", "invalid_token");
    everywhere(&server, ann, "unknown", "refused", "invalid_token");
    assert!(idp.asked("/introspect") <= 4, "what is refused is remembered too");
    for (token, answer, told) in [
        ("inactive", json!({"active": false, "email": ann, "scope": "mail"}), "invalid_token"),
        ("over", json!({"active": true, "email": ann, "scope": "mail", "exp": 1}), "invalid_token"),
        ("small", json!({"active": true, "email": ann, "scope": "calendar"}), "insufficient_scope"),
        ("nobody's", json!({"active": true, "scope": "mail"}), "invalid_token"),
    ] {
        let token = token.replace('\'', "-");
        grant(&token, answer);
        everywhere(&server, ann, &token, "refused", told);
    }

    // Neither what fails nor what makes no sense says anything of a token.
    idp.ask(&json!({"status": 503}));
    everywhere(&server, ann, "fresh", "later", "nothing");
    everywhere(&server, ann, "good+/=", "in", "nothing");
    let log = server.await_log(&["event=oauth_unreachable"]);
    assert!(log.contains("it answers 503") && log.contains("/introspect"), "{log}");
    assert!(server.figure("pombal_oauth_unreachable_total") > 0);
    idp.ask(&json!({"status": 0}));
    for answer in [json!({}), json!({"active": "true"}), json!([true])] {
        grant("odd", answer);
        everywhere(&server, ann, "odd", "later", "nothing");
    }
    grant("fresh", json!({"active": true, "scope": "mail", "email": ann}));
    everywhere(&server, ann, "fresh", "in", "nothing");

    // Another secret: refused there, and mended without a restart.
    fs::write(idp.file("secret"), "wrong").unwrap();
    server.reload_as_it_is();
    let log_in = || {
        let mut dialog = Dialog::open(&server, "imap");
        outcome(&dialog.log_in("OAUTHBEARER", true, &message("OAUTHBEARER", ann, "good+/=")).1)
    };
    // Each shard as soon as it has heard; what was found by other settings is forgotten.
    while log_in() != "later" {}
    server.await_log(&["event=oauth_unreachable", "it answers 401"]);
    let doctor = server.try_pombal(&["doctor"], "");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("change  oauth") && said.contains("401"), "{said}");
    fs::write(idp.file("secret"), SECRET).unwrap();
    server.reload_as_it_is();
    while log_in() != "in" {}
    let doctor = server.try_pombal(&["doctor"], "");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("ok      oauth") && said.contains("/introspect answers"), "{said}");
}

/// Who gives up, or says what is no answer, when he hears that his token is bad, has failed to log in as one
/// has who answers.
#[test]
fn an_exchange_that_breaks_off_at_a_refusal_is_a_failed_login() {
    let Some(idp) = Idp::start(false) else { return };
    let server = Server::with_users(&format!("{OPEN}{FREE}{}", idp.signed()), &["ann"]);
    let ann = "ann@local.example";
    let bad = idp.token(ann, "RS256", &json!({"exp": 1}));
    for (protocol, most) in [("imap", 3), ("pop3", 5), ("smtp", 5)] {
        for answer in ["*", "no base64", &"A".repeat(20_001)] {
            let mut dialog = Dialog::open(&server, protocol);
            let verb = if protocol == "imap" { "a AUTHENTICATE" } else { "AUTH" };
            for count in 1..=most {
                let told = dialog
                    .say(&format!("{verb} OAUTHBEARER {}", message("OAUTHBEARER", ann, &bad)));
                assert!(["+ ", "334 "].iter().any(|start| told.starts_with(start)), "{told}");
                let said = dialog.say(answer);
                let kind = ["a BAD", "-ERR", "50"].iter().any(|start| said.starts_with(start));
                assert!(kind, "{protocol} {count}: {said}");
            }
            let last = dialog.line();
            let is_over = ["* BYE", "421 4.7.0"].iter().any(|start| last.starts_with(start));
            assert!(is_over || (protocol == "pop3" && last.is_empty()), "{protocol}: {last}");
        }
    }
}

#[test]
fn check_names_what_is_wrong_with_the_section() {
    let Some(idp) = Idp::start(false) else { return };
    let wrong = |extra: &str, words: &[&str]| {
        let server = Server::set_up(&format!("{OPEN}{extra}"));
        let output = server.try_pombal(&["check"], "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{extra}\n{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    let head = "[auth.oauth]\n";
    wrong(
        &format!("{head}introspection_url = \"http://idp.example/i\"\n"),
        &["`auth.oauth.introspection_url` cannot be", "an https URL"],
    );
    wrong(
        &format!("{head}introspection_url = \"https://idp.example/i\"\nclient_id = \"a\"\n"),
        &["`auth.oauth.client_secret_file` is missing"],
    );
    let open = idp.asking().replace("scopes = [\"mail\"]\n", "");
    wrong(&open, &["`auth.oauth.audiences` is missing", "[\"*\"] takes those for anybody"]);
    wrong(&format!("{open}audiences = [\"*\", \"mail\"]\n"), &["\"*\" among others"]);
    let signed = idp.signed().replace("[\"mail\"]\nscopes", "[\"*\"]\nscopes");
    wrong(&signed, &["for signed tokens"]);
    let server = Server::set_up(&format!("{OPEN}{open}audiences = [\"*\"]\n"));
    assert!(server.try_pombal(&["check"], "").status.success());
    wrong(
        &format!("{head}jwks_url = \"https://idp.example/jwks\"\n"),
        &["`auth.oauth.issuers` is missing", "`auth.oauth.audiences` is missing"],
    );
    wrong(&format!("{head}issuers = [\"a\"]\n"), &["names nobody who judges tokens"]);
    wrong(
        &idp.signed().replace("[auth.oauth]", "mechanisms = [\"PLAIN\"]\n[auth.oauth]"),
        &["of no use"],
    );
    wrong(&format!("{}algorithms = [\"none\"]\n", idp.signed()), &["\"none\" is no algorithm"]);
    wrong(&format!("{}algorithms = [\"HS256\"]\n", idp.signed()), &["no secret for it"]);
    wrong(&format!("{}jwks_files = \"a\"\n", idp.signed()), &["did you mean `jwks_file`"]);
    fs::write(idp.file("secret"), "").unwrap();
    wrong(&idp.asking(), &["no secret of a client"]);
    fs::write(idp.file("jwks"), r#"{"keys": []}"#).unwrap();
    let file = format!("{}jwks_file = {:?}\n", idp.signed(), idp.file("jwks"));
    wrong(&file, &["no key in it"]);
    let several = format!("issuers = [\"{ISSUER}\", \"https://other.example\"]");
    wrong(
        &file.replace(&format!("issuers = [\"{ISSUER}\"]"), &several),
        &["several issuers and two sources of keys"],
    );
    wrong(
        &format!("{}ca_file = \"/etc/hostname\"\n", idp.signed()),
        &["no certificate in PEM form"],
    );
}
