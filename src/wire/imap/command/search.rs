//! SEARCH, SORT and THREAD (RFC 9051 §6.4.4, RFC 5256), with their keys.
//!
//! ```text
//! key := name [argument]... / set / "NOT" key / "OR" key key / "(" key [SP key]... ")"
//! ```
//! OR of ORs is one list: what clients write for "any of these 500" nests 500 deep and means one
//! thing. Only parentheses and NOT go deeper, up to [`IMAP_SEARCH_DEPTH_MAX`].

use super::behind_space;
use super::fetch::{Page, take_page};
use crate::model::limits::{IMAP_SEARCH_DEPTH_MAX, IMAP_SEARCH_KEYS_MAX};
use crate::wire::imap::date::{Date, take_date};
use crate::wire::imap::scan::{Scan, Text, What, Which};

/// SEARCH or UID SEARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search<'a> {
    pub uid: bool,
    /// None: the answer is SEARCH in IMAP4rev1.
    pub returns: Option<Returns>,
    /// Of the strings in the keys; without it US-ASCII, or UTF-8 in IMAP4rev2.
    pub charset: Option<Text<'a>>,
    /// All of them must hold; never empty.
    pub keys: Vec<Key<'a>>,
}

/// SORT or UID SORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort<'a> {
    pub uid: bool,
    /// RFC 5267 §3.1.
    pub returns: Option<Returns>,
    /// Never empty.
    pub order: Vec<Order>,
    pub charset: Text<'a>,
    pub keys: Vec<Key<'a>>,
}

/// THREAD or UID THREAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread<'a> {
    pub uid: bool,
    pub algorithm: Algorithm,
    pub charset: Text<'a>,
    pub keys: Vec<Key<'a>>,
}

/// What is told of what was found (RFC 4731 §3.1). With nothing named, `all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Returns {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    /// `$` becomes what was found (RFC 5182 §2.1).
    pub save: bool,
    /// RFC 9394 §3.1; never with `all`.
    pub partial: Option<Page>,
}

/// One criterion of SORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: By,
    pub reverse: bool,
}

/// What is compared (RFC 5256 §3, RFC 5957 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Arrival,
    Cc,
    Date,
    DisplayFrom,
    DisplayTo,
    From,
    Size,
    Subject,
    To,
}

/// How threads are found (RFC 5256 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    OrderedSubject,
    References,
    /// As References, without the step that looks at subjects.
    Refs,
}

/// A flag of the system in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Answered,
    Deleted,
    Draft,
    Flagged,
    Seen,
    Recent,
}

/// Which date of a message is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dated {
    /// INTERNALDATE.
    Internal,
    /// The Date field.
    Sent,
    /// When it came into this mailbox (RFC 8514 §4.3).
    Saved,
}

/// How a date is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Earlier than.
    Before,
    On,
    /// On or later.
    Since,
}

/// Which text a string is sought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within<'a> {
    Bcc,
    Body,
    Cc,
    From,
    Subject,
    /// Header and body.
    Text,
    To,
    /// A field by its name.
    Header(Text<'a>),
}

