//! The inboxes: a lock-free ring of messages and a place for one waker, per shard.
//!
//! ```text
//!   sender:    push message    fence    take the waker, wake
//!   receiver:  leave waker     fence    look for a message once more, sleep
//! ```
//!
//! The fences see to it that at least one side notices the other: either the receiver finds the
//! message on its second look or the sender finds the waker. The waker is taken out with the first
//! message, so that a burst wakes once.

use crate::model::id::ShardId;
use crate::model::limits::MESH_INBOX_MAX;
use crossbeam::queue::ArrayQueue;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll, Waker};

struct Mailslot<M> {
    messages: ArrayQueue<M>,
    /// Of the receiver while it sleeps.
    waker: ArrayQueue<Waker>,
}

impl<M> Mailslot<M> {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.pop() {
            waker.wake();
        }
    }
}

/// All inboxes, seen from any shard.
pub struct Mesh<M> {
    boxes: Arc<[Mailslot<M>]>,
}

/// The message came back: the other shard has too many that wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<M>(pub M);

/// One shard's inbox. There is one receiver for each.
pub struct Inbox<M> {
    boxes: Arc<[Mailslot<M>]>,
    shard: ShardId,
}

impl<M> Clone for Mesh<M> {
    fn clone(&self) -> Mesh<M> {
        Mesh { boxes: Arc::clone(&self.boxes) }
    }
}

impl<M> fmt::Debug for Mesh<M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mesh of {} shards", self.boxes.len())
    }
}

impl<M> Mesh<M> {
    /// Connects `shards` shards; the inboxes come in the order of their numbers.
    pub fn new(shards: u16) -> (Mesh<M>, Vec<Inbox<M>>) {
        Mesh::with_capacity(shards, MESH_INBOX_MAX)
    }

    /// As [`Mesh::new`], with room for `capacity` messages in each inbox (at least 1).
    pub fn with_capacity(shards: u16, capacity: usize) -> (Mesh<M>, Vec<Inbox<M>>) {
        let boxes: Arc<[Mailslot<M>]> = (0..shards)
            .map(|_| Mailslot { messages: ArrayQueue::new(capacity), waker: ArrayQueue::new(1) })
            .collect();
        let inbox = |number| Inbox { boxes: Arc::clone(&boxes), shard: ShardId(number) };
        let inboxes = (0..shards).map(inbox).collect();
        (Mesh { boxes }, inboxes)
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.boxes.len()).expect("made of a u16")
    }

    /// Messages that wait in the inbox of `shard`.
    pub fn waiting(&self, shard: ShardId) -> usize {
        self.boxes[usize::from(shard.0)].messages.len()
    }

    /// Puts `message` into the inbox of `to`; its own inbox is as good as another.
    pub fn send(&self, to: ShardId, message: M) -> Result<(), Full<M>> {
        let inbox = &self.boxes[usize::from(to.0)];
        inbox.messages.push(message).map_err(Full)?;
        inbox.wake();
        Ok(())
    }
}

impl<M> Inbox<M> {
    /// Whose inbox this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    fn mine(&self) -> &Mailslot<M> {
        &self.boxes[usize::from(self.shard.0)]
    }

    /// The next message if one waits.
    pub fn try_recv(&mut self) -> Option<M> {
        self.mine().messages.pop()
    }

    /// The next message. May be dropped at any time without losing one.
    pub fn recv(&mut self) -> impl Future<Output = M> {
        poll_fn(|context| self.poll_recv(context))
    }

    fn poll_recv(&mut self, context: &Context<'_>) -> Poll<M> {
        let mine = self.mine();
        if let Some(message) = mine.messages.pop() {
            return Poll::Ready(message);
        }
        // A waker that was left before is of an older poll.
        drop(mine.waker.force_push(context.waker().clone()));
        fence(Ordering::SeqCst);
        match mine.messages.pop() {
            Some(message) => Poll::Ready(message),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn keeps_the_order_of_each_sender_and_refuses_what_has_no_room() {
        let (mesh, mut inboxes) = Mesh::with_capacity(2, 2);
        mesh.send(ShardId(1), 'a').unwrap();
        mesh.send(ShardId(1), 'b').unwrap();
        assert_eq!(mesh.send(ShardId(1), 'c'), Err(Full('c')));
        assert_eq!(mesh.waiting(ShardId(1)), 2);
        assert_eq!(inboxes[0].try_recv(), None);
        assert_eq!(inboxes[1].try_recv(), Some('a'));
        assert_eq!(block_on(inboxes[1].recv()), 'b');
    }

    /// Two threads, an inbox that is empty again after every message: each is one chance to lose a
    /// wake-up, and a lost one would hang the test.
    #[test]
    fn loses_no_wake_up() {
        let rounds = 50_000_u32;
        let (mesh, inboxes) = Mesh::with_capacity(2, 1);
        let [mut left, mut right] = <[_; 2]>::try_from(inboxes).ok().expect("two inboxes");
        let back = mesh.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..rounds {
                    let message = block_on(right.recv());
                    back.send(ShardId(0), message).expect("one message is under way");
                }
            });
            for round in 0..rounds {
                mesh.send(ShardId(1), round).expect("one message is under way");
                assert_eq!(block_on(left.recv()), round);
            }
        });
    }
}
