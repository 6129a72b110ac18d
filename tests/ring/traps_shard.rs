//! Traps of executors, tasks and timers.
#![expect(clippy::disallowed_methods, reason = "the control threads are no shards")]

use crate::{alone, limit, on_shard};
use futures_lite::future::{or, ready};
use pombal::env::Env as _;
use pombal::env::ring::{Pulse, Ring, Settings, preflight, start};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Kicks that a shard may sleep through in a row: 20 ms of them.
const SWALLOWED_MAX: u64 = 4;

/// Steps before a shard counts: its first sleeps wait for the kernel (registration of barriers).
const WARM_STEPS: u64 = 50;

/// Trap 1a: a shard sleeps although a task is ready.
///
/// Every shard loops on a sleep of 100 µs. Beside it, on the same CPU, a control thread looks each
/// millisecond: if the shard has made no step since the last look and is *asleep* by the kernel's
/// account (not waiting for the CPU), although the ticker kicked it, then it swallowed that kick.
/// How slow the machine is does not matter: a shard that lacks the CPU is not asleep, and when the
/// ticker lacks it there are no kicks.
#[test]
fn a_shard_never_sleeps_through_the_kicks_while_a_task_is_ready() {
    let seconds = std::env::var("POMBAL_STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(3));
    let count = u16::try_from(pombal::env::ring::cpus().unwrap().len()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (place_to, places) = channel();
    let halt = Arc::clone(&stop);
    let shards = start(count, Settings::default(), move |ring| {
        let (place_to, halt) = (place_to.clone(), Arc::clone(&halt));
        async move {
            let steps = Arc::new(AtomicU64::new(0));
            place_to.send(Watched::here(&ring, &steps)).unwrap();
            while !halt.load(Ordering::Relaxed) {
                ring.sleep(Duration::from_micros(100)).await;
                steps.fetch_add(1, Ordering::Release);
            }
        }
    });
    let shards = shards.unwrap_or_else(|refusal| panic!("{refusal}"));
    let controls: Vec<_> = (0..count)
        .map(|_| {
            let (mut watched, stop) = (places.recv().unwrap(), Arc::clone(&stop));
            std::thread::spawn(move || {
                watched.pin();
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(1));
                    watched.look();
                }
                watched
            })
        })
        .collect();
    std::thread::park_timeout(length);
    stop.store(true, Ordering::Relaxed);
    let watched: Vec<Watched> = controls.into_iter().map(|c| c.join().unwrap()).collect();
    for (shard, watched) in watched.iter().enumerate() {
        println!(
            "shard {shard}: {} steps, {} kicks, {} of them swallowed, {} in a row, longest stall {:?}",
            watched.steps.load(Ordering::Relaxed),
            watched.pulse.kicks(),
            watched.swallowed,
            watched.swallowed_in_a_row,
            watched.pulse.longest_stall(),
        );
        assert!(watched.steps.load(Ordering::Relaxed) > 0);
        assert!(watched.swallowed_in_a_row < SWALLOWED_MAX, "the shard slept on a ready task");
    }
    shards.wait();
}

/// What a control thread knows of one shard.
struct Watched {
    pulse: Arc<Pulse>,
    steps: Arc<AtomicU64>,
    /// The kernel's account of the shard's thread.
    stat: String,
    cpu: usize,
    steps_seen: u64,
    kicks_counted: u64,
    streak: u64,
    swallowed: u64,
    swallowed_in_a_row: u64,
}

impl Watched {
    fn here(ring: &Ring, steps: &Arc<AtomicU64>) -> Watched {
        // SAFETY: asks for the number of the calling thread.
        let thread = unsafe { libc::gettid() };
        // SAFETY: asks for the CPU of the calling thread, which is pinned to it.
        let cpu = unsafe { libc::sched_getcpu() };
        Watched {
            pulse: Arc::clone(ring.pulse()),
            steps: Arc::clone(steps),
            stat: format!("/proc/self/task/{thread}/stat"),
            cpu: usize::try_from(cpu).expect("a CPU has a number"),
            steps_seen: 0,
            kicks_counted: 0,
            streak: 0,
            swallowed: 0,
            swallowed_in_a_row: 0,
        }
    }

    /// Puts the calling thread on the shard's CPU.
    fn pin(&self) {
        // SAFETY: no bits are a set of CPUs.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the number is below the number of bits.
        unsafe { libc::CPU_SET(self.cpu, &mut set) };
        // SAFETY: the set is read during the call only; 0 is the calling thread.
        let pinned = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
        assert_eq!(pinned, 0);
    }

    fn look(&mut self) {
        // In this order: the kicks counted here were given before the thread was seen asleep, and
        // no step was made until after that.
        let kicks = self.pulse.kicks();
        let stat = std::fs::read_to_string(&self.stat).unwrap_or_default();
        let asleep = stat.rsplit(") ").next().is_some_and(|state| state.starts_with('S'));
        let steps = self.steps.load(Ordering::Acquire);
        if steps != self.steps_seen {
            self.steps_seen = steps;
            self.streak = 0;
            self.kicks_counted = kicks;
        } else if asleep && kicks > self.kicks_counted && steps >= WARM_STEPS {
            self.kicks_counted = kicks;
            self.streak += 1;
            self.swallowed += 1;
            self.swallowed_in_a_row = self.swallowed_in_a_row.max(self.streak);
        }
    }
}

