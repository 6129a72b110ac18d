//! Machines of protocols: octets in, replies and requests out; no clock, no socket.

pub mod pop3;
pub mod sasl;
pub mod smtp;
