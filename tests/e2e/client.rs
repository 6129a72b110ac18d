//! Raw clients for SMTP, LMTP and POP3: octets out, replies in, everything said in errors.
//!
//! They never interpret more than a test needs, so that hostile input and strange answers go
//! through as they are.

use crate::client_certificates::client;
use crate::harness::{PASSWORD, PATIENCE};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// Octets of one line, or of a message, that a server may send: over it, it has gone wild.
const ANSWER_OCTETS_MAX: usize = 64 << 20;

/// What octets go through.
enum Wire {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Clear(tcp) => tcp,
            Wire::Tls(tls) => &tls.sock,
        }
    }

    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Clear(tcp) => tcp.read(block),
            Wire::Tls(tls) => tls.read(block),
        }
    }

    fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Wire::Clear(tcp) => tcp.write_all(octets),
            Wire::Tls(tls) => tls.write_all(octets).and_then(|()| tls.flush()),
        }
    }
}

/// A connection and what came over it and was not read yet.
pub(crate) struct Link {
    stream: Wire,
    held: Vec<u8>,
    at: usize,
}

impl Link {
    pub(crate) fn connect(port: u16) -> io::Result<Link> {
        Link::connect_from("127.0.0.1", port)
    }

    /// From another address of this machine.
    pub(crate) fn connect_from(source: &str, port: u16) -> io::Result<Link> {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let from = SocketAddr::new(source.parse().expect("an address"), 0);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Link { stream: Wire::Clear(stream), held: Vec::new(), at: 0 })
    }

    /// One write, so one segment where it is small enough.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(octets.as_ref())
    }

    /// The handshake of TLS, with whomever it is. Whatever was said in clear and not read yet would be
    /// taken for an answer inside: an error.
    pub(crate) fn encrypt(self) -> io::Result<Link> {
        let unread = &self.held[self.at..];
        if !unread.is_empty() {
            return Err(io::Error::other(format!("before TLS: {:?}", unread.escape_ascii())));
        }
        let Wire::Clear(tcp) = self.stream else { panic!("TLS within TLS") };
        let name = ServerName::try_from("mx.local.example").expect("a name");
        let tls = ClientConnection::new(client(&TLS13, None), name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(tls, tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Link { stream: Wire::Tls(Box::new(tls)), held: Vec::new(), at: 0 })
    }

    /// A second hand on the same connection in clear, for writing while this one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        assert!(matches!(self.stream, Wire::Clear(_)), "one hand at a time on TLS");
        self.stream.tcp().try_clone().unwrap()
    }

    /// Tells the server that nothing follows.
    pub(crate) fn end_sending(&self) {
        // The server may have hung up already.
        drop(self.stream.tcp().shutdown(Shutdown::Write));
    }

    /// Receives more; `false` at the end of the connection, however it came.
    fn fill(&mut self) -> io::Result<bool> {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        let mut block = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.held.extend_from_slice(&block[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(&error) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let held = self.held.escape_ascii().to_string();
                    return Err(io::Error::other(format!("no answer; so far {held:?}")));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next line without its CRLF; `None` when the server hung up.
    pub(crate) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut seen = self.at;
        loop {
            if let Some(end) = find(&self.held[seen..], b"\r\n") {
                let line = self.held[self.at..seen + end].to_vec();
                self.at = seen + end + 2;
                return Ok(Some(line));
            }
            seen = self.held.len().saturating_sub(1).max(self.at) - self.at;
            if !self.fill()? {
                return Ok(None);
            }
            if self.held.len() > ANSWER_OCTETS_MAX {
                return Err(io::Error::other("a line without end"));
            }
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(self.held.split_off(self.at))
    }

    /// An SMTP reply: its code and its lines with the code.
    pub(crate) fn reply(&mut self) -> io::Result<Option<Reply>> {
        let mut text = String::new();
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let line = String::from_utf8_lossy(&line).into_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(io::Error::other(format!("no reply: {line:?}")));
            };
            let more = line.as_bytes().get(3) == Some(&b'-');
            text.push_str(&line);
            text.push('\n');
            if !more {
                return Ok(Some(Reply { code, text }));
            }
        }
    }

    /// A reply that must come and have this code.
    pub(crate) fn expect(&mut self, code: u16) -> io::Result<Reply> {
        match self.reply()? {
            Some(reply) if reply.code == code => Ok(reply),
            other => Err(io::Error::other(format!("{other:?} where {code} should be"))),
        }
    }

    /// Sends a command and demands this code.
    pub(crate) fn command(&mut self, command: &str, code: u16) -> io::Result<Reply> {
        self.send(format!("{command}\r\n"))?;
        self.expect(code).map_err(|error| io::Error::other(format!("{command}: {error}")))
    }

    /// The body of a POP3 answer of several lines, dots removed, the end not in it.
    pub(crate) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = self.at;
        loop {
            let held = &self.held[self.at..];
            if held.starts_with(b".\r\n") {
                self.at += 3;
                return Ok(Vec::new());
            }
            if let Some(end) = find(&self.held[searched..], b"\r\n.\r\n") {
                let end = searched + end;
                let body = unstuff(&self.held[self.at..end + 2]);
                self.at = end + 5;
                return Ok(body);
            }
            searched = self.held.len().saturating_sub(4).max(self.at) - self.at;
            if !self.fill()? {
                return Err(io::Error::from(ErrorKind::UnexpectedEof));
            }
            if self.held.len() > ANSWER_OCTETS_MAX {
                return Err(io::Error::other("a message without end"));
            }
        }
    }
}

/// The server is gone; with octets of ours unread, the kernel makes it a reset.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) text: String,
}

