//! One POP3 session: which command means what in which state.

use super::{Maildrop, Settings, Step, Verdict};
use crate::bytes::chain::Chain;
use crate::bytes::codec::to_usize;
use crate::model::channel::{CLEAR, Channel};
use crate::model::limits::{
    POP3_LINE_OCTETS_MAX, POP3_LISTING_OCTETS_TARGET, POP3_SKIP_OCTETS_MAX, SASL_LINE_OCTETS_MAX,
};
use crate::proto::sasl::{self, Credentials, Mechanism, Mechanisms, Move};
use crate::wire::line::{LineError, Skip, take_line};
use crate::wire::pop3::{Command, CommandError, Number, parse, put_number};
use std::mem::{replace, take};

/// The first octet of a TLS handshake: the client takes this for the port of POP3 over TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// The machine of one connection. Small while nobody is logged in.
#[derive(Debug)]
pub struct Session<M> {
    settings: Settings,
    utf8: bool,
    logins_failed: u8,
    errors: u32,
    skipping: Option<Skipping>,
    /// `None`: in clear.
    channel: Option<Box<Channel>>,
    /// Passwords may be sent on this connection, with USER and PASS too.
    passwords: bool,
    /// What AUTH offers here and now.
    mechanisms: Mechanisms,
    state: State<M>,
}

/// A line that is too long, on its way out.
#[derive(Clone, Copy, Debug)]
struct Skipping {
    skip: Skip,
    /// Passed over so far.
    octets: usize,
}

/// A session between two shards.
#[derive(Debug)]
pub struct Departed {
    settings: Settings,
    utf8: bool,
    logins_failed: u8,
    errors: u32,
    channel: Option<Box<Channel>>,
    passwords: bool,
    mechanisms: Mechanisms,
}

#[derive(Debug)]
enum State<M> {
    Authorization,
    /// USER was good; only PASS may follow.
    Named(Box<str>),
    /// A challenge was sent; the next line is the client's response.
    Exchange {
        /// It tells why the client is not let in: the login has failed, whatever the answer is.
        is_refused: bool,
    },
    /// The driver checks a login, or the next step of an exchange.
    Verifying,
    Transaction(Box<Transaction<M>>),
    /// The driver removes what is marked.
    Update(Box<Transaction<M>>),
    /// The last answer is written.
    Closing,
}

impl<M: Maildrop> Session<M> {
    pub fn new(settings: Settings) -> Session<M> {
        Session {
            settings,
            utf8: false,
            logins_failed: 0,
            errors: 0,
            skipping: None,
            channel: None,
            passwords: settings.auth.takes_passwords(&CLEAR),
            mechanisms: settings.auth.offered(&CLEAR),
            state: State::Authorization,
        }
    }

