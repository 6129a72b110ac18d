//! What moved in follows the other server once more: flags that changed there, messages that were removed.
//!
//! Only messages that an import brought are shown ([`Marks::MOVED_IN`]): what came in otherwise may have
//! got a UID that another message has there, and nobody may take it away.

use super::ask::Reply;
use crate::env::Env;
use crate::mailbox::Desk;
use crate::mailbox::desk::ChangeError;
use crate::mailbox::record::flags::{FlagChange, Mode};
use crate::mailbox::row::{Flags, Marks};
use crate::model::id::{AccountId, MailboxId, Uid};
use crate::model::limits::MOVING_BATCH_MESSAGES_MAX;

impl<E: Env> Desk<E> {
    /// Messages get these flags and keywords, and no others.
    pub(super) async fn reflag(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
        (flags, keywords): (u8, &[String]),
    ) -> Result<Reply, ChangeError> {
        let uids = rising(uids)?;
        let keywords = keywords.iter().map(String::as_str).collect();
        let flags = Flags(flags & super::FLAGS_ALL);
        let change = FlagChange { mode: Mode::Replace, flags, keywords };
        self.store(account, mailbox, &uids, &change, None).await?;
        Ok(Reply::Done)
    }

    /// Messages that were moved in go.
    pub(super) async fn unbring(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
    ) -> Result<Reply, ChangeError> {
        let uids = rising(uids)?;
        let moved: Vec<Uid> = {
            let view = self.accounts.borrow().open_view(account, mailbox);
            let view = view.ok_or(ChangeError::Missing)?;
            let is_moved =
                |uid: &Uid| view.find(*uid).is_some_and(|(_, one)| one.marks.has(Marks::MOVED_IN));
            uids.into_iter().filter(is_moved).collect()
        };
        self.expunge(account, mailbox, &moved).await?;
        Ok(Reply::Done)
    }
}

fn rising(uids: &[u32]) -> Result<Vec<Uid>, ChangeError> {
    if uids.len() > MOVING_BATCH_MESSAGES_MAX {
        return Err(ChangeError::Limit("messages named at once"));
    }
    let mut uids: Vec<Uid> = uids.iter().copied().map(Uid).collect();
    uids.sort_unstable();
    uids.dedup();
    Ok(uids)
}
