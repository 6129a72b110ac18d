//! A number that only grows, and a number that goes up and down. One writer each.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Counts what happened since the start.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more. Only the owning shard may call it.
    pub fn one(&self) {
        self.add(1);
    }

    /// `count` more. Only the owning shard may call it.
    pub fn add(&self, count: u64) {
        // Not fetch_add: with one writer a plain load and store cannot lose an update.
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How much there is of something right now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Changes by `change`. Only the owning shard may call it.
    pub fn add(&self, change: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(change), Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}
