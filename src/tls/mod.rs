//! The octets of a session, whatever they travel in.
//!
//! Drivers read and write a [`Stream`]; what it is made of is decided where a connection begins.

mod stream;

pub use stream::{Detached, Stream};
