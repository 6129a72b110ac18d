//! What a seed decides of the servers of ours.

use super::books::{End, Mailbox, Sender};
use super::places::Places;
use crate::case::Bug;
use crate::machine::Host;
use pombal::auth::{Cost, Pool};
use pombal::config::{Config, DomainPattern, HostName, Network, Site};
use pombal::env::sim::{Chance, Faults};
use pombal::mta::relay::Planted;
use pombal::node::shard::{Names, Plan};
use pombal::proto::smtp::client::Timeouts;
use pombal::queue::sites::Rate;
use pombal::store::Compression;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The domains of our own servers.
pub(crate) const DOMAINS: [&str; 2] = ["a.example", "b.example"];
/// The shard that all other servers are.
pub(crate) const SINK_SHARD: u16 = 8;
/// The shard of those who hand in mail.
pub(crate) const CLIENT_SHARD: u16 = 9;
/// Shards of one host, and the test's.
const HOST_SHARDS: u16 = 4;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A name that leads to others, here and elsewhere.
pub(crate) struct Alias {
    pub(crate) name: &'static str,
    pub(crate) ends: Vec<End>,
    /// Who hears of what it sends on, if not its sender.
    pub(crate) owner: Option<Mailbox>,
}

/// A server of ours.
pub(crate) struct Node {
    pub(crate) plan: Plan,
    pub(crate) ip: IpAddr,
    pub(crate) domain: &'static str,
    pub(crate) users: usize,
    pub(crate) aliases: Vec<Alias>,
    first_shard: u16,
    inbox: usize,
}

impl Node {
    pub(crate) fn host(&self) -> Host<'_> {
        let Node { plan, ip, first_shard, inbox, .. } = self;
        Host { plan, ip: *ip, first_shard: *first_shard, inbox: *inbox, cleans: true }
    }

    /// Its shards, and the test's.
    pub(crate) fn shards(&self) -> impl Iterator<Item = u16> {
        self.first_shard..=self.first_shard + self.plan.shards
    }
}

/// What one seed stands for.
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) places: Rc<Places>,
    /// Lives that end in a crash; one more follows, in which nothing goes wrong.
    pub(crate) lives: u64,
    pub(crate) clients: u64,
    /// Nothing fails but other servers: connections hold, disks write, nobody crashes before he is
    /// told to.
    pub(crate) is_calm: bool,
    /// Tasks of the relay panic now and then.
    pub(crate) stumbles: bool,
}

