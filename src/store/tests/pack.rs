//! Packing: what comes out is what went in, or it is told; nobody above the store knows of it.

use super::clean::{Begun, compact, half_dead, unasked};
use super::*;
use crate::bytes::codec::{to_u64, to_usize};
use crate::store::batch::{open_blob, open_blob_anywhere};
use crate::store::format::{BLOB_HEADER_OCTETS, BlobHeader, summary_check};
use crate::store::pack::{PLAIN, Packer, ZSTD, blob_octets, unpack_at_once};
use crate::store::{Cleaned, Compression};
use xxhash_rust::xxh3::xxh3_64_with_seed;

fn with(compression: Compression) -> Settings {
    let mut settings = unasked();
    settings.cleaning.compression = compression;
    settings
}

/// A log of which every second key was dropped, and what was left has moved.
fn packed(seed: u64, keys: u32) -> Begun {
    let (sim, log, shelf, model) = half_dead(seed, with(Compression::Zstd), keys);
    clean(&sim, &log);
    (sim, log, shelf, model)
}

fn clean(sim: &Sim, log: &Log<SimEnv>) -> Cleaned {
    sim.run_until(compact(log)).expect("it ends").expect("nothing fails")
}

fn reopen(sim: &Sim, log: Log<SimEnv>, settings: Settings) -> (Log<SimEnv>, Rc<RefCell<Shelf>>) {
    drop(sim.run_until(log.close()).expect("closing ends"));
    let opened = sim.run_until(open_with(sim.env(0), settings)).expect("opening ends");
    opened.expect("it opens")
}

/// The header of a blob as it lies on the disk, and where that is.
fn on_disk(sim: &Sim, log: &Log<SimEnv>, id: BlobId) -> (BlobHeader, std::path::PathBuf, u64) {
    let at = log.shared.locate(id).expect("it is there");
    let path = std::path::PathBuf::from(format!("/log/seg-{:06}", at.location.slot));
    let octets = sim.disk().read(&path).expect("its segment is there");
    let blob = &octets[to_usize(at.location.offset)..];
    let header = open_blob(blob, id, &IDENTITY, at.segment, at.location.offset);
    (header.expect("it is whole"), path, at.location.offset)
}

/// How many lie there plain, and packed, of those that are long enough.
fn codecs(sim: &Sim, log: &Log<SimEnv>, shelf: &RefCell<Shelf>) -> [usize; 2] {
    let mut count = [0; 2];
    for &blob in shelf.borrow().keys.values() {
        let header = on_disk(sim, log, BlobId(blob)).0;
        if header.octets > 200 {
            count[usize::from(header.codec)] += 1;
        }
    }
    count
}

fn drop_every(sim: &Sim, log: &Log<SimEnv>, shelf: &RefCell<Shelf>, model: &RefCell<Model>) {
    let keys: Vec<(u32, u64)> =
        shelf.borrow().keys.iter().map(|(&key, &blob)| (key, blob)).collect();
    let dropping = async {
        for (key, blob) in keys.into_iter().step_by(2) {
            let mut group = Group::new();
            group.record(DROP, 1, key, blob.to_le_bytes().to_vec());
            log.append(group).await.expect("there is room");
            model.borrow_mut().there.remove(&key);
        }
    };
    sim.run_until(dropping).expect("dropping ends");
}

