//! The log of one shard.

use super::record::Group;
use crate::env::{Env, File};
use crate::model::id::{BlobId, LogId, Lsn};
use std::future::Future;
use std::ops::Deref;
use std::rc::Rc;

/// Why a group is not in the log. None of its effects will ever be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Too many groups wait, or the disk has no room: 452, try later.
    Full,
    /// Larger than a segment: never possible.
    TooLarge,
    /// A write or sync failed; the log goes on elsewhere or is read-only: 451.
    Failed(String),
}

/// Why a blob could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No such blob: never there, or its last reference is gone.
    Unknown,
    /// The disk failed, or the checksum did not match: this blob is damaged.
    Damaged(String),
}

/// One shard's log; clones are the same log.
#[derive(Clone)]
pub struct Log<E: Env> {
    shared: Rc<E>,
}

/// Message octets in memory: shared, never copied. Holds the block it lies in.
pub struct BlobView {
    octets: Rc<dyn Deref<Target = [u8]>>,
}

impl BlobView {
    /// The summary that was written with the blob.
    pub fn summary(&self) -> &[u8] {
        &self.octets
    }
    /// The block that holds the message, and where in it; for [`crate::bytes::chain::Chain::link`].
    pub fn message(&self) -> (&Rc<dyn Deref<Target = [u8]>>, std::ops::Range<usize>) {
        (&self.octets, 0..self.octets.len())
    }
}

impl<E: Env> Log<E> {
    pub fn id(&self) -> LogId {
        LogId(0)
    }

    pub fn env(&self) -> &E {
        &self.shared
    }

    /// A number for a blob that is to be appended. Numbers of groups that fail are not used again.
    pub fn reserve_blob(&self) -> BlobId {
        BlobId(0)
    }

    /// Queues `group` before it returns; the future resolves when the group is durable and
    /// applied, or certainly will never be. Dropping the future does not take the group back.
    #[expect(unused_variables, clippy::unused_async, reason = "skeleton")]
    pub fn append(&self, group: Group) -> impl Future<Output = Result<Lsn, AppendError>> + use<E> {
        async { Err(AppendError::Full) }
    }

    /// Reads a blob: out of memory if it was written or read lately, else by one read.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn read(&self, blob: BlobId) -> Result<BlobView, ReadError> {
        let _ = blob;
        Err(ReadError::Unknown)
    }

    /// Makes restarting fast: saves what changed of every machine. Also runs by itself.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn checkpoint(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

/// Keeps the trait in use until the log is whole.
#[expect(dead_code, reason = "skeleton")]
fn file_len<F: File>(file: &F) -> u64 {
    file.len()
}
