//! Runs the tasks of all shards on one thread, in an order made of the seed, under its own clock.
//!
//! Of the tasks that are ready one is taken at random; a poll costs 0.1 to 1.1 µs of virtual
//! time, and the clock leaps to the next timer only when nothing is ready. No future is polled,
//! dropped or woken while a cell of the executor is borrowed, so that all of them may call back.
//!
//! Illegal: to wake from another thread (it would work, and not replay).

use super::chance::{Chance, mix};
use crate::bytes::hash::Sorted;
use crate::model::id::ShardId;
use crossbeam::queue::SegQueue;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The slot that the root future of `run_until` goes by.
const ROOT: u32 = u32::MAX;

type Task = Pin<Box<dyn Future<Output = ()>>>;
/// A moment and a running number that keeps timers of the same moment apart.
type TimerKey = (u64, u64);

/// Names one task for ever: slots are used again, with the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    slot: u32,
    generation: u32,
}

/// What a waker points at. Queues its task at most once until the task is polled.
struct Signal {
    key: Key,
    queued: AtomicBool,
    woken: Arc<SegQueue<Key>>,
}

impl Signal {
    fn new(key: Key, woken: &Arc<SegQueue<Key>>) -> Arc<Signal> {
        Arc::new(Signal { key, queued: AtomicBool::new(false), woken: Arc::clone(woken) })
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Signal>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Signal>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.woken.push(self.key);
        }
    }
}

struct Live {
    /// Absent while it is being polled.
    task: Option<Task>,
    signal: Arc<Signal>,
    waker: Waker,
    shard: ShardId,
    spawned: &'static Location<'static>,
}

struct Slot {
    generation: u32,
    live: Option<Live>,
}

/// What the executor can do next.
enum Turn {
    Root,
    Task(Key),
    /// Nothing is ready; the next timer is due then.
    Sleep(u64),
    Stuck,
}

/// Whose tasks are being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dying {
    Nobody,
    Shard(ShardId),
    Everybody,
}

impl Dying {
    fn takes(self, shard: ShardId) -> bool {
        self == Dying::Everybody || self == Dying::Shard(shard)
    }
}

/// How a drive ended.
pub(super) enum Ended {
    /// The root future is done, or the moment is reached.
    Done,
    /// Nothing is ready and no timer is set: the root would wait for ever.
    Stuck,
    /// More polls than the budget allows.
    Exhausted,
    /// Somebody called [`Executor::halt`].
    Halted,
}

/// A task that panicked: where it came from and what it said.
pub(super) struct Panicked {
    pub(super) shard: ShardId,
    pub(super) spawned: &'static Location<'static>,
    pub(super) message: String,
}

pub(super) struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<Vec<Key>>,
    woken: Arc<SegQueue<Key>>,
    timers: RefCell<Sorted<TimerKey, Waker>>,
    timers_made: Cell<u64>,
    root: RefCell<Option<Arc<Signal>>>,
    roots_made: Cell<u32>,
    /// Nanoseconds since the start.
    now: Cell<u64>,
    polls: Cell<u64>,
    halted: Cell<bool>,
    trace: Cell<u64>,
    chance: Chance,
    /// While a shard is killed nothing can be spawned on it.
    dying: Cell<Dying>,
    panicked: RefCell<Option<Panicked>>,
}

impl Executor {
    pub(super) fn new(chance: Chance, trace: u64) -> Executor {
        Executor {
            slots: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            woken: Arc::default(),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            root: RefCell::default(),
            roots_made: Cell::new(0),
            now: Cell::new(0),
            polls: Cell::new(0),
            halted: Cell::new(false),
            trace: Cell::new(trace),
            chance,
            dying: Cell::new(Dying::Nobody),
            panicked: RefCell::default(),
        }
    }

