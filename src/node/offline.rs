//! The store while no server runs: opened alone, asked, closed.

use super::data_dir::{self, Held, LOCK_PATIENCE};
use super::owners::OfLogs;
use super::placement::Placement;
use super::shard::{Plan, State, cost, open_state};
use super::{directory, dkim, grow, logs, moving, privileges};
use crate::admin::request::{CompactRow, Compacting, Request, Response};
use crate::admin::socket::{Answer, Asked, Busy, Session, serve_alone};
use crate::auth::Pool;
use crate::cli::{Asking, Compaction, Failure, StoreTask, show_findings};
use crate::config::{Config, Shards};
use crate::env::Env as _;
use crate::env::ring::{self, Ring};
use crate::mesh::{Inbox, Mesh};
use crate::model::id::{LogId, ShardId};
use crate::model::limits::ADMIN_WAITING_MAX;
use crate::store::backup::{Ask, Base, Cut, Reply};
use crate::store::verify::{Findings, Pace};
use crossbeam::channel::{Sender, bounded, unbounded};
use std::future::Future;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Runs `work` on one shard of its own and hands its result out.
pub(super) fn on_a_shard<T, F>(
    work: impl Fn(Ring) -> F + Clone + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + 'static,
{
    let (send, received) = bounded(1);
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (work, send) = (work.clone(), send.clone());
        async move {
            // One result, one place: it is never full.
            drop(send.try_send(Box::pin(work(ring)).await));
        }
    });
    shards.map_err(|refusal| Failure::Failed(refusal.0))?.wait();
    match received.try_recv() {
        Ok(result) => result.map_err(Failure::Failed),
        Err(_) => Err(Failure::Failed("the shard ended without a result".into())),
    }
}

/// The same of work that tells how it goes on.
pub(super) fn telling<T, P, F>(
    work: impl Fn(Ring, Sender<P>) -> F + Clone + Send + 'static,
    mut told: impl FnMut(P),
) -> Result<T, Failure>
where
    T: Send + 'static,
    P: Send + 'static,
    F: Future<Output = Result<T, String>> + 'static,
{
    let (tell, heard) = unbounded();
    let (send, received) = bounded(1);
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (work, tell, send) = (work.clone(), tell.clone(), send.clone());
        async move {
            drop(send.try_send(Box::pin(work(ring, tell)).await));
        }
    });
    let shards = shards.map_err(|refusal| Failure::Failed(refusal.0))?;
    // Ends when the shard has: then nobody holds the other end.
    heard.into_iter().for_each(&mut told);
    shards.wait();
    match received.try_recv() {
        Ok(result) => result.map_err(Failure::Failed),
        Err(_) => Err(Failure::Failed("the shard ended without a result".into())),
    }
}

/// What a backup needs of a log that nobody else writes to.
pub(super) fn backup(
    config: &Config,
    held: &Held,
    log: LogId,
    token: u64,
) -> Result<(Base, Cut), Failure> {
    let plan = plan(config, held);
    on_a_shard(move |ring| {
        let plan = plan.clone();
        async move {
            let state = open_log(ring, &plan, log).await?;
            let begun = state.log.backup(Ask::Begin { token }).await?;
            let cut = state.log.backup(Ask::Cut { token }).await?;
            state.log.close().await.map_err(|error| format!("log {}: {error}", log.0))?;
            match (begun, cut) {
                (Reply::Base(base), Reply::Cut(cut)) => Ok((base, cut)),
                _ => Err(format!("log {} answered something else", log.0)),
            }
        }
    })
}

fn plan(config: &Config, held: &Held) -> Plan {
    plan_of(config, held.store_id, (held.logs, held.first_logs), held.placement.clone())
}

/// `logs` are how many the store has, and was made with.
pub(super) fn plan_of(
    config: &Config,
    store: u128,
    logs: (u16, u16),
    placement: Placement,
) -> Plan {
    let pool = Pool::inline(cost(config));
    let plan = Plan::new(config.clone(), store, logs.1, pool, [0; 32]).with_logs(logs.0);
    Plan { placement, ..plan }
}

