//! What a mailbox remembers of where its messages came from: how far another server's mailbox has
//! moved in, and the unique ids by which that server told its messages to POP3 clients.

use crate::bytes::codec::Reader;
use crate::bytes::codec::Short;
use crate::model::id::Uid;
use crate::wire::uidl::{is_for_many, is_form};
use serde::{Deserialize, Serialize};

/// How far a mailbox of another server has moved in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The UIDVALIDITY there; 0 for no mailbox.
    pub uidvalidity: u32,
    /// All UIDs there below this one have moved in, or need not.
    pub next: u32,
}

/// Messages whose unique ids have one form, from one UID to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UidlRun {
    pub first: Uid,
    pub last: Uid,
    /// See [`crate::wire::uidl`].
    pub form: Box<str>,
}

impl UidlRun {
    /// Whether it may stand in a record or a page.
    pub(super) fn is_sound(&self) -> bool {
        self.first <= self.last && is_form(&self.form)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<UidlRun, Short> {
        let (first, last) = (Uid(reader.u32()?), Uid(reader.u32()?));
        let form = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?.into();
        Some(UidlRun { first, last, form }).filter(UidlRun::is_sound).ok_or(Short)
    }
}

/// See the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub origin: Origin,
    /// Rise, apart.
    pub uidls: Vec<UidlRun>,
}

impl Moved {
    /// As it was saved; `None` if it cannot have been.
    pub(super) fn from_saved(origin: Origin, uidls: Vec<UidlRun>) -> Option<Moved> {
        let rise = uidls.is_sorted_by(|one, next| one.last < next.first);
        (rise && uidls.iter().all(UidlRun::is_sound)).then_some(Moved { origin, uidls })
    }

    /// Adds messages behind those that are known. `last` is the highest UID of the mailbox: where
    /// no message is in between, a form goes on.
    pub(super) fn add(&mut self, run: UidlRun, last: Uid) -> bool {
        match self.uidls.last_mut() {
            Some(known) if run.first <= known.last => return false,
            Some(known)
                if known.form == run.form && last <= known.last && is_for_many(&run.form) =>
            {
                known.last = run.last;
            }
            _ => self.uidls.push(run),
        }
        true
    }

    /// Messages went, by rising UID; with them the ids that were theirs alone.
    pub(super) fn forget(&mut self, uids: &[Uid]) -> Vec<UidlRun> {
        let is_gone =
            |run: &mut UidlRun| run.first == run.last && uids.binary_search(&run.first).is_ok();
        self.uidls.extract_if(.., is_gone).collect()
    }

    /// The form of a message's unique id, if it had one before.
    pub(super) fn uidl(&self, uid: Uid) -> Option<&str> {
        let at = self.uidls.partition_point(|run| run.last < uid);
        let run = self.uidls.get(at).filter(|run| run.first <= uid)?;
        Some(&run.form)
    }

    pub(super) fn heap_octets(&self) -> usize {
        let forms: usize = self.uidls.iter().map(|run| run.form.len()).sum();
        self.uidls.capacity() * size_of::<UidlRun>() + forms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u32, last: u32, form: &str) -> UidlRun {
        UidlRun { first: Uid(first), last: Uid(last), form: form.into() }
    }

    #[test]
    fn a_form_goes_on_but_not_over_messages_of_others() {
        let mut moved = Moved::default();
        assert!(moved.add(run(1, 10, "UID%u"), Uid(0)));
        assert!(moved.add(run(12, 20, "UID%u"), Uid(10)));
        assert_eq!(moved.uidls.len(), 1);
        assert!(!moved.add(run(20, 21, "UID%u"), Uid(20)));
        // UID 21 came in here.
        assert!(moved.add(run(22, 30, "UID%u"), Uid(21)));
        assert!(moved.add(run(31, 31, "x"), Uid(30)) && moved.add(run(32, 32, "x"), Uid(31)));
        let forms = [11, 21, 22, 31, 33].map(|uid| moved.uidl(Uid(uid)));
        assert_eq!(forms, [Some("UID%u"), None, Some("UID%u"), Some("x"), None]);
        moved.forget(&[Uid(15), Uid(31)]);
        assert_eq!(moved.uidls.len(), 3);
        assert_eq!((moved.uidl(Uid(31)), moved.uidl(Uid(15))), (None, Some("UID%u")));
    }
}
