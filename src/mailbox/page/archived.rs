//! Pages as rkyv archives: what releases before the packed pages wrote. They are still read.
//!
//! AccountHeadV1 is of before there were more mailboxes than INBOX, AccountHeadV2 of before there was a
//! history. MemoV2 is of a mailbox that moved in from another server; the others have MemoV1.
//!
//! The archived types are frozen under their names.

use super::Memo;
#[cfg(test)]
use crate::mailbox::archive;
use crate::mailbox::archive::Archived;
use crate::mailbox::chunk::Chunk;
use crate::mailbox::history::{self, ChunkRef};
use crate::mailbox::keywords::Keywords;
use crate::mailbox::moved::{Moved, Origin, UidlRun};
use crate::mailbox::row::Row;
use crate::mailbox::vanished::{Run, Vanished};
use crate::model::id::{ModSeq, Uid};
use crate::store::Damaged;
use rkyv::{Archive, Serialize};

const VERSION: u8 = 1;
const OLD_HEAD_VERSION: u8 = 2;
const HEAD_VERSION: u8 = 3;
const MEMO_VERSION: u8 = 2;

/// What an account holds.
#[derive(Archive, Serialize, Debug, Default, PartialEq, Eq)]
pub(in crate::mailbox) struct AccountHeadV3 {
    pub modseq: u64,
    pub uidvalidity_last: u32,
    /// The highest number that a mailbox ever had.
    pub mailbox_last: u32,
    pub closed: bool,
    /// Whether changes go into the history.
    pub keeps: bool,
    /// When the last change was made that the history knows of; 0 for none.
    pub moment: u32,
    /// From when on the history is known.
    pub floor: u32,
    /// The number of the history's next chunk.
    pub next_past: u32,
    pub past: Vec<PastRefV1>,
    pub subscriptions: Vec<String>,
    pub mailboxes: Vec<MailboxHeadV3>,
}

#[derive(Archive, Serialize, Debug, PartialEq, Eq)]
pub(in crate::mailbox) struct MailboxHeadV3 {
    pub id: u32,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub next_chunk: u32,
    pub modseq: u64,
    pub octets: u64,
    pub count: u32,
    /// When it was made, as far as the history is to know.
    pub born: u32,
    /// When it was removed, if the history has it.
    pub removed_at: u32,
    pub uses: u8,
    /// Removed; its messages are on their way out, or the history has them.
    pub removed: bool,
    pub name: String,
    pub chunks: Vec<ChunkRefV1>,
}

/// A chunk of the history, and how many octets of events it has.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mailbox) struct PastRefV1 {
    pub number: u32,
    pub octets: u32,
}

#[derive(Archive, Serialize, Debug, Default)]
#[cfg_attr(not(test), expect(dead_code, reason = "only read, as an archive"))]
struct AccountHeadV2 {
    modseq: u64,
    uidvalidity_last: u32,
    mailbox_last: u32,
    closed: bool,
    subscriptions: Vec<String>,
    mailboxes: Vec<MailboxHeadV2>,
}

#[derive(Archive, Serialize, Debug)]
struct MailboxHeadV2 {
    id: u32,
    uidvalidity: u32,
    uidnext: u32,
    next_chunk: u32,
    modseq: u64,
    octets: u64,
    count: u32,
    uses: u8,
    removed: bool,
    name: String,
    chunks: Vec<ChunkRefV1>,
}

#[derive(Archive, Serialize, Debug, Default)]
#[cfg_attr(not(test), expect(dead_code, reason = "only read, as an archive"))]
struct AccountHeadV1 {
    modseq: u64,
    uidvalidity_last: u32,
    closed: bool,
    mailboxes: Vec<MailboxHeadV1>,
}

#[derive(Archive, Serialize, Debug)]
struct MailboxHeadV1 {
    id: u32,
    uidvalidity: u32,
    uidnext: u32,
    next_chunk: u32,
    modseq: u64,
    octets: u64,
    count: u32,
    name: String,
    chunks: Vec<ChunkRefV1>,
}

#[derive(Archive, Serialize, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only read, as an archive"))]
struct MemoV1 {
    names: Vec<String>,
    sets: Vec<u64>,
    floor: u64,
    runs: Vec<RunV1>,
}

#[derive(Archive, Serialize, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only read, as an archive"))]
struct MemoV2 {
    names: Vec<String>,
    sets: Vec<u64>,
    floor: u64,
    runs: Vec<RunV1>,
    origin_uidvalidity: u32,
    origin_next: u32,
    uidls: Vec<UidlRunV1>,
}

