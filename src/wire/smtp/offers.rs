//! What a server offers: its answer to EHLO or LHLO (RFC 5321 §4.1.1.1), keyword by keyword.
//!
//! A keyword counts once, by its first line. Keywords that nobody here has a use for are passed
//! over, and so is what is wrong within one: it counts as if the server had not said it.

use super::answer::Answer;
use crate::model::limits::SIZE_DIGITS_MAX;

/// Extensions, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keywords(u32);

impl Keywords {
    pub const NONE: Keywords = Keywords(0);
    /// RFC 2920.
    pub const PIPELINING: Keywords = Keywords(1);
    /// RFC 1870.
    pub const SIZE: Keywords = Keywords(1 << 1);
    /// RFC 6152.
    pub const EIGHT_BIT_MIME: Keywords = Keywords(1 << 2);
    /// RFC 3030.
    pub const BINARY_MIME: Keywords = Keywords(1 << 3);
    /// RFC 3030.
    pub const CHUNKING: Keywords = Keywords(1 << 4);
    /// RFC 6531.
    pub const SMTP_UTF8: Keywords = Keywords(1 << 5);
    /// RFC 3461.
    pub const DSN: Keywords = Keywords(1 << 6);
    /// RFC 3207.
    pub const STARTTLS: Keywords = Keywords(1 << 7);
    /// RFC 2034.
    pub const ENHANCED_STATUS_CODES: Keywords = Keywords(1 << 8);
    /// RFC 9422.
    pub const LIMITS: Keywords = Keywords(1 << 9);
    /// RFC 8689.
    pub const REQUIRE_TLS: Keywords = Keywords(1 << 10);
    /// RFC 2852.
    pub const DELIVER_BY: Keywords = Keywords(1 << 11);
    /// RFC 6710.
    pub const MT_PRIORITY: Keywords = Keywords(1 << 12);
    /// RFC 4865.
    pub const FUTURE_RELEASE: Keywords = Keywords(1 << 13);
    /// RFC 4954. Which mechanisms are offered is told by the three below.
    pub const AUTH: Keywords = Keywords(1 << 14);
    /// The mechanism PLAIN of AUTH (RFC 4616).
    pub const AUTH_PLAIN: Keywords = Keywords(1 << 15);
    /// The mechanism LOGIN of AUTH.
    pub const AUTH_LOGIN: Keywords = Keywords(1 << 16);
    /// The mechanism SCRAM-SHA-256 of AUTH (RFC 7677).
    pub const AUTH_SCRAM_SHA_256: Keywords = Keywords(1 << 17);

    pub const fn has(self, others: Keywords) -> bool {
        self.0 & others.0 == others.0
    }

    #[must_use]
    pub const fn with(self, others: Keywords) -> Keywords {
        Keywords(self.0 | others.0)
    }

    /// The extension of that name, in any case.
    fn find(name: &[u8]) -> Option<Keywords> {
        find(name, NAMES)
    }
}

const NAMES: &[(&str, Keywords)] = &[
    ("PIPELINING", Keywords::PIPELINING),
    ("SIZE", Keywords::SIZE),
    ("8BITMIME", Keywords::EIGHT_BIT_MIME),
    ("BINARYMIME", Keywords::BINARY_MIME),
    ("CHUNKING", Keywords::CHUNKING),
    ("SMTPUTF8", Keywords::SMTP_UTF8),
    ("DSN", Keywords::DSN),
    ("STARTTLS", Keywords::STARTTLS),
    ("ENHANCEDSTATUSCODES", Keywords::ENHANCED_STATUS_CODES),
    ("LIMITS", Keywords::LIMITS),
    ("REQUIRETLS", Keywords::REQUIRE_TLS),
    ("DELIVERBY", Keywords::DELIVER_BY),
    ("MT-PRIORITY", Keywords::MT_PRIORITY),
    ("FUTURERELEASE", Keywords::FUTURE_RELEASE),
    ("AUTH", Keywords::AUTH),
];

const MECHANISMS: &[(&str, Keywords)] = &[
    ("PLAIN", Keywords::AUTH_PLAIN),
    ("LOGIN", Keywords::AUTH_LOGIN),
    ("SCRAM-SHA-256", Keywords::AUTH_SCRAM_SHA_256),
];

fn find(name: &[u8], names: &[(&str, Keywords)]) -> Option<Keywords> {
    let found = names.iter().find(|(one, _)| name.eq_ignore_ascii_case(one.as_bytes()));
    found.map(|&(_, keyword)| keyword)
}

