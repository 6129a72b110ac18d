//! One mailbox of an account: UIDs in order, UIDVALIDITY, counts, and its rows in chunks.
//!
//! Promises:
//!   - UIDs rise and are never used again under one UIDVALIDITY (RFC 9051 §2.3.1.1)
//!   - `count` and `octets` are those of the rows
//!   - the number of a chunk is never used again, so that a page of the past is known as such

use super::chunk::Chunk;
use super::history::FlagRun;
use super::image;
use super::keywords::Keywords;
use super::moved::{Moved, UidlRun};
use super::page::{MailboxHead, Memo, RowsRef, chunk_minor, encode_chunk, encode_memo, memo_minor};
use super::record::Create;
use super::record::catalog::Use;
use super::record::flags::{FlagsRecord, Mode};
use super::record::origin::{OriginRecord, UidlsRecord};
use super::row::{Entry, Flags, Row};
use super::vanished::{Run, Vanished};
use super::view::{Facts, View};
use crate::bytes::codec::{to_u32, to_usize};
use crate::model::id::{BlobId, MailboxId, ModSeq, Uid, UidValidity};
use crate::model::limits::MAILBOX_CHUNK_ROWS;
use crate::store::Damaged;
use std::cell::Cell;
use std::rc::Rc;
use xxhash_rust::xxh3::Xxh3;

/// Neighbours that together have no more rows than this become one.
const JOIN_ROWS_MAX: usize = MAILBOX_CHUNK_ROWS / 2;

/// A chunk with its number.
#[derive(Debug)]
struct Slot {
    number: u32,
    dirty: bool,
    /// Without rows only while its page was not loaded yet.
    chunk: Rc<Chunk>,
}

/// What most mailboxes do not have.
#[derive(Debug, Default)]
struct Rare {
    /// Nothing until the first keyword is used.
    keywords: Option<Rc<Keywords>>,
    /// Nothing until the first message goes.
    vanished: Option<Box<Vanished>>,
    /// Nothing until mail of another server moves in.
    moved: Option<Rc<Moved>>,
}

/// What a change of flags made otherwise.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// What the messages had that have others now.
    pub runs: Vec<FlagRun>,
    /// Keywords whose places others have now.
    pub names: Vec<(u8, Box<str>)>,
}

/// Adds a message that had these keywords and flags; it may go on with the last run if it is the
/// next in the mailbox.
fn note_run(runs: &mut Vec<FlagRun>, uid: Uid, (keywords, flags): (u16, Flags), goes_on: bool) {
    match runs.last_mut() {
        Some(run) if goes_on && (run.keywords, run.flags) == (keywords, flags) => run.last = uid,
        _ => runs.push(FlagRun { first: uid, last: uid, keywords, flags }),
    }
}

/// A mailbox.
#[derive(Debug)]
pub(super) struct Folder {
    pub id: MailboxId,
    pub uidvalidity: UidValidity,
    /// The UID after the highest one that was applied.
    pub uidnext: Uid,
    /// The UID that the next delivery is given; runs ahead of `uidnext`.
    pub assign: Uid,
    /// Volatile: the first UID that no session was told of (RFC 3501 §2.3.2).
    recent_from: Uid,
    pub count: u32,
    next_chunk: u32,
    pub modseq: ModSeq,
    pub octets: u64,
    pub name: Box<str>,
    pub uses: Use,
    /// When it was made, as far as the history is to know; seconds since 1970.
    pub born: u32,
    /// Its name is free again.
    pub removed: bool,
    /// When it was removed, while the history has it and its messages; 0: they are on the way out.
    pub removed_at: u32,
    slots: Box<[Slot]>,
    /// Nothing in most mailboxes.
    rare: Option<Box<Rare>>,
    /// Keywords, removals or what moved in changed since they were saved.
    memo_dirty: bool,
}

impl Folder {
    pub(super) fn new(create: &Create<'_>) -> Folder {
        Folder {
            id: create.mailbox,
            uidvalidity: create.uidvalidity,
            uidnext: Uid(1),
            assign: Uid(1),
            recent_from: Uid(1),
            count: 0,
            next_chunk: 0,
            modseq: create.modseq,
            octets: 0,
            name: create.name.into(),
            uses: Use::default(),
            born: 0,
            removed: false,
            removed_at: 0,
            slots: Box::default(),
            rare: None,
            memo_dirty: false,
        }
    }

