//! The commands that bring messages: APPEND, with several messages too (RFC 3502), and REPLACE
//! (RFC 8508).
//!
//! ```text
//! append  := tag SP "APPEND" SP mailbox 1*message
//! replace := tag SP ["UID" SP] "REPLACE" SP number SP mailbox message
//! message := SP [flags SP] [date-time SP] (literal / "UTF8" SP "(" literal8 ")")
//! ```
//! They come in pieces, one in front of each message and one behind the last; the octets of
//! messages go elsewhere ([`super::super::frame::Event::Message`]).

use super::store::{Flag, take_flags};
use super::{Bad, behind_space, split_tag};
use crate::wire::imap::date::{DateTime, take_date_time};
use crate::wire::imap::scan::{Scan, Text, What};
use crate::wire::imap::set::Bound;

/// What stands in front of the first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<'a> {
    pub tag: &'a str,
    pub mailbox: Text<'a>,
    /// The message that the new one takes the place of; one message only then.
    pub replaces: Option<Replaced>,
    pub message: Message<'a>,
}

/// The message that REPLACE removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub uid: bool,
    pub number: Bound,
}

/// What is said about a message in front of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    pub flags: Vec<Flag<'a>>,
    /// INTERNALDATE; the present without it.
    pub date: Option<DateTime>,
    /// Its header may hold UTF-8 (RFC 6855 §4); a parenthesis follows it.
    pub utf8: bool,
}

/// Whether a command whose text so far ends with the announcement of a literal brings a message
/// in it, and not another argument.
pub fn awaits_message(text: &[u8]) -> bool {
    let Some((_, rest)) = split_tag(text) else { return false };
    // Whether UTF-8 may stand in quotes decides nothing here.
    take_front(&mut Scan::new(rest, true)).is_ok()
}

/// Name and arguments up to the mailbox.
fn take_front<'a>(scan: &mut Scan<'a>) -> Result<(Option<Replaced>, Text<'a>), What> {
    let uid = scan.take_word(" UID");
    let replaces = if scan.take_word(" REPLACE ") {
        Some(Replaced { uid, number: scan.bound()? })
    } else if !uid && scan.take_word(" APPEND") {
        None
    } else {
        return Err("unknown command");
    };
    Ok((replaces, behind_space(scan, Scan::astring)?))
}

/// Reads what stands in front of the first message, with the announcement at its end.
pub fn parse(text: &[u8], utf8: bool) -> Result<Append<'_>, Bad<'_>> {
    let (tag, rest) = split_tag(text).ok_or(Bad { tag: None, what: "no tag" })?;
    let bad = |what| Bad { tag: Some(tag), what };
    let mut scan = Scan::new(rest, utf8);
    let (replaces, mailbox) = take_front(&mut scan).map_err(bad)?;
    let message = take_message(&mut scan).map_err(bad)?;
    Ok(Append { tag, mailbox, replaces, message })
}

/// Reads what stands between two messages; `utf8` is that of the message before.
pub fn parse_next(text: &[u8], utf8: bool) -> Result<Message<'_>, What> {
    let mut scan = Scan::new(text, false);
    if utf8 {
        scan.expect(b')', "UTF8 ( is not closed")?;
    }
    take_message(&mut scan)
}

/// Reads what stands behind the last message; `utf8` is that of this message.
pub fn parse_end(text: &[u8], utf8: bool) -> Result<(), What> {
    let mut scan = Scan::new(text, false);
    if utf8 {
        scan.expect(b')', "UTF8 ( is not closed")?;
    }
    scan.end()
}

fn take_message<'a>(scan: &mut Scan<'a>) -> Result<Message<'a>, What> {
    let mut message = Message::default();
    scan.space()?;
    if scan.peek() == Some(b'(') {
        message.flags = take_flags(scan)?;
        scan.space()?;
    }
    if scan.peek() == Some(b'"') {
        message.date = Some(take_date_time(scan)?);
        scan.space()?;
    }
    message.utf8 = scan.take_word("UTF8 (");
    let binary = scan.take(b'~');
    if message.utf8 && !binary {
        return Err("UTF8 takes a binary literal");
    }
    // The framer read the announcement; nothing may stand in front of it.
    if scan.peek() == Some(b'{') { Ok(message) } else { Err("a message as a literal was expected") }
}
