//! An account out of what is left of its pages, older pages, and what its records made.
//!
//! Rows of whole pages count. Between two of them, where a page is lost, the rows of its older
//! version and those that records made stand for it, but for those whose blob the checkpoint knew to
//! be gone. What left a mailbox before is not known any more. Records that are later follow, and only
//! then numbers are passed over.

use crate::bytes::codec::to_u32;
use crate::bytes::hash::Sorted;
use crate::mailbox::account::{Account, INBOX, INBOX_NAME};
use crate::mailbox::chunk::Chunk;
use crate::mailbox::history::UNKNOWN;
use crate::mailbox::image::minors;
use crate::mailbox::keywords::Keywords;
use crate::mailbox::moved::Moved;
use crate::mailbox::page::{
    AccountHead, HEAD_MINOR, MailboxHead, Memo, Part, PartsIn, RowsRef, chunk_minor, decode_head,
    decode_part, encode_chunk, encode_head, encode_memo, memo_minor,
};
use crate::mailbox::row::{Entry, Row};
use crate::mailbox::vanished::Vanished;
use crate::model::id::{BlobId, MailboxId, ModSeq, Uid};
use crate::model::limits::MAILBOX_CHUNK_ROWS;
use std::collections::BTreeSet;

/// Pages by their minor number.
pub(super) type Pages = Vec<(u64, Vec<u8>)>;

/// Pages of one account taken apart.
#[derive(Default)]
struct Parts {
    head: Option<AccountHead>,
    mailboxes: Sorted<u32, Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    chunks: Sorted<u32, Chunk>,
    memo: Option<Memo>,
}

impl Parts {
    fn of(pages: &Pages) -> Parts {
        let mut parts = Parts::default();
        for (minor, octets) in pages {
            if *minor != HEAD_MINOR {
                parts.add(*minor, octets);
            } else if let Ok((head, whole)) = decode_head(octets) {
                parts.head = Some(head);
                for (minor, page) in PartsIn::new(whole.unwrap_or_default()).flatten() {
                    parts.add(minor, page);
                }
            }
        }
        parts
    }

    fn add(&mut self, minor: u64, octets: &[u8]) {
        match decode_part(minor, octets) {
            Ok((mailbox, Part::Chunk(number, chunk))) => {
                self.mailboxes.entry(mailbox.0).or_default().chunks.insert(number, chunk);
            }
            Ok((mailbox, Part::Memo(memo))) => {
                self.mailboxes.entry(mailbox.0).or_default().memo = Some(memo);
            }
            Ok((_, Part::Past(..))) | Err(_) => {}
        }
    }

    fn listed(&self, id: u32) -> Option<&MailboxHead> {
        self.head.as_ref()?.mailboxes.iter().find(|one| one.id == id)
    }
}

/// What is put together, in the order in which something is looked for.
struct Merging {
    whole: Parts,
    older: Parts,
    shadow: Parts,
    /// Minor numbers of lost pages.
    lost: BTreeSet<u64>,
}

/// Minor numbers of pages that are not among `whole`, or mean nothing there. A head that no account can
/// have goes to the older ones.
pub(super) fn sort_out(whole: &mut Pages, older: &mut Pages) -> Vec<u64> {
    let (mut sound, mut bad) = (BTreeSet::new(), BTreeSet::new());
    let mut look = |minor: u64, octets: &[u8]| {
        let is_sound = decode_part(minor, octets).is_ok();
        if is_sound {
            sound.insert(minor)
        } else {
            bad.insert(minor)
        };
    };
    let mut head = None;
    for (minor, octets) in whole.iter() {
        if *minor != HEAD_MINOR {
            look(*minor, octets);
        } else if let Ok((found, parts)) = decode_head(octets) {
            for (minor, page) in PartsIn::new(parts.unwrap_or_default()).flatten() {
                look(minor, page);
            }
            head = Some(found);
        }
    }
    let Some(head) = head else {
        // It may be known to be lost already.
        bad.insert(HEAD_MINOR);
        return bad.into_iter().collect();
    };
    let is_lost = |minor: &u64| {
        // A mailbox need not have a memo.
        let is_memo = minor & u64::from(u32::MAX) == 0;
        !sound.contains(minor) && (!is_memo || bad.contains(minor))
    };
    let mut lost: Vec<u64> = minors(&head).filter(is_lost).collect();
    if Account::load(head).is_err() {
        older.extend(whole.extract_if(.., |(minor, _)| *minor == HEAD_MINOR));
        lost.push(HEAD_MINOR);
    }
    lost
}

