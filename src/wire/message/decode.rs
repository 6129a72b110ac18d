//! Transfer encodings undone, piece by piece (RFC 2045 §6.7, §6.8).
//!
//! The pieces may be cut anywhere. What is broken is read as well as it can be, and remembered:
//! BINARY must refuse it (RFC 9051 §6.4.5), a search need not.

use super::mime::Encoding;
use memchr::memchr2;

/// Undoes the encoding of one body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    is_sound: bool,
}

#[derive(Clone, Debug)]
enum State {
    Identity,
    Base64 {
        /// Six bits for each letter taken since the last whole group of four.
        bits: u32,
        count: u8,
    },
    /// Spaces at the end of a line are no part of it, so they wait for what follows.
    Quoted {
        held: Vec<u8>,
        escape: Escape,
    },
}

/// How far behind an `=` of quoted-printable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// The first digit was this.
    Digit(u8),
    /// Spaces behind a soft line break.
    Soft,
}

impl Decoder {
    /// For a body in this encoding; an unknown one is passed on as it is.
    pub fn new(encoding: Encoding) -> Decoder {
        let state = match encoding {
            Encoding::Identity | Encoding::Unknown => State::Identity,
            Encoding::Base64 => State::Base64 { bits: 0, count: 0 },
            Encoding::QuotedPrintable => State::Quoted { held: Vec::new(), escape: Escape::None },
        };
        Decoder { state, is_sound: true }
    }

    /// Appends what the next octets of the body stand for.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &mut self.state {
            State::Identity => out.extend_from_slice(input),
            State::Base64 { bits, count } => {
                self.is_sound &= feed_base64(input, bits, count, out);
            }
            State::Quoted { held, escape } => {
                self.is_sound &= feed_quoted(input, held, escape, out);
            }
        }
    }

    /// Appends what is left at the end of the body; false if anything in it was broken.
    pub fn end(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Identity => {}
            State::Base64 { bits, count } => self.is_sound &= flush_base64(bits, count, out),
            State::Quoted { held, escape } => {
                self.is_sound &= matches!(escape, Escape::None | Escape::Soft);
                match *escape {
                    Escape::Begun => out.push(b'='),
                    Escape::Digit(digit) => out.extend_from_slice(&[b'=', digit]),
                    Escape::None | Escape::Soft => {}
                }
                *escape = Escape::None;
                held.clear();
            }
        }
        self.is_sound
    }
}

const PAD: u8 = 64;
const SPACE: u8 = 65;
const WRONG: u8 = 66;

/// What each octet is worth in base64.
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [WRONG; 256];
    let mut index = 0;
    while index < alphabet.len() {
        #[expect(clippy::cast_possible_truncation, reason = "the alphabet has 64 letters")]
        let value = index as u8;
        values[alphabet[index] as usize] = value;
        index += 1;
    }
    values[b'=' as usize] = PAD;
    values[b' ' as usize] = SPACE;
    values[b'\t' as usize] = SPACE;
    values[b'\r' as usize] = SPACE;
    values[b'\n' as usize] = SPACE;
    values
};

fn value(octet: u8) -> u8 {
    VALUES[usize::from(octet)]
}

fn feed_base64(input: &[u8], bits: &mut u32, count: &mut u8, out: &mut Vec<u8>) -> bool {
    let mut is_sound = true;
    out.reserve(input.len() / 4 * 3 + 3);
    let mut rest = input;
    loop {
        // Whole groups, as they stand in all but the ends of lines.
        while *count == 0
            && let Some((group, more)) = rest.split_first_chunk::<4>()
        {
            let [one, two, three, four] = group.map(value);
            if (one | two | three | four) >= PAD {
                break;
            }
            let whole =
                [one, two, three, four].iter().fold(0, |bits, &six| bits << 6 | u32::from(six));
            let [_, first, second, third] = whole.to_be_bytes();
            out.extend_from_slice(&[first, second, third]);
            rest = more;
        }
        let Some((&octet, more)) = rest.split_first() else { return is_sound };
        rest = more;
        match value(octet) {
            SPACE => {}
            PAD => {
                // Texts that were put together one behind the other go on behind the padding.
                is_sound &= *count != 1;
                flush_base64(bits, count, out);
            }
            WRONG => is_sound = false,
            six => {
                *bits = *bits << 6 | u32::from(six);
                *count += 1;
                if *count == 4 {
                    out.extend_from_slice(&bits.to_be_bytes()[1..]);
                    (*bits, *count) = (0, 0);
                }
            }
        }
    }
}

/// Writes the octets of a group that has not four letters; false if there is half a one.
fn flush_base64(bits: &mut u32, count: &mut u8, out: &mut Vec<u8>) -> bool {
    let letters = std::mem::take(count);
    let [_, first, second, _] =
        (std::mem::take(bits) << (24 - 6 * u32::from(letters.min(4)))).to_be_bytes();
    match letters {
        2 => out.push(first),
        3 => out.extend_from_slice(&[first, second]),
        _ => {}
    }
    letters != 1
}

