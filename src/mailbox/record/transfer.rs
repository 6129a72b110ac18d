//! MOVE and COPY: messages come into a mailbox out of another one of the same account.
//!
//! ```text
//! 21 MOVE v1  from u32 | to u32 | modseq u64 | save date u32 | count u32
//!             | (uid u32, new uid u32, blob u64){count}, both rise
//! 22 COPY v1  the same
//! ```
//!
//! What a message has (flags, keywords, dates, size) is that of the row it comes from, at this place
//! of the log. A MOVE leaves the count of references as it is; a COPY adds one for each message.

use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, BlobId, MailboxId, ModSeq, Uid};
use crate::model::limits::EXPUNGE_MESSAGES_MAX;
use crate::store::Group;

pub(in super::super) const MOVE: u8 = 21;
pub(in super::super) const COPY: u8 = 22;

const ITEM_OCTETS: usize = 16;

/// One message on its way: its UID, the one that it gets, its blob.
pub(in super::super) type Item = (Uid, Uid, BlobId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Transfer<'a> {
    pub from: MailboxId,
    pub to: MailboxId,
    pub modseq: ModSeq,
    pub save_date: u32,
    list: &'a [u8],
}

impl<'a> Transfer<'a> {
    pub(in super::super) fn items(&self) -> impl Iterator<Item = Item> + use<'a> {
        self.list.chunks_exact(ITEM_OCTETS).map(|item| {
            let mut reader = Reader::new(item);
            let uid = reader.u32().expect("each has 16 octets");
            let new = reader.u32().expect("each has 16 octets");
            let blob = reader.u64().expect("each has 16 octets");
            (Uid(uid), Uid(new), BlobId(blob))
        })
    }
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<Transfer<'a>, Short> {
    let from = MailboxId(reader.u32()?);
    let to = MailboxId(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    let save_date = reader.u32()?;
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    if count == 0 || count > EXPUNGE_MESSAGES_MAX {
        return Err(Short);
    }
    let list = reader.take(count * ITEM_OCTETS)?;
    let transfer = Transfer { from, to, modseq, save_date, list };
    let rise = transfer.items().is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
    if rise { Ok(transfer) } else { Err(Short) }
}

/// `items` rise in both UIDs and are 1 to [`EXPUNGE_MESSAGES_MAX`].
pub(in super::super) fn put_transfer(
    group: &mut Group,
    kind: u8,
    account: AccountId,
    (from, to): (MailboxId, MailboxId),
    (modseq, save_date): (ModSeq, u32),
    items: &[Item],
) {
    let mut body = Vec::with_capacity(24 + items.len() * ITEM_OCTETS);
    body.put_u32(from.0);
    body.put_u32(to.0);
    body.put_u64(modseq.0);
    body.put_u32(save_date);
    body.put_u32(to_u32(items.len()));
    for (uid, new, blob) in items {
        body.put_u32(uid.0);
        body.put_u32(new.0);
        body.put_u64(blob.0);
    }
    group.record(kind, super::VERSION, account.0, body);
}
