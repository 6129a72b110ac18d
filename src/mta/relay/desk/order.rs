//! Orders: some entries a commit, and others have their turn between two of them.

use super::ask::{Cut, Done, Order, Reply};
use super::find::Wanted;
use super::{Desk, Picked};
use crate::env::Env;
use crate::mailbox::promise::{Promise, promise};
use crate::model::limits::{QUEUE_CONCLUSIONS_MAX, QUEUE_ORDER_SLICE};
use crate::model::reply::Enhanced;
use crate::mta::peers::Peers;
use crate::mta::relay::Relay;
use crate::mta::relay::attempt::Attempt;
use crate::mta::relay::conclude::{End, Next};
use crate::probe::event::{Level, event};
use crate::queue::outgoing::record::{put_done, put_set};
use crate::queue::outgoing::{Entry, Fate, Flags, QueueId, Said, Stage};
use crate::store::Group;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What an order means for one entry.
enum Step {
    Set(u32, Flags),
    Remove,
    /// It is as it shall be, but for the servers that rest.
    Urge,
    Unchanged,
    /// Somebody else wants it to stay.
    Held,
}

/// Whether its sender wants it to go later (RFC 4865).
pub(super) fn is_later(entry: &Entry, now: u32) -> bool {
    entry.flags.has(Flags::RELEASED_LATER) && entry.attempts == 0 && entry.due > now
}

fn step(order: Order, entry: &Entry, now: u32) -> Step {
    let flags = entry.flags;
    let is_put_off = matches!(entry.stage(), Stage::PutOff(_));
    match order {
        Order::Retry if flags.has(Flags::HELD) || is_later(entry, now) => Step::Held,
        Order::Retry if entry.due <= now && !is_put_off => Step::Urge,
        Order::Retry => Step::Set(now, flags),
        Order::Hold if flags.has(Flags::HELD) => Step::Unchanged,
        Order::Hold => Step::Set(entry.due, flags.with(Flags::HELD)),
        Order::Release if flags.has(Flags::HELD) || is_later(entry, now) => {
            let due = if is_later(entry, now) { now } else { entry.due };
            Step::Set(due, flags.without(Flags::HELD))
        }
        Order::Release => Step::Unchanged,
        Order::Delete | Order::Bounce => Step::Remove,
    }
}

impl<E: Env, P: Peers> Desk<E, P> {
    pub(super) async fn carry_out(&self, order: Order, wanted: &Wanted, cut: &Cut) -> Reply {
        let Picked { entries, next, .. } = self.pick(wanted, cut).await;
        let ids: Vec<QueueId> = entries.into_iter().map(|(_, id)| id).collect();
        let mut done = Done::default();
        let mut failed = None;
        for some in ids.chunks(QUEUE_ORDER_SLICE) {
            let result = match (order, &self.relay) {
                (Order::Bounce, Some(relay)) => {
                    bounce(relay, some, &mut done).await;
                    Ok(())
                }
                (Order::Bounce, None) => {
                    Err("only a running server reports to senders: start it, or delete".into())
                }
                _ => self.commit(order, some, &mut done).await,
            };
            if let Err(why) = result {
                failed = Some(why);
                break;
            }
            self.log.env().breathe().await;
        }
        if self.relay.is_some() && !ids.is_empty() {
            let fields = [
                ("log", self.log.id().0.into()),
                ("order", order.name().into()),
                ("done", done.done.into()),
                ("busy", done.busy.into()),
            ];
            event(Level::Info, "queue_order", &fields);
        }
        match failed {
            Some(why) if done.done == 0 => Reply::Failed(why),
            Some(why) => Reply::Failed(format!("{} entries done, then: {why}", done.done)),
            None => Reply::Done { done, next },
        }
    }

