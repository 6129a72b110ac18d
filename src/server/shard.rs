//! What one shard's sessions share: its log and state, the directory's snapshot, the mesh, and
//! what the operator set. Other shards reach it through its inbox only.

use super::allowance::{Allowances, Exceeded};
use super::draft::Room;
use super::flag::Flag;
use super::guard::{self, Guard};
use super::imap;
use super::login::Login;
use super::owner::{self, Question, Told};
use super::rehash::{Rehash, Rehashes};
use super::signing::Signing;
use super::{secure, submission};
use crate::auth::oauth::Authority;
use crate::auth::{Authenticator, Recipe};
use crate::directory::{self, Snapshot};
use crate::dns::Resolver;
use crate::env::{Conn, Env};
use crate::mailbox::{Accounts, Desk, Entry, Locks};
use crate::mesh::{self, Inbox, Mesh};
use crate::model::id::{AccountId, LogId, ShardId};
use crate::model::time::Mono;
use crate::mta::relay::{self, Relay};
use crate::mta::route;
use crate::mta::srs::Srs;
use crate::mta::{Answer, Intake, Peers, Request, Unreachable};
use crate::policy::dkim::Keys;
use crate::probe::event::{Level, Value, event};
use crate::proto::{pop3, smtp};
use crate::queue::answered::Answered;
use crate::store::{Log, ReadError};
use crate::tls::Detached;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Once in how many rounds of the figures the index is measured.
const INDEX_PUBLISH_ROUNDS: u32 = 60;

/// What shards say to each other.
pub enum Call<C: Conn> {
    /// Mail for accounts of the other shard, or about what was spooled for them.
    Mail(Request, mesh::Reply<Answer>),
    /// A POP3 session whose user lives on the other shard and has shown the right password.
    Pop3(Box<Moving<C>>),
    /// An IMAP session whose user lives on the other shard and has shown the right password.
    Imap(Box<imap::Moving<C>>),
    /// The directory changed: this is how it stands. Answered when it is looked up in.
    Directory(Arc<Snapshot>, mesh::Reply<()>),
    /// A user of the other shard's sends a message to so many recipients: may he?
    Allowance(AccountId, u32, mesh::Reply<Result<(), Exceeded>>),
    /// The other shard is the first one: a user's password is to be kept anew.
    Rehash(Box<Rehash>),
    /// What the operator asks of the other shard's accounts and log.
    Operator(Question, mesh::Reply<Told>),
    /// The operator set something: these are the settings from now on, made where they are used.
    Settings(Box<dyn FnOnce() -> Settings + Send>),
    /// The keys that sign, from now on.
    SigningKeys(Arc<Keys>),
    /// Take no more connections and bring the sessions to an end.
    Drain,
}

/// A POP3 session on its way to the shard of its maildrop.
pub struct Moving<C: Conn> {
    pub conn: Detached<C>,
    pub session: pop3::Departed,
    /// What was received behind the login.
    pub unread: Vec<u8>,
    pub login: Login,
}

