//! A message on its way out: dot-stuffed, ended, and not copied.
//!
//! Slices between the lines that need help are linked; only what is put between them is new. Every
//! line goes out with CRLF (RFC 1939 §3): a lone LF becomes one, and a last line without an end
//! gets one, so that CRLF.CRLF stands nowhere but at the end, for clients that take a lone LF for a
//! line end as well. A lone CR is no line end and stays.

use crate::bytes::chain::{Chain, Shared};
use crate::bytes::codec::to_u64;
use crate::model::limits::REPLY_OCTETS_PENDING_MAX;
use crate::wire::pop3::put_number;
use memchr::memchr_iter;
use std::ops::Range;
use std::rc::Rc;

/// Octets that are looked at in one go for whether they can be sent as they are.
const SCAN_OCTETS: usize = 1_024;

/// The rest of a message that is being sent.
#[derive(Debug)]
pub struct Sending {
    start: usize,
    at: usize,
    end: usize,
}

impl Sending {
    /// Begins the answer to RETR: `owner[range]` is the message, `size` what LIST says of it.
    pub fn whole(range: Range<usize>, size: u64, out: &mut Chain) -> Sending {
        out.put(b"+OK ");
        put_number(out, size);
        out.put(b" octets\r\n");
        Sending { start: range.start, at: range.start, end: range.end }
    }

    /// Begins the answer to TOP: the head of `owner[range]` and `lines` lines of its body.
    pub fn top(owner: &[u8], range: Range<usize>, lines: u32, out: &mut Chain) -> Sending {
        out.put(b"+OK top of the message follows\r\n");
        let end = range.start + top_end(&owner[range.clone()], lines);
        Sending { start: range.start, at: range.start, end }
    }

    /// Writes on until all is written (`true`) or more than [`REPLY_OCTETS_PENDING_MAX`] wait in
    /// `out`: then send some of it and call again. `owner` is the one that the message began with.
    pub fn fill(&mut self, owner: &Rc<dyn Shared>, out: &mut Chain) -> bool {
        let octets = &owner[..self.end];
        if self.at == self.start && octets.get(self.at) == Some(&b'.') {
            out.put(b".");
        }
        while let Some(lf) = next_special(octets, self.start, self.at) {
            if octets[self.start..lf].last() == Some(&b'\r') {
                out.link(owner, self.at..lf + 1);
            } else {
                out.link(owner, self.at..lf);
                out.put(b"\r\n");
            }
            if octets.get(lf + 1) == Some(&b'.') {
                out.put(b".");
            }
            self.at = lf + 1;
            if out.len() > REPLY_OCTETS_PENDING_MAX {
                return false;
            }
        }
        if self.at < self.end {
            out.link(owner, self.at..self.end);
        }
        self.at = self.end;
        if octets[self.start..].last().is_some_and(|&last| last != b'\n') {
            out.put(b"\r\n");
        }
        out.put(b".\r\n");
        true
    }
}

/// The next LF from `from` on that is lone or has a dot behind it. The octet before `from` is
/// looked at as well, if it is not before `start`.
fn next_special(octets: &[u8], start: usize, from: usize) -> Option<usize> {
    let is_special = |lf: usize| {
        let lone = lf == start || octets[lf - 1] != b'\r';
        lone || octets.get(lf + 1) == Some(&b'.')
    };
    let mut at = from;
    while at < octets.len() {
        let end = octets.len().min(at + SCAN_OCTETS);
        // One octet of the neighbours on each side decides about those at the edges.
        let around = &octets[at.saturating_sub(1).max(start)..octets.len().min(end + 1)];
        if at == start || looks_special(around) {
            let found =
                memchr_iter(b'\n', &octets[at..end]).map(|lf| at + lf).find(|&lf| is_special(lf));
            if found.is_some() {
                return found;
            }
        }
        at = end;
    }
    None
}

/// Whether two neighbours make a lone LF or a dot behind an LF. Compiles to vector code.
fn looks_special(octets: &[u8]) -> bool {
    let Some((_, behind)) = octets.split_first() else {
        return false;
    };
    octets.iter().zip(behind).fold(0_u8, |seen, (&first, &second)| {
        let lone = u8::from(second == b'\n') & u8::from(first != b'\r');
        let dot = u8::from(first == b'\n') & u8::from(second == b'.');
        seen | lone | dot
    }) != 0
}

/// Octets of a message as it is sent: with CRLF at every line end, stuffing not counted
/// (RFC 1939 §11). This is the size that LIST must say.
pub fn octets_sent(message: &[u8]) -> u64 {
    let lone = if message.first() == Some(&b'\n') || looks_special(message) {
        memchr_iter(b'\n', message).filter(|&lf| lf == 0 || message[lf - 1] != b'\r').count()
    } else {
        0
    };
    let open = message.last().is_some_and(|&last| last != b'\n');
    to_u64(message.len() + lone) + if open { 2 } else { 0 }
}