    /// Adds a message. The account has checked the change counter.
    pub(super) fn deliver(&mut self, entry: &Entry) -> Result<(), Damaged> {
        let next = entry.uid.0.checked_add(1).filter(|_| entry.uid >= self.uidnext);
        let Some(next) = next else {
            let want = self.uidnext;
            return Err(Damaged(format!("mailbox {}: UID {} before {want}", self.id, entry.uid)));
        };
        if self.slots.last().is_none_or(|slot| slot.chunk.is_full()) {
            let number = self.next_chunk;
            self.next_chunk =
                number.checked_add(1).expect("each chunk took a UID, and those run out first");
            // One more each 256 messages: no room is kept for it.
            let mut slots = std::mem::take(&mut self.slots).into_vec();
            slots.reserve_exact(1);
            slots.push(Slot { number, dirty: true, chunk: Rc::default() });
            self.slots = slots.into_boxed_slice();
        }
        let slot = self.slots.last_mut().expect("one was added if there was none");
        Rc::make_mut(&mut slot.chunk).push(entry);
        slot.dirty = true;
        self.uidnext = Uid(next);
        self.assign = self.assign.max(self.uidnext);
        self.count += 1;
        self.octets += u64::from(entry.size);
        self.modseq = entry.modseq;
        Ok(())
    }

    /// Whether each row is there and holds the blob that is named for it.
    pub(super) fn check_rows(
        &self,
        rows: impl Iterator<Item = (Uid, BlobId)>,
    ) -> Result<(), Damaged> {
        for (uid, blob) in rows {
            let found = self.blob(uid);
            if found != Some(blob) {
                return Err(Damaged(format!(
                    "mailbox {}: UID {uid} to be taken with blob {blob}, has {found:?}",
                    self.id
                )));
            }
        }
        Ok(())
    }

    /// Removes messages that are there, by rising UID; adds the pages that are no more to `gone`.
    /// The unique ids of another server that were those of these messages alone.
    pub(super) fn remove(
        &mut self,
        uids: &[Uid],
        modseq: ModSeq,
        gone: &mut Vec<u64>,
    ) -> Vec<UidlRun> {
        let mut rest = uids;
        for slot in &mut self.slots {
            let here = rest.partition_point(|&uid| uid <= slot.chunk.last_uid());
            let (these, behind) = rest.split_at(here);
            rest = behind;
            if these.is_empty() {
                continue;
            }
            let chunk = slot.chunk.without(these);
            let octets = |chunk: &Chunk| chunk.rows.iter().map(|row| u64::from(row.size)).sum();
            let (before, after): (u64, u64) = (octets(&slot.chunk), octets(&chunk));
            self.octets -= before - after;
            self.count -= to_u32(slot.chunk.rows.len() - chunk.rows.len());
            slot.chunk = Rc::new(chunk);
            slot.dirty = true;
        }
        self.modseq = modseq;
        self.join(gone);
        // Nobody can ask for what went out of a mailbox that is no more.
        if !self.removed {
            self.rare_mut().vanished.get_or_insert_default().add(modseq, uids);
            self.memo_dirty = true;
        }
        let moved = self.rare.as_mut().and_then(|rare| rare.moved.as_mut());
        let Some(moved) = moved.filter(|moved| !moved.uidls.is_empty()) else {
            return Vec::new();
        };
        self.memo_dirty = true;
        Rc::make_mut(moved).forget(uids)
    }

