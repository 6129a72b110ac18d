//! One end of a connection, mostly a client's: lines in, octets out, with a deadline for each.

use pombal::bytes::buffer::Buffer;
use pombal::bytes::chain::Chain;
use pombal::env::sim::SimEnv;
use pombal::env::{Conn as _, Env};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Far longer than a server takes whose peers read: waiting longer is a hang.
const PATIENCE: Duration = Duration::from_mins(2);

type SimConn = <SimEnv as Env>::Conn;

pub(crate) struct Peer {
    env: SimEnv,
    conn: SimConn,
    buffer: Buffer,
}

impl Peer {
    pub(crate) async fn connect(env: &SimEnv, address: SocketAddr) -> io::Result<Peer> {
        let conn = env.connect(address, None, env.now().after(PATIENCE)).await?;
        Ok(Peer { env: env.clone(), conn, buffer: Buffer::new() })
    }

    /// Connects as if from `source`.
    pub(crate) async fn connect_from(
        env: &SimEnv,
        source: SocketAddr,
        address: SocketAddr,
    ) -> io::Result<Peer> {
        let conn = env.connect_from(source, address, env.now().after(PATIENCE)).await?;
        Ok(Peer::of(env, conn))
    }

    /// The server's end of a connection.
    pub(crate) fn of(env: &SimEnv, conn: SimConn) -> Peer {
        Peer { env: env.clone(), conn, buffer: Buffer::new() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.conn.peer()
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut chain = Chain::new();
        chain.put(octets);
        self.conn.write(&mut chain, self.env.now().after(PATIENCE)).await
    }

    /// The next line without its CRLF.
    pub(crate) async fn line(&mut self) -> io::Result<Vec<u8>> {
        let deadline = self.env.now().after(PATIENCE);
        let mut line = Vec::new();
        loop {
            let filled = self.buffer.filled();
            if let Some(end) = filled.iter().position(|&octet| octet == b'\n') {
                line.extend_from_slice(&filled[..=end]);
                self.buffer.consume(end + 1);
                line.truncate(line.strip_suffix(b"\r\n").map_or(line.len(), <[u8]>::len));
                return Ok(line);
            }
            line.extend_from_slice(filled);
            let count = filled.len();
            self.buffer.consume(count);
            if self.conn.read(&mut self.buffer, deadline).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// So many octets.
    pub(crate) async fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let deadline = self.env.now().after(PATIENCE);
        let mut octets = Vec::with_capacity(count);
        loop {
            let filled = self.buffer.filled();
            let taken = filled.len().min(count - octets.len());
            octets.extend_from_slice(&filled[..taken]);
            self.buffer.consume(taken);
            if octets.len() == count {
                return Ok(octets);
            }
            if self.conn.read(&mut self.buffer, deadline).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether something comes within this time.
    pub(crate) async fn hears(&mut self, time: Duration) -> io::Result<bool> {
        if !self.buffer.filled().is_empty() {
            return Ok(true);
        }
        match self.conn.read(&mut self.buffer, self.env.now().after(time)).await {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lines up to the one that is a dot, as they were before they were stuffed.
    pub(crate) async fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        loop {
            let mut line = self.line().await?;
            if line == b"." {
                return Ok(lines);
            }
            if line.first() == Some(&b'.') {
                line.remove(0);
            }
            lines.push(line);
        }
    }

    /// An SMTP reply: its code and the text of its last line.
    pub(crate) async fn reply(&mut self) -> io::Result<(u16, String)> {
        loop {
            let line = String::from_utf8_lossy(&self.line().await?).into_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, line));
            };
            if code == 421 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((code, line));
            }
        }
    }

    pub(crate) async fn close(self) {
        self.conn.close().await;
    }
}
