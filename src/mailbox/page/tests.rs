//! Packed pages: their octets, and that any others are refused.

use super::*;
use crate::mailbox::moved::{Origin, UidlRun};
use crate::mailbox::vanished::Run;
use crate::model::id::{ModSeq, Uid};
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
    let other = Row { uid: 0x0202_0202, save_date: 1, size: 300, blob_low: 9, ..row };
    Chunk::new(0x1111, &[row, other, Row { uid: 0x0202_0203, thread: 0, ..other }])
}

fn head() -> AccountHead {
    let inbox = MailboxHead {
        id: 1,
        uidvalidity: 1_795_953_600,
        uidnext: 300,
        next_chunk: 4,
        modseq: 1_000,
        octets: 6,
        count: 7,
        born: 0,
        removed_at: 0,
        uses: 0,
        removed: false,
        name: "INBOX".into(),
        chunks: vec![RowsRef { number: 0, rows: 256 }, RowsRef { number: 3, rows: 9 }],
    };
    let sent = MailboxHead {
        id: 5,
        uidvalidity: 1_795_953_601,
        born: 1_795_953_650,
        removed_at: 1_795_953_660,
        uses: 4,
        removed: true,
        name: "Gesendet/2026".into(),
        chunks: Vec::new(),
        ..inbox
    };
    AccountHead {
        modseq: 1_010,
        uidvalidity_last: 1_795_953_601,
        mailbox_last: 9,
        closed: false,
        keeps: true,
        moment: 1_795_953_660,
        floor: 1_795_953_000,
        next_past: 18,
        past: vec![PastRefV1 { number: 16, octets: 400 }],
        subscriptions: vec!["INBOX".into(), "ä/b".into()],
        mailboxes: vec![inbox, sent],
    }
}

fn memo() -> Memo {
    let mut memo = Memo::default();
    let mask = memo.keywords.learn("Work", 0) | memo.keywords.learn("$Junk", 0);
    memo.keywords.intern(mask);
    memo.vanished.add(ModSeq(12), &[Uid(3), Uid(4), Uid(9)]);
    memo
}

fn moved() -> Moved {
    let run =
        |first, last, form: &str| UidlRun { first: Uid(first), last: Uid(last), form: form.into() };
    let origin = Origin { uidvalidity: 0x5f00_0001, next: 30 };
    Moved { origin, uidls: vec![run(1, 7, "%08Xu%08Xv"), run(9, 9, "x")] }
}

