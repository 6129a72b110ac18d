//! More messages in one APPEND than MESSAGELIMIT lets in (RFC 9738 §3.1): what a dialog would say in
//! a thousand lines. The rest is in tests/dialogs/imap.

use crate::harness::Server;
use crate::imap::Imap;

#[test]
fn an_append_of_more_messages_than_the_limit_is_refused() {
    let server = Server::with_users("[imap]\nmessage_limit = 1000\n", &["ann"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    for (count, says) in [(1_001, "NO [MESSAGELIMIT 1000]"), (1_000, "OK ")] {
        let messages = " {14+}\r\nSubject: 1\r\n\r\n".repeat(count);
        imap.link.send(format!("tag APPEND INBOX{messages}\r\n")).unwrap();
        let last = imap.answer("tag").unwrap().pop().unwrap();
        assert!(last.starts_with(says), "{last}");
    }
    assert_eq!(imap.ok("STATUS INBOX (MESSAGES)").unwrap(), ["* STATUS INBOX (MESSAGES 1000)"]);
}
