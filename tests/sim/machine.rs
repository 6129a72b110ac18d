//! A server on a simulated machine: the shards that the real one has, between boot and crash.

use crate::back;
use crate::case::{Case, password_hash};
use crate::ports::listen;
use crate::world::World;
use futures_lite::future::yield_now;
use pombal::env::Env as _;
use pombal::env::sim::{Disk, Faults, Halt, Loss, Sim, SimEnv};
use pombal::mailbox::Accounts;
use pombal::mesh::{Inbox, Mesh};
use pombal::model::id::{LogId, ShardId};
use pombal::mta::relay;
use pombal::node::shard::{Plan, State, assemble, begin, open_state, publish_directory};
use pombal::server::shard::{Call, Figures, Shard};
use pombal::store::{Log, OpenError, Report};
use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

type SimConn = <SimEnv as pombal::env::Env>::Conn;

/// What a shard's state is, for comparison: accounts, spool and outgoing mail.
pub(crate) type Digest = (u128, u128, u128, u128);

/// How long recovery and the way down may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// Cleanings that may fail before a life goes on without them: its log may be read-only, or closed.
const CLEANING_FAILURES_MAX: u32 = 20;
/// Microseconds at most between two cleanings, where something is written all the time,
const CLEANING_PAUSE: u64 = 4_000;
/// and where nothing is,
const CLEANING_PAUSE_MAX: u64 = 600_000_000;
/// and between two looks who may rest.
const RESTING_PAUSE: u64 = 2_000;

pub(crate) fn digest(state: &State<SimEnv>) -> Digest {
    let outgoing = state.outgoing.borrow().digest();
    let answered = state.answered.borrow().digest();
    (state.accounts.borrow().digest(), state.spool.borrow().digest(), outgoing, answered)
}

/// A host of the network, with a server of ours.
pub(crate) struct Host<'h> {
    pub(crate) plan: &'h Plan,
    pub(crate) ip: IpAddr,
    /// The number of its first shard among those of all hosts; behind its last one comes one for the
    /// test.
    pub(crate) first_shard: u16,
    /// Messages that wait in the inbox of a shard at most.
    pub(crate) inbox: usize,
    /// Its logs are cleaned all the time, however much is free.
    pub(crate) cleans: bool,
}

/// One shard that is up.
pub(crate) struct Up {
    pub(crate) shard: Rc<Shard<SimEnv>>,
    pub(crate) state: State<SimEnv>,
    /// As recovery left it.
    pub(crate) recovered: Digest,
    pub(crate) report: Report,
}

/// All shards of one life, by number.
pub(crate) struct Machine {
    pub(crate) ups: Vec<Up>,
    pub(crate) mesh: Mesh<Call<SimConn>>,
    /// For what the test itself does.
    pub(crate) env: SimEnv,
}

/// Why a machine is not up.
pub(crate) enum Unbooted {
    /// A log did not open.
    Refused(OpenError),
    /// The power went meanwhile.
    Dark,
}

impl fmt::Display for Unbooted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unbooted::Refused(error) => error.fmt(out),
            Unbooted::Dark => out.write_str("the power went"),
        }
    }
}

/// Where a shard stands while the machine boots.
enum Booting {
    Opening,
    Open(Up),
    Listening(Up),
    Failed(OpenError),
}

impl Machine {
    /// Starts all shards; comes back when all listen, or one cannot. `is_new`: the store was never
    /// whole, so that logs may be made.
    pub(crate) fn boot(sim: &Sim, host: &Host<'_>, is_new: bool) -> Result<Machine, Unbooted> {
        let mut plan = host.plan.clone();
        plan.store.may_create = is_new;
        let (shards, ip, first) = (host.plan.shards, host.ip, host.first_shard);
        let (mesh, inboxes) = Mesh::with_capacity(shards, host.inbox);
        let stages: Rc<RefCell<Vec<Booting>>> =
            Rc::new(RefCell::new((0..shards).map(|_| Booting::Opening).collect()));
        for inbox in inboxes {
            let env = sim.env(first + inbox.shard().0);
            let (plan, mesh, stages) = (plan.clone(), mesh.clone(), Rc::clone(&stages));
            env.spawn(start(env.clone(), plan, mesh, (inbox, ip), host.cleans, stages));
        }
        let env = sim.env(first + shards);
        let deadline = env.now().after(PATIENCE);
        let booted = sim.run_until(async {
            loop {
                let failed = |stage: &Booting| matches!(stage, Booting::Failed(_));
                let listens = |stage: &Booting| matches!(stage, Booting::Listening(_));
                let is_over = {
                    let stages = stages.borrow();
                    stages.iter().any(failed) || stages.iter().all(listens)
                };
                if is_over {
                    return;
                }
                assert!(env.now() < deadline, "the shards do not come up");
                env.sleep(Duration::from_micros(500)).await;
            }
        });
        match booted {
            Ok(()) => {}
            Err(Halt::PowerCut) => return Err(Unbooted::Dark),
            Err(halt) => panic!("{halt}"),
        }
        let mut ups = Vec::new();
        for stage in stages.take() {
            match stage {
                Booting::Listening(up) => ups.push(up),
                Booting::Failed(error) => return Err(Unbooted::Refused(error)),
                Booting::Opening | Booting::Open(_) => {}
            }
        }
        Ok(Machine { ups, mesh, env })
    }

