//! What a server has to prove before a message is given to it: what the operator set, what its domain
//! published, and what the sender asked for, as one demand.
//!
//! ```text
//!   route             tls = none / may / encrypt / verify         the least that is asked
//!   DANE              records that are proven (RFC 7672)          a proof by them; none by MTA-STS then
//!   MTA-STS           a policy (RFC 8461)                         named in it, and a proof by authorities
//!   REQUIRETLS        the message (RFC 8689)                      a proof, and a name that is proven
//!   TLS-Required: No  the message                                 what domains published stops nothing
//! ```
//! All of it is a function of what is known; nothing is asked here.

use super::dane::{Dane, Records};
use crate::model::reply::Said;
use crate::tls::{Demand, Level};
use crate::wire::sts_policy::{Mode, Policy};
use std::net::IpAddr;

/// How the name of a server came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator set it.
    Route,
    /// The domain is the server's name: it has no MX records.
    Itself,
    /// An MX record names it, which may be proven by DNSSEC.
    Mx { is_secure: bool },
}

/// What is known of a server that is to be called.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The domain that mail is for, or the host of the route.
    pub domain: &'a str,
    /// Its name, in A-labels and lower case; `None` where the address is all there is.
    pub host: Option<&'a str>,
    pub address: IpAddr,
    pub source: Source,
    pub dane: &'a Dane,
    /// The policy that the domain has (`mta/sts`).
    pub policy: Option<&'a Policy>,
}

/// What the operator and the sender want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the route.
    pub level: Level,
    /// The message was given with REQUIRETLS (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// The message says `TLS-Required: No` (RFC 8689 §4.2.2), or is a report on TLS (RFC 8460 §3); counts
    /// for nothing beside REQUIRETLS.
    pub tls_optional: bool,
}

/// What the demand comes from, for reports (RFC 8460 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis<'a> {
    /// Nothing that the domain published.
    Nothing,
    Dane(&'a Records),
    Sts(&'a Policy),
}

/// How to call a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    pub demand: Demand,
    /// The name that it is asked for by; none where there is no name.
    pub host: Option<&'a str>,
    pub basis: Basis<'a>,
}

/// Why a server is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Whether it has TLSA records cannot be said (RFC 7672 §2.1.2).
    Unknown,
    /// Its domain's policy does not name it (RFC 8461 §4.1).
    NotInPolicy,
    /// REQUIRETLS, and its name is not proven, or it has none.
    Unproven,
    /// REQUIRETLS, and the operator wants no TLS.
    NoTls,
}

impl Skip {
    /// It is not the server that is in the way but what this message asks for.
    pub fn is_about_message(self) -> bool {
        matches!(self, Skip::Unproven | Skip::NoTls)
    }

    /// In words for the sender and the operator.
    pub fn said(self) -> Said {
        match self {
            Skip::Unknown => Said::ours(451, 4, 3, "its TLSA records cannot be looked up"),
            Skip::NotInPolicy => Said::ours(451, 7, 0, "the MTA-STS policy does not name it"),
            Skip::Unproven => Said::ours(550, 7, 10, "REQUIRETLS: its name is not proven"),
            Skip::NoTls => Said::ours(550, 7, 10, "REQUIRETLS: the route is without TLS"),
        }
    }
}

