//! The machine that one shard runs on: clock, files, sockets, tasks, chance.
//!
//! Everything above this floor is ordinary `async fn` generic over one [`Env`]. Two machines
//! exist: [`ring`] is glommio on io_uring, [`sim`] is made of a seed. No trait here has a default
//! method, so that neither can fall back on the other's world.
//!
//! Illegal above this floor: a system call, a clock, a thread, a random number from elsewhere.

pub mod bell;
#[cfg(test)]
pub mod conformance;
pub mod ring;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod together;

use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::model::time::{Mono, Wall};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

/// What a file is read and written in: offsets, lengths and memory are multiples of it.
pub const BLOCK_OCTETS: usize = 4096;

/// One shard's machine. One type parameter carries every seam.
pub trait Env: Clone + 'static {
    type File: File;
    type Conn: Conn;
    type Listener: Listener<Conn = Self::Conn>;

    /// Time since the machine started.
    fn now(&self) -> Mono;
    /// What the calendar says.
    fn wall(&self) -> Wall;
    /// Comes back once `pause` has passed; may be dropped earlier.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()>;
    /// Runs `task` on this shard until it ends by itself. A panic in it ends the task alone and is
    /// counted and logged.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Lets others run if this task has used up its slice. Long loops call it every ~50 µs.
    fn breathe(&self) -> impl Future<Output = ()>;
    /// 64 random bits; in the simulation out of its seed.
    fn random(&self) -> u64;

    /// Makes `dir` and the directories above it where they are missing, durably.
    fn make_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    /// The names of the files in `dir`, sorted.
    fn list(&self, dir: &Path) -> impl Future<Output = io::Result<Vec<String>>>;
    /// Octets that the disk under `dir` has room for. Does not wait.
    fn room(&self, dir: &Path) -> io::Result<u64>;
    /// Creates a file of `len` zeros, written and durable under its name when this returns.
    /// `len` is a multiple of [`BLOCK_OCTETS`]. Fails if the name is taken. A failure (a full disk)
    /// leaves no file behind.
    fn create(&self, path: &Path, len: u64) -> impl Future<Output = io::Result<Self::File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;
    /// Removes a file, durably.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Listens on `address`, together with the other shards (SO_REUSEPORT). Port 0 takes any.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;
    /// Connects to `address` before `deadline`, from `source` if one is given: an address of this
    /// machine, of the same family; `ErrorKind::AddrNotAvailable` where it is none.
    fn connect(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        deadline: Mono,
    ) -> impl Future<Output = io::Result<Self::Conn>>;
    /// Takes over a connection that another shard let go of.
    fn attach(&self, detached: <Self::Conn as Conn>::Detached) -> io::Result<Self::Conn>;
}

/// A file addressed in whole blocks; what was written is durable only after [`File::sync`].
/// Several writes and reads may be under way at once.
#[expect(clippy::len_without_is_empty, reason = "a file of segments is never empty")]
pub trait File: 'static {
    /// Memory that the disk can write from.
    type Block: Deref<Target = [u8]> + AsMut<[u8]> + 'static;
    /// What was read; stays valid for as long as it is held.
    type View: Deref<Target = [u8]> + 'static;

    /// Memory of `len` octets, a multiple of [`BLOCK_OCTETS`], with any content.
    fn alloc(&self, len: usize) -> Self::Block;
    /// Octets of the file; fixed since its creation.
    fn len(&self) -> u64;
    /// Writes the whole block at `at` or fails; after a failure the range holds anything.
    fn write_at(&self, block: Self::Block, at: u64) -> impl Future<Output = io::Result<()>>;
    /// Reads exactly `len` octets at `at`, both multiples of [`BLOCK_OCTETS`].
    fn read_at(&self, at: u64, len: usize) -> impl Future<Output = io::Result<Self::View>>;
    /// Returns once every write that had returned before the call is on stable storage.
    /// A failure is final: never ask again (store.md 3.11).
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
    /// Gives the file back. Dropping it without is a leak that the simulation reports.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}

/// Where connections come from.
pub trait Listener: 'static {
    type Conn: Conn;

    /// The address with the real port.
    fn local(&self) -> SocketAddr;
    /// The next connection. Survives the lack of descriptors: waits and goes on. May be dropped
    /// at any time without losing a connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Conn>>;
}

/// How the other side of a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing is known against it.
    Here,
    /// It sends no more. It may read on, or have gone: that shows when it is sent something.
    Ended,
    /// Nothing that is sent to it arrives any more.
    Gone,
}

/// A stream between two peers.
pub trait Conn: 'static {
    /// The connection on its way to another shard.
    type Detached: Send + 'static;

    /// The other side's address, IPv4 in its own form also on a dual-stack socket.
    fn peer(&self) -> SocketAddr;
    /// This side's address.
    fn local(&self) -> SocketAddr;
    /// A trusted proxy made this connection for `client`, who had connected to `server`: these are the
    /// two ends from now on. `unread` is what had been read behind the proxy's word; the next read
    /// brings it.
    fn introduce(&mut self, client: SocketAddr, server: SocketAddr, unread: &[u8]);
    /// How the other side stands as far as is known now, whatever of it was read.
    fn presence(&self) -> Presence;
    /// Waits for octets and puts them into `buffer`; 0 when the peer has ended its side.
    /// `ErrorKind::TimedOut` at `deadline`. May be dropped without losing octets.
    fn read(
        &mut self,
        buffer: &mut Buffer,
        deadline: Mono,
    ) -> impl Future<Output = io::Result<usize>>;
    /// Sends all of `chain` and leaves it empty. `ErrorKind::TimedOut` at `deadline`.
    fn write(&mut self, chain: &mut Chain, deadline: Mono) -> impl Future<Output = io::Result<()>>;
    /// Sends what is on its way, then ends the connection.
    fn close(self) -> impl Future<Output = ()>;
    /// Lets go of the connection so that another shard can take it ([`Env::attach`]).
    fn detach(self) -> io::Result<Self::Detached>;
}
