//! One connection of a client: SMTP or LMTP, as the site and the domains of recipients want it.
//!
//! ```text
//! connect ─▸ hello ─▸ mail ─▸ rcpt… ─▸ data ─▸ body ─▸ dot ─▸ (mail …) ─▸ quit
//!               └▸ starttls ─▸ tls ─▸ hello
//! ```
//!
//! Each step waits for its delay and asks the rules; what no rule changes gets the good answer.
//! A message is taken when no rule refuses it after the dot. Where the connection is made to
//! fail at that moment it was taken, and its answer is lost.

mod message;

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::body::{Allowed, Body};
use super::command::{Command, extension_of_mail, extension_of_rcpt};
use super::connection::{Connection, Gone, Line};
use super::desk::{Desk, Event};
use super::profile::{Manners, Site};
use super::rule::{Act, Failing, Stage, steady_hash};
use super::shared::Shared;
use crate::values::Rng;

/// The envelope under way.
struct Transaction {
    sender: Box<str>,
    recipients: Vec<Box<str>>,
    allowed: Allowed,
    is_utf8: bool,
    /// The first BDAT was there.
    in_chunks: bool,
}

pub(crate) struct Session {
    shared: &'static Shared,
    site: &'static Site,
    site_index: usize,
    desk: Desk,
    link: Connection,
    rng: Rng,
    /// Of all connections of this sink.
    number: u64,
    peer: IpAddr,
    greeted: bool,
    /// EHLO or LHLO, with all that is offered.
    extended: bool,
    /// The greeting was a refusal: nothing goes but QUIT.
    refused: bool,
    transaction: Option<Transaction>,
    body: Body,
    /// Messages of this connection.
    messages: u64,
    /// The last of them that was taken.
    last_taken: Option<u64>,
}

impl Session {
    pub(crate) fn new(
        shared: &'static Shared,
        site_index: usize,
        desk: Desk,
        link: Connection,
        peer: IpAddr,
    ) -> Session {
        let number = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        Session {
            shared,
            site: &shared.profile.sites[site_index],
            site_index,
            desk,
            link,
            rng: Rng::new(shared.seed, number),
            number,
            peer,
            greeted: false,
            extended: false,
            refused: false,
            transaction: None,
            body: Body::default(),
            messages: 0,
            last_taken: None,
        }
    }

    /// From the greeting to the end.
    pub(crate) async fn serve(mut self) {
        let gone = self.run().await;
        match (gone, self.last_taken) {
            (Gone::Ended, _) => self.link.close().await,
            (Gone::Peer, Some(id)) => self.desk.note(Event::Broke { id }),
            (Gone::Peer, None) => {}
        }
    }

    async fn run(&mut self) -> Gone {
        let ended = async {
            self.greet().await?;
            let mut line = Vec::new();
            loop {
                let read = self.link.line(&mut line).await?;
                let may_pipeline = self.extended && self.site.offers("PIPELINING");
                if !may_pipeline && !self.link.received().is_empty() {
                    self.desk.fault("commands together without PIPELINING");
                }
                if read == Line::TooLong {
                    self.desk.fault("command line too long");
                    self.say(Stage::Other, 500, "5.5.2", "line too long").await?;
                    continue;
                }
                let Ok(text) = std::str::from_utf8(&line) else {
                    self.desk.fault("command that is no UTF-8");
                    self.say(Stage::Other, 500, "5.5.2", "no UTF-8").await?;
                    continue;
                };
                self.command(Command::parse(text)).await?;
            }
        };
        let ended: Result<std::convert::Infallible, Gone> = ended.await;
        match ended {
            Err(gone) => gone,
        }
    }

    async fn greet(&mut self) -> Result<(), Gone> {
        let key = steady_hash(&self.peer);
        if self.pass(Stage::Connect, &self.site.manners, key).await? {
            let text = format!(
                "{} {} sink",
                self.site.name,
                if self.site.lmtp { "LMTP" } else { "ESMTP" }
            );
            self.say(Stage::Connect, 220, "", &text).await
        } else {
            self.refused = true;
            Ok(())
        }
    }

