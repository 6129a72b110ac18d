//! Moving in: mail of another server comes into the mailboxes of a user.
//!
//! ```text
//!   Source ─ folder ─> what is in already? ─> batches ─┬ thread: read files ┬─> in order ─> Asking
//!   (maildir, mbox)                                    └ thread: …          ┘    (one group each)
//! ```
//!
//! It is this process that reads the files: the server may lack the right to. Batches come in the order
//! of the messages, each durable when it is answered, and with each the server notes how far the folder
//! is in: so an import that was cut off, or is repeated, goes on where it ended. Messages that have no
//! UID there are compared with those here by their octets.

mod maildir;
mod mbox;
mod source;

use self::maildir::Maildir;
use self::mbox::Mbox;
use self::source::{Folder, Found, Named, Source};
use super::args::ImportCommand;
use super::progress::{Clock, Report};
use super::{Asking, Failure, Session, moving};
use crate::admin::request::moving::{Ask, Deposit, Entered, Parcel, Reply, Wish};
use crate::bytes::hash::Map;
use crate::config::Config;
use crate::mailbox::{Origin, Use};
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use crate::wire::imap::mailbox::{check_new, name as read_name};
use crate::wire::mbox::offset;
use crate::wire::uidl::is_form;
use crossbeam::channel::{Receiver, bounded};
use std::io::Write;
use std::num::NonZero;
use std::thread;
use xxhash_rust::xxh3::xxh3_128;

/// Threads that read files.
const THREADS_MAX: usize = 8;
/// Batches that a thread has ready beside the one that it reads.
const BATCHES_READY_MAX: usize = 1;
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
    let (address, source): (&str, Box<dyn Source + Sync>) = match command {
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
    };
    let folders = source.folders().map_err(|error| {
        let (ImportCommand::Maildir { path, .. } | ImportCommand::Mbox { path, .. }) = command;
        Failure::Failed(format!("{}: {error}", path.display()))
    })?;
    let mut report = Report::new(Clock::begin(), "moved in");
    moving::with_store(session, &config, &mut |asking| {
        let mut import =
            Import { asking, source: &*source, address, config: &config, report: &mut report, err };
        folders.iter().try_for_each(|named| import.folder(named))
    })?;
    report.show(session.json, out)
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
    source: &'a (dyn Source + Sync),
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
}

type Loaded = Vec<Result<Vec<u8>, String>>;