/// Takes the data directory. A store that does not exist yet is made, of `logs` logs, whole:
/// whoever finds a log missing later knows that it was lost. Waits up to `patience` for another
/// process that has it.
pub(super) fn hold(config: &Config, logs: u16, patience: Duration) -> Result<Held, Failure> {
    let mut held = data_dir::hold(config, logs, patience)?;
    if !held.is_complete {
        held.placement.lay(0..held.logs);
        make_logs(&plan(config, &held), 0..held.logs)?;
        held.complete(&config.data_dir)?;
    }
    Ok(held)
}

fn make_logs(plan: &Plan, new: Range<u16>) -> Result<(), Failure> {
    let plan = plan.clone();
    on_a_shard(move |ring| {
        let (plan, new) = (plan.clone(), new.clone());
        async move {
            for log in new.map(LogId) {
                let made = logs::make(&ring, &plan, log).await;
                made.map_err(|error| format!("log {}: it cannot be made: {error}", log.0))?;
            }
            Ok(())
        }
    })
}

pub(super) async fn open_log(ring: Ring, plan: &Plan, log: LogId) -> Result<State<Ring>, String> {
    let opened = open_state(ring, plan, log).await;
    opened.map(|(state, _)| state).map_err(|error| format!("log {}: {error}", log.0))
}

/// How many cores the configuration asks for: so many logs a store has that is made now.
pub(super) fn cores(config: &Config) -> Result<u16, Failure> {
    match config.shards {
        Shards::Count(count) => Ok(count.get()),
        Shards::Cores => {
            let cpus = ring::cpus().map_err(|error| Failure::Failed(error.to_string()))?.len();
            let count = u16::try_from(cpus).ok().and_then(NonZeroU16::new);
            Ok(count.unwrap_or(NonZeroU16::MIN).get())
        }
    }
}

/// Another process that has the store open and answers many requests: as the owner of the store, while this
/// one stays who it is and reads files that are not the owner's.
struct Helper {
    session: Session,
    child: Child,
}

impl Helper {
    fn start(named: Option<&Path>) -> io::Result<Helper> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(path) = named {
            command.arg("--config").arg(path);
        }
        let child = command.args(["store", "answer"]).stdin(OwnedFd::from(theirs)).spawn()?;
        Ok(Helper { session: Session::over(ours), child })
    }
}

impl Asking for Helper {
    fn ask(&mut self, request: Request, octets: Vec<u8>) -> Result<Answer, Failure> {
        let answer = self.session.ask(&request, &octets);
        answer.map_err(|error| Failure::Failed(format!("the process at the store: {error}")))
    }
}

/// Has another process open the store, and `work` ask it.
pub(super) fn with_store(
    named: Option<&Path>,
    work: &mut dyn FnMut(&mut dyn Asking) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut helper = Helper::start(named)?;
    let done = match helper.session.hear() {
        Ok(Response::Done) => work(&mut helper),
        // Said by the other process.
        Ok(_) | Err(_) => Err(Failure::Failed(String::new())),
    };
    let Helper { session, mut child } = helper;
    // It ends when it hears nothing more.
    drop(session);
    let ended = child.wait()?;
    if ended.success() || done.is_err() {
        return done;
    }
    Err(Failure::Failed("the store was not closed as it should be".into()))
}

/// Opens the store alone, tells that on standard input, which has to be a socket, and answers requests from
/// there until there are no more.
pub(super) fn answer(config: &Config) -> Result<(), Failure> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    privileges::command(config)?;
    let held = hold(config, cores(config)?, LOCK_PATIENCE)?;
    let plan = plan(config, &held);
    let message_max = config.smtp.max_message_size;
    with_shard(
        move |ring, inbox, open| serve(ring, plan.clone(), inbox, open),
        |forward| Ok(serve_alone(&stream, &forward, message_max)?),
    )
}

/// Who takes requests to a shard.
pub(super) type Forward<'a> = &'a (dyn Fn(Asked) -> Result<(), Busy> + Sync);

