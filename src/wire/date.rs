//! Dates as mail writes them (RFC 5322 §3.3): `Wed, 25 Nov 2026 04:11:19 +0000`.
//!
//! Always in UTC and with a four-digit year, as RFC 5321 §4.4 wants trace lines.

const SECONDS_A_DAY: u32 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    pub year: u32,
    /// From 1.
    pub month: u32,
    /// From 1.
    pub day: u32,
}

/// The day that lies `days` after 1970-01-01.
pub fn day(days: u32) -> Day {
    // The year is thought to begin in March, so that the leap day is its last; 1970-01-01 lies
    // 719,468 days after 0000-03-01. An era is 400 years of 146,097 days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let in_era = shifted % 146_097;
    let year_in_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_in_era + year_in_era / 4 - year_in_era / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Day { year: era * 400 + year_in_era + u32::from(month <= 2), month, day }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar, if there is one.
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => 0,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // The year is thought to begin in March, as in [`day`], which goes the other way.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let in_era = year.rem_euclid(400);
    let in_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468)
}

/// Writes the moment `seconds` after 1970 as a date-time of RFC 5322 §3.3.
pub fn put_date(seconds: u32, out: &mut Vec<u8>) {
    let days = seconds / SECONDS_A_DAY;
    let clock = seconds % SECONDS_A_DAY;
    let Day { year, month, day } = day(days);
    let name = |names: &[&'static str], index: u32| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("???")
    };
    out.extend_from_slice(name(&WEEKDAYS, days % 7).as_bytes());
    out.extend_from_slice(b", ");
    put_two(day, out);
    out.push(b' ');
    out.extend_from_slice(name(&MONTHS, month - 1).as_bytes());
    out.push(b' ');
    put_two(year / 100, out);
    put_two(year % 100, out);
    out.push(b' ');
    put_two(clock / 3_600, out);
    out.push(b':');
    put_two(clock / 60 % 60, out);
    out.push(b':');
    put_two(clock % 60, out);
    out.extend_from_slice(b" +0000");
}

/// Two digits of a number below 100.
fn put_two(number: u32, out: &mut Vec<u8>) {
    let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or_default();
    out.push(digit(number / 10));
    out.push(digit(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(seconds: u32) -> String {
        let mut out = Vec::new();
        put_date(seconds, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_dates_from_1970_to_2106() {
        assert_eq!(shown(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(shown(951_782_399), "Mon, 28 Feb 2000 23:59:59 +0000");
        assert_eq!(shown(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(shown(1_000_000_000), "Sun, 09 Sep 2001 01:46:40 +0000");
        assert_eq!(shown(1_795_579_879), "Wed, 25 Nov 2026 04:11:19 +0000");
        assert_eq!(shown(u32::MAX), "Sun, 07 Feb 2106 06:28:15 +0000");
    }

    #[test]
    fn counts_days_without_gaps() {
        let length = |at: Day| match at.month {
            2 if at.year.is_multiple_of(4) && at.year != 2100 => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut before = day(0);
        for days in 1..=u32::MAX / SECONDS_A_DAY {
            let now = day(days);
            let next = if before.day < length(before) {
                Day { day: before.day + 1, ..before }
            } else if before.month < 12 {
                Day { month: before.month + 1, day: 1, ..before }
            } else {
                Day { year: before.year + 1, month: 1, day: 1 }
            };
            assert_eq!(now, next);
            let number = |value: u32| i64::from(value);
            let back = super::days(number(now.year), number(now.month), number(now.day));
            assert_eq!(back, Some(number(days)));
            before = now;
        }
    }
}
