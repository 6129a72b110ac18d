//! Accounts out of the pages of a checkpoint, which come in any order.
//!
//! They rest as they come: nobody asked for them yet. One with pages of an older release is awake, since
//! these are larger than what is packed now.

use super::super::account::{Account, Layout};
use super::super::image::Image;
use super::super::page::{HEAD_MINOR, decode_head, decode_part, is_packed, is_whole};
use super::{Accounts, Planted};
use crate::model::id::{AccountId, Lsn};
use crate::store::Damaged;

/// Pages of one account that are not put together yet.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The head is written with every save, so its position is that of the account.
    head: Option<(Lsn, Vec<u8>)>,
    parts: Vec<(u64, Vec<u8>)>,
    /// The position of the newest of them.
    at: Lsn,
}

impl Early {
    /// All of them, and where the newest stands.
    pub(super) fn into_pages(self) -> (Lsn, Vec<(u64, Vec<u8>)>) {
        let head = self.head.map(|(_, octets)| (HEAD_MINOR, octets));
        (self.at, head.into_iter().chain(self.parts).collect())
    }
}

/// An account with pages that releases before this one wrote, or some of them.
fn load_old(loaded: Lsn, head: &[u8], parts: &[(u64, Vec<u8>)]) -> Result<Account, Damaged> {
    let (head, _) = decode_head(head)?;
    let mut account = Account::load(head)?;
    account.loaded = loaded;
    account.layout = Layout::Spread;
    for (minor, octets) in parts {
        let (mailbox, part) = decode_part(*minor, octets)?;
        account.load_part(mailbox, part);
    }
    if !account.is_complete() {
        return Err(Damaged("a chunk is missing".into()));
    }
    Ok(account)
}

impl Accounts {
    /// Takes a page; the account is there once all have come ([`Accounts::put_together`]).
    pub(super) fn take_page(
        &mut self,
        id: AccountId,
        minor: u64,
        at: Lsn,
        octets: &[u8],
    ) -> Result<(), Damaged> {
        if minor == HEAD_MINOR && is_whole(octets) {
            // What came before it is of the past.
            self.early.remove(&id);
            let image = Image::load(at, octets, &[]);
            return self.lay(id, image.map_err(|why| of_account(id, why))?);
        }
        // The same of what comes behind it.
        if minor != HEAD_MINOR && self.places.look(id).is_some_and(|look| at < look.loaded()) {
            return Ok(());
        }
        let early = self.early.entry(id).or_default();
        early.at = early.at.max(at);
        if minor == HEAD_MINOR {
            early.head = Some((at, octets.to_vec()));
        } else {
            early.parts.push((minor, octets.to_vec()));
        }
        Ok(())
    }

    fn lay(&mut self, id: AccountId, image: Image) -> Result<(), Damaged> {
        if self.planted == Planted::ForgetVanished {
            let mut account = image.wake()?;
            account.forget_vanished();
            self.places.insert(id, account);
        } else {
            self.places.insert_resting(id, image);
        }
        Ok(())
    }

    /// Makes an account of its pages, if any came. They are as before where that cannot be done.
    pub(super) fn put_together(&mut self, id: AccountId) -> Result<(), Damaged> {
        let Some(mut early) = self.early.remove(&id) else { return Ok(()) };
        let made = self.make_of(id, &mut early);
        if made.is_err() {
            self.early.insert(id, early);
        }
        made.map_err(|why| of_account(id, why))
    }

    fn make_of(&mut self, id: AccountId, early: &mut Early) -> Result<(), Damaged> {
        let Early { head, parts, .. } = early;
        let Some((loaded, head)) = head else {
            let is_there = self.places.has(id);
            return if is_there { Ok(()) } else { Err(Damaged("rows without a head".into())) };
        };
        parts.sort_unstable_by_key(|(minor, _)| *minor);
        let packed = parts.iter().all(|(minor, octets)| is_packed(*minor, octets));
        if packed && is_packed(HEAD_MINOR, head) {
            return self.lay(id, Image::load(*loaded, head, parts)?);
        }
        let mut account = load_old(*loaded, head, parts)?;
        if self.planted == Planted::ForgetVanished {
            account.forget_vanished();
        }
        self.places.insert(id, account);
        Ok(())
    }

    /// Accounts whose pages are not put together yet, by number.
    pub(super) fn early(&self) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = self.early.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All pages have come.
    pub(super) fn put_together_all(&mut self) -> Result<(), Damaged> {
        self.early().into_iter().try_for_each(|id| self.put_together(id))
    }

    /// Has the account awake, whatever its pages are.
    pub(super) fn settle(&mut self, id: AccountId) -> Result<(), Damaged> {
        self.put_together(id)?;
        self.places.try_get_mut(id).map(drop)
    }
}

fn of_account(id: AccountId, Damaged(why): Damaged) -> Damaged {
    Damaged(format!("account {id}: {why}"))
}
