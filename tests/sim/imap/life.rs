//! One seed of IMAP clients from its first boot to its last.

use super::client::{self, Role};
use super::model::Account;
use super::reckon::reckon;
use super::session::Shared;
use crate::case::{Bug, Case};
use crate::machine::Machine;
use crate::world::World;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, Faults, Halt, Sim};
use std::cell::RefCell;
use std::fmt;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Of a seed that fails the last steps are told.
const STEPS_TOLD: usize = 40;

/// What happened in one seed, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    lives: u64,
    boots_failed: u64,
    commands: u64,
    messages: u64,
    removed: u64,
    /// Remembered states that were brought up to date, by two ways each.
    resyncs: u64,
    checkpoints: u64,
    replayed: u64,
    trace: u64,
}

impl AddAssign for Told {
    fn add_assign(&mut self, other: Told) {
        self.lives += other.lives;
        self.boots_failed += other.boots_failed;
        self.commands += other.commands;
        self.messages += other.messages;
        self.removed += other.removed;
        self.resyncs += other.resyncs;
        self.checkpoints += other.checkpoints;
        self.replayed += other.replayed;
        self.trace ^= other.trace;
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} lives ({} ended before they began), {} commands, {} UIDs seen, {} gone, {} \
             remembered states brought up to date, {} batches replayed, {} checkpoints, trace \
             {:016x}",
            self.lives,
            self.boots_failed,
            self.commands,
            self.messages,
            self.removed,
            self.resyncs,
            self.replayed,
            self.checkpoints,
            self.trace
        )
    }
}

struct Run {
    case: Rc<Case>,
    world: Rc<World>,
    accounts: Vec<Rc<RefCell<Account>>>,
    told: Told,
}

/// Runs one seed. With a journal, prints it; without one, what fails tells its last steps.
pub(crate) fn run(seed: u64, bug: Bug, keeps_journal: bool) -> Result<Told, String> {
    let (journal, ended) = run_once(seed, bug, keeps_journal);
    for line in &journal {
        println!("{line}");
    }
    if keeps_journal {
        return ended;
    }
    ended.map_err(|what| {
        let (journal, _) = run_once(seed, bug, true);
        let last = &journal[journal.len().saturating_sub(STEPS_TOLD)..];
        format!("{what}\n  {}", last.join("\n  "))
    })
}

/// The journal, and what the seed came to; a panic is as wrong as anything else.
fn run_once(seed: u64, bug: Bug, keeps_journal: bool) -> (Vec<String>, Result<Told, String>) {
    let case = Rc::new(Case::of_imap(seed, bug));
    let world = Rc::new(World::new(case.users, keeps_journal));
    let accounts = (0..case.users).map(|_| Rc::default()).collect();
    let mut run = Run { case, world: Rc::clone(&world), accounts, told: Told::default() };
    let ended = catch_unwind(AssertUnwindSafe(|| run.lives()));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    });
    // What a client saw comes first: the rest may follow from it.
    let ended = world.verdict().and(ended);
    (world.journal(), ended.map(|()| run.told))
}

impl Run {
    fn lives(&mut self) -> Result<(), String> {
        let mut sim = Sim::new(self.case.seed, Faults::none());
        for _ in 0..self.case.lives {
            sim = self.live(sim)?;
            self.told.lives += 1;
        }
        sim.set_faults(Faults::none());
        self.world.begin_life(sim.life(), false, false);
        sim.allow_leaks();
        let booted = Machine::boot(&sim, &self.case.host(), false);
        let machine = booted.map_err(|error| format!("the last life: {error}"))?;
        self.reckon(&sim, &machine)?;
        for account in &self.accounts {
            let account = account.borrow();
            let messages = account.mailboxes.values().flat_map(|mailbox| mailbox.messages.values());
            self.told.messages += messages.clone().count() as u64;
            self.told.removed += messages.filter(|message| message.gone.is_some()).count() as u64;
            self.told.commands += account.commands();
        }
        self.count(&machine);
        self.told.trace = sim.trace_hash();
        Ok(())
    }

