//! Going back: a mailbox tree as it stood at a second comes back, in place or beside.
//!
//! ```text
//!   past ─┬─ beside ─> NAME, NAME/INBOX, NAME/…          a mailbox for each, then its messages
//!         └─ in place ─> a mailbox for each that is otherwise now, then its messages
//!                     ─> one group: SWAP, RENAME, MAILBOX_DELETE, … makes it so
//! ```
//!
//! Messages come back with the UIDs that they had, so each mailbox that holds others than then gets a
//! new UIDVALIDITY: under the old one clients were told that some of these UIDs are gone for good. What
//! is as it was then is left alone. A UID means the same message under both, since UIDNEXT of a mailbox
//! never gets lower: a session that acts on what it saw before hits nothing else.
//!
//! What was there goes into the history, so that going back can be gone back on: at the end of the second
//! before the last group. So that is made in a second in which nothing else was, and of all that was
//! there, mail that was promised a moment ago included, some second tells. The turn of the account lasts
//! from the first look to the last record; only deliveries come between.

use super::account::{Account, INBOX};
use super::accounts::Accounts;
use super::desk::{ChangeError, Desk, SEPARATOR};
use super::folder::Folder;
use super::history::past::{Content, Past, PastFolder, past};
use super::moved::UidlRun;
use super::promise::promise;
use super::quota::Refused;
use super::record::catalog::{Catalog, Use, put_catalog};
use super::record::flags::{FlagChange, Mode, put_flags};
use super::record::history::{Swap, put_swap};
use super::record::origin::{UidlsRecord, put_uidls};
use super::record::{Deliver, put_deliver};
use super::row::{Entry, Flags};
use super::turn::Turn;
use crate::env::Env;
use crate::model::id::{AccountId, MailboxId, Uid};
use crate::model::limits::{MAILBOX_NAME_OCTETS_MAX, MAILBOXES_MAX, MOVING_BATCH_MESSAGES_MAX};
use crate::store::Group;
use crate::wire::uidl::{is_for_many, is_form, literal, put};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// Seconds that are waited for one in which no mail came before; the turn of the account is held meanwhile.
const SECONDS_MAX: u32 = 20;
/// Of a second.
const MICROS: u64 = 1_000_000;

/// What is to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// All that was so at the end of this second, since 1970.
    pub at: u32,
    /// The name above all that comes back; `None`: in place.
    pub beside: Option<String>,
    /// Nothing is to be done.
    pub dry_run: bool,
}

/// What came back, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undeleted {
    /// Mailboxes in the order of their names.
    pub mailboxes: Vec<Row>,
    /// Names that go, in place: nothing had them then.
    pub removed: Vec<String>,
}

/// A mailbox that comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// As it is called now.
    pub name: String,
    /// Messages that it has now.
    pub messages: u64,
    /// It was as it is, and nothing happened to it.
    pub unchanged: bool,
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndeleteError {
    /// The history goes back to this second only; `None`: there is none yet.
    NotKnown(Option<u32>),
    /// It is not over yet.
    Future,
    Change(ChangeError),
}

impl From<ChangeError> for UndeleteError {
    fn from(error: ChangeError) -> UndeleteError {
        UndeleteError::Change(error)
    }
}

/// Whose turn it is, while this goes on.
struct Going {
    turn: Rc<Turn>,
    account: AccountId,
}

/// Keeps account of the mail that comes in while an account goes back in place.
struct Settling<'a> {
    accounts: &'a RefCell<Accounts>,
    account: AccountId,
}

