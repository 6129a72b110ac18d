//! What one simulated file holds: what is durable, what was written and not synced, and what is
//! on its way.
//!
//! ```text
//!   submit ──> flight ──complete──> unsynced ──sync──> durable
//!                 └───────── crash: by coin ──────────────┘
//! ```
//!
//! The durable octets lie in chunks that exist once they were written to, so that a file of zeros
//! costs nothing. Unsynced writes are whole blocks laid over them in the order in which they
//! completed; a sync moves those it covers down, a crash moves down what chance wants.

use super::chance::Chance;
use super::disk::Loss;
use std::collections::VecDeque;
use std::ops::Range;

/// The unit that a crash keeps or loses as a whole.
pub const SECTOR_OCTETS: usize = 512;

/// Octets that are allotted together.
const CHUNK_OCTETS: usize = 32 << 10;

/// Writes that wait for a sync. Over it the oldest becomes durable: disks do so on their own.
const UNSYNCED_MAX: usize = 512;

#[derive(Clone)]
struct Unsynced {
    stamp: u64,
    at: u64,
    octets: Box<[u8]>,
    /// A sync that covered it failed: readers still see it, the disk will never have it.
    lost: bool,
}

#[derive(Clone)]
struct Flight {
    id: u64,
    at: u64,
    octets: Box<[u8]>,
    /// When it lands although nobody waits for it any more.
    orphaned: Option<u64>,
}

/// How much of a write got to where it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    Nothing,
    Whole,
    /// The front of it, up to some sector.
    Prefix,
    /// Each sector by coin.
    Sectors,
    /// Each sector by coin old, new, or garbage.
    Garbage,
}

impl Landing {
    /// What a crash or a lost write may come to.
    pub(super) fn by_chance(chance: &Chance) -> Landing {
        match chance.below(8) {
            0 => Landing::Nothing,
            1 | 2 => Landing::Whole,
            3 | 4 => Landing::Prefix,
            _ => Landing::Sectors,
        }
    }

    /// What a write that reported an error may come to.
    pub(super) fn of_failure(chance: &Chance) -> Landing {
        match chance.below(5) {
            0 => Landing::Nothing,
            1 => Landing::Whole,
            2 => Landing::Prefix,
            3 => Landing::Sectors,
            _ => Landing::Garbage,
        }
    }
}

/// What became of the writes under a sync that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Still to be synced.
    Kept,
    /// Seen by readers until the next crash, and never durable.
    Lost,
    /// Gone at once: readers see what was there before.
    Gone,
}

/// The octets of one file.
#[derive(Clone)]
pub(super) struct Image {
    len: u64,
    chunks: Vec<Option<Box<[u8]>>>,
    unsynced: VecDeque<Unsynced>,
    flights: Vec<Flight>,
    stamps: u64,
    ids: u64,
    /// The file is not yet whole: its creation is under way.
    pub(super) creating: bool,
}

impl Image {
    /// A file of `len` zeros.
    pub(super) fn zeros(len: u64) -> Image {
        let chunks = to_usize(len).div_ceil(CHUNK_OCTETS);
        Image {
            len,
            chunks: vec![None; chunks],
            unsynced: VecDeque::new(),
            flights: Vec::new(),
            stamps: 0,
            ids: 0,
            creating: false,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Cuts the file off at `len`, durably.
    pub(super) fn cut(&mut self, len: u64) {
        let mut short = Image::zeros(len.min(self.len));
        let kept = self.durable(0, to_usize(short.len));
        short.store(0, &kept);
        *self = short;
    }

    /// A write leaves for the disk. Returns what it is called by while it is under way.
    pub(super) fn submit(&mut self, at: u64, octets: Box<[u8]>) -> u64 {
        self.ids += 1;
        self.flights.push(Flight { id: self.ids, at, octets, orphaned: None });
        self.ids
    }

    /// The write arrived; `landing` says how much of it, `at` where.
    pub(super) fn complete(&mut self, id: u64, at: Option<u64>, landing: Landing, chance: &Chance) {
        let Some(index) = self.flights.iter().position(|flight| flight.id == id) else { return };
        let flight = self.flights.remove(index);
        let at = at.unwrap_or(flight.at);
        if landing == Landing::Whole {
            return self.lay(at, flight.octets);
        }
        for (range, octets) in pieces(&flight.octets, landing, chance) {
            self.lay(at + range.start as u64, octets);
        }
    }

    /// Nobody waits for this write any more; it lands at `moment` all the same, or a part of it.
    pub(super) fn orphan(&mut self, id: u64, moment: u64) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.orphaned = Some(moment);
        }
    }

