//! The log on a simulated machine: crashes, torn writes, failing disks, against a model.

use super::record::Record;
use super::recovery::OpenError;
use super::{
    AppendError, BlobDraft, Blobs, Damaged, Group, Identity, Log, Machine, Planted, Settings,
};
use crate::bytes::codec::{Put, Reader};
use crate::bytes::hash::Sorted;
use crate::env::Env;
use crate::env::sim::{Chance, Disk, Faults, Halt, Sim, SimEnv};
use crate::model::id::{BlobId, LogId, Lsn};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

mod backup;
mod clean;
mod damage;
mod full;
mod octets;
mod pack;

const PUT: u8 = 16;
const DROP: u8 = 17;
/// Keys share a page by their lower bits.
const MAJORS: u32 = 4;

/// A machine that holds keys, each with one blob.
#[derive(Debug, Default, Clone)]
struct Shelf {
    keys: Sorted<u32, u64>,
    dirty: Vec<u32>,
    at: Sorted<u32, Lsn>,
}

impl Shelf {
    fn touch(&mut self, major: u32) {
        if !self.dirty.contains(&major) {
            self.dirty.push(major);
        }
    }
}

/// Blobs that a shelf names in one step.
const SHELF_STEP: usize = 3;

impl Machine for Shelf {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        let blob = Reader::new(record.body).u64().map_err(|_| Damaged("short".into()))?;
        let key = record.account;
        let major = key % MAJORS;
        let known = self.at.get(&major).is_some_and(|&known| at <= known);
        if record.kind == PUT {
            blobs.retain(BlobId(blob));
            if !known {
                self.keys.insert(key, blob);
            }
        } else {
            blobs.release(BlobId(blob));
            if !known && self.keys.remove(&key) != Some(blob) {
                return Err(Damaged(format!("key {key} does not hold blob {blob}")));
            }
        }
        if !known {
            self.touch(major);
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.clone()
    }

    fn save(&mut self, major: u32, at: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty.retain(|&dirty| dirty != major);
        self.at.insert(major, at);
        let mut out = Vec::new();
        for (&key, &blob) in self.keys.iter().filter(|(key, _)| *key % MAJORS == major) {
            out.put_u32(key);
            out.put_u64(blob);
        }
        page(0, Some(out));
    }

    fn load(&mut self, major: u32, _: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.at.insert(major, at);
        let mut reader = Reader::new(octets);
        while !reader.rest().is_empty() {
            let key = reader.u32().map_err(|_| Damaged("short".into()))?;
            let blob = reader.u64().map_err(|_| Damaged("short".into()))?;
            self.keys.insert(key, blob);
        }
        Ok(())
    }

    fn shelves(&self) -> Vec<u32> {
        (0..MAJORS).collect()
    }

    fn shelve(&self, major: u32, from: usize, each: &mut dyn FnMut(BlobId)) -> Option<usize> {
        let keys = self.keys.iter().filter(|(key, _)| *key % MAJORS == major);
        let mut keys = keys.skip(from);
        keys.by_ref().take(SHELF_STEP).for_each(|(_, &blob)| each(BlobId(blob)));
        keys.next().map(|_| from + SHELF_STEP)
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.keys.values().for_each(|&blob| each(BlobId(blob)));
    }

    fn taint(&mut self) {
        (0..MAJORS).for_each(|major| self.touch(major));
    }
}

/// What was promised and what may be: survives all lives.
#[derive(Debug, Default)]
struct Model {
    /// Keys that were answered, with their content.
    there: Sorted<u32, Vec<u8>>,
    /// Puts and drops without an answer: either way is right.
    unknown: Sorted<u32, Vec<u8>>,
    dropping: Vec<u32>,
    next_key: u32,
}

fn settings(planted: Planted) -> Settings {
    Settings {
        segment_octets: 128 << 10,
        cache_octets: 16 << 10,
        checkpoint_octets: 96 << 10,
        checkpoint_pause: Duration::from_secs(2),
        second_batch_octets: 4 << 10,
        planted,
        ..Settings::default()
    }
}

