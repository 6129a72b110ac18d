//! Backups taken beside appends and checkpoints, and the log that comes back out of them.

use super::*;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::File as _;
use crate::store::backup::{Ask, Base, Broken, Cut, Reply, Used, Walked, walk};
use crate::store::format::Stream;
use crate::store::restore::{Part, Plan, Source, moved, plan, superblock};
use crate::store::segments::slot_name;
use std::io;
use std::path::PathBuf;

/// A backup in memory.
struct Copy {
    base: Base,
    cut: Cut,
    /// With what was read of each.
    segments: Vec<(Used, Walked, Vec<u8>)>,
}

async fn ask(log: &Log<SimEnv>, ask: Ask) -> Result<Reply, String> {
    log.backup(ask).await
}

fn path_of(slot: u32) -> PathBuf {
    Path::new("/log").join(slot_name(slot))
}

/// Reads a segment behind what is known of it, as a command does beside the server.
fn read(disk: &Disk, base: &Base, used: &Used, known: Walked) -> Result<(Walked, Vec<u8>), Broken> {
    let file = disk.read(&path_of(used.slot)).expect("it is there");
    let mut octets = Vec::new();
    let mut read = |at: u64, len: usize| {
        let octets = file.get(to_usize(at)..).and_then(|rest| rest.get(..len));
        octets.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    let walked = walk(base, used, known, &mut read, &mut |batch| {
        octets.extend_from_slice(batch);
        Ok(())
    })?;
    Ok((walked, octets))
}

impl Copy {
    /// Goes on behind `earlier` where that has a segment already. Also how many octets are new.
    async fn take(log: &Log<SimEnv>, disk: &Disk, earlier: Option<&Copy>) -> (Copy, u64) {
        let token = log.env().random();
        let Ok(Reply::Base(base)) = ask(log, Ask::Begin { token }).await else { panic!("a base") };
        // Others go on.
        log.env().sleep(Duration::from_millis(3)).await;
        let Ok(Reply::Cut(cut)) = ask(log, Ask::Cut { token }).await else { panic!("a cut") };
        log.env().sleep(Duration::from_millis(40)).await;
        let mut segments = Vec::new();
        let mut new = 0;
        for used in base.index.iter().chain(&cut.segments) {
            let known = earlier.and_then(|copy| {
                copy.segments.iter().find(|(one, ..)| one.segment == used.segment)
            });
            let (before, mut octets) =
                known.map_or((Walked::default(), Vec::new()), |one| (one.1, one.2.clone()));
            let (walked, more) =
                read(disk, &base, used, before).unwrap_or_else(|broken| panic!("{broken}"));
            new += to_u64(more.len());
            octets.extend_from_slice(&more);
            assert_eq!(to_u64(octets.len()), walked.end);
            segments.push((*used, walked, octets));
            ask(log, Ask::Hold { token }).await.expect("it is held");
        }
        ask(log, Ask::End { token }).await.expect("it was held up to here");
        (Copy { base, cut, segments }, new)
    }

    fn of(&self, segment: u64) -> Option<&(Used, Walked, Vec<u8>)> {
        self.segments.iter().find(|(used, ..)| used.segment == segment)
    }

    fn plan(&self, next: Option<&Copy>, time: u64) -> Result<Plan, Broken> {
        let part = |(used, walked, _): &(Used, Walked, Vec<u8>), source| Part {
            slot: used.slot,
            segment: used.segment,
            stream: used.stream,
            end: walked.end,
            source,
        };
        let mut parts: Vec<Part> = Vec::new();
        for one in &self.segments {
            let grown = next.and_then(|next| next.of(one.0.segment));
            match grown.filter(|grown| grown.0.stream != Stream::Index) {
                Some(grown) => parts.push(part(grown, Source::Grown)),
                None => parts.push(part(one, Source::This)),
            }
        }
        for one in next.map_or(&[][..], |next| &next.segments) {
            if one.0.stream != Stream::Index && self.of(one.0.segment).is_none() {
                parts.push(part(one, Source::Next));
            }
        }
        let upto = next.unwrap_or(self).cut.end.lsn;
        plan(&self.base, &parts, time, upto, &mut |part, at, len| {
            let copy = if part.source == Source::This { self } else { next.expect("it has it") };
            let octets = copy.of(part.segment).expect("it has it").2.get(to_usize(at)..);
            let octets = octets.and_then(|rest| rest.get(..len));
            octets.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    /// A disk with the log as it was at `time`.
    fn restore(&self, next: Option<&Copy>, time: u64) -> Disk {
        let plan = self.plan(next, time).unwrap_or_else(|broken| panic!("{broken}"));
        assert!(plan.is_whole, "nothing was freed between the two");
        let mut files = Vec::new();
        for placed in &plan.placed {
            let copy =
                if placed.part.source == Source::This { self } else { next.expect("it has it") };
            let octets = &copy.of(placed.part.segment).expect("it has it").2;
            let mut octets = octets[..to_usize(placed.octets)].to_vec();
            if placed.slot != placed.part.slot {
                let block = moved(&self.base, &octets[..4096], placed.part.slot, placed.slot);
                octets[..4096].copy_from_slice(&block.expect("a header"));
            }
            octets.resize(to_usize(self.base.segment_octets), 0);
            files.push((path_of(placed.slot), octets));
        }
        let epoch = next.map_or(self.base.epoch, |next| next.base.epoch);
        let octets = superblock(&self.base, epoch, plan.end).expect("a store with a number");
        files.push((Path::new("/log/superblock").into(), octets));
        write(files)
    }
}

fn write(files: Vec<(PathBuf, Vec<u8>)>) -> Disk {
    let sim = Sim::with_disk(1, Faults::none(), Disk::new());
    let env = sim.env(0);
    let writing = async {
        env.make_dir(Path::new("/log")).await.expect("it can be made");
        for (path, octets) in files {
            let file = env.create(&path, to_u64(octets.len())).await.expect("it can be made");
            let mut block = file.alloc(octets.len());
            block.as_mut().copy_from_slice(&octets);
            file.write_at(block, 0).await.expect("it can be written");
            file.sync().await.expect("it can be synced");
            file.close().await.expect("it can be closed");
        }
    };
    sim.run_until(writing).expect("writing ends");
    sim.crash().disk()
}

/// The keys that a log holds which was brought back; all of it is checked.
fn open_restored(disk: Disk) -> Result<Sorted<u32, u64>, OpenError> {
    let settings = Settings { may_create: false, ..settings(Planted::Nothing) };
    let sim = Sim::with_disk(9, Faults::none(), disk);
    sim.allow_leaks();
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    let (log, shelf) = opened?;
    let keys = shelf.borrow().keys.clone();
    let reading = async {
        for (&key, &blob) in &keys {
            let view = log.read(BlobId(blob)).await.expect("a blob of the backup can be read");
            assert_eq!(view.summary(), summary(key));
            assert_eq!(view.octets(), content(key, view.octets().len()));
        }
        let findings = log.verify(|_| ()).await;
        assert_eq!(findings.faults, Vec::<String>::new());
        // And it takes more.
        let model = RefCell::new(Model { next_key: 1_000_000, ..Model::default() });
        for _ in 0..30 {
            put(&log, &model, &Chance::new(3)).await;
        }
        assert_eq!(model.borrow().there.len(), 30);
    };
    sim.run_until(reading).expect("reading ends");
    sim.run_until(log.close()).expect("closing ends").expect("it closes");
    Ok(keys)
}

/// What was there when: the state behind every batch, by the moment it was begun at the latest.
type History = Rc<RefCell<Vec<(u64, Sorted<u32, u64>)>>>;

/// Notes the state again and again.
async fn note(env: SimEnv, shelf: Rc<RefCell<Shelf>>, history: History) {
    loop {
        history.borrow_mut().push((env.wall().0, shelf.borrow().keys.clone()));
        env.sleep(Duration::from_micros(100)).await;
    }
}

/// Whether what came back is what was there at `time`. A batch that was begun before `time` may be
/// applied a little later, so that the state lies between two that were noted: of each key it is
/// that it was there before or behind, and no key is there that was in neither.
fn assert_as_noted(history: &History, time: u64, found: &Sorted<u32, u64>, seed: u64) {
    let history = history.borrow();
    let before = history.iter().rev().find(|(at, _)| *at <= time).expect("noted before");
    let slack = 20_000;
    let behind = history.iter().find(|(at, _)| *at > time + slack).expect("noted behind");
    for (key, blob) in found {
        let known = before.1.get(key).or_else(|| behind.1.get(key));
        let was_there = known == Some(blob)
            || history.iter().any(|(at, keys)| *at <= time + slack && keys.get(key) == Some(blob));
        assert!(was_there, "seed {seed}: key {key} was never there");
    }
    for (key, blob) in &before.1 {
        if behind.1.contains_key(key) {
            assert_eq!(found.get(key), Some(blob), "seed {seed}: key {key} was there all the time");
        }
    }
}

/// Two backups beside four writers. What comes back of each, and of moments between them; how many of
/// these could be brought back.
fn round(seed: u64) -> u32 {
    let sim = Sim::with_disk(seed, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let opened = sim.run_until(open(env.clone(), Planted::Nothing)).expect("opening ends");
    let (log, shelf) = opened.expect("a new log opens");
    let model = Rc::new(RefCell::new(Model::default()));
    for writer in 0..4 {
        let chance = Chance::new(seed * 100 + writer);
        env.spawn(work(log.clone(), Rc::clone(&shelf), Rc::clone(&model), chance));
    }
    // In two of three what is alive moves all the time.
    if !seed.is_multiple_of(3) {
        let log = log.clone();
        env.spawn(async move {
            while log.compact(None).await.is_ok() {
                log.env().sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let history: History = Rc::default();
    env.spawn(note(env.clone(), Rc::clone(&shelf), Rc::clone(&history)));
    let disk = sim.disk();
    let (first, second) = sim
        .run_until(async {
            env.sleep(Duration::from_millis(15)).await;
            let (first, _) = Copy::take(&log, &disk, None).await;
            env.sleep(Duration::from_millis(15)).await;
            let (second, _) = Copy::take(&log, &disk, Some(&first)).await;
            env.sleep(Duration::from_millis(100)).await;
            (first, second)
        })
        .expect("it ends");
    for copy in [&first, &second] {
        let keys = open_restored(copy.restore(None, copy.cut.time))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_as_noted(&history, copy.cut.time, &keys, seed);
    }
    let (from, to) = (first.cut.time, second.cut.time);
    let mut compared = 0;
    for part in 1..4 {
        let time = from + (to - from) * part / 4;
        let plan = match first.plan(Some(&second), time) {
            Ok(plan) => plan,
            // So is where what was moved between the two cannot lie where the log says.
            Err(Broken::Damaged(why)) if why.contains("was used again") => continue,
            Err(broken) => panic!("seed {seed}: {broken}"),
        };
        if !plan.is_whole {
            // What was freed between the two is missing, and that is said.
            assert!(plan.last_time < time, "seed {seed}");
            continue;
        }
        let keys = match open_restored(first.restore(Some(&second), time)) {
            Ok(keys) => keys,
            // It was moved, and died there, before the next backup.
            Err(OpenError::Damaged(why))
                if !seed.is_multiple_of(3) && why.contains("lies in slot") =>
            {
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        assert_as_noted(&history, time, &keys, seed);
        compared += 1;
    }
    compared
}

#[test]
fn a_backup_beside_writers_brings_back_what_was_there_at_its_moment() {
    let mut compared = [0, 0];
    for seed in seeds(30) {
        compared[usize::from(seed.is_multiple_of(3))] += round(seed);
    }
    let is_one = std::env::var("SEED").is_ok();
    assert!(is_one || compared.iter().all(|&count| count > 5), "{compared:?} moments");
}

/// One writer that waits: here the state at a moment is known to the last key.
#[test]
fn any_moment_between_two_backups_comes_back_exactly() {
    let sim = Sim::with_disk(11, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let opened = sim.run_until(open(env.clone(), Planted::Nothing)).expect("opening ends");
    let (log, shelf) = opened.expect("a new log opens");
    let model = RefCell::new(Model::default());
    let disk = sim.disk();
    let chance = Chance::new(5);
    let taken = sim.run_until(async {
        let mut states = Vec::new();
        let mut copies: Vec<Copy> = Vec::new();
        for round in 0..3 {
            for _ in 0..20 {
                put(&log, &model, &chance).await;
                if chance.below(3) == 0 {
                    drop_one(&log, &shelf, &model, &chance).await;
                }
                env.sleep(Duration::from_micros(50)).await;
                states.push((env.wall().0, shelf.borrow().keys.clone(), round));
                env.sleep(Duration::from_micros(50)).await;
            }
            let (copy, new) = Copy::take(&log, &disk, copies.last()).await;
            let all: u64 = copy.segments.iter().map(|(_, walked, _)| walked.end).sum();
            assert!(round == 0 || new < all * 3 / 4, "{new} of {all} octets are new");
            copies.push(copy);
            // Nothing happened: nothing but the checkpoint is new.
            let (again, new) = Copy::take(&log, &disk, copies.last()).await;
            assert!(new < 40_000, "{new} octets although nothing happened");
            assert_eq!(again.cut.end, copies.last().expect("just taken").cut.end);
        }
        (states, copies)
    });
    let (states, copies) = taken.expect("it ends");
    let mut compared = 0;
    for (time, keys, round) in &states {
        let round: usize = *round;
        let Some(before) = round.checked_sub(1) else { continue };
        let (first, second) = (&copies[before], &copies[round]);
        let plan = first.plan(Some(second), *time).unwrap_or_else(|broken| panic!("{broken}"));
        if plan.is_whole {
            let found = open_restored(first.restore(Some(second), *time));
            assert_eq!(&found.unwrap_or_else(|error| panic!("{error}")), keys);
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} of 40 moments");
    // A backup is told from the next one that does not go on where it ends.
    let mut other = copies[2].segments.clone();
    other.retain(|(used, ..)| {
        used.stream != Stream::Hot || used.segment > copies[1].cut.end.segment + 1
    });
    let gap = Copy { base: copies[2].base.clone(), cut: copies[2].cut.clone(), segments: other };
    let plan = copies[1].plan(Some(&gap), copies[2].cut.time);
    assert!(plan.is_ok_and(|plan| !plan.is_whole), "segments are missing between the two");
}

#[test]
fn a_turned_bit_is_never_taken_into_a_backup() {
    let sim = Sim::with_disk(12, Faults::none(), Disk::new());
    sim.allow_leaks();
    let opened = sim.run_until(open(sim.env(0), Planted::Nothing)).expect("opening ends");
    let (log, _) = opened.expect("a new log opens");
    let model = RefCell::new(Model::default());
    let chance = Chance::new(6);
    let disk = sim.disk();
    let copy = sim.run_until(async {
        for _ in 0..30 {
            put(&log, &model, &chance).await;
        }
        Copy::take(&log, &disk, None).await.0
    });
    let copy = copy.expect("it ends");
    for (used, walked, _) in &copy.segments {
        for _ in 0..40 {
            let at = chance.below(walked.end);
            let bit = u8::try_from(chance.below(8)).expect("below 8");
            let turned = disk.fork();
            assert!(turned.flip(&path_of(used.slot), at, bit));
            let taken = read(&turned, &copy.base, used, Walked::default());
            assert!(taken.is_err(), "segment {}, octet {at}, bit {bit}", used.segment);
        }
    }
}

#[test]
fn a_pin_keeps_segments_until_it_ends_or_nobody_holds_it() {
    let sim = Sim::with_disk(13, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let opened = sim.run_until(open(env.clone(), Planted::Nothing)).expect("opening ends");
    let (log, shelf) = opened.expect("a new log opens");
    let model = RefCell::new(Model::default());
    let chance = Chance::new(7);
    let ended = sim.run_until(async {
        let churn = async || {
            for _ in 0..60 {
                put(&log, &model, &chance).await;
                drop_one(&log, &shelf, &model, &chance).await;
            }
            log.checkpoint().await.expect("it can be written");
            log.figures().hot_segments
        };
        let few = churn().await;
        ask(&log, Ask::Begin { token: 1 }).await.expect("nobody else makes one");
        let more = churn().await;
        assert!(more > few, "{more} segments, {few} before");
        let other = ask(&log, Ask::Begin { token: 2 }).await.expect_err("one at a time");
        assert!(other.contains("another backup"), "{other}");
        ask(&log, Ask::End { token: 1 }).await.expect("it is held");
        ask(&log, Ask::End { token: 1 }).await.expect_err("it has ended");
        assert!(churn().await < more, "what died was given back");
        ask(&log, Ask::Begin { token: 3 }).await.expect("the other one has ended");
        let held = churn().await;
        env.sleep(crate::model::limits::BACKUP_PIN_LEASE).await;
        assert!(churn().await < held, "nobody was heard of");
        ask(&log, Ask::Cut { token: 3 }).await.expect_err("it is too late");
        ask(&log, Ask::Begin { token: 4 }).await.expect("another one may begin");
    });
    ended.expect("it ends");
}
