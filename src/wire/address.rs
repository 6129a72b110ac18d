//! Paths and addresses as SMTP writes them (RFC 5321 §4.1.2, §4.1.3; RFC 6531 §3.3).
//!
//! ```text
//! path    := "<" [ "@" domain *( "," "@" domain ) ":" ] mailbox ">"     the route is dropped (§3.6.1)
//! mailbox := local "@" ( domain / "[" literal "]" )
//! local   := dot-string / quoted-string                                 kept by value
//! ```
//!
//! What is taken beyond the grammar: dots anywhere in an unquoted local part (phones made such
//! addresses), and underscores in domains. What is never taken: controls, broken UTF-8, a
//! domain that names nothing. A path borrows from the line; only a domain with capitals or
//! U-labels and a local part with backslashes are copied.

use crate::model::address::{Address, is_atom_octet, write_local};
use crate::model::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_TAKEN_MAX};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets that are no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// One mailbox: the local part by value, the domain in its one form (see [`Address`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    local: Cow<'a, str>,
    domain: Cow<'a, str>,
    is_ascii: bool,
}

impl Path<'_> {
    /// The local part without quotes and backslashes, its case kept.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in A-labels and lower case, or a literal in brackets.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Written in ASCII alone; otherwise it asks for SMTPUTF8 (RFC 6531 §3.4).
    pub fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// The owned twin.
    pub fn to_address(&self) -> Address {
        Address::from_parts(&self.local, &self.domain)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_local(&self.local, out)?;
        write!(out, "@{}", self.domain)
    }
}

/// Where a message comes from, and where reports about it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReversePath<'a> {
    /// `<>`: nobody wants to hear of failures (RFC 5321 §4.5.5).
    Null,
    Path(Path<'a>),
}

impl ReversePath<'_> {
    pub fn is_ascii(&self) -> bool {
        match self {
            ReversePath::Null => true,
            ReversePath::Path(path) => path.is_ascii,
        }
    }

    /// The owned twin; `None` for the null path.
    pub fn to_address(&self) -> Option<Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Path(path) => Some(path.to_address()),
        }
    }
}

impl fmt::Display for ReversePath<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReversePath::Null => out.write_str("<>"),
            ReversePath::Path(path) => write!(out, "<{path}>"),
        }
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath<'a> {
    /// `<Postmaster>` without a domain, in any case (RFC 5321 §4.5.1).
    Postmaster,
    Path(Path<'a>),
}

impl ForwardPath<'_> {
    pub fn is_ascii(&self) -> bool {
        match self {
            ForwardPath::Postmaster => true,
            ForwardPath::Path(path) => path.is_ascii,
        }
    }
}

impl fmt::Display for ForwardPath<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardPath::Postmaster => out.write_str("<Postmaster>"),
            ForwardPath::Path(path) => write!(out, "<{path}>"),
        }
    }
}

/// Takes the reverse path off the front of `text`; returns what follows its `>`.
pub fn take_reverse_path(text: &[u8]) -> Result<(ReversePath<'_>, &[u8]), BadPath> {
    if let Some(rest) = text.strip_prefix(b"<>") {
        return Ok((ReversePath::Null, rest));
    }
    let (path, rest) = take_path(text)?;
    Ok((ReversePath::Path(path), rest))
}

/// Takes the forward path off the front of `text`; returns what follows its `>`.
pub fn take_forward_path(text: &[u8]) -> Result<(ForwardPath<'_>, &[u8]), BadPath> {
    const POSTMASTER: &[u8] = b"<postmaster>";
    if let Some((front, rest)) = text.split_at_checked(POSTMASTER.len())
        && front.eq_ignore_ascii_case(POSTMASTER)
    {
        return Ok((ForwardPath::Postmaster, rest));
    }
    let (path, rest) = take_path(text)?;
    Ok((ForwardPath::Path(path), rest))
}

