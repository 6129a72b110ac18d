//! Intake: an accepted message becomes durable, in its owner's log or in this shard's spool.
//!
//! Illegal: to answer [`Outcome::Stored`] before the log did.

use super::away::Away;
use super::message::{Envelope, Outcome, Rcpt, Rooms};
use super::peers::{Answer, Peers, Request, Unreachable};
use super::sender::{Coming, Figures, Sender};
use crate::bytes::hash::Sorted;
use crate::env::Env;
use crate::mailbox::deliver::{Facts, Planned, plan};
use crate::mailbox::promise::promise;
use crate::mailbox::{Accounts, Judge, Message, Quota, Recipient, Refused, deliver};
use crate::model::id::{AccountId, LogId};
use crate::model::limits::{QUEUE_ENTRIES_MAX, SPOOL_PENDING_MAX};
use crate::queue::outgoing::Outgoing;
use crate::queue::record::put_add;
use crate::queue::retry::Retries;
use crate::queue::{Pending, Spool, SpoolId};
use crate::store::{AppendError, BlobDraft, Group, Log};
use crate::wire::message::tls_required::is_tls_optional;
use std::cell::{Cell, RefCell};
use std::future::{Future, ready};
use std::pin::Pin;
use std::rc::Rc;

/// Outcomes that are on their way, in the order of the recipients.
pub type Accepting = Pin<Box<dyn Future<Output = Vec<Outcome>>>>;

struct Shared<E: Env, P: Peers> {
    log: Log<E>,
    accounts: Rc<RefCell<Accounts>>,
    spool: Rc<RefCell<Spool>>,
    outgoing: Rc<RefCell<Outgoing>>,
    /// How long outgoing mail may stay.
    retries: RefCell<Rc<Retries>>,
    /// Entries of outgoing mail; over it there is no room for more.
    entries_max: Cell<usize>,
    sender: Sender<E, P>,
}

/// What goes into this log with a message, beside what it is to its recipients here.
#[derive(Default)]
struct Beside {
    away: Vec<Away>,
    /// Records that are there if the message is, and only then.
    also: Group,
}

impl Beside {
    fn is_nothing(&self) -> bool {
        self.away.is_empty() && self.also.records.is_empty()
    }
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
    /// `accounts`, `spool` and `outgoing` are machines of `log`.
    pub fn new(
        log: Log<E>,
        accounts: Rc<RefCell<Accounts>>,
        spool: Rc<RefCell<Spool>>,
        outgoing: Rc<RefCell<Outgoing>>,
        peers: Rc<P>,
    ) -> Intake<E, P> {
        let sender = Sender::new(log.clone(), Rc::clone(&spool), peers);
        let (retries, entries_max) = (RefCell::default(), Cell::new(QUEUE_ENTRIES_MAX));
        let shared = Shared { log, accounts, spool, outgoing, retries, entries_max, sender };
        Intake { shared: Rc::new(shared) }
    }

    /// How long outgoing mail may stay from now on, and how many entries there may be.
    pub fn set_terms(&self, retries: Rc<Retries>, entries_max: usize) {
        *self.shared.retries.borrow_mut() = retries;
        self.shared.entries_max.set(entries_max);
    }

    /// No more outgoing mail is taken, but for reports on what is there.
    pub fn is_full(&self) -> bool {
        self.outgoing().borrow().len() >= self.shared.entries_max.get()
    }

