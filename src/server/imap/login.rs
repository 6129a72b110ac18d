//! LOGIN and AUTHENTICATE, and the way to the shard that owns the account.

use super::{Done, Driver, Goes, Mode, Outcome, User, offer};
use crate::auth;
use crate::env::{Conn, Env};
use crate::mailbox::Use;
use crate::mesh::Full;
use crate::model::id::{AccountId, ShardId};
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{self, Response, plain};
use crate::server::listener::Admitted;
use crate::server::shard::{Call, Shard};
use crate::tls::{Detached, Stream};
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::command::IdPair;
use crate::wire::imap::reply::put_id;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::scan::{Secret, Text};
use std::io;
use std::rc::Rc;

/// The mailboxes that an account has from its first login on.
const USUAL: [(&str, Use); 5] = [
    ("Archive", Use::ARCHIVE),
    ("Drafts", Use::DRAFTS),
    ("Junk", Use::JUNK),
    ("Sent", Use::SENT),
    ("Trash", Use::TRASH),
];

/// A session on its way to the shard of its account.
pub struct Moving<C: Conn> {
    conn: Detached<C>,
    /// What was received behind the login.
    unread: Vec<u8>,
    account: AccountId,
    user: Box<str>,
    tag: Box<str>,
    errors: u32,
    /// What is hidden from this client.
    client: Capabilities,
}

/// Goes on with a session of another shard, whose user lives here.
pub async fn adopt<E: Env>(shard: Rc<Shard<E>>, moving: Moving<E::Conn>) {
    let Moving { conn, unread, account, user, tag, errors, client } = moving;
    let Ok(mut conn) = Stream::attach(&shard.env, conn) else { return };
    let peer = conn.peer().ip();
    let mut driver = Driver::new(Rc::clone(&shard), peer);
    driver.errors = errors;
    driver.client = client;
    let Some(admitted) = Admitted::new(&shard, peer) else {
        shard.figures.turned_away.one();
        let no = Status::tagged(&tag, Kind::No, "too many connections, try again later");
        no.because(Word::Unavailable).put(&mut driver.out);
        if driver.flush(&mut conn).await.is_ok() {
            conn.close().await;
        }
        return;
    };
    driver.buffer.push(&unread);
    if let Ok(done) = Box::pin(driver.open(account, user, &tag)).await {
        driver.end(&tag, done);
        driver.run(conn).await;
    }
    drop(admitted);
}