/// What the operator set, for all sessions of a shard.
#[derive(Clone)]
pub struct Settings {
    pub smtp: Rc<smtp::Settings>,
    pub lmtp: Rc<smtp::Settings>,
    /// The machine of the port for users; what they may send is in the next.
    pub submissions: Rc<smtp::Settings>,
    pub submission: submission::Settings,
    /// Rewrites senders of mail that is passed on; none: they stay as they are.
    pub srs: Option<Srs>,
    pub pop3: pop3::Settings,
    pub imap: imap::Settings,
    pub directory: directory::Settings,
    /// How passwords are kept anew whose users log in; none where they stay as they are.
    pub rehash: Option<Recipe>,
    /// Users who may log in as any other one; addresses in lower case.
    pub masters: Rc<[Box<str>]>,
    /// Who judges tokens; none where none are taken.
    pub oauth: Option<Arc<Authority>>,
    /// Wait for the next SMTP command (RFC 5321 §4.5.3.2.7).
    pub command_timeout: Duration,
    /// Wait for the next octets of a message (RFC 5321 §4.5.3.2.5).
    pub data_timeout: Duration,
    /// Octets a second that a message must bring on the whole, beyond the waits above; 0 is none.
    pub message_rate_min: u64,
    /// Idle POP3 session (RFC 1939 §3).
    pub pop3_idle_timeout: Duration,
    /// How long a write may wait for a slow reader.
    pub write_timeout: Duration,
    /// Messages of one session whose commit may be under way.
    pub commits_open_max: usize,
    /// Octets of replies that may wait for one slow reader.
    pub reply_octets_max: usize,
    /// Connections of this shard.
    pub connections_max: usize,
    /// Connections of one address on this shard; 0 is no limit.
    pub connections_per_address_max: usize,
    /// What is held against clients.
    pub protect: Rc<guard::Settings>,
    /// What TLS takes; none where there is no TLS at all.
    pub tls: Option<secure::Settings>,
    /// Whether this peer may relay without AUTH.
    pub may_relay: Rc<dyn Fn(IpAddr) -> bool>,
    /// How mail leaves for other servers.
    pub relay: Rc<relay::Settings>,
    /// And where to.
    pub routing: Rc<route::Settings>,
    /// How long what users change and remove can be brought back: seconds, by their domain.
    pub retention: Rc<dyn Fn(&str) -> u32>,
    /// Whether that is the same for all domains.
    pub retention_is_one: bool,
}

