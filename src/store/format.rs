//! The octets of the fixed structures on disk: superblock, segment header, batch header, blob
//! header. `docs/FORMAT.md` gives every field; this file is the only one that knows the offsets.
//!
//! All numbers are little-endian. Every structure carries an xxh3-64 seeded with the place it was
//! written to (store, log, segment number, offset): a stale structure of a recycled segment, or one
//! that a disk wrote elsewhere, never passes.

use crate::bytes::codec::{Put, Reader, to_u64};
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, LogId, Lsn};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The version of everything below; a store of a later one is refused.
pub const FORMAT: u32 = 1;
const SUPERBLOCK_MAGIC: u64 = u64::from_le_bytes(*b"POMBALSB");
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"POMBALSG");
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"PBAT");
const BLOB_MAGIC: u32 = u32::from_le_bytes(*b"PBLB");

/// Copies of the superblock, one block each.
pub const SUPERBLOCK_COPIES: usize = 4;
/// Octets of a batch header.
pub const BATCH_HEADER_OCTETS: usize = 128;
/// Octets of one blob's line in the meta region: id, place, octets.
pub const BLOB_LINE_OCTETS: usize = 24;
/// Octets of the header in front of a blob, and what blobs are aligned to.
pub const BLOB_HEADER_OCTETS: usize = 64;
/// Octets of a record header.
pub const RECORD_HEADER_OCTETS: usize = 16;

/// What made the store and which log of it this is; goes into every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub store: u128,
    pub log: LogId,
    /// How many logs the store was made with: it may have more by now. Accounts of which nothing else
    /// is known lie by this number ([`crate::model::id::AccountId::log`]).
    pub first_logs: u16,
}

impl Identity {
    /// The seed for a structure at `offset` of segment number `segment`.
    pub fn seed(&self, segment: u64, offset: u64) -> u64 {
        let mut place = [0_u8; 34];
        place[..16].copy_from_slice(&self.store.to_le_bytes());
        place[16..18].copy_from_slice(&self.log.0.to_le_bytes());
        place[18..26].copy_from_slice(&segment.to_le_bytes());
        place[26..].copy_from_slice(&offset.to_le_bytes());
        xxh3_64(&place)
    }

    /// The seed for a blob's octets: the same wherever the blob lies, so that it can be moved.
    pub fn blob_seed(&self, id: BlobId) -> u64 {
        self.seed(u64::MAX, id.0)
    }
}

/// Writes the checksum of a whole-block structure into its last eight octets.
fn seal_block(mut fields: Vec<u8>, seed: u64) -> Vec<u8> {
    fields.resize(BLOCK_OCTETS - 8, 0);
    let check = xxh3_64_with_seed(&fields, seed);
    fields.put_u64(check);
    fields
}

/// The fields of a whole-block structure if its checksum is right.
fn open_block(block: &[u8], seed: u64) -> Option<Reader<'_>> {
    let (fields, check) = block.split_at_checked(BLOCK_OCTETS - 8)?;
    let stored = u64::from_le_bytes(check.first_chunk().copied()?);
    (xxh3_64_with_seed(fields, seed) == stored).then(|| Reader::new(fields))
}

/// Where a record stands in the index stream: enough to read and check it by itself.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct PageAt {
    pub slot: u32,
    /// The batch's place in its segment, in blocks.
    pub batch: u32,
    /// The record's place in its batch, in octets.
    pub record: u32,
    /// Octets of the record with its header.
    pub len: u32,
    /// The segment's number when it was written.
    pub segment: u64,
}

/// The root of everything: which store this is and where the last checkpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub identity: Identity,
    /// Counts the writes of the superblock.
    pub seq: u64,
    /// Counts the times this log was opened; batches carry it.
    pub epoch: u64,
    pub segment_octets: u64,
    /// The root record of the last checkpoint.
    pub root: PageAt,
    /// What the log must at least reach to.
    pub reached: Reached,
}

