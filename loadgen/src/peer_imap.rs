//! A small IMAP server for the tests of this tool, over one memory.
//!
//! Speaks what the tool asks for, with CONDSTORE, QRESYNC, UIDPLUS and MOVE, and can be told
//! to do one thing wrong, so that the tests see the tool find it. Each command runs under one
//! lock and tells its session of all changes that its kind of command allows.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use pombal::bytes::hash::Sorted;

use crate::wire::imap::ranges;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Says OK to the APPEND that would get this UID and stores nothing.
    Lose(u32),
    /// MOVE leaves the message where it was.
    HalfMove,
    /// STORE does not raise MODSEQ.
    OldModSeq,
    /// Tells of removals while FETCH is answered.
    EarlyExpunge,
}

#[derive(Clone)]
struct Mail {
    uid: u32,
    flags: Vec<String>,
    mod_seq: u64,
    text: Vec<u8>,
}

struct Mailbox {
    mails: Vec<Mail>,
    uid_next: u32,
    mod_seq: u64,
    /// UIDs that are gone, and since when.
    gone: Vec<(u32, u64)>,
}

impl Mailbox {
    fn new() -> Mailbox {
        Mailbox { mails: Vec::new(), uid_next: 1, mod_seq: 1, gone: Vec::new() }
    }

    fn add(&mut self, flags: Vec<String>, text: Vec<u8>) -> u32 {
        self.mod_seq += 1;
        let uid = self.uid_next;
        self.uid_next += 1;
        self.mails.push(Mail { uid, flags, mod_seq: self.mod_seq, text });
        uid
    }

    fn remove(&mut self, uids: &[u32]) {
        self.mod_seq += 1;
        self.mails.retain(|mail| !uids.contains(&mail.uid));
        self.gone.extend(uids.iter().map(|uid| (*uid, self.mod_seq)));
    }

    fn get(&self, uid: u32) -> Option<&Mail> {
        self.mails.iter().find(|mail| mail.uid == uid)
    }
}

type Mailboxes = Sorted<String, Mailbox>;

struct Memory {
    fault: Fault,
    mailboxes: RwLock<Mailboxes>,
}

fn start(fault: Fault) -> SocketAddr {
    let memory = Arc::new(Memory { fault, mailboxes: RwLock::new(Sorted::new()) });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accept = move || {
        for stream in listener.incoming() {
            let (stream, memory) = (stream.unwrap(), Arc::clone(&memory));
            stream.set_nodelay(true).unwrap();
            // A client that goes away in the middle is part of some tests.
            std::thread::Builder::new().spawn(move || serve(stream, &memory).ok()).unwrap();
        }
    };
    std::thread::Builder::new().spawn(accept).unwrap();
    address
}

#[derive(Default)]
struct Session {
    user: String,
    selected: String,
    /// UID and MODSEQ of each message, as the client knows them.
    view: Vec<(u32, u64)>,
    condstore: bool,
    qresync: bool,
    out: Vec<u8>,
}

/// One command with its literals cut out.
fn read_command(
    input: &mut BufReader<TcpStream>,
    out: &mut TcpStream,
) -> std::io::Result<(String, Vec<Vec<u8>>)> {
    let (mut command, mut literals) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let Some((before, len)) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'))
        else {
            command.push_str(line);
            return Ok((command, literals));
        };
        if !len.ends_with('+') {
            out.write_all(b"+ go\r\n")?;
        }
        let mut literal = vec![0; len.trim_end_matches('+').parse().unwrap()];
        input.read_exact(&mut literal)?;
        command.push_str(before);
        literals.push(literal);
    }
}

