//! What logging in is in every protocol: the exchange, the check, and the one line of the log that
//! tells of a failure.
//!
//! The words of that line are a promise to those who read logs by machine (`tuning/fail2ban`):
//!
//! ```text
//! event=login_failed protocol=imap peer=192.0.2.7 user=bob method=PLAIN why=refused
//! ```
//! `why` is `refused` (unknown user or wrong password), `disabled`, `foreign` (may not act for whom
//! he named), `malformed`, or `later`: too much is under way, or waits, to check it.

use super::shard::Shard;
use crate::auth::{Claim, Verdict};
use crate::env::Env;
use crate::model::id::AccountId;
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{Credentials, Exchange, Move, Outcome, Turn};
use std::net::IpAddr;

/// Where a client stands.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    pub protocol: &'static str,
    pub peer: IpAddr,
}

/// An exchange under way.
#[derive(Debug)]
pub struct Attempt {
    exchange: Exchange,
    /// The mechanism, for the log.
    method: &'static str,
}

/// One who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub account: AccountId,
    /// As he called himself.
    pub user: Box<str>,
    /// For the log.
    pub method: &'static str,
}

/// What a client is to hear next.
#[derive(Debug)]
pub enum Heard {
    Challenge(Vec<u8>),
    /// The exchange is over.
    Done(Result<Login, Outcome>),
}

impl<E: Env> Shard<E> {
    /// Takes a client's move; `attempt` is the exchange of its session between two of them.
    pub async fn hear(&self, door: Door, attempt: &mut Option<Box<Attempt>>, said: Move) -> Heard {
        let mut open = match (&said, attempt.take()) {
            (Move::Respond(_), Some(open)) => open,
            (Move::Begin(mechanism, _), _) => {
                Box::new(Attempt { exchange: Exchange::new(), method: mechanism.name() })
            }
            (Move::Respond(_), None) => return Heard::Done(Err(Outcome::Malformed)),
        };
        let method = open.method;
        match open.exchange.step(said) {
            Turn::Challenge(octets) => {
                *attempt = Some(open);
                Heard::Challenge(octets)
            }
            Turn::Check(credentials) => Heard::Done(self.log_in(door, &credentials, method).await),
            Turn::Malformed => {
                tell_failed(door, "", method, Outcome::Malformed);
                Heard::Done(Err(Outcome::Malformed))
            }
        }
    }

    /// Checks a name and a password.
    pub async fn log_in(
        &self,
        door: Door,
        credentials: &Credentials,
        method: &'static str,
    ) -> Result<Login, Outcome> {
        let user = &*credentials.user;
        let outcome = match self.check(door, credentials).await {
            // Nobody acts for another user yet.
            Verdict::Account(_) if credentials.acting_for.is_some() => Outcome::Foreign,
            Verdict::Account(account) => return Ok(Login { account, user: user.into(), method }),
            Verdict::Refused => Outcome::Refused,
            Verdict::Disabled => Outcome::Disabled,
            Verdict::Busy => Outcome::Later,
        };
        tell_failed(door, user, method, outcome);
        Err(outcome)
    }

    async fn check(&self, door: Door, credentials: &Credentials) -> Verdict {
        let snapshot = self.directory();
        let settings = self.settings();
        let env = self.env.clone();
        let sleep = async move |pause| env.sleep(pause).await;
        let Credentials { user, password, .. } = credentials;
        let claim = Claim { user, password: password.expose(), peer: door.peer };
        let now = self.env.now();
        self.authenticator.verify(&snapshot, &settings.directory, claim, now, sleep).await
    }
}

/// Writes the line of a login that came to nothing.
pub fn tell_failed(door: Door, user: &str, method: &str, outcome: Outcome) {
    let why = match outcome {
        Outcome::Accepted | Outcome::Refused => "refused",
        Outcome::Disabled => "disabled",
        Outcome::Foreign => "foreign",
        Outcome::Malformed => "malformed",
        Outcome::Later => "later",
    };
    let fields = [
        ("protocol", door.protocol.into()),
        ("peer", Value::Shown(&door.peer)),
        ("user", user.into()),
        ("method", method.into()),
        ("why", why.into()),
    ];
    event(Level::Info, "login_failed", &fields);
}