const IDENTITY: Identity = Identity { store: 42, log: LogId(0), first_logs: 1 };

async fn open(
    env: SimEnv,
    planted: Planted,
) -> Result<(Log<SimEnv>, Rc<RefCell<Shelf>>), OpenError> {
    open_with(env, settings(planted)).await
}

async fn open_with(
    env: SimEnv,
    settings: Settings,
) -> Result<(Log<SimEnv>, Rc<RefCell<Shelf>>), OpenError> {
    let shelf = Rc::new(RefCell::new(Shelf::default()));
    let machine: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Shelf>>::clone(&shelf);
    let registry = vec![(16..=47, machine)];
    let opened = Log::open(env, Path::new("/log"), IDENTITY, settings, registry).await;
    opened.map(|(log, _)| (log, shelf))
}

fn content(key: u32, octets: usize) -> Vec<u8> {
    let mut out = format!("key {key}: ").into_bytes();
    out.resize(octets.max(out.len()), u8::try_from(key % 251).expect("below 251"));
    out
}

/// Some are longer than what one small read gets.
fn summary(key: u32) -> Vec<u8> {
    key.to_le_bytes().repeat(usize::try_from(key % 17).expect("small") * 40)
}

/// One writer: puts, drops and reads at random until the life ends.
async fn work(
    log: Log<SimEnv>,
    shelf: Rc<RefCell<Shelf>>,
    model: Rc<RefCell<Model>>,
    chance: Chance,
) {
    for _ in 0..40 {
        match chance.below(4) {
            0 | 1 => put(&log, &model, &chance).await,
            2 => drop_one(&log, &shelf, &model, &chance).await,
            _ => read_one(&log, &shelf, &model, &chance).await,
        }
        let pause = Duration::from_micros(chance.below(2_000));
        log.env().sleep(pause).await;
    }
}

async fn put(log: &Log<SimEnv>, model: &RefCell<Model>, chance: &Chance) {
    let key = {
        let mut model = model.borrow_mut();
        model.next_key += 1;
        model.next_key
    };
    let octets = usize::try_from(chance.below(9_000)).expect("small");
    let content = content(key, octets);
    let id = log.reserve_blob();
    let mut group = Group::new();
    group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
    let cut = content.len() / 2;
    let parts = vec![content[..cut].to_vec(), content[cut..].to_vec()];
    group.blobs.push(BlobDraft { id, summary: summary(key), parts });
    model.borrow_mut().unknown.insert(key, content.clone());
    match log.append(group).await {
        Ok(_) => {
            let mut model = model.borrow_mut();
            model.unknown.remove(&key);
            model.there.insert(key, content);
        }
        Err(AppendError::Uncertain(_)) => {}
        // The answer is "no", and it has to stay "no".
        Err(_) => {
            model.borrow_mut().unknown.remove(&key);
        }
    }
}

async fn drop_one(
    log: &Log<SimEnv>,
    shelf: &RefCell<Shelf>,
    model: &RefCell<Model>,
    chance: &Chance,
) {
    let Some((key, blob)) = pick(shelf, model, chance) else { return };
    model.borrow_mut().dropping.push(key);
    let mut group = Group::new();
    group.record(DROP, 1, key, blob.to_le_bytes().to_vec());
    match log.append(group).await {
        Ok(_) => {
            model.borrow_mut().there.remove(&key);
        }
        Err(AppendError::Uncertain(_)) => return,
        Err(_) => {}
    }
    model.borrow_mut().dropping.retain(|&dropping| dropping != key);
}

