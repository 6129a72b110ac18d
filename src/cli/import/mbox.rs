//! mbox: all messages of a folder in one file; a tree of such files, or one.
//!
//! The file is read through once, to see where messages begin, and then message by message. A
//! `Content-Length` counts if a message, or nothing, follows where it says that the body ends; then
//! nothing is quoted in the body. Else the message ends before the next line that is one between messages,
//! behind an empty line.

use super::maildir::{DOVECOT_UIDL, levels_name};
use super::source::{Folder, Found, Loaded, Named, OpenError, Place, Source, load_each};
use crate::mailbox::Flags;
use crate::model::limits::MAILBOX_LEVELS_MAX;
use crate::wire::line::with_crlf;
use crate::wire::mbox::{self, Quoting, Standing};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Octets read at once while messages are looked for.
const READ_OCTETS: usize = 256 << 10;
/// Octets of a line that are looked at; of a header, too.
const HEADER_OCTETS_MAX: usize = 1 << 20;

/// A tree of mboxes, or one.
pub(super) struct Mbox {
    pub(super) root: PathBuf,
    /// Where the messages of a single file go.
    pub(super) folder: String,
    /// The name of a file that holds the messages of the directory that it lies in.
    pub(super) file_name: Option<String>,
    pub(super) quoting: Quoting,
    /// Minutes east of UTC of dates without a zone.
    pub(super) zone: i32,
    /// The form of unique ids of POP3 that the operator named.
    pub(super) uidl: Option<String>,
}

impl Source for Mbox {
    fn folders(&self, _: &mut dyn FnMut(&str, &str)) -> Result<Vec<Named>, String> {
        self.list().map_err(|error| format!("{}: {error}", self.root.display()))
    }

    fn open(&self, named: &Named, tell: &mut dyn FnMut(String)) -> Result<Folder, OpenError> {
        Ok(self.look(named, tell)?)
    }

    fn load(
        &self,
        named: &Named,
        folder: &Folder,
        batch: &[u32],
        give: &mut dyn FnMut(Loaded) -> bool,
    ) -> Result<(), String> {
        load_each(folder, batch, give, &|one| self.read(named, one));
        Ok(())
    }
}

impl Mbox {
    fn list(&self) -> io::Result<Vec<Named>> {
        if !fs::metadata(&self.root)?.is_dir() {
            let (name, path) = (Ok(self.folder.clone()), self.root.clone());
            return Ok(vec![Named { name, path, subscribed: false, uses: None }]);
        }
        let subscribed = self.subscriptions();
        let mut found = Vec::new();
        self.walk(&self.root, &[], &mut found)?;
        let named = |(levels, path): (Vec<String>, PathBuf)| {
            let texts: Vec<&str> = levels.iter().map(String::as_str).collect();
            let name = levels_name(&texts).ok_or_else(|| levels.join("/"));
            let subscribed = name.as_ref().is_ok_and(|name| subscribed.contains(name));
            Named { name, path, subscribed, uses: None }
        };
        let mut folders: Vec<Named> = found.into_iter().map(named).collect();
        folders.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(folders)
    }

    fn look(&self, named: &Named, tell: &mut dyn FnMut(String)) -> io::Result<Folder> {
        let file = File::options().read(true).open(&named.path)?;
        let mut scan = Scan {
            octets: file.metadata()?.len(),
            reader: BufReader::with_capacity(READ_OCTETS, file),
            at: 0,
            zone: self.zone,
            folder: Folder::default(),
        };
        scan.run()?;
        let mut folder = scan.folder;
        if folder.uidvalidity == 0 {
            folder.messages.iter_mut().for_each(|one| one.uid = 0);
        } else if named.name.as_deref() == Ok("INBOX") {
            folder.uidl = self.uidl.clone().or_else(|| Some(DOVECOT_UIDL.to_owned()));
        }
        folder.sort(tell);
        Ok(folder)
    }

    fn read(&self, named: &Named, found: &Found) -> io::Result<Vec<u8>> {
        let Place::Part { from, is_told } = found.place else { return Ok(Vec::new()) };
        let file = File::options().read(true).open(&named.path)?;
        let mut octets = vec![0; usize::try_from(found.octets).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut octets, from)?;
        let quoting = if is_told { Quoting::None } else { self.quoting };
        Ok(with_crlf(mbox::message(&octets, quoting)))
    }

    fn subscriptions(&self) -> Vec<String> {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let text = [read(".subscriptions"), read("subscriptions")].join("\n");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("V\t"));
        lines.filter_map(|line| levels_name(&line.split(['/', '\t']).collect::<Vec<_>>())).collect()
    }

    fn walk(
        &self,
        path: &Path,
        above: &[String],
        found: &mut Vec<(Vec<String>, PathBuf)>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let Some(name) = path.file_name() else { continue };
            let octets = name.as_bytes();
            let is_other = octets.starts_with(b".")
                || octets.ends_with(b".lock")
                || octets.starts_with(b"dovecot")
                || above.is_empty() && octets == b"subscriptions";
            if is_other || above.len() >= MAILBOX_LEVELS_MAX {
                continue;
            }
            let level = name.to_string_lossy().into_owned();
            let is_own = self.file_name.as_ref() == Some(&level) && !above.is_empty();
            let levels = if is_own { above.to_vec() } else { [above, &[level]].concat() };
            if path.is_dir() {
                self.walk(&path, &levels, found)?;
            } else if path.is_file() {
                found.push((levels, path));
            }
        }
        Ok(())
    }
}

