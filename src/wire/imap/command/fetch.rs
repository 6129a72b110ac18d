//! FETCH: items, sections of the message, modifiers.
//!
//! ```text
//! fetch   := set SP (macro / item / "(" item [SP item]... ")") [SP "(" modifier... ")"]
//! section := "[" [part ["." text]] "]" ["<" first "." count ">"]
//! ```

use super::behind_space;
use crate::bytes::codec::to_usize;
use crate::wire::imap::scan::{Scan, Text, What, Which};
use std::ops::Range;

/// FETCH or UID FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    pub uid: bool,
    pub messages: Which<'a>,
    /// Never empty; macros are written out.
    pub items: Vec<Item<'a>>,
    /// RFC 7162 §3.1.4.1; 0 is taken, since phones send it.
    pub changed_since: Option<u64>,
    /// RFC 7162 §3.2.6.
    pub vanished: bool,
    /// RFC 9394 §3.3.
    pub partial: Option<Page>,
}

/// What is wanted of each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Envelope,
    Flags,
    InternalDate,
    Size,
    Uid,
    /// BODY without a section: BODYSTRUCTURE without what came later to MIME.
    Body,
    BodyStructure,
    /// BODY[…] and BODY.PEEK[…].
    Section {
        peek: bool,
        section: Section<'a>,
        partial: Option<Partial>,
    },
    /// RFC822, and RFC822.PEEK that Outlook asks for.
    Rfc822 {
        peek: bool,
    },
    Rfc822Header,
    Rfc822Text,
    /// RFC 3516 §4.2.
    Binary {
        peek: bool,
        part: Part<'a>,
        partial: Option<Partial>,
    },
    BinarySize(Part<'a>),
    /// RFC 7162 §3.1.4.2.
    ModSeq,
    /// RFC 8474 §5.1.
    EmailId,
    /// RFC 8474 §5.2.
    ThreadId,
    /// RFC 8514 §4.2.
    SaveDate,
    /// Lazy: only what is known already (RFC 8970 §3.1).
    Preview {
        lazy: bool,
    },
}

/// A part and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    pub part: Part<'a>,
    pub content: Content<'a>,
}

/// The number of a part, as `1.2.3`; empty for the whole message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<'a>(&'a str);

impl<'a> Part<'a> {
    pub fn is_whole(self) -> bool {
        self.0.is_empty()
    }

    pub fn text(self) -> &'a str {
        self.0
    }

    /// The numbers, from 1, outermost first.
    pub fn numbers(self) -> impl Iterator<Item = u32> + 'a {
        self.0.split_terminator('.').map(|number| number.parse().unwrap_or(u32::MAX))
    }
}

/// What of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// All of it; of the message, header and text.
    All,
    Header,
    /// Some fields of the header, or with `not` all others.
    HeaderFields {
        not: bool,
        names: Vec<Text<'a>>,
    },
    Text,
    /// The MIME header of a part; never of the message.
    Mime,
}

/// `<first.count>`: octets from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    pub first: u64,
    /// From 1.
    pub count: u64,
}

/// Some of the results, counted from 1 (RFC 9394 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Counted from the last result backwards.
    pub from_end: bool,
    /// From 1. As the client gave them: `2:1` is the same as `1:2`, and told as it was asked for.
    pub first: u32,
    pub last: u32,
}

impl Page {
    /// Which of `count` results lie in it, as indices from 0; none if it lies beyond them.
    pub fn cut(self, count: usize) -> Range<usize> {
        let place = |number: u32| to_usize(u64::from(number)).min(count);
        let (before, upto) = (place(self.first.min(self.last) - 1), place(self.reach()));
        if self.from_end { count - upto..count - before } else { before..upto }
    }

    /// How many results it has at most.
    pub fn size(self) -> u32 {
        self.first.abs_diff(self.last).saturating_add(1)
    }

    /// How many results it takes to know it.
    pub fn reach(self) -> u32 {
        self.first.max(self.last)
    }
}

