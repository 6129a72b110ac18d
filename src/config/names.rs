//! Names that an operator writes: hosts, domain patterns, mailboxes, relays.
//!
//! Each type holds a name that was checked when it was made: domains in lower-case A-label form
//! (RFC 5891 §4.4), within the lengths of RFC 5321 §4.5.3.1.

use crate::model::limits::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Octets of one label of a domain (RFC 1035 §2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// A host or domain name, in A-label form and lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// `None` where `text` is no name that DNS and mail could both carry.
    pub fn parse(text: &str) -> Option<HostName> {
        let name = idna::domain_to_ascii(text).ok()?;
        let fits = !name.is_empty() && name.len() <= DOMAIN_OCTETS_MAX;
        (fits && name.split('.').all(is_label)).then_some(HostName(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let inner = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    !label.is_empty()
        && label.len() <= LABEL_OCTETS_MAX
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Which domains something holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// `*`
    All,
    /// `*.example.net`: any domain below it, not itself.
    Below(HostName),
    One(HostName),
}

impl DomainPattern {
    pub fn parse(text: &str) -> Option<DomainPattern> {
        match (text, text.strip_prefix("*.")) {
            ("*", _) => Some(DomainPattern::All),
            (_, Some(parent)) => HostName::parse(parent).map(DomainPattern::Below),
            (_, None) => HostName::parse(text).map(DomainPattern::One),
        }
    }

    /// Whether it holds for `domain`, given in A-label form and lower case.
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            DomainPattern::All => true,
            DomainPattern::One(name) => name.0 == domain,
            DomainPattern::Below(parent) => domain
                .strip_suffix(parent.0.as_str())
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|front| !front.is_empty()),
        }
    }
}

/// An address with its domain in A-label form; the local part as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    pub local: String,
    pub domain: HostName,
}

impl Mailbox {
    pub fn parse(text: &str) -> Option<Mailbox> {
        let (local, domain) = text.rsplit_once('@')?;
        let plain = |letter: char| !letter.is_control() && !" \"<>()[]\\,;:@".contains(letter);
        let right = !local.is_empty()
            && local.len() <= LOCAL_PART_OCTETS_MAX
            && local.chars().all(plain)
            && !local.split('.').any(str::is_empty);
        let domain = HostName::parse(domain)?;
        right.then(|| Mailbox { local: local.into(), domain })
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.local, self.domain)
    }
}

/// Where a route sends mail: `192.0.2.5:25`, `[2001:db8::1]:25`, `relay.example:587`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayHost {
    Address(SocketAddr),
    Name(HostName, u16),
}

impl RelayHost {
    pub fn parse(text: &str) -> Option<RelayHost> {
        if let Ok(address) = text.parse() {
            return Some(RelayHost::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(Ok(ip)) = inner.map(str::parse::<IpAddr>) {
            return Some(RelayHost::Address(SocketAddr::new(ip, port)));
        }
        HostName::parse(host).map(|name| RelayHost::Name(name, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::fmt::Write as _;

    #[test]
    fn reads_each_kind_of_name_or_refuses_it() {
        let mut got = String::new();
        for text in [
            "mx.example",
            "MX.Bücher.example",
            "-a.example",
            "a..example",
            "",
            "*",
            "*.example.net",
            "*.*.net",
            "postmaster@example.org",
            "a b@example.org",
            ".a@example.org",
            "jörg@bücher.example",
            "192.0.2.5:25",
            "[192.0.2.5]:25",
            "[2001:db8::1]:25",
            "relay.example:587",
            "relay.example",
            "relay.example:0",
            "relay.example:70000",
        ] {
            write!(got, "{text:?}:").unwrap();
            if let Some(name) = HostName::parse(text) {
                write!(got, " host {name}").unwrap();
            }
            if let Some(pattern) = DomainPattern::parse(text) {
                write!(got, " pattern {pattern:?}").unwrap();
            }
            if let Some(mailbox) = Mailbox::parse(text) {
                write!(got, " mailbox {mailbox}").unwrap();
            }
            if let Some(relay) = RelayHost::parse(text) {
                write!(got, " relay {relay:?}").unwrap();
            }
            got.push('\n');
        }
        expect![[r#"
            "mx.example": host mx.example pattern One(HostName("mx.example"))
            "MX.Bücher.example": host mx.xn--bcher-kva.example pattern One(HostName("mx.xn--bcher-kva.example"))
            "-a.example":
            "a..example":
            "":
            "*": pattern All
            "*.example.net": pattern Below(HostName("example.net"))
            "*.*.net":
            "postmaster@example.org": mailbox postmaster@example.org
            "a b@example.org":
            ".a@example.org":
            "jörg@bücher.example": mailbox jörg@xn--bcher-kva.example
            "192.0.2.5:25": relay Address(192.0.2.5:25)
            "[192.0.2.5]:25": relay Address(192.0.2.5:25)
            "[2001:db8::1]:25": relay Address([2001:db8::1]:25)
            "relay.example:587": relay Name(HostName("relay.example"), 587)
            "relay.example": host relay.example pattern One(HostName("relay.example"))
            "relay.example:0":
            "relay.example:70000":
        "#]].assert_eq(&got);
    }

    #[test]
    fn a_pattern_below_a_domain_does_not_match_the_domain_itself() {
        let below = DomainPattern::parse("*.example.net").unwrap();
        assert!(below.matches("a.example.net") && below.matches("b.a.example.net"));
        assert!(!below.matches("example.net") && !below.matches("badexample.net"));
        assert!(!below.matches(".example.net"));
    }
}
