//! Reading: one blob by its number, out of memory or by one read of the disk.
//!
//! Promise: what comes back was checked, header, place and content, unless it never left memory.

use super::Damaged;
use super::apply::apply;
use super::batch::{self, BlobLine};
use super::blob::BlobView;
use super::format::BLOB_HEADER_OCTETS;
use super::log::{Inner, Log, ReadError};
use super::record::{Group, Record};
use super::segments::SegmentStore;
use super::table::Location;
use crate::bytes::chain::Shared;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::{BlobId, Lsn};
use std::rc::Rc;

/// Most summaries have fewer octets.
const SUMMARY_OCTETS_USUAL: usize = 1_536;

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Reads a blob: out of memory if it was written or read lately, else by one read.
    pub async fn read(&self, id: BlobId) -> Result<BlobView, ReadError> {
        let shared = &self.shared;
        if let Some(view) = shared.cache.borrow_mut().get(id) {
            return Ok(view);
        }
        loop {
            let location = shared.table.borrow().locate(id).ok_or(ReadError::Unknown)?;
            match shared.read_at(id, location).await {
                Ok(view) => {
                    shared.cache.borrow_mut().put(id, view.clone());
                    return Ok(view);
                }
                // Moved or removed while it was read: ask again.
                Err(_) if shared.table.borrow().locate(id) != Some(location) => {}
                Err(Damaged(why)) => return Err(ReadError::Damaged(why)),
            }
        }
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// The summary of a blob if it is in memory.
    pub fn summary_at_hand(&self, id: BlobId) -> Option<Rc<[u8]>> {
        self.shared.cache.borrow_mut().summary(id)
    }

    /// The summary of a blob: out of memory, or by one small read.
    pub async fn summary(&self, id: BlobId) -> Result<Rc<[u8]>, ReadError> {
        let shared = &self.shared;
        if let Some(summary) = self.summary_at_hand(id) {
            return Ok(summary);
        }
        loop {
            let location = shared.table.borrow().locate(id).ok_or(ReadError::Unknown)?;
            match shared.read_summary_at(id, location).await {
                Ok(summary) => {
                    shared.cache.borrow_mut().put_summary(id, &summary);
                    return Ok(summary);
                }
                // Moved or removed while it was read: ask again.
                Err(_) if shared.table.borrow().locate(id) != Some(location) => {}
                Err(Damaged(why)) => return Err(ReadError::Damaged(why)),
            }
        }
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
        apply(&self.table, &self.machines, lsn, (slot, batch_at), blobs, records, &mut |id| {
            self.cache.borrow_mut().forget(id);
        })
    }

    pub(super) fn segment_of(&self, slot: u32) -> u64 {
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

    pub(super) async fn read_at(
        &self,
        id: BlobId,
        location: Location,
    ) -> Result<BlobView, Damaged> {
        let lead = to_usize(location.offset) % BLOCK_OCTETS;
        let start = location.offset - to_u64(lead);
        let len = to_usize(u64::from(location.blocks)) * BLOCK_OCTETS;
        let segment = self.segment_at(location.slot);
        self.stats.reads.add(1);
        let read = self.segments.read(location.slot, start, len).await;
        let view = read.map_err(|error| Damaged(format!("blob {id}: {error}")))?;
        let octets = &view[lead..];
        let header = batch::open_blob(octets, id, &self.identity, segment, location.offset)?;
        let summary_at = lead + BLOB_HEADER_OCTETS;
        let message_at = summary_at + to_usize(u64::from(header.summary_octets));
        let message = message_at..message_at + to_usize(header.octets);
        let summary = Rc::from(&view[summary_at..message_at]);
        let cost = view.len();
        Ok(BlobView::new(Rc::new(view), summary, message, cost))
    }

    async fn read_summary_at(&self, id: BlobId, location: Location) -> Result<Rc<[u8]>, Damaged> {
        let lead = to_usize(location.offset) % BLOCK_OCTETS;
        let start = location.offset - to_u64(lead);
        let segment = self.segment_at(location.slot);
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

    /// The number of the segment in a slot.
    fn segment_at(&self, slot: u32) -> u64 {
        self.segment_of(slot)
    }
}