    /// Nanoseconds since the start.
    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Makes an event part of what two runs of a seed must have in common.
    pub(super) fn trace(&self, event: u64) {
        self.trace.set(mix(self.trace.get().rotate_left(7) ^ event));
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    /// Ends the drive after the poll that runs now.
    pub(super) fn halt(&self) {
        self.halted.set(true);
    }

    pub(super) fn spawn(&self, shard: ShardId, spawned: &'static Location<'static>, task: Task) {
        if self.dying.get().takes(shard) {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot { generation: 0, live: None });
            u32::try_from(slots.len() - 1).expect("fewer than 2^32 tasks")
        });
        let place = &mut slots[slot as usize];
        let key = Key { slot, generation: place.generation };
        let signal = Signal::new(key, &self.woken);
        let waker = Waker::from(Arc::clone(&signal));
        signal.wake_by_ref();
        place.live = Some(Live { task: Some(task), signal, waker, shard, spawned });
    }

    /// Drops the tasks of one shard, or of all.
    pub(super) fn kill(&self, dying: Dying) {
        let before = self.dying.replace(dying);
        let mut dropped = Vec::new();
        for (index, slot) in self.slots.borrow_mut().iter_mut().enumerate() {
            if slot.live.as_ref().is_some_and(|live| dying.takes(live.shard)) {
                dropped.push(slot.live.take());
                slot.generation = slot.generation.wrapping_add(1);
                self.free.borrow_mut().push(u32::try_from(index).expect("fewer than 2^32 tasks"));
            }
        }
        drop(dropped);
        self.dying.set(before);
    }

    /// How many tasks live, by where they were spawned, in a stable order.
    pub(super) fn census(&self) -> Vec<String> {
        let mut counts: Sorted<(u16, &str, u32), usize> = Sorted::new();
        for live in self.slots.borrow().iter().filter_map(|slot| slot.live.as_ref()) {
            let key = (live.shard.0, live.spawned.file(), live.spawned.line());
            *counts.entry(key).or_default() += 1;
        }
        let line = |((shard, file, line), count)| format!("{count}x shard {shard} {file}:{line}");
        counts.into_iter().map(line).collect()
    }

    /// The task that panicked last, once.
    pub(super) fn take_panicked(&self) -> Option<Panicked> {
        self.panicked.borrow_mut().take()
    }

    /// Has `waker` called at `moment`, and nobody can take it back.
    pub(super) fn wake_at(&self, moment: u64, waker: Waker) {
        self.insert_timer(moment, waker);
    }

    fn insert_timer(&self, moment: u64, waker: Waker) -> TimerKey {
        let key = (moment, self.timers_made.get());
        self.timers_made.set(key.1 + 1);
        self.timers.borrow_mut().insert(key, waker);
        key
    }

    /// Runs until `poll_root` says that it is done, or to the moment `until`. At most `budget`
    /// polls. `between` is called before each poll. A task's panic ends the drive as
    /// [`Ended::Halted`], with [`Executor::take_panicked`] telling which.
    pub(super) fn drive(
        &self,
        until: u64,
        budget: u64,
        between: &dyn Fn(),
        poll_root: &mut dyn FnMut(&mut Context<'_>) -> bool,
    ) -> Ended {
        let root = Signal::new(
            Key { slot: ROOT, generation: self.roots_made.replace(self.roots_made.get() + 1) },
            &self.woken,
        );
        let root_waker = Waker::from(Arc::clone(&root));
        root_waker.wake_by_ref();
        *self.root.borrow_mut() = Some(root);
        let last_poll = self.polls.get().saturating_add(budget);
        while self.now.get() < until {
            if self.halted.get() {
                return Ended::Halted;
            }
            if self.polls.get() >= last_poll {
                return Ended::Exhausted;
            }
            between();
            match self.turn() {
                Turn::Root => {
                    if poll_root(&mut Context::from_waker(&root_waker)) {
                        return Ended::Done;
                    }
                    self.spend();
                }
                Turn::Task(key) => {
                    if self.poll(key) {
                        self.spend();
                    }
                }
                Turn::Sleep(moment) => self.leap(moment.min(until)),
                Turn::Stuck if until == u64::MAX => return Ended::Stuck,
                Turn::Stuck => self.leap(until),
            }
        }
        Ended::Done
    }

    fn turn(&self) -> Turn {
        let mut ready = self.ready.borrow_mut();
        while let Some(key) = self.woken.pop() {
            ready.push(key);
        }
        if ready.is_empty() {
            return match self.timers.borrow().first_key_value() {
                Some((&(moment, _), _)) => Turn::Sleep(moment),
                None => Turn::Stuck,
            };
        }
        let picked = self.chance.index(ready.len());
        let key = ready.swap_remove(picked);
        if key.slot != ROOT {
            return Turn::Task(key);
        }
        match &*self.root.borrow() {
            Some(root) if root.key == key => {
                root.queued.store(false, Ordering::Relaxed);
                Turn::Root
            }
            // A waker of an earlier root: a task that is no more stands for it.
            _ => Turn::Task(key),
        }
    }

    /// Polls a task; false if it is no more.
    fn poll(&self, key: Key) -> bool {
        let (mut task, waker) = {
            let mut slots = self.slots.borrow_mut();
            let live = slots
                .get_mut(key.slot as usize)
                .filter(|slot| slot.generation == key.generation)
                .and_then(|slot| slot.live.as_mut());
            let Some(live) = live else { return false };
            live.signal.queued.store(false, Ordering::Relaxed);
            let task = live.task.take().expect("a task is not polled within its own poll");
            (task, live.waker.clone())
        };
        self.trace(u64::from(key.slot) << 32 | u64::from(key.generation));
        let mut context = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {
                let mut slots = self.slots.borrow_mut();
                let slot = &mut slots[key.slot as usize];
                if let Some(live) = &mut slot.live
                    && slot.generation == key.generation
                {
                    live.task = Some(task);
                    return true;
                }
                // Killed by its own poll: dropped below, with nothing borrowed.
                drop(slots);
                drop(task);
            }
            Ok(Poll::Ready(())) => {
                self.bury(key);
                drop(task);
            }
            Err(payload) => {
                if let Some(live) = self.bury(key) {
                    let message = message_of(payload.as_ref());
                    let Live { shard, spawned, .. } = live;
                    *self.panicked.borrow_mut() = Some(Panicked { shard, spawned, message });
                    self.halt();
                }
                drop(task);
            }
        }
        true
    }

    fn bury(&self, key: Key) -> Option<Live> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key.slot as usize];
        if slot.generation != key.generation {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.borrow_mut().push(key.slot);
        slot.live.take()
    }

    /// Lets the time of one poll pass.
    fn spend(&self) {
        self.polls.set(self.polls.get() + 1);
        let now = self.now.get() + 100 + (self.chance.bits() & 1_023);
        self.now.set(now);
        self.trace(now);
        self.fire();
    }

    fn leap(&self, moment: u64) {
        self.now.set(self.now.get().max(moment));
        self.fire();
    }

    fn fire(&self) {
        let now = self.now.get();
        loop {
            let due = {
                let mut timers = self.timers.borrow_mut();
                match timers.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            due.wake();
        }
    }

    /// Forgets that a halt was asked for: the next drive runs again.
    pub(super) fn resume(&self) {
        self.halted.set(false);
    }
}

