//! `pombal dkim`: keys that sign, the records that they need, and whether the DNS has them.

use super::args::{Algorithm, DkimCommand};
use super::{Failure, Session, show};
use crate::admin::request::{DkimAlgorithm, DkimRequest, DkimRow, Request, Response};
use crate::concierge::Concierge;
use crate::concierge::dns::{Anchors, Data, Dnssec, Kind, Resolver, Want};
use crate::config::Config;
use crate::model::limits::TLS_FILE_OCTETS_MAX;
use crate::policy::dkim::{Verdict, judge, zone_line};
use futures_lite::future::block_on;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

impl Session<'_> {
    pub(super) fn dkim(&self, command: &DkimCommand, out: &mut dyn Write) -> Result<(), Failure> {
        let config = self.load()?.config;
        let list = |domain: &str| DkimRequest::List { domain: Some(domain.to_owned()) };
        match command {
            DkimCommand::Add { domain, selector, algorithm, bits, key } => {
                let request = DkimRequest::Add {
                    domain: domain.clone(),
                    selector: selector.clone(),
                    algorithm: algorithm.map(Into::into),
                    bits: *bits,
                    pem: key.as_deref().map(read).transpose()?,
                };
                self.show_records(&self.ask(&config, &Request::Dkim(request))?, out)
            }
            DkimCommand::Show { domain } => {
                self.show_records(&self.ask(&config, &Request::Dkim(list(domain)))?, out)
            }
            DkimCommand::Check { domain } => {
                match self.ask(&config, &Request::Dkim(list(domain)))? {
                    Response::DkimKeys(keys) => check(&config, &keys, self.json, out),
                    other => show::response(&other, self.json, out),
                }
            }
            DkimCommand::List { domain } => {
                let request = DkimRequest::List { domain: domain.clone() };
                self.show_with(&config, &Request::Dkim(request), out)
            }
            DkimCommand::Del { domain, selector } => {
                let (domain, selector) = (domain.clone(), selector.clone());
                self.show_with(&config, &Request::Dkim(DkimRequest::Del { domain, selector }), out)
            }
        }
    }

    fn show_records(&self, response: &Response, out: &mut dyn Write) -> Result<(), Failure> {
        match response {
            Response::DkimKeys(keys) if !self.json => {
                for key in keys {
                    writeln!(out, "{}", zone_line(&key.name, &key.record))?;
                }
                Ok(())
            }
            other => show::response(other, self.json, out),
        }
    }
}

impl From<Algorithm> for DkimAlgorithm {
    fn from(algorithm: Algorithm) -> DkimAlgorithm {
        match algorithm {
            Algorithm::Rsa => DkimAlgorithm::Rsa,
            Algorithm::Ed25519 => DkimAlgorithm::Ed25519,
            Algorithm::Both => DkimAlgorithm::Both,
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed =
        |why: &dyn std::fmt::Display| Failure::Failed(format!("{}: {why}", path.display()));
    if std::fs::metadata(path).map_err(|error| failed(&error))?.len() > TLS_FILE_OCTETS_MAX {
        return Err(failed(&"too large for a key"));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

/// What the DNS says of one key.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    good: bool,
    verdict: String,
}

fn check(
    config: &Config,
    keys: &[DkimRow],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(why.to_string());
    let concierge = Concierge::start()?;
    let dns = &config.dns;
    // What a verifier sees that does not hold answers against signatures either.
    let resolver =
        Resolver::new(&concierge, &dns.servers, dns.timeout, Dnssec::Off, Anchors::default())
            .map_err(|error| failed(&error))?;
    let mut rows = Vec::with_capacity(keys.len());
    for DkimRow { name, record, .. } in keys {
        let asked = resolver.ask(Kind::Txt, Want::Plain, name);
        let answer = asked.map_err(|_| failed(&"too many questions"))?;
        let found = block_on(answer).map_err(|_| failed(&"no answer"))?;
        let found = found.map_err(|error| failed(&format!("{name}: {error}")))?;
        let texts = found.records.iter().filter_map(|data| match data {
            Data::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        let verdict = judge(record, &texts.collect::<Vec<_>>());
        rows.push(Row { name, good: verdict == Verdict::Good, verdict: verdict.to_string() });
    }
    if json {
        show::json(&rows, out)?;
    } else {
        for Row { name, verdict, .. } in &rows {
            writeln!(out, "{name}: {verdict}")?;
        }
    }
    let bad = rows.iter().filter(|row| !row.good).count();
    if bad == 0 { Ok(()) } else { Err(Failure::Failed(String::new())) }
}
