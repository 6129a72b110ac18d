//! A server of others: takes mail, well or as badly as its temper has it.

use super::books::{Delivery, Sender, seconds};
use super::case::{Case, SINK_SHARD, address_of};
use super::life::World;
use super::places::{Door, Mood, Server};
use super::report::{is_report, number_of};
use crate::peer::Peer;
use pombal::env::sim::{Chance, Sim, SimEnv};
use pombal::env::{Env as _, Listener as _};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Lines of an answer without an end, at most.
const ENDLESS_LINES: usize = 4_096;
/// How long somebody is put off who is not known.
const GREY_SECONDS: u64 = 8;

/// One server.
pub(crate) struct Sink {
    env: SimEnv,
    world: Rc<World>,
    case: Rc<Case>,
    number: usize,
    chance: Chance,
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    Later,
    Never,
}

/// A connection.
struct Session {
    sink: Rc<Sink>,
    peer: Peer,
    node: usize,
    connection: usize,
    /// Of the transaction that is open.
    sender: Option<String>,
    recipients: Vec<String>,
    /// Its commands, in full.
    commands: Vec<String>,
    chunks: Vec<u8>,
    mails: u32,
    /// Taken, and it is not known whether the client knows.
    unconfirmed: Vec<Rc<Delivery>>,
}

/// Lets all servers serve that can be reached.
pub(crate) fn open_all(sim: &Sim, world: &Rc<World>, case: &Rc<Case>) {
    let env = sim.env(SINK_SHARD);
    for (number, server) in case.places.hosts.iter().enumerate() {
        match server.door {
            Door::Open => {
                let sink = Rc::new(Sink {
                    env: env.clone(),
                    world: Rc::clone(world),
                    case: Rc::clone(case),
                    number,
                    chance: Chance::new(sim.chance().bits() ^ number as u64),
                });
                env.spawn(sink.serve());
            }
            Door::Shut | Door::Dark => {}
        }
    }
    darken(&env, case);
}

/// Cuts off those whom nobody ever reaches.
pub(crate) fn darken(env: &SimEnv, case: &Case) {
    for server in case.places.hosts.iter().filter(|server| server.door == Door::Dark) {
        for node in 0..case.nodes.len() {
            env.cut(address_of(node), server.ip);
        }
    }
}

impl Sink {
    fn server(&self) -> &Server {
        &self.case.places.hosts[self.number]
    }

    async fn serve(self: Rc<Self>) {
        let address = SocketAddr::new(self.server().ip, 25);
        let listener = self.env.listen(address).expect("nobody else listens there");
        while let Ok(conn) = listener.accept().await {
            let peer = Peer::of(&self.env, conn);
            let from = peer.address().ip();
            let Some(node) = (0..self.case.nodes.len()).find(|&node| address_of(node) == from)
            else {
                self.world.fail(format!("R8: somebody comes from {from}"));
                continue;
            };
            let now = self.env.now();
            let opened = self.world.limits.borrow_mut().open(self.number, node, now);
            let session = Session {
                sink: Rc::clone(&self),
                peer,
                node,
                connection: opened,
                sender: None,
                recipients: Vec::new(),
                commands: Vec::new(),
                chunks: Vec::new(),
                mails: 0,
                unconfirmed: Vec::new(),
            };
            self.env.spawn(session.run());
            self.env.spawn(Rc::clone(&self).look(node));
        }
    }

    /// Looks a little later how many connections there were.
    async fn look(self: Rc<Self>, node: usize) {
        let then = self.env.now();
        self.env.sleep(Duration::from_millis(20)).await;
        let verdict =
            self.world.limits.borrow().check_open(&self.world, &self.case, self.number, node, then);
        if let Err(what) = verdict {
            self.world.fail(what);
        }
    }

    fn mood(&self) -> Option<Mood> {
        let temper = &self.server().temper;
        let is_healed = self.world.is_healed.get() && !temper.stays;
        let is_bad = !is_healed && self.chance.below(1_000) < temper.permille;
        is_bad.then(|| temper.moods[self.chance.index(temper.moods.len())])
    }

    /// A reply, with its enhanced code if this server has any.
    fn reply(&self, code: u16, enhanced: &str, text: &str) -> String {
        if self.server().offers.enhanced {
            format!("{code} {enhanced} {text}\r\n")
        } else {
            format!("{code} {text}\r\n")
        }
    }
}

