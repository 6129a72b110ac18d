//! What an entry is about, and the octets in which it is kept, in its record and in the pages of a
//! checkpoint. In memory it is packed (`packed.rs`).
//!
//! ```text
//! envelope := name str | sender | envid str | by u32 | terms u8 [| hold u64] [| via] | count u16 | to{count}
//! via      := local str | domain str                the address here that led it there
//! sender   := local str | domain str                both empty for the null sender
//! to       := notify u8 | local str | orcpt str
//! str      := length u16 | octets, UTF-8; empty for none
//! ```
//!
//! Terms: 1 comes back when it is late, 2 traces, 4 held for so many seconds, 8 held until then, 16 an
//! address here led it there.
//! Notify is 0 where it was not said, else 128 and one bit each: success 1, failure 2, delay 4.

use crate::bytes::codec::{Put, Reader, Short};
use crate::model::address::Address;
use crate::model::reply::Enhanced;
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::param::Notify;
use std::fmt;

/// What was found out and decided about an entry, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// RET=FULL (RFC 3461 §4.3).
    pub const RET_FULL: Flags = Flags(1);
    /// RET=HDRS.
    pub const RET_HEADERS: Flags = Flags(2);
    /// REQUIRETLS (RFC 8689 §2).
    pub const REQUIRE_TLS: Flags = Flags(4);
    /// Its sender was told that it takes long.
    pub const WARNED: Flags = Flags(8);
    /// An operator holds it: it is not tried.
    pub const HELD: Flags = Flags(16);
    /// `TLS-Required: No` stands in its header (RFC 8689 §5).
    pub const TLS_OPTIONAL: Flags = Flags(32);
    /// It is held until its sender wants it to go (RFC 4865).
    pub const RELEASED_LATER: Flags = Flags(64);
    /// It came by SMTPUTF8 (RFC 6531).
    pub const UTF8: Flags = Flags(128);
    /// Its recipients are here: no other server is asked (RFC 4865).
    pub const HERE: Flags = Flags(256);
    /// This server has put its own signatures into it (RFC 6376).
    pub const SIGNED: Flags = Flags(512);

    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    #[must_use]
    pub const fn with(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }

    #[must_use]
    pub const fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }

    /// With a flag, or without it.
    #[must_use]
    pub const fn set(self, flags: Flags, on: bool) -> Flags {
        if on { self.with(flags) } else { self.without(flags) }
    }
}

/// When a message has to be there (RFC 2852 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Seconds since 1970.
    pub at: u32,
    /// What is late comes back; else its sender is told, and it goes on.
    pub returns: bool,
    /// Its sender hears of every hop.
    pub traces: bool,
}

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    pub address: Address,
    /// RFC 3461 §4.1.
    pub notify: Option<Notify>,
    /// `type;xtext` (RFC 3461 §4.2).
    pub orcpt: Option<Box<str>>,
}

/// Who sends what to whom, of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The message's name, as it stands in Received and in the logs.
    pub name: Box<str>,
    /// None is the null sender.
    pub sender: Option<Address>,
    /// In xtext (RFC 3461 §4.4).
    pub envid: Option<Box<str>>,
    pub by: Option<Deadline>,
    /// When its sender wanted it to go, as he said it (RFC 4865 §3).
    pub hold: Option<Hold>,
    /// The address of ours that leads to these, if one does.
    pub via: Option<Address>,
    /// At least one; all of one domain.
    pub recipients: Vec<To>,
}

const BY_RETURNS: u8 = 1;
const BY_TRACES: u8 = 2;
const HOLD_FOR: u8 = 4;
const HOLD_UNTIL: u8 = 8;
const VIA: u8 = 16;
const NOTIFY_SAID: u8 = 128;

/// Writes a text of at most 64 KiB, which the bounds of a command line keep.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16(u16::try_from(text.len()).expect("bounded by a command line"));
    out.extend_from_slice(text.as_bytes());
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Short> {
    let len = reader.u16()?;
    std::str::from_utf8(reader.take(len.into())?).map_err(|_| Short)
}

