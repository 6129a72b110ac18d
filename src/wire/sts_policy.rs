//! MTA-STS: the record that tells of a policy, and the policy (RFC 8461 §3.1, §3.2).
//!
//! ```text
//! record := "v=STSv1" ; "id=" 1*32(ALPHA / DIGIT) [; others]
//! policy := line *(LF line)           CRLF as well; an empty line says nothing
//! line   := "version: STSv1" / "mode: " ("enforce" / "testing" / "none") / "max_age: " 1*10DIGIT
//!         / "mx: " ["*."] domain / name ":" anything
//! ```
//! Of what may stand there once, the first counts. One line that is malformed spoils the policy.

use super::policy_record::{fields, is_name, is_value};
use crate::model::limits::STS_MAX_AGE;
use std::fmt;
use std::time::Duration;

/// Octets of an id.
const ID_OCTETS_MAX: usize = 32;
const WSP: [char; 2] = [' ', '\t'];

/// What a domain wants done where its servers do not prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Mail is not given to them.
    Enforce,
    /// It is, and the failure is reported.
    Testing,
    /// The domain has no policy (any more).
    None,
}

/// A domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// How long it holds from when it was fetched on; at most [`STS_MAX_AGE`].
    pub max_age: Duration,
    /// Which servers are meant: names in lower case, or `*.` and what follows one label.
    mx: Box<[Box<str>]>,
}

/// Why there is no policy in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not UTF-8.
    Encoding,
    /// This line, from 1 on, is none that could stand in a policy.
    Line(usize),
    /// One of the fields that have to be there is missing.
    Missing(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Encoding => out.write_str("the policy is not UTF-8"),
            Fault::Line(number) => write!(out, "line {number} of the policy is malformed"),
            Fault::Missing(field) => write!(out, "the policy has no {field}"),
        }
    }
}

impl Mode {
    fn parse(text: &str) -> Option<Mode> {
        [Mode::Enforce, Mode::Testing, Mode::None].into_iter().find(|mode| mode.name() == text)
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        }
    }
}

/// The id of the policy that a domain has, by the TXT records of `_mta-sts` in it; each with its strings
/// joined.
pub fn id<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let all = fields(records, "v=STSv1")?;
    let is_id = |id: &str| {
        (1..=ID_OCTETS_MAX).contains(&id.len())
            && id.bytes().all(|octet| octet.is_ascii_alphanumeric())
    };
    let (_, id) = all.iter().find(|(name, _)| *name == "id")?;
    (is_id(id) && all.iter().all(|(_, value)| is_value(value))).then_some(id)
}

impl Policy {
    /// Of the octets of a policy file.
    pub fn parse(octets: &[u8]) -> Result<Policy, Fault> {
        let text = str::from_utf8(octets).map_err(|_| Fault::Encoding)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(WSP);
            if line.is_empty() {
                continue;
            }
            let malformed = Fault::Line(index + 1);
            let (name, value) = line.split_once(':').ok_or(malformed)?;
            let value = value.trim_start_matches(WSP);
            match name {
                "version" if version.is_none() => {
                    version = Some((value == "STSv1").then_some(()).ok_or(malformed)?);
                }
                "mode" if mode.is_none() => mode = Some(Mode::parse(value).ok_or(malformed)?),
                "max_age" if max_age.is_none() => max_age = Some(age(value).ok_or(malformed)?),
                "mx" => mx.push(pattern(value).ok_or(malformed)?),
                _ if is_name(name) && !value.is_empty() && !value.contains(char::is_control) => {}
                _ => return Err(malformed),
            }
        }
        version.ok_or(Fault::Missing("version"))?;
        let mode = mode.ok_or(Fault::Missing("mode"))?;
        let max_age = max_age.ok_or(Fault::Missing("max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(Fault::Missing("mx"));
        }
        Ok(Policy { mode, max_age, mx: mx.into() })
    }

    /// Whether a server is meant (RFC 8461 §4.1). `host` is its name in the MX record, in A-labels and
    /// lower case.
    pub fn is_for(&self, host: &str) -> bool {
        let parent = host.split_once('.').filter(|(label, _)| !label.is_empty());
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => parent.is_some_and(|(_, parent)| parent == suffix),
            None => **pattern == *host,
        })
    }

    /// Which servers are meant, each in the words of the policy.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.mx.iter().map(|pattern| &**pattern)
    }

    /// Its fields, a line each: for reports (RFC 8460 §4.5), and to be parsed again.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let mode = format!("mode: {}", self.mode.name());
        let max_age = format!("max_age: {}", self.max_age.as_secs());
        let mx = self.mx.iter().map(|pattern| format!("mx: {pattern}"));
        ["version: STSv1".to_owned(), mode].into_iter().chain(mx).chain([max_age])
    }

    /// Octets that it takes.
    pub fn octets(&self) -> usize {
        self.mx.iter().map(|pattern| size_of::<Box<str>>() + pattern.len()).sum::<usize>()
            + size_of::<Policy>()
    }
}

/// RFC 8461 §3.2 has a most; a longer one is as long as that.
fn age(text: &str) -> Option<Duration> {
    let is_number =
        (1..=10).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    let seconds: u64 = text.parse().ok().filter(|_| is_number)?;
    Some(Duration::from_secs(seconds).min(STS_MAX_AGE))
}

