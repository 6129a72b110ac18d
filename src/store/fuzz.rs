//! Laws of the parsers of what is on disk, for fuzzers and for the replay of what they found.
//!
//! Random octets never get past a checksum, so these make structures with sound checksums around
//! hostile fields: whatever a batch says about itself, reading it ends in an answer. What was
//! written comes back the same, and no flipped bit goes unnoticed.

use super::batch::{
    Place, batch_octets, check_whole, encode, group_octets, open_blob, open_meta, open_record,
    record_check,
};
use super::blob::BlobDraft;
use super::format::{
    BATCH_HEADER_OCTETS, BLOB_HEADER_OCTETS, BLOB_LINE_OCTETS, BatchHeader, BlobHeader, Identity,
    PageAt, RECORD_HEADER_OCTETS, Reached, SUPERBLOCK_COPIES, SegmentHeader, Stream, Superblock,
    summary_check,
};
use super::pack;
use super::record::Group;
use crate::bytes::codec::{Reader, to_u64, to_usize};
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, LogId, Lsn};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const IDENTITY: Identity = Identity { store: 0xF0_22, log: LogId(1), first_logs: 2 };
const SEGMENT: u64 = 3;
const OFFSET: u64 = 8_192;

/// Fields off the front of the fuzzer's octets; zeros once they are used up.
struct Fields<'a>(Reader<'a>);

impl Fields<'_> {
    fn u8(&mut self) -> u8 {
        self.0.u8().unwrap_or_default()
    }
    fn u16(&mut self) -> u16 {
        self.0.u16().unwrap_or_default()
    }
    fn u32(&mut self) -> u32 {
        self.0.u32().unwrap_or_default()
    }
    fn u64(&mut self) -> u64 {
        self.0.u64().unwrap_or_default()
    }
    fn octets(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.0.rest().len());
        self.0.take(count).map(<[u8]>::to_vec).unwrap_or_default()
    }
    fn stream(&mut self) -> Stream {
        match self.u8() % 3 {
            0 => Stream::Hot,
            1 => Stream::Cold,
            _ => Stream::Index,
        }
    }
}

/// Superblock and segment header: garbage is refused, what was written comes back, and the copies
/// are chosen from by the rule of two.
pub fn fuzz_superblock(data: &[u8]) {
    assert!(Superblock::choose(data).is_err(), "two checksums by chance");
    assert_eq!(SegmentHeader::decode(data, &IDENTITY, 0), None, "a checksum by chance");
    let mut fields = Fields(Reader::new(data));
    let superblock = Superblock {
        identity: Identity {
            store: u128::from(fields.u64()),
            log: LogId(fields.u16()),
            first_logs: fields.u16(),
        },
        seq: fields.u64(),
        epoch: fields.u64(),
        segment_octets: fields.u64(),
        root: PageAt {
            slot: fields.u32(),
            batch: fields.u32(),
            record: fields.u32(),
            len: fields.u32(),
            segment: fields.u64(),
        },
        reached: Reached { segment: fields.u64(), lsn: Lsn(fields.u64()) },
    };
    let octets = superblock.encode();
    assert_eq!(Superblock::decode(&octets), Ok(superblock));
    let header = SegmentHeader {
        stream: fields.stream(),
        epoch: fields.u64(),
        segment: fields.u64(),
        previous: fields.u64(),
        previous_valid: Lsn(fields.u64()),
        previous_check: fields.u64(),
        created: fields.u64(),
    };
    let slot = fields.u32();
    let block = header.encode(&IDENTITY, slot);
    assert_eq!(SegmentHeader::decode(&block, &IDENTITY, slot), Some(header));
    assert_eq!(SegmentHeader::decode(&block, &IDENTITY, slot ^ 1), None);

    // One copy that a power cut left half written.
    let mut copies = octets.repeat(SUPERBLOCK_COPIES);
    let (copy, at) = (usize::from(fields.u8()) % SUPERBLOCK_COPIES, usize::from(fields.u16()));
    copies[copy * BLOCK_OCTETS + at % BLOCK_OCTETS] ^= fields.u8();
    assert_eq!(Superblock::choose(&copies), Ok(superblock));
}

