//! The Date of a message: the day for SENTBEFORE, SENTON and SENTSINCE, the moment for SORT and
//! THREAD (RFC 5322 §3.3, §4.3; RFC 5256 §2.2).

use super::lexer::Lexer;
use crate::wire::date::days;

/// When a message says that it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Since 1970 in UTC. A time that makes no sense counts as 00:00:00, such a zone as UTC.
    pub seconds: i64,
    /// East of UTC, within a day.
    pub zone_minutes: i16,
}

impl Sent {
    /// The day as it stands in the field, zone left aside (RFC 9051 §6.4.4): days since 1970.
    pub fn day(self) -> i64 {
        (self.seconds + i64::from(self.zone_minutes) * 60).div_euclid(86_400)
    }
}

/// Reads the value of a Date field; `None` if it has no day.
pub fn sent(value: &[u8]) -> Option<Sent> {
    let mut words = Words { lexer: Lexer::new(value) };
    let mut word = words.next()?;
    if !word[0].is_ascii_digit() {
        // The name of the day; a month if the day comes second, as `ctime` has it.
        if month(word).is_some() && word.len() <= 9 && words.lexer.peek() != Some(b',') {
            return ctime(word, words);
        }
        words.lexer.skip_space();
        words.lexer.skip_if(b',');
        let next = words.next()?;
        if month(next).is_some() {
            return ctime(next, words);
        }
        word = next;
    }
    let day = number(word, 2)?;
    words.lexer.skip_if(b'-');
    let month = month(words.next()?)?;
    words.lexer.skip_if(b'-');
    let year = year(words.next()?)?;
    let days = days(year, month, day)?;
    let seconds = words.time().unwrap_or(0);
    let zone_minutes = words.next_zone().unwrap_or(0);
    let seconds = days * 86_400 + seconds - i64::from(zone_minutes) * 60;
    Some(Sent { seconds, zone_minutes })
}

/// `Nov 25 04:11:19 2026`, behind the name of the day.
fn ctime(named: &[u8], mut words: Words<'_>) -> Option<Sent> {
    let month = month(named)?;
    let day = number(words.next()?, 2)?;
    let seconds = words.time().unwrap_or(0);
    // A zone may stand before the year.
    let mut word = words.next()?;
    if !word[0].is_ascii_digit() {
        word = words.next()?;
    }
    let seconds = days(year(word)?, month, day)? * 86_400 + seconds;
    Some(Sent { seconds, zone_minutes: 0 })
}

struct Words<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Words<'a> {
    /// The next run of letters or digits, never empty.
    fn next(&mut self) -> Option<&'a [u8]> {
        self.lexer.skip_space();
        let is_digit = self.lexer.peek()?.is_ascii_digit();
        let word = self.lexer.run(|octet| {
            if is_digit { octet.is_ascii_digit() } else { octet.is_ascii_alphabetic() }
        });
        Some(word).filter(|word| !word.is_empty())
    }

    /// Hours, minutes and perhaps seconds, as seconds.
    fn time(&mut self) -> Option<i64> {
        let mut parts = [0; 3];
        for (index, part) in parts.iter_mut().enumerate() {
            if index > 0 {
                self.lexer.skip_space();
                if !self.lexer.skip_if(b':') && !self.lexer.skip_if(b'.') {
                    break;
                }
            }
            *part = number(self.next()?, 2)?;
        }
        let [hours, minutes, seconds] = parts;
        let is_time = hours < 24 && minutes < 60 && seconds <= 60;
        is_time.then_some(hours * 3_600 + minutes * 60 + seconds)
    }

    fn next_zone(&mut self) -> Option<i16> {
        self.lexer.skip_space();
        let sign = match self.lexer.peek()? {
            b'+' => 1,
            b'-' => -1,
            _ => return named_zone(self.next()?),
        };
        self.lexer.skip();
        let digits = number(self.next()?, 4)?;
        let minutes = digits / 100 * 60 + digits % 100;
        let minutes = i16::try_from(minutes).ok().filter(|_| digits < 2_400 && digits % 100 < 60);
        Some(sign * minutes?)
    }
}

/// RFC 5322 §4.3: the zones of North America; all others are as good as UTC.
fn named_zone(name: &[u8]) -> Option<i16> {
    const NAMES: [(&[u8], i16); 8] = [
        (b"EDT", -4),
        (b"EST", -5),
        (b"CDT", -5),
        (b"CST", -6),
        (b"MDT", -6),
        (b"MST", -7),
        (b"PDT", -7),
        (b"PST", -8),
    ];
    let known = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, hours)| hours * 60)
}

fn month(name: &[u8]) -> Option<i64> {
    const NAMES: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let front = name.get(..3)?.to_ascii_lowercase();
    let index = NAMES.chunks(3).position(|known| known == front)?;
    i64::try_from(index + 1).ok()
}

fn number(digits: &[u8], digits_max: usize) -> Option<i64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= digits_max)?;
    digits.parse().ok()
}

/// RFC 5322 §4.3: two digits mean 1950 to 2049, three count from 1900.
fn year(digits: &[u8]) -> Option<i64> {
    let year = number(digits, 4)?;
    Some(match (digits.len(), year) {
        (1 | 2, 0..=49) => year + 2_000,
        (1..=3, _) => year + 1_900,
        _ => year,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::date::put_date;

    #[track_caller]
    fn check(value: &str, seconds: i64, zone_minutes: i16) {
        assert_eq!(sent(value.as_bytes()), Some(Sent { seconds, zone_minutes }), "{value}");
    }

    #[test]
    fn reads_dates_old_and_new() {
        check("Thu, 01 Jan 1970 00:00:00 +0000", 0, 0);
        check(" Wed, 25 Nov 2026\r\n 04:11:19 +0000", 1_795_579_879, 0);
        // RFC 5256 §2.2.
        check("31 Dec 2000 16:01:33 -0800", 978_307_293, -480);
        check("Fri, 21 Nov 97 09(comment):   55  :  06 EST", 880_124_106, -300);
        check("25-Nov-2026 04:11 (x) +0130 (y)", 1_795_579_860 - 5_400, 90);
        check("1 Jan 1970 25:00:00 nonsense", 0, 0);
        check("Wed Nov 25 04:11:19 2026", 1_795_579_879, 0);
        check("Wed Nov 25 04:11:19 PST 2026", 1_795_579_879, 0);
        assert_eq!(sent(b"31 Dec 2000 20:00:00 -0800").unwrap().day(), 11_322);
        for wrong in ["", "x", "32 Jan 2000", "29 Feb 2001", "1 Foo 2000", "1 Jan", "Mon, ,"] {
            assert_eq!(sent(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn reads_what_we_write() {
        for seconds in (0..u32::MAX).step_by(86_399 * 97) {
            let mut text = Vec::new();
            put_date(seconds, &mut text);
            assert_eq!(sent(&text), Some(Sent { seconds: seconds.into(), zone_minutes: 0 }));
        }
    }
}
