//! From a listener to sessions: admits connections within the shard's bounds.

use super::shard::Shard;
use crate::env::{Conn as _, Env, Listener as _};
use crate::model::site::site;
use crate::probe::event::{Level, event};
use crate::proto::smtp::Settings;
use crate::tls::Stream;
use futures_lite::future::or;
use std::net::IpAddr;
use std::rc::Rc;

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Lmtp,
    Pop3,
    Imap,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
            Protocol::Pop3 => "pop3",
            Protocol::Imap => "imap",
        }
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

/// Accepts until the shard drains; each connection is a session of its own.
pub async fn serve<E: Env>(shard: Rc<Shard<E>>, listener: E::Listener, protocol: Protocol) {
    loop {
        let accepted = or(async { Some(listener.accept().await) }, async {
            shard.draining.wait().await;
            None
        });
        let conn = match accepted.await {
            None => return,
            Some(Ok(conn)) => Stream::plain(conn),
            Some(Err(error)) => {
                let fields = [("protocol", protocol.name().into()), ("why", (&error).into())];
                event(Level::Error, "accept_failed", &fields);
                shard.env.sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        shard.figures.accepted.one();
        let admitted = Admitted::new(&shard, conn.peer().ip());
        let shard = Rc::clone(&shard);
        let env = shard.env.clone();
        match (admitted, protocol) {
            (None, _) => {
                shard.figures.turned_away.one();
                env.spawn(turn_away(shard, conn, protocol));
            }
            (Some(admitted), Protocol::Pop3) => {
                env.spawn(super::pop3::serve(shard, conn, admitted));
            }
            (Some(admitted), Protocol::Imap) => {
                env.spawn(super::imap::serve(shard, conn, admitted));
            }
            (Some(admitted), Protocol::Smtp | Protocol::Lmtp) => {
                let settings = smtp_settings(&shard, protocol);
                env.spawn(super::smtp::serve(shard, conn, settings, admitted));
            }
        }
    }
}

fn smtp_settings<E: Env>(shard: &Shard<E>, protocol: Protocol) -> Rc<Settings> {
    match protocol {
        Protocol::Lmtp => Rc::clone(&shard.settings().lmtp),
        Protocol::Smtp | Protocol::Pop3 | Protocol::Imap => Rc::clone(&shard.settings().smtp),
    }
}

/// Says why, in the peer's protocol, and hangs up.
async fn turn_away<E: Env>(shard: Rc<Shard<E>>, mut conn: Stream<E>, protocol: Protocol) {
    let mut out = crate::bytes::chain::Chain::new();
    match protocol {
        Protocol::Pop3 => crate::proto::pop3::turn_away(&mut out),
        Protocol::Imap => super::imap::turn_away(&mut out),
        Protocol::Smtp | Protocol::Lmtp => smtp_settings(&shard, protocol).greet_busy(&mut out),
    }
    let deadline = shard.env.now().after(std::time::Duration::from_secs(5));
    if conn.write(&mut out, deadline).await.is_ok() {
        conn.close().await;
    }
}
