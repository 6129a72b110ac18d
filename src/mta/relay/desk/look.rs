//! How things stand: entries, lanes, sites, figures.

use super::ask::{Destination, Lane, Next, Paused, Recipient, Row, Servers, Site, Stats, Way};
use super::order::is_later;
use super::{Desk, find};
use crate::env::Env;
use crate::model::time::{Mono, Wall};
use crate::mta::peers::Peers;
use crate::queue::outgoing::{Entry, Envelope, Fate, Flags, Outgoing, Pause, QueueId, Stage};
use crate::wire::smtp::param::Notify;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Flags as operators read them.
const FLAGS: [(Flags, &str); 10] = [
    (Flags::HELD, "held"),
    (Flags::WARNED, "warned"),
    (Flags::RELEASED_LATER, "released_later"),
    (Flags::SIGNED, "signed"),
    (Flags::HERE, "here"),
    (Flags::REQUIRE_TLS, "require_tls"),
    (Flags::TLS_OPTIONAL, "tls_optional"),
    (Flags::UTF8, "utf8"),
    (Flags::RET_FULL, "ret_full"),
    (Flags::RET_HEADERS, "ret_headers"),
];

fn notify(notify: Notify) -> String {
    let all = [(notify.success, "success"), (notify.failure, "failure"), (notify.delay, "delay")];
    let named: Vec<&str> = all.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    if named.is_empty() { "never".into() } else { named.join(",") }
}

fn recipients(entry: &Entry, envelope: &Envelope) -> Vec<Recipient> {
    let both = envelope.recipients.iter().zip(entry.fates());
    both.map(|(to, (fate, said))| Recipient {
        address: to.address.to_string(),
        fate: fate.name().into(),
        said: said.map(ToString::to_string),
        host: said.and_then(|said| said.host.as_deref()).map(Into::into),
        notify: to.notify.map(notify),
        orcpt: to.orcpt.as_deref().map(Into::into),
    })
    .collect()
}

impl<E: Env, P: Peers> Desk<E, P> {
    pub(super) fn row(&self, outgoing: &Outgoing, entry: &Entry) -> Row {
        let envelope = outgoing.envelope(entry);
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let domain = outgoing.domain(entry.destination).map_or("", |name| name);
        let has = |(flag, _): &&(Flags, &str)| entry.flags.has(*flag);
        Row {
            queue: self.name(entry.id).to_string(),
            id: (*envelope.name).into(),
            domain: domain.into(),
            size: entry.size,
            arrived: entry.arrived,
            due: entry.due,
            warn: Some(entry.warn).filter(|&warn| warn != u32::MAX),
            expires: entry.expires,
            attempts: entry.attempts,
            priority: entry.priority,
            flags: FLAGS.iter().filter(has).map(|(_, name)| (*name).into()).collect(),
            envid: envelope.envid.as_deref().map(Into::into),
            by: envelope.by.map(|by| by.at),
            recipients: recipients(entry, &envelope),
            next: self.next(outgoing, entry, domain, &sender),
            sender,
        }
    }

    fn stopped_by(
        &self,
        outgoing: &Outgoing,
        domain: &str,
        sender: &str,
        is_here: bool,
    ) -> Vec<Pause> {
        match &self.relay {
            Some(relay) => relay.stopped_by(outgoing.pauses(), domain, sender, is_here),
            // Nobody knows routes where nothing is brought away.
            None => outgoing.pauses().those_that_stop(domain, None, sender).cloned().collect(),
        }
    }

    fn next(&self, outgoing: &Outgoing, entry: &Entry, domain: &str, sender: &str) -> Next {
        let now = self.now();
        if matches!(entry.stage(), Stage::Active(_)) {
            return Next::Active;
        }
        if entry.flags.has(Flags::HELD) {
            return Next::Held;
        }
        let by = self.stopped_by(outgoing, domain, sender, entry.flags.has(Flags::HERE));
        if !by.is_empty() {
            return Next::Paused { by };
        }
        if is_later(entry, now) {
            return Next::Later { at: entry.due };
        }
        if let Stage::PutOff(at) = entry.stage() {
            return Next::Waits { at };
        }
        if entry.due > now && entry.stage() == Stage::Idle {
            return Next::Waits { at: entry.due };
        }
        Next::Ready { lane: self.relay.is_some().then(|| self.lane(domain)) }
    }

