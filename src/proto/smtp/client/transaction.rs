//! One message to its recipients at one server: the part of a session between MAIL and the last
//! answer (RFC 5321 §3.3, RFC 2920, RFC 3030, RFC 2033 §4.2).
//!
//! ```text
//!   [RSET] MAIL RCPT… DATA ─ 354 ─> Body ── CRLF.CRLF ──> one answer, or one for each recipient
//!   [RSET] MAIL RCPT… ───────────── BDAT n LAST, Body ──> one answer
//! ```
//!
//! With PIPELINING the commands go out ahead of their answers, [`COMMANDS_IN_FLIGHT_MAX`] at the
//! most; answers are counted, not recognised (RFC 2920 §3.1). A small message goes by BDAT together
//! with them. Without it each command waits for the answer to the one before.
//!
//! Promises:
//!   - each recipient has one verdict at the end, whatever the server does
//!   - a message whose end was sent and not answered counts as not delivered: it may come twice, it
//!     is never lost (RFC 5321 §4.2.5)
//!   - no message is sent for nobody; behind a 354 that was given for nobody goes the dot alone
//!   - recipients that were too many for one transaction come back as [`Verdict::Again`], and at
//!     least one other was taken when they do

use super::trouble::{Loss, Trouble, Wait};
use super::{Client, State};
use crate::bytes::chain::Chain;
use crate::bytes::codec::to_usize;
use crate::model::address::Address;
use crate::model::limits::{CHUNK_AHEAD_OCTETS_MAX, COMMANDS_IN_FLIGHT_MAX};
use crate::model::reply::{Class, Enhanced, Said};
use crate::wire::smtp::answer::Answer;
use crate::wire::smtp::envelope::{orcpt_in_ascii, put_mail, put_rcpt};
use crate::wire::smtp::offers::{Keywords, Offers};
use crate::wire::smtp::param::{Body, MailParams, Notify, RcptParams};
use std::fmt::Write as _;

/// A recipient, and what was asked for when we were given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcpt<'m> {
    pub address: &'m Address,
    pub params: RcptParams<'m>,
}

/// A message on its way to some recipients.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'m> {
    /// `None` is `<>`.
    pub sender: Option<&'m Address>,
    /// What was asked for, and what the octets to be sent are: `size` is how many there are, dots not
    /// stuffed, which must be exact for BDAT; `body` what they hold; `utf8`, whether the header needs
    /// SMTPUTF8. What the server does not offer is left out; what must not be left out makes the mail
    /// [`Verdict::Unfit`]. `by` counts from now.
    pub params: MailParams<'m>,
    /// At least one.
    pub recipients: &'m [Rcpt<'m>],
}

/// How the octets of the message go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Dots stuffed. [`Transaction::body_sent`] writes the end.
    Data,
    /// As they are, and as many as were announced.
    Chunk,
}

/// What the caller does before it steps again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send what was written, and wait for octets, behind those that were not used.
    Read(Wait),
    /// Write the message behind what was written and send all of it; step whenever the server says
    /// something meanwhile, and go on for as long as this is the turn. Then
    /// [`Transaction::body_sent`].
    Body(Framing),
    /// Nothing more to do; [`Transaction::finish`].
    Done,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server has taken the message for it.
    Delivered(Said),
    /// Try again later (4xx), here or at another host.
    Deferred(Said),
    /// Refused for good (5xx).
    Failed(Said),
    /// This server cannot take it for what it is (no SMTPUTF8, too large, no REQUIRETLS …); another
    /// one of the domain may. Where none does it has failed, with these words.
    Unfit(Said),
    /// Nobody has looked at it: it was one too many. Put it into the next transaction, in this session
    /// if that takes one.
    Again,
}

/// What became of all.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// One for each recipient, in their order.
    pub verdicts: Vec<Verdict>,
    /// What the session broke off for; it is over then. Recipients that had no verdict of their own
    /// are deferred with its words.
    pub trouble: Option<Trouble>,
}

#[derive(Debug)]
enum Place {
    /// Asked, or to be asked.
    Waiting,
    /// RCPT was answered 2xx.
    Accepted,
    Settled(Verdict),
}