impl<E: Env> Driver<E> {
    pub(super) fn id(&mut self, fields: &[IdPair<'_>]) -> Done {
        let text = |text: &Text<'_>| String::from_utf8_lossy(&text.octets()).into_owned();
        let told: Vec<String> = fields
            .iter()
            .filter_map(|(name, value)| Some(format!("{}={}", text(name), text(&(*value)?))))
            .collect();
        if !told.is_empty() {
            let (told, peer) = (told.join(" "), self.peer);
            let fields = [("peer", Value::Shown(&peer)), ("client", told.as_str().into())];
            event(Level::Info, "imap_id", &fields);
        }
        if self.set_client(fields) {
            self.put_capability();
        }
        let version = env!("CARGO_PKG_VERSION");
        put_id(&mut self.out, &[("name", Some("Pombal")), ("version", Some(version))]);
        Done::Ok("pleased to meet you")
    }

    pub(super) async fn login(
        &mut self,
        tag: &str,
        user: Text<'_>,
        password: Secret<'_>,
    ) -> Outcome {
        if self.user.is_some() {
            return Ok(Done::Bad("somebody has logged in already"));
        }
        if !self.shard.settings().imap.plaintext {
            return Ok(Done::No(Some(Word::PrivacyRequired), "not in clear"));
        }
        let (user, password) = (user.octets(), password.0.octets());
        match (sasl::prepare(&user), sasl::prepare(&password)) {
            (Ok(user), Ok(password)) => self.check(tag, &user, &password).await,
            _ => Ok(self.refuse_login("")),
        }
    }

    pub(super) async fn authenticate(
        &mut self,
        tag: &str,
        mechanism: &str,
        initial: Option<Secret<'_>>,
    ) -> Outcome {
        if self.user.is_some() {
            return Ok(Done::Bad("somebody has logged in already"));
        }
        if !mechanism.eq_ignore_ascii_case("PLAIN") {
            return Ok(Done::No(Some(Word::Cannot), "this mechanism is not offered"));
        }
        if !self.shard.settings().imap.plaintext {
            return Ok(Done::No(Some(Word::PrivacyRequired), "not in clear"));
        }
        let Some(initial) = initial else {
            self.out.put(b"+ \r\n");
            self.mode = Mode::Sasl { tag: tag.into() };
            return Ok(Done::Said);
        };
        match sasl::initial_response(&initial.0.octets()) {
            Ok(message) => self.check_plain(tag, &message).await,
            Err(_) => Ok(Done::Bad("the initial response is not base64")),
        }
    }

    /// The line that answers the challenge.
    pub(super) async fn on_sasl(&mut self, line: &[u8]) -> io::Result<Option<Goes>> {
        let Mode::Sasl { tag } = std::mem::replace(&mut self.mode, Mode::Command) else {
            return Ok(None);
        };
        let done = match sasl::response(line) {
            Ok(Response::Data(message)) => self.check_plain(&tag, &message).await?,
            Ok(Response::Cancel) => Done::Bad("given up"),
            Err(_) => Done::Bad("that is not base64"),
        };
        Ok(self.end(&tag, done))
    }

    async fn check_plain(&mut self, tag: &str, message: &[u8]) -> Outcome {
        match plain::read(message) {
            Ok(credentials) => {
                self.check(tag, &credentials.user, credentials.password.expose()).await
            }
            Err(_) => Ok(self.refuse_login("")),
        }
    }

    async fn check(&mut self, tag: &str, user: &str, password: &str) -> Outcome {
        let shard = Rc::clone(&self.shard);
        let snapshot = shard.directory();
        let names = &shard.settings().directory;
        let env = shard.env.clone();
        let sleep = async move |pause| env.sleep(pause).await;
        let now = shard.env.now();
        let claim = auth::Claim { user, password, peer: self.peer };
        let checked = shard.authenticator.verify(&snapshot, names, claim, now, sleep).await;
        match checked {
            auth::Verdict::Account(account) if shard.owner(account) == shard.log.id() => {
                self.open(account, user.into(), tag).await
            }
            auth::Verdict::Account(account) => {
                let bell = shard.accounts.borrow_mut().bell(account);
                self.user = Some(User { account, name: user.into(), bell, selected: None });
                self.mode = Mode::Sasl { tag: tag.into() };
                Ok(Done::Moved(account))
            }
            auth::Verdict::Refused | auth::Verdict::Disabled => Ok(self.refuse_login(user)),
            auth::Verdict::Busy => Ok(Done::No(Some(Word::Unavailable), "try again later")),
        }
    }

    fn refuse_login(&mut self, user: &str) -> Done {
        self.shard.figures.imap_logins_failed.one();
        let peer = self.peer;
        let fields =
            [("protocol", "imap".into()), ("peer", Value::Shown(&peer)), ("user", user.into())];
        event(Level::Info, "login_failed", &fields);
        self.logins_failed += 1;
        if self.logins_failed >= self.shard.settings().imap.logins_failed_max {
            // One more NO, then the end.
            self.errors = u32::MAX;
        }
        Done::No(Some(Word::AuthenticationFailed), "wrong user or password")
    }

    /// The user has shown the right password and lives here.
    async fn open(&mut self, account: AccountId, user: Box<str>, tag: &str) -> Outcome {
        let shard = Rc::clone(&self.shard);
        if let Err(error) = shard.desk.prepare(account, &USUAL).await {
            return super::refused(error);
        }
        shard.figures.imap_logins.one();
        let peer = self.peer;
        let fields =
            [("protocol", "imap".into()), ("peer", Value::Shown(&peer)), ("user", (&*user).into())];
        event(Level::Info, "login", &fields);
        let bell = shard.accounts.borrow_mut().bell(account);
        self.user = Some(User { account, name: user, bell, selected: None });
        self.mode = Mode::Command;
        self.set_mask();
        let words = self.words();
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        let ok = Status::tagged(tag, Kind::Ok, "logged in");
        ok.with(Code::Capability(&words)).put(&mut self.out);
        Ok(Done::Said)
    }

    /// Hands the session to the shard that owns the account. Comes back with it, and a login that
    /// is to be tried later, if that one has more to do than it may queue.
    pub(super) fn depart(
        self,
        conn: Stream<E>,
        account: AccountId,
    ) -> Option<(Box<Driver<E>>, Stream<E>)> {
        let Driver { shard, peer, user, mode, buffer, errors, client, .. } = self;
        let Mode::Sasl { tag } = mode else { return None };
        let moving = Moving {
            conn: conn.detach().ok()?,
            unread: buffer.filled().to_vec(),
            account,
            user: user?.name,
            tag,
            errors,
            client,
        };
        let owner = ShardId(shard.owner(account).0);
        let Err(Full(Call::Imap(moving))) = shard.mesh.send(owner, Call::Imap(Box::new(moving)))
        else {
            return None;
        };
        event(Level::Warn, "shard_busy", &[("shard", owner.0.into())]);
        let conn = Stream::attach(&shard.env, moving.conn).ok()?;
        let mut driver = Driver::new(shard, peer);
        driver.buffer = buffer;
        driver.client = moving.client;
        driver.set_mask();
        let no = Status::tagged(&moving.tag, Kind::No, "try again later");
        no.because(Word::Unavailable).put(&mut driver.out);
        Some((driver, conn))
    }

    /// RFC 8437: as if the connection were new.
    pub(super) async fn unauthenticate(&mut self, conn: &mut Stream<E>, tag: &str) -> Outcome {
        self.tell("unauthenticate");
        self.user = None;
        self.begun = self.shard.env.now();
        self.enabled = offer::Enabled::default();
        self.errors = 0;
        self.set_mask();
        Status::tagged(tag, Kind::Ok, "nobody is logged in").put(&mut self.out);
        if self.squeeze.is_some() {
            // The answer is the last that is deflated, the command was the last of the client.
            self.flush(conn).await?;
            self.buffer = self.squeeze.take().map(|squeeze| squeeze.raw).unwrap_or_default();
        }
        Ok(Done::Said)
    }
}
