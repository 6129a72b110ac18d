//! One account out of a backup, into a server that goes on serving the others: held against the journal
//! of what was there, mailbox by mailbox, flags, keywords, dates, octets, and the unique ids of POP3.

use crate::backup::{Entry, Load, Seen, look, now, work};
use crate::client::Maildrop;
use crate::fixture::{home, promise, with_logs};
use crate::harness::Server;
use crate::imap::Imap;
use crate::undelete::next_second;
use pombal::model::id::AccountId;
use pombal::queue::record::put_idem;
use pombal::store::Group;
use serde_json::Value;
use std::fs;
use std::path::Path;

const A: &str = "a@local.example";

/// What is to be the same: not what numbers changes, nor names of keywords that no message has.
fn seen(server: &Server) -> Seen {
    let mut seen = look(server, "a");
    only_kept(&mut seen);
    seen
}

fn only_kept(seen: &mut Seen) {
    let others = [
        "* OK [HIGHESTMODSEQ ",
        "* OK [MAILBOXID ",
        "* OK [UIDVALIDITY ",
        "* OK [UIDNEXT ",
        "* FLAGS ",
    ];
    seen.retain(|line| !others.iter().any(|other| line.starts_with(other)));
    for line in seen {
        *line = without_uid(line);
    }
}

/// What came back is new mail: it has a UID of its own.
fn without_uid(line: &str) -> String {
    let Some((front, uid)) = line.split_once("(UID ") else { return line.to_owned() };
    let rest = uid.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{front}({}", rest.trim_start())
}

fn vault(server: &Server) -> String {
    server.dir().join("vault").to_str().unwrap().to_owned()
}

/// Brings the account back; what the command tells.
fn restore(server: &Server, more: &[&str]) -> Value {
    let vault = vault(server);
    let words = [&["restore", vault.as_str(), "--account", A, "--json"], more].concat();
    serde_json::from_str(&server.pombal(&words, "")).unwrap()
}

fn make_anew(server: &Server) {
    server.pombal(&["user", "del", A], "");
    server.add_user("a");
}

/// Unique ids of POP3, with the octets behind them.
fn by_pop3(server: &Server) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut maildrop = Maildrop::open(server.pop3(), "a", true).unwrap();
    let found = (maildrop.listing("UIDL").unwrap(), maildrop.retrieve_all().unwrap());
    maildrop.quit().unwrap();
    found
}

