//! DANE: which TLSA records are for a server (RFC 7672 §2.2.2, §2.2.3).
//!
//! ```text
//!   addresses of the host ── not proven ─────────────────────────── none is looked for
//!      ├ an alias, proven to its end ── _25._tcp.END, then _25._tcp.HOST
//!      └ no alias ─────────────────────────────────── _25._tcp.HOST
//! ```
//! The first name that has proven ones counts. Whatever cannot be asked makes the server one that cannot
//! be reached: else who keeps the DNS from us would have his way.

use crate::concierge::dns::{Data, Kind, Tlsa};
use crate::dns::{Resolver, Trouble};
use crate::env::Env;
use crate::tls::Association;
use std::fmt;

/// What was found for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dane {
    /// No records that are proven: any certificate will do.
    None,
    /// Records, proven.
    Found(Records),
    /// It cannot be said whether there are any.
    Failed(Trouble),
}

/// The records of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Their base domain: the host's name, or the end of its alias. By it the server is asked for.
    pub base: Box<str>,
    /// As they are written; at least one.
    pub records: Box<[Tlsa]>,
}

impl Records {
    /// Those that can be used; none where TLS is needed and nothing proves anything.
    pub fn usable(&self) -> impl Iterator<Item = Association> {
        self.records.iter().filter_map(|Tlsa { usage, selector, matching, data }| {
            Association::new(*usage, *selector, *matching, data)
        })
    }

    /// Each as it stands in a zone (RFC 6698 §2.2), for reports.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.records.iter().map(|record| Shown(record).to_string())
    }
}

struct Shown<'a>(&'a Tlsa);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tlsa { usage, selector, matching, data } = self.0;
        write!(out, "{usage} {selector} {matching} ")?;
        data.iter().try_for_each(|octet| write!(out, "{octet:02X}"))
    }
}

/// The records of the server `host`, a name in A-labels and lower case, at this port. How the host itself
/// was found is another matter.
pub async fn find<E: Env>(dns: &Resolver<E>, host: &str, port: u16) -> Dane {
    let (alias, is_secure, alias_is_secure) = match addresses(dns, host).await {
        Ok(found) => found,
        Err(trouble) => return Dane::Failed(trouble),
    };
    let mut bases = Vec::new();
    if is_secure {
        bases.extend(alias);
    }
    // An alias that is proven, and leads to where nothing is: its own name may have records.
    if is_secure || alias_is_secure {
        bases.push(host.into());
    }
    for base in bases {
        let found = match dns.prove(Kind::Tlsa, &format!("_{port}._tcp.{base}")).await {
            Ok(found) => found,
            Err(trouble) => return Dane::Failed(trouble),
        };
        let records: Box<[Tlsa]> = found.records.iter().filter_map(record).collect();
        if found.is_secure && !records.is_empty() {
            return Dane::Found(Records { base, records });
        }
    }
    Dane::None
}

fn record(data: &Data) -> Option<Tlsa> {
    match data {
        Data::Tlsa(tlsa) => Some(tlsa.clone()),
        _ => None,
    }
}

