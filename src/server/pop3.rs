//! POP3 sessions: logins checked, maildrops opened and locked, messages sent, removals committed.
//!
//! After a login the session moves to the shard that owns the maildrop, so that no later command
//! crosses cores: the connection, the machine and what was received behind the login go there as
//! one message.

use super::listener::{Admitted, Protocol};
use super::login::{Attempt, Door, Heard, Login};
use super::pace::Coming;
use super::secure::{channel, secure, version};
use super::shard::{Call, Moving, Shard};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::bytes::hash::Map;
use crate::env::bell::Bell;
use crate::env::{Conn as _, Env};
use crate::mailbox::{Accounts, ChangeError, Entry, Guard, INBOX, Marks, View};
use crate::mesh::Full;
use crate::model::id::{AccountId, ShardId, Uid};
use crate::probe::event::{Level, Value, event};
use crate::proto::pop3::{
    Maildrop, Sending, Session, Step, Verdict, ended, octets_sent, removed, unavailable,
};
use crate::proto::sasl::Outcome;
use crate::store::AppendError;
use crate::tls::{Facts, Stream};
use crate::wire::uidl;
use futures_lite::future::or;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A maildrop as one session sees it: a view and the lock.
struct Open {
    view: View,
    /// Sizes of the messages that are sent with other octets than they are stored with.
    sizes: Map<u32, u64>,
    /// With it the account stays awake, as for every session: its rows are in memory in any case, as
    /// those of the view.
    _bell: Rc<Bell>,
    _lock: Guard,
}

impl Open {
    fn new(accounts: &RefCell<Accounts>, account: AccountId, lock: Guard) -> Open {
        let bell = accounts.borrow_mut().bell(account);
        let view = accounts.borrow().view(account, INBOX);
        Open { view, sizes: Map::default(), _bell: bell, _lock: lock }
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        self.view.get(index)
    }
}

impl Maildrop for Open {
    fn count(&self) -> u32 {
        self.view.count()
    }

    fn size(&self, index: u32) -> u64 {
        let stored = || self.entry(index).map_or(0, |entry| u64::from(entry.size));
        self.sizes.get(&index).copied().unwrap_or_else(stored)
    }

    fn put_unique_id(&self, index: u32, out: &mut Chain) {
        let uid = self.entry(index).map_or(Uid(0), |entry| entry.uid);
        let uidvalidity = self.view.uidvalidity();
        let put = match self.view.uidl(uid) {
            Some(form) => uidl::put(form, uid.0, uidvalidity.0, out),
            None => write!(out, "{uidvalidity}.{uid}"),
        };
        put.expect("a chain takes all text");
    }

    fn needs_utf8(&self, index: u32) -> bool {
        self.entry(index).is_some_and(|entry| entry.marks.has(Marks::UTF8_HEADER))
    }
}

struct Driver<E: Env> {
    shard: Rc<Shard<E>>,
    peer: IpAddr,
    tls: Option<Arc<Facts>>,
    session: Session<Open>,
    /// Who has logged in.
    login: Option<Login>,
    attempt: Option<Box<Attempt>>,
    buffer: Buffer,
    coming: Coming,
    out: Chain,
    retrieved: u64,
    octets: u64,
}

/// How a session goes on after what was received.
enum Goes {
    Read,
    Close,
    /// By TLS from here on.
    Secure,
    /// It belongs to another shard now.
    Moved,
}

/// One connection from greeting to end.
pub async fn serve<E: Env>(shard: Rc<Shard<E>>, conn: Stream<E>, admitted: Admitted<E>) {
    let session = Session::new(shard.settings().pop3);
    let mut driver = Driver::new(shard, conn.peer().ip(), session);
    driver.meet(&conn);
    driver.session.greet(&mut driver.out);
    driver.run(conn).await;
    drop(admitted);
}

/// Goes on with a session of another shard, whose user lives here.
pub async fn adopt<E: Env>(shard: Rc<Shard<E>>, moving: Moving<E::Conn>) {
    let Moving { conn, session, unread, login } = moving;
    let Ok(mut conn) = Stream::attach(&shard.env, conn) else { return };
    let peer = conn.peer().ip();
    let mut session = Session::arrive(session);
    let Some(admitted) = Admitted::new(&shard, peer) else {
        shard.figures.turned_away.one();
        let mut out = Chain::new();
        session.login(Verdict::<Open>::Later, &mut out);
        let deadline = shard.env.now().after(shard.settings().write_timeout);
        if conn.write(&mut out, deadline).await.is_ok() {
            conn.close().await;
        }
        return;
    };
    let mut driver = Driver::new(shard, peer, session);
    driver.tls = conn.facts().cloned();
    driver.buffer.push(&unread);
    Box::pin(driver.open(login)).await;
    driver.run(conn).await;
    drop(admitted);
}

