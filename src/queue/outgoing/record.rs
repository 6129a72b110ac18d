//! The records of outgoing mail: every octet of their bodies.
//!
//! All numbers little-endian; the account in the head of the record is 0. `envelope`, `said`: see
//! `entry.rs`.
//!
//! ```text
//! 52 QUEUE_ADD   v1  queue u64 | blob u64 | size u32 | arrived u32 | due u32 | warn u32 | expires u32
//!                    | flags u16 | priority i8 | marks u8 | domain slice | envelope slice
//! 53 QUEUE_TRIED v1  queue u64 | at u32 | due u32 | warn u32 | flags u16 | attempts u16 | count u16
//!                    | (recipient u16, fate u8, has said u8 [, said]){count}
//! 54 QUEUE_DONE  v1  queue u64 | blob u64
//! 55 QUEUE_SET   v1  queue u64 | due u32 | expires u32 | flags u16
//! 56 QUEUE_PAUSE v1  on u8 | kind u8 | name slice
//! ```
//!
//! A QUEUE_ADD adds a reference to its blob, the QUEUE_DONE takes it back. QUEUE_TRIED and QUEUE_SET
//! say how it stands from now on, not by how much it changed.

use super::QueueId;
use super::entry::{Envelope, Fate, Flags, Said};
use super::pause::Pause;
use super::table::Entry;
use crate::bytes::codec::{Put, Reader, Short};
use crate::model::id::BlobId;
use crate::store::record::Record;
use crate::store::{Damaged, Group};

pub const QUEUE_ADD: u8 = 52;
pub const QUEUE_TRIED: u8 = 53;
pub const QUEUE_DONE: u8 = 54;
pub const QUEUE_SET: u8 = 55;
pub const QUEUE_PAUSE: u8 = 56;

const VERSION: u8 = 1;

/// An entry on its way into the log. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    pub queue: QueueId,
    pub blob: BlobId,
    pub size: u32,
    pub arrived: u32,
    pub due: u32,
    pub warn: u32,
    pub expires: u32,
    pub flags: Flags,
    pub priority: i8,
    pub marks: u8,
    /// In A-labels and lower case, or a literal.
    pub domain: Box<str>,
    pub envelope: Envelope,
}

/// What an attempt came to, or a report that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub queue: QueueId,
    pub at: u32,
    pub due: u32,
    pub warn: u32,
    pub flags: Flags,
    pub attempts: u16,
    /// Which recipients' standing changed, and to what.
    pub standings: Vec<(u16, Fate, Option<Said>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add(Box<Add>),
    Tried(Tried),
    Done(QueueId, BlobId),
    Set { queue: QueueId, due: u32, expires: u32, flags: Flags },
    Pause(bool, Pause),
}

impl Change {
    pub(super) fn is_known(kind: u8) -> bool {
        (QUEUE_ADD..=QUEUE_PAUSE).contains(&kind)
    }

    pub(super) fn read(record: &Record<'_>) -> Result<Change, Damaged> {
        let Record { kind, version, body, .. } = *record;
        if version != VERSION {
            return Err(Damaged(format!("queue record {kind} has unknown version {version}")));
        }
        let mut reader = Reader::new(body);
        let change = match kind {
            QUEUE_ADD => read_add(&mut reader).map(|add| Change::Add(Box::new(add))),
            QUEUE_TRIED => read_tried(&mut reader).map(Change::Tried),
            QUEUE_DONE => read_done(&mut reader),
            QUEUE_SET => read_set(&mut reader),
            QUEUE_PAUSE => read_pause(&mut reader),
            _ => return Err(Damaged(format!("queue record of unknown kind {kind}"))),
        };
        match change {
            Ok(change) if reader.rest().is_empty() => Ok(change),
            _ => Err(Damaged(format!("queue record {kind} is not as it should be"))),
        }
    }
}

pub(super) fn read_add(reader: &mut Reader<'_>) -> Result<Add, Short> {
    let (queue, blob) = (QueueId(reader.u64()?), BlobId(reader.u64()?));
    let (size, arrived, due) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (warn, expires) = (reader.u32()?, reader.u32()?);
    let flags = Flags(reader.u16()?);
    let (priority, marks) = (i8::from_le_bytes([reader.u8()?]), reader.u8()?);
    let domain = std::str::from_utf8(reader.slice()?).map_err(|_| Short)?;
    let envelope = Envelope::decode(reader.slice()?, domain)?;
    let domain = domain.into();
    Ok(Add {
        queue,
        blob,
        size,
        arrived,
        due,
        warn,
        expires,
        flags,
        priority,
        marks,
        domain,
        envelope,
    })
}

pub(super) fn read_standings(
    reader: &mut Reader<'_>,
) -> Result<Vec<(u16, Fate, Option<Said>)>, Short> {
    let count = reader.u16()?;
    let one = |_| {
        let (recipient, fate) = (reader.u16()?, Fate::read(reader.u8()?)?);
        let said = match reader.u8()? {
            0 => None,
            1 => Some(Said::read(reader)?),
            _ => return Err(Short),
        };
        Ok((recipient, fate, said))
    };
    (0..count).map(one).collect()
}

