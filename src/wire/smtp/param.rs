//! Parameters of MAIL and RCPT (RFC 5321 §4.1.1.11), read by the extension that brings each.
//!
//! Each stands at most once, with a value where it takes one and without where not. Those of an
//! extension that is not offered are not known: a sender that asks for a report, say, must not be told
//! that it was heard by a server that will not write one.

use super::later::{By, Hold};
use super::xtext::{decode_address, is_mailbox_xtext, is_printable_xtext, is_utf8_address};
use crate::model::limits::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX, SIZE_DIGITS_MAX};

/// Extensions with parameters that a listener offers, beside those that every one does (SIZE,
/// 8BITMIME, BINARYMIME, SMTPUTF8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions(u8);

impl Extensions {
    pub const NONE: Extensions = Extensions(0);
    /// RET, ENVID, NOTIFY, ORCPT (RFC 3461).
    pub const DSN: Extensions = Extensions(1);
    /// AUTH= of MAIL (RFC 4954 §5).
    pub const AUTH: Extensions = Extensions(2);
    /// HOLDFOR, HOLDUNTIL (RFC 4865).
    pub const FUTURERELEASE: Extensions = Extensions(4);
    /// BY (RFC 2852).
    pub const DELIVERBY: Extensions = Extensions(8);
    /// MT-PRIORITY (RFC 6710).
    pub const MT_PRIORITY: Extensions = Extensions(16);
    /// REQUIRETLS (RFC 8689). Within TLS only.
    pub const REQUIRETLS: Extensions = Extensions(32);
    pub const ALL: Extensions = Extensions(63);

    #[must_use]
    pub const fn with(self, other: Extensions) -> Extensions {
        Extensions(self.0 | other.0)
    }

    pub const fn has(self, other: Extensions) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why the parameters cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamError {
    /// A known one with a bad value, a second time, or no parameter by its form (501).
    Bad,
    /// Not known, or not offered (555).
    Unknown,
}

/// What the octets of the message are (RFC 6152 §2, RFC 3030 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    #[default]
    SevenBit,
    EightBit,
    /// Any octets; lines mean nothing. Only BDAT can carry it.
    Binary,
}

/// How much of the message a failure report brings back (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    Full,
    Headers,
}

/// What MAIL says beside the reverse path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParams<'a> {
    /// Octets that the client thinks the message has (RFC 1870 §6). A hint.
    pub size: Option<u64>,
    pub body: Body,
    /// SMTPUTF8: the envelope or the header holds UTF-8 (RFC 6531 §3.4).
    pub utf8: bool,
    pub ret: Option<Ret>,
    /// ENVID as it was sent, in xtext (RFC 3461 §4.4).
    pub envid: Option<&'a str>,
    /// AUTH as it was sent, in xtext: who the client says wrote the message. No client is trusted to
    /// say so, and it counts as `<>` (RFC 4954 §5 allows for that).
    pub auth: Option<&'a str>,
    /// When it may be sent on at the earliest (RFC 4865 §3).
    pub hold: Option<Hold>,
    /// When it has to be there (RFC 2852 §4).
    pub by: Option<By>,
    /// From -9, the least urgent, to 9 (RFC 6710 §4.1).
    pub priority: Option<i8>,
    /// Over TLS that is verified, or not at all (RFC 8689 §2).
    pub require_tls: bool,
}

/// When a recipient's sender wants to hear of it (RFC 3461 §4.1). All false is NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

/// What RCPT says beside the forward path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParams<'a> {
    pub notify: Option<Notify>,
    /// ORCPT as it was sent: `type;xtext` (RFC 3461 §4.2).
    pub orcpt: Option<&'a str>,
}