/// Where the answer to TOP ends: behind the head, the empty line, and `lines` lines of the body
/// (RFC 1939 §7); at the end of the message if it has fewer.
pub fn top_end(message: &[u8], lines: u32) -> usize {
    let mut line_start = 0;
    let mut lines_left = None;
    for lf in memchr_iter(b'\n', message) {
        let line = &message[line_start..lf];
        line_start = lf + 1;
        lines_left = match lines_left {
            Some(left) => Some(left - 1),
            None if line.is_empty() || line == b"\r" => Some(lines),
            None => None,
        };
        if lines_left == Some(0) {
            return line_start;
        }
    }
    message.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn send(message: &[u8]) -> Vec<u8> {
        let owner: Rc<dyn Shared> = Rc::new([b"<<", message, b">>"].concat());
        let mut out = Chain::new();
        let mut sending = Sending { start: 2, at: 2, end: 2 + message.len() };
        let mut sent = Vec::new();
        while !sending.fill(&owner, &mut out) {
            sent.extend(out.to_vec());
            out.consume(out.len());
        }
        sent.extend(out.to_vec());
        sent
    }

    /// The same, a line at a time and with no thought for speed.
    fn send_naively(message: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for line in message.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                sent.push(b'.');
            }
            let text = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line);
            sent.extend_from_slice(text);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b".\r\n");
        sent
    }

    #[track_caller]
    fn check(message: &str, want: &Expect) {
        want.assert_eq(&send(message.as_bytes()).escape_ascii().to_string());
    }

    #[test]
    fn stuffs_lines_that_begin_with_a_dot() {
        check("a\r\n.\r\n..b\r\n", &expect![[r"a\r\n..\r\n...b\r\n.\r\n"]]);
        check(".a\r\n", &expect![[r"..a\r\n.\r\n"]]);
        check("\r\n.", &expect![[r"\r\n..\r\n.\r\n"]]);
    }

    #[test]
    fn ends_every_line_with_crlf() {
        check("a", &expect![[r"a\r\n.\r\n"]]);
        check("a\nb\n", &expect![[r"a\r\nb\r\n.\r\n"]]);
        check("\n", &expect![[r"\r\n.\r\n"]]);
        check("a\r", &expect![[r"a\r\r\n.\r\n"]]);
        check("", &expect![[r".\r\n"]]);
    }

    #[test]
    fn lets_no_lone_line_end_forge_the_end() {
        check("a\n.\r\nb\r\n", &expect![[r"a\r\n..\r\nb\r\n.\r\n"]]);
        check("a\r.\r\nb\r\n", &expect![[r"a\r.\r\nb\r\n.\r\n"]]);
        check("a\r\r\n.\r\r\nb\0\r\n", &expect![[r"a\r\r\n..\r\r\nb\x00\r\n.\r\n"]]);
    }

    #[test]
    fn sends_the_same_as_the_naive_way_and_says_its_size() {
        arbtest::arbtest(|u| {
            let mut message: Vec<u8> = Vec::new();
            for _ in 0..u.int_in_range(0..=12)? {
                let fill = u.int_in_range(0..=700)?;
                message.resize(message.len() + fill, b'x');
                for _ in 0..u.int_in_range(0..=6)? {
                    message.push(*u.choose(b"\r\n.\n\ra")?);
                }
            }
            let sent = send(&message);
            assert_eq!(
                sent.escape_ascii().to_string(),
                send_naively(&message).escape_ascii().to_string()
            );
            let dots = message
                .split_inclusive(|&octet| octet == b'\n')
                .filter(|line| line.starts_with(b"."))
                .count();
            assert_eq!(octets_sent(&message), to_u64(sent.len() - dots - 3));
            Ok(())
        });
    }

    #[test]
    fn links_a_plain_message_in_one_piece() {
        let plain: Rc<dyn Shared> = Rc::new(b"0123456789abcdef\r\n".repeat(10_000));
        let mut out = Chain::new();
        let mut sending = Sending::whole(0..plain.len(), 180_000, &mut out);
        assert!(sending.fill(&plain, &mut out));
        assert_eq!(out.slices().map(<[u8]>::len).collect::<Vec<_>>(), [19, 180_000, 3]);
    }

    #[test]
    fn stays_bounded_when_every_line_needs_help() {
        let owner: Rc<dyn Shared> = Rc::new(b".\r\n".repeat(1 << 17));
        let mut out = Chain::new();
        let mut sending = Sending::whole(0..owner.len(), 3 << 17, &mut out);
        let mut sent = 0;
        loop {
            let done = sending.fill(&owner, &mut out);
            assert!(out.len() < REPLY_OCTETS_PENDING_MAX + 64);
            sent += out.len();
            out.consume(out.len());
            if done {
                break;
            }
        }
        assert_eq!(sent, "+OK 393216 octets\r\n".len() + (4 << 17) + 3);
    }

    #[test]
    fn finds_where_a_top_ends() {
        let message = b"A: b\r\n\r\n1\r\n2\r\n";
        let ends: Vec<usize> = [0, 1, 2, 3, u32::MAX].map(|lines| top_end(message, lines)).to_vec();
        assert_eq!(ends, [8, 11, 14, 14, 14]);
        assert_eq!(top_end(b"A: b\nB: c", 5), 9);
        assert_eq!(top_end(b"A: b\n\nx\ny", 1), 8);
        assert_eq!(top_end(b"", 0), 0);
        assert_eq!(top_end(b"\r\nbody\r\n", 0), 2);
    }
}
