//! From a listener to sessions: hears trusted proxies out, and admits connections within the shard's
//! bounds and at the rates that are allowed.
//!
//! ```text
//!   accept ─ PROXY header, from trusted networks ─ rates ─ room ─ TLS, greeting, session
//!                  └ bad: hung up on                └──────┴ told why, hung up on
//! ```

use super::guard::Often;
use super::secure::secure;
use super::shard::Shard;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn as _, Env, Listener as _};
use crate::model::limits::REFUSALS_AT_ONCE_MAX;
use crate::model::site::site;
use crate::policy::Checks;
use crate::probe::event::{Level, event};
use crate::proto::smtp::{Dialect, Settings};
use crate::tls::Stream;
use crate::wire::proxy::{Front, Proxied, front};
use futures_lite::future::or;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// The address of a client whom a proxy does not know: none that has rights by it.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Lmtp,
    /// SMTP for users who send mail (RFC 6409).
    Submission,
    Pop3,
    Imap,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
            Protocol::Submission => "submission",
            Protocol::Pop3 => "pop3",
            Protocol::Imap => "imap",
        }
    }
}

/// What is served at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    pub protocol: Protocol,
    /// From the first octet on, rather than when the client asks for it.
    pub encrypted: bool,
}

impl Service {
    /// What it is called in the configuration.
    pub fn name(self) -> &'static str {
        match (self.protocol, self.encrypted) {
            (Protocol::Smtp, true) => "smtps",
            (Protocol::Lmtp, true) => "lmtps",
            (Protocol::Submission, true) => "submissions",
            (Protocol::Pop3, true) => "pop3s",
            (Protocol::Imap, true) => "imaps",
            (protocol, false) => protocol.name(),
        }
    }
}

impl From<Protocol> for Service {
    /// In clear.
    fn from(protocol: Protocol) -> Service {
        Service { protocol, encrypted: false }
    }
}

/// Counts one session for as long as it is held.
pub struct Admitted<E: Env> {
    shard: Rc<Shard<E>>,
    address: IpAddr,
}

impl<E: Env> Admitted<E> {
    /// `None`: the shard, or this address, has as many as it may.
    pub fn new(shard: &Rc<Shard<E>>, address: IpAddr) -> Option<Admitted<E>> {
        let key = site(address);
        let settings = shard.settings();
        let mut by_address = shard.by_address.borrow_mut();
        let held = by_address.get(&key).copied().unwrap_or(0);
        let per_address = settings.connections_per_address_max;
        if shard.sessions.get() >= settings.connections_max
            || (per_address > 0 && held >= per_address)
        {
            return None;
        }
        by_address.insert(key, held + 1);
        drop(by_address);
        shard.sessions.set(shard.sessions.get() + 1);
        shard.figures.open.add(1);
        Some(Admitted { shard: Rc::clone(shard), address: key })
    }
}

