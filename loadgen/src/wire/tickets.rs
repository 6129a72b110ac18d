//! TLS sessions that later connections go on with.
//!
//! A run asks all its servers by one name, so there is one heap. A ticket of TLS 1.3 is used
//! once (RFC 8446 §C.4), the newest first: it is the last to expire, and the server's keys are
//! the last to change. The store of the TLS library keeps eight for a server, so that where
//! more connections begin at once than that, the rest of them would be full handshakes.

use std::collections::VecDeque;
use std::sync::RwLock;

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets kept; the oldest goes when there are more. Some 2 KiB each with its certificates.
const TICKETS_MAX: usize = 16 << 10;

/// What is kept of earlier connections.
#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    /// A session of TLS 1.2 may be used many times.
    session: Option<Tls12ClientSessionValue>,
    /// The newest last.
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of all connections of a run.
#[derive(Debug, Default)]
pub(crate) struct Tickets(RwLock<Kept>);

impl Tickets {
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.write().expect("no change of what is kept panics"))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.change(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.change(|kept| kept.group)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.change(|kept| kept.session = Some(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.change(|kept| kept.session.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.change(|kept| kept.session = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.change(|kept| {
            if kept.tickets.len() >= TICKETS_MAX {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.change(|kept| kept.tickets.pop_back())
    }
}
