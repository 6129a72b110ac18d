//! The keys of `[dns]`, and the file that they name, read and checked.

use super::reader::Section;
use super::sections::{MINUTE, SECOND, path};
use super::{Config, Mistake};
use crate::concierge::dns::{Anchors, Dnssec};
use crate::model::limits::{self, TLS_FILE_OCTETS_MAX};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: as /etc/resolv.conf says.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take, all attempts together.
    pub timeout: Duration,
    /// Answers that one shard remembers.
    pub cache_entries: usize,
    pub dnssec: Dnssec,
    /// Keys that proofs begin at; none: those of the root that are built in.
    pub trust_anchors: Option<PathBuf>,
}

pub(super) fn dns(mut section: Section<'_, '_, '_>) -> Dns {
    let servers = section.sockets("servers", None).unwrap_or_default();
    let dns = Dns {
        servers,
        timeout: section.time("timeout", limits::DNS_TIMEOUT, SECOND..=MINUTE),
        cache_entries: section.count("cache_entries", limits::DNS_ANSWERS_MAX, 16..=16_777_216),
        dnssec: section
            .word(
                "dnssec",
                Some(Dnssec::default()),
                "\"auto\", \"require\" or \"off\"",
                |word| Dnssec::NAMES.iter().find(|(name, _)| *name == word).map(|&(_, one)| one),
                |one| {
                    let name = Dnssec::NAMES.iter().find(|(_, known)| known == one);
                    name.map_or(String::new(), |(name, _)| (*name).into())
                },
            )
            .unwrap_or_default(),
        trust_anchors: path(&mut section, "trust_anchors", None),
    };
    section.end();
    dns
}

/// The keys that proofs begin at.
pub fn anchors(config: &Config) -> Result<Anchors, Mistake> {
    let Some(file) = &config.dns.trust_anchors else { return Ok(Anchors::default()) };
    let text = text(file).map_err(|error| mistake(file, error.to_string()))?;
    Anchors::parse(&text).map_err(|why| mistake(file, why))
}

fn text(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > TLS_FILE_OCTETS_MAX {
        return Err(std::io::Error::other("too large"));
    }
    std::fs::read_to_string(file)
}

fn mistake(file: &Path, what: String) -> Mistake {
    let allowed = "DNSKEY records, a line each, the root's among them".into();
    Mistake { file: file.display().to_string(), line: 0, column: 0, what, allowed }
}