    /// How the mail to a domain goes at the moment.
    pub(super) fn lane(&self, domain: &str) -> Lane {
        let Some(relay) = &self.relay else { return Lane::default() };
        let schedule = relay.shared.schedule.borrow();
        let (now, wall) = (relay.env().now(), relay.env().wall());
        let at = |until: Mono| {
            let left = until.since(now).as_millis().div_ceil(1_000);
            wall.seconds().saturating_add(u32::try_from(left).unwrap_or(u32::MAX))
        };
        Lane {
            ready: schedule.ready_of(domain) as u64,
            workers: schedule.workers_of(domain) as u64,
            rests_until: schedule.rests_until(domain).map(at),
            site: schedule.site_of(domain).and_then(|site| self.site(site)),
        }
    }

    fn site(&self, name: &str) -> Option<Site> {
        let relay = self.relay.as_ref()?;
        let standing = relay.shared.sites.standing(name, relay.env().wall())?;
        Some(Site {
            name: name.into(),
            open: standing.open,
            window: standing.window,
            failures: standing.failures,
            rests_until: standing.rests_until.map(Wall::seconds),
        })
    }

    /// The figures, with the `top` largest destinations. Looks at no entry but the first, and once at
    /// each destination's count.
    pub(super) fn stats(&self, top: usize) -> Stats {
        let outgoing = self.outgoing.borrow();
        let counts = outgoing.counts();
        let waiting = counts.waiting();
        let mut recipients: BTreeMap<String, u64> = Fate::ALL
            .iter()
            .zip(counts.fates)
            .filter(|(fate, _)| **fate != Fate::Waiting)
            .map(|(fate, count)| (fate.name().into(), count))
            .collect();
        recipients.insert("untried".into(), waiting - counts.deferred);
        recipients.insert("deferred".into(), counts.deferred);
        let mut largest: BinaryHeap<Reverse<(u32, Reverse<&str>)>> = BinaryHeap::new();
        for (name, entries) in outgoing.domains() {
            largest.push(Reverse((entries, Reverse(name))));
            if largest.len() > top {
                largest.pop();
            }
        }
        let destinations = largest.into_sorted_vec().into_iter().map(|Reverse((entries, name))| {
            Destination { domain: name.0.into(), entries: entries.into(), lane: self.lane(name.0) }
        });
        let stopped = |pause: &Pause| match pause {
            Pause::All => Some(outgoing.len() as u64),
            Pause::Domain(name) => Some(outgoing.count_of(name).into()),
            Pause::Sender(_) | Pause::Route(_) => None,
        };
        let pauses = outgoing.pauses().iter();
        let pauses = pauses.map(|one| Paused { pause: one.clone(), entries: stopped(one) });
        let schedule = self.relay.as_ref().map(|relay| relay.shared.schedule.borrow());
        Stats {
            entries: outgoing.len() as u64,
            ready: schedule.as_ref().map_or(0, |schedule| schedule.ready() as u64),
            workers: schedule.as_ref().map_or(0, |schedule| schedule.workers() as u64),
            held: counts.held,
            // Numbers are given in the order in which messages come, but for what was held for somebody
            // here who is elsewhere now.
            oldest: outgoing.behind(QueueId(0)).next().map(|entry| entry.arrived),
            recipients,
            pauses: pauses.collect(),
            destinations: destinations.collect(),
        }
    }

    /// How mail of a sender to a domain would go.
    pub(super) async fn way(&self, domain: &str, sender: &str, look_up: bool) -> Way {
        // What is no domain has no mail, and leads nowhere.
        let domain = find::domain(domain).unwrap_or_else(|_| domain.into());
        let mut way = {
            let outgoing = self.outgoing.borrow();
            Way {
                entries: outgoing.count_of(&domain).into(),
                paused: self.stopped_by(&outgoing, &domain, sender, false),
                lane: self.lane(&domain),
                servers: None,
            }
        };
        let (true, Some(relay)) = (look_up, &self.relay) else { return way };
        let lines = |text: String| text.lines().map(Into::into).collect();
        way.servers = Some(match relay.shared.router.plan(&domain, false).await {
            Ok(plan) => {
                way.lane.site = self.site(&plan.site);
                Servers { found: true, lines: lines(plan.to_string()) }
            }
            Err(no) => Servers { found: false, lines: lines(no.to_string()) },
        });
        way
    }
}
