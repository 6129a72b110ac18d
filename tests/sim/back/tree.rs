//! What an account holds at one moment, and what it held at each second before.

use crate::oracle::Verdict;
use pombal::mailbox::{Accounts, Entry, Keywords, View};
use pombal::model::id::AccountId;
use pombal::wire::uidl;
use std::collections::{BTreeMap, BTreeSet};

/// The only name that is there for ever.
pub(super) const INBOX: &str = "INBOX";

/// A message in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// 0: some blob, of which nobody knows the number yet.
    pub(super) blob: u64,
    /// When it was received, and when it came into its mailbox.
    pub(super) dates: (u32, u32),
    pub(super) size: u32,
    pub(super) flags: u8,
    pub(super) keywords: BTreeSet<String>,
    /// By which POP3 clients know it.
    pub(super) uidl: String,
}

impl Held {
    /// What goes with a message wherever it is put.
    fn is_copy_of(&self, other: &Held) -> bool {
        let is_blob = self.blob == other.blob || other.blob == 0;
        is_blob
            && (self.size, self.flags, &self.keywords) == (other.size, other.flags, &other.keywords)
    }

    /// The same under the same UID, whichever mailbox has it.
    fn is_same(&self, other: &Held) -> bool {
        self.is_copy_of(other) && self.dates == other.dates
    }
}

pub(super) type Messages = BTreeMap<u32, Held>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    /// 0: one that no mailbox had before.
    pub(super) uidvalidity: u32,
    pub(super) uses: u8,
    pub(super) messages: Messages,
}

/// See the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) subscribed: BTreeSet<String>,
}

fn held(view: &View, entry: &Entry) -> Held {
    let none = Keywords::default();
    let keywords = view.keywords().unwrap_or(&none).of(entry.keywords);
    let uidvalidity = view.uidvalidity().0;
    let mut id = String::new();
    match view.uidl(entry.uid) {
        Some(form) => uidl::put(form, entry.uid.0, uidvalidity, &mut id).expect("a string"),
        None => id = format!("{uidvalidity}.{}", entry.uid.0),
    }
    Held {
        blob: entry.blob.0,
        dates: (entry.internal_date, entry.save_date),
        size: entry.size,
        flags: entry.flags.0,
        keywords: keywords.map(str::to_ascii_lowercase).collect(),
        uidl: id,
    }
}

impl Tree {
    /// As the account is: what is durable, and nothing else.
    pub(super) fn of(accounts: &Accounts, account: AccountId) -> Tree {
        let mut tree = Tree::default();
        accounts.each_mailbox(account, |one| {
            let view = accounts.view(account, one.id);
            let messages = view.iter().map(|entry| (entry.uid.0, held(&view, &entry))).collect();
            let (uidvalidity, uses) = (view.uidvalidity().0, one.uses.0);
            tree.folders.insert(one.name.to_owned(), Folder { uidvalidity, uses, messages });
        });
        let subscribed = accounts.subscriptions(account);
        tree.subscribed = subscribed.iter().map(ToString::to_string).collect();
        tree
    }

    /// Without mailboxes of some names.
    pub(super) fn without(mut self, is_meant: impl Fn(&str) -> bool) -> Tree {
        self.folders.retain(|name, _| !is_meant(name));
        self
    }

    /// Without what came into INBOX meanwhile, which is known by its size.
    pub(super) fn without_mail(mut self, sizes: &BTreeSet<u32>) -> Tree {
        if let Some(inbox) = self.folders.get_mut(INBOX) {
            inbox.messages.retain(|_, held| !sizes.contains(&held.size));
        }
        self
    }

    /// Whether this is what `wanted` says, in which new messages have any UIDs above those of `before`,
    /// and new mailboxes a UIDVALIDITY of 0.
    pub(super) fn agrees(&self, wanted: &Tree, before: &Tree) -> Verdict {
        if !self.folders.keys().eq(wanted.folders.keys()) || self.subscribed != wanted.subscribed {
            return Err(format!("{} and not {}", self.names(), wanted.names()));
        }
        for ((name, is), wanted) in self.folders.iter().zip(wanted.folders.values()) {
            let is_new = wanted.uidvalidity == 0;
            if is.uses != wanted.uses || !is_new && is.uidvalidity != wanted.uidvalidity {
                return Err(format!("{name} is {is:?}, and not {wanted:?}"));
            }
            let origin = before.folders.values().find(|one| one.uidvalidity == wanted.uidvalidity);
            let last = origin.and_then(|one| one.messages.keys().last()).copied().unwrap_or(0);
            let old = is.messages.range(..=last).eq(wanted.messages.range(..=last));
            let new = (is.messages.range(last + 1..), wanted.messages.range(last + 1..));
            let are_copies = new.0.clone().count() == new.1.clone().count()
                && new.0.zip(new.1).all(|((_, is), (_, wanted))| is.is_copy_of(wanted));
            if !old || !are_copies {
                return Err(format!("{name} is {is:?}, and not {wanted:?}"));
            }
        }
        Ok(())
    }

