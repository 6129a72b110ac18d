//! Threads that do what would hold up a shard.
//!
//! They are started before the shards, so that they are not bound to a shard's core, and step back
//! (nice 10) for them. Work waits in one of two bounded queues, the second of which mostly gets what
//! the first leaves; when it is full the caller is told at once. Work that panics answers that it is lost, and the thread goes on. Work that nobody waits for any
//! more is not begun.

use super::answer::{Answer, channel};
use super::hash::{Cost, hash};
use crossbeam::channel::{Receiver, Sender, bounded, select_biased};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far the threads step back for the shards.
const NICE: libc::c_int = 10;

/// Each so many pieces of work the second queue comes first, so that nobody waits for ever.
const SECOND_FIRST: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Which queue work waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    First,
    /// Of those who have given cause to let others go before them.
    Second,
}

/// The ends of the two queues, as their names say.
#[derive(Clone, Debug)]
struct Both<T> {
    first: T,
    second: T,
}

/// The queue is full: the client is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The threads; clones are the same threads, which end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `None`: the work is done at once by whoever asks, for simulations and tools.
    jobs: Option<Both<Sender<Job>>>,
    /// The hash of no password, which costs what others cost.
    dummy: Arc<str>,
    count: Arc<AtomicU64>,
}

impl Pool {
    /// Starts the threads that check passwords. Call it before the shards are started.
    pub fn start(cost: Cost, threads: usize, waiting_max: usize) -> io::Result<Pool> {
        Pool::named("auth", cost, threads, waiting_max)
    }

    /// Starts threads for other work. Call it before the shards are started.
    pub fn beside(name: &str, threads: usize, waiting_max: usize) -> io::Result<Pool> {
        Pool::named(name, Cost::LEAST, threads, waiting_max)
    }

    fn named(name: &str, cost: Cost, threads: usize, waiting_max: usize) -> io::Result<Pool> {
        let ((first, waiting_first), (second, waiting_second)) =
            (bounded(waiting_max), bounded(waiting_max));
        let jobs = Both { first, second };
        let waiting = Both { first: waiting_first, second: waiting_second };
        for index in 0..threads.max(1) {
            let waiting = waiting.clone();
            std::thread::Builder::new()
                .name(format!("pombal-{name}-{index}"))
                .spawn(move || work(&waiting))?;
        }
        Ok(Pool { jobs: Some(jobs), ..Pool::inline(cost) })
    }

    /// A pool without threads: every answer is there at once. Deterministic.
    pub fn inline(cost: Cost) -> Pool {
        let dummy = hash("", &[0; 16], cost).unwrap_or_default();
        Pool { jobs: None, dummy: dummy.into(), count: Arc::default() }
    }

    /// Has `work` done; the answer may be dropped at any time.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Answer<T>, Busy> {
        self.run_in(Queue::First, work)
    }

    /// The same from this queue.
    pub fn run_in<T: Send + 'static>(
        &self,
        queue: Queue,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Answer<T>, Busy> {
        let (reply, answer) = channel();
        let count = Arc::clone(&self.count);
        let job = move || {
            if reply.is_wanted() {
                count.fetch_add(1, Ordering::Relaxed);
                reply.send(work());
            }
        };
        match &self.jobs {
            Some(Both { first, second }) => {
                let jobs = if queue == Queue::First { first } else { second };
                jobs.try_send(Box::new(job)).map_err(|_| Busy)?;
            }
            None => job(),
        }
        Ok(answer)
    }

    /// Pieces of work that were begun since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn dummy(&self) -> Arc<str> {
        Arc::clone(&self.dummy)
    }
}

fn work(waiting: &Both<Receiver<Job>>) {
    step_back();
    let Both { first, second } = waiting;
    // What a job shares with others is its reply, which answers when it is dropped.
    let done = |job: Job| drop(catch_unwind(AssertUnwindSafe(job)));
    for turn in 1_usize.. {
        let (before, behind) =
            if turn.is_multiple_of(SECOND_FIRST) { (second, first) } else { (first, second) };
        let job = select_biased! {
            recv(before) -> job => job,
            recv(behind) -> job => job,
        };
        match job {
            Ok(job) => done(job),
            Err(_) => break,
        }
    }
    // Nobody adds to them any more.
    first.iter().chain(second).for_each(done);
}

#[expect(unsafe_code, reason = "std has no way to set a thread's priority")]
fn step_back() {
    // On Linux this is about the calling thread alone. Without it the threads would only be less
    // polite, so that a failure does not matter.
    // SAFETY: setpriority takes three numbers and touches no memory of ours.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Lost;
    use futures_lite::future::block_on;

    /// Keeps the one thread busy until what it returns is dropped.
    fn hold(pool: &Pool) -> (Answer<()>, Sender<()>) {
        let (begun, has_begun) = bounded(1);
        let (end, may_end) = bounded::<()>(0);
        let held = pool.run(move || {
            begun.send(()).unwrap();
            may_end.recv().unwrap_err();
        });
        has_begun.recv().unwrap();
        (held.unwrap(), end)
    }

    #[test]
    fn refuses_at_once_when_the_queue_is_full() {
        let pool = Pool::start(Cost::LEAST, 1, 1).unwrap();
        let (first, end) = hold(&pool);
        let second = pool.run(|| 2).unwrap();
        assert!(matches!(pool.run(|| 3), Err(Busy)));
        drop(end);
        assert_eq!(block_on(first), Ok(()));
        assert_eq!(block_on(second), Ok(2));
        assert_eq!(pool.count(), 2);
    }

    #[test]
    fn the_second_queue_waits_for_the_first_but_not_for_ever() {
        let pool = Pool::start(Cost::LEAST, 1, 16).unwrap();
        let (first, end) = hold(&pool);
        let (note, order) = bounded(16);
        let mut answers = Vec::new();
        for (queue, name) in [(Queue::Second, 's'), (Queue::First, 'f')] {
            for _ in 0..8 {
                let note = note.clone();
                answers.push(pool.run_in(queue, move || note.send(name).unwrap()).unwrap());
            }
        }
        drop((pool, note, end));
        block_on(first).unwrap();
        // To its end, although nobody can ask for more.
        for answer in answers {
            block_on(answer).unwrap();
        }
        assert_eq!(order.iter().collect::<String>(), "ffsfffsfffssssss");
    }

    #[test]
    fn goes_on_after_a_panic() {
        let pool = Pool::start(Cost::LEAST, 1, 4).unwrap();
        let lost = pool.run(|| panic!("as if something went wrong")).unwrap();
        let next = pool.run(|| 2).unwrap();
        assert_eq!(block_on(lost), Err::<(), Lost>(Lost));
        assert_eq!(block_on(next), Ok(2));
    }

    #[test]
    fn does_not_begin_what_nobody_waits_for() {
        let pool = Pool::start(Cost::LEAST, 1, 4).unwrap();
        let (end, may_end) = bounded::<()>(0);
        let first = pool.run(move || may_end.recv().unwrap()).unwrap();
        drop(pool.run(|| panic!("nobody wants this")).unwrap());
        let last = pool.run(|| 3).unwrap();
        end.send(()).unwrap();
        assert_eq!(block_on(first), Ok(()));
        assert_eq!(block_on(last), Ok(3));
        assert_eq!(pool.count(), 2);
    }
}
