//! The relay: brings outgoing mail to other servers, again and again until it is there or comes back.
//!
//! ```text
//!   queue/outgoing ── an entry's moment ──┬─ due ──────> queue/schedule ──> a worker ─┬─> conclude
//!                                         ├─ due here ──> home ─────────────────────────>┤      │
//!                                         └─ late, expired ────────────────────────────┘      │
//!   worker: mta/route ─ queue/sites: a place ─ mta/session ─ deliver, and the next one         │
//!   records, and the report to its sender, in one group of the log <───────────────────────────┘
//! ```
//!
//! Promises:
//!   - an outcome is durable before the next message goes over the same connection: a crash repeats
//!     at most what was under way
//!   - who reports and what it reports on become durable together: each recipient's fate is told once
//!   - a destination that is slow or dead holds its own workers only, and few of these
//!   - an attempt ends when the entry's time is over, or after hours, however a server drags it out
//!   - what is under way is bounded: connections, octets of messages, reports
//!   - a task that breaks off, whatever the reason, puts its entry off, and nothing else (`attempt`)
//!
//! Illegal: to hold mail that has no next event.

mod anew;
mod approach;
mod attempt;
mod conclude;
pub mod desk;
mod figures;
mod home;
mod line;
mod room;
mod settings;
#[cfg(test)]
mod tests;
mod transact;
mod worker;

pub use desk::Desk;
pub use figures::{Counts, Figures};
pub use settings::{Planted, Route, Settings, SiteRule};

use self::attempt::{Attempt, Attempts};
use self::room::Room;
use self::worker::Yard;
use super::intake::Intake;
use super::message::Places;
use super::peers::Peers;
use super::published::Published;
use super::route::Router;
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::address::Address;
use crate::model::limits::{QUEUE_BROKEN_PAUSE_MIN, QUEUE_CONCLUSIONS_MAX, QUEUE_EVENTS_SLICE};
use crate::model::time::Mono;
use crate::probe::event::{Level, event};
use crate::queue::outgoing::{
    Entry, Envelope, Flags, Pause, Pauses, QueueId, QueueName, Said, Stage,
};
use crate::queue::schedule::{Leeway, Schedule, Worker};
use crate::queue::sites::Sites;
use crate::store::Health;
use crate::tls::{Aside, Caller};
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// What the relay asks of the shard that it works for.
pub trait Host: 'static {
    /// What the operator set, as it stands now.
    fn settings(&self) -> Rc<Settings>;
    /// Where mail for an address goes; an error: why it goes nowhere. `is_report`: its sender is the null
    /// one, and it is for whoever stands behind a name under which mail was passed on.
    fn find(&self, address: &Address, is_report: bool) -> Result<Places, Said>;
    /// The sender under which mail of `sender` is passed on to other servers.
    fn passed_on(&self, sender: &Address) -> Address;
    /// A name for a message: unique in this store.
    fn name_message(&self) -> String;
    /// Signs a message of ours, which comes from `domain`, by DKIM; as it is where there are no keys for
    /// that, or nobody can sign it. None: there is more to sign than can be done at once.
    fn sign(&self, message: Vec<u8>, domain: &str) -> Signed;
}

/// A message that is being signed.
pub type Signed = Pin<Box<dyn Future<Output = Option<Vec<u8>>>>>;

/// What a task says that stumbles.
pub const STUMBLED: &str = "stumbled, as planted";

/// How connections to other servers are encrypted.
#[derive(Clone)]
pub struct Encrypting {
    pub caller: Caller,
    /// Where long chains of certificates are looked through.
    pub aside: Rc<Aside>,
}

