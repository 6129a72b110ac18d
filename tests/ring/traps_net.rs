//! Traps of sockets.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the peers are plain threads, and what shards share is handed out under a lock"
)]

use crate::{alone, limit, on_shard, soon};
use futures_lite::future::or;
use pombal::bytes::buffer::Buffer;
use pombal::bytes::chain::{Chain, Shared};
use pombal::env::ring::{Conn, Detached, Ring, Settings, start};
use pombal::env::{Conn as _, Env as _, Listener as _};
use pombal::mesh::Mesh;
use pombal::model::id::ShardId;
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener stands");
    stream.set_read_timeout(Some(crate::PATIENCE)).expect("a socket takes a timeout");
    stream
}

/// A connection on the shard and its other end.
async fn pair(ring: &Ring) -> (Conn, TcpStream) {
    let listener = ring.listen(loopback()).unwrap();
    let other = client(listener.local());
    (listener.accept().await.unwrap(), other)
}

async fn read_all(conn: &mut Conn, ring: &Ring) -> Vec<u8> {
    let (mut buffer, mut all) = (Buffer::new(), Vec::new());
    while conn.read(&mut buffer, soon(ring)).await.unwrap() > 0 {
        all.extend_from_slice(buffer.filled());
        buffer.consume(buffer.len());
    }
    all
}

fn text(octets: &[u8]) -> Chain {
    let mut chain = Chain::new();
    chain.put(octets);
    chain
}

/// Trap 2: glommio's accept loses the connection when its future is dropped.
#[test]
fn an_accept_that_loses_against_a_timer_loses_no_connection() {
    let clients = 400;
    let (address_to, address) = channel();
    let (done, finished): (Sender<()>, Receiver<()>) = channel();
    let finished = Arc::new(std::sync::Mutex::new(finished));
    let threads = std::thread::spawn(move || {
        let address = address.recv().unwrap();
        for index in 0..clients {
            let mut stream = client(address);
            stream.write_all(&[u8::try_from(index % 256).unwrap()]).unwrap();
            let mut echo = [0];
            stream.read_exact(&mut echo).expect("every connection is served");
        }
        done.send(()).unwrap();
    });
    let lost_races = on_shard(move |ring| {
        let (address_to, finished) = (address_to.clone(), Arc::clone(&finished));
        async move {
            let listener = ring.listen(loopback()).unwrap();
            address_to.send(listener.local()).unwrap();
            let mut lost_races = 0;
            let timer = || async {
                ring.sleep(Duration::from_micros(50)).await;
                None
            };
            while finished.lock().unwrap().try_recv().is_err() {
                let accept = async { Some(listener.accept().await.unwrap()) };
                let Some(mut conn) = or(timer(), accept).await else {
                    lost_races += 1;
                    continue;
                };
                let within = ring.clone();
                ring.spawn(async move {
                    let mut buffer = Buffer::new();
                    if conn.read(&mut buffer, soon(&within)).await.is_ok() {
                        let mut echo = text(buffer.filled());
                        drop(conn.write(&mut echo, soon(&within)).await);
                    }
                    conn.close().await;
                });
            }
            lost_races
        }
    });
    threads.join().expect("every client was served");
    assert!(lost_races > 0, "the timer won at least once, else nothing was shown");
}

