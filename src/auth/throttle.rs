//! Wrong passwords by where they come from and by whose they are to be: who sends many waits longer
//! for the next check. One for all shards.
//!
//! ```text
//!   failure: level + 1     every `forgotten`: level - 1
//!   level up to `free`: no wait; from there on a pause between two checks that doubles
//! ```
//!
//! Counted are an address, the network around it, and an account, whatever address is tried; the
//! longest of the three waits holds. An account knows the addresses from which its owner came lately:
//! from there its own count does not hold, so that nobody is kept out of his mail from home by those
//! who guess from everywhere else. A name that is no account is counted as one, and tells nothing.
//!
//! The pause is taken before the check, whatever comes out of it; checks that come at once take their
//! turns. Success forgives nothing: who has a password of his own would be free to guess others'.

use crate::model::limits::{
    LOGIN_ACCOUNT_PAUSE_MAX, LOGIN_FAILURE_FORGOTTEN, LOGIN_FAILURES_ACCOUNT_FREE,
    LOGIN_FAILURES_FREE, LOGIN_FAILURES_NETWORK_FREE, LOGIN_FAILURES_OVER_MAX,
    LOGIN_NETWORK_FAILURE_FORGOTTEN, LOGIN_NETWORK_PAUSE_MAX, LOGIN_OWNER_KNOWN, LOGIN_PAUSE_MAX,
    LOGIN_PAUSE_MIN, LOGIN_WAIT_MAX,
};
use crate::model::site::site;
use crate::model::time::Mono;
use crate::policy::moments::{Moments, Place};
use crate::policy::network;
use std::net::IpAddr;
use std::time::Duration;

/// How many failures cost nothing; the addresses and accounts of a shard's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    pub address: u32,
    pub network: u32,
    pub account: u32,
}

impl Default for Free {
    fn default() -> Free {
        Free {
            address: LOGIN_FAILURES_FREE,
            network: LOGIN_FAILURES_NETWORK_FREE,
            account: LOGIN_FAILURES_ACCOUNT_FREE,
        }
    }
}

/// How failures of one kind of subject count.
#[derive(Clone, Copy)]
struct Schedule {
    free: u32,
    /// After which time one failure is forgotten.
    forgotten: Duration,
    pause_max: Duration,
}

impl Schedule {
    /// Failures that are not forgotten, where all will be `empty_at` that moment.
    fn level(&self, empty_at: Mono, now: Mono) -> u32 {
        let left = empty_at.since(now).as_nanos().div_ceil(self.forgotten.as_nanos());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// The time between two checks.
    fn pause(&self, level: u32) -> Duration {
        match level.checked_sub(self.free + 1) {
            None => Duration::ZERO,
            Some(over) => (LOGIN_PAUSE_MIN * 2_u32.pow(over.min(16))).min(self.pause_max),
        }
    }

    /// When all is forgotten after one failure more. Over a level that changes nothing more, another
    /// one changes nothing.
    fn after_failure(&self, empty_at: Mono, now: Mono) -> Mono {
        let most = now.after(self.forgotten * (self.free + LOGIN_FAILURES_OVER_MAX));
        Mono(empty_at.max(now).after(self.forgotten).0.min(most.0))
    }
}

/// Who wants to be checked, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub peer: IpAddr,
    /// The account, or a name that is none.
    pub subject: u64,
}

/// When a check may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub wait: Duration,
    /// Nobody failed there lately: not at this address, nor too often around it or for this account.
    pub is_clean: bool,
}

/// Who failed lately, and whose turn it is; a fixed amount of memory, which all shards share.
#[derive(Debug)]
pub struct Throttle {
    /// When all failures of a subject are forgotten.
    failures: Moments,
    /// When the next check of a subject may begin.
    turns: Moments,
    /// Until when an address is known as one of the owner of an account.
    owners: Moments,
}

