//! The client of an SMTP session, as far as it is held against it.

use super::listener::Protocol;
use super::origin::{Listed, Origin};
use super::shard::Shard;
use crate::env::Env;
use crate::model::address::Address;
use crate::model::limits::UNKNOWN_RECIPIENT_PAUSE;
use crate::policy::Checks;
use crate::policy::greylist::Patience;
use crate::wire::address::ForwardPath;
use crate::wire::smtp::reply::Reply;
use crate::wire::smtp::xclient::{Told, Xclient};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

/// See the header.
pub(super) struct Guest {
    protocol: Protocol,
    address: IpAddr,
    /// Where the client connected to.
    local: IpAddr,
    checks: Checks,
    /// Commands that were not counted against the rate yet.
    commands: u32,
    /// Recipients that are not there.
    unknown: u32,
    introduced: Option<Box<Introduced>>,
    /// Has logged in: held against its rates alone.
    pub(super) is_user: bool,
    /// What the DNS says of it, where that is asked for.
    origin: Option<Rc<Origin>>,
}

/// What a proxy told of the client, beside its address.
struct Introduced {
    name: Told<Box<str>>,
    login: Option<Box<str>>,
}

/// How a session goes on after a recipient that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    GoesOn,
    /// After a pause.
    Waits(Duration),
    /// It is hung up on.
    Ends,
}

const OWN_HELLO: Reply<'static> = Reply::new(550, 7, 1, "The name that you gave yourself is ours");
const BARE_HELLO: Reply<'static> =
    Reply::new(550, 7, 1, "Say EHLO with a domain or an address literal");
const TOO_CURIOUS: Reply<'static> =
    Reply::new(450, 7, 1, "Too many unknown recipients from your address, come back later");

impl Guest {
    pub(super) fn new<E: Env>(
        shard: &Rc<Shard<E>>,
        protocol: Protocol,
        address: IpAddr,
        local: IpAddr,
    ) -> Guest {
        let checks = shard.settings().protect.checks(protocol, address);
        let origin = Origin::of(shard, address, checks);
        Guest {
            protocol,
            address,
            local,
            checks,
            commands: 0,
            unknown: 0,
            introduced: None,
            is_user: false,
            origin,
        }
    }

    fn makes(&self, check: Checks) -> bool {
        self.checks.has(check) && (!self.is_user || check == Checks::RATES)
    }

    /// The name that the DNS has for the client, as far as it is known by now.
    pub(super) fn name(&self) -> Option<Rc<str>> {
        match self.introduced.as_ref().map(|introduced| &introduced.name) {
            Some(Told::Is(name)) => Some(Rc::from(&**name)),
            Some(Told::Unknown) => None,
            Some(Told::Nothing) | None => self.origin.as_ref()?.name(),
        }
    }

    /// As whom the client logged in, by the word of a proxy.
    pub(super) fn login(&self) -> Option<&str> {
        self.introduced.as_ref()?.login.as_deref()
    }

    /// A proxy says who the client is. An address that it does not know or say is none that is exempt
    /// from anything; who has logged in there is known, and held against its rates alone.
    pub(super) fn introduce<E: Env>(&mut self, shard: &Rc<Shard<E>>, told: Xclient) -> IpAddr {
        let address = match told.address {
            Told::Nothing | Told::Unknown => Ipv4Addr::UNSPECIFIED.into(),
            Told::Is(address) => address,
        };
        let local = match told.server {
            Told::Is(server) => server,
            Told::Nothing | Told::Unknown => self.local,
        };
        let unknown = self.unknown;
        *self = Guest::new(shard, self.protocol, address, local);
        self.unknown = unknown;
        let login = match told.login {
            Told::Is(login) => Some(login),
            Told::Nothing | Told::Unknown => None,
        };
        if login.is_some() {
            self.checks = self.checks.only(Checks::RATES);
            self.origin = None;
        }
        self.introduced = Some(Box::new(Introduced { name: told.name, login }));
        address
    }

