//! Mail of another server moves in by IMAP: of Debian's Dovecot and of another Pombal; nobody sees a
//! difference, and nothing changed there.

use crate::dovecot::{Dovecot, Mailboxes};
use crate::dovecotd::{Daemon, HOST, THERE};
use crate::harness::{PASSWORD, Server};
use crate::migration::{ANN, append, assert_same, fill, kept, mbsync, our_uidls, ours};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// An import; its JSON.
fn import(server: &Server, source: &str, more: &[&str], password: &str) -> serde_json::Value {
    let words = [&["--json", "import", "imap", ANN, source, "--password-file", "-"], more].concat();
    serde_json::from_str(&server.pombal(&words, &format!("{password}\n"))).unwrap()
}

fn count(mailboxes: &Mailboxes) -> usize {
    mailboxes.values().map(|one| one.messages.len()).sum()
}

fn ready(dovecot: &Dovecot, more: &str) -> Daemon {
    fs::write(dovecot.dir().join("users"), format!("ann:{{PLAIN}}{THERE}\n")).unwrap();
    Daemon::new(dovecot, more)
}

/// Moves in by STARTTLS, on fewer connections than are wanted; then what came meanwhile, into a server that
/// is stopped.
fn moves_in(location: &str, separator: char) {
    let Some(dovecot) = Dovecot::new(location) else { return };
    fill(&dovecot, separator, 300);
    let state = tempfile::tempdir().unwrap();
    let tunnel = format!("Tunnel \"{}\"", dovecot.command());
    let before = mbsync(state.path(), &tunnel).map(|_| kept(state.path()));
    let theirs = dovecot.mailboxes();
    let daemon = ready(&dovecot, "protocol imap {\nmail_max_userip_connections = 2\n}\n");
    let mut server = Server::with_users("", &["ann"]);
    let source = format!("imap://ann@{HOST}:{}", daemon.imap.number);
    let ca = daemon.file("certificate.pem");
    let pop3 = format!("pop3://{HOST}:{}", daemon.pop3.number);
    let more = ["--ca", ca.as_str(), "--connections", "6", "--pop3", pop3.as_str()];
    let done = import(&server, &source, &more, THERE);
    assert_eq!(
        (&done["messages"], &done["left_out"]),
        (&count(&theirs).into(), &0.into()),
        "{done}"
    );
    assert_same(&theirs, &ours(&server));
    assert_eq!(our_uidls(&server), dovecot.uidls());
    // Nothing changed there.
    assert_eq!(dovecot.mailboxes(), theirs);
    if let Some(before) = before {
        let account = format!(
            "Host 127.0.0.1\nPort {}\nUser {ANN}\nPass {PASSWORD}\nSSLType None\nAuthMechs PLAIN LOGIN",
            server.imap()
        );
        let said = mbsync(state.path(), &account).unwrap();
        assert_eq!(kept(state.path()), before, "mbsync saw a difference: {said}");
    }
    let again = import(&server, &source, &more, THERE);
    assert_eq!((&again["messages"], &again["skipped"]), (&0.into(), &count(&theirs).into()));
    let mut script = Vec::new();
    (1_000..1_020).for_each(|number| append("INBOX", number, &mut script));
    dovecot.imap(&script);
    server.stop();
    let more = import(&server, &source, &["--clear"], THERE);
    assert_eq!(&more["messages"], &20, "{more}");
    server.start();
    assert_same(&dovecot.mailboxes(), &ours(&server));
    assert_eq!(our_uidls(&server), dovecot.uidls());
}

#[test]
fn a_maildir_of_dovecot_moves_in_by_imap() {
    moves_in("maildir:~/Maildir", '.');
}

#[test]
fn an_mbox_tree_of_dovecot_moves_in_by_imap() {
    moves_in("mbox:~/mail", '/');
}

/// What LIST says of ANN's mailboxes here.
fn listed(server: &Server) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.imap())).unwrap();
    let script = format!(
        "a LOGIN {ANN} {PASSWORD}\r\na LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE)\r\na LOGOUT\r\n"
    );
    stream.write_all(script.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let lines = said.lines().filter_map(|line| line.strip_prefix("* LIST "));
    lines.map(|line| line.replace("\\HasNoChildren", "").replace("\\HasChildren", "")).collect()
}

