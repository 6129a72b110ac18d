//! Tokens (`oauth`) as one shard takes them in: judged once, remembered, slowed down like passwords.
//!
//! ```text
//!   token ──> remembered? ──> pause ──> under way? ──> the authority ──> which user of ours
//! ```
//! What is remembered is what the token grants, by a keyed hash of the token; which user that is, and
//! whether he is switched off, is asked of the directory each time. Whoever is remembered waits for
//! nothing: unlike a password a token cannot be guessed.

use super::cache::{Cache, Tag, tag};
use super::gate::Gate;
use super::oauth::{Authority, Fault, Grant, Trouble};
use super::throttle::Guess;
use super::{Authenticator, subject};
use crate::bytes::hash::Map;
use crate::directory::{self, Snapshot};
use crate::model::id::AccountId;
use crate::model::limits::OAUTH_CHECKS_MAX;
use crate::model::time::{Mono, Wall};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What somebody shows who has a token.
#[derive(Clone, Copy)]
pub struct Bearer<'a> {
    pub token: &'a str,
    /// Who he says that he is, prepared; the token has to say the same.
    pub user: Option<&'a str>,
    /// Where the client is.
    pub peer: IpAddr,
}

/// Who has shown a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub account: AccountId,
    /// As the client named him, or the token where the client did not.
    pub user: Box<str>,
}

/// Why somebody is not let in by his token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    Token(Fault),
    /// The token is good, and this is nobody who is here.
    Unknown(Box<str>),
    /// The token is good, and its user is switched off.
    Disabled,
    /// The token is good, and another's than the client said.
    Foreign,
    /// Too much is under way, or was of late: the client is to come back.
    Busy,
    /// Whoever could judge it is not to be had: the client is to come back.
    Unreachable,
}

type Judged = Result<Grant, Trouble>;

/// What the shard remembers of tokens, and what it waits for.
pub(super) struct Tokens {
    good: Cache<Grant>,
    /// Apart, so that a flood of bad ones does not push out the good ones.
    bad: Cache<Fault>,
    under_way: Map<Tag, Rc<Gate<Judged>>>,
}

impl Tokens {
    pub(super) fn new(remembered_max: usize) -> Tokens {
        let (good, bad) = (Cache::new(remembered_max), Cache::new(remembered_max / 4));
        Tokens { good, bad, under_way: Map::default() }
    }

    fn recall(&mut self, tag: Tag, now: Mono) -> Option<Result<Grant, Fault>> {
        if let Some(grant) = self.good.get(tag, now) {
            return Some(Ok(grant.clone()));
        }
        self.bad.get(tag, now).map(|fault| Err(*fault))
    }
}

impl Authenticator {
    /// Who shows this token. `directory` is how it is at that moment, `sleep` is how a pause is waited
    /// for. May be dropped at any time.
    pub async fn admit(
        &self,
        authority: &Authority,
        bearer: Bearer<'_>,
        directory: impl Fn() -> Arc<Snapshot>,
        names: &directory::Settings,
        (now, wall): (Mono, Wall),
        sleep: impl AsyncFn(Duration),
    ) -> Result<Admitted, Rejected> {
        let Bearer { token, user, peer } = bearer;
        if token.is_empty() {
            return Err(Rejected::Token(Fault::Absent));
        }
        let find = |name: &str| directory().login(name, names).cloned();
        let number = authority.number().to_string();
        let tag = tag(&self.key, AccountId(0), "token", &number, token);
        let remembered = self.tokens.borrow_mut().recall(tag, now);
        let grant = match remembered {
            Some(Ok(grant)) => grant,
            Some(Err(fault)) => return Err(Rejected::Token(fault)),
            None => {
                // One who names nobody is counted by his token: all of these are not one.
                let subject = match user {
                    Some(user) => {
                        let name = directory().login_name(user, names);
                        subject(find(user).as_deref(), &name)
                    }
                    None => subject(None, token),
                };
                let guess = Guess { peer, subject };
                let free = self.settings.free;
                let pause = self.throttle.enter(guess, free, now).ok_or(Rejected::Busy)?.wait;
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                let moment = (now.after(pause), Wall(wall.0.saturating_add(micros)));
                match self.judged(authority, token, tag, moment).await? {
                    Ok(grant) => grant,
                    Err(Trouble::Refused(fault)) => {
                        self.throttle.failed(guess, free, moment.0);
                        return Err(Rejected::Token(fault));
                    }
                    Err(Trouble::Unreachable(_)) => return Err(Rejected::Unreachable),
                    Err(Trouble::Early) => return Err(Rejected::Busy),
                }
            }
        };
        let owner = find(&grant.user).ok_or_else(|| Rejected::Unknown(grant.user.clone()))?;
        let account = owner.account;
        if user.is_some_and(|user| find(user).is_none_or(|named| named.account != account)) {
            return Err(Rejected::Foreign);
        }
        if !owner.enabled {
            return Err(Rejected::Disabled);
        }
        // Not before it is known that it is his own: the place is that of the owner from now on.
        self.throttle.welcome(Guess { peer, subject: u64::from(account.0) }, now);
        Ok(Admitted { account, user: user.unwrap_or(&grant.user).into() })
    }

