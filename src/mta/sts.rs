//! MTA-STS: which policy a domain has (RFC 8461), known to all shards, and after a restart.
//!
//! ```text
//!   TXT _mta-sts ── none ──────────────────── the policy that is kept, if one holds still
//!        └ an id ── that of the kept one ──── it; fetched anew once a day, which lets it hold longer
//!             └── another ── fetched now, once for all who ask ── cannot be: the kept one, if it holds
//!                                 └ not again for five minutes
//! ```
//! A newer policy is looked for with each attempt, as soon as the DNS answers anew: nothing fails for
//! good by an old one.

mod kept;

use self::kept::{Entry, Kept};
use crate::bytes::hash::Sorted;
use crate::concierge::dns::{Data, Kind};
use crate::concierge::flights::Flights;
use crate::concierge::http::Failed;
use crate::concierge::journal::Journal;
use crate::dns::Resolver;
use crate::env::Env;
use crate::env::together::together;
use crate::model::limits::{STS_FAILURES_MAX, STS_RENEWALS_AT_ONCE, STS_RETRY_PAUSE};
use crate::model::time::Wall;
use crate::probe::event::{Level, Value, event};
use crate::wire::sts_policy::{self, Mode, Policy};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// A policy file that is being fetched.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failed>> + Send>>;

/// Fetches the policy file of a domain, by `https://mta-sts.DOMAIN/.well-known/mta-sts.txt`.
type Fetch = dyn Fn(&str) -> Fetching + Send + Sync;

/// Why the policy of a domain could not be had; each is told by reports (RFC 8460 §4.3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is a policy, and its file cannot be had: or a kept one holds, of which the DNS tells no more.
    Fetch(Box<str>),
    /// Its host does not prove that it is the one.
    Certificate(Box<str>),
    /// Its file is malformed.
    Invalid(Box<str>),
}

/// What is known of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its policy; one of mode `none` is as good as none, and is not told.
    pub policy: Option<Arc<Policy>>,
    /// Why it is not newer, or is not there.
    pub trouble: Option<Trouble>,
}

/// All policies of the process; clones are the same ones.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

struct Inner {
    fetch: Box<Fetch>,
    /// How old a policy may become before it is fetched anew.
    refresh: Duration,
    journal: Option<Journal>,
    flights: Flights<Box<str>, Result<Arc<Policy>, Trouble>>,
    kept: RwLock<Kept>,
    /// By domain: which id could not be had, and why; the last few.
    failures: RwLock<Sorted<Box<str>, Failure>>,
}

#[derive(Clone)]
struct Failure {
    id: Box<str>,
    at: Wall,
    trouble: Trouble,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Fetch(why) | Trouble::Certificate(why) | Trouble::Invalid(why) => {
                out.write_str(why)
            }
        }
    }
}

impl Policies {
    /// With nothing known but what stands in these lines of the journal.
    pub fn new(
        fetch: impl Fn(&str) -> Fetching + Send + Sync + 'static,
        refresh: Duration,
        journal: Option<(Journal, Vec<String>)>,
        now: Wall,
    ) -> Policies {
        let mut kept = Kept::default();
        let journal = journal.map(|(journal, lines)| {
            for line in lines {
                kept.read(&line, now);
            }
            journal
        });
        let policies = Policies(Arc::new(Inner {
            fetch: Box::new(fetch),
            refresh,
            journal,
            flights: Flights::default(),
            kept: RwLock::new(kept),
            failures: RwLock::default(),
        }));
        policies.tidy();
        policies
    }

    /// The policy of a domain, in A-labels and lower case. Asks the DNS, and waits for a policy that is
    /// not known yet.
    pub async fn applied<E: Env>(&self, env: &E, dns: &Resolver<E>, domain: &str) -> Applied {
        let id = look_up(dns, domain).await;
        let held = self.held(domain, env.wall());
        let Some(id) = id else {
            let trouble = held
                .as_ref()
                .filter(|held| held.policy.mode != Mode::None)
                .map(|_| Trouble::Fetch("the DNS tells of no policy any more".into()));
            return Applied::new(held.map(|held| held.policy), trouble);
        };
        let is_newest = held.as_ref().is_some_and(|held| held.id == id);
        if is_newest && held.as_ref().is_some_and(|held| self.is_fresh(held, env.wall())) {
            return Applied::new(held.map(|held| held.policy), None);
        }
        if let Some(trouble) = self.failed_lately(domain, &id, env.wall()) {
            return Applied::new(held.map(|held| held.policy), Some(trouble));
        }
        if is_newest {
            // It holds: nobody has to wait.
            let (this, own, domain) = (self.clone(), env.clone(), Box::from(domain));
            env.spawn(async move { drop(this.fetch(&own, domain, id).await) });
            return Applied::new(held.map(|held| held.policy), None);
        }
        match self.fetch(env, domain.into(), id).await {
            Ok(policy) => Applied::new(Some(policy), None),
            Err(trouble) => Applied::new(held.map(|held| held.policy), Some(trouble)),
        }
    }

