//! The log of one shard: append with group commit, read by number.
//!
//! Callers queue groups; one flusher gathers whatever waits into a batch, writes it as whole
//! blocks, syncs once, applies it and answers everybody in it. While one batch is on its way the
//! next one gathers; where many write at once it waits a moment for those that were just answered.
//! A second one starts beside the first only when it is worth a sync.
//!
//! ```text
//!   queue ──gather──> batch n+1 ──write──sync──┐
//!                     batch n   ──write──sync──┴─> in order: apply, answer
//! ```
//!
//! Invariants:
//!   - batches are applied and answered in the order of their numbers, whichever ends first
//!   - a batch that failed takes every later one with it; nothing of them is applied, and the next
//!     segment's header leaves them out for good (store.md 3.11)
//!   - no slot is written again after a write or sync in it failed

use super::backup::Pin;
use super::batch::{self, BlobLine, Place};
use super::cache::Cache;
use super::clean::Cleaner;
use super::cold::Cold;
use super::format::{Identity, Reached, SegmentHeader, Stream};
use super::record::{Group, Record};
use super::reserve::Told;
use super::segments::{Local, SegmentStore, SuperblockFile};
use super::stats::Stats;
use super::table::{BLOB_OCTETS_MAX, BlobTable};
use super::{Damaged, Machine, Settings, checkpoint};
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::{BlobId, LogId, Lsn};
use crate::model::limits::BATCHES_IN_FLIGHT_MAX;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A batch of fewer groups than this was no crowd: the next one does not wait for more.
const GATHER_GROUPS_MIN: usize = 4;
/// How long nobody may come before a gathering batch goes.
const GATHER_TICK: Duration = Duration::from_micros(300);
/// How long a batch gathers at most.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// Why a group is not in the log. Except where it says so, none of its effects will ever be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Too many groups wait, or the disk has no room: 452, try later.
    Full,
    /// Larger than a segment: never possible.
    TooLarge,
    /// A write or sync failed; the log goes on elsewhere or is read-only: 451.
    Failed(String),
    /// A write or sync failed, and so did leaving it out: the group may be there after the next
    /// start. Say neither yes nor no: drop the connection.
    Uncertain(String),
}

impl fmt::Display for AppendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Full => out.write_str("no room in the log"),
            AppendError::TooLarge => out.write_str("larger than a segment of the log"),
            AppendError::Failed(why) => write!(out, "the log failed: {why}"),
            AppendError::Uncertain(why) => write!(out, "the log failed and stopped: {why}"),
        }
    }
}

/// Why a blob could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No such blob: never there, or its last reference is gone.
    Unknown,
    /// The disk failed, or the checksum did not match: this blob is damaged.
    Damaged(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Unknown => out.write_str("there is no such blob"),
            ReadError::Damaged(why) => out.write_str(why),
        }
    }
}

/// Kinds of records and who understands them.
pub type Registry = Vec<(RangeInclusive<u8>, Rc<RefCell<dyn Machine>>)>;

/// One shard's log; clones are the same log.
pub struct Log<E: Env, S: SegmentStore = Local<E>> {
    pub(super) shared: Rc<Inner<E, S>>,
}

impl<E: Env, S: SegmentStore> Clone for Log<E, S> {
    fn clone(&self) -> Self {
        Log { shared: Rc::clone(&self.shared) }
    }
}

/// Answers one caller.
#[derive(Default)]
struct Answer {
    result: RefCell<Option<Result<Lsn, AppendError>>>,
    waker: RefCell<Option<Waker>>,
}

