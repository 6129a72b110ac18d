//! A chunk: up to 256 rows in the order of their UIDs, shared with the views that read them.
//!
//! A chunk is what a checkpoint writes anew when one of its rows changed, and what is copied when
//! a row changes while a session looks at it.

use super::narrow::Rows;
use super::row::{Entry, Row};
use crate::model::id::{ModSeq, Uid};
use crate::model::limits::MAILBOX_CHUNK_ROWS;

/// Rows with rising UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// What the rows' change counters are counted from.
    pub base: u64,
    pub rows: Rows,
    /// Rows without `\Seen`.
    pub unseen: u16,
    /// Rows with `\Deleted`.
    pub deleted: u16,
}

impl Chunk {
    /// A chunk of these rows.
    pub(super) fn new(base: u64, rows: &[Row]) -> Chunk {
        let mut chunk = Chunk { base, rows: Rows::of(rows), unseen: 0, deleted: 0 };
        for row in rows {
            chunk.count(row);
        }
        chunk
    }

    fn count(&mut self, row: &Row) {
        self.unseen += u16::from(row.is_unseen());
        self.deleted += u16::from(row.is_deleted());
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MAILBOX_CHUNK_ROWS
    }

    pub(super) fn first_uid(&self) -> Uid {
        Uid(self.rows.first_uid().unwrap_or(0))
    }

