//! Runs the sessions of a measurement: threads, start together, pace, live line, end together.
//!
//! Sessions connect first; when all have tried, the clock starts and tickets are given out,
//! one per message (or per maildrop). When no ticket is left the clock stops at the last
//! answer, and only then the sessions say goodbye. With a rate each ticket has a moment at
//! which it should have been used, and latencies count from there: a server that stalls
//! cannot hide it by keeping the client from asking.

use std::cell::RefCell;
use std::future::Future;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Barrier, mpsc};
use tokio::task::LocalSet;

use crate::measure::tally::Tally;
use crate::values::{Instant, float, nanoseconds, to_u64, whole};

/// Timers fire up to this late; a ticket that was waited for does not count it as the server's.
const TIMER_GRAIN_NS: u64 = 2_000_000;
/// Tallies on their way to the thread that shows them, per thread.
const TALLIES_WAITING_MAX: usize = 4;
/// How often a thread hands over its tally: well within the second of the live line.
const HAND_OVER_EVERY: Duration = Duration::from_millis(200);

/// How much work there is and how fast it may be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) sessions: usize,
    pub(crate) threads: usize,
    /// Tickets at most.
    pub(crate) count: Option<u64>,
    pub(crate) duration: Option<Duration>,
    /// Tickets per second over all sessions.
    pub(crate) rate: Option<f64>,
    /// Suppresses the live line.
    pub(crate) quiet: bool,
}

/// The right to do one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// 0, 1, 2 … over all sessions.
    pub(crate) number: u64,
    /// Latency counts from here, in nanoseconds since the start.
    pub(crate) from_ns: u64,
}

/// What all threads share.
struct Gate {
    plan: Plan,
    next: AtomicU64,
    /// Stops the giving out of tickets early.
    stopped: AtomicBool,
    /// Nanoseconds between `born` and the start of the clock.
    start_ns: AtomicU64,
    /// Nanoseconds since the start at which the last answer came.
    last_ns: AtomicU64,
    born: Instant,
    connected: Barrier,
    started: Barrier,
    finished: mpsc::Sender<()>,
}

/// What one session has: its number, its thread's tally, the shared gate.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) index: usize,
    pub(crate) tally: Rc<RefCell<Tally>>,
    gate: Arc<Gate>,
}

impl Context {
    /// Changes the tally of this thread; never held over an await.
    pub(crate) fn count<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.borrow_mut())
    }

    /// Waits until all sessions are connected and the clock runs.
    pub(crate) async fn ready(&self) {
        self.gate.connected.wait().await;
        self.gate.started.wait().await;
    }

    /// Nanoseconds since the clock started.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(self.gate.born.elapsed())
            .saturating_sub(self.gate.start_ns.load(Ordering::Relaxed))
    }

    /// Takes the next ticket and waits for its moment; `None` when the work is done.
    pub(crate) async fn ticket(&self) -> Option<Ticket> {
        let plan = &self.gate.plan;
        if self.over(self.now_ns()) {
            return None;
        }
        let number = self.gate.next.fetch_add(1, Ordering::Relaxed);
        if plan.count.is_some_and(|count| number >= count) {
            return None;
        }
        let now = self.now_ns();
        let Some(due) = due_ns(plan, number) else {
            return Some(Ticket { number, from_ns: now });
        };
        if self.over(due) {
            return None;
        }
        if due <= now {
            return Some(Ticket { number, from_ns: due });
        }
        tokio::time::sleep(Duration::from_nanos(due - now)).await;
        let woken = self.now_ns();
        let from_ns = if woken.saturating_sub(due) <= TIMER_GRAIN_NS { woken } else { due };
        Some(Ticket { number, from_ns })
    }

    /// Takes the next ticket only if its moment has come.
    pub(crate) fn ticket_due(&self) -> Option<Ticket> {
        let (plan, now) = (&self.gate.plan, self.now_ns());
        if self.over(now) {
            return None;
        }
        let mut number = self.gate.next.load(Ordering::Relaxed);
        loop {
            let due = due_ns(plan, number).unwrap_or(now);
            if due > now || plan.count.is_some_and(|count| number >= count) {
                return None;
            }
            match self.gate.next.compare_exchange_weak(
                number,
                number + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Ticket { number, from_ns: due }),
                Err(seen) => number = seen,
            }
        }
    }

    fn over(&self, moment_ns: u64) -> bool {
        self.gate.stopped.load(Ordering::Relaxed)
            || self.gate.plan.duration.is_some_and(|all| moment_ns >= nanoseconds(all))
    }

    /// Has the work ended, for sessions that take no tickets?
    pub(crate) fn is_over(&self) -> bool {
        self.over(self.now_ns())
            || self
                .gate
                .plan
                .count
                .is_some_and(|count| self.gate.next.load(Ordering::Relaxed) >= count)
    }

    /// Ends the run: no more tickets for anybody.
    pub(crate) fn stop(&self) {
        self.gate.stopped.store(true, Ordering::Relaxed);
    }

    /// The session has its last answer. Call once, before QUIT.
    pub(crate) fn finished(&self) {
        self.gate.last_ns.fetch_max(self.now_ns(), Ordering::Relaxed);
        // The channel has room for every session, and it closes only after all have spoken.
        self.gate.finished.try_send(()).ok();
    }
}

/// The moment of a ticket where a rate is asked for.
fn due_ns(plan: &Plan, number: u64) -> Option<u64> {
    plan.rate.map(|rate| whole(float(number) * 1e9 / rate))
}

