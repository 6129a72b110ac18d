//! Sizes, times and name patterns as a person types them, and the small numbers of the tool.
//!
//! Every parser returns a sentence for the person who typed the value.

use std::time::Duration;

/// Where the tool's own clock comes from; it also drives the timers.
pub(crate) use tokio::time::Instant;

/// Widest number that a pattern may ask for, in digits.
const PATTERN_WIDTH_MAX: usize = 19;

/// Octets: a number with an optional K, M or G (powers of 1024).
pub(crate) fn parse_octets(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is no size: a number, with K, M or G behind it if you like");
    let text = text.strip_suffix('B').unwrap_or(text);
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.trim_end_matches(['K', 'k']), 10),
        Some(b'M' | b'm') => (text.trim_end_matches(['M', 'm']), 20),
        Some(b'G' | b'g') => (text.trim_end_matches(['G', 'g']), 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A time: a number with ms, s, m or h; a bare number is seconds.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: a number with ms, s, m or h behind it");
    let (digits, milliseconds) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1_000)
    } else if let Some(digits) = text.strip_suffix('m') {
        (digits, 60_000)
    } else if let Some(digits) = text.strip_suffix('h') {
        (digits, 3_600_000)
    } else {
        (text, 1_000)
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// Operations per second: a number with an optional `/s`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .strip_suffix("/s")
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("{text:?} is no rate: a number, with /s behind it if you like"))?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("a rate must be above zero".into())
    }
}

/// A share of a whole: `5%`, or 0.05.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let (digits, whole) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share =
        digits.parse::<f64>().map_err(|_| format!("{text:?} is no share, as in 5%"))? / whole;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{text:?} is no share: they go from 0% to 100%"))
    }
}

/// A name with at most one number in it, as printf writes it: `user%04d@example.test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    before: String,
    /// Digits at least, filled up with zeros; `None` when the pattern has no number.
    width: Option<usize>,
    after: String,
}

impl Pattern {
    /// A name without a number, whatever it holds.
    pub(crate) fn literal(text: &str) -> Pattern {
        Pattern { before: text.into(), width: None, after: String::new() }
    }

    /// Takes `%d`, `%4d` and `%04d` (the latter two are the same: names have no blanks).
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let Some((before, rest)) = text.split_once('%') else {
            return Ok(Pattern::literal(text));
        };
        let wrong = || format!("{text:?}: after % only a width and d are understood, as in %04d");
        let (digits, after) = rest.split_once('d').ok_or_else(wrong)?;
        let width = if digits.is_empty() { 1 } else { digits.parse().map_err(|_| wrong())? };
        if width > PATTERN_WIDTH_MAX || after.contains('%') {
            return Err(wrong());
        }
        Ok(Pattern { before: before.into(), width: Some(width), after: after.into() })
    }

    /// Appends the name with this number.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        if let Some(width) = self.width {
            write_padded(out, number, width);
        }
        out.extend_from_slice(self.after.as_bytes());
    }
}

/// Appends `number` in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    write_padded(out, number, 1);
}

/// Appends `number` in decimal with at least `width` digits (at most 20 are ever written).
pub(crate) fn write_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    while number > 0 {
        first -= 1;
        digits[first] = b"0123456789"[to_usize(number % 10)];
        number /= 10;
    }
    let first = first.min(digits.len().saturating_sub(width));
    out.extend_from_slice(&digits[first..]);
}

/// Appends the 32 hexadecimal digits of a digest.
pub(crate) fn write_hex(out: &mut Vec<u8>, digest: u128) {
    for byte in digest.to_be_bytes() {
        for nibble in [byte >> 4, byte & 15] {
            out.push(b"0123456789abcdef"[usize::from(nibble)]);
        }
    }
}

/// Cheap random numbers that a seed replays (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Streams of one seed are independent of each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Rng {
        let mut rng = Rng(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "there is no number below zero");
        self.next() % bound.max(1)
    }
}

