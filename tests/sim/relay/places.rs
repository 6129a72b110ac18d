//! The domains of the world: who takes their mail, how these servers are, and what the DNS says.

use super::case::{DOMAINS, address_of};
use pombal::concierge::dns::{Data, Failed, Found, Kind};
use pombal::env::sim::Chance;
use pombal::model::time::Wall;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The domain that is always well.
pub(crate) const WELL: usize = 0;
/// The domain of senders who are no users of ours; well too.
pub(crate) const HOME: usize = 1;

/// What a server does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Defer,
    Refuse,
    /// Hangs up.
    Drop,
    /// Says nothing any more.
    Silent,
    /// 421.
    Closing,
    /// Something that is no answer.
    Garble,
    /// An answer without an end.
    Endless,
    /// Takes its time, but less than a client's patience.
    Slow,
}

/// How a server is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Temper {
    /// Of a thousand answers, how many are by one of the moods.
    pub(crate) permille: u64,
    pub(crate) moods: Vec<Mood>,
    pub(crate) greylists: bool,
    /// Messages of one connection.
    pub(crate) mails_max: Option<u32>,
    /// Recipients of one transaction.
    pub(crate) rcpt_max: Option<usize>,
    /// It will never be better.
    pub(crate) stays: bool,
}

/// What a server knows of the protocol.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word that EHLO has or has not")]
pub(crate) struct Offers {
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
    pub(crate) eight_bit: bool,
    pub(crate) dsn: bool,
    pub(crate) size: bool,
    /// Knows EHLO at all; else none of the others counts.
    pub(crate) extended: bool,
    /// Enhanced status codes.
    pub(crate) enhanced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Nobody listens.
    Shut,
    /// Nobody reaches it.
    Dark,
}

/// A server of others.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) door: Door,
    pub(crate) temper: Temper,
    pub(crate) offers: Offers,
    /// It is the one server of all domains that it serves: what its site may bear is what it may.
    pub(crate) is_site: bool,
}

impl Server {
    /// It takes whatever it is sent.
    pub(crate) fn is_well(&self) -> bool {
        let Temper { permille, greylists, mails_max, rcpt_max, .. } = &self.temper;
        *permille == 0 && !greylists && mails_max.is_none() && rcpt_max.is_none()
    }
}

/// Where mail can be sent.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) name: String,
    /// Its servers, by number.
    pub(crate) servers: Vec<usize>,
    /// The DNS may say that it has no mail.
    pub(crate) is_nowhere: bool,
}

/// What is wrong with what the DNS says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Its servers answer now and then.
    Flaky,
    /// Answers take up to longer than anybody waits.
    Slow,
    /// There is no such name for a while.
    Gone { from: u64, to: u64 },
}

/// What the DNS says, of the time and the question alone.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    records: BTreeMap<String, Vec<(Kind, Data)>>,
    troubles: BTreeMap<String, Trouble>,
    salt: u64,
    /// All is well from here on.
    is_healed: AtomicBool,
}

/// The first life of a machine begins then, in seconds since 1970.
const BEGIN: u64 = 1_767_225_600;
/// A server that fails does so for that long, in seconds.
const SLOT: u64 = 20;

impl Zone {
    pub(crate) fn heal(&self) {
        self.is_healed.store(true, Ordering::Relaxed);
    }

    /// How long an answer takes, and the answer.
    pub(crate) fn answer(
        &self,
        kind: Kind,
        name: &str,
        wall: Wall,
    ) -> (Duration, Result<Found, Failed>) {
        let seconds = wall.0 / 1_000_000;
        let key = name.bytes().fold(self.salt, |key, octet| key.rotate_left(8) ^ u64::from(octet));
        let chance = Chance::new(key ^ (seconds / SLOT).rotate_left(40));
        let mut pause = Duration::from_millis(chance.between(1, 40));
        let ttl = Duration::from_secs(chance.between(1, 90));
        let trouble = self.troubles.get(name).filter(|_| !self.is_healed.load(Ordering::Relaxed));
        match trouble {
            Some(Trouble::Flaky) if chance.coin() => {
                return (pause, Err(Failed::Servers("SERVFAIL".into())));
            }
            Some(Trouble::Slow) => pause = Duration::from_millis(chance.between(100, 9_000)),
            Some(Trouble::Gone { from, to }) if (*from..*to).contains(&(seconds - BEGIN)) => {
                return (pause, Ok(Found::nowhere(ttl)));
            }
            _ => {}
        }
        let Some(records) = self.records.get(name) else { return (pause, Ok(Found::nowhere(ttl))) };
        let of_kind = records.iter().filter(|(one, _)| *one == kind);
        (pause, Ok(Found::plain(of_kind.map(|(_, data)| data.clone()).collect(), ttl)))
    }

