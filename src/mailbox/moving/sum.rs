//! The sum of the digests of a mailbox's messages ([`crate::mailbox::digest`]), part by part.
//!
//! It is that of the mailbox as it stood when the first part was asked for: what came since is left out,
//! and what of then has changed or gone since is told of.

use super::ask::{Reply, Standing, Summed};
use super::out::entries_from;
use crate::env::Env;
use crate::mailbox::Desk;
use crate::mailbox::digest::of_message;
use crate::mailbox::keywords::Keywords;
use crate::mailbox::row::Entry;
use crate::mailbox::view::View;
use crate::model::id::{AccountId, MailboxId, ModSeq, Uid};
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use ring::digest::{Context, SHA256};

/// Octets that are worked on without a break.
const SLICE_OCTETS: usize = 64 << 10;

impl<E: Env> Desk<E> {
    pub(super) async fn sum(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        from: Uid,
        of: Standing,
    ) -> Reply {
        let Some(view) = self.accounts.borrow().open_view(account, mailbox) else {
            return Reply::Failed("the mailbox is gone".into());
        };
        let of = match of.uidnext {
            0 => Standing { uidnext: view.uidnext().0, modseq: view.modseq().0 },
            _ => of,
        };
        let none = Keywords::default();
        let keywords = view.keywords().unwrap_or(&none);
        let mut summed = Summed { of, ..Summed::default() };
        for entry in entries_from(&view, from).take_while(|entry| entry.uid.0 < of.uidnext) {
            let count = usize::try_from(summed.messages).unwrap_or(usize::MAX);
            if count >= MOVING_BATCH_MESSAGES_MAX || summed.octets >= MOVING_BATCH_OCTETS_MAX {
                summed.next = entry.uid.0;
                break;
            }
            summed.messages += 1;
            summed.octets += u64::from(entry.size);
            match self.log.read(entry.blob).await {
                Ok(blob) => {
                    let content = self.hash(blob.octets()).await;
                    summed.sum += of_message(&entry, keywords, &content);
                }
                Err(error) if self.is_there(account, mailbox, &entry) => {
                    summed.unread.push((entry.uid.0, error.to_string()));
                }
                // It was removed since the view.
                Err(_) => summed.changed = true,
            }
        }
        // What changes while this is read is as it was at the view, and found by the next question.
        summed.changed |= summed.next == 0 && self.has_changed(account, mailbox, &view, of);
        Reply::Summed(summed)
    }

    /// Others have their turn behind each slice.
    async fn hash(&self, octets: &[u8]) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        for slice in octets.chunks(SLICE_OCTETS) {
            hash.update(slice);
            self.log.env().breathe().await;
        }
        let mut own = [0; 32];
        own.copy_from_slice(hash.finish().as_ref());
        own
    }

    /// Whether the mailbox still has this message.
    fn is_there(&self, account: AccountId, mailbox: MailboxId, of: &Entry) -> bool {
        let view = self.accounts.borrow().view(account, mailbox);
        let found = entries_from(&view, of.uid).next();
        found.is_some_and(|entry| (entry.uid, entry.blob) == (of.uid, of.blob))
    }

    /// Whether any of the messages of then is otherwise in a later view, or gone.
    fn has_changed(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        view: &View,
        of: Standing,
    ) -> bool {
        if view.modseq().0 == of.modseq {
            return false;
        }
        let since = ModSeq(of.modseq);
        let is_of_then = |uid: Uid| uid.0 < of.uidnext;
        let gone = self.accounts.borrow().vanished_since(account, mailbox, since);
        gone.is_none_or(|gone| gone.into_iter().any(|(first, _)| is_of_then(first)))
            || view.iter().any(|entry| is_of_then(entry.uid) && entry.modseq > since)
    }
}