/// A command of the transaction, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Reset,
    Mail,
    /// The recipient with this index among those asked for.
    Rcpt(usize),
    /// DATA, or BDAT before its message.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was written.
    Fresh,
    /// Commands and their answers.
    Envelope,
    /// The message is being written by the caller.
    Body,
    /// The message is out; the answer to it, or LMTP's next one for the accepted recipient with this
    /// index or behind it.
    Finals(usize),
    /// The dot behind a 354 that was given for nobody.
    LoneDot,
    Done,
}

/// One transaction; borrows the session.
pub struct Transaction<'c, 'm> {
    client: &'c mut Client,
    mail: &'c Mail<'m>,
    /// Those that are offered.
    params: MailParams<'m>,
    places: Vec<Place>,
    /// Indices of the recipients that are asked for.
    asked: Vec<usize>,
    framing: Framing,
    is_pipelining: bool,
    begins_with_reset: bool,
    phase: Phase,
    /// Commands written, and answers to them heard.
    written: usize,
    heard: usize,
    accepted: usize,
    /// MAIL was refused.
    refused: Option<Said>,
    trouble: Option<Trouble>,
}

impl Client {
    /// Begins a transaction. Whatever the server cannot take makes it one that is done at once.
    pub fn transaction<'c, 'm>(&'c mut self, mail: &'c Mail<'m>) -> Transaction<'c, 'm> {
        assert!(
            matches!(self.state, State::Ready),
            "a transaction begins when the session is ready"
        );
        // Who answers a chunk of LMTP how often is told by no RFC.
        let has_chunks =
            self.offers.has(Keywords::CHUNKING) && !self.profile.lmtp && mail.params.size.is_some();
        let mut transaction = Transaction {
            params: MailParams::default(),
            places: Vec::with_capacity(mail.recipients.len()),
            asked: Vec::with_capacity(mail.recipients.len()),
            framing: if has_chunks { Framing::Chunk } else { Framing::Data },
            is_pipelining: self.offers.has(Keywords::PIPELINING),
            begins_with_reset: self.needs_reset,
            phase: Phase::Fresh,
            written: 0,
            heard: 0,
            accepted: 0,
            refused: None,
            trouble: None,
            mail,
            client: self,
        };
        match transaction.client.fit(mail) {
            Ok(params) => {
                transaction.params = params;
                transaction.choose();
            }
            Err(said) => {
                let unfit = |_| Place::Settled(Verdict::Unfit(said.clone()));
                transaction.places.extend(mail.recipients.iter().map(unfit));
            }
        }
        transaction
    }

    /// What MAIL says to this server, or why the mail is not for it.
    fn fit<'m>(&self, mail: &Mail<'m>) -> Result<MailParams<'m>, Said> {
        let (asked, offers) = (&mail.params, &self.offers);
        let only = |keyword: Keywords, is_wanted: bool| is_wanted && offers.has(keyword);
        let size = asked.size.unwrap_or(0);
        if offers.size_max.is_some_and(|max| size > max) {
            // RFC 1870 §6.4: what is announced need not be tried.
            return Err(Said::ours(552, 3, 4, "message is larger than the server takes"));
        }
        let takes_body = match asked.body {
            Body::SevenBit => true,
            Body::EightBit => offers.has(Keywords::EIGHT_BIT_MIME),
            Body::Binary => {
                offers.has(Keywords::BINARY_MIME.with(Keywords::CHUNKING)) && !self.profile.lmtp
            }
        };
        if !takes_body {
            let text = "server does not take octets of this kind, and the message has them";
            return Err(Said::ours(554, 6, 3, text));
        }
        let has_utf8_sender = mail.sender.is_some_and(|sender| !sender.is_ascii());
        if !offers.has(Keywords::SMTP_UTF8) {
            if asked.utf8 {
                return Err(Said::ours(554, 6, 9, "server takes no header in UTF-8 (SMTPUTF8)"));
            }
            if has_utf8_sender {
                return Err(Said::ours(550, 6, 7, "server takes no sender in UTF-8 (SMTPUTF8)"));
            }
        }
        let has_tls = self.is_encrypted && offers.has(Keywords::REQUIRE_TLS);
        // RFC 8689 §5: a report goes on all the same.
        if asked.require_tls && mail.sender.is_some() {
            // RFC 8689 §4.2.1.
            if !self.is_encrypted {
                return Err(Said::ours(550, 7, 10, "message requires TLS, which is not there"));
            }
            if !offers.has(Keywords::REQUIRE_TLS) {
                return Err(Said::ours(550, 7, 30, "server does not offer REQUIRETLS"));
            }
        }
        if let Some(by) = asked.by.filter(|by| by.returns)
            && (!offers.has(Keywords::DELIVER_BY)
                // With nothing left it could not even be said (§4).
                || i64::from(by.seconds) < i64::from(offers.by_min.max(1)))
        {
            // RFC 2852 §4.1.4.1: such a message must not go where its time is not heeded.
            return Err(Said::ours(554, 4, 7, "server does not promise to deliver in time"));
        }
        let reports = offers.has(Keywords::DSN);
        let utf8_recipient = || mail.recipients.iter().any(|rcpt| !rcpt.address.is_ascii());
        let utf8 = asked.utf8 || has_utf8_sender || utf8_recipient();
        Ok(MailParams {
            size: asked.size.filter(|_| offers.has(Keywords::SIZE)),
            body: asked.body,
            utf8: only(Keywords::SMTP_UTF8, utf8),
            ret: asked.ret.filter(|_| reports),
            envid: asked.envid.filter(|_| reports),
            auth: None,
            hold: None,
            by: asked.by.filter(|_| offers.has(Keywords::DELIVER_BY)),
            priority: asked.priority.filter(|_| offers.has(Keywords::MT_PRIORITY)),
            require_tls: asked.require_tls && has_tls,
        })
    }
}

