//! Reports on TLS to domains that want them (RFC 8460): what is counted, and when it is sent.
//!
//! ```text
//!   a session with a server ── its domain wants reports (TXT _smtp._tls)? ── Tally: domain, day, policy
//!   once a day, some hours after midnight UTC ── Report ── mail, or POST to an URL     daily.rs
//!                                                 └ JSON, gzip                        compose.rs
//! ```
//! Counts live in memory: a restart forgets those of the day. They are bounded; what is not counted for
//! lack of room is told once a day.

mod compose;
mod daily;

pub use compose::{Mail, Report, Submitter};
pub use daily::{Daily, Post, Posted, Sent, posting, wanted};

use super::sts::Trouble;
use super::tls_policy::{Basis, Skip};
use crate::bytes::hash::Sorted;
use crate::model::limits::{
    TLS_REPORT_DETAILS_MAX, TLS_REPORT_DOMAINS_MAX, TLS_REPORT_POLICIES_MAX,
    TLS_REPORT_REASON_CHARS_MAX,
};
use crate::model::time::Wall;
use crate::tls::{CallFailure, Distrust, Facts};
use crate::wire::sts_policy::Policy;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Days since 1970, by UTC.
pub type Day = u32;

/// The day of this moment.
pub fn day(now: Wall) -> Day {
    u32::try_from(now.0 / 1_000_000 / DAY).unwrap_or(u32::MAX)
}

/// What went wrong (RFC 8460 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    StartTlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

impl Failure {
    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Failure::StartTlsNotSupported => "starttls-not-supported",
            Failure::CertificateHostMismatch => "certificate-host-mismatch",
            Failure::CertificateExpired => "certificate-expired",
            Failure::CertificateNotTrusted => "certificate-not-trusted",
            Failure::ValidationFailure => "validation-failure",
            Failure::TlsaInvalid => "tlsa-invalid",
            Failure::DnssecInvalid => "dnssec-invalid",
            Failure::StsPolicyFetchError => "sts-policy-fetch-error",
            Failure::StsPolicyInvalid => "sts-policy-invalid",
            Failure::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// A failure, and the words for it.
pub type Outcome = Result<(), (Failure, Box<str>)>;

fn failed(failure: Failure, why: &impl ToString) -> (Failure, Box<str>) {
    // Some words are the peer's.
    let why = why.to_string();
    let words = why.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    (failure, words.take(TLS_REPORT_REASON_CHARS_MAX).collect::<String>().into())
}

fn distrusted(why: &Distrust) -> (Failure, Box<str>) {
    let failure = match why {
        Distrust::Expired => Failure::CertificateExpired,
        Distrust::WrongName => Failure::CertificateHostMismatch,
        Distrust::UnknownIssuer | Distrust::NoRecord | Distrust::Other(_) => {
            Failure::CertificateNotTrusted
        }
    };
    failed(failure, why)
}

/// What a session with a server came to: `None` for `facts` is one in clear. A server that was asked for a
/// proof and has none fails also where nobody insists on it.
pub fn of_session(facts: Option<&Facts>, basis: Basis<'_>) -> Outcome {
    let facts = facts.ok_or((Failure::StartTlsNotSupported, Box::default()))?;
    if let Some(Err(why)) = facts.server().and_then(|server| server.verdict()) {
        return Err(distrusted(why));
    }
    match basis {
        Basis::Dane(records) if records.usable().next().is_none() => {
            Err(failed(Failure::TlsaInvalid, &"no record can be used"))
        }
        _ => Ok(()),
    }
}

/// What a handshake that failed came to; `None`: what passes by itself is not reported (RFC 8460 §4.3.4).
pub fn of_failure(failure: &CallFailure) -> Option<Outcome> {
    match failure {
        CallFailure::Lost(_) | CallFailure::Busy => None,
        CallFailure::Tls(error) => Some(Err(failed(Failure::ValidationFailure, error))),
        CallFailure::Distrust(why) => Some(Err(distrusted(why))),
    }
}

/// What it came to that a server was not called; `None`: that is about the message.
pub fn of_skip(skip: Skip) -> Option<Outcome> {
    let failure = match skip {
        Skip::Unknown => Failure::DnssecInvalid,
        Skip::NotInPolicy => Failure::ValidationFailure,
        Skip::Unproven | Skip::NoTls => return None,
    };
    Some(Err(failed(failure, &skip.said().text)))
}

/// That a policy cannot be had.
pub fn of_trouble(trouble: &Trouble) -> Outcome {
    let failure = match trouble {
        Trouble::Fetch(_) => Failure::StsPolicyFetchError,
        Trouble::Certificate(_) => Failure::StsWebpkiInvalid,
        Trouble::Invalid(_) => Failure::StsPolicyInvalid,
    };
    Err(failed(failure, trouble))
}

/// What was tried: the two ends, as far as there were two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends<'a> {
    /// Our address.
    pub sender: Option<IpAddr>,
    /// The server's name in the MX record.
    pub host: Option<&'a str>,
    /// How it greeted.
    pub hello: Option<&'a str>,
    pub receiver: Option<IpAddr>,
}

