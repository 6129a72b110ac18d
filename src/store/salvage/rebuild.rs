//! The state out of what the scan found: a checkpoint, as far as there is one, and records.

use super::scan::{BatchPlace, BlobPlace, IndexPlace, PagePlace, Scan, scan};
use super::{Known, Losses, LostPage, Mender, Menders, Source};
use crate::bytes::codec::{Reader, to_u64, to_usize};
use crate::bytes::hash::{Map, Set, Sorted};
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, Lsn};
use crate::store::Damaged;
use crate::store::batch::{open_blob, open_blob_anywhere, open_record};
use crate::store::checkpoint::{PageKey, PageV1, RootV1, TABLE_OWNER, TablePartV1, open_page};
use crate::store::cold::{COLD_OWNER, Cold};
use crate::store::format::{BLOB_HEADER_OCTETS, BlobHeader, Identity, PageAt, Stream, Superblock};
use crate::store::pack;
use crate::store::record::{FLAG_SKIPPABLE, Record, kind};
use std::cell::RefCell;
use std::rc::Rc;

/// Blobs of one page of the blob table.
const PAGE_BLOBS: u64 = 1024;
/// Notes that are kept; the number of those beyond is told.
const NOTES_MAX: usize = 1_000;

/// What the checkpoint's blob table says, as far as it is whole.
#[derive(Debug, Default)]
pub(in crate::store) struct Table {
    /// Of each page that is whole: its position, and how many refer to each blob; 0 to one that is gone.
    pages: Map<u64, (Lsn, Vec<u32>)>,
    /// Pages that are lost say nothing; of all others that are not there, all blobs were gone.
    lost: Set<u64>,
    /// The position of the checkpoint, if its list of pages is whole.
    listed: Option<Lsn>,
}

impl Table {
    pub(in crate::store) fn is_dead(&self, id: BlobId, born: Lsn) -> bool {
        let number = id.0 / PAGE_BLOBS;
        match self.pages.get(&number) {
            Some((at, there)) => born <= *at && there[to_usize(id.0 % PAGE_BLOBS)] == 0,
            None if self.lost.contains(&number) => false,
            None => self.listed.is_some_and(|at| born <= at),
        }
    }

    /// How many referred to a blob, and when; what records of before it say is of no use then.
    fn references(&self, id: BlobId) -> Option<(Lsn, u32)> {
        let number = id.0 / PAGE_BLOBS;
        match self.pages.get(&number) {
            Some((at, there)) => Some((*at, there[to_usize(id.0 % PAGE_BLOBS)])),
            None if self.lost.contains(&number) => None,
            None => self.listed.map(|at| (at, 0)),
        }
    }

    fn load(&mut self, number: u32, at: Lsn, page: &[u8]) {
        let mut reader = Reader::new(page);
        let mut there = Vec::new();
        while let (Ok(location), Ok(count)) = (reader.u64(), reader.u32()) {
            there.push(if location == 0 { 0 } else { count });
        }
        if to_u64(there.len()) == PAGE_BLOBS {
            self.pages.insert(u64::from(number), (at, there));
        }
    }
}

/// What came out of a damaged log.
pub struct Rebuilt {
    pub losses: Losses,
    /// Whole blobs that nothing refers to and nobody said to be gone, by number.
    pub orphans: Vec<BlobId>,
    /// Octets that were read.
    pub octets: u64,
    pub(super) scan: Scan,
    pub(super) references: Sorted<BlobId, u32>,
    pub(super) identity: Identity,
    /// Octets of a segment of the log, as most of it says.
    pub(super) segment_octets: u64,
    pub(super) epoch: u64,
    pub(super) last: Lsn,
}

impl Rebuilt {
    /// Messages, or what else blobs are, that are saved.
    pub fn saved(&self) -> usize {
        self.references.len()
    }

