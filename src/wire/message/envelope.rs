//! ENVELOPE as text, written out of a header (RFC 9051 §7.5.2), and read back for sorting.
//!
//! ```text
//! envelope := "(" date SP subject SP from SP sender SP reply-to SP to SP cc SP bcc
//!             SP in-reply-to SP message-id ")"
//! ```
//!
//! A field that is missing is NIL, one that is empty is `""`. Encoded words stay as they are. Folds
//! are undone; in the subject and in names, runs of spaces and tabs become one space.

use super::head::{FieldKind, Head};
use super::lexer::{put_unfolded, trim};
use super::mailboxes::{Scratch, put_addresses};
use super::nstring::{Open, Reader, put_nil, put_value};

/// Appends the ENVELOPE of the header `head` of `message`, parentheses included; see
/// [`Head::more_values`] for where `message` may end.
pub fn put_envelope(message: &[u8], head: &Head, out: &mut Vec<u8>) {
    let value = |kind| head.value(message, kind);
    out.push(b'(');
    put_raw(value(FieldKind::Date), out);
    out.push(b' ');
    match value(FieldKind::Subject) {
        None => put_nil(out),
        Some(subject) => {
            let open = Open::new(out);
            put_spaced(subject, out);
            open.close(out);
        }
    }
    out.push(b' ');
    let from = out.len();
    let mut scratch = Scratch::default();
    put_list(value(FieldKind::From), &mut scratch, out);
    let from = from..out.len();
    for kind in [FieldKind::Sender, FieldKind::ReplyTo] {
        out.push(b' ');
        // RFC 9051 §7.5.2: missing or empty, it is that of From.
        if !value(kind).is_some_and(|value| put_addresses(value, &mut scratch, out)) {
            out.extend_from_within(from.clone());
        }
    }
    for kind in [FieldKind::To, FieldKind::Cc, FieldKind::Bcc] {
        out.push(b' ');
        put_all(message, head, kind, &mut scratch, out);
    }
    for kind in [FieldKind::InReplyTo, FieldKind::MessageId] {
        out.push(b' ');
        put_raw(value(kind), out);
    }
    out.push(b')');
}

/// Unfolded, as it stands there.
fn put_raw(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else { return put_nil(out) };
    let open = Open::new(out);
    put_unfolded(trim(value), out);
    open.close(out);
}

fn put_list(value: Option<&[u8]>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    if !value.is_some_and(|value| put_addresses(value, scratch, out)) {
        put_nil(out);
    }
}

/// The addresses of all fields of a kind, as if they were one (RFC 5322 §4.5.3).
fn put_all(message: &[u8], head: &Head, kind: FieldKind, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = head.value(message, kind);
    let mut more = head.more_values(message, kind).peekable();
    if more.peek().is_none() {
        return put_list(first, scratch, out);
    }
    let mut whole = first.unwrap_or_default().to_vec();
    for value in more {
        whole.push(b',');
        whole.extend_from_slice(value);
    }
    put_list(Some(&whole), scratch, out);
}

/// Appends `text` with one space for each run of spaces, tabs and line ends; none around it.
pub(super) fn put_spaced(text: &[u8], out: &mut Vec<u8>) {
    let is_space = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
    let mut words = text.split(is_space).filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.extend_from_slice(first);
    }
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}

/// One address of an ENVELOPE as it stands there: strings with their marks, or `NIL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressText<'a> {
    pub name: &'a [u8],
    pub mailbox: &'a [u8],
    pub host: &'a [u8],
}

/// An ENVELOPE text that [`put_envelope`] wrote, taken apart; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeText<'a> {
    pub date: &'a [u8],
    pub subject: &'a [u8],
    /// From, Sender, Reply-To, To, Cc, Bcc: lists with their parentheses, or `NIL`.
    pub lists: [&'a [u8]; 6],
    pub in_reply_to: &'a [u8],
    pub message_id: &'a [u8],
}

/// The lists of [`EnvelopeText::lists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum List {
    From,
    Sender,
    ReplyTo,
    To,
    Cc,
    Bcc,
}

impl<'a> EnvelopeText<'a> {
    /// `None` if `text` is no ENVELOPE.
    pub fn new(text: &'a [u8]) -> Option<EnvelopeText<'a>> {
        let mut reader = Reader::new(text);
        let mut next = |first: bool| -> Option<&'a [u8]> {
            if !reader.skip_if(if first { b'(' } else { b' ' }) {
                return None;
            }
            let before = reader.rest();
            reader.skip_value()?;
            Some(&before[..before.len() - reader.rest().len()])
        };
        let (date, subject) = (next(true)?, next(false)?);
        let mut lists = [&b""[..]; 6];
        for list in &mut lists {
            *list = next(false)?;
        }
        Some(EnvelopeText {
            date,
            subject,
            lists,
            in_reply_to: next(false)?,
            message_id: next(false)?,
        })
    }

