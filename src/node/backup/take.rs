//! Makes a backup: copies what no earlier one has, then writes what it is made of.

use super::asking::Asker;
use super::vault::{
    FRESH, FilePart, LogPart, Manifest, Piece, SegmentPart, Vault, at, create, hex, piece_path,
    read_at, sync_dir,
};
use super::{Progress, keep, summary};
use crate::admin::calendar::rfc3339;
use crate::bytes::codec::to_u64;
use crate::bytes::hash::Map;
use crate::cli::{Failure, Told};
use crate::config::Config;
use crate::env::BLOCK_OCTETS;
use crate::model::id::LogId;
use crate::model::time::Wall;
use crate::node::placement::Placement;
use crate::store::backup::{Base, Cut, Used, Walked, walk};
use crate::store::segments::slot_name;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Octets after which the logs hear again that somebody is at it.
const HOLD_OCTETS: u64 = 64 << 20;
/// Directories in `data_dir` with files beside the logs: keys and certificates.
const DIRS_BESIDE: [&str; 2] = ["dkim", "tls"];
/// Files in `data_dir` beside the logs.
const FILES_BESIDE: [&str; 1] = ["warmup"];

/// Segments of earlier backups by log and number, newest first.
type Known<'a> = Map<(u16, u64), Vec<&'a SegmentPart>>;

/// One backup under way.
struct Taking<'a> {
    vault: &'a Vault,
    known: Known<'a>,
    asker: &'a Asker,
    data_dir: &'a Path,
    placement: Placement,
    progress: Progress,
    /// Octets copied since the logs heard of it.
    unheard: u64,
    new_octets: u64,
}

pub(super) fn make(
    config: &Config,
    dir: &Path,
    keep: Option<NonZeroU32>,
    told: &mut Told<'_>,
) -> Result<(), Failure> {
    let vault = Vault::make(dir)?;
    let found = vault.manifests()?;
    found.faults(told)?;
    let placement = Placement::find(config)?;
    let (asker, parts) = Asker::begin(config)?;
    let mut taking = Taking {
        vault: &vault,
        known: known(&found.whole),
        asker: &asker,
        data_dir: &config.data_dir,
        placement,
        progress: Progress::new("copied"),
        unheard: 0,
        new_octets: 0,
    };
    let taken = taking.run(&found.whole, parts, told);
    let new_octets = taking.new_octets;
    asker.end();
    let manifest = taken?;
    let (pieces, octets) = manifest.extent();
    let (name, time) = (manifest.name(), rfc3339(Wall(manifest.time)));
    let text = format!(
        "backup {name}: all up to {time}, {octets} octets in {pieces} pieces, of them {new_octets} \
         octets new"
    );
    let removed = match keep {
        Some(count) => keep::prune(&vault, count)?,
        None => 0,
    };
    let fields = serde_json::json!({
        "name": name, "time": time, "pieces": pieces, "octets": octets, "new_octets": new_octets,
        "removed": removed,
    });
    summary(told, &text, &fields)?;
    if removed > 0 && !told.json {
        writeln!(told.out, "{removed} older backups removed")?;
    }
    Ok(())
}

fn known(manifests: &[Manifest]) -> Known<'_> {
    let mut known = Known::default();
    for part in manifests.iter().rev().flat_map(|manifest| &manifest.logs) {
        for segment in &part.segments {
            let list = known.entry((part.base.log, segment.segment)).or_default();
            if !list.iter().any(|other| other.pieces == segment.pieces) {
                list.push(segment);
            }
        }
    }
    known
}

