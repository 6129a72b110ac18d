//! Greylisting (RFC 6647): who is not known is asked to come back, and who does is known.
//!
//! A *triplet* is network, sender and recipient. The first attempt of one is refused for now; one
//! that comes again after [`Settings::delay`] and within [`Settings::window`] passes, and so do all
//! later ones for [`Settings::keep`] after the last. A network of which several triplets passed is
//! not asked any more at all.
//!
//! ```text
//!   first seen ──── delay ────┬───────────── window ─────────────┐
//!     451, come back          │ passes: kept for `keep`, anew    │ as if never seen
//! ```
//!
//! Both are remembered in tables of fixed size that all shards share, one atomic word an entry, in
//! sets of eight; a new entry takes the place of the one that was unseen for longest, of those that
//! wait before those that passed. A flood of made-up senders can so make others wait longer, never
//! take memory. Nothing is kept over a restart: who was known waits once more.
//!
//! ```text
//!   word := fingerprint 28 bits | passes 4 bits | second 32 bits          0: empty
//! ```

use super::network;
use crate::model::time::Mono;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const WAYS: usize = 8;
const PASSES_MAX: u64 = 15;
/// Networks that passed, as many as a large server hears from.
const NETWORKS: usize = 1 << 16;

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub delay: Duration,
    pub window: Duration,
    pub keep: Duration,
    /// Triplets of a network that have to pass before it is not asked any more; up to 15.
    pub network_passes: u8,
}

/// Whether a message is taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Passes,
    /// After so long.
    ComeBack(Duration),
}

/// See the header.
#[derive(Debug)]
pub struct Greylist {
    triplets: Table,
    networks: Table,
    key: [u8; 16],
}

impl Greylist {
    /// Room for about so many triplets, 8 octets each.
    pub fn new(triplets: usize, key: [u8; 16]) -> Greylist {
        Greylist { triplets: Table::new(triplets), networks: Table::new(NETWORKS), key }
    }

    /// Judges one recipient of one message; addresses as they were given.
    pub fn judge(
        &self,
        client: IpAddr,
        sender: &str,
        recipient: &str,
        settings: &Settings,
        now: Mono,
    ) -> Patience {
        // From 1 on: a word of 0 is empty.
        let now = u32::try_from(now.0.as_secs()).unwrap_or(u32::MAX - 1) + 1;
        let network = self.hash(client, "", "");
        let known = self.networks.find(network);
        let needed = u64::from(settings.network_passes).min(PASSES_MAX);
        if let Some(known) = known
            && known.passes >= needed
            && now.saturating_sub(known.at) <= seconds(settings.keep)
        {
            self.networks.put(network, Entry { passes: known.passes, at: now });
            return Patience::Passes;
        }
        let triplet = self.hash(client, &stable(sender), &recipient.to_ascii_lowercase());
        let delay = seconds(settings.delay);
        match self.triplets.find(triplet) {
            Some(seen)
                if seen.passes > 0 && now.saturating_sub(seen.at) <= seconds(settings.keep) =>
            {
                self.triplets.put(triplet, Entry { passes: 1, at: now });
                Patience::Passes
            }
            Some(seen)
                if seen.passes == 0 && now.saturating_sub(seen.at) <= seconds(settings.window) =>
            {
                let waited = now.saturating_sub(seen.at);
                if waited < delay {
                    return Patience::ComeBack(Duration::from_secs((delay - waited).into()));
                }
                self.triplets.put(triplet, Entry { passes: 1, at: now });
                let passes = known.map_or(0, |known| known.passes) + 1;
                self.networks.put(network, Entry { passes: passes.min(PASSES_MAX), at: now });
                Patience::Passes
            }
            _ => {
                self.triplets.put(triplet, Entry { passes: 0, at: now });
                Patience::ComeBack(settings.delay)
            }
        }
    }

