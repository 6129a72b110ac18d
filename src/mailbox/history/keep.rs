//! What goes into the history, and what is forgotten of it.
//!
//! A session's change begins with a MOMENT, if it is the first one of its second. The history of an
//! account has a bound: who would go over it forgets the oldest first, in the same group.
//!
//! Illegal: to put a FORGET into a group while another one of the account is on its way.

use super::super::account::Account;
use super::super::accounts::Accounts;
use super::super::desk::{ChangeError, Desk};
use super::super::promise::promise;
use super::super::record::history::{Moment, put_forget, put_moment};
use super::{Oldest, Retention, UNKNOWN};
use crate::env::Env;
use crate::model::id::{AccountId, MailboxId};
use crate::model::limits::{
    HISTORY_OCTETS_MAX, HISTORY_STEP_MESSAGES, LOOK_ACCOUNTS, MAILBOXES_MAX,
};
use crate::store::{AppendError, Group, Log};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// How old things may get beyond their retention, as a part of it: so that they are not forgotten
/// one by one.
const SLACK_PART: u32 = 64;

/// How a change begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Begun {
    /// Seconds since 1970.
    pub when: u32,
    /// What is removed goes into the history.
    pub kept: bool,
}

impl Accounts {
    /// Says how long histories are kept from here on.
    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// How long the history of an account is kept, in seconds; 0 if none is.
    pub fn retention(&self, account: AccountId) -> u32 {
        self.retention.of(account)
    }

    /// Begins a change that a session makes at the second `now`: to be called before its first record.
    /// `kept` is right for all that the group removes.
    pub(in super::super) fn begin(&self, group: &mut Group, id: AccountId, now: u32) -> Begun {
        let when = now.max(1);
        let known = self.account(id);
        let (keeps, moment) = known.map_or((false, 0), |known| (known.keeps, known.moment));
        if !keeps && self.retention.of(id) == 0 {
            return Begun { when, kept: false };
        }
        if !keeps || moment != when {
            put_moment(group, id, Moment { when, keeps: true });
        }
        let over = known.and_then(|known| known.past().excess(HISTORY_OCTETS_MAX));
        if let Some(Oldest { events, blobs, .. }) = over
            && !self.forgetting.contains(&id)
        {
            put_forget(group, id, 0, events, &blobs);
        }
        Begun { when, kept: true }
    }

    /// From when on one can go back to any second of an account: seconds since 1970. `None`: its
    /// history is not kept, or begins with the next change.
    pub fn known_from(&self, id: AccountId, now: u32) -> Option<u32> {
        let known = self.account(id).filter(|known| !known.closed)?;
        let is_kept = known.keeps && known.floor != UNKNOWN;
        let since = match self.retention.of(id) {
            // What is left until it is forgotten.
            0 => 0,
            retention => now.saturating_sub(retention),
        };
        is_kept.then(|| known.floor.max(since))
    }

    /// Mailboxes of an account that were removed and that its history has let go.
    pub(in super::super) fn let_go(&self, id: AccountId) -> Vec<MailboxId> {
        let Some(known) = self.account(id) else { return Vec::new() };
        let folders = known.folders().iter();
        let let_go = folders.filter(|folder| folder.removed && folder.removed_at == 0);
        let_go.map(|folder| folder.id).collect()
    }

    /// Accounts whose history has something to forget at `now`, or is to be begun or ended: of the next
    /// [`LOOK_ACCOUNTS`] from a place on, 0 for the first one. And where to go on, if there are more.
    pub fn stale(&self, now: u32, from: usize) -> (Vec<AccountId>, Option<usize>) {
        self.some_with(from, LOOK_ACCOUNTS, |id, facts| {
            let retention = self.retention.of(id);
            if facts.truths.closed() || retention == 0 {
                return !facts.truths.closed() && facts.truths.keeps();
            }
            let before = now.saturating_sub(retention.saturating_add(retention / SLACK_PART));
            !facts.truths.keeps() || facts.oldest.is_some_and(|oldest| oldest <= before)
        })
    }

    /// Accounts whose history has something of up to this second.
    pub fn kept_from_before(&self, until: u32) -> Vec<AccountId> {
        self.all_with(|_, facts| {
            !facts.truths.closed() && facts.oldest.is_some_and(|oldest| oldest <= until)
        })
    }

    /// The oldest that any history has; seconds since 1970.
    pub fn oldest_kept(&self) -> Option<u32> {
        self.oldest_of_all()
    }
}

