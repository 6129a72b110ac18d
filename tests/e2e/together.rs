//! SMTP, POP3 and IMAP on one mailbox at once.

use crate::client::{Maildrop, ok, smtp};
use crate::harness::Server;
use crate::imap::Imap;
use std::io;

#[test]
fn each_protocol_sees_what_the_others_did_when_it_may() {
    let server = Server::with_users("", &["other", "bob"]);
    let mut imap = Imap::login(&server, "bob").unwrap();
    imap.ok("SELECT INBOX").unwrap();

    // What SMTP takes in is told at once.
    imap.link.send("i IDLE\r\n").unwrap();
    assert!(imap.line().unwrap().starts_with("+ "));
    for number in 1..=3 {
        deliver(&server, number).unwrap();
        assert_eq!(imap.line().unwrap(), format!("* {number} EXISTS"));
        assert_eq!(imap.line().unwrap(), format!("* {number} RECENT"));
    }
    imap.link.send("DONE\r\n").unwrap();
    assert_eq!(imap.answer("i").unwrap().len(), 1);

    // What POP3 removes keeps its number until the client may be told.
    let mut pop3 = Maildrop::open(server.pop3(), "bob", false).unwrap();
    assert_eq!(pop3.count, 3);
    for number in 1..=2 {
        pop3.link.send(format!("DELE {number}\r\n")).unwrap();
        ok(&mut pop3.link).unwrap();
    }
    assert_eq!(imap.ok("NOOP").unwrap(), [""; 0], "DELE removes nothing before QUIT");
    assert_eq!(imap.ok("FETCH 1 (UID)").unwrap(), ["* 1 FETCH (UID 1)"]);
    pop3.quit().unwrap();
    let fetched = imap.command("FETCH 1:3 (UID RFC822.SIZE)").unwrap();
    assert!(fetched[0].starts_with("* 3 FETCH (UID 3 "), "{fetched:?}");
    assert!(fetched[1].starts_with("OK [EXPUNGEISSUED]"), "{fetched:?}");
    let fetched = imap.command("FETCH 2 BODY[]").unwrap();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    assert!(fetched[0].starts_with("OK [EXPUNGEISSUED]"), "{fetched:?}");
    assert_eq!(imap.ok("NOOP").unwrap(), ["* 2 EXPUNGE", "* 1 EXPUNGE"]);
    assert_eq!(imap.ok("FETCH 1 (UID)").unwrap(), ["* 1 FETCH (UID 3)"]);

    // What IMAP removes a POP3 session can no longer read, and need not remove.
    deliver(&server, 4).unwrap();
    let mut pop3 = Maildrop::open_filled(server.pop3(), "bob", 2).unwrap();
    imap.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)").unwrap();
    imap.ok("EXPUNGE").unwrap();
    pop3.link.send("RETR 1\r\n").unwrap();
    let gone = pop3.link.line().unwrap().unwrap();
    assert!(gone.starts_with(b"-ERR the message was removed"), "{}", gone.escape_ascii());
    pop3.link.send("DELE 1\r\nRETR 2\r\n").unwrap();
    pop3.link.line().unwrap().unwrap();
    ok(&mut pop3.link).unwrap();
    pop3.link.body().unwrap();
    pop3.quit().unwrap();
    assert_eq!(imap.ok("STATUS INBOX (MESSAGES)").unwrap(), ["* STATUS INBOX (MESSAGES 1)"]);

    // POP3 knows nothing of \Recent, and leaves it to IMAP.
    imap.ok("UNSELECT").unwrap();
    deliver(&server, 5).unwrap();
    Maildrop::open_filled(server.pop3(), "bob", 2).unwrap().quit().unwrap();
    assert_eq!(imap.ok("STATUS INBOX (RECENT)").unwrap(), ["* STATUS INBOX (RECENT 1)"]);
}

fn deliver(server: &Server, number: u32) -> io::Result<()> {
    let mut link = smtp(server.smtp(), "EHLO")?;
    link.command("MAIL FROM:<a@other.example>", 250)?;
    link.command("RCPT TO:<bob@local.example>", 250)?;
    link.command("DATA", 354)?;
    link.send(format!("Subject: {number}\r\n\r\ntext\r\n.\r\n"))?;
    link.expect(250)?;
    link.command("QUIT", 221)?;
    Ok(())
}
