//! What came of it, in words and as JSON.

use crate::admin::calendar::rfc3339;
use crate::cli::{Failure, Told};
use crate::model::time::Wall;
use crate::store::salvage::{Losses, LostEntry};
use serde::Serialize;
use std::io;

/// Of one log.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct OfLog {
    pub log: u16,
    /// Octets that were read.
    pub octets: u64,
    /// Blobs that are in the new log: messages of mailboxes and of the queue, each once.
    pub saved: u64,
    pub losses: Losses,
    /// Whole messages that nothing refers to any more: their files in the new directory.
    pub found: Vec<String>,
}

/// Of the store.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    pub logs: Vec<OfLog>,
    /// Those of them that `store.toml` does not have.
    pub unnamed: Vec<u16>,
    /// Accounts that lost their users, with the addresses that they have now.
    pub users: Vec<(u32, String)>,
    /// Addresses of accounts that lost messages.
    pub addresses: Vec<(u32, String)>,
    /// Files beside the logs that could not be copied.
    pub files: Vec<String>,
}

impl Report {
    /// Writes it; an error says that something was lost.
    pub(super) fn show(&self, told: &mut Told<'_>) -> Result<(), Failure> {
        if told.json {
            let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
            writeln!(told.out, "{text}")?;
        } else {
            for one in &self.logs {
                self.log(one, told)?;
            }
            for log in &self.unnamed {
                writeln!(told.out, "log {log}: store.toml does not have it, and is an old one")?;
            }
            for (account, address) in &self.users {
                writeln!(
                    told.out,
                    "account {account} lost its user: it has {address} now, who cannot log in"
                )?;
            }
            for file in &self.files {
                writeln!(told.out, "not copied: {file}")?;
            }
        }
        self.outcome()
    }

    fn outcome(&self) -> Result<(), Failure> {
        let sum = |count: fn(&OfLog) -> u64| self.logs.iter().map(count).sum::<u64>();
        let saved = sum(|one| one.saved);
        let lost = sum(|one| one.losses.entries.len() as u64);
        let found = sum(|one| one.found.len() as u64);
        let is_whole = self.logs.iter().all(|one| one.losses.is_empty());
        if is_whole && self.files.is_empty() {
            return Ok(());
        }
        let mut text = format!("{saved} messages saved; lost: {lost} that are known");
        if sum(|one| u64::from(one.losses.of_records())) > 0 {
            text += ", and what was in records that are lost";
        }
        if found > 0 {
            let more = format!("; {found} that nothing refers to lie in {}", super::FOUND);
            text.push_str(&more);
        }
        Err(Failure::Failed(text))
    }

    fn log(&self, one: &OfLog, told: &mut Told<'_>) -> io::Result<()> {
        let OfLog { log, octets, saved, losses, found } = one;
        let state = if losses.is_empty() { "nothing is lost" } else { "LOST:" };
        writeln!(told.out, "log {log}: {octets} octets read, {saved} messages saved; {state}")?;
        for range in &losses.ranges {
            let (segment, slot, from, to) = (range.segment, range.slot, range.from, range.to);
            let what = &range.what;
            writeln!(told.out, "  segment {segment}, slot {slot}, octets {from} to {to}: {what}")?;
        }
        for segment in &losses.segments {
            writeln!(told.out, "  segment {segment} is not there")?;
        }
        for (first, last) in &losses.batches {
            writeln!(told.out, "  records of batches {first} to {last}, all or some")?;
        }
        if losses.is_end_unknown {
            writeln!(told.out, "  the superblock: whether the log went on is not known")?;
        }
        for page in &losses.pages {
            let (owner, major, minor) = (page.owner, page.major, page.minor);
            let older = if page.has_older { ", an older version was found" } else { "" };
            writeln!(told.out, "  page {owner}/{major}/{minor} of the checkpoint{older}")?;
        }
        for note in &losses.notes {
            writeln!(told.out, "  {note}")?;
        }
        for entry in &losses.entries {
            writeln!(told.out, "  lost: {}", self.entry(entry))?;
        }
        for file in found {
            writeln!(told.out, "  found: {file}")?;
        }
        Ok(())
    }

    fn entry(&self, entry: &LostEntry) -> String {
        let date = rfc3339(Wall(u64::from(entry.date) * 1_000_000));
        let LostEntry { account, place, number, octets, about, .. } = entry;
        let whose = match self.addresses.iter().find(|(one, _)| one == account) {
            _ if *account == 0 => String::new(),
            Some((_, address)) => format!("{address}, "),
            None => format!("account {account}, "),
        };
        let about = if about.is_empty() { String::new() } else { format!(", {about}") };
        format!("{whose}{place}, number {number}, of {date}, {octets} octets{about}")
    }
}
