//! Whether an address is one of this machine, asked of the kernel: who listens on all of them is found
//! under each.

use crate::env::ring::facing;
use std::net::IpAddr;

/// Whether this machine has the address, now. What the kernel does not say counts as no.
///
/// A list of all addresses takes a socket of another family, which the unit of systemd shuts out.
pub(super) fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || facing(ip).is_ok_and(|own| own == ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn knows_the_addresses_of_this_machine() {
        assert!(is_here(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77))));
        let other = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
        assert!(!is_here(other));
        // One that is not the loopback's, where there is one.
        if let Ok(own) = facing(other) {
            assert!(is_here(own), "{own}");
        }
    }
}
