//! One seed from its first boot to the reckoning.

use super::books::{Books, End};
use super::case::{CLIENT_SHARD, Case, address_of};
use super::client::Client;
use super::limits::Limits;
use super::sink::{darken, open_all};
use crate::case::{Bug, PASSWORD, password_hash};
use crate::journal::Journal;
use crate::machine::{Digest, Machine, Unbooted, recover, recover_twice};
use crate::peer::Peer;
use crate::ports::address_at;
use pombal::directory::{Resolution, Settings, resolve};
use pombal::env::Env as _;
use pombal::env::sim::{Chance, Faults, Halt, Loss, Sim, SimEnv};
use pombal::mailbox::INBOX;
use pombal::model::time::Wall;
use pombal::mta::relay::STUMBLED;
use pombal::node::shard::publish_directory;
use pombal::queue::sites::Sites;
use pombal::server::listener::Protocol;
use pombal::store::OpenError;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::rc::Rc;
use std::time::Duration;

/// After so much time without any fault everything has come to its end.
const PATIENCE: Duration = Duration::from_hours(12);

/// What all tasks of one seed share.
pub(crate) struct World {
    pub(crate) journal: Journal,
    pub(crate) books: RefCell<Books>,
    pub(crate) limits: RefCell<Limits>,
    /// Whom servers have seen that do not take mail at first, and when: by server, sender, recipient.
    pub(crate) seen: RefCell<BTreeMap<(usize, String, String), u64>>,
    /// Servers that can be better are.
    pub(crate) is_healed: Cell<bool>,
    /// Connections may break, stall, or be cut in this life.
    pub(crate) is_shaky: Cell<bool>,
    /// Disk operations may fail in this life.
    pub(crate) is_bad_disk: Cell<bool>,
    /// Our tasks may panic.
    pub(crate) stumbles: bool,
    /// Clients that have come to their end in this life.
    pub(crate) done: Cell<u64>,
}

impl World {
    pub(crate) fn note(&self, env: &SimEnv, what: impl FnOnce() -> String) {
        self.journal.note(env, what);
    }

    pub(crate) fn fail(&self, what: impl Into<String>) {
        self.journal.fail(what);
    }

    /// How often a node has come up.
    pub(crate) fn generation(&self, node: usize) -> u64 {
        self.books.borrow().generations[node]
    }

    /// What is slow or refused in this life is others' doing.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_shaky.get() && !self.is_bad_disk.get()
    }

    fn begin_life(&self, life: u64, is_shaky: bool, is_bad_disk: bool) {
        self.journal.begin_life(life);
        self.is_shaky.set(is_shaky);
        self.is_bad_disk.set(is_bad_disk);
        self.done.set(0);
        let generations = self.books.borrow().generations;
        self.limits.borrow_mut().begin_life(generations);
    }

    fn comes_up(&self, node: usize) {
        let generations = &mut self.books.borrow_mut().generations;
        generations[node] += 1;
        self.limits.borrow_mut().set_generations(*generations);
    }
}

/// What happened in one seed, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    lives: u64,
    /// Processes that were ended while others went on.
    kills: u64,
    promised: u64,
    delivered: u64,
    /// Deliveries that were repeated since the answer may not have been heard.
    repeated: u64,
    reports: u64,
    failed: u64,
    /// Messages to a domain that is well, and pairs of these, whose time and order were looked at.
    timed: u64,
    ordered: u64,
    /// Hours until all had come to rest.
    hours: u64,
    /// Tasks that panicked, and were to.
    stumbles: u64,
    polls: u64,
    trace: u64,
}

impl AddAssign for Told {
    fn add_assign(&mut self, other: Told) {
        self.lives += other.lives;
        self.kills += other.kills;
        self.promised += other.promised;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.reports += other.reports;
        self.failed += other.failed;
        self.timed += other.timed;
        self.ordered += other.ordered;
        self.hours += other.hours;
        self.stumbles += other.stumbles;
        self.polls += other.polls;
        self.trace ^= other.trace;
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { lives, kills, promised, delivered, repeated, .. } = self;
        let Told { reports, failed, timed, ordered, hours, stumbles, polls, trace, .. } = self;
        write!(
            out,
            "{lives} lives, {kills} processes killed, {promised} messages promised, {delivered} \
             deliveries, {repeated} of them again, {reports} reports with {failed} failures, \
             {timed} messages timed, {ordered} in order, {hours} hours, {stumbles} stumbles, {polls} polls, trace {trace:016x}"
        )
    }
}

