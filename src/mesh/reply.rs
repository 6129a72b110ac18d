//! One answer to one question, from any thread to any other.
//!
//! Whoever was asked holds the [`Reply`]. If it is dropped unused (the task that held it died, the
//! message was refused or lost with its inbox) the asker hears [`Gone`] instead of waiting for ever.

use crossbeam::queue::ArrayQueue;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: ArrayQueue<T>,
    waker: ArrayQueue<Waker>,
    /// The reply was used or dropped: nothing comes any more but what lies in `value`.
    over: AtomicBool,
}

/// The right to answer once.
pub struct Reply<T>(Arc<Slot<T>>);

/// The answer that will come. Dropping it makes the answer go nowhere.
#[must_use = "an answer is there to be awaited"]
pub struct Answer<T>(Arc<Slot<T>>);

/// The other side is gone and will never answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A question's two ends.
pub fn reply<T>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Slot {
        value: ArrayQueue::new(1),
        waker: ArrayQueue::new(1),
        over: AtomicBool::new(false),
    });
    (Reply(Arc::clone(&slot)), Answer(slot))
}

impl<T> Reply<T> {
    /// Answers. Whoever asked may have lost interest; that is no error.
    pub fn send(self, value: T) {
        // The place is empty: it is filled here only, and this end is used up.
        drop(self.0.value.force_push(value));
    }

    /// Nobody waits for the answer any more.
    pub fn is_unwanted(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(waker) = self.0.waker.pop() {
            waker.wake();
        }
    }
}

impl<T> Slot<T> {
    fn look(&self) -> Option<Result<T, Gone>> {
        // In this order: a value that lies there was put before it was over.
        let over = self.over.load(Ordering::SeqCst);
        match self.value.pop() {
            Some(value) => Some(Ok(value)),
            None if over => Some(Err(Gone)),
            None => None,
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Gone>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = &self.0;
        if let Some(result) = slot.look() {
            return Poll::Ready(result);
        }
        drop(slot.waker.force_push(context.waker().clone()));
        fence(Ordering::SeqCst);
        slot.look().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn brings_the_answer_across_threads() {
        for round in 0..2_000 {
            let (reply, answer) = reply();
            let asked = std::thread::scope(|scope| {
                scope.spawn(move || reply.send(round));
                block_on(answer)
            });
            assert_eq!(asked, Ok(round));
        }
    }

    #[test]
    fn says_that_the_other_side_is_gone() {
        let (reply, answer) = reply::<u8>();
        assert!(!reply.is_unwanted());
        drop(reply);
        assert_eq!(block_on(answer), Err(Gone));
    }

    #[test]
    fn lets_an_unwanted_answer_go_nowhere() {
        let (reply, answer) = reply();
        drop(answer);
        assert!(reply.is_unwanted());
        reply.send('x');
    }
}
