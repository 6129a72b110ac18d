//! Another server's mail by IMAP (RFC 9051, RFC 3501): mailboxes are looked through, and messages fetched
//! in batches, over several connections.
//!
//! ```text
//!   folders ─ NAMESPACE, LIST             open ─ EXAMINE, UID FETCH 1:* of all but the octets
//!   load ─ UID FETCH … BODY.PEEK[] ─┬ all of them, in order
//!                                   ├ the connection is lost ─> another one, for what is missing
//!                                   └ nothing comes ─> the first one alone, three times, then without it
//! ```
//!
//! What the server says is believed only within bounds: a message that is larger than the store takes is
//! dropped as it comes, whatever was said of its size, and what comes out of order is held up to
//! [`HELD_OCTETS_MAX`] octets, else fetched again.

mod connection;
mod names;
mod pool;
mod pop3;
mod reader;
mod transport;

#[cfg(test)]
mod tests;

use self::connection::{Account, Connection, Examined, Trouble, string};
use self::names::{Choice, Listing};
use self::pool::Pool;
use self::pop3::Unique;
use self::reader::Literal;
use self::transport::{Place as Address, Trust};
use super::super::Failure;
use super::super::args::ImapArguments;
use super::maildir::DOVECOT_UIDL;
use super::source::{Folder, Found, Loaded, Named, OpenError, Place, Source};
use crate::mailbox::Flags;
use crate::model::limits::KEYWORD_OCTETS_MAX;
use crate::proto::sasl::Credentials;
use crate::wire::imap::answer::{Answer, Fetched, Value};
use crate::wire::line::with_crlf;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// How often the same is tried in vain.
const TRIES_MAX: u32 = 3;
/// Messages of one mailbox that are looked at.
const FOLDER_MESSAGES_MAX: usize = 1 << 22;
/// Keywords of one mailbox that are looked at: more than it can have here.
const KEYWORDS_SEEN_MAX: usize = 1_024;
/// Octets of a command; all servers take 8,000 (RFC 2683 §3.2.1.5).
const SET_OCTETS_MAX: usize = 7_000;
/// Octets of messages that came before those in front of them.
const HELD_OCTETS_MAX: usize = 16 << 20;

/// See the header.
pub(super) struct Imap {
    pool: Pool,
    choice: Choice,
    connections: usize,
    /// The form of unique ids of POP3 that the operator named.
    uidl: Option<String>,
    /// Where they are asked for.
    pop3: Option<Account>,
}

impl Imap {
    /// Of what the operator said. `password` is asked for last.
    pub(super) fn new(
        arguments: &ImapArguments,
        uidl: Option<String>,
        message_max: u64,
        password: &mut dyn FnMut() -> Result<String, Failure>,
    ) -> Result<Imap, Failure> {
        let place = Address::read(&arguments.server, "imap", [143, 993])?;
        let pop3 = arguments.pop3.as_ref().map(|text| Address::read(text, "pop3", [110, 995]));
        let pop3 = pop3.transpose()?;
        let trust = match &arguments.ca {
            _ if arguments.insecure => Trust::Anyone,
            Some(path) => Trust::File(path),
            None => Trust::System,
        };
        let tls = trust.config()?;
        let login = place.login.clone().unwrap_or_else(|| arguments.address.clone());
        let mut credentials = Credentials::new(&login, &password()?);
        if let Some(master) = &arguments.master {
            credentials.acting_for =
                Some(std::mem::replace(&mut credentials.user, (**master).into()));
        }
        let account = |place: Address| Account {
            tls: std::sync::Arc::clone(&tls),
            place,
            in_clear: arguments.clear,
            credentials: credentials.clone(),
            is_token: arguments.token,
            message_max,
        };
        Ok(Imap {
            pool: Pool::new(account(place), arguments.connections.into()),
            choice: Choice {
                only: arguments.only.clone(),
                exclude: arguments.exclude.clone(),
                views: arguments.views,
            },
            connections: arguments.connections.into(),
            uidl,
            pop3: pop3.map(account),
        })
    }
}

const STOPPED: &str = "the import has ended";

