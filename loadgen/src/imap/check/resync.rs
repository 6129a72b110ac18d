//! SELECT with QRESYNC (RFC 7162 §3.2.5): what was known before, less what has vanished, with
//! what was fetched, must be the mailbox as it is. Pure.

use pombal::bytes::hash::Sorted;

use super::model::{Entry, Model};
use crate::values::to_usize;
use crate::wire::imap::{Response, ranges};

/// A view that is brought up to date by the responses to SELECT.
#[derive(Debug)]
pub(crate) struct Resync {
    /// What is known, by UID.
    known: Sorted<u32, Entry>,
    /// The first EXISTS; a second one would tell of later mail.
    exists: Option<usize>,
}

impl Resync {
    /// Begins with a view of which every UID is known.
    pub(crate) fn new(before: &[Entry]) -> Resync {
        let known = before.iter().filter_map(|entry| Some((entry.uid?, entry.clone())));
        Resync { known: known.collect(), exists: None }
    }

    /// Takes what [`Model::take`] does not.
    pub(crate) fn take(&mut self, response: &Response<'_>) {
        match response {
            Response::Vanished { earlier: true, uids } => {
                for (from, to) in ranges(uids) {
                    self.known.retain(|uid, _| !(from..=to).contains(uid));
                }
            }
            Response::Exists(count) => {
                self.exists.get_or_insert(to_usize(u64::from(*count)));
            }
            _ => {}
        }
    }

    /// The view after SELECT, in which `model` has what SELECT said itself. What it did not
    /// say must not have changed.
    pub(crate) fn finish(mut self, model: &mut Model) -> Result<(), String> {
        for entry in &model.entries {
            if let Some(uid) = entry.uid {
                self.known.insert(uid, entry.clone());
            }
        }
        let count = self.known.len();
        if count != model.entries.len() && Some(count) != self.exists {
            let exists = model.entries.len();
            return Err(format!("QRESYNC leads to {count} messages, EXISTS says {exists}"));
        }
        for ((index, told), known) in model.entries.iter().enumerate().zip(self.known.values()) {
            if told.uid.is_some() && told.uid != known.uid {
                return Err(format!(
                    "QRESYNC leads to UID {:?} at {}, FETCH says {:?}",
                    known.uid,
                    index + 1,
                    told.uid
                ));
            }
        }
        // Mail that came since is not known yet.
        let told = count.min(model.entries.len());
        model.entries.splice(..told, self.known.into_values());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::check::model::Busy;
    use crate::wire::imap::parse;

    fn check(lines: &[&str]) -> Result<Vec<u32>, String> {
        let before = [2, 4, 6].map(|uid| Entry { uid: Some(uid), ..Entry::default() });
        let (mut resync, mut model) = (Resync::new(&before), Model::default());
        for line in lines {
            let line = format!("{line}\r\n");
            let response = parse(line.as_bytes()).unwrap();
            resync.take(&response);
            model.take(&response, Busy::Other)?;
        }
        resync.finish(&mut model)?;
        Ok(model.entries.iter().filter_map(|entry| entry.uid).collect())
    }

    #[test]
    fn leads_from_an_earlier_view_to_the_present_one() {
        assert_eq!(check(&["* 3 EXISTS"]), Ok(vec![2, 4, 6]));
        assert_eq!(
            check(&["* 3 EXISTS", "* VANISHED (EARLIER) 1:3,5", "* 3 FETCH (UID 9 FLAGS ())"]),
            Ok(vec![4, 6, 9])
        );
        assert_eq!(check(&["* 3 EXISTS", "* 4 EXISTS"]), Ok(vec![2, 4, 6]));
        assert_eq!(
            check(&["* 2 EXISTS"]),
            Err("QRESYNC leads to 3 messages, EXISTS says 2".into())
        );
        assert_eq!(
            check(&["* 3 EXISTS", "* VANISHED (EARLIER) 2", "* 1 FETCH (UID 7)"]),
            Err("QRESYNC leads to UID Some(4) at 1, FETCH says Some(7)".into())
        );
    }
}
