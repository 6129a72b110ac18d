//! Clients of one account: IMAP sessions that do anything, mail that comes in, POP3 that removes.

use super::command::{Does, octets};
use super::model::Memory;
use super::session::{Session, Shared};
use crate::case::PASSWORD;
use crate::oracle::Fate;
use crate::peer::Peer;
use crate::ports::address;
use pombal::env::Env as _;
use pombal::env::sim::Chance;
use pombal::server::listener::Protocol;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

/// Where sessions look most.
const PLACES: [&str; 6] = ["INBOX", "INBOX", "INBOX", "a", "a/b", "z"];

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Imap,
    /// Hands in mail.
    Sender,
    /// Reads and removes by POP3.
    Pop3,
}

/// A client from its first session to its last.
pub(super) async fn run(shared: Shared, role: Role, chance: Chance) {
    for _ in 0..chance.between(1, 3) {
        let chance = Chance::new(chance.bits());
        let pause = Duration::from_micros(chance.below(3_000));
        shared.env.sleep(pause).await;
        let done = match role {
            Role::Imap => imap(shared.clone(), chance).await,
            Role::Sender => send(&shared, &chance).await,
            Role::Pop3 => pop3(&shared, &chance).await,
        };
        if let Err(error) = done {
            shared.note("client", || format!("{role:?}: {error}"));
            shared.world.ended(&format!("{role:?}"), &error);
        }
    }
    shared.world.done.set(shared.world.done.get() + 1);
}

async fn imap(shared: Shared, chance: Chance) -> io::Result<()> {
    let steps = chance.between(6, 20);
    let qresync = chance.below(3) > 0;
    let opened = Session::open(shared, address(Protocol::Imap), chance, qresync).await?;
    let Some(mut session) = opened else { return Ok(()) };
    for _ in 0..steps {
        session.step().await?;
    }
    session.settle().await
}

impl Session {
    /// Anything that a client may do now.
    async fn step(&mut self) -> io::Result<()> {
        let Some(view) = &self.view else {
            match self.chance.below(10) {
                0..=5 => return self.enter().await,
                6 => self.change_names(),
                7 => self.status(),
                _ => self.append(),
            }
            return self.run().await;
        };
        if !view.is_known() && self.chance.below(4) > 0 {
            self.list();
            return self.run().await;
        }
        match self.chance.below(24) {
            0 => return self.enter().await,
            1 => return self.idle().await,
            2 => return self.listen().await,
            3 => return self.settle().await,
            4 => self.leave(),
            5 => self.change_names(),
            6 => self.status(),
            7..=9 => self.append(),
            10 | 11 => self.expunge(),
            12 => self.transfer(false),
            _ => self.batch(),
        }
        self.run().await
    }

    /// Opens a mailbox, with what was remembered of it if anything.
    async fn enter(&mut self) -> io::Result<()> {
        let name = PLACES[self.chance.index(PLACES.len())];
        let memory = self.memory(name);
        let read_only = self.chance.below(8) == 0;
        self.select(name, read_only, memory.as_ref()).await.map(drop)
    }

    fn memory(&self, name: &str) -> Option<Memory> {
        let account = self.shared.account.borrow();
        let uidvalidity = account.names.names.mailboxes.get(name).copied().flatten()?;
        let fits = |memory: &&Memory| memory.uidvalidity == uidvalidity;
        let fitting: Vec<&Memory> = account.memories.iter().filter(fits).collect();
        let wants = self.qresync && !fitting.is_empty() && self.chance.below(4) > 0;
        wants.then(|| fitting[self.chance.index(fitting.len())].clone())
    }

    /// Hears what there is, and finds the mailbox to be as it was told.
    async fn settle(&mut self) -> io::Result<()> {
        self.put("NOOP", false, Does::Nothing);
        self.run().await?;
        if self.view.is_some() {
            self.list();
        }
        self.run().await
    }

    async fn idle(&mut self) -> io::Result<()> {
        self.put("IDLE", false, Does::Nothing);
        self.flush().await?;
        let time = Duration::from_micros(self.chance.below(4_000));
        let deadline = self.shared.env.now().after(time);
        let mut idles = false;
        while !idles || self.shared.env.now() < deadline {
            if !idles || self.peer.hears(Duration::from_micros(500)).await? {
                let response = self.next().await?;
                idles |= matches!(response, super::wire::Response::Continue);
                self.hear(response);
            }
        }
        self.peer.send(b"DONE\r\n").await?;
        self.run().await
    }

    /// Says nothing for a while. What comes then must not be that a message went.
    async fn listen(&mut self) -> io::Result<()> {
        if self.peer.hears(Duration::from_micros(self.chance.below(2_000))).await? {
            let response = self.next().await?;
            self.hear(response);
        }
        Ok(())
    }
}

