//! Pages: an account as a checkpoint keeps it, and as it rests in memory ([`super::image`]).
//!
//! ```text
//! page  := head | chunk | memo | events of the history
//! major := account
//! minor := 0 for the head | mailbox << 32 for the memo | (mailbox << 32) + number of the chunk + 1
//!          | number of the history's chunk + 1
//! head  := 4 u8 | truths u8 | … (see `encode_head`) | parts, if the account is whole in this page
//! part  := mailbox, counted from that of the part before | the lower half of the minor number
//!          | octets                                                   numbers and lengths are varints
//! ```
//!
//! A small account has one page, its head, with all others in it. The head has the last word: a chunk
//! that it does not name is a page of the past and is passed over. Pages of other versions are archives
//! ([`archived`]).

mod archived;
mod memo;
mod rows;

pub(super) use archived::{
    AccountHeadV3 as AccountHead, ChunkRefV1 as RowsRef, MailboxHeadV3 as MailboxHead, PastRefV1,
};
pub(super) use memo::encode_memo;
pub(super) use rows::encode_chunk;

use super::chunk::Chunk;
use super::history;
use super::keywords::Keywords;
use super::moved::Moved;
use super::row::Row;
use super::vanished::Vanished;
use crate::bytes::codec::{Put, Reader, Short, to_u32, to_u64};
use crate::bytes::columns::{unzigzag, zigzag};
use crate::model::id::{BlobId, MailboxId};
use crate::model::limits::MAILBOX_CHUNK_ROWS;
use crate::store::Damaged;

/// The minor number of the head.
pub(super) const HEAD_MINOR: u64 = 0;

const HEAD_VERSION: u8 = 4;
const CHUNK_VERSION: u8 = 2;
const MEMO_VERSION: u8 = 3;

/// Change counters have 63 bits (RFC 7162 §3.1).
const MODSEQ_MAX: u64 = u64::MAX >> 1;

/// Truths of a head.
const CLOSED: u8 = 1;
const KEEPS: u8 = 2;
const WHOLE: u8 = 4;
/// Truths of a mailbox.
const REMOVED: u8 = 1;
const IS_INBOX: u8 = 2;
const HAS_USES: u8 = 4;
const HAS_REMOVED_AT: u8 = 8;

const INBOX_NAME: &str = super::account::INBOX_NAME;

/// The minor number of a chunk.
pub(super) fn chunk_minor(mailbox: MailboxId, number: u32) -> u64 {
    (u64::from(mailbox.0) << 32) + u64::from(number) + 1
}

/// The minor number of a mailbox's memo. No chunk has it: the last number is never given.
pub(super) fn memo_minor(mailbox: MailboxId) -> u64 {
    u64::from(mailbox.0) << 32
}

/// Whether a page is a memo's: a mailbox need not have one.
pub(super) fn is_memo(minor: u64) -> bool {
    minor != HEAD_MINOR && halves(minor).1 == 0
}

/// Which mailbox, and the lower half.
fn halves(minor: u64) -> (u32, u32) {
    let low = u32::try_from(minor & u64::from(u32::MAX)).expect("masked to 32 bits");
    (u32::try_from(minor >> 32).expect("32 bits are left"), low)
}

/// What a page that is not a head holds.
#[derive(Debug)]
pub(super) enum Part {
    Chunk(u32, Chunk),
    Memo(Memo),
    /// Events of the history, of no mailbox.
    Past(u32, Vec<u8>),
}

/// What a mailbox keeps besides its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Memo {
    pub keywords: Keywords,
    pub vanished: Vanished,
    pub moved: Moved,
}

/// Reads a page with a minor number other than the head's.
pub(super) fn decode_part(minor: u64, octets: &[u8]) -> Result<(MailboxId, Part), Damaged> {
    let (mailbox, low) = halves(minor);
    let part = match low.checked_sub(1) {
        Some(number) if mailbox == 0 => Part::Past(number, history::decode_page(octets)?),
        Some(number) => Part::Chunk(number, decode_chunk(octets)?),
        None => Part::Memo(decode_memo(octets)?),
    };
    Ok((MailboxId(mailbox), part))
}