impl Source for Imap {
    fn folders(&self, tell: &mut dyn FnMut(&str, &str)) -> Result<Vec<Named>, String> {
        let listing = self.pool.with(&mut |connection| names::list(connection, &self.choice));
        let Listing { folders, subscribed, passed } = listing.map_err(|trouble| match trouble {
            Trouble::Lost(error) => format!("{}: {error}", self.pool.host()),
            Trouble::Refused(why) | Trouble::Fatal(why) => format!("{}: {why}", self.pool.host()),
        })?;
        for (name, why) in passed {
            tell(&name, why);
        }
        for name in subscribed {
            tell(&name, "it is subscribed to there, and is no mailbox");
        }
        Ok(folders)
    }

    fn open(&self, named: &Named, tell: &mut dyn FnMut(String)) -> Result<Folder, OpenError> {
        let mut tries = 0;
        let mut folder = loop {
            tries += 1;
            match self.pool.with(&mut |connection| look(connection, named, tell)) {
                // Messages may have gone just then.
                Ok(folder) if folder.missing > 0 && tries == 1 => {}
                Ok(folder) => break folder,
                Err(Trouble::Refused(why)) => return Err(OpenError::Left(why)),
                Err(Trouble::Fatal(why)) => return Err(OpenError::Gone(why)),
                Err(Trouble::Lost(error)) if tries >= TRIES_MAX => {
                    return Err(OpenError::Left(error.to_string()));
                }
                Err(Trouble::Lost(_)) => self.pool.pause(1),
            }
        };
        if named.name.as_deref() == Ok("INBOX") {
            self.tell_apart(&mut folder, tell)?;
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
        let mut batch = Batch::new(folder, batch, give);
        let mut tries = 0;
        while batch.next < batch.wanted.len() {
            let before = batch.next;
            let done = self
                .pool
                .with(&mut |connection| fetch(connection, named, folder, &mut batch, tries > 0));
            if batch.is_stopped || self.pool.is_stopped() {
                return Err(STOPPED.into());
            }
            let why = match done {
                Err(Trouble::Fatal(why)) => return Err(why),
                Err(trouble) => trouble.to_string(),
                Ok(()) => "the server does not hand it out".into(),
            };
            tries = if batch.next > before { 0 } else { tries + 1 };
            if tries > TRIES_MAX {
                batch.leave(why);
                tries = 0;
            } else if tries > 1 {
                self.pool.pause(1);
            }
        }
        Ok(())
    }

    fn threads(&self) -> usize {
        self.connections
    }

    fn stop(&self) {
        self.pool.stop();
    }
}

impl Imap {
    /// Finds out by which unique ids of POP3 the messages of INBOX are known.
    fn tell_apart(
        &self,
        folder: &mut Folder,
        tell: &mut dyn FnMut(String),
    ) -> Result<(), OpenError> {
        folder.uidl.clone_from(&self.uidl);
        let Some(account) = &self.pop3 else {
            if folder.uidl.is_none() && self.pool.is_dovecot() {
                folder.uidl = Some(DOVECOT_UIDL.into());
            }
            return Ok(());
        };
        let unique = pop3::ask(account).map_err(|error| {
            OpenError::Gone(format!("{}, by POP3: {error}", account.place.host))
        })?;
        let Unique { form, matched, unmatched } = pop3::hold_against(&unique, folder);
        if let Some(form) = form {
            folder.uidl = Some(form);
        } else {
            for (at, id) in matched {
                folder.messages[at].uidl = Some(crate::wire::uidl::literal(&id));
            }
        }
        if unmatched > 0 {
            tell(format!(
                "{unmatched} unique ids of POP3 belong to no message that is known by IMAP"
            ));
            folder.lost.push(format!("of {unmatched} messages the unique id of POP3"));
        }
        Ok(())
    }
}

/// All that is known of the messages of a mailbox but their octets.
fn look(
    connection: &mut Connection,
    named: &Named,
    tell: &mut dyn FnMut(String),
) -> Result<Folder, Trouble> {
    let Examined { uidvalidity, uidnext, messages } =
        connection.examine(named.path.as_os_str().as_bytes(), true)?;
    let mut folder = Folder { uidvalidity, uidnext, ..Folder::default() };
    let (mut odd, mut is_too_many) = (BTreeSet::new(), false);
    if messages > 0 {
        let line = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)";
        connection.done(line, &mut |(answer, _)| {
            if let Answer::Fetch(told) = answer
                && let (Some(uid), Some(octets)) = (told.uid, told.octets)
            {
                is_too_many |= folder.messages.len() >= FOLDER_MESSAGES_MAX;
                if !is_too_many {
                    let found = found(&told, uid, octets, &mut folder, &mut odd);
                    folder.messages.push(found);
                }
            }
            Ok(())
        })?;
    }
    if is_too_many {
        return Err(Trouble::Refused(format!("more than {FOLDER_MESSAGES_MAX} messages")));
    }
    folder.lost.extend(odd);
    folder.sort(tell);
    // Without a UID of its own a message cannot be asked for.
    folder.messages.retain(|one| one.uid != 0);
    let count = folder.messages.len() as u64;
    folder.missing = u64::from(messages).saturating_sub(count);
    Ok(folder)
}