/// Has a shard of its own serve requests while `work` asks, which begins once the shard says that it is
/// open. The inbox ends with `work`.
pub(super) fn with_shard<F>(
    serve: impl Fn(Ring, Requests, Sender<bool>) -> F + Clone + Send + 'static,
    work: impl FnOnce(Forward<'_>) -> Result<(), Failure>,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let (requests, inboxes) = Mesh::<Option<Asked>>::with_capacity(1, ADMIN_WAITING_MAX);
    let (give, given) = bounded(1);
    // One inbox, one place.
    if let Some(inbox) = inboxes.into_iter().next() {
        drop(give.try_send(Requests(inbox)));
    }
    let (tell, told) = bounded(1);
    let (end, ended) = bounded(1);
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (serve, given, tell, end) = (serve.clone(), given.clone(), tell.clone(), end.clone());
        async move {
            let Ok(inbox) = given.try_recv() else { return };
            let served = Box::pin(serve(ring, inbox, tell.clone())).await;
            // Heard only where nothing was opened.
            let _ = tell.try_send(false);
            drop(end.try_send(served));
        }
    });
    let shards = shards.map_err(|refusal| Failure::Failed(refusal.0))?;
    let forward = |asked| requests.send(ShardId(0), Some(asked)).map_err(|_| Busy);
    let worked = match told.recv() {
        Ok(true) => work(&forward),
        _ => Ok(()),
    };
    drop(requests.send(ShardId(0), None));
    shards.wait();
    match ended.try_recv() {
        Ok(ended) => ended.map_err(Failure::Failed).and(worked),
        Err(_) => Err(Failure::Failed("the shard ended without a result".into())),
    }
}

/// Requests to a shard, until there are no more.
pub(super) struct Requests(Inbox<Option<Asked>>);

impl Requests {
    pub(super) async fn recv(&mut self) -> Option<Asked> {
        self.0.recv().await
    }
}

/// Answers requests until there are no more; says once the store is open.
async fn serve(
    ring: Ring,
    plan: Plan,
    mut inbox: Requests,
    open: Sender<bool>,
) -> Result<(), String> {
    let state = open_log(ring.clone(), &plan, LogId(0)).await?;
    let owners = OfLogs::new(ring, &plan, &state);
    let _ = open.try_send(true);
    while let Some(asked) = inbox.recv().await {
        moving::answer(&state, asked, &owners).await;
    }
    owners.close().await?;
    state.log.close().await.map_err(|error| error.to_string())
}

/// Answers a request out of log 0, and out of the others where it is about accounts. A store that
/// does not exist yet is made, so that an operator may set up the directory before the first start.
pub(super) fn ask(config: &Config, request: &Request) -> Result<Response, Failure> {
    privileges::command(config)?;
    let held = hold(config, cores(config)?, LOCK_PATIENCE)?;
    if let Request::Dkim(request) = request {
        let (config, request) = (config.clone(), request.clone());
        return on_a_shard(move |ring| {
            let response = dkim::answer(&config, request.clone(), ring.wall().seconds());
            std::future::ready(Ok(response))
        });
    }
    let plan = plan(config, &held);
    let request = request.clone();
    on_a_shard(move |ring| {
        let (plan, request) = (plan.clone(), request.clone());
        async move {
            let state = open_log(ring.clone(), &plan, LogId(0)).await?;
            let owners = OfLogs::new(ring, &plan, &state);
            let response = directory::answer(&state, request, &owners).await;
            owners.close().await?;
            state.log.close().await.map_err(|error| error.to_string())?;
            Ok(response)
        }
    })
}

