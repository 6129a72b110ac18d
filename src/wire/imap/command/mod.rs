//! Commands of IMAP, borrowed from their octets.
//!
//! ```text
//! command := tag SP name [SP argument]...        (RFC 9051 §9, and the RFCs of each extension)
//! ```
//! All of IMAP4rev1 and IMAP4rev2 and the extensions in `docs/RFC.md`. Names are read in any case;
//! spaces at the end of a command and of a list are passed over, since clients send them. All else
//! is as the grammar has it, or the command is refused with words for its BAD.
//!
//! What a command may do in which state, and which extensions are offered, is not known here.
//! The commands that bring a message are read in [`append`]: they never come in one piece.

pub mod append;
#[cfg(test)]
mod corpus_tests;
pub mod fetch;
pub mod list;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod rfc_tests;
pub mod search;
pub mod select;
pub mod store;
#[cfg(test)]
mod tests;

use super::scan::{Scan, Secret, Text, What, Which, is_astring_char};
use crate::model::limits::{
    IMAP_ID_NAME_OCTETS_MAX, IMAP_ID_PAIRS_MAX, IMAP_ID_VALUE_OCTETS_MAX, IMAP_TAG_OCTETS_MAX,
};
use fetch::Fetch;
use list::{List, StatusItem};
use search::{Search, Sort, Thread};
use select::{Select, SpecialUse};
use store::Store;

/// A command and the tag that its answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    pub tag: &'a str,
    pub command: Command<'a>,
}

/// Why a command can not be read: the answer is `tag BAD what`, or `* BAD what` without a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad<'a> {
    pub tag: Option<&'a str>,
    pub what: What,
}

/// A field of ID and its value.
pub type IdPair<'a> = (Text<'a>, Option<Text<'a>>);

