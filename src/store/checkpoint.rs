//! Checkpoints: what makes a restart fast whatever the log's age.
//!
//! The pages that changed are written to the index stream, then a table of all pages, then a root
//! that names the table and the place replay starts at; the superblock names the root. Nothing
//! stops meanwhile: each page carries the position it was captured at, and replay passes over what
//! a page has already (see [`super::Machine`]).
//!
//! ```text
//!   superblock ──> ROOT ──> PAGE_TABLE … ──> PAGE PAGE PAGE …        index segments
//!                   └─ replay from: segment, offset, lsn             hot segments
//! ```
//!
//! A checkpoint that fails leaves the old one in force. The index is written anew as a whole when
//! more than half of it is pages that were replaced.

use super::Damaged;
use super::batch::{self, Place};
use super::cold::COLD_OWNER;
use super::format::{PageAt, SegmentHeader, Stream};
use super::log::{AppendError, Log, Position};
use super::record::{Group, kind};
use super::segments::SegmentStore;
use crate::bytes::codec::{Put, Reader, to_u32, to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::Lsn;
use rkyv::util::AlignedVec;
use std::io;
use std::ops::RangeInclusive;

/// Octets of pages that are written together.
const INDEX_BATCH_OCTETS: usize = 1 << 20;
/// Pages named by one record of the table.
const TABLE_PART_PAGES: usize = 8_192;
/// The owner number of the blob table's pages; machines are numbered by their first kind.
pub(super) const TABLE_OWNER: u8 = 0;

/// Which page: its machine, and the machine's two numbers.
pub(super) type PageKey = (u8, u32, u64);

/// A page's place and the position it was captured at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageEntry {
    pub lsn: Lsn,
    pub at: PageAt,
}

/// Where the next index batch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    pub slot: u32,
    pub segment: u64,
    pub offset: u64,
}

/// The index stream of one log.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub pages: Sorted<PageKey, PageEntry>,
    /// Slot and number of the segments in use.
    pub segments: Vec<(u32, u64)>,
    pub writer: Option<Writer>,
    pub superblock_seq: u64,
    pub root: PageAt,
    /// The records of the table of pages that the root names.
    pub table: Vec<PageAt>,
}

impl Index {
    /// Octets of memory, some: nodes of the tree are between half full and full.
    pub(super) fn heap_octets(&self) -> usize {
        self.pages.len() * size_of::<(PageKey, PageEntry)>() * 3 / 2
    }

    pub(super) fn live_octets(&self) -> u64 {
        self.pages.values().map(|page| u64::from(page.at.len)).sum()
    }
}

/// A page of the table as it stands on disk. Frozen: a change makes a `TablePartV2`.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct PageV1 {
    pub owner: u8,
    pub major: u32,
    pub minor: u64,
    pub lsn: u64,
    pub at: PageAtV1,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct PageAtV1 {
    pub slot: u32,
    pub batch: u32,
    pub record: u32,
    pub len: u32,
    pub segment: u64,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct TablePartV1 {
    pub pages: Vec<PageV1>,
}

/// The root of a checkpoint. Frozen: a change makes a `RootV2`.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct RootV1 {
    /// Replay starts behind this batch.
    pub replay_segment: u64,
    pub replay_slot: u32,
    pub replay_offset: u64,
    pub replay_lsn: u64,
    pub replay_check: u64,
    pub next_blob: u64,
    pub next_segment: u64,
    /// Slot, number and last batch that counts of each segment of the hot stream, in order.
    pub hot: Vec<(u32, u64, u64)>,
    pub index: Vec<(u32, u64)>,
    pub table: Vec<PageAtV1>,
}

impl From<PageAt> for PageAtV1 {
    fn from(at: PageAt) -> PageAtV1 {
        let PageAt { slot, batch, record, len, segment } = at;
        PageAtV1 { slot, batch, record, len, segment }
    }
}

impl From<&PageAtV1> for PageAt {
    fn from(at: &PageAtV1) -> PageAt {
        PageAt {
            slot: at.slot,
            batch: at.batch,
            record: at.record,
            len: at.len,
            segment: at.segment,
        }
    }
}

/// Archived octets of a root or a part of the table.
macro_rules! archived {
    ($name:ident) => {
        impl $name {
            pub(super) fn to_octets(&self) -> Vec<u8> {
                rkyv::to_bytes::<rkyv::rancor::Error>(self)
                    .expect("memory is all that archiving needs")
                    .to_vec()
            }

            pub(super) fn from_octets(octets: &[u8]) -> Result<$name, Damaged> {
                let mut aligned: AlignedVec<16> = AlignedVec::with_capacity(octets.len());
                aligned.extend_from_slice(octets);
                rkyv::from_bytes::<$name, rkyv::rancor::Error>(&aligned)
                    .map_err(|error| Damaged(format!("{}: {error}", stringify!($name))))
            }
        }
    };
}
archived!(RootV1);
archived!(TablePartV1);