    /// Octets of a whole blob, checked again: its summary and its message.
    pub fn read(&self, source: &dyn Source, id: BlobId) -> Result<(Vec<u8>, Vec<u8>), Damaged> {
        let gone = || Damaged(format!("blob {id} is not there"));
        let place = self.scan.blobs.get(&id).ok_or_else(gone)?;
        let (header, mut octets) = read_blob(source, &self.identity, id, place)?;
        if header.codec == pack::ZSTD {
            octets = pack::unpack_at_once(&header, &octets, &self.identity)?;
        }
        let summary = to_usize(u64::from(header.summary_octets));
        let (summary, message) = octets.split_at(summary.min(octets.len()));
        Ok((summary.to_vec(), message.to_vec()))
    }
}

/// Reads a blob where the scan found it; its header, and what follows it as it is stored.
pub(super) fn read_blob(
    source: &dyn Source,
    identity: &Identity,
    id: BlobId,
    place: &BlobPlace,
) -> Result<(BlobHeader, Vec<u8>), Damaged> {
    let lead = to_usize(place.offset) % BLOCK_OCTETS;
    let len = (lead + place.octets).next_multiple_of(BLOCK_OCTETS);
    let read = source.read(place.slot, place.offset - to_u64(lead), len);
    let read = read.map_err(|error| Damaged(format!("blob {id}: {error}")))?;
    let octets = read.get(lead..lead + place.octets);
    let octets = octets.ok_or_else(|| Damaged(format!("blob {id}: it is cut off")))?;
    let header = if place.is_placed {
        open_blob(octets, id, identity, place.segment, place.offset)?
    } else {
        open_blob_anywhere(octets, id, identity)?
    };
    Ok((header, octets[BLOB_HEADER_OCTETS..].to_vec()))
}

/// A checkpoint that was found.
struct Base {
    root: RootV1,
    pages: Vec<PageV1>,
    /// Records of the table that are lost.
    tables_lost: usize,
}

/// How often a blob was referred to, and how often let go of, by records that are later than what the
/// checkpoint's table says.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    held: u32,
    gone: u32,
    /// The last batch that let go of it.
    last_gone: Lsn,
}

struct Rebuilding<'a> {
    source: &'a dyn Source,
    identity: Identity,
    scan: &'a Scan,
    menders: &'a Menders,
    table: Table,
    /// Slots and segments of the cold stream, as the checkpoint has them.
    cold: Vec<(u32, u64)>,
    losses: Losses,
    notes: usize,
    counts: Map<BlobId, Counted>,
}

/// Reads a log and fills the machines behind `menders`, which are empty. `told` hears of the octets
/// that were read.
pub fn rebuild(
    source: &dyn Source,
    identity: Identity,
    menders: &Menders,
    told: &mut dyn FnMut(u64),
) -> Rebuilt {
    let scan = scan(source, &identity, told);
    let superblocks = superblocks(source);
    let mut rebuilding = Rebuilding {
        source,
        identity,
        scan: &scan,
        menders,
        table: Table::default(),
        cold: Vec::new(),
        losses: Losses::default(),
        notes: 0,
        counts: Map::default(),
    };
    let base = rebuilding.base(&superblocks);
    rebuilding.load(base.as_ref());
    let last = rebuilding.replay(base.as_ref(), &superblocks);
    let references = rebuilding.settle();
    rebuilding.tell_damage(base.as_ref(), &references);
    let orphans = rebuilding.orphans(&references);
    let Rebuilding { losses, .. } = rebuilding;
    let newest = superblocks.iter().map(|one| one.epoch).max().unwrap_or(0);
    let epoch = scan.batches.iter().map(|one| one.epoch).max().unwrap_or(0).max(newest);
    let segment_octets = superblocks.first().map_or_else(
        || source.slots().iter().map(|&(_, len)| len).max().unwrap_or(0),
        |one| one.segment_octets,
    );
    let octets = scan.octets;
    Rebuilt { losses, orphans, octets, scan, references, identity, segment_octets, epoch, last }
}

