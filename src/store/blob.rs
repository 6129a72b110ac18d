//! Blobs: message octets, written once, referred to by entries, counted here.

use crate::model::id::{BlobId, Lsn};

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
