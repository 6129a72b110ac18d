//! How far the log must reach: what tells that its newest end is gone.
//!
//! Batches and segments vouch for those before them. For the newest segment nothing else does, so
//! the superblock notes it: the first batch of each segment is answered only after the superblock
//! names the segment and that batch (two syncs a segment, none for a message), and each checkpoint
//! and opening notes the last batch of that moment.
//!
//! ```text
//!   header of segment n ─ sync ─ first batch ─ sync ─ superblock: {n, batch} ─ syncs ─ answer
//! ```
//!
//! A crash before the note leaves a segment that may be empty, or torn: nobody was answered. Behind
//! the last note, the end of the newest segment is vouched for by nobody: batches that are zeroed
//! there, up to the very end, look like a tail that was torn.

use super::format::{Reached, Superblock};
use super::log::{Health, Log, Position};
use super::recovery::OpenError;
use super::segments::SegmentStore;
use crate::bytes::codec::to_u64;
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::Lsn;
use std::io;

impl Position {
    pub(super) const fn reached(&self) -> Reached {
        Reached { segment: self.segment, lsn: self.lsn }
    }
}

/// Refuses a log that ends before what was noted. A later segment than the noted one says itself
/// which batch it follows: one that failed may have been noted, and be left out for good.
pub(super) fn check(noted: Reached, tail: Position) -> Result<(), OpenError> {
    if tail.segment < noted.segment {
        return Err(OpenError::Damaged(format!(
            "segment {}, which batch {} is in, is not there or has a damaged header",
            noted.segment, noted.lsn
        )));
    }
    if tail.segment == noted.segment && tail.lsn < noted.lsn {
        return Err(OpenError::Damaged(format!(
            "segment {} ends with batch {}, but batch {} was durable",
            tail.segment, tail.lsn, noted.lsn
        )));
    }
    Ok(())
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Notes the first batch of a segment, which is durable and not answered yet. All before it
    /// are durable too: a segment is begun when nothing is in flight.
    pub(super) async fn note_first(&self, segment: u64, at: u64, lsn: Lsn) -> io::Result<()> {
        let is_first = at == to_u64(BLOCK_OCTETS);
        // Beside a sync that failed, one that did not says nothing.
        if !is_first || *self.shared.health.borrow() != Health::Good {
            return Ok(());
        }
        self.begin_superblock().await;
        let written = self.write_superblock(Reached { segment, lsn }, None).await;
        self.end_superblock();
        written.map(drop)
    }

    /// Waits until nobody else writes the superblock; [`Log::end_superblock`] must follow. There
    /// are two who do, the flusher and the checkpoint, so that one at most waits.
    pub(super) async fn begin_superblock(&self) {
        while self.shared.superblock_busy.replace(true) {
            self.shared.superblock_free.wait().await;
        }
    }

    pub(super) fn end_superblock(&self) {
        self.shared.superblock_busy.set(false);
        self.shared.superblock_free.set();
    }

    /// Writes the superblock with the root in force, or `root`; returns its sequence.
    pub(super) async fn write_superblock(
        &self,
        reached: Reached,
        root: Option<super::format::PageAt>,
    ) -> io::Result<u64> {
        let shared = &self.shared;
        // Each attempt has a number of its own: two that differ must not pass for the same.
        let seq = shared.index.borrow().superblock_seq + 1;
        shared.index.borrow_mut().superblock_seq = seq;
        // A checkpoint may have looked before the first batch of a segment was noted.
        let reached = shared.reached.get().max(reached);
        shared.reached.set(reached);
        let superblock = Superblock {
            identity: shared.identity,
            seq,
            epoch: shared.epoch,
            segment_octets: shared.segments.segment_octets(),
            root: root.unwrap_or(shared.index.borrow().root),
            reached,
        };
        shared.superblock.write(&superblock.encode()).await?;
        shared.stats.syncs.add(2);
        Ok(seq)
    }
}