impl<E: Env> Driver<E> {
    /// In a box: futures would keep a place for every time it is moved.
    fn new(shard: Rc<Shard<E>>, peer: IpAddr, session: Session<Open>) -> Box<Driver<E>> {
        Box::new(Driver {
            shard,
            peer,
            tls: None,
            session,
            login: None,
            attempt: None,
            buffer: Buffer::new(),
            coming: Coming::default(),
            out: Chain::new(),
            retrieved: 0,
            octets: 0,
        })
    }

    /// Takes in what is to be known of a connection before anything is said on it.
    fn meet(&mut self, conn: &Stream<E>) {
        self.tls = conn.facts().cloned();
        let channel = channel(&self.shard, conn);
        self.session.secure(&channel);
    }

    async fn run(mut self: Box<Self>, mut conn: Stream<E>) {
        let why = loop {
            match Box::pin(self.work(&mut conn)).await {
                Ok(Goes::Read) => {}
                Ok(Goes::Close) => break "quit",
                Ok(Goes::Secure) => {
                    if self.flush(&mut conn).await.is_err() {
                        break "lost";
                    }
                    let Driver { shard, peer, .. } = *self;
                    let shaken = Box::pin(secure(&shard, conn, Protocol::Pop3)).await;
                    let Some(shaken) = shaken else { return };
                    conn = shaken;
                    // All that was said in clear is forgotten, and all that follows it.
                    let session = Session::new(shard.settings().pop3);
                    self = Driver::new(shard, peer, session);
                    self.meet(&conn);
                }
                Ok(Goes::Moved) => {
                    let Some(back) = (*self).depart(conn) else { return };
                    (self, conn) = back;
                    continue;
                }
                Err(_) => break "lost",
            }
            if self.flush(&mut conn).await.is_err() {
                break "lost";
            }
            match self.receive(&mut conn).await {
                Ok(0) => break "closed",
                Ok(usize::MAX) => break "draining",
                Ok(_) => {
                    let standing = self.login.as_ref().map(|login| &login.standing);
                    if let Some(why) = standing.and_then(|standing| self.shard.ended(standing)) {
                        // RFC 1939 §6: no UPDATE for who did not get to QUIT.
                        ended(why.words(), &mut self.out);
                        break "ended";
                    }
                }
                // RFC 1939 §3: no answer, no UPDATE.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break "timeout",
                Err(_) => break "lost",
            }
        };
        self.tell(why);
        let Driver { session, shard, mut out, .. } = *self;
        // The lock is free before the client can hear of the end.
        drop(session);
        let deadline = shard.env.now().after(shard.settings().write_timeout);
        if out.is_empty() || conn.write(&mut out, deadline).await.is_ok() {
            conn.close().await;
        }
    }

    async fn flush(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = self.shard.env.now().after(self.shard.settings().write_timeout);
        conn.write(&mut self.out, deadline).await
    }

    async fn receive(&mut self, conn: &mut Stream<E>) -> io::Result<usize> {
        let now = self.shard.env.now();
        let deadline = now.after(self.shard.settings().pop3_idle_timeout);
        let is_begun = !self.buffer.filled().is_empty() || self.session.is_in_line();
        let deadline = self.coming.deadline(is_begun, now, deadline);
        let draining = async {
            self.shard.draining.wait().await;
            Ok(usize::MAX)
        };
        or(conn.read(&mut self.buffer, deadline), draining).await
    }

