//! OAUTHBEARER (RFC 7628 §3) and XOAUTH2: a token that somebody else gave the client.
//!
//! ```text
//! OAUTHBEARER  n,a=user@example.org,^Ahost=…^Aport=…^Aauth=Bearer token^A^A
//! XOAUTH2      user=user@example.org^Aauth=Bearer token^A^A
//! ```
//! A refused token is answered by a challenge that says why, in JSON; the client answers with
//! something that nobody reads, and only then the exchange has failed.

use super::{Mechanism, Secret, prepare};
use serde_json::{Map, Value};

/// What the client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whom the token is for, if the client says so. The token itself decides.
    pub user: Option<Box<str>>,
    /// Empty: the client wants to hear where tokens are to be had.
    pub token: Secret,
}

/// Where tokens are to be had: what a client whose token is refused is told (RFC 7628 §3.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    pub scope: Option<Box<str>>,
    /// The address of an OpenID configuration.
    pub openid_configuration: Option<Box<str>>,
}

/// What is wrong with a token (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is none, or not good any more, or not for us: another one may be.
    Invalid,
    /// It is good, and does not reach this far.
    Scope,
}

/// What is said to a client whose token is refused.
pub(super) fn refusal(mechanism: Mechanism, error: TokenError, discovery: &Discovery) -> Vec<u8> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: &str| fields.insert(name.into(), Value::String(value.into()));
    let (code, status) = match error {
        TokenError::Invalid => ("invalid_token", "401"),
        TokenError::Scope => ("insufficient_scope", "403"),
    };
    if mechanism == Mechanism::Xoauth2 {
        put("status", status);
        put("schemes", "bearer");
    } else {
        put("status", code);
    }
    if let Some(scope) = &discovery.scope {
        put("scope", scope);
    }
    if let Some(address) = &discovery.openid_configuration {
        put("openid-configuration", address);
    }
    Value::Object(fields).to_string().into_bytes()
}

/// Reads the message of OAUTHBEARER.
pub(super) fn bearer(message: &[u8]) -> Option<Token> {
    let text = std::str::from_utf8(message).ok()?;
    let (header, rest) = text.split_once('\x01')?;
    let (flag, authzid) = header.strip_suffix(',')?.split_once(',')?;
    // Binding to the channel is for those who can, which nobody does (RFC 7628 §3.1).
    if !matches!(flag, "n" | "y") {
        return None;
    }
    let user = match authzid.strip_prefix("a=") {
        Some(name) => Some(prepare(super::scram::unescape(name)?.as_bytes()).ok()?.as_ref().into()),
        None if authzid.is_empty() => None,
        None => return None,
    };
    let token = token(pairs(rest)?)?;
    Some(Token { user, token })
}

/// Reads the message of XOAUTH2.
pub(super) fn xoauth2(message: &[u8]) -> Option<Token> {
    let text = std::str::from_utf8(message).ok()?;
    let pairs: Vec<(&str, &str)> = pairs(text)?.collect();
    let user = pairs.iter().find(|(key, _)| *key == "user")?.1;
    let user = prepare(user.as_bytes()).ok()?.as_ref().into();
    Some(Token { user: Some(user), token: token(pairs.into_iter())? })
}

/// Pairs, each ended by ^A, and one ^A more.
fn pairs(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let text = text.strip_suffix('\x01')?;
    let text = if text.is_empty() { text } else { text.strip_suffix('\x01')? };
    let is_key =
        |key: &str| !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_alphabetic());
    let is_value = |value: &str| {
        value.bytes().all(|octet| !octet.is_ascii_control() || b"\t\r\n".contains(&octet))
    };
    let all: Option<Vec<(&str, &str)>> = text
        .split('\x01')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').filter(|(key, value)| is_key(key) && is_value(value)))
        .collect();
    all.map(Vec::into_iter)
}

fn token<'a>(mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Secret> {
    let value = pairs.find(|(key, _)| *key == "auth")?.1;
    if value.is_empty() {
        return Some(Secret::new(""));
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    let is_octet = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(&octet);
    // RFC 6750 §2.1.
    let is_token = !token.is_empty() && token.bytes().all(is_octet);
    (scheme.eq_ignore_ascii_case("Bearer") && is_token).then(|| Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: Option<Token>) -> String {
        token.map_or("nothing".into(), |token| {
            format!("{} {}", token.user.as_deref().unwrap_or("-"), token.token.expose())
        })
    }

    #[test]
    fn reads_the_example_of_the_rfc() {
        // RFC 7628 §4.1.
        let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                        auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let want = "user@example.com vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
        assert_eq!(shown(bearer(message)), want);
        // The example of Google's XOAUTH2.
        let message = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01";
        let want = "someuser@example.com ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg";
        assert_eq!(shown(xoauth2(message)), want);
    }

    #[test]
    fn takes_a_message_without_user_and_one_that_asks() {
        assert_eq!(shown(bearer(b"n,,\x01auth=bearer x.y.z\x01\x01")), "- x.y.z");
        assert_eq!(shown(bearer(b"y,a=a=2Cb,\x01auth=\x01\x01")), "a,b ");
        for bad in [
            &b""[..],
            b"n,,",
            b"n,,\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer x\x01",
            b"p=tls-unique,,\x01auth=Bearer x\x01\x01",
            b"n,b,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"n,,\x01=x\x01auth=Bearer x\x01\x01",
            b"n,a=,\x01auth=Bearer x\x01\x01",
            b"\xff\x01\x01",
        ] {
            assert_eq!(shown(bearer(bad)), "nothing", "{}", bad.escape_ascii());
        }
        for bad in [
            &b""[..],
            b"\x01\x01",
            b"user=a\x01\x01",
            b"auth=Bearer x\x01\x01",
            b"user=\x01auth=Bearer x\x01\x01",
        ] {
            assert_eq!(shown(xoauth2(bad)), "nothing", "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn never_panics() {
        arbtest::arbtest(|u| {
            let words =
                ["n,", ",", "a=", "\x01", "auth=", "Bearer ", "x", "user=", "=2C", "é", "\0"];
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=12)? {
                text.push_str(u.choose(&words)?);
            }
            if let Some(found) = bearer(text.as_bytes()).or_else(|| xoauth2(text.as_bytes())) {
                assert!(found.token.expose().is_ascii());
            }
            Ok(())
        });
    }
}
