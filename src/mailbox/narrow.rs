//! The rows of a chunk as they lie in memory: each field in as few octets as the rows of this chunk need.
//!
//! ```text
//! row := UID | change counter | internal date | save date | size | thread | blob | keyword set
//!        | flags u8 | marks u8                                          lowest octet first
//! ```
//!
//! UID, internal date and blob are counted from those of the first row, the save date from the internal
//! date of its row. Differences wrap: what comes before the first row takes all octets of its type. A row
//! that needs more than the chunk has makes all rows anew, which happens some few times in the life of a
//! chunk: the least widths are those of ordinary mail.

use super::row::{BLOB_MAX, Row};
use crate::bytes::columns::word;

/// Fields whose width the rows say.
const FIELDS: usize = 8;
type Fields = [u64; FIELDS];

/// 256 UIDs, 65,536 changes, 194 days, 64 KiB, 16 million blobs.
const WIDTHS_LEAST: [u8; FIELDS] = [1, 2, 3, 0, 2, 0, 3, 0];
/// Flags and marks.
const STATE_OCTETS: usize = 2;
/// A row with all fields as wide as they get, and what is written behind the last one with it.
const ROW_ROOM: usize = 6 * 4 + 6 + 2 + STATE_OCTETS + 8;
/// For how many rows room is made at least.
const GROW_ROWS: usize = 2;

/// See the header.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    octets: Vec<u8>,
    /// Of the first row that came.
    blob: u64,
    uid: u32,
    date: u32,
    widths: [u8; FIELDS],
}

impl Default for Rows {
    fn default() -> Rows {
        Rows { octets: Vec::new(), blob: 0, uid: 0, date: 0, widths: WIDTHS_LEAST }
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Rows) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Rows {}

fn bits(width: u8) -> u32 {
    8 * u32::from(width)
}

/// As many octets as all of these need, and not fewer than `least`.
fn widths(fields: &Fields, least: [u8; FIELDS]) -> [u8; FIELDS] {
    let mut widths = least;
    for (width, field) in widths.iter_mut().zip(fields) {
        let needed = (u64::BITS - field.leading_zeros()).div_ceil(8);
        *width = (*width).max(u8::try_from(needed).expect("eight at most"));
    }
    widths
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits")
}

fn lowest(value: u64) -> u16 {
    u16::try_from(value & u64::from(u16::MAX)).expect("masked to 16 bits")
}

impl Rows {
    /// These rows, and no room for others.
    pub(super) fn of(rows: &[Row]) -> Rows {
        let mut new = Rows::default();
        let Some(first) = rows.first() else { return new };
        new.count_from(first);
        let mut all = Fields::default();
        for row in rows {
            for (all, field) in all.iter_mut().zip(new.fields(row)) {
                *all |= field;
            }
        }
        new.widths = widths(&all, new.widths);
        new.octets.reserve_exact(rows.len() * new.stride());
        for row in rows {
            new.lay(&new.fields(row), row);
        }
        new
    }

    fn count_from(&mut self, first: &Row) {
        (self.uid, self.date, self.blob) = (first.uid, first.internal_date, first.blob().0);
    }

    fn stride(&self) -> usize {
        STATE_OCTETS + self.widths.iter().map(|&width| usize::from(width)).sum::<usize>()
    }

    fn fields(&self, row: &Row) -> Fields {
        [
            row.uid.wrapping_sub(self.uid).into(),
            row.modseq_delta.into(),
            row.internal_date.wrapping_sub(self.date).into(),
            row.save_date.wrapping_sub(row.internal_date).into(),
            row.size.into(),
            row.thread.into(),
            row.blob().0.wrapping_sub(self.blob) & BLOB_MAX,
            row.keywords.into(),
        ]
    }

    /// A row's octets and how many they are. The fields fit.
    fn octets_of(&self, fields: &Fields, row: &Row) -> ([u8; ROW_ROOM], usize) {
        let mut octets = [0; ROW_ROOM];
        let mut at = 0;
        // The upper octets of a field are zeros, and the next one goes over them.
        for (field, width) in fields.iter().zip(self.widths) {
            octets[at..at + 8].copy_from_slice(&field.to_le_bytes());
            at += usize::from(width);
        }
        (octets[at], octets[at + 1]) = (row.flags, row.marks);
        (octets, at + STATE_OCTETS)
    }