struct Shared<E: Env, P: Peers> {
    intake: Intake<E, P>,
    router: Router<E>,
    sites: Sites,
    tls: Encrypting,
    published: Published<E>,
    host: Rc<dyn Host>,
    schedule: RefCell<Schedule>,
    yard: RefCell<Yard<E>>,
    counts: Counts,
    attempts: Attempts,
    /// The entry whose moment is being looked at.
    heeded: Cell<Option<QueueId>>,
    /// Rung when a worker has ended, or a report is on its way.
    freed: Bell,
    /// Reports and other conclusions under way beside the workers'.
    concluding: Cell<usize>,
    /// Entries that wait for a place among them.
    conclusions: RefCell<VecDeque<(QueueId, Conclusion)>>,
    room: Room,
    /// What was stopped when the lanes were filled.
    pauses: RefCell<Pauses>,
    /// The patterns of all routes, where one of them is stopped.
    stoppable: RefCell<Vec<Box<str>>>,
    stopping: Cell<bool>,
}

/// The relay of one shard; clones are the same.
pub struct Relay<E: Env, P: Peers> {
    shared: Rc<Shared<E, P>>,
}

impl<E: Env, P: Peers> Clone for Relay<E, P> {
    fn clone(&self) -> Self {
        Relay { shared: Rc::clone(&self.shared) }
    }
}

/// What is done beside the workers.
#[derive(Clone, Copy)]
enum Conclusion {
    Warn,
    Expire,
    /// Its recipients are here.
    Bring,
}

/// What an entry's moment asks for.
enum Moment {
    Try,
    Stopped,
    Warn,
    Expire,
    Overdue,
    /// It was put off.
    Again,
}

/// A place among the conclusions, given back whatever becomes of the task.
struct Concluding<E: Env, P: Peers>(Relay<E, P>);

impl<E: Env, P: Peers> Concluding<E, P> {
    fn new(relay: &Relay<E, P>) -> Concluding<E, P> {
        let count = &relay.shared.concluding;
        count.set(count.get() + 1);
        Concluding(relay.clone())
    }
}

impl<E: Env, P: Peers> Drop for Concluding<E, P> {
    fn drop(&mut self) {
        let count = &self.0.shared.concluding;
        count.set(count.get() - 1);
        self.0.shared.freed.ring();
    }
}

/// A worker at work, counted out whatever becomes of the task.
struct Working<E: Env, P: Peers> {
    relay: Relay<E, P>,
    worker: Option<Worker>,
    has_ended: bool,
}

impl<E: Env, P: Peers> Working<E, P> {
    /// It did not break off.
    fn ends(&mut self) {
        self.has_ended = true;
    }
}

impl<E: Env, P: Peers> Drop for Working<E, P> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            // What broke off would do so again at once.
            if !self.has_ended {
                let pause = Duration::from_secs(QUEUE_BROKEN_PAUSE_MIN.into());
                self.relay.rest(worker.domain(), pause);
            }
            self.relay.shared.schedule.borrow_mut().end(worker);
            self.relay.shared.freed.ring();
        }
    }
}

/// The relay's own loop, which all mail of the shard waits for.
struct Running<E: Env, P: Peers>(Relay<E, P>);

impl<E: Env, P: Peers> Drop for Running<E, P> {
    fn drop(&mut self) {
        let relay = &self.0;
        if relay.shared.stopping.get() || !std::thread::panicking() {
            return;
        }
        if let Some(id) = relay.shared.heeded.take() {
            relay.put_off(id);
        }
        let again = relay.clone();
        relay.env().spawn(async move {
            again.env().sleep(Duration::from_secs(1)).await;
            again.run().await;
        });
    }
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// Does nothing before [`Relay::run`].
    pub fn new(
        intake: Intake<E, P>,
        router: Router<E>,
        sites: Sites,
        (tls, published): (Encrypting, Published<E>),
        host: Rc<dyn Host>,
        counts: Counts,
    ) -> Relay<E, P> {
        let shared = Shared {
            intake,
            router,
            sites,
            tls,
            published,
            host,
            schedule: RefCell::default(),
            yard: RefCell::default(),
            counts,
            attempts: Attempts::default(),
            heeded: Cell::new(None),
            freed: Bell::default(),
            concluding: Cell::new(0),
            conclusions: RefCell::default(),
            room: Room::default(),
            pauses: RefCell::default(),
            stoppable: RefCell::default(),
            stopping: Cell::new(false),
        };
        Relay { shared: Rc::new(shared) }
    }

