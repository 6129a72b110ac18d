//! Where sessions wait for a check that another session of the same shard has under way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Closed,
    /// The check came out.
    Open(bool),
    /// Whoever was first left without an answer.
    Left,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Cell<State>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    pub(super) fn open(&self, right: bool) {
        self.turn(State::Open(right));
    }

    /// Lets everybody go, without an answer if there was none.
    pub(super) fn leave(&self) {
        if let State::Closed = self.state.get() {
            self.turn(State::Left);
        }
    }

    /// What came out; `None` if nothing did and the caller is to try for himself.
    pub(super) async fn wait(&self) -> Option<bool> {
        poll_fn(|context| match self.state.get() {
            State::Closed => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            State::Open(right) => Poll::Ready(Some(right)),
            State::Left => Poll::Ready(None),
        })
        .await
    }

    fn turn(&self, state: State) {
        self.state.set(state);
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
