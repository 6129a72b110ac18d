//! Mail transfer: from a received message and its recipients to commits in the logs of their
//! owners.
//!
//! ```text
//!                    ┌ all here ──────────> mailbox/deliver ──> this log
//!   Intake::accept ──┼ all on one other ──> Peers ────────────> its Intake::serve ──> its log
//!                    └ on several ────────> this log, SPOOL_ADD ─> 250 ─> Sender ─> Peers …
//! ```
//!
//! [`session`] is a connection with another server, which mail leaves by.
//!
//! Promises:
//!   - [`Outcome::Stored`] only for what is durable: in the recipient's mailbox, or in the spool
//!   - what is in the spool reaches each recipient exactly once, through crashes of anybody
//!   - a message for one other shard is moved there, not copied
//!
//! Illegal: to know by which protocol a message came.

mod away;
pub mod dane;
mod intake;
pub mod message;
mod options;
mod owner;
pub mod peers;
pub mod published;
pub mod relay;
pub mod report;
pub mod route;
mod sender;
pub mod session;
pub mod srs;
pub mod sts;
pub mod tls_policy;
pub mod tls_report;
mod ways;

pub use away::Away;
pub use intake::{Accepting, Intake};
pub use message::{Envelope, Outcome, Places, Rcpt, Rooms};
pub use options::{MailOptions, RcptOptions};
pub use owner::Answering;
pub use peers::{Answer, Peers, Request, Unreachable};
pub use sender::Figures;
pub use ways::Ways;
