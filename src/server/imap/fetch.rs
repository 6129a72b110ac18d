//! FETCH: what rows say without a read, what summaries say, and parts of messages out of the log's
//! blocks.

use super::binary::Body;
use super::object::{email_id, thread_id, thread_of};
use super::offer::Enabled;
use super::search::Found;
use super::selected::{Own, Selected};
use super::{Done, Driver, Outcome};
use crate::bytes::chain::Chain;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::Env;
use crate::mailbox::summary::{Stored, Summary};
use crate::mailbox::{Entry, FlagChange, Flags, Marks, Mode};
use crate::model::id::{AccountId, BlobId, LogId, ModSeq, Uid};
use crate::model::limits::{IMAP_READ_OCTETS_AT_ONCE, IMAP_READS_AT_ONCE};
use crate::store::{BlobView, ReadError};
use crate::tls::Stream;
use crate::wire::imap::command::fetch::{Content, Fetch, Item, Page, Part, Partial, Section};
use crate::wire::imap::reply::fetch::FetchLine;
use crate::wire::imap::reply::put_list;
use crate::wire::imap::reply::status::{Kind, Status, Word};
use crate::wire::imap::reply::string::put_literal;
use crate::wire::imap::set::{Span, intersect, merge};
use crate::wire::message::envelope::put_envelope;
use crate::wire::message::mime::{self, Tree};
use crate::wire::message::preview::put_preview;
use crate::wire::message::section::{Text, find, range, select_fields};
use crate::wire::message::structure::{put_body, put_body_of, put_bodystructure};
use std::io;
use std::ops::Range;
use std::rc::Rc;

/// Messages that are marked as seen by one commit, and then sent.
const SEEN_AT_ONCE: usize = 256;
/// Messages after which others get a turn, where nothing has to be read.
const BREATHE_MESSAGES: usize = 512;
/// What stands for NUL in BODY[…]: no text of ASCII or UTF-8 has it, and sizes stay.
const NO_NUL: u8 = 0x80;

/// How much of a message has to be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reads {
    /// The row says it all.
    Nothing,
    Summary,
    Message,
}

/// What the items of one FETCH need.
struct Needs {
    reads: Reads,
    /// `\Seen` is set (RFC 9051 §6.4.5).
    marks: bool,
}

impl Needs {
    fn of(items: &[Item<'_>]) -> Needs {
        let reads = |item: &Item<'_>| match item {
            Item::Flags
            | Item::InternalDate
            | Item::Size
            | Item::Uid
            | Item::ModSeq
            | Item::EmailId
            | Item::SaveDate => Reads::Nothing,
            Item::Envelope
            | Item::Body
            | Item::BodyStructure
            | Item::Preview { .. }
            | Item::ThreadId => Reads::Summary,
            _ => Reads::Message,
        };
        let marks = |item: &Item<'_>| {
            matches!(
                item,
                Item::Section { peek: false, .. }
                    | Item::Binary { peek: false, .. }
                    | Item::Rfc822 { peek: false }
                    | Item::Rfc822Text
            )
        };
        let reads = items.iter().map(reads).max().unwrap_or(Reads::Nothing);
        Needs { reads, marks: items.iter().any(marks) }
    }

    /// How many of the messages are read side by side; one at least.
    fn at_once(&self, rows: &[(u32, Entry)]) -> usize {
        if self.reads < Reads::Message {
            return rows.len();
        }
        let mut octets = 0;
        let few = rows.iter().take(IMAP_READS_AT_ONCE).take_while(|(_, entry)| {
            octets += u64::from(entry.size);
            octets <= IMAP_READ_OCTETS_AT_ONCE
        });
        few.count().max(1)
    }
}

/// How the items of a message came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    Whole,
    /// Its encoding cannot be undone (RFC 3516 §4.3).
    UnknownEncoding,
    /// It is there, and the disk does not give it.
    Unreadable,
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Somebody removed it, and the client was not told yet.
    Gone,
    /// See [`Sent::Unreadable`].
    Unreadable,
}

