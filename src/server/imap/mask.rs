//! What an operator hides from a session: from all, from the account, from this kind of client.
//!
//! What is hidden is not offered, and whoever asks for it all the same hears BAD, as if the server
//! were one that never heard of it. Only its forms that cannot be refused are understood still: a
//! non-synchronising literal is read, or what follows it would be taken for commands.

use super::{Done, Driver};
use crate::env::Env;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::fetch::Item;
use crate::wire::imap::command::list::StatusItem;
use crate::wire::imap::command::search::{Algorithm, By, Dated, Key, Returns, Sort};
use crate::wire::imap::command::{Command, IdPair};
use crate::wire::imap::scan::Which;

/// The answer to what is hidden.
pub(super) const HIDDEN: Done = Done::Bad("unknown command or argument");

/// Clients that are told apart by what they say in ID (RFC 2971).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Fields of ID in lower case, and patterns that their values must all fit: `*` stands for any
    /// characters, and the case of letters means nothing.
    pub fields: Vec<(&'static str, String)>,
    pub hidden: Capabilities,
}

impl Client {
    fn matches(&self, told: &[IdPair<'_>]) -> bool {
        self.fields.iter().all(|(field, pattern)| {
            told.iter().any(|(name, value)| {
                let is_field = name.octets().eq_ignore_ascii_case(field.as_bytes());
                let value = value.as_ref().map(|value| value.octets()).unwrap_or_default();
                is_field && fits(pattern.as_bytes(), &value)
            })
        })
    }
}

/// Whether a value fits a pattern of literal text and `*`.
fn fits(pattern: &[u8], value: &[u8]) -> bool {
    let (mut pattern, mut value) = (pattern, value);
    // Where to go on from if what follows the last star does not fit here.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), value.split_first()) {
            (None, None) => return true,
            (Some((b'*', behind)), _) => {
                star = Some((behind, value));
                pattern = behind;
            }
            (Some((one, behind)), Some((octet, rest))) if one.eq_ignore_ascii_case(octet) => {
                (pattern, value) = (behind, rest);
            }
            _ => {
                let Some((behind, [_, rest @ ..])) = star else { return false };
                star = Some((behind, rest));
                (pattern, value) = (behind, rest);
            }
        }
    }
}

