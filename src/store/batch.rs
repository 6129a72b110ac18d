//! One batch: how groups become octets, and how octets become records again.
//!
//! ```text
//! batch := header 128 | blob lines 24 each | records | zeros to 64 | blobs, 64-aligned | zeros to a block
//! blob  := header 64 | summary | octets
//! ```

use super::blob::BlobDraft;
use super::format::{
    BATCH_HEADER_OCTETS, BLOB_HEADER_OCTETS, BLOB_LINE_OCTETS, BatchHeader, BlobHeader, Identity,
    RECORD_HEADER_OCTETS, Stream, summary_check,
};
use super::pack::{PLAIN, ZSTD};
use super::record::{OwnedRecord, Record};
use super::segments::round_up;
use super::{Damaged, Group, pack};
use crate::bytes::codec::{Reader, to_u32, to_u64, to_usize};
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, Lsn};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where a blob lies in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobLine {
    pub id: BlobId,
    /// From the start of the batch to the blob's header.
    pub offset: usize,
    /// Header, summary and stored octets.
    pub octets: usize,
}

/// Where a batch stands and what came before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    pub stream: Stream,
    pub epoch: u64,
    pub lsn: Lsn,
    pub durable_upto: Lsn,
    pub time: u64,
    pub previous_check: u64,
}

/// Octets of a record with its padding.
fn record_octets(body: usize) -> usize {
    (RECORD_HEADER_OCTETS + body).next_multiple_of(8)
}

fn blob_octets(blob: &BlobDraft) -> usize {
    BLOB_HEADER_OCTETS + blob.summary.len() + blob.octets()
}

/// Octets that a group adds to a batch; rounding to blocks not counted.
pub(super) fn group_octets(group: &Group) -> usize {
    let records: usize = group.records.iter().map(|record| record_octets(record.body.len())).sum();
    let blobs: usize = group
        .blobs
        .iter()
        .map(|blob| BLOB_LINE_OCTETS + blob_octets(blob).next_multiple_of(BLOB_HEADER_OCTETS))
        .sum();
    records + blobs
}

/// Octets of a batch of groups that add up to `groups` octets.
pub(super) fn batch_octets(groups: usize) -> usize {
    // The zeros to 64 between meta region and blobs are at most one blob header's length.
    round_up(BATCH_HEADER_OCTETS + groups + BLOB_HEADER_OCTETS)
}

/// What an encoded batch is.
pub(super) struct Encoded {
    pub blobs: Vec<BlobLine>,
    /// Where each record starts, counted from the start of the batch.
    pub records: Vec<usize>,
    /// The header's checksum, for the next batch to chain to.
    pub check: u64,
}

/// Appends a record; the checksum is seeded with the batch's place and the record's in it.
fn put_record(out: &mut [u8], at: usize, record: &OwnedRecord, seed: u64) -> usize {
    let end = at + record_octets(record.body.len());
    let target = &mut out[at..end];
    target.fill(0);
    target[..4].copy_from_slice(&to_u32(record.body.len()).to_le_bytes());
    target[8] = record.kind;
    target[9] = record.version;
    target[10..12].copy_from_slice(&record.flags.to_le_bytes());
    target[12..16].copy_from_slice(&record.account.to_le_bytes());
    target[16..16 + record.body.len()].copy_from_slice(&record.body);
    let checked = &target[8..RECORD_HEADER_OCTETS + record.body.len()];
    let check = record_check(checked, seed, at);
    target[4..8].copy_from_slice(&check.to_le_bytes());
    end
}

pub(super) fn record_check(checked: &[u8], seed: u64, at: usize) -> u32 {
    let check = xxh3_64_with_seed(checked, seed ^ to_u64(at));
    u32::try_from(check & 0xFFFF_FFFF).expect("masked to 32 bits")
}

