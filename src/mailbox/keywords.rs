//! Keywords of a mailbox: their names, and the sets of them that messages have.
//!
//! A message points to a set by a number of 16 bits; a set is a mask over the names. Names are
//! compared without case (RFC 9051 §2.3.2) and keep the spelling that came first. Both lists only
//! grow, so that a number stays what it is for every view and every page. Once all places are
//! taken, a new name gets that of one that no message has: sets with its bit may be left over, but
//! none that a message points to.

use crate::bytes::codec::to_usize;
use crate::model::limits::{KEYWORD_SETS_MAX, KEYWORDS_MAX};

/// Names and sets of one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keywords {
    names: Vec<Box<str>>,
    /// The mask of set `n + 1`; set 0 is the empty one.
    sets: Vec<u64>,
}

impl Keywords {
    /// As they were saved; `None` if they cannot have been.
    pub(super) fn from_saved(names: Vec<Box<str>>, sets: Vec<u64>) -> Option<Keywords> {
        (names.len() <= KEYWORDS_MAX && sets.len() < KEYWORD_SETS_MAX)
            .then_some(Keywords { names, sets })
    }

    /// All names that were ever used here and have a place still, in the order of their bits.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    pub(super) fn sets(&self) -> &[u64] {
        &self.sets
    }

    /// The mask of a set.
    pub fn mask(&self, set: u16) -> u64 {
        match usize::from(set).checked_sub(1) {
            Some(at) => self.sets.get(at).copied().unwrap_or(0),
            None => 0,
        }
    }

    /// The names of a set.
    pub fn of(&self, set: u16) -> impl Iterator<Item = &str> {
        let mask = self.mask(set);
        let named = self.names.iter().enumerate();
        named.filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| &**name)
    }

    /// The mask of a set over the names as they are `later`; `None` if one has no place any more.
    pub fn mask_later(&self, set: u16, later: &Keywords) -> Option<u64> {
        let mut bits = self.of(set).map(|name| Some(later.bit(name)).filter(|bit| *bit != 0));
        bits.try_fold(0, |mask, bit| Some(mask | bit?))
    }

    /// The bits of the names that messages with these sets have.
    pub(super) fn in_use(&self, sets: impl Iterator<Item = u16>) -> u64 {
        let (mut mask, mut last) = (0, 0);
        for set in sets {
            if set != last {
                mask |= self.mask(set);
                last = set;
            }
        }
        mask
    }

    /// The bit of a name, as a mask; 0 if it was never used here.
    pub fn bit(&self, name: &str) -> u64 {
        let at = self.names.iter().position(|known| known.eq_ignore_ascii_case(name));
        at.map_or(0, |at| 1 << at)
    }

    /// Whether there are places for so many names more without taking one away.
    pub(super) fn has_places(&self, count: usize) -> bool {
        self.names.len() + count <= KEYWORDS_MAX
    }

    /// Whether `names`, none of them twice, find a place beside those that messages have.
    pub(super) fn has_room<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        in_use: impl FnOnce() -> u64,
    ) -> bool {
        let (mut named, mut fresh) = (0, 0);
        for name in names {
            let bit = self.bit(name);
            named |= bit;
            fresh += usize::from(bit == 0);
        }
        let stay = || (named | in_use()).count_ones();
        self.has_places(fresh) || to_usize(stay().into()) + fresh <= KEYWORDS_MAX
    }

    /// The bit of a name. A new one is added, or gets the place of one whose bit is not `in_use`; 0
    /// if there is none.
    pub(super) fn learn(&mut self, name: &str, in_use: u64) -> u64 {
        let bit = self.bit(name);
        if bit != 0 {
            return bit;
        }
        if self.has_places(1) {
            self.names.reserve_exact(1);
            self.names.push(name.into());
            return 1 << (self.names.len() - 1);
        }
        let at = (!in_use).trailing_zeros();
        match self.names.get_mut(to_usize(at.into())) {
            Some(place) => {
                *place = name.into();
                1 << at
            }
            None => 0,
        }
    }

    /// Gives a place back to the name that had it before.
    pub(super) fn rename(&mut self, bit: u8, name: &str) {
        if let Some(place) = self.names.get_mut(usize::from(bit)) {
            *place = name.into();
        }
    }

    /// The number of a set. Should the numbers run out (each would have to be another
    /// combination), the message keeps the set that has most of it.
    pub(super) fn intern(&mut self, mask: u64) -> u16 {
        if mask == 0 {
            return 0;
        }
        let known = self.sets.iter().position(|&set| set == mask);
        let at = known.unwrap_or_else(|| {
            if self.sets.len() + 1 < KEYWORD_SETS_MAX {
                self.sets.push(mask);
                return self.sets.len() - 1;
            }
            let common = |(_, set): &(usize, &u64)| (*set & mask).count_ones();
            let best = self.sets.iter().enumerate().filter(|(_, set)| *set & !mask == 0);
            best.max_by_key(common).map_or(usize::MAX, |(at, _)| at)
        });
        u16::try_from(at.wrapping_add(1)).unwrap_or(0)
    }

    pub(super) fn heap_octets(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        names + self.sets.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_its_number_and_a_name_its_first_spelling() {
        let mut keywords = Keywords::default();
        let work = keywords.learn("Work", 0);
        assert_eq!(keywords.learn("WORK", 0), work);
        let both = work | keywords.learn("$Junk", 0);
        let set = keywords.intern(both);
        assert_eq!((keywords.intern(0), keywords.intern(both)), (0, set));
        assert_eq!(keywords.of(set).collect::<Vec<_>>(), ["Work", "$Junk"]);
        assert_eq!(keywords.of(0).count(), 0);
        assert_eq!((keywords.bit("work"), keywords.bit("other")), (work, 0));
    }

    /// Full of `k0` to `k63`.
    fn full() -> Keywords {
        let mut keywords = Keywords::default();
        for number in 0..KEYWORDS_MAX {
            assert_ne!(keywords.learn(&format!("k{number}"), u64::MAX), 0);
        }
        keywords
    }

    #[test]
    fn has_64_names_and_no_more() {
        let mut keywords = full();
        assert_eq!(keywords.learn("one more", u64::MAX), 0);
        let has_room = |name| keywords.has_room([name].into_iter(), || u64::MAX);
        assert!(has_room("K3") && !has_room("x"));
    }

    #[test]
    fn a_new_name_gets_the_place_of_one_that_no_message_has() {
        let mut keywords = full();
        let (old, stale) = (keywords.intern(0b11), keywords.intern(0b100));
        let before = keywords.clone();
        let in_use = keywords.in_use([0, old, old].into_iter());
        assert_eq!(in_use, 0b11);
        let has_room = |names: &[&str]| keywords.has_room(names.iter().copied(), || !0b1100);
        assert!(has_room(&["x", "y"]) && has_room(&["x", "k2"]));
        assert!(!has_room(&["x", "y", "k2"]), "all that is named has to have a place");
        assert_eq!(keywords.learn("x", in_use), 0b100);
        assert_eq!((keywords.bit("k2"), keywords.bit("X")), (0, 0b100));
        assert_eq!(keywords.of(old).collect::<Vec<_>>(), ["k0", "k1"]);
        // A set that nobody pointed to may be used for what it means now.
        assert_eq!(keywords.intern(0b100), stale);
        assert_eq!(before.mask_later(old, &keywords), Some(0b11));
        assert_eq!(before.mask_later(stale, &keywords), None, "k2 is no more");
    }
}
