//! That what sleeps wakes as it was is held by the laws of the accounts (accounts_tests.rs).

use super::super::account::INBOX;
use super::super::page::MailboxHead;
use super::super::record::catalog::Catalog;
use super::super::record::history::Moment;
use super::super::record::{Change, Create, Deliver, put_expunge};
use super::super::row::{Entry, Flags, Marks};
use super::*;
use crate::model::id::{AccountId, BlobId, UidValidity};
use crate::store::Group;
use crate::store::record::Record;
use xxhash_rust::xxh3::Xxh3;

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

/// All pages of an account, the head first.
fn pages(account: &mut Account) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    account.taint();
    let mut pages = Vec::new();
    account.save(&mut |minor, octets| pages.extend(octets.map(|octets| (minor, octets))));
    pages.sort();
    let (_, head) = pages.remove(0);
    (head, pages)
}

fn expunge(account: &mut Account, uids: impl Iterator<Item = u32>, kept: bool) {
    let folder = account.folder(INBOX).unwrap();
    let there: Vec<(Uid, BlobId)> =
        uids.map(|uid| (Uid(uid), folder.blob(Uid(uid)).unwrap())).collect();
    let modseq = ModSeq(account.modseq.0 + 1);
    let mut group = Group::new();
    put_expunge(&mut group, AccountId(1), INBOX, modseq, &there, kept);
    for owned in &group.records {
        let record = Record {
            kind: owned.kind,
            version: owned.version,
            flags: owned.flags,
            account: owned.account,
            body: &owned.body,
        };
        account.apply(&Change::read(&record).unwrap()).unwrap();
    }
}

fn digest(account: &Account) -> u128 {
    let mut digest = Xxh3::new();
    account.digest(&mut digest);
    digest.digest128()
}

#[test]
fn any_pages_are_an_account_or_are_refused() {
    // In one page and in several, with what was removed and with what is kept of it.
    let all = [(40, None), (1_000, Some(false)), (40, Some(true)), (1_000, Some(true))];
    let all = all.map(|(messages, kept)| {
        let mut account = account(messages);
        if let Some(kept) = kept {
            account.apply_moment(Moment { when: 1_900_000_000, keeps: kept });
            expunge(&mut account, (1..messages).step_by(7), kept);
        }
        let (head, parts) = pages(&mut account);
        let image = Image::load(Lsn(1), &head, &parts).unwrap();
        assert_eq!(digest(&image.wake().unwrap()), digest(&account));
        (head, parts)
    });
    arbtest::arbtest(|u| {
        let (mut head, mut parts) = u.choose(&all)?.clone();
        for _ in 0..u.int_in_range(0..=4)? {
            let part = u.int_in_range(0..=parts.len())?;
            let page = parts.get_mut(part).map_or(&mut head, |(_, octets)| octets);
            let at = u.choose_index(page.len())?;
            let any = u.arbitrary()?;
            page[at] = *u.choose(&[0, 1, 0x7f, 0x80, 0xff, any])?;
        }
        if !parts.is_empty() && u.ratio(1, 8)? {
            parts.remove(u.choose_index(parts.len())?);
        }
        if let Ok(image) = Image::load(Lsn(1), &head, &parts) {
            let account = image.wake().unwrap();
            assert_eq!(image.facts(), account.facts());
            drop(account.verify());
            let again = Image::pack(&account);
            again.wake().unwrap();
        }
        Ok(())
    });
}

/// Octets and counters of a head are sums that somebody adds to.
#[test]
fn numbers_that_no_account_can_have_are_refused() {
    let load = |change: fn(&mut AccountHead)| {
        let mut large = account(1_000);
        let (head, parts) = pages(&mut large);
        let (mut head, _) = decode_head(&head).unwrap();
        change(&mut head);
        Image::load(Lsn(1), &encode_head(&head, None), &parts)
    };
    load(|_| ()).unwrap();
    load(|head| head.modseq = u64::MAX).unwrap_err();
    load(|head| head.mailboxes[0].chunks[3].number = u32::MAX).unwrap_err();
    load(|head| {
        head.mailboxes[0].octets = u64::MAX;
        let one = &head.mailboxes[0];
        let other = MailboxHead {
            id: 9,
            octets: 1,
            count: 0,
            name: "other".into(),
            chunks: Vec::new(),
            ..*one
        };
        head.mailboxes.push(other);
    })
    .unwrap_err();
}

#[test]
fn wakes_after_a_removal_of_more_runs_than_are_remembered() {
    let mut account = account(280_000);
    expunge(&mut account, (1..=280_000).step_by(2), false);
    account.save(&mut |_, _| {});
    let woken = Image::pack(&account).wake().unwrap();
    woken.verify().unwrap();
    assert_eq!(woken.usage(), account.usage());
    let (head, parts) = pages(&mut account);
    Image::load(Lsn(1), &head, &parts).unwrap();
}

#[test]
fn names_the_blobs_that_the_account_awake_names() {
    let mut account = account(20_000);
    account.apply_moment(Moment { when: 1_700_000_000, keeps: true });
    expunge(&mut account, (1..20_000).step_by(3), true);
    account.save(&mut |_, _| {});
    for account in [account, self::account(20)] {
        let mut awake = Vec::new();
        account.references(&mut |blob| awake.push(blob));
        let image = Image::pack(&account);
        let (mut at_rest, mut from, mut steps) = (Vec::new(), Some(0), 0);
        while let Some(at) = from {
            from = image.references(at, &mut |blob| at_rest.push(blob)).unwrap();
            steps += 1;
        }
        assert!(at_rest == awake, "{} of {}", at_rest.len(), awake.len());
        assert_eq!(steps > 1, image.pages().unwrap().len() > SHELVE_STEP_PAGES);
    }
}

#[test]
fn an_account_without_mailboxes_may_be_large() {
    let mut account = Account::default();
    for number in 0..400 {
        let name = format!("{number:032}");
        account.apply_catalog(&Catalog::Subscribe { on: true, name: &name }).unwrap();
    }
    assert!(!account.is_small());
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
