//! Traps of files.

use crate::{alone, on_shard};
use pombal::env::ring::Ring;
use pombal::env::{Env as _, File as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A directory of a real disk, if the build has one; gone with the value.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's own directory")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn check_cycle(ring: &Ring, dir: &Path) {
    let path = dir.join("0001.log");
    let file = ring.create(&path, 3 << 20).await.unwrap();
    assert_eq!(file.len(), 3 << 20);
    let mut block = file.alloc(8_192);
    block.as_mut().fill(b'm');
    file.write_at(block, 4_096).await.unwrap();
    file.sync().await.unwrap();
    let view = file.read_at(0, 16_384).await.unwrap();
    let mut want = vec![0; 16_384];
    want[4_096..12_288].fill(b'm');
    assert!(*view == *want, "zeros around what was written");
    file.close().await.unwrap();
    // The view outlives the file.
    assert_eq!(view.len(), 16_384);

    let again = ring.create(&path, 4_096).await;
    assert_eq!(again.err().map(|error| error.kind()), Some(ErrorKind::AlreadyExists));
    let file = ring.open(&path).await.unwrap();
    assert_eq!(file.len(), 3 << 20);
    assert_eq!(file.read_at(4_096, 4_096).await.unwrap()[0], b'm');
    file.close().await.unwrap();
    assert_eq!(ring.list(dir).await.unwrap(), ["0001.log"]);
    ring.remove(&path).await.unwrap();
    assert_eq!(names(dir), [""; 0]);
}

/// Trap 1: an empty first file makes glommio poll a device that cannot be polled; every read then
/// fails with EOPNOTSUPP, and writes burn a core.
#[test]
fn a_new_file_as_the_first_of_a_shard_can_be_read_and_nothing_is_polled() {
    on_shard(|ring| async move {
        let dir = scratch();
        check_cycle(&ring, dir.path()).await;
        assert_eq!(ring.polled_files(), 0);
    });
}

/// Trap 5: glommio's unaligned read gives octets beyond the end that are not of the file.
#[test]
fn a_read_beyond_the_end_fails_instead_of_making_octets_up() {
    on_shard(|ring| async move {
        let dir = scratch();
        let path = dir.path().join("file");
        let file = ring.create(&path, 8_192).await.unwrap();
        let read = file.read_at(4_096, 8_192).await;
        assert_eq!(read.err().map(|error| error.kind()), Some(ErrorKind::UnexpectedEof));
        let read = file.read_at(8_192, 4_096).await;
        assert_eq!(read.err().map(|error| error.kind()), Some(ErrorKind::UnexpectedEof));
        file.close().await.unwrap();
    });
}

#[test]
fn many_writes_and_reads_are_under_way_at_once() {
    on_shard(|ring| async move {
        let dir = scratch();
        let file = std::rc::Rc::new(ring.create(&dir.path().join("file"), 1 << 20).await.unwrap());
        let left = std::rc::Rc::new(std::cell::Cell::new(256));
        for index in 0..256_u32 {
            let (file, left) = (std::rc::Rc::clone(&file), std::rc::Rc::clone(&left));
            ring.spawn(async move {
                let at = u64::from(index) * 4_096;
                let mut block = file.alloc(4_096);
                block.as_mut().fill(u8::try_from(index).unwrap());
                file.write_at(block, at).await.unwrap();
                let view = file.read_at(at, 4_096).await.unwrap();
                assert!(view.iter().all(|&octet| u32::from(octet) == index));
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            ring.sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(ring.panics(), 0);
    });
}

#[test]
fn directories_are_made_with_all_above_them() {
    on_shard(|ring| async move {
        let dir = scratch();
        let deep = dir.path().join("a/b/c");
        ring.make_dir(&deep).await.unwrap();
        ring.make_dir(&deep).await.unwrap();
        assert_eq!(ring.list(&deep).await.unwrap(), [""; 0]);
        assert_eq!(ring.list(dir.path()).await.unwrap(), [""; 0], "a directory is no file");
        let missing = ring.list(&dir.path().join("missing")).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        let missing = ring.open(&dir.path().join("missing")).await;
        assert_eq!(missing.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
        let missing = ring.remove(&dir.path().join("missing")).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

/// A tmpfs of 2 MiB that only this process sees; None where it may not be mounted.
fn small_disk() -> Option<PathBuf> {
    let at = scratch().keep();
    // SAFETY: takes plain flags; the calling thread gets a view of the mounts of its own.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return None;
    }
    let target = std::ffi::CString::new(at.to_str()?).ok()?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: the strings end in NUL and outlive the call; the rest may be null here.
    let private = unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) };
    let (name, options) = (c"tmpfs".as_ptr(), c"size=2m".as_ptr());
    // SAFETY: as above; tmpfs takes its options as such a string.
    let mounted = unsafe { libc::mount(name, target.as_ptr(), name, 0, options.cast()) };
    (private == 0 && mounted == 0).then_some(at)
}

#[test]
fn a_full_disk_leaves_no_half_made_file() {
    if !alone("traps_file::a_full_disk_leaves_no_half_made_file", |end| end.success()) {
        return;
    }
    let Some(at) = small_disk() else {
        println!("skipped: no right to mount a small disk");
        return;
    };
    let dir = at.clone();
    on_shard(move |ring| {
        let dir = dir.clone();
        async move {
            let full = ring.create(&dir.join("large"), 8 << 20).await;
            assert_eq!(full.err().map(|error| error.kind()), Some(ErrorKind::StorageFull));
            assert_eq!(names(&dir), [""; 0]);
            // The kernel takes its time to give the space back.
            let file = loop {
                match ring.create(&dir.join("small"), 1 << 20).await {
                    Ok(file) => break file,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
                }
                ring.sleep(std::time::Duration::from_millis(1)).await;
            };
            file.close().await.unwrap();
            assert_eq!(names(&dir), ["small"]);
        }
    });
    drop(std::fs::remove_dir(at));
}

/// How many files of `dir` this process has open.
fn open_files(dir: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

/// A creation that is dropped midway takes its name and its descriptor along, in the end.
#[test]
fn a_dropped_creation_leaves_no_file() {
    on_shard(|ring| async move {
        let dir = scratch();
        for pauses in 0..12 {
            let path = dir.path().join(format!("file-{pauses}"));
            let create = async {
                let file = ring.create(&path, 16 << 20).await.unwrap();
                file.close().await.unwrap();
                true
            };
            let timer = async {
                for _ in 0..pauses {
                    ring.sleep(std::time::Duration::from_micros(300)).await;
                }
                false
            };
            if futures_lite::future::or(create, timer).await {
                ring.remove(&path).await.unwrap();
            }
        }
        // What was begun comes to its end before it is undone.
        while !names(dir.path()).is_empty() || open_files(dir.path()) > 0 {
            ring.sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}
