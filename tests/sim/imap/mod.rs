//! IMAP in the simulation: several sessions of each account on shared mailboxes, against a model.
//!
//! ```text
//!   life      boots the machine, lets clients work, cuts the power; between lives:
//!   reckon    everything held against the model, every remembered state brought up to date
//!   client    what a client does next       command   what it may change, and what answers promise
//!   session   commands out, responses in    view      the mailbox as one session knows it
//!   model     what clients were told of an account, and what they asked for      catalog   its names
//!   wire      responses
//! ```
//!
//! A client knows nothing but what the server told it. Held at each response: message numbers move
//! only where that is allowed, UIDs rise, change counters never fall, flags are what was told
//! before or what somebody asked for. After each crash: what anybody was told is there, what was
//! answered holds, what was not is there as a whole or not at all.

mod catalog;
mod client;
mod command;
mod life;
mod model;
mod reckon;
mod session;
mod view;
mod wire;

pub(crate) use life::run;
