//! One account as a backup has it, to be asked for its mailboxes: the logs are opened where they lie in
//! the vault ([`Reading`]), and nothing is written.
//!
//! ```text
//!   log 0      the directory: which log the account lies in
//!   its log    its mailboxes
//!   others     mail for it that was promised (250) and had not come home at that moment: it shows as
//!              one more INBOX, without UIDs
//! ```
//!
//! Logs are opened one after the other; only those stay open that have mail for it.

use super::coming::{choose, counts, plans};
use super::reading::{Files, Reading};
use super::vault::Vault;
use crate::admin::calendar::rfc3339;
use crate::admin::request::moving::{Ask, Folder, Parcel, Reply};
use crate::admin::request::{Request, Response};
use crate::admin::socket::{Answer, Asked, Busy};
use crate::bytes::codec::to_u64;
use crate::bytes::hash::Sorted;
use crate::cli::{AsOf, AskKept, Failure, RestoreTask};
use crate::config::Config;
use crate::directory::Entry;
use crate::env::Env;
use crate::mailbox::Desk;
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use crate::model::time::Wall;
use crate::node::offline::{self, Forward};
use crate::node::placement::Placement;
use crate::node::shard::{Plan, State, open_state};
use crate::queue::Pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The number of the mailbox that promised mail shows in; the log gives it to none.
const PROMISED: u32 = u32::MAX;

/// Octets of messages that a log keeps in memory: each is read once.
const CACHE_OCTETS: usize = 4 << 20;

