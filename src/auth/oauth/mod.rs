//! Tokens of OAuth: whose they are, judged by a signature or by asking who made them.
//!
//! ```text
//!   token ── signed, and keys are known? ──> signature ──> claims ──> user
//!     │          └ no such key: the published ones again, at most once in a while
//!     └ else: introspection (RFC 7662) ──> active? ──> claims ──> user
//! ```
//! One [`Authority`] serves all shards. It knows no user of ours: who a token names, and whether there
//! is such a user, is for who asks. What is asked by HTTP is asked on the concierge.
//!
//! Promises:
//!   - a token is judged by algorithms that the operator allows, and by a key that fits; `none` is no
//!     algorithm, and a secret is one only where the operator wrote it into a file
//!   - no answer of the authorization server is no judgement: the client is to come back
//!   - keys may be exchanged at any time, and an exchange is seen at the first token that needs it; where
//!     that is too early to look again, the token is not refused but judged later
//!
//! Illegal: to log or keep a token.

mod claims;
mod jws;
mod keys;
#[cfg(test)]
pub(super) mod tests;

pub use jsonwebtoken::Algorithm;
pub use keys::KeySet;

use crate::concierge::Concierge;
use crate::concierge::document::{Document, Newer, Times};
use crate::concierge::http::{Bounds, Client, Endpoint, Failed, Question, Trust};
use crate::model::limits::{
    OAUTH_KEYS_STALE, OAUTH_TELL_PAUSE, OAUTH_WAITING_FACTOR, OAUTH_WORD_OCTETS_MAX,
};
use crate::model::time::{Mono, Wall};
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{Discovery, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claims::Source;
use form_urlencoded::byte_serialize;
use jws::{Claims, Header};
use std::fmt;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub introspection: Option<Introspection>,
    /// Keys that the operator has.
    pub keys: Option<KeySet>,
    /// Where keys are published.
    pub published: Option<Published>,
    /// Who may make tokens.
    pub issuers: Vec<Box<str>>,
    /// Whom a token has to be for: one of these. None: anybody, of tokens that are asked about.
    pub audiences: Vec<Box<str>>,
    /// What a token has to reach: all of these.
    pub scopes: Vec<Box<str>>,
    /// Which claim is the user's name: the first that is there.
    pub user_claims: Vec<Box<str>>,
    /// An `email` will do of which nothing says whether it was verified.
    pub email_unverified: bool,
    pub algorithms: Vec<Algorithm>,
    /// Types of signed tokens, in lower case (RFC 9068 §2.1).
    pub token_types: Vec<Box<str>>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// How long a good token is remembered.
    pub remembered_for: Duration,
    pub trust: Trust,
    /// How long a question may take.
    pub timeout: Duration,
    /// Questions under way at once.
    pub requests_max: usize,
    pub discovery: Discovery,
}

/// Who is asked about a token, and as whom we ask (RFC 7662 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    pub url: Endpoint,
    pub client: Box<str>,
    pub secret: Secret,
}

/// Where keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub url: Endpoint,
    /// After which time they are fetched anew.
    pub fresh: Duration,
    /// In which they are fetched twice at most.
    pub pause: Duration,
}

/// What a good token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// In its one form (SASLprep) as the token has it; whether there is such a user here is another
    /// question.
    pub user: Box<str>,
    /// Seconds since 1970.
    pub expires: Option<u64>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Absent,
    /// No token, or one with claims that are none.
    Malformed,
    /// Not signed, and nobody to ask about it.
    Opaque,
    /// Signed by an algorithm that is not allowed, or does not fit the key.
    Algorithm,
    /// Signed with a key that nobody knows.
    Key,
    Signature,
    /// A signed token of another kind.
    Kind,
    Expired,
    /// Not good yet.
    Early,
    Issuer,
    Audience,
    Scope,
    /// It does not say whose it is.
    Nobody,
    /// The address in it is not known to be the user's.
    Unverified,
    /// The authorization server says that it is not good.
    Inactive,
}

