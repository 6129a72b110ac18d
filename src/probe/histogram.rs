//! How values are spread: fixed log-linear buckets, 8 to each power of two.
//!
//! A value is off by at most one eighth of itself; the sum and the count are exact. Values up to
//! `u64::MAX` have a bucket, so nothing is cut. One histogram takes 4 KiB and never allocates.
//!
//! ```text
//! value    0 … 7   8 … 15   16 17 18 …      each row twice as far apart as the one before
//! bucket   0 … 7   8 … 15   16 16 17 …
//! ```

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SUB_BITS: u32 = 3;
const SUB_COUNT: usize = 1 << SUB_BITS;
/// 8 exact ones, then 8 for each of the 61 powers from 2^3 to 2^63.
pub const BUCKET_COUNT: usize = SUB_COUNT * (64 - SUB_BITS as usize + 1);

/// Counts values by size. One writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64; BUCKET_COUNT]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = Box::new([const { AtomicU64::new(0) }; BUCKET_COUNT]);
        Histogram { buckets, sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `value`. Only the owning shard may call it.
    pub fn record(&self, value: u64) {
        let bucket = &self.buckets[bucket_of(value)];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        self.sum.store(self.sum.load(Relaxed).wrapping_add(value), Relaxed);
    }

    /// Adds what was counted so far to `summary`.
    pub fn add_to(&self, summary: &mut Summary) {
        for (total, bucket) in summary.buckets.iter_mut().zip(self.buckets.iter()) {
            *total += bucket.load(Relaxed);
        }
        summary.sum = summary.sum.wrapping_add(self.sum.load(Relaxed));
    }
}

/// What several histograms counted together, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    buckets: Vec<u64>,
    pub sum: u64,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { buckets: vec![0; BUCKET_COUNT], sum: 0 }
    }
}

impl Summary {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The value that `share` (0 to 1) of all values do not exceed, rounded up to the end of its
    /// bucket; 0 where nothing was counted.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank may be off by one in 2^52"
    )]
    pub fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = ((count as f64) * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, of_bucket) in self.buckets.iter().enumerate() {
            seen += of_bucket;
            if *of_bucket > 0 && seen >= rank {
                return last_of(bucket);
            }
        }
        0
    }

    /// How many values lie at or below each power of two, up to the first that holds all:
    /// `(upper bound, count)`. What Prometheus takes for buckets.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let total = self.count();
        let mut all = Vec::new();
        let mut seen = 0;
        for (row, buckets) in self.buckets.chunks(SUB_COUNT).enumerate() {
            seen += buckets.iter().sum::<u64>();
            all.push((last_of(row * SUB_COUNT + SUB_COUNT - 1), seen));
            if seen == total {
                break;
            }
        }
        all
    }
}

fn bucket_of(value: u64) -> usize {
    let power = (value | 1).ilog2();
    let Some(shift) = power.checked_sub(SUB_BITS) else {
        return usize::try_from(value).expect("smaller than 8");
    };
    // The leading one stands for SUB_COUNT, so rows follow each other without a gap.
    let within = usize::try_from(value >> shift).expect("at most four bits are left");
    (shift as usize) * SUB_COUNT + within
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    if bucket < 2 * SUB_COUNT {
        return bucket as u64;
    }
    let shift = bucket / SUB_COUNT - 1;
    let within = (bucket % SUB_COUNT + SUB_COUNT) as u64;
    (within << shift) | ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_no_other() {
        arbtest::arbtest(|u| {
            let shift: u32 = u.int_in_range(0..=63)?;
            let value = u.arbitrary::<u64>()? >> shift;
            let bucket = bucket_of(value);
            assert!(value <= last_of(bucket), "{value} in {bucket}");
            assert!(bucket == 0 || value > last_of(bucket - 1), "{value} in {bucket}");
            assert!(last_of(bucket) - value <= value / 8, "{value} is off by more than an eighth");
            Ok(())
        });
        assert_eq!(bucket_of(u64::MAX), BUCKET_COUNT - 1);
        assert_eq!(last_of(BUCKET_COUNT - 1), u64::MAX);
    }

    #[test]
    fn sums_over_shards_and_finds_quantiles() {
        let shards = [Histogram::default(), Histogram::default()];
        for value in 1..=1_000 {
            shards[usize::from(value % 2 == 0)].record(value);
        }
        let mut summary = Summary::default();
        for shard in &shards {
            shard.add_to(&mut summary);
        }
        assert_eq!((summary.count(), summary.sum), (1_000, 500_500));
        assert_eq!(summary.quantile(0.0), 1);
        assert!((500..=563).contains(&summary.quantile(0.5)), "{}", summary.quantile(0.5));
        assert!((990..=1_023).contains(&summary.quantile(0.99)));
        assert_eq!(summary.quantile(1.0), 1_023);
        assert_eq!(summary.cumulative().last(), Some(&(1_023, 1_000)));
        assert_eq!(Summary::default().quantile(0.5), 0);
    }

    #[test]
    fn an_empty_summary_has_one_empty_bucket() {
        assert_eq!(Summary::default().cumulative(), vec![(7, 0)]);
    }
}