fn pick(shelf: &RefCell<Shelf>, model: &RefCell<Model>, chance: &Chance) -> Option<(u32, u64)> {
    let shelf = shelf.borrow();
    let model = model.borrow();
    let keys: Vec<(u32, u64)> = shelf
        .keys
        .iter()
        .map(|(&key, &blob)| (key, blob))
        .filter(|(key, _)| model.there.contains_key(key) && !model.dropping.contains(key))
        .collect();
    let count = u64::try_from(keys.len()).expect("few");
    keys.get(usize::try_from(chance.below(count.max(1))).expect("few")).copied()
}

async fn read_one(
    log: &Log<SimEnv>,
    shelf: &RefCell<Shelf>,
    model: &RefCell<Model>,
    chance: &Chance,
) {
    let Some((key, blob)) = pick(shelf, model, chance) else { return };
    let want = model.borrow().there.get(&key).cloned();
    if let Ok(view) = log.read(BlobId(blob)).await {
        assert_eq!(Some(view.octets().to_vec()), want, "key {key}");
        assert_eq!(view.summary(), summary(key));
    }
}

/// After recovery: everything answered is there and whole, nothing refused is.
async fn check(log: &Log<SimEnv>, shelf: &RefCell<Shelf>, model: &RefCell<Model>) {
    let keys = shelf.borrow().keys.clone();
    {
        let mut model = model.borrow_mut();
        let Model { there, unknown, dropping, .. } = &mut *model;
        for (key, content) in std::mem::take(unknown) {
            if keys.contains_key(&key) {
                there.insert(key, content);
            }
        }
        for key in std::mem::take(dropping) {
            if !keys.contains_key(&key) {
                there.remove(&key);
            }
        }
        let want: Vec<&u32> = there.keys().collect();
        assert_eq!(keys.keys().collect::<Vec<_>>(), want, "what is there is what was promised");
    }
    let blobs: Vec<BlobId> = keys.values().map(|&blob| BlobId(blob)).collect();
    for (key, found) in keys.keys().zip(log.summaries(&blobs).await) {
        assert!(found.is_none_or(|found| *found == summary(*key)), "key {key}");
    }
    for (key, blob) in keys {
        let found = log.summary(BlobId(blob)).await.expect("an answered blob has its summary");
        assert_eq!(*found, summary(key), "key {key}");
        let view = log.read(BlobId(blob)).await.expect("an answered blob can be read");
        let want = model.borrow().there.get(&key).cloned();
        assert_eq!(Some(view.octets().to_vec()), want, "key {key}");
    }
    let findings = log.verify(|_| ()).await;
    assert_eq!(findings.faults, Vec::<String>::new());
}

/// One life: open, check, work, end by closing or by a crash. Returns the disk for the next.
fn live(
    seed: u64,
    faults: Faults,
    disk: Disk,
    model: &Rc<RefCell<Model>>,
    planted: Planted,
) -> Disk {
    let sim = Sim::with_disk(seed, Faults::none(), disk);
    sim.allow_leaks();
    let env = sim.env(0);
    let chance = sim.chance();
    let opened = sim.run_until(open(env.clone(), planted)).expect("opening ends");
    let (log, shelf) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    sim.run_until(check(&log, &shelf, model)).expect("checking ends");
    sim.set_faults(faults);
    for writer in 0..4 {
        let model = Rc::clone(model);
        env.spawn(work(log.clone(), Rc::clone(&shelf), model, Chance::new(seed * 100 + writer)));
    }
    let life = Duration::from_micros(chance.below(60_000));
    match sim.run_for(life) {
        Ok(()) | Err(Halt::Stuck(_)) => {}
        Err(other) => panic!("seed {seed}: {other}"),
    }
    if chance.below(4) == 0 {
        sim.set_faults(Faults::none());
        // Closing may fail where the log failed before; what counts is what the next life finds.
        drop(sim.run_until(log.close()).expect("closing ends"));
    }
    sim.crash().disk()
}

