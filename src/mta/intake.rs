//! Intake: an accepted message becomes durable, in its owner's log or in this shard's spool.
//!
//! Illegal: to answer [`Outcome::Stored`] before the log did.

use super::message::{Envelope, Outcome, Rcpt, Rooms};
use super::peers::{Answer, Peers, Request, Unreachable};
use super::sender::{Coming, Figures, Sender};
use crate::bytes::hash::Sorted;
use crate::env::Env;
use crate::mailbox::deliver::{Planned, plan};
use crate::mailbox::promise::promise;
use crate::mailbox::{Accounts, Judge, Message, Quota, Recipient, Refused, deliver};
use crate::model::id::{AccountId, LogId};
use crate::model::limits::SPOOL_PENDING_MAX;
use crate::queue::record::put_add;
use crate::queue::{Pending, Spool, SpoolId};
use crate::store::{AppendError, BlobDraft, Group, Log};
use std::cell::RefCell;
use std::future::{Future, ready};
use std::pin::Pin;
use std::rc::Rc;

/// Outcomes that are on their way, in the order of the recipients.
pub type Accepting = Pin<Box<dyn Future<Output = Vec<Outcome>>>>;

struct Shared<E: Env, P: Peers> {
    log: Log<E>,
    accounts: Rc<RefCell<Accounts>>,
    spool: Rc<RefCell<Spool>>,
    sender: Sender<E, P>,
}

/// The mail side of one shard; clones are the same.
pub struct Intake<E: Env, P: Peers> {
    shared: Rc<Shared<E, P>>,
}

impl<E: Env, P: Peers> Clone for Intake<E, P> {
    fn clone(&self) -> Self {
        Intake { shared: Rc::clone(&self.shared) }
    }
}

impl<E: Env, P: Peers> Intake<E, P> {
    /// `accounts` and `spool` are machines of `log`.
    pub fn new(
        log: Log<E>,
        accounts: Rc<RefCell<Accounts>>,
        spool: Rc<RefCell<Spool>>,
        peers: Rc<P>,
    ) -> Intake<E, P> {
        let sender = Sender::new(log.clone(), Rc::clone(&spool), peers);
        Intake { shared: Rc::new(Shared { log, accounts, spool, sender }) }
    }

    pub fn log(&self) -> &Log<E> {
        &self.shared.log
    }

    pub fn accounts(&self) -> &Rc<RefCell<Accounts>> {
        &self.shared.accounts
    }

    pub(super) fn spool(&self) -> &Rc<RefCell<Spool>> {
        &self.shared.spool
    }

    pub(super) fn sender(&self) -> &Sender<E, P> {
        &self.shared.sender
    }

    /// What the sender does and did.
    pub fn figures(&self) -> Figures {
        self.sender().figures()
    }

    /// Goes on with what the spool held when the shard went down; `others` are all other logs.
    /// To be called once, after recovery, when the peers can be asked.
    pub fn resume(&self, others: &[LogId]) {
        self.sender().resume(others);
    }

    /// Makes a message durable for all of its recipients. It is on its way before this returns,
    /// unless it is for several logs and one of the others has to be asked for room: but for those,
    /// messages of one session come into a mailbox in the order of the calls.
    /// Dropping the future does not take the message back.
    pub fn accept(&self, envelope: &Envelope, message: Message) -> Accepting {
        let recipients = &envelope.recipients;
        let Some(first) = recipients.first().map(|to| to.log) else {
            return Box::pin(ready(Vec::new()));
        };
        if recipients.iter().any(|to| to.log != first) {
            return self.spread(envelope, message);
        }
        let here = recipients.iter().map(Rcpt::recipient).collect::<Vec<_>>();
        if first == self.log().id() {
            return self.deliver_here(&here, envelope.judge, message);
        }
        let count = recipients.len();
        let request = Request::Deliver { recipients: here, judge: envelope.judge, message };
        let asked = self.sender().peers().ask(first, request);
        Box::pin(async move {
            match asked.await {
                Ok(Answer::Outcomes(outcomes)) if outcomes.len() == count => outcomes,
                Ok(_) => vec![Outcome::BROKEN; count],
                Err(Unreachable::Full) => vec![Outcome::CROWDED; count],
                // It may be stored: a client that is told to come back would store it twice.
                Err(Unreachable::Lost) => vec![Outcome::Uncertain; count],
            }
        })
    }