/// Encodes `groups` into `out`, whose length is that of the batch (from [`batch_octets`]).
pub(super) fn encode(
    out: &mut [u8],
    groups: &[Group],
    identity: &Identity,
    place: &Place,
) -> Encoded {
    let seed = identity.seed(place.segment, place.offset);
    let blob_count: usize = groups.iter().map(|group| group.blobs.len()).sum();
    let lines_at = BATCH_HEADER_OCTETS;
    let mut at = lines_at + blob_count * BLOB_LINE_OCTETS;
    let mut records = Vec::new();
    for record in groups.iter().flat_map(|group| &group.records) {
        records.push(at);
        at = put_record(out, at, record, seed);
    }
    let meta_end = at;
    let mut blobs = Vec::with_capacity(blob_count);
    for blob in groups.iter().flat_map(|group| &group.blobs) {
        let start = at.next_multiple_of(BLOB_HEADER_OCTETS);
        out[at..start].fill(0);
        at = put_blob(out, start, blob, identity, place);
        blobs.push(BlobLine { id: blob.id, offset: start, octets: at - start });
    }
    out[at..].fill(0);
    for (line, target) in blobs.iter().zip(out[lines_at..].chunks_mut(BLOB_LINE_OCTETS)) {
        target[..8].copy_from_slice(&line.id.0.to_le_bytes());
        target[8..16].copy_from_slice(&to_u64(line.offset).to_le_bytes());
        target[16..24].copy_from_slice(&to_u64(line.octets).to_le_bytes());
    }
    let header = BatchHeader {
        stream: place.stream,
        epoch: place.epoch,
        lsn: place.lsn,
        durable_upto: place.durable_upto,
        blocks: to_u32(out.len() / BLOCK_OCTETS),
        meta_octets: to_u32(meta_end - BATCH_HEADER_OCTETS),
        meta_check: xxh3_64_with_seed(&out[BATCH_HEADER_OCTETS..meta_end], seed),
        blob_count: to_u32(blob_count),
        record_count: to_u32(records.len()),
        time: place.time,
        previous_check: place.previous_check,
    };
    let (octets, check) = header.encode(seed);
    out[..BATCH_HEADER_OCTETS].copy_from_slice(&octets);
    Encoded { blobs, records, check }
}

/// For measurements: encodes `groups` as one batch at the begin of a log into `out`, which is made
/// long enough. Returns the batch's length in octets.
#[cfg(any(test, feature = "sim"))]
pub fn encode_alone(out: &mut Vec<u8>, groups: &[Group], identity: &Identity) -> usize {
    let len = batch_octets(groups.iter().map(group_octets).sum());
    out.resize(out.len().max(len), 0);
    let place = Place {
        segment: 1,
        offset: to_u64(BLOCK_OCTETS),
        stream: Stream::Hot,
        epoch: 1,
        lsn: Lsn(1),
        durable_upto: Lsn(0),
        time: 0,
        previous_check: 0,
    };
    encode(&mut out[..len], groups, identity, &place);
    len
}

fn put_blob(
    out: &mut [u8],
    start: usize,
    blob: &BlobDraft,
    identity: &Identity,
    place: &Place,
) -> usize {
    let body = start + BLOB_HEADER_OCTETS;
    let mut end = body;
    for part in std::iter::once(&blob.summary).chain(&blob.parts) {
        out[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    let header = BlobHeader {
        id: blob.id,
        birth: identity.log,
        codec: PLAIN,
        dictionary: 0,
        summary_octets: to_u32(blob.summary.len()),
        octets: to_u64(blob.octets()),
        stored_octets: to_u64(blob.octets()),
        check: xxh3_64_with_seed(&out[body..end], identity.blob_seed(blob.id)),
        summary_check: summary_check(&blob.summary, identity.blob_seed(blob.id)),
    };
    let seed = identity.seed(place.segment, place.offset + to_u64(start));
    out[start..body].copy_from_slice(&header.encode(seed));
    end
}

/// The meta region of a batch whose header was read.
#[derive(Debug)]
pub(super) struct Meta<'a> {
    pub blobs: Vec<BlobLine>,
    records: Reader<'a>,
    count: u32,
    seed: u64,
    at: usize,
}

/// Checks the meta region that follows `header` in `octets` (which starts with the header).
pub(super) fn open_meta<'a>(
    octets: &'a [u8],
    header: &BatchHeader,
    seed: u64,
) -> Result<Meta<'a>, Damaged> {
    let broken = || Damaged(format!("the meta region of batch {} is damaged", header.lsn));
    let end = BATCH_HEADER_OCTETS + to_usize(u64::from(header.meta_octets));
    let meta = octets.get(BATCH_HEADER_OCTETS..end).ok_or_else(broken)?;
    if xxh3_64_with_seed(meta, seed) != header.meta_check {
        return Err(broken());
    }
    let batch_end = u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
    let mut reader = Reader::new(meta);
    let mut blobs = Vec::new();
    for _ in 0..header.blob_count {
        let mut line = || -> Result<BlobLine, crate::bytes::codec::Short> {
            Ok(BlobLine {
                id: BlobId(reader.u64()?),
                offset: to_usize(reader.u64()?),
                octets: to_usize(reader.u64()?),
            })
        };
        let line = line().map_err(|_| broken())?;
        // Whoever has it may add: it lies in its batch.
        let blob_end = line.offset.checked_add(line.octets).map(to_u64);
        if blob_end.is_none_or(|end| end > batch_end) {
            return Err(broken());
        }
        blobs.push(line);
    }
    let at = end - reader.rest().len();
    Ok(Meta { blobs, records: reader, count: header.record_count, seed, at })
}

