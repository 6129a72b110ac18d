//! IMAP sessions: commands out of the stream, one after the other, each answered in its turn.
//!
//! ```text
//!   octets ─> Framer ─> parse ─> may it be given now? ─> its file below ─> answer
//!                                                          │
//!                              Desk (changes), View (what this session has seen), Log (messages)
//! ```
//!
//! After a login the session moves to the shard that owns the account, as in POP3.
//!
//! Promises:
//!   - a tagged OK is given after the change is on stable storage
//!   - message numbers move only where the client expects it (RFC 9051 §5.5, §7.5.1)
//!   - memory is bounded: replies wait for a slow reader, messages are sent out of the log's blocks

mod append;
mod binary;
mod catalog;
mod change;
mod encrypt;
mod fetch;
mod idle;
mod limit;
mod list;
mod login;
mod mask;
mod news;
mod object;
mod offer;
mod order;
mod query;
mod recent;
mod search;
mod select;
mod selected;
mod squeeze;
mod wait;

use self::offer::Enabled;
use self::selected::Selected;
use self::squeeze::{SQUEEZE_OCTETS, Squeeze};
use self::wait::Heard;
use super::lease::Lease;
use super::listener::Admitted;
use super::login::{Attempt, Login};
use super::pace::{Coming, Pace};
use super::shard::Shard;
use super::standing::{Ended, Standing};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::bytes::codec::to_u64;
use crate::env::bell::Bell;
use crate::env::{Conn as _, Env, Presence};
use crate::mailbox::ChangeError;
use crate::model::channel::Channel;
use crate::model::id::{AccountId, Uid};
use crate::model::limits::{
    IMAP_COMMAND_OCTETS_BEFORE_LOGIN_MAX, IMAP_COMMAND_OCTETS_FREE, IMAP_COMMAND_OCTETS_MAX,
    IMAP_ERRORS_MAX, IMAP_IDLE_KEEPALIVE,
};
use crate::model::time::Mono;
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::Policy;
use crate::store::AppendError;
use crate::tls::{Facts, Stream};
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::{self, Command, Tagged, split_tag};
use crate::wire::imap::frame::{Event, Fault, Framer};
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use login::{Moving, adopt};
pub use mask::Client;

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How clients may authenticate; where no password may be sent, LOGIN is off.
    pub auth: Policy,
    /// STARTTLS is offered to those who are in clear.
    pub starttls: bool,
    /// Wait for a command of a client that has logged in; at least 30 minutes (RFC 9051 §5.4).
    pub idle_timeout: Duration,
    /// Pause after which IDLE says that it is there still.
    pub idle_keepalive: Option<Duration>,
    /// Wait for a command before that.
    pub login_timeout: Duration,
    /// A session with more commands in error is closed.
    pub errors_max: u32,
    /// A session with so many failed logins is closed.
    pub logins_failed_max: u8,
    /// Octets of a message that a client may bring (RFC 7889).
    pub append_octets_max: u64,
    /// Messages of one command (RFC 9738).
    pub message_limit: Option<NonZeroU32>,
    /// What is hidden from everybody.
    pub hidden: Capabilities,
    /// What is hidden from some clients.
    pub clients: Rc<[Client]>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            auth: Policy { plaintext: true, ..Policy::default() },
            starttls: false,
            idle_timeout: Duration::from_mins(30),
            idle_keepalive: Some(IMAP_IDLE_KEEPALIVE),
            login_timeout: Duration::from_mins(3),
            errors_max: IMAP_ERRORS_MAX,
            logins_failed_max: 3,
            append_octets_max: 64 << 20,
            message_limit: None,
            hidden: Capabilities::NONE,
            clients: Rc::new([]),
        }
    }
}

/// Who has logged in, and where that session stands.
struct User {
    account: AccountId,
    name: Box<str>,
    standing: Standing,
    /// Rings when anything of the account changes.
    bell: Rc<Bell>,
    selected: Option<Box<Selected>>,
}

/// What the next line is.
enum Mode {
    Command,
    /// The answer to a challenge of AUTHENTICATE.
    Sasl {
        tag: Box<str>,
    },
    /// DONE, some time.
    Idle {
        tag: Box<str>,
        heard: u64,
        /// When the client has said nothing for too long.
        until: Mono,
    },
}

