//! A message made fit for a server that takes 7 bits and lines of 998 octets only (RFC 6152 §3,
//! RFC 3030 §3, RFC 5321 §4.5.3.1.6): each part that needs it gets a transfer encoding.
//!
//! ```text
//! multipart/mixed                          7bit
//!   ├─ text/plain      8bit        ──>     quoted-printable, or base64 where that is shorter
//!   ├─ image/png       binary      ──>     base64
//!   └─ message/rfc822  8bit        ──>     7bit, and the same within
//! ```
//!
//! What is made is a plan: pieces of the message that stay as they are, header lines that are new,
//! and bodies to be encoded on their way out. Nothing is copied but header lines.
//!
//! Promises:
//!   - decoded, each part has the octets that it had; parts that need nothing are not touched
//!   - what comes out is ASCII in lines of at most 998 octets and CRLF
//!
//! What cannot be changed is told ([`Cannot`]): octets over 127 in a header, what a signature covers
//! (RFC 1847 §2.1), and composite types, which must not be encoded as a whole (RFC 2045 §6.4).

use super::decode::Decoder;
use super::encode::{Coding, Encoder};
use super::fields::{Field, fields};
use super::head::{FieldKind, Head};
use super::mime::{Encoding, Kind, Part, Tree, children};
use super::params::content_type;
use crate::bytes::codec::to_u64;
use crate::model::limits::{
    MESSAGE_BLOCK_OCTETS, MESSAGE_OCTETS_SUMMARY_MAX, MIME_PARTS_MAX, TEXT_LINE_OCTETS_MAX,
};
use crate::wire::text::TextScan;
use memchr::memchr;
use std::fmt;
use std::ops::Range;

/// Octets of a line without CRLF.
const LINE_MAX: usize = TEXT_LINE_OCTETS_MAX as usize - 2;

/// Why a message cannot be made fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cannot {
    /// A header has octets over 127: what they mean is known to SMTPUTF8 alone.
    EightBitHeader,
    /// A header has a line that is too long and cannot be folded, or a line end that is none.
    BrokenHeader,
    /// What would have to change is signed.
    Signed,
    /// A composite part would have to be encoded as a whole: a multipart without parts, a message of a
    /// kind that has to stay as it is, or one that is encoded already.
    Composite,
    /// A part has an encoding that nobody knows, or that is broken.
    Encoding,
    /// It has more parts, or deeper ones, than are looked at.
    TooManyParts,
}

impl fmt::Display for Cannot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Cannot::EightBitHeader => "its header has octets over 127",
            Cannot::BrokenHeader => "its header has lines that cannot be made shorter",
            Cannot::Signed => "it is signed",
            Cannot::Composite => "it has a composite part that must not be encoded",
            Cannot::Encoding => "a part of it has an unknown or broken encoding",
            Cannot::TooManyParts => "it has too many parts",
        })
    }
}

/// A piece of the new message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These octets of the message.
    Octets(Range<usize>),
    /// New ones: whole lines.
    Text(Vec<u8>),
    /// These octets of the message, decoded from what they are in, and encoded.
    Body { range: Range<usize>, from: Encoding, to: Coding },
}

/// The new message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub pieces: Vec<Piece>,
}

impl Plan {
    /// Plans the new message. Passes over the octets a few times.
    pub fn of(message: &[u8]) -> Result<Plan, Cannot> {
        if to_u64(message.len()) >= MESSAGE_OCTETS_SUMMARY_MAX {
            return Err(Cannot::TooManyParts);
        }
        let tree = Tree::of(message);
        let needs = vec![Need::default(); tree.parts.len()];
        let mut planning = Planning { message, parts: &tree.parts, needs, pieces: Vec::new() };
        planning.look()?;
        planning.part(0, Around { is_message: true, is_signed: false })?;
        Ok(Plan { pieces: planning.pieces })
    }
}

/// What a part stands in.
#[derive(Clone, Copy, Debug)]
struct Around {
    /// It is a message, with a header of its own.
    is_message: bool,
    /// None of it may change.
    is_signed: bool,
}

/// What the octets of a body ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    /// They cannot go as they are.
    is_unfit: bool,
    /// There are octets over 127 among them.
    is_eight_bit: bool,
    /// A header has lines that are to be folded.
    has_long_header: bool,
}

struct Planning<'a> {
    message: &'a [u8],
    parts: &'a [Part],
    /// Of each part, those within it counted.
    needs: Vec<Need>,
    pieces: Vec<Piece>,
}