/// Refuses what [`decode_part`] refuses and what has nothing in it, and keeps nothing of it.
pub(super) fn check_part(minor: u64, octets: &[u8]) -> Result<(), Damaged> {
    let (mailbox, low) = halves(minor);
    match low {
        0 => decode_memo(octets).map(drop),
        _ if mailbox == 0 => {
            let is_empty = history::decode_page(octets)?.is_empty();
            let wrong = || Damaged("a page of the history is empty".into());
            if is_empty { Err(wrong()) } else { Ok(()) }
        }
        _ if octets.first() == Some(&CHUNK_VERSION) => {
            let (base, rows) = read_rows(octets)?;
            check_rows(base, &rows)
        }
        _ => decode_chunk(octets).map(drop),
    }
}

/// Whether a page is as this release writes it.
pub(super) fn is_packed(minor: u64, octets: &[u8]) -> bool {
    let version = match halves(minor) {
        (0, 0) => HEAD_VERSION,
        (0, _) => return true,
        (_, 0) => MEMO_VERSION,
        _ => CHUNK_VERSION,
    };
    octets.first() == Some(&version)
}

/// Whether a head has all of its account in its page.
pub(super) fn is_whole(head: &[u8]) -> bool {
    matches!(head, [HEAD_VERSION, truths, ..] if truths & WHOLE != 0)
}

/// Names the blobs that a part refers to, of any page but the head's, and reads no more than these of
/// it.
pub(super) fn part_references(
    minor: u64,
    octets: &[u8],
    each: &mut dyn FnMut(BlobId),
) -> Result<(), Damaged> {
    match halves(minor) {
        (_, 0) => Ok(()),
        (0, _) => {
            history::page_references(octets, each);
            Ok(())
        }
        _ if octets.first() == Some(&CHUNK_VERSION) => {
            rows::read_blobs(octets, each).map_err(|_| Damaged("a chunk is cut off".into()))
        }
        _ => {
            decode_chunk(octets)?.entries().for_each(|entry| each(entry.blob));
            Ok(())
        }
    }
}

fn decode_chunk(octets: &[u8]) -> Result<Chunk, Damaged> {
    if octets.first() != Some(&CHUNK_VERSION) {
        return archived::decode_chunk(octets);
    }
    let (base, rows) = read_rows(octets)?;
    sound_chunk(base, &rows)
}

fn read_rows(octets: &[u8]) -> Result<(u64, Vec<Row>), Damaged> {
    rows::read(octets).map_err(|_| Damaged("a chunk is cut off".into()))
}

fn decode_memo(octets: &[u8]) -> Result<Memo, Damaged> {
    if octets.first() != Some(&MEMO_VERSION) {
        return archived::decode_memo(octets);
    }
    memo::read(octets)
        .ok()
        .flatten()
        .ok_or_else(|| Damaged("the memo of a mailbox is not as it should be".into()))
}

/// A chunk of rows that may be one.
fn sound_chunk(base: u64, rows: &[Row]) -> Result<Chunk, Damaged> {
    check_rows(base, rows)?;
    Ok(Chunk::new(base, rows))
}

fn check_rows(base: u64, rows: &[Row]) -> Result<(), Damaged> {
    let rising = rows.is_sorted_by(|a, b| a.uid < b.uid);
    let counts = rows.iter().all(|row| {
        base.checked_add(row.modseq_delta.into()).is_some_and(|modseq| modseq <= MODSEQ_MAX)
    });
    if rows.is_empty() || rows.len() > MAILBOX_CHUNK_ROWS || !rising || !counts {
        return Err(Damaged(format!("a chunk of {} rows, rising: {rising}", to_u32(rows.len()))));
    }
    Ok(())
}

/// How far a number is from another one.
fn apart(one: u64, other: u64) -> u64 {
    zigzag(one.wrapping_sub(other).cast_signed())
}

fn read_apart(reader: &mut Reader<'_>, other: u64) -> Result<u64, Short> {
    Ok(other.wrapping_add(unzigzag(reader.varint()?).cast_unsigned()))
}

fn read_apart_u32(reader: &mut Reader<'_>, other: u32) -> Result<u32, Short> {
    u32::try_from(read_apart(reader, other.into())?).map_err(|_| Short)
}

