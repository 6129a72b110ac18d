//! Users of both shards: quotas, deletions, and what the operator is told, across shards.
//!
//! Who owns an account is told by a hash of its number; of two shards the second owns the first seven.
//! Connections come to both.

use crate::client::{Link, Maildrop, smtp};
use crate::harness::{PASSWORD, Server};
use socket2::{Domain, Socket, Type};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A message of about `octets` octets.
fn mail(octets: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(62));
    format!("Subject: size\r\n\r\n{}", line.repeat(octets.div_ceil(64)))
}

fn add_user(server: &Server, user: &str, quota: &str) {
    let address = format!("{user}@local.example");
    let words = ["user", "add", &address, "--password-stdin", "--quota", quota];
    server.pombal(&words, &format!("{PASSWORD}\n"));
}

/// MAIL and RCPT for each; returns the codes of RCPT.
fn begin(link: &mut Link, users: &[&str]) -> Vec<u16> {
    link.command("MAIL FROM:<s@else.example>", 250).unwrap();
    let mut codes = Vec::new();
    for user in users {
        link.send(format!("RCPT TO:<{user}@local.example>\r\n")).unwrap();
        codes.push(link.reply().unwrap().unwrap().code);
    }
    codes
}

fn data(link: &mut Link, message: &str) {
    link.command("DATA", 354).unwrap();
    link.send(format!("{message}.\r\n")).unwrap();
}

fn code(link: &mut Link) -> u16 {
    link.reply().unwrap().unwrap().code
}

fn count(server: &Server, user: &str) -> usize {
    let maildrop = Maildrop::open(server.pop3(), user, false).unwrap();
    let count = maildrop.count;
    maildrop.quit().unwrap();
    count
}

/// Many connections, so that some are served by the one shard and some by the other.
fn links(port: u16, hello: &str) -> Vec<Link> {
    (0..8).map(|_| smtp(port, hello).unwrap()).collect()
}

/// Commands of an operator's script meet while no server runs: each has its turn.
#[test]
fn commands_that_meet_while_it_is_stopped_wait_for_each_other() {
    let mut server = Server::set_up("");
    server.pombal(&["domain", "add", "local.example"], "");
    std::thread::scope(|scope| {
        for user in ["a", "b", "c", "d"] {
            let server = &server;
            scope.spawn(move || server.add_user(user));
        }
    });
    let users = server.pombal(&["user", "list", "local.example"], "");
    assert!(["a@", "b@", "c@", "d@"].iter().all(|user| users.contains(user)), "{users}");
    server.start();
    let second = server.try_pombal(&["serve"], "");
    assert!(!second.status.success(), "one server for a directory");
    server.stop();
}

#[test]
fn a_quota_holds_on_whichever_shard_the_mail_comes_in() {
    let server = Server::with_users("", &["a", "b"]);
    add_user(&server, "c", "100K");
    add_user(&server, "d", "100K");
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    assert_eq!(begin(&mut link, &["c", "d"]), [250, 250]);
    data(&mut link, &mail(99 << 10));
    assert_eq!(code(&mut link), 250);
    for user in ["c", "d"] {
        Maildrop::open_filled(server.pop3(), user, 1).unwrap().quit().unwrap();
    }
    for mut link in links(server.smtp(), "EHLO") {
        // Known at RCPT where the size is told.
        link.command("MAIL FROM:<> SIZE=2000", 250).unwrap();
        for user in ["c", "d"] {
            let said = link.command(&format!("RCPT TO:<{user}@local.example>"), 452).unwrap();
            assert!(said.text.contains("4.2.2"), "{}", said.text);
        }
        link.command("RCPT TO:<a@local.example>", 250).unwrap();
        link.command("RSET", 250).unwrap();
        // Not told: known at the end, and then nobody gets it.
        assert_eq!(begin(&mut link, &["c", "d"]), [250, 250]);
        data(&mut link, &mail(4_000));
        assert_eq!(code(&mut link), 452);
    }
    for mut link in links(server.lmtp(), "LHLO") {
        assert_eq!(begin(&mut link, &["a", "c", "b", "d"]), [250; 4]);
        data(&mut link, &mail(4_000));
        assert_eq!([0; 4].map(|_| code(&mut link)), [250, 452, 250, 452]);
    }
    for (user, wanted) in [("a", 8), ("b", 8), ("c", 1), ("d", 1)] {
        Maildrop::open_filled(server.pop3(), user, wanted).unwrap().quit().unwrap();
        assert_eq!(count(&server, user), wanted, "{user}");
    }
}

