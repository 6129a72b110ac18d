//! Removal: messages leave a mailbox for good, all of one call in one commit.

use super::accounts::Accounts;
use super::desk::ChangeError;
use super::history::forget_all;
use super::promise::promise;
use super::record::{put_account_delete, put_expunge};
use crate::env::Env;
use crate::model::id::{AccountId, BlobId, MailboxId, ModSeq, Uid};
use crate::model::limits::{ACCOUNT_DELETE_STEP_MESSAGES, EXPUNGE_MESSAGES_MAX};
use crate::store::{AppendError, Group, Log};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Why nothing was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpungeError {
    /// Another removal of one of these is on its way; it is not known yet how that ends.
    Busy,
    /// More than [`EXPUNGE_MESSAGES_MAX`] at once.
    TooMany,
    Append(AppendError),
}

impl From<AppendError> for ExpungeError {
    fn from(error: AppendError) -> ExpungeError {
        ExpungeError::Append(error)
    }
}

/// The record of a removal that is about to be appended.
pub(super) struct Leaving {
    pub group: Group,
    pub messages: Vec<(Uid, BlobId)>,
}

/// Finds the messages and marks them as leaving, at the second `now`. `None` if none of them is there.
pub(super) fn leave(
    accounts: &mut Accounts,
    account: AccountId,
    mailbox: MailboxId,
    uids: &[Uid],
    now: u32,
) -> Result<Option<Leaving>, ExpungeError> {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    uids.dedup();
    let there = |uid: Uid| Some((uid, accounts.blob(account, mailbox, uid)?));
    let messages: Vec<(Uid, BlobId)> = uids.into_iter().filter_map(there).collect();
    if messages.len() > EXPUNGE_MESSAGES_MAX {
        return Err(ExpungeError::TooMany);
    }
    let taken = accounts.leaving();
    if messages.iter().any(|&(uid, _)| taken.contains(&(account, mailbox, uid))) {
        return Err(ExpungeError::Busy);
    }
    if messages.is_empty() {
        return Ok(None);
    }
    taken.extend(messages.iter().map(|&(uid, _)| (account, mailbox, uid)));
    let mut group = Group::new();
    // What the history has let go, and the mail of an account that is deleted, goes for good.
    let is_open = accounts.open_view(account, mailbox).is_some() && !accounts.is_closed(account);
    let kept = is_open && accounts.begin(&mut group, account, now).kept;
    let modseq: ModSeq = accounts.assign_modseq(account).expect("an account with messages");
    put_expunge(&mut group, account, mailbox, modseq, &messages, kept);
    Ok(Some(Leaving { group, messages }))
}

/// Removes those of `uids` that are there, as one atomic change: queued in the log before this
/// returns, durable when the future resolves. Says how many were removed. Not while another change
/// of the account is on its way: by the desk only, or where there is none any more.
/// Dropping the future does not stop the removal.
pub(super) fn expunge<E: Env>(
    log: &Log<E>,
    accounts: &Rc<RefCell<Accounts>>,
    account: AccountId,
    mailbox: MailboxId,
    uids: &[Uid],
) -> impl Future<Output = Result<usize, ExpungeError>> + use<E> {
    let now = log.env().wall().seconds();
    let leaving = leave(&mut accounts.borrow_mut(), account, mailbox, uids, now);
    let begun = leaving.map(|leaving| {
        let Leaving { group, messages } = leaving?;
        let appended = log.append(group);
        let accounts = Rc::clone(accounts);
        let (promise, promised) = promise();
        // A task of its own: the marks have to go whether or not anybody waits for the answer.
        log.env().spawn(async move {
            let outcome = appended.await;
            let mut state = accounts.borrow_mut();
            for &(uid, _) in &messages {
                state.leaving().remove(&(account, mailbox, uid));
            }
            drop(state);
            promise.keep(outcome.map(|_| messages.len()));
        });
        Some(promised)
    });
    async move {
        match begun? {
            Some(promised) => Ok(promised.await?),
            None => Ok(0),
        }
    }
}

/// Deletes an account with all its mail. It takes no mail from the first commit on; its messages
/// go in bounded steps. Call it again to go on after an error or a crash
/// ([`Accounts::living`]).
pub async fn delete_account<E: Env>(
    log: &Log<E>,
    accounts: &Rc<RefCell<Accounts>>,
    account: AccountId,
) -> Result<(), ExpungeError> {
    let is_news = accounts.borrow_mut().shut(account);
    if is_news {
        let mut group = Group::new();
        put_account_delete(&mut group, account);
        if let Err(error) = log.append(group).await {
            accounts.borrow_mut().reopen(account);
            return Err(error.into());
        }
    }
    // What was queued before is applied by now, and nothing can follow.
    match forget_all(log, accounts, account).await {
        Err(ChangeError::Append(AppendError::Full)) => return Err(ExpungeError::Busy),
        Err(ChangeError::Append(error)) => return Err(error.into()),
        // Any other error is that it never had any mail.
        Ok(()) | Err(_) => {}
    }
    let mailboxes = accounts.borrow().mailboxes(account);
    for mailbox in mailboxes {
        let view = accounts.borrow().view(account, mailbox);
        let uids: Vec<Uid> = view.iter().map(|entry| entry.uid).collect();
        drop(view);
        for step in uids.chunks(ACCOUNT_DELETE_STEP_MESSAGES) {
            expunge(log, accounts, account, mailbox, step).await?;
        }
    }
    Ok(())
}
