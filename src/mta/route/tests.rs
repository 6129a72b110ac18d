//! Ways to domains, by zones of a few lines that answer each question.

use super::*;
use crate::concierge::dns::{Data, Failed, Found, Want};
use crate::dns::Asked;
use crate::env::sim::{Faults, Sim};
use crate::model::limits::{MX_ADDRESSES_MAX, MX_HOPS_MAX, MX_HOSTS_MAX};
use crate::model::reply::Enhanced;
use expect_test::{Expect, expect};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

const OWN: &str = "mx.own.example";

/// What a zone says, by lines such as `a.example MX 10 b.example`; `a.example DEAD`: its servers do
/// not answer, `FULL`: nobody can be asked, `a.example A BOGUS`: that answer is forged, and a `+` behind it: it is signed.
fn answer(zone: &str, kind: Kind, name: &str) -> Result<Found, Failed> {
    let lines = || zone.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ttl = Duration::from_mins(1);
    let mut found = Found::nowhere(ttl);
    let (mut at, mut is_secure) = (name, true);
    for _ in 0..8 {
        let of = lines().filter(|line| line.first() == Some(&at)).collect::<Vec<_>>();
        found.exists = !of.is_empty() || at.is_empty();
        let Some(alias) = of.iter().find(|line| line[1] == "CNAME") else { break };
        at = zone
            .lines()
            .find_map(|line| line.split_whitespace().find(|word| *word == alias[2]))
            .unwrap();
        is_secure &= alias.last() == Some(&"+");
        found.alias = Some(at.into());
    }
    for line in lines().filter(|line| line.first() == Some(&at)) {
        let data = match (&*line, kind) {
            ([_, "DEAD", ..], _) => return Err(Failed::Servers("dead".into())),
            ([_, "FULL", ..], _) => return Err(Failed::Busy),
            ([_, "A", "BOGUS"], Kind::A)
            | ([_, "AAAA", "BOGUS"], Kind::Aaaa)
            | ([_, "MX", "BOGUS"], Kind::Mx) => return Err(Failed::Bogus),
            ([_, "A", "DEAD"], Kind::A) | ([_, "AAAA", "DEAD"], Kind::Aaaa) => {
                return Err(Failed::Servers("dead".into()));
            }
            ([_, "MX", preference, host, ..], Kind::Mx) => {
                Data::Mx(preference.parse().unwrap(), host.trim_end_matches('.').into())
            }
            ([_, "A", address, ..], Kind::A) | ([_, "AAAA", address, ..], Kind::Aaaa) => {
                Data::Address(address.parse().unwrap())
            }
            _ => continue,
        };
        is_secure &= line.last() == Some(&"+");
        found.records.push(data);
    }
    found.is_secure = is_secure && !found.records.is_empty();
    Ok(found)
}

/// What this server listens at: 192.0.2.99 and ::99, on port 25; and the operator's routes.
fn settings() -> Settings {
    let own: [IpAddr; 2] = ["192.0.2.99".parse().unwrap(), "2001:db8::99".parse().unwrap()];
    let address = |text: &str| Relay::Address(text.parse().unwrap());
    let host = |name: &str, port| Relay::Host(name.into(), port);
    let routes = [
        ("by-address.example", address("192.0.2.7:2525")),
        ("by-host.example", host("relay.example", 587)),
        ("to-itself.example", address("192.0.2.99:25")),
        ("to-another-port.example", address("192.0.2.99:24")),
        ("to-nowhere.example", host("nowhere.example", 25)),
    ];
    Settings {
        hostname: OWN.into(),
        port: 25,
        ipv4: true,
        ipv6: true,
        is_own: Rc::new(move |address| address.port() == 25 && own.contains(&address.ip())),
        route: Rc::new(move |domain| {
            let number = routes.iter().position(|(name, _)| *name == domain)?;
            Some((number, routes[number].1.clone()))
        }),
    }
}