/// The address of the server of ours with this number.
pub(crate) fn address_of(node: usize) -> IpAddr {
    let number = u8::try_from(node + 1).expect("two at most");
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

impl Case {
    pub(crate) fn new(seed: u64, bug: Bug) -> Case {
        let chance = Chance::new(seed.rotate_left(17));
        let count = 1 + usize::from(chance.below(3) == 0);
        let places = Rc::new(Places::new(&chance, count));
        let is_calm = chance.below(4) == 0;
        let mut nodes: Vec<Node> =
            (0..count).map(|number| node(&chance, number, &places, bug)).collect();
        // A die of its own: whatever else a seed stands for stays what it was.
        let stumbles =
            bug == Bug::None && !is_calm && Chance::new(seed.rotate_left(29)).below(4) == 0;
        if stumbles {
            for node in &mut nodes {
                node.plan.relay_planted = Planted::Stumble;
            }
        }
        // In half of the seeds what moves is packed.
        if Chance::new(seed.rotate_left(19)).coin() {
            for node in &mut nodes {
                node.plan.store.cleaning.compression = Compression::Zstd;
            }
        }
        let users: Vec<usize> = nodes.iter().map(|node| node.users).collect();
        for number in 0..count {
            let owner = chance.index(count);
            let owner = (owner, chance.index(users[owner]));
            let owned = owned(&chance, number, users[number], &places, owner);
            nodes[number].aliases.push(owned);
        }
        Case {
            seed,
            nodes,
            places,
            lives: if is_calm { chance.below(2) } else { chance.between(1, 3) },
            clients: chance.between(1, 5),
            is_calm,
            stumbles,
        }
    }

    /// As it stands in an envelope.
    pub(crate) fn path_of(&self, sender: &Sender) -> String {
        match sender {
            Sender::Null => String::new(),
            Sender::User(mailbox) => self.name_of(*mailbox),
            Sender::Stranger(name) => name.clone(),
        }
    }

    pub(crate) fn name_of(&self, (node, user): Mailbox) -> String {
        format!("u{user}@{}", self.nodes[node].domain)
    }

    /// How bad the next life is.
    pub(crate) fn faults(&self, chance: &Chance) -> Faults {
        let disk = Faults { write_fails: 500, sync_fails: 500, ..Faults::bad_disk() };
        match chance.below(8) {
            _ if self.is_calm => Faults::none(),
            0 | 1 => Faults::bad_net(),
            2 => disk,
            3 => Faults { resets: 100_000, stalls: 50_000, ..Faults::bad_net() },
            4 => Faults::rough(),
            _ => Faults::none(),
        }
    }
}

fn node(chance: &Chance, number: usize, places: &Places, bug: Bug) -> Node {
    let domain = DOMAINS[number];
    let ip = address_of(number);
    let mut config = Config::small(Path::new(["/a", "/b"][number]));
    config.hostname = HostName::parse(&format!("mx.{domain}")).expect("it is one");
    config.listen.smtp = vec![SocketAddr::new(ip, 25)];
    config.smtp.relay_networks = vec![Network::parse("10.9.0.0/16").expect("it is one")];
    config.smtp.max_message_size = 64 << 10;
    config.store.segment_size = [256 << 10, 512 << 10][chance.index(2)];
    config.store.cache_size = [0, 1 << 20][chance.index(2)];
    config.store.checkpoint_size = chance.between(8 << 10, 128 << 10);
    config.store.checkpoint_interval = Duration::from_millis([50, 2_000, 60_000][chance.index(3)]);
    config.dns.timeout = 5 * SECOND;
    config.srs.enabled = chance.coin();
    config.auth.rehash = false;
    (config.auth.argon2_memory, config.auth.argon2_passes) = (16 << 10, 1);
    config.auth.scram_iterations = 1;
    set_queue(chance, &mut config, ip);
    let rates: &[&[Rate]] = &[&[], &[], &[rate(2, 1)], &[rate(3, 1), rate(20, 60)]];
    for host in &places.hosts {
        config.sites.push(Site {
            pattern: DomainPattern::parse(&host.name).expect("it is one"),
            connections: [0, 0, 1, 2][chance.index(4)],
            first_connections: 0,
            rates: rates[chance.index(4)].to_vec(),
            sources: Vec::new(),
        });
    }
    let shards = 1 + u16::from(chance.below(3) == 0);
    let pool = Pool::inline(Cost::LEAST);
    let mut plan = Plan::new(config, 77 + number as u128, shards, pool, [7; 32]);
    plan.store.second_batch_octets = [8 << 10, 256 << 10][chance.index(2)];
    let zone = Arc::clone(&places.zone);
    plan.dns = Names::Script(Arc::new(move |kind, name, wall| zone.answer(kind, name, wall)));
    plan.relay_planted = match bug {
        Bug::RecordEarly => Planted::RecordEarly,
        Bug::ForgetReport => Planted::ForgetReport,
        Bug::TornReport => Planted::TornReport,
        Bug::ForgetExpiry => Planted::ForgetExpiry,
        Bug::CrowdSite => Planted::CrowdSite,
        _ => Planted::Nothing,
    };
    let users = 1 + chance.index(3);
    Node {
        plan,
        ip,
        domain,
        users,
        aliases: aliases(chance, number, users, places),
        first_shard: HOST_SHARDS * u16::try_from(number).expect("two at most"),
        inbox: [8, 1024][chance.index(2)],
    }
}

/// Somebody elsewhere who is behind an alias of this node.
fn named(chance: &Chance, node: usize, places: &Places, local: &str) -> End {
    let is_name = |name: &&String| !name.starts_with('[');
    let names = places.domains.iter().map(|domain| &domain.name).filter(is_name);
    let names: Vec<&String> = names.collect();
    End::Elsewhere(format!("{local}.{node}@{}", names[chance.index(names.len())]))
}

/// A list with an owner, who may be of another node.
fn owned(chance: &Chance, node: usize, users: usize, places: &Places, owner: Mailbox) -> Alias {
    let first = (0..users).take(chance.index(2)).map(|user| End::Mailbox((node, user)));
    let others = ["xo", "xp", "noq"].into_iter().take(1 + chance.index(3));
    let others = others.map(|local| named(chance, node, places, local));
    Alias { name: "owned", ends: first.chain(others).collect(), owner: Some(owner) }
}

fn aliases(chance: &Chance, node: usize, users: usize, places: &Places) -> Vec<Alias> {
    let named = |local: &str| named(chance, node, places, local);
    let all = (0..users).map(|user| End::Mailbox((node, user)));
    vec![
        Alias { name: "list", ends: all.chain([named("xl"), named("xm")]).collect(), owner: None },
        Alias { name: "away", ends: vec![named("xa")], owner: None },
    ]
}

fn rate(count: u32, seconds: u64) -> Rate {
    Rate { count, period: Duration::from_secs(seconds) }
}

fn set_queue(chance: &Chance, config: &mut Config, ip: IpAddr) {
    let times = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect();
    let queue = &mut config.queue;
    queue.retry = times([&[2, 10, 60][..], &[5, 30], &[20]][chance.index(3)]);
    queue.site_retry = times([&[5, 20, 60][..], &[10], &[3, 40]][chance.index(3)]);
    queue.lifetime = MINUTE * [5, 20, 40][chance.index(3)];
    queue.report_lifetime = Duration::from_hours(4);
    queue.delay_warning = [Duration::ZERO, MINUTE, 5 * MINUTE][chance.index(3)];
    queue.connections = [4, 2_000, 2_000][chance.index(3)];
    queue.hosts_per_attempt = [2, 5][chance.index(2)];
    queue.max_entries = [4, 10_000, 10_000][chance.index(3)];
    queue.idle = [Duration::ZERO, 2 * SECOND][chance.index(2)];
    queue.messages_per_connection = [1, 3, 1_000][chance.index(3)];
    queue.connection_lifetime = [5 * SECOND, 5 * MINUTE][chance.index(2)];
    queue.site_connections = [1, 2, 20][chance.index(3)];
    queue.site_first_connections = [1, 5][chance.index(2)];
    queue.memory = [64 << 10, 16 << 20][chance.index(2)];
    queue.sources = vec![ip];
    queue.timeouts = Timeouts {
        connect: 5 * SECOND,
        greeting: 10 * SECOND,
        hello: 10 * SECOND,
        handshake: 5 * SECOND,
        mail: 10 * SECOND,
        rcpt: 10 * SECOND,
        data: 10 * SECOND,
        block: 10 * SECOND,
        message: 20 * SECOND,
        reset: 5 * SECOND,
        quit: 2 * SECOND,
    };
}
