//! From a plain connection to an encrypted one, the server's side.
//!
//! ```text
//!   octets ─> the first message whole? ─> which certificate, which protocol ─> session
//!          ─> steps of rustls, one for what has come; others have their turn in between
//! ```
//!
//! Until the first message is whole nothing is held but its octets; a client that does not go on
//! costs those, and later the state of rustls, until the deadline.

use super::client::Asking;
use super::context::Context;
use super::hello::{Hello, look};
use super::session::Session;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn as _, Env};
use crate::model::limits::TLS_HELLO_OCTETS_MAX;
use crate::model::time::Mono;
use rustls::{Error, ServerConfig};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long an alert may take.
pub(super) const ALERT_PATIENCE: Duration = Duration::from_secs(2);
/// The first octet of every record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// Why a connection did not come to be encrypted.
#[derive(Debug)]
pub enum Failure {
    /// The client went away, or was too slow.
    Lost(io::Error),
    /// The client does not speak TLS at all.
    NotTls,
    /// Both speak TLS, but not to each other.
    Tls(Error),
    /// Too much is waiting to be signed.
    Busy,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Lost(error) if error.kind() == io::ErrorKind::TimedOut => {
                out.write_str("the client is too slow")
            }
            Failure::Lost(_) => out.write_str("the client went away"),
            Failure::NotTls => out.write_str("the client does not speak TLS"),
            Failure::Tls(error) => error.fmt(out),
            Failure::Busy => out.write_str("too much is waiting to be signed"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Lost(error)
    }
}

/// A piece of work for another thread.
pub type Step = Box<dyn FnOnce() -> Worked + Send>;
/// What it came to.
pub struct Worked {
    pub(super) session: Box<Session>,
    pub(super) result: Result<(), Error>,
}
/// Has a step done beside the shard; `None` if there is no room for it, or it panicked.
pub type Aside = dyn Fn(Step) -> Pin<Box<dyn Future<Output = Option<Worked>>>>;

/// What a client is met with.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub context: &'a Context,
    /// Where slow signatures are made.
    pub aside: &'a Aside,
    /// What will be spoken.
    pub protocol: &'a str,
    /// Whether the client has to say who it is.
    pub asking: Asking,
}

/// Shakes hands as the server.
pub(super) async fn accept<E: Env>(
    env: &E,
    conn: &mut E::Conn,
    terms: Terms<'_>,
    deadline: Mono,
) -> Result<Box<Session>, Failure> {
    let (config, hello, is_slow) = greet::<E>(env, conn, terms, deadline).await?;
    let aside = terms.aside;
    let mut session = Box::new(Session::new(config, hello).map_err(Failure::Tls)?);
    loop {
        env.breathe().await;
        // Behind a HelloRetryRequest it is the second step that signs.
        let worked = if is_slow && session.may_sign() {
            aside(Box::new(move || work(session))).await.ok_or(Failure::Busy)?
        } else {
            work(session)
        };
        session = worked.session;
        let mut out = Chain::new();
        out.put_whole(session.take_sealed());
        if let Err(error) = worked.result {
            let patience = env.now().after(ALERT_PATIENCE).min(deadline);
            // Whether it hears why or not, it is over.
            drop(conn.write(&mut out, patience).await);
            return Err(Failure::Tls(error));
        }
        conn.write(&mut out, deadline).await?;
        if !session.is_handshaking() {
            return Ok(session);
        }
        if conn.read(&mut session.raw, deadline).await? == 0 {
            return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

pub(super) fn work(mut session: Box<Session>) -> Worked {
    let result = session.shake();
    Worked { session, result }
}

/// Waits for the client's first message; returns it with how to answer it.
async fn greet<E: Env>(
    env: &E,
    conn: &mut E::Conn,
    terms: Terms<'_>,
    deadline: Mono,
) -> Result<(Arc<ServerConfig>, Vec<u8>, bool), Failure> {
    let Terms { context, protocol, asking, .. } = terms;
    let mut hello = Vec::new();
    loop {
        let mut raw = Buffer::new();
        if conn.read(&mut raw, deadline).await? == 0 {
            return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        hello.extend_from_slice(raw.filled());
        drop(raw);
        if hello.first() != Some(&HANDSHAKE) {
            return Err(Failure::NotTls);
        }
        if hello.len() > TLS_HELLO_OCTETS_MAX {
            return Err(Failure::Tls(Error::General("its first message is too long".into())));
        }
        match look(&hello, context.names()) {
            Hello::Partial => {}
            Hello::Whole(wants) => {
                let config = context.config(protocol, asking, &wants);
                return Ok((config, hello, wants.is_slow));
            }
            Hello::Bad(error, alert) => {
                let mut out = Chain::new();
                out.put_whole(alert);
                let patience = env.now().after(ALERT_PATIENCE).min(deadline);
                drop(conn.write(&mut out, patience).await);
                return Err(Failure::Tls(error));
            }
        }
        env.breathe().await;
    }
}
