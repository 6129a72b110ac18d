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

pub mod blob;
pub mod log;
pub mod record;

use crate::model::id::Lsn;
use record::Record;

pub use blob::{BlobDraft, Blobs};
pub use log::{AppendError, Log};
pub use record::Group;

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
    /// Everything counts as changed again: the last checkpoint came to nothing, or its pages are
    /// to be written anew.
    fn taint(&mut self);
}
