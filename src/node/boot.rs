//! Runs a server: shards on the ring, the admin socket, signals, and the way down.
//!
//! ```text
//!   signals blocked → ports bound → privileges given up, sandbox entered → threads from here on:
//!   log → directory held → password threads → shards:
//!     open log → serve inbox → (shard 0: publish directory) → go on with the spool → listen
//!   all listen: `ready`
//!   SIGTERM: no more connections → sessions come to an end → all drained → logs closed
//! ```

use super::certificates::Certificates;
use super::keeping::Disks;
use super::owners::OfShards;
use super::reload::InForce;
use super::shard::{Names, Plan, State, assemble, begin, cost, open_state, publish_keys};
use super::signals::{self, Wish};
use super::supervisor::Supervisor;
use super::warmup::{self, Kept};
use super::{
    acme, data_dir, directory, dkim, moving, oauth, offline, privileges, published, sandbox,
};
use crate::acme::Wishes;
use crate::admin::http::{Health, Pages};
use crate::admin::log::Log;
use crate::admin::request::{DkimRequest, Request, Response};
use crate::admin::socket::{Asked, Busy, Server};
use crate::auth::Pool;
use crate::cli::Failure;
use crate::concierge::Concierge;
use crate::concierge::dns::Resolver;
use crate::config::{self, Config, Listen, Loaded};
use crate::directory::{Resolution, resolve};
use crate::env::ring::{self, Ring};
use crate::env::{Env, Listener as _};
use crate::mesh::{Inbox, Mesh};
use crate::model::id::{LogId, ShardId};
use crate::model::limits::{ADMIN_WAITING_MAX, TLS_SIGNING_MAX};
use crate::mta::relay::Counts;
use crate::probe::event::{Level, Value, event, set_level};
use crate::probe::{Registry, Set};
use crate::server::listener::{self, Protocol, Service};
use crate::server::shard::{Call, Figures, Shard};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

type RingConn = <Ring as Env>::Conn;