    /// Exchanges all that is held with another mailbox: what is left to each are number, name, use
    /// and times. UIDNEXT gets lower in neither: a message that is on its way has its UID already.
    pub(super) fn swap(&mut self, other: &mut Folder, modseq: ModSeq, gone: &mut Vec<u64>) {
        let pages_of_both = |one: &Folder, other: &Folder| {
            let mut pages = Vec::new();
            one.pages(&mut pages);
            other.pages(&mut pages);
            pages
        };
        let before = pages_of_both(self, other);
        let (uidnext, assign) = (self.uidnext.max(other.uidnext), self.assign.max(other.assign));
        let next_chunk = self.next_chunk.max(other.next_chunk);
        std::mem::swap(&mut self.uidvalidity, &mut other.uidvalidity);
        std::mem::swap(&mut self.count, &mut other.count);
        std::mem::swap(&mut self.octets, &mut other.octets);
        std::mem::swap(&mut self.slots, &mut other.slots);
        std::mem::swap(&mut self.rare, &mut other.rare);
        // What both of them have a page for is written anew.
        let mut after = pages_of_both(self, other);
        after.sort_unstable();
        gone.extend(before.into_iter().filter(|minor| after.binary_search(minor).is_err()));
        for folder in [self, other] {
            (folder.uidnext, folder.assign, folder.recent_from) = (uidnext, assign, uidnext);
            (folder.next_chunk, folder.modseq) = (next_chunk, modseq);
            folder.taint();
        }
    }

    /// Where the mailbox stands that moves in. The account has checked the change counter.
    pub(super) fn take_origin(&mut self, record: &OriginRecord) -> Result<(), Damaged> {
        let is_other = record.uidvalidity != self.uidvalidity;
        if record.uidnext < self.uidnext || is_other && !self.is_empty() {
            let (have, uidnext) = (self.uidvalidity, self.uidnext);
            return Err(Damaged(format!(
                "mailbox {}: UIDs from {} under UIDVALIDITY {} after {uidnext} under {have}",
                self.id, record.uidnext, record.uidvalidity
            )));
        }
        self.uidvalidity = record.uidvalidity;
        self.uidnext = record.uidnext;
        self.assign = self.assign.max(record.uidnext);
        self.modseq = record.modseq;
        Rc::make_mut(self.rare_mut().moved.get_or_insert_default()).origin = record.origin;
        self.memo_dirty = true;
        Ok(())
    }

