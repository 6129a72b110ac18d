//! All accounts of one shard, made of the mailboxes' records and of nothing else.
//!
//! ```text
//!   deliver, expunge ── numbers are assigned ──> Group ──> log ──> apply ──> view
//!        (here, between two awaits)                        (durable)   (here)
//! ```
//!
//! UIDs and change counters are assigned when a record is made and counted here ahead of what was
//! applied. If the group fails its numbers are lost, not used again: a gap is allowed, a number
//! with two meanings is not. Nothing of it can be seen before `apply`.
//!
//! Illegal: to await between [`Accounts::assign`] and the append, since records have to come into
//! the log in the order of their numbers.

use super::account::{Account, INBOX, INBOX_NAME};
use super::chunk::Chunk;
use super::page::{HEAD_MINOR, decode_chunk, split_minor, with_head};
use super::quota::{Quota, Refused, Usage};
use super::record::{Change, Create, Deliver, Expunge};
use super::view::View;
use crate::bytes::hash::Map;
use crate::model::id::{AccountId, BlobId, Lsn, MailboxId, ModSeq, Uid, UidValidity};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::{Blobs, Damaged, Machine};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::Xxh3;

/// Highest numbers given to deliveries for an account that is not there yet.
#[derive(Clone, Copy, Debug)]
struct Unborn {
    uidvalidity: UidValidity,
    assign: Uid,
    assigned: ModSeq,
}

/// The numbers of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// INBOX has to be made in the same group.
    pub create: Option<Create<'static>>,
    pub uid: Uid,
    pub modseq: ModSeq,
}

/// The accounts of one shard.
#[derive(Debug, Default)]
pub struct Accounts {
    by_id: Map<AccountId, Box<Account>>,
    dirty: BTreeSet<AccountId>,
    /// Chunks whose head was not loaded yet.
    early: Map<AccountId, Vec<(u64, Chunk)>>,
    /// Volatile: see the header. No more entries than accounts that mail was tried for.
    unborn: Map<AccountId, Unborn>,
    /// Volatile: messages whose removal is on its way into the log.
    leaving: BTreeSet<(AccountId, MailboxId, Uid)>,
    /// Volatile: deliveries on their way into the log, of accounts with a quota.
    reserved: Map<AccountId, Usage>,
    /// See [`Accounts::plant_uid_reuse`].
    reuses_uids: bool,
}

impl Accounts {
    pub fn new() -> Accounts {
        Accounts::default()
    }

    /// Plants a fault, for the tests that show that such a fault is found: the UIDs of the last
    /// messages of a mailbox are given again once those are removed.
    pub fn plant_uid_reuse(&mut self) {
        self.reuses_uids = true;
    }

    /// Accounts that ever got mail, deleted ones included.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Messages of all accounts.
    pub fn messages(&self) -> u64 {
        self.by_id.values().map(|account| account.usage().messages).sum()
    }

    /// A mailbox at this moment; empty if it is not there.
    pub fn view(&self, account: AccountId, mailbox: MailboxId) -> View {
        let folder = self.by_id.get(&account).and_then(|account| account.folder(mailbox));
        folder.map_or_else(View::empty, super::folder::Folder::view)
    }

    /// The mailboxes of an account.
    pub fn mailboxes(&self, account: AccountId) -> Vec<MailboxId> {
        let account = self.by_id.get(&account);
        account.map_or_else(Vec::new, |account| account.folders().iter().map(|f| f.id).collect())
    }

    /// What an account keeps.
    pub fn usage(&self, account: AccountId) -> Usage {
        self.by_id.get(&account).map_or_else(Usage::default, |account| account.usage())
    }

    /// Whether the account was deleted.
    pub fn is_closed(&self, account: AccountId) -> bool {
        self.by_id.get(&account).is_some_and(|account| account.closed)
    }

    /// Deleted accounts that still hold messages: the deletion was interrupted, go on with it.
    pub fn closing(&self) -> Vec<AccountId> {
        let half = |account: &Account| account.closed && !account.folders().is_empty();
        let mut found: Vec<AccountId> =
            self.by_id.iter().filter(|(_, a)| half(a)).map(|(&id, _)| id).collect();
        found.sort_unstable();
        found
    }

    /// Whether the account would take a message of `size` octets now, what is on its way counted
    /// in. For the answer to RCPT.
    pub fn room(&self, account: AccountId, quota: Quota, size: u32) -> Result<(), Refused> {
        if self.is_closed(account) {
            return Err(Refused::Closed);
        }
        let mut usage = self.usage(account);
        if let Some(reserved) = self.reserved.get(&account) {
            usage.octets = usage.octets.saturating_add(reserved.octets);
            usage.messages = usage.messages.saturating_add(reserved.messages);
        }
        usage.room(quota, size)
    }

