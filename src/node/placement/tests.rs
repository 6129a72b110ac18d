//! What is found where, and all that is refused.

use super::*;
use crate::store::format::{PageAt, Reached, Stream};
use tempfile::TempDir;

const STORE: u128 = 7;

/// A machine with a `data_dir`, and directories `a` and `b` for logs.
struct Machine {
    dir: TempDir,
    config: Config,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::small(&dir.path().join("data"));
        for name in ["data", "a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        config.store.directories = ["a", "b"].map(|name| dir.path().join(name)).into();
        Machine { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A log of this store with nothing but its superblock.
    fn put(&self, name: &str, store: u128, log: u16) {
        std::fs::create_dir(self.path(name)).unwrap();
        let superblock = Superblock {
            identity: Identity { store, log: LogId(log), first_logs: 4 },
            seq: 1,
            epoch: 1,
            segment_octets: 1 << 20,
            root: PageAt { slot: 0, batch: 0, record: 0, len: 0, segment: 0 },
            reached: Reached::default(),
        };
        let copies = superblock.encode().repeat(SUPERBLOCK_COPIES);
        std::fs::write(self.path(name).join("superblock"), copies).unwrap();
    }

    /// The store with four logs: 0 in `data_dir`, 1 and 3 in `a`, 2 in `b`.
    fn filled() -> Machine {
        let machine = Machine::new();
        for (log, place) in [(0, "data"), (1, "a"), (2, "b"), (3, "a")] {
            machine.put(&format!("{place}/log-{log:03}"), STORE, log);
        }
        machine
    }

    fn find(&self) -> Result<Placement, Failure> {
        let found = Placement::find(&self.config)?;
        found.check(STORE, 4, Some(4))?;
        Ok(found)
    }

    /// Why the store is refused; paths without the way to the machine.
    #[track_caller]
    fn refusal(&self) -> String {
        let Err(failure) = self.find() else { panic!("it is found") };
        failure.text().replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// Where the logs lie.
    fn parents(&self, found: &Placement, logs: Range<u16>) -> Vec<String> {
        let parents = logs.map(|log| found.parent(LogId(log)));
        parents
            .map(|path| path.strip_prefix(self.dir.path()).unwrap().display().to_string())
            .collect()
    }
}

#[test]
fn finds_logs_wherever_they_lie_and_in_whatever_order() {
    let mut machine = Machine::filled();
    for _ in 0..2 {
        let found = machine.find().unwrap();
        assert_eq!(machine.parents(&found, 0..4), ["data", "a", "b", "a"]);
        assert_eq!(found.log_dir(LogId(2)), machine.path("b/log-002"));
        machine.config.store.directories.reverse();
    }
    // As `mv` does it.
    std::fs::rename(machine.path("a/log-001"), machine.path("b/log-001")).unwrap();
    let found = machine.find().unwrap();
    assert_eq!(machine.parents(&found, 0..4), ["data", "b", "b", "a"]);
}

#[test]
fn takes_a_store_of_before_there_were_directories() {
    let mut machine = Machine::new();
    machine.config.store.directories.clear();
    for log in 0..4 {
        machine.put(&format!("data/log-{log:03}"), STORE, log);
    }
    let mut found = machine.find().unwrap();
    found.lay(4..5);
    assert_eq!(machine.parents(&found, 0..5), ["data"; 5]);
    assert_eq!(found.on_device_of(LogId(0), 4), 4);
}

#[test]
fn names_what_is_missing_with_a_device() {
    let machine = Machine::filled();
    // The directory lies on the device,
    std::fs::rename(machine.path("a"), machine.path("away")).unwrap();
    assert_eq!(
        machine.refusal(),
        "a of `store.directories` is not there: is its device mounted? without it the store lacks logs 1, 3"
    );
    // or is where it is mounted: then an empty one is there instead.
    std::fs::create_dir(machine.path("a")).unwrap();
    std::fs::create_dir(machine.path("a/lost+found")).unwrap();
    let want = "logs 1, 3 of the store cannot be found in data, a, b: is each device mounted, and its \
                directory in `store.directories`? A log that was made is never made anew";
    assert_eq!(machine.refusal(), want);
    // Mount points of single logs.
    std::fs::create_dir(machine.path("a/log-001")).unwrap();
    std::fs::create_dir(machine.path("a/log-003")).unwrap();
    assert_eq!(machine.refusal(), want);
}

#[test]
fn wants_directories_that_are_named_though_nothing_is_missing() {
    let mut machine = Machine::filled();
    machine.config.store.directories.push(machine.path("c"));
    let want = "c of `store.directories` is not there: is its device mounted? no log is missing: make it, or \
                leave it out";
    assert_eq!(machine.refusal(), want);
    // A file is none.
    std::fs::write(machine.path("c"), "").unwrap();
    assert_eq!(machine.refusal(), want);
}

#[test]
fn does_not_choose_between_two_logs_of_one_number() {
    let machine = Machine::filled();
    machine.put("b/log-001", STORE, 1);
    assert_eq!(
        machine.refusal(),
        "log 1 lies twice, in a/log-001 and in b/log-001: one is a copy that was left behind; move that \
         one away"
    );
    // A copy that was cut off is one too, and a link that nobody needs any more.
    std::fs::remove_dir_all(machine.path("b/log-001")).unwrap();
    std::fs::create_dir(machine.path("b/log-001")).unwrap();
    assert!(machine.find().is_ok(), "nothing was copied yet");
    std::fs::write(machine.path("b/log-001/seg-000000"), "").unwrap();
    assert!(machine.refusal().starts_with("log 1 lies twice"));
    std::fs::remove_dir_all(machine.path("b/log-001")).unwrap();
    std::os::unix::fs::symlink(machine.path("a/log-001"), machine.path("data/log-001")).unwrap();
    assert!(machine.refusal().starts_with("log 1 lies twice"));
}

#[test]
fn follows_links_to_logs() {
    let mut machine = Machine::filled();
    for log in ["log-001", "log-003"] {
        std::os::unix::fs::symlink(machine.path("a").join(log), machine.path("data").join(log))
            .unwrap();
    }
    machine.config.store.directories.remove(0);
    let found = machine.find().unwrap();
    assert_eq!(machine.parents(&found, 0..4), ["data", "data", "b", "data"]);
}

#[test]
fn refuses_logs_of_other_stores_and_other_numbers() {
    let machine = Machine::filled();
    machine.put("b/log-009", 8, 9);
    let id = |store: u128| format!("{store:032x}");
    let want =
        format!("b/log-009 is of another store ({}, not {}): move it away", id(8), id(STORE));
    assert_eq!(machine.refusal(), want);
    // A segment says it where the superblock does not.
    std::fs::write(machine.path("b/log-009/superblock"), "").unwrap();
    assert!(machine.find().is_ok(), "nothing says whose it is");
    let identity = Identity { store: 8, log: LogId(9), first_logs: 4 };
    let header = SegmentHeader {
        stream: Stream::Hot,
        epoch: 1,
        segment: 1,
        previous: 0,
        previous_valid: crate::model::id::Lsn(0),
        previous_check: 0,
        created: 0,
    };
    std::fs::write(machine.path("b/log-009/seg-000004"), header.encode(&identity, 4)).unwrap();
    assert_eq!(machine.refusal(), want);
    std::fs::remove_dir_all(machine.path("b/log-009")).unwrap();
    std::fs::rename(machine.path("b/log-002"), machine.path("b/log-012")).unwrap();
    assert_eq!(machine.refusal(), "b/log-012 has log 2 in it: give it the name that it had");
}

#[test]
fn refuses_one_directory_under_two_names() {
    let mut machine = Machine::filled();
    std::os::unix::fs::symlink(machine.path("a"), machine.path("c")).unwrap();
    machine.config.store.directories.push(machine.path("c"));
    assert_eq!(machine.refusal(), "`store.directories`: a and c are one directory");
}

#[test]
fn lays_new_logs_where_the_fewest_are() {
    let mut machine = Machine::new();
    let lay = |machine: &Machine| {
        let mut found = Placement::find(&machine.config).unwrap();
        found.check_empty().unwrap();
        found.lay(0..5);
        machine.parents(&found, 0..5)
    };
    assert_eq!(lay(&machine), ["a", "b", "a", "b", "a"]);
    // `data_dir` is one of them where it is named.
    let link = machine.path("link");
    std::os::unix::fs::symlink(machine.path("data"), &link).unwrap();
    machine.config.store.directories.push(link);
    assert_eq!(lay(&machine), ["a", "b", "data", "a", "b"]);
    machine.config.store.directories.clear();
    assert_eq!(lay(&machine), ["data"; 5]);

    let machine = Machine::filled();
    let mut found = machine.find().unwrap();
    assert!(found.check_empty().is_err_and(|why| why.text().contains("log-000 is there")));
    found.lay(4..8);
    assert_eq!(machine.parents(&found, 4..8), ["b", "a", "b", "a"]);
    // What an attempt before made is taken where it is.
    machine.put("a/log-004", STORE, 4);
    let mut found = machine.find().unwrap();
    found.lay(4..6);
    assert_eq!(machine.parents(&found, 4..6), ["a", "b"]);
}

#[test]
fn counts_those_that_share_a_device() {
    let machine = Machine::filled();
    let mut found = machine.find().unwrap();
    assert_eq!(found.on_device_of(LogId(1), 4), 4, "all of them lie in one file system here");
    found.lay(4..6);
    let device = found.places[2].device + 1;
    found.places[2].device = device;
    for lying in found.logs.values_mut().filter(|lying| lying.place == 2) {
        lying.device = device;
    }
    let shared: Vec<u16> = (0..6).map(|log| found.on_device_of(LogId(log), 6)).collect();
    // Logs 2 and 4 are in `b`.
    assert_eq!(shared, [4, 4, 2, 4, 2, 4]);
    let devices = found.devices(4..6);
    assert_eq!(devices, [(machine.path("a"), 1), (machine.path("b"), 1)]);
    assert_eq!(Placement::in_one(&machine.path("data")).on_device_of(LogId(3), 4), 4);
}
