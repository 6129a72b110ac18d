//! Every octet of the store's own structures. They stand in `docs/FORMAT.md`, and stores are full
//! of them: an expectation here is never brought up to date, a new version stands beside it.

use crate::model::id::{BlobId, LogId, Lsn};
use crate::store::batch::{self, BlobLine, Place};
use crate::store::checkpoint::{
    PageAtV1, PageV1, RootV1, TablePartV1, Writer, open_page, page_body,
};
use crate::store::cold::{self, Cold, ColdPlace, Relocation, Survivor};
use crate::store::format::{
    BatchHeader, BlobHeader, Identity, PageAt, Reached, SegmentHeader, Stream, Superblock,
};
use crate::store::pack;
use crate::store::record::FLAG_SKIPPABLE;
use crate::store::table::BlobTable;
use crate::store::{BlobDraft, Group, Planted};
use expect_test::{Expect, expect};
use std::fmt::Write;

const IDENTITY: Identity =
    Identity { store: 0x0123_4567_89ab_cdef_0011_2233_4455_6677, log: LogId(3), first_logs: 4 };
/// Where the batch stands: segment number and octet.
const SEGMENT: u64 = 9;
const OFFSET: u64 = 8192;

/// Shows all octets, sixteen a line behind their place; lines of zeros are left out.
#[track_caller]
fn check(octets: &[u8], want: &Expect) {
    let mut out = String::new();
    for (number, line) in octets.chunks(16).enumerate() {
        if line.iter().all(|&octet| octet == 0) {
            continue;
        }
        write!(out, "{:4}:", number * 16).unwrap();
        for (at, octet) in line.iter().enumerate() {
            write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
        }
        out.push('\n');
    }
    writeln!(out, "{} octets", octets.len()).unwrap();
    want.assert_eq(&out);
}

fn page_at() -> PageAt {
    PageAt { slot: 1, batch: 2, record: 3, len: 4, segment: 5 }
}

fn batch_header() -> BatchHeader {
    BatchHeader {
        stream: Stream::Index,
        epoch: 3,
        lsn: Lsn(12),
        durable_upto: Lsn(10),
        blocks: 5,
        meta_octets: 300,
        meta_check: 0x1111,
        blob_count: 2,
        record_count: 6,
        time: 7,
        previous_check: 0x2222,
    }
}

