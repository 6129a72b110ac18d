//! The real machine: glommio on io_uring. The only place that names glommio.
//!
//! Everything that is known to go wrong with glommio 0.9.0 is kept in here: each file's header
//! says what it guards against, and `tests/ring.rs` has one test per trap. Illegal outside: any
//! use of glommio; inside: its read timeouts, `read_at`, `accept`, `write_vectored`, cancelling
//! its tasks, and code that may panic on its blocking threads.

mod clock;
mod conn;
mod facing;
mod file;
mod listener;
mod placement;
mod preflight;
mod pulse;

pub use conn::{Conn, Detached};
pub use facing::facing;
pub use file::File;
pub use listener::{Bound, Listener, bind};
pub use placement::{Settings, Shards, start};
pub use preflight::{Refusal, cpus, preflight, raise_limits};
pub use pulse::{Pulse, STALL};

use crate::env::Env;
use crate::model::id::ShardId;
use crate::model::time::{Mono, Wall};
use clock::{Alarm, Clock};
use futures_lite::FutureExt as _;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A sleep shorter than this is timed by glommio, to the tenth of a millisecond; a longer one by
/// the wheel, which costs nothing and is late by up to two of its ticks.
const PRECISE_SLEEP: Duration = Duration::from_millis(20);
/// Random words fetched from the kernel at once.
const RANDOM_WORDS: usize = 32;

/// One shard's machine: a handle for everybody who runs on it.
#[derive(Clone)]
pub struct Ring(Rc<Shard>);

struct Shard {
    id: ShardId,
    clock: Rc<Clock>,
    pulse: Arc<Pulse>,
    on_panic: fn(&str),
    panics: Cell<u64>,
    random: RefCell<Vec<u64>>,
    /// Devices of which glommio was told that they cannot be polled; see `file.rs`.
    calmed: Rc<file::Calmed>,
}

impl Shard {
    fn new(id: ShardId, pulse: Arc<Pulse>, on_panic: fn(&str)) -> Shard {
        Shard {
            id,
            clock: Rc::new(Clock::new()),
            pulse,
            on_panic,
            panics: Cell::new(0),
            random: RefCell::default(),
            calmed: Rc::default(),
        }
    }
}

impl Ring {
    /// Which shard this is.
    pub fn shard(&self) -> ShardId {
        self.0.id
    }

    /// Takes connections on a socket that was bound before the shard started.
    pub fn listen_on(&self, bound: Bound) -> io::Result<Listener> {
        Listener::on(bound, &self.0.clock)
    }

    /// How this shard is doing, as the ticker sees it.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.0.pulse
    }

    /// Tasks of this shard that ended by a panic.
    pub fn panics(&self) -> u64 {
        self.0.panics.get()
    }

    /// Deadlines and sleeps that the wheel holds at the moment.
    pub fn armed(&self) -> usize {
        self.0.clock.armed()
    }

    /// Writes and reads of files that this shard polled for instead of being told, since the last
    /// call. Anything but 0 is the fault that `file.rs` guards against.
    pub fn polled_files(&self) -> u64 {
        let stats = glommio::executor().io_stats();
        stats.poll_ring.file_writes().0 + stats.poll_ring.file_reads().0
    }
}

impl Env for Ring {
    type File = File;
    type Conn = Conn;
    type Listener = Listener;

    fn now(&self) -> Mono {
        clock::now()
    }

    #[expect(clippy::disallowed_types, reason = "this is where the calendar comes from")]
    fn wall(&self) -> Wall {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // Before 1970 the clock is broken anyway.
        let micros = since_1970.unwrap_or_default().as_micros();
        Wall(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, pause: Duration) {
        if pause < PRECISE_SLEEP {
            // Its timer is taken out of the reactor when it is dropped.
            glommio::timer::Timer::new(pause).await;
        } else {
            Alarm::new(&self.0.clock, clock::now().after(pause)).await;
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let shard = Rc::clone(&self.0);
        spawn_detached(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                shard.panics.set(shard.panics.get() + 1);
                (shard.on_panic)(panic_text(&*panic));
            }
        });
    }

    async fn breathe(&self) {
        glommio::executor().yield_if_needed().await;
    }

    fn random(&self) -> u64 {
        let mut words = self.0.random.borrow_mut();
        if words.is_empty() {
            let mut octets = [0; RANDOM_WORDS * 8];
            getrandom::fill(&mut octets).expect("the kernel hands out random octets");
            words.extend(octets.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
        }
        words.pop().expect("just filled")
    }

    async fn make_dir(&self, dir: &Path) -> io::Result<()> {
        file::make_dir(dir).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        file::list(dir).await
    }

    async fn create(&self, path: &Path, len: u64) -> io::Result<File> {
        file::create(&self.0.calmed, path, len).await
    }

    async fn open(&self, path: &Path) -> io::Result<File> {
        file::open(&self.0.calmed, path).await
    }

    fn room(&self, dir: &Path) -> io::Result<u64> {
        file::room(dir)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        file::remove(path).await
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        self.listen_on(bind(address)?)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        deadline: Mono,
    ) -> io::Result<Conn> {
        conn::connect(address, source, deadline, &self.0.clock).await
    }

    fn attach(&self, detached: Detached) -> io::Result<Conn> {
        Ok(Conn::attach(detached, &self.0.clock))
    }
}

/// Queues a task on this shard; it ends by itself only (cancelling one leaks it in glommio 0.9.0).
///
/// Not `spawn_local`: that one polls the task within the call, under whatever the caller has
/// borrowed.
fn spawn_detached(task: impl Future<Output = ()> + 'static) {
    let queue = glommio::executor().current_task_queue();
    let task = glommio::spawn_local_into(task, queue).expect("the queue that runs exists");
    task.detach();
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
