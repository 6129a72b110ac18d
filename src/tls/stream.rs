//! One connection as its driver has it: in clear, or encrypted from some moment on.

use super::call::{Call, CallFailure, call};
use super::client::{Asking, Client};
use super::facts::Facts;
use super::handshake::{Failure, Terms, accept};
use super::session::Session;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn, Env, Presence};
use crate::model::time::{Mono, Wall};
use rustls::Error;
use rustls::pki_types::UnixTime;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long the word that nothing more is sent may wait for a reader that takes nothing.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// What a session reads from and writes to.
pub struct Stream<E: Env>(Kind<E>);

enum Kind<E: Env> {
    Plain(E::Conn),
    Tls(Box<Encrypted<E>>),
}

struct Encrypted<E: Env> {
    env: E,
    conn: E::Conn,
    session: Box<Session>,
    facts: Arc<Facts>,
    /// Records on their way out.
    sealed: Chain,
}

/// A stream on its way to another shard.
pub struct Detached<C: Conn> {
    conn: C::Detached,
    tls: Option<Moving>,
}

struct Moving {
    session: Box<Session>,
    facts: Arc<Facts>,
    sealed: Vec<u8>,
}

fn to_io(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What came out of a handshake; an error where the client was to show a certificate that it has not.
fn facts(session: &mut Session, terms: Terms<'_>, now: Wall) -> Result<Facts, Failure> {
    let now = UnixTime::since_unix_epoch(Duration::from_micros(now.0));
    let authorities = terms.context.authorities().filter(|_| terms.asking != Asking::No);
    let facts = session.facts(authorities, now);
    let facts = facts.ok_or_else(|| Error::General("a handshake without a certificate".into()));
    let facts = facts.map_err(Failure::Tls)?;
    // rustls has looked already, but not if the session began in an earlier connection.
    match (terms.asking, facts.client().map(Client::fault)) {
        (Asking::Required, None) => Err(Failure::Tls(Error::NoCertificatesPresented)),
        (Asking::Required, Some(Some(fault))) => Err(Failure::Tls(fault.clone())),
        _ => Ok(facts),
    }
}

impl<E: Env> Stream<E> {
    /// A connection as it was accepted or made: what is said goes as it is.
    pub fn plain(conn: E::Conn) -> Stream<E> {
        Stream(Kind::Plain(conn))
    }

    /// Encrypts a connection that is in clear. What the client sent in clear before must be forgotten
    /// by now, and nothing of ours may be unsent. After a failure the connection is gone.
    pub async fn secure(
        self,
        env: &E,
        terms: Terms<'_>,
        deadline: Mono,
    ) -> Result<Stream<E>, Failure> {
        let Kind::Plain(mut conn) = self.0 else {
            return Err(Failure::Tls(Error::General("it is encrypted already".into())));
        };
        let shaken = match accept(env, &mut conn, terms, deadline).await {
            Ok(mut session) => {
                facts(&mut session, terms, env.wall()).map(|facts| (session, Arc::new(facts)))
            }
            Err(failure) => Err(failure),
        };
        match shaken {
            Ok((session, facts)) => {
                let (env, sealed) = (env.clone(), Chain::new());
                Ok(Stream(Kind::Tls(Box::new(Encrypted { env, conn, session, facts, sealed }))))
            }
            Err(failure) => {
                conn.close().await;
                Err(failure)
            }
        }
    }

    /// Encrypts a connection that we have made, and that is in clear. What the server sent in clear
    /// before must be forgotten by now, and nothing of ours may be unsent. After a failure the
    /// connection is gone.
    pub async fn call(
        self,
        env: &E,
        terms: Call<'_>,
        deadline: Mono,
    ) -> Result<Stream<E>, CallFailure> {
        let Kind::Plain(mut conn) = self.0 else {
            return Err(CallFailure::Tls(Error::General("it is encrypted already".into())));
        };
        let called = match call(env, &mut conn, terms, deadline).await {
            Ok((mut session, server)) => {
                let facts = session.facts_of(terms.name().map(Into::into), server);
                let none = || CallFailure::Tls(Error::HandshakeNotComplete);
                facts.ok_or_else(none).map(|facts| (session, Arc::new(facts)))
            }
            Err(failure) => Err(failure),
        };
        match called {
            Ok((session, facts)) => {
                let (env, sealed) = (env.clone(), Chain::new());
                Ok(Stream(Kind::Tls(Box::new(Encrypted { env, conn, session, facts, sealed }))))
            }
            Err(failure) => {
                conn.close().await;
                Err(failure)
            }
        }
    }

    /// What was negotiated; `None` in clear.
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        match &self.0 {
            Kind::Plain(_) => None,
            Kind::Tls(encrypted) => Some(&encrypted.facts),
        }
    }

    /// Takes over a stream that another shard let go of.
    pub fn attach(env: &E, detached: Detached<E::Conn>) -> io::Result<Stream<E>> {
        let conn = env.attach(detached.conn)?;
        let Some(Moving { session, facts, sealed: unsent }) = detached.tls else {
            return Ok(Stream::plain(conn));
        };
        let mut sealed = Chain::new();
        sealed.put_whole(unsent);
        let env = env.clone();
        Ok(Stream(Kind::Tls(Box::new(Encrypted { env, conn, session, facts, sealed }))))
    }

    fn conn(&self) -> &E::Conn {
        match &self.0 {
            Kind::Plain(conn) => conn,
            Kind::Tls(encrypted) => &encrypted.conn,
        }
    }
}