impl<'a> MailParams<'a> {
    /// Reads what follows the path: nothing, or a space and parameters.
    pub fn parse(text: &'a [u8], offered: Extensions) -> Result<MailParams<'a>, ParamError> {
        let mut params = MailParams::default();
        let mut body = None;
        for param in split(text)? {
            let Param { name, value } = param?;
            let is = |word: &str| name.eq_ignore_ascii_case(word);
            if is("SIZE") {
                set(&mut params.size, value.and_then(parse_size))?;
            } else if is("BODY") {
                set(&mut body, value.and_then(parse_body))?;
            } else if is("SMTPUTF8") {
                set_flag(&mut params.utf8, value)?;
            } else {
                params.take_extended(name, value, offered)?;
            }
        }
        params.body = body.unwrap_or_default();
        Ok(params)
    }

    /// A parameter of an extension that is offered by some listeners only.
    fn take_extended(
        &mut self,
        name: &str,
        value: Option<&'a str>,
        offered: Extensions,
    ) -> Result<(), ParamError> {
        let is = |word: &str, extension| offered.has(extension) && name.eq_ignore_ascii_case(word);
        if is("RET", Extensions::DSN) {
            set(&mut self.ret, value.and_then(parse_ret))
        } else if is("ENVID", Extensions::DSN) {
            let is_good = |value: &&str| {
                value.len() <= ENVID_OCTETS_MAX && is_printable_xtext(value.as_bytes())
            };
            set(&mut self.envid, value.filter(is_good))
        } else if is("AUTH", Extensions::AUTH) {
            set(&mut self.auth, value.filter(|value| is_mailbox_xtext(value.as_bytes())))
        } else if is("HOLDFOR", Extensions::FUTURERELEASE) {
            set(&mut self.hold, value.and_then(Hold::parse_for))
        } else if is("HOLDUNTIL", Extensions::FUTURERELEASE) {
            set(&mut self.hold, value.and_then(Hold::parse_until))
        } else if is("BY", Extensions::DELIVERBY) {
            set(&mut self.by, value.and_then(By::parse))
        } else if is("MT-PRIORITY", Extensions::MT_PRIORITY) {
            set(&mut self.priority, value.and_then(parse_priority))
        } else if is("REQUIRETLS", Extensions::REQUIRETLS) {
            set_flag(&mut self.require_tls, value)
        } else {
            Err(ParamError::Unknown)
        }
    }
}

impl<'a> RcptParams<'a> {
    /// Reads what follows the path: nothing, or a space and parameters.
    pub fn parse(text: &'a [u8], offered: Extensions) -> Result<RcptParams<'a>, ParamError> {
        let mut params = RcptParams::default();
        let dsn = offered.has(Extensions::DSN);
        for param in split(text)? {
            let Param { name, value } = param?;
            if dsn && name.eq_ignore_ascii_case("NOTIFY") {
                set(&mut params.notify, value.and_then(parse_notify))?;
            } else if dsn && name.eq_ignore_ascii_case("ORCPT") {
                set(&mut params.orcpt, value.filter(|value| is_orcpt(value)))?;
            } else {
                return Err(ParamError::Unknown);
            }
        }
        Ok(params)
    }
}

/// Puts a good value where none is yet.
fn set<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), ParamError> {
    if place.is_some() || value.is_none() {
        return Err(ParamError::Bad);
    }
    *place = value;
    Ok(())
}

/// A parameter without a value, once.
fn set_flag(place: &mut bool, value: Option<&str>) -> Result<(), ParamError> {
    if *place || value.is_some() {
        return Err(ParamError::Bad);
    }
    *place = true;
    Ok(())
}

struct Param<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

/// The parameters of `text`, which is empty or begins with a space; spaces at its end count
/// for nothing (RFC 5321 §4.1.1).
fn split(text: &[u8]) -> Result<impl Iterator<Item = Result<Param<'_>, ParamError>>, ParamError> {
    let text = std::str::from_utf8(text).map_err(|_| ParamError::Bad)?;
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(ParamError::Bad);
    }
    let words = text.split(' ').filter(|word| !word.is_empty());
    Ok(words.map(|word| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let sound_name = name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let sound_value = value.is_none_or(|value| {
            !value.is_empty() && !value.chars().any(|letter| letter.is_control() || letter == '=')
        });
        if sound_name && sound_value { Ok(Param { name, value }) } else { Err(ParamError::Bad) }
    }))
}

/// Up to 20 digits; what no u64 holds is more than any limit (RFC 1870 §4).
fn parse_size(value: &str) -> Option<u64> {
    let sound = (1..=SIZE_DIGITS_MAX).contains(&value.len())
        && value.bytes().all(|digit| digit.is_ascii_digit());
    sound.then(|| value.parse().unwrap_or(u64::MAX))
}