/// One connection.
struct Driver<E: Env> {
    shard: Rc<Shard<E>>,
    peer: IpAddr,
    tls: Option<Arc<Facts>>,
    framer: Framer,
    buffer: Buffer,
    out: Chain,
    /// Nothing of a connection in clear.
    channel: Option<Box<Channel>>,
    user: Option<User>,
    /// The exchange between two moves of the client.
    attempt: Option<Box<Attempt>>,
    mode: Mode,
    enabled: Enabled,
    /// What is hidden from this session, all in all.
    hidden: Capabilities,
    /// What of it because of the client's ID.
    client: Capabilities,
    appending: Option<Box<append::Appending>>,
    /// Of the messages of an APPEND.
    pace: Option<Pace>,
    coming: Coming,
    /// When the client came, or logged out: it has `login_timeout` from then.
    begun: Mono,
    /// COMPRESS was given.
    squeeze: Option<Box<Squeeze>>,
    /// Compression has just ended: its last octets may be still to come.
    seam: bool,
    /// What it and the command under way hold of the shard's room for commands.
    lease: Lease,
    /// It was asked whether it is there still: see [`Driver::take_turns`].
    asked: bool,
    errors: u32,
    logins_failed: u8,
}

/// How a session goes on after what was received.
enum Goes {
    Read,
    Close,
    /// By TLS from here on.
    Secure,
    /// It belongs to another shard now.
    Moved(Login),
}

