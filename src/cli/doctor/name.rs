//! Whether the name that the server gives itself, the addresses it sends from, and their names in the DNS
//! lead to each other.
//!
//! Other servers look up the name in EHLO (RFC 5321 §4.1.4) and the name of the address that a connection
//! comes from; mail from where the two do not agree is distrusted, or refused.

use super::Finding;
use crate::concierge::Concierge;
use crate::concierge::dns::{Anchors, Data, Dnssec, Failed, Found, Kind, Resolver, Want};
use crate::config::Config;
use crate::env::ring::facing;
use crate::policy::dns_list::reversed;
use futures_lite::future::block_on;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const WHAT: &str = "name";
/// Addresses that are looked at.
const ADDRESSES_MAX: usize = 32;

/// Answers questions to the DNS.
type Ask<'a> = dyn Fn(Kind, &str) -> Result<Found, String> + 'a;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let resolver = Concierge::start().map_err(|error| error.to_string()).and_then(|concierge| {
        let dns = &config.dns;
        // As others see it, most of whom do not hold answers against signatures.
        Resolver::new(&concierge, &dns.servers, dns.timeout, Dnssec::Off, Anchors::default())
            .map_err(|failed| failed.to_string())
    });
    let ask = |kind: Kind, name: &str| -> Result<Found, String> {
        let resolver = resolver.as_ref().map_err(String::clone)?;
        let asked = resolver.ask(kind, Want::Plain, name).map_err(|_| "too many questions")?;
        let found = block_on(asked).map_err(|_| "no answer")?;
        found.map_err(|failed: Failed| failed.to_string())
    };
    let sites = config.sites.iter().flat_map(|site| &site.sources);
    let sources: BTreeSet<IpAddr> = config.queue.sources.iter().chain(sites).copied().collect();
    let sources = if sources.is_empty() { own() } else { sources };
    judge(config.hostname.as_str(), &sources, &ask)
}

/// The addresses that this machine sends from to the rest of the world, as its routes are; none where
/// others translate them.
fn own() -> BTreeSet<IpAddr> {
    // Two name servers of the root, as good as any other place.
    let far = [
        IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
    ];
    far.into_iter().filter_map(|ip| facing(ip).ok()).filter(|ip| is_public(*ip)).collect()
}

/// Whether others reach it by this address.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            let is_own = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            !(is_own || is_shared || ip.is_unspecified())
        }
        IpAddr::V6(ip) => (ip.segments()[0] & 0xe000) == 0x2000,
    }
}

/// What the DNS says of the name `host`, and of `sources`; where there are none, of the host's addresses.
fn judge(host: &str, sources: &BTreeSet<IpAddr>, ask: &Ask<'_>) -> Vec<Finding> {
    let addresses = match addresses(host, ask) {
        Ok(addresses) => addresses,
        Err(why) => {
            let found = format!("the DNS does not say where {host} is: {why}");
            let command = "pombal check --effective   # dns.servers";
            return vec![Finding::change(WHAT, found, "other servers ask it too", command)];
        }
    };
    if addresses.is_empty() {
        let found = format!("{host} has no address in the DNS");
        let reason = "other servers look up the name that a server gives itself";
        let command = format!("host {host}   # add its A and AAAA records, or set `hostname`");
        return vec![Finding::change(WHAT, found, reason, command)];
    }
    let sources = if sources.is_empty() { &addresses } else { sources };
    sources.iter().take(ADDRESSES_MAX).map(|ip| agrees(host, &addresses, *ip, ask)).collect()
}

fn addresses(host: &str, ask: &Ask<'_>) -> Result<BTreeSet<IpAddr>, String> {
    let mut all = BTreeSet::new();
    for kind in [Kind::A, Kind::Aaaa] {
        all.extend(ask(kind, host)?.addresses());
    }
    Ok(all)
}

