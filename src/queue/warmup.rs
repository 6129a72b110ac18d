//! Addresses to send from that others do not know yet: how much each may send on which day, and what it
//! has sent of that.
//!
//! Who receives mail from an address that he has never seen trusts it little by little. So such an
//! address begins with a few messages a day, and gets more from day to day; what is above that goes by
//! other addresses, or waits.
//!
//! Days are those of UTC. An address has one count, whatever the sites are that its mail goes to: one
//! lock for all, taken once a message that goes by such an address, and never held across a wait.

use crate::bytes::hash::Sorted;
use crate::model::time::Wall;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

const DAY_SECONDS: u32 = 86_400;

/// Messages on the first day, the second one, and so on, where an operator says nothing else: three
/// weeks, at most twice as many from one day to the next.
pub const USUAL: [u32; 21] = [
    50, 100, 200, 400, 800, 1_500, 3_000, 5_000, 8_000, 12_000, 18_000, 27_000, 40_000, 60_000,
    90_000, 130_000, 190_000, 280_000, 400_000, 600_000, 900_000,
];

/// What one address may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// Its first day, in days since 1970; before it the address sends nothing.
    pub since: u32,
    /// Messages on that day, on the next one, and so on; behind the last as many as there are.
    pub per_day: Vec<u32>,
}

/// The day and what was sent on it, by address.
type Counts = Sorted<IpAddr, (u32, u32)>;

#[expect(
    clippy::disallowed_types,
    reason = "what an address has sent today is a number of all shards together, asked for once a \
              message of an address that is new; held for some comparisons, never across a wait"
)]
type Kept = std::sync::Mutex<Counts>;

/// What all addresses have sent; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Warming {
    kept: Arc<Kept>,
}

fn day_of(now: Wall) -> u32 {
    now.seconds() / DAY_SECONDS
}

fn begin_of(day: u32) -> Wall {
    Wall::from_seconds(day.saturating_mul(DAY_SECONDS))
}

impl Warming {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // What is held is numbers: a panic elsewhere leaves none half-written.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more message from `address`; an error where it may send none, until then.
    pub fn take(&self, address: IpAddr, warmup: &Warmup, now: Wall) -> Result<(), Wall> {
        let day = day_of(now);
        let Some(number) = day.checked_sub(warmup.since) else {
            return Err(begin_of(warmup.since));
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(&most) = warmup.per_day.get(number) else { return Ok(()) };
        let mut counts = self.counts();
        let (of, count) = counts.entry(address).or_default();
        if *of != day {
            (*of, *count) = (day, 0);
        }
        if *count >= most {
            return Err(begin_of(day.saturating_add(1)));
        }
        *count += 1;
        Ok(())
    }

    /// A message that was counted did not go.
    pub fn give_back(&self, address: IpAddr, now: Wall) {
        if let Some((of, count)) = self.counts().get_mut(&address)
            && *of == day_of(now)
        {
            *count = count.saturating_sub(1);
        }
    }

    /// What was sent, a line for each address: `ADDRESS DAY COUNT`.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for (address, (day, count)) in self.counts().iter() {
            writeln!(text, "{address} {day} {count}").expect("a string takes all text");
        }
        text
    }

    /// Takes over what [`Warming::lines`] wrote; lines that are none are left out.
    pub fn restore(&self, text: &str) {
        let read = |line: &str| {
            let mut words = line.split(' ');
            let address = words.next()?.parse::<IpAddr>().ok()?;
            let (day, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next().is_none().then_some((address, (day, count)))
        };
        self.counts().extend(text.lines().filter_map(read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn at(day: u32) -> Wall {
        Wall::from_seconds(day * DAY_SECONDS + 3_600)
    }

    /// How many messages go on a day.
    fn taken(warming: &Warming, warmup: &Warmup, day: u32) -> usize {
        (0..1_000).take_while(|_| warming.take(ADDRESS, warmup, at(day)).is_ok()).count()
    }

    #[test]
    fn sends_more_from_day_to_day() {
        let warmup = Warmup { since: 100, per_day: vec![2, 5, 20] };
        let warming = Warming::default();
        assert_eq!(warming.take(ADDRESS, &warmup, at(99)), Err(begin_of(100)));
        assert_eq!([100, 101, 102].map(|day| taken(&warming, &warmup, day)), [2, 5, 20]);
        assert_eq!(warming.take(ADDRESS, &warmup, at(102)), Err(begin_of(103)));
        assert_eq!(taken(&warming, &warmup, 103), 1_000);
        assert!(USUAL.windows(2).all(|days| days[0] < days[1] && days[1] <= 2 * days[0]));
    }

    #[test]
    fn remembers_what_went_and_forgets_what_did_not() {
        let warmup = Warmup { since: 100, per_day: vec![3, 3] };
        let warming = Warming::default();
        assert_eq!(taken(&warming, &warmup, 100), 3);
        warming.give_back(ADDRESS, at(100));
        warming.give_back(ADDRESS, at(101));
        assert_eq!(warming.lines(), "192.0.2.7 100 2\n");
        let next = Warming::default();
        next.restore(&format!("{}rubbish\n192.0.2.8 1\n::1 5 5\n", warming.lines()));
        assert_eq!(next.lines(), "192.0.2.7 100 2\n::1 5 5\n");
        assert_eq!([100, 101].map(|day| taken(&next, &warmup, day)), [1, 3]);
    }
}
