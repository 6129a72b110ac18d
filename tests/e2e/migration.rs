//! Mail of a Dovecot moves in by file, and out again, and nobody sees a difference: IMAP compares all of it,
//! mbsync goes on with the state that it had with the other server, POP3 has the same unique ids.

use crate::dovecot::{Dovecot, Mailboxes, mailboxes_at, uidls};
use crate::harness::{PASSWORD, Server};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

pub(crate) const ANN: &str = "ann@local.example";

/// A message in a mailbox, of APPEND.
pub(crate) fn append(name: &str, number: u32, script: &mut Vec<u8>) {
    let body = match number % 5 {
        0 => "From me to you\r\n>From you\r\n\r\nFrom a@b Thu Nov 29 22:33:52 2001\r\nx\r\n",
        1 => ".\r\n..\r\n",
        2 => "gr\u{fc}n\r\n\r\n",
        _ => "text\r\n",
    };
    let text = format!(
        "From: a@other.example\r\nSubject: {name} {number}\r\nMessage-ID: <{number}@{name}>\r\n\r\n{body}"
    );
    let flags = ["\\Seen", "\\Flagged Work", "\\Answered \\Seen $Junk", "Later work2", ""];
    let flags = flags[number as usize % flags.len()];
    let (day, second) = (1 + number % 28, number % 60);
    script.extend_from_slice(
        format!(
            "a APPEND \"{name}\" ({flags}) \"{day:2}-Feb-2012 10:11:{second:02} +0000\" {{{}+}}\r\n{text}\r\n",
            text.len()
        )
        .as_bytes(),
    );
}

/// Fills mailboxes of Dovecot; `separator` is that of its names.
pub(crate) fn fill(dovecot: &Dovecot, separator: char, count: u32) {
    let nested = format!("Lists{separator}Rust{separator}Entw&APw-rfe");
    let mut script = Vec::new();
    for name in ["Sent", "Drafts", &nested, "Empty"] {
        script.extend_from_slice(format!("a CREATE \"{name}\"\r\n").as_bytes());
    }
    script
        .extend_from_slice(format!("a SUBSCRIBE \"{nested}\"\r\na SUBSCRIBE Sent\r\n").as_bytes());
    for number in 0..count {
        append("INBOX", number, &mut script);
        if number % 3 == 0 {
            append(&nested, number, &mut script);
        }
        if number % 7 == 0 {
            append("Sent", number, &mut script);
        }
    }
    // Gaps, and flags that changed later; the last UID is one that is no more.
    script.extend_from_slice(
        format!(
            "a SELECT INBOX\r\na STORE 3:5,17 +FLAGS (\\Deleted)\r\na EXPUNGE\r\n\
             a STORE 2,9 -FLAGS (\\Seen)\r\na STORE 7:30 +FLAGS (Other)\r\n\
             a STORE * +FLAGS (\\Deleted)\r\na EXPUNGE\r\na CHECK\r\n\
             a SELECT \"{nested}\"\r\na STORE 1 +FLAGS (\\Draft)\r\na CHECK\r\n\
             a SELECT Sent\r\na CHECK\r\na UNSELECT\r\n"
        )
        .as_bytes(),
    );
    dovecot.imap(&script);
}

pub(crate) fn ours(server: &Server) -> Mailboxes {
    mailboxes_at(server.imap(), ANN, PASSWORD)
}

/// What POP3 says of ANN's messages.
pub(crate) fn our_uidls(server: &Server) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.pop3())).unwrap();
    let script = format!("USER {ANN}\r\nPASS {PASSWORD}\r\nUIDL\r\nQUIT\r\n");
    stream.write_all(script.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    uidls(&said)
}

/// Both have the same, UID by UID; an empty mailbox of an mbox has no UIDVALIDITY that could be kept.
#[track_caller]
pub(crate) fn assert_same(theirs: &Mailboxes, ours: &Mailboxes) {
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (name, theirs) in theirs {
        let ours = &ours[name];
        for (theirs, ours) in theirs.messages.iter().zip(&ours.messages) {
            assert_eq!(theirs, ours, "{name}");
        }
        assert_eq!(theirs.messages.len(), ours.messages.len(), "{name}");
        if !theirs.messages.is_empty() {
            assert_eq!(
                (theirs.uidvalidity, theirs.uidnext),
                (ours.uidvalidity, ours.uidnext),
                "{name}"
            );
        }
    }
}

