//! A message copied as it streams in behind our trace fields, without the Return-Path fields that it
//! brings; and without its Bcc fields, where a user submits it.
//!
//! Final delivery puts a Return-Path of its own on top and lets no other stand (RFC 5321 §4.4), and
//! who gets a blind copy is nobody's business but the sender's (RFC 5322 §3.6.3). The fields are left
//! out while the octets are copied, so that the body is never moved for it; behind the header nothing
//! is looked at any more.
//!
//! A message whose first line is no field (nor the `From ` line of a file of mails) has no header
//! (RFC 5322 §2.2): an empty line is put in front of it, so that it neither goes on with our last
//! field, when it begins with a space, nor has lines of its text taken for fields. Further down a line
//! that is no field ends nothing: whoever reads the header passes over it ([`super::fields`]).

use super::fields::{has_header, is_empty, name_len};
use memchr::memchr;

const RETURN_PATH: &[u8] = b"Return-Path";
/// In the first place is what is left out of every message.
const NAMES: [&[u8]; 3] = [RETURN_PATH, b"Bcc", b"Resent-Bcc"];

/// Where the next octets stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the begin of the message.
    Top,
    /// At the begin of a header line.
    Begin,
    /// In a header line whose front lies in the copy from here on, until it is known whole.
    Line {
        start: usize,
        is_first: bool,
    },
    Body,
}

/// What becomes of a header line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    LeaveOut,
    /// It is the first, and no header line: an empty line goes in front.
    NoHeader,
}

/// The copying of one message, over any cuts.
#[derive(Clone, Copy, Debug)]
pub struct Strip {
    place: Place,
    /// So many of the names are left out.
    names: usize,
    /// The field under way is left out, and so are its folds.
    leaves_out: bool,
}

/// What is put in front of a message without a header.
const GAP: &[u8] = b"\r\n";

impl Strip {
    /// Octets by which a copy can be longer than the message.
    pub const GROWTH: usize = GAP.len();

    /// Octets by which what follows can still make the copy longer than the message.
    pub const fn growth(&self) -> usize {
        match self.place {
            Place::Top | Place::Line { is_first: true, .. } => Self::GROWTH,
            Place::Line { .. } | Place::Begin | Place::Body => 0,
        }
    }

    pub const fn new() -> Strip {
        Strip { place: Place::Top, names: 1, leaves_out: false }
    }

    /// For a message that a user submits: no blind copy is told to those who get it.
    pub const fn submitted() -> Strip {
        Strip { names: NAMES.len(), ..Strip::new() }
    }

    /// Copies the next octets of the message to the end of `copy`, which nobody else changes.
    pub fn copy(&mut self, octets: &[u8], copy: &mut Vec<u8>) {
        let mut at = 0;
        if let Place::Line { start, is_first } = self.place {
            let end = memchr(b'\n', octets).map(|lf| lf + 1);
            let (front, _) = octets.split_at(end.unwrap_or(octets.len()));
            copy.extend_from_slice(front);
            let Some(end) = end else { return };
            at = end;
            self.end_line(start, is_first, copy);
        }
        let mut kept = at;
        while matches!(self.place, Place::Top | Place::Begin) && at < octets.len() {
            let is_first = self.place == Place::Top;
            let Some(lf) = memchr(b'\n', &octets[at..]) else {
                copy.extend_from_slice(&octets[kept..at]);
                self.place = Place::Line { start: copy.len(), is_first };
                kept = at;
                break;
            };
            let end = at + lf + 1;
            match self.judge(&octets[at..end], is_first) {
                Verdict::Keep => {}
                Verdict::LeaveOut => {
                    copy.extend_from_slice(&octets[kept..at]);
                    kept = end;
                }
                Verdict::NoHeader => copy.extend_from_slice(GAP),
            }
            at = end;
        }
        copy.extend_from_slice(&octets[kept..]);
    }

    /// Nothing follows: decides on a header line without an end.
    pub fn end(&mut self, copy: &mut Vec<u8>) {
        if let Place::Line { start, is_first } = self.place {
            self.end_line(start, is_first, copy);
        }
    }

    /// The line that lies in the copy from `start` on is whole.
    fn end_line(&mut self, start: usize, is_first: bool, copy: &mut Vec<u8>) {
        match self.judge(&copy[start..], is_first) {
            Verdict::Keep => {}
            Verdict::LeaveOut => copy.truncate(start),
            Verdict::NoHeader => drop(copy.splice(start..start, GAP.iter().copied())),
        }
    }

    /// What becomes of the header line that was begun last.
    fn judge(&mut self, line: &[u8], is_first: bool) -> Verdict {
        if is_first && !has_header(line) {
            self.place = Place::Body;
            return Verdict::NoHeader;
        }
        self.place = Place::Begin;
        match line.first() {
            Some(b' ' | b'\t') => {}
            Some(b'R' | b'r' | b'B' | b'b') => {
                let is_one = |len: usize| {
                    let mut names = NAMES.iter().take(self.names);
                    names.any(|name| line[..len].eq_ignore_ascii_case(name))
                };
                self.leaves_out = name_len(line).is_some_and(is_one);
            }
            _ => {
                self.leaves_out = false;
                if is_empty(line) {
                    self.place = Place::Body;
                }
            }
        }
        if self.leaves_out { Verdict::LeaveOut } else { Verdict::Keep }
    }
}

