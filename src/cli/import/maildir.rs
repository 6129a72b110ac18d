//! Maildir: one file for each message. Folders are `.A.B` beside `cur` (Maildir++, Dovecot's and
//! Courier's default) or `A/B` (Dovecot's `LAYOUT=fs`), names in modified UTF-7 or UTF-8.
//!
//! UIDs are those of `dovecot-uidlist`, or of `courierimapuiddb` where there is no such list;
//! keywords those of `dovecot-keywords` or `courierimapkeywords`. A message that no list names yet
//! comes behind those that have a UID, as the server would have numbered it: by the time in its name.

use super::source::{Folder, Found, Loaded, Named, OpenError, Place, Source, load_each};
use crate::bytes::hash::Map;
use crate::mailbox::Flags;
use crate::model::limits::MAILBOX_LEVELS_MAX;
use crate::wire::imap::mailbox;
use crate::wire::line::with_crlf;
use crate::wire::maildir::{self, Info, UidList};
use crate::wire::uidl::literal;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What Dovecot makes unique ids of POP3 of by default.
pub(super) const DOVECOT_UIDL: &str = "%08Xu%08Xv";
/// What IMAP calls the flag P of Maildir (RFC 5788).
const FORWARDED: &str = "$Forwarded";

/// A tree of Maildirs.
pub(super) struct Maildir {
    pub(super) root: PathBuf,
    /// The form of unique ids of POP3 that the operator named.
    pub(super) uidl: Option<String>,
}

impl Source for Maildir {
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
        load_each(folder, batch, give, &|one| read(named, one));
        Ok(())
    }
}

impl Maildir {
    fn list(&self) -> io::Result<Vec<Named>> {
        if !is_maildir(&self.root) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no Maildir: it has no cur"));
        }
        let subscribed = self.subscriptions();
        let mut found = vec![(Ok("INBOX".to_owned()), self.root.clone())];
        for entry in directories(&self.root)? {
            let name = entry.file_name();
            let name = name.and_then(|name| name.as_bytes().strip_prefix(b"."));
            if let Some(name) = name.filter(|_| is_maildir(&entry)) {
                found.push((dotted(name), entry));
            }
        }
        walk(&self.root, &[], &mut found)?;
        let named = |(name, path): (Result<String, String>, PathBuf)| {
            let subscribed = name.as_ref().is_ok_and(|name| subscribed.contains(name));
            Named { name, path, subscribed, uses: None }
        };
        let mut folders: Vec<Named> = found.into_iter().map(named).collect();
        folders.get_mut(1..).unwrap_or_default().sort_by(|one, other| one.name.cmp(&other.name));
        Ok(folders)
    }

    fn look(&self, named: &Named, tell: &mut dyn FnMut(String)) -> io::Result<Folder> {
        let mut folder = Folder::default();
        let text = read_if_there(&named.path.join("dovecot-uidlist"))?;
        let is_dovecot = text.is_some();
        let text = match text {
            Some(text) => text,
            None => read_if_there(&named.path.join("courierimapuiddb"))?.unwrap_or_default(),
        };
        let list = maildir::uid_list(&text);
        if list.is_none() && !text.is_empty() {
            tell("its list of UIDs cannot be read: all messages get new ones".into());
        }
        let list = list.unwrap_or_default();
        if list.broken > 0 {
            tell(format!("{} lines of its list of UIDs cannot be read", list.broken));
        }
        folder.uidvalidity = list.uidvalidity;
        folder.uidnext = list.uidnext;
        let is_inbox = named.name.as_deref() == Ok("INBOX");
        if is_inbox {
            folder.uidl = self.uidl.clone().or(is_dovecot.then(|| DOVECOT_UIDL.to_owned()));
        }
        let known = Known::new(&named.path, &list, is_inbox)?;
        let letters = letters(&named.path, &mut folder)?;
        for (is_new, part) in [(false, "cur"), (true, "new")] {
            let Ok(entries) = fs::read_dir(named.path.join(part)) else { continue };
            for entry in entries {
                take(&entry?, is_new, &known, &letters, &mut folder);
            }
        }
        // What has no UID gets one in the order in which it came.
        folder.messages.sort_by_cached_key(|one| match &one.place {
            Place::File { name, .. } => {
                let base = maildir::split(name.as_bytes()).0;
                (maildir::time(base), base.to_vec())
            }
            Place::Part { .. } | Place::Uid(_) => ((0, 0), Vec::new()),
        });
        folder.sort(tell);
        Ok(folder)
    }

    /// Names of Dovecot's and of Courier's file of subscriptions.
    fn subscriptions(&self) -> Vec<String> {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let mut names = Vec::new();
        let text = read("subscriptions");
        // Version 2 has tabs between levels, and its own line in front.
        let is_second = text.starts_with("V\t2");
        for line in text.lines().skip(usize::from(is_second)).filter(|line| !line.is_empty()) {
            let separator = if is_second { '\t' } else { '.' };
            let levels: Vec<&str> = line.split(separator).collect();
            names.extend(levels_name(&levels));
            // With LAYOUT=fs levels are parted by a slash, and dots are of names.
            names.extend(levels_name(&line.split('/').collect::<Vec<&str>>()));
        }
        for line in read("courierimapsubscribed").lines() {
            let rest = line.strip_prefix("INBOX.").unwrap_or(line);
            names.extend(levels_name(&rest.split('.').collect::<Vec<&str>>()));
        }
        names
    }
}