impl<'a> Settling<'a> {
    /// Of what was done before `now` it is not known in which second it was. Mail may be of a later one,
    /// by a clock that was set back.
    fn begin(accounts: &'a RefCell<Accounts>, account: AccountId, now: u32) -> Settling<'a> {
        let last = {
            let accounts = accounts.borrow();
            let folders = accounts.account(account).map_or(&[][..], Account::folders);
            let saved = folders.iter().flat_map(Folder::entries).map(|entry| entry.save_date);
            saved.max().map_or(now, |last| last.max(now))
        };
        accounts.borrow_mut().settling.insert(account, last);
        Settling { accounts, account }
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.accounts.borrow_mut().settling.remove(&self.account);
    }
}

/// What becomes of a mailbox of then.
struct Plan {
    folder: PastFolder,
    /// The mailbox that it is now, if there is one.
    now: Option<MailboxId>,
    /// It holds something else now, or is to be had twice.
    is_to_make: bool,
    /// Where it is made anew.
    made: Option<MailboxId>,
    messages: u64,
}

impl<E: Env> Desk<E> {
    /// Brings an account, or a copy of it, back to how it was.
    pub async fn undelete(
        &self,
        account: AccountId,
        wanted: &Wanted,
    ) -> Result<Undeleted, UndeleteError> {
        if wanted.beside.is_none() && !wanted.dry_run {
            let count = self.accounts.borrow().account(account).map_or(0, Account::named_count);
            self.make_room_for_removed(account, count).await?;
        }
        let going = Going { turn: Rc::new(self.turn(account).await?), account };
        let (mut plans, subscriptions) = self.plan(account, wanted)?;
        plans.sort_by(|a, b| a.folder.name.cmp(&b.folder.name));
        let told = self.told(account, &plans, wanted);
        check_names(&self.accounts.borrow(), account, &told, &plans, wanted)?;
        if wanted.dry_run {
            return Ok(told);
        }
        let in_place = wanted.beside.is_none();
        let _settling = in_place.then(|| Settling::begin(&self.accounts, account, self.now()));
        let made = self.bring(&going, &mut plans, wanted).await;
        let done = match (made, &wanted.beside) {
            (Ok(()), Some(_)) => Ok(()),
            (Ok(()), None) => self.settle_in(&going, &plans, &subscriptions).await,
            (Err(error), _) => Err(error),
        };
        if let Err(error) = done {
            // Half of it is of no use to anybody.
            let above = wanted.beside.as_ref();
            let above = above.and_then(|above| self.accounts.borrow().named(account, above));
            let made: Vec<MailboxId> =
                plans.iter().filter_map(|plan| plan.made).chain(above).collect();
            drop(self.take_back(&going, &made).await);
            return Err(error.into());
        }
        Ok(told)
    }

    /// What is to be done with each mailbox, and who was subscribed to.
    fn plan(
        &self,
        account: AccountId,
        wanted: &Wanted,
    ) -> Result<(Vec<Plan>, BTreeSet<Box<str>>), UndeleteError> {
        let (state, now) = (self.accounts.borrow(), self.now());
        if wanted.at > now {
            return Err(UndeleteError::Future);
        }
        let known_from = state.known_from(account, now);
        let is_known = known_from.is_some_and(|from| from <= wanted.at);
        let known = state.account(account).filter(|_| is_known);
        let known = known.ok_or(UndeleteError::NotKnown(known_from))?;
        let Past { folders, subscriptions } = past(known, wanted.at);
        let plans = folders.into_iter().map(|folder| {
            let now = known.folder(folder.id).filter(|now| !now.removed);
            let is_same = now.is_some_and(|now| folder.content.is_that_of(now));
            let messages = folder.content.entries().count() as u64;
            let is_to_make = !is_same || wanted.beside.is_some();
            Plan { now: now.map(|now| now.id), is_to_make, made: None, messages, folder }
        });
        Ok((plans.collect(), subscriptions))
    }

    fn told(&self, account: AccountId, plans: &[Plan], wanted: &Wanted) -> Undeleted {
        let mailboxes = plans.iter().map(|plan| {
            let unchanged = !plan.is_to_make && !self.is_otherwise(account, plan);
            let name = name_of(&plan.folder, wanted);
            Row { name, messages: plan.messages, unchanged }
        });
        let mailboxes = mailboxes.collect();
        let mut removed = Vec::new();
        if wanted.beside.is_none() {
            self.accounts.borrow().each_mailbox(account, |one| {
                if !plans.iter().any(|plan| plan.now == Some(one.id)) {
                    removed.push(one.name.to_owned());
                }
            });
            // Another mailbox may have the name.
            removed.retain(|name| !plans.iter().any(|plan| *plan.folder.name == **name));
            removed.sort();
        }
        Undeleted { mailboxes, removed }
    }

