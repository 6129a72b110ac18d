//! Addresses to send from that are being warmed up: loopback has many, and another server of ours tells
//! from which one a message came.

use crate::client::{Maildrop, smtp};
use crate::harness::Server;
use std::fmt::Write as _;
use std::process::Command;

fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server that sends by these addresses to another one.
fn servers(sources: &[&str], warmed: &[(&str, &str)]) -> (Server, Server) {
    let there = Server::with_users("", &["b"]);
    there.pombal(&["domain", "add", "there.example"], "");
    there.pombal(&["alias", "add", "@there.example", "b@local.example"], "");
    let mut settings = format!(
        "[smtp]\nmax_message_size = \"4M\"\nrelay_networks = [\"127.0.0.0/8\"]\n\
         [queue]\nsources = {sources:?}\nretry = [\"1s\"]\nsite_retry = [\"1s\"]\n\
         [[route]]\ndomain = \"*\"\nrelay = \"127.0.0.1:{}\"\n",
        there.smtp()
    );
    for (address, rest) in warmed {
        write!(settings, "[[source]]\naddress = \"{address}\"\n{rest}").unwrap();
    }
    (Server::with_users(&settings, &["a"]), there)
}

fn send(server: &Server, recipient: &str) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    link.command("MAIL FROM:<a@local.example>", 250).unwrap();
    link.command(&format!("RCPT TO:<{recipient}@there.example>"), 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.command("Subject: x\r\n\r\n.", 250).unwrap();
    link.command("QUIT", 221).unwrap();
}

/// The address that a message came from.
fn source(there: &Server, recipient: &str) -> String {
    let log = there.await_log(&["event=message", &format!("recipients={recipient}@there.example")]);
    let rest = log.split_once("peer=").unwrap().1;
    rest.split(' ').next().unwrap().to_owned()
}

/// The others of the pool take what is above.
#[test]
fn a_new_address_sends_what_it_may_and_others_the_rest() {
    let table = format!("since = \"{}\"\nper_day = [2, 2]\n", today());
    let later = "since = \"2099-01-01\"\n".to_owned();
    let pool = ["127.0.0.7", "127.0.0.8", "127.0.0.9"];
    let (mut here, mut there) = servers(&pool, &[(pool[0], &table), (pool[1], &later)]);
    let mut new = 0;
    for number in 0..12 {
        let recipient = format!("n{number}");
        send(&here, &recipient);
        let from = source(&there, &recipient);
        assert_ne!(from, pool[1], "its day has not come");
        new += usize::from(from == pool[0]);
    }
    // Another one would be sent if the day changed meanwhile.
    assert!(new <= 4, "{new}");
    here.stop();
    there.stop();
}

/// Nobody may send: mail waits, an attempt is not counted, and a restart forgets nothing.
#[test]
fn mail_waits_when_all_of_a_pool_have_sent_what_they_may() {
    let table = format!("since = \"{}\"\nper_day = [2, 2]\n", today());
    let (mut here, mut there) = servers(&["127.0.0.7"], &[("127.0.0.7", &table)]);
    for recipient in ["one", "two"] {
        send(&here, recipient);
        assert_eq!(source(&there, recipient), "127.0.0.7");
    }
    send(&here, "three");
    here.await_log(&["event=sources_spent", "domain=there.example"]);
    let listed = here.pombal(&["--json", "queue", "list"], "");
    assert!(
        listed.contains("three@there.example") && listed.contains("\"attempts\":0"),
        "{listed}"
    );
    here.stop();
    let kept = std::fs::read_to_string(here.data_dir().join("warmup")).unwrap();
    assert!(kept.starts_with("127.0.0.7 ") && kept.ends_with(" 2\n"), "{kept}");
    here.edit("[2, 2]", |_| "[3, 3]".into());
    here.start();
    assert_eq!(source(&there, "three"), "127.0.0.7");
    send(&here, "four");
    here.await_log(&["event=sources_spent", "domain=there.example"]);
    here.edit("[3, 3]", |_| "[4, 4]".into());
    here.restart();
    assert_eq!(source(&there, "four"), "127.0.0.7");
    let mail = Maildrop::open_filled(there.pop3(), "b", 4).unwrap().retrieve_all().unwrap();
    assert_eq!(mail.len(), 4);
    here.stop();
    there.stop();
}
