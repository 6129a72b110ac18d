//! XCLIENT, Postfix's command by which a trusted proxy says who its client is.
//!
//! ```text
//! XCLIENT 1*( SP name "=" value )      value: xtext (RFC 3461 §4), [UNAVAILABLE] or [TEMPUNAVAIL]
//! ```
//!
//! Names in any case: NAME, ADDR (IPv6 with `IPV6:` in front), PORT, PROTO (SMTP or ESMTP), HELO,
//! LOGIN, DESTADDR, DESTPORT. What is not known, or bad, spoils the command: half of what a proxy says
//! would be a client that does not exist.

use super::command::HelloKind;
use super::xtext;
use crate::model::limits::{DOMAIN_OCTETS_MAX, HELLO_OCTETS_MAX};
use std::net::IpAddr;

/// What EHLO offers.
pub const OFFER: &str = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// What is said of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told<T> {
    /// Nothing: it stays as it was.
    #[default]
    Nothing,
    /// It is not known, or not known now.
    Unknown,
    Is(T),
}

/// See the header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xclient {
    /// The name that the DNS has for the client.
    pub name: Told<Box<str>>,
    pub address: Told<IpAddr>,
    pub port: Told<u16>,
    /// Whether the client said EHLO rather than HELO.
    pub extended: Option<bool>,
    /// The name that the client gave itself.
    pub hello: Told<Box<str>>,
    /// As whom it logged in.
    pub login: Told<Box<str>>,
    pub server: Told<IpAddr>,
    pub server_port: Told<u16>,
}

impl Xclient {
    /// Reads what stands behind the verb.
    pub fn parse(argument: &[u8]) -> Option<Xclient> {
        let mut all = Xclient::default();
        let mut words = argument.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let first = words.next()?;
        for word in std::iter::once(first).chain(words) {
            let at = memchr::memchr(b'=', word)?;
            let value = xtext::to_text(&word[at + 1..])?;
            let is_unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"]
                .iter()
                .any(|unknown| value.eq_ignore_ascii_case(unknown));
            let value = if is_unknown { None } else { Some(&*value) };
            match word[..at].to_ascii_uppercase().as_slice() {
                b"NAME" => all.name = told(value, host)?,
                b"ADDR" => all.address = told(value, address)?,
                b"PORT" => all.port = told(value, |text| text.parse().ok())?,
                b"PROTO" => all.extended = value.and_then(extended)?.into(),
                b"HELO" => all.hello = told(value, hello)?,
                b"LOGIN" => all.login = told(value, login)?,
                b"DESTADDR" => all.server = told(value, address)?,
                b"DESTPORT" => all.server_port = told(value, |text| text.parse().ok())?,
                _ => return None,
            }
        }
        Some(all)
    }

    /// How the client greeted, if that is said.
    pub fn hello(&self) -> Option<(HelloKind, Box<str>)> {
        let kind = if self.extended == Some(false) { HelloKind::Helo } else { HelloKind::Ehlo };
        match &self.hello {
            Told::Is(name) => Some((kind, name.clone())),
            Told::Nothing | Told::Unknown => None,
        }
    }
}

fn told<T>(value: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Option<Told<T>> {
    match value {
        None => Some(Told::Unknown),
        Some(text) => read(text).map(Told::Is),
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let six = text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPV6:"));
    let bare = if six.is_some() { text.get(5..)? } else { text };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn extended(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("ESMTP") { Some(true) } else { is("SMTP").then_some(false) }
}

fn host(text: &str) -> Option<Box<str>> {
    let is_letter = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let fits = (1..=DOMAIN_OCTETS_MAX).contains(&text.len());
    (fits && text.bytes().all(is_letter)).then(|| text.into())
}

/// What EHLO would take, too.
fn hello(text: &str) -> Option<Box<str>> {
    let is_letter = |octet: u8| octet.is_ascii_graphic() && !b"()<>,;\"\\".contains(&octet);
    let fits = (1..=HELLO_OCTETS_MAX).contains(&text.len());
    (fits && text.bytes().all(is_letter)).then(|| text.into())
}

fn login(text: &str) -> Option<Box<str>> {
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_proxy_says() {
        let told = Xclient::parse(
            b"NAME=mail.client.example addr=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=a+2Db LOGIN=ann+40x DESTADDR=IPV6:2001:db8::1 DESTPORT=25",
        )
        .unwrap();
        let want = Xclient {
            name: Told::Is("mail.client.example".into()),
            address: Told::Is("192.0.2.1".parse().unwrap()),
            port: Told::Is(4711),
            extended: Some(true),
            hello: Told::Is("a-b".into()),
            login: Told::Is("ann@x".into()),
            server: Told::Is("2001:db8::1".parse().unwrap()),
            server_port: Told::Is(25),
        };
        assert_eq!(told, want);
        let unknown = Xclient::parse(b"NAME=[UNAVAILABLE] ADDR=[tempunavail]").unwrap();
        assert_eq!(
            unknown,
            Xclient { name: Told::Unknown, address: Told::Unknown, ..Xclient::default() }
        );
        let mapped = Xclient::parse(b"ADDR=IPV6:::ffff:192.0.2.1").unwrap();
        assert_eq!(mapped.address, Told::Is("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn takes_nothing_by_halves() {
        for wrong in [
            &b""[..],
            b" ",
            b"NAME",
            b"NAME=",
            b"FOO=bar",
            b"ADDR=192.0.2",
            b"ADDR=192.0.2.1 FOO=1",
            b"PORT=65536",
            b"PROTO=LMTP",
            b"PROTO=[UNAVAILABLE]",
            b"HELO=a+20b",
            b"HELO=a+0D+0Ab",
            b"LOGIN=a+00",
            b"NAME=a+zz",
        ] {
            assert_eq!(Xclient::parse(wrong), None, "{}", wrong.escape_ascii());
        }
    }
}
