//! The machine of outgoing mail: records in, entries and their events out.
//!
//! ```text
//! major := number modulo 64          minor 0, the head; minor 1 + number / 4096, up to 64 entries
//! head  := version u8 | zeros{7} | highest number u64 [| pauses, in major 0]
//! page  := version u8 | zeros{7} | (QUEUE_ADD's body | attempts u16 | standings as in QUEUE_TRIED)*
//! ```

use super::entry::{Envelope, Fate, Flags, Said};
use super::packed::pack;
use super::pause::{Pause, Pauses};
use super::record::{
    Add, Change, Tried, read_add, read_standings, write_entry, write_pause, write_standings,
};
use super::table::{Counts, Entry, Stage, Standing, Standings, Table};
use super::{DestinationId, QueueId};
use crate::bytes::codec::{Put, Reader, Short};
use crate::bytes::hash::Sorted;
use crate::env::bell::Bell;
use crate::model::id::{BlobId, Lsn};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::{Blobs, Damaged, Machine};
use std::collections::BTreeSet;
use std::rc::Rc;
use xxhash_rust::xxh3::Xxh3;

const MAJORS: u32 = 64;
const PAGE_ENTRIES: u64 = 64;
pub(super) const HEAD_MINOR: u64 = 0;
const PAGE_VERSION: u8 = 1;
const PAGE_HEAD_OCTETS: usize = 8;

/// The outgoing mail of one log.
#[derive(Default)]
pub struct Outgoing {
    pub(super) table: Table,
    pauses: Pauses,
    /// The highest number that was applied, for each major.
    pub(super) highest: Sorted<u32, QueueId>,
    dirty: Sorted<u32, BTreeSet<u64>>,
    loaded: Sorted<u32, Lsn>,
    /// Volatile: the highest number given to anybody.
    assigned: QueueId,
    /// Volatile: rung when something changed that may have its turn now.
    bell: Rc<Bell>,
}