    /// Offers from now on what may be used on such a connection; at first it is one in clear.
    pub fn secure(&mut self, channel: &Channel) {
        self.passwords = self.settings.auth.takes_passwords(channel);
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

    /// Writes the greeting. It has no timestamp, as there is no APOP (RFC 1939 §4), and names no
    /// version (RFC 2449 §6.9).
    pub fn greet(&self, out: &mut Chain) {
        out.put(b"+OK POP3 ready\r\n");
    }

    /// Advances by at most one line. Returns the octets of `input` used up, and the next step.
    pub fn step(&mut self, input: &[u8], out: &mut Chain) -> (usize, Step) {
        match &mut self.state {
            State::Closing => return (0, Step::Close),
            State::Transaction(transaction) if transaction.listing.is_some() => {
                transaction.list_on(out);
                return (0, Step::Continue);
            }
            State::Transaction(_) => {}
            State::Verifying | State::Update(_) => {
                unreachable!("a question is open: call login or updated first")
            }
            _ if self.skipping.is_none() && input.first() == Some(&TLS_HANDSHAKE) => {
                return (0, self.end(b"-ERR no TLS here\r\n", out));
            }
            _ => {}
        }
        if let Some(skipping) = self.skipping {
            return self.skip(input, skipping, out);
        }
        match take_line(input, self.line_max(input)) {
            Ok(None) => (0, Step::Read),
            Ok(Some((line, rest))) => (input.len() - rest.len(), self.line(line, out)),
            Err(LineError::TooLong) => {
                self.forget_login();
                self.skipping = Some(Skipping { skip: Skip::new(), octets: 0 });
                (0, self.bad(b"-ERR line too long\r\n", out))
            }
            Err(LineError::BareLineEnd) => {
                // What stands behind a lone LF is a command to one reader and none to another.
                (input.len(), self.end(b"-ERR lines end with CR LF\r\n", out))
            }
        }
    }

    /// RFC 5034 §4: no client may send an initial response that makes the command longer than others.
    /// Tokens do, and some clients send them all the same.
    fn line_max(&self, input: &[u8]) -> usize {
        let is_auth = || input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        match self.state {
            State::Exchange { .. } => SASL_LINE_OCTETS_MAX,
            State::Authorization if !self.mechanisms.is_empty() && is_auth() => {
                SASL_LINE_OCTETS_MAX
            }
            _ => POP3_LINE_OCTETS_MAX,
        }
    }

    /// An overlong line is under way, of which the octets are used up as they come.
    pub fn is_in_line(&self) -> bool {
        self.skipping.is_some()
    }

    /// Answers the login that [`Step::Login`] asked about.
    pub fn login(&mut self, verdict: Verdict<M>, out: &mut Chain) {
        assert!(matches!(self.state, State::Verifying), "no login was asked about");
        self.state = State::Authorization;
        let answer: &[u8] = match verdict {
            Verdict::Open(maildrop) => {
                self.state = State::Transaction(Box::new(Transaction::new(maildrop)));
                return out.put(b"+OK maildrop locked and ready\r\n");
            }
            Verdict::Refused => b"-ERR [AUTH] wrong user name or password\r\n",
            Verdict::Foreign => b"-ERR [AUTH] you may not act for that user\r\n",
            Verdict::Malformed => b"-ERR [AUTH] malformed\r\n",
            Verdict::InUse => b"-ERR [IN-USE] another session has the maildrop\r\n",
            Verdict::Later => b"-ERR [SYS/TEMP] cannot log in now, try again later\r\n",
            Verdict::Broken => b"-ERR [SYS/PERM] the maildrop is damaged, ask your postmaster\r\n",
        };
        out.put(answer);
        if !matches!(verdict, Verdict::InUse | Verdict::Later | Verdict::Broken) {
            self.count_failed_login();
        }
    }

    /// Answers [`Step::Auth`]: the exchange goes on with this challenge (RFC 5034 §4). `is_refused`: it
    /// tells why the client is not let in.
    pub fn challenge(&mut self, octets: &[u8], is_refused: bool, out: &mut Chain) {
        assert!(matches!(self.state, State::Verifying), "no exchange is under way");
        out.put(format!("+ {}\r\n", sasl::encode(octets)).as_bytes());
        self.state = State::Exchange { is_refused };
    }

    /// Lets go of the session while a login is checked, so that the shard that owns the maildrop can
    /// go on with it; what was written is sent before, what was read and not used up goes with it.
    pub fn depart(self) -> Departed {
        assert!(matches!(self.state, State::Verifying), "only a login moves a session");
        let Session {
            settings, utf8, logins_failed, errors, channel, passwords, mechanisms, ..
        } = self;
        Departed { settings, utf8, logins_failed, errors, channel, passwords, mechanisms }
    }

    /// Goes on with a session of another shard; [`Session::login`] is to be called next.
    pub fn arrive(departed: Departed) -> Session<M> {
        let Departed { settings, utf8, logins_failed, errors, channel, passwords, mechanisms } =
            departed;
        Session {
            settings,
            utf8,
            logins_failed,
            errors,
            skipping: None,
            channel,
            passwords,
            mechanisms,
            state: State::Verifying,
        }
    }

    /// What is to be removed, in rising order; empty but after [`Step::Update`].
    pub fn deleted(&self) -> impl Iterator<Item = u32> {
        let marks: &[u64] = match &self.state {
            State::Update(transaction) => &transaction.deleted,
            _ => &[],
        };
        (0..).zip(marks).flat_map(|(word, &marks)| {
            (0..64).filter(move |bit| marks >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
    }

    /// The maildrop that is open.
    pub fn maildrop(&self) -> Option<&M> {
        match &self.state {
            State::Transaction(transaction) | State::Update(transaction) => {
                Some(&transaction.maildrop)
            }
            _ => None,
        }
    }

    /// Ends the session after [`Step::Update`]: `removed` says that all is removed, durably. If
    /// not, nothing was removed (RFC 1939 §6).
    pub fn updated(&mut self, removed: bool, out: &mut Chain) {
        assert!(matches!(self.state, State::Update(_)), "no update was asked for");
        // The maildrop goes first, and with it the lock.
        self.state = State::Closing;
        out.put(if removed {
            b"+OK bye\r\n"
        } else {
            b"-ERR [SYS/TEMP] deleted messages not removed\r\n"
        });
    }

    /// Reads the rest of a line that was refused for its length, up to its CRLF.
    fn skip(&mut self, input: &[u8], mut at: Skipping, out: &mut Chain) -> (usize, Step) {
        let window = &input[..input.len().min(POP3_SKIP_OCTETS_MAX - at.octets)];
        let (used, ended) = at.skip.step(window);
        if ended {
            self.skipping = None;
            return (used, Step::Continue);
        }
        at.octets += used;
        if at.octets == POP3_SKIP_OCTETS_MAX {
            return (used, self.end(b"-ERR this is no line\r\n", out));
        }
        self.skipping = Some(at);
        (used, Step::Read)
    }

    fn line(&mut self, line: &[u8], out: &mut Chain) -> Step {
        let state = match self.state {
            // Whatever comes, a name and an exchange are good for one line only.
            State::Named(_) | State::Exchange { .. } => {
                replace(&mut self.state, State::Authorization)
            }
            _ => State::Authorization,
        };
        if let State::Exchange { is_refused } = state {
            return self.response(line, is_refused, out);
        }
        let command = match parse(line) {
            Ok(command) => command,
            Err(CommandError::Http) if !matches!(self.state, State::Transaction(_)) => {
                return self.end(b"-ERR this is POP3\r\n", out);
            }
            Err(CommandError::Unknown | CommandError::Http) => {
                return self.bad(b"-ERR unknown command\r\n", out);
            }
            Err(CommandError::Arguments) => return self.bad(b"-ERR wrong arguments\r\n", out),
            Err(CommandError::Control) => return self.bad(b"-ERR control character\r\n", out),
        };
        match (&mut self.state, command) {
            (_, Command::Capa) => {
                self.capabilities(out);
                Step::Continue
            }
            (_, Command::Apop) => self.bad(b"-ERR APOP is not offered\r\n", out),
            (_, Command::Stls) => self.stls(out),
            (_, Command::Quit) => self.quit(out),
            (State::Transaction(transaction), command) => {
                match transaction.run(command, self.utf8, out) {
                    Some(step) => step,
                    None => self.bad(b"-ERR already logged in\r\n", out),
                }
            }
            (_, Command::User(name)) => self.user(name, out),
            (_, Command::Pass(password)) => self.password(state, password, out),
            (_, Command::Auth { mechanism, initial }) => self.auth(mechanism, initial, out),
            (_, Command::Utf8) => {
                self.utf8 = true;
                ok(b"+OK UTF8 enabled\r\n", out)
            }
            _ => self.bad(b"-ERR log in first\r\n", out),
        }
    }

    /// RFC 2595 §4: not once somebody has logged in.
    fn may_start_tls(&self) -> bool {
        self.settings.stls && self.channel.is_none() && !matches!(self.state, State::Transaction(_))
    }

    fn stls(&mut self, out: &mut Chain) -> Step {
        if !self.may_start_tls() {
            return self.bad(b"-ERR TLS is not offered\r\n", out);
        }
        // What comes next is another session's.
        self.state = State::Closing;
        out.put(b"+OK go on with TLS\r\n");
        Step::Secure
    }

    fn capabilities(&self, out: &mut Chain) {
        out.put(b"+OK capabilities follow\r\nTOP\r\nUIDL\r\n");
        if self.may_start_tls() {
            out.put(b"STLS\r\n");
        }
        if self.passwords {
            out.put(b"USER\r\n");
        }
        if !self.mechanisms.is_empty() {
            out.put(format!("SASL {}\r\n", self.mechanisms).as_bytes());
        }
        out.put(
            b"RESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUTF8 USER\r\n\
              IMPLEMENTATION Pombal\r\n.\r\n",
        );
    }

    fn user(&mut self, name: &[u8], out: &mut Chain) -> Step {
        if !self.passwords {
            return self.no_passwords(out);
        }
        let Ok(name) = sasl::prepare(name) else {
            return self.bad(b"-ERR no user name can be like this\r\n", out);
        };
        self.state = State::Named(name.as_ref().into());
        // The same for a user that does not exist (RFC 1939 §13).
        ok(b"+OK now the password\r\n", out)
    }

    fn password(&mut self, state: State<M>, password: &[u8], out: &mut Chain) -> Step {
        if !self.passwords {
            return self.no_passwords(out);
        }
        let State::Named(user) = state else {
            return self.bad(b"-ERR USER comes first\r\n", out);
        };
        let Ok(password) = sasl::prepare(password) else {
            return self.refuse_login(b"-ERR [AUTH] wrong user name or password\r\n", out);
        };
        self.state = State::Verifying;
        Step::Login(Credentials::new(&user, &password))
    }

    fn auth(&mut self, name: Option<&[u8]>, initial: Option<&[u8]>, out: &mut Chain) -> Step {
        let Some(name) = name else {
            out.put(b"+OK mechanisms follow\r\n");
            for mechanism in self.mechanisms.each() {
                out.put(mechanism.name().as_bytes());
                out.put(b"\r\n");
            }
            return ok(b".\r\n", out);
        };
        let Some(mechanism) = Mechanism::find(name) else {
            return self.bad(b"-ERR unknown mechanism\r\n", out);
        };
        if !self.mechanisms.has(mechanism) {
            // What is in the list and shows a password lacks nothing but TLS.
            if self.settings.auth.mechanisms.has(mechanism) && mechanism.shows_password() {
                return self.no_plaintext(out);
            }
            return self.bad(b"-ERR this mechanism is not offered\r\n", out);
        }
        match initial.map(sasl::initial_response).transpose() {
            Ok(initial) => self.ask(Move::Begin(mechanism, initial)),
            Err(sasl::NotBase64) => self.bad(b"-ERR not base64\r\n", out),
        }
    }

    fn response(&mut self, line: &[u8], is_refused: bool, out: &mut Chain) -> Step {
        let answer: &[u8] = match sasl::response(line) {
            Ok(sasl::Response::Data(message)) => return self.ask(Move::Respond(message)),
            Ok(sasl::Response::Cancel) => b"-ERR given up\r\n",
            Err(sasl::NotBase64) => b"-ERR not base64\r\n",
        };
        // Who gives up when he hears that he is not let in has tried all the same.
        if is_refused {
            self.count_failed_login();
        }
        self.bad(answer, out)
    }

    fn ask(&mut self, said: Move) -> Step {
        self.state = State::Verifying;
        Step::Auth(said)
    }

    fn quit(&mut self, out: &mut Chain) -> Step {
        // What is dropped here frees the lock before the answer is written.
        if let State::Transaction(transaction) = replace(&mut self.state, State::Closing)
            && transaction.left < transaction.maildrop.count()
        {
            self.state = State::Update(transaction);
            return Step::Update;
        }
        ok(b"+OK bye\r\n", out)
    }

    fn no_passwords(&mut self, out: &mut Chain) -> Step {
        if self.settings.auth.has_passwords() {
            return self.no_plaintext(out);
        }
        self.bad(b"-ERR USER and PASS are not offered: use AUTH\r\n", out)
    }

    /// Says nothing of the credentials (RFC 8314 §4.1).
    fn no_plaintext(&mut self, out: &mut Chain) -> Step {
        self.bad(b"-ERR no passwords in clear here\r\n", out)
    }

    fn refuse_login(&mut self, answer: &[u8], out: &mut Chain) -> Step {
        out.put(answer);
        self.count_failed_login();
        Step::Continue
    }

    fn count_failed_login(&mut self) {
        self.logins_failed = self.logins_failed.saturating_add(1);
        if self.logins_failed >= self.settings.logins_failed_max {
            self.state = State::Closing;
        }
    }

    /// Refuses what no proper client sends; too much of it ends the session.
    fn bad(&mut self, answer: &[u8], out: &mut Chain) -> Step {
        self.errors += 1;
        if self.errors > self.settings.errors_max {
            return self.end(b"-ERR too many errors\r\n", out);
        }
        ok(answer, out)
    }

    /// Hangs up; nothing is removed.
    fn end(&mut self, answer: &[u8], out: &mut Chain) -> Step {
        self.state = State::Closing;
        ok(answer, out);
        Step::Close
    }

    fn forget_login(&mut self) {
        if let State::Named(_) | State::Exchange { .. } = self.state {
            let state = replace(&mut self.state, State::Authorization);
            if let State::Exchange { is_refused: true } = state {
                self.count_failed_login();
            }
        }
    }
}

/// An answer that needs nothing from anybody.
fn ok(answer: &[u8], out: &mut Chain) -> Step {
    out.put(answer);
    Step::Continue
}

/// What exists only after login.
#[derive(Debug)]
struct Transaction<M> {
    maildrop: M,
    /// Messages and octets not marked as deleted.
    left: u32,
    octets: u64,
    /// One bit a message; empty until the first DELE.
    deleted: Vec<u64>,
    listing: Option<Listing>,
}

/// The rest of a listing: the next index.
#[derive(Clone, Copy, Debug)]
enum Listing {
    Sizes(u32),
    UniqueIds(u32),
}

impl<M: Maildrop> Transaction<M> {
    fn new(maildrop: M) -> Transaction<M> {
        let octets = all_octets(&maildrop);
        let left = maildrop.count();
        Transaction { maildrop, left, octets, deleted: Vec::new(), listing: None }
    }

    /// Runs a command of the TRANSACTION state; `None` if it is none.
    fn run(&mut self, command: Command<'_>, utf8: bool, out: &mut Chain) -> Option<Step> {
        let step = match command {
            Command::Stat => {
                out.put(b"+OK ");
                self.put_totals(out);
                ok(b"\r\n", out)
            }
            Command::List(None) => {
                out.put(b"+OK ");
                put_number(out, u64::from(self.left));
                out.put(b" messages\r\n");
                self.listing = Some(Listing::Sizes(0));
                Step::Continue
            }
            Command::Uidl(None) => {
                self.listing = Some(Listing::UniqueIds(0));
                ok(b"+OK unique ids follow\r\n", out)
            }
            Command::List(Some(number)) => self.with(number, out, |drop, index, out| {
                out.put(b"+OK ");
                drop.put_size(index, out);
                Step::Continue
            }),
            Command::Uidl(Some(number)) => self.with(number, out, |drop, index, out| {
                out.put(b"+OK ");
                drop.put_unique_id(index, out);
                Step::Continue
            }),
            Command::Dele(number) => self.with(number, out, |drop, index, out| {
                drop.mark(index);
                ok(b"+OK marked\r\n", out)
            }),
            Command::Retr(number) => {
                self.with_content(number, utf8, out, |index| Step::Retrieve { index })
            }
            Command::Top { message, lines: Number(lines) } => {
                self.with_content(message, utf8, out, |index| Step::Top { index, lines })
            }
            Command::Noop => ok(b"+OK\r\n", out),
            Command::Rset => {
                self.left = self.maildrop.count();
                self.octets = all_octets(&self.maildrop);
                self.deleted = Vec::new();
                ok(b"+OK nothing is marked\r\n", out)
            }
            _ => return None,
        };
        Some(step)
    }

    /// Calls `act` with the index of a message that is there, or says that it is not.
    fn with(
        &mut self,
        number: Number,
        out: &mut Chain,
        act: impl FnOnce(&mut Self, u32, &mut Chain) -> Step,
    ) -> Step {
        match number.0.checked_sub(1) {
            Some(index) if index < self.maildrop.count() => {
                if self.is_deleted(index) {
                    ok(b"-ERR this message is deleted\r\n", out)
                } else {
                    act(self, index, out)
                }
            }
            _ => ok(b"-ERR no such message\r\n", out),
        }
    }

    /// The same for commands that show the message itself (RFC 6856 §5).
    fn with_content(
        &mut self,
        number: Number,
        utf8: bool,
        out: &mut Chain,
        step: impl FnOnce(u32) -> Step,
    ) -> Step {
        self.with(number, out, |drop, index, out| {
            if drop.maildrop.needs_utf8(index) && !utf8 {
                return ok(b"-ERR [UTF8] for clients with UTF8 only\r\n", out);
            }
            step(index)
        })
    }

    fn put_totals(&self, out: &mut Chain) {
        put_number(out, u64::from(self.left));
        out.put(b" ");
        put_number(out, self.octets);
    }

    fn put_size(&self, index: u32, out: &mut Chain) {
        put_number(out, u64::from(index) + 1);
        out.put(b" ");
        put_number(out, self.maildrop.size(index));
        out.put(b"\r\n");
    }

    fn put_unique_id(&self, index: u32, out: &mut Chain) {
        put_number(out, u64::from(index) + 1);
        out.put(b" ");
        self.maildrop.put_unique_id(index, out);
        out.put(b"\r\n");
    }

    /// Writes the next piece of the listing. Only the numbers are read, never a message.
    fn list_on(&mut self, out: &mut Chain) {
        let Some(listing) = take(&mut self.listing) else {
            return;
        };
        let (Listing::Sizes(mut index) | Listing::UniqueIds(mut index)) = listing;
        let full = out.len() + POP3_LISTING_OCTETS_TARGET;
        while index < self.maildrop.count() {
            if out.len() >= full {
                self.listing = Some(match listing {
                    Listing::Sizes(_) => Listing::Sizes(index),
                    Listing::UniqueIds(_) => Listing::UniqueIds(index),
                });
                return;
            }
            if !self.is_deleted(index) {
                match listing {
                    Listing::Sizes(_) => self.put_size(index, out),
                    Listing::UniqueIds(_) => self.put_unique_id(index, out),
                }
            }
            index += 1;
        }
        out.put(b".\r\n");
    }

    fn is_deleted(&self, index: u32) -> bool {
        let (word, mask) = place(index);
        self.deleted.get(word).is_some_and(|marks| marks & mask != 0)
    }

    fn mark(&mut self, index: u32) {
        let (word, mask) = place(index);
        if self.deleted.is_empty() {
            let (last, _) = place(self.maildrop.count());
            self.deleted = vec![0; last + 1];
        }
        self.deleted[word] |= mask;
        self.left -= 1;
        self.octets -= self.maildrop.size(index);
    }
}

fn all_octets(maildrop: &impl Maildrop) -> u64 {
    (0..maildrop.count()).map(|index| maildrop.size(index)).sum()
}

/// The word of the bitmap and the bit in it.
fn place(index: u32) -> (usize, u64) {
    (to_usize(u64::from(index / 64)), 1 << (index % 64))
}
