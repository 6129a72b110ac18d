//! The entries in memory, and what finds them.
//!
//! An entry with one recipient takes some 100 octets and its envelope; being found by number, name,
//! domain, sender and recipient, and by the moment of its next event, takes as much again
//! (docs/OPERATIONS.md has the formula, a test holds it).

use super::QueueId;
use super::entry::{Envelope, Fate, Flags, Said};
use crate::bytes::hash::{Map, Set, Sorted};
use crate::model::id::BlobId;
use std::collections::BTreeSet;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// Where an entry lies; another one may lie there once it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

/// A domain that has entries; another one may have the number once it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub u32);

/// What is done with an entry at the moment; not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its next event.
    #[default]
    Idle,
    /// It is due, and waits for its turn.
    Ready,
    /// It is being tried; that ends by itself at this time, in seconds since 1970.
    Active(u32),
}

/// A recipient's fate, and what was said last about him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub fate: Fate,
    pub said: Option<Rc<Said>>,
}

/// Most entries have one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standings {
    One(Standing),
    Many(Box<[Standing]>),
}

impl Standings {
    pub(super) fn new(count: usize) -> Standings {
        match count {
            1 => Standings::One(Standing::default()),
            _ => Standings::Many(vec![Standing::default(); count].into()),
        }
    }

    pub(super) fn all(&self) -> &[Standing] {
        match self {
            Standings::One(one) => std::slice::from_ref(one),
            Standings::Many(many) => many,
        }
    }

    pub(super) fn all_mut(&mut self) -> &mut [Standing] {
        match self {
            Standings::One(one) => std::slice::from_mut(one),
            Standings::Many(many) => many,
        }
    }
}

/// One message for the recipients of one domain. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: QueueId,
    pub blob: BlobId,
    /// Octets of the message.
    pub size: u32,
    pub arrived: u32,
    /// Not tried before.
    pub due: u32,
    /// When its sender is told that it takes long; `u32::MAX` for never.
    pub warn: u32,
    /// When it comes back.
    pub expires: u32,
    pub destination: DestinationId,
    pub attempts: u16,
    pub flags: Flags,
    /// RFC 6710: -9 to 9.
    pub priority: i8,
    /// The mailboxes' marks: what is known of the octets.
    pub marks: u8,
    pub(super) stage: Stage,
    pub(super) standings: Standings,
    pub(super) envelope: Box<[u8]>,
}

impl Entry {
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The recipients' fates, in their order, and what was said last.
    pub fn fates(&self) -> impl ExactSizeIterator<Item = (Fate, Option<&Said>)> {
        self.standings.all().iter().map(|one| (one.fate, one.said.as_deref()))
    }

    /// Whether anybody is still to be tried.
    pub fn is_waiting(&self) -> bool {
        self.standings.all().iter().any(|one| one.fate == Fate::Waiting)
    }

    /// When something happens to it, whatever else does not. Held entries are not tried, but come back
    /// when they have expired.
    pub fn next_event(&self) -> u32 {
        let told = self.warn.min(self.expires);
        match self.stage {
            Stage::Idle if !self.flags.has(Flags::HELD) => told.min(self.due),
            Stage::Idle | Stage::Ready => told,
            Stage::Active(until) => until,
        }
    }
}

struct Destination {
    name: Rc<str>,
    entries: u32,
}

/// All entries of a queue.
#[derive(Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: Sorted<QueueId, Slot>,
    /// Every entry, by its next event.
    events: BTreeSet<(u32, Slot)>,
    destinations: Vec<Option<Destination>>,
    free_destinations: Vec<u32>,
    by_domain: Map<Rc<str>, DestinationId>,
    by_destination: BTreeSet<(DestinationId, Slot)>,
    /// By a hash of the message's name, its sender, and each recipient.
    by_text: BTreeSet<(u32, Slot)>,
    /// What was said, once each: a dead server says the same of all its mail.
    said: Set<Rc<Said>>,
    waiting_recipients: u64,
}

impl std::hash::Hash for Said {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.code.hash(state);
        self.text.hash(state);
        self.host.hash(state);
    }
}

/// The key of a name or address; case does not matter.
fn text_key(text: &str) -> u32 {
    let lower = text.to_lowercase();
    u32::try_from(xxh3_64(lower.as_bytes()) >> 32).expect("32 bits are left")
}