pub(super) fn take<'a>(scan: &mut Scan<'a>, uid: bool) -> Result<Fetch<'a>, What> {
    let messages = behind_space(scan, Scan::which)?;
    scan.space()?;
    let items = if scan.peek() == Some(b'(') {
        scan.list_some(take_item)?
    } else {
        match take_macro(scan) {
            Some(items) => items,
            None => vec![take_item(scan)?],
        }
    };
    let mut fetch =
        Fetch { uid, messages, items, changed_since: None, vanished: false, partial: None };
    if scan.more() {
        scan.list_some(|scan| take_modifier(scan, &mut fetch))?;
    }
    if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
        return Err("VANISHED goes with UID FETCH and CHANGEDSINCE only");
    }
    Ok(fetch)
}

fn take_modifier(scan: &mut Scan<'_>, fetch: &mut Fetch<'_>) -> Result<(), What> {
    let name = scan.atom()?;
    if name.eq_ignore_ascii_case("CHANGEDSINCE") {
        fetch.changed_since = Some(behind_space(scan, Scan::number64)?);
    } else if name.eq_ignore_ascii_case("VANISHED") {
        fetch.vanished = true;
    } else if name.eq_ignore_ascii_case("PARTIAL") {
        fetch.partial = Some(behind_space(scan, take_page)?);
    } else {
        return Err("unknown modifier of FETCH");
    }
    Ok(())
}

/// ALL, FAST and FULL stand alone (RFC 9051 §6.4.5).
fn take_macro<'a>(scan: &mut Scan<'a>) -> Option<Vec<Item<'a>>> {
    let mut ahead = *scan;
    let name = ahead.atom().ok()?;
    let count = match () {
        () if name.eq_ignore_ascii_case("FAST") => 3,
        () if name.eq_ignore_ascii_case("ALL") => 4,
        () if name.eq_ignore_ascii_case("FULL") => 5,
        () => return None,
    };
    *scan = ahead;
    let full = [Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, Item::Body];
    Some(full.into_iter().take(count).collect())
}

fn take_item<'a>(scan: &mut Scan<'a>) -> Result<Item<'a>, What> {
    let name = scan.name().map_err(|_| "an item of FETCH was expected")?;
    let mut upper = [0; 16];
    let upper = upper.get_mut(..name.len()).ok_or(UNKNOWN)?;
    upper.copy_from_slice(name.as_bytes());
    upper.make_ascii_uppercase();
    Ok(match &*upper {
        b"ENVELOPE" => Item::Envelope,
        b"FLAGS" => Item::Flags,
        b"INTERNALDATE" => Item::InternalDate,
        b"RFC822.SIZE" => Item::Size,
        b"UID" => Item::Uid,
        b"BODYSTRUCTURE" => Item::BodyStructure,
        b"BODY" if scan.peek() != Some(b'[') => Item::Body,
        b"BODY" | b"BODY.PEEK" => Item::Section {
            peek: upper.len() > 4,
            section: take_section(scan)?,
            partial: take_partial(scan)?,
        },
        b"RFC822" => Item::Rfc822 { peek: false },
        b"RFC822.PEEK" => Item::Rfc822 { peek: true },
        b"RFC822.HEADER" => Item::Rfc822Header,
        b"RFC822.TEXT" => Item::Rfc822Text,
        b"BINARY" | b"BINARY.PEEK" => Item::Binary {
            peek: upper.len() > 6,
            part: take_whole_part(scan)?,
            partial: take_partial(scan)?,
        },
        b"BINARY.SIZE" => Item::BinarySize(take_whole_part(scan)?),
        b"MODSEQ" => Item::ModSeq,
        b"EMAILID" => Item::EmailId,
        b"THREADID" => Item::ThreadId,
        b"SAVEDATE" => Item::SaveDate,
        b"PREVIEW" => Item::Preview { lazy: take_lazy(scan)? },
        b"ALL" | b"FAST" | b"FULL" => return Err("ALL, FAST and FULL stand alone"),
        _ => return Err(UNKNOWN),
    })
}

const UNKNOWN: What = "unknown item of FETCH";

