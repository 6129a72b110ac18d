//! A view: a mailbox as it was at one moment, for a session that must not see it change.
//!
//! It shares the chunks of the mailbox; a chunk is copied only when a message comes or goes in it
//! while some view still reads it.

use super::chunk::Chunk;
use super::row::Entry;
use crate::bytes::codec::to_u32;
use crate::model::id::{Uid, UidValidity};
use std::rc::Rc;

/// A chunk and the index of its first message.
#[derive(Clone, Debug)]
struct Run {
    first: u32,
    chunk: Rc<Chunk>,
}

/// A mailbox at one moment. Messages have an index from 0 in the order of their UIDs.
#[derive(Clone, Debug)]
pub struct View {
    uidvalidity: UidValidity,
    uidnext: Uid,
    count: u32,
    octets: u64,
    runs: Box<[Run]>,
}

impl View {
    /// Of an account that never got mail.
    pub fn empty() -> View {
        View::new(UidValidity(0), Uid(1), 0, std::iter::empty())
    }

    pub(super) fn new(
        uidvalidity: UidValidity,
        uidnext: Uid,
        octets: u64,
        chunks: impl Iterator<Item = Rc<Chunk>>,
    ) -> View {
        let mut count = 0;
        let runs = chunks.map(|chunk| {
            let first = count;
            count += to_u32(chunk.rows.len());
            Run { first, chunk }
        });
        let runs = runs.collect();
        View { uidvalidity, uidnext, count, octets, runs }
    }

    /// Changes when UIDs start anew; 0 if there was never a mailbox.
    pub fn uidvalidity(&self) -> UidValidity {
        self.uidvalidity
    }

    pub fn uidnext(&self) -> Uid {
        self.uidnext
    }

    /// How many messages.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their sizes together.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The message at `index`.
    pub fn get(&self, index: u32) -> Option<Entry> {
        let at = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let run = self.runs.get(at)?;
        run.chunk.entry(usize::try_from(index - run.first).ok()?)
    }

    /// All messages in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        let chunks = self.runs.iter().map(|run| &run.chunk);
        chunks.flat_map(|chunk| chunk.rows.iter().map(|row| row.unpack(chunk.base)))
    }
}
