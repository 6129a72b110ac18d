//! Parameters of SELECT, EXAMINE and CREATE.

use super::behind_space;
use crate::wire::imap::scan::{Scan, Text, What};
use crate::wire::imap::set::Set;

/// SELECT or EXAMINE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select<'a> {
    pub mailbox: Text<'a>,
    /// RFC 7162 §3.1.8.
    pub condstore: bool,
    pub qresync: Option<Qresync<'a>>,
}

/// What a client that comes back knows (RFC 7162 §3.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qresync<'a> {
    pub uid_validity: u32,
    pub mod_seq: u64,
    /// The UIDs that it has; without them, all below UIDNEXT.
    pub known: Option<Set<'a>>,
    /// Some message numbers and the UIDs that they had (RFC 7162 §3.2.5.2).
    pub matched: Option<(Set<'a>, Set<'a>)>,
}

/// What a mailbox is for (RFC 6154 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
    /// Some other word: the answer is `NO [USEATTR]`.
    Unknown,
}

impl SpecialUse {
    /// The attribute, as LIST shows it. None for [`SpecialUse::Unknown`].
    pub const fn attribute(self) -> Option<&'static str> {
        Some(match self {
            SpecialUse::All => "\\All",
            SpecialUse::Archive => "\\Archive",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Flagged => "\\Flagged",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Trash => "\\Trash",
            SpecialUse::Unknown => return None,
        })
    }

    const KNOWN: [SpecialUse; 7] = [
        SpecialUse::All,
        SpecialUse::Archive,
        SpecialUse::Drafts,
        SpecialUse::Flagged,
        SpecialUse::Junk,
        SpecialUse::Sent,
        SpecialUse::Trash,
    ];
}

pub(super) fn take<'a>(scan: &mut Scan<'a>) -> Result<Select<'a>, What> {
    let mailbox = behind_space(scan, Scan::astring)?;
    let mut select = Select { mailbox, condstore: false, qresync: None };
    if scan.more() {
        scan.list_some(|scan| {
            let name = scan.atom()?;
            if name.eq_ignore_ascii_case("CONDSTORE") {
                select.condstore = true;
            } else if name.eq_ignore_ascii_case("QRESYNC") && select.qresync.is_none() {
                select.qresync = Some(behind_space(scan, take_qresync)?);
            } else {
                return Err("unknown parameter of SELECT");
            }
            Ok(())
        })?;
    }
    Ok(select)
}

fn take_qresync<'a>(scan: &mut Scan<'a>) -> Result<Qresync<'a>, What> {
    scan.expect(b'(', "QRESYNC takes a list")?;
    let uid_validity = scan.nz_number()?;
    scan.space()?;
    let mod_seq = scan.number64()?;
    if mod_seq == 0 {
        return Err("a mod-sequence must not be 0");
    }
    let mut qresync = Qresync { uid_validity, mod_seq, known: None, matched: None };
    if matches!(scan.rest(), [b' ', b'0'..=b'9' | b'*', ..]) {
        qresync.known = Some(behind_space(scan, take_known)?);
    }
    if scan.peek() == Some(b' ') {
        scan.space()?;
        scan.expect(b'(', "a list of numbers and UIDs was expected")?;
        let numbers = take_known(scan)?;
        qresync.matched = Some((numbers, behind_space(scan, take_known)?));
        scan.expect(b')', "a list is not closed")?;
    }
    scan.expect(b')', "a list is not closed")?;
    Ok(qresync)
}

/// What a client knows it knows by number (RFC 7162 §7, known-uids).
fn take_known<'a>(scan: &mut Scan<'a>) -> Result<Set<'a>, What> {
    let set = scan.set()?;
    if set.has_star() { Err("* can not stand in a set of known messages") } else { Ok(set) }
}

/// `(USE (\Sent ...))` of CREATE (RFC 6154 §3), and the space in front of it.
pub(super) fn take_uses(scan: &mut Scan<'_>) -> Result<Vec<SpecialUse>, What> {
    let mut uses = Vec::new();
    if scan.more() {
        scan.list_some(|scan| {
            if !scan.atom()?.eq_ignore_ascii_case("USE") {
                return Err("unknown parameter of CREATE");
            }
            uses = behind_space(scan, |scan| scan.list(take_use))?;
            Ok(())
        })?;
    }
    Ok(uses)
}

fn take_use(scan: &mut Scan<'_>) -> Result<SpecialUse, What> {
    scan.expect(b'\\', "a use begins with \\")?;
    let name = scan.atom()?;
    let known = SpecialUse::KNOWN.into_iter().find(|special| {
        let attribute = special.attribute().and_then(|attribute| attribute.strip_prefix('\\'));
        attribute.is_some_and(|attribute| attribute.eq_ignore_ascii_case(name))
    });
    Ok(known.unwrap_or(SpecialUse::Unknown))
}