/// Opens the account that has this address in a backup, and has `work` ask for its mail.
pub(super) fn run(
    config: &Config,
    task: &RestoreTask,
    address: &str,
    work: &mut dyn FnMut(AskKept<'_>, &AsOf) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let vault = Vault::open(&task.dir)?;
    let found = vault.manifests()?;
    let chosen = choose(&found, task)?;
    let logs = plans(&vault, &chosen)?;
    let (store, counts) = (chosen.store()?, counts(&logs)?);
    // Where its logs are said to lie; there is no such directory.
    let place = Config { data_dir: vault.dir.join(chosen.backup.name()), ..config.clone() };
    let placement = Placement::in_one(&place.data_dir);
    let mut files = Files { vault: vault.dir.clone(), by_path: Sorted::default() };
    for coming in &logs {
        let dir = placement.log_dir(LogId(coming.own.base.log));
        let of_log = coming.files(&vault, &dir)?;
        files.by_path.extend(of_log.into_iter().map(|file| (file.path.clone(), Arc::new(file))));
    }
    let files = Arc::new(files);
    let as_of = AsOf {
        backup: chosen.backup.name(),
        time: rfc3339(Wall(chosen.time)),
        passed_over: found.broken.clone(),
    };
    let mut plan = offline::plan_of(&place, store, counts, placement);
    plan.store.cache_octets = CACHE_OCTETS;
    // Nothing is to be moved or written in what is read alone.
    plan.store.cleaning.is_on = false;
    plan.store.checkpoint_pause = Duration::from_hours(24 * 365);
    let address = address.to_owned();
    offline::with_shard(
        move |ring, mut inbox, open| {
            let env = Reading::new(ring, Arc::clone(&files));
            let (plan, address) = (plan.clone(), address.clone());
            async move {
                let account = Account::find(env, &plan, &address).await?;
                // Somebody waits for it.
                _ = open.try_send(true);
                while let Some(asked) = inbox.recv().await {
                    account.answer(asked).await;
                }
                account.close().await;
                Ok(())
            }
        },
        |forward| work(&|ask| hand_over(ask, forward), &as_of),
    )
}

fn hand_over(ask: Ask, forward: Forward<'_>) -> Result<(Reply, Vec<u8>), Failure> {
    // Whose mail it is the shard knows.
    let request = Request::Moving { address: String::new(), ask: Box::new(ask), octets: 0 };
    let (asked, answered) = Asked::new(request, Vec::new());
    let ended = || Failure::Failed("the shard that reads the backup has ended".into());
    forward(asked).map_err(|Busy| ended())?;
    let Answer { response, octets } = answered.recv().map_err(|_| ended())?;
    match response {
        Response::Moving { reply, .. } => Ok((*reply, octets)),
        _ => Err(ended()),
    }
}

/// An account, and the logs that have mail for it.
struct Account<E: Env> {
    id: AccountId,
    home: State<E>,
    /// What each of them has promised to bring it.
    promised: Vec<(Pending, State<E>)>,
    others: Vec<State<E>>,
}

impl<E: Env> Account<E> {
    async fn find(env: E, plan: &Plan, address: &str) -> Result<Account<E>, String> {
        let first = open(&env, plan, LogId(0)).await?;
        let (log, id) = match first.ledger.snapshot().find(address) {
            Some(Entry::User(user)) => (user.log, user.account),
            Some(Entry::Alias(_)) => {
                return Err(format!("{address} was an alias then: mail lies with its targets"));
            }
            None => return Err(format!("there was no user {address} then")),
        };
        let is_first = log == first.log.id();
        let home = if is_first { first.clone() } else { open(&env, plan, log).await? };
        let mut account = Account { id, home, promised: Vec::new(), others: Vec::new() };
        if !is_first {
            account.look_through(first).await;
        }
        for other in (1..plan.shards).map(LogId).filter(|&other| other != log) {
            account.look_through(open(&env, plan, other).await?).await;
        }
        Ok(account)
    }

    /// Keeps another log if it has promised mail to the account that had not come by then.
    async fn look_through(&mut self, other: State<E>) {
        let (home, source) = (self.home.log.id(), other.log.id());
        let before = self.promised.len();
        for (spool, pending) in other.spool.borrow().pending() {
            let is_for_it = pending.recipients.contains(&(home, self.id));
            if is_for_it && !self.home.spool.borrow().has(source, spool, self.id) {
                self.promised.push((pending.clone(), other.clone()));
            }
        }
        if self.promised.len() > before {
            self.others.push(other);
        } else {
            close(other).await;
        }
    }

    async fn answer(&self, asked: Asked) {
        let Asked { request, answer, .. } = asked;
        let Request::Moving { ask, .. } = request else { return };
        let desk = Desk::new(self.home.log.clone(), Rc::clone(&self.home.accounts));
        let (reply, octets) = match *ask {
            Ask::List { mailbox: PROMISED, from } => (self.list(from), Vec::new()),
            Ask::Take { mailbox: PROMISED, from } => self.take(from).await,
            ask @ Ask::Folders => {
                let (mut reply, octets) = desk.moving(self.id, ask, Vec::new()).await;
                if let Reply::Folders { folders, .. } = &mut reply {
                    folders.extend(self.folder());
                }
                (reply, octets)
            }
            ask @ (Ask::List { .. } | Ask::Take { .. }) => {
                desk.moving(self.id, ask, Vec::new()).await
            }
            _ => (Reply::Failed("a backup is only read".into()), Vec::new()),
        };
        let count = to_u64(octets.len());
        let response = Response::Moving { reply: Box::new(reply), octets: count };
        // Who asked may have given up.
        drop(answer.try_send(Answer { response, octets }));
    }

    /// The mailbox that promised mail shows in.
    fn folder(&self) -> Option<Folder> {
        let messages = u32::try_from(self.promised.len()).unwrap_or(u32::MAX);
        (messages > 0).then(|| Folder {
            mailbox: PROMISED,
            name: "INBOX".into(),
            uses: 0,
            uidvalidity: 0,
            uidnext: 0,
            messages,
        })
    }

    /// Promised messages from a number on, counted from 1.
    fn promised(&self, from: u32) -> impl Iterator<Item = (Parcel, &Pending, &State<E>)> {
        let numbered = (1..).zip(&self.promised).skip_while(move |(number, _)| *number < from);
        numbered.map(|(uid, (pending, state))| {
            let (octets, date) = (pending.size, pending.internal_date);
            (Parcel { octets, uid, date, ..Parcel::default() }, pending, state)
        })
    }

    fn list(&self, from: u32) -> Reply {
        let mut parcels = self.promised(from).map(|(parcel, ..)| parcel);
        let messages = parcels.by_ref().take(MOVING_BATCH_MESSAGES_MAX).collect();
        let next = parcels.next().map_or(0, |parcel| parcel.uid);
        Reply::Messages { keywords: Vec::new(), messages, next, unread: Vec::new() }
    }

    async fn take(&self, from: u32) -> (Reply, Vec<u8>) {
        let (mut messages, mut unread, mut next) = (Vec::new(), Vec::new(), 0);
        let mut octets = Vec::new();
        for (parcel, pending, state) in self.promised(from) {
            let is_full = to_u64(octets.len()) + u64::from(parcel.octets) > MOVING_BATCH_OCTETS_MAX;
            if messages.len() >= MOVING_BATCH_MESSAGES_MAX || is_full && !messages.is_empty() {
                next = parcel.uid;
                break;
            }
            match state.log.read(pending.blob).await {
                Ok(blob) => {
                    octets.extend_from_slice(blob.octets());
                    messages.push(parcel);
                }
                Err(error) => unread.push((parcel.uid, error.to_string())),
            }
        }
        (Reply::Messages { keywords: Vec::new(), messages, next, unread }, octets)
    }

    async fn close(self) {
        close(self.home).await;
        for other in self.others {
            close(other).await;
        }
    }
}

async fn open<E: Env>(env: &E, plan: &Plan, log: LogId) -> Result<State<E>, String> {
    let opened = open_state(env.clone(), plan, log).await;
    let told = |error| format!("log {log} of the backup: {error}");
    opened.map(|(state, _)| state).map_err(told)
}

/// Lets go of the memory that a log takes.
async fn close<E: Env>(state: State<E>) {
    // What it cannot write is of no use.
    drop(state.log.close().await);
}
