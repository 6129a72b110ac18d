//! The mailboxes' records: every octet of their bodies.
//!
//! All numbers little-endian; the account stands in the head of the record.
//!
//! ```text
//! 16 MAILBOX_CREATE v1  mailbox u32 | uidvalidity u32 | modseq u64 | name: len u32, octets (UTF-8)
//! 17 DELIVER        v1  mailbox u32 | uid u32 | modseq u64 | internal date u32 | save date u32
//!                       | size u32 | thread u32 | blob u64 | keyword set u16 = 0 | flags u8 | marks u8
//! 18 EXPUNGE    v1, v2  mailbox u32 | count u32 | modseq u64 | (uid u32, blob u64){count}, uids rise
//! 19 ACCOUNT_DELETE v1  empty
//! 20 FLAGS: see flags.rs; 21 MOVE, 22 COPY: transfer.rs; 23, 24, 26, 27: catalog.rs
//! 25 METADATA: kept free for it; 28, 29: origin.rs; 30 to 32: history.rs
//! ```
//!
//! A DELIVER adds a reference to its blob. An EXPUNGE names each blob with its UID and takes the
//! reference back; one of version 2 leaves it to the history, which has the message from there on.
//! It counts as damage if a row does not hold the blob that is named, so that a wrong record cannot
//! remove mail.

pub(super) mod catalog;
pub(super) mod flags;
pub(super) mod history;
pub(super) mod origin;
pub(super) mod transfer;

use self::catalog::{Catalog, MAILBOX_DELETE, MAILBOX_USE, RENAME, SUBSCRIBE};
use self::flags::{FLAGS, FlagsRecord};
use self::history::{FORGET, Forget, MOMENT, Moment, SWAP, Swap};
use self::origin::{ORIGIN, OriginRecord, UIDLS, UidlsRecord};
use self::transfer::{COPY, MOVE, Transfer};
use super::row::{BLOB_MAX, Entry, Flags, Marks};
use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, BlobId, MailboxId, ModSeq, Uid, UidValidity};
use crate::model::limits::{EXPUNGE_MESSAGES_MAX, MAILBOX_NAME_OCTETS_MAX};
use crate::store::record::Record;
use crate::store::{Damaged, Group};

pub const MAILBOX_CREATE: u8 = 16;
pub const DELIVER: u8 = 17;
pub const EXPUNGE: u8 = 18;
pub const ACCOUNT_DELETE: u8 = 19;

const VERSION: u8 = 1;
/// Of an EXPUNGE whose messages the history has.
const KEPT_VERSION: u8 = 2;
const EXPUNGED_OCTETS: usize = 12;

/// A mailbox comes into being. Several of the same content may be in the log: each delivery that
/// cannot count on an earlier one brings its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Create<'a> {
    pub mailbox: MailboxId,
    pub uidvalidity: UidValidity,
    pub modseq: ModSeq,
    pub name: &'a str,
}

/// A message came into a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deliver {
    pub mailbox: MailboxId,
    pub entry: Entry,
}

/// Messages left a mailbox for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expunge<'a> {
    pub mailbox: MailboxId,
    pub modseq: ModSeq,
    /// The history has them, and their references.
    pub kept: bool,
    list: &'a [u8],
}

