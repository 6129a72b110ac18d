//! A small mail server for the tests of this tool: SMTP, LMTP and POP3 over one memory.
//!
//! Does what the protocols ask for and nothing more, and can be told to do one thing wrong,
//! so that the tests see the tool find it. One thread per connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use pombal::bytes::hash::Sorted;

use crate::wire::dots;

/// What the server does wrong with the message that has this number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Says 250 and stores nothing.
    Lose(u64),
    Double(u64),
    Change(u64),
    /// Stores it and closes without a word.
    Hang(u64),
    /// Says +OK to QUIT and keeps what was deleted.
    Keep,
}

struct Memory {
    fault: Fault,
    count: AtomicU64,
    drops: RwLock<Sorted<String, Vec<Vec<u8>>>>,
}

/// A running server; its threads end with the process.
struct Peer {
    smtp: SocketAddr,
    lmtp: SocketAddr,
    pop3: SocketAddr,
    memory: Arc<Memory>,
}

type Serve = fn(TcpStream, &Memory) -> std::io::Result<()>;

impl Peer {
    fn start(fault: Fault) -> Peer {
        let drops = RwLock::new(Sorted::new());
        let memory = Arc::new(Memory { fault, count: AtomicU64::new(0), drops });
        let listen = |serve: Serve| {
            let (listener, memory) =
                (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(&memory));
            let address = listener.local_addr().unwrap();
            let accept = move || {
                for stream in listener.incoming() {
                    let (stream, memory) = (stream.unwrap(), Arc::clone(&memory));
                    stream.set_nodelay(true).unwrap();
                    std::thread::Builder::new()
                        // A client that goes away in the middle is part of some tests.
                        .spawn(move || serve(stream, &memory).ok())
                        .unwrap();
                }
            };
            std::thread::Builder::new().spawn(accept).unwrap();
            address
        };
        let smtp = listen(|stream, memory| serve_mail(stream, memory, false));
        let lmtp = listen(|stream, memory| serve_mail(stream, memory, true));
        let pop3 = listen(serve_pop3);
        Peer { smtp, lmtp, pop3, memory }
    }

    fn stored(&self) -> usize {
        self.memory.drops.read().unwrap().values().map(Vec::len).sum()
    }
}

impl Memory {
    /// Stores for all recipients; `false` asks for the connection to be closed.
    fn store(&self, message: &[u8], recipients: &[String]) -> bool {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut message = message.to_vec();
        let mut copies = 1;
        match self.fault {
            Fault::Lose(bad) if bad == number => copies = 0,
            Fault::Double(bad) if bad == number => copies = 2,
            Fault::Change(bad) if bad == number => {
                let at = message.len() - 3;
                message[at] ^= 1;
            }
            _ => {}
        }
        let mut drops = self.drops.write().unwrap();
        for recipient in recipients {
            let stored = drops.entry(recipient.clone()).or_default();
            stored.extend(std::iter::repeat_n(message.clone(), copies));
        }
        self.fault != Fault::Hang(number)
    }
}

fn serve_mail(stream: TcpStream, memory: &Memory, is_lmtp: bool) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    out.write_all(b"220 peer\r\n")?;
    let (mut recipients, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let message = match words[0] {
            "EHLO" | "LHLO" => {
                out.write_all(b"250-peer\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE\r\n")?;
                continue;
            }
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap();
                if address.starts_with("nobody") {
                    out.write_all(b"550 5.1.1 no such user\r\n")?;
                    continue;
                }
                recipients.push(address.to_owned());
                out.write_all(b"250 ok\r\n")?;
                continue;
            }
            "DATA" if recipients.is_empty() => {
                out.write_all(b"554 no recipients\r\n")?;
                continue;
            }
            "DATA" => {
                out.write_all(b"354 go\r\n")?;
                read_dotted(&mut input)?
            }
            "BDAT" => {
                let mut message = vec![0; words[1].parse().unwrap()];
                input.read_exact(&mut message)?;
                message
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => {
                recipients.clear();
                out.write_all(b"250 ok\r\n")?;
                continue;
            }
        };
        if recipients.is_empty() {
            out.write_all(b"554 no recipients\r\n")?;
            continue;
        }
        if !memory.store(&message, &recipients) {
            return Ok(());
        }
        let replies = if is_lmtp { recipients.len() } else { 1 };
        out.write_all("250 stored\r\n".repeat(replies).as_bytes())?;
        recipients.clear();
    }
}