/// What a server takes at most (RFC 9422 §4); each from 1 to 999999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// MAIL commands of one session.
    pub mail_max: Option<u32>,
    /// RCPT commands of one transaction.
    pub rcpt_max: Option<u32>,
    /// Domains of the recipients of one session.
    pub rcpt_domain_max: Option<u32>,
}

/// What the last EHLO or LHLO told. After HELO: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub keywords: Keywords,
    /// Octets of the largest message that is taken; `None`: no limit is known (RFC 1870 §4).
    pub size_max: Option<u64>,
    /// Seconds that DELIVERBY needs at least (RFC 2852 §2); 0 if none are told.
    pub by_min: u32,
    pub limits: Limits,
}

impl Offers {
    /// Reads the answer to EHLO or LHLO; its first line has the server's name.
    pub fn read(answer: &Answer<'_>) -> Offers {
        let mut offers = Offers::default();
        for line in answer.texts().skip(1) {
            let mut words = words(line);
            let Some(name) = words.next() else { continue };
            // Before there was an RFC, servers wrote `AUTH=LOGIN`, and some do it still.
            if let Some((front, first)) = name.split_first_chunk::<5>()
                && front.eq_ignore_ascii_case(b"AUTH=")
            {
                offers.take_mechanisms([first].into_iter().chain(words));
                continue;
            }
            let Some(keyword) = Keywords::find(name) else { continue };
            let is_new = !offers.keywords.has(keyword);
            offers.keywords = offers.keywords.with(keyword);
            match keyword {
                Keywords::AUTH => offers.take_mechanisms(words),
                Keywords::SIZE if is_new => offers.size_max = words.next().and_then(size),
                Keywords::DELIVER_BY if is_new => {
                    let first = words.next().and_then(|word| word.split(|&o| o == b',').next());
                    offers.by_min = first.and_then(|digits| number(digits, 9)).unwrap_or(0);
                }
                Keywords::LIMITS if is_new => offers.limits = Limits::read(words),
                _ => {}
            }
        }
        offers
    }

    pub const fn has(&self, keywords: Keywords) -> bool {
        self.keywords.has(keywords)
    }

    fn take_mechanisms<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        self.keywords = self.keywords.with(Keywords::AUTH);
        for mechanism in names.filter_map(|name| find(name, MECHANISMS)) {
            self.keywords = self.keywords.with(mechanism);
        }
    }
}

