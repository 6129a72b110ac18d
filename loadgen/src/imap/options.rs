//! The command line of `loadgen imap`.

use clap::Args;

use super::mix::Mix;
use crate::cli::{Address, OutputOptions, ServerOptions, UserOptions, WorkOptions};
use crate::values::parse_octets;

#[derive(Args, Clone, Debug)]
pub(crate) struct ImapOptions {
    /// The server
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::parse)]
    pub(crate) to: Address,
    /// What is done for each operation that is counted
    #[arg(long, value_name = "MIX", default_value = "thunderbird")]
    pub(crate) mix: Mix,
    /// Instead of measuring: all sessions change the mailbox of the first user at once, and every
    /// response is held against what was said before; --count is operations
    #[arg(long, conflicts_with = "mix")]
    pub(crate) check: bool,
    /// Connections at a time, spread over the users; idle: watchers and the one that appends
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sessions: usize,
    /// The mailbox; prepare, append and check create it where it is not INBOX
    #[arg(long, value_name = "NAME", default_value = "INBOX")]
    pub(crate) mailbox: String,
    /// Octets of an appended message, header and all; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = parse_octets)]
    pub(crate) size: usize,
    /// What is searched; the made up messages hold `pigeon` and not `dovecote`
    #[arg(long, value_name = "TEXT", default_value = "dovecote")]
    pub(crate) word: String,
    /// prepare: messages of one MULTIAPPEND, or APPEND commands under way
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) batch: u64,
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
