//! Pages: an account as a checkpoint keeps it. One head, and one page for each chunk of rows.
//!
//! ```text
//! page  := archive (see archive.rs) of AccountHeadV1 or ChunkV1
//! major := account
//! minor := 0 for the head | (mailbox << 32) + number of the chunk + 1
//! ```
//!
//! The head has the last word: a chunk that it does not name is a page of the past and is passed
//! over. The archived types are frozen under their names; a change makes a `V2` beside them.

use super::archive::{self, Archived};
use super::chunk::Chunk;
use super::row::Row;
use crate::bytes::codec::to_u32;
use crate::model::id::MailboxId;
use crate::model::limits::MAILBOX_CHUNK_ROWS;
use crate::store::Damaged;
use rkyv::{Archive, Serialize};

const VERSION: u8 = 1;

/// The minor number of the head.
pub(super) const HEAD_MINOR: u64 = 0;

/// What an account holds.
#[derive(Archive, Serialize, Debug, Default)]
pub(super) struct AccountHeadV1 {
    pub modseq: u64,
    pub uidvalidity_last: u32,
    pub closed: bool,
    pub mailboxes: Vec<MailboxHeadV1>,
}

#[derive(Archive, Serialize, Debug)]
pub(super) struct MailboxHeadV1 {
    pub id: u32,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub next_chunk: u32,
    pub modseq: u64,
    pub octets: u64,
    pub count: u32,
    pub name: String,
    pub chunks: Vec<ChunkRefV1>,
}

/// A chunk that is there, and how many rows it has.
#[derive(Archive, Serialize, Debug)]
pub(super) struct ChunkRefV1 {
    pub number: u32,
    pub rows: u32,
}

#[derive(Archive, Serialize, Debug)]
struct ChunkV1 {
    base: u64,
    rows: Vec<RowV1>,
}

#[derive(Archive, Serialize, Debug)]
struct RowV1 {
    uid: u32,
    modseq_delta: u32,
    internal_date: u32,
    save_date: u32,
    size: u32,
    thread: u32,
    blob_low: u32,
    blob_high: u16,
    keywords: u16,
    flags: u8,
    marks: u8,
}

/// The minor number of a chunk.
pub(super) fn chunk_minor(mailbox: MailboxId, number: u32) -> u64 {
    (u64::from(mailbox.0) << 32) + u64::from(number) + 1
}

/// The mailbox and the number of a chunk; `minor` is not the head's.
pub(super) fn split_minor(minor: u64) -> (MailboxId, u32) {
    let place = minor.saturating_sub(1);
    let low = u32::try_from(place & u64::from(u32::MAX)).expect("masked to 32 bits");
    (MailboxId(u32::try_from(place >> 32).expect("32 bits are left")), low)
}

pub(super) fn encode_head(head: &AccountHeadV1) -> Vec<u8> {
    archive::encode(VERSION, head)
}

/// Calls `read` with the head of an account.
pub(super) fn with_head<T>(
    octets: &[u8],
    read: impl FnOnce(&ArchivedAccountHeadV1) -> Result<T, Damaged>,
) -> Result<T, Damaged> {
    read(Archived::new(VERSION, octets)?.access()?)
}

pub(super) fn encode_chunk(chunk: &Chunk) -> Vec<u8> {
    let rows = chunk.rows.iter().map(|row| RowV1 {
        uid: row.uid,
        modseq_delta: row.modseq_delta,
        internal_date: row.internal_date,
        save_date: row.save_date,
        size: row.size,
        thread: row.thread,
        blob_low: row.blob_low,
        blob_high: row.blob_high,
        keywords: row.keywords,
        flags: row.flags,
        marks: row.marks,
    });
    archive::encode(VERSION, &ChunkV1 { base: chunk.base, rows: rows.collect() })
}

pub(super) fn decode_chunk(octets: &[u8]) -> Result<Chunk, Damaged> {
    let archived = Archived::new(VERSION, octets)?;
    let page: &ArchivedChunkV1 = archived.access()?;
    let rows: Vec<Row> = page.rows.iter().map(row).collect();
    let rising = rows.is_sorted_by(|a, b| a.uid < b.uid);
    if rows.is_empty() || rows.len() > MAILBOX_CHUNK_ROWS || !rising {
        return Err(Damaged(format!("a chunk of {} rows, rising: {rising}", to_u32(rows.len()))));
    }
    Ok(Chunk { base: page.base.to_native(), rows })
}