    fn hash(&self, client: IpAddr, sender: &str, recipient: &str) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&self.key);
        match network(client) {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.write(sender.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(recipient.as_bytes());
        hasher.finish()
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// A sender as far as it stays the same from message to message: lists write numbers into it.
fn stable(sender: &str) -> String {
    let mut out = String::with_capacity(sender.len());
    for letter in sender.chars() {
        match letter {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            letter => out.push(letter.to_ascii_lowercase()),
        }
    }
    out
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    passes: u64,
    at: u32,
}

#[derive(Debug)]
struct Table {
    words: Box<[AtomicU64]>,
}

impl Table {
    fn new(entries: usize) -> Table {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        let zeros = vec![0_u64; sets * WAYS];
        Table { words: zeros.into_iter().map(AtomicU64::new).collect() }
    }

    fn set(&self, hash: u64) -> &[AtomicU64] {
        let sets = self.words.len() / WAYS;
        let set = usize::try_from(hash).expect("64 bits") & (sets - 1);
        &self.words[set * WAYS..(set + 1) * WAYS]
    }

    fn find(&self, hash: u64) -> Option<Entry> {
        let words = self.set(hash).iter().map(|word| word.load(Relaxed));
        words.into_iter().find(|&word| word != 0 && same(word, hash)).map(read)
    }

    fn put(&self, hash: u64, entry: Entry) {
        let word = fingerprint(hash) | entry.passes << 32 | u64::from(entry.at);
        // Its own place, else an empty one, else the one that is missed least.
        let worth = |place: &&AtomicU64| match place.load(Relaxed) {
            old if old != 0 && same(old, hash) => (0, 0, 0),
            0 => (1, 0, 0),
            old => (2, read(old).passes.min(1), read(old).at),
        };
        let place = self.set(hash).iter().min_by_key(worth);
        place.expect("a set has places").store(word, Relaxed);
    }
}

/// The bits of a hash that choose no set.
fn fingerprint(hash: u64) -> u64 {
    hash & !((1 << 36) - 1)
}

fn same(word: u64, hash: u64) -> bool {
    fingerprint(word) == fingerprint(hash)
}

fn read(word: u64) -> Entry {
    let at = u32::try_from(word & u64::from(u32::MAX)).expect("32 bits");
    Entry { passes: word >> 32 & PASSES_MAX, at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SETTINGS: Settings = Settings {
        delay: Duration::from_mins(5),
        window: Duration::from_hours(2),
        keep: Duration::from_hours(24),
        network_passes: 2,
    };

    fn greylist() -> Greylist {
        Greylist::new(1 << 10, [5; 16])
    }

    fn judge(greylist: &Greylist, client: [u8; 4], sender: &str, second: u64) -> Patience {
        let now = Mono(Duration::from_secs(second));
        greylist.judge(Ipv4Addr::from(client).into(), sender, "a@local.example", &SETTINGS, now)
    }

    fn come_back(seconds: u64) -> Patience {
        Patience::ComeBack(Duration::from_secs(seconds))
    }

    #[test]
    fn lets_those_through_who_come_back_in_time() {
        let greylist = greylist();
        let at = |second| judge(&greylist, [192, 0, 2, 1], "X@remote.example", second);
        assert_eq!(at(0), come_back(300));
        assert_eq!(at(100), come_back(200));
        assert_eq!(at(299), come_back(1));
        assert_eq!(at(300), Patience::Passes);
        // Another machine of the same network, another number of the same list.
        let list = judge(&greylist, [192, 0, 2, 200], "x@remote.example", 301);
        assert_eq!(list, Patience::Passes);
        assert_eq!(judge(&greylist, [192, 0, 3, 1], "x@remote.example", 301), come_back(300));
        assert_eq!(judge(&greylist, [192, 0, 2, 1], "y@remote.example", 301), come_back(300));
        // Unseen for longer than it is kept.
        assert_eq!(at(301 + 86_400), Patience::Passes);
        assert_eq!(at(302 + 2 * 86_400), come_back(300));
    }

    #[test]
    fn begins_anew_with_who_comes_back_too_late() {
        let greylist = greylist();
        let at = |second| judge(&greylist, [192, 0, 2, 1], "x@remote.example", second);
        assert_eq!(at(0), come_back(300));
        assert_eq!(at(7_201), come_back(300));
        assert_eq!(at(7_501), Patience::Passes);
    }

    #[test]
    fn asks_a_network_no_more_of_which_several_came_back() {
        let greylist = greylist();
        for (number, want) in [come_back(300), come_back(300), Patience::Passes].iter().enumerate()
        {
            let sender = ["a@r.example", "b@r.example", "c@r.example"][number];
            let start = 1_000 * number as u64;
            assert_eq!(judge(&greylist, [192, 0, 2, 1], sender, start), *want, "{sender}");
            assert_eq!(judge(&greylist, [192, 0, 2, 1], sender, start + 300), Patience::Passes);
        }
        assert_eq!(judge(&greylist, [192, 0, 3, 1], "c@r.example", 9_000), come_back(300));
    }

    #[test]
    fn takes_numbers_in_a_sender_for_the_same() {
        assert_eq!(stable("Bounce-123-4a@List.example"), "bounce-#-#a@list.example");
        assert_eq!(stable(""), "");
    }

    /// More triplets than there is room for: those that passed stay, the memory too.
    #[test]
    fn forgets_those_that_wait_before_those_that_passed() {
        let greylist = greylist();
        let passed: Vec<String> =
            (b'a'..=b'z').map(|one| format!("{}@r.example", one as char)).collect();
        for (number, sender) in passed.iter().enumerate() {
            let client = [198, 51, u8::try_from(number).unwrap(), 1];
            judge(&greylist, client, sender, 0);
            assert_eq!(judge(&greylist, client, sender, 300), Patience::Passes);
        }
        let flood = |number: u64| {
            format!(
                "{}@spam.example",
                format!("{number:x}").replace(|c: char| c.is_ascii_digit(), "g")
            )
        };
        for number in 0..20_000 {
            judge(&greylist, [203, 0, 113, 1], &flood(number), 400 + number);
        }
        let kept = passed.iter().enumerate().filter(|(number, sender)| {
            let client = [198, 51, u8::try_from(*number).unwrap(), 1];
            judge(&greylist, client, sender, 21_000) == Patience::Passes
        });
        assert_eq!(kept.count(), passed.len());
        assert_eq!(greylist.triplets.words.len(), 1 << 10);
    }
}
