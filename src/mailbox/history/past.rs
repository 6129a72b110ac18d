//! How an account stood at a second: how it stands now, with what came later undone, the last first.
//!
//! Messages are views of what is there now, and what is otherwise beside them. A message that came in
//! later is known by its save date, a mailbox by when it was made.

use super::super::account::Account;
use super::super::folder::Folder;
use super::super::keywords::Keywords;
use super::super::record::catalog::Use;
use super::super::row::Entry;
use super::super::view::View;
use super::{Dated, Event, FlagRun};
use crate::model::id::{MailboxId, Uid, UidValidity};
use std::collections::{BTreeMap, BTreeSet};

/// What a mailbox held.
#[derive(Clone, Debug)]
pub(in super::super) struct Content {
    /// What of it is there still.
    now: View,
    /// Messages that are no more, or have other flags.
    then: BTreeMap<Uid, Entry>,
    keywords: Keywords,
    /// Forms of unique ids of messages that are no more.
    uidls: BTreeMap<Uid, Box<str>>,
    /// Messages that came in later are none of it.
    at: u32,
}

/// A mailbox.
#[derive(Clone, Debug)]
pub(in super::super) struct PastFolder {
    /// Its number, which is that of a removed mailbox if there is none of it any more.
    pub id: MailboxId,
    pub name: Box<str>,
    pub uses: Use,
    pub content: Content,
}

/// See the header.
#[derive(Clone, Debug)]
pub(in super::super) struct Past {
    /// By number.
    pub folders: Vec<PastFolder>,
    /// Sorted.
    pub subscriptions: BTreeSet<Box<str>>,
}

/// A mailbox while changes are undone.
struct Work {
    folder: PastFolder,
    is_there: bool,
}

impl Content {
    fn new(folder: &Folder, at: u32) -> Content {
        Content {
            now: folder.view(),
            then: BTreeMap::new(),
            keywords: folder.keywords().map(|known| Keywords::clone(known)).unwrap_or_default(),
            uidls: BTreeMap::new(),
            at,
        }
    }

    /// The UIDVALIDITY that its UIDs were given under.
    pub(in super::super) fn uidvalidity(&self) -> UidValidity {
        self.now.uidvalidity()
    }

    /// Its messages, by rising UID.
    pub(in super::super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut now = self.now.iter().peekable();
        let mut then = self.then.values().copied().peekable();
        let both = std::iter::from_fn(move || match (now.peek(), then.peek()) {
            (Some(is), Some(was)) if is.uid < was.uid => now.next(),
            (is, Some(was)) => {
                if is.is_some_and(|is| is.uid == was.uid) {
                    now.next();
                }
                then.next()
            }
            (_, None) => now.next(),
        });
        both.filter(|entry| entry.save_date <= self.at)
    }

    /// The keywords of a message.
    pub(in super::super) fn keywords(&self, entry: &Entry) -> impl Iterator<Item = &str> {
        self.keywords.of(entry.keywords)
    }

    /// The form of the unique id that a message had by that of another server.
    pub(in super::super) fn uidl(&self, uid: Uid) -> Option<&str> {
        self.uidls.get(&uid).map(|form| &**form).or_else(|| self.now.uidl(uid))
    }

    /// Whether a mailbox holds the same messages with the same UIDs and flags.
    pub(in super::super) fn is_that_of(&self, folder: &Folder) -> bool {
        if folder.uidvalidity != self.uidvalidity() {
            return false;
        }
        let none = Keywords::default();
        let known = folder.keywords().map_or(&none, |known| &**known);
        let mut is = folder.entries();
        let are_same = self.entries().all(|was| {
            is.next().is_some_and(|is| {
                (is.uid, is.blob, is.flags) == (was.uid, was.blob, was.flags)
                    && known.of(is.keywords).eq(self.keywords.of(was.keywords))
            })
        });
        are_same && is.next().is_none()
    }

    /// The messages of a run had other flags.
    fn undo_flags(&mut self, run: &FlagRun) {
        let had = |entry: Entry| Entry { keywords: run.keywords, flags: run.flags, ..entry };
        for (_, entry) in self.then.range_mut(run.first..=run.last) {
            *entry = had(*entry);
        }
        let from = self.now.lower_bound(run.first);
        for entry in self.now.iter_from(from).take_while(|entry| entry.uid <= run.last) {
            self.then.entry(entry.uid).or_insert_with(|| had(entry));
        }
    }
}

/// How the account stood at the end of the second `at`, which its history must know.
pub(in super::super) fn past(account: &Account, at: u32) -> Past {
    let mut works: BTreeMap<MailboxId, Work> = BTreeMap::new();
    for folder in account.folders() {
        let is_there = folder.born <= at && (!folder.removed || folder.removed_at > at);
        let (id, name, uses) = (folder.id, folder.name.clone(), folder.uses);
        let content = Content::new(folder, at);
        works.insert(id, Work { folder: PastFolder { id, name, uses, content }, is_there });
    }
    let mut subscriptions: BTreeSet<Box<str>> = account.subscriptions().iter().cloned().collect();
    for dated in account.past().backwards().take_while(|dated| dated.ended > at) {
        match dated.event {
            Event::Subscribed { was: true, name } => drop(subscriptions.insert(name.into())),
            Event::Subscribed { was: false, name } => drop(subscriptions.remove(name)),
            Event::Swapped(other) => swap(&mut works, dated.mailbox, other),
            _ => undo(&mut works, &dated),
        }
    }
    let there = works.into_values().filter(|work| work.is_there);
    Past { folders: there.map(|work| work.folder).collect(), subscriptions }
}

fn swap(works: &mut BTreeMap<MailboxId, Work>, one: MailboxId, other: MailboxId) {
    // Both were there when they traded; what is forgotten meanwhile is of no account.
    let Some(mut work) = works.remove(&one) else { return };
    if let Some(other) = works.get_mut(&other) {
        std::mem::swap(&mut work.folder.content, &mut other.folder.content);
    }
    works.insert(one, work);
}

/// Undoes what is about one mailbox; nothing for one that is let go.
fn undo(works: &mut BTreeMap<MailboxId, Work>, dated: &Dated<'_>) {
    let Some(Work { folder, .. }) = works.get_mut(&dated.mailbox) else { return };
    let content = &mut folder.content;
    match dated.event {
        Event::Gone(rows) | Event::Left(rows) => {
            content.then.extend(rows.entries().map(|entry| (entry.uid, entry)));
        }
        Event::Flags(runs) => runs.runs().for_each(|run| content.undo_flags(&run)),
        Event::Name(name) => folder.name = name.into(),
        Event::Use(uses) => folder.uses = Use(uses),
        Event::Keyword { bit, name } => content.keywords.rename(bit, name),
        Event::Uidl { uid, form } => drop(content.uidls.insert(uid, form.into())),
        Event::Subscribed { .. } | Event::Swapped(_) => {}
    }
}
