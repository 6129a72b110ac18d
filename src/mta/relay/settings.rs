//! What an operator decides about outgoing mail.

use crate::bytes::hash::Sorted;
use crate::proto::smtp::client::{Login, Timeouts};
use crate::queue::retry::{Retries, matches};
use crate::queue::sites::Allowed;
use crate::queue::warmup::Warmup;
use crate::tls::Level;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// What holds for some sites instead of what holds for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRule {
    /// A domain or the name of a server, or `*.` and what they end in; lower case.
    pub pattern: Box<str>,
    pub allowed: Rc<Allowed>,
    /// Addresses to send from; none: as for all.
    pub sources: Vec<IpAddr>,
}

impl SiteRule {
    fn matches(&self, name: &str) -> bool {
        matches(&self.pattern, name)
    }
}

/// How the server of one of the operator's routes is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Of the domains whose mail goes there, as in [`SiteRule`]; the first route that matches holds.
    pub pattern: Box<str>,
    /// By LMTP.
    pub lmtp: bool,
    pub login: Option<Login>,
    /// It is to log in there and cannot: its mail waits.
    pub is_broken: bool,
    /// None: as for all.
    pub tls: Option<Level>,
    /// As [`Allowed::pauses`]; none: as for all.
    pub site_pauses: Vec<Duration>,
}

/// A fault of our own, for the tests that show that such a fault is found, or borne.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    #[default]
    Nothing,
    /// A message counts as delivered before the server has answered.
    RecordEarly,
    /// What has failed is done with, and nobody is told.
    ForgetReport,
    /// The report is durable before what it reports on.
    TornReport,
    /// What has expired stays where it is.
    ForgetExpiry,
    /// A site gets more connections than it is allowed.
    CrowdSite,
    /// Tasks panic where they begin, and where they have done what they were to do. Nothing is lost by that.
    Stumble,
}

/// See the header.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that EHLO gives.
    pub hello: Box<str>,
    pub retries: Rc<Retries>,
    /// Entries of this shard.
    pub entries_max: usize,
    /// Connections of this shard at once, to all destinations together.
    pub connections_max: usize,
    /// Octets of messages that are being sent at once; a larger one goes alone.
    pub memory: u64,
    /// Addresses of servers that one attempt tries.
    pub hosts_max: usize,
    pub timeouts: Timeouts,
    /// How long a connection waits for the next message.
    pub idle: Duration,
    /// Messages over one connection.
    pub messages_max: u32,
    /// How long one connection is used.
    pub use_max: Duration,
    pub allowed: Rc<Allowed>,
    /// The first that matches holds.
    pub sites: Vec<SiteRule>,
    /// Addresses to send from, in turn; none: as the system has it.
    pub sources: Vec<IpAddr>,
    /// What those of them may send that nobody knows yet.
    pub warmups: Sorted<IpAddr, Warmup>,
    /// By their numbers.
    pub routes: Vec<Route>,
    /// What is asked of servers at least.
    pub tls: Level,
    pub planted: Planted,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hello: "localhost".into(),
            retries: Rc::default(),
            entries_max: crate::model::limits::QUEUE_ENTRIES_MAX,
            connections_max: 1_000,
            memory: 256 << 20,
            hosts_max: 5,
            timeouts: Timeouts::default(),
            idle: Duration::from_secs(2),
            messages_max: 1_000,
            use_max: Duration::from_mins(5),
            allowed: Rc::default(),
            sites: Vec::new(),
            sources: Vec::new(),
            warmups: Sorted::new(),
            routes: Vec::new(),
            tls: Level::May,
            planted: Planted::Nothing,
        }
    }
}

impl Settings {
    /// The rule for mail to `domain` by the servers `hosts`, if one is named for it.
    fn rule<'h>(
        &self,
        domain: &str,
        mut hosts: impl Iterator<Item = &'h str> + Clone,
    ) -> Option<&SiteRule> {
        let is_it =
            |rule: &&SiteRule| rule.matches(domain) || hosts.clone().any(|host| rule.matches(host));
        let found = self.sites.iter().find(is_it);
        hosts.by_ref().for_each(drop);
        found
    }

    /// The pattern of what holds for a site, if something does.
    pub fn class_of<'h>(
        &self,
        domain: &str,
        hosts: impl Iterator<Item = &'h str> + Clone,
    ) -> Option<&str> {
        self.rule(domain, hosts).map(|rule| &*rule.pattern)
    }

    /// The pattern of the route that mail to a domain takes, if it takes one.
    pub fn route_of(&self, domain: &str) -> Option<&str> {
        self.route(domain).map(|route| &*route.pattern)
    }

    fn route(&self, domain: &str) -> Option<&Route> {
        self.routes.iter().find(|route| matches(&route.pattern, domain))
    }

    /// What a site is allowed.
    pub fn allowed_of<'h>(
        &self,
        domain: &str,
        hosts: impl Iterator<Item = &'h str> + Clone,
    ) -> Rc<Allowed> {
        let rule = self.rule(domain, hosts);
        let allowed = rule.map_or(&self.allowed, |rule| &rule.allowed);
        match self.route(domain).map(|route| &route.site_pauses).filter(|pauses| !pauses.is_empty())
        {
            Some(pauses) => Rc::new(Allowed { pauses: pauses.clone(), ..Allowed::clone(allowed) }),
            None => Rc::clone(allowed),
        }
    }

    /// The addresses to send from.
    pub fn sources_of<'h>(
        &self,
        domain: &str,
        hosts: impl Iterator<Item = &'h str> + Clone,
    ) -> &[IpAddr] {
        let rule = self.rule(domain, hosts).filter(|rule| !rule.sources.is_empty());
        rule.map_or(&self.sources, |rule| &rule.sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_holds() {
        let rule = |pattern: &str, connections| SiteRule {
            pattern: pattern.into(),
            allowed: Rc::new(Allowed { connections, ..Allowed::default() }),
            sources: Vec::new(),
        };
        let sites = vec![rule("a.example", 1), rule("*.mx.example", 2), rule("*.example", 3)];
        let settings = Settings { sites, ..Settings::default() };
        let of = |domain: &str, hosts: &[&str]| {
            settings.allowed_of(domain, hosts.iter().copied()).connections
        };
        assert_eq!(of("a.example", &["x.mx.example"]), 1);
        assert_eq!(of("b.test", &["x.mx.example"]), 2);
        assert_eq!(of("b.test", &["mx.example"]), 3);
        assert_eq!(of("b.test", &["mx.test"]), 20);
        let route = |pattern: &str, seconds: &[u64]| Route {
            pattern: pattern.into(),
            site_pauses: seconds.iter().copied().map(Duration::from_secs).collect(),
            ..Route::default()
        };
        let routes = vec![route("a.example", &[]), route("*.example", &[7])];
        let settings = Settings { routes, ..settings };
        let of = |domain: &str| settings.allowed_of(domain, std::iter::empty());
        assert_eq!(of("a.example").pauses, Allowed::default().pauses);
        let own = of("b.example");
        assert_eq!((own.pauses[0].as_secs(), own.connections), (7, 3));
    }
}
