//! The command lines of `loadgen relay` and `loadgen zone`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::domains::{DomainOptions, Recipients};
use crate::cli::{Address, OutputOptions, ServerOptions, Switch, WorkOptions};
use crate::sink::options::BehaviourOptions;
use crate::values::{parse_octets, parse_share, parse_time};

#[derive(Args, Clone, Debug)]
pub(crate) struct RelayOptions {
    /// The server that is to relay
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    pub(crate) to: Address,
    /// Logs in by AUTH PLAIN with this name
    #[arg(long, value_name = "NAME", requires = "password")]
    pub(crate) user: Option<String>,
    /// Its password
    #[arg(long, value_name = "TEXT", requires = "user")]
    pub(crate) password: Option<String>,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sessions: usize,
    /// Octets of a message, about
    #[arg(long, value_name = "SIZE", default_value = "10K", value_parser = parse_octets)]
    pub(crate) size: usize,
    /// Reverse path; without, one of the zone, so that reports come to the sink
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// Recipients of each message: a number, or the least and the most of them as in 1-4
    #[arg(long, value_name = "N|N-N", default_value = "1", value_parser = Recipients::parse)]
    pub(crate) recipients: Recipients,
    /// POP3 of the server: reports, and copies for local recipients, come to the maildrop of --from,
    /// which is read and emptied after the last 250; by the name and password of the login
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse, requires = "user", requires = "from")]
    pub(crate) maildrop: Option<Address>,
    /// Share of messages that have one recipient in the domain of --from, besides their others
    /// or alone; all addresses of the domain are to come to that maildrop
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share, requires = "maildrop")]
    pub(crate) local: f64,
    /// MAIL, RCPT and DATA in one write (RFC 2920), where the server offers it
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(crate) pipelining: Switch,
    #[command(flatten)]
    pub(crate) domains: DomainOptions,
    /// The port of all hosts of the sink, which is started in this process
    #[arg(long, value_name = "PORT", default_value_t = 25)]
    pub(crate) sink_port: u16,
    /// Instead of starting a sink: the journal of one that is running
    #[arg(long, value_name = "FILE", conflicts_with = "sink_port")]
    pub(crate) sink_journal: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) behaviour: BehaviourOptions,
    /// After the last 250, how long the rest is waited for
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_time)]
    pub(crate) drain: Duration,
    /// How long a server that does not answer is waited for
    #[arg(long = "server-patience", value_name = "TIME", default_value = "0s", value_parser = parse_time)]
    pub(crate) server_patience: Duration,
    /// A command that lists the server's queue, run when something did not come: recipients in
    /// what it prints are not lost
    #[arg(long, value_name = "COMMAND")]
    pub(crate) queued_by: Option<String>,
    #[command(flatten)]
    pub(crate) work: WorkOptions,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ZoneOptions {
    #[command(flatten)]
    pub(crate) domains: DomainOptions,
    /// Where the name server is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.53")]
    pub(crate) name_server: Ipv4Addr,
}
