//! The cold stream: what survived cleaning, out of the way of what comes new.
//!
//! ```text
//!   victims ─read, check─> batch of the cold stream ─write, sync─> RELOCATE in the hot one ─sync─> table
//!      └──────────── used again once nothing in them is alive, and replay does not read them ────────┘
//! ```
//!
//! What is moved is durable in its new place before the record that says so is written, and the
//! record is a record like all others: applied in the order of the log, live and in recovery. So a
//! crash finds a blob in its old place or in its new one, and that one holds it:
//!   - before the record is durable: the table has the old place, in a victim that nobody freed.
//!     What was written to the cold stream is nobody's, and is written over;
//!   - afterwards, before the next checkpoint: the pages have the old place, and replay meets the
//!     record before anybody reads. A batch that brought the blob, should it come again, comes
//!     before it, since it was durable before the blob could be moved;
//!   - the same when the victim serves as another segment by then. Pages and records that name the
//!     old place are read for where things lie, never for what lies there, until all of the log was
//!     replayed; and the record cannot be lost without the rest of what was answered behind it.
//!
//! A blob whose last reference goes while it is moved is gone: the record finds it in no place and
//! leaves it so. Numbers of blobs are never used again, so that it cannot be taken for another.
//!
//! A segment of the cold stream that is written to is not freed while somebody cleans, although nothing
//! in it may be alive yet. Only the last one is: a batch is begun when the blobs of the one before it
//! have moved. Nor is it when the record could not be written: it may be there after a start.

use super::Damaged;
use super::batch::BlobLine;
use super::checkpoint::Writer;
use super::format::{
    BATCH_HEADER_OCTETS, BLOB_HEADER_OCTETS, BLOB_LINE_OCTETS, BatchHeader, BlobHeader, Identity,
    SegmentHeader, Stream,
};
use super::segments::round_up;
use super::table::{BLOB_OCTETS_MAX, Location, SEGMENT_OCTETS_MAX};
use crate::bytes::codec::{Put, Reader, Short, to_u32, to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, Lsn};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The owner number of the page of cold segments.
pub(super) const COLD_OWNER: u8 = 1;
const PAGE_VERSION: u64 = 1;
/// Of a page that names a segment with packed blobs: a release that cannot unpack does not know it.
const PAGE_VERSION_PACKED: u64 = 2;
/// Of a segment in such a page: some of its blobs are packed.
const FLAG_PACKED: u32 = 1;
/// Slots that a location can name.
const SLOTS_MAX: u32 = 1 << 20;

/// A segment of the cold stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ColdSegment {
    pub segment: u64,
    /// Behind the last batch that a blob was moved in.
    pub end: u64,
    /// When the mail in it was new, in seconds since 1970; 0 until its header was read.
    pub created: u64,
    /// Some of the blobs in it are packed.
    pub is_packed: bool,
}

/// The cold stream of one log.
#[derive(Debug, Default)]
pub(super) struct Cold {
    /// By slot.
    segments: Sorted<u32, ColdSegment>,
    /// Where the next batch goes.
    pub writer: Option<Writer>,
    /// The page of the last checkpoint is not what it would be now.
    dirty: bool,
}

