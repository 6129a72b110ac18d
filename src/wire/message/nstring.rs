//! Strings of IMAP as ENVELOPE and BODYSTRUCTURE hold them (RFC 9051 §4.3, §9 `nstring`).
//!
//! Quoted where that is allowed to every client: ASCII without line ends. All else is a literal,
//! which may hold UTF-8 before it was enabled. NUL is allowed nowhere; it becomes 0x80, as Dovecot
//! has it.

/// Has a backslash before it in quotes.
const ESCAPED: u8 = 1;
/// May stand in a literal alone.
const UNQUOTABLE: u8 = 2;
/// May stand nowhere.
const NUL: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut octet = 0x80;
    while octet < 256 {
        classes[octet] = UNQUOTABLE;
        octet += 1;
    }
    classes[b'\r' as usize] = UNQUOTABLE;
    classes[b'\n' as usize] = UNQUOTABLE;
    classes[0] = UNQUOTABLE | NUL;
    classes[b'"' as usize] = ESCAPED;
    classes[b'\\' as usize] = ESCAPED;
    classes
};

/// A string that is being written: its text is appended to the output, then [`Open::close`]d.
#[must_use]
pub(super) struct Open {
    at: usize,
}

impl Open {
    pub(super) fn new(out: &mut Vec<u8>) -> Open {
        out.push(b'"');
        Open { at: out.len() - 1 }
    }

    /// Makes what was appended since [`Open::new`] a string.
    pub(super) fn close(self, out: &mut Vec<u8>) {
        let start = self.at + 1;
        let classes = out[start..].iter().fold(0, |all, octet| all | CLASSES[usize::from(*octet)]);
        if classes == 0 {
            out.push(b'"');
            return;
        }
        if classes & NUL != 0 {
            out[start..].iter_mut().filter(|octet| **octet == 0).for_each(|octet| *octet = 0x80);
        }
        if classes & UNQUOTABLE != 0 {
            let len = out.len() - start;
            let head = format!("{{{len}}}\r\n");
            out.splice(self.at..start, head.into_bytes());
            return;
        }
        let escapes = out[start..].iter().filter(|octet| matches!(octet, b'"' | b'\\')).count();
        if escapes > 0 {
            // From the end to the begin, so that each octet moves once.
            let mut from = out.len();
            out.resize(from + escapes, 0);
            let mut to = out.len();
            while to > from {
                from -= 1;
                to -= 1;
                out[to] = out[from];
                if matches!(out[to], b'"' | b'\\') {
                    to -= 1;
                    out[to] = b'\\';
                }
            }
        }
        out.push(b'"');
    }
}

pub(super) fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let open = Open::new(out);
    out.extend_from_slice(text);
    open.close(out);
}

pub(super) fn put_nil(out: &mut Vec<u8>) {
    out.extend_from_slice(b"NIL");
}

/// A number in digits.
pub(super) fn put_number(number: u32, out: &mut Vec<u8>) {
    let (mut digits, mut at, mut rest) = ([0; 10], 10, number);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Reads back what this module writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { rest: text }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Passes over `octet` if it is the next.
    pub(super) fn skip_if(&mut self, octet: u8) -> bool {
        let is = self.peek() == Some(octet);
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }

    /// A string with its marks, `NIL`, or a number: as it stands there.
    pub(super) fn raw(&mut self) -> Option<&'a [u8]> {
        let len = match self.peek()? {
            b'"' => {
                let mut at = 1;
                loop {
                    match self.rest.get(at)? {
                        b'"' => break at + 1,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
            }
            b'{' => {
                let end = self.rest.iter().position(|&octet| octet == b'}')?;
                let len = std::str::from_utf8(&self.rest[1..end]).ok()?.parse::<usize>().ok()?;
                end + 3 + len
            }
            _ => {
                let is_end = |octet: &u8| matches!(octet, b' ' | b'(' | b')');
                self.rest.iter().position(is_end).unwrap_or(self.rest.len())
            }
        };
        let (front, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(front).filter(|text| !text.is_empty())
    }

    /// Passes over one string or one list with all that is in it.
    pub(super) fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'(' => {
                    depth += 1;
                    self.skip_if(b'(');
                }
                b')' => {
                    depth = depth.checked_sub(1)?;
                    self.skip_if(b')');
                }
                b' ' if depth > 0 => {
                    self.skip_if(b' ');
                }
                _ => {
                    self.raw()?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// The value of a string as [`Reader::raw`] returns it, appended to `out`; false for `NIL`.
pub(super) fn put_value(raw: &[u8], out: &mut Vec<u8>) -> bool {
    match raw {
        [b'"', inner @ .., b'"'] => {
            let mut rest = inner;
            while let Some(at) = memchr::memchr(b'\\', rest) {
                out.extend_from_slice(&rest[..at]);
                rest = &rest[at + 1..];
                if let [escaped, more @ ..] = rest {
                    out.push(*escaped);
                    rest = more;
                }
            }
            out.extend_from_slice(rest);
            true
        }
        [b'{', ..] => {
            let start = memchr::memchr(b'\n', raw).map_or(raw.len(), |lf| lf + 1);
            out.extend_from_slice(&raw[start..]);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], want: &str) {
        let mut out = b"x".to_vec();
        put_string(text, &mut out);
        assert_eq!(out[1..].escape_ascii().to_string(), want);
        let raw = Reader::new(&out[1..]).raw().unwrap();
        assert_eq!(raw, &out[1..]);
        let mut back = Vec::new();
        assert!(put_value(raw, &mut back));
        if !text.contains(&0) {
            assert_eq!(back, text);
        }
    }

    #[test]
    fn writes_quoted_strings_and_literals() {
        check(b"", r#"\"\""#);
        check(b"a b", r#"\"a b\""#);
        check(br#""a\b""#, r#"\"\\\"a\\\\b\\\"\""#);
        check("\u{e9}".as_bytes(), r"{2}\r\n\xc3\xa9");
        check(b"a\0", r"{2}\r\na\x80");
        check(b"a\r\nb", r"{4}\r\na\r\nb");
        let mut out = Vec::new();
        put_number(0, &mut out);
        put_number(u32::MAX, &mut out);
        assert_eq!(out, b"04294967295");
    }
}