#[derive(Archive, Serialize, Debug)]
struct UidlRunV1 {
    first: u32,
    last: u32,
    form: String,
}

#[derive(Archive, Serialize, Debug)]
struct RunV1 {
    modseq: u64,
    first: u32,
    last: u32,
}

/// A chunk that is there, and how many rows it has.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mailbox) struct ChunkRefV1 {
    pub number: u32,
    pub rows: u32,
}

#[derive(Archive, Serialize, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only read, as an archive"))]
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

/// Reads what all versions of a mailbox's head have; `uses` and `removed` came with the second,
/// `born` and `removed_at` with the third.
macro_rules! mailbox_head {
    ($one:ident, uses: $uses:expr, removed: $removed:expr, born: $born:expr, at: $at:expr) => {
        MailboxHeadV3 {
            id: $one.id.to_native(),
            uidvalidity: $one.uidvalidity.to_native(),
            uidnext: $one.uidnext.to_native(),
            next_chunk: $one.next_chunk.to_native(),
            modseq: $one.modseq.to_native(),
            octets: $one.octets.to_native(),
            count: $one.count.to_native(),
            born: $born,
            removed_at: $at,
            uses: $uses,
            removed: $removed,
            name: $one.name.to_string(),
            chunks: $one.chunks.iter().map(chunk_ref).collect(),
        }
    };
}

fn chunk_ref(one: &ArchivedChunkRefV1) -> ChunkRefV1 {
    ChunkRefV1 { number: one.number.to_native(), rows: one.rows.to_native() }
}

impl From<ChunkRef> for PastRefV1 {
    fn from(one: ChunkRef) -> PastRefV1 {
        PastRefV1 { number: one.number, octets: one.octets }
    }
}

impl From<PastRefV1> for ChunkRef {
    fn from(one: PastRefV1) -> ChunkRef {
        ChunkRef { number: one.number, octets: one.octets }
    }
}

/// The head of an account, of this version or one before.
pub(super) fn decode_head(octets: &[u8]) -> Result<AccountHeadV3, Damaged> {
    match octets.first() {
        Some(&VERSION) => return decode_first_head(octets),
        Some(&OLD_HEAD_VERSION) => return decode_old_head(octets),
        _ => {}
    }
    let archived = Archived::new(HEAD_VERSION, octets)?;
    let head: &ArchivedAccountHeadV3 = archived.access()?;
    let mailboxes = head.mailboxes.iter().map(|one| {
        let (born, at) = (one.born.to_native(), one.removed_at.to_native());
        mailbox_head!(one, uses: one.uses, removed: one.removed, born: born, at: at)
    });
    let past = head
        .past
        .iter()
        .map(|one| PastRefV1 { number: one.number.to_native(), octets: one.octets.to_native() });
    Ok(AccountHeadV3 {
        modseq: head.modseq.to_native(),
        uidvalidity_last: head.uidvalidity_last.to_native(),
        mailbox_last: head.mailbox_last.to_native(),
        closed: head.closed,
        keeps: head.keeps,
        moment: head.moment.to_native(),
        floor: head.floor.to_native(),
        next_past: head.next_past.to_native(),
        past: past.collect(),
        subscriptions: head.subscriptions.iter().map(ToString::to_string).collect(),
        mailboxes: mailboxes.collect(),
    })
}

/// Of before there was a history: nothing is known of what was.
fn decode_old_head(octets: &[u8]) -> Result<AccountHeadV3, Damaged> {
    let archived = Archived::new(OLD_HEAD_VERSION, octets)?;
    let head: &ArchivedAccountHeadV2 = archived.access()?;
    let mailboxes = head.mailboxes.iter();
    let mailboxes = mailboxes
        .map(|one| mailbox_head!(one, uses: one.uses, removed: one.removed, born: 0, at: 0));
    Ok(AccountHeadV3 {
        modseq: head.modseq.to_native(),
        uidvalidity_last: head.uidvalidity_last.to_native(),
        mailbox_last: head.mailbox_last.to_native(),
        closed: head.closed,
        floor: history::UNKNOWN,
        subscriptions: head.subscriptions.iter().map(ToString::to_string).collect(),
        mailboxes: mailboxes.collect(),
        ..AccountHeadV3::default()
    })
}

