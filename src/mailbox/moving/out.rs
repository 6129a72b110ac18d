//! Handing out: which mailboxes there are, their messages, and digests of these.

use super::ask::{Folder, Parcel, Reply};
use crate::env::Env;
use crate::mailbox::Desk;
use crate::mailbox::keywords::Keywords;
use crate::mailbox::row::Entry;
use crate::mailbox::view::View;
use crate::model::id::{AccountId, MailboxId, Uid};
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use xxhash_rust::xxh3::Xxh3;

impl<E: Env> Desk<E> {
    pub(super) fn folders(&self, account: AccountId) -> Reply {
        let state = self.accounts.borrow();
        let mut folders = Vec::new();
        state.each_mailbox(account, |one| {
            let view = state.view(account, one.id);
            folders.push(Folder {
                mailbox: one.id.0,
                name: one.name.into(),
                uses: one.uses.0,
                uidvalidity: view.uidvalidity().0,
                uidnext: view.uidnext().0,
                messages: view.count(),
            });
        });
        let subscriptions = state.subscriptions(account);
        let subscriptions = subscriptions.into_iter().map(String::from).collect();
        Reply::Folders { folders, subscriptions }
    }

    /// Messages from a UID on that are `wanted`, without their octets.
    pub(super) fn list(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        from: Uid,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Reply {
        let Some(view) = self.accounts.borrow().open_view(account, mailbox) else {
            return Reply::Failed("the mailbox is gone".into());
        };
        let none = Keywords::default();
        let keywords = view.keywords().unwrap_or(&none);
        let (mut messages, mut next) = (Vec::new(), 0);
        for entry in entries_from(&view, from).filter(wanted) {
            if messages.len() >= MOVING_BATCH_MESSAGES_MAX {
                next = entry.uid.0;
                break;
            }
            messages.push(parcel(&view, keywords, &entry));
        }
        let keywords = keywords.names().iter().map(ToString::to_string).collect();
        Reply::Messages { keywords, messages, next, unread: Vec::new() }
    }

    /// Digests of messages from a UID on; of one that cannot be read it is 0.
    pub(super) async fn digests(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        from: Uid,
    ) -> (Reply, Vec<u8>) {
        let mut digests = Vec::new();
        let (mut octets, mut next) = (0, 0);
        for entry in self.entries_from(account, mailbox, from) {
            if octets >= MOVING_BATCH_OCTETS_MAX {
                next = entry.uid.0;
                break;
            }
            octets += u64::from(entry.size);
            let digest = match self.log.read(entry.blob).await {
                Ok(blob) => {
                    let mut digest = Xxh3::new();
                    digest.update(blob.octets());
                    digest.digest128()
                }
                Err(_) => 0,
            };
            digests.extend_from_slice(&digest.to_le_bytes());
        }
        (Reply::Part { next }, digests)
    }

    pub(super) async fn take(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        from: Uid,
    ) -> (Reply, Vec<u8>) {
        let Some(view) = self.accounts.borrow().open_view(account, mailbox) else {
            return (Reply::Failed("the mailbox is gone".into()), Vec::new());
        };
        let none = Keywords::default();
        let keywords = view.keywords().unwrap_or(&none);
        let (mut messages, mut unread, mut next) = (Vec::new(), Vec::new(), 0);
        let mut octets: Vec<u8> = Vec::new();
        for entry in entries_from(&view, from) {
            let is_full = octets.len() as u64 + u64::from(entry.size) > MOVING_BATCH_OCTETS_MAX;
            if messages.len() >= MOVING_BATCH_MESSAGES_MAX || is_full && !messages.is_empty() {
                next = entry.uid.0;
                break;
            }
            match self.log.read(entry.blob).await {
                Ok(blob) => octets.extend_from_slice(blob.octets()),
                Err(error) => {
                    unread.push((entry.uid.0, error.to_string()));
                    continue;
                }
            }
            messages.push(parcel(&view, keywords, &entry));
        }
        let keywords = keywords.names().iter().map(ToString::to_string).collect();
        (Reply::Messages { keywords, messages, next, unread }, octets)
    }

    fn entries_from(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        from: Uid,
    ) -> impl Iterator<Item = Entry> + use<E> {
        let view = self.accounts.borrow().view(account, mailbox);
        entries_from(&view, from).collect::<Vec<Entry>>().into_iter()
    }
}

pub(super) fn entries_from(view: &View, from: Uid) -> impl Iterator<Item = Entry> {
    view.iter_from(view.lower_bound(from))
}

fn parcel(view: &View, keywords: &Keywords, entry: &Entry) -> Parcel {
    Parcel {
        octets: entry.size,
        uid: entry.uid.0,
        date: entry.internal_date,
        flags: entry.flags.0,
        keywords: places(keywords, entry.keywords),
        uidl: view.uidl(entry.uid).map(str::to_owned),
    }
}

/// The places of a set's names.
fn places(keywords: &Keywords, set: u16) -> Vec<u16> {
    let mask = keywords.mask(set);
    (0..64).filter(|bit| mask >> bit & 1 == 1).collect()
}