    pub(super) fn last_uid(&self) -> Uid {
        Uid(self.rows.last_uid().unwrap_or(0))
    }

    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        self.rows.get(index).map(|row| row.unpack(self.base))
    }

    /// All of them, by rising UID.
    #[inline]
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = Entry> {
        self.rows.iter().map(|row| row.unpack(self.base))
    }

    pub(super) fn find(&self, uid: Uid) -> Option<Entry> {
        self.entry(self.rows.lower_bound(uid.0)).filter(|entry| entry.uid == uid)
    }

    /// Adds a row with the highest UID and change counter of the mailbox.
    pub(super) fn push(&mut self, entry: &Entry) {
        debug_assert!(entry.uid > self.last_uid(), "UIDs rise");
        if self.rows.is_empty() {
            self.base = entry.modseq.0;
        }
        let delta = self.delta(entry.modseq);
        let row = Row::pack(entry, delta);
        self.count(&row);
        self.rows.push(&row);
    }

    /// Changes the rows with UIDs from `first` to `last`, all at the counter `modseq`.
    pub(super) fn change(
        &mut self,
        first: Uid,
        last: Uid,
        modseq: ModSeq,
        change: &mut impl FnMut(&mut Row),
    ) {
        let delta = self.delta(modseq);
        for index in self.rows.lower_bound(first.0).. {
            let Some(mut row) = self.rows.get(index).filter(|row| row.uid <= last.0) else {
                return;
            };
            let before = (row.is_unseen(), row.is_deleted());
            change(&mut row);
            row.modseq_delta = delta;
            self.rows.set(index, &row);
            self.unseen = self.unseen + u16::from(row.is_unseen()) - u16::from(before.0);
            self.deleted = self.deleted + u16::from(row.is_deleted()) - u16::from(before.1);
        }
    }

    /// The UIDs of the messages that changed after the counter `modseq`, rising.
    pub(super) fn changed_after(&self, modseq: ModSeq) -> impl Iterator<Item = Uid> {
        let (base, rows) = (self.base, &self.rows);
        let changed = rows.iter().filter(move |row| base + u64::from(row.modseq_delta) > modseq.0);
        changed.map(|row| Uid(row.uid))
    }

    /// The counter as it is kept in a row. Should the account have counted 2^32 further than the
    /// oldest row, the base is raised: old rows then seem to have changed later than they did,
    /// which costs a client a look and never hides a change.
    fn delta(&mut self, modseq: ModSeq) -> u32 {
        let delta = modseq.0.saturating_sub(self.base);
        if let Ok(delta) = u32::try_from(delta) {
            return delta;
        }
        let base = modseq.0 - u64::from(u32::MAX);
        let raise = base - self.base;
        let raised = self.rows.iter().map(|row| {
            let kept = u64::from(row.modseq_delta).saturating_sub(raise);
            Row { modseq_delta: u32::try_from(kept).expect("smaller than it was"), ..row }
        });
        self.rows = Rows::of(&raised.collect::<Vec<Row>>());
        self.base = base;
        u32::MAX
    }

    /// The chunk without the rows of `gone`, which rises.
    pub(super) fn without(&self, gone: &[Uid]) -> Chunk {
        let kept = self.rows.iter().filter(|row| gone.binary_search(&Uid(row.uid)).is_err());
        Chunk::new(self.base, &kept.collect::<Vec<Row>>())
    }

    /// This chunk and the one behind it as one.
    pub(super) fn joined(&self, behind: &Chunk) -> Chunk {
        let mut whole = Chunk { base: self.base.min(behind.base), ..Chunk::default() };
        for entry in self.entries().chain(behind.entries()) {
            let row = Row::pack(&entry, whole.delta(entry.modseq));
            whole.count(&row);
            whole.rows.push(&row);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Flags, Marks};
    use super::*;
    use crate::model::id::BlobId;

    fn entry(uid: u32, modseq: u64) -> Entry {
        Entry {
            uid: Uid(uid),
            modseq: ModSeq(modseq),
            internal_date: 1,
            save_date: 2,
            size: 3,
            thread: 0,
            blob: BlobId((7 << 32) + u64::from(uid)),
            keywords: 0,
            flags: Flags::SEEN,
            marks: Marks::DOT_LINES,
        }
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let mut chunk = Chunk::default();
        chunk.push(&entry(5, 1_000));
        chunk.push(&entry(9, 1_001));
        assert_eq!(chunk.entry(0), Some(entry(5, 1_000)));
        assert_eq!(chunk.entry(1), Some(entry(9, 1_001)));
        assert_eq!(chunk.find(Uid(9)).map(|entry| entry.blob), Some(BlobId((7 << 32) + 9)));
        assert_eq!(chunk.without(&[Uid(5)]).entry(0), Some(entry(9, 1_001)));
    }

    #[test]
    fn counts_changes_past_32_bits_without_hiding_any() {
        let mut chunk = Chunk::default();
        chunk.push(&entry(1, 10));
        chunk.push(&entry(2, 20));
        let late = (1 << 32) + 1_000;
        chunk.push(&entry(3, late));
        let seen: Vec<u64> = (0..3).filter_map(|at| chunk.entry(at)).map(|e| e.modseq.0).collect();
        assert_eq!(seen, [1_001, 1_001, late]);
    }

    #[test]
    fn joins_neighbours_row_for_row() {
        let (mut first, mut second) = (Chunk::default(), Chunk::default());
        first.push(&entry(1, 10));
        second.push(&entry(2, 50));
        second.push(&entry(3, 60));
        let whole = first.joined(&second);
        let rows: Vec<Entry> = (0..3).filter_map(|at| whole.entry(at)).collect();
        assert_eq!(rows, [entry(1, 10), entry(2, 50), entry(3, 60)]);
    }

    #[test]
    fn changes_the_rows_of_a_range_and_counts_them() {
        let mut chunk = Chunk::default();
        (1..=5).for_each(|uid| chunk.push(&entry(uid * 2, uid.into())));
        assert_eq!((chunk.unseen, chunk.deleted), (0, 0));
        chunk.change(Uid(3), Uid(6), ModSeq(9), &mut |row| row.flags = Flags::DELETED.0);
        assert_eq!((chunk.unseen, chunk.deleted), (2, 2));
        let seen: Vec<u64> = (0..5).filter_map(|at| chunk.entry(at)).map(|e| e.modseq.0).collect();
        assert_eq!(seen, [1, 9, 9, 4, 5]);
        let fewer = chunk.without(&[Uid(4)]);
        assert_eq!((fewer.unseen, fewer.deleted), (1, 1));
    }
}
