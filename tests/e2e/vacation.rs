//! Answers for users who are away: who has one, once, and what it says.

use crate::client::{Maildrop, find, smtp, stuff};
use crate::harness::Server;
use crate::queue::{OPEN, route};

/// Sends a message by the port for other servers.
fn send(server: &Server, from: &str, to: &str, text: &str) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    link.command(&format!("MAIL FROM:<{from}>"), 250).unwrap();
    link.command(&format!("RCPT TO:<{to}>"), 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(stuff(text.as_bytes())).unwrap();
    link.expect(250).unwrap();
}

fn all_of(server: &Server, user: &str, count: usize) -> Vec<String> {
    let mut maildrop = Maildrop::open_filled(server.pop3(), user, count).unwrap();
    let all = maildrop.retrieve_all().unwrap();
    maildrop.quit().unwrap();
    assert_eq!(all.len(), count);
    all.into_iter().map(|one| String::from_utf8(one).unwrap()).collect()
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(find(text.as_bytes(), part.as_bytes()).is_some(), "{part} in {text}");
    }
}

/// A server with users on each of its shards, the first two of whom are away.
fn away(settings: &str) -> Server {
    let server = Server::with_users(settings, &["ann", "bob", "carl", "dora"]);
    for user in ["ann", "bob"] {
        let words =
            ["vacation", "set", &format!("{user}@local.example"), "--subject", "Weg, für länger"];
        server.pombal(&words, &format!("I am away.\nYours, {user}\n"));
    }
    server
}

/// RFC 3834 §3, RFC 5230 §4: whichever shard has the mailbox, its user answers once in the period, also behind
/// a crash; the answer says what it is, and nobody answers it.
#[test]
fn who_writes_to_a_user_who_is_away_hears_it_once() {
    let mut server = away("");
    for (number, user) in (1..).zip(["ann", "bob"]) {
        let to = format!("{user}@local.example");
        let text = format!(
            "From: carl@local.example\r\nTo: {to}\r\nSubject: lunch\r\nMessage-ID: <{number}@x.example>\r\n\r\ntext\r\n"
        );
        send(&server, "carl@local.example", &to, &text);
        let answer = &all_of(&server, "carl", number)[number - 1];
        holds(
            answer,
            &[
                "Return-Path: <>\r\n",
                &format!("From: <{to}>\r\nTo: <carl@local.example>\r\nSubject: =?utf-8?B?"),
                &format!(
                    "In-Reply-To: <{number}@x.example>\r\nReferences: <{number}@x.example>\r\n"
                ),
                "Auto-Submitted: auto-replied (vacation)\r\n",
                &format!("\r\n\r\nI am away.\r\nYours, {user}\r\n"),
            ],
        );
        send(&server, "Carl@local.example", &to, &text);
    }
    server.kill9();
    server.start();
    let text = "To: ann@local.example, bob@local.example\r\n\r\ntext\r\n";
    for user in ["ann", "bob"] {
        send(&server, "carl@local.example", &format!("{user}@local.example"), text);
        // Each is looked at in its turn: what comes behind it is answered behind it.
        send(&server, "dora@local.example", &format!("{user}@local.example"), text);
    }
    assert_eq!(all_of(&server, "dora", 2).len(), 2);
    assert_eq!(all_of(&server, "carl", 2).len(), 2);
    // An answer is answered by nobody, though its reader is away as well.
    server.pombal(&["vacation", "set", "dora@local.example"], "away too\n");
    let more = "To: ann@local.example\r\nSubject: x\r\n\r\n";
    send(&server, "dora@local.example", "ann@local.example", more);
    send(&server, "carl@local.example", "dora@local.example", "To: dora@local.example\r\n\r\n");
    holds(&all_of(&server, "carl", 3)[2], &["Subject: Auto: your message\r\n", "away too"]);
    assert_eq!(all_of(&server, "dora", 3).len(), 3);
    assert_eq!(server.figure("pombal_vacation_answers_total"), 3);
    server.stop();
}

