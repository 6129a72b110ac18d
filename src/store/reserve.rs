//! Free slots, and what a full disk leaves to do: remove mail, for as long as anybody likes.
//!
//! Beside the spare that the next segment takes, a log keeps a reserve of free slots. When the disk
//! gives no more, blobs are refused from the moment that the next segment would dig into the reserve;
//! records alone (flags, removals, moves) are taken on. They never run out of room, since a segment
//! of records alone is dead as soon as a checkpoint holds what it said:
//!
//! ```text
//!   … blobs ── 7/8 ┐ records ┐  R1: records ┐  R2: records ┐  R1 again …
//!    (the spare)   └ refused └──────────────┴─ checkpoint: R1 is free ┘
//! ```
//!
//! The cleaner has two more, for what it moves before the segments are free that it came from: with
//! them it can win back room in a store that takes no mail any more (`clean.rs`). It takes on what fits one
//! of them, as far as it knows; the other is for what did not fit after all, so that whatever it began it
//! ends, and gives back more than it took.
//!
//! Records take two slots, and one for the pages of checkpoints while those that live fill less than
//! half a segment; beyond that two more for each segment of them. A segment with blobs is free again
//! when the last blob in it is gone and a checkpoint was made, which is soon: only then is mail taken
//! again. A reserve that was never there
//! (the disk was full when the log was made or grew) helps nobody.

use super::log::Log;
use super::segments::SegmentStore;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::Env;
use crate::probe::event::{Level, event};
use std::io;
use std::time::Duration;

/// Slots beside those for records that the cleaner may take.
const CLEANER_SLOTS: usize = 2;
/// The pages of checkpoints may take more by the next one, and with them the slots for them.
const GROWTH_SLOTS: usize = 1;
/// Slots of the reserve for records while the pages of checkpoints are few.
const RESERVE_SLOTS: usize = 3;
/// Slots that an empty log takes: its first segment and that of its index, the spare, and the reserve.
pub const SLOTS_MIN: u64 = to_u64(3 + RESERVE_SLOTS + CLEANER_SLOTS + GROWTH_SLOTS);
/// Wait before a full disk is asked for room again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Wait for a file that is being made.
const PREPARING_PAUSE: Duration = Duration::from_millis(5);

/// What the operator was told last of the room for mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// The disk gives what is asked for.
    #[default]
    Plenty,
    /// It gives no more, and blobs are taken still.
    Ending,
    /// Blobs are refused.
    Full,
    /// It gives no more, and what was removed is room again.
    Again,
}

impl Told {
    /// Whether somebody has to see to it.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Told::Ending | Told::Full)
    }

    fn next(self, crowded: bool, refuses: bool) -> Told {
        match (crowded, refuses, self) {
            (false, ..) => Told::Plenty,
            (true, true, _) => Told::Full,
            (true, false, Told::Plenty) => Told::Ending,
            (true, false, Told::Full) => Told::Again,
            (true, false, Told::Ending | Told::Again) => self,
        }
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Free slots that no blob may take that comes new.
    pub(super) fn reserve(&self) -> usize {
        self.reserve_of_records() + CLEANER_SLOTS + GROWTH_SLOTS
    }

    /// Free slots that the cleaner leaves: one for the segment that its record may begin, and those
    /// for the pages of the checkpoint behind it, which gives more back than it took. Records may
    /// have taken one of theirs before it came to work.
    pub(super) fn reserve_of_cleaner(&self) -> usize {
        self.reserve_of_records() - 1
    }

    /// Free slots that are for records alone.
    fn reserve_of_records(&self) -> usize {
        let shared = &self.shared;
        let pages = 2 * shared.index_octets.get() / shared.segments.segment_octets();
        RESERVE_SLOTS + to_usize(pages)
    }

    /// Whether the disk is full, and what is left is kept for records alone.
    pub(super) fn refuses_blobs(&self) -> bool {
        let shared = &self.shared;
        let (free, reserve) = (shared.segments.free_slots(), self.reserve());
        if !shared.crowded.get() || free > reserve {
            return false;
        }
        let size = shared.segments.segment_octets();
        let ahead = shared.tail.get().offset + to_u64(shared.queued_octets.get());
        free < reserve || size.saturating_sub(ahead) < size / 8
    }

    /// Before a segment is begun: whether it comes out of the reserve has to be known, and then it
    /// gets no blobs. The last slot is for the pages of a checkpoint, which gives others back.
    pub(super) async fn make_way(&self) {
        let shared = &self.shared;
        if self.has_slot_beyond(self.reserve()).await || !shared.crowded.get() {
            return;
        }
        self.refuse_blobs_waiting();
        if shared.segments.free_slots() < 2 {
            // If it fails there may be a slot all the same.
            drop(self.checkpoint().await);
        }
    }

    /// Whether there is a free slot besides so many; waits for one that the disk gives.
    pub(super) async fn has_slot_beyond(&self, kept: usize) -> bool {
        let shared = &self.shared;
        self.prepare_spare();
        while shared.segments.free_slots() <= kept
            && !shared.crowded.get()
            && shared.preparing.get()
        {
            shared.env.sleep(PREPARING_PAUSE).await;
        }
        shared.segments.free_slots() > kept
    }

    /// Makes the next segment's file and the reserve ready; while the disk gives no room for them,
    /// again and again.
    pub(super) fn prepare_spare(&self) {
        if self.shared.preparing.replace(true) {
            return;
        }
        let log = self.clone();
        self.shared.env.spawn(async move {
            let shared = &log.shared;
            while !shared.stopping.get() {
                // One by one: a stop waits for the file that is being made.
                let wanted = (shared.segments.free_slots() + 1).min(log.reserve() + 1);
                let prepared = shared.segments.prepare(wanted).await;
                log.set_crowded(prepared.as_ref().err());
                if prepared.is_err() {
                    if log.has_dead_segment() {
                        shared.checkpoint_due.set();
                    }
                    shared.cleaner.due.set();
                    shared.env.sleep(ROOM_PAUSE).await;
                } else if shared.segments.free_slots() > log.reserve() {
                    break;
                }
            }
            shared.preparing.set(false);
        });
    }

    /// Waits until no file is being made any more: a machine that ends while its disk still works
    /// for it cannot take the answer.
    pub(super) async fn prepared(&self) {
        while self.shared.preparing.get() {
            self.shared.env.sleep(PREPARING_PAUSE).await;
        }
    }

    /// Whether a checkpoint would give a segment back: nothing in it is alive, nor is it written.
    pub(super) fn has_dead_segment(&self) -> bool {
        let shared = &self.shared;
        let (table, applied) = (shared.table.borrow(), shared.applied.get());
        let (hot, cold) = (shared.hot.borrow(), shared.cold.borrow());
        let written = cold.written(shared.cleaner.is_writing());
        hot.iter().any(|one| one.segment < applied.segment && table.is_dead(one.slot))
            || cold.iter().any(|(slot, _)| Some(slot) != written && table.is_dead(slot))
    }

    /// Notes whether the disk gives room, and tells when that, or what comes of it, changed.
    pub(super) fn set_crowded(&self, error: Option<&io::Error>) {
        let shared = &self.shared;
        shared.crowded.set(error.is_some());
        let now = shared.told_room.get().next(error.is_some(), self.refuses_blobs());
        let was = shared.told_room.replace(now);
        let number = ("log", self.id().0.into());
        match error {
            Some(error) if now.is_short() && !was.is_short() => {
                event(Level::Error, "no_room", &[number, ("why", error.into())]);
            }
            _ if was.is_short() && !now.is_short() => event(Level::Info, "room_again", &[number]),
            _ => {}
        }
    }
}
