//! SASL: how a client proves who it is, in any protocol that carries the exchange.
//!
//! The protocols differ in how they frame challenge and response; what lies inside is the same and
//! stands here: base64 as strict as RFC 4648 §4 allows, preparation of names and passwords, and
//! the mechanisms. A protocol's machine hands each [`Move`] of the client to its driver, which
//! has an [`Exchange`] and answers with a challenge or an [`Outcome`]:
//!
//! ```text
//!   AUTH SCRAM… ──> Move::Begin ──> Exchange ──> Turn::Challenge ──────────────────────> client
//!   response ─────> Move::Respond ─> Exchange ──> Turn::Check ─> the driver looks it up ─> Outcome
//! ```
//!
//! [`Proving`] is the other side, for a server that we log in at.
//!
//! Illegal: to print, log or keep a password. [`Secret`] shows itself to nobody by accident.

mod client;
mod exchange;
mod keys;
mod login;
mod mechanism;
mod oauth;
mod plain;
mod scram;

use crate::model::limits::PASSWORD_OCTETS_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::fmt;

pub use client::{Proving, Unsound};
pub use exchange::{Claim, Exchange, Turn};
pub use keys::{Hash, Keys, Ring, Terms, equal};
pub use mechanism::{ALL, Mechanism, Mechanisms, Policy};
pub use oauth::{Discovery, Token, TokenError};

/// What one who wants to log in has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Prepared, not empty.
    pub user: Box<str>,
    /// Prepared, not empty.
    pub password: Secret,
    /// Another user whom this one wants to act for, prepared.
    pub acting_for: Option<Box<str>>,
}

impl Credentials {
    /// Of one who acts for himself.
    pub fn new(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: Secret::new(password), acting_for: None }
    }
}

/// What a client sends within an exchange, without its base64; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(pub Vec<u8>);

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Message(..)")
    }
}

/// A client's move, as the protocols hand it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// An exchange begins, with its initial response if the client sent one.
    Begin(Mechanism, Option<Message>),
    /// The answer to the last challenge.
    Respond(Message),
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client is who it says it is.
    Accepted,
    /// Unknown user, or wrong in any other way: nobody is told which.
    Refused,
    /// The user is switched off. The client hears what it hears of a wrong password.
    Disabled,
    /// The client is known, and may not act for whom it wants to act for.
    Foreign,
    /// Not what the mechanism says in this place.
    Malformed,
    /// Not now, whatever the client shows.
    Later,
}

/// A password on its way to be checked; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Secret {
        Secret(text.into())
    }

    /// The password itself. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(..)")
    }
}

/// One line of a client during an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `*`: the client gives up (RFC 4954 §4, RFC 5034 §4).
    Cancel,
    /// What the base64 held.
    Data(Message),
}

/// The octets are not base64: a foreign character, padding where none belongs or none where it
/// does, or bits set that no octet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

/// Reads a line that answers a challenge; without its CRLF.
pub fn response(line: &[u8]) -> Result<Response, NotBase64> {
    if line == b"*" {
        return Ok(Response::Cancel);
    }
    decode(line).map(Response::Data)
}

/// Reads an initial response: `=` is one of no octets, and nothing at all is not base64
/// (RFC 4954 §4, RFC 5034 §4).
pub fn initial_response(argument: &[u8]) -> Result<Message, NotBase64> {
    match argument {
        b"=" => Ok(Message(Vec::new())),
        b"" => Err(NotBase64),
        _ => decode(argument),
    }
}

fn decode(text: &[u8]) -> Result<Message, NotBase64> {
    STANDARD.decode(text).map(Message).map_err(|_| NotBase64)
}

/// Writes a challenge as it goes on the wire.
pub fn encode(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

/// The string cannot be a name or password: not UTF-8, too long, nothing left of it, or with characters that
/// SASLprep forbids (RFC 4013 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprepared;

/// Brings a name or password into the one form in which it is compared (RFC 4013).
pub fn prepare(octets: &[u8]) -> Result<Cow<'_, str>, Unprepared> {
    if octets.len() > PASSWORD_OCTETS_MAX {
        return Err(Unprepared);
    }
    let text = std::str::from_utf8(octets).map_err(|_| Unprepared)?;
    let prepared = stringprep::saslprep(text).map_err(|_| Unprepared)?;
    // It may grow: one character can stand for eighteen letters.
    let fits = (1..=PASSWORD_OCTETS_MAX).contains(&prepared.len());
    if fits { Ok(prepared) } else { Err(Unprepared) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_base64_that_is_not_exactly_base64() {
        for bad in ["=AAA", "AAA=BBB", "QQ", "QQ=", "QR==", "Q Q=", "QQ==\t", "AA*A", "Q\u{0}=="] {
            assert_eq!(response(bad.as_bytes()), Err(NotBase64), "{bad:?}");
        }
        assert_eq!(response(b"QQ=="), Ok(Response::Data(Message(b"A".to_vec()))));
        assert_eq!(response(b""), Ok(Response::Data(Message(Vec::new()))));
        assert_eq!(response(b"*"), Ok(Response::Cancel));
    }

    #[test]
    fn tells_an_empty_initial_response_from_none() {
        assert_eq!(initial_response(b"="), Ok(Message(Vec::new())));
        assert_eq!(initial_response(b""), Err(NotBase64));
        assert_eq!(initial_response(b"*"), Err(NotBase64));
    }

    #[test]
    fn prepares_as_saslprep_says() {
        // The examples of RFC 4013 §3.
        assert_eq!(prepare("I\u{AD}X".as_bytes()).as_deref(), Ok("IX"));
        assert_eq!(prepare(b"user").as_deref(), Ok("user"));
        assert_eq!(prepare(b"USER").as_deref(), Ok("USER"));
        assert_eq!(prepare("\u{AA}".as_bytes()).as_deref(), Ok("a"));
        assert_eq!(prepare("\u{2168}".as_bytes()).as_deref(), Ok("IX"));
        assert_eq!(prepare(b"\x07"), Err(Unprepared));
        assert_eq!(prepare("\u{627}1".as_bytes()), Err(Unprepared));
        assert_eq!(prepare(b"\xc3"), Err(Unprepared));
        assert_eq!(prepare("\u{AD}".as_bytes()), Err(Unprepared));
        assert!(prepare(&[b'x'; PASSWORD_OCTETS_MAX]).is_ok());
        assert_eq!(prepare(&[b'x'; PASSWORD_OCTETS_MAX + 1]), Err(Unprepared));
        assert_eq!(prepare("\u{FDFA}".repeat(300).as_bytes()), Err(Unprepared));
    }

    #[test]
    fn never_shows_a_password() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
        assert_eq!(format!("{:?}", Message(b"hunter2".to_vec())), "Message(..)");
    }
}
