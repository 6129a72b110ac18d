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

mod clock;
mod load;
mod mend;
mod places;

use super::account::{Account, INBOX, INBOX_NAME};
use super::arrivals::Arrivals;
use super::folder::Folder;
use super::history::Retention;
use super::image::Facts;
use super::quota::{Quota, Refused, Usage};
use super::record::catalog::Use;
use super::record::{Change, Create, Expunge};
use super::view::View;
use crate::bytes::hash::Map;
use crate::env::bell::Bell;
use crate::model::id::{AccountId, BlobId, Lsn, MailboxId, ModSeq, Uid, UidValidity};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::{Blobs, Damaged, Machine};
use clock::Clock;
use load::Early;
use places::{Look, Places};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use xxhash_rust::xxh3::Xxh3;

/// Highest numbers given to deliveries for an account that is not there yet.
#[derive(Clone, Copy, Debug)]
struct Unborn {
    uidvalidity: UidValidity,
    assign: Uid,
    assigned: ModSeq,
}

/// A mailbox that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub id: MailboxId,
    pub name: &'a str,
    pub uses: Use,
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
    places: Places,
    /// Pages of the checkpoint that are not put together yet.
    early: Map<AccountId, Early>,
    /// Volatile: who rests.
    clock: Clock,
    /// Volatile: see the header. No more entries than accounts that mail was tried for.
    unborn: Map<AccountId, Unborn>,
    /// Volatile: messages whose removal is on its way into the log.
    leaving: BTreeSet<(AccountId, MailboxId, Uid)>,
    /// Volatile: deliveries on their way into the log, of accounts with a quota.
    reserved: Map<AccountId, Usage>,
    /// Volatile: who is to be told when an account changes.
    bells: Map<AccountId, Weak<Bell>>,
    /// Volatile: whose deliveries somebody wants to hear of, and what has come for them.
    pub(super) arrivals: Arrivals,
    /// Volatile: accounts whose deletion is on its way into the log. Nothing may be queued for them
    /// behind it.
    shut: BTreeSet<AccountId>,
    /// Volatile: whose history is being forgotten, by a record on its way into the log.
    pub(super) forgetting: BTreeSet<AccountId>,
    /// Volatile: accounts that are about to go back, and the second in which mail for them was last
    /// queued.
    pub(super) settling: Map<AccountId, u32>,
    /// Volatile: how long histories are kept.
    pub(super) retention: Retention,
    planted: Planted,
}

/// Faults that tests plant to show that they are found. [`Planted::Nothing`] outside tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    #[default]
    Nothing,
    /// The UIDs of the last messages of a mailbox are given again once those are removed.
    ReuseUids,
    /// What left a mailbox before the last checkpoint is not known after a start.
    ForgetVanished,
}

impl Accounts {
    pub fn new() -> Accounts {
        Accounts::default()
    }

    /// Plants a fault.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Accounts that ever got mail, deleted ones included.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Messages of all accounts.
    pub fn messages(&self) -> u64 {
        self.places.usage().messages
    }

    /// Octets of all accounts.
    pub fn octets(&self) -> u64 {
        self.places.usage().octets
    }

    /// A mailbox at this moment; empty if it is not there.
    pub fn view(&self, account: AccountId, mailbox: MailboxId) -> View {
        let folder = self.account(account).and_then(|account| account.folder(mailbox));
        folder.map_or_else(View::empty, Folder::view)
    }

    /// A mailbox at this moment, if it is there and was not removed.
    pub fn open_view(&self, account: AccountId, mailbox: MailboxId) -> Option<View> {
        let folder = self.account(account)?.folder(mailbox)?;
        (!folder.removed).then(|| folder.view())
    }

    /// The same, for a session that is told of all that came: nothing of it is recent for others
    /// (RFC 3501 §2.3.2).
    pub fn take_view(&mut self, account: AccountId, mailbox: MailboxId) -> Option<View> {
        let folder = self.places.get_mut(account)?.folder_mut(mailbox)?;
        (!folder.removed).then(|| folder.take_view())
    }

