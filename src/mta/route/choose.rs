//! What answers of the DNS mean for a domain's mail (RFC 5321 §5.1), as pure functions of them.

use super::{Hop, No, Plan, Secure, Settings, Way, is_of_a_host};
use crate::concierge::dns::{Data, Found};
use crate::dns::{Answer, Trouble};
use crate::model::limits::{
    DOMAIN_OCTETS_MAX, MX_ADDRESSES_MAX, MX_HOPS_MAX, MX_HOSTS_MAX, SAID_OCTETS_MAX,
};
use crate::model::reply::{Enhanced, Said};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Hosts that mail may go to, before their addresses are known.
pub(super) struct Choice {
    way: Way,
    port: u16,
    candidates: Vec<Candidate>,
    /// Hosts were left out for being this server, or worse than it.
    is_cut: bool,
    notes: Vec<Box<str>>,
}

struct Candidate {
    host: Box<str>,
    preference: u16,
    is_secure: bool,
}

/// What the DNS says of a host's addresses; none where a family is not asked for.
pub(super) struct Asked {
    pub(super) v4: Option<Answer>,
    pub(super) v6: Option<Answer>,
}

/// Addresses, each with whether it is signed; and why there may be more.
type Addresses = (Vec<(IpAddr, bool)>, Option<Trouble>);

/// Why a host is not gone to.
enum Skip {
    /// The DNS does not say where it is.
    Trouble(Trouble),
    /// RFC 5321 §5.1, RFC 2181 §10.3: an MX record names no alias.
    Alias(Box<str>),
    Nowhere,
    NoAddress,
}

/// The one address that is known already.
pub(super) fn one(
    domain: &str,
    way: Way,
    address: SocketAddr,
    settings: &Settings,
) -> Result<Rc<Plan>, No> {
    if !is_of_a_host(address.ip()) {
        let text = format!("{} is no address of a server", address.ip());
        return Err(no(way, 550, Enhanced(4, 4), &text, Vec::new()));
    }
    if (settings.is_own)(address) {
        return Err(loops(way, domain, vec![format!("{address} is this server").into()]));
    }
    let secure = Secure::default();
    let site = match way {
        Way::Route(_) => address.to_string().into(),
        _ => domain.into(),
    };
    let hops = vec![Hop { host: None, address, preference: 0, secure }];
    Ok(Rc::new(Plan { way, hops, site, notes: Vec::new() }))
}

/// The hosts that an answer to the question for MX records leaves.
pub(super) fn choose(
    domain: &str,
    answer: &Answer,
    settings: &Settings,
    random: u64,
) -> Result<Choice, No> {
    let found = answer.as_ref().map_err(|trouble| later(domain, *trouble, Vec::new()))?;
    if !found.exists {
        return Err(nowhere(domain));
    }
    if found.is_null_mx() {
        let text = format!("{domain} takes no mail (null MX)");
        return Err(no(Way::Mx, 556, Enhanced(1, 10), &text, Vec::new()));
    }
    let (way, port) = (Way::Mx, settings.port);
    let mut choice = Choice { way, port, candidates: Vec::new(), is_cut: false, notes: Vec::new() };
    if found.records.is_empty() {
        choice.way = Way::Itself;
        let (host, is_secure) = (domain.into(), found.is_secure);
        choice.candidates.push(Candidate { host, preference: 0, is_secure });
    } else {
        choice.take(found, &settings.hostname, random);
    }
    if choice.way == Way::Itself && *domain == *settings.hostname {
        choice.cut(0, "is this server");
    }
    if choice.candidates.is_empty() {
        return Err(choice.no_way(domain, None));
    }
    Ok(choice)
}

impl Choice {
    /// The host of a route: nobody else had a say in its name.
    pub(super) fn relay(number: usize, host: Box<str>, port: u16) -> Choice {
        let way = Way::Route(number);
        let candidates = vec![Candidate { host, preference: 0, is_secure: true }];
        Choice { way, port, candidates, is_cut: false, notes: Vec::new() }
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.candidates.iter().map(|candidate| &*candidate.host)
    }

    /// MX records, best first, equal ones in any order.
    fn take(&mut self, found: &Found, own: &str, random: u64) {
        let mut records: Vec<(u16, &str)> = Vec::with_capacity(found.records.len());
        for data in &found.records {
            if let Data::Mx(preference, host) = data {
                records.push((*preference, host));
            }
        }
        // Of a host that is named twice the better record counts.
        records.sort_unstable();
        let mut seen = BTreeSet::new();
        records.retain(|(_, host)| seen.insert(*host));
        let mut draw = random;
        for group in records.chunk_by_mut(|one, other| one.0 == other.0) {
            draw = shuffle(group, draw);
        }
        // RFC 5321 §5.1: a server that is among the hosts gives mail to better ones alone.
        let own = records.iter().find(|(_, host)| *host == own).map(|(preference, _)| *preference);
        if let Some(own) = own {
            let worse =
                records.split_off(records.partition_point(|(preference, _)| *preference < own));
            self.note_cut(worse.into_iter().map(|(_, host)| host), own, "is this server");
        }
        let left = records.len().saturating_sub(MX_HOSTS_MAX);
        for (preference, host) in records.into_iter().take(MX_HOSTS_MAX) {
            if let Some(why) = unusable(host) {
                self.note(host, preference, why);
            } else {
                let is_secure = found.is_secure;
                self.candidates.push(Candidate { host: host.into(), preference, is_secure });
            }
        }
        if left > 0 {
            self.notes.push(format!("{left} more hosts are left out").into());
        }
    }

