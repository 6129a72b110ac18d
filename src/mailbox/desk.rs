//! The desk: where sessions hand in changes of what an account holds.
//!
//! ```text
//!   turn of the account ─> look at what is there ─> numbers, records ─> log ─> apply ─> answer
//!                          (no await in between)                     (durable)
//! ```
//!
//! A change is on its way before the first await behind its turn, and comes to its end whether or
//! not anybody waits for the answer; the turn lasts as long. So every change is worked out from an
//! account that holds what was answered, and nothing else but mail that came in since.
//!
//! Names are those of the store: UTF-8, `/` between levels, `INBOX` in capitals.

use super::account::INBOX;
use super::accounts::Accounts;
use super::deliver::Message;
use super::expunge::{ExpungeError, expunge};
use super::promise::promise;
use super::quota::{Quota, Refused};
use super::record::catalog::{Catalog, Use, put_catalog};
use super::record::flags::{FlagChange, Mode, put_flags};
use super::record::transfer::{COPY, Item, MOVE, put_transfer};
use super::record::{Create, Deliver, put_create, put_deliver};
use super::row::{Entry, Flags};
use super::turn::{Turn, Turns};
use super::view::View;
use crate::env::Env;
use crate::model::id::{AccountId, MailboxId, ModSeq, Uid, UidValidity};
use crate::model::limits::{
    EXPUNGE_MESSAGES_MAX, KEYWORD_OCTETS_MAX, MAILBOX_NAME_OCTETS_MAX, MAILBOXES_MAX,
};
use crate::store::{AppendError, BlobDraft, Group, Log};
use std::cell::RefCell;
use std::rc::Rc;

/// Between the levels of a mailbox's name.
pub const SEPARATOR: char = '/';

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no mailbox of that name or number.
    Missing,
    /// There is one already.
    Exists,
    /// INBOX can be neither removed nor put elsewhere.
    IsInbox,
    /// A mailbox cannot lie below itself.
    BelowItself,
    /// Some of the messages, all of which were to be taken, are no more.
    Gone,
    /// A bound of this server; says which.
    Limit(&'static str),
    Refused(Refused),
    Append(AppendError),
}

impl From<AppendError> for ChangeError {
    fn from(error: AppendError) -> ChangeError {
        ChangeError::Append(error)
    }
}

impl From<Refused> for ChangeError {
    fn from(refused: Refused) -> ChangeError {
        ChangeError::Refused(refused)
    }
}

impl From<ExpungeError> for ChangeError {
    fn from(error: ExpungeError) -> ChangeError {
        match error {
            ExpungeError::Append(error) => ChangeError::Append(error),
            ExpungeError::TooMany => ChangeError::Limit("messages removed at once"),
            ExpungeError::Busy => ChangeError::Append(AppendError::Full),
        }
    }
}

/// What became of a change of flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The counter of the change; `None` if nothing had to change.
    pub modseq: Option<ModSeq>,
    /// Left as they are: they changed after the counter that was named (RFC 7162 §3.1.3).
    pub modified: Vec<Uid>,
}

/// What became of a copy, a move or an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub uidvalidity: UidValidity,
    /// Where each came from and what it is now; both rise.
    pub uids: Vec<(Uid, Uid)>,
}

/// Messages to be taken to another mailbox, by rising UID.
#[derive(Clone, Copy, Debug)]
pub enum Picked<'a> {
    /// All of them, or none.
    All(&'a [Uid]),
    /// Those of them that are there.
    There(&'a [Uid]),
}

/// A message that a client brings.
#[derive(Clone, Debug)]
pub struct Brought<'a> {
    pub message: Message,
    pub flags: Flags,
    pub keywords: Vec<&'a str>,
}

/// See the header. Clones are the same desk.
pub struct Desk<E: Env> {
    pub(super) log: Log<E>,
    pub(super) accounts: Rc<RefCell<Accounts>>,
    turns: Turns,
}

