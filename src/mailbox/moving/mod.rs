//! Moving in and out: mail of another server comes into a mailbox, with its UIDs, flags and dates,
//! and a mailbox is handed out with all of them.
//!
//! ```text
//!   enter ─> UIDVALIDITY of the other mailbox, if this one is empty ─> ORIGIN
//!   deposit ─> UIDLS, DELIVER…, FLAGS of each set of keywords, ORIGIN ─> one group
//!   settle ─> UIDNEXT of the other mailbox ─> ORIGIN
//!   list, take ─> what is there, without octets and with them (`out`)
//!   rows, reflag, unbring ─> what changed there since (`mirror`) ─> FLAGS, EXPUNGE
//! ```
//!
//! An ORIGIN in the group of the messages says how far the other mailbox has moved in: who begins
//! again after he was cut off knows where to go on, to the message. A UID is kept if none above it
//! was given; no message is ever put between others.
//!
//! Quotas do not count: it is the operator who brings the mail.

pub mod ask;
mod mirror;
mod out;
mod sum;

use self::ask::{Ask, Deposit, Entered, Parcel, Reply, Wish};
use super::accounts::Accounts;
use super::deliver::Message;
use super::desk::{ChangeError, Desk, subscribe_to};
use super::moved::{Origin, UidlRun};
use super::record::catalog::{Catalog, Use, put_catalog};
use super::record::flags::{FlagChange, Mode, put_flags};
use super::record::origin::{OriginRecord, UidlsRecord, put_origin, put_uidls};
use super::record::{Deliver, put_deliver};
use super::row::{Entry, Flags, Marks};
use super::view::View;
use crate::env::Env;
use crate::model::id::{AccountId, MailboxId, Uid, UidValidity};
use crate::model::limits::{
    KEYWORD_OCTETS_MAX, MAILBOX_NAME_OCTETS_MAX, MAILBOXES_MAX, UIDS_KEPT_MAX,
};
use crate::store::{BlobDraft, Group};
use crate::wire::uidl::{OWN, is_for_many, is_form, literal, put};
use std::collections::BTreeMap;

/// All flags that a message can have.
const FLAGS_ALL: u8 = 31;

impl<E: Env> Desk<E> {
    /// Does what is asked; `brought` are the messages of a deposit. The octets follow on the reply.
    pub async fn moving(
        &self,
        account: AccountId,
        ask: Ask,
        brought: Vec<Message>,
    ) -> (Reply, Vec<u8>) {
        let done = match ask {
            Ask::Folders => Ok(self.folders(account)),
            Ask::Enter(wish) => self.enter(account, &wish).await.map(Reply::Entered),
            Ask::Deposit(deposit) => self.deposit(account, &deposit, brought).await,
            Ask::Settle { mailbox, uidnext } => {
                self.settle(account, MailboxId(mailbox), Uid(uidnext)).await.map(|()| Reply::Done)
            }
            Ask::List { mailbox, from } => {
                Ok(self.list(account, MailboxId(mailbox), Uid(from), |_| true))
            }
            Ask::Rows { mailbox, from } => {
                let is_moved = |entry: &Entry| entry.marks.has(Marks::MOVED_IN);
                Ok(self.list(account, MailboxId(mailbox), Uid(from), is_moved))
            }
            Ask::Reflag { mailbox, uids, flags, keywords } => {
                let change = (flags, keywords.as_slice());
                self.reflag(account, MailboxId(mailbox), &uids, change).await
            }
            Ask::Unbring { mailbox, uids } => {
                self.unbring(account, MailboxId(mailbox), &uids).await
            }
            Ask::Subscribe { name } => {
                self.subscribe(account, &name, true).await.map(|()| Reply::Done)
            }
            Ask::Digests { mailbox, from } => {
                return self.digests(account, MailboxId(mailbox), Uid(from)).await;
            }
            Ask::Take { mailbox, from } => {
                return self.take(account, MailboxId(mailbox), Uid(from)).await;
            }
            Ask::Sum { mailbox, from, of } => {
                Ok(self.sum(account, MailboxId(mailbox), Uid(from), of).await)
            }
        };
        (done.unwrap_or_else(|error| Reply::Failed(words(&error))), Vec::new())
    }

