//! The wire floor.

pub mod line;
pub mod pop3;
