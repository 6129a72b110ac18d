//! For any number of subjects a moment each, in a fixed amount of memory that all shards share.
//!
//! Four rows of slots; a subject has one slot in each, chosen by a keyed hash, and the earliest of its
//! four is its moment. Slots are atomic and only ever raised: no locks, no eviction, nothing to clean,
//! since a moment that has passed is as good as none. A slot that others share is never too early, so
//! a subject's moment may be later than it should be, where all four of its slots are shared, never
//! earlier. With `b` subjects whose moment is to come that hits one in about `(width / b)^4` others.

use crate::model::time::Mono;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ROWS: usize = 4;

/// See the header. Of its memory, 32 octets times the width, only what is used is touched.
#[derive(Debug)]
pub struct Moments {
    slots: Box<[AtomicU64]>,
    width_bits: u32,
    key: [u8; 16],
}

/// The slots of one subject, one in each row.
#[derive(Clone, Copy, Debug)]
pub struct Place([usize; ROWS]);

impl Moments {
    /// Rows of `2^width_bits` slots, 16 bits at most. `key` is secret: who knows it could choose
    /// subjects that share all slots with another's.
    pub fn new(width_bits: u32, key: [u8; 16]) -> Moments {
        assert!(width_bits <= 16, "four columns come out of a hash of 64 bits");
        // Zeros from the kernel: no page is touched before it is used.
        let zeros = vec![0_u64; ROWS << width_bits];
        Moments { slots: zeros.into_iter().map(AtomicU64::new).collect(), width_bits, key }
    }

    /// Where a subject has its moment: an address, and what else it is about.
    pub fn place(&self, address: Option<IpAddr>, more: u64) -> Place {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&self.key);
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => hasher.write(&address.octets()),
            Some(IpAddr::V6(address)) => hasher.write(&address.octets()),
            None => {}
        }
        hasher.write_u64(more);
        let hash = hasher.finish();
        let width = 1 << self.width_bits;
        Place(std::array::from_fn(|row| {
            let shift = u32::try_from(row).unwrap_or(0) * self.width_bits;
            row * width + usize::try_from(hash >> shift).expect("64 bits") % width
        }))
    }

    /// The moment of a subject; one that has passed means nothing.
    pub fn of(&self, place: Place) -> Mono {
        let nanos = place.0.iter().map(|&slot| self.slots[slot].load(Relaxed)).min();
        Mono(std::time::Duration::from_nanos(nanos.unwrap_or(0)))
    }

    /// Makes it this one, unless it is later already.
    pub fn raise(&self, place: Place, moment: Mono) {
        let nanos = u64::try_from(moment.0.as_nanos()).unwrap_or(u64::MAX / 2);
        for slot in place.0 {
            self.slots[slot].fetch_max(nanos, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn keeps_subjects_apart_and_never_forgets_one_too_early() {
        let moments = Moments::new(15, [7; 16]);
        let place = |number: u32| moments.place(Some(Ipv4Addr::from_bits(number).into()), 1);
        let at = |number: u32| Mono(Duration::from_secs(u64::from(number) + 1));
        for number in 0..1_000 {
            moments.raise(place(number), at(number));
            moments.raise(place(number), Mono(Duration::ZERO));
        }
        assert!((0..1_000).all(|number| moments.of(place(number)) >= at(number)));
        let strangers = (1_000..11_000).filter(|&number| moments.of(place(number)).0.is_zero());
        assert_eq!(strangers.count(), 10_000);
        // The same address, about something else.
        let other = moments.place(Some(Ipv4Addr::from_bits(5).into()), 2);
        assert!(moments.of(other).0.is_zero());
    }
}
