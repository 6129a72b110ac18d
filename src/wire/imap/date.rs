//! Dates of IMAP: INTERNALDATE and the days of SEARCH (RFC 9051 §9, date-time and date).
//!
//! ```text
//! date-time := DQUOTE (SP d / dd) "-" Mon "-" yyyy SP hh:mm:ss SP ("+" / "-") hhmm DQUOTE
//! date      := d[d] "-" Mon "-" yyyy          in quotes or not
//! ```

use super::super::date::{Day, day};
use super::scan::{Scan, What};
use crate::bytes::chain::Chain;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_A_DAY: i64 = 86_400;

/// A day without a time zone, in days since 1970-01-01; before it, negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub i64);

/// A moment, and the zone that it was told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Seconds since 1970-01-01T00:00:00Z; before it, negative.
    pub seconds: i64,
    /// Minutes that the zone is ahead of UTC.
    pub zone_minutes: i32,
}

impl DateTime {
    /// The day in its own zone, which SEARCH compares (RFC 9051 §6.4.4).
    pub fn date(self) -> Date {
        Date((self.seconds + i64::from(self.zone_minutes) * 60).div_euclid(SECONDS_A_DAY))
    }
}

impl Date {
    /// The day of a year from 0 to 9999; `None` if the month has no such day.
    pub fn new(year: i64, month: i64, day: i64) -> Option<Date> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=last).contains(&day) || !(0..=9_999).contains(&year) {
            return None;
        }
        // As `wire/date.rs` the other way: years begin in March.
        let shifted = if month > 2 { year } else { year - 1 };
        let (era, in_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
        let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Some(Date(era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468))
    }
}

/// Reads a date in quotes or without.
pub fn take_date(scan: &mut Scan<'_>) -> Result<Date, What> {
    let quoted = scan.take(b'"');
    let date = take_day(scan)?;
    if quoted {
        scan.expect(b'"', "a date has no closing quote")?;
    }
    Ok(date)
}

/// Reads a date-time in its quotes. One digit for the day is taken too, as clients send it.
pub fn take_date_time(scan: &mut Scan<'_>) -> Result<DateTime, What> {
    const BAD: What = "a date-time is like \"17-Jul-1996 02:44:25 -0700\"";
    scan.expect(b'"', BAD)?;
    scan.take(b' ');
    let date = take_day(scan)?;
    scan.expect(b' ', BAD)?;
    let hour = digits(scan, 2, BAD)?;
    scan.expect(b':', BAD)?;
    let minute = digits(scan, 2, BAD)?;
    scan.expect(b':', BAD)?;
    let second = digits(scan, 2, BAD)?;
    scan.expect(b' ', BAD)?;
    let east = scan.take(b'+');
    if !east {
        scan.expect(b'-', BAD)?;
    }
    let (zone_hour, zone_minute) = (digits(scan, 2, BAD)?, digits(scan, 2, BAD)?);
    scan.expect(b'"', BAD)?;
    // A leap second is as good as the one before it.
    if hour > 23 || minute > 59 || second > 60 || zone_minute > 59 {
        return Err("a date-time has no such time");
    }
    let zone = (zone_hour * 60 + zone_minute) * if east { 1 } else { -1 };
    let clock = hour * 3_600 + minute * 60 + second.min(59);
    Ok(DateTime {
        seconds: date.0 * SECONDS_A_DAY + clock - zone * 60,
        zone_minutes: i32::try_from(zone).map_err(|_| BAD)?,
    })
}

/// `d[d]-Mon-yyyy`.
fn take_day(scan: &mut Scan<'_>) -> Result<Date, What> {
    const BAD: What = "a date is like 1-Feb-1994";
    let text = scan.run(|octet| octet.is_ascii_digit(), BAD)?;
    let day: i64 = text.parse().ok().filter(|_| text.len() <= 2).ok_or(BAD)?;
    scan.expect(b'-', BAD)?;
    let name = scan.run(|octet| octet.is_ascii_alphabetic(), BAD)?;
    let month = (1..).zip(MONTHS).find(|(_, month)| month.eq_ignore_ascii_case(name));
    let (month, _) = month.ok_or(BAD)?;
    scan.expect(b'-', BAD)?;
    let year = digits(scan, 4, BAD)?;
    Date::new(year, month, day).ok_or("there is no such day")
}

