//! How a server is approached: what it has to prove before a message is given to it, and what is made of
//! what came of that.
//!
//! A connection is made for one message, by what its domain and its servers published, what the operator
//! set, and what its sender asked for. Another message may go over it only if that asks for no more.

use super::Relay;
use super::settings::Settings;
use crate::env::Env;
use crate::mta::dane::Dane;
use crate::mta::peers::Peers;
use crate::mta::route::{Hop, Plan, Way};
use crate::mta::session::{Failed, Session};
use crate::mta::tls_policy::{self, Basis, Server, Skip, Source, Wanted};
use crate::mta::tls_report::{Ends, Outcome, of_failure, of_session, of_skip};
use crate::proto::smtp::client::Kind;
use crate::queue::outgoing::{Entry, Envelope, Flags};
use crate::tls::Demand;
use crate::wire::sts_policy::Policy;
use std::net::IpAddr;
use std::sync::Arc;

/// What is asked of one server.
pub(super) struct Asked {
    pub(super) demand: Demand,
    /// The name that it is asked for by.
    pub(super) host: Option<Box<str>>,
    dane: Dane,
    policy: Option<Arc<Policy>>,
    by: By,
}

/// Which server was called, and for what.
#[derive(Clone, Copy)]
pub(super) struct Called<'c> {
    pub(super) domain: &'c str,
    pub(super) plan: &'c Plan,
    pub(super) hop: &'c Hop,
    pub(super) wanted: Wanted,
}

/// What published it.
#[derive(Clone, Copy)]
enum By {
    Nobody,
    Dane,
    Policy,
}

/// A server that is not called, and whose policy that was by.
pub(super) struct Skipped {
    pub(super) skip: Skip,
    policy: Option<Arc<Policy>>,
}

impl Asked {
    fn basis(&self) -> Basis<'_> {
        match (self.by, &self.dane, &self.policy) {
            (By::Dane, Dane::Found(records), _) => Basis::Dane(records),
            (By::Policy, _, Some(policy)) => Basis::Sts(policy),
            _ => Basis::Nothing,
        }
    }
}

impl Settings {
    /// What a message wants of servers that are found this way.
    pub(super) fn wanted(&self, way: Way, entry: &Entry, envelope: &Envelope) -> Wanted {
        let route = match way {
            Way::Route(number) => self.routes.get(number).and_then(|route| route.tls),
            Way::Literal | Way::Mx | Way::Itself => None,
        };
        Wanted {
            level: route.unwrap_or(self.tls),
            // A report goes its way in any case (RFC 8689 §5).
            require_tls: entry.flags.has(Flags::REQUIRE_TLS) && envelope.sender.is_some(),
            tls_optional: entry.flags.has(Flags::TLS_OPTIONAL),
        }
    }

    fn is_lmtp(&self, way: Way) -> bool {
        matches!(way, Way::Route(number) if self.routes.get(number).is_some_and(|route| route.lmtp))
    }
}