    /// Makes a mailbox ready.
    async fn enter(&self, account: AccountId, wish: &Wish) -> Result<Entered, ChangeError> {
        self.prepare(account, &[]).await?;
        self.make(account, wish).await?;
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        let entered = {
            let mut state = self.accounts.borrow_mut();
            let mailbox = state.named(account, &wish.name).ok_or(ChangeError::Missing)?;
            let folder = state.account(account).and_then(|known| known.folder(mailbox));
            let folder = folder.ok_or(ChangeError::Missing)?;
            let origin = folder.moved().map(|moved| moved.origin).unwrap_or_default();
            let is_untouched = folder.is_empty() && folder.assign == folder.uidnext;
            let may_adopt = is_untouched
                && origin.uidvalidity != wish.uidvalidity
                && (1..=UIDS_KEPT_MAX).contains(&wish.uidvalidity)
                && Uid(wish.first) >= folder.uidnext;
            let (messages, uidnext) = (folder.count, folder.uidnext);
            let keeps = may_adopt || folder.uidvalidity.0 == wish.uidvalidity;
            if may_adopt {
                let modseq = state.assign_modseq(account).expect("a mailbox was found");
                let uidvalidity = UidValidity(wish.uidvalidity);
                let origin = Origin { uidvalidity: wish.uidvalidity, next: 0 };
                let record = OriginRecord { mailbox, modseq, uidvalidity, uidnext, origin };
                put_origin(&mut group, account, &record);
            }
            Entered { mailbox: mailbox.0, keeps, origin, messages }
        };
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(entered)
    }

    /// Adds the record of a new mailbox. Those above it stay missing where they were.
    fn make_one(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        account: AccountId,
        name: &str,
    ) -> Result<MailboxId, ChangeError> {
        let known = state.account(account).ok_or(ChangeError::Missing)?;
        if name.is_empty() || name.len() > MAILBOX_NAME_OCTETS_MAX {
            return Err(ChangeError::Limit("octets of a mailbox name"));
        }
        if known.named_count() >= MAILBOXES_MAX {
            return Err(ChangeError::Limit("mailboxes of an account"));
        }
        let mut last = (known.mailbox_last, known.uidvalidity_last);
        self.put_mailbox(state, group, account, name, &mut last);
        Ok(last.0)
    }