/// Trap 11: without descriptors glommio's accept fails in a loop that nobody else gets into.
#[test]
fn a_lack_of_descriptors_is_waited_out_while_others_run() {
    if !alone("traps_net::a_lack_of_descriptors_is_waited_out_while_others_run", |end| {
        end.success()
    }) {
        return;
    }
    on_shard(|ring| async move {
        let listener = Rc::new(ring.listen(loopback()).unwrap());
        let caller = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let caller = caller.unwrap();
        limit(libc::RLIMIT_NOFILE, 256, false);
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::OpenOptions::new().read(true).open("/dev/null") {
            hoard.push(file);
        }
        caller.connect(&listener.local().into()).unwrap();
        let accepted = Rc::new(Cell::new(false));
        let (here, there) = (Rc::clone(&accepted), Rc::clone(&listener));
        ring.spawn(async move {
            let conn = there.accept().await.unwrap();
            here.set(true);
            conn.close().await;
        });
        for _ in 0..100 {
            ring.sleep(Duration::from_millis(1)).await;
        }
        assert!(!accepted.get(), "there is no descriptor for it");
        drop(hoard);
        while !accepted.get() {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Trap 9: a dropped stream with an armed read tells its peer only when the shard next turns.
#[test]
fn the_peer_of_a_dropped_connection_hears_of_it_at_once() {
    on_shard(|ring| async move {
        let (mut conn, mut other) = pair(&ring).await;
        let mut buffer = Buffer::new();
        let read = async { Some(conn.read(&mut buffer, soon(&ring)).await) };
        let timer = async {
            ring.sleep(Duration::from_millis(5)).await;
            None
        };
        assert!(or(read, timer).await.is_none(), "the read is armed and dropped");
        drop(conn);
        // Blocks the whole shard: nothing but the shutdown can have told the peer.
        assert_eq!(other.read(&mut [0]).expect("the end"), 0);
    });
}

/// Trap 10: descriptors that glommio accepts go on to child processes.
#[test]
fn no_socket_goes_on_to_a_child_process() {
    if !alone("traps_net::no_socket_goes_on_to_a_child_process", |end| end.success()) {
        return;
    }
    on_shard(|ring| async move {
        let listener = ring.listen(loopback()).unwrap();
        let to = ring.connect(listener.local(), None, soon(&ring)).await.unwrap();
        let from = listener.accept().await.unwrap();
        let moved = from.detach().unwrap();
        let mut sockets = 0;
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let entry = entry.unwrap();
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            if !target.to_string_lossy().starts_with("socket:") {
                continue;
            }
            let name = entry.file_name().into_string().unwrap();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert!(flags & libc::O_CLOEXEC != 0, "{info}");
            sockets += 1;
        }
        assert!(sockets >= 3, "a listener and two ends, {sockets} found");
        drop((to, moved));
    });
}

/// Trap 14: glommio's vectored write sends the first slice only.
#[test]
fn a_slow_reader_gets_every_slice_in_order() {
    on_shard(|ring| async move {
        let (mut conn, mut other) = pair(&ring).await;
        let mut chain = Chain::new();
        let body: Rc<dyn Shared> = Rc::new((0..=255_u8).cycle().take(100_000).collect::<Vec<_>>());
        for index in 0..300 {
            chain.put(format!("* {index} FETCH\r\n").as_bytes());
            chain.link(&body, index..60_000 + index);
        }
        let want = chain.to_vec();
        let reader = std::thread::spawn(move || {
            let (mut got, mut piece) = (Vec::new(), vec![0; 10_000]);
            loop {
                match other.read(&mut piece).unwrap() {
                    0 => return got,
                    count => got.extend_from_slice(&piece[..count]),
                }
                std::thread::yield_now();
            }
        });
        conn.write(&mut chain, soon(&ring)).await.unwrap();
        assert!(chain.is_empty());
        conn.close().await;
        assert!(reader.join().unwrap() == want, "the octets arrive as they were sent");
    });
}

/// Trap 8: glommio's read timeout fails the next read as well, and its timer stays.
#[test]
fn a_deadline_ends_one_wait_and_leaves_nothing() {
    on_shard(|ring| async move {
        let (mut conn, mut other) = pair(&ring).await;
        let mut buffer = Buffer::new();
        let late = ring.now().after(Duration::from_millis(30));
        let read = conn.read(&mut buffer, late).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(ring.now() >= late, "a deadline is never early");
        other.write_all(b"NOOP\r\n").unwrap();
        assert_eq!(conn.read(&mut buffer, soon(&ring)).await.unwrap(), 6);

        let mut chain = text(&vec![b'x'; 64 << 20]);
        let write = conn.write(&mut chain, ring.now().after(Duration::from_millis(50))).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::TimedOut);
        for _ in 0..1_000 {
            let read = async { conn.read(&mut buffer, soon(&ring)).await.map(drop) };
            or(read, async { Ok(()) }).await.unwrap();
        }
        assert_eq!(ring.armed(), 0, "no alarm outlives its wait");
    });
}

/// Octets that come while nobody reads are there for the next read.
#[test]
fn a_dropped_read_loses_no_octets() {
    on_shard(|ring| async move {
        let (mut conn, mut other) = pair(&ring).await;
        let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let want = sent.clone();
        let writer = std::thread::spawn(move || {
            for piece in sent.chunks(700) {
                other.write_all(piece).unwrap();
            }
            other.shutdown(Shutdown::Write).unwrap();
            other
        });
        let (mut buffer, mut got, mut ended) = (Buffer::new(), Vec::new(), false);
        while !ended {
            let read = async { Some(conn.read(&mut buffer, soon(&ring)).await.unwrap()) };
            let timer = async {
                ring.sleep(Duration::from_micros(20)).await;
                None
            };
            ended = or(timer, read).await == Some(0);
            got.extend_from_slice(buffer.filled());
            buffer.consume(buffer.len());
        }
        assert!(got == want, "every octet, once and in order");
        drop(writer.join().unwrap());
    });
}

/// A close with octets unread makes the kernel send a reset, which can eat the last reply.
#[test]
fn the_last_reply_arrives_although_input_lies_unread() {
    on_shard(|ring| async move {
        for _ in 0..20 {
            let (mut conn, mut other) = pair(&ring).await;
            other.write_all(&vec![b'x'; 100_000]).unwrap();
            let reader = std::thread::spawn(move || {
                let mut reply = String::new();
                other.read_to_string(&mut reply).map(|_| reply)
            });
            let mut last = text(b"421 4.3.2 shutting down\r\n");
            conn.write(&mut last, soon(&ring)).await.unwrap();
            conn.close().await;
            assert_eq!(reader.join().unwrap().unwrap(), "421 4.3.2 shutting down\r\n");
        }
    });
}

#[test]
fn a_connection_moves_to_another_shard_between_two_octets() {
    let (mesh, inboxes) = Mesh::<Detached>::new(2);
    let inboxes = Arc::new(std::sync::Mutex::new(inboxes));
    let (address_to, address) = channel();
    let shards = start(2, Settings::default(), move |ring| {
        let (mesh, inboxes, address_to) = (mesh.clone(), Arc::clone(&inboxes), address_to.clone());
        async move {
            if ring.shard() == ShardId(0) {
                let listener = ring.listen(loopback()).unwrap();
                address_to.send(listener.local()).unwrap();
                let mut conn = listener.accept().await.unwrap();
                let mut buffer = Buffer::new();
                assert_eq!(conn.read(&mut buffer, soon(&ring)).await.unwrap(), 1);
                conn.write(&mut text(b"a"), soon(&ring)).await.unwrap();
                mesh.send(ShardId(1), conn.detach().unwrap()).expect("there is room");
            } else {
                let mut inbox = inboxes.lock().unwrap().pop().expect("the last is ours");
                let mut conn = ring.attach(inbox.recv().await).unwrap();
                assert!(conn.peer().ip().is_loopback());
                let mut rest = text(&read_all(&mut conn, &ring).await);
                conn.write(&mut rest, soon(&ring)).await.unwrap();
                conn.close().await;
            }
        }
    });
    let shards = shards.unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut stream = client(address.recv().unwrap());
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    // From here on the connection is on its way, or there already.
    stream.write_all(b"bcd").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bcd");
    shards.wait();
}

#[test]
fn both_wildcards_can_be_listened_on_and_ipv4_shows_as_itself() {
    on_shard(|ring| async move {
        let four = ring.listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = four.local().port();
        match ring.listen(SocketAddr::new("::".parse().unwrap(), port)) {
            Ok(six) => assert_eq!(six.local().port(), port),
            // A machine without IPv6 cannot show it.
            Err(error) => println!("skipped IPv6: {error}"),
        }
        let other = client(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
        let conn = four.accept().await.unwrap();
        assert_eq!(conn.peer(), other.local_addr().unwrap());
        assert_eq!(conn.local(), other.peer_addr().unwrap());
    });
}

#[test]
fn a_refused_connection_is_told() {
    on_shard(|ring| async move {
        let listener = ring.listen(loopback()).unwrap();
        let address = listener.local();
        drop(listener);
        let refused = ring.connect(address, None, soon(&ring)).await;
        assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::ConnectionRefused));
    });
}

/// Ten thousand idle connections must fit: the buffer is borrowed for the length of a receive.
#[test]
fn a_waiting_read_holds_no_block() {
    on_shard(|ring| async move {
        let (mut conn, mut other) = pair(&ring).await;
        let buffer = Rc::new(RefCell::new(Some(Buffer::new())));
        let (here, within) = (Rc::clone(&buffer), ring.clone());
        ring.spawn(async move {
            let mut own = here.borrow_mut().take().unwrap();
            conn.read(&mut own, soon(&within)).await.unwrap();
            assert_eq!(own.filled(), b"x");
            own.consume(1);
            conn.close().await;
            *here.borrow_mut() = Some(own);
        });
        ring.sleep(Duration::from_millis(5)).await;
        assert!(size_of::<Conn>() <= 8, "{} octets", size_of::<Conn>());
        other.write_all(b"x").unwrap();
        drop(other);
        while buffer.borrow().is_none() {
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
}
