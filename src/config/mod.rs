//! The operator's file: found, read whole, checked whole, and turned into typed settings.
//!
//! What comes out of [`load`] needs no further parsing and lies within its bounds. What is wrong
//! comes out as a list of [`Mistake`]s, all of them in one run, each with file, line, column and
//! what is allowed. An unknown key is a mistake: a typing error must not quietly mean a default.
//!
//! Every key has its default and its bounds in `sections.rs`; the names are a promise to
//! operators: extend them, never rename.

pub mod certificates;
pub mod dns;
mod names;
pub mod oauth;
mod protect;
mod queue;
mod reader;
mod sections;
mod srs;
#[cfg(test)]
mod tests;
mod tls;
pub mod tls_policy;
mod undelete;
pub mod units;

pub use dns::Dns;
pub use names::{DomainPattern, HostName, Mailbox, RelayHost};
pub use reader::{Mistake, Setting};
pub use undelete::{DomainRetention, Undelete};
pub use units::Network;

use crate::acme::Challenge;
use crate::auth::oauth::Algorithm;
use crate::concierge::http::Endpoint;
use crate::model::limits::CONFIG_OCTETS_MAX;
use crate::policy::Checks;
use crate::policy::dns_list::List;
use crate::proto::sasl::Mechanisms;
use crate::proto::smtp::client::Timeouts;
use crate::queue::sites::Rate;
use crate::queue::warmup::Warmup;
use crate::server::imap;
use crate::server::listener::Protocol;
use crate::server::submission;
use crate::store::Compression;
use crate::tls::{Level, NameField};
use crate::wire::imap::capability::Capabilities;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is looked for when `--config` does not name one.
pub const SEARCH: [&str; 2] = ["./pombal.toml", "/etc/pombal/pombal.toml"];
/// In force where no file exists.
pub const EMBEDDED: &str = include_str!("default.toml");
/// What mistakes in [`EMBEDDED`] would be reported under, and what `check` names as the source.
pub const EMBEDDED_NAME: &str = "embedded defaults";

/// Everything an operator can say, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In the greeting, EHLO, Received.
    pub hostname: HostName,
    pub data_dir: PathBuf,
    pub shards: Shards,
    /// Dropped to after binding, when started as root.
    pub user: Option<String>,
    pub sandbox: Sandbox,
    pub listen: Listen,
    pub tls: Tls,
    pub auth: Auth,
    pub directory: Directory,
    pub smtp: Smtp,
    pub protect: Protect,
    pub proxy: Proxy,
    pub submission: Submission,
    pub srs: Srs,
    pub pop3: Pop3,
    pub imap: Imap,
    pub store: Store,
    pub undelete: Undelete,
    pub limits: Limits,
    pub log: Log,
    pub dns: Dns,
    pub queue: Queue,
    pub mta_sts: MtaSts,
    pub tls_report: TlsReport,
    /// Where an authority hands out the certificate.
    pub acme: Option<Acme>,
    /// First match wins.
    pub sites: Vec<Site>,
    pub sources: Vec<Source>,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// How many executors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per core that this process may use.
    Cores,
    Count(NonZeroU16),
}

/// Whether the running server keeps itself from all files but its own (Landlock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// As far as the kernel can.
    BestEffort,
    /// No start where the kernel cannot.
    Required,
    /// Not at all; core dumps and debuggers of the same user are let in too.
    Off,
}

/// Socket addresses by protocol; an empty list is not served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    pub smtp: Vec<SocketAddr>,
    pub lmtp: Vec<SocketAddr>,
    pub submission: Vec<SocketAddr>,
    pub submissions: Vec<SocketAddr>,
    pub pop3: Vec<SocketAddr>,
    pub imap: Vec<SocketAddr>,
    /// Encrypted from the first octet on (RFC 8314 §3.3).
    pub pop3s: Vec<SocketAddr>,
    pub imaps: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

