//! A machine made of a seed: its tasks, clock, disk and network do what the number says, and the
//! same every time.
//!
//! # Fault model
//!
//! What may happen here may happen to a real machine; code that survives this has to survive that.
//!
//! *Tasks.* Of all ready tasks of all shards any may run next. A shard may be killed between two
//! polls, and so may the machine, at any moment, with everything that was under way.
//!
//! *Disk, without asking for faults.* Operations take 20 to 400 µs and pass each other. A write
//! that completed is seen by readers and is not durable before a sync *that was called after the
//! write returned* succeeds. At a crash every 512-octet sector of a write that was not synced, or
//! was still under way, is old or new by coin ([`Loss`] makes it all old, or all new). A read that
//! overlaps a write under way sees old and new sectors mixed. A write whose future is dropped
//! lands later by itself, whole or in part; a create so dropped leaves its file. A file whose creation a
//! crash interrupts is absent, too short (whole blocks), or there. Fresh memory holds no zeros.
//!
//! *Disk, by [`Faults`] or [`Script`].* A write fails with EIO, and its range holds anything: the
//! old, **all of the new**, a front part, some sectors, garbage. A sync fails with EIO, and what
//! it covered is kept for the next sync, or is lost while readers still see it, or is gone at
//! once; the next sync succeeds and says nothing of it. A read fails, or comes back with one bit
//! flipped. A write strays to another place of its file. A create finds no room or fails, and
//! leaves no file. An operation takes a hundred times as long. [`Disk::flip`] and its like damage
//! what is at rest.
//!
//! *Network, without asking for faults.* A stream arrives in order, in segments cut anywhere, each
//! later than it was sent by 5 to 200 µs; the window is bounded and a writer waits for it. What
//! was written before [`Conn::close`](super::Conn::close) arrives. A connection dropped without it
//! ends, or is reset if octets were left unread. One of several listeners on an address is picked
//! at random.
//!
//! *Network, by [`Sim::cut`].* Nothing arrives between two hosts: connects wait, and connections on
//! which anything happens meanwhile are silent for ever.
//!
//! *Network, by [`Faults`].* Connects are refused; connections are reset, with what is on its way
//! arriving first or lost; connections fall silent for ever; segments carry single octets.
//!
//! *Not modelled:* sectors torn within 512 octets, a durable name that comes back after its
//! removal returned, writes that stray to another file, clocks that jump, memory running out.
//!
//! # How to use it
//!
//! ```
//! use pombal::env::{Env, File};
//! use pombal::env::sim::{Faults, Sim};
//! use std::path::Path;
//!
//! let sim = Sim::new(42, Faults::none());
//! let env = sim.env(0);
//! sim.run_until(async {
//!     let file = env.create(Path::new("/f"), 4096).await?;
//!     let mut block = file.alloc(4096);
//!     block.as_mut().fill(7);
//!     file.write_at(block, 0).await?;
//!     file.sync().await?;
//!     file.close().await
//! })
//! .expect("nothing waits for ever")
//! .expect("nothing fails");
//!
//! let sim = sim.crash();                      // life two, on the same disk
//! let octets = sim.disk().read(Path::new("/f")).expect("it was synced");
//! assert!(octets.iter().all(|&octet| octet == 7));
//! ```
//!
//! What must be remembered over lives (a model of what was promised) lives outside, in an
//! `Rc<RefCell<…>>` that the tasks write to. A failing seed is replayed by the same number.
//!
//! Promises:
//!   - same seed, same program: same [`Sim::trace_hash`]
//!   - a panic in a task ends the run with the seed, the shard, and where the task was spawned
//!   - waiting for what never comes ends the run with [`Halt::Stuck`] and the list of tasks
//!
//! Illegal: threads, real clocks, maps with random order in what is tested.

pub mod chance;
pub mod disk;
mod executor;
pub mod faults;
pub mod file;
mod image;
mod link;
pub mod machine;
pub mod net;
#[cfg(test)]
mod tests;

pub use chance::Chance;
pub use disk::{Disk, Loss, Op, Script};
pub use faults::Faults;
pub use image::SECTOR_OCTETS;
pub use machine::SimEnv;

use crate::model::id::ShardId;
use crate::model::time::{Mono, Wall};
use executor::{Dying, Ended, Executor};
use machine::{World, nanos};
use net::Network;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Polls that one run may take before it counts as running in circles.
const POLLS_MAX: u64 = 10_000_000;

/// Streams of numbers that one life may draw from.
const PURPOSES: u64 = 8;

/// When the first life of every machine starts: 2026-01-01T00:00:00Z, in microseconds.
const FIRST_LIFE: u64 = 1_767_225_600_000_000;

/// Why a run ended before what it was to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Nothing is ready and no timer is set. The text tells which tasks wait.
    Stuck(String),
    /// More polls than the budget allows: something runs in circles.
    Exhausted(String),
    /// The power went where [`Sim::cut_power_at`] said. Go on with [`Sim::crash`].
    PowerCut,
}