fn decode_first_head(octets: &[u8]) -> Result<AccountHeadV3, Damaged> {
    let archived = Archived::new(VERSION, octets)?;
    let head: &ArchivedAccountHeadV1 = archived.access()?;
    let mailboxes = head.mailboxes.iter();
    let mailboxes =
        mailboxes.map(|one| mailbox_head!(one, uses: 0, removed: false, born: 0, at: 0));
    Ok(AccountHeadV3 {
        modseq: head.modseq.to_native(),
        uidvalidity_last: head.uidvalidity_last.to_native(),
        mailbox_last: head.mailboxes.iter().map(|one| one.id.to_native()).max().unwrap_or(0),
        closed: head.closed,
        floor: history::UNKNOWN,
        mailboxes: mailboxes.collect(),
        ..AccountHeadV3::default()
    })
}

#[cfg(test)]
fn encode_memo(keywords: &Keywords, vanished: &Vanished, moved: Option<&Moved>) -> Vec<u8> {
    let names = keywords.names().iter().map(ToString::to_string).collect();
    let sets = keywords.sets().to_vec();
    let floor = vanished.floor.0;
    let runs = vanished.runs.iter().map(|run| RunV1 {
        modseq: run.modseq.0,
        first: run.first.0,
        last: run.last.0,
    });
    let runs = runs.collect();
    let Some(Moved { origin, uidls }) = moved else {
        return archive::encode(VERSION, &MemoV1 { names, sets, floor, runs });
    };
    let uidls = uidls.iter().map(|run| UidlRunV1 {
        first: run.first.0,
        last: run.last.0,
        form: run.form.to_string(),
    });
    let memo = MemoV2 {
        names,
        sets,
        floor,
        runs,
        origin_uidvalidity: origin.uidvalidity,
        origin_next: origin.next,
        uidls: uidls.collect(),
    };
    archive::encode(MEMO_VERSION, &memo)
}

/// Reads what both versions of a memo have.
macro_rules! memo {
    ($memo:ident, moved: $moved:expr) => {{
        let names = $memo.names.iter().map(|name| name.as_str().into()).collect();
        let sets = $memo.sets.iter().map(|set| set.to_native()).collect();
        let runs: Vec<Run> = $memo.runs.iter().map(run).collect();
        let floor = ModSeq($memo.floor.to_native());
        let rise = runs.is_sorted_by(|a, b| a.modseq <= b.modseq);
        let keywords = Keywords::from_saved(names, sets).filter(|_| rise);
        keywords.zip($moved).map(|(keywords, moved)| Memo {
            keywords,
            vanished: Vanished { floor, runs },
            moved,
        })
    }};
}

fn run(run: &ArchivedRunV1) -> Run {
    Run {
        modseq: ModSeq(run.modseq.to_native()),
        first: Uid(run.first.to_native()),
        last: Uid(run.last.to_native()),
    }
}

pub(super) fn decode_memo(octets: &[u8]) -> Result<Memo, Damaged> {
    let memo = if octets.first() == Some(&MEMO_VERSION) {
        let archived = Archived::new(MEMO_VERSION, octets)?;
        let memo: &ArchivedMemoV2 = archived.access()?;
        let uidl = |run: &ArchivedUidlRunV1| UidlRun {
            first: Uid(run.first.to_native()),
            last: Uid(run.last.to_native()),
            form: run.form.as_str().into(),
        };
        let origin = Origin {
            uidvalidity: memo.origin_uidvalidity.to_native(),
            next: memo.origin_next.to_native(),
        };
        let moved = Moved::from_saved(origin, memo.uidls.iter().map(uidl).collect());
        memo!(memo, moved: moved)
    } else {
        let archived = Archived::new(VERSION, octets)?;
        let memo: &ArchivedMemoV1 = archived.access()?;
        memo!(memo, moved: Some(Moved::default()))
    };
    memo.ok_or_else(|| Damaged("the memo of a mailbox is not as it should be".into()))
}