/// Decides on one server.
pub fn decide(server: Server<'_>, wanted: Wanted) -> Result<Terms<'_>, Skip> {
    let Wanted { level, require_tls, tls_optional } = wanted;
    if level == Level::None {
        let terms = Terms { demand: Demand::NONE, host: server.host, basis: Basis::Nothing };
        return if require_tls { Err(Skip::NoTls) } else { Ok(terms) };
    }
    let is_lenient = tls_optional && !require_tls;
    if require_tls && !server.is_name_proven() {
        return Err(Skip::Unproven);
    }
    let published = server.published(is_lenient)?;
    let floor = match level {
        Level::None | Level::May => Demand::MAY,
        Level::Encrypt => Demand::ENCRYPT,
        Level::Prove => Demand::verify([server.name()]),
    };
    let floor = if require_tls { Demand::verify([server.name()]) } else { floor };
    let Terms { demand, host, basis } = published;
    let demand = if demand.level() >= floor.level() {
        demand
    } else if floor.level() < Level::Prove {
        // What is looked at is told all the same.
        demand.at_least(floor.level())
    } else {
        floor
    };
    Ok(Terms { demand, host, basis })
}

impl<'a> Server<'a> {
    /// What its certificate should be for.
    fn name(&self) -> String {
        self.host.map_or_else(|| self.address.to_string(), str::to_owned)
    }

    /// RFC 8689 §4.2.1: by DNSSEC, or by a policy that names it.
    fn is_name_proven(&self) -> bool {
        let is_named = || self.policy.zip(self.host).is_some_and(|(of, host)| of.is_for(host));
        match self.source {
            Source::Route => true,
            Source::Itself => self.host.is_some(),
            Source::Mx { is_secure } => self.host.is_some() && (is_secure || is_named()),
        }
    }

    /// What its domain asks for; what fails is no reason for anything where it `is_lenient`.
    fn published(self, is_lenient: bool) -> Result<Terms<'a>, Skip> {
        let policy = self.policy.filter(|policy| policy.mode != Mode::None);
        if let Some(policy) = policy {
            let is_named = self.host.is_some_and(|host| policy.is_for(host));
            // Also where records would prove it: a policy does not say less beside them.
            if policy.mode == Mode::Enforce && !is_named && !is_lenient {
                return Err(Skip::NotInPolicy);
            }
        }
        let lenient = |demand: Demand| if is_lenient { demand.leniently() } else { demand };
        match self.dane {
            Dane::Failed(_) if !is_lenient => return Err(Skip::Unknown),
            Dane::Found(records) => {
                let (base, usable) = (&*records.base, records.usable().collect::<Vec<_>>());
                // RFC 7672 §3.2.2: the domain counts where it is proven that it led here.
                let second =
                    (self.source != Source::Mx { is_secure: false }).then_some(self.domain);
                let names = [base].into_iter().chain(second.filter(|second| *second != base));
                if !usable.is_empty() {
                    let demand = lenient(Demand::dane(usable, names));
                    return Ok(Terms { demand, host: Some(base), basis: Basis::Dane(records) });
                }
                // RFC 7672 §2.2: TLS is promised, and with whom is not said.
                if policy.is_none_or(|policy| policy.mode != Mode::Enforce) {
                    let demand = lenient(Demand::ENCRYPT);
                    return Ok(Terms { demand, host: Some(base), basis: Basis::Dane(records) });
                }
            }
            Dane::None | Dane::Failed(_) => {}
        }
        let Some(policy) = policy else {
            return Ok(Terms { demand: Demand::MAY, host: self.host, basis: Basis::Nothing });
        };
        let demand = Demand::verify([self.name()]);
        let demand =
            if policy.mode == Mode::Testing { demand.leniently() } else { lenient(demand) };
        Ok(Terms { demand, host: self.host, basis: Basis::Sts(policy) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concierge::dns::Tlsa;
    use crate::dns::Trouble;
    use std::net::Ipv4Addr;

    const HOST: &str = "mx.a.example";
    const OPEN: Wanted = Wanted { level: Level::May, require_tls: false, tls_optional: false };
    const REQUIRED: Wanted = Wanted { require_tls: true, ..OPEN };
    const OPTIONAL: Wanted = Wanted { tls_optional: true, ..OPEN };
    const PROVEN: Source = Source::Mx { is_secure: true };
    const TOLD: Source = Source::Mx { is_secure: false };

    fn records_of(usages: &[u8]) -> Records {
        let of =
            |usage: &u8| Tlsa { usage: *usage, selector: 1, matching: 1, data: [7; 32].into() };
        Records { base: HOST.into(), records: usages.iter().map(of).collect() }
    }

    fn records(usages: &[u8]) -> Dane {
        Dane::Found(records_of(usages))
    }

    fn policy(mode: &str, mx: &str) -> Policy {
        let text = format!("version: STSv1\nmode: {mode}\nmax_age: 1\nmx: {mx}");
        Policy::parse(text.as_bytes()).unwrap()
    }

    fn association() -> crate::tls::Association {
        crate::tls::Association::new(3, 1, 1, &[7; 32]).unwrap()
    }

    #[track_caller]
    fn check(
        (source, dane, policy): (Source, &Dane, Option<&Policy>),
        wanted: Wanted,
        want: &Result<Demand, Skip>,
    ) {
        let (domain, host, address) = ("a.example", Some(HOST), Ipv4Addr::LOCALHOST.into());
        let server = Server { domain, host, address, source, dane, policy };
        let found = decide(server, wanted).map(|terms| {
            assert_eq!(terms.host, host);
            terms.demand
        });
        assert_eq!(&found, want);
    }

    fn by_dane(names: &[&'static str]) -> Demand {
        Demand::dane([association()], names.iter().copied())
    }

    fn by_authority() -> Demand {
        Demand::verify([HOST])
    }

    /// RFC 7672 §2.2, its four cases.
    #[test]
    fn records_that_are_proven_have_to_be_met() {
        let both: &[&'static str] = &[HOST, "a.example"];
        check((PROVEN, &Dane::None, None), OPEN, &Ok(Demand::MAY));
        check((PROVEN, &records(&[3]), None), OPEN, &Ok(by_dane(both)));
        check((PROVEN, &records(&[0, 3, 1]), None), OPEN, &Ok(by_dane(both)));
        check((PROVEN, &records(&[0, 1]), None), OPEN, &Ok(Demand::ENCRYPT));
        for trouble in [Trouble::Failed, Trouble::Bogus, Trouble::Busy] {
            check((PROVEN, &Dane::Failed(trouble), None), OPEN, &Err(Skip::Unknown));
        }
        // RFC 7672 §3.2.2: a host that somebody may have named who is not the domain is not the domain.
        check((TOLD, &records(&[3]), None), OPEN, &Ok(by_dane(&[HOST])));
        check((Source::Itself, &records(&[3]), None), OPEN, &Ok(by_dane(both)));
    }

    #[test]
    fn a_policy_that_is_enforced_names_its_servers_and_wants_a_proof() {
        let named = policy("enforce", "*.a.example");
        check((TOLD, &Dane::None, Some(&named)), OPEN, &Ok(by_authority()));
        let other = policy("enforce", "mx.b.example");
        check((TOLD, &Dane::None, Some(&other)), OPEN, &Err(Skip::NotInPolicy));
        for mx in [HOST, "mx.b.example"] {
            let testing = policy("testing", mx);
            check((TOLD, &Dane::None, Some(&testing)), OPEN, &Ok(by_authority().leniently()));
        }
        check((TOLD, &Dane::None, Some(&policy("none", "mx.b.example"))), OPEN, &Ok(Demand::MAY));
    }

    /// RFC 8461 §2: who does not meet the records is not saved by a policy, nor who does by its absence.
    #[test]
    fn a_policy_takes_nothing_from_records() {
        let both: &[&'static str] = &[HOST, "a.example"];
        for mode in ["enforce", "testing"] {
            let policy = policy(mode, HOST);
            check((PROVEN, &records(&[3]), Some(&policy)), OPEN, &Ok(by_dane(both)));
            check(
                (PROVEN, &Dane::Failed(Trouble::Bogus), Some(&policy)),
                OPEN,
                &Err(Skip::Unknown),
            );
        }
        check((PROVEN, &records(&[1]), Some(&policy("enforce", HOST))), OPEN, &Ok(by_authority()));
        check((PROVEN, &records(&[1]), Some(&policy("testing", HOST))), OPEN, &Ok(Demand::ENCRYPT));
        let other = policy("enforce", "mx.b.example");
        check((PROVEN, &records(&[3]), Some(&other)), OPEN, &Err(Skip::NotInPolicy));
    }

    #[test]
    fn the_operator_may_ask_for_more_and_for_nothing() {
        let at = |level| Wanted { level, ..OPEN };
        let both: &[&'static str] = &[HOST, "a.example"];
        check((PROVEN, &Dane::None, None), at(Level::Encrypt), &Ok(Demand::ENCRYPT));
        check((PROVEN, &Dane::None, None), at(Level::Prove), &Ok(by_authority()));
        check((PROVEN, &records(&[1]), None), at(Level::Prove), &Ok(by_authority()));
        check((PROVEN, &records(&[3]), None), at(Level::Prove), &Ok(by_dane(both)));
        check((PROVEN, &records(&[3]), None), at(Level::Encrypt), &Ok(by_dane(both)));
        let testing = policy("testing", HOST);
        check((PROVEN, &Dane::None, Some(&testing)), at(Level::Prove), &Ok(by_authority()));
        let told = by_authority().leniently().at_least(Level::Encrypt);
        check((PROVEN, &Dane::None, Some(&testing)), at(Level::Encrypt), &Ok(told));
        let enforced = policy("enforce", "mx.b.example");
        check((PROVEN, &records(&[3]), Some(&enforced)), at(Level::None), &Ok(Demand::NONE));
    }

    /// RFC 8689 §4.2.1.
    #[test]
    fn a_message_that_requires_tls_goes_to_who_is_proven() {
        let named = policy("testing", HOST);
        check((PROVEN, &Dane::None, None), REQUIRED, &Ok(by_authority()));
        check((TOLD, &Dane::None, None), REQUIRED, &Err(Skip::Unproven));
        check((TOLD, &records(&[3]), None), REQUIRED, &Err(Skip::Unproven));
        check((TOLD, &Dane::None, Some(&named)), REQUIRED, &Ok(by_authority()));
        check(
            (TOLD, &Dane::None, Some(&policy("testing", "b.example"))),
            REQUIRED,
            &Err(Skip::Unproven),
        );
        check((PROVEN, &records(&[1]), None), REQUIRED, &Ok(by_authority()));
        let both: &[&'static str] = &[HOST, "a.example"];
        check((PROVEN, &records(&[3]), None), REQUIRED, &Ok(by_dane(both)));
        check((Source::Route, &Dane::None, None), REQUIRED, &Ok(by_authority()));
        let none = Wanted { level: Level::None, ..REQUIRED };
        check((Source::Route, &Dane::None, None), none, &Err(Skip::NoTls));
        // It says both: the header field counts for nothing (§4.1).
        let both = Wanted { tls_optional: true, ..REQUIRED };
        check((TOLD, &Dane::None, None), both, &Err(Skip::Unproven));
    }

    /// RFC 8689 §4.2.2: what domains published is followed as far as it goes.
    #[test]
    fn a_message_that_is_to_arrive_is_held_up_by_no_policy() {
        let both: &[&'static str] = &[HOST, "a.example"];
        check((PROVEN, &records(&[3]), None), OPTIONAL, &Ok(by_dane(both).leniently()));
        check((PROVEN, &records(&[1]), None), OPTIONAL, &Ok(Demand::MAY));
        check((PROVEN, &Dane::Failed(Trouble::Bogus), None), OPTIONAL, &Ok(Demand::MAY));
        for mx in [HOST, "mx.b.example"] {
            let enforced = policy("enforce", mx);
            check((TOLD, &Dane::None, Some(&enforced)), OPTIONAL, &Ok(by_authority().leniently()));
        }
        // The operator's word is no policy of others.
        let at = |level| Wanted { level, ..OPTIONAL };
        check((PROVEN, &records(&[3]), None), at(Level::Prove), &Ok(by_authority()));
        let told = by_dane(both).leniently().at_least(Level::Encrypt);
        check((PROVEN, &records(&[3]), None), at(Level::Encrypt), &Ok(told));
    }

    /// RFC 7672 §8.1, §3.2.2: where the name of the host is an alias, and its records are at the name that
    /// it leads to, that one is asked for and has to be in the certificate.
    #[test]
    fn the_name_that_is_asked_for_is_the_one_that_has_the_records() {
        let found = Records { base: "end.example".into(), ..records_of(&[2]) };
        let address = Ipv4Addr::LOCALHOST.into();
        let dane = Dane::Found(found);
        let (domain, host) = ("a.example", Some(HOST));
        let server = Server { domain, host, address, source: PROVEN, dane: &dane, policy: None };
        let terms = decide(server, OPEN).unwrap();
        let anchor = crate::tls::Association::new(2, 1, 1, &[7; 32]).unwrap();
        assert_eq!(terms.demand, Demand::dane([anchor], ["end.example", "a.example"]));
        assert_eq!(terms.host, Some("end.example"));
    }

    #[test]
    fn an_address_without_a_name_proves_itself_by_the_address() {
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        let (domain, host, source) = ("[192.0.2.1]", None, Source::Itself);
        let server = Server { domain, host, address, source, dane: &Dane::None, policy: None };
        let terms = decide(server, Wanted { level: Level::Prove, ..OPEN }).unwrap();
        assert_eq!((terms.demand, terms.host), (Demand::verify(["192.0.2.1"]), None));
        assert_eq!(decide(server, REQUIRED), Err(Skip::Unproven));
    }
}
