//! What one peer may cost the others, on the running server: each bound is reached, and holds.

use crate::client::{Link, ok, smtp};
use crate::harness::{PASSWORD, Server};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Clients of one kind that misbehave at once.
const COUNT: usize = 100;

/// A peer that pipelines commands and reads nothing has little more than `limits.reply_memory`
/// waiting for it, not all that its commands call for.
#[test]
fn who_does_not_read_is_not_answered_on() {
    let bound = "[limits]\nconnections_per_address = 0\nreply_memory = \"16K\"\n\
                 [smtp]\nmax_message_size = \"4M\"\nmax_junk_commands = 1000000\n";
    let mut server = Server::with_users(bound, &["a"]);
    // The first replies go into the buffers of the sockets: those behind them wait.
    let flood = b"EHLO a\r\n".repeat(64_000);
    let before = server.memory_kib("VmHWM");
    let links: Vec<Link> = (0..COUNT)
        .map(|_| {
            let mut link = smtp(server.smtp(), "EHLO").unwrap();
            link.send(&flood).unwrap();
            link
        })
        .collect();
    serves_on(&server).unwrap();
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    // A receive block and the replies of each; without the bound, 200 MiB.
    assert!(grown < 32 << 10, "{grown} KiB for {COUNT} peers");
    drop(links);
    server.stop();
}

/// Clients that promise much and send nothing leave the memory for drafts to those who send.
#[test]
fn a_promised_size_keeps_nobody_out() {
    let memory = "[limits]\nconnections_per_address = 0\ndraft_memory = \"8M\"\n";
    let mut server = Server::with_users(memory, &["a"]);
    let begin = |size: usize| {
        let mut link = smtp(server.smtp(), "EHLO")?;
        link.command(&format!("MAIL FROM:<> SIZE={size}"), 250)?;
        link.command("RCPT TO:<a@local.example>", 250)?;
        link.command("DATA", 354)?;
        Ok::<_, io::Error>(link)
    };
    let idle: Vec<Link> = (0..COUNT).map(|_| begin(4 << 20).unwrap()).collect();
    let message = b"0123456789abcdef\r\n".repeat(50_000);
    for _ in 0..8 {
        let mut link = begin(message.len()).unwrap();
        link.send(&message).unwrap();
        link.command(".", 250).unwrap();
    }
    drop(idle);
    server.stop();
}

/// One address may have as many connections as the operator allows, however they fall on the shards.
#[test]
fn one_address_has_all_the_connections_it_may_have() {
    let mut server = Server::with_users("[limits]\nconnections_per_address = 24\n", &["a"]);
    let mut links = Vec::new();
    for _ in 0..24 {
        links.push(smtp(server.smtp(), "EHLO").unwrap());
    }
    drop(links);
    server.stop();
}