/// The body of a page record: `owner u8 | 0 u8 | 0 u16 | major u32 | minor u64 | lsn u64 | octets`.
pub(super) fn page_body((owner, major, minor): PageKey, lsn: Lsn, octets: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(24 + octets.len());
    body.put_u8(owner);
    body.put_u8(0);
    body.put_u16(0);
    body.put_u32(major);
    body.put_u64(minor);
    body.put_u64(lsn.0);
    body.extend_from_slice(octets);
    body
}

/// A page record's body taken apart.
pub(super) fn open_page(body: &[u8]) -> Result<(PageKey, Lsn, &[u8]), Damaged> {
    let mut reader = Reader::new(body);
    let mut read = || -> Result<(PageKey, Lsn), crate::bytes::codec::Short> {
        let owner = reader.u8()?;
        reader.u8()?;
        reader.u16()?;
        Ok(((owner, reader.u32()?, reader.u64()?), Lsn(reader.u64()?)))
    };
    let (key, lsn) = read().map_err(|_| Damaged("a page is cut off".into()))?;
    Ok((key, lsn, reader.rest()))
}

/// What one checkpoint has written so far; becomes the index when the superblock names it.
struct Draft {
    writer: Option<Writer>,
    segments: Vec<(u32, u64)>,
    /// Records that wait to be written, and the page each is.
    group: Group,
    keys: Vec<(Option<PageKey>, Lsn)>,
    waiting: usize,
    changes: Vec<(PageKey, Option<PageEntry>)>,
    /// Places of the records that are no pages, in order.
    others: Vec<PageAt>,
    unsynced: Vec<u32>,
    /// The superblock may name it already.
    named: bool,
}

