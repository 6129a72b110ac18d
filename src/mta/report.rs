//! Reports on what became of a message (RFC 3464), as mail to its sender.
//!
//! ```text
//!   multipart/report
//!     text/plain                        for people
//!     message/delivery-status           for programs        global-… where UTF-8 is needed (RFC 6533)
//!     text/rfc822-headers               which message it was
//! ```
//!
//! Its own sender is the null one, so that nobody reports on a report (RFC 3461 §6.1).

use crate::model::address::Address;
use crate::model::limits::REPORT_HEADER_OCTETS_MAX;
use crate::wire::date::put_date;
use crate::wire::message::fields::header_len;
use crate::wire::smtp::xtext::decode_xtext;
use crate::wire::trace::put_return_path;

/// A recipient that the report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    pub address: Address,
    /// ORCPT as it came.
    pub orcpt: Option<Box<str>>,
}

/// What is known of a message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Who hears of it.
    pub sender: Address,
    /// ENVID as it came.
    pub envid: Option<Box<str>>,
    /// Those who were to be reported on.
    pub recipients: Vec<Reported>,
    /// Its header.
    pub header: Vec<u8>,
    /// Seconds since 1970 when it came.
    pub arrived: u32,
}

impl Delivered {
    /// The header of a message as a report brings it back: whole lines, up to a bound.
    pub fn header_of(message: &[u8]) -> Vec<u8> {
        let header = &message[..header_len(message)];
        let front = &header[..header.len().min(REPORT_HEADER_OCTETS_MAX)];
        let end = memchr::memrchr(b'\n', front).map_or(0, |lf| lf + 1);
        header[..end].to_vec()
    }

    /// UTF-8 is in it, so that RFC 6533 says what it is made of.
    pub fn is_utf8(&self) -> bool {
        let plain = |one: &Reported| {
            one.address.is_ascii() && one.orcpt.as_ref().is_none_or(|orcpt| orcpt.is_ascii())
        };
        let is_plain = self.sender.is_ascii() && self.recipients.iter().all(plain);
        !is_plain || !self.header.is_ascii() && std::str::from_utf8(&self.header).is_ok()
    }