/// Trap 4: a panic in any task kills a glommio shard.
#[test]
fn a_panic_ends_its_task_alone() {
    static HEARD: AtomicU64 = AtomicU64::new(0);
    let (to, from) = channel();
    let settings = Settings {
        on_panic: |text| {
            assert!(text == "a bug" || text == "bug 7", "{text}");
            HEARD.fetch_add(1, Ordering::Relaxed);
        },
        ..Settings::default()
    };
    let shards = start(1, settings, move |ring| {
        let to = to.clone();
        async move {
            ring.spawn(async { panic!("a bug") });
            ring.spawn(async {
                futures_lite::future::yield_now().await;
                panic!("bug {}", 7)
            });
            let within = ring.clone();
            ring.spawn(async move {
                while within.panics() < 2 {
                    within.sleep(Duration::from_millis(1)).await;
                }
                to.send(within.panics()).unwrap();
            });
            while ring.panics() < 2 {
                ring.sleep(Duration::from_millis(1)).await;
            }
            ring.sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(from.recv_timeout(crate::PATIENCE), Ok(2));
    shards.unwrap_or_else(|refusal| panic!("{refusal}")).wait();
    assert_eq!(HEARD.load(Ordering::Relaxed), 2);
}

/// Trap 4 again: a shard that is gone must take the process along, or its socket goes on taking
/// connections that nobody serves.
#[test]
fn the_end_of_a_shard_by_a_panic_ends_the_process() {
    let name = "traps_shard::the_end_of_a_shard_by_a_panic_ends_the_process";
    if !alone(name, |end| end.signal() == Some(libc::SIGABRT)) {
        return;
    }
    limit(libc::RLIMIT_CORE, 0, true);
    let shards = start(2, Settings::default(), |ring| async move {
        assert!(ring.shard().0 == 0, "a bug in the shard itself");
        ring.sleep(crate::PATIENCE).await;
    });
    shards.unwrap_or_else(|refusal| panic!("{refusal}")).wait();
}

/// `spawn_local` of glommio polls the task within the call, under the caller's borrows.
#[test]
fn a_spawned_task_begins_after_its_spawner_has_let_go() {
    on_shard(|ring| async move {
        let ran = Rc::new(Cell::new(false));
        let within = Rc::clone(&ran);
        ring.spawn(async move { within.set(true) });
        assert!(!ran.get());
        while !ran.get() {
            futures_lite::future::yield_now().await;
        }
    });
}

/// Traps 7 and 8: what is cancelled in glommio stays in memory.
#[test]
fn a_dropped_sleep_leaves_nothing() {
    on_shard(|ring| async move {
        for millis in [1, 19, 20, 3_600_000] {
            for _ in 0..1_000 {
                or(ring.sleep(Duration::from_millis(millis)), ready(())).await;
            }
        }
        assert_eq!(ring.armed(), 0);
    });
}

#[test]
fn a_sleep_is_never_short() {
    on_shard(|ring| async move {
        for millis in [0, 1, 3, 19, 20, 21, 60] {
            let (before, pause) = (ring.now(), Duration::from_millis(millis));
            ring.sleep(pause).await;
            assert!(ring.now().since(before) >= pause, "{millis} ms");
        }
    });
}

/// Trap 13: glommio fails, or gets slow, with too little memory to lock.
#[test]
fn too_little_locked_memory_is_refused_in_plain_words() {
    let name = "traps_shard::too_little_locked_memory_is_refused_in_plain_words";
    if !alone(name, |end| end.success()) {
        return;
    }
    limit(libc::RLIMIT_MEMLOCK, 600 << 10, true);
    limit(libc::RLIMIT_MEMLOCK, 64 << 10, false);
    preflight(1, 1 << 20).expect("the soft limit is raised to the hard one");
    limit(libc::RLIMIT_MEMLOCK, 64 << 10, true);
    let refusal = preflight(1, 1 << 20).unwrap_err();
    assert!(refusal.0.contains("LimitMEMLOCK=infinity"), "{refusal}");
}

/// Trap 12: where io_uring is forbidden the executor's thread panics and nobody is told.
#[test]
fn a_forbidden_io_uring_is_refused_in_plain_words() {
    let name = "traps_shard::a_forbidden_io_uring_is_refused_in_plain_words";
    if !alone(name, |end| end.success()) {
        return;
    }
    // Takes io_uring from this thread and from those it starts.
    let load = u16::try_from(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS).unwrap();
    let is_equal = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap();
    let answer = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
    let setup = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        libc::sock_filter { code: load, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: is_equal, jt: 0, jf: 1, k: setup },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: refuse },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: takes plain numbers.
    let humble = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(humble, 0);
    // SAFETY: the program and its four instructions outlive the call, which copies them.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0);
    let refusal = start(1, Settings::default(), |_| async {}).err().expect("no ring, no shard");
    assert!(refusal.0.contains("seccomp"), "{refusal}");
}
