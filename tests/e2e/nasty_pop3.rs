//! Every hostile POP3 input of the corpus against the running server.
//!
//! After each case the session is in step or closed, the server serves the next client, the
//! maildrop is what it was, and memory stays where it was.

use crate::client::{Link, Maildrop, is_end, ok, smtp};
use crate::harness::Server;
use serde_json::Value;
use std::io::{self, Write as _};

/// What a server may grow by, whatever it is sent.
const GROWTH_KIB_MAX: u64 = 64 << 10;
/// Bad commands of one session before it is closed, and a margin.
const ERRORS_MAX: usize = 60;

const CLEAR_OFF: &str = "[auth]\nallow_plaintext = false\n";

/// What a case comes to: the beginnings of the lines that come, `|` between them. `...` stands for
/// any lines up to one that the next beginning fits; `closed` for the end of the connection.
fn wants(id: &str) -> &'static str {
    match id {
        "pop3-case" | "pop3-capa-trans" => {
            "+OK|...|TOP|...|UIDL|...|SASL SCRAM-SHA-256 PLAIN LOGIN|...|RESP-CODES|...|PIPELINING|...|."
        }
        "pop3-user-sp" => "+OK",
        // Nobody has that name; that the spaces count is looked at by itself.
        "pop3-pass-spaces" => "+OK|-ERR [AUTH]",
        "pop3-user-quit" | "pop3-dele-quit" => "+OK|+OK|closed",
        "pop3-tls-hello" | "pop3-lf" | "pop3-cr" => "-ERR|closed",
        "pop3-utf8-bad" => "+OK UTF8|-ERR",
        "pop3-list-lead0" => "+OK 1 ",
        "pop3-list-trail" | "pop3-uidl-all" => "+OK|1 |2 |3 |.",
        "pop3-list-gone" | "pop3-dele-twice" | "pop3-top-gone" => "+OK|-ERR",
        "pop3-stat-dele" => "+OK|+OK 2 ",
        "pop3-dele-rset" => "+OK|+OK|+OK |Return-Path: |...|Subject: 1||one|.",
        "pop3-top-0" => "+OK|Return-Path: |...|Subject: 1||.",
        "pop3-barelf-msg" => "+OK |Return-Path: |...|Subject: 1||one|.",
        "pop3-pipe-quit" => "+OK|closed",
        "pop3-second-session" => "+OK|-ERR [IN-USE]",
        "pop3-nocrlf-16m" => "-ERR|...|closed",
        _ => "-ERR",
    }
}

struct Case {
    id: String,
    in_transaction: bool,
    expect: String,
    sends: Vec<Vec<u8>>,
}

fn cases() -> Option<Vec<Case>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/protocol/nasty/pop3.jsonl");
    let text = std::fs::read_to_string(file).ok()?;
    let octets = |text: &Value| -> Vec<u8> {
        text.as_str().unwrap().chars().map(|letter| u8::try_from(letter).unwrap()).collect()
    };
    let read = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut sends: Vec<Vec<u8>> =
            case["send"].as_array().into_iter().flatten().map(octets).collect();
        if let Some(generator) = case.get("gen") {
            let count = usize::try_from(generator["count"].as_u64().unwrap()).unwrap();
            let body = octets(&generator["unit"]).repeat(count);
            sends.push([octets(&generator["prefix"]), body, octets(&generator["suffix"])].concat());
        }
        Case {
            id: case["id"].as_str().unwrap().into(),
            in_transaction: case["state"] == "trans",
            expect: case["expect"].as_str().unwrap().into(),
            sends,
        }
    };
    let cases: Vec<Case> = text.lines().map(read).collect();
    assert!(cases.len() >= 45, "only {} cases", cases.len());
    Some(cases)
}

