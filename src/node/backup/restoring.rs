//! Brings a store back out of a vault.

use super::vault::{
    COPY_OCTETS, FilePart, LogPart, Manifest, SegmentPart, Vault, at, create, piece_path, sync_dir,
};
use super::{Progress, summary};
use crate::admin::calendar::rfc3339;
use crate::bytes::codec::{to_u64, to_usize};
use crate::cli::{Failure, RestoreTask, StoreTask, Told};
use crate::config::Config;
use crate::env::BLOCK_OCTETS;
use crate::model::id::LogId;
use crate::model::time::Wall;
use crate::node::shard::log_dir;
use crate::node::{data_dir, offline};
use crate::store::format::Stream;
use crate::store::restore::{Part, Placed, Plan, Source, moved, plan, superblock};
use crate::store::segments::slot_name;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path};

/// What is brought back: a backup, as it was at a moment, and the next one, if the moment is later.
struct Chosen<'a> {
    backup: &'a Manifest,
    next: Option<&'a Manifest>,
    time: u64,
}

/// A log that comes back.
struct Coming<'a> {
    own: &'a LogPart,
    next: Option<&'a LogPart>,
    plan: Plan,
}

pub(super) fn run(config: &Config, task: &RestoreTask, told: &mut Told<'_>) -> Result<(), Failure> {
    let vault = Vault::open(&task.dir)?;
    let found = vault.manifests()?;
    for line in &found.broken {
        writeln!(told.err, "passed over: {line}")?;
    }
    let chosen = choose(&found.whole, task, || {
        task.name.as_deref().map(|name| found.called(name)).transpose()
    })?;
    let logs = plans(&vault, &chosen)?;
    let store = u128::from_str_radix(&chosen.backup.store, 16)
        .map_err(|_| Failure::Failed("the backup is of a store without a number".into()))?;
    let count = u16::try_from(logs.len()).map_err(|error| Failure::Failed(error.to_string()))?;
    let first_logs = logs.first().map_or(count, |coming| coming.own.base.first_logs());
    let data_dir = &config.data_dir;
    let held = data_dir::hold_empty(data_dir)?;
    let mut progress = Progress::new("restored");
    for coming in &logs {
        write_log(&vault, coming, data_dir, &mut progress, told)?;
    }
    let files = chosen.backup.files.as_slice();
    for file in files {
        write_file(&vault, file, data_dir)?;
    }
    sync_dir(data_dir).map_err(at(data_dir))?;
    data_dir::restored(data_dir, store, (count, first_logs))?;
    drop(held);
    let (name, until) = (chosen.backup.name(), rfc3339(Wall(chosen.time)));
    let text = format!("{} is as it was at {until} (backup {name})", data_dir.display());
    let fields = serde_json::json!({
        "backup": name, "time": until, "logs": count, "octets": progress.octets,
    });
    if task.verify {
        // Its lines go before ours, so that the last line tells that all is well.
        offline::store(config, &StoreTask::Verify { rate: 0 }, told.json, told.out)?;
    }
    summary(told, &text, &fields)
}

/// The backup, and the next one where it is needed.
fn choose<'a>(
    all: &'a [Manifest],
    task: &RestoreTask,
    called: impl Fn() -> Result<Option<&'a Manifest>, Failure>,
) -> Result<Chosen<'a>, Failure> {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Err(Failure::Failed(format!("there are no backups in {}", task.dir.display())));
    };
    let named = called()?;
    let Some(Wall(at)) = task.at else {
        let backup = named.unwrap_or(last);
        return Ok(Chosen { backup, next: None, time: backup.time });
    };
    let until = |one: &Manifest| rfc3339(Wall(one.time));
    let newest = || all.iter().rev().find(|one| one.time <= at);
    let Some(backup) = named.or_else(newest).filter(|one| one.time <= at) else {
        let oldest = until(named.unwrap_or(first));
        return Err(Failure::Failed(format!("the backup is of a later moment, {oldest}")));
    };
    if backup.time == at {
        return Ok(Chosen { backup, next: None, time: at });
    }
    let next = all.iter().find(|one| one.time >= at);
    let next = next.ok_or_else(|| {
        Failure::Failed(format!("the newest backup holds what was there up to {}", until(last)))
    })?;
    Ok(Chosen { backup, next: Some(next), time: at })
}

/// How each log comes back; nothing is written yet.
fn plans<'a>(vault: &Vault, chosen: &Chosen<'a>) -> Result<Vec<Coming<'a>>, Failure> {
    // What came into the new ones before the next backup was made has no checkpoint to begin at.
    if chosen.next.is_some_and(|next| next.logs.len() > chosen.backup.logs.len()) {
        return Err(Failure::Failed(format!(
            "logs were added before the next backup was made: the store can be brought back as backup \
             {} has it, or as a later one does",
            chosen.backup.name()
        )));
    }
    let mut logs = Vec::new();
    let mut reaches: Option<u64> = None;
    for own in &chosen.backup.logs {
        let next = chosen
            .next
            .and_then(|next| next.logs.iter().find(|part| part.base.log == own.base.log));
        let parts = parts(own, next);
        let upto = next.unwrap_or(own).end.lsn;
        let mut read = |part: &Part, octet: u64, len: usize| {
            let found = whose(own, next, part).ok_or(io::ErrorKind::NotFound)?;
            vault.read(own.base.log, found, octet, len)
        };
        let plan = plan(&own.base, &parts, chosen.time, upto, &mut read)
            .map_err(|broken| Failure::Failed(broken.to_string()))?;
        if !plan.is_whole {
            let far = plan.last_time.max(chosen.backup.time);
            reaches = Some(reaches.map_or(far, |known| known.min(far)));
        }
        logs.push(Coming { own, next, plan });
    }
    match reaches {
        None => Ok(logs),
        Some(far) => Err(Failure::Failed(format!(
            "segments were freed before the next backup was made: between backup {} and the next one \
             the store can be brought back up to {}",
            chosen.backup.name(),
            rfc3339(Wall(far))
        ))),
    }
}

