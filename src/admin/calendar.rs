//! Writes a moment the way logs and HTTP want it, in UTC, and reads what an operator typed.

use crate::model::time::Wall;
use crate::wire::date::days;

/// A moment taken apart (proleptic Gregorian calendar).
struct Parts {
    year: u64,
    month: usize,
    day: u64,
    weekday: usize,
    second_of_day: u64,
    micros: u64,
}

/// `2026-11-25T04:10:45.123456Z` (RFC 3339 §5.6).
pub(crate) fn rfc3339(at: Wall) -> String {
    let Parts { year, month, day, second_of_day, micros, .. } = parts(at);
    let (hour, minute, second) = clock(second_of_day);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The moment of a text as [`rfc3339`] writes it, with any zone and any number of digits behind the
/// second (those behind µs do not count); a space may stand for the T. `None` before 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Wall> {
    let (day, clock) = text.split_once(['T', 't', ' '])?;
    let (clock, east) = zone(clock)?;
    let (clock, micros) = match clock.split_once('.') {
        Some((clock, digits)) => (clock, fraction(digits)?),
        None => (clock, 0),
    };
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    // A leap second may be meant.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second - east;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(micros).map(Wall)
}

/// What stands before the zone, and the seconds that the zone lies east.
fn zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = clock.rfind(['+', '-'])?;
    let (clock, zone) = clock.split_at(at);
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    let east = if zone.starts_with('-') { -1 } else { 1 };
    (hours < 24 && minutes < 60).then_some((clock, east * (hours * 3_600 + minutes * 60)))
}

/// Digits behind the second, in µs.
fn fraction(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<6}").get(..6)?.parse().ok()
}

/// Numbers of so many digits each.
fn numbers<const COUNT: usize>(
    text: &str,
    between: char,
    digits: [usize; COUNT],
) -> Option<[i64; COUNT]> {
    let mut parts = text.split(between);
    let mut numbers = [0; COUNT];
    for (number, len) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_sound = part.len() == len && part.bytes().all(|octet| octet.is_ascii_digit());
        *number = is_sound.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// `Wed, 25 Nov 2026 04:10:45 GMT` (RFC 9110 §5.6.7).
pub(super) fn http_date(at: Wall) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Parts { year, month, day, weekday, second_of_day, .. } = parts(at);
    let (hour, minute, second) = clock(second_of_day);
    let (weekday, month) = (DAYS[weekday], MONTHS[month - 1]);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn clock(second_of_day: u64) -> (u64, u64, u64) {
    (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60)
}

fn parts(at: Wall) -> Parts {
    let seconds = at.0 / 1_000_000;
    let days = seconds / 86_400;
    // Years begin in March here, so that the leap day is the last of its year; eras of 400 years
    // have 146,097 days each. Day 0 is 1970-01-01, which is day 719,468 since 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Parts {
        year,
        month: usize::try_from(month).expect("at most 12"),
        day,
        weekday: usize::try_from((days + 4) % 7).expect("at most 6"),
        second_of_day: seconds % 86_400,
        micros: at.0 % 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn reads_what_it_writes_and_other_zones() {
        for micros in [0, 951_782_400_000_042, 1_795_579_845_123_456] {
            assert_eq!(parse_rfc3339(&rfc3339(Wall(micros))), Some(Wall(micros)));
        }
        let noon = parse_rfc3339("2026-11-29T12:00:00Z");
        assert_eq!(noon, Some(Wall(1_795_953_600_000_000)));
        for same in
            ["2026-11-29 12:00:00z", "2026-11-29T13:30:00+01:30", "2026-11-29t07:00:00.00-05:00"]
        {
            assert_eq!(parse_rfc3339(same), noon, "{same}");
        }
        let part = parse_rfc3339("2026-11-29T12:00:00.1234567Z");
        assert_eq!(part, Some(Wall(1_795_953_600_123_456)));
        for bad in [
            "",
            "2026-11-29",
            "2026-11-29T12:00:00",
            "2026-11-29T12:00Z",
            "2026-02-29T12:00:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T12:00:00.Z",
            "2026-11-29T12:00:00+1:00",
            "2026-11-29T12:00:00+24:00",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn writes_leap_days_and_turns_of_years() {
        let moments = [0, 951_782_399, 951_782_400, 1_795_579_845, 4_107_542_399, 4_294_967_295];
        let lines: Vec<String> = moments
            .into_iter()
            .map(|second| {
                let at = Wall(second * 1_000_000 + 42);
                format!("{} {}", rfc3339(at), http_date(at))
            })
            .collect();
        expect![[r"
            1970-01-01T00:00:00.000042Z Thu, 01 Jan 1970 00:00:00 GMT
            2000-02-28T23:59:59.000042Z Mon, 28 Feb 2000 23:59:59 GMT
            2000-02-29T00:00:00.000042Z Tue, 29 Feb 2000 00:00:00 GMT
            2026-11-25T04:10:45.000042Z Wed, 25 Nov 2026 04:10:45 GMT
            2100-02-28T23:59:59.000042Z Sun, 28 Feb 2100 23:59:59 GMT
            2106-02-07T06:28:15.000042Z Sun, 07 Feb 2106 06:28:15 GMT"]]
        .assert_eq(&lines.join("\n"));
    }
}