crate::figures! {
    /// What the sessions of one shard count.
    pub struct Figures {
        /// Connections that were accepted.
        pub accepted: Counter = "pombal_connections_total",
        /// Connections that are open.
        pub open: Gauge = "pombal_connections_open",
        /// Connections that were turned away for want of room.
        pub turned_away: Counter = "pombal_connections_refused_total",
        /// Connections and sessions that were refused for their rate.
        pub refused_rate: Counter = "pombal_refused_rate_total",
        /// Sessions that were refused for speaking before the greeting.
        pub refused_early: Counter = "pombal_refused_early_talker_total",
        /// Senders that were refused for the name in EHLO.
        pub refused_hello: Counter = "pombal_refused_hello_total",
        /// Senders that were refused since their domain says that it has no mail.
        pub refused_null_mx: Counter = "pombal_refused_null_mx_total",
        /// Recipients that were refused for what lists in the DNS say of the client.
        pub refused_listed: Counter = "pombal_refused_dns_list_total",
        /// Messages that were marked for what lists in the DNS say of the client.
        pub marked_listed: Counter = "pombal_marked_dns_list_total",
        /// Recipients that were asked to come back by greylisting.
        pub greylisted: Counter = "pombal_greylisted_total",
        /// Questions to lists in the DNS that had no answer, or none that a list gives.
        pub lists_broken: Counter = "pombal_dns_list_errors_total",
        /// Recipients that were refused, and sessions that were ended, for too many unknown recipients.
        pub refused_harvest: Counter = "pombal_refused_harvest_total",
        /// Recipients that are not there.
        pub unknown_recipients: Counter = "pombal_unknown_recipients_total",
        /// Connections of trusted proxies without a sound PROXY header.
        pub proxies_bad: Counter = "pombal_proxy_headers_bad_total",
        /// Questions to the DNS that were answered from memory.
        pub dns_remembered: Gauge = "pombal_dns_remembered_total",
        /// Questions that were put to the DNS.
        pub dns_asked: Gauge = "pombal_dns_asked_total",
        /// Questions that the DNS did not answer, or not in time.
        pub dns_failed: Gauge = "pombal_dns_failed_total",
        /// Handshakes of TLS 1.3 that succeeded.
        pub tls_1_3: Counter = "pombal_tls_1_3_handshakes_total",
        /// Handshakes of TLS 1.2 that succeeded.
        pub tls_1_2: Counter = "pombal_tls_1_2_handshakes_total",
        /// Of these, those that went on with an earlier session.
        pub tls_resumed: Counter = "pombal_tls_resumed_total",
        /// Certificates of clients that name a user.
        pub clients_known: Counter = "pombal_tls_client_certificates_total",
        /// Certificates of clients that do not hold, or name nobody.
        pub clients_unknown: Counter = "pombal_tls_client_certificates_refused_total",
        /// Handshakes that failed.
        pub tls_failed: Counter = "pombal_tls_handshakes_failed_total",
        /// Messages that were answered with 250.
        pub stored: Counter = "pombal_messages_accepted_total",
        /// Messages that were refused for now.
        pub deferred: Counter = "pombal_messages_deferred_total",
        /// Messages that were refused for good.
        pub refused: Counter = "pombal_messages_refused_total",
        /// Messages that were signed by DKIM.
        pub signed: Counter = "pombal_dkim_signed_total",
        /// Answers for users who are away.
        pub vacations: Counter = "pombal_vacation_answers_total",
        /// Messages that could not be signed: no From, or more fields than a signature names.
        pub unsigned: Counter = "pombal_dkim_unsigned_total",
        /// Messages that their users may not send so, or not now.
        pub submissions_refused: Counter = "pombal_submissions_refused_total",
        /// Octets of accepted messages.
        pub stored_octets: Counter = "pombal_message_octets_total",
        /// Octets of messages that are being received.
        pub drafts: Gauge = "pombal_draft_octets",
        /// Octets that IMAP commands hold which are not whole, and COMPRESS.
        pub commands: Gauge = "pombal_imap_command_octets",
        /// Microseconds from the end of a message to its commit.
        pub commit_micros: Histogram = "pombal_commit_microseconds",
        /// SMTP logins that succeeded.
        pub smtp_logins: Counter = "pombal_smtp_logins_total",
        /// SMTP logins that failed.
        pub smtp_logins_failed: Counter = "pombal_smtp_logins_failed_total",
        /// POP3 logins that succeeded.
        pub logins: Counter = "pombal_pop3_logins_total",
        /// POP3 logins that failed.
        pub logins_failed: Counter = "pombal_pop3_logins_failed_total",
        /// Passwords that were kept anew.
        pub rehashed: Counter = "pombal_passwords_rehashed_total",
        /// Passwords that were to be kept anew, and were put off to the next login.
        pub rehashes_put_off: Counter = "pombal_rehashes_put_off_total",
        /// Messages sent by POP3.
        pub retrieved: Counter = "pombal_pop3_messages_total",
        /// Messages removed by POP3.
        pub removed: Counter = "pombal_pop3_removed_total",
        /// IMAP logins that succeeded.
        pub imap_logins: Counter = "pombal_imap_logins_total",
        /// IMAP logins that failed.
        pub imap_logins_failed: Counter = "pombal_imap_logins_failed_total",
        /// Logins by token that nobody could judge at that time.
        pub oauth_unreachable: Counter = "pombal_oauth_unreachable_total",
        /// IMAP commands.
        pub imap_commands: Counter = "pombal_imap_commands_total",
        /// Messages of which something was sent by FETCH.
        pub imap_fetched: Counter = "pombal_imap_fetched_total",
        /// Messages that came by APPEND and REPLACE.
        pub imap_appended: Counter = "pombal_imap_appended_total",
        /// Tasks that panicked.
        pub panics: Counter = "pombal_panics_total",
        /// Syncs of the log.
        pub syncs: Gauge = "pombal_store_syncs_total",
        /// Batches of the log.
        pub batches: Gauge = "pombal_store_batches_total",
        /// Octets written to the log.
        pub written: Gauge = "pombal_store_written_octets_total",
        /// Octets written by checkpoints.
        pub checkpoint_octets: Gauge = "pombal_store_checkpoint_octets_total",
        /// Segments that were cleaned.
        pub cleaned_segments: Gauge = "pombal_store_cleaned_segments_total",
        /// Octets of messages that were moved out of segments that were cleaned.
        pub cleaned_octets: Gauge = "pombal_store_cleaned_octets_total",
        /// Octets written by cleaning.
        pub cold_written: Gauge = "pombal_store_cold_written_octets_total",
        /// Octets of messages that cleaning packed.
        pub packed_from: Gauge = "pombal_store_packed_octets_before_total",
        /// What they take since.
        pub packed_to: Gauge = "pombal_store_packed_octets_after_total",
        /// Octets of segments that are free again.
        pub reclaimed: Gauge = "pombal_store_reclaimed_octets_total",
        /// Octets written for a thousand that came in.
        pub amplification: Gauge = "pombal_store_write_amplification_permille",
        /// Segments of messages as they came.
        pub hot_segments: Gauge = "pombal_store_hot_segments",
        /// Octets of messages that are alive in them.
        pub hot_live: Gauge = "pombal_store_hot_live_octets",
        /// Segments of messages that were moved.
        pub cold_segments: Gauge = "pombal_store_cold_segments",
        /// Octets of messages that are alive in them.
        pub cold_live: Gauge = "pombal_store_cold_live_octets",
        /// Segments of checkpoints.
        pub index_segments: Gauge = "pombal_store_index_segments",
        /// Segments that stand ready.
        pub free_segments: Gauge = "pombal_store_free_segments",
        /// Blobs that something refers to.
        pub blobs: Gauge = "pombal_store_blobs",
        /// Writes and syncs that failed.
        pub failures: Gauge = "pombal_store_failures_total",
        /// 1 while the disk gives no room for another segment of the log, unless what was removed is room
        /// for mail again.
        pub crowded: Gauge = "pombal_store_crowded",
        /// Messages that were promised and wait for another shard.
        pub spooled: Gauge = "pombal_spool_messages",
        /// Attempts to hand a message to another shard that have to be made again.
        pub spool_retries: Gauge = "pombal_spool_attempts_failed_total",
        /// Messages of the spool that cannot be read from the log.
        pub spool_unreadable: Gauge = "pombal_spool_unreadable",
        /// Messages in mailboxes of this shard.
        pub messages: Gauge = "pombal_mailbox_messages",
        /// Accounts that are awake; the others rest, packed.
        pub accounts_awake: Gauge = "pombal_accounts_awake",
        /// Octets of the index of this shard.
        pub index_octets: Gauge = "pombal_mailbox_index_octets",
    }
}

