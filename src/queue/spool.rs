//! The spool: mail for accounts of other logs that this log has promised to hand over, and what
//! this log has taken from the spools of others.
//!
//! ```text
//!   source: SPOOL_ADD ──────────────────────── all answered ─> SPOOL_DONE ──┐
//!               └─ message, key (source, spool) ─> owner: deliveries + IDEM │
//!                                                         IDEM_FORGET <─────┘
//! ```
//!
//! The source sends again until it is answered; the owner knows by the key what it has. So each
//! account gets the message exactly once, whoever crashes when.
//!
//! Promises:
//!   - the blob of a pending message is referred to until its SPOOL_DONE
//!   - a number of the spool is never used again once anything of it is durable
//!   - a key is kept until the source can no longer send it
//!
//! ```text
//! page  := version u8 | zeros{7} | highest number u64 | entries as in SPOOL_ADD    major 0..=63
//!        | version u8 | zeros{7} | entries as in IDEM                              major 64..=127
//! ```

pub(super) mod mend;

use super::record::{Change, read_key, read_pending, write_key, write_pending};
use crate::bytes::codec::{Put, Reader};
use crate::bytes::hash::{Set, Sorted};
use crate::model::id::{AccountId, BlobId, LogId, Lsn};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::{Blobs, Damaged, Machine};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::Xxh3;

/// Pages of pending messages.
pub const SPOOL_MAJORS: u32 = 64;
/// Pages of keys; their numbers follow.
pub const IDEM_MAJORS: u32 = 64;

const PAGE_VERSION: u8 = 1;
const PAGE_HEAD_OCTETS: usize = 8;

/// A message in the spool of one log. Given once, from 1, in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId(pub u64);

/// A message that is to reach accounts of other logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub blob: BlobId,
    pub size: u32,
    /// When it was received, seconds since 1970.
    pub internal_date: u32,
    /// The mailboxes' marks; nothing to the queue.
    pub marks: u8,
    pub recipients: Vec<(LogId, AccountId)>,
}

impl Pending {
    /// The logs that have recipients, once each.
    pub fn owners(&self) -> BTreeSet<LogId> {
        self.recipients.iter().map(|&(log, _)| log).collect()
    }

    /// The recipients of one log.
    pub fn accounts(&self, owner: LogId) -> Vec<AccountId> {
        let here = self.recipients.iter().filter(|(log, _)| *log == owner);
        here.map(|&(_, account)| account).collect()
    }
}

/// The spool of one log, and its keys of the spools of others.
#[derive(Debug, Default)]
pub struct Spool {
    pending: Sorted<SpoolId, Pending>,
    /// The highest number that was applied, for each page of pending messages.
    highest: Sorted<u32, SpoolId>,
    keys: Sorted<(LogId, SpoolId), BTreeSet<AccountId>>,
    dirty: BTreeSet<u32>,
    loaded: Sorted<u32, Lsn>,
    /// Volatile: the highest number given to anybody.
    assigned: SpoolId,
    /// Volatile: keys whose deliveries are on their way into the log.
    arriving: Set<(LogId, SpoolId)>,
}

fn spool_major(spool: SpoolId) -> u32 {
    u32::try_from(spool.0 % u64::from(SPOOL_MAJORS)).expect("below 64")
}

fn key_major(source: LogId, spool: SpoolId) -> u32 {
    let mixed = spool.0.wrapping_add(u64::from(source.0) * 7) % u64::from(IDEM_MAJORS);
    SPOOL_MAJORS + u32::try_from(mixed).expect("below 64")
}

impl Spool {
    pub fn new() -> Spool {
        Spool::default()
    }

    /// A number for a message that is about to be appended.
    pub fn assign(&mut self) -> SpoolId {
        self.assigned = SpoolId(self.next().0);
        self.assigned
    }

    /// The number that comes next: all that were ever promised are below.
    pub fn next(&self) -> SpoolId {
        let applied = self.highest.values().max().copied().unwrap_or_default();
        SpoolId(self.assigned.max(applied).0 + 1)
    }

    /// A message that was not handed over yet.
    pub fn get(&self, spool: SpoolId) -> Option<&Pending> {
        self.pending.get(&spool)
    }