impl Answer {
    fn give(&self, result: Result<Lsn, AppendError>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Lsn, AppendError>> {
        if let Some(result) = self.result.borrow_mut().take() {
            return Poll::Ready(result);
        }
        *self.waker.borrow_mut() = Some(waker.clone());
        Poll::Pending
    }
}

struct Waiting {
    group: Group,
    octets: usize,
    answer: Rc<Answer>,
}

/// A batch on its way to the disk.
struct InFlight {
    lsn: Lsn,
    slot: u32,
    at: u64,
    end: u64,
    check: u64,
    blobs: Vec<BlobLine>,
    groups: Vec<Group>,
    answers: Vec<Rc<Answer>>,
    arrived: bool,
}

/// Wakes one task; a call while nobody waits is remembered.
#[derive(Default)]
pub(super) struct Signal {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub(super) fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) async fn wait(&self) {
        std::future::poll_fn(|context| {
            if self.set.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Where a batch ends and the next one may begin; what a checkpoint replays from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub segment: u64,
    pub slot: u32,
    /// The end of the batch, counted from the start of its segment.
    pub offset: u64,
    pub lsn: Lsn,
    pub check: u64,
}

/// A segment of the hot stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HotSegment {
    pub slot: u32,
    pub segment: u64,
    /// The last batch in it that counts; means nothing for the last one, which is written to.
    pub last: Lsn,
    /// Seconds since 1970.
    pub created: u64,
}

/// Whether the log takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// The batch that failed takes those beside it along; a new segment follows.
    Failing(String),
    /// Two failures in a row: nothing is taken any more.
    ReadOnly(String),
}

pub(super) struct Inner<E: Env, S: SegmentStore> {
    pub env: E,
    pub settings: Settings,
    pub identity: Identity,
    pub epoch: u64,
    pub segments: S,
    pub superblock: SuperblockFile<E::File>,
    /// What the superblock says, or will, of how far the log reaches.
    pub reached: Cell<Reached>,
    pub superblock_busy: Cell<bool>,
    pub superblock_free: Signal,
    pub machines: Registry,
    pub table: RefCell<BlobTable>,
    pub cache: RefCell<Cache>,
    /// Where the next batch goes; runs ahead of `applied` by what is in flight.
    pub tail: Cell<Position>,
    pub applied: Cell<Position>,
    /// Segments of the hot stream in order.
    pub hot: RefCell<Vec<HotSegment>>,
    pub cold: RefCell<Cold>,
    pub cleaner: Cleaner,
    pub next_segment: Cell<u64>,
    pub next_blob: Cell<u64>,
    pub index: RefCell<checkpoint::Index>,
    pub stats: Stats,
    pub health: RefCell<Health>,
    /// Set while the disk gives no room for another segment.
    pub crowded: Cell<bool>,
    /// A task makes the next segment's file ready.
    pub preparing: Cell<bool>,
    /// Octets of living pages in the index, when a checkpoint looked last.
    pub index_octets: Cell<u64>,
    pub since_checkpoint: Cell<u64>,
    pub checkpoint_due: Signal,
    pub checkpointing: Cell<bool>,
    /// The next checkpoint writes every page there is.
    pub renewing: Cell<bool>,
    pub pin: Cell<Option<Pin>>,
    pub told_room: Cell<Told>,
    /// Parts that are being checked; they end early once the log is closed.
    pub verifying: Cell<u32>,
    pub stopping: Cell<bool>,
    pub stopped: Signal,
    queue: RefCell<VecDeque<Waiting>>,
    pub queued_octets: Cell<usize>,
    in_flight: RefCell<VecDeque<InFlight>>,
    last_batch_octets: Cell<usize>,
    last_batch_groups: Cell<usize>,
    work: Signal,
    failed_in_a_row: Cell<u32>,
    /// Callers whose batch failed; told once it is durable that the batch does not count.
    refused: RefCell<Vec<Rc<Answer>>>,
}

/// What recovery hands to a new log.
pub(super) struct Parts<E: Env, S: SegmentStore> {
    pub env: E,
    pub settings: Settings,
    pub identity: Identity,
    pub epoch: u64,
    pub segments: S,
    pub superblock: SuperblockFile<E::File>,
    pub machines: Registry,
    pub table: BlobTable,
    pub cold: Cold,
    pub tail: Position,
    pub hot: Vec<HotSegment>,
    pub next_segment: u64,
    pub next_blob: u64,
    pub index: checkpoint::Index,
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    pub(super) fn start(parts: Parts<E, S>) -> Log<E, S> {
        let cache = Cache::new(parts.settings.cache_octets);
        let log = Log {
            shared: Rc::new(Inner {
                env: parts.env,
                settings: parts.settings,
                identity: parts.identity,
                epoch: parts.epoch,
                segments: parts.segments,
                superblock: parts.superblock,
                reached: Cell::new(parts.tail.reached()),
                superblock_busy: Cell::new(false),
                superblock_free: Signal::default(),
                machines: parts.machines,
                table: RefCell::new(parts.table),
                cache: RefCell::new(cache),
                tail: Cell::new(parts.tail),
                applied: Cell::new(parts.tail),
                hot: RefCell::new(parts.hot),
                cold: RefCell::new(parts.cold),
                cleaner: Cleaner::default(),
                next_segment: Cell::new(parts.next_segment),
                next_blob: Cell::new(parts.next_blob),
                index: RefCell::new(parts.index),
                stats: Stats::default(),
                health: RefCell::new(Health::Good),
                crowded: Cell::new(false),
                preparing: Cell::new(false),
                index_octets: Cell::new(0),
                since_checkpoint: Cell::new(0),
                checkpoint_due: Signal::default(),
                checkpointing: Cell::new(false),
                renewing: Cell::new(false),
                verifying: Cell::new(0),
                stopping: Cell::new(false),
                stopped: Signal::default(),
                queue: RefCell::default(),
                pin: Cell::new(None),
                told_room: Cell::default(),
                queued_octets: Cell::new(0),
                in_flight: RefCell::default(),
                last_batch_octets: Cell::new(0),
                last_batch_groups: Cell::new(0),
                work: Signal::default(),
                failed_in_a_row: Cell::new(0),
                refused: RefCell::default(),
            }),
        };
        log.shared.env.spawn(log.clone().flush_until_stopped());
        log.shared.env.spawn(log.clone().checkpoint_when_due());
        if log.shared.settings.cleaning.is_on {
            log.shared.env.spawn(log.clone().clean_when_due());
        }
        log
    }