    /// Steps through all that was received.
    async fn work(&mut self, conn: &mut Stream<E>) -> io::Result<Goes> {
        loop {
            if self.out.len() > self.shard.settings().reply_octets_max {
                self.flush(conn).await?;
            }
            let (used, step) = self.session.step(self.buffer.filled(), &mut self.out);
            self.buffer.consume(used);
            if used > 0 && !self.session.is_in_line() {
                self.coming.ended();
            }
            match step {
                Step::Read => return Ok(Goes::Read),
                Step::Close => return Ok(Goes::Close),
                Step::Secure => return Ok(Goes::Secure),
                Step::Continue => {}
                Step::Login(credentials) => {
                    let shard = Rc::clone(&self.shard);
                    let login = Box::pin(shard.log_in(&self.door(), credentials, "USER")).await;
                    if !Box::pin(self.on_login(conn, login)).await? {
                        return Ok(Goes::Moved);
                    }
                }
                Step::Auth(said) => {
                    let shard = Rc::clone(&self.shard);
                    match Box::pin(shard.hear(&self.door(), &mut self.attempt, said)).await {
                        Heard::Challenge(octets) => {
                            let attempt = self.attempt.as_ref();
                            let is_refused = attempt.is_some_and(|open| open.is_refused());
                            self.session.challenge(&octets, is_refused, &mut self.out);
                        }
                        Heard::Done(login) => {
                            if !Box::pin(self.on_login(conn, login)).await? {
                                return Ok(Goes::Moved);
                            }
                        }
                    }
                }
                Step::Retrieve { index } => Box::pin(self.send(conn, index, None)).await?,
                Step::Top { index, lines } => {
                    Box::pin(self.send(conn, index, Some(lines))).await?;
                }
                Step::Update => Box::pin(self.on_update()).await?,
            }
        }
    }

    fn door(&self) -> Door {
        Door {
            protocol: "pop3",
            peer: self.peer,
            channel: self.session.channel().clone(),
            offered: self.session.mechanisms(),
        }
    }

    /// False: the session moves to another shard; `login` says whose it is.
    async fn on_login(
        &mut self,
        conn: &mut Stream<E>,
        login: Result<Login, Outcome>,
    ) -> io::Result<bool> {
        match login {
            Ok(login) if login.log == self.shard.log.id() => {
                self.open(login).await;
            }
            Ok(login) => {
                self.flush(conn).await?;
                self.login = Some(login);
                return Ok(false);
            }
            Err(outcome) => {
                self.shard.figures.logins_failed.one();
                self.session.login(Verdict::refused(outcome), &mut self.out);
            }
        }
        Ok(true)
    }

    /// Hands the session to the shard that owns its maildrop. Comes back with it, and a login that
    /// is to be tried later, if that one has more to do than it may queue.
    fn depart(self, conn: Stream<E>) -> Option<(Box<Driver<E>>, Stream<E>)> {
        let Driver { shard, peer, session, login, buffer, .. } = self;
        let login = login?;
        let owner = ShardId(login.log.0);
        let moving = Moving {
            conn: conn.detach().ok()?,
            session: session.depart(),
            unread: buffer.filled().to_vec(),
            login,
        };
        let Err(Full(Call::Pop3(moving))) = shard.mesh.send(owner, Call::Pop3(Box::new(moving)))
        else {
            return None;
        };
        event(Level::Warn, "shard_busy", &[("shard", owner.0.into())]);
        let conn = Stream::attach(&shard.env, moving.conn).ok()?;
        let mut driver = Driver::new(shard, peer, Session::arrive(moving.session));
        driver.tls = conn.facts().cloned();
        driver.buffer = buffer;
        driver.session.login(Verdict::Later, &mut driver.out);
        Some((driver, conn))
    }

    /// Locks and opens the maildrop of a user who has shown the right password.
    async fn open(&mut self, login: Login) {
        let account = login.account;
        let verdict = match self.shard.locks.lock(account) {
            None => Verdict::InUse,
            Some(lock) => {
                let mut open = Open::new(&self.shard.accounts, account, lock);
                open.sizes = self.odd_sizes(&open.view).await;
                Verdict::Open(open)
            }
        };
        let opened = matches!(verdict, Verdict::Open(_));
        if opened {
            self.shard.figures.logins.one();
        }
        let peer = self.peer;
        event(
            Level::Info,
            "login",
            &[
                ("protocol", "pop3".into()),
                ("peer", Value::Shown(&peer)),
                ("user", (&*login.user).into()),
                ("method", login.method.into()),
                ("tls", version(self.tls.as_ref()).into()),
                ("opened", opened.into()),
            ],
        );
        self.login = Some(login);
        self.session.login(verdict, &mut self.out);
    }

