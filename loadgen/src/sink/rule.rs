//! What goes wrong at a site, when, and how often.
//!
//! A rule names a moment of the session and what happens there instead of the good answer. It
//! may be bound to a chance, to a time since the start, and to the first attempts of each
//! message (greylisting).

use std::hash::BuildHasher as _;
use std::sync::RwLock;
use std::time::Duration;

use pombal::bytes::hash::Map;
use serde::{Deserialize, Deserializer, Serialize};

use crate::values::{Rng, float, parse_time, whole};

/// Attempts that are remembered for `first`; more of them are as if they were no first ones.
const ATTEMPTS_MAX: usize = 1 << 23;
/// Octets of a text that is answered.
const TEXT_OCTETS_MAX: usize = 400;

/// The moments of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Connect,
    /// HELO, EHLO, LHLO.
    Hello,
    Starttls,
    /// In the middle of the handshake that follows STARTTLS.
    Tls,
    Mail,
    Rcpt,
    /// The answer to DATA itself.
    Data,
    /// In the middle of a message.
    Body,
    /// After the final dot or the last chunk.
    Dot,
    Quit,
    /// RSET, NOOP, VRFY, and what is not understood.
    Other,
}

/// How many moments there are.
pub(crate) const STAGES: usize = 11;

impl Stage {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Hello => "hello",
            Stage::Starttls => "starttls",
            Stage::Tls => "tls",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Data => "data",
            Stage::Body => "body",
            Stage::Dot => "dot",
            Stage::Quit => "quit",
            Stage::Other => "other",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Is there no reply at this moment, so that only the connection can suffer?
    fn is_mute(self) -> bool {
        matches!(self, Stage::Tls | Stage::Body)
    }
}

/// What happens instead of the good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The text begins with its enhanced code.
    Reply {
        code: u16,
        text: Box<str>,
    },
    Fail(Failing),
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failing {
    /// Closes.
    Drop,
    /// Closes with RST.
    Reset,
    /// Keeps the connection and says nothing more.
    Hang,
    /// Answers with a reply that has no last line.
    EndlessLines,
    /// Answers with a line that has no end.
    EndlessLine,
}

impl Failing {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Failing::Drop => "drop",
            Failing::Reset => "reset",
            Failing::Hang => "hang",
            Failing::EndlessLines => "endless-lines",
            Failing::EndlessLine => "endless-line",
        }
    }
}

/// A time as the command line has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        let text = String::deserialize(from)?;
        parse_time(&text).map(Time).map_err(serde::de::Error::custom)
    }
}

/// A rule as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    at: Stage,
    code: Option<u16>,
    text: Option<String>,
    #[serde(rename = "do")]
    failing: Option<Failing>,
    chance: Option<f64>,
    after: Option<Time>,
    #[serde(rename = "for")]
    lasts: Option<Time>,
    first: Option<u32>,
}

impl Written {
    pub(crate) fn stage(&self) -> Stage {
        self.at
    }
}

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Tells it from others where attempts are counted.
    number: u64,
    pub(crate) at: Stage,
    pub(crate) act: Act,
    /// Of all 64-bit numbers those up to this one.
    chance: u64,
    /// Times since the start between which it holds.
    after: Duration,
    until: Option<Duration>,
    first: Option<u32>,
}

impl Rule {
    /// Makes sense of a written rule, the `number`-th of all.
    pub(crate) fn new(written: &Written, number: u64) -> Result<Rule, String> {
        let at = written.at;
        let act = match (written.code, written.failing) {
            (Some(code), None) => Act::Reply { code, text: reply_text(code, written)? },
            (None, Some(_)) if written.text.is_some() => {
                return Err("a rule with `do` has no `text`".into());
            }
            (None, Some(failing)) => Act::Fail(failing),
            _ => return Err("a rule has either `code` or `do`".into()),
        };
        let is_said = !matches!(act, Act::Fail(Failing::Drop | Failing::Reset | Failing::Hang));
        if at.is_mute() && is_said {
            let label = at.label();
            return Err(format!("at {label:?} nothing is answered: drop, reset and hang alone"));
        }
        let chance = written.chance.unwrap_or(1.0);
        if !(chance > 0.0 && chance <= 1.0) {
            return Err("`chance` is above 0 and at most 1".into());
        }
        let after = written.after.map_or(Duration::ZERO, |time| time.0);
        let until = written.lasts.map(|time| after.saturating_add(time.0));
        let chance = whole(chance * float(u64::MAX));
        Ok(Rule { number, at, act, chance, after, until, first: written.first })
    }

