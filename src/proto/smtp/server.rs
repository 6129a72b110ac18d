//! The machine of one SMTP or LMTP session, server's side (RFC 5321 §4, RFC 2033, RFC 3030).
//!
//! ```text
//!            EHLO            MAIL           RCPT…          DATA
//!   Ready ──────────> Ready ───────> Mail ─────────> Mail ───────> Data ── CRLF.CRLF ──> Ready
//!                                                      │ BDAT       BDAT…
//!                                                      └──> Chunk <──────> Chunks
//!                                                             └── LAST ───────────────> Ready
//! ```
//!
//! Promises:
//!   - one reply per command, in order; LMTP: one per accepted recipient at the end of a message
//!   - with [`Step::Commit`] the machine is done with that message: what is pipelined behind it
//!     goes on while the caller stores it and answers with [`super::outcome_replies`]
//!   - the octets of a BDAT are used up whether it is refused or not, so the session stays in step
//!   - a refused command changes nothing, but for a refused chunk, which ends its transaction
//!
//! Illegal: [`Session::step`] while a question is open.

mod chunks;
mod exchange;

use super::intake::{Intake, Taken};
use super::reply::{self, put_named};
use super::{Bounds, Service, Settings};
use crate::bytes::chain::Chain;
use crate::bytes::codec::to_u64;
use crate::model::address::Address;
use crate::model::channel::{CLEAR, Channel};
use crate::model::limits::{SASL_LINE_OCTETS_MAX, SMTP_LINE_SKIPPED_OCTETS_MAX};
use crate::model::reply::Class;
use crate::proto::sasl::{Mechanisms, Move};
use crate::wire::address::{ForwardPath, Path, ReversePath};
use crate::wire::dot::{Unstuffed, Unstuffer};
use crate::wire::line::{Front, Skip, front};
use crate::wire::smtp::command::{
    Chunk, Command, CommandError, HelloKind, Recipient, Sender, parse,
};
use crate::wire::smtp::param::{Body, MailParams};
use crate::wire::smtp::reply::Reply;
use crate::wire::smtp::xclient::Xclient;
use crate::wire::trace::{Dialogue, With};
use std::rc::Rc;