impl Import<'_> {
    fn leave_out(&mut self, name: &str, count: u64, why: &str) -> Result<(), Failure> {
        self.report.leave_out(name, count, why, self.err)
    }

    fn ask(&mut self, ask: Ask, octets: Vec<u8>) -> Result<(Reply, Vec<u8>), Failure> {
        moving::ask(self.asking, self.address, ask, octets)
    }

    fn folder(&mut self, named: &Named) -> Result<(), Failure> {
        let shown = named.name.as_ref().unwrap_or_else(|odd| odd).clone();
        let mut odd = Vec::new();
        let folder = match self.source.open(named, &mut |what| odd.push(what)) {
            Ok(folder) => folder,
            Err(error) => return self.leave_out(&shown, 1, &error.to_string()),
        };
        for what in odd {
            self.report.note(&shown, &what, self.err)?;
        }
        let count = folder.messages.len() as u64;
        let name = match &named.name {
            Ok(name) if name == "INBOX" || check_new(name).is_ok() => name,
            _ => {
                return self.leave_out(
                    &shown,
                    count.max(1),
                    "no name that a mailbox may have here",
                );
            }
        };
        let lowest = folder.messages.first().map_or(1, |one| one.uid);
        let uses = USES.iter().find(|(known, _)| known == name).map_or(0, |(_, uses)| uses.0);
        let wish = Wish {
            name: name.clone(),
            uses,
            subscribe: named.subscribed,
            uidvalidity: folder.uidvalidity,
            first: if lowest == 0 { 1 } else { lowest },
        };
        match self.ask(Ask::Enter(wish), Vec::new())? {
            (Reply::Entered(entered), _) => self.enter(named, &folder, entered, name),
            (Reply::Failed(why), _) => self.leave_out(name, count.max(1), &why),
            _ => Err(moving::strange()),
        }
    }

    fn enter(
        &mut self,
        named: &Named,
        folder: &Folder,
        entered: Entered,
        name: &str,
    ) -> Result<(), Failure> {
        let mut way = Way {
            entered,
            uidvalidity: folder.uidvalidity,
            digests: Map::default(),
            first_left: None,
            renumbered: 0,
        };
        self.report.folder(folder.messages.len() as u64);
        let is_here = entered.origin.uidvalidity == way.uidvalidity && way.uidvalidity != 0;
        let message_max = self.config.smtp.max_message_size;
        let mut wanted: Vec<&Found> = Vec::with_capacity(folder.messages.len());
        for one in &folder.messages {
            if is_here && one.uid != 0 && one.uid < entered.origin.next {
                self.report.skip(1);
            } else if one.octets > message_max {
                self.leave_one(name, &mut way, one, "larger than smtp.max_message_size")?;
            } else {
                wanted.push(one);
            }
        }
        if entered.messages > 0 && !wanted.is_empty() {
            way.digests = self.digests(entered.mailbox)?;
        }
        self.pump(named, folder, &wanted, &mut way, name)?;
        if way.renumbered > 0 {
            let what = format!(
                "{} messages got new UIDs: there is other mail in the mailbox, or they are in use",
                way.renumbered
            );
            self.report.note(name, &what, self.err)?;
        }
        if entered.keeps && folder.uidnext > 0 {
            let settle = Ask::Settle { mailbox: entered.mailbox, uidnext: folder.uidnext };
            moving::done(self.ask(settle, Vec::new())?.0)?;
        }
        Ok(())
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

    /// Brings messages in, in batches, in order.
    fn pump(
        &mut self,
        named: &Named,
        folder: &Folder,
        wanted: &[&Found],
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        let batches = batches(wanted);
        let source = self.source;
        let load = |batch: &[&Found]| -> Loaded {
            let read = |one: &&Found| source.load(named, one).map_err(|error| error.to_string());
            batch.iter().map(read).collect()
        };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = cores.min(THREADS_MAX).min(batches.len());
        thread::scope(|scope| {
            let mut ready: Vec<Receiver<Loaded>> = Vec::new();
            for first in 0..threads {
                let (send, receive) = bounded(BATCHES_READY_MAX);
                let (batches, load) = (&batches, &load);
                thread::Builder::new().name("import".into()).spawn_scoped(scope, move || {
                    for batch in batches.iter().skip(first).step_by(threads) {
                        // Nobody waits any more where the import failed.
                        if send.send(load(batch)).is_err() {
                            return;
                        }
                    }
                })?;
                ready.push(receive);
            }
            for (batch, receive) in batches.iter().zip(ready.iter().cycle()) {
                let ended = |_| Failure::Failed("a thread that reads files has ended".into());
                let loaded = receive.recv().map_err(ended)?;
                self.deposit(folder, batch, loaded, way, name)?;
            }
            Ok(())
        })
    }

    fn deposit(
        &mut self,
        folder: &Folder,
        batch: &[&Found],
        loaded: Loaded,
        way: &mut Way,
        name: &str,
    ) -> Result<(), Failure> {
        let mut deposit = Deposit {
            mailbox: way.entered.mailbox,
            keywords: folder.keywords.clone(),
            uidl: folder.uidl.clone(),
            ..Deposit::default()
        };
        let mut octets = Vec::new();
        for (one, loaded) in batch.iter().zip(loaded) {
            let message = match loaded {
                Ok(message) => message,
                Err(why) => {
                    self.leave_one(name, way, one, &why)?;
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
        deposit.origin = (way.uidvalidity != 0 && last != 0).then(|| {
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
                Err(Failure::Failed(format!("{name}: {why}; repeat the import to go on from here")))
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

/// Parts of the messages that are not too many, and not too large, to be brought at once.
fn batches<'a>(wanted: &'a [&'a Found]) -> Vec<&'a [&'a Found]> {
    let mut batches = Vec::new();
    let mut rest = wanted;
    while !rest.is_empty() {
        let mut octets = 0;
        let fits = |one: &&&Found| {
            octets += one.octets;
            octets <= MOVING_BATCH_OCTETS_MAX
        };
        let count = rest.iter().take_while(fits).take(MOVING_BATCH_MESSAGES_MAX).count().max(1);
        let (batch, behind) = rest.split_at(count);
        batches.push(batch);
        rest = behind;
    }
    batches
}

#[cfg(test)]
mod tests;
