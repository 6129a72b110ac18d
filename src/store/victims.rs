//! Which segments are cleaned, and when: arithmetic alone.
//!
//! The fewer octets are alive in a segment, the less has to be moved for the room it gives back. So
//! while there is room, it is greedy: the emptiest first. In a store that is nearly full that keeps
//! cleaning what is about to die anyway, while room that nobody will give back stays tied up in old
//! segments: there what it costs is held against what it brings and for how long, `(1-u) age / (1+u)`
//! (store.md 3.7).
//!
//! Cleaning early costs: what is kept free is not spread over the segments, which are fuller then.
//! Of a store in which a share `d` is dead, a share of `d²/2` is kept free at most.

use super::table::Living;
use crate::model::limits::{CLEAN_BLOBS_MAX, CLEAN_SEGMENTS_MAX};

/// Share of a store that is alive above which costs are held against benefits, per mille.
const COST_BENEFIT_FULL: u64 = 800;
/// Part of a store's segments that are cleaned together.
const UNIT_SHARE: u64 = 32;
/// Segments that are cleaned together at least, if there are so many.
const UNIT_SEGMENTS_MIN: usize = 2;
/// Octets that a blob takes in the cold stream beside its own: its line, and zeros.
pub(super) const BLOB_EXTRA_OCTETS: u64 = 56;

/// A segment that may be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub slot: u32,
    pub segment: u64,
    pub living: Living,
    /// When the mail in it was new, in seconds since 1970.
    pub created: u64,
}

impl Victim {
    /// Octets that its survivors take, about.
    pub(super) fn cost(&self) -> u64 {
        self.living.octets + self.living.blobs * BLOB_EXTRA_OCTETS
    }
}

/// How a log stands, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// All that the log may have.
    pub capacity: u64,
    /// Of that, what no segment takes, but for the reserve.
    pub free: u64,
    pub live: u64,
}

impl Space {
    fn per_mille(self, octets: u64) -> u64 {
        let mille = u128::from(octets) * 1_000 / u128::from(self.capacity.max(1));
        u64::try_from(mille).unwrap_or(u64::MAX)
    }

    /// The share that is free below which it is time to clean, per mille; `percent` at most.
    fn limit(self, percent: u8) -> u64 {
        let dead = 1_000 - self.per_mille(self.live).min(1_000);
        (u64::from(percent) * 10).min(dead * dead / 2_000)
    }

    /// Whether it is time to clean.
    pub(super) fn is_short(self, percent: u8) -> bool {
        self.per_mille(self.free) < self.limit(percent)
    }

    /// Whether half of what is kept free is gone.
    pub(super) fn is_urgent(self, percent: u8) -> bool {
        self.per_mille(self.free) * 2 <= self.limit(percent)
    }

    /// How much of the time the cleaner may work, in percent: `share` when it begins, all when
    /// nothing is free.
    pub(super) fn share(self, percent: u8, share: u8) -> u64 {
        let share = u64::from(share);
        let limit = self.limit(percent);
        if limit == 0 {
            return share;
        }
        let left = self.per_mille(self.free).min(limit);
        share + (100 - share) * (limit - left) / limit
    }

    fn weighs_costs(self) -> bool {
        self.per_mille(self.live) >= COST_BENEFIT_FULL
    }
}

/// Whether a segment of `size` octets is worth it: some of what it has comes back.
pub(super) fn is_worth(victim: &Victim, size: u64) -> bool {
    // The last batch of a cold segment rarely fills it.
    victim.cost() + size / 64 + size / 32 <= size
}

