//! Where a client comes from, as far as it counts as one.

use std::net::{IpAddr, Ipv6Addr};

/// One IPv4 address, or one IPv6 /64: what one customer has. An IPv4 address that is written as an
/// IPv6 one, as sockets for both do, is the IPv4 address.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_net_for_one_and_a_mapped_address_for_what_it_is() {
        let check = |address: &str, want: &str| {
            assert_eq!(site(address.parse().unwrap()).to_string(), want);
        };
        check("192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
