//! Sessions with servers that the next connection can go on with (RFC 8446 §2.2).
//!
//! Kept by the name that a server was called by, the oldest thrown away when there are too many.
//! What was demanded does not matter: what a server had shown is looked at each time.
#![expect(
    clippy::disallowed_types,
    reason = "rustls asks for one store that all threads share; it is held for as long as a look takes"
)]

use crate::model::limits::{TLS_TICKETS_MAX, TLS_TICKETS_PER_SERVER_MAX};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Name = ServerName<'static>;

/// What is kept, for all shards.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Kept>);

/// Each the oldest first.
#[derive(Default)]
struct Kept {
    groups: VecDeque<(Name, NamedGroup)>,
    tls12: VecDeque<(Name, Tls12ClientSessionValue)>,
    tls13: VecDeque<(Name, Tls13ClientSessionValue)>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tickets(…)")
    }
}

impl Tickets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds one behind those that there are, of which there may be `of_name` with this name by then.
fn put<T>(kept: &mut VecDeque<(Name, T)>, name: Name, value: T, of_name: usize) {
    if kept.iter().filter(|(other, _)| *other == name).count() >= of_name {
        take(kept, &name);
    }
    if kept.len() >= TLS_TICKETS_MAX {
        kept.pop_front();
    }
    kept.push_back((name, value));
}

/// Takes the oldest one with this name.
fn take<T>(kept: &mut VecDeque<(Name, T)>, name: &ServerName<'_>) -> Option<T> {
    let at = kept.iter().position(|(other, _)| other == name)?;
    kept.remove(at).map(|(_, value)| value)
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: Name, group: NamedGroup) {
        put(&mut self.kept().groups, name, group, 1);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        let kept = self.kept();
        kept.groups.iter().find(|(other, _)| other == name).map(|(_, group)| *group)
    }

    fn set_tls12_session(&self, name: Name, value: Tls12ClientSessionValue) {
        put(&mut self.kept().tls12, name, value, 1);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let kept = self.kept();
        kept.tls12.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    fn remove_tls12_session(&self, name: &Name) {
        take(&mut self.kept().tls12, name);
    }

    fn insert_tls13_ticket(&self, name: Name, value: Tls13ClientSessionValue) {
        put(&mut self.kept().tls13, name, value, TLS_TICKETS_PER_SERVER_MAX);
    }

    /// Each is given away once (RFC 8446 §C.4).
    fn take_tls13_ticket(&self, name: &Name) -> Option<Tls13ClientSessionValue> {
        take(&mut self.kept().tls13, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let tickets = Tickets::default();
        let name = |number: usize| Name::try_from(format!("mx{number}.example")).unwrap();
        for number in 0..TLS_TICKETS_MAX + 2 {
            tickets.set_kx_hint(name(number), NamedGroup::X25519);
        }
        // Of a name there is one, however often it is told.
        for group in [NamedGroup::X25519, NamedGroup::secp384r1] {
            tickets.set_kx_hint(name(2), group);
        }
        let hint = |number| tickets.kx_hint(&name(number));
        assert_eq!((hint(0), hint(1)), (None, None));
        assert_eq!(hint(2), Some(NamedGroup::secp384r1));
        assert_eq!(hint(3), Some(NamedGroup::X25519));
        assert_eq!(tickets.kept().groups.len(), TLS_TICKETS_MAX);
    }
}
