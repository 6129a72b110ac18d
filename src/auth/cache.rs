//! Credentials that were checked lately, known by a keyed hash, a bounded number of them.
//!
//! What is kept is 128 bits of BLAKE2b, keyed with a secret of the process, over the account, the
//! stored hash and the password: useless to whoever reads the memory without the key, and dead as
//! soon as the stored hash changes. The oldest that nobody asked for again goes first (CLOCK).

use crate::bytes::hash::Map;
use crate::model::id::AccountId;
use crate::model::time::Mono;
use blake2::Blake2bMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use std::net::IpAddr;

/// A credential as it is remembered.
pub(super) type Tag = u128;

/// The tag of a password that is said to be that of `stored`. `name` tells apart those who have no
/// account.
pub(super) fn tag(
    key: &[u8; 32],
    account: AccountId,
    name: &str,
    stored: &str,
    password: &str,
) -> Tag {
    let mut mac =
        Blake2bMac::<U16>::new_from_slice(key).expect("BLAKE2b takes keys of 1 to 64 octets");
    mac.update(&account.0.to_le_bytes());
    for text in [name, stored, password] {
        mac.update(&text.len().to_le_bytes());
        mac.update(text.as_bytes());
    }
    u128::from_le_bytes(mac.finalize().into_bytes().into())
}

/// The tag of a credential that was right from this site.
pub(super) fn from(tag: Tag, site: IpAddr) -> Tag {
    let (family, bits) = match site {
        IpAddr::V4(address) => (4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (6, address.to_bits()),
    };
    let mut octets = [family; 33];
    octets[..16].copy_from_slice(&tag.to_le_bytes());
    octets[16..32].copy_from_slice(&bits.to_le_bytes());
    xxhash_rust::xxh3::xxh3_128(&octets)
}

/// A salt that is as good as random to whoever does not know the key, and always the same.
pub(super) fn salt(key: &[u8; 16], kind: &str, name: &str) -> [u8; 16] {
    let mut mac =
        Blake2bMac::<U16>::new_from_slice(key).expect("BLAKE2b takes keys of 1 to 64 octets");
    mac.update(kind.as_bytes());
    mac.update(name.as_bytes());
    mac.finalize().into_bytes().into()
}

#[derive(Debug)]
struct Slot<V> {
    tag: Tag,
    until: Mono,
    is_used: bool,
    value: V,
}

/// Tags, and what is known of each, until their time is over or others need the room.
#[derive(Debug)]
pub(super) struct Cache<V = ()> {
    slots: Vec<Slot<V>>,
    places: Map<Tag, usize>,
    hand: usize,
    slots_max: usize,
}

impl<V> Cache<V> {
    pub(super) fn new(slots_max: usize) -> Cache<V> {
        Cache { slots: Vec::new(), places: Map::default(), hand: 0, slots_max: slots_max.max(1) }
    }

    pub(super) fn get(&mut self, tag: Tag, now: Mono) -> Option<&V> {
        let slot = self.places.get(&tag).and_then(|&place| self.slots.get_mut(place));
        let slot = slot.filter(|slot| slot.until > now)?;
        slot.is_used = true;
        Some(&slot.value)
    }

    pub(super) fn put(&mut self, tag: Tag, value: V, until: Mono, now: Mono) {
        let slot = Slot { tag, until, is_used: false, value };
        if let Some(&place) = self.places.get(&tag) {
            self.slots[place] = slot;
            return;
        }
        if self.slots.len() < self.slots_max {
            self.places.insert(tag, self.slots.len());
            self.slots.push(slot);
            return;
        }
        let place = self.room(now);
        self.places.remove(&self.slots[place].tag);
        self.places.insert(tag, place);
        self.slots[place] = slot;
    }

    /// The next place that is over its time or was not asked for since the hand came by.
    fn room(&mut self, now: Mono) -> usize {
        loop {
            let place = self.hand;
            self.hand = (place + 1) % self.slots.len();
            let slot = &mut self.slots[place];
            if !slot.is_used || slot.until <= now {
                return place;
            }
            slot.is_used = false;
        }
    }
}

/// Of which nothing is to be known but that they are there.
impl Cache {
    pub(super) fn contains(&mut self, tag: Tag, now: Mono) -> bool {
        self.get(tag, now).is_some()
    }

    pub(super) fn insert(&mut self, tag: Tag, until: Mono, now: Mono) {
        self.put(tag, (), until, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn makes_another_tag_of_whatever_differs() {
        let tags = [
            tag(&[1; 32], AccountId(1), "", "h", "p"),
            tag(&[2; 32], AccountId(1), "", "h", "p"),
            tag(&[1; 32], AccountId(2), "", "h", "p"),
            tag(&[1; 32], AccountId(1), "h", "", "p"),
            tag(&[1; 32], AccountId(1), "", "hp", ""),
            tag(&[1; 32], AccountId(1), "", "h", "P"),
        ];
        for (index, one) in tags.iter().enumerate() {
            assert!(tags[..index].iter().all(|other| other != one));
        }
        assert_eq!(tags[0], tag(&[1; 32], AccountId(1), "", "h", "p"));
    }

    #[test]
    fn forgets_when_the_time_is_over() {
        let mut cache: Cache = Cache::new(4);
        cache.insert(1, at(10), at(0));
        assert!(cache.contains(1, at(9)));
        assert!(!cache.contains(1, at(10)));
        cache.insert(1, at(20), at(10));
        assert!(cache.contains(1, at(19)));
    }

    #[test]
    fn stays_bounded_and_keeps_what_is_asked_for() {
        let mut cache: Cache = Cache::new(8);
        cache.insert(0, at(100), at(0));
        for tag in 1..1_000 {
            assert!(cache.contains(0, at(1)));
            cache.insert(tag, at(100), at(1));
            assert!(cache.slots.len() <= 8 && cache.places.len() == cache.slots.len());
        }
    }
}