/// One address that mail is sent from.
fn agrees(host: &str, addresses: &BTreeSet<IpAddr>, ip: IpAddr, ask: &Ask<'_>) -> Finding {
    let zone = if ip.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    let command = format!("host {ip}   # whoever gave it to you lets its PTR record be {host}");
    let found = match ask(Kind::Ptr, &format!("{}.{zone}", reversed(ip))) {
        Ok(found) => found,
        Err(why) => {
            let found = format!("the DNS does not say what {ip} is called: {why}");
            return Finding::change(WHAT, found, "other servers ask it too", command);
        }
    };
    let mut names = found.records.iter().filter_map(|data| match data {
        Data::Name(name) => Some(&**name),
        _ => None,
    });
    let first = names.clone().next();
    if !names.any(|name| name.eq_ignore_ascii_case(host)) {
        let found = first.map_or_else(
            || format!("{ip} has no name in the DNS"),
            |name| format!("{ip} is called {}", name.escape_default()),
        );
        let reason = format!("mail comes from there, and by the name {host}");
        return Finding::change(WHAT, found, reason, command);
    }
    if !addresses.contains(&ip) {
        let found = format!("{ip} is called {host}, which is elsewhere");
        let reason = "anybody may call his address so: only the way back proves it";
        let command = format!("host {host}   # add {ip} to its records");
        return Finding::change(WHAT, found, reason, command);
    }
    Finding::ok(WHAT, format!("{host} is {ip}, and {ip} is called so"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;
    use std::time::Duration;

    /// What is found by these lines of the DNS, such as `mx.a.example A 192.0.2.1`.
    #[track_caller]
    fn check(zone: &str, sources: &[&str], want: &Expect) {
        let ask = |kind: Kind, name: &str| -> Result<Found, String> {
            let mut records = Vec::new();
            for line in zone.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match (&*words, kind) {
                    ([of, "DEAD"], _) if *of == name => return Err("no answer".into()),
                    ([of, "A", ip], Kind::A) | ([of, "AAAA", ip], Kind::Aaaa) if *of == name => {
                        records.push(Data::Address(ip.parse().unwrap()));
                    }
                    ([of, "PTR", to], Kind::Ptr) if *of == name => {
                        records.push(Data::Name((*to).into()));
                    }
                    _ => {}
                }
            }
            Ok(Found::plain(records, Duration::from_secs(1)))
        };
        let sources = sources.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut got = String::new();
        for finding in judge("mx.a.example", &sources, &ask) {
            let Finding { ok, found, reason, command, .. } = finding;
            let verdict = if ok { "ok" } else { "change" };
            writeln!(got, "{verdict}: {found}").unwrap();
            if !ok {
                writeln!(got, "  {reason}\n  {command}").unwrap();
            }
        }
        want.assert_eq(&got);
    }

    #[test]
    fn name_and_address_lead_to_each_other() {
        let zone = "mx.a.example A 192.0.2.1\nmx.a.example AAAA 2001:db8::1\n\
            1.2.0.192.in-addr.arpa PTR other.example\n1.2.0.192.in-addr.arpa PTR MX.a.example\n\
            2.2.0.192.in-addr.arpa PTR mx.a.example\n3.2.0.192.in-addr.arpa PTR x.example\n\
            4.2.0.192.in-addr.arpa DEAD\n";
        check(
            zone,
            &["192.0.2.1"],
            &expect![[r"
            ok: mx.a.example is 192.0.2.1, and 192.0.2.1 is called so
        "]],
        );
        check(
            zone,
            &["192.0.2.2", "192.0.2.3", "192.0.2.4"],
            &expect![[r"
            change: 192.0.2.2 is called mx.a.example, which is elsewhere
              anybody may call his address so: only the way back proves it
              host mx.a.example   # add 192.0.2.2 to its records
            change: 192.0.2.3 is called x.example
              mail comes from there, and by the name mx.a.example
              host 192.0.2.3   # whoever gave it to you lets its PTR record be mx.a.example
            change: the DNS does not say what 192.0.2.4 is called: no answer
              other servers ask it too
              host 192.0.2.4   # whoever gave it to you lets its PTR record be mx.a.example
        "]],
        );
        // Behind a translation the addresses of the name are looked at.
        check(
            zone,
            &[],
            &expect![[r"
            ok: mx.a.example is 192.0.2.1, and 192.0.2.1 is called so
            change: 2001:db8::1 has no name in the DNS
              mail comes from there, and by the name mx.a.example
              host 2001:db8::1   # whoever gave it to you lets its PTR record be mx.a.example
        "]],
        );
    }

    #[test]
    fn the_name_is_there() {
        check(
            "",
            &["192.0.2.1"],
            &expect![[r"
            change: mx.a.example has no address in the DNS
              other servers look up the name that a server gives itself
              host mx.a.example   # add its A and AAAA records, or set `hostname`
        "]],
        );
        check(
            "mx.a.example DEAD",
            &[],
            &expect![[r"
            change: the DNS does not say where mx.a.example is: no answer
              other servers ask it too
              pombal check --effective   # dns.servers
        "]],
        );
    }

    #[test]
    fn tells_addresses_of_the_world_from_others() {
        for (ip, public) in [
            ("192.0.2.1", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.0.1", false),
            ("2001:db8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }
}