/// mbsync from a server to a Maildir, with the state that it has; what it says that it did.
pub(crate) fn mbsync(dir: &Path, account: &str) -> Option<String> {
    fs::create_dir_all(dir.join("local")).unwrap();
    let dir = dir.display();
    let rc = format!(
        "IMAPAccount server\n{account}\nTimeout 60\n\nIMAPStore far\nAccount server\n\n\
         MaildirStore near\nPath {dir}/local/\nInbox {dir}/local/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\n\
         SyncState *\nCopyArrivalDate yes\n"
    );
    fs::write(format!("{dir}/rc"), rc).unwrap();
    let run = Command::new("mbsync").args(["-c", &format!("{dir}/rc"), "-V", "all"]).output();
    let Ok(output) = run else {
        println!("skipped: there is no mbsync");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    Some(said)
}

/// Messages in the Maildirs that mbsync keeps, with their flags.
pub(crate) fn kept(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.join("local")];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path
                .components()
                .any(|part| part.as_os_str() == "cur" || part.as_os_str() == "new")
            {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn import(server: &Server, format: &str, path: &Path) -> serde_json::Value {
    let path = path.display().to_string();
    serde_json::from_str(&server.pombal(&["--json", "import", format, ANN, &path], "")).unwrap()
}

fn moves_in(location: &str, format: &str, dir: &str, separator: char) {
    let Some(dovecot) = Dovecot::new(location) else { return };
    fill(&dovecot, separator, 300);
    let path = dovecot.home().join(dir);
    let state = tempfile::tempdir().unwrap();
    let tunnel = format!("Tunnel \"{}\"", dovecot.command());
    let before = mbsync(state.path(), &tunnel).map(|_| kept(state.path()));
    let server = Server::with_users("", &["ann"]);
    let done = import(&server, format, &path);
    let theirs = dovecot.mailboxes();
    let count: usize = theirs.values().map(|one| one.messages.len()).sum();
    assert_eq!((&done["messages"], &done["left_out"]), (&count.into(), &0.into()), "{done}");
    assert_same(&theirs, &ours(&server));
    if let Some(before) = before {
        let account = format!(
            "Host 127.0.0.1\nPort {}\nUser {ANN}\nPass {PASSWORD}\nSSLType None\nAuthMechs PLAIN LOGIN",
            server.imap()
        );
        let said = mbsync(state.path(), &account).unwrap();
        assert_eq!(kept(state.path()), before, "mbsync saw a difference: {said}");
    }
    let again = import(&server, format, &path);
    assert_eq!(&again["messages"], &0, "{again}");
    // What came meanwhile comes with the next import, now while the server is stopped.
    let mut script = Vec::new();
    (1_000..1_020).for_each(|number| append("INBOX", number, &mut script));
    script.extend_from_slice(b"a SELECT INBOX\r\na CHECK\r\n");
    dovecot.imap(&script);
    let mut server = server;
    server.stop();
    let more = import(&server, format, &path);
    assert_eq!(&more["messages"], &20, "{more}");
    server.start();
    assert_same(&dovecot.mailboxes(), &ours(&server));
    assert_eq!(our_uidls(&server), dovecot.uidls());
}

#[test]
fn a_maildir_of_dovecot_moves_in() {
    moves_in("maildir:~/Maildir", "maildir", "Maildir", '.');
}

#[test]
fn a_maildir_of_dovecot_with_folders_in_each_other_moves_in() {
    moves_in("maildir:~/Maildir:LAYOUT=fs", "maildir", "Maildir", '/');
}

#[test]
fn an_mbox_tree_of_dovecot_moves_in() {
    moves_in("mbox:~/mail", "mbox", "mail", '/');
}

/// What was moved in is moved out, and Dovecot has it as it had it before.
#[test]
fn dovecot_reads_what_moves_out() {
    let Some(dovecot) = Dovecot::new("maildir:~/Maildir") else { return };
    fill(&dovecot, '.', 120);
    let theirs = dovecot.mailboxes();
    let unique = dovecot.uidls();
    let server = Server::with_users("", &["ann"]);
    import(&server, "maildir", &dovecot.home().join("Maildir"));
    for (words, location) in [
        (&["maildir"][..], "maildir:~/out0"),
        (&["maildir", "--layout", "fs"][..], "maildir:~/out1:LAYOUT=fs"),
        (&["mbox"][..], "mbox:~/out2"),
    ] {
        let (_, name) = location.split_once("~/").unwrap();
        let path = dovecot.home().join(name.split(':').next().unwrap());
        let path = path.display().to_string();
        let words = [&["export"][..], words, &[ANN, path.as_str()][..]].concat();
        server.pombal(&words, "");
        let refused = server.try_pombal(&words, "");
        assert_eq!(refused.status.code(), Some(1), "nothing is written over");
        dovecot.give(&dovecot.home());
        dovecot.set_location(location);
        let mut again = dovecot.mailboxes();
        if location.starts_with("mbox") {
            // Those above others are directories.
            again.retain(|name, _| theirs.contains_key(name));
        }
        assert_same(&theirs, &again);
        if location.starts_with("maildir") {
            assert_eq!(dovecot.uidls(), unique);
        }
    }
}

/// What cannot be taken over is named, and the rest goes on.
#[test]
fn what_cannot_move_in_is_told_and_the_rest_goes_on() {
    let server = Server::with_users("", &["ann"]);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("Maildir");
    for (path, octets) in [
        ("cur/1.a:2,S", vec![b'x'; 5 << 20]),
        ("cur/2.b:2,S", b"Subject: b\n\nb\n".to_vec()),
        ("cur/3.c:2,S", Vec::new()),
        (".a*b/cur/1.a:2,", b"Subject: odd\n\n".to_vec()),
        (".Good/new/1.a", b"Subject: good\n\n".to_vec()),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, octets).unwrap();
    }
    let path = root.display().to_string();
    let output = server.try_pombal(&["import", "maildir", ANN, &path], "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for word in ["INBOX: 1.a:2,S: left out", "INBOX: 3.c:2,S: left out", "a*b: left out"] {
        assert!(told.contains(word), "{told}");
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("2 messages of 2 folders moved in"), "{said}");
    let ours = ours(&server);
    assert_eq!((ours["INBOX"].messages.len(), ours["Good"].messages.len()), (1, 1));
    let again = server.try_pombal(&["import", "maildir", ANN, &path], "");
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.starts_with("0 messages of 2 folders moved in"), "{said}");
    let nobody = server.try_pombal(&["import", "maildir", "nobody@local.example", &path], "");
    assert_eq!(nobody.status.code(), Some(1));
}