/// Asks other shards over the mesh. Shard `n` owns log `n`.
pub struct MeshPeers<C: Conn>(pub Mesh<Call<C>>);

impl<C: Conn> Peers for MeshPeers<C> {
    fn ask(
        &self,
        owner: LogId,
        request: Request,
    ) -> impl Future<Output = Result<Answer, Unreachable>> + 'static {
        let (reply, answer) = mesh::reply();
        let sent = self.0.send(ShardId(owner.0), Call::Mail(request, reply));
        async move {
            sent.map_err(|_| Unreachable::Full)?;
            answer.await.map_err(|_| Unreachable::Lost)
        }
    }
}

/// One shard.
pub struct Shard<E: Env> {
    pub env: E,
    pub id: ShardId,
    pub log: Log<E>,
    pub accounts: Rc<RefCell<Accounts>>,
    /// Whom users who are away have answered.
    pub answered: Rc<RefCell<Answered>>,
    pub intake: Intake<E, MeshPeers<E::Conn>>,
    /// Brings mail to other servers.
    pub relay: Relay<E, MeshPeers<E::Conn>>,
    pub locks: Locks,
    pub desk: Desk<E>,
    pub authenticator: Authenticator,
    pub mesh: Mesh<Call<E::Conn>>,
    /// Ask [`Shard::settings`].
    pub in_force: RefCell<Rc<Settings>>,
    pub figures: Figures,
    pub snapshot: RefCell<Arc<Snapshot>>,
    /// Set once `snapshot` is the directory, and not what there is before it is known.
    pub informed: Flag,
    pub draining: Flag,
    /// What the accounts of this shard have sent lately.
    pub allowances: RefCell<Allowances>,
    /// Passwords that are to be kept anew; on shard 0.
    pub rehashes: Rehashes,
    /// Sessions under way.
    pub sessions: Cell<usize>,
    /// DKIM signatures.
    pub signing: Signing,
    /// For messages that are being received.
    pub drafts: Rc<Room>,
    /// For IMAP commands that are not whole, and COMPRESS.
    pub commands: Rc<Room>,
    pub dns: Resolver<E>,
    /// What all shards remember of clients.
    pub guard: Arc<Guard>,
    /// When the operator was told last of a list in the DNS that is of no use.
    pub list_warned: Cell<Option<Mono>>,
    /// Connections that are being told why they are not served.
    pub refusing: Cell<usize>,
    /// Clients whose names are asked for.
    pub naming: Cell<usize>,
    pub by_address: RefCell<crate::bytes::hash::Sorted<IpAddr, usize>>,
    /// How often the figures were brought up to date.
    pub published: Cell<u32>,
    /// The moment, in microseconds since 1970, that the next message's name tells at least.
    pub next_message: Cell<u64>,
}

