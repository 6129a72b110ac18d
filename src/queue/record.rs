//! The spool's records: every octet of their bodies.
//!
//! All numbers little-endian; the account in the head of the record is 0.
//!
//! ```text
//! 48 SPOOL_ADD   v1  spool u64 | blob u64 | size u32 | internal date u32 | marks u8 | zeros{3}
//!                    | count u32 | (log u16, account u32){count}
//! 49 SPOOL_DONE  v1  spool u64 | blob u64
//! 50 IDEM        v1  spool u64 | source log u16 | zeros{2} | count u32 | account u32{count}
//! 51 IDEM_FORGET v1  source log u16 | zeros{2} | count u32 | spool u64{count}
//! ```
//!
//! A SPOOL_ADD adds a reference to its blob, the SPOOL_DONE takes it back. An IDEM stands in the
//! group of the deliveries that it tells of.

use super::spool::{Pending, SpoolId};
use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, BlobId, LogId};
use crate::store::record::Record;
use crate::store::{Damaged, Group};

pub const SPOOL_ADD: u8 = 48;
pub const SPOOL_DONE: u8 = 49;
pub const IDEM: u8 = 50;
pub const IDEM_FORGET: u8 = 51;

const VERSION: u8 = 1;

/// One record of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add(SpoolId, Pending),
    Done(SpoolId, BlobId),
    Idem(LogId, SpoolId, Vec<AccountId>),
    Forget(LogId, Vec<SpoolId>),
}

impl Change {
    pub(super) fn is_known(kind: u8) -> bool {
        (SPOOL_ADD..=IDEM_FORGET).contains(&kind)
    }

    pub(super) fn read(record: &Record<'_>) -> Result<Change, Damaged> {
        let Record { kind, version, body, .. } = *record;
        if version != VERSION {
            return Err(Damaged(format!("queue record {kind} has unknown version {version}")));
        }
        let mut reader = Reader::new(body);
        let change = match kind {
            SPOOL_ADD => read_add(&mut reader),
            SPOOL_DONE => read_done(&mut reader),
            IDEM => read_idem(&mut reader),
            IDEM_FORGET => read_forget(&mut reader),
            _ => return Err(Damaged(format!("queue record of unknown kind {kind}"))),
        };
        match change {
            Ok(change) if reader.rest().is_empty() => Ok(change),
            _ => Err(Damaged(format!("queue record {kind} is not as it should be"))),
        }
    }
}