    pub fn figures(&self) -> &Figures {
        &self.shared.counts.all
    }

    fn env(&self) -> &E {
        self.shared.intake.log().env()
    }

    fn now(&self) -> u32 {
        self.env().wall().seconds()
    }

    fn has_planted(&self, planted: Planted) -> bool {
        self.shared.host.settings().planted == planted
    }

    /// [`Planted::Stumble`].
    fn stumble(&self) {
        if self.has_planted(Planted::Stumble) && self.env().random().is_multiple_of(8) {
            std::panic::resume_unwind(Box::new(STUMBLED));
        }
    }

    fn name(&self, queue: QueueId) -> QueueName {
        QueueName(self.shared.intake.log().id(), queue)
    }

    /// Brings the figures up to date that are read, not counted.
    pub fn publish(&self) {
        let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let outgoing = self.shared.intake.outgoing().borrow();
        let schedule = self.shared.schedule.borrow();
        self.shared.counts.all.entries.set(signed(outgoing.len()));
        self.shared
            .counts
            .all
            .recipients
            .set(i64::try_from(outgoing.recipients()).unwrap_or(i64::MAX));
        let held = outgoing.counts().held;
        self.shared.counts.all.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.shared.counts.all.ready.set(signed(schedule.ready()));
        self.shared.counts.all.workers.set(signed(schedule.workers()));
    }

    /// Something is set otherwise now: looks at everything again.
    pub fn wake(&self) {
        self.shared.freed.ring();
    }

    /// Connections, and what is looked up for them.
    pub fn workers(&self) -> usize {
        self.shared.schedule.borrow().workers()
    }

    /// Begins nothing new from now on; what is under way ends by itself.
    pub fn stop(&self) {
        self.shared.stopping.set(true);
        self.shared.schedule.borrow().call();
        self.shared.freed.ring();
    }

    /// Works until [`Relay::stop`]; goes on where it broke off.
    pub async fn run(self) {
        let _running = Running(self.clone());
        let changed = self.shared.intake.outgoing().borrow().bell();
        while !self.shared.stopping.get() {
            let heard = (changed.rung(), self.shared.freed.rung());
            self.heed_pauses().await;
            self.heed_events().await;
            self.conclude_waiting();
            self.begin_workers();
            let news = or(changed.past(heard.0), self.shared.freed.past(heard.1));
            or(news, self.env().sleep(self.pause())).await;
        }
    }

    /// Until the next moment of an entry or a lane.
    fn pause(&self) -> Duration {
        let event = self.shared.intake.outgoing().borrow().first_event();
        let lane = self.shared.schedule.borrow().next_wake();
        let (now, wall) = (self.env().now(), self.env().wall());
        let to_event = event.map(|(at, _)| {
            let micros = (u64::from(at) * 1_000_000).saturating_sub(wall.0);
            // The clock may be set meanwhile.
            Duration::from_micros(micros).min(Duration::from_mins(1))
        });
        let to_lane = lane.map(|at| at.since(now));
        let pause = to_event.into_iter().chain(to_lane).min().unwrap_or(Duration::from_mins(1));
        pause.max(Duration::from_millis(1))
    }

    /// Fills the lanes anew when something was stopped or goes on, or other mail takes a route that is.
    async fn heed_pauses(&self) {
        let outgoing = self.shared.intake.outgoing();
        let stoppable = if outgoing.borrow().pauses().has_routes() {
            self.shared.host.settings().routes.iter().map(|route| route.pattern.clone()).collect()
        } else {
            Vec::new()
        };
        let is_known = *self.shared.stoppable.borrow() == stoppable;
        if is_known && *self.shared.pauses.borrow() == *outgoing.borrow().pauses() {
            return;
        }
        *self.shared.stoppable.borrow_mut() = stoppable;
        *self.shared.pauses.borrow_mut() = outgoing.borrow().pauses().clone();
        self.shared.schedule.borrow_mut().clear();
        let mut after = QueueId(0);
        loop {
            let some: Vec<QueueId> = {
                let outgoing = outgoing.borrow();
                outgoing.behind(after).take(QUEUE_EVENTS_SLICE).map(|entry| entry.id).collect()
            };
            let Some(&last) = some.last() else { return };
            after = last;
            for id in some {
                outgoing.borrow_mut().forget_lane(id);
            }
            self.env().breathe().await;
        }
    }