impl fmt::Display for Halt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Halt::Stuck(report) => write!(out, "stuck: {report}"),
            Halt::Exhausted(report) => write!(out, "running in circles: {report}"),
            Halt::PowerCut => out.write_str("the power went as planned"),
        }
    }
}

impl std::error::Error for Halt {}

/// One life of a machine.
pub struct Sim {
    world: Rc<World>,
    disk: Disk,
    seed: u64,
    /// From 1.
    life: u64,
    polls_max: Cell<u64>,
    panics_allowed: Cell<Option<&'static str>>,
    panics: Cell<u64>,
    leaks_allowed: Cell<bool>,
}

impl Sim {
    /// A new machine with an empty disk.
    pub fn new(seed: u64, faults: Faults) -> Sim {
        Sim::with_disk(seed, faults, Disk::new())
    }

    /// A new machine with this disk.
    pub fn with_disk(seed: u64, faults: Faults, disk: Disk) -> Sim {
        Sim::begin((seed, 1), faults, disk, chance::mix(seed), FIRST_LIFE)
    }

    fn begin((seed, life): (u64, u64), faults: Faults, disk: Disk, trace: u64, wall: u64) -> Sim {
        let stream = |purpose| Chance::stream(seed, life * PURPOSES + purpose);
        let world = World {
            executor: Executor::new(stream(1), trace),
            net: Network::new(stream(2)),
            faults: Cell::new(faults),
            chance: stream(3),
            disk_chance: stream(4),
            alive: Cell::new(true),
            killing: Cell::new(false),
            leaks: RefCell::default(),
            wall_start: Cell::new(wall),
            disk_events: Cell::new(0),
            power_cut_at: Cell::new(u64::MAX),
        };
        Sim {
            world: Rc::new(world),
            disk,
            seed,
            life,
            polls_max: Cell::new(POLLS_MAX),
            panics_allowed: Cell::new(None),
            panics: Cell::new(0),
            leaks_allowed: Cell::new(false),
        }
    }

    /// What shard `shard` gets. May be asked for again and again.
    pub fn env(&self, shard: u16) -> SimEnv {
        self.env_on(&self.disk, shard)
    }

    /// A shard of another host on the same network: with its own disk.
    pub fn env_on(&self, disk: &Disk, shard: u16) -> SimEnv {
        SimEnv::new(Rc::clone(&self.world), disk.clone(), ShardId(shard))
    }

    /// The disk, which outlives the machine.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    /// The number that replays this life and those before it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Which life of the machine this is, from 1.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Numbers for the test itself, out of the seed of this life.
    pub fn chance(&self) -> Chance {
        Chance::stream(self.seed, self.life * PURPOSES + 5)
    }

    /// How bad the world is; after a crash as it was before, until somebody sets it.
    pub fn faults(&self) -> Faults {
        self.world.faults.get()
    }

    /// From here on the world is this bad.
    pub fn set_faults(&self, faults: Faults) {
        self.world.faults.set(faults);
    }

    /// From here on nothing arrives between two hosts, until [`Sim::mend`]. A host that nobody is to
    /// reach is cut off from each other one.
    pub fn cut(&self, one: IpAddr, other: IpAddr) {
        self.world.net.cut(one, other);
    }

    /// Hosts that were cut off reach each other again, by connections made from here on.
    pub fn mend(&self) {
        self.world.net.mend();
    }

    /// Polls that one run may take; 10 million unless set.
    pub fn set_polls_max(&self, polls: u64) {
        self.polls_max.set(polls);
    }

    /// Sets the calendar; the other clock goes on.
    pub fn set_wall(&self, wall: Wall) {
        let passed = self.world.executor.now() / 1_000;
        self.world.wall_start.set(wall.0.saturating_sub(passed));
    }

    /// A task that panics with these words ends alone, as on the real machine, and is counted; not the run.
    pub fn allow_panics(&self, words: &'static str) {
        self.panics_allowed.set(Some(words));
    }

    /// Tasks that panicked so far.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Files dropped without being closed no longer end the run; see [`Sim::leaks`].
    pub fn allow_leaks(&self) {
        self.leaks_allowed.set(true);
    }

    /// Files that were dropped without being closed.
    pub fn leaks(&self) -> Vec<PathBuf> {
        self.world.leaks.borrow().clone()
    }

    /// Virtual time since this life began.
    pub fn now(&self) -> Mono {
        Mono(Duration::from_nanos(self.world.executor.now()))
    }

    /// A number that two runs of the same seed have in common, over all lives.
    pub fn trace_hash(&self) -> u64 {
        self.world.executor.trace_hash()
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.world.executor.polls()
    }

    /// Starts and ends of disk operations so far.
    pub fn disk_events(&self) -> u64 {
        self.world.disk_events.get()
    }

    /// Octets of the longest chain that anybody gave to a connection at once.
    pub fn longest_write(&self) -> usize {
        self.world.net.longest_write.get()
    }