/// The pages of the account as it is from here on. The last of `parts` is what records made.
pub(super) fn merge(
    lost: &[u64],
    [whole, older, shadow]: &[Pages; 3],
    is_dead: &dyn Fn(BlobId) -> bool,
    note: &mut dyn FnMut(String),
) -> Pages {
    let merging = Merging {
        whole: Parts::of(whole),
        older: Parts::of(older),
        shadow: Parts::of(shadow),
        lost: lost.iter().copied().collect(),
    };
    merging.run(is_dead, note)
}

impl Merging {
    fn run(mut self, is_dead: &dyn Fn(BlobId) -> bool, note: &mut dyn FnMut(String)) -> Pages {
        let is_known = self.whole.head.is_some();
        let base = self.whole.head.as_ref().or(self.older.head.as_ref());
        let base = base.or(self.shadow.head.as_ref());
        // Its history is let go: it undoes changes of what was whole.
        let mut head = AccountHead { floor: UNKNOWN, ..AccountHead::default() };
        if let Some(base) = base {
            head.modseq = base.modseq;
            head.uidvalidity_last = base.uidvalidity_last;
            head.mailbox_last = base.mailbox_last;
            head.closed = base.closed;
            head.moment = base.moment;
            head.subscriptions.clone_from(&base.subscriptions);
        }
        let mut pages = Pages::new();
        for id in self.mailbox_ids() {
            let mailbox = self.mailbox(id, is_dead, note, &mut head, &mut pages);
            head.mailboxes.push(mailbox);
        }
        if !is_known {
            note(
                "the list of its mailboxes is lost: it was made anew of what else tells of them"
                    .into(),
            );
        }
        pages.push((HEAD_MINOR, encode_head(&head, None)));
        pages
    }

    /// Mailboxes that there are: by the head, else by whatever tells of them.
    fn mailbox_ids(&self) -> BTreeSet<u32> {
        if let Some(head) = &self.whole.head {
            return head.mailboxes.iter().map(|one| one.id).collect();
        }
        let of_pages = self.whole.mailboxes.keys().copied();
        // The head's page, and those of the history, are of no mailbox.
        let of_lost = self.lost.iter().filter_map(|minor| u32::try_from(minor >> 32).ok());
        let of_lost = of_lost.filter(|id| *id != 0);
        let heads = [&self.older.head, &self.shadow.head];
        let of_heads = heads.into_iter().flatten().flat_map(|head| &head.mailboxes);
        of_pages.chain(of_lost).chain(of_heads.map(|one| one.id)).collect()
    }

    fn mailbox(
        &mut self,
        id: u32,
        is_dead: &dyn Fn(BlobId) -> bool,
        note: &mut dyn FnMut(String),
        head: &mut AccountHead,
        pages: &mut Pages,
    ) -> MailboxHead {
        let (entries, keywords) = self.entries(id, is_dead);
        let sources = [&self.whole, &self.older, &self.shadow];
        let listed = sources.iter().find_map(|parts| parts.listed(id));
        let last = entries.last().map_or(0, |entry| entry.uid.0);
        let highest = entries.iter().map(|entry| entry.modseq.0).max().unwrap_or(0);
        head.modseq = head.modseq.max(highest);
        let uidnext = listed.map_or(1, |one| one.uidnext).max(last.saturating_add(1));
        let newest = entries.iter().map(|entry| entry.save_date).max().unwrap_or(0);
        let mut mailbox = MailboxHead {
            id,
            uidvalidity: listed.map_or(newest.saturating_add(1), |one| one.uidvalidity),
            uidnext,
            // None of its pages is left to be taken for one of these.
            next_chunk: 0,
            modseq: head.modseq,
            octets: entries.iter().map(|entry| u64::from(entry.size)).sum(),
            count: to_u32(entries.len()),
            born: listed.map_or(0, |one| one.born),
            removed_at: 0,
            uses: listed.map_or(0, |one| one.uses),
            removed: listed.is_some_and(|one| one.removed),
            name: listed.map_or_else(|| name(id), |one| one.name.clone()),
            chunks: Vec::new(),
        };
        let named = self.whole.listed(id).map_or(0, |one| one.count);
        if named > mailbox.count {
            let (name, missing) = (&mailbox.name, named - mailbox.count);
            note(format!("mailbox {name}: {missing} messages of {named} are known no more"));
        }
        head.uidvalidity_last = head.uidvalidity_last.max(mailbox.uidvalidity);
        head.mailbox_last = head.mailbox_last.max(id);
        for rows in entries.chunks(MAILBOX_CHUNK_ROWS) {
            let chunk = chunk(rows);
            let number = mailbox.next_chunk;
            mailbox.next_chunk += 1;
            mailbox.chunks.push(RowsRef { number, rows: to_u32(chunk.rows.len()) });
            pages.push((chunk_minor(MailboxId(id), number), encode_chunk(&chunk)));
        }
        let memo = self.memo(id);
        let vanished = Vanished { floor: ModSeq(head.modseq), runs: Vec::new() };
        let moved = memo.map(|memo| &memo.moved).filter(|moved| **moved != Moved::default());
        pages.push((memo_minor(MailboxId(id)), encode_memo(&keywords, &vanished, moved)));
        mailbox
    }

