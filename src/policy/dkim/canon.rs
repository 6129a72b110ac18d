//! The relaxed forms of a header field and of a body (RFC 6376 §3.4.2, §3.4.4): what is left of them
//! when white space does not count.

/// How much of the relaxed body is handed on at once.
const BLOCK_OCTETS: usize = 8 << 10;

/// Writes a field in its relaxed form, without a line end. `value` is what stands behind the colon.
pub(super) fn put_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut has_space = false;
    let mut rest = value;
    while let Some((&octet, more)) = rest.split_first() {
        rest = more;
        match octet {
            b' ' | b'\t' => has_space = true,
            // A fold: the line end goes, the space behind it stays.
            b'\r' if more.first() == Some(&b'\n') => {}
            b'\n' => {}
            _ => {
                if has_space && out.len() > start {
                    out.push(b' ');
                }
                has_space = false;
                out.push(octet);
            }
        }
    }
}

/// A body on its way through, in pieces of any size; `out` gets the relaxed form in pieces as well.
pub(super) struct Body<F> {
    out: F,
    block: Vec<u8>,
    /// Line ends that count only if something follows them.
    ends: u64,
    /// White space that counts only if something follows it in the line.
    has_space: bool,
    /// A CR that may be half of a line end.
    has_cr: bool,
    /// There is something in the body but empty lines.
    has_content: bool,
}

impl<F: FnMut(&[u8])> Body<F> {
    pub(super) fn new(out: F) -> Body<F> {
        let block = Vec::with_capacity(BLOCK_OCTETS + 8);
        Body { out, block, ends: 0, has_space: false, has_cr: false, has_content: false }
    }

    pub(super) fn feed(&mut self, octets: &[u8]) {
        for &octet in octets {
            if std::mem::take(&mut self.has_cr) {
                if octet == b'\n' {
                    self.ends += 1;
                    self.has_space = false;
                    continue;
                }
                self.put(b'\r');
            }
            match octet {
                b' ' | b'\t' => self.has_space = true,
                b'\r' => self.has_cr = true,
                _ => self.put(octet),
            }
        }
    }

    /// The end: a line that is open gets its line end, empty lines at the end are left out.
    pub(super) fn end(mut self) {
        if std::mem::take(&mut self.has_cr) {
            self.put(b'\r');
        }
        if self.has_content {
            self.block.extend_from_slice(b"\r\n");
        }
        (self.out)(&self.block);
    }

    fn put(&mut self, octet: u8) {
        while self.ends > 0 {
            self.ends -= 1;
            self.block.extend_from_slice(b"\r\n");
            self.flush();
        }
        if std::mem::take(&mut self.has_space) {
            self.block.push(b' ');
        }
        self.block.push(octet);
        self.has_content = true;
        self.flush();
    }

    fn flush(&mut self) {
        if self.block.len() >= BLOCK_OCTETS {
            (self.out)(&self.block);
            self.block.clear();
        }
    }
}

/// Laws: however a body is cut, its form is the same; the form of a form is itself.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_relaxed(data: &[u8]) {
    fn form(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Body::new(|octets: &[u8]| out.extend_from_slice(octets));
        for piece in pieces {
            body.feed(piece);
        }
        body.end();
        out
    }
    let whole = form(&[data]);
    let (front, back) = data.split_at(data.len() / 3);
    assert_eq!(form(&[front, back]), whole, "cuts change nothing");
    assert_eq!(form(&[&whole]), whole, "it is done once");
    assert!(whole.is_empty() || whole.ends_with(b"\r\n"), "it ends with a line end");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> String {
        let mut out = Vec::new();
        put_field(name.as_bytes(), value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn body(text: &str) -> String {
        let mut out = Vec::new();
        let mut body = Body::new(|octets: &[u8]| out.extend_from_slice(octets));
        body.feed(text.as_bytes());
        body.end();
        String::from_utf8(out).unwrap()
    }

    /// The examples of RFC 6376 §3.4.5.
    #[test]
    fn relaxes_as_the_rfc_does() {
        assert_eq!(field("A", " X"), "a:X");
        assert_eq!(field("B ", " Y\t\r\n\tZ  ").replacen("b ", "b", 1), "b:Y Z");
        assert_eq!(body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
    }

    #[test]
    fn relaxes_fields() {
        assert_eq!(field("SUBJect", "\ta  b \r\n c\r\n\td\t \t"), "subject:a b c d");
        assert_eq!(field("X", ""), "x:");
        assert_eq!(field("X", " \r\n \t"), "x:");
    }

    #[test]
    fn relaxes_bodies() {
        for (text, want) in [
            ("", ""),
            ("\r\n\r\n", ""),
            (" \t\r\n\r\n", ""),
            ("\r\n \r\na", "\r\n\r\na\r\n"),
            ("a", "a\r\n"),
            ("a \t ", "a\r\n"),
            ("a\r\n \r\n\r\nb \r\n \r\n", "a\r\n\r\n\r\nb\r\n"),
            // What is no line end is an octet as any other.
            ("a\rb\nc\r", "a\rb\nc\r\r\n"),
            ("a \r b\r\r\n", "a \r b\r\r\n"),
        ] {
            assert_eq!(body(text), want, "{text:?}");
        }
    }

    #[test]
    fn is_independent_of_how_it_is_cut() {
        arbtest::arbtest(|u| {
            let octets = b"ab \t\r\n\r\n";
            let length = u.int_in_range(0..=64)?;
            let text =
                (0..length).map(|_| u.choose(octets).copied()).collect::<Result<Vec<_>, _>>();
            fuzz_relaxed(&text?);
            Ok(())
        });
        let long = "word \t word\r\n\r\n".repeat(10_000);
        fuzz_relaxed(long.as_bytes());
        assert_eq!(body(&long), format!("{}word word\r\n", "word word\r\n\r\n".repeat(9_999)));
    }
}
