//! The network, and the promises that the simulation shares with the real machine.

use super::*;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Listener, conformance};
use futures_lite::future;
use std::io::ErrorKind;
use std::net::SocketAddr;

#[test]
fn keeps_every_promise_of_a_machine() {
    for seed in 0..20 {
        let faults = if seed % 2 == 0 { Faults::none() } else { Faults::rough() };
        // Millions of octets in crumbs take too long.
        let sim = Sim::new(seed, Faults { cuts: faults.cuts / 10, ..faults });
        let env = sim.env(0);
        sim.run_until(conformance::keeps_every_promise(&env, Path::new("/data"))).unwrap();
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 25))
}

/// Both ends of a new connection, the one that connected first.
async fn pair(env: &SimEnv) -> (net::SimConn, net::SimConn) {
    let listener = env.listen(address()).unwrap();
    let (near, far) =
        future::zip(env.connect(address(), None, Mono::NEVER), listener.accept()).await;
    (near.unwrap(), far.unwrap())
}

/// Reads to the end; what came, and how it ended.
async fn drain(conn: &mut net::SimConn, deadline: Mono) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut buffer = Buffer::new();
    loop {
        match conn.read(&mut buffer, deadline).await {
            Ok(0) => return (all, Ok(())),
            Ok(count) => {
                assert_eq!(count, buffer.len());
                all.extend_from_slice(buffer.filled());
                buffer.consume(count);
            }
            Err(error) => return (all, Err(error)),
        }
    }
}

/// Many small writes arrive in order whatever the cuts; resets keep a front part only.
#[test]
fn delivers_in_order_under_every_fault() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..300 {
        let faults = Faults { resets: 10_000, cuts: 500_000, window_octets: 64, ..Faults::none() };
        let sim = Sim::new(seed, faults);
        let env = sim.env(0);
        let sent: Vec<u8> =
            (0..3_000_u64).map(|at| at.to_le_bytes()[usize::from(at % 7 == 0)]).collect();
        let chance = sim.chance();
        let (got, end) = sim
            .run_until(async {
                let (mut near, mut far) = pair(&env).await;
                let send = async {
                    let mut rest = &sent[..];
                    while !rest.is_empty() {
                        let (front, back) = rest.split_at(1 + chance.index(rest.len().min(200)));
                        let mut chain = Chain::new();
                        chain.put(front);
                        if near.write(&mut chain, Mono::NEVER).await.is_err() {
                            break;
                        }
                        rest = back;
                    }
                    near.close().await;
                };
                let ((), drained) = future::zip(send, drain(&mut far, Mono::NEVER)).await;
                drained
            })
            .unwrap();
        match end {
            Ok(()) => {
                assert!(got == sent, "seed {seed}");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert!(sent.starts_with(&got), "seed {seed}");
                broken += 1;
            }
        }
    }
    assert!(whole > 50 && broken > 20, "{whole} whole, {broken} broken");
}

#[test]
fn makes_a_writer_wait_for_its_reader() {
    let sim = Sim::new(1, Faults { window_octets: 100, ..Faults::none() });
    let env = sim.env(0);
    sim.run_until(async {
        let (mut near, far) = pair(&env).await;
        let mut chain = Chain::new();
        chain.put(&[7; 1_000]);
        let late = near.write(&mut chain, env.now().after(Duration::from_secs(1))).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(chain.len(), 900);
        drop(far);
        env.sleep(Duration::from_secs(1)).await;
        let gone = near.write(&mut chain, Mono::NEVER).await;
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::ConnectionReset, "it left octets unread");
    })
    .unwrap();
}

#[test]
fn wakes_a_waiting_writer_when_its_reader_goes() {
    let sim = Sim::new(1, Faults { window_octets: 100, ..Faults::none() });
    let env = sim.env(0);
    sim.run_until(async {
        let (mut near, far) = pair(&env).await;
        let mut chain = Chain::new();
        chain.put(&[7; 1_000]);
        let close = async {
            env.sleep(Duration::from_secs(1)).await;
            far.close().await;
        };
        let (_, ()) = future::zip(near.write(&mut chain, Mono::NEVER), close).await;
        env.sleep(Duration::from_secs(1)).await;
        chain.put(b"more");
        let gone = near.write(&mut chain, Mono::NEVER).await;
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::BrokenPipe);
    })
    .unwrap();
}

#[test]
fn reads_on_after_it_has_finished_writing() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let (asked, answered) = sim
        .run_until(async {
            let (mut near, mut far) = pair(&env).await;
            let mut chain = Chain::new();
            chain.put(b"question");
            near.write(&mut chain, Mono::NEVER).await.unwrap();
            near.finish();
            let asked = drain(&mut far, Mono::NEVER).await.0;
            chain.put(b"answer");
            far.write(&mut chain, Mono::NEVER).await.unwrap();
            far.close().await;
            (asked, drain(&mut near, Mono::NEVER).await.0)
        })
        .unwrap();
    assert_eq!((&asked[..], &answered[..]), (&b"question"[..], &b"answer"[..]));
}

#[test]
fn falls_silent_when_stalled_and_only_deadlines_help() {
    let sim = Sim::new(1, Faults { stalls: faults::ALWAYS, ..Faults::none() });
    let env = sim.env(0);
    let (got, end) = sim
        .run_until(async {
            let (mut near, mut far) = pair(&env).await;
            let mut chain = Chain::new();
            chain.put(b"lost");
            near.write(&mut chain, Mono::NEVER).await.unwrap();
            near.close().await;
            drain(&mut far, env.now().after(Duration::from_mins(5))).await
        })
        .unwrap();
    assert!(got.is_empty());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn ends_a_connection_that_nobody_took_over() {
    let sim = Sim::new(1, Faults::none());
    let env = sim.env(0);
    let end = sim.run_until(async {
        let (mut near, far) = pair(&env).await;
        let detached = far.detach().unwrap();
        let lose = async {
            env.sleep(Duration::from_secs(1)).await;
            drop(detached);
        };
        future::zip(drain(&mut near, Mono::NEVER), lose).await.0
    });
    end.expect("the end of the stream is seen").1.expect("no octets were left unread");
}

#[test]
fn spreads_connections_over_the_listeners_of_an_address() {
    let sim = Sim::new(1, Faults::none());
    let counts: Rc<[Cell<u32>; 3]> = Rc::default();
    for shard in 0..3 {
        let (env, counts) = (sim.env(shard), Rc::clone(&counts));
        let listener = env.listen(SocketAddr::from(([0; 4], 25))).unwrap();
        sim.env(shard).spawn(async move {
            while let Ok(conn) = listener.accept().await {
                assert_eq!(conn.peer(), SocketAddr::from(([10, 0, 0, 9], 99)));
                let count = &counts[usize::from(shard)];
                count.set(count.get() + 1);
                conn.close().await;
            }
        });
    }
    let env = sim.env(9);
    sim.run_until(async {
        let source = SocketAddr::from(([10, 0, 0, 9], 99));
        for _ in 0..60 {
            let conn = env.connect_from(source, address(), Mono::NEVER).await.unwrap();
            conn.close().await;
        }
        env.sleep(Duration::from_secs(1)).await;
    })
    .unwrap();
    assert_eq!(counts.iter().map(Cell::get).sum::<u32>(), 60);
    assert!(counts.iter().all(|count| count.get() > 5));
    sim.kill(0);
    sim.kill(1);
    sim.kill(2);
    let refused = sim.run_until(env.connect(address(), None, Mono::NEVER)).unwrap().map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
