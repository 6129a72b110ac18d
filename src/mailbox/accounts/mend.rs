//! Records of a log that lost some: each does as much of its work as can be done.

use super::Accounts;
use super::places::Look;
use crate::mailbox::record::catalog::Catalog;
use crate::mailbox::record::{Change, Create, Deliver, Expunge, put_expunge};
use crate::mailbox::row::Entry;
use crate::model::id::{AccountId, BlobId, Lsn, Uid, UidValidity};
use crate::store::record::{FLAG_SKIPPABLE, Record};
use crate::store::salvage::{Count, Known, LostEntry};
use crate::store::{Damaged, Group};

impl Accounts {
    /// As [`crate::store::Machine::apply`], over gaps. An error says what was not done.
    pub(in crate::mailbox) fn mend(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        known: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged> {
        if record.flags & FLAG_SKIPPABLE != 0 && !Change::is_known(record.kind) {
            return Ok(());
        }
        let id = AccountId(record.account);
        let change = Change::read(&record)?;
        match &change {
            Change::Deliver(deliver) => count(deliver.entry.blob, 1),
            Change::Expunge(expunge) if !expunge.kept => {
                expunge.messages().for_each(|(_, blob)| count(blob, -1));
            }
            Change::Forget(forget) => forget.blobs().for_each(|blob| count(blob, -1)),
            Change::Copy(transfer) => transfer.items().for_each(|(.., blob)| count(blob, 1)),
            _ => {}
        }
        self.settle(id)?;
        if self.places.look(id).is_some_and(|look| at <= look.loaded()) {
            return Ok(());
        }
        if let Some(account) = self.places.get_mut(id) {
            account.raise_uidnext();
        }
        // Where nothing is missing, as recovery does it.
        if self.change(id, &change).is_ok() {
            return Ok(());
        }
        if let Some(account) = self.places.get_mut(id) {
            account.forget_past();
        }
        let done = self.mend_change(id, &change, known);
        done.map_err(|Damaged(why)| Damaged(format!("account {id}: {why}")))
    }

    fn mend_change(
        &mut self,
        id: AccountId,
        change: &Change<'_>,
        known: &Known<'_>,
    ) -> Result<(), Damaged> {
        let seconds = u32::try_from(known.time / 1_000_000).unwrap_or(u32::MAX);
        match change {
            Change::Create(create) => self.mend_create(id, create),
            Change::Deliver(deliver) => {
                let account = self.places.get_or_new(id)?;
                account.ensure(deliver.mailbox, seconds)?;
                let modseq = account.next_modseq(deliver.entry.modseq);
                let folder = account.folder(deliver.mailbox);
                if folder.and_then(|folder| folder.blob(deliver.entry.uid))
                    == Some(deliver.entry.blob)
                {
                    // A page is newer than the others.
                    return Ok(());
                }
                let uidnext = folder.map_or(Uid(1), |folder| folder.uidnext);
                let uid = deliver.entry.uid.max(uidnext);
                let entry = Entry { uid, modseq, ..deliver.entry };
                self.change(id, &Change::Deliver(Deliver { entry, ..*deliver }))
            }
            Change::Expunge(expunge) => self.mend_expunge(id, expunge),
            Change::Move(transfer) | Change::Copy(transfer) => {
                let moves = matches!(change, Change::Move(_));
                let account = self.places.get_or_new(id)?;
                account.ensure(transfer.to, seconds)?;
                account.mend_transfer(transfer, moves, known)
            }
            Change::Catalog(Catalog::Rename { mailbox, modseq, name }) => {
                let account = self.places.get_or_new(id)?;
                account.ensure(*mailbox, seconds)?;
                let (mailbox, modseq) = (*mailbox, account.next_modseq(*modseq));
                let is_own = account.named(name).is_some_and(|folder| folder.id == mailbox);
                let free = account.free_name(name, mailbox);
                let name = if is_own { name } else { free.as_str() };
                self.change(id, &Change::Catalog(Catalog::Rename { mailbox, modseq, name }))
            }
            Change::Moment(_) | Change::Catalog(Catalog::Subscribe { .. }) => {
                self.places.get_or_new(id)?;
                self.change(id, change)
            }
            // There is nothing left to be forgotten.
            Change::Forget(_) => Ok(()),
            _ => self.change(id, change),
        }
    }

    fn mend_create(&mut self, id: AccountId, create: &Create<'_>) -> Result<(), Damaged> {
        let account = self.places.get_or_new(id)?;
        if let Some(folder) = account.folder(create.mailbox) {
            let is_same = folder.uidvalidity == create.uidvalidity;
            let why = || Damaged(format!("mailbox {} is there already", create.mailbox));
            return if is_same { Ok(()) } else { Err(why()) };
        }
        let name = account.free_name(create.name, create.mailbox);
        let last = UidValidity(account.uidvalidity_last.0.saturating_add(1));
        let uidvalidity = create.uidvalidity.max(last);
        let modseq = account.next_modseq(create.modseq);
        let create = Create { uidvalidity, modseq, name: &name, ..*create };
        self.change(id, &Change::Create(create))
    }

    fn mend_expunge(&mut self, id: AccountId, expunge: &Expunge<'_>) -> Result<(), Damaged> {
        let mailbox = expunge.mailbox;
        let there: Vec<(Uid, BlobId)> = expunge
            .messages()
            .filter(|&(uid, blob)| self.blob(id, mailbox, uid) == Some(blob))
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let modseq = self.known(id)?.next_modseq(expunge.modseq);
        let mut group = Group::new();
        put_expunge(&mut group, id, mailbox, modseq, &there, false);
        for owned in &group.records {
            let record = Record {
                kind: owned.kind,
                version: owned.version,
                flags: owned.flags,
                account: owned.account,
                body: &owned.body,
            };
            self.change(id, &Change::read(&record)?)?;
        }
        Ok(())
    }

    /// Has all accounts awake; what stands in the way of one that is lost with it is noted.
    pub(in crate::mailbox) fn wake_all(&mut self, note: &mut dyn FnMut(String)) {
        let mut ids = self.early();
        ids.extend(self.places.ids());
        for id in ids {
            if let Err(Damaged(why)) = self.settle(id) {
                note(why);
            }
        }
    }

    /// Removes every message without a whole blob.
    pub(in crate::mailbox) fn drop_lost(
        &mut self,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
    ) {
        for id in self.places.ids() {
            if let Some(account) = self.places.get_mut(id) {
                // It fails for mailboxes that are not there, and these are.
                drop(account.drop_lost(id.0, known, lost));
            }
        }
    }

    pub(in crate::mailbox) fn pass_over_numbers(&mut self) {
        for id in self.places.ids() {
            if let Some(account) = self.places.get_mut(id) {
                account.pass_over_numbers();
            }
        }
    }

    /// Puts together what pages came of each account; names those of which that cannot be done. Their
    /// pages are left ([`Accounts::take_pages`]).
    pub(in crate::mailbox) fn put_together_sound(
        &mut self,
        failed: &mut dyn FnMut(AccountId, Damaged),
    ) {
        for id in self.early() {
            if let Err(damaged) = self.put_together(id) {
                failed(id, damaged);
            }
        }
    }

    /// All pages of one account, also those that are not put together, and where the newest stands. The
    /// account is forgotten.
    pub(in crate::mailbox) fn take_pages(&mut self, id: AccountId) -> (Lsn, Vec<(u64, Vec<u8>)>) {
        let early = self.early.remove(&id).unwrap_or_default();
        let (early_at, early) = early.into_pages();
        let mut pages = Vec::new();
        let at = self.places.look(id).map_or(Lsn(0), Look::loaded);
        if let Some(resting) = self.places.resting_pages(id) {
            pages.extend(resting.iter().map(|(minor, octets)| (*minor, octets.to_vec())));
            self.places.forget(id);
        } else if let Some(mut account) = self.places.remove(id) {
            account.taint();
            account.save(&mut |minor, octets| pages.extend(octets.map(|octets| (minor, octets))));
        }
        pages.extend(early);
        (at.max(early_at), pages)
    }
}
