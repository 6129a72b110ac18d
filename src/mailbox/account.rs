//! One account: its mailboxes, its change counter, its use of space.
//!
//! `apply_*` are the only functions that change it, in recovery as in live.

use super::chunk::Chunk;
use super::folder::Folder;
use super::page::{AccountHeadV1, ArchivedAccountHeadV1, HEAD_MINOR, encode_head};
use super::quota::Usage;
use super::record::{Create, Deliver, Expunge};
use crate::model::id::{BlobId, Lsn, MailboxId, ModSeq, UidValidity};
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
    /// Being deleted, or gone: takes nothing any more. Stays as a mark, so that no record of its
    /// past brings it back.
    pub closed: bool,
    /// Changed since it was saved.
    pub dirty: bool,
    /// Few; sorted by id.
    folders: Vec<Folder>,
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
        let last = self.folders.last().map_or(MailboxId(0), |folder| folder.id);
        let named = self.folders.iter().any(|folder| *folder.name == *create.name);
        if self.closed || named || create.mailbox <= last {
            return Err(Damaged(format!("mailbox {} may not be made", create.mailbox)));
        }
        if create.uidvalidity <= self.uidvalidity_last {
            let last = self.uidvalidity_last;
            return Err(Damaged(format!("UIDVALIDITY {} after {last}", create.uidvalidity)));
        }
        self.advance(create.modseq)?;
        self.uidvalidity_last = create.uidvalidity;
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
        self.open(expunge.mailbox)?.check_expunge(expunge)?;
        self.advance(expunge.modseq)?;
        let mut gone = std::mem::take(&mut self.gone);
        self.open(expunge.mailbox)?.expunge(expunge, &mut gone);
        self.gone = gone;
        self.forget_if_done();
        Ok(())
    }

    pub(super) fn apply_delete(&mut self) {
        self.closed = true;
        self.forget_if_done();
    }

    /// A deleted account keeps nothing but the mark once its last message is gone.
    fn forget_if_done(&mut self) {
        if self.closed && self.folders.iter().all(Folder::is_empty) {
            self.folders = Vec::new();
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
        let head = AccountHeadV1 {
            modseq: self.modseq.0,
            uidvalidity_last: self.uidvalidity_last.0,
            closed: self.closed,
            mailboxes: self.folders.iter().map(Folder::head).collect(),
        };
        page(HEAD_MINOR, Some(encode_head(&head)));
    }

    pub(super) fn taint(&mut self) {
        self.dirty = true;
        self.folders.iter_mut().for_each(Folder::taint);
    }

    pub(super) fn load(head: &ArchivedAccountHeadV1) -> Result<Account, Damaged> {
        let mut folders = Vec::with_capacity(head.mailboxes.len());
        for mailbox in head.mailboxes.iter() {
            let folder = Folder::load(mailbox)?;
            folders.push(folder);
        }
        if !folders.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Damaged("mailboxes out of order".into()));
        }
        Ok(Account {
            modseq: ModSeq(head.modseq.to_native()),
            assigned: ModSeq(head.modseq.to_native()),
            uidvalidity_last: UidValidity(head.uidvalidity_last.to_native()),
            closed: head.closed,
            folders,
            ..Account::default()
        })
    }

    pub(super) fn load_chunk(&mut self, mailbox: MailboxId, number: u32, chunk: Chunk) {
        if let Some(folder) = self.folder_mut(mailbox) {
            folder.load_chunk(number, chunk);
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
        into.update(&[u8::from(self.closed)]);
        self.folders.iter().for_each(|folder| folder.digest(into));
    }

    /// Octets on the heap, its own included.
    pub(super) fn heap_octets(&self) -> usize {
        let folders = self.folders.iter().map(Folder::heap_octets).sum::<usize>();
        size_of::<Account>()
            + self.folders.capacity() * size_of::<Folder>()
            + self.gone.capacity() * size_of::<u64>()
            + folders
    }
}
