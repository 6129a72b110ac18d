//! Sections of a message as ranges of it (RFC 9051 §6.4.5.1).
//!
//! A part number counts the parts of the multipart reached so far; a message that is no multipart
//! has one part, its body. Within a message/rfc822 numbers count the parts of the message in it.
//! What is not there is `None`, which FETCH answers with NIL.

use super::fields::{Field, fields, header_len};
use super::mime::{Kind, Part, children};
use std::ops::Range;

/// Which text of a part is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// `BODY[1.2]`: the body of a part; without a number, the whole message.
    Body,
    /// `HEADER`: of the message, or of the one within a message/rfc822.
    Header,
    /// `TEXT`: its body.
    Text,
    /// `MIME`: the header of the part itself.
    Mime,
}

/// The index of the part that `numbers` lead to; the message itself without any.
pub fn find(parts: &[Part], numbers: &[u32]) -> Option<usize> {
    let mut at = 0;
    for (depth, &number) in numbers.iter().enumerate() {
        let part = parts.get(at)?;
        // The message is a container even where it is no multipart.
        let container = match part.kind {
            _ if depth == 0 => at,
            Kind::Message => children(parts, at).next()?,
            Kind::Multipart | Kind::Digest => at,
            _ => return None,
        };
        at = if parts.get(container)?.is_multipart() {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            children(parts, container).nth(index)?
        } else {
            (number == 1).then_some(container)?
        };
    }
    Some(at)
}

/// Where the one part lies of a multipart without any: every message has a part 1
/// (RFC 9051 §6.4.5.1), and the structure shows it.
fn empty_at(parts: &[Part], numbers: &[u32]) -> Option<usize> {
    let (&last, outer) = numbers.split_last()?;
    let at = find(parts, outer)?;
    let container = match parts.get(at)?.kind {
        Kind::Message => parts.get(children(parts, at).next()?)?,
        _ => parts.get(at)?,
    };
    (last == 1 && container.is_multipart()).then(|| container.body().end)
}

/// The octets of a section.
pub fn range(parts: &[Part], numbers: &[u32], text: Text) -> Option<Range<usize>> {
    let Some(index) = find(parts, numbers) else {
        let end = empty_at(parts, numbers)?;
        return matches!(text, Text::Body | Text::Mime).then_some(end..end);
    };
    let part = parts.get(index)?;
    // The message that HEADER and TEXT are about.
    let message = || match part.kind {
        _ if numbers.is_empty() => Some(part),
        Kind::Message => parts.get(children(parts, index).next()?),
        _ => None,
    };
    match text {
        Text::Body if numbers.is_empty() => Some(part.header().start..part.body().end),
        Text::Body => Some(part.body()),
        Text::Mime => (!numbers.is_empty()).then(|| part.header()),
        Text::Header => Some(message()?.header()),
        Text::Text => Some(message()?.body()),
    }
}

/// `HEADER.FIELDS (names)`, or `.NOT` of it: appends the ranges of `header` to send, in order,
/// those that touch made one. The empty line belongs to both if there is one (RFC 9051 §7.5.2).
/// Lines that are no fields are among those not named.
pub fn select_fields(
    header: &[u8],
    names: &[impl AsRef<[u8]>],
    not: bool,
    out: &mut Vec<Range<usize>>,
) {
    let start = out.len();
    let mut put = |range: Range<usize>| match out[start..].last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ if range.is_empty() => {}
        _ => out.push(range),
    };
    let mut behind = 0;
    for Field { name, value } in fields(header) {
        let whole = name.start..behind_line(header, value.end);
        let name = &header[name];
        let is_named = names.iter().any(|wanted| name.eq_ignore_ascii_case(wanted.as_ref()));
        if not && is_named {
            put(behind..whole.start);
        } else if is_named {
            put(whole.clone());
        } else {
            continue;
        }
        behind = whole.end;
    }
    let end = header_len(header);
    if not {
        put(behind..end);
    } else {
        put(end - empty_line_len(&header[..end])..end);
    }
}

/// Octets of the empty line that ends a header; 0 if the message ends without one.
fn empty_line_len(header: &[u8]) -> usize {
    match header {
        b"\r\n" | [.., b'\n', b'\r', b'\n'] => 2,
        b"\n" | [.., b'\n', b'\n'] => 1,
        _ => 0,
    }
}

