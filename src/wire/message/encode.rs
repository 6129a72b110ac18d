//! Transfer encodings made, piece by piece: quoted-printable (RFC 2045 §6.7) and base64 (§6.8).
//!
//! What comes out is ASCII in lines of at most 76 octets that end with CRLF; the last line stays open
//! unless the text has an end of its own. It has no line that begins with a dot or a dash, so that
//! nothing has to be stuffed, and nothing that was not a boundary before becomes one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Octets of one line without its end.
const LINE_OCTETS: usize = 76;
/// Octets that one line of base64 stands for.
const BASE64_LINE_SOURCE: usize = LINE_OCTETS / 4 * 3;

/// Which encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    QuotedPrintable,
    Base64,
}

impl Coding {
    /// As a Content-Transfer-Encoding names it.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::QuotedPrintable => "quoted-printable",
            Coding::Base64 => "base64",
        }
    }
}

/// Encodes one body. The pieces may be cut anywhere.
#[derive(Clone, Debug)]
pub struct Encoder {
    coding: Coding,
    /// Octets of the line under way.
    column: usize,
    /// What cannot be written before more is known: a CR, or less than a line of base64.
    held: Vec<u8>,
    /// A line of base64 was written: the next one begins behind a line end.
    has_lines: bool,
}

impl Encoder {
    pub const fn new(coding: Coding) -> Encoder {
        Encoder { coding, column: 0, held: Vec::new(), has_lines: false }
    }

    /// Appends what stands for the next octets of the body.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self.coding {
            Coding::QuotedPrintable => self.feed_quoted(input, out),
            Coding::Base64 => self.feed_base64(input, out),
        }
    }

    /// Appends what is left at the end of the body.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        match self.coding {
            Coding::QuotedPrintable => held.iter().for_each(|&octet| self.escape(octet, out)),
            Coding::Base64 => self.put_base64(&held, out),
        }
    }

    fn feed_quoted(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len() + input.len() / 8);
        let mut rest = input;
        if self.held.pop().is_some() {
            match rest.split_first() {
                Some((b'\n', more)) => {
                    self.end_line(out);
                    rest = more;
                }
                Some(_) => self.escape(b'\r', out),
                None => self.held.push(b'\r'),
            }
        }
        while let Some((&octet, more)) = rest.split_first() {
            rest = more;
            match (octet, more.first()) {
                (b'\r', Some(b'\n')) => {
                    self.end_line(out);
                    rest = &more[1..];
                }
                (b'\r', None) => self.held.push(b'\r'),
                // Space at the end of a line is lost on the way (RFC 2045 §6.7, rule 3).
                (b' ' | b'\t', None | Some(b'\r' | b'\n')) | (b'=', _) => self.escape(octet, out),
                (b'.' | b'-', _) if self.column == 0 || self.column >= LINE_OCTETS - 1 => {
                    self.escape(octet, out);
                }
                (b'\t' | b' '..=b'~', _) => self.put(&[octet], out),
                _ => self.escape(octet, out),
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    fn escape(&mut self, octet: u8, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let (high, low) = (DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]);
        self.put(&[b'=', high, low], out);
    }

    /// One octet's worth; the last place of a line is for the `=` that breaks it.
    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if self.column + token.len() >= LINE_OCTETS {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        out.extend_from_slice(token);
        self.column += token.len();
    }

    fn feed_base64(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        if !self.held.is_empty() {
            let wanted = BASE64_LINE_SOURCE - self.held.len();
            let (front, more) = rest.split_at(wanted.min(rest.len()));
            self.held.extend_from_slice(front);
            rest = more;
            if self.held.len() < BASE64_LINE_SOURCE {
                return;
            }
            let line = std::mem::take(&mut self.held);
            self.put_base64(&line, out);
        }
        let mut lines = rest.chunks_exact(BASE64_LINE_SOURCE);
        out.reserve(rest.len() / BASE64_LINE_SOURCE * (LINE_OCTETS + 2));
        for line in &mut lines {
            self.put_base64(line, out);
        }
        self.held.extend_from_slice(lines.remainder());
    }

    fn put_base64(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        if std::mem::replace(&mut self.has_lines, true) {
            out.extend_from_slice(b"\r\n");
        }
        let mut line = [0; LINE_OCTETS];
        let len =
            STANDARD.encode_slice(octets, &mut line).expect("a line holds what it stands for");
        out.extend_from_slice(&line[..len]);
    }
}

