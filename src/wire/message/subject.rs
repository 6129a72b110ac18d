//! The base subject: what is left of a subject when replies and lists have had their way with it
//! (RFC 5256 §2.1).
//!
//! ```text
//! leader  := ( *blob refwd ) / WSP        refwd   := ( "re" / "fw" / "fwd" ) *WSP [ blob ] ":"
//! blob    := "[" *( any but "[" "]" ) "]" *WSP
//! trailer := "(fwd)" / WSP
//! ```

use super::casemap::fold;
use super::envelope::put_spaced;
use super::words::put_decoded;
use crate::model::limits::{BASE_SUBJECT_OCTETS_MAX, SUBJECT_OCTETS_READ_MAX};

/// What SORT and THREAD want of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSubject {
    /// Folded by [`super::casemap`], at most [`BASE_SUBJECT_OCTETS_MAX`]: to compare, not to show.
    pub folded: Vec<u8>,
    /// Something was taken off that says it is a reply or was forwarded.
    pub is_reply: bool,
}

/// The base subject of the value of a Subject field, of which the first
/// [`SUBJECT_OCTETS_READ_MAX`] octets count.
pub fn base_subject(value: &[u8]) -> BaseSubject {
    let value = &value[..value.len().min(SUBJECT_OCTETS_READ_MAX)];
    let mut spaced = Vec::with_capacity(value.len());
    put_spaced(value, &mut spaced);
    let mut text = String::with_capacity(spaced.len());
    put_decoded(&spaced, &mut text);
    let (base, is_reply) = strip(&text);
    let mut folded = Vec::with_capacity(base.len());
    fold(base, &mut folded);
    folded.truncate(BASE_SUBJECT_OCTETS_MAX);
    BaseSubject { folded, is_reply }
}

/// Steps 2 to 6. Each round takes something off the front or the end.
fn strip(text: &str) -> (&str, bool) {
    let (mut rest, mut is_reply) = (text, false);
    loop {
        // Step 2.
        loop {
            rest = rest.trim_end_matches([' ', '\t', '\r', '\n']);
            match strip_end(rest, "(fwd)") {
                Some(more) => (rest, is_reply) = (more, true),
                None => break,
            }
        }
        // Steps 3 to 5.
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            match leader(rest) {
                Some(more) => (rest, is_reply) = (more, true),
                None => break,
            }
        }
        // No leader stands behind the blobs either, or it would have been found.
        while let Some(more) = blob(rest).filter(|more| !more.is_empty()) {
            rest = more;
        }
        // Step 6.
        match strip_start(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => (rest, is_reply) = (inner, true),
            None => return (rest, is_reply),
        }
    }
}

/// Behind `*blob refwd`.
fn leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(more) = blob(rest) {
        rest = more;
    }
    let rest = ["re", "fwd", "fw"].iter().find_map(|word| strip_start(rest, word))?;
    let rest = rest.trim_start_matches([' ', '\t']);
    blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// Behind one blob.
fn blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let at = inner.find(['[', ']'])?;
    let rest = inner.get(at..)?.strip_prefix(']')?;
    Some(rest.trim_start_matches([' ', '\t']))
}

fn strip_start<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (front, rest) = text.split_at_checked(word.len())?;
    front.eq_ignore_ascii_case(word).then_some(rest)
}

fn strip_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(word.len())?)?;
    end.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subject: &str, want: &str, is_reply: bool) {
        let found = base_subject(subject.as_bytes());
        assert_eq!((std::str::from_utf8(&found.folded).unwrap(), found.is_reply), (want, is_reply));
    }

    #[test]
    fn takes_off_what_the_rfc_says() {
        check("hello", "HELLO", false);
        check("Re: hello", "HELLO", true);
        check(" re : [list] FW[3]:  a \t b (fwd) (FWD) ", "A B", true);
        check("[list] [x] hello", "HELLO", false);
        check("[list] Re: hello", "HELLO", true);
        check("[only]", "[ONLY]", false);
        check("Re: [only]", "[ONLY]", true);
        check("[Fwd: [list] Re: hello (fwd)]", "HELLO", true);
        check("[fwd: a", "[FWD: A", false);
        check("Re:", "", true);
        check("", "", false);
        check("reply: x", "REPLY: X", false);
        check("=?utf-8?q?Re=3A_=C3=A9?=", "E\u{301}", true);
        check("[[a] b", "[[A] B", false);
    }

    #[test]
    fn is_bounded() {
        let long = base_subject(&b"[a]".repeat(1_000)).folded;
        assert_eq!(long, b"[A]");
        let long = base_subject(&b"a".repeat(100_000)).folded;
        assert_eq!(long.len(), BASE_SUBJECT_OCTETS_MAX);
    }
}
