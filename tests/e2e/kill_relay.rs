//! A server that is killed while it relays loses nothing that it said 250 to, and sends nothing twice
//! but what may not have arrived.
//!
//! ```text
//!   loadgen relay ── submission ──> server, killed again and again ── Knot: MX ──> loadgen sink
//!        │                             └── mailbox: local copies, reports             │
//!        └── audit <── POP3 ───────────────┘      <── the sink's journal ─────────────┘
//! ```
//!
//! Messages have one to four recipients, of one or several domains, some with one of this server
//! among them. Most hosts of the sink are well, but for a connection that they drop before their
//! answer or in the middle of a message; some are slow, some refuse each recipient, some defer for
//! ever. After the last round the queue drains. Then each recipient of each message that was answered
//! with 250 has arrived, was reported in the sender's mailbox, or stands in the queue; and a message
//! that nobody heard an answer to came to all of its recipients or to none. `KILL_ROUNDS` says how
//! often the server is killed (3); `SEED` repeats the moments.

use crate::harness::{PASSWORD, PATIENCE, Port, Server};
use crate::kill::{loadgen, moments, number};
use crate::knot::Knot;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Rounds on one store: reading it all back takes longer with each.
const ROUNDS_PER_STORE: u64 = 10;
/// The moments at which the server ends, in milliseconds after it was there (again).
const MOMENTS: std::ops::Range<u64> = 50..2_500;
/// What the server had sent when it died is read later, by a slow host much later.
const READ_LATE_US: u128 = 2_000_000;
/// Where the hosts of the four classes are, and how they agree about it. They listen at a port that
/// nobody else has.
const DOMAINS: &str = "--zone relay.test --network 127.200.0.0 --domains 60 --slow 10% --refusing 10% \
     --dead 10% --addresses 20";
/// How the hosts behave, by the second octet of their addresses.
const MANNERS: [(u8, u8, &str); 4] = [
    (
        200,
        20,
        "rule = [\n { at = \"dot\", do = \"drop\", chance = 0.004 },\n\
         { at = \"dot\", do = \"reset\", chance = 0.002 },\n\
         { at = \"body\", do = \"drop\", chance = 0.002 },\n\
         { at = \"dot\", code = 451, chance = 0.01 },\n\
         { at = \"rcpt\", code = 450, text = \"4.2.0 grey\", chance = 0.01 },\n]\n",
    ),
    (201, 6, "delay = \"200ms\"\nrule = [{ at = \"dot\", do = \"drop\", chance = 0.02 }]\n"),
    (202, 6, "rule = [{ at = \"rcpt\", code = 550, text = \"5.1.1 nobody\" }]\n"),
    (203, 6, "rule = [{ at = \"rcpt\", code = 452, text = \"4.2.2 full\" }]\n"),
];

#[test]
fn nothing_relayed_is_lost_by_kill_9() {
    let rounds = number("KILL_ROUNDS").unwrap_or(3);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}, {rounds} rounds of kill -9 while mail is relayed");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let loadgen = loadgen();
    let Some(knot) = Knot::start(folder.path(), &[("relay.test.", &zone(&loadgen))]) else {
        return;
    };
    let sink = Sink::start(folder.path(), &loadgen);
    let mut moment = moments(seed, MOMENTS);
    let mut kills_us = Vec::new();
    let mut done = 0;
    while done < rounds {
        let mut server = set_up(&knot, &sink);
        let mut load = Load::start(&server, &loadgen, &sink, seed.wrapping_add(done));
        for _ in 0..ROUNDS_PER_STORE.min(rounds - done) {
            let at = moment();
            load.goes_on_for(at);
            kills_us.push(wall_us());
            server.kill9();
            server.start();
            done += 1;
            println!("round {done}: kill -9 after {} ms", at.as_millis());
        }
        load.goes_on_for(moment());
        let verdict = load.end();
        server.assert_alive();
        server.stop();
        println!("{verdict}");
        let verified = server.pombal(&["store", "verify"], "");
        println!("store verify: {}", verified.replace('\n', " "));
    }
    sink.end(&kills_us);
}

/// The zone, but for what [`Knot`] says by itself.
fn zone(loadgen: &Path) -> String {
    let output = Command::new(loadgen).arg("zone").args(DOMAINS.split_whitespace()).output();
    let zone = String::from_utf8(output.unwrap().stdout).unwrap();
    let is_ours = |line: &&str| !line.starts_with(['$', '@']) && !line.starts_with("ns ");
    zone.lines().filter(is_ours).fold(String::new(), |all, line| all + line + "\n")
}