    /// Whether a mailbox has another name or use now.
    fn is_otherwise(&self, account: AccountId, plan: &Plan) -> bool {
        let state = self.accounts.borrow();
        let known = state.account(account);
        let now = plan.now.and_then(|id| known.and_then(|known| known.folder(id)));
        now.is_none_or(|now| now.name != plan.folder.name || now.uses != plan.folder.uses)
    }

    /// One group of many: the turn lasts until it is applied, whether or not anybody waits for that.
    async fn put(&self, going: &Going, group: Group) -> Result<(), ChangeError> {
        if self.accounts.borrow().is_closed(going.account) {
            return Err(Refused::Closed.into());
        }
        let appended = self.log.append(group);
        let (promise, promised) = promise();
        let turn = Rc::clone(&going.turn);
        self.log.env().spawn(async move {
            let outcome = appended.await;
            drop(turn);
            promise.keep(outcome.map(|_| ()));
        });
        Ok(promised.await?)
    }

    /// Makes the mailboxes that are to be made, with all that they held.
    async fn bring(
        &self,
        going: &Going,
        plans: &mut [Plan],
        wanted: &Wanted,
    ) -> Result<(), ChangeError> {
        if let Some(above) = &wanted.beside {
            self.make_empty(going, above).await?;
        }
        for plan in plans.iter_mut().filter(|plan| plan.is_to_make) {
            let folder = &plan.folder;
            let name = match wanted.beside {
                Some(_) => name_of(folder, wanted),
                None => self.name_meanwhile(going.account, folder.id),
            };
            let made = self.make_empty(going, &name).await?;
            plan.made = Some(made);
            let keeps_ids = folder.id == INBOX && wanted.beside.is_none();
            self.fill(going, made, &folder.content, keeps_ids).await?;
        }
        Ok(())
    }

    /// A name that no mailbox has, until it takes the place of another one.
    fn name_meanwhile(&self, account: AccountId, id: MailboxId) -> String {
        let state = self.accounts.borrow();
        let mut name = format!("undelete-{}-{id}", self.now());
        while state.named(account, &name).is_some() {
            name.push('_');
        }
        name
    }

    async fn make_empty(&self, going: &Going, name: &str) -> Result<MailboxId, ChangeError> {
        let account = going.account;
        let mut group = Group::new();
        let made = {
            let mut state = self.accounts.borrow_mut();
            let known = state.account(account).ok_or(ChangeError::Missing)?;
            let mut last = (known.mailbox_last, known.uidvalidity_last);
            state.begin(&mut group, account, self.now());
            self.put_mailbox(&mut state, &mut group, account, name, &mut last);
            last.0
        };
        self.put(going, group).await?;
        Ok(made)
    }

    /// Puts messages into a mailbox that is empty, in steps.
    async fn fill(
        &self,
        going: &Going,
        mailbox: MailboxId,
        content: &Content,
        keeps_ids: bool,
    ) -> Result<(), ChangeError> {
        let account = going.account;
        let mut entries = content.entries().peekable();
        while entries.peek().is_some() {
            let some: Vec<Entry> = entries.by_ref().take(MOVING_BATCH_MESSAGES_MAX).collect();
            let mut group = Group::new();
            {
                let mut state = self.accounts.borrow_mut();
                state.begin(&mut group, account, self.now());
                if keeps_ids {
                    put_forms(&mut state, &mut group, (account, mailbox), content, &some);
                }
                put_entries(&mut state, &mut group, (account, mailbox), content, &some);
            }
            self.put(going, group).await?;
        }
        Ok(())
    }

