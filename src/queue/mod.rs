//! The queue: messages that were promised and are not yet where they belong.
//!
//! The spool is mail on its way to other shards; outgoing mail is on its way to other servers.

pub mod answered;
pub mod outgoing;
pub mod record;
pub mod retry;
pub mod schedule;
pub mod sites;
mod spool;

pub use spool::mend::MendSpool;
pub use spool::{IDEM_MAJORS, Pending, SPOOL_MAJORS, Spool, SpoolId};
pub mod warmup;
