//! Replies: three digits, an enhanced status code, text (RFC 5321 §4.2, RFC 2034 §4).
//!
//! Whatever the text was made of, what goes out is printable ASCII in lines of at most 512
//! octets; a longer text goes out in more lines, each with the code.

use crate::bytes::chain::Chain;
use crate::model::limits::REPLY_LINE_OCTETS_MAX;
use crate::model::reply::{Class, Enhanced};
use std::io::Write as _;

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
        let mut front = Vec::with_capacity(16);
        let written = match self.enhanced {
            Some(Enhanced(subject, detail)) => {
                write!(front, "{}-{}.{subject}.{detail} ", self.code, self.code / 100)
            }
            None => write!(front, "{}-", self.code),
        };
        written.expect("a vector takes all octets");
        let room = REPLY_LINE_OCTETS_MAX - front.len() - 2;
        let mut lines = self.text.split('\n').flat_map(|line| pieces(line, room)).peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                front[3] = b' ';
            }
            out.put(&front);
            let clean = |octet: u8| matches!(octet, b' '..=b'~');
            if line.bytes().all(clean) {
                out.put(line.as_bytes());
            } else {
                let line: Vec<u8> = line.bytes().map(|o| if clean(o) { o } else { b'?' }).collect();
                out.put(&line);
            }
            out.put(b"\r\n");
        }
    }

    /// The reply as octets, for one that waits.
    pub fn to_octets(&self) -> Box<[u8]> {
        let mut out = Chain::new();
        self.put(&mut out);
        out.to_vec().into()
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