impl Session {
    async fn run(mut self) {
        let (sink, connection) = (Rc::clone(&self.sink), self.connection);
        let ended = self.talk().await;
        sink.world.note(&sink.env, || {
            let name = &sink.server().name;
            format!("{name}: connection {connection} of node {} ends: {ended:?}", self.node)
        });
        sink.world.limits.borrow_mut().ended(sink.number, connection);
        self.peer.close().await;
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        let sink = &self.sink;
        sink.world
            .note(&sink.env, || format!("{} {}: {text:?}", sink.server().name, self.connection));
        self.peer.send(text.as_bytes()).await
    }

    /// Says yes, or what the mood makes of it.
    async fn answer(&mut self, yes: &str) -> io::Result<Said> {
        let mood = self.sink.mood();
        self.answer_by(mood, yes).await
    }

    /// As [`Session::answer`], to what no server says no to (RFC 5321 §4.1.1.5, §4.1.1.10).
    async fn obey(&mut self, yes: &str) -> io::Result<Said> {
        let mood = self.sink.mood();
        let mood = mood.filter(|mood| !matches!(mood, Mood::Defer | Mood::Refuse));
        self.answer_by(mood, yes).await
    }

    async fn answer_by(&mut self, mood: Option<Mood>, yes: &str) -> io::Result<Said> {
        match mood {
            None => {}
            Some(Mood::Slow) => {
                let pause = Duration::from_millis(self.sink.chance.between(100, 4_000));
                self.sink.env.sleep(pause).await;
            }
            Some(Mood::Defer) => {
                let later = self.sink.reply(451, "4.7.1", "later");
                self.send(&later).await?;
                return Ok(Said::Later);
            }
            Some(Mood::Refuse) => {
                let never = self.sink.reply(550, "5.7.1", "never");
                self.send(&never).await?;
                return Ok(Said::Never);
            }
            Some(mood) => return self.end(mood).await,
        }
        self.send(yes).await?;
        Ok(Said::Yes)
    }

    /// Ends the connection in one of the bad ways.
    async fn end(&mut self, mood: Mood) -> io::Result<Said> {
        match mood {
            Mood::Silent => self.linger().await?,
            Mood::Closing => {
                let closing = self.sink.reply(421, "4.3.2", "closing");
                self.send(&closing).await?;
            }
            Mood::Garble => {
                let all = ["hello\r\n", "2x0 ok\r\n", "999 what\r\n", "25", "250-a\r\n550 b\r\n"];
                self.send(all[self.sink.chance.index(all.len())]).await?;
                self.linger().await?;
            }
            Mood::Endless => {
                for _ in 0..ENDLESS_LINES {
                    self.peer.send(b"250-and on and on and on and on and on and on\r\n").await?;
                }
            }
            _ => {}
        }
        Err(io::Error::other(format!("{mood:?}")))
    }

    /// Listens, and says nothing.
    async fn linger(&mut self) -> io::Result<()> {
        loop {
            self.peer.line().await?;
        }
    }

    async fn talk(&mut self) -> io::Result<()> {
        let greeting = format!("220 {} ESMTP\r\n", self.sink.server().name);
        if self.answer(&greeting).await? != Said::Yes {
            return Ok(());
        }
        loop {
            let line = self.peer.line().await?;
            // Whatever was answered before is on the client's disk.
            self.unconfirmed.drain(..).for_each(|one| one.is_confirmed.set(true));
            let line = String::from_utf8_lossy(&line).into_owned();
            self.sink.world.note(&self.sink.env, || {
                format!("{} {}: <- {line}", self.sink.server().name, self.connection)
            });
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match &*verb {
                "EHLO" => self.hello().await?,
                "MAIL" => self.mail(&line).await?,
                "RCPT" => self.rcpt(&line).await?,
                "DATA" => self.data().await?,
                "BDAT" => self.bdat(&line).await?,
                "RSET" => {
                    self.reset();
                    self.obey("250 reset\r\n").await?;
                }
                "QUIT" => {
                    self.sink.world.limits.borrow_mut().ended(self.sink.number, self.connection);
                    self.obey("221 bye\r\n").await?;
                    return Ok(());
                }
                "HELO" | "NOOP" => drop(self.answer("250 hello\r\n").await?),
                _ => self.send("500 what\r\n").await?,
            }
        }
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.commands.clear();
        self.chunks.clear();
    }

