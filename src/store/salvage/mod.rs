//! A new log out of a damaged one: what is whole is kept, what is lost is named.
//!
//! ```text
//!   scan      every slot, octet by octet: whole blobs, whole records, pages of checkpoints
//!   rebuild   the newest checkpoint, as far as it is whole → the records behind it, in the order of
//!             the log, each by itself → what has no whole blob is let go of
//!   write     survivors into the cold stream of a new log, the state into its first checkpoint
//! ```
//!
//! Of the damaged log nothing is written, and nothing is believed that does not pass its checksum:
//! a blob that is damaged is lost, and never comes back with other octets. What batches had lost is
//! not guessed: a record that names what is not there is passed over, or does as much of its work as
//! can be done, which is for its [`Mender`] to say.
//!
//! Where pages of the checkpoint are lost, older versions of them that still lie in the index and
//! all records that still lie in any segment stand in for them. That may bring back what was removed
//! long ago; blobs that the blob table knows to be gone are left out.

mod rebuild;
mod scan;
mod write;

use super::Machine;
use super::record::{Record, kind};
use crate::model::id::{BlobId, Lsn};
use crate::store::Damaged;
use serde::Serialize;
use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;

pub use rebuild::{Rebuilt, rebuild};
pub use write::write;

/// One log's files, which are read and never written.
pub trait Source {
    /// The slots that have a file, and its octets.
    fn slots(&self) -> Vec<(u32, u64)>;
    /// Reads so many octets of a slot, or fails.
    fn read(&self, slot: u32, at: u64, len: usize) -> io::Result<Vec<u8>>;
    /// The superblock's file, as far as it can be read.
    fn superblock(&self) -> Vec<u8>;
}

/// A range of octets in which something is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub slot: u32,
    /// 0: not known.
    pub segment: u64,
    pub from: u64,
    pub to: u64,
    pub what: String,
    /// The blob that lay there.
    #[serde(skip)]
    pub(super) blob: Option<BlobId>,
    /// No batch of it is later.
    #[serde(skip)]
    pub(super) upto: Option<Lsn>,
}

/// A page of a checkpoint that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPage {
    pub owner: u8,
    pub major: u32,
    pub minor: u64,
    /// An older version of it was found.
    pub has_older: bool,
}

/// What referred to a blob that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostEntry {
    /// 0: of no account.
    pub account: u32,
    /// The mailbox, or what else it was in.
    pub place: String,
    /// The UID, or the number in its place.
    pub number: u64,
    /// Seconds since 1970.
    pub date: u32,
    pub octets: u64,
    pub blob: u64,
    /// Who sent it and to whom, where that is known.
    pub about: String,
}

/// All that is known of what is lost in one log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    pub ranges: Vec<Lost>,
    /// Segments that the checkpoint names and that are nowhere.
    pub segments: Vec<u64>,
    /// First and last number of batches that are nowhere, or not in full.
    pub batches: Vec<(u64, u64)>,
    /// No copy of the superblock is whole: how far the log reached is not known.
    pub is_end_unknown: bool,
    /// No list says which pages the checkpoint had: of those that are nowhere nobody knows.
    pub is_list_lost: bool,
    pub pages: Vec<LostPage>,
    /// Records that could not be applied, and what else was made up for.
    pub notes: Vec<String>,
    /// What is known to have been there, and has no whole blob.
    pub entries: Vec<LostEntry>,
}

impl Losses {
    /// Whether nothing is lost at all.
    pub fn is_empty(&self) -> bool {
        *self == Losses::default()
    }

    /// Whether what was said of blobs, not only blobs and where they lie, may be lost.
    pub fn of_records(&self) -> bool {
        let of_machines = |page: &LostPage| page.owner >= kind::MAILBOX_FIRST;
        self.is_end_unknown
            || self.is_list_lost
            || !self.batches.is_empty()
            || self.pages.iter().any(of_machines)
    }
}

/// What is known of blobs.
pub struct Known<'a> {
    scan: &'a scan::Scan,
    table: &'a rebuild::Table,
    /// When the batch was written that is applied, µs since 1970; 0 if that is not known.
    pub time: u64,
}