/// Certificates, and who is offered TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// None: a self-signed one is made.
    pub default: Option<Certificate>,
    pub sni: Vec<(DomainPattern, Certificate)>,
    /// STARTTLS and STLS are offered.
    pub starttls: bool,
    pub handshake_timeout: Duration,
    /// Threads that sign with RSA keys, beside the shards.
    pub signing_threads: u16,
    /// None: clients are not asked for a certificate.
    pub clients: Option<Clients>,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Who signs them: PEM.
    pub authorities: PathBuf,
    /// What they have revoked: PEM.
    pub revoked: Option<PathBuf>,
    /// Where in them the name of the user stands.
    pub name_field: NameField,
    /// Where clients are asked.
    pub asked: Vec<Protocol>,
    /// Where nobody gets in without; all of them are in `asked`.
    pub required: Vec<Protocol>,
}

/// Certificates that an authority hands out by itself (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory.
    pub directory: String,
    pub contact: Vec<Mailbox>,
    /// What the certificate is for; at least one.
    pub domains: Vec<HostName>,
    pub challenge: Challenge,
    /// Where the authority looks for proofs.
    pub listen: Vec<SocketAddr>,
    /// Who vouches for the directory, where the system's authorities do not.
    pub ca_file: Option<PathBuf>,
    /// The account that the authority knows the operator by, and the file with the key of it.
    pub external: Option<(String, PathBuf)>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Passwords: who may send them in clear, and what one check costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// LOGIN, PLAIN, USER and PASS also without TLS.
    pub allow_plaintext: bool,
    /// What SASL mechanisms are offered, where the connection is fit for them.
    pub mechanisms: Mechanisms,
    /// Users who may log in as any other one.
    pub masters: Vec<Mailbox>,
    /// Passwords that are kept in a weaker way are kept anew when their users log in.
    pub rehash: bool,
    /// Iterations of new keys of SCRAM; every client does as many at each login.
    pub scram_iterations: u32,
    /// Octets of memory of one argon2id hash.
    pub argon2_memory: u64,
    pub argon2_passes: u32,
    pub argon2_lanes: u32,
    /// Threads that compute hashes, beside the shards.
    pub hash_threads: u16,
    /// Checks that may wait for a thread.
    pub max_waiting_checks: usize,
    /// Checks of one account that one shard has under way.
    pub max_account_checks: usize,
    /// Verified credentials remembered by one shard.
    pub cache_entries: u32,
    pub cache_ttl: Duration,
    /// Wrong passwords of an address that cost nothing.
    pub free_failures: u32,
    /// The same of a network.
    pub free_network_failures: u32,
    /// The same for an account.
    pub free_account_failures: u32,
    /// Who judges tokens; none: they are not taken.
    pub oauth: Option<OAuth>,
}

/// Tokens of an authorization server: who says whose they are, and what they have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    pub introspection: Option<Introspection>,
    /// Keys that tokens are signed with, in a file and where they are published.
    pub jwks_file: Option<PathBuf>,
    pub jwks_url: Option<Endpoint>,
    /// After which time those that are published are fetched anew.
    pub jwks_ttl: Duration,
    /// In which they are fetched twice at most.
    pub jwks_min_interval: Duration,
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    /// All of these are needed.
    pub scopes: Vec<String>,
    /// The first that is there is the user's name.
    pub user_claims: Vec<String>,
    /// Takes an `email` of which nothing says whether it was verified.
    pub email_unverified: bool,
    pub algorithms: Vec<Algorithm>,
    /// In lower case.
    pub token_types: Vec<String>,
    pub leeway: Duration,
    pub cache_ttl: Duration,
    pub timeout: Duration,
    pub max_requests: usize,
    /// Who vouches for the authorization server, where the system's authorities do not.
    pub ca_file: Option<PathBuf>,
    /// What a client is told that has no token, or a bad one.
    pub openid_configuration: Option<Endpoint>,
}

/// Who is asked about a token (RFC 7662), and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    pub url: Endpoint,
    pub client: String,
    pub secret_file: PathBuf,
}

