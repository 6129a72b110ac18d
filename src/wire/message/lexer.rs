//! The words of structured fields: atoms, tokens, quoted strings, comments (RFC 5322 §3.2).
//!
//! A field value may be folded anywhere between words. What breaks the grammar is passed over
//! octet by octet, so every loop ends; quotes and comments that are not closed end with the value.

use memchr::memchr2;

/// Reads words off the front of a field value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(super) fn new(value: &'a [u8]) -> Lexer<'a> {
        Lexer { rest: value }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over one octet.
    pub(super) fn skip(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    /// Passes over `octet` if it is the next.
    pub(super) fn skip_if(&mut self, octet: u8) -> bool {
        let is = self.peek() == Some(octet);
        if is {
            self.skip();
        }
        is
    }

    /// Passes over spaces, line ends and comments; returns the text of the last comment.
    pub(super) fn skip_space(&mut self) -> Option<&'a [u8]> {
        let mut last = None;
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.skip(),
                Some(b'(') => last = Some(self.comment()),
                _ => return last,
            }
        }
    }

    /// A comment, nested ones within it, without the outer parentheses.
    fn comment(&mut self) -> &'a [u8] {
        let text = self.rest;
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(&octet) = text.get(at) {
            match octet {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => at += 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                self.rest = text.get(at..).unwrap_or_default();
                return &text[1..at - 1];
            }
        }
        self.rest = &[];
        &text[1..]
    }

    /// The longest run of octets that `is` takes.
    pub(super) fn run(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|&octet| !is(octet)).unwrap_or(self.rest.len());
        let (front, rest) = self.rest.split_at(len);
        self.rest = rest;
        front
    }

    /// A MIME token (RFC 2045 §5.1); `None` if there is not one octet of it.
    pub(super) fn token(&mut self) -> Option<&'a [u8]> {
        Some(self.run(is_token)).filter(|token| !token.is_empty())
    }

    /// A quoted string at its first quote: its value is appended, line ends left out.
    pub(super) fn quoted(&mut self, out: &mut Vec<u8>) {
        self.skip();
        while let Some(at) = memchr2(b'"', b'\\', self.rest) {
            let (plain, more) = self.rest.split_at(at);
            put_unfolded(plain, out);
            self.rest = more;
            if self.skip_if(b'"') {
                return;
            }
            self.skip();
            let (escaped, more) = self.rest.split_at(self.rest.len().min(1));
            put_unfolded(escaped, out);
            self.rest = more;
        }
        put_unfolded(std::mem::take(&mut self.rest), out);
    }
}

/// Appends `text` without its line ends (RFC 5322 §2.2.3).
pub(super) fn put_unfolded(text: &[u8], out: &mut Vec<u8>) {
    if memchr2(b'\r', b'\n', text).is_none() {
        out.extend_from_slice(text);
        return;
    }
    out.extend(text.iter().filter(|octet| !matches!(octet, b'\r' | b'\n')));
}

/// Without spaces and line ends around it.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Octets of a MIME token: printable, no tspecial; octets above ASCII are let through.
const TOKEN: [bool; 256] = {
    let mut token = [true; 256];
    let mut control = 0;
    while control <= b' ' as usize {
        token[control] = false;
        control += 1;
    }
    let specials = b"()<>@,;:\\\"/[]?=\x7f";
    let mut index = 0;
    while index < specials.len() {
        token[specials[index] as usize] = false;
        index += 1;
    }
    token
};

fn is_token(octet: u8) -> bool {
    TOKEN[usize::from(octet)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_words_and_passes_over_comments() {
        let mut lexer = Lexer::new(b" (a (b\\)) c)\r\n text (open");
        assert_eq!(lexer.skip_space(), Some(&b"a (b\\)) c"[..]));
        assert_eq!(lexer.token(), Some(&b"text"[..]));
        assert_eq!(lexer.skip_space(), Some(&b"open"[..]));
        assert_eq!((lexer.peek(), lexer.token()), (None, None));
    }

    #[test]
    fn unquotes_and_unfolds() {
        let mut out = Vec::new();
        let mut lexer = Lexer::new(b"\"a\\\"b\r\n c\" x");
        lexer.quoted(&mut out);
        assert_eq!((&out[..], lexer.rest()), (&b"a\"b c"[..], &b" x"[..]));
        Lexer::new(b"\"open\\").quoted(&mut out);
        assert_eq!(out, b"a\"b copen");
    }
}
