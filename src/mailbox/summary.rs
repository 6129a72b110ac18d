//! The summary: what is kept in front of a message so that listings need not read it.
//!
//! It is made once, in one pass, when the message comes in. FETCH ENVELOPE and BODYSTRUCTURE are
//! copies of it, BODY[1.2] is a read of the range that the table of parts gives, SORT and THREAD
//! read nothing else.
//!
//! ```text
//! summary := version u8 = 2 | flags u8 | parts u16 | header octets u32 | body lines u32
//!            | sent i64 | zone i16 | references u16 | message id u64 | envelope octets u32
//!            | structure octets u32 | base subject octets u16 | preview octets u16 | zeros{4}
//!            | reference u64{n} | part{n} | envelope | structure | base subject | preview
//! part    := header u32 | body u32 | end u32 | lines u32 | skip u16 | kind, encoding u8 | depth u8
//! ```
//!
//! Offsets count from the first octet of the stored message, trace fields included. The size has a
//! bound: an ENVELOPE, a BODYSTRUCTURE or a table of parts that is too large is left out, and made
//! of the message when somebody asks. So it is with all of them where the summary is of version 1
//! ([`SummaryV1`]), which has only the first two numbers.

use super::summary_v1::{self, SummaryV1};
use crate::bytes::codec::{Put as _, Reader, Short, to_u32, to_usize};
use crate::model::limits::{
    MESSAGE_OCTETS_SUMMARY_MAX, SUMMARY_ENVELOPE_OCTETS_MAX, SUMMARY_PARTS_MAX,
    SUMMARY_STRUCTURE_OCTETS_MAX,
};
use crate::store::Damaged;
use crate::wire::message::envelope::put_envelope;
use crate::wire::message::head::FieldKind;
use crate::wire::message::ids::{message_id, references, thread};
use crate::wire::message::mime::{Encoding, Kind, Part, Tree};
use crate::wire::message::preview::put_preview;
use crate::wire::message::sent::{Sent, sent};
use crate::wire::message::structure::put_bodystructure;
use crate::wire::message::subject::base_subject;
use std::borrow::Cow;

const VERSION: u8 = 2;
const HEAD_OCTETS: usize = 48;
const PART_OCTETS: usize = 20;

const NO_ENVELOPE: u8 = 1;
const NO_STRUCTURE: u8 = 2;
const NO_PARTS: u8 = 4;
const HAS_SENT: u8 = 8;
const IS_REPLY: u8 = 16;

/// Makes the summary of a message.
///
/// # Panics
/// If the message has [`MESSAGE_OCTETS_SUMMARY_MAX`] octets or more: offsets have 32 bits.
pub fn summarize(message: &[u8]) -> Vec<u8> {
    assert!(
        crate::bytes::codec::to_u64(message.len()) < MESSAGE_OCTETS_SUMMARY_MAX,
        "offsets of a summary have 32 bits"
    );
    let tree = Tree::of(message);
    let head = &tree.head;
    let mut out = Vec::with_capacity(2_048);
    out.resize(HEAD_OCTETS, 0);
    let mut flags = 0;

    let mut ids = Vec::new();
    references(message, head, &mut ids);
    for &id in &ids {
        out.put_u64(id);
    }
    let parts = if tree.parts.len() > SUMMARY_PARTS_MAX {
        flags |= NO_PARTS;
        &[][..]
    } else {
        &tree.parts
    };
    for part in parts {
        put_part(part, &mut out);
    }
    let start = out.len();
    if !put_within(SUMMARY_ENVELOPE_OCTETS_MAX, envelope_octets(&tree), &mut out, |out| {
        put_envelope(message, head, out);
    }) {
        flags |= NO_ENVELOPE;
    }
    let envelope_len = out.len() - start;
    let start = out.len();
    if !put_within(SUMMARY_STRUCTURE_OCTETS_MAX, structure_octets(&tree), &mut out, |out| {
        put_bodystructure(message, &tree, out);
    }) {
        flags |= NO_STRUCTURE;
    }
    let structure_len = out.len() - start;
    let subject = base_subject(head.value(message, FieldKind::Subject).unwrap_or_default());
    if subject.is_reply {
        flags |= IS_REPLY;
    }
    out.extend_from_slice(&subject.folded);
    let mut preview = String::with_capacity(256);
    put_preview(message, &tree, &mut preview);
    out.extend_from_slice(preview.as_bytes());

    let sent = head.value(message, FieldKind::Date).and_then(sent);
    if sent.is_some() {
        flags |= HAS_SENT;
    }
    let sent = sent.unwrap_or(Sent { seconds: 0, zone_minutes: 0 });
    let short = |len: usize| u16::try_from(len).expect("it has a bound");
    let mut front = Vec::with_capacity(HEAD_OCTETS);
    front.put_u8(VERSION);
    front.put_u8(flags);
    front.put_u16(short(parts.len()));
    front.put_u32(tree.parts[0].body);
    front.put_u32(tree.parts[0].lines);
    front.put_u64(sent.seconds.cast_unsigned());
    front.put_u16(sent.zone_minutes.cast_unsigned());
    front.put_u16(short(ids.len()));
    front.put_u64(message_id(message, head).unwrap_or_default());
    front.put_u32(to_u32(envelope_len));
    front.put_u32(to_u32(structure_len));
    front.put_u16(short(subject.folded.len()));
    front.put_u16(short(preview.len()));
    out[..front.len()].copy_from_slice(&front);
    out
}

