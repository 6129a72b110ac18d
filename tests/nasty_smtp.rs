//! Every hostile SMTP input of the corpus goes through the bare machine and gets an answer that
//! its `expect` allows; afterwards the session is in step, or closed.
//!
//! The words of `expect` are read for reply codes: every code that comes must be named there.
//! Where words alone say it, the case has a line in [`EXACT`]. AUTH and STARTTLS are not offered
//! yet: those cases must get 502. The file is not part of this repository; without it the test
//! says so and passes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panic")]

use pombal::proto::smtp::Settings;
use pombal::proto::smtp::replay::Replay;
use serde_json::Value;

/// Cases whose codes stand in their `expect` in words only, or not all of them.
const EXACT: [(&str, &[u16]); 14] = [
    ("smtp-early-talk", &[250]),
    ("smtp-mail-leaddot", &[250]),
    ("smtp-line-2049", &[500, 250]),
    ("smtp-tls-hello", &[421]),
    ("smtp-http-get", &[421]),
    ("smtp-http-post", &[421]),
    ("smtp-data-norcpt-pipe", &[550, 554, 500, 500, 221]),
    ("smtp-binarymime-data", &[250, 250, 503]),
    ("smtp-lmtp-norcpt", &[250, 503]),
    ("smtp-mail-ehlo-reset", &[250, 250, 503]),
    ("smtp-pipeline-full", &[250, 250, 550, 354]),
    ("smtp-bdat-rset", &[250, 250, 503]),
    ("smtp-bdat-norcpt", &[503, 250]),
    ("smtp-bdat-after-last", &[250, 503]),
];

#[test]
fn answers_every_nasty_input_as_expected() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/protocol/nasty/smtp.jsonl");
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: no corpus beside the repository");
        return;
    };
    let (mut ran, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["state"] == "tls" {
            continue;
        }
        ran += 1;
        if let Err(why) = play(&case) {
            wrong.push(format!("{}: {why}; expected {}", case["id"], case["expect"]));
        }
    }
    println!("{ran} cases");
    assert!(ran > 100 && wrong.is_empty(), "{} of {ran}:\n{}", wrong.len(), wrong.join("\n"));
}

fn play(case: &Value) -> Result<(), String> {
    let (id, state) = (case["id"].as_str().unwrap(), case["state"].as_str().unwrap());
    let lmtp = state.starts_with("lmtp");
    let hostname = "mx.local.example".into();
    let mut replay = Replay::new(Settings { hostname, lmtp, ..Settings::default() });
    for line in opening(state) {
        replay.send(format!("{line}\r\n").as_bytes());
    }
    replay.take_said();
    for part in sends(case) {
        // As a socket would: in blocks.
        part.chunks(65_536).for_each(|block| replay.send(block));
        if replay.held_len() > 65_536 {
            return Err("holds more than one block".into());
        }
    }
    let mut got = codes(&replay.take_said());
    if state == "data" && got.is_empty() && id != "smtp-close-middata" {
        replay.send(b"\r\n.\r\n");
        got = codes(&replay.take_said());
    }
    check_codes(id, case["expect"].as_str().unwrap(), &got)?;
    check_stored(id, &replay)?;
    check_in_step(id, &got, &mut replay)
}

fn opening(state: &str) -> Vec<&'static str> {
    let all = ["EHLO client.example", "MAIL FROM:<>", "RCPT TO:<a@local.example>", "DATA"];
    let count = match state {
        "connect" | "greeting" | "lmtp-greeting" => 0,
        "helo" => 1,
        "lmtp-helo" => return vec!["LHLO client.example"],
        "mail" => 2,
        "rcpt" => 3,
        "data" => 4,
        other => panic!("no such state: {other}"),
    };
    all[..count].to_vec()
}

