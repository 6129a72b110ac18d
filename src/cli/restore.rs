//! `pombal restore`: a whole store, which is the node's work; or the mail of one user, into the server as it
//! is.
//!
//! ```text
//!   backup ─ AskKept ─> Kept (a Source) ─> import ─ Asking ─> the server, or the store alone
//! ```
//!
//! What is here is told from what is missing by octets alone, never by how far an earlier import came:
//! it is just what was removed since that is to come back.

use super::args::Restore;
use super::import::Kept;
use super::progress::{Clock, Report};
use super::{AsOf, AskKept, Failure, RestoreTask, Session, Told, moving, show};
use crate::admin::request::moving::{Ask, Folder};
use std::io::Write;

pub(super) fn run(
    session: &Session<'_>,
    typed: &Restore,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let Restore { dir, at, backup, no_verify, account, .. } = typed;
    let task = RestoreTask { dir: dir.clone(), at: *at, name: backup.clone(), verify: !no_verify };
    if let Some(address) = account {
        return of_account(session, typed, (&task, address), out, err);
    }
    let told = Told { json: session.json, out, err };
    session.actions.restore(&session.load()?.config, &task, told)
}

fn of_account(
    session: &Session<'_>,
    typed: &Restore,
    (task, address): (&RestoreTask, &str),
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    if typed.dry_run {
        return session.actions.with_backup(&config, task, address, &mut |ask, as_of| {
            begin(as_of, err)?;
            list(&kept(ask, typed)?, as_of, session.json, out)
        });
    }
    let mut report = Report::new(Clock::begin(), "brought back");
    moving::with_store(session, &config, &mut |asking| {
        // Is there such a user? Before anything is looked for in the backup.
        moving::ask(asking, address, Ask::Folders, Vec::new())?;
        session.actions.with_backup(&config, task, address, &mut |ask, as_of| {
            begin(as_of, err)?;
            kept(ask, typed)?.bring(address, &config, asking, &mut report, err)
        })
    })?;
    report.show(session.json, out)
}

/// What is to come back, under the names that it is to have.
fn kept<'a>(ask: AskKept<'a>, typed: &Restore) -> Result<Kept<'a>, Failure> {
    let kept = Kept::of(ask)?;
    Ok(match &typed.beside {
        Some(above) => kept.beside(above),
        None => kept,
    })
}

fn begin(as_of: &AsOf, err: &mut dyn Write) -> Result<(), Failure> {
    for line in &as_of.passed_over {
        writeln!(err, "passed over: {line}")?;
    }
    Ok(writeln!(err, "as at {} (backup {})", as_of.time, as_of.backup)?)
}

/// Says what there is.
fn list(kept: &Kept<'_>, as_of: &AsOf, as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if as_json {
        let row = |one: &Folder| serde_json::json!({ "name": one.name, "messages": one.messages });
        let rows: Vec<serde_json::Value> = kept.folders.iter().map(row).collect();
        let AsOf { backup, time, .. } = as_of;
        let told = serde_json::json!({ "backup": backup, "time": time, "mailboxes": rows });
        return show::json(&told, out);
    }
    for Folder { name, messages, .. } in &kept.folders {
        writeln!(out, "{}: {messages} messages", show::visible(name))?;
    }
    let messages: u64 = kept.folders.iter().map(|one| u64::from(one.messages)).sum();
    let mailboxes = kept.folders.len();
    Ok(writeln!(out, "as at {}: {mailboxes} mailboxes, {messages} messages", as_of.time)?)
}