    async fn hello(&mut self) -> io::Result<()> {
        let server = self.sink.server();
        let offers = server.offers;
        if !offers.extended {
            return self.send("502 what\r\n").await;
        }
        let words = [
            (offers.pipelining, "PIPELINING"),
            (offers.chunking, "CHUNKING"),
            (offers.eight_bit, "8BITMIME"),
            (offers.dsn, "DSN"),
            (offers.size, "SIZE 1000000"),
            (offers.enhanced, "ENHANCEDSTATUSCODES"),
        ];
        let words = words.into_iter().filter_map(|(has, word)| has.then_some(word));
        let mut lines: Vec<&str> = std::iter::once(&*server.name).chain(words).collect();
        let last = lines.pop().unwrap_or_default();
        let lines = lines.iter().fold(String::new(), |all, line| all + "250-" + line + "\r\n");
        let yes = format!("{lines}250 {last}\r\n");
        self.answer(&yes).await.map(|_| ())
    }

    async fn mail(&mut self, line: &str) -> io::Result<()> {
        self.mails += 1;
        if self.sink.server().temper.mails_max.is_some_and(|max| self.mails > max) {
            return self.end(Mood::Closing).await.map(|_| ());
        }
        self.reset();
        self.commands.push(line.to_owned());
        match self.answer("250 sender\r\n").await? {
            Said::Yes => self.sender = Some(path(line)),
            Said::Later => {}
            Said::Never => self.sink.world.books.borrow_mut().refused_sender(self.sink.number),
        }
        Ok(())
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<()> {
        let address = path(line);
        self.commands.push(line.to_owned());
        let sink = Rc::clone(&self.sink);
        let Some(sender) = self.sender.clone() else {
            return self.send("503 no sender\r\n").await;
        };
        let place = (sink.number, self.node, self.connection);
        let now = (sink.env.now(), sink.env.wall());
        let tried =
            sink.world.limits.borrow_mut().tried(&sink.world, &sink.case, place, &address, now);
        if let Err(what) = tried {
            sink.world.fail(what);
        }
        let serves = sink.case.places.domain_of(&address);
        if !serves.is_some_and(|domain| domain.servers.contains(&sink.number)) {
            sink.world.fail(format!("R1: {address} is sent to {}", sink.server().name));
        }
        let temper = &sink.server().temper;
        if address.starts_with("no") {
            sink.world.books.borrow_mut().refused(&address);
            let nobody = sink.reply(550, "5.1.1", "nobody");
            return self.send(&nobody).await;
        }
        if temper.rcpt_max.is_some_and(|max| self.recipients.len() >= max) {
            let many = sink.reply(452, "4.5.3", "too many");
            return self.send(&many).await;
        }
        if temper.greylists {
            let key = (sink.number, sender, address.clone());
            let now = sink.env.wall().0 / 1_000_000;
            let first = *sink.world.seen.borrow_mut().entry(key).or_insert(now);
            if now < first + GREY_SECONDS {
                let grey = sink.reply(450, "4.7.1", "greylisted");
                return self.send(&grey).await;
            }
        }
        match self.answer("250 recipient\r\n").await? {
            Said::Yes => self.recipients.push(address),
            Said::Later => {}
            Said::Never => sink.world.books.borrow_mut().refused(&address),
        }
        Ok(())
    }

    fn refuse_all(&mut self) {
        let mut books = self.sink.world.books.borrow_mut();
        self.recipients.iter().for_each(|recipient| books.refused(recipient));
    }

    async fn data(&mut self) -> io::Result<()> {
        if self.recipients.is_empty() && self.sink.chance.coin() {
            return self.send("554 nobody\r\n").await;
        }
        match self.answer("354 go\r\n").await? {
            Said::Yes => {}
            Said::Later => return Ok(()),
            Said::Never => {
                self.refuse_all();
                return Ok(());
            }
        }
        let lines = self.peer.lines().await?;
        let mut octets = Vec::new();
        for line in lines {
            octets.extend_from_slice(&line);
            octets.extend_from_slice(b"\r\n");
        }
        self.whole(&octets).await
    }

    async fn bdat(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ').skip(1);
        let count = words.next().and_then(|word| word.parse().ok());
        let Some(count) = count else { return self.send("501 how many\r\n").await };
        let octets = self.peer.octets(count).await?;
        if self.recipients.is_empty() {
            return self.send("503 nobody\r\n").await;
        }
        self.chunks.extend_from_slice(&octets);
        if words.next().is_none() {
            return self.send("250 more\r\n").await;
        }
        let octets = std::mem::take(&mut self.chunks);
        self.whole(&octets).await
    }

    /// The last octet is here.
    async fn whole(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.recipients.is_empty() {
            return self.send("554 nobody\r\n").await;
        }
        let mood = self.sink.mood();
        let is_lost = match mood {
            Some(Mood::Drop | Mood::Silent | Mood::Garble | Mood::Endless) => true,
            Some(Mood::Defer | Mood::Closing) => {
                return self.answer_by(mood, "").await.map(|_| ());
            }
            Some(Mood::Refuse) => {
                self.refuse_all();
                self.answer_by(mood, "").await?;
                self.reset();
                return Ok(());
            }
            Some(Mood::Slow) | None => false,
        };
        if !is_lost || self.sink.chance.coin() {
            self.take(octets, is_lost);
        }
        self.answer_by(mood, "250 taken\r\n").await?;
        self.reset();
        Ok(())
    }

    fn take(&mut self, octets: &[u8], is_lost: bool) {
        let world = &self.sink.world;
        let text = String::from_utf8_lossy(octets);
        let mut books = world.books.borrow_mut();
        let mail = number_of(&text).and_then(|number| books.mails.get(number));
        let mail = mail.filter(|_| !is_report(&text));
        let owner = mail.and_then(|mail| mail.owner_of(&self.recipients));
        let is_listed = owner.is_some();
        let sender = mail.map(|mail| match (&mail.sender, owner) {
            // The null sender stays.
            (Sender::Null, _) | (_, None) => self.sink.case.path_of(&mail.sender),
            (_, Some(owner)) => self.sink.case.name_of(owner),
        });
        if let Err(what) = hold_envelope(sender.as_deref(), is_listed, &self.commands) {
            world.journal.fail(what);
        }
        let offers = self.sink.server().offers;
        let delivery = Rc::new(Delivery {
            node: self.node,
            at: seconds(self.sink.env.wall()),
            generation: books.generations[self.node],
            is_doubtful: is_lost || world.is_shaky.get(),
            takes_eight: offers.eight_bit && offers.extended,
            reports: offers.dsn && offers.extended,
            is_confirmed: Cell::new(false),
        });
        for recipient in &self.recipients {
            world.note(&self.sink.env, || format!("{recipient} is taken: {delivery:?}"));
            if let Err(what) = books.took(&text, recipient, &delivery) {
                world.journal.fail(what);
            }
        }
        self.unconfirmed.push(delivery);
    }
}

/// R4: a report has no sender and asks for none of its kind (RFC 3461 §6.1); all other mail has the sender
/// that it came with, or one that stands for him (RFC 5321 §4.5.5); what a list sends on, that of its owner,
/// and asks for nothing (RFC 3461 §5.2.7.1).
fn hold_envelope(sender: Option<&str>, is_listed: bool, commands: &[String]) -> Result<(), String> {
    let [mail, rcpts @ ..] = commands else { return Err("R4: a message without MAIL".into()) };
    let asks = |rcpt: &String| rcpt.contains(" NOTIFY=") && !rcpt.contains(" NOTIFY=NEVER");
    let given = path(mail);
    let parameters = [" NOTIFY=", " ORCPT=", " RET=", " ENVID="];
    let asks_any = |line: &String| parameters.iter().any(|parameter| line.contains(parameter));
    if is_listed && commands.iter().any(asks_any) {
        return Err(format!("R4: a list sends on what was asked of it: {commands:?}"));
    }
    let is_right = match sender {
        None => given.is_empty() && !mail.contains(" RET=") && !rcpts.iter().any(asks),
        Some("") => given.is_empty(),
        Some(sender) => given == sender || given.starts_with("SRS"),
    };
    if is_right { Ok(()) } else { Err(format!("R4: {sender:?} sends by {commands:?}")) }
}

/// The address of a command.
fn path(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map(|(path, _)| path.to_owned()).unwrap_or_default()
}
