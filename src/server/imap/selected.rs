//! The selected mailbox as one session has seen it: message numbers that move only when told.
//!
//! The view is kept up to date; messages that went, and whose going the client was not told of
//! yet, are kept beside it as ghosts and have their numbers still (RFC 9051 §7.5.1).

use super::offer::Enabled;
use super::recent::Recent;
use crate::bytes::chain::Chain;
use crate::mailbox::{Entry, Flags, Lookup, View};
use crate::model::id::{MailboxId, ModSeq, Uid};
use crate::wire::imap::reply::fetch::FetchLine;
use crate::wire::imap::reply::status::{Code, Kind, Status};
use crate::wire::imap::reply::{put_count, put_flags};
use crate::wire::imap::scan::Which;
use crate::wire::imap::set::{Bound, Span, intersect};
use std::cmp::Ordering;

/// See the header.
pub(super) struct Selected {
    pub mailbox: MailboxId,
    pub read_only: bool,
    pub view: View,
    /// By rising UID.
    ghosts: Vec<Entry>,
    /// The change counter before the first of them went.
    before_ghosts: ModSeq,
    /// `$`: UIDs (RFC 5182).
    pub saved: Vec<Span>,
    pub recent: Recent,
}

/// The system flags, with their names.
const SYSTEM: [(Flags, &str); 5] = [
    (Flags::ANSWERED, "\\Answered"),
    (Flags::FLAGGED, "\\Flagged"),
    (Flags::DELETED, "\\Deleted"),
    (Flags::SEEN, "\\Seen"),
    (Flags::DRAFT, "\\Draft"),
];

/// How many messages: there are no more than UIDs.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a command changed itself, and tells of itself.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// They rise.
    pub uids: &'a [Uid],
    /// Their change counters are to be told all the same.
    pub counters: bool,
}

impl Own<'_> {
    pub(super) const NONE: Own<'static> = Own { uids: &[], counters: false };
}

/// What there is to tell of a mailbox as it became.
pub(super) struct News {
    /// Messages came.
    pub has_more: bool,
    /// Some of them are `\Recent`.
    pub has_recent: bool,
    /// Keywords that no message had before.
    pub has_new_names: bool,
    /// Messages with other flags, by rising UID.
    pub changed: Vec<Uid>,
}

/// A message number that is not in use.
pub(super) struct NoSuchNumber;

impl Selected {
    pub(super) fn new(mailbox: MailboxId, read_only: bool, view: View) -> Selected {
        let before_ghosts = view.modseq();
        let (ghosts, saved, mut recent) = (Vec::new(), Vec::new(), Recent::default());
        recent.learn(&view, Uid(1));
        Selected { mailbox, read_only, view, ghosts, before_ghosts, saved, recent }
    }

    /// Up to which change counter the client knows everything.
    pub(super) fn told(&self) -> ModSeq {
        if self.ghosts.is_empty() { self.view.modseq() } else { self.before_ghosts }
    }

    /// Messages as the client counts them.
    pub(super) fn count(&self) -> u32 {
        self.view.count() + small(self.ghosts.len())
    }

    /// How many messages have a UID below this one: the number of the message before it.
    fn below(&self, uid: Uid) -> u32 {
        let ghosts = self.ghosts.partition_point(|ghost| ghost.uid < uid);
        self.view.lower_bound(uid) + small(ghosts)
    }

    /// The message of a number, from 1, and whether it is still there.
    pub(super) fn entry(&self, number: u32) -> Option<(Entry, bool)> {
        self.entry_by(&mut self.view.lookup(), number)
    }

    /// The same of many, one after the other, of those numbers that are in use.
    pub(super) fn look_up(&self, numbers: &[u32]) -> impl Iterator<Item = (u32, Entry, bool)> {
        let mut lookup = self.view.lookup();
        numbers.iter().filter_map(move |&number| {
            let (entry, is_there) = self.entry_by(&mut lookup, number)?;
            Some((number, entry, is_there))
        })
    }

