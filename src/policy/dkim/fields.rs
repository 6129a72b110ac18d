//! Which header fields are signed, and in which order they are read (RFC 6376 §5.4).

use super::canon::put_field;
use crate::model::limits::DKIM_FIELDS_MAX;
use crate::wire::message::fields::{Field, fields};

/// How often a field stands in a message (RFC 5322 §3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Often {
    /// At most once. It is named once more than it is there, so that nobody puts another one on top
    /// that readers would show instead (RFC 6376 §8.15).
    Once,
    Any,
}

/// What a reader sees or acts on (RFC 6376 §5.4.1), and what is left alone on the way. Resent fields
/// and Received belong to who adds them.
const SIGNED: [(&str, Often); 29] = [
    ("from", Often::Once),
    ("sender", Often::Once),
    ("reply-to", Often::Once),
    ("to", Often::Once),
    ("cc", Often::Once),
    ("subject", Often::Once),
    ("date", Often::Once),
    ("message-id", Often::Once),
    ("in-reply-to", Often::Once),
    ("references", Often::Once),
    ("mime-version", Often::Once),
    ("content-type", Often::Once),
    ("content-transfer-encoding", Often::Once),
    ("content-id", Often::Any),
    ("content-description", Often::Any),
    ("content-disposition", Often::Any),
    ("content-language", Often::Any),
    ("auto-submitted", Often::Any),
    ("list-id", Often::Any),
    ("list-help", Often::Any),
    ("list-unsubscribe", Often::Any),
    ("list-unsubscribe-post", Often::Any),
    ("list-subscribe", Often::Any),
    ("list-post", Often::Any),
    ("list-owner", Often::Any),
    ("list-archive", Often::Any),
    // RFC 8460 §5.3.
    ("tls-report-domain", Often::Any),
    ("tls-report-submitter", Often::Any),
    // RFC 8689 §3.
    ("tls-required", Often::Any),
];

/// A header without From, or with more fields than a signature names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotNamed;

/// The names for `h=`: each as often as it is there, and once more where there may be one only.
pub(super) fn choose(header: &[u8]) -> Result<Vec<&'static str>, NotNamed> {
    let mut counts = [0_usize; SIGNED.len()];
    for Field { name, .. } in fields(header) {
        let is_it = |(signed, _): &(&str, Often)| {
            header[name.clone()].eq_ignore_ascii_case(signed.as_bytes())
        };
        if let Some(index) = SIGNED.iter().position(is_it) {
            counts[index] += 1;
        }
    }
    let named = SIGNED.iter().zip(counts).flat_map(|((name, often), count)| {
        let more = usize::from(*often == Often::Once && count > 0);
        std::iter::repeat_n(*name, count + more)
    });
    let named: Vec<&str> = named.take(DKIM_FIELDS_MAX + 1).collect();
    // RFC 6376 §5.4: From has to be signed. One that is not there stands first in no list.
    if named.first() != Some(&"from") || named.len() > DKIM_FIELDS_MAX {
        return Err(NotNamed);
    }
    Ok(named)
}

/// Writes the fields that are named, relaxed, with their line ends: of several of one name the last
/// one first, and nothing for one that is not there (RFC 6376 §5.4.2).
pub(super) fn put_named<'n>(
    header: &[u8],
    named: impl IntoIterator<Item = &'n [u8]>,
    out: &mut Vec<u8>,
) {
    let all: Vec<Field> = fields(header).collect();
    let mut is_used = vec![false; all.len()];
    for name in named {
        let is_next = |index: &usize| {
            let found = &header[all[*index].name.clone()];
            !is_used[*index] && found.eq_ignore_ascii_case(name)
        };
        if let Some(index) = (0..all.len()).rev().find(is_next) {
            is_used[index] = true;
            put_field(name, &header[all[index].value.clone()], out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(header: &str) -> String {
        choose(header.as_bytes()).map_or("none".into(), |names| names.join(":"))
    }

    #[test]
    fn names_what_readers_see_once_more_than_it_is_there() {
        let header = "X: y\r\nSUBJECT: a\r\nFrom: a@b\r\nList-Id: x\r\nReceived: z\r\n";
        assert_eq!(chosen(header), "from:from:subject:subject:list-id");
        assert_eq!(chosen("To: a\r\nFrom: x\r\nTo: b\r\n"), "from:from:to:to:to");
        assert_eq!(chosen("To: a\r\n"), "none");
        assert_eq!(chosen(&format!("From: a\r\n{}", "To: a\r\n".repeat(100))), "none");
    }

    #[test]
    fn reads_from_below() {
        let header = "To: 1\r\nFrom: x\r\nto: 2\r\n b\r\n\r\n";
        let mut out = Vec::new();
        put_named(header.as_bytes(), [&b"to"[..], b"to", b"to", b"from", b"cc"], &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "to:2 b\r\nto:1\r\nfrom:x\r\n");
    }
}