/// Reads and checks every log; an error where something is wrong.
pub(super) fn store(
    config: &Config,
    task: &StoreTask,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    // A server does not end by itself: waiting for it is in vain.
    if UnixStream::connect(config.admin_socket()).is_ok() {
        return Err(Failure::Failed(format!(
            "a server runs on {}: stop it first, this needs the whole store for itself",
            config.data_dir.display()
        )));
    }
    privileges::command(config)?;
    let mut held = data_dir::hold_existing(config, LOCK_PATIENCE)?;
    let plan = plan(config, &held);
    let logs = (0..held.logs).map(LogId);
    match *task {
        StoreTask::Grow { logs } => grow::run(config, &mut held, logs, json, out),
        StoreTask::Verify { rate } => verify(&plan, (logs, rate), json, out),
        StoreTask::Compact => compact(plan, json, out),
        StoreTask::Dump { log } => {
            for log in logs.filter(|one| log.is_none_or(|log| log == one.0)) {
                dump(&plan, log, out)?;
            }
            Ok(())
        }
    }
}

fn verify(
    plan: &Plan,
    (logs, rate): (impl Iterator<Item = LogId>, u64),
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut faults = 0;
    for log in logs {
        let findings = verify_log(plan, log, rate)?;
        faults += findings.faults.len();
        show_findings(log.0, &findings, json, out)?;
    }
    if faults == 0 { Ok(()) } else { Err(Failure::Failed(format!("{faults} faults found"))) }
}

/// Cleans one log after the other, as fast as the disk lets it.
fn compact(mut plan: Plan, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    // There is nobody that it could be in the way of.
    plan.store.cleaning.share_percent = 100;
    plan.store.cleaning.commit_max = Duration::MAX;
    let mut all = Compaction::default();
    for log in 0..plan.shards {
        let plan = plan.clone();
        let mut told = Ok(());
        let work = move |ring: Ring, tell: Sender<CompactRow>| {
            let plan = plan.clone();
            async move { compact_log(ring, &plan, log, &tell).await }
        };
        telling(work, |done: CompactRow| {
            all.add(log, &done);
            if done.segments > 0 && !json && told.is_ok() {
                told = writeln!(out, "{}", all.progress(log));
            }
        })?;
        told?;
    }
    all.show(json, out)
}

async fn compact_log(
    ring: Ring,
    plan: &Plan,
    log: u16,
    tell: &Sender<CompactRow>,
) -> Result<(), String> {
    let state = open_log(ring.clone(), plan, LogId(log)).await?;
    let owners = OfLogs::new(ring, plan, &state);
    let mut cursor = Some(Compacting { log, before: None });
    let mut done = Ok(());
    while cursor.is_some_and(|cursor| cursor.log == log) {
        match directory::compact(&owners, cursor).await {
            Response::Compacted { done, next, .. } => {
                // Whoever listens does so until this ends.
                _ = tell.send(done);
                cursor = next;
            }
            Response::Refused(why) | Response::Wrong(why) => {
                done = Err(why);
                break;
            }
            _ => break,
        }
    }
    let closed = state.log.close().await.map_err(|error| format!("log {log}: {error}"));
    done.and(closed)
}

/// One log's findings; one that does not open is a finding too.
fn verify_log(plan: &Plan, log: LogId, rate: u64) -> Result<Findings, Failure> {
    let plan = plan.clone();
    on_a_shard(move |ring| {
        let plan = plan.clone();
        async move {
            let state = match open_log(ring, &plan, log).await {
                Ok(state) => state,
                Err(why) => return Ok(Findings { faults: vec![why], ..Findings::default() }),
            };
            let mut findings = state.log.verify_at(Pace::new(rate), |_| ()).await;
            if let Err(damaged) = state.accounts.borrow().verify() {
                findings.faults.push(damaged.0);
            }
            state.log.close().await.map_err(|error| error.to_string())?;
            Ok(findings)
        }
    })
}

fn dump(plan: &Plan, log: LogId, out: &mut dyn Write) -> Result<(), Failure> {
    let plan = plan.clone();
    let lines = on_a_shard(move |ring| {
        let plan = plan.clone();
        async move {
            let state = open_log(ring, &plan, log).await?;
            let mut lines = Vec::new();
            state.log.dump(|line| lines.push(line)).await;
            state.log.close().await.map_err(|error| error.to_string())?;
            Ok(lines)
        }
    })?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
