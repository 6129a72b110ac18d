//! No client of SMTP waits for the server longer than programs wait (RFC 6409 §5.3): a disk that hangs,
//! a shard that answers nobody, and what the client hears then.

use crate::case::{Bug, Case, PASSWORD};
use crate::machine::Machine;
use crate::peer::Peer;
use crate::ports::address;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pombal::auth::{Cost, Pool};
use pombal::directory::Entry;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::model::limits::{LOGIN_TIME_MAX, SMTP_ANSWER_TIME_MAX};
use pombal::server::listener::Protocol;
use std::time::Duration;

/// As long as a disk takes that hangs.
const AN_HOUR: u32 = 3_600_000_000;

/// The way of an answer through the network.
const LITTLE: Duration = Duration::from_secs(1);

/// A machine of two shards that has its users.
fn boot(seed: u64) -> (Sim, Case, Machine) {
    let mut case = Case::with_quota(seed, Bug::None);
    case.plan = case.plan.with_logs(2);
    (case.inbox, case.users) = (1_024, 4);
    let sim = Sim::new(seed, Faults::none());
    sim.allow_leaks();
    let machine =
        Machine::boot(&sim, &case.host(), true).map_err(|error| error.to_string()).unwrap();
    sim.run_until(machine.set_up(&case)).unwrap();
    (sim, case, machine)
}

/// A session that has said hello.
async fn greet(env: &SimEnv, protocol: Protocol) -> Peer {
    let mut peer = Peer::connect(env, address(protocol)).await.unwrap();
    peer.line().await.unwrap();
    peer.send(b"EHLO a\r\n").await.unwrap();
    while line(&mut peer).await.starts_with("250-") {}
    peer
}

async fn line(peer: &mut Peer) -> String {
    String::from_utf8(peer.line().await.unwrap()).unwrap()
}

/// Sends this, and holds the answers against these: all within the time, and the last one, which has
/// to wait for what never comes, not before.
async fn ask(env: &SimEnv, peer: &mut Peer, lines: &str, wanted: &[&str]) {
    let begun = env.now();
    peer.send(lines.as_bytes()).await.unwrap();
    for wanted in wanted {
        let said = line(peer).await;
        assert!(said.starts_with(wanted), "{said}, where {wanted} should be");
    }
    let took = env.now().since(begun);
    assert!(took < SMTP_ANSWER_TIME_MAX + LITTLE, "{took:?}");
    assert!(took >= SMTP_ANSWER_TIME_MAX, "{took:?}: it waited for nothing");
}

async fn say(peer: &mut Peer, command: &str, wanted: &str) {
    peer.send(format!("{command}\r\n").as_bytes()).await.unwrap();
    let said = line(peer).await;
    assert!(said.starts_with(wanted), "{command}: {said}");
}

async fn has_ended(peer: &mut Peer) -> bool {
    peer.line().await.is_err()
}

/// One reply for all that is under way and behind it, and the end: what is stored after all is sent
/// once more, and nothing is lost.
#[test]
fn a_disk_that_hangs_makes_no_client_wait_for_ever() {
    for protocol in [Protocol::Smtp, Protocol::Submission] {
        let (sim, _, machine) = boot(3);
        let env = machine.env.clone();
        let asked = sim.run_until(async {
            let mut peer = greet(&env, protocol).await;
            if protocol == Protocol::Submission {
                log_in(&mut peer).await;
            }
            let bdat = |number: u32| {
                let message = format!("From: u0@example.org\r\nSubject: {number}\r\n\r\n");
                let size = message.len();
                let head = "MAIL FROM:<u0@example.org>\r\nRCPT TO:<u1@example.org>\r\n";
                format!("{head}BDAT {size} LAST\r\n{message}")
            };
            sim.set_faults(Faults { disk_micros: (AN_HOUR, AN_HOUR), ..Faults::none() });
            let group = format!("{}{}NOOP\r\n", bdat(1), bdat(2));
            let wanted = ["250 2.1.0", "250 2.1.5", "421 4.3.0"];
            ask(&env, &mut peer, &group, &wanted).await;
            assert!(has_ended(&mut peer).await);
        });
        asked.unwrap();
    }
}