/// Files of the process beside its connections: segments, rings, listeners.
const FILES_BESIDE: u64 = 4_096;
/// How often a shard's figures are brought up to date.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// How often a shard whose inbox is full is told of new settings, and the wait in between.
const RELOAD_TRIES: u32 = 1_000;
const RELOAD_PAUSE: Duration = Duration::from_millis(10);
/// How long logs may take to close, beyond the time that sessions have to end.
const CLOSE_PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether a certificate's file has changed.
const CERTIFICATES_PAUSE: Duration = Duration::from_secs(30);
/// How long the last events may take to reach stderr.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// What a running server tells whoever started it.
#[derive(Clone, Debug)]
pub enum News {
    /// A listener of shard 0 stands here.
    Listens(&'static str, SocketAddr),
    /// All shards listen.
    Ready,
}

/// A socket of one shard that is bound and does not listen yet.
struct Port {
    service: Option<Service>,
    address: SocketAddr,
    bound: ring::Bound,
}

/// Each shard's sockets.
pub(super) struct Ports(Vec<Vec<Port>>);

/// What one shard is given to start with.
struct Given {
    ports: Vec<Port>,
    inbox: Inbox<Call<RingConn>>,
    admin: Option<(Inbox<Asked>, Option<Wishes>)>,
    figures: (Figures, Counts),
    /// Of the first shard: what it tells of all disks.
    disks: Disks,
}

/// What the shards share while they start and stop.
struct Common {
    plan: Plan,
    mesh: Mesh<Call<RingConn>>,
    pages: Pages,
    listening: AtomicU16,
    drained: AtomicU16,
    news: Sender<News>,
    failures: Sender<String>,
}

/// How many shards there will be: one for each log; a store that is made now has one for each core.
fn shard_count(config: &Config) -> Result<u16, Failure> {
    match data_dir::described_as(&config.data_dir) {
        Some(found) => Ok(found.logs),
        None => offline::cores(config),
    }
}

/// More logs are the operator's to make: they cost disk, and the store has them for good.
fn tell_idle_cores(cores: u16, logs: u16) {
    let idle = cores.saturating_sub(logs);
    if idle > 0 {
        let command = format!("pombal store grow --logs {cores}");
        let fields = [
            ("cores", cores.into()),
            ("logs", logs.into()),
            ("idle", idle.into()),
            ("command", command.as_str().into()),
        ];
        event(Level::Info, "cores_idle", &fields);
    }
}

impl Ports {
    /// Binds all addresses of the configuration, once for each shard.
    pub(super) fn bind(config: &Config) -> Result<Ports, Failure> {
        let shards = (0..shard_count(config)?).map(|shard| {
            let admin = config.listen.admin.filter(|_| shard == 0).map(|address| (None, address));
            let served = served(&config.listen).into_iter().flat_map(|(service, addresses)| {
                addresses.iter().map(move |&address| (Some(service), address))
            });
            let bind = |(service, address)| match ring::bind(address) {
                Ok(bound) => Ok(Port { service, address, bound }),
                Err(error) => Err(cannot_listen(address, &error)),
            };
            served.chain(admin).map(bind).collect()
        });
        shards.collect::<Result<_, String>>().map(Ports).map_err(Failure::Failed)
    }
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are bound by root, who then becomes `user`, or by a unit with \
             AmbientCapabilities=CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    format!("cannot listen on {address}: {error}{advice}")
}

fn served(listen: &Listen) -> [(Service, &[SocketAddr]); 8] {
    let encrypted = |protocol| Service { protocol, encrypted: true };
    [
        (Protocol::Smtp.into(), &listen.smtp),
        (Protocol::Lmtp.into(), &listen.lmtp),
        (Protocol::Submission.into(), &listen.submission),
        (encrypted(Protocol::Submission), &listen.submissions),
        (Protocol::Pop3.into(), &listen.pop3),
        (encrypted(Protocol::Pop3), &listen.pop3s),
        (Protocol::Imap.into(), &listen.imap),
        (encrypted(Protocol::Imap), &listen.imaps),
    ]
}

/// Serves until it is told to stop.
pub(super) fn serve(loaded: &Loaded, named: Option<&Path>) -> Result<(), Failure> {
    signals::block().map_err(|error| Failure::Failed(error.to_string()))?;
    let config = &loaded.config;
    let files = u64::from(config.limits.connections) + FILES_BESIDE;
    ring::raise_limits(shard_count(config)?.into(), files)
        .map_err(|refusal| Failure::Failed(refusal.0))?;
    let ports = Ports::bind(config)?;
    let certificates = acme::prepare(config)?;
    // A file that is gone is no reason to fall back on the defaults.
    let read = (loaded.source != config::EMBEDDED_NAME).then(|| PathBuf::from(&loaded.source));
    let standing = privileges::serve(config)?;
    let supervisor = Arc::new(Supervisor::find());
    let reached = sandbox::enter(config, read.as_deref())?;
    let log = Log::start(config.log.format, config.log.level)?;
    standing.tell();
    reached.tell();
    let (news, heard) = unbounded();
    let wishes = certificates.map(acme::Prepared::start).transpose()?;
    let running = start(config.clone(), ports, wishes, news)?;
    let pulses = running.shards.pulses().to_vec();
    let attending = Arc::clone(&supervisor);
    std::thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || attending.attend(&heard, &pulses))?;
    let mesh = running.mesh.clone();
    let named = named.map(Path::to_owned).or(read);
    let in_force = InForce::new(running.plan.clone(), loaded.settings.clone());
    let (certificates, concierge) = (running.certificates.clone(), running.concierge.clone());
    let warmup = Kept::new(&running.plan);
    let mut last = Kept::new(&running.plan);
    let told = None;
    let mut attendant =
        Attendant { mesh, named, in_force, certificates, warmup, concierge, told, supervisor };
    std::thread::Builder::new().name("signals".into()).spawn(move || attendant.attend())?;
    let ended = running.wait();
    last.save();
    log.flush(FLUSH_PATIENCE);
    ended
}

/// Who hears the operator's signals, and looks after the files that he named.
struct Attendant {
    mesh: Mesh<Call<RingConn>>,
    /// The configuration's file.
    named: Option<PathBuf>,
    in_force: InForce,
    certificates: Certificates,
    warmup: Kept,
    concierge: Concierge,
    /// What is wrong with who judges tokens, as the operator was told.
    told: Option<String>,
    supervisor: Arc<Supervisor>,
}

impl Attendant {
    fn attend(&mut self) {
        loop {
            match signals::next(CERTIFICATES_PAUSE) {
                Ok(Some(Wish::Stop)) => {
                    event(Level::Info, "draining", &[]);
                    let patience = self.in_force.plan.config.limits.drain_timeout;
                    self.supervisor.stopping(patience + CLOSE_PATIENCE);
                    drain(&self.mesh);
                }
                Ok(Some(Wish::Reload)) => {
                    self.supervisor.reloading();
                    self.reload();
                    self.supervisor.reloaded();
                }
                Ok(None) => {
                    self.warmup.save();
                    if self.take_files() {
                        tell_settings(&self.mesh, &self.in_force);
                    }
                }
                Err(error) => {
                    event(Level::Error, "no_signals", &[("why", (&error).into())]);
                    return;
                }
            }
        }
    }

