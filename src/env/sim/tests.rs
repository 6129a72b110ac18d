//! Tests of the simulation itself: that it replays, that it forgets what it may forget and
//! nothing else, and that it finds a writer who answers too early.

mod files;
mod streams;
mod tasks;

use super::*;
use crate::env::{BLOCK_OCTETS, Env, File};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

const BLOCK: u64 = BLOCK_OCTETS as u64;
const LOG_BLOCKS: u64 = 512;

/// A block that proves itself, sector by sector.
fn fill(block: &mut [u8], number: u64) {
    for (sector, place) in block.chunks_exact_mut(SECTOR_OCTETS).zip(0_u64..) {
        sector.fill(number.to_le_bytes()[0]);
        sector[..8].copy_from_slice(&(number * 8 + place).to_le_bytes());
    }
}

fn proven(block: &[u8], number: u64) -> bool {
    let mut wanted = vec![0; block.len()];
    fill(&mut wanted, number);
    block == wanted
}

/// When a writer tells its caller that a record is safe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Synced,
    /// A planted bug.
    Written,
    /// A planted bug that shows only with two writes under way: lane 1 trusts the next sync of
    /// lane 0 to end, which may have begun before its own write returned.
    SyncedByOther,
}

/// What is shared by the callers and the flusher of the smallest log with group commit.
struct Writer {
    queue: RefCell<VecDeque<u64>>,
    /// Records answered.
    safe: RefCell<Vec<u64>>,
    next: Cell<u64>,
    /// A failed sync of one lane may have lost what the other wrote, and its sync will not say so.
    failed: Cell<bool>,
    /// Syncs that returned.
    syncs: Cell<u64>,
}

/// Writes queued records one block each, two batches under way, and answers them.
async fn flush(env: SimEnv, writer: Rc<Writer>, answer: Answer, lane: u64) -> io::Result<()> {
    let file = env.open(Path::new("/log")).await?;
    let failed = &writer.failed;
    while !failed.get() {
        // Callers queue their numbers in order: those of a batch lie side by side.
        let batch: Vec<u64> = writer.queue.take().into();
        let Some(&first) = batch.first() else {
            env.sleep(Duration::from_micros(20)).await;
            continue;
        };
        let mut block = file.alloc(batch.len() * BLOCK_OCTETS);
        for (part, &number) in block.as_mut().chunks_exact_mut(BLOCK_OCTETS).zip(&batch) {
            fill(part, number);
        }
        failed.set(file.write_at(block, first * BLOCK).await.is_err() || failed.get());
        if answer == Answer::Written && !failed.get() {
            writer.safe.borrow_mut().extend(&batch);
        }
        if answer == Answer::SyncedByOther && lane == 1 {
            let seen = writer.syncs.get();
            while writer.syncs.get() == seen && !failed.get() {
                env.sleep(Duration::from_micros(5)).await;
            }
        } else {
            failed.set(file.sync().await.is_err() || failed.get());
            writer.syncs.set(writer.syncs.get() + 1);
        }
        if answer != Answer::Written && !failed.get() {
            writer.safe.borrow_mut().extend(&batch);
        }
    }
    file.close().await
}

/// Two lives of a small log; returns the records that were answered and are gone, and the trace.
fn lose(seed: u64, faults: Faults, answer: Answer) -> (Vec<u64>, u64) {
    let sim = Sim::new(seed, Faults { create_fails: 0, ..faults });
    let env = sim.env(0);
    sim.run_until(async {
        let file = env.create(Path::new("/log"), LOG_BLOCKS * BLOCK).await?;
        file.close().await
    })
    .expect("nothing waits for ever")
    .expect("creating does not fail here");
    let writer = Rc::new(Writer {
        queue: RefCell::default(),
        safe: RefCell::default(),
        next: Cell::new(0),
        failed: Cell::new(false),
        syncs: Cell::new(0),
    });
    for lane in 0..2 {
        let (env, writer) = (sim.env(0), Rc::clone(&writer));
        sim.env(0).spawn(async move {
            // A lane that failed answers nobody any more.
            flush(env, writer, answer, lane).await.unwrap_or_default();
        });
    }
    for caller in 1..4 {
        let (env, writer) = (sim.env(caller), Rc::clone(&writer));
        sim.env(caller).spawn(async move {
            while writer.next.get() < LOG_BLOCKS {
                let number = writer.next.replace(writer.next.get() + 1);
                writer.queue.borrow_mut().push_back(number);
                env.sleep(Duration::from_micros(env.random() % 300)).await;
            }
        });
    }
    let life = Duration::from_micros(sim.chance().between(500, 20_000));
    sim.run_for(life).expect("nothing halts it");
    let next = sim.crash();
    let octets = next.disk().read(Path::new("/log")).expect("the log is there");
    let missing = |number: &u64| {
        let at = usize::try_from(number * BLOCK).unwrap();
        !proven(&octets[at..at + BLOCK_OCTETS], *number)
    };
    (writer.safe.take().into_iter().filter(missing).collect(), next.trace_hash())
}

#[test]
fn keeps_what_was_answered_over_a_thousand_crashes() {
    for seed in 0..1_000 {
        let faults = if seed % 2 == 0 { Faults::none() } else { Faults::bad_disk() };
        let (lost, _) = lose(seed, faults, Answer::Synced);
        assert!(lost.is_empty(), "seed {seed} lost {lost:?}");
    }
}

/// In how many of a hundred lives a writer loses what it promised.
fn caught(answer: Answer) -> usize {
    (0..100).filter(|&seed| !lose(seed, Faults::none(), answer).0.is_empty()).count()
}

#[test]
fn catches_a_writer_that_answers_before_the_sync() {
    assert!(caught(Answer::Written) > 5);
}

#[test]
fn catches_a_writer_that_trusts_a_sync_that_began_too_early() {
    assert!(caught(Answer::SyncedByOther) > 5);
}

#[test]
fn replays_a_seed_and_tells_seeds_apart() {
    let trace = |seed| lose(seed, Faults::hostile(), Answer::Synced).1;
    let first: Vec<u64> = (0..50).map(trace).collect();
    let again: Vec<u64> = (0..50).map(trace).collect();
    assert_eq!(first, again);
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), first.len());
}
