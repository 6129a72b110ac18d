//! Octets of events, and what becomes of them.

use super::super::row::{Entry, Flags, Marks};
use super::*;
use crate::model::id::{ModSeq, Uid};
use expect_test::{Expect, expect};
use std::fmt::Write;

fn entry(uid: u32) -> Entry {
    Entry {
        uid: Uid(uid),
        modseq: ModSeq(0),
        internal_date: 2,
        save_date: 3,
        size: 4,
        thread: 5,
        blob: BlobId((7 << 32) + 6),
        keywords: 8,
        flags: Flags(9),
        marks: Marks(10),
    }
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

fn full() -> History {
    let mut history = History::default();
    let (rows, run) = (
        [entry(1), entry(0x11)],
        FlagRun { first: Uid(1), last: Uid(2), keywords: 3, flags: Flags(4) },
    );
    let runs = [run];
    let events = [
        Event::Gone(RowsOf::Live(&rows)),
        Event::Left(RowsOf::Live(&rows[..1])),
        Event::Flags(RunsOf::Live(&runs)),
        Event::Name("a/b"),
        Event::Use(32),
        Event::Subscribed { was: true, name: "a" },
        Event::Keyword { bit: 5, name: "Work" },
        Event::Swapped(MailboxId(6)),
        Event::Uidl { uid: Uid(7), form: "x" },
    ];
    for (ended, event) in (100..).zip(events) {
        history.push(ended, MailboxId(1), &event);
    }
    history
}

fn pages(history: &mut History) -> Vec<(u64, Vec<u8>)> {
    let mut pages = Vec::new();
    history.save(&mut |minor, octets| pages.extend(octets.map(|octets| (minor, octets))));
    pages
}

#[test]
fn writes_events_of_these_octets_for_ever() {
    let mut history = full();
    let pages = pages(&mut history);
    assert_eq!(pages.len(), 1);
    check(
        &pages[0].1,
        &expect![[r"
        01000000 00000000 01640000 00010000 
        00400000 00010000 00020000 00030000 
        00040000 00050000 00060000 00070000 
        00080009 0a110000 00020000 00030000 
        00040000 00050000 00060000 00070000 
        00080009 0a026500 00000100 00002000 
        00000100 00000200 00000300 00000400 
        00000500 00000600 00000700 00000800 
        090a0366 00000001 0000000b 00000001 
        00000002 00000003 00040467 00000001 
        00000003 00000061 2f620568 00000001 
        00000001 00000020 06690000 00010000 
        00020000 00016107 6a000000 01000000 
        05000000 05576f72 6b086b00 00000100 
        00000400 00000600 0000096c 00000001 
        00000005 00000007 00000078 
    "]],
    );
    let (next, head) = history.head();
    let mut again = History::load(next, &head).unwrap();
    again.verify().unwrap_err();
    again.load_chunk(0, decode_page(&pages[0].1).unwrap());
    again.verify().unwrap();
    assert!(again.backwards().eq(history.backwards()));
    assert_eq!(again.backwards().count(), 9);
}

#[test]
fn forgets_the_oldest_and_nothing_else_than_is_named() {
    let mut history = full();
    let (mut gone, blob) = (Vec::new(), BlobId((7 << 32) + 6));
    assert_eq!(history.first_ended(), Some(100));
    let Oldest { events, blobs, has_more } = history.oldest(101, 100);
    assert_eq!((events, blobs.as_slice(), has_more), (2, &[blob, blob][..], false));
    assert!(history.oldest(105, 1).has_more);
    history.forget(2, [blob].into_iter(), &mut gone).unwrap_err();
    history.forget(10, [blob, blob].into_iter(), &mut gone).unwrap_err();
    let last = history.forget(events, blobs.into_iter(), &mut gone).unwrap();
    assert_eq!((last, history.first_ended(), gone.len()), (Some(101), Some(102), 0));
    history.clamp(103);
    assert_eq!(history.backwards().map(|one| one.ended).max(), Some(103));
    history.verify().unwrap();
    history.forget(7, std::iter::empty(), &mut gone).unwrap();
    assert!(history.is_empty() && gone == [1]);
}

#[test]
fn is_cut_into_chunks_of_which_only_the_last_is_written_again() {
    let mut history = History::default();
    let rows: Vec<Entry> = (1..=HISTORY_EVENT_ROWS).map(|uid| entry(to_u32(uid))).collect();
    for ended in 0..10 {
        history.push(ended, MailboxId(1), &Event::Gone(RowsOf::Live(&rows)));
    }
    let first = pages(&mut history).len();
    history.push(10, MailboxId(1), &Event::Use(1));
    assert!(first > 3 && pages(&mut history).len() == 1);
    let octets = history.octets();
    assert_eq!(history.excess(octets), None);
    let over = history.excess(octets - 1).unwrap();
    assert!((3..=4).contains(&over.events), "{}", over.events);
    let mut gone = Vec::new();
    history.forget(over.events, over.blobs.into_iter(), &mut gone).unwrap();
    assert!(history.octets() <= octets * 3 / 4 && !gone.is_empty());
    history.verify().unwrap();
}

#[test]
fn reads_any_octets_without_panicking() {
    let mut history = full();
    let page = pages(&mut history).remove(0).1;
    arbtest::arbtest(|u| {
        let mut page = page.clone();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(page.len())?;
            page[at] = u.arbitrary()?;
        }
        page.truncate(u.int_in_range(0..=page.len())?);
        let mut read = History::load(1, &[ChunkRef { number: 0, octets: 1 }]).unwrap();
        if let Ok(events) = decode_page(&page) {
            read.load_chunk(0, events);
            drop(read.verify());
            read.references(&mut |_| ());
            read.clamp(3);
        }
        Ok(())
    });
}