/// The text of a panic.
pub(super) fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "not a text".to_owned())
}

/// One timer that can be set again and goes away when dropped.
pub(super) struct Alarm<'a> {
    executor: &'a Executor,
    key: Option<TimerKey>,
}

impl<'a> Alarm<'a> {
    pub(super) fn new(executor: &'a Executor) -> Alarm<'a> {
        Alarm { executor, key: None }
    }

    /// Wakes at `moment` instead of what was set before; `u64::MAX` is never.
    pub(super) fn set(&mut self, moment: u64, waker: &Waker) {
        if let Some(key) = self.key
            && key.0 == moment
            && let Some(set) = self.executor.timers.borrow_mut().get_mut(&key)
        {
            set.clone_from(waker);
            return;
        }
        self.clear();
        if moment != u64::MAX {
            self.key = Some(self.executor.insert_timer(moment, waker.clone()));
        }
    }

    fn clear(&mut self) {
        if let Some(key) = self.key.take() {
            let removed = self.executor.timers.borrow_mut().remove(&key);
            drop(removed);
        }
    }

    /// Comes back at `moment`.
    pub(super) async fn wait(mut self, moment: u64) {
        std::future::poll_fn(|context| {
            if self.executor.now() >= moment {
                return Poll::Ready(());
            }
            self.set(moment, context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
