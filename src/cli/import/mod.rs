//! Moving in: mail of another server comes into the mailboxes of a user.
//!
//! ```text
//!   Source ─ folder ─> what is in already? ─> batches ─┬ thread: read messages ┬─> in order ─> Asking
//!   (maildir, mbox, imap, kept)                        └ thread: …             ┘    (one group each)
//! ```
//!
//! It is this process that reads the files, or asks the other server: ours may lack the right to. Folders
//! are looked into, and batches read, ahead of the one that comes in. Batches come in the order of the
//! messages, each durable when it is answered, and with each the server notes how far the folder is in:
//! so an import that was cut off, or is repeated, goes on where it ended. Messages that have no UID there
//! are compared with those here by their octets.

mod imap;
mod kept;
mod maildir;
mod mbox;
mod mirror;
mod pipeline;
mod source;

use self::imap::Imap;
pub(super) use self::kept::Kept;
use self::maildir::Maildir;
use self::mbox::Mbox;
use self::pipeline::{Opened, Part, Pipeline, with_threads};
use self::source::{Folder, Found, Loaded, Named, OpenError, Source};
use super::args::ImportCommand;
use super::progress::{Clock, Report, Tally};
use super::{Asking, Failure, Session, account, moving};
use crate::admin::request::moving::{Ask, Deposit, Entered, Parcel, Reply, Wish};
use crate::bytes::hash::Map;
use crate::config::Config;
use crate::mailbox::{Origin, Use};
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use crate::wire::imap::mailbox::{check_new, name as read_name};
use crate::wire::mbox::offset;
use crate::wire::uidl::is_form;
use crossbeam::channel::{Receiver, TryRecvError};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Batches on their way, for each thread: one that it reads, and one that is ready.
const BATCHES_PER_THREAD: usize = 2;
/// Octets of all batches on their way, as the source tells them; a single batch may have more.
const LOADING_OCTETS_MAX: u64 = 64 << 20;
/// Folders that are known and not in yet.
const FOLDERS_AHEAD_MAX: usize = 16;
/// Names that Dovecot knows special uses by, in its example of a configuration.
const USES: [(&str, Use); 5] = [
    ("Drafts", Use::DRAFTS),
    ("Junk", Use::JUNK),
    ("Trash", Use::TRASH),
    ("Sent", Use::SENT),
    ("Sent Messages", Use::SENT),
];

/// Runs the command.
pub(super) fn run(
    session: &Session<'_>,
    command: &ImportCommand,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let (address, source) = source(command, &config)?;
    let is_mirror = matches!(command, ImportCommand::Imap(arguments) if arguments.mirror);
    let manner = if is_mirror { Manner::Mirror } else { Manner::Import };
    let errand = Errand { address, source: &*source, manner, config: &config };
    let mut report = Report::new(Clock::begin(), "moved in");
    let folders = errand.folders(&mut report, err)?;
    moving::with_store(session, &config, &mut |asking| {
        errand.bring(&folders, asking, &mut report, err)
    })?;
    report.show(session.json, out)
}

/// What becomes of what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It stays, and what an earlier import brought does not come again.
    Import,
    /// The same; and what an earlier import brought becomes as it is there now.
    Mirror,
    /// It stays, and all that is missing comes, whatever came before.
    Restore,
}

/// What is to come in, whose it is to be, and how.
struct Errand<'a> {
    address: &'a str,
    source: &'a dyn Source,
    manner: Manner,
    config: &'a Config,
}

impl Errand<'_> {
    /// All folders of the source.
    fn folders(&self, report: &mut Report, err: &mut dyn Write) -> Result<Vec<Named>, Failure> {
        let mut told = Vec::new();
        let mut tell = |name: &str, why: &str| told.push((name.to_owned(), why.to_owned()));
        let folders = self.source.folders(&mut tell).map_err(Failure::Failed)?;
        for (name, why) in told {
            report.note(&name, &why, err)?;
        }
        Ok(folders)
    }

    /// Brings them in.
    fn bring(
        &self,
        folders: &[Named],
        asking: &mut dyn Asking,
        report: &mut Report,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let Errand { address, source, manner, config } = *self;
        let threads = source.threads().max(1);
        let mut import = Import { asking, threads, manner, address, config, report, err };
        with_threads(source, threads, |pipeline| import.lead(folders, pipeline))
    }
}

