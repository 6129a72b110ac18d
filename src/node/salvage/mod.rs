//! `pombal store salvage`: a new data directory with all that is whole of a damaged one.
//!
//! ```text
//!   which store? (store.toml, a superblock, a segment) ─> logs 1, 2, … ─> log 0, with the directory
//!      ─> accounts that lost their users get some ─> files beside the logs ─> store.toml, last
//! ```
//!
//! The damaged directory is read and never written, not even to open it. Until the last step nobody
//! takes the new one for a store; one that was cut off is removed and begun again.

mod files;
mod report;
pub mod rescue;

use super::offline::{plan_of, telling};
use super::placement::Placement;
use super::shard::{Plan, State};
use super::{data_dir, privileges};
use crate::bytes::codec::to_u64;
use crate::cli::{Failure, Told};
use crate::config::Config;
use crate::env::ring::Ring;
use crate::model::id::{AccountId, LogId};
use crate::store::format::Identity;
use files::Files;
use report::{OfLog, Report};
use rescue::{Rescued, check, find_users, rescue};
use std::collections::VecDeque;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where whole messages go that nothing refers to, in the new directory.
const FOUND: &str = "lost-and-found";
/// The directory's kinds of records and pages.
const DIRECTORY_OWNER: u8 = crate::store::record::kind::DIRECTORY_FIRST;
/// Octets between two words of how far it is.
const PROGRESS_OCTETS: u64 = 1 << 30;

/// Which store lies in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    store: u128,
    logs: u16,
    /// How many it was made with.
    first_logs: u16,
    /// From this one on `store.toml` does not have them.
    unnamed: u16,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

/// Salvages a store into `to`, in which nothing may lie, and its logs into the directories `logs`, if there
/// are any.
pub(in crate::node) fn run(
    config: &Config,
    (to, logs): (&Path, &[PathBuf]),
    told: &mut Told<'_>,
) -> Result<(), Failure> {
    privileges::command(config)?;
    // What it is the store of.
    let mut new = config.clone();
    new.data_dir = to.into();
    new.store.directories = logs.into();
    for to in new.store_directories() {
        let to = std::path::absolute(to).map_err(failed(to))?;
        for from in config.store_directories() {
            if to.starts_with(std::path::absolute(from).map_err(failed(from))?) {
                let why = format!("{} lies in the store that is to be left as it is", to.display());
                return Err(Failure::Failed(why));
            }
        }
    }
    let all = config.store_directories().map(data_dir::hold_as_it_is);
    let _locks = all.collect::<Result<Vec<_>, _>>()?;
    let source = Placement::find(config)?;
    let which = which(&config.data_dir, &source)?;
    source.check(which.store, 0, Some(which.logs))?;
    let (held, target) = data_dir::hold_empty(&new)?;
    let plan = plan_of(&new, which.store, (which.logs, which.first_logs), target);
    let report = salvage(&config.data_dir, which, &source, &plan, told)?;
    drop(held);
    report.show(told)
}

fn salvage(
    from: &Path,
    which: Which,
    source: &Placement,
    plan: &Plan,
    told: &mut Told<'_>,
) -> Result<Report, Failure> {
    let (source, target, to) = (source.clone(), plan.clone(), &plan.config.data_dir);
    let work = move |ring: Ring, tell| {
        let (source, target) = (source.clone(), target.clone());
        async move { all_logs(ring, target, which, &source, &tell).await }
    };
    let mut report = telling(work, |line: String| {
        // Who does not see it is served as well.
        drop(writeln!(told.err, "{line}"));
    })?;
    report.files = copy_files(from, to)?;
    let logs =
        u16::try_from(report.logs.len()).map_err(|error| Failure::Failed(error.to_string()))?;
    data_dir::restored(to, which.store, (logs, which.first_logs))?;
    Ok(report)
}

/// Copies keys and certificates as they are; those that cannot be.
fn copy_files(from: &Path, to: &Path) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for path in super::backup::files_beside(from)? {
        let (source, target) = (from.join(&path), to.join(&path));
        if !source.is_file() {
            continue;
        }
        if let Some(dir) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        }
        let copied = std::fs::read(&source).and_then(|octets| {
            let mut file =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(&target)?;
            file.write_all(&octets)?;
            file.sync_all()
        });
        if let Err(error) = copied {
            missing.push(format!("{}: {error}", path.display()));
        }
    }
    Ok(missing)
}

