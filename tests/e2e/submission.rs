//! What users may send (RFC 6409), on the running server: as whom, how much, and what becomes of it.

use crate::client::{Link, Maildrop, smtp, stuff};
use crate::harness::Server;
use std::io;

/// `a@local.example` and his password.
const PLAIN: &str = "AUTH PLAIN AGFAbG9jYWwuZXhhbXBsZQBzZWNyZXQ=";

/// A session of a user who logged in.
fn log_in(server: &Server) -> io::Result<Link> {
    let mut link = smtp(server.submission(), "EHLO")?;
    link.command(PLAIN, 235)?;
    Ok(link)
}

/// The answer to a message.
fn send(link: &mut Link, sender: &str, to: &str, message: &str) -> io::Result<String> {
    link.command(&format!("MAIL FROM:<{sender}>"), 250)?;
    link.command(&format!("RCPT TO:<{to}>"), 250)?;
    link.command("DATA", 354)?;
    link.send(stuff(message.as_bytes()))?;
    Ok(link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?.text)
}

/// What a command is answered.
fn ask(link: &mut Link, command: &str) -> io::Result<String> {
    link.send(format!("{command}\r\n"))?;
    Ok(link.reply()?.ok_or(io::ErrorKind::UnexpectedEof)?.text)
}

fn all_mail(server: &Server, user: &str, count: usize) -> Vec<String> {
    let mut maildrop = Maildrop::open_filled(server.pop3(), user, count).unwrap();
    let all = maildrop.retrieve_all().unwrap();
    maildrop.quit().unwrap();
    all.into_iter().map(|one| String::from_utf8(one).unwrap()).collect()
}

/// The header without our trace, and without folds.
fn header(message: &str) -> Vec<String> {
    let (header, _) = message.split_once("\r\n\r\n").unwrap();
    header.replace("\r\n\t", " ").replace("\r\n ", " ").lines().map(str::to_owned).collect()
}

const RULES: &str = "[submission]\nhide_client = true\n\
                     [[submission.allow]]\nuser = \"a@local.example\"\n\
                     send_as = [\"*@sales.example\", \"c@local.example\", \"x@far.example\"]\n";

