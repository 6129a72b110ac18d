//! Lines of a protocol, taken off the front of what was received.
//!
//! Only CRLF ends a line (RFC 5321 §2.3.8). A lone CR or LF is refused and never guessed at.
//!
//! Two readings of the same rule, for two kinds of protocol:
//!   - [`take_line`] refuses at the first LF that no CR precedes; the session is lost then
//!   - [`front`] goes on to the next CRLF and calls the whole of it one bad line; the session
//!     stays in step, and nothing behind a bare LF is ever read as a command of its own

use memchr::{memchr, memchr_iter};

/// Why no line could be taken from the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// More octets than the protocol allows before a line end. The rest must be skipped.
    TooLong,
    /// LF without CR, or CR without LF: refused, since relays that disagree about
    /// line ends are how one message smuggles in another.
    BareLineEnd,
}

/// A line without its CRLF, and what follows it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Takes one line off the front of `input`; `max` counts the CRLF (RFC 5321 §4.5.3.1.4).
///
/// Returns the line without its CRLF and what follows it; `Ok(None)` asks for more octets.
pub fn take_line(input: &[u8], max: usize) -> Result<Option<Split<'_>>, LineError> {
    let window = &input[..input.len().min(max)];
    let Some(lf) = memchr(b'\n', window) else {
        if input.len() >= max {
            return Err(LineError::TooLong);
        }
        return Ok(None);
    };
    let (line, rest) = input.split_at(lf + 1);
    match line.strip_suffix(b"\r\n") {
        Some(line) if memchr(b'\r', line).is_none() => Ok(Some((line, rest))),
        _ => Err(LineError::BareLineEnd),
    }
}

/// Octets with CRLF for each lone LF: so lines end in the store, and otherwise on disks.
pub fn with_crlf(octets: Vec<u8>) -> Vec<u8> {
    let mut lone = memchr_iter(b'\n', &octets)
        .filter(|&at| at.checked_sub(1).is_none_or(|before| octets[before] != b'\r'))
        .peekable();
    if lone.peek().is_none() {
        return octets;
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut done = 0;
    for at in lone {
        out.extend_from_slice(&octets[done..at]);
        out.extend_from_slice(b"\r\n");
        done = at + 1;
    }
    out.extend_from_slice(&octets[done..]);
    out
}

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front<'a> {
    /// A line whose end has not come yet.
    Partial,
    /// A line without its CRLF.
    Line(&'a [u8]),
    /// A line with its CRLF that has a lone CR or LF in it.
    Bare,
    /// More octets than allowed without a CRLF: skip what follows with [`Skip`].
    TooLong(Skip),
}

/// Looks at the line at the front of `input`; `max` counts its CRLF. Returns the octets used up.
pub fn front(input: &[u8], max: usize) -> (usize, Front<'_>) {
    let window = &input[..input.len().min(max)];
    let mut clean = true;
    for lf in memchr_iter(b'\n', window) {
        let Some(line) = window[..lf].strip_suffix(b"\r") else {
            clean = false;
            continue;
        };
        if clean && memchr(b'\r', line).is_none() {
            return (lf + 1, Front::Line(line));
        }
        return (lf + 1, Front::Bare);
    }
    if input.len() < max {
        return (0, Front::Partial);
    }
    (max, Front::TooLong(Skip { after_cr: window.last() == Some(&b'\r') }))
}

/// Skips what is left of an overlong line, over any cuts of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    after_cr: bool,
}

impl Skip {
    /// For a line of which nothing was used up yet.
    pub const fn new() -> Skip {
        Skip { after_cr: false }
    }

    /// Returns the octets of `input` to drop, and whether the line ends with them.
    pub fn step(&mut self, input: &[u8]) -> (usize, bool) {
        for lf in memchr_iter(b'\n', input) {
            let after_cr = lf.checked_sub(1).map_or(self.after_cr, |index| input[index] == b'\r');
            if after_cr {
                return (lf + 1, true);
            }
        }
        if let Some(&last) = input.last() {
            self.after_cr = last == b'\r';
        }
        (input.len(), false)
    }
}

/// All lines of `input` in words, fed in pieces of at most `piece` octets.
#[cfg(any(test, feature = "sim"))]
fn lines_cut(input: &[u8], piece: usize, max: usize) -> Vec<String> {
    let (mut words, mut held, mut skip) = (Vec::new(), Vec::new(), None::<Skip>);
    for part in input.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        loop {
            if let Some(skipping) = &mut skip {
                let (used, ended) = skipping.step(&held);
                held.drain(..used);
                if !ended {
                    break;
                }
                skip = None;
            }
            let (used, found) = front(&held, max);
            match found {
                Front::Partial => break,
                Front::Line(line) => words.push(line.escape_ascii().to_string()),
                Front::Bare => words.push("<bare>".into()),
                Front::TooLong(rest) => {
                    words.push("<too long>".into());
                    skip = Some(rest);
                }
            }
            held.drain(..used);
        }
    }
    words
}

/// Law: however the input is cut, the lines are the same. The first octet chooses the limit.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_line(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let max = 2 + usize::from(first % 40);
    let whole = lines_cut(input, input.len(), max);
    for piece in 1..=7 {
        assert_eq!(lines_cut(input, piece, max), whole, "cut into pieces of {piece}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Line, bar, remainder.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(input: &str, max: usize, want: Expect) {
        let got = match take_line(input.as_bytes(), max) {
            Ok(None) => "more".into(),
            Ok(Some((line, rest))) => {
                format!("{} | {}", line.escape_ascii(), rest.escape_ascii())
            }
            Err(error) => format!("{error:?}"),
        };
        want.assert_eq(&format!("{got}; {}", lines_cut(input.as_bytes(), 99, max).join(", ")));
    }

    #[test]
    fn takes_one_line_and_leaves_the_pipelined_rest() {
        check("NOOP\r\nQUIT\r\n", 512, expect!["NOOP | QUIT\\r\\n; NOOP, QUIT"]);
        check("NOOP\r", 512, expect!["more; "]);
    }

    #[test]
    fn counts_the_line_end_against_the_limit() {
        check("NOOP\r\n", 6, expect!["NOOP | ; NOOP"]);
        check("NOOP\r\n", 5, expect!["TooLong; <too long>"]);
        check("NOOPNOOP\r\nQ\r\n", 6, expect!["TooLong; <too long>, Q"]);
    }

    #[test]
    fn never_ends_a_line_at_a_bare_cr_or_lf() {
        check("NOOP\nQUIT\r\nA\r\n", 512, expect!["BareLineEnd; <bare>, A"]);
        check("NOOP\rQUIT\r\nA\r\n", 512, expect!["BareLineEnd; <bare>, A"]);
        check("NOOP\r\r\n", 512, expect!["BareLineEnd; <bare>"]);
        check("NOOP\n", 512, expect!["BareLineEnd; "]);
    }

    #[test]
    fn is_independent_of_segmentation() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=64)?;
            let data: Vec<u8> =
                (0..len).map(|_| u.choose(b"ab \r\n").copied()).collect::<Result<_, _>>()?;
            fuzz_line(&data);
            Ok(())
        });
    }
}
