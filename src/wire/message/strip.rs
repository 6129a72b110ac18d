//! A message copied as it streams in, without the Return-Path fields that it brings.
//!
//! Final delivery puts a Return-Path of its own on top and lets no other stand (RFC 5321 §4.4).
//! The fields are left out while the octets are copied, so that the body is never moved for it;
//! behind the header nothing is looked at any more.

use super::fields::{is_empty, name_len};
use memchr::memchr;

const NAME: &[u8] = b"Return-Path";

/// Where the next octets stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the begin of a header line.
    Begin,
    /// In a header line whose front lies in the copy from here on, until it is known whole.
    Line(usize),
    Body,
}

/// The copying of one message, over any cuts.
#[derive(Clone, Copy, Debug)]
pub struct Strip {
    place: Place,
    /// The field under way is left out, and so are its folds.
    leaves_out: bool,
}

impl Strip {
    pub const fn new() -> Strip {
        Strip { place: Place::Begin, leaves_out: false }
    }

    /// Copies the next octets of the message to the end of `copy`, which nobody else changes.
    pub fn copy(&mut self, octets: &[u8], copy: &mut Vec<u8>) {
        let mut at = 0;
        if let Place::Line(start) = self.place {
            let end = memchr(b'\n', octets).map(|lf| lf + 1);
            let (front, _) = octets.split_at(end.unwrap_or(octets.len()));
            copy.extend_from_slice(front);
            let Some(end) = end else { return };
            at = end;
            self.end_line(start, copy);
        }
        let mut kept = at;
        while self.place == Place::Begin && at < octets.len() {
            let Some(lf) = memchr(b'\n', &octets[at..]) else {
                copy.extend_from_slice(&octets[kept..at]);
                self.place = Place::Line(copy.len());
                kept = at;
                break;
            };
            let end = at + lf + 1;
            if !self.keeps(&octets[at..end]) {
                copy.extend_from_slice(&octets[kept..at]);
                kept = end;
            }
            at = end;
        }
        copy.extend_from_slice(&octets[kept..]);
    }

    /// Nothing follows: decides on a header line without an end.
    pub fn end(&mut self, copy: &mut Vec<u8>) {
        if let Place::Line(start) = self.place {
            self.end_line(start, copy);
        }
    }

    /// The line that lies in the copy from `start` on is whole.
    fn end_line(&mut self, start: usize, copy: &mut Vec<u8>) {
        self.place = Place::Begin;
        if !self.keeps(&copy[start..]) {
            copy.truncate(start);
        }
    }

    /// Whether this header line belongs to the copy.
    fn keeps(&mut self, line: &[u8]) -> bool {
        match line.first() {
            Some(b' ' | b'\t') => {}
            Some(b'R' | b'r') => {
                self.leaves_out =
                    name_len(line).is_some_and(|len| line[..len].eq_ignore_ascii_case(NAME));
            }
            _ => {
                self.leaves_out = false;
                if is_empty(line) {
                    self.place = Place::Body;
                }
            }
        }
        !self.leaves_out
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
        let (mut strip, mut copy) = (Strip::new(), TOP.to_vec());
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
    fn keeps_what_only_looks_like_one() {
        for message in [
            "\r\nReturn-Path: <a>\r\n",
            "To: c\r\n\r\nReturn-Path: <a>\r\n d\r\n",
            "Return-Path\r\nReturn-Paths: a\r\nX-Return-Path: b\r\nReturn Path: c\r\n\r\n",
            "",
            "R",
            " Return-Path: <a>",
        ] {
            check(message, message);
        }
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
                octets[name].eq_ignore_ascii_case(NAME)
            };
            let whole = stripped(octets, octets.len().max(1));
            for piece in 1..=7 {
                assert_eq!(stripped(octets, piece), whole, "cut into pieces of {piece}");
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
