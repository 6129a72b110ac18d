//! What somebody works on, held by the task that does: if the task breaks off, whatever the reason, the
//! entry is put off, and goes on by itself. It has its time, whatever a server does: until the entry
//! expires, and hours at most ([`Attempt::end`]).
//!
//! ```text
//!   Attempt::new ── Stage::Active ─┬─ a record was applied ── as the record says
//!                                  └─ dropped without one ─── Stage::PutOff: a pause that grows
//! ```
//!
//! A task breaks off by a fault of ours, which may lie in what it works on: a message that makes one
//! attempt panic makes the next one panic too. It costs one attempt for each pause, and when its time is
//! over the report is made without reading it ([`Attempts::doubts`]), so that it comes back all the same.

use super::Relay;
use crate::bytes::hash::{Map, Sorted};
use crate::env::Env;
use crate::model::limits::{
    QUEUE_ATTEMPT_GRACE, QUEUE_ATTEMPT_MAX, QUEUE_ATTEMPT_OCTETS, QUEUE_BROKEN_MAX,
    QUEUE_BROKEN_PAUSE_MAX, QUEUE_BROKEN_PAUSE_MIN,
};
use crate::model::time::{Mono, Wall};
use crate::mta::peers::Peers;
use crate::probe::event::{Level, event};
use crate::queue::outgoing::{Entry, QueueId, Stage};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Who works on what, and what broke off.
#[derive(Default)]
pub(super) struct Attempts {
    /// The attempt that counts, of each entry on which somebody works: who had it before may still be on
    /// his way out when it is active once more.
    holders: RefCell<Map<QueueId, u64>>,
    begun: Cell<u64>,
    /// How often in a row attempts broke off, of those entries of which one did.
    broken: RefCell<Sorted<QueueId, u32>>,
}

impl Attempts {
    /// It broke off so often that its message is not to be looked at any more.
    pub(super) fn doubts(&self, id: QueueId) -> bool {
        self.broken.borrow().get(&id).is_some_and(|&broken| broken >= QUEUE_BROKEN_MAX)
    }

    /// Somebody works on it.
    pub(super) fn has(&self, id: QueueId) -> bool {
        self.holders.borrow().contains_key(&id)
    }

    fn begin(&self, id: QueueId) -> u64 {
        let number = self.begun.get() + 1;
        self.begun.set(number);
        self.holders.borrow_mut().insert(id, number);
        number
    }

    /// Whether it is this attempt that ends by that.
    fn end(&self, id: QueueId, number: u64) -> bool {
        let mut holders = self.holders.borrow_mut();
        let counts = holders.get(&id) == Some(&number);
        if counts {
            holders.remove(&id);
        }
        counts
    }

    /// Seconds until it may be tried again.
    fn break_off(&self, id: QueueId) -> u32 {
        let mut all = self.broken.borrow_mut();
        let broken = all.entry(id).or_default();
        let pause = QUEUE_BROKEN_PAUSE_MIN.saturating_mul(1 << (*broken).min(16));
        *broken = broken.saturating_add(1);
        pause.min(QUEUE_BROKEN_PAUSE_MAX)
    }
}

/// Seconds that an attempt has for a message of that many octets.
fn patience(size: u32) -> u32 {
    QUEUE_ATTEMPT_MAX.saturating_add(size / QUEUE_ATTEMPT_OCTETS)
}

/// See the header. Whoever has it is the only one who works on the entry.
pub(super) struct Attempt<E: Env, P: Peers> {
    relay: Relay<E, P>,
    id: QueueId,
    number: u64,
}

impl<E: Env, P: Peers> Attempt<E, P> {
    /// Until when an attempt for a message of that many octets is to have ended that begins now.
    pub(super) fn until(relay: &Relay<E, P>, size: u32) -> u32 {
        let patience = patience(size).saturating_add(QUEUE_ATTEMPT_GRACE);
        relay.now().saturating_add(patience)
    }

    /// When a server has had its time that is asked for the entry from now on: an attempt goes on behind
    /// that for what it has to write down alone, and for the answer to a message that is out.
    pub(super) fn end(relay: &Relay<E, P>, entry: &Entry) -> Mono {
        let lifetime = Wall::from_seconds(entry.expires).since(relay.env().wall());
        let patience = Duration::from_secs(patience(entry.size).into());
        relay.env().now().after(patience.min(lifetime))
    }

    /// An entry on which nobody works is active from here on.
    pub(super) fn new(relay: &Relay<E, P>, id: QueueId) -> Attempt<E, P> {
        let mut outgoing = relay.shared.intake.outgoing().borrow_mut();
        let size = outgoing.get(id).map_or(0, |entry| entry.size);
        outgoing.set_stage(id, Stage::Active(Attempt::until(relay, size)));
        drop(outgoing);
        Attempt::active(relay, id)
    }

    /// As it is active already.
    pub(super) fn active(relay: &Relay<E, P>, id: QueueId) -> Attempt<E, P> {
        Attempt { relay: relay.clone(), id, number: relay.shared.attempts.begin(id) }
    }
}

impl<E: Env, P: Peers> Drop for Attempt<E, P> {
    fn drop(&mut self) {
        let shared = &self.relay.shared;
        // Where it does not somebody else goes on with the entry.
        if !shared.attempts.end(self.id, self.number) {
            return;
        }
        let stage = shared.intake.outgoing().borrow().get(self.id).map(Entry::stage);
        if matches!(stage, Some(Stage::Active(_))) {
            self.relay.put_off(self.id);
        } else {
            shared.attempts.broken.borrow_mut().remove(&self.id);
        }
    }
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// An attempt for this entry broke off.
    pub(super) fn put_off(&self, id: QueueId) {
        let shared = &self.shared;
        // The server goes down with it.
        if shared.stopping.get() {
            return;
        }
        // What a log that takes nothing more may hold of it the next start knows.
        let pause = if self.can_record() {
            let pause = shared.attempts.break_off(id);
            shared.counts.all.broken.one();
            let name = self.name(id).to_string();
            let fields = [("queue", name.as_str().into()), ("pause", u64::from(pause).into())];
            event(Level::Error, "queue_broken_off", &fields);
            pause
        } else {
            QUEUE_BROKEN_PAUSE_MAX
        };
        let again = Stage::PutOff(self.now().saturating_add(pause));
        shared.intake.outgoing().borrow_mut().set_stage(id, again);
        shared.freed.ring();
    }
}