    /// Makes the mailbox, if it is missing, says what it is for, and subscribes to it.
    async fn make(&self, account: AccountId, wish: &Wish) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            let (mut is_plain, mut is_taken) = (true, false);
            state.each_mailbox(account, |one| {
                is_taken |= one.uses.0 & wish.uses != 0;
                is_plain &= one.name != wish.name || one.uses == Use::default();
            });
            let is_marked = wish.uses != 0 && is_plain && !is_taken;
            let names = state.subscriptions(account);
            let is_new_name = wish.subscribe && !names.iter().any(|name| **name == *wish.name);
            let found = state.named(account, &wish.name);
            if found.is_none() || is_marked || is_new_name {
                state.begin(&mut group, account, self.now());
            }
            let mailbox = match found {
                Some(mailbox) => mailbox,
                None => self.make_one(&mut state, &mut group, account, &wish.name)?,
            };
            if is_marked {
                let modseq = state.assign_modseq(account).expect("the account is there");
                let change = Catalog::Use { mailbox, modseq, uses: Use(wish.uses) };
                put_catalog(&mut group, account, &change);
            }
            if is_new_name {
                subscribe_to(&mut group, account, &wish.name);
            }
        }
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(())
    }

    /// Puts messages into a mailbox, all of them or none.
    async fn deposit(
        &self,
        account: AccountId,
        deposit: &Deposit,
        brought: Vec<Message>,
    ) -> Result<Reply, ChangeError> {
        let turn = self.turn(account).await?;
        let mailbox = MailboxId(deposit.mailbox);
        let mut group = Group::new();
        let (mut renumbered, lost);
        {
            let mut state = self.accounts.borrow_mut();
            let view = state.open_view(account, mailbox).ok_or(ChangeError::Missing)?;
            let keeps = deposit.uidvalidity == view.uidvalidity().0;
            let (names, without) = names(&view, &deposit.keywords);
            lost = without;
            renumbered = 0;
            let mut uids = Vec::with_capacity(brought.len());
            for parcel in &deposit.messages {
                let want = Uid(parcel.uid).min(Uid(UIDS_KEPT_MAX));
                let want = if keeps { want } else { Uid(0) };
                let uid = state.assign_uid_or_next(account, mailbox, want)?;
                renumbered += u32::from(parcel.uid != 0 && uid.0 != parcel.uid);
                uids.push(uid);
            }
            let at = Place { account, mailbox };
            state.begin(&mut group, account, self.now());
            put_forms(&mut state, &mut group, at, deposit, (&uids, keeps));
            self.put_messages(&mut state, &mut group, at, deposit, &uids, brought);
            put_sets(&mut state, &mut group, at, &deposit.messages, &names, &uids);
            let origin = deposit.origin.zip(uids.last());
            if let Some((origin, last)) = origin {
                let modseq = state.assign_modseq(account).expect("a mailbox was found");
                let (uidvalidity, uidnext) = (view.uidvalidity(), Uid(last.0 + 1));
                let record = OriginRecord { mailbox, modseq, uidvalidity, uidnext, origin };
                put_origin(&mut group, account, &record);
            }
        }
        if !group.records.is_empty() {
            self.commit(turn, group).await?;
        }
        Ok(Reply::Taken { renumbered, lost })
    }

    fn put_messages(
        &self,
        state: &mut Accounts,
        group: &mut Group,
        at: Place,
        deposit: &Deposit,
        uids: &[Uid],
        brought: Vec<Message>,
    ) {
        let save_date = self.now();
        // What nothing is noted of came from no other server that it could follow.
        let moved = if deposit.origin.is_some() { Marks::MOVED_IN } else { Marks::default() };
        for ((parcel, &uid), message) in deposit.messages.iter().zip(uids).zip(brought) {
            let blob = self.log.reserve_blob();
            let entry = Entry {
                uid,
                modseq: state.assign_modseq(at.account).expect("a mailbox was found"),
                internal_date: message.internal_date,
                save_date,
                size: message.size(),
                thread: 0,
                blob,
                keywords: 0,
                flags: Flags(parcel.flags & FLAGS_ALL),
                marks: message.marks.with(moved),
            };
            put_deliver(group, at.account, &Deliver { mailbox: at.mailbox, entry });
            let Message { parts, summary, .. } = message;
            group.blobs.push(BlobDraft { id: blob, summary, parts });
        }
    }

    /// UIDs below `uidnext` are not given any more.
    async fn settle(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uidnext: Uid,
    ) -> Result<(), ChangeError> {
        let turn = self.turn(account).await?;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            let known = state.account(account).and_then(|known| known.folder(mailbox));
            let folder = known.filter(|folder| !folder.removed).ok_or(ChangeError::Missing)?;
            let uidvalidity = folder.uidvalidity;
            let Some(origin) = folder.moved().map(|moved| moved.origin) else { return Ok(()) };
            let is_kept = origin.uidvalidity == uidvalidity.0 && uidnext.0 <= UIDS_KEPT_MAX;
            if !is_kept || uidnext <= folder.assign {
                return Ok(());
            }
            // What is given from here on lies behind it.
            state.assign_uid_or_next(account, mailbox, Uid(uidnext.0 - 1))?;
            let modseq = state.assign_modseq(account).expect("a mailbox was found");
            let record = OriginRecord { mailbox, modseq, uidvalidity, uidnext, origin };
            put_origin(&mut group, account, &record);
        }
        Ok(self.commit(turn, group).await?)
    }
}

/// Whose mailbox.
#[derive(Clone, Copy)]
struct Place {
    account: AccountId,
    mailbox: MailboxId,
}

