//! Opening a log: make one, or find out what the last life left.
//!
//! ```text
//!   superblock → root → pages → machines and blob table
//!   then batch after batch from the root's place, by the meta regions alone, through `apply`
//!   at the end: is it a torn tail, or damage?
//! ```
//!
//! A batch that a later one calls durable (`durable_upto`) must be whole: if it is not, that is
//! damage, and the log does not open. Of the last few batches, which no other vouches for, the
//! blobs are read and checked too; from the first one that is not whole, everything is dropped: it
//! was never answered. What is kept is made durable before anybody sees it, since it may have come
//! from a cache of the disk.
//!
//! Recovery writes nothing but the superblock's epoch, so that a crash in it changes nothing.

use super::apply::{State, apply};
use super::batch::{check_whole, open_meta, open_record};
use super::checkpoint::{Index, PageEntry, RootV1, TABLE_OWNER, TablePartV1, Writer, open_page};
use super::cold::{COLD_OWNER, Cold};
use super::format::{
    BATCH_HEADER_OCTETS, BatchHeader, Identity, PageAt, SegmentHeader, Stream, Superblock,
};
use super::log::{HotSegment, Log, Parts, Position, Registry};
use super::record::kind;
use super::segments::{Local, SegmentStore, SuperblockFile, round_up};
use super::table::{BlobTable, SEGMENT_OCTETS_MAX};
use super::used::find_used;
use super::{Damaged, Planted, Settings, reached};
use crate::bytes::codec::{to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::{BLOCK_OCTETS, Env, File as _};
use crate::model::id::Lsn;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;

/// Octets of a meta region that one read usually covers.
const META_READ_OCTETS: usize = 64 << 10;
/// Octets read at once when the index is loaded.
const INDEX_READ_OCTETS: usize = 4 << 20;

/// How far behind the newest known segment one with a damaged header is looked for.
const HIDDEN_SEGMENTS_MAX: u64 = 256;

/// Why a log did not open.
#[derive(Debug)]
pub enum OpenError {
    Io(io::Error),
    /// Not a torn tail: octets that were durable are not what they were.
    Damaged(String),
    /// The log belongs to another store, or the settings do not fit it.
    Mismatch(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => write!(out, "cannot read or write the log: {error}"),
            OpenError::Damaged(what) => write!(out, "the log is damaged: {what}"),
            OpenError::Mismatch(what) => write!(out, "the log does not fit: {what}"),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        match error.kind() {
            // The disk did what it was asked for: what the log needs is not there, or cut.
            NotFound | UnexpectedEof | InvalidData => OpenError::Damaged(error.to_string()),
            _ => OpenError::Io(error),
        }
    }
}

impl From<Damaged> for OpenError {
    fn from(Damaged(what): Damaged) -> OpenError {
        OpenError::Damaged(what)
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub created: bool,
    /// Batches replayed behind the checkpoint.
    pub replayed: u64,
    /// Octets of a torn tail that were dropped: what was never answered.
    pub dropped_blocks: u64,
    pub pages: u64,
}

impl<E: Env> Log<E, Local<E>> {
    /// Opens the log in `dir`; makes one there if it has none and the settings allow it.
    /// `machines` must be empty: they are filled from the log.
    pub async fn open(
        env: E,
        dir: &Path,
        identity: Identity,
        settings: Settings,
        machines: Registry,
    ) -> Result<(Self, Report), OpenError> {
        if settings.may_create {
            env.make_dir(dir).await?;
        }
        let Some((superblock_file, superblock)) = find_superblock(&env, dir).await? else {
            if settings.may_create {
                return create(env, dir, identity, settings, machines).await;
            }
            return Err(OpenError::Damaged(format!(
                "there is no superblock in {}, although the log was made; its segments are left \
                 as they are",
                dir.display()
            )));
        };
        check_fit(&superblock, &identity)?;
        let segments = {
            let size = superblock.segment_octets;
            let bounds = (settings.segments_max, settings.logs_on_disk);
            Local::open(env.clone(), dir, identity, size, bounds).await?
        };
        let recovery = Recovery::new(&env, &segments, superblock, &machines, settings.planted);
        let found = recovery.run().await?;
        finish(env, settings, machines, segments, superblock_file, superblock, found).await
    }
}

/// The superblock that counts; `None` where its making was cut off, or nobody began.
async fn find_superblock<E: Env>(
    env: &E,
    dir: &Path,
) -> Result<Option<(SuperblockFile<E::File>, Superblock)>, OpenError> {
    let names = match env.list(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    if !names.iter().any(|name| name == "superblock") {
        return Ok(None);
    }
    let file = env.open(&SuperblockFile::<E::File>::path(dir)).await?;
    if file.len() != to_u64(SuperblockFile::<E::File>::OCTETS) {
        file.close().await?;
        return Ok(None);
    }
    let superblock_file = SuperblockFile::new(file);
    let copies = superblock_file.read().await?;
    let chosen = Superblock::choose(&copies);
    // The second half is written once the first is durable, before anything is answered.
    let is_begun = copies[copies.len() / 2..].iter().any(|&octet| octet != 0);
    if chosen.is_err() && !is_begun {
        superblock_file.close().await?;
        return Ok(None);
    }
    let superblock = chosen.map_err(OpenError::Damaged)?;
    superblock_file.found(&copies, &superblock.encode());
    Ok(Some((superblock_file, superblock)))
}

fn check_fit(superblock: &Superblock, identity: &Identity) -> Result<(), OpenError> {
    let found = superblock.identity;
    if found.store != identity.store || found.log != identity.log {
        return Err(OpenError::Mismatch(format!(
            "it is log {} of store {:032x}, not log {} of store {:032x}",
            found.log, found.store, identity.log, identity.store
        )));
    }
    if found.first_logs != identity.first_logs {
        return Err(OpenError::Mismatch(format!(
            "it is of a store that was made with {} logs, not with {}",
            found.first_logs, identity.first_logs
        )));
    }
    Ok(())
}

/// A page's segment whose header is damaged must not be taken for a free one.
fn check_pages(index: &Index) -> Result<(), OpenError> {
    let parts = index.table.iter().chain([&index.root]);
    let mut places = index.pages.values().map(|page| &page.at).chain(parts);
    match places.find(|at| !index.segments.contains(&(at.slot, at.segment))) {
        Some(at) => Err(OpenError::Damaged(format!(
            "the checkpoint lies in segment {}, whose header is damaged",
            at.segment
        ))),
        None => Ok(()),
    }
}

/// A segment behind the last one that replay reached: one between them is not readable any more.
fn check_chain(
    by_number: &Sorted<u64, (u32, SegmentHeader)>,
    tail: Position,
) -> Result<(), OpenError> {
    let mut behind = by_number.range(tail.segment + 1..).map(|(_, &(_, header))| header);
    match behind.find(|header| header.stream == Stream::Hot) {
        Some(header) => Err(OpenError::Damaged(format!(
            "segment {} follows segment {}, which is not there or has a damaged header",
            header.segment, header.previous
        ))),
        None => Ok(()),
    }
}

/// Makes an empty log: its first segments, an empty checkpoint, and last the superblock.
async fn create<E: Env>(
    env: E,
    dir: &Path,
    identity: Identity,
    settings: Settings,
    machines: Registry,
) -> Result<(Log<E>, Report), OpenError> {
    let size = settings.segment_octets;
    if !size.is_multiple_of(to_u64(BLOCK_OCTETS)) || size > SEGMENT_OCTETS_MAX {
        return Err(OpenError::Mismatch(format!("segments cannot have {size} octets")));
    }
    if let Some(name) = find_used(&env, dir).await? {
        return Err(OpenError::Damaged(format!(
            "there is no superblock in {}, although something was put into the log: {name} has it; all \
             is left as it is",
            dir.display()
        )));
    }
    // What an earlier attempt left has no whole superblock, so nothing of it counts.
    for name in env.list(dir).await? {
        if name.starts_with("seg-") || name == "superblock" {
            env.remove(&dir.join(name)).await?;
        }
    }
    let bounds = (settings.segments_max, settings.logs_on_disk);
    let segments = Local::open(env.clone(), dir, identity, size, bounds).await?;
    let header = SegmentHeader {
        stream: Stream::Hot,
        epoch: 1,
        segment: 1,
        previous: 0,
        previous_valid: Lsn(0),
        previous_check: 0,
        created: env.wall().0 / 1_000_000,
    };
    let slot = segments.create(header).await?;
    let path = SuperblockFile::<E::File>::path(dir);
    let octets = to_u64(SuperblockFile::<E::File>::OCTETS);
    let superblock = SuperblockFile::new(env.create(&path, octets).await?);
    let tail = Position { segment: 1, slot, offset: to_u64(BLOCK_OCTETS), lsn: Lsn(0), check: 0 };
    let table = BlobTable::new(settings.planted);
    let hot = vec![HotSegment { slot, segment: 1, last: Lsn(0), created: header.created }];
    let log = Log::start(Parts {
        env,
        settings,
        identity,
        epoch: 1,
        segments,
        superblock,
        machines,
        table,
        cold: Cold::default(),
        tail,
        hot,
        next_segment: 2,
        next_blob: 1,
        index: Index::default(),
    });
    let saved = log.checkpoint().await;
    saved.map_err(|error| OpenError::Io(io::Error::other(error.to_string())))?;
    log.prepare_spare();
    Ok((log, Report { created: true, ..Report::default() }))
}

async fn finish<E: Env>(
    env: E,
    settings: Settings,
    machines: Registry,
    segments: Local<E>,
    superblock_file: SuperblockFile<E::File>,
    superblock: Superblock,
    found: Found,
) -> Result<(Log<E>, Report), OpenError> {
    let epoch = superblock.epoch + 1;
    let seq = superblock.seq + 1;
    let reached = found.tail.reached();
    let renewed = Superblock { seq, epoch, reached, ..superblock };
    superblock_file.write(&renewed.encode()).await?;
    let index = Index { superblock_seq: seq, ..found.index };
    let index_octets = index.live_octets();
    let log = Log::start(Parts {
        env,
        settings,
        identity: superblock.identity,
        epoch,
        segments,
        superblock: superblock_file,
        machines,
        table: found.table,
        cold: found.cold,
        tail: found.tail,
        hot: found.hot,
        next_segment: found.next_segment,
        next_blob: found.next_blob,
        index,
    });
    log.shared.since_checkpoint.set(found.replayed_octets);
    log.shared.index_octets.set(index_octets);
    log.prepare_spare();
    Ok((log, found.report))
}

struct Found {
    table: BlobTable,
    cold: Cold,
    index: Index,
    tail: Position,
    hot: Vec<HotSegment>,
    next_segment: u64,
    next_blob: u64,
    replayed_octets: u64,
    report: Report,
}

/// A batch that was read but is not applied yet: nobody vouches for it so far.
struct Unproven {
    header: BatchHeader,
    slot: u32,
    segment: u64,
    at: u64,
    check: u64,
    seed: u64,
    /// Header and meta region.
    octets: Vec<u8>,
}

struct Recovery<'a, E: Env, S: SegmentStore> {
    env: &'a E,
    segments: &'a S,
    superblock: Superblock,
    machines: &'a Registry,
    table: RefCell<BlobTable>,
    cold: RefCell<Cold>,
    report: Report,
    next_blob: u64,
    replayed_octets: u64,
}

impl<'a, E: Env, S: SegmentStore> Recovery<'a, E, S> {
    fn new(
        env: &'a E,
        segments: &'a S,
        superblock: Superblock,
        machines: &'a Registry,
        planted: Planted,
    ) -> Self {
        Recovery {
            env,
            segments,
            superblock,
            machines,
            table: RefCell::new(BlobTable::new(planted)),
            cold: RefCell::default(),
            report: Report::default(),
            next_blob: 1,
            replayed_octets: 0,
        }
    }

    fn identity(&self) -> &Identity {
        &self.superblock.identity
    }

    async fn run(mut self) -> Result<Found, OpenError> {
        let slots = self.segments.list().await?;
        let headless = slots.iter().filter(|(_, header)| header.is_none()).map(|&(slot, _)| slot);
        let headless: Vec<u32> = headless.collect();
        let listed: Vec<(u32, SegmentHeader)> =
            slots.into_iter().filter_map(|(slot, header)| Some((slot, header?))).collect();
        let by_number: Sorted<u64, (u32, SegmentHeader)> =
            listed.iter().map(|&(slot, header)| (header.segment, (slot, header))).collect();
        let root = self.read_root().await?;
        let mut index = self.read_index(&root).await?;
        self.load_pages(&index).await?;
        self.next_blob = root.next_blob;
        self.table.borrow_mut().set_replaying(true);
        // What was freed after the root was written may serve as another segment by now.
        let stands = |&(slot, segment): &(u32, u64)| {
            by_number.get(&segment).is_some_and(|&(found, _)| found == slot)
        };
        let mut hot: Vec<HotSegment> = root
            .hot
            .iter()
            .filter(|&&(slot, segment, _)| stands(&(slot, segment)))
            .map(|&(slot, segment, last)| {
                let created = by_number.get(&segment).map_or(0, |(_, header)| header.created);
                HotSegment { slot, segment, last: Lsn(last), created }
            })
            .collect();
        index.segments.retain(stands);
        check_pages(&index)?;
        let tail = self.replay(&root, &by_number, &mut hot).await?;
        let newest = by_number.keys().next_back().copied().unwrap_or(0);
        // Of one that was freed since the root was written a record may tell alone.
        let told = self.cold.borrow().iter().map(|(_, one)| one.segment).max().unwrap_or(0);
        let next_segment = root.next_segment.max(newest.max(told) + 1);
        check_chain(&by_number, tail)?;
        self.check_headless(&headless, tail.segment, next_segment).await?;
        reached::check(self.superblock.reached, tail)?;
        self.table.borrow_mut().set_replaying(false);
        self.segments.sync(tail.slot).await?;
        let by_slot: Sorted<u32, SegmentHeader> = listed.iter().copied().collect();
        let header_of = |slot: u32| by_slot.get(&slot).copied();
        self.cold.borrow_mut().settle(header_of, self.segments.segment_octets());
        self.check_blobs(&hot)?;
        index.writer = self.index_writer(&root).await?;
        self.free_the_rest(&listed, &hot, &index);
        Ok(Found {
            table: self.table.into_inner(),
            cold: self.cold.into_inner(),
            index,
            tail,
            hot,
            next_segment,
            next_blob: self.next_blob,
            replayed_octets: self.replayed_octets,
            report: self.report,
        })
    }

    /// A blob's segment whose header is damaged must not be taken for a free one.
    fn check_blobs(&self, hot: &[HotSegment]) -> Result<(), OpenError> {
        let slots: BTreeSet<u32> = hot.iter().map(|one| one.slot).collect();
        let (table, cold) = (self.table.borrow(), self.cold.borrow());
        let is_there = |slot: u32| slots.contains(&slot) || cold.segment_in(slot).is_some();
        match table.iter().find(|(_, location, _)| !is_there(location.slot)) {
            Some((id, location, _)) => Err(OpenError::Damaged(format!(
                "blob {id} lies in slot {}, whose header is damaged",
                location.slot
            ))),
            None => Ok(()),
        }
    }

    /// A slot without a header is free, unless a batch of a segment later than the last one that
    /// was found begins there: then a damaged header hides it.
    async fn check_headless(
        &self,
        headless: &[u32],
        last: u64,
        next_segment: u64,
    ) -> Result<(), OpenError> {
        let at = to_u64(BLOCK_OCTETS);
        for &slot in headless {
            let block = self.segments.read(slot, at, BLOCK_OCTETS).await?;
            if block.iter().all(|&octet| octet == 0) {
                continue;
            }
            // Its number is not known. Numbers are given one by one, to each segment that is
            // begun or tried, so it is not far from the others.
            for segment in last + 1..next_segment + HIDDEN_SEGMENTS_MAX {
                let seed = self.identity().seed(segment, at);
                let found = BatchHeader::decode(&block, seed);
                if found.is_some_and(|(header, _)| header.stream == Stream::Hot) {
                    return Err(OpenError::Damaged(format!(
                        "segment {segment} in slot {slot} has a damaged header"
                    )));
                }
            }
            self.env.breathe().await;
        }
        Ok(())
    }

    /// Slots of segments that neither stream uses.
    fn free_the_rest(&self, listed: &[(u32, SegmentHeader)], hot: &[HotSegment], index: &Index) {
        for &(slot, header) in listed {
            let place = (slot, header.segment);
            let is_hot = hot.iter().any(|one| (one.slot, one.segment) == place);
            let is_cold = self.cold.borrow().segment_in(slot) == Some(header.segment);
            if !is_hot && !is_cold && !index.segments.contains(&place) {
                self.segments.retire(slot);
            }
        }
    }

    async fn read_record(&self, at: PageAt) -> Result<(u8, Vec<u8>), OpenError> {
        let batch_at = u64::from(at.batch) * to_u64(BLOCK_OCTETS);
        let seed = self.identity().seed(at.segment, batch_at);
        let start = to_usize(batch_at) + to_usize(u64::from(at.record));
        let lead = start % BLOCK_OCTETS;
        let len = round_up(lead + to_usize(u64::from(at.len)));
        let view = self.segments.read(at.slot, to_u64(start - lead), len).await?;
        let (record, _) = open_record(&view[lead..], seed, to_usize(u64::from(at.record)))?;
        Ok((record.kind, record.body.to_vec()))
    }

    async fn read_root(&self) -> Result<RootV1, OpenError> {
        let (found, body) = self.read_record(self.superblock.root).await?;
        if found != kind::ROOT {
            return Err(OpenError::Damaged("the superblock names a record that is no root".into()));
        }
        Ok(RootV1::from_octets(&body)?)
    }

    async fn read_index(&self, root: &RootV1) -> Result<Index, OpenError> {
        // In order, and put into a tree at once: its nodes are full then, not half full.
        let mut pages = Vec::new();
        let table: Vec<PageAt> = root.table.iter().map(PageAt::from).collect();
        for &at in &table {
            let (found, body) = self.read_record(at).await?;
            if found != kind::PAGE_TABLE {
                return Err(OpenError::Damaged("the root names a record that is no table".into()));
            }
            for page in TablePartV1::from_octets(&body)?.pages {
                let entry = PageEntry { lsn: Lsn(page.lsn), at: PageAt::from(&page.at) };
                pages.push(((page.owner, page.major, page.minor), entry));
            }
            self.env.breathe().await;
        }
        Ok(Index {
            pages: pages.into_iter().collect(),
            segments: root.index.clone(),
            writer: None,
            superblock_seq: self.superblock.seq,
            root: self.superblock.root,
            table,
        })
    }

    /// Loads every page, reading what lies together at once.
    async fn load_pages(&mut self, index: &Index) -> Result<(), OpenError> {
        let mut places: Vec<PageAt> = index.pages.values().map(|page| page.at).collect();
        places.sort_unstable();
        let mut rest = places.as_slice();
        while let Some(&first) = rest.first() {
            let start = page_start(first);
            let fits =
                |at: &&PageAt| at.slot == first.slot && page_end(**at) - start <= INDEX_READ_OCTETS;
            let count = rest.iter().take_while(fits).count().max(1);
            let (run, after) = rest.split_at(count);
            rest = after;
            self.load_run(run).await?;
            self.env.breathe().await;
        }
        for (_, machine) in self.machines {
            machine.borrow_mut().loaded()?;
        }
        self.report.pages = to_u64(places.len());
        Ok(())
    }

    async fn load_run(&self, run: &[PageAt]) -> Result<(), OpenError> {
        let (Some(&first), Some(&last)) = (run.first(), run.last()) else { return Ok(()) };
        let start = page_start(first) / BLOCK_OCTETS * BLOCK_OCTETS;
        let len = round_up(page_end(last) - start);
        let view = self.segments.read(first.slot, to_u64(start), len).await?;
        for &at in run {
            let seed = self.identity().seed(at.segment, to_u64(batch_start(at)));
            let octets = view
                .get(page_start(at) - start..)
                .ok_or_else(|| Damaged("a page lies outside its segment".into()))?;
            let (record, _) = open_record(octets, seed, to_usize(u64::from(at.record)))?;
            let ((owner, major, minor), lsn, page) = open_page(record.body)?;
            if owner == TABLE_OWNER {
                self.table.borrow_mut().load(major, lsn, page)?;
                continue;
            }
            if owner == COLD_OWNER {
                self.cold.borrow_mut().load(page)?;
                continue;
            }
            let machine = self.machines.iter().find(|(kinds, _)| *kinds.start() == owner);
            let Some((_, machine)) = machine else {
                return Err(OpenError::Damaged(format!("a page belongs to nobody ({owner})")));
            };
            machine.borrow_mut().load(major, minor, lsn, page)?;
        }
        Ok(())
    }

    /// Batch after batch from the root's place to the end of the log.
    async fn replay(
        &mut self,
        root: &RootV1,
        by_number: &Sorted<u64, (u32, SegmentHeader)>,
        hot: &mut Vec<HotSegment>,
    ) -> Result<Position, OpenError> {
        let mut at = Position {
            segment: root.replay_segment,
            slot: root.replay_slot,
            offset: root.replay_offset,
            lsn: Lsn(root.replay_lsn),
            check: root.replay_check,
        };
        if !hot.iter().any(|one| (one.slot, one.segment) == (at.slot, at.segment)) {
            return Err(OpenError::Damaged(format!(
                "segment {}, which replay starts in, is not there",
                at.segment
            )));
        }
        loop {
            let next = by_number
                .values()
                .rev()
                .find(|(_, header)| header.stream == Stream::Hot && header.previous == at.segment)
                .copied();
            let limit = next.map(|(_, header)| header.previous_valid);
            at = self.replay_segment(at, limit).await?;
            let Some((slot, header)) = next else { return Ok(at) };
            if at.lsn != header.previous_valid {
                return Err(OpenError::Damaged(format!(
                    "segment {} ends with batch {}, but batch {} was durable",
                    at.segment, at.lsn, header.previous_valid
                )));
            }
            if let Some(left) = hot.iter_mut().find(|one| one.segment == at.segment) {
                left.last = header.previous_valid;
            }
            if !hot.iter().any(|one| one.segment == header.segment) {
                let SegmentHeader { segment, created, .. } = header;
                hot.push(HotSegment { slot, segment, last: Lsn(0), created });
            }
            at = Position { segment: header.segment, slot, offset: to_u64(BLOCK_OCTETS), ..at };
        }
    }

    /// Replays what is left of one segment. `limit` is the last batch of it that counts, when the
    /// next segment says so.
    async fn replay_segment(
        &mut self,
        start: Position,
        limit: Option<Lsn>,
    ) -> Result<Position, OpenError> {
        let mut unproven: VecDeque<Unproven> = VecDeque::new();
        let mut applied = start;
        let mut scan = start;
        while limit.is_none_or(|limit| scan.lsn < limit) {
            let Some(batch) = self.read_batch(scan).await? else { break };
            scan = batch.end();
            let vouched = batch.header.durable_upto;
            unproven.push_back(batch);
            while unproven.front().is_some_and(|front| front.header.lsn <= vouched) {
                applied = self.take(unproven.pop_front()).await?.unwrap_or(applied);
            }
        }
        if limit.is_some() {
            // The next segment vouches for all of these.
            while let Some(batch) = unproven.pop_front() {
                applied = self.take(Some(batch)).await?.unwrap_or(applied);
            }
            return Ok(applied);
        }
        let mut whole = true;
        while let Some(batch) = unproven.pop_front() {
            whole = whole && self.is_whole(&batch).await?;
            if whole {
                applied = self.take(Some(batch)).await?.unwrap_or(applied);
            } else {
                self.report.dropped_blocks += u64::from(batch.header.blocks);
            }
        }
        self.tell_tear_from_damage(applied).await?;
        Ok(applied)
    }

    /// The batch that follows `at`, if one does.
    async fn read_batch(&self, at: Position) -> Result<Option<Unproven>, OpenError> {
        let size = self.segments.segment_octets();
        if at.offset + to_u64(BLOCK_OCTETS) > size {
            return Ok(None);
        }
        let room = to_usize(size - at.offset);
        let seed = self.identity().seed(at.segment, at.offset);
        let first = self.segments.read(at.slot, at.offset, META_READ_OCTETS.min(room)).await?;
        let Some((header, check)) = BatchHeader::decode(&first, seed) else { return Ok(None) };
        let chained = header.previous_check == at.check && header.lsn.0 == at.lsn.0 + 1;
        let fits = to_usize(u64::from(header.blocks)) * BLOCK_OCTETS <= room;
        if !chained || !fits || header.stream != Stream::Hot {
            return Ok(None);
        }
        let len = BATCH_HEADER_OCTETS + to_usize(u64::from(header.meta_octets));
        let octets = if let Some(octets) = first.get(..len) {
            octets.to_vec()
        } else {
            let whole = self.segments.read(at.slot, at.offset, round_up(len)).await?;
            whole.get(..len).unwrap_or_default().to_vec()
        };
        if open_meta(&octets, &header, seed).is_err() {
            return Ok(None);
        }
        Ok(Some(Unproven {
            header,
            slot: at.slot,
            segment: at.segment,
            at: at.offset,
            check,
            seed,
            octets,
        }))
    }

    async fn is_whole(&self, batch: &Unproven) -> Result<bool, OpenError> {
        let len = to_usize(u64::from(batch.header.blocks)) * BLOCK_OCTETS;
        let octets = self.segments.read(batch.slot, batch.at, len).await?;
        let (identity, header) = (self.identity(), &batch.header);
        let content = check_whole(&octets, header, identity, batch.segment, batch.at);
        // What comes new is never packed.
        Ok(content.is_ok_and(|content| content.packed.is_empty()))
    }

    /// Applies a batch; returns where it ends.
    async fn take(&mut self, batch: Option<Unproven>) -> Result<Option<Position>, OpenError> {
        let Some(batch) = batch else { return Ok(None) };
        let mut meta = open_meta(&batch.octets, &batch.header, batch.seed)?;
        let blobs = std::mem::take(&mut meta.blobs);
        for line in &blobs {
            self.next_blob = self.next_blob.max(line.id.0 + 1);
        }
        let place = (batch.slot, batch.at);
        let records = std::iter::from_fn(|| meta.next_record().transpose());
        let lsn = batch.header.lsn;
        let state = State { table: &self.table, cold: &self.cold, machines: self.machines };
        apply(&state, lsn, place, &blobs, records, &mut |_| {})?;
        self.report.replayed += 1;
        self.replayed_octets += u64::from(batch.header.blocks) * to_u64(BLOCK_OCTETS);
        self.env.breathe().await;
        Ok(Some(batch.end()))
    }

    /// Behind the end nothing may stand that vouches for a batch that was not found.
    async fn tell_tear_from_damage(&self, end: Position) -> Result<(), OpenError> {
        let size = self.segments.segment_octets();
        let mut at = end.offset;
        while at < size {
            let len = INDEX_READ_OCTETS.min(to_usize(size - at));
            let view = self.segments.read(end.slot, at, len).await?;
            for (number, block) in view.chunks(BLOCK_OCTETS).enumerate() {
                let offset = at + to_u64(number * BLOCK_OCTETS);
                let seed = self.identity().seed(end.segment, offset);
                let Some((header, _)) = BatchHeader::decode(block, seed) else { continue };
                if header.durable_upto > end.lsn && header.epoch == self.superblock.epoch {
                    return Err(OpenError::Damaged(format!(
                        "batch {} of segment {} was durable when batch {} was written, and is \
                         not readable now",
                        end.lsn.0 + 1,
                        end.segment,
                        header.lsn
                    )));
                }
            }
            at += to_u64(len);
            self.env.breathe().await;
        }
        Ok(())
    }

    /// The index goes on behind the root; whatever a cut-off checkpoint wrote there is nobody's.
    async fn index_writer(&self, root: &RootV1) -> Result<Option<Writer>, OpenError> {
        let at = self.superblock.root;
        let offset = u64::from(at.batch) * to_u64(BLOCK_OCTETS);
        let seed = self.identity().seed(at.segment, offset);
        let view = self.segments.read(at.slot, offset, BLOCK_OCTETS).await?;
        let Some((header, _)) = BatchHeader::decode(&view, seed) else {
            return Err(OpenError::Damaged("the root's batch is damaged".into()));
        };
        let end = offset + u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
        let segment = root.index.iter().find(|&&(slot, _)| slot == at.slot);
        Ok(segment.map(|&(slot, segment)| Writer { slot, segment, offset: end }))
    }
}

impl Unproven {
    fn end(&self) -> Position {
        Position {
            segment: self.segment,
            slot: self.slot,
            offset: self.at + u64::from(self.header.blocks) * to_u64(BLOCK_OCTETS),
            lsn: self.header.lsn,
            check: self.check,
        }
    }
}

fn batch_start(at: PageAt) -> usize {
    to_usize(u64::from(at.batch)) * BLOCK_OCTETS
}

fn page_start(at: PageAt) -> usize {
    batch_start(at) + to_usize(u64::from(at.record))
}

fn page_end(at: PageAt) -> usize {
    page_start(at) + to_usize(u64::from(at.len))
}