fn read_tried(reader: &mut Reader<'_>) -> Result<Tried, Short> {
    let queue = QueueId(reader.u64()?);
    let (at, due, warn) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (flags, attempts) = (Flags(reader.u16()?), reader.u16()?);
    let standings = read_standings(reader)?;
    Ok(Tried { queue, at, due, warn, flags, attempts, standings })
}

fn read_done(reader: &mut Reader<'_>) -> Result<Change, Short> {
    Ok(Change::Done(QueueId(reader.u64()?), BlobId(reader.u64()?)))
}

fn read_set(reader: &mut Reader<'_>) -> Result<Change, Short> {
    Ok(Change::Set {
        queue: QueueId(reader.u64()?),
        due: reader.u32()?,
        expires: reader.u32()?,
        flags: Flags(reader.u16()?),
    })
}

fn read_pause(reader: &mut Reader<'_>) -> Result<Change, Short> {
    let on = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Short),
    };
    Ok(Change::Pause(on, Pause::read(reader)?))
}

fn put_head(body: &mut Vec<u8>, queue: QueueId, blob: BlobId, numbers: [u32; 5]) {
    body.put_u64(queue.0);
    body.put_u64(blob.0);
    for number in numbers {
        body.put_u32(number);
    }
}

fn put_tail(body: &mut Vec<u8>, entry: (Flags, i8, u8), domain: &str, envelope: &[u8]) {
    let (flags, priority, marks) = entry;
    body.put_u16(flags.0);
    body.put_u8(priority.to_le_bytes()[0]);
    body.put_u8(marks);
    body.put_slice(domain.as_bytes());
    body.put_slice(envelope);
}

/// As in the record, of an entry that is there.
pub(super) fn write_entry(body: &mut Vec<u8>, entry: &Entry, domain: &str, envelope: &Envelope) {
    let numbers = [entry.size, entry.arrived, entry.due, entry.warn, entry.expires];
    put_head(body, entry.id, entry.blob, numbers);
    put_tail(body, (entry.flags, entry.priority, entry.marks), domain, &envelope.encode());
}

pub(super) fn write_standings<'a>(
    body: &mut Vec<u8>,
    standings: impl ExactSizeIterator<Item = (u16, Fate, Option<&'a Said>)>,
) {
    body.put_u16(u16::try_from(standings.len()).expect("bounded by a transaction"));
    for (recipient, fate, said) in standings {
        body.put_u16(recipient);
        body.put_u8(fate.code());
        body.put_u8(u8::from(said.is_some()));
        if let Some(said) = said {
            said.put(body);
        }
    }
}

/// The promise: the blob, in this group or before, will reach its recipients or come back.
pub fn put_add(group: &mut Group, add: &Add) {
    let envelope = add.envelope.encode();
    let mut body = Vec::with_capacity(64 + add.domain.len() + envelope.len());
    let numbers = [add.size, add.arrived, add.due, add.warn, add.expires];
    put_head(&mut body, add.queue, add.blob, numbers);
    put_tail(&mut body, (add.flags, add.priority, add.marks), &add.domain, &envelope);
    group.record(QUEUE_ADD, VERSION, 0, body);
}

/// How an entry stands after an attempt.
pub fn put_tried(group: &mut Group, tried: &Tried) {
    let mut body = Vec::with_capacity(64 + 64 * tried.standings.len());
    body.put_u64(tried.queue.0);
    for number in [tried.at, tried.due, tried.warn] {
        body.put_u32(number);
    }
    body.put_u16(tried.flags.0);
    body.put_u16(tried.attempts);
    let standings = tried.standings.iter();
    write_standings(&mut body, standings.map(|(to, fate, said)| (*to, *fate, said.as_ref())));
    group.record(QUEUE_TRIED, VERSION, 0, body);
}

/// Nobody is waiting for it any more.
pub fn put_done(group: &mut Group, queue: QueueId, blob: BlobId) {
    let mut body = Vec::with_capacity(16);
    body.put_u64(queue.0);
    body.put_u64(blob.0);
    group.record(QUEUE_DONE, VERSION, 0, body);
}

/// What an operator wants of an entry.
pub fn put_set(group: &mut Group, queue: QueueId, due: u32, expires: u32, flags: Flags) {
    let mut body = Vec::with_capacity(18);
    body.put_u64(queue.0);
    body.put_u32(due);
    body.put_u32(expires);
    body.put_u16(flags.0);
    group.record(QUEUE_SET, VERSION, 0, body);
}

/// Stops mail, or lets it go on.
pub fn put_pause(group: &mut Group, on: bool, pause: &Pause) {
    let mut body = vec![u8::from(on)];
    write_pause(&mut body, pause);
    group.record(QUEUE_PAUSE, VERSION, 0, body);
}

pub(super) fn write_pause(body: &mut Vec<u8>, pause: &Pause) {
    let (kind, name) = pause.code();
    body.put_u8(kind);
    body.put_slice(name.as_bytes());
}
