//! Drivers: one per protocol, between a connection, its machine, and the shard's state.
//!
//! A driver reads octets, steps the machine, answers its questions out of the shard's state, and
//! writes what the machine said. It decides nothing of the protocol and nothing of the store.
//!
//! Illegal: one driver naming another.

pub mod allowance;
pub mod draft;
pub mod flag;
pub mod guard;
mod guest;
pub mod imap;
pub mod lease;
pub mod listener;
pub mod login;
mod origin;
pub mod owner;
mod pace;
pub mod places;
pub mod pop3;
pub mod rehash;
pub mod secure;
pub mod shard;
pub mod signing;
pub mod smtp;
pub mod standing;
pub mod submission;
mod token;
pub mod vacation;

pub use shard::{Call, Figures, Settings, Shard};