fn row(row: &ArchivedRowV1) -> Row {
    Row {
        uid: row.uid.to_native(),
        modseq_delta: row.modseq_delta.to_native(),
        internal_date: row.internal_date.to_native(),
        save_date: row.save_date.to_native(),
        size: row.size.to_native(),
        thread: row.thread.to_native(),
        blob_low: row.blob_low.to_native(),
        blob_high: row.blob_high.to_native(),
        keywords: row.keywords.to_native(),
        flags: row.flags,
        marks: row.marks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    #[track_caller]
    fn check(octets: &[u8], want: &Expect) {
        let mut out = String::new();
        for line in octets.chunks(16) {
            for word in line.chunks(4) {
                for octet in word {
                    write!(out, "{octet:02x}").unwrap();
                }
                out.push(' ');
            }
            out.push('\n');
        }
        want.assert_eq(&out);
    }

    fn chunk() -> Chunk {
        let row = Row {
            uid: 0x0101_0101,
            modseq_delta: 2,
            internal_date: 3,
            save_date: 4,
            size: 5,
            thread: 6,
            blob_low: 7,
            blob_high: 8,
            keywords: 9,
            flags: 10,
            marks: 11,
        };
        Chunk { base: 0x1111, rows: vec![row, Row { uid: 0x0202_0202, ..row }] }
    }

    fn head() -> AccountHeadV1 {
        let inbox = MailboxHeadV1 {
            id: 1,
            uidvalidity: 2,
            uidnext: 3,
            next_chunk: 4,
            modseq: 5,
            octets: 6,
            count: 7,
            name: "INBOX".into(),
            chunks: vec![ChunkRefV1 { number: 8, rows: 9 }],
        };
        AccountHeadV1 { modseq: 10, uidvalidity_last: 11, closed: true, mailboxes: vec![inbox] }
    }

    #[test]
    fn writes_these_octets_for_ever() {
        check(
            &encode_chunk(&chunk()),
            &expect![[r"
            01000000 00000000 00000000 00000000 
            01010101 02000000 03000000 04000000 
            05000000 06000000 07000000 08000900 
            0a0b0000 02020202 02000000 03000000 
            04000000 05000000 06000000 07000000 
            08000900 0a0b0000 11110000 00000000 
            b0ffffff 02000000 
        "]],
        );
        check(
            &encode_head(&head()),
            &expect![[r"
            01000000 00000000 00000000 00000000 
            08000000 09000000 01000000 02000000 
            03000000 04000000 05000000 00000000 
            06000000 00000000 07000000 494e424f 
            58ffffff ccffffff 01000000 00000000 
            0a000000 00000000 0b000000 01000000 
            b8ffffff 01000000 
        "]],
        );
        assert_eq!(decode_chunk(&encode_chunk(&chunk())), Ok(chunk()));
        let name = |head: &ArchivedAccountHeadV1| Ok(head.mailboxes[0].name.to_string());
        assert_eq!(with_head(&encode_head(&head()), name), Ok("INBOX".into()));
    }

    #[test]
    fn refuses_any_page_that_was_cut_or_changed_beyond_meaning() {
        let page = encode_chunk(&chunk());
        for len in 0..page.len() {
            decode_chunk(&page[..len]).unwrap_err();
        }
        let mut other = page.clone();
        other[0] = 2;
        decode_chunk(&other).unwrap_err();
        arbtest::arbtest(|u| {
            let mut page = if u.arbitrary()? { page.clone() } else { encode_head(&head()) };
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(page.len())?;
                page[at] = u.arbitrary()?;
            }
            drop(decode_chunk(&page));
            drop(with_head(&page, |head| Ok(head.modseq.to_native())));
            Ok(())
        });
    }

    #[test]
    fn numbers_pages_one_to_one() {
        for (mailbox, number) in [(1, 0), (1, u32::MAX), (2, 0), (u32::MAX, u32::MAX - 1)] {
            let minor = chunk_minor(MailboxId(mailbox), number);
            assert_eq!(split_minor(minor), (MailboxId(mailbox), number));
            assert_ne!(minor, HEAD_MINOR);
        }
    }
}
