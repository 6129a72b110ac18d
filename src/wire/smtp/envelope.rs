//! MAIL and RCPT as a client writes them: the other way of what [`super::param`] reads.
//!
//! Law: what is written here is read there as what it was.

use super::later::{By, Hold};
use super::param::{Body, MailParams, Notify, RcptParams, Ret};
use crate::bytes::chain::Chain;
use crate::model::address::Address;
use std::fmt::Write as _;

/// Writes MAIL with every parameter that is set; the caller has left out what is not offered.
/// HOLDUNTIL is not written: a hold that is passed on is one of so many seconds.
pub fn put_mail(sender: Option<&Address>, params: &MailParams<'_>, out: &mut Chain) {
    out.put(b"MAIL FROM:<");
    if let Some(sender) = sender {
        put(out, format_args!("{sender}"));
    }
    out.put(b">");
    if let Some(size) = params.size {
        put(out, format_args!(" SIZE={size}"));
    }
    match params.body {
        Body::SevenBit => {}
        Body::EightBit => out.put(b" BODY=8BITMIME"),
        Body::Binary => out.put(b" BODY=BINARYMIME"),
    }
    if params.utf8 {
        out.put(b" SMTPUTF8");
    }
    match params.ret {
        None => {}
        Some(Ret::Full) => out.put(b" RET=FULL"),
        Some(Ret::Headers) => out.put(b" RET=HDRS"),
    }
    if let Some(envid) = params.envid {
        put(out, format_args!(" ENVID={envid}"));
    }
    if let Some(auth) = params.auth {
        put(out, format_args!(" AUTH={auth}"));
    }
    if let Some(Hold::For(seconds)) = params.hold {
        put(out, format_args!(" HOLDFOR={seconds}"));
    }
    if let Some(By { seconds, returns, traces }) = params.by {
        let mode = if returns { 'R' } else { 'N' };
        let trace = if traces { "T" } else { "" };
        put(out, format_args!(" BY={seconds};{mode}{trace}"));
    }
    if let Some(priority) = params.priority {
        put(out, format_args!(" MT-PRIORITY={priority}"));
    }
    if params.require_tls {
        out.put(b" REQUIRETLS");
    }
    out.put(b"\r\n");
}

/// Writes RCPT; the caller has left out what is not offered.
pub fn put_rcpt(recipient: &Address, params: &RcptParams<'_>, out: &mut Chain) {
    put(out, format_args!("RCPT TO:<{recipient}>"));
    if let Some(notify) = params.notify {
        out.put(b" NOTIFY=");
        put_notify(notify, out);
    }
    if let Some(orcpt) = params.orcpt {
        put(out, format_args!(" ORCPT={orcpt}"));
    }
    out.put(b"\r\n");
}

fn put_notify(notify: Notify, out: &mut Chain) {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let mut comma: &[u8] = b"";
    for (_, word) in words.iter().filter(|(is_set, _)| *is_set) {
        out.put(comma);
        out.put(word.as_bytes());
        comma = b",";
    }
    if comma.is_empty() {
        out.put(b"NEVER");
    }
}

fn put(out: &mut Chain, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a chain takes all text");
}