    async fn command(&mut self, command: Command<'_>) -> Result<(), Gone> {
        let site = self.site;
        if self.refused && command != Command::Quit {
            return self.say(Stage::Other, 503, "5.5.1", "nothing goes here").await;
        }
        match command {
            Command::Helo if !site.lmtp => self.hello(false).await,
            Command::Ehlo if !site.lmtp => self.hello(true).await,
            Command::Lhlo if site.lmtp => self.hello(true).await,
            Command::Starttls => self.starttls().await,
            Command::Mail { path, parameters } => self.mail(path, parameters).await,
            Command::Rcpt { path, parameters } => self.rcpt(path, parameters).await,
            Command::Data => self.data().await,
            Command::Bdat { len, is_last } => self.bdat(len, is_last).await,
            Command::Quit => {
                let key = steady_hash(&self.peer);
                if self.pass(Stage::Quit, &site.manners, key).await? {
                    self.say(Stage::Quit, 221, "2.0.0", "bye").await?;
                }
                Err(Gone::Ended)
            }
            Command::Rset => {
                self.transaction = None;
                self.plain(250, "2.0.0", "forgotten").await
            }
            Command::Noop => self.plain(250, "2.0.0", "done").await,
            Command::Vrfy => self.plain(252, "2.5.0", "try and see").await,
            Command::Malformed(why) => {
                self.desk.fault(why);
                self.say(Stage::Other, 501, "5.5.4", why).await
            }
            Command::Helo | Command::Ehlo | Command::Lhlo | Command::Unknown => {
                self.desk.fault("command that is not known");
                self.say(Stage::Other, 500, "5.5.1", "that is not known here").await
            }
        }
    }

    /// A command that changes little.
    async fn plain(&mut self, code: u16, enhanced: &str, text: &str) -> Result<(), Gone> {
        let key = steady_hash(&self.peer);
        if self.pass(Stage::Other, &self.site.manners, key).await? {
            self.say(Stage::Other, code, enhanced, text).await?;
        }
        Ok(())
    }

    async fn hello(&mut self, extended: bool) -> Result<(), Gone> {
        let key = steady_hash(&self.peer);
        if !self.pass(Stage::Hello, &self.site.manners, key).await? {
            return Ok(());
        }
        (self.greeted, self.extended, self.transaction) = (true, extended, None);
        let encrypted = self.link.is_encrypted();
        let site = self.site;
        let lines = site.extensions.iter().filter(|line| {
            let word = line.split(' ').next().unwrap_or_default();
            let is_over = encrypted && word.eq_ignore_ascii_case("STARTTLS");
            let is_early = !encrypted && word.eq_ignore_ascii_case("REQUIRETLS");
            extended && !is_over && !is_early
        });
        let mut last = &site.name;
        let out = self.link.out();
        for line in lines {
            out.extend_from_slice(format!("250-{last}\r\n").as_bytes());
            last = line;
        }
        out.extend_from_slice(format!("250 {last}\r\n").as_bytes());
        self.counted(Stage::Hello, 250);
        Ok(())
    }

    async fn starttls(&mut self) -> Result<(), Gone> {
        let (shared, key) = (self.shared, steady_hash(&self.peer));
        let Some(acceptor) = &shared.acceptor else {
            return self.wrong(Stage::Starttls, 502, "5.5.1", "STARTTLS is not offered").await;
        };
        if !self.site.offers("STARTTLS") || self.link.is_encrypted() || !self.extended {
            return self.wrong(Stage::Starttls, 503, "5.5.1", "STARTTLS is not offered").await;
        }
        if !self.pass(Stage::Starttls, &self.site.manners, key).await? {
            return Ok(());
        }
        self.say(Stage::Starttls, 220, "2.0.0", "go ahead").await?;
        if self.link.forget() > 0 {
            self.desk.fault("commands together with STARTTLS");
        }
        self.link.flush().await?;
        if let Some(Act::Fail(how)) = self.fires(Stage::Tls, &self.site.manners, key) {
            self.link.fill().await?;
            return Err(self.fail(Stage::Tls, *how).await);
        }
        self.link.encrypt(acceptor).await?;
        (self.greeted, self.extended, self.transaction) = (false, false, None);
        Ok(())
    }

