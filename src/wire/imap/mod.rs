//! IMAP on the wire: commands out of a stream of octets, sets, names of mailboxes, replies.

pub mod mailbox;
pub mod pattern;
pub mod set;
