//! Keeps the histories of a shard's accounts as long as their retention says, and not where room is
//! short: what users removed gives way before mail is refused. And has accounts rest that nobody asks
//! for, where memory is short. And tells what the disks have left.

use super::placement::Placement;
use crate::config::Undelete;
use crate::env::Env;
use crate::mailbox::Retention;
use crate::model::id::AccountId;
use crate::model::limits::REST_PAUSE;
use crate::probe::event::{Level, event};
use crate::probe::{Gauge, Set};
use crate::server::shard::Shard;
use futures_lite::future::or;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks whether there is room.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Looks between two looks through all accounts.
const LOOKS: u32 = 60;
/// Where room is short this part of the time that histories reach back is given up at once,
const GIVE_UP_PART: u32 = 8;
/// or so many seconds, if that is more.
const GIVE_UP_LEAST: u32 = 60;

/// What is told of the directories that logs lie in.
#[derive(Default)]
pub(super) struct Disks(Vec<(PathBuf, Arc<Gauge>)>);

impl Disks {
    pub(super) fn register(placement: &Placement) -> (Disks, Set) {
        const HELP: &str = "Octets that the file system of a directory for logs has free.";
        let mut set = Set::new();
        let mut gauge = |path: &Path| {
            let labels = [("directory", &*path.to_string_lossy())];
            (path.to_owned(), set.gauge("pombal_store_directory_free_octets", HELP, &labels))
        };
        let all = placement.paths().map(&mut gauge).collect();
        (Disks(all), set)
    }

    /// Brings the figures up to date. Nothing is left of a disk that does not answer.
    pub(super) fn publish<E: Env>(&self, env: &E) {
        for (path, gauge) in &self.0 {
            gauge.set(env.room(path).map_or(0, |octets| i64::try_from(octets).unwrap_or(i64::MAX)));
        }
    }
}

/// The retention of a domain, in seconds.
pub(super) fn retention(settings: &Undelete) -> Rc<dyn Fn(&str) -> u32> {
    let settings = settings.clone();
    Rc::new(move |domain| {
        let found = settings.domains.iter().find(|one| one.domain.matches(domain));
        let retention = found.map_or(settings.retention, |one| one.retention);
        u32::try_from(retention.as_secs()).unwrap_or(u32::MAX)
    })
}

/// Has the accounts know their retention, as directory and settings stand now.
pub(super) fn set<E: Env>(shard: &Shard<E>) {
    let settings = shard.settings();
    // No domain has this name.
    let usual = (settings.retention)("");
    let mut retention = Retention::all(usual);
    if !settings.retention_is_one {
        let mut of = crate::bytes::hash::Map::default();
        shard.snapshot.borrow().each_account(|domain, account| {
            let own = (settings.retention)(domain);
            if own != usual {
                of.insert(account, own);
            }
        });
        retention.of = Rc::new(of);
    }
    shard.accounts.borrow_mut().set_retention(retention);
}

/// Works until the server drains.
pub(super) async fn serve<E: Env>(shard: Rc<Shard<E>>) {
    let mut looks = 0;
    while !shard.draining.is_set() {
        if looks == 0 {
            set(&shard);
            let mut from = Some(0);
            while let Some(at) = from {
                let (stale, next) = shard.accounts.borrow().stale(shard.env.wall().seconds(), at);
                keep(&shard, stale).await;
                shard.env.breathe().await;
                from = next.filter(|_| !shard.draining.is_set());
            }
        }
        looks = (looks + 1) % LOOKS;
        if shard.log.is_short_of_room() && give_up(&shard).await {
            // So that what was given up becomes room before more is.
            shard.log.win_room();
        }
        or(shard.env.sleep(LOOK_PAUSE), shard.draining.wait()).await;
    }
}

/// Has accounts rest until the server drains.
pub(super) async fn rest<E: Env>(shard: Rc<Shard<E>>) {
    while !shard.draining.is_set() {
        shard.accounts.borrow_mut().begin_turn();
        while shard.accounts.borrow_mut().turn() && !shard.draining.is_set() {
            shard.env.breathe().await;
        }
        or(shard.env.sleep(REST_PAUSE), shard.draining.wait()).await;
    }
}

async fn keep<E: Env>(shard: &Shard<E>, stale: Vec<AccountId>) {
    for account in stale {
        if shard.draining.is_set() {
            return;
        }
        // What cannot be done now is done the next time.
        drop(shard.desk.keep(account).await);
        shard.env.breathe().await;
    }
}

/// Gives up the oldest of all histories, whatever the retention. Whether there was anything.
async fn give_up<E: Env>(shard: &Shard<E>) -> bool {
    let now = shard.env.wall().seconds();
    let Some(oldest) = shard.accounts.borrow().oldest_kept() else { return false };
    let until =
        oldest.saturating_add((now.saturating_sub(oldest) / GIVE_UP_PART).max(GIVE_UP_LEAST));
    let fields = [("log", shard.log.id().0.into()), ("until", until.into())];
    event(Level::Warn, "history_given_up", &fields);
    let accounts = shard.accounts.borrow().kept_from_before(until);
    for account in accounts {
        if shard.draining.is_set() {
            break;
        }
        drop(shard.desk.forget(account, until).await);
        shard.env.breathe().await;
    }
    true
}