    pub(super) fn deliver_here(
        &self,
        recipients: &[Recipient],
        judge: Judge,
        message: Message,
    ) -> Accepting {
        let count = recipients.len();
        let delivered = deliver(self.log(), self.accounts(), recipients, judge, message);
        Box::pin(async move {
            match delivered.await {
                Ok(verdicts) => verdicts.into_iter().map(Outcome::from).collect(),
                Err(error) => vec![Outcome::from(&error); count],
            }
        })
    }

    /// Whether the owners of other logs have to be asked if these have room.
    pub fn must_ask(&self, recipients: &[Rcpt]) -> bool {
        recipients.iter().any(|to| self.is_far(to))
    }

    /// Has a quota that another log's owner holds.
    fn is_far(&self, to: &Rcpt) -> bool {
        to.log != self.log().id() && to.quota != Quota::NONE
    }

    /// Whether a recipient would take `size` octets, as far as this shard can tell.
    pub fn room_here(&self, to: &Rcpt, size: u32) -> Result<(), Refused> {
        if to.log != self.log().id() {
            return Ok(());
        }
        self.accounts().borrow().room(to.account, to.quota, size)
    }

    /// Whether the recipients would take a message of `size` octets now. Owners of other logs are
    /// asked, all at once, about those who have a quota.
    pub fn room(&self, recipients: &[Rcpt], size: u32) -> Rooms {
        let mut rooms: Vec<_> = recipients.iter().map(|to| self.room_here(to, size)).collect();
        let mut far: Sorted<LogId, Vec<usize>> = Sorted::new();
        for (index, to) in recipients.iter().enumerate().filter(|(_, to)| self.is_far(to)) {
            far.entry(to.log).or_default().push(index);
        }
        let asked: Vec<_> = far
            .into_iter()
            .map(|(owner, places)| {
                let recipients = places.iter().map(|&place| {
                    let to = recipients[place].recipient();
                    (to, self.sender().coming(to.account))
                });
                let request = Request::Room { recipients: recipients.collect(), size };
                (self.sender().peers().ask(owner, request), places)
            })
            .collect();
        Box::pin(async move {
            for (answer, places) in asked {
                match answer.await {
                    Ok(Answer::Rooms(told)) if told.len() == places.len() => {
                        places.iter().zip(told).for_each(|(&place, room)| rooms[place] = room);
                    }
                    _ => places.iter().for_each(|&place| rooms[place] = Err(Refused::Unasked)),
                }
            }
            rooms
        })
    }

    /// A message for several logs. Their owners are asked for room, now that its size is known;
    /// then it is promised to all who get it. Where nobody has to be asked it is on its way into
    /// this log before this returns.
    fn spread(&self, envelope: &Envelope, message: Message) -> Accepting {
        let (recipients, judge) = (envelope.recipients.clone(), envelope.judge);
        let own = self.log().id();
        let far = recipients.iter().filter(|to| to.log != own).map(|to| to.account).collect();
        let expect = || self.sender().expect(far, message.size());
        if !self.must_ask(&recipients) {
            let rooms = vec![Ok(()); recipients.len()];
            return self.promise(recipients, rooms, judge, expect(), message);
        }
        let asked = self.room(&recipients, message.size());
        let coming = expect();
        let this = self.clone();
        let (promise, promised) = promise();
        // A task of its own: the message has to go whether or not anybody waits for the answer.
        self.log().env().spawn(async move {
            let rooms = asked.await;
            promise.keep(this.promise(recipients, rooms, judge, coming, message).await);
        });
        Box::pin(promised)
    }