/// Which entries are walked over, by which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk<'w> {
    /// All, by number.
    All,
    /// Those of a domain.
    Domain(&'w str),
    /// Those that may have this name, sender (empty for the null one) or recipient.
    Text(&'w str),
}

pub(super) fn major(queue: QueueId) -> u32 {
    u32::try_from(queue.0 % u64::from(MAJORS)).expect("below 64")
}

fn minor(queue: QueueId) -> u64 {
    1 + queue.0 / u64::from(MAJORS) / PAGE_ENTRIES
}

/// The numbers whose entries share a page.
pub(super) fn numbers(major: u32, minor: u64) -> impl Iterator<Item = QueueId> {
    let first = (minor - 1) * PAGE_ENTRIES;
    (first..first + PAGE_ENTRIES).map(move |n| QueueId(n * u64::from(MAJORS) + u64::from(major)))
}

impl Outgoing {
    pub fn new() -> Outgoing {
        Outgoing::default()
    }

    /// A number for an entry that is about to be appended.
    pub fn assign(&mut self) -> QueueId {
        let applied = self.highest.values().max().copied().unwrap_or_default();
        self.assigned = QueueId(self.assigned.max(applied).0 + 1);
        self.assigned
    }

    /// Rung by every record that leaves something to do.
    pub fn bell(&self) -> Rc<Bell> {
        Rc::clone(&self.bell)
    }

    /// For tests without a log: applies the group's records of outgoing mail.
    #[cfg(test)]
    pub(crate) fn take(&mut self, group: &crate::store::Group) {
        for record in &group.records {
            let crate::store::record::OwnedRecord { kind, version, flags, account, ref body } =
                *record;
            if Change::is_known(kind) {
                let record = Record { kind, version, flags, account, body };
                let mut ignore = |_, _, _| {};
                let mut blobs = Blobs::observed(Lsn(1), &mut ignore);
                self.apply(Lsn(1), record, &mut blobs).expect("it is sound");
            }
        }
    }

    pub fn get(&self, queue: QueueId) -> Option<&Entry> {
        self.table.by_id(queue)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Recipients that are still to be tried.
    pub fn recipients(&self) -> u64 {
        self.table.counts().waiting()
    }

    pub fn envelope(&self, entry: &Entry) -> Envelope {
        self.table.envelope(entry)
    }

    /// The domain of an entry's recipients.
    pub fn domain(&self, destination: DestinationId) -> Option<&Rc<str>> {
        self.table.destination(destination)
    }

    /// The domains that have entries and how many each has, in no order.
    pub fn domains(&self) -> impl Iterator<Item = (&Rc<str>, u32)> {
        self.table.destinations().map(|(_, name, entries)| (name, entries))
    }

    /// What the entries come to.
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// How many entries a domain has.
    pub fn count_of(&self, domain: &str) -> u32 {
        self.table.count_of(domain)
    }

    /// The entries behind a place in a walk, each with its place; 0 is before the first. An entry keeps
    /// its place as long as it is there: whoever goes on behind the last one that he saw misses none
    /// that stays, and sees none twice.
    pub fn walk<'s>(
        &'s self,
        walk: Walk<'_>,
        after: u64,
    ) -> Box<dyn Iterator<Item = (u64, &'s Entry)> + 's> {
        match walk {
            Walk::All => Box::new(self.behind(QueueId(after)).map(|entry| (entry.id.0, entry))),
            Walk::Domain(domain) => {
                let found = self.table.find_destination(domain);
                Box::new(found.into_iter().flat_map(move |id| self.table.of_destination(id, after)))
            }
            Walk::Text(text) => Box::new(self.table.of_text(text, after)),
        }
    }

    /// The entries behind number `after`, by number.
    pub fn behind(&self, after: QueueId) -> impl Iterator<Item = &Entry> {
        self.table.ids(after).filter_map(|id| self.table.by_id(id))
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.entries()
    }

    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// The entries whose next event is not later than `now`, so many at most, as they were accepted.
    pub fn due(&self, now: u32, most: usize) -> Vec<QueueId> {
        self.table.due(now, most)
    }

    /// The next event of all, in seconds since 1970, and whose it is.
    pub fn first_event(&self) -> Option<(u32, QueueId)> {
        self.table.first_event()
    }

    /// Says what is done with an entry now. It is [`Stage::Idle`] again once a record of it is applied.
    pub fn set_stage(&mut self, queue: QueueId, stage: Stage) {
        self.table.change(queue, |entry| entry.stage = stage);
    }

    /// An entry is due, and stands in its lane from here on. False: it stood there before.
    pub fn enter_lane(&mut self, queue: QueueId) -> bool {
        let mut was_there = false;
        self.table.change(queue, |entry| {
            entry.stage = Stage::Ready;
            was_there = std::mem::replace(&mut entry.is_in_lane, true);
        });
        !was_there
    }

    /// An entry was taken out of its lane. If it may be tried it is active from here on, until this time.
    /// One whose own time is over is not tried once more: its event has come.
    pub fn leave_lane(&mut self, queue: QueueId, now: u32, until: u32) -> Option<&Entry> {
        let mut may_be_tried = false;
        self.table.change(queue, |entry| {
            entry.is_in_lane = false;
            may_be_tried =
                entry.stage == Stage::Ready && !entry.flags.has(Flags::HELD) && entry.expires > now;
            if may_be_tried {
                entry.stage = Stage::Active(until);
            }
        });
        self.get(queue).filter(|_| may_be_tried)
    }

    /// All lanes were emptied: what stood there is due anew.
    pub fn forget_lane(&mut self, queue: QueueId) {
        self.table.change(queue, |entry| {
            entry.is_in_lane = false;
            if entry.stage == Stage::Ready {
                entry.stage = Stage::Idle;
            }
        });
    }

    /// Whether every entry has its event; for tests, which is why it may take its time.
    pub fn is_sound(&self) -> bool {
        self.table.is_sound()
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    #[cfg(test)]
    pub(super) fn said_count(&self) -> usize {
        self.table.said_count()
    }

    /// Names every blob that an entry refers to.
    pub fn references(&self, each: &mut dyn FnMut(BlobId)) {
        for entry in self.table.entries() {
            each(entry.blob);
        }
    }

    /// A digest of the whole state: the same after recovery as before the crash.
    pub fn digest(&self) -> u128 {
        let mut digest = Xxh3::new();
        for major in 0..MAJORS {
            digest.update(&self.head(major));
        }
        let mut body = Vec::new();
        for id in self.table.ids(QueueId(0)) {
            body.clear();
            self.write(&mut body, id);
            digest.update(&body);
        }
        digest.digest128()
    }

    fn has_it(&self, major: u32, at: Lsn) -> bool {
        self.loaded.get(&major).is_some_and(|&loaded| at <= loaded)
    }

    fn touch(&mut self, queue: QueueId) {
        self.dirty.entry(major(queue)).or_default().insert(minor(queue));
    }

    fn add(&mut self, add: &Add) -> Result<(), Damaged> {
        let queue = add.queue;
        self.touch(queue);
        let highest = self.highest.entry(major(queue)).or_default();
        *highest = (*highest).max(queue);
        if self.table.by_id(queue).is_some() {
            return Err(twice(queue));
        }
        let entry = self.entry(add);
        self.table.insert(entry);
        Ok(())
    }

    /// A new entry, one of its domain.
    fn entry(&mut self, add: &Add) -> Entry {
        let destination = self.table.enter_destination(&add.domain);
        Entry {
            id: add.queue,
            blob: add.blob,
            size: add.size,
            arrived: add.arrived,
            due: add.due,
            warn: add.warn,
            expires: add.expires,
            destination,
            attempts: 0,
            flags: add.flags,
            priority: add.priority,
            marks: add.marks,
            stage: Stage::Idle,
            is_in_lane: false,
            standings: Standings::new(add.envelope.recipients.len()),
            envelope: pack(&add.envelope),
        }
    }

    fn set_standings(
        &mut self,
        queue: QueueId,
        standings: Vec<(u16, Fate, Option<Said>)>,
    ) -> Result<(), Damaged> {
        for (to, fate, said) in standings {
            let place = usize::from(to);
            let said = said.map(|said| self.table.share(said));
            let mut before = None;
            let mut is_there = false;
            self.table.change(queue, |entry| {
                if let Some(one) = entry.standings.all_mut().get_mut(place) {
                    is_there = true;
                    one.fate = fate;
                    before = std::mem::replace(&mut one.said, said);
                }
            });
            self.table.forget(before.as_ref());
            if !is_there {
                return Err(stranger(queue, to));
            }
        }
        Ok(())
    }

    fn tried(&mut self, tried: Tried) -> Result<(), Damaged> {
        let Tried { queue, due, warn, flags, attempts, standings, at: _ } = tried;
        let is_there = self.table.change(queue, |entry| {
            let next = (due, warn, flags, attempts);
            // What stands as it stood is noted in the middle of an attempt, which goes on.
            if (entry.due, entry.warn, entry.flags, entry.attempts) != next {
                entry.stage = Stage::Idle;
            }
            (entry.due, entry.warn, entry.flags, entry.attempts) = next;
        });
        if !is_there {
            return Err(Damaged(format!("queue entry {} was tried and is not there", queue.0)));
        }
        self.touch(queue);
        self.set_standings(queue, standings)
    }

    fn done(&mut self, queue: QueueId, blob: BlobId) -> Result<(), Damaged> {
        let held = self.table.by_id(queue).map(|entry| entry.blob);
        if held != Some(blob) {
            return Err(Damaged(format!("queue entry {} with blob {blob}, has {held:?}", queue.0)));
        }
        self.table.remove(queue);
        self.touch(queue);
        Ok(())
    }

    pub(super) fn head(&self, major: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE_HEAD_OCTETS];
        page[0] = PAGE_VERSION;
        page.put_u64(self.highest.get(&major).copied().unwrap_or_default().0);
        if major == 0 {
            for pause in self.pauses.iter() {
                write_pause(&mut page, pause);
            }
        }
        page
    }

    fn write(&self, page: &mut Vec<u8>, queue: QueueId) {
        let Some(entry) = self.table.by_id(queue) else { return };
        let domain = self.table.destination(entry.destination).expect("it has this entry");
        write_entry(page, entry, domain, &self.table.envelope(entry));
        page.put_u16(entry.attempts);
        let fates = (0..).zip(entry.fates()).map(|(to, (fate, said))| (to, fate, said));
        write_standings(page, fates.collect::<Vec<_>>().into_iter());
    }

    pub(super) fn page(&self, major: u32, minor: u64) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE_HEAD_OCTETS];
        page[0] = PAGE_VERSION;
        for queue in numbers(major, minor) {
            self.write(&mut page, queue);
        }
        (page.len() > PAGE_HEAD_OCTETS).then_some(page)
    }

    fn load_head(&mut self, major: u32, mut reader: Reader<'_>) -> Result<(), Short> {
        self.highest.insert(major, QueueId(reader.u64()?));
        while !reader.rest().is_empty() {
            let pause = Pause::read(&mut reader)?;
            self.pauses.set(pause, true);
        }
        Ok(())
    }

    fn load_page(&mut self, mut reader: Reader<'_>) -> Result<(), Damaged> {
        let damaged = |_| Damaged("a page of the queue is not as it should be".into());
        while !reader.rest().is_empty() {
            let add = read_add(&mut reader).map_err(damaged)?;
            let mut entry = self.entry(&add);
            entry.attempts = reader.u16().map_err(damaged)?;
            for (to, fate, said) in read_standings(&mut reader).map_err(damaged)? {
                let said = said.map(|said| self.table.share(said));
                let one = entry.standings.all_mut().get_mut(usize::from(to));
                *one.ok_or_else(|| stranger(add.queue, to))? = Standing { fate, said };
            }
            self.table.gather(entry, &add.envelope);
        }
        Ok(())
    }
}