    /// The UIDVALIDITY of a mailbox that is there and was not removed.
    pub fn uidvalidity(&self, account: AccountId, mailbox: MailboxId) -> Option<UidValidity> {
        let folder = self.account(account)?.folder(mailbox)?;
        (!folder.removed).then_some(folder.uidvalidity)
    }

    /// Whether a message is about to go.
    pub(super) fn leaves(&self, account: AccountId, mailbox: MailboxId, uid: Uid) -> bool {
        !self.leaving.is_empty() && self.leaving.contains(&(account, mailbox, uid))
    }

    /// Mailboxes that were removed and still hold messages which the history has let go: go on with
    /// [`super::Desk::empty`].
    pub fn removed(&self) -> Vec<(AccountId, MailboxId)> {
        let looks = self.places.looks().filter(|(_, look)| look.facts().truths.lets_go());
        let mut ids: Vec<AccountId> = looks.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.into_iter()
            .flat_map(|id| self.let_go(id).into_iter().map(move |one| (id, one)))
            .collect()
    }

    /// The mailboxes of an account.
    pub fn mailboxes(&self, account: AccountId) -> Vec<MailboxId> {
        let account = self.account(account);
        account.map_or_else(Vec::new, |account| account.folders().iter().map(|f| f.id).collect())
    }

    /// Names every mailbox of an account that has a name, in the order in which they were made.
    pub fn each_mailbox(&self, account: AccountId, mut each: impl FnMut(Listed<'_>)) {
        let Some(account) = self.account(account) else { return };
        for folder in account.folders().iter().filter(|folder| !folder.removed) {
            each(Listed { id: folder.id, name: &folder.name, uses: folder.uses });
        }
    }

    /// The mailbox of a name, which is compared octet by octet.
    pub fn named(&self, account: AccountId, name: &str) -> Option<MailboxId> {
        Some(self.account(account)?.named(name)?.id)
    }

    /// The names that an account is subscribed to, sorted.
    pub fn subscriptions(&self, account: AccountId) -> Vec<Box<str>> {
        let account = self.account(account);
        account.map_or_else(Vec::new, |account| account.subscriptions().to_vec())
    }

    /// Ranges of UIDs that went out of a mailbox after the change counter stood at `since`;
    /// `None` if that is not known any more (RFC 7162 §3.2.5.2).
    pub fn vanished_since(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        since: ModSeq,
    ) -> Option<Vec<(Uid, Uid)>> {
        self.account(account)?.folder(mailbox)?.vanished_since(since)
    }

    /// Rings whenever something of the account changed.
    pub fn bell(&mut self, account: AccountId) -> Rc<Bell> {
        let place = self.bells.entry(account).or_default();
        place.upgrade().unwrap_or_else(|| {
            let bell = Rc::new(Bell::default());
            *place = Rc::downgrade(&bell);
            bell
        })
    }

    /// What comes for some accounts, for somebody to look at.
    pub fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// Has sessions of an account look how things stand.
    pub fn ring(&mut self, account: AccountId) {
        if self.bells.is_empty() {
            return;
        }
        match self.bells.get(&account).map(Weak::upgrade) {
            Some(Some(bell)) => bell.ring(),
            Some(None) => drop(self.bells.remove(&account)),
            None => {}
        }
    }

    /// An account, awake.
    pub(super) fn account(&self, id: AccountId) -> Option<&Account> {
        self.places.get(id)
    }

    /// Accounts for which something holds, seen from the outside; by number.
    pub(super) fn all_with(&self, holds: impl Fn(AccountId, Facts) -> bool) -> Vec<AccountId> {
        let looks = self.places.looks().filter(|&(id, look)| holds(id, look.facts()));
        let mut found: Vec<AccountId> = looks.map(|(id, _)| id).collect();
        found.sort_unstable();
        found
    }

    /// The same of so many places from one on, in the order of places; and where to go on.
    pub(super) fn some_with(
        &self,
        from: usize,
        places: usize,
        holds: impl Fn(AccountId, Facts) -> bool,
    ) -> (Vec<AccountId>, Option<usize>) {
        let looks = self.places.looks_from(from, places);
        let found = looks.filter(|&(id, look)| holds(id, look.facts())).map(|(id, _)| id).collect();
        let next = from.saturating_add(places);
        (found, (next < self.places.end()).then_some(next))
    }

    /// The oldest that any history has, of accounts that were not deleted.
    pub(super) fn oldest_of_all(&self) -> Option<u32> {
        let facts = self.places.looks().map(|(_, look)| look.facts());
        facts.filter(|facts| !facts.truths.closed()).filter_map(|facts| facts.oldest).min()
    }

    /// The next UID of a mailbox. The records have to be appended before the next await.
    pub(super) fn assign_uid(&mut self, id: AccountId, mailbox: MailboxId) -> Result<Uid, Refused> {
        let folder = self.places.get_mut(id).and_then(|account| account.folder_mut(mailbox));
        let folder = folder.ok_or(Refused::Closed)?;
        let uid = folder.assign;
        folder.assign = next(uid)?;
        Ok(uid)
    }

    /// The UID itself, if all that were given in the mailbox are below it; else the next one.
    pub(super) fn assign_uid_or_next(
        &mut self,
        id: AccountId,
        mailbox: MailboxId,
        uid: Uid,
    ) -> Result<Uid, Refused> {
        let folder = self.places.get_mut(id).and_then(|account| account.folder_mut(mailbox));
        let folder = folder.ok_or(Refused::Closed)?;
        let uid = folder.assign.max(uid);
        folder.assign = next(uid)?;
        Ok(uid)
    }

    /// INBOX, if the account has none yet; to be made in the group that counts on it.
    pub(super) fn assign_inbox(&mut self, id: AccountId, now: u32) -> Option<Create<'static>> {
        (!self.places.has(id)).then(|| self.create_inbox(id, now))
    }

