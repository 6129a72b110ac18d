//! Whom a program of this server has answered for which account, and until when he is not answered again
//! (RFC 3834 §2, RFC 5230 §4.2).
//!
//! ```text
//! 80 ANSWERED v1   at u32 | until u32 | sender u64        seconds since 1970; the account in the head
//!                                                         the sender and the answer, see [`key`]
//! page := version u8 | zeros{7} | (account u32 | until u32 | sender u64){…}     major: account mod 256
//! ```
//! The record is in the group of the answer: it goes out once, or not at all.
//!
//! Bounded: what is over by the time of a record is forgotten with it, in its page; what counts until then is
//! what is not over. An account has at most [`ANSWERED_SENDERS_MAX`], and a page [`ANSWERED_PAGE_MAX`]. Who finds
//! no place is not answered.

use crate::bytes::codec::{Put, Reader, Short};
use crate::bytes::hash::Sorted;
use crate::model::id::{AccountId, BlobId, Lsn};
use crate::model::limits::{ANSWERED_PAGE_MAX, ANSWERED_SENDERS_MAX};
use crate::store::record::{FLAG_SKIPPABLE, Record, kind};
use crate::store::{Blobs, Damaged, Group, Machine};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::Xxh3;

const ANSWERED: u8 = kind::ANSWERED_FIRST;
const VERSION: u8 = 1;
const MAJORS: u32 = 256;
const PAGE_HEAD_OCTETS: usize = 8;

/// Of one major: until when, by account and sender.
type Page = Sorted<(AccountId, u64), u32>;

/// See the header.
#[derive(Debug, Default)]
pub struct Answered {
    pages: Sorted<u32, Page>,
    dirty: BTreeSet<u32>,
    loaded: Sorted<u32, Lsn>,
}

fn major_of(account: AccountId) -> u32 {
    account.0 % MAJORS
}

/// What is remembered of an answer: whom it is for, an address in lower case, and what it says. Who had
/// another one may have this one too (RFC 5230 §4.2).
pub fn key(sender: &str, subject: &str, text: &str) -> u64 {
    let mut key = Xxh3::new();
    for part in [sender, "\0", subject, "\0", text] {
        key.update(part.as_bytes());
    }
    key.digest()
}

/// Notes in `group` that what has this key is answered `at`, and not again before `until`.
pub fn put_answered(group: &mut Group, account: AccountId, key: u64, at: u32, until: u32) {
    let mut body = Vec::with_capacity(16);
    body.put_u32(at);
    body.put_u32(until);
    body.put_u64(key);
    group.record(ANSWERED, VERSION, account.0, body);
}

impl Answered {
    /// Whether what has this key may be answered: it was not lately, and there is a place to note it.
    pub fn may_answer(&self, account: AccountId, key: u64, now: u32) -> bool {
        let Some(page) = self.pages.get(&major_of(account)) else { return true };
        if page.get(&(account, key)).is_some_and(|&until| now < until) {
            return false;
        }
        let mine = page.range((account, 0)..=(account, u64::MAX));
        let left = mine.filter(|&(_, &until)| now < until).count();
        // The note of this answer forgets those that are over.
        left < ANSWERED_SENDERS_MAX
            && (page.len() < ANSWERED_PAGE_MAX
                || page.values().filter(|&&until| now < until).count() < ANSWERED_PAGE_MAX)
    }

    /// A digest of the whole state: the same after recovery as before the crash.
    pub fn digest(&self) -> u128 {
        let mut digest = Xxh3::new();
        for major in 0..MAJORS {
            digest.update(&self.page(major).unwrap_or_default());
        }
        digest.digest128()
    }

    fn page(&self, major: u32) -> Option<Vec<u8>> {
        let page = self.pages.get(&major).filter(|page| !page.is_empty())?;
        let mut octets = vec![0; PAGE_HEAD_OCTETS];
        octets[0] = VERSION;
        for (&(account, sender), &until) in page {
            octets.put_u32(account.0);
            octets.put_u32(until);
            octets.put_u64(sender);
        }
        Some(octets)
    }

    fn note(&mut self, account: AccountId, at: u32, until: u32, sender: u64) {
        let page = self.pages.entry(major_of(account)).or_default();
        page.retain(|_, until| at < *until);
        page.insert((account, sender), until);
        self.dirty.insert(major_of(account));
    }
}

fn read(body: &[u8]) -> Result<(u32, u32, u64), Short> {
    let mut reader = Reader::new(body);
    let read = (reader.u32()?, reader.u32()?, reader.u64()?);
    if reader.rest().is_empty() { Ok(read) } else { Err(Short) }
}