/// Log 0 comes when the others are read that are known of, and users last of all: what log 0 has of them is
/// held against the accounts of every log.
async fn all_logs(
    ring: Ring,
    mut plan: Plan,
    which: Which,
    from: &Placement,
    tell: &crossbeam::channel::Sender<String>,
) -> Result<Report, String> {
    let mut report = Report::default();
    let mut accounts: Vec<(AccountId, LogId)> = Vec::new();
    let mut first = None;
    let mut logs: VecDeque<LogId> = (1..which.logs).chain([0]).map(LogId).collect();
    while let Some(log) = logs.pop_front() {
        let source =
            Files::open(&from.log_dir(log)).map_err(|error| format!("log {}: {error}", log.0))?;
        let identity = Identity { store: which.store, log, first_logs: which.first_logs };
        plan.placement.lay(log.0..log.0.saturating_add(1));
        let dir = plan.log_dir(log);
        let mut heard = ("", 0);
        let mut progress = |what: &'static str, octets: u64| {
            if heard.0 != what || octets >= heard.1 + PROGRESS_OCTETS {
                heard = (what, octets);
                // Whoever listens does so until this ends.
                drop(tell.send(format!("log {}: {} MiB {what}", log.0, octets >> 20)));
            }
        };
        let rescued = rescue(
            ring.clone(),
            &source,
            identity,
            &dir,
            plan.placement.settings_of(log, &plan.store),
            &mut progress,
        )
        .await?;
        let Rescued { state, rebuilt } = rescued;
        let mut one = OfLog {
            log: log.0,
            octets: rebuilt.octets,
            saved: to_u64(rebuilt.saved()),
            losses: rebuilt.losses.clone(),
            found: Vec::new(),
        };
        for &id in &rebuilt.orphans {
            if let Ok((_, message)) = rebuilt.read(&source, id) {
                one.found.push(keep_found(&plan.config.data_dir, log, id.0, &message)?);
            }
        }
        check(&state).await?;
        let living = state.accounts.borrow().living();
        accounts.extend(living.into_iter().map(|account| (account, log)));
        report.logs.push(one);
        if log.0 == 0 {
            // Of those the directory alone tells any more.
            logs.extend((which.logs..state.ledger.logs_needed()).map(LogId));
            first = Some(state);
        } else {
            state.log.close().await.map_err(|error| format!("log {}: {error}", log.0))?;
        }
    }
    if let Some(state) = first {
        accounts.sort_unstable();
        report.users = lost_users(&report, &state, &accounts).await?;
        report.addresses = addresses(&report, &state.ledger);
        state.log.close().await.map_err(|error| format!("log 0: {error}"))?;
    }
    report.logs.sort_by_key(|one| one.log);
    let read = report.logs.iter().map(|one| one.log);
    report.unnamed = read.filter(|&log| log >= which.unnamed).collect();
    Ok(report)
}

/// Gives users to accounts of all logs that lost theirs, where log 0 lost any of its own.
async fn lost_users(
    report: &Report,
    state: &State<Ring>,
    accounts: &[(AccountId, LogId)],
) -> Result<Vec<(u32, String)>, String> {
    let of_users = |one: &OfLog| {
        one.losses.pages.iter().any(|page| page.owner == DIRECTORY_OWNER)
            || !one.losses.batches.is_empty()
    };
    if !report.logs.iter().any(|one| one.log == 0 && of_users(one)) {
        return Ok(Vec::new());
    }
    let users = find_users(state, accounts).await?;
    Ok(users.into_iter().map(|(account, name)| (account.0, name)).collect())
}

/// The addresses of accounts that lost messages.
fn addresses(report: &Report, ledger: &crate::directory::Ledger) -> Vec<(u32, String)> {
    let entries = report.logs.iter().flat_map(|one| &one.losses.entries);
    let mut accounts: Vec<u32> = entries.map(|entry| entry.account).filter(|&id| id > 0).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let named = |id: u32| Some((id, ledger.address(AccountId(id))?.into()));
    accounts.into_iter().filter_map(named).collect()
}

/// Writes a message that nothing refers to; its name in the new directory.
fn keep_found(to: &Path, log: LogId, blob: u64, message: &[u8]) -> Result<String, String> {
    let dir = to.join(FOUND);
    let name = format!("log-{:03}-{blob}.eml", log.0);
    let path = dir.join(&name);
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(message)?;
        file.sync_all()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("{FOUND}/{name}"))
}

/// Which store it is: as its description says, else as any superblock or segment does. Whatever that says of
/// their number, logs that lie there are of it.
fn which(dir: &Path, source: &Placement) -> Result<Which, Failure> {
    if let Some(found) = data_dir::described_as(dir) {
        let data_dir::Found { store_id: store, logs: unnamed, first_logs } = found;
        let mut logs = unnamed;
        for log in source.numbers().filter(|&log| log >= unnamed) {
            // What growing left that was cut off is empty.
            let place = source.log_dir(LogId(log));
            if super::logs::is_used(&place, store).map_err(failed(&place))? {
                logs = log.saturating_add(1);
            }
        }
        return Ok(Which { store, logs, first_logs, unnamed });
    }
    let logs = source.numbers().last().map_or(0, |last| last.saturating_add(1));
    let unnamed = u16::MAX;
    match source.whose() {
        // Of the logs' number segments say nothing.
        Some(Identity { store, first_logs: 0, .. }) => {
            Ok(Which { store, logs, first_logs: logs, unnamed })
        }
        Some(Identity { store, first_logs, .. }) => {
            Ok(Which { store, logs: logs.max(first_logs), first_logs, unnamed })
        }
        None => Err(Failure::Failed(format!(
            "nothing in {} tells which store this is: neither store.toml, nor a superblock, nor a segment",
            dir.display()
        ))),
    }
}
