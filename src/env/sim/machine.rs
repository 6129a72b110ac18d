//! One simulated machine from the inside: what its shards, files and connections share, and the
//! [`Env`] that a shard is given.

use super::chance::Chance;
use super::disk::Disk;
use super::executor::{Alarm, Executor};
use super::faults::Faults;
use super::file::{self, SimFile};
use super::net::{Detached, Network, SimConn, SimListener};
use crate::env::Env;
use crate::model::id::ShardId;
use crate::model::time::{Mono, Wall};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What everything on one machine shares. Tasks hold it, and it holds the tasks: whoever ends the
/// machine kills them.
pub(super) struct World {
    pub(super) executor: Executor,
    pub(super) net: Network,
    pub(super) faults: Cell<Faults>,
    /// What programs ask for by [`Env::random`].
    pub(super) chance: Chance,
    pub(super) disk_chance: Chance,
    /// Cleared by a crash and by a power cut: what is dropped after it does nothing any more.
    pub(super) alive: Cell<bool>,
    /// Set while a shard is killed: its files are not leaks.
    pub(super) killing: Cell<bool>,
    pub(super) leaks: RefCell<Vec<PathBuf>>,
    /// Microseconds since 1970 when the machine started.
    pub(super) wall_start: Cell<u64>,
    /// Starts and ends of disk operations so far.
    pub(super) disk_events: Cell<u64>,
    /// The event at which the power goes.
    pub(super) power_cut_at: Cell<u64>,
}

/// One shard's machine in the simulation. Clones are the same shard.
#[derive(Clone)]
pub struct SimEnv {
    world: Rc<World>,
    disk: Disk,
    shard: ShardId,
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl SimEnv {
    pub(super) fn new(world: Rc<World>, disk: Disk, shard: ShardId) -> SimEnv {
        SimEnv { world, disk, shard }
    }

    /// Which shard this is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Connects as if from `source`.
    pub async fn connect_from(
        &self,
        source: SocketAddr,
        address: SocketAddr,
        deadline: Mono,
    ) -> io::Result<SimConn> {
        self.world.net.connect(self, Some(source), address, deadline).await
    }

    /// See [`Sim::cut`](super::Sim::cut).
    pub fn cut(&self, one: IpAddr, other: IpAddr) {
        self.world.net.cut(one, other);
    }

    /// See [`Sim::mend`](super::Sim::mend).
    pub fn mend(&self) {
        self.world.net.mend();
    }

    pub(super) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn faults(&self) -> Faults {
        self.world.faults.get()
    }

    pub(super) fn disk_chance(&self) -> &Chance {
        &self.world.disk_chance
    }

    pub(super) fn alive(&self) -> bool {
        self.world.alive.get()
    }

    /// Nanoseconds since the start.
    pub(super) fn moment(&self) -> u64 {
        self.world.executor.now()
    }

    pub(super) fn alarm(&self) -> Alarm<'_> {
        Alarm::new(&self.world.executor)
    }

    pub(super) fn trace(&self, event: &[u64]) {
        for &part in event {
            self.world.executor.trace(part);
        }
    }

    /// When a disk operation that starts now will be through.
    pub(super) fn disk_due(&self) -> u64 {
        self.disk_event();
        let faults = self.faults();
        let chance = self.disk_chance();
        let (low, high) = faults.disk_micros;
        let pause = chance.between(u64::from(low) * 1_000, u64::from(high) * 1_000);
        self.moment() + if chance.happens(faults.disk_slow) { pause * 100 } else { pause }
    }

    /// Waits for a disk operation.
    pub(super) async fn disk_wait(&self, due: u64) {
        self.alarm().wait(due).await;
        if self.disk_event() {
            // The power is gone: this completion was never seen.
            std::future::pending::<()>().await;
        }
    }

    /// Counts one start or end; true if the power goes with it.
    fn disk_event(&self) -> bool {
        let world = &self.world;
        let event = world.disk_events.get() + 1;
        world.disk_events.set(event);
        let cut = event >= world.power_cut_at.get();
        if cut {
            // What the run drops on its way out does nothing any more.
            world.alive.set(false);
            world.executor.halt();
        }
        cut
    }

    pub(super) fn leaked(&self, path: &Path) {
        if self.alive() && !self.world.killing.get() && !std::thread::panicking() {
            self.world.leaks.borrow_mut().push(path.to_path_buf());
        }
    }

    /// Lets the others go first, once.
    pub(super) async fn breath(&self) {
        let mut taken = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut taken, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Env for SimEnv {
    type File = SimFile;
    type Conn = SimConn;
    type Listener = SimListener;

    fn now(&self) -> Mono {
        Mono(Duration::from_nanos(self.moment()))
    }

    fn wall(&self) -> Wall {
        Wall(self.world.wall_start.get() + self.moment() / 1_000)
    }

    async fn sleep(&self, pause: Duration) {
        let due = self.moment().saturating_add(nanos(pause));
        self.alarm().wait(due).await;
    }

    #[track_caller]
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.world.executor.spawn(self.shard, Location::caller(), Box::pin(task));
    }

    async fn breathe(&self) {
        if self.world.chance.below(4) == 0 {
            self.breath().await;
        }
    }

    fn random(&self) -> u64 {
        self.world.chance.bits()
    }

    async fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk_wait(self.disk_due()).await;
        self.trace(&[6]);
        self.disk.add_dir(dir)?;
        self.disk_wait(self.disk_due()).await;
        Ok(())
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk_wait(self.disk_due()).await;
        let names = self.disk.names(dir)?;
        self.trace(&[7, names.len() as u64]);
        Ok(names)
    }

    async fn create(&self, path: &Path, len: u64) -> io::Result<SimFile> {
        file::create(self, path, len).await
    }

    async fn open(&self, path: &Path) -> io::Result<SimFile> {
        self.disk_wait(self.disk_due()).await;
        let image = self.disk.find(path).ok_or(io::ErrorKind::NotFound)?;
        self.trace(&[8, image.borrow().len()]);
        Ok(SimFile::new(self.clone(), path, image))
    }

    fn room(&self, _: &Path) -> io::Result<u64> {
        Ok(self.faults().disk_octets.saturating_sub(self.disk.used()))
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        // Before the first wait ends a crash leaves the file, after it the name is gone.
        self.disk_wait(self.disk_due()).await;
        let found = self.disk.forget(path);
        self.trace(&[9, u64::from(found)]);
        if !found {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.disk_wait(self.disk_due()).await;
        Ok(())
    }

    fn listen(&self, address: SocketAddr) -> io::Result<SimListener> {
        self.world.net.listen(self, address)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        deadline: Mono,
    ) -> io::Result<SimConn> {
        let source = match source {
            Some(source) if source.is_ipv4() != address.is_ipv4() => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            Some(source) => Some(self.world.net.end_at(source)),
            None => None,
        };
        self.world.net.connect(self, source, address, deadline).await
    }

    fn attach(&self, detached: Detached) -> io::Result<SimConn> {
        self.world.net.attach(self, detached)
    }
}
