//! IMAP on the wire: commands out of a stream of octets, sets, names of mailboxes, replies, and what
//! other servers answer.

pub mod answer;
pub mod capability;
pub mod command;
pub mod date;
pub mod frame;
pub mod mailbox;
pub mod pattern;
pub mod reply;
pub mod scan;
pub mod set;