    fn put(&mut self, name: &str, kind: Kind, data: Data) {
        self.records.entry(name.to_owned()).or_default().push((kind, data));
    }

    fn put_mx(&mut self, domain: &str, preference: u16, host: &str) {
        self.put(domain, Kind::Mx, Data::Mx(preference, host.into()));
    }
}

/// The message that a recipient was made for: `x.17.2@domain`.
pub(crate) fn number_in(address: &str) -> Option<usize> {
    let (local, _) = address.rsplit_once('@')?;
    local.split('.').nth(1).filter(|_| local.matches('.').count() == 2)?.parse().ok()
}

/// The world beside our own servers.
pub(crate) struct Places {
    pub(crate) domains: Vec<Domain>,
    pub(crate) hosts: Vec<Server>,
    pub(crate) zone: Arc<Zone>,
}

struct Maker<'c> {
    chance: &'c Chance,
    domains: Vec<Domain>,
    hosts: Vec<Server>,
    zone: Zone,
}

impl Places {
    pub(crate) fn new(chance: &Chance, nodes: usize) -> Places {
        let zone = Zone { salt: chance.bits(), ..Zone::default() };
        let mut maker = Maker { chance, domains: Vec::new(), hosts: Vec::new(), zone };
        for (number, domain) in DOMAINS.iter().enumerate().take(nodes) {
            let host = format!("mx.{domain}");
            maker.zone.put_mx(domain, 10, &host);
            maker.zone.put(&host, Kind::A, Data::Address(address_of(number)));
        }
        for name in ["well.example", "home.example"] {
            let host = maker.host(&format!("mx.{name}"), Door::Open, Temper::default(), true);
            maker.zone.put_mx(name, 10, &maker.hosts[host].name.clone());
            maker.domain(name, vec![host]);
        }
        for number in 2..2 + chance.between(1, 5) {
            maker.any(&format!("d{number}.example"));
        }
        let Maker { domains, hosts, zone, .. } = maker;
        Places { domains, hosts, zone: Arc::new(zone) }
    }

    /// The domain of an address of others.
    pub(crate) fn domain_of(&self, address: &str) -> Option<&Domain> {
        let (_, domain) = address.rsplit_once('@')?;
        self.domains.iter().find(|one| one.name == domain)
    }
}