fn need(octets: &[u8]) -> Need {
    let is_eight_bit = !octets.is_ascii();
    let mut text = TextScan::new(TEXT_LINE_OCTETS_MAX);
    text.feed(octets);
    text.end();
    // What follows a body is a line end.
    let tail = memchr::memrchr(b'\n', octets).map_or(octets.len(), |lf| octets.len() - lf - 1);
    let is_unfit = is_eight_bit || text.fault().is_some() || tail > LINE_MAX;
    Need { is_unfit, is_eight_bit, has_long_header: false }
}

impl Planning<'_> {
    /// Finds out which parts cannot go as they are.
    fn look(&mut self) -> Result<(), Cannot> {
        for (index, part) in self.parts.iter().enumerate().rev() {
            if !self.message[part.header()].is_ascii() {
                return Err(Cannot::EightBitHeader);
            }
            let has_long_header = need(&self.message[part.header()]).is_unfit;
            let mut whole = Need { has_long_header, ..Need::default() };
            let mut at = part.body().start;
            for child in children(self.parts, index) {
                let inner = &self.parts[child];
                whole = whole.with(need(&self.message[at..inner.header().start]));
                whole = whole.with(self.needs[child]);
                at = inner.body().end;
            }
            let rest = need(&self.message[at..part.body().end]);
            self.needs[index] = whole.with(rest);
        }
        let is_cut_off = self.parts.len() >= MIME_PARTS_MAX;
        if is_cut_off && self.needs[0].is_unfit { Err(Cannot::TooManyParts) } else { Ok(()) }
    }

    /// Writes a part.
    fn part(&mut self, index: usize, around: Around) -> Result<(), Cannot> {
        let part = self.parts[index];
        let need = self.needs[index];
        if !need.is_unfit && !need.has_long_header {
            self.octets(part.header().start..part.body().end);
            return Ok(());
        }
        if around.is_signed {
            return Err(Cannot::Signed);
        }
        let upto = &self.message[..part.header().end];
        let head = Head::scan(upto, part.header().start, |_| false).0;
        let named = head.value(self.message, FieldKind::ContentType).and_then(content_type);
        let subtype = named.map_or(&b""[..], |named| named.subtype);
        let is_global = subtype.get(..6).is_some_and(|front| front.eq_ignore_ascii_case(b"global"));
        let is_composite = part.is_multipart() || part.kind == Kind::Message;
        if is_composite {
            let has_children = children(self.parts, index).next().is_some();
            if need.is_unfit && (part.encoding != Encoding::Identity || !has_children) {
                return Err(Cannot::Composite);
            }
            let new = need.is_unfit.then_some("7bit");
            self.header(index, &head, around, new)?;
            // RFC 1847 §2.1: what is signed stays as it is, octet by octet.
            let is_signed = part.is_multipart() && subtype.eq_ignore_ascii_case(b"signed");
            return self.within(index, is_signed);
        }
        if !need.is_unfit {
            self.header(index, &head, around, None)?;
            self.octets(part.body());
            return Ok(());
        }
        let coding = match part.kind {
            Kind::Closed => return Err(Cannot::TooManyParts),
            // RFC 6533 §6.3 to §6.5 allow for an encoding; RFC 2045 §6.4 for none else.
            Kind::Status if !is_global => return Err(Cannot::Composite),
            _ => self.coding(&part)?,
        };
        self.header(index, &head, around, Some(coding.name()))?;
        self.pieces.push(Piece::Body { range: part.body(), from: part.encoding, to: coding });
        if coding == Coding::Base64 && index == 0 {
            self.text(b"\r\n".to_vec());
        }
        Ok(())
    }

    /// Writes what is within a multipart or a message, and what stands between.
    fn within(&mut self, index: usize, is_signed: bool) -> Result<(), Cannot> {
        let body = self.parts[index].body();
        let is_message = self.parts[index].kind == Kind::Message;
        let around = Around { is_message, is_signed };
        let mut at = body.start;
        let inner: Vec<usize> = children(self.parts, index).collect();
        for child in inner {
            let (start, end) = (self.parts[child].header().start, self.parts[child].body().end);
            self.between(at..start, is_signed)?;
            self.part(child, around)?;
            at = end;
        }
        self.between(at..body.end, is_signed)
    }

    /// A preamble, an epilogue, boundaries. Nobody reads the two first: what is no ASCII in them
    /// becomes `?`. Boundaries are ASCII, since the header is that names them.
    fn between(&mut self, range: Range<usize>, is_signed: bool) -> Result<(), Cannot> {
        let octets = &self.message[range.clone()];
        let found = need(octets);
        if !found.is_unfit {
            self.octets(range);
            return Ok(());
        }
        if is_signed {
            return Err(Cannot::Signed);
        }
        let masked: Vec<u8> =
            octets.iter().map(|&octet| if octet.is_ascii() { octet } else { b'?' }).collect();
        if need(&masked).is_unfit {
            return Err(Cannot::Composite);
        }
        self.text(masked);
        Ok(())
    }

    /// How a body is encoded: text as people can read it, unless most of it is unreadable then.
    fn coding(&self, part: &Part) -> Result<Coding, Cannot> {
        let body = &self.message[part.body()];
        match part.encoding {
            Encoding::Unknown => return Err(Cannot::Encoding),
            Encoding::Base64 => {
                let (mut decoder, mut octets) = (Decoder::new(part.encoding), Vec::new());
                for block in body.chunks(MESSAGE_BLOCK_OCTETS) {
                    octets.clear();
                    decoder.feed(block, &mut octets);
                }
                let is_sound = decoder.end(&mut octets);
                return if is_sound { Ok(Coding::Base64) } else { Err(Cannot::Encoding) };
            }
            Encoding::QuotedPrintable => return Ok(Coding::QuotedPrintable),
            Encoding::Identity => {}
        }
        let escaped = body.iter().filter(|&&octet| octet >= 0x80 || octet == b'=').count();
        let is_text = matches!(part.kind, Kind::Text | Kind::Status);
        // Three octets for each of them, or four for three of all.
        Ok(if is_text && escaped < body.len() / 6 + 1 {
            Coding::QuotedPrintable
        } else {
            Coding::Base64
        })
    }

    /// Writes a header, its lines folded where they are too long; with another transfer encoding if
    /// one is given.
    fn header(
        &mut self,
        index: usize,
        head: &Head,
        around: Around,
        encoding: Option<&str>,
    ) -> Result<(), Cannot> {
        let range = self.parts[index].header();
        let header = &self.message[range.clone()];
        let has = |kind| head.range(kind).is_some();
        // A composite part says nothing where nothing was said: that is 7bit.
        let is_leaf = encoding.is_some_and(|name| name != "7bit");
        let mut left = encoding.filter(|_| is_leaf || has(FieldKind::ContentTransferEncoding));
        let mut at = 0;
        if left.is_some() {
            let kind = |field: &Field| FieldKind::of(&header[field.name.clone()]);
            let is_it = |field: &Field| kind(field) == Some(FieldKind::ContentTransferEncoding);
            for field in fields(header).filter(is_it) {
                self.lines(range.start + at..range.start + field.name.start)?;
                if let Some(name) = left.take() {
                    self.text(format!("Content-Transfer-Encoding: {name}\r\n").into_bytes());
                }
                at = behind_line(header, field.value.end);
            }
        }
        let end = fields_len(header).max(at);
        if !matches!(header[end..], [] | [b'\r', b'\n']) {
            return Err(Cannot::BrokenHeader);
        }
        self.lines(range.start + at..range.start + end)?;
        let mut new = String::new();
        if is_leaf && around.is_message && !has(FieldKind::MimeVersion) {
            new.push_str("MIME-Version: 1.0\r\n");
        }
        if is_leaf && !has(FieldKind::ContentType) && self.needs[index].is_eight_bit {
            // RFC 1428 §3: nobody has said what it is.
            new.push_str("Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
        if let Some(name) = left {
            new.push_str("Content-Transfer-Encoding: ");
            new.push_str(name);
            new.push_str("\r\n");
        }
        self.text(new.into_bytes());
        self.octets(range.start + end..range.end);
        Ok(())
    }

    /// Header lines, folded where they are too long.
    fn lines(&mut self, range: Range<usize>) -> Result<(), Cannot> {
        let octets = &self.message[range.clone()];
        if !need(octets).is_unfit {
            self.octets(range);
            return Ok(());
        }
        let mut text = Vec::with_capacity(octets.len() + 16);
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r\n").ok_or(Cannot::BrokenHeader)?;
            if line.iter().any(|octet| matches!(octet, b'\r' | 0)) {
                return Err(Cannot::BrokenHeader);
            }
            fold(line, &mut text).ok_or(Cannot::BrokenHeader)?;
        }
        self.text(text);
        Ok(())
    }

    fn octets(&mut self, range: Range<usize>) {
        match self.pieces.last_mut() {
            _ if range.is_empty() => {}
            Some(Piece::Octets(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Octets(range)),
        }
    }

    fn text(&mut self, text: Vec<u8>) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.extend_from_slice(&text),
            _ => self.pieces.push(Piece::Text(text)),
        }
    }
}