/// `["*."] Domain`, in lower case.
fn pattern(text: &str) -> Option<Box<str>> {
    let domain = text.strip_prefix("*.").unwrap_or(text);
    let is_inner = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (domain.len() <= 253 && domain.split('.').all(is_label))
        .then(|| text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::fmt::Write as _;

    #[test]
    fn finds_the_id_of_the_one_record() {
        let long = format!("v=STSv1; id={}", "a".repeat(32));
        let too_long = format!("{long}a");
        for (records, found) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1;id=1"], Some("1")),
            (&["v=STSv1 ;id=1"], None),
            (&["v=STSv1;\t id=1 \t;  "], Some("1")),
            (&["v=STSv1; a.b-c_d=x:/?; id=1; b=2"], Some("1")),
            // Others are discarded, also a second one that begins with a space.
            (&["v=spf1 -all", "v=STSv1; id=1", " v=STSv1; id=2", "v=STSv1"], Some("1")),
            (&["v=STSv1; id=1", "v=STSv1; id=1"], None),
            (&["v=STSv1; id=1", "v=STSv1; rubbish"], None),
            (&["v=STSv2; id=1"], None),
            (&["v=stsv1; id=1"], None),
            (&["V=STSv1; id=1"], None),
            (&["id=1; v=STSv1;"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv1; ;id=1"], None),
            (&["v=STSv1; id=1;;"], None),
            (&["v=STSv1; id=1 "], None),
            (&["v=STSv1; id"], None),
            (&["v=STSv1; ID=1"], None),
            (&["v=STSv1; id="], None),
            (&["v=STSv1; id=a-b"], None),
            (&["v=STSv1; id=1; id=2"], Some("1")),
            (&["v=STSv1; id=1; a=b=c"], None),
            (&["v=STSv1; id=1; a=b c"], None),
            (&["v=STSv1; id=1; =c"], None),
            (&["v=STSv1; id=1; a="], None),
            (&["v=STSv1; id=1; .a=b"], None),
            (&[&long], Some(&"a".repeat(32))),
            (&[&too_long], None),
            (&[], None),
        ] {
            let octets = records.iter().map(|record| record.as_bytes());
            assert_eq!(id(octets), found, "{records:?}");
        }
        assert_eq!(id([&b"v=STSv1; id=1; a=\xff"[..]]), None);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn reads_policies() {
        let mut got = String::new();
        let long =
            format!("version: STSv1\nmode: none\nmax_age: 1\nmx: {}.example", "a".repeat(64));
        for text in [
            "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.NET\r\nmax_age: 604800\r\n",
            "version:STSv1\nmode:\ttesting \t\nmx:  mail.example.com\nmax_age: 0",
            "max_age: 31557601\nmode: none\nversion: STSv1\n\n",
            "version: STSv1\nmode: none\nmode: enforce\nmax_age: 9999999999\nmax_age: x\nversion: y",
            "version: STSv1\nmode: none\nmax_age: 1\nx-new.field_1-2: what, ü: ever\n",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: none",
            "mode: none\nmax_age: 1",
            "version: STSv1\nmax_age: 1",
            "version: STSv2\nmode: none\nmax_age: 1",
            "version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.example",
            "version: STSv1\nmode: none\nmax_age: -1",
            "version: STSv1\nmode: none\nmax_age: 12345678901",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: ",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: *",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: *.*.example",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: a*.example",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: mail..example",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: mail.example.",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: -a.example",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: a.example b.example",
            "version: STSv1\nmode: none\nmax_age: 1\nmx: bücher.example",
            &long,
            "version: STSv1\nmode: none\nmax_age: 1\n mx: a.example",
            "version: STSv1\nmode: none\nmax_age: 1\nnothing",
            "version: STSv1\nmode: none\nmax_age: 1\nempty:",
            "version: STSv1\nmode: none\nmax_age: 1\ncontrol: a\u{7}b",
            "version: STSv1\rmode: none\rmax_age: 1",
            "<html>not found</html>",
            "",
        ] {
            match Policy::parse(text.as_bytes()) {
                Ok(policy) => {
                    let lines: Vec<_> = policy.lines().collect();
                    let again = Policy::parse(lines.join("\n").as_bytes());
                    assert_eq!(again.as_ref(), Ok(&policy), "it says the same again");
                    writeln!(got, "{}", lines.join(", ")).unwrap();
                }
                Err(fault) => writeln!(got, "{fault}").unwrap(),
            }
        }
        expect![[r"
            version: STSv1, mode: enforce, mx: mail.example.com, mx: *.example.net, max_age: 604800
            version: STSv1, mode: testing, mx: mail.example.com, max_age: 0
            version: STSv1, mode: none, max_age: 31557600
            version: STSv1, mode: none, max_age: 31557600
            version: STSv1, mode: none, max_age: 1
            the policy has no mx
            the policy has no max_age
            the policy has no version
            the policy has no mode
            line 1 of the policy is malformed
            line 2 of the policy is malformed
            line 3 of the policy is malformed
            line 3 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 4 of the policy is malformed
            line 1 of the policy is malformed
            line 1 of the policy is malformed
            the policy has no version
        "]]
        .assert_eq(&got);
        assert_eq!(Policy::parse(b"version: STSv1\xff"), Err(Fault::Encoding));
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let text =
            "version: STSv1\nmode: enforce\nmax_age: 1\nmx: mail.example.com\nmx: *.example.net";
        let policy = Policy::parse(text.as_bytes()).unwrap();
        for (host, meant) in [
            ("mail.example.com", true),
            ("a.mail.example.com", false),
            ("example.com", false),
            ("a.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("", false),
        ] {
            assert_eq!(policy.is_for(host), meant, "{host}");
        }
    }
}
