//! What is held against a client before its mail is looked at: rates, names, lists, patience; and
//! signatures of what leaves.
//!
//! Pure: the time is an argument, and so are answers of the DNS. What is remembered has a fixed
//! size and is made of atomic words, so that all shards share it and none waits for another
//! (docs/decisions/0014-abuse.md).

pub mod checks;
pub mod dkim;
pub mod dns_list;
pub mod greylist;
pub mod moments;
pub mod rate;

pub use checks::Checks;
pub use rate::{Rate, Sketch};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that an address counts for beside itself: IPv4 /24, IPv6 /48 (an IPv6 /64 is one
/// address: [`crate::model::site::site`]).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_network_of_an_address() {
        let check = |address: &str, want: &str| {
            assert_eq!(network(address.parse().unwrap()).to_string(), want);
        };
        check("192.0.2.77", "192.0.2.0");
        check("::ffff:192.0.2.77", "192.0.2.0");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1::");
    }
}