/// Where the host's name leads to, whether its addresses are proven, and whether it is that it is an
/// alias.
async fn addresses<E: Env>(
    dns: &Resolver<E>,
    host: &str,
) -> Result<(Option<Box<str>>, bool, bool), Trouble> {
    let mut found = dns.prove(Kind::A, host).await?;
    if found.records.is_empty() {
        found = dns.prove(Kind::Aaaa, host).await?;
    }
    Ok((found.alias.clone(), found.is_secure, found.alias.is_some() && found.alias_is_secure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concierge::dns::{Failed, Found};
    use crate::dns::Asked;
    use crate::env::sim::{Faults, Sim};
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    fn tlsa(usage: u8) -> Tlsa {
        Tlsa { usage, selector: 1, matching: 1, data: vec![usage; 32].into() }
    }

    fn addresses(alias: &str, is_secure: bool, alias_is_secure: bool) -> Found {
        let address = Data::Address([192, 0, 2, 1].into());
        let alias = (!alias.is_empty()).then(|| alias.into());
        let found = Found::plain(vec![address], Duration::from_secs(1));
        Found { alias, alias_is_secure, is_secure, ..found }
    }

    fn records(usages: &[u8], is_secure: bool) -> Found {
        let all = usages.iter().map(|usage| Data::Tlsa(tlsa(*usage))).collect();
        Found { is_secure, ..Found::plain(all, Duration::from_secs(1)) }
    }

    /// What is found where the addresses of mx.example, and the records of two names, are these; and the
    /// names that were asked for records, in their order.
    #[track_caller]
    fn check(
        addresses: Result<Found, Failed>,
        of_end: Result<Found, Failed>,
        of_host: Result<Found, Failed>,
        want: &str,
    ) {
        let sim = Sim::new(1, Faults::none());
        let asked = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&asked);
        let ask = move |kind, _, name: &str| -> Asked {
            let answer = match (kind, name) {
                (Kind::A, "mx.example") => addresses.clone(),
                (Kind::Tlsa, "_25._tcp.end.example") => of_end.clone(),
                (Kind::Tlsa, "_25._tcp.mx.example") => of_host.clone(),
                other => panic!("nobody asks for {other:?}"),
            };
            if kind == Kind::Tlsa {
                noted.borrow_mut().push(name.trim_start_matches("_25._tcp.").to_owned());
            }
            Box::pin(async move { answer })
        };
        let dns = Resolver::new(sim.env(0), Duration::from_secs(5), 100, ask);
        let found = sim.run_until(find(&dns, "mx.example", 25)).unwrap();
        let found = match found {
            Dane::None => "none".to_owned(),
            Dane::Failed(trouble) => format!("{trouble:?}"),
            Dane::Found(found) => format!("{} at {}", found.records.len(), found.base),
        };
        let asked = asked.borrow().join(", ");
        assert_eq!(format!("{found} ({asked})"), want);
    }

    #[test]
    fn looks_where_records_may_be() {
        let none = || Ok(records(&[], true));
        let bogus = || Err(Failed::Bogus);
        let gone = || Err(Failed::Servers("SERVFAIL".into()));
        let plain = || Ok(addresses("", true, false));
        check(plain(), gone(), Ok(records(&[3, 2], true)), "2 at mx.example (mx.example)");
        check(plain(), gone(), none(), "none (mx.example)");
        // RFC 7672 §2.2: those that are not proven are none.
        check(plain(), gone(), Ok(records(&[3], false)), "none (mx.example)");
        check(plain(), gone(), gone(), "Failed (mx.example)");
        check(plain(), gone(), bogus(), "Bogus (mx.example)");
        // RFC 7672 §2.2.2: where the addresses are not proven nobody asks, since many cannot answer.
        check(Ok(addresses("", false, false)), gone(), gone(), "none ()");
        check(bogus(), gone(), gone(), "Bogus ()");
        check(gone(), gone(), gone(), "Failed ()");
        let alias = || Ok(addresses("end.example", true, true));
        check(alias(), Ok(records(&[3], true)), gone(), "1 at end.example (end.example)");
        check(
            alias(),
            none(),
            Ok(records(&[3], true)),
            "1 at mx.example (end.example, mx.example)",
        );
        check(alias(), Ok(records(&[3], false)), none(), "none (end.example, mx.example)");
        check(alias(), gone(), Ok(records(&[3], true)), "Failed (end.example)");
        let broken = || Ok(addresses("end.example", false, true));
        check(broken(), gone(), Ok(records(&[3], true)), "1 at mx.example (mx.example)");
        check(broken(), gone(), gone(), "Failed (mx.example)");
        check(Ok(addresses("end.example", false, false)), gone(), gone(), "none ()");
    }

    #[test]
    fn records_are_written_as_in_a_zone() {
        let records = vec![tlsa(1), tlsa(3)].into();
        let records = Records { base: "mx.example".into(), records };
        let lines: Vec<_> = records.lines().collect();
        assert_eq!(lines[1], format!("3 1 1 {}", "03".repeat(32)));
        assert_eq!(records.usable().count(), 1);
    }
}
