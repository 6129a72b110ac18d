//! The segment log of one shard: append with group commit, read by pointer, recover, check.
//!
//! The store knows batches, records and blobs, and nothing of mail. What a record *means* is told
//! by the [`Machine`] that registered its kind: the store hands it every durable record in the
//! order of the log, both live and in recovery, by the very same call.
//!
//! ```text
//!   caller ── Group{records, blobs} ──> queue ──> batch ──> write ──> sync ──> apply ──> answer
//!                                        many groups, one write, one sync
//! ```
//!
//! Promises:
//!   - [`Log::append`] answers `Ok` only after the sync that covers the group returned, and after
//!     its records were applied; groups are applied and answered in the order they were queued
//!   - a group is applied as a whole or, after a crash, not at all
//!   - after a failed write or sync nothing that was not answered comes back (store.md 3.11)
//!
//! Illegal: to show anybody what was not applied yet.

mod apply;
pub mod backup;
mod batch;
pub mod blob;
mod cache;
mod checkpoint;
mod clean;
mod cold;
mod dump;
pub mod format;
#[cfg(any(test, feature = "sim"))]
pub mod fuzz;
pub mod log;
mod pack;
mod reached;
mod reader;
pub mod record;
pub mod recovery;
pub mod reserve;
pub mod restore;
pub mod salvage;
mod scrub;
pub mod segments;
pub mod stats;
mod survivors;
mod table;
#[cfg(test)]
mod tests;
pub mod used;
pub mod verify;
mod victims;

use crate::model::id::{BlobId, Lsn};
use crate::model::limits::{
    APPENDS_WAITING_MAX, BATCH_OCTETS_TARGET, CLEAN_COMMIT_MS_MAX, CLEAN_FREE_PERCENT,
    CLEAN_SHARE_PERCENT,
};
use record::Record;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

#[cfg(any(test, feature = "sim"))]
pub use batch::encode_alone;
pub use blob::{BlobDraft, BlobView, Blobs};
pub use clean::{Cleaned, Cleaning, Compression};
pub use format::Identity;
pub use log::{AppendError, Health, Log, ReadError, Registry};
pub use record::Group;
pub use recovery::{OpenError, Report};
pub use stats::Figures;

/// How a log behaves; `segment_octets` counts only when the log is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Octets of a segment, a multiple of the block size, at most 4 GiB.
    pub segment_octets: u64,
    /// Segments that the log may have; 0: as many as the disk gives.
    pub segments_max: usize,
    /// Logs of the store.
    pub logs: u16,
    /// Those of them that share the disk of this one, itself included.
    pub logs_on_disk: u16,
    /// How room is won back while the log is used.
    pub cleaning: Cleaning,
    /// Octets of blobs kept in memory.
    pub cache_octets: usize,
    /// A checkpoint follows this much log,
    pub checkpoint_octets: u64,
    /// or this long after the last one, if anything changed.
    pub checkpoint_pause: Duration,
    /// Octets that a batch aims at; one larger group makes a larger batch.
    pub batch_octets: usize,
    /// Groups that may wait; over it the caller is told to come back.
    pub waiting_max: usize,
    /// Octets that must wait before a second batch goes on its way beside the first.
    pub second_batch_octets: usize,
    /// Whether a log is made where there is none. Not for a log that was made before: one that
    /// lost its superblock must never be taken for a new one.
    pub may_create: bool,
    /// A fault of our own, for the tests that show that such a fault is found.
    pub planted: Planted,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            segment_octets: 256 << 20,
            segments_max: 0,
            logs: 1,
            logs_on_disk: 1,
            cleaning: Cleaning {
                is_on: true,
                free_percent: CLEAN_FREE_PERCENT,
                share_percent: CLEAN_SHARE_PERCENT,
                commit_max: Duration::from_millis(u64::from(CLEAN_COMMIT_MS_MAX)),
                compression: Compression::None,
            },
            cache_octets: 256 << 20,
            checkpoint_octets: 256 << 20,
            checkpoint_pause: Duration::from_mins(1),
            batch_octets: BATCH_OCTETS_TARGET,
            waiting_max: APPENDS_WAITING_MAX,
            second_batch_octets: 1 << 20,
            may_create: true,
            planted: Planted::Nothing,
        }
    }
}