impl Cold {
    /// Slots and segments in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, ColdSegment)> + '_ {
        self.segments.iter().map(|(&slot, &segment)| (slot, segment))
    }

    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// The number of the segment in a slot.
    pub(super) fn segment_in(&self, slot: u32) -> Option<u64> {
        self.segments.get(&slot).map(|one| one.segment)
    }

    /// A segment was begun.
    pub(super) fn begin(&mut self, writer: Writer, created: u64) {
        let Writer { slot, segment, offset } = writer;
        let fresh = ColdSegment { segment, end: offset, created, is_packed: false };
        self.segments.insert(slot, fresh);
        self.writer = Some(writer);
        self.dirty = true;
    }

    /// Blobs lie in this segment, up to `end`. What is known of a later segment in the slot holds:
    /// in recovery the page may be younger than the records.
    pub(super) fn note(&mut self, slot: u32, segment: u64, end: u64, is_packed: bool) {
        let fresh = ColdSegment { segment, end, created: 0, is_packed };
        let known = self.segments.entry(slot).or_insert(fresh);
        if known.segment < segment {
            *known = fresh;
        } else if known.segment == segment {
            known.end = known.end.max(end);
            known.is_packed |= is_packed;
        }
        self.dirty = true;
    }

    /// After recovery: segments stand whose headers say so, and the last one is written on behind
    /// what counts in it.
    pub(super) fn settle(
        &mut self,
        header_of: impl Fn(u32) -> Option<SegmentHeader>,
        segment_octets: u64,
    ) {
        self.segments.retain(|&slot, one| {
            let header = header_of(slot).filter(|header| header.stream == Stream::Cold);
            let Some(header) = header.filter(|header| header.segment == one.segment) else {
                return false;
            };
            one.created = header.created;
            true
        });
        let last = self.segments.iter().max_by_key(|(_, one)| one.segment);
        self.writer = last.filter(|(_, one)| one.end < segment_octets).map(|(&slot, one)| Writer {
            slot,
            segment: one.segment,
            offset: one.end,
        });
    }

    /// The slot that is written to, while somebody `is_writing`.
    pub(super) fn written(&self, is_writing: bool) -> Option<u32> {
        self.writer.filter(|_| is_writing).map(|writer| writer.slot)
    }

    /// Forgets the segments that `is_dead` names, but for the one that is `written` to; their slots.
    pub(super) fn take_dead(
        &mut self,
        written: Option<u32>,
        is_dead: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let dead = |slot: u32| Some(slot) != written && is_dead(slot);
        let freed: Vec<u32> = self.segments.keys().copied().filter(|&slot| dead(slot)).collect();
        for slot in &freed {
            self.segments.remove(slot);
            self.dirty = true;
        }
        self.writer = self.writer.filter(|writer| !freed.contains(&writer.slot));
        freed
    }

    /// Every page is written anew.
    pub(super) fn taint(&mut self) {
        self.dirty = true;
    }

    /// Whether the page of the last checkpoint is not the one of now; from here on it counts as saved.
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// The page for a checkpoint; none where there is no segment.
    pub(super) fn page(&self) -> Option<Vec<u8>> {
        if self.segments.is_empty() {
            return None;
        }
        let has_packed = self.segments.values().any(|one| one.is_packed);
        let mut out = Vec::with_capacity(8 + self.segments.len() * 24);
        out.put_u64(if has_packed { PAGE_VERSION_PACKED } else { PAGE_VERSION });
        for (&slot, one) in &self.segments {
            out.put_u32(slot);
            out.put_u32(if one.is_packed { FLAG_PACKED } else { 0 });
            out.put_u64(one.segment);
            out.put_u64(one.end);
        }
        Some(out)
    }

    /// Takes a saved page back.
    pub(super) fn load(&mut self, octets: &[u8]) -> Result<(), Damaged> {
        let broken = |_: Short| Damaged("the page of cold segments is cut off".into());
        let mut reader = Reader::new(octets);
        let version = reader.u64().map_err(broken)?;
        if ![PAGE_VERSION, PAGE_VERSION_PACKED].contains(&version) {
            return Err(Damaged("the page of cold segments is of another release".into()));
        }
        while !reader.rest().is_empty() {
            let slot = reader.u32().map_err(broken)?;
            let flags = reader.u32().map_err(broken)?;
            let known = if version == PAGE_VERSION_PACKED { FLAG_PACKED } else { 0 };
            if flags & !known != 0 {
                return Err(Damaged(
                    "the page of cold segments has flags of another release".into(),
                ));
            }
            let is_packed = flags & FLAG_PACKED != 0;
            let (segment, end) = (reader.u64().map_err(broken)?, reader.u64().map_err(broken)?);
            self.note(slot, segment, end, is_packed);
        }
        self.dirty = false;
        Ok(())
    }
}

/// What RELOCATE says: blobs lie in this batch of the cold stream from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relocation {
    pub slot: u32,
    pub segment: u64,
    /// Behind the batch, counted from the start of its segment.
    pub end: u64,
    /// Offsets count from the start of the segment.
    pub blobs: Vec<BlobLine>,
    /// Some of them are packed.
    pub is_packed: bool,
}

