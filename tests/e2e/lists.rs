//! Lists: aliases with an owner, who is the sender of what they send on, and hears what became of it; and
//! aliases that lead in a circle of servers.

use crate::client::{Maildrop, find, smtp, stuff};
use crate::harness::Server;
use crate::queue::{OPEN, route};

/// Sends a message from where it may relay.
fn send(server: &Server, mail: &str, recipients: &[&str], subject: &str) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    link.command(mail, 250).unwrap();
    for recipient in recipients {
        link.command(recipient, 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(stuff(format!("Subject: {subject}\r\n\r\ntext\r\n").as_bytes())).unwrap();
    link.expect(250).unwrap();
}

/// All mail of a user, in which there are so many messages.
fn mail_of(server: &Server, user: &str, count: usize) -> Vec<String> {
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

/// RFC 5321 §3.9.2, RFC 3461 §5.2.7.1: members get it from the owner, who hears of whom it does not reach;
/// its sender hears that the list has it, as he asked. The null sender stays.
#[test]
fn reports_on_what_a_list_sends_on_go_to_its_owner() {
    let mut there = Server::with_users("", &["c"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["user", "add", "c@there.example", "--password-stdin"], "secret\n");
    let settings = format!("{OPEN}{}", route("there.example", there.smtp()));
    let mut here = Server::with_users(&settings, &["owner", "bob", "eve", "dan"]);
    let members = ["bob@local.example", "c@there.example", "nobody@there.example"];
    let add =
        [&["alias", "add", "list@local.example", "--owner", "owner@local.example"], &members[..]];
    here.pombal(&add.concat(), "");
    let mail = "MAIL FROM:<eve@local.example> RET=FULL ENVID=e1";
    let list =
        "RCPT TO:<list@local.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@local.example";
    send(&here, mail, &[list], "first");
    let own = "Return-Path: <owner@local.example>\r\n";
    holds(&mail_of(&here, "bob", 1)[0], &[own, "Subject: first"]);
    here.await_log(&["event=report", "recipient=owner@local.example", "outcome=stored"]);
    let report = &mail_of(&here, "owner", 1)[0];
    let failed = "Final-Recipient: rfc822; nobody@there.example\r\nAction: failed\r\n";
    holds(report, &["Return-Path: <>\r\n", failed]);
    assert!(!report.contains("Envelope-Id") && !report.contains("Original-Recipient"), "{report}");
    let told = &mail_of(&here, "eve", 1)[0];
    let taken =
        "Final-Recipient: rfc822; list@local.example\r\nAction: delivered\r\nStatus: 2.1.5\r\n";
    holds(told, &[taken, "Original-Envelope-Id: e1\r\n"]);
    let log = here.await_log(&["event=attempt", "recipient=c@there.example", "outcome=delivered"]);
    assert!(log.contains("sender=owner@local.example"), "{log}");
    // What others get too has its sender on top.
    let both = ["RCPT TO:<list@local.example>", "RCPT TO:<dan@local.example>"];
    send(&here, "MAIL FROM:<eve@local.example>", &both, "second");
    holds(&mail_of(&here, "dan", 1)[0], &["Return-Path: <eve@local.example>\r\n"]);
    here.await_log(&["event=report", "recipient=owner@local.example", "outcome=stored"]);
    send(&here, "MAIL FROM:<>", &["RCPT TO:<list@local.example>"], "third");
    let log = here.await_log(&["event=attempt", "sender=\"\"", "recipient=nobody@there.example"]);
    assert!(log.contains("outcome=failed"), "{log}");
    holds(&mail_of(&here, "bob", 3)[2], &["Return-Path: <>\r\n", "Subject: third"]);
    assert_eq!(mail_of(&here, "owner", 2).len(), 2);
    here.stop();
    there.stop();
}

/// An owner is given, shown, kept by other changes and through a restart, and taken away.
#[test]
fn an_alias_becomes_a_list_and_an_alias_again() {
    let mut here = Server::with_users("", &["ann", "bob"]);
    let list = "list@local.example";
    here.pombal(&["alias", "add", list, "ann@local.example", "x@far.example"], "");
    let shown = |here: &Server| here.pombal(&["alias", "list"], "");
    assert!(!shown(&here).contains("owner"), "{}", shown(&here));
    let refused = here.try_pombal(&["alias", "add", list, "--owner", "no@local.example"], "");
    assert_eq!(refused.status.code(), Some(1));
    here.pombal(&["alias", "add", list, "--owner", "bob@local.example"], "");
    here.pombal(&["alias", "add", list, "y@far.example"], "");
    here.pombal(&["alias", "del", list, "x@far.example"], "");
    here.kill9();
    here.start();
    let listed = here.pombal(&["--json", "alias", "list"], "");
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        listed[0],
        serde_json::json!({
            "address": list,
            "targets": ["ann@local.example", "y@far.example"],
            "owner": "bob@local.example",
        })
    );
    holds(&shown(&here), &["owner", "bob@local.example"]);
    let explained = here.pombal(&["explain", "rcpt", list], "");
    holds(&explained, &["alias for ann@local.example, y@far.example, a list of bob@local.example"]);
    here.pombal(&["alias", "add", list, "--no-owner"], "");
    assert!(!shown(&here).contains("bob@local.example"), "{}", shown(&here));
    here.stop();
}

/// RFC 9228 §4: an address that leads out is put in front as Delivered-To, and refuses what has been there.
#[test]
fn mail_that_goes_round_comes_back_at_once() {
    let mut there = Server::with_users(&format!("{OPEN}{}", route("here.example", 1)), &["eve"]);
    let settings = format!("{OPEN}{}", route("there.example", there.smtp()));
    let mut here = Server::with_users(&settings, &["eve", "bob"]);
    for (server, domain, alias, target) in [
        (&here, "here.example", "a@here.example", "b@there.example"),
        (&there, "there.example", "b@there.example", "a@here.example"),
    ] {
        server.pombal(&["domain", "add", domain], "");
        server.pombal(&["alias", "add", alias, target], "");
    }
    let owned =
        ["alias", "add", "l@here.example", "b@there.example", "--owner", "bob@local.example"];
    here.pombal(&owned, "");
    there.reload("127.0.0.1:1\"", &format!("127.0.0.1:{}\"", here.smtp()));
    let mail = "MAIL FROM:<eve@local.example>";
    send(&here, mail, &["RCPT TO:<A@here.example>"], "round");
    // There it came from the one, and went to the other, which had it before.
    there.await_log(&["event=report", "recipient=eve@local.example", "outcome=stored"]);
    let report = &mail_of(&there, "eve", 1)[0];
    let failed = "Final-Recipient: rfc822; a@here.example\r\nAction: failed\r\nStatus: 5.4.6\r\n";
    holds(report, &[failed, "Delivered-To: A@here.example\r\n", "550 5.4.6 mail forwarding loop"]);
    // Who is not in the circle gets it; the sender hears of who is.
    let mut link = smtp(here.smtp(), "EHLO").unwrap();
    for command in [mail, "RCPT TO:<a@here.example>", "RCPT TO:<bob@local.example>"] {
        link.command(command, 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    let text = b"Subject: both\r\nDelivered-To: a@here.example\r\n\r\ntext\r\n";
    link.send(stuff(text)).unwrap();
    link.expect(250).unwrap();
    holds(&mail_of(&here, "bob", 1)[0], &["Subject: both"]);
    let report = &mail_of(&here, "eve", 1)[0];
    holds(report, &[failed, "mail forwarding loop"]);
    // Who asked hears that the list does not have it, and not that it has.
    let mut link = smtp(here.smtp(), "EHLO").unwrap();
    let list = "RCPT TO:<l@here.example> NOTIFY=SUCCESS,FAILURE";
    for command in [mail, list, "RCPT TO:<bob@local.example>"] {
        link.command(command, 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(stuff(b"Subject: list\r\nDelivered-To: l@here.example\r\n\r\ntext\r\n")).unwrap();
    link.expect(250).unwrap();
    let failed = "Final-Recipient: rfc822; l@here.example\r\nAction: failed\r\nStatus: 5.4.6\r\n";
    holds(&mail_of(&here, "eve", 2)[1], &[failed]);
    // By LMTP each has his own answer.
    let mut link = smtp(here.lmtp(), "LHLO").unwrap();
    for command in [mail, "RCPT TO:<a@here.example>", "RCPT TO:<bob@local.example>"] {
        link.command(command, 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(stuff(text)).unwrap();
    link.expect(550).unwrap();
    link.expect(250).unwrap();
    assert_eq!((mail_of(&here, "bob", 3).len(), mail_of(&here, "eve", 2).len()), (3, 2));
    here.stop();
    there.stop();
}