/// What came out of a run.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// From the start of the clock to the last answer.
    pub(crate) seconds: f64,
}

/// Called at the moments where outside figures are to be taken.
pub(crate) trait Observer {
    /// All sessions are connected; the clock is about to start.
    fn before(&mut self);
    /// A second has passed.
    fn each_second(&mut self);
    /// The last answer is there, the connections are still open.
    fn after(&mut self);
}

/// Runs `session` for each of the plan's sessions and gathers what they counted.
pub(crate) fn drive<F, S>(plan: Plan, observer: &mut dyn Observer, session: F) -> Outcome
where
    F: Fn(Context) -> S + Sync,
    S: Future<Output = ()> + 'static,
{
    let threads = plan.threads.clamp(1, plan.sessions.max(1));
    let (finished, finished_in) = mpsc::channel(plan.sessions.max(1));
    let (tallies, tallies_in) = mpsc::channel(TALLIES_WAITING_MAX * threads);
    let gate = Arc::new(Gate {
        plan,
        next: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        start_ns: AtomicU64::new(0),
        last_ns: AtomicU64::new(0),
        born: Instant::now(),
        connected: Barrier::new(plan.sessions + 1),
        started: Barrier::new(plan.sessions + 1),
        finished,
    });
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (gate, tallies, session) = (Arc::clone(&gate), tallies.clone(), &session);
            scope.spawn(move || {
                let tally = Rc::new(RefCell::new(Tally::new()));
                let local = LocalSet::new();
                for index in (thread..plan.sessions).step_by(threads) {
                    let (tally, gate) = (Rc::clone(&tally), Arc::clone(&gate));
                    local.spawn_local(session(Context { index, tally, gate }));
                }
                runtime().block_on(hand_over(local, tally, tallies));
            });
        }
        drop(tallies);
        runtime().block_on(preside(&gate, observer, finished_in, tallies_in))
    })
}

/// A runtime of one thread, this one.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(16)
        .build()
        .expect("a process can have an epoll descriptor")
}

/// Runs the sessions of one thread and sends their tally now and then and at the end.
async fn hand_over(local: LocalSet, tally: Rc<RefCell<Tally>>, tallies: mpsc::Sender<Tally>) {
    tokio::pin!(local);
    let mut ticks = tokio::time::interval(HAND_OVER_EVERY);
    loop {
        let done = tokio::select! {
            () = &mut local => true,
            _ = ticks.tick() => false,
        };
        if done {
            // Whoever presides takes it, or has gone and wants no more.
            tallies.send(tally.replace(Tally::new())).await.ok();
            return;
        }
        // Nobody takes tallies before all sessions are connected. To wait for room would stop the
        // sessions, those that still connect among them; the tally is handed over the next time.
        if let Ok(room) = tallies.try_reserve() {
            room.send(tally.replace(Tally::new()));
        }
    }
}

/// The thread that starts the clock, shows the live line and takes the outside figures.
async fn preside(
    gate: &Gate,
    observer: &mut dyn Observer,
    mut finished: mpsc::Receiver<()>,
    mut tallies: mpsc::Receiver<Tally>,
) -> Outcome {
    let (mut total, mut part) = (Tally::new(), Tally::new());
    gate.connected.wait().await;
    observer.before();
    gate.start_ns.store(nanoseconds(gate.born.elapsed()), Ordering::Relaxed);
    gate.started.wait().await;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let (mut open, mut passed) = (gate.plan.sessions, 0_u64);
    loop {
        tokio::select! {
            came = finished.recv(), if open > 0 => {
                open = if came.is_some() { open - 1 } else { 0 };
                if open == 0 {
                    observer.after();
                }
            }
            came = tallies.recv() => if let Some(tally) = came {
                part.add(&tally);
            } else {
                // All threads have ended, perhaps before their last word was heard here.
                if open > 0 {
                    observer.after();
                }
                break;
            },
            _ = second.tick(), if open > 0 => {
                passed += 1;
                observer.each_second();
                total.add(&part);
                if !gate.plan.quiet {
                    live_line(passed, &part, &total);
                }
                part = Tally::new();
            }
        }
    }
    total.add(&part);
    let seconds = float(gate.last_ns.load(Ordering::Relaxed)) / 1e9;
    Outcome { tally: total, seconds }
}

/// One line on stderr about the last second.
fn live_line(passed: u64, part: &Tally, total: &Tally) {
    let milliseconds = |quantile| float(part.latency.value_at_quantile(quantile)) / 1e6;
    let line = format!(
        "{passed:>5} s  {:>9} /s  {:>8.1} MB/s  p50 {:>8.2} ms  p99 {:>8.2} ms  errors {}  all {}\n",
        part.messages,
        float(part.octets) / 1e6,
        milliseconds(0.5),
        milliseconds(0.99),
        total.errors(),
        total.messages,
    );
    // Nobody may be looking any more; the figures are taken all the same.
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// Sessions that a plan may have.
pub(crate) fn check_sessions(sessions: usize, open_files: u64) -> Result<(), String> {
    if sessions == 0 {
        return Err("--sessions must be at least 1".into());
    }
    if to_u64(sessions) + 64 > open_files {
        return Err(format!(
            "{sessions} sessions need more than the {open_files} open files allowed (ulimit -n)"
        ));
    }
    Ok(())
}