impl<'a> Meta<'a> {
    /// The next record; `Ok(None)` after the last.
    pub(super) fn next_record(&mut self) -> Result<Option<Record<'a>>, Damaged> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count -= 1;
        let (record, used) = open_record(self.records.rest(), self.seed, self.at)?;
        self.records
            .take(used.min(self.records.rest().len()))
            .map_err(|_| Damaged("a record is longer than its batch".into()))?;
        self.at += used;
        Ok(Some(record))
    }
}

/// One record at the front of `octets`, which stand `at` in the batch of `seed`.
pub(super) fn open_record(
    octets: &[u8],
    seed: u64,
    at: usize,
) -> Result<(Record<'_>, usize), Damaged> {
    let broken = || Damaged(format!("a record at octet {at} of its batch is damaged"));
    let mut reader = Reader::new(octets);
    let len = to_usize(u64::from(reader.u32().map_err(|_| broken())?));
    let check = reader.u32().map_err(|_| broken())?;
    let checked = octets.get(8..RECORD_HEADER_OCTETS + len).ok_or_else(broken)?;
    if record_check(checked, seed, at) != check {
        return Err(broken());
    }
    let mut fields = Reader::new(checked);
    let mut read = || -> Result<Record<'_>, crate::bytes::codec::Short> {
        Ok(Record {
            kind: fields.u8()?,
            version: fields.u8()?,
            flags: fields.u16()?,
            account: fields.u32()?,
            body: fields.rest(),
        })
    };
    Ok((read().map_err(|_| broken())?, record_octets(len)))
}

/// Checks the blob at the front of `octets`: header, place and what is stored. Whether a packed one is
/// whole is for unpacking it to say ([`pack`]).
pub(super) fn open_blob(
    octets: &[u8],
    id: BlobId,
    identity: &Identity,
    segment: u64,
    offset: u64,
) -> Result<BlobHeader, Damaged> {
    let broken = |what: &str| Damaged(format!("blob {id} in segment {segment}: {what}"));
    let header = BlobHeader::decode(octets, identity.seed(segment, offset))
        .ok_or_else(|| broken("its header is damaged"))?;
    check_content(octets, &header, id, identity, &broken)?;
    match header.codec {
        PLAIN if header.octets != header.stored_octets => Err(broken("its length is damaged")),
        PLAIN => Ok(header),
        ZSTD if header.dictionary == 0 => Ok(header),
        _ => Err(broken("it is compressed in a way that this release does not know")),
    }
}

/// Checks a blob whose header was written for another place, or is damaged where it does not matter:
/// its content is that of this blob, wherever it lies.
pub(super) fn open_blob_anywhere(
    octets: &[u8],
    id: BlobId,
    identity: &Identity,
) -> Result<BlobHeader, Damaged> {
    let broken = |what: &str| Damaged(format!("blob {id}: {what}"));
    let header = BlobHeader::decode_anywhere(octets);
    let header = header.ok_or_else(|| broken("it has no header"))?;
    check_content(octets, &header, id, identity, &broken)?;
    // The check of the content says nothing of what follows: it is packed if it can be unpacked.
    let plain = BlobHeader { birth: identity.log, codec: PLAIN, dictionary: 0, ..header };
    let content = &octets[BLOB_HEADER_OCTETS..pack::blob_octets(&header)];
    let stored = &content[to_usize(u64::from(header.summary_octets))..];
    if let Some(message) = pack::message_octets(stored) {
        let packed = BlobHeader { codec: ZSTD, octets: message, ..plain };
        if pack::unpack_at_once(&packed, content, identity).is_ok() {
            return Ok(packed);
        }
    }
    if plain.octets == plain.stored_octets {
        Ok(plain)
    } else {
        Err(broken("its header is damaged"))
    }
}

