//! What moves in: folders of another server, and the messages in them.

use crate::mailbox::Flags;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// A folder that is there, not looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// UTF-8, `/` between levels; what stands there if it is none.
    pub(super) name: Result<String, String>,
    pub(super) path: PathBuf,
    pub(super) subscribed: bool,
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
}

impl Place {
    /// As it is shown to the operator.
    pub(super) fn words(&self) -> String {
        match self {
            Place::File { name, .. } => name.to_string_lossy().into_owned(),
            Place::Part { from, .. } => format!("the message at octet {from}"),
        }
    }
}

/// Where folders come from.
pub(super) trait Source {
    /// All folders, those above others first.
    fn folders(&self) -> io::Result<Vec<Named>>;
    /// Looks into one; complaints of what is odd go to `tell`.
    fn open(&self, named: &Named, tell: &mut dyn FnMut(String)) -> io::Result<Folder>;
    /// Reads a message as the store has it, with CRLF line ends. Called by several threads.
    fn load(&self, named: &Named, found: &Found) -> io::Result<Vec<u8>>;
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
