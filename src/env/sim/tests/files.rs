//! The disk: what a crash may take, what faults do, and what they leave alone.

use super::*;
use futures_lite::future;
use std::io::ErrorKind;

/// Runs a future that ends and does not fail.
#[track_caller]
fn run<T>(sim: &Sim, future: impl Future<Output = io::Result<T>>) -> T {
    sim.run_until(future).expect("it does not wait for ever").expect("it does not fail")
}

async fn write(file: &file::SimFile, octet: u8, at: u64, blocks: usize) -> io::Result<()> {
    let mut block = file.alloc(blocks * BLOCK_OCTETS);
    block.as_mut().fill(octet);
    file.write_at(block, at).await
}

/// The distinct octets of a file, in order of value.
fn kinds(disk: &Disk, path: &str) -> Vec<u8> {
    let mut octets = disk.read(Path::new(path)).expect("the file is there");
    octets.sort_unstable();
    octets.dedup();
    octets
}

/// A file with 1 synced and then 2 written over it without a sync.
fn half_synced(seed: u64) -> Sim {
    let sim = Sim::new(seed, Faults::none());
    let env = sim.env(0);
    run(&sim, async {
        let file = env.create(Path::new("/f"), 4 * BLOCK).await?;
        write(&file, 1, 0, 4).await?;
        file.sync().await?;
        write(&file, 2, 0, 4).await?;
        file.close().await
    });
    sim
}

#[test]
fn shows_readers_what_is_written_and_forgets_it_unless_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let sim = half_synced(seed);
        assert_eq!(kinds(&sim.disk(), "/f"), [2]);
        seen.insert(kinds(&sim.crash().disk(), "/f"));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [vec![1], vec![1, 2], vec![2]]);
    assert_eq!(kinds(&half_synced(1).end(Loss::Nothing), "/f"), [2]);
    assert_eq!(kinds(&half_synced(1).end(Loss::Everything), "/f"), [1]);
}

#[test]
fn tears_at_sectors_and_nowhere_else() {
    for seed in 0..50 {
        let octets = half_synced(seed).end(Loss::Chance).read(Path::new("/f")).unwrap();
        let whole = |sector: &[u8]| sector.iter().all(|&octet| octet == sector[0]);
        assert!(octets.chunks(SECTOR_OCTETS).all(whole), "seed {seed}");
    }
}

#[test]
fn covers_by_a_sync_only_what_had_returned_before_it() {
    let mut lost = 0;
    for seed in 0..100 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        run(&sim, async {
            let file = env.create(Path::new("/f"), BLOCK).await?;
            let (written, synced) = future::zip(write(&file, 1, 0, 1), file.sync()).await;
            written.and(synced)?;
            file.close().await
        });
        lost += usize::from(kinds(&sim.end(Loss::Everything), "/f") == [0]);
    }
    assert_eq!(lost, 100);
}

#[test]
fn leaves_a_file_half_made_when_the_power_goes_under_its_creation() {
    let mut lens = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        sim.cut_power_at(3 + seed % 2);
        let halt = sim.run_until(env.create(Path::new("/f"), 4 * BLOCK)).map(drop);
        assert_eq!(halt, Err(Halt::PowerCut));
        lens.insert(sim.crash().disk().files().first().map(|(_, len)| len / BLOCK));
    }
    assert_eq!(lens.len(), 6, "absent, and 0 to 4 blocks: {lens:?}");
}

#[test]
fn lands_a_write_that_nobody_waits_for_any_more() {
    let mut kinds_seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        run(&sim, async {
            let file = env.create(Path::new("/f"), 4 * BLOCK).await?;
            let soon = async {
                env.sleep(Duration::from_micros(1)).await;
                Ok(())
            };
            future::or(write(&file, 1, 0, 4), soon).await?;
            env.sleep(Duration::from_secs(1)).await;
            file.sync().await?;
            file.close().await
        });
        kinds_seen.insert(kinds(&sim.end(Loss::Everything), "/f"));
    }
    assert_eq!(kinds_seen.into_iter().collect::<Vec<_>>(), [vec![0], vec![0, 1], vec![1]]);
}

#[test]
fn lets_a_sync_after_a_failed_one_succeed_although_octets_are_lost() {
    let mut ends = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        sim.disk().script(Script { op: Op::Sync, path: "/f".into(), skip: 1, times: 1 });
        let seen = run(&sim, async {
            let file = env.create(Path::new("/f"), BLOCK).await?;
            file.sync().await?;
            write(&file, 1, 0, 1).await?;
            assert!(file.sync().await.is_err());
            file.sync().await?;
            let view = file.read_at(0, BLOCK_OCTETS).await?;
            file.close().await?;
            Ok(view[0])
        });
        ends.insert((seen, kinds(&sim.end(Loss::Everything), "/f")[0]));
    }
    // Kept; lost but seen; gone.
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [(0, 0), (1, 0), (1, 1)]);
}