/// Copies of the superblock that are whole, newest first.
fn superblocks(source: &dyn Source) -> Vec<Superblock> {
    let octets = source.superblock();
    let mut found: Vec<Superblock> =
        octets.chunks(BLOCK_OCTETS).filter_map(|copy| Superblock::decode(copy).ok()).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.seq));
    found
}

fn place_of(at: &PageAt) -> IndexPlace {
    IndexPlace { segment: at.segment, slot: at.slot, batch: at.batch, record: at.record }
}

impl<'a> Rebuilding<'a> {
    fn note(&mut self, what: String) {
        self.notes += 1;
        if self.notes <= NOTES_MAX {
            self.losses.notes.push(what);
        }
    }

    /// A record of the index that the scan found whole.
    fn index_record(&self, at: IndexPlace) -> Option<(u8, Vec<u8>)> {
        let &(_, len) = self.scan.index.get(&at)?;
        let batch_at = u64::from(at.batch) * to_u64(BLOCK_OCTETS);
        let seed = self.identity.seed(at.segment, batch_at);
        let start = to_usize(batch_at) + to_usize(u64::from(at.record));
        let octets = self.read(at.slot, start, len)?;
        let (record, _) = open_record(&octets, seed, to_usize(u64::from(at.record))).ok()?;
        Some((record.kind, record.body.to_vec()))
    }

    fn read(&self, slot: u32, start: usize, len: usize) -> Option<Vec<u8>> {
        let lead = start % BLOCK_OCTETS;
        let whole = (lead + len).next_multiple_of(BLOCK_OCTETS);
        let octets = self.source.read(slot, to_u64(start - lead), whole).ok()?;
        Some(octets.get(lead..lead + len)?.to_vec())
    }

    /// The checkpoint to begin with: the newest that is whole, else the newest.
    fn base(&self, superblocks: &[Superblock]) -> Option<Base> {
        let mut roots: Vec<IndexPlace> =
            superblocks.iter().map(|one| place_of(&one.root)).collect();
        let written = self.scan.index.iter().rev().filter(|(_, (found, _))| *found == kind::ROOT);
        roots.extend(written.map(|(&at, _)| at));
        // A root that no superblock names yet may be of a checkpoint that was cut off; what it says was so.
        roots.into_iter().find_map(|at| self.base_at(at))
    }

    fn base_at(&self, at: IndexPlace) -> Option<Base> {
        let (found, body) = self.index_record(at)?;
        let root = RootV1::from_octets(&body).ok().filter(|_| found == kind::ROOT)?;
        let mut pages = Vec::new();
        let mut tables_lost = 0;
        for part in &root.table {
            let part = self.index_record(place_of(&PageAt::from(part)));
            let part = part.and_then(|(_, body)| TablePartV1::from_octets(&body).ok());
            match part {
                Some(part) => pages.extend(part.pages),
                None => tables_lost += 1,
            }
        }
        Some(Base { root, pages, tables_lost })
    }

    /// Hands out what is whole of the checkpoint, and says what is lost.
    fn load(&mut self, base: Option<&Base>) {
        let (whole, lost) = self.sort_pages(base);
        for (key, at) in &lost {
            if let Some(mender) = self.mender(key.0) {
                mender.borrow_mut().lost(key.1, key.2, *at);
            }
        }
        for (key, at) in lost {
            let older = self.older(key, at);
            let has_older = older.is_some_and(|page| self.load_page(&page, true).is_ok());
            let (owner, major, minor) = key;
            if owner == TABLE_OWNER {
                self.table.lost.insert(u64::from(major));
            }
            self.losses.pages.push(LostPage { owner, major, minor, has_older });
        }
        for page in whole {
            if let Err(Damaged(why)) = self.load_page(&page, false) {
                self.note(format!("a page of the checkpoint was passed over: {why}"));
                let (owner, major, minor) = page.key;
                self.losses.pages.push(LostPage { owner, major, minor, has_older: false });
            }
        }
        for (kinds, mender) in self.menders {
            let notes = &mut self.losses.notes;
            let lost = mender.borrow_mut().loaded(&mut |note| notes.push(note));
            let page =
                |(major, minor)| LostPage { owner: *kinds.start(), major, minor, has_older: false };
            self.losses.pages.extend(lost.into_iter().map(page));
        }
    }