    /// What stops mail of `sender` to `domain`; no route leads to users here.
    fn stopped_by(&self, pauses: &Pauses, domain: &str, sender: &str, is_here: bool) -> Vec<Pause> {
        let settings = pauses.has_routes().then(|| self.shared.host.settings());
        let route = settings.as_ref().and_then(|settings| settings.route_of(domain));
        let route = route.filter(|_| !is_here);
        pauses.those_that_stop(domain, route, sender).cloned().collect()
    }

    fn moment(&self, entry: &Entry, envelope: &Envelope, domain: &str) -> Moment {
        let now = self.now();
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_here = entry.flags.has(Flags::HERE);
        let pauses = self.shared.pauses.borrow();
        let is_stopped = !self.stopped_by(&pauses, domain, &sender, is_here).is_empty();
        // Nobody but its sender made it wait: it is not late because this server was down meanwhile,
        // unless he wants it back then.
        let is_first = is_here
            && entry.attempts == 0
            && !(is_stopped || entry.flags.has(Flags::HELD))
            && envelope.by.is_none_or(|by| !by.returns)
            && !self.shared.attempts.doubts(entry.id);
        match entry.stage() {
            Stage::Active(_) => Moment::Overdue,
            Stage::PutOff(_) => Moment::Again,
            _ if entry.expires <= now && !is_first => Moment::Expire,
            _ if entry.warn <= now => Moment::Warn,
            _ if is_stopped => Moment::Stopped,
            Stage::Idle | Stage::Ready => Moment::Try,
        }
    }

    /// Handles the entries whose moment has come.
    async fn heed_events(&self) {
        loop {
            let now = self.now();
            let due = self.shared.intake.outgoing().borrow().due(now, QUEUE_EVENTS_SLICE);
            if due.is_empty() {
                return;
            }
            for id in due {
                self.shared.heeded.set(Some(id));
                self.heed_event(id);
                self.shared.heeded.set(None);
            }
            self.begin_workers();
            self.env().breathe().await;
        }
    }

    /// Handles what is due of an entry.
    fn heed_event(&self, id: QueueId) {
        let mut outgoing = self.shared.intake.outgoing().borrow_mut();
        let Some(entry) = outgoing.get(id) else { return };
        let envelope = outgoing.envelope(entry);
        let Some(domain) = outgoing.domain(entry.destination).cloned() else { return };
        let active = Stage::Active(Attempt::until(self, entry.size));
        match self.moment(entry, &envelope, &domain) {
            Moment::Try if entry.flags.has(Flags::HERE) => {
                outgoing.set_stage(id, active);
                drop(outgoing);
                self.shared.conclusions.borrow_mut().push_back((id, Conclusion::Bring));
                self.conclude_waiting();
            }
            Moment::Try => {
                let priority = entry.priority;
                let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
                if outgoing.enter_lane(id) {
                    self.note_doubt(&domain);
                    self.shared.schedule.borrow_mut().push(&domain, id, priority, &sender);
                }
            }
            Moment::Stopped => outgoing.set_stage(id, Stage::Ready),
            Moment::Again => outgoing.set_stage(id, Stage::Idle),
            Moment::Overdue => {
                self.shared.counts.all.overdue.one();
                let name = self.name(id).to_string();
                event(Level::Error, "queue_overdue", &[("queue", name.as_str().into())]);
                let waits = |conclusion: &(QueueId, Conclusion)| conclusion.0 == id;
                if self.shared.attempts.has(id)
                    || self.shared.conclusions.borrow().iter().any(waits)
                {
                    outgoing.set_stage(id, active);
                } else {
                    drop(outgoing);
                    self.put_off(id);
                }
            }
            moment @ (Moment::Warn | Moment::Expire) => {
                outgoing.set_stage(id, active);
                drop(outgoing);
                if self.has_planted(Planted::ForgetExpiry) {
                    return;
                }
                let is_over = matches!(moment, Moment::Expire);
                let kind = if is_over { Conclusion::Expire } else { Conclusion::Warn };
                self.shared.conclusions.borrow_mut().push_back((id, kind));
                self.conclude_waiting();
            }
        }
    }