/// How addresses are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// What separates user and tag in `user+tag`; `None` where subaddressing is off.
    pub subaddress_separator: Option<char>,
    /// Who gets postmaster's and abuse's mail of domains that have nobody, and that of the server.
    pub postmaster: Option<Mailbox>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key that is on or off")]
pub struct Smtp {
    /// Octets of one message, trace fields not counted.
    pub max_message_size: u64,
    /// Octets of one command line with CRLF.
    pub max_command_length: u64,
    /// Octets of one line of text with CRLF that DATA takes.
    pub max_line_length: u64,
    pub max_recipients: usize,
    pub max_errors: u32,
    /// Commands that bring no message nearer, and replies of 4xx, between two messages.
    pub max_junk_commands: u32,
    pub max_hops: usize,
    pub max_pending_commits: usize,
    pub command_timeout: Duration,
    pub data_timeout: Duration,
    /// Octets a second that a message must bring on the whole; 0 is none.
    pub min_data_rate: u64,
    pub vrfy: bool,
    pub expn: bool,
    /// EHLO may have comments and further words behind the name.
    pub odd_hello: bool,
    /// AUTH is offered on port 25, for clients that cannot use submission.
    pub auth: bool,
    /// Proxies that say with XCLIENT who their client is.
    pub xclient_networks: Vec<Network>,
    /// May relay without AUTH.
    pub relay_networks: Vec<Network>,
    /// REQUIRETLS is offered within TLS (RFC 8689).
    pub requiretls: bool,
    /// DELIVERBY is offered (RFC 2852).
    pub deliver_by: bool,
    /// The shortest time in which a message is delivered or comes back.
    pub min_deliver_by: Duration,
    /// MT-PRIORITY is offered (RFC 6710).
    pub mt_priority: bool,
    /// The name of the policy by which priorities are given, which EHLO tells.
    pub priority_policy: Option<String>,
}

/// What users may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// RCPT commands of one transaction.
    pub max_recipients: usize,
    /// The longest time that a message is held for (RFC 4865); zero: it is not offered.
    pub max_hold: Duration,
    pub policy: submission::Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3 {
    pub idle_timeout: Duration,
    pub max_errors: u32,
    /// Failed logins of one session before it is closed.
    pub max_failed_logins: u8,
}

/// What is held against clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// Clients from here are held against nothing.
    pub exempt_networks: Vec<Network>,
    /// Connections of one address (IPv6: one /64) to all shards; 0 is no limit.
    pub connections_per_minute: u32,
    /// The same of one network: IPv4 /24, IPv6 /48.
    pub network_connections_per_minute: u32,
    /// SMTP commands of one address, all its sessions together; 0 is no limit.
    pub commands_per_minute: u32,
    /// Unknown recipients of one session before its answers are held back.
    pub free_unknown_recipients: u32,
    /// The same before it is hung up on; 0 is no limit.
    pub max_unknown_recipients: u32,
    /// Unknown recipients of one address, all its sessions together; 0 is no limit.
    pub unknown_recipients_per_hour: u32,
    /// Wait before the greeting, in which a client must be silent; zero is no such check.
    pub greet_delay: Duration,
    /// Refuse senders behind an EHLO with a name or address of ours.
    pub refuse_own_hello: bool,
    /// Refuse senders behind an EHLO with neither a domain nor an address literal.
    pub refuse_bare_hello: bool,
    /// Lists of addresses in the DNS.
    pub dns_lists: Vec<List>,
    /// Score from which on recipients are refused; 0: never.
    pub dns_lists_reject: i32,
    /// Score from which on a message is marked; 0: never.
    pub dns_lists_mark: i32,
    pub greylist: Greylist,
    /// Which checks are made, by the name of the listener.
    pub checks: Vec<(&'static str, Checks)>,
}

