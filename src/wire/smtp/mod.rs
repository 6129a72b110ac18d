//! SMTP and LMTP on the wire, both ways: what a server reads and writes ([`command`], [`param`],
//! [`reply`]), and what a client does ([`answer`], [`offers`], [`envelope`]).

pub mod answer;
pub mod command;
pub mod envelope;
pub mod later;
pub mod offers;
pub mod param;
pub mod reply;
pub mod xclient;
pub mod xtext;
