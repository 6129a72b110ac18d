//! From a plain connection to an encrypted one, the client's side: we are the one who calls.
//!
//! ```text
//!   first message ─> steps of rustls, one for what has come; others have their turn in between
//!                 ─> what the server has shown, held against what is demanded ─> session
//! ```
//! What proves nothing ends the call behind the handshake, and in order, before a word is said.

use super::demand::{Demand, Level};
use super::handshake::{ALERT_PATIENCE, Aside, Worked, work};
use super::noted::Exporters;
use super::server::{Distrust, Holder, Server};
use super::session::Session;
use super::tickets::Tickets;
use crate::bytes::chain::Chain;
use crate::env::{Conn as _, Env};
use crate::model::limits::TLS_SERVER_CHAIN_ASIDE;
use crate::model::time::Mono;
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, Error, RootCertStore};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What all calls have in common: what is offered, who is trusted, and the sessions that can be gone on
/// with. Shared by all shards; clones are the same.
#[derive(Clone, Debug)]
pub struct Caller {
    config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

/// No authority can be trusted: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoots(pub Box<str>);

impl fmt::Display for NoRoots {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One call.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub caller: &'a Caller,
    /// Where long chains of certificates are looked through.
    pub aside: &'a Aside,
    /// The name that the server is asked for by (RFC 6066 §3), in A-labels: with TLSA records their base
    /// domain (RFC 7672 §8.1). Without, or where it is no name, none is told.
    pub host: Option<&'a str>,
    pub demand: &'a Demand,
}

/// Why a connection did not come to be encrypted, or to be trusted.
#[derive(Debug)]
pub enum CallFailure {
    /// The server went away, or was too slow.
    Lost(io::Error),
    /// It speaks no TLS, or none that we can.
    Tls(Error),
    /// It has not proven who it is, as was demanded.
    Distrust(Distrust),
    /// Too much is being looked through.
    Busy,
}

impl fmt::Display for CallFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFailure::Lost(error) if error.kind() == io::ErrorKind::TimedOut => {
                out.write_str("the server is too slow")
            }
            CallFailure::Lost(_) => out.write_str("the server went away"),
            CallFailure::Tls(error) => error.fmt(out),
            CallFailure::Distrust(why) => why.fmt(out),
            CallFailure::Busy => out.write_str("too many certificates are being looked through"),
        }
    }
}

impl From<io::Error> for CallFailure {
    fn from(error: io::Error) -> CallFailure {
        CallFailure::Lost(error)
    }
}

impl Caller {
    /// One who trusts the authorities that the system knows; where those cannot be read, nobody, and
    /// says why. Reads their files.
    pub fn trusting_system() -> Result<(Caller, Option<NoRoots>), Error> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some of them are such as nobody can read any more.
        roots.add_parsable_certificates(found.certs);
        let why = roots.is_empty().then(|| {
            let first = found.errors.first().map(ToString::to_string);
            NoRoots(first.unwrap_or_else(|| "the system has none".into()).into())
        });
        Ok((Caller::new(roots)?, why))
    }

    /// One who trusts nobody: what has to be proven is refused.
    pub fn trusting_nobody() -> Caller {
        Caller::new(RootCertStore::empty()).expect("the provider knows both versions")
    }

    /// One who trusts those of a text in PEM form.
    pub fn trusting(pem: &[u8]) -> Result<Caller, NoRoots> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let unusable = |why: String| NoRoots(why.into());
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(NoRoots("no certificate in PEM form".into()));
        }
        Caller::new(roots).map_err(|error| NoRoots(error.to_string().into()))
    }

    pub(super) fn new(roots: RootCertStore) -> Result<Caller, Error> {
        let provider = Arc::new(default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Holder::new())
            .with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        config.key_log = Arc::new(Exporters);
        Ok(Caller { config: Arc::new(config), roots: Arc::new(roots) })
    }
}

impl Call<'_> {
    /// The name that the server is told.
    pub(super) fn name(&self) -> Option<&str> {
        let is_told =
            |host: &&str| matches!(ServerName::try_from(*host), Ok(ServerName::DnsName(_)));
        self.host.filter(is_told)
    }
}

/// Shakes hands as the client.
pub(super) async fn call<E: Env>(
    env: &E,
    conn: &mut E::Conn,
    call: Call<'_>,
    deadline: Mono,
) -> Result<(Box<Session>, Server), CallFailure> {
    let Call { caller, aside, demand, .. } = call;
    let name = call.name().and_then(|host| ServerName::try_from(host.to_owned()).ok());
    let name = name.unwrap_or_else(|| ServerName::IpAddress(conn.peer().ip().into()));
    let session = Session::call(Arc::clone(&caller.config), name).map_err(CallFailure::Tls)?;
    let mut session = shake::<E>(env, conn, Box::new(session), deadline).await?;
    let now = UnixTime::since_unix_epoch(Duration::from_micros(env.wall().0));
    let is_long = session.shown().len() > TLS_SERVER_CHAIN_ASIDE;
    let server = if is_long && demand.asks_for_proof() {
        let (verdict, roots) = (Arc::new(OnceLock::new()), Arc::clone(&caller.roots));
        let (told, proof) = (Arc::clone(&verdict), demand.proof().clone());
        let step = Box::new(move || {
            // There is nothing in it yet.
            drop(told.set(Server::judge(&proof, &roots, session.shown(), now)));
            Worked { session, result: Ok(()) }
        });
        session = aside(step).await.ok_or(CallFailure::Busy)?.session;
        verdict.get().cloned().ok_or(CallFailure::Busy)?
    } else {
        Server::judge(demand.proof(), &caller.roots, session.shown(), now)
    };
    match server.verdict() {
        Some(Err(why)) if demand.level() == Level::Prove => {
            let why = why.clone();
            let mut out = Chain::new();
            session.end();
            out.put_whole(session.take_sealed());
            let patience = env.now().after(ALERT_PATIENCE).min(deadline);
            drop(conn.write(&mut out, patience).await);
            Err(CallFailure::Distrust(why))
        }
        _ => Ok((session, server)),
    }
}

async fn shake<E: Env>(
    env: &E,
    conn: &mut E::Conn,
    mut session: Box<Session>,
    deadline: Mono,
) -> Result<Box<Session>, CallFailure> {
    loop {
        let mut out = Chain::new();
        out.put_whole(session.take_sealed());
        conn.write(&mut out, deadline).await?;
        if !session.is_handshaking() {
            return Ok(session);
        }
        if conn.read(&mut session.raw, deadline).await? == 0 {
            return Err(CallFailure::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        env.breathe().await;
        let worked = work(session);
        session = worked.session;
        if let Err(error) = worked.result {
            let mut out = Chain::new();
            out.put_whole(session.take_sealed());
            let patience = env.now().after(ALERT_PATIENCE).min(deadline);
            // Whether it hears why or not, it is over.
            drop(conn.write(&mut out, patience).await);
            return Err(CallFailure::Tls(error));
        }
    }
}