    /// What an account keeps.
    pub fn usage(&self, account: AccountId) -> Usage {
        self.places.look(account).map_or_else(Usage::default, Look::usage)
    }

    /// Whether the account was deleted, or is about to be.
    pub fn is_closed(&self, account: AccountId) -> bool {
        self.shut.contains(&account) || self.places.look(account).is_some_and(Look::closed)
    }

    /// Takes nothing for an account any more, while its deletion is on its way into the log.
    /// `false` if it was closed before.
    pub(super) fn shut(&mut self, account: AccountId) -> bool {
        !self.is_closed(account) && self.shut.insert(account)
    }

    /// The deletion did not come into the log.
    pub(super) fn reopen(&mut self, account: AccountId) {
        self.shut.remove(&account);
    }

    /// All accounts but those that were deleted and hold nothing any more, by number.
    pub fn living(&self) -> Vec<AccountId> {
        self.all_with(|_, facts| !facts.truths.closed() || !facts.truths.is_void())
    }

    /// Whether the account would take a message of `size` octets now, what is on its way counted
    /// in. For the answer to RCPT.
    pub fn room(&self, account: AccountId, quota: Quota, size: u32) -> Result<(), Refused> {
        self.room_beside(account, quota, size, 0)
    }

    /// As [`Accounts::room`], beside `promised` octets that another shard is about to bring.
    pub fn room_beside(
        &self,
        account: AccountId,
        quota: Quota,
        size: u32,
        promised: u64,
    ) -> Result<(), Refused> {
        let look = self.places.look(account);
        if self.shut.contains(&account) || look.is_some_and(Look::closed) {
            return Err(Refused::Closed);
        }
        let mut usage = look.map_or_else(Usage::default, Look::usage);
        usage.octets = usage.octets.saturating_add(promised);
        if let Some(reserved) = self.reserved.get(&account) {
            usage.octets = usage.octets.saturating_add(reserved.octets);
            usage.messages = usage.messages.saturating_add(reserved.messages);
        }
        usage.room(quota, size)
    }

