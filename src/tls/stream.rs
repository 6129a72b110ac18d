//! One connection as its driver has it.

use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Env, Presence};
use crate::model::time::Mono;
use std::io;
use std::net::SocketAddr;

/// What a session reads from and writes to.
pub struct Stream<E: Env> {
    conn: E::Conn,
}

/// A stream on its way to another shard.
pub struct Detached<C: Conn> {
    conn: C::Detached,
}

impl<E: Env> Stream<E> {
    /// A connection as it was accepted: what is said goes as it is.
    pub fn plain(conn: E::Conn) -> Stream<E> {
        Stream { conn }
    }

    /// Takes over a stream that another shard let go of.
    pub fn attach(env: &E, detached: Detached<E::Conn>) -> io::Result<Stream<E>> {
        Ok(Stream { conn: env.attach(detached.conn)? })
    }
}

impl<E: Env> Conn for Stream<E> {
    type Detached = Detached<E::Conn>;

    fn peer(&self) -> SocketAddr {
        self.conn.peer()
    }

    fn local(&self) -> SocketAddr {
        self.conn.local()
    }

    fn introduce(&mut self, client: SocketAddr, server: SocketAddr, unread: &[u8]) {
        self.conn.introduce(client, server, unread);
    }

    fn presence(&self) -> Presence {
        self.conn.presence()
    }

    async fn read(&mut self, buffer: &mut Buffer, deadline: Mono) -> io::Result<usize> {
        self.conn.read(buffer, deadline).await
    }

    async fn write(&mut self, chain: &mut Chain, deadline: Mono) -> io::Result<()> {
        self.conn.write(chain, deadline).await
    }

    async fn close(self) {
        self.conn.close().await;
    }

    fn detach(self) -> io::Result<Detached<E::Conn>> {
        Ok(Detached { conn: self.conn.detach()? })
    }
}
