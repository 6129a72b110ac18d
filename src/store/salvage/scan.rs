//! What of a log's files is whole: each slot is read once, from its first octet to its last.
//!
//! ```text
//!   slot ── header, or the number that its batches pass with
//!    └─ batch ── whole: its blobs and records, each by its own checksum
//!    └─ gap ─── up to the next batch that passes: records and blobs that are whole in it
//! ```
//!
//! Nothing is believed that no checksum vouches for, and all of those are seeded with the place: so
//! what a disk wrote elsewhere, or what stood in the slot before, is never found here.

use super::{Lost, Source};
use crate::bytes::codec::{to_u32, to_u64, to_usize};
use crate::bytes::hash::{Map, Sorted};
use crate::env::BLOCK_OCTETS;
use crate::model::id::{BlobId, Lsn};
use crate::store::batch::{open_blob, open_blob_anywhere, open_meta, open_record};
use crate::store::checkpoint::{PageKey, open_page};
use crate::store::format::{
    BATCH_HEADER_OCTETS, BLOB_HEADER_OCTETS, BLOB_LINE_OCTETS, BatchHeader, BlobHeader, Identity,
    RECORD_HEADER_OCTETS, SegmentHeader, Stream,
};
use crate::store::pack;
use crate::store::record::kind;

/// Octets that are read at once.
const READ_OCTETS: usize = 4 << 20;
/// How far behind the highest known number one is looked for that no header tells.
const NUMBERS_BEYOND: u64 = 256;
/// Blocks that may tell the number of a segment without a header.
const CLUES_MAX: usize = 64;
/// Bits of a batch's first eight octets that may have turned.
const MAGIC_BITS_TURNED_MAX: u32 = 16;
/// What a batch begins with, and the format.
const BATCH_FRONT: [u8; 8] = *b"PBAT\x01\0\0\0";
const BLOB_FRONT: [u8; 4] = *b"PBLB";

/// Where a whole blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobPlace {
    pub slot: u32,
    pub segment: u64,
    /// Of its header, from the start of the segment.
    pub offset: u64,
    /// With header and summary.
    pub octets: usize,
    /// Octets of the message.
    pub message: u64,
    /// It was there when this batch was applied, or came with it; 0: long ago.
    pub born: Lsn,
    /// Its header was written for this place.
    pub is_placed: bool,
}

/// Where records of the hot stream lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchPlace {
    pub segment: u64,
    pub slot: u32,
    pub at: u64,
    /// Of a batch without a whole header: the highest that it can be.
    pub lsn: Lsn,
    pub epoch: u64,
    /// µs since 1970; 0 if its header is not whole.
    pub time: u64,
    /// Where whole records begin in the batch, and the octets of each with its padding.
    pub records: Vec<(usize, usize)>,
    /// Header and meta region are whole, so that no record is missing.
    pub is_whole: bool,
}

/// A whole page of some checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PagePlace {
    pub key: PageKey,
    pub lsn: Lsn,
    pub at: IndexPlace,
}

/// A record of the index stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct IndexPlace {
    pub segment: u64,
    pub slot: u32,
    /// Of the batch, in blocks.
    pub batch: u32,
    /// Of the record, from the start of the batch.
    pub record: u32,
}

/// A segment that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub slot: u32,
    pub segment: u64,
    pub stream: Stream,
    /// `None`: damaged; the number is the one that its batches pass with.
    pub header: Option<SegmentHeader>,
}

/// All that is whole in one log.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub segments: Vec<Found>,
    pub blobs: Map<BlobId, BlobPlace>,
    /// By segment and place in it: the order of the log.
    pub batches: Vec<BatchPlace>,
    pub pages: Vec<PagePlace>,
    /// Records of the index that are whole, with their octets.
    pub index: Sorted<IndexPlace, (u8, usize)>,
    /// Octets that hold nothing that passes. Which of them matter is told later.
    pub damage: Vec<Lost>,
    /// The highest number of a blob that anything names.
    pub highest_blob: u64,
    pub octets: u64,
}

/// A slot's octets in memory.
struct Walker<'a> {
    identity: &'a Identity,
    slot: u32,
    segment: u64,
    stream: Stream,
    octets: &'a [u8],
    /// The last batch that counts in it, where the next segment says so.
    limit: Option<Lsn>,
}

