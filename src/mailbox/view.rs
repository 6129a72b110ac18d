//! A view: a mailbox as it was at one moment, for a session that must not see it change.
//!
//! It shares the chunks of the mailbox; a chunk is copied only when a message comes or goes in it
//! while some view still reads it.

use super::chunk::Chunk;
use super::keywords::Keywords;
use super::moved::Moved;
use super::narrow::Rows;
use super::row::Entry;
use crate::bytes::codec::to_u32;
use crate::model::id::{ModSeq, Uid, UidValidity};
use std::rc::Rc;

/// A chunk and the index of its first message.
#[derive(Clone, Debug)]
struct Run {
    first: u32,
    chunk: Rc<Chunk>,
}

impl Run {
    /// Whether `later` holds the same messages, and behind them at most such as came from `uidnext`
    /// on. Messages never come between others, so that count and last UID tell.
    fn goes_on_in(&self, later: &Run, uidnext: Uid) -> bool {
        let (was, is) = (&self.chunk.rows, &later.chunk.rows);
        let uid = |rows: &Rows, at: usize| rows.get(at).map(|row| row.uid);
        Rc::ptr_eq(&self.chunk, &later.chunk)
            || uid(is, 0) == uid(was, 0)
                && was.last_uid() == uid(is, was.len().saturating_sub(1))
                && uid(is, was.len()).is_none_or(|next| next >= uidnext.0)
    }
}

/// The entries of those of the chunks `own` that are not among `others`.
fn rows_of_one<'r>(own: &'r [Run], others: &'r [Run]) -> impl Iterator<Item = Entry> + 'r {
    let mut others = others.iter().peekable();
    let own = own.iter().filter(move |run| {
        let behind = |other: &&Run| other.chunk.last_uid() < run.chunk.first_uid();
        while others.next_if(behind).is_some() {}
        let mut beside =
            others.clone().take_while(|other| other.chunk.first_uid() <= run.chunk.last_uid());
        !beside.any(|other| Rc::ptr_eq(&other.chunk, &run.chunk))
    });
    own.flat_map(|run| run.chunk.entries())
}

/// The difference of two views; what came in new is what has a UID from the old UIDNEXT on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// As they were, by rising UID.
    pub vanished: Vec<Entry>,
    /// Messages with other flags or keywords, by rising UID.
    pub changed: Vec<Uid>,
}

/// What a mailbox says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub uidvalidity: UidValidity,
    pub uidnext: Uid,
    pub recent_from: Uid,
    pub modseq: ModSeq,
    pub octets: u64,
}

/// A mailbox at one moment. Messages have an index from 0 in the order of their UIDs.
#[derive(Clone, Debug)]
pub struct View {
    facts: Facts,
    count: u32,
    keywords: Option<Rc<Keywords>>,
    moved: Option<Rc<Moved>>,
    runs: Box<[Run]>,
}

impl View {
    /// Of an account that never got mail.
    pub fn empty() -> View {
        let facts = Facts {
            uidvalidity: UidValidity(0),
            uidnext: Uid(1),
            recent_from: Uid(1),
            modseq: ModSeq(0),
            octets: 0,
        };
        View::new(facts, None, std::iter::empty())
    }

    pub(super) fn new(
        facts: Facts,
        keywords: Option<Rc<Keywords>>,
        chunks: impl Iterator<Item = Rc<Chunk>>,
    ) -> View {
        let mut count = 0;
        let runs = chunks.map(|chunk| {
            let first = count;
            count += to_u32(chunk.rows.len());
            Run { first, chunk }
        });
        let runs = runs.collect();
        View { facts, count, keywords, moved: None, runs }
    }

    /// With what is known of where its messages came from.
    pub(super) fn with_moved(mut self, moved: Option<Rc<Moved>>) -> View {
        self.moved = moved;
        self
    }

    /// The form of the unique id by which POP3 clients know a message from another server
    /// ([`crate::wire::uidl`]).
    pub fn uidl(&self, uid: Uid) -> Option<&str> {
        self.moved.as_ref()?.uidl(uid)
    }

    /// Changes when UIDs start anew; 0 if there was never a mailbox.
    pub fn uidvalidity(&self) -> UidValidity {
        self.facts.uidvalidity
    }

    pub fn uidnext(&self) -> Uid {
        self.facts.uidnext
    }

