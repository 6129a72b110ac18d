//! A reply as a chain of slices: short texts gathered in one block, long ones borrowed.
//!
//! Message octets are shared out of the store's blocks and never copied on their way to the
//! socket; status lines and the like are copied together, so that a write has few slices.

use std::collections::{VecDeque, vec_deque};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// Slices shorter than this are copied instead of linked: a slice costs more than the copy.
const LINK_OCTETS_MIN: usize = 512;

/// Room a new text gets: most replies grow by two or three short pieces.
const TEXT_OCTETS_MIN: usize = 128;

/// Octets that somebody else owns, kept alive while they are on their way.
pub trait Shared: Deref<Target = [u8]> {}
impl<T: Deref<Target = [u8]>> Shared for T {}

enum Part {
    Text(Vec<u8>),
    Slice { owner: Rc<dyn Shared>, start: usize, end: usize },
}

impl Part {
    #[inline]
    fn octets(&self) -> &[u8] {
        match self {
            Part::Text(text) => text,
            Part::Slice { owner, start, end } => &owner[*start..*end],
        }
    }
}

/// Octets to send, in order.
#[derive(Default)]
pub struct Chain {
    parts: VecDeque<Part>,
    /// Octets of the first part that were sent already.
    sent: usize,
    len: usize,
}

impl Chain {
    pub const fn new() -> Chain {
        Chain { parts: VecDeque::new(), sent: 0, len: 0 }
    }

    /// Octets not yet sent.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `text` to the end.
    #[inline]
    pub fn put(&mut self, text: &[u8]) {
        self.len += text.len();
        match self.parts.back_mut() {
            Some(Part::Text(last)) => last.extend_from_slice(text),
            _ => self.put_first(text),
        }
    }

    #[inline(never)]
    fn put_first(&mut self, text: &[u8]) {
        let mut first = Vec::with_capacity(text.len().max(TEXT_OCTETS_MIN));
        first.extend_from_slice(text);
        self.parts.push_back(Part::Text(first));
    }

    /// Takes `text` to the end as it is, without a copy.
    pub fn put_whole(&mut self, text: Vec<u8>) {
        if !text.is_empty() {
            self.len += text.len();
            self.parts.push_back(Part::Text(text));
        }
    }

    /// Links `owner[range]` to the end; short ones are copied.
    #[inline]
    pub fn link(&mut self, owner: &Rc<dyn Shared>, range: std::ops::Range<usize>) {
        if range.len() < LINK_OCTETS_MIN {
            return self.put(&owner[range]);
        }
        self.len += range.len();
        self.parts.push_back(Part::Slice {
            owner: Rc::clone(owner),
            start: range.start,
            end: range.end,
        });
    }

    /// Moves all of `later` to the end.
    pub fn append(&mut self, mut later: Chain) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for (index, part) in std::mem::take(&mut later.parts).into_iter().enumerate() {
            match part {
                Part::Text(text) if index == 0 => self.put(text.get(later.sent..).unwrap_or(&[])),
                Part::Text(text) => self.put(&text),
                Part::Slice { owner, start, end } => {
                    let start = if index == 0 { start + later.sent } else { start };
                    self.len += end - start;
                    self.parts.push_back(Part::Slice { owner, start, end });
                }
            }
        }
    }

    /// The unsent slices from the front, for one vectored write.
    #[inline]
    pub fn slices(&self) -> Slices<'_> {
        Slices { parts: self.parts.iter(), sent: self.sent }
    }

    /// Forgets `count` octets at the front: they were sent.
    pub fn consume(&mut self, mut count: usize) {
        assert!(count <= self.len, "only what is in the chain can be sent");
        self.len -= count;
        while let Some(part) = self.parts.front() {
            let left = part.octets().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.parts.pop_front();
        }
    }

    /// Everything unsent as one piece, for tests and tools.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.len);
        self.slices().for_each(|slice| octets.extend_from_slice(slice));
        octets
    }
}

/// See [`Chain::slices`].
pub struct Slices<'c> {
    parts: vec_deque::Iter<'c, Part>,
    /// Octets of the next part that were sent already.
    sent: usize,
}

impl<'c> Iterator for Slices<'c> {
    type Item = &'c [u8];

    #[inline]
    fn next(&mut self) -> Option<&'c [u8]> {
        let octets = self.parts.next()?.octets();
        Some(&octets[std::mem::take(&mut self.sent)..])
    }
}

impl fmt::Write for Chain {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Chain({} octets in {} parts)", self.len, self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn sends_texts_and_links_in_order_however_they_are_cut() {
        let body: Rc<dyn Shared> = Rc::new(vec![b'm'; 2_000]);
        for step in [1, 7, 511, 4_000] {
            let mut chain = Chain::new();
            write!(chain, "+OK {}\r\n", 1_000).expect("a chain takes all text");
            chain.link(&body, 500..1_500);
            chain.link(&body, 0..3);
            chain.put(b".\r\n");
            let whole = chain.to_vec();
            assert_eq!(whole.len(), chain.len());
            let mut sent = Vec::new();
            while !chain.is_empty() {
                let count = step.min(chain.len());
                let front: Vec<u8> = chain.slices().flatten().copied().take(count).collect();
                sent.extend_from_slice(&front);
                chain.consume(count);
            }
            assert_eq!(sent, whole);
            assert_eq!(chain.slices().count(), 0);
        }
    }
}