    /// Pages in force that are whole, and those that are lost with the position of the checkpoint's.
    fn sort_pages(&mut self, base: Option<&Base>) -> (Vec<PagePlace>, Vec<(PageKey, Lsn)>) {
        let (mut whole, mut lost) = (Vec::new(), Vec::new());
        if base.is_none_or(|base| base.tables_lost > 0) {
            let what = "the list of pages of the last checkpoint is lost: the newest version of each page \
                        that was found stands for it";
            self.note(what.into());
            self.losses.is_list_lost = true;
        } else {
            self.table.listed = base.map(|base| Lsn(base.root.replay_lsn));
        }
        let by_place: Map<IndexPlace, &PagePlace> =
            self.scan.pages.iter().map(|page| (page.at, page)).collect();
        let mut named: Set<PageKey> = Set::default();
        for page in base.iter().flat_map(|base| &base.pages) {
            let key = (page.owner, page.major, page.minor);
            named.insert(key);
            match by_place.get(&place_of(&PageAt::from(&page.at))) {
                Some(found) if found.key == key => whole.push(**found),
                _ => lost.push((key, Lsn(page.lsn))),
            }
        }
        if self.table.listed.is_none() {
            let mut newest: Sorted<PageKey, PagePlace> = Sorted::new();
            for page in self.scan.pages.iter().filter(|page| !named.contains(&page.key)) {
                let known = newest.entry(page.key).or_insert(*page);
                if (known.lsn, known.at.segment, known.at.batch)
                    < (page.lsn, page.at.segment, page.at.batch)
                {
                    *known = *page;
                }
            }
            whole.extend(newest.into_values());
        }
        (whole, lost)
    }

    /// The newest version of a page that is lost.
    fn older(&self, key: PageKey, at: Lsn) -> Option<PagePlace> {
        let same = self.scan.pages.iter().filter(|page| page.key == key && page.lsn <= at);
        same.max_by_key(|page| (page.lsn, page.at.segment, page.at.batch)).copied()
    }

    fn mender(&self, owner: u8) -> Option<Rc<RefCell<dyn Mender>>> {
        let found = self.menders.iter().find(|(kinds, _)| *kinds.start() == owner);
        found.map(|(_, mender)| Rc::clone(mender))
    }

    fn load_page(&mut self, page: &PagePlace, is_older: bool) -> Result<(), Damaged> {
        let gone = || Damaged("it is not read any more".into());
        let (_, body) = self.index_record(page.at).ok_or_else(gone)?;
        let ((owner, major, minor), lsn, octets) = open_page(&body)?;
        match owner {
            TABLE_OWNER if !is_older => self.table.load(major, lsn, octets),
            COLD_OWNER => {
                let mut cold = Cold::default();
                cold.load(octets)?;
                self.cold.extend(cold.iter().map(|(slot, one)| (slot, one.segment)));
            }
            // Where blobs lie is known by having found them.
            TABLE_OWNER => {}
            _ => {
                let stranger = || Damaged(format!("a page belongs to nobody ({owner})"));
                let mender = self.mender(owner).ok_or_else(stranger)?;
                let mut mender = mender.borrow_mut();
                if is_older {
                    mender.load_older(major, minor, lsn, octets)?;
                } else {
                    mender.load(major, minor, lsn, octets)?;
                }
            }
        }
        Ok(())
    }