    /// The power goes with the `event`th start or end of a disk operation: the run ends with
    /// [`Halt::PowerCut`]. For going through all moments at which a small program can be hit.
    pub fn cut_power_at(&self, event: u64) {
        self.world.power_cut_at.set(event);
    }

    /// Runs everything until `future` is done.
    ///
    /// # Panics
    /// Where a task panicked or a file was leaked, unless that is allowed.
    pub fn run_until<T>(&self, future: impl Future<Output = T>) -> Result<T, Halt> {
        let mut future = std::pin::pin!(future);
        let mut result = None;
        self.drive(u64::MAX, &mut |context| match future.as_mut().poll(context) {
            Poll::Ready(value) => {
                result = Some(value);
                true
            }
            Poll::Pending => false,
        })?;
        Ok(result.expect("the drive ends well only when the root is done"))
    }

    /// Runs everything for `time`, also if nothing happens in it.
    ///
    /// # Panics
    /// As [`Sim::run_until`].
    pub fn run_for(&self, time: Duration) -> Result<(), Halt> {
        // One short of never, so that having nothing to do is not being stuck.
        let until = self.world.executor.now().saturating_add(nanos(time)).min(u64::MAX - 1);
        self.drive(until, &mut |_| false)
    }

    fn drive(
        &self,
        until: u64,
        poll_root: &mut dyn FnMut(&mut std::task::Context<'_>) -> bool,
    ) -> Result<(), Halt> {
        let executor = &self.world.executor;
        let reap = || self.world.net.reap(&self.world);
        loop {
            let ended = executor.drive(until, self.polls_max.get(), &reap, poll_root);
            self.check_leaks();
            match ended {
                Ended::Done => return Ok(()),
                Ended::Stuck => return Err(Halt::Stuck(self.report())),
                Ended::Exhausted => return Err(Halt::Exhausted(self.report())),
                Ended::Halted => self.look_at_panic()?,
            }
        }
    }

    /// Why the drive halted: a panic that is allowed lets it go on.
    #[expect(clippy::panic, reason = "a panic within the simulation is one of the test")]
    fn look_at_panic(&self) -> Result<(), Halt> {
        let executor = &self.world.executor;
        let Some(panicked) = executor.take_panicked() else { return Err(Halt::PowerCut) };
        self.panics.set(self.panics.get() + 1);
        if self.panics_allowed.get().is_some_and(|words| panicked.message == words) {
            // The power may have gone in the same moment.
            if !self.world.alive.get() {
                return Err(Halt::PowerCut);
            }
            executor.resume();
            return Ok(());
        }
        panic!(
            "seed {} life {}: a task of shard {} spawned at {} panicked: {}",
            self.seed, self.life, panicked.shard, panicked.spawned, panicked.message
        );
    }

    fn check_leaks(&self) {
        let leaks = self.world.leaks.borrow();
        assert!(
            leaks.is_empty() || self.leaks_allowed.get(),
            "seed {} life {}: files dropped without being closed: {leaks:?}",
            self.seed,
            self.life
        );
    }

    fn report(&self) -> String {
        format!(
            "seed {} life {}, {:?} in, after {} polls and {} disk events; tasks: {:?}",
            self.seed,
            self.life,
            self.now().0,
            self.polls(),
            self.disk_events(),
            self.world.executor.census()
        )
    }

    /// Kills all tasks of a shard. Its connections end, its requests to the disk go on.
    pub fn kill(&self, shard: u16) {
        let before = self.world.killing.replace(true);
        self.world.executor.kill(Dying::Shard(ShardId(shard)));
        self.world.killing.set(before);
    }

    /// The power goes, with what it takes along chosen by the seed. Returns the next life.
    #[must_use]
    pub fn crash(self) -> Sim {
        let loss = match self.world.chance.below(4) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Chance,
        };
        self.crash_with(loss)
    }

    /// The power goes, or the process alone. Returns the next life: same disk, same faults, no
    /// task, the calendar a little later.
    #[must_use]
    pub fn crash_with(self, loss: Loss) -> Sim {
        let trace = chance::mix(self.trace_hash());
        let pause = self.world.chance.between(1_000, 600_000_000);
        let wall = self.world.wall_start.get() + self.world.executor.now() / 1_000 + pause;
        let (seed, life, faults) = (self.seed, self.life + 1, self.world.faults.get());
        let disk = self.end(loss);
        Sim::begin((seed, life), faults, disk, trace, wall)
    }

    /// Ends the machine for good and leaves the disk as a crash leaves it.
    pub fn end(self, loss: Loss) -> Disk {
        self.world.alive.set(false);
        self.world.executor.kill(Dying::Everybody);
        self.disk.crash(loss, &self.world.disk_chance);
        self.disk.clone()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold the world that holds them.
        self.world.alive.set(false);
        self.world.executor.kill(Dying::Everybody);
    }
}
