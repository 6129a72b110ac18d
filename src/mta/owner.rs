//! The owner's side: what other shards ask for is committed in this shard's log.

use super::intake::Intake;
use super::message::Outcome;
use super::peers::{Answer, Key, Peers, Request};
use crate::env::Env;
use crate::mailbox::deliver::{Facts, Planned, plan};
use crate::mailbox::promise::promise;
use crate::mailbox::{Judge, Message, Recipient, Refused};
use crate::model::id::{AccountId, LogId};
use crate::queue::SpoolId;
use crate::queue::record::{put_forget, put_idem};
use crate::store::{AppendError, BlobDraft, Group};
use std::future::{Future, ready};
use std::pin::Pin;

/// An answer that is on its way.
pub type Answering = Pin<Box<dyn Future<Output = Answer>>>;

impl<E: Env, P: Peers> Intake<E, P> {
    /// Serves what another shard asks. What it takes is queued in the log before this returns, so
    /// that calls made in order are served in order.
    pub fn serve(&self, request: Request) -> Answering {
        match request {
            Request::Room { recipients, size } => {
                let accounts = self.accounts().borrow();
                // Nobody can tell of a log that takes nothing what will be in it.
                let takes = self.log().has_room(u64::from(size));
                let room = |&(Recipient { account, quota }, promised): &(Recipient, u64)| {
                    accounts.room_beside(account, quota, size, promised)
                };
                let unasked = |_: &(Recipient, u64)| Err(Refused::Unasked);
                let rooms = if takes {
                    recipients.iter().map(room).collect()
                } else {
                    recipients.iter().map(unasked).collect()
                };
                Box::pin(ready(Answer::Rooms(rooms)))
            }
            Request::Deliver { recipients, judge, message } => {
                let outcomes = self.deliver_here(&recipients, judge, message);
                Box::pin(async { Answer::Outcomes(outcomes.await) })
            }
            Request::Relay { key, recipients, message, settled } => {
                self.serve_relay(key, &recipients, message, &settled)
            }
            Request::Settled { source, spools } => self.forget(source, &spools),
            Request::Restarted { source, next, pending } => {
                let spool = self.spool().borrow();
                let old = spool.keys(source).filter(|spool| *spool < next);
                let over = |spool: &SpoolId| pending.binary_search(spool).is_err();
                let gone: Vec<SpoolId> = old.filter(over).collect();
                drop(spool);
                self.forget(source, &gone)
            }
        }
    }

    /// Commits what of a relayed message is not here yet, with its key.
    fn serve_relay(
        &self,
        key: Key,
        recipients: &[Recipient],
        message: Message,
        settled: &[SpoolId],
    ) -> Answering {
        let Key { source, spool } = key;
        if !self.spool().borrow_mut().arrive(source, spool) {
            // An earlier request with this key is on its way into the log.
            return Box::pin(ready(Answer::Later));
        }
        let has = |to: &Recipient| self.spool().borrow().has(source, spool, to.account);
        let had: Vec<bool> = recipients.iter().map(has).collect();
        let (group, planned, outcomes) = self.plan_relay(key, recipients, message, settled);
        if group.records.is_empty() {
            self.spool().borrow_mut().arrived(source, spool);
            return Box::pin(ready(Answer::Outcomes(outcomes)));
        }
        let appended = self.log().append(group);
        let (promise, promised) = promise();
        let state = std::rc::Rc::clone(self.spool());
        // A task of its own: the mark has to go whether or not anybody waits for the answer.
        self.log().env().spawn(async move {
            let result = appended.await;
            drop(planned);
            state.borrow_mut().arrived(source, spool);
            promise.keep(match result {
                Ok(_) => Answer::Outcomes(outcomes),
                // It never will, however often it comes.
                Err(AppendError::TooLarge) => Answer::Outcomes(too_large(&outcomes, &had)),
                Err(_) => Answer::Later,
            });
        });
        Box::pin(promised)
    }

