//! Tasks, time, and the ways in which a run ends.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn leaps_over_the_time_in_which_nothing_happens() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let woke: Rc<RefCell<Vec<u64>>> = Rc::default();
    for hours in [3, 1, 2] {
        let (env, woke) = (sim.env(hours), Rc::clone(&woke));
        sim.env(hours).spawn(async move {
            env.sleep(Duration::from_hours(u64::from(hours))).await;
            woke.borrow_mut().push(u64::from(hours));
        });
    }
    let wall = env.wall();
    sim.run_until(env.sleep(Duration::from_hours(4))).unwrap();
    assert_eq!(*woke.borrow(), [1, 2, 3]);
    assert!(env.wall().seconds() - wall.seconds() >= 4 * 3_600);
    assert!(sim.polls() < 20);
}

#[test]
fn tells_who_waits_for_what_never_comes() {
    let sim = Sim::new(2, Faults::none());
    sim.env(5).spawn(std::future::pending());
    let halt = sim.run_until(std::future::pending::<()>()).unwrap_err();
    let Halt::Stuck(report) = halt else { panic!("{halt}") };
    assert!(report.contains("1x shard 5 src/env/sim/tests/tasks.rs:"), "{report}");
    sim.run_for(Duration::from_secs(1)).expect("having nothing to do is not being stuck");
    assert!(sim.now() >= Mono(Duration::from_secs(1)));
}

#[test]
fn stops_what_runs_in_circles() {
    let sim = Sim::new(3, Faults::none());
    sim.set_polls_max(1_000);
    let env = sim.env(0);
    let halt = sim.run_until(async {
        loop {
            env.breath().await;
        }
    });
    assert!(matches!(halt, Err::<(), Halt>(Halt::Exhausted(_))));
}

#[test]
fn ends_the_run_with_the_seed_when_a_task_panics() {
    let run = |allowed: &'static str| {
        let sim = Sim::new(77, Faults::none());
        sim.allow_panics(allowed);
        sim.env(4).spawn(async { panic!("of this") });
        let result = catch_unwind(AssertUnwindSafe(|| {
            sim.run_for(Duration::from_millis(1)).unwrap();
        }));
        (result.map_err(|payload| executor::message_of(payload.as_ref())), sim.panics())
    };
    let (ended, _) = run("of something else");
    let message = ended.unwrap_err();
    assert!(message.contains("seed 77") && message.contains("shard 4"), "{message}");
    assert_eq!(run("of this"), (Ok(()), 1));
}

#[test]
fn kills_the_tasks_of_one_shard_and_lets_it_start_again() {
    let sim = Sim::new(4, Faults::none());
    let count = Rc::new(Cell::new(0));
    let tick = |shard: u16| {
        let (env, count) = (sim.env(shard), Rc::clone(&count));
        sim.env(shard).spawn(async move {
            loop {
                env.sleep(Duration::from_millis(1)).await;
                count.set(count.get() + 1);
            }
        });
    };
    tick(0);
    tick(1);
    sim.run_for(Duration::from_millis(50)).unwrap();
    let both = count.replace(0);
    sim.kill(1);
    sim.run_for(Duration::from_millis(50)).unwrap();
    let one = count.replace(0);
    assert!(one * 3 < both * 2 && one * 3 > both, "{one} of {both}");
    tick(1);
    sim.run_for(Duration::from_millis(50)).unwrap();
    assert!(count.get() > one);
}

/// Spawns another task of its shard when it is dropped.
struct Parting(SimEnv);

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.spawn(std::future::pending());
    }
}

#[test]
fn lets_go_of_everything_when_it_ends() {
    let sim = Sim::new(5, Faults::none());
    let world = Rc::downgrade(sim.env(0).world());
    let parting = Parting(sim.env(0));
    sim.env(0).spawn(async move {
        let _parting = parting;
        std::future::pending::<()>().await;
    });
    sim.run_for(Duration::from_millis(1)).unwrap();
    let next = sim.crash();
    assert!(world.upgrade().is_none());
    assert_eq!((next.seed(), next.life()), (5, 2));
}

#[test]
fn picks_among_ready_tasks_in_every_order() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed, Faults::none());
        let order: Rc<RefCell<Vec<u16>>> = Rc::default();
        for shard in 0..3 {
            let order = Rc::clone(&order);
            sim.env(shard).spawn(async move { order.borrow_mut().push(shard) });
        }
        sim.run_for(Duration::from_millis(1)).unwrap();
        orders.insert(order.take());
    }
    assert_eq!(orders.len(), 6);
}
