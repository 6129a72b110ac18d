//! The octets of a message on their way to a server: block by block, linked where they lie.

use crate::bytes::chain::{Chain, Shared};
use crate::model::limits::MESSAGE_BLOCK_OCTETS;
use crate::proto::smtp::client::Framing;
use crate::wire::dot::stuffed;
use crate::wire::message::nature::Nature;
use memchr::memrchr;
use std::ops::Range;
use std::rc::Rc;

/// A message as it is stored, and what is put in front of it.
#[derive(Clone)]
pub struct Body<'b> {
    /// Whole header lines in ASCII that this hop adds, or nothing.
    pub front: &'b [u8],
    /// What holds the message, and where in it: [`crate::store::BlobView::message`].
    pub owner: Rc<dyn Shared>,
    pub range: Range<usize>,
    /// Of the message.
    pub nature: Nature,
}

impl Body<'_> {
    /// Octets that go out, dots not stuffed.
    pub fn len(&self) -> usize {
        self.front.len() + self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What of it is still to be written.
pub(super) struct Source<'b> {
    front: &'b [u8],
    owner: &'b Rc<dyn Shared>,
    range: Range<usize>,
    has_dot_lines: bool,
}

impl<'b> Source<'b> {
    pub(super) fn new(body: &'b Body<'_>) -> Source<'b> {
        Source {
            front: body.front,
            owner: &body.owner,
            range: body.range.clone(),
            has_dot_lines: body.nature.has(Nature::DOT_LINES),
        }
    }

    /// Writes the next block; false if that was the last.
    pub(super) fn put_block(&mut self, framing: Framing, out: &mut Chain) -> bool {
        out.put(std::mem::take(&mut self.front));
        let block = self.take_block();
        if framing == Framing::Data && self.has_dot_lines {
            self.put_stuffed(block, out);
        } else {
            out.link(self.owner, block);
        }
        !self.range.is_empty()
    }

    /// A block that ends with a line, unless that is longer: no CRLF is cut, nor the dot from the line
    /// end before it.
    fn take_block(&mut self) -> Range<usize> {
        let Range { start, end } = self.range;
        let mut cut = end.min(start + MESSAGE_BLOCK_OCTETS);
        if cut < end {
            let block = &self.owner[start..cut];
            cut = match memrchr(b'\n', block) {
                Some(lf) => start + lf + 1,
                None if block.ends_with(b"\r") => cut - 1,
                None => cut,
            };
        }
        self.range.start = cut;
        start..cut
    }

    fn put_stuffed(&self, block: Range<usize>, out: &mut Chain) {
        // What stands in front of a message ends with a line; so does each block that is followed by a
        // line's begin.
        let before = &self.owner[..block.start];
        let is_line_start = before.is_empty() || before.ends_with(b"\n");
        let mut at = block.start;
        for (index, piece) in stuffed(&self.owner[block], is_line_start).enumerate() {
            if index > 0 {
                out.put(b".");
            }
            out.link(self.owner, at..at + piece.len());
            at += piece.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dot::Unstuffed;
    use crate::wire::dot::Unstuffer;

    fn sent(body: &Body<'_>, framing: Framing) -> Vec<u8> {
        let (mut source, mut out) = (Source::new(body), Chain::new());
        while source.put_block(framing, &mut out) {}
        out.to_vec()
    }

    fn unstuffed(text: &[u8]) -> Vec<u8> {
        let (mut unstuffer, mut rest, mut all) = (Unstuffer::new(), text, Vec::new());
        loop {
            let (used, found) = unstuffer.step(rest);
            rest = &rest[used..];
            match found {
                Unstuffed::Text(text) => all.extend_from_slice(text),
                Unstuffed::Partial | Unstuffed::End => return all,
            }
        }
    }

    #[track_caller]
    fn check(message: &[u8]) {
        // The message lies anywhere in what holds it.
        let held = [b"x\n", message, b".y"].concat();
        let owner: Rc<dyn Shared> = Rc::new(held);
        let range = 2..2 + message.len();
        let body = Body { front: b"A: b\r\n", owner, range, nature: Nature::of(message) };
        let whole = [b"A: b\r\n", message].concat();
        assert_eq!(sent(&body, Framing::Chunk), whole);
        let data = sent(&body, Framing::Data);
        assert!(!data.windows(4).any(|window| window == b"\n.\r\n"), "no end before the end");
        let end: &[u8] = if message.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" };
        let mut want = whole;
        want.extend_from_slice(if message.ends_with(b"\r\n") { b"" } else { b"\r\n" });
        assert_eq!(unstuffed(&[&data, end].concat()), want);
    }

    #[test]
    fn stuffs_dots_wherever_blocks_are_cut() {
        check(b"");
        check(b".");
        check(b"a\r\n.\r\n..b\r\n.");
        for shift in 0..6 {
            let mut message = vec![b'a'; MESSAGE_BLOCK_OCTETS - shift];
            message.extend_from_slice(b"\r\n.\r\n.b\r\n");
            message.extend_from_slice(&vec![b'c'; MESSAGE_BLOCK_OCTETS]);
            message.extend_from_slice(b"\r\n.d");
            check(&message);
        }
    }

    #[test]
    fn links_what_need_not_be_changed() {
        let message = b"a: b\r\n".repeat(20_000);
        let owner: Rc<dyn Shared> = Rc::new(message);
        let range = 0..owner.len();
        let body = Body { front: b"", owner, range, nature: Nature::default() };
        let (mut source, mut out) = (Source::new(&body), Chain::new());
        while source.put_block(Framing::Data, &mut out) {}
        let first = out.slices().find(|slice| !slice.is_empty()).unwrap();
        assert!(std::ptr::eq(first.as_ptr(), body.owner.as_ptr()), "the octets lie where they lay");
    }
}
