//! Every hostile SMTP and LMTP input of the corpus against the running server.
//!
//! The bare machine meets the same input beside it: it says how many replies to wait for, and the
//! server must say the same, store the same, and stay in step. After each case the server serves
//! the next client, and its memory stays where it was.

use crate::client::{Link, Maildrop, find, has_header, is_end, smtp, without_trace};
use crate::harness::Server;
use crate::smtp_case::{Case, cases, codes, stored};
use pombal::proto::smtp::replay::Replay;
use std::io::Write as _;

const MAX_MESSAGE_SIZE: u64 = 4 << 20;
/// What a server may grow by, whatever it is sent.
const GROWTH_KIB_MAX: u64 = 64 << 10;

#[test]
fn smtp_answers_every_nasty_input_and_serves_the_next() {
    let Some(cases) = cases() else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let mut server = Server::with_users("", &["postmaster", "a", "b", "user", "full"]);
    server.pombal(&["alias", "add", "abuse@local.example", "postmaster@local.example"], "");
    warm_up(&server);
    let before = server.memory_kib("VmHWM");
    let mut wrong = Vec::new();
    // Behind a handshake they are in `nasty_tls`.
    for case in cases.iter().filter(|case| !case.id.contains("starttls")) {
        let played = play(&server, case).and_then(|()| next_client(&server));
        server.assert_alive();
        let grown = server.memory_kib("VmHWM").saturating_sub(before);
        let played = match played {
            Ok(()) if grown > GROWTH_KIB_MAX => Err(format!("{grown} KiB more memory")),
            other => other,
        };
        if let Err(why) = played {
            wrong.push(format!("{}: {why}; expected {}", case.id, case.expect));
        }
    }
    let grown = server.memory_kib("VmHWM").saturating_sub(before);
    println!("{} cases, the server grew by {grown} KiB at most", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    server.stop();
}

/// One large message and its way out, so that what is only ever allocated once is there.
fn warm_up(server: &Server) {
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    link.command("MAIL FROM:<>", 250).unwrap();
    link.command("RCPT TO:<a@local.example>", 250).unwrap();
    link.command("DATA", 354).unwrap();
    link.send(b"0123456789abcdef\r\n".repeat(200_000)).unwrap();
    link.command(".", 250).unwrap();
    link.command("QUIT", 221).unwrap();
    empty(server, "a").unwrap();
    empty(server, "postmaster").unwrap();
}

/// The server and the bare machine, told the same.
struct Pair {
    link: Link,
    replay: Replay,
}

impl Pair {
    /// Sends to both; reads as many replies as the machine has. What they say must be the same.
    fn send(&mut self, parts: &[Vec<u8>]) -> Result<Vec<u16>, String> {
        for part in parts {
            part.chunks(65_536).for_each(|block| self.replay.send(block));
        }
        let want = codes(&self.replay.take_said());
        let mut writer = self.link.writer();
        let got = std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                for part in parts {
                    match writer.write_all(part) {
                        Err(error) if is_end(&error) => return Ok(()),
                        other => other?,
                    }
                }
                Ok::<_, std::io::Error>(())
            });
            let mut got = Vec::new();
            while got.len() < want.len() {
                match self.link.reply().map_err(|error| format!("{got:?}, then {error}"))? {
                    Some(reply) => got.push(reply.code),
                    None => break,
                }
            }
            writing.join().expect("the writer does not panic").map_err(|e| e.to_string())?;
            Ok::<_, String>(got)
        })?;
        if got == want { Ok(got) } else { Err(format!("{got:?}, the machine says {want:?}")) }
    }

    fn command(&mut self, line: &[u8]) -> Result<Vec<u16>, String> {
        self.send(&[line.to_vec()])
    }
}

