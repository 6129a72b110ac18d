//! Where mail for a domain goes, by a real name server (Knot) with a signed root.

use crate::harness::Server;
use crate::knot::Knot;
use expect_test::expect;
use futures_lite::future::block_on;
use pombal::concierge::Concierge;
use pombal::concierge::dns::{Anchors, Dnssec, Kind, Want};
use pombal::env::sim::{Faults, Sim};
use pombal::mta::route::{Router, Settings};
use pombal::{concierge, dns};
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

const SIGNED: &str = "@ MX 20 b\n@ MX 10 a\na A 192.0.2.1\na AAAA 2001:db8::1\nb A 192.0.2.2\n\
    itself A 192.0.2.3\nnull MX 0 .\nempty TXT x\nalias CNAME @\nbad MX 1 c\nbad MX 2 192.0.2.9.\n\
    bad MX 3 nowhere\nbad MX 4 empty\nc CNAME a\nhalf MX 1 c\nhalf MX 2 a\nown MX 1 b\n\
    own MX 2 mx.own.example.\nown MX 3 a\nours MX 1 mx.own.example.\n";
const PLAIN: &str = "@ MX 10 a.signed.\n@ MX 10 a\na A 192.0.2.4\nlost MX 1 a.forged.\n";

/// The way by a name server, as it is explained.
fn way(server: SocketAddr, anchors: &Anchors, domain: &str) -> String {
    let (timeout, concierge) = (Duration::from_secs(20), Concierge::start().unwrap());
    let resolver = concierge::dns::Resolver::new(
        &concierge,
        &[server],
        timeout,
        Dnssec::Auto,
        anchors.clone(),
    );
    let resolver = resolver.unwrap();
    let sim = Sim::new(1, Faults::none());
    let ask = move |kind: Kind, want: Want, name: &str| -> dns::Asked {
        let found = block_on(resolver.ask(kind, want, name).unwrap()).unwrap();
        Box::pin(async move { found })
    };
    let dns = dns::Resolver::new(sim.env(0), timeout, 100, ask);
    let settings = Rc::new(Settings {
        hostname: "mx.own.example".into(),
        port: 25,
        ipv4: true,
        ipv6: true,
        is_own: Rc::new(|_| false),
        route: Rc::new(|_| None),
    });
    let router = Router::new(sim.env(0), &dns, move || Rc::clone(&settings));
    match sim.run_until(async { router.plan(domain, false).await }).unwrap() {
        Ok(plan) => plan.to_string(),
        Err(no) => no.to_string(),
    }
}

/// Each domain, and the way to it.
fn ways(domains: &[&str]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let forged = [("forged.", "@ MX 10 a\na A 192.0.2.5\n")];
    let (signed, plain) = ([("signed.", SIGNED)], [("plain.", PLAIN)]);
    let knot = Knot::with_root(dir.path(), &signed, &plain, &forged)?;
    let anchors = Anchors::parse(&fs::read_to_string(knot.anchors()).unwrap()).unwrap();
    let to = |domain| format!("{domain}\n{}\n", way(knot.address(), &anchors, domain));
    Some(domains.iter().copied().map(to).collect())
}

/// RFC 5321 §5.1, as far as the DNS decides; and RFC 7672 §2.2, what of it is signed.
#[test]
fn mail_goes_where_the_dns_says() {
    let domains = ["signed", "alias.signed", "itself.signed", "half.signed", "own.signed", "plain"];
    let Some(ways) = ways(&domains) else { return };
    expect![[r"
        signed
        by MX records
        site a.signed
        10 a.signed [2001:db8::1]:25 (name and address signed)
        10 a.signed 192.0.2.1:25 (name and address signed)
        20 b.signed 192.0.2.2:25 (name and address signed)

        alias.signed
        by MX records
        site a.signed
        10 a.signed [2001:db8::1]:25 (name and address signed)
        10 a.signed 192.0.2.1:25 (name and address signed)
        20 b.signed 192.0.2.2:25 (name and address signed)

        itself.signed
        to the domain itself, which has no MX records
        site itself.signed
        0 itself.signed 192.0.2.3:25 (name and address signed)

        half.signed
        by MX records
        site a.signed
        2 a.signed [2001:db8::1]:25 (name and address signed)
        2 a.signed 192.0.2.1:25 (name and address signed)
        c.signed (1): is an alias, of a.signed

        own.signed
        by MX records
        site b.signed
        1 b.signed 192.0.2.2:25 (name and address signed)
        mx.own.example, a.signed (2): left out, one is this server

        plain
        by MX records
        site a.plain,a.signed
        10 a.plain 192.0.2.4:25
        10 a.signed [2001:db8::1]:25 (address signed)
        10 a.signed 192.0.2.1:25 (address signed)

    "]]
    .assert_eq(&ways);
}

#[test]
fn mail_that_has_no_way_is_told_why() {
    let domains = [
        "null.signed",
        "nobody.signed",
        "empty.signed",
        "bad.signed",
        "ours.signed",
        "lost.plain",
        "forged",
    ];
    let Some(ways) = ways(&domains) else { return };
    expect![[r"
        null.signed
        556 5.1.10 null.signed takes no mail (null MX)

        nobody.signed
        550 5.1.2 There is no domain nobody.signed

        empty.signed
        550 5.4.4 No server takes mail for empty.signed: empty.signed has no address
        empty.signed has no address

        bad.signed
        550 5.4.4 No server takes mail for bad.signed: 192.0.2.9 (2): is an address, where a name has to be; c.signed (1): is an alias, of a.signed; nowhere.signed (3): does not exist; empty.signed (4): has no address
        192.0.2.9 (2): is an address, where a name has to be
        c.signed (1): is an alias, of a.signed
        nowhere.signed (3): does not exist
        empty.signed (4): has no address

        ours.signed
        554 5.4.6 Mail for ours.signed would come back to this server
        mx.own.example (1): left out, one is this server

        lost.plain
        451 4.4.3 The signatures of a.forged in the DNS do not fit
        a.forged (1): its signatures in the DNS do not fit

        forged
        451 4.4.3 The signatures of forged in the DNS do not fit

    "]].assert_eq(&ways);
}

/// An address of this machine that is not the loopback's.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel chooses the address that would be.
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|own| own.ip()).filter(|own| !own.is_loopback())
}

/// RFC 5321 §5.1: who listens on all addresses of the machine is himself under each of them.
#[test]
fn a_server_that_listens_everywhere_knows_itself() {
    let Some(own) = own_address() else {
        println!("skipped: this machine has no address but the loopback's");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let zone = format!("self MX 10 me\nself MX 20 other\nme A {own}\nother A 203.0.113.9\n");
    let Some(knot) = Knot::with_root(dir.path(), &[], &[("plain.", &zone)], &[]) else { return };
    let mut server = Server::set_up(&format!(
        "[dns]\nservers = [\"{}\"]\ntrust_anchors = \"{}\"\n[queue]\nport = 12345\n",
        knot.address(),
        knot.anchors().display(),
    ));
    let port = server.smtp();
    server.edit("12345", |_| port.to_string());
    server.edit(&format!("smtp = [\"127.0.0.1:{port}"), |_| format!("smtp = [\"0.0.0.0:{port}"));
    server.start();
    let output = server.try_pombal(&["explain", "rcpt", "a@self.plain"], "");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("554 5.4.6") && told.contains("has the address of this server"),
        "{told}"
    );
    server.stop();
}
