//! A full disk: mail is refused, records alone are taken for as long as anybody likes.

use super::*;

type Opened = (Sim, Log<SimEnv>, Rc<RefCell<Shelf>>);

fn start() -> Opened {
    start_with(settings(Planted::Nothing))
}

fn start_with(settings: Settings) -> Opened {
    let sim = Sim::with_disk(5, Faults::none(), Disk::new());
    sim.allow_leaks();
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    let (log, shelf) = opened.expect("a new log opens");
    sim.run_for(Duration::from_millis(100)).ok();
    (sim, log, shelf)
}

pub(super) async fn bring(log: &Log<SimEnv>, octets: usize) -> Result<(u32, u64), AppendError> {
    let id = log.reserve_blob();
    let key = u32::try_from(id.0).expect("few");
    let mut group = Group::new();
    group.record(PUT, 1, key, id.0.to_le_bytes().to_vec());
    group.blobs.push(BlobDraft { id, summary: vec![7; 20], parts: vec![vec![1; octets]] });
    log.append(group).await.map(|_| (key, id.0))
}

pub(super) async fn take_off(
    log: &Log<SimEnv>,
    (key, blob): (u32, u64),
) -> Result<Lsn, AppendError> {
    let mut group = Group::new();
    group.record(DROP, 1, key, blob.to_le_bytes().to_vec());
    log.append(group).await
}

/// Fills the disk with messages, until the cleaner finds no more room either; what was taken.
fn fill(sim: &Sim, log: &Log<SimEnv>) -> Vec<(u32, u64)> {
    sim.set_faults(Faults { disk_octets: 0, ..Faults::none() });
    let mut all = Vec::new();
    for _ in 0..100 {
        let filling = async {
            let mut there = Vec::new();
            for _ in 0..1_000 {
                match bring(log, 9_000).await {
                    Ok(one) => there.push(one),
                    Err(error) => return (there, error),
                }
            }
            panic!("the disk is never full");
        };
        let (there, error) = sim.run_until(filling).expect("filling ends");
        assert_eq!(error, AppendError::Full);
        all.extend(there);
        sim.run_for(Duration::from_secs(2)).ok();
        if !log.has_room(9_000) {
            assert!(log.figures().crowded);
            return all;
        }
    }
    panic!("there is always more room");
}

#[test]
fn takes_mail_again_once_a_full_disk_has_room() {
    let (sim, log, _) = start();
    fill(&sim, &log);
    sim.set_faults(Faults::none());
    sim.run_for(Duration::from_secs(3)).ok();
    assert!(!log.figures().crowded && log.has_room(9_000));
    assert!(sim.run_until(bring(&log, 9_000)).expect("it ends").is_ok());
}

/// A segment holds 31 batches of one block: these go around the reserve some thirty times.
#[test]
fn records_never_run_out_of_room() {
    let (sim, log, _) = start();
    let there = fill(&sim, &log);
    let kept = there[0];
    let turning = async {
        for turn in 0..500 {
            // Both ways, so that nothing is left to remove in the end, nor is there ever less.
            let mut group = Group::new();
            group.record(PUT, 1, 1_000_000 + turn, kept.1.to_le_bytes().to_vec());
            log.append(group).await?;
            take_off(&log, (1_000_000 + turn, kept.1)).await?;
        }
        Ok::<(), AppendError>(())
    };
    assert_eq!(sim.run_until(turning).expect("it ends"), Ok(()));
    assert!(log.figures().crowded && !log.has_room(9_000), "mail is refused all the while");
}

/// Without any new room from the disk: what is removed is room for what comes.
#[test]
fn all_can_be_removed_and_then_mail_is_taken_again() {
    let (sim, log, shelf) = start();
    for round in 0..5 {
        let there = fill(&sim, &log);
        assert!(there.len() > 2, "round {round}: {} messages", there.len());
        for one in there {
            let taken = sim.run_until(take_off(&log, one)).expect("it ends");
            assert!(taken.is_ok(), "round {round}: {taken:?}");
        }
        sim.run_for(Duration::from_secs(5)).ok();
        assert!(shelf.borrow().keys.is_empty());
        assert!(log.has_room(9_000), "round {round}: {:?}", log.figures());
    }
}

/// It does not wait for the next checkpoint, nor is the operator left to believe that it is full.
#[test]
fn what_is_removed_is_room_soon() {
    let never = Duration::from_hours(24);
    let seldom = Settings {
        checkpoint_pause: never,
        checkpoint_octets: u64::MAX,
        ..settings(Planted::Nothing)
    };
    let (sim, log, _) = start_with(seldom);
    for round in 0..5 {
        let there = fill(&sim, &log);
        // Looked at while it is full, as it is every second.
        sim.run_for(Duration::from_secs(2)).ok();
        assert!(log.figures().crowded, "round {round}");
        for one in there {
            assert!(sim.run_until(take_off(&log, one)).expect("it ends").is_ok(), "round {round}");
        }
        sim.run_for(Duration::from_secs(3)).ok();
        let figures = log.figures();
        assert!(log.has_room(9_000) && !figures.crowded, "round {round}: {figures:?}");
    }
}

/// Many wait when the disk turns out to be full: those with blobs do not get into the reserve.
#[test]
fn a_crowd_does_not_use_up_the_reserve() {
    let (sim, log, _) = start();
    sim.set_faults(Faults { disk_octets: 0, ..Faults::none() });
    let crowd: Vec<_> = (0..400).map(|_| bring(&log, 9_000)).collect();
    let crowd = async {
        let mut there = Vec::new();
        let mut crowd: Vec<_> = crowd.into_iter().map(Box::pin).collect();
        for one in &mut crowd {
            // Queued at once, all of them.
            drop(futures_lite::future::poll_once(one.as_mut()).await);
        }
        for one in crowd {
            there.extend(one.await.ok());
        }
        there
    };
    let there = sim.run_until(crowd).expect("it ends");
    assert!(!there.is_empty() && there.len() < 100, "{} were taken", there.len());
    let removing = async {
        for &one in &there {
            take_off(&log, one).await?;
        }
        Ok::<(), AppendError>(())
    };
    assert_eq!(sim.run_until(removing).expect("it ends"), Ok(()));
}
