//! IMAP dialogs as data: each file under `tests/dialogs/imap_search` is replayed against a whole shard
//! on a simulated machine, by two clients that are logged in as the same user. Time, and what the
//! disk takes of it, are part of the dialog; those of `tests/dialogs/imap` meet the real server.
//!
//! ```text
//! # a remark
//! C a SEARCH ALL            the first client sends this line and CRLF
//! S * SEARCH 1              and hears this line
//! S* a OK                   … a line that begins with this
//! W a OK                    … passes over lines up to one that begins with this
//! c, s, s*, w               the same of the second client
//! R octets                  the first client sends these octets, escapes read, without CRLF
//! A (\Seen) "date" | From: a@x\nSubject: y\n\ntext
//!                           a message is appended to INBOX with these flags and this date, if any
//! @slow_disk 3              at the top: what is not cached, and nothing is, takes so many seconds
//! @drain                    the server is told to stop
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panic")]

#[expect(dead_code, reason = "clients of other protocols need more of it")]
#[path = "sim/peer.rs"]
mod peer;

use peer::Peer;
use pombal::auth::{Cost, Pool, hash};
use pombal::config::Config;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::mesh::Mesh;
use pombal::model::id::LogId;
use pombal::node::shard::{Plan, assemble, begin, open_state, publish_directory};
use pombal::server::listener::{self, Protocol};
use pombal::server::shard::{Figures, Shard};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const USER: &str = "u@example.org";

#[test]
fn imap_dialogs_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/imap_search");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "dialog"));
    files.sort();
    assert!(!files.is_empty(), "the dialogs are where they should be");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let slow = text.lines().find_map(|line| line.strip_prefix("@slow_disk "));
        let seconds: Option<u32> = slow.map(|seconds| seconds.parse().unwrap());
        let mut faults = Faults::none();
        if let Some(seconds) = seconds {
            faults.disk_micros = (seconds * 1_000_000, seconds * 1_000_000);
        }
        let sim = Sim::new(1, faults);
        sim.allow_leaks();
        sim.run_until(play(sim.env(0), &file, &text, seconds.is_none())).unwrap();
    }
}

/// A client that sends an octet now and then does not keep its connection for ever, in none of the
/// protocols, logged in or not, by a line that is too long as well.
#[test]
fn a_command_that_drips_has_an_end() {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let env = sim.env(0);
    let dripping = async {
        let (shard, imap) = boot(&env, true).await;
        let listen = |port: u16, protocol| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let listener = env.listen(address).unwrap();
            env.spawn(listener::serve(Rc::clone(&shard), listener, protocol));
            address
        };
        let (smtp, pop3) = (listen(25, Protocol::Smtp), listen(110, Protocol::Pop3));
        let long = "x".repeat(20_000);
        for (address, greets, first, octet) in [
            (smtp, true, "", "N"),
            (smtp, true, &*long, "x"),
            (pop3, true, "", "N"),
            (pop3, true, &*long, "x"),
            (imap, false, "", "n"),
            (imap, false, "a LOGIN {100000+}\r\n", "n"),
            (imap, false, "a NOOP\r\nb IDLE\r\n", "D"),
        ] {
            let mut peer = if greets {
                let mut peer = Peer::connect(&env, address).await.unwrap();
                peer.line().await.unwrap();
                peer
            } else {
                login(&env, address).await
            };
            peer.send(first.as_bytes()).await.unwrap();
            let begun = env.now();
            while peer.send(octet.as_bytes()).await.is_ok() {
                let waited = env.now().since(begun);
                assert!(waited < Duration::from_mins(7), "{address} {first:.20} {octet}");
                env.sleep(Duration::from_secs(20)).await;
            }
            assert!(env.now().since(begun) > Duration::from_mins(4), "{address} {first:.20}");
        }
    };
    sim.run_until(dripping).unwrap();
}

