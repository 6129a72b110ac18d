//! The owners of all logs, as the operator's requests reach them: shards that run, over the mesh, or
//! the logs of a stopped server, opened for the question.
//!
//! Here too is what finishes a deletion that a crash cut off. A user is deleted in the directory
//! first, in log 0, then the account with its mail, in the log of its owner: in between there are
//! accounts that no user has. At each start they are found and removed.

use super::interfaces::is_here;
use super::relay;
use super::shard::{Plan, State, open_state, publish_directory};
use crate::directory::Ledger;
use crate::env::Env;
use crate::mailbox;
use crate::mesh::{self, Full};
use crate::model::id::{AccountId, LogId, ShardId};
use crate::model::limits::{QUEUE_PART_MAX, QUEUE_PART_STOPPED_MAX};
use crate::mta::relay::Desk;
use crate::mta::route::Relay;
use crate::probe::event::{Level, event};
use crate::server::owner::{self, Question, Told};
use crate::server::shard::{Call, Settings, Shard};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// How often a shard is asked again whose inbox is full.
const ASK_ATTEMPTS_MAX: u32 = 500;
/// Wait before it is.
const ASK_PAUSE: Duration = Duration::from_millis(20);

/// Who can be asked about accounts and logs.
pub trait Owners {
    /// How many logs there are.
    fn logs(&self) -> u16;

    /// Asks the owner of a log; an error in words where it cannot be asked.
    fn ask(&self, owner: LogId, question: Question) -> impl Future<Output = Result<Told, String>>;

    /// Has the sessions of an account look whether they may go on.
    fn look(&self, owner: LogId, account: AccountId) -> impl Future<Output = Result<(), String>>;

    /// Comes back when every shard looks up in the directory as it stands.
    fn publish(&self) -> impl Future<Output = ()>;

    /// Entries of outgoing mail that one request may be about; then it goes on with the next one.
    fn part_max(&self) -> usize;

    /// What the operator set.
    fn settings(&self) -> Rc<Settings>;

    /// The route that the configuration has for a domain, where no shard runs that could be asked.
    fn route(&self, domain: &str) -> Option<String>;
}

/// The shards of a server that runs, seen from shard 0.
pub struct OfShards<E: Env> {
    pub shard: Rc<Shard<E>>,
    pub ledger: Ledger,
}

impl<E: Env> Owners for OfShards<E> {
    fn logs(&self) -> u16 {
        self.shard.mesh.shards()
    }

    async fn ask(&self, owner: LogId, question: Question) -> Result<Told, String> {
        let (reply, answer) = mesh::reply();
        let mut call = Call::Operator(question, reply);
        for _ in 0..ASK_ATTEMPTS_MAX {
            match self.shard.mesh.send(ShardId(owner.0), call) {
                Ok(()) => return answer.await.map_err(|_| format!("shard {owner} has ended")),
                Err(Full(back)) => call = back,
            }
            self.shard.env.sleep(ASK_PAUSE).await;
        }
        Err(format!("shard {owner} is busy"))
    }

    async fn look(&self, owner: LogId, account: AccountId) -> Result<(), String> {
        self.ask(owner, Question::Look(account)).await.map(|_| ())
    }

    async fn publish(&self) {
        publish_directory(&self.shard, &self.ledger).await;
    }

    fn part_max(&self) -> usize {
        QUEUE_PART_MAX
    }

    fn settings(&self) -> Rc<Settings> {
        self.shard.settings()
    }

    fn route(&self, _domain: &str) -> Option<String> {
        None
    }
}

/// The logs of a server that is stopped. Log 0 is open already; of the others the one that was asked
/// last stays open.
pub struct OfLogs<'a, E: Env> {
    pub env: E,
    pub plan: &'a Plan,
    pub state: &'a State<E>,
    other: RefCell<Option<(LogId, State<E>)>>,
}

