//! A log out of a backup: which segments go into which slots, and where the log is cut.
//!
//! What comes back is what a crash at one moment would have left: the checkpoint of the backup, and
//! behind it the batches up to that moment. [`Log::open`](super::Log::open) does the rest, as after
//! every crash. Without another moment it is the one that the backup was cut at; for a later one
//! the next backup has the batches.
//!
//! ```text
//!   backup       root ── from ──── its moment ─ end
//!   the next one                       ⋮        ──── batches ──── its moment ─ end
//!   restored     root ─────────────────⋮── batches ──┤ the moment that was asked for
//! ```
//!
//! Of each log goes the first batch that was begun later than the moment, and all behind it. All
//! logs are cut at the same one, and their machine has one clock, so that what one log says is done
//! is in the other log that did it: a message that one promised to another comes out once. (A log
//! says that a promise is kept after the owner's batch with the message is durable, and the owner
//! forgets the promise's key after that is: each is of a later moment than the one before it.
//! Where the clock was set back between them, at just the moment of the cut, that does not hold.)
//!
//! A segment that comes from the next backup may find its slot taken by one of the first, that was
//! freed and used again between them: it goes into a slot of its own. Only its header tells its
//! slot; records of the hot stream do not name the slots of the hot stream.

use super::backup::{Base, Broken, Mark};
use super::format::{
    BatchHeader, Identity, Reached, SUPERBLOCK_COPIES, SegmentHeader, Stream, Superblock,
};
use crate::bytes::codec::to_u64;
use crate::env::BLOCK_OCTETS;
use crate::model::id::Lsn;
use std::io;

/// A segment that a backup has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub slot: u32,
    pub segment: u64,
    pub stream: Stream,
    /// How many of its octets the backup has.
    pub end: u64,
    pub source: Source,
}

/// Which backup has a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    This,
    /// Both; the next one has more of it.
    Grown,
    /// The next one alone.
    Next,
}

/// Where a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub part: Part,
    /// Another than the part's own: then the header has to be [`moved`].
    pub slot: u32,
    /// What of it comes back; zeros follow.
    pub octets: u64,
}

/// How a log comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub placed: Vec<Placed>,
    /// Where the log ends.
    pub end: Mark,
    /// When the last batch was begun, µs since 1970; 0 where there is none behind the checkpoint.
    pub last_time: u64,
    /// No batch of before the moment is missing. Otherwise segments were freed between the two
    /// backups, and `last_time` is as far as this log goes.
    pub is_whole: bool,
}

/// Reads so many octets of a part, from one of its octets on.
pub type ReadPart<'a> = dyn FnMut(&Part, u64, usize) -> io::Result<Vec<u8>> + 'a;

/// Says how a log comes back as it was at `time` (µs since 1970). `base` is of the backup, `upto`
/// the last batch that the log must reach to unless a later one ends it.
pub fn plan(
    base: &Base,
    parts: &[Part],
    time: u64,
    upto: u64,
    read: &mut ReadPart<'_>,
) -> Result<Plan, Broken> {
    let identity = base
        .identity()
        .ok_or_else(|| Broken::Damaged(format!("log {}: of a store without a number", base.log)))?;
    let mut hot: Vec<&Part> = parts.iter().filter(|part| part.stream == Stream::Hot).collect();
    hot.sort_unstable_by_key(|part| part.segment);
    let mut line = Line { identity, log: base.log, at: base.from, last_time: 0 };
    let is_whole = line.follow(&hot, time, upto, read)?;
    let end = line.at;
    let kept =
        parts.iter().filter(|part| part.stream != Stream::Hot || part.segment <= end.segment);
    let mut placed: Vec<Placed> = kept
        .map(|&part| {
            let is_last = part.stream == Stream::Hot && part.segment == end.segment;
            let octets = if is_last { end.offset } else { part.end };
            Placed { part, slot: part.slot, octets }
        })
        .collect();
    give_slots(base, parts, &mut placed)?;
    Ok(Plan { placed, end, last_time: line.last_time, is_whole })
}

