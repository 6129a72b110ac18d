//! When sessions answer, and when they end: SMTP, POP3 and IMAP on a whole shard of a simulated
//! machine, whose clock and disk are part of the test.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panic")]

#[expect(dead_code, reason = "clients of other tests need more of it")]
#[path = "sim/peer.rs"]
mod peer;

use peer::Peer;
use pombal::auth::{Cost, Pool, hash};
use pombal::config::Config;
use pombal::env::Env as _;
use pombal::env::sim::{Faults, Sim, SimEnv};
use pombal::mesh::Mesh;
use pombal::model::id::LogId;
use pombal::node::shard::{Plan, assemble, begin, open_state, publish_directory};
use pombal::server::listener::{self, Protocol};
use pombal::server::shard::Figures;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const USER: &str = "u@example.org";
const SMTP: u16 = 25;
const POP3: u16 = 110;
const IMAP: u16 = 143;

/// RFC 2920 §3.2 (5, 6): these answers do not wait for the commit that is pipelined behind them.
#[test]
fn noop_is_answered_before_what_is_pipelined_behind_it() {
    let sim = Sim::new(1, Faults { disk_micros: (3_000_000, 3_000_000), ..Faults::none() });
    sim.allow_leaks();
    let env = sim.env(0);
    let asking = async {
        boot(&env).await;
        let mut peer = connect(&env, SMTP).await;
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
        let login = format!("a LOGIN {USER} secret\r\n");
        for (port, first, octet) in [
            (SMTP, "", "N"),
            (SMTP, &*long, "x"),
            (POP3, "", "N"),
            (POP3, &*long, "x"),
            (IMAP, &*login, "n"),
            (IMAP, &*format!("{login}a LOGIN {{100000+}}\r\n"), "n"),
            (IMAP, &*format!("{login}a NOOP\r\nb IDLE\r\n"), "D"),
        ] {
            let mut peer = connect(&env, port).await;
            peer.send(first.as_bytes()).await.unwrap();
            let begun = env.now();
            while peer.send(octet.as_bytes()).await.is_ok() {
                let waited = env.now().since(begun);
                assert!(waited < Duration::from_mins(7), "port {port}: {first:.40}");
                env.sleep(Duration::from_secs(20)).await;
            }
            assert!(env.now().since(begun) > Duration::from_mins(4), "port {port}: {first:.40}");
        }
    };
    sim.run_until(dripping).unwrap();
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A client that was greeted.
async fn connect(env: &SimEnv, port: u16) -> Peer {
    let mut peer = Peer::connect(env, address(port)).await.unwrap();
    peer.line().await.unwrap();
    peer
}

/// A shard with one user, which listens.
async fn boot(env: &SimEnv) {
    let config = Config::small(Path::new("/data"));
    let mut plan = Plan::new(config, 77, 1, Pool::inline(Cost::LEAST), [7; 32]);
    plan.store.may_create = true;
    let (mesh, mut inboxes) = Mesh::with_capacity(1, 8);
    let inbox = inboxes.remove(0);
    let id = inbox.shard();
    let (state, _) = open_state(env.clone(), &plan, LogId(0)).await.unwrap();
    let shard = assemble(env.clone(), &plan, id, &state, mesh, Figures::default());
    begin(&shard, inbox, &state.ledger).await;
    for (port, protocol) in [(SMTP, Protocol::Smtp), (POP3, Protocol::Pop3), (IMAP, Protocol::Imap)]
    {
        let listener = env.listen(address(port)).unwrap();
        env.spawn(listener::serve(Rc::clone(&shard), listener, protocol));
    }
    let turn = state.ledger.turn().unwrap();
    let drafted = turn.draft(|draft| {
        draft.add_domain("example.org", env.wall())?;
        let hash = hash("secret", &[7; 16], Cost::LEAST).unwrap();
        draft.add_user(USER, &hash, 0, env.wall()).map(|_| ())
    });
    state.log.append(drafted.unwrap().1).await.unwrap();
    drop(turn);
    publish_directory(&shard, &state.ledger).await;
}
