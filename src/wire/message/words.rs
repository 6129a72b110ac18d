//! Encoded words of header fields (RFC 2047): `=?charset?Q?text?=` read as what it says.
//!
//! Words that follow each other with nothing but space between lose that space (§6.2), and letters
//! cut in two by them are put together. Folds are undone. What is no encoded word is UTF-8
//! (RFC 6532), or windows-1252 where it cannot be.

use super::charset::{ToUtf8, to_utf8};
use super::decode::{Decoder, hex};
use super::mime::Encoding;
use crate::model::limits::ENCODED_WORD_OCTETS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;
use memchr::memmem;

/// Appends the text of a field value as people read it.
pub fn put_decoded(value: &[u8], out: &mut String) {
    let mut rest = value;
    // A word that may go on in the next one: its charset and its octets.
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    while let Some(at) = memmem::find(rest, b"=?") {
        let Some(word) = Word::at(&rest[at..]) else {
            // No word: its two octets are text.
            let (text, more) = rest.split_at(at + 2);
            put_text(text, open.take(), out);
            rest = more;
            continue;
        };
        let between = &rest[..at];
        let is_space = between.iter().all(u8::is_ascii_whitespace);
        if !(is_space && open.is_some()) {
            put_text(between, open.take(), out);
        }
        match &mut open {
            Some((charset, octets)) if charset.eq_ignore_ascii_case(word.charset) => {
                word.decode(octets);
            }
            _ => {
                put_word(open.take(), out);
                let mut octets = Vec::new();
                word.decode(&mut octets);
                open = Some((word.charset, octets));
            }
        }
        rest = &rest[at + word.len..];
    }
    put_text(rest, open.take(), out);
}

/// [`put_decoded`] as a text of its own.
pub fn decoded(value: &[u8]) -> String {
    let mut out = String::new();
    put_decoded(value, &mut out);
    out
}

/// Octets of a header line that need not be folded.
const FIELD_LINE_OCTETS: usize = 78;
/// Octets that one encoded word stands for: with what is around them it fits into 75 (RFC 2047 §2).
const WORD_SOURCE_OCTETS: usize = 42;

/// Appends one line of text as the value of a field, behind `used` octets of its line: as it is where it is
/// short and plain, else as encoded words (RFC 2047 §2), folded.
pub fn put_encoded(text: &str, used: usize, out: &mut Vec<u8>) {
    let is_plain = text.bytes().all(|octet| matches!(octet, b' '..=b'~')) && !text.contains("=?");
    if is_plain && used + text.len() <= FIELD_LINE_OCTETS {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(WORD_SOURCE_OCTETS);
        let (word, more) = rest.split_at(end);
        if rest.len() < text.len() {
            out.extend_from_slice(b"\r\n ");
        }
        out.extend_from_slice(b"=?utf-8?B?");
        out.extend_from_slice(STANDARD.encode(word).as_bytes());
        out.extend_from_slice(b"?=");
        rest = more;
    }
}

fn put_word(word: Option<(&[u8], Vec<u8>)>, out: &mut String) {
    if let Some((charset, octets)) = word {
        to_utf8(charset, &octets, out);
    }
}

/// A word, then plain text without its line ends.
fn put_text(text: &[u8], word: Option<(&[u8], Vec<u8>)>, out: &mut String) {
    put_word(word, out);
    let mut reader = ToUtf8::new(b"");
    let lines = text.split(|octet| matches!(octet, b'\r' | b'\n')).filter(|line| !line.is_empty());
    for line in lines {
        reader.feed(line, false, out);
    }
    reader.feed(b"", true, out);
}

struct Word<'a> {
    charset: &'a [u8],
    encoding: Encoding,
    text: &'a [u8],
    /// Octets of the whole.
    len: usize,
}