    /// Unique ids of messages that come next.
    pub(super) fn take_uidls(&mut self, record: &UidlsRecord) -> Result<(), Damaged> {
        let (last, uidnext) = (self.last_uid(), self.uidnext);
        let moved = Rc::make_mut(self.rare_mut().moved.get_or_insert_default());
        for run in &record.runs {
            if run.first < uidnext || !moved.add(run.clone(), last) {
                return Err(Damaged(format!("mailbox {}: unique ids out of order", self.id)));
            }
        }
        self.modseq = record.modseq;
        self.memo_dirty = true;
        Ok(())
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn keywords(&self) -> Option<&Rc<Keywords>> {
        self.rare.as_ref()?.keywords.as_ref()
    }

    fn vanished(&self) -> Option<&Vanished> {
        self.rare.as_ref()?.vanished.as_deref()
    }

    pub(super) fn moved(&self) -> Option<&Rc<Moved>> {
        self.rare.as_ref()?.moved.as_ref()
    }

    /// Changes flags and keywords. Messages that went meanwhile are passed over. What was before, if
    /// it is to be `kept`.
    pub(super) fn change_flags(&mut self, record: &FlagsRecord<'_>, kept: bool) -> Before {
        let change = &record.change;
        let before = self.keywords().cloned().unwrap_or_default();
        let mut keywords = None;
        let mut named = 0;
        if !change.keywords.is_empty() {
            let own: &mut Keywords = keywords.insert(Keywords::clone(&before));
            named = change.keywords.iter().fold(0, |named, name| named | own.bit(name));
            // Nothing is learnt from a name that is taken away.
            if change.mode != Mode::Remove {
                // Known names take no place.
                let fresh = change.keywords.iter().filter(|name| own.bit(name) == 0).count();
                let in_use = self.keywords_in_use(&before, fresh);
                for name in &change.keywords {
                    named |= own.learn(name, in_use | named);
                }
            }
        }
        let mut runs: Vec<FlagRun> = Vec::new();
        // Whether the row before this one is the last one of the runs.
        let goes_on = Cell::new(false);
        let mut alter = |row: &mut Row| {
            let mask = before.mask(row.keywords);
            let was = (row.keywords, Flags(row.flags));
            let (flags, after) = change.outcome(Flags(row.flags), mask, named);
            row.flags = flags.0;
            if after != mask {
                row.keywords = keywords.as_mut().map_or(0, |own| own.intern(after));
            }
            let is_other = kept && (row.keywords, Flags(row.flags)) != was;
            if is_other {
                note_run(&mut runs, Uid(row.uid), was, goes_on.get());
            }
            goes_on.set(is_other);
        };
        for (first, last) in record.ranges() {
            goes_on.set(false);
            let from = self.slots.partition_point(|slot| slot.chunk.last_uid() < first);
            for slot in &mut self.slots[from..] {
                if slot.chunk.first_uid() > last {
                    break;
                }
                let chunk = Rc::make_mut(&mut slot.chunk);
                chunk.change(first, last, record.modseq, &mut alter);
                slot.dirty = true;
            }
        }
        self.modseq = record.modseq;
        let names = keywords.map(|keywords| self.keep_keywords(keywords, &before));
        Before { runs, names: names.unwrap_or_default() }
    }

    /// Bits of keywords whose places no other may have; all, where so many more find places of
    /// their own.
    fn keywords_in_use(&self, keywords: &Keywords, coming: usize) -> u64 {
        if keywords.has_places(coming) {
            return u64::MAX;
        }
        let rows = self.slots.iter().flat_map(|slot| slot.chunk.rows.iter());
        keywords.in_use(rows.map(|row| row.keywords))
    }

    /// The names that lost their places, with these.
    fn keep_keywords(&mut self, keywords: Keywords, before: &Keywords) -> Vec<(u8, Box<str>)> {
        if keywords == *before {
            return Vec::new();
        }
        let pairs = (0..).zip(before.names().iter().zip(keywords.names()));
        let lost = pairs.filter(|(_, (was, is))| was != is);
        let lost = lost.map(|(bit, (was, _))| (bit, was.clone())).collect();
        self.rare_mut().keywords = Some(Rc::new(keywords));
        self.memo_dirty = true;
        lost
    }

    /// Takes in messages of another mailbox, whose keywords are `theirs`. The names of keywords that
    /// lost their places here.
    pub(super) fn take_in(
        &mut self,
        entries: Vec<Entry>,
        theirs: Option<&Keywords>,
    ) -> Result<Vec<(u8, Box<str>)>, Damaged> {
        let mut keywords =
            self.keywords().map_or_else(Keywords::default, |own| Keywords::clone(own));
        let before = keywords.clone();
        let names = theirs.map_or(&[][..], Keywords::names);
        let coming = names.iter().filter(|name| keywords.bit(name) == 0).count();
        let mut in_use = self.keywords_in_use(&before, coming);
        // Few sets are in use: each is translated once.
        let mut known: Vec<(u16, u16)> = vec![(0, 0)];
        for mut entry in entries {
            let found = known.iter().find(|(set, _)| *set == entry.keywords);
            entry.keywords = if let Some(&(_, own)) = found {
                own
            } else {
                let names = theirs.into_iter().flat_map(|theirs| theirs.of(entry.keywords));
                let mask = names.fold(0, |mask, name| mask | keywords.learn(name, in_use | mask));
                in_use |= mask;
                let own = keywords.intern(mask);
                known.push((entry.keywords, own));
                own
            };
            self.deliver(&entry)?;
        }
        Ok(self.keep_keywords(keywords, &before))
    }

    /// What went after `since`; `None` if that is not known any more.
    pub(super) fn vanished_since(&self, since: ModSeq) -> Option<Vec<(Uid, Uid)>> {
        let plain = |run: &Run| (run.first, run.last);
        match self.vanished() {
            Some(vanished) => Some(vanished.since(since)?.iter().map(plain).collect()),
            None => Some(Vec::new()),
        }
    }

    /// Of the last message; 0 if there is none.
    pub(super) fn last_uid(&self) -> Uid {
        self.slots.last().map_or(Uid(0), |slot| slot.chunk.last_uid())
    }

    /// Removals may have been told that nothing knows of any more: whoever comes back from before is told
    /// of every UID that is not in use.
    pub(super) fn forget_removals(&mut self, modseq: ModSeq) {
        self.modseq = modseq;
        let vanished = Vanished { floor: modseq, runs: Vec::new() };
        self.rare_mut().vanished = Some(Box::new(vanished));
        self.memo_dirty = true;
    }

    /// The entry of a message, if it is there.
    pub(super) fn entry(&self, uid: Uid) -> Option<Entry> {
        let at = self.slots.partition_point(|slot| slot.chunk.last_uid() < uid);
        self.slots.get(at)?.chunk.find(uid)
    }

    /// See [`super::Planted::ForgetVanished`].
    pub(super) fn forget_vanished(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.vanished = None;
        }
    }

