//! The command line: what may be asked, with its units, bounds and examples.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::imap::options::ImapOptions;
use crate::measure::http::Url;
use crate::relay::options::{RelayOptions, ZoneOptions};
use crate::sink::options::SinkOptions;
use crate::values::{Pattern, parse_octets, parse_rate, parse_time};

const EXAMPLES: &str = "\
EXAMPLES
  Two thousand messages of 10 KiB, with what they cost the server:
      loadgen smtp --to 127.0.0.1:2525 --sessions 64 --count 2000 --size 10K --server-pid $(pidof pombal)
  A steady 500 per second for a minute, latencies from the moment each message was due:
      loadgen smtp --to 127.0.0.1:2525 --rate 500/s --duration 1m
  BDAT, eight whole messages under way per session, syncs from the server's own counter:
      loadgen smtp --to 127.0.0.1:2525 --chunking --depth 8 --metrics http://127.0.0.1:9080/metrics
  Postfix that delivers to Dovecot, work after the reply included:
      loadgen smtp --to 127.0.0.1:25 --server-pid $POSTFIX --server-pid $DOVECOT --settle 2m
  Every maildrop once, sizes checked:
      loadgen pop3 --to 127.0.0.1:1110 --users 1000 --password secret --verify
  A mailbox of 100,000 messages, then what its list costs:
      loadgen imap --to 127.0.0.1:1143 --mix prepare --users 1 --sessions 4 --count 100000
      loadgen imap --to 127.0.0.1:1143 --mix fetch-all --users 1 --sessions 1 --count 20 --server-pid $PID
  New mail as 100 watchers in IDLE see it:
      loadgen imap --to 127.0.0.1:1143 --mix idle --sessions 101 --count 20
  Thirty clients that change one mailbox and check each response:
      loadgen imap --to 127.0.0.1:1143 --check --sessions 30 --duration 1m
  Memory of ten thousand connections:
      loadgen idle --protocol smtp --to 127.0.0.1:2525 --connections 10000 --server-pid $PID
  What encryption costs: each connection goes on with the session of the one before:
      loadgen pop3 --to 127.0.0.1:1995 --tls --users 100 --server-pid $PID
      loadgen smtp --to 127.0.0.1:2525 --starttls smtp --tls-resume off --messages-per-session 1
  Load with a journal while something kills the server, then the reckoning:
      loadgen audit --smtp 127.0.0.1:2525 --pop3 127.0.0.1:1110 --journal j --phase send --duration 60s
      loadgen audit --smtp 127.0.0.1:2525 --pop3 127.0.0.1:1110 --journal j --phase verify
  The same for what IMAP says OK to:
      loadgen audit --imap 127.0.0.1:1143 --journal k --phase send --duration 60s
      loadgen audit --imap 127.0.0.1:1143 --journal k --phase verify
  A server that takes everything, at fifty addresses; then one that is hard to deliver to:
      loadgen sink --listen 127.0.1.1-127.0.1.50:2525 --journal s
      loadgen sink --listen 127.0.0.2:2525 --extensions PIPELINING,STARTTLS --rule at=rcpt,code=451,first=1 --rule at=dot,do=drop,chance=0.01 --duration 1m
  A relay and 10,000 domains, some of them dead or slow; the zone for a name server first:
      loadgen zone --domains 10000 --dead 5% --slow 5%
      loadgen relay --to 127.0.0.1:2525 --count 100000 --domains 10000 --dead 5% --slow 5% --server-pid $PID

EXIT STATUS
  0 done; 1 errors that --allow-errors does not cover, or an audit that found something; 2 wrong usage";

/// Measures and audits mail servers over SMTP, LMTP, POP3 and IMAP.
///
/// Works with any server. Sessions connect first, then the clock starts; a live line goes
/// to stderr each second, the final table (or one JSON object) to stdout. An option given
/// twice counts as it stood last.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, after_long_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
}

