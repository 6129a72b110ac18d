//! Files that are lost, cut or turned while no process runs: refused, never taken for nothing.

use super::*;
use crate::store::format::{SegmentHeader, Superblock};
use crate::store::log::Position;
use crate::store::reached;

/// A log without a checkpoint behind what was put, left as a crash leaves it.
fn left() -> (Disk, Rc<RefCell<Model>>) {
    let sim = Sim::with_disk(5, Faults::none(), Disk::new());
    sim.allow_leaks();
    let model = Rc::new(RefCell::new(Model::default()));
    let settings = Settings {
        checkpoint_octets: u64::MAX,
        checkpoint_pause: Duration::from_hours(1),
        ..settings(Planted::Nothing)
    };
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    let (log, _) = opened.expect("a new log opens");
    let chance = sim.chance();
    let putting = async {
        for _ in 0..80 {
            put(&log, &model, &chance).await;
        }
    };
    sim.run_until(putting).expect("putting ends");
    (sim.crash().disk(), model)
}

fn reopen(disk: Disk, model: &Rc<RefCell<Model>>) -> Result<(), OpenError> {
    let settings = Settings { may_create: false, ..settings(Planted::Nothing) };
    let sim = Sim::with_disk(6, Faults::none(), disk);
    sim.allow_leaks();
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    let (log, shelf) = opened?;
    sim.run_until(check(&log, &shelf, model)).expect("checking ends");
    Ok(())
}

fn segments(disk: &Disk) -> Vec<std::path::PathBuf> {
    let names = disk.files().into_iter().map(|(path, _)| path);
    names.filter(|path| path.to_string_lossy().contains("seg-")).collect()
}

#[test]
fn a_turned_bit_in_a_segments_header_never_hides_it() {
    let (disk, model) = left();
    let paths = segments(&disk);
    assert!(paths.len() > 4, "several segments were begun");
    let mut refused = 0;
    for path in &paths {
        for at in 0..64 {
            let disk = disk.fork();
            assert!(disk.flip(path, at, 3));
            refused += u32::from(reopen(disk, &model).is_err());
        }
    }
    assert!(refused > 4 * 32, "the headers in use are checked: {refused}");
}

#[test]
fn a_segment_that_is_gone_or_cut_is_missed() {
    let (disk, model) = left();
    assert!(reopen(disk.fork(), &model).is_ok());
    for path in segments(&disk) {
        let octets = disk.read(&path).expect("it is there");
        if octets.iter().all(|&octet| octet == 0) {
            continue;
        }
        let cut = disk.fork();
        assert!(cut.cut(&path, 8192));
        let refused = reopen(cut, &model).expect_err("it is missed").to_string();
        assert!(refused.starts_with("the log is damaged: "), "{}: {refused}", path.display());
    }
    for path in segments(&disk) {
        let octets = disk.read(&path).expect("it is there");
        if octets.iter().all(|&octet| octet == 0) {
            continue;
        }
        let gone = disk.fork();
        assert!(gone.forget(&path));
        let refused = reopen(gone, &model).expect_err("it is missed").to_string();
        assert!(refused.starts_with("the log is damaged: "), "{refused}");
        assert!(refused.contains("not there") || refused.contains("there is no"), "{refused}");
    }
}

/// Nothing follows the newest segment that could vouch for its batches: the superblock does.
#[test]
fn batches_that_are_wiped_out_of_any_segment_are_missed() {
    let (disk, model) = left();
    let mut refused = 0;
    for path in segments(&disk) {
        let octets = disk.read(&path).expect("it is there");
        if octets[..4096].iter().all(|&octet| octet == 0) {
            continue;
        }
        let wiped = disk.fork();
        assert!(wiped.overwrite(&path, 4096, &vec![0; octets.len() - 4096]));
        let error = reopen(wiped, &model).expect_err("they are missed");
        assert!(matches!(error, OpenError::Damaged(_)), "{}: {error}", path.display());
        refused += 1;
    }
    assert!(refused > 4, "several segments were begun");
}

/// A crash before the first batch of a segment was durable: nobody was answered, nothing is lost.
#[test]
fn a_segment_that_was_begun_and_not_answered_in_may_be_empty() {
    let (disk, model) = left();
    let octets = disk.read(Path::new("/log/superblock")).expect("it is there");
    let noted = Superblock::choose(&octets).expect("it is whole").reached;
    let chain = |path: &std::path::PathBuf| {
        let octets = disk.read(path).expect("it is there");
        let slot = path.to_string_lossy().rsplit('-').next()?.parse().ok()?;
        SegmentHeader::decode(&octets[..4096], &IDENTITY, slot)
    };
    let newest = segments(&disk).iter().filter_map(chain).map(|header| header.segment).max();
    assert_eq!(newest, Some(noted.segment), "the newest is noted");
    assert!(reached::check(noted, Position::default()).is_err());
    let begun =
        Position { segment: noted.segment + 1, lsn: Lsn(noted.lsn.0 - 1), ..Position::default() };
    assert!(reached::check(noted, begun).is_ok(), "a later segment says what it follows");
    assert!(reopen(disk, &model).is_ok());
}

#[test]
fn a_log_without_its_superblock_is_not_a_new_one() {
    let (disk, model) = left();
    let path = Path::new("/log/superblock");
    let octets = disk.read(path).expect("it is there");
    let before = segments(&disk);
    assert_eq!(octets.len(), 16384);
    for name in ["gone", "empty", "short", "zeros"] {
        let disk = disk.fork();
        let is_done = match name {
            "gone" => disk.forget(path),
            "empty" => disk.cut(path, 0),
            "short" => disk.cut(path, 4096),
            _ => disk.overwrite(path, 0, &[0; 16384]),
        };
        assert!(is_done, "{name}");
        let refused = reopen(disk.fork(), &model).expect_err(name);
        assert!(refused.to_string().contains("superblock"), "{name}: {refused}");
        assert_eq!(segments(&disk), before, "{name}: nothing is removed");
        // Not even where one may be made.
        let sim = Sim::with_disk(6, Faults::none(), disk);
        sim.allow_leaks();
        let opened = sim.run_until(open_with(sim.env(0), settings(Planted::Nothing)));
        let refused = opened.expect("opening ends").err().expect(name).to_string();
        assert!(refused.contains("something was put into the log"), "{name}: {refused}");
        assert_eq!(segments(&sim.disk()), before, "{name}: nothing is wiped");
    }
}
