//! One seed from its first boot to its last: lives, crashes, and the reckoning.

use crate::back::{Keeper, Known};
use crate::case::{Bug, Case};
use crate::machine::{Machine, Unbooted, recover, recover_twice};
use crate::pop3_client::Pop3Client;
use crate::ports::address;
use crate::smtp_client::{SmtpClient, Who};
use crate::world::World;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, Faults, Halt, Loss, Sim, SimEnv};
use pombal::model::time::Wall;
use pombal::node::logs;
use pombal::node::shard::Plan;
use pombal::server::listener::Protocol;
use pombal::store::{Health, OpenError};
use std::cell::RefCell;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::rc::Rc;
use std::time::Duration;

/// What happened in one seed, or in many; tells whether a run did what it is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    lives: u64,
    boots_failed: u64,
    /// Times that logs were added, and that this was cut off.
    grown: u64,
    stunted: u64,
    promised: u64,
    /// Deliveries that were reported to who asked.
    reports: u64,
    /// Passwords that were kept anew.
    rehashed: u64,
    removed: u64,
    /// Times that an account went back.
    backs: u64,
    /// Batches that recovery replayed, and blocks that it dropped.
    replayed: u64,
    dropped: u64,
    /// Logs that were read-only at the end of a life.
    read_only: u64,
    checkpoints: u64,
    /// Segments that logs went on to.
    segments: u64,
    /// Segments that were cleaned, and messages that were moved out of them.
    cleaned: u64,
    moved: u64,
    /// Writes and syncs that failed.
    failures: u64,
    trace: u64,
}

impl AddAssign for Told {
    fn add_assign(&mut self, other: Told) {
        self.lives += other.lives;
        self.boots_failed += other.boots_failed;
        self.grown += other.grown;
        self.stunted += other.stunted;
        self.promised += other.promised;
        self.reports += other.reports;
        self.rehashed += other.rehashed;
        self.removed += other.removed;
        self.backs += other.backs;
        self.replayed += other.replayed;
        self.dropped += other.dropped;
        self.read_only += other.read_only;
        self.checkpoints += other.checkpoints;
        self.segments += other.segments;
        self.cleaned += other.cleaned;
        self.moved += other.moved;
        self.failures += other.failures;
        self.trace ^= other.trace;
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} lives ({} ended before they began), logs added {} times and {} times not to the end, {} messages promised, {} deliveries reported, {} passwords kept anew, {} removed, {} times back, {} batches \
             replayed, {} torn blocks dropped, {} failures of disks, {} logs read-only, {} \
             checkpoints, {} segments, {} of them cleaned, {} messages moved, trace {:016x}",
            self.lives,
            self.boots_failed,
            self.grown,
            self.stunted,
            self.promised,
            self.reports,
            self.rehashed,
            self.removed,
            self.backs,
            self.replayed,
            self.dropped,
            self.failures,
            self.read_only,
            self.checkpoints,
            self.segments,
            self.cleaned,
            self.moved,
            self.trace
        )
    }
}

/// Times that the clock is set on in one life, at most.
const STEPS_MAX: u64 = 8;

struct Run {
    case: Rc<Case>,
    world: Rc<World>,
    /// Of the account that goes back.
    known: Rc<RefCell<Known>>,
    told: Told,
}

/// Runs one seed. With a journal, prints it.
pub(crate) fn run(seed: u64, bug: Bug, keeps_journal: bool) -> Result<Told, String> {
    let case = Rc::new(Case::new(seed, bug).going_back());
    let world = Rc::new(World::new(case.users, keeps_journal));
    let (known, told) = (Rc::default(), Told::default());
    let mut run = Run { case, world: Rc::clone(&world), known, told };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.lives()));
    for line in world.journal() {
        println!("{line}");
    }
    let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // What a client saw comes first: the rest may follow from it.
    world.verdict()?;
    ended.map(|()| run.told)
}

