//! The one side thread with tokio: what the world offers on tokio only is done here, off the shards.
//!
//! A shard sends an errand and goes on; the answer is a future that any executor can wait for. At
//! most so many errands are under way and so many wait; over it the caller is told at once. Nothing
//! here knows what an errand is for.
//!
//! ```text
//!   shard ── run(errand) ──> queue, bounded ──> [ thread "concierge": at most so many at once ]
//!     └──── Answer <──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Illegal: waiting for an answer on the way of every message without a deadline; work that
//! computes for long (threads of its own: `auth/pool.rs`).

pub mod dns;
pub mod document;
pub mod flights;
pub mod http;
pub mod journal;

use crate::model::limits::{ERRANDS_AT_ONCE_MAX, ERRANDS_WAITING_MAX};
use futures_lite::future::or;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, mpsc, oneshot};

type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The errand came to no end: it panicked, or the thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// The thread; clones are the same one, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Concierge {
    errands: mpsc::Sender<Errand>,
}

/// The answer that will come. Dropping it leaves the errand to itself, unless that is done
/// [while it is wanted](Concierge::run_while_wanted).
#[derive(Debug)]
#[must_use = "an answer is there to be awaited"]
pub struct Answer<T>(oneshot::Receiver<T>);

impl<T> Future for Answer<T> {
    type Output = Result<T, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Lost)
    }
}

impl Concierge {
    /// Starts the thread. Call it before the shards are started: a thread that a shard starts is
    /// bound to the shard's core.
    pub fn start() -> io::Result<Concierge> {
        Concierge::with_bounds(ERRANDS_AT_ONCE_MAX, ERRANDS_WAITING_MAX)
    }

    /// As [`Concierge::start`]: `at_once` errands are under way, `waiting` wait (each at least 1).
    pub fn with_bounds(at_once: usize, waiting: usize) -> io::Result<Concierge> {
        let (errands, mut queue) = mpsc::channel::<Errand>(waiting);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = async move {
            let places = Arc::new(Semaphore::new(at_once));
            while let Some(errand) = queue.recv().await {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                // A panic ends the errand alone: its answer is lost.
                drop(tokio::spawn(async move {
                    errand.await;
                    drop(place);
                }));
            }
        };
        std::thread::Builder::new()
            .name("concierge".into())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Concierge { errands })
    }

    /// Has `errand` done on the thread, within tokio.
    pub fn run<T: Send + 'static>(
        &self,
        errand: impl Future<Output = T> + Send + 'static,
    ) -> Result<Answer<T>, Busy> {
        let (reply, answer) = oneshot::channel();
        self.send(async move {
            // Who asked may have given up while this waited.
            if !reply.is_closed() {
                // Nobody may be interested any more.
                drop(reply.send(errand.await));
            }
        })?;
        Ok(Answer(answer))
    }

    /// As [`Concierge::run`], for as long as the answer is wanted: dropping it ends the errand, and gives
    /// its place to the next one.
    pub fn run_while_wanted<T: Send + 'static>(
        &self,
        errand: impl Future<Output = T> + Send + 'static,
    ) -> Result<Answer<T>, Busy> {
        let (mut reply, answer) = oneshot::channel();
        self.send(async move {
            let unwanted = async {
                reply.closed().await;
                None
            };
            if let Some(done) = or(unwanted, async { Some(errand.await) }).await {
                drop(reply.send(done));
            }
        })?;
        Ok(Answer(answer))
    }

    /// Has `errand` done that nobody waits for.
    pub fn send(&self, errand: impl Future<Output = ()> + Send + 'static) -> Result<(), Busy> {
        self.errands.try_send(Box::pin(errand)).map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use std::time::Duration;

    #[test]
    fn runs_errands_side_by_side() {
        let concierge = Concierge::start().unwrap();
        let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        // Each waits for the other one.
        let meet = |mine: &Arc<Semaphore>, other: &Arc<Semaphore>, number: u32| {
            let (mine, other) = (Arc::clone(mine), Arc::clone(other));
            concierge.run(async move {
                mine.add_permits(1);
                drop(other.acquire().await);
                number
            })
        };
        let answers = [meet(&first, &second, 1).unwrap(), meet(&second, &first, 2).unwrap()];
        assert_eq!(answers.map(block_on), [Ok(1), Ok(2)]);
    }

    #[test]
    fn refuses_what_has_no_room_and_goes_on() {
        let concierge = Concierge::with_bounds(1, 1).unwrap();
        let door = Arc::new(Semaphore::new(0));
        let wait = || {
            let door = Arc::clone(&door);
            concierge.run(async move { drop(door.acquire().await) })
        };
        let mut held = Vec::new();
        // One is under way, one is on its way to it, one waits.
        let refused = (0..10).find(|_| match wait() {
            Ok(answer) => {
                held.push(answer);
                std::thread::park_timeout(Duration::from_millis(1));
                false
            }
            Err(Busy) => true,
        });
        assert!(refused.is_some() && held.len() <= 3, "{}", held.len());
        door.add_permits(held.len());
        assert!(held.into_iter().all(|answer| block_on(answer) == Ok(())));
    }

    #[test]
    fn loses_the_answer_of_an_errand_that_panics_and_no_other() {
        let concierge = Concierge::start().unwrap();
        let empty: Vec<u8> = Vec::new();
        let lost = concierge.run(async move { empty[0] }).unwrap();
        assert_eq!(block_on(lost), Err(Lost));
        assert_eq!(block_on(concierge.run(async { 3 }).unwrap()), Ok(3));
    }

    #[test]
    fn ends_what_is_not_wanted_any_more() {
        let concierge = Concierge::with_bounds(1, 8).unwrap();
        let held = Arc::new(());
        let mine = Arc::clone(&held);
        let endless = async move {
            std::future::pending::<()>().await;
            drop(mine);
        };
        let unwanted = concierge.run_while_wanted(endless).unwrap();
        let behind = concierge.run_while_wanted(async { 3 }).unwrap();
        drop(unwanted);
        assert_eq!(block_on(behind), Ok(3));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