impl Throttle {
    /// `key` is secret, and made anew by each process.
    pub fn new(key: &[u8; 32]) -> Throttle {
        let key: [u8; 16] =
            std::array::from_fn(|index| key[index] ^ key[16 + index].rotate_left(1));
        Throttle {
            failures: Moments::new(15, key),
            turns: Moments::new(15, key),
            owners: Moments::new(16, key),
        }
    }

    /// How long the next check has to wait; its turn is taken. `None`: too long, there are many that
    /// wait already.
    pub(super) fn enter(&self, guess: Guess, free: Free, now: Mono) -> Option<Turn> {
        let subjects = self.subjects(guess, free, now);
        let begin = subjects.iter().map(|(place, _)| self.turns.of(*place)).fold(now, Mono::max);
        let wait = begin.since(now);
        if wait > LOGIN_WAIT_MAX {
            return None;
        }
        let mut is_clean = self.failures.of(self.address(guess.peer)) <= now;
        for (place, schedule) in subjects {
            let pause = schedule.pause(schedule.level(self.failures.of(place), now));
            if !pause.is_zero() {
                is_clean = false;
                self.turns.raise(place, begin.after(pause));
            }
        }
        Some(Turn { wait, is_clean })
    }

    pub(super) fn failed(&self, guess: Guess, free: Free, now: Mono) {
        for (place, schedule) in self.subjects(guess, free, now) {
            self.failures.raise(place, schedule.after_failure(self.failures.of(place), now));
        }
    }

    /// The right password came from there.
    pub(super) fn welcome(&self, guess: Guess, now: Mono) {
        self.owners.raise(self.owner(guess), now.after(LOGIN_OWNER_KNOWN));
    }

    /// What is counted of this guess.
    fn subjects(&self, guess: Guess, free: Free, now: Mono) -> Vec<(Place, Schedule)> {
        let Guess { peer, subject } = guess;
        let address = Schedule {
            free: free.address,
            forgotten: LOGIN_FAILURE_FORGOTTEN,
            pause_max: LOGIN_PAUSE_MAX,
        };
        let around = Schedule {
            free: free.network,
            forgotten: LOGIN_NETWORK_FAILURE_FORGOTTEN,
            pause_max: LOGIN_NETWORK_PAUSE_MAX,
        };
        let account = Schedule {
            free: free.account,
            forgotten: LOGIN_FAILURE_FORGOTTEN,
            pause_max: LOGIN_ACCOUNT_PAUSE_MAX,
        };
        let mut subjects = vec![
            (self.address(peer), address),
            (self.failures.place(Some(network(peer)), 1), around),
        ];
        if self.owners.of(self.owner(guess)) <= now {
            subjects.push((self.failures.place(None, subject), account));
        }
        subjects
    }

    fn address(&self, peer: IpAddr) -> Place {
        self.failures.place(Some(site(peer)), 0)
    }

