//! Figures of a running server: counters, gauges, histograms, and events for the log.
//!
//! Each shard owns its figures and is the only one that writes them; whoever reads sums over the
//! shards. An update is a load and a store of one word, no lock, no bus lock: relaxed atomics with
//! one writer. What a reader sees may be an instant old, never torn.
//!
//! A module declares its figures once with [`figures!`](crate::figures), as one struct with a
//! field each; the node registers that struct in a [`Set`] per shard before the shards start and
//! gives all sets to a [`Registry`], which knows them by name, help text and labels.
//!
//! Illegal: to update the same figure from two threads; updates would be lost.

pub mod event;
mod figures;
pub mod histogram;
mod registry;

pub use figures::{Counter, Gauge};
pub use histogram::{Histogram, Summary};
pub use registry::{Family, Kind, Registry, Series, Set, Value};
