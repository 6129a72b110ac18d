//! What a site may bear, seen from the other side: connections at once, messages of a connection,
//! rates and rests; and what a domain that is well may expect of those who send to it.

use super::books::{End, Fate, Mail, seconds};
use super::case::Case;
use super::life::World;
use super::places::{Mood, WELL, number_in};
use pombal::model::time::{Mono, Wall};
use pombal::queue::sites::Rate;
use std::collections::BTreeSet;
use std::time::Duration;

/// A message to a domain that is well is tried by then.
const PROMPT: Duration = Duration::from_secs(5);
/// What lies between the decision to send and the command that shows it.
const SLACK: Duration = Duration::from_secs(1);
/// The same where servers are slow, and messages wait for memory.
const LONG_SLACK: Duration = Duration::from_mins(1);

struct Connection {
    server: usize,
    node: usize,
    generation: u64,
    opened: Mono,
    is_open: bool,
    /// Messages that were tried on it.
    numbers: BTreeSet<usize>,
}

#[derive(Default)]
pub(crate) struct Limits {
    generations: [u64; 2],
    connections: Vec<Connection>,
    /// Recipients that were tried.
    tried: BTreeSet<String>,
    /// When messages were tried: at which server, by which node in which of its lives.
    times: Vec<(usize, usize, u64, Mono)>,
    /// Messages that were held to R9: to its time, and to its order with how many others.
    pub(crate) timed: u64,
    pub(crate) ordered: u64,
}

/// What a site of one server is allowed by a node.
struct Allowed<'c> {
    connections: u32,
    connections_first: u32,
    rates: &'c [Rate],
    pauses: &'c [Duration],
}

fn allowed(case: &Case, server: usize, node: usize) -> Allowed<'_> {
    let config = &case.nodes[node].plan.config;
    let (site, queue) = (&config.sites[server], &config.queue);
    let connections = if site.connections == 0 { queue.site_connections } else { site.connections };
    Allowed {
        connections,
        connections_first: queue.site_first_connections.min(connections),
        rates: if site.rates.is_empty() { &queue.site_rates } else { &site.rates },
        pauses: &queue.site_retry,
    }
}

impl Limits {
    /// A life begins: nothing of before is open.
    pub(crate) fn begin_life(&mut self, generations: [u64; 2]) {
        self.generations = generations;
        self.connections.clear();
        self.times.clear();
    }

    pub(crate) fn set_generations(&mut self, generations: [u64; 2]) {
        self.generations = generations;
    }

    pub(crate) fn open(&mut self, server: usize, node: usize, opened: Mono) -> usize {
        let generation = self.generations[node];
        let numbers = BTreeSet::new();
        self.connections.push(Connection {
            server,
            node,
            generation,
            opened,
            is_open: true,
            numbers,
        });
        self.connections.len() - 1
    }

    pub(crate) fn ended(&mut self, _server: usize, connection: usize) {
        if let Some(one) = self.connections.get_mut(connection) {
            one.is_open = false;
        }
    }

    fn of(&self, server: usize, node: usize) -> impl Iterator<Item = &Connection> {
        let generation = self.generations[node];
        let is_it = move |one: &&Connection| {
            (one.server, one.node, one.generation) == (server, node, generation)
        };
        self.connections.iter().filter(is_it)
    }

    /// R8, some time after a connection was made at `then`: what was open then and is open still was
    /// open at once.
    pub(crate) fn check_open(
        &self,
        world: &World,
        case: &Case,
        server: usize,
        node: usize,
        then: Mono,
    ) -> Result<(), String> {
        let host = &case.places.hosts[server];
        if world.is_shaky.get() {
            return Ok(());
        }
        self.check_all_open(case, node, then)?;
        if !host.is_site {
            return Ok(());
        }
        let allowed = allowed(case, server, node);
        let open = self.of(server, node).filter(|one| one.is_open && one.opened <= then).count();
        if open as u64 > u64::from(allowed.connections) {
            let name = &host.name;
            return Err(format!(
                "R8: {open} connections to {name} at once, {} are allowed",
                allowed.connections
            ));
        }
        let is_dead = host.temper.permille == 1_000 && host.temper.moods == [Mood::Drop];
        let is_healed = world.is_healed.get() && !host.temper.stays;
        if is_dead && !is_healed && world.is_clean() {
            self.check_rests(&allowed, server, node)?;
        }
        Ok(())
    }

    /// R8: all connections of a node.
    fn check_all_open(&self, case: &Case, node: usize, then: Mono) -> Result<(), String> {
        let generation = self.generations[node];
        let is_open = |one: &&Connection| {
            (one.node, one.generation) == (node, generation) && one.is_open && one.opened <= then
        };
        let open = self.connections.iter().filter(is_open).count();
        let most = case.nodes[node].plan.config.queue.connections;
        if open > most {
            return Err(format!("R8: {open} connections of node {node}, {most} are allowed"));
        }
        Ok(())
    }

