//! Connections to the servers of a plan: which of them is called, what a connection is good for, and
//! what is made of it that none can be called.

use super::Relay;
use super::approach::Called;
use super::settings::{Route, Settings};
use super::transact::all;
use super::worker::{Job, Shift};
use crate::env::Env;
use crate::model::limits::{QUEUE_CROWDED_PAUSE, QUEUE_SOURCES_PAUSE_MAX};
use crate::model::reply::{self, Enhanced};
use crate::model::time::{Mono, Wall};
use crate::mta::peers::Peers;
use crate::mta::route::{Hop, Way};
use crate::mta::session::{Failed, Session, Target, Terms};
use crate::mta::tls_policy::Wanted;
use crate::probe::event::{Level, event};
use crate::proto::smtp::client::Kind;
use crate::queue::outgoing::{Entry, Fate, Said, Stage};
use crate::tls::Demand;
use crate::wire::sts_policy::Policy;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A connection, and whom it goes to.
pub(super) struct Line<E: Env> {
    pub(super) session: Session<E>,
    pub(super) hop: Hop,
    pub(super) way: Way,
    pub(super) begun: Mono,
    pub(super) sent: u32,
    /// Whose mail it was made for, and what that wanted.
    made_for: (Rc<str>, Wanted),
    demand: Demand,
    /// From which of our addresses, where that was chosen.
    source: Option<IpAddr>,
}

/// For what servers are called.
pub(super) struct Errand {
    settings: Rc<Settings>,
    policy: Option<Arc<Policy>>,
    pub(super) wanted: Wanted,
    /// When a call has to have come about.
    end: Mono,
}

/// A server to which there is no connection.
pub(super) struct Uncalled {
    pub(super) said: Said,
    kind: Option<Kind>,
    /// It cannot be trusted with the message, which is another matter than that it cannot be reached.
    pub(super) is_distrust: bool,
    /// It is not there, or not as a server is; what this domain or this machine lacks says nothing of
    /// the site, which others share.
    is_dead: bool,
    /// No server with an address of this family can be called from here.
    lacks_family: bool,
    /// It was not called: no address may send to it before then.
    spent_until: Option<Wall>,
}

impl Uncalled {
    fn spent(until: Wall) -> Uncalled {
        let text = "the addresses to send from have sent what they may send today";
        Uncalled {
            said: Said::ours(451, Enhanced(3, 0), text),
            kind: None,
            is_distrust: false,
            is_dead: false,
            lacks_family: false,
            spent_until: Some(until),
        }
    }
}

/// What was said, and by whom if it was a server.
pub(super) fn words(host: Option<&str>, said: &reply::Said) -> Said {
    let enhanced = said.enhanced.map(|Enhanced(subject, detail)| (subject, detail));
    let host = host.filter(|_| said.by_peer).map(Into::into);
    Said { host, code: said.code, enhanced, text: said.text.clone() }
}

/// Anything that is not refused for good is tried again.
pub(super) fn deferred(said: Said) -> Said {
    if said.code >= 500 { Said { code: said.code - 100, ..said } } else { said }
}

