//! Addresses in the one form in which they are compared.
//!
//! ```text
//! name := [local] "@" domain       local folded to lower case (ASCII only), empty for the catch-all
//!                                  domain in A-labels, lower case, without a dot at the end
//! ```
//! RFC 5321 §2.4 leaves the case of a local part to the host that it is for; we are that host, and
//! people type their names in any case.

use crate::model::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX};
use crate::proto::sasl::prepare;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Octets of a name.
const NAME_OCTETS_MAX: usize = LOCAL_PART_OCTETS_MAX + 1 + DOMAIN_OCTETS_MAX;

/// Why a text is no address or domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// No `@`, or nothing where the local part belongs.
    NoAddress,
    /// The local part is too long, or has characters that would need quotes.
    Local,
    /// No domain name that DNS could hold (RFC 5890 §2.3).
    Domain,
    /// SASLprep (RFC 4013) would make another name of it: nobody could log in by it.
    Unprepared,
}

impl fmt::Display for BadName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            BadName::NoAddress => "not an address: user@domain is wanted",
            BadName::Local => {
                "the part before @ may have 64 octets of letters, digits, and single dots between them"
            }
            BadName::Domain => "not a domain name",
            BadName::Unprepared => {
                "whoever logs in is compared in another form (SASLprep, RFC 4013): that form is wanted"
            }
        })
    }
}

/// The name of an entry. In the order of its domain, then its local part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Arc<str>);

impl Name {
    /// Reads an address as people write it: `Bob@Grün.example` or, for a catch-all, `@grün.example`.
    pub fn read(text: &str) -> Result<Name, BadName> {
        let (local, domain) = text.rsplit_once('@').ok_or(BadName::NoAddress)?;
        check_local(local)?;
        Ok(Name::new(local, &domain_name(domain)?))
    }

    /// Whether one can log in by it: a name in its one form. There may be older users without.
    pub(super) fn check_prepared(&self) -> Result<(), BadName> {
        let is_prepared = prepare(self.0.as_bytes()).is_ok_and(|prepared| prepared == *self.0);
        if is_prepared { Ok(()) } else { Err(BadName::Unprepared) }
    }

    /// `domain` is a domain name already.
    pub(super) fn new(local: &str, domain: &str) -> Name {
        let mut name = String::with_capacity(local.len() + 1 + domain.len());
        name.push_str(local);
        name.make_ascii_lowercase();
        name.push('@');
        name.push_str(domain);
        Name(name.into())
    }

