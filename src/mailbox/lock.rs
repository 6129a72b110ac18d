//! The maildrop lock: one POP3 session for each account (RFC 1939 §4), in memory of the owner.

use crate::bytes::hash::Set;
use crate::model::id::AccountId;
use std::cell::RefCell;
use std::rc::Rc;

/// Which accounts of this shard are locked. Clones are the same locks.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    held: Rc<RefCell<Set<AccountId>>>,
}

/// Holds the lock of one account until dropped.
#[derive(Debug)]
pub struct Guard {
    held: Rc<RefCell<Set<AccountId>>>,
    account: AccountId,
}

impl Locks {
    pub fn new() -> Locks {
        Locks::default()
    }

    /// The lock, or `None` while another session has it.
    pub fn lock(&self, account: AccountId) -> Option<Guard> {
        let fresh = self.held.borrow_mut().insert(account);
        fresh.then(|| Guard { held: Rc::clone(&self.held), account })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.held.borrow_mut().remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_one_session_in_at_a_time() {
        let locks = Locks::new();
        let first = locks.lock(AccountId(1));
        assert!(first.is_some());
        assert!(locks.lock(AccountId(1)).is_none());
        assert!(locks.clone().lock(AccountId(2)).is_some());
        drop(first);
        assert!(locks.lock(AccountId(1)).is_some());
    }
}
