//! One header in one pass: where the end is, and where the fields lie that anybody asks for.
//!
//! [`super::fields`] walks over all fields; this knows twenty of them by name and keeps the value
//! of the first of each, without allocating. A field that comes twice counts once: RFC 5322 §3.6
//! allows one, and one reader must not see another than the next. Only the recipients of all fields
//! are put together ([`Head::more_values`]), as RFC 5322 §4.5.3 asks.

use super::fields::{Field, fields, is_empty};
use crate::bytes::codec::to_u32;
use memchr::memchr;
use std::ops::Range;

/// The fields that a [`Head`] points at. The numbers stand in summaries of version 1: never give
/// one anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FieldKind {
    Date = 1,
    Subject = 2,
    From = 3,
    Sender = 4,
    ReplyTo = 5,
    To = 6,
    Cc = 7,
    Bcc = 8,
    InReplyTo = 9,
    MessageId = 10,
    References = 11,
    MimeVersion = 12,
    ContentType = 13,
    ContentTransferEncoding = 14,
    ContentDisposition = 15,
    ContentId = 16,
    ContentDescription = 17,
    ContentLanguage = 18,
    ContentLocation = 19,
    ContentMd5 = 20,
}

const KINDS: usize = 20;

impl FieldKind {
    /// The kind of field that `name` names, in any case.
    pub fn of(name: &[u8]) -> Option<FieldKind> {
        // The length alone leaves at most two; most fields of a header (Received, X-…) end here.
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let either = |one: FieldKind, name: &str| is(name).then_some(one);
        match name.len() {
            2 => either(FieldKind::To, "To").or_else(|| either(FieldKind::Cc, "Cc")),
            3 => either(FieldKind::Bcc, "Bcc"),
            4 => either(FieldKind::Date, "Date").or_else(|| either(FieldKind::From, "From")),
            6 => either(FieldKind::Sender, "Sender"),
            7 => either(FieldKind::Subject, "Subject"),
            8 => either(FieldKind::ReplyTo, "Reply-To"),
            10 => either(FieldKind::MessageId, "Message-ID")
                .or_else(|| either(FieldKind::References, "References"))
                .or_else(|| either(FieldKind::ContentId, "Content-ID")),
            11 => either(FieldKind::InReplyTo, "In-Reply-To")
                .or_else(|| either(FieldKind::ContentMd5, "Content-MD5")),
            12 => either(FieldKind::ContentType, "Content-Type")
                .or_else(|| either(FieldKind::MimeVersion, "MIME-Version")),
            16 => either(FieldKind::ContentLanguage, "Content-Language")
                .or_else(|| either(FieldKind::ContentLocation, "Content-Location")),
            19 => either(FieldKind::ContentDisposition, "Content-Disposition")
                .or_else(|| either(FieldKind::ContentDescription, "Content-Description")),
            25 => either(FieldKind::ContentTransferEncoding, "Content-Transfer-Encoding"),
            _ => None,
        }
    }
}

/// See the header of this file. Offsets count from the first octet of the message, which must be
/// shorter than [`crate::model::limits::MESSAGE_OCTETS_SUMMARY_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Value of the first field of each kind; a value never begins at octet 0.
    values: [(u32, u32); KINDS],
    /// One bit for each kind: there are more fields of it.
    again: u32,
}

/// How a header ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadEnd {
    /// First octet behind the header, its empty line included.
    pub end: usize,
    /// It was cut off by a line that the caller wanted to stop at; that line begins at `end`.
    pub stopped: bool,
}

impl Head {
    /// The header at the begin of `message`, and where it ends.
    pub fn of(message: &[u8]) -> (Head, usize) {
        let (head, end) = Head::scan(message, 0, |_| false);
        (head, end.end)
    }

    /// The header that begins at octet `start`. A line that begins with `--` ends it when `stops`
    /// says so of its first octet: it is the boundary of some multipart around (RFC 2046 §5.1.1).
    pub fn scan(
        message: &[u8],
        start: usize,
        mut stops: impl FnMut(usize) -> bool,
    ) -> (Head, HeadEnd) {
        let mut head = Head::default();
        let mut open: Option<usize> = None;
        let mut at = start;
        while at < message.len() {
            let rest = &message[at..];
            let len = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
            let line = &rest[..len];
            match line[0] {
                b' ' | b'\t' => {
                    if let Some(index) = open {
                        head.values[index].1 = to_u32(at + content_len(line));
                    }
                }
                b'\r' | b'\n' if is_empty(line) => {
                    return (head, HeadEnd { end: at + len, stopped: false });
                }
                b'-' if line.starts_with(b"--") && stops(at) => {
                    return (head, HeadEnd { end: at, stopped: true });
                }
                _ => open = head.begin(line, at),
            }
            at += len;
        }
        (head, HeadEnd { end: message.len().max(start), stopped: false })
    }

