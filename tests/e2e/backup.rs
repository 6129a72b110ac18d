//! Backups of a server that goes on serving, brought back into an empty directory: mailboxes, flags and
//! UIDs are those of the moment, which a journal of what was done and seen knows.
//!
//! Two users work over IMAP, one step after the other, and after each step all that they have is written
//! down with the time; mail for both of them goes through a promise between two shards. A third one is
//! sent mail all the time, also while the backups are made.

use crate::client::{Link, smtp};
use crate::harness::Server;
use crate::imap::Imap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const USERS: [&str; 3] = ["a", "b", "busy"];
/// Whose state is written down.
const WATCHED: [&str; 2] = ["a", "b"];

/// Everything that a user sees, line by line.
pub(crate) type Seen = Vec<String>;

/// A moment (RFC 3339), what was there, and which step it was behind.
pub(crate) struct Entry {
    pub(crate) at: String,
    pub(crate) seen: Vec<Seen>,
    pub(crate) step: String,
}

#[test]
fn comes_back_as_it_was_at_a_backup_and_at_moments_between_two() {
    let mut server = Server::with_users("", &USERS);
    let vault = server.dir().join("vault");
    let vault_name = vault.to_str().unwrap().to_owned();
    let load = Load::begin(&server);
    let mut journal = Vec::new();
    work(&server, "one", &mut journal);
    let acked = load.acked();
    let first = server.pombal(&["backup", &vault_name, "--json"], "");
    assert!(load.acked_after(acked), "mail goes on");
    let between = journal.len();
    work(&server, "two", &mut journal);
    let second = server.pombal(&["backup", &vault_name, "--json"], "");
    let told: [serde_json::Value; 2] =
        [&first, &second].map(|text| serde_json::from_str(text).unwrap());
    let number = |of: usize, name: &str| told[of][name].as_u64().unwrap();
    assert_eq!(number(0, "octets"), number(0, "new_octets"), "{first}");
    assert!(number(1, "new_octets") < number(1, "octets"), "{second}");
    let sent = load.end();
    // The store of a stopped server, once more: little is new.
    server.stop();
    server.pombal(&["backup", &vault_name], "");
    let listed = server.pombal(&["backup", "list", &vault_name], "");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    server.pombal(&["backup", "verify", &vault_name], "");
    turned_bits_are_found(&server, &vault);
    // As it is in the newest one.
    let last = journal.last().unwrap();
    let mut back = restored(&[&vault_name]);
    compare(&back, last, "the newest backup");
    let mut busy = Imap::login(&back, "busy").unwrap();
    let found = busy.ok("EXAMINE INBOX").unwrap();
    assert!(found.contains(&format!("* {sent} EXISTS")), "{sent} sent: {found:?}");
    back.restart();
    compare(&back, last, "the newest backup, started twice");
    // By name.
    let name = told[0]["name"].as_str().unwrap();
    let back = restored(&[&vault_name, "--backup", name]);
    compare(&back, &journal[between - 1], "the first backup");
    // Moments between the first two.
    for entry in &journal[between..] {
        let back = restored(&[&vault_name, "--at", &entry.at]);
        compare(&back, entry, &entry.step);
    }
    refusals(&server, &vault_name, &journal[0].at);
}

/// What cannot be done is not begun.
fn refusals(server: &Server, vault: &str, early: &str) {
    let refused = |words: &[&str], what: &str| {
        let output = server.try_pombal(words, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what), "{words:?}: {said}");
    };
    refused(&["restore", vault], "is not empty");
    let other = Server::set_up("");
    let output = other.try_pombal(&["restore", vault, "--at", early], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("of a later moment"), "{said}");
    let output = other.try_pombal(&["restore", vault, "--at", "2100-01-01T00:00:00Z"], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("holds what was there up to"), "{said}");
    assert_eq!(fs::read_dir(other.data_dir()).unwrap().count(), 0, "nothing was written");
    // Only the newest is left, and with it what it needs.
    server.pombal(&["backup", vault, "--keep", "1"], "");
    let listed = server.pombal(&["backup", "list", vault], "");
    assert_eq!(listed.lines().count(), 1, "{listed}");
    server.pombal(&["backup", "verify", vault], "");
    other.pombal(&["restore", vault], "");
}

/// A server on what came back.
fn restored(words: &[&str]) -> Server {
    let mut server = Server::set_up("");
    let words = [&["restore"], words].concat();
    let said = server.pombal(&words, "");
    assert!(said.contains("all well") && said.contains(" is as it was at "), "{said}");
    server.start();
    server
}

fn compare(server: &Server, entry: &Entry, what: &str) {
    for (user, seen) in WATCHED.iter().zip(&entry.seen) {
        // What was promised before the moment comes behind it, once.
        let found = settled(server, user, seen.len());
        assert_eq!(&found, seen, "{what}: {user}");
    }
}

