//! The proto floor.

pub mod pop3;
pub mod sasl;
