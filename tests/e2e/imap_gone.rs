//! Clients that go while the server works for them, and accounts that go while clients are there.

use crate::harness::Server;
use crate::imap::Imap;
use std::net::Shutdown;
use std::time::Duration;

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

/// The kernel's timer of a socket of the server, as /proc tells it.
fn timer(server: &Server, imap: &Imap) -> String {
    let end = |port: u16| format!("0100007F:{port:04X}");
    let near = imap.link.writer().local_addr().unwrap().port();
    let ends = [end(server.imap()), end(near)];
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    let row = rows.find(|columns| columns[1..3] == ends).expect("it is open");
    row[5].to_owned()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "no shard stops, only this test")]
fn silent_connections_are_kept_under_watch() {
    let server = Server::with_users("", &["ann"]);
    let imap = Imap::login(&server, "ann").unwrap();
    // 1: what was sent is not acknowledged yet, 2: keepalive.
    for _ in 0..1_000 {
        match timer(&server, &imap) {
            watched if watched.starts_with("02:") => return,
            busy if busy.starts_with("01:") => {}
            other => panic!("no keepalive: {other}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing was ever acknowledged");
}

/// One that idles hears of it at once, another with its next command; none of a message that goes.
#[test]
fn sessions_of_an_account_that_is_removed_end() {
    let server = Server::with_users("", &["ann", "bob"]);
    let mut idle = Imap::login(&server, "ann").unwrap();
    idle.append("INBOX", "", b"Subject: 1\r\n\r\n").unwrap();
    idle.ok("SELECT INBOX").unwrap();
    idle.link.send("tag IDLE\r\n").unwrap();
    assert_eq!(idle.line().unwrap(), "+ idling");
    let mut busy = Imap::login(&server, "ann").unwrap();
    busy.ok("SELECT INBOX").unwrap();
    let mut other = Imap::login(&server, "bob").unwrap();
    server.pombal(&["user", "del", "ann@local.example"], "");
    assert_eq!(idle.line().unwrap(), "* BYE the account was removed");
    busy.link.send("tag FETCH 1 FLAGS\r\n").unwrap();
    assert_eq!(busy.line().unwrap(), "* BYE the account was removed");
    for session in [&mut idle, &mut busy] {
        assert!(session.link.line().unwrap().is_none(), "the session goes on");
    }
    other.ok("NOOP").unwrap();
}