fn play(server: &Server, case: &Case) -> Result<(), String> {
    let port = if case.is_lmtp() { server.lmtp() } else { server.smtp() };
    let link = Link::connect(port).map_err(|error| error.to_string())?;
    let mut pair = Pair { link, replay: case.replay(MAX_MESSAGE_SIZE, true) };
    let mut got;
    if case.state == "connect" {
        pair.link.send(&case.sends[0]).map_err(|error| error.to_string())?;
        // The machine has said its greeting already: it comes first.
        pair.replay.send(&case.sends[0]);
        let want = codes(&pair.replay.take_said());
        let reply = |pair: &mut Pair| pair.link.reply().map_err(|error| error.to_string());
        let mut all = Vec::new();
        while all.len() < want.len() {
            all.push(reply(&mut pair)?.ok_or("closed")?.code);
        }
        if all != want {
            return Err(format!("{all:?}, the machine says {want:?}"));
        }
        got = all.split_off(1);
    } else {
        pair.send(&[])?;
        for line in case.opening() {
            pair.command(format!("{line}\r\n").as_bytes())?;
        }
        got = pair.send(&case.sends)?;
        if let Some(end) = case.ending(&got) {
            got = pair.command(end)?;
        }
    }
    case.check_codes(&got, true)?;
    come_back(case, &got, &mut pair)?;
    check_stored(server, case, &got, &pair.replay)
}

/// A NOOP after the case gets its own reply, unless the session came to its end.
fn come_back(case: &Case, got: &[u16], pair: &mut Pair) -> Result<(), String> {
    let closes = matches!(got.last(), Some(221 | 421));
    if case.hangs_up() {
        pair.link.end_sending();
    } else if !closes {
        pair.command(Case::way_back(got))?;
        let after = pair.command(b"NOOP\r\n")?;
        if after != [250] {
            return Err(format!("NOOP got {after:?}"));
        }
        pair.command(b"QUIT\r\n")?;
    }
    // With the end of the connection, the server is done with the session.
    let rest = pair.link.rest().map_err(|error| format!("not closed: {error}"))?;
    let may_speak = case.hangs_up() || rest.is_empty();
    if may_speak { Ok(()) } else { Err(format!("says {:?} at the end", rest.escape_ascii())) }
}

/// As it stands behind our trace fields.
fn below_trace(octets: &[u8]) -> Vec<u8> {
    let gap: &[u8] = if has_header(octets) { b"" } else { b"\r\n" };
    [gap, octets].concat()
}

/// What is in the maildrops is what the machine gave up, in the order in which it did.
fn check_stored(server: &Server, case: &Case, got: &[u16], replay: &Replay) -> Result<(), String> {
    let mut found = empty(server, "a")?;
    found.extend(empty(server, "postmaster")?);
    let want: Vec<Vec<u8>> =
        stored(replay).iter().map(|octets| as_read(&below_trace(octets))).collect();
    if found != want {
        let (found, want) = (found.len(), want.len());
        return Err(format!("{found} messages are stored; the machine has {want}, or others"));
    }
    // The way back out of 354 stores an empty message; it is not the case's own.
    if got.last() == Some(&354) { Ok(()) } else { case.check_stored(&stored(replay)) }
}

/// The messages of a maildrop without our trace fields; they are gone afterwards.
fn empty(server: &Server, user: &str) -> Result<Vec<Vec<u8>>, String> {
    let read = || {
        let mut drop = Maildrop::open(server.pop3(), user, false)?;
        let messages = drop.retrieve_all()?;
        drop.clear()?;
        Ok::<_, std::io::Error>(messages)
    };
    let messages = read().map_err(|error| format!("{user}: {error}"))?;
    let bare = |message: &Vec<u8>| without_trace(message).map(<[u8]>::to_vec);
    messages.iter().map(bare).collect::<Option<_>>().ok_or("no trace fields on top".into())
}

/// How POP3 gives a message out: all lines end with CRLF.
fn as_read(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 2);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line);
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn next_client(server: &Server) -> Result<(), String> {
    let serve = || {
        let mut link = smtp(server.smtp(), "EHLO")?;
        link.command("NOOP", 250)?;
        link.command("QUIT", 221)
    };
    let bye = serve().map_err(|error| format!("the next client: {error}"))?;
    if find(bye.text.as_bytes(), b"2.0.0").is_some() { Ok(()) } else { Err(bye.text) }
}