fn read_dotted(input: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let (mut message, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(message);
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn serve_pop3(stream: TcpStream, memory: &Memory) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    out.write_all(b"+OK peer\r\n")?;
    let (mut user, mut line) = (String::new(), String::new());
    let (mut messages, mut deleted) = (Vec::<Vec<u8>>::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = words.get(1).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        let mut answer = b"+OK\r\n".to_vec();
        let listing = |show: &dyn Fn(usize, &Vec<u8>) -> String| {
            let lines = messages.iter().enumerate().map(|(index, one)| show(index + 1, one));
            format!("+OK\r\n{}.\r\n", lines.collect::<String>()).into_bytes()
        };
        match words[0] {
            "USER" => words[1].clone_into(&mut user),
            "PASS" if words[1] != "secret" => answer = b"-ERR no\r\n".to_vec(),
            "PASS" => {
                messages = memory.drops.read().unwrap().get(&user).cloned().unwrap_or_default();
            }
            "STAT" => {
                let octets: usize = messages.iter().map(Vec::len).sum();
                answer = format!("+OK {} {octets}\r\n", messages.len()).into_bytes();
            }
            "UIDL" => answer = listing(&|number, _| format!("{number} u{number}\r\n")),
            "LIST" => answer = listing(&|number, one| format!("{number} {}\r\n", one.len())),
            "RETR" => {
                dots::stuff(&messages[number - 1], &mut answer);
                answer.extend_from_slice(b".\r\n");
            }
            "DELE" => deleted.push(number - 1),
            _ => {
                let mut drops = memory.drops.write().unwrap();
                if let Some(stored) = drops.get_mut(&user)
                    && memory.fault != Fault::Keep
                {
                    let mut index = 0;
                    stored.retain(|_| {
                        index += 1;
                        !deleted.contains(&(index - 1))
                    });
                }
                return out.write_all(&answer);
            }
        }
        out.write_all(&answer)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use serde_json::Value;

    /// Runs a command line with `--json`; the figures and whether all went well.
    #[track_caller]
    fn run(line: &str) -> (Value, bool) {
        let words = std::iter::once("loadgen").chain(line.split_whitespace()).chain(["--json"]);
        let cli = crate::cli::Cli::try_parse_from(words).unwrap();
        let (shown, good) = crate::execute(&cli).unwrap();
        (serde_json::from_str(&shown).unwrap(), good)
    }

    fn smtp(to: SocketAddr, name: &str, more: &str) -> (Value, bool) {
        run(&format!("{name} --to {to} --quiet --users 10 --size 2K --sessions 4 {more}"))
    }

    fn audit(peer: &Peer, journal: &std::path::Path, more: &str) -> (Value, bool) {
        run(&format!(
            "audit --smtp {} --pop3 {} --journal {} --quiet --users 10 --size 2K --sessions 4 --patience 0s {more}",
            peer.smtp,
            peer.pop3,
            journal.display()
        ))
    }

    #[test]
    fn sends_each_way_and_counts_the_same() {
        for more in ["", "--pipelining off", "--chunking", "--chunking --depth 5 --threads 2"] {
            let peer = Peer::start(Fault::None);
            let (report, good) =
                smtp(peer.smtp, "smtp", &format!("--count 42 --recipients 2 {more}"));
            assert!(good, "{more}: {report}");
            assert_eq!(report["messages"], 42, "{more}");
            assert_eq!(report["recipients"], 84, "{more}");
            assert_eq!(report["replies"]["message"]["250"], 42, "{more}");
            assert_eq!(report["octets"], 42 * 2_048, "{more}");
            assert_eq!(peer.stored(), 84, "{more}");
            let drops = peer.memory.drops.read().unwrap();
            assert!(drops.values().flatten().all(|message| message.len() == 2_048), "{more}");
        }
    }

    #[test]
    fn lmtp_has_a_reply_for_each_recipient() {
        for more in ["", "--chunking --depth 3"] {
            let peer = Peer::start(Fault::None);
            let (report, good) =
                smtp(peer.lmtp, "lmtp", &format!("--count 10 --recipients 3 {more}"));
            assert!(good, "{more}: {report}");
            assert_eq!(report["replies"]["message"]["250"], 30, "{more}");
            assert_eq!(report["recipients"], 30, "{more}");
        }
    }

    #[test]
    fn makes_a_new_connection_after_so_many_messages() {
        let peer = Peer::start(Fault::None);
        let (report, good) =
            smtp(peer.smtp, "smtp", "--count 40 --sessions 1 --messages-per-session 10");
        assert!(good);
        assert_eq!(report["replies"]["quit"]["221"], report["connections"]);
        assert_eq!(report["connections"], 5);
    }

    #[test]
    fn stays_in_step_when_recipients_are_refused() {
        for more in ["", "--pipelining off", "--chunking --depth 2"] {
            let peer = Peer::start(Fault::None);
            let line = format!("--count 7 --sessions 1 --user-format nobody%d@x {more}");
            let (report, good) = smtp(peer.smtp, "smtp", &line);
            assert!(!good, "{more}");
            assert_eq!((&report["messages"], &report["refused"]), (&0.into(), &7.into()), "{more}");
            assert_eq!(report["replies"]["rcpt"]["550"], 7, "{more}");
            assert_eq!(report["troubles"], serde_json::json!({}), "{more}");
            assert!(smtp(peer.smtp, "smtp", &format!("{line} --allow-errors")).1, "{more}");
        }
    }

    #[test]
    fn a_broken_connection_is_counted_and_replaced() {
        let peer = Peer::start(Fault::Hang(5));
        let (report, good) = smtp(peer.smtp, "smtp", "--count 20 --sessions 2");
        assert!(!good);
        assert_eq!((&report["messages"], &report["troubles"]["closed"]), (&19.into(), &1.into()));
        assert_eq!(peer.stored(), 20);
    }

    #[test]
    fn a_rate_is_kept() {
        let peer = Peer::start(Fault::None);
        let (report, good) = smtp(peer.smtp, "smtp", "--count 20 --rate 200/s");
        assert!(good);
        // The last of 20 is due after 95 ms, however fast the server is.
        assert!(report["seconds"].as_f64().unwrap() >= 0.095, "{report}");
    }

    #[test]
    fn reads_checks_and_deletes_maildrops() {
        let peer = Peer::start(Fault::None);
        assert!(smtp(peer.smtp, "smtp", "--count 300").1);
        let pop3 = format!("pop3 --to {} --quiet --users 10 --sessions 3", peer.pop3);
        for more in ["--verify", "--verify --pipelining off", "--delete"] {
            let (report, good) = run(&format!("{pop3} {more}"));
            assert!(good, "{more}: {report}");
            assert_eq!(report["messages"], 300, "{more}");
            assert_eq!(report["octets"], 300 * 2_048, "{more}");
            assert_eq!(report["session"]["count"], 10, "{more}");
        }
        assert_eq!(peer.stored(), 0);
        let (report, good) = run(&format!("{pop3} --password wrong --count 1"));
        assert!(!good);
        assert_eq!(report["replies"]["login"]["-ERR"], 1);
    }

    #[test]
    fn idle_connections_are_all_open() {
        let peer = Peer::start(Fault::None);
        for (protocol, to) in [("smtp", peer.smtp), ("pop3", peer.pop3)] {
            let pid = std::process::id();
            let (report, good) = run(&format!(
                "idle --protocol {protocol} --to {to} --connections 20 --hold 0s --login --server-pid {pid}"
            ));
            assert!(good, "{report}");
            assert_eq!(report["connections"], 20);
            assert!(report["after"]["resident"].as_u64().unwrap() > 0);
        }
    }

    #[test]
    fn the_audit_of_a_good_server_is_good_round_after_round() {
        let folder = tempfile::tempdir().unwrap();
        let (peer, journal) = (Peer::start(Fault::None), folder.path().join("j"));
        let (report, good) = audit(&peer, &journal, "--count 50 --rounds 2");
        assert!(good, "{report}");
        assert_eq!(report["rounds"][0]["verdict"]["acknowledged"], 50);
        assert_eq!(report["rounds"][1]["verdict"]["acknowledged"], 100);
        let (report, good) = audit(&peer, &journal, "--count 50");
        assert!(good, "{report}");
        assert_eq!(report["rounds"][0]["verdict"]["sent"], 150);
        assert_eq!(report["rounds"][0]["verdict"]["present"], peer.stored());
    }

    #[test]
    fn the_audit_finds_what_a_server_did_wrong() {
        for (fault, kind) in [
            (Fault::Lose(7), "missing"),
            (Fault::Double(7), "doubled"),
            (Fault::Change(7), "changed"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (report, good) = audit(&Peer::start(fault), &folder.path().join("j"), "--count 20");
            assert!(!good, "{kind}");
            let wrong = report["rounds"][0]["verdict"]["wrong"].as_object().unwrap();
            assert_eq!(wrong.keys().collect::<Vec<_>>(), [kind], "{report}");
            assert!((1..=3).contains(&wrong[kind].as_u64().unwrap()));
        }
    }

    #[test]
    fn what_was_not_answered_may_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let (peer, journal) = (Peer::start(Fault::Hang(7)), folder.path().join("j"));
        let (report, good) = audit(&peer, &journal, "--count 20");
        assert!(good, "{report}");
        let verdict = &report["rounds"][0]["verdict"];
        assert_eq!((&verdict["acknowledged"], &verdict["unknown"]), (&19.into(), &1.into()));
        assert!(verdict["unknown_present"].as_u64().unwrap() >= 1);
    }

    #[test]
    fn mail_of_before_that_was_never_announced_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (peer, journal) = (Peer::start(Fault::None), folder.path().join("j"));
        assert!(audit(&peer, &journal, "--count 20").1);
        let text = std::fs::read_to_string(&journal).unwrap();
        let cut: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("I 3 ") && !line.starts_with("A 3 "))
            .collect();
        std::fs::write(&journal, cut).unwrap();
        let (report, good) = audit(&peer, &journal, "--phase verify");
        assert!(!good);
        assert!(report["rounds"][0]["verdict"]["wrong"]["never_sent"].as_u64().unwrap() >= 1);
    }

    #[test]
    fn deletions_are_audited_while_mail_comes_in() {
        for (fault, expected) in [(Fault::None, true), (Fault::Keep, false)] {
            let folder = tempfile::tempdir().unwrap();
            let (peer, journal) = (Peer::start(fault), folder.path().join("j"));
            let (report, good) = audit(&peer, &journal, "--count 300 --rate 600/s --pop3-delete 1");
            let verdict = &report["rounds"][0]["verdict"];
            assert!(verdict["deleted"].as_u64().unwrap() > 0, "{report}");
            assert_eq!(good, expected, "{report}");
        }
    }
}