/// As logs and reports name a server.
pub(super) fn name_of(hop: &Hop) -> String {
    hop.host.as_deref().map_or_else(
        || match hop.address.ip() {
            IpAddr::V4(ip) => format!("[{ip}]"),
            IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        },
        Into::into,
    )
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// A connection to one of the site's servers. Where there is none the site is dead for a while, and
    /// this entry has had its attempt.
    pub(super) async fn open(&self, shift: &Shift, job: Job<'_>) -> Result<Line<E>, ()> {
        let Job { entry, envelope, wanted, .. } = job;
        let errand = self.errand(shift, job).await;
        let mut last: Option<Uncalled> = None;
        // Of all of them, and of one.
        let (mut is_distrust, mut is_dead) = (true, false);
        // Families of addresses that nobody can be called by from here.
        let mut lacking = [false; 2];
        // When the first of our addresses may send again, if it is that alone.
        let mut spent_until = Some(Wall(u64::MAX));
        for hop in shift.plan.hops.iter().take(errand.settings.hosts_max) {
            let family = usize::from(hop.address.is_ipv4());
            if lacking[family] {
                continue;
            }
            match self.call(shift, &errand, hop).await {
                Ok(line) => return Ok(line),
                Err(uncalled) => {
                    is_distrust &= uncalled.is_distrust;
                    is_dead |= uncalled.is_dead;
                    lacking[family] |= uncalled.lacks_family;
                    let until = uncalled.spent_until;
                    spent_until = spent_until.and_then(|first| until.map(|at| at.min(first)));
                    last = Some(uncalled);
                }
            }
        }
        if let Some(until) = spent_until.filter(|_| last.is_some()) {
            self.postpone(shift, entry, until);
            return Err(());
        }
        let none = || Said::ours(451, Enhanced(4, 4), "no server of the domain can be asked");
        let (said, kind) = last.map_or_else(|| (none(), None), |last| (last.said, last.kind));
        if wanted.require_tls && is_distrust {
            // RFC 8689 §4.2.1: the message comes back; the site is no worse for it.
            let text = format!("REQUIRETLS: {}", said.text);
            let ends = all(entry, Fate::Failed, &Said::ours(550, Enhanced(7, 10), &text));
            self.tell(entry, envelope, &ends, &[("domain", (&*shift.domain).into())]);
            self.attempted(entry.id, ends).await;
            return Err(());
        }
        // One whose own time was over says nothing of the servers.
        if self.now() < entry.expires {
            self.leave_alone(shift, kind, is_dead);
        }
        let ends = all(entry, Fate::Waiting, &deferred(said));
        self.tell(entry, envelope, &ends, &[("domain", (&*shift.domain).into())]);
        self.attempted(entry.id, ends).await;
        Err(())
    }

    /// Our addresses have sent what they may: the domain's mail waits, and has had no attempt.
    fn postpone(&self, shift: &Shift, entry: &Entry, until: Wall) {
        // Other addresses may be set meanwhile.
        let pause = self.until(until).min(QUEUE_SOURCES_PAUSE_MAX);
        event(
            Level::Info,
            "sources_spent",
            &[("domain", (&*shift.domain).into()), ("pause", pause.into())],
        );
        self.rest(&shift.domain, pause);
        self.shared.intake.outgoing().borrow_mut().set_stage(entry.id, Stage::Idle);
    }

    /// What servers are called for that are to take a message of this domain.
    pub(super) async fn errand(&self, shift: &Shift, job: Job<'_>) -> Errand {
        let Job { wanted, end, .. } = job;
        let policy = self.policy(&shift.domain, &shift.plan).await;
        Errand { settings: self.shared.host.settings(), policy, wanted, end }
    }

    /// A connection to this server.
    pub(super) async fn call(
        &self,
        shift: &Shift,
        errand: &Errand,
        hop: &Hop,
    ) -> Result<Line<E>, Uncalled> {
        let Errand { settings, policy, wanted, end } = errand;
        let (domain, plan, wanted) = (&*shift.domain, &*shift.plan, *wanted);
        let call = Called { domain, plan, hop, wanted };
        let asked = match self.asked(domain, plan, policy.clone(), hop, wanted).await {
            Ok(asked) => asked,
            Err(skipped) => {
                self.count_skip(call, &skipped).await;
                let is_distrust = skipped.skip.is_about_message();
                let said = words(None, &skipped.skip.said());
                return Err(Uncalled {
                    said,
                    kind: None,
                    is_distrust,
                    is_dead: false,
                    lacks_family: false,
                    spent_until: None,
                });
            }
        };
        let hosts = plan.hops.iter().filter_map(|hop| hop.host.as_deref());
        let source = match self.source(settings, settings.sources_of(domain, hosts), hop) {
            Ok(source) => source,
            Err(until) => return Err(Uncalled::spent(until)),
        };
        let target = Target {
            address: hop.address,
            source,
            host: asked.host.as_deref(),
            demand: &asked.demand,
            end: *end,
        };
        let opened = Session::open(self.env(), target, &shift.terms).await;
        self.count_call(call, &asked, opened.as_ref()).await;
        match opened {
            Ok(session) => {
                self.shared.counts.all.connected.one();
                shift.class.connected.one();
                let (hop, way, begun) = (hop.clone(), plan.way, self.env().now());
                let made_for = (Rc::clone(&shift.domain), wanted);
                let demand = asked.demand;
                Ok(Line { session, hop, way, begun, sent: 0, made_for, demand, source })
            }
            Err(Failed { trouble, .. }) => {
                if let Some(source) = source {
                    self.shared.sites.warming().give_back(source, self.env().wall());
                }
                let is_distrust = matches!(trouble.kind, Kind::Tls | Kind::NotOffered);
                Err(Uncalled {
                    said: words(Some(&name_of(hop)), &trouble.said),
                    kind: Some(trouble.kind),
                    is_distrust,
                    is_dead: !is_distrust && trouble.kind != Kind::Local,
                    lacks_family: !trouble.may_go_elsewhere(),
                    spent_until: None,
                })
            }
        }
    }

    /// Nobody could be asked: the domain rests, and the site with it if it `is_dead`.
    fn leave_alone(&self, shift: &Shift, kind: Option<Kind>, is_dead: bool) {
        let now = self.env().wall();
        if kind == Some(Kind::Closing) {
            let (sites, pause) = (&self.shared.sites, QUEUE_CROWDED_PAUSE);
            let until = sites.crowded(&shift.permit, &shift.allowed, pause, now);
            self.rest(&shift.domain, self.until(until));
        } else {
            self.shared.counts.all.unreachable.one();
            shift.class.unreachable.one();
            let chance = self.env().random();
            let name = if is_dead { &*shift.plan.site } else { &*shift.domain };
            let until = self.shared.sites.failed(name, &shift.allowed, now, chance);
            self.rest(&shift.domain, self.until(until));
        }
    }

    /// Whether a message of this domain may go over a connection that was made for another one, or for
    /// another domain's; it is counted for the address that it goes from.
    pub(super) async fn does(&self, shift: &Shift, line: &Line<E>, wanted: Wanted) -> bool {
        let (domain, made_for) = &line.made_for;
        if *domain != shift.domain || *made_for != wanted {
            let policy = self.policy(&shift.domain, &shift.plan).await;
            let asked = self.asked(&shift.domain, &shift.plan, policy, &line.hop, wanted).await;
            let facts = line.session.facts().map(|facts| &**facts);
            if !asked.is_ok_and(|asked| asked.demand.is_met(&line.demand, facts)) {
                return false;
            }
        }
        let settings = self.shared.host.settings();
        line.source.is_none_or(|source| self.spend(&settings, source).is_ok())
    }

    /// One of the addresses to send from that is of the hop's family and may send a message, which is
    /// counted; none: as the system has it. An error: none of them may before then.
    fn source(
        &self,
        settings: &Settings,
        sources: &[IpAddr],
        hop: &Hop,
    ) -> Result<Option<IpAddr>, Wall> {
        let is_usable = |source: &&IpAddr| source.is_ipv4() == hop.address.is_ipv4();
        let mut usable: Vec<IpAddr> = sources.iter().filter(is_usable).copied().collect();
        let mut spent_until: Option<Wall> = None;
        while !usable.is_empty() {
            let turn = self.env().random() % usable.len() as u64;
            let source = usable.swap_remove(usize::try_from(turn).unwrap_or(0));
            match self.spend(settings, source) {
                Ok(()) => return Ok(Some(source)),
                Err(at) => spent_until = Some(spent_until.map_or(at, |first| first.min(at))),
            }
        }
        spent_until.map_or(Ok(None), Err)
    }

    /// Counts a message for an address that is being warmed up, if it may send one.
    fn spend(&self, settings: &Settings, source: IpAddr) -> Result<(), Wall> {
        let Some(warmup) = settings.warmups.get(&source) else { return Ok(()) };
        self.shared.sites.warming().take(source, warmup, self.env().wall())
    }

    pub(super) fn terms(&self, settings: &Settings, way: Way) -> Terms {
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
}