impl Default for Strip {
    fn default() -> Strip {
        Strip::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::{fields, header_len};
    use super::*;

    const TOP: &[u8] = b"Return-Path: <ours>\r\n";

    fn stripped(message: &[u8], piece: usize) -> Vec<u8> {
        stripped_by(Strip::new(), message, piece)
    }

    fn stripped_by(mut strip: Strip, message: &[u8], piece: usize) -> Vec<u8> {
        let mut copy = TOP.to_vec();
        message.chunks(piece).for_each(|part| strip.copy(part, &mut copy));
        strip.end(&mut copy);
        copy.split_off(TOP.len())
    }

    #[track_caller]
    fn check(message: &str, want: &str) {
        for piece in (1..=9).chain([message.len().max(1)]) {
            let got = stripped(message.as_bytes(), piece);
            assert_eq!(String::from_utf8_lossy(&got), want, "cut into pieces of {piece}");
        }
    }

    #[test]
    fn leaves_out_every_return_path_of_the_header() {
        check("Return-Path: <a@b.example>\r\nTo: c\r\n\r\nx\r\n", "To: c\r\n\r\nx\r\n");
        check(
            "To: c\r\nRETURN-path:<a>\r\nreturn-path : b\r\nCc: d\r\n\r\n",
            "To: c\r\nCc: d\r\n\r\n",
        );
        check("Return-Path: <a>\r\n\r\nx", "\r\nx");
    }

    #[test]
    fn leaves_out_its_folds_and_no_other() {
        check("Return-Path:\r\n <a>\r\n\t(b)\r\nTo: c\r\n d\r\n\r\n", "To: c\r\n d\r\n\r\n");
        check("To: c\r\n Return-Path: d\r\n\r\n", "To: c\r\n Return-Path: d\r\n\r\n");
    }

    #[test]
    fn leaves_out_who_gets_a_blind_copy() {
        let message = "Bcc: a\r\n b\r\nTo: c\r\n\tBcc: d\r\nBCC :\r\nResent-bcc: e,\r\n\tf\r\n\
                       Return-Path: <g>\r\nbcc:h\r\nBccs: i\r\nX-Bcc: j\r\n\r\nBcc: k\r\n";
        let want = "To: c\r\n\tBcc: d\r\nBccs: i\r\nX-Bcc: j\r\n\r\nBcc: k\r\n";
        for piece in (1..=9).chain([message.len()]) {
            let got = stripped_by(Strip::submitted(), message.as_bytes(), piece);
            assert_eq!(String::from_utf8_lossy(&got), want, "cut into pieces of {piece}");
        }
        check("Bcc: a\r\nResent-Bcc: b\r\n\r\n", "Bcc: a\r\nResent-Bcc: b\r\n\r\n");
    }

    #[test]
    fn keeps_what_only_looks_like_one() {
        for message in [
            "\r\nReturn-Path: <a>\r\n",
            "To: c\r\n\r\nReturn-Path: <a>\r\n d\r\n",
            "a: b\r\nReturn-Path\r\nReturn-Paths: a\r\nX-Return-Path: b\r\nReturn Path: c\r\n\r\n",
            "",
            "From a@b.example Sat Nov 28\r\nTo: c\r\n\r\n",
            "R:",
        ] {
            check(message, message);
        }
    }

    #[test]
    fn parts_what_has_no_header_from_our_fields() {
        for message in [
            " Return-Path: <a>",
            " folded\r\nTo: c\r\n\r\nx\r\n",
            "\tTo: c\r\n",
            "R",
            "Dear all,\r\nReturn-Path: <a>\r\n b\r\n",
            "Return-Path\r\nReturn-Path: a\r\n\r\n",
        ] {
            check(message, &format!("\r\n{message}"));
        }
        // A line that is no field within the header ends nothing.
        check("To: c\r\nlost\r\nReturn-Path: <a>\r\n\r\nx", "To: c\r\nlost\r\n\r\nx");
        check("From a\r\nReturn-Path: <a>\r\n\r\nx", "From a\r\n\r\nx");
    }

    #[test]
    fn decides_on_a_header_that_just_ends() {
        check("Return-Path: <a>", "");
        check("To: c\r\nReturn-Path: <a>\r\n b", "To: c\r\n");
    }

    /// What the field scan calls a Return-Path is gone, and all else is as it was.
    #[test]
    fn agrees_with_the_field_scan() {
        arbtest::arbtest(|u| {
            let words =
                ["Return-Path", "return-path", ":", " ", "\r\n", "\r\n", "\n", "x", "Return", "\t"];
            let len = u.int_in_range(0..=16)?;
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            let octets = text.as_bytes();
            let is_ours = |octets: &[u8], name: std::ops::Range<usize>| {
                octets[name].eq_ignore_ascii_case(RETURN_PATH)
            };
            let whole = stripped(octets, octets.len().max(1));
            for piece in 1..=7 {
                assert_eq!(stripped(octets, piece), whole, "cut into pieces of {piece}");
            }
            let first = octets.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default();
            if !octets.is_empty() && !has_header(first) {
                assert_eq!(whole, [GAP, octets].concat());
                return Ok(());
            }
            assert!(fields(&whole).all(|field| !is_ours(&whole, field.name)));
            let others = |octets: &[u8]| -> Vec<Vec<u8>> {
                fields(octets)
                    .filter(|field| !is_ours(octets, field.name.clone()))
                    .map(|field| octets[field.name.start..field.value.end].to_vec())
                    .collect()
            };
            assert_eq!(others(&whole), others(octets));
            assert_eq!(whole[header_len(&whole)..], octets[header_len(octets)..]);
            Ok(())
        });
    }
}
