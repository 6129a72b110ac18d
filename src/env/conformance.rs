//! What every machine must do, written once and run on each: the promises of [`Env`], [`File`],
//! [`Conn`] and [`Listener`] that can be seen without a crash.
//!
//! A machine's own tests call these on one of its shards; a check panics where a promise is broken.

use super::{BLOCK_OCTETS, Conn, Env, File, Listener, Presence};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::{Chain, Shared};
use crate::model::time::Mono;
use futures_lite::future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const BLOCK: u64 = BLOCK_OCTETS as u64;
/// Long enough for anything that comes at all.
const LONG: Duration = Duration::from_secs(20);

/// Octets that tell their place, so that any swap or gap shows.
fn pattern(len: usize) -> Vec<u8> {
    let round: Vec<u8> = (0..251).collect();
    let mut octets = round.repeat(len.div_ceil(round.len()));
    octets.truncate(len);
    octets
}

fn soon<E: Env>(env: &E) -> Mono {
    env.now().after(LONG)
}

/// Names: made, listed, taken, gone.
pub async fn keeps_names<E: Env>(env: &E, dir: &Path) {
    let deep = dir.join("one/two");
    assert_eq!(env.list(&deep).await.unwrap_err().kind(), ErrorKind::NotFound);
    env.make_dir(&deep).await.expect("parents are made too");
    env.make_dir(&deep).await.expect("it may be there already");
    assert_eq!(env.list(&deep).await.unwrap(), Vec::<String>::new());
    for name in ["b", "a"] {
        let file = env.create(&deep.join(name), 2 * BLOCK).await.expect("there is room");
        assert_eq!(file.len(), 2 * BLOCK);
        file.close().await.unwrap();
    }
    assert_eq!(env.list(&deep).await.unwrap(), ["a", "b"]);
    let again = env.create(&deep.join("a"), BLOCK).await;
    assert_eq!(again.map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let absent = env.open(&deep.join("c")).await;
    assert_eq!(absent.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    let orphan = env.create(&dir.join("nowhere/c"), BLOCK).await;
    assert_eq!(orphan.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    for name in ["a", "b"] {
        env.remove(&deep.join(name)).await.unwrap();
    }
    assert_eq!(env.remove(&deep.join("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(env.list(&deep).await.unwrap(), Vec::<String>::new());
}

/// Octets: zeros at first, then what was written, whoever else writes and reads meanwhile.
pub async fn keeps_octets<E: Env>(env: &E, dir: &Path) {
    env.make_dir(dir).await.unwrap();
    let path = dir.join("octets");
    let file = env.create(&path, 8 * BLOCK).await.unwrap();
    let zeros = file.read_at(0, 8 * BLOCK_OCTETS).await.unwrap();
    assert!(zeros.iter().all(|&octet| octet == 0));
    let write = |octet: u8, at: u64| {
        let mut block = file.alloc(2 * BLOCK_OCTETS);
        assert_eq!(block.len(), 2 * BLOCK_OCTETS);
        block.as_mut().fill(octet);
        file.write_at(block, at)
    };
    let (first, second) = future::zip(write(1, 0), write(2, 4 * BLOCK)).await;
    first.unwrap();
    second.unwrap();
    let (synced, view) = future::zip(file.sync(), file.read_at(BLOCK, 4 * BLOCK_OCTETS)).await;
    synced.unwrap();
    file.close().await.unwrap();
    let view = view.unwrap();
    let octets: Vec<u8> = view.iter().step_by(BLOCK_OCTETS).copied().collect();
    assert_eq!(octets, [1, 0, 0, 2], "a view outlives its file");
    let file = env.open(&path).await.unwrap();
    assert_eq!(file.len(), 8 * BLOCK);
    let view = file.read_at(0, 8 * BLOCK_OCTETS).await.unwrap();
    let octets: Vec<u8> = view.iter().step_by(BLOCK_OCTETS).copied().collect();
    assert_eq!(octets, [1, 1, 0, 0, 2, 2, 0, 0]);
    file.close().await.unwrap();
    env.remove(&path).await.unwrap();
}

/// A connected pair: the end that connected, and the end that accepted.
async fn pair<E: Env>(env: &E) -> (E::Conn, E::Conn) {
    let listener = env.listen(any_port()).expect("a port is free");
    let address = listener.local();
    assert_ne!(address.port(), 0);
    let (near, far) = future::zip(env.connect(address, None, soon(env)), listener.accept()).await;
    let (near, far) = (near.expect("somebody listens"), far.expect("somebody connects"));
    assert_eq!(near.peer(), address);
    assert_eq!(far.local(), address);
    assert_eq!(far.peer(), near.local());
    (near, far)
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Reads until the other side ends.
async fn read_all<E: Env>(env: &E, conn: &mut E::Conn) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = Buffer::new();
    while conn.read(&mut buffer, soon(env)).await.expect("nothing breaks it") > 0 {
        all.extend_from_slice(buffer.filled());
        buffer.consume(buffer.len());
    }
    all
}

/// More than any window goes both ways at once, in order, and ends.
pub async fn carries_octets_in_order<E: Env>(env: &E) {
    let (mut near, mut far) = pair(env).await;
    let octets = pattern(3 << 20);
    let body: Rc<dyn Shared> = Rc::new(octets.clone());
    let send = async {
        let mut chain = Chain::new();
        chain.put(b"short ");
        chain.link(&body, 0..body.len());
        chain.put(b"end");
        near.write(&mut chain, soon(env)).await.unwrap();
        assert!(chain.is_empty());
        near.close().await;
    };
    let ((), got) = future::zip(send, read_all(env, &mut far)).await;
    assert_eq!(got.len(), octets.len() + 9);
    assert!(got.starts_with(b"short ") && got.ends_with(b"end"));
    assert!(got[6..got.len() - 3] == octets, "octets changed their places");
    far.close().await;
}

/// Deadlines end reads and writes, and take nothing with them.
pub async fn keeps_deadlines<E: Env>(env: &E) {
    let (mut near, mut far) = pair(env).await;
    let mut buffer = Buffer::new();
    let deadline = env.now().after(Duration::from_millis(5));
    let late = far.read(&mut buffer, deadline).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(env.now() >= deadline);
    let mut chain = Chain::new();
    chain.put(b"later");
    near.write(&mut chain, soon(env)).await.unwrap();
    while buffer.len() < 5 {
        // A read that is dropped loses nothing.
        let glance = async {
            env.breathe().await;
            Ok(0)
        };
        future::or(far.read(&mut buffer, soon(env)), glance).await.unwrap();
        env.sleep(Duration::from_micros(50)).await;
    }
    assert_eq!(buffer.filled(), b"later");
    let body: Rc<dyn Shared> = Rc::new(pattern(64 << 20));
    chain.link(&body, 0..body.len());
    let stuck = near.write(&mut chain, env.now().after(Duration::from_millis(5))).await;
    assert_eq!(stuck.unwrap_err().kind(), ErrorKind::TimedOut, "nobody reads so much");
    far.close().await;
    near.close().await;
}

/// A connection goes to another task with what it has not read yet.
pub async fn moves_connections<E: Env>(env: &E) {
    let (mut near, mut far) = pair(env).await;
    let mut chain = Chain::new();
    chain.put(b"before ");
    near.write(&mut chain, soon(env)).await.unwrap();
    let peer = far.peer();
    let detached = far.detach().expect("an open connection can be moved");
    chain.put(b"after");
    near.write(&mut chain, soon(env)).await.unwrap();
    far = env.attach(detached).expect("it was just let go of");
    assert_eq!(far.peer(), peer);
    near.close().await;
    assert_eq!(read_all(env, &mut far).await, b"before after");
    far.close().await;
}

/// Who has ended his side, or has gone, is known without a read.
pub async fn tells_who_has_gone<E: Env>(env: &E) {
    async fn until<E: Env>(env: &E, conn: &E::Conn, what: Presence) {
        let deadline = soon(env);
        while conn.presence() != what {
            assert!(env.now() < deadline, "{what:?} does not come: {:?}", conn.presence());
            env.sleep(Duration::from_micros(50)).await;
        }
    }
    let (mut near, mut far) = pair(env).await;
    assert_eq!((near.presence(), far.presence()), (Presence::Here, Presence::Here));
    let mut chain = Chain::new();
    chain.put(b"unread");
    near.write(&mut chain, soon(env)).await.unwrap();
    assert_eq!(far.presence(), Presence::Here, "octets that lie there are no end");
    drop(near);
    while far.presence() == Presence::Here {
        env.sleep(Duration::from_micros(50)).await;
    }
    // If the end was all that came, it takes an answer to learn the rest.
    chain.put(b"are you there?");
    let told = far.write(&mut chain, soon(env)).await;
    assert!(told.is_ok() || far.presence() == Presence::Gone);
    until(env, &far, Presence::Gone).await;
}

/// Nobody listens, nobody accepts for a while, an accept is given up.
pub async fn opens_connections<E: Env>(env: &E) {
    let listener = env.listen(any_port()).unwrap();
    let address = listener.local();
    let given_up = future::or(async { listener.accept().await.map(drop) }, async {
        env.sleep(Duration::from_millis(1)).await;
        Ok(())
    });
    given_up.await.unwrap();
    let near = env.connect(address, None, soon(env)).await.expect("the backlog takes it");
    let far = listener.accept().await.unwrap();
    assert_eq!(far.peer(), near.local());
    near.close().await;
    far.close().await;
    let source = IpAddr::from([127, 0, 0, 7]);
    let near = env.connect(address, Some(source), soon(env)).await.expect("it is ours");
    assert_eq!(near.local().ip(), source);
    let far = listener.accept().await.unwrap();
    assert_eq!(far.peer(), near.local());
    near.close().await;
    far.close().await;
    let other = Some(IpAddr::from(Ipv6Addr::LOCALHOST));
    let other = env.connect(address, other, soon(env)).await.map(drop);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AddrNotAvailable, "of another family");
    drop(listener);
    let refused = env.connect(address, None, soon(env)).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Everything above, one after the other, with files in `dir`.
pub async fn keeps_every_promise<E: Env>(env: &E, dir: &Path) {
    keeps_names(env, dir).await;
    keeps_octets(env, dir).await;
    opens_connections(env).await;
    carries_octets_in_order(env).await;
    keeps_deadlines(env).await;
    moves_connections(env).await;
    tells_who_has_gone(env).await;
}
