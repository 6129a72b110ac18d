//! Times, addresses and answers as people read them.

use crate::admin::request::Pause;

/// `45s`, `12m`, `3h12m`, `4d3h`.
pub(super) fn span(seconds: u32) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |whole: u32, unit: char, rest: u32, part: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{part}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => two(hours, 'h', minutes % 60, 'm'),
        (days, hours, _) => two(days, 'd', hours % 24, 'h'),
    }
}

/// How long ago.
pub(super) fn age(now: u32, then: u32) -> String {
    span(now.saturating_sub(then))
}

/// How long from now.
pub(super) fn due(now: u32, then: u32) -> String {
    span(then.saturating_sub(now))
}

/// The null sender too.
pub(super) fn address(text: &str) -> String {
    if text.is_empty() { "<>".into() } else { text.into() }
}

/// What was said, and by whom.
pub(super) fn said(host: Option<&str>, words: &str) -> String {
    match host {
        Some(host) => format!("{host} said: {words}"),
        None => words.into(),
    }
}

/// At most so many letters.
pub(super) fn short(text: &str, letters_max: usize) -> String {
    let mut letters = text.chars();
    let short: String = letters.by_ref().take(letters_max).collect();
    if letters.next().is_some() { short + "…" } else { short }
}

/// What is stopped.
pub(super) fn pause(pause: &Pause) -> String {
    match pause {
        Pause::All => "everything".into(),
        Pause::Domain(domain) => format!("domain {domain}"),
        Pause::Sender(sender) => format!("sender {}", address(sender)),
        Pause::Route(pattern) => format!("route {pattern}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_two_units_at_most() {
        let all = [0, 59, 60, 3_599, 3_600, 11_520, 86_399, 86_400, 90_000, u32::MAX].map(span);
        let want = ["0s", "59s", "1m", "59m", "1h", "3h12m", "23h59m", "1d", "1d1h", "49710d6h"];
        assert_eq!(all, want);
        assert_eq!((age(5, 10), due(10, 5)), ("0s".into(), "0s".into()));
    }

    #[test]
    fn cuts_between_letters() {
        assert_eq!(short("grün", 4), "grün");
        assert_eq!(short("grüner", 3), "grü…");
    }
}
