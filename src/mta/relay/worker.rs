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

use super::approach::Called;
use super::conclude::End;
use super::settings::{Route, Settings};
use super::{Planted, Relay};
use crate::bytes::hash::Sorted;
use crate::env::Env;
use crate::env::bell::Bell;
use crate::model::limits::{
    QUEUE_CROWDED_PAUSE, QUEUE_FULL_PAUSE, QUEUE_PARK_MAX, QUEUE_TRANSACTIONS_MAX,
    QUEUE_TURN_MESSAGES,
};
use crate::model::reply::{self, Enhanced};
use crate::model::time::{Mono, Wall};
use crate::mta::peers::Peers;
use crate::mta::route::{Hop, Plan, Way};
use crate::mta::session::{Body, Failed, Session, Target, Terms};
use crate::mta::tls_policy::Wanted;
use crate::probe::event::Value;
use crate::proto::smtp::client::{Kind, Mail, Rcpt, Trouble, Verdict};
use crate::queue::outgoing::{Entry, Envelope, Fate, Flags, Said};
use crate::queue::schedule::Worker;
use crate::queue::sites::{Allowed, Denied, Permit};
use crate::tls::Demand;
use crate::wire::message::nature::Nature;
use crate::wire::smtp::later::By;
use crate::wire::smtp::offers::Keywords;
use crate::wire::smtp::param::{MailParams, RcptParams, Ret};
use futures_lite::future::or;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a worker works with.
struct Shift {
    domain: Rc<str>,
    plan: Rc<Plan>,
    allowed: Rc<Allowed>,
    permit: Permit,
    terms: Terms,
}

/// A connection, and whom it goes to.
pub(super) struct Line<E: Env> {
    session: Session<E>,
    hop: Hop,
    way: Way,
    begun: Mono,
    sent: u32,
    /// Whose mail it was made for, and what that wanted.
    made_for: (Rc<str>, Wanted),
    demand: Demand,
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
        Rc::clone(self.bells.entry(site.into()).or_default())
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

/// What one attempt came to: the ends that are durable already, those that are not, and what broke it off.
struct Transacted {
    noted: Vec<End>,
    ends: Vec<End>,
    trouble: Option<Trouble>,
}

/// Gives back the octets of a message, which are for a site, when the worker has done with it.
pub(super) struct Held<'r, E: Env, P: Peers>(&'r Relay<E, P>, &'r str, u64);

impl<E: Env, P: Peers> Drop for Held<'_, E, P> {
    fn drop(&mut self) {
        let Held(relay, site, octets) = self;
        relay.shared.held.set(relay.shared.held.get() - *octets);
        let mut by_site = relay.shared.held_by.borrow_mut();
        if let Some(held) = by_site.get_mut(*site) {
            *held -= *octets;
            if *held == 0 {
                by_site.remove(*site);
            }
        }
        drop(by_site);
        relay.shared.freed.ring();
    }
}

fn words(host: Option<&str>, said: &reply::Said) -> Said {
    let enhanced = said.enhanced.map(|Enhanced(subject, detail)| (subject, detail));
    let host = host.filter(|_| said.by_peer).map(Into::into);
    Said { host, code: said.code, enhanced, text: said.text.clone() }
}

/// Twice what a site is allowed: [`Planted::CrowdSite`].
fn crowding(allowed: &Allowed) -> Rc<Allowed> {
    let (connections, connections_first) = (allowed.connections * 2, allowed.connections * 2);
    Rc::new(Allowed { connections, connections_first, ..allowed.clone() })
}

/// The same end for all that wait.
fn all(entry: &Entry, fate: Fate, said: &Said) -> Vec<End> {
    waiting(entry).map(|to| End { to, fate, said: Some(said.clone()) }).collect()
}

/// The places of the recipients that are still to be tried.
fn waiting(entry: &Entry) -> impl Iterator<Item = u16> {
    let waits = |(_, (fate, _)): &(u16, (Fate, Option<&Said>))| *fate == Fate::Waiting;
    (0..).zip(entry.fates()).filter(waits).map(|(to, _)| to)
}