/// Writes a text that must not be longer than `max`; `likely` is a guess from below, so that one
/// that is far too long is not written only to be thrown away. False: it was left out.
fn put_within(
    max: usize,
    likely: usize,
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Vec<u8>),
) -> bool {
    if likely > max {
        return false;
    }
    let start = out.len();
    put(out);
    let fits = out.len() - start <= max;
    if !fits {
        out.truncate(start);
    }
    fits
}

fn envelope_octets(tree: &Tree) -> usize {
    let kinds = [
        FieldKind::Subject,
        FieldKind::From,
        FieldKind::Sender,
        FieldKind::ReplyTo,
        FieldKind::To,
        FieldKind::Cc,
        FieldKind::Bcc,
        FieldKind::InReplyTo,
    ];
    let lens = kinds.iter().filter_map(|&kind| tree.head.range(kind)).map(|range| range.len());
    // Lists of addresses become longer, folds and comments shorter.
    lens.sum::<usize>() / 2
}

fn structure_octets(tree: &Tree) -> usize {
    // The shortest there is: ("a" "b" NIL NIL NIL "7bit" 0 NIL NIL NIL NIL).
    let parts = tree.parts.len() * 40;
    let headers: usize = tree.parts.iter().skip(1).map(|part| part.header().len()).sum();
    let fields = [
        FieldKind::ContentType,
        FieldKind::ContentDisposition,
        FieldKind::ContentDescription,
        FieldKind::ContentLanguage,
        FieldKind::ContentLocation,
    ];
    let lens = fields.iter().filter_map(|&kind| tree.head.range(kind)).map(|range| range.len());
    parts.max(headers / 8).max(lens.sum())
}

fn put_part(part: &Part, out: &mut Vec<u8>) {
    out.put_u32(part.header);
    out.put_u32(part.body);
    out.put_u32(part.end);
    out.put_u32(part.lines);
    out.put_u16(part.skip);
    out.put_u8(part.kind as u8 | (part.encoding as u8) << 4);
    out.put_u8(part.depth);
}

/// A summary as it was stored, of any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored<'a> {
    /// Everything else is made of the message: [`summarize`].
    Old(SummaryV1),
    Summary(Summary<'a>),
}

impl<'a> Stored<'a> {
    pub fn read(octets: &'a [u8]) -> Result<Stored<'a>, Damaged> {
        match octets.first() {
            Some(&summary_v1::VERSION) => SummaryV1::decode(octets).map(Stored::Old),
            Some(&VERSION) => Summary::read(octets).map(Stored::Summary),
            _ => Err(Damaged("a summary of unknown version".into())),
        }
    }

    /// Octets up to and with the empty line; all octets where there is none.
    pub fn header_len(&self) -> u32 {
        match self {
            Stored::Old(old) => old.header_len,
            Stored::Summary(summary) => summary.header_len,
        }
    }
}

/// The summary of today's version, borrowed from its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary<'a> {
    flags: u8,
    /// Octets up to and with the empty line; all octets where there is none.
    pub header_len: u32,
    /// Line ends behind the header.
    pub body_lines: u32,
    sent: Sent,
    message_id: u64,
    references: &'a [u8],
    parts: &'a [u8],
    envelope: &'a [u8],
    structure: &'a [u8],
    base_subject: &'a [u8],
    preview: &'a [u8],
}

impl<'a> Summary<'a> {
    /// Reads the octets that [`summarize`] made.
    pub fn read(octets: &'a [u8]) -> Result<Summary<'a>, Damaged> {
        Summary::fields(octets)
            .ok()
            .flatten()
            .ok_or_else(|| Damaged("a summary is not as it should be".into()))
    }

    fn fields(octets: &'a [u8]) -> Result<Option<Summary<'a>>, Short> {
        let mut reader = Reader::new(octets);
        let (version, flags) = (reader.u8()?, reader.u8()?);
        let part_count = usize::from(reader.u16()?);
        let (header_len, body_lines) = (reader.u32()?, reader.u32()?);
        let seconds = reader.u64()?.cast_signed();
        let zone_minutes = reader.u16()?.cast_signed();
        let reference_count = usize::from(reader.u16()?);
        let message_id = reader.u64()?;
        let envelope_len = to_usize(u64::from(reader.u32()?));
        let structure_len = to_usize(u64::from(reader.u32()?));
        let (subject_len, preview_len) = (reader.u16()?, reader.u16()?);
        reader.u32()?;
        let summary = Summary {
            flags,
            header_len,
            body_lines,
            sent: Sent { seconds, zone_minutes },
            message_id,
            references: reader.take(reference_count * 8)?,
            parts: reader.take(part_count * PART_OCTETS)?,
            envelope: reader.take(envelope_len)?,
            structure: reader.take(structure_len)?,
            base_subject: reader.take(usize::from(subject_len))?,
            preview: reader.take(usize::from(preview_len))?,
        };
        let is_whole = version == VERSION && reader.rest().is_empty();
        Ok(is_whole.then_some(summary))
    }

    fn unless<T>(&self, flag: u8, value: T) -> Option<T> {
        (self.flags & flag == 0).then_some(value)
    }

    /// The ENVELOPE, ready to send; `None` if it was too long to keep.
    pub fn envelope(&self) -> Option<&'a [u8]> {
        self.unless(NO_ENVELOPE, self.envelope)
    }

    /// The BODYSTRUCTURE, ready to send; `None` if it was too long to keep. The BODY is made of it
    /// by [`crate::wire::message::structure::put_body_of`].
    pub fn structure(&self) -> Option<&'a [u8]> {
        self.unless(NO_STRUCTURE, self.structure)
    }