struct Run {
    case: Rc<Case>,
    world: Rc<World>,
    told: Told,
}

/// Runs one seed. With a journal, prints it.
pub(crate) fn run(seed: u64, bug: Bug, keeps_journal: bool) -> Result<Told, String> {
    let case = Rc::new(Case::new(seed, bug));
    let world = Rc::new(World {
        journal: Journal::new(keeps_journal),
        books: RefCell::default(),
        limits: RefCell::default(),
        seen: RefCell::default(),
        is_healed: Cell::new(false),
        is_shaky: Cell::new(false),
        is_bad_disk: Cell::new(false),
        stumbles: case.stumbles,
        done: Cell::new(0),
    });
    let mut run = Run { case, world: Rc::clone(&world), told: Told::default() };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.lives()));
    for line in world.journal.take() {
        println!("{line}");
    }
    let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    world.journal.verdict()?;
    ended.map(|()| run.told)
}

impl Run {
    fn lives(&mut self) -> Result<(), String> {
        let sim = Sim::new(self.case.seed, Faults::none());
        let mut sim = self.found(sim)?;
        for _ in 0..self.case.lives {
            sim = self.live(sim)?;
            self.told.lives += 1;
        }
        self.last_life(sim)
    }

    /// Makes the stores with their users and aliases.
    fn found(&self, sim: Sim) -> Result<Sim, String> {
        for node in 0..self.case.nodes.len() {
            let machine = Machine::boot(&sim, &self.case.nodes[node].host(), true);
            let machine = machine.map_err(|error| format!("a new store: {error}"))?;
            sim.run_until(self.set_up(node, &machine)).map_err(|halt| halt.to_string())?;
            let stopped = sim.run_until(machine.stop());
            stopped.map_err(|halt| halt.to_string())??;
        }
        Ok(sim.crash_with(Loss::Nothing))
    }

    async fn set_up(&self, node: usize, machine: &Machine) {
        let case = &self.case.nodes[node];
        let first = &machine.ups[0];
        let ledger = &first.state.ledger;
        let turn = ledger.turn().expect("nobody else changes the directory");
        let now = first.shard.env.wall();
        let name = |user: usize| format!("u{user}@{}", case.domain);
        let drafted = turn.draft(|draft| {
            draft.add_domain(case.domain, now)?;
            for user in 0..case.users {
                draft.add_user(&name(user), password_hash(), 0, now)?;
            }
            for alias in &case.aliases {
                let targets: Vec<String> = alias
                    .ends
                    .iter()
                    .map(|end| match end {
                        End::Mailbox((_, user)) => name(*user),
                        End::Elsewhere(address) => address.clone(),
                    })
                    .collect();
                let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
                let owner = alias.owner.map(|owner| self.case.name_of(owner));
                let name = format!("{}@{}", alias.name, case.domain);
                draft.add_list(&name, &targets, owner.as_deref())?;
            }
            Ok(())
        });
        let ((), group) = drafted.expect("the directory takes these");
        first.state.log.append(group).await.expect("nothing fails yet");
        drop(turn);
        publish_directory(&first.shard, ledger).await;
    }

    /// Starts a node. `None`: a disk that fails does not let it.
    fn boot(&self, sim: &Sim, node: usize) -> Result<Option<Machine>, String> {
        // A process remembers nothing of what the one before knew of sites.
        let mut plan = self.case.nodes[node].plan.clone();
        plan.sites = Sites::default();
        let host = crate::machine::Host { plan: &plan, ..self.case.nodes[node].host() };
        self.world.comes_up(node);
        match Machine::boot(sim, &host, false) {
            Ok(machine) => Ok(Some(machine)),
            Err(Unbooted::Refused(error @ OpenError::Io(_))) => {
                self.world.note(&sim.env(0), || format!("node {node} does not start: {error}"));
                // One shard that cannot start takes the others along.
                self.kill(sim, node);
                Ok(None)
            }
            Err(Unbooted::Dark) => Ok(None),
            Err(error) => Err(format!("life {}: {error}", sim.life())),
        }
    }

