//! Where the accounts of a shard are: awake, or at rest as images ([`Image`]).
//!
//! Whoever asks for an account at rest wakes it, also with no more than a borrow. A look from the
//! outside ([`Places::look`]) and [`Places::peek`], for walks through all, wake nobody.
//!
//! An account that was woken to be read keeps its image: it rests again by forgetting that it was
//! awake. Who may change it lets the image go.

use super::super::account::Account;
use super::super::image::{Facts, Image};
use super::super::quota::Usage;
use crate::bytes::codec::to_usize;
use crate::bytes::hash::Map;
use crate::model::id::{AccountId, Lsn};
use crate::store::Damaged;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;

/// One of both is there, or both.
#[derive(Debug, Default)]
struct Place {
    awake: OnceCell<Box<Account>>,
    rest: Option<Image>,
}

/// What those at rest come to. Sums wrap: pages may say of an account what its rows do not (which is
/// for `verify` to find), and what was added is always what is taken away.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    octets: u64,
    messages: u64,
}

impl Sum {
    fn with(self, octets: u64, messages: u64) -> Sum {
        Sum {
            octets: self.octets.wrapping_add(octets),
            messages: self.messages.wrapping_add(messages),
        }
    }

    fn less(self, octets: u64, messages: u64) -> Sum {
        self.with(octets.wrapping_neg(), messages.wrapping_neg())
    }
}

/// See the header.
#[derive(Debug, Default)]
pub(super) struct Places {
    index: Map<AccountId, u32>,
    all: Vec<Place>,
    /// Whose each of these is.
    whose: Vec<AccountId>,
    /// Changed since they were saved, or to be saved anew.
    pub dirty: BTreeSet<AccountId>,
    /// Who is awake, in the order of the hand (clock.rs).
    awake: RefCell<Vec<AccountId>>,
    resting: Cell<Sum>,
    /// Of all images.
    image_octets: usize,
    /// Of those awake, as they were last counted.
    awake_octets: Cell<usize>,
}

/// An account seen from the outside.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look<'a> {
    Awake(&'a Account),
    Resting(&'a Image),
}

impl Look<'_> {
    pub(super) fn usage(self) -> Usage {
        match self {
            Look::Awake(account) => account.usage(),
            Look::Resting(image) => image.facts().usage,
        }
    }

    pub(super) fn closed(self) -> bool {
        match self {
            Look::Awake(account) => account.closed,
            Look::Resting(image) => image.facts().truths.closed(),
        }
    }

    /// Records at or below it were in the checkpoint.
    pub(super) fn loaded(self) -> Lsn {
        match self {
            Look::Awake(account) => account.loaded,
            Look::Resting(image) => image.loaded(),
        }
    }

    pub(super) fn facts(self) -> Facts {
        match self {
            Look::Awake(account) => account.facts(),
            Look::Resting(image) => image.facts(),
        }
    }
}