impl Run {
    fn lives(&mut self) -> Result<(), String> {
        let mut sim = Sim::new(self.case.seed, Faults::none());
        if sim.chance().below(8) == 0 {
            sim = self.stillborn(sim)?;
        }
        for life in 0..self.case.lives {
            sim = self.grow(sim, life)?;
            sim = self.live(sim)?;
            self.told.lives += 1;
        }
        sim = self.grow(sim, self.case.lives)?;
        self.last_life(sim)
    }

    fn count(&mut self, machine: &Machine) {
        for up in &machine.ups {
            self.told.replayed += up.report.replayed;
            self.told.dropped += up.report.dropped_blocks;
            let stats = up.state.log.stats();
            self.told.checkpoints += stats.checkpoints.get();
            self.told.segments += stats.segments.get();
            self.told.cleaned += stats.victims.get();
            self.told.moved += stats.moved_blobs.get();
            self.told.failures += stats.failures.get();
            self.told.rehashed += up.shard.figures.rehashed.get();
            self.told.read_only += u64::from(matches!(up.state.log.health(), Health::ReadOnly(_)));
        }
    }

    /// The power goes while the store is made, before anybody got an answer.
    fn stillborn(&self, sim: Sim) -> Result<Sim, String> {
        sim.allow_leaks();
        let chance = sim.chance();
        sim.cut_power_at(chance.between(1, 150));
        if chance.coin() {
            sim.set_faults(Faults {
                write_fails: 20_000,
                sync_fails: 20_000,
                ..Faults::bad_disk()
            });
        }
        let env = sim.env(0);
        let booted = Machine::boot(&sim, &self.case.host(), true);
        self.world.note(&env, || "crash while the store is made".into());
        match booted {
            Ok(_) | Err(Unbooted::Dark | Unbooted::Refused(OpenError::Io(_))) => {}
            Err(error) => return Err(format!("a new store: {error}")),
        }
        let next = sim.crash();
        next.set_faults(Faults::none());
        Ok(next)
    }

    /// In some seeds the store gets more logs before a life. The power may go meanwhile, or a disk fail:
    /// then it has those that it had.
    fn grow(&mut self, sim: Sim, life: u64) -> Result<Sim, String> {
        if !self.case.grows_before(life) {
            return Ok(sim);
        }
        sim.allow_leaks();
        sim.set_faults(Faults::none());
        let chance = sim.chance();
        let (had, env) = (self.case.plan.shards, sim.env(0));
        if life == 0 {
            let made = sim.run_until(make_logs(&env, &self.case.plan, 0..had));
            made.map_err(|halt| halt.to_string())?.map_err(|error| error.to_string())?;
        }
        if chance.coin() {
            sim.cut_power_at(sim.disk_events() + chance.between(1, 150));
        }
        if chance.below(4) == 0 {
            sim.set_faults(Faults {
                write_fails: 20_000,
                sync_fails: 20_000,
                ..Faults::bad_disk()
            });
        }
        let logs = had + 1 + u16::from(chance.coin());
        let grown = self.case.with_logs(logs);
        match sim.run_until(make_logs(&env, &grown.plan, had..logs)) {
            // Now the store says of itself that it has them.
            Ok(Ok(())) => {
                self.case = Rc::new(grown);
                self.told.grown += 1;
                self.world.note(&env, || format!("{had} logs, now {logs}"));
            }
            Err(Halt::PowerCut) | Ok(Err(OpenError::Io(_))) => {
                self.told.stunted += 1;
                self.world.note(&env, || format!("still {had} logs, and not {logs}"));
            }
            Ok(Err(error)) => return Err(format!("more logs: {error}")),
            Err(halt) => return Err(halt.to_string()),
        }
        let next = sim.crash();
        next.set_faults(Faults::none());
        Ok(next)
    }

