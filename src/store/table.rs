//! The blob table: where each blob lies and how many entries refer to it.
//!
//! Dense by number, in pages of 1024; a page whose blobs are all gone takes no memory. A page is
//! also what a checkpoint saves, with the position it was saved at, so that replay counts no
//! reference twice.

use super::batch::BlobLine;
use super::segments::round_up;
use super::{Damaged, LOST_REFERENCE, Planted};
use crate::bytes::codec::{Put, Reader, to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, Lsn};
use std::collections::VecDeque;
use std::ops::Range;

/// Blobs of one page.
const PAGE_BLOBS: usize = 1024;
/// Bits of a location: slot, offset in 64 octets, blocks to read.
const SLOT_BITS: u32 = 20;
const OFFSET_BITS: u32 = 26;
const BLOCK_BITS: u32 = 18;
const _: () = assert!(SLOT_BITS + OFFSET_BITS + BLOCK_BITS == 64);

/// Octets of the largest blob, header and summary included: what [`Location`] can say.
pub(super) const BLOB_OCTETS_MAX: usize = ((1 << BLOCK_BITS) - 2) * BLOCK_OCTETS;
/// Octets of the largest segment: what [`Location`] can say.
pub(super) const SEGMENT_OCTETS_MAX: u64 = 1 << (OFFSET_BITS + 6);

/// Where a blob lies; one read of `blocks` blocks from the block of `offset` holds all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub slot: u32,
    pub offset: u64,
    pub blocks: u32,
}

impl Location {
    fn pack(self) -> u64 {
        (u64::from(self.slot) << (OFFSET_BITS + BLOCK_BITS))
            | ((self.offset / 64) << BLOCK_BITS)
            | u64::from(self.blocks)
    }

    /// 0 stands for no location.
    fn unpack(packed: u64) -> Option<Location> {
        let field = |shift: u32, bits: u32| (packed >> shift) & ((1 << bits) - 1);
        let blocks = u32::try_from(field(0, BLOCK_BITS)).expect("18 bits");
        (blocks > 0).then(|| Location {
            slot: u32::try_from(field(OFFSET_BITS + BLOCK_BITS, SLOT_BITS)).expect("20 bits"),
            offset: field(BLOCK_BITS, OFFSET_BITS) * 64,
            blocks,
        })
    }

    /// Octets of the blob, as far as its blocks tell: it ends anywhere in the last one, in its middle
    /// on average. Never 0, so that a sum is 0 for no blobs alone.
    pub(super) fn octets(self) -> u64 {
        let block = to_u64(BLOCK_OCTETS);
        let room = block - self.offset % block;
        match self.blocks {
            0 | 1 => room / 2,
            blocks => room + (u64::from(blocks) - 2) * block + block / 2,
        }
    }

    /// Where a blob lies that a batch at `batch_at` brings.
    pub(super) fn of(slot: u32, batch_at: u64, line: &BlobLine) -> Location {
        let offset = batch_at + to_u64(line.offset);
        let lead = to_usize(offset) % BLOCK_OCTETS;
        let blocks = round_up(lead + line.octets) / BLOCK_OCTETS;
        Location { slot, offset, blocks: u32::try_from(blocks).expect("within BLOB_OCTETS_MAX") }
    }
}

/// What is alive in one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Living {
    pub blobs: u64,
    /// As [`Location::octets`] counts.
    pub octets: u64,
}

/// How many entries refer to each blob of a page: an octet each, as long as there are no more of any
/// than that says. A message with more recipients is rare, and costs its page three octets a blob.
enum Counts {
    Few(Box<[u8; PAGE_BLOBS]>),
    Many(Box<[u32; PAGE_BLOBS]>),
}

impl Counts {
    fn get(&self, index: usize) -> u32 {
        match self {
            Counts::Few(counts) => counts[index].into(),
            Counts::Many(counts) => counts[index],
        }
    }

