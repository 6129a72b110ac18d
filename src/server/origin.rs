//! What the DNS says of a client, looked up by a task of its own while the session goes on.
//!
//! The name of the client is the one that its address has, if that name has the address (RFC 8601
//! §3 calls it iprev). Nobody waits for it: it stands in Received and in the log if it is known by
//! then.

use super::shard::Shard;
use crate::concierge::dns::{Data, Kind};
use crate::dns::Resolver;
use crate::env::Env;
use crate::model::limits::{DOMAIN_OCTETS_MAX, REVERSE_NAMES_MAX};
use crate::policy::Checks;
use crate::policy::dns_list::reversed;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// See the header.
#[derive(Default)]
pub(super) struct Origin {
    name: RefCell<Option<Rc<str>>>,
}

impl Origin {
    /// Begins to look; none where nothing is asked for.
    pub(super) fn of<E: Env>(
        shard: &Rc<Shard<E>>,
        client: IpAddr,
        checks: Checks,
    ) -> Option<Rc<Origin>> {
        if !checks.has(Checks::REVERSE_NAME) {
            return None;
        }
        let origin = Rc::<Origin>::default();
        let (dns, known) = (shard.dns.clone(), Rc::clone(&origin));
        shard.env.spawn(async move {
            let name = name(&dns, client).await;
            *known.name.borrow_mut() = name;
        });
        Some(origin)
    }

    /// The name of the client, as far as it is known by now.
    pub(super) fn name(&self) -> Option<Rc<str>> {
        self.name.borrow().clone()
    }
}

/// The name of an address that has the address.
async fn name<E: Env>(dns: &Resolver<E>, client: IpAddr) -> Option<Rc<str>> {
    let (zone, kind) = match client {
        IpAddr::V4(_) => ("in-addr.arpa", Kind::A),
        IpAddr::V6(_) => ("ip6.arpa", Kind::Aaaa),
    };
    let names = dns.look_up(Kind::Ptr, &format!("{}.{zone}", reversed(client))).await.ok()?;
    for data in names.iter().take(REVERSE_NAMES_MAX) {
        let Data::Name(name) = data else { continue };
        if !is_host(name) {
            continue;
        }
        let addresses = dns.look_up(kind, name).await;
        if addresses.is_ok_and(|all| all.contains(&Data::Address(client))) {
            return Some((&**name).into());
        }
    }
    None
}

/// A name that can stand in a trace line; the owner of an address may put anything into the DNS.
fn is_host(name: &str) -> bool {
    let is_letter = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    (1..=DOMAIN_OCTETS_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}
