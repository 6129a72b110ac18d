//! A map from names to what bears them, of which a changed copy costs little.
//!
//! Extendible hashing: the upper bits of a name's hash choose a shelf, the lowest eight a page of
//! it, and a page is a short array that is looked through. A lookup touches the shelf, the page, the
//! entry and its name. Among 100,000 names in random order that took 450 ns where a persistent hash
//! trie, which touches ten places, took 1,600 ns (two busy cores, the whole of `resolve`). Shelves
//! and pages are shared between copies; a change copies its page, its shelf of 256 pointers, and the
//! list of shelves: 10 µs. A shelf that grew too large is split in two, so that no change ever has to
//! move more than one shelf.

use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Pages of one shelf; the lowest bits of a hash.
const PAGES: usize = 256;
/// Entries of one shelf before it is split: 6 to 12 a page.
const SHELF_ENTRIES_MAX: usize = 12 * PAGES;
/// Bits that choose a shelf, at most: enough for 10^10 names, however uneven their hashes.
const DEPTH_MAX: u32 = 24;

/// What can be kept in a table.
pub(super) trait Named: Clone {
    fn name(&self) -> &str;
}

type Page<V> = Arc<[Slot<V>]>;

#[derive(Clone)]
struct Slot<V> {
    hash: u64,
    value: V,
}

#[derive(Clone)]
struct Shelf<V> {
    /// Bits of the hash that all names here have in common.
    depth: u32,
    len: usize,
    pages: [Page<V>; PAGES],
}

/// See the module. Clones share everything until they are changed.
#[derive(Clone)]
pub(super) struct Table<V> {
    /// Which shelf the upper `depth` bits of a hash lead to; 2^depth of them.
    index: Vec<u32>,
    depth: u32,
    shelves: Vec<Arc<Shelf<V>>>,
    len: usize,
}

impl<V: Named> Table<V> {
    pub(super) fn new() -> Table<V> {
        Table { index: vec![0], depth: 0, shelves: vec![Arc::new(Shelf::new(0))], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&V> {
        let hash = xxh3_64(name);
        let shelf = &self.shelves[self.shelf(hash)];
        let slot = shelf.pages[page(hash)].iter().find(|slot| slot.is(hash, name))?;
        Some(&slot.value)
    }

    /// Puts `value` under its name, in place of what was there.
    pub(super) fn set(&mut self, value: &V) {
        let hash = xxh3_64(value.name().as_bytes());
        let mut shelf = self.shelf(hash);
        if self.shelves[shelf].len >= SHELF_ENTRIES_MAX && self.shelves[shelf].depth < DEPTH_MAX {
            self.split(shelf);
            shelf = self.shelf(hash);
        }
        let shelf = Arc::make_mut(&mut self.shelves[shelf]);
        let page = &mut shelf.pages[page(hash)];
        let others = page.iter().filter(|slot| !slot.is(hash, value.name().as_bytes()));
        let changed: Page<V> =
            others.cloned().chain([Slot { hash, value: value.clone() }]).collect();
        let added = changed.len() - page.len();
        *page = changed;
        shelf.len += added;
        self.len += added;
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if self.get(name).is_none() {
            return;
        }
        let hash = xxh3_64(name);
        let shelf = self.shelf(hash);
        let shelf = Arc::make_mut(&mut self.shelves[shelf]);
        let page = &mut shelf.pages[page(hash)];
        *page = page.iter().filter(|slot| !slot.is(hash, name)).cloned().collect();
        shelf.len -= 1;
        self.len -= 1;
    }

    /// Everything, in the order of the hashes' upper bits or so; the same for the same history.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        let pages = self.shelves.iter().flat_map(|shelf| &shelf.pages);
        pages.flat_map(|page| page.iter()).map(|slot| &slot.value)
    }

    fn shelf(&self, hash: u64) -> usize {
        // Two shifts, since one by 64 would be none.
        let place = hash >> 1 >> (63 - self.depth);
        let place = usize::try_from(place).expect("a place has at most 24 bits");
        usize::try_from(self.index[place]).expect("32 bits fit")
    }

    fn split(&mut self, number: usize) {
        let full = Arc::clone(&self.shelves[number]);
        if full.depth == self.depth {
            self.index = self.index.iter().flat_map(|&shelf| [shelf, shelf]).collect();
            self.depth += 1;
        }
        let is_upper = |slot: &&Slot<V>| slot.hash >> (63 - full.depth) & 1 == 1;
        let mut lower = Shelf::new(full.depth + 1);
        let mut upper = Shelf::new(full.depth + 1);
        for (place, page) in full.pages.iter().enumerate() {
            lower.pages[place] = page.iter().filter(|slot| !is_upper(slot)).cloned().collect();
            upper.pages[place] = page.iter().filter(is_upper).cloned().collect();
            lower.len += lower.pages[place].len();
            upper.len += upper.pages[place].len();
        }
        let added = u32::try_from(self.shelves.len()).expect("at most 2^24 shelves");
        self.shelves[number] = Arc::new(lower);
        self.shelves.push(Arc::new(upper));
        // Of the places that led to the full shelf, the upper half leads to the new one.
        let number = u32::try_from(number).expect("at most 2^24 shelves");
        let bit = self.depth - full.depth - 1;
        for (place, shelf) in self.index.iter_mut().enumerate() {
            if *shelf == number && place >> bit & 1 == 1 {
                *shelf = added;
            }
        }
    }
}

fn page(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[0])
}

impl<V: Named> Slot<V> {
    fn is(&self, hash: u64, name: &[u8]) -> bool {
        self.hash == hash && self.value.name().as_bytes() == name
    }
}

impl<V> Shelf<V> {
    fn new(depth: u32) -> Shelf<V> {
        let empty: Page<V> = Arc::new([]);
        Shelf { depth, len: 0, pages: std::array::from_fn(|_| Arc::clone(&empty)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::hash::Sorted;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Thing(Arc<str>, u32);

    impl Named for Thing {
        fn name(&self) -> &str {
            &self.0
        }
    }

    fn thing(number: u32, value: u32) -> Thing {
        Thing(format!("thing {number}").into(), value)
    }

    #[track_caller]
    fn check(table: &Table<Thing>, model: &Sorted<u32, u32>, numbers: u32) {
        assert_eq!(table.len(), model.len());
        assert_eq!(table.values().count(), model.len());
        for number in 0..numbers {
            let got = table.get(thing(number, 0).name().as_bytes()).map(|thing| thing.1);
            assert_eq!(got, model.get(&number).copied(), "{number}");
        }
    }

    /// Copies stay as they were, over many splits, and the table is what a map would be.
    #[test]
    fn is_a_map_whose_copies_stay_as_they_were() {
        const NUMBERS: u32 = 20_000;
        let (mut table, mut model) = (Table::new(), Sorted::new());
        let mut copies = Vec::new();
        for step in 0..2 * NUMBERS {
            let number = step.wrapping_mul(7_919) % NUMBERS;
            if step % 3 == 2 {
                table.remove(thing(number, 0).name().as_bytes());
                model.remove(&number);
            } else {
                table.set(&thing(number, step));
                model.insert(number, step);
            }
            if step % 9_000 == 1_000 {
                copies.push((table.clone(), model.clone()));
            }
        }
        assert!(table.shelves.len() > 4);
        copies.push((table, model));
        for (table, model) in &copies {
            check(table, model, NUMBERS);
        }
    }
}