    fn lay(&mut self, fields: &Fields, row: &Row) {
        let (octets, len) = self.octets_of(fields, row);
        self.octets.extend_from_slice(&octets[..len]);
    }

    /// The fields of a row, for which there is room from here on.
    fn fit(&mut self, row: &Row) -> Fields {
        let fields = self.fields(row);
        let pairs = fields.iter().zip(self.widths);
        let over = pairs.fold(0, |over, (field, width)| over | field >> bits(width));
        if over != 0 {
            self.widen(&fields);
        }
        fields
    }

    #[cold]
    fn widen(&mut self, fields: &Fields) {
        let rows: Vec<Row> = self.iter().collect();
        self.widths = widths(fields, self.widths);
        self.octets = Vec::with_capacity((rows.len() + 1) * self.stride());
        for row in &rows {
            self.lay(&self.fields(row), row);
        }
    }

    pub(super) fn push(&mut self, row: &Row) {
        if self.octets.is_empty() {
            self.count_from(row);
        }
        let fields = self.fields(row);
        // As a rule the widths are those, and then known as this is compiled.
        let fits = if self.widths == WIDTHS_LEAST {
            self.append(&fields, row, WIDTHS_LEAST)
        } else {
            self.append(&fields, row, self.widths)
        };
        if !fits {
            self.widen(&fields);
            self.lay(&fields, row);
        }
    }

    /// Adds a row if its fields are no wider than that.
    #[expect(clippy::inline_always, reason = "where the widths are known the loop folds away")]
    #[inline(always)]
    fn append(&mut self, fields: &Fields, row: &Row, widths: [u8; FIELDS]) -> bool {
        let (mut octets, mut at, mut over) = ([0; ROW_ROOM], 0, 0);
        for (field, width) in fields.iter().zip(widths) {
            over |= field >> bits(width);
            octets[at..at + 8].copy_from_slice(&field.to_le_bytes());
            at += usize::from(width);
        }
        if over != 0 {
            return false;
        }
        (octets[at], octets[at + 1]) = (row.flags, row.marks);
        let len = at + STATE_OCTETS;
        // By an eighth instead of by doubling.
        if self.octets.capacity() - self.octets.len() < len {
            self.octets.reserve_exact((self.octets.len() / 8).max(GROW_ROWS * len));
        }
        self.octets.extend_from_slice(&octets[..len]);
        true
    }

    /// Puts a row in the place of another one.
    pub(super) fn set(&mut self, index: usize, row: &Row) {
        let fields = self.fit(row);
        let (octets, len) = self.octets_of(&fields, row);
        self.octets[index * len..(index + 1) * len].copy_from_slice(&octets[..len]);
    }

