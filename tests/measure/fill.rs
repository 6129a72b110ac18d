//! The log by itself on the real machine, filled and kept full: what cleaning writes, and what it does
//! to commits.
//!
//! ```text
//! store-fill DIR FULL [SEGMENTS] [TURNS]      FULL: percent of the log that is alive in the end
//! ```
//!
//! Half of what is put dies soon, at 2 % of the time that the log takes to turn over, exponentially;
//! of the other half something goes at random for each that comes once so much is alive. First it
//! fills, then it turns over TURNS times. One line of JSON a phase.

use pombal::bytes::codec::{Put as _, Reader, to_u64, to_usize};
use pombal::bytes::hash::Sorted;
use pombal::env::Env as _;
use pombal::env::ring::{self, Ring};
use pombal::model::id::{BlobId, LogId, Lsn};
use pombal::store::record::Record;
use pombal::store::{
    AppendError, BlobDraft, Blobs, Damaged, Group, Identity, Log, Machine, Settings,
};
use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const PUT: u8 = 16;
const DROP: u8 = 17;
const MAJORS: u32 = 64;
const WRITERS: u32 = 32;
const SEGMENT_OCTETS: u64 = 2 << 20;
const MESSAGE_OCTETS: usize = 10 << 10;
const IDENTITY: Identity = Identity { store: 0x0F11, log: LogId(0), first_logs: 1 };

/// Keys, each with one blob.
#[derive(Debug, Default)]
struct Shelf {
    keys: Sorted<u32, u64>,
    dirty: Vec<u32>,
}

impl Machine for Shelf {
    fn apply(&mut self, _: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        let blob = Reader::new(record.body).u64().map_err(|_| Damaged("short".into()))?;
        let key = record.account;
        if record.kind == PUT {
            blobs.retain(BlobId(blob));
            self.keys.insert(key, blob);
        } else {
            blobs.release(BlobId(blob));
            self.keys.remove(&key);
        }
        if !self.dirty.contains(&(key % MAJORS)) {
            self.dirty.push(key % MAJORS);
        }
        Ok(())
    }

    fn dirty(&self) -> Vec<u32> {
        self.dirty.clone()
    }

    fn save(&mut self, major: u32, _: Lsn, page: &mut dyn FnMut(u64, Option<Vec<u8>>)) {
        self.dirty.retain(|&dirty| dirty != major);
        let mut out = Vec::new();
        for (&key, &blob) in self.keys.iter().filter(|(key, _)| *key % MAJORS == major) {
            out.put_u32(key);
            out.put_u64(blob);
        }
        page(0, Some(out));
    }

    fn load(&mut self, _: u32, _: u64, _: Lsn, _: &[u8]) -> Result<(), Damaged> {
        Err(Damaged("it is filled from nothing".into()))
    }

    fn shelves(&self) -> Vec<u32> {
        (0..MAJORS).collect()
    }

    fn shelve(&self, major: u32, _: usize, each: &mut dyn FnMut(BlobId)) -> Option<usize> {
        let keys = self.keys.iter().filter(|(key, _)| *key % MAJORS == major);
        keys.for_each(|(_, &blob)| each(BlobId(blob)));
        None
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.keys.values().for_each(|&blob| each(BlobId(blob)));
    }

    fn taint(&mut self) {
        self.dirty = (0..MAJORS).collect();
    }
}

/// What lives, and for how long.
struct Load {
    log: Log<Ring>,
    /// Keys of the half that stays.
    long: RefCell<Vec<(u32, u64)>>,
    long_max: usize,
    /// Keys of the other half by the put at which they go, the first one last.
    short: RefCell<BinaryHeap<std::cmp::Reverse<(u64, u32, u64)>>>,
    short_mean: f64,
    puts: Cell<u64>,
    until: Cell<u64>,
    refused: Cell<u64>,
    micros: RefCell<Vec<u64>>,
    state: Cell<u64>,
}

impl Load {
    /// Evenly from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a chance needs no more than 53 bits")]
    fn chance(&self) -> f64 {
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }

    async fn write(&self) {
        while self.puts.get() < self.until.get() {
            self.puts.set(self.puts.get() + 1);
            self.put().await;
            while let Some(one) = self.due() {
                self.drop_one(one).await;
            }
        }
    }

    async fn put(&self) {
        let id = self.log.reserve_blob();
        let key = u32::try_from(id.0).expect("few");
        loop {
            let mut group = Group::new();
            group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
            let parts = vec![vec![7; MESSAGE_OCTETS]];
            group.blobs.push(BlobDraft { id, summary: vec![1; 200], parts });
            let begun = self.log.env().now();
            match self.log.append(group).await {
                Ok(_) => {
                    let took = self.log.env().now().since(begun).as_micros();
                    self.micros.borrow_mut().push(u64::try_from(took).unwrap_or(u64::MAX));
                    break;
                }
                Err(AppendError::Full) => {
                    self.refused.set(self.refused.get() + 1);
                    self.log.env().sleep(Duration::from_millis(20)).await;
                }
                Err(error) => unreachable!("{error}"),
            }
        }
        if self.chance() < 0.5 {
            let life = -self.short_mean * (1.0 - self.chance()).ln();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let due = self.puts.get() + life as u64;
            self.short.borrow_mut().push(std::cmp::Reverse((due, key, id.0)));
        } else {
            self.long.borrow_mut().push((key, id.0));
        }
    }