    /// Whether the account would take so many messages at once.
    pub fn room_for(
        &self,
        account: AccountId,
        quota: Quota,
        octets: u64,
        messages: u64,
    ) -> Result<(), Refused> {
        let reserved = self.reserved.get(&account).copied().unwrap_or_default();
        let mut usage = self.usage(account);
        usage.octets = usage.octets.saturating_add(reserved.octets).saturating_add(octets);
        usage.messages = usage.messages.saturating_add(reserved.messages + messages);
        if octets > quota.octets || messages > quota.messages {
            return Err(Refused::NeverFits);
        }
        let fits = usage.octets <= quota.octets && usage.messages <= quota.messages;
        if fits { Ok(()) } else { Err(Refused::Full) }
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
        if self.shut.contains(&id) {
            return Err(Refused::Closed);
        }
        if !self.settling.is_empty()
            && let Some(last) = self.settling.get_mut(&id)
        {
            *last = now.max(*last);
        }
        let Some(account) = self.places.get_mut(id) else {
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

    /// As long as the account is not there each change makes it: the one before may fail.
    fn assign_unborn(&mut self, id: AccountId, now: u32) -> Result<Assigned, Refused> {
        let create = self.create_inbox(id, now);
        let unborn = self.unborn.get_mut(&id).expect("create_inbox noted it");
        let uid = unborn.assign;
        unborn.assign = next(uid)?;
        unborn.assigned = ModSeq(unborn.assigned.0 + 1);
        Ok(Assigned { create: Some(create), uid, modseq: unborn.assigned })
    }

    fn create_inbox(&mut self, id: AccountId, now: u32) -> Create<'static> {
        let unborn = self.unborn.entry(id).or_insert(Unborn {
            uidvalidity: UidValidity(now.max(1)),
            assign: Uid(1),
            assigned: ModSeq(0),
        });
        let modseq = ModSeq(unborn.assigned.0 + 1);
        unborn.assigned = modseq;
        let uidvalidity = unborn.uidvalidity;
        Create { mailbox: INBOX, uidvalidity, modseq, name: INBOX_NAME }
    }

    /// The next change counter; `None` if the account is not there, nor about to be.
    pub(super) fn assign_modseq(&mut self, id: AccountId) -> Option<ModSeq> {
        let assigned = match self.places.get_mut(id) {
            Some(account) => &mut account.assigned,
            None => &mut self.unborn.get_mut(&id)?.assigned,
        };
        *assigned = ModSeq(assigned.0 + 1);
        Some(*assigned)
    }

    /// The blob of a message.
    pub fn blob(&self, account: AccountId, mailbox: MailboxId, uid: Uid) -> Option<BlobId> {
        self.account(account)?.folder(mailbox)?.blob(uid)
    }

    pub(super) fn leaving(&mut self) -> &mut BTreeSet<(AccountId, MailboxId, Uid)> {
        &mut self.leaving
    }

    /// Whether counts, order and pages agree. To be called after recovery, and by `store verify`.
    pub fn verify(&self) -> Result<(), Damaged> {
        if let Some(account) = self.early.keys().min() {
            return Err(Damaged(format!("account {account}: rows without a head")));
        }
        for id in self.places.ids() {
            let verified = self.places.peek(id, Account::verify).unwrap_or(Ok(Ok(())));
            let verified = verified.and_then(|verified| verified);
            verified.map_err(|error| Damaged(format!("account {id}: {}", error.0)))?;
        }
        Ok(())
    }

    /// Names every blob that some row, or the history, refers to, once for each.
    pub fn references(&self, each: &mut dyn FnMut(BlobId)) {
        for id in self.places.ids() {
            let mut from = Some(0);
            while let Some(at) = from {
                from = self.references_of(id, at, each);
            }
        }
    }

    /// Of an account at rest a part, without waking it; where to go on, if there is more.
    fn references_of(
        &self,
        id: AccountId,
        from: usize,
        each: &mut dyn FnMut(BlobId),
    ) -> Option<usize> {
        match self.places.look(id)? {
            Look::Awake(account) => {
                account.references(each);
                None
            }
            // One that cannot be unpacked is told of by `verify`.
            Look::Resting(image) => image.references(from, each).unwrap_or(None),
        }
    }

    /// A digest of the state of one account; 0 if it is not there.
    pub fn digest_of(&self, account: AccountId) -> u128 {
        let mut digest = Xxh3::new();
        match self.places.peek(account, |account| account.digest(&mut digest)) {
            Some(Ok(())) => digest.digest128(),
            _ => 0,
        }
    }

    /// A digest of the whole state: the same after recovery as before the crash.
    pub fn digest(&self) -> u128 {
        let mut digest = Xxh3::new();
        for id in self.places.ids() {
            digest.update(&id.0.to_le_bytes());
            digest.update(&self.digest_of(id).to_le_bytes());
        }
        digest.digest128()
    }

    /// Octets of memory that the accounts take, unused room of vectors and tables included.
    pub fn heap_octets(&self) -> usize {
        self.places.heap_octets()
    }

    fn apply_create(
        &mut self,
        id: AccountId,
        create: &Create<'_>,
    ) -> Result<&mut Account, Damaged> {
        let account = self.places.get_or_new(id)?;
        account.apply_create(create)?;
        let unborn = self.unborn.remove(&id);
        let same = unborn.filter(|unborn| unborn.uidvalidity == create.uidvalidity);
        if let (Some(unborn), Some(folder)) = (same, account.folder_mut(create.mailbox)) {
            folder.assign = folder.assign.max(unborn.assign);
            account.assigned = account.assigned.max(unborn.assigned);
        }
        Ok(account)
    }

    fn apply_expunge(
        &mut self,
        id: AccountId,
        expunge: &Expunge<'_>,
    ) -> Result<&mut Account, Damaged> {
        let reuses = self.planted == Planted::ReuseUids;
        let account = self.known(id)?;
        account.apply_expunge(expunge)?;
        if reuses && let Some(folder) = account.folder_mut(expunge.mailbox) {
            folder.reuse_uids();
        }
        Ok(account)
    }

    fn known(&mut self, id: AccountId) -> Result<&mut Account, Damaged> {
        let account = self.places.try_get_mut(id)?;
        account.ok_or_else(|| Damaged(format!("account {id} is not there")))
    }

    fn change(&mut self, id: AccountId, change: &Change<'_>) -> Result<(), Damaged> {
        let account = match change {
            Change::Create(create) => self.apply_create(id, create)?,
            Change::Expunge(expunge) => self.apply_expunge(id, expunge)?,
            Change::AccountDelete => {
                self.unborn.remove(&id);
                self.shut.remove(&id);
                let account = self.places.get_or_new(id)?;
                account.apply_delete();
                account
            }
            _ => {
                let account = self.known(id)?;
                account.apply(change)?;
                account
            }
        };
        if !std::mem::replace(&mut account.dirty, true) {
            self.places.dirty.insert(id);
        }
        self.ring(id);
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
        let has_it = self.places.look(id).is_some_and(|look| at <= look.loaded());
        if !has_it {
            self.change(id, &change)
                .map_err(|error| Damaged(format!("account {id}, batch {at}: {}", error.0)))?;
        }
        match change {
            Change::Deliver(deliver) => blobs.retain(deliver.entry.blob),
            Change::Expunge(expunge) if expunge.kept => {}
            Change::Expunge(expunge) => expunge.messages().for_each(|(_, b)| blobs.release(b)),
            Change::Forget(forget) => forget.blobs().for_each(|blob| blobs.release(blob)),
            Change::Copy(transfer) => transfer.items().for_each(|(.., blob)| blobs.retain(blob)),
            _ => {}
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.places.dirty.iter().map(|account| account.0).collect()
    }

    fn save(&mut self, major: u32, _at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        let id = AccountId(major);
        self.places.dirty.remove(&id);
        // Nothing of it changed since it rests but that all is to be written anew.
        if let Some(pages) = self.places.resting_pages(id) {
            return pages.iter().for_each(|(minor, octets)| page(*minor, Some(octets.to_vec())));
        }
        if let Some(account) = self.places.get_mut(id) {
            account.save(page);
        }
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.take_page(AccountId(major), minor, at, octets)
    }

    fn loaded(&mut self) -> Result<(), Damaged> {
        self.put_together_all()
    }

    fn shelves(&self) -> Vec<u32> {
        self.places.ids().into_iter().map(|id| id.0).collect()
    }

    /// Mailbox by mailbox, by rising UID: what is copied lies where it came first.
    fn shelve(&self, major: u32, from: usize, each: &mut dyn FnMut(BlobId)) -> Option<usize> {
        self.references_of(AccountId(major), from, each)
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        Accounts::references(self, each);
    }

    fn taint(&mut self) {
        self.places.taint();
    }
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