    pub fn outgoing(&self) -> &Rc<RefCell<Outgoing>> {
        &self.shared.outgoing
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
    ///
    /// The outcomes come in the order of the recipients; one for all that are elsewhere follows.
    pub fn accept(&self, envelope: &Envelope, message: Message) -> Accepting {
        self.accept_with(envelope, message, Group::new())
    }

    /// As [`Intake::accept`]; `also` are records that are in this log as soon as the message is, and
    /// only then. With them no owner is asked for room: [`Judge::Judged`] is what they go with.
    pub fn accept_with(&self, envelope: &Envelope, message: Message, also: Group) -> Accepting {
        let Envelope { recipients, away, judge } = envelope;
        // What comes with records is the report on an entry that ends by them: it takes its place.
        let is_new = !away.is_empty() && also.records.is_empty();
        if is_new && self.is_full() {
            return Box::pin(ready(vec![Outcome::CROWDED; recipients.len() + 1]));
        }
        let mut away = away.clone();
        // The trace fields stand in the first part with the header.
        if !away.is_empty() && is_tls_optional(message.parts.first().map_or(&[], Vec::as_slice)) {
            for one in &mut away {
                one.options.tls_optional = true;
            }
        }
        let beside = Beside { away, also };
        let own = self.log().id();
        let first = match recipients.first() {
            Some(first) => first.log,
            None if beside.is_nothing() => return Box::pin(ready(Vec::new())),
            None => own,
        };
        let is_elsewhere = !beside.is_nothing() && first != own;
        if is_elsewhere || recipients.iter().any(|to| to.log != first) {
            return self.spread(envelope, beside, message);
        }
        let here = recipients.iter().map(Rcpt::recipient).collect::<Vec<_>>();
        if !beside.is_nothing() {
            return self.deliver_beside(&here, *judge, beside, message);
        }
        if first == own {
            return self.deliver_here(&here, *judge, message);
        }
        let count = recipients.len();
        let request = Request::Deliver { recipients: here, judge: *judge, message };
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

    /// A message whose recipients are all here or elsewhere, in one group.
    fn deliver_beside(
        &self,
        here: &[Recipient],
        judge: Judge,
        beside: Beside,
        message: Message,
    ) -> Accepting {
        let Beside { away, also: mut group } = beside;
        let facts = self.facts(&message);
        let planned = plan(self.accounts(), &mut group, &facts, here, judge);
        let mut outcomes: Vec<Outcome> =
            planned.verdicts.iter().map(|&verdict| Outcome::from(verdict)).collect();
        // One answer for all: who is elsewhere gets it if those here do.
        let is_refused = judge == Judge::Together && !here.is_empty() && !planned.any();
        if !away.is_empty() {
            let outcome = if is_refused { Outcome::overall(&outcomes) } else { Outcome::Stored };
            outcomes.push(outcome);
        }
        if is_refused || !outcomes.iter().any(|outcome| outcome.is_stored()) {
            return Box::pin(ready(outcomes));
        }
        self.plan_away(&away, &mut group, &facts);
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
        let appended = self.log().append(group);
        Box::pin(async move {
            let result = appended.await;
            drop(planned);
            match result {
                Ok(_) => outcomes,
                Err(error) => vec![Outcome::from(&error); outcomes.len()],
            }
        })
    }

    /// Puts another message into a group of this log, on its way by `away`.
    pub(super) fn put_beside(&self, group: &mut Group, away: &[Away], message: Message) {
        let facts = self.facts(&message);
        self.plan_away(away, group, &facts);
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
    }

    fn plan_away(&self, away: &[Away], group: &mut Group, facts: &Facts) {
        let retries = Rc::clone(&self.shared.retries.borrow());
        for away in away {
            away.plan(&mut self.outgoing().borrow_mut(), group, facts, &retries);
        }
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
    fn spread(&self, envelope: &Envelope, beside: Beside, message: Message) -> Accepting {
        let (recipients, judge) = (envelope.recipients.clone(), envelope.judge);
        let own = self.log().id();
        let far = recipients.iter().filter(|to| to.log != own).map(|to| to.account).collect();
        let expect = || self.sender().expect(far, message.size());
        // Mail that was judged is promised whatever room there is.
        if judge == Judge::Judged || !self.must_ask(&recipients) {
            let rooms = vec![Ok(()); recipients.len()];
            return self.promise(recipients, rooms, judge, expect(), beside, message);
        }
        let asked = self.room(&recipients, message.size());
        let coming = expect();
        let this = self.clone();
        let (promise, promised) = promise();
        // A task of its own: the message has to go whether or not anybody waits for the answer.
        self.log().env().spawn(async move {
            let rooms = asked.await;
            promise.keep(this.promise(recipients, rooms, judge, coming, beside, message).await);
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
        beside: Beside,
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
        let is_away = !beside.away.is_empty();
        if getting.is_empty() && (judge == Judge::Together || !is_away) {
            let away = is_away.then(|| Outcome::overall(&outcomes));
            return Box::pin(ready(outcomes.into_iter().chain(away).collect()));
        }
        let stored = if getting.iter().all(|to| to.log == own) {
            // Nobody is left elsewhere; perhaps nobody at all.
            let here = getting.iter().map(Rcpt::recipient).collect::<Vec<_>>();
            if beside.is_nothing() {
                self.deliver_here(&here, Judge::Judged, message)
            } else {
                self.deliver_beside(&here, Judge::Judged, beside, message)
            }
        } else {
            self.promise_all(&getting, coming, beside, message)
        };
        if getting.len() == outcomes.len() {
            return stored;
        }
        Box::pin(async move {
            let mut stored = stored.await.into_iter();
            let mut merge = |one: Outcome| {
                if one.is_stored() { stored.next().unwrap_or(Outcome::BROKEN) } else { one }
            };
            let mut merged: Vec<Outcome> = outcomes.into_iter().map(&mut merge).collect();
            if is_away {
                merged.push(stored.next().unwrap_or(Outcome::BROKEN));
            }
            merged
        })
    }

    /// A message for several logs: this one promises it, then hands out copies.
    fn promise_all(
        &self,
        recipients: &[Rcpt],
        coming: Coming<E, P>,
        beside: Beside,
        message: Message,
    ) -> Accepting {
        let count = recipients.len() + usize::from(!beside.away.is_empty());
        if self.spool().borrow().pending().len() >= SPOOL_PENDING_MAX {
            return Box::pin(ready(vec![Outcome::CROWDED; count]));
        }
        let (spool, group, planned, outcomes) = self.plan_spread(recipients, beside, message);
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
        beside: Beside,
        message: Message,
    ) -> (SpoolId, Group, Planned, Vec<Outcome>) {
        let Beside { away, also: mut group } = beside;
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
        if !away.is_empty() {
            self.plan_away(&away, &mut group, &facts);
            outcomes.push(Outcome::Stored);
        }
        let spool = self.spool().borrow_mut().assign();
        put_add(&mut group, spool, &pending);
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
        (spool, group, planned, outcomes)
    }
}
