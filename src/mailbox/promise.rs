//! An answer that comes later, between two tasks of one shard.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    waiting: Option<Waker>,
}

/// The side that answers; answering after the other side is gone does nothing.
#[derive(Debug)]
pub struct Promise<T>(Rc<RefCell<State<T>>>);

/// The side that waits. Waits for ever if the task that was to answer ended without.
#[derive(Debug)]
pub struct Promised<T>(Rc<RefCell<State<T>>>);

/// Both sides of an answer.
pub fn promise<T>() -> (Promise<T>, Promised<T>) {
    let state = Rc::new(RefCell::new(State { answer: None, waiting: None }));
    (Promise(Rc::clone(&state)), Promised(state))
}

impl<T> Promise<T> {
    pub fn keep(self, answer: T) {
        let mut state = self.0.borrow_mut();
        state.answer = Some(answer);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Future for Promised<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        state.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn gives_the_answer_whenever_it_comes() {
        let (promise_early, early) = promise();
        promise_early.keep(1);
        assert_eq!(block_on(early), 1);
        let (promise_late, mut late) = promise();
        assert_eq!(block_on(poll_once(&mut late)), None);
        promise_late.keep(2);
        assert_eq!(block_on(late), 2);
        let (unheard, gone) = promise::<u32>();
        drop(gone);
        unheard.keep(3);
    }
}