pub(crate) fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, what)
}

fn unstuff(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
        let (line, after) = rest.split_at(end);
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = after;
    }
    out
}

/// A message as DATA sends it, the end included (RFC 5321 §4.5.2).
pub(crate) fn stuff(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// A session behind EHLO or LHLO.
pub(crate) fn smtp(port: u16, hello: &str) -> io::Result<Link> {
    let mut link = Link::connect(port)?;
    link.expect(220)?;
    link.command(&format!("{hello} client.example"), 250)?;
    Ok(link)
}

/// A POP3 session in the transaction state, with what STAT says.
pub(crate) struct Maildrop {
    pub(crate) link: Link,
    pub(crate) count: usize,
    pub(crate) octets: u64,
}

impl Maildrop {
    /// Logs in; waits while a session that has just ended still holds the maildrop.
    pub(crate) fn open(port: u16, user: &str, utf8: bool) -> io::Result<Maildrop> {
        Maildrop::open_with(port, user, PASSWORD, utf8)
    }

    pub(crate) fn open_with(
        port: u16,
        user: &str,
        password: &str,
        utf8: bool,
    ) -> io::Result<Maildrop> {
        for _ in 0..10_000 {
            let mut link = Link::connect(port)?;
            let mut login = format!("USER {user}@local.example\r\nPASS {password}\r\nSTAT\r\n");
            if utf8 {
                login.insert_str(0, "UTF8\r\n");
            }
            link.send(login)?;
            for _ in 0..2 + usize::from(utf8) {
                ok(&mut link)?;
            }
            let answer = link.line()?.unwrap_or_default();
            if answer.starts_with(b"-ERR [IN-USE]") {
                continue;
            }
            if !answer.starts_with(b"+OK") {
                return Err(io::Error::other(format!("PASS: {}", answer.escape_ascii())));
            }
            let stat = ok(&mut link)?;
            let mut numbers = stat.split(' ').skip(1).filter_map(|word| word.parse().ok());
            let (count, octets) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            return Ok(Maildrop { link, count: usize::try_from(count).unwrap(), octets });
        }
        Err(io::Error::other("the maildrop stays locked"))
    }

    /// Opens a maildrop that will soon have `count` messages: what another shard has promised it
    /// comes after the answer to the sender.
    pub(crate) fn open_filled(port: u16, user: &str, count: usize) -> io::Result<Maildrop> {
        for _ in 0..10_000 {
            let maildrop = Maildrop::open(port, user, false)?;
            if maildrop.count >= count {
                return Ok(maildrop);
            }
            maildrop.quit()?;
        }
        Err(io::Error::other(format!("{user} does not get {count} messages")))
    }

    /// All messages, pipelined in windows, as they came.
    pub(crate) fn retrieve_all(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut messages = Vec::with_capacity(self.count);
        let mut asked = 0;
        while messages.len() < self.count {
            if asked == messages.len() {
                let until = self.count.min(asked + 64);
                let mut batch = String::new();
                for number in asked + 1..=until {
                    writeln!(batch, "RETR {number}\r").unwrap();
                }
                self.link.send(batch)?;
                asked = until;
            }
            ok(&mut self.link)?;
            messages.push(self.link.body()?);
        }
        Ok(messages)
    }

    /// LIST or UIDL: what stands behind the number of each message.
    pub(crate) fn listing(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.link.send(format!("{command}\r\n"))?;
        ok(&mut self.link)?;
        let body = self.link.body()?;
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect())
    }

    /// DELE of everything, then QUIT.
    pub(crate) fn clear(mut self) -> io::Result<()> {
        for number in 1..=self.count {
            self.link.send(format!("DELE {number}\r\n"))?;
        }
        for _ in 0..self.count {
            ok(&mut self.link)?;
        }
        self.quit()
    }

    pub(crate) fn quit(mut self) -> io::Result<()> {
        self.link.send("QUIT\r\n")?;
        ok(&mut self.link)?;
        let rest = self.link.rest()?;
        if rest.is_empty() { Ok(()) } else { Err(io::Error::other("said more after QUIT")) }
    }
}

/// One line that must say +OK.
pub(crate) fn ok(link: &mut Link) -> io::Result<String> {
    match link.line()? {
        Some(line) if line.starts_with(b"+OK") => Ok(String::from_utf8_lossy(&line).into_owned()),
        Some(line) => Err(io::Error::other(line.escape_ascii().to_string())),
        None => Err(io::Error::from(ErrorKind::UnexpectedEof)),
    }
}

/// Whether a message begins with a field, the empty line, or what separates mails in a file: others
/// are parted from our trace fields by an empty line (docs/decisions/0005).
pub(crate) fn has_header(octets: &[u8]) -> bool {
    let first = octets.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let name = first.iter().position(|octet| !(33..=126).contains(octet) || *octet == b':');
    let is_field =
        name.is_some_and(|len| len > 0 && first[len..].trim_ascii_start().starts_with(b":"));
    let separates = first.starts_with(b"From ") || first.starts_with(b">From ");
    is_field || separates || matches!(first, b"" | b"\r")
}

/// The message below our own Return-Path and Received; `None` where they are not as they must be.
pub(crate) fn without_trace(stored: &[u8]) -> Option<&[u8]> {
    let rest = stored.strip_prefix(b"Return-Path: <")?;
    let rest = &rest[find(rest, b">\r\n")? + 3..];
    let rest = rest.strip_prefix(b"Received: from ")?;
    // The date stands alone on the last line of the field.
    let rest = &rest[find(rest, b";\r\n\t")? + 4..];
    Some(&rest[find(rest, b"\r\n")? + 2..])
}
