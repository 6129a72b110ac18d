//! `pombal store grow`: more logs for a store that no server has.
//!
//! All that could be in the way is looked at first; then the logs are made, empty and durable, where the
//! fewest lie, and last `store.toml` says that there are more. Where one cannot be made, those that this attempt made are removed.

use super::data_dir::Held;
use super::logs;
use super::offline::{on_a_shard, open_log, plan_of, telling};
use super::placement::{Placement, superblock};
use super::shard::{Plan, segments_max};
use crate::bytes::codec::to_u64;
use crate::cli::Failure;
use crate::config::Config;
use crate::config::units::show_size;
use crate::env::Env as _;
use crate::env::ring::Ring;
use crate::model::id::LogId;
use crate::model::limits::SHARDS_MAX;
use crate::store::format::Superblock;
use crate::store::reserve::SLOTS_MIN;
use crossbeam::channel::Sender;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

/// A disk that gets new logs.
struct Disk {
    path: PathBuf,
    logs: u16,
    /// What it gives.
    free_octets: u64,
}

/// What is held against the wish for more logs.
struct Asked {
    /// How many there are to be.
    logs: u16,
    /// Of a segment of this store.
    segment_octets: u64,
    /// Where the new ones go.
    disks: Vec<Disk>,
    /// Segments that each log may have then; 0 is no bound.
    segments_max: usize,
    /// Segments with something in them, of each log that there is.
    used: Vec<u64>,
}

impl Asked {
    /// Why there cannot be so many.
    fn refusal(&self) -> Option<String> {
        let &Asked { logs, segment_octets, segments_max, .. } = self;
        for Disk { path, logs, free_octets } in &self.disks {
            let needed = (u64::from(*logs) * SLOTS_MIN).saturating_mul(segment_octets);
            if needed > *free_octets {
                return Some(format!(
                    "{logs} more logs take {} of disk, and {} are free in {}",
                    show_size(needed),
                    show_size(*free_octets),
                    path.display()
                ));
            }
        }
        let share = to_u64(segments_max);
        let mut used = self.used.iter().enumerate();
        let (log, used) = used.find(|&(_, &used)| share > 0 && used > share)?;
        Some(format!(
            "log {log} has {used} segments in use, and of {logs} logs each may have {share} by \
             store.max_size: raise it, or win room back with `pombal store compact`"
        ))
    }
}

/// Whether so many logs could be at all.
fn check_number(had: u16, logs: u16) -> Result<(), Failure> {
    if logs <= had {
        let why =
            format!("the store has {had} logs: there can be more of them, not fewer, nor as many");
        return Err(Failure::Failed(why));
    }
    if logs > SHARDS_MAX {
        return Err(Failure::Failed(format!("a store has {SHARDS_MAX} logs at most")));
    }
    Ok(())
}

/// Gives the store `logs` logs.
pub(super) fn run(
    config: &Config,
    held: &mut Held,
    logs: u16,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (store, had) = (held.store_id, held.logs);
    check_number(had, logs)?;
    let segment_octets = segment_octets(&held.placement)?;
    let mut placement = held.placement.clone();
    placement.lay(had..logs);
    let plan = plan_of(config, store, (had, held.first_logs), held.placement.clone());
    let (disks, used) = look(plan, placement.devices(had..logs))?;
    let mut plan = plan_of(config, store, (logs, held.first_logs), placement);
    // As the others are, whatever the configuration says by now: what one log takes, the others have to.
    plan.store.segment_octets = segment_octets;
    let segments_max = segments_max(&config.store, logs);
    let asked = Asked { logs, segment_octets, disks, segments_max, used };
    if let Some(why) = asked.refusal() {
        return Err(Failure::Failed(why));
    }
    let is_new = |log: &LogId| plan.log_dir(*log).try_exists().is_ok_and(|is_there| !is_there);
    let made: Vec<LogId> = (had..logs).map(LogId).filter(is_new).collect();
    if let Err(failure) = make(&plan, had..logs, json, out) {
        for log in made {
            // One that cannot be removed is empty, and no log of the store.
            drop(std::fs::remove_dir_all(plan.log_dir(log)));
        }
        return Err(failure);
    }
    held.grown(&config.data_dir, logs)?;
    if json {
        let row = serde_json::json!({ "before": had, "logs": logs });
        return Ok(writeln!(out, "{row}")?);
    }
    Ok(writeln!(out, "{logs} logs, {had} before")?)
}

