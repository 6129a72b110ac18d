//! Writes a moment the way logs and HTTP want it, in UTC.

use crate::model::time::Wall;

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