/// Laws: the pieces may be cut anywhere; decoding gives back every octet; the lines are as the header
/// of this file says.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_encode(data: &[u8]) {
    use super::decode::Decoder;
    use super::mime::Encoding;
    for (coding, encoding) in
        [(Coding::QuotedPrintable, Encoding::QuotedPrintable), (Coding::Base64, Encoding::Base64)]
    {
        let run = |piece: usize| {
            let (mut encoder, mut out) = (Encoder::new(coding), Vec::new());
            data.chunks(piece).for_each(|part| encoder.feed(part, &mut out));
            encoder.end(&mut out);
            out
        };
        for piece in [1, 2, 3, 5, 57, 76, data.len().max(1)] {
            let text = run(piece);
            let (mut decoder, mut octets) = (Decoder::new(encoding), Vec::new());
            decoder.feed(&text, &mut octets);
            assert!(decoder.end(&mut octets), "{coding:?} is sound");
            assert_eq!(octets, data, "{coding:?} in pieces of {piece}");
            for line in text.split(|&octet| octet == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                assert!(
                    line.len() <= LINE_OCTETS
                        && line.iter().all(|octet| (b'\t'..=b'~').contains(octet))
                );
                assert!(
                    !line.contains(&b'\r') && !line.starts_with(b".") && !line.starts_with(b"-")
                );
                assert!(!line.ends_with(b" ") && !line.ends_with(b"\t"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(coding: Coding, octets: &[u8], want: &str) {
        let (mut encoder, mut out) = (Encoder::new(coding), Vec::new());
        encoder.feed(octets, &mut out);
        encoder.end(&mut out);
        assert_eq!(out.escape_ascii().to_string(), want);
        fuzz_encode(octets);
    }

    #[test]
    fn quotes_what_is_not_printable() {
        let check = |octets, want| check(Coding::QuotedPrintable, octets, want);
        check(b"", "");
        check("a=\u{e9} b\r\n".as_bytes(), "a=3D=C3=A9 b\\r\\n");
        check(b"a \r\n\t\r\nb ", "a=20\\r\\n=09\\r\\nb=20");
        check(b"a\rb\nc\r", "a=0Db=0Ac=0D");
        check(b".\r\n--b\r\n\0", "=2E\\r\\n=2D-b\\r\\n=00");
        check(b"\r\n\r\n", "\\r\\n\\r\\n");
    }

    #[test]
    fn breaks_lines_at_76() {
        let line = "a".repeat(75);
        check(Coding::QuotedPrintable, line.as_bytes(), &line);
        let longer = format!("{line}.x");
        check(Coding::QuotedPrintable, longer.as_bytes(), &format!("{line}=\\r\\n=2Ex"));
        check(Coding::Base64, &[0; 57], &"A".repeat(76));
        check(Coding::Base64, &[0; 58], &format!("{}\\r\\nAA==", "A".repeat(76)));
        check(Coding::Base64, b"foobar", "Zm9vYmFy");
    }

    #[test]
    fn keeps_its_laws_on_any_octets() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=300)?;
            let data: Vec<u8> = (0..len)
                .map(|_| u.choose(b"aaaa=.- \t\r\r\n\n\xff\0").copied())
                .collect::<Result<_, _>>()?;
            fuzz_encode(&data);
            Ok(())
        });
    }
}