fn twice(queue: QueueId) -> Damaged {
    Damaged(format!("queue entry {} was added twice", queue.0))
}

fn stranger(queue: QueueId, to: u16) -> Damaged {
    Damaged(format!("queue entry {} has no recipient {to}", queue.0))
}

impl Machine for Outgoing {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        if record.flags & FLAG_SKIPPABLE != 0 && !Change::is_known(record.kind) {
            return Ok(());
        }
        match Change::read(&record)? {
            Change::Add(add) => {
                let blob = add.blob;
                self.bell.ring();
                if !self.has_it(major(add.queue), at) {
                    self.add(&add)?;
                }
                blobs.retain(blob);
            }
            Change::Tried(tried) => {
                self.bell.ring();
                if !self.has_it(major(tried.queue), at) {
                    self.tried(tried)?;
                }
            }
            Change::Done(queue, blob) => {
                if !self.has_it(major(queue), at) {
                    self.done(queue, blob)?;
                }
                blobs.release(blob);
            }
            Change::Set { queue, due, expires, flags } => {
                self.bell.ring();
                if !self.has_it(major(queue), at) {
                    let is_there = self.table.change(queue, |entry| {
                        (entry.due, entry.expires, entry.flags) = (due, expires, flags);
                        entry.stage = Stage::Idle;
                    });
                    if !is_there {
                        let queue = queue.0;
                        return Err(Damaged(format!("queue entry {queue} was set, is not there")));
                    }
                    self.touch(queue);
                }
            }
            Change::Pause(on, pause) => {
                self.bell.ring();
                if !self.has_it(0, at) && self.pauses.set(pause, on) {
                    self.dirty.entry(0).or_default();
                }
            }
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.keys().copied().collect()
    }

