//! Mailboxes: what every account of this shard holds, applied from the log, read by sessions.
//!
//! ```text
//!   deliver ─┐                                  ┌─ view  (a session's snapshot)
//!            ├─> records ─> log ─> Accounts ────┤
//!   expunge ─┘             (durable, in order)  └─ pages (checkpoint)
//! ```
//!
//! Promises:
//!   - what a call answered with `Ok` is durable, and was applied before the answer
//!   - nobody sees what is not durable
//!   - UIDs rise; none is used twice under one UIDVALIDITY, not even after a failed commit
//!   - recovery gives the same state, digest for digest
//!
//! Illegal: to change an account but by a record; to hold a borrow of [`Accounts`] over an await.

mod account;
mod accounts;
mod archive;
mod arrivals;
mod chunk;
pub mod deliver;
mod desk;
pub mod digest;
pub mod expunge;
mod folder;
mod history;
mod image;
mod keywords;
mod lock;
mod mend;
mod moved;
pub mod moving;
mod narrow;
mod page;
pub mod promise;
mod quota;
pub mod record;
mod row;
pub mod summary;
mod summary_v1;
mod turn;
pub mod undelete;
mod vanished;
mod view;

pub use account::INBOX;
pub use accounts::{Accounts, Listed, Planted};
pub use arrivals::Arrivals;
pub use deliver::{Judge, Message, Recipient, deliver};
pub use desk::{Brought, ChangeError, Desk, Picked, Placed, SEPARATOR, Stored};
pub use expunge::{ExpungeError, delete_account};
pub use history::Retention;
pub use keywords::Keywords;
pub use lock::{Guard, Locks};
pub use mend::MendAccounts;
pub use moved::Origin;
pub use quota::{Quota, Refused, Usage};
pub use record::catalog::Use;
pub use record::flags::{FlagChange, Mode};
pub use row::{Entry, Flags, Marks};
pub use summary_v1::{FieldV1, SummaryV1};
pub use view::{Changes, Lookup, View};