    pub fn id(&self) -> LogId {
        self.shared.identity.log
    }

    pub fn env(&self) -> &E {
        &self.shared.env
    }

    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Octets of memory that the blob table takes.
    pub fn table_octets(&self) -> usize {
        self.shared.table.borrow().heap_octets()
    }

    /// Octets of memory that the index of pages takes.
    pub fn index_octets(&self) -> usize {
        self.shared.index.borrow().heap_octets()
    }

    /// How many entries refer to a blob.
    pub fn references(&self, id: BlobId) -> u32 {
        self.shared.table.borrow().references(id)
    }

    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// The position of the state: the last batch that was applied.
    pub fn applied(&self) -> Lsn {
        self.shared.applied.get().lsn
    }

    /// A number for a blob that is to be appended. Numbers of groups that fail are not used again.
    pub fn reserve_blob(&self) -> BlobId {
        let id = self.shared.next_blob.get();
        self.shared.next_blob.set(id + 1);
        BlobId(id)
    }

    /// Whether a message of `octets` would be taken now. A hint for an early 452.
    pub fn has_room(&self, octets: u64) -> bool {
        let shared = &self.shared;
        let healthy = !matches!(*shared.health.borrow(), Health::ReadOnly(_));
        healthy && octets <= self.group_octets_max() && !self.refuses_blobs()
    }

    /// Octets of the largest group that a segment can hold.
    pub fn group_octets_max(&self) -> u64 {
        let overhead = to_u64(4 * BLOCK_OCTETS);
        (self.shared.segments.segment_octets() - overhead).min(to_u64(BLOB_OCTETS_MAX))
    }

    /// Queues `group` before it returns; the future resolves when the group is durable and
    /// applied, or certainly will never be. Dropping the future does not take the group back.
    pub fn append(
        &self,
        group: Group,
    ) -> impl Future<Output = Result<Lsn, AppendError>> + use<E, S> {
        let answer = Rc::new(Answer::default());
        if let Err(error) = self.enqueue(group, &answer) {
            answer.give(Err(error));
        }
        std::future::poll_fn(move |context| answer.poll(context.waker()))
    }

    fn enqueue(&self, group: Group, answer: &Rc<Answer>) -> Result<(), AppendError> {
        let shared = &self.shared;
        if let Health::ReadOnly(why) = &*shared.health.borrow() {
            return Err(AppendError::Failed(why.clone()));
        }
        if shared.stopping.get() {
            return Err(AppendError::Failed("the log is closing".into()));
        }
        let octets = batch::group_octets(&group);
        if to_u64(octets) > self.group_octets_max() {
            return Err(AppendError::TooLarge);
        }
        let mut queue = shared.queue.borrow_mut();
        let is_full = queue.len() >= shared.settings.waiting_max;
        if is_full || (!group.blobs.is_empty() && self.refuses_blobs()) {
            return Err(AppendError::Full);
        }
        queue.push_back(Waiting { group, octets, answer: Rc::clone(answer) });
        shared.queued_octets.set(shared.queued_octets.get() + octets);
        shared.work.set();
        Ok(())
    }

