//! What a sender asks of the queue: when a message goes, by when it has to be there, how urgent it is,
//! and what he wants to hear of each recipient.

use crate::client::{Link, Maildrop, find, smtp, stuff};
use crate::harness::Server;
use serde_json::Value;
use std::io;

/// `a@local.example` and his password.
const PLAIN: &str = "AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=";
const OPEN: &str = "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n";

fn log_in(server: &Server) -> Link {
    let mut link = smtp(server.submission(), "EHLO").unwrap();
    link.command(PLAIN, 235).unwrap();
    link
}

/// Sends a message, with parameters behind its sender and its recipients; what MAIL was answered.
fn send(link: &mut Link, mail: &str, recipients: &[&str], subject: &str) -> io::Result<String> {
    let said = link.command(&format!("MAIL FROM:<a@local.example>{mail}"), 250)?;
    for recipient in recipients {
        let (address, params) = recipient.split_once(' ').unwrap_or((recipient, ""));
        link.command(&format!("RCPT TO:<{address}> {params}"), 250)?;
    }
    link.command("DATA", 354)?;
    let text = format!("From: a@local.example\r\nSubject: {subject}\r\n\r\ntext\r\n");
    link.send(stuff(text.as_bytes()))?;
    link.expect(250)?;
    Ok(said.text)
}

fn mail_of(server: &Server, user: &str, count: usize) -> Vec<String> {
    let mut maildrop = Maildrop::open_filled(server.pop3(), user, count).unwrap();
    let all = maildrop.retrieve_all().unwrap();
    maildrop.quit().unwrap();
    // Folds are undone: a header is read as it is meant.
    let text = |one: Vec<u8>| String::from_utf8(one).unwrap().replace("\r\n\t", " ");
    all.into_iter().map(text).collect()
}

fn count(server: &Server, user: &str) -> usize {
    let maildrop = Maildrop::open(server.pop3(), user, false).unwrap();
    let count = maildrop.count;
    maildrop.quit().unwrap();
    count
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(find(text.as_bytes(), part.as_bytes()).is_some(), "{part} in {text}");
    }
}

