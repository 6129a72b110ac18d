//! VRFY and EXPN: who is told to whom.
//!
//! Whoever is told here that somebody is not there learns what RCPT would have told: it counts the same,
//! and who asks too much is told nothing, of nobody (252).

use super::{BROKEN, DISABLED, Driver, Goes, NO_USER};
use crate::bytes::chain::Chain;
use crate::directory::{Aliased, Resolution, resolve};
use crate::env::Env;
use crate::model::address::Address;
use crate::model::limits::UNKNOWN_RECIPIENT_PAUSE;
use crate::proto::smtp::{Found, Lookup};
use crate::wire::address::parse_mailbox;

impl<E: Env> Driver<E> {
    /// Some: the client has to wait.
    pub(super) fn on_lookup(&mut self, lookup: Lookup<'_>) -> Option<Goes> {
        let mut out = Chain::new();
        if self.guest.refuses_recipients(&self.shard).is_some() {
            self.session.found(Found::Hidden, &mut out);
            self.put(out);
            return Some(Goes::Wait(UNKNOWN_RECIPIENT_PAUSE));
        }
        let (Lookup::Verify(text) | Lookup::Expand(text)) = lookup;
        let trimmed = text.trim().trim_start_matches('<').trim_end_matches('>');
        let found = parse_mailbox(trimmed).map(|path| {
            let snapshot = self.shard.directory();
            let names = &self.shard.settings().directory;
            let local = path.local().as_bytes();
            match resolve(&snapshot, local, path.domain(), names) {
                Resolution::Account { .. } => Ok(vec![path.to_address()]),
                Resolution::Aliased(aliased) => Ok(match lookup {
                    Lookup::Verify(_) => vec![path.to_address()],
                    Lookup::Expand(_) => members(&aliased),
                }),
                Resolution::UnknownDomain => Err(None),
                Resolution::UnknownUser => Err(Some(NO_USER)),
                Resolution::Disabled => Err(Some(DISABLED)),
                Resolution::Broken(_) => Err(Some(BROKEN)),
            }
        });
        let answer = match &found {
            Ok(Ok(mailboxes)) if !mailboxes.is_empty() => Found::Mailboxes(mailboxes),
            Ok(Err(Some(reply))) => Found::Refused(*reply),
            _ => Found::Hidden,
        };
        self.session.found(answer, &mut out);
        self.put(out);
        if answer == Found::Refused(NO_USER) { self.on_missed() } else { None }
    }
}

/// The members of an alias, as EXPN tells them.
fn members(aliased: &Aliased) -> Vec<Address> {
    let locals = aliased.locals.iter().map(|local| &*local.via);
    let all = locals.chain(aliased.remotes.iter().map(|remote| &*remote.address));
    all.filter_map(|text| parse_mailbox(text).ok().map(|path| path.to_address())).collect()
}
