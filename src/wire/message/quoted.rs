//! Quoted-printable, written (RFC 2045 §6.7): octets of any kind as lines of ASCII.
//!
//! Line ends stay line ends, where they are CRLF; what is a lone CR or LF comes out as an octet.

/// Octets of a line without its end (RFC 2045 §6.7, rule 5).
const LINE_OCTETS_MAX: usize = 76;

/// Writes `input` in quoted-printable.
pub fn put_quoted(input: &[u8], out: &mut Vec<u8>) {
    let mut used = 0;
    let mut rest = input;
    while let Some((&octet, more)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (used, rest) = (0, after);
            continue;
        }
        rest = more;
        let is_last = rest.is_empty() || rest.starts_with(b"\r\n");
        let is_plain = match octet {
            // Spaces at the end of a line do not travel.
            b' ' | b'\t' => !is_last,
            b'=' => false,
            b'!'..=b'~' => true,
            _ => false,
        };
        let width = if is_plain { 1 } else { 3 };
        // Room for the `=` of a soft line break, unless the line ends here.
        if used + width > LINE_OCTETS_MAX - usize::from(!is_last) {
            out.extend_from_slice(b"=\r\n");
            used = 0;
        }
        if is_plain {
            out.push(octet);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digit = |value: u8| DIGITS[usize::from(value & 0xf)];
            out.extend_from_slice(&[b'=', digit(octet >> 4), digit(octet)]);
        }
        used += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::decode::Decoder;
    use crate::wire::message::mime::Encoding;

    fn quoted(input: &[u8]) -> String {
        let mut out = Vec::new();
        put_quoted(input, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_what_is_no_plain_text_as_digits() {
        assert_eq!(quoted(b"a=b \r\n\t\r\nc d\xff\r\n"), "a=3Db=20\r\n=09\r\nc d=FF\r\n");
        assert_eq!(quoted(b"a\rb\nc"), "a=0Db=0Ac");
    }

    #[test]
    fn breaks_lines_softly() {
        let line = "x".repeat(76);
        assert_eq!(quoted(line.as_bytes()), line);
        assert_eq!(quoted(format!("{line}y").as_bytes()), format!("{}=\r\nxy", "x".repeat(75)));
    }

    /// Whatever is written is read back, and no line is too long.
    #[test]
    fn is_undone_by_the_decoder() {
        arbtest::arbtest(|u| {
            let octets: Vec<u8> = u.arbitrary()?;
            let text = quoted(&octets);
            assert!(text.is_ascii() && text.split("\r\n").all(|line| line.len() <= 76));
            let mut decoder = Decoder::new(Encoding::QuotedPrintable);
            let mut back = Vec::new();
            decoder.feed(text.as_bytes(), &mut back);
            decoder.end(&mut back);
            assert_eq!(back, octets);
            Ok(())
        });
    }
}