    /// Record after record; the last batch that counts.
    fn replay(&mut self, base: Option<&Base>, superblocks: &[Superblock]) -> Lsn {
        let scan = self.scan;
        let from = base.map_or(Lsn(0), |base| Lsn(base.root.replay_lsn));
        // Whoever lost pages begins with the oldest record there is; the others pass over those.
        let all = base.is_none() || self.losses.of_records() || self.table.listed.is_none();
        let mut last = from;
        let mut is_reached = false;
        let mut seen = from;
        for batch in self.counting() {
            if !is_reached && batch.lsn > from {
                is_reached = true;
                self.reach(from);
            }
            if batch.lsn <= from && !all {
                continue;
            }
            if batch.lsn > from {
                let expected = (seen.0 + 1).min(batch.lsn.0);
                if !batch.is_whole {
                    self.losses.batches.push((expected, batch.lsn.0));
                } else if batch.lsn.0 > expected {
                    self.losses.batches.push((expected, batch.lsn.0 - 1));
                }
            }
            seen = seen.max(batch.lsn);
            self.apply_batch(batch);
            last = last.max(batch.lsn);
        }
        if !is_reached {
            self.reach(from);
        }
        self.losses.is_end_unknown = superblocks.is_empty();
        let reached = superblocks.iter().map(|one| one.reached.lsn).max().unwrap_or(Lsn(0));
        if reached > last {
            self.losses.batches.push((last.0 + 1, reached.0));
        }
        // Of those before it only blobs are wanted, and dead ones are used again.
        let named = base.iter().flat_map(|base| {
            let from = base.root.replay_segment;
            base.root.hot.iter().map(|one| one.1).filter(move |&segment| segment >= from)
        });
        let named = named.chain(superblocks.iter().map(|one| one.reached.segment));
        let mut missing: Vec<u64> = named
            .filter(|&segment| {
                segment > 0 && !scan.segments.iter().any(|one| one.segment == segment)
            })
            .collect();
        missing.sort_unstable();
        missing.dedup();
        self.losses.segments = missing;
        last.max(reached)
    }