fn serve(stream: TcpStream, memory: &Memory) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    out.write_all(b"* OK [CAPABILITY IMAP4rev1] peer {7}\r\n")?;
    let mut session = Session::default();
    loop {
        let (command, literals) = read_command(&mut input, &mut out)?;
        let (tag, rest) = command.split_once(' ').unwrap();
        if rest == "IDLE" {
            out.write_all(b"+ idling\r\n")?;
            input.get_ref().set_read_timeout(Some(Duration::from_millis(2)))?;
            // Whatever comes is DONE.
            while input.fill_buf().is_err() {
                session.sync(&memory.mailboxes.read().unwrap(), true);
                out.write_all(&std::mem::take(&mut session.out))?;
            }
            input.get_ref().set_read_timeout(None)?;
            input.read_line(&mut String::new())?;
        }
        let end = {
            let mut mailboxes = memory.mailboxes.write().unwrap();
            let end = session.command(rest, literals, &mut mailboxes, memory.fault);
            let verb = rest.trim_start_matches("UID ").split(' ').next().unwrap();
            let numbers = ["FETCH", "STORE", "SEARCH"].contains(&verb);
            let early = memory.fault == Fault::EarlyExpunge && verb == "FETCH";
            session.sync(&mailboxes, early || !numbers || rest.starts_with("UID "));
            end
        };
        out.write_all(&std::mem::take(&mut session.out))?;
        out.write_all(format!("{tag} {end}\r\n").as_bytes())?;
        if rest == "LOGOUT" {
            return Ok(());
        }
    }
}

