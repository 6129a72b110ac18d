//! What the lines of a message may hold, looked at while they stream through.
//!
//! Text has CRLF line ends and no NUL (RFC 5321 §2.3.8, §4.5.2). A bare CR or LF is what one
//! relay takes for a line end and the next one does not; a message that has it is refused as a
//! whole, so that nothing hidden behind it is ever sent on. The look costs one vectorised pass.

use crate::bytes::codec::{to_u32, to_u64};
use memchr::{memchr_iter, memrchr};

/// What is wrong with a text; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TextFault {
    /// A CR without LF, or an LF without CR.
    BareLineEnd,
    /// An octet of value 0.
    Nul,
    /// A line with more octets than are taken.
    LongLine,
}

impl TextFault {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The look at one text, over any cuts.
#[derive(Clone, Copy, Debug)]
pub struct TextScan {
    /// Octets since the last LF.
    line_len: u32,
    line_max: u32,
    after_cr: bool,
    /// One bit for each kind.
    faults: u8,
}

impl TextScan {
    /// For lines of `line_max` octets with CRLF (RFC 5321 §4.5.3.1.6).
    pub const fn new(line_max: u32) -> TextScan {
        TextScan { line_len: 0, line_max, after_cr: false, faults: 0 }
    }

    /// Looks at the next octets of the text.
    pub fn feed(&mut self, text: &[u8]) {
        let (Some(&first), Some(&last)) = (text.first(), text.last()) else { return };
        let (bare, nul) = look(text);
        if bare || self.after_cr != (first == b'\n') {
            self.found(TextFault::BareLineEnd);
        }
        if nul || first == 0 {
            self.found(TextFault::Nul);
        }
        self.after_cr = last == b'\r';
        if self.measure(text) {
            self.found(TextFault::LongLine);
        }
    }

    /// Looks at the end of the text: nothing follows.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.after_cr) {
            self.found(TextFault::BareLineEnd);
        }
    }

    /// The gravest fault so far.
    pub fn fault(&self) -> Option<TextFault> {
        let all = [TextFault::BareLineEnd, TextFault::Nul, TextFault::LongLine];
        all.into_iter().find(|&fault| self.has(fault))
    }

    /// Whether there was such a fault.
    pub fn has(&self, fault: TextFault) -> bool {
        self.faults & fault.bit() != 0
    }

    fn found(&mut self, fault: TextFault) {
        self.faults |= fault.bit();
    }

    /// Follows the length of the line; true if one is too long.
    fn measure(&mut self, text: &[u8]) -> bool {
        let (line_len, max) = (u64::from(self.line_len), u64::from(self.line_max));
        if line_len + to_u64(text.len()) <= max {
            let tail = memrchr(b'\n', text).map(|lf| text.len() - lf - 1);
            self.line_len = tail.map_or(self.line_len + to_u32(text.len()), to_u32);
            return false;
        }
        // Too much for a shortcut: go from line to line.
        let (mut start, mut before, mut long) = (0, line_len, false);
        for lf in memchr_iter(b'\n', text) {
            long |= before + to_u64(lf + 1 - start) > max;
            before = 0;
            start = lf + 1;
        }
        let left = before + to_u64(text.len() - start);
        self.line_len = u32::try_from(left).unwrap_or(u32::MAX);
        long || left > max
    }
}

/// Whether a CR and an LF part company, or a NUL stands, at any index but the first.
/// Without branches, so that the compiler makes vectors of it.
fn look(text: &[u8]) -> (bool, bool) {
    let (mut bare, mut nul) = (0_u8, 0_u8);
    for (&before, &octet) in text.iter().zip(&text[1..]) {
        bare |= u8::from(before == b'\r') ^ u8::from(octet == b'\n');
        nul |= u8::from(octet == 0);
    }
    (bare != 0, nul != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_000;

    fn fault_cut(text: &[u8], piece: usize) -> Option<TextFault> {
        let mut scan = TextScan::new(to_u32(MAX));
        text.chunks(piece).for_each(|part| scan.feed(part));
        scan.end();
        scan.fault()
    }

    #[track_caller]
    fn check(text: &[u8], want: Option<TextFault>) {
        for piece in [1, 2, 3, 7, 1_000, 1 << 20] {
            assert_eq!(fault_cut(text, piece), want, "cut into pieces of {piece}");
        }
    }

    #[test]
    fn takes_lines_with_crlf_of_any_content() {
        check(b"", None);
        check(b"a\r\n\r\n\xff.\r\n.b", None);
    }

    #[test]
    fn refuses_bare_line_ends_wherever_they_stand() {
        for text in ["\n", "\r", "a\nb\r\n", "a\rb\r\n", "a\r\r\n", "a\r\n\n", "a\r\nb\r"] {
            check(text.as_bytes(), Some(TextFault::BareLineEnd));
        }
    }

    #[test]
    fn refuses_nul_and_names_the_bare_line_end_first() {
        check(b"\0", Some(TextFault::Nul));
        check(b"ab\0\r\n", Some(TextFault::Nul));
        check(b"ab\0\n", Some(TextFault::BareLineEnd));
    }

    #[test]
    fn refuses_a_line_over_the_limit_and_takes_one_at_it() {
        let mut text = vec![b'a'; MAX - 2];
        text.extend_from_slice(b"\r\n");
        let twice = text.repeat(2);
        check(&twice, None);
        text.insert(0, b'a');
        check(&text, Some(TextFault::LongLine));
        check(&vec![b'a'; MAX + 1], Some(TextFault::LongLine));
    }

    #[test]
    fn says_the_same_over_all_cuts() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=40)?;
            let text: Vec<u8> =
                (0..len).map(|_| u.choose(b"ab\r\n\0").copied()).collect::<Result<_, _>>()?;
            let whole = fault_cut(&text, 100);
            for piece in 1..=7 {
                assert_eq!(fault_cut(&text, piece), whole);
            }
            Ok(())
        });
    }
}