    /// Counts a delivery against the quota until [`Accounts::unreserve`].
    pub(super) fn reserve(&mut self, account: AccountId, size: u32) {
        let reserved = self.reserved.entry(account).or_default();
        reserved.octets += u64::from(size);
        reserved.messages += 1;
    }

    pub(super) fn unreserve(&mut self, account: AccountId, size: u32) {
        let reserved = self.reserved.get_mut(&account).expect("reserved before");
        reserved.octets -= u64::from(size);
        reserved.messages -= 1;
        if reserved.messages == 0 {
            self.reserved.remove(&account);
        }
    }

    /// Numbers for one delivery into INBOX. `now`, in seconds, becomes the UIDVALIDITY if INBOX
    /// has to be made. The records have to be appended before the next await.
    pub(super) fn assign(&mut self, id: AccountId, now: u32) -> Result<Assigned, Refused> {
        let Some(account) = self.by_id.get_mut(&id) else {
            return self.assign_unborn(id, now);
        };
        if account.closed {
            return Err(Refused::Closed);
        }
        let modseq = ModSeq(account.assigned.0 + 1);
        let Some(folder) = account.folder_mut(INBOX) else { return Err(Refused::Closed) };
        let uid = folder.assign;
        folder.assign = next(uid)?;
        account.assigned = modseq;
        Ok(Assigned { create: None, uid, modseq })
    }

    /// As long as the account is not there each delivery makes it: the one before may fail.
    fn assign_unborn(&mut self, id: AccountId, now: u32) -> Result<Assigned, Refused> {
        let unborn = self.unborn.entry(id).or_insert(Unborn {
            uidvalidity: UidValidity(now.max(1)),
            assign: Uid(1),
            assigned: ModSeq(0),
        });
        let uid = unborn.assign;
        unborn.assign = next(uid)?;
        let made = ModSeq(unborn.assigned.0 + 1);
        unborn.assigned = ModSeq(made.0 + 1);
        let uidvalidity = unborn.uidvalidity;
        let create = Create { mailbox: INBOX, uidvalidity, modseq: made, name: INBOX_NAME };
        Ok(Assigned { create: Some(create), uid, modseq: unborn.assigned })
    }

    /// A change counter for a removal; `None` if the account is not there.
    pub(super) fn assign_modseq(&mut self, id: AccountId) -> Option<ModSeq> {
        let account = self.by_id.get_mut(&id)?;
        account.assigned = ModSeq(account.assigned.0 + 1);
        Some(account.assigned)
    }

    /// The blob of a message.
    pub(super) fn blob(&self, account: AccountId, mailbox: MailboxId, uid: Uid) -> Option<BlobId> {
        self.by_id.get(&account)?.folder(mailbox)?.blob(uid)
    }

    pub(super) fn leaving(&mut self) -> &mut BTreeSet<(AccountId, MailboxId, Uid)> {
        &mut self.leaving
    }

    /// Whether counts, order and pages agree. To be called after recovery, and by `store verify`.
    pub fn verify(&self) -> Result<(), Damaged> {
        if let Some(account) = self.early.keys().min() {
            return Err(Damaged(format!("account {account}: rows without a head")));
        }
        for (id, account) in &self.by_id {
            account.verify().map_err(|error| Damaged(format!("account {id}: {}", error.0)))?;
        }
        Ok(())
    }