impl Relocation {
    pub(super) const VERSIONS: [u8; 2] = [1, 2];

    /// 2 where blobs are packed: a release that cannot unpack them refuses the log.
    pub(super) fn version(&self) -> u8 {
        Relocation::VERSIONS[usize::from(self.is_packed)]
    }

    /// `slot u32, count u32, segment u64, end u64, (blob u64, octet u64, octets u64){count}`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(24 + self.blobs.len() * BLOB_LINE_OCTETS);
        body.put_u32(self.slot);
        body.put_u32(to_u32(self.blobs.len()));
        body.put_u64(self.segment);
        body.put_u64(self.end);
        for line in &self.blobs {
            body.put_u64(line.id.0);
            body.put_u64(to_u64(line.offset));
            body.put_u64(to_u64(line.octets));
        }
        body
    }

    /// Takes a body apart; what no batch could hold is refused.
    pub(super) fn decode(version: u8, body: &[u8]) -> Result<Relocation, Damaged> {
        let is_packed = version == Relocation::VERSIONS[1];
        let broken = || Damaged("a relocation names no place".into());
        let mut reader = Reader::new(body);
        let mut read = || -> Result<Relocation, Short> {
            let (slot, count) = (reader.u32()?, reader.u32()?);
            let (segment, end) = (reader.u64()?, reader.u64()?);
            let mut blobs = Vec::new();
            for _ in 0..count {
                blobs.push(BlobLine {
                    id: BlobId(reader.u64()?),
                    offset: to_usize(reader.u64()?),
                    octets: to_usize(reader.u64()?),
                });
            }
            Ok(Relocation { slot, segment, end, blobs, is_packed })
        };
        let read = read().map_err(|_| broken())?;
        let fits = |line: &BlobLine| {
            let end = line.offset.checked_add(line.octets).map(to_u64);
            line.offset.is_multiple_of(BLOB_HEADER_OCTETS)
                && line.octets <= BLOB_OCTETS_MAX
                && end.is_some_and(|end| end <= read.end)
        };
        let is_place = read.slot < SLOTS_MAX && read.end <= SEGMENT_OCTETS_MAX;
        if !is_place || !read.blobs.iter().all(fits) {
            return Err(broken());
        }
        Ok(read)
    }

    /// Where each blob lies.
    pub(super) fn places(&self) -> impl Iterator<Item = (BlobId, Location)> + '_ {
        self.blobs.iter().map(|line| (line.id, Location::of(self.slot, 0, line)))
    }
}

/// A blob on its way to the cold stream: its header, and what follows it.
pub(super) struct Survivor<'a> {
    pub header: BlobHeader,
    pub octets: &'a [u8],
}

/// Octets of a batch of survivors whose octets behind the header are so many.
pub(super) fn batch_octets(survivors: impl Iterator<Item = usize>) -> usize {
    let blobs: usize = survivors.map(survivor_octets).sum();
    round_up(BATCH_HEADER_OCTETS + blobs + BLOB_HEADER_OCTETS)
}

/// Octets that a survivor takes in a batch, with `octets` behind its header.
pub(super) fn survivor_octets(octets: usize) -> usize {
    BLOB_LINE_OCTETS + (BLOB_HEADER_OCTETS + octets).next_multiple_of(BLOB_HEADER_OCTETS)
}

/// Where a batch of the cold stream stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColdPlace {
    pub writer: Writer,
    pub epoch: u64,
    /// The last batch that was applied.
    pub lsn: Lsn,
    pub time: u64,
}

