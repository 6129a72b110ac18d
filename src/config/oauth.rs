//! The keys of `[auth.oauth]`, and the files that they name, read and checked.

use super::reader::Section;
use super::sections::path;
use super::{Config, Introspection, Mistake, OAuth};
use crate::auth::oauth::{self, Algorithm, KeySet, Published, Settings};
use crate::concierge::http::{Endpoint, Trust, check_roots};
use crate::model::limits::{self, TLS_FILE_OCTETS_MAX};
use crate::proto::sasl::{Discovery, Mechanism, Mechanisms, Secret};
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const A_URL: &str = "an https URL, or an http one of this machine (127.0.0.1, [::1], localhost)";
/// The audience of those who take tokens that were made for anybody.
const ANY: &str = "*";
/// Signatures that are checked unless the operator says otherwise. HMAC is not among them: its key
/// makes tokens too.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

/// `None` where nobody is named who judges tokens.
pub(super) fn oauth(auth: &mut Section<'_, '_, '_>, mechanisms: Mechanisms) -> Option<OAuth> {
    let at = auth.span("oauth");
    let mut section = auth.section("oauth");
    let oauth = OAuth {
        introspection: introspection(&mut section),
        jwks_file: path(&mut section, "jwks_file", None),
        jwks_url: endpoint(&mut section, "jwks_url"),
        jwks_ttl: section.time("jwks_ttl", limits::OAUTH_KEYS_FRESH, MINUTE..=7 * DAY),
        jwks_min_interval: section.time(
            "jwks_min_interval",
            limits::OAUTH_KEYS_PAUSE,
            SECOND..=HOUR,
        ),
        issuers: words(&mut section, "issuers", &[], "a list of issuers, as `iss` has them"),
        audiences: words(&mut section, "audiences", &[], "a list of audiences (`aud`)"),
        scopes: words(&mut section, "scopes", &[], "a list of scopes, all of them needed"),
        user_claims: words(&mut section, "user_claims", &["email"], "a list of claims"),
        email_unverified: section.flag("email_unverified", false),
        algorithms: algorithms(&mut section),
        token_types: words(&mut section, "token_types", &["at+jwt", "JWT"], "a list of types")
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        leeway: section.time("leeway", limits::OAUTH_LEEWAY, Duration::ZERO..=5 * MINUTE),
        cache_ttl: section.time("cache_ttl", limits::OAUTH_CACHE_TTL, Duration::ZERO..=HOUR),
        timeout: section.time("timeout", limits::OAUTH_TIMEOUT, SECOND..=MINUTE),
        max_requests: section.count("max_requests", limits::OAUTH_REQUESTS_MAX, 1..=64),
        ca_file: path(&mut section, "ca_file", None),
        openid_configuration: section.word(
            "openid_configuration",
            None,
            "an https URL",
            |text| Endpoint::parse(text).filter(Endpoint::is_encrypted),
            Endpoint::to_string,
        ),
    };
    let signed = oauth.jwks_file.is_some() || oauth.jwks_url.is_some();
    let judged = signed || oauth.introspection.is_some();
    demand(&mut section, &oauth, signed);
    section.end();
    if let Some(at) = at {
        for (what, allowed) in odd(&oauth, judged, mechanisms) {
            auth.reader.mistake(&at, what, allowed);
        }
    }
    judged.then_some(oauth)
}

/// Who is asked: by what name and secret of ours, or not at all.
fn introspection(section: &mut Section<'_, '_, '_>) -> Option<Introspection> {
    let url = endpoint(section, "introspection_url");
    let client = word(section, "client_id", "the name that this server has there");
    let secret_file = path(section, "client_secret_file", None);
    for (missing, there, needed) in [
        (client.is_none(), url.is_some(), "client_id"),
        (secret_file.is_none(), url.is_some(), "client_secret_file"),
        (url.is_none(), client.is_some() || secret_file.is_some(), "introspection_url"),
    ] {
        let allowed = "introspection_url, client_id and client_secret_file together";
        section.demand(needed, missing && there, allowed);
    }
    Some(Introspection { url: url?, client: client?, secret_file: secret_file? })
}

