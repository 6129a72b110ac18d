//! What all shards remember of clients together, and what the operator allows them.
//!
//! The [`Guard`] is the memory: sketches of fixed size that any shard reads and writes without
//! waiting (`policy/rate.rs`). Clients of the exempt networks are held against nothing.

use super::listener::Protocol;
use crate::model::limits::REFUSALS_TOLD_PER_MINUTE;
use crate::model::site::site;
use crate::model::time::Mono;
use crate::policy::dns_list::List;
use crate::policy::greylist::{self, Greylist};
use crate::policy::{Checks, Rate, Sketch, network};
use crate::probe::event::{Level, Value, event};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// See the header.
#[derive(Debug)]
pub struct Guard {
    connections: Sketch,
    network_connections: Sketch,
    commands: Sketch,
    /// Recipients that are not there.
    unknown: Sketch,
    /// Who came back, and who is to.
    pub greylist: Greylist,
    /// Of whom the log was told lately.
    told: Sketch,
}

/// What the operator allows; see `[protect]` and `[proxy]`.
#[derive(Clone)]
pub struct Settings {
    /// By the name of the listener; one that is not named makes none.
    pub checks: Vec<(&'static str, Checks)>,
    pub is_exempt: Rc<dyn Fn(IpAddr) -> bool>,
    /// Of one address, IPv6: one /64.
    pub connections: Rate,
    /// Of one network.
    pub network_connections: Rate,
    /// Of one address, all its sessions together.
    pub commands: Rate,
    /// Unknown recipients of one session before its answers are held back.
    pub unknown_free: u32,
    /// The same before it is hung up on; 0 is no limit.
    pub unknown_max: u32,
    /// Unknown recipients of one address.
    pub unknown: Rate,
    /// Wait before the greeting; zero is none.
    pub greet_delay: Duration,
    pub refuse_own_hello: bool,
    pub refuse_bare_hello: bool,
    /// Lists of addresses in the DNS.
    pub lists: Rc<[List]>,
    /// Score from which on recipients are refused, and messages marked; 0 is never.
    pub lists_reject: i32,
    pub lists_mark: i32,
    /// None where nobody is asked to come back.
    pub greylist: Option<greylist::Settings>,
    /// Whether a proxy connects from here to this listener, and says for whom.
    pub is_proxy: Rc<dyn Fn(Protocol, IpAddr) -> bool>,
    /// Whether an SMTP client from here may say who its own client is.
    pub is_xclient: Rc<dyn Fn(IpAddr) -> bool>,
    /// Wait for what a proxy says.
    pub proxy_timeout: Duration,
}

impl Settings {
    /// What this listener checks of this client.
    pub fn checks(&self, protocol: Protocol, client: IpAddr) -> Checks {
        if (self.is_exempt)(client) {
            return Checks::NONE;
        }
        let of = self.checks.iter().find(|(name, _)| *name == protocol.name());
        of.map_or(Checks::NONE, |&(_, checks)| checks)
    }
}

/// Who connects too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Often {
    Address,
    Network,
}

impl Guard {
    /// `key` is secret, and made anew by each process; `triplets` are what greylisting remembers.
    pub fn new(key: &[u8; 32], triplets: usize) -> Guard {
        let key: [u8; 16] = std::array::from_fn(|index| key[index] ^ key[16 + index]);
        let sketch = || Sketch::new(key);
        Guard {
            connections: sketch(),
            network_connections: sketch(),
            commands: sketch(),
            unknown: sketch(),
            greylist: Greylist::new(triplets, key),
            told: sketch(),
        }
    }

    /// Counts a connection; `Err` where it is one too many.
    pub fn connects(&self, client: IpAddr, settings: &Settings, now: Mono) -> Result<(), Often> {
        if !self.connections.take(site(client), 1, settings.connections, now) {
            return Err(Often::Address);
        }
        let net = network(client);
        if self.network_connections.take(net, 1, settings.network_connections, now) {
            Ok(())
        } else {
            Err(Often::Network)
        }
    }

    /// Counts commands; false where they are too many.
    pub fn commands(&self, client: IpAddr, count: u32, settings: &Settings, now: Mono) -> bool {
        let may = self.commands.take(site(client), count, settings.commands, now);
        if !may {
            // They were done: a new connection is not to begin with what was left.
            self.commands.spend(site(client), settings.commands, now);
        }
        may
    }

    /// Counts a recipient that is not there.
    pub fn missed(&self, client: IpAddr, settings: &Settings, now: Mono) {
        // What is too much shows in the next question.
        let _is_within = self.unknown.take(site(client), 1, settings.unknown, now);
    }

    /// Whether this client has asked for all the unknown recipients that it may.
    pub fn has_missed_enough(&self, client: IpAddr, settings: &Settings, now: Mono) -> bool {
        self.unknown.is_spent(site(client), settings.unknown, now)
    }

    /// Tells the operator that a client was refused something, and of each client only so often.
    pub fn tell(&self, client: IpAddr, protocol: Protocol, why: &str, what: &str, now: Mono) {
        let rate = Rate::per_minute(REFUSALS_TOLD_PER_MINUTE);
        if !self.told.take(site(client), 1, rate, now) {
            return;
        }
        let mut fields = vec![
            ("protocol", protocol.name().into()),
            ("peer", Value::Shown(&client)),
            ("why", why.into()),
        ];
        if !what.is_empty() {
            fields.push(("what", what.into()));
        }
        event(Level::Info, "client_refused", &fields);
    }
}