impl Maker<'_> {
    fn domain(&mut self, name: &str, servers: Vec<usize>) -> &mut Domain {
        self.domains.push(Domain { name: name.into(), servers, is_nowhere: false });
        self.domains.last_mut().expect("it was just put there")
    }

    fn host(&mut self, name: &str, door: Door, temper: Temper, is_site: bool) -> usize {
        let number = self.hosts.len();
        let last = u8::try_from(number + 1).expect("few hosts");
        let ip = IpAddr::V4(Ipv4Addr::new(10, 1, 0, last));
        let some = |of: u64| self.chance.below(of) != 0;
        let offers = Offers {
            pipelining: some(4),
            chunking: some(3),
            eight_bit: some(6),
            dsn: some(2),
            size: some(4),
            extended: some(10),
            enhanced: some(4),
        };
        self.hosts.push(Server { name: name.into(), ip, door, temper, offers, is_site });
        self.zone.put(name, Kind::A, Data::Address(ip));
        number
    }

    fn temper(&self) -> Temper {
        use Mood::{Closing, Defer, Drop, Endless, Garble, Refuse, Silent, Slow};
        let all = [Defer, Refuse, Drop, Silent, Closing, Garble, Endless, Slow];
        let (permille, moods): (u64, &[Mood]) = match self.chance.below(10) {
            0 => (0, &[]),
            1 => (400, &[Defer]),
            2 => (200, &[Refuse]),
            3 => (150, &[Drop]),
            4 => (150, &[Drop, Silent, Closing]),
            5 => (150, &[Garble, Endless]),
            6 => (500, &[Slow]),
            7 => (1_000, &[Defer]),
            8 => (1_000, &[Drop]),
            _ => (100, &all),
        };
        let one_of = |of: u64| self.chance.below(of) == 0;
        Temper {
            permille,
            moods: moods.to_vec(),
            greylists: one_of(5),
            mails_max: one_of(5).then(|| 1 + u32::from(self.chance.coin())),
            rcpt_max: one_of(4).then(|| 1 + self.chance.index(2)),
            stays: one_of(5),
        }
    }

    /// A domain of any kind.
    fn any(&mut self, name: &str) {
        let temper = self.temper();
        let host = format!("mx.{name}");
        match self.chance.below(14) {
            0 => self.behind(name, [Door::Shut, Door::Dark][self.chance.index(2)], temper),
            1 => {
                let both = [(&host, temper), (&format!("mx2.{name}"), self.temper())];
                let both = both.map(|(host, temper)| {
                    let number = self.host(host, Door::Open, temper, false);
                    self.zone.put_mx(name, 10, host);
                    number
                });
                self.domain(name, both.to_vec());
            }
            2 => {
                let number = self.host(name, Door::Open, temper, true);
                self.domain(name, vec![number]);
            }
            3 => self.beside(name),
            4 => self.domain(name, Vec::new()).is_nowhere = true,
            5 => {
                self.zone.put_mx(name, 0, "");
                self.domain(name, Vec::new()).is_nowhere = true;
            }
            6 => {
                self.zone.put_mx(name, 10, "none.example");
                self.domain(name, Vec::new()).is_nowhere = true;
            }
            7 => self.single(name, Door::Shut, temper),
            8 => self.single(name, Door::Dark, temper),
            9 => {
                let number = self.host(&host, Door::Open, temper, false);
                let literal = format!("[{}]", self.hosts[number].ip);
                self.domain(&literal, vec![number]);
            }
            10 | 11 => self.troubled(name, temper),
            _ => self.single(name, Door::Open, temper),
        }
    }

    fn single(&mut self, name: &str, door: Door, temper: Temper) {
        let host = format!("mx.{name}");
        let number = self.host(&host, door, temper, true);
        self.zone.put_mx(name, 10, &host);
        self.domain(name, vec![number]);
    }

    /// The best server is not there.
    fn behind(&mut self, name: &str, door: Door, temper: Temper) {
        let (first, second) = (format!("mx.{name}"), format!("mx2.{name}"));
        let first_number = self.host(&first, door, Temper::default(), false);
        let second_number = self.host(&second, Door::Open, temper, false);
        self.zone.put_mx(name, 10, &first);
        self.zone.put_mx(name, 20, &second);
        self.domain(name, vec![first_number, second_number]);
    }

    /// At the servers of another domain.
    fn beside(&mut self, name: &str) {
        let place = self.chance.index(self.domains.len());
        let servers = self.domains[place].servers.clone();
        let is_shared = |number: &usize| self.hosts[*number].is_site;
        let Some(&number) = servers.first().filter(|number| is_shared(number)) else {
            let temper = self.temper();
            return self.single(name, Door::Open, temper);
        };
        let host = self.hosts[number].name.clone();
        self.zone.put_mx(name, 5, &host);
        let is_nowhere = self.domains[place].is_nowhere;
        self.domain(name, vec![number]).is_nowhere = is_nowhere;
    }

    /// The DNS of the domain or of its server fails.
    fn troubled(&mut self, name: &str, temper: Temper) {
        self.single(name, Door::Open, temper);
        let from = self.chance.below(900);
        let (trouble, is_nowhere) = match self.chance.below(3) {
            0 => (Trouble::Flaky, false),
            1 => (Trouble::Slow, false),
            _ => (Trouble::Gone { from, to: from + self.chance.between(10, 900) }, true),
        };
        let whose = if self.chance.coin() { format!("mx.{name}") } else { name.to_owned() };
        self.zone.troubles.insert(whose, trouble);
        self.domains.last_mut().expect("it was just put there").is_nowhere = is_nowhere;
    }
}
