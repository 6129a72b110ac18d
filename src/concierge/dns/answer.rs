//! From what the servers say to what was asked.
//!
//! A name that is an alias is followed to its end (RFC 1034 §3.6.2): within one answer, as servers
//! that do that for others give it, and by further questions where it breaks off. An answer that is
//! none (its records are of other names, or its aliases lead in a circle) is a server that fails, and
//! says nothing of the name: mail comes back for what a domain says, never for such.

use super::proof::proves_wildcard;
use super::{Data, Failed, Found, Tlsa};
use crate::model::limits::{DNS_ALIASES_MAX, DNS_NEGATIVE_TTL, DNS_TTL_MAX};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::time::Duration;

/// One answer.
struct Reply {
    answers: Vec<Record>,
    authorities: Vec<Record>,
    exists: bool,
    /// What is secure in it may count as that.
    may_be_secure: bool,
}

/// Asks `handle` for the `wanted` records of `name`.
pub(super) async fn look_up<H: DnsHandle>(
    handle: &H,
    options: DnsRequestOptions,
    wanted: RecordType,
    name: &Name,
) -> Result<Found, Failed> {
    let mut at = name.clone();
    let (mut seconds, mut is_secure, mut alias_is_secure) = (u32::MAX, true, false);
    for _ in 0..DNS_ALIASES_MAX {
        let asked = Query::query(at.clone(), wanted);
        let reply = reply(handle.lookup(asked.clone(), options).first_answer().await, &asked)?;
        if !reply.is_about(&at) {
            return Err(Failed::Servers("the answer is of another name".into()));
        }
        is_secure &= reply.may_be_secure;
        // Who has followed as many aliases as there are records goes in a circle.
        let mut followed = 0;
        while let Some((alias, target)) = reply.alias_of(&at) {
            followed += 1;
            if followed > reply.answers.len() {
                return Err(endless());
            }
            seconds = seconds.min(alias.ttl);
            let holds = holds(alias)?;
            alias_is_secure |= holds && reply.may_be_secure && at == *name;
            is_secure &= holds;
            at = target;
        }
        let mut records = Vec::new();
        for record in reply.answers.iter().filter(|record| record.name == at) {
            let Some(data) = data(&record.data).filter(|_| record.record_type() == wanted) else {
                continue;
            };
            seconds = seconds.min(record.ttl);
            is_secure &= holds(record)?;
            records.push(data);
        }
        let alias = (at != *name).then(|| written(&at));
        if !records.is_empty() {
            let ttl = bounded(seconds);
            return Ok(Found { records, ttl, exists: true, alias, alias_is_secure, is_secure });
        }
        if !reply.exists || at == asked.name {
            let ttl = reply.negative_ttl().min(bounded(seconds));
            is_secure &= reply.denies_securely();
            let exists = reply.exists;
            return Ok(Found { records, ttl, exists, alias, alias_is_secure, is_secure });
        }
    }
    Err(endless())
}

fn endless() -> Failed {
    Failed::Servers("the name is an alias without an end".into())
}

fn reply(heard: Result<DnsResponse, NetError>, asked: &Query) -> Result<Reply, Failed> {
    let (response, may_be_secure) = match heard {
        Ok(response) => (response.into_message(), true),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let authorities = none.authorities.iter().flat_map(|all| all.iter().cloned()).collect();
            let exists = exists(none.response_code)?;
            return Ok(Reply { answers: Vec::new(), authorities, exists, may_be_secure: true });
        }
        // That there is nothing, or nothing closer, is not proven: in a zone that leaves that open
        // (RFC 5155 §6), or one that would cost too much to follow (RFC 9276 §3.2).
        Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. })) => {
            (response.into_message(), false)
        }
        Err(NetError::Dns(DnsError::Nsec { response, .. }))
            if proves_wildcard(asked, &response) =>
        {
            (response.into_message(), true)
        }
        Err(error) => return Err(error.into()),
    };
    let exists = exists(response.metadata.response_code)?;
    Ok(Reply {
        answers: response.answers,
        authorities: response.authorities,
        exists,
        may_be_secure,
    })
}

fn exists(code: ResponseCode) -> Result<bool, Failed> {
    match code {
        ResponseCode::NoError => Ok(true),
        ResponseCode::NXDomain => Ok(false),
        other => Err(Failed::Servers(other.to_string().into())),
    }
}

/// Whether a record is what the owner of its zone signed.
fn holds(record: &Record) -> Result<bool, Failed> {
    match record.proof {
        Proof::Secure => Ok(true),
        Proof::Insecure | Proof::Indeterminate => Ok(false),
        Proof::Bogus => Err(Failed::Bogus),
    }
}

impl Reply {
    /// Whether it says something of the name that was asked for; that there is nothing is something.
    fn is_about(&self, name: &Name) -> bool {
        self.answers.is_empty() || self.answers.iter().any(|record| record.name == *name)
    }

    fn alias_of(&self, name: &Name) -> Option<(&Record, Name)> {
        self.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *name => Some((record, target.0.clone())),
            _ => None,
        })
    }

    /// RFC 2308 §5: the smaller one of the two.
    fn negative_ttl(&self) -> Duration {
        let told = self.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        told.map_or(DNS_NEGATIVE_TTL, bounded)
    }

    fn denies_securely(&self) -> bool {
        let is_denial =
            |record: &&Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
        self.authorities.iter().filter(is_denial).any(|record| record.proof.is_secure())
    }
}

fn bounded(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).min(DNS_TTL_MAX)
}

/// In lower case, without the dot at its end.
fn written(name: &Name) -> Box<str> {
    name.to_ascii().to_ascii_lowercase().trim_end_matches('.').into()
}

fn data(data: &RData) -> Option<Data> {
    Some(match data {
        RData::A(address) => Data::Address(address.0.into()),
        RData::AAAA(address) => Data::Address(address.0.into()),
        RData::PTR(name) => Data::Name(written(&name.0)),
        RData::MX(mx) => Data::Mx(mx.preference, written(&mx.exchange)),
        RData::TXT(text) => Data::Text(text.txt_data.concat().into()),
        RData::TLSA(tlsa) => Data::Tlsa(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.as_slice().into(),
        }),
        _ => return None,
    })
}
