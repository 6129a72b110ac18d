//! The machine of one SMTP or LMTP session, client's side (RFC 5321 §3, RFC 2033).
//!
//! ```text
//!   Greeting ── 220 ──> Hello ── 250 ──┬──────────────────────────────┬─> Ready <──> Transaction
//!                       │ 500…         ├─ StartTls ─ 220 ─> Secure    │     │ quit
//!                       └─> HELO ──────┘      └─ secured ─> Hello     │     └─> Quit ──> Closed
//!                                      └─ Login … 235 ────────────────┘
//! ```
//!
//! Promises:
//!   - nothing is said before the server's greeting (RFC 5321 §4.3.1), and no verb or parameter that
//!     its last EHLO did not offer
//!   - the code alone decides, by its first digit where it is not a known one (RFC 5321 §4.3.2)
//!   - an answer that is none, or that means nothing for what was asked, ends the session: who counts
//!     answers and is out of step would take one recipient's for another's
//!   - 421 ends it at any time
//!   - with each wait it says which one it is, so that the driver knows how long it may take
//!
//! Illegal: to step a session that has failed or is closed, but for saying goodbye; to begin a transaction before
//! [`Step::Ready`].

#[cfg(any(test, feature = "sim"))]
pub mod replay;
#[cfg(test)]
mod tests;
mod transaction;
mod trouble;

use crate::bytes::chain::Chain;
use crate::model::limits::{SAID_OCTETS_MAX, SMTP_LINE_OCTETS_OLD};
use crate::model::reply::Said;
use crate::proto::sasl::{self, Credentials, Hash, Mechanism, Proving};
use crate::wire::smtp::answer::{Answer, NoAnswer, Reader};
use crate::wire::smtp::offers::{Keywords, Offers};
use std::fmt::Write as _;
use std::rc::Rc;

pub use transaction::{Delivery, Framing, Mail, Rcpt, Transaction, Turn, Verdict};
pub use trouble::{Kind, Loss, Timeouts, Trouble, Wait};

/// When TLS is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTls {
    /// Not at all: by the operator's will, or since the connection has it from its begin.
    Never,
    /// Where it is offered; without it all goes on in clear (RFC 7435 §3).
    #[default]
    Offered,
    /// A server that does not offer it, or refuses it, gets no mail.
    Needed,
}

/// How to log in at a server that takes mail for elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Prepared by SASLprep.
    pub credentials: Credentials,
    /// The password may be shown to whoever listens on a connection without TLS.
    pub in_clear: bool,
}

/// What a session is to be. One for all sessions with servers of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name that EHLO gives: ours, in ASCII (RFC 5321 §4.1.4, RFC 6531 §3.7.1).
    pub hello: Box<str>,
    /// LHLO, and an answer for each recipient (RFC 2033).
    pub lmtp: bool,
    pub start_tls: StartTls,
    pub login: Option<Login>,
}

/// What the caller does before it steps again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what was written, and wait for octets, behind those that were not used.
    Read(Wait),
    /// Drop whatever was received and not used, shake hands, then [`Client::secured`] (RFC 3207 §4.2).
    Secure,
    /// The session waits for a transaction, or for [`Client::quit`].
    Ready,
    /// The server has said goodbye. Hang up.
    Closed,
    /// The session is over. Hang up.
    Failed(Trouble),
}

enum State {
    Greeting,
    /// EHLO or LHLO was sent.
    Hello,
    Helo,
    StartTls,
    /// TLS is being made.
    Securing,
    Login(Box<Exchange>),
    Ready,
    Quit,
    Over,
}

/// AUTH under way.
struct Exchange {
    proving: Proving,
    /// The first message waits for an empty challenge: it was too long for the command's line.
    held: Option<Vec<u8>>,
}

/// One session.
pub struct Client {
    profile: Rc<Profile>,
    reader: Reader,
    state: State,
    offers: Offers,
    is_encrypted: bool,
    /// For SCRAM.
    nonce: Box<str>,
    /// MAIL commands so far (RFC 9422 §4.1).
    mails: u32,
    /// Domains of recipients so far, while the server counts them (RFC 9422 §4.3).
    domains: Vec<Box<str>>,
    /// A transaction may be left open at the server: the next one begins with RSET.
    needs_reset: bool,
    /// No more transactions: the server has all that it takes in one session.
    is_spent: bool,
}

impl Client {
    /// A session on a connection that was just made. `is_encrypted`: by TLS, from its begin on.
    /// `nonce` is printable, has no comma, and nobody can guess it.
    pub fn new(profile: Rc<Profile>, is_encrypted: bool, nonce: &str) -> Client {
        Client {
            profile,
            reader: Reader::new(),
            state: State::Greeting,
            offers: Offers::default(),
            is_encrypted,
            nonce: nonce.into(),
            mails: 0,
            domains: Vec::new(),
            needs_reset: false,
            is_spent: false,
        }
    }