/// An ORCPT in ASCII: characters outside of it as `\x{…}` (RFC 6533 §3), for a server without
/// SMTPUTF8. `None` where it is ASCII already.
pub fn orcpt_in_ascii(orcpt: &str) -> Option<String> {
    if orcpt.is_ascii() {
        return None;
    }
    let mut text = String::with_capacity(orcpt.len() * 2);
    for letter in orcpt.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            write!(text, "\\x{{{:X}}}", u32::from(letter)).expect("a String takes all text");
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::param::Extensions;
    use super::*;
    use crate::wire::address::{take_forward_path, take_reverse_path};
    use arbtest::arbitrary;

    fn line(put: impl FnOnce(&mut Chain)) -> Vec<u8> {
        let mut out = Chain::new();
        put(&mut out);
        out.to_vec()
    }

    #[test]
    fn writes_what_is_set_and_nothing_else() {
        let sender = Address::from_parts("a b", "c.example");
        let mail = |sender, params: &MailParams<'_>| {
            String::from_utf8(line(|out| put_mail(sender, params, out))).unwrap()
        };
        assert_eq!(mail(None, &MailParams::default()), "MAIL FROM:<>\r\n");
        assert_eq!(
            mail(Some(&sender), &MailParams { size: Some(7), utf8: true, ..MailParams::default() }),
            "MAIL FROM:<\"a b\"@c.example> SIZE=7 SMTPUTF8\r\n"
        );
        let never = RcptParams { notify: Some(Notify::default()), orcpt: Some("rfc822;a+2Bb") };
        assert_eq!(
            line(|out| put_rcpt(&sender, &never, out)),
            b"RCPT TO:<\"a b\"@c.example> NOTIFY=NEVER ORCPT=rfc822;a+2Bb\r\n"
        );
    }

    fn any_mail(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<MailParams<'static>> {
        let returns = u.arbitrary()?;
        let seconds =
            if returns { u.int_in_range(1..=9_999)? } else { u.int_in_range(-999..=999)? };
        Ok(MailParams {
            size: u.arbitrary()?,
            body: *u.choose(&[Body::SevenBit, Body::EightBit, Body::Binary])?,
            utf8: u.arbitrary()?,
            ret: *u.choose(&[None, Some(Ret::Full), Some(Ret::Headers)])?,
            envid: *u.choose(&[None, Some("QQ+2B1"), Some("a")])?,
            auth: *u.choose(&[None, Some("<>"), Some("e+3Dc@b.example")])?,
            hold: *u.choose(&[None, Some(Hold::For(86_400))])?,
            by: if u.arbitrary()? {
                Some(By { seconds, returns, traces: u.arbitrary()? })
            } else {
                None
            },
            priority: if u.arbitrary()? { Some(u.int_in_range(-9..=9)?) } else { None },
            require_tls: u.arbitrary()?,
        })
    }

    #[test]
    fn is_read_as_what_was_written() {
        let address = Address::from_parts("it\"s и", "b.example");
        arbtest::arbtest(|u| {
            let mail = any_mail(u)?;
            let sender = if u.arbitrary()? { Some(&address) } else { None };
            let octets = line(|out| put_mail(sender, &mail, out));
            let text = octets.strip_prefix(b"MAIL FROM:").unwrap().strip_suffix(b"\r\n").unwrap();
            let (path, rest) = take_reverse_path(text).unwrap();
            assert_eq!(path.to_address().as_ref(), sender);
            assert_eq!(MailParams::parse(rest, Extensions::ALL), Ok(mail));

            let notify =
                Notify { success: u.arbitrary()?, failure: u.arbitrary()?, delay: u.arbitrary()? };
            let rcpt = RcptParams {
                notify: if u.arbitrary()? { Some(notify) } else { None },
                orcpt: *u.choose(&[None, Some("rfc822;a+2Bb@c.example")])?,
            };
            let octets = line(|out| put_rcpt(&address, &rcpt, out));
            let text = octets.strip_prefix(b"RCPT TO:").unwrap().strip_suffix(b"\r\n").unwrap();
            let (_, rest) = take_forward_path(text).unwrap();
            assert_eq!(RcptParams::parse(rest, Extensions::ALL), Ok(rcpt));
            Ok(())
        });
    }

    #[test]
    fn writes_original_recipients_in_ascii() {
        assert_eq!(orcpt_in_ascii("rfc822;a@b"), None);
        let ascii = orcpt_in_ascii("utf-8;и\u{1F600}@b.example").unwrap();
        assert_eq!(ascii, r"utf-8;\x{438}\x{1F600}@b.example");
        let text = format!(" ORCPT={ascii}");
        assert!(RcptParams::parse(text.as_bytes(), Extensions::ALL).is_ok());
    }
}
