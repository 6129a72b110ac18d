//! A log's callers and the least that a machine can be.

use super::mail::message;
use pombal::bytes::codec::{Reader, to_u64};
use pombal::bytes::hash::Sorted;
use pombal::model::id::{BlobId, LogId, Lsn};
use pombal::store::record::{Group, Record};
use pombal::store::{BlobDraft, Blobs, Damaged, Identity, Machine, Registry};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub(crate) const IDENTITY: Identity = Identity { store: 1, log: LogId(0), first_logs: 1 };
const SUMMARY_OCTETS: usize = 200;

/// A group as a delivery makes it: one record of 64 octets, one blob.
pub(crate) fn delivery(id: BlobId, octets: usize) -> Group {
    let mut group = Group::new();
    group.record(17, 1, 1, vec![7; 48]);
    let summary = vec![1; SUMMARY_OCTETS];
    group.blobs.push(BlobDraft { id, summary, parts: vec![vec![b't'; 300], message(octets)] });
    group
}

/// A machine that counts records and remembers nothing else.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) records: Cell<u64>,
    seen: Sorted<u64, u64>,
}

impl Machine for Counting {
    fn apply(&mut self, _: Lsn, record: Record<'_>, blobs: &mut Blobs<'_>) -> Result<(), Damaged> {
        self.records.set(self.records.get() + 1);
        let mut reader = Reader::new(record.body);
        if let (true, Ok(blob)) = (record.kind == 16, reader.u64()) {
            blobs.retain(BlobId(blob));
            self.seen.insert(blob, to_u64(record.body.len()));
        }
        Ok(())
    }
    fn dirty(&self) -> Vec<u32> {
        Vec::new()
    }
    fn save(&mut self, _: u32, _: Lsn, _: &mut dyn FnMut(u64, Option<Vec<u8>>)) {}
    fn load(&mut self, _: u32, _: u64, _: Lsn, _: &[u8]) -> Result<(), Damaged> {
        Ok(())
    }
    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.seen.keys().for_each(|&blob| each(BlobId(blob)));
    }
    fn taint(&mut self) {}
}

/// A registry with one counting machine for all kinds.
pub(crate) fn counting() -> (Rc<RefCell<Counting>>, Registry) {
    let machine = Rc::new(RefCell::new(Counting::default()));
    let shared: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Counting>>::clone(&machine);
    (machine, vec![(16..=79, shared)])
}
