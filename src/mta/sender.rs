//! The sender: brings what the spool holds to the owners, again and again until they answer.
//!
//! Each owner has a lane. A lane sends a few messages at once, waits longer from attempt to
//! attempt while its owner does not answer, and does not hold up the other lanes. When all owners
//! of a message have answered, it leaves the spool; then the owners are told, with the next
//! message or when the lane is idle, that they may forget its key.

use super::message::Outcome;
use super::peers::{Answer, Key, Peers, Request};
use crate::bytes::hash::Map;
use crate::env::Env;
use crate::mailbox::{Marks, Message, Quota, Recipient};
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{
    SPOOL_PAUSE_MAX, SPOOL_PAUSE_MIN, SPOOL_SEND_OCTETS_MAX, SPOOL_SENDS_MAX,
};
use crate::model::reply::Class;
use crate::probe::event::{Level, event};
use crate::queue::record::put_done;
use crate::queue::{Pending, Spool, SpoolId};
use crate::store::{Group, Log};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// What the sender does and did, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages in the spool.
    pub pending: usize,
    /// Messages that one owner took.
    pub handed_over: u64,
    /// Attempts that have to be made again.
    pub attempts_failed: u64,
    /// Recipients whose account was deleted after the promise.
    pub undeliverable: u64,
    /// Messages that cannot be read from the log: they stay in the spool and are not tried again
    /// before a restart. An operator's matter.
    pub unreadable: u64,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<SpoolId>,
    running: usize,
    /// Gone from the spool; the owner was not told yet.
    settled: Vec<SpoolId>,
    /// The owner is being told what it may forget.
    telling: bool,
}

#[derive(Default)]
struct Lanes {
    by_owner: BTreeMap<LogId, Lane>,
    /// Owners that have not answered yet, for each message.
    left: BTreeMap<SpoolId, usize>,
    /// Octets of messages on their way.
    octets: u64,
}

struct Shared<E: Env, P: Peers> {
    log: Log<E>,
    spool: Rc<RefCell<Spool>>,
    peers: Rc<P>,
    lanes: RefCell<Lanes>,
    /// Octets on their way to each account of another log, whose owner cannot know of them.
    coming: RefCell<Map<AccountId, u64>>,
    figures: Cell<Figures>,
}

/// Sends what is in the spool of one log; clones are the same.
pub(super) struct Sender<E: Env, P: Peers> {
    shared: Rc<Shared<E, P>>,
}

impl<E: Env, P: Peers> Clone for Sender<E, P> {
    fn clone(&self) -> Self {
        Sender { shared: Rc::clone(&self.shared) }
    }
}

/// A message that is on its way to accounts of other logs. Dropped where it does not go.
pub(super) struct Coming<E: Env, P: Peers> {
    sender: Sender<E, P>,
    accounts: Vec<AccountId>,
    size: u32,
}

impl<E: Env, P: Peers> Coming<E, P> {
    /// It goes to these accounts only.
    pub(super) fn retain(&mut self, goes: impl Fn(AccountId) -> bool) {
        let Coming { sender, accounts, size } = self;
        accounts.retain(|&account| {
            let stays = goes(account);
            if !stays {
                sender.came(account, *size);
            }
            stays
        });
    }

    /// It is in the spool: the sender says when it came home.
    pub(super) fn hand_over(mut self) {
        self.accounts.clear();
    }
}

impl<E: Env, P: Peers> Drop for Coming<E, P> {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

/// How one attempt ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Done,
    Later,
    Unreadable,
}

impl<E: Env, P: Peers> Sender<E, P> {
    pub(super) fn new(log: Log<E>, spool: Rc<RefCell<Spool>>, peers: Rc<P>) -> Sender<E, P> {
        let (lanes, coming, figures) = (RefCell::default(), RefCell::default(), Cell::default());
        Sender { shared: Rc::new(Shared { log, spool, peers, lanes, coming, figures }) }
    }

    pub(super) fn peers(&self) -> &P {
        &self.shared.peers
    }