fn plan_by(seed: u64, settings: Settings, zone: &str, domain: &str) -> Result<Rc<Plan>, No> {
    let sim = Sim::new(seed, Faults::none());
    let env = sim.env(0);
    let zone: Rc<str> = zone.into();
    let ask = move |kind: Kind, want: Want, name: &str| -> Asked {
        assert_eq!(want, Want::Proven);
        let found = answer(&zone, kind, name);
        Box::pin(async move { found })
    };
    let dns = Resolver::new(env.clone(), Duration::from_secs(5), 1_000, ask);
    let settings = Rc::new(settings);
    let router = Router::new(env, &dns, move || Rc::clone(&settings));
    sim.run_until(async { router.plan(domain, false).await }).unwrap()
}

/// The one place that asks: a zone, a domain, and what comes out.
#[track_caller]
fn check(zone: &str, domain: &str, want: &Expect) {
    let shown = match plan_by(1, settings(), zone, domain) {
        Ok(plan) => plan.to_string(),
        Err(no) => no.to_string(),
    };
    want.assert_eq(&shown);
}

#[test]
fn goes_to_the_best_host_first() {
    let zone = "a.example MX 20 two.example\na.example MX 10 one.example\na.example MX 10 one.example\n\
                a.example MX 30 one.example\none.example A 192.0.2.1\none.example A 192.0.2.2\n\
                two.example A 192.0.2.3\nalias.example CNAME a.example\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example 192.0.2.1:25
        10 one.example 192.0.2.2:25
        20 two.example 192.0.2.3:25
    "]],
    );
    // B001: a domain that is an alias is followed.
    check(
        zone,
        "alias.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example 192.0.2.1:25
        10 one.example 192.0.2.2:25
        20 two.example 192.0.2.3:25
    "]],
    );
}

