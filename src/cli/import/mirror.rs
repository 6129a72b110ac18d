//! What moved in earlier becomes as it is there now: flags that changed, messages that were removed.
//!
//! Only in mailboxes that kept their UIDs, so that a UID means the same message, and only messages that
//! an import brought. The operator says by asking for it that nobody uses the account here yet: what
//! differs is taken for a change there.

use super::source::Folder;
use super::{Active, Ask, Failure, Import, Reply, moving};
use crate::model::limits::MOVING_BATCH_MESSAGES_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Flags and names of keywords, in small letters.
type Flagged = (u8, BTreeSet<String>);

/// What is to change.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// UIDs that get these flags and keywords.
    reflag: BTreeMap<(u8, Vec<String>), Vec<u32>>,
    remove: Vec<u32>,
}

impl Import<'_> {
    pub(super) fn mirror(&mut self, active: &Active<'_>) -> Result<(), Failure> {
        let Active { way, name, folder, .. } = active;
        let is_here = way.entered.origin.uidvalidity == folder.uidvalidity;
        if !is_here || folder.uidvalidity == 0 {
            // It came in just now, or for the first time.
            return Ok(());
        }
        if !way.entered.keeps {
            let what = "its messages got new UIDs: what changed there since does not change here";
            return self.report.note(name, what, self.err);
        }
        let mailbox = way.entered.mailbox;
        let mut changes = Changes::default();
        let mut from = 1;
        while from != 0 {
            let (reply, _) = self.ask(Ask::Rows { mailbox, from }, Vec::new())?;
            let Reply::Messages { keywords, messages, next, .. } = reply else {
                return Err(moving::strange());
            };
            for row in messages {
                let keywords = row.keywords.iter().filter_map(|&at| keywords.get(usize::from(at)));
                let keywords = keywords.map(|name| name.to_ascii_lowercase()).collect();
                changes.judge(row.uid, &(row.flags, keywords), folder);
            }
            from = next;
        }
        self.apply(mailbox, name, changes, folder)
    }

    fn apply(
        &mut self,
        mailbox: u32,
        name: &str,
        changes: Changes,
        folder: &Folder,
    ) -> Result<(), Failure> {
        for ((flags, keywords), uids) in changes.reflag {
            for uids in uids.chunks(MOVING_BATCH_MESSAGES_MAX) {
                let (keywords, count) = (keywords.clone(), uids.len() as u64);
                let ask = Ask::Reflag { mailbox, uids: uids.into(), flags, keywords };
                match self.ask(ask, Vec::new())?.0 {
                    Reply::Done => self.report.change(count),
                    Reply::Failed(why) => {
                        let what = format!("flags of {count} messages: {why}");
                        self.report.lose(name, &what, self.err)?;
                    }
                    _ => return Err(moving::strange()),
                }
            }
        }
        if changes.remove.is_empty() {
            return Ok(());
        }
        // A disk that is not there looks like this.
        if folder.missing > 0 || folder.messages.is_empty() {
            let why = format!("{} messages that are not there stay here", changes.remove.len());
            let why = if folder.missing > 0 {
                format!("{why}: of others the server tells nothing")
            } else {
                format!("{why}: there is nothing at all")
            };
            return self.leave_out(name, changes.remove.len() as u64, &why);
        }
        for uids in changes.remove.chunks(MOVING_BATCH_MESSAGES_MAX) {
            let ask = Ask::Unbring { mailbox, uids: uids.into() };
            moving::done(self.ask(ask, Vec::new())?.0)?;
            self.report.remove(uids.len() as u64);
        }
        Ok(())
    }
}

impl Changes {
    /// Holds a message that is here against those there.
    fn judge(&mut self, uid: u32, here: &Flagged, folder: &Folder) {
        let Ok(at) = folder.messages.binary_search_by_key(&uid, |one| one.uid) else {
            self.remove.push(uid);
            return;
        };
        let there = &folder.messages[at];
        let names = there.keywords.iter().filter_map(|&at| folder.keywords.get(usize::from(at)));
        let names: Vec<String> = names.cloned().collect();
        let lowered = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if *here != (there.flags.0, lowered) {
            self.reflag.entry((there.flags.0, names)).or_default().push(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Found, Place};
    use super::*;
    use crate::mailbox::Flags;

    #[test]
    fn what_differs_is_found() {
        let found = |(uid, flags, keywords): (u32, u8, &[u16])| Found {
            place: Place::Uid(uid),
            octets: 1,
            uid,
            date: 0,
            flags: Flags(flags),
            keywords: keywords.to_vec(),
            uidl: None,
        };
        let all: [(u32, u8, &[u16]); 3] = [(2, 1, &[]), (4, 0, &[0]), (9, 3, &[0, 1])];
        let folder = Folder {
            keywords: vec!["Work".into(), "$Junk".into()],
            messages: all.into_iter().map(found).collect(),
            ..Folder::default()
        };
        let mut changes = Changes::default();
        for (uid, flags, keywords) in
            [(2, 1, &[][..]), (3, 1, &[]), (4, 0, &["work"]), (9, 3, &["work"])]
        {
            let keywords = keywords.iter().map(|name: &&str| (*name).to_owned()).collect();
            changes.judge(uid, &(flags, keywords), &folder);
        }
        let reflag = BTreeMap::from([((3, folder.keywords.clone()), vec![9])]);
        assert_eq!(changes, Changes { reflag, remove: vec![3] });
    }
}