/// One record with a sound checksum, cut off anywhere.
pub fn fuzz_record(data: &[u8]) {
    let mut fields = Fields(Reader::new(data));
    let (seed, at, keep) = (fields.u64(), usize::from(fields.u16()), usize::from(fields.u16()));
    drop(open_record(fields.0.rest(), seed, at));
    let mut octets = fields.0.rest().to_vec();
    seal_record(&mut octets, 0, seed, at);
    octets.truncate(keep.max(1));
    if let Ok((record, used)) = open_record(&octets, seed, at) {
        let end = RECORD_HEADER_OCTETS + record.body.len();
        assert!(end <= octets.len() && used >= end && used < end + 8);
        assert_eq!(record.body, &octets[RECORD_HEADER_OCTETS..end]);
        assert!(open_record(&octets, seed, at + 8).is_err(), "it passes at another place");
    }
}

/// A whole batch with blobs: one that we wrote and one with hostile fields under sound checksums.
pub fn fuzz_batch(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    if first & 1 == 0 { honest(rest) } else { hostile(rest) }
}

fn honest(data: &[u8]) {
    let mut fields = Fields(Reader::new(data));
    let flip = to_usize(u64::from(fields.u32()));
    let mut groups = Vec::new();
    while !fields.0.rest().is_empty() && groups.len() < 8 {
        let mut group = Group::new();
        for _ in 0..fields.u8() % 4 {
            let (kind, version, account) = (fields.u8(), fields.u8(), fields.u32());
            let len = usize::from(fields.u8());
            group.record(kind, version, account, fields.octets(len));
        }
        for _ in 0..fields.u8() % 3 {
            let id = BlobId(fields.u64());
            let lens = [fields.u8(), fields.u8(), fields.u8()].map(usize::from);
            let [summary, one, other] = lens.map(|len| fields.octets(len));
            group.blobs.push(BlobDraft { id, summary, parts: vec![one, other] });
        }
        groups.push(group);
    }
    let place = Place {
        segment: SEGMENT,
        offset: OFFSET,
        stream: Stream::Hot,
        epoch: 1,
        lsn: Lsn(5),
        durable_upto: Lsn(4),
        time: 9,
        previous_check: 1,
    };
    let mut octets = vec![0xAA; batch_octets(groups.iter().map(group_octets).sum())];
    encode(&mut octets, &groups, &IDENTITY, &place);
    let records: Vec<_> = groups.iter().flat_map(|group| &group.records).collect();
    assert!(is_whole(&octets));
    let seed = IDENTITY.seed(SEGMENT, OFFSET);
    let (header, _) = BatchHeader::decode(&octets, seed).expect("it was just written");
    let mut meta = open_meta(&octets, &header, seed).expect("it was just written");
    for put in records {
        let got = meta.next_record().expect("it is whole").expect("it is there");
        assert_eq!((got.kind, got.version, got.account), (put.kind, put.version, put.account));
        assert_eq!(got.body, put.body);
    }
    assert_eq!(meta.next_record(), Ok(None));
    let bit = flip % (octets.len() * 8);
    octets[bit / 8] ^= 1 << (bit % 8);
    assert!(!is_whole(&octets), "bit {bit} matters to nobody");
}

fn is_whole(octets: &[u8]) -> bool {
    BatchHeader::decode(octets, IDENTITY.seed(SEGMENT, OFFSET))
        .is_some_and(|(header, _)| check_whole(octets, &header, &IDENTITY, SEGMENT, OFFSET).is_ok())
}