fn lives(seed: u64, faults: Faults, planted: Planted) {
    let model = Rc::new(RefCell::new(Model::default()));
    let mut disk = Disk::new();
    for life in 0..3 {
        disk = live(seed * 10 + life, faults, disk, &model, planted);
    }
    live(seed * 10 + 9, Faults::none(), disk, &model, planted);
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    if let Ok(seed) = std::env::var("SEED") {
        let seed = seed.parse().expect("SEED is a number");
        return seed..seed + 1;
    }
    let count = std::env::var("SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(default)
}

#[test]
fn keeps_every_answer_through_crashes() {
    for seed in seeds(150) {
        lives(seed, Faults::none(), Planted::Nothing);
    }
}

#[test]
fn keeps_every_answer_on_a_failing_disk() {
    for seed in seeds(150) {
        lives(seed, Faults::bad_disk(), Planted::Nothing);
    }
}

#[test]
fn is_caught_when_it_answers_before_the_sync() {
    let caught = (0..50).any(|seed| {
        let run = || lives(seed, Faults::none(), Planted::AnswerBeforeSync);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    });
    assert!(caught, "fifty seeds find a planted fault");
}

#[test]
fn holds_batches_and_the_queue_to_their_bounds() {
    let sim = Sim::with_disk(6, Faults::none(), Disk::new());
    sim.allow_leaks();
    let bounds = Settings { batch_octets: 10_000, waiting_max: 7, ..settings(Planted::Nothing) };
    let opened = sim.run_until(open_with(sim.env(0), bounds)).expect("opening ends");
    let (log, _) = opened.expect("a new log opens");
    let before = log.applied().0;
    // All are queued before the log's task runs.
    let queued: Vec<_> = (1..=8_u64)
        .map(|key| {
            let id = log.reserve_blob();
            let mut group = Group::new();
            let key = u32::try_from(key).expect("few");
            group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
            group.blobs.push(BlobDraft { id, summary: Vec::new(), parts: vec![vec![1; 4_000]] });
            log.append(group)
        })
        .collect();
    let outcomes = sim.run_until(async {
        let mut outcomes = Vec::new();
        for one in queued {
            outcomes.push(one.await.map(|_| ()));
        }
        outcomes
    });
    let outcomes = outcomes.expect("it ends");
    assert!(outcomes[..7].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(outcomes[7], Err(AppendError::Full));
    assert_eq!(log.applied().0 - before, 4, "two groups of 4,000 octets fit one batch");
}

#[test]
fn reads_the_summaries_of_neighbours_at_once() {
    let sim = Sim::with_disk(7, Faults::none(), Disk::new());
    sim.allow_leaks();
    let opened = sim.run_until(open(sim.env(0), Planted::Nothing)).expect("opening ends");
    let (log, _) = opened.expect("a new log opens");
    let blobs = sim.run_until(async {
        let mut blobs = Vec::new();
        for key in 1..=100 {
            let id = log.reserve_blob();
            let mut group = Group::new();
            group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
            let parts = vec![content(key, 3_000)];
            group.blobs.push(BlobDraft { id, summary: summary(key), parts });
            log.append(group).await.expect("there is room");
            blobs.push(id);
        }
        blobs
    });
    let blobs = blobs.expect("it ends");
    drop(sim.run_until(log.close()).expect("closing ends"));
    let opened = sim.run_until(open(sim.env(0), Planted::Nothing)).expect("opening ends");
    let (log, _) = opened.expect("it opens again");
    let before = log.stats().reads.get();
    let found = sim.run_until(log.summaries(&blobs)).expect("it ends");
    let reads = log.stats().reads.get() - before;
    let had = found.iter().flatten().count();
    assert!(had > 80, "{had} of 100: a few are too long for a first look");
    for (key, one) in (1..).zip(&found) {
        assert!(one.as_ref().is_none_or(|one| **one == summary(key)), "key {key}");
    }
    assert!(reads < 10, "{reads} reads for 100 summaries that lie side by side");
    let again = sim.run_until(log.summaries(&blobs[90..])).expect("it ends");
    assert_eq!(again[..], found[90..], "what was read is in memory");
}