    /// Takes the first line of a field; returns the place of its value if it is one to keep.
    fn begin(&mut self, line: &[u8], at: usize) -> Option<usize> {
        // Only these begin a name that we know; all others are not even measured.
        if !matches!(line[0] | 0x20, b'b' | b'c' | b'd' | b'f' | b'i' | b'm' | b'r' | b's' | b't') {
            return None;
        }
        let colon = memchr(b':', line)?;
        // A name that is known has no octet that a name may not have.
        let len = line[..colon].iter().rposition(|octet| !matches!(octet, b' ' | b'\t'))? + 1;
        let index = usize::from(FieldKind::of(&line[..len])? as u8) - 1;
        if self.values[index].0 != 0 {
            self.again |= 1 << index;
            return None;
        }
        self.values[index] = (to_u32(at + colon + 1), to_u32(at + content_len(line)));
        Some(index)
    }

    /// The place of the value of the first such field, as in [`super::fields::Field::value`].
    pub fn range(&self, kind: FieldKind) -> Option<Range<usize>> {
        let (start, end) = self.values[usize::from(kind as u8) - 1];
        let wide = |value: u32| crate::bytes::codec::to_usize(u64::from(value));
        (start != 0).then(|| wide(start)..wide(end))
    }

    /// The value of the first such field, out of the message that was scanned.
    pub fn value<'a>(&self, message: &'a [u8], kind: FieldKind) -> Option<&'a [u8]> {
        message.get(self.range(kind)?)
    }

    /// The values behind the first; `message` is the one that was scanned, and has this header's
    /// empty line or ends with the header.
    pub fn more_values<'a>(
        &self,
        message: &'a [u8],
        kind: FieldKind,
    ) -> impl Iterator<Item = &'a [u8]> {
        let is_more = self.again & (1 << (kind as u8 - 1)) != 0;
        let first = self.range(kind).filter(|_| is_more);
        let rest = first.and_then(|first| {
            let rest = message.get(first.end..)?;
            rest.get(memchr(b'\n', rest)? + 1..)
        });
        let rest = rest.unwrap_or_default();
        let is = move |field: &Field| FieldKind::of(&rest[field.name.clone()]) == Some(kind);
        fields(rest).filter(is).map(|field| &rest[field.value])
    }
}

/// Octets of `line` without its line end.
fn content_len(line: &[u8]) -> usize {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use super::super::fields::header_len;
    use super::*;

    /// The walk over all fields is the oracle.
    #[track_caller]
    fn check(message: &[u8]) {
        let (head, end) = Head::of(message);
        assert_eq!(end, header_len(message));
        let mut first = Head::default();
        for field in fields(message) {
            if let Some(kind) = FieldKind::of(&message[field.name]) {
                let value = &mut first.values[usize::from(kind as u8) - 1];
                if value.0 != 0 {
                    first.again |= 1 << (kind as u8 - 1);
                } else {
                    let end = field.value.start + content_len(&message[field.value.clone()]);
                    *value = (to_u32(field.value.start), to_u32(end.max(field.value.start)));
                }
            }
        }
        assert_eq!(head, first, "{}", message.escape_ascii());
    }

    #[test]
    fn keeps_the_first_of_each_kind() {
        check(b"Received: x\r\nTO : a\r\n b\r\nTo: c\r\nContent-type:text/plain\n\nFrom: body");
        check(b"To:\r\nFrom: a\r\n");
        check(b"");
        let message = b"To: a\r\n b\r\nCc: c\r\nTO: d\r\n e\r\nto:\r\n\r\nTo: f";
        let head = Head::of(message).0;
        let more = |kind| head.more_values(message, kind).collect::<Vec<_>>();
        assert_eq!(more(FieldKind::To), [&b" d\r\n e"[..], b""]);
        assert_eq!((more(FieldKind::Cc), more(FieldKind::Bcc)), (vec![], vec![]));
    }

    #[test]
    fn agrees_with_the_walk_over_all_fields() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=20)?;
            let words = ["To", "Date", "content-MD5", ":", " ", "\r\n", "\r\n", "x", "\n", "é"];
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            check(text.as_bytes());
            Ok(())
        });
    }

    #[test]
    fn stops_where_it_is_told() {
        let text = b"A: b\r\n--x\r\nTo: c\r\n\r\n";
        let (head, end) = Head::scan(text, 0, |at| text[at..].starts_with(b"--x"));
        assert_eq!(end, HeadEnd { end: 6, stopped: true });
        assert_eq!(head, Head::default());
    }
}
