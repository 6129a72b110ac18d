//! A TCP stream: reads into a borrowed block, gathers its writes, ends without losing the last reply.
//!
//! glommio waits here, and nothing else of it is used:
//!   - a read does its `recv` while it is polled, so a dropped read loses no octets, and a block
//!     is borrowed for the length of that call only: an idle connection holds no buffer
//!   - glommio's read timeout outlives a cancelled read; deadlines are alarms of the wheel
//!   - its `write_vectored` sends the first slice only; writes are `sendmsg` of many
//!   - a dropped stream keeps its socket open until the kernel's poll is called off, a turn of the
//!     reactor later; the peer is told by a shutdown at once
#![expect(unsafe_code, reason = "glommio takes and shows its sockets as bare descriptors")]

use super::clock::{Alarm, Clock};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::Presence;
use crate::model::time::Mono;
use futures_lite::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Slices that one `sendmsg` takes.
const SLICES_MAX: usize = 64;
/// Octets of a peer that does not stop talking which are thrown away after our end of the talk.
const LINGER_OCTETS_MAX: usize = 256 << 10;
/// How long its end is awaited.
const LINGER: Duration = Duration::from_secs(2);

/// Silence after which the kernel asks a peer whether it is there, and how it goes on asking.
const KEEPALIVE: Duration = Duration::from_mins(5);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(30);
const KEEPALIVE_TRIES: u32 = 4;

/// A connection of this shard; one word, so that the futures it moves through stay small.
pub struct Conn(Box<Inner>);

struct Inner {
    /// None only within [`Conn::detach`](crate::env::Conn::detach).
    stream: Option<TcpStream>,
    peer: SocketAddr,
    local: SocketAddr,
    /// Received before [`introduce`](crate::env::Conn::introduce), and not handed out yet.
    unread: Vec<u8>,
    clock: Rc<Clock>,
}

/// A connection between two shards. Closes if nobody takes it.
#[derive(Debug)]
pub struct Detached {
    socket: OwnedFd,
    peer: SocketAddr,
    local: SocketAddr,
    unread: Vec<u8>,
}

/// Gives a socket to glommio.
pub(super) fn adopt(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is open and its ownership is passed on.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// The socket under a stream, for the calls that glommio does not offer.
fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns its descriptor and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// IPv4 in its own form also where it came through an IPv6 socket.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Has the port of a socket that is bound to an address be chosen when it connects.
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let (yes, len) = (1_i32, libc::socklen_t::try_from(size_of::<i32>()).unwrap_or_default());
    let (level, option) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the descriptor is open, and the option is an int that lives across the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const yes).cast(), len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Connects to `address`, from `source` if one is given.
pub(super) async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    deadline: Mono,
    clock: &Rc<Clock>,
) -> io::Result<Conn> {
    let fresh = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    fresh.set_nonblocking(true)?;
    if let Some(source) = source {
        if source.is_ipv4() != address.is_ipv4() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        // The port is chosen when it is known whereto: else 28,000 connections are all that leave an
        // address, wherever they lead.
        choose_port_late(&fresh)?;
        fresh.bind(&SocketAddr::new(source, 0).into())?;
    }
    match fresh.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let mut stream = adopt(fresh.into());
    let mut alarm = Alarm::new(clock, deadline);
    // An empty write waits until the socket is connected or has failed.
    poll_fn(|context| match Pin::new(&mut stream).poll_write(context, &[]) {
        Poll::Ready(written) => Poll::Ready(written.map(drop)),
        Poll::Pending => alarm.poll_due(context).map(|()| Err(timed_out())),
    })
    .await?;
    if let Some(error) = SockRef::from(&borrow(&stream)).take_error()? {
        return Err(error);
    }
    Conn::new(stream, None, clock)
}

impl Conn {
    /// Takes a socket from the listener.
    pub(super) fn accepted(
        socket: Socket,
        peer: Option<SocketAddr>,
        clock: &Rc<Clock>,
    ) -> io::Result<Conn> {
        Conn::new(adopt(socket.into()), peer, clock)
    }

    fn new(stream: TcpStream, peer: Option<SocketAddr>, clock: &Rc<Clock>) -> io::Result<Conn> {
        let descriptor = borrow(&stream);
        let socket = SockRef::from(&descriptor);
        // Replies are gathered by us: what is sent is meant to go.
        socket.set_tcp_nodelay(true)?;
        // A peer that lost its power says no goodbye; where nothing is sent, only this shows it.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_PAUSE);
        socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_TRIES))?;
        let not_ip = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        let local = socket.local_addr()?.as_socket().ok_or_else(not_ip)?;
        let peer = match peer {
            Some(peer) => peer,
            None => socket.peer_addr()?.as_socket().ok_or_else(not_ip)?,
        };
        Ok(Conn(Box::new(Inner {
            stream: Some(stream),
            peer: unmapped(peer),
            local: unmapped(local),
            unread: Vec::new(),
            clock: Rc::clone(clock),
        })))
    }

    pub(super) fn attach(detached: Detached, clock: &Rc<Clock>) -> Conn {
        let Detached { socket, peer, local, unread } = detached;
        let clock = Rc::clone(clock);
        Conn(Box::new(Inner { stream: Some(adopt(socket)), peer, local, unread, clock }))
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.0
            .stream
            .as_mut()
            .expect("only detach takes the stream, and it takes the connection too")
    }

    /// Sends one gathered piece; `WouldBlock` if nothing fits.
    fn send(&mut self, chain: &Chain) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let descriptor = borrow(self.stream());
        let socket = SockRef::from(&descriptor);
        let mut whole = chain.slices().filter(|slice| !slice.is_empty());
        let (front, second) = (whole.next().unwrap_or_default(), whole.next());
        let Some(second) = second else {
            // Most replies are one: the kernel has less to copy in.
            return socket.send_with_flags(front, flags);
        };
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (place, slice) in slices.iter_mut().zip([front, second].into_iter().chain(whole)) {
            *place = IoSlice::new(slice);
            count += 1;
        }
        socket.send_vectored_with_flags(&slices[..count], flags)
    }
}