/// One record of the mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Create(Create<'a>),
    Deliver(Deliver),
    Expunge(Expunge<'a>),
    AccountDelete,
    Flags(FlagsRecord<'a>),
    Move(Transfer<'a>),
    Copy(Transfer<'a>),
    Catalog(Catalog<'a>),
    Origin(OriginRecord),
    Uidls(UidlsRecord),
    Moment(Moment),
    Forget(Forget<'a>),
    Swap(Swap),
}

impl<'a> Change<'a> {
    pub(super) fn is_known(kind: u8) -> bool {
        matches!(kind, MAILBOX_CREATE..=SUBSCRIBE | MAILBOX_DELETE..=SWAP)
    }

    pub(super) fn read(record: &Record<'a>) -> Result<Change<'a>, Damaged> {
        let Record { kind, version, body, .. } = *record;
        let is_known = version == VERSION || (kind == EXPUNGE && version == KEPT_VERSION);
        if !is_known {
            return Err(Damaged(format!("mailbox record {kind} has unknown version {version}")));
        }
        let mut reader = Reader::new(body);
        let change = match kind {
            MAILBOX_CREATE => read_create(&mut reader),
            DELIVER => read_deliver(&mut reader),
            EXPUNGE => read_expunge(&mut reader, version == KEPT_VERSION),
            ACCOUNT_DELETE => Ok(Change::AccountDelete),
            FLAGS => flags::read(&mut reader).map(Change::Flags),
            MOVE => transfer::read(&mut reader).map(Change::Move),
            COPY => transfer::read(&mut reader).map(Change::Copy),
            RENAME | SUBSCRIBE | MAILBOX_DELETE | MAILBOX_USE => {
                catalog::read(kind, &mut reader).map(Change::Catalog)
            }
            ORIGIN => origin::read_origin(&mut reader).map(Change::Origin),
            UIDLS => origin::read_uidls(&mut reader).map(Change::Uidls),
            MOMENT => history::read_moment(&mut reader).map(Change::Moment),
            FORGET => history::read_forget(&mut reader).map(Change::Forget),
            SWAP => history::read_swap(&mut reader).map(Change::Swap),
            _ => return Err(Damaged(format!("mailbox record of unknown kind {kind}"))),
        };
        match change {
            Ok(change) if reader.rest().is_empty() => Ok(change),
            _ => Err(Damaged(format!("mailbox record {kind} is not as it should be"))),
        }
    }
}

fn read_create<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Short> {
    let mailbox = MailboxId(reader.u32()?);
    let uidvalidity = UidValidity(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    let name = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?;
    if name.is_empty() || name.len() > MAILBOX_NAME_OCTETS_MAX {
        return Err(Short);
    }
    Ok(Change::Create(Create { mailbox, uidvalidity, modseq, name }))
}

fn read_deliver<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Short> {
    let mailbox = MailboxId(reader.u32()?);
    let uid = Uid(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    let internal_date = reader.u32()?;
    let save_date = reader.u32()?;
    let size = reader.u32()?;
    let thread = reader.u32()?;
    let blob = BlobId(reader.u64()?);
    let keywords = reader.u16()?;
    let flags = Flags(reader.u8()?);
    let marks = Marks(reader.u8()?);
    if blob.0 > BLOB_MAX || keywords != 0 {
        return Err(Short);
    }
    let entry =
        Entry { uid, modseq, internal_date, save_date, size, thread, blob, keywords, flags, marks };
    Ok(Change::Deliver(Deliver { mailbox, entry }))
}

fn read_expunge<'a>(reader: &mut Reader<'a>, kept: bool) -> Result<Change<'a>, Short> {
    let mailbox = MailboxId(reader.u32()?);
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    let modseq = ModSeq(reader.u64()?);
    if count == 0 || count > EXPUNGE_MESSAGES_MAX {
        return Err(Short);
    }
    let list = reader.take(count * EXPUNGED_OCTETS)?;
    let expunge = Expunge { mailbox, modseq, kept, list };
    if !expunge.messages().is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Short);
    }
    Ok(Change::Expunge(expunge))
}

impl<'a> Expunge<'a> {
    /// Which messages, by rising UID.
    pub(super) fn messages(&self) -> impl Iterator<Item = (Uid, BlobId)> + use<'a> {
        self.list.chunks_exact(EXPUNGED_OCTETS).map(|message| {
            let mut reader = Reader::new(message);
            let uid = reader.u32().expect("each has twelve octets");
            let blob = reader.u64().expect("each has twelve octets");
            (Uid(uid), BlobId(blob))
        })
    }
}

pub(super) fn put_create(group: &mut Group, account: AccountId, create: &Create<'_>) {
    let mut body = Vec::with_capacity(20 + create.name.len());
    body.put_u32(create.mailbox.0);
    body.put_u32(create.uidvalidity.0);
    body.put_u64(create.modseq.0);
    body.put_slice(create.name.as_bytes());
    group.record(MAILBOX_CREATE, VERSION, account.0, body);
}

pub(super) fn put_deliver(group: &mut Group, account: AccountId, deliver: &Deliver) {
    let entry = &deliver.entry;
    let mut body = Vec::with_capacity(44);
    body.put_u32(deliver.mailbox.0);
    body.put_u32(entry.uid.0);
    body.put_u64(entry.modseq.0);
    body.put_u32(entry.internal_date);
    body.put_u32(entry.save_date);
    body.put_u32(entry.size);
    body.put_u32(entry.thread);
    body.put_u64(entry.blob.0);
    body.put_u16(0);
    body.put_u8(entry.flags.0);
    body.put_u8(entry.marks.0);
    group.record(DELIVER, VERSION, account.0, body);
}

/// `messages` rises by UID and holds 1 to [`EXPUNGE_MESSAGES_MAX`]. Whether they are `kept` in the
/// history.
pub(super) fn put_expunge(
    group: &mut Group,
    account: AccountId,
    mailbox: MailboxId,
    modseq: ModSeq,
    messages: &[(Uid, BlobId)],
    kept: bool,
) {
    let mut body = Vec::with_capacity(16 + messages.len() * EXPUNGED_OCTETS);
    body.put_u32(mailbox.0);
    body.put_u32(to_u32(messages.len()));
    body.put_u64(modseq.0);
    for (uid, blob) in messages {
        body.put_u32(uid.0);
        body.put_u64(blob.0);
    }
    let version = if kept { KEPT_VERSION } else { VERSION };
    group.record(EXPUNGE, version, account.0, body);
}

pub(super) fn put_account_delete(group: &mut Group, account: AccountId) {
    group.record(ACCOUNT_DELETE, VERSION, account.0, Vec::new());
}

#[cfg(test)]
mod tests {
    use super::super::moved::{Origin, UidlRun};
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    fn view(record: &crate::store::record::OwnedRecord) -> Record<'_> {
        Record {
            kind: record.kind,
            version: record.version,
            flags: record.flags,
            account: record.account,
            body: &record.body,
        }
    }

    /// Writes the body of each record in hexadecimal and reads it back.
    #[track_caller]
    fn check(group: &Group, want: &Expect) {
        let mut out = String::new();
        for record in &group.records {
            write!(out, "{} v{} account {}:", record.kind, record.version, record.account).unwrap();
            for (at, octet) in record.body.iter().enumerate() {
                write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
            }
            out.push('\n');
            Change::read(&view(record)).unwrap();
            let mut short = record.clone();
            if short.body.pop().is_some() {
                Change::read(&view(&short)).unwrap_err();
            }
            short = record.clone();
            short.body.push(0);
            Change::read(&view(&short)).unwrap_err();
            short = record.clone();
            short.version = 9;
            Change::read(&view(&short)).unwrap_err();
        }
        want.assert_eq(&out);
    }

    /// Of a mailbox that moved in.
    fn put_moved_in(group: &mut Group) {
        let record = OriginRecord {
            mailbox: MailboxId(2),
            modseq: ModSeq(20),
            uidvalidity: UidValidity(0x6000_0002),
            uidnext: Uid(21),
            origin: Origin { uidvalidity: 22, next: 23 },
        };
        origin::put_origin(group, AccountId(7), &record);
        let run = |first, last, form: &str| UidlRun {
            first: Uid(first),
            last: Uid(last),
            form: form.into(),
        };
        let runs = vec![run(1, 3, "%08Xu"), run(4, 4, "x")];
        let record = UidlsRecord { mailbox: MailboxId(2), modseq: ModSeq(24), runs };
        origin::put_uidls(group, AccountId(7), &record);
    }

    #[test]
    fn writes_these_octets_for_ever() {
        let mut group = Group::new();
        let create = Create {
            mailbox: MailboxId(1),
            uidvalidity: UidValidity(0x6000_0001),
            modseq: ModSeq(1),
            name: "INBOX",
        };
        put_create(&mut group, AccountId(7), &create);
        let entry = Entry {
            uid: Uid(2),
            modseq: ModSeq(3),
            internal_date: 4,
            save_date: 5,
            size: 6,
            thread: 7,
            blob: BlobId(8),
            keywords: 0,
            flags: Flags::SEEN,
            marks: Marks::DOT_LINES,
        };
        put_deliver(&mut group, AccountId(7), &Deliver { mailbox: MailboxId(1), entry });
        let gone = [(Uid(2), BlobId(8)), (Uid(9), BlobId(10))];
        put_expunge(&mut group, AccountId(7), MailboxId(1), ModSeq(11), &gone, false);
        put_account_delete(&mut group, AccountId(7));
        let change = flags::FlagChange {
            mode: flags::Mode::Replace,
            flags: Flags::SEEN,
            keywords: vec!["Work", "$Junk"],
        };
        let ranges = [(Uid(1), Uid(3)), (Uid(7), Uid(7))];
        flags::put_flags(&mut group, AccountId(7), MailboxId(1), ModSeq(12), &change, &ranges);
        let items = [(Uid(1), Uid(20), BlobId(8)), (Uid(3), Uid(21), BlobId(9))];
        let way = (MailboxId(1), MailboxId(2));
        transfer::put_transfer(&mut group, MOVE, AccountId(7), way, (ModSeq(13), 14), &items);
        transfer::put_transfer(&mut group, COPY, AccountId(7), way, (ModSeq(15), 16), &items[..1]);
        for change in [
            Catalog::Rename { mailbox: MailboxId(2), modseq: ModSeq(17), name: "a/b" },
            Catalog::Subscribe { on: true, name: "a/b" },
            Catalog::Delete { mailbox: MailboxId(2), modseq: ModSeq(18) },
            Catalog::Use { mailbox: MailboxId(2), modseq: ModSeq(19), uses: catalog::Use::SENT },
        ] {
            catalog::put_catalog(&mut group, AccountId(7), &change);
        }
        put_moved_in(&mut group);
        check(
            &group,
            &expect![[r"
                16 v1 account 7: 01000000 01000060 01000000 00000000 05000000 494e424f 58
                17 v1 account 7: 01000000 02000000 03000000 00000000 04000000 05000000 06000000 07000000 08000000 00000000 00000101
                18 v1 account 7: 01000000 02000000 0b000000 00000000 02000000 08000000 00000000 09000000 0a000000 00000000
                19 v1 account 7:
                20 v1 account 7: 01000000 0c000000 00000000 02010200 02000000 04000000 576f726b 05000000 244a756e 6b010000 00030000 00070000 00070000 00
                21 v1 account 7: 01000000 02000000 0d000000 00000000 0e000000 02000000 01000000 14000000 08000000 00000000 03000000 15000000 09000000 00000000
                22 v1 account 7: 01000000 02000000 0f000000 00000000 10000000 01000000 01000000 14000000 08000000 00000000
                23 v1 account 7: 02000000 11000000 00000000 03000000 612f62
                24 v1 account 7: 01030000 00612f62
                26 v1 account 7: 02000000 12000000 00000000
                27 v1 account 7: 02000000 13000000 00000000 20
                28 v1 account 7: 02000000 14000000 00000000 02000060 15000000 16000000 17000000
                29 v1 account 7: 02000000 18000000 00000000 02000000 01000000 03000000 05000000 25303858 75040000 00040000 00010000 0078
            "]],
        );
    }

    #[test]
    fn writes_records_of_the_history_of_these_octets_for_ever() {
        let mut group = Group::new();
        let gone = [(Uid(2), BlobId(8))];
        put_expunge(&mut group, AccountId(7), MailboxId(1), ModSeq(11), &gone, true);
        history::put_moment(&mut group, AccountId(7), Moment { when: 12, keeps: true });
        history::put_forget(&mut group, AccountId(7), 13, 14, &[BlobId(8), BlobId(9)]);
        let swap = Swap { one: MailboxId(1), other: MailboxId(2), modseq: ModSeq(15) };
        history::put_swap(&mut group, AccountId(7), swap);
        check(
            &group,
            &expect![[r"
            18 v2 account 7: 01000000 01000000 0b000000 00000000 02000000 08000000 00000000
            30 v1 account 7: 0c000000 01
            31 v1 account 7: 0d000000 0e000000 02000000 08000000 00000000 09000000 00000000
            32 v1 account 7: 01000000 02000000 0f000000 00000000
        "]],
        );
    }

    #[test]
    fn refuses_uids_that_do_not_rise() {
        let mut group = Group::new();
        let gone = [(Uid(2), BlobId(8)), (Uid(2), BlobId(10))];
        put_expunge(&mut group, AccountId(7), MailboxId(1), ModSeq(11), &gone, false);
        Change::read(&view(&group.records[0])).unwrap_err();
    }

    #[test]
    fn reads_any_octets_without_panicking() {
        arbtest::arbtest(|u| {
            let kind = u.int_in_range(15..=33)?;
            let len = u.int_in_range(0..=80)?;
            let body = u.bytes(len)?.to_vec();
            let record = Record { kind, version: 1, flags: 0, account: 1, body: &body };
            if let Ok(Change::Expunge(expunge)) = Change::read(&record) {
                assert!(expunge.messages().count() > 0);
            }
            Ok(())
        });
    }
}
