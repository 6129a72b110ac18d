//! The POP3 machine against dialogs, hostile input and limits, with a maildrop in memory.

use super::replay::{Held, Mail, World, mail};
use super::{Sending, Session, Step};
use crate::bytes::chain::Chain;
use crate::model::limits::{POP3_ERRORS_MAX, REPLY_OCTETS_PENDING_MAX};
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

/// What a dialog file says: `@` directives, `>` lines of a mail, `C` lines sent, and everything
/// else as it is expected.
struct Dialog {
    plaintext: bool,
    mails: Vec<Mail>,
    /// What the client sends in one go.
    turns: Vec<String>,
    /// The file without what was read ahead of the talk.
    transcript: String,
}

impl Dialog {
    fn read(text: &str) -> Dialog {
        let mut dialog =
            Dialog { plaintext: true, mails: vec![], turns: vec![], transcript: String::new() };
        let mut ahead: Vec<(String, bool)> = Vec::new();
        let mut in_turn = false;
        for line in text.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("#" | "", _) => continue,
                ("@plaintext", "off") => dialog.plaintext = false,
                ("@mail", kind) => ahead.push((String::new(), kind == "utf8")),
                (">", text) => {
                    let (mail, _) = ahead.last_mut().expect("a mail has begun");
                    write!(mail, "{text}\r\n").unwrap();
                }
                ("C", text) => {
                    if !in_turn {
                        dialog.turns.push(String::new());
                    }
                    let turn = dialog.turns.last_mut().expect("a turn has begun");
                    write!(turn, "{text}\r\n").unwrap();
                    writeln!(dialog.transcript, "{line}").unwrap();
                }
                _ => writeln!(dialog.transcript, "{line}").unwrap(),
            }
            in_turn = line.starts_with("C ");
        }
        dialog.mails =
            ahead.into_iter().map(|(text, utf8)| Mail { utf8, ..mail(text.as_bytes()) }).collect();
        dialog
    }

    /// What really happens when the input comes in pieces of `cut` octets.
    fn run(&self, cut: usize) -> String {
        let mut world = World::new(self.plaintext, self.mails.clone());
        let mut transcript = String::new();
        show(&world.receive(b""), &mut transcript);
        for turn in &self.turns {
            for line in turn.lines() {
                writeln!(transcript, "C {line}").unwrap();
            }
            let mut sent = Vec::new();
            for piece in turn.as_bytes().chunks(cut) {
                sent.extend(world.receive(piece));
            }
            show(&sent, &mut transcript);
            if world.closed {
                let removed: Vec<String> =
                    world.removed.iter().map(|index| (index + 1).to_string()).collect();
                if !removed.is_empty() {
                    writeln!(transcript, "removed {}", removed.join(" ")).unwrap();
                }
                transcript.push_str("closed\n");
                assert!(!world.locked.get(), "the lock outlives the session");
                break;
            }
        }
        transcript
    }
}

fn show(sent: &[u8], transcript: &mut String) {
    let text = String::from_utf8_lossy(sent);
    for line in text.split_terminator("\r\n") {
        writeln!(transcript, "S {line}").unwrap();
    }
}

#[test]
fn holds_every_dialog_however_the_input_is_cut() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/pop3");
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("the dialogs are there") {
        let path = entry.unwrap().path();
        let dialog = Dialog::read(&std::fs::read_to_string(&path).unwrap());
        for cut in [1, 2, 3, 4, 5, 6, 7, 4_096] {
            let got = dialog.run(cut);
            assert!(
                got == dialog.transcript,
                "{} in pieces of {cut}:\nwanted\n{}\ngot\n{got}",
                path.display(),
                dialog.transcript
            );
        }
        count += 1;
    }
    assert!(count >= 8, "only {count} dialogs");
}