/// Faults that tests plant to show that they are found. [`Planted::Nothing`] outside tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    #[default]
    Nothing,
    /// Answers are given although nothing was synced.
    AnswerBeforeSync,
    /// Every [`LOST_REFERENCE`]th reference to a blob is not counted.
    LoseReference,
    /// Segments that were cleaned are used again before it is durable where their blobs are.
    ReuseBeforeMoved,
}

/// How rare a reference is that [`Planted::LoseReference`] loses.
pub const LOST_REFERENCE: u32 = 5;

/// Octets of the log that do not mean what they should. Always an operator's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged(pub String);

/// State that is made of records and of nothing else.
///
/// The state is kept in pages for checkpoints, grouped under a `major` number (an account, say):
/// all pages of one major are captured at the same moment and share one position. `apply` must
/// ignore records at or below the position that `load` gave for the major they touch: the
/// checkpoint has them already. It must also be deterministic: same records, same state.
pub trait Machine: 'static {
    /// Makes one durable record part of the state. The only way in which state changes.
    /// References to blobs are counted through `blobs`, whether the state had the record already
    /// or not (they have a guard of their own).
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged>;
    /// The majors that changed since they were last saved, in any stable order.
    fn dirty(&self) -> Vec<u32>;
    /// Hands out the changed pages of one major as `(minor, octets)`; `None` for a page that is no
    /// more. `at` is the position of the state; `load` gets it back with each page of the major.
    /// The major counts as saved from here on.
    fn save(&mut self, major: u32, at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>));
    /// Takes a page of the last checkpoint. Pages come in any order. `at` is the position of the
    /// last save of this page; a major stands where its newest page stands.
    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged>;
    /// All pages of the checkpoint have come, if there are any; records follow.
    fn loaded(&mut self) -> Result<(), Damaged> {
        Ok(())
    }
    /// The majors whose blobs are read one after the other, in the order in which they lie best; by
    /// default none. They need not be those that there were a moment ago.
    fn shelves(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Names the blobs of one of these in the order in which they are read, so that the cleaner may
    /// put them side by side. One that is named twice lies where it is named first. From a place on, 0
    /// for the first, as many as one step of work should name; and where to go on, if there are more:
    /// the state may be another one by then.
    fn shelve(&self, _major: u32, _from: usize, _each: &mut dyn FnMut(BlobId)) -> Option<usize> {
        None
    }
    /// Names every blob that the state refers to, once per reference; for `verify`.
    fn references(&self, each: &mut dyn FnMut(BlobId));
    /// Everything counts as changed again: the last checkpoint came to nothing, or its pages are
    /// to be written anew.
    fn taint(&mut self);
}

/// One that several have.
impl<M: Machine> Machine for Rc<RefCell<M>> {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        self.borrow_mut().apply(at, record, blobs)
    }

    fn dirty(&self) -> Vec<u32> {
        self.borrow().dirty()
    }

    fn save(&mut self, major: u32, at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.borrow_mut().save(major, at, page);
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.borrow_mut().load(major, minor, at, octets)
    }

    fn loaded(&mut self) -> Result<(), Damaged> {
        self.borrow_mut().loaded()
    }

    fn shelves(&self) -> Vec<u32> {
        self.borrow().shelves()
    }

    fn shelve(&self, major: u32, from: usize, each: &mut dyn FnMut(BlobId)) -> Option<usize> {
        self.borrow().shelve(major, from, each)
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.borrow().references(each);
    }

    fn taint(&mut self) {
        self.borrow_mut().taint();
    }
}
