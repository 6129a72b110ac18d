//! The octets of a session, whatever they travel in: in clear, or by TLS (RFC 8446, RFC 5246).
//!
//! Drivers read and write a [`Stream`]; what it is made of is decided where a connection begins, or
//! by STARTTLS. rustls does the protocol and `ring` the arithmetic; what stands here is when they
//! are called, where octets lie meanwhile, and what is told of it.
//!
//! ```text
//!   Identity   a certificate and its key        Names    which of them a client is shown
//!   Context    what all handshakes share        Stream   one connection, in clear or encrypted
//!   Facts      what was negotiated              Client   the certificate that one showed
//!
//!   Caller     what all calls to servers share  Demand   what is asked of a server
//!   Server     the certificate that one showed to us, and whether it proves what was asked
//! ```
//!
//! Promises:
//!   - TLS 1.2 and 1.3, no other
//!   - an idle connection holds no buffer; a handshake is bounded in memory and in time
//!   - a stream moves to another shard, keys and all
//!
//! Illegal: anything of mail.

mod call;
mod client;
mod context;
mod dane;
mod demand;
mod facts;
mod handshake;
mod hello;
mod identity;
mod names;
mod noted;
mod server;
mod session;
mod stream;
mod tickets;

pub use call::{Call, CallFailure, Caller, NoRoots};
pub use client::{Asking, Authorities, Client, NameField};
pub use context::Context;
pub use dane::Association;
pub use demand::{Demand, Level};
pub use facts::Facts;
pub use handshake::{Aside, Failure, Step, Terms, Worked};
pub use identity::{Fault, Identity};
pub use names::{For, Names};
pub use server::{Distrust, Holder, Proven, Server};
pub use stream::{Detached, Stream};
#[cfg(test)]
mod tests;