fn make(plan: &Plan, new: Range<u16>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let (plan, placement) = (plan.clone(), &plan.placement);
    let is_alone = placement.paths().count() == 1;
    let work = move |ring: Ring, tell: Sender<LogId>| {
        let (plan, new) = (plan.clone(), new.clone());
        async move {
            // Whoever listens does so until this ends.
            let mut told = |log| _ = tell.send(log);
            let added = logs::add(&ring, &plan, new, &mut told).await;
            added.map_err(|(log, error)| format!("log {}: it cannot be made: {error}", log.0))
        }
    };
    telling(work, |log: LogId| {
        if !json {
            // Who does not see it has the logs as well.
            drop(if is_alone {
                writeln!(out, "log {}: made", log.0)
            } else {
                writeln!(out, "log {}: made in {}", log.0, placement.parent(log).display())
            });
        }
    })
}

/// What the disks give, and how many segments of each log have something in them. Each is opened for it: a
/// store that does not open gets no more logs.
fn look(plan: Plan, disks: Vec<(PathBuf, u16)>) -> Result<(Vec<Disk>, Vec<u64>), Failure> {
    on_a_shard(move |ring| {
        let (plan, disks) = (plan.clone(), disks.clone());
        async move {
            let mut used = Vec::new();
            for log in (0..plan.shards).map(LogId) {
                let state = open_log(ring.clone(), &plan, log).await?;
                let figures = state.log.figures();
                used.push(figures.segments() - figures.free_segments);
                state.log.close().await.map_err(|error| format!("log {}: {error}", log.0))?;
            }
            let room = |(path, logs): (PathBuf, u16)| match ring.room(&path) {
                Ok(free_octets) => Ok(Disk { path, logs, free_octets }),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
            Ok((disks.into_iter().map(room).collect::<Result<_, _>>()?, used))
        }
    })
}

/// Octets of the segments that the store was made with.
fn segment_octets(placement: &Placement) -> Result<u64, Failure> {
    let dir = placement.log_dir(LogId(0));
    let told = |why: String| Failure::Failed(format!("{}: its superblock: {why}", dir.display()));
    let copies = superblock(&dir).map_err(|error| told(error.to_string()))?;
    Superblock::choose(&copies).map(|found| found.segment_octets).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_in_the_way_of_more_logs() {
        let asked = |free_octets, segments_max, used: &[u64]| {
            let used = used.to_vec();
            let disk = |logs, free_octets| Disk { path: "/nvme1".into(), logs, free_octets };
            let disks = vec![disk(1, u64::MAX), disk(2, free_octets)];
            Asked { logs: 4, segment_octets: 1 << 20, disks, segments_max, used }.refusal()
        };
        let enough = (2 * SLOTS_MIN) << 20;
        assert_eq!(asked(enough, 0, &[100, 3]), None);
        assert_eq!(asked(enough, 12, &[12, 3]), None);
        let short = asked(enough - 1, 0, &[1, 1]).unwrap();
        assert!(short.contains("2 more logs take") && short.contains("free in /nvme1"), "{short}");
        let over = asked(enough, 12, &[12, 13]).unwrap();
        assert!(over.contains("log 1 has 13") && over.contains("store.max_size"), "{over}");
    }

    #[test]
    fn takes_more_logs_and_not_too_many() {
        assert!(check_number(2, 3).is_ok() && check_number(2, SHARDS_MAX).is_ok());
        for logs in [0, 1, 2, SHARDS_MAX + 1] {
            assert!(check_number(2, logs).is_err(), "{logs}");
        }
    }
}