    fn cut(&mut self, preference: u16, why: &str) {
        let from = self.candidates.partition_point(|one| one.preference < preference);
        let gone = self.candidates.split_off(from);
        self.note_cut(gone.iter().map(|one| &*one.host), preference, why);
    }

    fn note_cut<'h>(&mut self, hosts: impl Iterator<Item = &'h str>, preference: u16, why: &str) {
        let mut names: Vec<&str> = hosts.map(shown).collect();
        let more = if names.len() > MX_HOSTS_MAX { ", and more" } else { "" };
        names.truncate(MX_HOSTS_MAX);
        let names = names.join(", ");
        self.notes.push(match self.way {
            Way::Mx => format!("{names}{more} ({preference}): left out, one {why}").into(),
            _ => format!("{names} {why}").into(),
        });
        self.is_cut = true;
    }

    fn note(&mut self, host: &str, preference: u16, why: &str) {
        let host = shown(host);
        self.notes.push(match self.way {
            Way::Mx => format!("{host} ({preference}): {why}").into(),
            _ => format!("{host} {why}").into(),
        });
    }

    /// The plan, by what the DNS says of each host, in the order of [`Choice::hosts`].
    pub(super) fn into_plan(
        mut self,
        domain: &str,
        asked: &[Asked],
        settings: &Settings,
    ) -> Result<Plan, No> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut trouble: Option<(Box<str>, Trouble)> = None;
        let mut only = None;
        for (index, asked) in asked.iter().enumerate() {
            let Some(candidate) = self.candidates.get(index) else { break };
            let (preference, is_secure) = (candidate.preference, candidate.is_secure);
            let host = candidate.host.clone();
            let found = match addresses(asked, self.way == Way::Mx) {
                Ok((found, missing)) => {
                    if let Some(why) = missing {
                        let text = Skip::Trouble(why).text();
                        self.note(&host, preference, &format!("one kind of address: {text}"));
                    }
                    found
                }
                Err(skip) => {
                    self.note(&host, preference, &skip.text());
                    if let Skip::Trouble(why) = skip {
                        // Where one was not even asked for there may be a way.
                        if trouble.is_none() || why == Trouble::Busy {
                            trouble = Some((host, why));
                        }
                    } else {
                        only = Some(skip);
                    }
                    continue;
                }
            };
            let at = |ip: IpAddr| SocketAddr::new(ip, self.port);
            if found.iter().any(|(ip, _)| (settings.is_own)(at(*ip))) {
                self.cut(preference, "has the address of this server");
                hops.retain(|hop| hop.preference < preference);
                break;
            }
            let usable = found.into_iter().filter(|(ip, _)| is_of_a_host(*ip));
            let before = hops.len();
            hops.extend(usable.take(MX_ADDRESSES_MAX).map(|(ip, address)| Hop {
                host: Some(host.clone()),
                address: at(ip),
                preference,
                secure: Secure { name: is_secure, address },
            }));
            if hops.len() == before {
                self.note(&host, preference, "has no address that a host can have");
            }
        }
        if hops.len() > MX_HOPS_MAX {
            self.notes
                .push(format!("{} more addresses are left out", hops.len() - MX_HOPS_MAX).into());
            hops.truncate(MX_HOPS_MAX);
        }
        match (hops.first(), trouble, only) {
            (Some(_), _, _) => {
                let site = self.site(&hops);
                Ok(Plan { way: self.way, hops, site, notes: self.notes })
            }
            // Mail whose domain is its own host, and not there.
            (None, None, Some(Skip::Nowhere)) if self.way == Way::Itself => Err(nowhere(domain)),
            (None, trouble, _) => Err(self.no_way(domain, trouble)),
        }
    }

    fn site(&self, hops: &[Hop]) -> Box<str> {
        let best = hops.first().map(|hop| hop.preference);
        let best = hops.iter().filter(|hop| Some(hop.preference) == best);
        let hosts: BTreeSet<&str> = best.filter_map(|hop| hop.host.as_deref()).collect();
        let hosts = hosts.into_iter().collect::<Vec<_>>().join(",");
        match self.way {
            Way::Route(_) => format!("{hosts}:{}", self.port).into(),
            _ => hosts.into(),
        }
    }

    fn no_way(self, domain: &str, trouble: Option<(Box<str>, Trouble)>) -> No {
        match trouble {
            Some((host, trouble)) => later(&host, trouble, self.notes),
            None if self.is_cut => loops(self.way, domain, self.notes),
            None => {
                let text = format!("No server takes mail for {domain}: {}", self.notes.join("; "));
                no(self.way, 550, Enhanced(4, 4), &text, self.notes)
            }
        }
    }
}