/// Whose mail it is to be, and where it comes from.
fn source<'a>(
    command: &'a ImportCommand,
    config: &Config,
) -> Result<(&'a str, Box<dyn Source>), Failure> {
    Ok(match command {
        ImportCommand::Maildir { address, path, uidl } => {
            let uidl = checked(uidl.as_ref())?;
            (address, Box::new(Maildir { root: path.clone(), uidl }))
        }
        ImportCommand::Mbox { address, path, folder, file_name, quoting, zone, uidl } => {
            let zone =
                offset(zone).ok_or_else(|| Failure::Wrong("--zone: such as +0100".into()))?;
            let folder = read_name(folder.as_bytes(), true)
                .map_err(|_| Failure::Wrong("--folder: no name of a mailbox".into()))?;
            let mbox = Mbox {
                root: path.clone(),
                folder: folder.into_owned(),
                file_name: file_name.clone(),
                quoting: (*quoting).into(),
                zone,
                uidl: checked(uidl.as_ref())?,
            };
            (address, Box::new(mbox))
        }
        ImportCommand::Imap(arguments) => {
            let uidl = checked(arguments.uidl.as_ref())?;
            let mut password = || account::secret_of_elsewhere(arguments.password_file.as_deref());
            let source = Imap::new(arguments, uidl, config.smtp.max_message_size, &mut password)?;
            (&arguments.address, Box::new(source))
        }
    })
}

/// A form of unique ids that the operator named.
fn checked(form: Option<&String>) -> Result<Option<String>, Failure> {
    match form.filter(|form| !is_form(form)) {
        Some(_) => Err(Failure::Wrong("--uidl: such as %08Xu%08Xv, UID%u-%v".into())),
        None => Ok(form.cloned()),
    }
}

/// An import under way.
struct Import<'a> {
    asking: &'a mut dyn Asking,
    threads: usize,
    manner: Manner,
    address: &'a str,
    config: &'a Config,
    report: &'a mut Report,
    err: &'a mut dyn Write,
}

/// What a folder's messages are held against.
struct Way {
    entered: Entered,
    /// The UIDVALIDITY of the folder there; 0 for none.
    uidvalidity: u32,
    /// Digests of messages that are here, how often each, that no message of the source took yet.
    digests: Map<u128, u32>,
    /// The first UID of which the message did not come in.
    first_left: Option<u32>,
    renumbered: u32,
    /// Messages that were removed there meanwhile.
    gone: u32,
}

/// A batch on its way.
struct Loading {
    /// Places in the folder of those that did not come yet.
    batch: VecDeque<u32>,
    octets: u64,
    parts: Receiver<Part>,
}

/// A folder that comes in.
struct Active<'a> {
    named: &'a Named,
    name: String,
    folder: Arc<Folder>,
    way: Way,
    /// What nobody reads yet, as places in the folder.
    batches: VecDeque<Vec<u32>>,
    loading: VecDeque<Loading>,
    tally: Tally,
}