#[test]
fn tells_what_is_not_there_from_what_does_not_answer() {
    let zone = "a.example MX 0 .\nempty.example TXT x\ndead.example DEAD\nb.example MX 10 dead.example\n\
                forged.example MX BOGUS\nc.example MX 10 d.example\nd.example A BOGUS\n";
    check(
        zone,
        "nowhere.example",
        &expect![[r"
        550 5.1.2 There is no domain nowhere.example
    "]],
    );
    check(
        zone,
        "a.example",
        &expect![[r"
        556 5.1.10 a.example takes no mail (null MX)
    "]],
    );
    check(
        zone,
        "empty.example",
        &expect![[r"
            550 5.4.4 No server takes mail for empty.example: empty.example has no address
            empty.example has no address
        "]],
    );
    check(
        zone,
        "dead.example",
        &expect![[r"
        451 4.4.3 The name servers do not say where dead.example is
    "]],
    );
    check(
        zone,
        "forged.example",
        &expect![[r"
        451 4.4.3 The signatures of forged.example in the DNS do not fit
    "]],
    );
    check(
        zone,
        "b.example",
        &expect![[r"
        451 4.4.3 The name servers do not say where dead.example is
        dead.example (10): its name servers do not answer
    "]],
    );
    check(
        zone,
        "c.example",
        &expect![[r"
        451 4.4.3 The signatures of d.example in the DNS do not fit
        d.example (10): its signatures in the DNS do not fit
    "]],
    );
}

/// A host that nobody can say anything of holds up no other one, and nothing is for good meanwhile.
#[test]
fn goes_past_hosts_that_nobody_knows_of() {
    let zone = "dead.example DEAD\ne.example MX 10 dead.example\ne.example MX 10 nowhere.example\n\
                e.example MX 20 f.example\nf.example A 192.0.2.1\n\
                g.example MX 10 nowhere.example\ng.example MX 20 dead.example\n";
    check(
        zone,
        "e.example",
        &expect![[r"
        by MX records
        site f.example
        20 f.example 192.0.2.1:25
        dead.example (10): its name servers do not answer
        nowhere.example (10): does not exist
    "]],
    );
    check(
        zone,
        "g.example",
        &expect![[r"
        451 4.4.3 The name servers do not say where dead.example is
        nowhere.example (10): does not exist
        dead.example (20): its name servers do not answer
    "]],
    );
}

/// B002: an address of the domain counts only where there is no MX record at all.
#[test]
fn goes_to_the_domain_itself_only_without_mx() {
    let zone = "a.example A 192.0.2.1\na.example AAAA 2001:db8::1\nb.example A 192.0.2.1\n\
                b.example MX 10 nowhere.example\nb.example MX 20 empty.example\n\
                empty.example TXT x\nalias.example CNAME a.example\n\
                c.example A 192.0.2.1\nc.example MX 10 dead.example\ndead.example DEAD\n\
                d.example A 192.0.2.1\nd.example MX BOGUS\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        to the domain itself, which has no MX records
        site a.example
        0 a.example [2001:db8::1]:25
        0 a.example 192.0.2.1:25
    "]],
    );
    check(
        zone,
        "alias.example",
        &expect![[r"
        to the domain itself, which has no MX records
        site alias.example
        0 alias.example [2001:db8::1]:25
        0 alias.example 192.0.2.1:25
    "]],
    );
    check(
        zone,
        "b.example",
        &expect![[r"
        550 5.4.4 No server takes mail for b.example: nowhere.example (10): does not exist; empty.example (20): has no address
        nowhere.example (10): does not exist
        empty.example (20): has no address
    "]],
    );
    check(
        zone,
        "c.example",
        &expect![[r"
        451 4.4.3 The name servers do not say where dead.example is
        dead.example (10): its name servers do not answer
    "]],
    );
    check(
        zone,
        "d.example",
        &expect![[r"
        451 4.4.3 The signatures of d.example in the DNS do not fit
    "]],
    );
}

/// B006
#[test]
fn skips_what_no_mx_record_may_name() {
    let zone = "a.example MX 1 alias.example\na.example MX 2 192.0.2.5\na.example MX 3 .\n\
                a.example MX 4 bad\\032name.example\na.example MX 5 nowhere.example\n\
                a.example MX 6 text.example\na.example MX 7 zero.example\na.example MX 8 good.example\n\
                alias.example CNAME good.example\ntext.example TXT x\nzero.example A 0.0.0.0\n\
                zero.example AAAA ::\nzero.example A 224.0.0.1\ngood.example A 192.0.2.1\n\
                b.example MX 1 alias.example\nb.example MX 2 .\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        by MX records
        site good.example
        8 good.example 192.0.2.1:25
        192.0.2.5 (2): is an address, where a name has to be
        . (3): says that there is no mail, beside others that say where it goes
        bad\032name.example (4): is no name of a host
        alias.example (1): is an alias, of good.example
        nowhere.example (5): does not exist
        text.example (6): has no address
        zero.example (7): has no address that a host can have
    "]],
    );
    check(
        zone,
        "b.example",
        &expect![[r"
        550 5.4.4 No server takes mail for b.example: . (2): says that there is no mail, beside others that say where it goes; alias.example (1): is an alias, of good.example
        . (2): says that there is no mail, beside others that say where it goes
        alias.example (1): is an alias, of good.example
    "]],
    );
}

/// B005
#[test]
fn never_goes_to_itself_or_to_worse_hosts() {
    let zone = "a.example MX 10 one.example\na.example MX 20 mx.own.example\na.example MX 20 two.example\n\
                a.example MX 30 three.example\nb.example MX 10 mx.own.example\nb.example MX 20 one.example\n\
                one.example A 192.0.2.1\ntwo.example A 192.0.2.2\nthree.example A 192.0.2.3\n\
                mx.own.example A 192.0.2.99\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example 192.0.2.1:25
        mx.own.example, two.example, three.example (20): left out, one is this server
    "]],
    );
    check(
        zone,
        "b.example",
        &expect![[r"
        554 5.4.6 Mail for b.example would come back to this server
        mx.own.example, one.example (10): left out, one is this server
    "]],
    );
}

#[test]
fn knows_itself_by_its_addresses() {
    let zone = "c.example MX 10 one.example\nc.example MX 20 me.example\nc.example MX 20 two.example\n\
                c.example MX 30 three.example\nd.example A 192.0.2.99\ne.example MX 10 dead.example\n\
                e.example MX 20 mx.own.example\none.example A 192.0.2.1\ntwo.example A 192.0.2.2\n\
                three.example A 192.0.2.3\nme.example A 192.0.2.4\nme.example AAAA 2001:db8::99\n\
                dead.example DEAD\nmx.own.example A 192.0.2.99\nf.example AAAA ::ffff:192.0.2.99\n";
    check(
        zone,
        "c.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example 192.0.2.1:25
        me.example, two.example, three.example (20): left out, one has the address of this server
    "]],
    );
    check(
        zone,
        "d.example",
        &expect![[r"
            554 5.4.6 Mail for d.example would come back to this server
            d.example has the address of this server
        "]],
    );
    check(
        zone,
        "e.example",
        &expect![[r"
        451 4.4.3 The name servers do not say where dead.example is
        mx.own.example (20): left out, one is this server
        dead.example (10): its name servers do not answer
    "]],
    );
    check(
        zone,
        "f.example",
        &expect![[r"
            554 5.4.6 Mail for f.example would come back to this server
            f.example has the address of this server
        "]],
    );
    check(
        zone,
        OWN,
        &expect![[r"
            554 5.4.6 Mail for mx.own.example would come back to this server
            mx.own.example is this server
        "]],
    );
    check(
        zone,
        "[192.0.2.99]",
        &expect![[r"
        554 5.4.6 Mail for [192.0.2.99] would come back to this server
        192.0.2.99:25 is this server
    "]],
    );
    check(
        zone,
        "[IPv6:::ffff:192.0.2.99]",
        &expect![[r"
        554 5.4.6 Mail for [IPv6:::ffff:192.0.2.99] would come back to this server
        192.0.2.99:25 is this server
    "]],
    );
}

/// B007: the families take turns.
#[test]
fn tries_both_families_in_turn() {
    let zone = "a.example MX 10 both.example\na.example MX 20 half.example\nboth.example A 192.0.2.1\n\
                both.example A 192.0.2.2\nboth.example A 192.0.2.3\nboth.example AAAA 2001:db8::1\n\
                half.example A 192.0.2.4\nhalf.example AAAA DEAD\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        by MX records
        site both.example
        10 both.example [2001:db8::1]:25
        10 both.example 192.0.2.1:25
        10 both.example 192.0.2.2:25
        10 both.example 192.0.2.3:25
        20 half.example 192.0.2.4:25
        half.example (20): one kind of address: its name servers do not answer
    "]],
    );
    let only = |ipv4, ipv6| {
        let settings = Settings { ipv4, ipv6, ..settings() };
        plan_by(1, settings, zone, "a.example").unwrap().to_string()
    };
    expect![[r"
        by MX records
        site both.example
        10 both.example 192.0.2.1:25
        10 both.example 192.0.2.2:25
        10 both.example 192.0.2.3:25
        20 half.example 192.0.2.4:25
    "]]
    .assert_eq(&only(true, false));
    expect![[r"
        by MX records
        site both.example
        10 both.example [2001:db8::1]:25
        half.example (20): its name servers do not answer
    "]]
    .assert_eq(&only(false, true));
}

/// B010
#[test]
fn goes_to_an_address_without_asking() {
    check(
        "",
        "[192.0.2.1]",
        &expect![[r"
        to the address
        site [192.0.2.1]
        0 - 192.0.2.1:25
    "]],
    );
    check(
        "",
        "[IPv6:2001:db8::1]",
        &expect![[r"
        to the address
        site [IPv6:2001:db8::1]
        0 - [2001:db8::1]:25
    "]],
    );
    check(
        "",
        "[0.0.0.0]",
        &expect![[r"
        550 5.4.4 0.0.0.0 is no address of a server
    "]],
    );
}

#[test]
fn follows_the_operators_routes_without_mx() {
    let zone = "by-host.example MX 10 mx.example\nrelay.example MX 10 mx.example\nmx.example A 192.0.2.5\n\
                relay.example CNAME real.example\nreal.example A 192.0.2.6\n";
    check(
        zone,
        "by-address.example",
        &expect![[r"
        by route 0 of the configuration
        site 192.0.2.7:2525
        0 - 192.0.2.7:2525
    "]],
    );
    check(
        zone,
        "by-host.example",
        &expect![[r"
        by route 1 of the configuration
        site relay.example:587
        0 relay.example 192.0.2.6:587 (name signed)
    "]],
    );
    check(
        zone,
        "to-itself.example",
        &expect![[r"
        451 4.4.6 Mail for to-itself.example would come back to this server
        192.0.2.99:25 is this server
    "]],
    );
    check(
        zone,
        "to-another-port.example",
        &expect![[r"
        by route 3 of the configuration
        site 192.0.2.99:24
        0 - 192.0.2.99:24
    "]],
    );
    check(
        zone,
        "to-nowhere.example",
        &expect![[r"
        451 4.4.4 No server takes mail for to-nowhere.example: nowhere.example does not exist
        nowhere.example does not exist
    "]],
    );
}

/// RFC 7672 §2.2: what is signed of the way to each address.
#[test]
fn tells_what_is_signed() {
    let zone = "a.example MX 10 one.example +\na.example MX 20 two.example +\none.example A 192.0.2.1 +\n\
                one.example AAAA 2001:db8::1 +\ntwo.example A 192.0.2.2 +\ntwo.example AAAA 2001:db8::2\n\
                b.example MX 10 one.example\nby-host.example A 192.0.2.1\nrelay.example A 192.0.2.3 +\n";
    check(
        zone,
        "a.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example [2001:db8::1]:25 (name and address signed)
        10 one.example 192.0.2.1:25 (name and address signed)
        20 two.example [2001:db8::2]:25 (name signed)
        20 two.example 192.0.2.2:25 (name and address signed)
    "]],
    );
    check(
        zone,
        "b.example",
        &expect![[r"
        by MX records
        site one.example
        10 one.example [2001:db8::1]:25 (address signed)
        10 one.example 192.0.2.1:25 (address signed)
    "]],
    );
    check(
        zone,
        "by-host.example",
        &expect![[r"
        by route 1 of the configuration
        site relay.example:587
        0 relay.example 192.0.2.3:587 (name and address signed)
    "]],
    );
}

/// B004: whatever the seed, better ones are in front, and equal ones come in each order.
#[test]
fn draws_lots_among_equal_hosts() {
    let mut zone = String::from("a.example MX 5 first.example\nfirst.example A 192.0.2.1\n");
    for host in ["b", "c", "d"] {
        writeln!(zone, "a.example MX 10 {host}.example\n{host}.example A 192.0.2.2").unwrap();
    }
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let plan = plan_by(seed, settings(), &zone, "a.example").unwrap();
        let hosts: Vec<&str> = plan.hops.iter().filter_map(|hop| hop.host.as_deref()).collect();
        assert_eq!(hosts[0], "first.example");
        assert_eq!(&*plan.site, "first.example");
        seen.insert(hosts.join(" "));
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// Domains by the same best hosts are one site, in whatever order they stand.
#[test]
fn the_best_hosts_are_the_site() {
    let zone = "a.example MX 10 one.example\na.example MX 10 two.example\na.example MX 20 x.example\n\
                b.example MX 1 two.example\nb.example MX 1 one.example\none.example A 192.0.2.1\n\
                two.example A 192.0.2.2\nx.example A 192.0.2.3\n";
    for seed in 0..8 {
        for domain in ["a.example", "b.example"] {
            let plan = plan_by(seed, settings(), zone, domain).unwrap();
            assert_eq!(&*plan.site, "one.example,two.example");
        }
    }
}

#[test]
fn is_bounded_whatever_the_zone_holds() {
    let mut zone = String::new();
    for host in 0..100 {
        writeln!(zone, "a.example MX {host} h{host}.example").unwrap();
        for address in 0..100 {
            writeln!(zone, "h{host}.example A 192.0.2.{address}").unwrap();
        }
    }
    let plan =
        plan_by(1, Settings { is_own: Rc::new(|_| false), ..settings() }, &zone, "a.example");
    let plan = plan.unwrap();
    assert_eq!(plan.hops.len(), MX_HOPS_MAX);
    let first = plan.hops.iter().filter(|hop| hop.preference == 0).count();
    assert_eq!(first, MX_ADDRESSES_MAX);
    let left = format!("{} more hosts are left out", 100 - MX_HOSTS_MAX);
    // This server is found wherever it stands.
    for host in 0..50 {
        writeln!(zone, "b.example MX 7 h{host}.example").unwrap();
    }
    zone.push_str("b.example MX 7 mx.own.example\n");
    let none = plan_by(1, settings(), &zone, "b.example").unwrap_err();
    assert_eq!(none.said.enhanced, Some(Enhanced(4, 6)));
    assert!(none.to_string().len() < 1_024);
    assert!(plan.notes.iter().any(|note| **note == *left), "{:?}", plan.notes);
    assert!(plan.notes.len() <= 2 * MX_HOSTS_MAX);
}

/// That nobody was asked is told from that nobody answered, whatever else is wrong beside it.
#[test]
fn says_what_the_dns_lacks() {
    let zone = "a.example DEAD\nb.example FULL\nc.example MX 1 a.example\nc.example MX 2 b.example\n\
                d.example MX 1 b.example\nd.example MX 2 e.example\ne.example A 192.0.2.1\n\
                f.example MX 1 nowhere.example\ng.example MX 1 a.example\n";
    let trouble = |domain| plan_by(1, settings(), zone, domain).map_err(|no| no.trouble).err();
    for (domain, want) in [
        ("a.example", Some(Some(Trouble::Failed))),
        ("b.example", Some(Some(Trouble::Busy))),
        ("c.example", Some(Some(Trouble::Busy))),
        ("d.example", None),
        ("f.example", Some(None)),
        ("g.example", Some(Some(Trouble::Failed))),
    ] {
        assert_eq!(trouble(domain), want, "{domain}");
    }
}

/// Domains whose servers, or those of whose hosts, fell silent the last time are in doubt.
#[test]
fn doubts_where_nobody_answered_the_last_time() {
    let sim = Sim::new(1, Faults::none());
    let zone = "dead.example DEAD\nwell.example MX 1 one.example\none.example A 192.0.2.1\n\
                half.example MX 1 one.example\nhalf.example MX 2 two.example\ntwo.example DEAD\n";
    let ask = move |kind: Kind, _: Want, name: &str| -> Asked {
        let found = answer(zone, kind, name);
        Box::pin(async move { found })
    };
    let dns = Resolver::new(sim.env(0), Duration::from_secs(5), 1_000, ask);
    let settings = Rc::new(settings());
    let router = Router::new(sim.env(0), &dns, move || Rc::clone(&settings));
    let domains = ["dead.example", "well.example", "half.example", "by-address.example"];
    let doubts = || domains.map(|domain| router.doubts(domain));
    assert_eq!(doubts(), [false; 4]);
    sim.run_until(async {
        for domain in domains {
            drop(router.plan(domain, true).await);
        }
        sim.env(0).sleep(Duration::from_mins(2)).await;
    })
    .unwrap();
    assert_eq!(doubts(), [true, false, true, false]);
}
