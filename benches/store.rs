//! The log on the real machine: 64 waiters append messages of 10 KiB to a log in a temporary
//! directory, and each round says what a message cost in syncs and octets.
//!
//! Wall time follows the disk and who else uses it; syncs and octets per message do not.

mod cases {
    pub(crate) mod log;
    pub(crate) mod mail;
}

use cases::log;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pombal::bytes::codec::to_u64;
use pombal::env::Env as _;
use pombal::env::ring::{self, Ring};
use pombal::store::{Log, Settings};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;

const OCTETS: usize = 10 << 10;

/// What some rounds took and cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    took: Duration,
    messages: u64,
    syncs: u64,
    octets_written: u64,
}

/// `rounds` times one message of each of `waiters`.
async fn append(ring: Ring, dir: PathBuf, rounds: u64, waiters: u32) -> Cost {
    let (machine, machines) = log::counting();
    let settings = Settings { segment_octets: 64 << 20, ..Settings::default() };
    let opened = Log::open(ring.clone(), &dir, log::IDENTITY, settings, machines).await;
    let (log, _) = opened.expect("an empty directory takes a log");
    let (started, before) = (ring.now(), log.stats().syncs.get());
    let written = log.stats().octets_written.get();
    let working = Rc::new(Cell::new(waiters));
    for _ in 0..waiters {
        let (log, working) = (log.clone(), Rc::clone(&working));
        ring.spawn(async move {
            for _ in 0..rounds {
                let group = log::delivery(log.reserve_blob(), OCTETS);
                log.append(group).await.expect("the disk has room");
            }
            working.set(working.get() - 1);
        });
    }
    while working.get() > 0 {
        ring.sleep(Duration::from_micros(200)).await;
    }
    let messages = rounds * u64::from(waiters);
    assert_eq!(machine.borrow().records.get(), messages, "what was answered was applied");
    let cost = Cost {
        took: ring.now().since(started),
        messages,
        syncs: log.stats().syncs.get() - before,
        octets_written: log.stats().octets_written.get() - written,
    };
    log.close().await.expect("the log closes");
    cost
}

/// Runs [`append`] on a shard of its own, in a directory that goes with it.
fn on_shard(rounds: u64, waiters: u32) -> Cost {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let (sender, receiver) = channel();
    let path = dir.path().to_owned();
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (sender, path) = (sender.clone(), path.clone());
        async move {
            let cost = append(ring, path, rounds, waiters).await;
            sender.send(cost).expect("the benchmark waits");
        }
    });
    shards.expect("the machine has what a shard needs").wait();
    receiver.recv().expect("the shard ended well")
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for waiters in [1, 64] {
        group.throughput(Throughput::Elements(u64::from(waiters)));
        let mut last = None;
        group.bench_function(BenchmarkId::new("append 10 KiB", waiters), |bencher| {
            bencher.iter_custom(|rounds| {
                let cost = on_shard(rounds, waiters);
                last = last.max(Some((cost.messages, cost.syncs, cost.octets_written)));
                cost.took
            });
        });
        if let Some((messages, syncs, octets)) = last {
            say(messages, syncs, octets);
        }
    }
    group.finish();
}

#[expect(clippy::print_stdout, reason = "a benchmark talks to people")]
fn say(messages: u64, syncs: u64, octets: u64) {
    let payload = messages * to_u64(OCTETS);
    println!(
        "    {} syncs for 1000 messages, {}.{:02} octets copied and written for one of a message",
        syncs * 1_000 / messages,
        octets / payload,
        octets % payload * 100 / payload
    );
    assert!(octets < payload + payload / 2 || syncs == messages, "a batch wastes no half of it");
}

criterion_group!(durable, commit);
criterion_main!(durable);