    #[inline]
    fn entry_by(&self, lookup: &mut Lookup<'_>, number: u32) -> Option<(Entry, bool)> {
        let index = number.checked_sub(1)?;
        if self.ghosts.is_empty() {
            return Some((lookup.get(index)?, true));
        }
        // The ghosts in front of it are those whose own number is lower; these rise.
        let (mut before, mut behind) = (0, self.ghosts.len());
        while before < behind {
            let middle = before.midpoint(behind);
            let ghost = self.ghosts.get(middle)?;
            match (self.view.lower_bound(ghost.uid) + small(middle)).cmp(&index) {
                Ordering::Equal => return Some((*ghost, false)),
                Ordering::Less => before = middle + 1,
                Ordering::Greater => behind = middle,
            }
        }
        Some((lookup.get(index - small(before))?, true))
    }

    /// The number of a message that is there.
    pub(super) fn number(&self, uid: Uid) -> u32 {
        self.below(uid) + 1
    }

    /// The highest UID that the client knows; 0 if it knows none.
    fn max_uid(&self) -> u32 {
        let last = self.view.count().checked_sub(1).and_then(|index| self.view.get(index));
        let ghost = self.ghosts.last().map_or(0, |ghost| ghost.uid.0);
        last.map_or(0, |entry| entry.uid.0).max(ghost)
    }

    /// The numbers of the messages that are meant, as spans that rise.
    pub(super) fn numbers(&self, which: Which<'_>, uid: bool) -> Result<Vec<Span>, NoSuchNumber> {
        let count = self.count();
        let too_high = |bound| matches!(bound, Bound::Number(number) if number > count);
        if let Which::Set(set) = which
            && !uid
            && set.ranges().any(|range| too_high(range.start) || too_high(range.end))
        {
            return Err(NoSuchNumber);
        }
        Ok(self.numbers_there(which, uid))
    }

    /// The same, of those that are in use.
    pub(super) fn numbers_there(&self, which: Which<'_>, uid: bool) -> Vec<Span> {
        match which {
            Which::Saved => self.numbers_of(&self.saved),
            Which::Set(set) if uid => self.numbers_of(&set.spans(self.max_uid())),
            Which::Set(set) => {
                let all = Span::new(1, self.count());
                intersect(&set.spans(self.count()), all.as_slice())
            }
        }
    }

    /// The numbers of the messages with these UIDs.
    fn numbers_of(&self, uids: &[Span]) -> Vec<Span> {
        let behind =
            |uid: u32| uid.checked_add(1).map_or(self.count(), |next| self.below(Uid(next)));
        let spans = uids.iter();
        let spans =
            spans.filter_map(|span| Span::new(self.below(Uid(span.first)) + 1, behind(span.last)));
        spans.collect()
    }

    /// The messages of these numbers that are there, by rising UID.
    pub(super) fn entries(&self, numbers: &[Span]) -> impl Iterator<Item = (u32, Entry)> {
        let all = numbers.iter().flat_map(|span| span.first..=span.last);
        let mut lookup = self.view.lookup();
        let there = all.filter_map(|number| {
            let (entry, is_there) = self.entry_by(&mut lookup, number)?;
            is_there.then_some((number, entry))
        });
        there.collect::<Vec<_>>().into_iter()
    }

