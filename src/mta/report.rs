//! Reports on what became of a message (RFC 3461, RFC 3464), as mail to its sender.
//!
//! ```text
//!   multipart/report                    RFC 6522
//!     text/plain                        for people                            report/text.rs
//!     message/delivery-status           for programs, global-… for UTF-8      report/status.rs
//!     message/rfc822                    the message, where it did not arrive and is small; or
//!     text/rfc822-headers               its header; both global… for UTF-8 (RFC 6533 §4)
//! ```
//!
//! Promises:
//!   - its own sender is the null one, and nobody reports on a report (RFC 3461 §6.1): [`addressees`]
//!   - it is made of ASCII alone but for two cases, which [`Composed`] tells: an address of UTF-8 to
//!     send it to, and a message of 8 bits that it brings back
//!   - no line is longer than SMTP takes, and nothing that others chose ends a line or a part

mod part;
mod status;
mod text;

use self::part::{Kind, boundary, kind_of, put_part};
use crate::model::address::Address;
use crate::model::limits::{
    REPORT_HEADER_OCTETS_MAX, REPORT_MESSAGE_OCTETS_MAX, REPORT_REPLY_OCTETS_MAX,
};
use crate::model::reply::Enhanced;
use crate::wire::date::put_date;
use crate::wire::message::fields::{fields, header_len};
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::param::{Notify, Ret};
use crate::wire::trace::put_return_path;

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will never arrive.
    Failed,
    /// It might have arrived, but the time to try is over.
    Expired,
    /// It is tried until then, in seconds since 1970.
    Delayed { until: u32 },
    /// It was passed to several others who share the address (RFC 3461 §5.2.7.3).
    Expanded,
    /// Another server has it, which sends no reports on delivery (RFC 3461 §5.2.2).
    Relayed,
    /// Another server has it; who gave it a time is told of that (RFC 2852 §4.1.4).
    Passed,
    /// It is in the mailbox.
    Delivered,
}

impl Fate {
    /// Its sender is to hear of it, by what he said of the recipient (RFC 3461 §5.2.2 to §5.2.6):
    /// who says nothing hears of failures and delays.
    pub fn is_wanted(self, notify: Option<Notify>) -> bool {
        let said = |wants: fn(Notify) -> bool| notify.map(wants);
        match self {
            Fate::Failed | Fate::Expired => said(|notify| notify.failure).unwrap_or(true),
            Fate::Delayed { .. } => said(|notify| notify.delay).unwrap_or(true),
            Fate::Expanded | Fate::Relayed | Fate::Delivered => {
                said(|notify| notify.success).unwrap_or(false)
            }
            Fate::Passed => said(|notify| notify != Notify::default()).unwrap_or(true),
        }
    }

    fn is_failure(self) -> bool {
        matches!(self, Fate::Failed | Fate::Expired)
    }

    /// The action field (RFC 3464 §2.3.3).
    fn action(self) -> &'static str {
        match self {
            Fate::Failed | Fate::Expired => "failed",
            Fate::Delayed { .. } => "delayed",
            Fate::Expanded => "expanded",
            Fate::Relayed | Fate::Passed => "relayed",
            Fate::Delivered => "delivered",
        }
    }
}

/// Those of `outcomes` that are in a report to `sender`; nobody: there is none. `of` tells what the
/// sender said of a recipient, and its fate.
///
/// The null sender hears of nothing, and neither does who sent a report, since its sender is the null
/// one (RFC 5321 §6.1).
pub fn addressees<'r, T>(
    sender: Option<&Address>,
    outcomes: &'r [T],
    of: impl Fn(&T) -> (Option<Notify>, Fate),
) -> Vec<&'r T> {
    let is_wanted = |one: &&T| {
        let (notify, fate) = of(one);
        sender.is_some() && fate.is_wanted(notify)
    };
    outcomes.iter().filter(is_wanted).collect()
}

/// A reply to a command, by a server of others or as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// The first digit is the class of the status, too.
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    /// Of any octets and any length: it is cleaned and cut here.
    pub text: &'a str,
}