/// Notes which lists are empty that must not be.
fn demand(section: &mut Section<'_, '_, '_>, oauth: &OAuth, signed: bool) {
    for (list, name) in [(&oauth.issuers, "issuers"), (&oauth.audiences, "audiences")] {
        let allowed = "at least one: a token that is made for others is no key to this server";
        demand_some(section, name, signed && list.is_empty(), allowed);
    }
    // What is asked about says of itself for whom it is, to one who looks.
    let looks = signed || [&oauth.audiences, &oauth.scopes].iter().any(|all| !all.is_empty());
    let allowed = "whom tokens are for, or `scopes`, which are only given for this server; [\"*\"] takes \
                   those for anybody";
    demand_some(section, "audiences", oauth.introspection.is_some() && !looks, allowed);
    demand_some(section, "user_claims", oauth.user_claims.is_empty(), "at least one");
    demand_some(section, "algorithms", oauth.algorithms.is_empty(), "at least one");
}

/// What does not go together, and what would.
fn odd(
    oauth: &OAuth,
    judged: bool,
    mechanisms: Mechanisms,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let meant = [&oauth.issuers, &oauth.audiences, &oauth.scopes].iter().any(|all| !all.is_empty());
    let takes = mechanisms.each().any(Mechanism::takes_tokens);
    let signed = oauth.jwks_file.is_some() || oauth.jwks_url.is_some();
    let by_secret = oauth.algorithms.iter().copied().any(is_secret);
    let all = [
        (
            meant && !judged,
            "`auth.oauth` names nobody who judges tokens",
            "introspection_url, jwks_url or jwks_file",
        ),
        (
            judged && !takes,
            "`auth.oauth` is of no use: `auth.mechanisms` has no mechanism for tokens",
            "OAUTHBEARER or XOAUTH2 there",
        ),
        (
            oauth.audiences.iter().any(|one| one == ANY) && (signed || oauth.audiences.len() > 1),
            "`auth.oauth.audiences` has \"*\" among others, or for signed tokens",
            "\"*\" alone, and only where all tokens are asked about",
        ),
        (
            oauth.issuers.len() > 1 && oauth.jwks_file.is_some() && oauth.jwks_url.is_some(),
            "`auth.oauth` has several issuers and two sources of keys: no key says whose it is",
            "one issuer, or either jwks_url or jwks_file",
        ),
        (
            by_secret && oauth.jwks_file.is_none(),
            "`auth.oauth.algorithms` has HMAC, and there is no secret for it",
            "the secret in jwks_file (one that is published is none)",
        ),
    ];
    all.into_iter().filter(|(is_wrong, _, _)| *is_wrong).map(|(_, what, allowed)| (what, allowed))
}

/// Notes that a list needs something in it.
fn demand_some(
    section: &mut Section<'_, '_, '_>,
    name: &'static str,
    is_wrong: bool,
    allowed: &str,
) {
    match section.span(name) {
        Some(span) if is_wrong => {
            section.reader.mistake(&span, format!("`auth.oauth.{name}` is empty"), allowed);
        }
        _ => section.demand(name, is_wrong, allowed),
    }
}

fn endpoint(section: &mut Section<'_, '_, '_>, name: &'static str) -> Option<Endpoint> {
    section.word(name, None, A_URL, Endpoint::parse, Endpoint::to_string)
}

fn word(section: &mut Section<'_, '_, '_>, name: &'static str, allowed: &str) -> Option<String> {
    let read = |text: &str| is_word(text).then(|| text.to_owned());
    section.word(name, None, allowed, read, String::clone)
}

fn words(
    section: &mut Section<'_, '_, '_>,
    name: &'static str,
    default: &[&str],
    allowed: &str,
) -> Vec<String> {
    let read = |text: &str| {
        let right = is_word(text) && !text.contains(' ');
        right.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is no such word"))
    };
    let default = default.iter().map(|text| (*text).to_owned()).collect();
    section.list(name, Some(default), allowed, read, String::clone).unwrap_or_default()
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limits::OAUTH_WORD_OCTETS_MAX
        && !text.contains(|letter: char| letter.is_control())
}

fn algorithms(section: &mut Section<'_, '_, '_>) -> Vec<Algorithm> {
    let read = |text: &str| {
        Algorithm::from_str(text).map_err(|_| format!("{text:?} is no algorithm that is checked"))
    };
    let allowed = "a list of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA; HS256, \
                   HS384, HS512 only with secrets in jwks_file";
    let show = |algorithm: &Algorithm| format!("{algorithm:?}");
    section.list("algorithms", Some(ALGORITHMS.into()), allowed, read, show).unwrap_or_default()
}

