//! Questions to the DNS, put by hickory-resolver on the concierge.
//!
//! Names are asked for as they are, whole: no search list, no hosts file. What does not exist is an
//! answer (no records, with the time for which that holds: RFC 2308 §5); a server that fails, or does
//! not answer in time, is none.
//!
//! An answer that is wanted proven is held against the signatures of its zone, from the root down
//! (`dns/proof.rs`). What is signed and does not fit is no answer either.

mod answer;
mod proof;

pub use proof::{Anchors, Dnssec};

use self::proof::Prover;
use super::{Answer, Busy, Concierge};
use crate::model::limits::DNS_NEGATIVE_TTL;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::RetryDnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::DnsRequestOptions;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A,
    Aaaa,
    Ptr,
    Mx,
    Txt,
    Tlsa,
}

/// How an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// As the servers give it: one question.
    Plain,
    /// Held against the signatures of its zone, where the servers give them: some more questions.
    Proven,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// A name in lower case, without the dot at its end.
    Name(Box<str>),
    /// A host and its preference; the host is written as in [`Data::Name`], and empty where there is
    /// none (RFC 7505 §3).
    Mx(u16, Box<str>),
    /// The strings of one TXT record, joined.
    Text(Box<[u8]>),
    Tlsa(Tlsa),
}

/// What a certificate has to fit (RFC 6698 §2.1), as it is written; it may be nonsense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Box<[u8]>,
}

/// What the DNS says; no records where the name or the type does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub records: Vec<Data>,
    /// How long it holds.
    pub ttl: Duration,
    /// There is such a name; if not, there are no records of any kind.
    pub exists: bool,
    /// The name is an alias, and the records are those of this one.
    pub alias: Option<Box<str>>,
    /// That it is an alias is what the owner of the zone signed, wherever it leads.
    pub alias_is_secure: bool,
    /// All of it, the aliases too, is what the owners of the zones signed. False where that was not
    /// asked, where a zone is not signed, and where the servers do not pass signatures on.
    pub is_secure: bool,
}

impl Found {
    /// The records of a name that is none but its own, not proven; it exists.
    pub fn plain(records: Vec<Data>, ttl: Duration) -> Found {
        Found { records, ttl, exists: true, alias: None, alias_is_secure: false, is_secure: false }
    }

    /// There is no such name.
    pub fn nowhere(ttl: Duration) -> Found {
        Found { exists: false, ..Found::plain(Vec::new(), ttl) }
    }

    /// MX records that say that there is no mail (RFC 7505 §3).
    pub fn is_null_mx(&self) -> bool {
        matches!(&*self.records, [Data::Mx(_, host)] if host.is_empty())
    }

    /// The addresses among the records.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records.iter().filter_map(|data| match data {
            Data::Address(address) => Some(*address),
            _ => None,
        })
    }
}

/// No answer: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The servers failed, or did not answer in time.
    Servers(Box<str>),
    /// What came is not what the zone's owner signed, or its signature cannot be had.
    Bogus,
    /// Nobody was asked: too much is under way.
    Busy,
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Servers(why) => out.write_str(why),
            Failed::Bogus => out.write_str("the signatures do not fit"),
            Failed::Busy => out.write_str("too many questions are under way"),
        }
    }
}

impl From<NetError> for Failed {
    fn from(error: NetError) -> Failed {
        match error {
            NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => Failed::Bogus,
            other => Failed::Servers(other.to_string().into()),
        }
    }
}

/// The servers, asked twice where they do not answer.
type Servers = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// A resolver; clones are the same one.
#[derive(Clone)]
pub struct Resolver {
    concierge: Concierge,
    plain: Plain,
    prover: Option<Arc<Prover>>,
    timeout: Duration,
}

impl Resolver {
    /// Asks `servers`, or those of /etc/resolv.conf where there are none. A question may take
    /// `timeout` with all its attempts. Answers are proven as `dnssec` says, from `anchors` on.
    pub fn new(
        concierge: &Concierge,
        servers: &[SocketAddr],
        timeout: Duration,
        dnssec: Dnssec,
        anchors: Anchors,
    ) -> Result<Resolver, Failed> {
        let (config, mut options) = if servers.is_empty() {
            read_system_conf()?
        } else {
            let servers = servers.iter().map(server).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        set(&mut options, timeout);
        let mut asking = DnsRequestOptions::default();
        asking.edns_payload_len = options.edns_payload_len;
        asking.case_randomization = options.case_randomization;
        let attempts = options.attempts;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(config.name_servers, context, provider);
        let plain = Plain { servers: RetryDnsHandle::new(pool, attempts), options: asking };
        let prover = match dnssec {
            Dnssec::Off => None,
            Dnssec::Auto => Some(Prover::new(plain.clone(), anchors, false)),
            Dnssec::Require => Some(Prover::new(plain.clone(), anchors, true)),
        };
        Ok(Resolver { concierge: concierge.clone(), plain, prover: prover.map(Arc::new), timeout })
    }

    /// Asks for the records of `name`, in A-labels, of one kind, for as long as the answer is wanted.
    pub fn ask(
        &self,
        kind: Kind,
        want: Want,
        name: &str,
    ) -> Result<Answer<Result<Found, Failed>>, Busy> {
        let (plain, timeout) = (self.plain.clone(), self.timeout);
        let prover = self.prover.clone().filter(|_| want == Want::Proven);
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
        self.concierge.run_while_wanted(async move {
            // What the DNS cannot hold is not in it.
            let Ok(name) = name else { return Ok(Found::nowhere(DNS_NEGATIVE_TTL)) };
            let looked_up = async {
                match prover {
                    None => plain.look_up(kind, &name).await,
                    Some(prover) => prover.look_up(kind, &name).await,
                }
            };
            let late = || Failed::Servers("no answer in time".into());
            tokio::time::timeout(timeout, looked_up).await.unwrap_or_else(|_| Err(late()))
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// As the servers say it.
#[derive(Clone)]
struct Plain {
    servers: Servers,
    options: DnsRequestOptions,
}

impl Plain {
    async fn look_up(&self, kind: Kind, name: &Name) -> Result<Found, Failed> {
        answer::look_up(&self.servers, self.options, kind.wanted(), name).await
    }
}

impl Kind {
    fn wanted(self) -> RecordType {
        match self {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Ptr => RecordType::PTR,
            Kind::Mx => RecordType::MX,
            Kind::Txt => RecordType::TXT,
            Kind::Tlsa => RecordType::TLSA,
        }
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
    // Two attempts at one server fit into the time.
    options.timeout = timeout / 2;
    options.attempts = 2;
    options.max_active_requests = 1_024;
    options.try_tcp_on_error = true;
}