    /// What the last EHLO or LHLO told.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// It speaks LMTP.
    pub fn is_lmtp(&self) -> bool {
        self.profile.lmtp
    }

    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// No further transaction may begin: the session is over, or the server takes no more in it.
    pub fn is_spent(&self) -> bool {
        let is_full = self.offers.limits.mail_max.is_some_and(|max| self.mails >= max);
        self.is_spent || is_full || !matches!(self.state, State::Ready)
    }

    /// Advances by at most one answer. Returns the octets of `input` used up, and what to do next.
    pub fn step(&mut self, input: &[u8], out: &mut Chain) -> (usize, Step) {
        match self.state {
            State::Ready => return (0, Step::Ready),
            State::Securing | State::Over => unreachable!("the session waits for no answer"),
            _ => {}
        }
        match self.reader.take(input) {
            Ok(None) => (0, Step::Read(self.wait())),
            Ok(Some(answer)) => (answer.len(), self.hear(&answer, out)),
            Err(error) => (0, self.fail(Trouble::no_answer(self.wait(), error))),
        }
    }

    /// The connection is encrypted: what was known of the server is forgotten, and it is greeted
    /// again (RFC 3207 §4.2).
    pub fn secured(&mut self, out: &mut Chain) {
        assert!(matches!(self.state, State::Securing), "TLS is made where it was asked for");
        self.reader = Reader::new();
        self.is_encrypted = true;
        self.greet(out);
    }

    /// Says goodbye; step on until [`Step::Closed`] (RFC 5321 §4.1.1.10). To one who has refused what
    /// the session cannot do without, too.
    pub fn quit(&mut self, out: &mut Chain) {
        let is_between = matches!(self.state, State::Ready | State::Over);
        assert!(is_between, "goodbye is said between transactions");
        out.put(b"QUIT\r\n");
        self.state = State::Quit;
    }

    /// The connection has come to its end before the session has.
    pub fn lost(&mut self, loss: Loss) -> Trouble {
        let trouble = Trouble::lost(self.wait(), loss);
        self.state = State::Over;
        trouble
    }

    /// What is waited for.
    fn wait(&self) -> Wait {
        match self.state {
            State::Greeting => Wait::Greeting,
            State::Hello | State::Helo => Wait::Hello,
            State::StartTls => Wait::StartTls,
            State::Securing => Wait::Handshake,
            State::Login(_) => Wait::Login,
            State::Ready => Wait::Mail,
            State::Quit | State::Over => Wait::Quit,
        }
    }

    fn fail(&mut self, trouble: Trouble) -> Step {
        self.state = State::Over;
        Step::Failed(trouble)
    }

    /// The server has refused what the session cannot do without.
    fn refused(&mut self, answer: &Answer<'_>) -> Step {
        self.fail(Trouble::refused(self.wait(), answer))
    }

    fn hear(&mut self, answer: &Answer<'_>, out: &mut Chain) -> Step {
        if matches!(self.state, State::Quit) {
            self.state = State::Over;
            return Step::Closed;
        }
        if answer.code == 421 {
            return self.refused(answer);
        }
        match &self.state {
            State::Greeting if answer.is_positive() => {
                self.greet(out);
                Step::Read(self.wait())
            }
            State::Hello if answer.is_positive() => {
                self.offers = Offers::read(answer);
                self.introduced(out)
            }
            // RFC 5321 §3.2: a server that knows no EHLO may know HELO. What is x0z says that a command
            // is not known (§4.2.1); anything else is meant for us, by whichever name we come.
            State::Hello if matches!(answer.code, 500..510) && !self.profile.lmtp => {
                put(out, format_args!("HELO {}\r\n", self.profile.hello));
                self.state = State::Helo;
                Step::Read(self.wait())
            }
            State::Helo if answer.is_positive() => {
                self.offers = Offers::default();
                self.introduced(out)
            }
            State::StartTls if answer.code == 220 => {
                self.state = State::Securing;
                Step::Secure
            }
            // Without TLS then, where that is allowed (RFC 7435 §3).
            State::StartTls
                if matches!(answer.code, 400..600)
                    && self.profile.start_tls != StartTls::Needed =>
            {
                self.log_in(out)
            }
            State::Login(_) => self.hear_login(answer, out),
            _ => self.refused(answer),
        }
    }

    fn greet(&mut self, out: &mut Chain) {
        let verb = if self.profile.lmtp { "LHLO" } else { "EHLO" };
        put(out, format_args!("{verb} {}\r\n", self.profile.hello));
        self.state = State::Hello;
    }

