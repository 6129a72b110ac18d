//! What one shard owns, opened and served: the same on the ring and in the simulation.

use super::interfaces::is_here;
use super::owners::{OfShards, sweep};
use super::placement::Placement;
use super::{keeping, protect, rehash, relay};
use crate::auth::oauth::Authority;
use crate::auth::{self, Authenticator, Free, Pool, Recipe, Throttle};
use crate::concierge::dns::{Failed, Found, Kind};
use crate::concierge::{self, Busy, Lost};
use crate::config::{self, Config, Tls};
use crate::directory::{self, Ledger};
use crate::dns::{self, Asked};
use crate::env::Env;
use crate::mailbox::promise::{Promised, promise};
use crate::mailbox::{Accounts, Desk, Locks, Planted, Retention};
use crate::mesh::{self, Gone, Inbox, Mesh};
use crate::model::id::{LogId, ShardId};
use crate::model::limits::{IMAP_COMMAND_OCTETS_MAX, STORE_SEGMENTS_MIN, TRACE_OCTETS_MAX};
use crate::model::time::Wall;
use crate::mta::published::{Known, Published};
use crate::mta::relay::{self as relaying, Encrypting, Relay};
use crate::mta::route::Router;
use crate::mta::srs::Srs;
use crate::mta::{self, Intake};
use crate::policy::dkim;
use crate::probe::event::{Level, event};
use crate::proto::sasl::{Hash, Keys, Mechanism, Mechanisms, Policy, Terms};
use crate::proto::{pop3, smtp};
use crate::queue::Spool;
use crate::queue::answered::Answered;
use crate::queue::outgoing::Outgoing;
use crate::queue::sites::Sites;
use crate::server::draft::Room;
use crate::server::flag::Flag;
use crate::server::guard::Guard;
use crate::server::listener::Protocol;
use crate::server::places::Home;
use crate::server::rehash::Rehashes;
use crate::server::shard::{Call, Figures, MeshPeers, Settings, Shard};
use crate::server::signing::Signing;
use crate::server::{imap, secure, vacation};
use crate::store::record::kind;
use crate::store::{Cleaning, Identity, Log, Machine, OpenError, Registry, Report};
use crate::tls::{Aside, Asking, Caller, Context, Step};
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::future::{Future, ready};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// Wait before a shard whose inbox was full is told of the directory again.
const INBOX_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How much later than the concierge a shard gives up a question: it never should.
const DNS_GRACE: Duration = Duration::from_secs(1);

/// What a simulated DNS says: how long the answer takes, and the answer. Made of the question and the
/// time alone, so that every shard may ask.
pub type Script = Arc<dyn Fn(Kind, &str, Wall) -> (Duration, Result<Found, Failed>) + Send + Sync>;

/// Who is asked what the DNS says.
#[derive(Clone, Default)]
pub enum Names {
    /// Machines that have no DNS.
    #[default]
    Nobody,
    Servers(concierge::dns::Resolver),
    Script(Script),
}

/// What all shards of a node have in common.
#[derive(Clone)]
pub struct Plan {
    pub config: Config,
    pub store: crate::store::Settings,
    /// Where its logs lie.
    pub placement: Placement,
    /// Which store this is.
    pub store_id: u128,
    /// As many as the store has logs.
    pub shards: u16,
    /// How many logs the store was made with.
    pub first_logs: u16,
    pub pool: Pool,
    /// For the keys of remembered credentials; made anew by each process.
    pub key: [u8; 32],
    pub dns: Names,
    /// What all shards remember of clients.
    pub guard: Arc<Guard>,
    /// What all shards remember of wrong passwords.
    pub throttle: Arc<Throttle>,
    /// Certificates, and threads that sign; none: sessions are in clear.
    pub tls: Option<(Arc<Context>, Pool)>,
    /// Keys of DKIM, as they lay on the disk at the start.
    pub dkim: Arc<dkim::Keys>,
    /// Who judges tokens; none: they are not taken.
    pub oauth: Option<Arc<Authority>>,
    /// What all shards know of the sites that mail goes to.
    pub sites: Sites,
    /// What all connections to other servers have in common that are encrypted.
    pub caller: Caller,
    /// What other domains publish about TLS, as far as it is looked at.
    pub published: Known,
    /// Posts reports on TLS; none: they go by mail alone.
    pub http: Option<concierge::http::Client>,
    /// A fault of our own, for the tests that show that such a fault is found.
    pub planted: Planted,
    /// Another one, of the relay's.
    pub relay_planted: relaying::Planted,
}

