//! A client that hands in mail by SMTP or LMTP, in each way that the protocol allows: a server, or a
//! user who logs in and submits mail of his own.

use crate::case::{Case, PASSWORD};
use crate::oracle::Fate;
use crate::peer::Peer;
use crate::ports::address;
use crate::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pombal::env::Env as _;
use pombal::env::sim::{Chance, SimEnv};
use pombal::server::listener::Protocol;
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Who hands in mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// By SMTP.
    Server,
    /// By LMTP.
    Relay,
    /// By submission.
    User(usize),
}

/// One client; lives until it has sent what it wanted.
pub(crate) struct SmtpClient {
    pub(crate) env: SimEnv,
    pub(crate) world: Rc<World>,
    pub(crate) case: Rc<Case>,
    pub(crate) chance: Chance,
    pub(crate) who: Who,
}

/// A message with its envelope.
struct Mail {
    number: usize,
    octets: Vec<u8>,
    recipients: Vec<Recipient>,
    /// Its sender wants to hear of its delivery; the number of the report.
    report: Option<usize>,
}

struct Recipient {
    address: String,
    /// Nobody: the server must refuse it.
    users: Vec<usize>,
}

impl SmtpClient {
    pub(crate) async fn run(self) {
        for _ in 0..self.case.rounds * self.chance.between(1, 5) {
            if let Err(error) = self.session().await {
                let who = format!("{:?}", self.who);
                self.world.note(&self.env, || format!("{who}: {error}"));
                self.world.ended(&who, &error);
            }
            if self.chance.coin() {
                let pause = Duration::from_micros(self.chance.below(5_000));
                self.env.sleep(pause).await;
            }
        }
        self.world.done.set(self.world.done.get() + 1);
    }

    async fn session(&self) -> io::Result<()> {
        let (protocol, hello) = match self.who {
            Who::Server => (Protocol::Smtp, "EHLO"),
            Who::Relay => (Protocol::Lmtp, "LHLO"),
            Who::User(_) => (Protocol::Submission, "EHLO"),
        };
        let mut peer = Peer::connect(&self.env, address(protocol)).await?;
        peer.reply().await?;
        peer.send(format!("{hello} client.example\r\n").as_bytes()).await?;
        peer.reply().await?;
        if let Who::User(user) = self.who {
            self.log_in(&mut peer, user).await?;
        }
        for _ in 0..self.chance.between(1, 6) {
            match self.chance.below(4) {
                0 => self.step_by_step(&mut peer).await?,
                1 => self.pipelined(&mut peer).await?,
                _ if self.who == Who::Relay => self.pipelined(&mut peer).await?,
                _ => self.in_chunks(&mut peer).await?,
            }
        }
        peer.send(b"QUIT\r\n").await?;
        peer.reply().await?;
        peer.close().await;
        Ok(())
    }

