//! Long answers leave in slices: what waits for one client has a bound, whatever is to be told.

use super::{Dialog, PASSWORD, PATIENCE, Peer, REPLY_OCTETS, boot, user};
use crate::script::Wire as _;
use pombal::bytes::buffer::Buffer;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use std::net::SocketAddr;

/// A power of two.
const MESSAGES: u32 = 8_192;
/// Over the bound goes what is put between two looks at it.
const SLICE_OCTETS_MAX: usize = REPLY_OCTETS + (6 << 10);

/// Of a message of one part.
const HEAD: &str = "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n";

/// A session, and what came and was not looked at yet.
pub(super) struct Session {
    peer: Peer,
    held: Vec<u8>,
}

impl Session {
    /// Somebody logged in.
    pub(super) async fn new(env: &SimEnv, address: SocketAddr) -> Session {
        let conn = env.connect(address, None, env.now().after(PATIENCE)).await.unwrap();
        let peer = Peer { env: env.clone(), conn, buffer: Buffer::new() };
        let mut session = Session { peer, held: Vec::new() };
        session.line().await;
        session.command(&format!("LOGIN {} {PASSWORD}", user(0))).await;
        session
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
                let rest = self.held.split_off(end + 2);
                let line = std::mem::replace(&mut self.held, rest);
                return String::from_utf8(line).unwrap().trim_end().into();
            }
            let octets = self.peer.receive().await.unwrap();
            assert!(!octets.is_empty(), "hung up");
            self.held.extend(octets);
        }
    }

    async fn octets(&mut self, count: usize) -> Vec<u8> {
        while self.held.len() < count {
            let octets = self.peer.receive().await.unwrap();
            assert!(!octets.is_empty(), "hung up");
            self.held.extend(octets);
        }
        let rest = self.held.split_off(count);
        std::mem::replace(&mut self.held, rest)
    }

    async fn send(&mut self, text: &str) {
        self.peer.send(text.as_bytes()).await.unwrap();
    }

    /// The untagged lines of an answer, which is OK.
    pub(super) async fn command(&mut self, text: &str) -> Vec<String> {
        self.send(&format!("tag {text}\r\n")).await;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if let Some(end) = line.strip_prefix("tag ") {
                assert!(end.starts_with("OK"), "{text}: {end}");
                return lines;
            }
            lines.push(line);
        }
    }

    /// Appends a large message, no more of it at once than of an answer.
    async fn append(&mut self, message: &str) {
        self.send(&format!("tag APPEND INBOX {{{}+}}\r\n", message.len())).await;
        for piece in message.as_bytes().chunks(REPLY_OCTETS) {
            self.peer.send(piece).await.unwrap();
        }
        self.send("\r\n").await;
        assert!(self.line().await.starts_with("tag OK"));
    }

    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            lines.push(self.line().await);
        }
        lines
    }
}

/// Plays with a mailbox of many messages, those of an odd UID `\Deleted`; what is sent at once has
/// its bound.
fn play(play: impl AsyncFnOnce(&SimEnv, SocketAddr, Session)) {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let played = sim.run_until(async {
        let env = sim.env(0);
        let (_shard, address) = boot(&env, &Dialog::default(), 1).await;
        let mut session = Session::new(&env, address).await;
        for flags in ["(\\Deleted)", "()"] {
            let text = "Subject: one of many\r\n\r\nhello\r\n";
            session.command(&format!("APPEND INBOX {flags} {{{}+}}\r\n{text}", text.len())).await;
        }
        session.command("SELECT INBOX").await;
        for _ in 1..MESSAGES.ilog2() {
            session.command("COPY 1:* INBOX").await;
        }
        play(&env, address, session).await;
    });
    played.unwrap();
    let longest = sim.longest_write();
    assert!(longest <= SLICE_OCTETS_MAX, "{longest} octets were sent at once");
}

fn odd() -> impl DoubleEndedIterator<Item = u32> {
    (1..MESSAGES).step_by(2)
}

fn set(numbers: impl Iterator<Item = u32>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn what_others_change_is_told_in_slices() {
    play(async |env, address, mut session| {
        let mut reader = Session::new(env, address).await;
        reader.command("SELECT INBOX").await;
        let mut counter = Session::new(env, address).await;
        counter.command("ENABLE QRESYNC").await;
        counter.command("SELECT INBOX").await;
        let mut idler = Session::new(env, address).await;
        idler.command("SELECT INBOX").await;
        idler.send("tag IDLE\r\n").await;
        assert_eq!(idler.line().await, "+ idling");

        session.command("STORE 1:* +FLAGS.SILENT (\\Flagged)").await;
        let deleted = |number: u32| if number % 2 == 1 { " \\Deleted" } else { "" };
        let told = |number: u32| {
            let flags = format!("\\Flagged{}", deleted(number));
            format!("* {number} FETCH (UID {number} FLAGS ({flags}))")
        };
        let flags: Vec<String> = (1..=MESSAGES).map(told).collect();
        assert_eq!(reader.command("NOOP").await, flags);
        let counted = counter.command("NOOP").await;
        assert_eq!(counted.len(), flags.len());

        let gone: Vec<String> = odd().rev().map(|number| format!("* {number} EXPUNGE")).collect();
        assert_eq!(session.command("EXPUNGE").await, gone);
        // Not told yet, they have their numbers.
        let some = reader.command("FETCH 2:4 UID").await;
        assert_eq!(some, ["* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)"]);
        assert_eq!(reader.command("NOOP").await, gone);
        assert_eq!(counter.command("NOOP").await, [format!("* VANISHED {}", set(odd()))]);

        // It has read nothing of all that until now.
        assert_eq!(idler.lines(flags.len()).await, flags);
        assert_eq!(idler.lines(gone.len()).await, gone);
        idler.send("DONE\r\n").await;
        assert_eq!(idler.line().await, "tag OK no longer idling");
    });
}

#[test]
fn what_a_client_missed_is_told_in_slices() {
    play(async |env, address, mut session| {
        let mut counter = Session::new(env, address).await;
        counter.command("ENABLE QRESYNC").await;
        let selected = counter.command("SELECT INBOX").await;
        let code = |word: &str| {
            let mut rests = selected.iter().filter_map(|line| line.split_once(word));
            rests.next().unwrap().1.split(']').next().unwrap().to_owned()
        };
        let (validity, since) = (code("[UIDVALIDITY "), code("[HIGHESTMODSEQ "));
        session.command("STORE 1:* +FLAGS.SILENT (\\Flagged)").await;
        session.command("EXPUNGE").await;

        counter.command("UNSELECT").await;
        let lines = counter.command(&format!("SELECT INBOX (QRESYNC ({validity} {since}))")).await;
        let vanished = format!("* VANISHED (EARLIER) {}", set(odd()));
        let at = lines.iter().position(|line| *line == vanished).unwrap();
        let want: Vec<String> = (1..=MESSAGES / 2)
            .map(|number| format!("* {number} FETCH (UID {} FLAGS (\\Flagged)", number * 2))
            .collect();
        assert_eq!(lines.len() - at - 1, want.len());
        assert!(lines[at + 1..].iter().zip(&want).all(|(line, want)| line.starts_with(want)));

        let fetch = format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)");
        let lines = counter.command(&fetch).await;
        assert_eq!((lines.len(), &lines[0]), (want.len() + 1, &vanished));
    });
}

