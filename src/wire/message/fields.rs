//! The header of a message as ranges: which field lies where (RFC 5322 §2.2).
//!
//! ```text
//! header := *( field / junk ) ( CRLF / end of message )
//! field  := name *WSP ":" value CRLF *( WSP value CRLF )
//! ```
//!
//! Nothing is decoded and nothing is refused: a line that is no field (an mbox `From ` line, a
//! lost colon) is passed over, and the header ends at the first empty line all the same
//! (RFC 7103 §7). Lines end with LF here, with or without CR: what is stored as text has CRLF, and
//! a binary message must not hide a field from one reader that another one sees.

use memchr::memchr;
use std::ops::Range;

/// One field, in octets from the begin of what was searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Without spaces before the colon.
    pub name: Range<usize>,
    /// Behind the colon, folds and leading space as they are, without the last line end.
    pub value: Range<usize>,
}

/// The fields of the header at the begin of `message`, in order.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

/// The octets of the header at the begin of `message`, the empty line included.
pub fn header_len(message: &[u8]) -> usize {
    let mut at = 0;
    while let Some(line) = line_at(message, at) {
        at = line.end;
        if is_empty(&message[line]) {
            break;
        }
    }
    at
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        loop {
            let line = line_at(self.message, self.at)?;
            if is_empty(&self.message[line.clone()]) {
                return None;
            }
            let mut end = line.end;
            while matches!(self.message.get(end), Some(b' ' | b'\t')) {
                let more = line_at(self.message, end).expect("a line begins at an octet");
                end = more.end;
            }
            self.at = end;
            let start = line.start;
            if let Some(len) = name_len(&self.message[line]) {
                let colon =
                    memchr(b':', &self.message[start..end]).expect("a name is followed by a colon");
                let value = start + colon + 1..end - ending_len(&self.message[start..end]);
                return Some(Field { name: start..start + len, value });
            }
        }
    }
}

/// The line that begins at `at`, with its end; `None` at the end of the message.
fn line_at(message: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = message.get(at..).filter(|rest| !rest.is_empty())?;
    let len = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
    Some(at..at + len)
}

/// A line of a line end alone.
pub(super) fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n")
}

/// Whether a message that begins with this line has a header, if an empty one: a field, the line
/// behind it, or the line that separates mails in a file.
pub(super) fn has_header(first: &[u8]) -> bool {
    let separates = first.starts_with(b"From ") || first.starts_with(b">From ");
    is_empty(first) || separates || name_len(first).is_some()
}

fn ending_len(line: &[u8]) -> usize {
    match line {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    }
}

/// The length of the field name that `line` begins with: printable, not empty, then a colon,
/// perhaps behind spaces (RFC 5322 §4.5.3).
pub(super) fn name_len(line: &[u8]) -> Option<usize> {
    let len = line.iter().position(|octet| *octet == b':' || !octet.is_ascii_graphic())?;
    let colon = line[len..].iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
    (len > 0 && line[len + colon] == b':').then_some(len)
}

/// Laws: no panic; ranges lie within the header, in order, without overlap.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_fields(data: &[u8]) {
    let end = header_len(data);
    let mut last = 0;
    for Field { name, value } in fields(data) {
        assert!(last <= name.start && name.end < value.start && value.start <= value.end);
        assert!(value.end <= end && !name.is_empty());
        last = value.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(message: &str, want: Expect) {
        let octets = message.as_bytes();
        let mut got: Vec<String> = fields(octets)
            .map(|field| {
                let (name, value) = (&octets[field.name], &octets[field.value]);
                format!("{}={}", name.escape_ascii(), value.escape_ascii())
            })
            .collect();
        got.push(format!("| {}", octets[header_len(octets)..].escape_ascii()));
        want.assert_eq(&got.join(" "));
        fuzz_fields(octets);
    }

    #[test]
    fn finds_fields_with_their_folds() {
        check(
            "Subject: a\r\n b\r\n\tc\r\nTo:x\r\n\r\nbody: y\r\n",
            expect![[r"Subject= a\r\n b\r\n\tc To=x | body: y\r\n"]],
        );
    }

    #[test]
    fn passes_over_lines_that_are_no_fields() {
        check("From evil Mon\r\nSubject x\r\nFrom : a\r\n\r\n", expect!["From= a | "]);
        check(" folded first\r\nA: b\r\n\r\nc", expect!["A= b | c"]);
        check(": x\r\nA:\r\n", expect!["A= | "]);
    }

    #[test]
    fn finds_the_end_of_the_header_everywhere() {
        check("", expect!["| "]);
        check("\r\nbody", expect!["| body"]);
        check("A: b", expect!["A= b | "]);
        check("A: b\r\n c", expect![[r"A= b\r\n c | "]]);
        check("A: b\n\nbody", expect!["A= b | body"]);
    }

    #[test]
    fn keeps_its_laws_on_any_octets() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=40)?;
            let data: Vec<u8> =
                (0..len).map(|_| u.choose(b"ab: \t\r\n\xff").copied()).collect::<Result<_, _>>()?;
            fuzz_fields(&data);
            Ok(())
        });
    }
}
