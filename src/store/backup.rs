//! What a backup takes of a log, and how its octets are read so that nothing damaged is taken.
//!
//! ```text
//!   begin   the segments in use are pinned, a checkpoint is made: its root, its index segments
//!   cut     a moment is said, later than every checkpoint; each log tells how far it reaches
//!   hold    the pin goes on: whoever reads is still at it
//!   end     what died meanwhile may be used again
//! ```
//!
//! While a log is pinned no slot of it is used again, so that whoever reads the files beside the
//! log reads what it was told of. The pin ends by itself when nobody holds it for
//! [`BACKUP_PIN_LEASE`], and when the disk is full: mail goes before a backup, and the next `hold`
//! or `end` says that the pin is lost.
//!
//! A segment only ever grows, and what of it counts never changes: so a backup takes each octet of
//! a log once, and the next one goes on behind it. All are read batch by batch, each held against
//! all of its checksums.
//!
//! The logs of a store are begun one after the other, and stand at different moments. What makes
//! one state of them is the moment of the cut: restored is of each log what was written up to it
//! ([`super::restore`]).

use super::Damaged;
use super::batch::check_whole;
use super::format::{BatchHeader, Identity, PageAt, SegmentHeader, Stream};
use super::log::{Health, Log, Position};
use super::pack::unpack_at_once;
use super::segments::SegmentStore;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::LogId;
use crate::model::limits::BACKUP_PIN_LEASE;
use crate::model::time::Mono;
use crate::probe::event::{Level, event};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::time::Duration;

/// Wait for batches that are on their way.
const ARRIVAL_PAUSE: Duration = Duration::from_millis(1);

/// What whoever makes a backup asks of a log. The token is one for all of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Answered by [`Reply::Base`].
    Begin { token: u64 },
    /// Answered by [`Reply::Cut`].
    Cut { token: u64 },
    /// Answered by [`Reply::Done`].
    Hold { token: u64 },
    /// Answered by [`Reply::Done`].
    End { token: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Base(Base),
    Cut(Cut),
    Done,
}

/// A place behind a batch, or behind the header of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub segment: u64,
    /// From the start of the segment.
    pub offset: u64,
    /// The last batch before it.
    pub lsn: u64,
    /// The checksum of that batch's header.
    pub check: u64,
}

impl From<Position> for Mark {
    fn from(at: Position) -> Mark {
        Mark { segment: at.segment, offset: at.offset, lsn: at.lsn.0, check: at.check }
    }
}

/// A checkpoint, and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// 32 hexadecimal digits.
    pub store: String,
    pub log: u16,
    /// How many logs the store has.
    pub logs: u16,
    /// How many it was made with, where that is another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_logs: Option<u16>,
    pub segment_octets: u64,
    pub epoch: u64,
    pub root: PageAt,
    /// No page of the checkpoint is later: a restored log must reach to here.
    pub from: Mark,
    pub index: Vec<Used>,
}

impl Base {
    /// What the checksums of this log are seeded with; `None` where the store's number is none.
    pub fn identity(&self) -> Option<Identity> {
        let store = u128::from_str_radix(&self.store, 16).ok()?;
        Some(Identity { store, log: LogId(self.log), first_logs: self.first_logs() })
    }

    /// How many logs the store was made with.
    pub fn first_logs(&self) -> u16 {
        self.first_logs.unwrap_or(self.logs)
    }
}

/// How far a log reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// A moment, µs since 1970: what was written later is not of the backup. That of the log that
    /// is asked first counts for all.
    pub time: u64,
    /// All that was written up to the moment lies before it, and is durable.
    pub end: Mark,
    /// All segments but those of the index.
    pub segments: Vec<Used>,
}

/// A segment that is in use, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub slot: u32,
    pub segment: u64,
    pub stream: Stream,
    pub upto: Upto,
}

