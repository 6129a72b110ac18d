//! `pombal user digest`: equal mail has equal digests, whatever was done to the store that it lies in.

use crate::backup::{now, send};
use crate::client::smtp;
use crate::harness::Server;
use crate::imap::Imap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const USER: &str = "a@local.example";

/// The digest of the user, and of each mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digests {
    account: String,
    mailboxes: BTreeMap<String, String>,
}

fn digests(server: &Server) -> Digests {
    let told: Value =
        serde_json::from_str(&server.pombal(&["user", "digest", USER, "--json"], "")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = told["mailboxes"].as_array().unwrap();
    let mailboxes = rows.iter().map(|row| (text(&row["name"]), text(&row["digest"]))).collect();
    Digests { account: text(&told["digest"]), mailboxes }
}

fn fill(server: &Server) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for number in 1..=12 {
        // More than is read in one part.
        let body = "a line of a message\r\n".repeat(number * 4_000);
        send(&mut link, &["a", "b"], &format!("Subject: {number}\r\n\r\n{body}"));
    }
    let mut imap = Imap::login(server, "a").unwrap();
    for command in [
        "SELECT INBOX",
        "CREATE filed",
        "STORE 1 +FLAGS (\\Seen $Work later)",
        "COPY 3:5 filed",
        "MOVE 7 filed",
        "STORE 8 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "SUBSCRIBE filed",
    ] {
        imap.ok(command).unwrap();
    }
}

#[test]
fn tells_equal_mail_from_other_wherever_it_lies() {
    let mut server = Server::with_users("", &["a", "b"]);
    fill(&server);
    let own = digests(&server);
    assert!(own.mailboxes.contains_key("INBOX") && own.mailboxes.contains_key("filed"), "{own:?}");
    assert_ne!(own.mailboxes["INBOX"], own.mailboxes["filed"]);
    let shown = server.pombal(&["user", "digest", USER], "");
    assert!(shown.ends_with(&format!("{USER}: {}\n", own.account)), "{shown}");
    // A start, cleaning, and the way without a server.
    server.restart();
    server.pombal(&["store", "compact"], "");
    assert_eq!(digests(&server), own, "cleaned by a server");
    let vault = server.dir().join("vault").to_str().unwrap().to_owned();
    server.pombal(&["backup", &vault], "");
    server.stop();
    assert_eq!(digests(&server), own, "without a server");
    server.pombal(&["store", "compact"], "");
    assert_eq!(digests(&server), own, "cleaned without one");
    // Copies of the store.
    let back = Server::set_up("");
    back.pombal(&["restore", &vault], "");
    assert_eq!(digests(&back), own, "out of a backup");
    let saved = server.dir().join("saved");
    server.pombal(&["store", "salvage", "--to", saved.to_str().unwrap()], "");
    let line = |dir: &std::path::Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(&server.data_dir()), |_| line(&saved));
    assert_eq!(digests(&server), own, "salvaged");
    server.start();
    assert_eq!(digests(&server), own, "salvaged, and served");
    changes_are_told(&server, &own);
    refusals(&server);
}

/// What changes has another digest, what does not has the same, and what comes back the one that it had.
fn changes_are_told(server: &Server, own: &Digests) {
    std::thread::park_timeout(Duration::from_millis(1_100));
    let before = now();
    std::thread::park_timeout(Duration::from_millis(1_100));
    let mut imap = Imap::login(server, "a").unwrap();
    imap.ok("SELECT filed").unwrap();
    imap.ok("STORE 2 +FLAGS (\\Flagged)").unwrap();
    let flagged = digests(server);
    assert_eq!(flagged.mailboxes["INBOX"], own.mailboxes["INBOX"]);
    assert_ne!(flagged.mailboxes["filed"], own.mailboxes["filed"]);
    assert_ne!(flagged.account, own.account);
    imap.ok("STORE 2 -FLAGS (\\Flagged)").unwrap();
    assert_eq!(&digests(server), own, "as it was");
    imap.ok("STORE 2 +FLAGS ($Later)").unwrap();
    assert_ne!(digests(server).mailboxes["filed"], own.mailboxes["filed"], "a keyword");
    server.pombal(&["undelete", USER, "--at", &before, "--beside", "Back"], "");
    let beside = digests(server);
    for (name, digest) in &own.mailboxes {
        assert_eq!(&beside.mailboxes[&format!("Back/{name}")], digest, "{name}");
    }
}

fn refusals(server: &Server) {
    let output = server.try_pombal(&["user", "digest", "x@local.example"], "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("there is no user"), "{said}");
}