    /// Whether it is as it was then, the account having been `before` when it went back. `may_differ`:
    /// mail came in meanwhile, so that nobody knows whether INBOX had to be made anew.
    pub(super) fn is_as_then(&self, then: &Tree, before: &Tree, may_differ: bool) -> Verdict {
        if !self.folders.keys().eq(then.folders.keys()) || self.subscribed != then.subscribed {
            return Err(format!("{} and not {}", self.names(), then.names()));
        }
        for ((name, is), was) in self.folders.iter().zip(then.folders.values()) {
            let are_same = same(&is.messages, &was.messages);
            let has_ids = name != INBOX
                || is.messages.values().zip(was.messages.values()).all(|(i, w)| i.uidl == w.uidl);
            if !are_same || !has_ids || is.uses != was.uses {
                return Err(format!("{name} is {is:?}, was {was:?}"));
            }
            let stays = before.folders.values().any(|now| {
                now.uidvalidity == was.uidvalidity && same(&now.messages, &was.messages)
            });
            let stayed = is.uidvalidity == was.uidvalidity;
            if stays != stayed && !(may_differ && name == INBOX) {
                let validities = (is.uidvalidity, was.uidvalidity);
                return Err(format!("{name}: UIDVALIDITY {validities:?}, as it was: {stays}"));
            }
        }
        Ok(())
    }

    /// Whether it is what it was `before`, and beside that, below `above`, what was then.
    pub(super) fn has_beside(&self, above: &str, then: &Tree, before: &Tree) -> Verdict {
        let below = format!("{above}/");
        let is_copy = |name: &str| name == above || name.starts_with(&below);
        self.clone().without(is_copy).agrees(before, before)?;
        let copies = || {
            self.folders.iter().filter_map(|(name, one)| Some((name.strip_prefix(&below)?, one)))
        };
        if !self.folders.contains_key(above)
            || !copies().map(|(name, _)| name).eq(then.folders.keys())
        {
            return Err(format!("beside: {} and not {}", self.names(), then.names()));
        }
        for ((name, is), was) in copies().zip(then.folders.values()) {
            if !same(&is.messages, &was.messages) {
                return Err(format!("beside: {name} is {is:?}, was {was:?}"));
            }
        }
        Ok(())
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.folders.keys().map(String::as_str).collect();
        format!("mailboxes {names:?}, subscribed {:?}", self.subscribed)
    }
}

/// The same messages with the same UIDs, flags, keywords and dates.
fn same(one: &Messages, other: &Messages) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((uid, is), (number, was))| uid == number && is.is_same(was))
}

/// What each UID stood for under each UIDVALIDITY; `None`: it is gone.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<u32, BTreeMap<u32, Option<u64>>>);

impl Numbers {
    /// A UID means one message for ever, and does not come back.
    pub(super) fn see(&mut self, tree: &Tree) -> Verdict {
        let mut there = BTreeSet::new();
        for (name, folder) in &tree.folders {
            if !there.insert(folder.uidvalidity) {
                return Err(format!("I3: {name} has a UIDVALIDITY that another mailbox has"));
            }
            let known = self.0.entry(folder.uidvalidity).or_default();
            for (&uid, held) in &folder.messages {
                let blob = *known.entry(uid).or_insert(Some(held.blob));
                if blob != Some(held.blob) {
                    return Err(format!("I3: {name}: UID {uid} was {blob:?}, is {}", held.blob));
                }
            }
            let gone = known.iter_mut().filter(|(uid, _)| !folder.messages.contains_key(uid));
            gone.for_each(|(_, blob)| *blob = None);
        }
        let gone = self.0.iter_mut().filter(|(validity, _)| !there.contains(validity));
        gone.for_each(|(_, known)| known.values_mut().for_each(|blob| *blob = None));
        Ok(())
    }
}

/// How the account stood at the end of each second, and of which seconds nobody knows.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    from: BTreeMap<u32, Tree>,
    unsure: Vec<(u32, u32)>,
}

impl Seconds {
    /// It is as it is now, by what was begun at `begun`.
    pub(super) fn note(&mut self, begun: u32, now: u32, tree: &Tree) {
        if begun < now {
            self.unsure.push((begun, now - 1));
        }
        self.from.insert(now, tree.clone());
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.from.keys().next().copied()
    }

    /// `None`: nobody knows.
    pub(super) fn at(&self, second: u32) -> Option<&Tree> {
        let is_unsure = self.unsure.iter().any(|&(from, to)| (from..=to).contains(&second));
        let (_, tree) = self.from.range(..=second).next_back().filter(|_| !is_unsure)?;
        Some(tree)
    }

    /// A second of which something is known, one that something happened in as a rule.
    pub(super) fn pick(&self, now: u32, index: impl Fn(usize) -> usize) -> Option<u32> {
        let mut seconds: Vec<u32> = self.from.keys().copied().collect();
        seconds.extend(self.from.keys().map(|second| second.saturating_sub(1)));
        seconds.retain(|&second| second <= now && self.at(second).is_some());
        (!seconds.is_empty()).then(|| seconds[index(seconds.len())])
    }
}