/// The conversion that a 64-bit machine makes lossless.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The conversion that a 64-bit machine makes lossless.
pub(crate) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// For figures shown to people, where 53 bits are plenty.
#[expect(clippy::cast_precision_loss, reason = "figures for people need no more than 53 bits")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// A non-negative figure back as a whole number; saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates at both ends, which is what is wanted"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// Nanoseconds of a time; 584 years are enough.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970, for the Date field and the names of runs.
#[expect(clippy::disallowed_types, reason = "a tool that runs on a real machine only")]
pub(crate) fn wall_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Microseconds since 1970, for what two processes are to compare.
#[expect(clippy::disallowed_types, reason = "a tool that runs on a real machine only")]
pub(crate) fn wall_us() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `Wed, 25 Nov 2026 04:07:40 +0000` (RFC 5322 §3.3) from seconds since 1970.
pub(crate) fn date_field(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days counted from 1 March of year 0 make leap days fall at the end of a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS[to_usize(days % 7)],
        MONTHS[to_usize(month)],
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(value: impl std::fmt::Debug, want: &Expect) {
        want.assert_eq(&format!("{value:?}"));
    }

    #[test]
    fn understands_sizes_times_and_rates() {
        check(parse_octets("10K"), &expect!["Ok(10240)"]);
        check(parse_octets("77"), &expect!["Ok(77)"]);
        check(parse_octets("2MB"), &expect!["Ok(2097152)"]);
        check(
            parse_octets("ten"),
            &expect![[
                r#"Err("\"ten\" is no size: a number, with K, M or G behind it if you like")"#
            ]],
        );
        check(parse_time("250ms"), &expect!["Ok(250ms)"]);
        check(parse_time("2m"), &expect!["Ok(120s)"]);
        check(parse_time("3"), &expect!["Ok(3s)"]);
        check(parse_time("x").is_err(), &expect!["true"]);
        check(parse_rate("500/s"), &expect!["Ok(500.0)"]);
        check(parse_share("5%"), &expect!["Ok(0.05)"]);
        check(
            parse_share("1.5"),
            &expect![[r#"Err("\"1.5\" is no share: they go from 0% to 100%")"#]],
        );
        check(parse_rate("0"), &expect![[r#"Err("a rate must be above zero")"#]]);
    }

    #[test]
    fn writes_the_number_where_the_pattern_has_it() {
        let name = |text, number| {
            let mut out = Vec::new();
            Pattern::parse(text).map(|pattern| pattern.write(number, &mut out))?;
            Ok::<_, String>(String::from_utf8(out).unwrap())
        };
        check(name("user%04d@example.test", 7), &expect![[r#"Ok("user0007@example.test")"#]]);
        check(name("user%04d@example.test", 12345), &expect![[r#"Ok("user12345@example.test")"#]]);
        check(name("u%d", 0), &expect![[r#"Ok("u0")"#]]);
        check(name("bob@example.test", 5), &expect![[r#"Ok("bob@example.test")"#]]);
        check(name("u%s", 5).is_err(), &expect!["true"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(date_field(0), &expect![[r#""Thu, 01 Jan 1970 00:00:00 +0000""#]]);
        check(date_field(951_782_399), &expect![[r#""Mon, 28 Feb 2000 23:59:59 +0000""#]]);
        check(date_field(951_782_400), &expect![[r#""Tue, 29 Feb 2000 00:00:00 +0000""#]]);
        check(date_field(1_795_579_660), &expect![[r#""Wed, 25 Nov 2026 04:07:40 +0000""#]]);
    }

    #[test]
    fn numbers_are_written_as_format_does() {
        arbtest::arbtest(|u| {
            let number: u64 = u.arbitrary()?;
            let width = u.int_in_range(1..=20)?;
            let mut out = Vec::new();
            write_padded(&mut out, number, width);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:0width$}"));
            Ok(())
        });
    }
}
