//! One account: its mailboxes, its change counter, its use of space.
//!
//! `apply_*` are the only functions that change it, in recovery as in live.

mod mend;

use super::folder::{Before, Folder};
use super::history::{ChunkRef, Event, FlagRun, History, RowsOf, RunsOf, UNKNOWN};
use super::image::{Facts, Truths};
use super::moved::UidlRun;
use super::page::{AccountHead, HEAD_MINOR, Part, PartsOut, encode_head};
use super::quota::Usage;
use super::record::catalog::Catalog;
use super::record::flags::FlagsRecord;
use super::record::history::{Forget, Moment, Swap};
use super::record::origin::{OriginRecord, UidlsRecord};
use super::record::transfer::Transfer;
use super::record::{Change, Create, Deliver, Expunge};
use super::row::Entry;
use crate::model::id::{BlobId, Lsn, MailboxId, ModSeq, Uid, UidValidity};
use crate::model::limits::{ACCOUNT_PAGE_OCTETS, HISTORY_EVENT_ROWS};
use crate::store::Damaged;
use std::cell::Cell;
use xxhash_rust::xxh3::Xxh3;

/// The mailbox that every account has.
pub const INBOX: MailboxId = MailboxId(1);
/// Its name (RFC 9051 §5.1).
pub(super) const INBOX_NAME: &str = "INBOX";

/// On how many pages an account was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// All of it is in the head's, or nothing was saved.
    #[default]
    Whole,
    /// Mailboxes, and the history, have pages of their own.
    Spread,
}

/// Where in an account a page is: see [`Account::part`].
#[derive(Debug, Default)]
pub(super) struct PartAt {
    past: usize,
    folder: usize,
    number: usize,
}

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
    /// Whether changes go into the history.
    pub keeps: bool,
    /// When the last changes were made that the history knows of, and those that follow; seconds
    /// since 1970, 0 for none.
    pub moment: u32,
    /// From when on the history is known: seconds since 1970, or [`UNKNOWN`].
    pub floor: u32,
    /// Changed since it was saved.
    pub dirty: bool,
    pub layout: Layout,
    /// Volatile: somebody asked for it since the hand passed (accounts/clock.rs).
    pub touched: Cell<bool>,
    /// Volatile: octets of memory, as they were last counted.
    pub weight: Cell<usize>,
    /// Few; sorted by id.
    folders: Vec<Folder>,
    /// Names, sorted; a mailbox of the name need not be there (RFC 9051 §6.3.7).
    subscriptions: Vec<Box<str>>,
    /// What undoes the latest changes.
    past: History,
    /// Pages that are no more.
    gone: Vec<u64>,
}

impl Account {
    fn place_of(&self, id: MailboxId) -> Option<usize> {
        self.folders.binary_search_by_key(&id, |folder| folder.id).ok()
    }

    pub(super) fn folder(&self, id: MailboxId) -> Option<&Folder> {
        self.folders.get(self.place_of(id)?)
    }

    pub(super) fn folder_mut(&mut self, id: MailboxId) -> Option<&mut Folder> {
        let at = self.place_of(id)?;
        self.folders.get_mut(at)
    }

    pub(super) fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// How many mailboxes have names.
    pub(super) fn named_count(&self) -> usize {
        self.folders.iter().filter(|folder| !folder.removed).count()
    }

    pub(super) fn past(&self) -> &History {
        &self.past
    }

    /// Until when the oldest was that the history has.
    pub(super) fn oldest(&self) -> Option<u32> {
        let removed = self.folders.iter().filter(|folder| folder.removed_at != 0);
        removed.map(|folder| folder.removed_at).chain(self.past.first_ended()).min()
    }