/// What a message must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    All,
    Numbers(Which<'a>),
    Uids(Which<'a>),
    /// The UID is higher (RFC 9738 §3.2).
    UidAfter(u32),
    UidBefore(u32),
    Has {
        mark: Mark,
        set: bool,
    },
    Keyword {
        name: &'a str,
        set: bool,
    },
    /// \Recent and not \Seen (RFC 3501 §6.4.4).
    New,
    Date {
        dated: Dated,
        when: When,
        date: Date,
    },
    /// The mailbox keeps when messages came in (RFC 8514 §4.3).
    SaveDateSupported,
    /// Its INTERNALDATE lies at least so many seconds back (RFC 5032 §3).
    Older(u32),
    Younger(u32),
    Larger(u64),
    Smaller(u64),
    Contains {
        within: Within<'a>,
        text: Text<'a>,
    },
    /// Mod-sequence at least this; that of single flags is not kept, which RFC 7162 §3.1.5 allows.
    ModSeq(u64),
    /// RFC 8474 §6.
    EmailId(&'a str),
    ThreadId(&'a str),
    Not(Box<Key<'a>>),
    /// At least two.
    Or(Vec<Key<'a>>),
    /// In parentheses.
    And(Vec<Key<'a>>),
}

pub(super) fn take_search<'a>(scan: &mut Scan<'a>, uid: bool) -> Result<Search<'a>, What> {
    let returns = take_returns(scan)?;
    scan.space()?;
    let mut charset = None;
    if scan.take_word("CHARSET ") {
        charset = Some(scan.astring()?);
        scan.space()?;
    }
    Ok(Search { uid, returns, charset, keys: take_keys(scan)? })
}

pub(super) fn take_sort<'a>(scan: &mut Scan<'a>, uid: bool) -> Result<Sort<'a>, What> {
    let returns = take_returns(scan)?;
    let order = behind_space(scan, |scan| scan.list_some(take_order))?;
    let charset = behind_space(scan, Scan::astring)?;
    scan.space()?;
    Ok(Sort { uid, returns, order, charset, keys: take_keys(scan)? })
}

pub(super) fn take_thread<'a>(scan: &mut Scan<'a>, uid: bool) -> Result<Thread<'a>, What> {
    let name = behind_space(scan, Scan::atom)?;
    let known = [
        ("ORDEREDSUBJECT", Algorithm::OrderedSubject),
        ("REFERENCES", Algorithm::References),
        ("REFS", Algorithm::Refs),
    ];
    let known = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let (_, algorithm) = known.ok_or("unknown algorithm of THREAD")?;
    let charset = behind_space(scan, Scan::astring)?;
    scan.space()?;
    Ok(Thread { uid, algorithm, charset, keys: take_keys(scan)? })
}

/// ` RETURN (...)`, if it is there.
fn take_returns(scan: &mut Scan<'_>) -> Result<Option<Returns>, What> {
    if !scan.take_word(" RETURN ") {
        return Ok(None);
    }
    let mut returns = Returns::default();
    scan.list(|scan| {
        let name = scan.atom()?;
        if name.eq_ignore_ascii_case("PARTIAL") && returns.partial.is_none() {
            returns.partial = Some(behind_space(scan, take_page)?);
            return Ok(());
        }
        let option = [
            ("MIN", &mut returns.min),
            ("MAX", &mut returns.max),
            ("ALL", &mut returns.all),
            ("COUNT", &mut returns.count),
            ("SAVE", &mut returns.save),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
        *option.ok_or("unknown return option")?.1 = true;
        Ok(())
    })?;
    if returns == Returns::default() {
        returns.all = true;
    }
    if returns.all && returns.partial.is_some() {
        return Err("PARTIAL and ALL exclude each other");
    }
    Ok(Some(returns))
}

fn take_order(scan: &mut Scan<'_>) -> Result<Order, What> {
    let mut name = scan.atom()?;
    let reverse = name.eq_ignore_ascii_case("REVERSE");
    if reverse {
        name = behind_space(scan, Scan::atom)?;
    }
    let known = [
        ("ARRIVAL", By::Arrival),
        ("CC", By::Cc),
        ("DATE", By::Date),
        ("DISPLAYFROM", By::DisplayFrom),
        ("DISPLAYTO", By::DisplayTo),
        ("FROM", By::From),
        ("SIZE", By::Size),
        ("SUBJECT", By::Subject),
        ("TO", By::To),
    ];
    let known = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    Ok(Order { by: known.ok_or("unknown key of SORT")?.1, reverse })
}

/// Keys up to the end of the command.
fn take_keys<'a>(scan: &mut Scan<'a>) -> Result<Vec<Key<'a>>, What> {
    let mut budget = IMAP_SEARCH_KEYS_MAX;
    let mut keys = vec![take_key(scan, 0, &mut budget)?];
    while scan.more() {
        keys.push(take_key(scan, 0, &mut budget)?);
    }
    Ok(keys)
}

/// One key with what it governs; `budget` is how many keys may still come.
fn take_key<'a>(scan: &mut Scan<'a>, depth: usize, budget: &mut usize) -> Result<Key<'a>, What> {
    // Operands of ORs that follow each other directly, and how many are still to come.
    let mut operands = Vec::new();
    let mut missing = 1_usize;
    loop {
        if scan.take_word("OR ") {
            missing += 1;
            continue;
        }
        let key = take_simple(scan, depth, budget)?;
        missing -= 1;
        if missing == 0 && operands.is_empty() {
            return Ok(key);
        }
        operands.push(key);
        if missing == 0 {
            return Ok(Key::Or(operands));
        }
        scan.space()?;
    }
}

