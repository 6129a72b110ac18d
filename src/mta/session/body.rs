//! The octets of a message on their way to a server: block by block, linked where they lie.

use crate::bytes::chain::{Chain, Shared};
use crate::model::limits::MESSAGE_BLOCK_OCTETS;
use crate::proto::smtp::client::Framing;
use crate::wire::dot::stuffed;
use crate::wire::message::downgrade::{Piece, Plan, Recoder};
use crate::wire::message::encode::Coding;
use crate::wire::message::mime::Encoding;
use crate::wire::message::nature::Nature;
use memchr::memrchr;
use std::ops::Range;
use std::rc::Rc;
use std::vec;

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
    /// The message.
    pub fn octets(&self) -> &[u8] {
        &self.owner[self.range.clone()]
    }

    /// Octets that go out as they are, dots not stuffed.
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
    owner: Rc<dyn Shared>,
    framing: Option<Framing>,
    /// The pieces behind the one under way.
    pieces: vec::IntoIter<Piece>,
    under_way: Option<Piece>,
    recoder: Option<Recoder>,
    has_dot_lines: bool,
    /// What was written last ended with CRLF.
    is_closed: bool,
}

impl<'b> Source<'b> {
    /// The message as it is, or, by a plan, as it can be sent.
    pub(super) fn new(body: Body<'b>, plan: Option<Plan>) -> Source<'b> {
        let pieces = match plan {
            Some(plan) => plan.pieces,
            None if body.range.is_empty() => Vec::new(),
            None => vec![Piece::Octets(0..body.range.len())],
        };
        let Body { front, owner, range, nature } = body;
        // The pieces count from the begin of the message.
        let pieces: Vec<Piece> =
            pieces.into_iter().map(|piece| shift(piece, range.start)).collect();
        let mut pieces = pieces.into_iter();
        Source {
            front,
            owner,
            framing: None,
            under_way: pieces.next(),
            pieces,
            recoder: None,
            has_dot_lines: nature.has(Nature::DOT_LINES),
            is_closed: true,
        }
    }

    /// What was written does not end with CRLF.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed
    }

    /// Writes the next block; false if that was the last.
    pub(super) fn put_block(&mut self, framing: Framing, out: &mut Chain) -> bool {
        self.framing = Some(framing);
        out.put(std::mem::take(&mut self.front));
        let goal = out.len() + MESSAGE_BLOCK_OCTETS;
        while let Some(piece) = self.under_way.take() {
            self.under_way = match piece {
                Piece::Octets(range) => self.put_octets(range, out).map(Piece::Octets),
                Piece::Text(text) => {
                    self.is_closed = text.ends_with(b"\r\n");
                    self.put_new(&text, out);
                    None
                }
                Piece::Body { range, from, to } => {
                    let rest = self.put_body(range, from, to, out);
                    rest.map(|range| Piece::Body { range, from, to })
                }
            };
            if self.under_way.is_none() {
                self.under_way = self.pieces.next();
            }
            if out.len() >= goal {
                break;
            }
        }
        self.under_way.is_some()
    }

    fn is_stuffed(&self) -> bool {
        self.has_dot_lines && self.framing == Some(Framing::Data)
    }

    /// Links a block of the message; what is left of it.
    fn put_octets(&mut self, range: Range<usize>, out: &mut Chain) -> Option<Range<usize>> {
        let (block, rest) = self.cut(range);
        self.is_closed = self.owner[block.clone()].ends_with(b"\r\n");
        if !self.is_stuffed() {
            out.link(&self.owner, block);
            return rest;
        }
        // What stands in front of a message ends with a line, and pieces begin with lines.
        let before = &self.owner[..block.start];
        let is_line_start = before.is_empty() || before.ends_with(b"\n");
        let mut at = block.start;
        for (index, piece) in stuffed(&self.owner[block], is_line_start).enumerate() {
            out.put(if index > 0 { b"." } else { b"" });
            out.link(&self.owner, at..at + piece.len());
            at += piece.len();
        }
        rest
    }

    /// Whole lines that are new, or a preamble, which may begin with a line end.
    fn put_new(&self, text: &[u8], out: &mut Chain) {
        if !self.is_stuffed() {
            return out.put(text);
        }
        for (index, piece) in stuffed(text, true).enumerate() {
            out.put(if index > 0 { b"." } else { b"" });
            out.put(piece);
        }
    }