impl Skip {
    fn text(&self) -> String {
        match self {
            Skip::Trouble(Trouble::Bogus) => "its signatures in the DNS do not fit".into(),
            Skip::Trouble(Trouble::Failed) => "its name servers do not answer".into(),
            Skip::Trouble(Trouble::Busy) => "too many questions are under way".into(),
            Skip::Alias(name) => format!("is an alias, of {}", shown(name)),
            Skip::Nowhere => "does not exist".into(),
            Skip::NoAddress => "has no address".into(),
        }
    }
}

/// The addresses of a host and whether they are signed, the families in turn, so that one that does
/// not work holds up every second attempt at most (RFC 3974 §3).
fn addresses(asked: &Asked, by_mx: bool) -> Result<Addresses, Skip> {
    let (mut trouble, mut exists) = (None, false);
    let mut families: [Vec<(IpAddr, bool)>; 2] = Default::default();
    for (family, answer) in families.iter_mut().zip([&asked.v6, &asked.v4]) {
        match answer {
            None => {}
            Some(Err(why)) => trouble = Some(*why),
            Some(Ok(found)) => {
                if let Some(alias) = found.alias.as_ref().filter(|_| by_mx) {
                    return Err(Skip::Alias(alias.clone()));
                }
                exists |= found.exists;
                family.extend(found.addresses().map(|ip| (ip.to_canonical(), found.is_secure)));
            }
        }
    }
    let [v6, v4] = families;
    let longest = v6.len().max(v4.len());
    let in_turn = (0..longest).flat_map(|index| [v6.get(index), v4.get(index)]).flatten();
    let all: Vec<(IpAddr, bool)> = in_turn.copied().collect();
    match trouble {
        missing if !all.is_empty() => Ok((all, missing)),
        Some(why) => Err(Skip::Trouble(why)),
        None if exists => Err(Skip::NoAddress),
        None => Err(Skip::Nowhere),
    }
}

/// Why a name in an MX record is none of a host.
fn unusable(host: &str) -> Option<&'static str> {
    let is_letter = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    if host.is_empty() {
        Some("says that there is no mail, beside others that say where it goes")
    } else if host.parse::<IpAddr>().is_ok() {
        Some("is an address, where a name has to be")
    } else if host.len() > DOMAIN_OCTETS_MAX || !host.bytes().all(is_letter) {
        Some("is no name of a host")
    } else {
        None
    }
}

/// A stranger's name in a line of ours.
fn shown(name: &str) -> &str {
    if name.is_empty() { "." } else { name.get(..DOMAIN_OCTETS_MAX).unwrap_or(name) }
}

/// Shuffles by `draw`; what to shuffle the next group by (Marsaglia's xorshift, of period 2^64 - 1).
fn shuffle<T>(group: &mut [T], draw: u64) -> u64 {
    let mut draw = draw.max(1);
    for index in (1..group.len()).rev() {
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        let count = u64::try_from(index + 1).unwrap_or(u64::MAX);
        group.swap(index, usize::try_from(draw % count).unwrap_or(0));
    }
    draw
}

fn nowhere(domain: &str) -> No {
    no(Way::Mx, 550, Enhanced(1, 2), &format!("There is no domain {domain}"), Vec::new())
}

fn loops(way: Way, domain: &str, notes: Vec<Box<str>>) -> No {
    let text = format!("Mail for {domain} would come back to this server");
    no(way, 554, Enhanced(4, 6), &text, notes)
}

fn later(name: &str, trouble: Trouble, notes: Vec<Box<str>>) -> No {
    let text = match trouble {
        Trouble::Failed => format!("The name servers do not say where {name} is"),
        Trouble::Bogus => format!("The signatures of {name} in the DNS do not fit"),
        Trouble::Busy => format!("Too many questions are under way to ask where {name} is"),
    };
    No { trouble: Some(trouble), ..no(Way::Mx, 451, Enhanced(4, 3), &text, notes) }
}

fn no(way: Way, code: u16, enhanced: Enhanced, text: &str, notes: Vec<Box<str>>) -> No {
    // What an operator wrote he can mend; nobody else hears of it meanwhile.
    let code = if matches!(way, Way::Route(_)) { 451 } else { code };
    let Enhanced(subject, detail) = enhanced;
    // Nothing but printable ASCII stands in it: names are A-labels, or were looked at above.
    let end = text.len().min(SAID_OCTETS_MAX);
    let text = text.get(..end).unwrap_or_default();
    No { said: Said::ours(code, subject, detail, text), trouble: None, notes }
}