/// The oldest of a history goes, at most so much of it as one commit should take with it. Whether
/// there is more up to `until`.
fn forget_some<E: Env>(
    log: &Log<E>,
    accounts: &Rc<RefCell<Accounts>>,
    id: AccountId,
    until: u32,
) -> Result<impl Future<Output = Result<bool, AppendError>> + use<E>, ChangeError> {
    let mut state = accounts.borrow_mut();
    let known = state.account(id).ok_or(ChangeError::Missing)?;
    let Oldest { events, blobs, has_more } = known.past().oldest(until, HISTORY_STEP_MESSAGES);
    // Another one is on its way, and it is not known yet how that ends.
    if !state.forgetting.insert(id) {
        return Err(ChangeError::Append(AppendError::Full));
    }
    drop(state);
    let mut group = Group::new();
    put_forget(&mut group, id, until, events, &blobs);
    let (appended, accounts) = (log.append(group), Rc::clone(accounts));
    let (promise, promised) = promise();
    // A task of its own: the mark has to go whether or not anybody waits for the answer.
    log.env().spawn(async move {
        let outcome = appended.await;
        accounts.borrow_mut().forgetting.remove(&id);
        promise.keep(outcome.map(|_| has_more));
    });
    Ok(promised)
}

/// Forgets all of the history of an account that was deleted.
pub(in super::super) async fn forget_all<E: Env>(
    log: &Log<E>,
    accounts: &Rc<RefCell<Accounts>>,
    id: AccountId,
) -> Result<(), ChangeError> {
    loop {
        let is_done = accounts.borrow().account(id).is_none_or(|known| known.oldest().is_none());
        if is_done {
            return Ok(());
        }
        forget_some(log, accounts, id, u32::MAX)?.await?;
    }
}

impl<E: Env> Desk<E> {
    /// Forgets what is older than the retention of an account, and begins or ends its history where
    /// the retention says so.
    pub async fn keep(&self, account: AccountId) -> Result<(), ChangeError> {
        let (now, retention) = (self.now(), self.accounts.borrow().retention(account));
        if retention > 0 {
            self.begin_history(account, now).await?;
            return self.forget(account, now.saturating_sub(retention)).await;
        }
        self.forget(account, u32::MAX).await?;
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let state = self.accounts.borrow();
            let known = state.account(account).ok_or(ChangeError::Missing)?;
            // Something may have been removed meanwhile.
            if !known.keeps || known.oldest().is_some() {
                return Ok(());
            }
            put_moment(&mut group, account, Moment { when: now.max(1), keeps: false });
        }
        Ok(self.commit(turn, group).await?)
    }

    /// From here on the history of an account is known.
    async fn begin_history(&self, account: AccountId, now: u32) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let state = self.accounts.borrow();
            let known = state.account(account).ok_or(ChangeError::Missing)?;
            if known.keeps {
                return Ok(());
            }
            put_moment(&mut group, account, Moment { when: now.max(1), keeps: true });
        }
        Ok(self.commit(turn, group).await?)
    }

    /// Forgets all that the history of an account has up to a second, and lets the octets of messages go
    /// that only it had.
    pub async fn forget(&self, account: AccountId, until: u32) -> Result<(), ChangeError> {
        let mut has_more = true;
        while has_more {
            let turn = self.turn(account).await?;
            let oldest = self.accounts.borrow().account(account).and_then(Account::oldest);
            if oldest.is_none_or(|oldest| oldest > until) {
                break;
            }
            let some = forget_some(&self.log, &self.accounts, account, until)?;
            has_more = some.await?;
            drop(turn);
        }
        let let_go = self.accounts.borrow().let_go(account);
        for mailbox in let_go {
            self.empty(account, mailbox).await?;
        }
        Ok(())
    }

    /// Has room for so many more mailboxes that are removed: those that were removed first are let go.
    pub(in super::super) async fn make_room_for_removed(
        &self,
        account: AccountId,
        count: usize,
    ) -> Result<(), ChangeError> {
        let until = {
            let state = self.accounts.borrow();
            let Some(known) = state.account(account) else { return Ok(()) };
            let removed = known.folders().iter().filter(|folder| folder.removed);
            let mut when: Vec<u32> = removed.map(|folder| folder.removed_at).collect();
            let over = (when.len() + count).saturating_sub(MAILBOXES_MAX).min(when.len());
            let Some(last) = over.checked_sub(1) else { return Ok(()) };
            when.sort_unstable();
            when[last]
        };
        self.forget(account, until).await
    }
}