fn failed(error: &io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull => AppendError::Full,
        _ => AppendError::Failed(error.to_string()),
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Makes restarting fast: saves what changed of every machine. Also runs by itself, after
    /// `checkpoint_octets` of log or `checkpoint_pause`.
    pub async fn checkpoint(&self) -> Result<(), AppendError> {
        let shared = &self.shared;
        while shared.checkpointing.replace(true) {
            shared.env.sleep(std::time::Duration::from_millis(5)).await;
        }
        let outcome = Box::pin(self.checkpoint_once()).await;
        if outcome.is_err() {
            shared.stats.failures.add(1);
            self.taint();
        }
        shared.checkpointing.set(false);
        outcome
    }

    fn taint(&self) {
        self.shared.renewing.set(true);
        self.shared.table.borrow_mut().taint();
        self.shared.cold.borrow_mut().taint();
        for (_, machine) in &self.shared.machines {
            machine.borrow_mut().taint();
        }
    }

    pub(super) async fn checkpoint_when_due(self) {
        let shared = &self.shared;
        let pause = shared.settings.checkpoint_pause;
        loop {
            let timer = async {
                shared.env.sleep(pause).await;
            };
            futures_lite::future::or(shared.checkpoint_due.wait(), timer).await;
            if shared.stopping.get() {
                return;
            }
            self.reuse_dead_segments(shared.cleaner.replay_from.get());
            // Behind a start nothing of the hot stream is free before the first one.
            let is_first = shared.cleaner.replay_from.get() == 0;
            if shared.since_checkpoint.get() > 0 || (is_first && self.has_dead_segment()) {
                // A failure is counted, and the next round tries again: the old one is in force.
                drop(self.checkpoint().await);
            }
        }
    }

    async fn checkpoint_once(&self) -> Result<(), AppendError> {
        let shared = &self.shared;
        let start = shared.applied.get();
        let since = shared.since_checkpoint.replace(0);
        self.renew_index_if_worn();
        let (writer, segments) = {
            let index = shared.index.borrow();
            (index.writer, index.segments.clone())
        };
        let mut draft = Draft {
            writer,
            segments,
            group: Group::new(),
            keys: Vec::new(),
            waiting: 0,
            changes: Vec::new(),
            others: Vec::new(),
            unsynced: Vec::new(),
            named: false,
        };
        let outcome = self.write_checkpoint(&mut draft, start).await;
        if outcome.is_err() {
            shared.since_checkpoint.set(shared.since_checkpoint.get() + since);
            self.drop_draft(&draft, outcome == Err(AppendError::Full));
            return outcome;
        }
        shared.renewing.set(false);
        shared.index_octets.set(shared.index.borrow().live_octets());
        shared.cleaner.replay_from.set(start.segment);
        self.reuse_dead_segments(start.segment);
        self.reuse_dead_index();
        self.prepare_spare();
        shared.stats.checkpoints.add(1);
        shared.cleaner.due.set();
        Ok(())
    }

    /// What was begun is nobody's, unless the superblock was on its way: then the next start may
    /// begin with either, and this process writes over neither.
    fn drop_draft(&self, draft: &Draft, reusable: bool) {
        let shared = &self.shared;
        let mut index = shared.index.borrow_mut();
        if !reusable && let Some(writer) = draft.writer {
            shared.segments.condemn(writer.slot);
            index.writer = None;
        }
        for &(slot, _) in draft.segments.iter().filter(|one| !index.segments.contains(one)) {
            if draft.named {
                shared.segments.condemn(slot);
            } else {
                shared.segments.retire(slot);
            }
        }
    }

    /// More replaced pages than living ones: write them all anew, then the old segments are free.
    fn renew_index_if_worn(&self) {
        if self.is_index_worn() {
            self.taint();
        }
    }

    /// Whether the next checkpoint gives back segments of pages that were replaced.
    pub(super) fn is_index_worn(&self) -> bool {
        let shared = &self.shared;
        let size = shared.segments.segment_octets();
        let index = shared.index.borrow();
        let (used, living) = (to_u64(index.segments.len()) * size, index.live_octets());
        // On a full disk the reserve has fewer slots to lend.
        let slack = if shared.crowded.get() { size } else { 2 * size };
        used > 2 * living + slack
    }

    async fn write_checkpoint(
        &self,
        draft: &mut Draft,
        start: Position,
    ) -> Result<(), AppendError> {
        let shared = &self.shared;
        self.save_table(draft).await?;
        let at = shared.applied.get().lsn;
        if shared.cold.borrow_mut().take_dirty() {
            let page = shared.cold.borrow().page();
            self.add_page(draft, (COLD_OWNER, 0, 0), at, page).await?;
        }
        for (kinds, machine) in &shared.machines {
            let owner = *kinds.start();
            let majors = machine.borrow().dirty();
            for major in majors {
                let at = shared.applied.get().lsn;
                let mut pages = Vec::new();
                machine
                    .borrow_mut()
                    .save(major, at, &mut |minor, octets| pages.push((minor, octets)));
                if shared.renewing.get() {
                    let has =
                        |minor| pages.iter().any(|(one, page)| *one == minor && page.is_some());
                    let keys = (owner, major, 0)..=(owner, major, u64::MAX);
                    self.drop_stale(draft, keys, &|&(_, _, minor)| has(minor));
                }
                for (minor, octets) in pages {
                    self.add_page(draft, (owner, major, minor), at, octets).await?;
                }
                shared.env.breathe().await;
            }
        }
        self.write_index_batch(draft).await?;
        let pages = self.pages_with(draft);
        let (root, table) = self.write_root(draft, start, &pages).await?;
        for slot in std::mem::take(&mut draft.unsynced) {
            shared.stats.syncs.add(1);
            shared.segments.sync(slot).await.map_err(|error| failed(&error))?;
        }
        draft.named = true;
        self.begin_superblock().await;
        let written = self.write_superblock(shared.applied.get().reached(), Some(root)).await;
        let Ok(seq) = written else {
            self.end_superblock();
            return Err(failed(&written.expect_err("it is no number")));
        };
        *shared.index.borrow_mut() = Index {
            pages,
            segments: std::mem::take(&mut draft.segments),
            writer: draft.writer,
            superblock_seq: seq,
            root,
            table,
        };
        // Not before: whoever writes the superblock next names this root.
        self.end_superblock();
        Ok(())
    }

    async fn save_table(&self, draft: &mut Draft) -> Result<(), AppendError> {
        let shared = &self.shared;
        let numbers = shared.table.borrow().dirty();
        if shared.renewing.get() {
            let keys = (TABLE_OWNER, 0, 0)..=(TABLE_OWNER, u32::MAX, u64::MAX);
            self.drop_stale(draft, keys, &|(_, number, _)| numbers.binary_search(number).is_ok());
        }
        for number in numbers {
            let at = shared.applied.get().lsn;
            let octets = shared.table.borrow_mut().save(number, at);
            self.add_page(draft, (TABLE_OWNER, number, 0), at, octets).await?;
        }
        Ok(())
    }

    /// While everything is written anew: pages in force that are not among those handed out are no
    /// more. A checkpoint that came to nothing may have been told so, and nobody says it twice.
    fn drop_stale(
        &self,
        draft: &mut Draft,
        keys: RangeInclusive<PageKey>,
        is_kept: &dyn Fn(&PageKey) -> bool,
    ) {
        let index = self.shared.index.borrow();
        let stale = index.pages.range(keys).map(|(&key, _)| key).filter(|key| !is_kept(key));
        draft.changes.extend(stale.map(|key| (key, None)));
    }

    async fn add_page(
        &self,
        draft: &mut Draft,
        key: PageKey,
        lsn: Lsn,
        octets: Option<Vec<u8>>,
    ) -> Result<(), AppendError> {
        let Some(octets) = octets else {
            draft.changes.push((key, None));
            return Ok(());
        };
        self.add_record(draft, kind::PAGE, page_body(key, lsn, &octets), (Some(key), lsn)).await
    }

    async fn add_record(
        &self,
        draft: &mut Draft,
        kind: u8,
        body: Vec<u8>,
        key: (Option<PageKey>, Lsn),
    ) -> Result<(), AppendError> {
        let octets = body.len() + 24;
        if draft.waiting > 0 && draft.waiting + octets > self.index_batch_octets() {
            self.write_index_batch(draft).await?;
        }
        draft.waiting += octets;
        draft.group.record(kind, 1, 0, body);
        draft.keys.push(key);
        Ok(())
    }

    fn index_batch_octets(&self) -> usize {
        INDEX_BATCH_OCTETS.min(to_usize(self.shared.segments.segment_octets()) / 4)
    }

    /// Writes the records that wait and notes where each stands.
    async fn write_index_batch(&self, draft: &mut Draft) -> Result<(), AppendError> {
        if draft.group.records.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let group = std::mem::take(&mut draft.group);
        let keys = std::mem::take(&mut draft.keys);
        draft.waiting = 0;
        let len = batch::batch_octets(batch::group_octets(&group));
        let writer = self.index_writer(draft, len).await?;
        let place = Place {
            segment: writer.segment,
            offset: writer.offset,
            stream: Stream::Index,
            epoch: shared.epoch,
            lsn: shared.applied.get().lsn,
            durable_upto: Lsn(0),
            time: shared.env.wall().0,
            previous_check: 0,
        };
        let mut block = shared.segments.alloc(len);
        let groups = [group];
        let encoded = batch::encode(block.as_mut(), &groups, &shared.identity, &place);
        let written = shared.segments.write(writer.slot, writer.offset, block).await;
        written.map_err(|error| failed(&error))?;
        shared.stats.checkpoint_octets.add(to_u64(len));
        if !draft.unsynced.contains(&writer.slot) {
            draft.unsynced.push(writer.slot);
        }
        let records = encoded.records.iter().zip(&groups[0].records).zip(keys);
        for ((&record, owned), (key, lsn)) in records {
            let at = PageAt {
                slot: writer.slot,
                batch: to_u32(to_usize(writer.offset) / BLOCK_OCTETS),
                record: to_u32(record),
                len: to_u32(super::format::RECORD_HEADER_OCTETS + owned.body.len()),
                segment: writer.segment,
            };
            match key {
                Some(key) => draft.changes.push((key, Some(PageEntry { lsn, at }))),
                None => draft.others.push(at),
            }
        }
        draft.writer = Some(Writer { offset: writer.offset + to_u64(len), ..writer });
        Ok(())
    }

    /// Where a batch of `len` octets goes: this index segment, or the next.
    async fn index_writer(&self, draft: &mut Draft, len: usize) -> Result<Writer, AppendError> {
        let shared = &self.shared;
        let size = shared.segments.segment_octets();
        if let Some(writer) = draft.writer
            && writer.offset + to_u64(len) <= size
        {
            return Ok(writer);
        }
        if to_u64(len + BLOCK_OCTETS) > size {
            return Err(AppendError::TooLarge);
        }
        let created = shared.env.wall().0 / 1_000_000;
        let begun = self.begin_unchained(Stream::Index, created).await;
        let writer = begun.map_err(|error| failed(&error))?;
        draft.segments.push((writer.slot, writer.segment));
        Ok(writer)
    }

    /// Begins a segment of a stream in which none follows on another: the index, or the cold one.
    pub(super) async fn begin_unchained(&self, stream: Stream, created: u64) -> io::Result<Writer> {
        let shared = &self.shared;
        let segment = shared.next_segment.get();
        shared.next_segment.set(segment + 1);
        let header = SegmentHeader {
            stream,
            epoch: shared.epoch,
            segment,
            previous: 0,
            previous_valid: Lsn(0),
            previous_check: 0,
            created,
        };
        let slot = shared.segments.create(header).await?;
        Ok(Writer { slot, segment, offset: to_u64(BLOCK_OCTETS) })
    }

    /// All pages as they are once this checkpoint counts.
    fn pages_with(&self, draft: &mut Draft) -> Sorted<PageKey, PageEntry> {
        let mut pages = self.shared.index.borrow().pages.clone();
        for (key, change) in std::mem::take(&mut draft.changes) {
            match change {
                Some(entry) => pages.insert(key, entry),
                None => pages.remove(&key),
            };
        }
        pages
    }

    async fn write_root(
        &self,
        draft: &mut Draft,
        start: Position,
        pages: &Sorted<PageKey, PageEntry>,
    ) -> Result<(PageAt, Vec<PageAt>), AppendError> {
        let shared = &self.shared;
        let entries: Vec<(&PageKey, &PageEntry)> = pages.iter().collect();
        let part_pages = TABLE_PART_PAGES.min(self.index_batch_octets() / 64);
        for part in entries.chunks(part_pages) {
            let pages = part
                .iter()
                .map(|&(&(owner, major, minor), entry)| PageV1 {
                    owner,
                    major,
                    minor,
                    lsn: entry.lsn.0,
                    at: entry.at.into(),
                })
                .collect();
            let body = TablePartV1 { pages }.to_octets();
            self.add_record(draft, kind::PAGE_TABLE, body, (None, Lsn(0))).await?;
            shared.env.breathe().await;
        }
        self.write_index_batch(draft).await?;
        let table = std::mem::take(&mut draft.others);
        let mut root = RootV1 {
            replay_segment: start.segment,
            replay_slot: start.slot,
            replay_offset: start.offset,
            replay_lsn: start.lsn.0,
            replay_check: start.check,
            next_blob: shared.next_blob.get(),
            next_segment: shared.next_segment.get(),
            hot: shared
                .hot
                .borrow()
                .iter()
                .map(|one| (one.slot, one.segment, one.last.0))
                .collect(),
            index: draft.segments.clone(),
            table: table.iter().copied().map(PageAtV1::from).collect(),
        };
        // The root names its own segment too: make sure of it before the root is encoded.
        let len = batch::batch_octets(root.to_octets().len() + 2 * size_of::<PageAtV1>());
        draft.writer = Some(self.index_writer(draft, len).await?);
        root.index.clone_from(&draft.segments);
        root.next_segment = shared.next_segment.get();
        self.add_record(draft, kind::ROOT, root.to_octets(), (None, Lsn(0))).await?;
        self.write_index_batch(draft).await?;
        let root = draft.others.pop().expect("the root was just written");
        Ok((root, table))
    }

    /// Segments without a living octet that replay does not need either, which reads the hot ones from
    /// number `replay_from` on; none while a backup reads.
    pub(super) fn reuse_dead_segments(&self, replay_from: u64) {
        let shared = &self.shared;
        if self.is_pinned() {
            return;
        }
        let table = shared.table.borrow();
        let tail = shared.tail.get();
        let size = shared.segments.segment_octets();
        shared.hot.borrow_mut().retain(|one| {
            let needed = one.segment >= replay_from
                || one.segment == tail.segment
                || !table.is_dead(one.slot);
            if !needed {
                shared.segments.retire(one.slot);
                shared.stats.reclaimed_octets.add(size);
            }
            needed
        });
        // Replay may meet records that name these still; what they moved there is gone behind them.
        let mut cold = shared.cold.borrow_mut();
        let written = cold.written(shared.cleaner.is_writing());
        for slot in cold.take_dead(written, |slot| table.is_dead(slot)) {
            shared.segments.retire(slot);
            shared.stats.reclaimed_octets.add(size);
        }
    }

    /// Segments of pages that were all replaced.
    fn reuse_dead_index(&self) {
        let shared = &self.shared;
        if self.is_pinned() {
            return;
        }
        let mut index = shared.index.borrow_mut();
        let mut live: Vec<u32> = index.pages.values().map(|page| page.at.slot).collect();
        live.push(index.root.slot);
        live.extend(index.table.iter().map(|part| part.slot));
        live.extend(index.writer.map(|writer| writer.slot));
        live.sort_unstable();
        live.dedup();
        index.segments.retain(|&(slot, _)| {
            let needed = live.binary_search(&slot).is_ok();
            if !needed {
                shared.segments.retire(slot);
            }
            needed
        });
    }
}
