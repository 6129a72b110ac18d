//! The cleaner: moves what is alive out of segments in which much is dead, so that they are free.
//!
//! It works by itself when little is free, and when it is asked to ([`Log::compact`]). One unit is
//! some segments that are cleaned together, their blobs sorted the way their owners read them; at its
//! end they are free. Why a crash at any moment loses nothing stands at the head of `cold.rs`.
//!
//! ```text
//!   choose ─ sort ─┬─ read ─ write, sync ─ RELOCATE ─ rest ─┬─ … ─ free
//!                  └────────────────── batch ──────────────┘
//! ```
//!
//! Hot segments that replay would read are no victims: their records count until a checkpoint has
//! what they said. Whoever reads a blob while it is moved finds it in its old place until that is
//! used again, and then asks again (`reader.rs`). A blob that cannot be read stays where it is, and
//! its segment with it: damage is not carried on under fresh checks.

use super::Planted;
use super::cold;
use super::format::BLOB_HEADER_OCTETS;
use super::log::{AppendError, Health, Log, Signal};
use super::reader::Found;
use super::record::{Group, kind};
use super::segments::{SegmentStore, round_up};
use super::survivors::{Allowance, Batch};
use super::victims::{BLOB_EXTRA_OCTETS, Space, Victim, choose};
use crate::bytes::codec::{to_u64, to_usize};
use crate::bytes::hash::Map;
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::{BlobId, Lsn};
use crate::model::limits::CLEAN_BATCH_OCTETS;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

/// Pages of the blob table that are looked at without a break.
const PAGES_AT_ONCE: u64 = 16;
/// Wait for whoever cleans already.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Wait after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// The first wait for commits that take too long; each further one is twice as long,
const COMMIT_PAUSE: Duration = Duration::from_millis(20);
/// up to this.
const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Share of a log's room that is free below which room is short, in percent.
const ROOM_SHORT_PERCENT: u64 = 5;
/// Share of the segments that is alive below which cleaning them wins enough, in percent.
const CLEANING_HELPS_PERCENT: u64 = 66;
const NOT_NOW: &str = "the log is closing, or failed";
/// Slots that are kept when the cleaner has no other: for the pages of the checkpoint that gives back
/// what it took.
const LAST_KEPT: usize = 1;
/// Part of a log's room that may be written between two checkpoints while it is cleaned: nothing in it is
/// free, nor a victim, before the second.
const YOUNG_PART: u64 = 16;
/// Units in a row that may bring no room before the cleaner waits for something to change.
const VAIN_UNITS_MAX: u32 = 2;

/// How room is won back while the log is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaning {
    /// Whether it is done unasked.
    pub is_on: bool,
    /// Share of the log's room that is free below which it begins, in percent; less is kept free
    /// where little is dead (`victims.rs`).
    pub free_percent: u8,
    /// Share of the time that it works, in percent, while there is no hurry: 1 to 100.
    pub share_percent: u8,
    /// A commit that takes longer makes it pause.
    pub commit_max: Duration,
    /// How what is moved is stored.
    pub compression: Compression,
}

/// How what survives cleaning is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is; what is packed is unpacked when it is moved again and there is room.
    #[default]
    None,
    /// Packed, each message by itself, if it gets smaller.
    Zstd,
}

/// What one unit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    pub segments: u64,
    pub blobs: u64,
    /// Octets of these, headers and summaries included.
    pub octets: u64,
    /// Blobs that could not be read, and stay.
    pub damaged: u64,
    /// Octets of the segments that are free by it, less what it took of others.
    pub won: u64,
}

