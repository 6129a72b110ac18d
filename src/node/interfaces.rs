//! Whether an address is one of this machine, asked of the kernel: who listens on all of them is found
//! under each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether this machine has the address, now. What the kernel does not say counts as no.
///
/// Nothing is sent: the kernel is asked what address of ours would be that of a packet to there, which is
/// the same one where it is ours. A list of all addresses takes a socket of another family, which the
/// unit of systemd shuts out.
pub(super) fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || facing(ip).is_ok_and(|own| own == ip)
}

/// The address of ours that faces another one.
fn facing(ip: IpAddr) -> io::Result<IpAddr> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // No packet goes out, so that any port but 0 will do.
    socket.connect((ip, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

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
