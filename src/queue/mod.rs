//! The queue: messages that were promised and are not yet where they belong.
//!
//! Today this is the spool, mail on its way to other shards; mail to other servers joins it later.

pub mod record;
mod spool;

pub use spool::{IDEM_MAJORS, Pending, SPOOL_MAJORS, Spool, SpoolId};