/// How one command ended. What was said already is in the chain.
#[derive(Clone)]
enum Done {
    /// `tag OK`, or the command goes on.
    Said,
    /// `tag NO`, or BAD.
    Refused,
    /// A challenge, which is neither.
    Challenged,
    /// `tag OK text`.
    Ok(&'static str),
    /// `tag NO [word] text`.
    No(Option<Word>, &'static str),
    /// `tag BAD text`.
    Bad(&'static str),
    /// `tag OK text`, or NO, of a command that came up against the limit of messages; with the
    /// lowest UID that was, or would have been, dealt with.
    Limited(Kind, Option<Uid>, &'static str),
    Close,
    Secure,
    Moved(Login),
}

/// An answer, or the end of the connection without one.
type Outcome = io::Result<Done>;

/// One connection from greeting to end.
pub async fn serve<E: Env>(shard: Rc<Shard<E>>, conn: Stream<E>, admitted: Admitted<E>) {
    let peer = conn.peer().ip();
    let mut driver = Driver::new(shard, peer);
    driver.meet(&conn);
    driver.greet();
    driver.run(conn).await;
    drop(admitted);
}

/// Greets a connection that is not served: too many of them.
pub fn turn_away(out: &mut Chain) {
    let status = Status::untagged(Kind::Bye, "too many connections, try again later");
    status.because(Word::Unavailable).put(out);
}

impl<E: Env> Driver<E> {
    /// In a box: futures would keep a place for every time it is moved.
    fn new(shard: Rc<Shard<E>>, peer: IpAddr) -> Box<Driver<E>> {
        let begun = shard.env.now();
        let hidden = shard.settings().imap.hidden().with_dependants();
        let lease = Lease::new(&shard.commands);
        Box::new(Driver {
            shard,
            peer,
            tls: None,
            framer: Framer::new(IMAP_COMMAND_OCTETS_BEFORE_LOGIN_MAX),
            buffer: Buffer::new(),
            out: Chain::new(),
            channel: None,
            user: None,
            attempt: None,
            mode: Mode::Command,
            enabled: Enabled::default(),
            hidden,
            client: Capabilities::NONE,
            appending: None,
            pace: None,
            coming: Coming::default(),
            begun,
            squeeze: None,
            seam: false,
            lease,
            asked: false,
            errors: 0,
            logins_failed: 0,
        })
    }

    /// Apart from the session, which would keep the words for as long as it lives.
    fn greet(&mut self) {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        let ready = Status::untagged(Kind::Ok, "Pombal ready");
        ready.with(Code::Capability(&words)).put(&mut self.out);
    }

    async fn run(mut self: Box<Self>, mut conn: Stream<E>) {
        let why = loop {
            match Box::pin(self.work(&mut conn)).await {
                Ok(Goes::Read) => {}
                Ok(Goes::Close) => break "logout",
                Ok(Goes::Secure) => {
                    if self.flush(&mut conn).await.is_err() {
                        break "lost";
                    }
                    let Some(inside) = Box::pin(self.secure(conn)).await else { return };
                    (self, conn) = inside;
                }
                Ok(Goes::Moved(login)) => {
                    if self.flush(&mut conn).await.is_err() {
                        break "lost";
                    }
                    let Some(back) = (*self).depart(conn, login) else { return };
                    (self, conn) = back;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => break "gone",
                Err(_) => break "lost",
            }
            if self.flush(&mut conn).await.is_err() {
                break "lost";
            }
            match self.receive(&mut conn).await {
                Ok(Heard::Octets(0)) => break "closed",
                Ok(Heard::Octets(_)) => {}
                Ok(Heard::Bell) => {
                    if Box::pin(self.news(&mut conn)).await.is_err() {
                        break "lost";
                    }
                }
                Ok(Heard::Draining) => {
                    let bye = Status::untagged(Kind::Bye, "the server stops, come back in a while");
                    bye.because(Word::Unavailable).put(&mut self.out);
                    break "draining";
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut && self.idles_on() => {
                    Status::untagged(Kind::Ok, "still here").put(&mut self.out);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Status::untagged(Kind::Bye, "idle for too long").put(&mut self.out);
                    break "timeout";
                }
                Err(_) => break "lost",
            }
        };
        self.tell(why);
        self.user = None;
        if self.flush(&mut conn).await.is_ok() {
            conn.close().await;
        }
    }

    async fn flush(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = self.shard.env.now().after(self.shard.settings().write_timeout);
        let Some(squeeze) = &mut self.squeeze else {
            return conn.write(&mut self.out, deadline).await;
        };
        while !self.out.is_empty() {
            let mut piece = squeeze.deflate(&mut self.out)?;
            conn.write(&mut piece, deadline).await?;
        }
        Ok(())
    }

    /// Lets others have their turn. An error if the client has gone: nobody waits for the rest. One
    /// that sends no more may read on; a line shows which it is, for the kernel of one that has
    /// gone answers it.
    async fn take_turns(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        self.shard.env.breathe().await;
        match conn.presence() {
            Presence::Here => Ok(()),
            Presence::Gone => Err(io::ErrorKind::ConnectionAborted.into()),
            Presence::Ended if self.asked => Ok(()),
            Presence::Ended => {
                self.asked = true;
                Status::untagged(Kind::Ok, "still at it").put(&mut self.out);
                self.flush(conn).await
            }
        }
    }

    /// Sends what waits if that is much: the reader sets the pace.
    async fn flush_if_much(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        if self.out.len() > self.shard.settings().reply_octets_max {
            self.flush(conn).await?;
            self.shard.env.breathe().await;
        }
        Ok(())
    }

    /// Goes through all that was received.
    async fn work(&mut self, conn: &mut Stream<E>) -> io::Result<Goes> {
        loop {
            self.flush_if_much(conn).await?;
            if let Some(ended) = self.ended() {
                Status::untagged(Kind::Bye, ended.words()).put(&mut self.out);
                return Ok(Goes::Close);
            }
            if self.seam {
                let Some(end) = squeeze::seam(self.buffer.filled()) else { return Ok(Goes::Read) };
                self.buffer.consume(end);
                self.seam = false;
            }
            // Taken out, so that the command can be read where it lies while it is carried out.
            let buffer = std::mem::take(&mut self.buffer);
            let mut framer = std::mem::replace(&mut self.framer, Framer::new(0));
            self.make_room(&mut framer, buffer.len());
            let (used, event) = match self.mode {
                Mode::Command => framer.step(buffer.filled()),
                Mode::Sasl { .. } | Mode::Idle { .. } => framer.step_line(buffer.filled()),
            };
            let was_plain = self.squeeze.is_none();
            let taken = Box::pin(self.take(conn, event)).await;
            self.framer = framer;
            let behind = std::mem::replace(&mut self.buffer, buffer);
            self.buffer.consume(used);
            if let Some(squeeze) = self.squeeze.as_mut().filter(|_| was_plain) {
                // What follows COMPRESS is deflated.
                squeeze.raw = std::mem::take(&mut self.buffer);
            } else if self.squeeze.is_none() && !was_plain {
                // What follows UNAUTHENTICATE is not.
                self.buffer = behind;
                self.seam = true;
            }
            if !self.framer.is_within_command() {
                self.coming.ended();
            }
            let (goes, verdict) = taken?;
            match verdict {
                Verdict::Nothing => {}
                Verdict::Accept => self.framer.accept(),
                Verdict::Refuse => self.framer.refuse(),
            }
            // UNAUTHENTICATE takes the room away again.
            self.framer.set_command_octets_max(match self.user {
                Some(_) => IMAP_COMMAND_OCTETS_MAX,
                None => IMAP_COMMAND_OCTETS_BEFORE_LOGIN_MAX,
            });
            if let Some(goes) = goes {
                return Ok(goes);
            }
            if self.errors > self.shard.settings().imap.errors_max {
                Status::untagged(Kind::Bye, "too many errors").put(&mut self.out);
                return Ok(Goes::Close);
            }
        }
    }

    /// Takes room for what a command will hold once so many more octets of it are there; without
    /// room the framer holds no more of it than it has.
    fn make_room(&mut self, framer: &mut Framer, coming: usize) {
        let squeezed = if self.squeeze.is_some() { SQUEEZE_OCTETS } else { 0 };
        let asked = framer.held_with(coming).saturating_sub(IMAP_COMMAND_OCTETS_FREE);
        let fits = self.lease.hold(squeezed + asked);
        let held = self.lease.held().saturating_sub(squeezed);
        framer.set_room(if fits { usize::MAX } else { IMAP_COMMAND_OCTETS_FREE + held });
    }

    async fn take(
        &mut self,
        conn: &mut Stream<E>,
        event: Event<'_>,
    ) -> io::Result<(Option<Goes>, Verdict)> {
        let mut verdict = Verdict::Nothing;
        let goes = match event {
            Event::More => Some(Goes::Read),
            Event::Literal { .. } => {
                verdict = Verdict::Accept;
                self.out.put(b"+ OK\r\n");
                None
            }
            Event::Command(text) => match self.mode {
                Mode::Command => self.on_command(conn, text).await?,
                Mode::Sasl { .. } => self.on_sasl(text).await?,
                Mode::Idle { .. } => {
                    self.on_idle_line(conn, text).await?;
                    None
                }
            },
            Event::Message { text, literal, first } => {
                verdict = self.on_message(text, literal, first);
                None
            }
            Event::Data(octets) => {
                if let Some(pace) = &mut self.pace {
                    pace.add(to_u64(octets.len()));
                }
                self.on_data(octets);
                None
            }
            Event::MessagesEnd(text) => {
                self.on_messages_end(conn, text).await?;
                None
            }
            Event::Bad { head, fault } => {
                self.on_bad(head, fault);
                None
            }
            Event::Lost => {
                Status::untagged(Kind::Bye, "what follows makes no sense").put(&mut self.out);
                Some(Goes::Close)
            }
        };
        Ok((goes, verdict))
    }

    fn on_bad(&mut self, head: &[u8], fault: Fault) {
        self.appending = None;
        if fault == Fault::NoRoom && matches!(self.mode, Mode::Command) {
            let tag = split_tag(head).map(|(tag, _)| tag);
            let text = "no room for a command of this length now, try again later";
            let no = Status { tag, kind: Kind::No, code: None, text };
            return no.because(Word::Limit).put(&mut self.out);
        }
        self.errors += 1;
        let text = match fault {
            Fault::BareLineFeed => "a line ends with CRLF",
            Fault::TooLong => "the command is too long",
            Fault::LiteralTooLong => "the literal is too long",
            Fault::NoRoom => "no room for a line of this length now",
        };
        let mode = std::mem::replace(&mut self.mode, Mode::Command);
        if let Mode::Sasl { .. } = mode {
            self.break_off();
        }
        if let Mode::Sasl { tag } | Mode::Idle { tag, .. } = mode {
            return Status::tagged(&tag, Kind::Bad, text).put(&mut self.out);
        }
        let tag = split_tag(head).map(|(tag, _)| tag);
        Status { tag, kind: Kind::Bad, code: None, text }.put(&mut self.out);
    }

    async fn on_command(&mut self, conn: &mut Stream<E>, text: &[u8]) -> io::Result<Option<Goes>> {
        let Tagged { tag, command } = match command::parse(text, self.enabled.utf8) {
            Ok(tagged) => tagged,
            Err(bad) => {
                self.errors += 1;
                let (tag, text) = (bad.tag, bad.what);
                Status { tag, kind: Kind::Bad, code: None, text }.put(&mut self.out);
                return Ok(None);
            }
        };
        let done = self.execute(conn, tag, command).await?;
        Ok(self.end(tag, done))
    }

    /// Writes the tagged answer.
    fn end(&mut self, tag: &str, done: Done) -> Option<Goes> {
        if matches!(done, Done::Said | Done::Ok(_) | Done::Limited(Kind::Ok, ..)) {
            // A client may live for weeks: only what goes wrong in a row counts.
            self.errors = 0;
        }
        let out = &mut self.out;
        match done {
            Done::Said | Done::Refused | Done::Challenged => {}
            Done::Ok(text) => Status::tagged(tag, Kind::Ok, text).put(out),
            Done::No(None, text) => Status::tagged(tag, Kind::No, text).put(out),
            Done::No(Some(word), text) => {
                Status::tagged(tag, Kind::No, text).because(word).put(out);
            }
            Done::Bad(text) => {
                self.errors = self.errors.saturating_add(1);
                Status::tagged(tag, Kind::Bad, text).put(out);
            }
            Done::Limited(kind, uid, text) => {
                let code = limit::code(&self.shard.settings().imap, uid);
                Status::tagged(tag, kind, text).with(code).put(out);
            }
            Done::Close => return Some(Goes::Close),
            Done::Secure => return Some(Goes::Secure),
            Done::Moved(login) => return Some(Goes::Moved(login)),
        }
        None
    }

    async fn execute(&mut self, conn: &mut Stream<E>, tag: &str, command: Command<'_>) -> Outcome {
        self.shard.figures.imap_commands.one();
        if self.hides(&command) {
            return Ok(mask::HIDDEN);
        }
        match command {
            Command::Capability => {
                self.put_capability();
                Ok(Done::Ok("these are offered"))
            }
            Command::Noop | Command::Check => {
                if matches!(command, Command::Check) && self.selected().is_none() {
                    return Ok(Done::Bad("no mailbox is selected"));
                }
                self.sync(conn, true).await?;
                Ok(Done::Ok("done"))
            }
            Command::Logout => {
                Status::untagged(Kind::Bye, "until next time").put(&mut self.out);
                Status::tagged(tag, Kind::Ok, "bye").put(&mut self.out);
                Ok(Done::Close)
            }
            Command::Id(fields) => Ok(self.id(&fields)),
            Command::StartTls => Ok(self.start_tls(tag)),
            Command::Authenticate { mechanism, initial } => {
                self.authenticate(tag, mechanism, initial).await
            }
            Command::Login { user, password } => self.login(tag, user, password).await,
            other if self.user.is_none() => {
                drop(other);
                Ok(Done::Bad("log in first"))
            }
            other => self.execute_as_user(conn, tag, other).await,
        }
    }

    async fn execute_as_user(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        command: Command<'_>,
    ) -> Outcome {
        match command {
            Command::Enable(names) => Ok(self.enable(&names)),
            Command::Select(select) => self.select(conn, tag, &select, false).await,
            Command::Examine(select) => self.select(conn, tag, &select, true).await,
            Command::Create { mailbox, uses } => self.create(tag, mailbox, &uses).await,
            Command::Delete(mailbox) => self.delete(conn, mailbox).await,
            Command::Rename { from, to } => self.rename(from, to).await,
            Command::Subscribe(mailbox) => self.subscribe(mailbox, true).await,
            Command::Unsubscribe(mailbox) => self.subscribe(mailbox, false).await,
            Command::List(list) => self.list(conn, &list).await,
            Command::Lsub { reference, pattern } => self.lsub(conn, reference, pattern).await,
            Command::Namespace => {
                crate::wire::imap::reply::put_namespace(&mut self.out, "", "/", self.enabled.utf8);
                Ok(Done::Ok("one namespace"))
            }
            Command::Status { mailbox, items } => self.status(conn, mailbox, &items).await,
            Command::Idle => self.idle(conn, tag).await,
            Command::GetQuota(root) => Ok(self.get_quota(root)),
            Command::GetQuotaRoot(mailbox) => Ok(self.get_quota_root(mailbox)),
            Command::SetQuota { .. } => {
                Ok(Done::No(Some(Word::NoPerm), "quotas are the operator's"))
            }
            Command::Compress { deflate } => self.compress(conn, tag, deflate).await,
            Command::Unauthenticate => self.unauthenticate(conn, tag).await,
            other if self.selected().is_none() => {
                drop(other);
                Ok(Done::Bad("no mailbox is selected"))
            }
            other => self.execute_selected(conn, tag, other).await,
        }
    }

    async fn execute_selected(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        command: Command<'_>,
    ) -> Outcome {
        match command {
            Command::Close => self.close().await,
            Command::Unselect => Ok(self.unselect()),
            Command::Expunge => self.expunge(conn, tag, None).await,
            Command::UidBatches { size, batches } => {
                self.uid_batches(conn, tag, size, batches).await
            }
            Command::UidExpunge(which) => self.expunge(conn, tag, Some(which)).await,
            Command::Fetch(fetch) => self.fetch(conn, tag, &fetch).await,
            Command::Store(store) => self.store(conn, tag, &store).await,
            Command::Copy { uid, messages, mailbox } => {
                self.copy(conn, tag, uid, messages, mailbox).await
            }
            Command::Move { uid, messages, mailbox } => {
                self.shift(conn, tag, uid, messages, mailbox).await
            }
            Command::Search(search) => self.search(conn, tag, &search).await,
            Command::Sort(sort) => self.sort(conn, tag, &sort).await,
            Command::Thread(thread) => self.thread(conn, tag, &thread).await,
            _ => Ok(Done::Bad("unknown command")),
        }
    }

    /// Why the user may not be here any more; one who idles learns so at once, by the bell of the
    /// account.
    fn ended(&self) -> Option<Ended> {
        let user = self.user.as_ref()?;
        if self.shard.accounts.borrow().is_closed(user.account) {
            return Some(Ended::Removed);
        }
        let ended = self.shard.ended(&user.standing);
        ended.or_else(|| self.is_restored().then_some(Ended::Restored))
    }

    /// Whether the selected mailbox got another UIDVALIDITY: what the client knows of it holds no more,
    /// and nothing of IMAP could tell it (RFC 9051 §2.3.1.1).
    fn is_restored(&self) -> bool {
        let Some((user, selected)) = self.user.as_ref().zip(self.selected()) else { return false };
        let accounts = self.shard.accounts.borrow();
        let now = accounts.uidvalidity(user.account, selected.mailbox);
        now.is_some_and(|now| now != selected.view.uidvalidity())
    }

    fn selected(&self) -> Option<&Selected> {
        self.user.as_ref()?.selected.as_deref()
    }

    fn selected_mut(&mut self) -> Option<&mut Selected> {
        self.user.as_mut()?.selected.as_deref_mut()
    }

    fn tell(&self, why: &str) {
        let Some(user) = &self.user else { return };
        let peer = self.peer;
        let fields = [
            ("protocol", "imap".into()),
            ("peer", Value::Shown(&peer)),
            ("user", (&*user.name).into()),
            ("why", why.into()),
        ];
        event(Level::Info, "logout", &fields);
    }
}

/// What becomes of an announced literal.
enum Verdict {
    Nothing,
    Accept,
    Refuse,
}

/// The answer to a change that was not made. An error: nobody knows whether it counts.
fn refused(error: ChangeError) -> Outcome {
    Ok(match error {
        ChangeError::Missing => Done::No(Some(Word::NonExistent), "there is no such mailbox"),
        ChangeError::Exists => Done::No(Some(Word::AlreadyExists), "there is such a mailbox"),
        ChangeError::IsInbox => Done::No(Some(Word::Cannot), "not with INBOX"),
        ChangeError::BelowItself => Done::No(Some(Word::Cannot), "not below itself"),
        ChangeError::Gone => {
            Done::No(Some(Word::ExpungeIssued), "some of the messages are no more")
        }
        ChangeError::Limit(what) => Done::No(Some(Word::Limit), what),
        ChangeError::Refused(why) => {
            use crate::mailbox::Refused;
            match why {
                Refused::Full | Refused::Tight | Refused::NeverFits => {
                    Done::No(Some(Word::OverQuota), "the quota is used up")
                }
                Refused::Closed | Refused::Parted | Refused::Unasked => {
                    Done::No(Some(Word::NonExistent), "the account was closed")
                }
                Refused::Exhausted => Done::No(Some(Word::Limit), "no UID is left"),
            }
        }
        ChangeError::Append(AppendError::Uncertain(why)) => return Err(io::Error::other(why)),
        ChangeError::Append(AppendError::Full) => {
            Done::No(Some(Word::Unavailable), "no room now, try again later")
        }
        ChangeError::Append(AppendError::TooLarge) => {
            Done::No(Some(Word::TooBig), "too large for one change")
        }
        ChangeError::Append(AppendError::Failed(_)) => {
            Done::No(Some(Word::Unavailable), "the store cannot take it now")
        }
    })
}