/// RFC 3834 §2, RFC 5230 §4.5, §4.6: lists, programs, reports, his own mail, and what was sent to others have no
/// answer.
#[test]
fn what_may_not_be_answered_is_not() {
    let mut server = away("");
    server.pombal(&["alias", "add", "a@local.example", "ann@local.example"], "");
    server.pombal(
        &["alias", "add", "team@local.example", "ann@local.example", "bob@local.example"],
        "",
    );
    let to = "To: ann@local.example\r\n";
    for (from, to, header) in [
        ("", "ann", to),
        ("owner-l@local.example", "ann", to),
        ("carl@local.example", "ann", "To: ann@local.example\r\nList-Id: <l.local.example>\r\n"),
        (
            "carl@local.example",
            "ann",
            "To: ann@local.example\r\nAuto-Submitted: auto-generated\r\n",
        ),
        ("carl@local.example", "ann", "To: ann@local.example\r\nPrecedence: bulk\r\n"),
        ("carl@local.example", "ann", "To: bob@local.example\r\n"),
        ("carl@local.example", "team", "To: team@local.example\r\n"),
        ("ann+x@local.example", "ann", to),
        ("a@local.example", "ann", to),
    ] {
        send(&server, from, &format!("{to}@local.example"), &format!("{header}\r\ntext\r\n"));
    }
    // A list whose members name ann is not answered in the name of its owner, and no list has an answer.
    let members = ["ann@local.example", "dora@local.example", "--owner", "dora@local.example"];
    server.pombal(&[&["alias", "add", "l@local.example"], &members[..]].concat(), "");
    send(&server, "carl@local.example", "l@local.example", to);
    send(&server, "l@local.example", "ann@local.example", to);
    send(&server, "team@local.example", "ann@local.example", to);
    assert_eq!(all_of(&server, "dora", 1).len(), 1);
    // By an alias that is his alone he has it, and it is the first answer of all.
    send(&server, "carl@local.example", "a@local.example", "Cc: A@local.example\r\n\r\n");
    holds(&all_of(&server, "carl", 1)[0], &["From: <ann@local.example>\r\n"]);
    let words = ["vacation", "set", "bob@local.example", "--address", "b@far.example"];
    server.pombal(&words, "by another address\n");
    send(&server, "carl@local.example", "bob@local.example", "To: b@far.example\r\n\r\n");
    holds(&all_of(&server, "carl", 2)[1], &["by another address"]);
    server.pombal(&["vacation", "off", "bob@local.example"], "");
    server.pombal(&["vacation", "set", "ann@local.example", "--from", "2099-01-01"], "not yet\n");
    for user in ["ann", "bob"] {
        let user = format!("{user}@local.example");
        send(&server, "dora@local.example", &user, &format!("To: {user}\r\n\r\n"));
    }
    server.pombal(&["vacation", "set", "ann@local.example", "--until", "2099-01-01"], "now\n");
    send(&server, "dora@local.example", "ann@local.example", "To: ann@local.example\r\n\r\n");
    holds(&all_of(&server, "dora", 2)[1], &["\r\n\r\nnow\r\n"]);
    // RFC 5230 §4.2: another text is another answer.
    server.pombal(&["vacation", "set", "ann@local.example"], "for longer\n");
    send(&server, "dora@local.example", "ann@local.example", to);
    holds(&all_of(&server, "dora", 3)[2], &["\r\n\r\nfor longer\r\n"]);
    assert_eq!(server.figure("pombal_vacation_answers_total"), 4);
    server.stop();
}

/// An answer goes to other servers by the queue, with the null sender.
#[test]
fn an_answer_finds_its_way_to_other_servers() {
    let mut there = Server::with_users("", &["x"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["user", "add", "x@there.example", "--password-stdin"], "secret\n");
    let mut here = away(&format!("{OPEN}{}", route("there.example", there.smtp())));
    send(
        &here,
        "x@there.example",
        "bob@local.example",
        "To: bob@local.example\r\nSubject: x\r\n\r\n",
    );
    let log = here.await_log(&["event=attempt", "recipient=x@there.example", "outcome=delivered"]);
    assert!(log.contains("sender=\"\""), "{log}");
    here.await_log(&["event=vacation", "recipient=x@there.example", "outcome=stored"]);
    here.stop();
    there.stop();
}

/// What is set is shown, also by a server that is stopped, and refused where it cannot be meant.
#[test]
fn operators_see_and_change_what_is_answered() {
    let mut server = Server::with_users("", &["ann"]);
    let ann = "ann@local.example";
    assert_eq!(server.pombal(&["vacation", "show", ann], ""), "nothing is answered\n");
    assert_eq!(server.pombal(&["--json", "vacation", "show", ann], ""), "null\n");
    let days = ["--from", "2026-12-24", "--until", "2026-12-31", "--days", "3"];
    server.pombal(&[&["vacation", "set", ann, "--subject", "Away"], &days[..]].concat(), "text\n");
    for words in [
        &["--days", "0"][..],
        &["--until", "1999-01-01", "--from", "2026-01-01"],
        &["--address", "x"],
    ] {
        let refused = server.try_pombal(&[&["vacation", "set", ann], words].concat(), "text\n");
        assert_eq!(refused.status.code(), Some(2), "{words:?}");
    }
    assert_eq!(server.try_pombal(&["vacation", "set", ann], "").status.code(), Some(2));
    let nobody = server.try_pombal(&["vacation", "off", "no@local.example"], "");
    assert_eq!(nobody.status.code(), Some(1));
    server.stop();
    assert_eq!(
        server.pombal(&["vacation", "show", ann], ""),
        "from       2026-12-24T00:00:00Z\nuntil      2027-01-01T00:00:00Z\ndays       3\n\
         subject    Away\n\ntext\n"
    );
    server.pombal(&["vacation", "off", ann], "");
    assert_eq!(server.pombal(&["vacation", "show", ann], ""), "nothing is answered\n");
}