/// Who is not known comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greylist {
    pub enabled: bool,
    pub delay: Duration,
    pub window: Duration,
    pub keep: Duration,
    /// Triplets of one network that came back before it is not asked any more; 1 to 15.
    pub network_passes: u8,
    /// Triplets that are remembered.
    pub entries: usize,
}

/// Proxies that say for whom they connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Connections from here begin with a PROXY header.
    pub networks: Vec<Network>,
    /// On these listeners.
    pub listeners: Vec<&'static str>,
    /// Wait for the header.
    pub timeout: Duration,
}

/// Senders of mail that is passed on to other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srs {
    /// They are rewritten.
    pub enabled: bool,
    /// Of the addresses that are written; none: `hostname`.
    pub domain: Option<HostName>,
}

/// IMAP sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imap {
    /// Wait for the next command; at least 30 minutes by RFC 9051 §5.4.
    pub idle_timeout: Duration,
    /// Pause after which IDLE says that it is there still; zero: never.
    pub idle_keepalive: Duration,
    /// Wait for a command before login.
    pub login_timeout: Duration,
    pub max_errors: u32,
    /// Failed logins of one session before it is closed.
    pub max_failed_logins: u8,
    /// Messages that one command may deal with; none: as many as there are.
    pub message_limit: Option<NonZeroU32>,
    /// What is neither offered nor done for anybody.
    pub hidden: Capabilities,
    /// The same for clients that say in ID what they are.
    pub clients: Vec<imap::Client>,
}

/// The log of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Octets of one segment file; a multiple of 4096.
    pub segment_size: u64,
    /// Octets of message cache, per shard.
    pub cache_size: u64,
    /// Octets of log after which a checkpoint is made.
    pub checkpoint_size: u64,
    /// Time after which a checkpoint is made.
    pub checkpoint_interval: Duration,
    /// Octets that one batch aims at.
    pub batch_size: u64,
    /// Groups that may wait for one log.
    pub max_waiting: usize,
    /// Octets of segments that all logs together may have; 0: what the disk gives. Each log has its
    /// share, and [`STORE_SEGMENTS_MIN`](crate::model::limits::STORE_SEGMENTS_MIN) segments in any case.
    pub max_size: u64,
    /// Whether segments are cleaned unasked.
    pub clean: bool,
    /// Share of a log's room that is free below which it is cleaned, in percent.
    pub clean_free_percent: u8,
    /// Share of the time that cleaning works while there is no hurry, in percent.
    pub clean_share_percent: u8,
    /// A commit that takes longer, in milliseconds, makes cleaning pause.
    pub clean_max_commit_ms: u32,
    /// How what cleaning moves is stored.
    pub compression: Compression,
    /// Where new logs go; none: to `data_dir`.
    pub directories: Vec<PathBuf>,
    /// Time in which everything is read and checked once; zero: never.
    pub scrub_interval: Duration,
}

/// What one process, or one shard, holds at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the whole process.
    pub connections: u32,
    /// Connections of one address (IPv6: one /64) to one shard; 0 is no limit.
    pub connections_per_address: u32,
    /// Octets of messages being received by the whole process. Each shard has its share, and room
    /// for one largest message in any case.
    pub draft_memory: u64,
    /// Octets that IMAP commands which are not whole, and COMPRESS, hold of the whole process. Each
    /// shard has its share, and room for one longest command in any case.
    pub command_memory: u64,
    /// Octets that accounts may take while they are awake, of the whole process. Each shard has its
    /// share.
    pub mailbox_memory: u64,
    /// Octets of replies that may wait for one slow reader.
    pub reply_memory: u64,
    /// How long a write may wait for a reader that takes nothing.
    pub write_timeout: Duration,
    /// Requests that may wait in one shard's inbox.
    pub mesh_inbox: usize,
    /// How long a shutdown waits for sessions to come to an end.
    pub drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: crate::probe::event::Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// How mail leaves for other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Waits between attempts; the last one again and again.
    pub retry: Vec<Duration>,
    pub lifetime: Duration,
    /// Of reports.
    pub report_lifetime: Duration,
    /// After how long a sender is told that it takes long; zero: never.
    pub delay_warning: Duration,
    /// Entries of all shards together.
    pub max_entries: usize,
    /// Connections of all shards together.
    pub connections: usize,
    /// Octets of messages that are being sent at once, by all shards together.
    pub memory: u64,
    /// Where the servers that MX records name are asked.
    pub port: u16,
    pub hosts_per_attempt: usize,
    /// How long a connection waits for the next message.
    pub idle: Duration,
    pub messages_per_connection: u32,
    pub connection_lifetime: Duration,
    pub site_connections: u32,
    pub site_first_connections: u32,
    pub site_rates: Vec<Rate>,
    /// Waits between attempts to reach a site.
    pub site_retry: Vec<Duration>,
    /// What is asked of servers at least.
    pub tls: Level,
    /// Whether TLSA records are heeded.
    pub dane: bool,
    /// Who vouches for servers, instead of the authorities that the system knows.
    pub ca_file: Option<PathBuf>,
    /// Addresses to send from; none: as the system has it.
    pub sources: Vec<IpAddr>,
    pub timeouts: Timeouts,
}

