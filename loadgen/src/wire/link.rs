//! One TCP connection with a reused receive buffer and gathered writes.
//!
//! What is to be sent is collected as text of its own and as slices that are shared by all
//! connections; one `flush` hands all of it to the kernel. Nothing is allocated per message
//! once the buffers have grown to what the work needs.

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::imap::{RESPONSE_OCTETS_MAX, take_response};
use super::reply::{NoReply, Reply, Status, take_reply, take_status};
use super::secure::{Stream, encrypt};

/// Octets read at once.
const RECEIVE_OCTETS: usize = 64 << 10;
/// Octets of one receive block where ten thousand connections do nothing.
const RECEIVE_OCTETS_IDLE: usize = 4 << 10;
/// A receive buffer grows up to this: no reply and no line of a list is longer.
const RECEIVE_OCTETS_MAX: usize = 1 << 20;
/// Slices given to the kernel in one call.
const SLICES_MAX: usize = 64;

/// Why a session could not go on. One word each, to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// No connection could be made.
    Connect,
    /// The connection could not be encrypted.
    Handshake,
    /// The peer closed in the middle.
    Closed,
    /// The kernel reported an error: reset, broken pipe.
    Broken,
    /// No answer in the time allowed.
    Timeout,
    /// The answer is no reply of this protocol, or the message is stuffed wrongly.
    Protocol,
    /// The peer refused what the session cannot do without (greeting, hello, login).
    Denied,
    /// The peer does not offer the extension that was asked for.
    NotOffered,
    /// The message that came back is not the one that was announced (`--verify`).
    Mismatch,
}

impl Trouble {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Trouble::Connect => "connect",
            Trouble::Handshake => "handshake",
            Trouble::Closed => "closed",
            Trouble::Broken => "broken",
            Trouble::Timeout => "timeout",
            Trouble::Protocol => "protocol",
            Trouble::Denied => "denied",
            Trouble::NotOffered => "not offered",
            Trouble::Mismatch => "mismatch",
        }
    }
}

impl From<NoReply> for Trouble {
    fn from(_: NoReply) -> Trouble {
        Trouble::Protocol
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::UnexpectedEof => Trouble::Closed,
            _ => Trouble::Broken,
        }
    }
}

enum Part {
    Own(Range<usize>),
    Shared(&'static [u8]),
}

/// A connection. Dropping it closes it at once.
pub(crate) struct Link {
    stream: Stream,
    input: Vec<u8>,
    from: usize,
    to: usize,
    text: Vec<u8>,
    /// Octets of `text` that stand in `parts` already.
    parted: usize,
    parts: Vec<Part>,
}

impl Link {
    /// Connects; with `source` from that address.
    pub(crate) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> Result<Link, Trouble> {
        let stream = connect(to, source).await.map_err(|_| Trouble::Connect)?;
        Link::over(stream, RECEIVE_OCTETS).await
    }

    /// The same with a small buffer, for connections that do nothing.
    pub(crate) async fn connect_idle(
        to: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<Link, Trouble> {
        let stream = connect(to, source).await.map_err(|_| Trouble::Connect)?;
        Link::over(stream, RECEIVE_OCTETS_IDLE).await
    }

    async fn over(stream: TcpStream, receive_len: usize) -> Result<Link, Trouble> {
        let (stream, mut input) = encrypt(stream).await.map_err(|_| Trouble::Handshake)?;
        let to = input.len();
        input.resize(receive_len.max(to), 0);
        Ok(Link { stream, input, from: 0, to, text: Vec::new(), parted: 0, parts: Vec::new() })
    }

    /// Own text to be sent: append to it.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Sends `shared` after the text appended so far, without copying it.
    pub(crate) fn share(&mut self, shared: &'static [u8]) {
        self.close_part();
        self.parts.push(Part::Shared(shared));
    }

    fn close_part(&mut self) {
        if self.text.len() > self.parted {
            self.parts.push(Part::Own(self.parted..self.text.len()));
            self.parted = self.text.len();
        }
    }

    /// Hands everything collected to the kernel.
    pub(crate) async fn flush(&mut self) -> Result<(), Trouble> {
        self.close_part();
        for parts in self.parts.chunks(SLICES_MAX) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(match part {
                    Part::Own(range) => &self.text[range.clone()],
                    Part::Shared(shared) => shared,
                });
            }
            let mut left = &mut slices[..parts.len()];
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                let written = self.stream.write_vectored(left).await?;
                if written == 0 {
                    return Err(Trouble::Closed);
                }
                IoSlice::advance_slices(&mut left, written);
            }
        }
        self.stream.flush().await?;
        self.parts.clear();
        self.text.clear();
        self.parted = 0;
        Ok(())
    }

    /// Sends one command and flushes.
    pub(crate) async fn send(&mut self, command: &str) -> Result<(), Trouble> {
        self.text.extend_from_slice(command.as_bytes());
        self.flush().await
    }

    /// What was received and not used up yet.
    pub(crate) fn received(&self) -> &[u8] {
        &self.input[self.from..self.to]
    }

    /// Uses up octets of [`Link::received`].
    pub(crate) fn used(&mut self, len: usize) {
        self.from += len;
        assert!(self.from <= self.to, "more octets used than received");
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Waits for more octets; an end of the stream is [`Trouble::Closed`].
    pub(crate) async fn fill(&mut self) -> Result<(), Trouble> {
        self.fill_up_to(RECEIVE_OCTETS_MAX).await
    }

    /// The same with a receive buffer of at most this many octets. Nothing is lost when the
    /// wait is given up.
    async fn fill_up_to(&mut self, octets_max: usize) -> Result<(), Trouble> {
        if self.to == self.input.len() {
            if self.from > 0 {
                self.input.copy_within(self.from..self.to, 0);
                (self.from, self.to) = (0, self.to - self.from);
            } else if self.input.len() >= octets_max {
                return Err(Trouble::Protocol);
            } else {
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        let count = self.stream.read(&mut self.input[self.to..]).await?;
        if count == 0 {
            return Err(Trouble::Closed);
        }
        self.to += count;
        Ok(())
    }

    /// Waits for one SMTP reply. Its octets stay in the buffer until they are [`Link::used`].
    pub(crate) async fn peek_reply(&mut self) -> Result<Reply, Trouble> {
        loop {
            if let Some(reply) = take_reply(self.received())? {
                return Ok(reply);
            }
            self.fill().await?;
        }
    }

    /// Waits for one SMTP reply and drops its text.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Trouble> {
        let reply = self.peek_reply().await?;
        self.used(reply.len);
        Ok(reply)
    }

    /// Waits for one POP3 status line, which stays in the buffer until it is [`Link::used`].
    pub(crate) async fn peek_status(&mut self) -> Result<Status, Trouble> {
        loop {
            if let Some(status) = take_status(self.received())? {
                return Ok(status);
            }
            self.fill().await?;
        }
    }

    /// Waits for one POP3 status line and drops its text.
    pub(crate) async fn status(&mut self) -> Result<Status, Trouble> {
        let status = self.peek_status().await?;
        self.used(status.len);
        Ok(status)
    }

    /// Waits for one whole IMAP response, which stays in the buffer until it is
    /// [`Link::used`]; returns its octets. Nothing is lost when the wait is given up.
    pub(crate) async fn peek_response(&mut self) -> Result<usize, Trouble> {
        loop {
            if let Some(len) = take_response(self.received())? {
                return Ok(len);
            }
            self.fill_up_to(RESPONSE_OCTETS_MAX).await?;
        }
    }
}

async fn connect(to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