impl Plan {
    /// For a store with the `shards` logs that it was made with.
    pub fn new(config: Config, store_id: u128, shards: u16, pool: Pool, key: [u8; 32]) -> Plan {
        let store = crate::store::Settings {
            segment_octets: config.store.segment_size,
            cache_octets: usize::try_from(config.store.cache_size).unwrap_or(usize::MAX),
            checkpoint_octets: config.store.checkpoint_size,
            checkpoint_pause: config.store.checkpoint_interval,
            batch_octets: usize::try_from(config.store.batch_size).unwrap_or(usize::MAX),
            waiting_max: config.store.max_waiting,
            segments_max: segments_max(&config.store, shards),
            logs: shards,
            cleaning: Cleaning {
                is_on: config.store.clean,
                free_percent: config.store.clean_free_percent,
                share_percent: config.store.clean_share_percent,
                commit_max: Duration::from_millis(config.store.clean_max_commit_ms.into()),
                compression: config.store.compression,
            },
            may_create: false,
            ..crate::store::Settings::default()
        };
        let guard = Arc::new(Guard::new(&key, config.protect.greylist.entries));
        let throttle = Arc::new(Throttle::new(&key));
        let planted = Planted::Nothing;
        let (tls, oauth) = (None, None);
        Plan {
            placement: Placement::in_one(&config.data_dir),
            config,
            store,
            store_id,
            shards,
            first_logs: shards,
            pool,
            key,
            dns: Names::Nobody,
            guard,
            throttle,
            tls,
            dkim: Arc::default(),
            oauth,
            sites: Sites::default(),
            caller: Caller::trusting_nobody(),
            published: Known::default(),
            http: None,
            planted,
            relay_planted: relaying::Planted::Nothing,
        }
    }

    /// The same for a store that has this many logs by now.
    #[must_use]
    pub fn with_logs(mut self, logs: u16) -> Plan {
        self.shards = logs;
        self.store.logs = logs;
        self.store.segments_max = segments_max(&self.config.store, logs);
        self
    }

    /// Where a log lies.
    pub fn log_dir(&self, log: LogId) -> PathBuf {
        self.placement.log_dir(log)
    }

