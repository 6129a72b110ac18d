//! Who logs in as whom, and with what: masters, programs, and the names that are one's own.

use crate::client::{Link, Maildrop};
use crate::harness::{PASSWORD, Server};
use crate::scram::{Scram, plain, scram};

const AUTH: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n";

/// RFC 4616 §2: who names himself as whom he acts for says nothing by it, however he spells it.
#[test]
fn an_own_name_is_an_own_name_in_every_spelling() {
    let mut server = Server::with_users("", &["a", "b"]);
    server.pombal(&["domain", "add", "gr\u{fc}n.example"], "");
    server.pombal(
        &["user", "add", "z@gr\u{fc}n.example", "--password-stdin"],
        &format!("{PASSWORD}\n"),
    );
    for (acting_for, user) in [
        ("A@Local.EXAMPLE", "a@local.example"),
        ("a@local.example.", "a@local.example"),
        ("z@xn--grn-ioa.example", "Z@gr\u{fc}n.example"),
        ("z@gru\u{308}n.example", "z@xn--grn-ioa.example"),
    ] {
        assert_eq!(plain(&server, acting_for, user, PASSWORD), 235, "{acting_for} {user}");
    }
    for other in ["b@local.example", "nobody@local.example", "a"] {
        assert_eq!(plain(&server, other, "a@local.example", PASSWORD), 535, "{other}");
    }
    server.await_log(&["event=login_failed", "why=foreign", "user=a@local.example"]);
    // With one domain the name alone will do.
    server.pombal(&["user", "del", "z@gr\u{fc}n.example"], "");
    server.pombal(&["domain", "del", "gr\u{fc}n.example"], "");
    assert_eq!(plain(&server, "a@local.example", "a", PASSWORD), 235);
    assert_eq!(plain(&server, "A", "a@local.example", PASSWORD), 235);
    server.stop();
}

/// A master acts for others by his own password; that of one of his programs opens his mailbox and
/// no other one.
#[test]
fn a_program_of_a_master_is_no_master() {
    let masters = format!("{AUTH}masters = [\"a@local.example\"]\n");
    let mut server = Server::with_users(&masters, &["a", "b"]);
    let key = server.pombal(&["user", "apppass", "add", "a@local.example", "phone"], "");
    let key = key.trim();
    let master = "a@local.example";
    assert_eq!(plain(&server, "b@local.example", master, PASSWORD), 235);
    server.await_log(&["event=master_login", "user=b@local.example"]);
    assert_eq!(plain(&server, "b@local.example", master, key), 535);
    server.await_log(&["event=login_failed", "why=foreign", "user=a@local.example"]);
    for own in ["", "a@local.example", "A"] {
        assert_eq!(plain(&server, own, master, key), 235, "{own}");
    }
    let mut link = Link::connect(server.imap()).unwrap();
    link.line().unwrap();
    for (password, word) in [(key, "NO"), (PASSWORD, "OK")] {
        link.send(format!("x LOGIN \"b@local.example*a@local.example\" {password}\r\n")).unwrap();
        let answer = String::from_utf8(link.line().unwrap().unwrap()).unwrap();
        assert!(answer.starts_with(&format!("x {word} ")), "{answer}");
    }
    Maildrop::open_with(server.pop3(), "a", key, false).unwrap().quit().unwrap();
    server.stop();
}

/// SCRAM: the keys are asked for at the beginning and the proof comes when the client likes; a password
/// that was changed, or a user who was removed, in between opens nothing.
#[test]
fn a_proof_of_a_password_that_was_changed_meanwhile_is_none() {
    let mut server = Server::with_users("", &["a", "b", "c"]);
    let begin = |user: &str| Scram::begin(&server, &format!("{user}@local.example"));
    let [first, second, kept, gone] = ["a", "a", "b", "c"].map(begin);
    let words = ["user", "passwd", "a@local.example", "--password-stdin"];
    server.pombal(&words, "new\n");
    server.pombal(&["user", "del", "c@local.example"], "");
    assert_eq!(first.end(PASSWORD), 454);
    assert_eq!(second.end("new"), 535);
    assert_eq!(kept.end(PASSWORD), 235);
    assert_eq!(gone.end(PASSWORD), 535);
    server.await_log(&["event=login_failed", "why=later", "user=a@local.example"]);
    assert_eq!(scram(&server, "a@local.example", PASSWORD), 535);
    assert_eq!(scram(&server, "a@local.example", "new"), 235);
    assert_eq!(scram(&server, "c@local.example", PASSWORD), 535);
    server.stop();
}

