//! Replies: three digits, an enhanced status code, text (RFC 5321 §4.2, RFC 2034 §4).
//!
//! Whatever the text was made of, what goes out is printable ASCII in lines of at most 512
//! octets; a longer text goes out in more lines, each with the code.

use crate::bytes::chain::Chain;
use crate::model::limits::REPLY_LINE_OCTETS_MAX;
use crate::model::reply::{Class, Enhanced};

/// One reply on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'t> {
    /// 200 to 599.
    pub code: u16,
    /// The class is the code's first digit. `None` for the greeting, 354 and the answer to EHLO
    /// (RFC 2034 §4).
    pub enhanced: Option<Enhanced>,
    /// May have several lines, parted by LF.
    pub text: &'t str,
}

impl<'t> Reply<'t> {
    /// A reply with an enhanced code.
    pub const fn new(code: u16, subject: u16, detail: u16, text: &'t str) -> Reply<'t> {
        Reply { code, enhanced: Some(Enhanced(subject, detail)), text }
    }

    /// A reply without.
    pub const fn plain(code: u16, text: &'t str) -> Reply<'t> {
        Reply { code, enhanced: None, text }
    }

    /// Who should act on it.
    pub const fn class(&self) -> Class {
        match self.code {
            400..500 => Class::Transient,
            500.. => Class::Permanent,
            _ => Class::Ok,
        }
    }

    /// Writes the reply with its line ends.
    pub fn put(&self, out: &mut Chain) {
        debug_assert!((200..600).contains(&self.code), "a reply code has three digits");
        let mut line = Line { octets: [0; REPLY_LINE_OCTETS_MAX], len: 0 };
        line.number(self.code);
        line.put(b"-");
        if let Some(Enhanced(subject, detail)) = self.enhanced {
            line.number(self.code / 100);
            line.put(b".");
            line.number(subject);
            line.put(b".");
            line.number(detail);
            line.put(b" ");
        }
        let front = line.len;
        let room = REPLY_LINE_OCTETS_MAX - front - 2;
        let mut pieces = self.text.split('\n').flat_map(|text| pieces(text, room)).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                line.octets[3] = b' ';
            }
            line.len = front;
            line.put(piece.as_bytes());
            line.end();
            out.put(&line.octets[..line.len]);
        }
    }

    /// The reply as octets, for one that waits.
    pub fn to_octets(&self) -> Box<[u8]> {
        let mut out = Chain::new();
        self.put(&mut out);
        out.to_vec().into()
    }
}

/// One line in the making; what does not fit is cut off, what is not printable becomes `?`.
struct Line {
    octets: [u8; REPLY_LINE_OCTETS_MAX],
    len: usize,
}

impl Line {
    fn put(&mut self, text: &[u8]) {
        for (place, &octet) in self.octets[self.len..].iter_mut().zip(text) {
            *place = if matches!(octet, b' '..=b'~') { octet } else { b'?' };
        }
        self.len = REPLY_LINE_OCTETS_MAX.min(self.len + text.len());
    }

    /// Ends the line; a text that was cut to its room leaves two octets.
    fn end(&mut self) {
        self.len = self.len.min(REPLY_LINE_OCTETS_MAX - 2) + 2;
        self.octets[self.len - 2..self.len].copy_from_slice(b"\r\n");
    }

    fn number(&mut self, number: u16) {
        let digits = [number / 100, number / 10, number].map(|digit| digit % 10);
        let first = digits.iter().take(2).position(|&digit| digit > 0).unwrap_or(2);
        for &digit in &digits[first..] {
            self.put(&[b'0' + u8::try_from(digit).unwrap_or_default()]);
        }
    }
}

/// `line` in pieces of at most `room` octets; at least one, cut between characters, at spaces
/// where there are any.
fn pieces(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        if line.len() <= room {
            rest = None;
            return Some(line);
        }
        let limit = line.floor_char_boundary(room);
        let (head, _) = line.split_at(limit);
        let cut = head.rfind(' ').filter(|&at| at > 0).unwrap_or(limit);
        let (piece, more) = line.split_at(cut);
        rest = Some(more.strip_prefix(' ').unwrap_or(more));
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: Reply<'_>) -> String {
        let octets = reply.to_octets();
        let text = std::str::from_utf8(&octets).expect("replies are ASCII");
        assert!(text.split_inclusive("\r\n").all(|line| line.len() <= 512));
        text.into()
    }

    #[test]
    fn writes_code_enhanced_code_and_text() {
        assert_eq!(shown(Reply::new(250, 2, 1, "Ok")), "250 2.2.1 Ok\r\n");
        assert_eq!(shown(Reply::plain(354, "Go on")), "354 Go on\r\n");
        assert_eq!(shown(Reply::new(550, 1, 1, "a\nb")), "550-5.1.1 a\r\n550 5.1.1 b\r\n");
        assert_eq!(shown(Reply::plain(250, "")), "250 \r\n");
    }

    #[test]
    fn lets_nothing_but_printable_ascii_out() {
        assert_eq!(shown(Reply::plain(500, "a\r\x1b\té")), "500 a?????\r\n");
    }

    #[test]
    fn cuts_long_texts_into_lines_with_the_same_code() {
        let text = "word ".repeat(300);
        let lines = shown(Reply::new(550, 7, 1, &text));
        assert!(lines.starts_with("550-5.7.1 word ") && lines.contains("\r\n550 5.7.1 word"));
        let solid = shown(Reply::plain(550, &"é".repeat(600)));
        assert_eq!(solid.matches('?').count(), 1_200);
    }
}