/// By SMTP one answer is for all: who had room at RCPT gets it if anybody has at the end.
#[test]
fn mail_for_some_with_room_is_never_lost() {
    let server = Server::with_users("", &["a", "b"]);
    add_user(&server, "c", "10K");
    add_user(&server, "d", "10K");
    for mut link in links(server.smtp(), "EHLO") {
        // Where a mailbox got full since RCPT asked its owner, all are told to come back, and RCPT says
        // who it is: c and d live in different logs, which get a message one after the other.
        let taken = (0..10).any(|_| {
            assert_eq!(begin(&mut link, &["a", "b", "c", "d"])[..2], [250, 250]);
            data(&mut link, &mail(9_000));
            let code = code(&mut link);
            assert!(code == 250 || code == 452, "{code}");
            code == 250
        });
        assert!(taken);
    }
    for (user, least) in [("a", 8), ("b", 8), ("c", 1), ("d", 1)] {
        Maildrop::open_filled(server.pop3(), user, least).unwrap().quit().unwrap();
    }
}

/// Mail for users who are deleted between RCPT and the end of the message.
#[test]
fn tells_of_users_who_went_in_the_middle() {
    let server = Server::with_users("", &["a", "b", "c", "d"]);
    let mut links_smtp = links(server.smtp(), "EHLO");
    for (index, link) in links_smtp.iter_mut().enumerate() {
        let users: &[&str] = [&["c"][..], &["d"], &["c", "d"], &["a", "b", "c", "d"]][index % 4];
        assert_eq!(begin(link, users), vec![250; users.len()]);
    }
    let mut links_lmtp = links(server.lmtp(), "LHLO");
    for link in &mut links_lmtp {
        assert_eq!(begin(link, &["a", "c", "b", "d"]), [250; 4]);
    }
    for user in ["c@local.example", "d@local.example"] {
        server.pombal(&["user", "del", user], "");
    }
    for (index, link) in links_smtp.iter_mut().enumerate() {
        data(link, &mail(100));
        assert_eq!(code(link), if index % 4 == 3 { 451 } else { 550 }, "{index}");
        link.command("MAIL FROM:<>", 250).unwrap();
        link.command("RCPT TO:<c@local.example>", 550).unwrap();
    }
    for link in &mut links_lmtp {
        data(link, &mail(100));
        assert_eq!([0; 4].map(|_| code(link)), [250, 550, 250, 550]);
    }
    for user in ["a", "b"] {
        Maildrop::open_filled(server.pop3(), user, 8).unwrap().quit().unwrap();
        assert_eq!(count(&server, user), 8, "{user}");
    }
}

