//! The files of a damaged log, read with whatever rights there are and never written.

use crate::bytes::hash::Sorted;
use crate::store::salvage::Source;
use crate::store::segments::slot_name;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// See the module.
pub(super) struct Files {
    dir: PathBuf,
    slots: Sorted<u32, (File, u64)>,
}

impl Files {
    /// The files of a log's directory; none where it is not there.
    pub(super) fn open(dir: &Path) -> io::Result<Files> {
        let mut slots = Sorted::new();
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("seg-")?.parse().ok());
            let Some(slot) = number.filter(|&slot| *slot_name(slot) == *name) else { continue };
            let file = OpenOptions::new().read(true).open(dir.join(&name))?;
            let len = file.metadata()?.len();
            slots.insert(slot, (file, len));
        }
        Ok(Files { dir: dir.to_owned(), slots })
    }
}

impl Source for Files {
    fn slots(&self) -> Vec<(u32, u64)> {
        self.slots.iter().map(|(&slot, &(_, len))| (slot, len)).collect()
    }

    /// As many octets as there are, where the file ends before.
    fn read(&self, slot: u32, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let (file, end) = self.slots.get(&slot).ok_or(io::ErrorKind::NotFound)?;
        let there = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(len);
        let mut octets = vec![0; there];
        file.read_exact_at(&mut octets, at)?;
        Ok(octets)
    }

    fn superblock(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let file = OpenOptions::new().read(true).open(self.dir.join("superblock"));
        // What cannot be read has no copy that is whole: that is said where none is found.
        drop(file.and_then(|mut file| file.read_to_end(&mut octets)));
        octets
    }
}
