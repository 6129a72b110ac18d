//! SMTP and LMTP on the wire: commands with their parameters, and replies.

pub mod command;
pub mod later;
pub mod param;
pub mod reply;
pub mod xclient;
pub mod xtext;
