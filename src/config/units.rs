//! What the configuration measures in: sizes, times, networks; read from text and written back.
//!
//! Reading and writing are inverse to each other: what [`size`] reads, [`show_size`] writes in its
//! shortest form, and reading that again gives the same number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const SIZE_UNITS: [(char, u64); 4] =
    [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
const TIME_UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Octets out of `50M`: a whole number and at most one of K, M, G, T (powers of 1024).
pub fn size(text: &str) -> Option<u64> {
    match unit(text, &SIZE_UNITS) {
        Some((digits, factor)) => number(digits)?.checked_mul(factor),
        None => number(text),
    }
}

/// A time out of `90s`, `5m`, `1h`, `5d`, or several in falling order: `1h30m`.
pub fn time(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut smallest = u64::MAX;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let (_, factor) = TIME_UNITS.iter().find(|(unit, _)| *unit == letter)?;
        if *factor >= smallest {
            return None;
        }
        smallest = *factor;
        seconds = seconds.checked_add(number(&digits)?.checked_mul(*factor)?)?;
        digits.clear();
    }
    (digits.is_empty() && smallest != u64::MAX).then(|| Duration::from_secs(seconds))
}

/// Writes octets with the largest unit that leaves a whole number.
pub fn show_size(octets: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| octets >= *factor && octets.is_multiple_of(*factor))
        .map_or_else(|| octets.to_string(), |(unit, factor)| format!("{}{unit}", octets / factor))
}

/// Writes whole seconds with the largest unit that leaves a whole number.
pub fn show_time(time: Duration) -> String {
    let seconds = time.as_secs();
    TIME_UNITS
        .iter()
        .find(|(_, factor)| seconds >= *factor && seconds.is_multiple_of(*factor))
        .map_or_else(|| "0s".into(), |(unit, factor)| format!("{}{unit}", seconds / factor))
}

/// Splits the unit off the end, in either case.
fn unit<'a>(text: &'a str, units: &[(char, u64)]) -> Option<(&'a str, u64)> {
    let last = text.chars().next_back()?.to_ascii_uppercase();
    let (_, factor) = units.iter().find(|(unit, _)| *unit == last)?;
    let digits = text.get(..text.len() - 1)?;
    Some((digits, *factor))
}

/// Digits only: no sign, no space, no underscore.
fn number(digits: &str) -> Option<u64> {
    let whole = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    if whole { digits.parse().ok() } else { None }
}

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The lowest address: bits after the prefix are zero.
    first: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNetwork {
    /// Neither an address nor an address with a prefix length.
    Syntax,
    /// Bits are set behind the prefix; the network that was probably meant.
    HostBits(Network),
}

impl Network {
    pub fn parse(text: &str) -> Result<Network, NotNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotNetwork::Syntax)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(number) {
            None => longest,
            Some(Some(bits)) if bits <= u64::from(longest) => {
                u8::try_from(bits).map_err(|_| NotNetwork::Syntax)?
            }
            Some(_) => return Err(NotNetwork::Syntax),
        };
        let network = Network { first: masked(address, prefix), prefix };
        if network.first == address { Ok(network) } else { Err(NotNetwork::HostBits(network)) }
    }

    /// Whether `address` lies within. An IPv4 address in IPv6 clothes counts as what it is.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.first, self.prefix)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    /// Reads each word as a size, a time and a network, and writes back what it is.
    #[track_caller]
    fn check(words: &str, want: &Expect) {
        let mut got = String::new();
        for word in words.split_whitespace() {
            let size = size(word).map_or("-".into(), show_size);
            let time = time(word).map_or("-".into(), show_time);
            let network = match Network::parse(word) {
                Ok(network) => network.to_string(),
                Err(NotNetwork::HostBits(meant)) => format!("meant {meant}"),
                Err(NotNetwork::Syntax) => "-".into(),
            };
            writeln!(got, "{word}: {size} {time} {network}").unwrap();
        }
        want.assert_eq(&got);
    }

    #[test]
    fn reads_sizes() {
        check(
            "0 50M 50m 1024 1536K 4G 2T 1.5G -1 +1 M 1KB 99999999999999999999 20000000T",
            &expect![[r"
                0: 0 - -
                50M: 50M - -
                50m: 50M 50m -
                1024: 1K - -
                1536K: 1536K - -
                4G: 4G - -
                2T: 2T - -
                1.5G: - - -
                -1: - - -
                +1: - - -
                M: - - -
                1KB: - - -
                99999999999999999999: - - -
                20000000T: - - -
            "]],
        );
    }

    #[test]
    fn reads_times() {
        check(
            "90s 60s 1h30m 30m1h 1h1h 0s 5 5d h ms",
            &expect![[r"
                90s: - 90s -
                60s: - 1m -
                1h30m: - 90m -
                30m1h: - - -
                1h1h: - - -
                0s: - 0s -
                5: 5 - -
                5d: - 5d -
                h: - - -
                ms: - - -
            "]],
        );
    }

    #[test]
    fn reads_networks_and_says_which_one_was_meant() {
        check(
            "127.0.0.1/32 10.0.0.0/8 10.1.2.3/8 0.0.0.0/0 ::/0 2001:db8::/32 ::1 10.0.0.0/33 10/8",
            &expect![[r"
                127.0.0.1/32: - - 127.0.0.1/32
                10.0.0.0/8: - - 10.0.0.0/8
                10.1.2.3/8: - - meant 10.0.0.0/8
                0.0.0.0/0: - - 0.0.0.0/0
                ::/0: - - ::/0
                2001:db8::/32: - - 2001:db8::/32
                ::1: - - ::1/128
                10.0.0.0/33: - - -
                10/8: - - -
            "]],
        );
    }

    #[test]
    fn takes_a_mapped_address_for_what_it_is() {
        let network = Network::parse("127.0.0.0/8").unwrap();
        assert!(network.contains("::ffff:127.0.0.9".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        assert!(!network.contains("128.0.0.1".parse().unwrap()));
    }

    #[test]
    fn writes_sizes_so_that_they_read_the_same() {
        arbtest::arbtest(|u| {
            let octets: u64 = u.arbitrary()?;
            assert_eq!(size(&show_size(octets)), Some(octets));
            let seconds = Duration::from_secs(u.int_in_range(0..=1 << 40)?);
            assert_eq!(time(&show_time(seconds)), Some(seconds));
            Ok(())
        });
    }
}
