//! Where the logs of a store lie: in `data_dir`, or in one of `store.directories`, one for each device.
//!
//! ```text
//!   data_dir/        store.toml, lock, …; logs too, where nobody named other directories
//!   /nvme1/pombal/   log-000/ log-002/
//!   /nvme2/pombal/   log-001/ log-003/
//! ```
//! Nothing says where a log lies but that it lies there: its directory has its number, and in it stands whose it
//! is. It is looked for in all of them, so their order means nothing, and a log is moved by moving
//! its directory while nobody has the store (0035).
//!
//! Illegal: to make a log anew that is not found, or to choose between two of one number. The path of a log
//! is put together here and nowhere else.

use crate::cli::Failure;
use crate::config::Config;
use crate::env::BLOCK_OCTETS;
use crate::model::id::LogId;
use crate::store::Settings;
use crate::store::format::{Identity, SUPERBLOCK_COPIES, SegmentHeader, Superblock};
use crate::store::segments::slot_of;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A directory that logs may lie in.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    node: u64,
}

/// A log that was found, or that is to be made there.
#[derive(Clone, Debug)]
struct Lying {
    /// Which of the places.
    place: usize,
    device: u64,
    /// As it says itself.
    whose: Option<Identity>,
}

/// Where each log of a store lies.
#[derive(Clone, Debug)]
pub struct Placement {
    /// `data_dir` first.
    places: Vec<Place>,
    /// Those of them that new logs go to.
    targets: Vec<usize>,
    /// Directories of the configuration that are not there.
    absent: Vec<PathBuf>,
    logs: BTreeMap<u16, Lying>,
}

impl Placement {
    /// All logs in one directory, whatever lies there.
    pub fn in_one(dir: &Path) -> Placement {
        let place = Place { path: dir.to_owned(), device: 0, node: 0 };
        let (targets, absent) = (vec![0], Vec::new());
        Placement { places: vec![place], targets, absent, logs: BTreeMap::new() }
    }

    /// Looks for logs, of whatever store, in all directories of the configuration; `data_dir` need not be there.
    ///
    /// # Errors
    /// Where a directory cannot be read, is named twice, or a number is found twice.
    pub(super) fn find(config: &Config) -> Result<Placement, Failure> {
        let mut found = Placement::in_one(&config.data_dir);
        if let Some(here) = directory(&config.data_dir)? {
            found.places[0] = Place::new(&config.data_dir, &here);
            found.look_into(0)?;
        }
        if !config.store.directories.is_empty() {
            found.targets.clear();
        }
        for path in &config.store.directories {
            match directory(path)? {
                None => found.absent.push(path.clone()),
                Some(here) => found.take(Place::new(path, &here))?,
            }
        }
        Ok(found)
    }

    /// Takes a directory for new logs, with those that lie there.
    fn take(&mut self, place: Place) -> Result<(), Failure> {
        let is_same = |other: &Place| (other.device, other.node) == (place.device, place.node);
        match self.places.iter().position(is_same) {
            None => {
                self.targets.push(self.places.len());
                self.places.push(place);
                self.look_into(self.places.len() - 1)
            }
            Some(at) if self.targets.contains(&at) => Err(Failure::Wrong(format!(
                "`store.directories`: {} and {} are one directory",
                self.places[at].path.display(),
                place.path.display()
            ))),
            // `data_dir` takes new logs too.
            Some(at) => {
                self.targets.push(at);
                Ok(())
            }
        }
    }

