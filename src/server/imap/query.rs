//! The keys of a search made ready for one selected mailbox, and held against its messages.
//!
//! ```text
//!   keys ─ Query::new ─> tree, cheap keys first ─┬─ Query::row       row alone: yes, no, or open
//!                        needles, folded once    └─ Reader::matches  summary, then message
//! ```
//!
//! A row answers flags, dates, sizes and numbers for a nanosecond each; a message is read for what
//! is open then, and its octets are looked through last.

use super::fetch::Source;
use super::object::{email_blob, named_thread, thread_of};
use super::selected::Selected;
use crate::bytes::codec::{to_u64, to_usize};
use crate::mailbox::summary::{Stored, Summary};
use crate::mailbox::{Entry, Flags, Keywords};
use crate::model::id::{BlobId, LogId};
use crate::store::BlobView;
use crate::wire::imap::command::search::{Dated, Key, Mark, When, Within};
use crate::wire::imap::scan::{Text, Which};
use crate::wire::imap::set::{Span, is_among};
use crate::wire::message::charset::to_utf8;
use crate::wire::message::fields::fields;
use crate::wire::message::head::{FieldKind, Head};
use crate::wire::message::mime::{Part, Tree};
use crate::wire::message::search::{Hunt, MessageSearch, Needle};
use crate::wire::message::sent::{Sent, sent};
use std::ops::Range;

const SECONDS_A_DAY: i64 = 86_400;

/// What keys mean depends on these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub log: LogId,
    /// Seconds since 1970.
    pub now: u32,
    /// The charset of the strings, one that is known; empty for UTF-8.
    pub charset: &'a [u8],
}

/// A key that may hold others.
#[derive(Debug)]
enum Node {
    Known(bool),
    /// Message numbers, in spans that rise.
    Numbers(Vec<Span>),
    Uids(Range<u32>),
    /// `\Recent`: UIDs, in spans that rise.
    Recent(Vec<Span>),
    Flags {
        flags: Flags,
        set: bool,
    },
    Keyword {
        bit: u64,
        set: bool,
    },
    /// INTERNALDATE in seconds.
    Received(Range<i64>),
    /// SAVEDATE in seconds.
    Saved(Range<i64>),
    Size(Range<u64>),
    ModSeq(u64),
    Blob(BlobId),
    /// The day of the Date field.
    Sent(Range<i64>),
    Thread(u64),
    /// A needle in fields of this name.
    Field {
        name: Box<[u8]>,
        needle: usize,
    },
    /// A needle in the body; with `header`, in the whole message.
    Words {
        header: bool,
        needle: usize,
    },
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// How dear a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Row,
    Summary,
    Header,
    Body,
}

/// See the header.
#[derive(Debug)]
pub(super) struct Query {
    root: Node,
    needles: Vec<Needle>,
    /// Needles that are looked for in bodies, and whether in the header of the message too.
    words: Vec<(usize, bool)>,
    /// Keys, those that hold others included.
    pub len: usize,
    /// Some keys ask for what summaries know.
    asks_summaries: bool,
}

