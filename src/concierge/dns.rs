//! Questions to the DNS, put by hickory-resolver on the concierge.
//!
//! Names are asked for as they are, whole: no search list, no hosts file. What does not exist is an
//! answer (no records, with the time for which that holds: RFC 2308 §5); a server that fails, or does
//! not answer in time, is none.

use super::{Answer, Busy, Concierge};
use crate::model::limits::{DNS_NEGATIVE_TTL, DNS_TTL_MAX};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A,
    Aaaa,
    Ptr,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// A name in lower case, without the dot at its end.
    Name(Box<str>),
}

/// What the DNS says; no records where the name or the type does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub records: Vec<Data>,
    /// How long it holds.
    pub ttl: Duration,
}

/// No answer: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub Box<str>);

/// A resolver; clones are the same one.
#[derive(Clone, Debug)]
pub struct Resolver {
    concierge: Concierge,
    hickory: Arc<TokioResolver>,
    timeout: Duration,
}

impl Resolver {
    /// Asks `servers`, or those of /etc/resolv.conf where there are none. A question may take
    /// `timeout` with all its attempts.
    pub fn new(
        concierge: &Concierge,
        servers: &[SocketAddr],
        timeout: Duration,
    ) -> Result<Resolver, Failed> {
        let failed = |error: NetError| Failed(error.to_string().into());
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(failed)?
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        set(builder.options_mut(), timeout);
        let hickory = Arc::new(builder.build().map_err(failed)?);
        Ok(Resolver { concierge: concierge.clone(), hickory, timeout })
    }

    /// Asks for the records of `name`, in A-labels, of one kind.
    pub fn ask(&self, kind: Kind, name: &str) -> Result<Answer<Result<Found, Failed>>, Busy> {
        let (hickory, timeout) = (Arc::clone(&self.hickory), self.timeout);
        let name = format!("{}.", name.trim_end_matches('.'));
        self.concierge.run(async move {
            match tokio::time::timeout(timeout, look_up(&hickory, kind, &name)).await {
                Ok(found) => found,
                Err(_) => Err(Failed("no answer in time".into())),
            }
        })
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn set(options: &mut ResolverOpts, timeout: Duration) {
    options.ndots = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // Two attempts at one server fit into the time.
    options.timeout = timeout / 2;
    options.attempts = 2;
    // The shards remember; what is asked for here is wanted anew.
    options.cache_size = 0;
    options.max_active_requests = 1_024;
    options.try_tcp_on_error = true;
}

async fn look_up(hickory: &TokioResolver, kind: Kind, name: &str) -> Result<Found, Failed> {
    let wanted = match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Ptr => RecordType::PTR,
    };
    match hickory.lookup(name, wanted).await {
        Ok(lookup) => {
            let answers = lookup.answers();
            let seconds = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
            let records = answers.iter().filter_map(|record| data(&record.data)).collect();
            Ok(Found { records, ttl: bounded(seconds) })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            let ttl = none.negative_ttl.map_or(DNS_NEGATIVE_TTL, bounded);
            Ok(Found { records: Vec::new(), ttl })
        }
        Err(error) => Err(Failed(error.to_string().into())),
    }
}

fn bounded(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).min(DNS_TTL_MAX)
}

/// CNAME and others on the way are none of what was asked for.
fn data(data: &RData) -> Option<Data> {
    match data {
        RData::A(address) => Some(Data::Address(address.0.into())),
        RData::AAAA(address) => Some(Data::Address(address.0.into())),
        RData::PTR(name) => {
            let name = name.0.to_ascii().to_ascii_lowercase();
            Some(Data::Name(name.trim_end_matches('.').into()))
        }
        _ => None,
    }
}
