//! What an operator sees of one log's outgoing mail, and does with it.
//!
//! The same answers come from a shard that runs, and from a log that was opened alone while the
//! server is stopped: then there are no lanes, no sites, and nobody who could report to a sender.
//!
//! Promises:
//!   - what was ordered is durable before it is answered
//!   - an entry that is being delivered is left alone, and counted as busy
//!   - entries are found by the shortest index that a filter allows; what has to be looked at is
//!     looked at in slices, and others have their turn in between
//!
//! Illegal: to hold a shard up, however much mail is meant.

pub mod ask;
mod find;
mod look;
mod order;
#[cfg(test)]
pub(super) mod tests;

use self::ask::{Ask, Cut, Reply};
use self::find::Wanted;
use super::Relay;
use crate::env::Env;
use crate::model::limits::{QUEUE_LOOK_SLICE, QUEUE_PAGE_RECIPIENTS_MAX};
use crate::mta::peers::Peers;
use crate::probe::event::{Level, event};
use crate::queue::outgoing::record::put_pause;
use crate::queue::outgoing::{Outgoing, Pause, QueueId, QueueName};
use crate::store::{Group, Log};
use std::cell::RefCell;
use std::rc::Rc;

/// See the header.
pub struct Desk<E: Env, P: Peers> {
    log: Log<E>,
    outgoing: Rc<RefCell<Outgoing>>,
    /// Who brings the mail away; none: the server is stopped.
    relay: Option<Relay<E, P>>,
}

/// What a walk came to.
struct Picked {
    /// Each with its place in the walk.
    entries: Vec<(u64, QueueId)>,
    /// Behind which place to go on; none: that was all.
    next: Option<u64>,
    /// Entries that were looked at.
    looked: u64,
}

impl<E: Env, P: Peers> Desk<E, P> {
    /// The desk of a shard that runs.
    pub fn of(relay: Relay<E, P>) -> Desk<E, P> {
        let intake = &relay.shared.intake;
        let (log, outgoing) = (intake.log().clone(), Rc::clone(intake.outgoing()));
        Desk { log, outgoing, relay: Some(relay) }
    }

    /// The desk of a log that was opened alone.
    pub fn alone(log: Log<E>, outgoing: Rc<RefCell<Outgoing>>) -> Desk<E, P> {
        Desk { log, outgoing, relay: None }
    }

    fn now(&self) -> u32 {
        self.log.env().wall().seconds()
    }

    fn name(&self, queue: QueueId) -> QueueName {
        QueueName(self.log.id(), queue)
    }

    /// Answers a question, or carries an order out.
    pub async fn answer(&self, ask: Ask) -> Reply {
        match ask {
            Ask::List { filter, cut } => match Wanted::read(&filter, &cut) {
                Ok(wanted) => self.list(&wanted, &cut).await,
                Err(why) => Reply::Wrong(why),
            },
            Ask::Order { order, filter, cut } => match Wanted::read(&filter, &cut) {
                Ok(wanted) => self.carry_out(order, &wanted, &cut).await,
                Err(why) => Reply::Wrong(why),
            },
            Ask::Pause { on, pause } => match find::pause(&pause) {
                Ok(pause) => self.pause(on, &pause).await,
                Err(why) => Reply::Wrong(why),
            },
            Ask::Stats { top } => Reply::Stats(self.stats(top)),
            Ask::Way { domain, sender, look_up } => {
                Reply::Way(self.way(&domain, &sender, look_up).await)
            }
        }
    }

    /// As many entries of those that are wanted as are asked for.
    async fn pick(&self, wanted: &Wanted, cut: &Cut) -> Picked {
        let mut picked = Picked { entries: Vec::new(), next: None, looked: 0 };
        let mut after = cut.after;
        loop {
            let mut slice = 0;
            {
                let outgoing = self.outgoing.borrow();
                let mut walk = wanted.walk(&outgoing, self.log.id(), after);
                loop {
                    let Some((place, entry)) = walk.next() else { return picked };
                    if picked.entries.len() >= cut.most {
                        picked.next = Some(after);
                        return picked;
                    }
                    after = place;
                    picked.looked += 1;
                    slice += 1;
                    if wanted.is_met(&outgoing, entry) {
                        picked.entries.push((place, entry.id));
                    }
                    if slice >= QUEUE_LOOK_SLICE {
                        break;
                    }
                }
            }
            self.log.env().breathe().await;
        }
    }

    async fn list(&self, wanted: &Wanted, cut: &Cut) -> Reply {
        let Picked { entries, mut next, looked } = self.pick(wanted, cut).await;
        let outgoing = self.outgoing.borrow();
        let mut rows = Vec::new();
        let mut recipients = 0;
        let mut shown = cut.after;
        for (place, id) in entries {
            if recipients >= QUEUE_PAGE_RECIPIENTS_MAX {
                next = Some(shown);
                break;
            }
            shown = place;
            // It may be gone by now.
            let Some(entry) = outgoing.get(id) else { continue };
            let row = self.row(&outgoing, entry);
            recipients += row.recipients.len();
            rows.push(row);
        }
        Reply::Rows { rows, next, looked }
    }

    async fn pause(&self, on: bool, pause: &Pause) -> Reply {
        let is_so = self.outgoing.borrow().pauses().iter().any(|one| one == pause);
        if let (true, Pause::Route(pattern), Some(relay)) = (on && !is_so, pause, &self.relay)
            && !relay.shared.host.settings().routes.iter().any(|route| route.pattern == *pattern)
        {
            return Reply::Wrong(format!("no route has the domain {pattern:?}"));
        }
        if is_so != on {
            let mut group = Group::new();
            put_pause(&mut group, on, pause);
            if let Err(error) = self.log.append(group).await {
                return Reply::Failed(error.to_string());
            }
            if self.relay.is_some() {
                self.tell_pause(on, pause);
            }
        }
        Reply::Paused { was: is_so }
    }

    fn tell_pause(&self, on: bool, pause: &Pause) {
        let (what, name) = match pause {
            Pause::All => ("all", ""),
            Pause::Domain(domain) => ("domain", &**domain),
            Pause::Sender(sender) => ("sender", &**sender),
            Pause::Route(pattern) => ("route", &**pattern),
        };
        let fields = [
            ("log", self.log.id().0.into()),
            ("order", if on { "pause" } else { "resume" }.into()),
            ("what", what.into()),
            ("name", name.into()),
        ];
        event(Level::Info, "queue_order", &fields);
    }
}