impl Need {
    fn with(self, other: Need) -> Need {
        Need {
            is_unfit: self.is_unfit || other.is_unfit,
            is_eight_bit: self.is_eight_bit || other.is_eight_bit,
            has_long_header: self.has_long_header || other.has_long_header,
        }
    }
}

/// Octets of a header without its empty line.
fn fields_len(header: &[u8]) -> usize {
    let end = header.strip_suffix(b"\n").unwrap_or(header);
    let end = end.strip_suffix(b"\r").unwrap_or(end);
    // The empty line is there if what stands before it has ended.
    if end.is_empty() || end.ends_with(b"\n") { end.len() } else { header.len() }
}

/// The first octet behind the line that has this one in it.
fn behind_line(text: &[u8], at: usize) -> usize {
    text.get(at..).and_then(|rest| memchr(b'\n', rest)).map_or(text.len(), |lf| at + lf + 1)
}

/// Folds a header line before white space (RFC 5322 §2.2.3), never within its name, and never so that
/// a line of nothing but white space comes out.
fn fold(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_space = |octet: u8| matches!(octet, b' ' | b'\t');
    let mut rest = line;
    // A line that goes on with a field has no name.
    let mut least = match line.first() {
        Some(&octet) if is_space(octet) => 1,
        _ => memchr(b':', line).map_or(1, |colon| colon + 1),
    };
    while rest.len() > LINE_MAX {
        let is_place = |&at: &usize| {
            is_space(rest[at])
                && rest[..at].iter().any(|&octet| !is_space(octet))
                && rest[at..].iter().any(|&octet| !is_space(octet))
        };
        let at = (least..=LINE_MAX).rev().find(is_place)?;
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[at..];
        least = 1;
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
    Some(())
}

/// The whole new message.
pub fn to_vec(message: &[u8], plan: &Plan) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for piece in &plan.pieces {
        match piece {
            Piece::Octets(range) => out.extend_from_slice(&message[range.clone()]),
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Body { range, from, to } => {
                let mut recoder = Recoder::new(*from, *to);
                recoder.feed(&message[range.clone()], &mut out);
                recoder.end(&mut out);
            }
        }
    }
    out
}