/// Encodes survivors as one batch without records into `out`, whose length is that of the batch.
/// All that changes here of a blob is the check of its header, which names its place. Offsets of the
/// lines that come back count from the start of the segment.
pub(super) fn encode(
    out: &mut [u8],
    survivors: &[Survivor<'_>],
    identity: &Identity,
    place: &ColdPlace,
) -> Vec<BlobLine> {
    let Writer { segment, offset, .. } = place.writer;
    let meta_end = BATCH_HEADER_OCTETS + survivors.len() * BLOB_LINE_OCTETS;
    let mut at = meta_end;
    let mut lines = Vec::with_capacity(survivors.len());
    for survivor in survivors {
        let start = at.next_multiple_of(BLOB_HEADER_OCTETS);
        out[at..start].fill(0);
        let body = start + BLOB_HEADER_OCTETS;
        at = body + survivor.octets.len();
        let seed = identity.seed(segment, offset + to_u64(start));
        out[start..body].copy_from_slice(&survivor.header.encode(seed));
        out[body..at].copy_from_slice(survivor.octets);
        lines.push(BlobLine { id: survivor.header.id, offset: start, octets: at - start });
    }
    out[at..].fill(0);
    for (line, target) in lines.iter().zip(out[BATCH_HEADER_OCTETS..].chunks_mut(BLOB_LINE_OCTETS))
    {
        target[..8].copy_from_slice(&line.id.0.to_le_bytes());
        target[8..16].copy_from_slice(&to_u64(line.offset).to_le_bytes());
        target[16..24].copy_from_slice(&to_u64(line.octets).to_le_bytes());
    }
    let seed = identity.seed(segment, offset);
    let header = BatchHeader {
        stream: Stream::Cold,
        epoch: place.epoch,
        lsn: place.lsn,
        durable_upto: Lsn(0),
        blocks: to_u32(out.len() / BLOCK_OCTETS),
        meta_octets: to_u32(meta_end - BATCH_HEADER_OCTETS),
        meta_check: xxh3_64_with_seed(&out[BATCH_HEADER_OCTETS..meta_end], seed),
        blob_count: to_u32(survivors.len()),
        record_count: 0,
        time: place.time,
        previous_check: 0,
    };
    let (octets, _) = header.encode(seed);
    out[..BATCH_HEADER_OCTETS].copy_from_slice(&octets);
    for line in &mut lines {
        line.offset += to_usize(offset);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relocation() -> Relocation {
        let line = |id, offset, octets| BlobLine { id: BlobId(id), offset, octets };
        let blobs = vec![line(7, 4_288, 1_000), line(3, 5_312, 64)];
        Relocation { slot: 5, segment: 9, end: 12_288, blobs, is_packed: false }
    }

    #[test]
    fn refuses_a_relocation_to_where_nothing_can_lie() {
        assert_eq!(Relocation::decode(1, &relocation().encode()), Ok(relocation()));
        let refused = |change: &dyn Fn(&mut Relocation)| {
            let mut relocation = relocation();
            change(&mut relocation);
            Relocation::decode(1, &relocation.encode()).is_err()
        };
        assert!(refused(&|one| one.slot = SLOTS_MAX));
        assert!(refused(&|one| one.end = SEGMENT_OCTETS_MAX + 1));
        assert!(refused(&|one| one.blobs[0].offset += 1));
        assert!(refused(&|one| one.blobs[1].octets = 8_192));
        let cut = relocation().encode();
        assert!(Relocation::decode(1, &cut[..cut.len() - 1]).is_err());
    }

    #[test]
    fn knows_the_later_segment_of_a_slot_whichever_is_told_first() {
        for numbers in [[3, 8], [8, 3]] {
            let mut cold = Cold::default();
            for number in numbers {
                cold.note(1, number, 4_096 * number, false);
            }
            let last = ColdSegment { segment: 8, end: 4_096 * 8, created: 0, is_packed: false };
            assert_eq!(cold.segments.get(&1), Some(&last));
        }
    }

    #[test]
    fn keeps_the_segment_that_is_written_to() {
        let mut cold = Cold::default();
        cold.begin(Writer { slot: 1, segment: 10, offset: 4_096 }, 0);
        cold.begin(Writer { slot: 2, segment: 11, offset: 4_096 }, 0);
        let written = cold.written(true);
        assert_eq!(cold.take_dead(written, |_| true), [1]);
        assert_eq!(cold.segment_in(2), Some(11));
        // Nobody cleans.
        let written = cold.written(false);
        assert_eq!(cold.take_dead(written, |_| true), [2]);
        assert!(cold.writer.is_none() && cold.len() == 0);
    }
}