    /// The first UID that no session was told of before this view was made (RFC 3501 §2.3.2).
    pub fn recent_from(&self) -> Uid {
        self.facts.recent_from
    }

    /// The same messages, all of which somebody was told of.
    #[must_use]
    pub fn without_recent(mut self) -> View {
        self.facts.recent_from = self.facts.uidnext;
        self
    }

    /// How many messages.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their sizes together.
    pub fn octets(&self) -> u64 {
        self.facts.octets
    }

    /// The highest change counter (RFC 7162 §3.1.2.1).
    pub fn modseq(&self) -> ModSeq {
        self.facts.modseq
    }

    /// Names and sets of the keywords; `None` if none was ever used.
    pub fn keywords(&self) -> Option<&Keywords> {
        self.keywords.as_deref()
    }

    /// Whether the names of the keywords are those of another view of the mailbox.
    pub fn has_names_of(&self, other: &View) -> bool {
        match (&self.keywords, &other.keywords) {
            (Some(own), Some(others)) => Rc::ptr_eq(own, others) || own.names() == others.names(),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether these keywords, none of them twice, find a place beside those that messages have.
    pub(super) fn has_room_for(&self, names: &[&str]) -> bool {
        let none = Keywords::default();
        let known = self.keywords().unwrap_or(&none);
        known.has_room(names.iter().copied(), || self.keywords_in_use(known))
    }

    /// Whether a client may use a keyword that was not used here yet (RFC 9051 §7.1, `\*`).
    pub fn takes_keywords(&self) -> bool {
        let spares =
            |known: &Keywords| known.has_places(1) || self.keywords_in_use(known) != u64::MAX;
        self.keywords().is_none_or(spares)
    }

    fn keywords_in_use(&self, known: &Keywords) -> u64 {
        let rows = self.runs.iter().flat_map(|run| run.chunk.rows.iter());
        known.in_use(rows.map(|row| row.keywords))
    }

    /// Messages without `\Seen`.
    pub fn unseen(&self) -> u32 {
        self.runs.iter().map(|run| u32::from(run.chunk.unseen)).sum()
    }

    /// Messages with `\Deleted`.
    pub fn deleted(&self) -> u32 {
        self.runs.iter().map(|run| u32::from(run.chunk.deleted)).sum()
    }

    /// The index of the first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<u32> {
        let run = self.runs.iter().find(|run| run.chunk.unseen > 0)?;
        let at = run.chunk.rows.iter().position(|row| row.is_unseen())?;
        Some(run.first + to_u32(at))
    }

    /// The index of the first message whose UID is not below `uid`; the count if there is none.
    pub fn lower_bound(&self, uid: Uid) -> u32 {
        let at = self.runs.partition_point(|run| run.chunk.last_uid() < uid);
        let Some(run) = self.runs.get(at) else { return self.count };
        run.first + to_u32(run.chunk.rows.lower_bound(uid.0))
    }

    /// Index and entry of a message.
    pub fn find(&self, uid: Uid) -> Option<(u32, Entry)> {
        let run = self.runs.get(self.runs.partition_point(|run| run.chunk.last_uid() < uid))?;
        let at = run.chunk.rows.lower_bound(uid.0);
        let entry = run.chunk.entry(at).filter(|entry| entry.uid == uid)?;
        Some((run.first + to_u32(at), entry))
    }

    /// What is otherwise here than in `old`, an earlier view of the same mailbox. Costs a look at
    /// each chunk, and at the rows of those that changed.
    pub fn changes_since(&self, old: &View) -> Changes {
        let mut changes = Changes::default();
        // As a rule some flags changed and messages came: chunk by chunk the same messages.
        let alike = old
            .runs
            .iter()
            .zip(&self.runs)
            .take_while(|(was, is)| was.goes_on_in(is, old.facts.uidnext));
        let mut count = 0;
        for (was, is) in alike {
            count += 1;
            if !Rc::ptr_eq(&was.chunk, &is.chunk) {
                let changed = is.chunk.changed_after(old.facts.modseq);
                changes.changed.extend(changed.take_while(|uid| *uid < old.facts.uidnext));
            }
        }
        let (theirs, ours) = (&old.runs[count..], &self.runs[count..]);
        let mut rows = rows_of_one(ours, theirs).peekable();
        for was in rows_of_one(theirs, ours) {
            while rows.next_if(|row| row.uid < was.uid).is_some() {}
            match rows.next_if(|row| row.uid == was.uid) {
                None => changes.vanished.push(was),
                Some(row) if row.modseq > old.facts.modseq => changes.changed.push(row.uid),
                Some(_) => {}
            }
        }
        changes
    }

    /// The message at `index`.
    pub fn get(&self, index: u32) -> Option<Entry> {
        let at = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let run = self.runs.get(at)?;
        run.chunk.entry(usize::try_from(index - run.first).ok()?)
    }

    /// Looks messages up one after the other.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { runs: &self.runs, here: None }
    }