/// Makes room for one more by an eighth instead of by doubling.
fn reserve_one<T>(vector: &mut Vec<T>, least: usize) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(least));
    }
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn has(&self, id: AccountId) -> bool {
        self.index.contains_key(&id)
    }

    /// All accounts, by number.
    pub(super) fn ids(&self) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = self.index.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All accounts from the outside, in the order in which they came.
    pub(super) fn looks(&self) -> impl Iterator<Item = (AccountId, Look<'_>)> {
        self.looks_from(0, usize::MAX)
    }

    /// So many places from one on.
    pub(super) fn looks_from(
        &self,
        from: usize,
        places: usize,
    ) -> impl Iterator<Item = (AccountId, Look<'_>)> {
        let places = self.whose.iter().zip(&self.all).skip(from).take(places);
        places.filter_map(|(&id, place)| Some((id, place.look()?)))
    }

    /// Behind the last place.
    pub(super) fn end(&self) -> usize {
        self.all.len()
    }

    fn place(&self, at: u32) -> &Place {
        &self.all[to_usize(at.into())]
    }

    /// An account from the outside. Wakes nobody, and is no use of it.
    pub(super) fn look(&self, id: AccountId) -> Option<Look<'_>> {
        self.place(*self.index.get(&id)?).look()
    }

    /// The account, awake.
    pub(super) fn get(&self, id: AccountId) -> Option<&Account> {
        let place = self.place(*self.index.get(&id)?);
        let account = match place.awake.get() {
            Some(account) => account,
            None => self.wake(id, place)?,
        };
        account.touched.set(true);
        Some(account)
    }

    /// The account, to be changed by a record: an image that cannot be unpacked stays as it is.
    pub(super) fn try_get_mut(&mut self, id: AccountId) -> Result<Option<&mut Account>, Damaged> {
        let Some(&at) = self.index.get(&id) else { return Ok(None) };
        let place = self.place(at);
        if let (None, Some(image)) = (place.awake.get(), &place.rest) {
            let account = self.woken(id, image.wake()?, image);
            place.awake.get_or_init(|| Box::new(account));
        }
        Ok(self.stirred(id, to_usize(at.into())))
    }

    /// The account, to be changed.
    pub(super) fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        let at = to_usize((*self.index.get(&id)?).into());
        self.stirred(id, at)
    }

    fn stirred(&mut self, id: AccountId, at: usize) -> Option<&mut Account> {
        if self.all[at].rest.is_some() {
            self.stir(id, at);
        }
        let account = self.all[at].awake.get_mut()?;
        account.touched.set(true);
        Some(account)
    }

    /// What came from a disk was checked as it was laid down ([`Image::load`]), so none fails here.
    #[cold]
    fn wake<'a>(&'a self, id: AccountId, place: &'a Place) -> Option<&'a Account> {
        let image = place.rest.as_ref()?;
        let account = image.wake().unwrap_or_else(|Damaged(why)| {
            unreachable!("account {id} was packed here, or checked: {why}")
        });
        Some(place.awake.get_or_init(|| Box::new(self.woken(id, account, image))))
    }

    fn woken(&self, id: AccountId, mut account: Account, image: &Image) -> Account {
        if self.dirty.contains(&id) {
            account.taint();
        }
        let Usage { octets, messages } = image.facts().usage;
        let sum = self.resting.get();
        self.resting.set(sum.less(octets, messages));
        self.enlist(id, &account);
        account
    }

    fn enlist(&self, id: AccountId, account: &Account) {
        self.awake.borrow_mut().push(id);
        account.weight.set(0);
        self.weigh(account);
    }

    /// Counts the octets of an account that is awake.
    pub(super) fn weigh(&self, account: &Account) {
        let octets = account.heap_octets();
        let before = account.weight.replace(octets);
        self.awake_octets.set(self.awake_octets.get() + octets - before);
    }

    #[cold]
    fn stir(&mut self, id: AccountId, at: usize) {
        let place = &self.all[at];
        if place.awake.get().is_none() {
            self.wake(id, place);
        }
        let image = self.all[at].rest.take();
        self.image_octets -= image.map_or(0, |image| image.octets());
    }

    fn place_of(&mut self, id: AccountId) -> usize {
        let (all, whose) = (&mut self.all, &mut self.whose);
        let at = *self.index.entry(id).or_insert_with(|| {
            reserve_one(all, 16);
            all.push(Place::default());
            reserve_one(whose, 16);
            whose.push(id);
            u32::try_from(all.len() - 1).expect("as many as there are numbers of accounts")
        });
        to_usize(at.into())
    }

    /// The account, to be changed by a record; a new one if there is none.
    pub(super) fn get_or_new(&mut self, id: AccountId) -> Result<&mut Account, Damaged> {
        if !self.has(id) {
            self.insert(id, Account::default());
        }
        Ok(self.try_get_mut(id)?.expect("one was put there"))
    }

    /// Puts an account where none is, or instead of one.
    pub(super) fn insert(&mut self, id: AccountId, account: Account) {
        self.clear(id);
        let at = self.place_of(id);
        self.enlist(id, &account);
        self.all[at].awake = OnceCell::from(Box::new(account));
    }

    /// The same, at rest.
    pub(super) fn insert_resting(&mut self, id: AccountId, image: Image) {
        self.clear(id);
        let at = self.place_of(id);
        self.lay(at, image);
    }

    fn lay(&mut self, at: usize, image: Image) {
        let Usage { octets, messages } = image.facts().usage;
        let sum = self.resting.get();
        self.resting.set(sum.with(octets, messages));
        self.image_octets += image.octets();
        self.all[at].rest = Some(image);
    }

    /// Takes an account away that is at rest.
    pub(super) fn forget(&mut self, id: AccountId) {
        let Some(at) = self.index.remove(&id) else { return };
        let Some(image) = self.all[to_usize(at.into())].rest.take() else { return };
        let Usage { octets, messages } = image.facts().usage;
        let sum = self.resting.get();
        self.resting.set(sum.less(octets, messages));
        self.image_octets -= image.octets();
    }

    /// All are to be saved anew.
    pub(super) fn taint(&mut self) {
        for (&id, &at) in &self.index {
            if let Some(account) = self.all[to_usize(at.into())].awake.get_mut() {
                account.taint();
            }
            self.dirty.insert(id);
        }
    }

    fn clear(&mut self, id: AccountId) {
        match self.look(id) {
            Some(Look::Resting(_)) => self.forget(id),
            Some(Look::Awake(_)) => drop(self.remove(id)),
            None => {}
        }
    }

    /// Takes an account away, awake.
    pub(super) fn remove(&mut self, id: AccountId) -> Option<Account> {
        self.get_mut(id)?;
        let at = to_usize(self.index.remove(&id)?.into());
        let account = self.all[at].awake.take()?;
        self.awake.get_mut().retain(|other| *other != id);
        *self.awake_octets.get_mut() -= account.weight.get();
        Some(*account)
    }

    /// Looks at all of an account without waking it.
    pub(super) fn peek<T>(
        &self,
        id: AccountId,
        look: impl FnOnce(&Account) -> T,
    ) -> Option<Result<T, Damaged>> {
        Some(match self.look(id)? {
            Look::Awake(account) => Ok(look(account)),
            Look::Resting(image) => image.wake().map(|account| look(&account)),
        })
    }

    /// Its pages, the head first, if it is at rest.
    pub(super) fn resting_pages(&self, id: AccountId) -> Option<Vec<(u64, &[u8])>> {
        match self.look(id)? {
            Look::Awake(_) => None,
            Look::Resting(image) => image.pages().ok(),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let Sum { mut octets, mut messages } = self.resting.get();
        for account in self.awake.borrow().iter().filter_map(|&id| self.look(id)) {
            let usage = account.usage();
            octets = octets.wrapping_add(usage.octets);
            messages = messages.wrapping_add(usage.messages);
        }
        Usage { octets, messages }
    }

    pub(super) fn awake_count(&self) -> usize {
        self.awake.borrow().len()
    }

    pub(super) fn awake_octets(&self) -> usize {
        self.awake_octets.get()
    }

    /// Who is awake at a place of the hand.
    pub(super) fn awake_at(&self, hand: usize) -> Option<AccountId> {
        self.awake.borrow().get(hand).copied()
    }

    /// An account that is awake, without touching it; and whether it needs no more than to be
    /// forgotten to be at rest.
    pub(super) fn awake(&self, id: AccountId) -> Option<(&Account, bool)> {
        let place = self.place(*self.index.get(&id)?);
        Some((place.awake.get()?, place.rest.is_some()))
    }

    /// The account under the hand is at rest from here on, as `image` or as the one that it has.
    pub(super) fn rest(&mut self, hand: usize, image: Option<Image>) {
        let id = self.awake.get_mut().swap_remove(hand);
        let at = to_usize(self.index[&id].into());
        let Some(account) = self.all[at].awake.take() else { return };
        *self.awake_octets.get_mut() -= account.weight.get();
        let kept = self.all[at].rest.take();
        self.image_octets -= kept.as_ref().map_or(0, Image::octets);
        if let Some(image) = image.or(kept) {
            self.lay(at, image);
        }
    }

    /// Octets of memory, unused room of vectors and tables included.
    pub(super) fn heap_octets(&self) -> usize {
        // A table is 7/8 full at most, has a power of two of places, and an octet beside each.
        let places = (self.index.capacity() * 8).div_ceil(7).next_power_of_two();
        let index = places * (size_of::<(AccountId, u32)>() + 1);
        // A node of the tree has 11 keys and is half full at least.
        let tree = self.dirty.len() * 16;
        let list = self.awake.borrow();
        let awake = list.iter().filter_map(|&id| Some(self.awake(id)?.0.heap_octets()));
        index
            + self.all.capacity() * size_of::<Place>()
            + self.whose.capacity() * size_of::<AccountId>()
            + list.capacity() * size_of::<AccountId>()
            + tree
            + self.image_octets
            + awake.sum::<usize>()
    }
}

impl Place {
    fn look(&self) -> Option<Look<'_>> {
        match self.awake.get() {
            Some(account) => Some(Look::Awake(account)),
            None => self.rest.as_ref().map(Look::Resting),
        }
    }
}
