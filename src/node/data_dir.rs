//! The data directory: whose it is, which store it holds, and that only one process has it.
//!
//! ```text
//! data_dir/lock        held (flock) by the process that has the store open; so is one in each other
//!                      directory that logs may lie in
//! data_dir/store.toml  the store's number, how many logs it has, and was made with, and whether all
//!                      are made
//! data_dir/log-000/    one directory per log, here or elsewhere (`placement`)
//! data_dir/admin.sock  the running server's socket
//! ```

use super::placement::Placement;
use crate::cli::Failure;
use crate::config::Config;
use crate::model::id::LogId;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another command line may have the directory before one gives up, and between two looks.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Holds the directory for as long as it lives.
#[derive(Debug)]
pub(super) struct Held {
    _locks: Vec<File>,
    pub(super) store_id: u128,
    pub(super) logs: u16,
    /// How many logs it was made with.
    pub(super) first_logs: u16,
    /// Every log was made: from here on one that is not there is lost, and not new.
    pub(super) is_complete: bool,
    /// Where they lie: all of them, if every log was made.
    pub(super) placement: Placement,
}

/// Which store lies in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) store_id: u128,
    pub(super) logs: u16,
    /// How many logs it was made with.
    pub(super) first_logs: u16,
}

#[derive(Serialize, Deserialize)]
struct Described {
    format: u32,
    id: String,
    logs: u16,
    /// How many it was made with, where that is another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_logs: Option<u16>,
    complete: bool,
    /// xxh3-64 of the text above this line, in hexadecimal.
    check: String,
}

impl Described {
    fn new(format: u32, id: String, (logs, first): (u16, u16), complete: bool) -> Described {
        let first_logs = Some(first).filter(|&first| first != logs);
        let first = first_logs.map_or_else(String::new, |first| format!("first_logs = {first}\n"));
        let above = format!(
            "format = {format}\nid = \"{id}\"\nlogs = {logs}\n{first}complete = {complete}\n"
        );
        let check = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(above.as_bytes()));
        Described { format, id, logs, first_logs, complete, check }
    }

    fn found(&self) -> Option<Found> {
        let store_id = u128::from_str_radix(&self.id, 16).ok()?;
        let (logs, first_logs) = self.logs();
        Some(Found { store_id, logs, first_logs })
    }

    /// How many logs there are, and how many the store was made with.
    fn logs(&self) -> (u16, u16) {
        (self.logs, self.first_logs.unwrap_or(self.logs))
    }

    /// The text of the file.
    fn text(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|error| Failure::Failed(error.to_string()))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

/// Takes the directory, makes the store's description if there is none: with `logs` logs; and finds the
/// logs. Waits up to `patience` for another process that has it.
pub(super) fn hold(config: &Config, logs: u16, patience: Duration) -> Result<Held, Failure> {
    let data_dir = config.data_dir.as_path();
    std::fs::create_dir_all(data_dir).map_err(at(data_dir))?;
    let mut locks = vec![lock(data_dir, patience)?];
    let placement = Placement::find(config)?;
    let path = described(data_dir);
    let found = match std::fs::read_to_string(&path) {
        Ok(text) => read(&path, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            describe(config, &placement, logs)?
        }
        Err(error) => return Err(at(&path)(error)),
    };
    let is_complete = found.complete;
    let found = found
        .found()
        .ok_or_else(|| Failure::Failed(format!("{}: the id is no number", path.display())))?;
    let Found { store_id, logs, first_logs } = found;
    placement.check(store_id, if is_complete { logs } else { 0 }, is_complete.then_some(logs))?;
    // Whoever has a copy of `data_dir` may know of the same logs.
    for dir in placement.paths().skip(1) {
        locks.push(lock(dir, patience)?);
    }
    refuse_logs_beyond(data_dir, &placement, (store_id, logs))?;
    Ok(Held { _locks: locks, store_id, logs, first_logs, is_complete, placement })
}

