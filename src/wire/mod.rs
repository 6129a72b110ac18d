//! Octets to representations and back, zero-copy: what the wire says, not what it means.
//!
//! Nothing here knows a clock, a socket or a session. A parser is the first to see octets and
//! returns a type that cannot be wrong; it never panics, whatever it is given.

pub mod address;
pub mod date;
pub mod dot;
pub mod imap;
pub mod line;
pub mod maildir;
pub mod mbox;
pub mod message;
mod policy_record;
pub mod pop3;
pub mod proxy;
pub mod rfc3339;
pub mod smtp;
pub mod sts_policy;
pub mod text;
pub mod tls_report;
pub mod trace;
pub mod uidl;
