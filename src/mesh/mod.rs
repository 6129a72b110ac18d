//! Calls between shards: one bounded inbox per shard, one answer per question.
//!
//! A shard asks another one by a message and gets its answer through a [`reply`]. Messages are
//! whatever the floors above send to each other; nothing is known of them here. A full inbox is
//! refused at once and the message comes back, so that the caller can tell its peer to come back
//! later: nobody waits for room.
//!
//! Works under every executor, also under the simulated one: only `std` wakers are used.

mod inbox;
mod reply;

pub use inbox::{Full, Inbox, Mesh};
pub use reply::{Answer, Gone, Reply, reply};
