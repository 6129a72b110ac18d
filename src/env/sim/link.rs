//! One connection of the simulated network: two pipes with segments on their way, seen from
//! either end. Knows the time only as an argument.

use super::chance::Chance;
use super::faults::Faults;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::Presence;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

/// A segment in flight: its octets are the next `len` of the pipe and can be read from `due` on.
struct Segment {
    due: u64,
    len: usize,
}

/// One direction.
struct Pipe {
    octets: VecDeque<u8>,
    segments: VecDeque<Segment>,
    /// When the last segment that was sent arrives; nothing overtakes it.
    last_due: u64,
    /// The writer has ended it; the reader sees that from this moment on.
    ended: Option<u64>,
    /// The reader is gone; the writer sees that from this moment on.
    deaf: Option<u64>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new() -> Pipe {
        Pipe {
            octets: VecDeque::new(),
            segments: VecDeque::new(),
            last_due: 0,
            ended: None,
            deaf: None,
            reader: None,
            writer: None,
        }
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.segments.clear();
    }

    fn wake_both(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// What an attempt came to.
pub(super) enum Outcome<T> {
    Done(io::Result<T>),
    /// Try again when woken, or at this moment.
    Wait(u64),
}

/// A connection. Side 0 has connected, side 1 has accepted; pipe `n` is written by side `n`.
pub(super) struct Link {
    pipes: [Pipe; 2],
    pub(super) addresses: [SocketAddr; 2],
    window: usize,
    /// Reset: both ends see that from this moment on.
    broken: Option<u64>,
    /// Nothing arrives any more, and nothing fails.
    pub(super) stalled: bool,
}

impl Link {
    pub(super) fn new(addresses: [SocketAddr; 2], window: usize, stalled: bool) -> Link {
        let pipes = [Pipe::new(), Pipe::new()];
        Link { pipes, addresses, window: window.max(1), broken: None, stalled }
    }

    /// Takes octets that have arrived at `side`.
    pub(super) fn read(
        &mut self,
        side: usize,
        now: u64,
        chance: &Chance,
        buffer: &mut Buffer,
        waker: &Waker,
    ) -> Outcome<usize> {
        let broken = self.broken.is_some_and(|moment| moment <= now);
        let pipe = &mut self.pipes[1 - side];
        if self.stalled {
            pipe.reader = Some(waker.clone());
            return Outcome::Wait(u64::MAX);
        }
        let mut arrived = 0;
        for segment in pipe.segments.iter().take_while(|segment| segment.due <= now) {
            // What arrived at different times comes together or apart, as it does.
            if arrived > 0 && chance.below(4) == 0 {
                break;
            }
            arrived += segment.len;
        }
        if arrived > 0 {
            let taken = take(&mut pipe.octets, arrived, buffer);
            forget(&mut pipe.segments, taken);
            pipe.wake_writer();
            return Outcome::Done(Ok(taken));
        }
        if broken {
            return Outcome::Done(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.segments.is_empty() && pipe.ended.is_some_and(|moment| moment <= now) {
            return Outcome::Done(Ok(0));
        }
        pipe.reader = Some(waker.clone());
        let next = pipe.segments.front().map_or(pipe.ended, |segment| Some(segment.due));
        let next = next.unwrap_or(u64::MAX).min(self.broken.unwrap_or(u64::MAX));
        Outcome::Wait(next)
    }

    /// Sends from the front of `chain` what the window takes; done when it is empty.
    pub(super) fn write(
        &mut self,
        side: usize,
        now: u64,
        chance: &Chance,
        faults: &Faults,
        chain: &mut Chain,
        waker: &Waker,
    ) -> Outcome<()> {
        if chain.is_empty() {
            return Outcome::Done(Ok(()));
        }
        if self.broken.is_some_and(|moment| moment <= now) {
            return Outcome::Done(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let pipe = &mut self.pipes[side];
        if pipe.ended.is_some() || pipe.deaf.is_some_and(|moment| moment <= now) {
            return Outcome::Done(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.deaf.is_some() || self.broken.is_some() {
            // Sent before the news arrived: into the void.
            chain.consume(chain.len());
            return Outcome::Done(Ok(()));
        }
        while !chain.is_empty() {
            let room = self.window.saturating_sub(pipe.octets.len());
            if room == 0 {
                pipe.writer = Some(waker.clone());
                return Outcome::Wait(u64::MAX);
            }
            let most = room.min(chain.len());
            let len = cut(most, chance, faults);
            give(&mut pipe.octets, chain, len);
            let due = pipe.last_due.max(now + way(chance, faults));
            pipe.last_due = due;
            pipe.segments.push_back(Segment { due, len });
        }
        Outcome::Done(Ok(()))
    }

    /// How the other side stands, seen from `side`.
    pub(super) fn presence(&self, side: usize, now: u64) -> Presence {
        let is_past = |moment: Option<u64>| moment.is_some_and(|moment| moment <= now);
        if self.stalled {
            return Presence::Here;
        }
        if is_past(self.broken) || is_past(self.pipes[side].deaf) {
            return Presence::Gone;
        }
        if is_past(self.pipes[1 - side].ended) { Presence::Ended } else { Presence::Here }
    }

    /// When the reader of what `side` wrote should be called, and its waker, if it waits.
    pub(super) fn call_reader(&mut self, side: usize) -> Option<(u64, Waker)> {
        if self.stalled {
            return None;
        }
        let pipe = &mut self.pipes[side];
        let due = pipe.segments.front()?.due;
        Some((due, pipe.reader.take()?))
    }

    /// `side` sends no more; what it sent still arrives.
    pub(super) fn end(&mut self, side: usize, now: u64, chance: &Chance, faults: &Faults) {
        if self.broken.is_some() {
            // Nothing that is sent after a reset arrives, least of all a proper end.
            return;
        }
        let pipe = &mut self.pipes[side];
        if pipe.ended.is_none() {
            pipe.ended = Some(pipe.last_due.max(now + way(chance, faults)));
            pipe.wake_reader();
        }
    }

    /// `side` reads no more.
    pub(super) fn deafen(&mut self, side: usize, now: u64, chance: &Chance, faults: &Faults) {
        let pipe = &mut self.pipes[1 - side];
        pipe.deaf = Some(now + way(chance, faults));
        pipe.clear();
        pipe.wake_writer();
    }

    /// `side` vanished without closing: a reset if it left octets unread, as kernels have it.
    pub(super) fn abandon(&mut self, side: usize, now: u64, chance: &Chance, faults: &Faults) {
        if self.pipes[1 - side].octets.is_empty() {
            self.end(side, now, chance, faults);
            self.deafen(side, now, chance, faults);
        } else {
            self.reset(now, chance, faults);
        }
    }

    /// Breaks the connection. What is on its way is lost, or arrives first, by coin.
    pub(super) fn reset(&mut self, now: u64, chance: &Chance, faults: &Faults) {
        if self.broken.is_some() {
            return;
        }
        let mut moment = now + way(chance, faults);
        for pipe in &mut self.pipes {
            if chance.coin() {
                // What is lost takes the end with it: a stream cut short never ends properly.
                pipe.clear();
                pipe.ended = None;
            }
            moment = moment.max(pipe.last_due).max(pipe.ended.unwrap_or(0));
        }
        self.broken = Some(moment);
        self.pipes.iter_mut().for_each(Pipe::wake_both);
    }

    /// When the break is seen, if there is one: a writer that waits for room must be called then.
    pub(super) fn breaks_at(&self) -> u64 {
        self.broken.unwrap_or(u64::MAX)
    }

    /// When the writer on `side` learns that nobody reads, if that is so.
    pub(super) fn deaf_at(&self, side: usize) -> u64 {
        self.pipes[side].deaf.unwrap_or(u64::MAX)
    }
}

/// The time that a segment takes.
pub(super) fn way(chance: &Chance, faults: &Faults) -> u64 {
    let (low, high) = faults.net_micros;
    chance.between(u64::from(low) * 1_000, u64::from(high) * 1_000)
}

/// The length of the next segment, of at most `most` octets.
fn cut(most: usize, chance: &Chance, faults: &Faults) -> usize {
    if chance.happens(faults.cuts) {
        return most.min(1 + chance.index(8));
    }
    if chance.coin() { most } else { 1 + chance.index(most) }
}

/// Moves up to `most` octets from the pipe into the buffer.
fn take(octets: &mut VecDeque<u8>, most: usize, buffer: &mut Buffer) -> usize {
    let taken = {
        let (front, back) = octets.as_slices();
        let first = &front[..front.len().min(most)];
        let mut taken = buffer.push(first);
        if taken == first.len() && taken < most && !buffer.is_full() {
            taken += buffer.push(&back[..back.len().min(most - taken)]);
        }
        taken
    };
    octets.drain(..taken);
    taken
}

/// Moves `len` octets from the chain into the pipe.
fn give(octets: &mut VecDeque<u8>, chain: &mut Chain, len: usize) {
    let mut left = len;
    for slice in chain.slices() {
        let count = slice.len().min(left);
        octets.extend(&slice[..count]);
        left -= count;
        if left == 0 {
            break;
        }
    }
    chain.consume(len);
}

/// Forgets the segments that `taken` octets made up.
fn forget(segments: &mut VecDeque<Segment>, mut taken: usize) {
    while let Some(segment) = segments.front_mut() {
        if segment.len > taken {
            segment.len -= taken;
            return;
        }
        taken -= segment.len;
        segments.pop_front();
    }
}