impl Fault {
    /// In one word, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Absent => "absent",
            Fault::Malformed => "malformed",
            Fault::Opaque => "opaque",
            Fault::Algorithm => "algorithm",
            Fault::Key => "key",
            Fault::Signature => "signature",
            Fault::Kind => "type",
            Fault::Expired => "expired",
            Fault::Early => "early",
            Fault::Issuer => "issuer",
            Fault::Audience => "audience",
            Fault::Scope => "scope",
            Fault::Nobody => "user",
            Fault::Unverified => "unverified",
            Fault::Inactive => "inactive",
        }
    }
}

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Refused(Fault),
    /// Whoever could tell was not to be had.
    Unreachable(Failed),
    /// No key that is known has signed it, and it is too early to look for new ones once more.
    Early,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Refused(fault)
    }
}

/// Judges tokens, for all shards.
pub struct Authority {
    settings: Settings,
    client: Client,
    published: Option<Document<KeySet>>,
    /// No other one of this process has it: what was found by another's settings is not remembered.
    number: u64,
    /// Milliseconds of [`Mono`] from which on the operator is told again of what fails.
    silent_until: AtomicU64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Authority({})", self.number)
    }
}

impl Authority {
    /// An error: what of the settings cannot be used.
    pub fn new(settings: Settings, concierge: &Concierge) -> Result<Authority, Failed> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let bounds = Bounds {
            at_once: settings.requests_max,
            waiting: settings.requests_max * OAUTH_WAITING_FACTOR,
            timeout: settings.timeout,
        };
        let client = Client::new(concierge, &settings.trust, bounds)?;
        let document = |published: &Published| {
            let Published { url, fresh, pause } = published.clone();
            let times = Times { fresh, stale: OAUTH_KEYS_STALE.max(fresh), pause };
            // In a line of its own: questions about tokens that strangers made up do not hold it up.
            let bounds = Bounds { at_once: 1, waiting: 0, ..bounds };
            let client = Client::new(concierge, &settings.trust, bounds)?;
            Ok(Document::new(client, url, times, KeySet::published))
        };
        let published = settings.published.as_ref().map(document).transpose()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let silent_until = AtomicU64::new(0);
        Ok(Authority { settings, client, published, number, silent_until })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whose token that is; `wall` is the time of people, `now` that of the log.
    pub async fn judge(&self, token: &str, wall: Wall, now: Mono) -> Result<Grant, Trouble> {
        let seconds = wall.0 / 1_000_000;
        let has_keys = self.settings.keys.is_some() || self.published.is_some();
        let judged = match (jws::header(token).filter(|_| has_keys), &self.settings.introspection) {
            (Some(header), _) => self.judge_signed(token, &header?, seconds).await,
            (None, Some(asked)) => self.introspect(token, asked, seconds).await,
            (None, None) => Err(Fault::Opaque.into()),
        };
        if let Err(Trouble::Unreachable(why)) = &judged {
            self.tell(why, now);
        }
        judged
    }

