//! The ticker: one thread that kicks every shard each few milliseconds and sees that it moves.
//!
//! glommio 0.9.0 can put a shard to sleep while tasks are ready to run: `run_task_queues` looks
//! for preemption before it runs anything and its caller takes "nothing ran" for "nothing to do".
//! Any completion on the latency ring at that moment does it, and the shard hangs until something
//! from outside wakes it. A kick from another thread does, provided that it stays in its place:
//! a waker that is taken out to wake can be lost in the same hole. So each shard has a task that
//! never ends, its waker stays with the ticker, and the ticker kicks whether the last kick was
//! answered or not.
//!
//! The same kick turns the shard's timer wheel, and its answer is the proof that the shard lives.

use super::clock::{Clock, now};
use crate::model::time::Mono;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A shard that has not answered for so many kicks is kicked more rarely: unanswered kicks are
/// kept by glommio, which counts them in 15 bits.
const KICKS_UNANSWERED_MAX: u64 = 200;
/// How much more rarely.
const KICK_EVERY: u64 = 100;

/// A shard that takes longer than this to answer counts as stalled.
pub const STALL: Duration = Duration::from_millis(20);

/// How one shard is doing, readable from every thread.
#[derive(Debug, Default)]
pub struct Pulse {
    waker: OnceLock<Waker>,
    /// Microseconds of the first kick that was not answered yet; 0: all are answered.
    asked_us: AtomicU64,
    beats: AtomicU64,
    kicks: AtomicU64,
    over: AtomicBool,
    longest_stall_us: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
    /// The longest time that the shard took to answer a kick, since the start. Counts long tasks,
    /// lost runs and cores that others took away alike.
    pub fn longest_stall(&self) -> Duration {
        Duration::from_micros(self.longest_stall_us.load(Ordering::Relaxed))
    }

    /// How often the shard took longer than [`STALL`] to answer.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Kicks that the shard answered so far; several that came close together count once.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    /// Kicks that the shard was given so far.
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Ordering::Acquire)
    }

    /// The executor has ended: nobody is left to be kicked.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Called by the shard whenever it comes by.
    fn beat(&self, now: Mono) {
        let asked = self.asked_us.swap(0, Ordering::AcqRel);
        if asked != 0 {
            let waited_us = micros(now).saturating_sub(asked);
            self.longest_stall_us.fetch_max(waited_us, Ordering::Relaxed);
            if u128::from(waited_us) > STALL.as_micros() {
                self.stalls.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.beats.fetch_add(1, Ordering::Release);
    }

    /// Called by the ticker. `unanswered` counts the kicks since the last answer.
    fn kick(&self, now: Mono, unanswered: &mut u64) {
        let Some(waker) = self.waker.get() else { return };
        if self.over.load(Ordering::Acquire) {
            return;
        }
        let stamp = micros(now).max(1);
        match self.asked_us.compare_exchange(0, stamp, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => *unanswered = 0,
            Err(asked) => {
                *unanswered += 1;
                // Seen while it lasts: a shard that hangs for good still shows.
                self.longest_stall_us.fetch_max(stamp.saturating_sub(asked), Ordering::Relaxed);
            }
        }
        if *unanswered <= KICKS_UNANSWERED_MAX || unanswered.is_multiple_of(KICK_EVERY) {
            waker.wake_by_ref();
            self.kicks.fetch_add(1, Ordering::Release);
        }
    }
}

fn micros(at: Mono) -> u64 {
    u64::try_from(at.0.as_micros()).unwrap_or(u64::MAX)
}

/// The shard's side: turns the wheel at every kick, for as long as the executor runs.
///
/// It never ends by itself: until the last task has returned a run can be lost, and a kick is what
/// finds it again.
pub(super) async fn answer(pulse: Arc<Pulse>, clock: Rc<Clock>) {
    poll_fn(|context| {
        // The waker of a task is the same at every poll.
        pulse.waker.get_or_init(|| context.waker().clone());
        let now = now();
        clock.turn(now);
        pulse.beat(now);
        Poll::<()>::Pending
    })
    .await;
}

/// Runs on the ticker's own thread until `stop`.
pub(super) fn tick(pulses: &[Arc<Pulse>], period: Duration, stop: &AtomicBool) {
    let mut unanswered = vec![0; pulses.len()];
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(period);
        let now = now();
        for (pulse, unanswered) in pulses.iter().zip(&mut unanswered) {
            pulse.kick(now, unanswered);
        }
    }
}
