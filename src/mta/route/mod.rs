//! Where mail for a domain goes: from the domain to the addresses of servers, in the order in which
//! they are tried.
//!
//! ```text
//!   a route of the operator's ──────────> its host ─────────────┐
//!   [192.0.2.1]            RFC 5321 §4.1.3                       ├─> A, AAAA ─> hops
//!   MX of the domain       RFC 5321 §5.1 ─> hosts, best first ───┤
//!   no MX                  the domain itself ───────────────────┘
//! ```
//!
//! Promises:
//!   - what the DNS says decides; that it says nothing is a reason to wait, never to go elsewhere
//!   - mail never goes to this server itself, nor to a host that is worse than it (RFC 5321 §5.1)
//!   - a route of the operator's that leads nowhere is his to mend: mail waits for that
//!   - what a plan holds is bounded, however many records there are
//!   - why each host is not gone to stands in the plan, or in the reason why there is none
//!
//! Illegal: to keep a plan: answers hold for as long as they say, and `dns` remembers them.

mod choose;
#[cfg(test)]
mod tests;

use self::choose::{Asked, Choice, choose};
use crate::concierge::dns::{Data, Kind, Want};
use crate::dns::{Asker, Resolver, Trouble};
use crate::env::Env;
use crate::env::together::together;
use crate::model::limits::MX_HOSTS_MAX;
use crate::model::reply::Said;
use crate::wire::address::parse_literal;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Questions to the DNS that the way to a domain takes at once, as a rule.
const WAY_QUESTIONS: usize = 4;

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The host's name in A-labels and lower case; none where only an address is known.
    pub host: Option<Box<str>>,
    pub address: SocketAddr,
    /// Of its MX record; 0 where there is none.
    pub preference: u16,
    pub secure: Secure,
}

impl Hop {
    /// Whether both lead to the same server, known as well; whatever prefers it.
    pub fn is_same_server(&self, other: &Hop) -> bool {
        (&self.host, self.address, self.secure) == (&other.host, other.address, other.secure)
    }
}

/// How far it is certain that a hop is the right one; where it has no name, that is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secure {
    /// The host's name: its domain signed that, or the operator said it.
    pub name: bool,
    /// The host's address: its domain signed that.
    pub address: bool,
}

impl Secure {
    /// TLSA records of the host count (RFC 7672 §2.2).
    pub fn allows_dane(self) -> bool {
        self.name && self.address
    }
}

/// How the hosts were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the operator's route of this number.
    Route(usize),
    /// The domain is an address.
    Literal,
    Mx,
    /// The domain has no MX records, and is its own host.
    Itself,
}

/// Where mail for a domain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub way: Way,
    /// In the order in which to try them; never empty.
    pub hops: Vec<Hop>,
    /// The best hosts, sorted: domains that have the same ones share what these can bear.
    pub site: Box<str>,
    /// What was not gone to, and why: a line each.
    pub notes: Vec<Box<str>>,
}

/// Why there is no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct No {
    /// For its sender: for good, or for now.
    pub said: Said,
    /// What the DNS lacks, where that is why. [`Trouble::Busy`]: nobody was asked.
    pub trouble: Option<Trouble>,
    /// As in [`Plan::notes`].
    pub notes: Vec<Box<str>>,
}

/// Where a route of the operator's leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    Address(SocketAddr),
    /// A name in A-labels and lower case, and a port. It has no MX looked up.
    Host(Box<str>, u16),
}

/// For `pombal explain`: a line for each thing that was found out.
impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Way::Route(number) => writeln!(out, "by route {number} of the configuration")?,
            Way::Literal => writeln!(out, "to the address")?,
            Way::Mx => writeln!(out, "by MX records")?,
            Way::Itself => writeln!(out, "to the domain itself, which has no MX records")?,
        }
        writeln!(out, "site {}", self.site)?;
        for Hop { host, address, preference, secure } in &self.hops {
            let host = host.as_deref().unwrap_or("-");
            let signed = match secure {
                Secure { name: true, address: true } => " (name and address signed)",
                Secure { name: true, address: false } => " (name signed)",
                Secure { name: false, address: true } => " (address signed)",
                Secure { name: false, address: false } => "",
            };
            writeln!(out, "{preference} {host} {address}{signed}")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
    }
}

/// As [`Plan`] is shown.
impl fmt::Display for No {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.said)?;
        self.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
    }
}

/// The operator's routes: the one for a domain, and its number.
pub type Routes = dyn Fn(&str) -> Option<(usize, Relay)>;

/// What the operator decides.
#[derive(Clone)]
pub struct Settings {
    /// The name of this server.
    pub hostname: Box<str>,
    /// Where servers are asked that no route names: 25.
    pub port: u16,
    /// The families of addresses that this machine has.
    pub ipv4: bool,
    pub ipv6: bool,
    /// Whether this server listens there.
    pub is_own: Rc<dyn Fn(SocketAddr) -> bool>,
    pub route: Rc<Routes>,
}