    fn look_into(&mut self, at: usize) -> Result<(), Failure> {
        let path = self.places[at].path.clone();
        for entry in std::fs::read_dir(&path).map_err(failed(&path))? {
            let name = entry.map_err(failed(&path))?.file_name();
            let Some(log) = name.to_str().and_then(number) else { continue };
            let dir = path.join(&name);
            // Making one that was cut off may have left nothing but a directory, and so does an empty
            // mount point.
            let Some(here) = directory(&dir)?.filter(|_| !is_empty(&dir)) else { continue };
            let lying = Lying { place: at, device: here.dev(), whose: whose(&dir) };
            if let Some(other) = self.logs.insert(log, lying) {
                return Err(Failure::Failed(format!(
                    "log {log} lies twice, in {} and in {}: one is a copy that was left behind; move that \
                     one away",
                    self.places[other.place].path.join(&name).display(),
                    dir.display()
                )));
            }
        }
        Ok(())
    }

    /// Refuses what is not all there: each log that was found has to be one of this store, each directory has
    /// to be there, and the first `logs` logs. `known` is how many logs the store has, where that is known: then
    /// it can be told what lies in a directory that is not there.
    ///
    /// # Errors
    /// With what is in the way, and which logs are missing.
    pub(super) fn check(&self, store: u128, logs: u16, known: Option<u16>) -> Result<(), Failure> {
        for (&log, lying) in &self.logs {
            let Some(whose) = lying.whose else { continue };
            let dir = self.log_dir(LogId(log));
            let dir = dir.display();
            if whose.store != store {
                return Err(Failure::Failed(format!(
                    "{dir} is of another store ({:032x}, not {store:032x}): move it away",
                    whose.store
                )));
            }
            if whose.log.0 != log {
                return Err(Failure::Failed(format!(
                    "{dir} has log {} in it: give it the name that it had",
                    whose.log.0
                )));
            }
        }
        if let Some(absent) = self.absent.first() {
            let absent = absent.display();
            let rest = match known.map(|logs| self.missing(logs)) {
                None => "nothing was made".to_owned(),
                Some(missing) if missing.is_empty() => {
                    "no log is missing: make it, or leave it out".to_owned()
                }
                Some(missing) => format!("without it the store lacks {missing}"),
            };
            return Err(Failure::Failed(format!(
                "{absent} of `store.directories` is not there: is its device mounted? {rest}"
            )));
        }
        let missing = self.missing(logs);
        if missing.is_empty() {
            return Ok(());
        }
        let looked: Vec<String> = self.paths().map(|path| path.display().to_string()).collect();
        Err(Failure::Failed(format!(
            "{missing} of the store cannot be found in {}: is each device mounted, and its directory in \
             `store.directories`? A log that was made is never made anew",
            looked.join(", ")
        )))
    }

    /// Which of the first `logs` logs were not found, in words.
    fn missing(&self, logs: u16) -> String {
        let missing = (0..logs).filter(|log| !self.logs.contains_key(log));
        let missing: Vec<String> = missing.map(|log| log.to_string()).collect();
        match &missing[..] {
            [] => String::new(),
            [one] => format!("log {one}"),
            many => format!("logs {}", many.join(", ")),
        }
    }

    /// Refuses directories in which a log lies, or that are not there.
    ///
    /// # Errors
    /// With the first of them.
    pub(super) fn check_empty(&self) -> Result<(), Failure> {
        match self.logs.keys().next() {
            Some(&log) => Err(Failure::Failed(format!(
                "{} is there: a store comes back where there are no logs, so move what is there away",
                self.log_dir(LogId(log)).display()
            ))),
            None => self.check(0, 0, None),
        }
    }

    /// Says where logs go that lie nowhere yet: each where the fewest are, in the order of the
    /// configuration.
    pub(super) fn lay(&mut self, new: Range<u16>) {
        for log in new {
            if self.logs.contains_key(&log) {
                continue;
            }
            let count = |place| self.logs.values().filter(|one| one.place == place).count();
            let fewest = self.targets.iter().copied().min_by_key(|&place| count(place));
            let place = fewest.unwrap_or_default();
            let device = self.places[place].device;
            self.logs.insert(log, Lying { place, device, whose: None });
        }
    }

    /// The directory that a log lies in; one that is not known of would lie in `data_dir`.
    pub fn log_dir(&self, log: LogId) -> PathBuf {
        self.place(log).path.join(name(log.0))
    }