/// A log with something in it that the description does not have: then the description is an old one, and
/// whoever went on by it would leave out mail that was taken.
fn refuse_logs_beyond(
    data_dir: &Path,
    placement: &Placement,
    (store_id, logs): (u128, u16),
) -> Result<(), Failure> {
    for log in placement.numbers().filter(|&log| log >= logs) {
        let dir = placement.log_dir(LogId(log));
        if super::logs::is_used(&dir, store_id).map_err(at(&dir))? {
            return Err(Failure::Failed(format!(
                "{} is older than the logs: it says that the store has {logs}, and {} holds mail of it; put \
                 the newer store.toml back, or have `pombal store salvage` read all logs that there are",
                described(data_dir).display(),
                dir.display()
            )));
        }
    }
    Ok(())
}

impl Held {
    /// Notes for good that every log is made.
    pub(super) fn complete(&mut self, data_dir: &Path) -> Result<(), Failure> {
        restored(data_dir, self.store_id, (self.logs, self.first_logs))?;
        self.is_complete = true;
        Ok(())
    }

    /// Notes for good that there are `logs` logs, more than there were; all of them are made.
    pub(super) fn grown(&mut self, data_dir: &Path, logs: u16) -> Result<(), Failure> {
        restored(data_dir, self.store_id, (logs, self.first_logs))?;
        self.logs = logs;
        Ok(())
    }
}

/// Takes a directory that must hold a store already.
pub(super) fn hold_existing(config: &Config, patience: Duration) -> Result<Held, Failure> {
    let data_dir = config.data_dir.as_path();
    let path = described(data_dir);
    if !path.exists() {
        refuse_logs_without_description(config)?;
        let why = format!("there is no {}: no store was made here yet", path.display());
        return Err(Failure::Failed(why));
    }
    let held = hold(config, 1, patience)?;
    if !held.is_complete {
        return Err(Failure::Failed(format!(
            "the store in {} was never completed: its making was cut off, and the next `pombal \
             serve` goes on with it",
            data_dir.display()
        )));
    }
    Ok(held)
}

/// Takes a directory in which nothing lies yet, for a store that comes back out of a backup; makes it
/// where it is not there. Until [`restored`] nobody takes what is put there for a store. Other directories for
/// its logs must have none.
pub(super) fn hold_empty(config: &Config) -> Result<(Vec<File>, Placement), Failure> {
    let data_dir = config.data_dir.as_path();
    std::fs::create_dir_all(data_dir).map_err(at(data_dir))?;
    for entry in std::fs::read_dir(data_dir).map_err(at(data_dir))? {
        let name = entry.map_err(at(data_dir))?.file_name();
        if name != super::privileges::LOST_AND_FOUND {
            return Err(Failure::Failed(format!(
                "{} is not empty: {} lies in it; a store comes back into an empty data_dir, so move what \
                 is there away",
                data_dir.display(),
                name.to_string_lossy()
            )));
        }
    }
    let found = Placement::find(config)?;
    found.check_empty()?;
    let locks = found.paths().map(|dir| lock(dir, Duration::ZERO)).collect::<Result<_, _>>()?;
    // Whoever had one of them may have made a log there until then.
    let placement = Placement::find(config)?;
    placement.check_empty()?;
    Ok((locks, placement))
}