/// Who logs in to a maildrop whose shard is full is told so, and not just hung up on.
#[test]
fn a_login_that_a_full_shard_cannot_take_is_answered() {
    let names: Vec<String> = (0..40).map(|number| format!("u{number}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let limits = "[limits]\nconnections_per_address = 0\nconnections = 16\n";
    let mut server = Server::with_users(limits, &users);
    let mut held = Vec::new();
    // Both shards have users: at last one is full, and the other one passes a login on to it.
    let mut is_told = false;
    for user in users {
        let mut link = admitted(&server, &mut held);
        link.send(format!("USER {user}@local.example\r\nPASS {PASSWORD}\r\n")).unwrap();
        ok(&mut link).unwrap();
        let answer = link.line().unwrap().expect("an answer to the login");
        if answer.starts_with(b"+OK") {
            held.push(link);
            continue;
        }
        assert!(answer.starts_with(b"-ERR [SYS/TEMP]"), "{}", answer.escape_ascii());
        is_told = true;
    }
    assert!(is_told, "{} sessions, and no shard was full before the other", held.len());
    drop(held);
    server.stop();
}

/// A POP3 session behind its greeting, on a shard that has room: the kernel deals. Where both are
/// full, one of those that are held goes.
fn admitted(server: &Server, held: &mut Vec<Link>) -> Link {
    for round in 1..10_000 {
        let mut link = Link::connect(server.pop3()).unwrap();
        if ok(&mut link).is_ok() {
            return link;
        }
        if round % 100 == 0 {
            drop(held.pop());
        }
    }
    panic!("no room for anybody");
}

/// A server on its way down takes what is on its way in, and begins no new message.
#[test]
fn a_server_that_drains_begins_no_message() {
    let mut server = Server::with_users("", &["a"]);
    let open = |commands: &[(&str, u16)]| {
        let mut link = smtp(server.smtp(), "EHLO").unwrap();
        for (command, code) in commands {
            link.command(command, *code).unwrap();
        }
        link
    };
    let envelope = [("MAIL FROM:<>", 250), ("RCPT TO:<a@local.example>", 250)];
    let mut begun = open(&[&envelope[..], &[("DATA", 354)]].concat());
    let mut data = open(&envelope);
    let mut chunk = open(&envelope);
    let idle: Vec<Link> = (0..32).map(|_| open(&[])).collect();
    server.tell_to_stop();
    // Idle sessions are told at once: both shards know.
    for mut link in idle {
        link.expect(421).unwrap();
    }
    data.command("DATA", 421).unwrap();
    assert!(data.rest().unwrap().is_empty());
    chunk.command("BDAT 3 LAST\r\nabc", 421).unwrap();
    begun.send("Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    begun.expect(250).unwrap();
    begun.expect(421).unwrap();
    server.stop();
}

/// Who sends an octet now and then keeps neither the draft nor the connection, by DATA, by BDAT, and
/// while a refused chunk is read.
#[test]
#[expect(clippy::disallowed_methods, reason = "a client of its own thread drips")]
fn a_message_that_drips_is_given_up() {
    let smtp_section = "[smtp]\nmax_message_size = \"4M\"\nmin_data_rate = \"1K\"\n\
                        command_timeout = \"2s\"\ndata_timeout = \"2s\"\n";
    let mut server = Server::with_users(smtp_section, &["a"]);
    let begin = |last: &str| {
        let mut link = smtp(server.smtp(), "EHLO").unwrap();
        link.command("MAIL FROM:<>", 250).unwrap();
        link.command("RCPT TO:<a@local.example>", 250).unwrap();
        link.send(last).unwrap();
        link
    };
    let mut data = begin("DATA\r\n");
    data.expect(354).unwrap();
    let chunk = begin("BDAT 100000 LAST\r\n");
    let mut chunks = begin("BDAT 1\r\nx");
    chunks.expect(250).unwrap();
    let refused = begin("BDAT 100000000\r\n");
    let dripping: [(Link, &[u8]); 4] =
        [(data, b"x"), (chunk, b"x"), (chunks, b"BDAT 1\r\nx"), (refused, b"x")];
    for (mut link, drop) in dripping {
        std::thread::scope(|scope| {
            let mut writer = link.writer();
            scope.spawn(move || {
                // Each octet comes well before `data_timeout`; the server hangs up some time.
                while writer.write_all(drop).is_ok() {
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            let last = std::iter::from_fn(|| link.reply().unwrap()).last();
            assert_eq!(last.expect("a reply before the end").code, 421);
        });
    }
    server.stop();
}

/// The same by IMAP, in the message of an APPEND and before anybody logs in.
#[test]
#[expect(clippy::disallowed_methods, reason = "a client of its own thread drips")]
fn an_imap_client_that_drips_is_given_up() {
    let extra = "[smtp]\nmax_message_size = \"4M\"\nmin_data_rate = \"1K\"\n\
                 command_timeout = \"2s\"\ndata_timeout = \"2s\"\n[imap]\nlogin_timeout = \"3s\"\n";
    let mut server = Server::with_users(extra, &["a"]);
    for begin in ["", "a LOGIN a@local.example secret\r\nb APPEND INBOX {1000000+}\r\n"] {
        let mut link = TcpStream::connect(("127.0.0.1", server.imap())).unwrap();
        link.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        link.write_all(begin.as_bytes()).unwrap();
        let mut heard = String::new();
        std::thread::scope(|scope| {
            let mut writer = link.try_clone().unwrap();
            scope.spawn(move || {
                while writer.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            // The end may come as a reset, since octets were left unread.
            drop(link.read_to_string(&mut heard));
        });
        assert!(heard.contains("* BYE"), "{begin:?}: {heard:?}");
    }
    server.stop();
}

/// Both shards have had their turn when enough new clients were served.
fn serves_on(server: &Server) -> io::Result<()> {
    for _ in 0..20 {
        let mut link = smtp(server.smtp(), "EHLO")?;
        link.command("NOOP", 250)?;
        link.command("QUIT", 221)?;
    }
    Ok(())
}