impl<E: Env> Driver<E> {
    /// What is hidden from whoever says this in ID; true if something else is offered now.
    pub(super) fn set_client(&mut self, told: &[IdPair<'_>]) -> bool {
        let settings = self.shard.settings();
        let clients = settings.imap.clients.iter();
        let matching = clients.filter(|client| client.matches(told));
        self.client = matching.fold(Capabilities::NONE, |all, client| all.and(client.hidden));
        let before = self.hidden;
        self.set_mask();
        before != self.hidden
    }

    /// To be called when the user or the client is another one.
    pub(super) fn set_mask(&mut self) {
        let settings = self.shard.settings();
        let account = self.user.as_ref().map_or(Capabilities::NONE, |user| {
            let snapshot = self.shard.directory();
            let known = snapshot.login(&user.name, &settings.directory);
            known.map_or(Capabilities::NONE, |known| known.imap_hidden)
        });
        self.hidden = settings.imap.hidden().and(self.client).and(account).with_dependants();
    }

    /// Whether a command asks for something that is hidden.
    pub(super) fn hides(&self, command: &Command<'_>) -> bool {
        !self.hidden.is_empty() && used(command).meets(self.hidden)
    }
}

/// The capabilities that a command makes use of.
fn used(command: &Command<'_>) -> Capabilities {
    type C = Capabilities;
    let when = |uses: bool, one: Capabilities| if uses { one } else { C::NONE };
    match command {
        Command::Id(_) => C::ID,
        Command::Enable(_) => C::ENABLE,
        Command::Idle => C::IDLE,
        Command::Namespace => C::NAMESPACE,
        Command::Unselect => C::UNSELECT,
        Command::Unauthenticate => C::UNAUTHENTICATE,
        Command::Compress { .. } => C::COMPRESS,
        Command::GetQuota(_) | Command::GetQuotaRoot(_) | Command::SetQuota { .. } => C::QUOTA,
        Command::Authenticate { initial, .. } => when(initial.is_some(), C::SASL_IR),
        Command::Create { uses, .. } => when(!uses.is_empty(), C::CREATE_SPECIAL_USE),
        Command::Select(select) | Command::Examine(select) => {
            when(select.condstore, C::CONDSTORE).and(when(select.qresync.is_some(), C::QRESYNC))
        }
        Command::List(list) => when(list.extended, C::LIST_EXTENDED)
            .and(when(list.select.special_use || list.returns.special_use, C::SPECIAL_USE))
            .and(when(!list.returns.status.is_empty(), C::LIST_STATUS))
            .and(of_status(&list.returns.status)),
        Command::Status { items, .. } => of_status(items),
        Command::UidBatches { .. } => C::UIDBATCHES,
        Command::UidExpunge(which) => C::UIDPLUS.and(of_set(*which)),
        Command::Copy { messages, .. } => of_set(*messages),
        Command::Move { messages, .. } => C::MOVE.and(of_set(*messages)),
        Command::Store(store) => {
            when(store.unchanged_since.is_some(), C::CONDSTORE).and(of_set(store.messages))
        }
        Command::Fetch(fetch) => when(fetch.changed_since.is_some(), C::CONDSTORE)
            .and(when(fetch.vanished, C::QRESYNC))
            .and(when(fetch.partial.is_some(), C::PARTIAL))
            .and(of_set(fetch.messages))
            .and(of_items(&fetch.items)),
        Command::Search(search) => of_returns(search.returns).and(of_keys(&search.keys)),
        Command::Sort(sort) => of_sort(sort),
        Command::Thread(thread) => of_keys(&thread.keys).and(match thread.algorithm {
            Algorithm::OrderedSubject => C::THREAD_SUBJECT,
            Algorithm::References => C::THREAD_REFERENCES,
            Algorithm::Refs => C::THREAD_REFS,
        }),
        _ => C::NONE,
    }
}

fn all<T>(of: impl IntoIterator<Item = T>, one: impl Fn(T) -> Capabilities) -> Capabilities {
    of.into_iter().map(one).fold(Capabilities::NONE, Capabilities::and)
}

fn of_set(which: Which<'_>) -> Capabilities {
    match which {
        Which::Saved => Capabilities::SEARCHRES,
        Which::Set(_) => Capabilities::NONE,
    }
}

fn of_status(items: &[StatusItem]) -> Capabilities {
    all(items, |item| match item {
        StatusItem::Size => Capabilities::STATUS_SIZE,
        StatusItem::HighestModSeq => Capabilities::CONDSTORE,
        StatusItem::MailboxId => Capabilities::OBJECTID,
        StatusItem::AppendLimit => Capabilities::APPENDLIMIT,
        StatusItem::DeletedStorage => Capabilities::QUOTA_STORAGE,
        _ => Capabilities::NONE,
    })
}

fn of_items(items: &[Item<'_>]) -> Capabilities {
    all(items, |item| match item {
        Item::Binary { .. } | Item::BinarySize(_) => Capabilities::BINARY,
        Item::ModSeq => Capabilities::CONDSTORE,
        Item::EmailId | Item::ThreadId => Capabilities::OBJECTID,
        Item::SaveDate => Capabilities::SAVEDATE,
        Item::Preview { .. } => Capabilities::PREVIEW,
        _ => Capabilities::NONE,
    })
}

fn of_returns(returns: Option<Returns>) -> Capabilities {
    let Some(returns) = returns else { return Capabilities::NONE };
    let saves = if returns.save { Capabilities::SEARCHRES } else { Capabilities::NONE };
    let pages = if returns.partial.is_some() { Capabilities::PARTIAL } else { Capabilities::NONE };
    Capabilities::ESEARCH.and(saves).and(pages)
}

fn of_sort(sort: &Sort<'_>) -> Capabilities {
    let order = all(&sort.order, |order| match order.by {
        By::DisplayFrom | By::DisplayTo => Capabilities::SORT_DISPLAY,
        _ => Capabilities::SORT,
    });
    let esort = if sort.returns.is_some() { Capabilities::ESORT } else { Capabilities::NONE };
    order.and(esort).and(of_returns(sort.returns)).and(of_keys(&sort.keys))
}

fn of_keys(keys: &[Key<'_>]) -> Capabilities {
    all(keys, |key| match key {
        Key::Numbers(which) | Key::Uids(which) => of_set(*which),
        Key::Date { dated: Dated::Saved, .. } | Key::SaveDateSupported => Capabilities::SAVEDATE,
        Key::UidAfter(_) | Key::UidBefore(_) => Capabilities::MESSAGELIMIT,
        Key::Older(_) | Key::Younger(_) => Capabilities::WITHIN,
        Key::ModSeq(_) => Capabilities::CONDSTORE,
        Key::EmailId(_) | Key::ThreadId(_) => Capabilities::OBJECTID,
        Key::Not(inner) => of_keys(std::slice::from_ref(inner)),
        Key::Or(inner) | Key::And(inner) => of_keys(inner),
        _ => Capabilities::NONE,
    })
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, value) in [
            ("Out*", "outlook"),
            ("*", ""),
            ("*", "x"),
            ("a*b*c", "abxbbc"),
            ("", ""),
            ("a**", "a"),
        ] {
            assert!(fits(pattern.as_bytes(), value.as_bytes()), "{pattern} {value}");
        }
        for (pattern, value) in
            [("Out*", "ou"), ("", "x"), ("a*b", "abc"), ("*a*a*", "a"), ("a?c", "abc")]
        {
            assert!(!fits(pattern.as_bytes(), value.as_bytes()), "{pattern} {value}");
        }
    }
}
