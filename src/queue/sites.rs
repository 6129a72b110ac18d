//! What all shards know of the sites that mail goes to: how many connections are open, how many may
//! be, how fast, and until when nobody is to try.
//!
//! A site is the group of servers that take the mail of a domain; domains with the same servers share
//! it. How many connections it gets opens with what it takes and closes with what it refuses:
//!
//! ```text
//!   delivered         one more connection for each whole window, up to the site's most
//!   "too much" (421)  half as many as are open, a pause; it grows where it says nothing else
//!   cannot be reached  one, a pause that grows from failure to failure: it is dead until it answers
//! ```
//!
//! One lock for each of many stripes, held for some comparisons; never across a wait. Sites that
//! nobody uses are forgotten.

use super::warmup::Warming;
use crate::bytes::hash::Sorted;
use crate::model::time::Wall;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

const STRIPES: usize = 64;
/// Sites that one stripe remembers; those that are idle go first.
const STRIPE_SITES_MAX: usize = 4_096;

/// So many messages in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub period: Duration,
}

/// What an operator allows a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Connections at once, of all shards together.
    pub connections: u32,
    /// Connections at once to a site that nothing is known of.
    pub connections_first: u32,
    /// Messages; each holds.
    pub rates: Vec<Rate>,
    /// The pause behind the first failure to reach it, the second one, and so on; then the last one.
    pub pauses: Vec<Duration>,
}

impl Default for Allowed {
    fn default() -> Allowed {
        let minutes = [1, 5, 15, 30];
        Allowed {
            connections: 20,
            connections_first: 5,
            rates: Vec::new(),
            pauses: minutes.into_iter().map(Duration::from_mins).collect(),
        }
    }
}

/// Why a site gets no more connection or message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// As many connections are open as may be: ask again soon, or when one is closed.
    Full,
    /// Nobody is to try before this time.
    Until(Wall),
}

/// How a site is doing, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub open: u32,
    /// Connections that it gets at most at the moment.
    pub window: u32,
    /// Failures in a row to reach it.
    pub failures: u32,
    pub rests_until: Option<Wall>,
}

#[derive(Debug, Default)]
struct Site {
    open: u32,
    /// Connections, in thousandths; 0 until the first one is asked for.
    window: u32,
    failures: u32,
    /// How often in a row it said that it has enough of us, and took nothing between.
    crowdings: u32,
    rests_until: Wall,
    /// When each rate lets the next message go, in the order of the rates.
    tokens: Vec<u64>,
    used: Wall,
}

impl Site {
    fn is_idle(&self, now: Wall) -> bool {
        let is_fresh = now.0.saturating_sub(self.used.0) < 600_000_000;
        self.open == 0 && self.rests_until <= now && !is_fresh
    }
}

type ByName = Sorted<Box<str>, Site>;

#[expect(
    clippy::disallowed_types,
    reason = "how many connections a site has is a number of all shards together, asked for once a \
              connection; held for some comparisons, never across a wait"
)]
type Stripe = std::sync::Mutex<ByName>;

/// All sites; clones are the same.
#[derive(Clone, Debug)]
pub struct Sites {
    stripes: Arc<Vec<Stripe>>,
    warming: Warming,
}

impl Default for Sites {
    fn default() -> Sites {
        let stripes = Arc::new((0..STRIPES).map(|_| Stripe::default()).collect());
        Sites { stripes, warming: Warming::default() }
    }
}

/// A place for one connection, given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once it gives its place back"]
pub struct Permit {
    sites: Sites,
    site: Box<str>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(site) = self.sites.stripe(&self.site).get_mut(&self.site) {
            site.open = site.open.saturating_sub(1);
        }
    }
}

impl Permit {
    pub fn site(&self) -> &str {
        &self.site
    }
}

