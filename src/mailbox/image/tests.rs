//! That what sleeps wakes as it was is held by the laws of the accounts (accounts_tests.rs).

use super::super::account::INBOX;
use super::super::record::{Create, Deliver};
use super::super::row::{Entry, Flags, Marks};
use super::*;
use crate::model::id::{BlobId, UidValidity};

/// An account with so many messages in INBOX.
fn account(messages: u32) -> Account {
    let mut account = Account::default();
    let uidvalidity = UidValidity(1_700_000_000);
    let create = Create { mailbox: INBOX, uidvalidity, modseq: ModSeq(1), name: "INBOX" };
    account.apply_create(&create).unwrap();
    for uid in 1..=messages {
        let entry = Entry {
            uid: Uid(uid),
            modseq: ModSeq(u64::from(uid) + 1),
            internal_date: 1_700_000_000 + uid * 977,
            save_date: 1_700_000_001 + uid * 977,
            size: 4_000 + uid * 7_919 % 30_000,
            thread: 0,
            blob: BlobId(90_000_000 + u64::from(uid) * 99_991),
            keywords: 0,
            flags: if uid.is_multiple_of(3) { Flags::default() } else { Flags::SEEN },
            marks: Marks::EIGHT_BIT,
        };
        account.apply_deliver(&Deliver { mailbox: INBOX, entry }).unwrap();
    }
    account
}

#[test]
fn any_octets_are_an_account_or_are_refused() {
    let small = Image::pack(&account(40));
    let mut large = account(1_000);
    large.save(&mut |_, _| {});
    let large = Image::pack(&large);
    assert_eq!((small.pages().unwrap().len(), large.pages().unwrap().len()), (1, 5));
    arbtest::arbtest(|u| {
        let mut octets = u.choose(&[&small, &large])?.0.to_vec();
        for _ in 0..u.int_in_range(0..=4)? {
            let at = u.choose_index(octets.len())?;
            octets[at] = u.arbitrary()?;
        }
        octets.truncate(u.int_in_range(0..=octets.len())?);
        let image = Image(octets.into_boxed_slice());
        let _ = (image.facts(), image.loaded());
        drop(image.pages());
        drop(image.wake().map(|account| account.verify()));
        Ok(())
    });
}

#[test]
fn a_mailbox_of_ten_messages_takes_little_more_than_its_messages() {
    let (empty, ten) = (Image::pack(&account(0)), Image::pack(&account(10)));
    assert!(empty.octets() <= 40, "{} octets", empty.octets());
    let each = (ten.octets() - empty.octets()).div_ceil(10);
    assert!(each <= 13, "{each} octets for each of ten messages");
    let thousand = Image::pack(&account(1_000)).octets() / 1_000;
    assert!(thousand <= 10, "{thousand} octets for each of a thousand");
}