fn read(named: &Named, found: &Found) -> io::Result<Vec<u8>> {
    let Place::File { is_new, name } = &found.place else { return Ok(Vec::new()) };
    let part = if *is_new { "new" } else { "cur" };
    Ok(with_crlf(fs::read(named.path.join(part).join(name))?))
}

/// Takes a file as a message, if it is one.
fn take(
    entry: &fs::DirEntry,
    is_new: bool,
    known: &Known,
    letters: &[Option<u16>],
    folder: &mut Folder,
) {
    let name = entry.file_name();
    if name.as_bytes().starts_with(b".") {
        return;
    }
    // It may have got another name meanwhile.
    let Ok(facts) = entry.metadata() else { return };
    if !facts.is_file() {
        return;
    }
    let (base, info) = maildir::split(name.as_bytes());
    let listed = known.listed.get(base);
    let mut keywords: Vec<u16> =
        info.keywords.iter().filter_map(|&at| *letters.get(usize::from(at))?).collect();
    for name in known.keywords.get(base).into_iter().flatten() {
        keywords.push(folder.keyword(name));
    }
    if info.passed {
        keywords.push(folder.keyword(FORWARDED));
    }
    let date = match facts.mtime() {
        ..=0 => maildir::time(base).0,
        seconds => u32::try_from(seconds).unwrap_or(u32::MAX),
    };
    let uidl = known.uidls.get(base).map(|id| literal(id));
    let uid = listed.map_or(0, |listed| listed.0);
    let uidl = listed.and_then(|listed| listed.1.clone()).or(uidl);
    let place = Place::File { is_new, name: name.clone() };
    let (octets, flags) = (facts.len(), flags(&info));
    folder.messages.push(Found { place, octets, uid, date, flags, keywords, uidl });
}

/// What lists know of messages, by the base of their files' names.
#[derive(Default)]
struct Known {
    /// UID, and the form of the unique id of POP3.
    listed: Map<Vec<u8>, (u32, Option<String>)>,
    uidls: Map<Vec<u8>, String>,
    keywords: Map<Vec<u8>, Vec<String>>,
}

impl Known {
    fn new(path: &Path, list: &UidList<'_>, is_inbox: bool) -> io::Result<Known> {
        let mut known = Known::default();
        for line in &list.lines {
            let uidl = line.uidl.filter(|_| is_inbox).map(literal);
            known.listed.insert(line.base.to_vec(), (line.uid, uidl));
        }
        if is_inbox && let Some(text) = read_if_there(&path.join("courierpop3dsizelist"))? {
            let lines = text.split(|&octet| octet == b'\n');
            let ids = lines.filter_map(maildir::courier_pop3);
            known.uidls.extend(ids.map(|(base, id)| (base.to_vec(), id)));
        }
        known.read_courier(&path.join("courierimapkeywords"))?;
        Ok(known)
    }

