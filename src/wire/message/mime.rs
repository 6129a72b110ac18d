//! The parts of a message as a flat table, made in one pass (RFC 2045, RFC 2046 §5).
//!
//! ```text
//! message   0 ─┬─ 1 text                    part 0, skip 5
//!              ├─ 2 message/rfc822 ── 3     part 2, skip 4
//!              └─ 4 image
//! ```
//!
//! Parts stand in the order of the message, parents first. `skip` is the index behind the last
//! part within: the first child of part `n` is `n + 1` if that is below its `skip`, the next
//! sibling is at `skip`. Broken messages are read as Dovecot reads them: a boundary matches by its
//! begin, the longest of all open ones wins (RFC 2046 §5.1.1), and an outer one closes whatever is
//! open within; a boundary among header lines ends the header; what has no closing boundary ends
//! with its parent. Lines end with LF, with or without CR.
//!
//! Invariants:
//!   - `header <= body <= end`, and a part lies within the body of its parent
//!   - siblings do not overlap
//!   - at most [`MIME_PARTS_MAX`] parts and [`MIME_DEPTH_MAX`] levels; beyond, the rest is one leaf

use super::head::{FieldKind, Head};
use super::params::{content_type, param, token_and_params};
use crate::bytes::codec::{to_u32, to_usize};
use crate::model::limits::{MIME_DEPTH_MAX, MIME_PARTS_MAX};
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};
use std::ops::Range;
use std::sync::LazyLock;

static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// What a part is to those who walk over it. The numbers are stored: never give one anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Other = 0,
    Text = 1,
    Multipart = 2,
    /// A multipart whose parts are messages where they do not say otherwise (RFC 2046 §5.1.5).
    Digest = 3,
    /// message/rfc822 or message/global: its one child is a message with a header of its own.
    Message = 4,
    /// A multipart or message that was not opened, since it lies too deep or comes too late.
    Closed = 5,
    /// Another message/…: a delivery status, a disposition notification. Text to a search.
    Status = 6,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Kind> {
        const KINDS: [Kind; 7] = [
            Kind::Other,
            Kind::Text,
            Kind::Multipart,
            Kind::Digest,
            Kind::Message,
            Kind::Closed,
            Kind::Status,
        ];
        KINDS.get(usize::from(number)).copied()
    }
}

/// A Content-Transfer-Encoding (RFC 2045 §6). The numbers are stored: never give one anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// 7bit, 8bit, binary, none, or a field that holds no token.
    Identity = 0,
    Base64 = 1,
    QuotedPrintable = 2,
    /// One that nobody here can undo.
    Unknown = 3,
}

/// One part; offsets in octets of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First octet of its header.
    pub header: u32,
    /// First octet behind its header and the empty line.
    pub body: u32,
    /// Behind its body; the line end before a boundary belongs to the boundary.
    pub end: u32,
    /// Line ends of the body.
    pub lines: u32,
    /// Index behind the last part within this one.
    pub skip: u16,
    pub kind: Kind,
    pub encoding: Encoding,
    /// Parts around it.
    pub depth: u8,
}

impl Part {
    pub fn header(&self) -> Range<usize> {
        range(self.header, self.body)
    }

    pub fn body(&self) -> Range<usize> {
        range(self.body, self.end)
    }

    /// Octets of the body.
    pub fn body_len(&self) -> u32 {
        self.end - self.body
    }

    pub fn is_multipart(&self) -> bool {
        matches!(self.kind, Kind::Multipart | Kind::Digest)
    }
}

fn range(start: u32, end: u32) -> Range<usize> {
    to_usize(u64::from(start))..to_usize(u64::from(end))
}

/// A message taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Never empty: the first is the message itself.
    pub parts: Vec<Part>,
    /// The header of the message.
    pub head: Head,
}

impl Tree {
    /// Takes a message apart, which must be shorter than
    /// [`crate::model::limits::MESSAGE_OCTETS_SUMMARY_MAX`]. Work is linear in its octets: each
    /// line that begins with two dashes is held against at most [`MIME_DEPTH_MAX`] boundaries.
    pub fn of(message: &[u8]) -> Tree {
        let mut parse = Parse {
            message,
            tree: Tree { parts: Vec::with_capacity(1), head: Head::default() },
            open: Vec::new(),
            bounds: Vec::new(),
            names: Vec::new(),
            counted: 0,
            lines: 0,
        };
        parse.run();
        parse.tree
    }
}

/// The indices of the children of part `index`.
pub fn children(parts: &[Part], index: usize) -> impl Iterator<Item = usize> {
    let end = parts.get(index).map_or(0, |part| usize::from(part.skip));
    let mut next = index + 1;
    std::iter::from_fn(move || {
        let child = next;
        let part = parts.get(child).filter(|_| child < end)?;
        next = usize::from(part.skip).max(child + 1);
        Some(child)
    })
}