/// Checks what follows the header, as it is stored.
fn check_content(
    octets: &[u8],
    header: &BlobHeader,
    id: BlobId,
    identity: &Identity,
    broken: &dyn Fn(&str) -> Damaged,
) -> Result<(), Damaged> {
    if header.id != id {
        return Err(broken("another blob lies in its place"));
    }
    let summary_fits = header.summary_check == 0
        || header.summary_check
            == summary_check(summary_of(octets, header), identity.blob_seed(id));
    if !summary_fits {
        return Err(broken("its summary is damaged"));
    }
    let end = pack::blob_octets(header);
    let content = octets.get(BLOB_HEADER_OCTETS..end).ok_or_else(|| broken("it is cut off"))?;
    if xxh3_64_with_seed(content, identity.blob_seed(id)) != header.check {
        return Err(broken("its content is damaged"));
    }
    Ok(())
}

fn summary_of<'o>(octets: &'o [u8], header: &BlobHeader) -> &'o [u8] {
    let end = BLOB_HEADER_OCTETS + to_usize(u64::from(header.summary_octets));
    octets.get(BLOB_HEADER_OCTETS..end).unwrap_or_default()
}

/// Checks the front of a blob, as far as its summary goes. How many octets that is, if `octets`
/// are fewer.
pub(super) fn open_summary<'o>(
    octets: &'o [u8],
    id: BlobId,
    identity: &Identity,
    segment: u64,
    offset: u64,
) -> Result<Result<&'o [u8], usize>, Damaged> {
    let broken = |what: &str| Damaged(format!("blob {id} in segment {segment}: {what}"));
    let header = BlobHeader::decode(octets, identity.seed(segment, offset))
        .ok_or_else(|| broken("its header is damaged"))?;
    if header.id != id {
        return Err(broken("another blob lies in its place"));
    }
    let summary_end = BLOB_HEADER_OCTETS + to_usize(u64::from(header.summary_octets));
    if header.summary_check == 0 {
        // Only the check of the whole tells.
        let end = summary_end + to_usize(header.stored_octets);
        if octets.len() < end {
            return Ok(Err(end));
        }
        open_blob(octets, id, identity, segment, offset)?;
        return Ok(Ok(summary_of(octets, &header)));
    }
    if octets.len() < summary_end {
        return Ok(Err(summary_end));
    }
    let summary = summary_of(octets, &header);
    if header.summary_check != summary_check(summary, identity.blob_seed(id)) {
        return Err(broken("its summary is damaged"));
    }
    Ok(Ok(summary))
}

/// What a batch that is whole in every octet holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub records: u64,
    pub blobs: u64,
    /// Blobs that are to be unpacked, to know that they are whole: their headers, and where in the batch
    /// what follows these lies.
    pub packed: Vec<(BlobHeader, Range<usize>)>,
}