    /// Promises a message to those who get it: `rooms` says who of the other logs has room.
    fn promise(
        &self,
        recipients: Vec<Rcpt>,
        mut rooms: Vec<Result<(), Refused>>,
        judge: Judge,
        mut coming: Coming<E, P>,
        message: Message,
    ) -> Accepting {
        let size = message.size();
        for (room, to) in rooms.iter_mut().zip(&recipients) {
            *room = room.and_then(|()| self.room_here(to, size));
        }
        judge.decide(&mut rooms, ());
        let outcomes: Vec<Outcome> = rooms.into_iter().map(Outcome::from).collect();
        let gets = outcomes.iter().zip(recipients).filter(|(outcome, _)| outcome.is_stored());
        let getting: Vec<Rcpt> = gets.map(|(_, to)| to).collect();
        let own = self.log().id();
        let mut going: Vec<AccountId> = getting.iter().map(|to| to.account).collect();
        going.sort_unstable();
        coming.retain(|account| going.binary_search(&account).is_ok());
        let stored = if getting.iter().all(|to| to.log == own) {
            // Nobody is left elsewhere; perhaps nobody at all.
            let here = getting.iter().map(Rcpt::recipient).collect::<Vec<_>>();
            self.deliver_here(&here, Judge::Judged, message)
        } else {
            self.promise_all(&getting, coming, message)
        };
        if getting.len() == outcomes.len() {
            return stored;
        }
        Box::pin(async move {
            let mut stored = stored.await.into_iter();
            let mut merge = |one: Outcome| {
                if one.is_stored() { stored.next().unwrap_or(Outcome::BROKEN) } else { one }
            };
            outcomes.into_iter().map(&mut merge).collect()
        })
    }

    /// A message for several logs: this one promises it, then hands out copies.
    fn promise_all(
        &self,
        recipients: &[Rcpt],
        coming: Coming<E, P>,
        message: Message,
    ) -> Accepting {
        let count = recipients.len();
        if self.spool().borrow().pending().len() >= SPOOL_PENDING_MAX {
            return Box::pin(ready(vec![Outcome::CROWDED; count]));
        }
        let (spool, group, planned, outcomes) = self.plan_spread(recipients, message);
        let appended = self.log().append(group);
        let this = self.clone();
        let (promise, promised) = promise();
        // A task of its own: the copies have to go whether or not anybody waits for the answer.
        self.log().env().spawn(async move {
            let result = appended.await;
            drop(planned);
            if result.is_ok() {
                coming.hand_over();
                this.sender().send(spool);
            }
            promise.keep(result);
        });
        Box::pin(async move {
            let result: Result<_, AppendError> = promised.await;
            match result {
                Ok(_) => outcomes,
                Err(error) => vec![Outcome::from(&error); count],
            }
        })
    }

    /// The promise, and the deliveries to accounts of this log in the same group: they share the
    /// blob. Who has room was asked before; what is promised to some is not refused to others.
    fn plan_spread(
        &self,
        recipients: &[Rcpt],
        message: Message,
    ) -> (SpoolId, Group, Planned, Vec<Outcome>) {
        let mut group = Group::new();
        let facts = self.facts(&message);
        let own = self.log().id();
        let here = recipients.iter().filter(|to| to.log == own).map(Rcpt::recipient);
        let here: Vec<Recipient> = here.collect();
        let planned = plan(self.accounts(), &mut group, &facts, &here, Judge::Judged);
        let mut pending = Pending {
            blob: facts.blob,
            size: facts.size,
            internal_date: facts.internal_date,
            marks: facts.marks.0,
            recipients: Vec::new(),
        };
        let mut outcomes = Vec::with_capacity(recipients.len());
        let mut verdicts = planned.verdicts.iter();
        for to in recipients {
            if to.log == own {
                let verdict = *verdicts.next().expect("a verdict for each recipient here");
                outcomes.push(Outcome::from(verdict));
                continue;
            }
            outcomes.push(Outcome::Stored);
            if !pending.recipients.contains(&(to.log, to.account)) {
                pending.recipients.push((to.log, to.account));
            }
        }
        let spool = self.spool().borrow_mut().assign();
        put_add(&mut group, spool, &pending);
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
        (spool, group, planned, outcomes)
    }
}
