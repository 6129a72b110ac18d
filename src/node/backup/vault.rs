//! The directory that backups lie in.
//!
//! ```text
//! DIR/lock                                    held (flock) by who writes or reads
//! DIR/backup-20261129T173000.123456Z.json     a manifest: what a backup is made of; written last
//! DIR/log-000/seg-0000000012-0000135168-HASH  a piece: octets of segment 12 from this octet on
//! DIR/files/HASH                              a file of data_dir beside the logs
//! ```
//!
//! A piece is written once, under another name until it is durable, and never changed. Its name has
//! the xxh3-64 of its octets in it: so two lives of a store, of which one was restored, never take
//! the pieces of the other for their own. docs/FORMAT.md has every field.

use crate::cli::{Failure, Told};
use crate::store::backup::{Base, Mark, Walked};
use crate::store::format::Stream;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The version of manifests; one of a later release is refused.
const FORMAT: u32 = 1;
/// Octets that are copied at a time.
pub(super) const COPY_OCTETS: usize = 1 << 20;
/// What a file is called until it is durable.
pub(super) const FRESH: &str = "new";

/// What a backup is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// The release that made it.
    pub pombal: String,
    /// 32 hexadecimal digits.
    pub store: String,
    /// The moment that it holds, µs since 1970.
    pub time: u64,
    pub logs: Vec<LogPart>,
    pub files: Vec<FilePart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPart {
    /// Its list of index segments is empty: they are among the others.
    pub base: Base,
    pub end: Mark,
    pub segments: Vec<SegmentPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentPart {
    pub slot: u32,
    pub segment: u64,
    pub stream: Stream,
    pub walked: Walked,
    /// One behind the other, from octet 0 on.
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub octets: u64,
    /// xxh3-64, 16 hexadecimal digits.
    pub hash: String,
    /// Where in the segment its last batch begins, and the xxh3-64 of the first block of it: what
    /// tells that a segment is still the one that the piece was taken of.
    pub seam: u64,
    pub seam_hash: String,
}

/// A file of `data_dir` beside the logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FilePart {
    /// In `data_dir`.
    pub path: String,
    pub octets: u64,
    pub hash: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    backup: Manifest,
    /// xxh3-64 of the JSON of the backup.
    hash: String,
}

/// Of a manifest of any format.
#[derive(Deserialize)]
struct Peeked {
    backup: PeekedFormat,
}

#[derive(Deserialize)]
struct PeekedFormat {
    format: u32,
}

pub(super) fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

impl SegmentPart {
    /// The pieces with the octet that each begins at.
    pub(super) fn placed(&self) -> impl Iterator<Item = (u64, &Piece)> {
        self.pieces.iter().scan(0, |at, piece| {
            let begins = *at;
            *at += piece.octets;
            Some((begins, piece))
        })
    }
}

impl Manifest {
    pub(super) fn new(store: String, time: u64) -> Manifest {
        let pombal = env!("CARGO_PKG_VERSION").into();
        Manifest { format: FORMAT, pombal, store, time, logs: Vec::new(), files: Vec::new() }
    }

    /// What an operator calls it by.
    pub(super) fn name(&self) -> String {
        let at = crate::admin::calendar::rfc3339(crate::model::time::Wall(self.time));
        at.replace(['-', ':'], "")
    }

    /// Its files in the vault, with their octets and hashes.
    pub(super) fn named(&self) -> impl Iterator<Item = (PathBuf, u64, &str)> {
        let pieces = self.logs.iter().flat_map(|part| {
            part.segments.iter().flat_map(|segment| {
                segment.placed().map(|(begins, piece)| {
                    let path = piece_path(part.base.log, segment.segment, begins, &piece.hash);
                    (path, piece.octets, piece.hash.as_str())
                })
            })
        });
        let files = self
            .files
            .iter()
            .map(|file| (Path::new("files").join(&file.hash), file.octets, file.hash.as_str()));
        pieces.chain(files)
    }

    /// How many files it is made of, and their octets.
    pub(super) fn extent(&self) -> (u64, u64) {
        self.named().fold((0, 0), |(count, sum), (_, octets, _)| (count + 1, sum + octets))
    }

    fn text(&self) -> Result<String, Failure> {
        let failed = |error: serde_json::Error| Failure::Failed(error.to_string());
        let hash = hex(xxh3_64(&serde_json::to_vec(self).map_err(failed)?));
        let sealed = Sealed { backup: self.clone(), hash };
        Ok(format!("{}\n", serde_json::to_string(&sealed).map_err(failed)?))
    }

