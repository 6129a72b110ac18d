//! A chunk: up to 256 rows in the order of their UIDs, shared with the views that read them.
//!
//! A chunk is what a checkpoint writes anew when one of its rows changed, and what is copied when
//! a row changes while a session looks at it.

use super::row::{Entry, Row};
use crate::model::id::{ModSeq, Uid};
use crate::model::limits::MAILBOX_CHUNK_ROWS;

/// Rows with rising UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// What the rows' change counters are counted from.
    pub base: u64,
    pub rows: Vec<Row>,
}

/// Makes room for one more by an eighth instead of by doubling.
pub(super) fn reserve_one<T>(vector: &mut Vec<T>, least: usize) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(least));
    }
}

impl Chunk {
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MAILBOX_CHUNK_ROWS
    }

    pub(super) fn last_uid(&self) -> Uid {
        Uid(self.rows.last().map_or(0, |row| row.uid))
    }

    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        self.rows.get(index).map(|row| row.unpack(self.base))
    }

    pub(super) fn find(&self, uid: Uid) -> Option<&Row> {
        let index = self.rows.binary_search_by_key(&uid.0, |row| row.uid).ok()?;
        self.rows.get(index)
    }

    /// Adds a row with the highest UID and change counter of the mailbox.
    pub(super) fn push(&mut self, entry: &Entry) {
        debug_assert!(entry.uid > self.last_uid(), "UIDs rise");
        if self.rows.is_empty() {
            self.base = entry.modseq.0;
        }
        let delta = self.delta(entry.modseq);
        reserve_one(&mut self.rows, 4);
        self.rows.push(Row::pack(entry, delta));
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
        for row in &mut self.rows {
            let kept = u64::from(row.modseq_delta).saturating_sub(raise);
            row.modseq_delta = u32::try_from(kept).expect("smaller than it was");
        }
        self.base = base;
        u32::MAX
    }

    /// The chunk without the rows of `gone`, which rises.
    pub(super) fn without(&self, gone: &[Uid]) -> Chunk {
        let kept = self.rows.iter().filter(|row| gone.binary_search(&Uid(row.uid)).is_err());
        let mut rows = Vec::with_capacity(self.rows.len().saturating_sub(gone.len()));
        rows.extend(kept.copied());
        Chunk { base: self.base, rows }
    }

    /// This chunk and the one behind it as one.
    pub(super) fn joined(&self, behind: &Chunk) -> Chunk {
        let mut whole = Chunk { base: self.base.min(behind.base), rows: Vec::new() };
        whole.rows.reserve_exact(self.rows.len() + behind.rows.len());
        for chunk in [self, behind] {
            for row in &chunk.rows {
                let entry = row.unpack(chunk.base);
                let delta = whole.delta(entry.modseq);
                whole.rows.push(Row { modseq_delta: delta, ..*row });
            }
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
        assert_eq!(chunk.find(Uid(9)).map(Row::blob), Some(BlobId((7 << 32) + 9)));
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
}
