//! The certificates that the file names, read and checked: what is wrong is said with the file it is
//! in.

use super::{Certificate, Clients, DomainPattern, Mistake, Tls};
use crate::model::limits::TLS_FILE_OCTETS_MAX;
use crate::tls::{Authorities, Fault, For, Identity, Names};
use std::path::Path;
use x509_parser::time::ASN1Time;

const TIMELY: &str = "a certificate that is good now";

/// Certificates as they are in their files.
#[derive(Debug, Default)]
pub struct Found {
    pub names: Names,
    /// Whether one of them is for clients that name nobody else.
    pub has_default: bool,
    /// Who signs for clients.
    pub authorities: Option<Authorities>,
    /// Good, but not now: those that are over, or are to come.
    pub untimely: Vec<Mistake>,
}

/// Reads all that is named. An error: some of it cannot be used at any time.
pub fn read(tls: &Tls) -> Result<Found, Vec<Mistake>> {
    let mut found = Found::default();
    let mut mistakes = Vec::new();
    let now = ASN1Time::now().timestamp();
    let default = tls.default.iter().map(|certificate| (For::Anybody, certificate));
    let all: Vec<(String, &Certificate)> =
        tls.sni.iter().map(|(pattern, certificate)| (to_name(pattern), certificate)).collect();
    let named = all.iter().map(|(name, certificate)| (to_whom(name), *certificate));
    for (whom, files) in default.chain(named) {
        match identity(files) {
            Ok(identity) => {
                found.untimely.extend(untimely(&identity, &files.certificate, now));
                found.has_default |= whom == For::Anybody;
                found.names.add(whom, identity);
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    match tls.clients.as_ref().map(authorities).transpose() {
        Ok(authorities) => {
            let over = tls.clients.as_ref().zip(authorities.as_ref());
            let over = over.and_then(|(clients, authorities)| {
                past(authorities.until(), &clients.authorities, now)
            });
            found.untimely.extend(over);
            found.authorities = authorities;
        }
        Err(mistake) => mistakes.push(mistake),
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

/// Reads who signs for clients, and what was revoked.
fn authorities(clients: &Clients) -> Result<Authorities, Mistake> {
    let Clients { authorities, revoked, .. } = clients;
    let signers = octets(authorities)?;
    let lists = revoked.as_deref().map(octets).transpose()?;
    Authorities::from_pem(&signers, lists.as_deref()).map_err(|fault| match revoked {
        Some(file) if fault.is_about_revoked() => {
            mistake(file, fault.to_string(), "lists of revoked certificates in PEM form")
        }
        _ => {
            let allowed = "certificates of those who sign for clients, in PEM form";
            mistake(authorities, fault.to_string(), allowed)
        }
    })
}

fn to_name(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::All => "*".into(),
        DomainPattern::Below(parent) => format!("*.{}", parent.as_str()),
        DomainPattern::One(name) => name.as_str().into(),
    }
}

fn to_whom(name: &str) -> For<'_> {
    if name == "*" { For::Anybody } else { For::Name(name) }
}

/// Reads one pair of files.
fn identity(files: &Certificate) -> Result<Identity, Mistake> {
    let chain = octets(&files.certificate)?;
    let key = octets(&files.key)?;
    Identity::from_pem(&chain, &key).map_err(|fault| {
        let file = if fault.is_about_key() { &files.key } else { &files.certificate };
        let allowed = match fault {
            Fault::Mismatch => format!("the key of {}", files.certificate.display()),
            Fault::NoKey | Fault::Key(_) => {
                "an ECDSA (P-256, P-384), Ed25519 or RSA key in PEM form, not encrypted".into()
            }
            Fault::NoCertificate | Fault::Certificate(_) | Fault::NoRevoked | Fault::Revoked(_) => {
                "the server's certificate in PEM form, and behind it those that signed it".into()
            }
        };
        mistake(file, fault.to_string(), &allowed)
    })
}

fn octets(path: &Path) -> Result<Vec<u8>, Mistake> {
    let unreadable = |error: std::io::Error| mistake(path, error.to_string(), "");
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > TLS_FILE_OCTETS_MAX {
        return Err(mistake(path, "too large for a certificate or a key".into(), ""));
    }
    std::fs::read(path).map_err(unreadable)
}

fn mistake(path: &Path, what: String, allowed: &str) -> Mistake {
    let file = path.display().to_string();
    Mistake { file, line: 0, column: 0, what, allowed: allowed.into() }
}

fn untimely(identity: &Identity, path: &Path, now: i64) -> Option<Mistake> {
    let (from, until) = identity.valid();
    past(until, path, now).or_else(|| {
        let what = format!("the certificate is not good yet: it will be from {}", day(from));
        (now < from).then(|| mistake(path, what, TIMELY))
    })
}

fn past(until: i64, path: &Path, now: i64) -> Option<Mistake> {
    let what = || format!("the certificate has expired: it was good until {}", day(until));
    (now > until).then(|| mistake(path, what(), TIMELY))
}

fn day(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