/// Numbers that rise, and something about each: what is between them, less one.
fn put_rising(out: &mut Vec<u8>, list: impl ExactSizeIterator<Item = (u32, u32)>) {
    out.put_varint(to_u64(list.len()));
    let mut next = 0_u32;
    for (number, about) in list {
        out.put_varint(number.wrapping_sub(next).into());
        out.put_varint(about.into());
        next = number.wrapping_add(1);
    }
}

fn read_rising<T>(reader: &mut Reader<'_>, make: impl Fn(u32, u32) -> T) -> Result<Vec<T>, Short> {
    let mut list = Vec::new();
    let mut next = 0_u32;
    for _ in 0..reader.varint()? {
        let number = next.checked_add(reader.varint_u32()?).ok_or(Short)?;
        list.push(make(number, reader.varint_u32()?));
        next = number.wrapping_add(1);
    }
    Ok(list)
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Short> {
    std::str::from_utf8(reader.short_slice()?).map_err(|_| Short)
}

/// The head of an account. `parts` are all other pages, if the account is whole in this one.
pub(super) fn encode_head(head: &AccountHead, parts: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + parts.map_or(0, <[u8]>::len));
    let truth = |is_so: bool, bit: u8| if is_so { bit } else { 0 };
    out.put_u8(HEAD_VERSION);
    out.put_u8(
        truth(head.closed, CLOSED) | truth(head.keeps, KEEPS) | truth(parts.is_some(), WHOLE),
    );
    out.put_varint(head.modseq);
    out.put_varint(head.uidvalidity_last.into());
    out.put_varint(head.mailbox_last.into());
    out.put_varint(head.moment.into());
    // So that what is not known is short.
    out.put_varint(head.floor.wrapping_add(1).into());
    out.put_varint(head.next_past.into());
    put_rising(&mut out, head.past.iter().map(|one| (one.number, one.octets)));
    out.put_varint(to_u64(head.subscriptions.len()));
    head.subscriptions.iter().for_each(|name| out.put_short_slice(name.as_bytes()));
    out.put_varint(to_u64(head.mailboxes.len()));
    let (mut id, mut uidvalidity, mut born) = (0_u32, head.uidvalidity_last, head.moment);
    for one in &head.mailboxes {
        out.put_varint(one.id.wrapping_sub(id).into());
        out.put_u8(
            truth(one.removed, REMOVED)
                | truth(one.name == INBOX_NAME, IS_INBOX)
                | truth(one.uses != 0, HAS_USES)
                | truth(one.removed_at != 0, HAS_REMOVED_AT),
        );
        if one.name != INBOX_NAME {
            out.put_short_slice(one.name.as_bytes());
        }
        if one.uses != 0 {
            out.put_u8(one.uses);
        }
        if one.removed_at != 0 {
            out.put_varint(one.removed_at.into());
        }
        out.put_varint(apart(one.uidvalidity.into(), uidvalidity.into()));
        out.put_varint(one.uidnext.into());
        out.put_varint(one.next_chunk.into());
        out.put_varint(apart(one.modseq, head.modseq));
        out.put_varint(one.octets);
        out.put_varint(one.count.into());
        out.put_varint(apart(one.born.into(), born.into()));
        put_rising(&mut out, one.chunks.iter().map(|chunk| (chunk.number, chunk.rows)));
        (id, uidvalidity, born) = (one.id, one.uidvalidity, one.born);
    }
    out.extend_from_slice(parts.unwrap_or_default());
    out
}

/// The head of an account, of this version or one before; and the parts that are in the same page, if
/// the account is whole in it.
pub(super) fn decode_head(octets: &[u8]) -> Result<(AccountHead, Option<&[u8]>), Damaged> {
    let wrong = || Damaged("the head of an account is not as it should be".into());
    let (head, parts) = if octets.first() == Some(&HEAD_VERSION) {
        read_head(octets).map_err(|_| wrong())?
    } else {
        (archived::decode_head(octets)?, None)
    };
    if !is_sound(&head) {
        return Err(wrong());
    }
    Ok((head, parts))
}

/// Whether all numbers are of those that can have been given: sums of them stay in their bounds.
fn is_sound(head: &AccountHead) -> bool {
    let mut octets = head.mailboxes.iter().map(|one| one.octets);
    let chunks = head.mailboxes.iter().flat_map(|one| &one.chunks);
    let mut numbers = chunks.map(|one| one.number).chain(head.past.iter().map(|one| one.number));
    head.modseq <= MODSEQ_MAX
        && head.mailboxes.iter().all(|one| one.modseq <= MODSEQ_MAX)
        && octets.try_fold(0_u64, u64::checked_add).is_some()
        // The last number is never given.
        && numbers.all(|number| number != u32::MAX)
}

