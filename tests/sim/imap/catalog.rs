//! The names of an account's mailboxes. Who changes them does so alone, so that they are known
//! exactly; a change that was not answered was made as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

/// The mailboxes of every account, from its first login on.
const USUAL: [&str; 6] = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"];

/// A change of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create(&'static str),
    Delete(&'static str),
    Rename(&'static str, &'static str),
    Subscribe(&'static str, bool),
}

/// Names with their UIDVALIDITY, where that was told, and subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) mailboxes: BTreeMap<String, Option<u32>>,
    pub(super) subscribed: BTreeSet<String>,
}

impl Names {
    /// What a change leads to; `None`: it must be refused.
    fn after(&self, change: &Change) -> Option<Names> {
        let mut after = self.clone();
        let has = |name: &str| self.mailboxes.contains_key(name);
        match *change {
            Change::Create(name) if has(name) => return None,
            Change::Create(name) => after.make(name),
            Change::Delete("INBOX") => return None,
            Change::Delete(name) => {
                after.mailboxes.remove(name)?;
            }
            Change::Rename(_, to) if has(to) => return None,
            Change::Rename("INBOX", to) => after.make(to),
            Change::Rename(from, to) => after.rename(from, to)?,
            Change::Subscribe(name, true) if !has(name) && !self.has_below(name) => return None,
            Change::Subscribe(name, true) => {
                after.subscribed.insert(name.to_owned());
            }
            Change::Subscribe(name, false) => {
                after.subscribed.remove(name);
            }
        }
        Some(after)
    }

    fn has_below(&self, name: &str) -> bool {
        let mut rests = self.mailboxes.keys().filter_map(|known| known.strip_prefix(name));
        rests.any(|rest| rest.starts_with('/'))
    }

    /// A mailbox, and those above it.
    fn make(&mut self, name: &str) {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        for path in ends.filter_map(|end| name.get(..end)) {
            self.mailboxes.entry(path.to_owned()).or_insert(None);
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Option<()> {
        let rest = |name: &str| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        if rest(to).is_some() {
            return None;
        }
        let moving: Vec<(String, String)> = self
            .mailboxes
            .keys()
            .filter_map(|name| Some((name.clone(), format!("{to}{}", rest(name)?))))
            .collect();
        if moving.is_empty() || moving.iter().any(|(_, new)| self.mailboxes.contains_key(new)) {
            return None;
        }
        if let Some((above, _)) = to.rsplit_once('/') {
            self.make(above);
        }
        for (old, new) in moving {
            let known = self.mailboxes.remove(&old)?;
            self.mailboxes.insert(new, known);
        }
        Some(())
    }
}

/// See the header.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) names: Names,
    /// Somebody's change is under way,
    busy: bool,
    /// which leads to this, if it may be made.
    pending: Option<Names>,
    /// Rises with each begin and end of a change.
    version: u64,
}

impl Default for Catalog {
    fn default() -> Catalog {
        let mailboxes = USUAL.iter().map(|&name| (name.to_owned(), None)).collect();
        let subscribed = USUAL.iter().map(|&name| name.to_owned()).collect();
        Catalog { names: Names { mailboxes, subscribed }, busy: false, pending: None, version: 0 }
    }
}

impl Catalog {
    /// Begins a change, if nobody else is at it.
    pub(super) fn begin(&mut self, change: &Change) -> bool {
        if self.busy {
            return false;
        }
        self.busy = true;
        self.pending = self.names.after(change);
        self.version += 1;
        true
    }

    /// The change was answered. The error says what is wrong with that.
    pub(super) fn end(&mut self, ok: bool, may_fail: bool) -> Result<(), String> {
        self.version += 1;
        self.busy = false;
        match (self.pending.take(), ok) {
            (Some(after), true) => self.names = after,
            (None, true) => return Err("it was done, and cannot be".to_owned()),
            (Some(_), false) if !may_fail => return Err("it was refused".to_owned()),
            (_, false) => {}
        }
        Ok(())
    }

    /// For a comparison of now and later; `None` while names change.
    pub(super) fn stable(&self) -> Option<u64> {
        (!self.busy).then_some(self.version)
    }

    /// Nothing is under way any more, and this is what there is.
    pub(super) fn settle(
        &mut self,
        mailboxes: &BTreeSet<String>,
        subscribed: &BTreeSet<String>,
    ) -> Result<(), String> {
        let is =
            |names: &Names| names.mailboxes.keys().eq(mailboxes) && names.subscribed == *subscribed;
        self.version += 1;
        self.busy = false;
        match self.pending.take() {
            Some(after) if is(&after) => self.names = after,
            _ if is(&self.names) => {}
            after => {
                let known = &self.names;
                return Err(format!(
                    "I12: names {mailboxes:?}, {subscribed:?} are neither {known:?} nor {after:?}"
                ));
            }
        }
        Ok(())
    }

    /// A mailbox told its UIDVALIDITY.
    pub(super) fn tell(&mut self, name: &str, uidvalidity: u32) -> Result<(), String> {
        let taken = self.names.mailboxes.iter().find(|(_, known)| **known == Some(uidvalidity));
        if let Some((other, _)) = taken.filter(|(other, _)| *other != name) {
            return Err(format!("I3: {other} and {name} have UIDVALIDITY {uidvalidity}"));
        }
        match self.names.mailboxes.get_mut(name) {
            None => Err(format!("{name} is not there, and was opened")),
            Some(Some(known)) if *known != uidvalidity => {
                Err(format!("I3: UIDVALIDITY of {name} was {known}, is {uidvalidity}"))
            }
            Some(known) => {
                *known = Some(uidvalidity);
                Ok(())
            }
        }
    }
}
