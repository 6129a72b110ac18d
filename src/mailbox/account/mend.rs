//! What is left of an account whose log lost records: changes are made as far as they can be.

use super::{Account, Folder, INBOX, INBOX_NAME, UNKNOWN};
use crate::mailbox::record::Create;
use crate::mailbox::record::transfer::Transfer;
use crate::mailbox::row::{Entry, Flags, Marks};
use crate::model::id::{BlobId, MailboxId, ModSeq, Uid, UidValidity};
use crate::store::Damaged;
use crate::store::salvage::{Known, LostEntry};

/// UIDs, mailboxes and counters that may have been told and that nothing knows of any more.
const UIDS_UNKNOWN: u32 = 1 << 16;
const MAILBOXES_UNKNOWN: u32 = 1 << 10;
const COUNTS_UNKNOWN: u64 = 1 << 20;

impl Account {
    /// A name that no mailbox has.
    pub(in crate::mailbox) fn free_name(&self, wanted: &str, id: MailboxId) -> String {
        if self.named(wanted).is_none() {
            return wanted.into();
        }
        let names = (0..).map(|number| match number {
            0 => format!("{wanted} ({id})"),
            _ => format!("{wanted} ({id}.{number})"),
        });
        let mut free = names.filter(|name| self.named(name).is_none());
        free.next().expect("an account has fewer mailboxes than there are numbers")
    }

    /// Makes a mailbox whose making is lost. `seconds` is when its first message is known to have
    /// come.
    pub(in crate::mailbox) fn ensure(
        &mut self,
        id: MailboxId,
        seconds: u32,
    ) -> Result<(), Damaged> {
        if self.closed {
            return Err(Damaged("a change of an account that was deleted".into()));
        }
        if self.folder(id).is_some() {
            return Ok(());
        }
        if id.0 == 0 {
            return Err(Damaged("a change of a mailbox without a number".into()));
        }
        let wanted = if id == INBOX { INBOX_NAME.into() } else { format!("Recovered-{id}") };
        let name = self.free_name(&wanted, id);
        let uidvalidity = UidValidity(seconds.max(self.uidvalidity_last.0.saturating_add(1)));
        let create = Create { mailbox: id, uidvalidity, modseq: self.modseq, name: &name };
        let at = self.folders.partition_point(|folder| folder.id < id);
        self.folders.insert(at, Folder::new(&create));
        self.uidvalidity_last = uidvalidity;
        self.mailbox_last = self.mailbox_last.max(id);
        Ok(())
    }

    /// Where pages are of several checkpoints a mailbox may have messages that its head knows nothing of.
    pub(in crate::mailbox) fn raise_uidnext(&mut self) {
        for folder in &mut self.folders {
            folder.uidnext = folder.uidnext.max(Uid(folder.last_uid().0.saturating_add(1)));
            folder.assign = folder.assign.max(folder.uidnext);
        }
    }

    /// Counters that were given out of turn, since records between are lost, rise all the same.
    pub(in crate::mailbox) fn next_modseq(&self, wanted: ModSeq) -> ModSeq {
        wanted.max(ModSeq(self.modseq.0 + 1))
    }

    /// Moves or copies what is there, and makes entries of what only the record tells of.
    pub(in crate::mailbox) fn mend_transfer(
        &mut self,
        transfer: &Transfer<'_>,
        moves: bool,
        known: &Known<'_>,
    ) -> Result<(), Damaged> {
        let from = self.folder(transfer.from);
        let modseq = self.next_modseq(transfer.modseq);
        let uidnext = self.folder(transfer.to).map_or(Uid(1), |folder| folder.uidnext);
        let arrive = |(uid, new, blob): (Uid, Uid, BlobId)| {
            let entry = from.and_then(|from| from.entry(uid)).filter(|entry| entry.blob == blob);
            let entry = entry.or_else(|| made_up(blob, transfer.save_date, known))?;
            (new >= uidnext).then_some(Entry {
                uid: new,
                modseq,
                save_date: transfer.save_date,
                ..entry
            })
        };
        let arriving: Vec<Entry> = transfer.items().filter_map(arrive).collect();
        let is_there = |(uid, _, blob): (Uid, Uid, BlobId)| {
            from.is_some_and(|from| from.blob(uid) == Some(blob)).then_some(uid)
        };
        let leaving: Vec<Uid> = transfer.items().filter_map(is_there).collect();
        let keywords = from.and_then(|from| from.keywords().cloned());
        self.advance(modseq)?;
        if moves && !leaving.is_empty() {
            self.remove(transfer.from, &leaving, modseq)?;
        }
        self.open(transfer.to)?.take_in(arriving, keywords.as_deref())?;
        Ok(())
    }

    /// What was is known no more: a change is missing, or was made in part. What only the history had
    /// goes, mailboxes that were removed included.
    pub(in crate::mailbox) fn forget_past(&mut self) {
        self.past.drop_all(&mut self.gone);
        self.floor = UNKNOWN;
        self.folders.iter_mut().for_each(|folder| folder.removed_at = 0);
        self.forget_if_done();
    }

    /// Removes every message without a whole blob.
    pub(in crate::mailbox) fn drop_lost(
        &mut self,
        account: u32,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
    ) -> Result<(), Damaged> {
        let mut is_whole = true;
        self.references(&mut |blob| is_whole &= known.is_whole(blob));
        if is_whole {
            self.forget_if_done();
            return Ok(());
        }
        self.forget_past();
        let ids: Vec<MailboxId> = self.folders.iter().map(|folder| folder.id).collect();
        for id in ids {
            let folder = self.open(id)?;
            let gone: Vec<Entry> =
                folder.view().iter().filter(|entry| !known.is_whole(entry.blob)).collect();
            if gone.is_empty() {
                continue;
            }
            for entry in gone.iter().filter(|_| !folder.removed) {
                lost(LostEntry {
                    account,
                    place: folder.name.to_string(),
                    number: entry.uid.0.into(),
                    date: entry.internal_date,
                    octets: entry.size.into(),
                    blob: entry.blob.0,
                    about: String::new(),
                });
            }
            let uids: Vec<Uid> = gone.iter().map(|entry| entry.uid).collect();
            let modseq = ModSeq(self.modseq.0 + 1);
            self.advance(modseq)?;
            self.remove(id, &uids, modseq)?;
        }
        self.forget_if_done();
        Ok(())
    }

    /// What is given from here on is beyond what may have been given by records that are lost.
    pub(in crate::mailbox) fn pass_over_numbers(&mut self) {
        self.modseq = ModSeq(self.modseq.0 + COUNTS_UNKNOWN);
        self.assigned = self.assigned.max(self.modseq);
        self.mailbox_last = MailboxId(self.mailbox_last.0.saturating_add(MAILBOXES_UNKNOWN));
        for folder in &mut self.folders {
            folder.uidnext = Uid(folder.uidnext.0.saturating_add(UIDS_UNKNOWN));
            folder.assign = folder.assign.max(folder.uidnext);
            folder.forget_removals(self.modseq);
        }
    }
}

/// What a message that only a record names is, as far as its blob tells.
fn made_up(blob: BlobId, date: u32, known: &Known<'_>) -> Option<Entry> {
    let size = u32::try_from(known.octets(blob)?).ok()?;
    Some(Entry {
        uid: Uid(0),
        modseq: ModSeq(0),
        internal_date: date,
        save_date: date,
        size,
        thread: 0,
        blob,
        keywords: 0,
        flags: Flags::default(),
        // What costs a look at it, and is never wrong.
        marks: Marks::DOT_LINES.with(Marks::OPEN_END),
    })
}
