//! `pombal backup`: what is meant by what was typed. The node does it, and what `pombal restore` asks for.

use super::Failure;
use super::args::{Backup, BackupCommand};
use crate::model::time::Wall;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// What to do with backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupTask {
    /// Make one, then keep so many.
    Make {
        dir: PathBuf,
        keep: Option<NonZeroU32>,
    },
    List {
        dir: PathBuf,
    },
    /// Hold all, or one, against their checksums.
    Verify {
        dir: PathBuf,
        name: Option<String>,
    },
}

/// What to bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTask {
    pub dir: PathBuf,
    /// `None`: the moment of the backup.
    pub at: Option<Wall>,
    /// `None`: the newest that will do.
    pub name: Option<String>,
    /// Whether all is read and checked that came back.
    pub verify: bool,
}

/// Which backup somebody looks into, as of when.
pub struct AsOf {
    pub backup: String,
    /// RFC 3339.
    pub time: String,
    /// Manifests that cannot be read, and why.
    pub passed_over: Vec<String>,
}

/// Who hears of it, and how.
pub struct Told<'a> {
    pub json: bool,
    pub out: &'a mut dyn Write,
    /// How far it is.
    pub err: &'a mut dyn Write,
}

pub(super) fn task(typed: &Backup) -> Result<BackupTask, Failure> {
    Ok(match (&typed.command, &typed.dir) {
        (Some(BackupCommand::List { dir }), _) => BackupTask::List { dir: dir.clone() },
        (Some(BackupCommand::Verify { dir, backup }), _) => {
            BackupTask::Verify { dir: dir.clone(), name: backup.clone() }
        }
        (None, Some(dir)) => BackupTask::Make { dir: dir.clone(), keep: typed.keep },
        (None, None) => return Err(Failure::Wrong("backup: into which directory?".into())),
    })
}
