//! A message that is searched piece by piece.

use crate::harness::Server;
use crate::imap::Imap;

#[test]
fn a_large_message_is_searched_as_a_small_one() {
    let server = Server::with_users("", &["ann"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    let line = "a line that goes on and on, and says nothing at all, again and again\r\n";
    let body = line.repeat(20_000);
    let large = format!("Subject: first\r\n\r\n{body}the very end\r\n");
    imap.append("INBOX", "", large.as_bytes()).unwrap();
    imap.append("INBOX", "", b"Subject: second\r\n\r\nthe very end, soon\r\n").unwrap();
    imap.ok("SELECT INBOX").unwrap();
    for (keys, found) in [
        ("BODY \"very end\"", " 1 2"),
        ("NOT BODY \"very end\"", ""),
        ("BODY first", ""),
        ("TEXT first", " 1"),
        ("TEXT none", ""),
        ("NOT TEXT none", " 1 2"),
        ("OR BODY \"again and again\" SUBJECT second", " 1 2"),
        ("BODY \"again and again\" SUBJECT second", ""),
        ("OR (BODY end TEXT first) (NOT BODY nothing SUBJECT second)", " 1 2"),
    ] {
        assert_eq!(imap.ok(&format!("SEARCH {keys}")).unwrap(), [format!("* SEARCH{found}")]);
    }
}