/// A shard with one user, which listens.
async fn boot(env: &SimEnv, caches: bool) -> (Rc<Shard<SimEnv>>, SocketAddr) {
    let mut config = Config::small(Path::new("/data"));
    config.store.cache_size = if caches { 1 << 20 } else { 0 };
    let mut plan = Plan::new(config, 77, 1, Pool::inline(Cost::LEAST), [7; 32]);
    plan.config.auth.allow_plaintext = true;
    plan.store.may_create = true;
    let (mesh, mut inboxes) = Mesh::with_capacity(1, 8);
    let inbox = inboxes.remove(0);
    let id = inbox.shard();
    let (state, _) = open_state(env.clone(), &plan, LogId(0)).await.unwrap();
    let shard = assemble(env.clone(), &plan, id, &state, mesh, Figures::default());
    begin(&shard, inbox, &state.ledger).await;
    let address = SocketAddr::from(([127, 0, 0, 1], 143));
    let listener = env.listen(address).unwrap();
    env.spawn(listener::serve(Rc::clone(&shard), listener, Protocol::Imap));
    let turn = state.ledger.turn().unwrap();
    let drafted = turn.draft(|draft| {
        draft.add_domain("example.org", env.wall())?;
        let hash = hash("secret", &[7; 16], Cost::LEAST).unwrap();
        draft.add_user(USER, &hash, 0, env.wall()).map(|_| ())
    });
    state.log.append(drafted.unwrap().1).await.unwrap();
    drop(turn);
    publish_directory(&shard, &state.ledger).await;
    (shard, address)
}

async fn login(env: &SimEnv, address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(env, address).await.unwrap();
    peer.line().await.unwrap();
    peer.send(format!("l LOGIN {USER} secret\r\n").as_bytes()).await.unwrap();
    let answer = peer.line().await.unwrap();
    assert!(answer.starts_with(b"l OK"), "{}", answer.escape_ascii());
    peer
}

async fn play(env: SimEnv, file: &Path, text: &str, caches: bool) {
    let (shard, address) = boot(&env, caches).await;
    let mut first = login(&env, address).await;
    let mut second = login(&env, address).await;
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{}:{number}", file.display());
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let peer = if kind.starts_with(char::is_uppercase) { &mut first } else { &mut second };
        match kind {
            "" | "#" | "@slow_disk" => {}
            "C" | "c" => peer.send(format!("{rest}\r\n").as_bytes()).await.unwrap(),
            "R" => peer.send(&unescape(rest)).await.unwrap(),
            "S" | "s" | "S*" | "s*" => {
                let said = peer.line().await.unwrap_or_else(|error| panic!("{place}: {error}"));
                let said = String::from_utf8_lossy(&said).into_owned();
                let good = if kind.len() == 1 { said == rest } else { said.starts_with(rest) };
                assert!(good, "{place}: another answer\n  want {rest}\n  said {said}");
            }
            "W" | "w" => while !peer.line().await.unwrap().starts_with(rest.as_bytes()) {},
            "A" => append(&mut second, rest, &place).await,
            "@drain" => return drain(&shard, &mut first, file).await,
            _ => panic!("{place}: {line}"),
        }
    }
    for (peer, who) in [(&mut first, "first"), (&mut second, "second")] {
        peer.send(b"end NOOP\r\n").await.unwrap();
        let said = peer.line().await.unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("end OK"), "{}: the {who} also heard {said}", file.display());
    }
    first.close().await;
    second.close().await;
}

/// What the server says to a client in the middle of a command when it is told to stop.
async fn drain(shard: &Shard<SimEnv>, peer: &mut Peer, file: &Path) {
    shard.draining.set();
    let said = peer.line().await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(" NO [UNAVAILABLE] "), "{}: {said}", file.display());
    let said = peer.line().await.unwrap();
    assert!(said.starts_with(b"* BYE [UNAVAILABLE] "), "{}", said.escape_ascii());
}

async fn append(peer: &mut Peer, rest: &str, place: &str) {
    let (how, message) = rest.split_once('|').unwrap();
    let message = unescape(&message.trim_start().replace("\\n", "\\r\\n"));
    let how = how.trim();
    let space = if how.is_empty() { "" } else { " " };
    let mut octets = format!("A APPEND INBOX {how}{space}{{{}+}}\r\n", message.len()).into_bytes();
    octets.extend(message);
    octets.extend(b"\r\n");
    peer.send(&octets).await.unwrap();
    loop {
        let said = peer.line().await.unwrap();
        if said.starts_with(b"A ") {
            return assert!(said.starts_with(b"A OK"), "{place}: {}", said.escape_ascii());
        }
    }
}

/// `\r`, `\n`, `\\` and `\xHH` are octets.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest.next() {
            Some(b'r') => octets.push(b'\r'),
            Some(b'n') => octets.push(b'\n'),
            Some(b'\\') => octets.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                octets.push(u8::from_str_radix(digits, 16).unwrap());
            }
            other => panic!("no such escape: {other:?}"),
        }
    }
    octets
}