fn optional(reader: &mut Reader<'_>) -> Result<Option<Box<str>>, Short> {
    let text = text(reader)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

impl Envelope {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 32 * self.recipients.len());
        put_text(&mut out, &self.name);
        let sender = self.sender.as_ref();
        put_text(&mut out, sender.map_or("", Address::local));
        put_text(&mut out, sender.map_or("", Address::domain));
        put_text(&mut out, self.envid.as_deref().unwrap_or(""));
        out.put_u32(self.by.map_or(0, |by| by.at.max(1)));
        let flag = |on: bool, bit| if on { bit } else { 0 };
        let by = self.by.map_or(0, |by| flag(by.returns, BY_RETURNS) | flag(by.traces, BY_TRACES));
        let (held, hold) = match self.hold {
            None => (0, None),
            Some(Hold::For(seconds)) => (HOLD_FOR, Some(seconds.into())),
            Some(Hold::Until(at)) => (HOLD_UNTIL, Some(at)),
        };
        out.put_u8(by | held | flag(self.via.is_some(), VIA));
        if let Some(hold) = hold {
            out.put_u64(hold);
        }
        if let Some(via) = &self.via {
            put_text(&mut out, via.local());
            put_text(&mut out, via.domain());
        }
        out.put_u16(u16::try_from(self.recipients.len()).expect("bounded by a transaction"));
        for to in &self.recipients {
            out.put_u8(to.notify.map_or(0, |notify| {
                NOTIFY_SAID
                    | flag(notify.success, 1)
                    | flag(notify.failure, 2)
                    | flag(notify.delay, 4)
            }));
            put_text(&mut out, to.address.local());
            put_text(&mut out, to.orcpt.as_deref().unwrap_or(""));
        }
        out
    }

    /// Reads an envelope whose recipients are of `domain`.
    pub(super) fn decode(octets: &[u8], domain: &str) -> Result<Envelope, Short> {
        if domain.is_empty() || !domain.is_ascii() {
            return Err(Short);
        }
        let mut reader = Reader::new(octets);
        let name = text(&mut reader)?.into();
        let sender = address(&mut reader)?;
        let envid = optional(&mut reader)?;
        let (at, how) = (reader.u32()?, reader.u8()?);
        let hold = match how & (HOLD_FOR | HOLD_UNTIL) {
            0 => None,
            HOLD_FOR => Some(Hold::For(u32::try_from(reader.u64()?).map_err(|_| Short)?)),
            HOLD_UNTIL => Some(Hold::Until(reader.u64()?)),
            _ => return Err(Short),
        };
        let via = if how & VIA == 0 { None } else { Some(address(&mut reader)?.ok_or(Short)?) };
        let by = (at > 0).then_some(Deadline {
            at,
            returns: how & BY_RETURNS != 0,
            traces: how & BY_TRACES != 0,
        });
        let count = reader.u16()?;
        let recipients =
            (0..count).map(|_| to(&mut reader, domain)).collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() || !reader.rest().is_empty() {
            return Err(Short);
        }
        Ok(Envelope { name, sender, envid, by, hold, via, recipients })
    }
}

/// Both parts, or none of them.
fn address(reader: &mut Reader<'_>) -> Result<Option<Address>, Short> {
    let (local, domain) = (text(reader)?, text(reader)?);
    match (local.is_empty(), domain.is_empty()) {
        (true, true) => Ok(None),
        (false, false) if domain.is_ascii() => Ok(Some(Address::from_parts(local, domain))),
        _ => Err(Short),
    }
}

fn to(reader: &mut Reader<'_>, domain: &str) -> Result<To, Short> {
    let bits = reader.u8()?;
    let notify = (bits & NOTIFY_SAID != 0).then_some(Notify {
        success: bits & 1 != 0,
        failure: bits & 2 != 0,
        delay: bits & 4 != 0,
    });
    let local = text(reader)?;
    if local.is_empty() {
        return Err(Short);
    }
    let address = Address::from_parts(local, domain);
    Ok(To { address, notify, orcpt: optional(reader)? })
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is still to be tried.
    #[default]
    Waiting,
    /// The next server took it, and reports on it if that was asked for.
    Delivered,
    /// The next server took it, and knows nothing of reports (RFC 3461 §5.2.2).
    Relayed,
    /// It never will be.
    Failed,
    /// It took too long.
    Expired,
    /// An operator removed it, and nobody is told.
    Removed,
}

impl Fate {
    pub const ALL: [Fate; 6] =
        [Fate::Waiting, Fate::Delivered, Fate::Relayed, Fate::Failed, Fate::Expired, Fate::Removed];

    pub(super) fn code(self) -> u8 {
        match self {
            Fate::Waiting => 0,
            Fate::Delivered => 1,
            Fate::Relayed => 2,
            Fate::Failed => 3,
            Fate::Expired => 4,
            Fate::Removed => 5,
        }
    }

    pub(super) fn read(code: u8) -> Result<Fate, Short> {
        Fate::ALL.get(usize::from(code)).copied().ok_or(Short)
    }

    /// As logs and lists have it.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Waiting => "waiting",
            Fate::Delivered => "delivered",
            Fate::Relayed => "relayed",
            Fate::Failed => "failed",
            Fate::Expired => "expired",
            Fate::Removed => "removed",
        }
    }
}

/// What was said last about a recipient: by a server, or by us where none spoke.
///
/// ```text
/// said := code u16 | subject u16 | detail u16 | host str | text str       subject u16::MAX: no status
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// Who said it; none: we.
    pub host: Option<Box<str>>,
    /// A reply code of SMTP, 400 to 599 where it is no success.
    pub code: u16,
    pub enhanced: Option<(u16, u16)>,
    /// One line without controls, bounded by who makes it.
    pub text: Box<str>,
}

impl Said {
    /// What we say ourselves.
    pub fn ours(code: u16, Enhanced(subject, detail): Enhanced, text: &str) -> Said {
        Said { host: None, code, enhanced: Some((subject, detail)), text: text.into() }
    }

    pub fn enhanced(&self) -> Option<Enhanced> {
        self.enhanced.map(|(subject, detail)| Enhanced(subject, detail))
    }

    /// Try again later.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.code);
        let (subject, detail) = self.enhanced.unwrap_or((u16::MAX, 0));
        out.put_u16(subject);
        out.put_u16(detail);
        put_text(out, self.host.as_deref().unwrap_or(""));
        put_text(out, &self.text);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Said, Short> {
        let code = reader.u16()?;
        let (subject, detail) = (reader.u16()?, reader.u16()?);
        let enhanced = (subject != u16::MAX).then_some((subject, detail));
        Ok(Said { code, enhanced, host: optional(reader)?, text: text(reader)?.into() })
    }
}

/// As a server would say it: `450 4.2.0 text`.
impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.code)?;
        if let Some((subject, detail)) = self.enhanced {
            write!(out, " {}.{subject}.{detail}", self.code / 100)?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(out, " {}", self.text) }
    }
}