impl Machine for Answered {
    fn apply(&mut self, at: Lsn, record: Record<'_>, _: &mut Blobs<'_>) -> Result<(), Damaged> {
        let Record { kind, version, flags, account, body } = record;
        if (kind, version) != (ANSWERED, VERSION) {
            let is_skipped = flags & FLAG_SKIPPABLE != 0;
            let unknown = || Damaged(format!("record of kind {kind} version {version}"));
            return if is_skipped { Ok(()) } else { Err(unknown()) };
        }
        let damaged = |Short| Damaged("a record of an answer is not as it should be".into());
        let (moment, until, sender) = read(body).map_err(damaged)?;
        let account = AccountId(account);
        if self.loaded.get(&major_of(account)).is_none_or(|&loaded| at > loaded) {
            self.note(account, moment, until, sender);
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.iter().copied().collect()
    }

    fn save(&mut self, major: u32, _: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty.remove(&major);
        page(0, self.page(major));
    }

    fn load(&mut self, major: u32, _: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        let damaged = |_| Damaged(format!("page {major} of answers is not as it should be"));
        let mut reader = Reader::new(octets);
        let head = reader.take(PAGE_HEAD_OCTETS).map_err(damaged)?;
        if head[0] != VERSION || major >= MAJORS {
            return Err(damaged(Short));
        }
        self.loaded.insert(major, at);
        let page = self.pages.entry(major).or_default();
        while !reader.rest().is_empty() {
            let account = AccountId(reader.u32().map_err(damaged)?);
            let until = reader.u32().map_err(damaged)?;
            page.insert((account, reader.u64().map_err(damaged)?), until);
        }
        Ok(())
    }

    /// Answers refer to no blob.
    fn references(&self, _: &mut dyn FnMut(BlobId)) {}

    fn taint(&mut self) {
        self.dirty.extend(0..MAJORS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::OwnedRecord;
    use xxhash_rust::xxh3::xxh3_64;

    fn apply(answered: &mut Answered, at: u64, group: &Group) {
        let OwnedRecord { kind, version, flags, account, ref body } = group.records[0];
        let record = Record { kind, version, flags, account, body };
        let mut change = |_, _, _| panic!("there are no blobs");
        answered.apply(Lsn(at), record, &mut Blobs::observed(Lsn(at), &mut change)).unwrap();
    }

    fn note(answered: &mut Answered, lsn: u64, account: u32, sender: &str, at: u32) {
        let mut group = Group::new();
        put_answered(&mut group, AccountId(account), key(sender, "", "away"), at, at + 100);
        apply(answered, lsn, &group);
    }

    #[test]
    fn answers_nobody_twice_in_a_period_and_remembers_it() {
        let mut answered = Answered::default();
        note(&mut answered, 1, 7, "ann@a.example", 10);
        note(&mut answered, 2, 263, "bob@a.example", 20);
        let asks = |answered: &Answered, account: u32, sender: &str, now: u32| {
            answered.may_answer(AccountId(account), key(sender, "", "away"), now)
        };
        assert!(!asks(&answered, 7, "ann@a.example", 109));
        // RFC 5230 §4.2: another answer is not the same again.
        for other in [key("ann@a.example", "", "back"), key("ann@a.example", "x", "away")] {
            assert!(answered.may_answer(AccountId(7), other, 50));
        }
        assert!(asks(&answered, 7, "ann@a.example", 110), "the period is over");
        assert!(asks(&answered, 7, "bob@a.example", 50) && asks(&answered, 8, "ann@a.example", 50));
        assert!(!asks(&answered, 263, "bob@a.example", 50));
        // A checkpoint, and the records behind it once more.
        let mut again = Answered::default();
        for major in answered.dirty() {
            answered.save(major, Lsn(2), &mut |minor, page| {
                again.load(major, minor, Lsn(2), &page.unwrap()).unwrap();
            });
        }
        assert_eq!(again.digest(), answered.digest());
        note(&mut again, 2, 7, "not new", 10);
        assert_eq!(again.digest(), answered.digest());
        // What is over goes with the next one of its page.
        note(&mut again, 3, 7, "carl@a.example", 110);
        assert_eq!(again.pages[&7].len(), 2);
    }

    #[test]
    fn has_so_many_places_for_each() {
        let mut answered = Answered::default();
        for number in 0..ANSWERED_SENDERS_MAX {
            note(&mut answered, number as u64 + 1, 1, &format!("s{number}@a.example"), 5);
        }
        let more = key("one@more.example", "", "away");
        assert!(!answered.may_answer(AccountId(1), more, 50));
        assert!(answered.may_answer(AccountId(2), more, 50));
        assert!(answered.may_answer(AccountId(1), more, 105), "places are free again");
    }

    /// Accounts that nobody writes to any more take no places from others of their page.
    #[test]
    fn a_page_is_not_full_of_what_is_over() {
        let mut answered = Answered::default();
        for number in 0..ANSWERED_PAGE_MAX {
            let account = u32::try_from(number % 8).unwrap() * MAJORS + 1;
            note(&mut answered, number as u64 + 1, account, &format!("s{number}@a.example"), 5);
        }
        let (other, more) = (AccountId(8 * MAJORS + 1), key("one@more.example", "", "away"));
        assert!(!answered.may_answer(other, more, 50));
        assert!(answered.may_answer(AccountId(2), more, 50));
        assert!(answered.may_answer(other, more, 105), "places are free again");
        note(&mut answered, ANSWERED_PAGE_MAX as u64 + 1, other.0, "one@more.example", 105);
        assert_eq!(answered.pages[&1].len(), 1);
    }

    #[test]
    fn writes_these_octets_for_ever() {
        let mut group = Group::new();
        put_answered(&mut group, AccountId(7), key("ann@a.example", "Away", "text"), 1, 2);
        let OwnedRecord { kind, version, account, body, .. } = &group.records[0];
        assert_eq!((*kind, *version, *account), (80, 1, 7));
        assert_eq!(body[..8], [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(body[8..], xxh3_64(b"ann@a.example\0Away\0text").to_le_bytes());
    }
}