#[test]
fn never_covers_a_later_write_by_one_that_was_lost_before() {
    for seed in 0..200 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        sim.disk().script(Script { op: Op::Sync, path: String::new(), skip: 0, times: 1 });
        run(&sim, async {
            let file = env.create(Path::new("/f"), 2 * BLOCK).await?;
            write(&file, 1, 0, 1).await?;
            write(&file, 1, BLOCK, 1).await?;
            assert!(file.sync().await.is_err());
            write(&file, 2, 0, 2).await?;
            file.sync().await?;
            assert!(file.read_at(0, 2 * BLOCK_OCTETS).await?.iter().all(|&octet| octet == 2));
            file.close().await
        });
        assert_eq!(kinds(&sim.end(Loss::Everything), "/f"), [2], "seed {seed}");
    }
}

#[test]
fn leaves_anything_in_the_range_of_a_failed_write_and_nothing_outside() {
    let mut whole = 0;
    for seed in 0..100 {
        let sim = Sim::new(seed, Faults::none());
        let env = sim.env(0);
        sim.disk().script(Script { op: Op::Write, path: "/f".into(), skip: 0, times: 1 });
        run(&sim, async {
            let file = env.create(Path::new("/f"), 3 * BLOCK).await?;
            assert!(write(&file, 1, BLOCK, 1).await.is_err());
            file.close().await
        });
        let octets = sim.end(Loss::Nothing).read(Path::new("/f")).unwrap();
        let (front, rest) = octets.split_at(BLOCK_OCTETS);
        let (range, back) = rest.split_at(BLOCK_OCTETS);
        assert!(front.iter().chain(back).all(|&octet| octet == 0));
        whole += usize::from(range.iter().all(|&octet| octet == 1));
    }
    assert!((5..40).contains(&whole), "{whole} of 100 failed writes came through whole");
}

#[test]
fn refuses_what_has_no_room_and_leaves_no_file() {
    let sim = Sim::new(1, Faults { disk_octets: 10 * BLOCK, ..Faults::none() });
    let env = sim.env(0);
    let create = |name: &'static str, blocks: u64| {
        let env = &env;
        async move {
            let file = env.create(Path::new(name), blocks * BLOCK).await?;
            file.close().await
        }
    };
    run(&sim, create("/a", 8));
    let full = sim.run_until(create("/b", 3)).unwrap();
    assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(sim.disk().files().len(), 1);
    run(&sim, env.remove(Path::new("/a")));
    run(&sim, create("/b", 10));
    sim.set_faults(Faults { create_fails: faults::ALWAYS, ..Faults::none() });
    sim.run_until(create("/c", 1)).unwrap().unwrap_err();
    assert_eq!(sim.disk().files().len(), 1);
}

#[test]
fn flips_the_bit_that_it_is_told_to() {
    let sim = half_synced(1);
    let (disk, path) = (sim.disk(), Path::new("/f"));
    assert!(disk.flip(path, 5_000, 3));
    assert_eq!(kinds(&disk, "/f"), [2, 2 ^ 8]);
    let copy = disk.fork();
    assert!(disk.flip(path, 5_000, 3));
    assert_eq!(kinds(&disk, "/f"), [2]);
    assert_eq!(kinds(&copy, "/f"), [2, 2 ^ 8], "a fork is a disk of its own");
    assert!(!disk.flip(path, 4 * BLOCK, 0) && !disk.flip(Path::new("/g"), 0, 0));
}

#[test]
fn reports_a_file_that_is_dropped_without_being_closed() {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let env = sim.env(0);
    let file = run(&sim, env.create(Path::new("/f"), BLOCK));
    assert!(sim.leaks().is_empty());
    drop(file);
    assert_eq!(sim.leaks(), [Path::new("/f")]);
    // What dies with its shard is no leak.
    let held = sim.env(1);
    sim.env(1).spawn(async move {
        let _held = held.open(Path::new("/f")).await;
        std::future::pending::<()>().await;
    });
    sim.run_for(Duration::from_millis(10)).unwrap();
    sim.kill(1);
    assert_eq!(sim.leaks().len(), 1);
}

/// Two files written and synced one after the other; the power goes at every single moment.
#[test]
fn can_be_hit_at_every_moment_of_a_small_program() {
    let program = async |env: SimEnv, done: Rc<Cell<u8>>| {
        for (step, name) in (1..).zip(["/a", "/b"]) {
            let file = env.create(Path::new(name), BLOCK).await?;
            write(&file, 9, 0, 1).await?;
            file.sync().await?;
            done.set(step);
            file.close().await?;
        }
        Ok::<_, io::Error>(())
    };
    let mut event = 0;
    loop {
        event += 1;
        let sim = Sim::new(11, Faults::none());
        sim.cut_power_at(event);
        let done = Rc::new(Cell::new(0));
        let ended = sim.run_until(program(sim.env(0), Rc::clone(&done)));
        let disk = sim.crash().disk();
        for name in ["/a", "/b"].iter().take(usize::from(done.get())) {
            assert_eq!(kinds(&disk, name), [9], "power gone at event {event}");
        }
        match ended {
            Ok(result) => break result.expect("without faults nothing fails"),
            Err(halt) => assert_eq!(halt, Halt::PowerCut),
        }
    }
    assert_eq!(event, 17, "two files of four waits with two ends each");
}
