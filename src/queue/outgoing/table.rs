//! The entries in memory, and what finds them.
//!
//! An entry with one recipient takes some 90 octets and its envelope, packed; being found by number, name,
//! domain, sender and recipient, and by the moment of its next event, takes 65 more
//! (docs/OPERATIONS.md has the formula, a test holds it).

use super::QueueId;
use super::entry::{Envelope, Fate, Flags, Said};
use super::packed::unpack;
use crate::bytes::hash::{Map, Set};
use crate::bytes::runs::Runs;
use crate::model::id::BlobId;
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
    /// An attempt broke off by a fault of ours: nothing is done with it before this time.
    PutOff(u32),
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
    /// Twice boxed: a standing is all that the usual case takes.
    Many(Box<Box<[Standing]>>),
}

impl Standings {
    pub(super) fn new(count: usize) -> Standings {
        match count {
            1 => Standings::One(Standing::default()),
            _ => Standings::Many(Box::new(vec![Standing::default(); count].into())),
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
    /// It stands in its lane, whatever its stage has become meanwhile; not durable.
    pub(super) is_in_lane: bool,
    pub(super) standings: Standings,
    /// As [`pack`](super::packed::pack) writes it.
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
            Stage::Active(until) | Stage::PutOff(until) => until,
        }
    }
}

struct Destination {
    name: Rc<str>,
    entries: u32,
}

/// Entries in chunks, so that a queue that grows moves none of them, and has no room for twice as many.
#[derive(Default)]
struct Slots {
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<Slot>,
}

/// Fills what the allocator gives for a chunk, 64 KiB: the next sizes are 80 and 96.
const CHUNK_ENTRIES: usize = 65_536 / size_of::<Option<Entry>>();

impl Slots {
    fn place(slot: Slot) -> (usize, usize) {
        let index = usize::try_from(slot.0).expect("32 bits");
        (index / CHUNK_ENTRIES, index % CHUNK_ENTRIES)
    }

    fn get(&self, slot: Slot) -> Option<&Entry> {
        let (chunk, index) = Slots::place(slot);
        self.chunks.get(chunk)?.get(index)?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let (chunk, index) = Slots::place(slot);
        self.chunks.get_mut(chunk)?.get_mut(index)?.as_mut()
    }

    fn put(&mut self, entry: Entry) -> Slot {
        if let Some(slot) = self.free.pop() {
            let (chunk, index) = Slots::place(slot);
            self.chunks[chunk][index] = Some(entry);
            return slot;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK_ENTRIES) {
            self.chunks.push(Vec::with_capacity(CHUNK_ENTRIES));
        }
        let before = (self.chunks.len() - 1) * CHUNK_ENTRIES;
        let last = self.chunks.last_mut().expect("there is one now");
        last.push(Some(entry));
        Slot(u32::try_from(before + last.len() - 1).expect("entries are bounded"))
    }

    fn take(&mut self, slot: Slot) -> Option<Entry> {
        let (chunk, index) = Slots::place(slot);
        let entry = self.chunks.get_mut(chunk)?.get_mut(index)?.take()?;
        self.free.push(slot);
        Some(entry)
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten().flatten()
    }

    /// All entries with their places.
    fn placed(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let chunks = (0_u32..).step_by(CHUNK_ENTRIES).zip(&self.chunks);
        let slots = chunks.flat_map(|(first, chunk)| (first..).map(Slot).zip(chunk));
        slots.filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }
}

/// The number of an entry, its upper half first, and where it lies: twelve octets, where a number of 64 bits
/// would make them sixteen.
type ById = (u32, u32, Slot);

fn by_id(id: QueueId, slot: Slot) -> ById {
    let halves = [id.0 >> 32, id.0 & u64::from(u32::MAX)];
    let [upper, lower] = halves.map(|half| u32::try_from(half).expect("32 bits are left"));
    (upper, lower, slot)
}

fn id_of((upper, lower, _): ById) -> QueueId {
    QueueId(u64::from(upper) << 32 | u64::from(lower))
}

/// All entries of a queue.
#[derive(Default)]
pub(super) struct Table {
    slots: Slots,
    by_id: Runs<ById>,
    /// Every entry, by its next event.
    events: Runs<(u32, Slot)>,
    destinations: Vec<Option<Destination>>,
    free_destinations: Vec<u32>,
    by_domain: Map<Rc<str>, DestinationId>,
    by_destination: Runs<(DestinationId, Slot)>,
    /// By a hash of the message's name, its sender, and each recipient.
    by_text: Runs<(u32, Slot)>,
    /// Texts of entries that were gathered, and are not found yet.
    gathered: Vec<(u32, Slot)>,
    /// What was said, once each: a dead server says the same of all its mail.
    said: Set<Rc<Said>>,
    counts: Counts,
}

/// What the entries of a queue come to, kept up with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that an operator holds.
    pub held: u64,
    /// Recipients by their fate, in the order of [`Fate::ALL`].
    pub fates: [u64; Fate::ALL.len()],
    /// Of those that wait, who was tried before.
    pub deferred: u64,
}

