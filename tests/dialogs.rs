//! Dialogs are data: each file under `tests/dialogs` is a session, replayed on the bare machine
//! with its input whole and cut into pieces of 1 to 7 octets; the transcript must not change.
//!
//! ```text
//! # a remark
//! @lmtp                     settings, before the first line: @lmtp @submission @starttls @vrfy @expn @dsn
//! @odd_hello                … @extensions for all of them, whether any listener offers them or not
//! @hold_max 100             @by_min 10         @priority_policy MIXER
//! @auth                     AUTH in clear too; @auth_tls: AUTH, but no passwords in clear
//! @max_message_size 100     @recipients_max 3   @errors_max 2   @hops_max 2   @junk_max 3
//! @command_line_max 20      @text_line_max 10
//! C EHLO a                  the client sends this line and CRLF
//! R a\nb\x00                the client sends these octets, escapes read, without CRLF
//! S 250 2.0.0 Ok            the server says this line
//! S* 250                    … a line that begins with this
//! M <a@b.example> -> <c@local.example>: Subject: x\r\n       a message is stored
//! @time_out                 the driver's deadline passes
//! closed                    the server hung up
//! ```
//!
//! `C` and `R` lines that follow each other are one pipelined group. A wrong answer that is known
//! stays in its file under a `# wrong:` remark.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panic")]

use pombal::proto::sasl::Policy;
use pombal::proto::smtp::replay::{Message, Replay};
use pombal::proto::smtp::{Extensions, Service, Settings};
use std::path::{Path, PathBuf};

/// One thing that happens, as a dialog writes it.
#[derive(Debug)]
enum Event {
    Send(Vec<u8>),
    TimeOut,
    Said(String),
    SaidFront(String),
    Stored(String),
    Closed,
}

#[test]
fn smtp_dialogs_hold_however_their_input_is_cut() {
    let files = dialogs("smtp");
    assert!(files.len() >= 10, "the dialogs are where they should be");
    for file in files {
        let (settings, events) = read(&file);
        for piece in [usize::MAX, 1, 2, 3, 4, 5, 6, 7] {
            play(&file, &settings, &events, piece);
        }
    }
}

fn dialogs(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "dialog"));
    files.sort();
    files
}

fn read(file: &Path) -> (Settings, Vec<Event>) {
    let mut settings = Settings {
        hostname: "mx.local.example".into(),
        max_message_size: 1_000,
        ..Settings::default()
    };
    let mut events = Vec::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse().unwrap_or_else(|_| panic!("{}: {line}", file.display()));
        match kind {
            "" | "#" => {}
            "@lmtp" => settings.service = Service::Lmtp,
            "@submission" => settings.service = Service::Submission,
            "@starttls" => settings.starttls = true,
            "@vrfy" => settings.vrfy = true,
            "@expn" => settings.expn = true,
            "@dsn" => settings.dialect.extensions = with(&settings, Extensions::DSN),
            "@extensions" => {
                settings.dialect.extensions = Extensions::ALL;
                settings.bounds.hold_max = 999_999_999;
            }
            "@hold_max" => settings.bounds.hold_max = u32::try_from(number()).unwrap(),
            "@by_min" => settings.bounds.by_min = u32::try_from(number()).unwrap(),
            "@priority_policy" => settings.bounds.priority_policy = rest.into(),
            "@auth" | "@auth_tls" => {
                settings.dialect.extensions = with(&settings, Extensions::AUTH);
                settings.auth = Policy { plaintext: kind == "@auth", ..Policy::default() };
            }
            "@logins_max" => settings.logins_failed_max = u8::try_from(number()).unwrap(),
            "@odd_hello" => settings.dialect.odd_hello = true,
            "@max_message_size" => settings.max_message_size = number(),
            "@recipients_max" => settings.recipients_max = u32::try_from(number()).unwrap(),
            "@errors_max" => settings.errors_max = u32::try_from(number()).unwrap(),
            "@command_line_max" => settings.command_line_max = usize::try_from(number()).unwrap(),
            "@text_line_max" => settings.text_line_max = u32::try_from(number()).unwrap(),
            "@junk_max" => settings.junk_commands_max = u32::try_from(number()).unwrap(),
            "@hops_max" => settings.hops_max = u32::try_from(number()).unwrap(),
            "@time_out" => events.push(Event::TimeOut),
            "C" => events.push(Event::Send([rest.as_bytes(), b"\r\n"].concat())),
            "R" => events.push(Event::Send(unescape(rest))),
            "S" => events.push(Event::Said(rest.into())),
            "S*" => events.push(Event::SaidFront(rest.into())),
            "M" => events.push(Event::Stored(rest.into())),
            "closed" => events.push(Event::Closed),
            _ => panic!("{}: {line}", file.display()),
        }
    }
    (settings, events)
}