/// Whether mod-sequences are asked for, and so are part of the answer (RFC 7162 §3.1.5).
pub(super) fn asks_mod_seq(keys: &[Key<'_>]) -> bool {
    keys.iter().any(|key| match key {
        Key::ModSeq(_) => true,
        Key::Not(inner) => asks_mod_seq(std::slice::from_ref(inner)),
        Key::Or(inner) | Key::And(inner) => asks_mod_seq(inner),
        _ => false,
    })
}

/// Whether messages are named by their numbers.
pub(super) fn names_numbers(keys: &[Key<'_>]) -> bool {
    keys.iter().any(|key| match key {
        Key::Numbers(Which::Set(_)) => true,
        Key::Not(inner) => names_numbers(std::slice::from_ref(inner)),
        Key::Or(inner) | Key::And(inner) => names_numbers(inner),
        _ => false,
    })
}

impl Query {
    /// Makes keys ready, all of which must hold.
    pub(super) fn new(keys: &[Key<'_>], selected: &Selected, around: Surroundings<'_>) -> Query {
        let mut making = Making {
            selected,
            around,
            needles: Vec::new(),
            words: Vec::new(),
            len: 0,
            asks_summaries: false,
        };
        let root = Node::All(making.nodes(keys));
        let Making { needles, words, len, asks_summaries, .. } = making;
        Query { root, needles, words, len, asks_summaries }
    }

    /// What the row alone says; `None`: the message has to be read.
    pub(super) fn row(&self, number: u32, entry: &Entry, known: Option<&Keywords>) -> Option<bool> {
        self.root.row(&Row { number, entry, known })
    }

    /// Whether a message is among those that are to be searched at all: what MESSAGELIMIT counts.
    pub(super) fn looks_at(&self, number: u32, entry: &Entry) -> bool {
        self.root.looks_at(&Row { number, entry, known: None })
    }
}

/// A query in the making.
struct Making<'s, 'a> {
    selected: &'s Selected,
    around: Surroundings<'a>,
    needles: Vec<Needle>,
    words: Vec<(usize, bool)>,
    len: usize,
    asks_summaries: bool,
}

impl Making<'_, '_> {
    fn nodes(&mut self, keys: &[Key<'_>]) -> Vec<Node> {
        let mut nodes: Vec<Node> = keys.iter().map(|key| self.node(key)).collect();
        nodes.sort_by_key(Node::cost);
        nodes
    }

    fn node(&mut self, key: &Key<'_>) -> Node {
        self.len += 1;
        let now = i64::from(self.around.now);
        match key {
            Key::All | Key::SaveDateSupported => Node::Known(true),
            Key::Numbers(which) => self.numbers(*which, false),
            Key::Uids(which) => self.numbers(*which, true),
            Key::UidAfter(uid) => Node::Uids(uid.saturating_add(1)..u32::MAX),
            Key::UidBefore(uid) => Node::Uids(0..*uid),
            Key::Has { mark, set } => self.has(*mark, *set),
            Key::New => Node::All(vec![self.has(Mark::Recent, true), self.has(Mark::Seen, false)]),
            Key::ThreadId(id) => match named_thread(id) {
                Some(thread) => {
                    self.asks_summaries = true;
                    Node::Thread(thread)
                }
                None => Node::Known(false),
            },
            Key::Keyword { name, set } => {
                let bit = self.selected.view.keywords().map_or(0, |known| known.bit(name));
                Node::Keyword { bit, set: *set }
            }
            Key::Date { dated, when, date } => {
                let days = match when {
                    When::Before => i64::MIN..date.0,
                    When::On => date.0..date.0 + 1,
                    When::Since => date.0..i64::MAX,
                };
                let seconds = days.start.saturating_mul(SECONDS_A_DAY)
                    ..days.end.saturating_mul(SECONDS_A_DAY);
                match dated {
                    Dated::Internal => Node::Received(seconds),
                    Dated::Saved => Node::Saved(seconds),
                    Dated::Sent => {
                        self.asks_summaries = true;
                        Node::Sent(days)
                    }
                }
            }
            Key::Older(seconds) => Node::Received(i64::MIN..now - i64::from(*seconds) + 1),
            Key::Younger(seconds) => Node::Received(now - i64::from(*seconds)..i64::MAX),
            Key::Larger(octets) => Node::Size(octets.saturating_add(1)..u64::MAX),
            Key::Smaller(octets) => Node::Size(0..*octets),
            Key::ModSeq(least) => Node::ModSeq(*least),
            Key::EmailId(id) => {
                email_blob(self.around.log, id).map_or(Node::Known(false), Node::Blob)
            }
            Key::Contains { within, text } => self.contains(*within, *text),
            Key::Not(inner) => Node::Not(Box::new(self.node(inner))),
            Key::Or(inner) => Node::Any(self.nodes(inner)),
            Key::And(inner) => Node::All(self.nodes(inner)),
        }
    }

    /// A number that no message has is met by none: RFC 5182 §2.2 has such a search, and other
    /// servers take them. `1:*` is what clients ask of an empty mailbox, too.
    fn numbers(&self, which: Which<'_>, uid: bool) -> Node {
        if self.selected.count() == 0 {
            return Node::Known(false);
        }
        Node::Numbers(self.selected.numbers_there(which, uid))
    }

    fn has(&self, mark: Mark, set: bool) -> Node {
        let flags = match mark {
            Mark::Answered => Flags::ANSWERED,
            Mark::Deleted => Flags::DELETED,
            Mark::Draft => Flags::DRAFT,
            Mark::Flagged => Flags::FLAGGED,
            Mark::Seen => Flags::SEEN,
            Mark::Recent => {
                let recent = Node::Recent(self.selected.recent.spans().to_vec());
                return if set { recent } else { Node::Not(Box::new(recent)) };
            }
        };
        Node::Flags { flags, set }
    }

    fn contains(&mut self, within: Within<'_>, text: Text<'_>) -> Node {
        let mut wanted = String::new();
        to_utf8(self.around.charset, &text.octets(), &mut wanted);
        if wanted.is_empty() && matches!(within, Within::Body | Within::Text) {
            // Nothing is in everything, whatever of it can be read.
            return Node::Known(true);
        }
        let needle = self.needles.len();
        self.needles.push(Needle::new(&wanted));
        let field = |name: &[u8]| Node::Field { name: name.into(), needle };
        match within {
            Within::Bcc => field(b"Bcc"),
            Within::Cc => field(b"Cc"),
            Within::From => field(b"From"),
            Within::Subject => field(b"Subject"),
            Within::To => field(b"To"),
            Within::Header(name) => field(&name.octets()),
            Within::Body | Within::Text => {
                let header = matches!(within, Within::Text);
                self.words.push((needle, header));
                Node::Words { header, needle }
            }
        }
    }
}

/// What the mailbox knows of a message.
struct Row<'a> {
    number: u32,
    entry: &'a Entry,
    known: Option<&'a Keywords>,
}

impl Node {
    fn cost(&self) -> Cost {
        match self {
            Node::Sent(_) | Node::Thread(_) => Cost::Summary,
            Node::Field { .. } => Cost::Header,
            Node::Words { .. } => Cost::Body,
            Node::Not(inner) => inner.cost(),
            Node::All(inner) | Node::Any(inner) => {
                inner.iter().map(Node::cost).max().unwrap_or(Cost::Row)
            }
            _ => Cost::Row,
        }
    }

    /// By the numbers and UIDs alone that every result must have.
    fn looks_at(&self, row: &Row<'_>) -> bool {
        match self {
            Node::All(inner) => inner.iter().all(|node| node.looks_at(row)),
            Node::Numbers(_) | Node::Uids(_) => self.row(row) == Some(true),
            _ => true,
        }
    }

    fn row(&self, row: &Row<'_>) -> Option<bool> {
        let entry = row.entry;
        Some(match self {
            Node::Known(holds) => *holds,
            Node::Numbers(spans) => is_among(spans, row.number),
            Node::Uids(uids) => uids.contains(&entry.uid.0),
            Node::Recent(spans) => is_among(spans, entry.uid.0),
            Node::Flags { flags, set } => entry.flags.has(*flags) == *set,
            Node::Keyword { bit, set } => {
                let mask = row.known.map_or(0, |known| known.mask(entry.keywords));
                (mask & bit != 0) == *set
            }
            Node::Received(seconds) => seconds.contains(&entry.internal_date.into()),
            Node::Saved(seconds) => seconds.contains(&entry.save_date.into()),
            Node::Size(octets) => octets.contains(&entry.size.into()),
            Node::ModSeq(least) => entry.modseq.0 >= *least,
            Node::Blob(blob) => entry.blob == *blob,
            Node::Sent(_) | Node::Thread(_) | Node::Field { .. } | Node::Words { .. } => {
                return None;
            }
            Node::Not(inner) => return inner.row(row).map(|holds| !holds),
            Node::All(inner) => return decide(inner, row, false),
            Node::Any(inner) => return decide(inner, row, true),
        })
    }
}

/// Whether some of the nodes is `decisive`, which decides for all; open if none is, but one may be.
fn decide(nodes: &[Node], row: &Row<'_>, decisive: bool) -> Option<bool> {
    let mut open = false;
    for node in nodes {
        match node.row(row) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!decisive)
}

/// Holds a query against messages; the room stays.
pub(super) struct Reader<'q> {
    query: &'q Query,
    /// One for each needle.
    searches: Vec<MessageSearch<'q>>,
    /// Of a large message: what was found in it before, by needle.
    found: Vec<(usize, bool)>,
    parts: Vec<Part>,
}

/// A message, as far as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter<'a> {
    /// As it was stored.
    pub summary: &'a [u8],
    pub octets: Option<&'a [u8]>,
}

impl<'a> Letter<'a> {
    pub(super) fn of(source: &'a Source) -> Letter<'a> {
        let octets = source.blob.as_ref().map(BlobView::octets);
        Letter { summary: &source.summary, octets }
    }

    /// None: of an older version, or damaged; the message says it all, only slower.
    pub(super) fn read(self) -> Option<Summary<'a>> {
        match Stored::read(self.summary) {
            Ok(Stored::Summary(summary)) => Some(summary),
            _ => None,
        }
    }
}

impl<'q> Reader<'q> {
    pub(super) fn new(query: &'q Query) -> Reader<'q> {
        let searches = query.needles.iter().map(MessageSearch::new).collect();
        Reader { query, searches, found: Vec::new(), parts: Vec::new() }
    }

    /// Whether the summaries alone may decide.
    pub(super) fn wants_summaries(&self) -> bool {
        self.query.asks_summaries
    }

    /// What is to be looked for in the body of a message, with [`Reader::hunt`] and
    /// [`Reader::note`], before it is asked whether it matches. Forgets the message before.
    pub(super) fn words(&mut self, letter: Letter<'_>) -> &'q [(usize, bool)] {
        self.found.clear();
        let Some(octets) = letter.octets else { return &[] };
        let mut open = Open { octets: Some(octets), summary: letter.read(), has_parts: false };
        open.fill(octets, &mut self.parts);
        &self.query.words
    }

    /// A look through this message for one of its words.
    pub(super) fn hunt<'r, 'm: 'r>(
        &'r mut self,
        octets: &'m [u8],
        (needle, header): (usize, bool),
    ) -> Option<Hunt<'r, 'q, 'r>> {
        let search = self.searches.get_mut(needle)?;
        Some(search.hunt(octets, &self.parts, header))
    }

    pub(super) fn note(&mut self, needle: usize, found: bool) {
        self.found.push((needle, found));
    }

    /// To be called for a message that was not looked through before.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }

    /// Whether a message is what is looked for; `None`: its octets are needed.
    pub(super) fn matches(
        &mut self,
        number: u32,
        entry: &Entry,
        known: Option<&Keywords>,
        letter: Letter<'_>,
    ) -> Option<bool> {
        let row = Row { number, entry, known };
        let mut open = Open { octets: letter.octets, summary: letter.read(), has_parts: false };
        self.holds(&self.query.root, &row, &mut open)
    }

    fn holds(&mut self, node: &Node, row: &Row<'_>, open: &mut Open<'_>) -> Option<bool> {
        match node {
            Node::Sent(days) => open.is_sent_on(|day| days.contains(&day)),
            Node::Thread(thread) => open.is_in(*thread),
            Node::Field { name, needle } => {
                let (header, search) = (open.header()?, self.searches.get_mut(*needle)?);
                let mut named = fields(header).filter(|field| {
                    header.get(field.name.clone()).is_some_and(|own| own.eq_ignore_ascii_case(name))
                });
                Some(
                    named.any(|field| search.in_value(header.get(field.value).unwrap_or_default())),
                )
            }
            Node::Words { header, needle } => {
                let octets = open.octets?;
                let noted = self.found.iter().find(|(noted, _)| noted == needle);
                if let Some((_, found)) = noted {
                    return Some(*found);
                }
                open.fill(octets, &mut self.parts);
                let (search, parts) = (self.searches.get_mut(*needle)?, &self.parts);
                Some(match header {
                    true => search.in_message(octets, parts),
                    false => search.in_body(octets, parts),
                })
            }
            Node::Not(inner) => self.holds(inner, row, open).map(|holds| !holds),
            Node::All(inner) => self.decide(inner, row, open, false),
            Node::Any(inner) => self.decide(inner, row, open, true),
            cheap => cheap.row(row),
        }
    }

    /// As [`decide`].
    fn decide(
        &mut self,
        nodes: &[Node],
        row: &Row<'_>,
        open: &mut Open<'_>,
        decisive: bool,
    ) -> Option<bool> {
        let mut undecided = false;
        for node in nodes {
            match self.holds(node, row, open) {
                Some(holds) if holds == decisive => return Some(decisive),
                Some(_) => {}
                None => undecided = true,
            }
        }
        (!undecided).then_some(!decisive)
    }
}

/// A message under the eyes of a [`Reader`].
struct Open<'a> {
    octets: Option<&'a [u8]>,
    summary: Option<Summary<'a>>,
    /// The parts of this message were worked out.
    has_parts: bool,
}