    /// The server knows us: TLS if it is to be, then the login.
    fn introduced(&mut self, out: &mut Chain) -> Step {
        if self.is_encrypted || self.profile.start_tls == StartTls::Never {
            return self.log_in(out);
        }
        if self.offers.has(Keywords::STARTTLS) {
            out.put(b"STARTTLS\r\n");
            self.state = State::StartTls;
            return Step::Read(self.wait());
        }
        if self.profile.start_tls == StartTls::Needed {
            let said = Said::ours(451, 7, 10, "server does not offer STARTTLS, which is needed");
            return self.fail(Trouble { at: Wait::StartTls, kind: Kind::NotOffered, said });
        }
        self.log_in(out)
    }

    fn log_in(&mut self, out: &mut Chain) -> Step {
        let Some(login) = &self.profile.login else {
            self.state = State::Ready;
            return Step::Ready;
        };
        let may_show = self.is_encrypted || login.in_clear;
        let ways = [
            (Keywords::AUTH_SCRAM_SHA_256, true, SCRAM),
            (Keywords::AUTH_PLAIN, may_show, Mechanism::Plain),
            (Keywords::AUTH_LOGIN, may_show, Mechanism::Login),
        ];
        let way = ways.iter().find(|(keyword, may, _)| *may && self.offers.has(*keyword));
        let proving = way.and_then(|&(_, _, mechanism)| {
            let proving = Proving::new(mechanism, &login.credentials, &self.nonce)?;
            Some((mechanism, proving))
        });
        let Some((mechanism, mut proving)) = proving else {
            let said = Said::ours(451, 7, 0, "server offers no way to log in that may be used");
            return self.fail(Trouble { at: Wait::Login, kind: Kind::NotOffered, said });
        };
        let mut held = None;
        put(out, format_args!("AUTH {}", mechanism.name()));
        if let Some(initial) = proving.initial() {
            let text = sasl::encode(&initial);
            // RFC 4954 §4: a line must not become longer than commands were without AUTH.
            let len = "AUTH  \r\n".len() + mechanism.name().len() + text.len();
            if len <= SMTP_LINE_OCTETS_OLD {
                put(out, format_args!(" {text}"));
            } else {
                held = Some(initial);
            }
        }
        out.put(b"\r\n");
        self.state = State::Login(Box::new(Exchange { proving, held }));
        Step::Read(self.wait())
    }

    fn hear_login(&mut self, answer: &Answer<'_>, out: &mut Chain) -> Step {
        let State::Login(exchange) = &mut self.state else { unreachable!("a login is under way") };
        if answer.code == 334 {
            let challenge = answer.texts().next().unwrap_or_default().trim_ascii();
            let response = match (sasl::response(challenge), exchange.held.take()) {
                (Ok(sasl::Response::Data(_)), Some(initial)) => Ok(initial),
                (Ok(sasl::Response::Data(challenge)), None) => {
                    exchange.proving.respond(&challenge.0)
                }
                // LOGIN's prompts are for people: some servers write them without base64.
                (_, None) => exchange.proving.respond(challenge),
                (_, Some(_)) => Err(sasl::Unsound),
            };
            let Ok(response) = response else {
                let said = Said::ours(451, 7, 0, "server does not keep to the way of logging in");
                return self.fail(Trouble { at: Wait::Login, kind: Kind::Protocol, said });
            };
            put(out, format_args!("{}\r\n", sasl::encode(&response)));
            return Step::Read(self.wait());
        }
        if !answer.is_positive() {
            return self.refused(answer);
        }
        if !exchange.proving.is_satisfied() {
            let said = Said::ours(451, 7, 0, "server has not shown that it knows the password");
            return self.fail(Trouble { at: Wait::Login, kind: Kind::Protocol, said });
        }
        self.state = State::Ready;
        Step::Ready
    }
}

const SCRAM: Mechanism = Mechanism::Scram { hash: Hash::Sha256, plus: false };

fn put(out: &mut Chain, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a chain takes all text");
}

impl Trouble {
    fn no_answer(at: Wait, error: NoAnswer) -> Trouble {
        let text = match error {
            NoAnswer::TooLong => "answer of the server does not end",
            NoAnswer::NoCode => "answer of the server has a line without a code",
            NoAnswer::CodeChanged => "answer of the server changes its code",
        };
        Trouble { at, kind: Kind::Protocol, said: Said::ours(451, 5, 0, text) }
    }

    /// The answer is no yes; what it is else decides what kind of trouble that is.
    fn refused(at: Wait, answer: &Answer<'_>) -> Trouble {
        let said = answer.to_said();
        let kind = match answer.code {
            421 => Kind::Closing,
            400..600 => Kind::Refused,
            _ => return Trouble::senseless(at, &said),
        };
        Trouble { at, kind, said }
    }

    /// A code that answers nothing that was asked.
    fn senseless(at: Wait, said: &Said) -> Trouble {
        let text = format!("senseless answer while {}: {said}", at.words());
        let mut said = Said::ours(451, 5, 0, "");
        said.text = text.chars().take(SAID_OCTETS_MAX).collect::<String>().into();
        Trouble { at, kind: Kind::Protocol, said }
    }
}