/// A prefix and a separator, special uses, odd names, keywords, a master who logs in, ids of POP3 that are
/// asked for.
#[test]
fn names_uses_and_ids_of_dovecot_are_taken_over() {
    let Some(dovecot) = Dovecot::new("maildir:~/Maildir") else { return };
    let space = "namespace inbox {\ninbox = yes\nprefix = INBOX.\nseparator = .\n\
        mailbox Entw&APw-rfe {\nauto = create\nspecial_use = \\Drafts\n}\n\
        mailbox Bin {\nauto = subscribe\nspecial_use = \\Trash\n}\n\
        mailbox Everything {\nauto = create\nspecial_use = \\All\n}\n}\n\
        pop3_uidl_format = %v-%u-x\n";
    let space = space.replace("Entw&APw-rfe", "Entwürfe");
    let mut script = b"a CREATE Lists.Rust\r\na CREATE \"a b&-c\"\r\na CREATE Odd%\r\n".to_vec();
    (0..40).for_each(|number| append("INBOX", number, &mut script));
    dovecot.imap(&script);
    let daemon = ready(&dovecot, &space);
    let server = Server::with_users("", &["ann"]);
    let source = format!("imaps://ann*boss@{HOST}:{}/", daemon.imaps.number);
    let (ca, masters) = (daemon.file("certificate.pem"), daemon.file("masters"));
    let pop3 = format!("pop3s://{HOST}:{}", daemon.pop3s.number);
    let words =
        ["import", "imap", ANN, &source, "--password-file", &masters, "--ca", &ca, "--pop3", &pop3];
    let output = server.try_pombal(&words, "");
    let (said, told) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    let told = String::from_utf8(told).unwrap();
    assert!(said.starts_with("40 messages of 5 folders moved in"), "{said}{told}");
    assert!(told.contains("Odd%: left out: no name that a mailbox may have here"), "{told}");
    assert!(told.contains("Everything: note: it shows what lies in other folders"), "{told}");
    assert_eq!(output.status.code(), Some(1));
    let listed = listed(&server);
    for line in [
        "(\\Drafts) \"/\" Entw&APw-rfe",
        "(\\Subscribed \\Trash) \"/\" Bin",
        "() \"/\" Lists/Rust",
        "() \"/\" \"a b&-c\"",
    ] {
        let words = |line: &str| -> Vec<String> {
            let mut words: Vec<String> = line
                .split([' ', '(', ')'])
                .map(str::to_owned)
                .filter(|one| !one.is_empty())
                .collect();
            words.sort();
            words
        };
        let want = words(line);
        assert!(listed.iter().any(|line| words(line) == want), "{line}: {listed:#?}");
    }
    let theirs = dovecot.mailboxes();
    let ids: Vec<String> = theirs["INBOX"]
        .messages
        .iter()
        .map(|one| format!("{}-{}-x", theirs["INBOX"].uidvalidity, one.uid))
        .collect();
    assert_eq!(our_uidls(&server), ids);
    // A certificate that nobody vouches for, and a wrong password.
    let words = ["import", "imap", ANN, &source, "--password-file", &masters];
    let output = server.try_pombal(&words, "");
    assert!(String::from_utf8(output.stderr).unwrap().contains("invalid peer certificate"));
    let words = ["import", "imap", ANN, &source, "--password-file", "-", "--insecure"];
    let output = server.try_pombal(&words, "wrong\n");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("Authentication failed") && output.status.code() == Some(1), "{told}");
}

/// An import that is killed again and again brings everything once.
#[test]
fn an_import_by_imap_that_is_killed_goes_on() {
    let Some(dovecot) = Dovecot::new("maildir:~/Maildir") else { return };
    let mut script = Vec::new();
    (0..3_000).for_each(|number| append("INBOX", number, &mut script));
    dovecot.imap(&script);
    let daemon = ready(&dovecot, "");
    let server = Server::with_users("", &["ann"]);
    let source = format!("imap://ann@{HOST}:{}", daemon.imap.number);
    let password = daemon.file("password");
    let mut kills = 0;
    for _ in 0..4 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pombal"))
            .arg("--config")
            .arg(server.config())
            .args(["import", "imap", ANN, &source, "--clear", "--password-file", &password])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let had = ours(&server).get("INBOX").map_or(0, |one| one.messages.len());
        while child.try_wait().unwrap().is_none() {
            if ours(&server).get("INBOX").map_or(0, |one| one.messages.len()) > had {
                child.kill().unwrap();
                kills += 1;
                break;
            }
        }
        child.wait().unwrap();
    }
    println!("killed {kills} times");
    import(&server, &source, &["--clear"], THERE);
    // A login made the others.
    let mut ours = ours(&server);
    ours.retain(|name, _| name == "INBOX");
    assert_same(&dovecot.mailboxes(), &ours);
    assert_eq!(our_uidls(&server), dovecot.uidls());
}