    /// `:list` has names of keywords, an empty line, and `BASE:NUMBER…` for each message; a file with a
    /// message's name, or `.N.` in front of it, says anew which it has.
    fn read_courier(&mut self, path: &Path) -> io::Result<()> {
        let Some(text) = read_if_there(&path.join(":list"))? else { return Ok(()) };
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let names: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        for (base, places) in lines.filter_map(|line| line.rsplit_once(':')) {
            let places = places.split_ascii_whitespace().filter_map(|at| at.parse::<usize>().ok());
            let named = places.filter_map(|at| names.get(at)).map(ToString::to_string).collect();
            self.keywords.insert(base.as_bytes().to_vec(), named);
        }
        let mut updates: Vec<(Vec<u8>, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_bytes();
            if name == b":list" {
                continue;
            }
            // The plain name is the newest.
            let (number, base) = numbered(name).unwrap_or((u64::MAX, name));
            updates.push((base.to_vec(), number, entry.path()));
        }
        updates.sort();
        for (base, _, path) in updates {
            let text = fs::read_to_string(path).unwrap_or_default();
            let named = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            self.keywords.insert(base, named);
        }
        Ok(())
    }
}

/// `.N.BASE`.
fn numbered(name: &[u8]) -> Option<(u64, &[u8])> {
    let rest = name.strip_prefix(b".")?;
    let dot = rest.iter().position(|&octet| octet == b'.')?;
    let number = std::str::from_utf8(rest.get(..dot)?).ok()?.parse().ok()?;
    Some((number, rest.get(dot + 1..)?))
}

fn flags(info: &Info) -> Flags {
    [
        (info.seen, Flags::SEEN),
        (info.replied, Flags::ANSWERED),
        (info.flagged, Flags::FLAGGED),
        (info.trashed, Flags::DELETED),
        (info.draft, Flags::DRAFT),
    ]
    .into_iter()
    .filter(|(is_set, _)| *is_set)
    .fold(Flags::default(), |all, (_, one)| all.with(one))
}

/// The keyword that each letter stands for, by its place in the folder's list.
fn letters(path: &Path, folder: &mut Folder) -> io::Result<Vec<Option<u16>>> {
    let mut letters = vec![None; 26];
    let text = read_if_there(&path.join("dovecot-keywords"))?.unwrap_or_default();
    for (at, name) in maildir::keywords(&String::from_utf8_lossy(&text)) {
        if let Some(place) = letters.get_mut(usize::from(at)).filter(|_| !name.is_empty()) {
            *place = Some(folder.keyword(name));
        }
    }
    Ok(letters)
}

/// All three directories should be there; what was copied by hand may lack what was empty.
fn is_maildir(path: &Path) -> bool {
    path.join("cur").is_dir() || path.join("new").is_dir()
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Folders of `LAYOUT=fs` below a directory.
fn walk(
    path: &Path,
    above: &[String],
    found: &mut Vec<(Result<String, String>, PathBuf)>,
) -> io::Result<()> {
    for entry in directories(path)? {
        let Some(name) = entry.file_name() else { continue };
        let is_other = matches!(name.as_bytes(), b"cur" | b"new" | b"tmp" | b"courierimapkeywords")
            || name.as_bytes().starts_with(b".");
        if is_other || above.len() >= MAILBOX_LEVELS_MAX {
            continue;
        }
        let level = name.to_string_lossy().into_owned();
        let levels = [above, &[level]].concat();
        if is_maildir(&entry) {
            let texts: Vec<&str> = levels.iter().map(String::as_str).collect();
            found.push((levels_name(&texts).ok_or_else(|| levels.join("/")), entry.clone()));
        }
        walk(&entry, &levels, found)?;
    }
    Ok(())
}

/// The name of a folder of Maildir++.
fn dotted(name: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(name);
    let levels: Vec<&str> = text.split('.').collect();
    levels_name(&levels).ok_or_else(|| text.into_owned())
}

/// A name out of its levels as they lie on the disk: modified UTF-7, or else UTF-8.
pub(super) fn levels_name(levels: &[&str]) -> Option<String> {
    let level = |level: &&str| -> Option<String> {
        let read = mailbox::decode(level.as_bytes());
        let name = read.map_or_else(|_| (*level).to_owned(), std::borrow::Cow::into_owned);
        let is_whole = !name.contains(['/', char::REPLACEMENT_CHARACTER]);
        is_whole.then(|| mailbox::net_unicode(&name).into_owned())
    };
    let name = levels.iter().map(level).collect::<Option<Vec<String>>>()?.join("/");
    mailbox::name(name.as_bytes(), true).ok().map(std::borrow::Cow::into_owned)
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