/// Whoever can check it can make it.
fn is_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

impl OAuth {
    /// Files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let secret = self.introspection.as_ref().map(|asked| asked.secret_file.as_path());
        secret.into_iter().chain(self.jwks_file.as_deref()).chain(self.ca_file.as_deref())
    }
}

/// What is configured, with what stands in the files; `None` where tokens are not taken. An error: the
/// file that cannot be used.
pub fn read(config: &Config) -> Result<Option<Settings>, Mistake> {
    let Some(oauth) = &config.auth.oauth else { return Ok(None) };
    let boxed = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
    let introspection = match &oauth.introspection {
        Some(asked) => Some(oauth::Introspection {
            url: asked.url.clone(),
            client: asked.client.as_str().into(),
            secret: secret(&asked.secret_file)?,
        }),
        None => None,
    };
    let published = oauth.jwks_url.as_ref().map(|url| Published {
        url: url.clone(),
        fresh: oauth.jwks_ttl,
        pause: oauth.jwks_min_interval,
    });
    let scope = (!oauth.scopes.is_empty()).then(|| oauth.scopes.join(" ").into());
    Ok(Some(Settings {
        trust: trust(oauth)?,
        keys: oauth.jwks_file.as_deref().map(|file| keys(file, oauth)).transpose()?,
        introspection,
        published,
        issuers: boxed(&oauth.issuers),
        audiences: if oauth.audiences == [ANY] { Vec::new() } else { boxed(&oauth.audiences) },
        scopes: boxed(&oauth.scopes),
        user_claims: boxed(&oauth.user_claims),
        email_unverified: oauth.email_unverified,
        algorithms: oauth.algorithms.clone(),
        token_types: boxed(&oauth.token_types),
        leeway: oauth.leeway,
        remembered_for: oauth.cache_ttl,
        timeout: oauth.timeout,
        requests_max: oauth.max_requests,
        discovery: Discovery {
            scope,
            openid_configuration: oauth
                .openid_configuration
                .as_ref()
                .map(|url| url.to_string().into()),
        },
    }))
}

fn secret(file: &Path) -> Result<Secret, Mistake> {
    let octets = octets(file)?;
    let text = std::str::from_utf8(&octets).map(str::trim).unwrap_or_default();
    if text.is_empty() || text.contains(|letter: char| letter.is_control()) {
        let allowed = "one line: the secret that the authorization server gave";
        return Err(mistake(file, "no secret of a client".into(), allowed));
    }
    Ok(Secret::new(text))
}

fn keys(file: &Path, oauth: &OAuth) -> Result<KeySet, Mistake> {
    let keys = KeySet::from_file(&octets(file)?);
    let keys = keys.map_err(|why| mistake(file, why, "keys in JSON (RFC 7517)"))?;
    if keys.has_secrets() && !oauth.algorithms.iter().copied().any(is_secret) {
        let what = "a secret among the keys, and no algorithm for it".into();
        return Err(mistake(file, what, "public keys, or HS256 in auth.oauth.algorithms"));
    }
    Ok(keys)
}

fn trust(oauth: &OAuth) -> Result<Trust, Mistake> {
    if let Some(file) = &oauth.ca_file {
        let pem = octets(file)?;
        let allowed = "certificates of authorities in PEM form";
        check_roots(&pem).map_err(|why| mistake(file, why.to_string(), allowed))?;
        return Ok(Trust::These(pem.into()));
    }
    let asked = oauth.introspection.as_ref().map(|asked| &asked.url);
    let by_tls = asked.into_iter().chain(&oauth.jwks_url).any(Endpoint::is_encrypted);
    Ok(if by_tls { Trust::System } else { Trust::Nobody })
}

fn octets(file: &Path) -> Result<Vec<u8>, Mistake> {
    let unreadable = |error: std::io::Error| mistake(file, error.to_string(), "");
    if std::fs::metadata(file).map_err(unreadable)?.len() > TLS_FILE_OCTETS_MAX {
        return Err(mistake(file, "too large".into(), ""));
    }
    std::fs::read(file).map_err(unreadable)
}

fn mistake(file: &Path, what: String, allowed: &str) -> Mistake {
    let file = file.display().to_string();
    Mistake { file, line: 0, column: 0, what, allowed: allowed.into() }
}
