//! What other servers have to prove: `[mta_sts]`, `[tls_report]`, the level of a route, and the file of those
//! who vouch, read and checked.

use super::reader::{Mistake, Section};
use super::sections::MINUTE;
use super::{Config, Mailbox, MtaSts, TlsReport};
use crate::concierge::http::{Trust, check_roots};
use crate::model::limits::{self, TLS_FILE_OCTETS_MAX};
use crate::tls::Level;
use std::path::Path;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const LEVELS: [(&str, Level); 4] = [
    ("none", Level::None),
    ("may", Level::May),
    ("encrypt", Level::Encrypt),
    ("verify", Level::Prove),
];

/// The key `tls` of `[queue]` or a route.
pub(super) fn level(section: &mut Section<'_, '_, '_>, default: Option<Level>) -> Option<Level> {
    let read = |word: &str| LEVELS.iter().find(|(name, _)| *name == word).map(|(_, level)| *level);
    let show = |level: &Level| {
        let name = LEVELS.iter().find(|(_, known)| known == level);
        name.map_or(String::new(), |(name, _)| (*name).into())
    };
    section.word("tls", default, "\"none\", \"may\", \"encrypt\" or \"verify\"", read, show)
}

pub(super) fn mta_sts(mut section: Section<'_, '_, '_>) -> MtaSts {
    let sts = MtaSts {
        enabled: section.flag("enabled", true),
        refresh: section.time("refresh", DAY, HOUR..=7 * DAY),
        timeout: section.time("timeout", MINUTE, SECOND..=5 * MINUTE),
        requests: section.count("max_requests", limits::STS_REQUESTS_MAX, 1..=1_024),
        port: section.count("port", 443, 1..=65_535),
    };
    section.end();
    sts
}

pub(super) fn tls_report(mut section: Section<'_, '_, '_>) -> TlsReport {
    let is_name = |text: &str| {
        let is_plain = !text.is_empty() && !text.contains(char::is_control);
        is_plain.then(|| text.to_owned())
    };
    let is_ascii = |contact: &Mailbox| contact.local.is_ascii();
    let address = |text: &str| Mailbox::parse(text).filter(is_ascii);
    let allowed = "an address of ASCII";
    let report = TlsReport {
        enabled: section.flag("enabled", false),
        organization: section.word("organization", None, "a name", is_name, String::clone),
        contact: section.word("contact", None, allowed, address, Mailbox::to_string),
    };
    section.end();
    report
}

/// Who vouches for servers, and the text that says so.
pub fn trust(config: &Config) -> Result<Trust, Mistake> {
    let Some(file) = &config.queue.ca_file else { return Ok(Trust::System) };
    let allowed = "certificates of authorities in PEM form";
    let pem = octets(file).map_err(|error| mistake(file, error.to_string(), allowed))?;
    check_roots(&pem).map_err(|why| mistake(file, why.to_string(), allowed))?;
    Ok(Trust::These(pem.into()))
}

fn octets(file: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(file)?.len() > TLS_FILE_OCTETS_MAX {
        return Err(std::io::Error::other("too large"));
    }
    std::fs::read(file)
}

fn mistake(file: &Path, what: String, allowed: &str) -> Mistake {
    let file = file.display().to_string();
    Mistake { file, line: 0, column: 0, what, allowed: allowed.into() }
}