#[test]
fn what_was_found_is_told_in_slices() {
    play(async |_, _, mut session| {
        let found = odd().map(|number| number.to_string()).collect::<Vec<_>>();
        let (words, set) = (found.join(" "), found.join(","));
        // They have one subject.
        let threads = found.join(")(");
        let count = found.len();
        for (command, want) in [
            ("SEARCH DELETED", format!("* SEARCH {words}")),
            ("UID SEARCH MODSEQ 1 DELETED", format!("* SEARCH {words} (MODSEQ ")),
            ("SORT (ARRIVAL) UTF-8 DELETED", format!("* SORT {words}")),
            (
                "SEARCH RETURN (MIN ALL COUNT) DELETED",
                format!("* ESEARCH (TAG \"tag\") MIN 1 COUNT {count} ALL {set}"),
            ),
            (
                "UID SEARCH RETURN (PARTIAL 1:5000) DELETED",
                format!("* ESEARCH (TAG \"tag\") UID PARTIAL (1:5000 {set})"),
            ),
            ("THREAD REFERENCES UTF-8 DELETED", format!("* THREAD (({threads}))")),
        ] {
            let lines = session.command(command).await;
            let line = lines.last().unwrap();
            assert!(line.starts_with(&want), "{command}: {line:.200}");
            assert!(line.len() == want.len() || want.ends_with("(MODSEQ "), "{command}");
        }
        assert_eq!(session.command("SEARCH RETURN () SEEN").await.len(), 1);
    });
}

/// Octets that a body stands for; every 251st is NUL where `with_nul`.
fn octets(with_nul: bool) -> Vec<u8> {
    let octet = |at: u32| if with_nul && at % 251 == 250 { 0 } else { b'a' + (at % 23) as u8 };
    (0..400_000).map(octet).collect()
}

fn encoded(octets: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in octets.chunks(3).enumerate() {
        let mut group = [0; 4];
        group[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(group);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = LETTERS[(bits >> shift & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
        if at % 19 == 18 {
            text.push_str("\r\n");
        }
    }
    text + "\r\n"
}

#[test]
fn a_large_part_is_decoded_in_slices() {
    play(async |env, address, mut session| {
        session.command("UNSELECT").await;
        let mut reader = Session::new(env, address).await;
        for with_nul in [false, true] {
            let plain = octets(with_nul);
            session.append(&format!("{HEAD}{}", encoded(&plain))).await;
            reader.command("EXAMINE INBOX").await;
            let len = plain.len();
            let size = reader.command("FETCH * BINARY.SIZE[1]").await;
            assert!(size[0].ends_with(&format!("(BINARY.SIZE[1] {len})")), "{size:?}");
            let twice = "FETCH * (BINARY.PEEK[1] UID BINARY.PEEK[1]<70000.200000>)";
            reader.send(&format!("tag {twice}\r\n")).await;
            let tilde = if with_nul { "~" } else { "" };
            let line = reader.line().await;
            assert!(line.ends_with(&format!("FETCH (BINARY[1] {tilde}{{{len}}}")), "{line}");
            assert_eq!(reader.octets(len).await, plain);
            let line = reader.line().await;
            assert!(line.ends_with(&format!("BINARY[1]<70000> {tilde}{{200000}}")), "{line}");
            assert_eq!(reader.octets(200_000).await, plain[70_000..270_000]);
            assert_eq!(reader.line().await, ")");
            assert!(reader.line().await.starts_with("tag OK"));
        }
        // What is broken far behind is found before anything is said.
        session.append(&format!("{HEAD}{}*", encoded(&octets(false)))).await;
        reader.command("EXAMINE INBOX").await;
        for item in ["BINARY.PEEK[1]", "BINARY.SIZE[1]"] {
            reader.send(&format!("tag FETCH * ({item} UID)\r\n")).await;
            let line = reader.line().await;
            assert!(line.contains("FETCH (UID "), "{line}");
            assert!(reader.line().await.starts_with("tag NO [UNKNOWN-CTE]"));
        }
    });
}
