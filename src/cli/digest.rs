//! `user digest`: what the mailboxes of a user come to, so that two copies can be compared.
//!
//! The server, running or stopped, is asked part by part; what is added up here is that of each mailbox
//! as it stood when it was begun. One that changes meanwhile is begun again.

use super::progress::{Clock, Report};
use super::{Asking, Failure, Session, moving, show};
use crate::admin::request::moving::{Ask, Folder, Reply, Summed};
use crate::mailbox::digest::{Named, Sum, of_account, of_mailbox};
use serde::Serialize;
use std::io::Write;

/// Times that a mailbox is begun which changes all the time.
const ATTEMPTS_MAX: u32 = 5;

/// All that is told.
#[derive(Debug, Serialize)]
struct Told {
    address: String,
    digest: String,
    messages: u64,
    octets: u64,
    mailboxes: Vec<Row>,
}

/// A mailbox.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    uidvalidity: u32,
    messages: u64,
    octets: u64,
    digest: String,
}

/// Runs the command.
pub(super) fn run(
    session: &Session<'_>,
    address: &str,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let mut told = None;
    moving::with_store(session, &config, &mut |asking| {
        let report = Report::new(Clock::begin(), "read");
        told = Some(Digesting { asking, address, report, err }.account()?);
        Ok(())
    })?;
    let told = told.ok_or_else(moving::strange)?;
    if session.json {
        return show::json(&told, out);
    }
    let head = ["mailbox", "uidvalidity", "messages", "octets", "digest"];
    let rows = told.mailboxes.iter().map(|row| {
        let numbers =
            (row.uidvalidity.to_string(), row.messages.to_string(), row.octets.to_string());
        vec![row.name.clone(), numbers.0, numbers.1, numbers.2, row.digest.clone()]
    });
    show::table(&head, rows, out)?;
    Ok(writeln!(out, "{}: {}", show::visible(&told.address), told.digest)?)
}

/// A question under way.
struct Digesting<'a> {
    asking: &'a mut dyn Asking,
    address: &'a str,
    report: Report,
    err: &'a mut dyn Write,
}

impl Digesting<'_> {
    fn ask(&mut self, ask: Ask) -> Result<Reply, Failure> {
        Ok(moving::ask(self.asking, self.address, ask, Vec::new())?.0)
    }

    fn folders(&mut self) -> Result<(Vec<Folder>, Vec<String>), Failure> {
        match self.ask(Ask::Folders)? {
            Reply::Folders { mut folders, subscriptions } => {
                folders.sort_by(|one, other| one.name.cmp(&other.name));
                Ok((folders, subscriptions))
            }
            Reply::Failed(why) => Err(Failure::Failed(why)),
            _ => Err(moving::strange()),
        }
    }

    fn account(&mut self) -> Result<Told, Failure> {
        let (folders, subscriptions) = self.folders()?;
        let mut digests = Vec::new();
        let mut mailboxes = Vec::new();
        for folder in &folders {
            self.report.folder(u64::from(folder.messages));
            let all = self.mailbox(folder)?;
            let digest = of_mailbox(all.messages, all.sum);
            digests.push(digest);
            mailboxes.push(Row {
                name: folder.name.clone(),
                uidvalidity: folder.uidvalidity,
                messages: all.messages,
                octets: all.octets,
                digest: digest.to_string(),
            });
        }
        let (again, subscribed) = self.folders()?;
        let shape = |all: &[Folder]| -> Vec<(u32, String, u8, u32)> {
            let row = |one: &Folder| (one.mailbox, one.name.clone(), one.uses, one.uidvalidity);
            all.iter().map(row).collect()
        };
        if shape(&folders) != shape(&again) || subscriptions != subscribed {
            return Err(changing("the mailboxes"));
        }
        let named: Vec<Named<'_>> = folders
            .iter()
            .zip(&digests)
            .map(|(folder, &digest)| Named {
                name: &folder.name,
                uses: folder.uses,
                uidvalidity: folder.uidvalidity,
                digest,
            })
            .collect();
        Ok(Told {
            address: self.address.to_owned(),
            digest: of_account(&named, &subscriptions).to_string(),
            messages: mailboxes.iter().map(|row| row.messages).sum(),
            octets: mailboxes.iter().map(|row| row.octets).sum(),
            mailboxes,
        })
    }

    /// A mailbox as it stood at one moment.
    fn mailbox(&mut self, folder: &Folder) -> Result<Summed, Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let all = self.once(folder)?;
            if all.changed {
                continue;
            }
            if !all.unread.is_empty() {
                let count = all.unread.len();
                let name = show::visible(&folder.name);
                return Err(Failure::Failed(format!("{count} messages of {name} cannot be read")));
            }
            return Ok(all);
        }
        Err(changing(&folder.name))
    }

    fn once(&mut self, folder: &Folder) -> Result<Summed, Failure> {
        let mut all = Summed { next: 1, ..Summed::default() };
        let mut sum = Sum::default();
        while all.next != 0 && !all.changed {
            let (mailbox, from, of) = (folder.mailbox, all.next, all.of);
            let part = match self.ask(Ask::Sum { mailbox, from, of })? {
                Reply::Summed(part) => part,
                Reply::Failed(why) => {
                    let name = show::visible(&folder.name);
                    return Err(Failure::Failed(format!("{name}: {why}")));
                }
                _ => return Err(moving::strange()),
            };
            for (uid, why) in &part.unread {
                let name = show::visible(&folder.name);
                writeln!(self.err, "{name}: UID {uid}: {}", show::visible(why))?;
            }
            self.report.take(&folder.name, part.messages, part.octets, self.err)?;
            sum += part.sum;
            let (messages, octets) = (all.messages + part.messages, all.octets + part.octets);
            all.unread.extend(part.unread);
            all = Summed { sum, messages, octets, unread: all.unread, ..part };
        }
        Ok(all)
    }
}

fn changing(what: &str) -> Failure {
    let what = show::visible(what);
    Failure::Failed(format!("{what}: changed all the time while this was read; ask again"))
}
