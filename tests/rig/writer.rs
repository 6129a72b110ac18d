//! The log by itself on the real machine, for the power-cut rig: writes with a journal, and checks
//! what is left against a journal.
//!
//! ```text
//! rig-writer write DIR JOURNAL [--answer-before-sync]     until it is killed or the disk is full
//! rig-writer check DIR JOURNAL                            exit 1 if an answer is not true
//!
//! I key      about to put        A key      the put was answered
//! D key      about to drop       Q key      the drop was answered
//! ```
//!
//! What a key holds is made of the key alone, so that the journal need not have it.

use pombal::bytes::codec::{Put as _, Reader, to_u64, to_usize};
use pombal::bytes::hash::Sorted;
use pombal::env::Env as _;
use pombal::env::ring::{self, Ring};
use pombal::model::id::{BlobId, LogId, Lsn};
use pombal::store::record::Record;
use pombal::store::{
    AppendError, BlobDraft, Blobs, Damaged, Group, Health, Identity, Log, Machine, Planted,
    Settings,
};
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const PUT: u8 = 16;
const DROP: u8 = 17;
const MAJORS: u32 = 16;
const WRITERS: u32 = 32;
const IDENTITY: Identity = Identity { store: 0x0F0E, log: LogId(0), first_logs: 1 };
const SUMMARY: &[u8] = b"in front of the octets";
/// Octets that a key holds at most.
const CONTENT_OCTETS_MAX: u32 = 24_000;

/// Keys, each with one blob.
#[derive(Debug, Default)]
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