    /// Reads the file again; what can change while the server runs, changes, and all that differs is
    /// named.
    fn reload(&mut self) {
        let loaded = match config::load(self.named.as_deref()) {
            Ok(loaded) => loaded,
            Err(mistakes) => {
                for mistake in mistakes {
                    let text = mistake.to_string();
                    event(Level::Error, "reload_refused", &[("why", text.as_str().into())]);
                }
                return;
            }
        };
        let changes = self.in_force.take(&loaded);
        let keys = Arc::new(dkim::load(&self.in_force.plan.config));
        tell(&self.mesh, || Call::SigningKeys(Arc::clone(&keys)));
        set_level(loaded.config.log.level);
        let taken = changes.iter().filter(|change| change.is_taken).count();
        if self.take_files() || taken > 0 {
            tell_settings(&self.mesh, &self.in_force);
        }
        for change in &changes {
            let (key, from, to) = (change.key.as_str(), change.from.as_str(), change.to.as_str());
            if change.is_taken {
                let fields = [("key", key.into()), ("from", from.into()), ("to", to.into())];
                event(Level::Info, "setting_changed", &fields);
            } else {
                let fields = [("key", key.into()), ("in_force", from.into()), ("file", to.into())];
                event(Level::Warn, "setting_needs_restart", &fields);
            }
        }
        let left = (changes.len() - taken) as u64;
        let fields = [("changed", (taken as u64).into()), ("need_restart", left.into())];
        event(Level::Info, "reloaded", &fields);
    }

    /// Reads files again that are others than they were; whether anything of use was in them.
    fn take_files(&mut self) -> bool {
        let certificates = self.take_certificates();
        let plan = &mut self.in_force.plan;
        match oauth::authority(&plan.config, plan.oauth.as_ref(), &self.concierge) {
            Ok(authority) => {
                self.told = None;
                let is_same = oauth::is_same(authority.as_ref(), plan.oauth.as_ref());
                plan.oauth = authority;
                certificates || !is_same
            }
            Err(why) => {
                // It is looked at again and again.
                if self.told.as_ref() != Some(&why) {
                    event(Level::Error, "oauth_refused", &[("why", why.as_str().into())]);
                    self.told = Some(why);
                }
                certificates
            }
        }
    }

    /// Reads certificates again whose files are others than they were; whether there are new ones.
    /// Where one cannot be used, all stay as they are, until the next change.
    fn take_certificates(&mut self) -> bool {
        let config = &self.in_force.plan.config;
        if !self.certificates.have_changed(config) {
            return false;
        }
        match Certificates::load(config) {
            Ok(fresh) => {
                fresh.tell();
                if let Some((context, _)) = &mut self.in_force.plan.tls {
                    *context = Arc::clone(&fresh.context);
                }
                self.certificates = fresh;
                true
            }
            Err(why) => {
                event(Level::Error, "certificates_refused", &[("why", why.as_str().into())]);
                self.certificates.forgive(config);
                false
            }
        }
    }
}

fn tell_settings(mesh: &Mesh<Call<RingConn>>, in_force: &InForce) {
    tell(mesh, || {
        let plan = in_force.plan.clone();
        Call::Settings(Box::new(move || plan.sessions()))
    });
}

/// Tells every shard.
fn tell(mesh: &Mesh<Call<RingConn>>, make: impl Fn() -> Call<RingConn>) {
    for shard in (0..mesh.shards()).map(ShardId) {
        let mut call = make();
        // A full inbox empties; none is served any more while the server stops.
        for _ in 0..RELOAD_TRIES {
            match mesh.send(shard, call) {
                Ok(()) => break,
                Err(full) => call = full.0,
            }
            std::thread::park_timeout(RELOAD_PAUSE);
        }
    }
}

fn drain(mesh: &Mesh<Call<RingConn>>) {
    for shard in 0..mesh.shards() {
        let shard = ShardId(shard);
        // A full inbox empties: the signal can be sent again.
        if mesh.send(shard, Call::Drain).is_err() {
            event(Level::Warn, "shard_busy", &[("shard", shard.0.into())]);
        }
    }
}

