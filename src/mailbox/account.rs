//! One account: its mailboxes, its change counter, its use of space.
//!
//! `apply_*` are the only functions that change it, in recovery as in live.

use super::folder::Folder;
use super::page::{AccountHeadV2, HEAD_MINOR, Part, encode_head};
use super::quota::Usage;
use super::record::catalog::Catalog;
use super::record::flags::FlagsRecord;
use super::record::origin::{OriginRecord, UidlsRecord};
use super::record::transfer::Transfer;
use super::record::{Create, Deliver, Expunge};
use super::row::Entry;
use crate::model::id::{BlobId, Lsn, MailboxId, ModSeq, Uid, UidValidity};
use crate::store::Damaged;
use xxhash_rust::xxh3::Xxh3;

/// The mailbox that every account has.
pub const INBOX: MailboxId = MailboxId(1);
/// Its name (RFC 9051 §5.1).
pub(super) const INBOX_NAME: &str = "INBOX";

/// An account.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Records at or below it were in the checkpoint already.
    pub loaded: Lsn,
    /// The highest change counter that was applied.
    pub modseq: ModSeq,
    /// The highest change counter that was given to anybody; runs ahead of `modseq`.
    pub assigned: ModSeq,
    pub uidvalidity_last: UidValidity,
    /// The highest number that a mailbox ever had.
    pub mailbox_last: MailboxId,
    /// Being deleted, or gone: takes nothing any more. Stays as a mark, so that no record of its
    /// past brings it back.
    pub closed: bool,
    /// Changed since it was saved.
    pub dirty: bool,
    /// Few; sorted by id.
    folders: Vec<Folder>,
    /// Names, sorted; a mailbox of the name need not be there (RFC 9051 §6.3.7).
    subscriptions: Vec<Box<str>>,
    /// Pages that are no more.
    gone: Vec<u64>,
}

impl Account {
    pub(super) fn folder(&self, id: MailboxId) -> Option<&Folder> {
        let at = self.folders.binary_search_by_key(&id, |folder| folder.id).ok()?;
        self.folders.get(at)
    }

    pub(super) fn folder_mut(&mut self, id: MailboxId) -> Option<&mut Folder> {
        let at = self.folders.binary_search_by_key(&id, |folder| folder.id).ok()?;
        self.folders.get_mut(at)
    }