impl Known<'_> {
    /// Whether the blob is there with all its octets.
    pub fn is_whole(&self, id: BlobId) -> bool {
        self.scan.blobs.contains_key(&id)
    }

    /// Whether nothing referred to the blob any more when the checkpoint was made.
    pub fn is_dead(&self, id: BlobId) -> bool {
        self.scan.blobs.get(&id).is_some_and(|place| self.table.is_dead(id, place.born))
    }

    /// The same of one that was there before the checkpoint, if it was at all.
    pub fn was_dead(&self, id: BlobId) -> bool {
        self.table.is_dead(id, Lsn(0))
    }

    /// Octets of the message.
    pub fn octets(&self, id: BlobId) -> Option<u64> {
        self.scan.blobs.get(&id).map(|place| place.message)
    }
}

/// Hears of each reference that a record adds (1) or takes back (-1).
pub type Count<'a> = dyn FnMut(BlobId, i32) + 'a;

/// Makes a [`Machine`] of what is left of its pages and records.
pub trait Mender {
    /// This page of the checkpoint is lost; told before any comes.
    fn lost(&mut self, major: u32, minor: u64, at: Lsn);
    /// A page of the checkpoint.
    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged>;
    /// An older version of a page that is lost.
    fn load_older(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8])
    -> Result<(), Damaged>;
    /// All pages of the checkpoint have come. Names those, by major and minor number, that are lost
    /// although no list says so, with a note about each major.
    fn loaded(&mut self, _note: &mut dyn FnMut(String)) -> Vec<(u32, u64)> {
        Vec::new()
    }
    /// Does as much of the record's work as can be done. An error says what was not.
    fn apply(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        known: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged>;
    /// Records from here on are later than this batch, from which on the checkpoint is replayed.
    fn reached(&mut self, at: Lsn, note: &mut dyn FnMut(String)) -> Result<(), Damaged>;
    /// Lets go of everything that has no whole blob.
    fn let_go(
        &mut self,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
        note: &mut dyn FnMut(String),
    );
    /// Records may be lost that gave numbers which were told: those that come are beyond them.
    fn pass_over_numbers(&mut self);
    /// Names every blob that is referred to.
    fn references(&self, each: &mut dyn FnMut(BlobId));
}

/// Kinds of records and who mends their machines.
pub type Menders = Vec<(RangeInclusive<u8>, Rc<RefCell<dyn Mender>>)>;

/// For a machine whose records say how things are, not how they change, and that has no blobs.
pub struct Plain<M: Machine> {
    machine: M,
    has_lost: bool,
    is_reached: bool,
}

impl<M: Machine> Plain<M> {
    /// Fills `machine`, which is empty.
    pub fn new(machine: M) -> Plain<M> {
        Plain { machine, has_lost: false, is_reached: false }
    }
}

impl<M: Machine> Mender for Plain<M> {
    fn lost(&mut self, _: u32, _: u64, _: Lsn) {
        self.has_lost = true;
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.machine.load(major, minor, at, octets)
    }

    /// What it says of later records holds: they come, as far as they are there.
    fn load_older(
        &mut self,
        major: u32,
        minor: u64,
        at: Lsn,
        octets: &[u8],
    ) -> Result<(), Damaged> {
        self.machine.load(major, minor, at, octets)
    }

    fn apply(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        _: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged> {
        if !self.is_reached && !self.has_lost {
            // The checkpoint has all of it.
            return Ok(());
        }
        let mut change = |_: Lsn, id: BlobId, by: i32| count(id, by);
        self.machine.apply(at, record, &mut super::Blobs::observed(at, &mut change))
    }

    fn reached(&mut self, _: Lsn, _: &mut dyn FnMut(String)) -> Result<(), Damaged> {
        self.is_reached = true;
        self.machine.loaded()
    }

    fn let_go(&mut self, _: &Known<'_>, _: &mut dyn FnMut(LostEntry), _: &mut dyn FnMut(String)) {}

    fn pass_over_numbers(&mut self) {}

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.machine.references(each);
    }
}
