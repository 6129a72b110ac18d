//! Who hands in mail: servers whose mail ours relays, and users who log in.

use super::books::{Books, End, Fate, Mail, Notify, Sender, Target};
use super::case::{Case, Node, address_of};
use super::life::World;
use super::places::{HOME, WELL};
use crate::case::PASSWORD;
use crate::peer::Peer;
use crate::ports::address_at;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, SimEnv};
use pombal::server::listener::Protocol;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(crate) struct Client {
    pub(crate) env: SimEnv,
    pub(crate) world: Rc<World>,
    pub(crate) case: Rc<Case>,
    pub(crate) chance: Chance,
    /// Where it hands in its mail.
    pub(crate) node: usize,
    /// The user who it is, if it is one.
    pub(crate) user: Option<usize>,
    /// Of all clients of the life.
    pub(crate) number: u8,
}

/// A message with the commands of its envelope.
struct Draft {
    mail: Mail,
    command: String,
    recipients: Vec<String>,
}

impl Client {
    pub(crate) async fn run(self) {
        for _ in 0..self.chance.between(1, 4) {
            if let Err(error) = self.session().await {
                self.world.note(&self.env, || format!("client {}: {error}", self.number));
            }
            let pause = [5, 3_000, 60_000][self.chance.index(3)];
            self.env.sleep(Duration::from_millis(self.chance.below(pause))).await;
        }
        self.world.done.set(self.world.done.get() + 1);
    }

    fn node(&self) -> &Node {
        &self.case.nodes[self.node]
    }