/// A file that is looked through.
struct Scan {
    reader: BufReader<File>,
    /// Octets of the file.
    octets: u64,
    /// How far it was read.
    at: u64,
    zone: i32,
    folder: Folder,
}

impl Scan {
    fn run(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        // Empty lines may stand in front.
        while self.next_line(&mut line)? {
            if is_empty(&line) {
                continue;
            }
            let Some(mut date) = mbox::from_line(&line, self.zone) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no mbox"));
            };
            while let Some(next) = self.message(date)? {
                date = next;
            }
        }
        Ok(())
    }

    /// Reads a line, of which no more than [`HEADER_OCTETS_MAX`] octets are kept; false at the end.
    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        loop {
            let mut part = Vec::new();
            let most = HEADER_OCTETS_MAX as u64;
            let count = (&mut self.reader).take(most).read_until(b'\n', &mut part)?;
            self.at += count as u64;
            if line.is_empty() {
                *line = part;
            } else if part.ends_with(b"\n") {
                line.push(b'\n');
            }
            if count == 0 || line.ends_with(b"\n") {
                return Ok(!line.is_empty());
            }
        }
    }

    /// A message behind its line. The date of the line behind it, if another one follows.
    fn message(&mut self, date: i64) -> io::Result<Option<i64>> {
        let from = self.at;
        let (mut header, mut line) = (Vec::new(), Vec::new());
        let mut next = None;
        while self.next_line(&mut line)? {
            if header.len() < HEADER_OCTETS_MAX {
                header.extend_from_slice(&line);
            }
            if is_empty(&line) {
                break;
            }
        }
        let standing = mbox::standing(&header);
        let told = standing.content_length.map(|octets| self.at.saturating_add(octets));
        let told = told.filter(|&end| self.is_end(end).unwrap_or(false));
        let end = if let Some(end) = told {
            self.reader.seek(SeekFrom::Start(end))?;
            self.at = end;
            while self.next_line(&mut line)? {
                if !is_empty(&line) {
                    next = mbox::from_line(&line, self.zone);
                    break;
                }
            }
            end
        } else {
            let (end, date) = self.body_end()?;
            next = date;
            end
        };
        self.add(&standing, date, from, end, told.is_some());
        Ok(next)
    }

    /// Goes through a body up to the line behind it: where it ends, and the date of that line.
    fn body_end(&mut self) -> io::Result<(u64, Option<i64>)> {
        let (mut line, mut empty_at) = (Vec::new(), None);
        // The empty line behind the header may be the one before the next message, too.
        let mut behind_empty = true;
        loop {
            let begin = self.at;
            if !self.next_line(&mut line)? {
                return Ok((empty_at.unwrap_or(begin), None));
            }
            if behind_empty && let Some(date) = mbox::from_line(&line, self.zone) {
                return Ok((empty_at.unwrap_or(begin), Some(date)));
            }
            behind_empty = is_empty(&line);
            empty_at = behind_empty.then_some(begin);
        }
    }

    /// Whether a body that ends there is followed by a line between messages, or by nothing.
    fn is_end(&self, end: u64) -> io::Result<bool> {
        if end >= self.octets {
            return Ok(end == self.octets);
        }
        let mut octets = [0; 512];
        let count = self.reader.get_ref().read_at(&mut octets, end)?;
        let behind = octets.get(..count).unwrap_or_default();
        let bare = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n"));
        let bare = bare.unwrap_or(behind);
        let line = bare.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default();
        let is_last = bare.is_empty() && end + count as u64 == self.octets;
        Ok(is_last || mbox::from_line(line, self.zone).is_some())
    }

    fn add(&mut self, standing: &Standing<'_>, date: i64, from: u64, end: u64, is_told: bool) {
        let is_first = self.folder.messages.is_empty();
        if let Some((uidvalidity, last)) = standing.base.filter(|_| is_first) {
            self.folder.uidvalidity = uidvalidity;
            self.folder.uidnext = last.saturating_add(1);
        }
        if standing.is_internal {
            return;
        }
        let flags = [
            (standing.seen, Flags::SEEN),
            (standing.answered, Flags::ANSWERED),
            (standing.flagged, Flags::FLAGGED),
            (standing.deleted, Flags::DELETED),
            (standing.draft, Flags::DRAFT),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags = flags.fold(Flags::default(), |all, (_, one)| all.with(one));
        let keywords = standing.keywords.iter().map(|name| self.folder.keyword(name)).collect();
        let found = Found {
            place: Place::Part { from, is_told },
            octets: end - from,
            uid: standing.uid,
            date: u32::try_from(date.max(0)).unwrap_or(u32::MAX),
            flags,
            keywords,
            uidl: None,
        };
        self.folder.messages.push(found);
    }
}

fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}