    /// Encodes a block of a body; what is left of it. What comes out has nothing to be stuffed.
    fn put_body(
        &mut self,
        range: Range<usize>,
        from: Encoding,
        to: Coding,
        out: &mut Chain,
    ) -> Option<Range<usize>> {
        let (block, rest) = self.cut(range);
        let mut text = Vec::new();
        let recoder = self.recoder.get_or_insert_with(|| Recoder::new(from, to));
        recoder.feed(&self.owner[block], &mut text);
        if rest.is_none() {
            recoder.end(&mut text);
            self.recoder = None;
        }
        if !text.is_empty() {
            self.is_closed = text.ends_with(b"\r\n");
        }
        out.put_whole(text);
        rest
    }

    /// A block that ends with a line, unless that is longer: no CRLF is cut, nor the dot from the line
    /// end before it.
    fn cut(&self, Range { start, end }: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
        let mut cut = end.min(start + MESSAGE_BLOCK_OCTETS);
        if cut < end {
            let block = &self.owner[start..cut];
            cut = match memrchr(b'\n', block) {
                Some(lf) => start + lf + 1,
                None if block.ends_with(b"\r") => cut - 1,
                None => cut,
            };
        }
        (start..cut, (cut < end).then_some(cut..end))
    }
}

fn shift(piece: Piece, by: usize) -> Piece {
    let moved = |range: Range<usize>| range.start + by..range.end + by;
    match piece {
        Piece::Octets(range) => Piece::Octets(moved(range)),
        Piece::Text(text) => Piece::Text(text),
        Piece::Body { range, from, to } => Piece::Body { range: moved(range), from, to },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dot::Unstuffed;
    use crate::wire::dot::Unstuffer;
    use crate::wire::message::downgrade::to_vec;

    fn sent(body: &Body<'_>, framing: Framing, plan: Option<Plan>) -> Vec<u8> {
        let (mut source, mut out) = (Source::new(body.clone(), plan), Chain::new());
        while source.put_block(framing, &mut out) {}
        let octets = out.to_vec();
        let is_open = !octets.is_empty() && !octets.ends_with(b"\r\n");
        assert_eq!(source.is_open(), is_open);
        octets
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
        assert_eq!(sent(&body, Framing::Chunk, None), whole);
        let data = sent(&body, Framing::Data, None);
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
        let (mut source, mut out) = (Source::new(body.clone(), None), Chain::new());
        while source.put_block(Framing::Data, &mut out) {}
        let first = out.slices().find(|slice| !slice.is_empty()).unwrap();
        assert!(std::ptr::eq(first.as_ptr(), body.owner.as_ptr()), "the octets lie where they lay");
    }

    #[test]
    fn sends_the_new_message_where_the_old_one_does_not_fit() {
        let line = "Zeile mit Umlauten: äöü, und mehr Text, der ohne auskommt\r\n.\r\n";
        let message = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n.preämble\r\n--b\r\n\r\n{}\r\n--b\r\n\r\n\
             .plain\r\n--b\r\nContent-Type: a/b\r\n\r\n{}\r\n--b--\r\n",
            line.repeat(3_000),
            "ÿ".repeat(100_000)
        );
        for message in [message.as_bytes(), line.as_bytes(), "\r\nÿÿÿÿ".as_bytes()] {
            let held = [b"x\n", message, b".y"].concat();
            let owner: Rc<dyn Shared> = Rc::new(held);
            let range = 2..2 + message.len();
            let body = Body { front: b"A: b\r\n", owner, range, nature: Nature::of(message) };
            let Ok(plan) = Plan::of(message) else {
                // A line with octets over 127 and no empty line before it is a header.
                assert!(message.starts_with(b"Zeile"));
                continue;
            };
            let want = [b"A: b\r\n", &to_vec(message, &plan)[..]].concat();
            assert!(want.is_ascii());
            assert!(sent(&body, Framing::Chunk, Some(plan.clone())) == want);
            let data = [&sent(&body, Framing::Data, Some(plan))[..], b".\r\n"].concat();
            assert!(unstuffed(&data) == want);
        }
    }
}