impl Session {
    fn say(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Tells what has changed since the client was told last.
    fn sync(&mut self, mailboxes: &Mailboxes, removals: bool) {
        let Some(mailbox) = mailboxes.get(&self.selected) else { return };
        for index in (0..self.view.len()).rev() {
            let (uid, seen) = self.view[index];
            match mailbox.get(uid) {
                None if removals => {
                    self.view.remove(index);
                    let line = if self.qresync {
                        format!("* VANISHED {uid}")
                    } else {
                        format!("* {} EXPUNGE", index + 1)
                    };
                    self.say(&line);
                }
                Some(mail) if mail.mod_seq > seen => {
                    self.view[index].1 = mail.mod_seq;
                    self.fetch(index, mail, false);
                }
                _ => {}
            }
        }
        let last = self.view.last().map_or(0, |(uid, _)| *uid);
        let new = mailbox.mails.iter().filter(|mail| mail.uid > last);
        let before = self.view.len();
        self.view.extend(new.map(|mail| (mail.uid, mail.mod_seq)));
        if self.view.len() > before {
            self.say(&format!("* {} EXISTS", self.view.len()));
        }
    }

    fn fetch(&mut self, index: usize, mail: &Mail, body: bool) {
        let mut line =
            format!("* {} FETCH (UID {} FLAGS ({})", index + 1, mail.uid, mail.flags.join(" "));
        if self.condstore {
            write!(line, " MODSEQ ({})", mail.mod_seq).unwrap();
        }
        if body {
            write!(line, " BODY[] {{{}}}\r\n", mail.text.len()).unwrap();
            self.out.extend_from_slice(line.as_bytes());
            self.out.extend_from_slice(&mail.text);
            line.clear();
        }
        line.push(')');
        self.say(&line);
    }

    /// Indexes into the view that a set names.
    fn indexes(&self, set: &str, by_uid: bool) -> Vec<usize> {
        let last = self.view.last().map_or(0, |(uid, _)| *uid);
        let last = if by_uid { last } else { u32::try_from(self.view.len()).unwrap() };
        let set: Vec<_> = ranges(set.replace('*', &last.to_string()).as_bytes()).collect();
        let named = |index: &usize| {
            let number = u32::try_from(index + 1).unwrap();
            let number = if by_uid { self.view[*index].0 } else { number };
            set.iter().any(|(from, to)| (*from..=*to).contains(&number))
        };
        (0..self.view.len()).filter(named).collect()
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{}", self.user, name.trim_matches('"'))
    }

    fn command(
        &mut self,
        line: &str,
        literals: Vec<Vec<u8>>,
        mailboxes: &mut Mailboxes,
        fault: Fault,
    ) -> String {
        let by_uid = line.starts_with("UID ");
        let words: Vec<&str> = line.trim_start_matches("UID ").split_whitespace().collect();
        let ok = "OK done".to_owned();
        let chosen = match words[0] {
            "FETCH" | "STORE" | "COPY" | "MOVE" => self.indexes(words[1], by_uid),
            _ => Vec::new(),
        };
        match words[0] {
            "CAPABILITY" => self.say(
                "* CAPABILITY IMAP4rev1 LITERAL+ MULTIAPPEND CONDSTORE QRESYNC UIDPLUS MOVE IDLE",
            ),
            "LOGIN" if words[2] != "\"secret\"" => return "NO [AUTHENTICATIONFAILED] no".into(),
            "LOGIN" => {
                words[1].clone_into(&mut self.user);
                mailboxes.entry(self.key("INBOX")).or_insert_with(Mailbox::new);
            }
            "ENABLE" => (self.condstore, self.qresync) = (true, true),
            "CREATE" => {
                mailboxes.entry(self.key(words[1])).or_insert_with(Mailbox::new);
            }
            "SELECT" | "EXAMINE" => return self.select(line, words[1], mailboxes),
            "APPEND" => {
                let Some(mailbox) = mailboxes.get_mut(&self.key(words[1])) else {
                    return "NO [TRYCREATE] no such mailbox".into();
                };
                let mut uid = 0;
                for literal in literals {
                    uid = mailbox.add(Vec::new(), literal);
                    if fault == Fault::Lose(uid) {
                        mailbox.mails.pop();
                    }
                }
                return format!("OK [APPENDUID 1 {uid}] done");
            }
            "COPY" | "MOVE" => {
                let uids: Vec<u32> = chosen.iter().map(|index| self.view[*index].0).collect();
                return self.copy(&uids, words[2], words[0] == "MOVE", mailboxes, fault);
            }
            "FETCH" | "STORE" | "EXPUNGE" => {
                let Some(mailbox) = mailboxes.get_mut(&self.selected) else {
                    return "BAD nothing is selected".into();
                };
                match words[0] {
                    "FETCH" => self.fetch_all(line, &chosen, mailbox),
                    "STORE" => return self.store(line, &chosen, mailbox, fault),
                    _ => {
                        let named = words.get(1).map(|set| self.indexes(set, true));
                        let uids = |it: Vec<usize>| it.iter().map(|at| self.view[*at].0).collect();
                        let named: Option<Vec<u32>> = named.map(uids);
                        expunge(mailbox, named.as_deref());
                    }
                }
            }
            "SEARCH" => self.say("* SEARCH"),
            "SORT" => self.say("* SORT"),
            "THREAD" => self.say("* THREAD"),
            "LOGOUT" => self.say("* BYE"),
            _ => {}
        }
        ok
    }

    fn select(&mut self, line: &str, name: &str, mailboxes: &Mailboxes) -> String {
        self.selected = self.key(name);
        self.condstore |= line.contains("CONDSTORE");
        let Some(mailbox) = mailboxes.get(&self.selected) else {
            return "NO no such mailbox".into();
        };
        self.view = mailbox.mails.iter().map(|mail| (mail.uid, mail.mod_seq)).collect();
        self.say(&format!("* {} EXISTS", self.view.len()));
        self.say("* OK [UIDVALIDITY 1] x");
        self.say(&format!("* OK [UIDNEXT {}] x", mailbox.uid_next));
        self.say(&format!("* OK [HIGHESTMODSEQ {}] x", mailbox.mod_seq));
        if let Some((_, rest)) = line.split_once("(QRESYNC (1 ") {
            let since: u64 = rest.trim_end_matches(')').parse().unwrap();
            for (uid, _) in mailbox.gone.iter().filter(|(_, at)| *at > since) {
                self.say(&format!("* VANISHED (EARLIER) {uid}"));
            }
            for (index, mail) in mailbox.mails.iter().enumerate() {
                if mail.mod_seq > since {
                    self.fetch(index, mail, false);
                }
            }
        }
        "OK [READ-WRITE] done".into()
    }

    fn fetch_all(&mut self, line: &str, chosen: &[usize], mailbox: &Mailbox) {
        let since = line.split_once("CHANGEDSINCE ").map(|(_, since)| since.trim_end_matches(')'));
        let since = since.map_or(0, |since| since.parse().unwrap());
        for index in chosen {
            if let Some(mail) = mailbox.get(self.view[*index].0)
                && mail.mod_seq > since
            {
                self.view[*index].1 = mail.mod_seq;
                self.fetch(*index, mail, line.contains("BODY.PEEK[]"));
            }
        }
    }

    fn store(
        &mut self,
        line: &str,
        chosen: &[usize],
        mailbox: &mut Mailbox,
        fault: Fault,
    ) -> String {
        // What others did first is told first: a silent STORE must not hide it.
        for index in chosen {
            if let Some(mail) = mailbox.get(self.view[*index].0)
                && mail.mod_seq > self.view[*index].1
            {
                self.fetch(*index, mail, false);
            }
        }
        let unless = line.split_once("UNCHANGEDSINCE ").map(|(_, rest)| rest.split(')').next());
        let unless = unless.flatten().map_or(u64::MAX, |since| since.parse().unwrap());
        let flag = line.rsplit_once('(').unwrap().1.trim_end_matches(')').to_owned();
        mailbox.mod_seq += u64::from(fault != Fault::OldModSeq);
        let now = mailbox.mod_seq;
        let mut modified = Vec::new();
        for index in chosen {
            let uid = self.view[*index].0;
            let Some(mail) = mailbox.mails.iter_mut().find(|mail| mail.uid == uid) else {
                continue;
            };
            if mail.mod_seq > unless {
                modified.push((index + 1).to_string());
                continue;
            }
            let there = mail.flags.contains(&flag);
            if line.contains("+FLAGS") && !there {
                mail.flags.push(flag.clone());
            } else if line.contains("-FLAGS") && there {
                mail.flags.retain(|one| *one != flag);
            } else {
                self.view[*index].1 = mail.mod_seq;
                continue;
            }
            if fault != Fault::OldModSeq {
                mail.mod_seq = now;
            }
            self.view[*index].1 = mail.mod_seq;
            let mail = mail.clone();
            if !line.contains(".SILENT") {
                self.fetch(*index, &mail, false);
            } else if self.condstore {
                self.say(&format!("* {} FETCH (UID {uid} MODSEQ ({}))", index + 1, mail.mod_seq));
            }
        }
        if modified.is_empty() {
            return "OK done".into();
        }
        format!("OK [MODIFIED {}] some", modified.join(","))
    }

    fn copy(
        &mut self,
        uids: &[u32],
        to: &str,
        moves: bool,
        mailboxes: &mut Mailboxes,
        fault: Fault,
    ) -> String {
        let Some(from) = mailboxes.get(&self.selected) else { return "BAD select first".into() };
        let mails: Vec<Mail> = uids.iter().filter_map(|uid| from.get(*uid).cloned()).collect();
        let Some(target) = mailboxes.get_mut(&self.key(to)) else {
            return "NO [TRYCREATE] no such mailbox".into();
        };
        if mails.is_empty() {
            return "NO [EXPUNGEISSUED] gone".into();
        }
        let join = |uids: &[u32]| uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let sources: Vec<u32> = mails.iter().map(|mail| mail.uid).collect();
        let copies: Vec<u32> =
            mails.into_iter().map(|mail| target.add(mail.flags, mail.text)).collect();
        let code = format!("[COPYUID 1 {} {}]", join(&sources), join(&copies));
        if !moves {
            return format!("OK {code} done");
        }
        self.say(&format!("* OK {code} moved"));
        if fault != Fault::HalfMove
            && let Some(from) = mailboxes.get_mut(&self.selected)
        {
            from.remove(&sources);
        }
        "OK done".into()
    }
}

fn expunge(mailbox: &mut Mailbox, named: Option<&[u32]>) {
    let marked = mailbox.mails.iter().filter(|mail| {
        mail.flags.iter().any(|flag| flag == "\\Deleted")
            && named.as_ref().is_none_or(|named| named.contains(&mail.uid))
    });
    let uids: Vec<u32> = marked.map(|mail| mail.uid).collect();
    mailbox.remove(&uids);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::mix::Mix;
    use clap::{Parser as _, ValueEnum as _};
    use serde_json::Value;

    /// Runs a command line with `--json`; the figures and whether all went well.
    #[track_caller]
    fn run(line: &str) -> (Value, bool) {
        let words = std::iter::once("loadgen").chain(line.split_whitespace()).chain(["--json"]);
        let cli = crate::cli::Cli::try_parse_from(words).unwrap();
        let (shown, good) = crate::execute(&cli).unwrap();
        (serde_json::from_str(&shown).unwrap(), good)
    }

    #[test]
    fn every_mix_runs_and_is_counted() {
        let to = start(Fault::None);
        let imap = format!("imap --to {to} --quiet --users 3 --sessions 5 --size 2K");
        let (report, good) = run(&format!("{imap} --mix prepare --count 100 --batch 7"));
        assert!(good, "{report}");
        assert_eq!((&report["messages"], &report["octets"]), (&100.into(), &204_800.into()));
        for mix in Mix::value_variants() {
            let (report, good) = run(&format!("{imap} --mix {} --count 20", mix.label()));
            assert!(good, "{}: {report}", mix.label());
            assert_eq!(report["messages"], 20, "{}", mix.label());
        }
    }

    #[test]
    fn refusals_are_counted_with_their_text() {
        let to = start(Fault::None);
        let line = "--quiet --mix login --sessions 2 --password wrong --count 4";
        let (report, good) = run(&format!("imap --to {to} {line}"));
        assert!(!good);
        assert_eq!((&report["refused"], &report["replies"]["login"]["NO"]), (&4.into(), &4.into()));
        assert_eq!(report["reply_texts"][0], "login: a1 NO [AUTHENTICATIONFAILED] no");
    }

    #[test]
    fn watchers_see_each_message() {
        let to = start(Fault::None);
        let (report, good) =
            run(&format!("imap --to {to} --quiet --mix idle --sessions 9 --count 5"));
        assert!(good, "{report}");
        assert_eq!(
            (&report["messages"], &report["commands"]["seen"]["count"]),
            (&5.into(), &40.into())
        );
    }

    #[test]
    fn idle_connections_are_selected() {
        let to = start(Fault::None);
        let line = "--protocol imap --login --connections 12 --hold 0s";
        let (report, good) = run(&format!("idle --to {to} {line}"));
        assert!(good, "{report}");
        assert_eq!(report["connections"], 12);
    }

    #[test]
    fn the_check_agrees_with_a_good_server() {
        for seed in 1..4 {
            let to = start(Fault::None);
            let line = format!("--check --sessions 7 --count 800 --size 1K --seed {seed}");
            let (report, good) = run(&format!("imap --to {to} {line}"));
            assert!(good, "{report:#}");
            assert_eq!(report["operations"], 800);
        }
    }

    #[test]
    fn the_check_finds_what_a_server_did_wrong() {
        for (fault, finding) in [
            (Fault::Lose(7), "UID 7 is gone and nobody removed it"),
            (Fault::HalfMove, "was moved"),
            (Fault::OldModSeq, "without a new MODSEQ"),
            (Fault::EarlyExpunge, "while numbers are in use"),
        ] {
            let to = start(fault);
            let (report, good) =
                run(&format!("imap --to {to} --check --sessions 6 --count 2000 --size 1K"));
            assert!(!good, "{fault:?}");
            let findings = report["findings"].to_string();
            assert!(findings.contains(finding), "{fault:?}: {findings}");
        }
    }

    #[test]
    fn the_audit_tells_a_good_server_from_a_bad_one() {
        for (fault, kind) in
            [(Fault::None, ""), (Fault::Lose(7), "missing"), (Fault::HalfMove, "undeleted")]
        {
            let (to, folder) = (start(fault), tempfile::tempdir().unwrap());
            let line =
                "--quiet --users 3 --sessions 5 --size 1K --count 600 --rounds 2 --patience 0s";
            let journal = folder.path().join("j");
            let (report, good) =
                run(&format!("audit --imap {to} {line} --journal {}", journal.display()));
            assert_eq!(good, fault == Fault::None, "{report:#}");
            if fault != Fault::None {
                assert!(report["rounds"][1]["verdict"]["wrong"][kind].is_u64(), "{report:#}");
            }
        }
    }
}