    /// All messages that are there, with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, Entry)> {
        let mut ghosts = self.ghosts.iter().peekable();
        let mut number = 0;
        self.view.iter().map(move |entry| {
            while ghosts.next_if(|ghost| ghost.uid < entry.uid).is_some() {
                number += 1;
            }
            number += 1;
            (number, entry)
        })
    }

    /// Names of the flags of a message.
    pub(super) fn flags(&self, entry: &Entry) -> impl Iterator<Item = &str> {
        let flags = entry.flags;
        let system = SYSTEM.iter().filter(move |(flag, _)| flags.has(*flag)).map(|(_, name)| *name);
        let set = entry.keywords;
        let keywords = self.view.keywords().into_iter().flat_map(move |known| known.of(set));
        let recent = self.recent.has(entry.uid).then_some("\\Recent");
        system.chain(recent).chain(keywords)
    }

    /// FLAGS and PERMANENTFLAGS (RFC 9051 §7.3.5, §7.1).
    pub(super) fn put_flags(&self, out: &mut Chain) {
        let system = SYSTEM.iter().map(|(_, name)| *name);
        let known = self.view.keywords();
        let names = known.into_iter().flat_map(crate::mailbox::Keywords::names).map(|name| &**name);
        let mut all: Vec<&str> = system.chain(names).collect();
        put_flags(out, all.iter().copied());
        if self.view.takes_keywords() {
            all.push("\\*");
        }
        let lasting: &[&str] = if self.read_only { &[] } else { &all };
        Status::untagged(Kind::Ok, "these last").with(Code::PermanentFlags(lasting)).put(out);
    }

    /// UID, FLAGS and, where it was asked for, MODSEQ of a message.
    pub(super) fn put_state(&self, number: u32, entry: &Entry, enabled: Enabled, out: &mut Chain) {
        let mut line = FetchLine::new(out, number);
        line.uid(entry.uid.0);
        line.flags(self.flags(entry));
        if enabled.condstore {
            line.mod_seq(entry.modseq.0);
        }
        line.end();
    }

    /// Takes the mailbox as it is now; what there is to tell of that, but for ghosts, which tell of
    /// themselves. `None` if there is nothing, not even ghosts.
    pub(super) fn take(&mut self, view: View) -> Option<News> {
        if view.modseq() == self.view.modseq() && self.ghosts.is_empty() {
            return None;
        }
        let changes = view.changes_since(&self.view);
        let had = self.count();
        let has_new_names = !view.has_names_of(&self.view);
        if !changes.vanished.is_empty() {
            self.before_ghosts = self.told();
            self.ghosts.extend(changes.vanished);
            self.ghosts.sort_unstable_by_key(|ghost| ghost.uid);
        }
        let has_recent = self.recent.learn(&view, self.view.uidnext());
        self.view = view;
        Some(News {
            has_more: self.count() > had,
            has_recent,
            has_new_names,
            changed: changes.changed,
        })
    }

    /// Takes the mailbox as it is now if nothing happened to it but the change of flags `modseq`, which
    /// this session made itself; else gives it back. Spares the look at what changed.
    pub(super) fn take_own(&mut self, view: View, modseq: Option<ModSeq>) -> Result<(), View> {
        let before = view.modseq().0.checked_sub(1).map(ModSeq);
        let is_own = modseq == Some(view.modseq()) && before == Some(self.view.modseq());
        if !is_own || !self.ghosts.is_empty() {
            return Err(view);
        }
        self.view = view;
        Ok(())
    }

    /// The change counter before the first ghost went, if there are any.
    pub(super) fn before_ghosts(&self) -> Option<ModSeq> {
        (!self.ghosts.is_empty()).then_some(self.before_ghosts)
    }

    /// The UIDs of messages that went, which are told with that.
    pub(super) fn take_ghosts(&mut self) -> Vec<Uid> {
        std::mem::take(&mut self.ghosts).iter().map(|ghost| ghost.uid).collect()
    }

    /// Tells of up to so many messages that went; false if none are left.
    pub(super) fn put_ghosts(&mut self, count: usize, out: &mut Chain) -> bool {
        // From the end, so that no number moves before it is told.
        for _ in 0..count {
            let Some(ghost) = self.ghosts.pop() else { return false };
            let before = small(self.ghosts.len());
            put_count(out, self.view.lower_bound(ghost.uid) + before + 1, "EXPUNGE");
        }
        true
    }

    /// Tells the flags of these messages, and of its own those that a command has to tell.
    pub(super) fn put_changed(
        &self,
        uids: &[Uid],
        own: Own<'_>,
        enabled: Enabled,
        out: &mut Chain,
    ) {
        for &uid in uids {
            let is_own = own.uids.binary_search(&uid).is_ok();
            if is_own && !(enabled.condstore && own.counters) {
                continue;
            }
            let Some((_, entry)) = self.view.find(uid) else { continue };
            let number = self.number(uid);
            if is_own {
                let mut line = FetchLine::new(out, number);
                line.uid(uid.0);
                line.mod_seq(entry.modseq.0);
                line.end();
            } else {
                self.put_state(number, &entry, enabled, out);
            }
        }
    }
}
