//! The node: puts the floors together and runs them, one shard per log.
//!
//! [`shard`] opens what one shard owns, on any machine, so that the simulation runs the same
//! code, [`placement`] knows where each log lies, and [`logs`] makes logs; [`boot`] runs shards on the ring; [`directory`] answers the
//! operator's requests, and [`owners`] is whom it asks about accounts and mail, `queue` what it says
//! of outgoing mail; [`actions`] is what the command line calls, `backup` copies the store away and
//! brings it back,
//! `salvage` makes a new one of what is whole of a damaged one;
//! `privileges` and `sandbox` are what the process may not do any more, `supervisor` hears how it is.

mod acme;
pub mod actions;
mod backup;
pub mod boot;
mod certificates;
mod data_dir;
pub mod demo;
pub mod directory;
mod dkim;
mod grow;
mod interfaces;
mod keeping;
pub mod logs;
mod moving;
mod oauth;
mod offline;
pub mod owners;
pub mod placement;
mod privileges;
mod protect;
pub mod published;
mod queue;
mod rehash;
mod relay;
mod reload;
pub mod salvage;
mod sandbox;
pub mod shard;
mod signals;
mod supervisor;
mod undelete;
mod vacation;
mod warmup;
