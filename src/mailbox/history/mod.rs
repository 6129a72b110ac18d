//! The history of an account: what undoes its latest changes, in the order in which they were made.
//!
//! ```text
//! event := kind u8 | ended u32 | mailbox u32 | octets of the body u32 | body (event.rs)
//! page  := 1 u8 | zeros{7} | events
//! ```
//!
//! An event says what something was until the second `ended`. How an account stood at a second is how
//! it stands now with all later events undone, the last one first (past.rs); what came in since is
//! known by its save date. Events lie in chunks as they are saved, each a page of a checkpoint: what
//! is full is not written again until its oldest events are forgotten.
//!
//! Promises:
//!   - `ended` never gets lower from one event to the next, also where the clock was set back
//!   - only [`Event::Gone`] holds references to blobs; the other events are about rows that something
//!     later refers to, which is forgotten later

mod event;
mod keep;
pub(super) mod past;
mod retention;

pub(super) use event::{Event, FlagRun, RowsOf, RunsOf};
pub(super) use keep::forget_all;
pub use retention::Retention;

use crate::bytes::codec::{Put, Reader, to_u32, to_u64, to_usize};
use crate::model::id::{BlobId, MailboxId};
use crate::model::limits::{EXPUNGE_MESSAGES_MAX, HISTORY_CHUNK_OCTETS, HISTORY_EVENT_ROWS};
use crate::store::Damaged;
use std::collections::VecDeque;
use xxhash_rust::xxh3::Xxh3;

/// Of a time: nothing is known of what was before the next change that the history knows of.
pub(super) const UNKNOWN: u32 = u32::MAX;

const PAGE_VERSION: u8 = 1;
const PAGE_HEAD_OCTETS: usize = 8;
const EVENT_HEAD_OCTETS: usize = 13;
/// Where in an event its `ended` stands.
const ENDED_AT: usize = 1;

/// Some events one after the other, as they are saved.
#[derive(Debug, Default)]
struct Chunk {
    number: u32,
    dirty: bool,
    octets: Vec<u8>,
}

/// Where a chunk is saved, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkRef {
    pub number: u32,
    pub octets: u32,
}

/// An event and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dated<'a> {
    pub ended: u32,
    /// 0 for none.
    pub mailbox: MailboxId,
    pub event: Event<'a>,
}

/// See the header.
#[derive(Debug, Default)]
pub(super) struct History {
    chunks: VecDeque<Chunk>,
    /// The number that the next chunk gets; none is given twice.
    next: u32,
}

/// The oldest events that may be forgotten together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Oldest {
    pub events: u32,
    pub blobs: Vec<BlobId>,
    /// There are more that are old enough.
    pub has_more: bool,
}

/// One event off the front of octets.
fn read<'a>(reader: &mut Reader<'a>) -> Option<Dated<'a>> {
    let kind = reader.u8().ok()?;
    let ended = reader.u32().ok()?;
    let mailbox = MailboxId(reader.u32().ok()?);
    let event = Event::read(kind, reader.slice().ok()?)?;
    Some(Dated { ended, mailbox, event })
}

impl Chunk {
    /// All were read before: by `verify`, or as they were written.
    fn events(&self) -> impl Iterator<Item = Dated<'_>> {
        let mut reader = Reader::new(&self.octets);
        std::iter::from_fn(move || read(&mut reader))
    }

    fn page(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE_HEAD_OCTETS + self.octets.len());
        page.resize(PAGE_HEAD_OCTETS, 0);
        page[0] = PAGE_VERSION;
        page.extend_from_slice(&self.octets);
        page
    }

    fn is_whole(&self) -> bool {
        let mut reader = Reader::new(&self.octets);
        while !reader.rest().is_empty() {
            if read(&mut reader).is_none() {
                return false;
            }
        }
        !self.octets.is_empty()
    }
}