#[test]
fn writes_heads_of_these_octets_for_ever() {
    check(
        &encode_head(&head(), None),
        &expect![[r"
        0402f207 c1a7b0d8 0609fca7 b0d806e9 
        a2b0d806 12011090 03020549 4e424f58 
        04c3a42f 62020102 01ac0204 130607f7 
        cfe0b00d 02008002 0209040d 0d476573 
        656e6465 742f3230 323604fc a7b0d806 
        02ac0204 130607e4 cfe0b00d 00 
    "]],
    );
    assert_eq!(decode_head(&encode_head(&head(), None)), Ok((head(), None)));
    let nothing = AccountHead { floor: history::UNKNOWN, ..AccountHead::default() };
    check(
        &encode_head(&nothing, None),
        &expect![[r"
        04000000 00000000 000000 
    "]],
    );
    assert_eq!(decode_head(&encode_head(&nothing, None)), Ok((nothing, None)));
}

#[test]
fn writes_whole_accounts_of_these_octets_for_ever() {
    let mut parts = PartsOut::default();
    let pages = [
        (3, b"past".as_slice()),
        (memo_minor(MailboxId(1)), b"memo"),
        (chunk_minor(MailboxId(1), 0), b""),
        (chunk_minor(MailboxId(5), 300), b"chunk"),
    ];
    for (minor, page) in &pages {
        parts.push(*minor, page);
    }
    check(
        &parts.octets,
        &expect![[r"
        00030470 61737401 00046d65 6d6f0001 
        0004ad02 05636875 6e6b 
    "]],
    );
    let page = encode_head(&head(), Some(&parts.octets));
    assert!(is_whole(&page) && !is_whole(&encode_head(&head(), None)));
    let (read, whole) = decode_head(&page).unwrap();
    assert_eq!(read, head());
    let found: Result<Vec<_>, _> = PartsIn::new(whole.unwrap()).collect();
    assert_eq!(found.unwrap(), pages);
}

#[test]
fn writes_chunks_and_memos_of_these_octets_for_ever() {
    check(
        &encode_chunk(&chunk()),
        &expect![[r"
        02039122 ff035981 82840802 00010101 
        00000000 02000301 02060905 004e9e04 
        03003600 02878080 80800128 0009000a 
        000b 
    "]],
    );
    assert_eq!(decode_chunk(&encode_chunk(&chunk())), Ok(chunk()));
    let mut memo = memo();
    let octets = encode_memo(&memo.keywords, &memo.vanished, None);
    check(
        &octets,
        &expect![[r"
        03020457 6f726b05 244a756e 6b010300 
        02000c03 03300100 0100 
    "]],
    );
    assert_eq!(decode_memo(&octets), Ok(memo_again()));
    memo.moved = moved();
    let octets = encode_memo(&memo.keywords, &memo.vanished, Some(&memo.moved));
    check(
        &octets,
        &expect![[r"
        03020457 6f726b05 244a756e 6b010300 
        02000c03 03300100 01018180 80f8051e 
        0201060a 25303858 75253038 58760900 
        0178 
    "]],
    );
    assert_eq!(decode_memo(&octets), Ok(memo));
}

/// Releases before did not always keep to the bound.
#[test]
fn reads_a_list_of_removals_that_is_longer_than_those_made_now() {
    let mut memo = memo();
    let run = |at: u32| Run { modseq: ModSeq(20), first: Uid(at * 2), last: Uid(at * 2) };
    memo.vanished.runs.extend((10..1_100_000).map(run));
    let octets = encode_memo(&memo.keywords, &memo.vanished, None);
    assert!(decode_memo(&octets) == Ok(memo));
}

fn memo_again() -> Memo {
    memo()
}

#[test]
fn gives_back_any_rows() {
    arbtest::arbtest(|u| {
        let mut rows = Vec::new();
        let mut uid = 0_u32;
        for _ in 0..u.int_in_range(1..=MAILBOX_CHUNK_ROWS)? {
            let Some(next) = uid.checked_add(u.int_in_range(1..=9)?) else { break };
            uid = next;
            let row = Row {
                uid,
                modseq_delta: u.arbitrary()?,
                internal_date: u.arbitrary()?,
                save_date: u.arbitrary()?,
                size: u.arbitrary()?,
                thread: u.arbitrary()?,
                blob_low: u.arbitrary()?,
                blob_high: u.arbitrary()?,
                keywords: u.arbitrary()?,
                flags: u.arbitrary()?,
                marks: u.arbitrary()?,
            };
            rows.push(row);
        }
        let chunk = Chunk::new(u.int_in_range(0..=1 << 40)?, &rows);
        assert_eq!(decode_chunk(&encode_chunk(&chunk)), Ok(chunk));
        Ok(())
    });
}

#[test]
fn refuses_any_page_that_was_cut_or_changed_beyond_meaning() {
    let page = encode_chunk(&chunk());
    for len in 0..page.len() {
        decode_chunk(&page[..len]).unwrap_err();
    }
    let head_page = encode_head(&head(), None);
    for len in 0..head_page.len() {
        decode_head(&head_page[..len]).unwrap_err();
    }
    let memo = memo();
    let memo_page = encode_memo(&memo.keywords, &memo.vanished, Some(&moved()));
    for len in 0..memo_page.len() {
        decode_memo(&memo_page[..len]).unwrap_err();
    }
    let mut parts = PartsOut::default();
    parts.push(memo_minor(MailboxId(1)), &memo_page);
    parts.push(chunk_minor(MailboxId(1), 0), &page);
    let whole = encode_head(&head(), Some(&parts.octets));
    arbtest::arbtest(|u| {
        let pages = [&page, &head_page, &memo_page, &whole];
        let mut page = (*u.choose(&pages)?).clone();
        for _ in 0..u.int_in_range(1..=4)? {
            let at = u.choose_index(page.len())?;
            page[at] = u.arbitrary()?;
        }
        drop(decode_chunk(&page));
        drop(decode_memo(&page));
        if let Ok((_, Some(parts))) = decode_head(&page) {
            for part in PartsIn::new(parts) {
                let Ok((minor, page)) = part else { break };
                drop(decode_part(minor, page));
            }
        }
        Ok(())
    });
}

#[test]
fn numbers_pages_one_to_one() {
    for (mailbox, number) in [(1, 0), (1, u32::MAX - 1), (2, 0), (u32::MAX, u32::MAX - 1)] {
        let minor = chunk_minor(MailboxId(mailbox), number);
        let page = encode_chunk(&chunk());
        let (found, part) = decode_part(minor, &page).unwrap();
        assert_eq!(found, MailboxId(mailbox));
        assert!(matches!(part, Part::Chunk(at, _) if at == number) && is_packed(minor, &page));
        assert_ne!(minor, HEAD_MINOR);
    }
    let Memo { keywords, vanished, .. } = memo();
    let octets = encode_memo(&keywords, &vanished, None);
    let (found, part) = decode_part(memo_minor(MailboxId(7)), &octets).unwrap();
    assert!(found == MailboxId(7) && matches!(part, Part::Memo(_)));
}