impl<'a> Open<'a> {
    fn header(&self) -> Option<&'a [u8]> {
        let octets = self.octets?;
        let known = self.summary.as_ref().map(|summary| to_usize(u64::from(summary.header_len)));
        let end = known.unwrap_or_else(|| Head::of(octets).1);
        Some(octets.get(..end).unwrap_or(octets))
    }

    /// Whether the Date field names one of these days, if that can be told; without a Date the
    /// message was sent on no day.
    fn is_sent_on(&self, is_meant: impl Fn(i64) -> bool) -> Option<bool> {
        let sent = if let Some(summary) = &self.summary {
            summary.sent()
        } else {
            let octets = self.octets?;
            let (head, _) = Head::of(octets);
            head.value(octets, FieldKind::Date).and_then(sent)
        };
        Some(sent.map(Sent::day).is_some_and(is_meant))
    }

    /// Whether it belongs to this thread, if that can be told.
    fn is_in(&self, thread: u64) -> Option<bool> {
        let own = match &self.summary {
            Some(summary) => summary.thread(),
            None => thread_of(self.octets?),
        };
        Some(own == Some(thread))
    }

    fn fill(&mut self, octets: &[u8], parts: &mut Vec<Part>) {
        if std::mem::replace(&mut self.has_parts, true) {
            return;
        }
        let known = self.summary.as_ref().is_some_and(|one| one.parts(parts) == Ok(true));
        let len = to_u64(octets.len());
        let fits = !parts.is_empty() && parts.iter().all(|part| u64::from(part.end) <= len);
        if !(known && fits) {
            *parts = Tree::of(octets).parts;
        }
    }
}