    /// A second batch beside one that is on its way must carry enough to be worth its sync.
    fn may_start(&self) -> bool {
        let shared = &self.shared;
        if shared.queue.borrow().is_empty() || *shared.health.borrow() != Health::Good {
            return false;
        }
        match shared.in_flight.borrow().len() {
            0 => true,
            count if count < BATCHES_IN_FLIGHT_MAX => {
                let worth = shared.settings.second_batch_octets;
                shared.queued_octets.get() >= worth.max(shared.last_batch_octets.get() / 2)
            }
            _ => false,
        }
    }

    async fn flush_until_stopped(self) {
        let shared = &self.shared;
        loop {
            shared.work.wait().await;
            loop {
                if matches!(*shared.health.borrow(), Health::Failing(_)) {
                    if !shared.in_flight.borrow().is_empty() {
                        break;
                    }
                    self.leave_failed_segment().await;
                }
                if !self.may_start() {
                    break;
                }
                self.start_batch().await;
            }
            let idle = shared.queue.borrow().is_empty() && shared.in_flight.borrow().is_empty();
            if shared.stopping.get() && idle {
                return shared.stopped.set();
            }
        }
    }

    /// Takes what waits, up to what a batch aims at and the segment has room for.
    fn gather(&self) -> Vec<Waiting> {
        let shared = &self.shared;
        let room = to_usize(shared.segments.segment_octets() - shared.tail.get().offset);
        let mut queue = shared.queue.borrow_mut();
        let mut taken = Vec::new();
        let mut total = 0;
        while let Some(next) = queue.front() {
            let with_next = total + next.octets;
            let fits = batch::batch_octets(with_next) <= room;
            if !fits || (total > 0 && with_next > shared.settings.batch_octets) {
                break;
            }
            total = with_next;
            taken.extend(queue.pop_front());
        }
        shared.queued_octets.set(shared.queued_octets.get() - total);
        taken
    }

    /// Many callers write at once: those that were just answered are about to send again, and one
    /// sync for all costs less than two. Waits while more keep coming, never longer than a commit
    /// takes; a caller that is alone is not kept waiting at all. docs/decisions/0007.
    async fn let_more_come(&self) {
        let shared = &self.shared;
        if shared.last_batch_groups.get() < GATHER_GROUPS_MIN {
            return;
        }
        let longest = shared.stats.commit_mean().min(GATHER_MAX);
        let begun = shared.env.now();
        let mut seen = 0;
        loop {
            let waiting = shared.queue.borrow().len();
            let enough = shared.queued_octets.get() >= shared.settings.batch_octets;
            if waiting == seen || enough || shared.env.now().since(begun) >= longest {
                return;
            }
            seen = waiting;
            shared.env.sleep(GATHER_TICK).await;
        }
    }

    async fn start_batch(&self) {
        if self.shared.in_flight.borrow().is_empty() {
            self.let_more_come().await;
        }
        let mut waiting = self.gather();
        if waiting.is_empty() {
            if !self.shared.in_flight.borrow().is_empty() {
                // The last of the segment is on its way; the roll follows when it has arrived.
                return self.shared.work.wait().await;
            }
            Box::pin(self.make_way()).await;
            if self.shared.queue.borrow().is_empty() {
                return;
            }
            if let Err(error) = self.roll().await {
                if let AppendError::Failed(why) = &error {
                    *self.shared.health.borrow_mut() = Health::Failing(why.clone());
                }
                return self.refuse_waiting(&error);
            }
            waiting = self.gather();
        }
        let total: usize = waiting.iter().map(|one| one.octets).sum();
        let (groups, answers): (Vec<Group>, Vec<Rc<Answer>>) =
            waiting.into_iter().map(|one| (one.group, one.answer)).unzip();
        self.write_batch(groups, answers, total);
    }

