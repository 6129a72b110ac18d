//! Numbers out of a seed: the same seed gives the same numbers, on every machine, for ever.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): one addition and three mixing steps. Not for secrets.

use std::cell::Cell;

/// A stream of numbers. Streams with different seeds have nothing to do with each other.
#[derive(Clone, Debug)]
pub struct Chance {
    state: Cell<u64>,
}

/// The mixing step of SplitMix64, for itself a good hash of one number.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance { state: Cell::new(mix(seed ^ 0x5EED_0F00_D5EA_5ED5)) }
    }

    /// A stream of its own for one purpose, so that more draws there change nothing here.
    pub(super) fn stream(seed: u64, purpose: u64) -> Chance {
        Chance::new(mix(seed).wrapping_add(mix(purpose.wrapping_add(0x0005_7EA7))))
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.state.set(state);
        mix(state)
    }

    /// A number in `0..bound`; 0 for the bound 0.
    pub fn below(&self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(product >> 64).expect("128 - 64 bits fit in 64")
    }

    /// An index into something of `len` items.
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number in `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `ppm` of a million cases. Draws nothing for 0.
    pub fn happens(&self, ppm: u32) -> bool {
        ppm != 0 && self.below(1_000_000) < u64::from(ppm)
    }

    pub fn coin(&self) -> bool {
        self.bits() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bounds_and_reaches_them() {
        let chance = Chance::new(7);
        let mut seen = [false; 5];
        for _ in 0..1_000 {
            let number = chance.between(3, 7);
            seen[usize::try_from(number - 3).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.between(9, 9), 9);
    }

    #[test]
    fn happens_about_as_often_as_asked() {
        let chance = Chance::new(1);
        let hits = (0..100_000).filter(|_| chance.happens(100_000)).count();
        assert!((9_000..11_000).contains(&hits), "{hits}");
        assert!(!chance.happens(0));
        assert!(chance.happens(1_000_000));
    }

    #[test]
    fn gives_streams_that_differ_and_repeat() {
        let first: Vec<u64> = (0..4).map(|purpose| Chance::stream(5, purpose).bits()).collect();
        let again: Vec<u64> = (0..4).map(|purpose| Chance::stream(5, purpose).bits()).collect();
        assert_eq!(first, again);
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
