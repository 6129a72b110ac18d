//! Content types and the parameters of MIME fields (RFC 2045 §5.1, RFC 2183, RFC 2231 §3).
//!
//! ```text
//! value := type "/" subtype *( ";" name "=" ( token / quoted-string ) )
//! ```
//!
//! A value may hold spaces and slashes without quotes, as many programs write it: it goes on to
//! the next semicolon. Pieces of one parameter (`name*0`, `name*1*`) are put together the way
//! Dovecot does, so that clients see what they are used to: as `name` if all pieces are plain, as
//! `name*` in the extended form, charset and percent signs kept, if any piece is extended.

use super::lexer::{Lexer, trim};
use crate::model::limits::MIME_PARAMS_MAX;

/// The type of a part, as its field spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    pub kind: &'a [u8],
    pub subtype: &'a [u8],
    /// What follows them; see [`Params`].
    pub params: &'a [u8],
}

/// Reads a Content-Type; `None` if there are no two tokens with a slash between them.
pub fn content_type(value: &[u8]) -> Option<ContentType<'_>> {
    let mut lexer = Lexer::new(value);
    lexer.skip_space();
    let kind = lexer.token()?;
    lexer.skip_space();
    if !lexer.skip_if(b'/') {
        return None;
    }
    lexer.skip_space();
    let subtype = lexer.token()?;
    Some(ContentType { kind, subtype, params: lexer.rest() })
}

/// Reads one token and the parameters behind it: a Content-Disposition, a transfer encoding.
pub fn token_and_params(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut lexer = Lexer::new(value);
    lexer.skip_space();
    let token = lexer.token()?;
    Some((token, lexer.rest()))
}

/// Walks over parameters as they stand there, pieces apart; only the first [`MIME_PARAMS_MAX`].
#[derive(Clone, Debug)]
pub struct Params<'a> {
    lexer: Lexer<'a>,
    /// So many more are read.
    left: usize,
}

impl<'a> Params<'a> {
    pub fn new(params: &'a [u8]) -> Params<'a> {
        Params { lexer: Lexer::new(params), left: MIME_PARAMS_MAX }
    }

    /// The next name; its value is written over `value`, unquoted.
    pub fn next_into(&mut self, value: &mut Vec<u8>) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let lexer = &mut self.lexer;
        loop {
            lexer.skip_space();
            lexer.peek()?;
            let Some(name) = lexer.token() else {
                lexer.skip();
                continue;
            };
            lexer.skip_space();
            if !lexer.skip_if(b'=') {
                continue;
            }
            lexer.skip_space();
            value.clear();
            if lexer.peek() == Some(b'"') {
                lexer.quoted(value);
            } else {
                let plain = lexer.run(|octet| !matches!(octet, b';' | b'\r' | b'\n'));
                let plain = plain.split(|&octet| octet == b'(').next().unwrap_or_default();
                value.extend_from_slice(trim(plain));
            }
            return Some(name);
        }
    }
}

/// Looks one plain parameter up by its name, in any case; pieces (`name*0`) are put together.
/// Returns whether it is there; its value is written over `value`.
pub fn param(params: &[u8], wanted: &str, value: &mut Vec<u8>) -> bool {
    let mut walk = Params::new(params);
    let mut pieces = false;
    while let Some(name) = walk.next_into(value) {
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            return true;
        }
        pieces |= name.contains(&b'*');
    }
    value.clear();
    if pieces {
        for (name, joined) in joined(params) {
            if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                value.extend_from_slice(&joined);
                return true;
            }
        }
    }
    false
}

/// Calls `each` with the name and value of every parameter, pieces put together; plain ones come
/// first, in their order.
pub fn for_each_param(params: &[u8], mut each: impl FnMut(&[u8], &[u8])) {
    if !params.contains(&b'*') {
        let (mut walk, mut value) = (Params::new(params), Vec::new());
        while let Some(name) = walk.next_into(&mut value) {
            each(name, &value);
        }
        return;
    }
    for (name, value) in joined(params) {
        each(&name, &value);
    }
}

/// One piece of a parameter that was cut up (RFC 2231 §3).
struct Piece {
    name: Vec<u8>,
    index: u32,
    extended: bool,
    value: Vec<u8>,
}