/// The first octet of a TLS record that holds a handshake; no command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the caller does before it steps again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Wait for more octets, behind those that were not used.
    Read,
    /// Step again with the rest.
    Continue,
    /// MAIL: may this sender send? Then [`Session::sender`].
    Sender(Sender<'a>),
    /// RCPT: is mail taken for this one? Then [`Session::recipient`].
    Recipient(Recipient<'a>),
    /// VRFY or EXPN: who is that? Then [`Session::found`].
    Lookup(Lookup<'a>),
    /// AUTH, or the answer to a challenge: what becomes of it? Then [`Session::challenge`] or
    /// [`Session::authenticated`].
    Auth(Move),
    /// XCLIENT: somebody else is the client. Then [`Session::introduced`].
    Client(Box<Xclient>),
    /// A message begins: is there room for a draft? Then [`Session::begin`].
    Begin,
    /// Append these octets to the draft.
    Body(&'a [u8]),
    /// The draft is the whole message: store it for the accepted recipients. The transaction is
    /// over; the place of its reply is here, whatever is written behind it meanwhile.
    Commit {
        /// All lines end with CRLF, and no NUL or overlong line is in it. A message that is no
        /// text came by BDAT; it must never be sent on by DATA (the next server could see an end
        /// where there is none).
        is_text: bool,
    },
    /// The transaction came to nothing: drop the draft, the sender and the recipients, if any.
    Abort,
    /// Drop what is open as with [`Step::Abort`] and whatever was received and not used, send what was
    /// written, shake hands; then go on with a new session (RFC 3207 §4.2), which is told by
    /// [`Session::secure`].
    Secure,
    /// Drop what is open as with [`Step::Abort`], send what was written, hang up.
    Close,
}

/// Whom VRFY or EXPN asks for: what the client typed, an address or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    Verify(&'a str),
    Expand(&'a str),
}

/// The caller's answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'t> {
    Accept,
    /// With a 2xx reply of the caller's, which says more than the usual one.
    AcceptWith(Reply<'t>),
    /// With a 4xx or 5xx reply.
    Refuse(Reply<'t>),
}

/// The caller's answer to [`Step::Lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'t> {
    /// These mailboxes, at least one.
    Mailboxes(&'t [Address]),
    /// Nobody is told (252).
    Hidden,
    /// With a 4xx or 5xx reply.
    Refused(Reply<'t>),
}

/// What is known of an open transaction.
#[derive(Clone, Copy, Debug)]
struct Mail {
    /// RCPT commands that were sound (RFC 9422 §4.2 counts them, not their success).
    asked: u32,
    accepted: u32,
    /// BODY=BINARYMIME.
    binary: bool,
    /// SMTPUTF8.
    utf8: bool,
}

/// Where the next command finds the session.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// No transaction.
    Ready,
    Mail(Mail),
    /// Between two chunks of a message.
    Chunks(Mail, Intake),
    /// A chunk was refused; those that are pipelined behind it are, too (RFC 3030 §2).
    Failed(Mail),
}

/// What the caller was asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    Sender(Mail),
    Recipient(Mail),
    Data(Mail),
    Chunk(Mail, Chunk),
    Lookup(Place),
    Auth,
    Client,
}

#[derive(Debug)]
enum State {
    Command(Place),
    Asked(Question),
    /// A challenge was sent; the next line answers it. Where it tells of a refusal, the login has
    /// failed whatever that line is.
    Exchange {
        is_refused: bool,
    },
    Data(Mail, Unstuffer, Intake),
    /// Octets of a chunk are awaited: so many.
    Chunk(Mail, Intake, Chunk),
    /// Octets of a refused chunk are used up before its reply.
    Dropping {
        left: u64,
        dropped: u64,
        replies: Box<[u8]>,
        then: Place,
    },
    Closing,
}

/// An overlong line under way.
#[derive(Clone, Copy, Debug)]
struct Skipping {
    skip: Skip,
    octets: u64,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    settings: Rc<Settings>,
    state: State,
    hello: Option<(HelloKind, Box<str>)>,
    skipping: Option<Skipping>,
    /// Replies of 5xx so far, and junk beyond what is allowed.
    errors: u32,
    /// Since the last message: commands that bring none nearer, and replies of 4xx.
    junk: u32,
    /// See [`Session::takes_flush`].
    flush: bool,
    /// `None`: in clear.
    channel: Option<Box<Channel>>,
    /// What AUTH offers here and now.
    mechanisms: Mechanisms,
    is_authenticated: bool,
    logins_failed: u8,
    /// Seconds since 1970, as they were told last.
    now: u32,
}

impl Session {
    pub fn new(settings: Rc<Settings>) -> Session {
        let state = State::Command(Place::Ready);
        let mechanisms = settings.auth.offered(&CLEAR);
        Session {
            settings,
            state,
            hello: None,
            skipping: None,
            errors: 0,
            junk: 0,
            flush: false,
            channel: None,
            mechanisms,
            is_authenticated: false,
            logins_failed: 0,
            now: 0,
        }
    }

    /// Tells what time it is, in seconds since 1970: to be called when something was received.
    pub fn at(&mut self, now: u32) {
        self.now = now;
    }

    /// Offers from now on what may be used on such a connection; at first it is one in clear.
    pub fn secure(&mut self, channel: &Channel) {
        self.mechanisms = self.settings.auth.offered(channel);
        self.channel = channel.encrypted.then(|| Box::new(channel.clone()));
    }

    /// What the connection is.
    pub fn channel(&self) -> &Channel {
        self.channel.as_deref().unwrap_or(&CLEAR)
    }

    /// What AUTH offers here and now.
    pub fn mechanisms(&self) -> Mechanisms {
        self.mechanisms
    }

    /// It has said its last word.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// The client has shown who it is.
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Writes what a client hears first.
    pub fn greeting(&self, out: &mut Chain) {
        self.settings.greet(out);
    }

    /// The name that the client gives itself.
    pub fn hello(&self) -> Option<&str> {
        self.hello.as_ref().map(|(_, name)| &**name)
    }

    /// The protocol as a trace line calls it; `utf8` says whether MAIL had SMTPUTF8.
    pub fn with(&self, utf8: bool) -> With {
        let dialogue = match (self.hello.as_ref().map(|(kind, _)| *kind), utf8) {
            (Some(HelloKind::Lhlo), true) => Dialogue::Utf8Lmtp,
            (Some(HelloKind::Lhlo), false) => Dialogue::Lmtp,
            (Some(HelloKind::Ehlo), true) => Dialogue::Utf8Smtp,
            (Some(HelloKind::Ehlo), false) => Dialogue::Esmtp,
            (Some(HelloKind::Helo) | None, _) => Dialogue::Smtp,
        };
        With { dialogue, tls: self.channel.is_some(), auth: self.is_authenticated }
    }

    /// Octets of a message are awaited rather than a command: another timeout applies
    /// (RFC 5321 §4.5.3.2).
    pub fn is_in_message(&self) -> bool {
        matches!(self.state, State::Data(..) | State::Chunk(..) | State::Dropping { .. })
    }

    /// An overlong line is under way, of which the octets are used up as they come.
    pub fn is_in_line(&self) -> bool {
        self.skipping.is_some()
    }

    /// Writes the last reply to a client that was silent for too long; then closes.
    pub fn timed_out(&mut self, out: &mut Chain) {
        self.give_up(4, 2, "Waited too long", out);
    }

    /// Writes the last reply of a server that cannot say in time what became of a message (421 4.3.0);
    /// then closes.
    pub fn overdue(&mut self, out: &mut Chain) {
        self.give_up(3, 0, "This takes too long, come back later", out);
    }

    /// Writes the last reply of a server that stops; then closes. Answers an open question too.
    pub fn shutting_down(&mut self, out: &mut Chain) {
        self.give_up(3, 2, "Going down, come back later", out);
    }

    /// Writes the last reply to a client that did more than it may (421 4.7.0); then closes. Not
    /// while a question is open.
    pub fn turn_out(&mut self, why: &str, out: &mut Chain) {
        debug_assert!(!matches!(self.state, State::Asked(_)), "answer the question first");
        self.give_up(7, 0, &format!("{why}, come back later"), out);
    }

    /// What was answered since the last call must not wait in a buffer for what is pipelined behind
    /// it (RFC 2920 §3.2, 5 and 6): the answers go out before the caller steps on.
    pub fn takes_flush(&mut self) -> bool {
        std::mem::take(&mut self.flush)
    }

    /// Advances by at most one line or one run of octets. Returns the octets of `input` used up,
    /// and what to do next.
    pub fn step<'a>(&mut self, input: &'a [u8], out: &mut Chain) -> (usize, Step<'a>) {
        match self.state {
            State::Command(_) => self.line(input, out),
            State::Exchange { is_refused } => self.response(input, is_refused, out),
            State::Data(..) => self.data(input, out),
            State::Chunk(..) => self.chunk(input, out),
            State::Dropping { .. } => self.drop_octets(input, out),
            State::Closing => (0, Step::Close),
            State::Asked(question) => unreachable!("answer the question first: {question:?}"),
        }
    }

    /// Answers [`Step::Sender`].
    pub fn sender(&mut self, verdict: Verdict<'_>, out: &mut Chain) {
        let State::Asked(Question::Sender(mail)) = self.state else {
            unreachable!("no sender is asked about")
        };
        let place = match verdict {
            Verdict::Accept | Verdict::AcceptWith(_) => Place::Mail(mail),
            Verdict::Refuse(_) => Place::Ready,
        };
        self.settle(place, verdict, reply::SENDER_OK, out);
    }

    /// Answers [`Step::Recipient`].
    pub fn recipient(&mut self, verdict: Verdict<'_>, out: &mut Chain) {
        let State::Asked(Question::Recipient(mut mail)) = self.state else {
            unreachable!("no recipient is asked about")
        };
        mail.accepted += u32::from(!matches!(verdict, Verdict::Refuse(_)));
        self.settle(Place::Mail(mail), verdict, reply::RECIPIENT_OK, out);
    }

    /// Answers [`Step::Begin`].
    pub fn begin(&mut self, verdict: Verdict<'_>, out: &mut Chain) {
        match (&self.state, verdict) {
            (&State::Asked(Question::Data(mail)), Verdict::Accept) => {
                reply::START_DATA.put(out);
                self.state = State::Data(mail, Unstuffer::new(), Intake::by_data(&self.settings));
            }
            (&State::Asked(Question::Data(mail)), Verdict::Refuse(_)) => {
                self.settle(Place::Mail(mail), verdict, reply::OK, out);
            }
            (&State::Asked(Question::Chunk(mail, chunk)), Verdict::Accept) => {
                let intake = Intake::by_chunks(&self.settings, mail.binary);
                self.state = State::Chunk(mail, intake, chunk);
            }
            (&State::Asked(Question::Chunk(mail, chunk)), Verdict::Refuse(reply)) => {
                self.refuse_chunk(reply, chunk, Place::Failed(mail));
            }
            _ => unreachable!("no message begins"),
        }
    }

    /// Answers [`Step::Lookup`].
    pub fn found(&mut self, found: Found<'_>, out: &mut Chain) {
        let State::Asked(Question::Lookup(place)) = self.state else {
            unreachable!("nobody is looked up")
        };
        let verdict = match found {
            Found::Mailboxes(mailboxes) => {
                // Addresses outside ASCII cannot be told in a reply (RFC 6531 §3.7.4.2).
                let told: Vec<String> = mailboxes
                    .iter()
                    .filter(|mailbox| mailbox.is_ascii())
                    .map(|mailbox| format!("<{mailbox}>"))
                    .collect();
                let text = told.join("\n");
                let told = Reply::new(250, 1, 5, &text);
                let answer = if text.is_empty() { reply::CANNOT_TELL } else { told };
                return self.settle(place, Verdict::Accept, answer, out);
            }
            Found::Hidden => Verdict::Accept,
            Found::Refused(reply) => Verdict::Refuse(reply),
        };
        self.settle(place, verdict, reply::CANNOT_TELL, out);
    }

    /// Answers [`Step::Client`]: the session begins anew, for a client that gave itself this name, with
    /// settings by which it introduces nobody itself.
    pub fn introduced(
        &mut self,
        hello: Option<(HelloKind, Box<str>)>,
        settings: Rc<Settings>,
        out: &mut Chain,
    ) {
        let State::Asked(Question::Client) = self.state else {
            unreachable!("nobody is introduced")
        };
        assert!(!settings.dialect.xclient, "a client that was named names nobody");
        self.settings = settings;
        self.state = State::Command(Place::Ready);
        self.hello = hello;
        self.is_authenticated = false;
        self.greeting(out);
    }

    /// Goes on at `place`, with the reply that the verdict calls for.
    fn settle(&mut self, place: Place, verdict: Verdict<'_>, ok: Reply<'_>, out: &mut Chain) {
        self.state = State::Command(place);
        match verdict {
            Verdict::Accept => ok.put(out),
            Verdict::AcceptWith(reply) => reply.put(out),
            Verdict::Refuse(reply) => {
                self.refuse(reply, out);
            }
        }
    }

    /// Writes a reply that is no success; the one too many closes the session instead.
    fn refuse(&mut self, reply: Reply<'_>, out: &mut Chain) -> Step<'static> {
        self.count(reply);
        if self.errors > self.settings.errors_max {
            return self.give_up(7, 0, "Too many errors", out);
        }
        reply.put(out);
        Step::Continue
    }

    fn count(&mut self, reply: Reply<'_>) {
        match reply.class() {
            Class::Permanent => self.errors = self.errors.saturating_add(1),
            Class::Transient => self.count_junk(),
            Class::Ok => {}
        }
    }

    /// What a proper client does now and then, and any number of times only one that wants to keep
    /// the session: beyond the allowance it counts as an error.
    fn count_junk(&mut self) {
        self.junk = self.junk.saturating_add(1);
        self.errors =
            self.errors.saturating_add(u32::from(self.junk > self.settings.junk_commands_max));
    }

    /// Ends the session from this side: 421 with the enhanced code 4.`subject`.`detail`.
    fn give_up(&mut self, subject: u16, detail: u16, text: &str, out: &mut Chain) -> Step<'static> {
        put_named(&self.settings, 421, subject, detail, text, out);
        self.state = State::Closing;
        Step::Close
    }

    fn line<'a>(&mut self, input: &'a [u8], out: &mut Chain) -> (usize, Step<'a>) {
        if let Some(skipping) = &mut self.skipping {
            let (used, ended) = skipping.skip.step(input);
            skipping.octets += to_u64(used);
            if skipping.octets > SMTP_LINE_SKIPPED_OCTETS_MAX {
                return (used, self.give_up(7, 0, "Line without end", out));
            }
            if ended {
                self.skipping = None;
            }
            return (used, if ended { Step::Continue } else { Step::Read });
        }
        if input.first() == Some(&TLS_HANDSHAKE) {
            return (input.len(), self.give_up(7, 0, "TLS is not spoken here", out));
        }
        let (used, found) = front(input, self.line_max(input));
        let step = match found {
            Front::Partial => Step::Read,
            Front::Line(line) => self.command(line, out),
            Front::Bare => self.refuse(reply::BARE_LINE_END, out),
            Front::TooLong(skip) => {
                self.skipping = Some(Skipping { skip, octets: 0 });
                self.refuse(reply::LINE_TOO_LONG, out)
            }
        };
        (used, step)
    }

    /// Tokens in an initial response are longer than any other command.
    fn line_max(&self, input: &[u8]) -> usize {
        let max = self.settings.command_line_max;
        let is_auth = input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        if is_auth && !self.mechanisms.is_empty() { max.max(SASL_LINE_OCTETS_MAX) } else { max }
    }

    fn command<'a>(&mut self, line: &'a [u8], out: &mut Chain) -> Step<'a> {
        let State::Command(place) = self.state else { unreachable!("commands come in this state") };
        let command = match parse(line, self.settings.dialect) {
            Ok(command) => command,
            Err(CommandError::Foreign) => {
                return self.give_up(7, 0, "HTTP is not spoken here", out);
            }
            Err(CommandError::Chunk(len)) => {
                let chunk = Chunk { len, last: false };
                return self.drop_chunk(reply::BAD_ARGUMENT, chunk, place);
            }
            Err(error) => {
                self.flush = true;
                return self.refuse(reply::to_error(error), out);
            }
        };
        self.flush |= must_flush(&command);
        if command.is_junk() {
            self.count_junk();
            if self.errors > self.settings.errors_max {
                return self.give_up(7, 0, "Too many errors", out);
            }
        }
        match command {
            Command::Noop => reply::OK.put(out),
            Command::Help => reply::HELP.put(out),
            Command::Rset => {
                reply::OK.put(out);
                return self.reset(place);
            }
            Command::Quit => {
                put_named(&self.settings, 221, 0, 0, "Bye", out);
                self.state = State::Closing;
                return Step::Close;
            }
            Command::StartTls => return self.start_tls(out),
            Command::Hello(kind, name) => return self.greeted(kind, name, place, out),
            Command::Vrfy(_) | Command::Expn(_) if self.is_stranger() => {
                return self.refuse(reply::AUTH_REQUIRED, out);
            }
            Command::Vrfy(_) if !self.settings.vrfy => reply::CANNOT_TELL.put(out),
            Command::Expn(_) if !self.settings.expn => {
                return self.refuse(reply::NOT_OFFERED, out);
            }
            Command::Vrfy(whom) => {
                self.state = State::Asked(Question::Lookup(place));
                return Step::Lookup(Lookup::Verify(whom));
            }
            Command::Expn(whom) => {
                self.state = State::Asked(Question::Lookup(place));
                return Step::Lookup(Lookup::Expand(whom));
            }
            Command::Auth { mechanism, initial } => {
                return self.auth(mechanism, initial, place, out);
            }
            Command::Xclient(told) => {
                if !matches!(place, Place::Ready) {
                    return self.refuse(reply::NESTED_MAIL, out);
                }
                self.state = State::Asked(Question::Client);
                return Step::Client(told);
            }
            Command::Mail(sender) => return self.mail(sender, place, out),
            Command::Rcpt(recipient) => return self.rcpt(recipient, place, out),
            Command::Data => return self.data_command(place, out),
            Command::Bdat(chunk) => return self.bdat(chunk, place),
        }
        Step::Continue
    }

    fn start_tls(&mut self, out: &mut Chain) -> Step<'static> {
        if self.channel.is_some() {
            return self.refuse(reply::TLS_ALREADY, out);
        }
        if !self.settings.starttls {
            return self.refuse(reply::NOT_OFFERED, out);
        }
        reply::START_TLS.put(out);
        // What comes next is another session's.
        self.state = State::Closing;
        Step::Secure
    }

    /// Back to no transaction.
    fn reset(&mut self, place: Place) -> Step<'static> {
        self.state = State::Command(Place::Ready);
        match place {
            Place::Ready => Step::Continue,
            Place::Mail(_) | Place::Chunks(..) | Place::Failed(_) => Step::Abort,
        }
    }

    fn greeted(
        &mut self,
        kind: HelloKind,
        name: &str,
        place: Place,
        out: &mut Chain,
    ) -> Step<'static> {
        match (self.settings.is_lmtp(), kind) {
            (true, HelloKind::Helo | HelloKind::Ehlo) => {
                return self.refuse(reply::WRONG_HELLO_LMTP, out);
            }
            (false, HelloKind::Lhlo) => return self.refuse(reply::WRONG_HELLO_SMTP, out),
            _ => {}
        }
        self.hello = Some((kind, name.into()));
        let offered = (self.channel.is_some(), self.mechanisms);
        self.settings.put_extensions(kind, offered, self.now, out);
        self.reset(place)
    }

    fn mail<'a>(&mut self, sender: Sender<'a>, place: Place, out: &mut Chain) -> Step<'a> {
        if self.hello.is_none() {
            let lmtp = self.settings.is_lmtp();
            let no_hello = if lmtp { reply::NO_HELLO_LMTP } else { reply::NO_HELLO_SMTP };
            return self.refuse(no_hello, out);
        }
        if self.is_stranger() {
            return self.refuse(reply::AUTH_REQUIRED, out);
        }
        match place {
            Place::Ready => {}
            Place::Mail(_) => return self.refuse(reply::NESTED_MAIL, out),
            Place::Chunks(..) => return self.refuse(reply::IN_CHUNKS, out),
            Place::Failed(_) => return self.refuse(reply::CHUNK_FAILED, out),
        }
        if let ReversePath::Path(path) = &sender.path
            && !self.takes_domain(path)
        {
            return self.refuse(reply::SENDER_UNQUALIFIED, out);
        }
        if sender.params.size.is_some_and(|size| size > self.settings.max_message_size) {
            return self.refuse(reply::TOO_LARGE, out);
        }
        if let Err(refusal) = self.judge(&sender.params) {
            return self.refuse(refusal, out);
        }
        let binary = sender.params.body == Body::Binary;
        let mail = Mail { asked: 0, accepted: 0, binary, utf8: sender.params.utf8 };
        self.state = State::Asked(Question::Sender(mail));
        Step::Sender(sender)
    }

    /// Whether what is asked of the queue is within its bounds.
    fn judge(&self, params: &MailParams<'_>) -> Result<(), Reply<'static>> {
        let Bounds { hold_max, by_min, .. } = self.settings.bounds;
        let MailParams { hold, by, require_tls, .. } = *params;
        if require_tls && self.channel.is_none() {
            return Err(reply::REQUIRES_TLS);
        }
        let pause = hold.map_or(0, |hold| hold.pause(self.now));
        // RFC 4865 §5.2.2: what has to be there before it may go cannot be both.
        let is_contrary = by.is_some_and(|by| pause > u64::try_from(by.seconds).unwrap_or(0));
        if pause > u64::from(hold_max) || (pause > 0 && is_contrary) {
            return Err(reply::HELD_TOO_LONG);
        }
        match by {
            Some(by) if by.returns && i64::from(by.seconds) < i64::from(by_min) => {
                Err(reply::BY_TOO_SOON)
            }
            _ => Ok(()),
        }
    }

    fn rcpt<'a>(&mut self, recipient: Recipient<'a>, place: Place, out: &mut Chain) -> Step<'a> {
        let mut mail = match place {
            Place::Mail(mail) => mail,
            Place::Ready => return self.refuse(reply::NO_MAIL, out),
            Place::Chunks(..) => return self.refuse(reply::IN_CHUNKS, out),
            Place::Failed(_) => return self.refuse(reply::CHUNK_FAILED, out),
        };
        if !recipient.path.is_ascii() && !mail.utf8 {
            return self.refuse(reply::RECIPIENT_UTF8, out);
        }
        if let ForwardPath::Path(path) = &recipient.path
            && !self.takes_domain(path)
        {
            return self.refuse(reply::RECIPIENT_UNQUALIFIED, out);
        }
        mail.asked = mail.asked.saturating_add(1);
        let max = self.settings.recipients_max;
        if mail.asked > max {
            self.state = State::Command(Place::Mail(mail));
            // Who sends twice as many does not look at the replies; before that it is no fault.
            if mail.asked > max.saturating_mul(2) {
                return self.refuse(reply::TOO_MANY_RECIPIENTS, out);
            }
            reply::TOO_MANY_RECIPIENTS.put(out);
            return Step::Continue;
        }
        self.state = State::Asked(Question::Recipient(mail));
        Step::Recipient(recipient)
    }

    /// Somebody who has to show first who he is (RFC 6409 §4.3).
    fn is_stranger(&self) -> bool {
        self.settings.service == Service::Submission && !self.is_authenticated
    }

    /// RFC 6409 §4.2: what users send has fully qualified domains, or literals. Other servers are not
    /// judged by this: a domain that is not ours is refused to them anyway.
    fn takes_domain(&self, path: &Path<'_>) -> bool {
        self.settings.service != Service::Submission
            || path.domain().starts_with('[')
            || path.domain().contains('.')
    }

    fn data_command(&mut self, place: Place, out: &mut Chain) -> Step<'static> {
        let refusal = match place {
            Place::Ready => reply::NO_MAIL,
            Place::Chunks(..) => reply::IN_CHUNKS,
            Place::Failed(_) => reply::CHUNK_FAILED,
            Place::Mail(mail) if mail.accepted == 0 => self.no_recipients(mail),
            Place::Mail(Mail { binary: true, .. }) => reply::NEEDS_BDAT,
            Place::Mail(mail) => {
                self.state = State::Asked(Question::Data(mail));
                return Step::Begin;
            }
        };
        self.refuse(refusal, out)
    }

    fn no_recipients(&self, mail: Mail) -> Reply<'static> {
        // RFC 2033 §4.2 leaves LMTP only 503.
        let tried = mail.asked > 0 && !self.settings.is_lmtp();
        if tried { reply::NO_VALID_RECIPIENTS } else { reply::NO_RECIPIENTS }
    }

    fn data<'a>(&mut self, input: &'a [u8], out: &mut Chain) -> (usize, Step<'a>) {
        let State::Data(mail, unstuffer, intake) = &mut self.state else {
            unreachable!("message text comes in this state")
        };
        let (used, found) = unstuffer.step(input);
        let step = match found {
            Unstuffed::Partial => Step::Read,
            Unstuffed::Text(text) => {
                let taken = intake.take(text, &self.settings);
                self.taken(taken, text, out)
            }
            Unstuffed::End => {
                let (mail, intake) = (*mail, *intake);
                self.finish(mail, intake, out)
            }
        };
        (used, step)
    }

    fn taken<'a>(&mut self, taken: Taken, octets: &'a [u8], out: &mut Chain) -> Step<'a> {
        match taken {
            Taken::Keep => Step::Body(octets),
            Taken::Spoilt => Step::Abort,
            Taken::Drop => Step::Continue,
            Taken::Hopeless => self.give_up(7, 0, "Message without end", out),
        }
    }

    /// The message is whole.
    fn finish(&mut self, mail: Mail, mut intake: Intake, out: &mut Chain) -> Step<'static> {
        self.state = State::Command(Place::Ready);
        let Some(fault) = intake.end(&self.settings) else {
            self.junk = 0;
            return Step::Commit { is_text: intake.is_text() };
        };
        self.errors = self.errors.saturating_add(1);
        for _ in 0..self.reply_count(mail, true) {
            fault.reply().put(out);
        }
        if intake.is_spoilt() { Step::Continue } else { Step::Abort }
    }
}

/// Commands that come last in what a client pipelines.
const fn must_flush(command: &Command<'_>) -> bool {
    match command {
        Command::Hello(..)
        | Command::Data
        | Command::Vrfy(_)
        | Command::Expn(_)
        | Command::Quit
        | Command::Auth { .. }
        | Command::Xclient(_)
        | Command::StartTls
        | Command::Noop => true,
        Command::Help | Command::Rset | Command::Mail(_) | Command::Rcpt(_) | Command::Bdat(_) => {
            false
        }
    }
}

const _: () = assert!(size_of::<Session>() <= 200, "ten thousand idle sessions pay for it");