/// A batch that was durable when this was noted, and the segment it, or the one behind it, lies in:
/// a log that ends before it lost something. 0 in superblocks of before it was noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    pub segment: u64,
    pub lsn: Lsn,
}

impl Superblock {
    /// One copy.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_OCTETS);
        out.put_u64(SUPERBLOCK_MAGIC);
        out.put_u32(FORMAT);
        out.put_u16(self.identity.log.0);
        out.put_u16(self.identity.first_logs);
        out.put_u128(self.identity.store);
        out.put_u64(self.seq);
        out.put_u64(self.epoch);
        out.put_u64(self.segment_octets);
        out.put_u32(self.root.slot);
        out.put_u32(self.root.batch);
        out.put_u32(self.root.record);
        out.put_u32(self.root.len);
        out.put_u64(self.root.segment);
        out.put_u64(self.reached.segment);
        out.put_u64(self.reached.lsn.0);
        seal_block(out, SUPERBLOCK_MAGIC)
    }

    /// One copy back; `Err` says what is wrong with it.
    pub fn decode(block: &[u8]) -> Result<Superblock, &'static str> {
        const SHORT: &str = "it is too short";
        let mut fields = open_block(block, SUPERBLOCK_MAGIC).ok_or("its checksum is wrong")?;
        let mut read =
            || -> Result<Result<Superblock, &'static str>, crate::bytes::codec::Short> {
                if fields.u64()? != SUPERBLOCK_MAGIC {
                    return Ok(Err("it is no superblock"));
                }
                if fields.u32()? != FORMAT {
                    return Ok(Err("its format is of another release"));
                }
                let log = LogId(fields.u16()?);
                let first_logs = fields.u16()?;
                let identity = Identity { store: fields.u128()?, log, first_logs };
                Ok(Ok(Superblock {
                    identity,
                    seq: fields.u64()?,
                    epoch: fields.u64()?,
                    segment_octets: fields.u64()?,
                    root: PageAt {
                        slot: fields.u32()?,
                        batch: fields.u32()?,
                        record: fields.u32()?,
                        len: fields.u32()?,
                        segment: fields.u64()?,
                    },
                    reached: Reached { segment: fields.u64()?, lsn: Lsn(fields.u64()?) },
                }))
            };
        read().map_err(|_| SHORT)?
    }

    /// The newest of the copies that at least two agree on.
    pub fn choose(copies: &[u8]) -> Result<Superblock, String> {
        let read: Vec<Result<Superblock, &'static str>> =
            copies.chunks(BLOCK_OCTETS).map(Superblock::decode).collect();
        let good: Vec<Superblock> = read.iter().filter_map(|copy| copy.ok()).collect();
        good.iter()
            .filter(|one| good.iter().filter(|other| other == one).count() >= 2)
            .max_by_key(|one| one.seq)
            .copied()
            .ok_or_else(|| {
                let why: Vec<&str> =
                    read.iter().map(|copy| copy.err().unwrap_or("no other agrees")).collect();
                format!("no two copies of the superblock agree: {}", why.join("; "))
            })
    }
}

/// What a segment is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Commits, in the order they were answered.
    Hot,
    /// Survivors of cleaning.
    Cold,
    /// Pages of checkpoints.
    Index,
}