    /// A domain that has had no mail for a while may be one whose name servers are silent.
    fn note_doubt(&self, domain: &Rc<str>) {
        let mut schedule = self.shared.schedule.borrow_mut();
        if schedule.is_new(domain) && self.shared.router.doubts(domain) {
            schedule.doubt(domain);
        }
    }

    /// Begins conclusions that wait, as many as there is room for: a sender is told that it takes long, or
    /// gets the message back.
    fn conclude_waiting(&self) {
        while self.shared.concluding.get() < QUEUE_CONCLUSIONS_MAX {
            let Some((id, kind)) = self.shared.conclusions.borrow_mut().pop_front() else {
                return;
            };
            let place = Concluding::new(self);
            let attempt = Attempt::new(self, id);
            let this = self.clone();
            self.env().spawn(async move {
                this.stumble();
                match kind {
                    Conclusion::Warn => this.warn(id).await,
                    Conclusion::Expire => this.expire(id).await,
                    Conclusion::Bring => Box::pin(this.bring(id)).await,
                }
                drop((attempt, place));
                this.conclude_waiting();
            });
        }
    }

    /// Whether what is done can be written down: else it would be done again after the next start.
    fn can_record(&self) -> bool {
        !matches!(self.shared.intake.log().health(), Health::ReadOnly(_))
    }

    /// Whether there are as many connections as there may be, those that are left for others among them.
    fn is_full(&self) -> bool {
        let open = self.workers() + self.shared.yard.borrow().parked_count();
        open >= self.shared.host.settings().connections_max
    }

    fn begin_workers(&self) {
        if !self.can_record() {
            return;
        }
        let max = self.shared.host.settings().connections_max;
        // Those who look for the way leave half of the places to those who know it.
        let look_ups = self.shared.router.places().min(max / 4).max(1);
        self.shared.schedule.borrow_mut().wake_rested(self.env().now());
        loop {
            if self.shared.stopping.get() {
                return;
            }
            let is_full = self.is_full();
            let mut schedule = self.shared.schedule.borrow_mut();
            if is_full {
                return schedule.call_idle();
            }
            let leeway = Leeway { is_tight: schedule.workers() >= max / 2, look_ups };
            let Some(worker) = schedule.begin(self.env().now(), leeway) else { return };
            drop(schedule);
            let mut shift = Working { relay: self.clone(), worker: Some(worker), has_ended: false };
            self.env().spawn(async move {
                if let Some(worker) = shift.worker.as_mut() {
                    shift.relay.work(worker).await;
                }
                shift.ends();
            });
        }
    }

    /// A lane rests for so long.
    fn rest(&self, domain: &Rc<str>, pause: Duration) {
        let until = self.env().now().after(pause);
        self.rest_until(domain, until);
    }

    fn rest_until(&self, domain: &Rc<str>, until: Mono) {
        self.shared.schedule.borrow_mut().rest(domain, until);
    }

    /// An entry that was taken out of its lane, if nobody else works on it and it may be tried now; it is
    /// active from here on.
    fn activate(&self, id: QueueId) -> Option<(Attempt<E, P>, Entry)> {
        let mut outgoing = self.shared.intake.outgoing().borrow_mut();
        let size = outgoing.get(id)?.size;
        let entry = outgoing.leave_lane(id, self.now(), Attempt::until(self, size))?.clone();
        Some((Attempt::active(self, id), entry))
    }
}