#[test]
fn an_account_comes_back_as_it_was_at_any_moment_while_others_are_served() {
    let mut server = Server::with_users("", &["a", "b", "busy"]);
    let load = Load::begin(&server);
    let mut journal: Vec<Entry> = Vec::new();
    work(&server, "one", &mut journal);
    server.pombal(&["backup", &vault(&server)], "");
    let between = journal.len();
    work(&server, "two", &mut journal);
    let unique = by_pop3(&server);
    server.pombal(&["backup", &vault(&server)], "");
    for entry in &mut journal {
        only_kept(&mut entry.seen[0]);
    }
    let last = journal.last().unwrap();
    // Nobody is here to whom it could come.
    server.pombal(&["user", "del", A], "");
    let words = ["restore", &vault(&server), "--account", A];
    refused(&server, &words, "there is no user a@local.example");
    server.add_user("a");
    let told = restore(&server, &["--dry-run"]);
    assert!(told["mailboxes"].as_array().unwrap().len() > 3, "{told}");
    let done = restore(&server, &[]);
    assert_eq!(
        (&done["skipped"], &done["left_out"], &done["notes"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(seen(&server), last.seen[0], "the newest backup");
    assert_eq!(by_pop3(&server), unique);
    // Once more: nothing comes twice.
    let again = restore(&server, &[]);
    assert_eq!((&again["messages"], &again["skipped"]), (&0.into(), &done["messages"]), "{again}");
    assert_eq!(seen(&server), last.seen[0], "twice");
    for entry in &journal[between..] {
        make_anew(&server);
        restore(&server, &["--at", &entry.at]);
        assert_eq!(seen(&server), entry.seen[0], "{}", entry.step);
    }
    load.end();
    // The same of a server that is stopped.
    make_anew(&server);
    server.stop();
    restore(&server, &[]);
    server.pombal(&["store", "verify"], "");
    server.start();
    assert_eq!(seen(&server), last.seen[0], "stopped");
    refusals(&server, &journal[0].at);
}

fn refused(server: &Server, words: &[&str], what: &str) {
    let output = server.try_pombal(words, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    assert!(said.contains(what), "{words:?}: {said}");
}

fn refusals(server: &Server, early: &str) {
    let vault = vault(server);
    let of = |who: &str, more: &[&str], what: &str| {
        let words = [&["restore", vault.as_str(), "--account", who], more].concat();
        refused(server, &words, what);
    };
    server.add_user("new");
    of("new@local.example", &[], "there was no user new@local.example then");
    server.pombal(&["alias", "add", "to@local.example", A], "");
    of("to@local.example", &[], "is an alias");
    of(A, &["--at", early], "of a later moment");
    of(A, &["--at", "2100-01-01T00:00:00Z"], "holds what was there up to");
    of(A, &["--backup", "none"], "there is no backup none");
}

/// Messages of the mailbox at hand, as `look` has them.
fn fetched(imap: &mut Imap) -> Seen {
    let lines = imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").unwrap();
    lines.iter().map(|line| line.replace(" \\Recent", "").replace("\\Recent", "")).collect()
}

/// What is missing comes back, and what is here stays as it is.
#[test]
fn what_is_missing_comes_back_to_an_account_that_is_in_use() {
    let server = Server::with_users("", &["a"]);
    let mut imap = Imap::login(&server, "a").unwrap();
    for number in 1..=6 {
        let text = format!("Subject: {number}\r\n\r\ntext {number}\r\n");
        imap.append("INBOX", "(\\Seen $Old)", text.as_bytes()).unwrap();
    }
    imap.ok("CREATE Work/2026").unwrap();
    imap.ok("SELECT INBOX").unwrap();
    imap.ok("COPY 1:3 Work/2026").unwrap();
    let before = seen(&server);
    let unique = by_pop3(&server);
    server.pombal(&["backup", &vault(&server)], "");
    imap.ok("STORE 2,4 +FLAGS (\\Deleted)").unwrap();
    imap.ok("EXPUNGE").unwrap();
    imap.ok("STORE 1 FLAGS (\\Flagged)").unwrap();
    imap.ok("DELETE Work/2026").unwrap();
    imap.append("INBOX", "()", b"Subject: later\r\n\r\nlater\r\n").unwrap();
    let here = seen(&server);
    let deleted_at = now();
    next_second();
    // Beside, twice: the others stay.
    for messages in [9, 0] {
        let done = restore(&server, &["--beside", "Back"]);
        assert_eq!(done["messages"], messages, "{done}");
        let mut found = Vec::new();
        for name in ["INBOX", "Work/2026"] {
            let lines = imap.ok(&format!("EXAMINE Back/{name}")).unwrap();
            found.push(lines.iter().find(|line| line.ends_with(" EXISTS")).unwrap().clone());
            let fetched = fetched(&mut imap);
            assert!(fetched.iter().all(|one| before.contains(&without_uid(one))), "{fetched:?}");
        }
        assert_eq!(found, ["* 6 EXISTS", "* 3 EXISTS"]);
        let mut others = seen(&server);
        others.retain(|line| here.contains(line));
        assert!(here.iter().all(|line| others.contains(line)));
    }
    let done = restore(&server, &[]);
    assert_eq!((&done["messages"], &done["skipped"]), (&5.into(), &4.into()), "{done}");
    let inbox = imap.ok("SELECT INBOX").unwrap();
    assert!(inbox.contains(&"* 7 EXISTS".to_owned()), "{inbox:?}");
    let messages = fetched(&mut imap);
    let own =
        [(1, "\\Flagged"), (3, "\\Seen $Old"), (7, ""), (8, "\\Seen $Old"), (9, "\\Seen $Old")];
    for (uid, flags) in own {
        let line = format!("UID {uid} FLAGS ({flags})");
        assert!(messages.iter().any(|one| one.contains(&line)), "{line}: {messages:?}");
    }
    // A mailbox that was gone has what it had.
    imap.ok("EXAMINE Work/2026").unwrap();
    let lines = fetched(&mut imap);
    let has = |line: &String| before.contains(&without_uid(line));
    assert!(lines.len() > 2 && lines.iter().all(has), "{lines:?}\n{before:?}");
    // POP3 knows those again that it had.
    let (ids, octets) = by_pop3(&server);
    for (id, message) in unique.0.iter().zip(&unique.1) {
        let at = ids.iter().position(|one| one == id).unwrap();
        assert_eq!(octets[at], *message, "{id}");
    }
    // What the restore did is undone as everything is.
    server.pombal(&["undelete", A, "--at", &deleted_at], "");
    let mut imap = Imap::login(&server, "a").unwrap();
    for name in ["Back/INBOX", "Back/Work/2026", "Work/2026"] {
        let said = imap.command(&format!("EXAMINE {name}")).unwrap();
        assert!(said.last().unwrap().contains("[NONEXISTENT]"), "{said:?}");
    }
    assert!(imap.ok("EXAMINE INBOX").unwrap().contains(&"* 5 EXISTS".to_owned()));
}

/// Mail that another log had promised, and that had not come home at the moment of the backup.
#[test]
fn mail_that_was_promised_at_that_moment_comes_too() {
    let mut server = Server::with_users("", &["a", "b"]);
    let mut imap = Imap::login(&server, "a").unwrap();
    imap.append("INBOX", "()", b"Subject: one\r\n\r\none\r\n").unwrap();
    drop(imap);
    server.stop();
    with_logs(&server, |states| async move {
        let home = home(&states, AccountId(1));
        let source = &states[1 - home];
        promise(source, home).await;
        promise(source, home).await;
        // The second one has come home; it is only that its source has not heard of that.
        let spool = source.spool.borrow().pending().last().unwrap().0;
        let mut group = Group::new();
        put_idem(&mut group, source.log.id(), spool, &[AccountId(1)]);
        states[home].log.append(group).await.unwrap();
    });
    server.pombal(&["backup", &vault(&server)], "");
    server.start();
    make_anew(&server);
    for messages in [2, 0] {
        let done = restore(&server, &[]);
        assert_eq!((&done["messages"], &done["left_out"]), (&messages.into(), &0.into()), "{done}");
    }
    let (ids, octets) = by_pop3(&server);
    assert_ne!(ids[0], ids[1], "two messages, two unique ids");
    let promised = |one: &Vec<u8>| one.starts_with(b"Subject: from the spool");
    assert_eq!((octets.len(), octets.iter().filter(|one| promised(one)).count()), (2, 1));
}

/// A message of the backup is damaged: it is named, and all others come.
#[test]
fn a_damaged_message_is_named_and_the_others_come_back() {
    let server = Server::with_users("", &["a"]);
    let mut imap = Imap::login(&server, "a").unwrap();
    for number in 1..=5 {
        let text = format!("Subject: {number}\r\n\r\nthe text of message {number}\r\n");
        imap.append("INBOX", "()", text.as_bytes()).unwrap();
    }
    server.pombal(&["backup", &vault(&server)], "");
    flip(Path::new(&vault(&server)), b"the text of message 3");
    make_anew(&server);
    let vault = vault(&server);
    let output = server.try_pombal(&["restore", &vault, "--account", A], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("INBOX: UID 3: left out"), "{said}");
    let mut imap = Imap::login(&server, "a").unwrap();
    let inbox = imap.ok("EXAMINE INBOX").unwrap();
    assert!(inbox.contains(&"* 4 EXISTS".to_owned()), "{inbox:?}");
    let (_, messages) = by_pop3(&server);
    let has = |number: u32| {
        let head = format!("Subject: {number}\r\n");
        messages.iter().any(|message| message.starts_with(head.as_bytes()))
    };
    assert_eq!((1..=5).filter(|&number| has(number)).collect::<Vec<_>>(), [1, 2, 4, 5]);
}

/// Turns a bit in each place of a vault where a text lies.
fn flip(vault: &Path, text: &[u8]) {
    let mut count = 0;
    for entry in fs::read_dir(vault).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mut octets = fs::read(&path).unwrap();
            let found: Vec<usize> = memchr::memmem::find_iter(&octets, text).collect();
            count += found.len();
            for at in &found {
                octets[*at] ^= 1;
            }
            if !found.is_empty() {
                fs::write(&path, octets).unwrap();
            }
        }
    }
    assert!(count > 0, "it is in the backup");
}