/// What is wanted. `uid` says that UIDs are meant, and not message numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    // Any state.
    Capability,
    Noop,
    Logout,
    /// The client's own fields; none for NIL (RFC 2971 §3.1).
    Id(Vec<IdPair<'a>>),
    // Not authenticated.
    StartTls,
    /// `initial` is base64, or `=` for an empty one (RFC 4959 §3).
    Authenticate {
        mechanism: &'a str,
        initial: Option<Secret<'a>>,
    },
    /// May hold UTF-8 even before it is enabled, since users have such passwords.
    Login {
        user: Text<'a>,
        password: Secret<'a>,
    },
    // Authenticated.
    /// Names, known or not (RFC 5161 §3.1).
    Enable(Vec<&'a str>),
    Select(Select<'a>),
    Examine(Select<'a>),
    Create {
        mailbox: Text<'a>,
        uses: Vec<SpecialUse>,
    },
    Delete(Text<'a>),
    Rename {
        from: Text<'a>,
        to: Text<'a>,
    },
    Subscribe(Text<'a>),
    Unsubscribe(Text<'a>),
    List(List<'a>),
    Lsub {
        reference: Text<'a>,
        pattern: Text<'a>,
    },
    Namespace,
    Status {
        mailbox: Text<'a>,
        items: Vec<StatusItem>,
    },
    Idle,
    /// RFC 9208 §4.1.2.
    GetQuota(Text<'a>),
    GetQuotaRoot(Text<'a>),
    /// Names of resources with their limits (RFC 9208 §4.1.1).
    SetQuota {
        root: Text<'a>,
        limits: Vec<(&'a str, u64)>,
    },
    /// RFC 4978 §3; the mechanism may be an unknown one.
    Compress {
        deflate: bool,
    },
    /// RFC 8437 §3.
    Unauthenticate,
    // Selected.
    Check,
    Close,
    Unselect,
    Expunge,
    /// RFC 4315 §2.1.
    UidExpunge(Which<'a>),
    Search(Search<'a>),
    Sort(Sort<'a>),
    Thread(Thread<'a>),
    Fetch(Fetch<'a>),
    Store(Store<'a>),
    Copy {
        uid: bool,
        messages: Which<'a>,
        mailbox: Text<'a>,
    },
    /// RFC 6851 §3.
    Move {
        uid: bool,
        messages: Which<'a>,
        mailbox: Text<'a>,
    },
    /// Batches of `size` messages, and which of them, counted from the newest; as the client wrote
    /// them, in the wrong order too (RFC 10022).
    UidBatches {
        size: u32,
        batches: Option<(u32, u32)>,
    },
}

/// Splits the tag off the front. `None`: there is none that an answer could carry.
pub fn split_tag(text: &[u8]) -> Option<(&str, &[u8])> {
    let is_tag = |octet: u8| is_astring_char(octet) && octet != b'+';
    let len = text.iter().position(|&octet| !is_tag(octet)).unwrap_or(text.len());
    let (tag, rest) = text.split_at(len);
    let tag = std::str::from_utf8(tag).ok()?;
    let ends = matches!(rest.first(), None | Some(b' ' | b'\r' | b'\n'));
    (ends && !tag.is_empty() && len <= IMAP_TAG_OCTETS_MAX).then_some((tag, rest))
}

/// Reads a whole command without its CRLF, literals in place. With `utf8` quoted strings may hold
/// UTF-8: after ENABLE of IMAP4rev2 or UTF8=ACCEPT.
pub fn parse(text: &[u8], utf8: bool) -> Result<Tagged<'_>, Bad<'_>> {
    let (tag, rest) = split_tag(text).ok_or(Bad { tag: None, what: "no tag" })?;
    let bad = |what| Bad { tag: Some(tag), what };
    let mut scan = Scan::new(rest, utf8);
    let command = take_command(&mut scan).map_err(bad)?;
    scan.end().map_err(bad)?;
    Ok(Tagged { tag, command })
}

/// A name in capitals.
struct Name {
    octets: [u8; 16],
    len: usize,
}

fn take_name(scan: &mut Scan<'_>) -> Result<Name, What> {
    scan.space().map_err(|_| "no command")?;
    let word = scan.atom().map_err(|_| "no command")?.as_bytes();
    let mut name = Name { octets: [0; 16], len: word.len() };
    name.octets.get_mut(..word.len()).ok_or(UNKNOWN)?.copy_from_slice(word);
    name.octets.make_ascii_uppercase();
    Ok(name)
}

const UNKNOWN: What = "unknown command";

fn take_command<'a>(scan: &mut Scan<'a>) -> Result<Command<'a>, What> {
    let name = take_name(scan)?;
    Ok(match &name.octets[..name.len] {
        b"CAPABILITY" => Command::Capability,
        b"NOOP" => Command::Noop,
        b"LOGOUT" => Command::Logout,
        b"STARTTLS" => Command::StartTls,
        b"NAMESPACE" => Command::Namespace,
        b"IDLE" => Command::Idle,
        b"UNAUTHENTICATE" => Command::Unauthenticate,
        b"CHECK" => Command::Check,
        b"CLOSE" => Command::Close,
        b"UNSELECT" => Command::Unselect,
        b"EXPUNGE" => Command::Expunge,
        b"UID" => {
            let name = take_name(scan)?;
            return match &name.octets[..name.len] {
                b"EXPUNGE" => behind_space(scan, Scan::which).map(Command::UidExpunge),
                name => take_message_command(scan, name, true),
            };
        }
        b"ID" => Command::Id(behind_space(scan, take_id)?),
        b"AUTHENTICATE" => take_authenticate(scan)?,
        b"LOGIN" => take_login(scan)?,
        b"ENABLE" => Command::Enable(take_enable(scan)?),
        b"SELECT" => Command::Select(select::take(scan)?),
        b"EXAMINE" => Command::Examine(select::take(scan)?),
        b"CREATE" => {
            let mailbox = behind_space(scan, Scan::astring)?;
            Command::Create { mailbox, uses: select::take_uses(scan)? }
        }
        b"DELETE" => Command::Delete(behind_space(scan, Scan::astring)?),
        b"RENAME" => {
            let from = behind_space(scan, Scan::astring)?;
            Command::Rename { from, to: behind_space(scan, Scan::astring)? }
        }
        b"SUBSCRIBE" => Command::Subscribe(behind_space(scan, Scan::astring)?),
        b"UNSUBSCRIBE" => Command::Unsubscribe(behind_space(scan, Scan::astring)?),
        b"LIST" => Command::List(list::take(scan)?),
        b"LSUB" => {
            let reference = behind_space(scan, Scan::astring)?;
            Command::Lsub { reference, pattern: behind_space(scan, Scan::list_mailbox)? }
        }
        b"STATUS" => {
            let mailbox = behind_space(scan, Scan::astring)?;
            Command::Status { mailbox, items: behind_space(scan, list::take_status_items)? }
        }
        b"GETQUOTA" => Command::GetQuota(behind_space(scan, Scan::astring)?),
        b"GETQUOTAROOT" => Command::GetQuotaRoot(behind_space(scan, Scan::astring)?),
        b"SETQUOTA" => {
            let root = behind_space(scan, Scan::astring)?;
            Command::SetQuota { root, limits: behind_space(scan, take_quota_limits)? }
        }
        b"COMPRESS" => {
            let mechanism = behind_space(scan, Scan::atom)?;
            Command::Compress { deflate: mechanism.eq_ignore_ascii_case("DEFLATE") }
        }
        b"UIDBATCHES" => take_uid_batches(scan)?,
        b"APPEND" | b"REPLACE" => return Err("missing argument: the message as a literal"),
        name => return take_message_command(scan, name, false),
    })
}

/// The commands that stand behind UID too.
fn take_message_command<'a>(
    scan: &mut Scan<'a>,
    name: &[u8],
    uid: bool,
) -> Result<Command<'a>, What> {
    Ok(match name {
        b"FETCH" => Command::Fetch(fetch::take(scan, uid)?),
        b"STORE" => Command::Store(store::take(scan, uid)?),
        b"SEARCH" => Command::Search(search::take_search(scan, uid)?),
        b"SORT" => Command::Sort(search::take_sort(scan, uid)?),
        b"THREAD" => Command::Thread(search::take_thread(scan, uid)?),
        b"COPY" | b"MOVE" => {
            let messages = behind_space(scan, Scan::which)?;
            let mailbox = behind_space(scan, Scan::astring)?;
            match name {
                b"COPY" => Command::Copy { uid, messages, mailbox },
                _ => Command::Move { uid, messages, mailbox },
            }
        }
        b"REPLACE" => return Err("missing argument: the message as a literal"),
        _ => return Err(UNKNOWN),
    })
}

/// An argument and the space in front of it.
fn behind_space<'a, T>(
    scan: &mut Scan<'a>,
    take: impl FnOnce(&mut Scan<'a>) -> Result<T, What>,
) -> Result<T, What> {
    scan.space()?;
    take(scan)
}

fn take_id<'a>(scan: &mut Scan<'a>) -> Result<Vec<IdPair<'a>>, What> {
    if scan.take_word("NIL") {
        return Ok(Vec::new());
    }
    let mut count = 0;
    scan.list(|scan| {
        count += 1;
        if count > IMAP_ID_PAIRS_MAX {
            return Err("more than 30 fields");
        }
        let name = scan.string()?;
        scan.space()?;
        let value = scan.nstring()?;
        if name.octets().len() > IMAP_ID_NAME_OCTETS_MAX {
            return Err("a field name has more than 30 octets");
        }
        if value.is_some_and(|value| value.octets().len() > IMAP_ID_VALUE_OCTETS_MAX) {
            return Err("a value has more than 1024 octets");
        }
        Ok((name, value))
    })
}

fn take_authenticate<'a>(scan: &mut Scan<'a>) -> Result<Command<'a>, What> {
    let mechanism = behind_space(scan, Scan::atom)?;
    let mut initial = None;
    if scan.more() {
        let base64 =
            |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
        let response = scan.run(base64, "the initial response is not base64")?;
        initial = Some(Secret(Text::plain(response.as_bytes())));
    }
    Ok(Command::Authenticate { mechanism, initial })
}

fn take_login<'a>(scan: &mut Scan<'a>) -> Result<Command<'a>, What> {
    let mut words = scan.with_utf8();
    let user = behind_space(&mut words, Scan::astring)?;
    let password = Secret(behind_space(&mut words, Scan::astring)?);
    *scan = words;
    Ok(Command::Login { user, password })
}

fn take_enable<'a>(scan: &mut Scan<'a>) -> Result<Vec<&'a str>, What> {
    let mut names = vec![behind_space(scan, Scan::atom)?];
    while scan.more() {
        names.push(scan.atom()?);
        if names.len() > IMAP_ID_PAIRS_MAX {
            return Err("too many names");
        }
    }
    Ok(names)
}

fn take_quota_limits<'a>(scan: &mut Scan<'a>) -> Result<Vec<(&'a str, u64)>, What> {
    scan.list(|scan| {
        let resource = scan.atom()?;
        scan.space()?;
        Ok((resource, scan.number64()?))
    })
}

fn take_uid_batches<'a>(scan: &mut Scan<'a>) -> Result<Command<'a>, What> {
    let size = behind_space(scan, Scan::nz_number)?;
    let mut batches = None;
    if scan.more() {
        let first = scan.nz_number()?;
        scan.expect(b':', "a range of batches is like 1:10")?;
        let last = scan.nz_number()?;
        batches = Some((first, last));
    }
    Ok(Command::UidBatches { size, batches })
}

/// Law: no octets make the parser panic, whole or as the front of a message; what it takes has
/// spaces and cases only that mean nothing, so that in capitals it is taken too.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_command(data: &[u8]) {
    for utf8 in [false, true] {
        drop(append::parse(data, utf8));
        drop(append::parse_next(data, utf8));
        let _ = append::parse_end(data, utf8);
        let Ok(read) = parse(data, utf8) else { continue };
        assert!(utf8 || parse(data, true).is_ok(), "UTF-8 allows more, not less");
        let mut again = data.to_vec();
        again.extend_from_slice(b"  ");
        assert_eq!(parse(&again, utf8).as_ref(), Ok(&read));
        // Strings keep their case, and a literal announces octets, so only ASCII text is turned.
        let (_, rest) = split_tag(data).expect("it was read");
        again = [read.tag.as_bytes(), &rest.to_ascii_uppercase()].concat();
        assert!(parse(&again, utf8).is_ok(), "{read:?} is taken in capitals");
    }
}