impl Transaction<'_, '_> {
    /// Advances by at most one answer. Returns the octets of `input` used up, and what to do next.
    pub fn step(&mut self, input: &[u8], out: &mut Chain) -> (usize, Turn) {
        match self.phase {
            Phase::Done => return (0, Turn::Done),
            Phase::Fresh if self.asked.is_empty() => return (0, self.done()),
            Phase::Fresh if input.is_empty() => {
                self.phase = Phase::Envelope;
                return (0, self.write(out));
            }
            _ => {}
        }
        match self.client.reader.take(input) {
            Ok(None) if self.phase == Phase::Fresh => {
                // Half an answer to nothing: the other half would be taken for that to MAIL.
                (0, self.fail(Trouble::lost(Wait::Mail, Loss::Dropped)))
            }
            Ok(None) => (0, self.turn()),
            Ok(Some(answer)) => (answer.len(), self.hear(&answer, out)),
            Err(error) => (0, self.fail(Trouble::no_answer(self.wait(), error))),
        }
    }

    /// The caller has written the message, and nothing of the session behind it. `is_open`: it does
    /// not end with CRLF.
    pub fn body_sent(&mut self, is_open: bool, out: &mut Chain) {
        assert!(self.phase == Phase::Body, "a message is sent when it is asked for");
        if self.framing == Framing::Data {
            // RFC 5321 §4.1.1.4: no empty line more than the message has.
            out.put(if is_open { b"\r\n.\r\n" } else { b".\r\n" });
        }
        self.phase = if self.heard < self.written { Phase::Envelope } else { Phase::Finals(0) };
    }

    /// The connection has come to its end before the transaction has.
    pub fn lost(&mut self, loss: Loss) -> Turn {
        self.fail(Trouble::lost(self.wait(), loss))
    }

    /// What became of all recipients.
    pub fn finish(mut self) -> Delivery {
        if self.phase != Phase::Done {
            self.lost(Loss::Dropped);
        }
        let left = || match (&self.trouble, &self.refused) {
            // MAIL was refused before the session broke off.
            (_, Some(said)) => verdict(said),
            (Some(trouble), None) => Verdict::Deferred(trouble.said.clone()),
            (None, None) => unreachable!("each recipient that was asked for was answered for"),
        };
        let settled = self.places.into_iter().map(|place| match place {
            Place::Settled(verdict) => verdict,
            Place::Waiting | Place::Accepted => left(),
        });
        Delivery { verdicts: settled.collect(), trouble: self.trouble }
    }

