//! The addresses of this machine, asked of the kernel: who listens on all of them is found under each.

use crate::probe::event::{Level, Value, event};
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The addresses as they were when they were asked for last.
#[derive(Clone, Debug, Default)]
pub(super) struct Interfaces {
    addresses: Arc<BTreeSet<IpAddr>>,
    /// The operator was told that the kernel does not say.
    is_told: bool,
}

impl Interfaces {
    pub(super) fn of(addresses: Arc<BTreeSet<IpAddr>>) -> Interfaces {
        Interfaces { addresses, is_told: false }
    }

    /// Asks the kernel. Whether there are others than before; where it does not say, they stay.
    pub(super) fn look(&mut self) -> bool {
        match getifaddrs() {
            Ok(all) => {
                let address = |address: nix::sys::socket::SockaddrStorage| {
                    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
                };
                let found: BTreeSet<IpAddr> =
                    all.filter_map(|one| one.address.and_then(address)).collect();
                self.is_told = false;
                let is_new = found != *self.addresses;
                if is_new {
                    self.addresses = Arc::new(found);
                }
                is_new
            }
            Err(error) => {
                if !self.is_told {
                    event(Level::Warn, "addresses_unknown", &[("why", Value::Shown(&error))]);
                    self.is_told = true;
                }
                false
            }
        }
    }

    pub(super) fn addresses(&self) -> &Arc<BTreeSet<IpAddr>> {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn knows_the_addresses_of_this_machine() {
        let mut interfaces = Interfaces::default();
        assert!(interfaces.look() && !interfaces.look());
        assert!(interfaces.addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!interfaces.addresses().contains(&IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))));
    }
}
