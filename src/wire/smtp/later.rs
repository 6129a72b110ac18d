//! When a message may go on, and when it has to be there: HOLDFOR and HOLDUNTIL (RFC 4865 §3), BY
//! (RFC 2852 §4).
//!
//! ```text
//! HOLDFOR   := 1-9 *8DIGIT                                     seconds
//! HOLDUNTIL := YYYY-MM-DD "T" HH:MM:SS [ "." 1*DIGIT ] "Z"     UTC alone (RFC 3339 §5.6)
//! BY        := [ "-" / "+" ] 1*9DIGIT ";" ( "N" / "R" ) [ "T" ]
//! ```

use crate::model::time::Wall;
use crate::wire::date::{Day, day};
use crate::wire::rfc3339;
use std::fmt;

/// How long a message waits before it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds from now on.
    For(u32),
    /// Until so many seconds after 1970.
    Until(u64),
}

impl Hold {
    /// Seconds from `now` on, which are seconds since 1970.
    pub fn pause(self, now: u32) -> u64 {
        match self {
            Hold::For(seconds) => seconds.into(),
            Hold::Until(at) => at.saturating_sub(now.into()),
        }
    }

    pub(super) fn parse_for(value: &str) -> Option<Hold> {
        let is_sound = (1..=9).contains(&value.len())
            && value.bytes().all(|octet| octet.is_ascii_digit())
            && !value.starts_with('0');
        is_sound.then(|| value.parse().ok().map(Hold::For))?
    }

    pub(super) fn parse_until(value: &str) -> Option<Hold> {
        let is_utc = value.contains(['T', 't']) && value.ends_with(['Z', 'z']);
        let Wall(at) = is_utc.then(|| rfc3339::parse(value))??;
        Some(Hold::Until(at / 1_000_000))
    }
}

/// As a report tells what was asked for (RFC 4865 §5.1.2).
impl fmt::Display for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Hold::For(seconds) => write!(out, "for;{seconds}"),
            Hold::Until(at) => {
                write!(out, "until;{}", date_time(u32::try_from(at).unwrap_or(u32::MAX)))
            }
        }
    }
}

/// The moment `at`, seconds since 1970, as a date-time of RFC 3339.
pub fn date_time(at: u32) -> String {
    let Day { year, month, day } = day(at / 86_400);
    let clock = at % 86_400;
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A time by which a message has to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// From now on; what is over already is below zero.
    pub seconds: i32,
    /// What is late comes back; otherwise its sender is told, and it goes on.
    pub returns: bool,
    /// Its sender hears of every hop.
    pub traces: bool,
}

impl By {
    pub(super) fn parse(value: &str) -> Option<By> {
        let (number, mode) = value.split_once(';')?;
        let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
        let is_sound =
            (1..=9).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        let seconds: i32 = is_sound.then(|| number.parse().ok())??;
        let (returns, traces) = match mode.as_bytes() {
            [b'N' | b'n'] => (false, false),
            [b'N' | b'n', b'T' | b't'] => (false, true),
            [b'R' | b'r'] => (true, false),
            [b'R' | b'r', b'T' | b't'] => (true, true),
            _ => return None,
        };
        // RFC 2852 §4: what is late already cannot come back later.
        (!returns || seconds > 0).then_some(By { seconds, returns, traces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_long_to_hold() {
        assert_eq!(Hold::parse_for("1"), Some(Hold::For(1)));
        assert_eq!(Hold::parse_for("999999999"), Some(Hold::For(999_999_999)));
        for bad in ["", "0", "01", "+1", "1000000000", "1s"] {
            assert_eq!(Hold::parse_for(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_until_when_to_hold() {
        let until = |text| Hold::parse_until(text);
        assert_eq!(until("1970-01-02T00:00:01Z"), Some(Hold::Until(86_401)));
        assert_eq!(until("2026-11-25T04:11:19Z"), Some(Hold::Until(1_795_579_879)));
        assert_eq!(until("2028-02-29t23:59:60.123z"), Some(Hold::Until(1_835_481_600)));
        for bad in [
            "",
            "2026-11-25",
            "2026-11-25T04:11:19",
            "2026-11-25T04:11:19+00:00",
            "2026-11-25 04:11:19Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T04:60:00Z",
            "2026-11-25T4:11:19Z",
            "26-11-25T04:11:19Z",
            "2026-11-25T04:11:19.Z",
            "1969-12-31T23:59:59Z",
            "2026-11-25T04:11:19ZZ",
        ] {
            assert_eq!(until(bad), None, "{bad}");
        }
    }

    #[test]
    fn says_what_it_read() {
        for (text, hold) in [
            ("for;86400", Hold::parse_for("86400")),
            ("until;2026-11-25T04:11:19Z", Hold::parse_until("2026-11-25T04:11:19Z")),
            ("until;2028-03-01T00:00:00Z", Hold::parse_until("2028-02-29T23:59:60Z")),
        ] {
            assert_eq!(hold.unwrap().to_string(), text);
        }
        assert_eq!(date_time(u32::MAX), "2106-02-07T06:28:15Z");
        let until = Hold::Until(1_000);
        assert_eq!((until.pause(400), until.pause(1_000), until.pause(2_000)), (600, 0, 0));
        assert_eq!(Hold::For(7).pause(2_000), 7);
    }

    #[test]
    fn reads_by_when_it_has_to_be_there() {
        let by = |seconds, returns, traces| Some(By { seconds, returns, traces });
        assert_eq!(By::parse("120;R"), by(120, true, false));
        assert_eq!(By::parse("+000000001;rt"), by(1, true, true));
        assert_eq!(By::parse("-999999999;NT"), by(-999_999_999, false, true));
        assert_eq!(By::parse("0;n"), by(0, false, false));
        for bad in ["", "1", "1;", ";R", "0;R", "-1;R", "1000000000;N", "1;RR", "1;RTT", "+-1;N"] {
            assert_eq!(By::parse(bad), None, "{bad}");
        }
    }
}