    /// One life up to its crash.
    fn live(&mut self, sim: Sim) -> Result<Sim, String> {
        sim.allow_leaks();
        let chance = sim.chance();
        let faults = self.case.faults(&chance, sim.disk().used() + (2 << 20));
        let is_first = self.told.lives == 0;
        if !is_first && chance.coin() {
            sim.set_faults(faults);
        }
        // Else it comes up with the disk as bad, or as full, as it was when the power went.
        let at_boot = sim.faults();
        self.world.begin_life(sim.life(), faults.stalls > 0, faults.sync_fails > 0);
        let Some(machine) = Machine::begin(&sim, &self.case, &self.world, is_first)? else {
            self.told.boots_failed += 1;
            return Ok(sim.crash());
        };
        let room = sim.disk().used() + chance.below(3) * self.case.plan.config.store.segment_size;
        let is_tight = is_tight(&faults);
        sim.set_faults(Faults { disk_octets: if is_tight { room } else { 1 << 30 }, ..faults });
        // A log that found no room when it came up takes no mail before it has looked again.
        let is_calm = takes_writes(&at_boot) && takes_writes(&faults);
        self.world.set_calm(is_calm && self.case.has_room());
        self.world.note(&sim.env(0), || format!("up, with {faults:?}"));
        self.known.borrow_mut().may_forget |= is_tight;
        self.spawn_clients(&sim, &chance);
        if let Some(keeper) = self.keeper(&machine, &chance) {
            sim.env(self.case.plan.shards).spawn(keeper.run());
        }
        self.run_to_crash(&sim, &chance)?;
        self.count(&machine);
        self.world.note(&sim.env(0), || "crash".into());
        self.world.verdict()?;
        let next = sim.crash();
        drop(machine);
        if chance.below(4) == 0 {
            recover_twice(self.case.seed, next.disk().fork(), &self.case.plan)?;
        }
        Ok(next)
    }

    fn spawn_clients(&self, sim: &Sim, chance: &Chance) {
        let (world, case) = (&self.world, &self.case);
        let env = sim.env(case.plan.shards);
        for _ in 0..case.smtp_clients {
            let who = match chance.below(4) {
                0 => Who::Relay,
                1 => Who::User(chance.index(case.users)),
                _ => Who::Server,
            };
            let client = SmtpClient {
                env: env.clone(),
                world: Rc::clone(world),
                case: Rc::clone(case),
                chance: Chance::new(chance.bits()),
                who,
            };
            env.spawn(client.run());
        }
        for _ in 0..case.pop3_clients {
            env.spawn(self.pop3_client(sim, chance).run());
        }
    }

    fn keeper(&self, machine: &Machine, chance: &Chance) -> Option<Keeper> {
        let chance = self.case.goes_back.then(|| Chance::new(chance.bits()))?;
        Keeper::new((&self.world, &self.known), machine, chance)
    }

    fn pop3_client(&self, sim: &Sim, chance: &Chance) -> Pop3Client {
        Pop3Client {
            env: sim.env(self.case.plan.shards),
            world: Rc::clone(&self.world),
            case: Rc::clone(&self.case),
            chance: Chance::new(chance.bits()),
            address: address(Protocol::Pop3),
        }
    }

    /// Lets the clients work until the power goes: at a moment, in the middle of an operation of
    /// the disk, or when they are through.
    fn run_to_crash(&self, sim: &Sim, chance: &Chance) -> Result<(), String> {
        let ran = match chance.below(8) {
            0 | 1 => {
                let keepers = u64::from(self.case.goes_back);
                let clients = self.case.smtp_clients + self.case.pop3_clients + keepers;
                let env = sim.env(self.case.plan.shards);
                sim.run_until(async {
                    while (self.world.done.get() as u64) < clients {
                        env.sleep(Duration::from_millis(5)).await;
                    }
                })
            }
            2 | 3 => {
                sim.cut_power_at(sim.disk_events() + chance.between(1, 400));
                sim.run_for(Duration::from_secs(2))
            }
            _ => {
                let longest = [5_000, 60_000, 300_000][chance.index(3)] * self.case.rounds;
                self.run_in_steps(sim, chance, Duration::from_micros(chance.between(500, longest)))
            }
        };
        match ran {
            Ok(()) | Err(Halt::PowerCut) => Ok(()),
            Err(halt) => Err(halt.to_string()),
        }
    }

