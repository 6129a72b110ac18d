//! Lines, paths and messages as they come off the wire.

use pombal::bytes::codec::to_u64;
use pombal::wire::address::{ReversePath, take_reverse_path};
use pombal::wire::dot::{Unstuffed, Unstuffer};
use pombal::wire::line::take_line;
use pombal::wire::message::mime::{Part, Tree};
use pombal::wire::message::search::{MessageSearch, Needle};
use std::hint::black_box;

/// Commands of 1000 transactions, pipelined.
pub(crate) fn commands() -> Vec<u8> {
    let one: &[u8] = b"MAIL FROM:<someone@sender.example> SIZE=10240 BODY=8BITMIME\r\n\
        RCPT TO:<someone.else@recipient.example>\r\nDATA\r\n";
    one.repeat(1_000)
}

/// Takes all lines off the front; returns how many.
pub(crate) fn take_lines(input: &[u8]) -> u64 {
    let (mut rest, mut count) = (black_box(input), 0);
    while let Some((_, behind)) = take_line(rest, 2_048).expect("the lines are sound") {
        rest = behind;
        count += 1;
    }
    count
}

pub(crate) const PATHS: [&[u8]; 6] = [
    b"<someone@sender.example> SIZE=10240",
    b"<>",
    b"<bounce+3f2a.9c=user=other.example@lists.sender.example>",
    b"<\"odd local part\"@sender.example>",
    b"<a@[192.0.2.17]>",
    "<j\u{f6}rg@b\u{fc}cher.example> SMTPUTF8".as_bytes(),
];

/// Parses each of the paths; returns how many are not null.
pub(crate) fn parse_paths() -> u64 {
    let named = PATHS.iter().filter(|text| {
        let (path, _) = take_reverse_path(black_box(text)).expect("the paths are sound");
        !matches!(path, ReversePath::Null)
    });
    to_u64(named.count())
}

/// Octets of a text behind DATA, its dots undone.
pub(crate) fn unstuff(input: &[u8]) -> u64 {
    let (mut unstuffer, mut at, mut octets) = (Unstuffer::new(), 0, 0);
    loop {
        let (used, found) = unstuffer.step(black_box(&input[at..]));
        at += used;
        match found {
            Unstuffed::Text(text) => octets += to_u64(text.len()),
            Unstuffed::End => return octets,
            Unstuffed::Partial => unreachable!("the input has an end"),
        }
    }
}

/// A message and its parts.
pub(crate) type Parsed = (Vec<u8>, Vec<Part>);

/// Messages as a search finds them: the table of parts was made before.
pub(crate) fn parsed(count: usize, octets: usize) -> Vec<Parsed> {
    let message = super::mail::message(octets);
    let parts = Tree::of(&message).parts;
    vec![(message, parts); count]
}

/// `SEARCH BODY`: how many of the messages have the word.
pub(crate) fn search(messages: &[Parsed], word: &str) -> u64 {
    let needle = Needle::new(word);
    let mut search = MessageSearch::new(&needle);
    let found = messages.iter().filter(|(octets, parts)| search.in_body(black_box(octets), parts));
    to_u64(found.count())
}
