//! Answers held against their signatures, by a real name server (Knot) with a root of its own.

use crate::knot::{Knot, Unbound};
use futures_lite::future::block_on;
use pombal::concierge::Concierge;
use pombal::concierge::dns::{Anchors, Data, Dnssec, Failed, Found, Kind, Resolver, Tlsa, Want};
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

const SIGNED: &str = "@ MX 10 mx\n@ MX 20 mx2.plain.\nmx A 192.0.2.1\nmx AAAA 2001:db8::1\n\
    *.wild MX 5 mx\nalias CNAME @\naway CNAME mx2.plain.\nnull MX 0 .\n\
    old DNAME new\na.new MX 7 mx\ntext TXT \"one\" \" and two\"\n_25._tcp.mx TLSA 3 1 1 00112233445566778899aabbccddeeff\
    00112233445566778899aabbccddeeff\n";
const PLAIN: &str = "@ MX 10 mx2\nmx2 A 192.0.2.2\nhome CNAME mx.signed.\nring CNAME round\n\
    round CNAME ring\nlost CNAME nowhere.signed.\n";

struct Asker {
    knot: Knot,
    concierge: Concierge,
}

impl Asker {
    fn resolver(&self, dnssec: Dnssec, anchors: Anchors) -> Resolver {
        let timeout = Duration::from_secs(20);
        let servers = [self.knot.address()];
        Resolver::new(&self.concierge, &servers, timeout, dnssec, anchors).unwrap()
    }

    fn own(&self) -> Anchors {
        Anchors::parse(&fs::read_to_string(self.knot.anchors()).unwrap()).unwrap()
    }
}

fn start(dir: &std::path::Path) -> Option<Asker> {
    let (signed, plain) = ([("signed.", SIGNED), ("signed3.", SIGNED)], [("plain.", PLAIN)]);
    let knot = Knot::with_root(dir, &signed, &plain, &[("forged.", SIGNED)])?;
    Some(Asker { knot, concierge: Concierge::start().unwrap() })
}

fn ask(resolver: &Resolver, kind: Kind, want: Want, name: &str) -> Result<Found, Failed> {
    block_on(resolver.ask(kind, want, name).unwrap()).unwrap()
}

fn mx(preference: u16, host: &str) -> Data {
    Data::Mx(preference, host.into())
}

/// What is signed is secure, through aliases as long as all of them are; what is not signed counts as
/// ever; what is signed by somebody else is no answer.
#[test]
fn answers_are_as_good_as_their_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let Some(asker) = start(dir.path()) else { return };
    for dnssec in [Dnssec::Auto, Dnssec::Require] {
        let resolver = asker.resolver(dnssec, asker.own());
        let prove = |kind, name: &str| ask(&resolver, kind, Want::Proven, name);
        let both = [mx(10, "mx.signed"), mx(20, "mx2.plain")];
        let found = prove(Kind::Mx, "signed").unwrap();
        assert!(found.is_secure && found.exists && found.alias.is_none());
        assert_eq!(found.ttl, Duration::from_mins(1));
        assert!(found.records.len() == 2 && both.iter().all(|one| found.records.contains(one)));
        let found = prove(Kind::Mx, "alias.signed").unwrap();
        assert!(found.is_secure && found.records.len() == 2);
        assert_eq!(found.alias.as_deref(), Some("signed"));
        for name in ["any.wild.signed", "even.this.wild.signed"] {
            let found = prove(Kind::Mx, name).unwrap();
            assert!(found.is_secure && found.records == [mx(5, "mx.signed")], "{name}");
            let found = prove(Kind::Mx, &format!("{name}3")).unwrap();
            assert!(found.is_secure && found.records == [mx(5, "mx.signed3")], "{name}3");
            let none = prove(Kind::Txt, name).unwrap();
            assert!(none.is_secure && none.exists && none.records.is_empty(), "{name}: {none:?}");
        }
        let found = prove(Kind::Mx, "null.signed").unwrap();
        assert!(found.is_secure && found.records == [mx(0, "")]);
        let found = prove(Kind::Txt, "text.signed").unwrap();
        assert!(found.is_secure);
        assert_eq!(found.records, [Data::Text(b"one and two".as_slice().into())]);
        let tlsa = prove(Kind::Tlsa, "_25._tcp.mx.signed").unwrap();
        assert!(tlsa.is_secure);
        let [Data::Tlsa(Tlsa { usage: 3, selector: 1, matching: 1, data })] = &*tlsa.records else {
            panic!("{tlsa:?}");
        };
        assert_eq!(data.len(), 32);
        // Nothing there, proven.
        let none = prove(Kind::Tlsa, "mx.signed").unwrap();
        assert!(none.is_secure && none.exists && none.records.is_empty(), "{none:?}");
        for name in ["nobody.signed", "nobody.signed3"] {
            let none = prove(Kind::Mx, name).unwrap();
            assert!(none.is_secure && !none.exists && none.records.is_empty(), "{none:?}");
        }
        // Not signed, in whole or in part.
        let found = prove(Kind::Mx, "plain").unwrap();
        assert!(!found.is_secure && found.records == [mx(10, "mx2.plain")]);
        for (name, count) in [("home.plain", 1), ("away.signed", 1)] {
            let found = prove(Kind::A, name).unwrap();
            assert!(!found.is_secure && found.records.len() == count, "{name}: {found:?}");
            assert!(found.alias.is_some(), "{name}: {found:?}");
        }
        let none = prove(Kind::Mx, "nobody.plain").unwrap();
        assert!(!none.is_secure && !none.exists, "{none:?}");
        // Signed, but not by whom the root says.
        for (kind, name) in [(Kind::Mx, "forged"), (Kind::A, "mx.forged"), (Kind::A, "no.forged")] {
            assert_eq!(prove(kind, name), Err(Failed::Bogus), "{name}");
        }
        assert!(ask(&resolver, Kind::Mx, Want::Plain, "forged").is_ok());
    }
}

