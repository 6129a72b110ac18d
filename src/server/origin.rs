//! What the DNS says of a client, looked up by a task of its own while the session goes on.
//!
//! The name of the client is the one that its address has, if that name has the address (RFC 8601
//! §3 calls it iprev). Nobody waits for it: it stands in Received and in the log if it is known by
//! then. What lists say is waited for, behind the answer to EHLO: all lists are asked at once, and
//! one that does not answer in time has not listed anybody.

use super::guard::Settings;
use super::shard::Shard;
use crate::concierge::dns::{Data, Kind};
use crate::dns::Resolver;
use crate::env::Env;
use crate::env::bell::Waiting;
use crate::env::together::together;
use crate::model::limits::{
    DNS_LIST_WARN_PAUSE, DOMAIN_OCTETS_MAX, NAMES_AT_ONCE_MAX, REVERSE_NAMES_MAX,
};
use crate::policy::Checks;
use crate::policy::dns_list::{List, Said, reversed};
use crate::probe::event::{Level, Value, event};
use crate::server::flag::Flag;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

/// See the header.
#[derive(Default)]
pub(super) struct Origin {
    name: RefCell<Option<Rc<str>>>,
    listed: RefCell<Rc<Listed>>,
    /// Set once `listed` is what the lists say.
    heard: Flag,
}

/// What the lists say of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The weights of the lists that it is on.
    pub(super) score: i32,
    /// Those of them that speak against it, parted by a comma and a space.
    pub(super) zones: String,
}

impl Origin {
    /// Begins to look; none where nothing is asked for.
    pub(super) fn of<E: Env>(
        shard: &Rc<Shard<E>>,
        client: IpAddr,
        checks: Checks,
    ) -> Option<Rc<Origin>> {
        let settings = Rc::clone(&shard.settings().protect);
        let asks_lists = checks.has(Checks::DNS_LISTS) && !settings.lists.is_empty();
        let asks_name = checks.has(Checks::REVERSE_NAME);
        if !asks_lists && !asks_name {
            return None;
        }
        let origin = Rc::<Origin>::default();
        if asks_lists {
            let (shard, known) = (Rc::clone(shard), Rc::clone(&origin));
            shard.env.clone().spawn(async move {
                let listed = listed(&shard, client, &settings).await;
                *known.listed.borrow_mut() = Rc::new(listed);
                known.heard.set();
            });
        } else {
            origin.heard.set();
        }
        // Names decide nothing: slow ones never take the places that lists need.
        if asks_name && shard.naming.get() < NAMES_AT_ONCE_MAX {
            let (shard, known) = (Rc::clone(shard), Rc::clone(&origin));
            shard.naming.set(shard.naming.get() + 1);
            shard.env.clone().spawn(async move {
                let name = name(&shard.dns, client).await;
                *known.name.borrow_mut() = name;
                shard.naming.set(shard.naming.get() - 1);
            });
        }
        Some(origin)
    }

    /// The name of the client, as far as it is known by now.
    pub(super) fn name(&self) -> Option<Rc<str>> {
        self.name.borrow().clone()
    }

    pub(super) fn has_heard(&self) -> bool {
        self.heard.is_set()
    }

    /// Comes back when the lists were heard.
    pub(super) fn hear(&self) -> Waiting<'_> {
        self.heard.wait()
    }

    /// What the lists say; nothing before they were heard.
    pub(super) fn listed(&self) -> Rc<Listed> {
        Rc::clone(&self.listed.borrow())
    }
}

/// Asks all lists at once.
async fn listed<E: Env>(shard: &Shard<E>, client: IpAddr, settings: &Settings) -> Listed {
    let ask = async |list: &List| {
        let question = list.question(client)?;
        let Ok(found) = shard.dns.look_up(Kind::A, &question).await else {
            shard.figures.lists_broken.one();
            warn(shard, list, "no answer");
            return None;
        };
        match list.says(found.addresses()) {
            Said::Listed => Some(list.weight),
            Said::Unlisted => None,
            Said::Nonsense(answer) => {
                shard.figures.lists_broken.one();
                warn(shard, list, &answer.to_string());
                None
            }
        }
    };
    let said = together(settings.lists.iter().map(ask)).await;
    let mut listed = Listed::default();
    for (list, weight) in settings.lists.iter().zip(said) {
        listed.score = listed.score.saturating_add(weight.unwrap_or(0));
        if weight.is_some_and(|weight| weight > 0) {
            let comma = if listed.zones.is_empty() { "" } else { ", " };
            listed.zones.push_str(comma);
            listed.zones.push_str(&list.zone);
        }
    }
    listed
}

/// Tells the operator now and then of a list that is of no use.
fn warn<E: Env>(shard: &Shard<E>, list: &List, answer: &str) {
    let now = shard.env.now();
    let last = shard.list_warned.get();
    if last.is_some_and(|last| now.since(last) < DNS_LIST_WARN_PAUSE) {
        return;
    }
    shard.list_warned.set(Some(now));
    let fields = [("zone", Value::Text(&list.zone)), ("answer", answer.into())];
    event(Level::Warn, "dns_list_useless", &fields);
}

/// The name of an address that has the address.
async fn name<E: Env>(dns: &Resolver<E>, client: IpAddr) -> Option<Rc<str>> {
    let (zone, kind) = match client {
        IpAddr::V4(_) => ("in-addr.arpa", Kind::A),
        IpAddr::V6(_) => ("ip6.arpa", Kind::Aaaa),
    };
    let names = dns.look_up(Kind::Ptr, &format!("{}.{zone}", reversed(client))).await.ok()?;
    for data in names.records.iter().take(REVERSE_NAMES_MAX) {
        let Data::Name(name) = data else { continue };
        if !is_host(name) {
            continue;
        }
        let addresses = dns.look_up(kind, name).await;
        if addresses.is_ok_and(|found| found.records.contains(&Data::Address(client))) {
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