    /// Encodes the batch, moves the tail behind it, and sends it on its way.
    fn write_batch(&self, groups: Vec<Group>, answers: Vec<Rc<Answer>>, total: usize) {
        let shared = &self.shared;
        let tail = shared.tail.get();
        let lsn = Lsn(tail.lsn.0 + 1);
        let place = Place {
            segment: tail.segment,
            offset: tail.offset,
            stream: Stream::Hot,
            epoch: shared.epoch,
            lsn,
            durable_upto: shared.applied.get().lsn,
            time: shared.env.wall().0,
            previous_check: tail.check,
        };
        let len = batch::batch_octets(total);
        let mut block = shared.segments.alloc(len);
        let encoded = batch::encode(block.as_mut(), &groups, &shared.identity, &place);
        let end = tail.offset + to_u64(len);
        shared.tail.set(Position { offset: end, lsn, check: encoded.check, ..tail });
        shared.last_batch_octets.set(total);
        shared.last_batch_groups.set(groups.len());
        shared.stats.batches.add(1);
        shared.stats.groups.add(to_u64(groups.len()));
        shared.stats.octets_written.add(to_u64(len));
        shared.in_flight.borrow_mut().push_back(InFlight {
            lsn,
            slot: tail.slot,
            at: tail.offset,
            end,
            check: encoded.check,
            blobs: encoded.blobs,
            groups,
            answers,
            arrived: false,
        });
        let log = self.clone();
        shared.env.spawn(async move {
            let mut written = log.write_and_sync(tail.slot, tail.offset, block).await;
            if written.is_ok() {
                written = log.note_first(tail.segment, tail.offset, lsn).await;
            }
            log.arrived(lsn, written.map_err(|error| error.to_string()));
        });
    }

    async fn write_and_sync(&self, slot: u32, at: u64, block: S::Block) -> io::Result<()> {
        let started = self.shared.env.now();
        self.shared.segments.write(slot, at, block).await?;
        self.shared.stats.syncs.add(1);
        if self.shared.settings.planted != super::Planted::AnswerBeforeSync {
            self.shared.segments.sync(slot).await?;
        }
        self.shared.stats.committed(self.shared.env.now().since(started));
        Ok(())
    }

    /// Notes the outcome of a batch, then applies and answers from the front what is due.
    fn arrived(&self, lsn: Lsn, result: Result<(), String>) {
        let shared = &self.shared;
        if let Err(why) = result {
            // From here on no sync of this slot counts: one that failed may have dropped what the
            // batch beside it wrote, and that one's own sync says nothing of it.
            shared.stats.failures.add(1);
            let mut health = shared.health.borrow_mut();
            if *health == Health::Good {
                *health = Health::Failing(why);
            }
        }
        if let Some(batch) = shared.in_flight.borrow_mut().iter_mut().find(|batch| batch.lsn == lsn)
        {
            batch.arrived = true;
        }
        loop {
            let front = {
                let mut in_flight = shared.in_flight.borrow_mut();
                match in_flight.front() {
                    Some(front) if front.arrived => in_flight.pop_front(),
                    _ => None,
                }
            };
            let Some(front) = front else { break };
            if *shared.health.borrow() == Health::Good {
                self.commit(front);
            } else {
                // Octets of a failed write may be on the disk all the same. Whoever is told "no"
                // may send again, so nobody is told before the next segment has left the batch
                // out for good.
                shared.refused.borrow_mut().extend(front.answers);
            }
        }
        shared.work.set();
    }

    /// The batch is on stable storage: apply it, then answer.
    fn commit(&self, batch: InFlight) {
        let shared = &self.shared;
        shared.failed_in_a_row.set(0);
        let records = batch.groups.iter().flat_map(|group| &group.records).map(|record| {
            Ok(Record {
                kind: record.kind,
                version: record.version,
                flags: record.flags,
                account: record.account,
                body: &record.body,
            })
        });
        let applied = shared.apply(batch.lsn, batch.slot, batch.at, &batch.blobs, records);
        if let Err(Damaged(why)) = applied {
            // A record that this very process wrote: memory cannot be trusted any more. The batch
            // is on the disk, so that nobody may be told that it is not.
            *shared.health.borrow_mut() = Health::ReadOnly(why.clone());
            let error = Err(AppendError::Uncertain(why));
            return batch.answers.iter().for_each(|answer| answer.give(error.clone()));
        }
        let tail = shared.tail.get();
        shared.applied.set(Position {
            segment: shared.segment_of(batch.slot),
            slot: batch.slot,
            offset: batch.end,
            lsn: batch.lsn,
            check: batch.check,
        });
        debug_assert!(tail.lsn >= batch.lsn, "the tail runs ahead of what is applied");
        shared.keep_blobs(batch.groups);
        let octets = batch.end - batch.at;
        shared.since_checkpoint.set(shared.since_checkpoint.get() + octets);
        if shared.since_checkpoint.get() >= shared.settings.checkpoint_octets {
            shared.checkpoint_due.set();
        }
        batch.answers.iter().for_each(|answer| answer.give(Ok(batch.lsn)));
    }

