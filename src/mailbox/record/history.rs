//! Records of the history of an account: when changes are made, what is forgotten, what trades places.
//!
//! ```text
//! 30 MOMENT v1  when u32 | keeps u8 (0, 1)
//! 31 FORGET v1  until u32 | events u32 | count u32 | (blob u64){count}
//! 32 SWAP   v1  mailbox u32 | mailbox u32 | modseq u64
//! ```
//!
//! A MOMENT says by which second the changes that follow go into the history, or, where it does not
//! keep one, that they go into none. A FORGET takes the oldest events out of it, none of which is
//! later than `until`, and takes the references back of what was removed by them; `blobs` names
//! these in order, and it counts as damage if they are others. Once no event is left up to
//! `until`, mailboxes that were removed up to then are let go too. A SWAP has two mailboxes
//! exchange all that they hold, their UIDVALIDITY with it; names, uses and numbers stay.

use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, BlobId, MailboxId, ModSeq};
use crate::model::limits::EXPUNGE_MESSAGES_MAX;
use crate::store::Group;

pub(in super::super) const MOMENT: u8 = 30;
pub(in super::super) const FORGET: u8 = 31;
pub(in super::super) const SWAP: u8 = 32;

const BLOB_OCTETS: usize = 8;

/// Whether changes go into the history from here on, and when they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Moment {
    /// Seconds since 1970, above 0.
    pub when: u32,
    pub keeps: bool,
}

/// The oldest of the history goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Forget<'a> {
    /// Seconds since 1970.
    pub until: u32,
    pub events: u32,
    blobs: &'a [u8],
}

impl<'a> Forget<'a> {
    pub(in super::super) fn blobs(&self) -> impl Iterator<Item = BlobId> + use<'a> {
        self.blobs
            .chunks_exact(BLOB_OCTETS)
            .map(|blob| BlobId(Reader::new(blob).u64().expect("each has eight octets")))
    }
}

/// Two mailboxes exchange what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Swap {
    pub one: MailboxId,
    pub other: MailboxId,
    pub modseq: ModSeq,
}

pub(super) fn read_moment(reader: &mut Reader<'_>) -> Result<Moment, Short> {
    let when = reader.u32()?;
    let keeps = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Short),
    };
    if when == 0 { Err(Short) } else { Ok(Moment { when, keeps }) }
}

pub(super) fn read_forget<'a>(reader: &mut Reader<'a>) -> Result<Forget<'a>, Short> {
    let until = reader.u32()?;
    let events = reader.u32()?;
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    if count > EXPUNGE_MESSAGES_MAX {
        return Err(Short);
    }
    Ok(Forget { until, events, blobs: reader.take(count * BLOB_OCTETS)? })
}

pub(super) fn read_swap(reader: &mut Reader<'_>) -> Result<Swap, Short> {
    let (one, other) = (MailboxId(reader.u32()?), MailboxId(reader.u32()?));
    let modseq = ModSeq(reader.u64()?);
    if one == other { Err(Short) } else { Ok(Swap { one, other, modseq }) }
}

pub(in super::super) fn put_moment(group: &mut Group, account: AccountId, moment: Moment) {
    let mut body = Vec::with_capacity(5);
    body.put_u32(moment.when);
    body.put_u8(u8::from(moment.keeps));
    group.record(MOMENT, super::VERSION, account.0, body);
}

/// `blobs` are at most [`EXPUNGE_MESSAGES_MAX`].
pub(in super::super) fn put_forget(
    group: &mut Group,
    account: AccountId,
    until: u32,
    events: u32,
    blobs: &[BlobId],
) {
    let mut body = Vec::with_capacity(12 + blobs.len() * BLOB_OCTETS);
    body.put_u32(until);
    body.put_u32(events);
    body.put_u32(to_u32(blobs.len()));
    for blob in blobs {
        body.put_u64(blob.0);
    }
    group.record(FORGET, super::VERSION, account.0, body);
}

pub(in super::super) fn put_swap(group: &mut Group, account: AccountId, swap: Swap) {
    let mut body = Vec::with_capacity(16);
    body.put_u32(swap.one.0);
    body.put_u32(swap.other.0);
    body.put_u64(swap.modseq.0);
    group.record(SWAP, super::VERSION, account.0, body);
}