    /// Takes a name that was written by us; `None` if it has no `@`.
    pub(super) fn stored(text: &str) -> Option<Name> {
        text.contains('@').then(|| Name(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('@').expect("a name has an @")
    }

    pub fn local(&self) -> &str {
        self.parts().0
    }

    pub fn domain(&self) -> &str {
        self.parts().1
    }

    pub fn is_catch_all(&self) -> bool {
        self.0.starts_with('@')
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let ((local, domain), (local_other, domain_other)) = (self.parts(), other.parts());
        domain.cmp(domain_other).then_with(|| local.cmp(local_other))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A name for one lookup, on the stack.
pub(super) struct Key {
    octets: [u8; NAME_OCTETS_MAX],
    len: usize,
}

impl Key {
    /// `None` if nothing can have this name: too long, or not UTF-8.
    pub(super) fn new(local: &[u8], domain: &str) -> Option<Key> {
        let mut key = Key { octets: [0; NAME_OCTETS_MAX], len: local.len() + 1 + domain.len() };
        let room = key.octets.get_mut(..key.len)?;
        let (front, back) = room.split_at_mut(local.len());
        front.copy_from_slice(local);
        front.make_ascii_lowercase();
        back[0] = b'@';
        back[1..].copy_from_slice(domain.as_bytes());
        back.make_ascii_lowercase();
        std::str::from_utf8(&key.octets[..key.len]).is_ok().then_some(key)
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// A target of an alias: like a name, but the local part keeps its case, which may count elsewhere.
pub(super) fn target(text: &str) -> Result<Box<str>, BadName> {
    let (local, domain) = text.rsplit_once('@').ok_or(BadName::NoAddress)?;
    if local.is_empty() {
        return Err(BadName::NoAddress);
    }
    check_local(local)?;
    Ok(format!("{local}@{}", domain_name(domain)?).into())
}

/// A domain as it is kept and compared: `Grün.Example.` is `xn--grn-ioa.example`.
pub fn domain_name(text: &str) -> Result<Box<str>, BadName> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| BadName::Domain)?;
    if ascii.is_empty() || ascii.len() > DOMAIN_OCTETS_MAX {
        return Err(BadName::Domain);
    }
    Ok(ascii.into())
}

/// The same for a lookup: what is ASCII already is only folded, by [`Key::new`].
pub(super) fn lookup_domain(text: &str) -> Option<Cow<'_, str>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    domain_name(text).ok().map(|name| Cow::Owned(name.into()))
}

/// Dot-string of RFC 5321 §4.1.2, with the UTF-8 of RFC 6531 §3.3; or nothing, for a catch-all.
fn check_local(local: &str) -> Result<(), BadName> {
    if local.is_empty() {
        return Ok(());
    }
    let atom = |part: &str| {
        !part.is_empty()
            && part.chars().all(|char| {
                char.is_ascii_alphanumeric()
                    || "!#$%&'*+-/=?^_`{|}~".contains(char)
                    || (!char.is_ascii() && !char.is_control() && !char.is_whitespace())
            })
    };
    if local.len() <= LOCAL_PART_OCTETS_MAX && local.split('.').all(atom) {
        Ok(())
    } else {
        Err(BadName::Local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(text: &str, want: &Expect) {
        want.assert_eq(&match Name::read(text) {
            Ok(name) => name.to_string(),
            Err(error) => format!("{error:?}"),
        });
    }

    #[test]
    fn brings_addresses_into_one_form() {
        check("Bob.Jones@Example.ORG", &expect!["bob.jones@example.org"]);
        check("bj\u{d8}rn@Gr\u{fc}n.example.", &expect!["bj\u{d8}rn@xn--grn-ioa.example"]);
        check("x@XN--GRN-HOA.example", &expect!["x@xn--grn-hoa.example"]);
        check("@example.org", &expect!["@example.org"]);
    }

    #[test]
    fn refuses_what_is_no_address() {
        check("bob", &expect!["NoAddress"]);
        for local in ["a b", "a..b", ".a", "a.", "a@b", "\"a\"", "a\u{0}", "a,b", "a\u{a0}b"] {
            check(&format!("{local}@example.org"), &expect!["Local"]);
        }
        check(&format!("{}@example.org", "x".repeat(65)), &expect!["Local"]);
        for domain in ["", ".", "a..b", "-a.example", "a_b.example", "[127.0.0.1]", "a b.example"] {
            check(&format!("bob@{domain}"), &expect!["Domain"]);
        }
        check(&format!("bob@{}.example", "x".repeat(64)), &expect!["Domain"]);
    }

    #[test]
    fn sorts_by_domain_then_by_local_part() {
        let mut names =
            ["b@b.example", "a@b.example", "z@a.example", "@b.example", "c@b-b.example"]
                .map(|text| Name::read(text).unwrap());
        names.sort();
        assert_eq!(
            names.map(|name| name.to_string()),
            ["z@a.example", "c@b-b.example", "@b.example", "a@b.example", "b@b.example"]
        );
    }

    #[test]
    fn looks_up_what_it_stores() {
        let name = Name::read("Bob@Gr\u{fc}n.example").unwrap();
        let domain = lookup_domain("GR\u{dc}N.example").unwrap();
        let key = Key::new(b"bOb", &domain).unwrap();
        assert_eq!(key.octets(), name.as_str().as_bytes());
        assert!(Key::new(&[b'x'; 1_000], "example.org").is_none());
        assert!(Key::new(b"\xff", "example.org").is_none());
    }
}