    async fn session(&self) -> io::Result<()> {
        let protocol = if self.user.is_some() { Protocol::Submission } else { Protocol::Smtp };
        let source = SocketAddr::from(([10, 9, 0, self.number], 30_000));
        let address = address_at(address_of(self.node), protocol);
        let mut peer = Peer::connect_from(&self.env, source, address).await?;
        peer.reply().await?;
        peer.send(b"EHLO client.example\r\n").await?;
        peer.reply().await?;
        if let Some(user) = self.user {
            let name = format!("u{user}@{}", self.node().domain);
            let message = STANDARD.encode(format!("\0{name}\0{PASSWORD}"));
            peer.send(format!("AUTH PLAIN {message}\r\n").as_bytes()).await?;
            if peer.reply().await?.0 != 235 {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        for _ in 0..self.chance.between(1, 6) {
            self.hand_in(&mut peer).await?;
        }
        peer.send(b"QUIT\r\n").await?;
        peer.reply().await?;
        peer.close().await;
        Ok(())
    }

    async fn hand_in(&self, peer: &mut Peer) -> io::Result<()> {
        let number = self.world.books.borrow().mails.len();
        let Draft { mail, command, recipients } = self.draft(number);
        let octets = mail.octets.clone();
        self.world.note(&self.env, || format!("{number}: {command} {}", recipients.join(" ")));
        self.world.books.borrow_mut().mails.push(mail);
        peer.send(format!("{command}\r\n").as_bytes()).await?;
        if peer.reply().await?.0 != 250 {
            return Ok(());
        }
        let mut is_any = false;
        for (index, recipient) in recipients.iter().enumerate() {
            peer.send(format!("{recipient}\r\n").as_bytes()).await?;
            let (code, text) = peer.reply().await?;
            self.world.note(&self.env, || format!("{number}: {text}"));
            self.change(number, |mail| mail.targets[index].is_taken = code == 250);
            is_any |= code == 250;
        }
        peer.send(b"DATA\r\n").await?;
        let (code, _) = peer.reply().await?;
        if code != 354 || !is_any {
            if code == 354 {
                peer.send(b".\r\n").await?;
                peer.reply().await?;
            }
            peer.send(b"RSET\r\n").await?;
            return peer.reply().await.map(|_| ());
        }
        let sent = self.env.wall();
        self.change(number, |mail| (mail.fate, mail.sent) = (Fate::Unknown, sent));
        peer.send(&octets).await?;
        peer.send(b".\r\n").await?;
        let (code, text) = peer.reply().await?;
        let (answered, generation) = (self.env.wall(), self.world.generation(self.node));
        self.world.note(&self.env, || format!("{number}: {text}"));
        self.change(number, |mail| {
            mail.fate = if code == 250 { Fate::Promised } else { Fate::Refused };
            (mail.answered, mail.generation) = (answered, generation);
        });
        Ok(())
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Mail)) {
        let books: &mut Books = &mut self.world.books.borrow_mut();
        change(&mut books.mails[number]);
    }

    /// Makes up a message.
    fn draft(&self, number: usize) -> Draft {
        let chance = &self.chance;
        let (sender, from) = self.sender(number);
        let mut command = format!("MAIL FROM:<{from}>");
        let is_eight_bit = chance.below(5) == 0;
        if is_eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        match chance.below(4) {
            0 => command.push_str(" RET=HDRS"),
            1 => command.push_str(" RET=FULL"),
            _ => {}
        }
        let mut has_envid = chance.below(3) == 0;
        let (mut hold, mut returns, mut by, mut priority) = (0, false, None, 0);
        if self.user.is_some() {
            if chance.below(6) == 0 {
                hold = chance.between(1, 200);
                // A report that is made without reading the message can be told by it alone.
                has_envid |= self.world.stumbles;
                write!(command, " HOLDFOR={hold}").expect("text takes all text");
            }
            if chance.below(8) == 0 {
                returns = chance.coin();
                let mode = if returns { 'R' } else { 'N' };
                let seconds = chance.between(20, 300);
                by = (!returns).then_some(seconds);
                write!(command, " BY={seconds};{mode}").expect("text takes all text");
            }
            if chance.below(6) == 0 {
                priority = [-4, 3, 6][chance.index(3)];
                write!(command, " MT-PRIORITY={priority}").expect("text takes all text");
            }
        }
        if has_envid {
            write!(command, " ENVID=e{number}").expect("text takes all text");
        }
        let targets = self.targets(number);
        let recipients = targets.iter().map(|target| self.rcpt_command(target)).collect();
        let now = self.env.wall();
        let mail = Mail {
            number,
            node: self.node,
            sender,
            octets: self.octets(number, &from, is_eight_bit),
            targets,
            fate: Fate::Unsent,
            sent: now,
            answered: now,
            generation: 0,
            hold,
            returns,
            by,
            priority,
        };
        Draft { mail, command, recipients }
    }

    fn rcpt_command(&self, target: &Target) -> String {
        let mut command = format!("RCPT TO:<{}>", target.address);
        if let Some(Notify { success, failure, delay }) = target.notify {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let words: Vec<&str> =
                words.into_iter().filter_map(|(is_so, word)| is_so.then_some(word)).collect();
            let words = if words.is_empty() { "NEVER".to_owned() } else { words.join(",") };
            write!(command, " NOTIFY={words}").expect("text takes all text");
        }
        if self.chance.below(4) == 0 && !target.address.contains('[') {
            write!(command, " ORCPT=rfc822;{}", target.address).expect("text takes all text");
        }
        command
    }

    fn sender(&self, number: usize) -> (Sender, String) {
        let user = |user: usize| {
            let name = format!("u{user}@{}", self.node().domain);
            (Sender::User((self.node, user)), name)
        };
        if let Some(one) = self.user {
            return user(one);
        }
        match self.chance.below(6) {
            0 => (Sender::Null, String::new()),
            1 | 2 => {
                let home = &self.case.places.domains[HOME].name;
                let name = format!("r.{number}@{home}");
                (Sender::Stranger(name.clone()), name)
            }
            _ => user(self.chance.index(self.node().users)),
        }
    }

    fn targets(&self, number: usize) -> Vec<Target> {
        let chance = &self.chance;
        let mut targets: Vec<Target> = Vec::new();
        for index in 0..chance.between(1, [1, 3, 6][chance.index(3)]) {
            let target = match chance.below(16) {
                0 | 1 => {
                    let user = chance.index(self.node().users);
                    let address = format!("u{user}@{}", self.node().domain);
                    self.target(address, false, vec![End::Mailbox((self.node, user))])
                }
                2 | 3 => self.alias(self.node),
                4 | 5 if self.case.nodes.len() > 1 => self.far(number, index),
                kind => {
                    let domains = &self.case.places.domains;
                    let place = if kind < 9 { WELL } else { chance.index(domains.len()) };
                    let local = if chance.below(8) == 0 { "no" } else { "x" };
                    let address = format!("{local}.{number}.{index}@{}", domains[place].name);
                    self.target(address.clone(), false, vec![End::Elsewhere(address)])
                }
            };
            if targets.iter().all(|other| other.address != target.address) {
                targets.push(target);
            }
        }
        targets
    }

    fn alias(&self, node: usize) -> Target {
        let aliases = &self.case.nodes[node].aliases;
        let alias = &aliases[self.chance.index(aliases.len())];
        let address = format!("{}@{}", alias.name, self.case.nodes[node].domain);
        let target = self.target(address, node != self.node, alias.ends.clone());
        Target { owner: alias.owner, ..target }
    }

    /// Somebody of another node, or nobody there.
    fn far(&self, number: usize, index: u64) -> Target {
        let node = 1 - self.node;
        let domain = self.case.nodes[node].domain;
        match self.chance.below(4) {
            0 => {
                let address = format!("no.{number}.{index}@{domain}");
                self.target(address.clone(), false, vec![End::Elsewhere(address)])
            }
            1 => {
                let user = self.chance.index(self.case.nodes[node].users);
                let address = format!("u{user}@{domain}");
                self.target(address, true, vec![End::Mailbox((node, user))])
            }
            _ => self.alias(node),
        }
    }

    fn target(&self, address: String, is_far: bool, ends: Vec<End>) -> Target {
        let notify = |success, failure, delay| Some(Notify { success, failure, delay });
        let notify = match self.chance.below(8) {
            0 => notify(false, false, false),
            1 => notify(true, false, false),
            2 => notify(true, true, true),
            3 => notify(false, true, false),
            4 => notify(false, false, true),
            _ => None,
        };
        Target { address, notify, is_far, ends, owner: None, is_taken: false }
    }

    fn octets(&self, number: usize, from: &str, is_eight_bit: bool) -> Vec<u8> {
        let chance = &self.chance;
        let mut text = format!(
            "X-Message: {number}\r\nFrom: <{from}>\r\nDate: Wed, 25 Nov 2026 04:11:19 +0000\r\n\
             Message-ID: <{number}@client.example>\r\n\r\n"
        );
        let size = [0, 300, 3_000, 20_000][chance.index(4)];
        let size = chance.below(size + 1);
        while (text.len() as u64) < size {
            let word = chance.bits();
            // No dot at the begin of a line: the clients of this simulation stuff none.
            let line = if is_eight_bit {
                write!(text, "ü{word:x}\r\n")
            } else {
                write!(text, "{word:x} {}\r\n", "x".repeat(chance.index(200)))
            };
            line.expect("text takes all text");
        }
        if is_eight_bit {
            text.push_str("ü\r\n");
        }
        text.into_bytes()
    }
}