    /// What the authority says of it; asked once for all who show the same at the same time.
    async fn judged(
        &self,
        authority: &Authority,
        token: &str,
        tag: Tag,
        (now, wall): (Mono, Wall),
    ) -> Result<Judged, Rejected> {
        loop {
            let (gate, turn) = self.enter_token(tag)?;
            let Some(turn) = turn else {
                // Whoever was first may leave without an answer: then it is the next one's turn.
                let Some(judged) = gate.wait().await else { continue };
                return Ok(judged);
            };
            let judged = authority.judge(token, wall, now).await;
            self.remember_token(authority, tag, &judged, (now, wall));
            turn.gate.open(judged.clone());
            return Ok(judged);
        }
    }

    fn remember_token(
        &self,
        authority: &Authority,
        tag: Tag,
        judged: &Judged,
        (now, wall): (Mono, Wall),
    ) {
        let mut tokens = self.tokens.borrow_mut();
        match judged {
            Ok(grant) => {
                let seconds = grant.expires.map(|at| at.saturating_sub(wall.0 / 1_000_000));
                let holds = seconds.map_or(Duration::MAX, Duration::from_secs);
                let until = now.after(holds.min(authority.settings().remembered_for));
                tokens.good.put(tag, grant.clone(), until, now);
            }
            // Only what was asked for is dear; and what was signed by keys that are not known yet, or
            // is not good yet, may be good in a moment.
            Err(Trouble::Refused(fault @ Fault::Inactive)) => {
                tokens.bad.put(tag, *fault, now.after(self.settings.refused_for), now);
            }
            Err(_) => {}
        }
    }

    fn enter_token(&self, tag: Tag) -> Result<(Rc<Gate<Judged>>, Option<TokenTurn<'_>>), Rejected> {
        let mut tokens = self.tokens.borrow_mut();
        if let Some(gate) = tokens.under_way.get(&tag) {
            return Ok((Rc::clone(gate), None));
        }
        if tokens.under_way.len() >= OAUTH_CHECKS_MAX {
            return Err(Rejected::Busy);
        }
        let gate = Rc::new(Gate::default());
        tokens.under_way.insert(tag, Rc::clone(&gate));
        Ok((Rc::clone(&gate), Some(TokenTurn { of: self, tag, gate })))
    }
}

/// The one check of a token that is under way. Ends when dropped, also unanswered.
struct TokenTurn<'a> {
    of: &'a Authenticator,
    tag: Tag,
    gate: Rc<Gate<Judged>>,
}

impl Drop for TokenTurn<'_> {
    fn drop(&mut self) {
        self.of.tokens.borrow_mut().under_way.remove(&self.tag);
        self.gate.leave();
    }
}

#[cfg(test)]
#[path = "bearer_tests.rs"]
mod tests;