impl Taking<'_> {
    fn run(
        &mut self,
        earlier: &[Manifest],
        parts: Vec<(Base, Cut)>,
        told: &mut Told<'_>,
    ) -> Result<Manifest, Failure> {
        let first = parts.first().ok_or_else(|| Failure::Failed("the store has no logs".into()))?;
        let mut manifest = Manifest::new(first.0.store.clone(), first.1.time);
        if let Some(other) = earlier.iter().find(|one| one.store != manifest.store) {
            return Err(Failure::Failed(format!(
                "{} has backups of another store ({}, not {}): each store has a directory of its own",
                self.vault.dir.display(),
                other.store,
                manifest.store
            )));
        }
        if earlier.last().is_some_and(|last| last.time >= manifest.time) {
            return Err(Failure::Failed(
                "the newest backup is of a later moment than now: the clock was set back".into(),
            ));
        }
        let files = self.vault.dir.join("files");
        make_dir(&files)?;
        for (base, cut) in parts {
            let Cut { end, segments, .. } = cut;
            let dir = self.vault.dir.join(format!("log-{:03}", base.log));
            make_dir(&dir)?;
            let mut part = LogPart { base, end, segments: Vec::new() };
            let index = std::mem::take(&mut part.base.index);
            for used in index.iter().chain(&segments) {
                let taken = self.segment(&part.base, used, told)?;
                part.segments.push(taken);
            }
            sync_dir(&dir).map_err(at(&dir))?;
            manifest.logs.push(part);
        }
        manifest.files = self.files()?;
        sync_dir(&files).map_err(at(&files))?;
        sync_dir(&self.vault.dir).map_err(at(&self.vault.dir))?;
        // What was read up to here was as it should be.
        self.asker.hold()?;
        self.vault.seal(&manifest)?;
        Ok(manifest)
    }

    /// Copies what no earlier backup has of a segment.
    fn segment(
        &mut self,
        base: &Base,
        used: &Used,
        told: &mut Told<'_>,
    ) -> Result<SegmentPart, Failure> {
        let path = self.placement.log_dir(LogId(base.log)).join(slot_name(used.slot));
        let source = OpenOptions::new().read(true).open(&path).map_err(at(&path))?;
        let earlier = self.earlier(base.log, used, &source);
        let mut pieces = earlier.map_or(Vec::new(), |part| part.pieces.clone());
        let before = earlier.map_or(Walked::default(), |part| part.walked);
        let mut walked = before;
        if !before.reaches(used.upto) {
            let dir = self.vault.dir.join(format!("log-{:03}", base.log));
            let mut fresh = Fresh::create(&dir)?;
            let mut read = |octet, len| read_at(&source, octet, len);
            let taken = walk(base, used, before, &mut read, &mut |octets: &[u8]| {
                self.copied(to_u64(octets.len()), told)?;
                fresh.take(octets)
            });
            walked = taken.map_err(|broken| Failure::Failed(broken.to_string()))?;
            let octets = walked.end - before.end;
            let seam_hash = hex(fresh.seam);
            let named = |hash: &str| piece_path(base.log, used.segment, before.end, hash);
            let (hash, new) = fresh.keep(named, self.vault)?;
            pieces.push(Piece { octets, hash, seam: walked.seam, seam_hash });
            self.new_octets += new;
        }
        let Used { slot, segment, stream, .. } = *used;
        Ok(SegmentPart { slot, segment, stream, walked, pieces })
    }

    /// What an earlier backup has of the segment, if it is of this very one and all there.
    fn earlier(&self, log: u16, used: &Used, source: &File) -> Option<&SegmentPart> {
        for part in self.known.get(&(log, used.segment))? {
            let mut is_same = part.slot == used.slot && part.stream == used.stream;
            for (begins, piece) in part.placed() {
                if !is_same {
                    break;
                }
                let path = piece_path(log, part.segment, begins, &piece.hash);
                let found = std::fs::metadata(self.vault.dir.join(path));
                is_same = found.is_ok_and(|found| found.len() == piece.octets)
                    && read_at(source, piece.seam, BLOCK_OCTETS)
                        .is_ok_and(|block| hex(xxh3_64(&block)) == piece.seam_hash);
            }
            if is_same {
                return Some(part);
            }
        }
        None
    }

    fn copied(&mut self, octets: u64, told: &mut Told<'_>) -> io::Result<()> {
        self.progress.add(octets, told);
        self.unheard += octets;
        if self.unheard >= HOLD_OCTETS {
            self.unheard = 0;
            self.asker.hold().map_err(|failure| io::Error::other(failure.text().to_owned()))?;
        }
        Ok(())
    }

    /// Keys and certificates: small, and copied anew where they changed.
    fn files(&mut self) -> Result<Vec<FilePart>, Failure> {
        let paths = files_beside(self.data_dir)?;
        let mut parts = Vec::new();
        for path in paths {
            let source = self.data_dir.join(&path);
            let octets = match std::fs::read(&source) {
                // It went away, or never was; or it is no file.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
                    ) =>
                {
                    continue;
                }
                octets => octets.map_err(at(&source))?,
            };
            let Some(path) = path.to_str() else {
                return Err(Failure::Failed(format!("{}: no name in UTF-8", source.display())));
            };
            let mut fresh = Fresh::create(&self.vault.dir.join("files"))?;
            fresh.take(&octets).map_err(at(&source))?;
            let (hash, new) = fresh.keep(|hash| Path::new("files").join(hash), self.vault)?;
            self.new_octets += new;
            parts.push(FilePart { path: path.into(), octets: to_u64(octets.len()), hash });
        }
        Ok(parts)
    }
}

/// The files beside the logs that a store is not complete without, as paths in `data_dir`, sorted.
pub(in crate::node) fn files_beside(data_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths: Vec<PathBuf> = FILES_BESIDE.iter().map(PathBuf::from).collect();
    for name in DIRS_BESIDE {
        let dir = data_dir.join(name);
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(at(&dir))?,
        };
        for entry in entries {
            paths.push(Path::new(name).join(entry.map_err(at(&dir))?.file_name()));
        }
    }
    paths.sort();
    Ok(paths)
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(at(dir))
}

/// A file on its way into the vault.
struct Fresh {
    path: PathBuf,
    file: File,
    hasher: Xxh3,
    octets: u64,
    /// The xxh3-64 of the first block of what was taken last.
    seam: u64,
}

impl Fresh {
    fn create(dir: &Path) -> Result<Fresh, Failure> {
        let path = dir.join(FRESH);
        let file = create(&path).map_err(at(&path))?;
        Ok(Fresh { path, file, hasher: Xxh3::new(), octets: 0, seam: 0 })
    }

    fn take(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)?;
        self.hasher.update(octets);
        self.octets += to_u64(octets.len());
        self.seam = xxh3_64(octets.get(..BLOCK_OCTETS).unwrap_or(octets));
        Ok(())
    }

    /// Makes it durable and gives it the name that `named` makes of its hash, which is returned, with the
    /// octets that are new. What is there by that name already has the same octets.
    fn keep(
        self,
        named: impl Fn(&str) -> PathBuf,
        vault: &Vault,
    ) -> Result<(String, u64), Failure> {
        let hash = hex(self.hasher.digest());
        let path = vault.dir.join(named(&hash));
        let is_there = std::fs::metadata(&path).is_ok_and(|found| found.len() == self.octets);
        let kept = if is_there {
            std::fs::remove_file(&self.path)
        } else {
            self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &path))
        };
        kept.map_err(at(&path))?;
        Ok((hash, if is_there { 0 } else { self.octets }))
    }
}