/// Exactly `count` digits.
fn digits(scan: &mut Scan<'_>, count: usize, what: What) -> Result<i64, What> {
    let mut number = 0;
    for _ in 0..count {
        let digit = scan.peek().filter(u8::is_ascii_digit).ok_or(what)?;
        scan.take(digit);
        number = number * 10 + i64::from(digit - b'0');
    }
    Ok(number)
}

/// Writes a moment as date-time in its quotes, in UTC: `"17-Jul-1996 09:44:25 +0000"`.
pub fn put_date_time(out: &mut Chain, seconds: u32) {
    let Day { year, month, day } = day(seconds / 86_400);
    let clock = seconds % 86_400;
    let mut text = *b"\"dd-Mon-yyyy hh:mm:ss +0000\"";
    let mut put = |at: usize, number: u32| {
        text[at] = digit(number / 10);
        text[at + 1] = digit(number);
    };
    put(1, day);
    put(8, year / 100);
    put(10, year);
    put(13, clock / 3_600);
    put(16, clock / 60 % 60);
    put(19, clock % 60);
    if text[1] == b'0' {
        text[1] = b' ';
    }
    let month = usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index));
    text[4..7].copy_from_slice(month.map_or(b"???", |name| name.as_bytes()));
    out.put(&text);
}

fn digit(number: u32) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date_time(text: &str) -> Result<DateTime, What> {
        let mut scan = Scan::new(text.as_bytes(), false);
        let read = take_date_time(&mut scan)?;
        scan.end().map(|()| read)
    }

    #[test]
    fn reads_date_times_with_their_zones() {
        let read = date_time("\"17-Jul-1996 02:44:25 -0700\"").unwrap();
        assert_eq!((read.seconds, read.zone_minutes), (837_596_665, -420));
        assert_eq!(date_time("\" 1-Jan-1970 05:30:00 +0530\"").unwrap().seconds, 0);
        assert_eq!(date_time("\"1-jan-1970 00:00:00 +0000\"").unwrap().seconds, 0);
        assert_eq!(date_time("\"31-Dec-1969 23:59:60 +0000\"").unwrap().seconds, -1);
        assert_eq!(date_time("\"01-Jan-1970 00:30:00 +0100\"").unwrap().date(), Date(0));
    }

    #[test]
    fn refuses_moments_that_are_none() {
        for text in [
            "\"31-Feb-2024 00:00:00 +0000\"",
            "\"01-Foo-2024 00:00:00 +0000\"",
            "\"01-Jan-24 00:00:00 +0000\"",
            "\"01-Jan-2024 24:00:00 +0000\"",
            "\"01-Jan-2024 00:60:00 +0000\"",
            "\"01-Jan-2024 00:00:00\"",
            "\"01-Jan-2024 00:00:00 GMT\"",
            "\"001-Jan-2024 00:00:00 +0000\"",
            "01-Jan-2024 00:00:00 +0000",
        ] {
            assert!(date_time(text).is_err(), "{text}");
        }
        assert_eq!(Date::new(2100, 2, 29), None);
        assert_eq!(Date::new(2000, 2, 29), Some(Date(11_016)));
    }

    #[test]
    fn writes_what_it_reads() {
        for seconds in [0, 1, 951_782_400, 837_596_665, 1_795_579_879, u32::MAX] {
            let mut out = Chain::new();
            put_date_time(&mut out, seconds);
            let text = String::from_utf8(out.to_vec()).unwrap();
            assert_eq!(date_time(&text).map(|read| read.seconds), Ok(i64::from(seconds)), "{text}");
        }
        let mut out = Chain::new();
        put_date_time(&mut out, 3_600 * 24 * 6);
        assert_eq!(out.to_vec(), b"\" 7-Jan-1970 00:00:00 +0000\"");
    }

    #[test]
    fn counts_days_as_the_other_way_does() {
        for days in 0..50_000 {
            let Day { year, month, day } = day(days);
            let counted = Date::new(i64::from(year), i64::from(month), i64::from(day));
            assert_eq!(counted, Some(Date(i64::from(days))));
        }
    }
}