    async fn mail(&mut self, path: &str, parameters: &str) -> Result<(), Gone> {
        if !self.greeted || self.transaction.is_some() {
            return self.wrong(Stage::Mail, 503, "5.5.1", "MAIL at the wrong time").await;
        }
        let mut transaction = Transaction {
            sender: path.into(),
            recipients: Vec::new(),
            allowed: Allowed::default(),
            is_utf8: false,
            in_chunks: false,
        };
        let mut size = 0;
        for (keyword, value) in words(parameters) {
            if let Some(why) = self.not_offered(extension_of_mail(&keyword)) {
                return self.wrong(Stage::Mail, 555, "5.5.4", why).await;
            }
            match (keyword.as_str(), value) {
                ("SIZE", value) => size = value.parse().unwrap_or(u64::MAX),
                ("BODY", "8BITMIME") => transaction.allowed.eight_bit = true,
                ("BODY", "BINARYMIME") if self.site.offers("BINARYMIME") => {
                    transaction.allowed = Allowed { eight_bit: true, binary: true };
                }
                ("BODY", "7BIT") => {}
                ("BODY", _) => {
                    return self.wrong(Stage::Mail, 555, "5.5.4", "BODY that is not offered").await;
                }
                ("SMTPUTF8", _) => {
                    (transaction.is_utf8, transaction.allowed.eight_bit) = (true, true);
                }
                ("REQUIRETLS", _) if !self.link.is_encrypted() => {
                    return self.wrong(Stage::Mail, 530, "5.7.10", "REQUIRETLS without TLS").await;
                }
                _ => {}
            }
        }
        if !transaction.is_utf8 && !path.is_ascii() {
            return self.wrong(Stage::Mail, 553, "5.6.7", "address beyond ASCII").await;
        }
        if self.messages >= self.site.messages_max {
            self.say(Stage::Mail, 421, "4.7.0", "enough messages of one connection").await?;
        }
        let manners = &self.site.manners;
        if !manners.has_room(self.shared.elapsed()) {
            return self.say(Stage::Mail, 450, "4.7.1", "too many messages a second").await;
        }
        if self.site.size_max.is_some_and(|size_max| size > size_max) {
            return self.say(Stage::Mail, 552, "5.3.4", "that is too large").await;
        }
        if self.pass(Stage::Mail, manners, steady_hash(&path)).await? {
            self.transaction = Some(transaction);
            self.messages += 1;
            self.say(Stage::Mail, 250, "2.1.0", "ok").await?;
        }
        Ok(())
    }

    async fn rcpt(&mut self, path: &str, parameters: &str) -> Result<(), Gone> {
        let (shared, site) = (self.shared, self.site);
        let Some(transaction) = self.transaction.as_ref().filter(|one| !one.in_chunks) else {
            return self.wrong(Stage::Rcpt, 503, "5.5.1", "RCPT at the wrong time").await;
        };
        let key = steady_hash(&(&transaction.sender, path));
        let (is_utf8, count) = (transaction.is_utf8, transaction.recipients.len());
        for (keyword, _) in words(parameters) {
            if let Some(why) = self.not_offered(extension_of_rcpt(&keyword)) {
                return self.wrong(Stage::Rcpt, 555, "5.5.4", why).await;
            }
        }
        if !is_utf8 && !path.is_ascii() {
            return self.wrong(Stage::Rcpt, 553, "5.6.7", "address beyond ASCII").await;
        }
        if count >= site.recipients_max {
            return self.say(Stage::Rcpt, 452, "4.5.3", "too many recipients").await;
        }
        let domain = shared.profile.domain(path);
        if domain.is_some_and(|domain| !domain.has_room(shared.elapsed())) {
            return self.say(Stage::Rcpt, 450, "4.7.1", "too many messages a second").await;
        }
        if self.pass(Stage::Rcpt, domain.unwrap_or(&site.manners), key).await? {
            if let Some(transaction) = &mut self.transaction {
                transaction.recipients.push(path.into());
            }
            self.say(Stage::Rcpt, 250, "2.1.5", "ok").await?;
        }
        Ok(())
    }

