//! Passwords that are kept in a weaker way than the operator wants by now are kept anew when their
//! users show them (`auth.rehash`).
//!
//! ```text
//!   any shard: a right password ──Call::Rehash──> shard 0: waits here ──one at a time──> hashed on the
//!   pool ──> log 0, if the user's password is still the one that was shown ──> the directory's snapshot
//! ```
//!
//! Promises:
//!   - no login waits for it, and whatever comes in between, the next login begins it anew
//!   - a user has one place at most, and there are [`REHASHES_WAITING_MAX`]; who finds none is put off to
//!     his next login, and counted
//!   - a password that is changed meanwhile stays changed
//!
//! The password itself waits here, in the memory of the process and nowhere else.

use super::shard::{Call, Shard};
use crate::directory::User;
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::id::{AccountId, ShardId};
use crate::model::limits::REHASHES_WAITING_MAX;
use crate::proto::sasl::{Secret, Terms};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// One user whose password is to be kept anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehash {
    pub account: AccountId,
    /// His address.
    pub user: Box<str>,
    /// What was kept of the password when it was found right.
    pub kept: Box<str>,
    /// What its keys are bound to ([`User::bound_terms`]).
    pub bound: Vec<Terms>,
    /// Prepared by SASLprep.
    pub password: Secret,
}

/// Those that wait, on shard 0.
#[derive(Debug, Default)]
pub struct Rehashes {
    waiting: RefCell<VecDeque<Rehash>>,
    under_way: Cell<Option<AccountId>>,
    bell: Bell,
}

impl Rehashes {
    /// Gives a place to one who has none; false where there is none to be had.
    pub(super) fn add(&self, one: Rehash) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let is_known = self.under_way.get() == Some(one.account)
            || waiting.iter().any(|other| other.account == one.account);
        if is_known {
            return true;
        }
        if waiting.len() >= REHASHES_WAITING_MAX {
            return false;
        }
        waiting.push_back(one);
        drop(waiting);
        self.bell.ring();
        true
    }

    /// The next one, once there is one; the one before is done with. For one caller.
    pub async fn next(&self) -> Rehash {
        self.under_way.set(None);
        loop {
            let heard = self.bell.rung();
            let next = self.waiting.borrow_mut().pop_front();
            if let Some(next) = next {
                self.under_way.set(Some(next.account));
                return next;
            }
            self.bell.past(heard).await;
        }
    }
}

impl<E: Env> Shard<E> {
    /// The password of this user was right: has it kept anew if that is wanted and would be better.
    pub(super) fn rehash(&self, user: &User, password: &Secret) {
        let settings = self.settings();
        let Some(recipe) = &settings.rehash else { return };
        let bound = user.bound_terms();
        if !recipe.is_better_than(&user.hash, &bound) {
            return;
        }
        let one = Rehash {
            account: user.account,
            user: user.name.as_str().into(),
            kept: user.hash.clone(),
            bound,
            password: password.clone(),
        };
        if self.mesh.send(ShardId(0), Call::Rehash(Box::new(one))).is_err() {
            self.figures.rehashes_put_off.one();
        }
    }

    /// Another shard, or this one, has a password to be kept anew; on shard 0.
    pub(super) fn take_rehash(&self, one: Rehash) {
        if !self.rehashes.add(one) {
            self.figures.rehashes_put_off.one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    fn one(account: u32) -> Rehash {
        let user = format!("u{account}@a.example").into();
        Rehash {
            account: AccountId(account),
            user,
            kept: "$".into(),
            bound: Vec::new(),
            password: Secret::new("p"),
        }
    }

    fn next(all: &Rehashes) -> Option<u32> {
        block_on(poll_once(all.next())).map(|one| one.account.0)
    }

    #[test]
    fn a_user_has_one_place_until_it_is_done() {
        let all = Rehashes::default();
        assert!([1, 2, 1, 1, 2].into_iter().all(|account| all.add(one(account))));
        assert_eq!(next(&all), Some(1));
        // Under way, then done.
        assert!(all.add(one(1)));
        assert_eq!(next(&all), Some(2));
        assert!(all.add(one(1)));
        assert_eq!((next(&all), next(&all)), (Some(1), None));
    }

    #[test]
    fn those_without_a_place_are_put_off() {
        let all = Rehashes::default();
        let count = u32::try_from(REHASHES_WAITING_MAX).unwrap();
        assert!((0..count).all(|account| all.add(one(account))));
        assert!(!all.add(one(count)));
        assert!(all.add(one(0)), "who has a place keeps it");
        assert_eq!(next(&all), Some(0));
        assert!(all.add(one(count)));
    }

    #[test]
    fn who_waits_for_the_next_hears_of_it() {
        let all = Rehashes::default();
        let mut waiting = std::pin::pin!(all.next());
        assert_eq!(block_on(poll_once(&mut waiting)), None);
        assert!(all.add(one(7)));
        assert_eq!(block_on(waiting).account, AccountId(7));
    }

    #[test]
    fn never_shows_the_password() {
        assert!(
            !format!("{:?}", Rehash { password: Secret::new("hunter2"), ..one(1) })
                .contains("hunter")
        );
    }
}