/// What holds for some sites instead of what [`Queue`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Of the domain, or of a server.
    pub pattern: DomainPattern,
    /// 0: as for all.
    pub connections: u32,
    /// 0: as for all.
    pub first_connections: u32,
    pub rates: Vec<Rate>,
    pub sources: Vec<IpAddr>,
}

/// An address to send from that nobody knows yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub address: IpAddr,
    pub warmup: Warmup,
}

/// How to log in at a server that takes mail for elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password_file: PathBuf,
}

/// Mail for `domain` goes to `relay`, whatever its MX records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub domain: DomainPattern,
    pub relay: RelayHost,
    /// By LMTP.
    pub lmtp: bool,
    pub login: Option<Login>,
    /// The password may be shown to whoever listens.
    pub allow_plaintext: bool,
    /// What is asked of it at least; none: what [`Queue`] says. With a login: [`Level::Prove`], if
    /// nothing else was said.
    pub tls: Option<Level>,
    /// What is not said, or empty, is as [`Queue`] says.
    pub retry: Vec<Duration>,
    pub site_retry: Vec<Duration>,
    pub lifetime: Option<Duration>,
    pub report_lifetime: Option<Duration>,
    pub delay_warning: Option<Duration>,
}

/// Policies of MTA-STS (RFC 8461).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtaSts {
    pub enabled: bool,
    /// How old a policy may become before it is fetched anew.
    pub refresh: Duration,
    /// How long that may take.
    pub timeout: Duration,
    /// Policies that are fetched at once.
    pub requests: usize,
    /// Where policies are served.
    pub port: u16,
}

/// Reports on TLS to domains that want them (RFC 8460).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsReport {
    pub enabled: bool,
    /// None: the name of this server.
    pub organization: Option<String>,
    /// Reports come from there; none: its postmaster.
    pub contact: Option<Mailbox>,
}

/// A configuration that is right.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// All keys as they are in force, in the order of the sections.
    pub settings: Vec<Setting>,
    /// The file, or [`EMBEDDED_NAME`].
    pub source: String,
}

/// Reads the file `named`, or the first of [`SEARCH`] that exists, or [`EMBEDDED`].
pub fn load(named: Option<&Path>) -> Result<Loaded, Vec<Mistake>> {
    let Some(path) = named.or_else(|| found(&SEARCH)) else {
        return parse(EMBEDDED_NAME, EMBEDDED);
    };
    let file = path.display().to_string();
    let unreadable = |what: String, allowed: &str| {
        vec![Mistake { file: file.clone(), line: 0, column: 0, what, allowed: allowed.into() }]
    };
    let text = read_bounded(path).map_err(|error| unreadable(error.to_string(), ""))?;
    match text {
        Some(text) => parse(&file, &text),
        None => Err(unreadable(
            "too large for a configuration".into(),
            &format!("at most {}", units::show_size(CONFIG_OCTETS_MAX)),
        )),
    }
}