/// Finds the way; clones are the same one.
pub struct Router<E: Env> {
    env: E,
    dns: Resolver<E>,
    /// For domains whose servers fell silent, which have no part in the places of others.
    dns_doubtful: Resolver<E>,
    settings: Rc<dyn Fn() -> Rc<Settings>>,
}

impl<E: Env> Clone for Router<E> {
    fn clone(&self) -> Self {
        Router {
            env: self.env.clone(),
            dns: self.dns.clone(),
            dns_doubtful: self.dns_doubtful.clone(),
            settings: Rc::clone(&self.settings),
        }
    }
}

impl<E: Env> Router<E> {
    /// `settings` is asked for each plan.
    pub fn new(
        env: E,
        dns: &Resolver<E>,
        settings: impl Fn() -> Rc<Settings> + 'static,
    ) -> Router<E> {
        let [dns, dns_doubtful] = [Asker::Mail, Asker::Doubtful].map(|asker| dns.asked_by(asker));
        Router { env, dns, dns_doubtful, settings: Rc::new(settings) }
    }

    /// How many ways can be looked for at once of domains that are not in doubt, and as many of others.
    pub fn places(&self) -> usize {
        // Most domains have a host or two, each with two kinds of addresses: how long one takes should tell of its
        // name servers, not of who else asks.
        (self.dns.places() / WAY_QUESTIONS).max(1)
    }

    /// Whether the name servers of the domain, or of one of its hosts, gave no answer the last time, as
    /// far as that is remembered. Asks nobody.
    pub fn doubts(&self, domain: &str) -> bool {
        let host_of = |data: &Data| match data {
            Data::Mx(_, host) => Some(host.clone()),
            _ => None,
        };
        let settings = (self.settings)();
        let hosts: Vec<Box<str>> = match (settings.route)(domain) {
            Some((_, Relay::Address(_))) => return false,
            Some((_, Relay::Host(host, _))) => vec![host],
            None => match self.dns.known(Kind::Mx, Want::Proven, domain) {
                None => return false,
                Some(Err(_)) => return true,
                Some(Ok(found)) if found.records.is_empty() => vec![domain.into()],
                Some(Ok(found)) => found.records.iter().filter_map(host_of).collect(),
            },
        };
        hosts.iter().take(MX_HOSTS_MAX).any(|host| {
            let is_silent = |kind| matches!(self.dns.known(kind, Want::Proven, host), Some(Err(_)));
            is_silent(Kind::A) || is_silent(Kind::Aaaa)
        })
    }

    /// Where mail for `domain` goes: in A-labels and lower case, or a literal in brackets. `is_doubtful`:
    /// it waits behind other domains whose name servers are silent. Comes back within the time that two
    /// questions to the DNS may take, one after the other, and their turns.
    pub async fn plan(&self, domain: &str, is_doubtful: bool) -> Result<Rc<Plan>, No> {
        let dns = if is_doubtful { &self.dns_doubtful } else { &self.dns };
        let settings = (self.settings)();
        let choice = match (settings.route)(domain) {
            Some((number, Relay::Address(address))) => {
                return choose::one(domain, Way::Route(number), address, &settings);
            }
            Some((number, Relay::Host(host, port))) => Choice::relay(number, host, port),
            None => {
                if let Ok(ip) = parse_literal(domain) {
                    let address = SocketAddr::new(ip.to_canonical(), settings.port);
                    return choose::one(domain, Way::Literal, address, &settings);
                }
                let found = dns.prove(Kind::Mx, domain).await;
                choose(domain, &found, &settings, self.env.random())?
            }
        };
        let ask = |host| addresses(dns, host, &settings);
        let asked = together(choice.hosts().map(ask)).await;
        choice.into_plan(domain, &asked, &settings).map(Rc::new)
    }
}

/// Asks for both kinds of addresses at once.
async fn addresses<E: Env>(dns: &Resolver<E>, host: &str, settings: &Settings) -> Asked {
    let ask = async |kind, has_family| {
        if has_family { Some(dns.prove(kind, host).await) } else { None }
    };
    let kinds = [(Kind::Aaaa, settings.ipv6), (Kind::A, settings.ipv4)];
    let mut both = together(kinds.into_iter().map(|(kind, has)| ask(kind, has))).await;
    let v4 = both.pop().flatten();
    Asked { v6: both.pop().flatten(), v4 }
}

/// An address that a host can have: no group of hosts, and not the unspecified one, by which this
/// machine reaches itself.
fn is_of_a_host(ip: IpAddr) -> bool {
    let is_broadcast = ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}