    fn set(&mut self, index: usize, count: u32) {
        match (&mut *self, u8::try_from(count)) {
            (Counts::Few(counts), Ok(count)) => counts[index] = count,
            (Counts::Few(counts), Err(_)) => {
                let mut many = Box::new(counts.map(u32::from));
                many[index] = count;
                *self = Counts::Many(many);
            }
            (Counts::Many(counts), _) => counts[index] = count,
        }
    }

    fn heap_octets(&self) -> usize {
        match self {
            Counts::Few(counts) => size_of_val(&**counts),
            Counts::Many(counts) => size_of_val(&**counts),
        }
    }
}

struct Page {
    locations: Box<[u64; PAGE_BLOBS]>,
    counts: Counts,
    live: u32,
    /// The page holds every change up to here.
    at: Lsn,
    dirty: bool,
}

impl Page {
    fn new() -> Page {
        Page {
            locations: Box::new([0; PAGE_BLOBS]),
            counts: Counts::Few(Box::new([0; PAGE_BLOBS])),
            live: 0,
            at: Lsn(0),
            dirty: false,
        }
    }
}

/// All blobs of one log.
#[derive(Default)]
pub(super) struct BlobTable {
    /// Page `first + i` stands at `i`.
    pages: VecDeque<Option<Page>>,
    first: u64,
    /// What is alive, by slot.
    living: Sorted<u32, Living>,
    blob_count: u64,
    /// References that went below zero: a planted or real bug, reported by `verify`.
    underflows: u64,
    /// Records below the checkpoint may come again, for blobs that are gone by now.
    replaying: bool,
    planted: Planted,
    /// References counted so far; for [`Planted::LoseReference`].
    retained: u32,
}

fn place(id: BlobId) -> (u64, usize) {
    let per_page = to_u64(PAGE_BLOBS);
    (id.0 / per_page, to_usize(id.0 % per_page))
}

impl BlobTable {
    pub(super) fn new(planted: Planted) -> BlobTable {
        BlobTable { planted, ..BlobTable::default() }
    }

    /// While records come again that a checkpoint may have already.
    pub(super) fn set_replaying(&mut self, replaying: bool) {
        self.replaying = replaying;
    }

    /// Octets of memory that the table takes.
    pub(super) fn heap_octets(&self) -> usize {
        let of_page = |page: &Page| size_of_val(&*page.locations) + page.counts.heap_octets();
        let held: usize = self.pages.iter().flatten().map(of_page).sum();
        self.pages.capacity() * size_of::<Option<Page>>() + held
    }

    /// Blobs that are referred to.
    pub(super) fn blob_count(&self) -> u64 {
        self.blob_count
    }

    /// References released that nobody held.
    pub(super) fn underflows(&self) -> u64 {
        self.underflows
    }

    /// What is alive in a slot.
    pub(super) fn living(&self, slot: u32) -> Living {
        self.living.get(&slot).copied().unwrap_or_default()
    }

    /// Whether nothing is alive in a slot.
    pub(super) fn is_dead(&self, slot: u32) -> bool {
        !self.living.contains_key(&slot)
    }

    /// Octets that are alive in all slots.
    pub(super) fn live_octets(&self) -> u64 {
        self.living.values().map(|living| living.octets).sum()
    }

