//! The parts of a report as MIME: what may stand in them as it is, and what has to be encoded.

use crate::model::limits::LINE_OCTETS_SENT_MAX;
use crate::wire::message::quoted::put_quoted;
use memchr::memmem;

/// How octets may travel as they are (RFC 2045 §2.7 to §2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines of ASCII.
    Seven,
    /// Lines.
    Eight,
    /// Anything: NUL, lone CR and LF, lines that are too long.
    Binary,
}

/// See [`Kind`].
pub(super) fn kind_of(octets: &[u8]) -> Kind {
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        let line = match end {
            None => line,
            Some(_) => match line.strip_suffix(b"\r") {
                Some(line) => line,
                None => return Kind::Binary,
            },
        };
        if line.len() > LINE_OCTETS_SENT_MAX || memchr::memchr2(b'\r', 0, line).is_some() {
            return Kind::Binary;
        }
        rest = end.map_or(&[], |lf| &rest[lf + 1..]);
    }
    if octets.is_ascii() { Kind::Seven } else { Kind::Eight }
}

/// A boundary that no line of these begins with: what comes back was written by somebody who may know
/// how we name things.
pub(super) fn boundary(name: &str, parts: &[&[u8]]) -> String {
    let mut boundary = format!("=_{name}");
    let mut number = 0;
    while parts.iter().any(|part| memmem::find(part, boundary.as_bytes()).is_some()) {
        number += 1;
        boundary = format!("=_{number}_{name}");
    }
    boundary
}

/// Writes a part with its header, encoded where it has to be.
pub(super) fn put_part(
    boundary: &str,
    kind: &str,
    content: &[u8],
    take_8bit: bool,
    out: &mut Vec<u8>,
) {
    let encoding = match kind_of(content) {
        Kind::Seven => None,
        Kind::Eight if take_8bit => Some("8bit"),
        Kind::Eight | Kind::Binary => Some("quoted-printable"),
    };
    out.extend_from_slice(format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n").as_bytes());
    if let Some(encoding) = encoding {
        out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if encoding == Some("quoted-printable") {
        put_quoted(content, out);
    } else {
        out.extend_from_slice(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_lines_from_anything_else() {
        for (octets, kind) in [
            (&b"a\r\n\r\nb"[..], Kind::Seven),
            (b"", Kind::Seven),
            ("и\r\n".as_bytes(), Kind::Eight),
            (b"a\nb\r\n", Kind::Binary),
            (b"a\rb\r\n", Kind::Binary),
            (b"a\0\r\n", Kind::Binary),
            (b"a\r", Kind::Binary),
        ] {
            assert_eq!(kind_of(octets), kind, "{}", octets.escape_ascii());
        }
        let line = "x".repeat(LINE_OCTETS_SENT_MAX);
        assert_eq!(kind_of(format!("{line}\r\n").as_bytes()), Kind::Seven);
        assert_eq!(kind_of(format!("{line}x\r\n").as_bytes()), Kind::Binary);
    }

    #[test]
    fn takes_a_boundary_that_is_nowhere_else() {
        assert_eq!(boundary("1.2", &[b"a"]), "=_1.2");
        assert_eq!(boundary("1.2", &[b"a", b"--=_1.2--\r\n--=_1_1.2"]), "=_2_1.2");
    }
}