    /// Why a parameter may not be used, if so.
    fn not_offered(&self, extension: Option<&'static str>) -> Option<&'static str> {
        match extension {
            None => Some("parameter that is not known"),
            Some(extension) if self.extended && self.site.offers(extension) => None,
            Some(_) => Some("parameter of an extension that is not offered"),
        }
    }

    /// The client did what it may not do.
    async fn wrong(
        &mut self,
        at: Stage,
        code: u16,
        enhanced: &str,
        why: &'static str,
    ) -> Result<(), Gone> {
        self.desk.fault(why);
        self.say(at, code, enhanced, why).await
    }

    async fn say(&mut self, at: Stage, code: u16, enhanced: &str, text: &str) -> Result<(), Gone> {
        let gap = if enhanced.is_empty() || !self.is_enhanced() { "" } else { " " };
        let enhanced = if gap.is_empty() { "" } else { enhanced };
        let out = self.link.out();
        out.extend_from_slice(format!("{code} {enhanced}{gap}{text}\r\n").as_bytes());
        self.said(at, code).await
    }

    /// The answer of a rule, whose text has its enhanced code.
    async fn refuse(&mut self, at: Stage, code: u16, text: &str) -> Result<(), Gone> {
        let (enhanced, plain) = text.split_once(' ').unwrap_or(("", text));
        let is_enhanced = enhanced.split('.').count() == 3
            && enhanced.bytes().all(|octet| octet == b'.' || octet.is_ascii_digit());
        if is_enhanced {
            self.say(at, code, enhanced, plain).await
        } else {
            self.say(at, code, "", text).await
        }
    }

    fn is_enhanced(&self) -> bool {
        self.extended && self.site.offers("ENHANCEDSTATUSCODES")
    }

    fn counted(&self, at: Stage, code: u16) {
        self.desk.count(|counts| *counts.replies.entry((at, code)).or_default() += 1);
    }

    /// After 421 the connection ends (RFC 5321 §3.8).
    async fn said(&mut self, at: Stage, code: u16) -> Result<(), Gone> {
        self.counted(at, code);
        if code == 421 {
            self.link.flush().await?;
            return Err(Gone::Ended);
        }
        Ok(())
    }

    /// Waits as long as it is to be; what was answered before goes out first.
    async fn delay(&mut self, at: Stage, manners: &Manners) -> Result<(), Gone> {
        let delay = manners.delays[at.index()];
        if !delay.is_zero() {
            self.link.flush().await?;
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    fn fires(&mut self, at: Stage, manners: &'static Manners, key: u64) -> Option<&'static Act> {
        let shared = self.shared;
        let mut rules = manners.rules.iter().filter(|rule| rule.at == at);
        let fires =
            rules.find(|rule| rule.fires(shared.elapsed(), &mut self.rng, &shared.attempts, key));
        fires.map(|rule| &rule.act)
    }

    async fn fail(&mut self, at: Stage, how: Failing) -> Gone {
        self.desk.count(|counts| *counts.failings.entry((at, how.label())).or_default() += 1);
        let code = match at {
            Stage::Connect | Stage::Starttls => 220,
            Stage::Data => 354,
            Stage::Quit => 221,
            _ => 250,
        };
        self.link.fail(how, code).await
    }

    /// Delays, and asks the rules. `Ok(true)`: the good answer is still to be given.
    async fn pass(&mut self, at: Stage, manners: &'static Manners, key: u64) -> Result<bool, Gone> {
        self.delay(at, manners).await?;
        match self.fires(at, manners, key) {
            None => Ok(true),
            Some(Act::Reply { code, text }) => {
                self.refuse(at, *code, text).await?;
                Ok(false)
            }
            Some(Act::Fail(how)) => Err(self.fail(at, *how).await),
        }
    }
}

/// Keywords in capital letters, and values.
fn words(parameters: &str) -> impl Iterator<Item = (String, &str)> {
    parameters.split(' ').filter(|word| !word.is_empty()).map(|word| {
        let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
        (keyword.to_ascii_uppercase(), value)
    })
}
