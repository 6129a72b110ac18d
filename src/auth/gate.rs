//! Where sessions wait for a check that another session of the same shard has under way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Debug)]
enum State<T> {
    Closed,
    /// The check came out.
    Open(T),
    /// Whoever was first left without an answer.
    Left,
}

#[derive(Debug)]
pub(super) struct Gate<T> {
    state: RefCell<State<T>>,
    waiting: RefCell<Vec<Waker>>,
}

impl<T> Default for Gate<T> {
    fn default() -> Gate<T> {
        Gate { state: RefCell::new(State::Closed), waiting: RefCell::default() }
    }
}

impl<T: Clone> Gate<T> {
    pub(super) fn open(&self, outcome: T) {
        self.turn(State::Open(outcome));
    }

    /// Lets everybody go, without an answer if there was none.
    pub(super) fn leave(&self) {
        let is_closed = matches!(*self.state.borrow(), State::Closed);
        if is_closed {
            self.turn(State::Left);
        }
    }

    /// What came out; `None` if nothing did and the caller is to try for himself.
    pub(super) async fn wait(&self) -> Option<T> {
        poll_fn(|context| match &*self.state.borrow() {
            State::Closed => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            State::Open(outcome) => Poll::Ready(Some(outcome.clone())),
            State::Left => Poll::Ready(None),
        })
        .await
    }

    fn turn(&self, state: State<T>) {
        *self.state.borrow_mut() = state;
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