#[test]
fn pop3_answers_every_nasty_input_and_serves_the_next() {
    let Some(cases) = cases() else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let mut server = Server::with_users("", &["bob", "goner", "flood"]);
    let clear_off = Server::with_users(CLEAR_OFF, &["u"]);
    fill(&server, "bob").unwrap();
    fill(&server, "goner").unwrap();
    deliver(&server, "flood", &b"0123456789abcdef\r\n".repeat(300)).unwrap();
    let uidl = listing(&server, "UIDL").unwrap();
    assert!(uidl.iter().all(|id| id.len() <= 70 && id.bytes().all(|o| o.is_ascii_graphic())));
    let before = server.memory_kib("VmHWM");
    let mut wrong = Vec::new();
    for case in &cases {
        let played = match &*case.id {
            "pop3-plain-user-clear" => refuses_clear_text(&clear_off, case),
            "pop3-junk-1000" => gives_up_on_junk(&server, case),
            "pop3-stls-inject" => forgets_what_came_in_clear(&server, case),
            "pop3-retr-flood" => waits_for_the_reader(&server, case),
            _ => play(&server, case),
        };
        let played = played.map_err(|error| error.to_string());
        let after = played.and_then(|()| {
            let now = listing(&server, "UIDL").map_err(|error| error.to_string())?;
            if now == uidl { Ok(()) } else { Err("the maildrop changed".into()) }
        });
        server.assert_alive();
        let grown = server.memory_kib("VmHWM").saturating_sub(before);
        let after = match after {
            Ok(()) if grown > GROWTH_KIB_MAX => Err(format!("{grown} KiB more memory")),
            other => other,
        };
        if let Err(why) = after {
            wrong.push(format!("{}: {why}; expected {}", case.id, case.expect));
        }
    }
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    println!("{} cases, the server grew by {grown} KiB at most", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let left = Maildrop::open(server.pop3(), "goner", false).unwrap();
    assert_eq!(left.count, 2, "DELE and QUIT removed one");
    left.quit().unwrap();
    server.stop();
}

#[test]
fn every_space_of_a_password_counts() {
    let server = Server::with_users("", &["u"]);
    server.add_user_with("spaces", "a b  c ");
    let open = |password| Maildrop::open_with(server.pop3(), "spaces", password, false);
    open("a b  c ").unwrap().quit().unwrap();
    for near in ["a b  c", "a b c ", " a b  c ", "a b  c  "] {
        let refused = open(near).err().expect("another password").to_string();
        assert!(refused.contains("[AUTH]"), "{refused}");
    }
}

/// The three messages that the corpus asks for; the first has lone LFs within.
fn fill(server: &Server, user: &str) -> io::Result<()> {
    deliver(server, user, b"Subject: 1\n\r\none")?;
    deliver(server, user, b"Subject: 2\r\n\r\n.two\r\n")?;
    deliver(server, user, b"Subject: 3\r\n\r\nthree lines\r\nof text\r\n.\r\nend\r\n")
}

fn deliver(server: &Server, user: &str, message: &[u8]) -> io::Result<()> {
    let mut link = smtp(server.lmtp(), "LHLO")?;
    link.command("MAIL FROM:<> BODY=BINARYMIME", 250)?;
    link.command(&format!("RCPT TO:<{user}@local.example>"), 250)?;
    link.send(format!("BDAT {} LAST\r\n", message.len()))?;
    link.send(message)?;
    link.expect(250)?;
    link.command("QUIT", 221)?;
    Ok(())
}

fn listing(server: &Server, command: &str) -> io::Result<Vec<String>> {
    let mut maildrop = Maildrop::open(server.pop3(), "bob", false)?;
    let listing = maildrop.listing(command)?;
    maildrop.quit()?;
    Ok(listing)
}

/// Where the case begins.
fn session(server: &Server, case: &Case) -> io::Result<Link> {
    if case.in_transaction {
        let user = if case.id == "pop3-dele-quit" { "goner" } else { "bob" };
        return Ok(Maildrop::open(server.pop3(), user, false)?.link);
    }
    let mut link = Link::connect(server.pop3())?;
    ok(&mut link)?;
    Ok(link)
}

fn play(server: &Server, case: &Case) -> io::Result<()> {
    let holder = (case.id == "pop3-second-session")
        .then(|| Maildrop::open(server.pop3(), "bob", false))
        .transpose()?;
    let mut link = session(server, case)?;
    if holder.is_some() {
        link.send("USER bob@local.example\r\nPASS secret\r\n")?;
    } else {
        send(&mut link, &case.sends)?;
    }
    let closed = compare(&mut link, wants(&case.id))?;
    if !closed {
        in_step(&mut link)?;
    }
    if let Some(holder) = holder {
        holder.quit()?;
    }
    if case.id == "pop3-barelf-msg" { sizes_are_true(&mut link) } else { Ok(()) }
}

/// Writes all, or as much as the server lets it.
fn send(link: &mut Link, parts: &[Vec<u8>]) -> io::Result<()> {
    for part in parts {
        match link.send(part) {
            Err(error) if is_end(&error) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Reads what must come. True where that is the end of the connection.
fn compare(link: &mut Link, wants: &str) -> io::Result<bool> {
    let mut got = Vec::new();
    let mut skips = false;
    for want in wants.split('|') {
        if want == "..." {
            skips = true;
            continue;
        }
        loop {
            let line = link.line()?;
            let fits = match &line {
                None => want == "closed",
                // An empty want is an empty line, and `.` the end.
                Some(line) if want.is_empty() || want == "." => line == want.as_bytes(),
                Some(line) => line.starts_with(want.as_bytes()),
            };
            let ended = line.is_none();
            got.push(line.map_or("closed".into(), |line| line.escape_ascii().to_string()));
            if fits {
                break;
            }
            if ended || !skips {
                return Err(io::Error::other(format!("wanted {wants}, got {got:?}")));
            }
        }
        skips = false;
    }
    Ok(wants.ends_with("closed"))
}

fn in_step(link: &mut Link) -> io::Result<()> {
    link.send("CAPA\r\n")?;
    let answer = ok(link).and_then(|_| link.body());
    let answer = answer.map_err(|error| io::Error::other(format!("out of step: {error}")))?;
    if answer.starts_with(b"TOP\r\n") { Ok(()) } else { Err(io::Error::other("another answer")) }
}

/// LIST tells the octets that RETR sends (RFC 1939 §11).
fn sizes_are_true(link: &mut Link) -> io::Result<()> {
    for number in 1..=3 {
        link.send(format!("LIST {number}\r\nRETR {number}\r\n"))?;
        let told = ok(link)?;
        ok(link)?;
        let sent = link.body()?.len();
        if told != format!("+OK {number} {sent}") {
            return Err(io::Error::other(format!("{told}, sent {sent}")));
        }
    }
    Ok(())
}

fn refuses_clear_text(server: &Server, case: &Case) -> io::Result<()> {
    let mut link = session(server, case)?;
    link.send("CAPA\r\n")?;
    ok(&mut link)?;
    let capabilities = String::from_utf8_lossy(&link.body()?).into_owned();
    if capabilities
        .lines()
        .any(|line| line == "USER" || line.starts_with("SASL") && line.contains("PLAIN"))
    {
        return Err(io::Error::other(capabilities));
    }
    send(&mut link, &case.sends)?;
    compare(&mut link, "-ERR")?;
    in_step(&mut link)
}

/// Behind STLS nothing is answered but what came by TLS, and nothing else is remembered.
fn forgets_what_came_in_clear(server: &Server, case: &Case) -> io::Result<()> {
    let mut link = session(server, case)?;
    send(&mut link, &case.sends)?;
    compare(&mut link, "+OK")?;
    // A second answer in clear fails the handshake.
    let mut link = link.encrypt()?;
    in_step(&mut link)?;
    link.send("PASS p\r\n")?;
    compare(&mut link, "-ERR USER comes first")?;
    in_step(&mut link)
}

fn gives_up_on_junk(server: &Server, case: &Case) -> io::Result<()> {
    let mut link = session(server, case)?;
    send(&mut link, &case.sends)?;
    let rest = link.rest()?;
    let lines: Vec<&[u8]> = rest.split_inclusive(|&octet| octet == b'\n').collect();
    let refused = lines.iter().all(|line| line.starts_with(b"-ERR"));
    if refused && (1..=ERRORS_MAX).contains(&lines.len()) {
        return Ok(());
    }
    Err(io::Error::other(format!("{} answers", lines.len())))
}

/// A reader that does not read costs no memory and delays nobody, and gets all in the end.
fn waits_for_the_reader(server: &Server, case: &Case) -> io::Result<()> {
    let mut slow = Maildrop::open(server.pop3(), "flood", false)?;
    let size = slow.octets;
    let mut writer = slow.link.writer();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || writer.write_all(&case.sends.concat()));
        let before = server.memory_kib("VmRSS");
        for _ in 0..20 {
            listing(server, "LIST")?;
        }
        let grown = server.memory_kib("VmRSS").saturating_sub(before);
        if grown > 8 << 10 {
            return Err(io::Error::other(format!("{grown} KiB wait for the reader")));
        }
        for _ in 0..10_000 {
            ok(&mut slow.link)?;
            let sent = slow.link.body()?.len();
            if sent as u64 != size {
                return Err(io::Error::other(format!("sent {sent} of {size} octets")));
            }
        }
        writing.join().expect("the writer does not panic")
    })?;
    in_step(&mut slow.link)
}
