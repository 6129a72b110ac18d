//! Replies as a client hears them (RFC 5321 §4.2): taken off the front of what was received.
//!
//! ```text
//! answer := *( code "-" [ text ] CRLF ) code [ " " [ text ] ] CRLF        one code throughout
//! ```
//!
//! Any text is taken, and none; clients act on the code alone (RFC 5321 §4.2). A line that ends with
//! a bare LF is taken as well: nothing is hidden by it, since nothing but answers comes. What changes
//! its code half-way, has a line without one, or goes on without end is no answer: the session is out
//! of step then, and cannot be brought into step again.

use crate::model::limits::{ANSWER_LINES_MAX, ANSWER_OCTETS_MAX, SAID_OCTETS_MAX};
use crate::model::reply::{Enhanced, Said};
use memchr::memchr;

/// Why what was received is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// More than [`ANSWER_OCTETS_MAX`] octets, or [`ANSWER_LINES_MAX`] lines.
    TooLong,
    /// A line that does not begin with three digits and a space, a dash, or its end.
    NoCode,
    /// A line with another code than the one before.
    CodeChanged,
}

/// One answer, all its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Three digits; 0 to 999.
    pub code: u16,
    lines: &'a [u8],
}

/// Finds the end of an answer that comes in pieces, and looks at each octet once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Octets of whole lines that were looked at, none of them the last.
    checked: usize,
    lines: usize,
    code: Option<u16>,
}

impl Reader {
    pub const fn new() -> Reader {
        Reader { checked: 0, lines: 0, code: None }
    }