    /// The directory that the directory of a log lies in.
    pub(super) fn parent(&self, log: LogId) -> &Path {
        &self.place(log).path
    }

    fn place(&self, log: LogId) -> &Place {
        &self.places[self.logs.get(&log.0).map_or(0, |lying| lying.place)]
    }

    /// All directories that logs may lie in, `data_dir` first.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.path.as_path())
    }

    /// The numbers of the logs that were found, whatever `store.toml` says.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        self.logs.keys().copied()
    }

    /// Whose the logs are, as they say themselves; those that know how many logs their store was made with
    /// come first.
    pub(super) fn whose(&self) -> Option<Identity> {
        let known = || self.logs.values().filter_map(|lying| lying.whose);
        known().find(|one| one.first_logs > 0).or_else(|| known().next())
    }

    /// How a log is kept, out of how all are: it shares its disk with the others that lie there.
    pub fn settings_of(&self, log: LogId, all: &Settings) -> Settings {
        Settings { logs_on_disk: self.on_device_of(log, all.logs), ..all.clone() }
    }

    /// How many of the first `logs` logs are on the device of this one.
    fn on_device_of(&self, log: LogId, logs: u16) -> u16 {
        let own = self.device(log.0);
        (0..logs).filter(|&other| self.device(other) == own).count().try_into().unwrap_or(u16::MAX)
    }

    fn device(&self, log: u16) -> u64 {
        self.logs.get(&log).map_or(self.places[0].device, |lying| lying.device)
    }

    /// The devices that these logs are on: a directory there, and how many of them.
    pub(super) fn devices(&self, logs: Range<u16>) -> Vec<(PathBuf, u16)> {
        let mut found: BTreeMap<u64, (PathBuf, u16)> = BTreeMap::new();
        for log in logs {
            let parent = self.parent(LogId(log));
            let entry = found.entry(self.device(log)).or_insert_with(|| (parent.into(), 0));
            entry.1 += 1;
        }
        found.into_values().collect()
    }
}

impl Place {
    fn new(path: &Path, found: &Metadata) -> Place {
        Place { path: path.to_owned(), device: found.dev(), node: found.ino() }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

/// What is known of a directory, or of what a link leads to; `None` where there is none.
fn directory(path: &Path) -> Result<Option<Metadata>, Failure> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found).filter(Metadata::is_dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// One that cannot be read is not: whoever opens the log says why.
fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn name(log: u16) -> String {
    format!("log-{log:03}")
}

/// The log that a name stands for.
fn number(text: &str) -> Option<u16> {
    let log = text.strip_prefix("log-")?.parse().ok()?;
    (name(log) == text).then_some(log)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// The copies of a log's superblock.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn superblock(dir: &Path) -> io::Result<Vec<u8>> {
    let mut copies = Vec::new();
    let most = SUPERBLOCK_COPIES * BLOCK_OCTETS;
    open(&dir.join("superblock"))?.take(most as u64).read_to_end(&mut copies)?;
    Ok(copies)
}

/// Whose log lies in a directory: a superblock says it, or else a segment. What cannot be read says nothing.
fn whose(dir: &Path) -> Option<Identity> {
    let copies = superblock(dir).unwrap_or_default();
    let mut whole = copies.chunks(BLOCK_OCTETS).filter_map(|copy| Superblock::decode(copy).ok());
    if let Some(found) = whole.next() {
        return Some(found.identity);
    }
    std::fs::read_dir(dir).ok()?.find_map(|entry| {
        let name = entry.ok()?.file_name();
        let slot = slot_of(name.to_str()?)?;
        let mut header = [0; BLOCK_OCTETS];
        open(&dir.join(&name)).ok()?.read_exact(&mut header).ok()?;
        SegmentHeader::whose(&header, slot)
    })
}

#[cfg(test)]
mod tests;
