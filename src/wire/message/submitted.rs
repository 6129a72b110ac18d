//! The header of a message as a user submits it: whose it says it is, and what it lacks
//! (RFC 6409 §8, RFC 5322 §3.6).

use super::authors::authors;
use super::fields::{Field, fields};
use crate::model::address::Address;
use crate::wire::date::put_date;
use std::ops::Range;

/// Fields that come in front of the client's: ours.
const TRACE_FIELDS: usize = 2;

/// Whose a message says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authors {
    /// It has no such field.
    #[default]
    Nobody,
    /// One field, with these mailboxes.
    Named(Vec<Address>),
    /// Several fields, or one that is not written as it should be: readers may differ.
    Unclear,
}

impl Authors {
    fn add(&mut self, value: &[u8]) {
        *self = match (&*self, authors(value)) {
            (Authors::Nobody, Some(all)) => Authors::Named(all),
            _ => Authors::Unclear,
        };
    }
}

/// See the header of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    /// Where the client's part begins, behind our trace fields.
    start: usize,
    pub from: Authors,
    pub sender: Authors,
    /// The Sender fields, with their line ends.
    senders: Vec<Range<usize>>,
    has_date: bool,
    has_id: bool,
}

/// What a message gets that it lacks.
#[derive(Clone, Copy, Debug)]
pub struct Additions<'a> {
    /// Seconds since 1970.
    pub at: u32,
    /// Unique in the world, without angle brackets.
    pub id: &'a str,
    /// Who it is from in truth, instead of whoever Sender names.
    pub sender: Option<&'a Address>,
}

impl Submitted {
    /// Reads the header of `message`, which begins with our Return-Path and Received.
    pub fn of(message: &[u8]) -> Submitted {
        let mut submitted = Submitted::default();
        let mut header_end = 0;
        for (index, Field { name, value }) in fields(message).enumerate() {
            if index < TRACE_FIELDS {
                submitted.start = value.end + b"\r\n".len();
                continue;
            }
            let (start, end) = (name.start, value.end);
            header_end = end;
            let is = |wanted: &[u8]| message[name.clone()].eq_ignore_ascii_case(wanted);
            if is(b"From") {
                submitted.from.add(&message[value]);
            } else if is(b"Sender") {
                submitted.sender.add(&message[value]);
                submitted.senders.push(start..line_end(message, end));
            }
            submitted.has_date |= is(b"Date");
            submitted.has_id |= is(b"Message-ID");
        }
        // Some readers end a line at a lone CR, or stop at NUL: then it is not clear whose it is.
        let header = &message[..header_end];
        let is_lone = |at: usize| header.get(at + 1) != Some(&b'\n');
        if memchr::memchr(0, header).is_some() || memchr::memchr_iter(b'\r', header).any(is_lone) {
            submitted.from = Authors::Unclear;
        }
        submitted
    }

    /// Writes what is missing (RFC 6409 §8.1 to §8.3). A message that lacks nothing is not moved.
    pub fn complete(&self, message: &mut Vec<u8>, additions: &Additions<'_>) {
        if additions.sender.is_some() {
            // One pass: a header may have any number of them.
            let (mut kept, mut at) = (0, 0);
            for range in &self.senders {
                message.copy_within(at..range.start, kept);
                kept += range.start - at;
                at = range.end;
            }
            let len = message.len();
            message.copy_within(at.., kept);
            message.truncate(kept + (len - at));
        }
        let mut added = Vec::new();
        if let Some(sender) = additions.sender {
            added.extend_from_slice(format!("Sender: <{sender}>\r\n").as_bytes());
        }
        if !self.has_date {
            added.extend_from_slice(b"Date: ");
            put_date(additions.at, &mut added);
            added.extend_from_slice(b"\r\n");
        }
        if !self.has_id {
            added.extend_from_slice(format!("Message-ID: <{}>\r\n", additions.id).as_bytes());
        }
        message.splice(self.start..self.start, added);
    }
}