    /// Some entries in one group of the log.
    async fn commit(&self, order: Order, ids: &[QueueId], done: &mut Done) -> Result<(), String> {
        let now = self.now();
        let mut group = Group::new();
        let mut touched: Vec<Entry> = Vec::new();
        let mut urged = BTreeSet::new();
        {
            let outgoing = self.outgoing.borrow();
            for &id in ids {
                let Some(entry) = outgoing.get(id) else { continue };
                if matches!(entry.stage(), Stage::Active(_)) {
                    done.busy += 1;
                    continue;
                }
                // No server is asked for those who are here.
                let is_here = entry.flags.has(Flags::HERE);
                let destination = outgoing.domain(entry.destination).filter(|_| !is_here);
                match step(order, entry, now) {
                    Step::Set(due, flags) => put_set(&mut group, id, due, entry.expires, flags),
                    Step::Remove => put_done(&mut group, id, entry.blob),
                    Step::Urge => {
                        done.done += 1;
                        urged.extend(destination.map(Rc::clone));
                        continue;
                    }
                    Step::Unchanged => {
                        done.unchanged += 1;
                        continue;
                    }
                    Step::Held => {
                        done.held += 1;
                        continue;
                    }
                }
                if order == Order::Retry {
                    urged.extend(destination.map(Rc::clone));
                }
                touched.push(entry.clone());
            }
        }
        // Nobody else begins anything with them until the log has what is ordered.
        let relay = self.relay.iter();
        let _attempts: Vec<Attempt<E, P>> = relay
            .flat_map(|relay| touched.iter().map(|entry| Attempt::new(relay, entry.id)))
            .collect();
        if !touched.is_empty() {
            if order == Order::Delete {
                for entry in &touched {
                    self.tell_removed(entry);
                }
            }
            if let Err(error) = self.log.append(group).await {
                let mut outgoing = self.outgoing.borrow_mut();
                for entry in &touched {
                    outgoing.set_stage(entry.id, Stage::Idle);
                }
                return Err(error.to_string());
            }
            done.done += touched.len() as u64;
        }
        if let Some(relay) = &self.relay {
            for domain in &urged {
                relay.shared.schedule.borrow_mut().urge(domain);
            }
            relay.wake();
        }
        Ok(())
    }

    fn tell_removed(&self, entry: &Entry) {
        if let Some(relay) = &self.relay {
            let envelope = self.outgoing.borrow().envelope(entry);
            let ends = ends(entry, Fate::Removed, None);
            relay.tell(entry, &envelope, &ends, &[("order", Order::Delete.name().into())]);
        }
    }
}

/// The same end for all recipients that wait.
fn ends(entry: &Entry, fate: Fate, said: Option<&Said>) -> Vec<End> {
    (0..)
        .zip(entry.fates())
        .filter(|(_, (one, _))| *one == Fate::Waiting)
        .map(|(to, _)| End::new(to, fate, said.cloned()))
        .collect()
}

/// Says that a task has ended, whatever became of it.
struct Ended(Option<Promise<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(promise) = self.0.take() {
            promise.keep(());
        }
    }
}

/// Gives entries up, with a report to their senders; some beside each other.
async fn bounce<E: Env, P: Peers>(relay: &Relay<E, P>, ids: &[QueueId], done: &mut Done) {
    let said = Said::ours(550, Enhanced(0, 0), "returned by the operator");
    for some in ids.chunks(QUEUE_CONCLUSIONS_MAX) {
        let mut under_way = Vec::new();
        for &id in some {
            let Some((entry, envelope)) = relay.read(id) else { continue };
            if matches!(entry.stage(), Stage::Active(_)) {
                done.busy += 1;
                continue;
            }
            let attempt = Attempt::new(relay, id);
            let ends = ends(&entry, Fate::Failed, Some(&said));
            relay.tell(&entry, &envelope, &ends, &[("order", Order::Bounce.name().into())]);
            let Entry { due, warn, flags, attempts, .. } = entry;
            let (this, (promise, promised)) = (relay.clone(), promise());
            let ended = Ended(Some(promise));
            // A task of its own: who was told of must have been given up, whoever waits for it.
            relay.env().spawn(async move {
                this.conclude(id, ends, Next { due, warn, flags, attempts }).await;
                drop(attempt);
                drop(ended);
            });
            under_way.push((id, promised));
        }
        for (id, one) in under_way {
            one.await;
            // It is put off where the task broke off.
            let count = if relay.read(id).is_none() { &mut done.done } else { &mut done.busy };
            *count += 1;
        }
    }
}
