//! PREVIEW: the first words of a message (RFC 8970 §3.1).

use super::mime::{Kind, Part, Tree};
use super::text::TextReader;
use crate::bytes::codec::to_usize;
use crate::model::limits::{PREVIEW_CHARACTERS, PREVIEW_OCTETS_READ_MAX};

/// Appends at most [`PREVIEW_CHARACTERS`] of the first text of a message that is no attachment:
/// one space for each run of space, quoted lines left out unless there is nothing else.
pub fn put_preview(message: &[u8], tree: &Tree, out: &mut String) {
    for part in tree.parts.iter().filter(|part| part.kind == Kind::Text) {
        let start = out.len();
        let reader = if part.header == 0 {
            TextReader::with_head(message, part, &tree.head)
        } else {
            TextReader::new(message, part)
        };
        let mut words = Words { out, room: PREVIEW_CHARACTERS, space: false, line: Line::Begin };
        words.put_part(message, part, reader);
        if out.len() > start {
            return;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Begin,
    Quoted,
    Text,
}

struct Words<'o> {
    out: &'o mut String,
    room: usize,
    /// Space stands before the next letter.
    space: bool,
    line: Line,
}

impl Words<'_> {
    fn put_part(&mut self, message: &[u8], part: &Part, mut reader: TextReader) {
        let body = part.body();
        let end = body.end.min(body.start + PREVIEW_OCTETS_READ_MAX);
        let mut at = body.start;
        while at < end && self.room > 0 {
            // A little more than is needed, as a rule: one round.
            let next = end.min(at + PREVIEW_CHARACTERS * 4);
            reader.feed(&message[at..next], next == body.end, &mut |text| self.put(text));
            at = next;
        }
    }

    fn put(&mut self, text: &str) {
        let mut rest = text;
        while self.room > 0 && !rest.is_empty() {
            // Words of ASCII in bulk; all else letter by letter.
            let len = rest.bytes().take(self.room).take_while(u8::is_ascii_graphic).count();
            let (word, more) = rest.split_at(len);
            let is_word = len > 0 && !(self.line == Line::Begin && word.starts_with('>'));
            if self.line == Line::Quoted {
                rest = rest.find('\n').and_then(|at| rest.get(at..)).unwrap_or_default();
                self.line = if rest.is_empty() { Line::Quoted } else { Line::Text };
            } else if is_word {
                self.put_space();
                let word = word.get(..self.room).unwrap_or(word);
                self.out.push_str(word);
                self.room -= word.len();
                self.line = Line::Text;
                rest = more;
            } else {
                let mut letters = rest.chars();
                if let Some(letter) = letters.next() {
                    self.put_letter(letter);
                }
                rest = letters.as_str();
            }
        }
    }

    fn put_letter(&mut self, letter: char) {
        if letter == '\n' {
            (self.space, self.line) = (true, Line::Begin);
        } else if letter.is_whitespace() || letter.is_control() || is_filler(letter) {
            self.space = true;
        } else if self.line == Line::Begin && letter == '>' {
            self.line = Line::Quoted;
        } else {
            self.put_space();
            if self.room > 0 {
                self.out.push(letter);
                self.room -= 1;
            }
            self.line = Line::Text;
        }
    }

    fn put_space(&mut self) {
        if std::mem::take(&mut self.space) && !self.out.is_empty() {
            self.out.push(' ');
            self.room -= 1;
        }
    }
}

/// What bulk mail pads its first line with.
fn is_filler(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// Octets that a preview takes at most.
pub const PREVIEW_OCTETS_MAX: usize = PREVIEW_CHARACTERS * 4;
const _: () = assert!(to_usize(PREVIEW_OCTETS_MAX as u64) < 1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, want: &str) {
        let mut out = String::new();
        put_preview(message.as_bytes(), &Tree::of(message.as_bytes()), &mut out);
        assert_eq!(out, want);
    }

    #[test]
    fn shows_the_first_words() {
        check("Subject: a\n\n\n  Hello,\r\n\tworld.\n", "Hello, world.");
        check("A: b\n\n> quoted\n> more\nanswer > 3\n", "answer > 3");
        check("A: b\n\n", "");
        check("Content-Type: image/png\n\nx", "");
        check(
            "Content-Type: text/html\n\n<style>x</style><h1>Hi</h1>\u{200c}&nbsp;<p>there</p>",
            "Hi there",
        );
        check(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n\n--b\n\
             Content-Transfer-Encoding: base64\n\nSGVsbG8=\n--b--\n",
            "Hello",
        );
    }

    #[test]
    fn is_bounded() {
        let mut out = String::new();
        let long = "A: b\n\n".to_owned() + &"é ".repeat(1_000);
        put_preview(long.as_bytes(), &Tree::of(long.as_bytes()), &mut out);
        assert_eq!(out.chars().count(), PREVIEW_CHARACTERS);
        let blank = "A: b\n\n".to_owned() + &" ".repeat(1 << 20) + "x";
        check(&blank, "");
    }
}
