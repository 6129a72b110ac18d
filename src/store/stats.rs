//! What the log did, counted: for metrics and for tests that count syncs instead of time.

use super::log::Log;
use super::segments::SegmentStore;
use crate::bytes::codec::to_u64;
use crate::env::Env;
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

/// Sizes of a log at one moment, for metrics and `store stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Figures {
    pub blobs: u64,
    pub hot_segments: u64,
    pub cold_segments: u64,
    pub index_segments: u64,
    /// Slots that stand ready.
    pub free_segments: u64,
    pub segment_octets: u64,
    /// Octets of blobs that something refers to, about: in the hot stream, and in the cold one.
    pub hot_live_octets: u64,
    pub cold_live_octets: u64,
    /// Octets of the pages in force, when a checkpoint looked last.
    pub index_live_octets: u64,
    pub queued_octets: u64,
    /// The disk gives no room for another segment: soon, or now, only removals are taken. Not so
    /// once what was removed is room again.
    pub crowded: bool,
    pub cache_octets: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    /// The last batch that was applied.
    pub applied: u64,
}

impl Figures {
    /// Slots that there are.
    pub fn segments(&self) -> u64 {
        self.hot_segments + self.cold_segments + self.index_segments + self.free_segments
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
    /// Segments that were cleaned, blobs and octets that were moved out of them, and octets that were
    /// written for it.
    pub victims: Counter,
    pub moved_blobs: Counter,
    pub moved_octets: Counter,
    pub cold_octets: Counter,
    /// Octets of messages that were packed, and what they take since.
    pub packed_from: Counter,
    pub packed_to: Counter,
    /// Octets of segments that are free again, whether cleaned or dead by themselves.
    pub reclaimed_octets: Counter,
    /// Microseconds that cleaning waited for commits, and because it had its share.
    pub clean_pauses: Counter,
    /// Octets that the scrub read, what it found wrong, and how often it came to the end.
    pub scrubbed_octets: Counter,
    pub scrub_faults: Counter,
    pub scrub_rounds: Counter,
    /// Writes and syncs that failed.
    pub failures: Counter,
    /// Microseconds from the write of a batch to the end of its sync, summed over all batches.
    pub commit_micros: Counter,
    longest: Cell<u64>,
    /// The longest since the cleaner looked last.
    lately: Cell<u64>,
}

impl Stats {
    /// Notes how long a batch took to reach stable storage.
    pub fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_micros.add(micros);
        self.longest.set(self.longest.get().max(micros));
        self.lately.set(self.lately.get().max(micros));
    }

    /// What a commit takes, on average.
    pub fn commit_mean(&self) -> Duration {
        Duration::from_micros(self.commit_micros.get() / self.batches.get().max(1))
    }

    /// The longest commit, in microseconds.
    pub fn commit_micros_max(&self) -> u64 {
        self.longest.get()
    }

    /// The longest commit since this was asked last.
    pub(super) fn take_longest_lately(&self) -> Duration {
        Duration::from_micros(self.lately.take())
    }

    /// Octets written to all streams for one that came in, per mille; 0 if none came in.
    pub fn write_amplification(&self) -> u64 {
        let came = self.octets_written.get();
        let all = came + self.cold_octets.get() + self.checkpoint_octets.get();
        all.saturating_mul(1_000).checked_div(came).unwrap_or(0)
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// What the log holds now.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        let (cache, table, cold) =
            (shared.cache.borrow(), shared.table.borrow(), shared.cold.borrow());
        let cold_live = cold.iter().map(|(slot, _)| table.living(slot).octets).sum();
        Figures {
            blobs: table.blob_count(),
            hot_segments: to_u64(shared.hot.borrow().len()),
            cold_segments: to_u64(cold.len()),
            index_segments: to_u64(shared.index.borrow().segments.len()),
            free_segments: to_u64(shared.segments.free_slots()),
            segment_octets: shared.segments.segment_octets(),
            hot_live_octets: table.live_octets() - cold_live,
            cold_live_octets: cold_live,
            index_live_octets: shared.index_octets.get(),
            queued_octets: to_u64(shared.queued_octets.get()),
            crowded: shared.told_room.get().is_short(),
            cache_octets: to_u64(cache.held()),
            cache_hits: cache.hits(),
            cache_misses: cache.misses(),
            applied: shared.applied.get().lsn.0,
        }
    }
}