/// The domain whose policy counts: of a route its host (RFC 8461 §3.4).
fn policy_domain<'d>(domain: &'d str, plan: &'d Plan) -> Option<&'d str> {
    match plan.way {
        Way::Mx | Way::Itself => Some(domain),
        Way::Route(_) => plan.hops.iter().find_map(|hop| hop.host.as_deref()),
        Way::Literal => None,
    }
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// The policy that a domain published, as far as it is about its servers.
    pub(super) async fn policy(&self, domain: &str, plan: &Plan) -> Option<Arc<Policy>> {
        if self.shared.host.settings().is_lmtp(plan.way) {
            return None;
        }
        self.shared.published.policy(policy_domain(domain, plan)?).await
    }

    /// What a server has to prove for a message; or that it cannot.
    pub(super) async fn asked(
        &self,
        domain: &str,
        plan: &Plan,
        policy: Option<Arc<Policy>>,
        hop: &Hop,
        wanted: Wanted,
    ) -> Result<Asked, Skipped> {
        let source = match plan.way {
            Way::Route(_) => Source::Route,
            Way::Itself | Way::Literal => Source::Itself,
            Way::Mx => Source::Mx { is_secure: hop.secure.name },
        };
        let host = hop.host.as_deref();
        let dane = if self.shared.host.settings().is_lmtp(plan.way) {
            Dane::None
        } else {
            self.shared.published.dane(host, hop.address.port()).await
        };
        let domain = policy_domain(domain, plan).unwrap_or(domain);
        let address = hop.address.ip();
        let server =
            Server { domain, host, address, source, dane: &dane, policy: policy.as_deref() };
        match tls_policy::decide(server, wanted) {
            Err(skip) => Err(Skipped { skip, policy }),
            Ok(terms) => {
                let by = match terms.basis {
                    Basis::Nothing => By::Nobody,
                    Basis::Dane(_) => By::Dane,
                    Basis::Sts(_) => By::Policy,
                };
                let (demand, host) = (terms.demand, terms.host.map(Into::into));
                Ok(Asked { demand, host, dane, policy, by })
            }
        }
    }

    /// Counts what came of a call, for the report to whose policy counts; what is not about TLS is not
    /// counted, nor what is to arrive in any case, reports among it (RFC 8460 §3).
    pub(super) async fn count_call(
        &self,
        call: Called<'_>,
        asked: &Asked,
        came: Result<&Session<E>, &Failed>,
    ) {
        let (sender, outcome) = match came {
            Ok(session) => {
                let basis = asked.basis();
                let outcome = match session.unencrypted() {
                    Some(failure) => of_failure(failure),
                    None => Some(of_session(session.facts().map(|facts| &**facts), basis)),
                };
                (Some(session.local().ip()), outcome)
            }
            Err(Failed { tls: Some(failure), .. }) => (None, of_failure(failure)),
            Err(failed) if failed.trouble.kind == Kind::NotOffered => {
                (None, Some(of_session(None, asked.basis())))
            }
            Err(_) => (None, None),
        };
        if let Some(outcome) = outcome {
            self.count_outcome(call, asked.basis(), sender, outcome).await;
        }
    }

    /// The same of a server that was not called.
    pub(super) async fn count_skip(&self, call: Called<'_>, skipped: &Skipped) {
        if let Some(outcome) = of_skip(skipped.skip) {
            let basis = skipped.policy.as_deref().map_or(Basis::Nothing, Basis::Sts);
            self.count_outcome(call, basis, None, outcome).await;
        }
    }

    async fn count_outcome(
        &self,
        Called { domain, plan, hop, wanted }: Called<'_>,
        basis: Basis<'_>,
        sender: Option<IpAddr>,
        outcome: Outcome,
    ) {
        let Some(domain) = policy_domain(domain, plan).filter(|_| !wanted.tls_optional) else {
            return;
        };
        let receiver = Some(hop.address.ip());
        let ends = Ends { sender, host: hop.host.as_deref(), hello: None, receiver };
        self.shared.published.count(domain, basis, ends, outcome).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mta::route::Secure;

    /// RFC 8461 §3.4: of a smart host its own domain, of an address none, and never that of a parent.
    #[test]
    fn the_policy_that_counts_is_that_of_the_next_host() {
        let plan = |way, host: Option<&str>| Plan {
            way,
            hops: vec![Hop {
                host: host.map(Into::into),
                address: ([192, 0, 2, 1], 25).into(),
                preference: 0,
                secure: Secure::default(),
            }],
            site: "site".into(),
            notes: Vec::new(),
        };
        let check = |way, host, want| {
            assert_eq!(policy_domain("a.b.example", &plan(way, host)), want, "{way:?} {host:?}");
        };
        check(Way::Mx, Some("mx.c.example"), Some("a.b.example"));
        check(Way::Itself, Some("a.b.example"), Some("a.b.example"));
        check(Way::Route(0), Some("smart.example"), Some("smart.example"));
        check(Way::Route(0), None, None);
        check(Way::Literal, None, None);
    }
}
