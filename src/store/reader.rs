//! Reading: one blob by its number, out of memory or by one read of the disk.
//!
//! Promise: what comes back was checked, header, place and content, unless it never left memory.

use super::Damaged;
use super::apply::{State, apply};
use super::batch::{self, BlobLine};
use super::blob::BlobView;
use super::format::BLOB_HEADER_OCTETS;
use super::log::{Inner, Log, ReadError};
use super::pack;
use super::record::{Group, Record};
use super::segments::SegmentStore;
use super::table::Location;
use crate::bytes::chain::Shared;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::together::together;
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::{BlobId, Lsn};
use std::rc::Rc;

/// Most summaries have fewer octets.
const SUMMARY_OCTETS_USUAL: usize = 1_536;
/// Summaries closer together than this come by one read: a read costs as much as this many octets.
const SPAN_GAP_OCTETS: u64 = 32 << 10;
/// The longest read of neighbours.
const SPAN_OCTETS_MAX: u64 = 256 << 10;
/// Reads side by side for one caller,
const READS_AT_ONCE: usize = 32;
/// and their octets together.
const READ_OCTETS_AT_ONCE: u64 = 1 << 20;

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Reads a blob: out of memory if it was written or read lately, else by one read.
    pub async fn read(&self, id: BlobId) -> Result<BlobView, ReadError> {
        let shared = &self.shared;
        if let Some(view) = shared.cache.borrow_mut().get(id) {
            return Ok(view);
        }
        loop {
            let at = shared.locate(id).ok_or(ReadError::Unknown)?;
            match shared.read_at(id, at).await {
                Ok(view) => {
                    shared.cache.borrow_mut().put(id, view.clone());
                    return Ok(view);
                }
                // Moved or removed while it was read, and its place used again: ask again.
                Err(_) if shared.locate(id) != Some(at) => {}
                Err(Damaged(why)) => return Err(ReadError::Damaged(why)),
            }
        }
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// The summary of a blob if it is in memory.
    fn summary_at_hand(&self, id: BlobId) -> Option<Rc<[u8]>> {
        self.shared.cache.borrow_mut().summary(id)
    }

    /// The summaries of several blobs, in their order. Those that are not in memory are read many
    /// at a time, neighbours by one read. `None` for one that cannot be had this way:
    /// [`Log::summary`] tells why, or gets it.
    pub async fn summaries(&self, ids: &[BlobId]) -> Vec<Option<Rc<[u8]>>> {
        let shared = &self.shared;
        let mut found: Vec<Option<Rc<[u8]>>> = {
            let mut cache = shared.cache.borrow_mut();
            ids.iter().map(|&id| cache.summary(id)).collect()
        };
        let mut wanted = Vec::new();
        {
            let table = shared.table.borrow();
            let missing = ids.iter().enumerate().filter(|(at, _)| found[*at].is_none());
            wanted.extend(
                missing
                    .filter_map(|(at, &id)| Some(Wanted { at, id, location: table.locate(id)? })),
            );
        }
        let spans = Span::of(&mut wanted);
        let mut spans = spans.as_slice();
        while !spans.is_empty() {
            let (some, later) = spans.split_at(Span::at_once(spans));
            spans = later;
            for read in together(some.iter().map(|span| shared.read_span(span))).await {
                for (at, id, summary) in read {
                    shared.cache.borrow_mut().put_summary(id, &summary);
                    found[at] = Some(summary);
                }
            }
        }
        found
    }

    /// The summary of a blob: out of memory, or by one small read.
    pub async fn summary(&self, id: BlobId) -> Result<Rc<[u8]>, ReadError> {
        let shared = &self.shared;
        if let Some(summary) = self.summary_at_hand(id) {
            return Ok(summary);
        }
        loop {
            let at = shared.locate(id).ok_or(ReadError::Unknown)?;
            match shared.read_summary_at(id, at).await {
                Ok(summary) => {
                    shared.cache.borrow_mut().put_summary(id, &summary);
                    return Ok(summary);
                }
                // Moved or removed while it was read, and its place used again: ask again.
                Err(_) if shared.locate(id) != Some(at) => {}
                Err(Damaged(why)) => return Err(ReadError::Damaged(why)),
            }
        }
    }
}