    /// Lands the orphans that are due. Call before anything else is done with the file.
    pub(super) fn settle(&mut self, now: u64, chance: &Chance) {
        while let Some(id) = self
            .flights
            .iter()
            .find(|flight| flight.orphaned.is_some_and(|moment| moment <= now))
            .map(|flight| flight.id)
        {
            self.complete(id, None, Landing::by_chance(chance), chance);
        }
    }

    fn lay(&mut self, at: u64, octets: Box<[u8]>) {
        self.stamps += 1;
        self.unsynced.push_back(Unsynced { stamp: self.stamps, at, octets, lost: false });
        if self.unsynced.len() > UNSYNCED_MAX {
            self.sink_first();
        }
    }

    /// The stamp of the last write that completed: a sync that starts now covers up to it.
    pub(super) fn stamp(&self) -> u64 {
        self.stamps
    }

    /// Everything up to `stamp` becomes durable.
    pub(super) fn sink(&mut self, stamp: u64) {
        // What was lost stays on top until a later write to the same place sinks past it.
        let mut passed = 0;
        while let Some(write) = self.unsynced.get(passed) {
            if write.stamp > stamp {
                return;
            }
            if write.lost {
                passed += 1;
            } else {
                passed -= self.sink_one(passed);
            }
        }
    }

    /// Makes the oldest write durable, or forgets it if it was lost.
    fn sink_first(&mut self) {
        if self.unsynced.front().is_some_and(|write| write.lost) {
            self.unsynced.pop_front();
        } else {
            self.sink_one(0);
        }
    }

    /// Makes one write durable. Lost writes before it that it overlaps are dropped, or they would
    /// cover it; returns how many.
    fn sink_one(&mut self, index: usize) -> usize {
        let write = self.unsynced.remove(index).expect("the caller found it there");
        self.store(write.at, &write.octets);
        let before = self.unsynced.len();
        let range = span(write.at, write.octets.len());
        let mut place = 0;
        self.unsynced.retain(|other| {
            place += 1;
            place > index || overlap(&span(other.at, other.octets.len()), &range).is_empty()
        });
        before - self.unsynced.len()
    }

    /// A sync of everything up to `stamp` failed: each write is kept, lost, or gone.
    pub(super) fn fail_sync(&mut self, stamp: u64, chance: &Chance) {
        let all = match chance.below(4) {
            0 => Some(Fate::Kept),
            1 => Some(Fate::Lost),
            2 => Some(Fate::Gone),
            _ => None,
        };
        self.unsynced.retain_mut(|write| {
            if write.stamp > stamp {
                return true;
            }
            let fate = all.unwrap_or_else(|| match chance.below(3) {
                0 => Fate::Kept,
                1 => Fate::Lost,
                _ => Fate::Gone,
            });
            write.lost |= fate == Fate::Lost;
            fate != Fate::Gone
        });
    }

    /// What a reader sees. Sectors that a write under way touches are old or new by coin.
    pub(super) fn read(&self, at: u64, len: usize, chance: Option<&Chance>) -> Vec<u8> {
        let mut view = self.durable(at, len);
        let window = span(at, len);
        for write in &self.unsynced {
            cover(&mut view, &window, write.at, &write.octets);
        }
        let Some(chance) = chance else { return view };
        for flight in &self.flights {
            if overlap(&window, &span(flight.at, flight.octets.len())).is_empty() {
                continue;
            }
            for (range, octets) in pieces(&flight.octets, Landing::Sectors, chance) {
                cover(&mut view, &window, flight.at + range.start as u64, &octets);
            }
        }
        view
    }

    /// The power goes. What stays of what was not synced is chosen by `loss`.
    pub(super) fn crash(&mut self, loss: Loss, chance: &Chance) {
        if self.creating {
            self.creating = false;
            // Its length was written block by block.
            let blocks = self.len / 4_096;
            let len = if chance.coin() { self.len } else { chance.below(blocks + 1) * 4_096 };
            self.cut(len);
        }
        for write in std::mem::take(&mut self.unsynced) {
            let landing = match loss {
                Loss::Nothing => Landing::Whole,
                Loss::Everything => Landing::Nothing,
                Loss::Chance => Landing::by_chance(chance),
            };
            // After a process alone dies the page cache still shows what will never be durable.
            if !write.lost {
                self.store_landed(write.at, &write.octets, landing, chance);
            }
        }
        let mut flights = std::mem::take(&mut self.flights);
        while !flights.is_empty() {
            let flight = flights.swap_remove(chance.index(flights.len()));
            if loss != Loss::Everything {
                let landing = Landing::by_chance(chance);
                self.store_landed(flight.at, &flight.octets, landing, chance);
            }
        }
    }

