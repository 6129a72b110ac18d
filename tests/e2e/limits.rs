//! What one peer may cost the others, on the running server: each bound is reached, and holds.

use crate::client::{Link, smtp};
use crate::harness::Server;
use std::io;

/// Clients of one kind that misbehave at once.
const COUNT: usize = 100;

/// A peer that pipelines commands and reads nothing has little more than `limits.reply_memory`
/// waiting for it, not all that its commands call for.
#[test]
fn who_does_not_read_is_not_answered_on() {
    let bound = "[limits]\nconnections_per_address = 0\nreply_memory = \"16K\"\n";
    let mut server = Server::with_users(bound, &["a"]);
    let flood = b"EHLO a\r\n".repeat(8_000);
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
    // A receive block and the replies of each; without the bound, 160 MiB.
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

/// Both shards have had their turn when enough new clients were served.
fn serves_on(server: &Server) -> io::Result<()> {
    for _ in 0..20 {
        let mut link = smtp(server.smtp(), "EHLO")?;
        link.command("NOOP", 250)?;
        link.command("QUIT", 221)?;
    }
    Ok(())
}
