//! A worker: one connection to the servers of one domain, and the messages that go over it.
//!
//! ```text
//!   route ── a place at the site ── a message ── connect ── deliver ── conclude ─┐
//!     │              │                  ^                                        │
//!     └ no way       └ none: the lane   └────── the next one, for a while ───────┘
//!       to go          rests
//! ```
//!
//! A message is taken before the connection is made: if none can be made it is this one that is told
//! so, and all others of the lane wait without an attempt of theirs being counted.

use super::attempt::Attempt;
use super::figures::OfClass;
use super::line::{Line, words};
use super::transact::all;
use super::{Planted, Relay};
use crate::bytes::hash::Sorted;
use crate::dns::Trouble;
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::limits::{
    QUEUE_FULL_PAUSE, QUEUE_LOOK_UP_PAUSE, QUEUE_LOOK_UP_QUIET, QUEUE_PARK_MAX, QUEUE_TURN_MESSAGES,
};
use crate::model::reply::Enhanced;
use crate::model::time::{Mono, Wall};
use crate::mta::peers::Peers;
use crate::mta::route::{Hop, No, Plan, Way};
use crate::mta::session::Terms;
use crate::mta::tls_policy::Wanted;
use crate::queue::outgoing::{Entry, Envelope, Fate, Said};
use crate::queue::schedule::Worker;
use crate::queue::sites::{Allowed, Denied, Permit};
use futures_lite::future::or;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// A message whose turn it is.
#[derive(Clone, Copy)]
pub(super) struct Job<'j> {
    pub(super) entry: &'j Entry,
    pub(super) envelope: &'j Envelope,
    /// What it wants of servers.
    pub(super) wanted: Wanted,
    /// When they have had their time.
    pub(super) end: Mono,
}

/// What a worker works with.
pub(super) struct Shift {
    pub(super) domain: Rc<str>,
    pub(super) plan: Rc<Plan>,
    pub(super) allowed: Rc<Allowed>,
    pub(super) permit: Permit,
    pub(super) terms: Terms,
    /// What is counted for servers of this kind.
    pub(super) class: OfClass,
}

/// A connection that waits for mail of another domain at its site, with its place there.
pub(super) struct Parked<E: Env> {
    number: u64,
    line: Line<E>,
    permit: Permit,
}

/// The domains that wait for a place at one site, in their order.
#[derive(Default)]
struct Waiting {
    order: VecDeque<Rc<str>>,
    names: BTreeSet<Rc<str>>,
}

/// Who waits at the sites that have as many connections as they may have, and what waits for them.
pub(super) struct Yard<E: Env> {
    waiting: Sorted<Box<str>, Waiting>,
    /// Rung when somebody comes to wait at a site where a connection idles.
    bells: Sorted<Box<str>, Rc<Bell>>,
    parked: Sorted<Box<str>, Vec<Parked<E>>>,
    numbers: u64,
}

impl<E: Env> Default for Yard<E> {
    fn default() -> Self {
        Yard { waiting: Sorted::new(), bells: Sorted::new(), parked: Sorted::new(), numbers: 0 }
    }
}

impl<E: Env> Yard<E> {
    /// A domain waits for a place at a site; one that waits already keeps its turn.
    fn wait(&mut self, site: &str, domain: &Rc<str>) {
        let waiting = self.waiting.entry(site.into()).or_default();
        if waiting.names.insert(Rc::clone(domain)) {
            waiting.order.push_back(Rc::clone(domain));
            if let Some(bell) = self.bells.get(site) {
                bell.ring();
            }
        }
    }

    /// What is rung when somebody comes to wait at a site; goes back by [`Yard::drop_bell`].
    fn bell(&mut self, site: &str) -> Rc<Bell> {
        let known = self.bells.get(site).cloned();
        known.unwrap_or_else(|| Rc::clone(self.bells.entry(site.into()).or_default()))
    }

    fn drop_bell(&mut self, site: &str, bell: &Rc<Bell>) {
        // The one that is given back, and that of the map.
        if Rc::strong_count(bell) <= 2 {
            self.bells.remove(site);
        }
    }

    /// Whether a domain other than this one waits, which has a place there.
    fn has_others(&self, site: &str, domain: &str) -> bool {
        let count =
            |waiting: &Waiting| waiting.names.len() - usize::from(waiting.names.contains(domain));
        self.waiting.get(site).is_some_and(|waiting| count(waiting) > 0)
    }