/// What `pombal user list` says of each user: octets and messages.
fn listed(server: &Server) -> Vec<(String, u64, u64)> {
    let said = server.pombal(&["--json", "user", "list"], "");
    let rows: serde_json::Value = serde_json::from_str(&said).unwrap();
    let row = |row: &serde_json::Value| {
        let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{key} in {said}"));
        (row["address"].as_str().unwrap().to_owned(), number("used"), number("messages"))
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn figure(server: &Server, name: &str) -> u64 {
    let said = server.pombal(&["--json", "store", "stats"], "");
    let figures: serde_json::Value = serde_json::from_str(&said).unwrap();
    figures[name].as_u64().unwrap_or_else(|| panic!("{name} in {said}"))
}

fn send(server: &Server, users: &[&str], octets: usize) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    assert_eq!(begin(&mut link, users), vec![250; users.len()]);
    data(&mut link, &mail(octets));
    assert_eq!(code(&mut link), 250);
}

fn await_figure(server: &Server, name: &str, wanted: u64) {
    for _ in 0..10_000 {
        if figure(server, name) == wanted {
            return;
        }
    }
    panic!("{name} is {}, not {wanted}", figure(server, name));
}

#[test]
fn tells_of_the_accounts_of_all_shards_running_and_stopped() {
    let mut server = Server::with_users("", &["a", "b", "c"]);
    for user in ["a", "b", "b", "c", "c", "c"] {
        send(&server, &[user], 1_000);
    }
    let running = listed(&server);
    let counts: Vec<u64> = running.iter().map(|row| row.2).collect();
    assert_eq!(counts, [1, 2, 3]);
    assert!(running.iter().all(|row| row.1 >= 1_000 * row.2), "{running:?}");
    let octets: u64 = running.iter().map(|row| row.1).sum();
    let sums = |server: &Server| ["messages", "message_octets", "blobs"].map(|n| figure(server, n));
    assert_eq!(sums(&server), [6, octets, 6]);
    server.stop();
    assert_eq!(listed(&server), running);
    assert_eq!(sums(&server), [6, octets, 6]);
    let said = server.pombal(&["--json", "user", "show", "b@local.example"], "");
    let row: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(row[0]["messages"].as_u64(), Some(2), "{said}");
}

/// Running or stopped, the mail goes with the user, and who gets the name later sees none of it.
#[test]
fn the_mail_of_a_deleted_user_is_gone_for_good() {
    let mut server = Server::with_users("", &["a", "b", "c", "d"]);
    let users = ["a", "b", "c", "d"];
    send(&server, &users, 1_000);
    for user in users {
        send(&server, &[user], 2_000);
        Maildrop::open_filled(server.pop3(), user, 2).unwrap().quit().unwrap();
    }
    let delete = |server: &Server, user: &str| {
        server.pombal(&["user", "del", &format!("{user}@local.example")], "");
    };
    delete(&server, "a");
    delete(&server, "b");
    assert_eq!(figure(&server, "messages"), 4);
    server.stop();
    delete(&server, "c");
    assert_eq!(figure(&server, "messages"), 2);
    delete(&server, "d");
    assert_eq!(["messages", "message_octets", "blobs"].map(|n| figure(&server, n)), [0; 3]);
    server.pombal(&["store", "verify"], "");
    server.add_user("c");
    server.start();
    assert_eq!(count(&server, "c"), 0);
    server.kill9();
    server.start();
    for user in ["a", "b", "d"] {
        server.add_user(user);
        assert_eq!(count(&server, user), 0, "{user}");
        send(&server, &[user], 100);
        assert_eq!(count(&server, user), 1, "{user}");
    }
    await_figure(&server, "blobs", 3);
    assert!(Maildrop::open_with(server.pop3(), "a", "other", false).is_err());
}

#[test]
fn a_name_that_cannot_be_meant_is_a_usage_error() {
    let server = Server::set_up("");
    let status = |words: &[&str]| server.try_pombal(words, "").status.code();
    assert_eq!(status(&["domain", "add", "--", "-x"]), Some(2));
    assert_eq!(status(&["user", "list", "-x-.y..z"]), Some(2));
    assert_eq!(status(&["domain", "del", "not.there.example"]), Some(1));
    assert_eq!(status(&["user", "show", "a@not.there.example"]), Some(1));
}

fn connect_from(place: [u8; 4], port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((place, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
}

/// Guesses are under way, more than one address may have, when the owner comes from another.
#[test]
fn the_owner_gets_in_while_somebody_guesses() {
    let auth = "[auth]\nallow_plaintext = true\nargon2_memory = \"1M\"\nargon2_passes = 1\n";
    let users = ["a", "b", "c", "d"];
    let server = Server::with_users(auth, &users);
    for user in users {
        let mut guessers = Vec::new();
        for guess in 0..16 {
            let mut guesser = connect_from([127, 0, 0, 2], server.pop3());
            write!(guesser, "USER {user}@local.example\r\nPASS guess{guess}\r\n").unwrap();
            guessers.push(guesser);
        }
        Maildrop::open(server.pop3(), user, false).unwrap().quit().unwrap();
        for guesser in guessers {
            let answer = BufReader::new(guesser).lines().nth(2).unwrap().unwrap();
            assert!(answer.starts_with("-ERR"), "{answer}");
        }
    }
}

/// What is removed here and there is room again, running and stopped, and what is left is all there.
#[test]
fn room_is_won_back_running_and_stopped() {
    // Those who get mail live in one log.
    let mut server = Server::with_users("", &["a", "x", "b", "y", "c"]);
    for _ in 0..60 {
        for user in ["a", "b", "c"] {
            send(&server, &[user], 200_000);
        }
    }
    let compacted = |server: &Server| {
        let said = server.pombal(&["--json", "store", "compact"], "");
        let done: serde_json::Value = serde_json::from_str(&said).unwrap();
        let number = |key: &str| done[key].as_u64().unwrap_or_else(|| panic!("{key} in {said}"));
        assert_eq!((number("logs"), number("damaged")), (2, 0), "{said}");
        assert!(number("reclaimed_octets") > 0, "{said}");
        (number("segments"), number("moved"))
    };
    server.pombal(&["user", "del", "a@local.example"], "");
    let (segments, moved) = compacted(&server);
    assert!(segments > 0 && moved > 0);
    assert_eq!(figure(&server, "cleaned_segments"), segments);
    assert_eq!(figure(&server, "cleaned_blobs"), moved);
    for user in ["b", "c"] {
        Maildrop::open_filled(server.pop3(), user, 60).unwrap().quit().unwrap();
    }
    server.stop();
    server.pombal(&["user", "del", "b@local.example"], "");
    assert!(compacted(&server).1 > 0);
    server.pombal(&["store", "verify"], "");
    server.start();
    Maildrop::open_filled(server.pop3(), "c", 60).unwrap().quit().unwrap();
}