    fn page(&self, number: u64) -> Option<&Page> {
        let index = number.checked_sub(self.first)?;
        self.pages.get(to_usize(index))?.as_ref()
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        if self.pages.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.pages.push_front(None);
            self.first -= 1;
        }
        let index = to_usize(number - self.first);
        while self.pages.len() <= index {
            self.pages.push_back(None);
        }
        let slot = self.pages.get_mut(index).expect("the deque was grown to hold it");
        slot.get_or_insert_with(Page::new)
    }

    /// Where the blob lies, if anything refers to it.
    pub(super) fn locate(&self, id: BlobId) -> Option<Location> {
        let (number, index) = place(id);
        Location::unpack(self.page(number)?.locations[index])
    }

    /// How many entries refer to the blob.
    pub(super) fn references(&self, id: BlobId) -> u32 {
        let (number, index) = place(id);
        self.page(number).map_or(0, |page| page.counts.get(index))
    }

    /// Every blob that lies somewhere, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (BlobId, Location, u32)> + '_ {
        (self.first..).zip(&self.pages).filter_map(|(n, page)| Some((n, page.as_ref()?))).flat_map(
            |(number, page)| {
                page.locations.iter().enumerate().filter_map(move |(index, &packed)| {
                    let id = BlobId(number * to_u64(PAGE_BLOBS) + to_u64(index));
                    Some((id, Location::unpack(packed)?, page.counts.get(index)))
                })
            },
        )
    }

    /// The pages that there are, for those who look at all blobs without stopping everybody.
    pub(super) fn page_numbers(&self) -> Range<u64> {
        self.first..self.first + to_u64(self.pages.len())
    }

    /// The blobs of one page that lie somewhere, by number.
    pub(super) fn page_blobs(&self, number: u64) -> impl Iterator<Item = (BlobId, Location)> + '_ {
        let locations = self.page(number).into_iter().flat_map(|page| page.locations.iter());
        locations.enumerate().filter_map(move |(index, &packed)| {
            let id = BlobId(number * to_u64(PAGE_BLOBS) + to_u64(index));
            Some((id, Location::unpack(packed)?))
        })
    }

    /// A durable batch holds this blob; its references follow with the batch's records.
    pub(super) fn insert(&mut self, at: Lsn, slot: u32, batch_at: u64, line: &BlobLine) {
        let (number, index) = place(line.id);
        let location = Location::of(slot, batch_at, line);
        let page = self.page_mut(number);
        if at <= page.at {
            return;
        }
        page.locations[index] = location.pack();
        page.counts.set(index, 0);
        page.live += 1;
        page.dirty = true;
        self.blob_count += 1;
        self.settle_in(location);
    }

    /// A durable record says that the blob lies elsewhere now. One that is gone stays gone: whoever
    /// moved it read it before its last reference was released. Tells whether it was moved.
    pub(super) fn relocate(&mut self, at: Lsn, id: BlobId, to: Location) -> bool {
        let (number, index) = place(id);
        if self.page(number).is_none() {
            return false;
        }
        let page = self.page_mut(number);
        if at <= page.at {
            return false;
        }
        let Some(from) = Location::unpack(page.locations[index]) else { return false };
        page.locations[index] = to.pack();
        page.dirty = true;
        self.release_octets(from);
        self.settle_in(to);
        true
    }

    /// Counts references up or down.
    pub(super) fn change(&mut self, at: Lsn, id: BlobId, by: i32) {
        if by > 0 && self.planted == Planted::LoseReference {
            self.retained += 1;
            if self.retained.is_multiple_of(LOST_REFERENCE) {
                return;
            }
        }
        let (number, index) = place(id);
        let page = self.page_mut(number);
        if at <= page.at {
            return;
        }
        page.dirty = true;
        if let Some(count) = page.counts.get(index).checked_add_signed(by) {
            page.counts.set(index, count);
        } else if !self.replaying {
            self.underflows += 1;
        }
    }

    /// Forgets the blob if nothing refers to it; called once all records of its batch, or of the
    /// batch that released it, were applied. True if it is gone.
    pub(super) fn settle(&mut self, at: Lsn, id: BlobId) -> bool {
        let (number, index) = place(id);
        let page = self.page_mut(number);
        if at <= page.at || page.counts.get(index) > 0 {
            return false;
        }
        let Some(location) = Location::unpack(page.locations[index]) else { return false };
        page.locations[index] = 0;
        page.live -= 1;
        page.dirty = true;
        self.blob_count -= 1;
        self.release_octets(location);
        true
    }

    fn settle_in(&mut self, location: Location) {
        let living = self.living.entry(location.slot).or_default();
        living.blobs += 1;
        living.octets += location.octets();
    }

    fn release_octets(&mut self, location: Location) {
        let Some(living) = self.living.get_mut(&location.slot) else { return };
        living.blobs = living.blobs.saturating_sub(1);
        living.octets = living.octets.saturating_sub(location.octets());
        if living.blobs == 0 {
            self.living.remove(&location.slot);
        }
    }

    /// Numbers of the pages that changed since they were saved, rising.
    pub(super) fn dirty(&self) -> Vec<u32> {
        (self.first..)
            .zip(&self.pages)
            .filter(|(_, page)| page.as_ref().is_some_and(|page| page.dirty))
            .map(|(number, _)| page_number(number))
            .collect()
    }

    /// The octets of a page as it stands; `None` when none of its blobs is left.
    pub(super) fn save(&mut self, number: u32, at: Lsn) -> Option<Vec<u8>> {
        let index = to_usize(u64::from(number).checked_sub(self.first)?);
        let slot = self.pages.get_mut(index)?;
        let page = slot.as_mut()?;
        page.dirty = false;
        page.at = at;
        if page.live == 0 {
            *slot = None;
            while matches!(self.pages.front(), Some(None)) {
                self.pages.pop_front();
                self.first += 1;
            }
            return None;
        }
        let mut out = Vec::with_capacity(PAGE_BLOBS * 12);
        for (index, &location) in page.locations.iter().enumerate() {
            out.put_u64(location);
            out.put_u32(page.counts.get(index));
        }
        Some(out)
    }

    /// Takes a saved page back.
    pub(super) fn load(&mut self, number: u32, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        let broken = |_| Damaged(format!("page {number} of the blob table is cut off"));
        let mut reader = Reader::new(octets);
        let mut page = Page { at, ..Page::new() };
        let mut found = Vec::new();
        for index in 0..PAGE_BLOBS {
            page.locations[index] = reader.u64().map_err(broken)?;
            page.counts.set(index, reader.u32().map_err(broken)?);
            if let Some(location) = Location::unpack(page.locations[index]) {
                page.live += 1;
                found.push(location);
            }
        }
        self.blob_count += to_u64(found.len());
        // Neighbours came together as a rule: a slot is looked up once for all of them.
        for run in found.chunk_by(|one, next| one.slot == next.slot) {
            let living = self.living.entry(run[0].slot).or_default();
            living.blobs += to_u64(run.len());
            living.octets += run.iter().map(|one| one.octets()).sum::<u64>();
        }
        *self.page_mut(u64::from(number)) = page;
        Ok(())
    }

    /// Everything counts as changed.
    pub(super) fn taint(&mut self) {
        self.pages.iter_mut().flatten().for_each(|page| page.dirty = true);
    }
}