#[test]
fn the_rules_for_users_hold() {
    let mut server = Server::with_users(RULES, &["a", "b", "c"]);
    server.pombal(&["domain", "add", "sales.example"], "");
    server
        .pombal(&["alias", "add", "info@local.example", "a@local.example", "b@local.example"], "");
    let mut link = smtp(server.submission(), "EHLO").unwrap();
    link.command("MAIL FROM:<a@local.example>", 530).unwrap();
    link.command(PLAIN, 235).unwrap();
    for sender in [
        "a@local.example",
        "A@LOCAL.example",
        "a+x@local.example",
        "info@local.example",
        "c@local.example",
        "anybody@sales.example",
        "",
    ] {
        link.command(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
        link.command("RSET", 250).unwrap();
    }
    for sender in [
        "b@local.example",
        "nobody@local.example",
        "postmaster@sales.example.far.example",
        // Reports could not come back to it.
        "x@far.example",
        "c+x@local.example",
        "\"a@local.example\"@local.example",
        "@local.example:b@local.example",
    ] {
        let answer = ask(&mut link, &format!("MAIL FROM:<{sender}>")).unwrap();
        assert!(answer.starts_with("550 5.7.1 "), "{sender}: {answer}");
    }
    server.await_log(&["event=submission_refused", "why=sender", "sender=b@local.example"]);
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command("RCPT TO:<a@foreign.example>", 250).unwrap();
    link.command("RCPT TO:<a%foreign.example@local.example>", 550).unwrap();
    link.command("RSET", 250).unwrap();

    for (from, code) in [
        ("From: a@local.example\r\n", "250"),
        ("From: \"x@far.example\" <x@far.example>\r\n", "250"),
        (
            "From: Ann <A@local.example>, <info@local.example>\r\nSender: a+y@local.example\r\n",
            "250",
        ),
        ("From: b@local.example\r\n", "550 5.7.1"),
        ("From: a@local.example <b@local.example>\r\n", "550 5.6.0"),
        ("From: a@local.example, b@local.example\r\n", "550 5.7.1"),
        ("From: a@local.example\r\nSender: b@local.example\r\n", "550 5.7.1"),
        ("From: a@local.example\r\nFrom: b@local.example\r\n", "550 5.6.0"),
        ("Subject: nobody's\r\n", "550 5.6.0"),
        ("X: y\r\n\r\nFrom: a@local.example\r\n", "550 5.6.0"),
    ] {
        let message = format!("{from}\r\ntext\r\n");
        let answer = send(&mut link, "a@local.example", "c@local.example", &message).unwrap();
        assert!(answer.starts_with(code), "{from}: {answer}");
    }
    assert_eq!(all_mail(&server, "c", 3).len(), 3);
    server.stop();
}

#[test]
fn a_message_gets_what_it_lacks_and_loses_its_blind_copies() {
    let mut server = Server::with_users(RULES, &["a", "b"]);
    let mut link = log_in(&server).unwrap();
    let message = "From: a@local.example\r\nBcc: secret@local.example,\r\n\tmore@local.example\r\n\
                   To: b@local.example\r\nBCC : third@local.example\r\n\
                   Resent-Bcc:\r\n fourth@local.example\r\n\r\nBcc: text\r\n";
    let answer = send(&mut link, "a@local.example", "b@local.example", message).unwrap();
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    let whole =
        "Message-ID: <1@x>\r\nDate: Wed, 25 Nov 2026 04:11:19 +0000\r\nFrom: a@local.example\r\n";
    send(&mut link, "", "b@local.example", &format!("{whole}\r\n")).unwrap();

    let mut mail = all_mail(&server, "b", 2);
    mail.sort_by_key(|one| one.contains("<1@x>"));
    let (first, second) = (&mail[0], &mail[1]);
    let lines = header(first);
    assert_eq!(lines[0], "Return-Path: <a@local.example>");
    let received = "Received: from mx.local.example by mx.local.example with ESMTPA id ";
    assert!(lines[1].starts_with(received), "{}", lines[1]);
    assert!(lines[2].starts_with("Date: ") && lines[3].starts_with("Message-ID: <"), "{lines:?}");
    assert!(lines[3].ends_with("@mx.local.example>"), "{}", lines[3]);
    assert_eq!(lines[4..], ["From: a@local.example", "To: b@local.example"]);
    assert!(first.ends_with("\r\n\r\nBcc: text\r\n") && !first.contains("127.0.0.1"), "{first}");
    assert!(second.ends_with(&format!("\r\n{whole}\r\n")), "{second}");
    server.stop();
}

#[test]
fn sender_says_who_it_is_where_the_operator_wants_that() {
    let mut server = Server::with_users("[submission]\nfrom = \"sender\"\n", &["a", "b"]);
    let mut link = log_in(&server).unwrap();
    let message = "Sender: c@far.example\r\nFrom: b@local.example\r\nSender: d\r\n\r\n";
    let answer = send(&mut link, "a@local.example", "b@local.example", message).unwrap();
    assert!(answer.starts_with("250"), "{answer}");
    // Nobody can be named.
    let answer = send(&mut link, "", "b@local.example", message).unwrap();
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    let mail = all_mail(&server, "b", 1);
    let senders: Vec<String> =
        header(&mail[0]).into_iter().filter(|line| line.starts_with("Sender")).collect();
    assert_eq!(senders, ["Sender: <a@local.example>"]);
    assert!(mail[0].contains("Received: from client.example ([127.0.0.1])"), "{}", mail[0]);
    server.stop();
}

/// RFC 3461 §5.2.3: who asks hears that it is there, and nobody else does.
#[test]
fn a_delivery_is_reported_to_who_asks() {
    let mut server = Server::with_users("", &["a", "b", "c"]);
    let mut link = log_in(&server).unwrap();
    let mut deliver = |sender: &str, notify: &str| {
        link.command(&format!("MAIL FROM:<{sender}> RET=FULL ENVID=QQ+2B1"), 250)?;
        link.command(&format!("RCPT TO:<b@local.example>{notify}"), 250)?;
        link.command("RCPT TO:<c@local.example> NOTIFY=FAILURE,DELAY", 250)?;
        link.command("DATA", 354)?;
        link.send(stuff(b"From: a@local.example\r\nSubject: asked\r\n\r\ntext\r\n"))?;
        link.expect(250)
    };
    deliver("", " NOTIFY=SUCCESS").unwrap();
    deliver("a@local.example", " NOTIFY=NEVER").unwrap();
    deliver("a@local.example", "").unwrap();
    deliver("a@local.example", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bx@old.example").unwrap();
    let mail = all_mail(&server, "a", 1);
    assert_eq!(mail.len(), 1, "one report");
    let report = &mail[0];
    for part in [
        "Return-Path: <>\r\n",
        "To: <a@local.example>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;",
        "Reporting-MTA: dns; mx.local.example\r\n",
        "Original-Envelope-Id: QQ+1\r\n",
        "Original-Recipient: rfc822; b+x@old.example\r\n",
        "Final-Recipient: rfc822; b@local.example\r\n",
        "Action: delivered\r\nStatus: 2.1.5\r\n",
        "Subject: asked\r\n",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    assert!(!report.contains("c@local.example"), "{report}");
    assert_eq!(all_mail(&server, "b", 4).len(), 4);
    server.stop();
}

/// The allowance is one for all shards, and all sessions.
#[test]
fn an_account_may_send_so_much() {
    const MESSAGES: usize = 12;
    let rates = format!(
        "[submission]\nmessages_per_hour = {MESSAGES}\nmessages_per_day = 0\n\
         recipients_per_hour = 30\nmax_recipients = 100\n"
    );
    let mut server = Server::with_users(&rates, &["a", "b"]);
    let message = "From: a@local.example\r\n\r\n";
    let mut taken = 0;
    for _ in 0..2 * MESSAGES {
        let mut link = log_in(&server).unwrap();
        link.command("MAIL FROM:<a@local.example>", 250).unwrap();
        link.command("RCPT TO:<b@local.example>", 250).unwrap();
        let answer = ask(&mut link, "DATA").unwrap();
        if answer.starts_with("354") {
            link.send(stuff(message.as_bytes())).unwrap();
            link.expect(250).unwrap();
            taken += 1;
            continue;
        }
        assert!(answer.starts_with("450 4.7.1 "), "{answer}");
        // The session goes on, and BDAT is answered likewise.
        let answer = ask(&mut link, "BDAT 3 LAST\r\nx").unwrap();
        assert!(answer.starts_with("450 4.7.1 "), "{answer}");
        link.command("NOOP", 250).unwrap();
    }
    assert_eq!(taken, MESSAGES);
    server.await_log(&["event=submission_refused", "why=messages", "sender=a@local.example"]);
    server.stop();
}

#[test]
fn an_account_may_send_to_so_many() {
    let rates = "[submission]\nmessages_per_hour = 0\nrecipients_per_hour = 30\n\
                 recipients_per_day = 0\nmax_recipients = 100\n";
    let mut server = Server::with_users(rates, &["a", "b"]);
    let to = |count: usize| {
        let mut link = log_in(&server)?;
        link.command("MAIL FROM:<a@local.example>", 250)?;
        let mut last = String::new();
        for number in 0..count {
            last = ask(&mut link, &format!("RCPT TO:<b+{number}@local.example>"))?;
        }
        let answer = ask(&mut link, "DATA")?;
        if answer.starts_with("354") {
            link.send(stuff(b"From: a@local.example\r\n\r\n"))?;
            link.expect(250)?;
        }
        Ok::<_, io::Error>((last, answer))
    };
    let (last, answer) = to(101).unwrap();
    assert!(last.starts_with("452 4.5.3 "), "{last}");
    assert!(answer.starts_with("550 5.7.1 "), "more than ever: {answer}");
    let (_, answer) = to(20).unwrap();
    assert!(answer.starts_with("354"), "{answer}");
    let (_, answer) = to(11).unwrap();
    assert!(answer.starts_with("450 4.7.1 "), "{answer}");
    let (_, answer) = to(10).unwrap();
    assert!(answer.starts_with("354"), "{answer}");
    server.stop();
}
