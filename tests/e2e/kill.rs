//! A server that is killed, or told to stop, in the middle of its work keeps every promise.
//!
//! `loadgen audit` sends with 64 sessions and writes down every 250, and beside it another acts over
//! IMAP with 8 and writes down every OK; the server ends at a moment nobody chose and comes back;
//! then every maildrop and every mailbox is read. Nothing acknowledged may be missing, doubled or
//! changed. `KILL_ROUNDS` says how often (3); `SEED` repeats the moments.

use crate::client::{Maildrop, smtp, without_trace};
use crate::harness::{PASSWORD, PATIENCE, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
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
    let mut moment = moments(seed, MOMENTS);
    let names: Vec<String> = (0..USERS).map(|user| format!("user{user:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut done = 0;
    while done < rounds {
        let mut server = Server::with_users("", &names);
        for _ in 0..ROUNDS_PER_STORE.min(rounds - done) {
            let at = moment();
            round(&mut server, &loadgen, at, end_and_start);
            let verdicts = Audit::ALL.map(|audit| audit.verify(&server, &loadgen));
            let verdict = verdicts.join(" ");
            done += 1;
            println!("round {done}, {how} after {} ms: {verdict}", at.as_millis());
        }
        server.stop();
        let verified = server.pombal(&["store", "verify"], "");
        println!("store verify: {}", verified.replace('\n', " "));
    }
}

/// Load, in the middle of which the server ends and comes back.
fn round(server: &mut Server, loadgen: &Path, at: Duration, end_and_start: fn(&mut Server)) {
    let mut loads = Audit::ALL.map(|audit| audit.send(server, loadgen));
    // Nothing comes this early; the wait is the moment.
    if let Ok(said) = loads[0].ended.recv_timeout(at) {
        panic!("the load ended by itself: {said}");
    }
    if let Ok(said) = loads[1].ended.try_recv() {
        panic!("the load over IMAP ended by itself: {said}");
    }
    end_and_start(server);
    for load in &mut loads {
        load.end();
    }
    server.assert_alive();
}

/// What a round does and reads back. Each has a journal of its own; they share the users, but no
/// mailbox.
#[derive(Clone, Copy, Debug)]
enum Audit {
    /// SMTP, and POP3 that deletes.
    Mail,
    /// APPEND, COPY, MOVE, STORE and EXPUNGE.
    Imap,
}

impl Audit {
    const ALL: [Audit; 2] = [Audit::Mail, Audit::Imap];

    /// Begins to send.
    fn send(self, server: &Server, loadgen: &Path) -> Load {
        let report = server.dir().join(format!("sent {self:?}"));
        let out = fs::File::create(&report).unwrap();
        let mut sending = self
            .command(server, loadgen, "send")
            .args(["--duration", &format!("{}ms", LOAD.as_millis()), "--size", "4K", "--quiet"])
            .stdout(out)
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
        Load { sending, ended, report }
    }

    /// What the journal and the mailboxes say together, as one line of JSON.
    fn verify(self, server: &Server, loadgen: &Path) -> String {
        let mut command = self.command(server, loadgen, "verify");
        let output = command.args(["--json", "--quiet"]).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        assert!(status.success(), "audit verify, {self:?}: {status}\n{shown}\n{said}");
        // All recipients are users: whoever is refused was asked before the server knew them.
        assert!(shown.contains("\"refused\":0,"), "{shown}");
        shown
    }

    fn command(self, server: &Server, loadgen: &Path, phase: &str) -> Command {
        let journal = server.dir().join(format!("journal {self:?}"));
        let mut command = Command::new(loadgen);
        command
            .args(["audit", "--phase", phase, "--password", PASSWORD])
            .args(["--users", &USERS.to_string(), "--user-format", "user%04d@local.example"])
            .arg("--journal")
            .arg(journal);
        let local = |port: u16| format!("127.0.0.1:{port}");
        match self {
            Audit::Mail => {
                let (smtp, pop3) = (local(server.smtp()), local(server.pop3()));
                command.args(["--smtp", &smtp, "--pop3", &pop3, "--sessions", "64"]);
                if phase == "send" {
                    command.args(["--pop3-delete", "2"]);
                }
            }
            Audit::Imap => {
                command.args(["--imap", &local(server.imap()), "--sessions", "8"]);
            }
        }
        command
    }
}

/// An audit that sends.
struct Load {
    sending: Child,
    /// What it said on stderr, at its end.
    ended: Receiver<String>,
    report: PathBuf,
}

impl Load {
    /// Waits for its end, which is a good one.
    fn end(&mut self) {
        let said = self.ended.recv_timeout(PATIENCE);
        if said.is_err() {
            self.sending.kill().unwrap();
        }
        let status = self.sending.wait().unwrap();
        let said = said.expect("the load comes to its end");
        assert!(status.success(), "audit send: {status}\n{said}");
        let sent = fs::read_to_string(&self.report).unwrap();
        // A server that dies breaks connections; one that lives answers them all.
        assert!(!sent.contains("\"timeout\""), "somebody was left without an answer: {sent}");
    }
}

/// Times from this range of milliseconds, as a seed has it.
pub(crate) fn moments(seed: u64, range: std::ops::Range<u64>) -> impl FnMut() -> Duration {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_millis(range.start + random % (range.end - range.start))
    }
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// `LOADGEN`, or the one beside the server's binary, built if it is not there.
pub(crate) fn loadgen() -> PathBuf {
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