impl Said<'_> {
    /// On one line, without controls.
    fn to_line(self) -> String {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        let text: String = self.text.chars().map(plain).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = text.floor_char_boundary(REPORT_REPLY_OCTETS_MAX);
        let text = text.get(..end).unwrap_or_default();
        match self.enhanced {
            Some(Enhanced(subject, detail)) => {
                format!("{} {}.{subject}.{detail} {text}", self.code, self.code / 100)
            }
            None => format!("{} {text}", self.code),
        }
    }
}

/// A recipient that the report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported<'a> {
    /// As in the envelope.
    pub address: &'a Address,
    /// ORCPT as it came.
    pub orcpt: Option<&'a str>,
    pub fate: Fate,
    /// Why, if there is more to say than the fate does.
    pub said: Option<Said<'a>>,
    /// The name of the server that said so, a domain or an address literal; none: we say it.
    pub remote: Option<&'a str>,
    /// When it was last tried, in seconds since 1970, if it was.
    pub attempted: Option<u32>,
}

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Who hears of it.
    pub sender: &'a Address,
    /// ENVID as it came.
    pub envid: Option<&'a str>,
    /// What the sender wants back of a message that failed.
    pub ret: Option<Ret>,
    /// It was to go by TLS alone, and so is the report, which brings back less (RFC 8689 §5).
    pub require_tls: bool,
    /// Seconds since 1970 when it came.
    pub arrived: u32,
    /// When it had to be there, in seconds since 1970 (RFC 2852 §5).
    pub by: Option<u32>,
    /// When it was to go on (RFC 4865 §5.1.2).
    pub hold: Option<Hold>,
    /// The name under which our logs know the message.
    pub id: &'a str,
    /// Not empty, in the order of the envelope.
    pub recipients: &'a [Reported<'a>],
    /// The header of the message (see [`header_of`]), with or without the empty line behind it.
    pub header: &'a [u8],
    /// What follows the empty line, if it was read: see [`returns_all`].
    pub body: Option<&'a [u8]>,
}

/// The report, as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Its octets, in this order; Return-Path is the first line.
    pub parts: Vec<Vec<u8>>,
    /// It goes by SMTPUTF8 (RFC 6531).
    pub is_utf8: bool,
    /// It goes by 8BITMIME (RFC 6152), or is made into less.
    pub is_8bit: bool,
}

/// Whether a report with these fates brings back the whole of a message of `octets`: where it did not
/// arrive, unless its sender wants less, it is large, or nobody but servers with TLS may see it
/// (RFC 3461 §6.2, RFC 6522 §3, RFC 8689 §5).
pub fn returns_all(
    ret: Option<Ret>,
    require_tls: bool,
    octets: u64,
    fates: impl IntoIterator<Item = Fate>,
) -> bool {
    ret != Some(Ret::Headers)
        && !require_tls
        && octets <= REPORT_MESSAGE_OCTETS_MAX
        && fates.into_iter().any(Fate::is_failure)
}

/// The header of a message as a report brings it back: whole lines, up to a bound.
pub fn header_of(message: &[u8]) -> &[u8] {
    let header = &message[..header_len(message)];
    let front = &header[..header.len().min(REPORT_HEADER_OCTETS_MAX)];
    let end = memchr::memrchr(b'\n', front).map_or(0, |lf| lf + 1);
    &header[..end]
}