fn behind_line(header: &[u8], at: usize) -> usize {
    match header[at..] {
        [b'\r', b'\n', ..] => at + 2,
        [b'\n', ..] => at + 1,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mime::Tree;
    use super::*;

    /// The message of RFC 9051 §6.4.5.1, in short.
    const MESSAGE: &str = "\
Subject: top
Content-Type: multipart/mixed; boundary=a

--a

one
--a
Content-Type: application/x

two
--a
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=b

--b

31
--b
Content-Type: x/y

32
--b--

--a
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: image/gif

41
--c
Content-Type: message/rfc822

Subject: plain

421
--c--
--a--
";

    #[track_caller]
    fn check(numbers: &[u32], text: Text, want: Option<&str>) {
        let tree = Tree::of(MESSAGE.as_bytes());
        let got = range(&tree.parts, numbers, text);
        let got = got.map(|range| MESSAGE.get(range).unwrap());
        assert_eq!(got, want, "{numbers:?} {text:?}");
    }

    #[test]
    fn counts_parts_as_the_rfc_does() {
        check(&[1], Text::Body, Some("one"));
        check(&[2], Text::Mime, Some("Content-Type: application/x\n\n"));
        check(&[3, 1], Text::Body, Some("31"));
        check(&[3, 2], Text::Mime, Some("Content-Type: x/y\n\n"));
        check(
            &[3],
            Text::Header,
            Some("Subject: inner\nContent-Type: multipart/mixed; boundary=b\n\n"),
        );
        check(&[4, 1], Text::Body, Some("41"));
        check(&[4, 2, 1], Text::Body, Some("421"));
        check(&[4, 2], Text::Text, Some("421"));
        check(&[4, 2], Text::Body, Some("Subject: plain\n\n421"));
        check(&[], Text::Body, Some(MESSAGE));
    }

    #[test]
    fn what_is_not_there_is_none() {
        check(&[5], Text::Body, None);
        check(&[0], Text::Body, None);
        check(&[1, 1], Text::Body, None);
        check(&[1], Text::Header, None);
        check(&[4], Text::Text, None);
        check(&[], Text::Mime, None);
        check(&[4, 2, 2], Text::Body, None);
        let tree = Tree::of(b"A: b\n\nc");
        assert_eq!(range(&tree.parts, &[1], Text::Body), Some(6..7));
        assert_eq!(range(&tree.parts, &[1], Text::Mime), Some(0..6));
        assert_eq!(range(&tree.parts, &[2], Text::Body), None);
    }

    #[test]
    fn a_multipart_without_parts_has_an_empty_one() {
        let plain = "Content-Type: multipart/mixed\n\nc";
        let within = format!("Content-Type: message/rfc822\n\n{plain}");
        for (message, numbers) in [(plain, &[1][..]), (&within, &[1, 1])] {
            let parts = Tree::of(message.as_bytes()).parts;
            let end = message.len();
            assert_eq!(range(&parts, numbers, Text::Body), Some(end..end));
            assert_eq!(range(&parts, numbers, Text::Mime), Some(end..end));
            assert_eq!(range(&parts, numbers, Text::Text), None);
            assert_eq!(range(&parts, &[numbers, &[1]].concat(), Text::Body), None);
            assert_eq!(range(&parts, &[numbers, &[2]].concat(), Text::Body), None);
        }
    }

    #[test]
    fn selects_fields_and_all_but_them() {
        let header = b"From junk\r\nTo: a\r\n b\r\nCC: c\r\nto: d\r\nX: e\r\n\r\nbody";
        let select = |names: &[&str], not| {
            let mut ranges = Vec::new();
            select_fields(header, names, not, &mut ranges);
            let texts = ranges.into_iter().map(|range| header[range].escape_ascii().to_string());
            texts.collect::<Vec<_>>().join("|")
        };
        assert_eq!(select(&["TO", "cc"], false), r"To: a\r\n b\r\nCC: c\r\nto: d\r\n|\r\n");
        assert_eq!(select(&["TO", "x"], true), r"From junk\r\n|CC: c\r\n|\r\n");
        assert_eq!(select(&["y"], false), r"\r\n");
        assert_eq!(select(&["y"], true), header[..44].escape_ascii().to_string());
        let mut ranges = Vec::new();
        select_fields(b"A: b", &["a"], false, &mut ranges);
        assert_eq!((ranges.len(), &ranges[0]), (1, &(0..4)));
    }
}