/// Whoever asks for what another shard has to say hears that it cannot be told, however many ask at
/// once, and may ask for something else.
#[test]
fn a_shard_that_hangs_makes_no_client_wait_for_ever() {
    let (sim, case, machine) = boot(5);
    let env = machine.env.clone();
    let directory = machine.ups[1].shard.directory();
    let log_of = |user: usize| match directory.find(&format!("u{user}@example.org")) {
        Some(Entry::User(user)) => user.log,
        _ => unreachable!("users are numbered"),
    };
    let owner = log_of(0);
    let beside = (1..case.users).find(|&user| log_of(user) == owner);
    let beside = beside.expect("some user lives beside the first");
    let to_beside = format!("RCPT TO:<u{beside}@example.org>");
    sim.kill(owner.0);
    let asked = sim.run_until(async {
        let mut peer = greet(&env, Protocol::Smtp).await;
        say(&mut peer, "MAIL FROM:<>", "250").await;
        // The first has a quota, which its owner holds.
        let group = "RCPT TO:<u0@example.org>\r\n".repeat(20);
        ask(&env, &mut peer, &group, &["452 4.3.1"; 20]).await;
        say(&mut peer, &to_beside, "250").await;
        say(&mut peer, "DATA", "354").await;
        ask(&env, &mut peer, "Subject: 1\r\n\r\n.\r\n", &["421 4.3.0"]).await;
        assert!(has_ended(&mut peer).await);

        let mut peer = greet(&env, Protocol::Submission).await;
        log_in(&mut peer).await;
        say(&mut peer, "MAIL FROM:<u0@example.org>", "250").await;
        say(&mut peer, &to_beside, "250").await;
        ask(&env, &mut peer, "DATA\r\n", &["451 4.3.2"]).await;
        say(&mut peer, "NOOP", "250").await;
    });
    asked.unwrap();
}

/// The threads that check passwords may be slower than anybody waits.
#[test]
fn a_password_check_that_hangs_makes_no_client_wait_for_ever() {
    let mut case = Case::new(7, Bug::None);
    case.plan.pool = Pool::start(Cost::LEAST, 1, 4).unwrap();
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    let held = case.plan.pool.run(move || may_end.recv().is_err());
    let sim = Sim::new(case.seed, Faults::none());
    sim.allow_leaks();
    let machine =
        Machine::boot(&sim, &case.host(), true).map_err(|error| error.to_string()).unwrap();
    let env = machine.env.clone();
    let asked = sim.run_until(async {
        machine.set_up(&case).await;
        for protocol in [Protocol::Submission, Protocol::Pop3, Protocol::Imap] {
            let (auth, wanted) = match protocol {
                Protocol::Imap => ("a AUTHENTICATE PLAIN", "a NO [UNAVAILABLE]"),
                Protocol::Pop3 => ("AUTH PLAIN", "-ERR [SYS/TEMP]"),
                _ => ("AUTH PLAIN", "454 4.7.0"),
            };
            let mut peer = match protocol {
                Protocol::Submission => greet(&env, protocol).await,
                _ => Peer::connect(&env, address(protocol)).await.unwrap(),
            };
            if protocol != Protocol::Submission {
                peer.line().await.unwrap();
            }
            let message = STANDARD.encode(format!("\0u0@example.org\0{PASSWORD}"));
            let begun = env.now();
            say(&mut peer, &format!("{auth} {message}"), wanted).await;
            assert!(env.now().since(begun) < LOGIN_TIME_MAX + LITTLE);
        }
    });
    asked.unwrap();
    drop((end, held));
}

async fn log_in(peer: &mut Peer) {
    let message = STANDARD.encode(format!("\0u0@example.org\0{PASSWORD}"));
    say(peer, &format!("AUTH PLAIN {message}"), "235").await;
}