/// Sees to it that nobody has the directory, and nobody takes it while this lives; nothing is written.
/// `None` where there is no lock to take.
pub(super) fn hold_as_it_is(data_dir: &Path) -> Result<Option<File>, Failure> {
    let path = data_dir.join("lock");
    let file = match OpenOptions::new().read(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(at(&path))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Failed(format!("{} is in use by another pombal", data_dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// Which store lies in a directory, if its description is there and whole.
pub(super) fn described_as(data_dir: &Path) -> Option<Found> {
    let path = described(data_dir);
    read(&path, &std::fs::read_to_string(&path).ok()?).ok()?.found()
}

/// Describes a store that is all there; `logs` are how many it has, and was made with.
pub(super) fn restored(data_dir: &Path, store_id: u128, logs: (u16, u16)) -> Result<(), Failure> {
    let format = crate::store::format::FORMAT;
    write(data_dir, &Described::new(format, format!("{store_id:032x}"), logs, true))
}

fn described(data_dir: &Path) -> PathBuf {
    data_dir.join("store.toml")
}

fn lock(data_dir: &Path, patience: Duration) -> Result<File, Failure> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| not_opened(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => wait_for(&file, data_dir, patience).map(|()| file),
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// Another command has the directory for a moment, a server for good.
fn wait_for(file: &File, data_dir: &Path, patience: Duration) -> Result<(), Failure> {
    let looks = patience.as_millis() / LOCK_PAUSE.as_millis();
    if looks > 0 {
        let note = "another pombal has the data directory: waiting for it to end";
        // Who does not see it waits as well.
        drop(writeln!(io::stderr(), "{note}"));
    }
    for _ in 0..looks {
        std::thread::park_timeout(LOCK_PAUSE);
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(at(data_dir)(error)),
        }
    }
    Err(Failure::Failed(format!("{} is in use by another pombal", data_dir.display())))
}

/// Whoever may only read cannot open the store: that may have to mend the end of a log.
fn not_opened(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": the store is opened for writing also to be read, since the end of its log may have to \
             be mended; ask as its owner, or look at a copy"
        }
        _ => "",
    };
    Failure::Failed(format!("{}: {error}{advice}", path.display()))
}

fn read(path: &Path, text: &str) -> Result<Described, Failure> {
    let found: Described = toml::from_str(text).map_err(|error| {
        let what = match text.trim_ascii() {
            "" => "empty".into(),
            _ => format!("damaged ({})", error.message()),
        };
        Failure::Failed(format!(
            "{} is {what}: it said which store this is; put it back from a backup, the logs are as \
             they were",
            path.display()
        ))
    })?;
    if found.format != crate::store::format::FORMAT {
        return Err(Failure::Failed(format!(
            "{}: format {} is of another release",
            path.display(),
            found.format
        )));
    }
    let logs = found.logs();
    let found = Described::new(found.format, found.id, logs, found.complete);
    if found.text()? != text {
        return Err(Failure::Failed(format!(
            "{}: damaged, it is not as it was written",
            path.display()
        )));
    }
    Ok(found)
}

/// A log that lies in the directory.
fn any_log(data_dir: &Path) -> Result<Option<String>, Failure> {
    let entries = match std::fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(at(data_dir))?,
    };
    for entry in entries {
        let name = entry.map_err(at(data_dir))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("log-") {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// Logs without a description are those of a store that lost it, or whose `data_dir` is not mounted.
fn refuse_logs_without_description(config: &Config) -> Result<(), Failure> {
    for dir in config.store_directories() {
        let Some(log) = any_log(dir)? else { continue };
        let place = if dir == config.data_dir {
            String::new()
        } else {
            format!(" in {}", config.data_dir.display())
        };
        return Err(Failure::Failed(format!(
            "{} holds {log} but no store.toml{place}: restore that file, or move the logs away to begin a \
             new store",
            dir.display()
        )));
    }
    Ok(())
}

/// Describes a new store.
fn describe(config: &Config, placement: &Placement, logs: u16) -> Result<Described, Failure> {
    refuse_logs_without_description(config)?;
    placement.check_empty()?;
    let data_dir = config.data_dir.as_path();
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(|error| Failure::Failed(error.to_string()))?;
    let id = format!("{:032x}", u128::from_le_bytes(id));
    let found = Described::new(crate::store::format::FORMAT, id, (logs, logs), false);
    write(data_dir, &found)?;
    Ok(found)
}

/// Writes the description under another name, makes it durable, then gives it its name.
fn write(data_dir: &Path, found: &Described) -> Result<(), Failure> {
    let text = found.text()?;
    let (path, fresh) = (described(data_dir), data_dir.join("store.toml.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        OpenOptions::new().read(true).open(data_dir)?.sync_all()
    };
    write().map_err(at(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Lsn;
    use crate::store::format::{BatchHeader, Identity, SegmentHeader, Stream};
    use crate::store::used::TELLING_OCTETS;

    const NOT: Duration = Duration::ZERO;

    fn of(dir: &tempfile::TempDir) -> Config {
        Config::small(dir.path())
    }

    #[test]
    fn describes_a_store_once_and_lets_one_process_in() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(&of(&dir), 2, NOT).unwrap();
        let again = hold(&of(&dir), 3, NOT);
        assert!(matches!(again, Err(Failure::Failed(why)) if why.contains("in use")));
        let id = held.store_id;
        drop(held);
        let held = hold(&of(&dir), 3, NOT).unwrap();
        assert_eq!((held.store_id, held.logs, held.is_complete), (id, 2, false));
    }

    #[test]
    fn waits_for_another_that_has_it_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(&of(&dir), 1, NOT).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| hold(&of(&dir), 1, Duration::from_hours(1)));
            drop(held);
            assert!(waits.join().unwrap().is_ok());
        });
    }

    #[test]
    fn lets_one_process_into_each_directory_of_logs() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let mut config = Config::small(&dir.path().join(name));
            config.store.directories.push(dir.path().into());
            config
        });
        let held = hold(&one, 1, NOT).unwrap();
        let again = hold(&two, 1, NOT);
        assert!(matches!(again, Err(Failure::Failed(why)) if why.contains("in use")));
        drop(held);
        assert!(hold(&two, 1, NOT).is_ok());
    }

    #[test]
    fn keeps_in_mind_that_all_logs_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = hold(&of(&dir), 2, NOT).unwrap();
        let id = held.store_id;
        held.complete(dir.path()).unwrap();
        drop(held);
        let Err(Failure::Failed(why)) = hold_existing(&of(&dir), NOT) else { panic!("it is held") };
        assert!(why.starts_with("logs 0, 1 of the store cannot be found"), "{why}");
        for log in ["log-000", "log-001"] {
            std::fs::create_dir(dir.path().join(log)).unwrap();
            std::fs::write(dir.path().join(log).join("superblock"), "").unwrap();
        }
        let held = hold_existing(&of(&dir), NOT).unwrap();
        assert_eq!((held.store_id, held.logs, held.is_complete), (id, 2, true));
    }

    #[test]
    fn writes_descriptions_of_these_octets_for_ever() {
        let id = format!("{:032x}", 0x0123_4567_89ab_cdef_0011_2233_4455_6677_u128);
        let text = Described::new(1, id.clone(), (2, 2), true).text().unwrap();
        expect_test::expect![[r#"
            format = 1
            id = "0123456789abcdef0011223344556677"
            logs = 2
            complete = true
            check = "ab31d9673b252431"
        "#]]
        .assert_eq(&text);
        let found = read(Path::new("store.toml"), &text).unwrap();
        assert_eq!((found.logs(), found.complete), ((2, 2), true));
        let text = Described::new(1, id, (4, 2), true).text().unwrap();
        expect_test::expect![[r#"
            format = 1
            id = "0123456789abcdef0011223344556677"
            logs = 4
            first_logs = 2
            complete = true
            check = "635b1a5e6c157229"
        "#]]
        .assert_eq(&text);
        let found = read(Path::new("store.toml"), &text).unwrap();
        assert_eq!(found.logs(), (4, 2));
    }

    /// The beginning of a segment of the log `log`, with a batch in it or without one.
    fn segment(store: u128, log: u16, stream: Stream, has_batch: bool) -> Vec<u8> {
        let identity = Identity { store, log: LogId(log), first_logs: 1 };
        let header = SegmentHeader {
            stream,
            epoch: 1,
            segment: 1,
            previous: 0,
            previous_valid: Lsn(0),
            previous_check: 0,
            created: 0,
        };
        let mut octets = header.encode(&identity, 0);
        let batch = BatchHeader {
            stream,
            epoch: 1,
            lsn: Lsn(1),
            durable_upto: Lsn(0),
            blocks: 1,
            meta_octets: 0,
            meta_check: 0,
            blob_count: 0,
            record_count: 0,
            time: 0,
            previous_check: 0,
        };
        let at = u64::try_from(octets.len()).unwrap();
        if has_batch {
            octets.extend(batch.encode(identity.seed(1, at)).0);
        }
        octets.resize(TELLING_OCTETS, 0);
        octets
    }

    #[test]
    fn does_not_go_on_by_a_description_that_is_older_than_the_logs() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(&of(&dir), 1, NOT).unwrap();
        let store = held.store_id;
        drop(held);
        let log = dir.path().join("log-001");
        std::fs::create_dir(&log).unwrap();
        // What growing leaves that was cut off.
        for (stream, has_batch) in [(Stream::Hot, false), (Stream::Index, true)] {
            std::fs::write(log.join("seg-000000"), segment(store, 1, stream, has_batch)).unwrap();
            assert!(hold(&of(&dir), 1, NOT).is_ok(), "{stream:?} {has_batch}");
        }
        std::fs::write(log.join("seg-000000"), segment(store, 1, Stream::Hot, true)).unwrap();
        let held = hold(&of(&dir), 1, NOT);
        let Err(Failure::Failed(why)) = held else { panic!("it is held") };
        assert!(why.contains("store.toml is older") && why.contains("log-001"), "{why}");
    }

    #[test]
    fn does_not_take_logs_without_a_description_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::small(&dir.path().join("data"));
        config.store.directories.push(dir.path().join("more"));
        let refused = || {
            let held = hold(&config, 1, NOT);
            assert!(!config.data_dir.join("store.toml").exists());
            let Err(Failure::Failed(why)) = held else { panic!("it is held") };
            why
        };
        let why = refused();
        assert!(why.contains("more of `store.directories` is not there"), "{why}");
        // It is the device of `data_dir` that is not mounted.
        std::fs::create_dir_all(dir.path().join("more/log-001")).unwrap();
        let why = refused();
        assert!(why.contains("more holds log-001 but no store.toml in "), "{why}");
        std::fs::create_dir(dir.path().join("data/log-000")).unwrap();
        let why = refused();
        assert!(why.contains("data holds log-000 but no store.toml:"), "{why}");
    }

    #[test]
    fn says_why_a_directory_that_can_only_be_read_will_not_do() {
        let say = |kind| match not_opened(Path::new("data/lock"), &io::Error::from(kind)) {
            Failure::Failed(text) | Failure::Wrong(text) => text,
        };
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            assert!(say(kind).contains("look at a copy"), "{}", say(kind));
        }
        assert!(!say(io::ErrorKind::IsADirectory).contains("copy"));
    }

    #[test]
    fn does_not_make_a_store_where_one_is_only_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let why = |held| match held {
            Err(Failure::Failed(why)) => why,
            _ => panic!("there is nothing to hold"),
        };
        let text = why(hold_existing(&of(&dir), NOT));
        assert!(text.contains("there is no") && text.contains("store.toml"), "{text}");
        std::fs::create_dir(dir.path().join("log-001")).unwrap();
        let text = why(hold_existing(&of(&dir), NOT));
        assert!(text.contains("log-001 but no store.toml"), "{text}");
        assert!(!dir.path().join("store.toml").exists());
    }

    #[test]
    fn says_in_words_that_the_description_is_no_more() {
        for (text, word) in [("", "is empty: "), ("\n", "is empty: "), ("\0\0", "is damaged (")] {
            let Err(Failure::Failed(why)) = read(Path::new("store.toml"), text) else {
                panic!("{text:?} describes no store")
            };
            assert!(why.contains(word) && why.contains("backup"), "{why}");
            assert!(!why.contains('\n'), "{why}");
        }
    }
}
