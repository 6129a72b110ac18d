//! Parameters of MAIL and RCPT (RFC 5321 §4.1.1.11), read by the extension that brings each.
//!
//! Each stands at most once, with a value where it takes one and without where not. DSN's are known
//! only where DSN is offered: a sender that asks for a report must not be told that it was heard by
//! a server that will not write one.

use super::xtext::{is_printable_xtext, is_utf8_address};
use crate::model::limits::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX, SIZE_DIGITS_MAX};

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
    /// Reads what follows the path: nothing, or a space and parameters. `dsn`: those of DSN too.
    pub fn parse(text: &'a [u8], dsn: bool) -> Result<MailParams<'a>, ParamError> {
        let mut params = MailParams::default();
        let mut body = None;
        for param in split(text)? {
            let Param { name, value } = param?;
            if name.eq_ignore_ascii_case("SIZE") {
                set(&mut params.size, value.and_then(parse_size))?;
            } else if name.eq_ignore_ascii_case("BODY") {
                set(&mut body, value.and_then(parse_body))?;
            } else if name.eq_ignore_ascii_case("SMTPUTF8") {
                if value.is_some() || params.utf8 {
                    return Err(ParamError::Bad);
                }
                params.utf8 = true;
            } else if dsn && name.eq_ignore_ascii_case("RET") {
                set(&mut params.ret, value.and_then(parse_ret))?;
            } else if dsn && name.eq_ignore_ascii_case("ENVID") {
                let good = |value: &&str| {
                    value.len() <= ENVID_OCTETS_MAX && is_printable_xtext(value.as_bytes())
                };
                set(&mut params.envid, value.filter(good))?;
            } else {
                return Err(ParamError::Unknown);
            }
        }
        params.body = body.unwrap_or_default();
        Ok(params)
    }
}

impl<'a> RcptParams<'a> {
    /// Reads what follows the path: nothing, or a space and parameters. `dsn`: those of DSN too.
    pub fn parse(text: &'a [u8], dsn: bool) -> Result<RcptParams<'a>, ParamError> {
        let mut params = RcptParams::default();
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
        is_printable_xtext(address.as_bytes())
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
        want.assert_eq(&match MailParams::parse(text.as_bytes(), true) {
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
        want.assert_eq(&match RcptParams::parse(text.as_bytes(), true) {
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
        for unknown in [" FOO=BAR", " FOO", " HOLDFOR=0", " AUTH=<>"] {
            check_mail(unknown, expect!["Unknown"]);
        }
    }

    #[test]
    fn holds_envid_at_its_limit() {
        let parse = |len| {
            let text = format!(" ENVID={}", "a".repeat(len));
            MailParams::parse(text.as_bytes(), true).map(|_| ())
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
        for bad in [
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
