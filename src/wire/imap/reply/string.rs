//! Strings in replies: atom, quoted or literal, whichever may hold them (RFC 9051 §4.3).

use crate::bytes::chain::Chain;
use crate::wire::imap::scan::is_astring_char;
use crate::wire::pop3::put_number;

/// Octets of a string that is quoted; a longer one becomes a literal, since clients read lines
/// into buffers.
const QUOTED_OCTETS_MAX: usize = 1_000;

/// Announces a literal of so many octets, which must follow.
pub fn put_literal(out: &mut Chain, octets: u64) {
    out.put(b"{");
    put_number(out, octets);
    out.put(b"}\r\n");
}

/// Announces a literal that may hold NUL (RFC 3516 §4.4).
pub fn put_literal8(out: &mut Chain, octets: u64) {
    out.put(b"~");
    put_literal(out, octets);
}

/// Quoted if it can be, else a literal. NUL, which no string may hold, becomes `?`.
pub fn put_string(out: &mut Chain, text: &[u8], utf8: bool) {
    let plain = |octet: &u8| matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
    if text.len() <= QUOTED_OCTETS_MAX && text.iter().all(plain) {
        out.put(b"\"");
        out.put(text);
        out.put(b"\"");
        return;
    }
    put_other_string(out, text, utf8);
}

fn put_other_string(out: &mut Chain, text: &[u8], utf8: bool) {
    let control = text.iter().any(u8::is_ascii_control);
    let text_too = text.is_ascii() || utf8 && std::str::from_utf8(text).is_ok();
    if control || !text_too || text.len() > QUOTED_OCTETS_MAX {
        put_literal(out, crate::bytes::codec::to_u64(text.len()));
        for (index, part) in text.split(|&octet| octet == 0).enumerate() {
            if index > 0 {
                out.put(b"?");
            }
            out.put(part);
        }
        return;
    }
    out.put(b"\"");
    for part in text.split_inclusive(|octet| matches!(octet, b'"' | b'\\')) {
        match part.split_last() {
            Some((&last @ (b'"' | b'\\'), front)) => {
                out.put(front);
                out.put(&[b'\\', last]);
            }
            _ => out.put(part),
        }
    }
    out.put(b"\"");
}

/// A string, or NIL.
pub fn put_nstring(out: &mut Chain, text: Option<&[u8]>, utf8: bool) {
    match text {
        Some(text) => put_string(out, text, utf8),
        None => out.put(b"NIL"),
    }
}

/// As it stands if it is an atom and not NIL, else a string.
pub fn put_astring(out: &mut Chain, text: &[u8], utf8: bool) {
    let atom = !text.is_empty() && text.iter().all(|&octet| is_astring_char(octet));
    if atom && text.len() <= QUOTED_OCTETS_MAX && !text.eq_ignore_ascii_case(b"NIL") {
        out.put(text);
    } else {
        put_string(out, text, utf8);
    }
}