impl<E: Env> Clone for Desk<E> {
    fn clone(&self) -> Self {
        Desk {
            log: self.log.clone(),
            accounts: Rc::clone(&self.accounts),
            turns: self.turns.clone(),
        }
    }
}

impl<E: Env> Desk<E> {
    pub fn new(log: Log<E>, accounts: Rc<RefCell<Accounts>>) -> Desk<E> {
        Desk { log, accounts, turns: Turns::default() }
    }

    pub(super) fn now(&self) -> u32 {
        self.log.env().wall().seconds()
    }

    /// Waits for the turn of an account, which must not be on its way out.
    pub(super) async fn turn(&self, account: AccountId) -> Result<Turn, ChangeError> {
        let turn = self.turns.take(account).await;
        if self.accounts.borrow().is_closed(account) {
            return Err(Refused::Closed.into());
        }
        Ok(turn)
    }

    /// Sends a group on its way; the turn ends when it was applied, or failed.
    pub(super) async fn commit(&self, turn: Turn, group: Group) -> Result<(), AppendError> {
        let appended = self.log.append(group);
        let (promise, promised) = promise();
        self.log.env().spawn(async move {
            let outcome = appended.await;
            drop(turn);
            promise.keep(outcome.map(|_| ()));
        });
        promised.await
    }