/// Checks a batch from its first octet to its last: meta region, records, blobs as they are stored, and
/// the zeros between them.
pub(super) fn check_whole(
    octets: &[u8],
    header: &BatchHeader,
    identity: &Identity,
    segment: u64,
    at: u64,
) -> Result<Content, Damaged> {
    let mut content = Content::default();
    let mut meta = open_meta(octets, header, identity.seed(segment, at))?;
    let lines = std::mem::take(&mut meta.blobs);
    while meta.next_record()?.is_some() {
        content.records += 1;
    }
    let mut clean = BATCH_HEADER_OCTETS + to_usize(u64::from(header.meta_octets));
    let zeros = |from: usize, to: usize| -> Result<(), Damaged> {
        let gap = octets.get(from..to).unwrap_or_default();
        if gap.iter().all(|&octet| octet == 0) {
            return Ok(());
        }
        Err(Damaged(format!("segment {segment} at octet {at}: zeros are not zero")))
    };
    for line in &lines {
        zeros(clean, line.offset)?;
        let blob = octets.get(line.offset..).unwrap_or_default();
        let header = open_blob(blob, line.id, identity, segment, at + to_u64(line.offset))?;
        content.blobs += 1;
        if header.codec == ZSTD {
            let start = line.offset + BLOB_HEADER_OCTETS;
            content.packed.push((header, start..line.offset + pack::blob_octets(&header)));
        }
        clean = line.offset + line.octets;
    }
    zeros(clean, octets.len())?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::LogId;

    const IDENTITY: Identity = Identity { store: 7, log: LogId(0), first_logs: 1 };

    fn place() -> Place {
        Place {
            segment: 3,
            offset: 8192,
            stream: Stream::Hot,
            epoch: 1,
            lsn: Lsn(5),
            durable_upto: Lsn(4),
            time: 9,
            previous_check: 1,
        }
    }

    fn sample() -> Vec<Group> {
        (0..5_u8)
            .map(|number| {
                let mut group = Group::new();
                group.record(20, 1, u32::from(number), vec![number; usize::from(number) * 3]);
                group.record(21, 1, 0, b"second".to_vec());
                group.blobs.push(BlobDraft {
                    id: BlobId(u64::from(number) + 10),
                    summary: vec![1; usize::from(number)],
                    parts: vec![b"Subject: x\r\n".to_vec(), vec![b'b'; 100 * usize::from(number)]],
                });
                group
            })
            .collect()
    }

    fn encoded() -> (Vec<u8>, Encoded) {
        let groups = sample();
        let mut out = vec![0xAA; batch_octets(groups.iter().map(group_octets).sum())];
        let encoded = encode(&mut out, &groups, &IDENTITY, &place());
        (out, encoded)
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let (octets, encoded) = encoded();
        let seed = IDENTITY.seed(3, 8192);
        let (header, check) = BatchHeader::decode(&octets, seed).unwrap();
        assert_eq!((check, header.record_count, header.blob_count), (encoded.check, 10, 5));
        let mut meta = open_meta(&octets, &header, seed).unwrap();
        assert_eq!(meta.blobs, encoded.blobs);
        let mut seen = Vec::new();
        while let Some(record) = meta.next_record().unwrap() {
            seen.push((record.kind, record.account, record.body.to_vec()));
        }
        let put: Vec<_> = sample()
            .iter()
            .flat_map(|group| &group.records)
            .map(|record| (record.kind, record.account, record.body.clone()))
            .collect();
        assert_eq!(seen, put);
        for line in &encoded.blobs {
            let found = &octets[line.offset..];
            let at = 8192 + to_u64(line.offset);
            assert!(open_blob(found, line.id, &IDENTITY, 3, at).is_ok());
            assert!(open_blob(found, line.id, &IDENTITY, 4, at).is_err(), "another segment");
        }
    }

    /// Blobs of before their summaries had a check: four zeros are in its place.
    #[test]
    fn reads_blobs_whose_summary_has_no_check() {
        let (mut octets, encoded) = encoded();
        let line = encoded.blobs[3];
        let place = 8192 + to_u64(line.offset);
        let seed = IDENTITY.seed(3, place);
        let blob = &mut octets[line.offset..][..line.octets];
        let header = BlobHeader::decode(blob, seed).unwrap();
        let old = BlobHeader { summary_check: 0, ..header }.encode(seed);
        blob[..BLOB_HEADER_OCTETS].copy_from_slice(&old);
        let read = |blob: &[u8]| {
            let summary = open_summary(blob, line.id, &IDENTITY, 3, place);
            summary.map(|found| found.map(<[u8]>::to_vec))
        };
        assert!(open_blob(blob, line.id, &IDENTITY, 3, place).is_ok());
        assert_eq!(read(&blob[..100]), Ok(Err(line.octets)));
        assert_eq!(read(blob), Ok(Ok(vec![1; 3])));
        blob[BLOB_HEADER_OCTETS] ^= 1;
        assert!(read(blob).is_err() && open_blob(blob, line.id, &IDENTITY, 3, place).is_err());
    }

    /// Whatever bit is turned, something notices; only the zeros between the parts are nobody's.
    #[test]
    fn finds_every_flipped_bit() {
        let (octets, _) = encoded();
        let seed = IDENTITY.seed(3, 8192);
        let mut unnoticed = 0;
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let whole = BatchHeader::decode(&flipped, seed).is_some_and(|(header, _)| {
                open_meta(&flipped, &header, seed).is_ok_and(|meta| {
                    meta.blobs.iter().all(|line| {
                        let at = 8192 + to_u64(line.offset);
                        open_blob(&flipped[line.offset..], line.id, &IDENTITY, 3, at).is_ok()
                    })
                })
            });
            if whole {
                assert_eq!(octets[bit / 8], 0, "bit {bit} matters to nobody");
                unnoticed += 1;
            }
        }
        assert!(unnoticed < octets.len() * 8, "most bits matter");
    }
}
