//! From `[queue]`, `[[site]]` and `[[route]]` to what the relay asks.

use crate::config::{self, Config, DomainPattern, RelayHost, Route, Site};
use crate::mta::relay::{self, Settings, SiteRule};
use crate::mta::route;
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::Credentials;
use crate::proto::smtp::client::Login;
use crate::queue::retry::{Retries, Retry};
use crate::queue::sites::Allowed;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

fn pattern(pattern: &DomainPattern) -> Box<str> {
    match pattern {
        DomainPattern::All => "*".into(),
        DomainPattern::Below(parent) => format!("*.{}", parent.as_str()).into(),
        DomainPattern::One(name) => name.as_str().into(),
    }
}

/// The classes of sites that are counted one by one.
pub(super) fn classes(config: &Config) -> Vec<Box<str>> {
    config.sites.iter().map(|site| pattern(&site.pattern)).collect()
}

fn rule(site: &Site, usual: &Allowed) -> SiteRule {
    let or = |count: u32, usual: u32| if count == 0 { usual } else { count };
    let rates = if site.rates.is_empty() { usual.rates.clone() } else { site.rates.clone() };
    SiteRule {
        pattern: pattern(&site.pattern),
        allowed: Rc::new(Allowed {
            connections: or(site.connections, usual.connections),
            connections_first: or(site.first_connections, usual.connections_first),
            rates,
            pauses: usual.pauses.clone(),
        }),
        sources: site.sources.clone(),
    }
}

/// What one of `shards` shards is to know.
pub(super) fn settings(config: &Config, shards: u16) -> Settings {
    let queue = &config.queue;
    let usual = Allowed {
        connections: queue.site_connections,
        connections_first: queue.site_first_connections,
        rates: queue.site_rates.clone(),
        pauses: queue.site_retry.clone(),
    };
    let share = |count: usize| count.div_ceil(usize::from(shards));
    Settings {
        hello: config.hostname.as_str().into(),
        retries: Rc::new(retries(config)),
        entries_max: share(queue.max_entries),
        connections_max: share(queue.connections),
        memory: queue.memory.div_ceil(u64::from(shards)),
        hosts_max: queue.hosts_per_attempt,
        timeouts: queue.timeouts,
        idle: queue.idle,
        messages_max: queue.messages_per_connection,
        use_max: queue.connection_lifetime,
        sites: config.sites.iter().map(|site| rule(site, &usual)).collect(),
        allowed: Rc::new(usual),
        sources: queue.sources.clone(),
        warmups: config.sources.iter().map(|one| (one.address, one.warmup.clone())).collect(),
        routes: config.routes.iter().map(way).collect(),
        tls: queue.tls,
        planted: relay::Planted::Nothing,
    }
}

/// When mail is tried again, of all domains.
fn retries(config: &Config) -> Retries {
    let queue = &config.queue;
    let warn = |after: Duration| Some(after).filter(|time| !time.is_zero());
    let usual = Retry {
        pauses: queue.retry.clone(),
        lifetime: queue.lifetime,
        report_lifetime: queue.report_lifetime,
        warn_after: warn(queue.delay_warning),
    };
    let own = |route: &Route| {
        let Route { retry, lifetime, report_lifetime, delay_warning, .. } = route;
        let retry = Retry {
            pauses: if retry.is_empty() { usual.pauses.clone() } else { retry.clone() },
            lifetime: lifetime.unwrap_or(usual.lifetime),
            report_lifetime: report_lifetime.unwrap_or(usual.report_lifetime),
            warn_after: delay_warning.map_or(usual.warn_after, warn),
        };
        (retry != usual).then(|| Rc::new(retry))
    };
    let routes = config.routes.iter().map(|route| (pattern(&route.domain), own(route)));
    let routes = routes.collect();
    Retries { routes, usual: Rc::new(usual) }
}

/// How the server of a route is spoken to. Where the password cannot be read, its mail waits: without it
/// the server would refuse all of it for good.
fn way(route: &Route) -> relay::Route {
    let read = |login: &config::Login| {
        let password = std::fs::read_to_string(&login.password_file).map_err(|error| {
            let file = login.password_file.display().to_string();
            let fields = [("file", file.as_str().into()), ("why", Value::Shown(&error))];
            event(Level::Error, "route_password_unreadable", &fields);
        })?;
        let credentials = Credentials::new(&login.user, password.trim_end_matches(['\r', '\n']));
        Ok::<_, ()>(Login { credentials, in_clear: route.allow_plaintext })
    };
    let login = route.login.as_ref().map(read);
    let is_broken = login.as_ref().is_some_and(Result::is_err);
    let login = login.and_then(Result::ok);
    relay::Route {
        pattern: pattern(&route.domain),
        lmtp: route.lmtp,
        login,
        is_broken,
        tls: route.tls,
        site_pauses: route.site_retry.clone(),
    }
}

/// What the search for the way to a domain is to know. `is_here`: whether this machine has an address.
pub(super) fn routing(config: &Config, is_here: fn(IpAddr) -> bool) -> route::Settings {
    let queue = &config.queue;
    let own = config.listen.smtp.clone();
    let routes = config.routes.clone();
    route::Settings {
        hostname: config.hostname.as_str().to_ascii_lowercase().into(),
        port: queue.port,
        ipv4: true,
        ipv6: true,
        is_own: Rc::new(move |address| {
            let is_it = |own: &SocketAddr| {
                let ip = address.ip();
                own.port() == address.port()
                    && (own.ip() == ip || own.ip().is_unspecified() && is_here(ip))
            };
            own.iter().any(is_it)
        }),
        route: Rc::new(move |domain| {
            let (number, route) =
                routes.iter().enumerate().find(|(_, route)| route.domain.matches(domain))?;
            let relay = match &route.relay {
                RelayHost::Address(address) => route::Relay::Address(*address),
                RelayHost::Name(name, port) => {
                    route::Relay::Host(name.as_str().to_ascii_lowercase().into(), *port)
                }
            };
            Some((number, relay))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn who_listens_everywhere_is_found_under_every_address_of_the_machine() {
        let mut config = Config::small(Path::new("/nowhere"));
        let of = |text: &str| text.parse::<SocketAddr>().unwrap();
        config.listen.smtp = vec![of("0.0.0.0:25"), of("192.0.2.9:2525")];
        let settings = routing(&config, |ip| {
            ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().unwrap()).contains(&ip)
        });
        for own in ["192.0.2.7:25", "[2001:db8::7]:25", "192.0.2.9:2525"] {
            assert!((settings.is_own)(of(own)), "{own}");
        }
        for other in ["192.0.2.8:25", "192.0.2.7:26", "192.0.2.7:2525", "[2001:db8::8]:25"] {
            assert!(!(settings.is_own)(of(other)), "{other}");
        }
    }
}