    /// The messages from `index` on, in order.
    pub fn iter_from(&self, index: u32) -> impl Iterator<Item = Entry> {
        let at = self.runs.partition_point(|run| run.first <= index).saturating_sub(1);
        let skip = self.runs.get(at).map_or(0, |run| index.saturating_sub(run.first));
        let entries = self.runs.iter().skip(at).flat_map(|run| run.chunk.entries());
        entries.skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// All messages in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        self.runs.iter().flat_map(|run| run.chunk.entries())
    }
}

/// See [`View::lookup`]: neighbours of the message before cost no search.
#[derive(Debug)]
pub struct Lookup<'v> {
    runs: &'v [Run],
    /// The rows among which the last one was found.
    here: Option<&'v Run>,
}

impl Lookup<'_> {
    /// As [`View::get`].
    #[inline]
    pub fn get(&mut self, index: u32) -> Option<Entry> {
        let of = |run: &Run| run.chunk.entry(usize::try_from(index.checked_sub(run.first)?).ok()?);
        if let Some(entry) = self.here.and_then(of) {
            return Some(entry);
        }
        let at = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        self.here = self.runs.get(at);
        self.here.and_then(of)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Flags, Marks};
    use super::*;
    use crate::model::id::BlobId;

    fn chunk(uids: &[u32]) -> Rc<Chunk> {
        let mut chunk = Chunk::default();
        for &uid in uids {
            let entry = Entry {
                uid: Uid(uid),
                modseq: ModSeq(u64::from(uid)),
                internal_date: 0,
                save_date: 0,
                size: 1,
                thread: 0,
                blob: BlobId(u64::from(uid)),
                keywords: 0,
                flags: Flags(0),
                marks: Marks(0),
            };
            chunk.push(&entry);
        }
        Rc::new(chunk)
    }

    fn view(uidnext: u32, modseq: u64, chunks: &[Rc<Chunk>]) -> View {
        let facts = Facts {
            uidvalidity: UidValidity(1),
            uidnext: Uid(uidnext),
            recent_from: Uid(1),
            modseq: ModSeq(modseq),
            octets: 0,
        };
        View::new(facts, None, chunks.iter().cloned())
    }

    fn uids(changes: &Changes) -> (Vec<u32>, Vec<u32>) {
        let vanished = changes.vanished.iter().map(|entry| entry.uid.0).collect();
        (vanished, changes.changed.iter().map(|uid| uid.0).collect())
    }

    #[test]
    fn tells_what_changed_whichever_chunks_became_one() {
        let (first, second) = (chunk(&[1, 2, 3]), chunk(&[4, 5, 6]));
        let third = chunk(&[7, 8]);
        let old = view(9, 10, &[Rc::clone(&first), Rc::clone(&second), Rc::clone(&third)]);

        let mut flagged = Chunk::clone(&second);
        flagged.change(Uid(5), Uid(5), ModSeq(11), &mut |row| row.flags = 1);
        let flagged = Rc::new(flagged);
        let came = chunk(&[7, 8, 9, 10]);
        let new = view(11, 12, &[Rc::clone(&first), Rc::clone(&flagged), came]);
        assert_eq!(uids(&new.changes_since(&old)), (vec![], vec![5]), "new ones are not changed");

        let joined = Rc::new(first.joined(&second));
        let new = view(9, 10, &[joined, Rc::clone(&third)]);
        assert_eq!(uids(&new.changes_since(&old)), (vec![], vec![]));

        let joined = Rc::new(first.joined(&flagged).without(&[Uid(2), Uid(6)]));
        let new = view(9, 12, &[joined, Rc::new(third.without(&[Uid(8)]))]);
        assert_eq!(uids(&new.changes_since(&old)), (vec![2, 6, 8], vec![5]));

        let new = view(9, 12, &[first, third]);
        assert_eq!(uids(&new.changes_since(&old)), (vec![4, 5, 6], vec![]));
    }
}