/// Where what counts of a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upto {
    /// Behind this batch.
    Batch(u64),
    /// Behind the batch that this octet lies in, or ends.
    Octet(u64),
}

/// Keeps slots from being used again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    token: u64,
    until: Mono,
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Answers whoever makes a backup; an error says why there will be none.
    pub async fn backup(&self, ask: Ask) -> Result<Reply, String> {
        match ask {
            Ask::Begin { token } => self.begin_backup(token).await.map(Reply::Base),
            Ask::Cut { token } => self.cut_backup(token).await.map(Reply::Cut),
            Ask::Hold { token } => self.hold_backup(token).map(|()| Reply::Done),
            Ask::End { token } => {
                self.hold_backup(token)?;
                self.shared.pin.set(None);
                // It held back meanwhile.
                self.shared.cleaner.due.set();
                Ok(Reply::Done)
            }
        }
    }

    /// Whether slots must not be used again. On a full disk they may.
    pub(super) fn is_pinned(&self) -> bool {
        let shared = &self.shared;
        let Some(pin) = shared.pin.get() else { return false };
        let holds = shared.env.now() < pin.until && !shared.crowded.get();
        if !holds {
            shared.pin.set(None);
            let why = if shared.crowded.get() { "the disk is full" } else { "nobody holds it" };
            let fields = [("log", self.id().0.into()), ("why", why.into())];
            event(Level::Warn, "backup_unpinned", &fields);
        }
        holds
    }

    fn hold_backup(&self, token: u64) -> Result<(), String> {
        if !self.is_pinned() || self.shared.pin.get().is_none_or(|pin| pin.token != token) {
            return Err(format!(
                "log {} does not keep its segments for this backup any more: it was not heard of \
                 for long, or the disk is full; begin again",
                self.id()
            ));
        }
        let until = self.shared.env.now().after(BACKUP_PIN_LEASE);
        self.shared.pin.set(Some(Pin { token, until }));
        Ok(())
    }

    async fn begin_backup(&self, token: u64) -> Result<Base, String> {
        let shared = &self.shared;
        if self.is_pinned() && shared.pin.get().is_some_and(|pin| pin.token != token) {
            return Err(format!(
                "another backup is under way, or was broken off less than {} minutes ago",
                BACKUP_PIN_LEASE.as_secs() / 60
            ));
        }
        // Before the checkpoint, which would give back what died.
        let until = shared.env.now().after(BACKUP_PIN_LEASE);
        shared.pin.set(Some(Pin { token, until }));
        if let Err(error) = self.checkpoint().await {
            shared.pin.set(None);
            return Err(format!("log {}: no checkpoint: {error}", self.id()));
        }
        self.hold_backup(token)?;
        let ends = self.index_ends();
        let index = shared.index.borrow();
        let used = |&(slot, segment): &(u32, u64)| {
            let upto = Upto::Octet(*ends.get(&slot)?);
            Some(Used { slot, segment, stream: Stream::Index, upto })
        };
        let (logs, first) = (shared.settings.logs, shared.identity.first_logs);
        Ok(Base {
            store: format!("{:032x}", shared.identity.store),
            log: shared.identity.log.0,
            logs,
            first_logs: Some(first).filter(|&first| first != logs),
            segment_octets: shared.segments.segment_octets(),
            epoch: shared.epoch,
            root: index.root,
            from: shared.applied.get().into(),
            index: index.segments.iter().filter_map(used).collect(),
        })
    }

    async fn cut_backup(&self, token: u64) -> Result<Cut, String> {
        self.hold_backup(token)?;
        let shared = &self.shared;
        // Of what gets its place in the log from here on, nothing is as early as this.
        let time = shared.env.wall().0.saturating_sub(1);
        let target = shared.tail.get().lsn;
        while shared.applied.get().lsn < target.min(shared.tail.get().lsn) {
            if let Health::ReadOnly(why) = &*shared.health.borrow() {
                return Err(format!("log {}: {why}", self.id()));
            }
            shared.env.sleep(ARRIVAL_PAUSE).await;
        }
        self.hold_backup(token)?;
        let applied = shared.applied.get();
        let hot = shared.hot.borrow();
        let used = hot.iter().map(|one| {
            let upto = match one.segment.cmp(&applied.segment) {
                Ordering::Less => Upto::Batch(one.last.0),
                Ordering::Equal => Upto::Octet(applied.offset),
                Ordering::Greater => Upto::Octet(to_u64(BLOCK_OCTETS)),
            };
            Used { slot: one.slot, segment: one.segment, stream: Stream::Hot, upto }
        });
        let cold = shared.cold.borrow();
        // What lies behind the last blob that was moved there is nobody's yet.
        let others = cold.iter().map(|(slot, one)| Used {
            slot,
            segment: one.segment,
            stream: Stream::Cold,
            upto: Upto::Octet(one.end),
        });
        Ok(Cut { time, end: applied.into(), segments: used.chain(others).collect() })
    }
}