impl Sites {
    fn stripe(&self, site: &str) -> MutexGuard<'_, ByName> {
        let place = xxh3_64(site.as_bytes()) % STRIPES as u64;
        let place = usize::try_from(place).expect("below the number of stripes");
        // What is held is numbers: a panic elsewhere leaves none half-written.
        self.stripes[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What addresses have sent that sites do not know yet.
    pub fn warming(&self) -> &Warming {
        &self.warming
    }

    /// A place for one more connection.
    pub fn enter(&self, name: &str, allowed: &Allowed, now: Wall) -> Result<Permit, Denied> {
        let mut stripe = self.stripe(name);
        if stripe.len() >= STRIPE_SITES_MAX && !stripe.contains_key(name) {
            stripe.retain(|_, site| !site.is_idle(now));
        }
        let site = stripe.entry(name.into()).or_default();
        if site.rests_until > now {
            return Err(Denied::Until(site.rests_until));
        }
        if site.window == 0 {
            site.window = allowed.connections_first.clamp(1, allowed.connections) * 1_000;
        }
        let window = (site.window / 1_000).clamp(1, allowed.connections.max(1));
        if site.open >= window {
            return Err(Denied::Full);
        }
        site.open += 1;
        site.used = now;
        drop(stripe);
        Ok(Permit { sites: self.clone(), site: name.into() })
    }

    /// Counts one message against the rates, if all of them let it go.
    pub fn spend(&self, permit: &Permit, allowed: &Allowed, now: Wall) -> Result<(), Denied> {
        if allowed.rates.is_empty() {
            return Ok(());
        }
        let mut stripe = self.stripe(&permit.site);
        let Some(site) = stripe.get_mut(&permit.site) else { return Ok(()) };
        site.tokens.resize(allowed.rates.len(), 0);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let share = |rate: &Rate| micros(rate.period) / u64::from(rate.count.max(1));
        // A burst may take a whole period's messages at once; then they come one by one.
        let ready = |(rate, &token): (&Rate, &u64)| {
            token.saturating_add(share(rate)).saturating_sub(micros(rate.period))
        };
        let next = allowed.rates.iter().zip(&site.tokens).map(ready).max().unwrap_or(0);
        if next > now.0 {
            return Err(Denied::Until(Wall(next)));
        }
        for (rate, token) in allowed.rates.iter().zip(&mut site.tokens) {
            *token = (*token).max(now.0) + share(rate);
        }
        Ok(())
    }

    /// It took a message.
    pub fn delivered(&self, permit: &Permit, allowed: &Allowed) {
        if let Some(site) = self.stripe(&permit.site).get_mut(&permit.site) {
            (site.failures, site.crowdings) = (0, 0);
            let whole = (site.window / 1_000).max(1);
            site.window = (site.window + 1_000 / whole).min(allowed.connections * 1_000);
        }
    }

    /// It said that it has enough of us: half as many connections, and none for `pause`, which doubles from
    /// one time to the next, up to the longest of its pauses, until it takes a message. Until when.
    pub fn crowded(&self, permit: &Permit, allowed: &Allowed, pause: Duration, now: Wall) -> Wall {
        let mut stripe = self.stripe(&permit.site);
        let Some(site) = stripe.get_mut(&permit.site) else { return now };
        site.window = (site.open * 1_000 / 2).max(1_000);
        // Those who hear it beside each other hear it once.
        if site.rests_until <= now {
            let most = allowed.pauses.iter().max().copied().unwrap_or(pause).max(pause);
            let pause = pause.saturating_mul(1 << site.crowdings.min(16)).min(most);
            site.crowdings = site.crowdings.saturating_add(1);
            let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
            site.rests_until = Wall(now.0.saturating_add(micros));
        }
        site.rests_until
    }

    /// It could not be reached. Until when nobody tries; `chance` are random bits.
    pub fn failed(&self, name: &str, allowed: &Allowed, now: Wall, chance: u64) -> Wall {
        let mut stripe = self.stripe(name);
        let site = stripe.entry(name.into()).or_default();
        // Those who fail beside each other fail once.
        if site.rests_until > now {
            return site.rests_until;
        }
        let place = usize::try_from(site.failures).unwrap_or(usize::MAX);
        let pause = allowed.pauses.get(place).or(allowed.pauses.last());
        let pause = pause.copied().unwrap_or(Duration::from_mins(1));
        site.failures = site.failures.saturating_add(1);
        site.window = 1_000;
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(10);
        site.rests_until =
            Wall(now.0.saturating_add(micros).saturating_add(chance % (micros / 10)));
        site.rests_until
    }

    /// An operator wants it to be tried now.
    pub fn wake(&self, name: &str) {
        if let Some(site) = self.stripe(name).get_mut(name) {
            site.rests_until = Wall(0);
        }
    }

    pub fn standing(&self, name: &str, now: Wall) -> Option<Standing> {
        let stripe = self.stripe(name);
        let site = stripe.get(name)?;
        Some(Standing {
            open: site.open,
            window: site.window / 1_000,
            failures: site.failures,
            rests_until: Some(site.rests_until).filter(|&until| until > now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> Wall {
        Wall::from_seconds(seconds)
    }

    #[test]
    fn opens_with_what_is_taken_and_closes_with_what_is_not() {
        let (sites, allowed) = (Sites::default(), Allowed::default());
        let enter = || sites.enter("mx", &allowed, at(1));
        let mut open: Vec<Permit> = (0..5).map(|_| enter().unwrap()).collect();
        assert_eq!(enter().unwrap_err(), Denied::Full);
        (0..5).for_each(|_| sites.delivered(&open[0], &allowed));
        open.push(enter().unwrap());
        assert_eq!(enter().unwrap_err(), Denied::Full);
        (0..1_000).for_each(|_| sites.delivered(&open[0], &allowed));
        while let Ok(permit) = enter() {
            open.push(permit);
        }
        assert_eq!(open.len(), 20);
        sites.crowded(&open[0], &allowed, Duration::from_secs(5), at(1));
        assert_eq!(sites.standing("mx", at(1)).unwrap().window, 10);
        open.truncate(3);
        assert_eq!(enter().unwrap_err(), Denied::Until(at(6)));
        assert!(sites.enter("mx", &allowed, at(6)).is_ok());
        open.clear();
        assert_eq!(sites.standing("mx", at(6)).unwrap().open, 0);
    }

    #[test]
    fn leaves_a_dead_site_alone_for_longer_and_longer() {
        let (sites, allowed) = (Sites::default(), Allowed::default());
        let mut now = at(1_000);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let until = sites.failed("mx", &allowed, now, 0);
            // The others that failed at the same time.
            assert_eq!(sites.failed("mx", &allowed, now, 7), until);
            assert_eq!(sites.enter("mx", &allowed, now).unwrap_err(), Denied::Until(until));
            pauses.push(until.seconds() - now.seconds());
            now = until;
        }
        assert_eq!(pauses, [60, 300, 900, 1_800, 1_800, 1_800]);
        // One tries; what it delivers opens the site again.
        let permit = sites.enter("mx", &allowed, now).unwrap();
        assert_eq!(sites.enter("mx", &allowed, now).unwrap_err(), Denied::Full);
        sites.delivered(&permit, &allowed);
        let _second = sites.enter("mx", &allowed, now).unwrap();
        assert_eq!(sites.standing("mx", now).unwrap().failures, 0);
        sites.failed("mx", &allowed, now, 0);
        sites.wake("mx");
        assert_eq!(sites.enter("mx", &allowed, now).unwrap_err(), Denied::Full);
    }

    #[test]
    fn leaves_a_site_that_has_enough_of_us_alone_for_longer_and_longer() {
        let (sites, allowed) = (Sites::default(), Allowed::default());
        let (first, mut now) = (Duration::from_secs(5), at(1_000));
        let mut next = |is_delivered: bool| {
            let permit = sites.enter("mx", &allowed, now).unwrap();
            if is_delivered {
                sites.delivered(&permit, &allowed);
            }
            let until = sites.crowded(&permit, &allowed, first, now);
            // The others that heard it at the same time.
            assert_eq!(sites.crowded(&permit, &allowed, first, now), until);
            let pause = until.seconds() - now.seconds();
            now = until;
            pause
        };
        let pauses: Vec<u32> = (0..11).map(|_| next(false)).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 1_800, 1_800]);
        assert_eq!([next(true), next(false), next(true)], [5, 10, 5]);
    }

    #[test]
    fn holds_every_rate() {
        let rate = |count, seconds| Rate { count, period: Duration::from_secs(seconds) };
        let rates = vec![rate(2, 1), rate(5, 60)];
        let (sites, allowed) = (Sites::default(), Allowed { rates, ..Allowed::default() });
        let permit = sites.enter("mx", &allowed, at(1)).unwrap();
        let mut sent = Vec::new();
        let mut now = at(1);
        while sent.len() < 12 {
            match sites.spend(&permit, &allowed, now) {
                Ok(()) => sent.push(now.0),
                Err(Denied::Until(until)) => now = until,
                Err(Denied::Full) => unreachable!("rates are not full"),
            }
        }
        // A period's messages at once, and no more.
        assert_eq!(sent.iter().filter(|&&moment| moment == sent[0]).count(), 2, "{sent:?}");
        for window in sent.windows(7) {
            assert!(window[6] - window[0] >= 1_000_000, "{sent:?}");
        }
        assert!(sent[11] - sent[0] >= 60_000_000, "{sent:?}");
    }

    #[test]
    fn forgets_sites_that_nobody_uses() {
        let (sites, allowed) = (Sites::default(), Allowed::default());
        let count = u32::try_from(STRIPE_SITES_MAX * STRIPES * 2).unwrap();
        for number in 0..count {
            drop(sites.enter(&format!("mx{number}"), &allowed, at(1_000 + number)));
        }
        let kept: usize = sites.stripes.iter().map(|one| one.lock().unwrap().len()).sum();
        assert!(kept <= STRIPE_SITES_MAX * STRIPES, "{kept}");
    }
}
