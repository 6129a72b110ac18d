//! A file of lines that is added to: what was learnt and is worth knowing after a restart.
//!
//! Nothing that was promised to anybody stands in it: lines are written by the concierge when it comes
//! to it, and a crash may cost the last of them. What is whole is read again.

use super::Concierge;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file; clones are the same one.
#[derive(Clone, Debug)]
pub struct Journal {
    concierge: Concierge,
    path: Arc<Path>,
}

impl Journal {
    /// The journal at `path`, which may not be there yet, and the lines in it if it has no more than so
    /// many octets: else it counts for nothing. Reads it at once: before the shards are started.
    pub fn open(
        concierge: &Concierge,
        path: PathBuf,
        octets_max: u64,
    ) -> io::Result<(Journal, Vec<String>)> {
        let lines = match fs::metadata(&path) {
            Ok(data) if data.len() > octets_max => Vec::new(),
            Ok(_) => {
                let octets = fs::read(&path)?;
                let text = String::from_utf8_lossy(&octets);
                // What stands behind the last end of a line was not written whole.
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                whole.lines().map(str::to_owned).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok((Journal { concierge: concierge.clone(), path: path.into() }, lines))
    }

    /// Adds a line, which has no end of line in it. What cannot be written is told to `failed`.
    pub fn add(&self, line: String, failed: impl FnOnce(io::Error) + Send + 'static) {
        self.errand(failed, move |path| add(path, line));
    }

    /// Puts these lines in the place of all there are.
    pub fn replace(&self, lines: Vec<String>, failed: impl FnOnce(io::Error) + Send + 'static) {
        self.errand(failed, move |path| replace(path, &lines));
    }

    fn errand(
        &self,
        failed: impl FnOnce(io::Error) + Send + 'static,
        write: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) {
        let path = Arc::clone(&self.path);
        // Errands begin in their order, and this one does not wait for anything. Where there is no room
        // for it the line is as good as lost in a crash.
        let _ = self.concierge.send(async move {
            if let Err(error) = write(&path) {
                failed(error);
            }
        });
    }
}

fn add(path: &Path, mut line: String) -> io::Result<()> {
    line.push('\n');
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}

fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn lines_are_there_again_and_half_a_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let concierge = Concierge::start().unwrap();
        let open = || Journal::open(&concierge, path.clone(), 100).unwrap();
        let done = || block_on(concierge.run(async {}).unwrap()).unwrap();
        let failed = |error| panic!("{error}");
        let (journal, lines) = open();
        assert!(lines.is_empty());
        journal.add("one".into(), failed);
        journal.add("two".into(), failed);
        done();
        assert_eq!(open().1, ["one", "two"]);
        add(&path, "half".into()).unwrap();
        let octets = fs::read(&path).unwrap();
        fs::write(&path, &octets[..octets.len() - 1]).unwrap();
        assert_eq!(open().1, ["one", "two"]);
        journal.replace(vec!["three".into()], failed);
        journal.add("four".into(), failed);
        done();
        assert_eq!(open().1, ["three", "four"]);
        journal.replace(vec!["x".repeat(200)], failed);
        done();
        assert!(open().1.is_empty());
        journal.replace(Vec::new(), failed);
        done();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn says_what_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let concierge = Concierge::start().unwrap();
        let (journal, _) =
            Journal::open(&concierge, dir.path().join("nowhere/lines"), 100).unwrap();
        let (told, hear) = crossbeam::channel::bounded(2);
        let again = told.clone();
        journal.add("one".into(), move |error| told.send(error.kind()).unwrap());
        journal.replace(vec![], move |error| again.send(error.kind()).unwrap());
        assert_eq!(hear.iter().take(2).collect::<Vec<_>>(), [io::ErrorKind::NotFound; 2]);
    }
}