/// Where no mechanism takes the password itself, no command does: the list is what an operator reads.
#[test]
fn a_password_is_no_way_in_where_the_list_has_none_that_takes_it() {
    let only = format!("{AUTH}mechanisms = [\"SCRAM-SHA-256\"]\n");
    let mut server = Server::with_users(&only, &["a"]);
    let mut imap = Link::connect(server.imap()).unwrap();
    let greeting = String::from_utf8(imap.line().unwrap().unwrap()).unwrap();
    assert!(greeting.contains(" LOGINDISABLED") && greeting.contains("AUTH=SCRAM"), "{greeting}");
    let answer = |link: &mut Link, command: &str| {
        link.send(format!("{command}\r\n")).unwrap();
        String::from_utf8(link.line().unwrap().unwrap()).unwrap()
    };
    let said = answer(&mut imap, "x LOGIN a@local.example secret");
    assert!(said.starts_with("x NO [CANNOT] LOGIN is not offered"), "{said}");
    let mut pop3 = Link::connect(server.pop3()).unwrap();
    crate::client::ok(&mut pop3).unwrap();
    pop3.send("CAPA\r\n").unwrap();
    let capabilities = String::from_utf8(pop3.body().unwrap()).unwrap();
    assert!(capabilities.contains("\r\nSASL SCRAM-SHA-256\r\n"), "{capabilities}");
    assert!(!capabilities.contains("\r\nUSER\r\n"), "{capabilities}");
    for command in ["USER a@local.example", "PASS secret"] {
        let said = answer(&mut pop3, command);
        assert!(said.starts_with("-ERR USER and PASS are not offered"), "{said}");
    }
    assert_eq!(plain(&server, "", "a@local.example", PASSWORD), 504);
    assert_eq!(scram(&server, "a@local.example", PASSWORD), 235);
    // LOGIN in the list is the same password.
    server.reload("\"SCRAM-SHA-256\"", "\"SCRAM-SHA-256\", \"LOGIN\"");
    let mut told = String::new();
    while !told.starts_with("x OK ") {
        let mut imap = Link::connect(server.imap()).unwrap();
        imap.line().unwrap();
        told = answer(&mut imap, "x LOGIN a@local.example secret");
        assert!(told.starts_with("x OK ") || told.contains("not offered"), "{told}");
    }
    server.stop();
    server.edit("[\"SCRAM-SHA-256\", \"LOGIN\"]", |_| "[]".into());
    let refused = server.try_pombal(&["check"], "");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("`auth.mechanisms` is empty: nobody could log in"), "{said}");
}

fn plain_of_a(server: &Server, password: &str) -> u16 {
    plain(server, "", "a@local.example", password)
}

fn scram_of_a(server: &Server, password: &str) -> u16 {
    scram(server, "a@local.example", password)
}

/// Made while the server is stopped or while it runs, shown once, gone at once.
#[test]
fn a_program_s_password_lives_from_add_to_del() {
    let mut server = Server::with_users("", &["a", "b"]);
    let app = |server: &Server, verb: &str, name: &str| {
        server.try_pombal(&["user", "apppass", verb, "a@local.example", name], "")
    };
    let made = |server: &Server, name: &str| {
        let output = app(server, "add", name);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let phone = made(&server, "phone");
    server.stop();
    let desk = made(&server, "desk");
    let twice = app(&server, "add", "desk");
    assert_eq!((twice.status.code(), twice.stdout.len()), (Some(1), 0));
    server.start();
    for key in [&phone, &desk, &phone.replace('-', "").to_uppercase()] {
        assert_eq!(plain(&server, "", "a@local.example", key), 235);
        assert_eq!(plain(&server, "", "b@local.example", key), 535);
        Maildrop::open_with(server.pop3(), "a", key, false).unwrap().quit().unwrap();
    }
    // SCRAM takes it as it was shown: the client hashes what somebody typed.
    for key in [&phone, &desk] {
        assert_eq!(scram(&server, "a@local.example", key), 235);
        assert_eq!(scram(&server, "b@local.example", key), 535);
    }
    assert_eq!(scram(&server, "a@local.example", &desk.to_uppercase()), 535);
    let listed = server.pombal(&["user", "apppass", "list", "a@local.example"], "");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["name", "phone", "desk"]);
    let shows = |key: &str| key.split('-').any(|part| part.len() == 4 && listed.contains(part));
    assert!(!shows(&desk) && !shows(&phone), "{listed}");
    let begun = Scram::begin(&server, "a@local.example");
    server.pombal(&["user", "apppass", "del", "a@local.example", "phone"], "");
    assert_eq!(app(&server, "del", "phone").status.code(), Some(1));
    // Who was challenged before may come back, and is not let in by what is gone.
    assert_eq!(begun.end(&phone), 454);
    for log_in in [plain_of_a, scram_of_a] {
        assert_eq!(log_in(&server, &phone), 535);
        assert_eq!(log_in(&server, &desk), 235);
    }
    // What the user sets for himself is another matter, whichever iterations are for others now.
    server.pombal(&["user", "passwd", "a@local.example", "--password-stdin"], "new\n");
    server.stop();
    server.edit("[auth]", |line| format!("{line}\nscram_iterations = 20000"));
    server.pombal(&["user", "passwd", "a@local.example", "--password-stdin"], "newer\n");
    server.start();
    for log_in in [plain_of_a, scram_of_a] {
        assert_eq!(log_in(&server, &desk), 235);
        assert_eq!(log_in(&server, "newer"), 235);
        assert_eq!(log_in(&server, "new"), 535);
    }
    server.kill9();
    server.start();
    assert_eq!(plain(&server, "", "a@local.example", &desk), 235);
    assert_eq!(plain(&server, "", "a@local.example", &phone), 535);
    server.stop();
}
