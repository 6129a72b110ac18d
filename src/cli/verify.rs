//! `store verify`: of a server that runs, a segment at a time; or of the store alone.

use super::{Failure, Session, StoreTask, show};
use crate::admin::request::{Findings, Request, Response};
use crate::admin::socket::{AskError, ask};
use crate::model::limits::VERIFY_OCTETS_PER_SECOND;
use std::io::{self, Write};

/// Shows what was found in a log.
pub fn show_findings(
    log: u16,
    findings: &Findings,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if json {
        let row = serde_json::json!({ "log": log, "findings": findings });
        return writeln!(out, "{row}");
    }
    let Findings { segments, batches, records, blobs, octets, pages, references, faults } =
        findings;
    let state = if faults.is_empty() { "all well" } else { "DAMAGED" };
    writeln!(
        out,
        "log {log}: {segments} segments, {batches} batches, {records} records, {blobs} blobs, {pages} \
         pages, {references} references, {octets} octets read: {state}"
    )?;
    for fault in faults {
        writeln!(out, "  {fault}")?;
    }
    Ok(())
}

pub(super) fn run(
    session: &Session<'_>,
    rate: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let socket = config.admin_socket();
    let beside = rate.unwrap_or(VERIFY_OCTETS_PER_SECOND);
    let (mut cursor, mut faults) = (None, 0);
    let mut sum = Findings::default();
    loop {
        match ask(&socket, &Request::StoreVerify { cursor, rate: beside }) {
            Ok(Response::Verified { log, findings, next }) => {
                sum.add(*findings);
                if next.is_none_or(|next| next.log != log) {
                    faults += sum.faults.len();
                    show_findings(log, &std::mem::take(&mut sum), session.json, out)?;
                }
                cursor = next;
                if cursor.is_none() {
                    return outcome(faults);
                }
            }
            Ok(response) => {
                show::response(&response, session.json, out)?;
                return Err(Failure::Failed("the server gave another answer".into()));
            }
            Err(AskError::NotRunning) if cursor.is_none() => {
                let task = StoreTask::Verify { rate: rate.unwrap_or(0) };
                return session.actions.store(&config, &task, session.json, out);
            }
            Err(AskError::NotRunning) => {
                return Err(Failure::Failed("the server stopped meanwhile".into()));
            }
            Err(AskError::Failed(error)) => {
                return Err(Failure::Failed(format!("{}: {error}", socket.display())));
            }
        }
    }
}

fn outcome(faults: usize) -> Result<(), Failure> {
    if faults == 0 { Ok(()) } else { Err(Failure::Failed(format!("{faults} faults found"))) }
}