/// A place that somebody is about to read: what is cleaned meanwhile, and used again, is of another
/// segment, whose checks do not pass for this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub location: Location,
    pub segment: u64,
}

/// A summary that is to be read.
#[derive(Clone, Copy)]
struct Wanted {
    /// Its place among those that were asked for.
    at: usize,
    id: BlobId,
    location: Location,
}

impl Wanted {
    fn start(&self) -> u64 {
        self.location.offset - self.location.offset % to_u64(BLOCK_OCTETS)
    }

    /// Where the blocks end that most summaries lie in.
    fn end(&self) -> u64 {
        let usual = self.location.offset + to_u64(BLOB_HEADER_OCTETS + SUMMARY_OCTETS_USUAL);
        let whole = self.start() + u64::from(self.location.blocks) * to_u64(BLOCK_OCTETS);
        usual.next_multiple_of(to_u64(BLOCK_OCTETS)).min(whole)
    }
}

/// Summaries that one read gets.
struct Span<'w> {
    wanted: &'w [Wanted],
    start: u64,
    end: u64,
}

impl<'w> Span<'w> {
    /// Sorts what is wanted by its place, and takes neighbours together.
    fn of(wanted: &'w mut [Wanted]) -> Vec<Span<'w>> {
        wanted.sort_unstable_by_key(|one| (one.location.slot, one.location.offset));
        let mut spans = Vec::new();
        let mut left = &*wanted;
        while let Some(first) = left.first() {
            let (start, mut end, mut count) = (first.start(), first.end(), 1);
            for next in &left[1..] {
                let is_near = next.location.slot == first.location.slot
                    && next.start() <= end + SPAN_GAP_OCTETS
                    && next.end() <= start + SPAN_OCTETS_MAX;
                if !is_near {
                    break;
                }
                end = end.max(next.end());
                count += 1;
            }
            let (wanted, later) = left.split_at(count);
            spans.push(Span { wanted, start, end });
            left = later;
        }
        spans
    }

    /// How many of the spans are read side by side; one at least.
    fn at_once(spans: &[Span<'_>]) -> usize {
        let mut octets = 0;
        let few = spans.iter().take(READS_AT_ONCE).take_while(|span| {
            octets += span.end - span.start;
            octets <= READ_OCTETS_AT_ONCE
        });
        few.count().max(1)
    }
}

impl<E: Env, S: SegmentStore> Inner<E, S> {
    /// Reads a span and takes the summaries out that lie in it, checked.
    async fn read_span(&self, span: &Span<'_>) -> Vec<(usize, BlobId, Rc<[u8]>)> {
        let Some(first) = span.wanted.first() else { return Vec::new() };
        let slot = first.location.slot;
        let segment = self.segment_of(slot);
        self.stats.reads.add(1);
        let len = to_usize(span.end - span.start);
        let Ok(view) = self.segments.read(slot, span.start, len).await else {
            return Vec::new();
        };
        let summaries = span.wanted.iter().filter_map(|one| {
            let Location { offset, .. } = one.location;
            let octets = view.get(to_usize(offset - span.start)..)?;
            let opened = batch::open_summary(octets, one.id, &self.identity, segment, offset);
            Some((one.at, one.id, Rc::from(opened.ok()?.ok()?)))
        });
        summaries.collect()
    }
}

impl<E: Env, S: SegmentStore> Inner<E, S> {
    /// Makes a durable batch part of the state: the same for a live batch and in recovery.
    pub(super) fn apply<'a>(
        &self,
        lsn: Lsn,
        slot: u32,
        batch_at: u64,
        blobs: &[BlobLine],
        records: impl Iterator<Item = Result<Record<'a>, Damaged>>,
    ) -> Result<(), Damaged> {
        let state = State { table: &self.table, cold: &self.cold, machines: &self.machines };
        apply(&state, lsn, (slot, batch_at), blobs, records, &mut |id| {
            self.cache.borrow_mut().forget(id);
        })
    }

    /// Where the blob lies now, if anything refers to it.
    pub(super) fn locate(&self, id: BlobId) -> Option<Found> {
        let location = self.table.borrow().locate(id)?;
        Some(Found { location, segment: self.segment_of(location.slot) })
    }

    /// The number of the segment in a slot; 0 if no blob lies there.
    pub(super) fn segment_of(&self, slot: u32) -> u64 {
        if let Some(segment) = self.cold.borrow().segment_in(slot) {
            return segment;
        }
        let hot = self.hot.borrow();
        hot.iter().rev().find(|one| one.slot == slot).map_or(0, |one| one.segment)
    }

    /// Fresh messages stay in memory as they came.
    pub(super) fn keep_blobs(&self, groups: Vec<Group>) {
        let mut cache = self.cache.borrow_mut();
        let table = self.table.borrow();
        for mut blob in groups.into_iter().flat_map(|group| group.blobs) {
            if table.locate(blob.id).is_none() {
                continue;
            }
            let message = if blob.parts.len() == 1 {
                blob.parts.pop().unwrap_or_default()
            } else {
                blob.parts.concat()
            };
            let (len, cost) = (message.len(), message.capacity());
            let owner: Rc<dyn Shared> = Rc::new(message);
            cache.put(blob.id, BlobView::new(owner, Rc::from(blob.summary), 0..len, cost));
        }
    }

    /// Reads a blob in its place; a packed one is unpacked, so that nobody above knows of it.
    pub(super) async fn read_at(&self, id: BlobId, at: Found) -> Result<BlobView, Damaged> {
        let Found { location, segment } = at;
        let lead = to_usize(location.offset) % BLOCK_OCTETS;
        let start = location.offset - to_u64(lead);
        let len = to_usize(u64::from(location.blocks)) * BLOCK_OCTETS;
        self.stats.reads.add(1);
        let read = self.segments.read(location.slot, start, len).await;
        let view = read.map_err(|error| Damaged(format!("blob {id}: {error}")))?;
        let octets = &view[lead..];
        let header = batch::open_blob(octets, id, &self.identity, segment, location.offset)?;
        let summary_octets = to_usize(u64::from(header.summary_octets));
        if header.codec == pack::ZSTD {
            let content = &octets[BLOB_HEADER_OCTETS..pack::blob_octets(&header)];
            let content = pack::unpack(&self.env, &header, content, &self.identity).await?;
            let (len, cost) = (content.len(), content.capacity());
            let summary = Rc::from(&content[..summary_octets]);
            return Ok(BlobView::new(Rc::new(content), summary, summary_octets..len, cost));
        }
        let summary_at = lead + BLOB_HEADER_OCTETS;
        let message_at = summary_at + summary_octets;
        let message = message_at..message_at + to_usize(header.octets);
        let summary = Rc::from(&view[summary_at..message_at]);
        let cost = view.len();
        Ok(BlobView::new(Rc::new(view), summary, message, cost))
    }

    async fn read_summary_at(&self, id: BlobId, at: Found) -> Result<Rc<[u8]>, Damaged> {
        let Found { location, segment } = at;
        let lead = to_usize(location.offset) % BLOCK_OCTETS;
        let start = location.offset - to_u64(lead);
        let mut need = BLOB_HEADER_OCTETS + SUMMARY_OCTETS_USUAL;
        loop {
            let blocks = (lead + need).div_ceil(BLOCK_OCTETS);
            let len = blocks.min(to_usize(u64::from(location.blocks))) * BLOCK_OCTETS;
            self.stats.reads.add(1);
            let read = self.segments.read(location.slot, start, len).await;
            let view = read.map_err(|error| Damaged(format!("blob {id}: {error}")))?;
            let octets = &view[lead..];
            match batch::open_summary(octets, id, &self.identity, segment, location.offset)? {
                Ok(summary) => return Ok(Rc::from(summary)),
                Err(more)
                    if more > octets.len()
                        && len < to_usize(u64::from(location.blocks)) * BLOCK_OCTETS =>
                {
                    need = more;
                }
                Err(_) => return Err(Damaged(format!("blob {id}: it is cut off"))),
            }
        }
    }
}
