//! Records: what a batch is made of besides blobs.
//!
//! ```text
//! record := len u32 | ck u32 | kind u8 | ver u8 | flags u16 | account u32 | body | zeros to 8
//! ```
//! `len` counts the body. `ck` is the lower half of the xxh3-64 of what follows it and the body,
//! seeded with the place of the batch, so that a record cannot pass for another of the same batch.

use super::blob::BlobDraft;

/// The kinds, all in one table so that no two floors take the same number. Never renumber.
pub mod kind {
    /// 1..=15 are the store's own.
    pub const PAGE: u8 = 1;
    pub const ROOT: u8 = 2;
    pub const PAGE_TABLE: u8 = 3;
    /// Blobs lie elsewhere now: the only one of these in the hot stream.
    pub const RELOCATE: u8 = 4;

    /// 16..=47 are the mailboxes'.
    pub const MAILBOX_FIRST: u8 = 16;
    pub const MAILBOX_LAST: u8 = 47;
    /// 48..=51 are the queue's spool: mail on its way to other shards.
    pub const SPOOL_FIRST: u8 = 48;
    pub const SPOOL_LAST: u8 = 51;
    /// 52..=63 are the queue's outgoing mail.
    pub const QUEUE_FIRST: u8 = 52;
    pub const QUEUE_LAST: u8 = 63;
    /// 64..=79 are the directory's.
    pub const DIRECTORY_FIRST: u8 = 64;
    pub const DIRECTORY_LAST: u8 = 79;
    /// 80..=83 are of answers that programs of this server gave.
    pub const ANSWERED_FIRST: u8 = 80;
    pub const ANSWERED_LAST: u8 = 83;

    /// The last one of all.
    pub const HIGHEST: u8 = ANSWERED_LAST;
}

/// A reader that does not know the kind may pass over the record.
pub const FLAG_SKIPPABLE: u16 = 1;

/// One record as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: u8,
    pub version: u8,
    pub flags: u16,
    /// The account it is about, 0 for none.
    pub account: u32,
    pub body: &'a [u8],
}

/// Records and blobs that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Group {
    pub records: Vec<OwnedRecord>,
    pub blobs: Vec<BlobDraft>,
}

/// A record on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub kind: u8,
    pub version: u8,
    pub flags: u16,
    pub account: u32,
    pub body: Vec<u8>,
}

impl Group {
    pub fn new() -> Group {
        Group::default()
    }

    /// Adds a record that every reader must understand.
    pub fn record(&mut self, kind: u8, version: u8, account: u32, body: Vec<u8>) {
        self.records.push(OwnedRecord { kind, version, flags: 0, account, body });
    }
}