    /// Decides whom to ask for; the others have their verdict.
    fn choose(&mut self) {
        let Client { offers, domains, is_spent, .. } = &mut *self.client;
        let rcpt_max = offers.limits.rcpt_max.map_or(usize::MAX, to_count);
        for (index, rcpt) in self.mail.recipients.iter().enumerate() {
            let place = if !rcpt.address.is_ascii() && !offers.has(Keywords::SMTP_UTF8) {
                let text = "server takes no recipient in UTF-8 (SMTPUTF8)";
                Place::Settled(Verdict::Unfit(Said::ours(553, 6, 7, text)))
            } else if self.asked.len() >= rcpt_max {
                Place::Settled(Verdict::Again)
            } else if !admit(offers, domains, rcpt.address.domain()) {
                // RFC 9422 §4.3: the count is the session's.
                *is_spent = true;
                Place::Settled(Verdict::Again)
            } else {
                self.asked.push(index);
                Place::Waiting
            };
            self.places.push(place);
        }
    }

    /// The message goes out behind its envelope, before any answer.
    fn sends_ahead(&self) -> bool {
        let is_small = self.mail.params.size.is_some_and(|size| size <= CHUNK_AHEAD_OCTETS_MAX);
        self.is_pipelining && is_small && self.framing == Framing::Chunk
    }

    /// The command with this index. A chunk that does not go ahead is none of them: it is written
    /// when it is known that somebody takes it.
    fn command(&self, index: usize) -> Option<Command> {
        let index = match index.checked_sub(usize::from(self.begins_with_reset)) {
            None => return Some(Command::Reset),
            Some(0) => return Some(Command::Mail),
            Some(index) => index - 1,
        };
        if index < self.asked.len() {
            return Some(Command::Rcpt(index));
        }
        let has_body = self.framing == Framing::Data || self.sends_ahead();
        (index == self.asked.len() && has_body).then_some(Command::Body)
    }

    /// Writes the commands that may go out now.
    fn write(&mut self, out: &mut Chain) -> Turn {
        let most = if self.is_pipelining { COMMANDS_IN_FLIGHT_MAX } else { 1 };
        // Not one for one: a group is one write.
        if self.written - self.heard > most / 2 {
            return self.turn();
        }
        while self.written - self.heard < most {
            if self.refused.is_some() {
                break;
            }
            let Some(command) = self.command(self.written) else { break };
            if command == Command::Body && self.heard == self.written && self.accepted == 0 {
                // All of them are known to be refused.
                break;
            }
            self.put(command, out);
            self.written += 1;
            if command == Command::Body && self.framing == Framing::Chunk {
                self.phase = Phase::Body;
                return Turn::Body(Framing::Chunk);
            }
        }
        if self.written > self.heard {
            return self.turn();
        }
        // Everything is answered.
        if self.refused.is_none() && self.accepted > 0 {
            self.put(Command::Body, out);
            self.phase = Phase::Body;
            return Turn::Body(self.framing);
        }
        self.client.needs_reset |= self.refused.is_none();
        self.done()
    }

    fn put(&mut self, command: Command, out: &mut Chain) {
        match command {
            Command::Reset => out.put(b"RSET\r\n"),
            Command::Mail => {
                self.client.mails += 1;
                put_mail(self.mail.sender, &self.params, out);
            }
            Command::Rcpt(index) => {
                let rcpt = &self.mail.recipients[self.asked[index]];
                let mut params = self.rcpt_params(rcpt);
                let ascii = params.orcpt.filter(|_| !self.params.utf8).and_then(orcpt_in_ascii);
                if let Some(ascii) = &ascii {
                    params = RcptParams { orcpt: Some(ascii), ..params };
                }
                put_rcpt(rcpt.address, &params, out);
            }
            Command::Body if self.framing == Framing::Data => out.put(b"DATA\r\n"),
            Command::Body => {
                let size = self.mail.params.size.expect("a chunk has a size");
                write!(out, "BDAT {size} LAST\r\n").expect("a chain takes all text");
            }
        }
    }

