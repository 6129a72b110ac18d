//! LOGIN and AUTHENTICATE, and the way to the shard that owns the account.

use super::{Done, Driver, Goes, Mode, Outcome, User, offer};
use crate::env::{Conn, Env};
use crate::mailbox::Use;
use crate::mesh::Full;
use crate::model::id::ShardId;
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{self, Credentials, Mechanism, Move, Response};
use crate::server::listener::Admitted;
use crate::server::login::{Door, Heard, Login, tell_failed};
use crate::server::secure::version;
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
    login: Login,
    tag: Box<str>,
    errors: u32,
    /// What is hidden from this client.
    client: Capabilities,
}

/// Goes on with a session of another shard, whose user lives here.
pub async fn adopt<E: Env>(shard: Rc<Shard<E>>, moving: Moving<E::Conn>) {
    let Moving { conn, unread, login, tag, errors, client } = moving;
    let Ok(mut conn) = Stream::attach(&shard.env, conn) else { return };
    let peer = conn.peer().ip();
    let mut driver = Driver::new(Rc::clone(&shard), peer);
    driver.meet(&conn);
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
    if let Ok(done) = Box::pin(driver.open(login, &tag)).await {
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
        let policy = self.shard.settings().imap.auth;
        if !policy.has_passwords() {
            return Ok(Done::No(Some(Word::Cannot), "LOGIN is not offered: use AUTHENTICATE"));
        }
        if !policy.takes_passwords(self.channel()) {
            return Ok(Done::No(Some(Word::PrivacyRequired), "not in clear"));
        }
        let (user, password) = (user.octets(), password.0.octets());
        if let (Ok(user), Ok(password)) = (sasl::prepare(&user), sasl::prepare(&password)) {
            let credentials = Credentials::new(&user, &password);
            let shard = Rc::clone(&self.shard);
            let login = Box::pin(shard.log_in(&self.door(), credentials, "LOGIN")).await;
            self.on_login(tag, login).await
        } else {
            tell_failed(&self.door(), "", "LOGIN", sasl::Outcome::Malformed);
            Ok(self.refuse_login(sasl::Outcome::Malformed))
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
        let policy = self.shard.settings().imap.auth;
        let known = Mechanism::find(mechanism.as_bytes());
        let Some(mechanism) = known.filter(|one| policy.mechanisms.has(*one)) else {
            return Ok(Done::No(Some(Word::Cannot), "this mechanism is not offered"));
        };
        if !policy.offered(self.channel()).has(mechanism) {
            return Ok(if self.channel().encrypted {
                Done::No(Some(Word::Cannot), "not on this connection")
            } else {
                Done::No(Some(Word::PrivacyRequired), "not in clear")
            });
        }
        let initial = initial.map(|initial| sasl::initial_response(&initial.0.octets()));
        match initial.transpose() {
            Ok(initial) => self.hear(tag, Move::Begin(mechanism, initial)).await,
            Err(_) => Ok(Done::Bad("the initial response is not base64")),
        }
    }

    /// The line that answers the challenge.
    pub(super) async fn on_sasl(&mut self, line: &[u8]) -> io::Result<Option<Goes>> {
        let Mode::Sasl { tag } = std::mem::replace(&mut self.mode, Mode::Command) else {
            return Ok(None);
        };
        let done = match sasl::response(line) {
            Ok(Response::Data(message)) => self.hear(&tag, Move::Respond(message)).await?,
            Ok(Response::Cancel) => {
                self.break_off();
                Done::Bad("given up")
            }
            Err(_) => {
                self.break_off();
                Done::Bad("that is not base64")
            }
        };
        Ok(self.end(&tag, done))
    }

    /// The exchange ends unanswered. Who gives up when he hears that he is not let in has tried all the
    /// same.
    pub(super) fn break_off(&mut self) {
        if self.attempt.take().is_some_and(|open| open.is_refused()) {
            self.count_failed_login();
        }
    }

    fn door(&self) -> Door {
        Door {
            protocol: "imap",
            peer: self.peer,
            channel: self.channel().clone(),
            offered: self.shard.settings().imap.auth.offered(self.channel()),
        }
    }

    async fn hear(&mut self, tag: &str, said: Move) -> Outcome {
        let shard = Rc::clone(&self.shard);
        match Box::pin(shard.hear(&self.door(), &mut self.attempt, said)).await {
            Heard::Challenge(octets) => {
                self.out.put(format!("+ {}\r\n", sasl::encode(&octets)).as_bytes());
                self.mode = Mode::Sasl { tag: tag.into() };
                Ok(Done::Challenged)
            }
            Heard::Done(login) => self.on_login(tag, login).await,
        }
    }

    async fn on_login(&mut self, tag: &str, login: Result<Login, sasl::Outcome>) -> Outcome {
        let login = match login {
            Ok(login) => login,
            Err(sasl::Outcome::Later) => {
                return Ok(Done::No(Some(Word::Unavailable), "try again later"));
            }
            Err(outcome) => return Ok(self.refuse_login(outcome)),
        };
        if login.log == self.shard.log.id() {
            return self.open(login, tag).await;
        }
        self.mode = Mode::Sasl { tag: tag.into() };
        Ok(Done::Moved(login))
    }

    /// RFC 5530 §3.
    fn refuse_login(&mut self, outcome: sasl::Outcome) -> Done {
        self.count_failed_login();
        match outcome {
            sasl::Outcome::Foreign => {
                Done::No(Some(Word::AuthorizationFailed), "you may not act for that user")
            }
            _ => Done::No(Some(Word::AuthenticationFailed), "wrong user or password"),
        }
    }

    fn count_failed_login(&mut self) {
        self.shard.figures.imap_logins_failed.one();
        self.logins_failed += 1;
        if self.logins_failed >= self.shard.settings().imap.logins_failed_max {
            // One more answer, then the end.
            self.errors = u32::MAX;
        }
    }

    /// The user has shown the right password and lives here.
    async fn open(&mut self, login: Login, tag: &str) -> Outcome {
        let Login { account, user, method, standing, .. } = login;
        let shard = Rc::clone(&self.shard);
        if let Err(error) = shard.desk.prepare(account, &USUAL).await {
            return super::refused(error);
        }
        shard.figures.imap_logins.one();
        let peer = self.peer;
        let fields = [
            ("protocol", "imap".into()),
            ("peer", Value::Shown(&peer)),
            ("user", (&*user).into()),
            ("method", method.into()),
            ("tls", version(self.tls.as_ref()).into()),
        ];
        event(Level::Info, "login", &fields);
        let bell = shard.accounts.borrow_mut().bell(account);
        self.user = Some(User { account, name: user, standing, bell, selected: None });
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
        login: Login,
    ) -> Option<(Box<Driver<E>>, Stream<E>)> {
        let Driver { shard, peer, mode, buffer, errors, client, .. } = self;
        let Mode::Sasl { tag } = mode else { return None };
        let owner = ShardId(login.log.0);
        let moving = Moving {
            conn: conn.detach().ok()?,
            unread: buffer.filled().to_vec(),
            login,
            tag,
            errors,
            client,
        };

        let Err(Full(Call::Imap(moving))) = shard.mesh.send(owner, Call::Imap(Box::new(moving)))
        else {
            return None;
        };
        event(Level::Warn, "shard_busy", &[("shard", owner.0.into())]);
        let conn = Stream::attach(&shard.env, moving.conn).ok()?;
        let mut driver = Driver::new(shard, peer);
        driver.meet(&conn);
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
