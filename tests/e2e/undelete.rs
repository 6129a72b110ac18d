//! What a user deleted comes back, as a journal of an IMAP session has it: `pombal undelete`, of a server
//! that runs and of one that is stopped.

use crate::backup::{Seen, look, now, send};
use crate::client::smtp;
use crate::harness::Server;
use crate::imap::Imap;
use std::time::Duration;

/// A second (RFC 3339) and what was there at its end.
struct Entry {
    at: String,
    seen: Seen,
    step: &'static str,
}

/// What is to be the same: not the UIDVALIDITY, nor what comes of it.
fn seen(server: &Server) -> Seen {
    let mut seen = look(server, "a");
    seen.retain(|line| {
        line.starts_with("* LIST") || line.ends_with(" EXISTS") || !line.starts_with("* OK")
    });
    seen.retain(|line| !line.starts_with("* FLAGS"));
    seen
}

/// Waits until another second has begun.
pub(crate) fn next_second() {
    let whole = |text: &str| text.split('.').next().map(str::to_owned);
    let before = whole(&now());
    while whole(&now()) == before {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn work(server: &Server) -> Vec<Entry> {
    let mut imap = Imap::login(server, "a").unwrap();
    let mut journal = Vec::new();
    let mut step = |step: &'static str, imap: &mut Imap, commands: &[&str]| {
        next_second();
        for command in commands {
            imap.ok(command).unwrap();
        }
        journal.push(Entry { at: now(), seen: seen(server), step });
    };
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for number in 1..=5 {
        send(&mut link, &["a"], &format!("Subject: {number}\r\n\r\ntext {number}\r\n"));
    }
    step("mail", &mut imap, &["NOOP"]);
    step("folders", &mut imap, &["CREATE Work/2026", "SUBSCRIBE Work/2026", "SELECT INBOX"]);
    step("copy and flags", &mut imap, &["COPY 1:2 Work/2026", "STORE 1:4 +FLAGS (\\Seen $Later)"]);
    step("move", &mut imap, &["MOVE 2 Work"]);
    step("expunge", &mut imap, &["STORE 1 +FLAGS (\\Deleted)", "EXPUNGE"]);
    step("rename", &mut imap, &["RENAME Work Done", "STORE 1:* FLAGS ()"]);
    step("delete", &mut imap, &["DELETE Done/2026", "DELETE Done", "UNSUBSCRIBE Work/2026"]);
    next_second();
    send(&mut link, &["a"], "Subject: late\r\n\r\nlate\r\n");
    step("all gone", &mut imap, &["STORE 1:* +FLAGS (\\Deleted)", "EXPUNGE"]);
    journal
}

#[test]
fn brings_back_any_second_of_a_session_running_and_stopped() {
    let mut server = Server::with_users("", &["a"]);
    let journal = work(&server);
    let mut open = Imap::login(&server, "a").unwrap();
    open.ok("SELECT INBOX").unwrap();
    next_second();
    // There and back again; what was there is in the history each time.
    for entry in journal.iter().rev().chain(&journal) {
        let user = "a@local.example";
        let told = server.pombal(&["undelete", user, "--at", &entry.at, "--dry-run"], "");
        assert!(told.contains("would be as at"), "{told}");
        server.pombal(&["undelete", user, "--at", &entry.at], "");
        assert_eq!(seen(&server), entry.seen, "{} at {}", entry.step, entry.at);
    }
    // Who had it open cannot go on with what he knows.
    open.link.send("tag NOOP\r\n").unwrap();
    let said: Vec<String> = std::iter::from_fn(|| open.line().ok()).collect();
    assert!(said.iter().any(|line| line.starts_with("* BYE")), "{said:?}");
    refusals(&server);
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &["a"], "Subject: new\r\n\r\nnew\r\n");
    server.stop();
    // Beside, of a server that is stopped.
    let entry = &journal[2];
    let words = ["undelete", "a@local.example", "--at", &entry.at, "--beside", "Back", "--json"];
    let told: serde_json::Value = serde_json::from_str(&server.pombal(&words, "")).unwrap();
    let rows = told["mailboxes"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["name"] == "Back/Work/2026" && row["messages"] == 2));
    server.pombal(&["store", "verify"], "");
    server.start();
    let mut imap = Imap::login(&server, "a").unwrap();
    let inbox = imap.ok("EXAMINE Back/INBOX").unwrap();
    assert!(inbox.contains(&"* 5 EXISTS".to_owned()), "{inbox:?}");
    let fetched = imap.ok("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").unwrap();
    let flags = fetched.iter().filter(|line| line.contains("$Later")).count();
    assert_eq!(flags, 4, "{fetched:?}");
}

fn refusals(server: &Server) {
    let refused = |words: &[&str], what: &str| {
        let output = server.try_pombal(words, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what), "{words:?}: {said}");
    };
    let (user, long_ago) = ("a@local.example", "2020-01-01T00:00:00Z");
    refused(&["undelete", user, "--at", long_ago], "not known any more");
    refused(&["undelete", user, "--at", "2100-01-01T00:00:00Z"], "still to come");
    refused(&["undelete", "x@local.example", "--at", long_ago], "there is no user");
    let at = &now();
    next_second();
    refused(&["undelete", user, "--at", at, "--beside", "INBOX"], "of that name already");
}
