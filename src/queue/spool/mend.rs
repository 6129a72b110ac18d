//! The spool out of a damaged log. A page is as a checkpoint had it, or an older one with all records
//! since that are left: what was promised may be handed over once more, and its owner knows it by
//! the key, if that is left.

use super::{SPOOL_MAJORS, Spool, SpoolId, spool_major};
use crate::model::id::{BlobId, Lsn};
use crate::store::record::Record;
use crate::store::salvage::{Count, Known, LostEntry, Mender};
use crate::store::{Blobs, Damaged, Machine};
use std::cell::RefCell;
use std::rc::Rc;

/// Numbers that may have been told to others, and that nothing knows of any more.
const NUMBERS_UNKNOWN: u64 = 1 << 16;

/// See the module.
pub struct MendSpool(pub Rc<RefCell<Spool>>);

impl Mender for MendSpool {
    fn lost(&mut self, _: u32, _: u64, _: Lsn) {}

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.0.borrow_mut().load(major, minor, at, octets)
    }

    fn load_older(
        &mut self,
        major: u32,
        minor: u64,
        at: Lsn,
        octets: &[u8],
    ) -> Result<(), Damaged> {
        self.0.borrow_mut().load(major, minor, at, octets)
    }

    fn apply(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        _: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged> {
        let mut change = |_: Lsn, id: BlobId, by: i32| count(id, by);
        self.0.borrow_mut().apply(at, record, &mut Blobs::observed(at, &mut change))
    }

    fn reached(&mut self, _: Lsn, _: &mut dyn FnMut(String)) -> Result<(), Damaged> {
        self.0.borrow_mut().loaded()
    }

    fn let_go(
        &mut self,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
        _: &mut dyn FnMut(String),
    ) {
        let mut spool = self.0.borrow_mut();
        spool.pending.retain(|id, pending| {
            let is_whole = known.is_whole(pending.blob);
            if !is_whole {
                let to = pending.recipients.iter().map(|(_, account)| format!("account {account}"));
                lost(LostEntry {
                    account: 0,
                    place: "mail for accounts of other logs".into(),
                    number: id.0,
                    date: pending.internal_date,
                    octets: pending.size.into(),
                    blob: pending.blob.0,
                    about: to.collect::<Vec<_>>().join(", "),
                });
            }
            // What the checkpoint knows to be gone was handed over, and came back with an old page.
            is_whole && !known.is_dead(pending.blob)
        });
    }

    fn pass_over_numbers(&mut self) {
        let mut spool = self.0.borrow_mut();
        let next = SpoolId(spool.next().0 + NUMBERS_UNKNOWN);
        debug_assert!(spool_major(next) < SPOOL_MAJORS);
        spool.highest.insert(spool_major(next), next);
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.0.borrow().references(each);
    }
}