/// What is of this backup stays where it is, for the checkpoint names its slots.
fn give_slots(base: &Base, parts: &[Part], placed: &mut [Placed]) -> Result<(), Broken> {
    let is_new = |one: &Placed| one.part.source == Source::Next;
    let mut taken: Vec<u32> =
        placed.iter().filter(|one| !is_new(one)).map(|one| one.slot).collect();
    let mut free = parts.iter().map(|part| part.slot + 1).max().unwrap_or(0);
    for one in placed.iter_mut().filter(|one| is_new(one)) {
        if taken.contains(&one.slot) {
            if one.part.stream != Stream::Hot {
                return Err(Broken::Damaged(format!(
                    "log {}: slot {} was used again between the two backups, for what was moved \
                     there: only the moments of the backups themselves can be restored",
                    base.log, one.slot
                )));
            }
            one.slot = free;
            free += 1;
        }
        taken.push(one.slot);
    }
    Ok(())
}

/// The hot stream, batch after batch.
struct Line {
    identity: Identity,
    log: u16,
    at: Mark,
    last_time: u64,
}

impl Line {
    /// Goes on to the last batch of before `time`; whether none is missing.
    fn follow(
        &mut self,
        hot: &[&Part],
        time: u64,
        upto: u64,
        read: &mut ReadPart<'_>,
    ) -> Result<bool, Broken> {
        loop {
            let Some(part) = hot.iter().find(|part| part.segment == self.at.segment) else {
                return Ok(false);
            };
            while self.at.offset < part.end {
                if !self.step(part, time, read)? {
                    return Ok(true);
                }
            }
            let Some(next) = self.next(hot, read)? else { return Ok(self.at.lsn >= upto) };
            if next.previous_valid.0 != self.at.lsn {
                return Ok(false);
            }
            self.at = Mark { segment: next.segment, offset: to_u64(BLOCK_OCTETS), ..self.at };
        }
    }

    /// One batch; false where it was begun later than `time`.
    fn step(&mut self, part: &Part, time: u64, read: &mut ReadPart<'_>) -> Result<bool, Broken> {
        let Mark { segment, offset, .. } = self.at;
        let block = read(part, offset, BLOCK_OCTETS)?;
        let found = BatchHeader::decode(&block, self.identity.seed(segment, offset));
        let Some((header, check)) = found else {
            let what = format!("segment {segment}: there is no batch at octet {offset}");
            return Err(Broken::Damaged(format!("log {}, {what}", self.log)));
        };
        if header.previous_check != self.at.check || header.lsn.0 != self.at.lsn + 1 {
            return Err(Broken::Damaged(format!(
                "log {}: batch {} does not follow on batch {}: the next backup is of another life of \
                 this store, which was restored between them",
                self.log, header.lsn, self.at.lsn
            )));
        }
        if header.time > time {
            return Ok(false);
        }
        self.last_time = header.time;
        let end = offset + u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
        self.at = Mark { segment, offset: end, lsn: header.lsn.0, check };
        Ok(true)
    }

    /// The segment that follows on this one: of several the newest, as recovery has it.
    fn next(
        &self,
        hot: &[&Part],
        read: &mut ReadPart<'_>,
    ) -> Result<Option<SegmentHeader>, Broken> {
        for part in hot.iter().rev().take_while(|part| part.segment > self.at.segment) {
            let block = read(part, 0, BLOCK_OCTETS)?;
            let header = SegmentHeader::decode(&block, &self.identity, part.slot);
            let header = header.ok_or_else(|| {
                let what = format!("segment {}: its header is damaged", part.segment);
                Broken::Damaged(format!("log {}, {what}", self.log))
            })?;
            if header.previous == self.at.segment {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }
}

/// The header of a segment as it is in another slot; `None` where it is none of this log.
pub fn moved(base: &Base, block: &[u8], from: u32, to: u32) -> Option<Vec<u8>> {
    let identity = base.identity()?;
    let header = SegmentHeader::decode(block, &identity, from)?;
    Some(header.encode(&identity, to))
}

/// The superblock's file of a log that comes back, which must reach to `end`. `epoch` is the newest
/// that its batches may be of.
pub fn superblock(base: &Base, epoch: u64, end: Mark) -> Option<Vec<u8>> {
    let superblock = Superblock {
        identity: base.identity()?,
        seq: 1,
        epoch,
        segment_octets: base.segment_octets,
        root: base.root,
        reached: Reached { segment: end.segment, lsn: Lsn(end.lsn) },
    };
    Some(superblock.encode().repeat(SUPERBLOCK_COPIES))
}
