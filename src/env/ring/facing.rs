//! Which address of this machine faces another one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address of this machine that a packet to `ip` would come from: `ip` itself where that is one of
/// ours. Nothing is sent. An error: there is no way to it, or there are no sockets of its kind.
pub fn facing(ip: IpAddr) -> io::Result<IpAddr> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // No packet goes out, so that any port but 0 will do.
    socket.connect((ip, 9))?;
    Ok(socket.local_addr()?.ip())
}