    fn memo(&self, id: u32) -> Option<&Memo> {
        let sources = [&self.whole, &self.older, &self.shadow];
        sources.iter().find_map(|parts| parts.mailboxes.get(&id)?.memo.as_ref())
    }

    /// The messages of a mailbox, by rising UID, and the keywords that they point to.
    fn entries(&self, id: u32, is_dead: &dyn Fn(BlobId) -> bool) -> (Vec<Entry>, Keywords) {
        let mut keywords = self.memo(id).map(|memo| memo.keywords.clone()).unwrap_or_default();
        let own = self.whole.mailboxes.get(&id).map(|mailbox| &mailbox.chunks);
        let is_named = |number: u32| {
            let listed = self.whole.listed(id);
            listed.is_none_or(|one| one.chunks.iter().any(|chunk| chunk.number == number))
        };
        let chunks: Vec<(u32, &Chunk)> = own
            .into_iter()
            .flatten()
            .map(|(&number, chunk)| (number, chunk))
            .filter(|&(number, _)| is_named(number))
            .collect();
        let gaps = self.gaps(id, &chunks);
        let is_missing = |uid: Uid| gaps.iter().any(|&(low, high)| low < uid.0 && uid.0 < high);
        let mut found: Sorted<Uid, Entry> = Sorted::new();
        let known = keywords.sets().len();
        for (_, chunk) in chunks {
            found.extend(rows(chunk).map(|entry| (entry.uid, with_known(entry, known))));
        }
        for (parts, is_own) in [(&self.older, true), (&self.shadow, false)] {
            let Some(mailbox) = parts.mailboxes.get(&id) else { continue };
            let theirs = mailbox.memo.as_ref().map(|memo| &memo.keywords);
            for mut entry in mailbox.chunks.values().flat_map(rows) {
                if !is_missing(entry.uid) || is_dead(entry.blob) {
                    continue;
                }
                if is_own {
                    entry = with_known(entry, known);
                } else {
                    let names = theirs.into_iter().flat_map(|theirs| theirs.of(entry.keywords));
                    let mask = names.fold(0, |mask, name| mask | keywords.learn(name, u64::MAX));
                    entry.keywords = keywords.intern(mask);
                }
                let place = found.entry(entry.uid).or_insert(entry);
                if place.modseq < entry.modseq {
                    *place = entry;
                }
            }
        }
        (found.into_values().collect(), keywords)
    }

    /// Between which UIDs those of lost pages are: numbers of chunks rise as their UIDs do.
    fn gaps(&self, id: u32, chunks: &[(u32, &Chunk)]) -> Vec<(u32, u32)> {
        // Of a small account all rows were in the page of its head.
        if chunks.is_empty() && self.whole.head.is_none() && self.lost.contains(&HEAD_MINOR) {
            return vec![(0, u32::MAX)];
        }
        let here = (u64::from(id) << 32) + 1..(u64::from(id) + 1) << 32;
        let lost =
            self.lost.range(here).filter_map(|minor| u32::try_from((minor & 0xFFFF_FFFF) - 1).ok());
        let gap = |number: u32| {
            let below = chunks.iter().filter(|(other, _)| *other < number);
            let above = chunks.iter().filter(|(other, _)| *other > number);
            let low = below.map(|(_, chunk)| chunk.last_uid().0).max().unwrap_or(0);
            (low, above.map(|(_, chunk)| chunk.first_uid().0).min().unwrap_or(u32::MAX))
        };
        lost.map(gap).collect()
    }
}

fn name(id: u32) -> String {
    if id == INBOX.0 { INBOX_NAME.into() } else { format!("Recovered-{id}") }
}

fn rows(chunk: &Chunk) -> impl Iterator<Item = Entry> {
    chunk.entries()
}

/// Keywords that nothing knows any more are none.
fn with_known(entry: Entry, sets: usize) -> Entry {
    let keywords = if usize::from(entry.keywords) > sets { 0 } else { entry.keywords };
    Entry { keywords, ..entry }
}

fn chunk(entries: &[Entry]) -> Chunk {
    let base = entries.iter().map(|entry| entry.modseq.0).min().unwrap_or(0);
    let row = |entry: &Entry| {
        let delta = u32::try_from(entry.modseq.0 - base).unwrap_or(u32::MAX);
        Row::pack(entry, delta)
    };
    Chunk::new(base, &entries.iter().map(row).collect::<Vec<Row>>())
}