    fn kill(&self, sim: &Sim, node: usize) {
        for shard in self.case.nodes[node].shards() {
            sim.kill(shard);
        }
    }

    /// One life up to its crash.
    fn live(&mut self, sim: Sim) -> Result<Sim, String> {
        sim.allow_leaks();
        self.allow_stumbles(&sim);
        let chance = sim.chance();
        let faults = self.case.faults(&chance);
        let cuts = !self.case.is_calm && chance.below(4) == 0;
        sim.set_faults(Faults::none());
        let is_shaky = faults.resets > 0 || faults.stalls > 0 || cuts;
        self.world.begin_life(sim.life(), is_shaky, faults.sync_fails > 0);
        open_all(&sim, &self.world, &self.case);
        let mut machines = Vec::new();
        for node in 0..self.case.nodes.len() {
            machines.push(self.boot(&sim, node)?);
        }
        sim.set_faults(faults);
        self.world.note(&sim.env(0), || format!("up, with {faults:?}, cuts: {cuts}"));
        self.spawn_clients(&sim, &chance);
        if cuts {
            sim.env(CLIENT_SHARD).spawn(self.cut_now_and_then(&sim, &chance));
        }
        let is_cut_short = self.run_to_crash(&sim, &chance, &mut machines)?;
        self.world.note(&sim.env(0), || format!("crash, {is_cut_short}"));
        self.world.journal.verdict()?;
        self.told.stumbles += sim.panics();
        // The end of a life drops what was under way.
        machines.iter().flatten().try_for_each(|machine| self.check_attempts(machine))?;
        let next = sim.crash();
        drop(machines);
        Ok(next)
    }

    fn spawn_clients(&self, sim: &Sim, chance: &Chance) {
        let env = sim.env(CLIENT_SHARD);
        for number in 0..self.case.clients {
            let node = chance.index(self.case.nodes.len());
            let user = chance.coin().then(|| chance.index(self.case.nodes[node].users));
            let client = Client {
                env: env.clone(),
                world: Rc::clone(&self.world),
                case: Rc::clone(&self.case),
                chance: Chance::new(chance.bits()),
                node,
                user,
                number: u8::try_from(number).expect("few clients"),
            };
            env.spawn(client.run());
        }
    }

    /// Cuts hosts off from each other, for a while.
    fn cut_now_and_then(&self, sim: &Sim, chance: &Chance) -> impl Future<Output = ()> + use<> {
        let env = sim.env(CLIENT_SHARD);
        let (world, case) = (Rc::clone(&self.world), Rc::clone(&self.case));
        let chance = Chance::new(chance.bits());
        async move {
            loop {
                env.sleep(Duration::from_millis(chance.below(60_000))).await;
                let node = address_of(chance.index(case.nodes.len()));
                for server in case.places.hosts.iter().filter(|_| chance.coin()) {
                    env.cut(node, server.ip);
                }
                env.cut(address_of(0), address_of(1));
                world.note(&env, || format!("{node} is cut off"));
                env.sleep(Duration::from_millis(chance.below(120_000))).await;
                env.mend();
                darken(&env, &case);
                world.note(&env, || "no more".into());
            }
        }
    }

    /// R7: no task breaks off that is not made to, and none hangs.
    fn check_attempts(&self, machine: &Machine) -> Result<(), String> {
        for up in &machine.ups {
            let figures = up.shard.relay.figures();
            let (broken, overdue) = (figures.broken.get(), figures.overdue.get());
            if overdue > 0 || (broken > 0 && !self.case.stumbles) {
                return Err(format!("R7: {broken} attempts broke off, {overdue} are overdue"));
            }
        }
        Ok(())
    }

    fn allow_stumbles(&self, sim: &Sim) {
        if self.case.stumbles {
            sim.allow_panics(STUMBLED);
        }
    }

