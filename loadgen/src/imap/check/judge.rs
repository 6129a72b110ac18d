//! What must be true of all clients together, and of the mailbox at the end. Pure.

use pombal::bytes::hash::{Map, Set};

use super::model::{Entry, Flags};

/// One message as everybody should see it.
pub(crate) type Truth = Vec<Entry>;

/// What the clients did, put together.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// UIDs that were there at the start, or that an answer named as new.
    pub(crate) created: Set<u32>,
    /// UIDs that some client asked to be removed, or that may carry `\Deleted`.
    pub(crate) doomed: Set<u32>,
    /// UIDs in the other mailbox, at the start or by an answer to MOVE.
    pub(crate) moved_to: Set<u32>,
    /// Where each moved message went.
    moved: Map<u32, u32>,
    /// An APPEND or MOVE was answered without saying which UIDs it made.
    pub(crate) unnamed: bool,
    pub(crate) findings: Vec<String>,
}

impl Deeds {
    /// An answer names a new UID of the mailbox.
    pub(crate) fn create(&mut self, uid: u32) {
        if !self.created.insert(uid) {
            self.findings.push(format!("UID {uid} was given twice"));
        }
    }

    /// A copy within the mailbox; it carries `\Deleted` where its original does.
    pub(crate) fn copy(&mut self, from: u32, to: u32) {
        self.create(to);
        if self.doomed.contains(&from) {
            self.doomed.insert(to);
        }
    }

    /// A message went to the other mailbox.
    pub(crate) fn moved(&mut self, from: u32, to: u32) {
        if let Some(before) = self.moved.insert(from, to) {
            self.findings.push(format!("UID {from} was moved twice, to {before} and to {to}"));
        }
        if !self.moved_to.insert(to) {
            self.findings.push(format!("UID {to} was given twice by MOVE"));
        }
    }

    /// Judges the mailbox and the other one as a fresh session sees them.
    pub(crate) fn judge(&mut self, truth: &[Entry], other: &[Entry]) {
        if self.unnamed {
            return;
        }
        let there: Set<u32> = truth.iter().filter_map(|entry| entry.uid).collect();
        for uid in self.created.iter().filter(|uid| !there.contains(uid)) {
            if !self.doomed.contains(uid) {
                self.findings.push(format!("UID {uid} is gone and nobody removed it"));
            }
        }
        for uid in there.iter().filter(|uid| !self.created.contains(uid)) {
            self.findings.push(format!("UID {uid} is there and nobody made it"));
        }
        for uid in there.iter().filter(|uid| self.moved.contains_key(uid)) {
            self.findings.push(format!("UID {uid} was moved and is still there"));
        }
        let there: Set<u32> = other.iter().filter_map(|entry| entry.uid).collect();
        for uid in self.moved_to.iter().filter(|uid| !there.contains(uid)) {
            self.findings.push(format!("UID {uid} was moved and is not in the other mailbox"));
        }
        for uid in there.iter().filter(|uid| !self.moved_to.contains(uid)) {
            self.findings.push(format!("UID {uid} is in the other mailbox and nobody moved it"));
        }
    }
}

/// Where a client's view differs from the truth; `None` when it does not.
pub(crate) fn difference(view: &[Entry], truth: &[Entry]) -> Option<String> {
    if view.len() != truth.len() {
        return Some(format!("sees {} messages, there are {}", view.len(), truth.len()));
    }
    view.iter().zip(truth).enumerate().find_map(|(index, (seen, is))| {
        let apart = seen.uid != is.uid
            || seen.flags != is.flags
            || (seen.mod_seq.is_some() && is.mod_seq.is_some() && seen.mod_seq != is.mod_seq);
        apart.then(|| format!("message {} is {}, seen as {}", index + 1, show(is), show(seen)))
    })
}

fn show(entry: &Entry) -> String {
    let flags = entry.flags.as_ref().map_or_else(|| "?".into(), |flags: &Flags| flags.join(" "));
    format!("UID {:?} ({flags}) MODSEQ {:?}", entry.uid, entry.mod_seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32, flag: &str, mod_seq: u64) -> Entry {
        Entry { uid: Some(uid), flags: Some(vec![flag.into()]), mod_seq: Some(mod_seq) }
    }

    #[test]
    fn views_are_compared_message_by_message() {
        let truth = [entry(1, "a", 5), entry(3, "b", 6)];
        assert_eq!(difference(&truth, &truth), None);
        let plain = Entry { mod_seq: None, ..entry(3, "b", 6) };
        assert_eq!(difference(&[entry(1, "a", 5), plain], &truth), None);
        assert_eq!(
            difference(&[entry(1, "a", 5), entry(3, "b", 7)], &truth).unwrap(),
            "message 2 is UID Some(3) (b) MODSEQ Some(6), seen as UID Some(3) (b) MODSEQ Some(7)"
        );
        assert_eq!(difference(&[], &truth).unwrap(), "sees 0 messages, there are 2");
    }

    #[test]
    fn messages_come_and_go_by_somebodys_doing() {
        let mut deeds = Deeds::default();
        deeds.create(1);
        deeds.create(2);
        deeds.doomed.insert(2);
        deeds.copy(2, 3);
        deeds.moved(2, 1);
        deeds.judge(&[entry(1, "", 1)], &[entry(1, "", 1)]);
        assert_eq!(deeds.findings, [""; 0]);
        deeds.create(1);
        deeds.moved(2, 4);
        deeds.judge(&[entry(2, "", 1), entry(9, "", 1)], &[entry(1, "", 1)]);
        assert_eq!(
            deeds.findings,
            [
                "UID 1 was given twice",
                "UID 2 was moved twice, to 1 and to 4",
                "UID 1 is gone and nobody removed it",
                "UID 9 is there and nobody made it",
                "UID 2 was moved and is still there",
                "UID 4 was moved and is not in the other mailbox",
            ]
        );
    }
}
