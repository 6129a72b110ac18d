//! A store that the disk damaged: what is whole is saved by the real command and served again, UIDs, flags
//! and octets as they were; what is lost is named, and the damaged store stays as it is.

use crate::client::{Link, smtp};
use crate::harness::Server;
use crate::imap::Imap;
use std::fs;
use std::path::{Path, PathBuf};

const LOST: &str = "this message will be damaged";

#[test]
fn what_is_whole_of_a_damaged_store_is_served_again() {
    let mut server = Server::with_users("", &["a", "b"]);
    fill(&server);
    let before = ["a", "b"].map(|user| look(&server, user));
    let dir = server.dir().to_owned();
    let target = |name: &str| dir.join(name);
    let (exact, saved) = (target("exact"), target("saved"));
    let words = |to: &Path| ["store", "salvage", "--to", to.to_str().unwrap()].map(str::to_owned);
    let salvage = |server: &Server, to: &Path, more: &[&str]| {
        let words = words(to);
        let words: Vec<&str> =
            words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = server.try_pombal(&words, "");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    // Not beside a server, nor over anything.
    let (is_done, _, said) = salvage(&server, &exact, &[]);
    assert!(!is_done && said.contains("in use"), "{said}");
    server.stop();
    let (is_done, _, said) = salvage(&server, server.dir(), &[]);
    assert!(!is_done && said.contains("not empty"), "{said}");
    let whole = read_all(&server.data_dir());
    // Nothing is damaged: nothing is lost.
    let (is_done, told, said) = salvage(&server, &exact, &[]);
    assert!(is_done && told.contains("nothing is lost"), "{told}{said}");
    serve(&mut server, &exact);
    assert_eq!(before, ["a", "b"].map(|user| look(&server, user)));
    server.stop();
    serve_from(&server, &exact, &target("data"));
    // A message is damaged, and the files that say which store this is.
    let text = LOST.as_bytes();
    for (path, octets) in &whole {
        let mut octets = octets.clone();
        let found: Vec<usize> = memchr::memmem::find_iter(&octets, text).collect();
        for at in found {
            octets[at] ^= 1;
        }
        if path.ends_with("superblock") {
            // The last of four copies is left: one alone opens no store.
            octets[..12_288].fill(0);
        }
        fs::write(path, &octets).unwrap();
    }
    fs::remove_file(server.data_dir().join("store.toml")).unwrap();
    let damaged = read_all(&server.data_dir());
    let (is_done, told, said) = salvage(&server, &saved, &[]);
    assert!(!is_done && said.contains("lost: 1 that are known"), "{told}{said}");
    assert!(told.contains("lost: a@local.example, INBOX, number 2"), "{told}");
    let (_, told, _) = salvage(&server, &target("again"), &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    let entries = report["logs"].as_array().unwrap().iter();
    let entries: Vec<_> =
        entries.flat_map(|log| log["losses"]["entries"].as_array().unwrap()).collect();
    assert_eq!(entries.len(), 1, "{told}");
    assert_eq!((&entries[0]["place"], &entries[0]["number"]), (&"INBOX".into(), &2.into()));
    assert_eq!(damaged, read_all(&server.data_dir()), "the damaged store is left as it is");
    serve(&mut server, &saved);
    let after = ["a", "b"].map(|user| look(&server, user));
    assert_eq!(before[1], after[1]);
    assert_eq!(messages(&before[0]), messages(&after[0]));
    assert!(after[0].iter().all(|line| !line.contains(LOST)));
    // And it goes on.
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    send(&mut link, &["a", "b"], "Subject: on\r\n\r\ngoes on\r\n");
    server.stop();
    server.pombal(&["store", "verify"], "");
}

/// Messages without their numbers, in order; not the one that is lost.
fn messages(seen: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in seen {
        match line.split_once(" FETCH ") {
            Some((_, message)) => found.push(message.to_owned()),
            None if line.starts_with("* ") => {}
            None => found.iter_mut().last().into_iter().for_each(|last| *last += line),
        }
    }
    found.retain(|message| !message.contains(LOST));
    found
}

fn serve_from(server: &Server, from: &Path, to: &Path) {
    let line = |dir: &Path| format!("data_dir = \"{}\"", dir.display());
    server.edit(&line(from), |_| line(to));
}

/// Starts on what was salvaged.
fn serve(server: &mut Server, dir: &Path) {
    let data = server.data_dir();
    serve_from(server, &data, dir);
    server.pombal(&["store", "verify"], "");
    server.start();
}

fn fill(server: &Server) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for number in 1..=12 {
        let to: &[&str] = if number == 2 { &["a"] } else { &["a", "b"] };
        let body = if number == 2 { LOST.to_owned() } else { format!("number {number}") };
        send(&mut link, to, &format!("Subject: {number}\r\n\r\n{body}\r\n"));
    }
    let mut imap = Imap::login(server, "a").unwrap();
    for command in [
        "SELECT INBOX",
        "CREATE filed",
        "STORE 1 +FLAGS (\\Seen $Work)",
        "COPY 3:5 filed",
        "MOVE 7 filed",
        "STORE 8 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "SUBSCRIBE filed",
    ] {
        imap.ok(command).unwrap();
    }
    let text = format!("Subject: draft\r\n\r\n{}\r\n", "x".repeat(30_000));
    imap.append("filed", "(\\Draft)", text.as_bytes()).unwrap();
}

fn send(link: &mut Link, to: &[&str], text: &str) {
    link.command("MAIL FROM:<>", 250).unwrap();
    for user in to {
        link.command(&format!("RCPT TO:<{user}@local.example>"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    link.send(text).unwrap();
    link.command(".", 250).unwrap();
}

/// All mailboxes, their numbers, all messages with flags and octets.
fn look(server: &Server, user: &str) -> Vec<String> {
    let mut imap = Imap::login(server, user).unwrap();
    let mut seen = imap.ok("LIST \"\" *").unwrap();
    let names: Vec<String> =
        seen.iter().filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect();
    for name in names {
        let mut lines = imap.ok(&format!("EXAMINE {name}")).unwrap();
        lines.extend(imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])").unwrap());
        // Which are recent is of one life of the server.
        lines.retain(|line| !line.ends_with(" RECENT"));
        let lines =
            lines.into_iter().map(|line| line.replace(" \\Recent", "").replace("\\Recent", ""));
        seen.extend(lines);
    }
    seen
}

fn read_all(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(read_all(&path));
        } else if path.is_file() {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
