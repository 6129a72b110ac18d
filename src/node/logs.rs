//! The logs of a store: those that it was made with, and those that were added since.
//!
//! ```text
//!   store.toml: 2 logs ─> logs 2 and 3 are made, empty and durable ─> store.toml: 4 logs ─> accounts
//! ```
//! A log is one of the store's once `store.toml` says so. What a crash leaves before that is no part of
//! the store, and whoever adds logs the next time takes it, or makes it anew where it is not whole.
//! A store never has fewer logs than it had: with fewer cores several executors share one (0030).

use super::shard::{Plan, open_state};
use crate::env::Env;
use crate::model::id::{LogId, Lsn};
use crate::store::OpenError;
use std::io;

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
