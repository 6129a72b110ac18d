//! What goes over the wire and nothing else: replies, dot-stuffing, one buffered connection.

pub(crate) mod dots;
pub(crate) mod imap;
pub(crate) mod link;
pub(crate) mod reply;
pub(crate) mod secure;
pub(crate) mod tickets;
