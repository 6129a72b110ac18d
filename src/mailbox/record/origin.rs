//! Records of mail that moves in from another server.
//!
//! ```text
//! 28 ORIGIN v1  mailbox u32 | modseq u64 | uidvalidity u32 | uidnext u32
//!               | UIDVALIDITY there u32 | next UID there u32
//! 29 UIDLS  v1  mailbox u32 | modseq u64 | count u32
//!               | (first uid u32, last uid u32, form: len u32, octets){count}, rise, apart
//! ```
//!
//! An ORIGIN says which UIDVALIDITY the mailbox has from here on (another one than before only
//! while it is empty), that UIDs below `uidnext` are not given any more, and how far the mailbox
//! of the other server has moved in. A UIDLS is about messages that follow in the same group.

use super::super::moved::{Origin, UidlRun};
use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, MailboxId, ModSeq, Uid, UidValidity};
use crate::model::limits::EXPUNGE_MESSAGES_MAX;
use crate::store::Group;

pub(in super::super) const ORIGIN: u8 = 28;
pub(in super::super) const UIDLS: u8 = 29;

/// Where a mailbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct OriginRecord {
    pub mailbox: MailboxId,
    pub modseq: ModSeq,
    pub uidvalidity: UidValidity,
    pub uidnext: Uid,
    pub origin: Origin,
}

/// Unique ids of messages that come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct UidlsRecord {
    pub mailbox: MailboxId,
    pub modseq: ModSeq,
    pub runs: Vec<UidlRun>,
}

pub(super) fn read_origin(reader: &mut Reader<'_>) -> Result<OriginRecord, Short> {
    Ok(OriginRecord {
        mailbox: MailboxId(reader.u32()?),
        modseq: ModSeq(reader.u64()?),
        uidvalidity: UidValidity(reader.u32()?),
        uidnext: Uid(reader.u32()?),
        origin: Origin { uidvalidity: reader.u32()?, next: reader.u32()? },
    })
}

pub(super) fn read_uidls(reader: &mut Reader<'_>) -> Result<UidlsRecord, Short> {
    let mailbox = MailboxId(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    if count == 0 || count > EXPUNGE_MESSAGES_MAX {
        return Err(Short);
    }
    let runs = (0..count).map(|_| UidlRun::read(reader));
    let runs = runs.collect::<Result<Vec<UidlRun>, Short>>()?;
    if !runs.is_sorted_by(|one, next| one.last < next.first) {
        return Err(Short);
    }
    Ok(UidlsRecord { mailbox, modseq, runs })
}

pub(in super::super) fn put_origin(group: &mut Group, account: AccountId, record: &OriginRecord) {
    let mut body = Vec::with_capacity(28);
    body.put_u32(record.mailbox.0);
    body.put_u64(record.modseq.0);
    body.put_u32(record.uidvalidity.0);
    body.put_u32(record.uidnext.0);
    body.put_u32(record.origin.uidvalidity);
    body.put_u32(record.origin.next);
    group.record(ORIGIN, super::VERSION, account.0, body);
}

/// `runs` are 1 to [`EXPUNGE_MESSAGES_MAX`], rise and lie apart.
pub(in super::super) fn put_uidls(group: &mut Group, account: AccountId, record: &UidlsRecord) {
    let mut body = Vec::with_capacity(16 + record.runs.len() * 32);
    body.put_u32(record.mailbox.0);
    body.put_u64(record.modseq.0);
    body.put_u32(to_u32(record.runs.len()));
    for run in &record.runs {
        body.put_u32(run.first.0);
        body.put_u32(run.last.0);
        body.put_slice(run.form.as_bytes());
    }
    group.record(UIDLS, super::VERSION, account.0, body);
}