    /// What is to go now.
    fn due(&self) -> Option<(u32, u64)> {
        let mut short = self.short.borrow_mut();
        if short.peek().is_some_and(|first| first.0.0 <= self.puts.get()) {
            return short.pop().map(|first| (first.0.1, first.0.2));
        }
        let mut long = self.long.borrow_mut();
        if long.len() <= self.long_max {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let at = (self.chance() * long.len() as f64) as usize;
        Some(long.swap_remove(at))
    }

    async fn drop_one(&self, (key, blob): (u32, u64)) {
        let mut group = Group::new();
        group.record(DROP, 1, key, blob.to_le_bytes().to_vec());
        self.log.append(group).await.expect("removals are always taken");
    }

    /// Octets written to the streams, and segments cleaned.
    fn counts(&self) -> [u64; 4] {
        let stats = self.log.stats();
        let cold = stats.cold_octets.get();
        [stats.octets_written.get(), cold, stats.checkpoint_octets.get(), stats.victims.get()]
    }

    /// Puts so many, and tells how it went.
    async fn phase(self: &Rc<Load>, name: &str, puts: u64) -> serde_json::Value {
        let before = self.counts();
        let came = self.puts.get();
        self.until.set(came + puts);
        self.micros.borrow_mut().clear();
        self.refused.set(0);
        let begun = self.log.env().now();
        let writing = (0..WRITERS).map(|_| {
            let load = Rc::clone(self);
            async move { load.write().await }
        });
        pombal::env::together::together(writing).await;
        let took = self.log.env().now().since(begun);
        let [hot, cold, index, cleaned] = self.counts();
        let mut micros = std::mem::take(&mut *self.micros.borrow_mut());
        micros.sort_unstable();
        let rank = |per_mille: usize| micros.get(micros.len() * per_mille / 1_000).copied();
        let mail = (self.puts.get() - came) * to_u64(MESSAGE_OCTETS + 200);
        let figures = self.log.figures();
        let size = figures.segments() * SEGMENT_OCTETS;
        let live = figures.hot_live_octets + figures.cold_live_octets;
        let ratio = |octets: u64| octets * 1_000 / mail.max(1);
        serde_json::json!({
            "phase": name, "seconds": took.as_secs_f64(), "messages": micros.len(),
            "live_permille": live * 1_000 / size.max(1),
            "hot_permille": ratio(hot - before[0]), "cold_permille": ratio(cold - before[1]),
            "index_permille": ratio(index - before[2]), "cleaned_segments": cleaned - before[3],
            "p50_us": rank(500), "p99_us": rank(990), "p999_us": rank(999),
            "refused": self.refused.get(),
        })
    }
}

async fn run(ring: Ring, dir: PathBuf, full: u64, segments: u64, turns: u64) {
    let settings = Settings {
        segment_octets: SEGMENT_OCTETS,
        segments_max: to_usize(segments),
        cache_octets: 1 << 20,
        checkpoint_octets: 16 << 20,
        ..Settings::default()
    };
    let shelf: Rc<RefCell<dyn Machine>> = Rc::new(RefCell::new(Shelf::default()));
    let opened = Log::open(ring, &dir, IDENTITY, settings, vec![(16..=47, shelf)]).await;
    let (log, _) = opened.expect("the log opens");
    let octets = segments * SEGMENT_OCTETS;
    let fits = octets / to_u64(MESSAGE_OCTETS + 300);
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let short_mean = fits as f64 / 50.0;
    // As many of the short ones are alive as come in half of their mean.
    let long_max = to_usize((fits * full / 100).saturating_sub(fits / 100));
    let load = Rc::new(Load {
        log: log.clone(),
        long: RefCell::default(),
        long_max,
        short: RefCell::default(),
        short_mean,
        puts: Cell::new(0),
        until: Cell::new(0),
        refused: Cell::new(0),
        micros: RefCell::default(),
        state: Cell::new(0x9E37_79B9_7F4A_7C15),
    });
    // Half of what is put stays: so much until nothing was cleaned yet, and until it is full.
    let quiet = load.phase("fill, half", fits / 2).await;
    say(&quiet);
    while load.long.borrow().len() < long_max {
        say(&load.phase("fill", fits / 4).await);
    }
    for _ in 0..turns {
        say(&load.phase("turn", fits).await);
    }
    let findings = log.verify(|_| ()).await;
    assert_eq!(findings.faults, Vec::<String>::new(), "all is well in the end");
    log.close().await.expect("it closes");
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn say(line: &serde_json::Value) {
    println!("{line}");
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: u64| words.get(at).map_or(Some(default), |word| word.parse().ok());
    let (Some(dir), Some(full), Some(segments), Some(turns)) =
        (words.first(), number(1, 80), number(2, 256), number(3, 2))
    else {
        return ExitCode::from(2);
    };
    let dir = Path::new(dir).join("log");
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let dir = dir.clone();
        async move { Box::pin(run(ring, dir, full, segments, turns)).await }
    });
    match shards {
        Ok(shards) => {
            shards.wait();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}
