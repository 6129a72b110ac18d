//! A client that reads mail by POP3, removes some of it, and tells the oracle what it saw.

use crate::case::{Case, PASSWORD};
use crate::peer::Peer;
use crate::world::World;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, SimEnv};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long a shard may have more to do than it may queue when nothing fails any more.
const PATIENCE: Duration = Duration::from_mins(1);

/// One client; lives for a few sessions.
pub(crate) struct Pop3Client {
    pub(crate) env: SimEnv,
    pub(crate) world: Rc<World>,
    pub(crate) case: Rc<Case>,
    pub(crate) chance: Chance,
    pub(crate) address: SocketAddr,
}

/// How a session goes on after what was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// QUIT, and wait for the answer.
    Quit,
    /// QUIT, and hang up.
    QuitUnheard,
    /// Hang up.
    Vanish,
}

/// How a login ends.
enum Entry {
    Open(Opened),
    /// The shard of the maildrop has more to do than it may queue.
    Later,
    /// Somebody else has the maildrop, or had it meanwhile, or it is wrong.
    Closed,
}

/// A session that is open.
struct Opened {
    peer: Peer,
    user: usize,
    uids: Vec<u32>,
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn is_ok(line: &[u8]) -> bool {
    line.starts_with(b"+OK")
}

fn strange(line: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text(line))
}

impl Pop3Client {
    pub(crate) async fn run(self) {
        for _ in 0..self.case.rounds * self.chance.between(1, 8) {
            let user = self.chance.index(self.case.users);
            if let Err(error) = self.session(user).await {
                self.world.note(&self.env, || format!("pop3 u{user}: {error}"));
                self.world.ended("pop3", &error);
            }
            let pause = Duration::from_micros(self.chance.below(10_000));
            self.env.sleep(pause).await;
        }
        self.world.done.set(self.world.done.get() + 1);
    }

    /// One session as clients have them.
    async fn session(&self, user: usize) -> io::Result<()> {
        let Entry::Open(mut opened) = self.open(user).await? else { return Ok(()) };
        let mut read = Vec::new();
        for index in 0..opened.uids.len() {
            let reads = self.case.churns || self.chance.below(3) > 0;
            if reads && self.retrieve(&mut opened, index).await? {
                read.push(opened.uids[index]);
            }
        }
        let removable = self.world.oracle.borrow().removable(user, &read);
        let wanted: Vec<u32> =
            removable.into_iter().filter(|_| self.case.churns || self.chance.coin()).collect();
        let wish = match self.chance.below(10) {
            0 => Wish::Vanish,
            1 => Wish::QuitUnheard,
            _ => Wish::Quit,
        };
        self.remove(opened, &wanted, wish).await
    }

    /// Everything that a maildrop holds, checked; then, if wanted, removed.
    pub(crate) async fn sweep(&self, user: usize, removes: bool) -> io::Result<()> {
        let deadline = self.env.now().after(PATIENCE);
        let mut opened = loop {
            match self.open(user).await? {
                Entry::Open(opened) => break opened,
                // Shards that have just come up tell each other so, and may fill a small inbox.
                Entry::Later if !self.case.has_room() && self.env.now() < deadline => {
                    self.env.sleep(Duration::from_millis(1)).await;
                }
                Entry::Later | Entry::Closed => {
                    self.world.fail(format!("u{user}: the maildrop cannot be opened"));
                    return Ok(());
                }
            }
        };
        for index in 0..opened.uids.len() {
            if !self.retrieve(&mut opened, index).await? {
                self.world.fail(format!("u{user}: UID {} cannot be read", opened.uids[index]));
            }
        }
        let wanted = if removes { opened.uids.clone() } else { Vec::new() };
        self.remove(opened, &wanted, Wish::Quit).await
    }

    /// Logs in and lists.
    async fn open(&self, user: usize) -> io::Result<Entry> {
        let mut peer = Peer::connect(&self.env, self.address).await?;
        let greeting = peer.line().await?;
        if !is_ok(&greeting) {
            return Err(strange(&greeting));
        }
        // Together, so that the rest travels with the session to its shard.
        let together = self.chance.coin();
        let login = format!("USER u{user}@example.org\r\nPASS {PASSWORD}\r\n");
        let list = "STAT\r\nUIDL\r\nLIST\r\n";
        let first = if together { format!("{login}{list}") } else { login };
        peer.send(first.as_bytes()).await?;
        peer.line().await?;
        let answer = peer.line().await?;
        if !is_ok(&answer) {
            self.world.note(&self.env, || format!("pop3 u{user}: {}", text(&answer)));
            if answer.starts_with(b"-ERR [SYS/TEMP]") {
                return Ok(Entry::Later);
            }
            if !answer.starts_with(b"-ERR [IN-USE]") {
                self.world.fail(format!("u{user}: login: {}", text(&answer)));
            }
            return Ok(Entry::Closed);
        }
        let session = self.world.oracle.borrow_mut().opened(user);
        if !together {
            peer.send(list.as_bytes()).await?;
        }
        let Some(list) = listing(&mut peer).await? else {
            self.world.fail(format!("u{user}: STAT, UIDL and LIST do not agree"));
            return Ok(Entry::Closed);
        };
        let mut oracle = self.world.oracle.borrow_mut();
        if !oracle.is_last(user, session) {
            return Ok(Entry::Closed);
        }
        let verdict = oracle.listed(user, &list);
        drop(oracle);
        self.world.note(&self.env, || format!("pop3 u{user}: holds {list:?}"));
        if !self.world.check(verdict) {
            return Ok(Entry::Closed);
        }
        let uids = list.into_iter().map(|(_, uid)| uid).collect();
        Ok(Entry::Open(Opened { peer, user, uids }))
    }

