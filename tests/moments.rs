//! When sessions answer, and when they end: SMTP, POP3 and IMAP on a whole shard of a simulated
//! machine, whose clock and disk are part of the test.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panic")]

#[expect(dead_code, reason = "clients of other tests need more of it")]
#[path = "sim/peer.rs"]
mod peer;
#[path = "sim/ports.rs"]
mod ports;
#[path = "sim/single.rs"]
mod single;

use peer::Peer;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::server::listener::Protocol;
use ports::address;
use single::{PASSWORD, plan};
use std::time::Duration;

const USER: &str = "u@example.org";

/// RFC 2920 §3.2 (5, 6): these answers do not wait for the commit that is pipelined behind them.
#[test]
fn noop_is_answered_before_what_is_pipelined_behind_it() {
    let sim = Sim::new(1, Faults { disk_micros: (3_000_000, 3_000_000), ..Faults::none() });
    sim.allow_leaks();
    let env = sim.env(0);
    let asking = async {
        boot(&env).await;
        let mut peer = connect(&env, Protocol::Smtp).await;
        for first in ["NOOP", "EHLO a", "VRFY a", "FOO"] {
            let begun = env.now();
            let rest = format!(
                "{first}\r\nRSET\r\nHELO a\r\nMAIL FROM:<>\r\nRCPT TO:<{USER}>\r\n\
                 BDAT 8 LAST\r\na: b\r\n\r\n"
            );
            peer.send(rest.as_bytes()).await.unwrap();
            peer.reply().await.unwrap();
            assert!(env.now().since(begun) < Duration::from_secs(1), "{first} waited");
            for _ in 0..5 {
                assert_eq!(peer.reply().await.unwrap().0, 250, "behind {first}");
            }
            assert!(env.now().since(begun) > Duration::from_secs(2), "the commit takes its time");
        }
    };
    sim.run_until(asking).unwrap();
}

/// A client that sends an octet now and then does not keep its connection for ever, in none of the
/// protocols, logged in or not, by a line that is too long as well.
#[test]
fn a_command_that_drips_has_an_end() {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let env = sim.env(0);
    let dripping = async {
        boot(&env).await;
        let long = "x".repeat(20_000);
        let login = format!("a LOGIN {USER} {PASSWORD}\r\n");
        for (protocol, first, octet) in [
            (Protocol::Smtp, "", "N"),
            (Protocol::Smtp, &*long, "x"),
            (Protocol::Pop3, "", "N"),
            (Protocol::Pop3, &*long, "x"),
            (Protocol::Imap, &*login, "n"),
            (Protocol::Imap, &*format!("{login}a LOGIN {{100000+}}\r\n"), "n"),
            (Protocol::Imap, &*format!("{login}a NOOP\r\nb IDLE\r\n"), "D"),
        ] {
            let mut peer = connect(&env, protocol).await;
            peer.send(first.as_bytes()).await.unwrap();
            let begun = env.now();
            while peer.send(octet.as_bytes()).await.is_ok() {
                let waited = env.now().since(begun);
                assert!(waited < Duration::from_mins(7), "{protocol:?}: {first:.40}");
                env.sleep(Duration::from_secs(20)).await;
            }
            assert!(env.now().since(begun) > Duration::from_mins(4), "{protocol:?}: {first:.40}");
        }
    };
    sim.run_until(dripping).unwrap();
}

/// A client that was greeted.
async fn connect(env: &SimEnv, protocol: Protocol) -> Peer {
    let mut peer = Peer::connect(env, address(protocol)).await.unwrap();
    peer.line().await.unwrap();
    peer
}

/// A shard with one user.
async fn boot(env: &SimEnv) {
    single::boot(env, &plan(), &[USER.into()], 0).await;
}