    /// Does it happen now? `key` tells one message from another, as far as it is known.
    pub(crate) fn fires(
        &self,
        elapsed: Duration,
        rng: &mut Rng,
        attempts: &Attempts,
        key: u64,
    ) -> bool {
        elapsed >= self.after
            && self.until.is_none_or(|until| elapsed < until)
            && (self.chance == u64::MAX || rng.next() <= self.chance)
            && self.first.is_none_or(|first| attempts.count(self.number, key) <= first)
    }
}

fn reply_text(code: u16, written: &Written) -> Result<Box<str>, String> {
    if !(400..600).contains(&code) {
        return Err("`code` is 400 to 599".into());
    }
    let text = written.text.as_deref().unwrap_or(match code {
        421 => "4.3.2 closing, come back later",
        400..500 => "4.3.0 not now",
        _ => "5.3.0 not here",
    });
    let is_line = text.bytes().all(|octet| octet >= b' ' && octet != 0x7f);
    if !is_line || text.len() > TEXT_OCTETS_MAX {
        return Err(format!("`text` is one line of at most {TEXT_OCTETS_MAX} octets"));
    }
    Ok(text.into())
}

/// Counts the attempts of what has the same key.
#[derive(Debug, Default)]
pub(crate) struct Attempts(RwLock<Map<u64, u32>>);

impl Attempts {
    /// Which attempt this one is, from 1; `u32::MAX` where no more can be remembered.
    fn count(&self, rule: u64, key: u64) -> u32 {
        let mut seen = self.0.write().expect("no count panics");
        let key = steady_hash(&(rule, key));
        if seen.len() >= ATTEMPTS_MAX && !seen.contains_key(&key) {
            return u32::MAX;
        }
        let count = seen.entry(key).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

/// A hash that is the same in every run.
pub(crate) fn steady_hash(of: &impl std::hash::Hash) -> u64 {
    Map::<u64, u64>::default().hasher().hash_one(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn rule(text: &str) -> Result<Rule, String> {
        let written = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Rule::new(&written, 1)
    }

    #[track_caller]
    fn check_wrong(text: &str, want: &Expect) {
        want.assert_eq(&rule(text).unwrap_err());
    }

    #[test]
    fn refuses_rules_that_cannot_be_meant() {
        check_wrong("at = 'mail'", &expect!["a rule has either `code` or `do`"]);
        check_wrong("at = 'mail'\ncode = 250", &expect!["`code` is 400 to 599"]);
        check_wrong(
            "at = 'body'\ncode = 451",
            &expect![[r#"at "body" nothing is answered: drop, reset and hang alone"#]],
        );
        check_wrong(
            "at = 'tls'\ndo = 'endless-line'",
            &expect![[r#"at "tls" nothing is answered: drop, reset and hang alone"#]],
        );
        check_wrong(
            "at = 'dot'\ncode = 451\nchance = 1.5",
            &expect!["`chance` is above 0 and at most 1"],
        );
        check_wrong(
            "at = 'dot'\ncode = 451\ntext = \"a\\nb\"",
            &expect!["`text` is one line of at most 400 octets"],
        );
        check_wrong(
            "at = 'dot'\ndo = 'drop'\ntext = 'a'",
            &expect!["a rule with `do` has no `text`"],
        );
        check_wrong(
            "at = 'dot'\ncode = 451\nfor = 'long'",
            &expect![[r#""long" is no time: a number with ms, s, m or h behind it"#]],
        );
        check_wrong(
            "at = 'dot'\ncode = 451\noften = 3",
            &expect![
                "unknown field `often`, expected one of `at`, `code`, `text`, `do`, `chance`, `after`, `for`, `first`"
            ],
        );
    }

    #[test]
    fn holds_for_its_time_and_the_first_attempts() {
        let (mut rng, attempts) = (Rng::new(1, 1), Attempts::default());
        let mut fires = |rule: &Rule, seconds, key| {
            rule.fires(Duration::from_secs(seconds), &mut rng, &attempts, key)
        };
        let timed = rule("at = 'rcpt'\ncode = 451\nafter = '10s'\nfor = '20s'").unwrap();
        assert_eq!([9, 10, 29, 30].map(|at| fires(&timed, at, 1)), [false, true, true, false]);
        let grey = rule("at = 'rcpt'\ncode = 451\nfirst = 2").unwrap();
        assert_eq!([7, 7, 8, 7].map(|key| fires(&grey, 0, key)), [true, true, true, false]);
    }

    #[test]
    fn happens_as_often_as_its_chance_says() {
        let (mut rng, attempts) = (Rng::new(1, 1), Attempts::default());
        let rule = rule("at = 'rcpt'\ndo = 'reset'\nchance = 0.25").unwrap();
        let count = (0..10_000).filter(|_| rule.fires(Duration::ZERO, &mut rng, &attempts, 0));
        assert!((2_300..2_700).contains(&count.count()));
    }
}
