//! What domains and servers publish about TLS, looked up where a server is about to be called, and what
//! came of the call, counted for those who want to know.
//!
//! ```text
//!   Published::policy(domain) ─┐
//!   Published::dane(host) ─────┴─> tls_policy::decide ─> mta/session ─> Published::count
//! ```

use super::dane::{self, Dane};
use super::sts::{Applied, Policies};
use super::tls_policy::Basis;
use super::tls_report::{Ends, Outcome, Tally, wanted};
use crate::dns::{Asker, Resolver};
use crate::env::Env;
use crate::wire::sts_policy::Policy;
use std::sync::Arc;

/// What all shards share; the default looks at nothing and counts nothing.
#[derive(Clone, Default)]
pub struct Known {
    /// Whether TLSA records are looked for.
    pub dane: bool,
    /// Policies of MTA-STS, where they are heeded.
    pub policies: Option<Policies>,
    /// What is counted, where reports are sent.
    pub tally: Option<Tally>,
}

/// One shard's.
pub struct Published<E: Env> {
    env: E,
    dns: Resolver<E>,
    known: Known,
}

impl<E: Env> Published<E> {
    pub fn new(env: E, dns: &Resolver<E>, known: Known) -> Published<E> {
        Published { env, dns: dns.asked_by(Asker::Published), known }
    }

    /// The policy of a domain, or of the host of a route (RFC 8461 §3.4), in A-labels and lower case. May
    /// take as long as its file may take to be fetched. A literal has none.
    pub async fn policy(&self, domain: &str) -> Option<Arc<Policy>> {
        let policies = self.known.policies.as_ref().filter(|_| !domain.starts_with('['))?;
        let Applied { policy, trouble } = policies.applied(&self.env, &self.dns, domain).await;
        if let (Some(trouble), Some(tally)) = (&trouble, self.tally_for(domain).await) {
            tally.count_trouble(self.env.wall(), domain, policy.as_deref(), trouble);
        }
        policy
    }

    /// The TLSA records of a server at this port; none where it has no name.
    pub async fn dane(&self, host: Option<&str>, port: u16) -> Dane {
        match host.filter(|_| self.known.dane) {
            Some(host) => dane::find(&self.dns, host, port).await,
            None => Dane::None,
        }
    }

    /// Counts what came of a call, where its domain wants reports (RFC 8460).
    pub async fn count(&self, domain: &str, basis: Basis<'_>, ends: Ends<'_>, outcome: Outcome) {
        if let Some(tally) = self.tally_for(domain).await {
            tally.count(self.env.wall(), domain, basis, ends, outcome);
        }
    }

    async fn tally_for(&self, domain: &str) -> Option<&Tally> {
        let tally = self.known.tally.as_ref().filter(|_| !domain.starts_with('['))?;
        wanted(&self.dns, domain).await.map(|_| tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concierge::dns::{Data, Found, Kind};
    use crate::concierge::http::Failed;
    use crate::dns::Asked;
    use crate::env::sim::{Faults, Sim};
    use crate::mta::sts::Fetching;
    use crate::mta::tls_report::day;
    use std::time::Duration;

    /// a.example has a policy that cannot be fetched, and wants reports; b.example wants none.
    fn dns(sim: &Sim) -> Resolver<crate::env::sim::SimEnv> {
        let ask = |kind, _, name: &str| -> Asked {
            let text = match (kind, name) {
                (Kind::Txt, "_mta-sts.a.example" | "_mta-sts.b.example") => "v=STSv1; id=1",
                (Kind::Txt, "_smtp._tls.a.example") => "v=TLSRPTv1; rua=mailto:a@a.example",
                _ => "v=spf1 -all",
            };
            let records = vec![Data::Text(text.as_bytes().into())];
            Box::pin(async move { Ok(Found::plain(records, Duration::from_mins(1))) })
        };
        Resolver::new(sim.env(0), Duration::from_secs(5), 100, ask)
    }

    #[test]
    fn counts_for_who_wants_to_know() {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let fetch = |_: &str| -> Fetching { Box::pin(async { Err(Failed("refused".into())) }) };
        let policies = Policies::new(fetch, Duration::from_hours(24), None, env.wall());
        let tally = Tally::default();
        let known = Known { dane: false, policies: Some(policies), tally: Some(tally.clone()) };
        let published = Published::new(env.clone(), &dns(&sim), known);
        sim.run_until(async {
            for domain in ["a.example", "b.example", "[192.0.2.1]"] {
                assert_eq!(published.policy(domain).await, None);
                published.count(domain, Basis::Nothing, Ends::default(), Ok(())).await;
            }
            assert_eq!(published.dane(Some("mx.a.example"), 25).await, Dane::None);
        })
        .unwrap();
        assert_eq!(tally.domains(day(env.wall())), ["a.example".into()]);
    }

    #[test]
    fn looks_at_nothing_where_nothing_is_set() {
        let sim = Sim::new(1, Faults::none());
        let ask = |kind, _, name: &str| -> Asked { panic!("nobody asks {kind:?} of {name}") };
        let dns = Resolver::new(sim.env(0), Duration::from_secs(5), 100, ask);
        let published = Published::new(sim.env(0), &dns, Known::default());
        sim.run_until(async {
            assert_eq!(published.policy("a.example").await, None);
            assert_eq!(published.dane(Some("mx.a.example"), 25).await, Dane::None);
            published.count("a.example", Basis::Nothing, Ends::default(), Ok(())).await;
        })
        .unwrap();
    }
}