/// The recipients of all entries, and how they stand.
fn states(server: &Server) -> Vec<(String, String)> {
    let rows: Value =
        serde_json::from_str(&server.pombal(&["--json", "queue", "list"], "")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    let mut found: Vec<_> = rows
        .map(|row| (text(&row["recipients"][0]["address"]), text(&row["next"]["state"])))
        .collect();
    found.sort();
    found
}

fn route(server: &Server) -> String {
    format!("[[route]]\ndomain = \"there.example\"\nrelay = \"127.0.0.1:{}\"\n", server.smtp())
}

/// A server for there.example, whose only mailbox is b's.
fn there(settings: &str) -> Server {
    let there = Server::with_users(settings, &["b"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["alias", "add", "@there.example", "b@local.example"], "");
    there
}

/// RFC 4865 §4.2: what is held is in no mailbox, here or elsewhere, whoever it is for; it is there once when
/// its time has come, and its sender hears of that.
#[test]
fn what_is_held_waits_for_everybody_and_comes_once() {
    let mut there = there("");
    let mut here = Server::with_users(&route(&there), &["a", "b", "c"]);
    here.pombal(&["alias", "add", "both@local.example", "b@local.example", "x@there.example"], "");
    let mut link = log_in(&here);
    let to = ["b@local.example NOTIFY=SUCCESS", "c@local.example", "y@there.example"];
    send(&mut link, " HOLDFOR=86400 ENVID=e1", &to, "held").unwrap();
    send(&mut link, " HOLDFOR=86400", &["both@local.example"], "alias").unwrap();
    send(&mut link, " HOLDFOR=86400", &["a@local.example"], "never").unwrap();
    // What is not held is not behind it.
    send(&mut link, "", &["c@local.example"], "at once").unwrap();
    assert_eq!(mail_of(&here, "c", 1).len(), 1);
    let later = |address: &str| (address.to_owned(), "later".to_owned());
    let waiting = [
        later("a@local.example"),
        later("b@local.example"),
        later("both@local.example"),
        later("y@there.example"),
    ];
    assert_eq!(states(&here), waiting);
    // A restart brings nothing, and forgets nothing.
    here.kill9();
    here.start();
    assert_eq!(states(&here), waiting);
    assert_eq!((count(&here, "b"), count(&here, "c"), count(&there, "b")), (0, 1, 0));
    // To try it now is not to release it.
    let retried = here.try_pombal(&["queue", "retry", "--recipient", "b@local.example"], "");
    assert_eq!(retried.status.code(), Some(1));
    // One is cancelled, and never comes; the others are released.
    here.pombal(&["queue", "delete", "--recipient", "a@local.example"], "");
    here.pombal(&["queue", "release", "--all"], "");
    let subjects = |mail: &[String]| {
        let line = |one: &String| one.split("Subject: ").nth(1).unwrap().to_owned();
        let subject = |one: &String| line(one).lines().next().unwrap().to_owned();
        let mut all: Vec<String> = mail.iter().map(subject).collect();
        all.sort();
        all
    };
    assert_eq!(subjects(&mail_of(&here, "b", 2)), ["alias", "held"]);
    assert_eq!(subjects(&mail_of(&here, "c", 2)), ["at once", "held"]);
    assert_eq!(subjects(&mail_of(&there, "b", 2)), ["alias", "held"]);
    let report = mail_of(&here, "a", 1);
    holds(
        &report[0],
        &[
            "Original-Envelope-Id: e1\r\n",
            "Future-Release-Request: for;86400\r\n",
            "Final-Recipient: rfc822; b@local.example\r\nAction: delivered\r\nStatus: 2.1.5\r\n",
        ],
    );
    assert!(!report[0].contains("c@local.example"), "{}", report[0]);
    assert_eq!(states(&here), []);
    assert_eq!((count(&here, "a"), count(&here, "b"), count(&here, "c")), (1, 2, 2));
    here.stop();
    there.stop();
}

/// It goes by itself when its time has come, though the server was away then; what cannot be delivered any
/// more comes back.
#[test]
fn what_is_held_comes_by_itself_or_comes_back() {
    let mut here = Server::with_users("", &["a", "b", "c"]);
    let mut link = log_in(&here);
    send(&mut link, " HOLDFOR=1", &["b@local.example"], "soon").unwrap();
    holds(&mail_of(&here, "b", 1)[0], &["Subject: soon\r\n"]);
    let to = ["b@local.example", "c@local.example"];
    send(&mut link, " HOLDUNTIL=2000-01-01T00:00:00Z", &["b@local.example"], "over").unwrap();
    assert_eq!(mail_of(&here, "b", 2).len(), 2);
    send(&mut link, " HOLDFOR=86400", &to, "later").unwrap();
    here.pombal(&["user", "del", "c@local.example"], "");
    here.stop();
    here.pombal(&["queue", "release", "--all"], "");
    here.start();
    let mail = mail_of(&here, "b", 3);
    assert!(mail.iter().any(|one| one.contains("Subject: later\r\n")));
    let report = mail_of(&here, "a", 1);
    let gone = "Final-Recipient: rfc822; c@local.example\r\nAction: failed\r\nStatus: 5.1.1\r\n";
    holds(&report[0], &[gone, "Subject: later\r\n", "Future-Release-Request: for;86400\r\n"]);
    assert!(!report[0].contains("b@local.example"), "{}", report[0]);
    here.await_log(&["event=attempt", "recipient=b@local.example", "outcome=delivered"]);
    here.stop();
}

/// RFC 6710 §4.1, §4.2: who may relay may say how urgent his mail is, it is told in Received, and goes on
/// with the message; others may make theirs less urgent.
#[test]
fn mail_is_as_urgent_as_its_sender_may_say() {
    let trusting = format!("{OPEN}priority_policy = \"MIXER\"\n");
    let mut there = there(&trusting);
    let settings = format!("[submission]\nmax_priority = 6\n{}", route(&there));
    let mut here = Server::with_users(&settings, &["a", "b"]);
    let hello = smtp(there.smtp(), "HELO").map(|mut link| link.command("EHLO x", 250));
    holds(&hello.unwrap().unwrap().text, &["MT-PRIORITY MIXER"]);
    let mut link = log_in(&here);
    let to = ["b@local.example", "y@there.example"];
    assert!(send(&mut link, " MT-PRIORITY=6", &to, "x").unwrap().starts_with("250 2.1.0 "));
    let said = send(&mut link, " MT-PRIORITY=9", &["b@local.example"], "x").unwrap();
    assert!(said.starts_with("250 2.3.6 6 "), "{said}");
    // Somebody whom nobody knows.
    let mut stranger = smtp(here.smtp(), "EHLO").unwrap();
    let said = send(&mut stranger, " MT-PRIORITY=3", &["b@local.example"], "x").unwrap();
    assert!(said.starts_with("250 2.3.6 0 "), "{said}");
    let said = send(&mut stranger, " MT-PRIORITY=-3", &["b@local.example"], "x").unwrap();
    assert!(said.starts_with("250 2.1.0 "), "{said}");
    send(&mut stranger, "", &["b@local.example"], "x").unwrap();
    let priority = |mail: &String| {
        let received = mail.split("Received: ").nth(1).unwrap();
        let clause = received.split("\r\n").next().unwrap().split(" PRIORITY ").nth(1);
        clause.and_then(|rest| rest.split(';').next()).unwrap_or("none").to_owned()
    };
    let mut found: Vec<_> = mail_of(&here, "b", 5).iter().map(priority).collect();
    found.sort();
    assert_eq!(found, ["-3", "0", "6", "6", "none"]);
    assert_eq!(priority(&mail_of(&there, "b", 1)[0]), "6");
    here.await_log(&["event=message", "priority=6"]);
    there.await_log(&["event=message", "priority=6"]);
    here.stop();
    there.stop();
}

/// RFC 2852 §4.1: what the next server is asked for, and what a sender hears where that does not heed times.
#[test]
fn a_time_to_deliver_by_is_passed_on_or_told_of() {
    let mut heeds = there(OPEN);
    let mut ignores =
        Server::with_users("[smtp]\nmax_message_size = \"4M\"\ndeliver_by = false\n", &["b"]);
    ignores.pombal(&["domain", "add", "late.example"], "");
    ignores.pombal(&["alias", "add", "@late.example", "b@local.example"], "");
    let routes = format!(
        "{}[[route]]\ndomain = \"late.example\"\nrelay = \"127.0.0.1:{}\"\n",
        route(&heeds),
        ignores.smtp()
    );
    let mut here = Server::with_users(&format!("{OPEN}min_deliver_by = \"10s\"\n{routes}"), &["a"]);
    let mut link = log_in(&here);
    link.send("MAIL FROM:<a@local.example> BY=9;R\r\n").unwrap();
    link.expect(555).unwrap();
    link.send("MAIL FROM:<a@local.example> BY=0;R\r\n").unwrap();
    link.expect(501).unwrap();
    // Passed on: nobody has to be told.
    send(&mut link, " BY=3600;R", &["r@there.example"], "heeded").unwrap();
    send(&mut link, " BY=3600;N", &["n@there.example"], "heeded").unwrap();
    send(&mut link, " BY=3600;RT", &["t@there.example"], "traced").unwrap();
    send(&mut link, " BY=3600;N", &["n@late.example"], "not heeded").unwrap();
    send(&mut link, " BY=3600;N", &["quiet@late.example NOTIFY=NEVER"], "not heeded").unwrap();
    send(&mut link, " BY=3600;R", &["r@late.example"], "comes back").unwrap();
    assert_eq!(mail_of(&heeds, "b", 3).len(), 3);
    assert_eq!(mail_of(&ignores, "b", 2).len(), 2);
    let mut reports = mail_of(&here, "a", 3);
    reports.sort_by_key(|one| one.split("Final-Recipient: ").nth(1).unwrap().to_owned());
    for (report, recipient, action, status) in [
        (&reports[0], "n@late.example", "relayed", "2."),
        (&reports[1], "r@late.example", "failed", "5.4.7"),
        (&reports[2], "t@there.example", "relayed", "2."),
    ] {
        let told =
            format!("Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}");
        holds(report, &[&told, "Arrival-Date: ", "Deliver-By-Date: "]);
    }
    for recipient in ["r@there.example", "n@there.example", "quiet@late.example"] {
        here.await_log(&["event=attempt", &format!("recipient={recipient} "), "delivered"]);
    }
    assert_eq!(here.figure("pombal_queue_reports_total"), 3);
    here.stop();
    heeds.stop();
    ignores.stop();
}

/// RFC 2852 §4.1.3: whose time is over hears so, and in mode R has it back.
#[test]
fn a_time_that_is_over_is_told_and_ends_what_has_to_come_back() {
    let dead = "[queue]\nretry = [\"1h\"]\nsite_retry = [\"1h\"]\n\
                [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:1\"\n";
    let mut here = Server::with_users(dead, &["a"]);
    let mut link = log_in(&here);
    send(&mut link, " BY=2;N", &["n@dead.example"], "x").unwrap();
    // What takes longer to come than it has is refused; a machine that is busy needs more.
    let mut hand_in =
        |seconds: u32| send(&mut link, &format!(" BY={seconds};R"), &["r@other.example"], "x");
    assert!([2, 10, 60].into_iter().any(|seconds| hand_in(seconds).is_ok()));
    send(&mut link, " BY=-5;N", &["past@third.example"], "x").unwrap();
    send(&mut link, " BY=2;N", &["quiet@fourth.example NOTIFY=FAILURE"], "x").unwrap();
    let mut reports = mail_of(&here, "a", 3);
    reports.sort_by_key(|one| one.split("Final-Recipient: ").nth(1).unwrap().to_owned());
    for (report, recipient, action, status) in [
        (&reports[0], "n@dead.example", "delayed", "4.4.7"),
        (&reports[1], "past@third.example", "delayed", "4.4.7"),
        (&reports[2], "r@other.example", "failed", "5.4.7"),
    ] {
        let told = format!(
            "Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        );
        holds(report, &[&told, "Deliver-By-Date: "]);
    }
    let left: Vec<String> = states(&here).into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, ["n@dead.example", "past@third.example", "quiet@fourth.example"]);
    here.stop();
}

/// RFC 2033 §4.2, RFC 3461 §5.2.3: each recipient of LMTP has his own reply, and who has the message is
/// reported on to who asked; who has not is left to his reply.
#[test]
fn by_lmtp_those_are_reported_on_who_got_it() {
    let mut server = Server::with_users("", &["a", "b", "c"]);
    server.add_user_with_quota("full@local.example", Some(4));
    let mut link = smtp(server.lmtp(), "LHLO").unwrap();
    link.command("MAIL FROM:<a@local.example> RET=HDRS ENVID=l1", 250).unwrap();
    for (user, notify) in [
        ("b", " NOTIFY=SUCCESS,FAILURE"),
        ("full", " NOTIFY=SUCCESS"),
        ("a", ""),
        ("c", " NOTIFY=SUCCESS ORCPT=rfc822;see@elsewhere.example"),
    ] {
        link.command(&format!("RCPT TO:<{user}@local.example>{notify}"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    let text = format!("Subject: large\r\n\r\n{}", "text of a line\r\n".repeat(1_000));
    link.send(stuff(text.as_bytes())).unwrap();
    for code in [250, 552, 250, 250] {
        link.expect(code).unwrap();
    }
    let mail = mail_of(&server, "a", 2);
    let report = mail.iter().find(|one| one.starts_with("Return-Path: <>")).unwrap();
    holds(
        report,
        &[
            "Original-Envelope-Id: l1\r\n",
            "Final-Recipient: rfc822; b@local.example\r\nAction: delivered\r\n",
            "Original-Recipient: rfc822; see@elsewhere.example\r\n\
             Final-Recipient: rfc822; c@local.example\r\nAction: delivered\r\n",
        ],
    );
    assert!(!report.contains("full@") && !report.contains("rfc822; a@"), "{report}");
    // Nobody of whom its sender wants to hear has it: there is nothing to report.
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command("RCPT TO:<full@local.example> NOTIFY=SUCCESS", 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(stuff(text.as_bytes())).unwrap();
    link.expect(552).unwrap();
    assert_eq!(count(&server, "a"), 2);
    server.stop();
}