    /// After a failure: the slot is never written again; a new segment says what counts.
    async fn leave_failed_segment(&self) {
        let shared = &self.shared;
        let why = match &*shared.health.borrow() {
            Health::Failing(why) => why.clone(),
            Health::Good | Health::ReadOnly(_) => return,
        };
        let failures = shared.failed_in_a_row.get() + 1;
        shared.failed_in_a_row.set(failures);
        shared.segments.condemn(shared.tail.get().slot);
        shared.tail.set(shared.applied.get());
        let error = AppendError::Failed(why.clone());
        let rolled = if failures >= 2 { Err(error.clone()) } else { self.roll().await };
        match rolled {
            Ok(()) => *shared.health.borrow_mut() = Health::Good,
            Err(error) => {
                *shared.health.borrow_mut() = Health::ReadOnly(error.to_string());
                self.refuse_waiting(&error);
            }
        }
        let left_out = *shared.health.borrow() == Health::Good;
        let error = if left_out { error } else { AppendError::Uncertain(why) };
        for answer in shared.refused.take() {
            answer.give(Err(error.clone()));
        }
    }

    /// Begins the next segment. Nothing is in flight.
    async fn roll(&self) -> Result<(), AppendError> {
        let shared = &self.shared;
        let applied = shared.applied.get();
        let segment = shared.next_segment.get();
        let header = SegmentHeader {
            stream: Stream::Hot,
            epoch: shared.epoch,
            segment,
            previous: shared.hot.borrow().last().map_or(0, |last| last.segment),
            previous_valid: applied.lsn,
            previous_check: applied.check,
            created: shared.env.wall().0 / 1_000_000,
        };
        shared.next_segment.set(segment + 1);
        let slot = shared.segments.create(header).await.map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                self.set_crowded(Some(&error));
                self.prepare_spare();
                AppendError::Full
            } else {
                AppendError::Failed(error.to_string())
            }
        })?;
        {
            let mut hot = shared.hot.borrow_mut();
            if let Some(last) = hot.last_mut() {
                last.last = applied.lsn;
            }
            hot.push(HotSegment { slot, segment, last: Lsn(0), created: header.created });
        }
        shared.stats.segments.add(1);
        shared.cleaner.due.set();
        let offset = to_u64(BLOCK_OCTETS);
        shared.tail.set(Position { segment, slot, offset, ..applied });
        self.prepare_spare();
        if shared.crowded.get() {
            // What the segments before it hold of records alone gives their slots back.
            shared.checkpoint_due.set();
        }
        Ok(())
    }

    /// Those that bring blobs are told to come back.
    pub(super) fn refuse_blobs_waiting(&self) {
        let mut queue = self.shared.queue.borrow_mut();
        let (kept, refused) = queue.drain(..).partition(|one: &Waiting| one.group.blobs.is_empty());
        *queue = kept;
        self.shared.queued_octets.set(queue.iter().map(|one| one.octets).sum());
        drop(queue);
        let refused: VecDeque<Waiting> = refused;
        for one in refused {
            one.answer.give(Err(AppendError::Full));
        }
    }

    fn refuse_waiting(&self, error: &AppendError) {
        let waiting = std::mem::take(&mut *self.shared.queue.borrow_mut());
        self.shared.queued_octets.set(0);
        for one in waiting {
            one.answer.give(Err(error.clone()));
        }
    }

    /// Ends the log: what waits is written, a checkpoint taken, the files given back.
    pub async fn close(self) -> io::Result<()> {
        let shared = &self.shared;
        shared.stopping.set(true);
        shared.work.set();
        shared.stopped.wait().await;
        shared.cleaner.due.set();
        self.cleaned().await;
        self.verified().await;
        let saved = self.checkpoint().await;
        shared.checkpoint_due.set();
        self.prepared().await;
        shared.segments.close().await?;
        saved.map_err(|error| io::Error::other(error.to_string()))
    }
}
