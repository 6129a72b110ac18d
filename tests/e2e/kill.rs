//! A server that is killed, or told to stop, in the middle of its work keeps every promise.
//!
//! `loadgen audit` sends with 64 sessions and writes down every 250; the server ends at a moment
//! nobody chose and comes back; then every maildrop is read. Nothing acknowledged may be missing,
//! doubled or changed. `KILL_ROUNDS` says how often (3); `SEED` repeats the moments.

use crate::client::{Maildrop, smtp, without_trace};
use crate::harness::{PASSWORD, PATIENCE, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

const USERS: usize = 32;
/// Rounds on one store: reading it all back takes longer with each.
const ROUNDS_PER_STORE: u64 = 5;
/// How long the load of a round lasts.
const LOAD: Duration = Duration::from_millis(1_500);
/// The moments at which the server ends, in milliseconds after the load has begun.
const MOMENTS: std::ops::Range<u64> = 50..1_200;

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let rounds = number("KILL_ROUNDS").unwrap_or(3);
    run(rounds, "kill -9", |server| {
        server.kill9();
        server.start();
    });
}

#[test]
fn nothing_is_lost_by_a_stop_in_the_middle_of_the_load() {
    let rounds = number("KILL_ROUNDS").unwrap_or(3).div_ceil(3);
    run(rounds, "SIGTERM", Server::restart);
}

#[test]
fn a_message_under_way_is_taken_before_the_server_stops() {
    let mut server = Server::with_users("", &["a", "b"]);
    let mut sending = smtp(server.smtp(), "EHLO").unwrap();
    sending.command("MAIL FROM:<>", 250).unwrap();
    sending.command("RCPT TO:<a@local.example>", 250).unwrap();
    sending.command("RCPT TO:<b@local.example>", 250).unwrap();
    sending.command("DATA", 354).unwrap();
    sending.send("Subject: under way\r\n\r\n").unwrap();
    let mut idle = smtp(server.smtp(), "EHLO").unwrap();
    let mut reading = Maildrop::open(server.pop3(), "a", false).unwrap();
    server.tell_to_stop();
    // Who is in the middle of nothing hears of it, and so do we.
    idle.expect(421).unwrap();
    assert_eq!(idle.rest().unwrap(), b"");
    assert_eq!(reading.link.rest().unwrap(), b"");
    sending.send("the rest\r\n.\r\n").unwrap();
    sending.expect(250).unwrap();
    sending.expect(421).unwrap();
    server.stop();
    server.start();
    for user in ["a", "b"] {
        let mut maildrop = Maildrop::open_filled(server.pop3(), user, 1).unwrap();
        let messages = maildrop.retrieve_all().unwrap();
        let text = messages.first().and_then(|message| without_trace(message));
        assert_eq!(text, Some(&b"Subject: under way\r\n\r\nthe rest\r\n"[..]), "{user}");
        assert_eq!(messages.len(), 1, "{user}");
    }
}

fn run(rounds: u64, how: &str, end_and_start: fn(&mut Server)) {
    let loadgen = loadgen();
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}, {rounds} rounds of {how}");
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut moment = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_millis(MOMENTS.start + random % (MOMENTS.end - MOMENTS.start))
    };
    let names: Vec<String> = (0..USERS).map(|user| format!("user{user:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut done = 0;
    while done < rounds {
        let mut server = Server::with_users("", &names);
        let journal = server.dir().join("journal");
        for _ in 0..ROUNDS_PER_STORE.min(rounds - done) {
            let at = moment();
            round(&mut server, &loadgen, &journal, at, end_and_start);
            let verdict = verify(&server, &loadgen, &journal);
            done += 1;
            println!("round {done}, {how} after {} ms: {verdict}", at.as_millis());
        }
        server.stop();
        let verified = server.pombal(&["store", "verify"], "");
        println!("store verify: {}", verified.replace('\n', " "));
    }
}

/// Load, in the middle of which the server ends and comes back.
fn round(
    server: &mut Server,
    loadgen: &Path,
    journal: &Path,
    at: Duration,
    end_and_start: fn(&mut Server),
) {
    let report = server.dir().join("sent");
    let mut sending = audit(server, loadgen, journal, "send")
        .args([
            "--duration",
            &format!("{}ms", LOAD.as_millis()),
            "--size",
            "4K",
            "--pop3-delete",
            "2",
            "--quiet",
        ])
        .stdout(fs::File::options().create(true).truncate(true).write(true).open(&report).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = sending.stderr.take().unwrap();
    let (tell, ended) = channel();
    // Its stderr ends when it does.
    std::thread::Builder::new()
        .spawn(move || {
            let said = std::io::read_to_string(errors).unwrap_or_default();
            drop(tell.send(said));
        })
        .unwrap();
    // Nothing comes this early; the wait is the moment.
    if let Ok(said) = ended.recv_timeout(at) {
        panic!("the load ended by itself: {said}");
    }
    end_and_start(server);
    let said = ended.recv_timeout(PATIENCE);
    if said.is_err() {
        sending.kill().unwrap();
    }
    let status = sending.wait().unwrap();
    let said = said.expect("the load comes to its end");
    assert!(status.success(), "audit send: {status}\n{said}");
    server.assert_alive();
    let sent = fs::read_to_string(report).unwrap();
    // A server that dies breaks connections; one that lives answers them all.
    assert!(!sent.contains("\"timeout\""), "somebody was left without an answer: {sent}");
}

/// What the journal and the maildrops say together, as one line of JSON.
fn verify(server: &Server, loadgen: &Path, journal: &Path) -> String {
    let output =
        audit(server, loadgen, journal, "verify").args(["--json", "--quiet"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "audit verify: {}\n{shown}\n{said}", output.status);
    // All recipients are users: whoever is refused was asked before the server knew them.
    assert!(shown.contains("\"refused\":0,"), "{shown}");
    shown
}

fn audit(server: &Server, loadgen: &Path, journal: &Path, phase: &str) -> Command {
    let mut command = Command::new(loadgen);
    command
        .args(["audit", "--phase", phase, "--sessions", "64", "--password", PASSWORD])
        .args(["--users", &USERS.to_string(), "--user-format", "user%04d@local.example"])
        .args(["--smtp", &format!("127.0.0.1:{}", server.smtp())])
        .args(["--pop3", &format!("127.0.0.1:{}", server.pop3())])
        .arg("--journal")
        .arg(journal);
    command
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// `LOADGEN`, or the one beside the server's binary, built if it is not there.
fn loadgen() -> PathBuf {
    if let Some(path) = std::env::var_os("LOADGEN") {
        return path.into();
    }
    let dir = Path::new(env!("CARGO_BIN_EXE_pombal")).parent().unwrap();
    let path = dir.join("loadgen");
    // Built each time, so that it is never older than the code; nothing to do most of the time.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "-p", "loadgen", "--target-dir"]);
    build.arg(dir.parent().unwrap());
    if dir.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success() && path.exists(), "no load generator");
    path
}