/// Reads a whole text as one mailbox, with or without angle brackets: configuration, commands.
pub fn parse_mailbox(text: &str) -> Result<Path<'_>, BadPath> {
    let bare = match text.strip_prefix('<') {
        Some(rest) => rest.strip_suffix('>').ok_or(BadPath)?,
        None => text,
    };
    let (local, rest) = take_local(bare)?;
    let domain = rest.strip_prefix('@').ok_or(BadPath)?;
    finish(local, domain, bare.is_ascii())
}

fn take_path(text: &[u8]) -> Result<(Path<'_>, &[u8]), BadPath> {
    // The whole argument is looked at as UTF-8 once: a broken parameter is as bad as a broken
    // path, and everything that is cut below falls on ASCII.
    let text = std::str::from_utf8(text).map_err(|_| BadPath)?;
    let inner = text.strip_prefix('<').ok_or(BadPath)?;
    let inner = drop_route(inner)?;
    let (local, rest) = take_local(inner)?;
    let rest = rest.strip_prefix('@').ok_or(BadPath)?;
    let (domain, after) = rest.split_once('>').ok_or(BadPath)?;
    let spelled_len = inner.len() - after.len();
    let spelled = inner.as_bytes().get(..spelled_len).ok_or(BadPath)?;
    Ok((finish(local, domain, spelled.is_ascii())?, after.as_bytes()))
}

fn finish<'a>(local: Cow<'a, str>, domain: &'a str, is_ascii: bool) -> Result<Path<'a>, BadPath> {
    if local.is_empty() || local.len() > LOCAL_PART_OCTETS_TAKEN_MAX {
        return Err(BadPath);
    }
    let domain = if domain.starts_with('[') {
        Cow::Owned(literal_text(parse_literal(domain)?))
    } else {
        canonical_domain(domain)?
    };
    Ok(Path { local, domain, is_ascii })
}

/// Skips a source route (RFC 5321 §4.1.2 `A-d-l`); the last mailbox alone counts.
fn drop_route(inner: &str) -> Result<&str, BadPath> {
    let mut rest = inner;
    while let Some(hop) = rest.strip_prefix('@') {
        let (domain, more) = match hop.find([',', ':']) {
            Some(at) => hop.split_at(at),
            None => return Err(BadPath),
        };
        if domain.starts_with('[') {
            parse_literal(domain)?;
        } else {
            canonical_domain(domain)?;
        }
        match more.strip_prefix(':') {
            Some(mailbox) => return Ok(mailbox),
            None => rest = more.strip_prefix(',').ok_or(BadPath)?,
        }
        if !rest.starts_with('@') {
            return Err(BadPath);
        }
    }
    Ok(rest)
}

fn take_local(text: &str) -> Result<(Cow<'_, str>, &str), BadPath> {
    if let Some(quoted) = text.strip_prefix('"') {
        return take_quoted(quoted);
    }
    let is_local = |octet: u8| octet == b'.' || is_atom_octet(octet);
    let len = text.bytes().position(|octet| !is_local(octet)).unwrap_or(text.len());
    let (local, rest) = text.split_at_checked(len).ok_or(BadPath)?;
    Ok((Cow::Borrowed(local), rest))
}

/// A quoted string behind its first quote: `qtext` or a backslash before a graphic or space.
fn take_quoted(text: &str) -> Result<(Cow<'_, str>, &str), BadPath> {
    let mut value = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let len = rest.find(['"', '\\']).ok_or(BadPath)?;
        let (plain, more) = rest.split_at_checked(len).ok_or(BadPath)?;
        if plain.bytes().any(|octet| octet.is_ascii_control()) {
            return Err(BadPath);
        }
        if value.is_empty() {
            value = Cow::Borrowed(plain);
        } else {
            value.to_mut().push_str(plain);
        }
        if let Some(after) = more.strip_prefix('"') {
            return Ok((value, after));
        }
        let mut letters = more.chars();
        letters.next();
        let escaped = letters.next().filter(|letter| matches!(letter, ' '..='~'));
        value.to_mut().push(escaped.ok_or(BadPath)?);
        rest = letters.as_str();
    }
}