    pub(super) fn sessions(&self) -> Settings {
        let config = &self.config;
        let shards = usize::from(self.shards);
        let share = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).div_ceil(shards);
        let policy = |protocol| Policy {
            mechanisms: usable(config.auth.mechanisms, self.oauth.is_some()),
            plaintext: config.auth.allow_plaintext,
            // Who need not show a certificate in clear has to encrypt, and show it.
            encrypted_only: asking(&config.tls, protocol) == Asking::Required,
        };
        Settings {
            smtp: Rc::new(self.smtp(smtp::Service::Mx, policy(Protocol::Smtp))),
            lmtp: Rc::new(self.smtp(smtp::Service::Lmtp, policy(Protocol::Lmtp))),
            submissions: Rc::new(
                self.smtp(smtp::Service::Submission, policy(Protocol::Submission)),
            ),
            submission: config.submission.policy.clone(),
            srs: config.srs_domain().map(|domain| Srs::new(&domain, &self.store_id.to_le_bytes())),
            pop3: pop3::Settings {
                auth: policy(Protocol::Pop3),
                stls: self.offers_tls(),
                errors_max: config.pop3.max_errors,
                logins_failed_max: config.pop3.max_failed_logins,
            },
            imap: imap::Settings {
                auth: policy(Protocol::Imap),
                starttls: self.offers_tls(),
                idle_timeout: config.imap.idle_timeout,
                idle_keepalive: Some(config.imap.idle_keepalive).filter(|pause| !pause.is_zero()),
                login_timeout: config.imap.login_timeout,
                errors_max: config.imap.max_errors,
                logins_failed_max: config.imap.max_failed_logins,
                append_octets_max: config.smtp.max_message_size,
                message_limit: config.imap.message_limit,
                hidden: config.imap.hidden,
                clients: config.imap.clients.clone().into(),
            },
            rehash: config.auth.rehash.then(|| recipe(config)),
            masters: config
                .auth
                .masters
                .iter()
                .map(|master| master.to_string().to_ascii_lowercase().into())
                .collect(),
            oauth: self.oauth.clone(),
            directory: self.directory(),
            command_timeout: config.smtp.command_timeout,
            data_timeout: config.smtp.data_timeout,
            message_rate_min: config.smtp.min_data_rate,
            pop3_idle_timeout: config.pop3.idle_timeout,
            write_timeout: config.limits.write_timeout,
            commits_open_max: config.smtp.max_pending_commits.max(1),
            reply_octets_max: usize::try_from(config.limits.reply_memory).unwrap_or(usize::MAX),
            connections_max: share(config.limits.connections),
            // Not shared out: the kernel deals the connections of one address to the shards as it
            // likes, and none may be refused below the limit. Together they may take it times.
            connections_per_address_max: usize::try_from(config.limits.connections_per_address)
                .unwrap_or(usize::MAX),
            protect: Rc::new(protect::settings(config)),
            tls: self.secure(),
            relay: Rc::new(relaying::Settings {
                planted: self.relay_planted,
                ..relay::settings(config, self.shards)
            }),
            routing: Rc::new(relay::routing(config, is_here)),
            retention: keeping::retention(&config.undelete),
            retention_is_one: config.undelete.domains.is_empty(),
            may_relay: {
                let networks = config.smtp.relay_networks.clone();
                Rc::new(move |peer| networks.iter().any(|network| network.contains(peer)))
            },
        }
    }

    /// What is known of addresses beside the directory.
    fn directory(&self) -> directory::Settings {
        let config = &self.config;
        let separators = config.directory.subaddress_separator.map(String::from);
        directory::Settings {
            separators: separators.unwrap_or_default().into(),
            postmaster: config.directory.postmaster.as_ref().map(|one| one.to_string().into()),
            hostname: config.hostname.as_str().to_ascii_lowercase().into(),
            login_domain: None,
        }
    }

    /// What the machine of one kind of listener is to know.
    fn smtp(&self, service: smtp::Service, policy: Policy) -> smtp::Settings {
        let config = &self.config;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let recipients_max = match service {
            smtp::Service::Mx | smtp::Service::Lmtp => config.smtp.max_recipients,
            smtp::Service::Submission => config.submission.max_recipients,
        };
        let extensions = self.extensions(service);
        let knows_auth = extensions.has(smtp::Extensions::AUTH);
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        smtp::Settings {
            hostname: config.hostname.as_str().into(),
            service,
            max_message_size: config.smtp.max_message_size,
            command_line_max: usize::try_from(config.smtp.max_command_length).unwrap_or(usize::MAX),
            text_line_max: u32::try_from(config.smtp.max_line_length).unwrap_or(u32::MAX),
            recipients_max: count(recipients_max),
            errors_max: config.smtp.max_errors,
            junk_commands_max: config.smtp.max_junk_commands,
            hops_max: count(config.smtp.max_hops),
            vrfy: config.smtp.vrfy,
            expn: config.smtp.expn,
            auth: if knows_auth { policy } else { Policy::NOTHING },
            starttls: self.offers_tls(),
            dialect: smtp::Dialect { extensions, odd_hello: config.smtp.odd_hello, xclient: false },
            bounds: smtp::Bounds {
                hold_max: seconds(config.submission.max_hold),
                by_min: seconds(config.smtp.min_deliver_by),
                priority_policy: config.smtp.priority_policy.as_deref().unwrap_or_default().into(),
            },
            ..smtp::Settings::default()
        }
    }

    /// Which extensions with parameters one kind of listener offers.
    fn extensions(&self, service: smtp::Service) -> smtp::Extensions {
        let config = &self.config;
        let is_submission = service == smtp::Service::Submission;
        let has_auth = is_submission || (config.smtp.auth && service == smtp::Service::Mx);
        let offers = [
            (smtp::Extensions::AUTH, has_auth),
            (
                smtp::Extensions::FUTURERELEASE,
                is_submission && !config.submission.max_hold.is_zero(),
            ),
            (smtp::Extensions::DELIVERBY, config.smtp.deliver_by),
            (smtp::Extensions::MT_PRIORITY, config.smtp.mt_priority),
            (smtp::Extensions::REQUIRETLS, config.smtp.requiretls && self.tls.is_some()),
        ];
        let offered = offers.into_iter().filter(|(_, is_offered)| *is_offered);
        offered.fold(smtp::Extensions::DSN, |all, (one, _)| all.with(one))
    }

    /// Sessions that begin in clear are offered TLS.
    fn offers_tls(&self) -> bool {
        self.tls.is_some() && self.config.tls.starttls
    }

    fn secure(&self) -> Option<secure::Settings> {
        let (context, signing) = self.tls.as_ref()?;
        let tls = self.config.tls.clone();
        Some(secure::Settings {
            context: Arc::clone(context),
            aside: aside(signing.clone()),
            timeout: tls.handshake_timeout,
            name_field: tls.clients.as_ref().map(|one| one.name_field).unwrap_or_default(),
            asking: Rc::new(move |protocol| asking(&tls, protocol)),
        })
    }

    /// What DKIM signs with: the threads that sign for TLS do it, where there are any.
    fn signing(&self) -> Signing {
        let threads = self.tls.as_ref().map_or(&self.pool, |(_, signing)| signing);
        Signing { keys: RefCell::new(Arc::clone(&self.dkim)), threads: threads.clone() }
    }

    /// A shard's share of the memory for drafts; the largest message fits in any case.
    fn drafts(&self) -> Rc<Room> {
        let octets = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
        let share = octets(self.config.limits.draft_memory.div_ceil(u64::from(self.shards)));
        let message = octets(self.config.smtp.max_message_size);
        Room::new(share, message.saturating_add(TRACE_OCTETS_MAX))
    }

    /// A shard's share of the memory for commands; the longest command fits in any case, in a vector
    /// that grows by doubling.
    fn commands(&self) -> Rc<Room> {
        let share = self.config.limits.command_memory.div_ceil(u64::from(self.shards));
        Room::new(usize::try_from(share).unwrap_or(usize::MAX), 2 * IMAP_COMMAND_OCTETS_MAX)
    }

    /// A shard's share of the memory for accounts that are awake.
    fn mailbox_memory(&self) -> usize {
        let share = self.config.limits.mailbox_memory.div_ceil(u64::from(self.shards));
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// A shard's resolver over the concierge.
    fn resolver<E: Env>(&self, env: &E) -> dns::Resolver<E> {
        let (names, clock) = (self.dns.clone(), env.clone());
        let ask =
            move |kind, want, name: &str| -> Asked {
                match &names {
                    Names::Nobody => Box::pin(ready(failed("no resolver"))),
                    Names::Servers(servers) => match servers.ask(kind, want, name) {
                        Ok(answer) => Box::pin(async move {
                            answer.await.unwrap_or_else(|Lost| failed("no answer"))
                        }),
                        Err(Busy) => Box::pin(ready(Err(Failed::Busy))),
                    },
                    Names::Script(script) => {
                        let (pause, answer) = script(kind, name, clock.wall());
                        let clock = clock.clone();
                        Box::pin(async move {
                            clock.sleep(pause).await;
                            answer
                        })
                    }
                }
            };
        let timeout = self.config.dns.timeout + DNS_GRACE;
        let entries = self.config.dns.cache_entries;
        dns::Resolver::new(env.clone(), timeout, entries, ask).shared_by(self.shards)
    }

    fn authenticator(&self) -> Authenticator {
        let throttle = Arc::clone(&self.throttle);
        Authenticator::new(self.auth(), self.pool.clone(), self.key, throttle)
    }

    fn auth(&self) -> auth::Settings {
        let config = &self.config.auth;
        auth::Settings {
            cost: cost(&self.config),
            threads: usize::from(config.hash_threads),
            waiting_max: config.max_waiting_checks,
            per_account_max: config.max_account_checks,
            remembered_max: usize::try_from(config.cache_entries).unwrap_or(usize::MAX),
            remembered_for: config.cache_ttl,
            free: Free {
                address: config.free_failures,
                network: config.free_network_failures,
                account: config.free_account_failures,
            },
            scram_iterations: config.scram_iterations,
            salt_key: self.store_id.to_le_bytes(),
            ..auth::Settings::default()
        }
    }
}

