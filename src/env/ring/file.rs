//! Files without the page cache: whole blocks, O_DIRECT, every length checked.
//!
//! What glommio 0.9.0 gets wrong with files, and what is done here:
//!   - it tries each device by a read of the first file it opens there, takes an empty file's
//!     answer for "can be polled" and fails every later read with EOPNOTSUPP: each shard opens
//!     a nameless file for writing only first, which cannot be read, and that settles it
//!   - its unaligned reads give octets beyond the end of a file: only whole blocks are read
//!   - it asks for the size by name: a size is asked for once, at the open
//!   - its thread for blocking calls must never see a panic: ours are fenced
//!   - a directory's fdatasync does not cover names on every file system: fsync is called

use crate::bytes::hash::Set;
use crate::env::BLOCK_OCTETS;
use futures_lite::FutureExt as _;
use glommio::GlommioError;
use glommio::io::{DmaBuffer, DmaFile, OpenOptions, ReadResult};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Zeros are written to a new file in pieces of so many octets, ...
const ZEROS_OCTETS: usize = 1 << 20;
/// ... so many at a time.
const ZEROS_IN_FLIGHT: usize = 4;
/// Names that [`list`] does not show: the trial file where no nameless one can be made.
const TRIAL_PREFIX: &str = ".nopoll-";

/// An open file.
pub struct File {
    file: DmaFile,
    len: u64,
}

/// Memory to write from.
pub struct Block(DmaBuffer);

/// What was read.
pub struct View(ReadResult);

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

fn is_whole(count: u64) -> bool {
    count.is_multiple_of(BLOCK_OCTETS as u64)
}

/// The error of the system underneath; glommio's own conversion loses its number.
fn plain(error: GlommioError<()>) -> io::Error {
    error.raw_os_error().map_or_else(|| error.into(), io::Error::from_raw_os_error)
}

fn short(what: &str, want: usize, got: usize) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} {got} of {want} octets"))
}

impl crate::env::File for File {
    type Block = Block;
    type View = View;

    fn alloc(&self, len: usize) -> Block {
        assert!(len > 0 && is_whole(len as u64), "memory for files comes in whole blocks");
        Block(self.file.alloc_dma_buffer(len))
    }

    fn len(&self) -> u64 {
        self.len
    }