/// Reads all of a slot. What cannot be read is zeros, and told.
fn load(source: &dyn Source, slot: u32, len: u64, unread: &mut Vec<(u64, u64)>) -> Vec<u8> {
    let len = to_usize(len) / BLOCK_OCTETS * BLOCK_OCTETS;
    let mut octets = vec![0; len];
    for (number, piece) in octets.chunks_mut(READ_OCTETS).enumerate() {
        let at = to_u64(number * READ_OCTETS);
        match source.read(slot, at, piece.len()) {
            Ok(read) if read.len() == piece.len() => piece.copy_from_slice(&read),
            _ => load_blocks(source, slot, at, piece, unread),
        }
    }
    octets
}

fn load_blocks(
    source: &dyn Source,
    slot: u32,
    at: u64,
    piece: &mut [u8],
    unread: &mut Vec<(u64, u64)>,
) {
    for (number, block) in piece.chunks_mut(BLOCK_OCTETS).enumerate() {
        let at = at + to_u64(number * BLOCK_OCTETS);
        match source.read(slot, at, block.len()) {
            Ok(read) if read.len() == block.len() => block.copy_from_slice(&read),
            _ => match unread.last_mut() {
                Some((_, end)) if *end == at => *end += to_u64(BLOCK_OCTETS),
                _ => unread.push((at, at + to_u64(BLOCK_OCTETS))),
            },
        }
    }
}

fn block_at(octets: &[u8], at: u64) -> &[u8] {
    octets.get(to_usize(at)..).unwrap_or_default()
}

/// Whether a batch may begin here, although some bits of what it begins with turned.
fn looks_like_batch(block: &[u8]) -> bool {
    let Some(front) = block.first_chunk::<8>() else { return false };
    let turned: u32 = front.iter().zip(BATCH_FRONT).map(|(a, b)| (a ^ b).count_ones()).sum();
    turned <= MAGIC_BITS_TURNED_MAX
}

fn lost(slot: u32, segment: u64, (from, to): (u64, u64), what: String) -> Lost {
    Lost { slot, segment, from, to, what, blob: None, upto: None }
}

/// The number that a segment's batches pass with.
fn guess(identity: &Identity, slot: u32, octets: &[u8], highest: u64) -> Option<Found> {
    let blocks = (1..octets.len() / BLOCK_OCTETS).map(|block| to_u64(block * BLOCK_OCTETS));
    let clues = blocks.filter(|&at| looks_like_batch(block_at(octets, at))).take(CLUES_MAX);
    for at in clues {
        let block = block_at(octets, at);
        for segment in (1..=highest + NUMBERS_BEYOND).rev() {
            if let Some((header, _)) = BatchHeader::decode(block, identity.seed(segment, at)) {
                return Some(Found { slot, segment, stream: header.stream, header: None });
            }
        }
    }
    None
}

/// Reads everything.
pub(super) fn scan(source: &dyn Source, identity: &Identity, told: &mut dyn FnMut(u64)) -> Scan {
    let mut scan = Scan::default();
    let slots = source.slots();
    let front = |slot: u32| source.read(slot, 0, BLOCK_OCTETS).unwrap_or_default();
    let headers: Vec<SegmentHeader> = slots
        .iter()
        .filter_map(|&(slot, _)| SegmentHeader::decode(&front(slot), identity, slot))
        .collect();
    let highest = headers.iter().map(|header| header.segment).max().unwrap_or(0);
    let highest = highest.max(4 * to_u64(slots.len()));
    for &(slot, len) in &slots {
        let mut unread = Vec::new();
        let octets = load(source, slot, len, &mut unread);
        scan.octets += to_u64(octets.len());
        told(scan.octets);
        let header = SegmentHeader::decode(&octets, identity, slot);
        let found = match header {
            Some(header) => {
                let SegmentHeader { segment, stream, .. } = header;
                Some(Found { slot, segment, stream, header: Some(header) })
            }
            None if octets.iter().all(|&octet| octet == 0) && unread.is_empty() => continue,
            None => guess(identity, slot, &octets, highest),
        };
        let Some(found) = found else {
            let what = "a segment without a header that passes, nor a batch".into();
            scan.damage.push(lost(slot, 0, (0, to_u64(octets.len())), what));
            // Blobs say by themselves what they are.
            let (segment, stream, limit) = (0, Stream::Cold, None);
            let walker = Walker { identity, slot, segment, stream, octets: &octets, limit };
            walker.search_blobs(&mut scan, 0, to_u64(octets.len()), Lsn(0));
            continue;
        };
        if header.is_none() {
            let what = "the header of the segment".into();
            scan.damage.push(lost(slot, found.segment, (0, to_u64(BLOCK_OCTETS)), what));
        }
        for range in unread {
            let what = "the disk does not read it".into();
            scan.damage.push(lost(slot, found.segment, range, what));
        }
        scan.segments.push(found);
        let limit = limit_of(&headers, found.segment);
        let Found { segment, stream, .. } = found;
        let walker = Walker { identity, slot, segment, stream, octets: &octets, limit };
        walker.walk(&mut scan);
    }
    scan.segments.sort_unstable_by_key(|one| one.segment);
    scan.batches.sort_by_key(|one| (one.segment, one.at));
    scan
}