    fn save(&mut self, major: u32, _at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        page(HEAD_MINOR, Some(self.head(major)));
        for minor in self.dirty.remove(&major).unwrap_or_default() {
            page(minor, self.page(major, minor));
        }
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        let damaged = |_| Damaged(format!("page {major}/{minor} of the queue is damaged"));
        let mut reader = Reader::new(octets);
        let head = reader.take(PAGE_HEAD_OCTETS).map_err(damaged)?;
        if head[0] != PAGE_VERSION {
            return Err(Damaged(format!(
                "page {major}/{minor} of the queue is of another version"
            )));
        }
        if minor != HEAD_MINOR {
            return self.load_page(reader);
        }
        // The head is written with every save, so its position is that of the major.
        self.loaded.insert(major, at);
        self.load_head(major, reader).map_err(damaged)
    }

    fn loaded(&mut self) -> Result<(), Damaged> {
        self.table.find_gathered().map_err(twice)
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        Outgoing::references(self, each);
    }

    fn taint(&mut self) {
        // Also majors without entries: a page that says otherwise may be in the checkpoint.
        for major in 0..MAJORS {
            self.dirty.entry(major).or_default();
        }
        let all: Vec<QueueId> = self.table.ids(QueueId(0)).collect();
        for queue in all {
            self.touch(queue);
        }
    }
}
