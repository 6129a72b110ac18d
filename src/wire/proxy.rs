//! The PROXY protocol, versions 1 and 2: who is behind a connection that a proxy has made.
//!
//! ```text
//! v1 := "PROXY" SP ("TCP4" / "TCP6") SP source SP destination SP port SP port CRLF
//!     / "PROXY" SP "UNKNOWN" *CHAR CRLF                          at most 107 octets
//! v2 := signature{12} | version 4 bits, command 4 bits | family u8 | len u16 (big-endian)
//!       | addresses and TLVs{len}
//! ```
//!
//! A header comes first on the connection, before TLS. Whether one is to be expected is the
//! operator's word, never guessed: a client could write one too.

use crate::model::limits::PROXY_HEADER_OCTETS_MAX;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1_OCTETS_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FRONT_OCTETS: usize = 16;

/// What a header says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// The proxy speaks for itself: a health check.
    Itself,
    /// It speaks for somebody whose address it does not know, or cannot say.
    Unknown,
    /// The client's address, and the one that the client connected to.
    For { client: SocketAddr, server: SocketAddr },
}

/// What stands in front of a connection's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// So far it may become a header.
    Partial,
    /// A header of so many octets.
    Header(usize, Proxied),
    /// No header, or one that is wrong: hang up.
    Bad,
}

/// Looks for a header at the front of `input`.
pub fn front(input: &[u8]) -> Front {
    let begins = |word: &[u8]| {
        let common = input.len().min(word.len());
        input[..common] == word[..common]
    };
    if begins(V2_SIGNATURE) {
        return if input.len() < V2_FRONT_OCTETS { Front::Partial } else { v2(input) };
    }
    if !begins(b"PROXY ") {
        return Front::Bad;
    }
    let window = &input[..input.len().min(V1_OCTETS_MAX)];
    match memchr::memchr(b'\n', window) {
        Some(lf) => {
            let line = window[..lf].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
            line.and_then(v1).map_or(Front::Bad, |proxied| Front::Header(lf + 1, proxied))
        }
        None if input.len() < V1_OCTETS_MAX => Front::Partial,
        None => Front::Bad,
    }
}

fn v1(line: &str) -> Option<Proxied> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(Proxied::Unknown);
    }
    let mut words = rest.split(' ');
    let mut word = || words.next();
    let family = word()?;
    let (client, server) = (word()?, word()?);
    let (client_port, server_port) = (port(word()?)?, port(word()?)?);
    let (client, server): (IpAddr, IpAddr) = match family {
        "TCP4" => {
            (client.parse::<Ipv4Addr>().ok()?.into(), server.parse::<Ipv4Addr>().ok()?.into())
        }
        "TCP6" => {
            (client.parse::<Ipv6Addr>().ok()?.into(), server.parse::<Ipv6Addr>().ok()?.into())
        }
        _ => return None,
    };
    words.next().is_none().then(|| between((client, client_port), (server, server_port)))
}

/// Digits without sign and leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|octet| octet.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    if is_plain && is_short { text.parse().ok() } else { None }
}

fn between(client: (IpAddr, u16), server: (IpAddr, u16)) -> Proxied {
    let socket = |(address, port): (IpAddr, u16)| SocketAddr::new(address.to_canonical(), port);
    Proxied::For { client: socket(client), server: socket(server) }
}

/// `input` has the signature and the four octets behind it.
fn v2(input: &[u8]) -> Front {
    let len = usize::from(u16::from_be_bytes([input[14], input[15]]));
    let whole = V2_FRONT_OCTETS + len;
    let (version, command) = (input[12] >> 4, input[12] & 0x0f);
    if version != 2 || command > 1 || whole > PROXY_HEADER_OCTETS_MAX {
        return Front::Bad;
    }
    let Some(rest) = input.get(V2_FRONT_OCTETS..whole) else { return Front::Partial };
    let proxied = match (command, input[13]) {
        // Whatever stands behind LOCAL, and addresses that say nothing to us, is passed over.
        (0, _) => Some(Proxied::Itself),
        (_, 0x00 | 0x31 | 0x32) => Some(Proxied::Unknown),
        (_, 0x11) => addresses::<4>(rest),
        (_, 0x21) => addresses::<16>(rest),
        // Datagrams did not come by this connection.
        _ => None,
    };
    proxied.map_or(Front::Bad, |proxied| Front::Header(whole, proxied))
}

/// Source, destination and their ports; what follows are TLVs.
fn addresses<const LEN: usize>(octets: &[u8]) -> Option<Proxied>
where
    IpAddr: From<[u8; LEN]>,
{
    let (client, rest) = octets.split_first_chunk::<LEN>()?;
    let (server, rest) = rest.split_first_chunk::<LEN>()?;
    let (client_port, rest) = rest.split_first_chunk::<2>()?;
    let (server_port, _) = rest.split_first_chunk::<2>()?;
    let client = (IpAddr::from(*client), u16::from_be_bytes(*client_port));
    let server = (IpAddr::from(*server), u16::from_be_bytes(*server_port));
    Some(between(client, server))
}