fn failed(why: &str) -> Result<Found, Failed> {
    Err(Failed::Servers(why.into()))
}

/// Segments that each log may have; 0 is no bound.
pub(super) fn segments_max(store: &config::Store, logs: u16) -> usize {
    if store.max_size == 0 {
        return 0;
    }
    let share = store.max_size / u64::from(logs.max(1)) / store.segment_size;
    usize::try_from(share).unwrap_or(usize::MAX).max(STORE_SEGMENTS_MIN)
}

/// Whether clients of this protocol are asked for a certificate.
fn asking(tls: &Tls, protocol: Protocol) -> Asking {
    let Some(clients) = &tls.clients else { return Asking::No };
    if clients.required.contains(&protocol) {
        Asking::Required
    } else if clients.asked.contains(&protocol) {
        Asking::Optional
    } else {
        Asking::No
    }
}

/// Has steps of handshakes done by these threads.
fn aside(threads: Pool) -> Rc<Aside> {
    Rc::new(move |step| {
        let answer = threads.run(step);
        Box::pin(async move { answer.ok()?.await.ok() })
    })
}

/// Tokens are of no use where nobody is known who judges them.
fn usable(mechanisms: Mechanisms, has_judge: bool) -> Mechanisms {
    mechanisms.each().filter(|one| has_judge || !one.takes_tokens()).collect()
}

