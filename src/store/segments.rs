//! Where segments live: the seam between the log and what keeps its octets.
//!
//! The log above knows slots and offsets. [`Local`] keeps each slot in a file of this machine; a
//! replicated keeper can stand beside it without a change above (store.md 4.2).
//!
//! ```text
//! dir/superblock      4 copies of one block
//! dir/seg-000000      slot 0: segment header, batches, zeros
//! dir/seg-000001      …
//! ```
//!
//! A slot's file is written with zeros once and then used again and again, each time under a new
//! segment number: an append never waits for the file system to find room (store.md 3.2).

use super::format::{Identity, SUPERBLOCK_COPIES, SegmentHeader};
use crate::bytes::codec::{to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::{BLOCK_OCTETS, Env, File};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What keeps the segments of one log. Only one log uses it at a time.
pub trait SegmentStore: 'static {
    /// Memory that can be written from.
    type Block: Deref<Target = [u8]> + AsMut<[u8]> + 'static;
    /// What was read.
    type View: Deref<Target = [u8]> + 'static;

    /// Octets of a segment, header included.
    fn segment_octets(&self) -> u64;
    /// Memory for a batch of `len` octets, a multiple of [`BLOCK_OCTETS`], with any content.
    fn alloc(&self, len: usize) -> Self::Block;
    /// All slots, with the segment that was begun there last; `None` where no header can be read:
    /// nothing was begun yet, or the header is damaged. Slots of the second kind count as free from
    /// here on, so whoever opens the log has to tell the two apart.
    fn list(&self) -> impl Future<Output = io::Result<Vec<(u32, Option<SegmentHeader>)>>>;
    /// Begins a segment in a free slot; its header is on stable storage when this returns.
    fn create(&self, header: SegmentHeader) -> impl Future<Output = io::Result<u32>>;
    /// Writes a batch; durable after [`SegmentStore::sync`].
    fn write(&self, slot: u32, at: u64, batch: Self::Block)
    -> impl Future<Output = io::Result<()>>;
    /// Makes durable what was written to the slot. Never asked again after a failure.
    fn sync(&self, slot: u32) -> impl Future<Output = io::Result<()>>;
    /// Reads whole blocks.
    fn read(&self, slot: u32, at: u64, len: usize) -> impl Future<Output = io::Result<Self::View>>;
    /// The slot may be used again: no live octet is in it.
    fn retire(&self, slot: u32);
    /// Never use the slot again while this process runs: it failed.
    fn condemn(&self, slot: u32);
    /// Makes free slots until there are `wanted`, so that `create` finds one without waiting; fails
    /// when there is no room.
    fn prepare(&self, wanted: usize) -> impl Future<Output = io::Result<()>>;
    /// Free slots that stand ready.
    fn free_slots(&self) -> usize;
    /// Slots that could be made besides those that there are, as it looks.
    fn growth(&self) -> u64;
    /// Gives everything back.
    fn close(&self) -> impl Future<Output = io::Result<()>>;
}

/// Segments as files of one directory.
pub struct Local<E: Env> {
    env: E,
    dir: PathBuf,
    identity: Identity,
    segment_octets: u64,
    /// Files that there may be; 0: as many as the disk gives.
    files_max: usize,
    /// Logs that share the disk.
    logs_on_disk: u16,
    files: RefCell<Sorted<u32, Rc<E::File>>>,
    free: RefCell<Vec<u32>>,
    condemned: RefCell<Vec<u32>>,
    next_slot: Cell<u32>,
    preparing: Cell<bool>,
}

/// The name of a slot's file.
pub fn slot_name(slot: u32) -> String {
    format!("seg-{slot:06}")
}

/// The slot that a file name stands for.
pub fn slot_of(name: &str) -> Option<u32> {
    name.strip_prefix("seg-")?.parse().ok()
}

/// Whether no segment was begun in a file: they all begin with a header.
async fn is_empty<F: File>(file: &F) -> io::Result<bool> {
    if file.len() < to_u64(BLOCK_OCTETS) {
        return Ok(true);
    }
    let header = file.read_at(0, BLOCK_OCTETS).await?;
    Ok(header.iter().all(|&octet| octet == 0))
}