/// Brings a body from one encoding into another, piece by piece.
pub struct Recoder {
    decoder: Decoder,
    encoder: Encoder,
    octets: Vec<u8>,
}

impl Recoder {
    pub fn new(from: Encoding, to: Coding) -> Recoder {
        let decoder = Decoder::new(from);
        Recoder { decoder, encoder: Encoder::new(to), octets: Vec::new() }
    }

    /// Appends what stands for the next octets.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.octets.clear();
        self.decoder.feed(input, &mut self.octets);
        self.encoder.feed(&self.octets, out);
    }

    /// Appends what is left at the end.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.octets.clear();
        self.decoder.end(&mut self.octets);
        self.encoder.feed(&self.octets, out);
        self.encoder.end(out);
    }
}

/// Laws: what comes out is fit, has the same parts, and each has the octets that it had.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_downgrade(message: &[u8]) {
    use super::nature::Nature;
    let Ok(plan) = Plan::of(message) else { return };
    let new = to_vec(message, &plan);
    let nature = Nature::of(&new);
    let unfit = [Nature::EIGHT_BIT, Nature::LONG_LINES, Nature::BINARY];
    assert!(!unfit.into_iter().any(|what| nature.has(what)), "{nature:?}");
    let (old_tree, new_tree) = (Tree::of(message), Tree::of(&new));
    let decoded = |octets: &[u8], part: &Part| {
        let (mut decoder, mut out) = (Decoder::new(part.encoding), Vec::new());
        decoder.feed(&octets[part.body()], &mut out);
        decoder.end(&mut out);
        out
    };
    assert_eq!(new_tree.parts.len(), old_tree.parts.len(), "the parts are the same");
    for (old, new_part) in old_tree.parts.iter().zip(&new_tree.parts) {
        assert_eq!((old.kind, old.depth, old.skip), (new_part.kind, new_part.depth, new_part.skip));
        if matches!(old.kind, Kind::Text | Kind::Other | Kind::Status) {
            let (was, is) = (decoded(message, old), decoded(&new, new_part));
            assert!(was == is, "each part has the octets that it had");
        }
    }
    // What is fit needs nothing.
    assert_eq!(Plan::of(&new).map(|plan| to_vec(&new, &plan)), Ok(new.clone()));
}

#[cfg(test)]
#[path = "downgrade_tests.rs"]
mod tests;