impl Import<'_> {
    fn leave_out(&mut self, name: &str, count: u64, why: &str) -> Result<(), Failure> {
        self.report.leave_out(name, count, why, self.err)
    }

    fn ask(&mut self, ask: Ask, octets: Vec<u8>) -> Result<(Reply, Vec<u8>), Failure> {
        moving::ask(self.asking, self.address, ask, octets)
    }

    /// Brings all folders in, in order, while threads look into those behind.
    fn lead<'f>(&mut self, folders: &'f [Named], pipeline: &Pipeline<'f>) -> Result<(), Failure> {
        let mut names = folders.iter();
        let mut opening = VecDeque::new();
        let mut active: VecDeque<Active<'f>> = VecDeque::new();
        loop {
            while opening.len() < self.threads
                && let Some(named) = names.next()
            {
                opening.push_back((named, pipeline.open(named)));
            }
            if self.has_room(&active) {
                if let Some(last) = active.back_mut()
                    && let Some(batch) = last.batches.pop_front()
                {
                    last.load(batch, pipeline);
                    continue;
                }
                if let Some(opened) = next_opened(&mut opening, &active)? {
                    active.extend(self.begin(opened)?);
                    continue;
                }
            }
            let Some(first) = active.front_mut() else { return Ok(()) };
            self.report.go_on(first.tally);
            match first.loading.front_mut() {
                Some(loading) => self.take(loading, &first.folder, &mut first.way, &first.name)?,
                None => self.end(first)?,
            }
            first.tally = self.report.tally();
            match first.loading.front() {
                Some(loading) if loading.batch.is_empty() => drop(first.loading.pop_front()),
                Some(_) => {}
                None => drop(active.pop_front()),
            }
        }
    }

    fn has_room(&self, active: &VecDeque<Active<'_>>) -> bool {
        let loading = || active.iter().flat_map(|one| &one.loading);
        let octets: u64 = loading().map(|one| one.octets).sum();
        let count = loading().count();
        count == 0 || count < self.threads * BATCHES_PER_THREAD && octets < LOADING_OCTETS_MAX
    }

    /// Makes the mailbox ready, and says which messages are wanted.
    fn begin<'f>(&mut self, (named, opened): Looked<'f>) -> Result<Option<Active<'f>>, Failure> {
        let shown = named.name.as_ref().unwrap_or_else(|odd| odd).clone();
        let Opened { folder, odd } = match opened {
            Ok(opened) => opened,
            Err(OpenError::Left(why)) => {
                self.leave_out(&shown, 1, &why)?;
                return Ok(None);
            }
            Err(OpenError::Gone(why)) => {
                let why = format!("{shown}: {why}; repeat it to go on from here");
                return Err(Failure::Failed(why));
            }
        };
        for what in odd {
            self.report.note(&shown, &what, self.err)?;
        }
        let count = folder.messages.len() as u64;
        let name = match &named.name {
            Ok(name) if name == "INBOX" || check_new(name).is_ok() => name.clone(),
            _ => {
                let why = "no name that a mailbox may have here";
                self.leave_out(&shown, count.max(1), why)?;
                return Ok(None);
            }
        };
        let lowest = folder.messages.first().map_or(1, |one| one.uid);
        let known = USES.iter().find(|(known, _)| *known == name).map_or(0, |(_, uses)| uses.0);
        // What a backup has is older than what was told here since: no UID is to mean other mail.
        let uidvalidity = if self.manner == Manner::Restore { 0 } else { folder.uidvalidity };
        let wish = Wish {
            name: name.clone(),
            uses: named.uses.unwrap_or(known),
            subscribe: named.subscribed,
            uidvalidity,
            first: if lowest == 0 { 1 } else { lowest },
        };
        match self.ask(Ask::Enter(wish), Vec::new())? {
            (Reply::Entered(entered), _) => self.enter(named, folder, entered, name).map(Some),
            (Reply::Failed(why), _) => {
                self.leave_out(&name, count.max(1), &why)?;
                Ok(None)
            }
            _ => Err(moving::strange()),
        }
    }

    fn enter<'f>(
        &mut self,
        named: &'f Named,
        folder: Folder,
        entered: Entered,
        name: String,
    ) -> Result<Active<'f>, Failure> {
        let mut way = Way {
            entered,
            uidvalidity: folder.uidvalidity,
            digests: Map::default(),
            first_left: None,
            renumbered: 0,
            gone: 0,
        };
        self.report.folder(folder.messages.len() as u64);
        for what in &folder.lost {
            self.report.lose(&name, &format!("{what} cannot be kept"), self.err)?;
        }
        if folder.missing > 0 {
            let why = format!("{} messages of which the server tells nothing", folder.missing);
            self.leave_out(&name, folder.missing, &why)?;
        }
        let is_here = self.manner != Manner::Restore
            && entered.origin.uidvalidity == way.uidvalidity
            && way.uidvalidity != 0;
        let message_max = self.config.smtp.max_message_size;
        let mut wanted: Vec<u32> = Vec::with_capacity(folder.messages.len());
        for (at, one) in (0..).zip(&folder.messages) {
            if is_here && one.uid != 0 && one.uid < entered.origin.next {
                self.report.skip(1);
            } else if one.octets > message_max {
                self.leave_one(&name, &mut way, one, "larger than smtp.max_message_size")?;
            } else {
                wanted.push(at);
            }
        }
        if entered.messages > 0 && !wanted.is_empty() {
            way.digests = self.digests(entered.mailbox)?;
        }
        let batches = batches(&folder, &wanted).into();
        let (folder, loading) = (Arc::new(folder), VecDeque::new());
        Ok(Active { named, name, folder, way, batches, loading, tally: self.report.tally() })
    }

    /// All messages of a folder are in.
    fn end(&mut self, active: &Active<'_>) -> Result<(), Failure> {
        let Active { way, name, folder, .. } = active;
        if way.renumbered > 0 && self.manner != Manner::Restore {
            let what = format!(
                "{} messages got new UIDs: there is other mail in the mailbox, or they are in use",
                way.renumbered
            );
            self.report.note(name, &what, self.err)?;
        }
        if way.gone > 0 {
            let what = format!("{} messages were removed there meanwhile", way.gone);
            self.report.note(name, &what, self.err)?;
        }
        if way.entered.keeps && folder.uidnext > 0 {
            let (mailbox, uidnext) = (way.entered.mailbox, folder.uidnext);
            moving::done(self.ask(Ask::Settle { mailbox, uidnext }, Vec::new())?.0)?;
        }
        if self.manner == Manner::Mirror { self.mirror(active) } else { Ok(()) }
    }

    /// Brings in what came of a batch.
    fn take(
        &mut self,
        loading: &mut Loading,
        folder: &Folder,
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        let again =
            |why: &str| Failure::Failed(format!("{name}: {why}; repeat it to go on from here"));
        let part = loading.parts.recv();
        let Part { loaded, end } = part.map_err(|_| again("a thread that reads has ended"))?;
        let mut brought = Vec::with_capacity(loaded.len());
        for loaded in loaded {
            let at = loading.batch.pop_front().and_then(|at| usize::try_from(at).ok());
            let found = at.and_then(|at| folder.messages.get(at));
            brought.extend(found.map(|found| (found, loaded)));
        }
        self.deposit(folder, brought, way, name)?;
        match end {
            Some(Err(why)) => Err(again(&why)),
            Some(Ok(())) if !loading.batch.is_empty() => Err(again("messages are missing")),
            _ => Ok(()),
        }
    }

    /// How far a folder is in ends before the first message that is not: a repeated import tries it
    /// again.
    fn leave_one(
        &mut self,
        name: &str,
        way: &mut Way,
        one: &Found,
        why: &str,
    ) -> Result<(), Failure> {
        if one.uid != 0 {
            way.first_left = Some(way.first_left.map_or(one.uid, |first| first.min(one.uid)));
        }
        self.leave_out(&format!("{name}: {}", one.place.words()), 1, why)
    }

    fn digests(&mut self, mailbox: u32) -> Result<Map<u128, u32>, Failure> {
        let (mut digests, mut from) = (Map::default(), 1);
        while from != 0 {
            let (reply, octets) = self.ask(Ask::Digests { mailbox, from }, Vec::new())?;
            let Reply::Part { next } = reply else { return Err(moving::strange()) };
            for digest in octets.chunks_exact(16) {
                let digest = u128::from_le_bytes(digest.try_into().unwrap_or_default());
                *digests.entry(digest).or_default() += 1;
            }
            from = next;
        }
        Ok(digests)
    }

    fn deposit(
        &mut self,
        folder: &Folder,
        brought: Vec<(&Found, Loaded)>,
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        let mut deposit = Deposit {
            mailbox: way.entered.mailbox,
            keywords: folder.keywords.clone(),
            uidl: folder.uidl.clone(),
            uidvalidity: way.uidvalidity,
            ..Deposit::default()
        };
        let mut octets = Vec::new();
        for (one, loaded) in brought {
            let message = match loaded {
                Loaded::Message(message) => message,
                Loaded::Odd(why) => {
                    self.leave_one(name, way, one, &why)?;
                    continue;
                }
                Loaded::Gone => {
                    way.gone += 1;
                    self.report.pass(1);
                    continue;
                }
            };
            if message.is_empty() || message.len() as u64 > self.config.smtp.max_message_size {
                let large = "larger than smtp.max_message_size";
                let why = if message.is_empty() { "it is empty" } else { large };
                self.leave_one(name, way, one, why)?;
                continue;
            }
            if let Some(count) = way.take(&message) {
                self.report.skip(count);
                continue;
            }
            deposit.messages.push(Parcel {
                octets: u32::try_from(message.len()).unwrap_or(u32::MAX),
                uid: one.uid,
                date: one.date,
                flags: one.flags.0,
                keywords: one.keywords.clone(),
                uidl: one.uidl.clone(),
            });
            octets.extend_from_slice(&message);
            self.send_if_full(&mut deposit, &mut octets, way, name)?;
        }
        self.send(&mut deposit, &mut octets, way, name)
    }

    /// With CRLF the messages of a batch may be more octets than go at once.
    fn send_if_full(
        &mut self,
        deposit: &mut Deposit,
        octets: &mut Vec<u8>,
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        if octets.len() as u64 <= MOVING_BATCH_OCTETS_MAX || deposit.messages.len() < 2 {
            return Ok(());
        }
        let last = deposit.messages.pop();
        let rest = last.as_ref().map_or(0, |last| usize::try_from(last.octets).unwrap_or(0));
        let behind = octets.split_off(octets.len() - rest);
        self.send(deposit, octets, way, name)?;
        deposit.messages.extend(last);
        *octets = behind;
        Ok(())
    }

    fn send(
        &mut self,
        deposit: &mut Deposit,
        octets: &mut Vec<u8>,
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        if deposit.messages.is_empty() {
            return Ok(());
        }
        let (count, size) = (deposit.messages.len() as u64, octets.len() as u64);
        let last = deposit.messages.iter().map(|one| one.uid).max().unwrap_or(0);
        // What comes back out of a backup is no news of the mailbox that once moved in.
        let is_noted = self.manner != Manner::Restore && way.uidvalidity != 0 && last != 0;
        deposit.origin = is_noted.then(|| {
            let next = way.first_left.map_or(last + 1, |first| first.min(last + 1));
            Origin { uidvalidity: way.uidvalidity, next }
        });
        let sent = Deposit { messages: Vec::new(), ..deposit.clone() };
        let sent = std::mem::replace(deposit, sent);
        let reply = self.ask(Ask::Deposit(sent), std::mem::take(octets))?.0;
        match reply {
            Reply::Taken { renumbered, lost } => {
                way.renumbered += renumbered;
                for keyword in lost {
                    let what = format!("there is no room for the keyword {keyword}");
                    self.report.lose(name, &what, self.err)?;
                }
                self.report.take(name, count, size, self.err)
            }
            Reply::Failed(why) => {
                Err(Failure::Failed(format!("{name}: {why}; repeat it to go on from here")))
            }
            _ => Err(moving::strange()),
        }
    }
}

