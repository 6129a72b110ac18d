//! TLSRPT: where a domain wants reports on TLS (RFC 8460 §3).
//!
//! ```text
//! record := "v=TLSRPTv1" ; "rua=" uri *("," uri) [; others]
//! uri    := "mailto:" address / "https://…"               what is neither is passed over
//! ```

use super::address::parse_mailbox;
use super::policy_record::{fields, is_value};
use crate::model::address::Address;

/// Where a report is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address, of ASCII.
    Mail(Address),
    /// A URL to which it is posted.
    Https(Box<str>),
}

/// Where the domain wants its reports, in its order, by the TXT records of `_smtp._tls` in it; each with
/// its strings joined. `None`: it wants none. At most `max` of them.
pub fn destinations<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
    max: usize,
) -> Option<Vec<Destination>> {
    let all = fields(records, "v=TLSRPTv1")?;
    let others = all.iter().filter(|(name, _)| *name != "rua");
    if !others.into_iter().all(|(_, value)| is_value(value)) {
        return None;
    }
    let (_, uris) = all.iter().find(|(name, _)| *name == "rua")?;
    let uris = uris.split(',').map(|uri| uri.trim_matches([' ', '\t']));
    Some(uris.filter_map(destination).take(max).collect())
}

fn destination(uri: &str) -> Option<Destination> {
    // A URI is of printed ASCII (RFC 3986 §2); `!` and what separates fields is encoded.
    let is_sound = uri.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'!');
    let (scheme, rest) = uri.split_once(':').filter(|_| is_sound)?;
    if scheme.eq_ignore_ascii_case("mailto") {
        // Header fields behind it are not for us to take from a stranger (RFC 6068 §4).
        let address = decode(rest.split('?').next()?)?;
        let address = parse_mailbox(&address).ok()?.to_address();
        return address.is_ascii().then_some(Destination::Mail(address));
    }
    (scheme.eq_ignore_ascii_case("https") && rest.starts_with("//"))
        .then(|| Destination::Https(uri.into()))
}

/// `%xx` undone (RFC 3986 §2.1).
fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    octets.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        octets.push(u8::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+'))?);
        octets.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_reports_go() {
        use Destination::{Https, Mail};
        let mail = |address: &str| Mail(parse_mailbox(address).unwrap().to_address());
        let https = |url: &str| Https(url.into());
        for (records, found) in [
            (
                &["v=TLSRPTv1;rua=mailto:reports@example.com"][..],
                Some(vec![mail("reports@example.com")]),
            ),
            (
                &[
                    "v=TLSRPTv1; rua=https://r.example/v1/tlsrpt?a=b , MAILTO:%22a%2Cb%22@example.com;",
                ],
                Some(vec![https("https://r.example/v1/tlsrpt?a=b"), mail("\"a,b\"@example.com")]),
            ),
            (
                &[
                    "v=TLSRPTv1; x=y; rua=ftp://no, mailto:a@example.com?subject=x , https://b.example/",
                ],
                Some(vec![mail("a@example.com"), https("https://b.example/")]),
            ),
            (&["v=TLSRPTv1; rua=mailto:%61@example.com"], Some(vec![mail("a@example.com")])),
            (
                &["v=TLSRPTv1; rua=mailto:a%0d%0a@b,mailto:%+1@b,mailto:%f@b,mailto:nobody"],
                Some(vec![]),
            ),
            (&["v=TLSRPTv1; rua=http://r.example/"], Some(vec![])),
            (&["v=TLSRPTv1; rua=mailto:a!10m@example.com"], Some(vec![])),
            (&["v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv1; rua=mailto:b@b"], None),
            (
                &["v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv2; rua=mailto:b@b"],
                Some(vec![mail("a@b")]),
            ),
            (&["v=TLSRPTv1;"], None),
            (&["v=TLSRPTv1; y=z"], None),
            (&["v=TLSRPTv1; rua=mailto:a@b; y"], None),
            (&[], None),
        ] {
            let octets = records.iter().map(|record| record.as_bytes());
            assert_eq!(destinations(octets, 8), found, "{records:?}");
        }
        let many = format!("v=TLSRPTv1; rua={}", vec!["mailto:a@b"; 20].join(","));
        assert_eq!(destinations([many.as_bytes()], 3).unwrap().len(), 3);
    }
}