/// How a password is kept that is set now: with the keys of each SCRAM that is offered.
pub fn recipe(config: &Config) -> Recipe {
    let is_offered = |hash: &Hash| {
        let scram = |plus| Mechanism::Scram { hash: *hash, plus };
        let mechanisms = config.auth.mechanisms;
        mechanisms.has(scram(false)) || mechanisms.has(scram(true))
    };
    Recipe {
        cost: cost(config),
        scram: [Hash::Sha256, Hash::Sha1].into_iter().filter(is_offered).collect(),
        iterations: config.auth.scram_iterations,
    }
}

/// What is kept of a password that was prepared by SASLprep, its keys of SCRAM on the terms that those
/// of the user's application passwords are `bound` to. Takes its time.
pub fn secrets(config: &Config, bound: &[Terms], password: &str) -> Result<String, String> {
    let salts = [salt()?, salt()?, salt()?];
    recipe(config).remake("", bound, password, salts).map_err(|error| error.to_string())
}

/// Keys of each SCRAM that is offered, on the terms that are given for it. Takes its time.
pub fn scram_keys(config: &Config, given: &[Terms], password: &str) -> Result<Vec<Keys>, String> {
    let Recipe { scram, iterations, .. } = recipe(config);
    let keys = |hash: Hash| match given.iter().find(|terms| terms.hash == hash) {
        Some(terms) => Ok(Keys::of(terms.clone(), password)),
        None => Ok(Keys::derive(hash, password, &salt()?, iterations)),
    };
    scram.into_iter().map(keys).collect()
}

fn salt() -> Result<[u8; 16], String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
    Ok(salt)
}

/// What a password hash costs.
pub fn cost(config: &Config) -> auth::Cost {
    auth::Cost {
        memory_kib: u32::try_from(config.auth.argon2_memory >> 10).unwrap_or(u32::MAX),
        passes: config.auth.argon2_passes,
        lanes: config.auth.argon2_lanes,
    }
}

