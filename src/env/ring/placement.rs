//! One pinned executor per core, the ticker beside them, and an end of the process with any of them.
//!
//! A shard that is gone while its socket still listens is worse than a dead process: the kernel
//! goes on giving it connections. So a shard whose thread ends before its work has returned ends
//! the whole process ([`std::process::abort`]); whoever supervises it starts it again.
//!
//! The ticker can only kick a shard that has run once. glommio's hole (`pulse.rs`) lies open before
//! that too, and a shard that falls into it at its very start would sleep for ever: until it has
//! given its first sign of life, the starter pokes its thread with a signal.
#![expect(unsafe_code, reason = "a signal to a thread is a bare system call")]

use super::preflight::{Refusal, cpus, preflight};
use super::pulse::{self, Pulse};
use super::{Ring, Shard, panic_text};
use crate::model::id::ShardId;
use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use std::future::Future;
use std::io;
use std::os::unix::thread::JoinHandleExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the shards run. The defaults are measured: docs/decisions/0003-ticker.md.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long ready tasks may run before completions are looked at again.
    pub preempt: Duration,
    /// The time between two kicks of a shard; [`Duration::MAX`] for none.
    pub ticker: Duration,
    /// CPUs at most that shards are pinned to; 0: all that the process may use.
    pub cpus_max: usize,
    /// Octets of memory per shard that is registered with the kernel for files. More than this at
    /// once comes from the heap.
    pub io_memory_octets: usize,
    /// Entries of each of a shard's rings.
    pub ring_depth: usize,
    /// Told the text of each panic that a task died of; runs on the shard.
    pub on_panic: fn(&str),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            preempt: Duration::from_millis(1),
            ticker: Duration::from_millis(5),
            cpus_max: 0,
            io_memory_octets: 1 << 20,
            ring_depth: 256,
            on_panic: |_| (),
        }
    }
}

/// The running shards.
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    pulses: Vec<Arc<Pulse>>,
    ticker: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Shards {
    /// How each shard is doing, in the order of their numbers.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        &self.pulses
    }

    /// Waits until the work of every shard has returned.
    pub fn wait(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for thread in self.threads.drain(..) {
            // Its panics have ended the process already.
            drop(thread.join());
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            drop(ticker.join());
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts `count` shards and runs `work` on each.
///
/// They are pinned to the CPUs this process may use, in order; more shards than CPUs, or than the
/// settings let them have, share them.
/// Returns once every shard stands, or with the reason why one cannot; then none has begun to work.
pub fn start<W, F>(count: u16, settings: Settings, work: W) -> Result<Shards, Refusal>
where
    W: Fn(Ring) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    preflight(usize::from(count), settings.io_memory_octets)?;
    let cpus = cpus().map_err(|error| Refusal(format!("cannot read the affinity: {error}")))?;
    let used = if settings.cpus_max == 0 { cpus.len() } else { cpus.len().min(settings.cpus_max) };
    let mut shards = Shards {
        threads: Vec::new(),
        pulses: (0..count).map(|_| Arc::default()).collect(),
        ticker: None,
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut gates = Vec::new();
    for (number, pulse) in (0..count).zip(&shards.pulses) {
        let place = Place {
            shard: ShardId(number),
            cpu: cpus[usize::from(number) % used],
            cpus: cpus.clone(),
            settings,
            pulse: Arc::clone(pulse),
        };
        let ((said, signs), (gate, go)) = (channel(), channel());
        let work = work.clone();
        let body = move || place.run(&said, go, work);
        let thread = thread(format!("shard-{number}"), body)?;
        let stands = await_life(&signs, &thread);
        shards.threads.push(thread);
        stands.map_err(|error| Refusal(format!("shard {number} cannot start: {error}")))?;
        gates.push(gate);
    }
    let (pulses, stop) = (shards.pulses.clone(), Arc::clone(&shards.stop));
    let body = move || pulse::tick(&pulses, settings.ticker, &stop);
    shards.ticker = Some(thread("ticker".to_owned(), body)?);
    for gate in gates {
        // A shard that died meanwhile has ended the process.
        let _ = gate.send(());
    }
    Ok(shards)
}

fn thread(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Refusal> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| Refusal(format!("cannot start a thread: {error}: try `ulimit -u`")))
}

/// What a shard says while it starts.
enum Sign {
    /// Its executor is made, and about to run.
    Made,
    /// Its heart is known to the ticker.
    Alive,
    Failed(String),
}

/// How long a first sign of life may take before the thread is poked. Once more if it was only slow.
const FIRST_SIGN: Duration = Duration::from_millis(20);

/// Waits until a shard lives.
fn await_life(signs: &Receiver<Sign>, thread: &JoinHandle<()>) -> Result<(), String> {
    let died = || "its thread died".to_owned();
    match signs.recv().map_err(|_| died())? {
        Sign::Failed(error) => return Err(error),
        Sign::Made | Sign::Alive => {}
    }
    loop {
        match signs.recv_timeout(FIRST_SIGN) {
            Ok(Sign::Failed(error)) => return Err(error),
            Ok(_) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => poke(thread)?,
            Err(RecvTimeoutError::Disconnected) => return Err(died()),
        }
    }
}

/// Interrupts the system call that a thread sleeps in.
fn poke(thread: &JoinHandle<()>) -> Result<(), String> {
    // Harmless to everybody else: nothing is done by default, nor by this.
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: no bits are a valid action: no flags (so that calls are interrupted), nothing masked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // SAFETY: the handler does nothing, which is safe at any moment; the old action is not asked for.
    let set = unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
    // SAFETY: the thread was not joined, so its handle names it.
    let sent = unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGURG) };
    // A thread that has ended shows by its channel.
    if set == 0 && (sent == 0 || sent == libc::ESRCH) {
        return Ok(());
    }
    Err("its thread cannot be woken".to_owned())
}

