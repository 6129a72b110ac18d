//! FLAGS: flags and keywords of messages change.
//!
//! ```text
//! 20 FLAGS v1  mailbox u32 | modseq u64 | mode u8 | flags u8 | names u16 | ranges u32
//!              | (name: len u32, octets){names} | (first u32, last u32){ranges}, rise, apart
//! mode := 0 these are added | 1 these are removed | 2 these and no others are set
//! ```
//!
//! Keywords stand by name, so that the record means the same whatever the mailbox knew before.
//! Every message in a range gets the change counter.

use super::super::row::Flags;
use crate::bytes::codec::{Put, Reader, Short, to_u32};
use crate::model::id::{AccountId, MailboxId, ModSeq, Uid};
use crate::model::limits::{EXPUNGE_MESSAGES_MAX, KEYWORD_OCTETS_MAX, KEYWORDS_MAX};
use crate::store::Group;

pub(in super::super) const FLAGS: u8 = 20;

const RANGE_OCTETS: usize = 8;

/// What happens to the flags that are named (RFC 9051 §6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Add,
    Remove,
    Replace,
}

/// A change of flags and keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange<'a> {
    pub mode: Mode,
    pub flags: Flags,
    /// Atoms; compared without case.
    pub keywords: Vec<&'a str>,
}

impl FlagChange<'_> {
    /// Flags and mask of keywords after the change. `named` are the bits of the keywords.
    pub(crate) fn outcome(&self, flags: Flags, mask: u64, named: u64) -> (Flags, u64) {
        match self.mode {
            Mode::Add => (flags.with(self.flags), mask | named),
            Mode::Remove => (flags.without(self.flags), mask & !named),
            Mode::Replace => (self.flags, named),
        }
    }
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct FlagsRecord<'a> {
    pub mailbox: MailboxId,
    pub modseq: ModSeq,
    pub change: FlagChange<'a>,
    ranges: &'a [u8],
}

impl<'a> FlagsRecord<'a> {
    pub(in super::super) fn ranges(&self) -> impl Iterator<Item = (Uid, Uid)> + use<'a> {
        self.ranges.chunks_exact(RANGE_OCTETS).map(|range| {
            let mut reader = Reader::new(range);
            let first = reader.u32().expect("each has eight octets");
            let last = reader.u32().expect("each has eight octets");
            (Uid(first), Uid(last))
        })
    }
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<FlagsRecord<'a>, Short> {
    let mailbox = MailboxId(reader.u32()?);
    let modseq = ModSeq(reader.u64()?);
    let mode = match reader.u8()? {
        0 => Mode::Add,
        1 => Mode::Remove,
        2 => Mode::Replace,
        _ => return Err(Short),
    };
    let flags = Flags(reader.u8()?);
    let names = usize::from(reader.u16()?);
    let count = usize::try_from(reader.u32()?).map_err(|_| Short)?;
    if names > KEYWORDS_MAX || count == 0 || count > EXPUNGE_MESSAGES_MAX {
        return Err(Short);
    }
    let mut keywords = Vec::with_capacity(names);
    for _ in 0..names {
        let name = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?;
        if name.is_empty() || name.len() > KEYWORD_OCTETS_MAX {
            return Err(Short);
        }
        keywords.push(name);
    }
    let ranges = reader.take(count * RANGE_OCTETS)?;
    let change = FlagChange { mode, flags, keywords };
    let record = FlagsRecord { mailbox, modseq, change, ranges };
    let mut last = None;
    for (first, end) in record.ranges() {
        if last.is_some_and(|last| first <= last) || end < first {
            return Err(Short);
        }
        last = Some(end);
    }
    Ok(record)
}

/// `ranges` rise, do not touch and are 1 to [`EXPUNGE_MESSAGES_MAX`].
pub(in super::super) fn put_flags(
    group: &mut Group,
    account: AccountId,
    mailbox: MailboxId,
    modseq: ModSeq,
    change: &FlagChange<'_>,
    ranges: &[(Uid, Uid)],
) {
    let mut body = Vec::with_capacity(20 + ranges.len() * RANGE_OCTETS);
    body.put_u32(mailbox.0);
    body.put_u64(modseq.0);
    body.put_u8(match change.mode {
        Mode::Add => 0,
        Mode::Remove => 1,
        Mode::Replace => 2,
    });
    body.put_u8(change.flags.0);
    body.put_u16(u16::try_from(change.keywords.len()).expect("64 at most"));
    body.put_u32(to_u32(ranges.len()));
    for name in &change.keywords {
        body.put_slice(name.as_bytes());
    }
    for (first, last) in ranges {
        body.put_u32(first.0);
        body.put_u32(last.0);
    }
    group.record(FLAGS, super::VERSION, account.0, body);
}