    /// Lets all work until the power goes. Processes may end before it, and begin anew.
    fn run_to_crash(
        &mut self,
        sim: &Sim,
        chance: &Chance,
        machines: &mut [Option<Machine>],
    ) -> Result<&'static str, String> {
        let ends = |ran: Result<(), Halt>| match ran {
            Ok(()) => Ok(false),
            Err(Halt::PowerCut) => Ok(true),
            Err(halt) => Err(halt.to_string()),
        };
        let times = [20, 500, 5_000, 60_000, 600_000];
        let time = |chance: &Chance| {
            let most = times[chance.index(times.len())];
            Duration::from_micros(chance.between(1_000, most * 1_000))
        };
        for _ in 0..chance.below(3) {
            if ends(sim.run_for(time(chance)))? {
                return Ok("in the midst of it");
            }
            if self.case.is_calm {
                continue;
            }
            let node = chance.index(self.case.nodes.len());
            self.world.note(&sim.env(0), || format!("node {node} is killed"));
            self.kill(sim, node);
            machines[node] = None;
            self.told.kills += 1;
            if ends(sim.run_for(Duration::from_millis(chance.between(1, 20_000))))? {
                return Ok("while a process was down");
            }
            machines[node] = self.boot(sim, node)?;
        }
        if chance.coin() {
            sim.cut_power_at(sim.disk_events() + chance.between(1, 600));
        }
        ends(sim.run_for(time(chance)))?;
        Ok("at the end")
    }

    /// Nothing goes wrong any more, but servers that never were better.
    fn last_life(&mut self, sim: Sim) -> Result<(), String> {
        sim.set_faults(Faults::none());
        self.allow_stumbles(&sim);
        let case = Rc::clone(&self.case);
        for node in &case.nodes {
            recover_twice(!case.seed, sim.disk().fork(), &node.plan)?;
        }
        self.world.begin_life(sim.life(), false, false);
        self.world.is_healed.set(!case.is_calm || case.lives > 0);
        case.places.zone.heal();
        open_all(&sim, &self.world, &self.case);
        let mut machines = Vec::new();
        for node in 0..case.nodes.len() {
            let machine = self.boot(&sim, node)?;
            machines.push(machine.ok_or("a node does not come up in the last life")?);
        }
        let chance = sim.chance();
        self.spawn_clients(&sim, &chance);
        let reckoned = sim.run_until(self.reckon(&sim, &machines));
        reckoned.map_err(|halt| format!("R7: {halt}; left are {}", left(&machines)))??;
        self.world.journal.verdict()?;
        self.told.hours += sim.now().0.as_secs() / 3_600;
        let mut digests = Vec::new();
        for machine in machines {
            self.check_attempts(&machine)?;
            let stopped = sim.run_until(machine.stop()).map_err(|halt| halt.to_string())?;
            digests.push(stopped?);
        }
        sim.run_for(Duration::from_secs(1)).map_err(|halt| halt.to_string())?;
        self.count(&sim);
        self.compare(sim, &digests)
    }

    fn count(&mut self, sim: &Sim) {
        let books = self.world.books.borrow();
        self.told.promised += books.promised() as u64;
        self.told.delivered += books.delivered() as u64;
        self.told.repeated += books.repeated() as u64;
        let (reports, failed) = books.reported();
        self.told.reports += reports as u64;
        self.told.failed += failed as u64;
        let limits = self.world.limits.borrow();
        self.told.timed += limits.timed;
        self.told.ordered += limits.ordered;
        self.told.stumbles += sim.panics();
        self.told.polls += sim.polls();
        self.told.trace ^= sim.trace_hash();
    }

    /// R7: the state after recovery is the state before.
    fn compare(&self, sim: Sim, digests: &[Vec<Digest>]) -> Result<(), String> {
        let after = sim.crash_with(Loss::Everything);
        for (node, closed) in self.case.nodes.iter().zip(digests) {
            let again = recover(&after, &node.plan)?;
            if *closed != again {
                return Err(format!("R7: closed with {closed:x?}, reopened with {again:x?}"));
            }
        }
        Ok(())
    }

    async fn reckon(&self, sim: &Sim, machines: &[Machine]) -> Result<(), String> {
        let env = sim.env(CLIENT_SHARD);
        while self.world.done.get() < self.case.clients {
            env.sleep(Duration::from_millis(100)).await;
        }
        let deadline = env.now().after(PATIENCE);
        while !machines.iter().all(is_idle) {
            if env.now() > deadline {
                return Err(format!("R7: the queues do not come to rest: {}", left(machines)));
            }
            env.sleep(Duration::from_secs(1)).await;
        }
        for (node, machine) in machines.iter().enumerate() {
            machine.settle().await?;
            let faults = machine.faults().await;
            if !faults.is_empty() {
                return Err(format!("R7: node {node}: {}", faults.join("; ")));
            }
            for user in 0..self.case.nodes[node].users {
                let read = self.read(&env, machine, node, user).await;
                read.map_err(|error| format!("u{user} of node {node}: {error}"))?;
            }
        }
        let seconds = |time: Duration| time.as_secs();
        let lifetimes: Vec<u64> =
            self.case.nodes.iter().map(|node| seconds(node.plan.config.queue.lifetime)).collect();
        let books = &mut self.world.books.borrow_mut();
        // A crash between two nodes of ours is as good as an answer that was not heard.
        let is_unbroken = self.case.is_calm && self.case.lives == 0;
        books.settle(&self.case.places, &lifetimes, env.wall(), is_unbroken, self.case.stumbles)
    }

    /// Reads a mailbox.
    async fn read(
        &self,
        env: &SimEnv,
        machine: &Machine,
        node: usize,
        user: usize,
    ) -> io::Result<()> {
        let source = SocketAddr::from(([10, 9, 1, 1], 30_000));
        let address = address_at(address_of(node), Protocol::Pop3);
        let mut peer = Peer::connect_from(env, source, address).await?;
        peer.line().await?;
        let name = format!("u{user}@{}", self.case.nodes[node].domain);
        let came = dates(machine, &name);
        for command in [format!("USER {name}"), format!("PASS {PASSWORD}"), "STAT".into()] {
            peer.send(format!("{command}\r\n").as_bytes()).await?;
            let answer = String::from_utf8_lossy(&peer.line().await?).into_owned();
            if !answer.starts_with("+OK") {
                return Err(io::Error::other(answer));
            }
            let count = answer.strip_prefix("+OK ").and_then(|rest| rest.split(' ').next());
            let Some(count) = count.filter(|_| command == "STAT") else { continue };
            let count: usize = count.parse().map_err(io::Error::other)?;
            if count != came.len() {
                return Err(io::Error::other(format!("{answer}, and {} are there", came.len())));
            }
            for (number, came) in (1..).zip(&came) {
                let number: u32 = number;
                peer.send(format!("RETR {number}\r\n").as_bytes()).await?;
                peer.line().await?;
                let mut octets = Vec::new();
                for line in peer.lines().await? {
                    octets.extend_from_slice(&line);
                    octets.extend_from_slice(b"\r\n");
                }
                self.world.books.borrow_mut().found((node, user), &octets, *came);
            }
        }
        peer.close().await;
        Ok(())
    }
}