    async fn judge_signed(
        &self,
        token: &str,
        header: &Header,
        seconds: u64,
    ) -> Result<Grant, Trouble> {
        let algorithm = Algorithm::from_str(&header.alg).map_err(|_| Fault::Algorithm)?;
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(Fault::Algorithm.into());
        }
        if !self.settings.token_types.iter().any(|one| **one == *header.typ) {
            return Err(Fault::Kind.into());
        }
        let kid = header.kid.as_deref();
        if kid.is_some_and(|kid| kid.len() > OAUTH_WORD_OCTETS_MAX) {
            return Err(Fault::Key.into());
        }
        let claims = self.open(token, kid, algorithm).await?;
        Ok(claims::judge(&claims, Source::Signature, &self.settings, seconds)?)
    }

    /// What the token claims, if a key signed it: one of the operator's, one that is published, or one
    /// that is published by now.
    async fn open(
        &self,
        token: &str,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Claims, Trouble> {
        let by = |set: &KeySet| {
            let tried = set.fitting(kid, algorithm).map(|key| jws::open(token, key, algorithm));
            tried.reduce(Result::or).unwrap_or(Err(Fault::Key))
        };
        let own = self.settings.keys.as_ref().map_or(Err(Fault::Key), by);
        // A key of one source does not hide one of the same name of the other.
        let goes_on = matches!(own, Err(Fault::Key | Fault::Signature)) || kid.is_none();
        let Some(published) = self.published.as_ref().filter(|_| own.is_err() && goes_on) else {
            return Ok(own?);
        };
        // Who knows no such key says less than who knows one.
        let with_own = |opened: Result<Claims, Fault>| match (&own, opened) {
            (Err(fault), Err(Fault::Key)) => Err(*fault),
            (_, opened) => opened,
        };
        let set = published.read().await.map_err(Trouble::Unreachable)?;
        let opened = with_own(by(&set));
        // The name of a key may stay when the key is exchanged.
        let Err(fault @ (Fault::Key | Fault::Signature)) = opened else { return Ok(opened?) };
        match published.newer(&set).await {
            Ok(Newer::Another(set)) => Ok(with_own(by(&set))?),
            Ok(Newer::NotLooked) if fault == Fault::Key => Err(Trouble::Early),
            Err(why) if fault == Fault::Key => Err(Trouble::Unreachable(why)),
            _ => Err(fault.into()),
        }
    }

    /// Asks who made the token (RFC 7662 §2).
    async fn introspect(
        &self,
        token: &str,
        asked: &Introspection,
        seconds: u64,
    ) -> Result<Grant, Trouble> {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let form = format!("token={}&token_type_hint=access_token", encoded(token));
        // RFC 6749 §2.3.1.
        let who = format!("{}:{}", encoded(&asked.client), encoded(asked.secret.expose()));
        let authorization = format!("Basic {}", STANDARD.encode(who));
        let question = Question::Post { form, authorization };
        let answer = self.client.ask(&asked.url, question).await.map_err(Trouble::Unreachable)?;
        let claims = serde_json::from_slice::<Claims>(&answer).unwrap_or_default();
        match claims.get("active").and_then(serde_json::Value::as_bool) {
            Some(true) => Ok(claims::judge(&claims, Source::Answer, &self.settings, seconds)?),
            Some(false) => Err(Fault::Inactive.into()),
            None => {
                let why = format!("{}: no answer of an introspection endpoint", asked.url);
                Err(Trouble::Unreachable(Failed(why.into())))
            }
        }
    }

    /// What can be asked, asked: a line for each question, or why it has no answer.
    pub async fn probe(&self) -> Vec<Result<String, Failed>> {
        let mut lines = Vec::new();
        if let Some(published) = &self.published {
            let read = published.read().await;
            lines.push(read.map(|set| format!("{} keys are published", set.count())));
        }
        if let Some(asked) = &self.settings.introspection {
            lines.push(match self.introspect("pombal.doctor", asked, 0).await {
                Err(Trouble::Unreachable(why)) => Err(why),
                _ => Ok(format!("{} answers", asked.url)),
            });
        }
        lines
    }

    /// Once in a while, not for each client.
    fn tell(&self, why: &Failed, now: Mono) {
        let millis = |moment: Mono| u64::try_from(moment.0.as_millis()).unwrap_or(u64::MAX);
        let until = self.silent_until.load(Ordering::Relaxed);
        if millis(now) < until {
            return;
        }
        let next = millis(now.after(OAUTH_TELL_PAUSE));
        let first =
            self.silent_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            event(Level::Error, "oauth_unreachable", &[("why", Value::Shown(why))]);
        }
    }
}
