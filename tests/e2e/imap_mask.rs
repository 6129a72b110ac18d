//! Capabilities that the operator hides: from all, from one account, from one kind of client.

use crate::harness::Server;
use crate::imap::Imap;

/// The words of CAPABILITY.
fn offered(imap: &mut Imap) -> Vec<String> {
    let lines = imap.ok("CAPABILITY").unwrap();
    let line = lines.iter().find_map(|line| line.strip_prefix("* CAPABILITY ")).unwrap();
    line.split(' ').map(String::from).collect()
}

fn offers(imap: &mut Imap, word: &str) -> bool {
    offered(imap).iter().any(|one| one == word)
}

/// The answer to a command, without its tag.
fn answer(imap: &mut Imap, command: &str) -> String {
    imap.command(command).unwrap().pop().unwrap()
}

const EXTRA: &str = "[imap]\n\
    capabilities_hidden = [\"compress=deflate\"]\n\
    [[imap.client]]\n\
    match = { name = \"Out*\", version = \"16.*\" }\n\
    hide = [\"IDLE\", \"CONDSTORE\"]\n";

#[test]
fn hidden_capabilities_are_neither_offered_nor_done() {
    let server = Server::with_users(EXTRA, &["ann", "bob", "cid"]);
    let mut imap = Imap::login(&server, "ann").unwrap();
    assert!(!offers(&mut imap, "COMPRESS=DEFLATE"), "hidden from all");
    assert!(offers(&mut imap, "IMAP4rev2") && offers(&mut imap, "IDLE"), "the others are not");
    assert!(answer(&mut imap, "COMPRESS DEFLATE").starts_with("BAD "));
    assert!(answer(&mut imap, "ID (\"name\" \"Outlook\" \"version\" \"15.1\")").starts_with("OK "));
    assert!(offers(&mut imap, "IDLE"), "both patterns have to match");

    // After ID the client hears at once what is offered now, and IMAP4rev2 goes with its parts.
    let lines = imap.ok("ID (\"name\" \"outlook\" \"version\" \"16.0\")").unwrap();
    let told = lines.iter().find(|line| line.starts_with("* CAPABILITY ")).expect("it changed");
    assert!(!told.contains(" IDLE") && !told.contains("IMAP4rev2"), "{told}");
    for word in ["IDLE", "CONDSTORE", "QRESYNC", "IMAP4rev2", "COMPRESS=DEFLATE"] {
        assert!(!offers(&mut imap, word), "{word}");
    }
    assert!(answer(&mut imap, "IDLE").starts_with("BAD "));
    assert_eq!(imap.ok("ENABLE QRESYNC CONDSTORE IMAP4rev2").unwrap(), ["* ENABLED"]);
    assert!(answer(&mut imap, "SELECT INBOX (CONDSTORE)").starts_with("BAD "));
    let lines = imap.ok("SELECT INBOX").unwrap();
    assert!(!lines.iter().any(|line| line.contains("HIGHESTMODSEQ")), "{lines:?}");
    assert!(answer(&mut imap, "FETCH 1:* (MODSEQ)").starts_with("BAD "));
    assert!(answer(&mut imap, "SEARCH NOT (MODSEQ 1)").starts_with("BAD "));
    assert!(answer(&mut imap, "STATUS INBOX (HIGHESTMODSEQ)").starts_with("BAD "));
}

#[test]
fn what_a_client_is_counts_wherever_its_session_moves() {
    let server = Server::with_users(EXTRA, &["ann", "bob", "cid"]);
    // Of three users not all live on the shard that takes the connection.
    for user in ["ann", "bob", "cid"] {
        let mut imap = Imap::connect(&server).unwrap();
        imap.ok("ID (\"name\" \"Outlook\" \"version\" \"16.0\")").unwrap();
        assert!(!offers(&mut imap, "IDLE"), "before login");
        imap.ok(&format!("LOGIN {user}@local.example secret")).unwrap();
        assert!(!offers(&mut imap, "IDLE"), "after login");
        assert!(answer(&mut imap, "IDLE").starts_with("BAD "));
    }
}

#[test]
fn an_account_has_a_mask_of_its_own_that_lasts() {
    let mut server = Server::with_users("", &["ann", "bob"]);
    server.pombal(&["user", "set", "ann@local.example", "--imap-hide", "move,Objectid"], "");
    let wrong = ["user", "set", "ann@local.example", "--imap-hide", "MOOVE"];
    let refused = server.try_pombal(&wrong, "");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("MOOVE") && said.contains("UIDPLUS"), "{said}");
    for life in ["first", "second"] {
        let mut imap = Imap::login(&server, "ann").unwrap();
        for word in ["MOVE", "OBJECTID", "IMAP4rev2"] {
            assert!(!offers(&mut imap, word), "{word} in the {life} life");
        }
        let lines = imap.ok("SELECT INBOX").unwrap();
        assert!(!lines.iter().any(|line| line.contains("MAILBOXID")), "{lines:?}");
        assert!(answer(&mut imap, "MOVE 1 Sent").starts_with("BAD "));
        assert!(answer(&mut imap, "FETCH 1:* EMAILID").starts_with("BAD "));
        assert!(offers(&mut Imap::login(&server, "bob").unwrap(), "MOVE"), "bob is not ann");
        let shown = server.pombal(&["user", "show", "ann@local.example", "--json"], "");
        assert!(shown.contains("MOVE") && shown.contains("OBJECTID"), "{shown}");
        if life == "first" {
            server.stop();
            server.start();
        }
    }
    server.pombal(&["user", "set", "ann@local.example", "--imap-hide", ""], "");
    assert!(offers(&mut Imap::login(&server, "ann").unwrap(), "MOVE"), "shown again");
}
