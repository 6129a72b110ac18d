//! Cleaning: what is alive moves, whatever fails and whenever the power goes.

use super::full::{bring, take_off};
use super::*;
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::together::together;
use crate::model::limits::CLEAN_SEGMENTS_MAX;
use crate::store::{Cleaned, Compression};
use std::cell::Cell;
use std::collections::BTreeSet;

fn small(planted: Planted) -> Settings {
    Settings { segment_octets: 64 << 10, checkpoint_octets: 24 << 10, ..settings(planted) }
}

/// Cleans over and over until nothing is worth it; all of it together.
pub(super) async fn compact(log: &Log<SimEnv>) -> Result<Cleaned, AppendError> {
    let mut all = Cleaned::default();
    let mut before = None;
    loop {
        let (number, cleaned) = log.compact(before).await?;
        before = Some(number);
        let Some(one) = cleaned else { return Ok(all) };
        all.segments += one.segments;
        all.blobs += one.blobs;
        all.octets += one.octets;
        all.damaged += one.damaged;
    }
}

pub(super) type Begun = (Sim, Log<SimEnv>, Rc<RefCell<Shelf>>, Rc<RefCell<Model>>);

/// A log of which every second key was dropped.
pub(super) fn half_dead(seed: u64, settings: Settings, keys: u32) -> Begun {
    let sim = Sim::with_disk(seed, Faults::none(), Disk::new());
    sim.allow_leaks();
    let model = Rc::new(RefCell::new(Model::default()));
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    let (log, shelf) = opened.expect("a new log opens");
    let chance = sim.chance();
    let working = async {
        for _ in 0..keys {
            put(&log, &model, &chance).await;
        }
        let all: Vec<(u32, u64)> =
            shelf.borrow().keys.iter().map(|(&key, &blob)| (key, blob)).collect();
        for (key, blob) in all.into_iter().step_by(2) {
            let mut group = Group::new();
            group.record(DROP, 1, key, blob.to_le_bytes().to_vec());
            log.append(group).await.expect("there is room");
            model.borrow_mut().there.remove(&key);
        }
    };
    sim.run_until(working).expect("working ends");
    (sim, log, shelf, model)
}

pub(super) fn unasked() -> Settings {
    let mut settings = small(Planted::Nothing);
    settings.cleaning.is_on = false;
    settings
}

