//! The hostile inputs of the corpus, through framer and parser.

use super::append::{self, parse_end, parse_next};
use super::{What, parse};
use crate::wire::imap::frame::{Event, Framer};
use std::path::Path;

/// Inputs of the corpus whose outcome depends on more than their text, and NOTIFY, which is not
/// offered.
const OF_THE_SESSION: [&str; 8] = [
    "imap-fetch-notauth",
    "imap-idle-notauth",
    "imap-close-auth",
    "imap-expunge-auth",
    "imap-copy-auth",
    "imap-auth-badb64",
    "imap-idle-done-case",
    "imap-notify-none",
];

#[test]
fn refuses_what_the_corpus_says_and_takes_the_rest() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/protocol/nasty/imap.jsonl");
    let Ok(lines) = std::fs::read_to_string(&path) else {
        println!("skipped: no corpus at {}", path.display());
        return;
    };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let answers = answers_to(&case);
        let expect = word("expect");
        let bad = answers.iter().any(|answer| answer.starts_with("BAD"));
        let one_outcome = ![" or ", "/NO", "unless"].iter().any(|word| expect.contains(word));
        let fronts = ["BAD", "a1 BAD", "* BAD", "one BAD"];
        let must_be_bad = one_outcome && fronts.iter().any(|front| expect.starts_with(front));
        let must_be_taken = one_outcome && expect.starts_with("OK") && !expect.contains("BAD");
        let of_session = OF_THE_SESSION.contains(&word("id").as_str());
        if !of_session && (must_be_bad && !bad || must_be_taken && bad) {
            wrong.push(format!("{}: {answers:?}; expected {expect}", word("id")));
        }
        count += 1;
    }
    assert!(count > 150, "only {count} cases");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What framer and parser make of a case, an answer for each command.
fn answers_to(case: &serde_json::Value) -> Vec<String> {
    let octets = |text: &str| -> Vec<u8> {
        text.chars().map(|letter| u8::try_from(letter).unwrap()).collect()
    };
    let sent = match case["gen"].as_object() {
        Some(made) => {
            let unit = octets(made["unit"].as_str().unwrap());
            let count = usize::try_from(made["count"].as_u64().unwrap()).unwrap();
            let ends = |key: &str| octets(made[key].as_str().unwrap_or_default());
            [ends("prefix"), unit.repeat(count), ends("suffix")].concat()
        }
        None => case["send"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|part| octets(part.as_str().unwrap()))
            .collect(),
    };
    let (mut answers, mut framer, mut utf8) = (Vec::new(), Framer::new(2 << 20), false);
    let mut rest = &sent[..];
    loop {
        let (used, event) = framer.step(rest);
        rest = &rest[used..];
        let bad = |what: What| format!("BAD {what}");
        match event {
            Event::More => return answers,
            Event::Lost => {
                answers.push("BYE".into());
                return answers;
            }
            Event::Data(_) => {}
            Event::Command(text) => {
                answers.push(parse(text, false).map_or_else(|it| bad(it.what), |_| "ok".into()));
            }
            Event::MessagesEnd(text) => {
                answers.push(parse_end(text, utf8).map_or_else(bad, |()| "ok".into()));
            }
            Event::Bad { fault, .. } => answers.push(format!("BAD {fault:?}")),
            Event::Literal { .. } => framer.accept(),
            Event::Message { text, first, .. } => {
                let read = if first {
                    append::parse(text, false).map(|it| it.message).map_err(|it| it.what)
                } else {
                    parse_next(text, utf8)
                };
                match read {
                    Ok(message) => {
                        utf8 = message.utf8;
                        framer.accept();
                    }
                    Err(what) => {
                        answers.push(bad(what));
                        framer.refuse();
                    }
                }
            }
        }
    }
}