    /// Writes the table of parts over `parts`; false, and none, if it was too long to keep.
    pub fn parts(&self, parts: &mut Vec<Part>) -> Result<bool, Damaged> {
        parts.clear();
        for octets in self.parts.chunks_exact(PART_OCTETS) {
            let part = read_part(octets).ok().flatten();
            parts.push(part.ok_or_else(|| Damaged("a table of parts with a wrong number".into()))?);
        }
        Ok(self.flags & NO_PARTS == 0)
    }

    /// What the Date field says, if it can be read.
    pub fn sent(&self) -> Option<Sent> {
        (self.flags & HAS_SENT != 0).then_some(self.sent)
    }

    /// The Message-ID, hashed.
    pub fn message_id(&self) -> Option<u64> {
        Some(self.message_id).filter(|id| *id != 0)
    }

    /// The messages that this one answers, hashed, oldest first.
    pub fn references(&self) -> impl Iterator<Item = u64> + use<'a> {
        let (ids, _) = self.references.as_chunks::<8>();
        ids.iter().map(|id| u64::from_le_bytes(*id))
    }

    /// The thread that it belongs to, if that can be told ([`thread`]).
    pub fn thread(&self) -> Option<u64> {
        let (ids, _) = self.references.as_chunks::<8>();
        let oldest = self.references().next();
        thread(self.message_id(), oldest, ids.len())
    }

    /// The base subject, folded to be compared.
    pub fn base_subject(&self) -> &'a [u8] {
        self.base_subject
    }

    /// The subject says that this is a reply, or was forwarded.
    pub fn is_reply(&self) -> bool {
        self.flags & IS_REPLY != 0
    }

    /// The first words of the text.
    pub fn preview(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.preview)
    }
}

fn read_part(octets: &[u8]) -> Result<Option<Part>, Short> {
    let mut reader = Reader::new(octets);
    let (header, body, end, lines) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let skip = reader.u16()?;
    let (kinds, depth) = (reader.u8()?, reader.u8()?);
    let kind = Kind::from_number(kinds & 15);
    let encoding = Encoding::from_number(kinds >> 4);
    let is_sound = header <= body && body <= end;
    let part = kind.zip(encoding).filter(|_| is_sound);
    Ok(part.map(|(kind, encoding)| Part { header, body, end, lines, skip, kind, encoding, depth }))
}

/// Laws: what was written is read back, and is what the message says; the size has a bound.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_summary(data: &[u8]) {
    use crate::model::limits::{BASE_SUBJECT_OCTETS_MAX, REFERENCES_MAX};
    use crate::wire::message::preview::PREVIEW_OCTETS_MAX;

    let octets = summarize(data);
    let fixed = HEAD_OCTETS + BASE_SUBJECT_OCTETS_MAX + PREVIEW_OCTETS_MAX + 8 * REFERENCES_MAX;
    let parts = PART_OCTETS * SUMMARY_PARTS_MAX;
    let texts = SUMMARY_ENVELOPE_OCTETS_MAX + SUMMARY_STRUCTURE_OCTETS_MAX;
    assert!(octets.len() <= fixed + parts + texts);
    let Ok(Stored::Summary(summary)) = Stored::read(&octets) else {
        unreachable!("it was just made");
    };
    let tree = Tree::of(data);
    let mut parts = Vec::new();
    if summary.parts(&mut parts).expect("it was just made") {
        assert_eq!(parts, tree.parts);
    }
    let mut text = Vec::new();
    put_envelope(data, &tree.head, &mut text);
    assert!(summary.envelope().is_none_or(|envelope| envelope == text));
    text.clear();
    put_bodystructure(data, &tree, &mut text);
    assert!(summary.structure().is_none_or(|structure| structure == text));
    // Whatever a disk makes of it: an answer or an error.
    for len in (0..octets.len()).step_by(7) {
        assert!(Summary::read(&octets[..len]).is_err());
    }
    drop(Stored::read(data));
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