/// Anything that is not refused for good is tried again.
fn deferred(said: Said) -> Said {
    if said.code >= 500 { Said { code: said.code - 100, ..said } } else { said }
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// Works until there is nothing to do, or nothing can be done.
    pub(super) async fn work(&self, worker: &mut Worker) {
        let domain = Rc::clone(worker.domain());
        if worker.is_urged {
            self.shared.sites.wake(&domain);
        }
        let settings = self.shared.host.settings();
        let plan = match self.shared.router.plan(&domain).await {
            Ok(plan) => plan,
            Err(no) => {
                self.no_way(worker, &words(None, &no.said)).await;
                return;
            }
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
        let allowed = settings.allowed_of(&domain, hosts);
        let allowed =
            if self.has_planted(Planted::CrowdSite) { crowding(&allowed) } else { allowed };
        let terms = self.terms(&settings, plan.way);
        let (permit, line) = match self.take_over(&plan) {
            Some(Parked { line, permit, .. }) => (permit, Some(line)),
            None => match self.shared.sites.enter(&plan.site, &allowed, self.env().wall()) {
                Ok(permit) => (permit, None),
                Err(denied) => {
                    if denied == Denied::Full {
                        self.shared.yard.borrow_mut().wait(&plan.site, &domain);
                    }
                    self.rest_denied(&domain, denied);
                    return;
                }
            },
        };
        let shift = Shift { domain, plan, allowed, permit, terms };
        let left = self.run_shift(worker, &shift, line).await;
        self.hand_over(shift, left).await;
    }

    /// A connection that another domain of the site has left, if it goes where this one's mail may go.
    fn take_over(&self, plan: &Plan) -> Option<Parked<E>> {
        let is_fit = |parked: &Parked<E>| {
            let line = &parked.line;
            line.way == plan.way && plan.hops.contains(&line.hop) && line.session.is_open()
        };
        self.shared.yard.borrow_mut().take(&plan.site, is_fit)
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
        if next.is_none() || !line.session.is_open() || self.shared.stopping.get() {
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
            }
        });
    }

    fn rest_denied(&self, domain: &Rc<str>, denied: Denied) {
        match denied {
            Denied::Full => self.rest(domain, QUEUE_FULL_PAUSE),
            Denied::Until(until) => self.rest(domain, self.until(until)),
        }
    }

    fn until(&self, at: Wall) -> Duration {
        let micros = at.0.saturating_sub(self.env().wall().0);
        Duration::from_micros(micros).max(Duration::from_millis(1))
    }

    /// There is no way to this domain: none ever, or none that can be found now.
    async fn no_way(&self, worker: &mut Worker, said: &Said) {
        let domain = Rc::clone(worker.domain());
        let is_transient = said.is_transient();
        while !self.shared.stopping.get()
            && let Some((entry, envelope)) = self.next(worker)
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
    fn next(&self, worker: &mut Worker) -> Option<(Entry, Envelope)> {
        loop {
            let id = self.shared.schedule.borrow_mut().take(worker)?;
            if let Some(entry) = self.activate(id) {
                let envelope = self.shared.intake.outgoing().borrow().envelope(&entry);
                return Some((entry, envelope));
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
            let Some((entry, envelope)) = self.next(worker) else { continue };
            // A server may hang up on a connection that waits.
            if let Some(over) = line.take_if(|open| !open.session.is_open()) {
                over.session.quit().await;
            }
            let wanted = settings.wanted(shift.plan.way, &entry, &envelope);
            if let Some(open) = &line
                && !self.does(shift, open, wanted).await
                && let Some(other) = line.take()
            {
                other.session.quit().await;
            }
            let mut open = match line.take() {
                Some(open) => open,
                None => self.open(shift, &entry, &envelope, wanted).await.ok()?,
            };
            let goes_on = self.deliver(shift, &mut open, &entry, &envelope).await;
            open.sent += 1;
            turn += 1;
            let is_used = open.sent >= settings.messages_max
                || self.env().now().since(open.begun) >= settings.use_max;
            if !goes_on || is_used {
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
    async fn await_more(&self, worker: &Worker, shift: &Shift, begun: Mono) -> bool {
        let settings = self.shared.host.settings();
        let is_wanted = || {
            let schedule = self.shared.schedule.borrow();
            schedule.is_wanted() && schedule.workers() >= settings.connections_max
        };
        let has_others = self.shared.yard.borrow().has_others(&shift.plan.site, &shift.domain);
        if self.shared.stopping.get() || has_others || is_wanted() {
            return false;
        }
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
        let goes_on = or(woken, tired).await;
        self.shared.yard.borrow_mut().drop_bell(&shift.plan.site, &called);
        goes_on
    }

    /// A connection to one of the site's servers. Where there is none the site is dead for a while, and
    /// this entry has had its attempt.
    async fn open(
        &self,
        shift: &Shift,
        entry: &Entry,
        envelope: &Envelope,
        wanted: Wanted,
    ) -> Result<Line<E>, ()> {
        let settings = self.shared.host.settings();
        let hosts = shift.plan.hops.iter().filter_map(|hop| hop.host.as_deref());
        let sources = settings.sources_of(&shift.domain, hosts);
        let policy = self.policy(&shift.domain, &shift.plan).await;
        let mut last: Option<(Said, Option<Kind>)> = None;
        // Whether none of them can be trusted, which is another matter than that none can be reached.
        let mut is_distrust = true;
        // Whether one is not there, or not as a server is; what this domain or this machine lacks says
        // nothing of the site, which others share.
        let mut is_dead = false;
        // Families of addresses that nobody can be called by from here.
        let mut lacking = [false; 2];
        for hop in shift.plan.hops.iter().take(settings.hosts_max) {
            let family = usize::from(hop.address.is_ipv4());
            if lacking[family] {
                continue;
            }
            let (domain, plan, policy) = (&*shift.domain, &*shift.plan, policy.clone());
            let call = Called { domain, plan, hop, wanted };
            let asked = match self.asked(domain, plan, policy, hop, wanted).await {
                Ok(asked) => asked,
                Err(skipped) => {
                    is_distrust &= skipped.skip.is_about_message();
                    self.count_skip(call, &skipped).await;
                    last = Some((words(None, &skipped.skip.said()), None));
                    continue;
                }
            };
            let target = Target {
                address: hop.address,
                source: self.source(sources, hop),
                host: asked.host.as_deref(),
                demand: &asked.demand,
            };
            let opened = Session::open(self.env(), target, &shift.terms).await;
            self.count_call(call, &asked, opened.as_ref()).await;
            match opened {
                Ok(session) => {
                    self.shared.figures.connected.one();
                    let (hop, way, begun) = (hop.clone(), shift.plan.way, self.env().now());
                    let made_for = (Rc::clone(&shift.domain), wanted);
                    let demand = asked.demand;
                    return Ok(Line { session, hop, way, begun, sent: 0, made_for, demand });
                }
                Err(Failed { trouble, .. }) => {
                    is_distrust &= matches!(trouble.kind, Kind::Tls | Kind::NotOffered);
                    is_dead |= !matches!(trouble.kind, Kind::Tls | Kind::NotOffered | Kind::Local);
                    lacking[family] |= !trouble.may_go_elsewhere();
                    let name = name_of(hop);
                    last = Some((words(Some(&name), &trouble.said), Some(trouble.kind)));
                }
            }
        }
        let none = || Said::ours(451, Enhanced(4, 4), "no server of the domain can be asked");
        let (said, kind) = last.unwrap_or_else(|| (none(), None));
        if wanted.require_tls && is_distrust {
            // RFC 8689 §4.2.1: the message comes back; the site is no worse for it.
            let text = format!("REQUIRETLS: {}", said.text);
            let ends = all(entry, Fate::Failed, &Said::ours(550, Enhanced(7, 10), &text));
            self.tell(entry, envelope, &ends, &[("domain", (&*shift.domain).into())]);
            self.attempted(entry.id, ends).await;
            return Err(());
        }
        self.leave_alone(shift, kind, is_dead);
        let ends = all(entry, Fate::Waiting, &deferred(said));
        self.tell(entry, envelope, &ends, &[("domain", (&*shift.domain).into())]);
        self.attempted(entry.id, ends).await;
        Err(())
    }

    /// Nobody could be asked: the domain rests, and the site with it if it `is_dead`.
    fn leave_alone(&self, shift: &Shift, kind: Option<Kind>, is_dead: bool) {
        let now = self.env().wall();
        if kind == Some(Kind::Closing) {
            self.shared.sites.crowded(&shift.permit, QUEUE_CROWDED_PAUSE, now);
            self.rest(&shift.domain, QUEUE_CROWDED_PAUSE);
        } else {
            self.shared.figures.unreachable.one();
            let chance = self.env().random();
            let name = if is_dead { &*shift.plan.site } else { &*shift.domain };
            let until = self.shared.sites.failed(name, &shift.allowed, now, chance);
            self.rest(&shift.domain, self.until(until));
        }
    }

    /// Whether a message of this domain may go over a connection that was made for another one, or for
    /// another domain's.
    async fn does(&self, shift: &Shift, line: &Line<E>, wanted: Wanted) -> bool {
        let (domain, made_for) = &line.made_for;
        if *domain == shift.domain && *made_for == wanted {
            return true;
        }
        let policy = self.policy(&shift.domain, &shift.plan).await;
        let asked = self.asked(&shift.domain, &shift.plan, policy, &line.hop, wanted).await;
        let facts = line.session.facts().map(|facts| &**facts);
        asked.is_ok_and(|asked| asked.demand.is_met(&line.demand, facts))
    }

    /// One of the addresses to send from that is of the hop's family.
    fn source(&self, sources: &[IpAddr], hop: &Hop) -> Option<IpAddr> {
        let is_usable = |source: &&IpAddr| source.is_ipv4() == hop.address.is_ipv4();
        let usable: Vec<&IpAddr> = sources.iter().filter(is_usable).collect();
        let turn = self.env().random() % usable.len().max(1) as u64;
        usable.get(usize::try_from(turn).unwrap_or(0)).map(|&&source| source)
    }

    fn terms(&self, settings: &Settings, way: Way) -> Terms {
        let route = match way {
            Way::Route(number) => settings.routes.get(number).cloned().unwrap_or_default(),
            Way::Literal | Way::Mx | Way::Itself => Route::default(),
        };
        Terms {
            hello: settings.hello.clone(),
            lmtp: route.lmtp,
            login: route.login,
            timeouts: settings.timeouts,
            is_encrypted_first: false,
            caller: self.shared.tls.caller.clone(),
            aside: Rc::clone(&self.shared.tls.aside),
        }
    }

    /// Holds room for a message to a site; waits until there is some. No site gets more than a quarter of
    /// it, so that slow ones leave room for others; one message may be larger than all it may have.
    pub(super) async fn hold<'r>(&'r self, site: &'r str, octets: u64) -> Held<'r, E, P> {
        let max = self.shared.host.settings().memory;
        loop {
            let held = self.shared.held.get();
            let mine = self.shared.held_by.borrow().get(site).copied().unwrap_or(0);
            let fits_all = held == 0 || held + octets <= max;
            let fits_site = mine == 0 || mine + octets <= max / 4;
            if fits_all && fits_site {
                self.shared.held.set(held + octets);
                *self.shared.held_by.borrow_mut().entry(site.into()).or_default() += octets;
                return Held(self, site, octets);
            }
            let heard = self.shared.freed.rung();
            self.shared.freed.past(heard).await;
        }
    }

    /// One message to all of its recipients that wait. Whether the connection can take another one.
    async fn deliver(
        &self,
        shift: &Shift,
        line: &mut Line<E>,
        entry: &Entry,
        envelope: &Envelope,
    ) -> bool {
        let begun = self.env().now();
        let _held = self.hold(&shift.plan.site, entry.size.into()).await;
        let Ok(view) = self.shared.intake.log().read(entry.blob).await else {
            let text = "the message cannot be read here";
            let ends = all(entry, Fate::Waiting, &Said::ours(451, Enhanced(3, 0), text));
            self.tell(entry, envelope, &ends, &[]);
            self.attempted(entry.id, ends).await;
            return true;
        };
        let (owner, range) = view.message();
        let nature = Nature::of(view.octets());
        let body = Body { front: b"", owner: Rc::clone(owner), range, nature };
        if self.has_planted(Planted::RecordEarly) {
            let said = Said::ours(250, Enhanced(0, 0), "OK");
            self.attempted(entry.id, all(entry, Fate::Delivered, &said)).await;
        }
        let Transacted { noted, ends, trouble } = self.transact(line, entry, envelope, &body).await;
        let all = [&*noted, &*ends].concat();
        self.judge(shift, &all, trouble.as_ref());
        let (host, address) = (name_of(&line.hop), line.hop.address);
        let facts = line.session.facts();
        let tls = facts.map_or("none", |facts| facts.version());
        let took = self.env().now().since(begun);
        let more = [
            ("domain", (&*shift.domain).into()),
            ("host", host.as_str().into()),
            ("address", Value::Shown(&address)),
            ("tls", tls.into()),
            ("took", took.into()),
        ];
        self.tell(entry, envelope, &all, &more);
        self.attempted(entry.id, ends).await;
        trouble.is_none() && line.session.is_open()
    }

    /// Transactions until every recipient that waits has had its turn.
    async fn transact(
        &self,
        line: &mut Line<E>,
        entry: &Entry,
        envelope: &Envelope,
        body: &Body<'_>,
    ) -> Transacted {
        let mut left: Vec<u16> = waiting(entry).collect();
        let mut noted: Vec<End> = Vec::new();
        let mut ends: Vec<End> = Vec::new();
        let mut trouble: Option<Trouble> = None;
        let host = name_of(&line.hop);
        for _ in 0..QUEUE_TRANSACTIONS_MAX {
            let recipients: Vec<Rcpt<'_>> = left
                .iter()
                .map(|&to| &envelope.recipients[usize::from(to)])
                .map(|to| Rcpt {
                    address: &to.address,
                    params: RcptParams { notify: to.notify, orcpt: to.orcpt.as_deref() },
                })
                .collect();
            let params = self.params(entry, envelope, body.nature);
            let mail = Mail { sender: envelope.sender.as_ref(), params, recipients: &recipients };
            let delivery = line.session.deliver(&mail, body).await;
            let reports = line.session.offers().has(Keywords::DSN);
            let mut again = Vec::new();
            for (&to, verdict) in left.iter().zip(delivery.verdicts) {
                let (fate, said) = match verdict {
                    Verdict::Delivered(said) => {
                        (if reports { Fate::Delivered } else { Fate::Relayed }, said)
                    }
                    Verdict::Deferred(said) => (Fate::Waiting, said),
                    Verdict::Failed(said) | Verdict::Unfit(said) => (Fate::Failed, said),
                    Verdict::Again => {
                        again.push(to);
                        continue;
                    }
                };
                ends.push(End { to, fate, said: Some(words(Some(&host), &said)) });
            }
            left = again;
            trouble = delivery.trouble;
            if left.is_empty() || trouble.is_some() {
                break;
            }
            // The next transaction may take its time, and who has the message must not get it again.
            let taken: Vec<End> = ends.extract_if(.., |end| end.is_taken()).collect();
            self.note(entry.id, &taken).await;
            noted.extend(taken);
        }
        // Who was one too many again and again is tried anew.
        let rest = Said::ours(452, Enhanced(5, 3), "too many recipients for one attempt");
        ends.extend(left.into_iter().map(|to| End {
            to,
            fate: Fate::Waiting,
            said: Some(rest.clone()),
        }));
        Transacted { noted, ends, trouble }
    }

    /// What a delivery tells of the site.
    fn judge(&self, shift: &Shift, ends: &[End], trouble: Option<&Trouble>) {
        if ends.iter().any(End::is_taken) {
            self.shared.sites.delivered(&shift.permit, &shift.allowed);
        }
        let Some(trouble) = trouble else { return };
        let now = self.env().wall();
        if trouble.kind == Kind::Closing || !ends.iter().any(End::is_taken) {
            self.shared.sites.crowded(&shift.permit, QUEUE_CROWDED_PAUSE, now);
            self.rest(&shift.domain, QUEUE_CROWDED_PAUSE);
        }
    }

    fn params<'m>(&self, entry: &Entry, envelope: &'m Envelope, nature: Nature) -> MailParams<'m> {
        let flags = entry.flags;
        let ret = if flags.has(Flags::RET_HEADERS) {
            Some(Ret::Headers)
        } else {
            flags.has(Flags::RET_FULL).then_some(Ret::Full)
        };
        let by = envelope.by.map(|by| {
            let seconds = i64::from(by.at) - i64::from(self.now());
            let seconds = i32::try_from(seconds.clamp(-999_999_999, 999_999_999)).unwrap_or(0);
            By { seconds, returns: by.returns, traces: by.traces }
        });
        MailParams {
            utf8: entry.flags.has(Flags::UTF8) && nature.has(Nature::EIGHT_BIT_HEADER),
            ret,
            envid: envelope.envid.as_deref(),
            by,
            priority: (entry.priority != 0).then_some(entry.priority),
            // A report goes its way in any case (RFC 8689 §5).
            require_tls: flags.has(Flags::REQUIRE_TLS) && envelope.sender.is_some(),
            ..MailParams::default()
        }
    }
}

/// As logs and reports name a server.
fn name_of(hop: &Hop) -> String {
    hop.host.as_deref().map_or_else(
        || match hop.address.ip() {
            IpAddr::V4(ip) => format!("[{ip}]"),
            IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        },
        Into::into,
    )
}