/// A server whose mail for anybody here comes to one mailbox.
fn set_up(knot: &Knot, sink: &Sink) -> Server {
    let settings = format!(
        "[submission]\nmessages_per_hour = 0\nmessages_per_day = 0\n\
         recipients_per_hour = 0\nrecipients_per_day = 0\n\
         [dns]\nservers = [\"{}\"]\ntimeout = \"5s\"\ndnssec = \"off\"\n\
         [queue]\nport = {}\nretry = [\"1s\", \"2s\", \"5s\", \"20s\"]\nsite_retry = [\"1s\"]\n",
        knot.address(),
        sink.port.number,
    );
    let server = Server::with_users(&settings, &["inbox"]);
    server.pombal(&["alias", "add", "@local.example", "inbox@local.example"], "");
    server
}

/// As the sink's journal has it.
#[expect(clippy::disallowed_types, reason = "the sink's journal tells time by the wall")]
fn wall_us() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

fn signal(name: &str, child: &Child) {
    let told = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(told.success(), "{name}");
}

/// A process whose output is read while it runs: what it said, at its end.
fn read_in_background(mut from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::Builder::new()
        .spawn(move || {
            let mut all = Vec::new();
            // What came before an error is what there is to show.
            drop(from.read_to_end(&mut all));
            // Whoever started it may have given up.
            drop(tell.send(String::from_utf8_lossy(&all).into_owned()));
        })
        .unwrap();
    told
}

/// What is sent, until it is told to end; then it audits.
struct Load {
    child: Child,
    report: Receiver<String>,
    errors: Receiver<String>,
}

impl Load {
    fn start(server: &Server, loadgen: &Path, sink: &Sink, seed: u64) -> Load {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let config = server.config();
        let queue = format!(
            "'{}' --config '{}' --json queue list --limit 0",
            env!("CARGO_BIN_EXE_pombal"),
            config.display()
        );
        let user = "inbox@local.example";
        let mut child = Command::new(loadgen)
            .arg("relay")
            .args(["--to", &local(server.submission()), "--maildrop", &local(server.pop3())])
            .args(["--user", user, "--password", PASSWORD, "--from", user])
            .args(["--recipients", "1-4", "--local", "30%", "--size", "4K"])
            .args(["--sessions", "32", "--rate", "300/s", "--duration", "1h"])
            .args(["--server-patience", "60s", "--drain", "110s", "--queued-by", &queue])
            .args(["--seed", &seed.to_string(), "--json", "--quiet"])
            .args(DOMAINS.split_whitespace())
            .arg("--sink-journal")
            .arg(&sink.journal)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let report = read_in_background(child.stdout.take().unwrap());
        let errors = read_in_background(child.stderr.take().unwrap());
        Load { child, report, errors }
    }

    /// Nothing comes this early; the wait is the moment.
    fn goes_on_for(&mut self, time: Duration) {
        if let Ok(said) = self.errors.recv_timeout(time) {
            panic!("the load ended by itself: {said}");
        }
    }

