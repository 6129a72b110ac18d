//! `verify`: reads everything the log stands on and checks it against itself.
//!
//! Every batch of every segment in use (header, chain, meta region, each blob, which is unpacked if it
//! is packed, the zeros between),
//! every page of the checkpoint, every blob the table names, and every reference the machines hold
//! against the table's counts. A single turned bit in any of these is found. Runs beside a live
//! log: what is appended meanwhile is left to the next run.
//!
//! Part by part it is done at a pace, by `store verify` beside a server and by the scrub
//! ([`super::scrub`]): a segment is a part, and the superblock is the last one.

use super::Damaged;
use super::batch::{self, open_record};
use super::format::{BatchHeader, BlobHeader, PageAt, SegmentHeader};
use super::log::{Log, Position};
use super::pack::unpack;
use super::reader::Found;
use super::segments::SegmentStore;
use super::table::Location;
use crate::bytes::codec::{to_u64, to_usize};
use crate::bytes::hash::{Map, Sorted};
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::{BlobId, Lsn};
use crate::model::time::Mono;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

/// Wait for a checkpoint that may write the superblock, and for others who check.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(5);
/// Times that the superblock is read when one checkpoint after the other writes it.
const SUPERBLOCK_TRIES: u32 = 8;

/// What was read and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub blobs: u64,
    pub octets: u64,
    pub pages: u64,
    pub references: u64,
    /// One line each; empty when all is well.
    pub faults: Vec<String>,
}

/// How fast is read: so many octets in a second at most, over the time since it began.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// 0: as fast as it goes.
    rate: u64,
    since: Option<Mono>,
    octets: u64,
}

impl Pace {
    /// `rate` in octets for each second; 0: as fast as it goes.
    pub fn new(rate: u64) -> Pace {
        Pace { rate, since: None, octets: 0 }
    }

    /// So many octets were read. Whoever was held up does not make up for it.
    async fn rest<E: Env>(&mut self, env: &E, octets: u64) {
        if self.rate == 0 {
            return env.breathe().await;
        }
        let since = *self.since.get_or_insert_with(|| env.now());
        self.octets += octets;
        let micros = u128::from(self.octets) * 1_000_000 / u128::from(self.rate);
        let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let took = env.now().since(since);
        if let Some(early) = due.checked_sub(took) {
            env.sleep(early).await;
        } else {
            env.breathe().await;
            *self = Pace::new(self.rate);
        }
    }
}

/// Counts who is at it.
struct Reading<'c>(&'c Cell<u32>);

