//! The sink's end of one connection: lines, octets, answers, and whether they were heard.
//!
//! Answers are collected and go out when there is nothing more to read, so that a pipelining
//! peer gets them in one packet. A message counts as answered for sure when the peer says
//! anything after its 250 went out.

use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::desk::{Answer, Desk, Event};
use super::rule::Failing;

/// Octets read at once; a command line is at most as long.
const RECEIVE_OCTETS: usize = 16 << 10;
/// Longest command line that is understood: RFC 5321 §4.5.3.1.4 and what extensions add.
const LINE_OCTETS_MAX: usize = 4 << 10;
/// Octets of an endless answer that are sent at once, and the pause after them.
const ENDLESS_OCTETS: usize = 16 << 10;
const ENDLESS_PAUSE: Duration = Duration::from_millis(10);
/// Answers waiting for a word of the peer: a peer that never waits has the first ones heard.
const UNHEARD_MAX: usize = 1_000;

/// The session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The peer closed or broke the connection, or fell silent.
    Peer,
    /// We ended it: QUIT, or on purpose.
    Ended,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between the two.
    None,
}

/// One line of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole,
    TooLong,
}

pub(crate) struct Connection {
    stream: Stream,
    input: Vec<u8>,
    from: usize,
    to: usize,
    out: Vec<u8>,
    patience: Duration,
    desk: Desk,
    /// Messages whose answer is in `out`.
    owed: Vec<u64>,
    /// Messages whose answer was sent.
    sent: Vec<u64>,
}

impl Connection {
    /// `patience` is how long a peer may say nothing.
    pub(crate) fn new(stream: TcpStream, patience: Duration, desk: Desk) -> Connection {
        Connection {
            stream: Stream::Plain(stream),
            input: vec![0; RECEIVE_OCTETS],
            from: 0,
            to: 0,
            out: Vec::new(),
            patience,
            desk,
            owed: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Answers collected: append to them.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What was appended last is the answer to this message.
    pub(crate) fn owe(&mut self, id: u64) {
        self.owed.push(id);
    }

    /// What was received and not used up yet.
    pub(crate) fn received(&self) -> &[u8] {
        &self.input[self.from..self.to]
    }

    pub(crate) fn used(&mut self, len: usize) {
        self.from += len;
        assert!(self.from <= self.to, "more octets used than received");
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Forgets what was received: the peer said it before the handshake (RFC 3207 §4.2).
    pub(crate) fn forget(&mut self) -> usize {
        let len = self.to - self.from;
        (self.from, self.to) = (0, 0);
        len
    }

    /// Takes the next line, without its end, into `line`. Sends what is collected before it
    /// waits.
    pub(crate) async fn line(&mut self, line: &mut Vec<u8>) -> Result<Line, Gone> {
        line.clear();
        let mut is_long = false;
        loop {
            let received = self.received();
            let end = memchr(b'\n', received);
            let piece = &received[..end.unwrap_or(received.len())];
            if line.len() + piece.len() > LINE_OCTETS_MAX {
                is_long = true;
            } else if !is_long {
                line.extend_from_slice(piece);
            }
            let len = piece.len() + usize::from(end.is_some());
            self.used(len);
            if end.is_none() {
                self.fill().await?;
                continue;
            }
            if is_long {
                return Ok(Line::TooLong);
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            } else {
                self.desk.fault("command line without CR");
            }
            return Ok(Line::Whole);
        }
    }

    /// Sends what is collected and waits for more octets.
    pub(crate) async fn fill(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        if self.to == self.input.len() {
            self.input.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let room = &mut self.input[self.to..];
        assert!(!room.is_empty(), "the buffer is read before it is full");
        let reading = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.read(room).await,
                Stream::Tls(stream) => stream.read(room).await,
                Stream::None => Ok(0),
            }
        };
        let Ok(read) = tokio::time::timeout(self.patience, reading).await else {
            self.desk.count(|counts| counts.timeouts += 1);
            return Err(Gone::Peer);
        };
        match read {
            Ok(0) | Err(_) => Err(Gone::Peer),
            Ok(count) => {
                self.to += count;
                self.heard();
                Ok(())
            }
        }
    }

    fn heard(&mut self) {
        for id in self.sent.drain(..) {
            self.desk.note(Event::Answered { id, answer: Answer::Heard });
        }
    }

    /// Sends what is collected.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let sent = self.write(&out).await;
        self.out = out;
        self.out.clear();
        if sent.is_ok() {
            self.sent.append(&mut self.owed);
            if self.sent.len() > UNHEARD_MAX {
                self.heard();
            }
        }
        sent
    }

    /// Writes octets; a peer that does not read is waited for as long as one that is silent.
    async fn write(&mut self, octets: &[u8]) -> Result<(), Gone> {
        let writing = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.write_all(octets).await,
                Stream::Tls(stream) => {
                    stream.write_all(octets).await?;
                    stream.flush().await
                }
                Stream::None => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        match tokio::time::timeout(self.patience, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Peer),
            Err(_) => {
                self.desk.count(|counts| counts.timeouts += 1);
                Err(Gone::Peer)
            }
        }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The handshake, as a server.
    pub(crate) async fn encrypt(&mut self, acceptor: &TlsAcceptor) -> Result<(), Gone> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::None) else {
            return Err(Gone::Ended);
        };
        let shaking = tokio::time::timeout(self.patience, acceptor.accept(stream));
        let Ok(Ok(stream)) = shaking.await else {
            self.desk.count(|counts| counts.handshakes_failed += 1);
            return Err(Gone::Peer);
        };
        self.desk.count(|counts| counts.encrypted += 1);
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// Lets the connection suffer. What was answered before goes out first.
    pub(crate) async fn fail(&mut self, how: Failing, code: u16) -> Gone {
        if self.flush().await.is_err() {
            return Gone::Peer;
        }
        match how {
            Failing::Drop => {}
            Failing::Reset => self.reset(),
            Failing::Hang => loop {
                self.forget();
                if self.fill().await.is_err() {
                    break;
                }
            },
            Failing::EndlessLines | Failing::EndlessLine => {
                let line = if how == Failing::EndlessLines {
                    format!("{code}-and so on and so on and so on\r\n")
                } else {
                    self.write(format!("{code} ").as_bytes()).await.ok();
                    "and so on ".to_owned()
                };
                let block = line.repeat(ENDLESS_OCTETS / line.len());
                while self.write(block.as_bytes()).await.is_ok() {
                    tokio::time::sleep(ENDLESS_PAUSE).await;
                }
            }
        }
        Gone::Ended
    }

    /// The end comes as RST. A kernel that refuses makes it an ordinary one.
    fn reset(&mut self) {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::None => return,
        };
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
    }

    /// The last octets, then the end of this direction.
    pub(crate) async fn close(&mut self) {
        if self.flush().await.is_ok() {
            let closing = async {
                match &mut self.stream {
                    Stream::Plain(stream) => stream.shutdown().await,
                    Stream::Tls(stream) => stream.shutdown().await,
                    Stream::None => Ok(()),
                }
            };
            tokio::time::timeout(Duration::from_secs(1), closing).await.ok();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for id in self.owed.drain(..) {
            self.desk.note(Event::Answered { id, answer: Answer::Lost });
        }
        for id in self.sent.drain(..) {
            self.desk.note(Event::Answered { id, answer: Answer::Unheard });
        }
    }
}