    async fn write_at(&self, block: Block, at: u64) -> io::Result<()> {
        let len = block.0.len();
        let end = at.saturating_add(len as u64);
        assert!(is_whole(at) && is_whole(len as u64), "files are written in whole blocks");
        assert!(end <= self.len, "a file keeps the length it was made with");
        let written = self.file.write_at(block.0, at).await.map_err(plain)?;
        if written == len { Ok(()) } else { Err(short("wrote", len, written)) }
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<View> {
        assert!(is_whole(at) && is_whole(len as u64), "files are read in whole blocks");
        let view = self.file.read_at_aligned(at, len).await.map_err(plain)?;
        if view.len() == len { Ok(View(view)) } else { Err(short("read", len, view.len())) }
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(plain)
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(plain)
    }
}

/// The devices (major, minor) that this shard's glommio knows not to poll.
#[derive(Default)]
pub(super) struct Calmed(RefCell<Set<u64>>);

impl Calmed {
    /// Settles the question for the device under `dir`, once. See the header.
    async fn calm(&self, dir: &Path) -> io::Result<()> {
        // Reads what the kernel has in memory: the directory was named a moment ago.
        let device = fs::metadata(dir)?.dev();
        if self.0.borrow().contains(&device) {
            return Ok(());
        }
        let mut write_only = OpenOptions::new();
        write_only.write(true);
        let nameless = write_only.clone().tmpfile(true).dma_open(dir).await;
        let trial = match nameless.map_err(plain) {
            Ok(trial) => trial,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                let name = format!("{TRIAL_PREFIX}{:?}", std::thread::current().id());
                let path = dir.join(name);
                let trial = write_only.create(true).dma_open(&path).await.map_err(plain)?;
                unlink(path).await?;
                trial
            }
            Err(error) => return Err(error),
        };
        trial.close().await.map_err(plain)?;
        self.0.borrow_mut().insert(device);
        Ok(())
    }
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

pub(super) async fn open(calmed: &Rc<Calmed>, path: &Path) -> io::Result<File> {
    let (calmed, path) = (Rc::clone(calmed), path.to_owned());
    to_the_end(async move {
        calmed.calm(parent(&path)).await?;
        let mut both = OpenOptions::new();
        let file = both.read(true).write(true).dma_open(&path).await.map_err(plain)?;
        let len = file.file_size().await.map_err(plain)?;
        Ok(File { file, len })
    })
    .await
}

pub(super) async fn create(calmed: &Rc<Calmed>, path: &Path, len: u64) -> io::Result<File> {
    assert!(is_whole(len), "a file is made of whole blocks");
    let (calmed, path) = (Rc::clone(calmed), path.to_owned());
    let (file, half_made) = to_the_end(async move {
        calmed.calm(parent(&path)).await?;
        let mut fresh = OpenOptions::new();
        fresh.read(true).write(true).create_new(true).mode(0o640);
        let file = fresh.dma_open(&path).await.map_err(plain)?;
        let half_made = HalfMade(Some(path.clone()));
        match fill(&file, &path, len).await {
            Ok(()) => Ok((File { file, len }, half_made)),
            Err(error) => {
                // The name first: an error of the close must not keep it.
                unlink(half_made.defuse()).await?;
                file.close().await.map_err(plain)?;
                Err(error)
            }
        }
    })
    .await?;
    half_made.defuse();
    Ok(file)
}

async fn fill(file: &DmaFile, path: &Path, len: u64) -> io::Result<()> {
    write_zeros(file, len).await?;
    file.fdatasync().await.map_err(plain)?;
    sync_dir(parent(path).to_owned()).await
}

/// Runs `work` in a task of its own, so that it comes to its end although the caller may be
/// dropped: an open that is called off midway leaves a descriptor, and maybe a file, behind.
/// What nobody waits for any more is dropped. A panic (glommio has some here) becomes an error.
async fn to_the_end<T: 'static>(
    work: impl Future<Output = io::Result<T>> + 'static,
) -> io::Result<T> {
    let place = Rc::new(RefCell::new((None, None::<Waker>)));
    let there = Rc::downgrade(&place);
    super::spawn_detached(async move {
        let result = AssertUnwindSafe(work).catch_unwind().await;
        let result = result
            .unwrap_or_else(|panic| Err(io::Error::other(super::panic_text(&*panic).to_owned())));
        if let Some(place) = there.upgrade() {
            let waker = {
                let mut place = place.borrow_mut();
                place.0 = Some(result);
                place.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    });
    poll_fn(|context| {
        let mut place = place.borrow_mut();
        if let Some(result) = place.0.take() {
            return Poll::Ready(result);
        }
        place.1 = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

/// Removes the name of a file that nobody wants any more.
struct HalfMade(Option<PathBuf>);

impl HalfMade {
    fn defuse(mut self) -> PathBuf {
        self.0.take().expect("taken once")
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Nobody waits for it any more, so nobody can be told.
            drop(fs::remove_file(path));
        }
    }
}

/// Fills a new file with zeros, so that later writes change no metadata.
async fn write_zeros(file: &DmaFile, len: u64) -> io::Result<()> {
    let mut zeros = file.alloc_dma_buffer(ZEROS_OCTETS);
    zeros.as_bytes_mut().fill(0);
    let zeros = Rc::new(zeros);
    let mut tail = None;
    let mut at = 0;
    let mut flying: VecDeque<Pin<Box<dyn Future<Output = io::Result<()>> + '_>>> = VecDeque::new();
    let mut all = Ok(());
    loop {
        while all.is_ok() && at < len && flying.len() < ZEROS_IN_FLIGHT {
            let left = usize::try_from(len - at).unwrap_or(usize::MAX);
            let piece = if left >= ZEROS_OCTETS {
                Rc::clone(&zeros)
            } else {
                let mut rest = file.alloc_dma_buffer(left);
                rest.as_bytes_mut().fill(0);
                Rc::clone(tail.insert(Rc::new(rest)))
            };
            let want = piece.len();
            let write = file.write_rc_at(piece, at);
            flying.push_back(Box::pin(async move {
                let written = write.await.map_err(plain)?;
                if written == want { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
            }));
            at += want as u64;
        }
        if flying.is_empty() {
            return all;
        }
        // All are polled, so that all are under way; the first that ends makes room. After a
        // failure the rest is waited for: while it flies the file holds on to its space.
        let one = poll_fn(|context| {
            for index in 0..flying.len() {
                if let Poll::Ready(result) = flying[index].as_mut().poll(context) {
                    drop(flying.remove(index));
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await;
        all = all.and(one);
    }
}

/// Runs a blocking call on the shard's helper thread, which may use any CPU.
///
/// glommio's helper dies of a panic and whoever waits for it hangs: it never sees one.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let fenced = move || {
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err(io::Error::other("a blocking call panicked")))
    };
    glommio::executor().spawn_blocking(fenced).await
}

fn fsync_dir(dir: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "on the helper thread, which may block")]
    fs::File::open(dir)?.sync_all()
}

async fn sync_dir(dir: PathBuf) -> io::Result<()> {
    blocking(move || fsync_dir(&dir)).await
}

async fn unlink(path: PathBuf) -> io::Result<()> {
    blocking(move || fs::remove_file(path)).await
}

/// What users other than root may have of the file system.
pub(super) fn room(dir: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

pub(super) async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(move || {
        fs::remove_file(&path)?;
        fsync_dir(parent(&path))
    })
    .await
}

pub(super) async fn make_dir(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    blocking(move || make_dirs(&dir)).await
}

fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    make_dirs(above)?;
    match fs::create_dir(dir) {
        // Another shard may have been faster; its entry is made durable here as well.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fsync_dir(above)
}

pub(super) async fn list(dir: &Path) -> io::Result<Vec<String>> {
    let dir = dir.to_owned();
    blocking(move || {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with(TRIAL_PREFIX)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    })
    .await
}
