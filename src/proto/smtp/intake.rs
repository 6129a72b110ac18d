//! The octets of one message on their way through a session: measured, looked at, never kept.
//!
//! The first fault ends the draft at once, so that a hopeless message takes no memory; the look
//! goes on to the end, so that the answer names the gravest fault however the input was cut.

use super::Settings;
use crate::bytes::codec::to_u64;
use crate::model::limits::SMTP_DROPPED_OCTETS_MAX;
use crate::wire::message::hops::Hops;
use crate::wire::smtp::reply::Reply;
use crate::wire::text::{TextFault, TextScan};

/// Why a message is refused whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More octets than [`Settings::max_message_size`] (RFC 1870 §6.3).
    TooLarge,
    Text(TextFault),
    /// More Received fields than [`Settings::hops_max`] (RFC 5321 §6.3).
    Looping,
}

impl Fault {
    /// What the peer is told at the end of the message.
    pub const fn reply(self) -> Reply<'static> {
        match self {
            Fault::TooLarge => Reply::new(552, 3, 4, "Message is larger than this server takes"),
            Fault::Text(TextFault::BareLineEnd) => {
                Reply::new(550, 6, 11, "Message has a CR or LF that is not part of a CRLF")
            }
            Fault::Text(TextFault::Nul) => Reply::new(550, 6, 0, "Message has a NUL octet"),
            Fault::Text(TextFault::LongLine) => {
                Reply::new(554, 6, 0, "Message has a line longer than this server takes")
            }
            Fault::Looping => Reply::new(554, 4, 6, "Too many hops: the message goes in circles"),
        }
    }
}

/// What becomes of octets just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// They belong to the draft.
    Keep,
    /// They bring the first fault: the draft is of no use any more.
    Spoilt,
    /// Dropped, like those before.
    Drop,
    /// More was dropped than anybody should send.
    Hopeless,
}

/// What a message may hold.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Lines with CRLF: another end of data than ours must not come through.
    Data,
    /// Nothing but the count ends anything. Lines of any kind are taken; what has others than DATA
    /// may have is kept as if it were binary.
    Chunks,
    /// With BODY=BINARYMIME: every octet.
    Binary,
}

/// See the header of this file.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    text: TextScan,
    kind: Kind,
    hops: Hops,
    octets: u64,
    spoilt: bool,
}

impl Intake {
    /// For DATA: an end of data that others see elsewhere must not come through.
    pub(super) const fn by_data(settings: &Settings) -> Intake {
        let text = TextScan::new(settings.text_line_max);
        Intake { text, kind: Kind::Data, hops: Hops::new(), octets: 0, spoilt: false }
    }

    /// For BDAT (RFC 3030 §2); `binary` with BODY=BINARYMIME (§3).
    pub(super) const fn by_chunks(settings: &Settings, binary: bool) -> Intake {
        let kind = if binary { Kind::Binary } else { Kind::Chunks };
        Intake { kind, ..Intake::by_data(settings) }
    }

    /// Octets so far, without stuffed dots (RFC 1870 §5).
    pub(super) const fn octets(&self) -> u64 {
        self.octets
    }

    /// The caller was told to drop the draft already.
    pub(super) const fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    pub(super) fn take(&mut self, octets: &[u8], settings: &Settings) -> Taken {
        self.octets = self.octets.saturating_add(to_u64(octets.len()));
        if self.octets <= settings.max_message_size {
            self.text.feed(octets);
            self.hops.feed(octets);
        } else if self.octets - settings.max_message_size > SMTP_DROPPED_OCTETS_MAX {
            return Taken::Hopeless;
        }
        if self.spoilt {
            return Taken::Drop;
        }
        self.spoilt = self.fault(settings).is_some();
        if self.spoilt { Taken::Spoilt } else { Taken::Keep }
    }

    /// The gravest fault so far.
    pub(super) fn fault(&self, settings: &Settings) -> Option<Fault> {
        if self.octets > settings.max_message_size {
            return Some(Fault::TooLarge);
        }
        let text = match self.kind {
            Kind::Data => self.text.fault(),
            Kind::Chunks => self.text.has(TextFault::Nul).then_some(TextFault::Nul),
            Kind::Binary => None,
        };
        text.map(Fault::Text)
            .or_else(|| (self.hops.count() > settings.hops_max).then_some(Fault::Looping))
    }

    /// Nothing follows: the last word on the message.
    pub(super) fn end(&mut self, settings: &Settings) -> Option<Fault> {
        self.text.end();
        self.fault(settings)
    }

    /// All its lines are sound, so that DATA can send it on.
    pub(super) fn is_text(&self) -> bool {
        self.text.fault().is_none()
    }
}