    /// The addresses of one list, groups' begins and ends included (host `NIL`).
    pub fn addresses(&self, list: List) -> impl Iterator<Item = AddressText<'a>> + use<'a> {
        let mut reader = Reader::new(self.lists[list as usize]);
        reader.skip_if(b'(');
        std::iter::from_fn(move || {
            if !reader.skip_if(b'(') {
                return None;
            }
            let name = reader.raw()?;
            reader.skip_if(b' ');
            reader.raw()?;
            reader.skip_if(b' ');
            let mailbox = reader.raw()?;
            reader.skip_if(b' ');
            let host = reader.raw()?;
            reader.skip_if(b')');
            Some(AddressText { name, mailbox, host })
        })
    }
}

/// Appends the value of one string of an ENVELOPE, marks undone; false for `NIL`.
pub fn put_string_value(raw: &[u8], out: &mut Vec<u8>) -> bool {
    put_value(raw, out)
}

/// Law: what is written can be read back, and holds no octet that a client may not see.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_envelope(data: &[u8]) {
    let (head, _) = Head::of(data);
    let mut out = Vec::new();
    put_envelope(data, &head, &mut out);
    assert!(!out.contains(&0));
    let mut reader = Reader::new(&out);
    assert_eq!(reader.skip_value(), Some(()));
    assert_eq!(reader.rest(), b"");
    let text = EnvelopeText::new(&out).expect("it was just written");
    for list in [List::From, List::Sender, List::ReplyTo, List::To, List::Cc, List::Bcc] {
        let count = text.addresses(list).count();
        assert_eq!(count == 0, text.lists[list as usize] == b"NIL");
        for address in text.addresses(list) {
            assert!(address.mailbox != b"NIL" || address.host == b"NIL");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(header: &str, want: Expect) {
        let mut out = Vec::new();
        put_envelope(header.as_bytes(), &Head::of(header.as_bytes()).0, &mut out);
        want.assert_eq(&String::from_utf8_lossy(&out));
        fuzz_envelope(header.as_bytes());
    }

    #[test]
    fn writes_the_example_of_the_rfc() {
        // RFC 9051 §8.
        check(
            "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n\
             Subject: IMAP4rev2 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n\
             cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
             Message-Id: <B27397-0100000@cac.washington.edu>\r\n\r\n",
            expect![[
                r#"("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL "<B27397-0100000@cac.washington.edu>")"#
            ]],
        );
    }

    #[test]
    fn tells_missing_from_empty() {
        check("", expect!["(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"]);
        check(
            "Date:\r\nSubject:  \r\nFrom:\r\nReply-To: \r\nIn-Reply-To:\r\nMessage-ID: \r\n",
            expect![[r#"("" "" NIL NIL NIL NIL NIL NIL "" "")"#]],
        );
    }

    #[test]
    fn takes_the_recipients_of_every_field() {
        check(
            "To: a@b\r\nFrom: c@d\r\nto: e@f,\r\n g@h\r\nFrom: i@j\r\nCc:\r\nCc: k@l\r\n\r\nTo: m@n\r\n",
            expect![[
                r#"(NIL NIL ((NIL NIL "c" "d")) ((NIL NIL "c" "d")) ((NIL NIL "c" "d")) ((NIL NIL "a" "b")(NIL NIL "e" "f")(NIL NIL "g" "h")) ((NIL NIL "k" "l")) NIL NIL NIL)"#
            ]],
        );
    }

    #[test]
    fn undoes_folds_and_quotes() {
        check(
            "Subject: a\r\n  \tb \"c\"\r\nSender: \"x \\\"y\\\"\" <a@b>\r\nMessage-ID:\r\n <a@\r\n\tb>\r\n",
            expect![[
                r#"(NIL "a b \"c\"" NIL (("x \"y\"" NIL "a" "b")) NIL NIL NIL NIL NIL "<a@	b>")"#
            ]],
        );
        check(
            "Subject: \u{fc}ber\r\n",
            expect!["(NIL {5}\r\nüber NIL NIL NIL NIL NIL NIL NIL NIL)"],
        );
    }
}