/// The server there goes away under way, and comes back.
#[test]
fn an_import_by_imap_waits_for_a_server_that_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Maildir");
    fs::create_dir_all(root.join("cur")).unwrap();
    let mut list = "3 V1500000000 N121\n".to_owned();
    // More than is read ahead.
    let body = format!("{}\n", "x".repeat(70)).repeat(7_000);
    for number in 1..=120 {
        let name = format!("{}.M{number}P1.h", 1_600_000_000 + number);
        let text = format!("Subject: {number}\n\n{body}");
        fs::write(root.join("cur").join(format!("{name}:2,S")), text).unwrap();
        let line = format!("{number} :{name}\n");
        list.push_str(&line);
    }
    fs::write(root.join("dovecot-uidlist"), list).unwrap();
    let mut source = Server::with_users("", &["ann"]);
    source.pombal(&["import", "maildir", ANN, &root.display().to_string()], "");
    let server = Server::with_users("", &["ann"]);
    let from = format!("imap://127.0.0.1:{}", source.imap());
    let pop3 = format!("pop3://127.0.0.1:{}", source.pop3());
    let password = source.dir().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pombal"))
        .arg("--config")
        .arg(server.config())
        .args(["import", "imap", ANN, &from, "--clear", "--pop3", &pop3, "--password-file"])
        .arg(&password)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    while ours(&server)["INBOX"].messages.is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before anything came");
    }
    source.kill9();
    source.start();
    assert!(child.wait().unwrap().success());
    assert_same(&ours(&source), &ours(&server));
    assert_eq!(our_uidls(&server), our_uidls(&source));
}

/// The last import before users come: flags and removals of the other server count, and mail that came in
/// here meanwhile stays.
#[test]
fn what_changed_there_changes_here_where_that_is_asked_for() {
    let Some(dovecot) = Dovecot::new("maildir:~/Maildir") else { return };
    fill(&dovecot, '.', 60);
    let daemon = ready(&dovecot, "");
    let server = Server::with_users("", &["ann"]);
    let source = format!("imap://ann@{HOST}:{}", daemon.imap.number);
    import(&server, &source, &["--clear"], THERE);
    let before = ours(&server);
    dovecot.imap(
        b"a SELECT INBOX\r\na UID STORE 10:12 FLAGS (\\Seen Fresh)\r\n\
        a UID STORE 20,30:32 +FLAGS (\\Deleted)\r\n",
    );
    // It begins with the next command before one of the flags is done.
    let script = b"a SELECT INBOX\r\na EXPUNGE\r\na SELECT Sent\r\n\
        a STORE 1:* FLAGS ()\r\na MOVE 2 Drafts\r\n";
    dovecot.imap(script);
    // Without being asked, nothing that is here changes; what was moved is new in its folder.
    let done = import(&server, &source, &["--clear"], THERE);
    assert_eq!(
        (&done["messages"], &done["changed"], &done["removed"]),
        (&1.into(), &0.into(), &0.into())
    );
    assert_eq!(ours(&server)["INBOX"], before["INBOX"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.imap())).unwrap();
    let script =
        format!("a LOGIN {ANN} {PASSWORD}\r\na APPEND Sent {{5+}}\r\nlocal\r\na LOGOUT\r\n");
    stream.write_all(script.as_bytes()).unwrap();
    stream.read_to_string(&mut String::new()).unwrap();
    let done = import(&server, &source, &["--clear", "--mirror"], THERE);
    assert_eq!((&done["messages"], &done["removed"]), (&0.into(), &5.into()), "{done}");
    let mut ours = ours(&server);
    let local = ours.get_mut("Sent").unwrap().messages.pop().unwrap();
    assert_eq!(local.octets, b"local");
    let mut theirs = dovecot.mailboxes();
    // The next UID of Sent is one further.
    theirs.get_mut("Sent").unwrap().uidnext = ours["Sent"].uidnext;
    assert_same(&theirs, &ours);
    let again = import(&server, &source, &["--clear", "--mirror"], THERE);
    assert_eq!((&again["changed"], &again["removed"]), (&0.into(), &0.into()), "{again}");
}