    /// Ends the sending; what the audit says when the queue has drained.
    fn end(mut self) -> String {
        signal("-INT", &self.child);
        let report = self.report.recv_timeout(PATIENCE * 2);
        if report.is_err() {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let said = self.errors.recv_timeout(PATIENCE).unwrap_or_default();
        let report = report.expect("the load comes to its end");
        assert!(status.success(), "loadgen relay: {status}\n{report}\n{said}");
        let all: Value = serde_json::from_str(&report).unwrap();
        let relay = &all["relay"];
        assert_eq!(relay["refused"], 0, "all recipients are taken: {report}");
        assert_eq!(relay["refused_arrived"], 0, "{report}");
        let classes = &relay["classes"];
        for (class, end) in [
            ("local", "arrived"),
            ("live", "arrived"),
            ("slow", "arrived"),
            ("refusing", "bounced"),
            ("dead", "queued"),
        ] {
            let of = &classes[class];
            assert!(of["acknowledged"].as_u64() > Some(0), "{class}: {report}");
            assert_eq!(of["acknowledged"], of[end], "{class}: {report}");
        }
        let mut shown = String::new();
        for figure in ["acknowledged", "arrived", "bounced", "queued", "unknown", "unknown_arrived"]
        {
            write!(shown, "{figure} {} ", relay[figure]).unwrap();
        }
        shown + &format!("doubled {}", relay["doubled"])
    }
}

/// Where mail goes.
struct Sink {
    child: Child,
    report: Receiver<String>,
    journal: PathBuf,
    port: Port,
}

impl Sink {
    fn start(folder: &Path, loadgen: &Path) -> Sink {
        let (port, journal) = (Port::find(), folder.join("journal"));
        let mut profile = String::from(
            "[default]\nextensions = [\"PIPELINING\", \"SIZE 104857600\", \"8BITMIME\", \"SMTPUTF8\", \
             \"DSN\", \"ENHANCEDSTATUSCODES\", \"CHUNKING\"]\n",
        );
        for (network, hosts, manners) in MANNERS {
            let port = port.number;
            write!(
                profile,
                "[[site]]\nname = \"mx.sink.test\"\n\
                 listen = [\"127.{network}.0.1-127.{network}.0.{hosts}:{port}\"]\n{manners}"
            )
            .unwrap();
        }
        let path = folder.join("profile.toml");
        fs::write(&path, profile).unwrap();
        let mut child = Command::new(loadgen)
            .args(["sink", "--quiet", "--json", "--allow-errors", "--profile"])
            .arg(path)
            .arg("--journal")
            .arg(&journal)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        errors.read_line(&mut first).unwrap();
        let report = read_in_background(child.stdout.take().unwrap());
        if !first.starts_with("loadgen: sink at") {
            errors.read_to_string(&mut first).unwrap();
            panic!("no sink: {first}");
        }
        drop(read_in_background(errors));
        Sink { child, report, journal, port }
    }

    /// Ends it, and looks at all it took: nothing was changed, and whatever came twice came again
    /// because the sink had not answered, or because the server was killed in between.
    fn end(mut self, kills_us: &[u128]) {
        signal("-TERM", &self.child);
        let report = self.report.recv_timeout(PATIENCE).unwrap();
        assert!(self.child.wait().unwrap().success());
        let report: Value = serde_json::from_str(&report).unwrap();
        for nothing in ["changed", "foreign", "timeouts"] {
            assert_eq!(report[nothing], 0, "{nothing}: {report}");
        }
        for nothing in ["faults", "notes"] {
            let is_empty = report[nothing].as_object().is_none_or(serde_json::Map::is_empty)
                && report[nothing].as_array().is_none_or(Vec::is_empty);
            assert!(is_empty, "{nothing}: {report}");
        }
        let doubles = Doubles::read(&fs::read_to_string(&self.journal).unwrap(), kills_us);
        println!("{doubles:?}; the sink let connections fail: {}", report["failings"]);
        let told = &report["doubled"];
        assert_eq!(told["answer_heard"], 0, "{report}");
        let told = told["answer_lost"].as_u64().unwrap() + told["broke_off"].as_u64().unwrap();
        assert_eq!(told, doubles.not_answered + doubles.killed);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It has ended already, where all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Run, number of the message, recipient.
type What<'j> = (&'j str, &'j str, &'j str);
/// The sink's number for it, and when it was there.
type Came<'j> = (&'j str, u128);

/// Copies that came again, by what became of the copy before.
#[derive(Debug, Default)]
struct Doubles {
    /// The sink did not send its answer.
    not_answered: u64,
    /// The sink answered, and the server was killed before it wrote that down.
    killed: u64,
}

impl Doubles {
    fn read(journal: &str, kills_us: &[u128]) -> Doubles {
        let mut lost: Vec<&str> = Vec::new();
        let mut copies: BTreeMap<What<'_>, Vec<Came<'_>>> = BTreeMap::new();
        for line in journal.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["L", id] => lost.push(id),
                ["T", id, at_us, _, _, run, seq, _, "m", recipients, _] => {
                    for recipient in recipients.split(',') {
                        let copy = (id, at_us.parse().unwrap());
                        copies.entry((run, seq, recipient)).or_default().push(copy);
                    }
                }
                _ => {}
            }
        }
        lost.sort_unstable();
        let mut doubles = Doubles::default();
        for (what, copies) in &copies {
            for pair in copies.windows(2) {
                let [(id, first_us), (_, next_us)] = pair else { continue };
                if lost.binary_search(id).is_ok() {
                    doubles.not_answered += 1;
                    continue;
                }
                let since_us = first_us - READ_LATE_US;
                let was_killed = kills_us.iter().any(|at_us| (since_us..=*next_us).contains(at_us));
                assert!(was_killed, "{what:?} came twice, and nothing had happened: {pair:?}");
                doubles.killed += 1;
            }
        }
        doubles
    }
}