/// One extension more.
fn with(settings: &Settings, extension: Extensions) -> Extensions {
    settings.dialect.extensions.with(extension)
}

/// `\r`, `\n`, `\\` and `\xHH` are octets.
fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest.next() {
            Some(b'r') => octets.push(b'\r'),
            Some(b'n') => octets.push(b'\n'),
            Some(b'\\') => octets.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                octets.push(u8::from_str_radix(digits, 16).unwrap());
            }
            other => panic!("no such escape: {other:?}"),
        }
    }
    octets
}

fn show(message: &Message) -> String {
    let recipients = message.recipients.join(",");
    format!("{} -> {recipients}: {}", message.sender, message.octets.escape_ascii())
}

fn play(file: &Path, settings: &Settings, events: &[Event], piece: usize) {
    let mut replay = Replay::new(settings.clone());
    let mut said = lines(&replay.take_said());
    let mut stored = 0;
    let place = |what: &str| format!("{} cut into {piece}: {what}", file.display());
    for event in events {
        match event {
            Event::Send(octets) => {
                octets.chunks(piece).for_each(|part| replay.send(part));
                said.extend(lines(&replay.take_said()));
            }
            Event::TimeOut => {
                replay.time_out();
                said.extend(lines(&replay.take_said()));
            }
            Event::Said(want) => {
                let got = next(&mut said);
                assert_eq!(&got, want, "{}; then {said:?}", place("another reply"));
            }
            Event::SaidFront(want) => {
                let got = next(&mut said);
                assert!(got.starts_with(want), "{}: {got} for {want}", place("another reply"));
            }
            Event::Stored(want) => {
                let message = replay.stored().get(stored);
                let got = message.map_or("nothing".into(), show);
                assert_eq!(&got, want, "{}", place("another message"));
                stored += 1;
            }
            Event::Closed => assert!(replay.is_closed(), "{}", place("still open")),
        }
    }
    assert!(said.is_empty(), "{}: {said:?}", place("more was said"));
    assert_eq!(replay.stored().len(), stored, "{}", place("more was stored"));
    let closes = matches!(events.last(), Some(Event::Closed));
    assert_eq!(replay.is_closed(), closes, "{}", place("hung up"));
}

fn next(said: &mut Vec<String>) -> String {
    if said.is_empty() { "(silence)".into() } else { said.remove(0) }
}

fn lines(said: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(said).expect("replies are ASCII");
    let lines: Vec<String> = text.split_terminator("\r\n").map(String::from).collect();
    let bare = lines.iter().find(|line| !has_enhanced_code(line) && !needs_none(line));
    assert_eq!(bare, None, "a reply without its enhanced code");
    lines
}

/// RFC 2034 §4: its class is that of the reply.
fn has_enhanced_code(line: &str) -> bool {
    let Some((code, text)) = line.split_at_checked(4) else { return false };
    let enhanced = text.split(' ').next().unwrap_or_default();
    let numbers: Vec<&str> = enhanced.split('.').collect();
    let is_number = |word: &&str| (1..=3).contains(&word.len()) && word.parse::<u16>().is_ok();
    numbers.len() == 3 && numbers.iter().all(is_number) && code.starts_with(numbers[0])
}

/// The greeting, the lines of EHLO, and what asks for more (RFC 2034 §4).
fn needs_none(line: &str) -> bool {
    const WORDS: [&str; 18] = [
        "mx.local.example",
        "PIPELINING",
        "SIZE",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "ENHANCEDSTATUSCODES",
        "LIMITS",
        "DSN",
        "EXPN",
        "HELP",
        "AUTH",
        "STARTTLS",
        "FUTURERELEASE",
        "DELIVERBY",
        "MT-PRIORITY",
        "REQUIRETLS",
    ];
    let (code, text) = line.split_at_checked(4).unwrap_or((line, ""));
    let word = text.split(' ').next().unwrap_or_default();
    match code {
        "220 " | "250-" | "250 " => WORDS.contains(&word),
        "354 " | "334 " => true,
        _ => false,
    }
}