impl<'a> Word<'a> {
    /// The word that `text` begins with, `=?` included.
    fn at(text: &'a [u8]) -> Option<Word<'a>> {
        // What has no end is not looked for to the end of the field, again and again.
        let text = &text[..text.len().min(ENCODED_WORD_OCTETS_MAX)];
        let inner = &text[2..];
        let mark = memchr(b'?', inner)?;
        let (charset, rest) = inner.split_at(mark);
        // RFC 2231 §5: a language may stand behind a star.
        let charset = charset.split(|&octet| octet == b'*').next().unwrap_or_default();
        let encoding = match rest.get(1)? {
            b'q' | b'Q' => Encoding::QuotedPrintable,
            b'b' | b'B' => Encoding::Base64,
            _ => return None,
        };
        let text = rest.get(2..)?.strip_prefix(b"?")?;
        let end = memmem::find(text, b"?=")?;
        let is_word = !charset.is_empty() && charset.iter().all(u8::is_ascii_graphic);
        let len = 2 + mark + 3 + end + 2;
        let text = &text[..end];
        // Spaces are against the rules, yet many programs write them; a line end is another field.
        let is_word = is_word && memchr(b'\n', text).is_none();
        is_word.then_some(Word { charset, encoding, text, len })
    }

    fn decode(&self, out: &mut Vec<u8>) {
        if self.encoding == Encoding::Base64 {
            let mut decoder = Decoder::new(Encoding::Base64);
            decoder.feed(self.text, out);
            decoder.end(out);
            return;
        }
        let mut rest = self.text;
        while let Some((&octet, more)) = rest.split_first() {
            rest = more;
            match (octet, more) {
                (b'_', _) => out.push(b' '),
                (b'=', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        out.push(high << 4 | low);
                        rest = after;
                    }
                    _ => out.push(octet),
                },
                _ => out.push(octet),
            }
        }
    }
}

/// Law: no panic, and plain ASCII is kept.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_words(data: &[u8]) {
    let out = decoded(data);
    if data.is_ascii() && memmem::find(data, b"=?").is_none() {
        let kept: Vec<u8> =
            data.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
        assert_eq!(out.as_bytes(), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, want: &str) {
        assert_eq!(decoded(value.as_bytes()), want);
        fuzz_words(value.as_bytes());
    }

    #[test]
    fn writes_what_it_reads_again() {
        let encoded = |text: &str| {
            let mut out = Vec::new();
            put_encoded(text, 9, &mut out);
            assert_eq!(decoded(&out), text);
            let out = String::from_utf8(out).unwrap();
            assert!(out.split("\r\n").all(|line| line.len() <= 76) && out.is_ascii(), "{out}");
            out
        };
        assert_eq!(encoded("Auto: lunch"), "Auto: lunch");
        assert_eq!(encoded("grün"), "=?utf-8?B?Z3LDvG4=?=");
        assert!(encoded("=?utf-8?q?x?=").starts_with("=?utf-8?B?"));
        assert_eq!(encoded(&"ü€ ".repeat(50)).matches("=?").count(), 8);
        encoded(&"long ".repeat(50));
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        // RFC 2047 §8.
        check("=?US-ASCII?Q?Keith_Moore?= <moore@cs>", "Keith Moore <moore@cs>");
        check("=?ISO-8859-1?Q?Andr=E9?= Pirard", "André Pirard");
        check(
            "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n \
             =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
            "If you can read this you understand the example.",
        );
        check("(=?ISO-8859-1?Q?a?=)", "(a)");
        check("=?ISO-8859-1?Q?a?= b", "a b");
        check("=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab");
        check("=?ISO-8859-1?Q?a_?= =?ISO-8859-2?Q?b?=", "a b");
    }

    #[test]
    fn takes_what_is_broken() {
        check("=?utf-8?Q?=C3?= =?utf-8?q?=A9?=", "é");
        check("=?utf-8*de?q?=C3=A9?=x", "éx");
        check("=?x?=", "=?x?=");
        check("=?utf-8?z?a?=", "=?utf-8?z?a?=");
        check("a =? b", "a =? b");
        check("=?utf-8?q?a b=?=", "a b=");
        check("=?nobody?q?=E9?=", "é");
        check("f\r\n old", "f old");
        check("é", "é");
    }

    #[test]
    fn words_have_a_bound() {
        let long = format!("=?utf-8?q?{}?=", "a".repeat(ENCODED_WORD_OCTETS_MAX));
        check(&long, &long);
        // Seconds, if each looked for its end.
        let open = "=?a?q?x".repeat(200_000);
        assert!(decoded(open.as_bytes()) == open);
    }

    #[test]
    fn keeps_its_laws_on_any_octets() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=16)?;
            let words = ["=?utf-8?q?", "?=", "=?", "=E9", " ", "\r\n", "b?", "é", "x", "YQ=="];
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            fuzz_words(text.as_bytes());
            Ok(())
        });
    }
}