impl From<Lost> for Sent {
    fn from(lost: Lost) -> Sent {
        match lost {
            Lost::Gone => Sent::Whole,
            Lost::Unreadable => Sent::Unreadable,
        }
    }
}

impl<E: Env> Driver<E> {
    /// The numbers of the messages that are wanted, and the UID at which the limit cut them off.
    async fn wanted(
        &mut self,
        conn: &mut Stream<E>,
        fetch: &Fetch<'_>,
    ) -> Found<(Vec<u32>, Option<Uid>)> {
        if fetch.partial.is_some() && !fetch.uid {
            return Ok(Err(Done::Bad("PARTIAL goes with UID FETCH only")));
        }
        let too_many = |page: Page| to_usize(page.size().into()) > self.message_limit();
        if fetch.partial.is_some_and(too_many) {
            return Ok(Err(Done::Limited(Kind::No, None, "the page has too many messages")));
        }
        if fetch.vanished && !self.enabled.qresync {
            return Ok(Err(Done::Bad("ENABLE QRESYNC first")));
        }
        if fetch.items.contains(&Item::ModSeq) || fetch.changed_since.is_some() {
            self.count_changes();
        }
        // What others did may be told now, but for messages that went (RFC 9051 §7.5.1).
        self.sync(conn, fetch.uid).await?;
        let Some(selected) = self.selected() else {
            return Ok(Err(Done::Bad("nothing is selected")));
        };
        let Ok(numbers) = selected.numbers(fetch.messages, fetch.uid) else {
            return Ok(Err(Done::Bad("there is no message of this number")));
        };
        let mut all = numbers.iter().flat_map(|span| span.first..=span.last).collect::<Vec<u32>>();
        if let Some(page) = fetch.partial {
            all.retain(|&number| selected.entry(number).is_some_and(|(_, is_there)| is_there));
            all = all.get(page.cut(all.len())).unwrap_or_default().to_vec();
        }
        let surplus = all.len().saturating_sub(self.message_limit());
        if surplus == 0 {
            return Ok(Ok((all, None)));
        }
        // From the highest on: where the limit cut off, that is how far the client got.
        all.drain(..surplus);
        all.reverse();
        let lowest = all.last().and_then(|&number| selected.entry(number));
        Ok(Ok((all, lowest.map(|(entry, _)| entry.uid))))
    }

    pub(super) async fn fetch(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        fetch: &Fetch<'_>,
    ) -> Outcome {
        let (all, lowest) = match self.wanted(conn, fetch).await? {
            Ok(wanted) => wanted,
            Err(done) => return Ok(done),
        };
        if fetch.vanished {
            self.tell_vanished_since(conn, fetch).await?;
        }
        let needs = Needs::of(&fetch.items);
        let mut gone = false;
        let mut worst = Sent::Whole;
        let mut count = 0;
        let mut since_pause = 0;
        for some in all.chunks(SEEN_AT_ONCE) {
            let marked = if needs.marks { self.mark_seen(conn, some).await? } else { Vec::new() };
            let rows = self.rows(some, fetch.changed_since, &mut gone);
            let mut rows = rows.as_slice();
            while !rows.is_empty() {
                if since_pause >= BREATHE_MESSAGES
                    || since_pause > 0 && needs.reads == Reads::Message
                {
                    since_pause = 0;
                    self.take_turns(conn).await?;
                }
                if needs.reads == Reads::Nothing {
                    let put = self.put_rows(rows, fetch);
                    since_pause += put;
                    count += put;
                    rows = rows.get(put..).unwrap_or_default();
                    self.flush_if_much(conn).await?;
                    continue;
                }
                let (few, later) = rows.split_at(needs.at_once(rows));
                rows = later;
                since_pause += few.len();
                count += few.len();
                let mut sources = self.sources(few, needs.reads).await.into_iter();
                for (number, entry) in few {
                    let source = match sources.next() {
                        Some(Ok(source)) => source,
                        None => continue,
                        Some(Err(lost)) => {
                            gone |= lost == Lost::Gone;
                            worst = worst.max(lost.into());
                            self.put_marked(*number, entry, &marked);
                            continue;
                        }
                    };
                    let sent =
                        self.put_message(conn, *number, entry, fetch, &source, &marked).await?;
                    worst = worst.max(sent);
                    self.flush_if_much(conn).await?;
                }
            }
        }
        self.shard.figures.imap_fetched.add(to_u64(count));
        Ok(self.fetched(tag, worst, gone, lowest))
    }