/// The segments to clean together, of those that are worth it: no more than fit `room` octets of the
/// cold stream, and more than `at_least` only in a large store. `now` in seconds since 1970.
pub(super) fn choose(
    mut candidates: Vec<Victim>,
    space: Space,
    (size, segments): (u64, u64),
    room: u64,
    at_least: usize,
    now: u64,
) -> Vec<Victim> {
    candidates.retain(|one| is_worth(one, size));
    if space.weighs_costs() {
        let worth = |one: &Victim| {
            let live = u128::from(one.living.octets.min(size));
            let (size, age) = (u128::from(size), u128::from(now.saturating_sub(one.created) + 1));
            (size - live) * age * 1_000 / (size + live)
        };
        candidates.sort_unstable_by_key(|one| (std::cmp::Reverse(worth(one)), one.segment));
    } else {
        candidates.sort_unstable_by_key(|one| (one.living.octets, one.segment));
    }
    let most = usize::try_from(segments / UNIT_SHARE).unwrap_or(usize::MAX);
    let most = most.max(at_least).clamp(UNIT_SEGMENTS_MIN, CLEAN_SEGMENTS_MAX);
    let (mut octets, mut blobs) = (0, 0);
    let mut chosen = Vec::new();
    for one in candidates {
        let is_first = chosen.is_empty();
        let fits = octets + one.cost() <= room
            && (is_first || blobs + one.living.blobs <= CLEAN_BLOBS_MAX);
        if fits && chosen.len() < most {
            octets += one.cost();
            blobs += one.living.blobs;
            chosen.push(one);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn victim(segment: u64, live_percent: u64, created: u64) -> Victim {
        let living = Living { blobs: 10, octets: SIZE * live_percent / 100 };
        Victim { slot: 0, segment, living, created }
    }

    fn space(live: u64, free: u64) -> Space {
        Space { capacity: 1_000 * SIZE, free: free * SIZE, live: live * SIZE }
    }

    fn chosen(candidates: &[Victim], space: Space, room: u64) -> Vec<u64> {
        let chosen = choose(candidates.to_vec(), space, (SIZE, 1_000), room, 0, 1_000);
        chosen.iter().map(|one| one.segment).collect()
    }

    #[test]
    fn the_emptiest_go_first_while_there_is_room() {
        let all = [victim(1, 50, 0), victim(2, 10, 900), victim(3, 99, 0), victim(4, 30, 500)];
        assert_eq!(chosen(&all, space(500, 10), u64::MAX), [2, 4, 1], "3 would give nothing");
        assert_eq!(chosen(&all, space(500, 10), SIZE / 2), [2, 4], "as many as fit");
    }

    #[test]
    fn in_a_full_store_the_old_go_first_that_nobody_will_empty() {
        let all = [victim(1, 80, 0), victim(2, 60, 990)];
        assert_eq!(chosen(&all, space(500, 10), u64::MAX), [2, 1]);
        assert_eq!(chosen(&all, space(850, 10), u64::MAX), [1, 2]);
    }

    #[test]
    fn no_more_go_at_once_than_memory_has_room_for() {
        let all: Vec<Victim> = (0..40).map(|number| victim(number, 10, 0)).collect();
        assert_eq!(chosen(&all, space(500, 10), u64::MAX).len(), CLEAN_SEGMENTS_MAX);
        let crowded = |one: &Victim| Victim {
            living: Living { blobs: CLEAN_BLOBS_MAX, octets: 4_096 },
            ..*one
        };
        let crowded: Vec<Victim> = all.iter().map(crowded).collect();
        let size = 4 << 30;
        let few = choose(crowded, space(500, 10), (size, 1_000), u64::MAX, 0, 0);
        assert_eq!(few.len(), 1, "the first goes in any case");
    }

    #[test]
    fn the_fuller_the_store_the_later_it_is_cleaned() {
        assert!(space(100, 149).is_short(15) && !space(100, 150).is_short(15));
        assert!(space(800, 19).is_short(15) && !space(800, 20).is_short(15));
        assert!(space(900, 4).is_short(15) && !space(900, 5).is_short(15));
    }

    #[test]
    fn works_harder_the_less_is_free() {
        assert!(!space(100, 76).is_urgent(15) && space(100, 75).is_urgent(15));
        assert_eq!(space(100, 150).share(15, 20), 20);
        assert_eq!(space(100, 75).share(15, 20), 60);
        assert_eq!(space(100, 0).share(15, 20), 100);
        assert_eq!(space(1_000, 0).share(15, 20), 20, "nothing is dead: there is no hurry");
    }
}
