//! An account as a backup has it.

use super::source::{Folder, Found, Loaded, Named, OpenError, Place, Source};
use super::{Errand, Manner};
use crate::admin::request::moving::{Ask, Folder as Row, Parcel, Reply};
use crate::bytes::hash::Map;
use crate::cli::progress::Report;
use crate::cli::{AskKept, Asking, Failure, moving};
use crate::config::Config;
use crate::mailbox::Flags;
use crate::wire::uidl::OWN;
use std::io::Write;
use std::path::PathBuf;

/// See the header.
pub(in crate::cli) struct Kept<'a> {
    ask: AskKept<'a>,
    pub(in crate::cli) folders: Vec<Row>,
    subscriptions: Vec<String>,
}

impl<'a> Kept<'a> {
    pub(in crate::cli) fn of(ask: AskKept<'a>) -> Result<Kept<'a>, Failure> {
        match ask(Ask::Folders)?.0 {
            Reply::Folders { folders, subscriptions } => Ok(Kept { ask, folders, subscriptions }),
            _ => Err(moving::strange()),
        }
    }

    /// The same below another name, and not subscribed to.
    #[must_use]
    pub(in crate::cli) fn beside(mut self, above: &str) -> Kept<'a> {
        for row in &mut self.folders {
            row.name = format!("{above}/{}", row.name);
            row.uses = 0;
        }
        self.subscriptions.clear();
        self
    }

    /// Brings it back to a user.
    pub(in crate::cli) fn bring(
        &self,
        address: &str,
        config: &Config,
        asking: &mut dyn Asking,
        report: &mut Report,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let errand = Errand { address, source: self, manner: Manner::Restore, config };
        let folders = errand.folders(report, err)?;
        errand.bring(&folders, asking, report, err)
    }

    /// The mailbox by its place among all.
    fn row(&self, named: &Named) -> Result<&Row, String> {
        let at = named.path.to_str().and_then(|path| path.parse::<usize>().ok());
        at.and_then(|at| self.folders.get(at)).ok_or_else(|| "it is not in the backup".into())
    }

    fn messages(&self, ask: Ask) -> Result<Part, String> {
        match (self.ask)(ask) {
            Ok((Reply::Messages { keywords, messages, next, unread }, octets)) => {
                Ok(Part { keywords, messages, next, unread, octets })
            }
            Ok((Reply::Failed(why), _)) => Err(why),
            Ok(_) => Err(moving::strange().text().to_owned()),
            Err(failure) => Err(failure.text().to_owned()),
        }
    }
}

/// Some messages.
struct Part {
    keywords: Vec<String>,
    messages: Vec<Parcel>,
    next: u32,
    unread: Vec<(u32, String)>,
    octets: Vec<u8>,
}

impl Part {
    /// What came of each message, by its UID.
    fn loaded(self) -> Result<Map<u32, Loaded>, String> {
        let mut rest = self.octets.as_slice();
        let mut loaded = Map::default();
        for parcel in &self.messages {
            let count = usize::try_from(parcel.octets).unwrap_or(usize::MAX);
            let split = rest.split_at_checked(count);
            let (octets, behind) = split.ok_or("the octets are not those of the messages")?;
            rest = behind;
            loaded.insert(parcel.uid, Loaded::Message(octets.to_vec()));
        }
        loaded.extend(self.unread.into_iter().map(|(uid, why)| (uid, Loaded::Odd(why))));
        Ok(loaded)
    }
}

impl Source for Kept<'_> {
    fn folders(&self, _: &mut dyn FnMut(&str, &str)) -> Result<Vec<Named>, String> {
        let named = self.folders.iter().enumerate().map(|(at, row)| Named {
            name: Ok(row.name.clone()),
            path: PathBuf::from(at.to_string()),
            subscribed: self.subscriptions.contains(&row.name),
            uses: Some(row.uses),
        });
        Ok(named.collect())
    }

    fn open(&self, named: &Named, _: &mut dyn FnMut(String)) -> Result<Folder, OpenError> {
        let row = self.row(named).map_err(OpenError::Gone)?;
        let mailbox = row.mailbox;
        let mut folder = Folder {
            uidvalidity: row.uidvalidity,
            uidnext: row.uidnext,
            // Promised mail has no numbers.
            uidl: (row.name == "INBOX" && row.uidvalidity != 0).then(|| OWN.to_owned()),
            ..Folder::default()
        };
        let mut from = 1;
        while from != 0 {
            let part = self.messages(Ask::List { mailbox, from }).map_err(OpenError::Left)?;
            let places: Vec<u16> = part.keywords.iter().map(|name| folder.keyword(name)).collect();
            let place = |at: &u16| places.get(usize::from(*at)).copied();
            let found = part.messages.into_iter().map(|parcel| Found {
                place: Place::Uid(parcel.uid),
                octets: parcel.octets.into(),
                uid: if row.uidvalidity == 0 { 0 } else { parcel.uid },
                date: parcel.date,
                flags: Flags(parcel.flags),
                keywords: parcel.keywords.iter().filter_map(place).collect(),
                uidl: parcel.uidl,
            });
            folder.messages.extend(found);
            from = part.next;
        }
        Ok(folder)
    }

    fn load(
        &self,
        named: &Named,
        folder: &Folder,
        batch: &[u32],
        give: &mut dyn FnMut(Loaded) -> bool,
    ) -> Result<(), String> {
        let mailbox = self.row(named)?.mailbox;
        let mut part: Map<u32, Loaded> = Map::default();
        for &at in batch {
            let found = usize::try_from(at).ok().and_then(|at| folder.messages.get(at));
            let Some(Found { place: Place::Uid(uid), .. }) = found else {
                return Err("a message without a number".into());
            };
            if !part.contains_key(uid) {
                part = self.messages(Ask::Take { mailbox, from: *uid })?.loaded()?;
            }
            if !give(part.remove(uid).unwrap_or(Loaded::Gone)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One shard reads all of it.
    fn threads(&self) -> usize {
        1
    }
}