/// Reads `count u32` and as many items of `octets` each; at least one.
fn list<T>(
    reader: &mut Reader<'_>,
    octets: usize,
    item: impl Fn(&mut Reader<'_>) -> Result<T, Short>,
) -> Result<Vec<T>, Short> {
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    let octets = count.checked_mul(octets).filter(|&octets| octets > 0).ok_or(Short)?;
    let mut items = Reader::new(reader.take(octets)?);
    (0..count).map(|_| item(&mut items)).collect()
}

pub(super) fn read_pending(reader: &mut Reader<'_>) -> Result<(SpoolId, Pending), Short> {
    let spool = SpoolId(reader.u64()?);
    let blob = BlobId(reader.u64()?);
    let size = reader.u32()?;
    let internal_date = reader.u32()?;
    let marks = reader.u8()?;
    reader.take(3)?;
    let recipients = list(reader, 6, |item| Ok((LogId(item.u16()?), AccountId(item.u32()?))))?;
    Ok((spool, Pending { blob, size, internal_date, marks, recipients }))
}

fn read_add(reader: &mut Reader<'_>) -> Result<Change, Short> {
    read_pending(reader).map(|(spool, pending)| Change::Add(spool, pending))
}

fn read_done(reader: &mut Reader<'_>) -> Result<Change, Short> {
    Ok(Change::Done(SpoolId(reader.u64()?), BlobId(reader.u64()?)))
}

pub(super) fn read_key(reader: &mut Reader<'_>) -> Result<(LogId, SpoolId, Vec<AccountId>), Short> {
    let spool = SpoolId(reader.u64()?);
    let source = LogId(reader.u16()?);
    reader.take(2)?;
    let accounts = list(reader, 4, |item| item.u32().map(AccountId))?;
    Ok((source, spool, accounts))
}

fn read_idem(reader: &mut Reader<'_>) -> Result<Change, Short> {
    read_key(reader).map(|(source, spool, accounts)| Change::Idem(source, spool, accounts))
}

fn read_forget(reader: &mut Reader<'_>) -> Result<Change, Short> {
    let source = LogId(reader.u16()?);
    reader.take(2)?;
    let spools = list(reader, 8, |item| item.u64().map(SpoolId))?;
    Ok(Change::Forget(source, spools))
}

pub(super) fn write_pending(body: &mut Vec<u8>, spool: SpoolId, pending: &Pending) {
    body.put_u64(spool.0);
    body.put_u64(pending.blob.0);
    body.put_u32(pending.size);
    body.put_u32(pending.internal_date);
    body.put_u8(pending.marks);
    body.extend_from_slice(&[0; 3]);
    body.put_u32(to_u32(pending.recipients.len()));
    for (log, account) in &pending.recipients {
        body.put_u16(log.0);
        body.put_u32(account.0);
    }
}

pub(super) fn write_key(
    body: &mut Vec<u8>,
    source: LogId,
    spool: SpoolId,
    accounts: impl ExactSizeIterator<Item = AccountId>,
) {
    body.put_u64(spool.0);
    body.put_u16(source.0);
    body.put_u16(0);
    body.put_u32(to_u32(accounts.len()));
    accounts.for_each(|account| body.put_u32(account.0));
}

/// The promise: the blob in the same group will reach its recipients.
pub fn put_add(group: &mut Group, spool: SpoolId, pending: &Pending) {
    let mut body = Vec::with_capacity(32 + 6 * pending.recipients.len());
    write_pending(&mut body, spool, pending);
    group.record(SPOOL_ADD, VERSION, 0, body);
}

/// All recipients have it.
pub fn put_done(group: &mut Group, spool: SpoolId, blob: BlobId) {
    let mut body = Vec::with_capacity(16);
    body.put_u64(spool.0);
    body.put_u64(blob.0);
    group.record(SPOOL_DONE, VERSION, 0, body);
}

/// These accounts got a message of another log's spool, in the same group.
pub fn put_idem(group: &mut Group, source: LogId, spool: SpoolId, accounts: &[AccountId]) {
    let mut body = Vec::with_capacity(16 + 4 * accounts.len());
    write_key(&mut body, source, spool, accounts.iter().copied());
    group.record(IDEM, VERSION, 0, body);
}

/// The source will not send these again.
pub fn put_forget(group: &mut Group, source: LogId, spools: &[SpoolId]) {
    let mut body = Vec::with_capacity(8 + 8 * spools.len());
    body.put_u16(source.0);
    body.put_u16(0);
    body.put_u32(to_u32(spools.len()));
    for spool in spools {
        body.put_u64(spool.0);
    }
    group.record(IDEM_FORGET, VERSION, 0, body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    #[track_caller]
    fn check(group: &Group, want: &Expect) {
        let mut out = String::new();
        for record in &group.records {
            write!(out, "{} v{}:", record.kind, record.version).unwrap();
            for (at, octet) in record.body.iter().enumerate() {
                write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
            }
            let read = |body: &[u8], version| {
                Change::read(&Record { kind: record.kind, version, flags: 0, account: 0, body })
            };
            writeln!(out, "\n   {:?}", read(&record.body, record.version).unwrap()).unwrap();
            for len in 0..record.body.len() {
                read(&record.body[..len], record.version).unwrap_err();
            }
            read(&record.body, 2).unwrap_err();
        }
        want.assert_eq(&out);
    }

    #[test]
    fn writes_these_octets_for_ever() {
        let mut group = Group::new();
        let pending = Pending {
            blob: BlobId(2),
            size: 3,
            internal_date: 4,
            marks: 5,
            recipients: vec![(LogId(6), AccountId(7)), (LogId(8), AccountId(9))],
        };
        put_add(&mut group, SpoolId(1), &pending);
        put_done(&mut group, SpoolId(1), BlobId(2));
        put_idem(&mut group, LogId(3), SpoolId(1), &[AccountId(7), AccountId(9)]);
        put_forget(&mut group, LogId(3), &[SpoolId(1), SpoolId(2)]);
        check(
            &group,
            &expect![[r"
            48 v1: 01000000 00000000 02000000 00000000 03000000 04000000 05000000 02000000 06000700 00000800 09000000
               Add(SpoolId(1), Pending { blob: BlobId(2), size: 3, internal_date: 4, marks: 5, recipients: [(LogId(6), AccountId(7)), (LogId(8), AccountId(9))] })
            49 v1: 01000000 00000000 02000000 00000000
               Done(SpoolId(1), BlobId(2))
            50 v1: 01000000 00000000 03000000 02000000 07000000 09000000
               Idem(LogId(3), SpoolId(1), [AccountId(7), AccountId(9)])
            51 v1: 03000000 02000000 01000000 00000000 02000000 00000000
               Forget(LogId(3), [SpoolId(1), SpoolId(2)])
        "]],
        );
    }

    #[test]
    fn reads_any_octets_without_panicking() {
        arbtest::arbtest(|u| {
            let kind = u.int_in_range(47..=53)?;
            let len = u.int_in_range(0..=64)?;
            let body = u.bytes(len)?;
            drop(Change::read(&Record { kind, version: 1, flags: 0, account: 0, body }));
            Ok(())
        });
    }
}
