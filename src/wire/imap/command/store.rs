//! STORE, and flags as commands name them.

use super::behind_space;
use crate::model::limits::IMAP_LIST_COUNT_MAX;
use crate::wire::imap::scan::{Scan, What, Which};

/// STORE or UID STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    pub uid: bool,
    pub messages: Which<'a>,
    /// Only messages not changed since (RFC 7162 §3.1.3); 0 is allowed.
    pub unchanged_since: Option<u64>,
    pub change: Change,
    /// `.SILENT`: the new flags are not shown.
    pub silent: bool,
    pub flags: Vec<Flag<'a>>,
}

/// What is done with the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Replace,
    Add,
    Remove,
}

/// A flag that a client may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag<'a> {
    Answered,
    Deleted,
    Draft,
    Flagged,
    Seen,
    /// Without `\`; the case of letters means nothing.
    Keyword(&'a str),
}

impl<'a> Flag<'a> {
    /// As it is written.
    pub fn name(self) -> &'a str {
        match self {
            Flag::Answered => "\\Answered",
            Flag::Deleted => "\\Deleted",
            Flag::Draft => "\\Draft",
            Flag::Flagged => "\\Flagged",
            Flag::Seen => "\\Seen",
            Flag::Keyword(name) => name,
        }
    }
}

pub(super) fn take<'a>(scan: &mut Scan<'a>, uid: bool) -> Result<Store<'a>, What> {
    let messages = behind_space(scan, Scan::which)?;
    scan.space()?;
    let mut unchanged_since = None;
    if scan.peek() == Some(b'(') {
        scan.list_some(|scan| {
            if !scan.take_word("UNCHANGEDSINCE ") {
                return Err("unknown modifier of STORE");
            }
            unchanged_since = Some(scan.number64()?);
            Ok(())
        })?;
        scan.space()?;
    }
    let change = if scan.take(b'+') {
        Change::Add
    } else if scan.take(b'-') {
        Change::Remove
    } else {
        Change::Replace
    };
    let name = scan.atom()?;
    let silent = name.eq_ignore_ascii_case("FLAGS.SILENT");
    if !silent && !name.eq_ignore_ascii_case("FLAGS") {
        return Err("only FLAGS can be stored");
    }
    scan.space()?;
    let flags = if scan.peek() == Some(b'(') {
        take_flags(scan)?
    } else {
        let mut flags = vec![take_flag(scan)?];
        while scan.more() {
            if flags.len() == IMAP_LIST_COUNT_MAX {
                return Err("too many flags");
            }
            flags.push(take_flag(scan)?);
        }
        flags
    };
    Ok(Store { uid, messages, unchanged_since, change, silent, flags })
}

/// Flags in parentheses; may be none.
pub(super) fn take_flags<'a>(scan: &mut Scan<'a>) -> Result<Vec<Flag<'a>>, What> {
    scan.list(take_flag)
}

fn take_flag<'a>(scan: &mut Scan<'a>) -> Result<Flag<'a>, What> {
    if !scan.take(b'\\') {
        return scan.atom().map(Flag::Keyword).map_err(|_| "a flag was expected");
    }
    let name = scan.atom().map_err(|_| "a flag was expected")?;
    let known = [Flag::Answered, Flag::Deleted, Flag::Draft, Flag::Flagged, Flag::Seen];
    let same = |flag: &Flag<'_>| {
        flag.name().strip_prefix('\\').is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    if name.eq_ignore_ascii_case("RECENT") {
        return Err("\\Recent can not be set");
    }
    known.into_iter().find(same).ok_or("unknown system flag")
}