fn read_head(octets: &[u8]) -> Result<(AccountHead, Option<&[u8]>), Short> {
    let mut reader = Reader::new(octets);
    let reader = &mut reader;
    reader.u8()?;
    let truths = reader.u8()?;
    let mut head = AccountHead {
        closed: truths & CLOSED != 0,
        keeps: truths & KEEPS != 0,
        modseq: reader.varint()?,
        uidvalidity_last: reader.varint_u32()?,
        mailbox_last: reader.varint_u32()?,
        moment: reader.varint_u32()?,
        floor: reader.varint_u32()?.wrapping_sub(1),
        next_past: reader.varint_u32()?,
        past: read_rising(reader, |number, octets| PastRefV1 { number, octets })?,
        ..AccountHead::default()
    };
    for _ in 0..reader.varint()? {
        head.subscriptions.push(text(reader)?.into());
    }
    let (mut id, mut uidvalidity, mut born) = (0_u32, head.uidvalidity_last, head.moment);
    for _ in 0..reader.varint()? {
        id = id.checked_add(reader.varint_u32()?).ok_or(Short)?;
        let truths = reader.u8()?;
        let name = if truths & IS_INBOX != 0 { INBOX_NAME } else { text(reader)? };
        let uses = if truths & HAS_USES != 0 { reader.u8()? } else { 0 };
        let removed_at = if truths & HAS_REMOVED_AT != 0 { reader.varint_u32()? } else { 0 };
        uidvalidity = read_apart_u32(reader, uidvalidity)?;
        let (uidnext, next_chunk) = (reader.varint_u32()?, reader.varint_u32()?);
        let modseq = read_apart(reader, head.modseq)?;
        let (octets, count) = (reader.varint()?, reader.varint_u32()?);
        born = read_apart_u32(reader, born)?;
        head.mailboxes.push(MailboxHead {
            id,
            uidvalidity,
            uidnext,
            next_chunk,
            modseq,
            octets,
            count,
            born,
            removed_at,
            uses,
            removed: truths & REMOVED != 0,
            name: name.into(),
            chunks: read_rising(reader, |number, rows| RowsRef { number, rows })?,
        });
    }
    let is_whole = truths & WHOLE != 0;
    if !is_whole && !reader.rest().is_empty() {
        return Err(Short);
    }
    Ok((head, is_whole.then_some(reader.rest())))
}

/// Pages one behind the other: the history's first, then those of each mailbox.
#[derive(Debug, Default)]
pub(super) struct PartsOut {
    pub octets: Vec<u8>,
    mailbox: u32,
}

impl PartsOut {
    pub(super) fn push(&mut self, minor: u64, page: &[u8]) {
        let (mailbox, low) = halves(minor);
        self.octets.put_varint(mailbox.wrapping_sub(self.mailbox).into());
        self.octets.put_varint(low.into());
        self.octets.put_short_slice(page);
        self.mailbox = mailbox;
    }
}

/// Reads what [`PartsOut`] wrote, as `(minor, page)`.
#[derive(Clone, Debug)]
pub(super) struct PartsIn<'a> {
    reader: Reader<'a>,
    mailbox: u32,
}

impl<'a> PartsIn<'a> {
    pub(super) fn new(octets: &'a [u8]) -> PartsIn<'a> {
        PartsIn { reader: Reader::new(octets), mailbox: 0 }
    }

    fn read(&mut self) -> Result<(u64, &'a [u8]), Short> {
        let mailbox = self.mailbox.checked_add(self.reader.varint_u32()?).ok_or(Short)?;
        self.mailbox = mailbox;
        let low = self.reader.varint_u32()?;
        Ok(((u64::from(mailbox) << 32) + u64::from(low), self.reader.short_slice()?))
    }
}

impl<'a> Iterator for PartsIn<'a> {
    type Item = Result<(u64, &'a [u8]), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.rest().is_empty() {
            return None;
        }
        let read = self.read().map_err(|_| Damaged("a part of an account is cut off".into()));
        if read.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests;
