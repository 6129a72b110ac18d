//! Logins by token (RFC 7628): judged by the authority that the operator named, told in the log.
//!
//! A token that is refused has a line of its own, which says why in one word (`auth::oauth::Fault`),
//! before the line of the failed login. The token is in neither.
//!
//! ```text
//! event=token_refused protocol=imap peer=192.0.2.7 user=bob@example.org why=expired
//! ```

use super::login::{Door, Login, tell_failed};
use super::shard::Shard;
use crate::auth::oauth::Fault;
use crate::auth::{Admitted, Bearer, Rejected};
use crate::env::Env;
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{Discovery, Outcome, Token, TokenError};

/// What a client is told of its token, if it is the token's fault.
pub(super) type Told = Option<(TokenError, Discovery)>;

impl<E: Env> Shard<E> {
    /// Who shows this token, or why nobody is let in by it.
    pub(super) async fn take(
        &self,
        door: &Door,
        token: &Token,
        method: &'static str,
    ) -> (Result<Login, Outcome>, Told) {
        let settings = self.settings();
        let user = token.user.as_deref();
        let Some(authority) = settings.oauth.clone() else {
            // It was there when the mechanism was offered.
            tell_failed(door, user.unwrap_or_default(), method, Outcome::Later);
            return (Err(Outcome::Later), None);
        };
        let bearer = Bearer { token: token.token.expose(), user, peer: door.peer };
        // As the directory is when it is asked: a check takes its time.
        let (directory, names) = (|| self.directory(), &settings.directory);
        let env = self.env.clone();
        let sleep = async move |pause| env.sleep(pause).await;
        let moment = (self.env.now(), self.env.wall());
        let admitted =
            self.authenticator.admit(&authority, bearer, directory, names, moment, sleep).await;
        let rejected = match admitted {
            Ok(Admitted { account, user }) => {
                let login = self.let_in((account, &user), None, method);
                let told = login.inspect_err(|&outcome| tell_failed(door, &user, method, outcome));
                return (told, None);
            }
            Err(rejected) => rejected,
        };
        let (outcome, error) = match &rejected {
            Rejected::Token(Fault::Scope) => (Outcome::Refused, Some(TokenError::Scope)),
            Rejected::Token(_) | Rejected::Unknown(_) => {
                (Outcome::Refused, Some(TokenError::Invalid))
            }
            Rejected::Disabled => (Outcome::Disabled, Some(TokenError::Invalid)),
            Rejected::Foreign => (Outcome::Foreign, Some(TokenError::Invalid)),
            Rejected::Busy => (Outcome::Later, None),
            Rejected::Unreachable => {
                self.figures.oauth_unreachable.one();
                (Outcome::Later, None)
            }
        };
        // Who has none asks where there are some, and has guessed nothing.
        if rejected != Rejected::Token(Fault::Absent) {
            tell_refused(door, user.unwrap_or_default(), &rejected);
            tell_failed(door, user.unwrap_or_default(), method, outcome);
        }
        (Err(outcome), error.map(|error| (error, authority.settings().discovery.clone())))
    }
}

fn tell_refused(door: &Door, user: &str, rejected: &Rejected) {
    let (user, why) = match rejected {
        Rejected::Token(fault) => (user, fault.name()),
        // As the token names him.
        Rejected::Unknown(named) => (&**named, "unknown"),
        _ => return,
    };
    let fields = [
        ("protocol", door.protocol.into()),
        ("peer", Value::Shown(&door.peer)),
        ("user", user.into()),
        ("why", why.into()),
    ];
    event(Level::Info, "token_refused", &fields);
}