impl<'c> Reading<'c> {
    fn begin(count: &'c Cell<u32>) -> Reading<'c> {
        count.set(count.get() + 1);
        Reading(count)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Who hears how far it is, and how fast it goes.
struct Walk<'p> {
    progress: &'p mut dyn FnMut(u64),
    pace: &'p mut Pace,
}

impl Findings {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Findings) {
        self.segments += other.segments;
        self.batches += other.batches;
        self.records += other.records;
        self.blobs += other.blobs;
        self.octets += other.octets;
        self.pages += other.pages;
        self.references += other.references;
        self.faults.extend(other.faults);
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Reads and checks everything. `progress` is told the octets read after each batch.
    pub async fn verify(&self, progress: impl FnMut(u64)) -> Findings {
        self.verify_at(Pace::new(0), progress).await
    }

    /// The same at a pace.
    pub async fn verify_at(&self, mut pace: Pace, mut progress: impl FnMut(u64)) -> Findings {
        let mut walk = Walk { progress: &mut progress, pace: &mut pace };
        let mut findings = Findings::default();
        let mut after = None;
        while let Some(number) = self.verify_next(after, &mut findings, &mut walk).await {
            after = Some(number);
        }
        self.verify_pages(&mut findings, &mut walk).await;
        self.verify_superblock(&mut findings).await;
        self.verify_references(&mut findings);
        self.verify_blobs(&mut findings, &mut walk).await;
        findings
    }

    /// Checks the first segment behind the one of this number, or the first of all; its number.
    /// Behind the last one the superblock is checked, and `None` comes back. Whether pages and counts
    /// agree with each other is not asked: that takes all of the state at one moment.
    pub async fn verify_part(
        &self,
        after: Option<u64>,
        pace: &mut Pace,
    ) -> (Findings, Option<u64>) {
        let _reading = Reading::begin(&self.shared.verifying);
        let mut ignore = |_| {};
        let mut walk = Walk { progress: &mut ignore, pace };
        let mut findings = Findings::default();
        let next = self.verify_next(after, &mut findings, &mut walk).await;
        if next.is_none() {
            self.verify_superblock(&mut findings).await;
        }
        (findings, next)
    }

    /// Waits until nobody checks a part any more: the log is being closed.
    pub(super) async fn verified(&self) {
        while self.shared.verifying.get() > 0 {
            self.shared.env.sleep(CHECKPOINT_PAUSE).await;
        }
    }

    /// The numbers of the segments in use, rising.
    pub(super) fn segments_in_use(&self) -> Vec<u64> {
        let shared = &self.shared;
        let mut numbers: Vec<u64> = shared.hot.borrow().iter().map(|one| one.segment).collect();
        numbers.extend(shared.cold.borrow().iter().map(|(_, one)| one.segment));
        numbers.extend(shared.index.borrow().segments.iter().map(|&(_, segment)| segment));
        numbers.sort_unstable();
        numbers
    }

    async fn verify_next(
        &self,
        after: Option<u64>,
        findings: &mut Findings,
        walk: &mut Walk<'_>,
    ) -> Option<u64> {
        let numbers = self.segments_in_use();
        let number =
            numbers.into_iter().find(|&number| after.is_none_or(|after| number > after))?;
        self.verify_number(number, findings, walk).await;
        Some(number)
    }

    /// Checks the segment of a number, if it is in use still.
    async fn verify_number(&self, number: u64, findings: &mut Findings, walk: &mut Walk<'_>) {
        let shared = &self.shared;
        let applied = shared.applied.get();
        let hot = shared.hot.borrow().iter().find(|one| one.segment == number).copied();
        if let Some(one) = hot {
            let is_last = number == applied.segment;
            let limit = if is_last { applied.lsn } else { one.last };
            let place = (one.slot, number);
            return self.verify_used(place, Some(limit), applied, findings, walk).await;
        }
        let cold = shared.cold.borrow().iter().find(|(_, one)| one.segment == number);
        let index =
            shared.index.borrow().segments.iter().find(|(_, segment)| *segment == number).copied();
        let (slot, offset) = match (cold, index) {
            (Some((slot, one)), _) => (slot, one.end),
            (None, Some((slot, _))) => (slot, self.index_ends().get(&slot).copied().unwrap_or(0)),
            (None, None) => return,
        };
        let end = Position { segment: number, slot, offset, ..Position::default() };
        self.verify_used((slot, number), None, end, findings, walk).await;
    }

    /// Where the last page or root of each index slot ends: what follows is nobody's.
    pub(super) fn index_ends(&self) -> Sorted<u32, u64> {
        let index = self.shared.index.borrow();
        let mut ends: Sorted<u32, u64> = Sorted::new();
        let parts = index.table.iter().chain(std::iter::once(&index.root));
        for at in index.pages.values().map(|page| &page.at).chain(parts) {
            let end = u64::from(at.batch) * to_u64(BLOCK_OCTETS)
                + u64::from(at.record)
                + u64::from(at.len);
            let known = ends.entry(at.slot).or_default();
            *known = end.max(*known);
        }
        ends
    }

    async fn verify_segment_header(
        &self,
        slot: u32,
        segment: u64,
        findings: &mut Findings,
    ) -> Option<SegmentHeader> {
        let shared = &self.shared;
        let header = match shared.segments.read(slot, 0, BLOCK_OCTETS).await {
            Ok(block) => SegmentHeader::decode(&block, &shared.identity, slot),
            Err(error) => {
                findings.faults.push(format!("segment {segment}: {error}"));
                return None;
            }
        };
        match header {
            Some(header) if header.segment == segment => Some(header),
            _ => {
                findings.faults.push(format!("segment {segment}: its header is damaged"));
                None
            }
        }
    }

    /// A segment that a checkpoint freed meanwhile says nothing.
    async fn verify_used(
        &self,
        (slot, segment): (u32, u64),
        limit: Option<Lsn>,
        end: Position,
        findings: &mut Findings,
        walk: &mut Walk<'_>,
    ) {
        let before = findings.faults.len();
        self.verify_segment(slot, segment, limit, end, findings, walk).await;
        let place = (slot, segment);
        let hot = self.shared.hot.borrow().iter().any(|one| (one.slot, one.segment) == place);
        let cold = self.shared.cold.borrow().segment_in(slot) == Some(segment);
        if !hot && !cold && !self.shared.index.borrow().segments.contains(&place) {
            findings.faults.truncate(before);
        }
    }

    async fn verify_segment(
        &self,
        slot: u32,
        segment: u64,
        limit: Option<Lsn>,
        end: Position,
        findings: &mut Findings,
        walk: &mut Walk<'_>,
    ) {
        findings.segments += 1;
        let Some(head) = self.verify_segment_header(slot, segment, findings).await else { return };
        if limit.is_some_and(|limit| limit <= head.previous_valid) {
            // Nothing in it counts: its first batch failed, or none was written yet.
            return;
        }
        let size = self.shared.segments.segment_octets();
        let mut at = to_u64(BLOCK_OCTETS);
        let mut check: Option<u64> = None;
        while at < size {
            let past = match limit {
                Some(_) => segment == end.segment && at >= end.offset,
                None => at >= end.offset,
            };
            if past {
                return;
            }
            let read = match self.read_batch_whole(slot, segment, at, check).await {
                Ok(read) => read,
                Err(Damaged(why)) => {
                    findings.faults.push(why);
                    return;
                }
            };
            let (header, header_check, octets) = read;
            findings.batches += 1;
            findings.octets += to_u64(octets.len());
            let identity = &self.shared.identity;
            match batch::check_whole(&octets, &header, identity, segment, at) {
                Ok(content) => {
                    findings.records += content.records;
                    findings.blobs += content.blobs;
                    self.verify_packed(&octets, content.packed, findings).await;
                }
                Err(Damaged(why)) => findings.faults.push(why),
            }
            (walk.progress)(findings.octets);
            at += to_u64(octets.len());
            check = Some(header_check);
            if limit.is_some_and(|limit| header.lsn >= limit) {
                return;
            }
            walk.pace.rest(&self.shared.env, to_u64(octets.len())).await;
            if self.shared.stopping.get() {
                return;
            }
        }
    }

    /// Unpacks what is packed in a batch.
    async fn verify_packed(
        &self,
        octets: &[u8],
        packed: Vec<(BlobHeader, Range<usize>)>,
        findings: &mut Findings,
    ) {
        let shared = &self.shared;
        for (header, range) in packed {
            let unpacked = unpack(&shared.env, &header, &octets[range], &shared.identity).await;
            findings.faults.extend(unpacked.err().map(|Damaged(why)| why));
        }
    }

    async fn read_batch_whole(
        &self,
        slot: u32,
        segment: u64,
        at: u64,
        previous: Option<u64>,
    ) -> Result<(BatchHeader, u64, Vec<u8>), Damaged> {
        let shared = &self.shared;
        let broken = |what: String| Damaged(format!("segment {segment} at octet {at}: {what}"));
        let seed = shared.identity.seed(segment, at);
        let first = shared.segments.read(slot, at, BLOCK_OCTETS).await;
        let first = first.map_err(|error| broken(error.to_string()))?;
        let (header, check) = BatchHeader::decode(&first, seed)
            .ok_or_else(|| broken("the header of a batch is damaged".into()))?;
        let chained = previous.is_none_or(|check| header.previous_check == check);
        if !chained && header.stream == super::format::Stream::Hot {
            return Err(broken(format!("batch {} does not follow the one before", header.lsn)));
        }
        let len = to_usize(u64::from(header.blocks)) * BLOCK_OCTETS;
        let whole = shared.segments.read(slot, at, len).await;
        let whole = whole.map_err(|error| broken(error.to_string()))?;
        Ok((header, check, whole.to_vec()))
    }

    /// The pages in force, one by one as the next start will read them.
    async fn verify_pages(&self, findings: &mut Findings, walk: &mut Walk<'_>) {
        let places: Vec<PageAt> = {
            let index = self.shared.index.borrow();
            let root = index.root;
            index
                .pages
                .values()
                .map(|page| page.at)
                .chain(index.table.iter().copied())
                .chain([root])
                .collect()
        };
        for at in places {
            findings.pages += 1;
            if let Err(Damaged(why)) = self.verify_page(at).await
                && self.shared.index.borrow().segments.contains(&(at.slot, at.segment))
            {
                findings.faults.push(why);
            }
            walk.pace.rest(&self.shared.env, u64::from(at.len)).await;
        }
    }

    async fn verify_page(&self, at: PageAt) -> Result<(), Damaged> {
        let shared = &self.shared;
        let batch_at = u64::from(at.batch) * to_u64(BLOCK_OCTETS);
        let start = to_usize(batch_at) + to_usize(u64::from(at.record));
        let lead = start % BLOCK_OCTETS;
        let len = super::segments::round_up(lead + to_usize(u64::from(at.len)));
        let view = shared.segments.read(at.slot, to_u64(start - lead), len).await;
        let view =
            view.map_err(|error| Damaged(format!("index segment {}: {error}", at.segment)))?;
        let seed = shared.identity.seed(at.segment, batch_at);
        open_record(&view[lead..], seed, to_usize(u64::from(at.record))).map(|_| ())
    }

    async fn verify_superblock(&self, findings: &mut Findings) {
        let shared = &self.shared;
        let turned = shared.superblock.turned();
        findings.faults.extend(turned.map(|number| {
            format!("copy {number} of the superblock had a turned bit; opening the log mended it")
        }));
        for _ in 0..SUPERBLOCK_TRIES {
            let busy = || shared.checkpointing.get() || shared.superblock_busy.get();
            while busy() {
                shared.env.sleep(CHECKPOINT_PAUSE).await;
            }
            let before = shared.index.borrow().superblock_seq;
            let copies = match shared.superblock.read().await {
                Ok(copies) => copies,
                Err(error) => return findings.faults.push(format!("superblock: {error}")),
            };
            if busy() || shared.index.borrow().superblock_seq != before {
                // It may have been read while it was written.
                continue;
            }
            for (number, copy) in copies.chunks(BLOCK_OCTETS).enumerate() {
                if let Err(why) = super::format::Superblock::decode(copy) {
                    findings.faults.push(format!("copy {number} of the superblock: {why}"));
                }
            }
            return;
        }
    }

    /// Every blob that something refers to lies where the table says.
    async fn verify_blobs(&self, findings: &mut Findings, walk: &mut Walk<'_>) {
        let shared = &self.shared;
        let all: Vec<_> = {
            let table = shared.table.borrow();
            let with_segment = |(id, location, count): (BlobId, Location, u32)| {
                (id, Found { location, segment: shared.segment_of(location.slot) }, count)
            };
            table.iter().map(with_segment).collect()
        };
        for (id, at, count) in all {
            if at.segment == 0 {
                findings.faults.push(format!("blob {id} lies in a segment that is not in use"));
                continue;
            }
            if count == 0 {
                findings.faults.push(format!("blob {id} is kept though nothing refers to it"));
            }
            let read = shared.read_at(id, at).await;
            if let Err(Damaged(why)) = read
                && shared.locate(id) == Some(at)
            {
                findings.faults.push(why);
            }
            let octets = u64::from(at.location.blocks) * to_u64(BLOCK_OCTETS);
            findings.octets += octets;
            (walk.progress)(findings.octets);
            walk.pace.rest(&shared.env, octets).await;
        }
    }

    /// The table's counts are the references that the machines hold.
    fn verify_references(&self, findings: &mut Findings) {
        let shared = &self.shared;
        let mut held: Map<BlobId, u32> = Map::default();
        for (_, machine) in &shared.machines {
            machine.borrow().references(&mut |id| *held.entry(id).or_default() += 1);
        }
        findings.references = held.values().map(|&count| u64::from(count)).sum();
        let table = shared.table.borrow();
        if table.underflows() > 0 {
            let count = table.underflows();
            findings.faults.push(format!("{count} references were released that nobody held"));
        }
        for (id, _, count) in table.iter() {
            let found = held.remove(&id).unwrap_or(0);
            if found != count {
                findings.faults.push(format!("blob {id} has {found} references, {count} counted"));
            }
        }
        let mut lost: Vec<BlobId> = held.into_keys().collect();
        lost.sort_unstable();
        for id in lost {
            findings.faults.push(format!("blob {id} is referred to, but is not there"));
        }
    }
}