/// The boundary of an open multipart.
struct Bound {
    part: usize,
    /// In `Parse::names`.
    name: Range<usize>,
}

/// A line that is a boundary.
struct Found {
    /// Where the text before it ends: before the line end that belongs to it.
    start: usize,
    /// First octet of the next line.
    next: usize,
    bound: usize,
    closes: bool,
}

struct Parse<'a> {
    message: &'a [u8],
    tree: Tree,
    /// Parts that have not ended, outermost first.
    open: Vec<usize>,
    /// Multiparts that have not been closed, outermost first.
    bounds: Vec<Bound>,
    /// The boundaries, one behind the other.
    names: Vec<u8>,
    /// Line ends were counted up to here,
    counted: usize,
    /// and so many were found.
    lines: u32,
}

impl Parse<'_> {
    fn run(&mut self) {
        let mut at = 0;
        loop {
            // A part begins at `at`.
            at = self.begin(at);
            let index = self.open[self.open.len() - 1];
            if self.tree.parts[index].kind == Kind::Message {
                continue;
            }
            // Boundaries that open nothing are passed over: epilogues begin behind them.
            loop {
                let Some(found) = self.find(at) else {
                    self.end_down_to(0, self.message.len());
                    return;
                };
                let parent = self.bounds[found.bound].part;
                let depth = usize::from(self.tree.parts[parent].depth);
                self.end_down_to(depth + 1, found.start);
                self.bounds.truncate(found.bound + usize::from(!found.closes));
                at = found.next;
                if !found.closes {
                    break;
                }
            }
        }
    }

    /// Reads the header that begins at `start` and opens its part; returns where its body begins.
    fn begin(&mut self, start: usize) -> usize {
        let (head, end) = Head::scan(self.message, start, |at| self.bound_at(at).is_some());
        let body = if end.stopped { self.before_line(end.end).max(start) } else { end.end };
        let index = self.tree.parts.len();
        let depth = self.open.len();
        let (kind, encoding) = self.kind(&head, index, depth);
        self.count(body);
        self.tree.parts.push(Part {
            header: to_u32(start),
            body: to_u32(body),
            end: to_u32(body),
            lines: self.lines,
            skip: 0,
            kind,
            encoding,
            depth: u8::try_from(depth).expect("the depth has a bound"),
        });
        if index == 0 {
            self.tree.head = head;
        }
        self.open.push(index);
        // A body that the header was cut off for begins with the boundary that cut it.
        if end.stopped { end.end } else { body }
    }

    /// What the part with this header is; a multipart with a boundary is made ready for it.
    fn kind(&mut self, head: &Head, index: usize, depth: usize) -> (Kind, Encoding) {
        let encoding = head
            .value(self.message, FieldKind::ContentTransferEncoding)
            .map_or(Encoding::Identity, Encoding::of);
        let parent = self.open.last().map(|&parent| self.tree.parts[parent].kind);
        let named = head.value(self.message, FieldKind::ContentType).and_then(content_type);
        let is = |text: &[u8], name: &str| text.eq_ignore_ascii_case(name.as_bytes());
        let kind = match named {
            None if parent == Some(Kind::Digest) => Kind::Message,
            None => Kind::Text,
            Some(found) if is(found.kind, "text") => Kind::Text,
            Some(found) if is(found.kind, "multipart") => {
                if is(found.subtype, "digest") {
                    Kind::Digest
                } else {
                    Kind::Multipart
                }
            }
            Some(found) if is(found.kind, "message") => {
                let opens = is(found.subtype, "rfc822") || is(found.subtype, "global");
                if opens { Kind::Message } else { Kind::Status }
            }
            Some(_) => Kind::Other,
        };
        if !matches!(kind, Kind::Message | Kind::Multipart | Kind::Digest) {
            return (kind, encoding);
        }
        if depth + 1 >= MIME_DEPTH_MAX || index + 1 >= MIME_PARTS_MAX {
            return (Kind::Closed, encoding);
        }
        if let (Some(found), Kind::Multipart | Kind::Digest) = (named, kind) {
            let mut name = Vec::new();
            if param(found.params, "boundary", &mut name) && !name.is_empty() {
                let start = self.names.len();
                self.names.extend_from_slice(&name);
                self.bounds.push(Bound { part: index, name: start..self.names.len() });
            }
        }
        (kind, encoding)
    }

    /// The first boundary line at or behind `at`, the begin of a line.
    fn find(&self, at: usize) -> Option<Found> {
        if self.bounds.is_empty() || self.tree.parts.len() >= MIME_PARTS_MAX {
            return None;
        }
        let mut line = at;
        loop {
            if let Some((bound, closes)) = self.bound_at(line) {
                let rest = &self.message[line..];
                let next = line + memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
                return Some(Found { start: self.before_line(line), next, bound, closes });
            }
            line += DASHES.find(self.message.get(line..)?)? + 1;
        }
    }

    /// The open boundary that the line at `at` begins with, and whether it is the closing one.
    fn bound_at(&self, at: usize) -> Option<(usize, bool)> {
        let line = self.message.get(at..)?.strip_prefix(b"--")?;
        let mut best: Option<(usize, usize)> = None;
        for (index, bound) in self.bounds.iter().enumerate().rev() {
            let len = bound.name.len();
            if best.is_none_or(|(_, longest)| longest < len)
                && line.starts_with(&self.names[bound.name.clone()])
            {
                best = Some((index, len));
            }
        }
        best.map(|(index, len)| (index, line[len..].starts_with(b"--")))
    }

    /// `at` is the begin of a line: the begin of the line end before it.
    fn before_line(&self, at: usize) -> usize {
        match self.message[..at] {
            [.., b'\r', b'\n'] => at - 2,
            [.., b'\n'] => at - 1,
            _ => at,
        }
    }

    /// Ends all parts that lie deeper than `depth - 1`, innermost first.
    fn end_down_to(&mut self, depth: usize, end: usize) {
        let mut end = to_u32(end);
        let count = u16::try_from(self.tree.parts.len()).expect("parts have a bound");
        while self.open.len() > depth {
            let Some(index) = self.open.pop() else { return };
            // A part whose header runs into a boundary may begin behind the end of its parent; but a
            // message begins where the part that holds it has its body.
            let outer = self.open.last().map(|&outer| self.tree.parts[outer]);
            let holder = outer.filter(|outer| outer.kind == Kind::Message);
            end = end.max(holder.map_or(self.tree.parts[index].header, |holder| holder.header));
            self.count(to_usize(u64::from(end)));
            let part = &mut self.tree.parts[index];
            if part.body > end {
                // The line end before the boundary is the empty line: the part has no body.
                (part.header, part.body) = (part.header.min(end), end);
                part.lines = self.lines;
            }
            part.end = end;
            part.lines = self.lines - part.lines;
            part.skip = count;
        }
    }

    /// Counts line ends up to `at`, which goes back by one line end at most.
    fn count(&mut self, at: usize) {
        let (from, to) = (self.counted.min(at), self.counted.max(at));
        let lines = to_u32(memchr_iter(b'\n', &self.message[from..to]).count());
        self.lines = if at < self.counted { self.lines - lines } else { self.lines + lines };
        self.counted = at;
    }
}