/// Why octets could not be taken, or brought back.
#[derive(Debug)]
pub enum Broken {
    Io(io::Error),
    /// They are not what they should be.
    Damaged(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Io(error) => error.fmt(out),
            Broken::Damaged(what) => out.write_str(what),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

impl From<Damaged> for Broken {
    fn from(Damaged(what): Damaged) -> Broken {
        Broken::Damaged(what)
    }
}

/// How much of a segment was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// The octet behind the last batch; 0: not even the header was.
    pub end: u64,
    /// The last batch, as batches of the hot stream are numbered.
    pub last: u64,
    /// Where that batch begins, 0 for the header of the segment.
    pub seam: u64,
}

impl Walked {
    /// Whether there is nothing more to read.
    pub fn reaches(&self, upto: Upto) -> bool {
        self.end > 0
            && match upto {
                Upto::Batch(last) => self.last >= last,
                Upto::Octet(end) => self.end >= end,
            }
    }
}

/// Reads a segment from behind `known` to where it ends, and hands out its header and its batches
/// one by one, once each is held against its checksums. `read` reads so many octets from an octet
/// of the segment on. What is in memory at a time is one batch.
pub fn walk(
    base: &Base,
    used: &Used,
    known: Walked,
    read: &mut dyn FnMut(u64, usize) -> io::Result<Vec<u8>>,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Walked, Broken> {
    let broken =
        |what: &str| Broken::Damaged(format!("log {}, segment {}: {what}", base.log, used.segment));
    let identity = base.identity().ok_or_else(|| broken("of a store without a number"))?;
    let mut walked = known;
    if walked.end == 0 {
        let block = read(0, BLOCK_OCTETS)?;
        let header = SegmentHeader::decode(&block, &identity, used.slot)
            .filter(|header| header.segment == used.segment)
            .ok_or_else(|| broken("its header is damaged"))?;
        take(&block)?;
        walked = Walked { end: to_u64(BLOCK_OCTETS), last: header.previous_valid.0, seam: 0 };
    }
    while !walked.reaches(used.upto) {
        let at = walked.end;
        let seed = identity.seed(used.segment, at);
        let header = BatchHeader::decode(&read(at, BLOCK_OCTETS)?, seed);
        let (header, _) =
            header.ok_or_else(|| broken(&format!("there is no batch at octet {at}")))?;
        let len = u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
        if at + len > base.segment_octets || header.stream != used.stream {
            return Err(broken(&format!("the batch at octet {at} does not belong there")));
        }
        let octets = read(at, to_usize(len))?;
        let content = check_whole(&octets, &header, &identity, used.segment, at)?;
        for (blob, range) in content.packed {
            unpack_at_once(&blob, &octets[range], &identity)?;
        }
        take(&octets)?;
        walked = Walked { end: at + len, last: header.lsn.0, seam: at };
    }
    Ok(walked)
}
