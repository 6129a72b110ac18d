//! Where a shard on a simulated machine listens.

use pombal::env::Env as _;
use pombal::env::sim::SimEnv;
use pombal::server::listener::{Protocol, serve};
use pombal::server::shard::Shard;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

const ALL: [Protocol; 5] =
    [Protocol::Smtp, Protocol::Lmtp, Protocol::Submission, Protocol::Pop3, Protocol::Imap];

/// The host of a simulation that has but one.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where a protocol is spoken.
pub(crate) fn address(protocol: Protocol) -> SocketAddr {
    address_at(HERE, protocol)
}

/// Where a protocol is spoken on a host.
pub(crate) fn address_at(ip: IpAddr, protocol: Protocol) -> SocketAddr {
    let port = match protocol {
        Protocol::Smtp => 25,
        Protocol::Lmtp => 24,
        Protocol::Submission => 587,
        Protocol::Pop3 => 110,
        Protocol::Imap => 143,
    };
    SocketAddr::new(ip, port)
}

/// Serves all protocols on a host.
pub(crate) fn listen(shard: &Rc<Shard<SimEnv>>, ip: IpAddr) {
    for protocol in ALL {
        let address = address_at(ip, protocol);
        let listener = shard.env.listen(address).expect("nobody else listens there");
        shard.env.spawn(serve(Rc::clone(shard), listener, protocol));
    }
}