/// Behind the line end at `at`, if there is one.
fn line_end(message: &[u8], at: usize) -> usize {
    let rest = &message[at..];
    let len = rest.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    // A line end is one or two octets; the empty line behind it is not its own.
    at + if rest.starts_with(b"\r\n") { 2 } else { len.min(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const TRACE: &str = "Return-Path: <a@b.example>\r\nReceived: from x\r\n\tby y;\r\n\tnow\r\n";

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(header: &str, sender: Option<&str>, want: Expect) {
        let mut message = format!("{TRACE}{header}\r\nDate: in the text\r\n").into_bytes();
        let submitted = Submitted::of(&message);
        let sender = sender.map(|local| Address::from_parts(local, "b.example"));
        let additions = Additions { at: 0, id: "1@h", sender: sender.as_ref() };
        submitted.complete(&mut message, &additions);
        let text = String::from_utf8(message).unwrap();
        let rest = text.strip_prefix(TRACE).expect("our fields stay on top");
        let rest = rest.strip_suffix("\r\nDate: in the text\r\n").expect("the text stays");
        want.assert_eq(&rest.replace("\r\n", "|"));
    }

    #[test]
    fn adds_what_is_missing_on_top_of_what_is_there() {
        check(
            "From: a@b.example\r\n",
            None,
            expect!["Date: Thu, 01 Jan 1970 00:00:00 +0000|Message-ID: <1@h>|From: a@b.example|"],
        );
        check("", None, expect!["Date: Thu, 01 Jan 1970 00:00:00 +0000|Message-ID: <1@h>|"]);
        check("date:\r\n x\r\n", None, expect!["Message-ID: <1@h>|date:| x|"]);
    }

    #[test]
    fn leaves_alone_what_lacks_nothing() {
        let whole = "MESSAGE-ID: <x@y>\r\nSender: x@y.example\r\nDate: z\r\n";
        check(whole, None, expect!["MESSAGE-ID: <x@y>|Sender: x@y.example|Date: z|"]);
    }

    #[test]
    fn puts_the_true_sender_for_all_others() {
        check(
            "Sender: x@y.example\r\n (x)\r\nDate: z\r\nsender:\r\nMessage-ID: <x>\r\nSENDER: q\r\n",
            Some("a"),
            expect!["Sender: <a@b.example>|Date: z|Message-ID: <x>|"],
        );
    }

    /// Whatever the header is, only what was missing is new.
    #[test]
    fn leaves_all_else_as_it_is() {
        arbtest::arbtest(|u| {
            let words = [
                "From",
                "Sender",
                "Date",
                "message-id",
                ":",
                " ",
                "\r\n",
                "\r\n",
                "\n",
                "x",
                "<a@b>",
            ];
            let len = u.int_in_range(0..=20)?;
            let header: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            let message = format!("{TRACE}X: y\r\n{header}");
            let submitted = Submitted::of(message.as_bytes());
            let mut whole = message.clone().into_bytes();
            submitted.complete(&mut whole, &Additions { at: 0, id: "1@h", sender: None });
            let added = whole.len() - message.len();
            let (front, rest) = whole.split_at(TRACE.len());
            assert_eq!(front, TRACE.as_bytes());
            assert_eq!(&rest[added..], &message.as_bytes()[TRACE.len()..]);
            let again = Submitted::of(&whole);
            assert!(again.has_date && again.has_id);
            assert_eq!((again.from, again.sender), (submitted.from, submitted.sender));
            Ok(())
        });
    }

    #[test]
    fn knows_whose_it_is() {
        let of =
            |header: &str| Submitted::of(format!("{TRACE}{header}\r\nFrom: no\r\n").as_bytes());
        let named = |local: &str| Authors::Named(vec![Address::from_parts(local, "b.example")]);
        assert_eq!(of("From: A <a@b.example>\r\n").from, named("a"));
        assert_eq!(of("To: x\r\n").from, Authors::Nobody);
        assert_eq!(of("From: a@b.example\r\nFROM: a@b.example\r\n").from, Authors::Unclear);
        // A second From behind a lone CR, which some readers take for a line end.
        let hidden = "From: a@b.example\r\nSubject: hi\rFrom: boss@b.example\r\n\r\nx\ry";
        assert_eq!(of(hidden).from, Authors::Unclear);
        assert_eq!(of("From: a@b.example\r\nX: \0\r\n\r\n").from, Authors::Unclear);
        let plain = of("From: a@b.example\r\nX: y\r\n z\r\n\r\nx\ry\0");
        assert!(matches!(plain.from, Authors::Named(_)), "{:?}", plain.from);
        assert_eq!(of("From: a\r\n").from, Authors::Unclear);
        let both = of("From: <a@b.example>\r\nSender: c@b.example\r\n");
        assert_eq!((both.from, both.sender), (named("a"), named("c")));
    }
}