/// A line of the corpus, and what it must come to, in patterns of our own: `|` between allowed
/// answers, each the beginning of one line of output; `closed` at the end.
fn nasty_wants(id: &str) -> &'static str {
    match id {
        "pop3-case" | "pop3-capa-trans" => {
            "+OK|TOP|UIDL|USER|SASL SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 PLAIN LOGIN|RESP-CODES|AUTH-RESP-CODE\
            |PIPELINING|EXPIRE NEVER|UTF8 USER|IMPLEMENTATION Pombal|."
        }
        "pop3-pass-spaces" => "+OK|+OK",
        "pop3-user-quit" => "+OK|+OK bye|closed",
        // What came in clear behind STLS is not answered.
        "pop3-user-sp" | "pop3-stls-inject" => "+OK",
        "pop3-tls-hello" => "-ERR|closed",
        "pop3-lf" | "pop3-cr" => "-ERR lines end|closed",
        "pop3-utf8-bad" => "+OK UTF8|-ERR",
        "pop3-list-lead0" => "+OK 1 ",
        "pop3-list-trail" => "+OK|1 |2 |3 |.",
        "pop3-list-gone" | "pop3-dele-twice" | "pop3-top-gone" => "+OK|-ERR",
        "pop3-stat-dele" => "+OK|+OK 2 64\r",
        "pop3-dele-rset" => "+OK|+OK|+OK 19 |Subject: 1||one|.",
        "pop3-dele-quit" => "+OK|+OK bye|removed 1|closed",
        "pop3-top-0" => "+OK|Subject: 1||.",
        "pop3-uidl-all" => "+OK|1 1700000000.1|2 1700000000.2|3 1700000000.3|.",
        "pop3-barelf-msg" => "+OK 19 |Subject: 1||one|.",
        "pop3-pipe-quit" => "+OK bye|closed",
        "pop3-second-session" => "+OK|-ERR [IN-USE]",
        "pop3-nocrlf-16m" => "-ERR line too long|-ERR|closed",
        "pop3-junk-1000" | "pop3-retr-flood" => "",
        _ => "-ERR",
    }
}

/// The three messages of the corpus' maildrop; the first has lone LFs within.
fn nasty_world(id: &str, state: &str) -> World {
    let mails = vec![
        mail(b"Subject: 1\n\r\none"),
        mail(b"Subject: 2\r\n\r\n.two\r\n"),
        mail(b"Subject: 3\r\n\r\nthree lines\r\nof text\r\n.\r\nend\r\n"),
    ];
    let mut world = match id {
        "pop3-stls-inject" | "pop3-stls-trans" => World::with_tls(mails),
        _ => World::new(id != "pop3-plain-user-clear", mails),
    };
    world.receive(b"");
    if state == "trans" {
        let sent = world.receive(b"USER bob@example.org\r\nPASS secret\r\n");
        assert!(sent.ends_with(b"ready\r\n"));
    }
    world
}

#[test]
fn answers_every_nasty_line_as_the_corpus_expects() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/protocol/nasty/pop3.jsonl");
    let Ok(cases) = std::fs::read_to_string(&path) else {
        println!("skipped: no corpus at {}", path.display());
        return;
    };
    let mut count = 0;
    for case in cases.lines() {
        let case: serde_json::Value = serde_json::from_str(case).unwrap();
        let id = case["id"].as_str().unwrap();
        let octets = |text: &str| -> Vec<u8> {
            text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect()
        };
        let mut send: Vec<Vec<u8>> = Vec::new();
        for chunk in case["send"].as_array().into_iter().flatten() {
            send.push(octets(chunk.as_str().unwrap()));
        }
        if let Some(gen_) = case.get("gen") {
            let part = |name: &str| octets(gen_[name].as_str().unwrap());
            let count = usize::try_from(gen_["count"].as_u64().unwrap()).unwrap();
            let whole = [part("prefix"), part("unit").repeat(count), part("suffix")].concat();
            send.extend(whole.chunks(64 << 10).map(<[u8]>::to_vec));
        }
        if id == "pop3-second-session" {
            send = vec![b"USER held@example.org\r\nPASS p\r\n".to_vec()];
        }
        if id == "pop3-plain-user-clear" {
            check_nasty(
                id,
                "auth",
                &[b"CAPA\r\n".to_vec()],
                "+OK|TOP|UIDL|SASL SCRAM-SHA-256 SCRAM-SHA-1|RESP-CODES|AUTH-RESP\
                |PIPELINING|EXPIRE NEVER|UTF8 USER|IMPLEMENTATION Pombal|.",
            );
        }
        check_nasty(id, case["state"].as_str().unwrap(), &send, nasty_wants(id));
        count += 1;
    }
    assert!(count >= 45, "only {count} cases");
}