    /// Makes INBOX, and the mailboxes of `usual`, for an account that never had any but INBOX.
    /// They are subscribed to.
    pub async fn prepare(
        &self,
        account: AccountId,
        usual: &[(&str, Use)],
    ) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            let inbox = state.assign_inbox(account, self.now());
            if let Some(create) = &inbox {
                put_create(&mut group, account, create);
            }
            let known = state.account(account);
            let is_new = known.is_none_or(|known| known.mailbox_last <= INBOX);
            if is_new {
                state.begin(&mut group, account, self.now());
                let known = state.account(account);
                let validity = known.map(|known| known.uidvalidity_last);
                let validity = validity.or(inbox.map(|create| create.uidvalidity));
                let mut last = (INBOX, validity.unwrap_or(UidValidity(0)));
                let subscribed = known.is_some_and(|known| !known.subscriptions().is_empty());
                if !subscribed {
                    subscribe_to(&mut group, account, "INBOX");
                }
                for &(name, uses) in usual {
                    self.put_mailbox(&mut state, &mut group, account, name, &mut last);
                    let modseq = state.assign_modseq(account).expect("the account is there");
                    let change = Catalog::Use { mailbox: last.0, modseq, uses };
                    put_catalog(&mut group, account, &change);
                    subscribe_to(&mut group, account, name);
                }
            }
        }
        if group.records.is_empty() {
            return Ok(());
        }
        Ok(self.commit(turn, group).await?)
    }

    /// Adds the record of a new mailbox; `last` are the highest number and UIDVALIDITY so far.
    pub(super) fn put_mailbox(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        account: AccountId,
        name: &str,
        last: &mut (MailboxId, UidValidity),
    ) {
        let modseq = state.assign_modseq(account).expect("the account is there");
        let uidvalidity = UidValidity(self.now().max(last.1.0 + 1));
        *last = (MailboxId(last.0.0 + 1), uidvalidity);
        put_create(group, account, &Create { mailbox: last.0, uidvalidity, modseq, name });
    }

    /// Makes a mailbox, and those above it that are missing (RFC 9051 §6.3.4). Returns its number.
    pub async fn create(
        &self,
        account: AccountId,
        name: &str,
        uses: Use,
    ) -> Result<MailboxId, ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        let made = {
            let mut state = self.accounts.borrow_mut();
            if state.named(account, name).is_some() {
                return Err(ChangeError::Exists);
            }
            state.begin(&mut group, account, self.now());
            let made = self.make_path(&mut state, &mut group, account, name)?;
            if uses != Use::default() {
                let modseq = state.assign_modseq(account).expect("the account is there");
                let change = Catalog::Use { mailbox: made, modseq, uses };
                put_catalog(&mut group, account, &change);
            }
            made
        };
        self.commit(turn, group).await?;
        Ok(made)
    }

    /// Adds the records of a mailbox and of those above it that are missing.
    fn make_path(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        account: AccountId,
        name: &str,
    ) -> Result<MailboxId, ChangeError> {
        let known = state.account(account).ok_or(ChangeError::Missing)?;
        if name.len() > MAILBOX_NAME_OCTETS_MAX {
            return Err(ChangeError::Limit("octets of a mailbox name"));
        }
        let ends = name.match_indices(SEPARATOR).map(|(at, _)| at);
        let paths = ends.chain([name.len()]).filter_map(|end| name.get(..end));
        let missing: Vec<&str> = paths.filter(|path| known.named(path).is_none()).collect();
        if known.named_count() + missing.len() > MAILBOXES_MAX {
            return Err(ChangeError::Limit("mailboxes of an account"));
        }
        let mut last = (known.mailbox_last, known.uidvalidity_last);
        for path in missing {
            self.put_mailbox(state, group, account, path, &mut last);
        }
        Ok(last.0)
    }

    /// Removes a mailbox; those below it stay (RFC 9051 §6.3.5).
    pub async fn delete(&self, account: AccountId, name: &str) -> Result<(), ChangeError> {
        self.make_room_for_removed(account, 1).await?;
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        let (mailbox, kept) = {
            let mut state = self.accounts.borrow_mut();
            let mailbox = state.named(account, name).ok_or(ChangeError::Missing)?;
            if mailbox == INBOX {
                return Err(ChangeError::IsInbox);
            }
            let kept = state.begin(&mut group, account, self.now()).kept;
            let modseq = state.assign_modseq(account).expect("a mailbox was found");
            put_catalog(&mut group, account, &Catalog::Delete { mailbox, modseq });
            (mailbox, kept)
        };
        self.commit(turn, group).await?;
        if !kept {
            // It is gone, whatever becomes of its messages: what cannot be done now is done at the
            // next start.
            drop(self.empty(account, mailbox).await);
        }
        Ok(())
    }

    /// Takes the messages out of a mailbox that was removed. To be called again for those of
    /// [`Accounts::removed`] after a restart.
    pub async fn empty(&self, account: AccountId, mailbox: MailboxId) -> Result<(), ChangeError> {
        let view = self.accounts.borrow().view(account, mailbox);
        let uids: Vec<Uid> = view.iter().map(|entry| entry.uid).collect();
        drop(view);
        for step in uids.chunks(EXPUNGE_MESSAGES_MAX) {
            self.expunge(account, mailbox, step).await?;
        }
        Ok(())
    }

    /// Gives a mailbox and those below it another name. INBOX stays, and its messages go
    /// (RFC 9051 §6.3.6).
    pub async fn rename(
        &self,
        account: AccountId,
        from: &str,
        to: &str,
    ) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            let mailbox = state.named(account, from);
            if state.named(account, to).is_some() {
                return Err(ChangeError::Exists);
            }
            let when = state.begin(&mut group, account, self.now()).when;
            if mailbox == Some(INBOX) {
                let made = self.make_path(&mut state, &mut group, account, to)?;
                let view = state.view(account, INBOX);
                let uids: Vec<Uid> = view.iter().map(|entry| entry.uid).collect();
                // The new mailbox begins with UID 1 and is not there yet.
                let entries = there(&state, account, INBOX, &uids)?;
                let items: Vec<Item> = (1..).map(Uid).zip(entries).map(item).collect();
                if !items.is_empty() {
                    let modseq = state.assign_modseq(account).expect("INBOX is there");
                    let way = (INBOX, made);
                    put_transfer(&mut group, MOVE, account, way, (modseq, when), &items);
                }
            } else {
                self.put_renames(&mut state, &mut group, account, from, to)?;
            }
        }
        Ok(self.commit(turn, group).await?)
    }

    fn put_renames(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        account: AccountId,
        from: &str,
        to: &str,
    ) -> Result<(), ChangeError> {
        // What follows `from` in its own name and in those below it.
        let rest = |name: &str| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with(SEPARATOR)).then(|| rest.to_owned())
        };
        let mut moving: Vec<(MailboxId, String)> = Vec::new();
        state.each_mailbox(account, |one| {
            if let Some(rest) = rest(one.name) {
                moving.push((one.id, format!("{to}{rest}")));
            }
        });
        if moving.is_empty() {
            return Err(ChangeError::Missing);
        }
        if rest(to).is_some() {
            return Err(ChangeError::BelowItself);
        }
        if moving.iter().any(|(_, name)| state.named(account, name).is_some()) {
            return Err(ChangeError::Exists);
        }
        if moving.iter().any(|(_, name)| name.len() > MAILBOX_NAME_OCTETS_MAX) {
            return Err(ChangeError::Limit("octets of a mailbox name"));
        }
        if let Some((above, _)) = to.rsplit_once(SEPARATOR)
            && state.named(account, above).is_none()
        {
            self.make_path(state, group, account, above)?;
        }
        for (mailbox, name) in &moving {
            let mailbox = *mailbox;
            let modseq = state.assign_modseq(account).expect("a mailbox was found");
            put_catalog(group, account, &Catalog::Rename { mailbox, modseq, name });
        }
        Ok(())
    }

    /// Subscribes to a name or ends that; the mailbox need not be there.
    pub async fn subscribe(
        &self,
        account: AccountId,
        name: &str,
        on: bool,
    ) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let state = self.accounts.borrow();
            let known = state.account(account).ok_or(ChangeError::Missing)?;
            let names = known.subscriptions();
            if names.iter().any(|known| **known == *name) == on {
                return Ok(());
            }
            if on && names.len() >= MAILBOXES_MAX {
                return Err(ChangeError::Limit("subscriptions of an account"));
            }
            if name.is_empty() || name.len() > MAILBOX_NAME_OCTETS_MAX {
                return Err(ChangeError::Limit("octets of a mailbox name"));
            }
            state.begin(&mut group, account, self.now());
            put_catalog(&mut group, account, &Catalog::Subscribe { on, name });
        }
        Ok(self.commit(turn, group).await?)
    }

    /// Changes flags and keywords of those of `uids` (which rise) that are there, and that did not
    /// change after `unless`.
    pub async fn store(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange<'_>,
        unless: Option<ModSeq>,
    ) -> Result<Stored, ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        let mut stored = Stored::default();
        {
            let mut state = self.accounts.borrow_mut();
            let view = state.open_view(account, mailbox).ok_or(ChangeError::Missing)?;
            let mut change = change.clone();
            if change.mode == Mode::Remove {
                // What is not known here cannot be taken away, and need not fit into a record.
                let is_known = |name: &str| view.keywords().is_some_and(|k| k.bit(name) != 0);
                change.keywords.retain(|name| is_known(name));
            }
            let change = &change;
            check_keywords(&view, &change.keywords)?;
            let mut ranges: Vec<(Uid, Uid)> = Vec::new();
            let mut last_index = None;
            for &uid in uids {
                let Some((index, entry)) = view.find(uid) else { continue };
                if unless.is_some_and(|unless| entry.modseq > unless) {
                    stored.modified.push(uid);
                    continue;
                }
                if !changes(&view, &entry, change) {
                    continue;
                }
                // Neighbours in the mailbox are one range, whatever UIDs are between them.
                match ranges.last_mut() {
                    Some(range) if last_index == index.checked_sub(1) => range.1 = uid,
                    _ => ranges.push((uid, uid)),
                }
                last_index = Some(index);
            }
            if ranges.len() > EXPUNGE_MESSAGES_MAX {
                return Err(ChangeError::Limit("ranges changed at once"));
            }
            if !ranges.is_empty() {
                state.begin(&mut group, account, self.now());
                let modseq = state.assign_modseq(account).expect("a mailbox was found");
                put_flags(&mut group, account, mailbox, modseq, change, &ranges);
                stored.modseq = Some(modseq);
            }
        }
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(stored)
    }

    /// Copies what was picked.
    pub async fn copy(
        &self,
        account: AccountId,
        from: MailboxId,
        to: MailboxId,
        picked: Picked<'_>,
        quota: Quota,
    ) -> Result<Placed, ChangeError> {
        let turn = self.turn(account).await?;
        let (group, placed) = self.transfer(account, (from, to), picked, Some(quota))?;
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(placed)
    }

    /// Moves what was picked (RFC 6851).
    pub async fn shift(
        &self,
        account: AccountId,
        from: MailboxId,
        to: MailboxId,
        picked: Picked<'_>,
    ) -> Result<Placed, ChangeError> {
        let turn = self.turn(account).await?;
        let (group, placed) = self.transfer(account, (from, to), picked, None)?;
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(placed)
    }

    /// The records of a copy, or of a move where there is no quota to keep. Keywords that find no
    /// place in the target stay behind: mail must come into a full Trash.
    fn transfer(
        &self,
        account: AccountId,
        way: (MailboxId, MailboxId),
        picked: Picked<'_>,
        quota: Option<Quota>,
    ) -> Result<(Group, Placed), ChangeError> {
        let mut state = self.accounts.borrow_mut();
        state.open_view(account, way.0).ok_or(ChangeError::Missing)?;
        let to = state.open_view(account, way.1).ok_or(ChangeError::Missing)?;
        let (Picked::All(uids) | Picked::There(uids)) = picked;
        let entries = there(&state, account, way.0, uids)?;
        if matches!(picked, Picked::All(_)) && entries.len() < uids.len() {
            return Err(ChangeError::Gone);
        }
        if let Some(quota) = quota {
            let octets = entries.iter().map(|entry| u64::from(entry.size)).sum();
            state.room_for(account, quota, octets, entries.len() as u64)?;
        }
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            items.push(item((state.assign_uid(account, way.1)?, entry)));
        }
        let mut group = Group::new();
        if !items.is_empty() {
            let when = state.begin(&mut group, account, self.now()).when;
            let modseq = state.assign_modseq(account).expect("a mailbox was found");
            let kind = if quota.is_some() { COPY } else { MOVE };
            put_transfer(&mut group, kind, account, way, (modseq, when), &items);
        }
        let uids = items.iter().map(|&(uid, new, _)| (uid, new)).collect();
        Ok((group, Placed { uidvalidity: to.uidvalidity(), uids }))
    }

    /// Puts messages into a mailbox, all of them or none (RFC 3502 §6.3.11). Keywords that find no
    /// place are left out. The `Placed` has the
    /// place of each in the list, from 1, for where it came from.
    pub async fn append(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        messages: Vec<Brought<'_>>,
        quota: Quota,
    ) -> Result<Placed, ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        let placed = {
            let mut state = self.accounts.borrow_mut();
            let view = state.open_view(account, mailbox).ok_or(ChangeError::Missing)?;
            let octets = messages.iter().map(|one| u64::from(one.message.size())).sum();
            state.room_for(account, quota, octets, messages.len() as u64)?;
            let mut names: Vec<&str> = Vec::new();
            for &name in messages.iter().flat_map(|one| &one.keywords) {
                if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    names.push(name);
                }
            }
            check_keyword_lens(&names)?;
            if !names.is_empty() {
                state.begin(&mut group, account, self.now());
            }
            let mut uids = Vec::with_capacity(messages.len());
            for (at, brought) in (1..).zip(messages) {
                let uid = self.put_brought(&mut state, &mut group, account, mailbox, brought)?;
                uids.push((Uid(at), uid));
            }
            Placed { uidvalidity: view.uidvalidity(), uids }
        };
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(placed)
    }

    fn put_brought(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        account: AccountId,
        mailbox: MailboxId,
        brought: Brought<'_>,
    ) -> Result<Uid, ChangeError> {
        let Brought { message, flags, keywords } = brought;
        let uid = state.assign_uid(account, mailbox)?;
        let modseq = state.assign_modseq(account).expect("a mailbox was found");
        let blob = self.log.reserve_blob();
        let entry = Entry {
            uid,
            modseq,
            internal_date: message.internal_date,
            save_date: self.now(),
            size: message.size(),
            thread: 0,
            blob,
            keywords: 0,
            flags,
            marks: message.marks,
        };
        put_deliver(group, account, &Deliver { mailbox, entry });
        if !keywords.is_empty() {
            let modseq = state.assign_modseq(account).expect("a mailbox was found");
            let change = FlagChange { mode: Mode::Add, flags, keywords };
            put_flags(group, account, mailbox, modseq, &change, &[(uid, uid)]);
        }
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: blob, summary, parts });
        Ok(uid)
    }

    /// Removes those of `uids` that are there, as one change. Says how many went.
    pub async fn expunge(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[Uid],
    ) -> Result<usize, ChangeError> {
        let turn = self.turn(account).await?;
        let removed = expunge(&self.log, &self.accounts, account, mailbox, uids);
        let (promise, promised) = promise();
        self.log.env().spawn(async move {
            let outcome = removed.await;
            drop(turn);
            promise.keep(outcome);
        });
        Ok(promised.await?)
    }
}

