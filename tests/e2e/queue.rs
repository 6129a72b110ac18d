//! Mail to other servers: two of them, with a route from one to the other.

use crate::client::{Maildrop, find, smtp, stuff};
use crate::harness::Server;
use std::io;

pub(crate) const OPEN: &str =
    "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n";

pub(crate) fn route(domain: &str, port: u16) -> String {
    format!("[[route]]\ndomain = \"{domain}\"\nrelay = \"127.0.0.1:{port}\"\n")
}

/// Sends a message by the server's port for other servers, from where it may relay.
fn send(server: &Server, sender: &str, recipients: &[&str], text: &str) -> io::Result<()> {
    let mut link = smtp(server.smtp(), "EHLO")?;
    link.command(&format!("MAIL FROM:<{sender}>"), 250)?;
    for recipient in recipients {
        link.command(&format!("RCPT TO:<{recipient}>"), 250)?;
    }
    link.command("DATA", 354)?;
    link.send(stuff(text.as_bytes()))?;
    link.expect(250)?;
    link.command("QUIT", 221)?;
    Ok(())
}

/// Entries that are in the queue.
pub(crate) fn entries(server: &Server) -> u64 {
    let told = server.pombal(&["--json", "queue", "stats"], "");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    told["stats"]["entries"].as_u64().unwrap()
}

fn has(message: &[u8], what: &str) -> bool {
    find(message, what.as_bytes()).is_some()
}

/// A message to users of both servers is in their mailboxes; a recipient whom the other server does not
/// know comes back as a report.
#[test]
fn mail_goes_to_the_other_server_and_what_it_refuses_comes_back() {
    let mut there = Server::with_users("", &["b"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["user", "add", "c@there.example", "--password-stdin"], "secret\n");
    let mut here =
        Server::with_users(&format!("{OPEN}{}", route("there.example", there.smtp())), &["a", "d"]);
    let text = "Subject: over there\r\n\r\n.dots\r\n..\r\nand text\r\n";
    let to = ["c@there.example", "d@local.example", "nobody@there.example"];
    send(&here, "a@local.example", &to, text).unwrap();
    let log = here.await_log(&["event=attempt", "recipient=c@there.example"]);
    assert!(log.contains("outcome=delivered") && log.contains("250"), "{log}");
    let mail = Maildrop::open_filled(here.pop3(), "d", 1).unwrap().retrieve_all().unwrap();
    assert!(has(&mail[0], "..\r\nand text"));
    // The report.
    let report = Maildrop::open_filled(here.pop3(), "a", 1).unwrap().retrieve_all().unwrap();
    for part in [
        "Return-Path: <>",
        "Auto-Submitted: auto-replied",
        "Final-Recipient: rfc822; nobody@there.example",
        "Action: failed",
        "Diagnostic-Code: smtp; 550 5.1.1 No such user here",
        "Subject: over there",
    ] {
        assert!(has(&report[0], part), "{part} in {}", String::from_utf8_lossy(&report[0]));
    }
    assert!(!has(&report[0], "c@there.example"));
    here.stop();
    there.stop();
}

/// What cannot go now goes later, also after a restart, once.
#[test]
fn mail_waits_for_a_server_that_is_not_there() {
    let mut there = Server::with_users("", &["b"]);
    let port = there.smtp();
    there.stop();
    let settings =
        format!("{OPEN}[queue]\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n{}", route("*", port));
    let mut here = Server::with_users(&settings, &["a"]);
    here.pombal(&["alias", "add", "away@local.example", "b@elsewhere.example"], "");
    send(&here, "a@local.example", &["away@local.example"], "Subject: late\r\n\r\n").unwrap();
    here.await_log(&["event=attempt", "recipient=b@elsewhere.example", "outcome=deferred"]);
    here.kill9();
    here.start();
    here.await_log(&["event=attempt", "attempt=2", "outcome=deferred"]);
    there.start();
    there.pombal(&["domain", "add", "elsewhere.example"], "");
    there.pombal(&["alias", "add", "b@elsewhere.example", "b@local.example"], "");
    here.await_log(&["event=attempt", "outcome=delivered"]);
    let mail = Maildrop::open_filled(there.pop3(), "b", 1).unwrap().retrieve_all().unwrap();
    assert!(has(&mail[0], "Subject: late"));
    here.stop();
    there.stop();
}

/// A route has a schedule of its own, for its mail and for its server.
#[test]
fn mail_is_tried_again_as_its_route_says() {
    let own = "retry = [\"1s\"]\nsite_retry = [\"1s\"]\nlifetime = \"2h\"\n";
    let settings = format!("{OPEN}{}{own}{}", route("near.example", 1), route("far.example", 2));
    let mut here = Server::with_users(&settings, &["a"]);
    let to = ["b@near.example", "b@far.example"];
    send(&here, "a@local.example", &to, "Subject: again\r\n\r\n").unwrap();
    here.await_log(&["event=attempt", "recipient=b@near.example", "attempt=4 "]);
    for (domain, hours) in [("near.example", 2), ("far.example", 120)] {
        let shown = here.pombal(&["--json", "queue", "list", "--domain", domain], "");
        let number = |name: &str| {
            let rest = shown.split_once(&format!("\"{name}\":")).unwrap().1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap()
        };
        assert_eq!(number("expires") - number("arrived"), hours * 3_600, "{shown}");
    }
    here.stop();
}

/// What is tried for too long comes back: after a minute, which is the least that can be set.
#[test]
fn mail_that_finds_no_way_comes_back() {
    let settings = format!(
        "{OPEN}[queue]\nretry = [\"20s\"]\nlifetime = \"1m\"\n{}",
        route("dead.example", 1)
    );
    let mut here = Server::with_users(&settings, &["a"]);
    let text = "Subject: lost\r\n\r\n";
    send(&here, "a@local.example", &["b@dead.example"], text).unwrap();
    here.await_log(&["event=attempt", "outcome=deferred"]);
    here.await_log(&["event=report", "recipient=a@local.example", "outcome=stored"]);
    let report = Maildrop::open_filled(here.pop3(), "a", 1).unwrap().retrieve_all().unwrap();
    for part in [
        "Your message could not be delivered in time",
        "Final-Recipient: rfc822; b@dead.example",
        "Action: failed",
        "Status: 4.4.",
        "Subject: lost",
    ] {
        assert!(has(&report[0], part), "{part} in {}", String::from_utf8_lossy(&report[0]));
    }
    assert_eq!(entries(&here), 0);
    here.stop();
}