impl Way {
    /// Whether a message is here already: it stands for one of the source.
    fn take(&mut self, message: &[u8]) -> Option<u64> {
        if self.digests.is_empty() {
            return None;
        }
        let count = self.digests.get_mut(&xxh3_128(message)).filter(|count| **count > 0)?;
        *count -= 1;
        Some(1)
    }
}

impl<'a> Active<'a> {
    /// Has a batch read.
    fn load(&mut self, batch: Vec<u32>, pipeline: &Pipeline<'a>) {
        let size = |at: &u32| {
            let found = usize::try_from(*at).ok().and_then(|at| self.folder.messages.get(at));
            found.map_or(0, |found| found.octets)
        };
        let octets = batch.iter().map(size).sum();
        let waiting = batch.iter().copied().collect();
        let parts = pipeline.load(self.named, &self.folder, batch);
        self.loading.push_back(Loading { batch: waiting, octets, parts });
    }
}

/// A folder that was looked into.
type Looked<'a> = (&'a Named, Result<Opened, OpenError>);

/// A folder that is being looked into.
type Opening<'a> = (&'a Named, Receiver<Result<Opened, OpenError>>);

/// The next folder, if it may come in beside those that do; waits for it only where there is nothing else to
/// do.
fn next_opened<'a>(
    opening: &mut VecDeque<Opening<'a>>,
    active: &VecDeque<Active<'a>>,
) -> Result<Option<Looked<'a>>, Failure> {
    let Some((named, opened)) = opening.front() else { return Ok(None) };
    // Two folders of one name come in one behind the other.
    let is_under_way = active.iter().any(|one| Some(&one.name) == named.name.as_ref().ok());
    if is_under_way || active.len() >= FOLDERS_AHEAD_MAX {
        return Ok(None);
    }
    let ended = || Failure::Failed("a thread that reads has ended".into());
    let result = if active.is_empty() {
        opened.recv().map_err(|_| ended())?
    } else {
        match opened.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => return Err(ended()),
        }
    };
    let named = *named;
    opening.pop_front();
    Ok(Some((named, result)))
}

/// Parts of the messages that are not too many, and not too large, to be brought at once.
fn batches(folder: &Folder, wanted: &[u32]) -> Vec<Vec<u32>> {
    let mut batches: Vec<Vec<u32>> = Vec::new();
    let mut octets = 0;
    for &at in wanted {
        let found = usize::try_from(at).ok().and_then(|at| folder.messages.get(at));
        let size = found.map_or(0, |found| found.octets);
        octets += size;
        match batches.last_mut() {
            Some(batch)
                if batch.len() < MOVING_BATCH_MESSAGES_MAX && octets <= MOVING_BATCH_OCTETS_MAX =>
            {
                batch.push(at);
            }
            _ => {
                batches.push(vec![at]);
                octets = size;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests;