impl<E: Env> Local<E> {
    /// Opens the directory of a log, of which `files_max` segments may be made; 0 is no bound. So
    /// many logs share the disk, `logs_on_disk`. Files whose creation was cut off are removed: they are too
    /// short and hold nothing yet. A file of another size with something in it is an error. All
    /// others stay open.
    pub async fn open(
        env: E,
        dir: &Path,
        identity: Identity,
        segment_octets: u64,
        (files_max, logs_on_disk): (usize, u16),
    ) -> io::Result<Local<E>> {
        let mut files = Sorted::new();
        let mut next_slot = 0;
        for name in env.list(dir).await? {
            let Some(slot) = slot_of(&name) else { continue };
            let path = dir.join(&name);
            let file = env.open(&path).await?;
            if file.len() == segment_octets {
                files.insert(slot, Rc::new(file));
                next_slot = next_slot.max(slot + 1);
                continue;
            }
            let (len, is_empty) = (file.len(), is_empty(&file).await?);
            file.close().await?;
            if len > segment_octets || !is_empty {
                let what = format!(
                    "{name} has {len} octets and not {segment_octets}, and holds a segment"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            env.remove(&path).await?;
        }
        Ok(Local {
            env,
            dir: dir.to_owned(),
            identity,
            segment_octets,
            files_max,
            logs_on_disk,
            files: RefCell::new(files),
            free: RefCell::default(),
            condemned: RefCell::default(),
            next_slot: Cell::new(next_slot),
            preparing: Cell::new(false),
        })
    }

    fn file(&self, slot: u32) -> io::Result<Rc<E::File>> {
        let files = self.files.borrow();
        files.get(&slot).map(Rc::clone).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", slot_name(slot)))
        })
    }

    async fn begin(&self, slot: u32, header: &SegmentHeader) -> io::Result<()> {
        let file = self.file(slot)?;
        let mut block = file.alloc(BLOCK_OCTETS);
        block.as_mut().copy_from_slice(&header.encode(&self.identity, slot));
        file.write_at(block, 0).await?;
        file.sync().await
    }

    /// One more zeroed file among the free ones.
    async fn extend(&self) -> io::Result<()> {
        if self.files_max > 0 && self.files.borrow().len() >= self.files_max {
            let what = format!("the log has the {} segments that it may have", self.files_max);
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        let slot = self.next_slot.get();
        self.next_slot.set(slot + 1);
        let path = self.dir.join(slot_name(slot));
        let file = self.env.create(&path, self.segment_octets).await?;
        self.files.borrow_mut().insert(slot, Rc::new(file));
        self.free.borrow_mut().push(slot);
        Ok(())
    }
}

impl<E: Env> SegmentStore for Local<E> {
    type Block = <E::File as File>::Block;
    type View = <E::File as File>::View;

    fn segment_octets(&self) -> u64 {
        self.segment_octets
    }

    fn alloc(&self, len: usize) -> Self::Block {
        let files = self.files.borrow();
        let any = files.values().next().expect("a log has at least one segment");
        any.alloc(len)
    }

    async fn list(&self) -> io::Result<Vec<(u32, Option<SegmentHeader>)>> {
        let slots: Vec<u32> = self.files.borrow().keys().copied().collect();
        let mut found = Vec::new();
        let mut free = Vec::new();
        for slot in slots {
            let block = self.file(slot)?.read_at(0, BLOCK_OCTETS).await?;
            let header = SegmentHeader::decode(&block, &self.identity, slot);
            if header.is_none() {
                free.push(slot);
            }
            found.push((slot, header));
        }
        *self.free.borrow_mut() = free;
        Ok(found)
    }

    async fn create(&self, header: SegmentHeader) -> io::Result<u32> {
        let slot = loop {
            if let Some(slot) = self.free.borrow_mut().pop() {
                break slot;
            }
            self.extend().await?;
        };
        let begun = self.begin(slot, &header).await;
        if begun.is_err() {
            self.condemn(slot);
        }
        begun.map(|()| slot)
    }

    async fn write(&self, slot: u32, at: u64, batch: Self::Block) -> io::Result<()> {
        self.file(slot)?.write_at(batch, at).await
    }

    async fn sync(&self, slot: u32) -> io::Result<()> {
        self.file(slot)?.sync().await
    }

    async fn read(&self, slot: u32, at: u64, len: usize) -> io::Result<Self::View> {
        self.file(slot)?.read_at(at, len).await
    }

    fn retire(&self, slot: u32) {
        if !self.condemned.borrow().contains(&slot) {
            self.free.borrow_mut().push(slot);
        }
    }

    fn condemn(&self, slot: u32) {
        self.free.borrow_mut().retain(|&free| free != slot);
        self.condemned.borrow_mut().push(slot);
    }