    /// RFC 6409 §4.3: nothing is taken before that; then nothing that says it is of somebody else.
    async fn log_in(&self, peer: &mut Peer, user: usize) -> io::Result<()> {
        if self.chance.below(8) == 0 {
            peer.send(b"MAIL FROM:<>\r\n").await?;
            self.demand(530, &peer.reply().await?);
        }
        let message = STANDARD.encode(format!("\0u{user}@example.org\0{PASSWORD}"));
        peer.send(format!("AUTH PLAIN {message}\r\n").as_bytes()).await?;
        let (code, text) = peer.reply().await?;
        if code == 454 {
            // Much is under way.
            self.world.note(&self.env, || format!("u{user}: {text}"));
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.demand(235, &(code, text));
        if self.chance.below(8) == 0 {
            let other = (user + 1) % self.case.users;
            peer.send(format!("MAIL FROM:<u{other}@example.org>\r\n").as_bytes()).await?;
            self.demand(550, &peer.reply().await?);
        }
        Ok(())
    }

    fn demand(&self, wanted: u16, (code, text): &(u16, String)) {
        if *code != wanted {
            self.world.fail(format!("{:?}: {text}, where {wanted} should be", self.who));
        }
    }

    /// Makes up a message, and tells the oracle of it.
    fn mail(&self) -> Mail {
        let recipients = self.recipients();
        let mut oracle = self.world.oracle.borrow_mut();
        let number = oracle.next_message();
        let users = recipients.iter().map(|recipient| recipient.users.clone()).collect();
        let (octets, report) = match self.who {
            Who::Server | Who::Relay => {
                let octets = self.octets(number, "");
                oracle.send(octets.clone(), Vec::new(), users);
                (octets, None)
            }
            Who::User(user) => {
                let (own, hidden, lacks) = self.header_of(user);
                // The blind copies are for nobody's eyes.
                let text = self.octets(number, &own);
                let end = text.windows(4).position(|window| window == b"\r\n\r\n");
                let (header, rest) = text.split_at(end.expect("a header ends") + 2);
                let octets = [header, hidden.as_bytes(), rest].concat();
                oracle.send(text, lacks, users);
                let wants = self.chance.coin();
                (octets, wants.then(|| oracle.send_report(number, user)))
            }
        };
        drop(oracle);
        self.world.note(&self.env, || {
            let to: Vec<&str> = recipients.iter().map(|one| one.address.as_str()).collect();
            format!("message {number} of {} octets to {}", octets.len(), to.join(" "))
        });
        Mail { number, octets, recipients, report }
    }

    fn recipients(&self) -> Vec<Recipient> {
        let users = self.case.users;
        let one =
            |user: usize| Recipient { address: format!("u{user}@example.org"), users: vec![user] };
        let all = || Recipient { address: "all@example.org".into(), users: (0..users).collect() };
        let nobody = || Recipient { address: "nobody@example.org".into(), users: Vec::new() };
        let any = || one(self.chance.index(users));
        match self.chance.below(12) {
            0 => vec![all()],
            1 => vec![all(), any()],
            2 => vec![nobody(), any()],
            3..=5 => (0..self.chance.between(2, 4)).map(|_| any()).collect(),
            _ => vec![any()],
        }
    }

    /// What a user's message says in its header: what stays, what is taken out of it, and what the
    /// server has to add.
    fn header_of(&self, user: usize) -> (String, &'static str, Vec<&'static str>) {
        const DATE: &str = "Date: Wed, 25 Nov 2026 04:11:19 +0000\r\n";
        let mut own = format!("From: <U{user}+tag@Example.ORG>\r\n");
        let mut lacks = if self.case.signs() { vec!["DKIM-Signature"] } else { Vec::new() };
        match self.chance.below(3) {
            0 => lacks.extend(["Date", "Message-ID"]),
            1 => {
                own.push_str(DATE);
                lacks.push("Message-ID");
            }
            _ => {
                own.push_str(DATE);
                own.push_str("Message-ID: <1@client.example>\r\n");
            }
        }
        let hidden = ["", "Bcc: nobody@example.org,\r\n\tu0@example.org\r\nbCC:\r\n"];
        (own, hidden[self.chance.index(2)], lacks)
    }

    /// A header with the number of the message and these fields, then lines of all kinds.
    fn octets(&self, number: usize, more: &str) -> Vec<u8> {
        let chance = &self.chance;
        let bits = chance.bits();
        let mut text = format!("X-Message: {number}\r\nSubject: {bits:x}\r\n{more}\r\n");
        let max = self.case.plan.config.smtp.max_message_size;
        let size = match chance.below(16) {
            _ if self.case.churns => chance.below(max),
            0 => chance.between(max / 2, max + max / 8),
            1..=3 => chance.below(max / 2),
            4..=7 => 0,
            _ => chance.below(2_000),
        };
        while (text.len() as u64) < size {
            let word = chance.bits();
            let line = match chance.below(8) {
                0 => write!(text, ".\r\n"),
                1 => write!(text, "..{word:x}\r\n"),
                2 => write!(text, "\r\n"),
                3 => write!(text, "ü{word:x}ñ\r\n"),
                _ => write!(text, "{word:b} {}\r\n", "x".repeat(chance.index(400))),
            };
            line.expect("text takes all text");
        }
        text.into_bytes()
    }

    fn mail_command(&self, mail: &Mail) -> String {
        let size = match self.chance.below(3) {
            0 => format!(" SIZE={}", mail.octets.len()),
            _ => String::new(),
        };
        let sender = match self.who {
            Who::Server | Who::Relay => "sender@example.net".into(),
            Who::User(user) => format!("u{user}@example.org"),
        };
        format!("MAIL FROM:<{sender}> BODY=8BITMIME{size}\r\n")
    }

    fn rcpt_command(mail: &Mail, recipient: &Recipient) -> String {
        let notify = if mail.report.is_some() { " NOTIFY=SUCCESS,FAILURE" } else { "" };
        format!("RCPT TO:<{}>{notify}\r\n", recipient.address)
    }

    /// The answer to RCPT: who is ours is taken, or asked to come back.
    fn told_of_recipient(&self, recipient: &Recipient, code: u16, text: &str) -> bool {
        let taken = code / 100 == 2;
        let has_quota = recipient.users.iter().any(|&user| self.case.quota_of(user) > 0);
        let wrong = if recipient.users.is_empty() {
            taken
        } else {
            // 552: it can never fit under the quota.
            !taken && code / 100 != 4 && !(code == 552 && has_quota)
        };
        if wrong {
            self.world.fail(format!("RCPT {}: {text}", recipient.address));
        }
        taken
    }

    /// The answers to a whole message: one, or by LMTP one for each recipient that was taken.
    async fn answers(&self, peer: &mut Peer, mail: &Mail, accepted: &[usize]) -> io::Result<()> {
        if self.who != Who::Relay || accepted.is_empty() {
            let (code, text) = peer.reply().await?;
            self.told(mail, accepted, code, &text);
            return Ok(());
        }
        for recipient in accepted {
            let (code, text) = peer.reply().await?;
            self.told(mail, std::slice::from_ref(recipient), code, &text);
        }
        Ok(())
    }

    fn told(&self, mail: &Mail, recipients: &[usize], code: u16, text: &str) {
        self.world.note(&self.env, || format!("message {} {recipients:?}: {text}", mail.number));
        let mut oracle = self.world.oracle.borrow_mut();
        for &recipient in recipients {
            oracle.answered(mail.number, recipient, code == 250);
        }
        let Who::User(user) = self.who else { return };
        if let Some(report) = mail.report {
            // It comes before the answer, if there is room for it.
            let is_sure = self.world.is_calm() && self.case.quota_of(user) == 0;
            oracle.reported(
                report,
                match (code, is_sure) {
                    (250, true) => Fate::Promised,
                    (250, false) => Fate::Unknown,
                    _ => Fate::Refused,
                },
            );
        }
        if code == 250 {
            self.world.submitted(user, self.case.allowance(), self.env.now());
        }
    }

    /// The last octet of a message is about to go out.
    fn whole(&self, mail: &Mail, accepted: &[usize]) {
        let mut oracle = self.world.oracle.borrow_mut();
        oracle.whole(mail.number, accepted);
        if let Some(report) = mail.report {
            oracle.reported(report, Fate::Unknown);
        }
    }

    /// A user who may not send now is told so; nobody else is.
    fn told_of_allowance(&self, text: &str) {
        let is_user = matches!(self.who, Who::User(_));
        if text.starts_with("450 4.7.1 ") && (!is_user || self.case.allowance() == 0) {
            self.world.fail(format!("{:?}: {text}", self.who));
        }
    }

    /// Command after command, each waited for.
    async fn step_by_step(&self, peer: &mut Peer) -> io::Result<()> {
        let mail = self.mail();
        peer.send(self.mail_command(&mail).as_bytes()).await?;
        if peer.reply().await?.0 != 250 {
            return Ok(());
        }
        let mut accepted = Vec::new();
        for (index, recipient) in mail.recipients.iter().enumerate() {
            peer.send(Self::rcpt_command(&mail, recipient).as_bytes()).await?;
            let (code, text) = peer.reply().await?;
            if self.told_of_recipient(recipient, code, &text) {
                accepted.push(index);
            }
        }
        peer.send(b"DATA\r\n").await?;
        self.data(peer, &mail, &accepted).await
    }

    /// Everything up to DATA at once (RFC 2920 §3.1).
    async fn pipelined(&self, peer: &mut Peer) -> io::Result<()> {
        let mail = self.mail();
        let mut commands = self.mail_command(&mail);
        for recipient in &mail.recipients {
            commands.push_str(&Self::rcpt_command(&mail, recipient));
        }
        commands.push_str("DATA\r\n");
        peer.send(commands.as_bytes()).await?;
        let is_taken = peer.reply().await?.0 == 250;
        let mut accepted = Vec::new();
        for (index, recipient) in mail.recipients.iter().enumerate() {
            let (code, text) = peer.reply().await?;
            if is_taken && self.told_of_recipient(recipient, code, &text) {
                accepted.push(index);
            }
        }
        self.data(peer, &mail, &accepted).await
    }

    /// DATA was sent: its answer, and the message.
    async fn data(&self, peer: &mut Peer, mail: &Mail, accepted: &[usize]) -> io::Result<()> {
        let (code, text) = peer.reply().await?;
        if code != 354 {
            self.told_of_allowance(&text);
            peer.send(b"RSET\r\n").await?;
            return peer.reply().await.map(|_| ());
        }
        let mut octets = stuffed(&mail.octets);
        octets.extend_from_slice(b".\r\n");
        let cut = self.chance.index(octets.len());
        peer.send(&octets[..cut]).await?;
        if self.chance.below(32) == 0 {
            self.world.note(&self.env, || format!("message {}: given up", mail.number));
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.whole(mail, accepted);
        peer.send(&octets[cut..]).await?;
        if self.chance.below(32) == 0 {
            self.world.note(&self.env, || format!("message {}: answer not heard", mail.number));
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.answers(peer, mail, accepted).await
    }

    /// Several messages at once, each with its envelope and in chunks (RFC 3030 §4.2).
    async fn in_chunks(&self, peer: &mut Peer) -> io::Result<()> {
        let mails: Vec<Mail> = (0..self.chance.between(1, 4)).map(|_| self.mail()).collect();
        let mut out = Vec::new();
        let mut chunks = Vec::new();
        for mail in &mails {
            out.extend_from_slice(self.mail_command(mail).as_bytes());
            for recipient in &mail.recipients {
                out.extend_from_slice(Self::rcpt_command(mail, recipient).as_bytes());
            }
            let mut rest = mail.octets.as_slice();
            let mut count = 1;
            while self.chance.below(3) == 0 {
                let (chunk, behind) = rest.split_at(self.chance.index(rest.len() + 1));
                out.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
                out.extend_from_slice(chunk);
                rest = behind;
                count += 1;
            }
            out.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
            out.extend_from_slice(rest);
            // What was refused in the middle must not mix with what follows.
            out.extend_from_slice(b"RSET\r\n");
            chunks.push(count);
            let everybody: Vec<usize> = (0..mail.recipients.len()).collect();
            self.whole(mail, &everybody);
        }
        peer.send(&out).await?;
        if self.chance.below(32) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for (mail, &chunks) in mails.iter().zip(&chunks) {
            self.chunks_answered(peer, mail, chunks).await?;
        }
        Ok(())
    }

    async fn chunks_answered(&self, peer: &mut Peer, mail: &Mail, chunks: u32) -> io::Result<()> {
        let is_taken = peer.reply().await?.0 == 250;
        let mut accepted = Vec::new();
        for (index, recipient) in mail.recipients.iter().enumerate() {
            let (code, text) = peer.reply().await?;
            if is_taken && self.told_of_recipient(recipient, code, &text) {
                accepted.push(index);
            } else {
                self.world.oracle.borrow_mut().answered(mail.number, index, false);
            }
        }
        for _ in 1..chunks {
            peer.reply().await?;
        }
        let (code, text) = peer.reply().await?;
        self.told_of_allowance(&text);
        self.told(mail, &accepted, code, &text);
        peer.reply().await.map(|_| ())
    }
}

/// Dots at the start of lines doubled (RFC 5321 §4.5.2).
fn stuffed(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + 64);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}