/// The state that one log holds.
#[derive(Clone)]
pub struct State<E: Env> {
    pub log: Log<E>,
    pub accounts: Rc<RefCell<Accounts>>,
    pub spool: Rc<RefCell<Spool>>,
    pub outgoing: Rc<RefCell<Outgoing>>,
    pub answered: Rc<RefCell<Answered>>,
    /// Filled in log 0 only.
    pub ledger: Ledger,
}

/// Opens a log with everything in it.
pub async fn open_state<E: Env>(
    env: E,
    plan: &Plan,
    log: LogId,
) -> Result<(State<E>, Report), OpenError> {
    let machines = Machines::of(plan.first_logs, plan.shards);
    machines.accounts.borrow_mut().plant(plan.planted);
    // Whoever serves knows the domains of the accounts too.
    let usual = keeping::retention(&plan.config.undelete)("");
    machines.accounts.borrow_mut().set_retention(Retention::all(usual));
    machines.accounts.borrow_mut().set_memory(plan.mailbox_memory());
    let identity = Identity { store: plan.store_id, log, first_logs: plan.first_logs };
    let dir = plan.log_dir(log);
    let registry = machines.registry();
    let (log, report) =
        Log::open(env, &dir, identity, plan.placement.settings_of(log, &plan.store), registry)
            .await?;
    let needed = machines.ledger.logs_needed();
    if needed > plan.shards {
        drop(log.close().await);
        return Err(OpenError::Mismatch(format!(
            "accounts lie in {needed} logs, and store.toml says that there are {}",
            plan.shards
        )));
    }
    Ok((machines.with(log), report))
}

/// What the records of one log make.
#[derive(Default)]
pub struct Machines {
    pub accounts: Rc<RefCell<Accounts>>,
    pub spool: Rc<RefCell<Spool>>,
    pub outgoing: Rc<RefCell<Outgoing>>,
    pub answered: Rc<RefCell<Answered>>,
    pub ledger: Ledger,
}

impl Machines {
    /// Of a store that was made with `first_logs` logs, and has so many.
    pub fn of(first_logs: u16, logs: u16) -> Machines {
        let machines = Machines::default();
        machines.ledger.set_logs(first_logs, logs);
        machines
    }

    /// Who understands which kinds of records.
    pub fn registry(&self) -> Registry {
        let mailboxes: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&self.accounts);
        let spooled: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Spool>>::clone(&self.spool);
        let queue: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Outgoing>>::clone(&self.outgoing);
        let answered: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Answered>>::clone(&self.answered);
        let directory: Rc<RefCell<dyn Machine>> = Rc::new(RefCell::new(self.ledger.clone()));
        vec![
            (kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, mailboxes),
            (kind::SPOOL_FIRST..=kind::SPOOL_LAST, spooled),
            (kind::QUEUE_FIRST..=kind::QUEUE_LAST, queue),
            (kind::DIRECTORY_FIRST..=kind::DIRECTORY_LAST, directory),
            (kind::ANSWERED_FIRST..=kind::ANSWERED_LAST, answered),
        ]
    }

    /// Whose log this is.
    pub fn with<E: Env>(self, log: Log<E>) -> State<E> {
        let Machines { accounts, spool, outgoing, answered, ledger } = self;
        State { log, accounts, spool, outgoing, answered, ledger }
    }
}