    async fn prepare(&self, wanted: usize) -> io::Result<()> {
        if self.preparing.replace(true) {
            return Ok(());
        }
        let mut extended = Ok(());
        while extended.is_ok() && self.free_slots() < wanted {
            extended = self.extend().await;
        }
        self.preparing.set(false);
        extended
    }

    fn free_slots(&self) -> usize {
        self.free.borrow().len()
    }

    fn growth(&self) -> u64 {
        let files = self.files.borrow().len();
        let allowed = match self.files_max {
            0 => u64::MAX,
            most => to_u64(most.saturating_sub(files)),
        };
        if allowed == 0 {
            return 0;
        }
        // What is left is for all of them.
        let share = self.segment_octets * u64::from(self.logs_on_disk.max(1));
        allowed.min(self.env.room(&self.dir).map_or(0, |octets| octets / share))
    }

    async fn close(&self) -> io::Result<()> {
        let files = std::mem::take(&mut *self.files.borrow_mut());
        let mut outcome = Ok(());
        for file in files.into_values() {
            // A reader that is still under way keeps its file; it closes with the process.
            if let Some(file) = Rc::into_inner(file) {
                outcome = outcome.and(file.close().await);
            }
        }
        outcome
    }
}

/// The file of the superblock's copies, beside the segments.
pub struct SuperblockFile<F: File> {
    file: F,
    /// The half that is written first: never the only one that is whole.
    first: Cell<usize>,
    /// Copies with one turned bit when the log was opened, from 0. Opening writes them anew, so
    /// that a reader who comes later could not see it.
    turned: Cell<u8>,
}

impl<F: File> SuperblockFile<F> {
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("superblock")
    }

    pub const OCTETS: usize = SUPERBLOCK_COPIES * BLOCK_OCTETS;

    const HALF_OCTETS: usize = Self::OCTETS / 2;

    pub fn new(file: F) -> SuperblockFile<F> {
        SuperblockFile { file, first: Cell::new(0), turned: Cell::new(0) }
    }

    /// Tells what was found: `copies` as they were read, and the one of them that counts.
    pub fn found(&self, copies: &[u8], chosen: &[u8]) {
        let (left, right) = copies.split_at(Self::HALF_OCTETS);
        let is_whole = |half: &[u8]| half.chunks(BLOCK_OCTETS).all(|copy| copy == chosen);
        self.first.set(usize::from(is_whole(left) && !is_whole(right)));
        // A copy that a cut tore differs in more: each write raises a number and changes the check.
        let has_turned = |copy: &[u8]| {
            let differing = copy.iter().zip(chosen).map(|(a, b)| (a ^ b).count_ones());
            differing.sum::<u32>() == 1
        };
        let numbered = copies.chunks(BLOCK_OCTETS).enumerate();
        let turned = numbered.filter(|(_, copy)| has_turned(copy));
        self.turned.set(turned.fold(0, |marks, (number, _)| marks | 1 << number));
    }

    /// The copies that had one turned bit when they were [`found`](Self::found), from 0.
    pub fn turned(&self) -> impl Iterator<Item = usize> + use<F> {
        let marks = self.turned.get();
        (0..SUPERBLOCK_COPIES).filter(move |number| marks >> number & 1 == 1)
    }

    /// All copies as they stand.
    pub async fn read(&self) -> io::Result<F::View> {
        self.file.read_at(0, Self::OCTETS).await
    }

    /// Writes all copies, half of them after the other half is durable: a cut or a failure at any
    /// moment leaves two that agree. After a failure either superblock may count.
    pub async fn write(&self, copy: &[u8]) -> io::Result<()> {
        let first = self.first.get();
        for half in [first, 1 - first] {
            // Should it fail, the other half is the one that is whole.
            self.first.set(half);
            let len = Self::HALF_OCTETS;
            let mut block = self.file.alloc(len);
            for target in block.as_mut().chunks_mut(BLOCK_OCTETS) {
                target.copy_from_slice(copy);
            }
            self.file.write_at(block, to_u64(half * len)).await?;
            self.file.sync().await?;
        }
        self.first.set(0);
        Ok(())
    }

    pub async fn close(self) -> io::Result<()> {
        self.file.close().await
    }
}

/// Rounds up to whole blocks.
pub fn round_up(octets: usize) -> usize {
    octets.next_multiple_of(BLOCK_OCTETS)
}

/// A file's length that memory can address.
pub fn in_memory(octets: u64) -> usize {
    to_usize(octets)
}
