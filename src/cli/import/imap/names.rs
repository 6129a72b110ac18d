//! Which mailboxes the other server has: their names as they are here, what they are for, and which of
//! them are subscribed to.
//!
//! ```text
//!   NAMESPACE ─> prefix of one's own, prefixes of others
//!   LIST, or LIST and LSUB ─> names ─> without the prefix, levels parted by `/`, UTF-8
//! ```

use super::super::source::Named;
use super::connection::{Connection, Trouble, string};
use super::reader::unsound;
use crate::mailbox::Use;
use crate::model::limits::MAILBOXES_MAX;
use crate::wire::imap::answer::{Answer, Listed, Unsound};
use crate::wire::imap::mailbox;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// Names that are listened to, with those of others, and those that hold no messages.
const LISTED_MAX: usize = MAILBOXES_MAX * 4;

/// What was found.
#[derive(Default)]
pub(super) struct Listing {
    /// INBOX first, those above others before them.
    pub(super) folders: Vec<Named>,
    /// Names that are subscribed to, and hold no messages.
    pub(super) subscribed: Vec<String>,
    /// What is not brought: a name, and why.
    pub(super) passed: Vec<(String, &'static str)>,
}

/// A mailbox as the server tells of it.
#[derive(Debug, Default)]
struct Told {
    separator: Option<u8>,
    uses: u8,
    is_missing: bool,
    is_subscribed: bool,
}

/// What is wanted of all that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// Names here, each with all that is below it; all where there is none.
    pub(super) only: Vec<String>,
    pub(super) exclude: Vec<String>,
    /// Also mailboxes that only show what lies in others.
    pub(super) views: bool,
}