    /// How long the client has to be silent before it is greeted.
    pub(super) fn greet_delay<E: Env>(&self, shard: &Shard<E>) -> Option<Duration> {
        let delay = shard.settings().protect.greet_delay;
        (self.checks.has(Checks::EARLY_TALKER) && !delay.is_zero()).then_some(delay)
    }

    /// It was not.
    pub(super) fn spoke_early<E: Env>(&self, shard: &Shard<E>) {
        shard.figures.refused_early.one();
        self.tell(shard, "early_talker", "");
    }

    /// What has to be known before the client's mail is looked at, is.
    pub(super) fn is_known(&self) -> bool {
        self.origin.as_ref().is_none_or(|origin| origin.has_heard())
    }

    /// Comes back when it is: within the time that a question to the DNS may take.
    pub(super) async fn hear(&self) {
        if let Some(origin) = &self.origin {
            origin.hear().await;
        }
    }

    /// How long this recipient of this client's message has to wait, if it has to. Lists that speak
    /// for a client spare it.
    pub(super) fn greylists<E: Env>(
        &self,
        shard: &Shard<E>,
        sender: Option<&Address>,
        recipient: &Address,
    ) -> Option<Duration> {
        let protect = &shard.settings().protect;
        let settings = protect.greylist.filter(|_| self.makes(Checks::GREYLIST))?;
        if self.listed().is_some_and(|listed| listed.score < 0) {
            return None;
        }
        let sender = sender.map(ToString::to_string).unwrap_or_default();
        let (recipient, now) = (recipient.to_string(), shard.env.now());
        let patience =
            shard.guard.greylist.judge(self.address, &sender, &recipient, &settings, now);
        match patience {
            Patience::Passes => None,
            Patience::ComeBack(wait) => {
                shard.figures.greylisted.one();
                self.tell(shard, "greylist", &sender);
                Some(wait)
            }
        }
    }

    /// Why this client sends nothing to this recipient: the text of 550 5.7.1. Somebody has to hear
    /// that a list is wrong: postmaster (RFC 5321 §4.5.1) and abuse are spared.
    pub(super) fn refuses_listed<E: Env>(
        &self,
        shard: &Shard<E>,
        recipient: &ForwardPath<'_>,
    ) -> Option<String> {
        let reject = shard.settings().protect.lists_reject;
        let listed = self.listed().filter(|listed| reject > 0 && listed.score >= reject)?;
        let is_spared = match recipient {
            ForwardPath::Postmaster => true,
            ForwardPath::Path(path) => {
                let local = path.local();
                ["postmaster", "abuse"].iter().any(|name| local.eq_ignore_ascii_case(name))
            }
        };
        if is_spared {
            return None;
        }
        shard.figures.refused_listed.one();
        self.tell(shard, "dns_list", &listed.zones);
        Some(format!("Your address {} is listed by {}", self.address, listed.zones))
    }

    /// What stands in the header of a message of this client: its score, and the lists.
    pub(super) fn mark<E: Env>(&self, shard: &Shard<E>) -> Option<Rc<Listed>> {
        let mark = shard.settings().protect.lists_mark;
        let listed = self.listed().filter(|listed| mark > 0 && listed.score >= mark)?;
        shard.figures.marked_listed.one();
        Some(listed)
    }

    fn listed(&self) -> Option<Rc<Listed>> {
        Some(self.origin.as_ref().filter(|_| self.makes(Checks::DNS_LISTS))?.listed())
    }