fn feed_quoted(input: &[u8], held: &mut Vec<u8>, escape: &mut Escape, out: &mut Vec<u8>) -> bool {
    let mut is_sound = true;
    let mut rest = input;
    while let Some(&octet) = rest.first() {
        match *escape {
            Escape::None => {
                let Some(at) = memchr2(b'=', b'\n', rest) else {
                    let len = rest.len() - spaces_at_end(rest);
                    if len > 0 {
                        out.append(held);
                        out.extend_from_slice(&rest[..len]);
                    }
                    held.extend_from_slice(&rest[len..]);
                    break;
                };
                let (text, more) = rest.split_at(at);
                if more[0] == b'=' {
                    out.append(held);
                    out.extend_from_slice(text);
                    *escape = Escape::Begun;
                } else {
                    end_line(text, held, out);
                }
                rest = &more[1..];
            }
            Escape::Begun => match octet {
                b' ' | b'\t' | b'\r' => {
                    *escape = Escape::Soft;
                    rest = &rest[1..];
                }
                b'\n' => {
                    *escape = Escape::None;
                    rest = &rest[1..];
                }
                _ if octet.is_ascii_hexdigit() => {
                    *escape = Escape::Digit(octet);
                    rest = &rest[1..];
                }
                _ => {
                    out.push(b'=');
                    (*escape, is_sound) = (Escape::None, false);
                }
            },
            Escape::Digit(first) => {
                if let (Some(high), Some(low)) = (hex(first), hex(octet)) {
                    out.push(high << 4 | low);
                    rest = &rest[1..];
                } else {
                    out.extend_from_slice(&[b'=', first]);
                    is_sound = false;
                }
                *escape = Escape::None;
            }
            Escape::Soft => match octet {
                b' ' | b'\t' | b'\r' => rest = &rest[1..],
                b'\n' => {
                    *escape = Escape::None;
                    rest = &rest[1..];
                }
                _ => (*escape, is_sound) = (Escape::None, false),
            },
        }
    }
    is_sound
}

/// The rest of a line, the LF behind it: spaces at its end go (RFC 2045 §6.7, rule 3).
fn end_line(text: &[u8], held: &mut Vec<u8>, out: &mut Vec<u8>) {
    let has_cr = text.last().or(held.last()) == Some(&b'\r');
    let kept = &text[..text.len() - spaces_at_end(text)];
    if !kept.is_empty() {
        out.append(held);
    }
    held.clear();
    out.extend_from_slice(kept);
    out.extend_from_slice(if has_cr { b"\r\n" } else { b"\n" });
}

fn spaces_at_end(text: &[u8]) -> usize {
    text.iter().rev().take_while(|octet| matches!(octet, b' ' | b'\t' | b'\r')).count()
}

/// The value of one hexadecimal digit, small letters too.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Law: the pieces may be cut anywhere.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_decode(data: &[u8]) {
    for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Identity] {
        let run = |piece: usize| {
            let (mut decoder, mut out) = (Decoder::new(encoding), Vec::new());
            data.chunks(piece).for_each(|part| decoder.feed(part, &mut out));
            let is_sound = decoder.end(&mut out);
            (is_sound, out)
        };
        let whole = run(data.len().max(1));
        for piece in 1..=5 {
            assert_eq!(run(piece), whole, "cut into pieces of {piece}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(encoding: Encoding, body: &str, want: &str, is_sound: bool) {
        let (mut decoder, mut out) = (Decoder::new(encoding), Vec::new());
        decoder.feed(body.as_bytes(), &mut out);
        assert_eq!(decoder.end(&mut out), is_sound);
        assert_eq!(out.escape_ascii().to_string(), want);
        fuzz_decode(body.as_bytes());
    }

    #[test]
    fn undoes_base64() {
        let check = |body, want, is_sound| check(Encoding::Base64, body, want, is_sound);
        check("", "", true);
        check("Zm9vYmFy", "foobar", true);
        check("Zm9v\r\nYmE=\r\n", "fooba", true);
        check("Zg==Zg==", "ff", true);
        check("Zg", "f", true);
        check("Zm9vY", "foo", false);
        check("Zm!9v", "foo", false);
    }

    #[test]
    fn undoes_quoted_printable() {
        let check = |body, want, is_sound| check(Encoding::QuotedPrintable, body, want, is_sound);
        check("a=3Db=3d", "a=b=", true);
        check(
            "Now's the time =\r\nfor all.  \r\n \r\n",
            "Now\\'s the time for all.\\r\\n\\r\\n",
            true,
        );
        check("soft= \t\r\nbreak\n", "softbreak\\n", true);
        check("=C3=A4", "\\xc3\\xa4", true);
        check("a=xb", "a=xb", false);
        check("a=4", "a=4", false);
        check("end=", "end=", false);
        check("end ", "end", true);
    }

    #[test]
    fn is_the_same_over_all_cuts() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=24)?;
            let data: Vec<u8> = (0..len)
                .map(|_| u.choose(b"aF3=== \t\r\n\xff").copied())
                .collect::<Result<_, _>>()?;
            fuzz_decode(&data);
            Ok(())
        });
    }
}
