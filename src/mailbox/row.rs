//! A row: what the index keeps of one message in one mailbox; in memory it is narrower (narrow.rs).
//!
//! ```text
//! uid 4 | modseq, as delta to the chunk's base 4 | internal date 4 | save date 4 | size 4
//! | thread 4 | blob, lower part 4 | blob, upper part 2 | keyword set 2 | flags 1 | marks 1
//! ```

use crate::model::id::{BlobId, ModSeq, Uid};

/// Blob numbers fit in 48 bits: a million messages a second for nine years.
pub(super) const BLOB_MAX: u64 = (1 << 48) - 1;

/// System flags of a message (RFC 9051 §2.3.2), one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const SEEN: Flags = Flags(1);
    pub const ANSWERED: Flags = Flags(2);
    pub const FLAGGED: Flags = Flags(4);
    pub const DELETED: Flags = Flags(8);
    pub const DRAFT: Flags = Flags(16);

    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    #[must_use]
    pub const fn with(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }

    #[must_use]
    pub const fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }
}

/// What was found out about the octets of a message when it came in, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u8);

impl Marks {
    /// Some line begins with a dot: sending it by POP3 or SMTP needs stuffing.
    pub const DOT_LINES: Marks = Marks(1);
    /// Came with SMTPUTF8 and has 8-bit octets in its header (RFC 6532).
    pub const UTF8_HEADER: Marks = Marks(2);
    /// Holds octets over 127.
    pub const EIGHT_BIT: Marks = Marks(4);
    /// Came with BODY=BINARYMIME (RFC 3030): lines may be of any length, CR and LF may stand alone.
    pub const BINARY: Marks = Marks(8);
    /// Does not end in CRLF.
    pub const OPEN_END: Marks = Marks(16);
    /// An import brought it from another server, which knows it by a UID.
    pub const MOVED_IN: Marks = Marks(32);
    /// The owner of a list is in its Return-Path instead of its sender: no program answers it.
    pub const LISTED: Marks = Marks(64);

    pub const fn has(self, marks: Marks) -> bool {
        self.0 & marks.0 == marks.0
    }

    #[must_use]
    pub const fn with(self, marks: Marks) -> Marks {
        Marks(self.0 | marks.0)
    }
}

/// A message in a mailbox, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub uid: Uid,
    /// When it last changed, at the latest (RFC 7162 §3.1).
    pub modseq: ModSeq,
    /// When it was received, seconds since 1970 (RFC 9051 §2.3.3).
    pub internal_date: u32,
    /// When it came into this mailbox, seconds since 1970 (RFC 8514).
    pub save_date: u32,
    /// Octets with CRLF line ends (RFC 9051 §2.3.4).
    pub size: u32,
    /// The account's number of the conversation; 0 while none was worked out.
    pub thread: u32,
    pub blob: BlobId,
    /// The set of keywords, by its number in the mailbox ([`super::Keywords`]).
    pub keywords: u16,
    pub flags: Flags,
    pub marks: Marks,
}

/// An entry, packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub uid: u32,
    /// To be added to the base of the chunk.
    pub modseq_delta: u32,
    pub internal_date: u32,
    pub save_date: u32,
    pub size: u32,
    pub thread: u32,
    pub blob_low: u32,
    pub blob_high: u16,
    /// The number of a keyword set of the mailbox; 0 is the empty one.
    pub keywords: u16,
    pub flags: u8,
    pub marks: u8,
}

impl Row {
    /// Packs `entry`, whose blob is at most [`BLOB_MAX`].
    pub(super) fn pack(entry: &Entry, modseq_delta: u32) -> Row {
        let low = entry.blob.0 & u64::from(u32::MAX);
        Row {
            uid: entry.uid.0,
            modseq_delta,
            internal_date: entry.internal_date,
            save_date: entry.save_date,
            size: entry.size,
            thread: entry.thread,
            blob_low: u32::try_from(low).expect("masked to 32 bits"),
            blob_high: u16::try_from(entry.blob.0 >> 32).expect("blobs have 48 bits, checked"),
            keywords: entry.keywords,
            flags: entry.flags.0,
            marks: entry.marks.0,
        }
    }

    pub(super) fn is_unseen(&self) -> bool {
        !Flags(self.flags).has(Flags::SEEN)
    }

    pub(super) fn is_deleted(&self) -> bool {
        Flags(self.flags).has(Flags::DELETED)
    }

    pub(super) fn blob(&self) -> BlobId {
        BlobId(u64::from(self.blob_high) << 32 | u64::from(self.blob_low))
    }

    /// The entry; `base` is that of the chunk.
    pub(super) fn unpack(&self, base: u64) -> Entry {
        Entry {
            uid: Uid(self.uid),
            modseq: ModSeq(base + u64::from(self.modseq_delta)),
            internal_date: self.internal_date,
            save_date: self.save_date,
            size: self.size,
            thread: self.thread,
            blob: self.blob(),
            keywords: self.keywords,
            flags: Flags(self.flags),
            marks: Marks(self.marks),
        }
    }
}
