//! The new log: what is referred to lies in its cold stream, the state in its first checkpoint.
//!
//! Its batches and segments are numbered on from the old ones, and its blobs keep their numbers: so
//! that nothing of the one is ever taken for something of the other.

use super::Source;
use super::rebuild::{Rebuilt, read_blob};
use crate::bytes::codec::{to_u64, to_usize};
use crate::env::{BLOCK_OCTETS, Env, File as _};
use crate::model::id::{BlobId, Lsn};
use crate::store::checkpoint::{Index, Writer};
use crate::store::cold::{self, Cold, ColdPlace, Survivor};
use crate::store::format::{BlobHeader, SegmentHeader, Stream};
use crate::store::log::{HotSegment, Log, Parts, Position, Registry};
use crate::store::pack;
use crate::store::segments::{Local, SegmentStore, SuperblockFile};
use crate::store::table::{BlobTable, Location};
use crate::store::{Damaged, OpenError, Settings};
use std::io;
use std::path::Path;

/// Octets of blobs that are written as one batch; a larger blob makes a larger one.
const BATCH_OCTETS: usize = 4 << 20;
/// Numbers of blobs that may have been given and told, and that nothing knows of any more.
const BLOBS_UNKNOWN: u64 = 1 << 20;

/// A blob on its way.
struct Lifted {
    header: BlobHeader,
    octets: Vec<u8>,
}

/// Writes the log into `dir`, which must not have one, with the state of `machines`, which are those
/// behind the menders that were filled. `progress` hears of the octets that were written.
pub async fn write<E: Env>(
    env: E,
    dir: &Path,
    settings: Settings,
    (source, rebuilt): (&dyn Source, &Rebuilt),
    machines: Registry,
    progress: &mut dyn FnMut(u64),
) -> Result<Log<E>, OpenError> {
    env.make_dir(dir).await?;
    if env.list(dir).await?.iter().any(|name| name.starts_with("seg-") || name == "superblock") {
        return Err(OpenError::Mismatch(format!("there is a log in {}", dir.display())));
    }
    let order = order(&machines, rebuilt);
    let log = begin(env, dir, settings, rebuilt, machines).await?;
    // Small segments are not left half empty.
    let most = BATCH_OCTETS.min(to_usize(log.shared.segments.segment_octets()) / 4);
    let mut batch: Vec<Lifted> = Vec::new();
    let (mut waiting, mut written) = (0, 0);
    for id in order {
        let Some(place) = rebuilt.scan.blobs.get(&id) else { continue };
        if waiting > 0 && waiting + place.octets > most {
            written += put(&log, rebuilt, std::mem::take(&mut batch)).await?;
            progress(written);
            waiting = 0;
        }
        let (header, octets) = read_blob(source, &rebuilt.identity, id, place)?;
        waiting += place.octets;
        batch.push(Lifted { header, octets });
    }
    put(&log, rebuilt, batch).await?;
    for (_, machine) in &log.shared.machines {
        machine.borrow_mut().taint();
    }
    let saved = log.checkpoint().await;
    saved.map_err(|error| OpenError::Io(io::Error::other(error.to_string())))?;
    Ok(log)
}

/// Blobs in the order in which their owners read them, then all others.
fn order(machines: &Registry, rebuilt: &Rebuilt) -> Vec<BlobId> {
    let mut left: std::collections::BTreeSet<BlobId> = rebuilt.references.keys().copied().collect();
    let mut order = Vec::with_capacity(left.len());
    for (_, machine) in machines {
        let machine = machine.borrow();
        for shelf in machine.shelves() {
            let mut from = Some(0);
            while let Some(at) = from {
                from = machine.shelve(shelf, at, &mut |id| {
                    if left.remove(&id) {
                        order.push(id);
                    }
                });
            }
        }
    }
    order.extend(left);
    order
}

