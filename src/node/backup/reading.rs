//! A machine whose files are those of a backup, read where they lie in the vault: a log opens on it
//! without being written down anywhere first.
//!
//! What is read is checked by who reads it, as on every disk: batches, pages and messages have their
//! checksums. What is written is forgotten: opening a log writes the epoch of a new life, and closing it a
//! checkpoint, neither of which is of any use here. So nothing may be put into such a log; who opens it
//! answers questions alone.

use super::coming::{LogFile, PieceAt};
use crate::bytes::codec::{to_u64, to_usize};
use crate::bytes::hash::Sorted;
use crate::env::ring::Ring;
use crate::env::{self, Env};
use crate::model::time::{Mono, Wall};
use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// All files of the logs that come back.
pub(super) struct Files {
    /// The directory of the vault.
    pub vault: PathBuf,
    pub by_path: Sorted<PathBuf, Arc<LogFile>>,
}

/// See the header. All else is the ring's.
#[derive(Clone)]
pub(super) struct Reading {
    ring: Ring,
    files: Arc<Files>,
}

impl Reading {
    pub(super) fn new(ring: Ring, files: Arc<Files>) -> Reading {
        Reading { ring, files }
    }

    fn file(&self, of: LogFile) -> Kept {
        Kept { files: Arc::clone(&self.files), of: Arc::new(of) }
    }
}

/// A file of it.
pub(super) struct Kept {
    files: Arc<Files>,
    of: Arc<LogFile>,
}

impl Env for Reading {
    type File = Kept;
    type Conn = <Ring as Env>::Conn;
    type Listener = <Ring as Env>::Listener;

    fn now(&self) -> Mono {
        self.ring.now()
    }

    fn wall(&self) -> Wall {
        self.ring.wall()
    }

    async fn sleep(&self, pause: Duration) {
        self.ring.sleep(pause).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.ring.spawn(task);
    }

    async fn breathe(&self) {
        self.ring.breathe().await;
    }

    fn random(&self) -> u64 {
        self.ring.random()
    }

    async fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let here = self.files.by_path.keys().filter(|path| path.parent() == Some(dir));
        let names = here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(names.collect())
    }

    fn room(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Zeros that take no room: a log wants a segment at hand, and never uses it.
    async fn create(&self, path: &Path, len: u64) -> io::Result<Kept> {
        let (path, head, pieces) = (path.to_owned(), Vec::new(), Vec::new());
        Ok(self.file(LogFile { path, octets: len, head, pieces, end: 0 }))
    }

    async fn open(&self, path: &Path) -> io::Result<Kept> {
        let of = self.files.by_path.get(path).map(Arc::clone);
        let of = of.ok_or(io::ErrorKind::NotFound)?;
        Ok(Kept { files: Arc::clone(&self.files), of })
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        self.ring.listen(address)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        deadline: Mono,
    ) -> io::Result<Self::Conn> {
        self.ring.connect(address, source, deadline).await
    }

    fn attach(&self, detached: <Self::Conn as env::Conn>::Detached) -> io::Result<Self::Conn> {
        self.ring.attach(detached)
    }
}

impl env::File for Kept {
    type Block = Vec<u8>;
    type View = Vec<u8>;

    fn alloc(&self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    fn len(&self) -> u64 {
        self.of.octets
    }

    async fn write_at(&self, _: Vec<u8>, _: u64) -> io::Result<()> {
        Ok(())
    }

    async fn read_at(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        self.of.read(&self.files.vault, at, len)
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFile {
    /// So many of its octets, out of the pieces in the vault. Waits for the disk: nobody else is
    /// on this shard.
    fn read(&self, vault: &Path, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; len];
        let until = self.end.min(at + to_u64(len));
        let first = self.pieces.partition_point(|piece| piece.begins + piece.octets <= at);
        let behind = self.pieces.get(first..).unwrap_or_default();
        for piece in behind.iter().take_while(|piece| piece.begins < until) {
            let (from, to) = (piece.begins.max(at), (piece.begins + piece.octets).min(until));
            let range = to_usize(from - at)..to_usize(to.max(from) - at);
            let part = octets.get_mut(range).unwrap_or_default();
            piece.read(vault, from - piece.begins, part)?;
        }
        let covered = self.head.get(to_usize(at)..).unwrap_or_default();
        for (octet, &head) in octets.iter_mut().zip(covered) {
            *octet = head;
        }
        Ok(octets)
    }
}

impl PieceAt {
    fn read(&self, vault: &Path, at: u64, octets: &mut [u8]) -> io::Result<()> {
        let path = vault.join(&self.path);
        let read = OpenOptions::new().read(true).open(&path);
        let read = read.and_then(|file| file.read_exact_at(octets, at));
        read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Head, pieces, and zeros, wherever a read begins and ends.
    #[test]
    fn reads_what_would_be_written() {
        let vault = tempfile::tempdir().unwrap();
        let whole: Vec<u8> = (1..=30).collect();
        let pieces = [(0_usize, 12_usize), (12, 5), (17, 13)].map(|(begins, octets)| {
            let path = PathBuf::from(format!("{begins}"));
            std::fs::write(vault.path().join(&path), &whole[begins..begins + octets]).unwrap();
            let (begins, octets) = (to_u64(begins), to_u64(octets));
            PieceAt { path, begins, octets, hash: String::new() }
        });
        let (path, head) = (PathBuf::from("seg-000000"), vec![91, 92, 93, 94]);
        let file = LogFile { path, octets: 40, head: head.clone(), pieces: pieces.into(), end: 25 };
        let mut wanted = whole;
        wanted.truncate(25);
        wanted[..4].copy_from_slice(&head);
        wanted.resize(40, 0);
        for at in 0..40 {
            for len in 0..=40 - at {
                let found = file.read(vault.path(), to_u64(at), len).unwrap();
                assert_eq!(found, wanted[at..at + len], "{len} octets from {at} on");
            }
        }
        std::fs::write(vault.path().join("12"), b"cut").unwrap();
        let error = file.read(vault.path(), 8, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        assert_eq!(file.read(vault.path(), 17, 8).unwrap(), wanted[17..25]);
    }
}