/// Fetches what is missing; `alone`: only the first of it.
fn fetch(
    connection: &mut Connection,
    named: &Named,
    folder: &Folder,
    batch: &mut Batch<'_>,
    alone: bool,
) -> Result<(), Trouble> {
    let examined = match connection.examine(named.path.as_os_str().as_bytes(), false) {
        Err(Trouble::Refused(why)) => return Err(Trouble::Fatal(why)),
        other => other?,
    };
    if examined.uidvalidity != folder.uidvalidity {
        return Err(Trouble::Fatal("the mailbox was made anew meanwhile".into()));
    }
    for set in batch.sets(alone) {
        let line = format!("UID FETCH {set} (UID BODY.PEEK[])");
        connection.done(&line, &mut |(answer, literals)| {
            let Answer::Fetch(Fetched { uid: Some(uid), body: Some(body), .. }) = answer else {
                return Ok(());
            };
            let loaded = match &body {
                Value::Nil => Loaded::Odd("the server has no octets of it".into()),
                Value::Literal(at) => match literals.get_mut(*at).map(Literal::take) {
                    Some(Literal::Whole(octets)) => Loaded::Message(with_crlf(octets)),
                    _ => Loaded::Odd("larger than smtp.max_message_size".into()),
                },
                other => match string(other, literals) {
                    Some(octets) => Loaded::Message(with_crlf(octets.into_owned())),
                    None => Loaded::Odd("the server tells nothing of it".into()),
                },
            };
            batch.put(uid, loaded);
            if batch.is_stopped { Err(Trouble::Fatal(STOPPED.into())) } else { Ok(()) }
        })?;
    }
    let missing = batch.sets(alone);
    if missing.is_empty() {
        return Ok(());
    }
    // What is there no more need not come.
    connection.done("NOOP", &mut |_| Ok(()))?;
    let mut there = BTreeSet::new();
    for set in &missing {
        connection.done(&format!("UID FETCH {set} (UID)"), &mut |(answer, _)| {
            if let Answer::Fetch(Fetched { uid: Some(uid), .. }) = answer {
                there.extend(batch.place(uid).map(|_| uid));
            }
            Ok(())
        })?;
    }
    batch.forget_but(&there, alone);
    Ok(())
}

/// A message out of what was told of it.
fn found(
    told: &Fetched<'_>,
    uid: u32,
    octets: u64,
    folder: &mut Folder,
    odd: &mut BTreeSet<String>,
) -> Found {
    let mut flags = Flags::default();
    let mut keywords = Vec::new();
    for flag in told.flags.iter().flatten() {
        let system = [
            ("\\Seen", Flags::SEEN),
            ("\\Answered", Flags::ANSWERED),
            ("\\Flagged", Flags::FLAGGED),
            ("\\Deleted", Flags::DELETED),
            ("\\Draft", Flags::DRAFT),
        ];
        let known = system.iter().find(|(name, _)| flag.eq_ignore_ascii_case(name.as_bytes()));
        if let Some((_, known)) = known {
            flags = flags.with(*known);
        } else if flag.eq_ignore_ascii_case(b"\\Recent") {
            // It is of the session.
        } else if is_keyword(flag) && folder.keywords.len() < KEYWORDS_SEEN_MAX {
            keywords.push(folder.keyword(&String::from_utf8_lossy(flag)));
        } else if odd.len() < KEYWORDS_SEEN_MAX {
            odd.insert(format!("the flag {}", String::from_utf8_lossy(flag)));
        }
    }
    keywords.sort_unstable();
    keywords.dedup();
    let date = told.date.unwrap_or(0);
    Found { place: Place::Uid(uid), octets, uid, date, flags, keywords, uidl: None }
}