    /// Starts all shards of one life, those of the first with a new store. `None`: a disk that
    /// fails does not let them.
    pub(crate) fn begin(
        sim: &Sim,
        case: &Case,
        world: &World,
        is_first: bool,
    ) -> Result<Option<Machine>, String> {
        let machine = match Machine::boot(sim, &case.host(), is_first) {
            Ok(machine) => machine,
            Err(Unbooted::Refused(error @ OpenError::Io(_))) if !is_first => {
                world.note(&sim.env(0), || format!("does not start: {error}"));
                return Ok(None);
            }
            Err(error) => return Err(format!("life {}: {error}", sim.life())),
        };
        if is_first {
            sim.run_until(machine.set_up(case)).map_err(|halt| halt.to_string())?;
        }
        Ok(Some(machine))
    }

    /// Makes the users and the alias of a new store.
    pub(crate) async fn set_up(&self, case: &Case) {
        let first = &self.ups[0];
        let ledger = &first.state.ledger;
        let turn = ledger.turn().expect("nobody else changes the directory");
        let now = first.shard.env.wall();
        let drafted = turn.draft(|draft| {
            draft.add_domain("example.org", now)?;
            let names: Vec<String> =
                (0..case.users).map(|user| format!("u{user}@example.org")).collect();
            for (user, name) in names.iter().enumerate() {
                draft.add_user(name, password_hash(), case.quota_of(user), now)?;
            }
            if case.goes_back {
                draft.add_user(back::WHO, password_hash(), 0, now)?;
            }
            let targets: Vec<&str> = names.iter().map(String::as_str).collect();
            draft.add_alias("all@example.org", &targets).map(|_| ())
        });
        let ((), group) = drafted.expect("the directory takes these");
        first.state.log.append(group).await.expect("nothing fails yet");
        drop(turn);
        publish_directory(&first.shard, ledger).await;
    }

    /// Waits until no spool holds anything. An error tells what is left.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let deadline = self.env.now().after(PATIENCE);
        while self.env.now() < deadline {
            let idle = self.ups.iter().all(|up| {
                let spool = up.state.spool.borrow();
                spool.pending().len() == 0 && spool.key_count() == 0
            });
            if idle {
                return Ok(());
            }
            self.env.sleep(Duration::from_millis(20)).await;
        }
        let left: Vec<String> = self
            .ups
            .iter()
            .map(|up| {
                let spool = up.state.spool.borrow();
                let pending: Vec<u64> = spool.pending().map(|(number, _)| number.0).collect();
                let keys = (0..self.mesh.shards())
                    .map(LogId)
                    .map(|log| spool.keys(log).map(|key| key.0).collect::<Vec<u64>>());
                let keys: Vec<Vec<u64>> = keys.collect();
                format!("pending {pending:?}, keys {keys:?}, {:?}", up.shard.intake.figures())
            })
            .collect();
        Err(format!("I1: the spools do not come to rest: {}", left.join("; ")))
    }

    /// What `verify` finds wrong, and what the machines find wrong with themselves.
    pub(crate) async fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, up) in self.ups.iter().enumerate() {
            let findings = up.state.log.verify(|_| {}).await;
            let accounts = up.state.accounts.borrow().verify();
            let told = findings.faults.into_iter().chain(accounts.err().map(|damaged| damaged.0));
            let is_sound = up.state.outgoing.borrow().is_sound();
            let queue = (!is_sound).then(|| "an entry of the queue has no event".to_owned());
            let told = told.chain(queue);
            faults.extend(told.map(|fault| format!("log {number}: {fault}")));
        }
        faults
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.ups.iter().map(|up| digest(&up.state)).collect()
    }

    pub(crate) fn recovered(&self) -> Vec<Digest> {
        self.ups.iter().map(|up| up.recovered).collect()
    }

    /// The way down of a server that is told to stop. Returns the digests at the end.
    pub(crate) async fn stop(self) -> Result<Vec<Digest>, String> {
        for shard in 0..self.mesh.shards() {
            while self.mesh.send(ShardId(shard), Call::Drain).is_err() {
                yield_now().await;
            }
        }
        let deadline = self.env.now().after(PATIENCE);
        while self.ups.iter().any(|up| up.shard.sessions.get() > 0) {
            if self.env.now() > deadline {
                return Err("sessions do not come to an end".into());
            }
            self.env.sleep(Duration::from_millis(1)).await;
        }
        let digests = self.digests();
        for (number, up) in self.ups.into_iter().enumerate() {
            let closed = up.state.log.close().await;
            closed.map_err(|error| format!("log {number} does not close: {error}"))?;
        }
        Ok(digests)
    }
}

