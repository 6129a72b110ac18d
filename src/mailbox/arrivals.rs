//! Deliveries that somebody wants to hear of: to users whose mail is answered while they are away.
//!
//! A delivery is told of when its group was answered, by the shard that owns the account, whatever way it
//! came. Nobody waits for who listens: what finds no place is not told of, and neither is what was on its way
//! when the server went down. Whoever hears of it looks whether it is there: it may have come to nothing.

use crate::bytes::hash::Set;
use crate::env::bell::Bell;
use crate::model::id::{AccountId, BlobId};
use crate::model::limits::ARRIVALS_MAX;
use std::collections::VecDeque;
use std::rc::Rc;

/// See the header.
#[derive(Debug, Default)]
pub struct Arrivals {
    watched: Set<AccountId>,
    waiting: VecDeque<(AccountId, BlobId)>,
    bell: Rc<Bell>,
}

impl Arrivals {
    /// These accounts are meant from now on.
    pub fn watch(&mut self, accounts: Set<AccountId>) {
        self.watched = accounts;
    }

    pub(super) fn watches(&self, account: AccountId) -> bool {
        !self.watched.is_empty() && self.watched.contains(&account)
    }

    pub(super) fn put(&mut self, account: AccountId, blob: BlobId) {
        if self.waiting.len() < ARRIVALS_MAX {
            self.waiting.push_back((account, blob));
            self.bell.ring();
        }
    }

    /// The oldest that was not looked at.
    pub fn take(&mut self) -> Option<(AccountId, BlobId)> {
        self.waiting.pop_front()
    }

    /// Rings when something came.
    pub fn bell(&self) -> Rc<Bell> {
        Rc::clone(&self.bell)
    }
}