    /// Why the name in EHLO cannot be the client's. RFC 5321 §4.1.4: a name is never refused for not
    /// being that of the address.
    pub(super) fn refuses_hello<E: Env>(
        &self,
        shard: &Shard<E>,
        hostname: &str,
        hello: &str,
    ) -> Option<Reply<'static>> {
        if !self.makes(Checks::HELLO) {
            return None;
        }
        let settings = shard.settings();
        let protect = &settings.protect;
        let literal = literal(hello);
        let is_ours = || match literal {
            Some(address) => address == self.local && address != self.address,
            None => hello.eq_ignore_ascii_case(hostname) || shard.directory().serves(hello),
        };
        let is_bare = literal.is_none() && !hello.starts_with('[') && !hello.contains('.');
        let reply = if protect.refuse_own_hello && is_ours() {
            OWN_HELLO
        } else if protect.refuse_bare_hello && is_bare {
            BARE_HELLO
        } else {
            return None;
        };
        shard.figures.refused_hello.one();
        self.tell(shard, "hello", hello);
        Some(reply)
    }

    /// Whether its senders are refused where nobody could answer to them (RFC 7505 §4.2).
    pub(super) fn checks_null_mx(&self) -> bool {
        self.makes(Checks::NULL_MX)
    }

    /// One was.
    pub(super) fn refused_null_mx<E: Env>(&self, shard: &Shard<E>, sender: &str) {
        shard.figures.refused_null_mx.one();
        self.tell(shard, "null_mx", sender);
    }

    /// Why no recipient of this client is answered for, be it there or not.
    pub(super) fn refuses_recipients<E: Env>(&self, shard: &Shard<E>) -> Option<Reply<'static>> {
        let now = shard.env.now();
        let protect = &shard.settings().protect;
        let is_over = self.makes(Checks::HARVEST)
            && shard.guard.has_missed_enough(self.address, protect, now);
        if !is_over {
            return None;
        }
        shard.figures.refused_harvest.one();
        self.tell(shard, "harvest", "unknown recipients of the address");
        Some(TOO_CURIOUS)
    }

    /// A recipient is not there.
    pub(super) fn missed<E: Env>(&mut self, shard: &Shard<E>) -> Missed {
        shard.figures.unknown_recipients.one();
        if !self.makes(Checks::HARVEST) {
            return Missed::GoesOn;
        }
        let protect = &shard.settings().protect;
        shard.guard.missed(self.address, protect, shard.env.now());
        self.unknown += 1;
        if protect.unknown_max > 0 && self.unknown > protect.unknown_max {
            shard.figures.refused_harvest.one();
            self.tell(shard, "harvest", "unknown recipients of the session");
            return Missed::Ends;
        }
        if self.unknown > protect.unknown_free {
            return Missed::Waits(UNKNOWN_RECIPIENT_PAUSE);
        }
        Missed::GoesOn
    }

    /// A command was worked through.
    pub(super) fn count(&mut self, is_command: bool) {
        self.commands += u32::from(is_command);
    }

    /// Counts the commands since the last time against the rate of the address; false where they are
    /// too many.
    pub(super) fn may_go_on<E: Env>(&mut self, shard: &Shard<E>) -> bool {
        let count = std::mem::take(&mut self.commands);
        if count == 0 || !self.checks.has(Checks::RATES) {
            return true;
        }
        let now = shard.env.now();
        let may = shard.guard.commands(self.address, count, &shard.settings().protect, now);
        if !may {
            shard.figures.refused_rate.one();
            self.tell(shard, "rate", "commands of the address");
        }
        may
    }

    fn tell<E: Env>(&self, shard: &Shard<E>, why: &str, what: &str) {
        shard.guard.tell(self.address, self.protocol, why, what, shard.env.now());
    }
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
fn literal(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[')?.strip_suffix(']')?;
    let six = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let address: IpAddr = match six {
        Some(_) => IpAddr::V6(inner.get(5..)?.parse().ok()?),
        None => IpAddr::V4(inner.parse().ok()?),
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_literals() {
        let check = |name: &str, want: Option<&str>| {
            assert_eq!(literal(name), want.map(|text| text.parse().unwrap()), "{name}");
        };
        check("[192.0.2.1]", Some("192.0.2.1"));
        check("[ipv6:2001:db8::1]", Some("2001:db8::1"));
        check("[2001:db8::1]", None);
        check("192.0.2.1", None);
        check("[IPv6]", None);
    }
}
