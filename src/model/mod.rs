//! Nouns that every floor shares: identities, time, limits, and what an error means to a peer.

pub mod address;
pub mod channel;
pub mod id;
pub mod limits;
pub mod reply;
pub mod site;
pub mod time;