/// Servers that bring no signature that begins at the root leave everything as it was, except where
/// the operator wants more.
#[test]
fn servers_without_signatures_answer_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let Some(asker) = start(dir.path()) else { return };
    // By the root that is built in, the one that Knot serves is none.
    let auto = asker.resolver(Dnssec::Auto, Anchors::default());
    for name in ["signed", "plain", "forged"] {
        let found = ask(&auto, Kind::Mx, Want::Proven, name).unwrap();
        assert!(!found.is_secure && !found.records.is_empty(), "{name}: {found:?}");
    }
    let strict = asker.resolver(Dnssec::Require, Anchors::default());
    for name in ["signed", "plain", "forged"] {
        assert_eq!(ask(&strict, Kind::Mx, Want::Proven, name), Err(Failed::Bogus), "{name}");
        assert!(ask(&strict, Kind::Mx, Want::Plain, name).is_ok());
    }
    let off = asker.resolver(Dnssec::Off, asker.own());
    assert!(!ask(&off, Kind::Mx, Want::Proven, "signed").unwrap().is_secure);
}

/// A server that validates is believed where it knows more: its answer counts, if not as secure.
#[test]
fn a_server_that_validates_holds_up_no_mail() {
    let dir = tempfile::tempdir().unwrap();
    let Some(asker) = start(dir.path()) else { return };
    let Some(unbound) = Unbound::start(&asker.knot) else { return };
    let timeout = Duration::from_secs(20);
    for dnssec in [Dnssec::Auto, Dnssec::Require] {
        let (concierge, servers) = (&asker.concierge, [unbound.address()]);
        let own = asker.own();
        let resolver = Resolver::new(concierge, &servers, timeout, dnssec, own).unwrap();
        let prove = |name: &str| ask(&resolver, Kind::Mx, Want::Proven, name);
        assert!(prove("signed").unwrap().is_secure);
        assert!(prove("any.wild.signed").unwrap().is_secure);
        assert!(!prove("plain").unwrap().is_secure);
        assert!(matches!(prove("forged"), Err(Failed::Servers(_) | Failed::Bogus)));
        let renamed = prove("a.old.signed");
        if dnssec == Dnssec::Require {
            assert_eq!(renamed, Err(Failed::Bogus));
        } else {
            let found = renamed.unwrap();
            assert!(!found.is_secure && found.records == [mx(7, "mx.signed")], "{found:?}");
        }
    }
}

/// No such name, no such record, and no name at all are told apart; circles end.
#[test]
fn what_is_not_there_is_told_from_what_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let Some(asker) = start(dir.path()) else { return };
    let resolver = asker.resolver(Dnssec::Auto, asker.own());
    for want in [Want::Plain, Want::Proven] {
        let found = |kind, name: &str| ask(&resolver, kind, want, name).unwrap();
        let none = found(Kind::Aaaa, "mx2.plain");
        assert!(none.exists && none.records.is_empty() && none.ttl == Duration::from_mins(1));
        assert!(!found(Kind::Mx, "nobody.plain").exists);
        assert!(!found(Kind::Mx, "lost.plain").exists);
        assert!(!found(Kind::Mx, &format!("{}.plain", "a".repeat(64))).exists);
        assert!(!found(Kind::Mx, "a..plain").exists);
        match ask(&resolver, Kind::Mx, want, "ring.plain") {
            Ok(ring) => assert!(ring.records.is_empty()),
            Err(failed) => assert!(matches!(failed, Failed::Servers(_))),
        }
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = [silent.local_addr().unwrap()];
    let (timeout, anchors) = (Duration::from_millis(300), Anchors::default());
    let dead = Resolver::new(&asker.concierge, &servers, timeout, Dnssec::Auto, anchors).unwrap();
    for want in [Want::Plain, Want::Proven] {
        let failed = ask(&dead, Kind::Mx, want, "signed");
        assert!(matches!(failed, Err(Failed::Servers(_))), "{failed:?}");
    }
}
