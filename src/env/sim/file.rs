//! Files of the simulated machine: every operation takes its time, fails by chance or by script,
//! and goes on by itself when nobody waits for it any more, as requests to a kernel do.

use super::disk::{Op, SharedImage};
use super::image::Landing;
use super::machine::SimEnv;
use crate::env::{BLOCK_OCTETS, File};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What memory holds before anybody writes to it: not zeros, so that nobody counts on them.
const STALE: u8 = 0xC5;

/// Memory that can be written to the disk.
#[derive(Debug)]
pub struct SimBlock(Box<[u8]>);

impl Deref for SimBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for SimBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What was read.
#[derive(Debug)]
pub struct SimView(Vec<u8>);

impl Deref for SimView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// An open file. Dropping it without closing it is reported ([`super::Sim::leaks`]).
pub struct SimFile {
    env: SimEnv,
    path: PathBuf,
    image: SharedImage,
    len: u64,
    open: bool,
}

/// A write under way; dropped before it completed, it becomes an orphan.
struct Voyage<'a> {
    file: &'a SimFile,
    id: u64,
    due: u64,
    done: bool,
}

impl Drop for Voyage<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.file.image.borrow_mut().orphan(self.id, self.due);
        }
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl SimFile {
    pub(super) fn new(env: SimEnv, path: &Path, image: SharedImage) -> SimFile {
        let len = image.borrow().len();
        SimFile { env, path: path.to_path_buf(), image, len, open: true }
    }

    /// O_DIRECT refuses these with EINVAL; here the test ends, since it is always our mistake.
    fn check(&self, at: u64, len: usize) {
        let block = BLOCK_OCTETS as u64;
        assert!(
            at.is_multiple_of(block) && (len as u64).is_multiple_of(block),
            "{}: {len} octets at {at} are not whole blocks",
            self.path.display()
        );
        assert!(
            at.checked_add(len as u64).is_some_and(|end| end <= self.len),
            "{}: {len} octets at {at} lie outside its {}",
            self.path.display(),
            self.len
        );
    }

    fn fails(&self, op: Op, ppm: u32) -> bool {
        self.env.disk().scripted(op, &self.path) || self.env.disk_chance().happens(ppm)
    }

    fn settle(&self) {
        self.image.borrow_mut().settle(self.env.moment(), self.env.disk_chance());
    }
}

impl File for SimFile {
    type Block = SimBlock;
    type View = SimView;

    fn alloc(&self, len: usize) -> SimBlock {
        assert!(len.is_multiple_of(BLOCK_OCTETS), "blocks are multiples of BLOCK_OCTETS");
        SimBlock(vec![STALE; len].into_boxed_slice())
    }

    fn len(&self) -> u64 {
        self.len
    }

    async fn write_at(&self, block: SimBlock, at: u64) -> io::Result<()> {
        self.check(at, block.len());
        self.settle();
        let faults = self.env.faults();
        let fails = self.fails(Op::Write, faults.write_fails);
        let strays = self.env.disk_chance().happens(faults.write_strays);
        let due = self.env.disk_due();
        let len = block.len() as u64;
        let id = self.image.borrow_mut().submit(at, block.0);
        let mut voyage = Voyage { file: self, id, due, done: false };
        self.env.disk_wait(due).await;
        voyage.done = true;
        self.env.trace(&[1, at, len, u64::from(fails)]);
        let chance = self.env.disk_chance();
        let landing = if fails { Landing::of_failure(chance) } else { Landing::Whole };
        let place = strays.then(|| {
            let blocks = (self.len - len) / BLOCK_OCTETS as u64 + 1;
            chance.below(blocks) * BLOCK_OCTETS as u64
        });
        self.image.borrow_mut().complete(id, place, landing, chance);
        if fails { Err(eio()) } else { Ok(()) }
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<SimView> {
        self.check(at, len);
        let faults = self.env.faults();
        let fails = self.fails(Op::Read, faults.read_fails);
        self.env.disk_wait(self.env.disk_due()).await;
        self.env.trace(&[2, at, len as u64, u64::from(fails)]);
        if fails {
            return Err(eio());
        }
        self.settle();
        let chance = self.env.disk_chance();
        let mut view = self.image.borrow().read(at, len, Some(chance));
        if len > 0 && chance.happens(faults.read_flips) {
            view[chance.index(len)] ^= 1 << chance.below(8);
        }
        Ok(SimView(view))
    }

    async fn sync(&self) -> io::Result<()> {
        self.settle();
        let fails = self.fails(Op::Sync, self.env.faults().sync_fails);
        let covered = self.image.borrow().stamp();
        self.env.disk_wait(self.env.disk_due()).await;
        self.env.trace(&[3, covered, u64::from(fails)]);
        let mut image = self.image.borrow_mut();
        if fails {
            image.fail_sync(covered, self.env.disk_chance());
            return Err(eio());
        }
        image.sink(covered);
        Ok(())
    }

    async fn close(mut self) -> io::Result<()> {
        self.open = false;
        self.env.breath().await;
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.open {
            self.env.leaked(&self.path);
        }
    }
}

/// Makes a file in two steps, so that a crash between them leaves what a half-done creation leaves.
pub(super) async fn create(env: &SimEnv, path: &Path, len: u64) -> io::Result<SimFile> {
    assert!(len.is_multiple_of(BLOCK_OCTETS as u64), "files are multiples of BLOCK_OCTETS");
    let faults = env.faults();
    let disk = env.disk();
    let fails = disk.scripted(Op::Create, path) || env.disk_chance().happens(faults.create_fails);
    env.disk_wait(env.disk_due()).await;
    let image = disk.begin(path, len, faults.disk_octets)?;
    let unfinished = Unfinished { env, path, image: Rc::clone(&image) };
    env.disk_wait(env.disk_due()).await;
    env.trace(&[4, len, u64::from(fails)]);
    if fails {
        disk.forget(path);
        let full = env.disk_chance().coin();
        return Err(if full { io::ErrorKind::StorageFull.into() } else { eio() });
    }
    drop(unfinished);
    Ok(SimFile::new(env.clone(), path, image))
}

/// Ends the creation of a file however its future ends; not when the machine died under it.
struct Unfinished<'a> {
    env: &'a SimEnv,
    path: &'a Path,
    image: SharedImage,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.env.alive() {
            self.image.borrow_mut().creating = false;
            self.env.trace(&[5, self.path.as_os_str().len() as u64]);
        }
    }
}