#[test]
fn writes_superblocks_of_these_octets_for_ever() {
    let superblock = Superblock {
        identity: IDENTITY,
        seq: 6,
        epoch: 7,
        segment_octets: 8 << 20,
        root: page_at(),
        reached: Reached::default(),
    };
    let octets = superblock.encode();
    check(
        &octets,
        &expect![[r"
           0: 504f4d42 414c5342 01000000 03000400
          16: 77665544 33221100 efcdab89 67452301
          32: 06000000 00000000 07000000 00000000
          48: 00008000 00000000 01000000 02000000
          64: 03000000 04000000 05000000 00000000
        4080: 00000000 00000000 f3049790 43a584cc
        4096 octets
    "]],
    );
    assert_eq!(Superblock::decode(&octets), Ok(superblock));
    let reached = Reached { segment: 8, lsn: Lsn(9) };
    let noted = Superblock { reached, ..superblock }.encode();
    check(
        &noted[64..112],
        &expect![[r"
           0: 03000000 04000000 05000000 00000000
          16: 08000000 00000000 09000000 00000000
        48 octets
    "]],
    );
    assert_eq!(Superblock::decode(&noted).map(|superblock| superblock.reached), Ok(reached));
}

#[test]
fn writes_segment_headers_of_these_octets_for_ever() {
    let header = |stream| SegmentHeader {
        stream,
        epoch: 1,
        segment: SEGMENT,
        previous: 8,
        previous_valid: Lsn(77),
        previous_check: 0x3333,
        created: 2,
    };
    check(
        &header(Stream::Hot).encode(&IDENTITY, 6),
        &expect![[r"
           0: 504f4d42 414c5347 01000000 03000100
          16: 77665544 33221100 efcdab89 67452301
          32: 01000000 00000000 09000000 00000000
          48: 08000000 00000000 4d000000 00000000
          64: 33330000 00000000 02000000 00000000
        4080: 00000000 00000000 864ef02c 8af25e90
        4096 octets
    "]],
    );
    for (stream, code) in [(Stream::Hot, 1), (Stream::Cold, 2), (Stream::Index, 3)] {
        let octets = header(stream).encode(&IDENTITY, 6);
        assert_eq!(octets[14], code);
        assert_eq!(SegmentHeader::decode(&octets, &IDENTITY, 6), Some(header(stream)));
    }
}

#[test]
fn writes_batch_headers_of_these_octets_for_ever() {
    let (octets, check_value) = batch_header().encode(11);
    check(
        &octets,
        &expect![[r"
           0: 50424154 01000000 d5df7e1d d3a29184
          16: 03000000 05000000 03000000 00000000
          32: 0c000000 00000000 0a000000 00000000
          48: 2c010000 02000000 06000000 00000000
          64: 11110000 00000000 07000000 00000000
          80: 22220000 00000000 00000000 00000000
        128 octets
    "]],
    );
    assert_eq!(BatchHeader::decode(&octets, 11), Some((batch_header(), check_value)));
}

#[test]
fn writes_blob_headers_of_these_octets_for_ever() {
    let header = BlobHeader {
        id: BlobId(8),
        birth: LogId(1),
        codec: 2,
        dictionary: 3,
        summary_octets: 10,
        octets: 20,
        stored_octets: 21,
        check: 0x4444,
        summary_check: 0x7172_7374,
    };
    let octets = header.encode(11);
    check(
        &octets,
        &expect![[r"
           0: 50424c42 01000000 ecba4fda ea5a9655
          16: 08000000 00000000 01000200 03000000
          32: 0a000000 14000000 00000000 15000000
          48: 00000000 44440000 00000000 74737271
        64 octets
    "]],
    );
    assert_eq!(BlobHeader::decode(&octets, 11), Some(header));
}

/// Headers, blob lines, records, zeros and blobs together, each with its seed.
#[test]
fn writes_batches_of_these_octets_for_ever() {
    let mut first = Group::new();
    first.record(17, 1, 7, b"nine body".to_vec());
    first.blobs.push(BlobDraft {
        id: BlobId(5),
        summary: b"sum".to_vec(),
        parts: vec![b"Subject: x\r\n".to_vec(), b"\r\nhi\r\n".to_vec()],
    });
    let mut second = Group::new();
    second.record(64, 2, 0, Vec::new());
    second.records[0].flags = FLAG_SKIPPABLE;
    second.blobs.push(BlobDraft { id: BlobId(6), summary: Vec::new(), parts: Vec::new() });
    let groups = [first, second];
    let place = Place {
        segment: SEGMENT,
        offset: OFFSET,
        stream: Stream::Hot,
        epoch: 1,
        lsn: Lsn(5),
        durable_upto: Lsn(4),
        time: 9,
        previous_check: 0x5555,
    };
    let mut octets = vec![0xAA; batch::batch_octets(groups.iter().map(batch::group_octets).sum())];
    let encoded = batch::encode(&mut octets, &groups, &IDENTITY, &place);
    check(
        &octets,
        &expect![[r"
           0: 50424154 01000000 46f7bc96 b01643f2
          16: 01000000 01000000 01000000 00000000
          32: 05000000 00000000 04000000 00000000
          48: 60000000 02000000 02000000 00000000
          64: 8e2acf74 b6deab0d 09000000 00000000
          80: 55550000 00000000 00000000 00000000
         128: 05000000 00000000 00010000 00000000
         144: 55000000 00000000 06000000 00000000
         160: 80010000 00000000 40000000 00000000
         176: 09000000 9ad6fbb0 11010000 07000000
         192: 6e696e65 20626f64 79000000 00000000
         208: 00000000 b7b41d3b 40020100 00000000
         256: 50424c42 01000000 0e6b9913 2b85d53a
         272: 05000000 00000000 03000000 00000000
         288: 03000000 12000000 00000000 12000000
         304: 00000000 8d97b31b e90cbc0d b1edd20a
         320: 73756d53 75626a65 63743a20 780d0a0d
         336: 0a68690d 0a000000 00000000 00000000
         384: 50424c42 01000000 a6894397 cb39362b
         400: 06000000 00000000 03000000 00000000
         432: 00000000 9a4cbb7a b90ea992 9a4cbb7a
        4096 octets
    "]],
    );
    assert_eq!(encoded.records, [176, 208]);
    let places: Vec<usize> = encoded.blobs.iter().map(|line| line.offset).collect();
    assert_eq!(places, [256, 384]);
    let (header, _) = BatchHeader::decode(&octets, IDENTITY.seed(SEGMENT, OFFSET)).unwrap();
    batch::check_whole(&octets, &header, &IDENTITY, SEGMENT, OFFSET).unwrap();
}

#[test]
fn writes_pages_of_these_octets_for_ever() {
    let key = (16, 0x0203_0405, 0x0607_0809_0a0b_0c0d);
    let octets = page_body(key, Lsn(14), b"page");
    check(
        &octets,
        &expect![[r"
           0: 10000000 05040302 0d0c0b0a 09080706
          16: 0e000000 00000000 70616765
        28 octets
    "]],
    );
    assert_eq!(open_page(&octets), Ok((key, Lsn(14), &b"page"[..])));
}

#[test]
fn writes_tables_of_pages_of_these_octets_for_ever() {
    let page = PageV1 { owner: 16, major: 6, minor: 7, lsn: 8, at: page_at().into() };
    let part = TablePartV1 { pages: vec![page.clone(), PageV1 { owner: 0, ..page }] };
    let octets = part.to_octets();
    check(
        &octets,
        &expect![[r"
           0: 10000000 06000000 07000000 00000000
          16: 08000000 00000000 01000000 02000000
          32: 03000000 04000000 05000000 00000000
          48: 00000000 06000000 07000000 00000000
          64: 08000000 00000000 01000000 02000000
          80: 03000000 04000000 05000000 00000000
          96: a0ffffff 02000000
        104 octets
    "]],
    );
    assert_eq!(TablePartV1::from_octets(&octets), Ok(part));
}

#[test]
fn writes_roots_of_these_octets_for_ever() {
    let root = RootV1 {
        replay_segment: 1,
        replay_slot: 2,
        replay_offset: 3,
        replay_lsn: 4,
        replay_check: 5,
        next_blob: 6,
        next_segment: 7,
        hot: vec![(8, 9, 10), (11, 12, 13)],
        index: vec![(14, 15)],
        table: vec![PageAtV1::from(page_at())],
    };
    let octets = root.to_octets();
    check(
        &octets,
        &expect![[r"
           0: 08000000 00000000 09000000 00000000
          16: 0a000000 00000000 0b000000 00000000
          32: 0c000000 00000000 0d000000 00000000
          48: 0e000000 00000000 0f000000 00000000
          64: 01000000 02000000 03000000 04000000
          80: 05000000 00000000 01000000 00000000
          96: 02000000 00000000 03000000 00000000
         112: 04000000 00000000 05000000 00000000
         128: 06000000 00000000 07000000 00000000
         144: 70ffffff 02000000 98ffffff 01000000
         160: a0ffffff 01000000
        168 octets
    "]],
    );
    assert_eq!(RootV1::from_octets(&octets), Ok(root));
}

#[test]
fn writes_pages_of_the_blob_table_of_these_octets_for_ever() {
    let mut table = BlobTable::new(Planted::Nothing);
    table.insert(Lsn(1), 5, 8192, &BlobLine { id: BlobId(1027), offset: 4032, octets: 100 });
    table.change(Lsn(1), BlobId(1027), 2);
    let octets = table.save(1, Lsn(1)).unwrap();
    check(
        &octets,
        &expect![[r"
          32: 00000000 0200fc02 00500000 02000000
        12288 octets
    "]],
    );
    let mut again = BlobTable::new(Planted::Nothing);
    again.load(1, Lsn(1), &octets).unwrap();
    assert_eq!(again.locate(BlobId(1027)), table.locate(BlobId(1027)));
    assert_eq!(again.references(BlobId(1027)), 2);
}

/// Two blobs that other segments held.
#[test]
fn writes_batches_of_survivors_of_these_octets_for_ever() {
    let header = |id, octets: u64, check| BlobHeader {
        id: BlobId(id),
        birth: LogId(1),
        codec: 0,
        dictionary: 0,
        summary_octets: 3,
        octets,
        stored_octets: octets,
        check,
        summary_check: 0x4444,
    };
    let survivors = [
        Survivor { header: header(8, 5, 0x1111), octets: b"sumhello" },
        Survivor { header: header(6, 1, 0x2222), octets: b"sum!" },
    ];
    let len = cold::batch_octets(survivors.iter().map(|one| one.octets.len()));
    let mut octets = vec![0xff; len];
    let writer = Writer { slot: 2, segment: SEGMENT, offset: OFFSET };
    let place = ColdPlace { writer, epoch: 3, lsn: Lsn(12), time: 7 };
    let blobs = cold::encode(&mut octets, &survivors, &IDENTITY, &place);
    check(
        &octets,
        &expect![[r"
           0: 50424154 01000000 9a1f4a37 ebc846e5
          16: 02000000 01000000 03000000 00000000
          32: 0c000000 00000000 00000000 00000000
          48: 30000000 02000000 00000000 00000000
          64: 04af9d93 1ad31a9d 07000000 00000000
         128: 08000000 00000000 c0000000 00000000
         144: 48000000 00000000 06000000 00000000
         160: 40010000 00000000 44000000 00000000
         192: 50424c42 01000000 c3c508cf ce6685b4
         208: 08000000 00000000 01000000 00000000
         224: 03000000 05000000 00000000 05000000
         240: 00000000 11110000 00000000 44440000
         256: 73756d68 656c6c6f 00000000 00000000
         320: 50424c42 01000000 34014d60 3378465d
         336: 06000000 00000000 01000000 00000000
         352: 03000000 01000000 00000000 01000000
         368: 00000000 22220000 00000000 44440000
         384: 73756d21 00000000 00000000 00000000
        4096 octets
    "]],
    );
    let seed = IDENTITY.seed(SEGMENT, OFFSET);
    let (batch, _) = BatchHeader::decode(&octets, seed).unwrap();
    assert_eq!((batch.stream, batch.blob_count, batch.record_count), (Stream::Cold, 2, 0));
    for (line, survivor) in blobs.iter().zip(&survivors) {
        let at = line.offset - usize::try_from(OFFSET).unwrap();
        let seed = IDENTITY.seed(SEGMENT, OFFSET + u64::try_from(at).unwrap());
        assert_eq!(BlobHeader::decode(&octets[at..], seed), Some(survivor.header));
    }
}

#[test]
fn writes_relocations_of_these_octets_for_ever() {
    let line = |id, offset, octets| BlobLine { id: BlobId(id), offset, octets };
    let blobs = vec![line(8, 8448, 72), line(6, 8576, 68)];
    let is_packed = false;
    let relocation = Relocation { slot: 2, segment: SEGMENT, end: 12_288, blobs, is_packed };
    let octets = relocation.encode();
    check(
        &octets,
        &expect![[r"
           0: 02000000 02000000 09000000 00000000
          16: 00300000 00000000 08000000 00000000
          32: 00210000 00000000 48000000 00000000
          48: 06000000 00000000 80210000 00000000
          64: 44000000 00000000
        72 octets
    "]],
    );
    assert_eq!(relocation.version(), 1);
    assert_eq!(Relocation::decode(1, &octets).as_ref(), Ok(&relocation));
    // To where packed blobs lie: a release that cannot unpack them does not know the version.
    let packed = Relocation { is_packed: true, ..relocation };
    assert_eq!((packed.version(), packed.encode()), (2, octets.clone()));
    assert_eq!(Relocation::decode(2, &octets), Ok(packed));
}

#[test]
fn writes_pages_of_the_cold_stream_of_these_octets_for_ever() {
    let mut cold = Cold::default();
    cold.note(2, SEGMENT, 12_288, false);
    cold.note(7, 11, 4_096, false);
    assert!(cold.take_dirty());
    let octets = cold.page().unwrap();
    check(
        &octets,
        &expect![[r"
           0: 01000000 00000000 02000000 00000000
          16: 09000000 00000000 00300000 00000000
          32: 07000000 00000000 0b000000 00000000
          48: 00100000 00000000
        56 octets
    "]],
    );
    let mut again = Cold::default();
    again.load(&octets).unwrap();
    assert!(again.iter().eq(cold.iter()));
    assert!(!again.take_dirty(), "it is saved");
}

/// With a segment that has packed blobs: a release that cannot unpack them does not know the version.
#[test]
fn writes_pages_of_a_packed_cold_stream_of_these_octets_for_ever() {
    let mut cold = Cold::default();
    cold.note(2, SEGMENT, 12_288, true);
    cold.note(7, 11, 4_096, false);
    let octets = cold.page().unwrap();
    check(
        &octets,
        &expect![[r"
           0: 02000000 00000000 02000000 01000000
          16: 09000000 00000000 00300000 00000000
          32: 07000000 00000000 0b000000 00000000
          48: 00100000 00000000
        56 octets
    "]],
    );
    let mut again = Cold::default();
    again.load(&octets).unwrap();
    assert!(again.iter().eq(cold.iter()));
}

/// A summary of three octets, the check of the plain blob, and a frame: however frames are made, these
/// octets have to come out.
#[test]
fn unpacks_these_octets_for_ever() {
    let message = b"Subject: again\r\n\r\n".repeat(8);
    let stored = [
        // The check.
        0xca, 0x34, 0x7a, 0x3b, 0x74, 0x0d, 0x46, 0x9b,
        // A frame without a checksum: 144 octets, of one block.
        0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x90, 0xcd, 0x00, 0x00, 0x90, 0x53, 0x75, 0x62, 0x6a, 0x65,
        0x63, 0x74, 0x3a, 0x20, 0x61, 0x67, 0x61, 0x69, 0x6e, 0x0d, 0x0a, 0x0d, 0x0a, 0x01, 0x00,
        0x76, 0xa5, 0x33, 0x0c,
    ];
    let header = BlobHeader {
        id: BlobId(8),
        birth: LogId(1),
        codec: pack::ZSTD,
        dictionary: 0,
        summary_octets: 3,
        octets: u64::try_from(message.len()).unwrap(),
        stored_octets: u64::try_from(stored.len()).unwrap(),
        check: 0,
        summary_check: 0,
    };
    let content = pack::unpack_at_once(&header, &[b"sum", &stored[..]].concat(), &IDENTITY);
    assert_eq!(content, Ok([b"sum", &message[..]].concat()));
}