impl Counts {
    fn of(entry: &Entry) -> Counts {
        let mut counts = Counts { held: entry.flags.has(Flags::HELD).into(), ..Counts::default() };
        for one in entry.standings.all() {
            counts.fates[usize::from(one.fate.code())] += 1;
            counts.deferred += u64::from(one.fate == Fate::Waiting && one.said.is_some());
        }
        counts
    }

    fn add(&mut self, other: Counts) {
        self.held += other.held;
        self.deferred += other.deferred;
        self.fates.iter_mut().zip(other.fates).for_each(|(mine, more)| *mine += more);
    }

    fn take(&mut self, other: Counts) {
        self.held -= other.held;
        self.deferred -= other.deferred;
        self.fates.iter_mut().zip(other.fates).for_each(|(mine, less)| *mine -= less);
    }

    /// Recipients that are still to be tried.
    pub fn waiting(&self) -> u64 {
        self.fates[usize::from(Fate::Waiting.code())]
    }
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

fn texts(envelope: &Envelope) -> Vec<u32> {
    let sender = envelope.sender.as_ref().map_or_else(String::new, ToString::to_string);
    let recipients = envelope.recipients.iter().map(|to| text_key(&to.address.to_string()));
    let mut keys: Vec<u32> =
        recipients.chain([text_key(&envelope.name), text_key(&sender)]).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn slot(&self, id: QueueId) -> Option<Slot> {
        let found = self.by_id.at_least(by_id(id, Slot(0))).next()?;
        (id_of(found) == id).then_some(found.2)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot)
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
        unpack(&entry.envelope, domain).expect("it was packed here")
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

    /// Takes in an entry that nothing finds before [`Table::find_gathered`]: one of many, in any order.
    /// Its destination was entered.
    pub(super) fn gather(&mut self, entry: Entry, envelope: &Envelope) {
        self.counts.add(Counts::of(&entry));
        let slot = self.slots.put(entry);
        self.gathered.extend(texts(envelope).into_iter().map(|key| (key, slot)));
    }

    /// Lets what was gathered be found. An error: two entries have this number.
    pub(super) fn find_gathered(&mut self) -> Result<(), QueueId> {
        let all = || self.slots.placed();
        let mut ids: Vec<ById> = all().map(|(slot, entry)| by_id(entry.id, slot)).collect();
        ids.sort_unstable();
        let is_twice = |pair: &[ById]| id_of(pair[0]) == id_of(pair[1]);
        if let Some(pair) = ids.windows(2).find(|pair| is_twice(pair)) {
            return Err(id_of(pair[0]));
        }
        self.events =
            all().map(|(slot, entry)| (entry.next_event(), slot)).collect::<Vec<_>>().into();
        self.by_destination =
            all().map(|(slot, entry)| (entry.destination, slot)).collect::<Vec<_>>().into();
        self.by_id = ids.into();
        self.by_text = std::mem::take(&mut self.gathered).into();
        Ok(())
    }

    /// Takes in an entry that is not there; its destination was entered.
    pub(super) fn insert(&mut self, entry: Entry) {
        let (id, destination, event) = (entry.id, entry.destination, entry.next_event());
        let keys = texts(&self.envelope(&entry));
        self.counts.add(Counts::of(&entry));
        let slot = self.slots.put(entry);
        self.by_id.insert(by_id(id, slot));
        self.events.insert((event, slot));
        self.by_destination.insert((destination, slot));
        for key in keys {
            self.by_text.insert((key, slot));
        }
    }

    pub(super) fn remove(&mut self, id: QueueId) -> Option<Entry> {
        let slot = self.slot(id)?;
        self.by_id.remove(by_id(id, slot));
        let mut entry = self.slots.take(slot)?;
        self.events.remove((entry.next_event(), slot));
        self.by_destination.remove((entry.destination, slot));
        for key in texts(&self.envelope(&entry)) {
            self.by_text.remove((key, slot));
        }
        self.counts.take(Counts::of(&entry));
        self.leave_destination(entry.destination);
        // One by one: several recipients may have been told the same.
        for one in entry.standings.all_mut() {
            let said = one.said.take();
            self.forget(said.as_ref());
        }
        Some(entry)
    }

    /// Changes an entry in place; what finds it stays right.
    pub(super) fn change(&mut self, id: QueueId, change: impl FnOnce(&mut Entry)) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let before = (entry.next_event(), Counts::of(entry));
        change(entry);
        let after = (entry.next_event(), Counts::of(entry));
        if before.0 != after.0 {
            self.events.remove((before.0, slot));
            self.events.insert((after.0, slot));
        }
        self.counts.take(before.1);
        self.counts.add(after.1);
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

    /// The entries whose next event is not later than `now`, so many at most; in the order of their
    /// numbers, which is that of their acceptance.
    pub(super) fn due(&self, now: u32, most: usize) -> Vec<QueueId> {
        let due = self.events.iter().take_while(|&(at, _)| at <= now).take(most);
        let mut due: Vec<QueueId> =
            due.filter_map(|(_, slot)| self.get(slot).map(|entry| entry.id)).collect();
        due.sort_unstable();
        due
    }

    /// The next event of all, and whose it is.
    pub(super) fn first_event(&self) -> Option<(u32, QueueId)> {
        let (at, slot) = self.events.first()?;
        self.get(slot).map(|entry| (at, entry.id))
    }

    /// Whether every entry has its event.
    pub(super) fn is_sound(&self) -> bool {
        let has_event = |slot: Slot| {
            self.get(slot).is_some_and(|entry| self.events.contains((entry.next_event(), slot)))
        };
        self.events.len() == self.len() && self.by_id.iter().all(|(_, _, slot)| has_event(slot))
    }

    /// How many entries a domain has.
    pub(super) fn count_of(&self, domain: &str) -> u32 {
        let place = |id: DestinationId| usize::try_from(id.0).expect("32 bits");
        let found = self.find_destination(domain).map(place);
        found.and_then(|at| self.destinations[at].as_ref()).map_or(0, |one| one.entries)
    }

    /// The entries of a domain behind a place, and the place of each.
    pub(super) fn of_destination(
        &self,
        id: DestinationId,
        after: u64,
    ) -> impl Iterator<Item = (u64, &Entry)> {
        self.by_destination
            .at_least((id, first_behind(after)))
            .take_while(move |&(one, _)| one == id)
            .filter_map(|(_, slot)| Some((place(slot), self.get(slot)?)))
    }

    /// Entries behind a place that may have this name, sender or recipient: to be looked at.
    pub(super) fn of_text<'s>(
        &'s self,
        text: &str,
        after: u64,
    ) -> impl Iterator<Item = (u64, &'s Entry)> + use<'s> {
        let key = text_key(text);
        self.by_text
            .at_least((key, first_behind(after)))
            .take_while(move |&(one, _)| one == key)
            .filter_map(|(_, slot)| Some((place(slot), self.get(slot)?)))
    }

    /// The numbers of the entries behind `after`, rising.
    pub(super) fn ids(&self, after: QueueId) -> impl Iterator<Item = QueueId> {
        let behind = self.by_id.at_least(by_id(after, Slot(0)));
        behind.map(id_of).skip_while(move |&id| id == after)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter()
    }
}

/// Where an entry stands in a walk by an index, from 1.
fn place(slot: Slot) -> u64 {
    u64::from(slot.0) + 1
}

/// The first slot behind a place.
fn first_behind(place: u64) -> Slot {
    Slot(u32::try_from(place).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::packed::pack;
    use super::super::record::{Add, put_add};
    use super::super::{Outgoing, To};
    use super::*;
    use crate::model::address::Address;
    use crate::store::Group;

    /// Octets that runs take for each of many values: a tenth of room (a test there holds it).
    fn in_runs(value: usize) -> usize {
        (value * 12).div_ceil(10)
    }

    /// What an allocator gives for so many octets.
    fn rounded(octets: usize) -> usize {
        octets.next_multiple_of(16)
    }

    #[test]
    fn an_entry_takes_at_most_300_octets() {
        let envelope = Envelope {
            name: "6afd5dc0.3.1a2b3c".into(),
            sender: Some(Address::from_parts("ann.smith", "example.org")),
            envid: None,
            by: None,
            hold: None,
            via: None,
            recipients: vec![To {
                address: Address::from_parts("bob.jones", "example.net"),
                notify: None,
                orcpt: None,
            }],
        };
        let keys = texts(&envelope).len();
        let found = in_runs(size_of::<ById>())
            + in_runs(size_of::<(u32, Slot)>())
            + in_runs(size_of::<(DestinationId, Slot)>())
            + keys * in_runs(size_of::<(u32, Slot)>());
        let own = size_of::<Option<Entry>>() + rounded(pack(&envelope).len());
        assert_eq!((keys, size_of::<Option<Entry>>()), (3, 88));
        assert!(own + found <= 300, "{own} and {found}");
    }

    #[test]
    fn a_place_is_taken_again_and_what_stays_keeps_its_own() {
        let mut outgoing = Outgoing::new();
        let mut group = Group::new();
        for number in 1..=CHUNK_ENTRIES as u64 + 10 {
            let recipients = vec![To {
                address: Address::from_parts("r", "a.example"),
                notify: None,
                orcpt: None,
            }];
            let envelope = Envelope {
                name: "m".into(),
                sender: None,
                envid: None,
                by: None,
                hold: None,
                via: None,
                recipients,
            };
            let add = Add {
                queue: outgoing.assign(),
                blob: BlobId(number),
                size: 1,
                arrived: 1,
                due: 1,
                warn: 2,
                expires: 3,
                flags: Flags::default(),
                priority: 0,
                marks: 0,
                domain: "a.example".into(),
                envelope,
            };
            put_add(&mut group, &add);
        }
        outgoing.take(&group);
        let table = outgoing.table();
        let slots: Vec<Slot> = table.by_id.iter().map(|(_, _, slot)| slot).collect();
        assert!(slots.iter().zip(0..).all(|(slot, index)| slot.0 == index));
        assert!(table.entries().zip(1..).all(|(entry, id)| entry.id == QueueId(id)));
    }
}
