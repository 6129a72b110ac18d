//! Messages that are being received, and the memory that a shard has for them.
//!
//! A draft takes memory as octets really come. What SIZE promises holds nothing: a client that
//! promises much and then says nothing keeps nobody out. Once a fair part of it is there, the
//! promise is believed, so that most messages are moved once at most and take no more than they
//! need.
//!
//! Invariant: `used` of a [`Room`] is the sum of what its drafts, or its leases, hold, and never over
//! `max`.

use crate::wire::message::strip::Strip;
use std::cell::Cell;
use std::rc::Rc;

/// Octets that a draft begins with: the trace fields, and most of a short message.
const DRAFT_OCTETS_MIN: usize = 2_560;
/// A promise is believed when it is no more than this many times what has come.
const PROMISE_FACTOR_MAX: usize = 4;

/// The memory of one shard for one purpose: drafts, or what commands hold (see
/// [`Lease`](super::lease::Lease)).
#[derive(Debug)]
pub struct Room {
    used: Cell<usize>,
    max: usize,
    /// Octets of the largest message with its trace fields: no draft grows beyond it by guess.
    message_max: usize,
}

impl Room {
    /// Room for drafts of `max` octets together, and for one of `message_max` in any case.
    pub fn new(max: usize, message_max: usize) -> Rc<Room> {
        Rc::new(Room { used: Cell::new(0), max: max.max(message_max), message_max })
    }

    /// Octets that are held.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Octets that there are.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    fn take(&self, octets: usize) -> bool {
        self.exchange(0, octets)
    }

    /// Gives `old` octets back for `new` ones. False, and nothing changes: the room is full.
    pub(super) fn exchange(&self, old: usize, new: usize) -> bool {
        let used = self.used.get() - old + new;
        let fits = new <= old || used <= self.max;
        if fits {
            self.used.set(used);
        }
        fits
    }

    fn give_back(&self, octets: usize) {
        self.used.set(self.used.get() - octets);
    }
}

/// One message, trace fields first. Gives its memory back when it is dropped.
#[derive(Debug)]
pub struct Draft {
    room: Rc<Room>,
    octets: Vec<u8>,
    /// What leaves out a Return-Path and tells the body from our fields; a message that a client
    /// appends stays as it is.
    strip: Option<Strip>,
    /// What the message will have if the client is right.
    promised: usize,
    /// Octets of the room.
    held: usize,
    /// There was no room for the rest.
    overflowed: bool,
}