impl crate::env::Conn for Conn {
    type Detached = Detached;

    fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    fn local(&self) -> SocketAddr {
        self.0.local
    }

    fn introduce(&mut self, client: SocketAddr, server: SocketAddr, unread: &[u8]) {
        self.0.peer = client;
        self.0.local = server;
        self.0.unread.extend_from_slice(unread);
    }

    fn presence(&self) -> Presence {
        let Some(stream) = &self.0.stream else { return Presence::Gone };
        let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one entry, which lives across the call; with a timeout of 0 it never waits.
        let known = unsafe { libc::poll(&raw mut poll, 1, 0) };
        if known <= 0 {
            return Presence::Here;
        }
        match poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) {
            0 => Presence::Ended,
            _ => Presence::Gone,
        }
    }

    async fn read(&mut self, buffer: &mut Buffer, deadline: Mono) -> io::Result<usize> {
        if buffer.is_full() {
            // A receive of nothing would look like the end of the stream.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the receive buffer is full"));
        }
        if !self.0.unread.is_empty() {
            let count = buffer.push(&self.0.unread);
            self.0.unread.drain(..count);
            return Ok(count);
        }
        let mut alarm = Alarm::new(&self.0.clock, deadline);
        let stream = self.stream();
        poll_fn(|context| {
            let mut stream = Pin::new(&mut *stream);
            let received = buffer.fill(|room| match stream.as_mut().poll_read(context, room) {
                Poll::Ready(received) => received.map_err(Some),
                Poll::Pending => Err(None),
            });
            match received {
                Ok(count) => Poll::Ready(Ok(count)),
                Err(Some(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Err(Some(error)) => Poll::Ready(Err(error)),
                Err(None) => alarm.poll_due(context).map(|()| Err(timed_out())),
            }
        })
        .await
    }

    async fn write(&mut self, chain: &mut Chain, deadline: Mono) -> io::Result<()> {
        while !chain.is_empty() {
            match self.send(chain) {
                Ok(count) => {
                    chain.consume(count);
                    // A fast reader of a long reply must not keep the shard for itself.
                    glommio::executor().yield_if_needed().await;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut alarm = Alarm::new(&self.0.clock, deadline);
                    let stream = self.stream();
                    let front = chain.slices().find(|slice| !slice.is_empty()).unwrap_or_default();
                    // Waits for room and, once there is some, uses it.
                    let sent = poll_fn(|context| {
                        match Pin::new(&mut *stream).poll_write(context, front) {
                            Poll::Ready(sent) => Poll::Ready(sent),
                            Poll::Pending => alarm.poll_due(context).map(|()| Err(timed_out())),
                        }
                    })
                    .await?;
                    chain.consume(sent);
                }
                Err(error) => return Err(error),
            }
        }
        // Leaves no empty parts behind.
        chain.consume(0);
        Ok(())
    }

    async fn close(mut self) {
        if SockRef::from(&borrow(self.stream())).shutdown(Shutdown::Write).is_err() {
            return;
        }
        // If octets lie unread when the socket is closed, or come after, the kernel answers with a
        // reset, and a reset may throw away our last reply before the peer has read it. So its
        // octets are read and forgotten until it has seen our end and sent its own.
        let deadline = super::clock::now().after(LINGER);
        let mut scratch = Buffer::new();
        let mut forgotten = 0;
        while forgotten < LINGER_OCTETS_MAX {
            match crate::env::Conn::read(&mut self, &mut scratch, deadline).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    scratch.consume(count);
                    forgotten += count;
                }
            }
        }
    }

    fn detach(mut self) -> io::Result<Detached> {
        // The poll that glommio may have armed holds on to its own descriptor: a second one for
        // the same socket goes on its way (with CLOEXEC), and the first is closed unspoken.
        let socket = borrow(self.stream()).try_clone_to_owned()?;
        self.0.stream = None;
        let unread = std::mem::take(&mut self.0.unread);
        Ok(Detached { socket, peer: self.0.peer, local: self.0.local, unread })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // Without it the peer hears of the end a turn of the reactor later. It may have gone.
            drop(SockRef::from(&borrow(stream)).shutdown(Shutdown::Write));
        }
    }
}