    pub(super) fn folders(&self) -> &[Folder] {
        &self.folders
    }

    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for folder in &self.folders {
            usage.octets += folder.octets;
            usage.messages += u64::from(folder.count);
        }
        usage
    }

    fn open(&mut self, id: MailboxId) -> Result<&mut Folder, Damaged> {
        self.folder_mut(id).ok_or_else(|| Damaged(format!("there is no mailbox {id}")))
    }

    fn advance(&mut self, modseq: ModSeq) -> Result<(), Damaged> {
        if modseq <= self.modseq {
            let have = self.modseq;
            return Err(Damaged(format!("change counter {modseq} after {have}")));
        }
        self.modseq = modseq;
        self.assigned = self.assigned.max(modseq);
        Ok(())
    }

    pub(super) fn apply_create(&mut self, create: &Create<'_>) -> Result<(), Damaged> {
        if let Some(folder) = self.folder(create.mailbox) {
            // The delivery that brought it could not know of the one before.
            if folder.uidvalidity == create.uidvalidity && *folder.name == *create.name {
                return Ok(());
            }
            return Err(Damaged(format!("mailbox {} made twice", create.mailbox)));
        }
        let named = self.named(create.name).is_some();
        if self.closed || named || create.mailbox <= self.mailbox_last {
            return Err(Damaged(format!("mailbox {} may not be made", create.mailbox)));
        }
        if create.uidvalidity <= self.uidvalidity_last {
            let last = self.uidvalidity_last;
            return Err(Damaged(format!("UIDVALIDITY {} after {last}", create.uidvalidity)));
        }
        self.advance(create.modseq)?;
        self.uidvalidity_last = create.uidvalidity;
        self.mailbox_last = create.mailbox;
        self.folders.reserve_exact(1);
        self.folders.push(Folder::new(create));
        Ok(())
    }

    pub(super) fn apply_deliver(&mut self, deliver: &Deliver) -> Result<(), Damaged> {
        if self.closed {
            return Err(Damaged("mail for an account that was deleted".into()));
        }
        self.open(deliver.mailbox)?;
        self.advance(deliver.entry.modseq)?;
        self.open(deliver.mailbox)?.deliver(&deliver.entry)
    }

    pub(super) fn apply_expunge(&mut self, expunge: &Expunge<'_>) -> Result<(), Damaged> {
        self.open(expunge.mailbox)?.check_rows(expunge.messages())?;
        self.advance(expunge.modseq)?;
        let uids: Vec<Uid> = expunge.messages().map(|(uid, _)| uid).collect();
        self.remove(expunge.mailbox, &uids, expunge.modseq)?;
        self.forget_if_done();
        Ok(())
    }

    fn remove(&mut self, id: MailboxId, uids: &[Uid], modseq: ModSeq) -> Result<(), Damaged> {
        let mut gone = std::mem::take(&mut self.gone);
        self.open(id)?.remove(uids, modseq, &mut gone);
        self.gone = gone;
        Ok(())
    }

    pub(super) fn apply_flags(&mut self, record: &FlagsRecord<'_>) -> Result<(), Damaged> {
        self.open(record.mailbox)?;
        self.advance(record.modseq)?;
        self.open(record.mailbox)?.change_flags(record);
        Ok(())
    }

    /// Both mailboxes may be the same one.
    pub(super) fn apply_transfer(
        &mut self,
        transfer: &Transfer<'_>,
        moves: bool,
    ) -> Result<(), Damaged> {
        self.open(transfer.to)?;
        let from = self.open(transfer.from)?;
        from.check_rows(transfer.items().map(|(uid, _, blob)| (uid, blob)))?;
        let arrive = |(uid, new, _)| {
            let entry = from.entry(uid)?;
            let (modseq, save_date) = (transfer.modseq, transfer.save_date);
            Some(Entry { uid: new, modseq, save_date, ..entry })
        };
        let arriving: Vec<Entry> = transfer.items().filter_map(arrive).collect();
        let keywords = from.keywords().cloned();
        self.advance(transfer.modseq)?;
        if moves {
            let uids: Vec<Uid> = transfer.items().map(|(uid, ..)| uid).collect();
            self.remove(transfer.from, &uids, transfer.modseq)?;
        }
        self.open(transfer.to)?.take_in(arriving, keywords.as_deref())
    }

    pub(super) fn apply_catalog(&mut self, change: &Catalog<'_>) -> Result<(), Damaged> {
        match *change {
            Catalog::Rename { mailbox, modseq, name } => {
                if self.named(name).is_some_and(|folder| folder.id != mailbox) {
                    return Err(Damaged(format!("mailbox {mailbox} may not have the name {name}")));
                }
                self.open(mailbox)?;
                self.advance(modseq)?;
                self.open(mailbox)?.name = name.into();
            }
            Catalog::Subscribe { on, name } => {
                match (self.subscriptions.binary_search_by(|known| (**known).cmp(name)), on) {
                    (Err(at), true) => self.subscriptions.insert(at, name.into()),
                    (Ok(at), false) => drop(self.subscriptions.remove(at)),
                    _ => {}
                }
            }
            Catalog::Delete { mailbox, modseq } => {
                self.open(mailbox)?;
                self.advance(modseq)?;
                self.open(mailbox)?.removed = true;
                self.forget_if_done();
            }
            Catalog::Use { mailbox, modseq, uses } => {
                self.open(mailbox)?;
                self.advance(modseq)?;
                self.open(mailbox)?.uses = uses;
            }
        }
        Ok(())
    }

    /// A UIDVALIDITY that was brought along never comes back either.
    pub(super) fn apply_origin(&mut self, record: &OriginRecord) -> Result<(), Damaged> {
        self.open(record.mailbox)?;
        self.advance(record.modseq)?;
        self.open(record.mailbox)?.take_origin(record)?;
        self.uidvalidity_last = self.uidvalidity_last.max(record.uidvalidity);
        Ok(())
    }

    pub(super) fn apply_uidls(&mut self, record: &UidlsRecord) -> Result<(), Damaged> {
        self.open(record.mailbox)?;
        self.advance(record.modseq)?;
        self.open(record.mailbox)?.take_uidls(record)
    }

    /// The mailbox of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| !folder.removed && *folder.name == *name)
    }

    pub(super) fn subscriptions(&self) -> &[Box<str>] {
        &self.subscriptions
    }

    pub(super) fn apply_delete(&mut self) {
        self.closed = true;
        self.forget_if_done();
    }

    /// A removed mailbox is forgotten with its last message. A deleted account keeps nothing but
    /// the mark once all are.
    fn forget_if_done(&mut self) {
        let closed = self.closed && self.folders.iter().all(Folder::is_empty);
        let gone = &mut self.gone;
        self.folders.retain(|folder| {
            let done = closed || (folder.removed && folder.is_empty());
            if done {
                folder.pages(gone);
            }
            !done
        });
        if closed {
            self.folders = Vec::new();
            self.subscriptions = Vec::new();
        }
    }

    pub(super) fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.folders.iter().for_each(|folder| folder.references(each));
    }

    pub(super) fn save(&mut self, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty = false;
        for minor in std::mem::take(&mut self.gone) {
            page(minor, None);
        }
        self.folders.iter_mut().for_each(|folder| folder.save(page));
        let head = AccountHeadV2 {
            modseq: self.modseq.0,
            uidvalidity_last: self.uidvalidity_last.0,
            mailbox_last: self.mailbox_last.0,
            subscriptions: self.subscriptions.iter().map(ToString::to_string).collect(),
            closed: self.closed,
            mailboxes: self.folders.iter().map(Folder::head).collect(),
        };
        page(HEAD_MINOR, Some(encode_head(&head)));
    }

    pub(super) fn taint(&mut self) {
        self.dirty = true;
        self.folders.iter_mut().for_each(Folder::taint);
    }

    pub(super) fn load(head: AccountHeadV2) -> Result<Account, Damaged> {
        let folders = head.mailboxes.into_iter().map(Folder::load);
        let folders = folders.collect::<Result<Vec<Folder>, Damaged>>()?;
        if !folders.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Damaged("mailboxes out of order".into()));
        }
        Ok(Account {
            modseq: ModSeq(head.modseq),
            assigned: ModSeq(head.modseq),
            uidvalidity_last: UidValidity(head.uidvalidity_last),
            mailbox_last: MailboxId(head.mailbox_last),
            closed: head.closed,
            folders,
            subscriptions: head.subscriptions.into_iter().map(Into::into).collect(),
            ..Account::default()
        })
    }

    pub(super) fn load_part(&mut self, mailbox: MailboxId, part: Part) {
        let Some(folder) = self.folder_mut(mailbox) else { return };
        match part {
            Part::Chunk(number, chunk) => folder.load_chunk(number, chunk),
            Part::Memo(memo) => folder.load_memo(memo),
        }
    }

    pub(super) fn verify(&self) -> Result<(), Damaged> {
        for folder in &self.folders {
            folder.verify()?;
            if folder.modseq > self.modseq || folder.uidvalidity > self.uidvalidity_last {
                return Err(Damaged(format!("mailbox {} is ahead of its account", folder.id)));
            }
        }
        Ok(())
    }

    pub(super) fn digest(&self, into: &mut Xxh3) {
        into.update(&self.modseq.0.to_le_bytes());
        into.update(&self.uidvalidity_last.0.to_le_bytes());
        into.update(&self.mailbox_last.0.to_le_bytes());
        into.update(&[u8::from(self.closed)]);
        for name in &self.subscriptions {
            into.update(name.as_bytes());
            into.update(&[0]);
        }
        self.folders.iter().for_each(|folder| folder.digest(into));
    }

    /// Octets on the heap, its own included.
    pub(super) fn heap_octets(&self) -> usize {
        let folders = self.folders.iter().map(Folder::heap_octets).sum::<usize>();
        size_of::<Account>()
            + self.folders.capacity() * size_of::<Folder>()
            + self.gone.capacity() * size_of::<u64>()
            + self.subscriptions.iter().map(|name| name.len() + 16).sum::<usize>()
            + folders
    }
}
