//! Users who are switched off and on again: logins by whatever there is, mail, and sessions under way.
//! Tokens and certificates of theirs stand with those of others (`oauth.rs`, `client_certificates.rs`).

use crate::client::{Link, Maildrop, smtp};
use crate::harness::{PASSWORD, Server};
use crate::imap::Imap;
use crate::scram::{Scram, plain, scram};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const ANN: &str = "ann@local.example";

fn switch(server: &Server, verb: &str) {
    server.pombal(&["user", verb, ANN], "");
}

/// What each protocol says of this password of Ann's, by each way to show it.
fn answers(server: &Server, password: &str) -> Vec<String> {
    let message = STANDARD.encode(format!("\0{ANN}\0{password}"));
    let mut all = Vec::new();
    let mut says = |port: u16, hello: &str, lines: &[String]| {
        let mut link = if hello.is_empty() {
            let mut link = Link::connect(port).unwrap();
            link.line().unwrap();
            link
        } else {
            smtp(port, hello).unwrap()
        };
        for line in lines {
            link.send(format!("{line}\r\n")).unwrap();
            all.push(String::from_utf8(link.line().unwrap().unwrap()).unwrap());
        }
    };
    says(server.submission(), "EHLO", &[format!("AUTH PLAIN {message}")]);
    says(server.imap(), "", &[format!("a LOGIN {ANN} {password}")]);
    says(server.imap(), "", &[format!("a AUTHENTICATE PLAIN {message}")]);
    says(server.pop3(), "", &[format!("USER {ANN}"), format!("PASS {password}")]);
    says(server.pop3(), "", &[format!("AUTH PLAIN {message}")]);
    all
}

/// The code for Ann as a recipient, in both protocols by which mail comes in.
fn recipients(server: &Server) -> [u16; 2] {
    [(server.smtp(), "EHLO"), (server.lmtp(), "LHLO")].map(|(port, hello)| {
        let mut link = smtp(port, hello).unwrap();
        link.command("MAIL FROM:<s@else.example>", 250).unwrap();
        link.send(format!("RCPT TO:<{ANN}>\r\n")).unwrap();
        let reply = link.reply().unwrap().unwrap();
        assert!(reply.code == 250 || reply.text.contains("5.2.1"), "{}", reply.text);
        reply.code
    })
}

/// Nothing that he shows is answered in another way than what is wrong, whether the server runs or not
/// when he is switched off, and all is as it was when he is switched on.
#[test]
fn nobody_can_tell_who_is_off_from_who_is_wrong() {
    let mut server = Server::with_users("", &["ann", "bob"]);
    let app = server.pombal(&["user", "apppass", "add", ANN, "phone"], "");
    let app = app.trim();
    let wrong = answers(&server, "wrong");
    let right = answers(&server, PASSWORD);
    assert!(wrong.iter().zip(&right).filter(|(wrong, right)| wrong != right).count() == 5);
    let is_off = |server: &Server| {
        for password in [PASSWORD, app, "wrong"] {
            assert_eq!(answers(server, password), wrong);
            assert_eq!(scram(server, ANN, password), 535);
        }
        assert_eq!(recipients(server), [550, 550]);
        let failed = ["event=login_failed", "user=ann@local.example", "why=disabled"];
        server.await_log(&[failed[0], failed[1], failed[2], "method=SCRAM-SHA-256"]);
        let listed = server.pombal(&["user", "list"], "");
        let line = listed.lines().find(|line| line.starts_with(ANN)).unwrap();
        assert!(line.split_whitespace().any(|word| word == "off"), "{listed}");
        let shown = server.pombal(&["user", "show", ANN, "--json"], "");
        assert!(shown.contains("\"enabled\": false"), "{shown}");
    };
    let is_on = |server: &Server| {
        for password in [PASSWORD, app] {
            assert_eq!(plain(server, "", ANN, password), 235);
            assert_eq!(scram(server, ANN, password), 235);
            Imap::login(server, "ann").unwrap();
            Maildrop::open(server.pop3(), "ann", false).unwrap().quit().unwrap();
        }
        assert_eq!(recipients(server), [250, 250]);
        let shown = server.pombal(&["user", "show", ANN, "--json"], "");
        assert!(shown.contains("\"enabled\": true"), "{shown}");
    };
    is_on(&server);
    let challenged = Scram::begin(&server, ANN);
    switch(&server, "disable");
    assert_eq!(challenged.end(PASSWORD), 535);
    is_off(&server);
    server.kill9();
    server.start();
    is_off(&server);
    switch(&server, "enable");
    is_on(&server);
    server.stop();
    switch(&server, "disable");
    assert!(server.pombal(&["user", "list"], "").contains("off"));
    server.start();
    is_off(&server);
    server.stop();
    switch(&server, "enable");
    server.start();
    is_on(&server);
    let nobody = server.try_pombal(&["user", "disable", "eve@local.example"], "");
    assert_eq!(nobody.status.code(), Some(1));
    assert_eq!(plain(&server, "", "bob@local.example", PASSWORD), 235);
    server.stop();
}