    /// See [`super::Planted::ReuseUids`].
    pub(super) fn reuse_uids(&mut self) {
        self.uidnext = Uid(self.last_uid().0 + 1);
        self.assign = self.uidnext;
    }

    /// Drops empty chunks and joins small neighbours.
    fn join(&mut self, gone: &mut Vec<u64>) {
        let mut kept: Vec<Slot> = Vec::new();
        for slot in std::mem::take(&mut self.slots) {
            let rows = slot.chunk.rows.len();
            let small = |last: &&mut Slot| last.chunk.rows.len() + rows <= JOIN_ROWS_MAX;
            if rows == 0 {
                gone.push(chunk_minor(self.id, slot.number));
            } else if let Some(last) = kept.last_mut().filter(small) {
                last.chunk = Rc::new(last.chunk.joined(&slot.chunk));
                last.dirty = true;
                gone.push(chunk_minor(self.id, slot.number));
            } else {
                kept.push(slot);
            }
        }
        self.slots = kept.into_boxed_slice();
    }

    /// The blob of a message, if it is there.
    pub(super) fn blob(&self, uid: Uid) -> Option<BlobId> {
        self.entry(uid).map(|entry| entry.blob)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is here now; costs a pointer for 256 messages.
    pub(super) fn view(&self) -> View {
        let chunks = self.slots.iter().map(|slot| Rc::clone(&slot.chunk));
        let facts = Facts {
            uidvalidity: self.uidvalidity,
            uidnext: self.uidnext,
            recent_from: self.recent_from,
            modseq: self.modseq,
            octets: self.octets,
        };
        View::new(facts, self.keywords().cloned(), chunks).with_moved(self.moved().cloned())
    }

    /// The same, for a session that is told of all of it: nothing is recent for others.
    pub(super) fn take_view(&mut self) -> View {
        let view = self.view();
        self.recent_from = self.uidnext;
        view
    }

    /// Every message, by rising UID.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.slots.iter().flat_map(|slot| slot.chunk.entries())
    }