    fn store_landed(&mut self, at: u64, octets: &[u8], landing: Landing, chance: &Chance) {
        match landing {
            Landing::Nothing => {}
            Landing::Whole => self.store(at, octets),
            _ => {
                for (range, octets) in pieces(octets, landing, chance) {
                    self.store(at + range.start as u64, &octets);
                }
            }
        }
    }

    /// Changes what is durable and what readers see, past all rules: damage at rest.
    pub(super) fn damage(&mut self, at: u64, change: &mut dyn FnMut(&mut u8)) {
        let mut durable = self.durable(at, 1);
        change(&mut durable[0]);
        self.store(at, &durable);
        for write in &mut self.unsynced {
            if let Some(octet) =
                at.checked_sub(write.at).and_then(|offset| write.octets.get_mut(to_usize(offset)))
            {
                change(octet);
            }
        }
    }

    fn durable(&self, at: u64, len: usize) -> Vec<u8> {
        let mut view = vec![0; len];
        let mut done = 0;
        while done < len {
            let (chunk, offset) = place(at, done);
            let count = (CHUNK_OCTETS - offset).min(len - done);
            if let Some(Some(octets)) = self.chunks.get(chunk) {
                view[done..done + count].copy_from_slice(&octets[offset..offset + count]);
            }
            done += count;
        }
        view
    }

    fn store(&mut self, at: u64, octets: &[u8]) {
        let mut done = 0;
        while done < octets.len() {
            let (chunk, offset) = place(at, done);
            let count = (CHUNK_OCTETS - offset).min(octets.len() - done);
            let Some(slot) = self.chunks.get_mut(chunk) else { return };
            let held = slot.get_or_insert_with(|| vec![0; CHUNK_OCTETS].into_boxed_slice());
            held[offset..offset + count].copy_from_slice(&octets[done..done + count]);
            done += count;
        }
    }
}

/// The parts of a write that landed, each with its range within the write.
fn pieces(octets: &[u8], landing: Landing, chance: &Chance) -> Vec<(Range<usize>, Box<[u8]>)> {
    let sectors = octets.len().div_ceil(SECTOR_OCTETS);
    let mut landed = Vec::new();
    let prefix = match landing {
        Landing::Nothing => return landed,
        Landing::Whole => sectors,
        Landing::Prefix => chance.index(sectors + 1),
        Landing::Sectors | Landing::Garbage => 0,
    };
    if prefix > 0 {
        let end = (prefix * SECTOR_OCTETS).min(octets.len());
        landed.push((0..end, Box::from(&octets[..end])));
    }
    if !matches!(landing, Landing::Sectors | Landing::Garbage) {
        return landed;
    }
    for sector in 0..sectors {
        let start = sector * SECTOR_OCTETS;
        let range = start..(start + SECTOR_OCTETS).min(octets.len());
        let draw = chance.bits();
        if landing == Landing::Garbage && draw & 6 == 0 {
            let octet = draw.to_le_bytes()[3];
            landed.push((range.clone(), vec![octet; range.len()].into_boxed_slice()));
        } else if draw & 1 == 1 {
            landed.push((range.clone(), Box::from(&octets[range])));
        }
    }
    landed
}

fn span(at: u64, len: usize) -> Range<u64> {
    at..at + len as u64
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    one.start.max(other.start)..one.end.min(other.end)
}

/// Lays `octets` at `at` over a view of `window`.
fn cover(view: &mut [u8], window: &Range<u64>, at: u64, octets: &[u8]) {
    let both = overlap(window, &span(at, octets.len()));
    if both.is_empty() {
        return;
    }
    let to = to_usize(both.start - window.start);
    let from = to_usize(both.start - at);
    let count = to_usize(both.end - both.start);
    view[to..to + count].copy_from_slice(&octets[from..from + count]);
}

fn place(at: u64, done: usize) -> (usize, usize) {
    let position = to_usize(at) + done;
    (position / CHUNK_OCTETS, position % CHUNK_OCTETS)
}

fn to_usize(number: u64) -> usize {
    crate::bytes::codec::to_usize(number)
}
