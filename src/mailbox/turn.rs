//! Turns: of the changes that depend on what an account holds, one at a time is on its way.
//!
//! Who has the turn sees an account that nobody else changes, but for deliveries, which only add;
//! it lasts until the change is durable and applied.

use crate::bytes::hash::Map;
use crate::model::id::AccountId;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The turns that are taken, and who waits for each.
type Taken = Map<AccountId, Vec<Waker>>;

/// The turns of all accounts of a shard. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Rc<RefCell<Taken>>);

/// Somebody's turn, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    account: AccountId,
}

impl Turns {
    /// Waits for the turn of an account.
    pub(super) async fn take(&self, account: AccountId) -> Turn {
        poll_fn(|context| {
            let mut taken = self.0.borrow_mut();
            let Some(waiting) = taken.get_mut(&account) else {
                taken.insert(account, Vec::new());
                return Poll::Ready(Turn { turns: self.clone(), account });
            };
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waiting = self.turns.0.borrow_mut().remove(&self.account);
        waiting.unwrap_or_default().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn lets_the_next_one_in_when_a_turn_ends() {
        let turns = Turns::default();
        let first = block_on(turns.take(AccountId(1)));
        let mut second = pin!(turns.take(AccountId(1)));
        assert!(block_on(poll_once(second.as_mut())).is_none());
        assert!(block_on(poll_once(pin!(turns.take(AccountId(2))))).is_some());
        drop(first);
        let second = block_on(poll_once(second.as_mut()));
        assert!(second.is_some() && block_on(poll_once(pin!(turns.take(AccountId(1))))).is_none());
        drop(second);
        assert!(turns.0.borrow().is_empty());
    }
}
