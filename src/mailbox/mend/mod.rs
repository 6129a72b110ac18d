//! Accounts out of a damaged log.
//!
//! An account whose pages are all whole stands where the checkpoint has it, and records behind it
//! are applied one by one, as far as each can be. Of one that lost pages all records that are left
//! are applied to another account of the same number, from the first one on, up to where the
//! checkpoint stands; then the pages that are whole, older versions of the lost ones, and that other
//! account are put together ([`merge`]).

mod merge;

use super::accounts::Accounts;
use super::page::{HEAD_MINOR, decode_head, decode_part};
use crate::bytes::hash::Sorted;
use crate::model::id::{AccountId, BlobId, Lsn};
use crate::store::record::Record;
use crate::store::salvage::{Count, Known, LostEntry, Mender};
use crate::store::{Damaged, Machine};
use merge::Pages;
use std::cell::RefCell;
use std::rc::Rc;

/// See the module.
pub struct MendAccounts {
    accounts: Rc<RefCell<Accounts>>,
    mending: Sorted<u32, Mending>,
    /// Accounts that lost pages, as their records make them.
    shadow: Accounts,
    notes: Vec<String>,
    /// The account whose head came last, and the position of that.
    head: Option<(u32, Lsn)>,
}

/// Whether a page means something by itself.
fn check_page(minor: u64, octets: &[u8]) -> Result<(), Damaged> {
    if minor == HEAD_MINOR {
        return decode_head(octets).map(drop);
    }
    decode_part(minor, octets).map(drop)
}

/// An account that lost pages.
#[derive(Default)]
struct Mending {
    /// The position of the checkpoint's pages.
    at: Lsn,
    lost: Vec<u64>,
    whole: Pages,
    older: Pages,
}

impl MendAccounts {
    /// Fills `accounts`, which are none yet.
    pub fn new(accounts: Rc<RefCell<Accounts>>) -> MendAccounts {
        MendAccounts {
            accounts,
            mending: Sorted::new(),
            shadow: Accounts::new(),
            notes: Vec::new(),
            head: None,
        }
    }

    /// The head of an account is saved with every page of it: one that is older than another page is
    /// not the last one, which is lost.
    fn take_back_older(&mut self, major: u32, at: Lsn) {
        let is_older = self.head.is_some_and(|(of, head)| of == major && head < at);
        if !is_older || self.mending.contains_key(&major) {
            return;
        }
        let (_, pages) = self.accounts.borrow_mut().take_pages(AccountId(major));
        let (older, whole) = pages.into_iter().partition(|(minor, _)| *minor == HEAD_MINOR);
        self.mending.insert(major, Mending { at, lost: vec![HEAD_MINOR], whole, older });
    }

    /// Of what came of an account no account can be made: it goes with what else is left of it.
    fn take_apart(&mut self, major: u32) -> &mut Mending {
        let (at, pages) = self.accounts.borrow_mut().take_pages(AccountId(major));
        let mending = self.mending.entry(major).or_default();
        mending.at = mending.at.max(at);
        mending.whole.extend(pages);
        mending
    }

    fn put_together(&mut self, major: u32, known: &Known<'_>) -> Result<(), Damaged> {
        let Some(mending) = self.mending.remove(&major) else { return Ok(()) };
        let Mending { at, mut lost, mut whole, mut older } = mending;
        lost.extend(merge::sort_out(&mut whole, &mut older));
        let (_, shadow) = self.shadow.take_pages(AccountId(major));
        let is_dead = |id: BlobId| known.was_dead(id);
        let notes = &mut self.notes;
        let mut note = |what: String| notes.push(format!("account {major}: {what}"));
        let parts = [whole, older, shadow];
        let merged = merge::merge(&lost, &parts, &is_dead, &mut note);
        let mut accounts = self.accounts.borrow_mut();
        for (minor, octets) in merged {
            accounts.load(major, minor, at, &octets)?;
        }
        Ok(())
    }
}

impl Mender for MendAccounts {
    fn lost(&mut self, major: u32, minor: u64, at: Lsn) {
        let mending = self.mending.entry(major).or_default();
        mending.at = mending.at.max(at);
        mending.lost.push(minor);
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        if minor == HEAD_MINOR {
            self.head = Some((major, at));
        } else {
            self.take_back_older(major, at);
        }
        if let Some(mending) = self.mending.get_mut(&major) {
            mending.at = mending.at.max(at);
            mending.whole.push((minor, octets.to_vec()));
            return check_page(minor, octets);
        }
        let checked = check_page(minor, octets);
        let taken =
            checked.and_then(|()| self.accounts.borrow_mut().load(major, minor, at, octets));
        if taken.is_err() {
            let mending = self.take_apart(major);
            mending.at = mending.at.max(at);
            mending.whole.push((minor, octets.to_vec()));
        }
        taken
    }

    fn loaded(&mut self, note: &mut dyn FnMut(String)) -> Vec<(u32, u64)> {
        let mut failed = Vec::new();
        self.accounts.borrow_mut().put_together_sound(&mut |AccountId(major), Damaged(why)| {
            note(why);
            failed.push(major);
        });
        let mut lost = Vec::new();
        for major in failed {
            let Mending { whole, older, .. } = self.take_apart(major);
            let pages = merge::sort_out(whole, older);
            // Each by itself may mean something: then what the head says of all is lost.
            let head = pages.is_empty().then_some(HEAD_MINOR);
            lost.extend(pages.into_iter().chain(head).map(|minor| (major, minor)));
        }
        lost
    }

    fn load_older(&mut self, major: u32, minor: u64, _: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.mending.entry(major).or_default().older.push((minor, octets.to_vec()));
        Ok(())
    }

    fn apply(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        known: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged> {
        match self.mending.get(&record.account) {
            // What these could not do is no news: most of them are of long ago.
            Some(mending) if at <= mending.at => {
                drop(self.shadow.mend(at, record, known, count));
                return Ok(());
            }
            Some(_) => self.put_together(record.account, known)?,
            None => {}
        }
        self.accounts.borrow_mut().mend(at, record, known, count)
    }

    fn reached(&mut self, _: Lsn, _: &mut dyn FnMut(String)) -> Result<(), Damaged> {
        Ok(())
    }

    fn let_go(
        &mut self,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
        note: &mut dyn FnMut(String),
    ) {
        let majors: Vec<u32> = self.mending.keys().copied().collect();
        for major in majors {
            if let Err(Damaged(why)) = self.put_together(major, known) {
                note(format!("account {major}: {why}"));
            }
        }
        std::mem::take(&mut self.notes).into_iter().for_each(&mut *note);
        self.accounts.borrow_mut().wake_all(note);
        self.accounts.borrow_mut().drop_lost(known, lost);
    }

    fn pass_over_numbers(&mut self) {
        self.accounts.borrow_mut().pass_over_numbers();
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.accounts.borrow().references(each);
    }
}
