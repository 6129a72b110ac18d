//! Receive buffer of one connection: filled at the back, used up at the front, bounded.
//!
//! An idle connection owns no memory: the block comes from the shard's pool when octets arrive
//! and goes back when the last one is used up. Ten thousand idle sessions cost what their state
//! costs, not what their buffers could.

use crate::model::limits::RECEIVE_BLOCK_OCTETS;
use std::cell::RefCell;

/// Blocks kept for reuse by one shard. More than this were in use at once: let the rest go.
const POOL_BLOCKS_MAX: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Takes a block from this shard's pool, or makes one.
fn take_block() -> Box<[u8]> {
    let pooled = POOL.with(|pool| pool.borrow_mut().pop());
    pooled.unwrap_or_else(|| vec![0; RECEIVE_BLOCK_OCTETS].into_boxed_slice())
}

fn give_block(block: Box<[u8]>) {
    POOL.with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOL_BLOCKS_MAX {
            pool.push(block);
        }
    });
}

/// Octets received and not yet used up. `start <= end <= RECEIVE_BLOCK_OCTETS`.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub const fn new() -> Buffer {
        Buffer { block: None, start: 0, end: 0 }
    }

    /// What was received and not yet used up.
    pub fn filled(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// The same, to be changed where it lies: records are opened in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block[self.start..self.end])
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// No more octets fit until some are used up. A protocol whose longest line is shorter than a
    /// block never sees this with an incomplete line in front.
    pub fn is_full(&self) -> bool {
        self.len() == RECEIVE_BLOCK_OCTETS
    }

    /// Uses up `count` octets at the front; the block goes back to the pool with the last one.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only received octets can be used up");
        self.start += count;
        if self.is_empty() {
            self.release();
        }
    }

    /// Calls `receive` with room at the back; it says how many octets it put there.
    ///
    /// Nothing is kept if it fails or puts nothing: the block of an idle connection goes back at
    /// once.
    pub fn fill<E>(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let block = self.block.get_or_insert_with(take_block);
        if self.start > 0 && self.end == block.len() {
            block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = block.get_mut(self.end..).expect("end lies within the block");
        let received = receive(room);
        if let Ok(count) = received {
            assert!(count <= RECEIVE_BLOCK_OCTETS - self.end, "received into the room only");
            self.end += count;
        }
        if self.is_empty() {
            self.release();
        }
        received
    }

    /// Puts octets at the back, for tests and for a connection that moved with octets unread.
    /// Returns how many fitted.
    pub fn push(&mut self, octets: &[u8]) -> usize {
        let taken: Result<usize, std::convert::Infallible> = self.fill(|room| {
            let count = room.len().min(octets.len());
            room[..count].copy_from_slice(&octets[..count]);
            Ok(count)
        });
        taken.unwrap_or_default()
    }

    fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        if let Some(block) = self.block.take() {
            give_block(block);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owns_no_block_while_empty() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.push(b"abc"), 3);
        buffer.consume(2);
        assert_eq!(buffer.filled(), b"c");
        buffer.consume(1);
        assert!(buffer.block.is_none());
    }

    #[test]
    fn moves_the_tail_to_the_front_when_the_back_is_reached() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.push(&vec![b'a'; RECEIVE_BLOCK_OCTETS]), RECEIVE_BLOCK_OCTETS);
        assert!(buffer.is_full());
        assert_eq!(buffer.push(b"x"), 0);
        buffer.consume(RECEIVE_BLOCK_OCTETS - 2);
        assert_eq!(buffer.push(b"xyz"), 3);
        assert_eq!(buffer.filled(), b"aaxyz");
    }
}
