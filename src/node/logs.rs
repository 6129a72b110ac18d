//! The logs of a store: those that it was made with, and those that were added since.
//!
//! ```text
//!   store.toml: 2 logs ─> logs 2 and 3 are made, empty and durable ─> store.toml: 4 logs ─> accounts
//! ```
//! A log is one of the store's once `store.toml` says so. What a crash leaves before that is no part of
//! the store, and whoever adds logs the next time takes it, or makes it anew where it is not whole.
//! A log that something was put into is never taken, nor made anew: where `store.toml` does not have it, it is
//! `store.toml` that is an old one. A store never has fewer logs than it had (0030).

use super::shard::{Plan, open_state};
use crate::env::Env;
use crate::model::id::{LogId, Lsn};
use crate::store::OpenError;
use crate::store::segments::slot_of;
use crate::store::used::{TELLING_OCTETS, used_by};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

/// Makes the logs `new` of a store that does not have them yet, which `plan` is of; `told` hears of each that
/// is made. Where one cannot be made, no file stays of those that this call began; their directories do.
///
/// # Errors
/// As [`make`], with the log that it was.
pub async fn add<E: Env>(
    env: &E,
    plan: &Plan,
    new: Range<u16>,
    told: &mut dyn FnMut(LogId),
) -> Result<(), (LogId, OpenError)> {
    let mut begun = Vec::new();
    for log in new.map(LogId) {
        let lies_there = match env.list(&plan.log_dir(log)).await {
            Ok(names) => Ok(!names.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(OpenError::Io(error)),
        };
        if matches!(lies_there, Ok(false)) {
            begun.push(log);
        }
        let made = match lies_there {
            Ok(_) => make(env, plan, log).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            for log in begun {
                remove_files(env, &plan.log_dir(log)).await;
            }
            return Err((log, error));
        }
        told(log);
    }
    Ok(())
}

/// What cannot be removed is no part of the store either. The superblock goes first: with it, and without the
/// segments that it names, a log is a damaged one, which nobody makes anew.
async fn remove_files<E: Env>(env: &E, dir: &Path) {
    let mut names = env.list(dir).await.unwrap_or_default();
    names.sort_unstable_by_key(|name| name != "superblock");
    for name in names {
        if env.remove(&dir.join(name)).await.is_err() {
            return;
        }
    }
}

/// Makes a log of a store that does not have it yet; it is durable when this comes back.
///
/// # Errors
/// Where the disk does not let it, and where a log with something in it lies there already: then it is
/// `store.toml` that is not as it was.
pub async fn make<E: Env>(env: &E, plan: &Plan, log: LogId) -> Result<(), OpenError> {
    let mut plan = plan.clone();
    plan.store.may_create = true;
    let (state, _) = open_state(env.clone(), &plan, log).await?;
    let is_empty = state.log.applied() == Lsn(0);
    let closed = state.log.close().await;
    if !is_empty {
        let why = "there is something in it, and store.toml does not say that the store has it";
        return Err(OpenError::Mismatch(why.into()));
    }
    closed.map_err(|error| OpenError::Io(io::Error::other(error.to_string())))
}

/// Whether the directory of a log holds one of this store that something was put into.
///
/// # Errors
/// Where a file of it cannot be read.
pub(super) fn is_used(dir: &Path, store_id: u128) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(slot) = name.to_str().and_then(slot_of) else { continue };
        let mut head = Vec::new();
        let file = OpenOptions::new().read(true).open(dir.join(&name))?;
        file.take(TELLING_OCTETS as u64).read_to_end(&mut head)?;
        if used_by(&head, slot).is_some_and(|whose| whose.store == store_id) {
            return Ok(true);
        }
    }
    Ok(false)
}