    /// Takes one answer off the front of `input`; `Ok(None)` asks for more octets, which follow those
    /// that are there. [`Answer::len`] octets are used up by an answer, none otherwise. After an error
    /// there is no way on.
    pub fn take<'a>(&mut self, input: &'a [u8]) -> Result<Option<Answer<'a>>, NoAnswer> {
        loop {
            let rest = &input[self.checked..];
            let Some(lf) = memchr(b'\n', rest) else {
                let is_hopeless = input.len() >= ANSWER_OCTETS_MAX;
                return if is_hopeless { Err(NoAnswer::TooLong) } else { Ok(None) };
            };
            self.checked += lf + 1;
            self.lines += 1;
            if self.checked > ANSWER_OCTETS_MAX || self.lines > ANSWER_LINES_MAX {
                return Err(NoAnswer::TooLong);
            }
            let (code, is_last) = front(without_end(&rest[..lf])).ok_or(NoAnswer::NoCode)?;
            if *self.code.get_or_insert(code) != code {
                return Err(NoAnswer::CodeChanged);
            }
            if is_last {
                let lines = &input[..self.checked];
                *self = Reader::new();
                return Ok(Some(Answer { code, lines }));
            }
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The code of a line without its end, and whether the line is the last.
fn front(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_first_chunk::<3>()?;
    let code = digits.iter().try_fold(0, |code, digit| {
        digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0'))
    })?;
    match rest.first() {
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

impl<'a> Answer<'a> {
    /// Octets of all its lines with their ends.
    #[expect(clippy::len_without_is_empty, reason = "an answer has a code at least")]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The command was done (RFC 5321 §4.2.1: 2yz).
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// The texts of its lines, as they came, without what stands in front of them.
    pub fn texts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let lines = self.lines.split_inclusive(|&octet| octet == b'\n');
        lines.map(|line| {
            let line = without_end(line.strip_suffix(b"\n").unwrap_or(line));
            line.get(4..).unwrap_or_default()
        })
    }

    /// The enhanced status code of its first line (RFC 2034 §4), whether or not the server said that
    /// it has them; the class is the code's.
    pub fn enhanced(&self) -> Option<Enhanced> {
        take_enhanced(self.texts().next()?).map(|(enhanced, _)| enhanced)
    }

    /// What was said, to be kept: bounded, printable, in one line.
    pub fn to_said(&self) -> Said {
        let mut text = String::new();
        for line in self.texts() {
            let line = take_enhanced(line).map_or(line, |(_, rest)| rest).trim_ascii();
            if line.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            let room = SAID_OCTETS_MAX.saturating_sub(text.len());
            let printable = |&octet: &u8| if matches!(octet, b' '..=b'~') { octet } else { b'?' };
            text.extend(line.iter().take(room).map(printable).map(char::from));
            if line.len() >= room {
                break;
            }
        }
        let enhanced = self.enhanced();
        Said { code: self.code, enhanced, text: text.into(), by_peer: true }
    }
}

/// `class.subject.detail` at the front of a text, and what follows the space behind it.
fn take_enhanced(text: &[u8]) -> Option<(Enhanced, &[u8])> {
    let len = memchr(b' ', text).unwrap_or(text.len());
    // No longer than `5.999.999`.
    let word = text.get(..len).filter(|word| (5..=9).contains(&word.len()))?;
    let mut numbers = word.split(|&octet| octet == b'.').map(number);
    let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let is_sound = matches!(class, 2 | 4 | 5) && numbers.next().is_none();
    let rest = text.get(len + 1..).unwrap_or_default();
    is_sound.then_some((Enhanced(subject, detail), rest))
}

fn number(digits: &[u8]) -> Option<u16> {
    let is_sound = (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_sound.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

/// All answers of `input` in words, fed in pieces of at most `piece` octets.
#[cfg(any(test, feature = "sim"))]
fn answers_cut(input: &[u8], piece: usize) -> Vec<String> {
    let (mut words, mut held, mut reader) = (Vec::new(), Vec::new(), Reader::new());
    for part in input.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        loop {
            match reader.take(&held) {
                Ok(None) => break,
                Ok(Some(answer)) => {
                    words.push(answer.to_said().to_string());
                    let used = answer.len();
                    held.drain(..used);
                }
                Err(error) => {
                    words.push(format!("{error:?}"));
                    return words;
                }
            }
        }
        assert!(held.len() < ANSWER_OCTETS_MAX, "what waits has a bound");
    }
    words
}

/// Law: however the input is cut, the answers are the same, and what is kept of them is printable.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_answer(data: &[u8]) {
    let whole = answers_cut(data, data.len());
    for piece in 1..=7 {
        assert_eq!(answers_cut(data, piece), whole, "cut into pieces of {piece}");
    }
    for word in whole {
        assert!(word.len() <= SAID_OCTETS_MAX + "250 5.999.999 ".len());
        assert!(word.bytes().all(|octet| matches!(octet, b' '..=b'~')));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(input: &str, want: Expect) {
        want.assert_eq(&answers_cut(input.as_bytes(), input.len()).join(" | "));
        fuzz_answer(input.as_bytes());
    }

    #[test]
    fn takes_one_answer_after_the_other() {
        check("250 ok\r\n354 go\r\n22", expect!["250 ok | 354 go"]);
        check("250\r\n250 \r\n", expect!["250 | 250"]);
        check("250-a\r\n250-\r\n250 c\r\n421 x\r\n", expect!["250 a c | 421 x"]);
        check("250-a\r\n250-b", expect![""]);
        check("220 a\n250-b\n250 c\r\n", expect!["220 a | 250 b c"]);
        check("199 a\r\n999 b\r\n000 c\r\n", expect!["199 a | 999 b | 0 c"]);
    }

    #[test]
    fn finds_enhanced_codes_in_every_line() {
        check("550-5.1.1 no\r\n550 5.1.1 such user\r\n", expect!["550 5.1.1 no such user"]);
        check("250 2.0.0\r\n", expect!["250 2.0.0"]);
        // The code is what counts where the two differ.
        check("451 5.7.1 later\r\n", expect!["451 4.7.1 later"]);
        check("550 3.1.1 a\r\n", expect!["550 3.1.1 a"]);
        check("550 5.1 a\r\n550 5.1.1.1 a\r\n", expect!["550 5.1 a | 550 5.1.1.1 a"]);
        check("550 5.1234.1 a\r\n550 5..1 a\r\n", expect!["550 5.1234.1 a | 550 5..1 a"]);
    }

    #[test]
    fn refuses_what_is_no_answer() {
        check("250-a\r\n251 b\r\n", expect!["CodeChanged"]);
        check("250-a\r\nb\r\n", expect!["NoCode"]);
        check("+OK hello\r\n", expect!["NoCode"]);
        check("\r\n", expect!["NoCode"]);
        check("25\r\n", expect!["NoCode"]);
        check("2500 x\r\n", expect!["NoCode"]);
        check("2a0 x\r\n", expect!["NoCode"]);
        check("250 a\r\nx\r\n", expect!["250 a | NoCode"]);
    }

    #[test]
    fn gives_up_on_what_does_not_end() {
        check(&"2".repeat(ANSWER_OCTETS_MAX), expect!["TooLong"]);
        check(&"250-\r\n".repeat(ANSWER_LINES_MAX + 1), expect!["TooLong"]);
        let line = format!("250-{}\r\n", "a".repeat(994));
        check(&line.repeat(40), expect!["TooLong"]);
        let front = "250 ".len();
        let most = format!("250 {}\r\n", "a".repeat(ANSWER_OCTETS_MAX - front - 2));
        assert_eq!(Reader::new().take(most.as_bytes()).unwrap().unwrap().len(), ANSWER_OCTETS_MAX);
        check(
            &format!("250 {}\r\n", "a".repeat(ANSWER_OCTETS_MAX - front - 1)),
            expect!["TooLong"],
        );
    }

    #[test]
    fn keeps_printable_ascii_of_a_bounded_length() {
        check("550 a\0\u{7}\tb é\r\n", expect!["550 a???b ??"]);
        let long = format!("550-{}\r\n550 b\r\n", "a".repeat(900));
        let said = Reader::new().take(long.as_bytes()).unwrap().unwrap().to_said();
        assert_eq!(said.text.len(), SAID_OCTETS_MAX);
    }

    #[test]
    fn is_the_same_over_all_cuts() {
        let words = [
            "250", "250-", "251 ", "421", " ", "-", "5.1.1 ", "\r\n", "\r\n", "\n", "\r", "x", "é",
        ];
        arbtest::arbtest(|u| {
            let mut data = Vec::new();
            for _ in 0..u.int_in_range(0..=24)? {
                data.extend_from_slice(u.choose(&words)?.as_bytes());
            }
            fuzz_answer(&data);
            Ok(())
        });
    }
}