    #[inline]
    fn read(&self, mut at: usize) -> Row {
        let mut fields = Fields::default();
        for (field, width) in fields.iter_mut().zip(self.widths) {
            *field = word(&self.octets, at) & ((1 << bits(width)) - 1);
            at += usize::from(width);
        }
        let [uid, modseq, date, saved, size, thread, blob, keywords] = fields;
        let internal_date = self.date.wrapping_add(low(date));
        let blob = self.blob.wrapping_add(blob) & BLOB_MAX;
        let [flags, marks, ..] = word(&self.octets, at).to_le_bytes();
        Row {
            uid: self.uid.wrapping_add(low(uid)),
            modseq_delta: low(modseq),
            internal_date,
            save_date: internal_date.wrapping_add(low(saved)),
            size: low(size),
            thread: low(thread),
            blob_low: low(blob),
            blob_high: lowest(blob >> 32),
            keywords: lowest(keywords),
            flags,
            marks,
        }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Row> {
        let at = index * self.stride();
        (at < self.octets.len()).then(|| self.read(at))
    }

    #[inline]
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Row> {
        (0..self.octets.len()).step_by(self.stride()).map(|at| self.read(at))
    }

    fn uid_at(&self, at: usize) -> u32 {
        let [width, ..] = self.widths;
        self.uid.wrapping_add(low(word(&self.octets, at) & ((1 << bits(width)) - 1)))
    }

    pub(super) fn first_uid(&self) -> Option<u32> {
        (!self.octets.is_empty()).then(|| self.uid_at(0))
    }

    pub(super) fn last_uid(&self) -> Option<u32> {
        self.octets.len().checked_sub(self.stride()).map(|at| self.uid_at(at))
    }

    /// The index of the first row whose UID is not below this one; the count if there is none.
    pub(super) fn lower_bound(&self, uid: u32) -> usize {
        let stride = self.stride();
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            if self.uid_at(middle * stride) < uid {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    pub(super) fn len(&self) -> usize {
        self.octets.len() / self.stride()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Octets on the heap, unused room included.
    pub(super) fn heap_octets(&self) -> usize {
        self.octets.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbitrary::{Result as Drawn, Unstructured};

    /// Mostly near what ordinary mail has, sometimes anything.
    fn row(u: &mut Unstructured<'_>, uid: u32) -> Drawn<Row> {
        let plain = Row {
            uid,
            modseq_delta: u.int_in_range(0..=300)?,
            internal_date: 1_700_000_000 + u.int_in_range(0..=70_000)?,
            save_date: 1_700_100_000,
            size: u.int_in_range(0..=70_000)?,
            thread: 0,
            blob_low: u.int_in_range(0..=1 << 25)?,
            blob_high: 3,
            keywords: u.int_in_range(0..=2)?,
            flags: u.arbitrary()?,
            marks: u.arbitrary()?,
        };
        if u.int_in_range(0..=9)? > 0 {
            return Ok(Row { save_date: plain.internal_date, ..plain });
        }
        Ok(Row {
            modseq_delta: u.arbitrary()?,
            internal_date: u.arbitrary()?,
            save_date: u.arbitrary()?,
            size: u.arbitrary()?,
            thread: u.arbitrary()?,
            blob_low: u.arbitrary()?,
            blob_high: u.arbitrary()?,
            keywords: u.arbitrary()?,
            ..plain
        })
    }

    #[test]
    fn gives_back_any_rows_pushed_changed_or_taken_at_once() {
        arbtest::arbtest(|u| {
            let (mut rows, mut want) = (Rows::default(), Vec::new());
            let mut uid = 0_u32;
            for _ in 0..u.int_in_range(0..=300)? {
                uid = uid.saturating_add(u.int_in_range(1..=400)?);
                want.push(row(u, uid)?);
                rows.push(&want[want.len() - 1]);
                if u.int_in_range(0..=3)? == 0 {
                    let at = u.choose_index(want.len())?;
                    want[at] = row(u, want[at].uid)?;
                    rows.set(at, &want[at]);
                }
            }
            assert_eq!(rows.iter().collect::<Vec<Row>>(), want);
            assert_eq!(Rows::of(&want), rows);
            assert_eq!(rows.len(), want.len());
            assert_eq!(rows.get(want.len()), None);
            assert_eq!(rows.first_uid(), want.first().map(|row| row.uid));
            assert_eq!(rows.last_uid(), want.last().map(|row| row.uid));
            for (at, row) in want.iter().enumerate() {
                assert_eq!(rows.get(at), Some(*row));
                assert_eq!(rows.lower_bound(row.uid), at);
                assert_eq!(rows.lower_bound(row.uid.saturating_add(1)), at + 1);
            }
            Ok(())
        });
    }

    #[test]
    fn takes_what_ordinary_mail_needs_and_no_more() {
        let row = |at: u32| Row {
            uid: 70_000 + at,
            modseq_delta: 2 * at,
            internal_date: 1_700_000_000 + 600 * at,
            save_date: 1_700_000_000 + 600 * at,
            size: 3_000 + at,
            blob_low: 5_000_000 + 977 * at,
            flags: 1,
            marks: 4,
            ..Row::default()
        };
        let all: Vec<Row> = (0..255).map(row).collect();
        assert_eq!(Rows::of(&all).heap_octets(), 13 * 255);
        let large = Row { size: 100_000, ..row(255) };
        let mut rows = Rows::of(&all);
        rows.push(&large);
        assert_eq!((rows.heap_octets(), rows.get(255)), (14 * 256, Some(large)));
    }
}