    /// Where histories are kept the clock is set on meanwhile, so that they tell of some seconds.
    fn run_in_steps(&self, sim: &Sim, chance: &Chance, time: Duration) -> Result<(), Halt> {
        let steps = if self.case.goes_back { chance.between(1, STEPS_MAX) } else { 1 };
        for step in 1..=steps {
            sim.run_for(time / u32::try_from(steps).expect("small"))?;
            if step < steps {
                let wall = sim.env(0).wall();
                sim.set_wall(Wall(wall.0 + chance.between(1, 2_000_000)));
            }
        }
        Ok(())
    }

    /// Nothing goes wrong any more: everything that was promised must be there.
    fn last_life(&mut self, sim: Sim) -> Result<(), String> {
        let case = Rc::clone(&self.case);
        let twin = recover_twice(!case.seed, sim.disk().fork(), &case.plan)?;
        sim.set_faults(Faults::none());
        self.world.begin_life(sim.life(), false, false);
        let booted = Machine::boot(&sim, &self.case.host(), false);
        let machine = booted.map_err(|error| format!("the last life: {error}"))?;
        if machine.recovered() != twin {
            let here = machine.recovered();
            return Err(format!("I13: recovery gave {twin:x?} elsewhere, here {here:x?}"));
        }
        self.count(&machine);
        let chance = sim.chance();
        let swept = sim.run_until(self.reckon(&machine, &sim, &chance));
        swept.map_err(|halt| halt.to_string())??;
        let digests = sim.run_until(machine.stop()).map_err(|halt| halt.to_string())??;
        let rest = sim.run_for(Duration::from_secs(1));
        rest.map_err(|halt| halt.to_string())?;
        let oracle = self.world.oracle.borrow();
        self.told.promised += oracle.promised() as u64;
        self.told.reports += oracle.reports() as u64;
        self.told.removed += oracle.removed() as u64;
        self.told.backs += self.known.borrow().backs;
        self.told.trace ^= sim.trace_hash();
        let after = sim.crash_with(Loss::Everything);
        let again = recover(&after, &case.plan)?;
        if digests != again {
            return Err(format!("I13: closed with {digests:x?}, reopened with {again:x?}"));
        }
        Ok(())
    }

    async fn reckon(&self, machine: &Machine, sim: &Sim, chance: &Chance) -> Result<(), String> {
        check_logs(machine).await?;
        machine.settle().await?;
        if let Some(keeper) = self.keeper(machine, chance) {
            keeper.reckon().await?;
        }
        for round in 0..2 {
            for user in 0..self.case.users {
                let removes = round == 0 && self.case.sweeps;
                let client = self.pop3_client(sim, chance);
                let swept = client.sweep(user, removes).await;
                swept.map_err(|error| format!("u{user}: the last session: {error}"))?;
                self.world.verdict()?;
            }
            self.world.oracle.borrow().all_there()?;
        }
        check_logs(machine).await?;
        let kept: u64 = machine.ups.iter().map(|up| up.state.log.figures().blobs).sum();
        if self.case.sweeps && kept > 0 {
            return Err(format!("I9: {kept} messages are kept that nobody has"));
        }
        Ok(())
    }
}

/// As `pombal store grow` does, up to where `store.toml` says that there are more.
async fn make_logs(env: &SimEnv, plan: &Plan, new: Range<u16>) -> Result<(), OpenError> {
    logs::add(env, plan, new, &mut |_| ()).await.map_err(|(_, error)| error)
}

/// Whether the disk has less room than anybody needs.
fn is_tight(faults: &Faults) -> bool {
    faults.disk_octets < Faults::none().disk_octets
}

/// Whether the disk takes everything, and at once.
fn takes_writes(faults: &Faults) -> bool {
    faults.write_fails == 0 && faults.sync_fails == 0 && !is_tight(faults)
}

async fn check_logs(machine: &Machine) -> Result<(), String> {
    let faults = machine.faults().await;
    if faults.is_empty() { Ok(()) } else { Err(format!("I9: {}", faults.join("; "))) }
}
