//! Wrong passwords by where they come from: who sends many waits longer for the next check.
//!
//! ```text
//!   failure: level + 1     every LOGIN_FAILURE_FORGOTTEN: level - 1
//!   level up to LOGIN_FAILURES_FREE: no wait; from there on a pause between two checks that doubles
//! ```
//!
//! The pause is taken before the check, whatever comes out of it, so that it tells nothing; checks
//! from one place that come at once take their turns. Success forgives nothing: who has a password
//! of his own would be free to guess others'. What is remembered is bounded.

use crate::bytes::hash::Map;
use crate::model::limits::{
    LOGIN_FAILURE_FORGOTTEN, LOGIN_FAILURES_FREE, LOGIN_FAILURES_MAX, LOGIN_PAUSE_MAX,
    LOGIN_PAUSE_MIN, LOGIN_WAIT_MAX,
};
use crate::model::time::Mono;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Failures that are not forgotten.
    level: u32,
    /// When the level was right.
    at: Mono,
    /// When the next check may begin.
    free_at: Mono,
}

/// Who failed lately.
#[derive(Debug)]
pub(super) struct Throttle {
    sites: Map<IpAddr, Record>,
    sites_max: usize,
}

impl Throttle {
    pub(super) fn new(sites_max: usize) -> Throttle {
        Throttle { sites: Map::default(), sites_max: sites_max.max(1) }
    }

    /// How long the next check from here has to wait; its turn is taken. `None`: too long, there
    /// are many that wait already.
    pub(super) fn enter(&mut self, site: IpAddr, now: Mono) -> Option<Duration> {
        let Some(record) = self.sites.get_mut(&site) else { return Some(Duration::ZERO) };
        record.forget(now);
        let begin = record.free_at.max(now);
        let wait = begin.since(now);
        if wait > LOGIN_WAIT_MAX {
            return None;
        }
        record.free_at = begin.after(record.pause());
        Some(wait)
    }

    pub(super) fn failed(&mut self, site: IpAddr, now: Mono) {
        if self.sites.len() >= self.sites_max && !self.sites.contains_key(&site) {
            self.make_room(now);
        }
        let fresh = Record { level: 0, at: now, free_at: now };
        let record = self.sites.entry(site).or_insert(fresh);
        record.forget(now);
        record.level = (record.level + 1).min(LOGIN_FAILURES_MAX);
    }

    /// Forgets who has nothing to be remembered for, else who failed least.
    fn make_room(&mut self, now: Mono) {
        self.sites.retain(|_, record| {
            record.forget(now);
            record.level > 0 || record.free_at > now
        });
        if self.sites.len() < self.sites_max {
            return;
        }
        let least = self.sites.iter().min_by_key(|(site, record)| (record.level, **site));
        if let Some(site) = least.map(|(&site, _)| site) {
            self.sites.remove(&site);
        }
    }
}

impl Record {
    fn forget(&mut self, now: Mono) {
        while self.level > 0 && now.since(self.at) >= LOGIN_FAILURE_FORGOTTEN {
            self.level -= 1;
            self.at = self.at.after(LOGIN_FAILURE_FORGOTTEN);
        }
        if self.level == 0 {
            self.at = now;
        }
    }

    /// The time between two checks.
    fn pause(&self) -> Duration {
        match self.level.checked_sub(LOGIN_FAILURES_FREE + 1) {
            None => Duration::ZERO,
            Some(over) => (LOGIN_PAUSE_MIN * 2_u32.pow(over.min(16))).min(LOGIN_PAUSE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn site(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    /// The waits of checks that all fail, each begun as soon as it may.
    fn waits(throttle: &mut Throttle, count: u32) -> Vec<u128> {
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..count {
            let wait = throttle.enter(site(1), now).unwrap();
            now = now.after(wait);
            throttle.failed(site(1), now);
            waits.push(wait.as_millis());
        }
        waits
    }

    #[test]
    fn waits_longer_with_every_failure_up_to_a_bound() {
        let mut throttle = Throttle::new(8);
        let waits = waits(&mut throttle, LOGIN_FAILURES_FREE + 12);
        let free = usize::try_from(LOGIN_FAILURES_FREE).unwrap() + 1;
        assert!(waits[..free].iter().all(|&wait| wait == 0), "{waits:?}");
        assert!(waits[free..].is_sorted(), "{waits:?}");
        assert_eq!(waits[free + 1], LOGIN_PAUSE_MIN.as_millis(), "{waits:?}");
        assert_eq!(waits.last(), Some(&LOGIN_PAUSE_MAX.as_millis()));
        // Others do not wait, and in a while it is forgotten.
        assert_eq!(throttle.enter(site(2), at(0)), Some(Duration::ZERO));
        assert_eq!(throttle.enter(site(1), at(3_600_000)), Some(Duration::ZERO));
        assert_eq!(throttle.enter(site(1), at(3_600_000)), Some(Duration::ZERO));
    }

    #[test]
    fn checks_that_come_at_once_take_turns_and_not_too_many_wait() {
        let mut throttle = Throttle::new(8);
        (0..LOGIN_FAILURES_MAX).for_each(|_| throttle.failed(site(1), at(0)));
        assert_eq!(throttle.enter(site(1), at(0)), Some(Duration::ZERO));
        assert_eq!(throttle.enter(site(1), at(0)), Some(LOGIN_PAUSE_MAX));
        assert!((0..100).any(|_| throttle.enter(site(1), at(0)).is_none()));
    }

    #[test]
    fn remembers_a_bounded_number_and_those_who_failed_most() {
        let mut throttle = Throttle::new(8);
        (0..LOGIN_FAILURES_MAX).for_each(|_| throttle.failed(site(0), at(0)));
        for number in 1..1_000 {
            throttle.failed(site(number), at(1));
            assert!(throttle.sites.len() <= 8);
        }
        assert!(throttle.sites.contains_key(&site(0)));
    }
}