    /// The records of a relayed message. Mail that was promised is not held against a quota.
    fn plan_relay(
        &self,
        key: Key,
        recipients: &[Recipient],
        message: Message,
        settled: &[SpoolId],
    ) -> (Group, Option<Planned>, Vec<Outcome>) {
        let mut group = Group::new();
        let spool = self.spool().borrow();
        let has = |to: &Recipient| spool.has(key.source, key.spool, to.account);
        let new: Vec<Recipient> = recipients.iter().filter(|to| !has(to)).copied().collect();
        drop(spool);
        let mut outcomes = vec![Outcome::Stored; recipients.len()];
        let mut planned = None;
        if !new.is_empty() {
            let facts = self.facts(&message);
            let made = plan(self.accounts(), &mut group, &facts, &new, Judge::Each);
            let mut stored: Vec<AccountId> = Vec::new();
            for (to, &verdict) in new.iter().zip(&made.verdicts) {
                if verdict.is_ok() && !stored.contains(&to.account) {
                    stored.push(to.account);
                }
                let same = recipients.iter().zip(&mut outcomes);
                same.filter(|(other, _)| other.account == to.account)
                    .for_each(|(_, outcome)| *outcome = Outcome::from(verdict));
            }
            if made.any() {
                put_idem(&mut group, key.source, key.spool, &stored);
                let Message { parts, summary, .. } = message;
                group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
            }
            planned = Some(made);
        }
        if !settled.is_empty() {
            put_forget(&mut group, key.source, settled);
        }
        (group, planned, outcomes)
    }

    fn forget(&self, source: LogId, spools: &[SpoolId]) -> Answering {
        if spools.is_empty() {
            return Box::pin(ready(Answer::Done));
        }
        let mut group = Group::new();
        put_forget(&mut group, source, spools);
        let appended = self.log().append(group);
        Box::pin(async { appended.await.map_or(Answer::Later, |_| Answer::Done) })
    }

    /// What a delivery needs to know besides the octets; takes a number for the blob.
    pub(super) fn facts(&self, message: &Message) -> Facts {
        Facts {
            blob: self.log().reserve_blob(),
            size: message.size(),
            marks: message.marks,
            internal_date: message.internal_date,
            save_date: self.log().env().wall().seconds(),
        }
    }
}

/// What came out where the log can never hold the message: those who `had` it have it.
fn too_large(outcomes: &[Outcome], had: &[bool]) -> Vec<Outcome> {
    let of = |(&outcome, &had): (&Outcome, &bool)| {
        if outcome.is_stored() && !had { Outcome::TOO_LARGE } else { outcome }
    };
    outcomes.iter().zip(had).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::{Faults, Sim};
    use crate::mailbox::{Accounts, Quota};
    use crate::mta::peers::Unreachable;
    use crate::queue::Spool;
    use crate::queue::outgoing::Outgoing;
    use crate::store::record::kind;
    use crate::store::{Identity, Log, Machine, Settings};
    use std::cell::RefCell;
    use std::path::Path;
    use std::rc::Rc;

    struct Nobody;

    impl Peers for Nobody {
        fn ask(
            &self,
            _: LogId,
            _: Request,
        ) -> impl Future<Output = Result<Answer, Unreachable>> + 'static {
            ready(Err(Unreachable::Lost))
        }
    }

    /// The sender's log has larger segments than this one.
    #[test]
    fn refuses_for_good_what_its_segments_can_never_hold() {
        let sim = Sim::new(1, Faults::none());
        // The intake holds the log for as long as the test.
        sim.allow_leaks();
        let env = sim.env(0);
        let served = async move {
            let accounts = Rc::new(RefCell::new(Accounts::new()));
            let spool = Rc::new(RefCell::new(Spool::new()));
            let mailboxes: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&accounts);
            let spooled: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Spool>>::clone(&spool);
            let registry = vec![
                (kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, mailboxes),
                (kind::SPOOL_FIRST..=kind::SPOOL_LAST, spooled),
            ];
            let identity = Identity { store: 42, log: LogId(1), first_logs: 2 };
            let settings = Settings { segment_octets: 128 << 10, ..Settings::default() };
            let opened = Log::open(env, Path::new("/log"), identity, settings, registry).await;
            let log = opened.expect("the log opens").0;
            let outgoing = Rc::new(RefCell::new(Outgoing::new()));
            let intake = Intake::new(log.clone(), accounts, spool, outgoing, Rc::new(Nobody));
            let relay = async |spool: u64, octets: usize| {
                let message = Message::new(vec![b'x'; octets], false, true, 1);
                let recipients = vec![Recipient { account: AccountId(3), quota: Quota::NONE }];
                let key = Key { source: LogId(0), spool: SpoolId(spool) };
                intake.serve(Request::Relay { key, recipients, message, settled: vec![] }).await
            };
            let first = (relay(1, 1 << 10).await, relay(2, 256 << 10).await);
            // Once more, as after an answer that got lost.
            let again = relay(1, 256 << 10).await;
            log.close().await.expect("the log closes");
            (first, again)
        };
        let stored = || Answer::Outcomes(vec![Outcome::Stored]);
        let never = Answer::Outcomes(vec![Outcome::TOO_LARGE]);
        let ((small, large), again) = sim.run_until(served).expect("it ends");
        assert_eq!((small, large, again), (stored(), never, stored()));
    }
}