pub(super) fn subscribe_to(group: &mut Group, account: AccountId, name: &str) {
    put_catalog(group, account, &Catalog::Subscribe { on: true, name });
}

fn item((new, entry): (Uid, Entry)) -> Item {
    (entry.uid, new, entry.blob)
}

/// Those of `uids` that are there and not about to go.
fn there(
    state: &Accounts,
    account: AccountId,
    mailbox: MailboxId,
    uids: &[Uid],
) -> Result<Vec<Entry>, ChangeError> {
    let view = state.view(account, mailbox);
    let entries = uids.iter().filter(|&&uid| !state.leaves(account, mailbox, uid));
    let entries: Vec<Entry> =
        entries.filter_map(|&uid| view.find(uid)).map(|(_, entry)| entry).collect();
    if entries.len() > EXPUNGE_MESSAGES_MAX {
        return Err(ChangeError::Limit("messages taken at once"));
    }
    Ok(entries)
}

/// Whether a change would make any difference to a message.
/// Whether a record can hold the names and the mailbox can learn those that are new to it: a
/// record that cannot be read would end the log.
fn check_keyword_lens(names: &[&str]) -> Result<(), ChangeError> {
    if names.iter().any(|name| name.is_empty() || name.len() > KEYWORD_OCTETS_MAX) {
        return Err(ChangeError::Limit("octets of a keyword"));
    }
    Ok(())
}

fn check_keywords(view: &View, names: &[&str]) -> Result<(), ChangeError> {
    check_keyword_lens(names)?;
    let has_room = names.is_empty() || view.has_room_for(names);
    if has_room { Ok(()) } else { Err(ChangeError::Limit("keywords of a mailbox")) }
}

fn changes(view: &View, entry: &Entry, change: &FlagChange<'_>) -> bool {
    let Some(keywords) = view.keywords() else {
        let (flags, _) = change.outcome(entry.flags, 0, 0);
        let names_any = change.mode != Mode::Remove && !change.keywords.is_empty();
        return flags != entry.flags || names_any;
    };
    let bits = change.keywords.iter().map(|name| keywords.bit(name));
    let learns = change.mode != Mode::Remove && bits.clone().any(|bit| bit == 0);
    let named = bits.fold(0, |mask, bit| mask | bit);
    let mask = keywords.mask(entry.keywords);
    learns || change.outcome(entry.flags, mask, named) != (entry.flags, mask)
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