/// A domain in its one form: A-labels, lower case (RFC 5890 §2.3.2.1). Borrows when it is so.
pub fn canonical_domain(domain: &str) -> Result<Cow<'_, str>, BadPath> {
    if domain.len() > DOMAIN_OCTETS_MAX {
        return Err(BadPath);
    }
    let canonical = if !domain.is_ascii() {
        Cow::Owned(idna::domain_to_ascii(domain).map_err(|_| BadPath)?)
    } else if domain.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(domain.to_ascii_lowercase())
    } else {
        Cow::Borrowed(domain)
    };
    let good = canonical.len() <= DOMAIN_OCTETS_MAX && canonical.split('.').all(is_label);
    if good { Ok(canonical) } else { Err(BadPath) }
}

/// Letters, digits, hyphens not at the ends, underscores; 1 to 63 octets.
fn is_label(label: &str) -> bool {
    let label = label.as_bytes();
    (1..=63).contains(&label.len())
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
        && label.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

/// An address literal in brackets (RFC 5321 §4.1.3).
pub fn parse_literal(text: &str) -> Result<IpAddr, BadPath> {
    const IPV6: &str = "IPv6:";
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(BadPath)?;
    if let Some((tag, address)) = inner.split_at_checked(IPV6.len())
        && tag.eq_ignore_ascii_case(IPV6)
    {
        return address.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| BadPath);
    }
    inner.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| BadPath)
}