#[cfg(test)]
fn encode_chunk(chunk: &Chunk) -> Vec<u8> {
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
    super::sound_chunk(page.base.to_native(), &page.rows.iter().map(row).collect::<Vec<Row>>())
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

    fn encode_head(head: &AccountHeadV3) -> Vec<u8> {
        archive::encode(HEAD_VERSION, head)
    }

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
        Chunk::new(0x1111, &[row, Row { uid: 0x0202_0202, ..row }])
    }

    fn chunks() -> Vec<ChunkRefV1> {
        vec![ChunkRefV1 { number: 8, rows: 9 }]
    }

    fn old_head() -> Vec<u8> {
        let inbox = MailboxHeadV1 {
            id: 1,
            uidvalidity: 2,
            uidnext: 3,
            next_chunk: 4,
            modseq: 5,
            octets: 6,
            count: 7,
            name: "INBOX".into(),
            chunks: chunks(),
        };
        let mailboxes = vec![inbox];
        let head = AccountHeadV1 { modseq: 10, uidvalidity_last: 11, closed: true, mailboxes };
        archive::encode(VERSION, &head)
    }

    /// As those of before there was a history are read.
    fn head() -> AccountHeadV3 {
        let inbox = MailboxHeadV3 {
            id: 1,
            uidvalidity: 2,
            uidnext: 3,
            next_chunk: 4,
            modseq: 5,
            octets: 6,
            count: 7,
            born: 0,
            removed_at: 0,
            uses: 0,
            removed: false,
            name: "INBOX".into(),
            chunks: chunks(),
        };
        AccountHeadV3 {
            modseq: 10,
            uidvalidity_last: 11,
            mailbox_last: 1,
            closed: true,
            floor: history::UNKNOWN,
            mailboxes: vec![inbox],
            ..AccountHeadV3::default()
        }
    }

    /// The same as the release wrote it that had no history.
    fn encode_old_head(head: &AccountHeadV3) -> Vec<u8> {
        let mailboxes = head.mailboxes.iter().map(|one| MailboxHeadV2 {
            id: one.id,
            uidvalidity: one.uidvalidity,
            uidnext: one.uidnext,
            next_chunk: one.next_chunk,
            modseq: one.modseq,
            octets: one.octets,
            count: one.count,
            uses: one.uses,
            removed: one.removed,
            name: one.name.clone(),
            chunks: one.chunks.clone(),
        });
        let old = AccountHeadV2 {
            modseq: head.modseq,
            uidvalidity_last: head.uidvalidity_last,
            mailbox_last: head.mailbox_last,
            closed: head.closed,
            subscriptions: head.subscriptions.clone(),
            mailboxes: mailboxes.collect(),
        };
        archive::encode(OLD_HEAD_VERSION, &old)
    }

    fn memo() -> Memo {
        let mut memo = Memo::default();
        let mask = memo.keywords.learn("Work", 0) | memo.keywords.learn("$Junk", 0);
        memo.keywords.intern(mask);
        memo.vanished.add(ModSeq(12), &[Uid(3), Uid(4), Uid(9)]);
        memo
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
            &old_head(),
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
        assert_eq!(decode_head(&old_head()), Ok(head()));
    }

    #[test]
    fn writes_heads_and_memos_of_these_octets_for_ever() {
        let mut head = head();
        check(
            &encode_old_head(&head),
            &expect![[r"
            02000000 00000000 00000000 00000000 
            08000000 09000000 01000000 02000000 
            03000000 04000000 05000000 00000000 
            06000000 00000000 07000000 00000000 
            494e424f 58ffffff c8ffffff 01000000 
            0a000000 00000000 0b000000 01000000 
            01000000 acffffff 00000000 acffffff 
            01000000 00000000 
        "]],
        );
        head.subscriptions.push("a/b".into());
        assert_eq!(decode_head(&encode_old_head(&head)), Ok(head));
        let Memo { keywords, vanished, moved } = memo();
        check(
            &encode_memo(&keywords, &vanished, None),
            &expect![[r"
            01000000 00000000 00000000 00000000 
            576f726b ffffffff 244a756e 6bffffff 
            03000000 00000000 0c000000 00000000 
            03000000 04000000 0c000000 00000000 
            09000000 09000000 c8ffffff 02000000 
            d0ffffff 01000000 00000000 00000000 
            c8ffffff 02000000 
        "]],
        );
        assert_eq!(decode_memo(&encode_memo(&keywords, &vanished, None)), Ok(memo()));
        assert_eq!(moved, Moved::default());
    }

    #[test]
    fn writes_heads_with_a_history_of_these_octets_for_ever() {
        let mut head = head();
        head.mailboxes[0].born = 12;
        head.mailboxes[0].removed_at = 13;
        (head.keeps, head.moment, head.floor, head.next_past) = (true, 14, 15, 17);
        head.past = vec![PastRefV1 { number: 16, octets: 18 }];
        check(
            &encode_head(&head),
            &expect![[r"
            03000000 00000000 00000000 00000000 
            10000000 12000000 08000000 09000000 
            01000000 02000000 03000000 04000000 
            05000000 00000000 06000000 00000000 
            07000000 0c000000 0d000000 00000000 
            494e424f 58ffffff c0ffffff 01000000 
            0a000000 00000000 0b000000 01000000 
            01010000 0e000000 0f000000 11000000 
            90ffffff 01000000 90ffffff 00000000 
            90ffffff 01000000 
        "]],
        );
        assert_eq!(decode_head(&encode_head(&head)), Ok(head));
    }

    #[test]
    fn writes_memos_of_what_moved_in_of_these_octets_for_ever() {
        let mut memo = memo();
        memo.moved.origin = Origin { uidvalidity: 0x5f00_0001, next: 30 };
        let run = |first, last, form: &str| UidlRun {
            first: Uid(first),
            last: Uid(last),
            form: form.into(),
        };
        memo.moved.uidls = vec![run(1, 7, "%08Xu%08Xv"), run(9, 9, "x")];
        let octets = encode_memo(&memo.keywords, &memo.vanished, Some(&memo.moved));
        check(
            &octets,
            &expect![[r"
                02000000 00000000 00000000 00000000 
                576f726b ffffffff 244a756e 6bffffff 
                03000000 00000000 0c000000 00000000 
                03000000 04000000 0c000000 00000000 
                09000000 09000000 25303858 75253038 
                58760000 01000000 07000000 8a000000 
                ecffffff 09000000 09000000 78ffffff 
                ffffffff 00000000 98ffffff 02000000 
                a0ffffff 01000000 00000000 00000000 
                98ffffff 02000000 0100005f 1e000000 
                b4ffffff 02000000 
            "]],
        );
        assert_eq!(decode_memo(&octets), Ok(memo));
    }

    /// Texts of more than eight octets stand elsewhere in the archive.
    #[test]
    fn writes_long_names_of_these_octets_for_ever() {
        let mut head = head();
        head.subscriptions = vec!["INBOX".into(), "Archive/2026".into()];
        let inbox = head.mailboxes.remove(0);
        head.mailboxes = vec![MailboxHeadV3 {
            uses: 2,
            removed: true,
            name: "n".repeat(70),
            chunks: Vec::new(),
            ..inbox
        }];
        check(
            &encode_old_head(&head),
            &expect![[r"
            02000000 00000000 00000000 00000000 
            41726368 6976652f 32303236 494e424f 
            58ffffff 8c000000 ecffffff 6e6e6e6e 
            6e6e6e6e 6e6e6e6e 6e6e6e6e 6e6e6e6e 
            6e6e6e6e 6e6e6e6e 6e6e6e6e 6e6e6e6e 
            6e6e6e6e 6e6e6e6e 6e6e6e6e 6e6e6e6e 
            6e6e6e6e 6e6e6e6e 6e6e6e6e 6e6e6e6e 
            6e6e0000 00000000 01000000 02000000 
            03000000 04000000 05000000 00000000 
            06000000 00000000 07000000 02010000 
            86010000 8cffffff ccffffff 00000000 
            0a000000 00000000 0b000000 01000000 
            01000000 58ffffff 02000000 acffffff 
            01000000 00000000 
        "]],
        );
        assert_eq!(decode_head(&encode_old_head(&head)), Ok(head));
    }

    #[test]
    fn refuses_any_page_that_was_cut_or_changed_beyond_meaning() {
        let page = encode_chunk(&chunk());
        for len in 0..page.len() {
            decode_chunk(&page[..len]).unwrap_err();
        }
        let mut other = page.clone();
        other[0] = 9;
        decode_chunk(&other).unwrap_err();
        arbtest::arbtest(|u| {
            let Memo { keywords, vanished, mut moved } = memo();
            moved.uidls.push(UidlRun { first: Uid(1), last: Uid(2), form: "UID%u".into() });
            let old = encode_memo(&keywords, &vanished, None);
            let new = encode_memo(&keywords, &vanished, Some(&moved));
            let heads = (encode_head(&head()), encode_old_head(&head()));
            let pages = [page.clone(), heads.0, heads.1, old, new];
            let mut page = u.choose(&pages)?.clone();
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(page.len())?;
                page[at] = u.arbitrary()?;
            }
            drop(decode_chunk(&page));
            drop(decode_head(&page));
            drop(decode_memo(&page));
            Ok(())
        });
    }
}