/// What the cleaner of one log knows.
#[derive(Default)]
pub(super) struct Cleaner {
    /// Something changed that may make it worth to clean.
    pub due: Signal,
    /// Somebody cleans.
    busy: Cell<bool>,
    /// Nobody knows whether the last RELOCATE is durable: what it names must stay.
    uncertain: Cell<bool>,
    /// The segment that replay starts in as the last checkpoint of this life has it; 0 without one.
    pub replay_from: Cell<u64>,
    /// Segments with a blob that could not be read.
    stuck: RefCell<BTreeSet<u64>>,
    /// Segments whose blobs would have taken as much room elsewhere, and the octets that were alive in them
    /// then: not worth it while no more of them is dead.
    vain: RefCell<Map<u64, u64>>,
    /// Segments of the index when it was last written anew for want of anything better.
    index_left: Cell<usize>,
    /// The wait for the last commit that took too long.
    pause: Cell<Duration>,
}

impl Cleaner {
    /// Whether a start may find blobs in the cold segment that is written to of which nothing is known
    /// here: they are being moved, or the record that says so may have got to the disk all the same.
    pub(super) fn is_writing(&self) -> bool {
        self.busy.get() || self.uncertain.get()
    }
}

/// How one batch of survivors went.
#[derive(Default, PartialEq, Eq)]
struct Moved {
    /// How many of those that were asked for it was.
    handled: usize,
    blobs: u64,
    octets: u64,
    damaged: Vec<Found>,
}

/// Octets that a batch of survivors aims at, in segments of `size`.
pub(super) fn batch_target(size: usize) -> usize {
    CLEAN_BATCH_OCTETS.min(size / 4)
}

/// How many blobs that take so many octets each go into the next batch, and what it takes: no more than the
/// `left` octets of a segment of `size`, if any fits there. The first goes in any case.
fn next_batch(
    sizes: &(impl Iterator<Item = usize> + Clone),
    size: usize,
    left: usize,
) -> (usize, usize) {
    let target = batch_target(size);
    let empty = cold::batch_octets(std::iter::empty());
    let fitting = |most: usize| {
        let (mut count, mut octets) = (0, empty);
        for each in sizes.clone() {
            if octets + each > most {
                break;
            }
            (count, octets) = (count + 1, octets + each);
        }
        (count, octets)
    };
    match (fitting(target.min(left)), fitting(target)) {
        ((0, _), (0, _)) => (1, empty + sizes.clone().next().unwrap_or(0)),
        // The first begins a segment.
        ((0, _), some) | (some, _) => some,
    }
}

