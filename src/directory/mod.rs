//! Who there is: domains, users, aliases, and where an address leads.
//!
//! The directory is kept in log 0. One shard owns it ([`Ledger`]) and changes it by records; every
//! shard looks addresses up in an immutable [`Snapshot`], which is swapped whole after a change and
//! shares all but the changed path with the one before.
//!
//! ```text
//!   Draft (checks) ──> Group ──> log 0 ──> Ledger::apply ──> Snapshot ──> every shard
//! ```
//!
//! Promises:
//!   - an address names one user or one alias, never both
//!   - an account number is given once and never again, also after its user is gone
//!   - a lookup takes no lock, waits for nothing, and ends whatever the aliases say
//!
//! Illegal: two changes drafted at once ([`Ledger::turn`] holds it).

mod change;
mod explain;
mod ledger;
mod list;
mod lookup;
mod name;
mod record;
mod snapshot;
mod table;
mod vacation;

pub use change::{ChangeError, Draft};
pub use explain::{Explanation, explain};
pub use ledger::{Directory, Ledger, Turn};
pub use list::{Page, Query, Row};
pub use lookup::{Aliased, Fault, Local, Remote, Resolution, resolve};
pub use name::{BadName, Name, domain_name};
pub use record::{Alias, AppPassword, Domain, User};
pub use snapshot::{Entry, Snapshot};
pub use vacation::Vacation;

/// What the operator decides about addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Characters that part a user from a tag: `user+tag`. Empty for none.
    pub separators: Box<str>,
    /// Who gets mail for postmaster and abuse of domains that have nobody.
    pub postmaster: Option<Box<str>>,
    /// This host's own name, lower case: postmaster is answered there too (RFC 5321 §4.5.1).
    pub hostname: Box<str>,
    /// The domain of login names that have none. Without it the only domain, if there is one.
    pub login_domain: Option<Box<str>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            separators: "+".into(),
            postmaster: None,
            hostname: "".into(),
            login_domain: None,
        }
    }
}

#[cfg(test)]
mod tests;