impl Limits {
    /// RFC 9422 §3.7: bad syntax makes the whole of it unsaid, a bad value its limit alone.
    fn read<'a>(params: impl Iterator<Item = &'a [u8]>) -> Limits {
        let mut limits = Limits::default();
        for param in params {
            let equals = param.iter().position(|&octet| octet == b'=');
            let (name, value) = param.split_at(equals.unwrap_or(param.len()));
            let is_name =
                |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
            let is_value = |octet: &u8| matches!(octet, b'!'..=b'~') && *octet != b';';
            let value = value.split_first().map(|(_, value)| value);
            let is_sound = !name.is_empty()
                && name.iter().all(is_name)
                && value.is_none_or(|value| !value.is_empty() && value.iter().all(is_value));
            if !is_sound {
                return Limits::default();
            }
            let value = value.filter(|digits| !digits.starts_with(b"0"));
            let number = value.and_then(|digits| number(digits, 6));
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            if is("MAILMAX") {
                limits.mail_max = limits.mail_max.or(number);
            } else if is("RCPTMAX") {
                limits.rcpt_max = limits.rcpt_max.or(number);
            } else if is("RCPTDOMAINMAX") {
                limits.rcpt_domain_max = limits.rcpt_domain_max.or(number);
            }
        }
        limits
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// One to `most` digits, nine at the most.
fn number(digits: &[u8], most: usize) -> Option<u32> {
    let is_sound = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_sound.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

/// RFC 1870 §4: up to 20 digits; 0 says that there is no fixed limit.
fn size(digits: &[u8]) -> Option<u64> {
    let is_sound = digits.len() <= SIZE_DIGITS_MAX && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_sound)?;
    text.parse().ok().filter(|&size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::super::answer::Reader;
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    fn offers(lines: &str) -> Offers {
        let lines: Vec<&str> = lines.split('\n').collect();
        let mut text = String::from("250-mx.example says hello\r\n");
        for (index, line) in lines.iter().enumerate() {
            let dash = if index + 1 == lines.len() { ' ' } else { '-' };
            write!(text, "250{dash}{line}\r\n").unwrap();
        }
        let answer = Reader::new().take(text.as_bytes()).unwrap().unwrap();
        Offers::read(&answer)
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(lines: &str, want: Expect) {
        let offers = offers(lines);
        let all = NAMES.iter().chain(MECHANISMS);
        let names: Vec<&str> =
            all.filter(|(_, keyword)| offers.has(*keyword)).map(|(name, _)| *name).collect();
        let Offers { size_max, by_min, limits, .. } = offers;
        let Limits { mail_max, rcpt_max, rcpt_domain_max } = limits;
        let mut got = names.join(" ");
        for (name, value) in [
            ("size", size_max),
            ("mail", mail_max.map(Into::into)),
            ("rcpt", rcpt_max.map(Into::into)),
            ("domains", rcpt_domain_max.map(Into::into)),
        ] {
            if let Some(value) = value {
                write!(got, " {name}={value}").unwrap();
            }
        }
        if by_min > 0 {
            write!(got, " by={by_min}").unwrap();
        }
        want.assert_eq(&got);
    }

    #[test]
    fn knows_each_keyword_in_any_case() {
        check(
            "PIPELINING\nsize 1000\n8BitMime\nBINARYMIME\nCHUNKING\nSMTPUTF8\nDSN\nSTARTTLS\n\
             ENHANCEDSTATUSCODES\nREQUIRETLS\nDELIVERBY 240\nMT-PRIORITY STANAG4406\n\
             FUTURERELEASE 86400 2030-01-01T00:00:00Z\nXCLIENT NAME\nHELP",
            expect![
                "PIPELINING SIZE 8BITMIME BINARYMIME CHUNKING SMTPUTF8 DSN STARTTLS ENHANCEDSTATUSCODES REQUIRETLS DELIVERBY MT-PRIORITY FUTURERELEASE size=1000 by=240"
            ],
        );
        check("", expect![""]);
        check("PIPELININGS\nXSIZE 3\n-", expect![""]);
    }

    #[test]
    fn takes_no_keyword_from_the_line_with_the_name() {
        let answer = Reader::new().take(b"250 PIPELINING\r\n").unwrap().unwrap();
        assert_eq!(Offers::read(&answer), Offers::default());
    }

    #[test]
    fn reads_sizes_and_what_is_none() {
        check("SIZE", expect!["SIZE"]);
        check("SIZE 0", expect!["SIZE"]);
        check("SIZE 18446744073709551615", expect!["SIZE size=18446744073709551615"]);
        check("SIZE 99999999999999999999", expect!["SIZE"]);
        check("SIZE -1\nSIZE 5", expect!["SIZE"]);
        check("SIZE 5 6\nSIZE 7", expect!["SIZE size=5"]);
    }

    #[test]
    fn reads_mechanisms_of_both_spellings() {
        check("AUTH PLAIN LOGIN GSSAPI", expect!["AUTH PLAIN LOGIN"]);
        check("AUTH=login\nAUTH scram-sha-256", expect!["AUTH LOGIN SCRAM-SHA-256"]);
        check("AUTH", expect!["AUTH"]);
    }

    #[test]
    fn reads_limits_as_far_as_they_are_sound() {
        check(
            "LIMITS MAILMAX=1000 rcptmax=100 RCPTDOMAINMAX=1 OTHER FOO=x=y",
            expect!["LIMITS mail=1000 rcpt=100 domains=1"],
        );
        // RFC 9422 §3.7: a bad value is that limit's matter, bad syntax the keyword's.
        check("LIMITS MAILMAX=0 RCPTMAX=5", expect!["LIMITS rcpt=5"]);
        check("LIMITS MAILMAX=1000000 RCPTMAX", expect!["LIMITS"]);
        check("LIMITS MAILMAX=10 RCPT;MAX=5", expect!["LIMITS"]);
        check("LIMITS MAILMAX=10 RCPTMAX=", expect!["LIMITS"]);
        check("LIMITS MAILMAX=10 =5", expect!["LIMITS"]);
        check("LIMITS MAILMAX=10 X=;", expect!["LIMITS"]);
    }

    #[test]
    fn never_panics() {
        let words = [
            "SIZE",
            "LIMITS",
            "AUTH",
            "AUTH=",
            "DELIVERBY",
            " ",
            "=",
            "9",
            "99999999999",
            ";",
            "\t",
            "RCPTMAX",
            "PLAIN",
            ",",
            "é",
            "\n",
        ];
        arbtest::arbtest(|u| {
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=16)? {
                text.push_str(u.choose(&words)?);
            }
            offers(&text);
            Ok(())
        });
    }
}