/// The rare case: some name has a star.
fn joined(params: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut done, mut pieces) = (Vec::new(), Vec::new());
    let (mut walk, mut value) = (Params::new(params), Vec::new());
    while let Some(name) = walk.next_into(&mut value) {
        match piece(name) {
            Some((name, index, extended)) => {
                let name = name.to_ascii_lowercase();
                pieces.push(Piece { name, index, extended, value: value.clone() });
            }
            None => done.push((name.to_vec(), value.clone())),
        }
    }
    pieces.sort_by(|one, other| (&one.name, one.index).cmp(&(&other.name, other.index)));
    for group in pieces.chunk_by(|one, other| one.name == other.name) {
        let whole = group.iter().zip(0..).all(|(piece, index)| piece.index == index);
        let extended = group.iter().any(|piece| piece.extended);
        if whole {
            let mut value = Vec::new();
            if extended && !group[0].extended {
                value.extend_from_slice(b"''");
            }
            for piece in group {
                put_piece(piece, extended, &mut value);
            }
            let mut name = group[0].name.clone();
            name.extend_from_slice(if extended { b"*" } else { b"" });
            done.push((name, value));
        } else {
            // A piece is missing: what is there is shown as it is.
            for piece in group {
                let star = if piece.extended { "*" } else { "" };
                let mut name = piece.name.clone();
                name.extend_from_slice(format!("*{}{star}", piece.index).as_bytes());
                done.push((name, piece.value.clone()));
            }
        }
    }
    done
}

/// A plain piece beside extended ones has its percent signs escaped.
fn put_piece(piece: &Piece, extended: bool, out: &mut Vec<u8>) {
    if piece.extended || !extended {
        out.extend_from_slice(&piece.value);
        return;
    }
    for &octet in &piece.value {
        match octet {
            b'%' => out.extend_from_slice(b"%25"),
            _ => out.push(octet),
        }
    }
}

/// Splits `name*3*` into name, index, and whether it is extended; `None` for a plain name.
fn piece(name: &[u8]) -> Option<(&[u8], u32, bool)> {
    let star = name.iter().position(|&octet| octet == b'*')?;
    let (name, rest) = name.split_at(star);
    let rest = &rest[1..];
    if rest.is_empty() {
        return Some((name, 0, true));
    }
    let (digits, extended) = match rest.strip_suffix(b"*") {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let digits = std::str::from_utf8(digits).ok()?;
    let index = digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse());
    Some((name, index?.ok()?, extended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(value: &str, want: Expect) {
        let Some(found) = content_type(value.as_bytes()) else {
            return want.assert_eq("none");
        };
        let mut got = format!("{}/{}", found.kind.escape_ascii(), found.subtype.escape_ascii());
        for_each_param(found.params, |name, value| {
            write!(got, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        });
        want.assert_eq(&got);
    }

    #[test]
    fn reads_types_and_parameters() {
        check(" text/plain", expect!["text/plain"]);
        check(
            "TEXT / html ; Charset = \"a\\\"b\" (c);\r\n x=y z; n=a (c)",
            expect![[r#"TEXT/html Charset=a\"b x=y z n=a"#]],
        );
        check(
            "multipart/mixed; boundary=\"foo\r\n bar\"",
            expect!["multipart/mixed boundary=foo bar"],
        );
        check("text/plain;;; =x; charset; a=b", expect!["text/plain a=b"]);
        check("text", expect!["none"]);
        check("text/", expect!["none"]);
        check("", expect!["none"]);
    }

    #[test]
    fn puts_pieces_together() {
        // RFC 2231 §3 and §4.1.
        check(
            "message/external-body; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/x\"",
            expect!["message/external-body url=ftp://cs.utk.edu/x"],
        );
        check(
            "application/x-stuff; title*0*=us-ascii'en'This%20is%20; title*1*=%2A%2A%2Afun; \
             title*2=\" isn't 5%!\"; a=b",
            expect![
                "application/x-stuff a=b title*=us-ascii\\'en\\'This%20is%20%2A%2A%2Afun isn\\'t 5%25!"
            ],
        );
        check("a/b; name*=utf-8''x%20y", expect!["a/b name*=utf-8\\'\\'x%20y"]);
        check("a/b; n*1=x; n*2*=y; m*x=z", expect!["a/b m*x=z n*1=x n*2*=y"]);
    }

    #[test]
    fn their_number_has_a_bound() {
        let mut count = 0;
        for_each_param("; n*9=x; a=b".repeat(MIME_PARAMS_MAX).as_bytes(), |_, _| count += 1);
        assert_eq!(count, MIME_PARAMS_MAX);
    }

    #[test]
    fn looks_one_up() {
        let mut value = Vec::new();
        assert!(param(b"; a=1; BOUNDARY=\"b\"", "boundary", &mut value));
        assert_eq!(value, b"b");
        assert!(param(b"; boundary*1=y; boundary*0=x", "boundary", &mut value));
        assert_eq!(value, b"xy");
        assert!(!param(b"; bound=1", "boundary", &mut value) && value.is_empty());
    }
}