impl<E: Env> Drop for Admitted<E> {
    fn drop(&mut self) {
        let shard = &self.shard;
        shard.sessions.set(shard.sessions.get() - 1);
        shard.figures.open.add(-1);
        let mut by_address = shard.by_address.borrow_mut();
        if let Some(held) = by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The shard, or the address, has as many connections as it may.
    Busy,
    /// Its address or network connects more often than it may.
    Often(Often),
}

/// Accepts until the shard drains; each connection is a session of its own.
pub async fn serve<E: Env>(
    shard: Rc<Shard<E>>,
    listener: E::Listener,
    service: impl Into<Service>,
) {
    let service = service.into();
    let protocol = service.protocol;
    loop {
        let accepted = or(async { Some(listener.accept().await) }, async {
            shard.draining.wait().await;
            None
        });
        let conn = match accepted.await {
            None => return,
            Some(Ok(conn)) => conn,
            Some(Err(error)) => {
                let fields = [("protocol", protocol.name().into()), ("why", (&error).into())];
                event(Level::Error, "accept_failed", &fields);
                shard.env.sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        shard.figures.accepted.one();
        let is_proxy = Rc::clone(&shard.settings().protect.is_proxy);
        if is_proxy(service.protocol, conn.peer().ip()) {
            shard.env.spawn(hear_proxy(Rc::clone(&shard), conn, service));
        } else {
            admit(&shard, conn, service);
        }
    }
}

/// Reads what a trusted proxy says of the client, before anything else is read, TLS too. Who says
/// nothing, or nonsense, is hung up on.
async fn hear_proxy<E: Env>(shard: Rc<Shard<E>>, mut conn: E::Conn, service: Service) {
    let proxy = conn.peer();
    let deadline = shard.env.now().after(shard.settings().protect.proxy_timeout);
    let mut buffer = Buffer::new();
    let why = loop {
        match front(buffer.filled()) {
            Front::Bad => break "bad header",
            Front::Header(len, proxied) => {
                buffer.consume(len);
                let (client, server) = match proxied {
                    Proxied::Itself => (proxy, conn.local()),
                    // Not the proxy's address: what that may is not for its clients.
                    Proxied::Unknown => (NOBODY, conn.local()),
                    Proxied::For { client, server } => (client, server),
                };
                conn.introduce(client, server, buffer.filled());
                return admit(&shard, conn, service);
            }
            Front::Partial => {}
        }
        match conn.read(&mut buffer, deadline).await {
            Ok(0) => break "no header",
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => break "no header in time",
            Err(_) => break "reset",
        }
    };
    shard.figures.proxies_bad.one();
    let (guard, now) = (&shard.guard, shard.env.now());
    guard.tell(proxy.ip(), service.protocol, "proxy", why, now);
}

/// Begins a session, or says why there is none.
fn admit<E: Env>(shard: &Rc<Shard<E>>, conn: E::Conn, service: Service) {
    let Service { protocol, encrypted } = service;
    let conn = Stream::plain(conn);
    let client = conn.peer().ip();
    let admitted = may_connect(shard, client, protocol)
        .and_then(|()| Admitted::new(shard, client).ok_or(Refusal::Busy));
    let owned = Rc::clone(shard);
    match admitted {
        Err(refusal) => {
            shard.figures.turned_away.one();
            // Whoever floods us is not answered at any price, and a handshake is one.
            if !encrypted && shard.refusing.get() < REFUSALS_AT_ONCE_MAX {
                shard.env.spawn(turn_away(owned, conn, protocol, refusal));
            }
        }
        Ok(admitted) if encrypted => shard.env.spawn(async move {
            if let Some(conn) = secure(&owned, conn, protocol).await {
                begin(&owned, conn, protocol, admitted);
            }
        }),
        Ok(admitted) => begin(shard, conn, protocol, admitted),
    }
}

/// Begins a session, in a task of its own.
fn begin<E: Env>(shard: &Rc<Shard<E>>, conn: Stream<E>, protocol: Protocol, admitted: Admitted<E>) {
    let (env, shard) = (&shard.env, Rc::clone(shard));
    match protocol {
        Protocol::Pop3 => env.spawn(super::pop3::serve(shard, conn, admitted)),
        Protocol::Imap => env.spawn(super::imap::serve(shard, conn, admitted)),
        Protocol::Smtp | Protocol::Lmtp | Protocol::Submission => {
            env.spawn(super::smtp::serve(shard, conn, protocol, admitted));
        }
    }
}

/// Counts the connection against the rates of its listener.
pub(super) fn may_connect<E: Env>(
    shard: &Shard<E>,
    client: IpAddr,
    protocol: Protocol,
) -> Result<(), Refusal> {
    let settings = shard.settings();
    if !settings.protect.checks(protocol, client).has(Checks::RATES) {
        return Ok(());
    }
    let now = shard.env.now();
    shard.guard.connects(client, &settings.protect, now).map_err(|often| {
        shard.figures.refused_rate.one();
        let what = match often {
            Often::Address => "connections of the address",
            Often::Network => "connections of the network",
        };
        shard.guard.tell(client, protocol, "rate", what, now);
        Refusal::Often(often)
    })
}

/// Settings of a session with this client, who has said nothing yet.
pub(super) fn smtp_settings_for<E: Env>(
    shard: &Shard<E>,
    protocol: Protocol,
    client: IpAddr,
) -> Rc<Settings> {
    let settings = smtp_settings(shard, protocol);
    if protocol != Protocol::Smtp || !(shard.settings().protect.is_xclient)(client) {
        return settings;
    }
    let dialect = Dialect { xclient: true, ..settings.dialect };
    Rc::new(Settings { dialect, ..(*settings).clone() })
}

/// Settings of a session with anybody.
pub(super) fn smtp_settings<E: Env>(shard: &Shard<E>, protocol: Protocol) -> Rc<Settings> {
    match protocol {
        Protocol::Lmtp => Rc::clone(&shard.settings().lmtp),
        Protocol::Submission => Rc::clone(&shard.settings().submissions),
        Protocol::Smtp | Protocol::Pop3 | Protocol::Imap => Rc::clone(&shard.settings().smtp),
    }
}

/// Says why, in the peer's protocol, and hangs up.
async fn turn_away<E: Env>(
    shard: Rc<Shard<E>>,
    mut conn: Stream<E>,
    protocol: Protocol,
    refusal: Refusal,
) {
    shard.refusing.set(shard.refusing.get() + 1);
    let mut out = Chain::new();
    match protocol {
        Protocol::Pop3 => crate::proto::pop3::turn_away(&mut out),
        Protocol::Imap => super::imap::turn_away(&mut out),
        Protocol::Smtp | Protocol::Lmtp | Protocol::Submission => {
            let settings = smtp_settings(&shard, protocol);
            match refusal {
                Refusal::Busy => settings.greet_busy(&mut out),
                Refusal::Often(Often::Address) => {
                    settings.greet_refused("Your address connects too often", &mut out);
                }
                Refusal::Often(Often::Network) => {
                    settings.greet_refused("Your network connects too often", &mut out);
                }
            }
        }
    }
    let deadline = shard.env.now().after(Duration::from_secs(5));
    if conn.write(&mut out, deadline).await.is_ok() {
        conn.close().await;
    }
    shard.refusing.set(shard.refusing.get() - 1);
}