    /// What was brought takes its place, and what nothing was of then goes: one group.
    async fn settle_in(
        &self,
        going: &Going,
        plans: &[Plan],
        subscriptions: &BTreeSet<Box<str>>,
    ) -> Result<(), ChangeError> {
        let account = going.account;
        self.next_second(account).await?;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            state.begin(&mut group, account, self.now());
            put_settling(&mut state, &mut group, account, plans)?;
            let now: BTreeSet<Box<str>> = state.subscriptions(account).into_iter().collect();
            for name in subscriptions.symmetric_difference(&now) {
                let on = subscriptions.contains(name);
                put_catalog(&mut group, account, &Catalog::Subscribe { on, name });
            }
        }
        self.put(going, group).await
    }

    /// Waits for a second in which nothing was done in the account yet.
    async fn next_second(&self, account: AccountId) -> Result<(), ChangeError> {
        let env = self.log.env();
        for _ in 0..SECONDS_MAX {
            let last = self.accounts.borrow().settling.get(&account).copied();
            let ahead = last.map_or(0, |last| (last + 1).saturating_sub(self.now()));
            if ahead == 0 {
                return Ok(());
            }
            if ahead > SECONDS_MAX {
                return Err(ChangeError::Limit("mail of later than now: the clock was set back"));
            }
            let left = MICROS - env.wall().0 % MICROS;
            env.sleep(Duration::from_micros(left)).await;
        }
        Err(ChangeError::Limit("mail that comes in at the same time"))
    }

    /// Takes away what was made.
    async fn take_back(&self, going: &Going, made: &[MailboxId]) -> Result<(), ChangeError> {
        let account = going.account;
        let mut group = Group::new();
        {
            let mut state = self.accounts.borrow_mut();
            state.begin(&mut group, account, self.now());
            for &mailbox in made {
                if state.open_view(account, mailbox).is_some() {
                    put_delete(&mut state, &mut group, account, mailbox);
                }
            }
        }
        self.put(going, group).await
    }
}

/// As a mailbox of then is called when it came back.
fn name_of(folder: &PastFolder, wanted: &Wanted) -> String {
    match &wanted.beside {
        Some(above) => format!("{above}{SEPARATOR}{}", folder.name),
        None => folder.name.to_string(),
    }
}

/// Whether the names can be had that are to be made.
fn check_names(
    state: &Accounts,
    account: AccountId,
    told: &Undeleted,
    plans: &[Plan],
    wanted: &Wanted,
) -> Result<(), ChangeError> {
    let known = state.account(account).ok_or(ChangeError::Missing)?;
    let made = plans.iter().filter(|plan| plan.is_to_make).count();
    if known.named_count() + made + usize::from(wanted.beside.is_some()) > MAILBOXES_MAX {
        return Err(ChangeError::Limit("mailboxes of an account"));
    }
    let Some(above) = &wanted.beside else { return Ok(()) };
    if above.is_empty() || told.mailboxes.iter().any(|row| row.name.len() > MAILBOX_NAME_OCTETS_MAX)
    {
        return Err(ChangeError::Limit("octets of a mailbox name"));
    }
    let is_taken = |name: &str| known.named(name).is_some();
    if is_taken(above) || told.mailboxes.iter().any(|row| is_taken(&row.name)) {
        return Err(ChangeError::Exists);
    }
    Ok(())
}

fn put_use(
    state: &mut Accounts,
    group: &mut Group,
    account: AccountId,
    mailbox: MailboxId,
    uses: Use,
) {
    let modseq = state.assign_modseq(account).expect("the account is there");
    put_catalog(group, account, &Catalog::Use { mailbox, modseq, uses });
}

fn put_delete(state: &mut Accounts, group: &mut Group, account: AccountId, mailbox: MailboxId) {
    let modseq = state.assign_modseq(account).expect("the account is there");
    put_catalog(group, account, &Catalog::Delete { mailbox, modseq });
}

fn put_rename(
    state: &mut Accounts,
    group: &mut Group,
    account: AccountId,
    mailbox: MailboxId,
    name: &str,
) {
    let modseq = state.assign_modseq(account).expect("the account is there");
    put_catalog(group, account, &Catalog::Rename { mailbox, modseq, name });
}