    /// Sizes as they will be sent of messages that are not plain text lines: those have to be read.
    async fn odd_sizes(&self, view: &View) -> Map<u32, u64> {
        let mut sizes = Map::default();
        for index in 0..view.count() {
            let Some(entry) = view.get(index) else { continue };
            if !entry.marks.has(Marks::BINARY) && !entry.marks.has(Marks::OPEN_END) {
                continue;
            }
            if let Ok(blob) = self.shard.log.read(entry.blob).await {
                sizes.insert(index, octets_sent(blob.octets()));
            }
            self.shard.env.breathe().await;
        }
        sizes
    }

    /// Sends a message, or the top of it, as the reader takes it.
    async fn send(
        &mut self,
        conn: &mut Stream<E>,
        index: u32,
        lines: Option<u32>,
    ) -> io::Result<()> {
        let Some(maildrop) = self.session.maildrop() else { return Ok(()) };
        let (entry, size) = (maildrop.entry(index), maildrop.size(index));
        let Some(entry) = entry else {
            unavailable(&mut self.out);
            return Ok(());
        };
        let read = self.shard.log.read(entry.blob).await;
        // The history of the account may have the octets still.
        if !self.still_holds(&entry) {
            removed(&mut self.out);
            return Ok(());
        }
        let blob = match read {
            Ok(blob) => blob,
            Err(error) => {
                let account = self.login.as_ref().map_or(AccountId(0), |login| login.account);
                self.shard.tell_unreadable(account, &entry, &error);
                unavailable(&mut self.out);
                return Ok(());
            }
        };
        let (owner, range) = blob.message();
        let mut sending = match lines {
            None => Sending::whole(range, size, &mut self.out),
            Some(lines) => Sending::top(owner, range, lines, &mut self.out),
        };
        self.retrieved += 1;
        self.octets += size;
        self.shard.figures.retrieved.one();
        while !sending.fill(owner, &mut self.out) {
            self.flush(conn).await?;
        }
        Ok(())
    }

    /// Whether the maildrop, as it is now and not as it was opened, has the message.
    fn still_holds(&self, entry: &Entry) -> bool {
        let Some(Login { account, .. }) = &self.login else { return false };
        self.shard.accounts.borrow().blob(*account, INBOX, entry.uid) == Some(entry.blob)
    }

    /// Removes what is marked, as one commit (RFC 1939 §6). An error: nobody knows whether that
    /// counts, so that neither answer would be right.
    async fn on_update(&mut self) -> io::Result<()> {
        let uids: Vec<Uid> = {
            let maildrop = self.session.maildrop();
            let of = |index| maildrop.and_then(|maildrop| maildrop.entry(index));
            self.session.deleted().filter_map(of).map(|entry| entry.uid).collect()
        };
        let removed = match (&self.login, uids.is_empty()) {
            (_, true) => Ok(0),
            // In the account's turn: an IMAP session may be moving the same messages away.
            (Some(login), false) => self.shard.desk.expunge(login.account, INBOX, &uids).await,
            (None, false) => Err(ChangeError::Missing),
        };
        match removed {
            Ok(count) => self.shard.figures.removed.add(count as u64),
            Err(ChangeError::Append(AppendError::Uncertain(why))) => {
                return Err(io::Error::other(why));
            }
            Err(_) => {}
        }
        self.session.updated(removed.is_ok(), &mut self.out);
        Ok(())
    }

    fn tell(&self, why: &str) {
        let Some(Login { user, .. }) = &self.login else { return };
        let peer = self.peer;
        event(
            Level::Info,
            "logout",
            &[
                ("protocol", "pop3".into()),
                ("peer", Value::Shown(&peer)),
                ("user", (&**user).into()),
                ("why", why.into()),
                ("messages", self.retrieved.into()),
                ("octets", self.octets.into()),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Locks;
    use crate::model::id::Lsn;
    use crate::store::Machine as _;

    #[test]
    fn an_account_stays_awake_while_its_maildrop_is_open() {
        let accounts = RefCell::new(Accounts::new());
        let (locks, id) = (Locks::new(), AccountId(1));
        // The page of an account without anything.
        accounts.borrow_mut().load(1, 0, Lsn(1), &[4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let turn = || {
            let mut accounts = accounts.borrow_mut();
            accounts.set_memory(0);
            accounts.begin_turn();
            while accounts.turn() {}
            accounts.awake()
        };
        let open = Open::new(&accounts, id, locks.lock(id).unwrap());
        assert_eq!(turn(), 1);
        drop(open);
        assert_eq!(turn(), 0);
    }
}