/// Hands in a message by SMTP or LMTP.
async fn send(shared: &Shared, chance: &Chance) -> io::Result<()> {
    let lmtp = chance.coin();
    let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
    let mut peer = Peer::connect(&shared.env, address(protocol)).await?;
    peer.reply().await?;
    let hello = if lmtp { "LHLO" } else { "EHLO" };
    peer.send(format!("{hello} client.example\r\n").as_bytes()).await?;
    peer.reply().await?;
    for _ in 0..chance.between(1, 4) {
        let user = shared.user;
        let content = shared.account.borrow_mut().send(|number| octets(number, chance));
        let message = shared.account.borrow().sent[content].octets.clone();
        let envelope = format!("MAIL FROM:<a@example.net>\r\nRCPT TO:<u{user}@example.org>\r\n");
        peer.send(envelope.as_bytes()).await?;
        peer.reply().await?;
        let mut code = peer.reply().await?.0;
        if code == 250 {
            let mut text = format!("BDAT {} LAST\r\n", message.len()).into_bytes();
            text.extend_from_slice(&message);
            peer.send(&text).await?;
            code = peer.reply().await?.0;
        } else {
            peer.send(b"RSET\r\n").await?;
            peer.reply().await?;
        }
        shared.note("sender", || format!("message {content}: {code}"));
        let fate = if code == 250 { Fate::Promised } else { Fate::Refused };
        shared.account.borrow_mut().sent[content].fate = fate;
    }
    peer.send(b"QUIT\r\n").await?;
    peer.reply().await?;
    peer.close().await;
    Ok(())
}

/// Lists INBOX and removes some of it.
async fn pop3(shared: &Shared, chance: &Chance) -> io::Result<()> {
    let mut peer = Peer::connect(&shared.env, address(Protocol::Pop3)).await?;
    peer.line().await?;
    let (sent, names) = {
        let mut account = shared.account.borrow_mut();
        (account.tick(), account.names.stable())
    };
    let login = format!("USER u{}@example.org\r\nPASS {PASSWORD}\r\n", shared.user);
    peer.send(login.as_bytes()).await?;
    peer.line().await?;
    if !peer.line().await?.starts_with(b"+OK") {
        return Ok(());
    }
    peer.send(b"UIDL\r\n").await?;
    peer.line().await?;
    let listed = peer.lines().await?;
    let pair = |line: &[u8]| -> Option<(u32, u32)> {
        let text = String::from_utf8_lossy(line).into_owned();
        let (uidvalidity, uid) = text.split_once(' ')?.1.split_once('.')?;
        Some((uidvalidity.parse().ok()?, uid.parse().ok()?))
    };
    let pairs: Option<Vec<(u32, u32)>> = listed.iter().map(|line| pair(line)).collect();
    let pairs = pairs.ok_or(io::ErrorKind::InvalidData)?;
    shared.note("pop3", || format!("holds {pairs:?}"));
    let Some(&(uidvalidity, _)) = pairs.first() else { return Ok(()) };
    let verdict = {
        let mut account = shared.account.borrow_mut();
        let now = account.tick();
        let stands = names.is_some() && names == account.names.stable();
        let named = if stands { account.names.tell("INBOX", uidvalidity) } else { Ok(()) };
        let mailbox = account.mailbox(uidvalidity);
        let uids: BTreeSet<u32> = pairs.iter().map(|&(_, uid)| uid).collect();
        let there = uids.iter().try_for_each(|&uid| mailbox.there(uid, sent, now).map(drop));
        named.and(there).and_then(|()| mailbox.listed(&uids, sent, now))
    };
    shared.world.check(verdict);
    let removed = (1..).zip(&pairs).filter(|_| chance.below(4) == 0);
    let removed: Vec<(u32, u32)> = removed.map(|(number, &(_, uid))| (number, uid)).collect();
    let mut text = String::new();
    for (number, _) in &removed {
        write!(text, "DELE {number}\r\n").expect("text takes all text");
    }
    text.push_str("QUIT\r\n");
    let number = {
        let mut account = shared.account.borrow_mut();
        let number = account.command();
        account.removal(number);
        for (_, uid) in &removed {
            account.mailbox(uidvalidity).message(*uid).leaving = true;
        }
        number
    };
    shared.note("pop3", || format!("removes {removed:?}"));
    peer.send(text.as_bytes()).await?;
    for _ in &removed {
        peer.line().await?;
    }
    if peer.line().await?.starts_with(b"+OK") {
        let mut account = shared.account.borrow_mut();
        account.answered(number);
        let now = account.tick();
        for (_, uid) in &removed {
            // What it asked for may go, so this cannot fail.
            drop(account.mailbox(uidvalidity).absent(*uid, now));
        }
    }
    peer.close().await;
    Ok(())
}
