//! Dot-stuffing (RFC 5321 §4.5.2): taken away in bulk, and put back in bulk.
//!
//! A line of one dot ends the text, and only where CRLF stands on both sides of the dot; a line
//! that begins with a dot loses it. Everything else passes as it is, bare CR and LF too: whether
//! they are allowed is [`super::text`]'s matter. No octet is copied.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// The end of a line before one that begins with a dot. Built once: it holds tables.
static DOT_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));

/// Some line of `text` begins with a dot: it has to be stuffed on its way out (RFC 1939 §3).
pub fn has_dot_line(text: &[u8]) -> bool {
    text.starts_with(b".") || DOT_LINE.find(text).is_some()
}

/// Where the octets so far have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    AfterCr,
    Within,
}

/// Undoes the stuffing of one text, over any cuts of the input.
#[derive(Clone, Copy, Debug)]
pub struct Unstuffer {
    place: Place,
}

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstuffed<'a> {
    /// Nothing can be said before more octets come.
    Partial,
    /// Octets of the text.
    Text(&'a [u8]),
    /// The end; what follows is no part of the text.
    End,
}

impl Unstuffer {
    /// At the begin of a text, which is the begin of a line.
    pub const fn new() -> Unstuffer {
        Unstuffer { place: Place::LineStart }
    }

    /// Takes the longest run of text off the front. Returns the octets of `input` used up.
    /// At most two octets are left unused for want of more.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> (usize, Unstuffed<'a>) {
        if input.is_empty() {
            return (0, Unstuffed::Partial);
        }
        let mut start = 0;
        if self.place == Place::LineStart && input[0] == b'.' {
            match input[1..] {
                [] | [b'\r'] => return (0, Unstuffed::Partial),
                [b'\r', b'\n', ..] => return (3, Unstuffed::End),
                _ => start = 1,
            }
        }
        let end = if self.place == Place::AfterCr && input.starts_with(b"\n.") {
            1
        } else if let Some(at) = DOT_LINE.find(&input[start..]) {
            start + at + 2
        } else {
            input.len()
        };
        self.place = match input[start..end] {
            [.., b'\r', b'\n'] => Place::LineStart,
            [b'\n'] if start == 0 && self.place == Place::AfterCr => Place::LineStart,
            [.., b'\r'] => Place::AfterCr,
            _ => Place::Within,
        };
        (end, Unstuffed::Text(&input[start..end]))
    }
}

impl Default for Unstuffer {
    fn default() -> Unstuffer {
        Unstuffer::new()
    }
}

/// The pieces of `text` between which a dot must be sent; `at_line_start` is true for the begin
/// of a text. The first piece needs no dot in front, each further one does; it may be empty.
pub fn stuffed(text: &[u8], at_line_start: bool) -> impl Iterator<Item = &[u8]> {
    let mut dots = DOT_LINE.find_iter(text).map(|at| at + 2);
    let mut first = at_line_start && text.first() == Some(&b'.');
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let end = if std::mem::take(&mut first) { Some(0) } else { dots.next() };
        start = end;
        Some(&text[from..end.unwrap_or(text.len())])
    })
}

/// The text of `input` fed in pieces of at most `piece` octets, and what follows its end.
#[cfg(any(test, feature = "sim"))]
fn unstuff_cut(input: &[u8], piece: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut text, mut held, mut unstuffer) = (Vec::new(), Vec::new(), Unstuffer::new());
    let mut ended = false;
    for part in input.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        while !ended {
            let (used, found) = unstuffer.step(&held);
            match found {
                Unstuffed::Partial => break,
                Unstuffed::Text(more) => text.extend_from_slice(more),
                Unstuffed::End => ended = true,
            }
            held.drain(..used);
        }
    }
    (text, ended.then_some(held))
}

/// The naive twin: line by line.
#[cfg(any(test, feature = "sim"))]
fn unstuff_plain(input: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut text, mut at, mut line_start) = (Vec::new(), 0, true);
    while at < input.len() {
        if line_start && input[at] == b'.' {
            if input[at..].starts_with(b".\r\n") {
                return (text, Some(input[at + 3..].to_vec()));
            }
            if matches!(input[at + 1..], [] | [b'\r']) {
                return (text, None);
            }
            at += 1;
        }
        line_start = input[at] == b'\n' && at > 0 && input[at - 1] == b'\r';
        text.push(input[at]);
        at += 1;
    }
    (text, None)
}

/// Laws: any cut gives what the naive reading gives; unstuffing undoes stuffing.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_data(data: &[u8]) {
    let plain = unstuff_plain(data);
    for piece in [1, 2, 3, 4, 5, 6, 7, data.len()] {
        assert_eq!(unstuff_cut(data, piece), plain, "cut into pieces of {piece}");
    }
    let mut sent = stuffed(data, true).collect::<Vec<_>>().join(&b'.');
    sent.extend_from_slice(b"\r\n.\r\nNOOP\r\n");
    let (text, rest) = unstuff_cut(&sent, 5);
    assert_eq!(text.strip_suffix(b"\r\n"), Some(data), "unstuffing undoes stuffing");
    assert_eq!(rest.as_deref(), Some(&b"NOOP\r\n"[..]), "what follows is left");
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(input: &str, want: Expect) {
        let (text, rest) = unstuff_cut(input.as_bytes(), 1_000);
        let rest = rest.map_or("no end".into(), |rest| rest.escape_ascii().to_string());
        want.assert_eq(&format!("{} | {rest}", text.escape_ascii()));
        fuzz_data(input.as_bytes());
    }

    #[test]
    fn ends_only_at_a_dot_between_two_line_ends() {
        check("a\r\n.\r\nNOOP\r\n", expect!["a\\r\\n | NOOP\\r\\n"]);
        check(".\r\n", expect![" | "]);
        check("a\n.\r\nb", expect!["a\\n.\\r\\nb | no end"]);
        check("a\r\n.\nb", expect!["a\\r\\n\\nb | no end"]);
        check("a\r.\r\nb", expect!["a\\r.\\r\\nb | no end"]);
        check("a\r\n.\r\r\nb", expect!["a\\r\\n\\r\\r\\nb | no end"]);
        check("a\r\r\n.\r\n", expect!["a\\r\\r\\n | "]);
    }

    #[test]
    fn drops_one_dot_at_the_begin_of_a_line() {
        check("..a\r\n...\r\nb.\r\n.\r\n", expect![".a\\r\\n..\\r\\nb.\\r\\n | "]);
        check(".Subject: x\r\n\r\ny\r\n.\r\n", expect!["Subject: x\\r\\n\\r\\ny\\r\\n | "]);
    }

    #[test]
    fn knows_what_has_to_be_stuffed() {
        for (text, want) in [("", false), (".", true), ("\r\na\r\n.b", true), ("\r\na.\r\n", false)]
        {
            assert_eq!(has_dot_line(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn agrees_with_the_naive_reading_over_all_cuts() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=40)?;
            let data: Vec<u8> =
                (0..len).map(|_| u.choose(b"a..\r\r\n\n").copied()).collect::<Result<_, _>>()?;
            fuzz_data(&data);
            Ok(())
        });
    }
}
