//! The answer of a user who is away, as a message (RFC 3834 §3).

use crate::directory::Vacation;
use crate::model::address::Address;
use crate::wire::date::put_date;
use crate::wire::message::encode::{Coding, Encoder};
use crate::wire::message::respond::Answerable;
use crate::wire::message::words::put_encoded;
use crate::wire::trace::put_return_path;

/// Octets of a line of text that needs no encoding.
const LINE_OCTETS_MAX: usize = 78;

/// See the header.
pub(super) struct Reply<'r> {
    pub(super) from: &'r Address,
    pub(super) to: &'r Address,
    pub(super) vacation: &'r Vacation,
    /// What it answers.
    pub(super) about: &'r Answerable,
}

impl Reply<'_> {
    /// The message; Return-Path is its first line. `name` is unique here; `at` is now, in seconds since 1970.
    pub(super) fn compose(&self, host: &str, name: &str, at: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024 + self.vacation.text.len());
        put_return_path(None, &mut out);
        let mut put = |line: &str| out.extend_from_slice(line.as_bytes());
        put(&format!("From: <{}>\r\nTo: <{}>\r\nSubject: ", self.from, self.to));
        put_encoded(&self.subject(), "Subject: ".len(), &mut out);
        out.extend_from_slice(b"\r\nDate: ");
        put_date(at, &mut out);
        let mut put = |line: &str| out.extend_from_slice(line.as_bytes());
        put(&format!("\r\nMessage-ID: <{name}@{host}>\r\n"));
        if let Some(id) = &self.about.message_id {
            put(&format!("In-Reply-To: {id}\r\n"));
        }
        if !self.about.references.is_empty() {
            put(&format!("References: {}\r\n", self.about.references));
        }
        // RFC 3834 §5, RFC 5230 §4.7.
        put("Auto-Submitted: auto-replied (vacation)\r\nMIME-Version: 1.0\r\n");
        let text = &self.vacation.text;
        let charset = if text.is_ascii() { "us-ascii" } else { "utf-8" };
        put(&format!("Content-Type: text/plain; charset={charset}\r\n"));
        let lines = text.lines().map(|line| [line, "\r\n"]);
        let body: String = lines.flatten().collect();
        let is_plain = body.is_ascii() && text.lines().all(|line| line.len() <= LINE_OCTETS_MAX);
        if is_plain {
            put(&format!("\r\n{body}"));
            return out;
        }
        let coding = Coding::QuotedPrintable;
        put(&format!("Content-Transfer-Encoding: {}\r\n\r\n", coding.name()));
        let mut encoder = Encoder::new(coding);
        encoder.feed(body.as_bytes(), &mut out);
        encoder.end(&mut out);
        out
    }

    /// RFC 5230 §4.3.
    fn subject(&self) -> String {
        match (&self.vacation.subject, &*self.about.subject) {
            (Some(own), _) => own.to_string(),
            (None, "") => "Auto: your message".into(),
            (None, subject) => format!("Auto: {subject}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(vacation: &Vacation, about: &Answerable, want: &Expect) {
        let from = Address::from_parts("ann", "a.example");
        let to = Address::from_parts("bob x", "b.example");
        let octets =
            Reply { from: &from, to: &to, vacation, about }.compose("mx.a.example", "n", 0);
        want.assert_eq(&String::from_utf8(octets).unwrap().replace("\r\n", "\n"));
    }

    fn away() -> Vacation {
        Vacation {
            subject: None,
            text: "I am away.\n.\nAnn\n".into(),
            from: 0,
            until: u32::MAX,
            days: 7,
            addresses: Box::default(),
        }
    }

    #[test]
    fn says_what_it_is_and_what_it_answers() {
        let about = Answerable {
            subject: "lunch".into(),
            message_id: Some("<m@b.example>".into()),
            references: "<a@b.example>\r\n\t<m@b.example>".into(),
        };
        check(
            &away(),
            &about,
            &expect![[r#"
            Return-Path: <>
            From: <ann@a.example>
            To: <"bob x"@b.example>
            Subject: Auto: lunch
            Date: Thu, 01 Jan 1970 00:00:00 +0000
            Message-ID: <n@mx.a.example>
            In-Reply-To: <m@b.example>
            References: <a@b.example>
            	<m@b.example>
            Auto-Submitted: auto-replied (vacation)
            MIME-Version: 1.0
            Content-Type: text/plain; charset=us-ascii

            I am away.
            .
            Ann
        "#]],
        );
    }

    #[test]
    fn writes_subject_and_text_in_ascii() {
        let mut vacation = away();
        vacation.subject =
            Some("Ich bin nicht da, und komme erst in der übernächsten Woche wieder".into());
        vacation.text = "Grüße".into();
        check(
            &vacation,
            &Answerable::default(),
            &expect![[r#"
            Return-Path: <>
            From: <ann@a.example>
            To: <"bob x"@b.example>
            Subject: =?utf-8?B?SWNoIGJpbiBuaWNodCBkYSwgdW5kIGtvbW1lIGVyc3QgaW4gZGVyIMO8?=
             =?utf-8?B?YmVybsOkY2hzdGVuIFdvY2hlIHdpZWRlcg==?=
            Date: Thu, 01 Jan 1970 00:00:00 +0000
            Message-ID: <n@mx.a.example>
            Auto-Submitted: auto-replied (vacation)
            MIME-Version: 1.0
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            Gr=C3=BC=C3=9Fe
        "#]],
        );
        vacation.subject = None;
        check(
            &vacation,
            &Answerable::default(),
            &expect![[r#"
            Return-Path: <>
            From: <ann@a.example>
            To: <"bob x"@b.example>
            Subject: Auto: your message
            Date: Thu, 01 Jan 1970 00:00:00 +0000
            Message-ID: <n@mx.a.example>
            Auto-Submitted: auto-replied (vacation)
            MIME-Version: 1.0
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            Gr=C3=BC=C3=9Fe
        "#]],
        );
    }
}