    /// Batches in the order of the log. Of two with one number the later segment's counts.
    fn counting(&self) -> Vec<&'a BatchPlace> {
        let scan = self.scan;
        let mut owner: Map<Lsn, u64> = Map::default();
        for batch in scan.batches.iter().filter(|batch| batch.time > 0) {
            owner.insert(batch.lsn, batch.segment);
        }
        let counts = |batch: &&BatchPlace| {
            owner.get(&batch.lsn).is_none_or(|&segment| segment <= batch.segment)
        };
        scan.batches.iter().filter(counts).collect()
    }

    fn reach(&mut self, from: Lsn) {
        for (_, mender) in self.menders {
            let notes = &mut self.losses.notes;
            let reached = mender.borrow_mut().reached(from, &mut |note| notes.push(note));
            if let Err(Damaged(why)) = reached {
                self.note(why);
            }
        }
    }

    fn apply_batch(&mut self, batch: &BatchPlace) {
        let Some(&(last, len)) = batch.records.last() else { return };
        let seed = self.identity.seed(batch.segment, batch.at);
        let Some(octets) = self.read(batch.slot, to_usize(batch.at), last + len) else { return };
        for &(at, _) in &batch.records {
            let Ok((record, _)) = open_record(&octets[at..], seed, at) else { continue };
            if let Err(Damaged(why)) = self.apply_record(batch, record) {
                self.note(format!("batch {}: {why}", batch.lsn));
            }
        }
    }

    fn apply_record(&mut self, batch: &BatchPlace, record: Record<'_>) -> Result<(), Damaged> {
        if record.kind == kind::RELOCATE {
            return Ok(());
        }
        let found = self.menders.iter().find(|(kinds, _)| kinds.contains(&record.kind));
        let Some((_, mender)) = found else {
            if record.flags & FLAG_SKIPPABLE != 0 {
                return Ok(());
            }
            return Err(Damaged(format!("a record of unknown kind {}", record.kind)));
        };
        let known = Known { scan: self.scan, table: &self.table, time: batch.time };
        let counts = &mut self.counts;
        let table = &self.table;
        let mut count = |id: BlobId, by: i32| {
            if table.references(id).is_some_and(|(at, _)| batch.lsn <= at) {
                return;
            }
            let counted = counts.entry(id).or_default();
            if by > 0 {
                counted.held += 1;
            } else {
                counted.gone += 1;
                counted.last_gone = batch.lsn;
            }
        };
        mender.borrow_mut().apply(batch.lsn, record, &known, &mut count)
    }

    /// Lets go of what has no blob; what is referred to.
    fn settle(&mut self) -> Sorted<BlobId, u32> {
        let mut references: Sorted<BlobId, u32> = Sorted::new();
        for (_, mender) in self.menders {
            let known = Known { scan: self.scan, table: &self.table, time: 0 };
            let Losses { entries, notes, .. } = &mut self.losses;
            let mut lost = |entry| entries.push(entry);
            mender.borrow_mut().let_go(&known, &mut lost, &mut |note| notes.push(note));
            if self.losses.of_records() {
                mender.borrow_mut().pass_over_numbers();
            }
            mender.borrow().references(&mut |id| *references.entry(id).or_default() += 1);
        }
        if self.notes > NOTES_MAX {
            let more = self.notes - NOTES_MAX;
            self.losses.notes.push(format!("and {more} more notes like these"));
        }
        references
    }

    /// Whole blobs whose references are lost.
    fn orphans(&self, references: &Sorted<BlobId, u32>) -> Vec<BlobId> {
        if !self.losses.of_records() && self.table.listed.is_some() {
            return Vec::new();
        }
        // Behind a batch that is lost nobody knows: it may have had a copy.
        let first_lost = self.losses.batches.iter().map(|lost| Lsn(lost.0)).min();
        let is_gone = |id: &BlobId| {
            // Old records alone do not tell: those of segments that were freed are gone.
            let Some((_, before)) = self.table.references(*id) else { return false };
            self.counts.get(id).is_some_and(|&Counted { held, gone, last_gone }| {
                gone > 0
                    && gone >= held + before
                    && first_lost.is_none_or(|first| last_gone < first)
            })
        };
        let mut found: Vec<BlobId> = self
            .scan
            .blobs
            .iter()
            .filter(|(id, place)| {
                !references.contains_key(id) && !self.table.is_dead(**id, place.born)
            })
            .map(|(&id, _)| id)
            .filter(|id| !is_gone(id))
            .collect();
        found.sort_unstable();
        found
    }

    /// Of the damage that was found, what lies where something may have been lost.
    fn tell_damage(&mut self, base: Option<&Base>, references: &Sorted<BlobId, u32>) {
        let lost: Set<u64> = self.losses.entries.iter().map(|entry| entry.blob).collect();
        let whole = base.filter(|_| self.table.listed.is_some());
        let of_pages = !self.losses.pages.is_empty() || whole.is_none();
        let from = whole.map_or(Lsn(0), |base| Lsn(base.root.replay_lsn));
        let matters = |range: &&super::Lost| {
            if let Some(id) = range.blob {
                return lost.contains(&id.0) || !references.contains_key(&id) && of_pages;
            }
            let index = self
                .scan
                .segments
                .iter()
                .any(|one| one.segment == range.segment && one.stream == Stream::Index);
            let is_old = range.upto.is_some_and(|upto| upto <= from);
            let is_used = whole.is_none_or(|base| self.is_used(base, range.slot, range.segment));
            is_used && if index { of_pages } else { !is_old || of_pages }
        };
        let ranges: Vec<super::Lost> = self.scan.damage.iter().filter(matters).cloned().collect();
        self.losses.ranges = ranges;
    }

    /// Whether the checkpoint counts on a segment, or it is later.
    fn is_used(&self, base: &Base, slot: u32, segment: u64) -> bool {
        let root = &base.root;
        let is = |one: (u32, u64)| one == (slot, segment) || segment == 0 && one.0 == slot;
        segment >= root.next_segment
            || root.hot.iter().any(|&(slot, segment, _)| is((slot, segment)))
            || root.index.iter().any(|&one| is(one))
            || self.cold.iter().any(|&one| is(one))
    }
}
