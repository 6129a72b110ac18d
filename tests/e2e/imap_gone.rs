//! Clients that go while the server works for them.

use crate::harness::Server;
use crate::imap::Imap;
use std::net::Shutdown;

/// Enough that the server takes many turns over them.
const MESSAGES: usize = 3_000;

fn filled() -> (Server, Imap) {
    let server = Server::with_users("", &["ann"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    let message = " {18+}\r\nSubject: 1\r\n\r\na\r\nb".repeat(1_000);
    for _ in 0..MESSAGES / 1_000 {
        imap.link.send(format!("tag APPEND INBOX{message}\r\n")).unwrap();
        assert!(imap.answer("tag").unwrap().pop().unwrap().starts_with("OK "));
    }
    imap.ok("SELECT INBOX").unwrap();
    (server, imap)
}

/// The end of such a session has a word of its own. A long answer may find the way shut before.
#[test]
fn a_client_that_goes_is_not_worked_for_any_more() {
    for command in
        ["SEARCH BODY none", "THREAD REFERENCES UTF-8 BODY none", "FETCH 1:* BODY.PEEK[]"]
    {
        let (server, mut imap) = filled();
        server.hold(true);
        imap.link.send(format!("tag {command}\r\n")).unwrap();
        drop(imap);
        server.hold(false);
        let line = server.await_log(&["event=logout", "protocol=imap"]);
        let shut = command.starts_with("FETCH") && line.contains("why=lost");
        assert!(line.contains("why=gone") || shut, "{command}: {line}");
    }
}

/// A script that has sent all it has to say waits for the answers.
#[test]
fn a_client_that_only_ends_its_side_gets_its_answer() {
    let (server, mut imap) = filled();
    server.hold(true);
    imap.link.send("tag SEARCH BODY none\r\n").unwrap();
    imap.link.writer().shutdown(Shutdown::Write).unwrap();
    server.hold(false);
    let lines = imap.answer("tag").unwrap();
    assert_eq!(lines.last().unwrap(), "OK searched", "{lines:?}");
    assert!(lines.contains(&"* SEARCH".into()), "{lines:?}");
    let line = server.await_log(&["event=logout", "protocol=imap"]);
    assert!(line.contains("why=closed"), "{line}");
}