/// Where and how one shard runs.
struct Place {
    shard: ShardId,
    cpu: usize,
    /// All CPUs of the process, for the thread that blocks in this shard's stead.
    cpus: Vec<usize>,
    settings: Settings,
    pulse: Arc<Pulse>,
}

impl Place {
    /// The body of a shard's thread.
    fn run<W, F>(self, said: &Sender<Sign>, go: Receiver<()>, work: W)
    where
        W: FnOnce(Ring) -> F,
        F: Future<Output = ()> + 'static,
    {
        // The starter is gone if nobody listens to `said`; then `go` says so too.
        let fenced = catch_unwind(AssertUnwindSafe(|| match self.executor() {
            Ok(executor) => {
                drop(said.send(Sign::Made));
                executor.run(self.live(said, go, work));
                self.pulse.end();
            }
            Err(error) => drop(said.send(Sign::Failed(error.to_string()))),
        }));
        if let Err(panic) = fenced {
            let text = format!("shard {} died: {}", self.shard, panic_text(&*panic));
            (self.settings.on_panic)(&text);
            std::process::abort();
        }
    }

    fn executor(&self) -> io::Result<LocalExecutor> {
        let all = CpuSet::online()?.filter(|place| self.cpus.contains(&place.cpu));
        LocalExecutorBuilder::new(Placement::Fixed(self.cpu))
            .preempt_timer(self.settings.preempt)
            .io_memory(self.settings.io_memory_octets)
            .ring_depth(self.settings.ring_depth)
            .blocking_thread_pool_placement(PoolPlacement::Fenced(1, all))
            .make()
            .map_err(io::Error::from)
    }

    /// The shard's main task: its heart, and its work within.
    async fn live<W, F>(&self, said: &Sender<Sign>, go: Receiver<()>, work: W)
    where
        W: FnOnce(Ring) -> F,
        F: Future<Output = ()> + 'static,
    {
        let ring =
            Ring(Rc::new(Shard::new(self.shard, Arc::clone(&self.pulse), self.settings.on_panic)));
        // This spawn polls at once, so that the ticker knows the heart before anything can sleep.
        let heart = pulse::answer(Arc::clone(&self.pulse), Rc::clone(&ring.0.clock));
        glommio::spawn_local(heart).detach();
        drop(said.send(Sign::Alive));
        // Blocks the shard, which has nothing else to do yet.
        if go.recv().is_ok() {
            drop(go);
            work(ring).await;
        }
    }
}