    /// The end of a FETCH. `gone`: some of the messages are no more, and keep their numbers yet.
    fn fetched(&mut self, tag: &str, worst: Sent, gone: bool, lowest: Option<Uid>) -> Done {
        if worst > Sent::Whole || gone {
            self.put_limited(lowest);
        }
        match worst {
            Sent::Whole if gone => {
                let ok = Status::tagged(tag, Kind::Ok, "some of the messages are no more");
                ok.because(Word::ExpungeIssued).put(&mut self.out);
                Done::Said
            }
            Sent::Whole => Done::limited(lowest, "fetched"),
            Sent::UnknownEncoding => {
                Done::No(Some(Word::UnknownCte), "an encoding cannot be undone")
            }
            Sent::Unreadable => {
                Done::No(Some(Word::ServerBug), "some of the messages cannot be read")
            }
        }
    }

    /// The messages of these numbers that are there and changed `since`; `gone` if one is not
    /// there.
    fn rows(&self, numbers: &[u32], since: Option<u64>, gone: &mut bool) -> Vec<(u32, Entry)> {
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return Vec::new();
        };
        let mut rows = Vec::with_capacity(numbers.len());
        for (number, entry, is_there) in selected.look_up(numbers) {
            if since.is_some_and(|since| entry.modseq.0 <= since) {
                continue;
            }
            if is_there {
                rows.push((number, entry));
            } else {
                *gone = true;
            }
        }
        rows
    }

    /// What is needed of these messages, in their order; nothing where rows say it all. `None` for
    /// one that cannot be read.
    async fn sources(&self, rows: &[(u32, Entry)], reads: Reads) -> Vec<Result<Source, Lost>> {
        match reads {
            Reads::Nothing => Vec::new(),
            Reads::Summary => {
                let blobs: Vec<BlobId> = rows.iter().map(|(_, entry)| entry.blob).collect();
                let summaries = self.shard.log.summaries(&blobs).await;
                let mut sources = Vec::with_capacity(rows.len());
                for ((_, entry), summary) in rows.iter().zip(summaries) {
                    sources.push(match summary.filter(|summary| is_complete(summary)) {
                        Some(summary) => Ok(Source { summary, blob: None }),
                        None => self.read(entry, reads).await,
                    });
                }
                sources
            }
            Reads::Message => self.read_all(rows.iter().map(|(_, entry)| entry), reads).await,
        }
    }

    /// VANISHED (EARLIER) of the UIDs that were asked for (RFC 7162 §3.2.6).
    async fn tell_vanished_since(
        &mut self,
        conn: &mut Stream<E>,
        fetch: &Fetch<'_>,
    ) -> io::Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let Some(selected) = &user.selected else { return Ok(()) };
        let since = ModSeq(fetch.changed_since.unwrap_or(0));
        let (account, mailbox) = (user.account, selected.mailbox);
        let runs = self.shard.accounts.borrow().vanished_since(account, mailbox, since);
        let gone = match runs {
            Some(runs) => {
                let spans = runs.iter().filter_map(|&(first, last)| Span::new(first.0, last.0));
                merge(spans.collect())
            }
            None => super::select::complement(&selected.view),
        };
        let last = selected.view.uidnext().0.saturating_sub(1);
        if let crate::wire::imap::scan::Which::Set(set) = fetch.messages {
            let gone = intersect(&gone, &set.spans(last));
            self.tell_vanished(conn, true, gone).await?;
        }
        Ok(())
    }

    /// Sets `\Seen` on those of the messages that lack it; says which.
    async fn mark_seen(&mut self, conn: &mut Stream<E>, numbers: &[u32]) -> io::Result<Vec<Uid>> {
        let Some(user) = &self.user else { return Ok(Vec::new()) };
        let Some(selected) = &user.selected else { return Ok(Vec::new()) };
        if selected.read_only {
            return Ok(Vec::new());
        }
        let entries = numbers.iter().filter_map(|&number| selected.entry(number));
        let unseen = entries.filter(|(entry, there)| *there && !entry.flags.has(Flags::SEEN));
        let mut uids: Vec<Uid> = unseen.map(|(entry, _)| entry.uid).collect();
        uids.sort_unstable();
        if uids.is_empty() {
            return Ok(uids);
        }
        let change = FlagChange { mode: Mode::Add, flags: Flags::SEEN, keywords: Vec::new() };
        let (account, mailbox) = (user.account, selected.mailbox);
        let stored = self.shard.desk.store(account, mailbox, &uids, &change, None).await;
        match stored {
            Ok(_) => self.sync_quietly(conn, &uids).await?,
            Err(crate::mailbox::ChangeError::Append(crate::store::AppendError::Uncertain(why))) => {
                return Err(io::Error::other(why));
            }
            // The message can be read all the same.
            Err(_) => return Ok(Vec::new()),
        }
        Ok(uids)
    }

    /// Takes the mailbox as it is, and says nothing of what this command itself says.
    async fn sync_quietly(&mut self, conn: &mut Stream<E>, uids: &[Uid]) -> io::Result<()> {
        let Some(view) = self.view_now() else { return Ok(()) };
        self.sync_to(conn, view, false, Own { uids, counters: false }).await
    }

    /// Of a message that cannot be read: that it was marked as seen all the same.
    fn put_marked(&mut self, number: u32, entry: &Entry, marked: &[Uid]) {
        let selected = self.user.as_ref().and_then(|user| user.selected.as_deref());
        if let Some(selected) = selected.filter(|_| marked.binary_search(&entry.uid).is_ok()) {
            selected.put_state(number, entry, self.enabled, &mut self.out);
        }
    }

    pub(super) async fn read(&self, entry: &Entry, reads: Reads) -> Result<Source, Lost> {
        let mut error = None;
        if reads == Reads::Summary {
            match self.shard.log.summary(entry.blob).await {
                Ok(summary) if is_complete(&summary) => {
                    return Ok(Source { summary, blob: None });
                }
                Ok(_) => {}
                Err(problem) => error = Some(problem),
            }
        }
        let read = match error {
            Some(error) => Err(error),
            None => self.shard.log.read(entry.blob).await,
        };
        match read {
            Ok(blob) => Ok(Source { summary: blob.shared_summary(), blob: Some(blob) }),
            // Somebody else removed it, and its octets went with it.
            Err(ReadError::Unknown) if !self.still_holds(entry.uid) => Err(Lost::Gone),
            Err(error) => {
                let account = self.user.as_ref().map_or(AccountId(0), |user| user.account);
                self.shard.tell_unreadable(account, entry, &error);
                Err(Lost::Unreadable)
            }
        }
    }

    /// Whether the selected mailbox, as it is now and not as it is shown, has the message.
    fn still_holds(&self, uid: Uid) -> bool {
        let Some(user) = &self.user else { return false };
        let Some(selected) = &user.selected else { return false };
        let view = self.shard.accounts.borrow().open_view(user.account, selected.mailbox);
        view.is_some_and(|view| view.find(uid).is_some())
    }

    /// Messages of which the rows say all that is wanted, until there is much to send; how many.
    fn put_rows(&mut self, rows: &[(u32, Entry)], fetch: &Fetch<'_>) -> usize {
        let log = self.shard.log.id();
        let much = self.shard.settings().reply_octets_max;
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return rows.len();
        };
        // Most messages have the flags of the one before.
        let (mut before, mut names) = (None, Chain::new());
        for (put, (number, entry)) in rows.iter().enumerate() {
            let out = &mut self.out;
            if out.len() > much {
                return put;
            }
            let mut line = open_line(out, selected, (*number, entry), fetch, false, self.enabled);
            for item in &fetch.items {
                if *item == Item::Flags {
                    let now = (entry.flags, entry.keywords, selected.recent.has(entry.uid));
                    if before.replace(now) != Some(now) {
                        names = Chain::new();
                        put_list(&mut names, selected.flags(entry));
                    }
                    names.slices().for_each(|slice| line.item("FLAGS").put(slice));
                } else {
                    put_row_item(&mut line, item, entry, selected, log);
                }
            }
            line.end();
        }
        rows.len()
    }

    async fn put_message(
        &mut self,
        conn: &mut Stream<E>,
        number: u32,
        entry: &Entry,
        fetch: &Fetch<'_>,
        source: &Source,
        marked: &[Uid],
    ) -> io::Result<Sent> {
        let (log, enabled) = (self.shard.log.id(), self.enabled);
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return Ok(Sent::Whole);
        };
        let mut message = Message::new(source, entry.marks);
        let was_marked = marked.binary_search(&entry.uid).is_ok();
        let out = &mut self.out;
        let line = open_line(out, selected, (number, entry), fetch, was_marked, enabled);
        let mut open = line.pause();
        let mut worst = Sent::Whole;
        for item in &fetch.items {
            if let Item::Binary { part, .. } | Item::BinarySize(part) = item {
                let body = message.body(*part);
                let (later, sent) = Box::pin(self.put_binary(conn, open, item, body)).await?;
                open = later;
                worst = worst.max(sent);
                continue;
            }
            let selected = self.user.as_ref().and_then(|user| user.selected.as_deref());
            let mut line = FetchLine::resume(&mut self.out, open);
            if !selected.is_some_and(|it| put_row_item(&mut line, item, entry, it, log)) {
                message.put(&mut line, item, enabled.utf8);
            }
            open = line.pause();
        }
        FetchLine::resume(&mut self.out, open).end();
        Ok(worst)
    }
}