impl Choice {
    fn takes(&self, name: &str) -> bool {
        let is_in = |all: &[String]| {
            all.iter().any(|one| {
                name.strip_prefix(one.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        (self.only.is_empty() || is_in(&self.only)) && !is_in(&self.exclude)
    }
}

/// Asks for all mailboxes.
pub(super) fn list(connection: &mut Connection, choice: &Choice) -> Result<Listing, Trouble> {
    let spaces = spaces(connection)?;
    let told = told(connection)?;
    let mut listing = Listing::default();
    let is_kind = told.values().any(|one| one.uses != 0);
    for (raw, one) in told {
        let name = spaces.name(&raw, one.separator, connection.is_utf8);
        let shown = name.as_ref().unwrap_or_else(|odd| odd).clone();
        if spaces.is_of_others(&raw) {
            listing.passed.push((shown, "it is not the user's own"));
        } else if !choice.takes(&shown) {
            // The operator knows.
        } else if one.is_missing {
            listing.subscribed.extend(name.ok().filter(|_| one.is_subscribed));
        } else if one.uses & (Use::ALL.0 | Use::FLAGGED.0) != 0 && !choice.views {
            listing.passed.push((shown, "it shows what lies in other folders; --views brings it"));
        } else {
            let uses = is_kind.then_some(one.uses);
            let path = PathBuf::from(OsString::from_vec(raw));
            listing.folders.push(Named { name, path, subscribed: one.is_subscribed, uses });
        }
    }
    listing.folders.sort_by_key(|named| match &named.name {
        Ok(name) => (name != "INBOX", name.clone()),
        Err(odd) => (true, odd.clone()),
    });
    Ok(listing)
}

/// All names that the server tells of, as it has them.
fn told(connection: &mut Connection) -> Result<BTreeMap<Vec<u8>, Told>, Trouble> {
    let mut told: BTreeMap<Vec<u8>, Told> = BTreeMap::new();
    let mut take = |listed: &Listed<'_>, name: Vec<u8>| {
        if told.len() >= LISTED_MAX {
            return Err(Trouble::Fatal(format!("the server has more than {LISTED_MAX} mailboxes")));
        }
        let is_new = !told.contains_key(&name);
        let one = told.entry(name).or_default();
        one.separator = listed.separator.or(one.separator);
        let has = |word: &str| {
            listed.attributes.iter().any(|known| known.eq_ignore_ascii_case(word.as_bytes()))
        };
        one.is_subscribed |= listed.is_lsub && !has("\\NoSelect") || has("\\Subscribed");
        let is_missing = has("\\NoSelect") || has("\\NonExistent");
        // LSUB also tells of names that are no more.
        one.is_missing = if listed.is_lsub { is_new || one.is_missing } else { is_missing };
        for (uses, name) in Use::NAMES {
            one.uses |= if has(name) { uses.0 } else { 0 };
        }
        Ok(())
    };
    let extended = connection.can("LIST-EXTENDED");
    let lines: &[&str] = if extended && connection.can("SPECIAL-USE") {
        &["LIST \"\" \"*\" RETURN (SUBSCRIBED SPECIAL-USE)"]
    } else if extended {
        &["LIST \"\" \"*\" RETURN (SUBSCRIBED)"]
    } else {
        &["LIST \"\" \"*\"", "LSUB \"\" \"*\""]
    };
    for line in lines {
        connection.done(line, &mut |(answer, literals)| {
            let Answer::Listed(listed) = answer else { return Ok(()) };
            let name = string(&listed.name, literals);
            let name = name.ok_or_else(|| unsound(Unsound("a name of a mailbox")))?.into_owned();
            take(&listed, name)
        })?;
    }
    // INBOX is there whether or not it is told of.
    if !told.keys().any(|name| name.eq_ignore_ascii_case(b"INBOX")) {
        told.insert(b"INBOX".to_vec(), Told::default());
    }
    Ok(told)
}

/// Where the names of one's own mailboxes begin, and those of others.
#[derive(Debug, Default)]
struct Spaces {
    own: Vec<u8>,
    others: Vec<Vec<u8>>,
}

fn spaces(connection: &mut Connection) -> Result<Spaces, Trouble> {
    let mut spaces = Spaces::default();
    if !connection.can("NAMESPACE") {
        return Ok(spaces);
    }
    connection.done("NAMESPACE", &mut |(answer, literals)| {
        let Answer::Namespace([own, users, shared]) = answer else { return Ok(()) };
        let prefix =
            |(value, _): &(_, _)| string(value, literals).map(std::borrow::Cow::into_owned);
        spaces.own = own.first().and_then(prefix).unwrap_or_default();
        let others = users.iter().chain(&shared).filter_map(prefix);
        spaces.others = others.filter(|prefix| !prefix.is_empty()).collect();
        Ok(())
    })?;
    Ok(spaces)
}

impl Spaces {
    /// A prefix without its separator is a mailbox above those of others.
    fn is_of_others(&self, raw: &[u8]) -> bool {
        self.others.iter().any(|prefix| {
            raw.starts_with(prefix) || prefix.split_last().is_some_and(|(_, above)| raw == above)
        })
    }

    /// A name as it is here: UTF-8, `/` between levels. What it is there, if it can be none here.
    fn name(&self, raw: &[u8], separator: Option<u8>, is_utf8: bool) -> Result<String, String> {
        let odd = || String::from_utf8_lossy(raw).into_owned();
        if raw.eq_ignore_ascii_case(b"INBOX") {
            return Ok("INBOX".into());
        }
        let rest = raw.strip_prefix(self.own.as_slice()).filter(|rest| !rest.is_empty());
        let rest = rest.unwrap_or(raw);
        let parts: Vec<&[u8]> = match separator {
            // Modified UTF-7 has no separator within what it stands for but a comma.
            Some(separator) => rest.split(|&octet| octet == separator).collect(),
            None => vec![rest],
        };
        let level = |part: &&[u8]| -> Option<String> {
            let text = std::str::from_utf8(part).ok()?;
            let read = if is_utf8 { None } else { mailbox::decode(part).ok() };
            let name = read.map_or_else(|| text.to_owned(), std::borrow::Cow::into_owned);
            (!name.contains('/')).then(|| mailbox::net_unicode(&name).into_owned())
        };
        let levels = parts.iter().map(level).collect::<Option<Vec<String>>>().ok_or_else(odd)?;
        let name = levels.join("/");
        mailbox::name(name.as_bytes(), true).map(std::borrow::Cow::into_owned).map_err(|_| odd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_prefix_and_get_our_separator() {
        let spaces = Spaces { own: b"INBOX.".to_vec(), others: vec![b"user.".to_vec()] };
        let name = |raw: &str| spaces.name(raw.as_bytes(), Some(b'.'), false);
        assert_eq!(name("inbox"), Ok("INBOX".into()));
        assert_eq!(name("INBOX.Lists.Entw&APw-rfe"), Ok("Lists/Entwürfe".into()));
        assert_eq!(name("INBOX.a/b"), Err("INBOX.a/b".into()));
        assert_eq!(name("Lists"), Ok("Lists".into()));
        assert_eq!(name("INBOX."), Ok("INBOX/".into()));
        assert!(spaces.is_of_others(b"user.bob") && spaces.is_of_others(b"user"));
        assert!(!spaces.is_of_others(b"users") && !spaces.is_of_others(b"INBOX.user"));
        let spaces = Spaces::default();
        let name = |raw: &str| spaces.name(raw.as_bytes(), Some(b'/'), true);
        assert_eq!(name("A&B/Entwürfe"), Ok("A&B/Entwürfe".into()));
        assert_eq!(name("Entw&APw-rfe"), Ok("Entw&APw-rfe".into()));
        assert_eq!(spaces.name(b"a\xff", None, false), Err("a\u{fffd}".into()));
        assert_eq!(spaces.name(b"a.b", None, false), Ok("a.b".into()));
    }

    #[test]
    fn some_are_chosen_with_what_is_below() {
        let choice = Choice {
            only: vec!["A".into(), "INBOX".into()],
            exclude: vec!["A/B".into()],
            views: false,
        };
        let taken = ["A", "A/C", "INBOX", "A/B", "A/B/C", "AB", "C"].map(|name| choice.takes(name));
        assert_eq!(taken, [true, true, true, false, false, false, false]);
        assert!(Choice::default().takes("C"));
    }
}