    fn read(text: &str) -> Result<Manifest, String> {
        let damaged = |error: &dyn std::fmt::Display| format!("damaged ({error})");
        let peeked: Peeked = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        if peeked.backup.format != FORMAT {
            return Err(format!("format {} is of another release", peeked.backup.format));
        }
        let sealed: Sealed = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        match sealed.backup.text() {
            Ok(written) if written == text => Ok(sealed.backup),
            _ => Err("damaged, it is not as it was written".into()),
        }
    }
}

/// Where a piece lies in the vault.
pub(super) fn piece_path(log: u16, segment: u64, begins: u64, hash: &str) -> PathBuf {
    Path::new(&format!("log-{log:03}")).join(format!("seg-{segment:010}-{begins:010}-{hash}"))
}

/// What manifests there are.
pub(super) struct Found {
    /// By time.
    pub whole: Vec<Manifest>,
    /// Names of files, and what is wrong with each.
    pub broken: Vec<String>,
}

impl Found {
    /// Tells of those that cannot be read; a failure if there are any.
    pub(super) fn faults(&self, told: &mut Told<'_>) -> Result<(), Failure> {
        for line in &self.broken {
            writeln!(told.err, "{line}")?;
        }
        match self.broken.len() {
            0 => Ok(()),
            count => Err(Failure::Failed(format!("{count} manifests cannot be read"))),
        }
    }

    /// The one that an operator calls so.
    pub(super) fn called(&self, name: &str) -> Result<&Manifest, Failure> {
        let bare = name.strip_prefix("backup-").unwrap_or(name);
        let bare = bare.strip_suffix(".json").unwrap_or(bare);
        self.whole.iter().find(|one| one.name() == bare).ok_or_else(|| {
            Failure::Failed(format!("there is no backup {name}: see `pombal backup list`"))
        })
    }
}

/// A directory of backups that no other command uses meanwhile.
pub(super) struct Vault {
    pub dir: PathBuf,
    _lock: Option<File>,
}

impl Vault {
    /// Opens one that is there. Without `lock` it is a copy that nobody writes to.
    pub(super) fn open(dir: &Path) -> Result<Vault, Failure> {
        match OpenOptions::new().read(true).open(dir.join("lock")) {
            Ok(lock) => Vault::locked(dir, lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => {
                Ok(Vault { dir: dir.into(), _lock: None })
            }
            Err(error) => Err(at(dir)(error)),
        }
    }

    /// Opens one, or makes it, for its owner alone.
    pub(super) fn make(dir: &Path) -> Result<Vault, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        Vault::locked(dir, lock)
    }