/// An address as a literal in brackets.
pub fn literal_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Laws: no panic; what is shown parses to the same mailbox, with what follows it untouched.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_path(data: &[u8]) {
    if let Ok((path, rest)) = take_reverse_path(data) {
        let shown = format!("{path} SIZE=1");
        let (again, after) = take_reverse_path(shown.as_bytes()).expect("what is shown parses");
        assert_eq!((again.to_address(), after), (path.to_address(), &b" SIZE=1"[..]));
        assert!(data.ends_with(rest), "what follows is left as it is");
    }
    if let Ok((path, _)) = take_forward_path(data) {
        let shown = path.to_string();
        let (again, _) = take_forward_path(shown.as_bytes()).expect("what is shown parses");
        assert_eq!(again.to_string(), shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(input: &str, want: Expect) {
        let got = match take_reverse_path(input.as_bytes()) {
            Ok((path, rest)) => format!("{path} | {}", rest.escape_ascii()),
            Err(BadPath) => "bad".into(),
        };
        want.assert_eq(&got);
        fuzz_path(input.as_bytes());
    }

    #[test]
    fn takes_a_path_and_leaves_the_parameters() {
        check("<a@b.example> SIZE=1", expect!["<a@b.example> |  SIZE=1"]);
        check("<>", expect!["<> | "]);
        check("<A@B.Example>", expect!["<A@b.example> | "]);
        check("<a_b@_dmarc.b.example>", expect!["<a_b@_dmarc.b.example> | "]);
    }

    #[test]
    fn reads_quoted_local_parts_by_value() {
        check(r#"<"a"@c.example>"#, expect!["<a@c.example> | "]);
        check(r#"<"a b"@c.example>"#, expect![[r#"<"a b"@c.example> | "#]]);
        check(r#"<"a>b@"@c.example>"#, expect![[r#"<"a>b@"@c.example> | "#]]);
        check(r#"<"\a\"\\"@c.example>"#, expect![[r#"<"a\"\\"@c.example> | "#]]);
        check(r#"<""@c.example>"#, expect!["bad"]);
        check(r#"<"a@c.example>"#, expect!["bad"]);
        check("<\"a\tb\"@c.example>", expect!["bad"]);
        check(r#"<"a"b@c.example>"#, expect!["bad"]);
    }

    #[test]
    fn drops_source_routes() {
        check("<@x.example,@y.example:a@b.example>", expect!["<a@b.example> | "]);
        check("<@[1.2.3.4]:a@b.example>", expect!["<a@b.example> | "]);
        for bad in ["<@x.example:>", "<@x.example>", "<@:a@b.example>", "<@x.example,a@b.example>"]
        {
            check(bad, expect!["bad"]);
        }
    }

    #[test]
    fn takes_address_literals() {
        check("<a@[1.2.3.4]>", expect!["<a@[1.2.3.4]> | "]);
        check("<a@[ipv6:2001:DB8:0::1]>", expect!["<a@[IPv6:2001:db8::1]> | "]);
        for bad in ["<a@[1.2.3]>", "<a@[1.2.3.256]>", "<a@[::1]>", "<a@[IPv6:1]>", "<a@[x:y]>"] {
            check(bad, expect!["bad"]);
        }
    }

    #[test]
    fn gives_u_labels_and_a_labels_one_form() {
        check("<и@почта.example>", expect!["<и@xn--80a1acny.example> | "]);
        check("<и@XN--80A1ACNY.example>", expect!["<и@xn--80a1acny.example> | "]);
        let (path, _) = take_reverse_path("<a@почта.example>".as_bytes()).unwrap();
        assert!(!path.is_ascii());
    }

    #[test]
    fn refuses_what_names_nobody() {
        for bad in [
            "a@b.example",
            "<a@b.example",
            "< a@b.example >",
            "<user>",
            "<a@>",
            "<@b.example>",
            "<a@c..example>",
            "<a@.c>",
            "<a@c.>",
            "<a@-c.example>",
            "<a b@c.example>",
            "<a@b,c@d>",
            "<a\0b@c.example>",
            "<a@b@c.example>",
            "<a@c.example\x7f>",
            "",
            "<",
        ] {
            check(bad, expect!["bad"]);
        }
        assert_eq!(take_reverse_path(b"<\xed\xa0\x80@b.example>"), Err(BadPath));
        assert_eq!(take_reverse_path(b"<\xc0\x80@b.example>"), Err(BadPath));
    }

    #[test]
    fn holds_the_limits() {
        let path = |local: usize, domain: usize| {
            format!("<{}@{}.example>", "a".repeat(local), vec!["b"; domain].join("."))
        };
        assert!(take_reverse_path(path(64, 1).as_bytes()).is_ok());
        assert!(take_reverse_path(path(255, 1).as_bytes()).is_ok());
        assert!(take_reverse_path(path(256, 1).as_bytes()).is_err());
        assert!(take_reverse_path(path(1, 124).as_bytes()).is_ok(), "255 octets of domain");
        assert!(take_reverse_path(path(1, 125).as_bytes()).is_err());
    }

    #[test]
    fn knows_the_postmaster_without_a_domain() {
        let show =
            |text: &str| take_forward_path(text.as_bytes()).map(|(path, _)| path.to_string());
        assert_eq!(show("<PostMaster>"), Ok("<Postmaster>".into()));
        assert_eq!(show("<postmaster@a.example>"), Ok("<postmaster@a.example>".into()));
        assert_eq!(show("<root>"), Err(BadPath));
        assert_eq!(show("<>"), Err(BadPath));
    }

    #[test]
    fn parses_what_it_shows() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=24)?;
            let letters = ["<", ">", "@", "a", "B", "\"", "\\", ".", "и", " ", "[", "]", ":", ","];
            let text: String =
                (0..len).map(|_| u.choose(&letters).copied()).collect::<Result<_, _>>()?;
            fuzz_path(text.as_bytes());
            fuzz_path(format!("<\"{text}\"@b.example>").as_bytes());
            Ok(())
        });
    }

    #[test]
    fn survives_the_address_corpora() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/addresses");
        let Ok(folders) = std::fs::read_dir(root) else {
            println!("skipped: no corpus beside the repository");
            return;
        };
        for folder in folders {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let text = std::fs::read(file.unwrap().path()).unwrap();
                for line in text.split(|&octet| octet == b'\n') {
                    fuzz_path(line);
                    fuzz_path(&[b"<", line.trim_ascii(), b">"].concat());
                }
            }
        }
    }
}
