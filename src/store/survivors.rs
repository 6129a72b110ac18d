//! Survivors between their old place and their new one: read, checked, packed or unpacked, written.
//!
//! What is packed is packed here and nowhere else, so that it costs whoever brings mail nothing. It is
//! proved by unpacking it before the plain blob is given up; and what is packed already is unpacked as
//! a check before it moves, as it is: a blob that cannot be had any more stays where it is.
//!
//! A blob never takes more room than it had, but where nothing is to be packed any more: then it is
//! unpacked as long as a good part of the log stays free.

use super::batch;
use super::clean::{Compression, batch_target};
use super::cold::{self, ColdPlace, Relocation, Survivor};
use super::format::{BlobHeader, Stream};
use super::log::{AppendError, Log};
use super::pack::{self, Packer};
use super::reader::Found;
use super::segments::SegmentStore;
use super::{Damaged, checkpoint::Writer};
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::together::together;
use crate::env::{BLOCK_OCTETS, Env};
use crate::model::id::BlobId;
use crate::probe::event::{Level, event};
use std::cell::OnceCell;
use std::io;
use std::ops::Deref;

/// Reads side by side.
const READS_AT_ONCE: usize = 16;
/// Share of a log's room that stays free while blobs are unpacked, in percent, or what cleaning keeps free,
const UNPACK_FREE_PERCENT: u64 = 10;
/// and segments.
const UNPACK_FREE_SEGMENTS: u64 = 2;

/// A blob that was read to be moved.
pub(super) struct Lifted<V> {
    header: BlobHeader,
    octets: Octets<V>,
    /// It was packed just now.
    is_fresh: bool,
}

/// What follows the header.
enum Octets<V> {
    Read { view: Box<V>, start: usize, len: usize },
    Made(Vec<u8>),
}

impl<V: Deref<Target = [u8]>> Lifted<V> {
    fn octets(&self) -> &[u8] {
        match &self.octets {
            Octets::Read { view, start, len } => &view[*start..*start + *len],
            Octets::Made(octets) => octets,
        }
    }

    /// Octets that it takes in a batch.
    fn cost(&self) -> usize {
        cold::survivor_octets(self.octets().len())
    }
}

/// What a batch of survivors may take.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// Slots that stay free.
    pub kept: usize,
    /// Octets that the rest of its unit takes; `None`: nothing may grow.
    pub ahead: Option<u64>,
}

/// Blobs that are written together.
pub(super) struct Batch<V> {
    pub lifted: Vec<Lifted<V>>,
    /// How many of those that were asked for it is made of, gone or damaged ones included.
    pub handled: usize,
    pub damaged: Vec<Found>,
    /// Octets of messages that were packed for it, and what they take then.
    pub packed: (u64, u64),
}

impl<V> Default for Batch<V> {
    fn default() -> Self {
        Batch { lifted: Vec::new(), handled: 0, damaged: Vec::new(), packed: (0, 0) }
    }
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Reads blobs, and packs or unpacks them, until they fill a batch.
    pub(super) async fn lift_batch(
        &self,
        blobs: &[(BlobId, Found)],
        ahead: Option<u64>,
    ) -> Batch<S::View> {
        let shared = &self.shared;
        let packs = shared.settings.cleaning.compression == Compression::Zstd;
        let mut packer = packs.then(Packer::new).flatten();
        let most = batch_target(to_usize(shared.segments.segment_octets()));
        // What may be taken by unpacking, looked up once and only if something is packed.
        let spare = OnceCell::new();
        let spare = || *spare.get_or_init(|| ahead.map_or(0, |ahead| self.spare(ahead)));
        let mut batch = Batch::default();
        let mut octets = 0;
        for some in blobs.chunks(READS_AT_ONCE) {
            let reads = some.iter().map(|&(id, at)| self.lift(id, at));
            for (read, &(id, at)) in together(reads).await.into_iter().zip(some) {
                let made = match read {
                    Ok(one) => {
                        let may_take = || spare().saturating_sub(to_u64(octets));
                        self.recode(one, packer.as_mut(), &may_take).await
                    }
                    Err(error) => Err(error),
                };
                match made {
                    Ok(one) if !batch.lifted.is_empty() && octets + one.cost() > most => {
                        // It grew: it begins the next one.
                        return batch;
                    }
                    Ok(one) => {
                        octets += one.cost();
                        if one.is_fresh {
                            batch.packed.0 += one.header.octets;
                            batch.packed.1 += one.header.stored_octets;
                        }
                        batch.lifted.push(one);
                    }
                    Err(_) if shared.locate(id) != Some(at) => {}
                    Err(Damaged(why)) => {
                        self.tell_damaged(&why);
                        batch.damaged.push(at);
                    }
                }
                batch.handled += 1;
            }
        }
        batch
    }

    fn tell_damaged(&self, why: &str) {
        let number = ("log", self.id().0.into());
        event(Level::Error, "blob_not_moved", &[number, ("why", why.into())]);
    }