/// Laws: no panic; a header is never longer than what it was read from, its beginnings are partial,
/// and what follows it changes nothing. What is bad stays so, and what is partial is short.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_proxy(data: &[u8]) {
    match front(data) {
        Front::Header(len, proxied) => {
            assert!(len <= data.len() && len <= PROXY_HEADER_OCTETS_MAX);
            for cut in 0..len {
                assert_eq!(front(&data[..cut]), Front::Partial, "cut at {cut}");
            }
            assert_eq!(
                front(&data[..len]),
                Front::Header(len, proxied),
                "it depends on what follows"
            );
        }
        Front::Partial => assert!(data.len() < PROXY_HEADER_OCTETS_MAX, "it never ends"),
        Front::Bad => {
            let more = [data, b"\r\n"].concat();
            assert_eq!(front(&more), Front::Bad, "what is bad becomes no better");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, and that every beginning of a header is one in the making.
    #[track_caller]
    fn check(input: &[u8], want: &str) {
        let found = front(input);
        if let Front::Header(len, _) = found {
            (0..len).for_each(|cut| assert_eq!(front(&input[..cut]), Front::Partial, "{cut}"));
        }
        let told = match found {
            Front::Header(len, Proxied::For { client, server }) => {
                format!("{len} {client} {server}")
            }
            Front::Header(len, Proxied::Itself) => format!("{len} itself"),
            Front::Header(len, Proxied::Unknown) => format!("{len} unknown"),
            other => format!("{other:?}"),
        };
        assert_eq!(told, want, "{}", input.escape_ascii());
    }

    #[test]
    fn reads_version_1() {
        check(
            b"PROXY TCP4 192.0.2.1 203.0.113.5 56324 25\r\nEHLO a\r\n",
            "43 192.0.2.1:56324 203.0.113.5:25",
        );
        check(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            "44 [2001:db8::1]:1 [2001:db8::2]:65535",
        );
        check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "37 192.0.2.1:1 [::1]:2");
        check(b"PROXY UNKNOWN\r\n", "15 unknown");
        check(b"PROXY UNKNOWN ffff::1 any thing 1 2\r\n", "37 unknown");
    }

    #[test]
    fn refuses_what_is_no_header() {
        for wrong in [
            &b"EHLO a\r\n"[..],
            b"PROXY\r\n",
            b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\x16\x03\x01",
        ] {
            check(wrong, "Bad");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        check(&endless, "Bad");
        check(&endless[..106], "Partial");
    }

    fn with(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[version, family][..], &len, rest].concat()
    }

    #[test]
    fn reads_version_2_and_passes_over_what_it_does_not_know() {
        let four = [192, 0, 2, 1, 203, 0, 113, 5, 0x12, 0x34, 0, 25];
        check(&with(0x21, 0x11, &four), "28 192.0.2.1:4660 203.0.113.5:25");
        let tlvs = [&four[..], &[4, 0, 3, 0, 0, 0]].concat();
        check(&with(0x21, 0x11, &tlvs), "34 192.0.2.1:4660 203.0.113.5:25");
        let six = [&[0x20; 16][..], &[0; 15], &[1, 0, 7, 0, 8]].concat();
        check(&with(0x21, 0x21, &six), "52 [2020:2020:2020:2020:2020:2020:2020:2020]:7 [::1]:8");
        check(&with(0x20, 0x00, &[]), "16 itself");
        check(&with(0x20, 0x11, &four), "28 itself");
        check(&with(0x21, 0x00, &[1, 2, 3]), "19 unknown");
        check(&with(0x21, 0x31, &[0; 216]), "232 unknown");
    }

    #[test]
    fn refuses_version_2_that_is_wrong() {
        let four = [192, 0, 2, 1, 203, 0, 113, 5, 0x12, 0x34, 0, 25];
        for wrong in [
            with(0x11, 0x11, &four),
            with(0x22, 0x11, &four),
            with(0x21, 0x12, &four),
            with(0x21, 0x41, &four),
            with(0x21, 0x11, &four[..11]),
            with(0x21, 0x21, &four),
            with(0x21, 0x11, &vec![0; PROXY_HEADER_OCTETS_MAX]),
        ] {
            check(&wrong, "Bad");
        }
    }

    #[test]
    fn takes_anything_without_a_panic() {
        arbtest::arbtest(|u| {
            let mut data = if u.arbitrary()? { V2_SIGNATURE.to_vec() } else { b"PROXY ".to_vec() };
            data.extend_from_slice(u.bytes(u.len().min(40))?);
            fuzz_proxy(&data);
            Ok(())
        });
    }
}