impl Draft {
    /// `None`: the room is full. `promised` octets are to come behind what `put_trace` writes.
    pub fn begin(
        room: &Rc<Room>,
        promised: u64,
        put_trace: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Draft> {
        let mut octets = Vec::with_capacity(DRAFT_OCTETS_MIN);
        put_trace(&mut octets);
        let held = octets.capacity();
        let promised = usize::try_from(promised).unwrap_or(usize::MAX);
        let promised = promised.saturating_add(octets.len() + Strip::GROWTH);
        let room = room.take(held).then(|| Rc::clone(room))?;
        let strip = Some(Strip::new());
        Some(Draft { room, octets, strip, promised, held, overflowed: false })
    }

    /// The same for a message that a user submits: its Bcc fields are left out too. To be said before
    /// anything is appended.
    #[must_use]
    pub fn without_bcc(mut self) -> Draft {
        self.strip = Some(Strip::submitted());
        self
    }

    /// The same for a message that is kept octet for octet.
    pub fn verbatim(room: &Rc<Room>, promised: u64) -> Option<Draft> {
        let mut draft = Draft::begin(room, promised, |_| ())?;
        draft.strip = None;
        Some(draft)
    }

    /// Appends to the message, but for the fields that it is not to have; without room the message is
    /// given up, and its end says so.
    pub fn append(&mut self, octets: &[u8]) {
        if self.overflowed {
            return;
        }
        let growth = self.strip.as_ref().map_or(0, Strip::growth);
        let need = self.octets.len() + octets.len() + growth;
        if need > self.octets.capacity() && !self.grow(need) {
            self.octets = Vec::new();
            self.room.give_back(std::mem::take(&mut self.held));
            self.overflowed = true;
            return;
        }
        match &mut self.strip {
            Some(strip) => strip.copy(octets, &mut self.octets),
            None => self.octets.extend_from_slice(octets),
        }
    }

    /// The whole message; `None` if there was no room for it.
    pub fn end(mut self) -> Option<Vec<u8>> {
        if self.overflowed {
            return None;
        }
        if let Some(strip) = &mut self.strip {
            strip.end(&mut self.octets);
        }
        Some(std::mem::take(&mut self.octets))
    }

    /// Makes place for `need` octets. False: the room is full.
    fn grow(&mut self, need: usize) -> bool {
        let is_fair = need <= self.promised && self.promised <= need * PROMISE_FACTOR_MAX;
        let doubled = (self.octets.capacity() * 2).min(self.room.message_max);
        let grown = if is_fair { self.promised } else { doubled.max(need) };
        if !self.room.take(grown - self.held) {
            return false;
        }
        self.held = grown;
        self.octets.reserve_exact(grown - self.octets.len());
        true
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.room.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &[u8] = b"Return-Path: <>\r\n";

    fn begin(room: &Rc<Room>, promised: u64) -> Option<Draft> {
        Draft::begin(room, promised, |out| out.extend_from_slice(TRACE))
    }

    /// The front of a message of so many octets, with a header.
    fn front(octets: usize) -> Vec<u8> {
        let mut text = vec![b'x'; octets];
        text[..7].copy_from_slice(b"a:b\r\n\r\n");
        text
    }

    #[test]
    fn holds_nothing_for_a_promise() {
        let room = Room::new(1 << 20, 100_000);
        let idle: Vec<_> = (0..300).map(|_| begin(&room, u64::MAX).unwrap()).collect();
        assert_eq!(room.used(), 300 * DRAFT_OCTETS_MIN);
        let mut busy = begin(&room, 10_000).unwrap();
        busy.append(&front(10_000));
        assert_eq!(busy.end().unwrap().len(), TRACE.len() + 10_000);
        drop(idle);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn believes_a_promise_when_part_of_it_is_there() {
        let room = Room::new(1 << 20, 1 << 20);
        let mut draft = begin(&room, 100_000).unwrap();
        let around = TRACE.len() + Strip::GROWTH;
        draft.append(&front(20_000));
        assert_eq!(room.used(), 20_000 + around, "a fifth is too little");
        draft.append(&vec![b'x'; 20_000]);
        assert_eq!(room.used(), 100_000 + around);
        draft.append(&vec![b'x'; 80_000]);
        assert_eq!(room.used(), 2 * (100_000 + around), "it was wrong");
        assert_eq!(draft.end().unwrap().len(), 120_000 + TRACE.len());
    }

    #[test]
    fn grows_by_doubling_up_to_the_largest_message() {
        let room = Room::new(0, 30_000);
        let mut draft = begin(&room, 0).unwrap();
        for octet in front(29_000) {
            draft.append(&[octet]);
        }
        assert_eq!(room.used(), 30_000, "the room holds one largest message in any case");
        assert_eq!(draft.end().unwrap().len(), 29_000 + TRACE.len());
    }

    #[test]
    fn keeps_one_return_path_ours() {
        let room = Room::new(1 << 20, 1 << 20);
        let mut draft = begin(&room, 0).unwrap();
        for part in ["To: b\r\nreturn-", "path: <a>\r\n (x)", "\r\nCc: c\r\n\r\nx\r\n"] {
            draft.append(part.as_bytes());
        }
        let want = [TRACE, b"To: b\r\nCc: c\r\n\r\nx\r\n"].concat();
        assert_eq!(draft.end().unwrap(), want);
    }

    #[test]
    fn gives_a_message_up_that_finds_no_room_and_takes_the_next() {
        let room = Room::new(30_000, 30_000);
        let mut first = begin(&room, 0).unwrap();
        first.append(&front(20_000));
        let mut second = begin(&room, 0).unwrap();
        second.append(&front(20_000));
        second.append(b"x");
        assert!(second.end().is_none());
        assert_eq!(room.used(), 20_000 + TRACE.len() + Strip::GROWTH);
        let filled: Vec<_> = std::iter::from_fn(|| begin(&room, 0)).collect();
        assert_eq!(filled.len(), (10_000 - TRACE.len()) / DRAFT_OCTETS_MIN);
        drop(first);
        assert!(begin(&room, 0).is_some());
    }
}