    /// The domain whose turn it is.
    fn next(&mut self, site: &str) -> Option<Rc<str>> {
        let waiting = self.waiting.get_mut(site)?;
        let domain = waiting.order.pop_front()?;
        waiting.names.remove(&domain);
        if waiting.order.is_empty() {
            self.waiting.remove(site);
        }
        Some(domain)
    }

    /// Leaves a connection for the next domain. Its number, by which it is found if nobody comes.
    fn park(&mut self, line: Line<E>, permit: Permit) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let parked = self.parked.entry(permit.site().into()).or_default();
        parked.push(Parked { number, line, permit });
        number
    }

    /// Connections that are left for others.
    pub(super) fn parked_count(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }

    /// Takes a connection that is fit.
    fn take(&mut self, site: &str, is_fit: impl Fn(&Parked<E>) -> bool) -> Option<Parked<E>> {
        let parked = self.parked.get_mut(site)?;
        let place = parked.iter().position(is_fit)?;
        let taken = parked.swap_remove(place);
        if parked.is_empty() {
            self.parked.remove(site);
        }
        Some(taken)
    }
}

/// Twice what a site is allowed: [`Planted::CrowdSite`].
fn crowding(allowed: &Allowed) -> Rc<Allowed> {
    let (connections, connections_first) = (allowed.connections * 2, allowed.connections * 2);
    Rc::new(Allowed { connections, connections_first, ..allowed.clone() })
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// Works until there is nothing to do, or nothing can be done.
    pub(super) async fn work(&self, worker: &mut Worker) {
        self.stumble();
        let domain = Rc::clone(worker.domain());
        if worker.is_urged {
            self.shared.sites.wake(&domain);
        }
        let settings = self.shared.host.settings();
        let plan = match self.find_way(worker).await {
            Some(Ok(plan)) => plan,
            Some(Err(no)) => return self.no_way(worker, &words(None, &no.said)).await,
            None => return,
        };
        self.shared.schedule.borrow_mut().set_site(&domain, &plan.site);
        if worker.is_urged {
            self.shared.sites.wake(&plan.site);
        }
        if let Way::Route(number) = plan.way
            && settings.routes.get(number).is_some_and(|route| route.is_broken)
        {
            let text = "the password of this route cannot be read here";
            return self.no_way(worker, &Said::ours(451, Enhanced(3, 5), text)).await;
        }
        // The numbers of routes mean something else after a reload: what was found by them is too.
        if !Rc::ptr_eq(&settings, &self.shared.host.settings()) {
            self.rest(&domain, Duration::from_millis(1));
            return;
        }
        let hosts = plan.hops.iter().filter_map(|hop| hop.host.as_deref());
        let class = self.shared.counts.class(settings.class_of(&domain, hosts.clone()));
        let allowed = settings.allowed_of(&domain, hosts);
        let allowed =
            if self.has_planted(Planted::CrowdSite) { crowding(&allowed) } else { allowed };
        let terms = self.terms(&settings, plan.way);
        let entered = match self.take_over(&plan) {
            Some(Parked { line, permit, .. }) => Ok((permit, Some(line))),
            None => self.enter(&plan, &allowed).await.map(|permit| (permit, None)),
        };
        let (permit, line) = match entered {
            Ok(place) => place,
            Err(denied) => {
                if denied == Denied::Full {
                    self.shared.yard.borrow_mut().wait(&plan.site, &domain);
                }
                self.rest_denied(&domain, denied);
                return;
            }
        };
        let shift = Shift { domain, plan, allowed, permit, terms, class };
        let left = self.run_shift(worker, &shift, line).await;
        self.hand_over(shift, left).await;
    }

    /// Where the domain's mail goes. None: nobody was asked, or others want the place of one to whom no
    /// name server says anything. Its mail goes on by itself, and has had no attempt.
    async fn find_way(&self, worker: &mut Worker) -> Option<Result<Rc<Plan>, No>> {
        let (domain, is_doubtful) = (Rc::clone(worker.domain()), worker.is_doubtful());
        let found = async { Some(self.shared.router.plan(&domain, is_doubtful).await) };
        let turned_out = async {
            loop {
                self.env().sleep(QUEUE_LOOK_UP_QUIET).await;
                let is_wanted = self.shared.schedule.borrow().wants_look_up();
                if self.shared.stopping.get() || (is_wanted && !is_doubtful) {
                    return None;
                }
            }
        };
        let found = or(found, turned_out).await;
        let Some(found) = found else {
            self.shared.schedule.borrow_mut().turn_out(worker);
            return None;
        };
        let trouble = found.as_ref().err().and_then(|no| no.trouble);
        let is_silent = trouble == Some(Trouble::Failed);
        if self.shared.schedule.borrow_mut().looked_up(worker, is_silent) {
            self.shared.freed.ring();
        }
        if trouble == Some(Trouble::Busy) {
            self.rest(&domain, QUEUE_LOOK_UP_PAUSE);
            return None;
        }
        Some(found)
    }

    /// A connection that another domain of the site has left, if it goes where this one's mail may go.
    fn take_over(&self, plan: &Plan) -> Option<Parked<E>> {
        let leads_to = |hop: &Hop| plan.hops.iter().any(|one| one.is_same_server(hop));
        let is_fit = |parked: &Parked<E>| {
            let line = &parked.line;
            line.way == plan.way && leads_to(&line.hop) && line.session.is_open()
        };
        self.shared.yard.borrow_mut().take(&plan.site, is_fit)
    }

    /// A place at the site; that of a connection which was left there and does not fit, if there is no
    /// other.
    async fn enter(&self, plan: &Plan, allowed: &Allowed) -> Result<Permit, Denied> {
        let entered = self.shared.sites.enter(&plan.site, allowed, self.env().wall());
        if !matches!(entered, Err(Denied::Full)) {
            return entered;
        }
        let left = self.shared.yard.borrow_mut().take(&plan.site, |_| true);
        let Some(Parked { line, permit, .. }) = left else { return entered };
        line.session.quit().await;
        Ok(permit)
    }

    /// A worker has done: the next domain that waits at the site has its turn, over the same connection
    /// if it can go on.
    async fn hand_over(&self, shift: Shift, line: Option<Line<E>>) {
        let site = &shift.plan.site;
        let mut next = self.shared.yard.borrow_mut().next(site);
        while let Some(domain) = &next
            && !self.shared.schedule.borrow_mut().wake(domain)
        {
            next = self.shared.yard.borrow_mut().next(site);
        }
        let Some(line) = line else { return };
        // A connection that is left is one of those that there may be; the next domain wants a place too.
        if next.is_none() || self.is_full() || !line.session.is_open() || self.shared.stopping.get()
        {
            return line.session.quit().await;
        }
        let site: Box<str> = shift.permit.site().into();
        let number = self.shared.yard.borrow_mut().park(line, shift.permit);
        let this = self.clone();
        self.env().spawn(async move {
            this.env().sleep(QUEUE_PARK_MAX).await;
            let left = this.shared.yard.borrow_mut().take(&site, |one| one.number == number);
            if let Some(Parked { line, permit, .. }) = left {
                line.session.quit().await;
                drop(permit);
                this.begin_workers();
            }
        });
    }

    fn rest_denied(&self, domain: &Rc<str>, denied: Denied) {
        match denied {
            Denied::Full => self.rest(domain, QUEUE_FULL_PAUSE),
            Denied::Until(until) => self.rest(domain, self.until(until)),
        }
    }

    pub(super) fn until(&self, at: Wall) -> Duration {
        let micros = at.0.saturating_sub(self.env().wall().0);
        Duration::from_micros(micros).max(Duration::from_millis(1))
    }

    /// There is no way to this domain: none ever, or none that can be found now.
    async fn no_way(&self, worker: &mut Worker, said: &Said) {
        let domain = Rc::clone(worker.domain());
        let is_transient = said.is_transient();
        while !self.shared.stopping.get()
            && let Some((_attempt, entry, envelope)) = self.next(worker)
        {
            let fate = if is_transient { Fate::Waiting } else { Fate::Failed };
            let ends = all(&entry, fate, said);
            self.tell(&entry, &envelope, &ends, &[("domain", (&*domain).into())]);
            self.attempted(entry.id, ends).await;
            if is_transient {
                // The others wait: what one could not find they would not.
                let failed = self.shared.sites.failed(
                    &domain,
                    &self.shared.host.settings().allowed,
                    self.env().wall(),
                    self.env().random(),
                );
                self.rest(&domain, self.until(failed));
                return;
            }
        }
    }

    /// The entry that goes next, active from here on.
    fn next(&self, worker: &mut Worker) -> Option<(Attempt<E, P>, Entry, Envelope)> {
        loop {
            let id = self.shared.schedule.borrow_mut().take(worker)?;
            if let Some((attempt, entry)) = self.activate(id) {
                let envelope = self.shared.intake.outgoing().borrow().envelope(&entry);
                return Some((attempt, entry, envelope));
            }
        }
    }

    /// Messages, one after the other, over one connection after the other. What is left of it: the
    /// connection, if it can go on.
    async fn run_shift(
        &self,
        worker: &mut Worker,
        shift: &Shift,
        mut line: Option<Line<E>>,
    ) -> Option<Line<E>> {
        let settings = self.shared.host.settings();
        let mut turn = 0;
        while !self.shared.stopping.get() && self.can_record() {
            if !self.shared.schedule.borrow_mut().has_ready(worker) {
                let is_new = turn == 0;
                let Some(open) = line.as_ref().filter(|_| !is_new) else { break };
                if !self.await_more(worker, shift, open.begun).await {
                    break;
                }
                continue;
            }
            let spent = self.shared.sites.spend(&shift.permit, &shift.allowed, self.env().wall());
            if let Err(denied) = spent {
                self.rest_denied(&shift.domain, denied);
                break;
            }
            if !Rc::ptr_eq(&settings, &self.shared.host.settings()) {
                break;
            }
            let Some((_attempt, entry, envelope)) = self.next(worker) else { continue };
            // A server may hang up on a connection that waits.
            if let Some(over) = line.take_if(|open| !open.session.is_open()) {
                over.session.quit().await;
            }
            let wanted = settings.wanted(shift.plan.way, &entry, &envelope);
            let end = Attempt::end(self, &entry);
            let job = Job { entry: &entry, envelope: &envelope, wanted, end };
            if let Some(open) = &line
                && !self.does(shift, open, wanted).await
                && let Some(other) = line.take()
            {
                other.session.quit().await;
            }
            let open = match line.take() {
                Some(open) => open,
                None => self.open(shift, job).await.ok()?,
            };
            let open = self.deliver(shift, open, job).await?;
            turn += 1;
            let is_used = open.sent >= settings.messages_max
                || self.env().now().since(open.begun) >= settings.use_max;
            if is_used {
                open.session.quit().await;
                break;
            }
            line = Some(open);
            // Other domains wait for this place.
            if turn >= QUEUE_TURN_MESSAGES
                && self.shared.yard.borrow().has_others(&shift.plan.site, &shift.domain)
            {
                break;
            }
        }
        line
    }

    /// Waits for another message for as long as a connection may be idle. False: none came, or the
    /// place is wanted elsewhere.
    async fn await_more(&self, worker: &mut Worker, shift: &Shift, begun: Mono) -> bool {
        let settings = self.shared.host.settings();
        let is_wanted = self.is_full() && self.shared.schedule.borrow().is_wanted();
        let has_others = self.shared.yard.borrow().has_others(&shift.plan.site, &shift.domain);
        if self.shared.stopping.get() || has_others || is_wanted {
            return false;
        }
        self.shared.schedule.borrow_mut().idle(worker);
        let left = settings.use_max.saturating_sub(self.env().now().since(begun));
        let bell = self.shared.schedule.borrow().bell(worker);
        let called = self.shared.yard.borrow_mut().bell(&shift.plan.site);
        let (heard, heard_called) = (bell.rung(), called.rung());
        let woken = async {
            or(bell.past(heard), called.past(heard_called)).await;
            true
        };
        let tired = async {
            self.env().sleep(settings.idle.min(left)).await;
            false
        };
        let place_wanted = async {
            worker.call().past(0).await;
            false
        };
        let goes_on = or(or(woken, tired), place_wanted).await;
        self.shared.yard.borrow_mut().drop_bell(&shift.plan.site, &called);
        !self.shared.schedule.borrow_mut().end_idle(worker) && goes_on
    }
}