/// A key that is no OR.
fn take_simple<'a>(scan: &mut Scan<'a>, depth: usize, budget: &mut usize) -> Result<Key<'a>, What> {
    *budget = budget.checked_sub(1).ok_or("too many search keys")?;
    let deeper = |depth: usize| match depth {
        IMAP_SEARCH_DEPTH_MAX => Err("search keys are nested too deeply"),
        _ => Ok(depth + 1),
    };
    match scan.peek() {
        Some(b'(') => {
            let depth = deeper(depth)?;
            scan.take(b'(');
            let mut keys = vec![take_key(scan, depth, budget)?];
            loop {
                let ends = scan.rest().iter().find(|&&octet| octet != b' ') == Some(&b')');
                if !ends {
                    scan.expect(b' ', "a parenthesis is not closed")?;
                    keys.push(take_key(scan, depth, budget)?);
                    continue;
                }
                while scan.take(b' ') {}
                scan.take(b')');
                return Ok(Key::And(keys));
            }
        }
        Some(b'0'..=b'9' | b'*' | b'$') => return scan.which().map(Key::Numbers),
        _ => {}
    }
    let mut negated = false;
    while scan.take_word("NOT ") {
        negated = !negated;
        let compound = scan.peek() == Some(b'(') || {
            let mut ahead = *scan;
            ahead.take_word("OR ")
        };
        if compound {
            let key = take_key(scan, deeper(depth)?, budget)?;
            return Ok(if negated { Key::Not(Box::new(key)) } else { key });
        }
    }
    let key = match scan.peek() {
        Some(b'0'..=b'9' | b'*' | b'$') => scan.which().map(Key::Numbers)?,
        _ => take_named(scan)?,
    };
    Ok(if negated { Key::Not(Box::new(key)) } else { key })
}

const UNKNOWN: What = "unknown search key";

fn take_named<'a>(scan: &mut Scan<'a>) -> Result<Key<'a>, What> {
    let name = scan.atom().map_err(|_| "a search key was expected")?;
    let mut upper = [0; 20];
    let upper = upper.get_mut(..name.len()).ok_or(UNKNOWN)?;
    upper.copy_from_slice(name.as_bytes());
    upper.make_ascii_uppercase();
    if let Some(key) = plain_key(upper) {
        return Ok(key);
    }
    Ok(match &*upper {
        b"BCC" => take_contains(scan, Within::Bcc)?,
        b"BODY" => take_contains(scan, Within::Body)?,
        b"CC" => take_contains(scan, Within::Cc)?,
        b"FROM" => take_contains(scan, Within::From)?,
        b"SUBJECT" => take_contains(scan, Within::Subject)?,
        b"TEXT" => take_contains(scan, Within::Text)?,
        b"TO" => take_contains(scan, Within::To)?,
        b"HEADER" => {
            let field = behind_space(scan, Scan::astring)?;
            take_contains(scan, Within::Header(field))?
        }
        b"BEFORE" => take_dated(scan, Dated::Internal, When::Before)?,
        b"ON" => take_dated(scan, Dated::Internal, When::On)?,
        b"SINCE" => take_dated(scan, Dated::Internal, When::Since)?,
        b"SENTBEFORE" => take_dated(scan, Dated::Sent, When::Before)?,
        b"SENTON" => take_dated(scan, Dated::Sent, When::On)?,
        b"SENTSINCE" => take_dated(scan, Dated::Sent, When::Since)?,
        b"SAVEDBEFORE" => take_dated(scan, Dated::Saved, When::Before)?,
        b"SAVEDON" => take_dated(scan, Dated::Saved, When::On)?,
        b"SAVEDSINCE" => take_dated(scan, Dated::Saved, When::Since)?,
        b"KEYWORD" => Key::Keyword { name: behind_space(scan, Scan::atom)?, set: true },
        b"UNKEYWORD" => Key::Keyword { name: behind_space(scan, Scan::atom)?, set: false },
        b"LARGER" => Key::Larger(behind_space(scan, Scan::number64)?),
        b"SMALLER" => Key::Smaller(behind_space(scan, Scan::number64)?),
        b"OLDER" => Key::Older(behind_space(scan, Scan::nz_number)?),
        b"YOUNGER" => Key::Younger(behind_space(scan, Scan::nz_number)?),
        b"UIDAFTER" => Key::UidAfter(behind_space(scan, Scan::nz_number)?),
        b"UIDBEFORE" => Key::UidBefore(behind_space(scan, Scan::nz_number)?),
        b"UID" => Key::Uids(behind_space(scan, Scan::which)?),
        b"MODSEQ" => take_mod_seq(scan)?,
        b"EMAILID" => Key::EmailId(behind_space(scan, take_object_id)?),
        b"THREADID" => Key::ThreadId(behind_space(scan, take_object_id)?),
        b"OR" | b"NOT" => return Err("missing argument"),
        _ => return Err(UNKNOWN),
    })
}