fn page_number(number: u64) -> u32 {
    u32::try_from(number).expect("fewer than 2^42 blobs in the life of a log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, offset: usize, octets: usize) -> BlobLine {
        BlobLine { id: BlobId(id), offset, octets }
    }

    #[test]
    fn says_where_one_read_finds_the_whole_blob() {
        let mut table = BlobTable::new(Planted::Nothing);
        table.insert(Lsn(1), 5, 8192, &line(3, 4032, 100));
        table.change(Lsn(1), BlobId(3), 2);
        assert!(!table.settle(Lsn(1), BlobId(3)));
        let location = table.locate(BlobId(3)).unwrap();
        assert_eq!(location, Location { slot: 5, offset: 12224, blocks: 2 });
        // 64 octets of the first block, and half of the second one.
        assert_eq!(table.living(5), Living { blobs: 1, octets: 64 + 2048 });
    }

    #[test]
    fn counts_what_lives_where_it_lies_now() {
        let mut table = BlobTable::new(Planted::Nothing);
        table.insert(Lsn(1), 5, 8192, &line(3, 0, 5000));
        table.insert(Lsn(1), 5, 8192, &line(4, 5056, 100));
        for id in [3, 4] {
            table.change(Lsn(1), BlobId(id), 1);
        }
        let to = Location { slot: 7, offset: 4096, blocks: 2 };
        assert!(table.relocate(Lsn(2), BlobId(3), to));
        assert_eq!(table.locate(BlobId(3)), Some(to));
        assert_eq!((table.living(5).blobs, table.living(7).blobs), (1, 1));
        assert_eq!(table.references(BlobId(3)), 1);
        let saved = table.save(0, Lsn(2)).unwrap();
        // One that is gone is not brought back, nor does what a page holds change again.
        table.change(Lsn(3), BlobId(4), -1);
        assert!(table.settle(Lsn(3), BlobId(4)));
        assert!(!table.relocate(Lsn(4), BlobId(4), to) && table.is_dead(5));
        let mut again = BlobTable::new(Planted::Nothing);
        again.load(0, Lsn(2), &saved).unwrap();
        let before = Location { slot: 6, ..to };
        assert!(!again.relocate(Lsn(2), BlobId(3), before));
        assert_eq!(again.locate(BlobId(3)), Some(to));
    }

    #[test]
    fn a_blob_counts_as_long_as_its_blocks_let_it_be_on_average() {
        let at = |offset, blocks| Location { slot: 0, offset, blocks }.octets();
        assert_eq!(at(0, 1), 2048);
        assert_eq!(at(4032, 1), 32);
        assert_eq!(at(4032, 2), 64 + 2048);
        assert_eq!(at(8192, 3), 2 * 4096 + 2048);
    }

    #[test]
    fn forgets_a_blob_with_its_last_reference() {
        let mut table = BlobTable::new(Planted::Nothing);
        table.insert(Lsn(1), 0, 4096, &line(1, 128, 64));
        table.change(Lsn(1), BlobId(1), 1);
        table.change(Lsn(2), BlobId(1), -1);
        assert!(table.settle(Lsn(2), BlobId(1)));
        assert_eq!((table.locate(BlobId(1)), table.is_dead(0)), (None, true));
        table.change(Lsn(3), BlobId(1), -1);
        assert_eq!(table.underflows(), 1);
    }

    #[test]
    fn counts_many_references_to_one_blob() {
        let mut table = BlobTable::new(Planted::Nothing);
        for id in [1, 2] {
            table.insert(Lsn(1), 0, 4096, &line(id, 128, 64));
            table.change(Lsn(1), BlobId(id), 255);
        }
        let octets = table.heap_octets();
        table.change(Lsn(1), BlobId(1), 1);
        assert_eq!([1, 2].map(|id| table.references(BlobId(id))), [256, 255]);
        assert!(table.heap_octets() > octets);
        let saved = table.save(0, Lsn(1)).unwrap();
        let mut again = BlobTable::new(Planted::Nothing);
        again.load(0, Lsn(1), &saved).unwrap();
        assert_eq!([1, 2].map(|id| again.references(BlobId(id))), [256, 255]);
        again.change(Lsn(2), BlobId(1), -256);
        assert!(again.settle(Lsn(2), BlobId(1)) && !again.settle(Lsn(2), BlobId(2)));
    }

    #[test]
    fn counts_nothing_twice_when_replayed_over_a_saved_page() {
        let mut table = BlobTable::new(Planted::Nothing);
        table.insert(Lsn(1), 0, 4096, &line(1, 128, 64));
        table.change(Lsn(1), BlobId(1), 1);
        let saved = table.save(0, Lsn(1)).unwrap();
        let mut again = BlobTable::new(Planted::Nothing);
        again.load(0, Lsn(1), &saved).unwrap();
        again.insert(Lsn(1), 0, 4096, &line(1, 128, 64));
        again.change(Lsn(1), BlobId(1), 1);
        assert_eq!((again.references(BlobId(1)), again.blob_count()), (1, 1));
        again.change(Lsn(2), BlobId(1), 1);
        assert_eq!(again.references(BlobId(1)), 2);
    }
}