/// Checks a configuration that is at hand as text. `file` is what mistakes are reported under.
pub fn parse(file: &str, text: &str) -> Result<Loaded, Vec<Mistake>> {
    sections::parse(file, text)
}

/// Laws: no panic; a refusal has a reason within the file, what is taken lies within bounds.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse("fuzz", text) {
        Ok(Loaded { config, .. }) => {
            assert!(config.smtp.max_message_size < config.store.segment_size, "it would not fit");
            assert!(!config.queue.retry.is_empty(), "there is always a next attempt");
        }
        Err(mistakes) => {
            let lines = text.matches('\n').count() + 1;
            assert!(!mistakes.is_empty(), "a refusal says why");
            assert!(
                mistakes.iter().all(|mistake| (1..=lines).contains(&mistake.line)),
                "and where"
            );
        }
    }
}

impl Clients {
    /// What says which certificates are good.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.authorities.as_path()).chain(self.revoked.as_deref())
    }
}

impl Config {
    /// The embedded defaults, changed for a small server on free loopback ports that leaves
    /// nothing outside `data_dir`: for `demo` and for tests.
    pub fn small(data_dir: &Path) -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config =
            parse(EMBEDDED_NAME, EMBEDDED).expect("the embedded defaults are right").config;
        config.data_dir = data_dir.into();
        config.shards = Shards::Count(NonZeroU16::MIN);
        config.listen = Listen {
            smtp: vec![any],
            submission: Vec::new(),
            submissions: Vec::new(),
            lmtp: vec![any],
            pop3: vec![any],
            imap: vec![any],
            pop3s: vec![any],
            imaps: vec![any],
            admin: Some(any),
        };
        config.auth.allow_plaintext = true;
        config.store.segment_size = 64 << 20;
        config.store.cache_size = 16 << 20;
        config
    }

    /// Certificates, keys and secrets that the file names: what the server reads again while it runs.
    pub fn certificate_files(&self) -> impl Iterator<Item = &Path> {
        let tls = &self.tls;
        let all = tls.default.iter().chain(tls.sni.iter().map(|(_, one)| one));
        let vouching = self.acme.iter().filter_map(|acme| acme.ca_file.as_deref());
        let own = all.flat_map(|one| [one.certificate.as_path(), one.key.as_path()]);
        let logins = self.routes.iter().filter_map(|route| route.login.as_ref());
        let outgoing = [&self.dns.trust_anchors, &self.queue.ca_file].into_iter().flatten();
        own.chain(tls.clients.iter().flat_map(Clients::files))
            .chain(vouching)
            .chain(outgoing.chain(logins.map(|login| &login.password_file)).map(PathBuf::as_path))
            .chain(self.auth.oauth.iter().flat_map(OAuth::files))
    }

    /// All directories that logs may lie in, `data_dir` first.
    pub fn store_directories(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.data_dir).chain(&self.store.directories).map(PathBuf::as_path)
    }

    /// Where certificates are that the server made, or was handed out.
    pub fn tls_dir(&self) -> PathBuf {
        self.data_dir.join("tls")
    }

    /// Where the keys of DKIM are.
    pub fn dkim_dir(&self) -> PathBuf {
        self.data_dir.join("dkim")
    }

    /// The certificate that the server makes where it is given none.
    pub fn self_signed(&self) -> PathBuf {
        self.tls_dir().join("self-signed.pem")
    }

    /// The socket that the command line talks to a running server through.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }
}

fn found(search: &[&'static str]) -> Option<&'static Path> {
    search.iter().copied().map(Path::new).find(|path| path.exists())
}

/// `None` where the file is larger than a configuration may be.
fn read_bounded(path: &Path) -> std::io::Result<Option<String>> {
    if std::fs::metadata(path)?.len() > CONFIG_OCTETS_MAX {
        return Ok(None);
    }
    std::fs::read_to_string(path).map(Some)
}