#[track_caller]
fn check_nasty(id: &str, state: &str, send: &[Vec<u8>], wants: &str) {
    let mut world = nasty_world(id, state);
    let mut sent = Vec::new();
    for chunk in send {
        sent.extend(world.receive(chunk));
        assert!(world.input.len() <= (64 << 10) + 255, "{id}: unread input piles up");
        if world.closed {
            break;
        }
    }
    let mut got: Vec<String> =
        String::from_utf8_lossy(&sent).split_inclusive("\r\n").map(str::to_owned).collect();
    if !world.removed.is_empty() {
        got.push(format!("removed {}", world.removed[0] + 1));
    }
    if world.closed {
        got.push("closed".into());
    }
    match id {
        "pop3-junk-1000" => {
            assert_eq!(got.len(), POP3_ERRORS_MAX as usize + 2);
            assert_eq!(got.last().unwrap(), "closed");
        }
        "pop3-retr-flood" => {
            assert_eq!(got.len(), 50_000);
        }
        _ => {
            let wants: Vec<&str> = wants.split('|').collect();
            let same = got.len() == wants.len()
                && got.iter().zip(&wants).all(|(got, want)| got.starts_with(want));
            assert!(same, "{id}: wanted {wants:?}, got {got:?}");
        }
    }
    if id == "pop3-pass-spaces" {
        // The bad answer to the login is the driver's; here the password counts.
        assert_eq!(world.logins, ["u a b  c "]);
    }
    if !world.closed && world.input.is_empty() {
        let sent = world.receive(b"CAPA\r\n");
        assert!(sent.starts_with(b"+OK"), "{id}: out of step");
    }
}

#[test]
fn produces_nothing_while_the_reader_does_not_read() {
    let big = mail(&b"0123456789\r\n.\r\n".repeat(4_000));
    let mut world = World::new(true, vec![big]);
    world.receive(b"USER u\r\nPASS p\r\n");
    let input = b"RETR 1\r\n".repeat(10_000);
    let (mut at, mut steps) = (0, 0);
    // The driver's rule: no step while more than the bound waits.
    while world.out.len() <= REPLY_OCTETS_PENDING_MAX {
        let (used, step) = world.session.step(&input[at..], &mut world.out);
        at += used;
        steps += 1;
        if let Step::Retrieve { index } = step {
            let owner = Rc::clone(&world.mails[index as usize].octets);
            let mut sending = Sending::whole(0..owner.len(), 1, &mut world.out);
            if !sending.fill(&owner, &mut world.out) {
                break;
            }
        }
    }
    assert!(steps < 10 && at < 100);
    assert!(world.out.len() < REPLY_OCTETS_PENDING_MAX + 64);
}