    /// Names every blob that some row refers to, once for each.
    pub fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.by_id.values().for_each(|account| account.references(each));
    }

    /// A digest of the state of one account; 0 if it is not there.
    pub fn digest_of(&self, account: AccountId) -> u128 {
        let Some(account) = self.by_id.get(&account) else { return 0 };
        let mut digest = Xxh3::new();
        account.digest(&mut digest);
        digest.digest128()
    }

    /// A digest of the whole state: the same after recovery as before the crash.
    pub fn digest(&self) -> u128 {
        let mut ids: Vec<AccountId> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        let mut digest = Xxh3::new();
        for id in ids {
            digest.update(&id.0.to_le_bytes());
            digest.update(&self.digest_of(id).to_le_bytes());
        }
        digest.digest128()
    }

    /// Octets of memory that the accounts take, unused room of vectors and tables included.
    pub fn heap_octets(&self) -> usize {
        // A table is 7/8 full at most, has a power of two of places, and an octet beside each.
        let places = (self.by_id.capacity() * 8).div_ceil(7).next_power_of_two();
        let place = size_of::<(AccountId, Box<Account>)>() + 1;
        // A node of the tree has 11 keys and is half full at least.
        let tree = self.dirty.len() * 16;
        let accounts = self.by_id.values().map(|account| account.heap_octets());
        places * place + tree + accounts.sum::<usize>()
    }

    fn apply_create(&mut self, id: AccountId, create: &Create<'_>) -> Result<(), Damaged> {
        let account = self.by_id.entry(id).or_default();
        account.apply_create(create)?;
        let unborn = self.unborn.remove(&id);
        let same = unborn.filter(|unborn| unborn.uidvalidity == create.uidvalidity);
        if let (Some(unborn), Some(folder)) = (same, account.folder_mut(create.mailbox)) {
            folder.assign = folder.assign.max(unborn.assign);
            account.assigned = account.assigned.max(unborn.assigned);
        }
        Ok(())
    }

    fn apply_deliver(&mut self, id: AccountId, deliver: &Deliver) -> Result<(), Damaged> {
        self.known(id)?.apply_deliver(deliver)
    }

    fn apply_expunge(&mut self, id: AccountId, expunge: &Expunge<'_>) -> Result<(), Damaged> {
        self.known(id)?.apply_expunge(expunge)?;
        if self.reuses_uids
            && let Some(folder) = self.known(id)?.folder_mut(expunge.mailbox)
        {
            folder.reuse_uids();
        }
        Ok(())
    }

    fn known(&mut self, id: AccountId) -> Result<&mut Account, Damaged> {
        let account = self.by_id.get_mut(&id).map(|account| &mut **account);
        account.ok_or_else(|| Damaged(format!("account {id} is not there")))
    }

    fn change(&mut self, id: AccountId, change: &Change<'_>) -> Result<(), Damaged> {
        match change {
            Change::Create(create) => self.apply_create(id, create)?,
            Change::Deliver(deliver) => self.apply_deliver(id, deliver)?,
            Change::Expunge(expunge) => self.apply_expunge(id, expunge)?,
            Change::AccountDelete => {
                self.unborn.remove(&id);
                self.by_id.entry(id).or_default().apply_delete();
            }
        }
        let account = self.known(id)?;
        if !account.dirty {
            account.dirty = true;
            self.dirty.insert(id);
        }
        Ok(())
    }
}

/// The UID after `uid`; the last one is never given, as UIDNEXT has to be a UID too.
fn next(uid: Uid) -> Result<Uid, Refused> {
    uid.0.checked_add(1).map(Uid).ok_or(Refused::Exhausted)
}

impl Machine for Accounts {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        if record.flags & FLAG_SKIPPABLE != 0 && !Change::is_known(record.kind) {
            return Ok(());
        }
        let id = AccountId(record.account);
        let change = Change::read(&record)?;
        let has_it = self.by_id.get(&id).is_some_and(|account| at <= account.loaded);
        if !has_it {
            self.change(id, &change)
                .map_err(|error| Damaged(format!("account {id}, batch {at}: {}", error.0)))?;
        }
        match change {
            Change::Deliver(deliver) => blobs.retain(deliver.entry.blob),
            Change::Expunge(expunge) => expunge.messages().for_each(|(_, b)| blobs.release(b)),
            Change::Create(_) | Change::AccountDelete => {}
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.iter().map(|account| account.0).collect()
    }

    fn save(&mut self, major: u32, _at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty.remove(&AccountId(major));
        if let Some(account) = self.by_id.get_mut(&AccountId(major)) {
            account.save(page);
        }
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        let id = AccountId(major);
        if minor != HEAD_MINOR {
            let chunk = decode_chunk(octets)?;
            let (mailbox, number) = split_minor(minor);
            match self.by_id.get_mut(&id) {
                Some(account) => account.load_chunk(mailbox, number, chunk),
                None => self.early.entry(id).or_default().push((minor, chunk)),
            }
            return Ok(());
        }
        // The head is written with every save, so its position is that of the account.
        let mut account = with_head(octets, Account::load)?;
        account.loaded = at;
        for (minor, chunk) in self.early.remove(&id).unwrap_or_default() {
            let (mailbox, number) = split_minor(minor);
            account.load_chunk(mailbox, number, chunk);
        }
        self.by_id.insert(id, Box::new(account));
        Ok(())
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        Accounts::references(self, each);
    }

    fn taint(&mut self) {
        for (&id, account) in &mut self.by_id {
            account.taint();
            self.dirty.insert(id);
        }
    }
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
