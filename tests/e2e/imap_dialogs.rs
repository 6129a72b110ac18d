//! IMAP dialogs are data: each file of `tests/dialogs/imap` is a session, or two that see each
//! other, against the running server; with the input whole, and cut into pieces of 1 and 3 octets.
//!
//! ```text
//! # a remark
//! @raw                      before the first line: nobody is logged in, the greeting comes
//! @append Sent (\Seen)      another session appends the message that follows
//! > Subject: x              a line of it
//! C a NOOP                  the client sends this line and CRLF
//! R ab\x00                  the client sends these octets, escapes read, without CRLF
//! S a OK                    the server says this line
//! S* a OK                   … a line that begins with this
//! S...                      any lines, up to one that fits the next S
//! C2 b NOOP   S2 b OK …     the same in a second session of the same user
//! closed                    the server hung up
//! ```
//!
//! `@{name}` stands for what the server says there the first time, and for the same ever after;
//! `@{}` for anything, `@{user}` for the address of the user. Behind the last line a NOOP
//! must be answered, and nothing else may come before. A wrong answer that is known stays in its
//! file under a `# wrong:` remark.

use crate::harness::Server;
use crate::imap::Imap;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

type Values = BTreeMap<String, String>;

/// One thing that happens, as a dialog writes it; with the number of the session.
enum Event {
    Append(String, Vec<u8>),
    Send(usize, String),
    SendRaw(usize, Vec<u8>),
    Said { session: usize, want: String, whole: bool },
    Skip(usize),
    Closed,
}

#[test]
fn imap_dialogs_hold_however_their_input_is_cut() {
    let server = Server::with_users("", &["other"]);
    let files = dialogs();
    assert!(files.len() >= 10, "the dialogs are where they should be");
    let mut wrong = String::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy();
        let (raw, events) = read(file);
        for piece in [usize::MAX, 1, 3] {
            let user = format!("{name}-{}", piece.min(9));
            server.add_user(&user);
            if let Err(why) = play(&server, &user, raw, &events, piece) {
                writeln!(wrong, "{name} cut into {piece}: {why}").unwrap();
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn dialogs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/imap");
    let entries = std::fs::read_dir(root).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "dialog"));
    files.sort();
    files
}

fn read(file: &Path) -> (bool, Vec<Event>) {
    let mut raw = false;
    let mut events = Vec::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let session = usize::from(kind.contains('2'));
        let said = |whole| Event::Said { session, want: rest.into(), whole };
        match kind {
            "" | "#" => {}
            "@raw" => raw = true,
            "@append" => events.push(Event::Append(rest.into(), Vec::new())),
            ">" => {
                let Some(Event::Append(_, message)) = events.last_mut() else {
                    panic!("{}: {line}", file.display());
                };
                message.extend_from_slice(rest.as_bytes());
                message.extend_from_slice(b"\r\n");
            }
            "C" | "C2" => events.push(Event::Send(session, rest.into())),
            "R" | "R2" => events.push(Event::SendRaw(session, unescape(rest))),
            "S" | "S2" => events.push(said(true)),
            "S*" | "S2*" => events.push(said(false)),
            "S..." | "S2..." => events.push(Event::Skip(session)),
            "closed" => events.push(Event::Closed),
            _ => panic!("{}: {line}", file.display()),
        }
    }
    (raw, events)
}

/// `\r`, `\n`, `\\` and `\xHH` are octets.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let escaped = if octet == b'\\' { rest.next() } else { None };
        octets.push(match escaped {
            None | Some(b'\\') => octet,
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => panic!("no such escape: {other:?}"),
        });
    }
    octets
}

fn play(
    server: &Server,
    user: &str,
    raw: bool,
    events: &[Event],
    piece: usize,
) -> Result<(), String> {
    let mut values = Values::from([("user".into(), format!("{user}@local.example"))]);
    let mut sessions: [Option<Imap>; 2] = [None, None];
    let mut skips = false;
    let mut heard = String::new();
    for event in events {
        let failed = |error: io::Error| error.to_string();
        let session = match event {
            Event::Send(session, _)
            | Event::SendRaw(session, _)
            | Event::Skip(session)
            | Event::Said { session, .. } => *session,
            Event::Append(..) | Event::Closed => 0,
        };
        let opened = || if raw { Imap::raw(server) } else { Imap::login(server, user) };
        let imap = match &mut sessions[session] {
            Some(imap) => imap,
            empty => empty.insert(opened().map_err(failed)?),
        };
        match event {
            Event::Append(to, message) => {
                let (mailbox, flags) = to.split_once(' ').unwrap_or((to, ""));
                let mut other = Imap::login(server, user).map_err(failed)?;
                other.append(mailbox, flags, message).map_err(failed)?;
            }
            Event::Send(_, line) => {
                let line = format!("{}\r\n", filled(line, &values));
                send(imap, line.as_bytes(), piece).map_err(failed)?;
            }
            Event::SendRaw(_, octets) => send(imap, octets, piece).map_err(failed)?,
            Event::Skip(_) => skips = true,
            Event::Said { want, whole, .. } => loop {
                let want = filled(want, &values);
                let line = imap.line().map_err(|error| format!("{error}, for {want}\n{heard}"))?;
                writeln!(heard, "    {line}").unwrap();
                if fits(&want, &line, *whole, &mut values) {
                    skips = false;
                    break;
                }
                let ended = line.split(' ').next() == want.split(' ').next() && want.len() > 2;
                if !skips || (ended && !want.starts_with('*')) {
                    return Err(format!("wanted {want}; heard\n{heard}"));
                }
            },
            Event::Closed => {
                let rest = imap.link.rest().map_err(failed)?;
                sessions[session] = None;
                if !rest.is_empty() {
                    return Err(format!("said more at the end: {}", rest.escape_ascii()));
                }
            }
        }
    }
    for imap in sessions.iter_mut().flatten() {
        imap.link.send("last NOOP\r\n").map_err(|error| error.to_string())?;
        let line = imap.line().map_err(|error| format!("{error} at the end\n{heard}"))?;
        if !line.starts_with("last OK") {
            return Err(format!("said more: {line}; heard before\n{heard}"));
        }
    }
    Ok(())
}

fn send(imap: &mut Imap, octets: &[u8], piece: usize) -> io::Result<()> {
    octets.chunks(piece).try_for_each(|part| imap.link.send(part))
}

/// The line with the values that are known.
fn filled(line: &str, values: &Values) -> String {
    let known = |line: String, (name, value): (&String, &String)| {
        line.replace(&format!("@{{{name}}}"), value)
    };
    values.iter().fold(line.to_owned(), known)
}

/// Whether the line is the one that is wanted; learns the values that it tells.
fn fits(want: &str, line: &str, whole: bool, values: &mut Values) -> bool {
    let mut parts = want.split("@{");
    let Some(mut line) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut learnt = Vec::new();
    for part in parts {
        let (name, text) = part.split_once('}').expect("a name ends");
        let split = if text.is_empty() { Some((line, "")) } else { line.split_once(text) };
        let Some((value, rest)) = split else { return false };
        learnt.push((name.to_owned(), value.to_owned()));
        line = rest;
    }
    if whole && !line.is_empty() {
        return false;
    }
    values.extend(learnt.into_iter().filter(|(name, _)| !name.is_empty()));
    true
}