    /// Fetches anew what is old, a few at once, so that it holds on though nobody sends anything
    /// (RFC 8461 §3.3), and forgets what holds no more. Call it once an hour, on one shard.
    pub async fn renew<E: Env>(&self, env: &E, dns: &Resolver<E>) {
        let old = self.kept().older(env.wall(), self.0.refresh);
        for some in old.chunks(STS_RENEWALS_AT_ONCE) {
            together(some.iter().map(|domain| async {
                let Some(id) = look_up(dns, domain).await else { return };
                if self.failed_lately(domain, &id, env.wall()).is_none() {
                    drop(self.fetch(env, domain.clone(), id).await);
                }
            }))
            .await;
        }
        self.kept_mut().forget(env.wall());
        self.tidy();
    }

    /// Policies that are known.
    pub fn count(&self) -> usize {
        self.kept().count()
    }

    fn is_fresh(&self, held: &Entry, now: Wall) -> bool {
        now.since(held.fetched) < self.0.refresh
    }

    fn held(&self, domain: &str, now: Wall) -> Option<Entry> {
        // Who is asked for is not the first to be forgotten; told seldom, so that shards read together.
        let held = self.kept().get(domain, now)?;
        if now.since(held.used) > kept::USE_STEP {
            self.kept_mut().touch(domain, now);
        }
        Some(held)
    }

    async fn fetch<E: Env>(
        &self,
        env: &E,
        domain: Box<str>,
        id: Box<str>,
    ) -> Result<Arc<Policy>, Trouble> {
        let fetched = self.0.flights.join(&domain, || async {
            let fetched = (self.0.fetch)(&domain).await;
            let parsed = match fetched {
                Ok(octets) => Policy::parse(&octets)
                    .map_err(|fault| Trouble::Invalid(fault.to_string().into())),
                Err(failed) if failed.is_about_certificate() => Err(Trouble::Certificate(failed.0)),
                Err(failed) => Err(Trouble::Fetch(failed.0)),
            };
            let parsed = parsed.map(Arc::new);
            self.note(&domain, &id, &parsed, env.wall());
            parsed
        });
        fetched.await
    }

    /// Remembers what came of a fetch.
    fn note(&self, domain: &str, id: &str, fetched: &Result<Arc<Policy>, Trouble>, now: Wall) {
        match fetched {
            Ok(policy) => {
                let policy = Arc::clone(policy);
                let entry = Entry { id: id.into(), policy, fetched: now, used: now };
                if let Some(journal) = &self.0.journal {
                    journal.add(entry.line(domain), unwritten);
                }
                self.failures_mut().remove(domain);
                self.kept_mut().put(domain, entry);
                self.tidy();
            }
            Err(trouble) => {
                let is_held =
                    self.kept().get(domain, now).is_some_and(|held| held.policy.mode != Mode::None);
                // RFC 8461 §3.3: the operator is to know where a policy cannot be renewed.
                let level = if is_held { Level::Warn } else { Level::Info };
                let fields = [("domain", domain.into()), ("why", Value::Shown(trouble))];
                event(level, "sts_policy_failed", &fields);
                let mut failures = self.failures_mut();
                if failures.len() >= STS_FAILURES_MAX {
                    failures.retain(|_, failure| now.since(failure.at) < STS_RETRY_PAUSE);
                }
                if failures.len() < STS_FAILURES_MAX {
                    let failure = Failure { id: id.into(), at: now, trouble: trouble.clone() };
                    failures.insert(domain.into(), failure);
                }
            }
        }
    }

    fn failed_lately(&self, domain: &str, id: &str, now: Wall) -> Option<Trouble> {
        let failures = self.0.failures.read().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.get(domain)?;
        (*failure.id == *id && now.since(failure.at) < STS_RETRY_PAUSE)
            .then(|| failure.trouble.clone())
    }

    /// Writes the journal anew where most of it is old.
    fn tidy(&self) {
        let Some(journal) = &self.0.journal else { return };
        if self.kept().is_mostly_old() {
            journal.replace(self.kept_mut().lines(), unwritten);
        }
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> RwLockWriteGuard<'_, Kept> {
        self.0.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures_mut(&self) -> RwLockWriteGuard<'_, Sorted<Box<str>, Failure>> {
        self.0.failures.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Applied {
    fn new(policy: Option<Arc<Policy>>, trouble: Option<Trouble>) -> Applied {
        Applied { policy: policy.filter(|policy| policy.mode != Mode::None), trouble }
    }
}

/// The id of the policy that a domain has by the DNS.
async fn look_up<E: Env>(dns: &Resolver<E>, domain: &str) -> Option<Box<str>> {
    let found = dns.look_up(Kind::Txt, &format!("_mta-sts.{domain}")).await.ok()?;
    let texts = found.records.iter().filter_map(|data| match data {
        Data::Text(text) => Some(&**text),
        _ => None,
    });
    sts_policy::id(texts).map(Into::into)
}

#[expect(clippy::needless_pass_by_value, reason = "the journal gives it away")]
fn unwritten(error: std::io::Error) {
    event(Level::Warn, "sts_journal_failed", &[("why", Value::Shown(&error))]);
}

#[cfg(test)]
mod tests;