/// Whether connections are encrypted. Certificates are not checked.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsOptions {
    /// TLS from the first octet on
    #[arg(long, global = true)]
    pub(crate) tls: bool,
    /// TLS after STARTTLS or STLS; lmtp is smtp here
    #[arg(long, global = true, value_name = "PROTOCOL", conflicts_with = "tls")]
    pub(crate) starttls: Option<Protocol>,
    /// Later connections go on with the session of an earlier one
    #[arg(long, global = true, value_name = "on|off", default_value = "on")]
    pub(crate) tls_resume: Switch,
    /// TLS 1.2 instead of 1.3
    #[arg(long = "tls-1.2", global = true)]
    pub(crate) tls_1_2: bool,
    /// Name that the server is asked for
    #[arg(long, global = true, value_name = "NAME", default_value = "localhost")]
    pub(crate) tls_name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends mail by SMTP
    #[command(after_long_help = EXAMPLES)]
    Smtp(SmtpOptions),
    /// Sends mail by LMTP: LHLO, one reply per recipient
    #[command(after_long_help = EXAMPLES)]
    Lmtp(SmtpOptions),
    /// Reads maildrops by POP3: login, STAT, UIDL, RETR of everything, QUIT
    #[command(after_long_help = EXAMPLES)]
    Pop3(Pop3Options),
    /// Measures IMAP: one command, a whole session of a mail program, or the fan-out of IDLE
    #[command(after_long_help = EXAMPLES)]
    Imap(ImapOptions),
    /// Opens connections that do nothing and says what each costs in memory
    #[command(after_long_help = EXAMPLES)]
    Idle(IdleOptions),
    /// Sends with a journal of every 250 (or IMAP's OK), reads all back, says what is missing,
    /// doubled or changed
    #[command(after_long_help = EXAMPLES)]
    Audit(AuditOptions),
    /// Receives mail like a server of the world: takes, defers, refuses, delays, drops, and
    /// says what it got
    #[command(after_long_help = EXAMPLES)]
    Sink(SinkOptions),
    /// Measures a server that relays, from its 250 to the arrival at a sink of many domains,
    /// and says what is missing, doubled or changed
    #[command(after_long_help = EXAMPLES)]
    Relay(Box<RelayOptions>),
    /// Prints the zone in which the domains of `relay` are found
    #[command(after_long_help = EXAMPLES)]
    Zone(ZoneOptions),
}

/// A server's address, resolved when the command line is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(SocketAddr);

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Address, String> {
        let mut found = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?;
        found.next().map(Address).ok_or_else(|| format!("{text}: no such host"))
    }

    pub(crate) fn resolved(self) -> SocketAddr {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Switch::On
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Smtp,
    Pop3,
    Imap,
}

impl Protocol {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Protocol::Smtp => "smtp",
            Protocol::Pop3 => "pop3",
            Protocol::Imap => "imap",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    Send,
    Verify,
    Both,
}

/// How much work, how fast, by how many.
#[derive(Args, Clone, Debug)]
pub(crate) struct WorkOptions {
    /// Ends after this many messages (pop3: maildrops, imap: operations)
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Ends after this time; 10s when neither a count nor a time is given
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) duration: Option<Duration>,
    /// Messages (pop3: maildrops, imap: operations) per second over all sessions; as fast as it goes without
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Threads that the sessions are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Longest wait for one message or one reply
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub(crate) timeout: Duration,
    /// Chooses texts and recipients; the same seed makes the same ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UserOptions {
    /// Users there are, numbered from 0
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) users: u64,
    /// Address of a user, with the number at %d or %04d; also the name of POP3 and IMAP
    #[arg(long, value_name = "FORMAT", default_value = "user%04d@example.test", value_parser = Pattern::parse)]
    pub(crate) user_format: Pattern,
    /// Password of every user
    #[arg(long, value_name = "TEXT", default_value = "secret", value_parser = clap::builder::StringValueParser::new().map(|text| Pattern::literal(&text)))]
    password: Pattern,
    /// Password of a user, with the number at %d; instead of --password
    #[arg(long, value_name = "FORMAT", value_parser = Pattern::parse)]
    password_format: Option<Pattern>,
}

impl UserOptions {
    pub(crate) fn password(&self) -> &Pattern {
        self.password_format.as_ref().unwrap_or(&self.password)
    }
}