impl Encoding {
    /// The encoding with this number.
    pub fn from_number(number: u8) -> Option<Encoding> {
        const ENCODINGS: [Encoding; 4] =
            [Encoding::Identity, Encoding::Base64, Encoding::QuotedPrintable, Encoding::Unknown];
        ENCODINGS.get(usize::from(number)).copied()
    }

    /// Reads the value of a Content-Transfer-Encoding.
    pub fn of(value: &[u8]) -> Encoding {
        let Some((name, _)) = token_and_params(value) else { return Encoding::Identity };
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("base64") {
            Encoding::Base64
        } else if is("quoted-printable") {
            Encoding::QuotedPrintable
        } else if is("7bit") || is("8bit") || is("binary") {
            Encoding::Identity
        } else {
            Encoding::Unknown
        }
    }
}

/// Laws: no panic; the invariants of the header of this file.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_mime(data: &[u8]) {
    let tree = Tree::of(data);
    let parts = &tree.parts;
    let first = &parts[0];
    assert_eq!((first.header, first.end), (0, to_u32(data.len())));
    assert_eq!(usize::from(first.skip), parts.len());
    assert_eq!((tree.head, first.body().start), Head::of(data));
    assert!(parts.len() <= MIME_PARTS_MAX);
    for (index, part) in parts.iter().enumerate() {
        assert!(part.header <= part.body && part.body <= part.end);
        assert!(usize::from(part.depth) < MIME_DEPTH_MAX && usize::from(part.skip) > index);
        let lines = memchr_iter(b'\n', &data[part.body()]).count();
        assert_eq!(part.lines, to_u32(lines), "lines of part {index}");
        let mut last = part.body;
        let mut count = 0;
        for child in children(parts, index) {
            let child = &parts[child];
            assert!(last <= child.header && child.end <= part.end, "{child:?} within {part:?}");
            assert_eq!(child.depth, part.depth + 1);
            last = child.end;
            count += 1;
        }
        match part.kind {
            Kind::Message => assert_eq!(count, 1),
            Kind::Multipart | Kind::Digest => {}
            Kind::Text | Kind::Other | Kind::Closed | Kind::Status => assert_eq!(count, 0),
        }
    }
}

#[cfg(test)]
#[path = "mime_tests.rs"]
mod tests;
