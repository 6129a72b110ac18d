//! Brings a store back out of a vault.

use super::coming::{Coming, LogFile, choose, counts, plans};
use super::vault::{COPY_OCTETS, FilePart, Vault, at, create, sync_dir};
use super::{Progress, summary};
use crate::admin::calendar::rfc3339;
use crate::bytes::codec::{to_u64, to_usize};
use crate::cli::{Failure, RestoreTask, StoreTask, Told};
use crate::config::Config;
use crate::model::id::LogId;
use crate::model::time::Wall;
use crate::node::{data_dir, offline};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

pub(super) fn run(config: &Config, task: &RestoreTask, told: &mut Told<'_>) -> Result<(), Failure> {
    let vault = Vault::open(&task.dir)?;
    let found = vault.manifests()?;
    for line in &found.broken {
        writeln!(told.err, "passed over: {line}")?;
    }
    let chosen = choose(&found, task)?;
    let logs = plans(&vault, &chosen)?;
    let (store, counts) = (chosen.store()?, counts(&logs)?);
    let data_dir = &config.data_dir;
    let (held, mut placement) = data_dir::hold_empty(config)?;
    placement.lay(0..counts.0);
    let mut progress = Progress::new("restored");
    for coming in &logs {
        let dir = placement.log_dir(LogId(coming.own.base.log));
        write_log(&vault, coming, &dir, &mut progress, told)?;
    }
    let files = chosen.backup.files.as_slice();
    for file in files {
        write_file(&vault, file, data_dir)?;
    }
    for dir in placement.paths() {
        sync_dir(dir).map_err(at(dir))?;
    }
    data_dir::restored(data_dir, store, counts)?;
    drop(held);
    let (name, until) = (chosen.backup.name(), rfc3339(Wall(chosen.time)));
    let text = format!("{} is as it was at {until} (backup {name})", data_dir.display());
    let fields = serde_json::json!({
        "backup": name, "time": until, "logs": counts.0, "octets": progress.octets,
    });
    if task.verify {
        // Its lines go before ours, so that the last line tells that all is well.
        offline::store(config, &StoreTask::Verify { rate: 0 }, told.json, told.out)?;
    }
    summary(told, &text, &fields)
}

/// Writes the files of a log; each piece is held against its hash as it is copied.
fn write_log(
    vault: &Vault,
    coming: &Coming<'_>,
    dir: &Path,
    progress: &mut Progress,
    told: &mut Told<'_>,
) -> Result<(), Failure> {
    make_dir(dir)?;
    for file in coming.files(vault, dir)? {
        let mut under_way = Writing::create(&file)?;
        for piece in &file.pieces {
            let put = &mut |octets: &[u8]| under_way.put(octets);
            vault.check(&piece.path, piece.octets, &piece.hash, put)?;
        }
        under_way.end().map_err(at(&file.path))?;
        progress.add(file.octets, told);
    }
    sync_dir(dir).map_err(at(dir))
}

/// A file under way.
struct Writing {
    file: File,
    /// Octets of the pieces that the head stands for.
    covered: u64,
    /// Octets that are still to come out of the pieces, and zeros behind those.
    left: u64,
    zeros: u64,
}

impl Writing {
    fn create(of: &LogFile) -> Result<Writing, Failure> {
        // Nothing is there: what has come there since is somebody else's.
        let new = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&of.path);
        let mut file = new.map_err(at(&of.path))?;
        file.write_all(&of.head).map_err(at(&of.path))?;
        let covered = to_u64(of.head.len());
        let (left, zeros) = (of.end.saturating_sub(covered), of.octets.saturating_sub(of.end));
        Ok(Writing { file, covered, left, zeros })
    }

    /// As far as it comes back.
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        let covered = self.covered.min(to_u64(octets.len()));
        self.covered -= covered;
        let octets = octets.get(to_usize(covered)..).unwrap_or_default();
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
