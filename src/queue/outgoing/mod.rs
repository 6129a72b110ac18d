//! Outgoing mail: what this log has promised to bring to other servers.
//!
//! An entry is one message for the recipients of one domain. A message for several domains is one
//! blob and as many entries, all in the group that accepted it. Every change of an entry is a
//! record, so that a replay gives the same queue.
//!
//! ```text
//!   QUEUE_ADD ──> waits ──> tried ──> QUEUE_TRIED: some are over, the others wait until `due`
//!                              └────> QUEUE_DONE: all are over, the message is let go
//!   QUEUE_SET: an operator's hold, release, "now"; QUEUE_PAUSE: nothing goes there, or from there
//! ```
//!
//! Promises:
//!   - an entry's message is referred to until its QUEUE_DONE
//!   - every entry has a moment at which something happens to it, whatever else does not: it is
//!     due, its sender is to be told that it takes long, or it has expired ([`Entry::next_event`])
//!   - entries are found by number, name, domain, sender and recipient without walking the queue
//!
//! Illegal: to know how mail travels.

mod entry;
mod machine;
mod mend;
mod packed;
mod pause;
pub mod record;
mod table;
#[cfg(test)]
mod tests;

pub use entry::{Deadline, Envelope, Fate, Flags, Said, To};
pub use machine::{Outgoing, Walk};
pub use mend::MendOutgoing;
pub use pause::{Pause, Pauses};
pub use table::{Counts, DestinationId, Entry, Stage};

use crate::model::id::LogId;
use std::fmt;

/// An entry of one log's queue. Given once, from 1, in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// An entry as an operator names it: `LOG.NUMBER`, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueName(pub LogId, pub QueueId);

impl fmt::Display for QueueName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}.{:x}", self.0.0, self.1.0)
    }
}

impl QueueName {
    /// Reads what `Display` writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<QueueName> {
        let (log, number) = text.split_once('.')?;
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|o| o.is_ascii_hexdigit());
        (is_hex(log) && is_hex(number)).then_some(())?;
        let log = u16::from_str_radix(log, 16).ok()?;
        Some(QueueName(LogId(log), QueueId(u64::from_str_radix(number, 16).ok()?)))
    }
}