fn hostile(data: &[u8]) {
    let mut fields = Fields(Reader::new(data));
    let seed = IDENTITY.seed(SEGMENT, OFFSET);
    let mut header = BatchHeader {
        stream: fields.stream(),
        epoch: fields.u64(),
        lsn: Lsn(fields.u64()),
        durable_upto: Lsn(fields.u64()),
        blocks: u32::from(fields.u8()),
        meta_octets: u32::from(fields.u16()),
        meta_check: 0,
        blob_count: u32::from(fields.u8()),
        record_count: u32::from(fields.u8()),
        time: fields.u64(),
        previous_check: fields.u64(),
    };
    // What is read is not always as long as the header says.
    let mut octets = vec![0; (1 + usize::from(fields.u8() % 3)) * BLOCK_OCTETS];
    let content = fields.octets(octets.len() - BATCH_HEADER_OCTETS);
    octets[BATCH_HEADER_OCTETS..][..content.len()].copy_from_slice(&content);
    let lines = to_usize(u64::from(header.blob_count));
    for line in 0..lines {
        seal_blob(&mut octets, BATCH_HEADER_OCTETS + line * BLOB_LINE_OCTETS);
    }
    let mut at = BATCH_HEADER_OCTETS + lines * BLOB_LINE_OCTETS;
    for _ in 0..header.record_count {
        at += seal_record(&mut octets, at, seed, at);
    }
    let meta_end = BATCH_HEADER_OCTETS + to_usize(u64::from(header.meta_octets));
    if let Some(meta) = octets.get(BATCH_HEADER_OCTETS..meta_end) {
        header.meta_check = xxh3_64_with_seed(meta, seed);
    }
    octets[..BATCH_HEADER_OCTETS].copy_from_slice(&header.encode(seed).0);
    let Some((found, _)) = BatchHeader::decode(&octets, seed) else { return };
    assert_eq!(found, header);
    drop(check_whole(&octets, &header, &IDENTITY, SEGMENT, OFFSET));
    let Ok(mut meta) = open_meta(&octets, &header, seed) else { return };
    let mut records = 0;
    while let Ok(Some(record)) = meta.next_record() {
        assert!(record.body.len() <= to_usize(u64::from(header.meta_octets)));
        records += 1;
    }
    assert!(records <= header.record_count);
    for line in &meta.blobs {
        let blob = octets.get(line.offset..).unwrap_or_default();
        let place = OFFSET.wrapping_add(to_u64(line.offset));
        if let Ok(head) = open_blob(blob, line.id, &IDENTITY, SEGMENT, place) {
            if head.codec == pack::ZSTD {
                let content = &blob[BLOB_HEADER_OCTETS..pack::blob_octets(&head)];
                drop(pack::unpack_at_once(&head, content, &IDENTITY));
                continue;
            }
            let octets = to_u64(BLOB_HEADER_OCTETS) + u64::from(head.summary_octets) + head.octets;
            assert!(octets <= to_u64(blob.len()), "a message ends where its octets end");
        }
    }
}

/// Makes the checksum of a record at `start` right, if it is there. Returns its length.
fn seal_record(octets: &mut [u8], start: usize, seed: u64, at: usize) -> usize {
    let Some(record) = octets.get_mut(start..) else { return RECORD_HEADER_OCTETS };
    let len = Reader::new(record).u32().map_or(0, |len| to_usize(u64::from(len)));
    if let Some(checked) = record.get(8..RECORD_HEADER_OCTETS + len) {
        let check = record_check(checked, seed, at);
        record[4..8].copy_from_slice(&check.to_le_bytes());
    }
    (RECORD_HEADER_OCTETS + len).next_multiple_of(8)
}

/// Makes the checksums of the blob that the line at `line` names right, if it is there.
fn seal_blob(octets: &mut [u8], line: usize) {
    let mut reader = Reader::new(octets.get(line..).unwrap_or_default());
    let (Ok(id), Ok(offset)) = (reader.u64(), reader.u64()) else { return };
    let Some(blob) = octets.get_mut(to_usize(offset)..) else { return };
    let mut fields = Fields(Reader::new(blob));
    let mut header = BlobHeader {
        id: BlobId(id),
        birth: LogId(fields.u16()),
        codec: fields.u8() & 1,
        dictionary: fields.u16(),
        summary_octets: fields.u32(),
        octets: fields.u64(),
        stored_octets: fields.u64(),
        check: 0,
        summary_check: 0,
    };
    let content = header.stored_octets.checked_add(u64::from(header.summary_octets));
    let end = content.and_then(|content| content.checked_add(to_u64(BLOB_HEADER_OCTETS)));
    if let Some(content) = end.and_then(|end| blob.get(BLOB_HEADER_OCTETS..to_usize(end))) {
        let seed = IDENTITY.blob_seed(header.id);
        header.check = xxh3_64_with_seed(content, seed);
        let summary = content.get(..to_usize(u64::from(header.summary_octets)));
        header.summary_check = summary_check(summary.unwrap_or_default(), seed);
    }
    let seed = IDENTITY.seed(SEGMENT, OFFSET.wrapping_add(offset));
    let head = header.encode(seed);
    if let Some(target) = blob.get_mut(..BLOB_HEADER_OCTETS) {
        target.copy_from_slice(&head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_octets_get_an_answer() {
        arbtest::arbtest(|u| {
            let data = u.bytes(u.len().min(3_000))?;
            fuzz_superblock(data);
            fuzz_record(data);
            fuzz_batch(&[&[0], data].concat());
            fuzz_batch(&[&[1], data].concat());
            Ok(())
        });
    }
}
