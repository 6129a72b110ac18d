//! Room for the messages that are on their way: `queue.memory`.
//!
//! Promises:
//!   - octets and their room are one: what has gone out to a server takes no room while that makes up its mind
//!   - no site has more than a quarter, so that slow ones leave room for others
//!   - an eighth is left to small messages and to what is concluded: large ones under way never stop these
//!   - what is concluded goes on, one after the other at least, whoever else holds what
//!   - a message that is larger than all the room goes too, as the only large one

use super::Relay;
use crate::bytes::chain::Shared;
use crate::bytes::hash::Sorted;
use crate::env::Env;
use crate::model::limits::{QUEUE_MEMORY_LEFT, QUEUE_SMALL_OCTETS};
use crate::model::time::Mono;
use crate::mta::peers::Peers;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

/// Whom room is held for that is no site: conclusions.
const CONCLUSIONS: &str = "";

/// What is held.
#[derive(Default)]
pub(super) struct Room {
    large: Cell<u64>,
    /// Small messages, and what is concluded.
    small: Cell<u64>,
    by_site: RefCell<Sorted<Box<str>, u64>>,
}

impl Room {
    /// Which of both it is held as.
    fn side(&self, site: &str, octets: u64) -> &Cell<u64> {
        let is_large = octets > QUEUE_SMALL_OCTETS && site != CONCLUSIONS;
        if is_large { &self.large } else { &self.small }
    }

    /// Whether there is room for so many octets more, where there may be `max` in all.
    fn fits(&self, site: &str, octets: u64, max: u64) -> bool {
        let mine = self.by_site.borrow().get(site).copied().unwrap_or(0);
        if mine > 0 && mine + octets > max / 4 {
            return false;
        }
        let (large, small) = (self.large.get(), self.small.get());
        let left = max / QUEUE_MEMORY_LEFT;
        if !std::ptr::eq(self.side(site, octets), &raw const self.large) {
            let is_alone = small == 0 || (site == CONCLUSIONS && mine == 0);
            return is_alone || small + octets + large.min(max - left) <= max;
        }
        if large == 0 {
            return small <= left || small + octets <= max;
        }
        large + octets <= max - left && large + small + octets <= max
    }

    fn take(&self, site: &str, octets: u64) {
        let side = self.side(site, octets);
        side.set(side.get() + octets);
        *self.by_site.borrow_mut().entry(site.into()).or_default() += octets;
    }

    fn give_back(&self, site: &str, octets: u64) {
        let side = self.side(site, octets);
        side.set(side.get() - octets);
        let mut by_site = self.by_site.borrow_mut();
        if let Some(held) = by_site.get_mut(site) {
            *held -= octets;
            if *held == 0 {
                by_site.remove(site);
            }
        }
    }
}

/// Room for the octets of one message, given back when this is dropped.
pub(super) struct Held<E: Env, P: Peers> {
    relay: Relay<E, P>,
    site: Box<str>,
    octets: u64,
}

impl<E: Env, P: Peers> Drop for Held<E, P> {
    fn drop(&mut self) {
        self.relay.shared.room.give_back(&self.site, self.octets);
        self.relay.shared.freed.ring();
    }
}

impl<E: Env, P: Peers> Held<E, P> {
    /// The octets that the room is for: it goes back with the last of them.
    pub(super) fn of(self, octets: Rc<dyn Shared>) -> Rc<dyn Shared> {
        Rc::new(Roomed { octets, _held: self })
    }
}

struct Roomed<E: Env, P: Peers> {
    octets: Rc<dyn Shared>,
    _held: Held<E, P>,
}

impl<E: Env, P: Peers> Deref for Roomed<E, P> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// Holds room for a message that is reported on, or brought to somebody here.
    pub(super) async fn hold(&self, octets: u64) -> Held<E, P> {
        self.hold_for(CONCLUSIONS, octets).await
    }

    /// Holds room for a message to a site. None: there was none until `end`.
    pub(super) async fn hold_until(
        &self,
        site: &str,
        octets: u64,
        end: Mono,
    ) -> Option<Held<E, P>> {
        let over = async {
            self.env().sleep(end.since(self.env().now())).await;
            None
        };
        or(async { Some(self.hold_for(site, octets).await) }, over).await
    }

    async fn hold_for(&self, site: &str, octets: u64) -> Held<E, P> {
        let room = &self.shared.room;
        loop {
            if room.fits(site, octets, self.shared.host.settings().memory) {
                room.take(site, octets);
                return Held { relay: self.clone(), site: site.into(), octets };
            }
            let heard = self.shared.freed.rung();
            self.shared.freed.past(heard).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_room_for_others() {
        const MAX: u64 = 800_000;
        const LARGE: u64 = 100_000;
        let room = Room::default();
        // A quarter for a site; large ones leave an eighth.
        for site in ["a", "b", "c"] {
            room.take(site, LARGE);
            room.take(site, LARGE);
            assert!(!room.fits(site, LARGE, MAX) && !room.fits(site, 1, MAX));
        }
        room.take("d", LARGE);
        assert!(!room.fits("e", LARGE, MAX) && room.fits("e", 50_000, MAX));
        // What is concluded goes on, one after the other at least.
        room.take("e", 50_000);
        room.take("f", 50_000);
        assert!(!room.fits("g", 1, MAX) && room.fits(CONCLUSIONS, LARGE, MAX));
        room.take(CONCLUSIONS, LARGE);
        assert!(!room.fits(CONCLUSIONS, 1, MAX));
        room.give_back(CONCLUSIONS, LARGE);
        room.give_back("f", 50_000);
        assert!(room.fits("g", 50_000, MAX) && room.fits(CONCLUSIONS, 50_000, MAX));
        // One that is larger than all goes as the only large one, and small ones go beside it.
        for site in ["a", "a", "b", "b", "c", "c", "d"] {
            assert!(!room.fits("x", 2 * MAX, MAX));
            room.give_back(site, LARGE);
        }
        assert!(room.fits("x", 2 * MAX, MAX));
        room.take("x", 2 * MAX);
        assert!(!room.fits("a", LARGE, MAX) && room.fits("a", 50_000, MAX));
        room.take("a", 50_000);
        assert!(!room.fits("b", 50_000, MAX));
        for (site, octets) in [("x", 2 * MAX), ("a", 50_000), ("e", 50_000)] {
            room.give_back(site, octets);
        }
        assert!(room.large.get() == 0 && room.small.get() == 0 && room.by_site.borrow().is_empty());
    }
}