impl<'a, E: Env> OfLogs<'a, E> {
    pub fn new(env: E, plan: &'a Plan, state: &'a State<E>) -> OfLogs<'a, E> {
        OfLogs { env, plan, state, other: RefCell::new(None) }
    }

    /// The state of another log than the first one.
    async fn open(&self, owner: LogId) -> Result<State<E>, String> {
        let told = |why: String| format!("log {owner}: {why}");
        if let Some((log, state)) = &*self.other.borrow()
            && *log == owner
        {
            return Ok(state.clone());
        }
        self.close().await?;
        let opened = open_state(self.env.clone(), self.plan, owner).await;
        let (state, _) = opened.map_err(|error| told(error.to_string()))?;
        *self.other.borrow_mut() = Some((owner, state.clone()));
        Ok(state)
    }

    /// Closes what is open beside log 0.
    pub async fn close(&self) -> Result<(), String> {
        let Some((owner, state)) = self.other.borrow_mut().take() else { return Ok(()) };
        state.log.close().await.map_err(|error| format!("log {owner}: {error}"))
    }
}

impl<E: Env> Owners for OfLogs<'_, E> {
    fn logs(&self) -> u16 {
        self.plan.shards
    }

    async fn ask(&self, owner: LogId, question: Question) -> Result<Told, String> {
        if owner == self.state.log.id() {
            return Ok(answer(self.state, question).await);
        }
        Ok(answer(&self.open(owner).await?, question).await)
    }

    /// There are no sessions.
    async fn look(&self, _: LogId, _: AccountId) -> Result<(), String> {
        Ok(())
    }

    async fn publish(&self) {}

    fn part_max(&self) -> usize {
        QUEUE_PART_STOPPED_MAX
    }

    fn settings(&self) -> Rc<Settings> {
        Rc::new(self.plan.sessions())
    }

    fn route(&self, domain: &str) -> Option<String> {
        let (number, relay) = (relay::routing(&self.plan.config, is_here).route)(domain)?;
        Some(match relay {
            Relay::Address(address) => format!("{number}, to {address}"),
            Relay::Host(host, port) => format!("{number}, to {host}:{port}"),
        })
    }
}

/// Out of a log that was opened alone.
async fn answer<E: Env>(state: &State<E>, question: Question) -> Told {
    let State { log, accounts, outgoing, .. } = state;
    let queue = Desk::alone(log.clone(), Rc::clone(outgoing));
    // Nobody else is at this log: a desk of its own sees every turn.
    let mailboxes = mailbox::Desk::new(log.clone(), Rc::clone(accounts));
    owner::answer(log.clone(), Rc::clone(accounts), mailboxes, queue, question).await
}

/// Removes an account whose user was deleted, from the log in which it lies.
pub(super) async fn remove(
    owners: &impl Owners,
    log: LogId,
    account: AccountId,
) -> Result<(), String> {
    match owners.ask(log, Question::Remove(account)).await? {
        Told::Failed(why) => Err(why),
        _ => Ok(()),
    }
}

/// Removes the accounts that no user has. An account with a number that the directory never gave is
/// left alone and told of: then it is the directory that is not as it was.
pub(super) async fn sweep(ledger: &Ledger, owners: &impl Owners) {
    for log in (0..owners.logs()).map(LogId) {
        let Ok(Told::Accounts(accounts)) = owners.ask(log, Question::Accounts).await else {
            event(Level::Warn, "accounts_not_swept", &[("log", log.0.into())]);
            continue;
        };
        for account in accounts.into_iter().filter(|&account| !ledger.has_account(account)) {
            if account > ledger.highest() {
                let fields = [("log", log.0.into()), ("account", account.0.into())];
                event(Level::Error, "account_unknown", &fields);
                continue;
            }
            let removed = remove(owners, log, account).await;
            let why = removed.err().unwrap_or_default();
            let fields = [
                ("log", log.0.into()),
                ("account", account.0.into()),
                ("why", why.as_str().into()),
            ];
            let (level, name) = if why.is_empty() {
                (Level::Info, "account_removed")
            } else {
                (Level::Error, "account_not_removed")
            };
            event(level, name, &fields);
        }
    }
}