impl<E: Env> Encrypted<E> {
    async fn flush(&mut self, deadline: Mono) -> io::Result<()> {
        self.sealed.put_whole(self.session.take_sealed());
        if self.sealed.is_empty() {
            return Ok(());
        }
        self.conn.write(&mut self.sealed, deadline).await
    }

    async fn read(&mut self, buffer: &mut Buffer, deadline: Mono) -> io::Result<usize> {
        loop {
            match self.session.open(buffer) {
                // What rustls wants to say meanwhile goes with what is said or read next.
                Ok(count) if count > 0 => return Ok(count),
                Ok(_) => self.flush(deadline).await?,
                Err(error) => {
                    let patience = self.env.now().after(END_PATIENCE).min(deadline);
                    drop(self.flush(patience).await);
                    return Err(to_io(error));
                }
            }
            if self.session.has_ended() {
                return Ok(0);
            }
            if self.conn.read(&mut self.session.raw, deadline).await? == 0 {
                // Somebody may have cut off what the client said (RFC 8446 §6.1).
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn write(&mut self, chain: &mut Chain, deadline: Mono) -> io::Result<()> {
        self.flush(deadline).await?;
        while !chain.is_empty() {
            self.session.seal(chain).map_err(to_io)?;
            self.flush(deadline).await?;
        }
        chain.consume(0);
        Ok(())
    }
}

impl<E: Env> Conn for Stream<E> {
    type Detached = Detached<E::Conn>;

    fn peer(&self) -> SocketAddr {
        self.conn().peer()
    }

    fn local(&self) -> SocketAddr {
        self.conn().local()
    }

    fn introduce(&mut self, client: SocketAddr, server: SocketAddr, unread: &[u8]) {
        match &mut self.0 {
            Kind::Plain(conn) => conn.introduce(client, server, unread),
            Kind::Tls(encrypted) => encrypted.conn.introduce(client, server, unread),
        }
    }

    fn presence(&self) -> Presence {
        self.conn().presence()
    }

    async fn read(&mut self, buffer: &mut Buffer, deadline: Mono) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(conn) => conn.read(buffer, deadline).await,
            // In a box: a session in clear keeps no room for it.
            Kind::Tls(encrypted) => Box::pin(encrypted.read(buffer, deadline)).await,
        }
    }

    async fn write(&mut self, chain: &mut Chain, deadline: Mono) -> io::Result<()> {
        match &mut self.0 {
            Kind::Plain(conn) => conn.write(chain, deadline).await,
            Kind::Tls(encrypted) => Box::pin(encrypted.write(chain, deadline)).await,
        }
    }

    async fn close(self) {
        match self.0 {
            Kind::Plain(conn) => conn.close().await,
            Kind::Tls(mut encrypted) => {
                Box::pin(async move {
                    encrypted.session.end();
                    let patience = encrypted.env.now().after(END_PATIENCE);
                    if encrypted.flush(patience).await.is_ok() {
                        encrypted.conn.close().await;
                    }
                })
                .await;
            }
        }
    }

    fn detach(self) -> io::Result<Detached<E::Conn>> {
        match self.0 {
            Kind::Plain(conn) => Ok(Detached { conn: conn.detach()?, tls: None }),
            Kind::Tls(encrypted) => {
                let Encrypted { conn, session, facts, sealed, .. } = *encrypted;
                let moving = Moving { session, facts, sealed: sealed.to_vec() };
                Ok(Detached { conn: conn.detach()?, tls: Some(moving) })
            }
        }
    }
}
