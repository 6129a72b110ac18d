//! What clients say in the examples of the RFCs.

use super::{append, parse, split_tag};
use crate::wire::imap::frame::Literal;
use std::path::Path;

const RFCS: [u32; 30] = [
    3501, 9051, 2177, 2342, 2971, 3502, 3516, 3691, 4315, 4731, 4959, 5032, 5161, 5182, 5256, 5258,
    5819, 6154, 6851, 6855, 7162, 7888, 8437, 8438, 8474, 8508, 8514, 8970, 9208, 9394,
];

const NAMES: [&str; 40] = [
    "CAPABILITY",
    "NOOP",
    "LOGOUT",
    "STARTTLS",
    "AUTHENTICATE",
    "LOGIN",
    "ENABLE",
    "SELECT",
    "EXAMINE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "LIST",
    "LSUB",
    "NAMESPACE",
    "STATUS",
    "APPEND",
    "IDLE",
    "CHECK",
    "CLOSE",
    "UNSELECT",
    "EXPUNGE",
    "SEARCH",
    "FETCH",
    "STORE",
    "COPY",
    "MOVE",
    "UID",
    "ID",
    "SORT",
    "THREAD",
    "REPLACE",
    "COMPRESS",
    "GETQUOTA",
    "GETQUOTAROOT",
    "SETQUOTA",
    "UNAUTHENTICATE",
    "UIDBATCHES",
];

/// Examples that are no commands by the grammar, or of what is not offered, with their reasons.
const WRONG: &[(&str, &str)] = &[
    ("(note that there is a space", "words about the example stand in it"),
    ("RECURSIVEMATCH)\"\" %", "RFC 5819 §2 lacks a space there"),
    ("9990:9999 15000", "RFC 7162 §3.2.5.2 breaks a line within a set"),
    ("CATENATE (TEXT {71}", "RFC 4469 is not offered"),
];

/// The commands in a text: lines of `C:`, with those that go on below it.
fn examples(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut indent = None;
    for line in text.lines() {
        let inner = line.trim_start();
        let depth = line.len() - inner.len();
        if let Some(said) = inner.strip_prefix("C: ") {
            found.push(said.trim_end().to_owned());
            indent = Some(depth);
        } else if indent.is_some_and(|indent| depth > indent + 2)
            && !inner.starts_with("S:")
            && !inner.is_empty()
        {
            let last = found.last_mut().expect("a line goes on");
            last.push(' ');
            last.push_str(inner.trim_end());
        } else {
            indent = None;
        }
    }
    found
}

#[test]
fn reads_the_examples_of_the_rfcs() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for rfc in RFCS {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/rfc/rfc{rfc}.txt"));
        let Ok(text) = std::fs::read(&path) else {
            println!("skipped: no RFC at {}", path.display());
            continue;
        };
        for example in examples(&String::from_utf8_lossy(&text)) {
            let Some((_, rest)) = split_tag(example.as_bytes()) else { continue };
            let name = rest.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
            if !NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
                continue;
            }
            count += 1;
            let whole = format!("{example}\r\n");
            let read = if append::awaits_message(whole.as_bytes()) {
                append::parse(whole.as_bytes(), true).map(drop)
            } else if Literal::at_end(example.as_bytes()).is_some() {
                continue;
            } else {
                parse(example.as_bytes(), true).map(drop)
            };
            let known = WRONG.iter().any(|(part, _)| example.contains(part));
            if read.is_err() != known {
                wrong.push(format!("{rfc} {example}: {read:?}"));
            }
        }
    }
    println!("{count} examples");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
