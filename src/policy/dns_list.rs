//! Lists of addresses in the DNS, block lists and allow lists (RFC 5782).
//!
//! A list is a zone: an address that is on it has an A record at its reversed octets (IPv6: nibbles)
//! in front of the zone, in 127.0.0.0/8. What a record means is the list's own matter, so the
//! operator says which answers count. Answers that no list gives for an address are none of its
//! listings: 127.255.255.0/24 is what lists say to those that they do not serve, and what lies
//! outside 127.0.0.0/8 is a resolver that makes up answers, or a zone that somebody bought.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// One list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// In A-labels, without a dot at its end.
    pub zone: Box<str>,
    /// The answers that count.
    pub answers: Vec<Answers>,
    /// What being listed adds to a client's score; below 0 it speaks for the client.
    pub weight: i32,
    /// Whether it has IPv6 addresses too.
    pub ipv6: bool,
}

/// Some answers: an address of which each octet may be a range, such as `127.0.0.2-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers([(u8, u8); 4]);

impl Answers {
    /// Any answer that the last octet of 127.0.0.0/24 can give: 2 to 254 (RFC 5782 §2.1 gives 2 for
    /// tests, and keeps 1 for a local host).
    pub const COMMON: Answers = Answers([(127, 127), (0, 0), (0, 0), (2, 254)]);

    pub fn parse(text: &str) -> Option<Answers> {
        let mut octets = text.split('.').map(|octet| {
            let (low, high) = octet.split_once('-').unwrap_or((octet, octet));
            let number = |digits: &str| {
                let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
                if is_plain { digits.parse::<u8>().ok() } else { None }
            };
            Some((number(low)?, number(high)?)).filter(|(low, high)| low <= high)
        });
        let mut all = [(0, 0); 4];
        for place in &mut all {
            *place = octets.next()??;
        }
        (octets.next().is_none() && all[0] == (127, 127)).then_some(Answers(all))
    }

    pub fn contain(self, address: Ipv4Addr) -> bool {
        let within = |(octet, (low, high)): (u8, (u8, u8))| (low..=high).contains(&octet);
        address.octets().into_iter().zip(self.0).all(within)
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octet = |&(low, high): &(u8, u8)| {
            if low == high { low.to_string() } else { format!("{low}-{high}") }
        };
        let octets: Vec<String> = self.0.iter().map(octet).collect();
        out.write_str(&octets.join("."))
    }
}

/// What a list says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is on it, with an answer that counts.
    Listed,
    /// It is not, or with an answer that does not count.
    Unlisted,
    /// The list does not answer us, or this is no answer of a list: the operator should look.
    Nonsense(IpAddr),
}

impl List {
    /// The name to ask for; none where the list has no such addresses.
    pub fn question(&self, client: IpAddr) -> Option<String> {
        match client.to_canonical() {
            IpAddr::V6(_) if !self.ipv6 => None,
            client => Some(format!("{}.{}", reversed(client), self.zone)),
        }
    }

    /// What the records at that name say; none where there is no such name.
    pub fn says(&self, records: impl IntoIterator<Item = IpAddr>) -> Said {
        let mut said = Said::Unlisted;
        for record in records {
            let address = match record {
                IpAddr::V4(address) if address.is_loopback() => address,
                other => return Said::Nonsense(other),
            };
            if address.octets()[1..3] == [255, 255] {
                return Said::Nonsense(record);
            }
            if self.answers.iter().any(|answers| answers.contain(address)) {
                said = Said::Listed;
            }
        }
        said
    }
}

/// The octets, or nibbles, from the last to the first (RFC 5782 §2.1, §2.4), as in the reverse zones.
pub fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let nibbles =
                address.octets().into_iter().rev().flat_map(|octet| {
                    [octet & 0x0f, octet >> 4].map(|nibble| format!("{nibble:x}"))
                });
            nibbles.collect::<Vec<String>>().join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(answers: &[&str]) -> List {
        let answers = answers.iter().map(|text| Answers::parse(text).unwrap()).collect();
        List { zone: "dnsbl.example".into(), answers, weight: 1, ipv6: true }
    }

    #[test]
    fn asks_by_reversed_octets_and_nibbles() {
        let question = |address: &str| list(&[]).question(address.parse().unwrap()).unwrap();
        assert_eq!(question("192.0.2.99"), "99.2.0.192.dnsbl.example");
        assert_eq!(question("::ffff:192.0.2.99"), "99.2.0.192.dnsbl.example");
        assert_eq!(
            question("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.dnsbl.example"
        );
        let four = List { ipv6: false, ..list(&[]) };
        assert_eq!(four.question("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn counts_the_answers_that_are_wanted() {
        let said = |answers: &[&str], records: &[&str]| {
            list(answers).says(records.iter().map(|text| text.parse().unwrap()))
        };
        assert_eq!(said(&["127.0.0.2-11"], &[]), Said::Unlisted);
        assert_eq!(said(&["127.0.0.2-11"], &["127.0.0.2"]), Said::Listed);
        assert_eq!(said(&["127.0.0.2-11"], &["127.0.0.12"]), Said::Unlisted);
        assert_eq!(said(&["127.0.0.2-11"], &["127.0.0.12", "127.0.0.11"]), Said::Listed);
        assert_eq!(said(&["127.0.0-255.1-3"], &["127.0.5.0"]), Said::Unlisted);
        assert_eq!(said(&["127.0.0-255.1-3"], &["127.0.5.2"]), Said::Listed);
    }

    #[test]
    fn takes_no_error_of_a_list_for_a_listing() {
        for record in ["127.255.255.254", "127.255.255.252", "203.0.113.1", "::1"] {
            let record = record.parse().unwrap();
            let all = List {
                answers: vec![Answers::parse("127.0-255.0-255.0-255").unwrap()],
                ..list(&[])
            };
            assert_eq!(all.says([record]), Said::Nonsense(record));
        }
    }

    #[test]
    fn reads_answers_and_writes_them_back() {
        for text in ["127.0.0.2", "127.0.0.2-11", "127.0.0-255.1-3"] {
            assert_eq!(Answers::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Answers::COMMON.to_string(), "127.0.0.2-254");
        for wrong in
            ["127.0.0", "127.0.0.2.3", "127.0.0.11-2", "128.0.0.2", "127.0.0.256", "127.0.0.+2", ""]
        {
            assert_eq!(Answers::parse(wrong), None, "{wrong}");
        }
    }
}