    fn owner(&self, guess: Guess) -> Place {
        self.owners.place(Some(site(guess.peer)), guess.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const FREE: Free =
        Free { address: LOGIN_FAILURES_FREE, network: 1_000_000, account: 1_000_000 };

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn guess(address: u32, subject: u64) -> Guess {
        Guess { peer: IpAddr::V4(Ipv4Addr::from_bits(address)), subject }
    }

    fn wait(throttle: &Throttle, guess: Guess, free: Free, now: Mono) -> Option<Duration> {
        throttle.enter(guess, free, now).map(|turn| turn.wait)
    }

    /// The waits of checks that all fail, each begun as soon as it may.
    fn waits(throttle: &Throttle, count: u32) -> Vec<u128> {
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..count {
            let wait = wait(throttle, guess(1, 1), FREE, now).unwrap();
            now = now.after(wait);
            throttle.failed(guess(1, 1), FREE, now);
            waits.push(wait.as_millis());
        }
        waits
    }

    #[test]
    fn waits_longer_with_every_failure_up_to_a_bound() {
        let throttle = Throttle::new(&[1; 32]);
        let waits = waits(&throttle, LOGIN_FAILURES_FREE + 12);
        let free = usize::try_from(LOGIN_FAILURES_FREE).unwrap() + 1;
        assert!(waits[..free].iter().all(|&wait| wait == 0), "{waits:?}");
        assert!(waits[free..].is_sorted(), "{waits:?}");
        assert_eq!(waits[free + 1], LOGIN_PAUSE_MIN.as_millis(), "{waits:?}");
        assert_eq!(waits.last(), Some(&LOGIN_PAUSE_MAX.as_millis()));
        // Others do not wait, and in a while it is forgotten.
        assert_eq!(wait(&throttle, guess(2, 1), FREE, at(0)), Some(Duration::ZERO));
        assert_eq!(wait(&throttle, guess(1, 1), FREE, at(3_600_000)), Some(Duration::ZERO));
        assert_eq!(wait(&throttle, guess(1, 1), FREE, at(3_600_000)), Some(Duration::ZERO));
    }

    #[test]
    fn checks_that_come_at_once_take_turns_and_not_too_many_wait() {
        let throttle = Throttle::new(&[1; 32]);
        (0..100).for_each(|_| throttle.failed(guess(1, 1), FREE, at(0)));
        assert_eq!(wait(&throttle, guess(1, 1), FREE, at(0)), Some(Duration::ZERO));
        assert_eq!(wait(&throttle, guess(1, 1), FREE, at(0)), Some(LOGIN_PAUSE_MAX));
        assert!((0..100).any(|_| wait(&throttle, guess(1, 1), FREE, at(0)).is_none()));
    }

    #[test]
    fn one_failure_is_a_stain_for_the_address_alone() {
        let throttle = Throttle::new(&[1; 32]);
        throttle.failed(guess(1, 1), FREE, at(0));
        let is_clean = |address, subject, now| {
            throttle.enter(guess(address, subject), FREE, at(now)).map(|turn| turn.is_clean)
        };
        assert_eq!(is_clean(1, 2, 0), Some(false));
        assert_eq!(is_clean(2, 1, 0), Some(true));
        assert_eq!(is_clean(1, 2, 60_000), Some(true));
    }

    #[test]
    fn counts_the_network_around_many_addresses() {
        let throttle = Throttle::new(&[1; 32]);
        let free = Free { network: 20, ..FREE };
        let net = Ipv4Addr::new(192, 0, 2, 0).to_bits();
        (0..40).for_each(|host| throttle.failed(guess(net + host, u64::from(host)), free, at(0)));
        assert_eq!(wait(&throttle, guess(net + 99, 99), free, at(0)), Some(Duration::ZERO));
        assert_eq!(
            wait(&throttle, guess(net + 98, 98), free, at(0)),
            Some(LOGIN_NETWORK_PAUSE_MAX)
        );
        assert_eq!(wait(&throttle, guess(net + 256, 97), free, at(0)), Some(Duration::ZERO));
    }

    #[test]
    fn counts_an_account_but_not_from_where_its_owner_is_known() {
        let throttle = Throttle::new(&[1; 32]);
        let free = Free { account: 20, ..FREE };
        throttle.welcome(guess(9, 5), at(0));
        (100..200).for_each(|host| throttle.failed(guess(host << 8, 5), free, at(0)));
        assert_eq!(wait(&throttle, guess(7 << 8, 5), free, at(0)), Some(Duration::ZERO));
        assert_eq!(wait(&throttle, guess(8 << 8, 5), free, at(0)), Some(LOGIN_ACCOUNT_PAUSE_MAX));
        // Another account, and the owner from where he came lately.
        assert_eq!(wait(&throttle, guess(8 << 8, 6), free, at(0)), Some(Duration::ZERO));
        assert_eq!(wait(&throttle, guess(9, 5), free, at(0)), Some(Duration::ZERO));
    }
}