/// Begins the answer about a message with what goes with it unasked.
fn open_line<'o>(
    out: &'o mut Chain,
    selected: &Selected,
    (number, entry): (u32, &Entry),
    fetch: &Fetch<'_>,
    was_marked: bool,
    enabled: Enabled,
) -> FetchLine<'o> {
    let mut line = FetchLine::new(out, number);
    let items = &fetch.items;
    // With counters, news of flags have the UID too (RFC 7162 §3.2.4).
    if (fetch.uid || (was_marked && enabled.condstore)) && !items.contains(&Item::Uid) {
        line.uid(entry.uid.0);
    }
    if was_marked && !items.contains(&Item::Flags) {
        line.flags(selected.flags(entry));
    }
    let counted = fetch.changed_since.is_some() || (was_marked && enabled.condstore);
    if counted && !items.contains(&Item::ModSeq) {
        line.mod_seq(entry.modseq.0);
    }
    line
}

/// Writes an item that the row knows; false if it is none.
fn put_row_item(
    line: &mut FetchLine<'_>,
    item: &Item<'_>,
    entry: &Entry,
    selected: &Selected,
    log: LogId,
) -> bool {
    match item {
        Item::Uid => line.uid(entry.uid.0),
        Item::Flags => line.flags(selected.flags(entry)),
        Item::InternalDate => line.internal_date(entry.internal_date),
        Item::Size => line.size(u64::from(entry.size)),
        Item::ModSeq => line.mod_seq(entry.modseq.0),
        Item::EmailId => line.email_id(&email_id(log, entry.blob)),
        Item::SaveDate => line.save_date(Some(entry.save_date)),
        _ => return false,
    }
    true
}