    pub(super) fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.entries().for_each(|entry| each(entry.blob));
    }

    /// Hands out what the head page says of this mailbox.
    pub(super) fn head(&self) -> MailboxHead {
        let chunks = self
            .slots
            .iter()
            .map(|slot| RowsRef { number: slot.number, rows: to_u32(slot.chunk.rows.len()) });
        MailboxHead {
            id: self.id.0,
            uidvalidity: self.uidvalidity.0,
            uidnext: self.uidnext.0,
            next_chunk: self.next_chunk,
            modseq: self.modseq.0,
            octets: self.octets,
            count: self.count,
            born: self.born,
            removed_at: self.removed_at,
            uses: self.uses.0,
            removed: self.removed,
            name: self.name.to_string(),
            chunks: chunks.collect(),
        }
    }

    /// Hands out the chunks and the memo that changed.
    pub(super) fn save(&mut self, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        for slot in self.slots.iter_mut().filter(|slot| slot.dirty) {
            slot.dirty = false;
            page(chunk_minor(self.id, slot.number), Some(encode_chunk(&slot.chunk)));
        }
        if std::mem::take(&mut self.memo_dirty) {
            page(memo_minor(self.id), Some(self.memo()));
        }
    }

    fn memo(&self) -> Vec<u8> {
        let (keywords, vanished) = (Keywords::default(), Vanished::default());
        let keywords = self.keywords().map_or(&keywords, |own| own);
        encode_memo(keywords, self.vanished().unwrap_or(&vanished), self.moved().map(|own| &**own))
    }

    /// One of its pages: its memo, if it has one, and its chunks behind that.
    pub(super) fn part(&self, number: usize) -> Option<(u64, Vec<u8>)> {
        let Some(at) = number.checked_sub(usize::from(self.has_memo())) else {
            return Some((memo_minor(self.id), self.memo()));
        };
        let slot = self.slots.get(at)?;
        Some((chunk_minor(self.id, slot.number), encode_chunk(&slot.chunk)))
    }

    /// All is saved.
    pub(super) fn settle(&mut self) {
        self.memo_dirty = false;
        self.slots.iter_mut().for_each(|slot| slot.dirty = false);
    }

    /// Octets of its pages, not too few.
    pub(super) fn page_octets(&self) -> usize {
        let names = self.keywords().map_or(0, |own| own.heap_octets());
        let runs = self.vanished().map_or(0, |vanished| vanished.runs.len());
        let moved = self.moved().map_or(0, |own| own.heap_octets());
        let rows = to_usize(self.count.into());
        self.name.len() + 48 + 16 * rows + names + 12 * runs + moved
    }

    /// See [`image::ahead`].
    pub(super) fn ahead(&self) -> (u32, u32) {
        image::ahead(self.uidnext, self.assign, self.recent_from)
    }

    pub(super) fn set_ahead(&mut self, given: u32, recent: u32) {
        self.assign = Uid(self.uidnext.0.wrapping_add(given));
        self.recent_from = Uid(self.uidnext.0.wrapping_sub(recent));
    }

    /// Whether all chunks have come.
    pub(super) fn is_complete(&self) -> bool {
        self.slots.iter().all(|slot| !slot.chunk.rows.is_empty())
    }

    /// Names every page of a mailbox that is forgotten.
    pub(super) fn pages(&self, gone: &mut Vec<u64>) {
        gone.extend(self.slots.iter().map(|slot| chunk_minor(self.id, slot.number)));
        if self.has_memo() {
            gone.push(memo_minor(self.id));
        }
    }

    fn has_memo(&self) -> bool {
        let has_any = |rare: &Rare| {
            rare.keywords.is_some() || rare.vanished.is_some() || rare.moved.is_some()
        };
        self.rare.as_deref().is_some_and(has_any)
    }

    pub(super) fn taint(&mut self) {
        self.memo_dirty = self.has_memo();
        self.slots.iter_mut().for_each(|slot| slot.dirty = true);
    }

    /// Whether there can be a mailbox of which this is told.
    pub(super) fn check(head: &MailboxHead) -> Result<(), Damaged> {
        let rows: u64 = head.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum();
        let rising = head.chunks.is_sorted_by(|a, b| a.number < b.number);
        if !rising || rows != u64::from(head.count) {
            return Err(Damaged(format!("mailbox {}: chunks are not as counted", head.id)));
        }
        Ok(())
    }

    /// A mailbox as the head tells of it, which was checked; its chunks are empty until their pages come.
    pub(super) fn load(head: MailboxHead) -> Folder {
        let slots = head.chunks.iter().map(|chunk| Slot {
            number: chunk.number,
            dirty: false,
            chunk: Rc::default(),
        });
        Folder {
            id: MailboxId(head.id),
            uidvalidity: UidValidity(head.uidvalidity),
            uidnext: Uid(head.uidnext),
            assign: Uid(head.uidnext),
            // Who was told of what before is not known any more.
            recent_from: Uid(head.uidnext),
            count: head.count,
            next_chunk: head.next_chunk,
            modseq: ModSeq(head.modseq),
            octets: head.octets,
            name: head.name.into(),
            uses: Use(head.uses),
            born: head.born,
            removed: head.removed,
            removed_at: head.removed_at,
            slots: slots.collect(),
            rare: None,
            memo_dirty: false,
        }
    }

    pub(super) fn load_memo(&mut self, memo: Memo) {
        self.rare = Some(Box::new(Rare {
            keywords: (memo.keywords != Keywords::default()).then(|| Rc::new(memo.keywords)),
            vanished: (memo.vanished != Vanished::default()).then(|| Box::new(memo.vanished)),
            moved: (memo.moved != Moved::default()).then(|| Rc::new(memo.moved)),
        }));
    }

    /// Puts a chunk where the head said that it is; one that it did not name is of the past.
    pub(super) fn load_chunk(&mut self, number: u32, chunk: Chunk) {
        if let Ok(at) = self.slots.binary_search_by_key(&number, |slot| slot.number) {
            self.slots[at].chunk = Rc::new(chunk);
        }
    }

    /// Whether counts and order are what the rows say.
    pub(super) fn verify(&self) -> Result<(), Damaged> {
        let wrong = |what: &str| Damaged(format!("mailbox {}: {what}", self.id));
        if !self.is_complete() {
            return Err(wrong("a chunk is missing"));
        }
        let (mut count, mut octets, mut last) = (0, 0, Uid(0));
        let sets = self.keywords().map_or(0, |keywords| keywords.sets().len());
        for entry in self.entries() {
            if usize::from(entry.keywords) > sets {
                return Err(wrong("a message has keywords that the mailbox does not know"));
            }
            if entry.uid <= last || entry.uid >= self.uidnext || entry.modseq > self.modseq {
                return Err(wrong("UIDs or change counters are out of order"));
            }
            last = entry.uid;
            count += 1;
            octets += u64::from(entry.size);
        }
        if (count, octets) != (self.count, self.octets) {
            return Err(wrong("the counts are not those of the rows"));
        }
        Ok(())
    }

    pub(super) fn digest(&self, into: &mut Xxh3) {
        let head = [self.id.0, self.uidvalidity.0, self.uidnext.0, self.count, self.next_chunk];
        for number in head {
            into.update(&number.to_le_bytes());
        }
        into.update(&self.modseq.0.to_le_bytes());
        into.update(&self.octets.to_le_bytes());
        into.update(&to_u32(self.name.len()).to_le_bytes());
        into.update(self.name.as_bytes());
        into.update(&[self.uses.0, u8::from(self.removed)]);
        into.update(&self.born.to_le_bytes());
        into.update(&self.removed_at.to_le_bytes());
        if let Some(keywords) = self.keywords() {
            for name in keywords.names() {
                into.update(&to_u32(name.len()).to_le_bytes());
                into.update(name.as_bytes());
            }
        }
        if let Some(vanished) = self.vanished() {
            into.update(&vanished.floor.0.to_le_bytes());
            for run in &vanished.runs {
                into.update(&run.modseq.0.to_le_bytes());
                into.update(&run.first.0.to_le_bytes());
                into.update(&run.last.0.to_le_bytes());
            }
        }
        if let Some(moved) = self.moved() {
            into.update(&moved.origin.uidvalidity.to_le_bytes());
            into.update(&moved.origin.next.to_le_bytes());
            for run in &moved.uidls {
                into.update(&run.first.0.to_le_bytes());
                into.update(&run.last.0.to_le_bytes());
                into.update(run.form.as_bytes());
            }
        }
        let none = Keywords::default();
        let keywords = self.keywords().map_or(&none, |own| own);
        for entry in self.entries() {
            let numbers = [
                entry.uid.0,
                entry.internal_date,
                entry.save_date,
                entry.size,
                entry.thread,
                u32::from(entry.flags.0) << 8 | u32::from(entry.marks.0),
            ];
            for number in numbers {
                into.update(&number.to_le_bytes());
            }
            into.update(&keywords.mask(entry.keywords).to_le_bytes());
            into.update(&entry.modseq.0.to_le_bytes());
            into.update(&entry.blob.0.to_le_bytes());
        }
    }

    /// Octets on the heap, unused room included.
    pub(super) fn heap_octets(&self) -> usize {
        let chunks = self.slots.iter().map(|slot| {
            // An Rc has two counters in front.
            2 * size_of::<usize>() + size_of::<Chunk>() + slot.chunk.rows.heap_octets()
        });
        self.name.len()
            + size_of_val(&*self.slots)
            + chunks.sum::<usize>()
            + self.rare.as_ref().map_or(0, |_| size_of::<Rare>())
            + self.keywords().map_or(0, |one| size_of::<Keywords>() + one.heap_octets())
            + self.vanished().map_or(0, Vanished::heap_octets)
            + self.moved().map_or(0, |one| size_of::<Moved>() + one.heap_octets())
    }
}
