//! One answer from a thread to a task, whichever runtime the task runs on.
//!
//! The thread puts the answer down and then looks for a waker; the task leaves its waker and then
//! looks for the answer. With a full fence between the two on both sides, one of them finds the
//! other.

use crossbeam::queue::ArrayQueue;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll, Waker};

/// The work panicked, or its thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

struct Shared<T> {
    /// An error inside if the work was given up.
    value: ArrayQueue<Result<T, Lost>>,
    waker: ArrayQueue<Waker>,
}

/// Makes the two ends.
pub(super) fn channel<T>() -> (Reply<T>, Answer<T>) {
    let shared = Arc::new(Shared { value: ArrayQueue::new(1), waker: ArrayQueue::new(1) });
    (Reply { shared: Arc::clone(&shared) }, Answer { shared })
}

/// The thread's end. Dropped without an answer, it answers that there is none.
pub(super) struct Reply<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Reply<T> {
    /// Whether anybody still waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    pub(super) fn send(self, value: T) {
        self.put(Ok(value));
    }

    fn put(&self, value: Result<T, Lost>) {
        // The first counts; the one of `drop` comes too late then.
        if self.shared.value.push(value).is_ok() {
            fence(Ordering::SeqCst);
            if let Some(waker) = self.shared.waker.pop() {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.put(Err(Lost));
    }
}

/// The task's end; may be dropped at any time.
pub struct Answer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Lost>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        if let Some(value) = self.shared.value.pop() {
            return Poll::Ready(value);
        }
        drop(self.shared.waker.force_push(context.waker().clone()));
        fence(Ordering::SeqCst);
        match self.shared.value.pop() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn hands_over_an_answer_from_another_thread() {
        for round in 0..2_000 {
            let (reply, answer) = channel();
            std::thread::scope(|scope| {
                scope.spawn(|| reply.send(round));
                assert_eq!(block_on(answer), Ok(round));
            });
        }
    }

    #[test]
    fn says_when_there_will_be_no_answer() {
        let (reply, answer) = channel::<u8>();
        drop(reply);
        assert_eq!(block_on(answer), Err(Lost));
    }

    #[test]
    fn knows_when_nobody_waits_any_more() {
        let (reply, answer) = channel::<u8>();
        assert!(reply.is_wanted());
        drop(answer);
        assert!(!reply.is_wanted());
    }
}