/// Who idles hears of it at once, others with the next command; what was asked for behind it is not done,
/// and what was answered before stays.
#[test]
fn sessions_of_who_is_switched_off_end() {
    let masters = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n\
                   masters = [\"ann@local.example\"]\n";
    let mut server = Server::with_users(masters, &["ann", "bob"]);
    let mut idle = Imap::login(&server, "ann").unwrap();
    idle.append("INBOX", "", b"Subject: 1\r\n\r\n").unwrap();
    idle.ok("SELECT INBOX").unwrap();
    idle.link.send("tag IDLE\r\n").unwrap();
    assert_eq!(idle.line().unwrap(), "+ idling");
    let mut busy = Imap::login(&server, "ann").unwrap();
    let mut other = Imap::login(&server, "bob").unwrap();
    // Ann for Bob.
    let mut master = Imap::connect(&server).unwrap();
    master.ok(&format!("LOGIN \"bob@local.example*{ANN}\" {PASSWORD}")).unwrap();
    let mut pop3 = Link::connect(server.pop3()).unwrap();
    pop3.line().unwrap();
    for line in [format!("USER {ANN}"), format!("PASS {PASSWORD}"), "DELE 1".into()] {
        pop3.send(format!("{line}\r\n")).unwrap();
        assert!(pop3.line().unwrap().unwrap().starts_with(b"+OK"), "{line}");
    }
    let message = STANDARD.encode(format!("\0{ANN}\0{PASSWORD}"));
    let mut links = [(); 2].map(|()| {
        let mut link = smtp(server.submission(), "EHLO").unwrap();
        link.command(&format!("AUTH PLAIN {message}"), 235).unwrap();
        link.command(&format!("MAIL FROM:<{ANN}>"), 250).unwrap();
        link.command("RCPT TO:<bob@local.example>", 250).unwrap();
        link
    });
    switch(&server, "disable");
    let bye = "* BYE the account is switched off";
    assert_eq!(idle.line().unwrap(), bye);
    for session in [&mut busy, &mut master] {
        session.link.send("tag SELECT INBOX\r\n").unwrap();
        assert_eq!(session.line().unwrap(), bye);
    }
    for session in [&mut idle, &mut busy, &mut master] {
        assert!(session.link.line().unwrap().is_none(), "the session goes on");
    }
    pop3.send("QUIT\r\n").unwrap();
    let said = pop3.line().unwrap().unwrap();
    assert_eq!(said, b"-ERR [SYS/PERM] the account is switched off");
    assert!(pop3.line().unwrap().is_none());
    for (link, command) in links.iter_mut().zip(["DATA", "MAIL FROM:<>"]) {
        let reply = link.command(command, 421).unwrap();
        assert!(
            reply.text.contains("4.7.0") && reply.text.contains("switched off"),
            "{}",
            reply.text
        );
        assert!(link.line().unwrap().is_none());
    }
    other.ok("NOOP").unwrap();
    switch(&server, "enable");
    // What QUIT did not get to is there.
    Maildrop::open_filled(server.pop3(), "ann", 1).unwrap().quit().unwrap();
    // A session of a user who was removed, and made anew, is not one of the new user.
    let mut link = smtp(server.submission(), "EHLO").unwrap();
    link.command(&format!("AUTH PLAIN {message}"), 235).unwrap();
    server.pombal(&["user", "del", ANN], "");
    server.add_user("ann");
    let reply = link.command(&format!("MAIL FROM:<{ANN}>"), 421).unwrap();
    assert!(reply.text.contains("removed"), "{}", reply.text);
    server.stop();
}