    /// What RCPT says to this server (RFC 3461 §5.2.1, §5.2.2).
    fn rcpt_params<'m>(&self, rcpt: &Rcpt<'m>) -> RcptParams<'m> {
        let offers = &self.client.offers;
        if !offers.has(Keywords::DSN) {
            return RcptParams::default();
        }
        let mut params = rcpt.params;
        // RFC 2852 §4.1.4.2: who does not heed the time is to tell of delays at least.
        let is_timed = self.mail.params.by.is_some_and(|by| !by.returns);
        if is_timed && !offers.has(Keywords::DELIVER_BY) {
            let asked = params.notify.unwrap_or(Notify { failure: true, ..Notify::default() });
            let is_never = asked == Notify::default();
            params.notify = Some(Notify { delay: !is_never, ..asked });
        }
        params
    }

    /// What is waited for.
    fn wait(&self) -> Wait {
        match self.phase {
            Phase::Fresh => Wait::Mail,
            Phase::Envelope => match self.command(self.heard) {
                Some(Command::Reset) => Wait::Reset,
                Some(Command::Mail) => Wait::Mail,
                Some(Command::Rcpt(_)) => Wait::Rcpt,
                Some(Command::Body) if self.framing == Framing::Data => Wait::Data,
                Some(Command::Body) | None => Wait::Message,
            },
            Phase::Body => Wait::Block,
            Phase::Finals(_) | Phase::LoneDot | Phase::Done => Wait::Message,
        }
    }

    fn turn(&self) -> Turn {
        match self.phase {
            Phase::Done => Turn::Done,
            Phase::Body => Turn::Body(self.framing),
            _ => Turn::Read(self.wait()),
        }
    }

    fn done(&mut self) -> Turn {
        self.phase = Phase::Done;
        Turn::Done
    }

    fn fail(&mut self, trouble: Trouble) -> Turn {
        self.client.state = State::Over;
        self.trouble.get_or_insert(trouble);
        self.done()
    }

    fn hear(&mut self, answer: &Answer<'_>, out: &mut Chain) -> Turn {
        if answer.code == 421 || !matches!(answer.code, 200..600) {
            // RFC 5321 §4.2.2; and a code that is none of these means nothing for any command.
            return self.fail(Trouble::refused(self.wait(), answer));
        }
        match self.phase {
            Phase::Envelope => self.hear_command(answer, out),
            // The message goes out ahead of the answers to its envelope.
            Phase::Body if self.heard + 1 < self.written => self.hear_command(answer, out),
            Phase::Body => self.hear_early(answer),
            Phase::Finals(index) => self.hear_final(index, answer),
            Phase::LoneDot => self.done(),
            Phase::Fresh | Phase::Done => self.senseless(answer),
        }
    }

    fn senseless(&mut self, answer: &Answer<'_>) -> Turn {
        let trouble = Trouble::senseless(self.wait(), &answer.to_said());
        self.fail(trouble)
    }

    fn hear_command(&mut self, answer: &Answer<'_>, out: &mut Chain) -> Turn {
        let command = self.command(self.heard);
        let is_yes = match command {
            Some(Command::Body) if self.framing == Framing::Data => answer.code / 100 == 3,
            _ => answer.is_positive(),
        };
        if !is_yes && !matches!(answer.code, 400..600) {
            return self.senseless(answer);
        }
        match command {
            Some(Command::Reset) if !is_yes => {
                return self.fail(Trouble::refused(Wait::Reset, answer));
            }
            Some(Command::Reset) => self.client.needs_reset = false,
            Some(Command::Mail) if !is_yes => self.refused = Some(answer.to_said()),
            Some(Command::Mail) => {}
            Some(Command::Rcpt(index)) => self.hear_rcpt(index, is_yes, answer),
            Some(Command::Body) | None => {
                self.heard += 1;
                return self.hear_body(is_yes, answer, out);
            }
        }
        self.heard += 1;
        if self.phase == Phase::Body { self.turn() } else { self.write(out) }
    }

    fn hear_rcpt(&mut self, index: usize, is_yes: bool, answer: &Answer<'_>) {
        if self.refused.is_some() {
            // It can only be that there was no MAIL.
            return;
        }
        let place = if is_yes {
            self.accepted += 1;
            Place::Accepted
        } else if self.is_too_many(answer) {
            self.stop_asking();
            Place::Settled(Verdict::Again)
        } else {
            Place::Settled(verdict(&answer.to_said()))
        };
        self.places[self.asked[index]] = place;
    }

    /// RFC 5321 §4.5.3.1.10: the recipient is refused for those before it. Where there are none, or
    /// the server says that it means another thing, it is meant itself.
    fn is_too_many(&self, answer: &Answer<'_>) -> bool {
        const TOO_MANY: Enhanced = Enhanced(5, 3);
        let is_meant = match answer.enhanced() {
            Some(enhanced) => enhanced == TOO_MANY,
            None => matches!(answer.code, 452 | 552),
        };
        self.accepted > 0 && is_meant
    }

    /// Those that nobody was asked for yet have to wait for another transaction.
    fn stop_asking(&mut self) {
        let commands = self.written - usize::from(self.begins_with_reset) - 1;
        let count = commands.min(self.asked.len());
        for &index in &self.asked[count..] {
            self.places[index] = Place::Settled(Verdict::Again);
        }
        self.asked.truncate(count);
    }

    /// The answer to DATA, or to a chunk that went ahead.
    fn hear_body(&mut self, is_yes: bool, answer: &Answer<'_>, out: &mut Chain) -> Turn {
        if self.framing == Framing::Chunk {
            // RFC 3030 §2: a chunk that is refused leaves the transaction open.
            self.client.needs_reset |= !is_yes && self.refused.is_none();
            return self.settle(answer);
        }
        if !is_yes {
            self.client.needs_reset |= self.refused.is_none();
            return self.settle(answer);
        }
        if self.accepted == 0 {
            // RFC 2920 §3.1: it takes a message for nobody; it gets an empty one.
            out.put(b".\r\n");
            self.phase = Phase::LoneDot;
            return self.turn();
        }
        self.phase = Phase::Body;
        self.turn()
    }

    /// The server answers to a message that it has not seen the end of: it does not want it. The
    /// rest cannot be taken back, so that the session ends here.
    fn hear_early(&mut self, answer: &Answer<'_>) -> Turn {
        if !matches!(answer.code, 400..600) {
            return self.senseless(answer);
        }
        self.settle(answer);
        self.fail(Trouble::refused(Wait::Block, answer))
    }

    /// One answer is for all that were accepted.
    fn settle(&mut self, answer: &Answer<'_>) -> Turn {
        if self.accepted > 0 && self.refused.is_none() {
            let said = answer.to_said();
            for place in &mut self.places {
                if matches!(place, Place::Accepted) {
                    *place = Place::Settled(verdict(&said));
                }
            }
        }
        self.done()
    }

    fn hear_final(&mut self, from: usize, answer: &Answer<'_>) -> Turn {
        if answer.code / 100 == 3 {
            return self.senseless(answer);
        }
        if !self.client.profile.lmtp {
            let is_chunk = self.framing == Framing::Chunk;
            self.client.needs_reset |= is_chunk && !answer.is_positive();
            return self.settle(answer);
        }
        let is_next = |place: &Place| matches!(place, Place::Accepted);
        let next = self.places.iter().skip(from).position(is_next).map(|at| from + at);
        let next = next.expect("one of them waits for its answer");
        self.places[next] = Place::Settled(verdict(&answer.to_said()));
        if self.places.iter().skip(next + 1).any(|place| matches!(place, Place::Accepted)) {
            self.phase = Phase::Finals(next + 1);
            return self.turn();
        }
        self.done()
    }
}

fn to_count(max: u32) -> usize {
    to_usize(u64::from(max))
}

/// Counts one more domain, if it is a new one and there is room for it.
fn admit(offers: &Offers, domains: &mut Vec<Box<str>>, domain: &str) -> bool {
    let Some(max) = offers.limits.rcpt_domain_max else { return true };
    if domains.iter().any(|known| **known == *domain) {
        return true;
    }
    let has_room = domains.len() < to_count(max);
    if has_room {
        domains.push(domain.into());
    }
    has_room
}

fn verdict(said: &Said) -> Verdict {
    match said.class() {
        Class::Ok => Verdict::Delivered(said.clone()),
        Class::Transient => Verdict::Deferred(said.clone()),
        Class::Permanent => Verdict::Failed(said.clone()),
    }
}