/// `(LAZY)` behind PREVIEW; what else stands in parentheses there may be modifiers of FETCH.
fn take_lazy(scan: &mut Scan<'_>) -> Result<bool, What> {
    let mut ahead = *scan;
    if !ahead.take_word(" (LAZY") {
        return Ok(false);
    }
    ahead.expect(b')', "only LAZY can stand behind PREVIEW")?;
    *scan = ahead;
    Ok(true)
}

const OPEN: What = "a section stands in brackets";

fn take_section<'a>(scan: &mut Scan<'a>) -> Result<Section<'a>, What> {
    scan.expect(b'[', OPEN)?;
    let part = take_part(scan)?;
    let mut content = Content::All;
    if scan.peek() != Some(b']') {
        if !part.is_whole() {
            scan.expect(b'.', OPEN)?;
        }
        let name = scan.name().map_err(|_| "unknown section")?;
        content = if name.eq_ignore_ascii_case("HEADER") {
            Content::Header
        } else if name.eq_ignore_ascii_case("TEXT") {
            Content::Text
        } else if name.eq_ignore_ascii_case("MIME") && !part.is_whole() {
            Content::Mime
        } else if name.eq_ignore_ascii_case("HEADER.FIELDS") {
            Content::HeaderFields { not: false, names: take_field_names(scan)? }
        } else if name.eq_ignore_ascii_case("HEADER.FIELDS.NOT") {
            Content::HeaderFields { not: true, names: take_field_names(scan)? }
        } else {
            return Err("unknown section");
        };
    }
    scan.expect(b']', OPEN)?;
    Ok(Section { part, content })
}

fn take_field_names<'a>(scan: &mut Scan<'a>) -> Result<Vec<Text<'a>>, What> {
    scan.space()?;
    scan.list_some(|scan| {
        let name = scan.astring()?;
        // A field's name is printable and has no colon; others are in no header. What stands
        // here is echoed, so control characters are not let in.
        let octets = name.octets();
        if octets.is_empty() || !octets.iter().all(u8::is_ascii_graphic) {
            return Err("not the name of a header field");
        }
        Ok(name)
    })
}

/// A part and nothing of it in particular.
fn take_whole_part<'a>(scan: &mut Scan<'a>) -> Result<Part<'a>, What> {
    scan.expect(b'[', OPEN)?;
    let part = take_part(scan)?;
    scan.expect(b']', "only the number of a part can stand here")?;
    Ok(part)
}

/// Numbers parted by dots; a dot behind them is left.
fn take_part<'a>(scan: &mut Scan<'a>) -> Result<Part<'a>, What> {
    let from = scan.rest();
    let mut len = 0;
    if !matches!(scan.peek(), Some(b'0'..=b'9')) {
        return Ok(Part(""));
    }
    loop {
        scan.nz_number()?;
        if let Some(text) = from.get(..from.len() - scan.rest().len()) {
            len = text.len();
        }
        if !matches!(scan.rest(), [b'.', b'0'..=b'9', ..]) {
            break;
        }
        scan.take(b'.');
    }
    std::str::from_utf8(&from[..len]).map(Part).map_err(|_| OPEN)
}

fn take_partial(scan: &mut Scan<'_>) -> Result<Option<Partial>, What> {
    if !scan.take(b'<') {
        return Ok(None);
    }
    let first = scan.number64()?;
    scan.expect(b'.', "a part of a section is like <0.1024>")?;
    let count = scan.number64()?;
    if count == 0 {
        return Err("a number must not be 0");
    }
    scan.expect(b'>', "a part of a section is like <0.1024>")?;
    Ok(Some(Partial { first, count }))
}

/// `1:100`, or `-1:-100` from the end.
pub(super) fn take_page(scan: &mut Scan<'_>) -> Result<Page, What> {
    let from_end = scan.take(b'-');
    let first = scan.nz_number()?;
    scan.expect(b':', "a range of results is like 1:100 or -1:-100")?;
    if scan.take(b'-') != from_end {
        return Err("a range of results is counted from one end");
    }
    let last = scan.nz_number()?;
    Ok(Page { from_end, first, last })
}
