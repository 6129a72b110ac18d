//! The operator's window into a running server: log, metrics, health, and the admin socket.
//!
//! Nothing here is on the way of a message. The log's writer and the admin socket have a thread
//! of their own each; the HTTP responder is a task of one shard. None of them makes a shard wait.

pub(crate) mod calendar;
pub mod http;
pub mod log;
pub mod metrics;
pub mod request;
pub mod socket;