    /// R8: a site that does not answer rests, longer and longer.
    fn check_rests(&self, allowed: &Allowed<'_>, server: usize, node: usize) -> Result<(), String> {
        let times: Vec<Mono> = self.of(server, node).map(|one| one.opened).collect();
        let (mut group, mut size) = (0_usize, 1_u32);
        for pair in times.windows(2) {
            let gap = pair[1].since(pair[0]);
            if gap < SLACK {
                size += 1;
                let most = if group == 0 { allowed.connections_first } else { 1 };
                if size > most {
                    return Err(format!("R8: {size} try at once what rests: {times:?}"));
                }
                continue;
            }
            let pause = allowed.pauses.get(group).or(allowed.pauses.last()).copied();
            if gap + SLACK < pause.unwrap_or_default() {
                return Err(format!("R8: tried after {gap:?}, rests {pause:?}: {times:?}"));
            }
            (group, size) = (group + 1, 1);
        }
        Ok(())
    }

    /// A recipient is tried.
    pub(crate) fn tried(
        &mut self,
        world: &World,
        case: &Case,
        (server, node, connection): (usize, usize, usize),
        address: &str,
        (now, wall): (Mono, Wall),
    ) -> Result<(), String> {
        let Some(number) = number_in(address) else { return Ok(()) };
        let queue = &case.nodes[node].plan.config.queue;
        let messages_max = queue.messages_per_connection;
        let name = &case.places.hosts[server].name;
        let one = &mut self.connections[connection];
        let is_new = one.numbers.insert(number);
        let count = one.numbers.len() as u64;
        if count > u64::from(messages_max) {
            return Err(format!("R8: {count} messages to {name} over one connection"));
        }
        let age = now.since(one.opened);
        if is_new && world.is_clean() && age > queue.connection_lifetime + LONG_SLACK {
            return Err(format!("R8: a message to {name} over a connection of {age:?}"));
        }
        let is_first = self.tried.insert(address.to_owned());
        let wanted = world.books.borrow().mails[number].release();
        if seconds(wall) < wanted {
            return Err(format!("R9: {address} is tried before {wanted}"));
        }
        if !world.is_clean() {
            return Ok(());
        }
        if is_new && case.places.hosts[server].is_well() && case.places.hosts[server].is_site {
            self.times.push((server, node, self.generations[node], now));
            self.check_rates(&allowed(case, server, node), server, node)?;
        }
        let domain = &case.places.domains[WELL];
        if is_first
            && !world.stumbles
            && address.rsplit_once('@').is_some_and(|(_, one)| one == domain.name)
        {
            self.check_well(world, case, (server, node), number, wall)?;
        }
        Ok(())
    }

    fn check_rates(&self, allowed: &Allowed<'_>, server: usize, node: usize) -> Result<(), String> {
        let generation = self.generations[node];
        let is_it =
            |one: &&(usize, usize, u64, Mono)| (one.0, one.1, one.2) == (server, node, generation);
        let times: Vec<Mono> = self.times.iter().filter(is_it).map(|one| one.3).collect();
        let Some(&last) = times.last() else { return Ok(()) };
        for rate in allowed.rates {
            for (index, &first) in times.iter().enumerate() {
                let count = (times.len() - index) as u128;
                let time = (last.since(first) + SLACK).as_micros();
                let more = time * u128::from(rate.count) / rate.period.as_micros();
                if count > u128::from(rate.count) + more {
                    return Err(format!("R8: {count} messages, may be {rate:?}: {times:?}"));
                }
            }
        }
        Ok(())
    }

    /// R9.
    fn check_well(
        &mut self,
        world: &World,
        case: &Case,
        (server, node): (usize, usize),
        number: usize,
        wall: Wall,
    ) -> Result<(), String> {
        let books = world.books.borrow();
        let mail = &books.mails[number];
        let (plan, allowed) = (&case.nodes[node].plan, allowed(case, server, node));
        let queue = &plan.config.queue;
        let generation = self.generations[node];
        let is_roomy = queue.connections >= 1_000 && queue.memory >= 1 << 20;
        let is_known = mail.fate == Fate::Promised && mail.generation == generation;
        // Where a shard has all the places of a site, another one waits for it.
        let is_shared = plan.shards > 1 && allowed.connections_first < 5;
        if is_roomy && is_known && !is_shared && mail.hold == 0 && allowed.rates.is_empty() {
            self.timed += 1;
            let late = Duration::from_micros(wall.0.saturating_sub(mail.answered.0));
            if late > PROMPT {
                return Err(format!("R9: message {number} was tried {late:?} after its answer"));
            }
        }
        if plan.shards > 1 || allowed.connections > 1 || mail.hold > 0 || !is_roomy {
            return Ok(());
        }
        let domain = &case.places.domains[WELL].name;
        let is_before = |one: &&Mail| {
            (one.node, &one.sender, one.priority) == (node, &mail.sender, mail.priority)
                && one.fate == Fate::Promised
                && one.generation == generation
                && one.answered < mail.sent
                && one.hold == 0
                && !one.returns
        };
        for before in books.mails.iter().filter(is_before) {
            let to_well = before.targets.iter().filter(|target| target.is_taken).find(|target| {
                matches!(target.ends.as_slice(), [End::Elsewhere(to)]
                    if *to == target.address && to.ends_with(domain) && !self.tried.contains(to))
            });
            self.ordered += 1;
            if let Some(target) = to_well {
                let other = &target.address;
                return Err(format!("R9: {number} goes before {other}, which was taken before"));
            }
        }
        Ok(())
    }
}