/// The segments of a backup, and of the next one those that it lacks or has less of.
fn parts(own: &LogPart, next: Option<&LogPart>) -> Vec<Part> {
    let part = |one: &SegmentPart, source| Part {
        slot: one.slot,
        segment: one.segment,
        stream: one.stream,
        end: one.walked.end,
        source,
    };
    let mut parts: Vec<Part> = own.segments.iter().map(|one| part(one, Source::This)).collect();
    let later = next.map_or(&[][..], |next| &next.segments);
    // Pages of checkpoints come from the one checkpoint.
    for one in later.iter().filter(|one| one.stream != Stream::Index) {
        let same = own.segments.iter().position(|other| other.segment == one.segment);
        match same {
            None => parts.push(part(one, Source::Next)),
            // Of another life of the store, unless it goes on where this one ends.
            Some(at) if one.pieces.starts_with(&own.segments[at].pieces) => {
                parts[at] = part(one, Source::Grown);
            }
            Some(_) => {}
        }
    }
    parts
}

fn whose<'a>(own: &'a LogPart, next: Option<&'a LogPart>, part: &Part) -> Option<&'a SegmentPart> {
    let log = if part.source == Source::This { own } else { next? };
    log.segments.iter().find(|one| one.segment == part.segment)
}

fn write_log(
    vault: &Vault,
    coming: &Coming<'_>,
    data_dir: &Path,
    progress: &mut Progress,
    told: &mut Told<'_>,
) -> Result<(), Failure> {
    let base = &coming.own.base;
    let dir = log_dir(data_dir, LogId(base.log));
    make_dir(&dir)?;
    for placed in &coming.plan.placed {
        let path = dir.join(slot_name(placed.slot));
        let found = whose(coming.own, coming.next, &placed.part)
            .ok_or_else(|| Failure::Failed(format!("{}: nobody has it", path.display())))?;
        let mut segment = Segment::create(&path, base.segment_octets, placed)?;
        for (begins, piece) in found.placed() {
            let source = piece_path(base.log, found.segment, begins, &piece.hash);
            let mut is_first = begins == 0 && placed.slot != placed.part.slot;
            vault.check(&source, piece.octets, &piece.hash, &mut |octets| {
                if !std::mem::take(&mut is_first) {
                    return segment.put(octets);
                }
                let header = octets.get(..BLOCK_OCTETS);
                let header = header
                    .and_then(|block| moved(base, block, placed.part.slot, placed.slot))
                    .ok_or_else(|| io::Error::other("its header is damaged"))?;
                segment.put(&header)?;
                segment.put(octets.get(BLOCK_OCTETS..).unwrap_or_default())
            })?;
        }
        segment.end().map_err(at(&path))?;
        progress.add(base.segment_octets, told);
    }
    let epoch = coming.next.map_or(base.epoch, |next| next.base.epoch.max(base.epoch));
    let octets = superblock(base, epoch, coming.plan.end)
        .ok_or_else(|| Failure::Failed("the backup is of a store without a number".into()))?;
    let path = dir.join("superblock");
    put_file(&path, &octets)?;
    sync_dir(&dir).map_err(at(&dir))
}

/// A segment's file under way.
struct Segment {
    file: File,
    /// Octets of it that are still to come out of the backup, and zeros behind those.
    left: u64,
    zeros: u64,
}

impl Segment {
    fn create(path: &Path, octets: u64, placed: &Placed) -> Result<Segment, Failure> {
        let file = create(path).map_err(at(path))?;
        let zeros = octets.saturating_sub(placed.octets);
        Ok(Segment { file, left: placed.octets, zeros })
    }

    /// As far as it comes back.
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        let count = to_u64(octets.len()).min(self.left);
        self.left -= count;
        self.file.write_all(octets.get(..to_usize(count)).unwrap_or(octets))
    }

    /// Zeros are written too, so that appends never wait for the file system to find room.
    fn end(mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("the backup has less of it than it says"));
        }
        let block = vec![0; COPY_OCTETS];
        while self.zeros > 0 {
            let count = self.zeros.min(to_u64(block.len()));
            self.file.write_all(block.get(..to_usize(count)).unwrap_or(&block))?;
            self.zeros -= count;
        }
        self.file.sync_all()
    }
}

fn write_file(vault: &Vault, file: &FilePart, data_dir: &Path) -> Result<(), Failure> {
    let path = Path::new(&file.path);
    // Nothing but a name, or one in a directory.
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_below || file.path.is_empty() {
        return Err(Failure::Failed(format!("the backup has a file {:?}", file.path)));
    }
    let target = data_dir.join(path);
    let dir = target.parent().unwrap_or(data_dir);
    if dir != data_dir {
        make_dir(dir)?;
    }
    let mut octets = Vec::new();
    vault.check(&Path::new("files").join(&file.hash), file.octets, &file.hash, &mut |part| {
        octets.extend_from_slice(part);
        Ok(())
    })?;
    put_file(&target, &octets)?;
    sync_dir(dir).map_err(at(dir))
}

fn put_file(path: &Path, octets: &[u8]) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = create(path)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}