    fn locked(dir: &Path, lock: File) -> Result<Vault, Failure> {
        match lock.try_lock() {
            Ok(()) => Ok(Vault { dir: dir.into(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => {
                let dir = dir.display();
                Err(Failure::Failed(format!("{dir} is in use by another pombal backup or restore")))
            }
            Err(TryLockError::Error(error)) => Err(at(dir)(error)),
        }
    }

    /// All manifests.
    pub(super) fn manifests(&self) -> Result<Found, Failure> {
        let mut found = Found { whole: Vec::new(), broken: Vec::new() };
        for entry in std::fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let name = entry.map_err(at(&self.dir))?.file_name().to_string_lossy().into_owned();
            let bare = name.strip_prefix("backup-").and_then(|rest| rest.strip_suffix(".json"));
            let Some(bare) = bare else { continue };
            let path = self.dir.join(&name);
            let text = std::fs::read_to_string(&path);
            let read =
                text.map_err(|error| error.to_string()).and_then(|text| Manifest::read(&text));
            match read {
                Ok(manifest) if manifest.name() == bare => found.whole.push(manifest),
                Ok(_) => found.broken.push(format!("{}: it was renamed", path.display())),
                Err(why) => found.broken.push(format!("{}: {why}", path.display())),
            }
        }
        found.whole.sort_by_key(|manifest| manifest.time);
        Ok(found)
    }

    /// Writes a manifest once all that it names is durable.
    pub(super) fn seal(&self, manifest: &Manifest) -> Result<(), Failure> {
        let path = self.dir.join(format!("backup-{}.json", manifest.name()));
        let fresh = path.with_extension(FRESH);
        let text = manifest.text()?;
        let write = || -> io::Result<()> {
            let mut file = create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            sync_dir(&self.dir)
        };
        write().map_err(at(&path))
    }

    /// Reads octets of a segment out of its pieces. No batch lies in two of them.
    pub(super) fn read(
        &self,
        log: u16,
        part: &SegmentPart,
        octet: u64,
        len: usize,
    ) -> io::Result<Vec<u8>> {
        let holds = |(begins, piece): &(u64, &Piece)| octet < begins + piece.octets;
        let (begins, piece) = part.placed().find(holds).ok_or(io::ErrorKind::UnexpectedEof)?;
        let path = self.dir.join(piece_path(log, part.segment, begins, &piece.hash));
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).open(&path).map_err(named)?;
        read_at(&file, octet - begins, len).map_err(named)
    }

    /// Reads one of its files and holds it against its hash; hands out its octets in parts, as they
    /// come: what was handed out counts only if this is `Ok`.
    pub(super) fn check(
        &self,
        path: &Path,
        octets: u64,
        hash: &str,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let path = self.dir.join(path);
        let mut read = || -> io::Result<(u64, u64)> {
            let mut file = OpenOptions::new().read(true).open(&path)?;
            let (mut hasher, mut total) = (Xxh3::new(), 0);
            let mut block = vec![0; COPY_OCTETS];
            loop {
                let count = file.read(&mut block)?;
                let Some(part) = block.get(..count).filter(|part| !part.is_empty()) else { break };
                hasher.update(part);
                total += crate::bytes::codec::to_u64(count);
                each(part)?;
            }
            Ok((total, hasher.digest()))
        };
        let (total, found) = read().map_err(at(&path))?;
        if total != octets {
            let what = format!("{}: it has {total} octets and not {octets}", path.display());
            return Err(Failure::Failed(what));
        }
        if hex(found) != hash {
            let what = format!("{}: damaged, its checksum is another", path.display());
            return Err(Failure::Failed(what));
        }
        Ok(())
    }
}

/// So many octets of a file.
pub(super) fn read_at(file: &File, octet: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut octets, octet)?;
    Ok(octets)
}

/// A new file for its owner alone, or an old one made empty.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format::PageAt;

    fn sample() -> Manifest {
        let root = PageAt { slot: 1, batch: 2, record: 192, len: 300, segment: 3 };
        let from = Mark { segment: 4, offset: 8_192, lsn: 5, check: 6 };
        let store = "0123456789abcdef0011223344556677";
        let base = Base {
            store: store.into(),
            log: 0,
            logs: 1,
            first_logs: None,
            segment_octets: 1 << 20,
            epoch: 7,
            root,
            from,
            index: Vec::new(),
        };
        let piece = Piece { octets: 8_192, hash: hex(8), seam: 4_096, seam_hash: hex(9) };
        let segment = SegmentPart {
            slot: 0,
            segment: 4,
            stream: Stream::Hot,
            walked: Walked { end: 8_192, last: 5, seam: 4_096 },
            pieces: vec![piece],
        };
        let file = FilePart { path: "dkim/a".into(), octets: 10, hash: hex(11) };
        Manifest {
            pombal: "0.1.0".into(),
            logs: vec![LogPart { base, end: from, segments: vec![segment] }],
            files: vec![file],
            ..Manifest::new(store.into(), 1_795_953_600_123_456)
        }
    }

    #[test]
    fn reads_the_manifests_that_it_writes() {
        let manifest = sample();
        assert_eq!(manifest.name(), "20261129T120000.123456Z");
        let named: Vec<String> = manifest
            .named()
            .map(|(path, octets, hash)| format!("{} {octets} {hash}", path.display()))
            .collect();
        let first = "log-000/seg-0000000004-0000000000-0000000000000008 8192 0000000000000008";
        assert_eq!(named, [first, "files/000000000000000b 10 000000000000000b"]);
        let text = manifest.text().unwrap();
        assert!(
            text.starts_with("{\"backup\":{\"format\":1,\"pombal\":\"0.1.0\",\"store\":"),
            "{text}"
        );
        assert_eq!(Manifest::read(&text), Ok(manifest));
    }

    #[test]
    fn refuses_a_manifest_with_anything_else_in_it() {
        let text = sample().text().unwrap();
        for at in 0..text.len() {
            let mut octets = text.clone().into_bytes();
            octets[at] ^= 1;
            let Ok(turned) = String::from_utf8(octets) else { continue };
            assert!(Manifest::read(&turned).is_err(), "octet {at}");
        }
        let later = text.replace("{\"format\":1,", "{\"format\":2,");
        assert!(Manifest::read(&later).is_err_and(|why| why.contains("another release")));
    }
}