impl Machine for Shelf {
    fn apply(&mut self, at: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        let blob = Reader::new(record.body).u64().map_err(|_| Damaged("short".into()))?;
        let key = record.account;
        let major = key % MAJORS;
        let known = self.at.get(&major).is_some_and(|&known| at <= known);
        if record.kind == PUT {
            blobs.retain(BlobId(blob));
            if !known && self.keys.insert(key, blob).is_some() {
                return Err(Damaged(format!("key {key} is put twice")));
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

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.keys.values().for_each(|&blob| each(BlobId(blob)));
    }

    fn taint(&mut self) {
        (0..MAJORS).for_each(|major| self.touch(major));
    }
}

/// Small segments and frequent checkpoints, so that a power cut meets their making too.
fn settings(planted: Planted) -> Settings {
    Settings {
        segment_octets: 4 << 20,
        cache_octets: 1 << 20,
        checkpoint_octets: 6 << 20,
        checkpoint_pause: Duration::from_millis(700),
        second_batch_octets: 64 << 10,
        planted,
        ..Settings::default()
    }
}

fn content(key: u32) -> Vec<u8> {
    let mut out = format!("key {key}: ").into_bytes();
    let mut state = u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let len = to_usize(state >> 32) % to_usize(u64::from(CONTENT_OCTETS_MAX));
    while out.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}

/// Lines that are with the kernel when `say` returns.
struct Journal(RefCell<File>);

impl Journal {
    fn say(&self, kind: char, key: u32) {
        let line = format!("{kind} {key}\n");
        self.0.borrow_mut().write_all(line.as_bytes()).expect("the journal's disk has room");
    }
}

struct Work {
    log: Log<Ring>,
    shelf: Rc<RefCell<Shelf>>,
    journal: Journal,
    next_key: Cell<u32>,
    writers: Cell<u32>,
}

async fn open(ring: Ring, dir: &Path, planted: Planted) -> (Log<Ring>, Rc<RefCell<Shelf>>) {
    let shelf = Rc::new(RefCell::new(Shelf::default()));
    let machine: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Shelf>>::clone(&shelf);
    let registry = vec![(PUT..=DROP, machine)];
    match Log::open(ring, dir, IDENTITY, settings(planted), registry).await {
        Ok((log, _)) => (log, shelf),
        Err(error) => end(1, &error.to_string()),
    }
}

async fn write(ring: Ring, dir: PathBuf, journal: PathBuf, planted: Planted) {
    let (log, shelf) = open(ring.clone(), &dir, planted).await;
    let file = OpenOptions::new().create(true).append(true).open(journal);
    let journal = Journal(RefCell::new(file.expect("the journal can be made")));
    let work =
        Rc::new(Work { log, shelf, journal, next_key: Cell::new(1), writers: Cell::new(WRITERS) });
    for _ in 0..WRITERS {
        let (work, ring) = (Rc::clone(&work), ring.clone());
        ring.clone().spawn(async move {
            put_and_drop(&work, &ring).await;
            work.writers.set(work.writers.get() - 1);
        });
    }
    while work.writers.get() > 0 {
        ring.sleep(Duration::from_millis(100)).await;
    }
    if let Health::ReadOnly(why) = work.log.health() {
        end(1, &why);
    }
    // Full. The images go on; there is nothing more to write.
    loop {
        ring.sleep(Duration::from_secs(1)).await;
    }
}

/// Puts keys and drops every third again, until there is no room.
async fn put_and_drop(work: &Work, ring: &Ring) {
    loop {
        ring.sleep(Duration::from_micros(ring.random() % 60_000)).await;
        let key = work.next_key.replace(work.next_key.get() + 1);
        let id = work.log.reserve_blob();
        let mut group = Group::new();
        group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
        group.blobs.push(BlobDraft { id, summary: SUMMARY.to_vec(), parts: vec![content(key)] });
        work.journal.say('I', key);
        match work.log.append(group).await {
            Ok(_) => work.journal.say('A', key),
            Err(AppendError::Full) => return,
            Err(error) => end(1, &error.to_string()),
        }
        if !key.is_multiple_of(3) {
            continue;
        }
        ring.sleep(Duration::from_micros(ring.random() % 200_000)).await;
        debug_assert!(work.shelf.borrow().keys.contains_key(&key), "what was answered is there");
        let mut group = Group::new();
        group.record(DROP, 1, key, id.0.to_le_bytes().to_vec());
        work.journal.say('D', key);
        match work.log.append(group).await {
            Ok(_) => work.journal.say('Q', key),
            Err(error) => end(1, &error.to_string()),
        }
    }
}

/// What a journal says of one key.
#[derive(Debug, Default)]
struct Said {
    answered: bool,
    dropping: bool,
    dropped: bool,
}

fn read_journal(path: &Path) -> Sorted<u32, Said> {
    let text = std::fs::read_to_string(path).expect("the journal can be read");
    let mut keys: Sorted<u32, Said> = Sorted::default();
    for line in text.lines() {
        let (kind, key) = line.split_once(' ').expect("a line has a kind and a key");
        let said = keys.entry(key.parse().expect("a key is a number")).or_default();
        match kind {
            "A" => said.answered = true,
            "D" => said.dropping = true,
            "Q" => said.dropped = true,
            _ => {}
        }
    }
    keys
}

async fn check(ring: Ring, dir: PathBuf, journal: PathBuf) {
    let said = read_journal(&journal);
    let (log, shelf) = open(ring, &dir, Planted::Nothing).await;
    let keys = shelf.borrow().keys.clone();
    let mut wrong = Vec::new();
    for (key, said) in &said {
        let there = keys.contains_key(key);
        if said.answered && !there && !said.dropping {
            wrong.push(format!("key {key} is lost"));
        }
        if said.dropped && there {
            wrong.push(format!("key {key} is back"));
        }
    }
    for (&key, &blob) in &keys {
        if !said.contains_key(&key) {
            wrong.push(format!("key {key} was never asked for"));
        }
        match log.read(BlobId(blob)).await {
            Ok(view) if view.octets() == content(key) && view.summary() == SUMMARY => {}
            Ok(_) => wrong.push(format!("key {key} holds something else")),
            Err(error) => wrong.push(format!("key {key} cannot be read: {error:?}")),
        }
    }
    wrong.extend(log.verify(|_| ()).await.faults);
    if let Err(error) = log.close().await {
        wrong.push(format!("the log cannot be closed: {error}"));
    }
    match wrong.first() {
        None => end(0, &format!("{} keys whole", to_u64(keys.len()))),
        Some(first) => end(1, &format!("{} wrong, the first: {first}", wrong.len())),
    }
}

#[expect(clippy::print_stdout, reason = "the rig reads the last line")]
fn end(status: i32, words: &str) -> ! {
    println!("{words}");
    std::process::exit(status)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (writes, planted, dir, journal) = match words[..] {
        ["write", dir, journal] => (true, Planted::Nothing, dir, journal),
        ["write", dir, journal, "--answer-before-sync"] => {
            (true, Planted::AnswerBeforeSync, dir, journal)
        }
        ["check", dir, journal] => (false, Planted::Nothing, dir, journal),
        _ => end(2, "rig-writer write|check DIR JOURNAL [--answer-before-sync]"),
    };
    let (dir, journal) = (PathBuf::from(dir), PathBuf::from(journal));
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (dir, journal) = (dir.clone(), journal.clone());
        async move {
            if writes {
                write(ring, dir, journal, planted).await;
            } else {
                check(ring, dir, journal).await;
            }
        }
    });
    match shards {
        Ok(shards) => shards.wait(),
        Err(refusal) => end(2, &refusal.to_string()),
    }
    ExitCode::SUCCESS
}
