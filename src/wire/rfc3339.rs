//! Moments as programs write them (RFC 3339 §5.6): `2026-11-25T04:10:45.123456Z`.

use super::date::days;
use crate::model::time::Wall;

/// The moment of such a text, with any zone and any number of digits behind the
/// second (those behind µs do not count); a space may stand for the T. `None` before 1970.
pub fn parse(text: &str) -> Option<Wall> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_zones_and_nothing_else() {
        let noon = parse("2026-11-29T12:00:00Z");
        assert_eq!(noon, Some(Wall(1_795_953_600_000_000)));
        for same in
            ["2026-11-29 12:00:00z", "2026-11-29T13:30:00+01:30", "2026-11-29t07:00:00.00-05:00"]
        {
            assert_eq!(parse(same), noon, "{same}");
        }
        let part = parse("2026-11-29T12:00:00.1234567Z");
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
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