/// Puts a shard together around its log. The caller serves its inbox and its listeners.
pub fn assemble<E: Env>(
    env: E,
    plan: &Plan,
    id: ShardId,
    state: &State<E>,
    mesh: Mesh<Call<E::Conn>>,
    (figures, relaying): (Figures, mta::relay::Counts),
) -> Rc<Shard<E>> {
    let peers = Rc::new(MeshPeers(mesh.clone()));
    let (log, accounts) = (state.log.clone(), Rc::clone(&state.accounts));
    let (spool, outgoing) = (Rc::clone(&state.spool), Rc::clone(&state.outgoing));
    env.spawn(log.clone().scrub(plan.config.store.scrub_interval));
    let intake = Intake::new(log.clone(), Rc::clone(&accounts), spool, outgoing, peers);
    let snapshot = state.ledger.snapshot();
    let sessions = plan.sessions();
    intake.set_terms(Rc::clone(&sessions.relay.retries), sessions.relay.entries_max);
    let dns = plan.resolver(&env);
    let here = || -> Rc<Aside> { Rc::new(|step: Step| Box::pin(ready(Some(step())))) };
    let aside = plan.tls.as_ref().map_or_else(here, |(_, threads)| aside(threads.clone()));
    let encrypting = Encrypting { caller: plan.caller.clone(), aside };
    let published = Published::new(env.clone(), &dns, plan.published.clone());
    let first = Rc::clone(&sessions.routing);
    Rc::new_cyclic(|shard: &Weak<Shard<E>>| Shard {
        relay: Relay::new(
            intake.clone(),
            {
                let shard = Weak::clone(shard);
                let routing =
                    move || shard.upgrade().map_or_else(|| Rc::clone(&first), |one| one.routing());
                Router::new(env.clone(), &dns, routing)
            },
            plan.sites.clone(),
            (encrypting, published),
            Rc::new(Home(Weak::clone(shard))),
            relaying,
        ),
        dns,
        env,
        id,
        log,
        accounts,
        answered: Rc::clone(&state.answered),
        intake,
        locks: Locks::new(),
        desk: Desk::new(state.log.clone(), Rc::clone(&state.accounts)),
        authenticator: plan.authenticator(),
        mesh,
        in_force: RefCell::new(Rc::new(sessions)),
        figures,
        snapshot: RefCell::new(snapshot),
        informed: Flag::default(),
        draining: Flag::default(),
        allowances: RefCell::default(),
        rehashes: Rehashes::default(),
        signing: plan.signing(),
        sessions: Cell::new(0),
        drafts: plan.drafts(),
        commands: plan.commands(),
        guard: Arc::clone(&plan.guard),
        list_warned: Cell::new(None),
        refusing: Cell::new(0),
        naming: Cell::new(0),
        by_address: RefCell::default(),
        published: Cell::new(0),
        next_message: Cell::new(0),
    })
}

/// Brings an assembled shard to where it may listen: its inbox is served, the directory is known,
/// what its spool holds is on its way. Comes back early when the server is to stop.
pub async fn begin<E: Env>(shard: &Rc<Shard<E>>, inbox: Inbox<Call<E::Conn>>, ledger: &Ledger) {
    shard.env.spawn(Rc::clone(shard).serve_inbox(inbox));
    if shard.id.0 == 0 {
        // The others may still be opening their logs: they hear of it when they listen.
        drop(publish_directory(shard, ledger));
        let owners = OfShards { shard: Rc::clone(shard), ledger: ledger.clone() };
        let ledger = ledger.clone();
        let rehashing = rehash::serve(Rc::clone(shard), ledger.clone());
        shard.env.spawn(rehashing);
        shard.env.spawn(async move { sweep(&ledger, &owners).await });
    }
    let others: Vec<LogId> =
        (0..shard.mesh.shards()).map(LogId).filter(|other| other.0 != shard.id.0).collect();
    shard.intake.resume(&others);
    keeping::set(shard);
    shard.env.spawn(keeping::rest(Rc::clone(shard)));
    let removed = shard.accounts.borrow().removed();
    let desk = shard.desk.clone();
    shard.env.spawn(async move {
        for (account, mailbox) in removed {
            // What cannot be done now is done at the next start.
            drop(desk.empty(account, mailbox).await);
        }
    });
    // Who knows no directory would refuse everybody, and for good; and take its own users for people
    // elsewhere, to whom reports go by way of this server itself.
    or(shard.informed.wait(), shard.draining.wait()).await;
    shard.env.spawn(shard.relay.clone().run());
    shard.env.spawn(keeping::serve(Rc::clone(shard)));
    shard.env.spawn(vacation::serve(Rc::clone(shard)));
}