    fn count(&mut self, machine: &Machine) {
        for up in &machine.ups {
            self.told.replayed += up.report.replayed;
            self.told.checkpoints += up.state.log.stats().checkpoints.get();
        }
    }

    /// One life up to its crash.
    fn live(&mut self, sim: Sim) -> Result<Sim, String> {
        sim.allow_leaks();
        sim.set_faults(Faults::none());
        let chance = sim.chance();
        let faults = match chance.below(8) {
            0..=4 => Faults::none(),
            _ => self.case.faults(&chance, sim.disk().used() + (2 << 20)),
        };
        let is_first = self.told.lives == 0;
        let is_tight = faults.disk_octets < 1 << 30;
        let is_bad = is_tight || faults.sync_fails > 0 || faults.write_fails > 0;
        self.world.begin_life(sim.life(), faults.stalls > 0, is_bad);
        let Some(machine) = Machine::begin(&sim, &self.case, &self.world, is_first)? else {
            self.told.boots_failed += 1;
            return Ok(sim.crash());
        };
        if !is_first {
            self.reckon(&sim, &machine)?;
        }
        sim.set_faults(faults);
        self.world.note(&sim.env(0), || format!("up, with {faults:?}"));
        let clients = self.spawn_clients(&sim, &chance);
        self.run_to_crash(&sim, &chance, clients)?;
        self.count(&machine);
        self.world.note(&sim.env(0), || "crash".into());
        self.world.verdict()?;
        let next = sim.crash();
        drop(machine);
        Ok(next)
    }

    fn shared(&self, sim: &Sim, user: usize) -> Shared {
        Shared {
            env: sim.env(self.case.plan.shards),
            world: Rc::clone(&self.world),
            case: Rc::clone(&self.case),
            user,
            account: Rc::clone(&self.accounts[user]),
        }
    }

    fn spawn_clients(&self, sim: &Sim, chance: &Chance) -> usize {
        let mut roles =
            vec![Role::Imap; usize::try_from(chance.between(2, 5)).expect("five at most")];
        roles.push(Role::Sender);
        if chance.below(3) == 0 {
            roles.push(Role::Pop3);
        }
        let env = sim.env(self.case.plan.shards);
        for &role in &roles {
            let shared = self.shared(sim, chance.index(self.case.users));
            env.spawn(client::run(shared, role, Chance::new(chance.bits())));
        }
        roles.len()
    }

    /// Lets the clients work until the power goes.
    fn run_to_crash(&self, sim: &Sim, chance: &Chance, clients: usize) -> Result<(), String> {
        let env = sim.env(self.case.plan.shards);
        let through = async {
            while self.world.done.get() < clients && self.world.verdict().is_ok() {
                env.sleep(Duration::from_millis(2)).await;
            }
        };
        let ran = match chance.below(4) {
            0 => sim.run_until(through),
            1 => {
                sim.cut_power_at(sim.disk_events() + chance.between(20, 400));
                sim.run_until(through)
            }
            _ => sim.run_for(Duration::from_micros(chance.between(3_000, 60_000))),
        };
        match ran {
            Ok(()) | Err(Halt::PowerCut) => Ok(()),
            Err(halt) => Err(halt.to_string()),
        }
    }

    /// Nothing fails, and nobody else is there.
    fn reckon(&mut self, sim: &Sim, machine: &Machine) -> Result<(), String> {
        let settled = sim.run_until(machine.settle());
        settled.map_err(|halt| halt.to_string())??;
        for user in 0..self.case.users {
            let account = &self.accounts[user];
            self.told.resyncs += account.borrow().memories.len() as u64;
            let chance = Chance::new(sim.chance().bits());
            let reckoned = sim.run_until(reckon(self.shared(sim, user), chance));
            let reckoned = reckoned.map_err(|halt| halt.to_string())?;
            self.world.verdict()?;
            reckoned.map_err(|error| format!("u{user}: the reckoning: {error}"))?;
        }
        let faults = sim.run_until(machine.faults()).map_err(|halt| halt.to_string())?;
        if faults.is_empty() { Ok(()) } else { Err(format!("I9: {}", faults.join("; "))) }
    }
}
