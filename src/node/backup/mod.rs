//! Backups: a directory of files that are written once, and the store that comes back out of them.
//!
//! ```text
//!   make     ask the logs (the server's, or opened alone) → copy what is new → manifest
//!   restore  manifest → plan of each log → segments and superblock → files → store.toml
//!   of one account                       └ opened where they lie → its mailboxes are asked for
//! ```
//!
//! All of this runs in the process of the command, with plain files: the server makes a checkpoint,
//! keeps its segments, and does nothing else for it.

mod account;
mod asking;
mod coming;
mod keep;
mod reading;
mod restoring;
mod take;
mod vault;

pub(super) use take::files_beside;

use super::privileges;
use crate::admin::calendar::rfc3339;
use crate::cli::{AsOf, AskKept, BackupTask, Failure, RestoreTask, Told};
use crate::config::Config;
use crate::model::time::Wall;
use std::path::Path;
use vault::Vault;

/// Does what was asked with the backups of a directory.
pub(super) fn run(config: &Config, task: &BackupTask, mut told: Told<'_>) -> Result<(), Failure> {
    match task {
        BackupTask::Make { dir, keep } => {
            privileges::command(config)?;
            take::make(config, &absolute(dir)?, *keep, &mut told)
        }
        BackupTask::List { dir } => list(&Vault::open(dir)?, &mut told),
        BackupTask::Verify { dir, name } => {
            keep::verify(&Vault::open(dir)?, name.as_deref(), &mut told)
        }
    }
}

/// Brings a store back.
pub(super) fn restore(
    config: &Config,
    task: &RestoreTask,
    mut told: Told<'_>,
) -> Result<(), Failure> {
    privileges::command(config)?;
    restoring::run(config, task, &mut told)
}

/// Opens an account as a backup has it, and has `work` ask for its mail; nothing is written.
pub(super) fn with_account(
    config: &Config,
    task: &RestoreTask,
    address: &str,
    work: &mut dyn FnMut(AskKept<'_>, &AsOf) -> Result<(), Failure>,
) -> Result<(), Failure> {
    privileges::command(config)?;
    account::run(config, task, address, work)
}

fn absolute(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::Failed(format!("{}: {error}", dir.display())))
}

fn list(vault: &Vault, told: &mut Told<'_>) -> Result<(), Failure> {
    let found = vault.manifests()?;
    let mut rows = Vec::new();
    for manifest in &found.whole {
        let (pieces, octets) = manifest.extent();
        let (name, until) = (manifest.name(), rfc3339(Wall(manifest.time)));
        if told.json {
            rows.push(serde_json::json!({
                "name": name, "time": until, "logs": manifest.logs.len(), "pieces": pieces,
                "octets": octets,
            }));
        } else {
            let logs = manifest.logs.len();
            writeln!(
                told.out,
                "{name}  all up to {until}: {logs} logs, {octets} octets in {pieces} pieces"
            )?;
        }
    }
    if told.json {
        let text = serde_json::to_string_pretty(&rows).map_err(std::io::Error::other)?;
        writeln!(told.out, "{text}")?;
    }
    found.faults(told)
}

/// What became of a command, in one line or as JSON.
fn summary(told: &mut Told<'_>, text: &str, fields: &serde_json::Value) -> Result<(), Failure> {
    if told.json {
        let text = serde_json::to_string_pretty(fields).map_err(std::io::Error::other)?;
        return Ok(writeln!(told.out, "{text}")?);
    }
    Ok(writeln!(told.out, "{text}")?)
}

/// Tells of a long way, one line for each part of it.
struct Progress {
    what: &'static str,
    octets: u64,
    told: u64,
}

/// Octets between two lines.
const PROGRESS_OCTETS: u64 = 1 << 30;

impl Progress {
    fn new(what: &'static str) -> Progress {
        Progress { what, octets: 0, told: 0 }
    }

    fn add(&mut self, octets: u64, told: &mut Told<'_>) {
        self.octets += octets;
        if self.octets - self.told >= PROGRESS_OCTETS {
            self.told = self.octets;
            // Who does not see it is served as well.
            drop(writeln!(told.err, "{} {} MiB", self.what, self.octets >> 20));
        }
    }
}