/// What was read of a message.
pub(super) struct Source {
    pub summary: Rc<[u8]>,
    /// Only where the summary is not enough.
    pub blob: Option<BlobView>,
}

/// Whether a summary has every text that FETCH may want of it.
fn is_complete(summary: &[u8]) -> bool {
    let Ok(Stored::Summary(summary)) = Stored::read(summary) else { return false };
    summary.envelope().is_some() && summary.structure().is_some()
}

/// A message with what is known of it; the parts are worked out once, if they are needed.
struct Message<'b> {
    source: &'b Source,
    summary: Option<Summary<'b>>,
    parts: Option<Vec<mime::Part>>,
    /// It may hold NUL.
    is_binary: bool,
}

impl<'b> Message<'b> {
    fn new(source: &'b Source, marks: Marks) -> Message<'b> {
        let summary = match Stored::read(&source.summary) {
            Ok(Stored::Summary(summary)) => Some(summary),
            _ => None,
        };
        Message { source, summary, parts: None, is_binary: marks.has(Marks::BINARY) }
    }

    fn octets(&self) -> &'b [u8] {
        self.source.blob.as_ref().map_or(&[], BlobView::octets)
    }

    fn summary(&self) -> Option<Summary<'b>> {
        self.summary
    }

    fn header_len(&self) -> usize {
        match Stored::read(&self.source.summary) {
            Ok(stored) => to_usize(u64::from(stored.header_len())).min(self.octets().len()),
            Err(_) => Tree::of(self.octets()).parts.first().map_or(0, |whole| whole.header().end),
        }
    }

    /// Puts ranges of the message behind what was said, out of the log's block. A NUL, which none but
    /// a BINARY item may send, becomes [`NO_NUL`] (docs/decisions/0010).
    fn link(&self, out: &mut Chain, ranges: &[Range<usize>]) {
        let Some(blob) = &self.source.blob else { return };
        let (owner, message) = blob.message();
        for range in ranges {
            let octets = self.octets().get(range.clone()).unwrap_or_default();
            if self.is_binary && memchr::memchr(0, octets).is_some() {
                let swap = |&octet: &u8| if octet == 0 { NO_NUL } else { octet };
                out.put(&octets.iter().map(swap).collect::<Vec<u8>>());
                continue;
            }
            out.link(owner, message.start + range.start..message.start + range.end);
        }
    }

    fn parts(&mut self) -> &[mime::Part] {
        let (octets, summary) = (self.octets(), self.summary);
        self.parts.get_or_insert_with(|| {
            let mut parts = Vec::new();
            let known = summary.is_some_and(|summary| summary.parts(&mut parts) == Ok(true));
            if known { parts } else { Tree::of(octets).parts }
        })
    }

    fn put(&mut self, line: &mut FetchLine<'_>, item: &Item<'_>, utf8: bool) {
        match item {
            Item::Envelope => {
                let out = line.item("ENVELOPE");
                self.put_text(out, Summary::envelope, |message, tree, out| {
                    put_envelope(message, &tree.head, out);
                });
            }
            Item::BodyStructure => {
                let out = line.item("BODYSTRUCTURE");
                self.put_text(out, Summary::structure, put_bodystructure);
            }
            Item::ThreadId => {
                let thread = match self.summary() {
                    Some(summary) => summary.thread(),
                    None => thread_of(self.octets()),
                };
                line.thread_id(thread.map(thread_id).as_deref());
            }
            Item::Body => self.put_plain_body(line.item("BODY")),
            Item::Preview { .. } => {
                if let Some(summary) = self.summary() {
                    line.preview(Some(&summary.preview()), utf8);
                } else {
                    let mut text = String::new();
                    put_preview(self.octets(), &Tree::of(self.octets()), &mut text);
                    line.preview(Some(&text), utf8);
                }
            }
            Item::Rfc822 { .. } => self.put_range(line.item("RFC822"), 0..self.octets().len()),
            Item::Rfc822Header => {
                self.put_range(line.item("RFC822.HEADER"), 0..self.header_len());
            }
            Item::Rfc822Text => {
                let range = self.header_len()..self.octets().len();
                self.put_range(line.item("RFC822.TEXT"), range);
            }
            Item::Section { section, partial, .. } => self.put_section(line, section, *partial),
            _ => {}
        }
    }

    /// A text that the summary has ready, or that is made now.
    fn put_text(
        &self,
        out: &mut Chain,
        ready: impl Fn(&Summary<'b>) -> Option<&'b [u8]>,
        make: impl Fn(&[u8], &Tree, &mut Vec<u8>),
    ) {
        if let Some(text) = self.summary().as_ref().and_then(ready) {
            return out.put(text);
        }
        let mut text = Vec::new();
        make(self.octets(), &Tree::of(self.octets()), &mut text);
        out.put(&text);
    }

    fn put_plain_body(&self, out: &mut Chain) {
        let mut text = Vec::new();
        let structure = self.summary().and_then(|summary| summary.structure());
        if structure.and_then(|structure| put_body_of(structure, &mut text)).is_none() {
            text.clear();
            put_body(self.octets(), &Tree::of(self.octets()), &mut text);
        }
        out.put(&text);
    }

    fn put_range(&self, out: &mut Chain, range: Range<usize>) {
        put_literal(out, to_u64(range.len()));
        self.link(out, &[range]);
    }

    fn put_section(
        &mut self,
        line: &mut FetchLine<'_>,
        section: &Section<'_>,
        partial: Option<Partial>,
    ) {
        let ranges = self.ranges(section);
        let first = partial.map(|partial| partial.first);
        let out = line.section(section, first);
        let Some(ranges) = ranges else { return out.put(b"NIL") };
        let ranges = cut(&ranges, partial);
        put_literal(out, ranges.iter().map(|range| to_u64(range.len())).sum());
        self.link(out, &ranges);
    }

    /// Where the octets of a section lie; `None` if there is no such part.
    fn ranges(&mut self, section: &Section<'_>) -> Option<Vec<Range<usize>>> {
        let len = self.octets().len();
        if section.part.is_whole() {
            let header = self.header_len();
            let range = match &section.content {
                Content::All => 0..len,
                Content::Header => 0..header,
                Content::Text => header..len,
                Content::HeaderFields { not, names } => {
                    return Some(self.fields(0..header, *not, names));
                }
                Content::Mime => return None,
            };
            return Some(Vec::from([range]));
        }
        let numbers: Vec<u32> = section.part.numbers().collect();
        let text = match section.content {
            Content::All => Text::Body,
            Content::Header | Content::HeaderFields { .. } => Text::Header,
            Content::Text => Text::Text,
            Content::Mime => Text::Mime,
        };
        let found = range(self.parts(), &numbers, text)?;
        Some(match &section.content {
            Content::HeaderFields { not, names } => self.fields(found, *not, names),
            _ => vec![found],
        })
    }

    fn fields(
        &self,
        header: Range<usize>,
        not: bool,
        names: &[crate::wire::imap::scan::Text<'_>],
    ) -> Vec<Range<usize>> {
        let names: Vec<_> = names.iter().map(|name| name.octets()).collect();
        let mut ranges = Vec::new();
        let octets = self.octets().get(header.clone()).unwrap_or_default();
        select_fields(octets, &names, not, &mut ranges);
        let start = header.start;
        ranges.into_iter().map(|range| range.start + start..range.end + start).collect()
    }

    /// The body of a part; what holds other parts has no encoding.
    fn body(&mut self, part: Part<'_>) -> Option<Body<'b>> {
        let octets = self.octets();
        let plain = mime::Encoding::Identity;
        if part.is_whole() {
            return Some(Body { encoding: plain, octets });
        }
        let numbers: Vec<u32> = part.numbers().collect();
        let parts = self.parts();
        let range = range(parts, &numbers, Text::Body)?;
        let leaf = find(parts, &numbers).and_then(|leaf| parts.get(leaf));
        let leaf = leaf.filter(|leaf| !leaf.is_multipart() && leaf.kind != mime::Kind::Message);
        let encoding = leaf.map_or(plain, |leaf| leaf.encoding);
        Some(Body { encoding, octets: octets.get(range).unwrap_or_default() })
    }
}

/// The part of the octets in `ranges` that was asked for.
fn cut(ranges: &[Range<usize>], partial: Option<Partial>) -> Vec<Range<usize>> {
    let Some(Partial { first, count }) = partial else { return ranges.to_vec() };
    let (mut skip, mut left) = (first, count);
    let mut kept = Vec::new();
    for range in ranges {
        let len = to_u64(range.len());
        let start = skip.min(len);
        let taken = (len - start).min(left);
        skip -= start;
        left -= taken;
        let from = range.start + to_usize(start);
        if taken > 0 {
            kept.push(from..from + to_usize(taken));
        }
    }
    kept
}
