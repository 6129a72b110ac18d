//! How often something may happen, for any number of subjects in a fixed amount of memory.
//!
//! A leaky bucket is one number: the moment at which it will be empty again. A [`Sketch`] holds such
//! moments of any number of subjects ([`Moments`]): a subject can be taken for busier than it is, of a
//! thousand at their limit one in a million, never for calmer.
//!
//! ```text
//!   now ────────┬─────────────── full at ──── now + period
//!               └ a bucket that is empty      └ `count` things: the next one is refused
//! ```
//!
//! All shards share one sketch: two that take the last place at the same moment may both have it.

use crate::model::time::Mono;
use crate::policy::moments::{Moments, Place};
use std::net::IpAddr;
use std::time::Duration;

const WIDTH_BITS: u32 = 15;

/// So many things in a period, all at once if they like; then one whenever one has leaked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 0 is no limit.
    pub count: u32,
    pub period: Duration,
}

impl Rate {
    pub const fn per_minute(count: u32) -> Rate {
        Rate { count, period: Duration::from_mins(1) }
    }

    pub const fn per_hour(count: u32) -> Rate {
        Rate { count, period: Duration::from_hours(1) }
    }

    /// The time that one thing takes to leak out.
    fn each(self) -> Duration {
        self.period / self.count
    }
}

/// See the header. 1 MiB, of which only what is used takes memory.
#[derive(Debug)]
pub struct Sketch(Moments);

impl Sketch {
    /// `key` is secret: who knows it could choose addresses that share all slots with another's.
    pub fn new(key: [u8; 16]) -> Sketch {
        Sketch(Moments::new(WIDTH_BITS, key))
    }

    /// Takes `count` things of what `subject` may do; false, and nothing is taken, where that is more
    /// than is left.
    pub fn take(&self, subject: IpAddr, count: u32, rate: Rate, now: Mono) -> bool {
        if rate.count == 0 {
            return true;
        }
        let place = self.place(subject);
        let full_at = self.0.of(place).max(now).after(rate.each().saturating_mul(count));
        if full_at > now.after(rate.period) {
            return false;
        }
        self.0.raise(place, full_at);
        true
    }

    /// Takes all that is left.
    pub fn spend(&self, subject: IpAddr, rate: Rate, now: Mono) {
        if rate.count > 0 {
            self.0.raise(self.place(subject), now.after(rate.period));
        }
    }

    /// Whether `subject` has nothing left. Takes nothing.
    pub fn is_spent(&self, subject: IpAddr, rate: Rate, now: Mono) -> bool {
        rate.count > 0 && self.0.of(self.place(subject)).after(rate.each()) > now.after(rate.period)
    }

    fn place(&self, subject: IpAddr) -> Place {
        self.0.place(Some(subject), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn gives_a_burst_and_then_what_leaks_out() {
        let sketch = Sketch::new([1; 16]);
        let rate = Rate::per_minute(60);
        let taken = |millis| sketch.take(address(1), 1, rate, at(millis));
        assert!((0..60).all(|_| taken(0)));
        assert!(!taken(0));
        assert!(!taken(999));
        assert!(taken(1_000));
        assert!(!taken(1_001));
        assert!(sketch.is_spent(address(1), rate, at(1_001)));
        // Who was refused is not charged for it; who waits has it all again.
        assert_eq!((0..100).filter(|_| taken(70_000)).count(), 60);
        assert!(sketch.take(address(2), 60, rate, at(0)));
        assert!(!sketch.take(address(2), 1, rate, at(0)));
        assert!(!sketch.is_spent(address(3), rate, at(0)));
    }

    #[test]
    fn has_no_limit_where_none_is_set() {
        let sketch = Sketch::new([1; 16]);
        assert!((0..10_000).all(|_| sketch.take(address(1), 9, Rate::per_hour(0), at(0))));
        assert!(!sketch.is_spent(address(1), Rate::per_hour(0), at(0)));
    }

    /// A million addresses that connect once leave everybody what is theirs, in the same memory; and a
    /// thousand at their limit take nothing from ten thousand others.
    #[test]
    fn keeps_strangers_apart_in_fixed_memory() {
        let sketch = Sketch::new([7; 16]);
        let rate = Rate::per_minute(120);
        assert!((0..1_000_000).all(|number| sketch.take(address(number), 1, rate, at(0))));
        let busy = Sketch::new([7; 16]);
        for number in 0..1_000 {
            assert!((0..120).all(|_| busy.take(address(number), 1, rate, at(0))));
        }
        let calm =
            (1_000_000..1_010_000).filter(|&number| busy.take(address(number), 1, rate, at(0)));
        assert_eq!(calm.count(), 10_000);
    }

    /// Never calmer than it is: whatever others do, nobody has more than the rate.
    #[test]
    fn gives_nobody_more_than_the_rate() {
        arbtest::arbtest(|u| {
            let sketch = Sketch::new([3; 16]);
            let rate = Rate::per_minute(u.int_in_range(1..=20)?);
            let (mut now, mut taken) = (0_u64, Vec::new());
            for _ in 0..u.int_in_range(0..=200)? {
                now += u.int_in_range(0..=5_000_u64)?;
                let subject = u.int_in_range(0..=3)?;
                if sketch.take(address(subject), 1, rate, at(now)) && subject == 0 {
                    taken.push(now);
                }
            }
            // In any minute: what fits at once, and what leaked meanwhile.
            let most = 2 * rate.count as usize + 1;
            for (index, first) in taken.iter().enumerate() {
                let within = taken[index..].iter().take_while(|&&then| then < first + 60_000);
                assert!(within.count() <= most, "{taken:?}");
            }
            Ok(())
        });
    }
}