    pub(super) fn figures(&self) -> Figures {
        let pending = self.shared.spool.borrow().pending().len();
        Figures { pending, ..self.shared.figures.get() }
    }

    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let mut figures = self.shared.figures.get();
        change(&mut figures);
        self.shared.figures.set(figures);
    }

    /// Octets that are on their way to an account of another log.
    pub(super) fn coming(&self, account: AccountId) -> u64 {
        self.shared.coming.borrow().get(&account).copied().unwrap_or(0)
    }

    /// Counts a message as on its way to these accounts of other logs.
    pub(super) fn expect(&self, mut accounts: Vec<AccountId>, size: u32) -> Coming<E, P> {
        accounts.sort_unstable();
        accounts.dedup();
        for &account in &accounts {
            *self.shared.coming.borrow_mut().entry(account).or_default() += u64::from(size);
        }
        Coming { sender: self.clone(), accounts, size }
    }

    /// A message came home to an account, or never will.
    fn came(&self, account: AccountId, size: u32) {
        let mut coming = self.shared.coming.borrow_mut();
        let octets = coming.get_mut(&account).expect("counted since it was expected");
        *octets -= u64::from(size);
        if *octets == 0 {
            coming.remove(&account);
        }
    }

    /// Brings a message of the spool, which is expected, to its owners.
    pub(super) fn send(&self, spool: SpoolId) {
        let state = self.shared.spool.borrow();
        let Some(owners) = state.get(spool).map(Pending::owners) else { return };
        drop(state);
        let mut lanes = self.shared.lanes.borrow_mut();
        lanes.left.insert(spool, owners.len());
        for owner in owners {
            lanes.by_owner.entry(owner).or_default().waiting.push_back(spool);
        }
        drop(lanes);
        self.dispatch();
    }

    /// Sends everything, after telling the owners what they may forget.
    pub(super) fn resume(&self, others: &[LogId]) {
        let state = self.shared.spool.borrow();
        let next = state.next();
        let pending: Vec<SpoolId> = state.pending().map(|(spool, _)| spool).collect();
        drop(state);
        for &owner in others {
            let (this, pending) = (self.clone(), pending.clone());
            self.shared.log.env().spawn(async move {
                let source = this.shared.log.id();
                let mut pause = SPOOL_PAUSE_MIN;
                loop {
                    let pending = pending.clone();
                    let request = Request::Restarted { source, next, pending };
                    if this.peers().ask(owner, request).await == Ok(Answer::Done) {
                        return;
                    }
                    this.wait(&mut pause).await;
                }
            });
        }
        for spool in pending {
            let state = self.shared.spool.borrow();
            if let Some(Pending { recipients, size, .. }) = state.get(spool) {
                let accounts = recipients.iter().map(|&(_, account)| account).collect();
                self.expect(accounts, *size).hand_over();
            }
            drop(state);
            self.send(spool);
        }
    }

    /// Sleeps for `pause` and up to half as much again, so that not all come back at once.
    async fn wait(&self, pause: &mut Duration) {
        let env = self.shared.log.env();
        let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        env.sleep(*pause + Duration::from_micros(env.random() % half)).await;
        *pause = (*pause * 2).min(SPOOL_PAUSE_MAX);
    }

    /// Starts what may run now.
    fn dispatch(&self) {
        let mut begun = Vec::new();
        let mut lanes = self.shared.lanes.borrow_mut();
        let Lanes { by_owner, octets, .. } = &mut *lanes;
        let spool = self.shared.spool.borrow();
        for (&owner, lane) in by_owner {
            while lane.running < SPOOL_SENDS_MAX
                && let Some(&first) = lane.waiting.front()
            {
                let size = spool.get(first).map_or(0, |pending| u64::from(pending.size));
                if *octets > 0 && *octets + size > SPOOL_SEND_OCTETS_MAX {
                    break;
                }
                lane.waiting.pop_front();
                lane.running += 1;
                *octets += size;
                begun.push((owner, first, size));
            }
        }
        drop((lanes, spool));
        for (owner, spool, size) in begun {
            let this = self.clone();
            self.shared.log.env().spawn(async move { this.run(owner, spool, size).await });
        }
    }

    /// One message to one owner, until it was taken.
    async fn run(&self, owner: LogId, spool: SpoolId, size: u64) {
        let pending = self.shared.spool.borrow().get(spool).cloned();
        let mut pause = SPOOL_PAUSE_MIN;
        let mut attempt = self.attempt(owner, spool).await;
        while attempt == Attempt::Later {
            self.count(|figures| figures.attempts_failed += 1);
            self.wait(&mut pause).await;
            attempt = self.attempt(owner, spool).await;
        }
        if let Some(pending) = pending {
            pending.accounts(owner).into_iter().for_each(|to| self.came(to, pending.size));
        }
        let last = self.leave_lane(owner, spool, size, attempt);
        self.dispatch();
        if last {
            self.settle(spool).await;
        }
        self.tell_settled(owner).await;
    }

    /// Frees the place in the lane. Whether all owners have the message now.
    fn leave_lane(&self, owner: LogId, spool: SpoolId, size: u64, attempt: Attempt) -> bool {
        let mut lanes = self.shared.lanes.borrow_mut();
        lanes.octets -= size;
        lanes.by_owner.entry(owner).or_default().running -= 1;
        if attempt == Attempt::Unreadable {
            self.count(|figures| figures.unreadable += 1);
            return false;
        }
        self.count(|figures| figures.handed_over += 1);
        let left = lanes.left.get_mut(&spool).expect("counted since it was sent");
        *left -= 1;
        let last = *left == 0;
        if last {
            lanes.left.remove(&spool);
        }
        last
    }

    async fn attempt(&self, owner: LogId, spool: SpoolId) -> Attempt {
        let pending = self.shared.spool.borrow().get(spool).cloned();
        let Some(pending) = pending else { return Attempt::Done };
        let Ok(view) = self.shared.log.read(pending.blob).await else {
            return Attempt::Unreadable;
        };
        let (octets, range) = view.message();
        let message = Message {
            parts: vec![octets[range].to_vec()],
            summary: view.summary().to_vec(),
            marks: Marks(pending.marks),
            internal_date: pending.internal_date,
        };
        drop(view);
        let accounts = pending.accounts(owner);
        let recipients =
            accounts.iter().map(|&account| Recipient { account, quota: Quota::NONE }).collect();
        let key = Key { source: self.shared.log.id(), spool };
        let settled = self.take_settled(owner);
        let told = settled.clone();
        let request = Request::Relay { key, recipients, message, settled };
        let answer = self.peers().ask(owner, request).await;
        match answer {
            Ok(Answer::Outcomes(outcomes)) if outcomes.len() == accounts.len() => {
                self.judge(owner, spool, &outcomes)
            }
            _ => {
                self.put_settled(owner, told);
                Attempt::Later
            }
        }
    }

    /// What an owner's outcomes mean: those who have it are known to the owner by the key.
    fn judge(&self, owner: LogId, spool: SpoolId, outcomes: &[Outcome]) -> Attempt {
        let count = |class| outcomes.iter().filter(|outcome| outcome.class() == class).count();
        if count(Class::Transient) > 0 {
            return Attempt::Later;
        }
        let lost = count(Class::Permanent) as u64;
        self.count(|figures| figures.undeliverable += lost);
        if outcomes.contains(&Outcome::TOO_LARGE) {
            let (from, to) = (self.shared.log.id().0, owner.0);
            let why = "larger than a segment of the log that its recipients are in";
            let fields = [
                ("log", from.into()),
                ("spool", spool.0.into()),
                ("owner", to.into()),
                ("why", why.into()),
            ];
            event(Level::Error, "undeliverable", &fields);
        }
        Attempt::Done
    }

    /// Takes a message out of the spool: every owner has it.
    async fn settle(&self, spool: SpoolId) {
        let mut pause = SPOOL_PAUSE_MIN;
        loop {
            let pending = self.shared.spool.borrow().get(spool).cloned();
            let Some(pending) = pending else { return };
            let mut group = Group::new();
            put_done(&mut group, spool, pending.blob);
            if self.shared.log.append(group).await.is_ok() {
                for owner in pending.owners() {
                    self.put_settled(owner, vec![spool]);
                }
                for owner in pending.owners() {
                    self.tell_settled(owner).await;
                }
                return;
            }
            self.wait(&mut pause).await;
        }
    }

    fn take_settled(&self, owner: LogId) -> Vec<SpoolId> {
        let mut lanes = self.shared.lanes.borrow_mut();
        std::mem::take(&mut lanes.by_owner.entry(owner).or_default().settled)
    }

    fn put_settled(&self, owner: LogId, mut spools: Vec<SpoolId>) {
        let mut lanes = self.shared.lanes.borrow_mut();
        lanes.by_owner.entry(owner).or_default().settled.append(&mut spools);
    }

    /// What an idle lane has to tell its owner; nothing while somebody does.
    fn begin_telling(&self, owner: LogId) -> Option<Vec<SpoolId>> {
        let mut lanes = self.shared.lanes.borrow_mut();
        let lane = lanes.by_owner.get_mut(&owner)?;
        let is_idle = lane.running == 0 && lane.waiting.is_empty();
        if !is_idle || lane.telling || lane.settled.is_empty() {
            return None;
        }
        lane.telling = true;
        Some(std::mem::take(&mut lane.settled))
    }

    fn end_telling(&self, owner: LogId) {
        self.shared.lanes.borrow_mut().by_owner.entry(owner).or_default().telling = false;
    }

    /// Tells an owner what it may forget, until it has heard or a message is about to tell it.
    async fn tell_settled(&self, owner: LogId) {
        let mut pause = SPOOL_PAUSE_MIN;
        while let Some(spools) = self.begin_telling(owner) {
            let told = spools.clone();
            let request = Request::Settled { source: self.shared.log.id(), spools };
            let has_heard = self.peers().ask(owner, request).await == Ok(Answer::Done);
            self.end_telling(owner);
            if !has_heard {
                self.put_settled(owner, told);
                self.wait(&mut pause).await;
            }
        }
    }
}