/// Keys without an argument.
fn plain_key<'a>(name: &[u8]) -> Option<Key<'a>> {
    let has = |mark, set| Some(Key::Has { mark, set });
    match name {
        b"ALL" => Some(Key::All),
        b"ANSWERED" => has(Mark::Answered, true),
        b"DELETED" => has(Mark::Deleted, true),
        b"DRAFT" => has(Mark::Draft, true),
        b"FLAGGED" => has(Mark::Flagged, true),
        b"SEEN" => has(Mark::Seen, true),
        b"RECENT" => has(Mark::Recent, true),
        b"UNANSWERED" => has(Mark::Answered, false),
        b"UNDELETED" => has(Mark::Deleted, false),
        b"UNDRAFT" => has(Mark::Draft, false),
        b"UNFLAGGED" => has(Mark::Flagged, false),
        b"UNSEEN" => has(Mark::Seen, false),
        b"OLD" => has(Mark::Recent, false),
        b"NEW" => Some(Key::New),
        b"SAVEDATESUPPORTED" => Some(Key::SaveDateSupported),
        _ => None,
    }
}

fn take_contains<'a>(scan: &mut Scan<'a>, within: Within<'a>) -> Result<Key<'a>, What> {
    Ok(Key::Contains { within, text: behind_space(scan, Scan::astring)? })
}

fn take_dated<'a>(scan: &mut Scan<'a>, dated: Dated, when: When) -> Result<Key<'a>, What> {
    Ok(Key::Date { dated, when, date: behind_space(scan, take_date)? })
}

/// `["/flags/..." priv/shared/all] n` (RFC 7162 §3.1.5).
fn take_mod_seq<'a>(scan: &mut Scan<'a>) -> Result<Key<'a>, What> {
    scan.space()?;
    if scan.peek() == Some(b'"') {
        let entry = scan.string()?.octets();
        let is_flag = entry.get(..7).is_some_and(|front| front.eq_ignore_ascii_case(b"/flags/"));
        let kind = behind_space(scan, Scan::atom)?;
        let known = ["priv", "shared", "all"].iter().any(|known| known.eq_ignore_ascii_case(kind));
        if !is_flag || !known {
            return Err("unknown entry of MODSEQ");
        }
        scan.space()?;
    }
    Ok(Key::ModSeq(scan.number64()?))
}

/// Letters, digits, `_` and `-`, up to 255 (RFC 8474 §7).
fn take_object_id<'a>(scan: &mut Scan<'a>) -> Result<&'a str, What> {
    const BAD: What = "not an object identifier";
    let id =
        scan.run(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'), BAD)?;
    if id.len() > 255 { Err(BAD) } else { Ok(id) }
}

/// Law: whatever keys are sent, reading them ends, in keys within the bounds or in words.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_search(data: &[u8]) {
    /// Depth, and keys that are no lists.
    fn measure(keys: &[Key<'_>]) -> (usize, usize) {
        keys.iter().fold((0, 0), |(depth, count), key| {
            let (below, keys) = match key {
                Key::Not(key) => measure(std::slice::from_ref(&**key)),
                Key::Or(keys) | Key::And(keys) => {
                    assert!(!keys.is_empty(), "no list is empty");
                    measure(keys)
                }
                _ => (0, 1),
            };
            (depth.max(below + 1), count + keys)
        })
    }
    for utf8 in [false, true] {
        let text = [b" ", data].concat();
        let mut scan = Scan::new(&text, utf8);
        if let Ok(search) = take_search(&mut scan, false) {
            let (depth, count) = measure(&search.keys);
            // Between two parentheses lie a NOT and an OR at most.
            assert!(depth <= 3 * IMAP_SEARCH_DEPTH_MAX + 3, "{depth} deep");
            assert!((1..=IMAP_SEARCH_KEYS_MAX).contains(&count), "{count} keys");
        }
    }
}
