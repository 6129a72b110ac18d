//! What comes back out of a vault: which backup, as of which moment, and of what each file of each log
//! is made. Nothing is written here: [`restoring`](super::restoring) writes the files down,
//! [`reading`](super::reading) reads them where they are.

use super::vault::{Found, LogPart, Manifest, SegmentPart, Vault, piece_path};
use crate::admin::calendar::rfc3339;
use crate::bytes::codec::to_u64;
use crate::cli::{Failure, RestoreTask};
use crate::env::BLOCK_OCTETS;
use crate::model::time::Wall;
use crate::store::format::Stream;
use crate::store::restore::{Part, Plan, Source, moved, plan, superblock};
use crate::store::segments::slot_name;
use std::io;
use std::path::{Path, PathBuf};

/// What is brought back: a backup, as it was at a moment, and the next one, if the moment is later.
pub(super) struct Chosen<'a> {
    pub backup: &'a Manifest,
    next: Option<&'a Manifest>,
    /// µs since 1970.
    pub time: u64,
}

/// A log that comes back.
pub(super) struct Coming<'a> {
    pub own: &'a LogPart,
    next: Option<&'a LogPart>,
    plan: Plan,
}

/// A file of a log: its head, out of pieces what is behind that, then zeros.
pub(super) struct LogFile {
    pub path: PathBuf,
    pub octets: u64,
    pub head: Vec<u8>,
    /// One behind the other, from octet 0 on; what the head covers of them does not count.
    pub pieces: Vec<PieceAt>,
    /// Where the zeros begin.
    pub end: u64,
}

/// Where a part of a file lies in the vault.
pub(super) struct PieceAt {
    pub path: PathBuf,
    pub begins: u64,
    pub octets: u64,
    pub hash: String,
}

impl Chosen<'_> {
    /// The number of the store.
    pub(super) fn store(&self) -> Result<u128, Failure> {
        u128::from_str_radix(&self.backup.store, 16).map_err(|_| without_number())
    }
}

/// How many logs come back, and how many their store was made with.
pub(super) fn counts(logs: &[Coming<'_>]) -> Result<(u16, u16), Failure> {
    let count = u16::try_from(logs.len()).map_err(|error| Failure::Failed(error.to_string()))?;
    let first_logs = logs.first().map_or(count, |coming| coming.own.base.first_logs());
    Ok((count, first_logs))
}

fn without_number() -> Failure {
    Failure::Failed("the backup is of a store without a number".into())
}

impl Coming<'_> {
    /// The files of the log in its directory, the superblock last.
    pub(super) fn files(&self, vault: &Vault, dir: &Path) -> Result<Vec<LogFile>, Failure> {
        let base = &self.own.base;
        let mut files = Vec::with_capacity(self.plan.placed.len() + 1);
        for placed in &self.plan.placed {
            let path = dir.join(slot_name(placed.slot));
            let lacks = |why: &str| Failure::Failed(format!("{}: {why}", path.display()));
            let found = whose(self.own, self.next, &placed.part);
            let found = found.ok_or_else(|| lacks("nobody has it"))?;
            let mut head = Vec::new();
            if placed.slot != placed.part.slot {
                let block = vault.read(base.log, found, 0, BLOCK_OCTETS)?;
                let header = moved(base, &block, placed.part.slot, placed.slot);
                head = header.ok_or_else(|| lacks("its header is damaged"))?;
            }
            let pieces = found.placed().map(|(begins, piece)| PieceAt {
                path: piece_path(base.log, found.segment, begins, &piece.hash),
                begins,
                octets: piece.octets,
                hash: piece.hash.clone(),
            });
            let (octets, pieces) = (base.segment_octets, pieces.collect());
            files.push(LogFile { path, octets, head, pieces, end: placed.octets });
        }
        let epoch = self.next.map_or(base.epoch, |next| next.base.epoch.max(base.epoch));
        let head = superblock(base, epoch, self.plan.end).ok_or_else(without_number)?;
        let octets = to_u64(head.len());
        let path = dir.join("superblock");
        files.push(LogFile { path, octets, head, pieces: Vec::new(), end: octets });
        Ok(files)
    }
}

/// The backup, and the next one where it is needed.
pub(super) fn choose<'a>(found: &'a Found, task: &RestoreTask) -> Result<Chosen<'a>, Failure> {
    let all = &found.whole;
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Err(Failure::Failed(format!("there are no backups in {}", task.dir.display())));
    };
    let named = task.name.as_deref().map(|name| found.called(name)).transpose()?;
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
pub(super) fn plans<'a>(vault: &Vault, chosen: &Chosen<'a>) -> Result<Vec<Coming<'a>>, Failure> {
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
