//! Clients that send an octet now and then.

use super::script::{Dialog, PASSWORD, Wire as _};
use super::{PATIENCE, Peer, boot, user};
use pombal::bytes::buffer::Buffer;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::server::listener::{self, Protocol};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// None of them keeps its connection for ever, in none of the protocols, logged in or not, by a
/// line that is too long as well.
#[test]
fn a_command_that_drips_has_an_end() {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let env = sim.env(0);
    let dripping = async {
        let (shard, imap) = boot(&env, &Dialog::default(), 1).await;
        let listen = |port: u16, protocol| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let listener = env.listen(address).unwrap();
            env.spawn(listener::serve(Rc::clone(&shard), listener, protocol));
            address
        };
        let (smtp, pop3) = (listen(25, Protocol::Smtp), listen(110, Protocol::Pop3));
        let long = "x".repeat(20_000);
        let login = format!("in LOGIN {} {PASSWORD}\r\n", user(0));
        for (address, login, first, octet) in [
            (smtp, "", "", "N"),
            (smtp, "", &*long, "x"),
            (pop3, "", "", "N"),
            (pop3, "", &*long, "x"),
            (imap, &*login, "", "n"),
            (imap, &*login, "a LOGIN {100000+}\r\n", "n"),
            (imap, &*login, "a NOOP\r\nb IDLE\r\n", "D"),
        ] {
            let mut peer = connect(&env, address).await;
            if !login.is_empty() {
                peer.send(login.as_bytes()).await.unwrap();
                peer.receive().await.unwrap();
            }
            peer.send(first.as_bytes()).await.unwrap();
            let begun = env.now();
            while peer.send(octet.as_bytes()).await.is_ok() {
                let waited = env.now().since(begun);
                assert!(waited < Duration::from_mins(7), "{address} {first:.20} {octet}");
                env.sleep(Duration::from_secs(20)).await;
            }
            assert!(env.now().since(begun) > Duration::from_mins(4), "{address} {first:.20}");
        }
    };
    sim.run_until(dripping).unwrap();
}

/// A connection whose greeting was read.
async fn connect(env: &SimEnv, address: SocketAddr) -> Peer {
    let conn = env.connect(address, env.now().after(PATIENCE)).await.unwrap();
    let mut peer = Peer { env: env.clone(), conn, buffer: Buffer::new() };
    peer.receive().await.unwrap();
    peer
}
