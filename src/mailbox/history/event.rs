//! What undoes one change: every octet of the bodies of events.
//!
//! ```text
//! 1 GONE        rows, which were removed; the history refers to their blobs
//! 2 LEFT        rows, which moved to another mailbox
//! 3 FLAGS       (first uid u32, last uid u32, keyword set u16, flags u8){…}, rise and lie apart: those
//!               of the messages that were there had these
//! 4 NAME        the name of the mailbox
//! 5 USE         its use u8
//! 6 SUBSCRIBED  was u8 (0, 1) | the name that was subscribed to, or not
//! 7 KEYWORD     bit u8 | the name of the keyword that had this place
//! 8 SWAPPED     the mailbox u32 that this one exchanged all with
//! 9 UIDL        uid u32 | the form of the unique id of a message that went
//!
//! row := uid u32 | internal date u32 | save date u32 | size u32 | thread u32 | blob u64
//!        | keyword set u16 | flags u8 | marks u8
//! ```
//!
//! A keyword set is a mask over the keywords of the mailbox (see [`crate::mailbox::Keywords`]); which
//! names these were at the time is known once the KEYWORD events are undone.

use super::super::row::{BLOB_MAX, Entry, Flags, Marks};
use crate::bytes::codec::{Put, Reader};
use crate::model::id::{BlobId, MailboxId, ModSeq, Uid};

const ROW_OCTETS: usize = 32;
const RUN_OCTETS: usize = 11;

/// Messages with rising UIDs, as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum RowsOf<'a> {
    Saved(&'a [u8]),
    Live(&'a [Entry]),
}

/// Messages from one UID to another that had the same flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct FlagRun {
    pub first: Uid,
    pub last: Uid,
    pub keywords: u16,
    pub flags: Flags,
}

