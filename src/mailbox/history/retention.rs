//! How long accounts keep what was changed and removed.

use crate::bytes::hash::Map;
use crate::model::id::AccountId;
use std::rc::Rc;

/// The retention of every account, in seconds; 0 keeps no history.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Of those that are not named.
    pub usual: u32,
    pub of: Rc<Map<AccountId, u32>>,
}

impl Retention {
    /// The same for all accounts.
    pub fn all(seconds: u32) -> Retention {
        Retention { usual: seconds, of: Rc::default() }
    }

    /// Of one account, in seconds.
    pub fn of(&self, account: AccountId) -> u32 {
        self.of.get(&account).copied().unwrap_or(self.usual)
    }
}
