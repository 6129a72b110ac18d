//! What moves in: folders of another server, and the messages in them.

use crate::mailbox::Flags;
use std::ffi::OsString;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

/// Threads that read files.
const FILE_THREADS_MAX: usize = 8;

/// A folder that is there, not looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// UTF-8, `/` between levels; what stands there if it is none.
    pub(super) name: Result<String, String>,
    /// Where it lies; for IMAP what the other server calls it, octet by octet.
    pub(super) path: PathBuf,
    pub(super) subscribed: bool,
    /// What it is for ([`crate::mailbox::Use`]); `None` where the source knows nothing of that.
    pub(super) uses: Option<u8>,
}

/// A folder with all that is known of its messages but their octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    /// 0 where the folder has no UIDs.
    pub(super) uidvalidity: u32,
    pub(super) uidnext: u32,
    pub(super) keywords: Vec<String>,
    /// The form of unique ids of POP3 ([`crate::wire::uidl`]).
    pub(super) uidl: Option<String>,
    /// By rising UID, behind them those that have none, as they came.
    pub(super) messages: Vec<Found>,
    /// Messages that are there, and of which nothing could be learnt.
    pub(super) missing: u64,
    /// What cannot be kept.
    pub(super) lost: Vec<String>,
}

/// A message of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    /// Octets where it lies.
    pub(super) octets: u64,
    /// 0 for none.
    pub(super) uid: u32,
    /// When it was received, seconds since 1970.
    pub(super) date: u32,
    pub(super) flags: Flags,
    /// Places in the folder's list.
    pub(super) keywords: Vec<u16>,
    pub(super) uidl: Option<String>,
}

/// Where a message lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file of its own, in `new` or in `cur`.
    File { is_new: bool, name: OsString },
    /// In an mbox, from there on; whether its length was told, so that nothing is quoted in it.
    Part { from: u64, is_told: bool },
    /// On a server that knows it by this UID.
    Uid(u32),
}

/// What came of reading a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// Its octets as the store has them, with CRLF line ends.
    Message(Vec<u8>),
    /// It cannot be read, and why.
    Odd(String),
    /// It was removed there meanwhile.
    Gone,
}

/// Why a folder was not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// The others can be.
    Left(String),
    /// Nothing can be read any more.
    Gone(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Left(error.to_string())
    }
}

impl Loaded {
    pub(super) fn octets(&self) -> usize {
        match self {
            Loaded::Message(octets) => octets.len(),
            Loaded::Odd(_) | Loaded::Gone => 0,
        }
    }
}

impl Place {
    /// As it is shown to the operator.
    pub(super) fn words(&self) -> String {
        match self {
            Place::File { name, .. } => name.to_string_lossy().into_owned(),
            Place::Part { from, .. } => format!("the message at octet {from}"),
            Place::Uid(uid) => format!("UID {uid}"),
        }
    }
}

/// Where folders come from. All but [`Source::folders`] is called by several threads.
pub(super) trait Source: Sync {
    /// All folders, those above others first; what is left aside goes to `tell`, a name and why.
    fn folders(&self, tell: &mut dyn FnMut(&str, &str)) -> Result<Vec<Named>, String>;
    /// Looks into one; complaints of what is odd go to `tell`.
    fn open(&self, named: &Named, tell: &mut dyn FnMut(String)) -> Result<Folder, OpenError>;
    /// Reads messages, by their places in the folder, and gives them in this order, each of them, for
    /// as long as `give` says that it takes more. Fails where nothing can be read any more.
    fn load(
        &self,
        named: &Named,
        folder: &Folder,
        batch: &[u32],
        give: &mut dyn FnMut(Loaded) -> bool,
    ) -> Result<(), String>;
    /// How many threads are of use.
    fn threads(&self) -> usize {
        thread::available_parallelism().map_or(1, NonZero::get).min(FILE_THREADS_MAX)
    }
    /// Nothing more will be asked: who waits for something ends.
    fn stop(&self) {}
}

/// Reads messages one by one.
pub(super) fn load_each(
    folder: &Folder,
    batch: &[u32],
    give: &mut dyn FnMut(Loaded) -> bool,
    read: &dyn Fn(&Found) -> io::Result<Vec<u8>>,
) {
    for &at in batch {
        let found = usize::try_from(at).ok().and_then(|at| folder.messages.get(at));
        let loaded = match found.map(read) {
            Some(Ok(octets)) => Loaded::Message(octets),
            Some(Err(error)) => Loaded::Odd(error.to_string()),
            None => Loaded::Gone,
        };
        if !give(loaded) {
            return;
        }
    }
}

impl Folder {
    /// The place of a keyword in the list.
    pub(super) fn keyword(&mut self, name: &str) -> u16 {
        let known = self.keywords.iter().position(|known| known.eq_ignore_ascii_case(name));
        let at = known.unwrap_or_else(|| {
            self.keywords.push(name.into());
            self.keywords.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Brings the messages in order. Those whose UID another one has already get none.
    pub(super) fn sort(&mut self, tell: &mut dyn FnMut(String)) {
        // The sort is stable: what has no UID stays as it came.
        self.messages.sort_by_key(|one| if one.uid == 0 { u32::MAX } else { one.uid });
        let mut last = 0;
        for one in self.messages.iter_mut().filter(|one| one.uid != 0) {
            if one.uid == last {
                tell(format!("{} has the UID {last} of another one", one.place.words()));
                one.uid = 0;
            } else {
                last = one.uid;
            }
        }
        self.messages.sort_by_key(|one| if one.uid == 0 { u32::MAX } else { one.uid });
        self.uidnext = self.uidnext.max(last.saturating_add(1));
    }
}
