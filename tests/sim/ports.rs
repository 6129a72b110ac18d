//! Where a shard on a simulated machine listens.

use pombal::env::Env as _;
use pombal::env::sim::SimEnv;
use pombal::server::listener::{Protocol, serve};
use pombal::server::shard::Shard;
use std::net::SocketAddr;
use std::rc::Rc;

const ALL: [Protocol; 5] =
    [Protocol::Smtp, Protocol::Lmtp, Protocol::Submission, Protocol::Pop3, Protocol::Imap];

/// Where a protocol is spoken.
pub(crate) fn address(protocol: Protocol) -> SocketAddr {
    let port = match protocol {
        Protocol::Smtp => 25,
        Protocol::Lmtp => 24,
        Protocol::Submission => 587,
        Protocol::Pop3 => 110,
        Protocol::Imap => 143,
    };
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Serves all protocols.
pub(crate) fn listen(shard: &Rc<Shard<SimEnv>>) {
    for protocol in ALL {
        let listener = shard.env.listen(address(protocol)).expect("nobody else listens there");
        shard.env.spawn(serve(Rc::clone(shard), listener, protocol));
    }
}