/// A server that runs.
pub(super) struct Running {
    shards: ring::Shards,
    pub(super) mesh: Mesh<Call<RingConn>>,
    plan: Plan,
    certificates: Certificates,
    concierge: Concierge,
    failures: Receiver<String>,
    _held: data_dir::Held,
}

impl Running {
    /// Asks it to stop.
    pub(super) fn stop(&self) {
        drain(&self.mesh);
    }

    /// Waits until every shard has ended.
    pub(super) fn wait(self) -> Result<(), Failure> {
        self.shards.wait();
        let failures: Vec<String> = self.failures.try_iter().collect();
        if failures.is_empty() { Ok(()) } else { Err(Failure::Failed(failures.join("\n"))) }
    }
}

/// Starts a server on `ports`; `news` hears of its listeners and of its being ready.
pub(super) fn start(
    config: Config,
    Ports(ports): Ports,
    wishes: Option<Wishes>,
    news: Sender<News>,
) -> Result<Running, Failure> {
    let cores = offline::cores(&config)?;
    let held = offline::hold(&config, cores, Duration::ZERO)?;
    let count = held.logs;
    tell_idle_cores(cores, count);
    if ports.len() != usize::from(count) {
        let why = "it got other logs while the server was started: start it again";
        return Err(Failure::Failed(format!("{}: {why}", config.data_dir.display())));
    }
    let admin = admin_socket(&config)?;
    let (mesh, inboxes) = Mesh::with_capacity(count, config.limits.mesh_inbox);
    let concierge = Concierge::start()?;
    let certificates = Certificates::load(&config).map_err(Failure::Wrong)?;
    certificates.tell();
    let plan = plan(config, &held, &certificates, &concierge)?;
    let running = plan.clone();
    let classes = super::relay::classes(&running.config);
    let (mut disks, set) = Disks::register(&running.placement);
    let mut sets = vec![set];
    let (give, given) = (0..count).map(|_| bounded(1)).unzip::<_, _, Vec<_>, Vec<_>>();
    let mut admin = Some((admin, wishes));
    for ((shard, inbox), ports) in inboxes.into_iter().enumerate().zip(ports) {
        let mut set = Set::new();
        let name = shard.to_string();
        let figures = Figures::register(&mut set, &[("shard", &name)]);
        let relaying = Counts::register(&mut set, &name, classes.iter().map(|class| &**class));
        let figures = (figures, relaying);
        sets.push(set);
        let (admin, disks) = (admin.take(), std::mem::take(&mut disks));
        let sent = give.get(shard).is_some_and(|give| {
            let given = Given { ports, inbox, admin, figures, disks };
            give.send(given).is_ok()
        });
        debug_assert!(sent, "one place per shard");
    }
    let (failed, failures) = unbounded();
    let health = Arc::new(Health::default());
    let common = Arc::new(Common {
        plan,
        mesh: mesh.clone(),
        pages: Pages { registry: Registry::new(sets), health },
        listening: AtomicU16::new(0),
        drained: AtomicU16::new(0),
        news,
        failures: failed,
    });
    let cpus_max = cores.into();
    let settings = ring::Settings { on_panic: tell_panic, cpus_max, ..ring::Settings::default() };
    let shards = ring::start(count, settings, move |ring| {
        let common = Arc::clone(&common);
        let given = given.get(usize::from(ring.shard().0)).and_then(|one| one.try_recv().ok());
        async move {
            let Some(given) = given else { return };
            let id = ring.shard();
            if let Err(why) = Box::pin(run(ring, given, &common)).await {
                let fields = [("shard", id.0.into()), ("why", why.as_str().into())];
                event(Level::Error, "cannot_start", &fields);
                drop(common.failures.send(why));
                drain(&common.mesh);
                common.drained.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let shards = shards.map_err(|refusal| Failure::Failed(refusal.0))?;
    let plan = running;
    Ok(Running { shards, mesh, plan, certificates, concierge, failures, _held: held })
}

/// What the shards have in common; starts the threads that they have beside them.
fn plan(
    config: Config,
    held: &data_dir::Held,
    certificates: &Certificates,
    concierge: &Concierge,
) -> Result<Plan, Failure> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::Failed(error.to_string()))?;
    let threads = usize::from(config.auth.hash_threads);
    let pool = Pool::start(cost(&config), threads, config.auth.max_waiting_checks)?;
    let signing = usize::from(config.tls.signing_threads);
    let signing = Pool::beside("sign", signing, TLS_SIGNING_MAX)?;
    let tls = Some((Arc::clone(&certificates.context), signing));
    let dns = resolver(&config, concierge)?;
    let oauth = oauth::authority(&config, None, concierge).map_err(Failure::Wrong)?;
    let outgoing = published::prepare(&config, concierge, &dns)?;
    let published::Outgoing { caller, http, known } = outgoing;
    let plan = Plan::new(config, held.store_id, held.first_logs, pool, key).with_logs(held.logs);
    let dkim = Arc::new(dkim::load(&plan.config));
    warmup::restore(&plan);
    let placement = held.placement.clone();
    Ok(Plan { placement, dns, tls, dkim, oauth, caller, published: known, http, ..plan })
}

/// The resolver. A machine that says of no servers serves mail all the same.
fn resolver(config: &Config, concierge: &Concierge) -> Result<Names, Failure> {
    let anchors =
        config::dns::anchors(config).map_err(|mistake| Failure::Wrong(mistake.to_string()))?;
    let dns = &config.dns;
    let resolver = Resolver::new(concierge, &dns.servers, dns.timeout, dns.dnssec, anchors);
    if let Err(why) = &resolver {
        event(Level::Warn, "no_dns", &[("why", Value::Shown(why)), ("set", "dns.servers".into())]);
    }
    Ok(resolver.map_or(Names::Nobody, Names::Servers))
}

fn tell_panic(text: &str) {
    event(Level::Error, "panic", &[("why", text.into())]);
}

/// The socket's thread, and the inbox that its requests come out of.
fn admin_socket(config: &Config) -> Result<Inbox<Asked>, Failure> {
    let path = config.admin_socket();
    let server = Server::bind(&path)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?
        .with_message_max(config.smtp.max_message_size);
    let (mesh, inboxes) = Mesh::<Asked>::with_capacity(1, ADMIN_WAITING_MAX);
    let forward = move |asked| mesh.send(ShardId(0), asked).map_err(|_| Busy);
    std::thread::Builder::new().name("admin".into()).spawn(move || server.run(forward))?;
    let inbox = inboxes.into_iter().next();
    Ok(inbox.expect("a mesh of one shard has one inbox"))
}

/// One shard from its log to its end.
async fn run(ring: Ring, given: Given, common: &Arc<Common>) -> Result<(), String> {
    let id = ring.shard();
    let plan = &common.plan;
    let opened = open_state(ring.clone(), plan, LogId(id.0)).await;
    let (state, report) = opened.map_err(|error| format!("log {}: {error}", id.0))?;
    let directory = plan.placement.parent(LogId(id.0)).display();
    event(
        Level::Info,
        "log_open",
        &[
            ("shard", id.0.into()),
            ("directory", Value::Shown(&directory)),
            ("created", report.created.into()),
            ("pages", report.pages.into()),
            ("replayed", report.replayed.into()),
            ("dropped_blocks", report.dropped_blocks.into()),
            ("messages", state.accounts.borrow().messages().into()),
        ],
    );
    let Given { ports, inbox, admin, figures, disks } = given;
    let shard = assemble(ring.clone(), plan, id, &state, common.mesh.clone(), figures);
    begin(&shard, inbox, &state.ledger).await;
    if shard.id.0 == 0 {
        published::begin(&shard, plan);
    }
    if id.0 == 0 {
        warn_of_postmaster(&shard);
    }
    if let Some((admin, wishes)) = admin {
        let config = plan.config.clone();
        ring.spawn(serve_admin(Rc::clone(&shard), state.clone(), admin, wishes, config));
    }
    let publishing = Rc::clone(&shard);
    ring.spawn(async move {
        loop {
            publishing.publish();
            disks.publish(&publishing.env);
            publishing.env.sleep(PUBLISH_PAUSE).await;
        }
    });
    listen(&shard, ports, common)?;
    shard.draining.wait().await;
    end(&shard, state, common).await
}

/// RFC 5321 §4.5.1 wants somebody to read what is sent to postmaster.
fn warn_of_postmaster(shard: &Shard<Ring>) {
    let found = resolve(&shard.directory(), b"postmaster", "", &shard.settings().directory);
    if !matches!(found, Resolution::Account { .. } | Resolution::Aliased(_)) {
        let fields = [("set", "directory.postmaster".into())];
        event(Level::Warn, "no_postmaster", &fields);
    }
}

fn listen(shard: &Rc<Shard<Ring>>, ports: Vec<Port>, common: &Arc<Common>) -> Result<(), String> {
    for Port { service, address, bound } in ports {
        let listener =
            shard.env.listen_on(bound).map_err(|error| cannot_listen(address, &error))?;
        if shard.id.0 == 0 {
            let name = service.map_or("admin", Service::name);
            drop(common.news.send(News::Listens(name, listener.local())));
        }
        if let Some(service) = service {
            shard.env.spawn(listener::serve(Rc::clone(shard), listener, service));
        } else {
            let pages = common.pages.clone();
            shard.env.spawn(crate::admin::http::serve(shard.env.clone(), listener, pages));
        }
    }
    if common.listening.fetch_add(1, Ordering::Relaxed) + 1 == common.plan.shards {
        common.pages.health.set_ready(true);
        let version = env!("CARGO_PKG_VERSION");
        let fields = [("shards", common.plan.shards.into()), ("version", version.into())];
        event(Level::Info, "ready", &fields);
        drop(common.news.send(News::Ready));
    }
    Ok(())
}

/// Answers the command line: changes one after the other, what is about outgoing mail or a backup beside
/// them, for it may have to wait for the DNS, for many commits, or for a checkpoint.
async fn serve_admin(
    shard: Rc<Shard<Ring>>,
    state: State<Ring>,
    mut inbox: Inbox<Asked>,
    wishes: Option<Wishes>,
    config: Config,
) {
    let env = shard.env.clone();
    let owners = Rc::new(OfShards { shard, ledger: state.ledger.clone() });
    loop {
        let asked = inbox.recv().await;
        if asked.request == Request::CertRenew {
            acme::renew(wishes.as_ref(), asked);
            continue;
        }
        if let Request::Dkim(request) = asked.request.clone() {
            let response = answer_dkim(&owners.shard, &config, request).await;
            asked.answer(response);
            continue;
        }
        let (state, owners) = (state.clone(), Rc::clone(&owners));
        if moving::is_about(&asked.request) {
            env.spawn(async move { moving::answer(&state, asked, &*owners).await });
            continue;
        }
        let is_aside = matches!(
            asked.request,
            Request::Queue(_)
                | Request::ExplainRecipient { .. }
                | Request::Backup { .. }
                | Request::Undelete { .. }
        );
        let answering = async move {
            let response = directory::answer(&state, asked.request.clone(), &*owners).await;
            asked.answer(response);
        };
        if is_aside {
            env.spawn(answering);
        } else {
            answering.await;
        }
    }
}

/// Beside the shard: keys are files, and take their time to be made. What changed is in force before it
/// is answered.
async fn answer_dkim(shard: &Shard<Ring>, config: &Config, request: DkimRequest) -> Response {
    let (config, now) = (config.clone(), shard.env.wall().seconds());
    let keys = Arc::clone(&shard.signing.keys.borrow());
    let answer = shard.signing.threads.run(move || {
        let changed = dkim::changes(&request);
        let response = dkim::answer(&config, request, now);
        (response, changed.map(|domain| Arc::new(dkim::refresh(&config, &keys, &domain))))
    });
    let Ok(answer) = answer else {
        return Response::Refused("too much is waiting to be signed: ask again".into());
    };
    let Ok((response, keys)) = answer.await else {
        return Response::Refused("it failed: the log says why".into());
    };
    if let Some(keys) = keys {
        publish_keys(shard, &keys).await;
    }
    response
}

/// Waits for the sessions, then for the other shards, then closes the log.
async fn end(
    shard: &Rc<Shard<Ring>>,
    state: State<Ring>,
    common: &Arc<Common>,
) -> Result<(), String> {
    common.pages.health.set_ready(false);
    let env = &shard.env;
    let deadline = env.now().after(common.plan.config.limits.drain_timeout);
    let pause = Duration::from_millis(10);
    while shard.sessions.get() + shard.relay.workers() > 0 && env.now() < deadline {
        env.sleep(pause).await;
    }
    if shard.sessions.get() > 0 {
        let left = shard.sessions.get();
        event(Level::Warn, "sessions_cut", &[("shard", shard.id.0.into()), ("left", left.into())]);
    }
    if shard.relay.workers() > 0 {
        let left = shard.relay.workers();
        event(Level::Warn, "attempts_cut", &[("shard", shard.id.0.into()), ("left", left.into())]);
    }
    common.drained.fetch_add(1, Ordering::Relaxed);
    while common.drained.load(Ordering::Relaxed) < common.plan.shards {
        env.sleep(pause).await;
    }
    let closed = state.log.close().await;
    event(Level::Info, "log_closed", &[("shard", shard.id.0.into())]);
    closed.map_err(|error| format!("log {}: {error}", shard.id.0))
}