/// The names of keywords that the mailbox can have, in the places of the list, and those that it
/// cannot.
fn names<'a>(view: &View, wanted: &'a [String]) -> (Vec<Option<&'a str>>, Vec<String>) {
    let (mut taken, mut lost) = (Vec::new(), Vec::new());
    let mut names = Vec::with_capacity(wanted.len());
    for name in wanted {
        let is_known = |known: &&str| known.eq_ignore_ascii_case(name);
        let is_new = !taken.iter().any(is_known);
        if is_new {
            taken.push(name.as_str());
        }
        let fits = (1..=KEYWORD_OCTETS_MAX).contains(&name.len()) && view.has_room_for(&taken);
        if !fits {
            taken.pop();
            lost.push(name.clone());
        }
        names.push(fits.then_some(name.as_str()));
    }
    (names, lost)
}

/// Adds the record of the unique ids, where messages have some.
fn put_forms(
    state: &mut Accounts,
    group: &mut Group,
    at: Place,
    deposit: &Deposit,
    (uids, keeps): (&[Uid], bool),
) {
    let there = deposit.uidvalidity;
    let mut runs: Vec<UidlRun> = Vec::new();
    // A run goes over messages that lie side by side, and over none that has another form or none.
    let mut goes_on = false;
    for (parcel, &uid) in deposit.messages.iter().zip(uids) {
        let form = parcel.uidl.as_deref().or(deposit.uidl.as_deref());
        let is_same = keeps && parcel.uid == uid.0;
        let form = form.filter(|form| is_form(form) && !(is_same && *form == OWN));
        let Some(form) = form else {
            goes_on = false;
            continue;
        };
        let form = if is_same { form.into() } else { told(form, parcel.uid, there) };
        match runs.last_mut() {
            Some(run) if goes_on && run.form == form && is_for_many(&form) => run.last = uid,
            _ => runs.push(UidlRun { first: uid, last: uid, form }),
        }
        goes_on = true;
    }
    if !runs.is_empty() {
        let modseq = state.assign_modseq(at.account).expect("a mailbox was found");
        put_uidls(group, at.account, &UidlsRecord { mailbox: at.mailbox, modseq, runs });
    }
}

/// The id that a form made of other numbers than those here, as it stands.
fn told(form: &str, uid: u32, uidvalidity: u32) -> Box<str> {
    let mut id = String::new();
    put(form, uid, uidvalidity, &mut id).expect("a string takes all text");
    literal(&id).into()
}

/// Adds a record for each set of keywords that messages have.
fn put_sets(
    state: &mut Accounts,
    group: &mut Group,
    at: Place,
    parcels: &[Parcel],
    names: &[Option<&str>],
    uids: &[Uid],
) {
    let mut sets: BTreeMap<Vec<&str>, Vec<(Uid, Uid)>> = BTreeMap::new();
    for (parcel, &uid) in parcels.iter().zip(uids) {
        let named = parcel.keywords.iter().filter_map(|&at| *names.get(usize::from(at))?);
        let mut set: Vec<&str> = named.collect();
        set.sort_unstable();
        set.dedup();
        if !set.is_empty() {
            sets.entry(set).or_default().push((uid, uid));
        }
    }
    for (keywords, ranges) in sets {
        let modseq = state.assign_modseq(at.account).expect("a mailbox was found");
        let change = FlagChange { mode: Mode::Add, flags: Flags::default(), keywords };
        put_flags(group, at.account, at.mailbox, modseq, &change, &ranges);
    }
}

fn words(error: &ChangeError) -> String {
    match error {
        ChangeError::Missing => "there is no such mailbox".into(),
        ChangeError::Limit(what) => format!("more than there may be: {what}"),
        ChangeError::Refused(refused) => format!("the account takes nothing: {refused:?}"),
        ChangeError::Append(error) => error.to_string(),
        ChangeError::Exists
        | ChangeError::IsInbox
        | ChangeError::BelowItself
        | ChangeError::Gone => "the mailbox cannot be made".into(),
    }
}

#[cfg(test)]
mod tests;