    /// What the user has: nothing that only the history does.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for folder in self.folders.iter().filter(|folder| !folder.removed) {
            usage.octets += folder.octets;
            usage.messages += u64::from(folder.count);
        }
        usage
    }

    fn place(&self, id: MailboxId) -> Result<usize, Damaged> {
        self.place_of(id).ok_or_else(|| Damaged(format!("there is no mailbox {id}")))
    }

    fn open(&mut self, id: MailboxId) -> Result<&mut Folder, Damaged> {
        let at = self.place(id)?;
        Ok(&mut self.folders[at])
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
        // INBOX was always there.
        let is_first = self.folders.is_empty() && self.moment == 0;
        if !is_first {
            self.note(create.mailbox, None);
        }
        self.folders.reserve_exact(1);
        let mut folder = Folder::new(create);
        folder.born = self.moment;
        self.folders.push(folder);
        Ok(())
    }

    /// Whether changes go into the history.
    fn is_kept(&self) -> bool {
        self.keeps && self.moment != 0
    }

    /// A change: into the history goes what undoes it, if anything does. Where none is kept nothing
    /// is known any more of what was before.
    fn note(&mut self, mailbox: MailboxId, event: Option<&Event<'_>>) {
        if !self.is_kept() {
            self.floor = UNKNOWN;
        } else if let Some(event) = event {
            self.past.push(self.moment, mailbox, event);
        }
    }

    fn note_gone(&mut self, mailbox: MailboxId, rows: &[Entry], uidls: &[UidlRun], moves: bool) {
        for rows in rows.chunks(HISTORY_EVENT_ROWS).map(RowsOf::Live) {
            let event = if moves { Event::Left(rows) } else { Event::Gone(rows) };
            self.note(mailbox, Some(&event));
        }
        for UidlRun { first, form, .. } in uidls {
            self.note(mailbox, Some(&Event::Uidl { uid: *first, form }));
        }
    }

    fn note_flags(&mut self, mailbox: MailboxId, runs: &[FlagRun]) {
        self.note(mailbox, None);
        for runs in runs.chunks(HISTORY_EVENT_ROWS).map(RunsOf::Live) {
            self.note(mailbox, Some(&Event::Flags(runs)));
        }
    }

    fn note_keywords(&mut self, mailbox: MailboxId, names: &[(u8, Box<str>)]) {
        for &(bit, ref name) in names {
            self.note(mailbox, Some(&Event::Keyword { bit, name }));
        }
    }

    /// What follows is made at this second. A clock that was set back takes with it what it said
    /// before: nothing ended later than now.
    pub(super) fn apply_moment(&mut self, moment: Moment) {
        let Moment { when, keeps } = moment;
        if when < self.moment {
            self.past.clamp(when);
            for folder in &mut self.folders {
                folder.born = folder.born.min(when);
                folder.removed_at = folder.removed_at.min(when);
            }
            if self.floor != UNKNOWN {
                self.floor = self.floor.min(when);
            }
        }
        // Nobody made another change since the last one that is not known.
        if keeps && self.floor == UNKNOWN {
            self.floor = when - 1;
        }
        (self.moment, self.keeps) = (when, keeps);
    }

    /// The oldest of the history goes, and with it what was removed by then.
    pub(super) fn apply_forget(&mut self, forget: &Forget<'_>) -> Result<(), Damaged> {
        let mut floor = self.past.forget(forget.events, forget.blobs(), &mut self.gone)?;
        if self.past.first_ended().is_none_or(|first| first > forget.until) {
            for folder in &mut self.folders {
                if (1..=forget.until).contains(&folder.removed_at) {
                    floor = floor.max(Some(folder.removed_at));
                    folder.removed_at = 0;
                }
            }
        }
        if self.floor != UNKNOWN {
            self.floor = self.floor.max(floor.unwrap_or(0));
        }
        self.forget_if_done();
        Ok(())
    }

    pub(super) fn apply_swap(&mut self, swap: Swap) -> Result<(), Damaged> {
        let place = |id| self.folders.iter().position(|folder| folder.id == id && !folder.removed);
        let (Some(one), Some(other)) = (place(swap.one), place(swap.other)) else {
            return Err(Damaged(format!("mailboxes {} and {} to trade", swap.one, swap.other)));
        };
        self.advance(swap.modseq)?;
        if let Ok([one, other]) = self.folders.get_disjoint_mut([one, other]) {
            one.swap(other, swap.modseq, &mut self.gone);
            // It was made to trade, and goes: whoever goes back to before finds it under no name.
            other.born = self.moment;
        }
        self.note(swap.one, Some(&Event::Swapped(swap.other)));
        Ok(())
    }

    /// Makes one record part of the account.
    pub(super) fn apply(&mut self, change: &Change<'_>) -> Result<(), Damaged> {
        match change {
            Change::Deliver(deliver) => self.apply_deliver(deliver)?,
            Change::Flags(record) => self.apply_flags(record)?,
            Change::Move(transfer) => self.apply_transfer(transfer, true)?,
            Change::Copy(transfer) => self.apply_transfer(transfer, false)?,
            Change::Catalog(change) => self.apply_catalog(change)?,
            Change::Origin(record) => self.apply_origin(record)?,
            Change::Uidls(record) => self.apply_uidls(record)?,
            Change::Moment(moment) => self.apply_moment(*moment),
            Change::Forget(forget) => self.apply_forget(forget)?,
            Change::Swap(swap) => self.apply_swap(*swap)?,
            Change::Create(create) => self.apply_create(create)?,
            Change::Expunge(expunge) => self.apply_expunge(expunge)?,
            Change::AccountDelete => self.apply_delete(),
        }
        Ok(())
    }

    pub(super) fn apply_deliver(&mut self, deliver: &Deliver) -> Result<(), Damaged> {
        if self.closed {
            return Err(Damaged("mail for an account that was deleted".into()));
        }
        let at = self.place(deliver.mailbox)?;
        self.advance(deliver.entry.modseq)?;
        self.folders[at].deliver(&deliver.entry)
    }

    pub(super) fn apply_expunge(&mut self, expunge: &Expunge<'_>) -> Result<(), Damaged> {
        let id = expunge.mailbox;
        let folder = self.open(id)?;
        folder.check_rows(expunge.messages())?;
        // What is left of a mailbox that was let go is known no more in any case.
        let is_news = !folder.removed;
        let kept = |(uid, _)| folder.entry(uid).filter(|_| expunge.kept);
        let rows: Vec<Entry> = expunge.messages().filter_map(kept).collect();
        if expunge.kept && !self.is_kept() {
            return Err(Damaged(format!("mailbox {id}: messages for a history that is not kept")));
        }
        self.advance(expunge.modseq)?;
        let uids: Vec<Uid> = expunge.messages().map(|(uid, _)| uid).collect();
        let uidls = self.remove(id, &uids, expunge.modseq)?;
        if expunge.kept {
            self.note_gone(id, &rows, &uidls, false);
        } else if is_news {
            self.floor = UNKNOWN;
        }
        self.forget_if_done();
        Ok(())
    }

    fn remove(
        &mut self,
        id: MailboxId,
        uids: &[Uid],
        modseq: ModSeq,
    ) -> Result<Vec<UidlRun>, Damaged> {
        let mut gone = std::mem::take(&mut self.gone);
        let uidls = self.open(id)?.remove(uids, modseq, &mut gone);
        self.gone = gone;
        Ok(uidls)
    }

    pub(super) fn apply_flags(&mut self, record: &FlagsRecord<'_>) -> Result<(), Damaged> {
        self.open(record.mailbox)?;
        self.advance(record.modseq)?;
        let kept = self.is_kept();
        let Before { runs, names } = self.open(record.mailbox)?.change_flags(record, kept);
        self.note_flags(record.mailbox, &runs);
        self.note_keywords(record.mailbox, &names);
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
        let left = |(uid, ..): (Uid, Uid, BlobId)| from.entry(uid).filter(|_| moves);
        let rows: Vec<Entry> = transfer.items().filter_map(left).collect();
        self.advance(transfer.modseq)?;
        if moves {
            let uids: Vec<Uid> = transfer.items().map(|(uid, ..)| uid).collect();
            let uidls = self.remove(transfer.from, &uids, transfer.modseq)?;
            self.note_gone(transfer.from, &rows, &uidls, true);
        }
        let names = self.open(transfer.to)?.take_in(arriving, keywords.as_deref())?;
        self.note_keywords(transfer.to, &names);
        Ok(())
    }

    pub(super) fn apply_catalog(&mut self, change: &Catalog<'_>) -> Result<(), Damaged> {
        match *change {
            Catalog::Rename { mailbox, modseq, name } => {
                if self.named(name).is_some_and(|folder| folder.id != mailbox) {
                    return Err(Damaged(format!("mailbox {mailbox} may not have the name {name}")));
                }
                self.open(mailbox)?;
                self.advance(modseq)?;
                let was = std::mem::replace(&mut self.open(mailbox)?.name, name.into());
                self.note(mailbox, Some(&Event::Name(&was)));
            }
            Catalog::Subscribe { on, name } => {
                match (self.subscriptions.binary_search_by(|known| (**known).cmp(name)), on) {
                    (Err(at), true) => self.subscriptions.insert(at, name.into()),
                    (Ok(at), false) => drop(self.subscriptions.remove(at)),
                    _ => return Ok(()),
                }
                self.note(MailboxId(0), Some(&Event::Subscribed { was: !on, name }));
            }
            Catalog::Delete { mailbox, modseq } => {
                self.open(mailbox)?;
                self.advance(modseq)?;
                let removed_at = if self.is_kept() { self.moment } else { 0 };
                let folder = self.open(mailbox)?;
                (folder.removed, folder.removed_at) = (true, removed_at);
                self.note(mailbox, None);
                self.forget_if_done();
            }
            Catalog::Use { mailbox, modseq, uses } => {
                self.open(mailbox)?;
                self.advance(modseq)?;
                let was = std::mem::replace(&mut self.open(mailbox)?.uses, uses);
                self.note(mailbox, Some(&Event::Use(was.0)));
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

    /// A removed mailbox that the history has let go is forgotten with its last message. A deleted
    /// account keeps nothing but the mark once all are.
    fn forget_if_done(&mut self) {
        let closed =
            self.closed && self.folders.iter().all(Folder::is_empty) && self.past.is_empty();
        let gone = &mut self.gone;
        self.folders.retain(|folder| {
            let done = closed || (folder.removed && folder.removed_at == 0 && folder.is_empty());
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

    /// What is there, then what was removed.
    pub(super) fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.folders.iter().for_each(|folder| folder.references(each));
        self.past.references(each);
    }

    /// What is known of it without a look at its messages.
    pub(super) fn facts(&self) -> Facts {
        let is_let_go = |folder: &Folder| folder.removed && folder.removed_at == 0;
        let lets_go = self.folders.iter().any(is_let_go);
        let truths = Truths::new([self.closed, self.keeps, lets_go, self.folders.is_empty()]);
        Facts { truths, usage: self.usage(), oldest: self.oldest() }
    }

    /// Whether it fits into one page.
    pub(super) fn is_small(&self) -> bool {
        let mut octets = self.past.octets();
        octets += self.subscriptions.iter().map(|name| name.len() + 2).sum::<usize>();
        octets <= ACCOUNT_PAGE_OCTETS
            && self.folders.iter().all(|folder| {
                octets += folder.page_octets();
                octets <= ACCOUNT_PAGE_OCTETS
            })
    }

    /// The page at a place, and the next place: all pages but the head's in the order of parts.
    pub(super) fn part(&self, at: &mut PartAt) -> Option<(u64, Vec<u8>)> {
        if let Some(page) = self.past.page(at.past) {
            at.past += 1;
            return Some(page);
        }
        loop {
            if let Some(page) = self.folders.get(at.folder)?.part(at.number) {
                at.number += 1;
                return Some(page);
            }
            (at.folder, at.number) = (at.folder + 1, 0);
        }
    }

    /// Names every page but the head's.
    fn pages(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        self.folders.iter().for_each(|folder| folder.pages(&mut pages));
        let (_, past) = self.past.head();
        pages.extend(past.iter().map(|chunk| super::history::minor(chunk.number)));
        pages
    }

    pub(super) fn save(&mut self, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty = false;
        for minor in std::mem::take(&mut self.gone) {
            page(minor, None);
        }
        let layout = if self.is_small() { Layout::Whole } else { Layout::Spread };
        match (std::mem::replace(&mut self.layout, layout), layout) {
            (Layout::Spread, Layout::Whole) => {
                self.pages().into_iter().for_each(|minor| page(minor, None));
            }
            (Layout::Whole, Layout::Spread) => self.taint_pages(),
            _ => {}
        }
        if layout == Layout::Spread {
            self.folders.iter_mut().for_each(|folder| folder.save(page));
            self.past.save(page);
            return page(HEAD_MINOR, Some(encode_head(&self.head(), None)));
        }
        let (mut parts, mut at) = (PartsOut::default(), PartAt::default());
        while let Some((minor, octets)) = self.part(&mut at) {
            parts.push(minor, &octets);
        }
        self.folders.iter_mut().for_each(Folder::settle);
        self.past.settle();
        page(HEAD_MINOR, Some(encode_head(&self.head(), Some(&parts.octets))));
    }

    pub(super) fn head(&self) -> AccountHead {
        let (next_past, past) = self.past.head();
        AccountHead {
            modseq: self.modseq.0,
            uidvalidity_last: self.uidvalidity_last.0,
            mailbox_last: self.mailbox_last.0,
            subscriptions: self.subscriptions.iter().map(ToString::to_string).collect(),
            closed: self.closed,
            keeps: self.keeps,
            moment: self.moment,
            floor: self.floor,
            next_past,
            past: past.into_iter().map(Into::into).collect(),
            mailboxes: self.folders.iter().map(Folder::head).collect(),
        }
    }

    /// See [`super::Planted::ForgetVanished`].
    pub(super) fn forget_vanished(&mut self) {
        self.folders.iter_mut().for_each(Folder::forget_vanished);
    }

    fn taint_pages(&mut self) {
        self.folders.iter_mut().for_each(Folder::taint);
        self.past.taint();
    }

    /// Whether all its pages have come.
    pub(super) fn is_complete(&self) -> bool {
        self.folders.iter().all(Folder::is_complete) && self.past.is_complete()
    }

    pub(super) fn taint(&mut self) {
        self.dirty = true;
        self.taint_pages();
    }

    /// Whether there can be an account of which this is told.
    pub(super) fn check(head: &AccountHead) -> Result<(), Damaged> {
        head.mailboxes.iter().try_for_each(Folder::check)?;
        let first = head.mailboxes.first().map_or(1, |one| one.id);
        if first == 0 || !head.mailboxes.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Damaged("mailboxes out of order".into()));
        }
        let past: Vec<ChunkRef> = head.past.iter().copied().map(Into::into).collect();
        History::load(head.next_past, &past).map(drop)
    }

    pub(super) fn load(head: AccountHead) -> Result<Account, Damaged> {
        Account::check(&head)?;
        let past: Vec<ChunkRef> = head.past.into_iter().map(Into::into).collect();
        // In allocations of their own: what is collected would keep those of the head, which are larger.
        let mut folders = Vec::with_capacity(head.mailboxes.len());
        folders.extend(head.mailboxes.into_iter().map(Folder::load));
        let mut subscriptions: Vec<Box<str>> = Vec::with_capacity(head.subscriptions.len());
        subscriptions.extend(head.subscriptions.into_iter().map(Into::into));
        Ok(Account {
            modseq: ModSeq(head.modseq),
            assigned: ModSeq(head.modseq),
            uidvalidity_last: UidValidity(head.uidvalidity_last),
            mailbox_last: MailboxId(head.mailbox_last),
            closed: head.closed,
            keeps: head.keeps,
            moment: head.moment,
            floor: head.floor,
            past: History::load(head.next_past, &past)?,
            folders,
            subscriptions,
            ..Account::default()
        })
    }

    pub(super) fn load_part(&mut self, mailbox: MailboxId, part: Part) {
        let part = match part {
            Part::Past(number, events) => return self.past.load_chunk(number, events),
            part => part,
        };
        let Some(folder) = self.folder_mut(mailbox) else { return };
        match part {
            Part::Chunk(number, chunk) => folder.load_chunk(number, chunk),
            Part::Memo(memo) => folder.load_memo(memo),
            Part::Past(..) => {}
        }
    }

    pub(super) fn verify(&self) -> Result<(), Damaged> {
        self.past.verify()?;
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
        into.update(&[u8::from(self.keeps)]);
        into.update(&self.moment.to_le_bytes());
        into.update(&self.floor.to_le_bytes());
        self.past.digest(into);
        self.folders.iter().for_each(|folder| folder.digest(into));
    }

    /// Octets on the heap, its own included.
    pub(super) fn heap_octets(&self) -> usize {
        let folders = self.folders.iter().map(Folder::heap_octets).sum::<usize>();
        size_of::<Account>()
            + self.past.heap_octets()
            + self.folders.capacity() * size_of::<Folder>()
            + self.gone.capacity() * size_of::<u64>()
            + self.subscriptions.iter().map(|name| name.len() + 16).sum::<usize>()
            + folders
    }
}
