//! When a message is tried again, and for how long.

use std::rc::Rc;
use std::time::Duration;

/// When mail is tried again, and when it is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The pause behind the first attempt, the second one, and so on; then the last one again. At
    /// least one.
    pub pauses: Vec<Duration>,
    /// How long a message is tried.
    pub lifetime: Duration,
    /// How long a report is tried.
    pub report_lifetime: Duration,
    /// After how long its sender is told that it takes long; none: never.
    pub warn_after: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Retry {
        let minutes = [1, 5, 15, 60, 240];
        Retry {
            pauses: minutes.into_iter().map(Duration::from_mins).collect(),
            lifetime: Duration::from_hours(5 * 24),
            report_lifetime: Duration::from_hours(24),
            warn_after: Some(Duration::from_hours(4)),
        }
    }
}

impl Retry {
    /// The pause behind attempt number `attempts`, which is at least 1. `chance` are random bits: a
    /// tenth more at most, so that what failed together does not come back together.
    pub fn pause(&self, attempts: u16, chance: u64) -> Duration {
        let place = usize::from(attempts.saturating_sub(1)).min(self.pauses.len() - 1);
        let pause = self.pauses[place];
        let tenth = u64::try_from(pause.as_millis() / 10).unwrap_or(u64::MAX).max(1);
        pause + Duration::from_millis(chance % tenth)
    }
}

/// The schedules of all domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    pub usual: Rc<Retry>,
    /// Those of routes, by [`matches()`]: the first that does holds. None: the usual one.
    pub routes: Vec<(Box<str>, Option<Rc<Retry>>)>,
}

impl Retries {
    /// What holds for mail to `domain`: in A-labels and lower case, or a literal.
    pub fn of(&self, domain: &str) -> &Retry {
        let route = self.routes.iter().find(|(pattern, _)| matches(pattern, domain));
        route.and_then(|(_, own)| own.as_ref()).unwrap_or(&self.usual)
    }
}

/// Whether a name is what a pattern says: the name itself, or `*` and what it ends in.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.len() > end.len() && name.ends_with(end),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_decides() {
        let own = |hours| {
            Some(Rc::new(Retry { lifetime: Duration::from_hours(hours), ..Retry::default() }))
        };
        let routes =
            vec![("a.example".into(), None), ("*.example".into(), own(1)), ("*".into(), own(2))];
        let retries = Retries { routes, ..Retries::default() };
        let hours = |domain| retries.of(domain).lifetime.as_secs() / 3_600;
        let domains = ["a.example", "b.example", "x.a.example", "example", "[192.0.2.1]"];
        assert_eq!(domains.map(hours), [120, 1, 1, 2, 2]);
    }

    #[test]
    fn waits_longer_each_time_and_then_as_long_again() {
        let retry = Retry::default();
        let minutes = |attempts| retry.pause(attempts, 0).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 5, 6, 1_000].map(minutes), [1, 5, 15, 60, 240, 240, 240]);
        assert_eq!(retry.pause(0, 0), retry.pause(1, 0));
        assert!(retry.pause(1, u64::MAX) <= Duration::from_secs(66));
    }
}
