//! `pombal cert`: certificates as they lie on the disk, and the wish for a new one.

use super::{Failure, show};
use crate::acme::{Certificate, Files};
use crate::admin::calendar;
use crate::admin::request::Request;
use crate::admin::socket::{AskError, ask};
use crate::config::{Config, DomainPattern};
use crate::model::time::Wall;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// One certificate.
#[derive(Serialize)]
struct Row {
    file: String,
    /// `file`, `acme` or `self-signed`.
    source: &'static str,
    names: Vec<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    /// What is wrong: the file cannot be read, or the last try to get a new one failed.
    problem: Option<String>,
}

pub(super) fn list(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let tls = &config.tls;
    for one in tls.default.iter().chain(tls.sni.iter().map(|(_, one)| one)) {
        rows.push(Row::read(&one.certificate, "file"));
    }
    let is_default = |(pattern, _): &(DomainPattern, _)| *pattern == DomainPattern::All;
    let mut has_default = tls.default.is_some() || tls.sni.iter().any(is_default);
    let files = Files::new(config.tls_dir());
    let file = files.certificate();
    if config.acme.is_some() || file.exists() {
        let mut row = Row::read(&file, "acme");
        has_default |= config.acme.is_some() && row.problem.is_none();
        let tried = files.read_state();
        if !tried.why.is_empty() {
            let again = moment(tried.next);
            row.problem = Some(format!("{}; again at {again}", tried.why));
        }
        rows.push(row);
    }
    let made = config.self_signed();
    if !has_default && made.exists() {
        rows.push(Row::read(&made, "self-signed"));
    }
    if json {
        return show::json(&rows, out);
    }
    for Row { file, source, names, not_after, problem, .. } in rows {
        let until = not_after.map_or_else(String::new, |until| format!(" until {until}"));
        writeln!(out, "{source} {file}: {}{until}", names.join(" "))?;
        if let Some(problem) = problem {
            writeln!(out, "  {problem}")?;
        }
    }
    Ok(())
}

pub(super) fn renew(config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let socket = config.admin_socket();
    match ask(&socket, &Request::CertRenew) {
        Ok(response) => show::response(&response, json, out),
        Err(AskError::NotRunning) => Err(Failure::Failed(format!(
            "no server runs on {}: it asks for its certificate when it runs",
            config.data_dir.display()
        ))),
        Err(AskError::Failed(error)) => {
            Err(Failure::Failed(format!("{}: {error}", socket.display())))
        }
    }
}

fn moment(seconds: u64) -> String {
    calendar::rfc3339(Wall(seconds.saturating_mul(1_000_000)))
}

impl Row {
    fn read(file: &Path, source: &'static str) -> Row {
        let read = std::fs::read(file).and_then(|text| Certificate::from_pem(&text));
        let (certificate, problem) = match read {
            Ok(certificate) => (Some(certificate), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Row {
            file: file.display().to_string(),
            source,
            not_before: certificate.as_ref().map(|one| moment(one.not_before)),
            not_after: certificate.as_ref().map(|one| moment(one.not_after)),
            names: certificate.map(|one| one.names).unwrap_or_default(),
            problem,
        }
    }
}
