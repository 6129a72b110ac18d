//! Charsets turned into UTF-8, piece by piece.
//!
//! The names are those of the WHATWG, which are what mail programs mean by them (US-ASCII is read
//! as windows-1252, for one). A text that says nothing, or US-ASCII, and then has octets over 127
//! is UTF-8 if it can be, else windows-1252.

use encoding_rs::{CoderResult, Encoding, UTF_8, WINDOWS_1252};

/// Whether texts in the charset of this name can be read; SEARCH refuses others with BADCHARSET
/// (RFC 9051 §6.4.4).
pub fn is_known(name: &[u8]) -> bool {
    Encoding::for_label(name).is_some()
}

/// Reads one text.
pub struct ToUtf8 {
    state: State,
}

enum State {
    /// ASCII so far; what it is otherwise will be seen.
    Guess,
    Known(encoding_rs::Decoder),
}

impl ToUtf8 {
    /// For a text in the charset of this name; one that nobody knows is guessed.
    pub fn new(name: &[u8]) -> ToUtf8 {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        let known = if name.is_empty() || is("us-ascii") || is("ascii") || is("utf-8") {
            None
        } else {
            Encoding::for_label(name)
        };
        let state = known
            .map_or(State::Guess, |found| State::Known(found.new_decoder_without_bom_handling()));
        ToUtf8 { state }
    }

    /// The next octets of the text if they are what they stand for: nothing was cut before them,
    /// and they are ASCII in a charset where ASCII is itself.
    pub fn as_it_is<'a>(&self, input: &'a [u8]) -> Option<&'a str> {
        let is_plain = match &self.state {
            State::Guess => true,
            State::Known(decoder) => decoder.encoding().is_single_byte(),
        };
        std::str::from_utf8(input).ok().filter(|text| is_plain && text.is_ascii())
    }

    /// Appends the next octets of the text; `last` ends it. What is broken becomes U+FFFD.
    pub fn feed(&mut self, input: &[u8], last: bool, out: &mut String) {
        if matches!(self.state, State::Guess) {
            if let Ok(text) = std::str::from_utf8(input)
                && (input.is_ascii() || last)
            {
                out.push_str(text);
                return;
            }
            // A letter that the cut went through is no error.
            let is_utf8 = match std::str::from_utf8(input) {
                Ok(_) => true,
                Err(error) => !last && error.error_len().is_none(),
            };
            let guessed = if is_utf8 { UTF_8 } else { WINDOWS_1252 };
            self.state = State::Known(guessed.new_decoder_without_bom_handling());
        }
        let State::Known(decoder) = &mut self.state else { return };
        let mut rest = input;
        loop {
            out.reserve(rest.len() + rest.len() / 8 + 16);
            let (result, read, _) = decoder.decode_to_string(rest, out, last);
            rest = &rest[read..];
            match result {
                CoderResult::InputEmpty => return,
                // Every round has at least room for one letter more.
                CoderResult::OutputFull => {}
            }
        }
    }
}

/// The whole of a text at once.
pub fn to_utf8(name: &[u8], text: &[u8], out: &mut String) {
    ToUtf8::new(name).feed(text, true, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, text: &[u8], want: &str) {
        // Where the charset is guessed, it is by what came first.
        let is_guess = name.is_empty();
        for piece in (1..=4).filter(|_| !is_guess) {
            let (mut reader, mut out) = (ToUtf8::new(name.as_bytes()), String::new());
            text.chunks(piece).for_each(|part| reader.feed(part, false, &mut out));
            reader.feed(b"", true, &mut out);
            assert_eq!(out, want, "{name} in pieces of {piece}");
        }
        let mut out = String::new();
        to_utf8(name.as_bytes(), text, &mut out);
        assert_eq!(out, want);
    }

    #[test]
    fn reads_charsets_cut_anywhere() {
        check("utf-8", "aäb€".as_bytes(), "aäb€");
        check("ISO-8859-1", b"a\xe4", "aä");
        check("iso-2022-jp", b"\x1b$B%F\x1b(B.", "テ.");
        check("koi8-r", b"\xc1", "а");
        check("", b"a\xe4\xf6", "aäö");
        check("x-nobody-knows", "é".as_bytes(), "é");
        check("us-ascii", b"", "");
        assert!(is_known(b"Windows-1251") && !is_known(b"x-none"));
    }
}