/// Tells every shard how the directory stands; to be called on shard 0 when it changed. They hear of
/// it whether or not the future is awaited, which comes back when all look up in it.
pub fn publish_directory<E: Env>(
    shard: &Rc<Shard<E>>,
    ledger: &Ledger,
) -> impl Future<Output = ()> + use<E> {
    shard.take_directory(ledger.snapshot());
    let others = (0..shard.mesh.shards()).map(ShardId).filter(|&other| other != shard.id);
    let told: Vec<Promised<()>> = others
        .map(|other| {
            let (promise, promised) = promise();
            let (shard, ledger) = (Rc::clone(shard), ledger.clone());
            shard.env.clone().spawn(async move {
                tell_directory(&shard, &ledger, other).await;
                promise.keep(());
            });
            promised
        })
        .collect();
    async move {
        for told in told {
            told.await;
        }
    }
}

/// Has every shard sign with these keys from now on; to be called on shard 0.
pub async fn publish_keys<E: Env>(shard: &Shard<E>, keys: &Arc<dkim::Keys>) {
    *shard.signing.keys.borrow_mut() = Arc::clone(keys);
    let others = (0..shard.mesh.shards()).map(ShardId).filter(|&other| other != shard.id);
    for other in others {
        while shard.mesh.send(other, Call::SigningKeys(Arc::clone(keys))).is_err()
            && !shard.draining.is_set()
        {
            event(Level::Warn, "shard_busy", &[("shard", other.0.into())]);
            shard.env.sleep(INBOX_RETRY_PAUSE).await;
        }
    }
}

/// Always as it stands now: what was told later holds. Comes back when the other shard has heard, or
/// has ended.
async fn tell_directory<E: Env>(shard: &Shard<E>, ledger: &Ledger, other: ShardId) {
    loop {
        let (reply, answer) = mesh::reply();
        if shard.mesh.send(other, Call::Directory(ledger.snapshot(), reply)).is_ok() {
            // Heard, or ended: either way it needs not be told again.
            let (Ok(()) | Err(Gone)) = answer.await;
            return;
        }
        event(Level::Warn, "shard_busy", &[("shard", other.0.into())]);
        shard.env.sleep(INBOX_RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Cost;
    use crate::config::parse;

    fn plan(text: &str) -> Plan {
        let config = parse("test", text).expect("the keys are right").config;
        Plan::new(config, 1, 4, Pool::inline(Cost::LEAST), [0; 32])
    }

    #[test]
    fn limits_of_the_operator_reach_where_they_work() {
        let plan = plan(
            r#"
            [auth]
            max_waiting_checks = 11
            max_account_checks = 12
            [smtp]
            max_command_length = "3K"
            max_line_length = 1004
            max_errors = 15
            max_junk_commands = 16
            min_data_rate = 17
            odd_hello = true
            [submission]
            max_recipients = 111
            recipients_per_day = 24
            hide_client = true
            [[submission.allow]]
            user = "a@b.example"
            send_as = ["*@c.example"]
            [pop3]
            max_errors = 18
            max_failed_logins = 19
            [limits]
            connections = 80
            connections_per_address = 21
            reply_memory = "22K"
            write_timeout = "23s"
            "#,
        );
        let (sessions, auth) = (plan.sessions(), plan.auth());
        assert_eq!((auth.waiting_max, auth.per_account_max), (11, 12));
        let smtp = &sessions.smtp;
        assert_eq!((smtp.command_line_max, smtp.text_line_max), (3_072, 1_004));
        assert_eq!((smtp.errors_max, smtp.junk_commands_max), (15, 16));
        assert_eq!((sessions.message_rate_min, smtp.dialect.odd_hello), (17, true));
        let submission = &sessions.submission;
        assert_eq!((sessions.submissions.recipients_max, smtp.recipients_max), (111, 1_000));
        assert_eq!((submission.rates.recipients_a_day, submission.hide_client), (24, true));
        assert_eq!(submission.send_as.len(), 1);
        let pop3 = sessions.pop3;
        assert_eq!((pop3.errors_max, pop3.logins_failed_max), (18, 19));
        // Shared out over four shards, and not.
        assert_eq!((sessions.connections_max, sessions.connections_per_address_max), (20, 21));
        assert_eq!(sessions.reply_octets_max, 22 << 10);
        assert_eq!(sessions.write_timeout, Duration::from_secs(23));
    }
}
