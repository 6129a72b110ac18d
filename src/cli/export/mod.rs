//! Moving out: the mailboxes of a user as files that other servers read, with UIDs, flags, keywords and
//! dates.
//!
//! It is this process that writes the files. A directory that holds mail already is refused: nothing is
//! written over.

mod maildir;
mod mbox;

use self::maildir::Maildir;
use self::mbox::Mbox;
use super::args::ExportCommand;
use super::progress::{Clock, Report};
use super::{Asking, Failure, Session, moving};
use crate::admin::request::moving::{Ask, Folder, Parcel, Reply};
use std::io::{self, Write};

/// A place for mail in files.
trait Target {
    /// Begins a folder; why it cannot be written, if so.
    fn begin(&mut self, folder: &Folder, all: &[Folder]) -> io::Result<Option<String>>;
    /// Names the keywords that messages which follow may have.
    fn name(&mut self, keywords: &[String]);
    /// Writes a message; `keywords` are the names that it has. What of it is not kept.
    fn put(
        &mut self,
        parcel: &Parcel,
        keywords: &[&str],
        octets: &[u8],
    ) -> io::Result<Option<String>>;
    /// The folder is whole.
    fn end(&mut self, folder: &Folder) -> io::Result<()>;
    /// All folders are written.
    fn close(&mut self, subscriptions: &[String]) -> io::Result<()>;
}

/// Runs the command.
pub(super) fn run(
    session: &Session<'_>,
    command: &ExportCommand,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let (address, mut target): (&str, Box<dyn Target>) = match command {
        ExportCommand::Maildir { address, path, layout } => {
            (address, Box::new(Maildir::new(path.clone(), *layout)))
        }
        ExportCommand::Mbox { address, path, file_name } => {
            (address, Box::new(Mbox::new(path.clone(), file_name.clone())))
        }
    };
    let mut report = Report::new(Clock::begin(), "moved out");
    moving::with_store(session, &config, &mut |asking| {
        let mut export = Export { asking, target: &mut *target, address, report: &mut report, err };
        export.run()
    })?;
    report.show(session.json, out)
}

/// An export under way.
struct Export<'a> {
    asking: &'a mut dyn Asking,
    target: &'a mut dyn Target,
    address: &'a str,
    report: &'a mut Report,
    err: &'a mut dyn Write,
}

impl Export<'_> {
    fn ask(&mut self, ask: Ask) -> Result<(Reply, Vec<u8>), Failure> {
        moving::ask(self.asking, self.address, ask, Vec::new())
    }

    fn run(&mut self) -> Result<(), Failure> {
        let Reply::Folders { folders, subscriptions } = self.ask(Ask::Folders)?.0 else {
            return Err(moving::strange());
        };
        for folder in &folders {
            if let Some(why) = self.target.begin(folder, &folders)? {
                let count = u64::from(folder.messages).max(1);
                self.report.leave_out(&folder.name, count, &why, self.err)?;
                continue;
            }
            self.report.folder(u64::from(folder.messages));
            self.folder(folder)?;
            self.target.end(folder)?;
        }
        Ok(self.target.close(&subscriptions)?)
    }

    fn folder(&mut self, folder: &Folder) -> Result<(), Failure> {
        let (mailbox, mut from) = (folder.mailbox, 1);
        while from != 0 {
            let (reply, octets) = self.ask(Ask::Take { mailbox, from })?;
            let (keywords, messages, unread) = match reply {
                Reply::Messages { keywords, messages, next, unread } => {
                    from = next;
                    (keywords, messages, unread)
                }
                Reply::Failed(why) => {
                    return self.report.leave_out(&folder.name, 1, &why, self.err);
                }
                _ => return Err(moving::strange()),
            };
            for (uid, why) in unread {
                self.report.leave_out(&format!("{}: UID {uid}", folder.name), 1, &why, self.err)?;
            }
            self.target.name(&keywords);
            let mut rest = &octets[..];
            for parcel in &messages {
                let count = usize::try_from(parcel.octets).unwrap_or(usize::MAX);
                let (message, behind) = rest.split_at_checked(count).ok_or_else(moving::strange)?;
                rest = behind;
                let named = parcel.keywords.iter().filter_map(|&at| keywords.get(usize::from(at)));
                let named: Vec<&str> = named.map(String::as_str).collect();
                if let Some(lost) = self.target.put(parcel, &named, message)? {
                    self.report.lose(&folder.name, &lost, self.err)?;
                }
            }
            let (count, size) = (messages.len() as u64, octets.len() as u64);
            self.report.take(&folder.name, count, size, self.err)?;
        }
        Ok(())
    }
}

/// A message with LF for each CRLF, as it lies on disks.
fn with_lf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        let (line, behind) = rest.split_at(at);
        out.extend_from_slice(line);
        out.push(b'\n');
        rest = behind.get(2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests;