/// What is asked about the server while it works.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// Process whose costs are counted, with all its descendants; may be repeated
    #[arg(long = "server-pid", value_name = "PID")]
    pub(crate) server_pids: Vec<u32>,
    /// After the last reply waits at most this long for the server to fall quiet, and counts what it did
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_time)]
    pub(crate) settle: Duration,
    /// The server's Prometheus counters
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    pub(crate) metrics: Option<Url>,
    /// The counter of syncs among them
    #[arg(long, value_name = "NAME", default_value = "pombal_store_syncs_total")]
    pub(crate) sync_metric: String,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputOptions {
    /// One JSON object instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// No live line
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SmtpOptions {
    /// The server
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    pub(crate) to: Address,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sessions: usize,
    /// Octets of a message, header and all; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "10K", value_parser = parse_octets)]
    pub(crate) size: usize,
    /// Sends the files of this folder in turn instead of made up messages
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    pub(crate) mails: Option<PathBuf>,
    /// Reverse path
    #[arg(long, value_name = "ADDRESS", default_value = "loadgen@example.org")]
    pub(crate) from: String,
    /// Recipients of each message, users in a row
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) recipients: u64,
    /// Messages of one connection, then QUIT and a new one; 0 keeps it to the end
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) messages_per_session: u64,
    /// MAIL, RCPT and DATA in one write (RFC 2920)
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(crate) pipelining: Switch,
    /// BDAT instead of DATA (RFC 3030)
    #[arg(long)]
    pub(crate) chunking: bool,
    /// With BDAT: whole messages sent per session before the replies are read
    #[arg(long, value_name = "N", default_value_t = 1, requires = "chunking", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) depth: u64,
    /// Exit status 0 whatever the server answered
    #[arg(long)]
    pub(crate) allow_errors: bool,
    #[command(flatten)]
    pub(crate) work: WorkOptions,
    #[command(flatten)]
    pub(crate) users: UserOptions,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Pop3Options {
    /// The server
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    pub(crate) to: Address,
    /// Maildrops open at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) sessions: usize,
    /// Login and lists in one write, RETR in a window (RFC 2449 §6.6)
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(crate) pipelining: Switch,
    /// DELE of everything that was read
    #[arg(long)]
    pub(crate) delete: bool,
    /// Asks for LIST too and compares each size with what came
    #[arg(long)]
    pub(crate) verify: bool,
    /// Exit status 0 whatever the server answered
    #[arg(long)]
    pub(crate) allow_errors: bool,
    #[command(flatten)]
    pub(crate) work: WorkOptions,
    #[command(flatten)]
    pub(crate) users: UserOptions,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct IdleOptions {
    /// What the server speaks
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) protocol: Protocol,
    /// The server
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    pub(crate) to: Address,
    /// Connections to open and keep open
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// Process whose memory is read, with all its descendants; may be repeated
    #[arg(long = "server-pid", value_name = "PID")]
    pub(crate) server_pids: Vec<u32>,
    /// Before idling: smtp EHLO; pop3 USER and PASS; imap LOGIN, SELECT INBOX and IDLE
    #[arg(long)]
    pub(crate) login: bool,
    /// Nothing happens for this long before memory is read the second time
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub(crate) hold: Duration,
    /// Longest wait for one connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) users: UserOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AuditOptions {
    /// Where mail is sent
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse, required_unless_present = "imap")]
    pub(crate) smtp: Option<Address>,
    /// Where it is read back
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse, required_unless_present = "imap")]
    pub(crate) pop3: Option<Address>,
    /// Instead of both: APPEND, COPY, MOVE, STORE and EXPUNGE over IMAP, read back the same way;
    /// --count is operations, and each journal serves one kind of audit
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse, conflicts_with_all = ["smtp", "pop3", "pop3_delete"])]
    pub(crate) imap: Option<Address>,
    /// Journal of what was sent and answered; an existing one is continued
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: PathBuf,
    /// What to do
    #[arg(long, value_name = "send|verify|both", default_value = "both")]
    pub(crate) phase: Phase,
    /// Times that all of it is done
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) rounds: u32,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sessions: usize,
    /// Octets of a message, about
    #[arg(long, value_name = "SIZE", default_value = "10K", value_parser = parse_octets)]
    pub(crate) size: usize,
    /// POP3 sessions that delete while mail is sent (2 when no number is given)
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "2")]
    pub(crate) pop3_delete: usize,
    /// How long a server that does not answer is waited for, and mail that is not there yet
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time)]
    pub(crate) patience: Duration,
    #[command(flatten)]
    pub(crate) work: WorkOptions,
    #[command(flatten)]
    pub(crate) users: UserOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn understands_the_examples_of_the_manual() {
        let mut tried = 0;
        for line in EXAMPLES.lines().filter_map(|line| line.strip_prefix("      loadgen ")) {
            let line = line.replace("$(pidof pombal)", "1").replace("$POSTFIX", "1");
            let line = line.replace("$DOVECOT", "2").replace("$PID", "1");
            let words = std::iter::once("loadgen").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            tried += 1;
        }
        assert_eq!(tried, 20);
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for line in ["smtp", "smtp --to 127.0.0.1:1 --depth 2", "smtp --to 127.0.0.1:1 --size ten"]
        {
            let words = std::iter::once("loadgen").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