    /// Reads one message. False: the server could not.
    async fn retrieve(&self, opened: &mut Opened, index: usize) -> io::Result<bool> {
        let (user, uid) = (opened.user, opened.uids[index]);
        opened.peer.send(format!("RETR {}\r\n", index + 1).as_bytes()).await?;
        let answer = opened.peer.line().await?;
        if !is_ok(&answer) {
            self.world.note(&self.env, || format!("pop3 u{user}: UID {uid}: {}", text(&answer)));
            if !self.world.is_bad_disk() {
                self.world.fail(format!("u{user}: RETR of UID {uid}: {}", text(&answer)));
            }
            return Ok(false);
        }
        let mut octets = Vec::new();
        for line in opened.peer.lines().await? {
            octets.extend_from_slice(&line);
            octets.extend_from_slice(b"\r\n");
        }
        if answer != format!("+OK {} octets", octets.len()).as_bytes() {
            self.world.fail(format!(
                "u{user}: UID {uid}: {} came: {}",
                octets.len(),
                text(&answer)
            ));
        }
        let verdict = self.world.oracle.borrow_mut().read(user, uid, &octets);
        Ok(self.world.check(verdict))
    }

    /// Marks messages and ends the session.
    async fn remove(&self, opened: Opened, wanted: &[u32], wish: Wish) -> io::Result<()> {
        let Opened { mut peer, user, uids } = opened;
        let mut commands = String::new();
        for uid in wanted {
            let index = uids.binary_search(uid).expect("it was listed");
            write!(commands, "DELE {}\r\n", index + 1).expect("a String takes all text");
        }
        if wish == Wish::Vanish {
            return peer.send(commands.as_bytes()).await;
        }
        commands.push_str("QUIT\r\n");
        let removal = self.world.oracle.borrow_mut().leaves(user, wanted);
        self.world.note(&self.env, || format!("pop3 u{user}: removes {wanted:?}"));
        peer.send(commands.as_bytes()).await?;
        if wish == Wish::QuitUnheard {
            return Ok(());
        }
        for uid in wanted {
            let answer = peer.line().await?;
            if !is_ok(&answer) {
                self.world.fail(format!("u{user}: DELE of UID {uid}: {}", text(&answer)));
            }
        }
        let answer = peer.line().await?;
        self.world.note(&self.env, || format!("pop3 u{user}: {}", text(&answer)));
        let verdict = self.world.oracle.borrow_mut().left(removal, is_ok(&answer));
        self.world.check(verdict);
        peer.close().await;
        Ok(())
    }
}

/// The answers to STAT, UIDL and LIST: UIDVALIDITY and UID of each message. `None`: they do not
/// agree with each other.
async fn listing(peer: &mut Peer) -> io::Result<Option<Vec<(u32, u32)>>> {
    let stat = peer.line().await?;
    let mut list = Vec::new();
    for round in 0..2 {
        let head = peer.line().await?;
        if !is_ok(&head) {
            return Err(strange(&head));
        }
        let mut octets = 0_u64;
        let lines = peer.lines().await?;
        for (index, line) in lines.iter().enumerate() {
            let line = text(line);
            let Some((number, value)) = line.split_once(' ') else { return Ok(None) };
            if number != (index + 1).to_string() {
                return Ok(None);
            }
            if round == 0 {
                let Some((uidvalidity, uid)) = value.split_once('.') else { return Ok(None) };
                let (Ok(uidvalidity), Ok(uid)) = (uidvalidity.parse(), uid.parse()) else {
                    return Ok(None);
                };
                list.push((uidvalidity, uid));
            } else {
                octets += value.parse::<u64>().unwrap_or(0);
            }
        }
        let agrees = round == 0 || text(&stat) == format!("+OK {} {octets}", list.len());
        if lines.len() != list.len() || !agrees {
            return Ok(None);
        }
    }
    Ok(Some(list))
}