fn sends(case: &Value) -> Vec<Vec<u8>> {
    let octets = |text: &Value| -> Vec<u8> {
        text.as_str().unwrap().chars().map(|letter| u8::try_from(letter).unwrap()).collect()
    };
    if let Some(parts) = case["send"].as_array() {
        return parts.iter().map(octets).collect();
    }
    let generator = &case["gen"];
    let count = usize::try_from(generator["count"].as_u64().unwrap()).unwrap();
    let body = octets(&generator["unit"]).repeat(count);
    vec![[octets(&generator["prefix"]), body, octets(&generator["suffix"])].concat()]
}

/// The codes of the replies, one per reply.
fn codes(said: &[u8]) -> Vec<u16> {
    let said = std::str::from_utf8(said).expect("replies are ASCII");
    let last = said.lines().filter(|line| line.as_bytes()[3] == b' ');
    last.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn check_codes(id: &str, expect: &str, got: &[u16]) -> Result<(), String> {
    if id.starts_with("smtp-auth") || id.contains("starttls") {
        let sound = got.iter().all(|code| matches!(code, 250 | 500 | 502));
        return if sound && !got.is_empty() { Ok(()) } else { Err(format!("{got:?}")) };
    }
    if let Some((_, want)) = EXACT.iter().find(|(case, _)| *case == id) {
        return if got == *want { Ok(()) } else { Err(format!("{got:?}, not {want:?}")) };
    }
    let words: Vec<&str> =
        expect.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.').collect();
    let mut named: Vec<u16> = words
        .iter()
        .filter_map(|word| word.trim_end_matches('.').parse().ok())
        .filter(|code| (200..600).contains(code))
        .collect();
    if words.contains(&"5xx") || named.is_empty() {
        named.extend([250, 500, 501, 550, 552, 553, 554]);
    }
    match got.iter().find(|code| !named.contains(code)) {
        Some(code) => Err(format!("{code} in {got:?}")),
        None => Ok(()),
    }
}

fn check_stored(id: &str, replay: &Replay) -> Result<(), String> {
    let stored = replay.stored();
    let begins = |front: &[u8]| stored.first().is_some_and(|one| one.octets.starts_with(front));
    let sound = match id {
        _ if id.starts_with("smtp-smuggle") => {
            stored.len() <= 1
                && stored.iter().all(|one| one.octets.windows(4).any(|w| w == b"evil"))
        }
        "smtp-close-middata"
        | "smtp-bdat-short-close"
        | "smtp-data-norcpt-pipe"
        | "smtp-received-101"
        | "smtp-no-newline-64m"
        | "smtp-bdat-rset" => stored.is_empty(),
        "smtp-eod-segmented" | "smtp-received-99" | "smtp-boundary-flood" => stored.len() == 1,
        "smtp-dots-2" => begins(b"Subject: x\r\n"),
        "smtp-dot-long" => begins(b"\r\n.a") && stored[0].octets.len() == 2 + 998 + 2,
        "smtp-bdat-two" => begins(b"abcde"),
        "smtp-bdat-dot" => begins(b"a\r\n.\r\nb"),
        "smtp-bdat-segments" => begins(b"abcd"),
        "smtp-bdat-1byte-10000" => begins(&b"x".repeat(10_000)),
        _ => stored.len() <= 1,
    };
    if sound { Ok(()) } else { Err(format!("stored {stored:?}")) }
}

/// A NOOP after the case gets its own reply, unless the case closed the session or left it in the
/// middle of something.
fn check_in_step(id: &str, got: &[u16], replay: &mut Replay) -> Result<(), String> {
    if matches!(id, "smtp-close-middata" | "smtp-bdat-short-close") {
        return Ok(());
    }
    if matches!(got.last(), Some(221 | 421)) {
        return if replay.is_closed() { Ok(()) } else { Err("still open".into()) };
    }
    if got.last() == Some(&354) {
        replay.send(b".\r\n");
    } else if got.is_empty() {
        // A line without end: it ends now, and is one bad line.
        replay.send(b"\r\n");
    }
    replay.take_said();
    replay.send(b"NOOP\r\n");
    let after = codes(&replay.take_said());
    if after == [250] { Ok(()) } else { Err(format!("NOOP got {after:?}")) }
}
