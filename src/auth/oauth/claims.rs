//! What is claimed of a token, by its maker's signature (RFC 7519 §4.1, RFC 9068 §2.2) or by the answer
//! to a question (RFC 7662 §2.2): whether it is for us, for now, for enough, and for whom.

use super::jws::Claims;
use super::{Fault, Grant, Settings};
use crate::proto::sasl::prepare;
use serde_json::Value;

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A signature: the claims have to say everything.
    Signature,
    /// The authorization server itself, which need not say who it is, nor how long it holds.
    Answer,
}

/// The user, if these claims are good at `now` (seconds since 1970).
pub(super) fn judge(
    claims: &Claims,
    source: Source,
    settings: &Settings,
    now: u64,
) -> Result<Grant, Fault> {
    let is_signed = source == Source::Signature;
    let leeway = settings.leeway.as_secs();
    let expires = moment(claims, "exp")?;
    if is_signed && expires.is_none() {
        return Err(Fault::Malformed);
    }
    if expires.is_some_and(|expires| now >= expires.saturating_add(leeway)) {
        return Err(Fault::Expired);
    }
    if moment(claims, "nbf")?.is_some_and(|from| now.saturating_add(leeway) < from) {
        return Err(Fault::Early);
    }
    let listed = |list: &[Box<str>], word: &str| list.iter().any(|one| **one == *word);
    match claims.get("iss") {
        Some(Value::String(issuer)) if listed(&settings.issuers, issuer) => {}
        Some(_) if !settings.issuers.is_empty() => return Err(Fault::Issuer),
        None if is_signed => return Err(Fault::Issuer),
        _ => {}
    }
    // For one of ours, or for nobody in particular where the operator does not ask.
    let audiences = words(claims.get("aud"), false)?;
    let is_ours = audiences.iter().any(|one| listed(&settings.audiences, one));
    if !is_ours && (is_signed || !settings.audiences.is_empty()) {
        return Err(Fault::Audience);
    }
    let mut scopes = words(claims.get("scope"), true)?;
    // The name that some servers give it.
    scopes.extend(words(claims.get("scp"), true)?);
    if !settings.scopes.iter().all(|wanted| scopes.contains(&&**wanted)) {
        return Err(Fault::Scope);
    }
    Ok(Grant { user: user(claims, settings)?, expires })
}

/// The first of the operator's claims that is there says who it is.
fn user(claims: &Claims, settings: &Settings) -> Result<Box<str>, Fault> {
    let found = settings.user_claims.iter().find_map(|name| Some((name, claims.get(&**name)?)));
    let Some((name, Value::String(user))) = found else { return Err(Fault::Nobody) };
    // Whoever may write any address into his profile would be anybody (OpenID Connect Core §5.7).
    let is_known = match claims.get("email_verified") {
        Some(Value::Bool(said)) => *said,
        // As some servers write it.
        Some(said) => said.as_str() == Some("true"),
        None => settings.email_unverified,
    };
    if &**name == "email" && !is_known {
        return Err(Fault::Unverified);
    }
    // Never brought into another form: two names of theirs would be one of ours.
    match prepare(user.as_bytes()) {
        Ok(prepared) if prepared == user.as_str() => Ok(user.as_str().into()),
        _ => Err(Fault::Nobody),
    }
}

/// A moment in seconds since 1970, which may have a fraction (RFC 7519 §2).
fn moment(claims: &Claims, name: &str) -> Result<Option<u64>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(whole) = value.as_u64() {
        return Ok(Some(whole));
    }
    let seconds = value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds));
    let seconds = seconds.ok_or(Fault::Malformed)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies within bounds, and the fraction does not count"
    )]
    Ok(Some(seconds as u64))
}

/// One word or a list of them; with `parted`, words with spaces between them.
fn words(value: Option<&Value>, parted: bool) -> Result<Vec<&str>, Fault> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if parted => Ok(text.split(' ').collect()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(all)) => {
            all.iter().map(|one| one.as_str().ok_or(Fault::Malformed)).collect()
        }
        Some(_) => Err(Fault::Malformed),
    }
}