/// What a user sees once it is so many lines, or what it stays at.
fn settled(server: &Server, user: &str, lines: usize) -> Seen {
    let mut found = look(server, user);
    for _ in 0..500 {
        if found.len() == lines {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
        found = look(server, user);
    }
    found
}

/// All mailboxes, their numbers, all messages with flags and octets.
pub(crate) fn look(server: &Server, user: &str) -> Seen {
    let mut imap = Imap::login(server, user).unwrap();
    let mut seen = imap.ok("LIST \"\" *").unwrap();
    let there = seen.iter().filter(|line| !line.contains("\\NonExistent"));
    let names: Vec<String> =
        there.filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect();
    for name in names {
        let mut lines = imap.ok(&format!("EXAMINE {name}")).unwrap();
        lines.extend(imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").unwrap());
        // Which are recent is of one life of the server.
        lines.retain(|line| !line.ends_with(" RECENT"));
        let lines =
            lines.into_iter().map(|line| line.replace(" \\Recent", "").replace("\\Recent", ""));
        seen.extend(lines);
    }
    seen
}

pub(crate) fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Steps of two users, each with what is there behind it.
pub(crate) fn work(server: &Server, round: &str, journal: &mut Vec<Entry>) {
    let mut a = Imap::login(server, "a").unwrap();
    let mut b = Imap::login(server, "b").unwrap();
    let mut step = |step: &str, counts: [usize; 2], act: &mut dyn FnMut()| {
        act();
        let at = now();
        let step = format!("{round}: {step}");
        // The other shard's copy of what was sent may come a little later.
        let users = WATCHED.iter().zip(counts);
        let seen = users.map(|(user, count)| arrived(server, user, count)).collect();
        journal.push(Entry { at, seen, step });
    };
    let had = WATCHED.map(|user| exists(server, user));
    for number in 1..4 {
        step(&format!("send {number}"), had.map(|had| had + number), &mut || {
            let mut link = smtp(server.smtp(), "EHLO").unwrap();
            let text = format!("Subject: {round} {number}\r\n\r\nfor both\r\n");
            send(&mut link, &["a", "b"], &text);
        });
    }
    let count = had.map(|had| had + 3);
    step("create and copy", count, &mut || {
        a.ok(&format!("CREATE kept{round}")).unwrap();
        a.ok("SELECT INBOX").unwrap();
        a.ok(&format!("COPY 1:* kept{round}")).unwrap();
    });
    step("flags", count, &mut || {
        a.ok("STORE 1 +FLAGS (\\Seen $Work)").unwrap();
        b.ok("SELECT INBOX").unwrap();
        b.ok("STORE 2 +FLAGS (\\Flagged)").unwrap();
    });
    step("append", count, &mut || {
        let text = format!("Subject: draft {round}\r\n\r\n{}\r\n", "x".repeat(30_000));
        b.ok(&format!("CREATE drafts{round}")).unwrap();
        b.append(&format!("drafts{round}"), "(\\Draft)", text.as_bytes()).unwrap();
    });
    step("move and remove", count, &mut || {
        a.ok(&format!("SELECT kept{round}")).unwrap();
        a.ok("STORE 1 +FLAGS (\\Deleted)").unwrap();
        a.ok("EXPUNGE").unwrap();
        b.ok(&format!("SELECT drafts{round}")).unwrap();
        b.ok("MOVE 1 INBOX").unwrap();
    });
    step("rename", count, &mut || {
        a.ok(&format!("RENAME kept{round} filed{round}")).unwrap();
    });
}

fn exists(server: &Server, user: &str) -> usize {
    let mut imap = Imap::login(server, user).unwrap();
    let lines = imap.ok("EXAMINE INBOX").unwrap();
    let number = lines.iter().find_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXISTS"));
    number.unwrap().parse().unwrap()
}

/// What a user sees once so many messages are in the inbox.
fn arrived(server: &Server, user: &str, count: usize) -> Seen {
    for _ in 0..500 {
        if exists(server, user) >= count {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    look(server, user)
}

pub(crate) fn send(link: &mut Link, to: &[&str], text: &str) {
    link.command("MAIL FROM:<>", 250).unwrap();
    for user in to {
        link.command(&format!("RCPT TO:<{user}@local.example>"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(text).unwrap();
    link.command(".", 250).unwrap();
}

/// One bit in each of some files of a vault.
fn turned_bits_are_found(server: &Server, vault: &Path) {
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in [vault.to_owned(), vault.join("log-000"), vault.join("log-001"), vault.join("files")]
    {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file() && !path.ends_with("lock")));
    }
    files.sort();
    for (number, path) in files.iter().enumerate() {
        let whole = fs::read(path).unwrap();
        if whole.is_empty() {
            continue;
        }
        let mut turned = whole.clone();
        turned[number * 7_919 % whole.len()] ^= 1 << (number % 8);
        fs::write(path, &turned).unwrap();
        let output = server.try_pombal(&["backup", "verify", vault.to_str().unwrap()], "");
        assert!(!output.status.success(), "{}", path.display());
        fs::write(path, &whole).unwrap();
    }
    assert!(files.len() > 6, "{files:?}");
    server.pombal(&["backup", "verify", vault.to_str().unwrap()], "");
}

/// Mail for the busy user, one message after the other.
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    acked: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    pub(crate) fn begin(server: &Server) -> Load {
        let (ends, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let port = server.smtp();
        let (until, count) = (Arc::clone(&ends), Arc::clone(&acked));
        let sending = move || {
            let mut link = smtp(port, "EHLO").unwrap();
            let body = "a line of a message\r\n".repeat(200);
            while !until.load(Ordering::Acquire) {
                let number = count.load(Ordering::Acquire);
                send(&mut link, &["busy"], &format!("Subject: {number}\r\n\r\n{body}"));
                count.fetch_add(1, Ordering::AcqRel);
                // Enough to be in the way, and little enough to bring it back ten times.
                std::thread::park_timeout(Duration::from_millis(4));
            }
        };
        let thread = std::thread::Builder::new().spawn(sending).unwrap();
        Load { ends, acked, thread }
    }

    fn acked(&self) -> u32 {
        self.acked.load(Ordering::Acquire)
    }

    fn acked_after(&self, before: u32) -> bool {
        self.acked() > before
    }

    /// How many were answered.
    pub(crate) fn end(self) -> u32 {
        self.ends.store(true, Ordering::Release);
        self.thread.join().unwrap();
        self.acked.load(Ordering::Acquire)
    }
}
