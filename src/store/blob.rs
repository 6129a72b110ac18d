//! Blobs: message octets, written once, referred to by entries, counted here.

use crate::bytes::chain::Shared;
use crate::model::id::{BlobId, Lsn};
use std::ops::Range;
use std::rc::Rc;

/// A blob on its way into the log.
#[derive(Debug)]
pub struct BlobDraft {
    /// From [`super::Log::reserve_blob`] of the log it goes into.
    pub id: BlobId,
    /// What is kept in front of the octets so that listings need not read them; the store does
    /// not look inside.
    pub summary: Vec<u8>,
    /// Parts that together are the message, in order; CRLF line ends.
    pub parts: Vec<Vec<u8>>,
}

impl BlobDraft {
    /// Octets of the message.
    pub fn octets(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

/// The reference counts while one record is applied.
pub struct Blobs<'a> {
    pub(super) at: Lsn,
    pub(super) change: &'a mut dyn FnMut(Lsn, BlobId, i32),
}

impl Blobs<'_> {
    /// For tests of machines without a log: `change` sees each blob and the change of its count.
    pub fn observed(at: Lsn, change: &mut dyn FnMut(Lsn, BlobId, i32)) -> Blobs<'_> {
        Blobs { at, change }
    }

    /// One more entry refers to the blob.
    pub fn retain(&mut self, id: BlobId) {
        (self.change)(self.at, id, 1);
    }

    /// One entry fewer refers to the blob; with the last one it is gone.
    pub fn release(&mut self, id: BlobId) {
        (self.change)(self.at, id, -1);
    }
}

/// A blob in memory: shared with whoever else holds it, never copied.
#[derive(Clone)]
pub struct BlobView {
    owner: Rc<dyn Shared>,
    summary: Rc<[u8]>,
    message: Range<usize>,
    cost: usize,
}

impl BlobView {
    /// `message` is where the message lies in `owner`; `cost` what holding it takes, in octets.
    pub(super) fn new(
        owner: Rc<dyn Shared>,
        summary: Rc<[u8]>,
        message: Range<usize>,
        cost: usize,
    ) -> BlobView {
        let cost = cost + summary.len();
        BlobView { owner, summary, message, cost }
    }

    /// What was written in front of the message.
    pub fn summary(&self) -> &[u8] {
        &self.summary
    }

    /// The same, kept alive by itself.
    pub fn shared_summary(&self) -> Rc<[u8]> {
        Rc::clone(&self.summary)
    }

    /// The message.
    pub fn octets(&self) -> &[u8] {
        &self.owner[self.message.clone()]
    }

    /// What holds the message, and where in it; for [`crate::bytes::chain::Chain::link`].
    pub fn message(&self) -> (&Rc<dyn Shared>, Range<usize>) {
        (&self.owner, self.message.clone())
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}
