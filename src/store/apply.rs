//! The one way in which a batch becomes state: for a live batch and in recovery.

use super::Damaged;
use super::batch::BlobLine;
use super::blob::Blobs;
use super::cold::{Cold, Relocation};
use super::log::Registry;
use super::record::{FLAG_SKIPPABLE, Record, kind};
use super::table::BlobTable;
use crate::model::id::{BlobId, Lsn};
use std::cell::RefCell;

/// What batches change: the store's own state, and the machines.
pub(super) struct State<'a> {
    pub table: &'a RefCell<BlobTable>,
    pub cold: &'a RefCell<Cold>,
    pub machines: &'a Registry,
}

/// Applies a durable batch that lies in `slot` at `batch_at`: blobs first, then the records by
/// whoever registered their kind, then what nothing refers to any more is `gone`.
pub(super) fn apply<'a>(
    state: &State<'_>,
    lsn: Lsn,
    (slot, batch_at): (u32, u64),
    blobs: &[BlobLine],
    records: impl Iterator<Item = Result<Record<'a>, Damaged>>,
    gone: &mut dyn FnMut(BlobId),
) -> Result<(), Damaged> {
    let mut table = state.table.borrow_mut();
    let mut unsettled: Vec<BlobId> = Vec::with_capacity(blobs.len());
    for line in blobs {
        table.insert(lsn, slot, batch_at, line);
        unsettled.push(line.id);
    }
    for record in records {
        let record = record?;
        if record.kind == kind::RELOCATE && Relocation::VERSIONS.contains(&record.version) {
            relocate(&mut table, state.cold, lsn, record)?;
            continue;
        }
        let owner = state.machines.iter().find(|(kinds, _)| kinds.contains(&record.kind));
        let Some((_, machine)) = owner else {
            if record.flags & FLAG_SKIPPABLE != 0 {
                continue;
            }
            return Err(Damaged(format!(
                "batch {lsn} has a record of unknown kind {}",
                record.kind
            )));
        };
        let mut change = |at: Lsn, id: BlobId, by: i32| {
            table.change(at, id, by);
            if by < 0 {
                unsettled.push(id);
            }
        };
        let mut counts = Blobs { at: lsn, change: &mut change };
        machine.borrow_mut().apply(lsn, record, &mut counts)?;
    }
    for id in unsettled {
        if table.settle(lsn, id) {
            gone(id);
        }
    }
    Ok(())
}

fn relocate(
    table: &mut BlobTable,
    cold: &RefCell<Cold>,
    lsn: Lsn,
    record: Record<'_>,
) -> Result<(), Damaged> {
    let relocation = Relocation::decode(record.version, record.body)?;
    let Relocation { slot, segment, end, is_packed, .. } = relocation;
    cold.borrow_mut().note(slot, segment, end, is_packed);
    for (id, location) in relocation.places() {
        table.relocate(lsn, id, location);
    }
    Ok(())
}