fn texts(envelope: &Envelope) -> BTreeSet<u32> {
    let sender = envelope.sender.as_ref().map_or_else(String::new, ToString::to_string);
    let recipients = envelope.recipients.iter().map(|to| text_key(&to.address.to_string()));
    recipients.chain([text_key(&envelope.name), text_key(&sender)]).collect()
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn waiting_recipients(&self) -> u64 {
        self.waiting_recipients
    }

    pub(super) fn slot(&self, id: QueueId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot.0).expect("32 bits"))?.as_ref()
    }

    pub(super) fn by_id(&self, id: QueueId) -> Option<&Entry> {
        self.get(self.slot(id)?)
    }

    pub(super) fn destination(&self, id: DestinationId) -> Option<&Rc<str>> {
        let place = usize::try_from(id.0).expect("32 bits");
        self.destinations.get(place)?.as_ref().map(|one| &one.name)
    }

    pub(super) fn envelope(&self, entry: &Entry) -> Envelope {
        let domain = self.destination(entry.destination).expect("it has this entry");
        Envelope::decode(&entry.envelope, domain).expect("it was read before")
    }

    /// The domains with entries and how many each has, in no order.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (DestinationId, &Rc<str>, u32)> {
        (0..).zip(&self.destinations).filter_map(|(id, one)| {
            one.as_ref().map(|one| (DestinationId(id), &one.name, one.entries))
        })
    }

    pub(super) fn find_destination(&self, domain: &str) -> Option<DestinationId> {
        self.by_domain.get(domain).copied()
    }

    /// The number of a domain, for one more entry.
    pub(super) fn enter_destination(&mut self, domain: &str) -> DestinationId {
        if let Some(&id) = self.by_domain.get(domain) {
            let place = usize::try_from(id.0).expect("32 bits");
            self.destinations[place].as_mut().expect("it is named").entries += 1;
            return id;
        }
        let name: Rc<str> = domain.into();
        let one = Some(Destination { name: Rc::clone(&name), entries: 1 });
        let id = if let Some(free) = self.free_destinations.pop() {
            self.destinations[usize::try_from(free).expect("32 bits")] = one;
            free
        } else {
            self.destinations.push(one);
            u32::try_from(self.destinations.len() - 1).expect("entries are bounded")
        };
        self.by_domain.insert(name, DestinationId(id));
        DestinationId(id)
    }

    fn leave_destination(&mut self, id: DestinationId) {
        let place = usize::try_from(id.0).expect("32 bits");
        let one = self.destinations[place].as_mut().expect("it has an entry");
        one.entries -= 1;
        if one.entries == 0 {
            let name = Rc::clone(&one.name);
            self.by_domain.remove(&name);
            self.destinations[place] = None;
            self.free_destinations.push(id.0);
        }
    }

    /// Takes in an entry that is not there; its destination was entered.
    pub(super) fn insert(&mut self, entry: Entry) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("entries are bounded")
        });
        let slot = Slot(place);
        self.by_id.insert(entry.id, slot);
        self.events.insert((entry.next_event(), slot));
        self.by_destination.insert((entry.destination, slot));
        for key in texts(&self.envelope(&entry)) {
            self.by_text.insert((key, slot));
        }
        self.waiting_recipients += waiting(&entry);
        self.entries[usize::try_from(place).expect("32 bits")] = Some(entry);
    }

    pub(super) fn remove(&mut self, id: QueueId) -> Option<Entry> {
        let slot = self.by_id.remove(&id)?;
        let entry = self.entries[usize::try_from(slot.0).expect("32 bits")].take()?;
        self.events.remove(&(entry.next_event(), slot));
        self.by_destination.remove(&(entry.destination, slot));
        for key in texts(&self.envelope(&entry)) {
            self.by_text.remove(&(key, slot));
        }
        self.waiting_recipients -= waiting(&entry);
        self.free.push(slot.0);
        self.leave_destination(entry.destination);
        for one in entry.standings.all() {
            self.forget(one.said.as_ref());
        }
        Some(entry)
    }

    /// Changes an entry in place; what finds it stays right.
    pub(super) fn change(&mut self, id: QueueId, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let place = usize::try_from(slot.0).expect("32 bits");
        let Some(entry) = self.entries[place].as_mut() else { return false };
        let before = (entry.next_event(), waiting(entry));
        change(entry);
        let after = (entry.next_event(), waiting(entry));
        if before.0 != after.0 {
            self.events.remove(&(before.0, slot));
            self.events.insert((after.0, slot));
        }
        self.waiting_recipients = self.waiting_recipients - before.1 + after.1;
        true
    }

    /// What was said, shared with all others of whom the same was said.
    pub(super) fn share(&mut self, said: Said) -> Rc<Said> {
        if let Some(known) = self.said.get(&said) {
            return Rc::clone(known);
        }
        let said = Rc::new(said);
        self.said.insert(Rc::clone(&said));
        said
    }

    /// A standing that is gone said this.
    pub(super) fn forget(&mut self, said: Option<&Rc<Said>>) {
        // The set's, and the one at hand.
        if let Some(said) = said.filter(|said| Rc::strong_count(said) <= 2) {
            self.said.remove(said);
        }
    }

    #[cfg(test)]
    pub(super) fn said_count(&self) -> usize {
        self.said.len()
    }

    /// The next event of all, and whose it is.
    pub(super) fn first_event(&self) -> Option<(u32, QueueId)> {
        let &(at, slot) = self.events.first()?;
        self.get(slot).map(|entry| (at, entry.id))
    }

    /// Whether every entry has its event.
    pub(super) fn is_sound(&self) -> bool {
        let has_event = |slot: Slot| {
            self.get(slot).is_some_and(|entry| self.events.contains(&(entry.next_event(), slot)))
        };
        self.events.len() == self.len() && self.by_id.values().all(|&slot| has_event(slot))
    }

    /// The entries of a domain, in no order.
    pub(super) fn of_destination(&self, id: DestinationId) -> impl Iterator<Item = &Entry> {
        let range = (id, Slot(0))..=(id, Slot(u32::MAX));
        self.by_destination.range(range).filter_map(|&(_, slot)| self.get(slot))
    }

    /// Entries that may have this name, sender or recipient: to be looked at.
    pub(super) fn of_text(&self, text: &str) -> impl Iterator<Item = &Entry> {
        let key = text_key(text);
        let range = (key, Slot(0))..=(key, Slot(u32::MAX));
        self.by_text.range(range).filter_map(|&(_, slot)| self.get(slot))
    }

    /// The numbers of the entries behind `after`, rising.
    pub(super) fn ids(&self, after: QueueId) -> impl Iterator<Item = QueueId> {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.by_id.range(behind).map(|(&id, _)| id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }
}

fn waiting(entry: &Entry) -> u64 {
    let waits = entry.standings.all().iter().filter(|one| one.fate == Fate::Waiting);
    waits.count() as u64
}