/// One policy, as reports have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Applied {
    pub(super) kind: &'static str,
    pub(super) lines: Box<[String]>,
    pub(super) domain: Box<str>,
    pub(super) hosts: Box<[String]>,
}

/// One kind of failure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Detail {
    pub(super) failure: Failure,
    pub(super) sender: Option<IpAddr>,
    pub(super) host: Option<Box<str>>,
    pub(super) hello: Option<Box<str>>,
    pub(super) receiver: Option<IpAddr>,
    pub(super) why: Box<str>,
}

/// What was counted of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) details: Sorted<Detail, u64>,
}

type Policies = Sorted<Applied, Counts>;

/// What was counted, of all shards; clones are the same.
#[derive(Clone, Default)]
pub struct Tally(Arc<RwLock<Days>>);

#[derive(Default)]
struct Days {
    days: Sorted<Day, Sorted<Box<str>, Policies>>,
    /// Outcomes that were not counted since there was no room.
    left_out: u64,
}

impl Applied {
    fn new(domain: &str, basis: Basis<'_>) -> Applied {
        let none = || (Box::default(), Box::default());
        let (kind, of, (lines, hosts)) = match basis {
            Basis::Nothing => ("no-policy-found", domain, none()),
            Basis::Dane(records) => {
                ("tlsa", &*records.base, (records.lines().collect(), Box::default()))
            }
            Basis::Sts(policy) => ("sts", domain, of_policy(policy)),
        };
        Applied { kind, lines, domain: of.into(), hosts }
    }
}

fn of_policy(policy: &Policy) -> (Box<[String]>, Box<[String]>) {
    (policy.lines().collect(), policy.patterns().map(str::to_owned).collect())
}

impl Tally {
    /// Counts one outcome for a domain that wants reports.
    pub fn count(
        &self,
        now: Wall,
        domain: &str,
        basis: Basis<'_>,
        ends: Ends<'_>,
        outcome: Outcome,
    ) {
        let mut all = self.all();
        let of_day = all.days.entry(day(now)).or_default();
        if of_day.len() >= TLS_REPORT_DOMAINS_MAX && !of_day.contains_key(domain) {
            all.left_out += 1;
            return;
        }
        let policies = of_day.entry(domain.into()).or_default();
        let applied = Applied::new(domain, basis);
        if policies.len() >= TLS_REPORT_POLICIES_MAX && !policies.contains_key(&applied) {
            all.left_out += 1;
            return;
        }
        policies.entry(applied).or_default().add(ends, outcome);
    }

    /// That a domain's policy cannot be had: of no server, since none was asked yet.
    pub fn count_trouble(
        &self,
        now: Wall,
        domain: &str,
        policy: Option<&Policy>,
        trouble: &Trouble,
    ) {
        let basis = policy.map_or(Basis::Nothing, Basis::Sts);
        self.count(now, domain, basis, Ends::default(), of_trouble(trouble));
    }

    /// Domains of which something was counted on that day.
    pub fn domains(&self, day: Day) -> Vec<Box<str>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.days.get(&day).map(|domains| domains.keys().cloned().collect()).unwrap_or_default()
    }

    /// Takes what was counted for one domain.
    fn take(&self, day: Day, domain: &str) -> Option<Policies> {
        self.all().days.get_mut(&day)?.remove(domain)
    }

    /// Forgets days before this one; how many outcomes were left out since the last time.
    fn forget(&self, before: Day) -> u64 {
        let mut all = self.all();
        all.days = all.days.split_off(&before);
        std::mem::take(&mut all.left_out)
    }

    fn all(&self) -> RwLockWriteGuard<'_, Days> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, ends: Ends<'_>, outcome: Outcome) {
        let Err((failure, why)) = outcome else {
            self.successes += 1;
            return;
        };
        self.failures += 1;
        let detail = Detail {
            failure,
            sender: ends.sender,
            host: ends.host.map(Into::into),
            hello: ends.hello.map(Into::into),
            receiver: ends.receiver,
            why,
        };
        let is_known = self.details.contains_key(&detail);
        let detail = if is_known || self.details.len() < TLS_REPORT_DETAILS_MAX {
            detail
        } else {
            // What it is counts, where is not told apart any more.
            let why = "one of many more servers and reasons".into();
            Detail { failure, sender: None, host: None, hello: None, receiver: None, why }
        };
        *self.details.entry(detail).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