/// A log without anything, whose numbers go on where the old one ended.
async fn begin<E: Env>(
    env: E,
    dir: &Path,
    settings: Settings,
    rebuilt: &Rebuilt,
    machines: Registry,
) -> Result<Log<E>, OpenError> {
    let identity = rebuilt.identity;
    let size = to_usize(rebuilt.segment_octets).next_multiple_of(BLOCK_OCTETS);
    let epoch = rebuilt.epoch + 1;
    let known = rebuilt.scan.segments.iter().map(|one| one.segment);
    let segment = known.chain(rebuilt.losses.segments.iter().copied()).max().unwrap_or(0) + 1;
    let bounds = (settings.segments_max, settings.logs_on_disk);
    let segments = Local::open(env.clone(), dir, identity, to_u64(size), bounds).await?;
    let lsn = Lsn(rebuilt.last.0.max(1));
    let created = env.wall().0 / 1_000_000;
    let header = SegmentHeader {
        stream: Stream::Hot,
        epoch,
        segment,
        previous: 0,
        previous_valid: lsn,
        previous_check: 0,
        created,
    };
    let slot = segments.create(header).await?;
    let octets = to_u64(SuperblockFile::<E::File>::OCTETS);
    let file = env.create(&SuperblockFile::<E::File>::path(dir), octets).await?;
    debug_assert_eq!(file.len(), octets);
    Ok(Log::start(Parts {
        env,
        identity,
        epoch,
        segments,
        superblock: SuperblockFile::new(file),
        machines,
        table: BlobTable::new(settings.planted),
        settings,
        cold: Cold::default(),
        tail: Position { segment, slot, offset: to_u64(BLOCK_OCTETS), lsn, check: 0 },
        hot: vec![HotSegment { slot, segment, last: Lsn(0), created }],
        next_segment: segment + 1,
        next_blob: rebuilt.scan.highest_blob + 1 + unknown(rebuilt),
        index: Index::default(),
    }))
}

fn unknown(rebuilt: &Rebuilt) -> u64 {
    if rebuilt.losses.of_records() { BLOBS_UNKNOWN } else { 0 }
}

/// Writes blobs as one batch of the cold stream and enters them into the table; octets written.
async fn put<E: Env>(
    log: &Log<E>,
    rebuilt: &Rebuilt,
    batch: Vec<Lifted>,
) -> Result<u64, OpenError> {
    if batch.is_empty() {
        return Ok(0);
    }
    let shared = &log.shared;
    let len = cold::batch_octets(batch.iter().map(|one| one.octets.len()));
    let writer = writer(log, len).await?;
    let survivors: Vec<Survivor<'_>> =
        batch.iter().map(|one| Survivor { header: one.header, octets: &one.octets }).collect();
    let lsn = shared.applied.get().lsn;
    let place = ColdPlace { writer, epoch: shared.epoch, lsn, time: shared.env.wall().0 };
    let mut block = shared.segments.alloc(len);
    let lines = cold::encode(block.as_mut(), &survivors, &shared.identity, &place);
    shared.segments.write(writer.slot, writer.offset, block).await?;
    shared.segments.sync(writer.slot).await?;
    let end = writer.offset + to_u64(len);
    let mut cold = shared.cold.borrow_mut();
    cold.writer = Some(Writer { offset: end, ..writer });
    let is_packed = batch.iter().any(|one| one.header.codec != pack::PLAIN);
    cold.note(writer.slot, writer.segment, end, is_packed);
    let mut table = shared.table.borrow_mut();
    for line in lines {
        table.insert(lsn, writer.slot, 0, &line);
        let count = rebuilt.references.get(&line.id).copied().unwrap_or(0);
        let count = i32::try_from(count).map_err(|_| Damaged("too many references".into()))?;
        table.change(lsn, line.id, count);
        debug_assert_eq!(table.locate(line.id), Some(Location::of(writer.slot, 0, &line)));
    }
    Ok(to_u64(len))
}

async fn writer<E: Env>(log: &Log<E>, len: usize) -> Result<Writer, OpenError> {
    let shared = &log.shared;
    let known = shared.cold.borrow().writer;
    let size = shared.segments.segment_octets();
    if let Some(writer) = known.filter(|writer| writer.offset + to_u64(len) <= size) {
        return Ok(writer);
    }
    let created = shared.env.wall().0 / 1_000_000;
    let writer = log.begin_unchained(Stream::Cold, created).await?;
    shared.cold.borrow_mut().begin(writer, created);
    Ok(writer)
}
