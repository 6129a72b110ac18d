//! Where connections come from: readiness first, then `accept4`, so that none is ever lost.
//!
//! glommio's own accept is an operation of the kernel: if its future is dropped because a timer
//! was faster, the connection is accepted all the same and nobody has it. Here the kernel only
//! says that somebody waits; a dropped wait takes nobody along.

use super::clock::{Alarm, Clock, now};
use super::conn::{Conn, adopt};
use futures_lite::AsyncRead as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Connections that may wait for an accept; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4_096;
/// The pause while descriptors or memory are short; others close theirs meanwhile.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A socket that has its address and takes no connections yet. To be bound it may need a privilege
/// that is given up before the shard starts which will listen on it.
pub struct Bound(Socket);

/// Binds a TCP socket that may share `address` with other shards' sockets.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    // `Socket::new` asks for CLOEXEC by itself.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be had, each with its own settings.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(Bound(socket))
}

/// A listening socket, one per shard; the kernel spreads connections over them.
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
    clock: Rc<Clock>,
}

impl Listener {
    pub(super) fn on(Bound(socket): Bound, clock: &Rc<Clock>) -> io::Result<Listener> {
        socket.listen(BACKLOG)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Listener { socket, local, clock: Rc::clone(clock) })
    }

    async fn next(&self) -> io::Result<Conn> {
        loop {
            // Before the accept: after it there may be no await, or a drop loses a connection.
            glommio::executor().yield_if_needed().await;
            let error = match self.socket.accept() {
                Ok((socket, peer)) => match Conn::accepted(socket, peer.as_socket(), &self.clock) {
                    Ok(conn) => return Ok(conn),
                    // It was reset before we looked at it.
                    Err(_) => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.readable().await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    Alarm::new(&self.clock, now().after(SHORTAGE_PAUSE)).await;
                }
                Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) | None => {
                    return Err(error);
                }
                // The rest is about the one connection that was to be accepted (accept(2)).
                Some(_) => {}
            }
        }
    }

    /// Waits until somebody wants to connect.
    async fn readable(&self) -> io::Result<()> {
        // glommio waits for no bare descriptor; but a stream that it is given arms a poll before
        // its first read, and that read then fails on a listening socket, which is all we want.
        let mut probe = adopt(self.socket.try_clone()?.into());
        // ENOTCONN is the good news.
        let read = poll_fn(|context| Pin::new(&mut probe).poll_read(context, &mut [])).await;
        drop(read);
        Ok(())
    }
}

impl crate::env::Listener for Listener {
    type Conn = Conn;

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&self) -> io::Result<Conn> {
        self.next().await
    }
}
