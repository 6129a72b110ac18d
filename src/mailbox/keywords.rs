//! Keywords of a mailbox: their names, and the sets of them that messages have.
//!
//! A message points to a set by a number of 16 bits; a set is a mask over the names. Names are
//! compared without case (RFC 9051 §2.3.2) and keep the spelling that came first. Both lists only
//! grow, so that a number stays what it is for every view and every page.

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

    /// All names that were ever used here, in the order of their bits.
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

    /// The bit of a name, as a mask; 0 if it was never used here.
    pub fn bit(&self, name: &str) -> u64 {
        let at = self.names.iter().position(|known| known.eq_ignore_ascii_case(name));
        at.map_or(0, |at| 1 << at)
    }

    /// Whether `names` find a place beside those that are known. A set more than that may be
    /// needed for each of them.
    pub(super) fn has_room<'n>(&self, names: impl Iterator<Item = &'n str>) -> bool {
        let fresh = names.filter(|name| self.bit(name) == 0).count();
        self.names.len() + fresh <= KEYWORDS_MAX
    }

    /// Whether a client may use a name that was not used here yet (RFC 9051 §7.1, `\*`).
    pub fn takes_more(&self) -> bool {
        self.names.len() < KEYWORDS_MAX
    }

    /// The bit of a name, which is added if it is new; 0 if there is no place for it.
    pub(super) fn learn(&mut self, name: &str) -> u64 {
        match self.bit(name) {
            0 if self.names.len() < KEYWORDS_MAX => {
                self.names.reserve_exact(1);
                self.names.push(name.into());
                1 << (self.names.len() - 1)
            }
            bit => bit,
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
        let work = keywords.learn("Work");
        assert_eq!(keywords.learn("WORK"), work);
        let both = work | keywords.learn("$Junk");
        let set = keywords.intern(both);
        assert_eq!((keywords.intern(0), keywords.intern(both)), (0, set));
        assert_eq!(keywords.of(set).collect::<Vec<_>>(), ["Work", "$Junk"]);
        assert_eq!(keywords.of(0).count(), 0);
        assert_eq!((keywords.bit("work"), keywords.bit("other")), (work, 0));
    }

    #[test]
    fn has_64_names_and_no_more() {
        let mut keywords = Keywords::default();
        for number in 0..KEYWORDS_MAX {
            assert!(keywords.takes_more() && keywords.learn(&format!("k{number}")) != 0);
        }
        assert!(!keywords.takes_more() && keywords.learn("one more") == 0);
        assert!(keywords.has_room(["K3"].into_iter()) && !keywords.has_room(["x"].into_iter()));
    }
}