/// The records that put what was made into its place.
fn put_settling(
    state: &mut Accounts,
    group: &mut Group,
    account: AccountId,
    plans: &[Plan],
) -> Result<(), ChangeError> {
    let known = state.account(account).ok_or(ChangeError::Missing)?;
    let is_wanted = |id: MailboxId| plans.iter().any(|p| p.now == Some(id) || p.made == Some(id));
    let there = known.folders().iter().filter(|folder| !folder.removed);
    let (mut going, mut names, mut uses) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for folder in there {
        names.insert(folder.id, folder.name.clone());
        uses.insert(folder.id, folder.uses);
        if !is_wanted(folder.id) {
            going.push(folder.id);
        }
    }
    for id in going {
        put_delete(state, group, account, id);
    }
    let mut places: Vec<(MailboxId, &PastFolder)> = Vec::new();
    for plan in plans {
        match (plan.now, plan.made) {
            (Some(one), Some(other)) => {
                let modseq = state.assign_modseq(account).expect("the account is there");
                put_swap(group, account, Swap { one, other, modseq });
                put_delete(state, group, account, other);
                places.push((one, &plan.folder));
            }
            (Some(id), None) | (None, Some(id)) => places.push((id, &plan.folder)),
            (None, None) => {}
        }
    }
    // Two may have each other's names: first all get out of the way.
    let is_renamed = |(id, folder): &&(MailboxId, &PastFolder)| names.get(id) != Some(&folder.name);
    for (id, _) in places.iter().filter(is_renamed) {
        put_rename(state, group, account, *id, &format!("undelete-{id}-{}", u32::MAX));
    }
    for (id, folder) in places.iter().filter(is_renamed) {
        put_rename(state, group, account, *id, &folder.name);
    }
    for (id, folder) in &places {
        if uses.get(id) != Some(&folder.uses) {
            put_use(state, group, account, *id, folder.uses);
        }
    }
    Ok(())
}

/// Unique ids of POP3 stay what they were, though the UIDVALIDITY does not.
fn put_forms(
    state: &mut Accounts,
    group: &mut Group,
    (account, mailbox): (AccountId, MailboxId),
    content: &Content,
    entries: &[Entry],
) {
    let uidvalidity = content.uidvalidity().0;
    let mut runs: Vec<UidlRun> = Vec::new();
    for entry in entries {
        let form: Box<str> = match content.uidl(entry.uid) {
            Some(form) => {
                let mut id = String::new();
                put(form, entry.uid.0, uidvalidity, &mut id).expect("a string takes all text");
                literal(&id).into()
            }
            None => format!("{uidvalidity}.%u").into(),
        };
        if !is_form(&form) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.form == form && is_for_many(&form) => run.last = entry.uid,
            _ => runs.push(UidlRun { first: entry.uid, last: entry.uid, form }),
        }
    }
    if !runs.is_empty() {
        let modseq = state.assign_modseq(account).expect("the account is there");
        put_uidls(group, account, &UidlsRecord { mailbox, modseq, runs });
    }
}

/// The records of messages as they were. Their octets are in the log.
fn put_entries(
    state: &mut Accounts,
    group: &mut Group,
    (account, mailbox): (AccountId, MailboxId),
    content: &Content,
    entries: &[Entry],
) {
    let mut sets: BTreeMap<Vec<&str>, Vec<(Uid, Uid)>> = BTreeMap::new();
    for entry in entries {
        let modseq = state.assign_modseq(account).expect("the account is there");
        let entry = Entry { modseq, ..*entry };
        let plain = Entry { keywords: 0, ..entry };
        put_deliver(group, account, &Deliver { mailbox, entry: plain });
        let names: Vec<&str> = content.keywords(&entry).collect();
        if !names.is_empty() {
            sets.entry(names).or_default().push((entry.uid, entry.uid));
        }
    }
    for (keywords, ranges) in sets {
        let modseq = state.assign_modseq(account).expect("the account is there");
        let change = FlagChange { mode: Mode::Add, flags: Flags::default(), keywords };
        put_flags(group, account, mailbox, modseq, &change, &ranges);
    }
}
