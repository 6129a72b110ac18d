//! SMTP and LMTP (RFC 5321, RFC 2033), both sides.
//!
//! [`server`] is the machine of the server's side, [`intake`] looks at message octets while they pass
//! through it, [`reply`] holds what is said. [`client`] is the other side. Each has a `replay`, which
//! drives the bare machine for tests and fuzzers.

pub mod client;
pub mod intake;
#[cfg(any(test, feature = "sim"))]
pub mod replay;
pub mod reply;
pub mod server;

use crate::bytes::codec::to_u32;
use crate::model::limits::{
    MESSAGE_OCTETS_MAX, RECEIVED_HOPS_MAX, SMTP_ERRORS_MAX, SMTP_JUNK_COMMANDS_MAX,
    SMTP_LINE_OCTETS_MAX, SMTP_LOGINS_FAILED_MAX, SMTP_RECIPIENTS_MAX, SMTP_TEXT_LINE_OCTETS_MAX,
};
use crate::proto::sasl::Policy;

pub use crate::wire::smtp::command::Dialect;
pub use crate::wire::smtp::param::Extensions;
pub use reply::{Outcome, outcome_replies};
pub use server::{Found, Lookup, Session, Step, Verdict};

/// For whom a listener is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// Other servers, which bring mail for this one (RFC 5321).
    #[default]
    Mx,
    /// Programs that deliver: LHLO, and a reply for each recipient (RFC 2033).
    Lmtp,
    /// Users who send mail, and show first who they are (RFC 6409).
    Submission,
}

/// What the operator decides about a listener. One for all its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This server's name: the first word of the greeting and of EHLO's answer.
    pub hostname: Box<str>,
    /// What the greeting says behind the name and the protocol.
    pub greeting: Box<str>,
    pub service: Service,
    /// Octets of a message, trace lines not counted; told by SIZE (RFC 1870).
    pub max_message_size: u64,
    /// Octets of a command line with CRLF; less than a receive block.
    pub command_line_max: usize,
    /// Octets of a line of text with CRLF that DATA takes.
    pub text_line_max: u32,
    /// RCPT commands of one transaction, told by LIMITS RCPTMAX (RFC 9422 §4.2).
    pub recipients_max: u32,
    /// Commands answered 5xx before the session is closed with 421.
    pub errors_max: u32,
    /// Commands that bring no message nearer, and replies of 4xx, between two messages; each one
    /// more counts as an error.
    pub junk_commands_max: u32,
    /// Received fields that a message may have (RFC 5321 §6.3).
    pub hops_max: u32,
    /// VRFY asks the directory; otherwise it answers 252 whoever is meant.
    pub vrfy: bool,
    /// EXPN is offered.
    pub expn: bool,
    /// How clients may authenticate; nothing: AUTH is not known (`dialect` says the same).
    pub auth: Policy,
    /// Failed logins before the session is closed with 421.
    pub logins_failed_max: u8,
    /// STARTTLS is offered to those who are in clear.
    pub starttls: bool,
    /// Which extensions with parameters are offered, and how odd names in EHLO may be.
    pub dialect: Dialect,
    pub bounds: Bounds,
}

/// What a sender may ask of the queue, where that is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time that a message is held for, in seconds (RFC 4865 §3).
    pub hold_max: u32,
    /// The shortest time in which a message is delivered or comes back, in seconds; 0 is not told
    /// (RFC 2852 §2).
    pub by_min: u32,
    /// The name of the policy by which priorities are given; empty is not told (RFC 6710 §3).
    pub priority_policy: Box<str>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hostname: "localhost".into(),
            greeting: "Pombal".into(),
            service: Service::default(),
            max_message_size: MESSAGE_OCTETS_MAX,
            command_line_max: SMTP_LINE_OCTETS_MAX,
            text_line_max: to_u32(SMTP_TEXT_LINE_OCTETS_MAX),
            recipients_max: to_u32(SMTP_RECIPIENTS_MAX),
            errors_max: SMTP_ERRORS_MAX,
            junk_commands_max: SMTP_JUNK_COMMANDS_MAX,
            hops_max: to_u32(RECEIVED_HOPS_MAX),
            vrfy: false,
            expn: false,
            auth: Policy::NOTHING,
            logins_failed_max: SMTP_LOGINS_FAILED_MAX,
            starttls: false,
            dialect: Dialect::default(),
            bounds: Bounds::default(),
        }
    }
}

impl Settings {
    /// Whether each recipient has a reply of its own.
    pub fn is_lmtp(&self) -> bool {
        self.service == Service::Lmtp
    }
}
