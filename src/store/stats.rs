//! What the log did, counted: for metrics and for tests that count syncs instead of time.

use std::cell::Cell;
use std::time::Duration;

/// A number that only grows; one shard counts, so no atomics.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, by: u64) {
        self.0.set(self.0.get() + by);
    }

    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counters of one log since it was opened.
#[derive(Debug, Default)]
pub struct Stats {
    pub batches: Counter,
    pub groups: Counter,
    pub syncs: Counter,
    pub octets_written: Counter,
    pub reads: Counter,
    pub segments: Counter,
    pub checkpoints: Counter,
    pub checkpoint_octets: Counter,
    /// Writes and syncs that failed.
    pub failures: Counter,
    /// Microseconds from the write of a batch to the end of its sync, summed over all batches.
    pub commit_micros: Counter,
    longest: Cell<u64>,
}

impl Stats {
    /// Notes how long a batch took to reach stable storage.
    pub fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.add(micros);
        self.longest.set(self.longest.get().max(micros));
    }

    /// What a commit takes, on average.
    pub fn commit_mean(&self) -> Duration {
        Duration::from_micros(self.commit_micros.get() / self.batches.get().max(1))
    }

    /// The longest commit, in microseconds.
    pub fn commit_micros_max(&self) -> u64 {
        self.longest.get()
    }
}