#[test]
fn moves_what_lives_and_frees_the_rest() {
    let (sim, log, shelf, model) = half_dead(1, unasked(), 200);
    let before = log.figures();
    let cleaned = sim.run_until(compact(&log)).expect("it ends").expect("nothing fails");
    let after = log.figures();
    assert!(cleaned.blobs > 80 && cleaned.damaged == 0, "{cleaned:?}");
    let used = |figures: &crate::store::Figures| figures.hot_segments + figures.cold_segments;
    assert!(used(&after) < used(&before) * 7 / 10, "{before:?} {after:?}");
    assert_eq!(log.stats().victims.get(), cleaned.segments);
    assert_eq!(log.stats().moved_octets.get(), cleaned.octets);
    assert!(log.stats().reclaimed_octets.get() > 0);
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
    // Once more, out of what a start finds.
    drop(sim.run_until(log.close()).expect("closing ends"));
    let (log, shelf) =
        sim.run_until(open_with(sim.env(0), unasked())).expect("opening ends").expect("it opens");
    assert_eq!(log.figures().cold_segments, after.cold_segments);
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

/// The pages of the last checkpoint, and records behind it, name places at which other mail lies by then.
#[test]
fn what_was_cleaned_is_used_again_before_a_checkpoint() {
    let settings = Settings {
        checkpoint_octets: u64::MAX,
        checkpoint_pause: Duration::from_hours(1_000),
        ..unasked()
    };
    let (sim, log, _, model) = half_dead(7, settings.clone(), 400);
    sim.run_until(log.checkpoint()).expect("it ends").expect("nothing fails");
    let checkpoints = log.stats().checkpoints.get();
    let slots: BTreeSet<u32> = log.shared.hot.borrow().iter().map(|one| one.slot).collect();
    let mut units = 0;
    while sim
        .run_until(log.compact(Some(u64::MAX)))
        .expect("it ends")
        .is_ok_and(|it| it.1.is_some())
    {
        units += 1;
    }
    let newest = log.shared.next_segment.get();
    let chance = sim.chance();
    let again = || {
        let (hot, cold) = (log.shared.hot.borrow(), log.shared.cold.borrow());
        let hot = hot.iter().map(|one| (one.slot, one.segment));
        let all: Vec<(u32, u64)> =
            hot.chain(cold.iter().map(|(slot, one)| (slot, one.segment))).collect();
        all.into_iter().filter(|(slot, segment)| *segment >= newest && slots.contains(slot)).count()
    };
    sim.run_until(async {
        for _ in 0..400 {
            put(&log, &model, &chance).await;
        }
    })
    .expect("working ends");
    assert!(units > 1 && again() > 2, "{units} {}", again());
    assert_eq!(log.stats().checkpoints.get(), checkpoints, "a start begins with the same pages");
    let sim = sim.crash();
    sim.allow_leaks();
    let (log, shelf) =
        sim.run_until(open_with(sim.env(0), settings)).expect("opening ends").expect("it opens");
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
    let findings = sim.run_until(log.verify(|_| ())).expect("it ends");
    assert_eq!(findings.faults, Vec::<String>::new());
}

#[test]
fn survivors_lie_as_their_owners_read_them() {
    let (sim, log, shelf, _) = half_dead(2, unasked(), 200);
    // By key modulo the number of majors, then by key: other than they came.
    sim.run_until(log.compact(None)).expect("it ends").expect("nothing fails");
    let shelf = shelf.borrow();
    let cold: Vec<u64> = (0..MAJORS)
        .flat_map(|major| shelf.keys.iter().filter(move |(key, _)| *key % MAJORS == major))
        .filter_map(|(_, &blob)| log.shared.locate(BlobId(blob)))
        .filter(|at| log.shared.cold.borrow().segment_in(at.location.slot).is_some())
        .map(|at| (at.segment << 32) + at.location.offset)
        .collect();
    assert!(cold.len() > 10 && cold.is_sorted(), "{cold:?}");
}

#[test]
fn goes_on_in_the_segment_that_the_last_life_wrote_to() {
    let (sim, log, _, model) = half_dead(3, unasked(), 100);
    sim.run_until(compact(&log)).expect("it ends").expect("nothing fails");
    let writer = log.shared.cold.borrow().writer.expect("there is one");
    let sim = sim.crash();
    sim.allow_leaks();
    let (log, shelf) =
        sim.run_until(open_with(sim.env(0), unasked())).expect("opening ends").expect("it opens");
    let again = log.shared.cold.borrow().writer.expect("there is one");
    assert_eq!((again.slot, again.segment), (writer.slot, writer.segment));
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

#[test]
fn what_cannot_be_read_stays_and_so_does_its_segment() {
    let (sim, log, shelf, _) = half_dead(4, unasked(), 100);
    let blob = shelf.borrow().keys.values().copied().next().map(BlobId).expect("one is left");
    let at = log.shared.locate(blob).expect("it is there");
    let path = format!("/log/seg-{:06}", at.location.slot);
    assert!(sim.disk().flip(Path::new(&path), at.location.offset + 70, 1));
    let cleaned = sim.run_until(compact(&log)).expect("it ends").expect("nothing fails");
    assert_eq!(cleaned.damaged, 1);
    assert_eq!(log.shared.locate(blob), Some(at), "damage gets no fresh checks");
}

#[test]
fn wins_room_back_by_itself() {
    let settings = Settings { segments_max: 26, ..small(Planted::Nothing) };
    let (sim, log, shelf, model) = half_dead(5, settings, 1);
    let chance = sim.chance();
    let mut waits = 0;
    let turning = async {
        // Ten times as much as the log may have.
        for _ in 0..1_500 {
            while !log.has_room(9_000) {
                waits += 1;
                assert!(waits < 10_000, "{:?}", log.figures());
                log.env().sleep(Duration::from_millis(5)).await;
            }
            put(&log, &model, &chance).await;
            while shelf.borrow().keys.len() > 100 {
                drop_one(&log, &shelf, &model, &chance).await;
            }
        }
    };
    sim.run_until(turning).expect("turning ends");
    // Nine of its 26 segments are alive, seven are kept, and the pages take as many: there is little to
    // win at a time, but it is won.
    assert!(waits < 1_500, "it waited {waits} times for room");
    assert!(log.stats().victims.get() > 20, "{:?}", log.stats());
    assert!(log.figures().cold_segments > 0);
    let largest = u64::try_from(CLEAN_SEGMENTS_MAX).expect("few");
    assert!(log.stats().victims.get() <= largest * log.stats().checkpoints.get());
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

/// Mail is refused, and half of it is removed here and there: no segment is dead as a whole.
#[test]
fn a_full_log_takes_mail_again_although_no_segment_is_dead() {
    let settings = Settings { segments_max: 20, ..small(Planted::Nothing) };
    let (sim, log, shelf, model) = half_dead(6, settings, 1);
    let chance = sim.chance();
    for _ in 0..3 {
        let filling = async {
            while log.has_room(9_000) {
                put(&log, &model, &chance).await;
            }
        };
        sim.run_until(filling).expect("filling ends");
        let emptying = async {
            let most = shelf.borrow().keys.len() * 6 / 10;
            while shelf.borrow().keys.len() > most {
                drop_one(&log, &shelf, &model, &chance).await;
            }
        };
        sim.run_until(emptying).expect("emptying ends");
        sim.run_for(Duration::from_secs(20)).ok();
        assert!(log.has_room(9_000), "{:?}", log.figures());
    }
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

/// Writers that never wait for each other put as fast as they can, and remove anything as soon as
/// `full` percent of the log's room is alive.
fn turn_over(seed: u64, full: u64, compression: Compression) -> (Log<SimEnv>, u64) {
    const BLOB_OCTETS: usize = 9_000;
    let mut settings = Settings {
        segment_octets: 256 << 10,
        segments_max: 48,
        checkpoint_octets: 1 << 20,
        ..settings(Planted::Nothing)
    };
    settings.cleaning.compression = compression;
    let fits = 48 * settings.segment_octets / to_u64(BLOB_OCTETS + 100);
    let (sim, log, ..) = half_dead(seed, settings, 1);
    let most = to_usize(fits * full / 100);
    let there: RefCell<Vec<(u32, u64)>> = RefCell::default();
    let (puts, waits) = (Cell::new(0), Cell::new(0));
    let write = |chance: Chance| {
        let (log, there, puts, waits) = (&log, &there, &puts, &waits);
        async move {
            while puts.get() < 4 * fits {
                puts.set(puts.get() + 1);
                let came = loop {
                    match bring(log, BLOB_OCTETS).await {
                        Ok(came) => break came,
                        Err(error) => assert_eq!(error, AppendError::Full),
                    }
                    waits.set(waits.get() + 1);
                    assert!(waits.get() < 100_000, "seed {seed}, {full} %: {:?}", log.figures());
                    log.env().sleep(Duration::from_millis(20)).await;
                };
                let gone = {
                    let mut there = there.borrow_mut();
                    there.push(came);
                    let at = to_usize(chance.below(to_u64(there.len())));
                    (there.len() > most).then(|| there.swap_remove(at))
                };
                if let Some(one) = gone {
                    take_off(log, one).await.expect("removals are always taken");
                }
            }
        }
    };
    let writing = together((0..8).map(|writer| write(Chance::new(seed * 100 + writer))));
    sim.run_until(writing).expect("turning ends");
    let findings = sim.run_until(log.verify(|_| ())).expect("it ends");
    assert_eq!(findings.faults, Vec::<String>::new());
    (log, waits.get())
}

/// Where the cleaner had a slot, and what it moved into that did not fit after all, nothing was free any
/// more, and mail was refused for ever.
#[test]
fn a_log_turns_over_while_mail_waits_for_room() {
    for seed in seeds(3) {
        for full in [40, 50, 60] {
            let (log, waits) = turn_over(seed, full, Compression::None);
            assert!(waits > 0 && log.stats().victims.get() > 100, "{waits}: {:?}", log.stats());
        }
    }
}

/// As full as before: what is packed takes no room that it did not have.
#[test]
fn a_log_that_packs_turns_over_too() {
    for seed in seeds(2) {
        for full in [50, 60] {
            let (log, _) = turn_over(seed, full, Compression::Zstd);
            let stats = log.stats();
            assert!(stats.packed_to.get() < stats.packed_from.get() / 10, "{stats:?}");
        }
    }
}

/// The power goes at each step of a cleaning, and then of the one that follows.
#[test]
fn loses_nothing_at_any_step() {
    for compression in [Compression::None, Compression::Zstd] {
        let mut settings = unasked();
        settings.cleaning.compression = compression;
        step_by_step(&settings);
    }
}

fn step_by_step(settings: &Settings) {
    let (sim, log, _, model) = half_dead(7, settings.clone(), 30);
    drop(sim.run_until(log.close()).expect("closing ends"));
    let disk = sim.crash().disk();
    let mut ended = 0;
    let mut step = 0;
    while ended < 1 {
        step += 1;
        let sim = Sim::with_disk(step, Faults::none(), disk.fork());
        sim.allow_leaks();
        let opened = sim.run_until(open_with(sim.env(0), settings.clone())).expect("opening ends");
        let (log, _) = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
        sim.cut_power_at(sim.disk_events() + step);
        let ran = sim.run_until(compact(&log));
        ended += u64::from(ran.is_ok());
        let sim = sim.crash();
        sim.allow_leaks();
        let opened = sim.run_until(open_with(sim.env(0), settings.clone())).expect("opening ends");
        let (log, shelf) = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
        sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
        sim.run_until(compact(&log)).expect("it ends").expect("nothing fails");
        sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
    }
    assert!(step > 20, "{step} steps");
}

/// As [`live`], with a log that may have few segments, and is cleaned all the time.
fn live_cleaned(
    seed: u64,
    faults: Faults,
    disk: Disk,
    model: &Rc<RefCell<Model>>,
    planted: Planted,
) -> (Disk, u64) {
    let sim = Sim::with_disk(seed, Faults::none(), disk);
    sim.allow_leaks();
    let env = sim.env(0);
    let chance = sim.chance();
    let mut settings = Settings { segments_max: 28, ..small(planted) };
    // In two of three it is packed in some lives, and in others what was packed moves.
    let packs = !(seed / 10).is_multiple_of(3) && !seed.is_multiple_of(2);
    settings.cleaning.compression = if packs { Compression::Zstd } else { Compression::None };
    // In half of them a start begins with pages that name much that was used again since.
    let is_rarely_saved = (seed / 10) % 4 >= 2;
    if is_rarely_saved {
        settings.checkpoint_octets = u64::MAX;
        settings.checkpoint_pause = Duration::from_hours(1_000);
    }
    let opened = sim.run_until(open_with(env.clone(), settings)).expect("opening ends");
    let (log, shelf) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    sim.run_until(check(&log, &shelf, model)).expect("checking ends");
    sim.set_faults(faults);
    for writer in 0..4 {
        let model = Rc::clone(model);
        env.spawn(work(log.clone(), Rc::clone(&shelf), model, Chance::new(seed * 100 + writer)));
    }
    {
        let (log, chance) = (log.clone(), Chance::new(!seed));
        env.clone().spawn(async move {
            loop {
                if is_rarely_saved {
                    drop(log.compact(Some(u64::MAX)).await);
                } else {
                    drop(compact(&log).await);
                }
                log.env().sleep(Duration::from_micros(chance.below(3_000))).await;
            }
        });
    }
    let life = Duration::from_micros(chance.below(90_000));
    match sim.run_for(life) {
        Ok(()) | Err(Halt::Stuck(_)) => {}
        Err(other) => panic!("seed {seed}: {other}"),
    }
    let moved = log.stats().moved_blobs.get();
    if chance.below(4) == 0 {
        sim.set_faults(Faults::none());
        drop(sim.run_until(log.close()).expect("closing ends"));
    }
    (sim.crash().disk(), moved)
}

/// Blobs that were moved.
fn lives_cleaned(seed: u64, faults: Faults, planted: Planted) -> u64 {
    let model = Rc::new(RefCell::new(Model::default()));
    let mut disk = Disk::new();
    let mut moved = 0;
    for life in 0..5 {
        let (left, some) = live_cleaned(seed * 10 + life, faults, disk, &model, planted);
        disk = left;
        moved += some;
    }
    live_cleaned(seed * 10 + 9, Faults::none(), disk, &model, planted);
    moved
}

#[test]
fn keeps_every_answer_while_it_is_cleaned() {
    let moved: u64 =
        seeds(40).map(|seed| lives_cleaned(seed, Faults::none(), Planted::Nothing)).sum();
    assert!(moved > 200 || std::env::var("SEED").is_ok(), "{moved} blobs were moved");
}

#[test]
fn keeps_every_answer_while_it_is_cleaned_on_a_failing_disk() {
    // The last one: a RELOCATE that failed was durable, and the segment that it names was used again.
    for seed in seeds(40).chain([3_424]) {
        lives_cleaned(seed, Faults::bad_disk(), Planted::Nothing);
    }
}

#[test]
fn is_caught_when_it_uses_a_segment_again_too_early() {
    let caught = (0..50).any(|seed| {
        let run = || lives_cleaned(seed, Faults::none(), Planted::ReuseBeforeMoved);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
    });
    assert!(caught, "fifty seeds find a planted fault");
}