    /// The report, with its Return-Path. `name` is unique here; `at` is now, in seconds since 1970.
    pub fn to_message(&self, host: &str, name: &str, at: u32) -> Vec<u8> {
        let is_utf8 = self.is_utf8();
        let mut out = Vec::with_capacity(2_048 + self.header.len());
        put_return_path(None, &mut out);
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(&format!("From: Mail Delivery System <postmaster@{host}>\r\n"));
        put(&format!("To: <{}>\r\n", self.sender));
        put("Subject: Delivered: your message\r\n");
        put(&format!("Date: {}\r\n", date(at)));
        put(&format!("Message-ID: <{name}@{host}>\r\n"));
        // RFC 3834 §5: nobody is to answer it by a program.
        put("Auto-Submitted: auto-replied\r\n");
        put("MIME-Version: 1.0\r\n");
        put("Content-Type: multipart/report; report-type=delivery-status;\r\n");
        put(&format!("\tboundary=\"=_{name}\"\r\n\r\n"));
        let eight = if is_utf8 { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
        let charset = if is_utf8 { "utf-8" } else { "us-ascii" };
        put(&format!("--=_{name}\r\nContent-Type: text/plain; charset={charset}\r\n{eight}\r\n"));
        put(&format!("This is {host}. Your message is in the mailbox of:\r\n\r\n"));
        for one in &self.recipients {
            put(&format!("    {}\r\n", one.address));
        }
        let status = if is_utf8 { "global-delivery-status" } else { "delivery-status" };
        put(&format!("\r\n--=_{name}\r\nContent-Type: message/{status}\r\n{eight}\r\n"));
        put(&format!("Reporting-MTA: dns; {host}\r\n"));
        if let Some(envid) = self.envid.as_deref().and_then(decode_xtext) {
            put(&format!("Original-Envelope-Id: {envid}\r\n"));
        }
        put(&format!("Arrival-Date: {}\r\n", date(self.arrived)));
        for one in &self.recipients {
            put("\r\n");
            if let Some(orcpt) = one.orcpt.as_deref() {
                put(&format!("Original-Recipient: {}\r\n", original(orcpt)));
            }
            let kind = if one.address.is_ascii() { "rfc822" } else { "utf-8" };
            put(&format!("Final-Recipient: {kind}; {}\r\n", one.address));
            put("Action: delivered\r\nStatus: 2.1.5\r\n");
        }
        let headers = if is_utf8 { "message/global-headers" } else { "text/rfc822-headers" };
        let eight = if self.header.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
        put(&format!("\r\n--=_{name}\r\nContent-Type: {headers}\r\n{eight}\r\n"));
        out.extend_from_slice(&self.header);
        out.extend_from_slice(format!("\r\n--=_{name}--\r\n").as_bytes());
        out
    }
}

fn date(at: u32) -> String {
    let mut out = Vec::new();
    put_date(at, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// ORCPT is in xtext, the field is not; addresses in UTF-8 stay as they are written (RFC 6533 §3).
fn original(orcpt: &str) -> String {
    match orcpt.split_once(';') {
        Some((kind, address)) if !kind.eq_ignore_ascii_case("utf-8") => {
            format!("{kind}; {}", decode_xtext(address).unwrap_or_else(|| address.into()))
        }
        Some((kind, address)) => format!("{kind}; {address}"),
        None => orcpt.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(delivered: &Delivered, want: Expect) {
        let text = delivered.to_message("mx.local.example", "1.0.2", 1_795_579_879);
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| line.len() <= 998));
        want.assert_eq(&text.replace("\r\n", "\n"));
    }

    fn delivered(sender: &str, header: &str) -> Delivered {
        Delivered {
            sender: Address::from_parts(sender, "local.example"),
            envid: Some("QQ+2B1".into()),
            recipients: vec![Reported {
                address: Address::from_parts("b", "local.example"),
                orcpt: Some("rfc822;b+2Bc@d.example".into()),
            }],
            header: Delivered::header_of(header.as_bytes()),
            arrived: 1_795_579_800,
        }
    }

    #[test]
    fn reports_a_delivery() {
        check(
            &delivered("a", "Subject: x\r\n\r\ntext\r\n"),
            expect![[r#"
            Return-Path: <>
            From: Mail Delivery System <postmaster@mx.local.example>
            To: <a@local.example>
            Subject: Delivered: your message
            Date: Wed, 25 Nov 2026 04:11:19 +0000
            Message-ID: <1.0.2@mx.local.example>
            Auto-Submitted: auto-replied
            MIME-Version: 1.0
            Content-Type: multipart/report; report-type=delivery-status;
            	boundary="=_1.0.2"

            --=_1.0.2
            Content-Type: text/plain; charset=us-ascii

            This is mx.local.example. Your message is in the mailbox of:

                b@local.example

            --=_1.0.2
            Content-Type: message/delivery-status

            Reporting-MTA: dns; mx.local.example
            Original-Envelope-Id: QQ+1
            Arrival-Date: Wed, 25 Nov 2026 04:10:00 +0000

            Original-Recipient: rfc822; b+c@d.example
            Final-Recipient: rfc822; b@local.example
            Action: delivered
            Status: 2.1.5

            --=_1.0.2
            Content-Type: text/rfc822-headers

            Subject: x


            --=_1.0.2--
        "#]],
        );
    }

    #[test]
    fn reports_in_utf8_where_it_has_to() {
        let mut utf8 = delivered("a", "Subject: x\r\n");
        utf8.recipients = vec![Reported {
            address: Address::from_parts("и", "local.example"),
            orcpt: Some(r"utf-8;\x{438}@local.example".into()),
        }];
        let text = String::from_utf8(utf8.to_message("h", "1", 0)).unwrap();
        for part in [
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Original-Recipient: utf-8; \\x{438}@local.example\r\n",
            "Final-Recipient: utf-8; и@local.example\r\n",
            "Content-Type: message/global-headers\r\n\r\nSubject: x\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(delivered("и", "").is_utf8());
        // What is neither is brought back as it is.
        let mut broken = delivered("a", "");
        broken.header = b"Subject: \xff\r\n".to_vec();
        let octets = broken.to_message("h", "1", 0);
        let part = b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: \xff";
        assert!(memchr::memmem::find(&octets, part).is_some());
    }

    #[test]
    fn brings_back_whole_lines_of_a_long_header() {
        let field = format!("X: {}\r\n", "x".repeat(1_000));
        let header = Delivered::header_of(format!("{}\r\ntext", field.repeat(100)).as_bytes());
        assert!(header.len() <= REPORT_HEADER_OCTETS_MAX && header.len() > 60_000);
        assert!(header.ends_with(b"x\r\n"));
    }
}
