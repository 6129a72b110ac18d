//! What is worth knowing about a message before it is put away, found in one pass.
//!
//! Listings and POP3 are answered from this and need not read the message: where the header
//! ends, where the fields lie that an ENVELOPE shows (RFC 9051 §7.5.2), how many lines the body
//! has, whether any line must be dot-stuffed on its way out.

use super::fields::{is_empty, name_len};
use super::head::FieldKind;
use crate::bytes::codec::{to_u32, to_u64};
use crate::model::limits::{MESSAGE_OCTETS_SUMMARY_MAX, SUMMARY_FIELDS_MAX};
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};
use std::sync::LazyLock;

static DOT_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));

/// Where one field lies: from its name to behind its last line end, in octets of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldAt {
    pub kind: FieldKind,
    pub start: u32,
    pub end: u32,
}

/// See the header of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Octets of the whole message.
    pub octets: u64,
    /// Octets of the header, the empty line included. A message without one is all header.
    pub header_len: u32,
    /// Lines behind the header; a last one without line end counts.
    pub body_lines: u32,
    /// Some line begins with a dot: it has to be stuffed (RFC 1939 §3).
    pub has_leading_dot: bool,
    /// The header has octets outside ASCII (RFC 6532).
    pub has_8bit_header: bool,
    /// The first [`SUMMARY_FIELDS_MAX`] fields of the kinds above, in order.
    pub fields: Vec<FieldAt>,
}

impl Summary {
    /// Looks at a message given as parts that follow each other, cut anywhere.
    /// The message must be shorter than [`MESSAGE_OCTETS_SUMMARY_MAX`].
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Summary {
        let mut scan = Scan::default();
        for part in parts {
            scan.feed(part);
        }
        scan.end()
    }
}

/// The pass under way.
#[derive(Default)]
struct Scan {
    summary: Summary,
    /// The begin of a header line that a cut went through.
    carried: Vec<u8>,
    in_body: bool,
    /// The field that a continuation line would belong to is one we point at.
    in_field: bool,
    /// The last two octets.
    tail: [u8; 2],
}

impl Scan {
    fn feed(&mut self, part: &[u8]) {
        let Some((&first, _)) = part.split_first() else { return };
        let at_start = self.summary.octets == 0 || self.tail == *b"\r\n";
        let over_cut = self.tail[1] == b'\r' && part.starts_with(b"\n.");
        self.summary.has_leading_dot |=
            at_start && first == b'.' || over_cut || DOT_LINE.find(part).is_some();
        self.tail = match *part {
            [.., before, last] => [before, last],
            _ => [self.tail[1], first],
        };
        self.summary.octets += to_u64(part.len());
        assert!(
            self.summary.octets < MESSAGE_OCTETS_SUMMARY_MAX,
            "offsets of a summary have 32 bits"
        );
        let mut rest = part;
        while !self.in_body && !rest.is_empty() {
            let Some(lf) = memchr(b'\n', rest) else {
                self.carried.extend_from_slice(rest);
                return;
            };
            let (line, more) = rest.split_at(lf + 1);
            rest = more;
            if self.carried.is_empty() {
                self.header_line(line);
            } else {
                let mut whole = std::mem::take(&mut self.carried);
                whole.extend_from_slice(line);
                self.header_line(&whole);
            }
        }
        self.summary.body_lines += to_u32(memchr_iter(b'\n', rest).count());
    }

    /// One line of the header with its end.
    fn header_line(&mut self, line: &[u8]) {
        let start = self.summary.header_len;
        let end = start + to_u32(line.len());
        self.summary.header_len = end;
        self.summary.has_8bit_header |= !line.is_ascii();
        if is_empty(line) {
            self.in_body = true;
        } else if matches!(line[0], b' ' | b'\t') {
            if self.in_field
                && let Some(field) = self.summary.fields.last_mut()
            {
                field.end = end;
            }
        } else {
            let kind = name_len(line).and_then(|len| FieldKind::of(&line[..len]));
            let room = self.summary.fields.len() < SUMMARY_FIELDS_MAX;
            self.in_field = kind.is_some() && room;
            if let Some(kind) = kind.filter(|_| room) {
                self.summary.fields.push(FieldAt { kind, start, end });
            }
        }
    }

    fn end(mut self) -> Summary {
        if !self.carried.is_empty() {
            let line = std::mem::take(&mut self.carried);
            self.header_line(&line);
        }
        let body_len = self.summary.octets - u64::from(self.summary.header_len);
        if self.in_body && body_len > 0 && self.tail[1] != b'\n' {
            self.summary.body_lines += 1;
        }
        self.summary
    }
}

/// Law: the parts may be cut anywhere.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_summary(data: &[u8]) {
    let whole = Summary::of([data]);
    for piece in 1..=7 {
        assert_eq!(Summary::of(data.chunks(piece)), whole, "cut into pieces of {piece}");
    }
    assert_eq!(whole.header_len, to_u32(super::fields::header_len(data)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(message: &str, want: Expect) {
        let found = Summary::of([message.as_bytes()]);
        let fields: Vec<String> = found
            .fields
            .iter()
            .map(|field| format!("{:?} {}..{}", field.kind, field.start, field.end))
            .collect();
        want.assert_eq(&format!(
            "header {} lines {} dot {} 8bit {} [{}]",
            found.header_len,
            found.body_lines,
            found.has_leading_dot,
            found.has_8bit_header,
            fields.join(", ")
        ));
        fuzz_summary(message.as_bytes());
    }

    #[test]
    fn points_at_the_fields_of_an_envelope() {
        check(
            "Received: x\r\n y\r\nsubject: a\r\n b\r\nTo : c\r\n\r\nl1\r\nl2\r\n",
            expect!["header 43 lines 2 dot false 8bit false [Subject 17..33, To 33..41]"],
        );
    }

    #[test]
    fn counts_lines_and_finds_dots() {
        check("", expect!["header 0 lines 0 dot false 8bit false []"]);
        check(".", expect!["header 1 lines 0 dot true 8bit false []"]);
        check("\r\na\r\n.b", expect!["header 2 lines 2 dot true 8bit false []"]);
        check("\r\na.\r\n", expect!["header 2 lines 1 dot false 8bit false []"]);
        check("A: é\r\n\r\né", expect!["header 9 lines 1 dot false 8bit true []"]);
    }

    #[test]
    fn keeps_a_bounded_number_of_fields() {
        let found = Summary::of([&b"To: a\r\n b\r\n".repeat(SUMMARY_FIELDS_MAX + 5)[..]]);
        assert_eq!(found.fields.len(), SUMMARY_FIELDS_MAX);
        assert_eq!(found.fields.last().unwrap().end, to_u32(SUMMARY_FIELDS_MAX * 11));
    }

    #[test]
    fn is_the_same_over_all_cuts() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=20)?;
            let words = ["To", "Date", ":", " ", "\r\n", "\r\n", "x", ".", "\n", "é"];
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            fuzz_summary(text.as_bytes());
            Ok(())
        });
    }

    #[test]
    fn reads_the_messages_of_the_corpus_the_same_over_all_cuts() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/messages");
        let Ok(folders) = std::fs::read_dir(root) else {
            println!("skipped: no corpus beside the repository");
            return;
        };
        for folder in folders {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let mut octets = std::fs::read(file.unwrap().path()).unwrap();
                octets.truncate(4 << 10);
                fuzz_summary(&octets);
                super::super::fields::fuzz_fields(&octets);
                crate::wire::dot::fuzz_data(&octets);
            }
        }
    }
}