/// When each message of a user's INBOX came there.
fn dates(machine: &Machine, name: &str) -> Vec<Wall> {
    let first = &machine.ups[0];
    let snapshot = first.state.ledger.snapshot();
    let (local, domain) = name.split_once('@').expect("an address");
    let found = resolve(&snapshot, local.as_bytes(), domain, &Settings::default());
    let Resolution::Account { account, log, .. } = found else { return Vec::new() };
    let owner = &machine.ups[usize::from(log.0)];
    let view = owner.state.accounts.borrow().view(account, INBOX);
    let wall = |at: u32| Wall(u64::from(at) * 1_000_000);
    view.iter().map(|entry| wall(entry.internal_date)).collect()
}

fn is_idle(machine: &Machine) -> bool {
    machine.ups.iter().all(|up| up.state.outgoing.borrow().is_empty())
}

fn left(machines: &[Machine]) -> String {
    let mut left = Vec::new();
    for (node, machine) in machines.iter().enumerate() {
        for up in &machine.ups {
            let outgoing = up.state.outgoing.borrow();
            let workers = up.shard.relay.workers();
            left.push(format!("node {node}: {workers} workers"));
            left.extend(outgoing.entries().map(|entry| format!("{entry:?}")));
        }
    }
    left.join("; ")
}