fn parse_body(value: &str) -> Option<Body> {
    if value.eq_ignore_ascii_case("7BIT") {
        Some(Body::SevenBit)
    } else if value.eq_ignore_ascii_case("8BITMIME") {
        Some(Body::EightBit)
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        Some(Body::Binary)
    } else {
        None
    }
}

fn parse_ret(value: &str) -> Option<Ret> {
    if value.eq_ignore_ascii_case("FULL") {
        Some(Ret::Full)
    } else if value.eq_ignore_ascii_case("HDRS") {
        Some(Ret::Headers)
    } else {
        None
    }
}

/// RFC 6710 §4.1: one digit, which may have a minus unless it is 0.
fn parse_priority(value: &str) -> Option<i8> {
    match value.as_bytes() {
        [digit @ b'0'..=b'9'] | [b'-', digit @ b'1'..=b'9'] => {
            let number = i8::try_from(digit - b'0').ok()?;
            Some(if value.len() == 2 { -number } else { number })
        }
        _ => None,
    }
}

/// NEVER alone, or a list of the others.
fn parse_notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        if word.eq_ignore_ascii_case("SUCCESS") {
            notify.success = true;
        } else if word.eq_ignore_ascii_case("FAILURE") {
            notify.failure = true;
        } else if word.eq_ignore_ascii_case("DELAY") {
            notify.delay = true;
        } else {
            return None;
        }
    }
    Some(notify)
}

fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else { return false };
    let sound_kind = !kind.is_empty()
        && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let sound_address = if kind.eq_ignore_ascii_case("utf-8") {
        is_utf8_address(address.as_bytes())
    } else {
        decode_address(address).is_some()
    };
    value.len() <= ORCPT_OCTETS_MAX && sound_kind && sound_address
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check_mail(text: &str, want: Expect) {
        want.assert_eq(&match MailParams::parse(text.as_bytes(), Extensions::ALL) {
            Ok(params) => format!(
                "{:?} {:?} {} {:?} {:?}",
                params.size, params.body, params.utf8, params.ret, params.envid
            ),
            Err(error) => format!("{error:?}"),
        });
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check_rcpt(text: &str, want: Expect) {
        want.assert_eq(&match RcptParams::parse(text.as_bytes(), Extensions::ALL) {
            Ok(params) => format!("{:?} {:?}", params.notify, params.orcpt),
            Err(error) => format!("{error:?}"),
        });
    }

    #[test]
    fn reads_the_parameters_of_mail_in_any_case_and_order() {
        check_mail("", expect!["None SevenBit false None None"]);
        check_mail("  ", expect!["None SevenBit false None None"]);
        check_mail(
            " smtputf8 BODY=8bitmime  size=12 RET=hdrs ENVID=a+2Bb ",
            expect![[r#"Some(12) EightBit true Some(Headers) Some("a+2Bb")"#]],
        );
    }

    #[test]
    fn keeps_sizes_that_no_number_holds_large() {
        check_mail(
            " SIZE=18446744073709551617",
            expect!["Some(18446744073709551615) SevenBit false None None"],
        );
        check_mail(" SIZE=999999999999999999999", expect!["Bad"]);
        check_mail(" SIZE=0x10", expect!["Bad"]);
        check_mail(" SIZE=", expect!["Bad"]);
        check_mail(" SIZE=+1", expect!["Bad"]);
    }

    #[test]
    fn tells_bad_parameters_from_unknown_ones() {
        for bad in [
            " SIZE=1 SIZE=2",
            " =X",
            "SIZE=1",
            " SMTPUTF8=1",
            " SMTPUTF8 SMTPUTF8",
            " BODY",
            " RET=FULL RET=HDRS",
            " ENVID=a+2b",
            " BODY=9BIT",
            "<x>",
        ] {
            check_mail(bad, expect!["Bad"]);
        }
        for unknown in [" FOO=BAR", " FOO", " HOLD=1", " NOTIFY=NEVER"] {
            check_mail(unknown, expect!["Unknown"]);
        }
    }

    #[test]
    fn knows_what_is_offered_and_nothing_else() {
        let each = [
            (" RET=FULL", Extensions::DSN),
            (" ENVID=a", Extensions::DSN),
            (" AUTH=<>", Extensions::AUTH),
            (" HOLDFOR=1", Extensions::FUTURERELEASE),
            (" HOLDUNTIL=2026-11-28T20:00:00Z", Extensions::FUTURERELEASE),
            (" BY=1;R", Extensions::DELIVERBY),
            (" MT-PRIORITY=0", Extensions::MT_PRIORITY),
            (" REQUIRETLS", Extensions::REQUIRETLS),
        ];
        for (text, extension) in each {
            let parse = |offered| MailParams::parse(text.as_bytes(), offered);
            assert_eq!(parse(Extensions::NONE), Err(ParamError::Unknown), "{text}");
            assert_eq!(parse(Extensions(63 & !extension.0)), Err(ParamError::Unknown), "{text}");
            assert!(parse(extension).is_ok(), "{text}");
            let twice = text.repeat(2);
            let twice = MailParams::parse(twice.as_bytes(), extension);
            assert_eq!(twice, Err(ParamError::Bad), "{text} twice");
        }
    }

    #[test]
    fn reads_what_the_queue_is_to_heed() {
        let parse = |text: &'static str| MailParams::parse(text.as_bytes(), Extensions::ALL);
        let whole = parse(" HOLDFOR=86400 BY=-1;nT MT-PRIORITY=-9 REQUIRETLS AUTH=e+3Dc@b.example");
        let whole = whole.unwrap();
        assert_eq!(whole.hold, Some(Hold::For(86_400)));
        assert_eq!(whole.by.map(|by| (by.seconds, by.returns, by.traces)), Some((-1, false, true)));
        assert_eq!((whole.priority, whole.require_tls), (Some(-9), true));
        assert_eq!(whole.auth, Some("e+3Dc@b.example"));
        for bad in [
            " HOLDFOR=0",
            " HOLDFOR=01",
            " HOLDFOR=1 HOLDUNTIL=2026-11-28T20:00:00Z",
            " HOLDUNTIL=2026-11-28T20:00:00+01:00",
            " BY=0;R",
            " BY=-1;R",
            " BY=1",
            " BY=1;X",
            " MT-PRIORITY=10",
            " MT-PRIORITY=-0",
            " MT-PRIORITY=+1",
            " MT-PRIORITY",
            " REQUIRETLS=1",
            " AUTH=",
            " AUTH=a",
            " AUTH=a@b@c",
            " AUTH=<a@b.example",
        ] {
            assert_eq!(parse(bad), Err(ParamError::Bad), "{bad}");
        }
    }

    #[test]
    fn holds_envid_at_its_limit() {
        let parse = |len| {
            let text = format!(" ENVID={}", "a".repeat(len));
            MailParams::parse(text.as_bytes(), Extensions::ALL).map(|_| ())
        };
        assert!(parse(100).is_ok());
        assert!(parse(101).is_err());
    }

    #[test]
    fn reads_the_parameters_of_rcpt() {
        check_rcpt("", expect!["None None"]);
        check_rcpt(
            " NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.example",
            expect![[
                r#"Some(Notify { success: true, failure: false, delay: true }) Some("rfc822;a+2Bb@c.example")"#
            ]],
        );
        check_rcpt(
            " NOTIFY=NEVER",
            expect!["Some(Notify { success: false, failure: false, delay: false }) None"],
        );
        check_rcpt(
            r" ORCPT=utf-8;\x{438}@b.example",
            expect![[r#"None Some("utf-8;\\x{438}@b.example")"#]],
        );
        // Not as it should be, and what Postfix sends.
        check_rcpt(
            " ORCPT=rfc822;+D1+8E@b.example",
            expect![[r#"None Some("rfc822;+D1+8E@b.example")"#]],
        );
        for bad in [
            " ORCPT=rfc822;+D1@b.example",
            " ORCPT=rfc822;",
            " NOTIFY=NEVER,SUCCESS",
            " NOTIFY=",
            " NOTIFY=NEVER NOTIFY=NEVER",
            " ORCPT=a@b.example",
            " ORCPT=rfc822;a+zz@b",
            " ORCPT=;a",
            " NOTIFY=FAILURE,",
            "x",
        ] {
            check_rcpt(bad, expect!["Bad"]);
        }
        check_rcpt(" SIZE=1", expect!["Unknown"]);
    }
}