impl<E: Env> Shard<E> {
    /// What the operator set, as it stands. Sessions ask each time, but for what they began with:
    /// the settings of their SMTP and POP3 machines.
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.in_force.borrow())
    }

    /// Where mail for other servers goes.
    pub fn routing(&self) -> Rc<route::Settings> {
        Rc::clone(&self.settings().routing)
    }

    /// The directory as it stands; cheap.
    pub fn directory(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// This is how the directory stands from now on.
    pub fn take_directory(&self, snapshot: Arc<Snapshot>) {
        let own = snapshot.away().iter().filter(|(_, away)| away.log == self.log.id());
        let away = own.map(|(&account, _)| account).collect();
        self.accounts.borrow_mut().arrivals().watch(away);
        *self.snapshot.borrow_mut() = snapshot;
        self.informed.set();
    }

    /// What the operator sets holds from now on.
    pub fn take_settings(&self, settings: Settings) {
        let relay = &settings.relay;
        self.intake.set_terms(Rc::clone(&relay.retries), relay.entries_max);
        *self.in_force.borrow_mut() = Rc::new(settings);
        self.relay.wake();
    }

    /// Counts a message that an account of this shard sends, if it may.
    pub(super) fn allow(&self, account: AccountId, recipients: u32) -> Result<(), Exceeded> {
        let (rates, now) = (self.settings().submission.rates, self.env.now());
        self.allowances.borrow_mut().take(account, recipients, rates, now)
    }

    /// A name for a message: unique in this store, in the trace line and in the logs.
    pub fn name_message(&self) -> String {
        // A process that ended within this second may have named some: the time tells them apart.
        let at = self.env.wall().0.max(self.next_message.get());
        self.next_message.set(at + 1);
        format!("{:x}.{:x}.{:x}", at / 1_000_000, self.id.0, at % 1_000_000)
    }

    /// Tells the operator of a message that cannot be read from the log.
    pub(super) fn tell_unreadable(&self, account: AccountId, entry: &Entry, error: &ReadError) {
        let fields = [
            ("log", self.log.id().0.into()),
            ("account", account.0.into()),
            ("uid", entry.uid.0.into()),
            ("blob", entry.blob.0.into()),
            ("why", Value::Shown(error)),
        ];
        event(Level::Error, "message_unreadable", &fields);
    }

    /// Serves what other shards ask, until the process ends.
    pub async fn serve_inbox(self: Rc<Self>, mut inbox: Inbox<Call<E::Conn>>) {
        loop {
            match inbox.recv().await {
                Call::Mail(request, reply) => {
                    let answering = self.intake.serve(request);
                    self.env.spawn(async move { reply.send(answering.await) });
                }
                Call::Pop3(moving) => {
                    let shard = Rc::clone(&self);
                    self.env.spawn(super::pop3::adopt(shard, *moving));
                }
                Call::Imap(moving) => {
                    self.env.spawn(imap::adopt(Rc::clone(&self), *moving));
                }
                Call::Directory(snapshot, reply) => {
                    self.take_directory(snapshot);
                    reply.send(());
                }
                Call::Allowance(account, recipients, reply) => {
                    reply.send(self.allow(account, recipients));
                }
                Call::Rehash(one) => self.take_rehash(*one),
                Call::Operator(question, reply) => {
                    let (log, accounts) = (self.log.clone(), Rc::clone(&self.accounts));
                    let queue = relay::Desk::of(self.relay.clone());
                    let answering =
                        owner::answer(log, accounts, self.desk.clone(), queue, question);
                    self.env.spawn(async move { reply.send(answering.await) });
                }
                Call::Settings(make) => self.take_settings(make()),
                Call::SigningKeys(keys) => *self.signing.keys.borrow_mut() = keys,
                Call::Drain => {
                    self.draining.set();
                    self.relay.stop();
                }
            }
        }
    }

    /// Brings the figures up to date that are read, not counted.
    pub fn publish(&self) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let stats = self.log.stats();
        self.figures.syncs.set(signed(stats.syncs.get()));
        self.figures.batches.set(signed(stats.batches.get()));
        self.figures.written.set(signed(stats.octets_written.get()));
        self.figures.failures.set(signed(stats.failures.get()));
        self.figures.checkpoint_octets.set(signed(stats.checkpoint_octets.get()));
        self.figures.cleaned_segments.set(signed(stats.victims.get()));
        self.figures.cleaned_octets.set(signed(stats.moved_octets.get()));
        self.figures.cold_written.set(signed(stats.cold_octets.get()));
        self.figures.packed_from.set(signed(stats.packed_from.get()));
        self.figures.packed_to.set(signed(stats.packed_to.get()));
        self.figures.reclaimed.set(signed(stats.reclaimed_octets.get()));
        self.figures.amplification.set(signed(stats.write_amplification()));
        let dns = self.dns.stats();
        self.figures.dns_remembered.set(signed(dns.remembered));
        self.figures.dns_asked.set(signed(dns.asked));
        self.figures.dns_failed.set(signed(dns.failed));
        let log = self.log.figures();
        self.figures.blobs.set(signed(log.blobs));
        self.figures.hot_segments.set(signed(log.hot_segments));
        self.figures.hot_live.set(signed(log.hot_live_octets));
        self.figures.cold_segments.set(signed(log.cold_segments));
        self.figures.cold_live.set(signed(log.cold_live_octets));
        self.figures.index_segments.set(signed(log.index_segments));
        self.figures.free_segments.set(signed(log.free_segments));
        self.figures.crowded.set(i64::from(log.crowded));
        let spool = self.intake.figures();
        self.figures.spooled.set(signed(spool.pending as u64));
        self.figures.spool_retries.set(signed(spool.attempts_failed));
        self.figures.spool_unreadable.set(signed(spool.unreadable));
        self.relay.publish();
        let accounts = self.accounts.borrow();
        self.figures.messages.set(signed(accounts.messages()));
        self.figures.accounts_awake.set(signed(accounts.awake() as u64));
        // Walks all mailboxes: not every time.
        let round = self.published.get();
        self.published.set(round + 1);
        if round.is_multiple_of(INDEX_PUBLISH_ROUNDS) {
            let octets = accounts.heap_octets() + self.log.table_octets();
            self.figures.index_octets.set(signed(octets as u64));
        }
        self.figures.drafts.set(signed(self.drafts.used() as u64));
        self.figures.commands.set(signed(self.commands.used() as u64));
    }
}