impl Report<'_> {
    /// The report. `name` is unique here; `at` is now, in seconds since 1970.
    pub fn compose(&self, host: &str, name: &str, at: u32) -> Composed {
        assert!(!self.recipients.is_empty(), "a report is about somebody");
        let is_utf8 = !self.sender.is_ascii();
        let original = self.original();
        let for_people = text::write(self, host);
        let for_programs = status::write(self, host);
        let boundary =
            boundary(name, &[&for_people, &for_programs, original.header, original.body]);

        let mut front = Vec::with_capacity(3_072 + for_people.len() + original.header.len());
        put_return_path(None, &mut front);
        let mut put = |line: &str| front.extend_from_slice(line.as_bytes());
        put(&format!("From: Mail Delivery System <postmaster@{host}>\r\n"));
        put(&format!("To: <{}>\r\n", self.sender));
        put(&format!("Subject: {}\r\n", text::subject(self)));
        put(&format!("Date: {}\r\n", date(at)));
        put(&format!("Message-ID: <{name}@{host}>\r\n"));
        // RFC 3834 §3.1.5: so that it is shown with the message that it is about.
        if let Some(id) = message_id(self.header) {
            put(&format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"));
        }
        // RFC 3834 §5: nobody is to answer it by a program.
        put("Auto-Submitted: auto-replied\r\n");
        put("MIME-Version: 1.0\r\n");
        put("Content-Type: multipart/report; report-type=delivery-status;\r\n");
        put(&format!("\tboundary=\"{boundary}\"\r\n"));

        // Where UTF-8 has to pass anyway, it is not hidden.
        let take_8bit = is_utf8;
        let charset = if for_people.is_ascii() { "us-ascii" } else { "utf-8" };
        let kind = format!("text/plain; charset={charset}");
        put_part(&boundary, &kind, &for_people, take_8bit, &mut front);
        let is_global = !for_programs.is_ascii();
        let kind =
            if is_global { "message/global-delivery-status" } else { "message/delivery-status" };
        put_part(&boundary, kind, &for_programs, take_8bit, &mut front);
        let end = format!("\r\n--{boundary}--\r\n").into_bytes();

        let is_global = original.is_utf8;
        if !original.is_whole {
            let kind = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
            put_part(&boundary, kind, original.header, take_8bit, &mut front);
            return Composed { parts: vec![front, end], is_utf8, is_8bit: is_utf8 };
        }
        let whole = [original.header, b"\r\n", original.body].concat();
        let is_8bit = !whole.is_ascii();
        if is_global && !take_8bit {
            // A message of this kind may be hidden; message/rfc822 may not (RFC 2046 §5.2.1).
            put_part(&boundary, "message/global", &whole, false, &mut front);
            return Composed { parts: vec![front, end], is_utf8, is_8bit: false };
        }
        let kind = if is_global { "message/global" } else { "message/rfc822" };
        let encoding = if is_8bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
        let head = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{encoding}\r\n");
        front.extend_from_slice(head.as_bytes());
        Composed { parts: vec![front, whole, end], is_utf8, is_8bit: is_utf8 || is_8bit }
    }

    /// What comes back.
    fn original(&self) -> Original<'_> {
        let header = self.header.strip_suffix(b"\r\n\r\n").map_or(self.header, |rest| {
            // The line end of the last field stays.
            &self.header[..rest.len() + b"\r\n".len()]
        });
        let header = if header == b"\r\n" { b"" } else { header };
        let is_utf8 = !header.is_ascii() && std::str::from_utf8(header).is_ok();
        let body = self.body.unwrap_or_default();
        let octets = u64::try_from(header.len() + body.len()).unwrap_or(u64::MAX);
        let fates = self.recipients.iter().map(|one| one.fate);
        // What is no text of lines passes no server as it is.
        let is_whole = self.body.is_some()
            && returns_all(self.ret, self.require_tls, octets, fates)
            && kind_of(header) != Kind::Binary
            && kind_of(body) != Kind::Binary
            && (header.is_ascii() || is_utf8);
        Original { header, body: if is_whole { body } else { b"" }, is_whole, is_utf8 }
    }
}

/// The message that a report is about, as far as it comes back.
struct Original<'a> {
    /// Without the empty line.
    header: &'a [u8],
    body: &'a [u8],
    is_whole: bool,
    /// The header is of UTF-8 (RFC 6532).
    is_utf8: bool,
}

/// The Message-ID of a header with its angle brackets, if it is fit to be repeated.
fn message_id(header: &[u8]) -> Option<&str> {
    let is_id = |name: &[u8]| name.eq_ignore_ascii_case(b"Message-ID");
    let field = fields(header).find(|field| is_id(&header[field.name.clone()]))?;
    let id = std::str::from_utf8(&header[field.value]).ok()?.trim();
    let is_fit = id.len() <= 900
        && id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).is_some_and(|inner| {
            inner.contains('@')
                && inner.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>".contains(&octet))
        });
    is_fit.then_some(id)
}

fn date(at: u32) -> String {
    let mut out = Vec::new();
    put_date(at, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