/// Whether a flag is an atom, as keywords here are (RFC 9051 §9, flag-keyword).
fn is_keyword(flag: &[u8]) -> bool {
    let is_special = |octet: &u8| b"(){%*\"\\]".contains(octet);
    (1..=KEYWORD_OCTETS_MAX).contains(&flag.len())
        && flag.iter().all(|octet| octet.is_ascii_graphic() && !is_special(octet))
}

/// Messages on their way, handed on in order.
struct Batch<'a> {
    /// Their places in the folder, and UIDs, rising.
    wanted: Vec<(u32, u32)>,
    /// What came, until its turn.
    slots: Vec<Option<Loaded>>,
    /// The first one that was not handed on.
    next: usize,
    held: usize,
    give: &'a mut dyn FnMut(Loaded) -> bool,
    /// Nobody takes them any more.
    is_stopped: bool,
}

impl<'a> Batch<'a> {
    fn new(folder: &Folder, batch: &[u32], give: &'a mut dyn FnMut(Loaded) -> bool) -> Batch<'a> {
        let wanted = batch.iter().map(|&at| {
            let found = usize::try_from(at).ok().and_then(|at| folder.messages.get(at));
            (at, found.map_or(0, |found| found.uid))
        });
        let wanted: Vec<(u32, u32)> = wanted.collect();
        let slots = wanted.iter().map(|_| None).collect();
        Batch { wanted, slots, next: 0, held: 0, give, is_stopped: false }
    }

    /// Where a message stands that did not come yet.
    fn place(&self, uid: u32) -> Option<usize> {
        let at = self.wanted.binary_search_by_key(&uid, |(_, uid)| *uid).ok()?;
        (at >= self.next && self.slots.get(at)?.is_none()).then_some(at)
    }

    fn put(&mut self, uid: u32, loaded: Loaded) {
        let Some(at) = self.place(uid) else { return };
        let octets = loaded.octets();
        if at > self.next && self.held + octets > HELD_OCTETS_MAX {
            return;
        }
        self.held += octets;
        self.slots[at] = Some(loaded);
        self.hand_on();
    }

    fn hand_on(&mut self) {
        while let Some(loaded) = self.slots.get_mut(self.next).and_then(Option::take) {
            self.held -= loaded.octets();
            self.next += 1;
            self.is_stopped |= !(self.give)(loaded);
        }
    }

    /// The first one that did not come does not come at all.
    fn leave(&mut self, why: String) {
        self.slots[self.next] = Some(Loaded::Odd(why));
        self.hand_on();
    }

    /// All that did not come, or the first, and is not there any more.
    fn forget_but(&mut self, there: &BTreeSet<u32>, alone: bool) {
        let last = if alone { self.next + 1 } else { self.slots.len() };
        for at in self.next..last {
            if self.slots[at].is_none() && !there.contains(&self.wanted[at].1) {
                self.slots[at] = Some(Loaded::Gone);
            }
        }
        self.hand_on();
    }

    /// What did not come, or the first of it, as sets of UIDs, each short enough for a command. Between
    /// neighbours of the folder is no message that is not wanted.
    fn sets(&self, alone: bool) -> Vec<String> {
        let mut runs: Vec<(u32, u32, u32)> = Vec::new();
        let missing = (self.next..self.wanted.len()).filter(|at| self.slots[*at].is_none());
        for at in missing.take(if alone { 1 } else { usize::MAX }) {
            let (place, uid) = self.wanted[at];
            match runs.last_mut() {
                Some((_, last, behind)) if *behind == place => (*last, *behind) = (uid, place + 1),
                _ => runs.push((uid, uid, place + 1)),
            }
        }
        let mut sets: Vec<String> = Vec::new();
        for (first, last, _) in runs {
            if sets.last().is_none_or(|set| set.len() > SET_OCTETS_MAX) {
                sets.push(String::new());
            }
            let set = sets.last_mut().expect("one was pushed");
            let comma = if set.is_empty() { "" } else { "," };
            let written = if first == last {
                write!(set, "{comma}{first}")
            } else {
                write!(set, "{comma}{first}:{last}")
            };
            written.expect("a string takes all text");
        }
        sets
    }
}