/// The last batch that counts in a segment, as the newest segment that follows on it has it.
fn limit_of(headers: &[SegmentHeader], segment: u64) -> Option<Lsn> {
    let next = headers.iter().filter(|one| one.stream == Stream::Hot && one.previous == segment);
    next.max_by_key(|one| one.segment).map(|one| one.previous_valid)
}

impl Walker<'_> {
    /// Batch after batch, and what is whole between them.
    fn walk(&self, scan: &mut Scan) {
        let size = to_u64(self.octets.len());
        let mut at = to_u64(BLOCK_OCTETS);
        let mut last = (Lsn(0), 0);
        while at < size {
            if self.stream == Stream::Hot && self.limit.is_some_and(|limit| last.0 >= limit) {
                self.search_blobs(scan, at, size, Lsn(0));
                return;
            }
            if let Some(header) = self.batch_at(at, last) {
                self.take(scan, at, &header);
                last = (header.lsn, header.epoch);
                at += u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
                continue;
            }
            let next = self.next_batch(at + to_u64(BLOCK_OCTETS), last);
            let (end, next) = next.map_or((size, None), |(end, header)| (end, Some(header)));
            self.search(scan, at, end, last, next.as_ref());
            at = end;
        }
        if self.stream == Stream::Hot && self.limit.is_some_and(|limit| last.0 < limit) {
            self.cut_off(scan, last.0);
        }
    }

    /// What the next segment says that is here, and is not.
    fn cut_off(&self, scan: &mut Scan, last: Lsn) {
        let known =
            scan.damage.last().is_some_and(|one| one.segment == self.segment && one.from > 0);
        if !known {
            let size = to_u64(self.octets.len());
            let what = format!("the end of the segment, behind batch {last}");
            self.damaged(scan, (size, size), what);
        }
    }

    /// A batch that begins here, and follows on `last`.
    fn batch_at(&self, at: u64, last: (Lsn, u64)) -> Option<BatchHeader> {
        let seed = self.identity.seed(self.segment, at);
        let (header, _) = BatchHeader::decode(block_at(self.octets, at), seed)?;
        let follows = self.stream != Stream::Hot || header.lsn > last.0 && header.epoch >= last.1;
        let counts = self.limit.is_none_or(|limit| header.lsn <= limit);
        (header.stream == self.stream && follows && counts && header.blocks > 0).then_some(header)
    }

    fn next_batch(&self, from: u64, last: (Lsn, u64)) -> Option<(u64, BatchHeader)> {
        let mut blocks = (from..to_u64(self.octets.len())).step_by(BLOCK_OCTETS);
        blocks.find_map(|at| Some((at, self.batch_at(at, last)?)))
    }

    fn place(&self, at: u64, header: &BatchHeader) -> BatchPlace {
        BatchPlace {
            segment: self.segment,
            slot: self.slot,
            at,
            lsn: header.lsn,
            epoch: header.epoch,
            time: header.time,
            records: Vec::new(),
            is_whole: true,
        }
    }

    /// A batch whose header is whole.
    fn take(&self, scan: &mut Scan, at: u64, header: &BatchHeader) {
        let seed = self.identity.seed(self.segment, at);
        let end = at + u64::from(header.blocks) * to_u64(BLOCK_OCTETS);
        let octets = block_at(self.octets, at);
        let octets = &octets[..octets.len().min(to_usize(end - at))];
        let mut place = self.place(at, header);
        if let Ok(mut meta) = open_meta(octets, header, seed) {
            for line in std::mem::take(&mut meta.blobs) {
                scan.highest_blob = scan.highest_blob.max(line.id.0);
                let is_whole = self.take_blob(scan, at + to_u64(line.offset), line.id, header.lsn);
                if !is_whole {
                    let from = at + to_u64(line.offset);
                    self.damaged_blob(scan, (from, from + to_u64(line.octets)), line.id);
                }
            }
            let lines = to_usize(u64::from(header.blob_count)) * BLOB_LINE_OCTETS;
            place.records = records(octets, BATCH_HEADER_OCTETS + lines, meta_end(header), seed);
        } else {
            let to = at + to_u64(meta_end(header));
            let what = format!("the records of batch {}", header.lsn);
            self.damaged(scan, (at, to), what).upto = Some(header.lsn);
            place.records = records(octets, BATCH_HEADER_OCTETS, meta_end(header), seed);
            place.is_whole = false;
            self.search_blobs(scan, at, end, header.lsn);
        }
        self.keep(scan, place);
    }

    fn damaged<'s>(&self, scan: &'s mut Scan, range: (u64, u64), what: String) -> &'s mut Lost {
        scan.damage.push(lost(self.slot, self.segment, range, what));
        scan.damage.last_mut().expect("it was just put there")
    }

    fn damaged_blob(&self, scan: &mut Scan, range: (u64, u64), id: BlobId) {
        self.damaged(scan, range, format!("blob {id}")).blob = Some(id);
    }

    /// Notes a blob if it is whole.
    fn take_blob(&self, scan: &mut Scan, offset: u64, id: BlobId, born: Lsn) -> bool {
        let octets = block_at(self.octets, offset);
        let placed = open_blob(octets, id, self.identity, self.segment, offset);
        let is_placed = placed.is_ok();
        let found = placed.or_else(|_| open_blob_anywhere(octets, id, self.identity));
        let Ok(header) = found else { return false };
        let len = pack::blob_octets(&header);
        let content = &octets[BLOB_HEADER_OCTETS..len];
        if header.codec == pack::ZSTD
            && pack::unpack_at_once(&header, content, self.identity).is_err()
        {
            // It counts for nothing, so that any other copy of the blob does.
            return false;
        }
        let octets = len;
        let Walker { slot, segment, .. } = *self;
        let message = header.octets;
        let place = BlobPlace { slot, segment, offset, octets, message, born, is_placed };
        scan.highest_blob = scan.highest_blob.max(id.0);
        let known = scan.blobs.entry(id).or_insert(place);
        if known.born == Lsn(0) {
            *known = place;
        } else if born > Lsn(0) {
            known.born = known.born.min(born);
        }
        true
    }

    /// Blobs by their headers, where no batch tells of them; how many were written for their places.
    fn search_blobs(&self, scan: &mut Scan, from: u64, to: u64, born: Lsn) -> usize {
        let mut count = 0;
        let end = to.min(to_u64(self.octets.len()));
        let mut at = from;
        while at < end {
            let octets = block_at(self.octets, at);
            if !octets.starts_with(&BLOB_FRONT) {
                at += to_u64(BLOB_HEADER_OCTETS);
                continue;
            }
            let placed = BlobHeader::decode(octets, self.identity.seed(self.segment, at));
            if let (None, Some(header)) = (placed, BlobHeader::decode_anywhere(octets)) {
                // Of what stood in the slot before, or of a header that is damaged.
                self.take_blob(scan, at, header.id, Lsn(0));
            }
            count += usize::from(placed.is_some());
            if let Some(header) = placed
                && !self.take_blob(scan, at, header.id, born)
            {
                scan.highest_blob = scan.highest_blob.max(header.id.0);
                let octets = u64::from(header.summary_octets) + header.stored_octets;
                let to = at + to_u64(BLOB_HEADER_OCTETS) + octets;
                self.damaged_blob(scan, (at, to), header.id);
            }
            at += to_u64(BLOB_HEADER_OCTETS);
        }
        count
    }

    /// What is whole where no batch begins that passes.
    fn search(
        &self,
        scan: &mut Scan,
        from: u64,
        to: u64,
        last: (Lsn, u64),
        next: Option<&BatchHeader>,
    ) {
        let highest = next.map_or(Lsn(last.0.0 + 1), |next| Lsn(next.lsn.0.saturating_sub(1)));
        let highest =
            if self.stream == Stream::Hot { highest } else { next.map_or(last.0, |next| next.lsn) };
        let mut found = self.search_blobs(scan, from, to, highest);
        let blocks = (from..to).step_by(BLOCK_OCTETS);
        let starts: Vec<u64> = blocks
            .filter(|&at| at == from || looks_like_batch(block_at(self.octets, at)))
            .collect();
        for (number, &at) in starts.iter().enumerate() {
            let end = starts.get(number + 1).copied().unwrap_or(to);
            let octets = &self.octets[to_usize(at)..to_usize(end)];
            let seed = self.identity.seed(self.segment, at);
            let records = records(octets, BATCH_HEADER_OCTETS, octets.len(), seed);
            found += records.len();
            if records.is_empty() {
                continue;
            }
            let Walker { slot, segment, .. } = *self;
            let (epoch, lsn) = (last.1, highest);
            let place =
                BatchPlace { segment, slot, at, lsn, epoch, time: 0, records, is_whole: false };
            self.keep(scan, place);
        }
        // The room behind the end of a segment is nobody's.
        if next.is_some() || found > 0 || self.limit.is_some() && self.stream == Stream::Hot {
            let what = format!("what follows on batch {}", last.0);
            self.damaged(scan, (from, to), what).upto = next.map(|_| highest);
        }
    }

    /// Sorts records into what is replayed and what is of checkpoints.
    fn keep(&self, scan: &mut Scan, place: BatchPlace) {
        match self.stream {
            Stream::Hot => scan.batches.push(place),
            Stream::Cold => {}
            Stream::Index => self.keep_index(scan, &place),
        }
    }

    fn keep_index(&self, scan: &mut Scan, place: &BatchPlace) {
        let seed = self.identity.seed(self.segment, place.at);
        let batch = to_u32(to_usize(place.at) / BLOCK_OCTETS);
        for &(record, len) in &place.records {
            let octets = block_at(self.octets, place.at + to_u64(record));
            let Ok((opened, _)) = open_record(octets, seed, record) else { continue };
            let Walker { slot, segment, .. } = *self;
            let at = IndexPlace { segment, slot, batch, record: to_u32(record) };
            scan.index.insert(at, (opened.kind, len));
            if opened.kind == kind::PAGE
                && let Ok((key, lsn, _)) = open_page(opened.body)
            {
                scan.pages.push(PagePlace { key, lsn, at });
            }
        }
    }
}

fn meta_end(header: &BatchHeader) -> usize {
    BATCH_HEADER_OCTETS + to_usize(u64::from(header.meta_octets))
}

/// Where whole records begin between two octets of a batch: one behind the other, and behind one that
/// is damaged wherever the next one passes.
fn records(octets: &[u8], from: usize, to: usize, seed: u64) -> Vec<(usize, usize)> {
    let octets = &octets[..octets.len().min(to)];
    let mut found = Vec::new();
    let mut at = from;
    while at + RECORD_HEADER_OCTETS <= octets.len() {
        let record = may_be_record(&octets[at..])
            .then(|| open_record(&octets[at..], seed, at).ok())
            .flatten();
        match record {
            Some((_, len)) => {
                found.push((at, len));
                at += len;
            }
            None => at += 8,
        }
    }
    found
}

/// Cheap: whether a record of a known kind may begin here.
fn may_be_record(octets: &[u8]) -> bool {
    let len = octets.first_chunk().map_or(0, |len| to_usize(u64::from(u32::from_le_bytes(*len))));
    let fits = RECORD_HEADER_OCTETS.saturating_add(len) <= octets.len();
    fits && octets.get(8).is_some_and(|&kind| kind > 0 && kind <= kind::HIGHEST)
}