    /// All messages that were not handed over yet, by number.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = (SpoolId, &Pending)> {
        self.pending.iter().map(|(&spool, pending)| (spool, pending))
    }

    /// Whether an account got a message of another log's spool.
    pub fn has(&self, source: LogId, spool: SpoolId, account: AccountId) -> bool {
        self.keys.get(&(source, spool)).is_some_and(|accounts| accounts.contains(&account))
    }

    /// The keys of a source's spool.
    pub fn keys(&self, source: LogId) -> impl Iterator<Item = SpoolId> {
        let range = (source, SpoolId(0))..=(source, SpoolId(u64::MAX));
        self.keys.range(range).map(|(&(_, spool), _)| spool)
    }

    /// How many keys are kept.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Marks a key as on its way into the log; `false` if it is already.
    pub fn arrive(&mut self, source: LogId, spool: SpoolId) -> bool {
        self.arriving.insert((source, spool))
    }

    /// The group of an arriving key was answered.
    pub fn arrived(&mut self, source: LogId, spool: SpoolId) {
        self.arriving.remove(&(source, spool));
    }

    /// Names every blob that a pending message refers to.
    pub fn references(&self, each: &mut dyn FnMut(BlobId)) {
        for pending in self.pending.values() {
            each(pending.blob);
        }
    }

    /// A digest of the whole state: the same after recovery as before the crash.
    pub fn digest(&self) -> u128 {
        let mut digest = Xxh3::new();
        for major in 0..SPOOL_MAJORS + IDEM_MAJORS {
            digest.update(&self.page(major));
        }
        digest.digest128()
    }

    fn touch(&mut self, major: u32) {
        self.dirty.insert(major);
    }

    /// Whether the checkpoint had what happened to a page at `at`.
    fn has_it(&self, major: u32, at: Lsn) -> bool {
        self.loaded.get(&major).is_some_and(|&loaded| at <= loaded)
    }

    fn add(&mut self, at: Lsn, spool: SpoolId, pending: Pending) -> Result<(), Damaged> {
        let major = spool_major(spool);
        if self.has_it(major, at) {
            return Ok(());
        }
        let highest = self.highest.entry(major).or_default();
        if spool <= *highest {
            return Err(Damaged(format!("spool {} after {}", spool.0, highest.0)));
        }
        *highest = spool;
        self.pending.insert(spool, pending);
        self.touch(major);
        Ok(())
    }

    fn done(&mut self, at: Lsn, spool: SpoolId, blob: BlobId) -> Result<(), Damaged> {
        let major = spool_major(spool);
        if self.has_it(major, at) {
            return Ok(());
        }
        let held = self.pending.get(&spool).map(|pending| pending.blob);
        if held != Some(blob) {
            return Err(Damaged(format!("spool {} with blob {blob}, has {held:?}", spool.0)));
        }
        self.pending.remove(&spool);
        self.touch(major);
        Ok(())
    }

    fn idem(
        &mut self,
        at: Lsn,
        source: LogId,
        spool: SpoolId,
        accounts: &[AccountId],
    ) -> Result<(), Damaged> {
        let major = key_major(source, spool);
        if self.has_it(major, at) {
            return Ok(());
        }
        let known = self.keys.entry((source, spool)).or_default();
        for &account in accounts {
            if !known.insert(account) {
                let spool = spool.0;
                return Err(Damaged(format!("account {account} got {source}/{spool} twice")));
            }
        }
        self.touch(major);
        Ok(())
    }

    fn forget(&mut self, at: Lsn, source: LogId, spools: &[SpoolId]) {
        for &spool in spools {
            let major = key_major(source, spool);
            if !self.has_it(major, at) && self.keys.remove(&(source, spool)).is_some() {
                self.touch(major);
            }
        }
    }

    fn page(&self, major: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE_HEAD_OCTETS];
        page[0] = PAGE_VERSION;
        if major < SPOOL_MAJORS {
            page.put_u64(self.highest.get(&major).copied().unwrap_or_default().0);
            for (&spool, pending) in &self.pending {
                if spool_major(spool) == major {
                    write_pending(&mut page, spool, pending);
                }
            }
        } else {
            for (&(source, spool), accounts) in &self.keys {
                if key_major(source, spool) == major {
                    write_key(&mut page, source, spool, accounts.iter().copied());
                }
            }
        }
        page
    }
}

impl Machine for Spool {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        if record.flags & FLAG_SKIPPABLE != 0 && !Change::is_known(record.kind) {
            return Ok(());
        }
        match Change::read(&record)? {
            Change::Add(spool, pending) => {
                let blob = pending.blob;
                self.add(at, spool, pending)?;
                blobs.retain(blob);
            }
            Change::Done(spool, blob) => {
                self.done(at, spool, blob)?;
                blobs.release(blob);
            }
            Change::Idem(source, spool, accounts) => self.idem(at, source, spool, &accounts)?,
            Change::Forget(source, spools) => self.forget(at, source, &spools),
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.iter().copied().collect()
    }

    fn save(&mut self, major: u32, _at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty.remove(&major);
        page(0, Some(self.page(major)));
    }

    fn load(&mut self, major: u32, _minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        let damaged = |_| Damaged(format!("page {major} of the spool is not as it should be"));
        let mut reader = Reader::new(octets);
        let head = reader.take(PAGE_HEAD_OCTETS).map_err(damaged)?;
        if head[0] != PAGE_VERSION {
            return Err(Damaged(format!("page {major} of the spool has version {}", head[0])));
        }
        self.loaded.insert(major, at);
        if major < SPOOL_MAJORS {
            self.highest.insert(major, SpoolId(reader.u64().map_err(damaged)?));
        }
        while !reader.rest().is_empty() {
            if major < SPOOL_MAJORS {
                let (spool, pending) = read_pending(&mut reader).map_err(damaged)?;
                self.pending.insert(spool, pending);
            } else {
                let (source, spool, accounts) = read_key(&mut reader).map_err(damaged)?;
                self.keys.insert((source, spool), accounts.into_iter().collect());
            }
        }
        Ok(())
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        Spool::references(self, each);
    }

    fn taint(&mut self) {
        // Also those that are empty: a page that says otherwise may be in the checkpoint.
        self.dirty.extend(0..SPOOL_MAJORS + IDEM_MAJORS);
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