/// The same, as saved or to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum RunsOf<'a> {
    Saved(&'a [u8]),
    Live(&'a [FlagRun]),
}

/// See the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Event<'a> {
    Gone(RowsOf<'a>),
    Left(RowsOf<'a>),
    Flags(RunsOf<'a>),
    Name(&'a str),
    Use(u8),
    Subscribed { was: bool, name: &'a str },
    Keyword { bit: u8, name: &'a str },
    Swapped(MailboxId),
    Uidl { uid: Uid, form: &'a str },
}

fn read_row(octets: &[u8]) -> Option<Entry> {
    let mut reader = Reader::new(octets);
    let mut row = || -> Result<Entry, crate::bytes::codec::Short> {
        Ok(Entry {
            uid: Uid(reader.u32()?),
            // Whoever brings it back gives it a new one.
            modseq: ModSeq(0),
            internal_date: reader.u32()?,
            save_date: reader.u32()?,
            size: reader.u32()?,
            thread: reader.u32()?,
            blob: BlobId(reader.u64()?),
            keywords: reader.u16()?,
            flags: Flags(reader.u8()?),
            marks: Marks(reader.u8()?),
        })
    };
    row().ok().filter(|row| row.blob.0 <= BLOB_MAX)
}

fn put_row(out: &mut Vec<u8>, entry: &Entry) {
    out.put_u32(entry.uid.0);
    out.put_u32(entry.internal_date);
    out.put_u32(entry.save_date);
    out.put_u32(entry.size);
    out.put_u32(entry.thread);
    out.put_u64(entry.blob.0);
    out.put_u16(entry.keywords);
    out.put_u8(entry.flags.0);
    out.put_u8(entry.marks.0);
}

fn read_run(octets: &[u8]) -> Option<FlagRun> {
    let mut reader = Reader::new(octets);
    let (first, last) = (Uid(reader.u32().ok()?), Uid(reader.u32().ok()?));
    let (keywords, flags) = (reader.u16().ok()?, Flags(reader.u8().ok()?));
    (first <= last).then_some(FlagRun { first, last, keywords, flags })
}

impl<'a> RowsOf<'a> {
    pub(in super::super) fn entries(self) -> impl Iterator<Item = Entry> + use<'a> {
        let (saved, live) = match self {
            RowsOf::Saved(octets) => (octets, &[][..]),
            RowsOf::Live(entries) => (&[][..], entries),
        };
        saved.chunks_exact(ROW_OCTETS).filter_map(read_row).chain(live.iter().copied())
    }
}

impl<'a> RunsOf<'a> {
    pub(in super::super) fn runs(self) -> impl Iterator<Item = FlagRun> + use<'a> {
        let (saved, live) = match self {
            RunsOf::Saved(octets) => (octets, &[][..]),
            RunsOf::Live(runs) => (&[][..], runs),
        };
        saved.chunks_exact(RUN_OCTETS).filter_map(read_run).chain(live.iter().copied())
    }
}

fn rows(body: &[u8]) -> Option<RowsOf<'_>> {
    let is_whole = !body.is_empty() && body.len().is_multiple_of(ROW_OCTETS);
    let rows = RowsOf::Saved(body);
    let is_sound = is_whole
        && rows.entries().count() * ROW_OCTETS == body.len()
        && rows.entries().is_sorted_by(|a, b| a.uid < b.uid);
    is_sound.then_some(rows)
}

fn runs(body: &[u8]) -> Option<RunsOf<'_>> {
    let is_whole = !body.is_empty() && body.len().is_multiple_of(RUN_OCTETS);
    let runs = RunsOf::Saved(body);
    let is_sound = is_whole
        && runs.runs().count() * RUN_OCTETS == body.len()
        && runs.runs().is_sorted_by(|a, b| a.last < b.first);
    is_sound.then_some(runs)
}

fn text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok().filter(|text| !text.is_empty())
}

impl<'a> Event<'a> {
    /// `None` for what cannot have been written.
    pub(super) fn read(kind: u8, body: &'a [u8]) -> Option<Event<'a>> {
        let mut reader = Reader::new(body);
        Some(match kind {
            1 => Event::Gone(rows(body)?),
            2 => Event::Left(rows(body)?),
            3 => Event::Flags(runs(body)?),
            4 => Event::Name(text(body)?),
            5 => match body {
                [uses] => Event::Use(*uses),
                _ => return None,
            },
            6 => {
                let was = reader.u8().ok().filter(|was| *was < 2)? == 1;
                Event::Subscribed { was, name: text(reader.rest())? }
            }
            7 => {
                let bit = reader.u8().ok().filter(|bit| *bit < 64)?;
                Event::Keyword { bit, name: text(reader.rest())? }
            }
            8 => {
                let other = MailboxId(reader.u32().ok()?);
                reader.rest().is_empty().then_some(Event::Swapped(other))?
            }
            9 => Event::Uidl { uid: Uid(reader.u32().ok()?), form: text(reader.rest())? },
            _ => return None,
        })
    }

    /// Its kind and its body.
    pub(super) fn octets(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let kind = match *self {
            Event::Gone(rows) => {
                rows.entries().for_each(|entry| put_row(&mut out, &entry));
                1
            }
            Event::Left(rows) => {
                rows.entries().for_each(|entry| put_row(&mut out, &entry));
                2
            }
            Event::Flags(runs) => {
                for run in runs.runs() {
                    out.put_u32(run.first.0);
                    out.put_u32(run.last.0);
                    out.put_u16(run.keywords);
                    out.put_u8(run.flags.0);
                }
                3
            }
            Event::Name(name) => {
                out.extend_from_slice(name.as_bytes());
                4
            }
            Event::Use(uses) => {
                out.put_u8(uses);
                5
            }
            Event::Subscribed { was, name } => {
                out.put_u8(u8::from(was));
                out.extend_from_slice(name.as_bytes());
                6
            }
            Event::Keyword { bit, name } => {
                out.put_u8(bit);
                out.extend_from_slice(name.as_bytes());
                7
            }
            Event::Swapped(other) => {
                out.put_u32(other.0);
                8
            }
            Event::Uidl { uid, form } => {
                out.put_u32(uid.0);
                out.extend_from_slice(form.as_bytes());
                9
            }
        };
        (kind, out)
    }

    /// Names the blobs that it refers to.
    pub(super) fn references(&self, each: &mut dyn FnMut(BlobId)) {
        if let Event::Gone(rows) = self {
            rows.entries().for_each(|entry| each(entry.blob));
        }
    }
}