impl Stream {
    const fn code(self) -> u8 {
        match self {
            Stream::Hot => 1,
            Stream::Cold => 2,
            Stream::Index => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Stream> {
        match code {
            1 => Some(Stream::Hot),
            2 => Some(Stream::Cold),
            3 => Some(Stream::Index),
            _ => None,
        }
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub stream: Stream,
    pub epoch: u64,
    /// Numbers the segments of this log over all its life, from 1.
    pub segment: u64,
    /// The segment before this one in its stream; 0 for none.
    pub previous: u64,
    /// The last batch of the previous segment that counts. Whatever stands behind it there was
    /// never answered and is left out for good.
    pub previous_valid: Lsn,
    /// The header checksum of that batch; the next one chains to it.
    pub previous_check: u64,
    /// Seconds since 1970.
    pub created: u64,
}

impl SegmentHeader {
    pub fn encode(&self, identity: &Identity, slot: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_OCTETS);
        out.put_u64(SEGMENT_MAGIC);
        out.put_u32(FORMAT);
        out.put_u16(identity.log.0);
        out.put_u8(self.stream.code());
        out.put_u8(0);
        out.put_u128(identity.store);
        out.put_u64(self.epoch);
        out.put_u64(self.segment);
        out.put_u64(self.previous);
        out.put_u64(self.previous_valid.0);
        out.put_u64(self.previous_check);
        out.put_u64(self.created);
        seal_block(out, identity.seed(0, u64::from(slot)))
    }

    /// Whose segment it is, as it says itself; `None` where the block does not pass as such.
    pub fn whose(block: &[u8], slot: u32) -> Option<Identity> {
        let mut fields = Reader::new(block.get(12..32)?);
        let log = LogId(fields.u16().ok()?);
        fields.u16().ok()?;
        let identity = Identity { store: fields.u128().ok()?, log, first_logs: 0 };
        SegmentHeader::decode(block, &identity, slot).map(|_| identity)
    }

    /// `None`: this segment was never begun, or its beginning did not reach the disk.
    pub fn decode(block: &[u8], identity: &Identity, slot: u32) -> Option<SegmentHeader> {
        let mut fields = open_block(block, identity.seed(0, u64::from(slot)))?;
        if fields.u64().ok()? != SEGMENT_MAGIC || fields.u32().ok()? != FORMAT {
            return None;
        }
        fields.u16().ok()?;
        let stream = Stream::from_code(fields.u8().ok()?)?;
        fields.u8().ok()?;
        fields.u128().ok()?;
        Some(SegmentHeader {
            stream,
            epoch: fields.u64().ok()?,
            segment: fields.u64().ok()?,
            previous: fields.u64().ok()?,
            previous_valid: Lsn(fields.u64().ok()?),
            previous_check: fields.u64().ok()?,
            created: fields.u64().ok()?,
        })
    }
}

/// The head of a batch: what makes it a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub stream: Stream,
    pub epoch: u64,
    pub lsn: Lsn,
    /// The last batch that was on stable storage when this one was written.
    pub durable_upto: Lsn,
    /// The whole batch, in blocks.
    pub blocks: u32,
    /// Octets of the meta region, right behind the header: blob lines, then records.
    pub meta_octets: u32,
    pub meta_check: u64,
    pub blob_count: u32,
    pub record_count: u32,
    /// Microseconds since 1970.
    pub time: u64,
    /// The header checksum of the batch before it.
    pub previous_check: u64,
}

impl BatchHeader {
    /// The header's octets and its checksum.
    pub fn encode(&self, seed: u64) -> ([u8; BATCH_HEADER_OCTETS], u64) {
        let mut fields = Vec::with_capacity(BATCH_HEADER_OCTETS);
        fields.put_u8(self.stream.code());
        fields.put_u8(0);
        fields.put_u16(0);
        fields.put_u32(self.blocks);
        fields.put_u64(self.epoch);
        fields.put_u64(self.lsn.0);
        fields.put_u64(self.durable_upto.0);
        fields.put_u32(self.meta_octets);
        fields.put_u32(self.blob_count);
        fields.put_u32(self.record_count);
        fields.put_u32(0);
        fields.put_u64(self.meta_check);
        fields.put_u64(self.time);
        fields.put_u64(self.previous_check);
        fields.resize(BATCH_HEADER_OCTETS - 16, 0);
        let check = xxh3_64_with_seed(&fields, seed);
        let mut out = [0; BATCH_HEADER_OCTETS];
        out[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        out[8..16].copy_from_slice(&check.to_le_bytes());
        out[16..].copy_from_slice(&fields);
        (out, check)
    }

    /// The header and its checksum; `None` if there is none here.
    pub fn decode(octets: &[u8], seed: u64) -> Option<(BatchHeader, u64)> {
        let mut reader = Reader::new(octets.get(..BATCH_HEADER_OCTETS)?);
        if reader.u32().ok()? != BATCH_MAGIC || reader.u32().ok()? != FORMAT {
            return None;
        }
        let check = reader.u64().ok()?;
        if xxh3_64_with_seed(reader.rest(), seed) != check {
            return None;
        }
        let stream = Stream::from_code(reader.u8().ok()?)?;
        reader.u8().ok()?;
        reader.u16().ok()?;
        let blocks = reader.u32().ok()?;
        let epoch = reader.u64().ok()?;
        let lsn = Lsn(reader.u64().ok()?);
        let durable_upto = Lsn(reader.u64().ok()?);
        let meta_octets = reader.u32().ok()?;
        let blob_count = reader.u32().ok()?;
        let record_count = reader.u32().ok()?;
        reader.u32().ok()?;
        let header = BatchHeader {
            stream,
            epoch,
            lsn,
            durable_upto,
            blocks,
            meta_octets,
            meta_check: reader.u64().ok()?,
            blob_count,
            record_count,
            time: reader.u64().ok()?,
            previous_check: reader.u64().ok()?,
        };
        let meta_end = u64::from(meta_octets) + to_u64(BATCH_HEADER_OCTETS);
        (meta_end <= u64::from(blocks) * to_u64(BLOCK_OCTETS)).then_some((header, check))
    }
}

/// The head of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHeader {
    pub id: BlobId,
    /// The log that first held it; with `id` the EMAILID (RFC 8474 §5.1).
    pub birth: LogId,
    /// 0: stored as it is; 1: packed (`pack.rs`).
    pub codec: u8,
    /// 0: none, the only one yet.
    pub dictionary: u16,
    pub summary_octets: u32,
    /// Octets of the message.
    pub octets: u64,
    /// Octets of the message as stored.
    pub stored_octets: u64,
    /// Over summary and stored octets, seeded with the blob's identity.
    pub check: u64,
    /// Over the summary alone, for those who read no further: see [`summary_check`].
    /// 0 in blobs of before it was kept: then only `check` tells.
    pub summary_check: u32,
}

/// The check of a summary that is read without its message: the lower half of its xxh3-64.
pub fn summary_check(summary: &[u8], seed: u64) -> u32 {
    let low = xxh3_64_with_seed(summary, seed) & u64::from(u32::MAX);
    u32::try_from(low).expect("masked to 32 bits")
}

impl BlobHeader {
    pub fn encode(&self, seed: u64) -> [u8; BLOB_HEADER_OCTETS] {
        let mut fields = Vec::with_capacity(BLOB_HEADER_OCTETS);
        fields.put_u64(self.id.0);
        fields.put_u16(self.birth.0);
        fields.put_u8(self.codec);
        fields.put_u8(0);
        fields.put_u16(self.dictionary);
        fields.put_u16(0);
        fields.put_u32(self.summary_octets);
        fields.put_u64(self.octets);
        fields.put_u64(self.stored_octets);
        fields.put_u64(self.check);
        fields.put_u32(self.summary_check);
        fields.resize(BLOB_HEADER_OCTETS - 16, 0);
        let mut out = [0; BLOB_HEADER_OCTETS];
        out[..4].copy_from_slice(&BLOB_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        out[8..16].copy_from_slice(&xxh3_64_with_seed(&fields, seed).to_le_bytes());
        out[16..].copy_from_slice(&fields);
        out
    }

    pub fn decode(octets: &[u8], seed: u64) -> Option<BlobHeader> {
        let mut reader = Reader::new(octets.get(8..BLOB_HEADER_OCTETS)?);
        let check = reader.u64().ok()?;
        if xxh3_64_with_seed(reader.rest(), seed) != check {
            return None;
        }
        BlobHeader::decode_anywhere(octets)
    }

    /// A header whose own check is not asked, for it is another's place that it may have been written
    /// for: only the check of the content says whether any of it is true.
    pub fn decode_anywhere(octets: &[u8]) -> Option<BlobHeader> {
        let mut reader = Reader::new(octets.get(..BLOB_HEADER_OCTETS)?);
        if reader.u32().ok()? != BLOB_MAGIC || reader.u32().ok()? != FORMAT {
            return None;
        }
        reader.u64().ok()?;
        let id = BlobId(reader.u64().ok()?);
        let birth = LogId(reader.u16().ok()?);
        let codec = reader.u8().ok()?;
        reader.u8().ok()?;
        let dictionary = reader.u16().ok()?;
        reader.u16().ok()?;
        Some(BlobHeader {
            id,
            birth,
            codec,
            dictionary,
            summary_octets: reader.u32().ok()?,
            octets: reader.u64().ok()?,
            stored_octets: reader.u64().ok()?,
            check: reader.u64().ok()?,
            summary_check: reader.u32().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { store: 0x0123_4567_89ab_cdef_0011_2233_4455_6677, log: LogId(3), first_logs: 4 };

    fn superblock(seq: u64) -> Superblock {
        let root = PageAt { slot: 1, batch: 2, record: 128, len: 99, segment: 7 };
        Superblock {
            identity: IDENTITY,
            seq,
            epoch: 2,
            segment_octets: 1 << 20,
            root,
            reached: Reached::default(),
        }
    }

    #[test]
    fn chooses_the_newest_superblock_that_two_copies_agree_on() {
        let (old, new) = (superblock(4).encode(), superblock(5).encode());
        let torn = {
            let mut torn = new.clone();
            torn[600] ^= 1;
            torn
        };
        for (copies, want) in [
            ([&new, &new, &old, &old], Some(5)),
            ([&new, &torn, &old, &old], Some(4)),
            ([&new, &new, &old, &torn], Some(5)),
            ([&new, &torn, &old, &torn], None),
        ] {
            let octets: Vec<u8> = copies.into_iter().flatten().copied().collect();
            assert_eq!(Superblock::choose(&octets).ok().map(|found| found.seq), want);
        }
    }

    #[test]
    fn refuses_a_header_at_any_other_place() {
        let header = SegmentHeader {
            stream: Stream::Hot,
            epoch: 1,
            segment: 9,
            previous: 8,
            previous_valid: Lsn(77),
            previous_check: 5,
            created: 1,
        };
        let block = header.encode(&IDENTITY, 6);
        assert_eq!(SegmentHeader::decode(&block, &IDENTITY, 6), Some(header));
        assert_eq!(SegmentHeader::decode(&block, &IDENTITY, 7), None);
    }

    #[test]
    fn finds_every_flipped_bit_of_batch_and_blob_headers() {
        let batch = BatchHeader {
            stream: Stream::Index,
            epoch: 3,
            lsn: Lsn(12),
            durable_upto: Lsn(10),
            blocks: 5,
            meta_octets: 300,
            meta_check: 1,
            blob_count: 2,
            record_count: 3,
            time: 4,
            previous_check: 5,
        };
        let (octets, check) = batch.encode(11);
        assert_eq!(BatchHeader::decode(&octets, 11), Some((batch, check)));
        let blob = BlobHeader {
            id: BlobId(8),
            birth: LogId(1),
            codec: 0,
            dictionary: 0,
            summary_octets: 10,
            octets: 20,
            stored_octets: 20,
            check: 30,
            summary_check: 31,
        };
        let blob_octets = blob.encode(11);
        assert_eq!(BlobHeader::decode(&blob_octets, 11), Some(blob));
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&flipped, 11), None, "bit {bit}");
        }
        for bit in 0..blob_octets.len() * 8 {
            let mut flipped = blob_octets;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlobHeader::decode(&flipped, 11), None, "bit {bit}");
        }
    }
}