/// Octets that these take where they lie.
fn octets_of(blobs: &[(BlobId, Found)]) -> u64 {
    blobs.iter().map(|(_, at)| at.location.octets() + BLOB_EXTRA_OCTETS).sum()
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    pub(super) async fn clean_when_due(self) {
        let shared = &self.shared;
        while !shared.stopping.get() {
            shared.cleaner.due.wait().await;
            let mut vain = 0;
            while vain < VAIN_UNITS_MAX && self.may_clean() && self.wants_cleaning() {
                match self.compact(Some(u64::MAX)).await.map(|(_, cleaned)| cleaned) {
                    Ok(Some(cleaned)) if cleaned.won > 0 => vain = 0,
                    Ok(Some(_)) => vain += 1,
                    // Looked at again when something changes: each second while room is short.
                    Ok(None) | Err(AppendError::Full) => break,
                    Err(_) => {
                        shared.stats.failures.add(1);
                        shared.env.sleep(FAILED_PAUSE).await;
                    }
                }
            }
        }
    }

    fn may_clean(&self) -> bool {
        !self.shared.stopping.get() && *self.shared.health.borrow() == Health::Good
    }

    /// Whether little is free, or mail is, or is about to be, refused. While a backup reads nothing would
    /// be freed.
    fn wants_cleaning(&self) -> bool {
        let shared = &self.shared;
        if self.is_pinned() {
            return false;
        }
        self.is_tight() || self.space().is_short(shared.settings.cleaning.free_percent)
    }

    /// Mail is refused, or is about to be.
    fn is_tight(&self) -> bool {
        let segments = &self.shared.segments;
        to_u64(segments.free_slots()) + segments.growth() <= to_u64(self.reserve()) + 1
    }

    /// Whether so little is free that mail is, or is soon to be, refused, and little would be won by
    /// cleaning: something that is alive has to go.
    pub fn is_short_of_room(&self) -> bool {
        let Space { capacity, free, .. } = self.space();
        let figures = self.figures();
        if !figures.crowded && free >= capacity / 100 * ROOM_SHORT_PERCENT {
            return false;
        }
        let used = (figures.hot_segments + figures.cold_segments) * figures.segment_octets;
        let live = figures.hot_live_octets + figures.cold_live_octets;
        !self.shared.settings.cleaning.is_on || live >= used / 100 * CLEANING_HELPS_PERCENT
    }

    /// Has segments cleaned in which much was removed, if little is free.
    pub fn win_room(&self) {
        self.shared.cleaner.due.set();
    }

    pub(super) fn space(&self) -> Space {
        let shared = &self.shared;
        let size = shared.segments.segment_octets();
        let used = shared.hot.borrow().len()
            + shared.cold.borrow().len()
            + shared.index.borrow().segments.len();
        let free = to_u64(shared.segments.free_slots()) + shared.segments.growth();
        let for_mail = free.saturating_sub(to_u64(self.reserve()));
        Space {
            capacity: (to_u64(used) + free).saturating_mul(size),
            free: for_mail.saturating_mul(size),
            live: shared.table.borrow().live_octets(),
        }
    }

    /// What is left of the cold segment that is written to.
    fn begun_room(&self) -> u64 {
        let size = self.shared.segments.segment_octets();
        self.shared.cold.borrow().writer.map_or(0, |writer| size - writer.offset)
    }

    /// Cleans one unit of the segments whose number is below `before`, however much is free; which
    /// that was, and `None` when none of them is worth it. A first call, without `before`, means all
    /// that there are, and saves what they said.
    pub async fn compact(
        &self,
        before: Option<u64>,
    ) -> Result<(u64, Option<Cleaned>), AppendError> {
        self.begin().await?;
        let compacted = Box::pin(self.compact_unit(before)).await;
        self.shared.cleaner.busy.set(false);
        compacted
    }

    async fn compact_unit(
        &self,
        before: Option<u64>,
    ) -> Result<(u64, Option<Cleaned>), AppendError> {
        let shared = &self.shared;
        if let Some(before) = before {
            return Ok((before, self.clean_unit(before).await?));
        }
        shared.cleaner.stuck.borrow_mut().clear();
        self.checkpoint().await?;
        let before = shared.next_segment.get();
        Ok((before, self.clean_unit(before).await?))
    }

    /// Waits until nobody else cleans; whoever got here sets `busy` back at its end. A log that is
    /// closing waits for that, and nobody begins any more.
    async fn begin(&self) -> Result<(), AppendError> {
        let shared = &self.shared;
        while shared.cleaner.busy.replace(true) {
            shared.env.sleep(BUSY_PAUSE).await;
        }
        let may = self.may_clean();
        shared.cleaner.busy.set(may);
        may.then_some(()).ok_or_else(|| AppendError::Failed(NOT_NOW.into()))
    }

    /// Waits until nobody cleans.
    pub(super) async fn cleaned(&self) {
        while self.shared.cleaner.busy.get() {
            self.shared.env.sleep(BUSY_PAUSE).await;
        }
    }

    /// What the next unit moves, where that is worth it.
    async fn find_unit(
        &self,
        before: u64,
    ) -> Result<Option<(Vec<Victim>, Vec<(BlobId, Found)>)>, AppendError> {
        let shared = &self.shared;
        self.reuse_dead_segments(shared.cleaner.replay_from.get());
        if shared.since_checkpoint.get() > self.space().capacity / YOUNG_PART {
            self.checkpoint_if_it_fits().await?;
        }
        let mut found = self.worthwhile(before).await;
        // A start knows no victims of the hot stream, and what came since a checkpoint is none.
        let replay_from = shared.cleaner.replay_from.get();
        let may_find_more = replay_from < shared.applied.get().segment;
        if found.is_none() && may_find_more && (replay_from == 0 || self.is_tight()) {
            self.checkpoint_if_it_fits().await?;
            found = self.worthwhile(before).await;
        }
        Ok(found)
    }

    async fn clean_unit(&self, before: u64) -> Result<Option<Cleaned>, AppendError> {
        let shared = &self.shared;
        let found = self.find_unit(before).await?;
        let Some((victims, blobs)) = found else {
            self.renew_index().await?;
            return Ok(None);
        };
        let (next, begun_room) = (shared.next_segment.get(), self.begun_room());
        let first = shared.cold.borrow().writer.map_or(next, |writer| writer.segment);
        let created = victims.iter().map(|one| one.created).max().unwrap_or(0);
        let mut kept = if self.cold_slots() == 0 { LAST_KEPT } else { self.reserve_of_cleaner() };
        let mut cleaned = Cleaned { segments: to_u64(victims.len()), ..Cleaned::default() };
        let mut left = blobs.as_slice();
        let mut ahead = octets_of(left);
        while !left.is_empty() {
            if !self.may_clean() {
                return Err(AppendError::Failed(NOT_NOW.into()));
            }
            let some = &left[..self.batch_len(left)];
            let begun = shared.env.now();
            let allowance = Allowance { kept, ahead: Some(ahead) };
            let mut moved = self.move_blobs(some, created, allowance).await;
            if moved == Err(AppendError::Full) {
                // Records took slots meanwhile, and give them back. What was begun has to be ended: half
                // of a unit frees nothing.
                self.checkpoint().await?;
                kept = LAST_KEPT;
                let allowance = Allowance { kept, ahead: None };
                moved = self.move_blobs(some, created, allowance).await;
            }
            let moved = moved?;
            let done;
            (done, left) = left.split_at(moved.handled);
            ahead -= octets_of(done);
            cleaned.blobs += moved.blobs;
            cleaned.octets += moved.octets;
            cleaned.damaged += to_u64(moved.damaged.len());
            shared.stats.moved_blobs.add(moved.blobs);
            shared.stats.moved_octets.add(moved.octets);
            shared.cleaner.stuck.borrow_mut().extend(moved.damaged.iter().map(|at| at.segment));
            if !left.is_empty() {
                self.rest(shared.env.now().since(begun)).await;
            }
        }
        if shared.settings.planted == Planted::ReuseBeforeMoved {
            self.reuse_at_once(&victims);
        }
        self.reuse_dead_segments(shared.cleaner.replay_from.get());
        cleaned.won = self.won(&victims, next, begun_room);
        // While a backup reads nothing is free, and what was won is not known.
        let is_vain = cleaned.won == 0 && !self.is_pinned();
        if is_vain {
            // It seemed worth it, and what was written takes as much.
            let (cold, table) = (shared.cold.borrow(), shared.table.borrow());
            let written = cold.iter().filter(|(_, one)| one.segment >= first);
            let written = written.map(|(slot, one)| (one.segment, table.living(slot).octets));
            shared.cleaner.vain.borrow_mut().extend(written);
        }
        // The slot for its pages is kept, and it gives back what records took meanwhile: not later, when
        // others have it. Else it is the last way to win room.
        let is_last_way = is_vain && (self.has_dead_segment() || self.is_index_worn());
        if self.is_tight() || is_last_way {
            self.checkpoint().await?;
        }
        shared.stats.victims.add(cleaned.segments);
        Ok(Some(cleaned))
    }

    /// Where nothing is left for its pages cleaning goes on without it.
    async fn checkpoint_if_it_fits(&self) -> Result<(), AppendError> {
        match self.checkpoint().await {
            Err(AppendError::Full) => Ok(()),
            other => other,
        }
    }

    /// Octets that a unit has won: the segments of its victims, less what it took of the cold stream, which had
    /// `begun_room` left in the segment that was written to when `next` was the number of the next one. What
    /// mail took meanwhile is not counted. A unit that frees as many segments as it took has won what it left in
    /// the last one.
    fn won(&self, victims: &[Victim], next: u64, begun_room: u64) -> u64 {
        let size = self.shared.segments.segment_octets();
        let (hot, cold) = (self.shared.hot.borrow(), self.shared.cold.borrow());
        let is_there = |one: &&Victim| {
            cold.segment_in(one.slot) == Some(one.segment)
                || hot.iter().any(|other| other.segment == one.segment)
        };
        let freed = victims.len() - victims.iter().filter(is_there).count();
        let begun = cold.iter().filter(|(_, one)| one.segment >= next).count();
        let has = to_u64(freed) * size + self.begun_room();
        has.saturating_sub(to_u64(begun) * size + begun_room)
    }

    /// Nothing else is worth it: segments of pages that were replaced may be. Once for what the last time left,
    /// since a checkpoint calls the cleaner, and in small segments even new pages leave much over.
    async fn renew_index(&self) -> Result<(), AppendError> {
        let segments = || self.shared.index.borrow().segments.len();
        if self.is_index_worn() && segments() != self.shared.cleaner.index_left.get() {
            self.checkpoint().await?;
            self.shared.cleaner.index_left.set(segments());
        }
        Ok(())
    }

    /// The segments of one unit, and what is alive in them; `None` when there are none whose room would
    /// not be taken again. The more there are the better what is alive in them fills others.
    async fn worthwhile(&self, before: u64) -> Option<(Vec<Victim>, Vec<(BlobId, Found)>)> {
        let size = to_usize(self.shared.segments.segment_octets());
        let (mut at_least, mut tried) = (0, 0);
        loop {
            let victims = self.victims(before, at_least);
            if victims.is_empty() {
                return None;
            }
            let blobs = self.survivors(&victims).await;
            if self.cold_octets(&blobs) + size / 32 <= size * victims.len() {
                return Some((victims, blobs));
            }
            if victims.len() > tried {
                tried = victims.len();
                at_least = tried * 2;
            } else {
                self.note_vain(&victims);
                (at_least, tried) = (0, 0);
            }
        }
    }

    /// The segments of one unit, `at_least` so many if there is room for what is alive in them.
    fn victims(&self, before: u64, at_least: usize) -> Vec<Victim> {
        let shared = &self.shared;
        let (table, cold) = (shared.table.borrow(), shared.cold.borrow());
        let stuck = shared.cleaner.stuck.borrow();
        let replay_from = shared.cleaner.replay_from.get().min(shared.tail.get().segment);
        let written = cold.writer.map(|writer| writer.slot);
        let hot = shared.hot.borrow();
        let hot = hot.iter().filter(|one| one.segment < replay_from);
        let hot = hot.map(|one| (one.slot, one.segment, one.created));
        let others = cold.iter().filter(|(slot, _)| Some(*slot) != written);
        let all = hot.chain(others.map(|(slot, one)| (slot, one.segment, one.created)));
        let candidates: Vec<Victim> = all
            .filter(|(slot, segment, _)| {
                *segment < before && !stuck.contains(segment) && !table.is_dead(*slot)
            })
            .map(|(slot, segment, created)| Victim {
                slot,
                segment,
                living: table.living(slot),
                created,
            })
            .collect();
        let size = shared.segments.segment_octets();
        let space = self.space();
        let sizes = (size, space.capacity / size);
        let now = shared.env.wall().0 / 1_000_000;
        let vain = shared.cleaner.vain.borrow();
        let is_vain = |one: &Victim| vain.get(&one.segment) == Some(&one.living.octets);
        let others = candidates.iter().filter(|one| !is_vain(one)).copied().collect();
        let chosen = choose(candidates, space, sizes, self.cold_room(), at_least, now);
        if !chosen.iter().all(is_vain) {
            // In other company they may be worth it.
            return chosen;
        }
        choose(others, space, sizes, self.cold_room(), at_least, now)
    }

    /// Keeps in mind that these would take as much room as they leave. By their size they seemed
    /// worth it, but large blobs leave much of a segment over.
    fn note_vain(&self, victims: &[Victim]) {
        let shared = &self.shared;
        let (hot, cold) = (shared.hot.borrow(), shared.cold.borrow());
        let hot = hot.iter().map(|one| one.segment);
        let there: BTreeSet<u64> = hot.chain(cold.iter().map(|(_, one)| one.segment)).collect();
        let mut vain = shared.cleaner.vain.borrow_mut();
        vain.retain(|segment, _| there.contains(segment));
        vain.extend(victims.iter().map(|one| (one.segment, one.living.octets)));
    }

    /// Octets that the cold stream may still take: what is left of its segment, and the slots beyond
    /// those that are kept for records, but for one: how much room blobs take is known about, and a unit
    /// that has to stop half-way has used a slot and freed none.
    fn cold_room(&self) -> u64 {
        let shared = &self.shared;
        let size = shared.segments.segment_octets();
        let begun = self.begun_room();
        let slots = self.cold_slots();
        // Of each the header, and what its last batch leaves over.
        let usable = size - size / 16 - to_u64(BLOCK_OCTETS);
        let room = slots.saturating_mul(usable).saturating_add(begun - begun / 16);
        // The last way out of a log in which nothing can be moved any more: what fits for certain.
        if slots == 0 && shared.segments.free_slots() > LAST_KEPT {
            room.max(usable / 4)
        } else {
            room
        }
    }

    fn cold_slots(&self) -> u64 {
        let segments = &self.shared.segments;
        let free = to_u64(segments.free_slots()) + segments.growth();
        free.saturating_sub(to_u64(self.reserve_of_cleaner()) + 1)
    }

    /// What is alive in the victims, in the order in which its owners read it; what nobody reads in
    /// an order comes last, by number.
    async fn survivors(&self, victims: &[Victim]) -> Vec<(BlobId, Found)> {
        let shared = &self.shared;
        let slots: Map<u32, u64> = victims.iter().map(|one| (one.slot, one.segment)).collect();
        let mut wanted: Map<BlobId, Found> = Map::default();
        let pages = shared.table.borrow().page_numbers();
        let mut page = pages.start;
        while page < pages.end {
            {
                let table = shared.table.borrow();
                let some =
                    (page..pages.end.min(page + PAGES_AT_ONCE)).flat_map(|n| table.page_blobs(n));
                wanted.extend(some.filter_map(|(id, location)| {
                    let &segment = slots.get(&location.slot)?;
                    Some((id, Found { location, segment }))
                }));
            }
            page += PAGES_AT_ONCE;
            shared.env.breathe().await;
        }
        let mut sorted = Vec::with_capacity(wanted.len());
        for (_, machine) in &shared.machines {
            let shelves = machine.borrow().shelves();
            for major in shelves {
                if wanted.is_empty() {
                    break;
                }
                let mut from = Some(0);
                while let Some(at) = from {
                    from = machine.borrow().shelve(major, at, &mut |id| {
                        sorted.extend(wanted.remove(&id).map(|found| (id, found)));
                    });
                    shared.env.breathe().await;
                }
            }
        }
        let mut others: Vec<(BlobId, Found)> = wanted.into_iter().collect();
        others.sort_unstable_by_key(|&(id, _)| id);
        sorted.extend(others);
        sorted
    }

    /// How many of these blobs go into the next batch.
    fn batch_len(&self, blobs: &[(BlobId, Found)]) -> usize {
        let size = to_usize(self.shared.segments.segment_octets());
        let writer = self.shared.cold.borrow().writer;
        let left = writer.map_or(size, |writer| size - to_usize(writer.offset));
        let at_most = |at: &Found| to_usize(u64::from(at.location.blocks)) * BLOCK_OCTETS;
        let sizes = blobs.iter().map(|(_, at)| at_most(at) + 2 * BLOB_HEADER_OCTETS);
        next_batch(&sizes, size, left).0
    }

    /// Octets of the cold stream that these blobs take, about, with what they leave over at the ends of
    /// segments.
    fn cold_octets(&self, blobs: &[(BlobId, Found)]) -> usize {
        let size = to_usize(self.shared.segments.segment_octets());
        let writer = self.shared.cold.borrow().writer;
        let mut room = writer.map_or(0, |writer| size - to_usize(writer.offset));
        let (mut left, mut taken) = (blobs, 0);
        while !left.is_empty() {
            let sizes =
                left.iter().map(|(_, at)| to_usize(at.location.octets() + BLOB_EXTRA_OCTETS));
            let (count, octets) = next_batch(&sizes, size, room);
            let octets = round_up(octets);
            if octets > room {
                taken += room + BLOCK_OCTETS;
                room = size - BLOCK_OCTETS;
            }
            taken += octets;
            room = room.saturating_sub(octets);
            left = &left[count..];
        }
        taken
    }

    /// Moves some blobs, those that come first: in the end the log says where they lie.
    /// [`AppendError::Full`] if that takes a slot that is not allowed.
    async fn move_blobs(
        &self,
        blobs: &[(BlobId, Found)],
        created: u64,
        allowance: Allowance,
    ) -> Result<Moved, AppendError> {
        let shared = &self.shared;
        let Batch { lifted, handled, damaged, packed } =
            self.lift_batch(blobs, allowance.ahead).await;
        let mut moved = Moved { handled, damaged, ..Moved::default() };
        if lifted.is_empty() {
            return Ok(moved);
        }
        let relocation = self.write_cold(&lifted, created, allowance.kept).await?;
        moved.blobs = to_u64(relocation.blobs.len());
        moved.octets = relocation.blobs.iter().map(|line| to_u64(line.octets)).sum();
        if shared.settings.planted == Planted::ReuseBeforeMoved {
            // In memory alone: no record says so.
            let at = Lsn(shared.applied.get().lsn.0 + 1);
            for (id, location) in relocation.places() {
                shared.table.borrow_mut().relocate(at, id, location);
            }
            return Ok(moved);
        }
        let mut group = Group::new();
        group.record(kind::RELOCATE, relocation.version(), 0, relocation.encode());
        // Whatever comes back but Ok: the blobs are in their old places, as far as anybody knows, and
        // what was just written is nobody's, unless the next start finds the record.
        let appended = self.append(group).await;
        shared.cleaner.uncertain.set(appended.is_err());
        appended?;
        shared.stats.packed_from.add(packed.0);
        shared.stats.packed_to.add(packed.1);
        Ok(moved)
    }

    /// Leaves the disk to others for as long as is due after `worked`.
    async fn rest(&self, worked: Duration) {
        let shared = &self.shared;
        if self.refuses_blobs() {
            return;
        }
        let cleaning = shared.settings.cleaning;
        let space = self.space();
        let share = space.share(cleaning.free_percent, cleaning.share_percent).clamp(1, 100);
        let rest = u32::try_from(100 - share).unwrap_or(0);
        let pause = worked * rest / u32::try_from(share).unwrap_or(100);
        // Who waits until mail is refused helps nobody.
        let is_slow = shared.stats.take_longest_lately() > cleaning.commit_max
            && !space.is_urgent(cleaning.free_percent);
        let wait = match (is_slow, shared.cleaner.pause.get()) {
            (false, _) => Duration::ZERO,
            (true, Duration::ZERO) => COMMIT_PAUSE,
            (true, before) => (before * 2).min(COMMIT_PAUSE_MAX),
        };
        shared.cleaner.pause.set(wait);
        let pause = pause.max(wait);
        shared.stats.clean_pauses.add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        if !pause.is_zero() {
            shared.env.sleep(pause).await;
        }
    }

    /// The planted fault: what was cleaned is free although only this process knows of it.
    fn reuse_at_once(&self, victims: &[Victim]) {
        let shared = &self.shared;
        let is_victim = |slot: u32| victims.iter().any(|one| one.slot == slot);
        let table = shared.table.borrow();
        shared.hot.borrow_mut().retain(|one| {
            let is_freed = is_victim(one.slot) && table.is_dead(one.slot);
            if is_freed {
                shared.segments.retire(one.slot);
            }
            !is_freed
        });
    }
}