#[test]
fn packs_what_moves_and_nobody_sees_it() {
    let (sim, log, shelf, model) = packed(1, 300);
    let stats = log.stats();
    assert!(stats.packed_from.get() > 100_000, "{stats:?}");
    assert!(stats.packed_to.get() < stats.packed_from.get() / 10, "{stats:?}");
    let [plain, packed] = codecs(&sim, &log, &shelf);
    assert!(packed > 80, "{plain} plain, {packed} packed");
    // What is alive there is what lies on the disk.
    assert!(log.figures().cold_live_octets < to_u64(packed) * 4_096, "{:?}", log.figures());
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
    let (log, shelf) = reopen(&sim, log, with(Compression::Zstd));
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
    // It moves as it is.
    drop_every(&sim, &log, &shelf, &model);
    clean(&sim, &log);
    assert_eq!(codecs(&sim, &log, &shelf)[usize::from(PLAIN)], 0);
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

#[test]
fn unpacks_what_moves_when_nothing_is_to_be_packed_any_more() {
    let (sim, log, shelf, model) = packed(2, 2_000);
    let (log, shelf) = {
        drop(shelf);
        reopen(&sim, log, with(Compression::None))
    };
    let before = codecs(&sim, &log, &shelf);
    drop_every(&sim, &log, &shelf, &model);
    clean(&sim, &log);
    let after = codecs(&sim, &log, &shelf);
    assert!(after[0] > before[0] / 2 + 100, "{before:?} {after:?}");
    let cold: Vec<_> = log.shared.cold.borrow().iter().collect();
    assert!(cold.iter().any(|(_, one)| !one.is_packed), "{cold:?}");
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

#[test]
fn what_is_packed_stays_so_in_a_log_without_room() {
    let (sim, log, shelf, model) = packed(3, 600);
    let segments = to_usize(log.figures().segments());
    let full = Settings { segments_max: segments, ..with(Compression::None) };
    let (log, shelf) = {
        drop(shelf);
        reopen(&sim, log, full)
    };
    let filling = async {
        let chance = Chance::new(3);
        while log.has_room(9_000) {
            put(&log, &model, &chance).await;
        }
    };
    sim.run_until(filling).expect("filling ends");
    let old: Vec<u64> = shelf.borrow().keys.values().copied().collect();
    let zstd = |log: &Log<SimEnv>| {
        let shelf = shelf.borrow();
        let there = old.iter().filter(|&blob| shelf.keys.values().any(|held| held == blob));
        there.filter(|&&blob| on_disk(&sim, log, BlobId(blob)).0.codec == ZSTD).count()
    };
    drop_every(&sim, &log, &shelf, &model);
    let (mut number, mut moved) = (None, 0);
    loop {
        let (packed, space) = (zstd(&log), log.space());
        let unit = sim.run_until(log.compact(number)).expect("it ends").expect("nothing fails");
        number = Some(unit.0);
        let Some(cleaned) = unit.1 else { break };
        moved += cleaned.blobs;
        // Only once there is room again.
        assert!(zstd(&log) == packed || space.free >= space.capacity / 10, "{space:?}");
    }
    assert!(moved > 0, "{:?}", log.figures());
    sim.run_until(check(&log, &shelf, &model)).expect("checking ends");
}

#[test]
fn a_damaged_frame_is_told_and_not_carried_on() {
    let (sim, log, shelf, model) = packed(4, 200);
    let (log, shelf) = {
        drop(shelf);
        reopen(&sim, log, Settings { cache_octets: 0, ..with(Compression::Zstd) })
    };
    let blob = *shelf.borrow().keys.values().next_back().expect("some are left");
    let (header, path, at) = on_disk(&sim, &log, BlobId(blob));
    assert_eq!(header.codec, ZSTD);
    // As if it had been damaged before it was written: what is stored passes.
    let mut octets = sim.disk().read(&path).expect("it is there");
    let seed = IDENTITY.blob_seed(BlobId(blob));
    let found = &mut octets[to_usize(at)..][..blob_octets(&header)];
    let last = found.len() - 1;
    found[last] ^= 1;
    let header =
        BlobHeader { check: xxh3_64_with_seed(&found[BLOB_HEADER_OCTETS..], seed), ..header };
    let segment = log.shared.locate(BlobId(blob)).expect("it is there").segment;
    found[..BLOB_HEADER_OCTETS].copy_from_slice(&header.encode(IDENTITY.seed(segment, at)));
    let changed = found.to_vec();
    let disk = sim.disk();
    let before = disk.read(&path).expect("it is there");
    for (number, &octet) in changed.iter().enumerate() {
        let turned = before[to_usize(at) + number] ^ octet;
        for bit in (0..8).filter(|bit| turned >> bit & 1 == 1) {
            assert!(disk.flip(&path, at + to_u64(number), bit));
        }
    }
    assert!(sim.run_until(log.read(BlobId(blob))).expect("it ends").is_err());
    let faults = sim.run_until(log.verify(|_| ())).expect("it ends").faults;
    assert_eq!(faults.len(), 2, "as one of its batch, and by the table: {faults:?}");
    let (part, _) = sim
        .run_until(log.verify_part(Some(segment - 1), &mut crate::store::verify::Pace::new(0)))
        .expect("it ends");
    assert_eq!(part.faults.len(), 1, "{:?}", part.faults);
    let place = log.shared.locate(BlobId(blob));
    drop_every(&sim, &log, &shelf, &model);
    clean(&sim, &log);
    let held = shelf.borrow().keys.values().any(|&held| held == blob);
    assert!(!held || log.shared.locate(BlobId(blob)) == place, "damage gets no fresh checks");
}

/// A plain blob with this message, checked.
fn plain(message: &[u8], summary: &[u8]) -> (BlobHeader, Vec<u8>) {
    let content = [summary, message].concat();
    let seed = IDENTITY.blob_seed(BlobId(7));
    let header = BlobHeader {
        id: BlobId(7),
        birth: LogId(0),
        codec: PLAIN,
        dictionary: 0,
        summary_octets: u32::try_from(summary.len()).expect("short"),
        octets: to_u64(message.len()),
        stored_octets: to_u64(message.len()),
        check: xxh3_64_with_seed(&content, seed),
        summary_check: summary_check(summary, seed),
    };
    (header, content)
}

fn pack(message: &[u8], summary: &[u8]) -> Option<(BlobHeader, Vec<u8>)> {
    let sim = Sim::with_disk(1, Faults::none(), Disk::new());
    let env = sim.env(0);
    let (header, content) = plain(message, summary);
    let packing = async {
        let mut packer = Packer::new().expect("there is memory");
        // As one that is used again.
        packer.pack(&env, &header, &content, &IDENTITY).await;
        packer.pack(&env, &header, &content, &IDENTITY).await
    };
    sim.run_until(packing).expect("it ends")
}

/// Octets that do not shrink.
fn noise(octets: usize) -> Vec<u8> {
    let chance = Chance::new(9);
    (0..octets.div_ceil(8)).flat_map(|_| chance.bits().to_le_bytes()).take(octets).collect()
}

#[test]
fn gives_back_messages_of_any_length() {
    let step = 128 << 10;
    for octets in [300, 1_000, step - 1, step, step + 1, 3 * step, 2_500_000] {
        let message = [noise(octets / 4), vec![b'x'; octets - octets / 4]].concat();
        let (header, content) = pack(&message, b"summary").expect("it shrinks");
        assert!(content.len() < message.len() / 2);
        assert_eq!((header.octets, header.codec), (to_u64(octets), ZSTD));
        let back = unpack_at_once(&header, &content, &IDENTITY);
        assert_eq!(back.as_deref(), Ok(&[b"summary", &message[..]].concat()[..]), "{octets}");
    }
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    for octets in [0, 1, 50, 99, 5_000, 300_000] {
        assert!(pack(&noise(octets), b"summary").is_none(), "{octets}");
    }
    assert!(pack(&[b'x'; 60], b"").is_none(), "it would begin where it begins now");
    assert!(pack(&[b'x'; 200], b"").is_some());
}

/// Whatever a frame says, what comes out is the message or nothing.
#[test]
fn no_other_octet_ever_comes_out() {
    let message = b"Received: from a by b\r\n".repeat(60);
    let (header, content) = pack(&message, b"sum").expect("it shrinks");
    for bit in 0..content.len() * 8 {
        let mut turned = content.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        if let Ok(back) = unpack_at_once(&header, &turned, &IDENTITY) {
            assert_eq!(back, [b"sum", &message[..]].concat(), "bit {bit}");
        }
    }
    for cut in 0..content.len() {
        assert!(unpack_at_once(&header, &content[..cut], &IDENTITY).is_err(), "{cut}");
    }
    let longer = [&content[..], b"x"].concat();
    assert!(unpack_at_once(&header, &longer, &IDENTITY).is_err());
    let other = BlobHeader { octets: header.octets + 1, ..header };
    assert!(unpack_at_once(&other, &content, &IDENTITY).is_err());
}

#[test]
fn a_damaged_header_makes_nothing_else_of_what_follows_it() {
    let message = b"Subject: again and again and again and again\r\n".repeat(40);
    let blob = |header: BlobHeader, content: &[u8]| [&header.encode(1)[..], content].concat();
    let open = |blob: &[u8]| open_blob_anywhere(blob, BlobId(7), &IDENTITY);
    let (plain, content) = plain(&message, b"in front");
    let damaged = BlobHeader { codec: ZSTD, dictionary: 3, ..plain };
    assert_eq!(open(&blob(damaged, &content)).map(|found| found.codec), Ok(PLAIN));
    let longer = BlobHeader { octets: plain.octets + 64, ..plain };
    assert!(open(&blob(longer, &content)).is_err());
    let (packed, content) = pack(&message, b"in front").expect("it shrinks");
    // As a plain one would look.
    let damaged = BlobHeader { codec: PLAIN, octets: packed.stored_octets, ..packed };
    let found = open(&blob(damaged, &content)).expect("it can be unpacked");
    assert_eq!((found.codec, found.octets), (ZSTD, to_u64(message.len())));
}