async fn start(
    env: SimEnv,
    plan: Plan,
    mesh: Mesh<Call<SimConn>>,
    (inbox, ip): (Inbox<Call<SimConn>>, IpAddr),
    cleans: bool,
    stages: Rc<RefCell<Vec<Booting>>>,
) {
    let id = inbox.shard();
    let enter = |stage| stages.borrow_mut()[usize::from(id.0)] = stage;
    let opened = open_state(env.clone(), &plan, LogId(id.0)).await;
    let (state, report) = match opened {
        Ok(opened) => opened,
        Err(error) => return enter(Booting::Failed(error)),
    };
    let recovered = digest(&state);
    let shard = assemble(
        env.clone(),
        &plan,
        id,
        &state,
        mesh,
        (Figures::default(), relay::Counts::default()),
    );
    if cleans {
        env.spawn(clean(state.log.clone()));
    }
    if plan.config.limits.mailbox_memory == 0 {
        env.spawn(rest(env.clone(), Rc::clone(&state.accounts)));
    }
    let up = Up { shard: Rc::clone(&shard), state: state.clone(), recovered, report };
    enter(Booting::Open(up));
    begin(&shard, inbox, &state.ledger).await;
    listen(&shard, ip);
    let mut stages = stages.borrow_mut();
    let stage = &mut stages[usize::from(id.0)];
    if let Booting::Open(up) = std::mem::replace(stage, Booting::Opening) {
        *stage = Booting::Listening(up);
    }
}

/// Has accounts rest all the time, seldomer the longer nobody wakes any.
async fn rest(env: SimEnv, accounts: Rc<RefCell<Accounts>>) {
    let mut pause = RESTING_PAUSE;
    loop {
        env.sleep(Duration::from_micros(env.random() % pause)).await;
        let is_quiet = accounts.borrow().awake() == 0;
        pause = if is_quiet { (pause * 2).min(CLEANING_PAUSE_MAX) } else { RESTING_PAUSE };
        accounts.borrow_mut().begin_turn();
        while accounts.borrow_mut().turn() {
            yield_now().await;
        }
    }
}

/// Cleans whatever is worth it, again and again; what fails is tried again for a while. The longer nothing
/// was written the seldomer: lives of hours would be full of it.
async fn clean(log: Log<SimEnv>) {
    let (mut failures, mut pause, mut seen) = (0, CLEANING_PAUSE, None);
    while failures < CLEANING_FAILURES_MAX {
        let mut before = None;
        loop {
            match log.compact(before).await {
                Ok((number, Some(_))) => before = Some(number),
                Ok((_, None)) => break,
                Err(_) => {
                    failures += 1;
                    break;
                }
            }
        }
        let applied = log.applied();
        let is_quiet = seen.replace(applied) == Some(applied);
        pause = if is_quiet { (pause * 2).min(CLEANING_PAUSE_MAX) } else { CLEANING_PAUSE };
        log.env().sleep(Duration::from_micros(log.env().random() % pause)).await;
    }
}

/// What recovery makes of a disk: opened twice, by a machine of its own, it must be the same.
pub(crate) fn recover_twice(seed: u64, disk: Disk, plan: &Plan) -> Result<Vec<Digest>, String> {
    let sim = Sim::with_disk(seed, Faults::none(), disk);
    let first = recover(&sim, plan)?;
    let sim = sim.crash_with(Loss::Nothing);
    let second = recover(&sim, plan)?;
    if first != second {
        return Err(format!("I13: recovery gave {first:x?}, then {second:x?}"));
    }
    Ok(first)
}

pub(crate) fn recover(sim: &Sim, plan: &Plan) -> Result<Vec<Digest>, String> {
    sim.allow_leaks();
    let opened = sim.run_until(async {
        let mut digests = Vec::new();
        for log in 0..plan.shards {
            let (state, _) = open_state(sim.env(log), plan, LogId(log)).await?;
            digests.push(digest(&state));
        }
        Ok::<_, OpenError>(digests)
    });
    opened.map_err(|halt| halt.to_string())?.map_err(|error| error.to_string())
}