    /// Reads a blob with all checks of what is stored.
    async fn lift(&self, id: BlobId, at: Found) -> Result<Lifted<S::View>, Damaged> {
        let shared = &self.shared;
        if shared.locate(id) != Some(at) {
            return Err(Damaged(format!("blob {id} is gone")));
        }
        let lead = to_usize(at.location.offset) % BLOCK_OCTETS;
        let from = at.location.offset - to_u64(lead);
        let octets = to_usize(u64::from(at.location.blocks)) * BLOCK_OCTETS;
        let read = shared.segments.read(at.location.slot, from, octets).await;
        let view = read.map_err(|error| Damaged(format!("blob {id}: {error}")))?;
        let blob = view.get(lead..).unwrap_or_default();
        let header = batch::open_blob(blob, id, &shared.identity, at.segment, at.location.offset)?;
        let (start, len) =
            (lead + super::format::BLOB_HEADER_OCTETS, pack::content_octets(&header));
        let octets = Octets::Read { view: Box::new(view), start, len };
        Ok(Lifted { header, octets, is_fresh: false })
    }

    /// The blob as it is to lie in its new place. `may_take`: octets to which it may grow.
    async fn recode(
        &self,
        one: Lifted<S::View>,
        packer: Option<&mut Packer>,
        may_take: &dyn Fn() -> u64,
    ) -> Result<Lifted<S::View>, Damaged> {
        let shared = &self.shared;
        let (env, identity, header) = (&shared.env, &shared.identity, one.header);
        if header.codec == pack::ZSTD {
            let content = pack::unpack(env, &header, one.octets(), identity).await?;
            let packs = shared.settings.cleaning.compression == Compression::Zstd;
            if packs || to_u64(content.len()) > may_take() {
                return Ok(one);
            }
            let header = pack::plain_header(&header, &content, identity);
            return Ok(Lifted { header, octets: Octets::Made(content), is_fresh: false });
        }
        let Some(packer) = packer else { return Ok(one) };
        let packed = packer.pack(env, &header, one.octets(), identity).await;
        let Some((header, content)) = packed else { return Ok(one) };
        Ok(Lifted { header, octets: Octets::Made(content), is_fresh: true })
    }

    /// Octets that may be taken by unpacking, beside those that are `ahead`. A log that is cleaned since it
    /// is short of room has none: unpacking would take what cleaning wins.
    fn spare(&self, ahead: u64) -> u64 {
        let size = self.shared.segments.segment_octets();
        let space = self.space();
        let percent = u64::from(self.shared.settings.cleaning.free_percent);
        let kept = (space.capacity / 100).saturating_mul(percent.max(UNPACK_FREE_PERCENT));
        space.free.saturating_sub(ahead + kept.max(UNPACK_FREE_SEGMENTS * size))
    }

    /// Writes what was read to the cold stream; durable when this returns. What fails is never
    /// written to again.
    pub(super) async fn write_cold(
        &self,
        lifted: &[Lifted<S::View>],
        created: u64,
        kept: usize,
    ) -> Result<Relocation, AppendError> {
        let shared = &self.shared;
        let survivors: Vec<Survivor<'_>> = lifted
            .iter()
            .map(|one| Survivor { header: one.header, octets: one.octets() })
            .collect();
        let len = cold::batch_octets(survivors.iter().map(|one| one.octets.len()));
        let writer = self.cold_writer(len, created, kept).await?;
        let place = ColdPlace {
            writer,
            epoch: shared.epoch,
            lsn: shared.applied.get().lsn,
            time: shared.env.wall().0,
        };
        let mut block = shared.segments.alloc(len);
        let blobs = cold::encode(block.as_mut(), &survivors, &shared.identity, &place);
        let written = shared.segments.write(writer.slot, writer.offset, block).await;
        shared.stats.cold_octets.add(to_u64(len));
        let synced = match written {
            Ok(()) => {
                shared.stats.syncs.add(1);
                shared.segments.sync(writer.slot).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = synced {
            shared.segments.condemn(writer.slot);
            shared.cold.borrow_mut().writer = None;
            return Err(AppendError::Failed(error.to_string()));
        }
        let end = writer.offset + to_u64(len);
        shared.cold.borrow_mut().writer = Some(Writer { offset: end, ..writer });
        let is_packed = lifted.iter().any(|one| one.header.codec != pack::PLAIN);
        Ok(Relocation { slot: writer.slot, segment: writer.segment, end, blobs, is_packed })
    }

    /// Where a batch of `len` octets goes: on in this segment, or in the next, which leaves `kept` slots.
    async fn cold_writer(
        &self,
        len: usize,
        created: u64,
        kept: usize,
    ) -> Result<Writer, AppendError> {
        let shared = &self.shared;
        let size = shared.segments.segment_octets();
        if let Some(writer) = shared.cold.borrow().writer
            && writer.offset + to_u64(len) <= size
        {
            return Ok(writer);
        }
        if !self.has_slot_beyond(kept).await {
            return Err(AppendError::Full);
        }
        let begun = self.begin_unchained(Stream::Cold, created).await;
        let writer = begun.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => AppendError::Full,
            _ => AppendError::Failed(error.to_string()),
        })?;
        shared.cold.borrow_mut().begin(writer, created);
        self.prepare_spare();
        Ok(writer)
    }
}