impl History {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Octets of all events.
    pub(super) fn octets(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.octets.len()).sum()
    }

    /// Until when the oldest event was.
    pub(super) fn first_ended(&self) -> Option<u32> {
        self.chunks.front()?.events().next().map(|one| one.ended)
    }

    /// Adds what something was until now.
    pub(super) fn push(&mut self, ended: u32, mailbox: MailboxId, event: &Event<'_>) {
        let is_full = |chunk: &Chunk| chunk.octets.len() >= HISTORY_CHUNK_OCTETS;
        if self.chunks.back().is_none_or(is_full) {
            let number = self.next;
            self.next = number.checked_add(1).expect("a chunk has 16 KiB, and the log fewer");
            self.chunks.push_back(Chunk { number, ..Chunk::default() });
        }
        let chunk = self.chunks.back_mut().expect("one was added if there was none");
        chunk.dirty = true;
        let (kind, body) = event.octets();
        chunk.octets.reserve(EVENT_HEAD_OCTETS + body.len());
        chunk.octets.put_u8(kind);
        chunk.octets.put_u32(ended);
        chunk.octets.put_u32(mailbox.0);
        chunk.octets.put_slice(&body);
        if is_full(chunk) {
            chunk.octets.shrink_to_fit();
        }
    }

    /// All events, the last one first.
    pub(super) fn backwards(&self) -> impl Iterator<Item = Dated<'_>> {
        self.chunks.iter().rev().flat_map(|chunk| {
            let events: Vec<Dated<'_>> = chunk.events().collect();
            events.into_iter().rev()
        })
    }

    fn forwards(&self) -> impl Iterator<Item = Dated<'_>> {
        self.chunks.iter().flat_map(Chunk::events)
    }

    /// The clock was set back: nothing was later than this.
    pub(super) fn clamp(&mut self, when: u32) {
        for chunk in self.chunks.iter_mut().rev() {
            let mut at = 0;
            let mut reader = Reader::new(&chunk.octets);
            let mut late: Vec<usize> = Vec::new();
            while let Some(one) = read(&mut reader) {
                if one.ended > when {
                    late.push(at + ENDED_AT);
                }
                at = chunk.octets.len() - reader.rest().len();
            }
            if late.is_empty() {
                return;
            }
            chunk.dirty = true;
            for at in late {
                chunk.octets[at..at + 4].copy_from_slice(&when.to_le_bytes());
            }
        }
    }

    /// The oldest events, as far as they ended by `until`; not many more than `blobs_max` blobs.
    pub(super) fn oldest(&self, until: u32, blobs_max: usize) -> Oldest {
        let mut oldest = Oldest::default();
        for one in self.forwards().take_while(|one| one.ended <= until) {
            if oldest.blobs.len() >= blobs_max {
                oldest.has_more = true;
                break;
            }
            oldest.events += 1;
            one.event.references(&mut |blob| oldest.blobs.push(blob));
        }
        oldest
    }

    /// The oldest events without which a quarter of so many octets is free; `None` while they are not
    /// more than that.
    pub(super) fn excess(&self, octets_max: usize) -> Option<Oldest> {
        let octets = self.octets();
        let mut over = octets.checked_sub(octets_max).filter(|over| *over > 0)? + octets_max / 4;
        let mut oldest = Oldest::default();
        for one in self.forwards() {
            let (_, body) = one.event.octets();
            oldest.events += 1;
            one.event.references(&mut |blob| oldest.blobs.push(blob));
            over = over.saturating_sub(EVENT_HEAD_OCTETS + body.len());
            if over == 0 || oldest.blobs.len() >= EXPUNGE_MESSAGES_MAX - HISTORY_EVENT_ROWS {
                break;
            }
        }
        Some(oldest)
    }

    /// Forgets so many of the oldest events, which refer to just these blobs. Until when the last of
    /// them was.
    pub(super) fn forget(
        &mut self,
        events: u32,
        mut blobs: impl Iterator<Item = BlobId>,
        gone: &mut Vec<u64>,
    ) -> Result<Option<u32>, Damaged> {
        let wrong = || Damaged("the history has other events than are to be forgotten".into());
        let mut last = None;
        let mut are_same = true;
        let mut count = 0;
        for one in self.forwards().take(to_usize(events.into())) {
            count += 1;
            last = Some(one.ended);
            one.event.references(&mut |blob| are_same &= blobs.next() == Some(blob));
        }
        if count != events || !are_same || blobs.next().is_some() {
            return Err(wrong());
        }
        let mut left = events;
        while left > 0 {
            let chunk = self.chunks.front_mut().ok_or_else(wrong)?;
            let mut reader = Reader::new(&chunk.octets);
            while left > 0 && read(&mut reader).is_some() {
                left -= 1;
            }
            let rest = reader.rest().len();
            if rest == 0 {
                gone.push(minor(chunk.number));
                self.chunks.pop_front();
            } else {
                chunk.octets.drain(..chunk.octets.len() - rest);
                chunk.dirty = true;
            }
        }
        Ok(last)
    }

    /// Forgets everything, whatever it is.
    pub(super) fn drop_all(&mut self, gone: &mut Vec<u64>) {
        gone.extend(self.chunks.drain(..).map(|chunk| minor(chunk.number)));
    }

    pub(super) fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.forwards().for_each(|one| one.event.references(each));
    }

    /// What the head page says of the chunks, and the number of the next one.
    pub(super) fn head(&self) -> (u32, Vec<ChunkRef>) {
        let chunks = self.chunks.iter();
        let chunks = chunks
            .map(|chunk| ChunkRef { number: chunk.number, octets: to_u32(chunk.octets.len()) });
        (self.next, chunks.collect())
    }

    /// Hands out the chunks that changed.
    pub(super) fn save(&mut self, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.dirty) {
            chunk.dirty = false;
            page(minor(chunk.number), Some(chunk.page()));
        }
    }

    /// The page of the chunk at this place.
    pub(super) fn page(&self, at: usize) -> Option<(u64, Vec<u8>)> {
        self.chunks.get(at).map(|chunk| (minor(chunk.number), chunk.page()))
    }

    /// All is saved.
    pub(super) fn settle(&mut self) {
        self.chunks.iter_mut().for_each(|chunk| chunk.dirty = false);
    }

    /// Whether all chunks have come.
    pub(super) fn is_complete(&self) -> bool {
        self.chunks.iter().all(|chunk| !chunk.octets.is_empty())
    }

    pub(super) fn taint(&mut self) {
        self.chunks.iter_mut().for_each(|chunk| chunk.dirty = true);
    }

    /// As the head tells of it; the chunks are empty until their pages come.
    pub(super) fn load(next: u32, chunks: &[ChunkRef]) -> Result<History, Damaged> {
        let rising = chunks.is_sorted_by(|a, b| a.number < b.number);
        if !rising || chunks.last().is_some_and(|last| last.number >= next) {
            return Err(Damaged("chunks of the history out of order".into()));
        }
        let chunks = chunks.iter().map(|chunk| Chunk { number: chunk.number, ..Chunk::default() });
        Ok(History { chunks: chunks.collect(), next })
    }

    /// Puts a chunk where the head said that it is; one that it did not name is of the past.
    pub(super) fn load_chunk(&mut self, number: u32, octets: Vec<u8>) {
        if let Ok(at) = self.chunks.binary_search_by_key(&number, |chunk| chunk.number) {
            self.chunks[at].octets = octets;
        }
    }

    /// Whether all chunks are there, and their events in order.
    pub(super) fn verify(&self) -> Result<(), Damaged> {
        if !self.chunks.iter().all(Chunk::is_whole) {
            return Err(Damaged("a chunk of the history is missing or damaged".into()));
        }
        if !self.forwards().map(|one| one.ended).is_sorted() {
            return Err(Damaged("events of the history are out of order".into()));
        }
        Ok(())
    }

    pub(super) fn digest(&self, into: &mut Xxh3) {
        into.update(&self.next.to_le_bytes());
        for chunk in &self.chunks {
            into.update(&chunk.number.to_le_bytes());
            into.update(&to_u64(chunk.octets.len()).to_le_bytes());
            into.update(&chunk.octets);
        }
    }

    pub(super) fn heap_octets(&self) -> usize {
        let octets: usize = self.chunks.iter().map(|chunk| chunk.octets.capacity()).sum();
        size_of::<History>() + self.chunks.capacity() * size_of::<Chunk>() + octets
    }
}

/// Until when the first event of a page was.
pub(super) fn first_ended(page: &[u8]) -> Option<u32> {
    read(&mut Reader::new(page.get(PAGE_HEAD_OCTETS..)?)).map(|one| one.ended)
}

/// Names the blobs that the events of a page refer to.
pub(super) fn page_references(page: &[u8], each: &mut dyn FnMut(BlobId)) {
    let mut reader = Reader::new(page.get(PAGE_HEAD_OCTETS..).unwrap_or_default());
    while let Some(one) = read(&mut reader) {
        one.event.references(each);
    }
}

/// The minor number of a chunk's page: that of no mailbox.
pub(super) fn minor(number: u32) -> u64 {
    u64::from(number) + 1
}

/// The events of a page.
pub(super) fn decode_page(octets: &[u8]) -> Result<Vec<u8>, Damaged> {
    match octets.split_at_checked(PAGE_HEAD_OCTETS) {
        Some((head, events)) if head[0] == PAGE_VERSION => Ok(events.to_vec()),
        _ => Err(Damaged("a page of the history is not as it should be".into())),
    }
}

#[cfg(test)]
mod tests;