#[test]
fn lists_a_hundred_thousand_messages_piece_by_piece() {
    let mails = vec![mail(b"a\r\n"); 100_000];
    let mut world = World::new(true, mails);
    world.receive(b"USER u\r\nPASS p\r\nDELE 2\r\n");
    world.out = Chain::new();
    let (used, step) = world.session.step(b"UIDL\r\nSTAT\r\n", &mut world.out);
    assert_eq!((used, step), (6, Step::Continue));
    let mut lines = 0;
    loop {
        let before = world.out.len();
        let (used, step) = world.session.step(b"STAT\r\n", &mut world.out);
        assert_eq!(step, Step::Continue);
        assert!(world.out.len() - before < 17 << 10);
        lines += memchr::memchr_iter(b'\n', &world.out.to_vec()).count();
        if used > 0 {
            break;
        }
        world.out.consume(world.out.len());
    }
    assert_eq!(lines, 1 + 99_999 + 1 + 1);
    assert_eq!(world.out.to_vec(), b"+OK 99999 299997\r\n");
}

/// Neither behind a lone LF nor behind one in a line that is too long is anything run.
#[test]
fn runs_nothing_behind_a_lone_line_feed() {
    let all = |input: &[u8], piece: usize| {
        let mut world = World::new(true, vec![mail(b"A: b\r\n\r\n")]);
        world.receive(b"USER u\r\nPASS p\r\n");
        let mut said = Vec::new();
        input.chunks(piece).for_each(|part| said.extend(world.receive(part)));
        (String::from_utf8(said).unwrap(), world.closed, world.removed)
    };
    for piece in [1, 2, 3, 7, 4_096] {
        for bad in ["NOOP\nDELE 1\r\nQUIT\r\n", "NOOP\rDELE 1\r\nQUIT\r\n"] {
            let (said, closed, removed) = all(bad.as_bytes(), piece);
            assert_eq!((&*said, closed, removed), ("-ERR lines end with CR LF\r\n", true, vec![]));
        }
        let long = format!("{}\nDELE 1\r\nSTAT\r\n", "x".repeat(300));
        let (said, closed, _) = all(long.as_bytes(), piece);
        assert_eq!((&*said, closed), ("-ERR line too long\r\n+OK 1 8\r\n", false));
    }
}

#[test]
fn is_small_while_idle() {
    assert!(size_of::<Session<Held>>() <= 72, "{}", size_of::<Session<Held>>());
}

#[test]
fn never_panics_and_always_answers_the_same_however_it_is_cut() {
    const WORDS: &[&str] = &[
        "USER u",
        "PASS p",
        "PASS x",
        "AUTH PLAIN",
        "AHUAcA==",
        "*",
        "CAPA",
        "STAT",
        "LIST",
        "LIST 1",
        "UIDL 2",
        "RETR 1",
        "TOP 2 1",
        "DELE 1",
        "DELE 2",
        "RSET",
        "NOOP",
        "QUIT",
        "UTF8",
        "JUNK",
        "",
        " ",
        "RETR 9",
        "AUTH",
        "APOP a b",
    ];
    arbtest::arbtest(|u| {
        let mut input = Vec::new();
        for _ in 0..u.int_in_range(0..=30)? {
            input.extend_from_slice(u.choose(WORDS)?.as_bytes());
            if u.ratio(1, 30)? {
                input.resize(input.len() + 300, b'x');
            }
            let end: &[u8] = if u.ratio(1, 20)? { b"\n" } else { b"\r\n" };
            input.extend_from_slice(end);
        }
        let mails = vec![mail(b"A: b\r\n\r\n.x\r\ny"), mail(b"C: d\r\n\r\n")];
        let mut whole = World::new(true, mails.clone());
        let mut want = whole.receive(&input);
        let mut cut = World::new(true, mails);
        let mut got = cut.receive(b"");
        let size = u.int_in_range(1..=9)?;
        for piece in input.chunks(size) {
            got.extend(cut.receive(piece));
        }
        // Only who hung up may differ in what was still to be read.
        want.push(u8::from(whole.closed));
        got.push(u8::from(cut.closed));
        assert_eq!(got.escape_ascii().to_string(), want.escape_ascii().to_string());
        assert_eq!(cut.removed, whole.removed);
        Ok(())
    });
}
