//! Whether who logged in may still be here: whoever is switched off or removed is hung up on.
//!
//! A session asks before each command. As long as the directory is the one that it asked last, that
//! costs a comparison of two numbers.

use crate::directory::{self, Entry, Snapshot};
use crate::model::id::AccountId;
use std::cell::Cell;

/// Whose session it is: the user, and the one who acts for him, if anybody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    of: Box<[(AccountId, Box<str>)]>,
    /// The version of the directory by which all was well.
    seen: Cell<u64>,
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Off,
    Removed,
    /// The selected mailbox has another UIDVALIDITY.
    Restored,
}

impl Ended {
    /// For the client.
    pub fn words(self) -> &'static str {
        match self {
            Ended::Off => "the account is switched off",
            Ended::Removed => "the account was removed",
            Ended::Restored => "the mailbox was brought back to an earlier state, open it again",
        }
    }
}

impl Standing {
    /// Of users by the names that they logged in by.
    pub fn new(
        snapshot: &Snapshot,
        names: &directory::Settings,
        of: &[(AccountId, &str)],
    ) -> Standing {
        let whole = |&(account, name): &(AccountId, &str)| {
            (account, snapshot.login_name(name, names).into())
        };
        // Not the version of this one: it may be another than that by which they were let in.
        Standing { of: of.iter().map(whole).collect(), seen: Cell::new(u64::MAX) }
    }

    /// Why the session ends now, if it does.
    pub fn ended(&self, snapshot: &Snapshot) -> Option<Ended> {
        if self.seen.get() == snapshot.version() {
            return None;
        }
        let ended = |(account, address): &(AccountId, Box<str>)| match snapshot.find(address) {
            Some(Entry::User(user)) if user.account == *account => {
                (!user.enabled).then_some(Ended::Off)
            }
            // Another user of the same name is another one.
            _ => Some(Ended::Removed),
        };
        let ended = self.of.iter().find_map(ended);
        if ended.is_none() {
            self.seen.set(snapshot.version());
        }
        ended
    }
}
