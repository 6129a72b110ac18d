//! A session with an IMAP server: it logs in, and asks one thing after the other.
//!
//! Mailboxes are only ever opened by EXAMINE, and octets asked for by PEEK: nothing changes there, no
//! message becomes \Seen or loses its \Recent.

use super::reader::{Literal, Reader, Response, unsound};
use super::transport::{Place, Stream};
use crate::proto::sasl::{Credentials, Hash, Mechanism, Proving};
use crate::wire::imap::answer::{Answer, Condition, Value, answer, code_number};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

/// Steps of an exchange of SASL.
const STEPS_MAX: usize = 8;

/// Where the mail is, and how to get to it.
pub(super) struct Account {
    pub(super) place: Place,
    pub(super) tls: Arc<ClientConfig>,
    /// Without TLS, also where others can read along.
    pub(super) in_clear: bool,
    /// Who logs in; `acting_for` is whose mail it is where that is somebody else.
    pub(super) credentials: Credentials,
    /// What stands for the password is a token of OAuth.
    pub(super) is_token: bool,
    /// Octets of a message; larger ones are not kept.
    pub(super) message_max: u64,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection is of no use any more; another one may be.
    Lost(io::Error),
    /// The server said no, in its words; the session goes on.
    Refused(String),
    /// Nothing helps.
    Fatal(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Lost(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Lost(error) => error.fmt(out),
            Trouble::Refused(why) | Trouble::Fatal(why) => out.write_str(why),
        }
    }
}

/// What a mailbox is as it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Examined {
    pub(super) uidvalidity: u32,
    /// 0 where the server does not say.
    pub(super) uidnext: u32,
    pub(super) messages: u32,
}

/// See the header.
pub(super) struct Connection {
    reader: Reader<Stream>,
    capabilities: Vec<String>,
    /// Names of mailboxes are UTF-8 (RFC 6855).
    pub(super) is_utf8: bool,
    last_tag: u32,
    /// What is open, by the name that the server has for it.
    examined: Option<(Vec<u8>, Examined)>,
}

/// Takes each answer to a command but the last, with its literals.
pub(super) type Take<'a> = dyn FnMut((Answer<'_>, &mut Vec<Literal>)) -> Result<(), Trouble> + 'a;

/// Answers a challenge.
type Respond<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, Trouble> + 'a;

/// How a command ended.
struct Ended {
    condition: Condition,
    text: String,
}

impl Connection {
    /// Connects and logs in.
    pub(super) fn open(account: &Account) -> Result<Connection, Trouble> {
        let place = &account.place;
        let mut stream = Stream::connect(place)?;
        if place.is_tls {
            stream = stream.encrypt(&place.host, &account.tls)?;
        }
        let mut connection = Connection {
            reader: Reader::new(stream, account.message_max),
            capabilities: Vec::new(),
            is_utf8: false,
            last_tag: 0,
            examined: None,
        };
        let is_in = connection.greet()?;
        if !is_in {
            connection = connection.secure(account)?;
            connection.log_in(account)?;
        }
        connection.learn()?;
        if connection.can("UTF8=ACCEPT") || connection.can("UTF8=ONLY") {
            connection.is_utf8 = connection.done("ENABLE UTF8=ACCEPT", &mut |_| Ok(())).is_ok();
        }
        Ok(connection)
    }

    /// Whether the server can do something (RFC 9051 §6.1.1).
    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known.eq_ignore_ascii_case(capability))
    }

    /// Reads the greeting; whether we are logged in already.
    fn greet(&mut self) -> Result<bool, Trouble> {
        let response = self.reader.next()?;
        match read(&response)? {
            Answer::Status { condition: Condition::Ok, .. } => Ok(false),
            Answer::Status { condition: Condition::Preauth, .. } => Ok(true),
            // It has too much to do, or too many of us.
            Answer::Status { text, .. } => Err(Trouble::Refused(words(text))),
            _ => Err(Trouble::Fatal("this is no IMAP server".into())),
        }
    }

    /// Sees to it that nobody can read along.
    fn secure(mut self, account: &Account) -> Result<Connection, Trouble> {
        if self.reader.stream().is_tls() || account.in_clear {
            return Ok(self);
        }
        self.learn()?;
        if !self.can("STARTTLS") {
            return if self.reader.stream().is_private() {
                Ok(self)
            } else {
                Err(Trouble::Fatal(
                    "the server offers no STARTTLS: use imaps://, or --clear".into(),
                ))
            };
        }
        self.done("STARTTLS", &mut |_| Ok(()))?;
        let stream = self.reader.into_inner()?.encrypt(&account.place.host, &account.tls)?;
        self.reader = Reader::new(stream, account.message_max);
        // What was said in clear counts no more.
        self.capabilities.clear();
        Ok(self)
    }

    /// Asks what the server can.
    fn learn(&mut self) -> Result<(), Trouble> {
        let mut known = Vec::new();
        self.done("CAPABILITY", &mut |(answer, _)| {
            if let Answer::Capability(words) = answer {
                let words = String::from_utf8_lossy(words);
                known.extend(words.split(' ').map(str::to_owned));
            }
            Ok(())
        })?;
        self.capabilities = known;
        Ok(())
    }

    fn log_in(&mut self, account: &Account) -> Result<(), Trouble> {
        self.learn()?;
        let credentials = &account.credentials;
        if account.is_token {
            return self.show_token(credentials);
        }
        let acts_for = credentials.acting_for.is_some();
        let scram = Mechanism::Scram { hash: Hash::Sha256, plus: false };
        let is_private = self.reader.stream().is_private();
        if !is_private && self.can("AUTH=SCRAM-SHA-256") {
            return self.prove(scram, "SCRAM-SHA-256", credentials);
        }
        if self.can("AUTH=PLAIN") {
            return self.prove(Mechanism::Plain, "PLAIN", credentials);
        }
        if !acts_for && !self.can("LOGINDISABLED") {
            let (user, password) = (credentials.user.as_bytes(), credentials.password.expose());
            return self.ask(&[b"LOGIN ", user, b" ", password.as_bytes()], &mut |_| Ok(()));
        }
        if self.can("AUTH=SCRAM-SHA-256") {
            return self.prove(scram, "SCRAM-SHA-256", credentials);
        }
        Err(Trouble::Fatal("the server offers no way to log in that is known here".into()))
    }

    /// XOAUTH2, or OAUTHBEARER (RFC 7628 §3.1).
    fn show_token(&mut self, credentials: &Credentials) -> Result<(), Trouble> {
        let (user, token) = (&credentials.user, credentials.password.expose());
        let (name, text) = if self.can("AUTH=OAUTHBEARER") {
            let user = user.replace('=', "=3D").replace(',', "=2C");
            ("OAUTHBEARER", format!("n,a={user},\u{1}auth=Bearer {token}\u{1}\u{1}"))
        } else {
            ("XOAUTH2", format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}"))
        };
        self.exchange(name, Some(text.into_bytes()), &mut |_| Ok(b"\x01".to_vec()))
    }

    fn prove(
        &mut self,
        mechanism: Mechanism,
        name: &str,
        credentials: &Credentials,
    ) -> Result<(), Trouble> {
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).map_err(|error| Trouble::Fatal(error.to_string()))?;
        let proving = Proving::new(mechanism, credentials, &STANDARD.encode(nonce));
        let mut proving = proving.ok_or_else(|| Trouble::Fatal("no such mechanism".into()))?;
        let first = proving.initial();
        let foul = || Trouble::Fatal("the server does not know the password itself".into());
        self.exchange(name, first, &mut |challenge| {
            proving.respond(challenge).map_err(|_| foul())
        })?;
        if proving.is_satisfied() { Ok(()) } else { Err(foul()) }
    }

    /// AUTHENTICATE (RFC 9051 §6.2.2). `first` goes with the command where the server takes it
    /// (RFC 4959), else in answer to the first challenge.
    fn exchange(
        &mut self,
        name: &str,
        first: Option<Vec<u8>>,
        respond: &mut Respond<'_>,
    ) -> Result<(), Trouble> {
        let mut line = format!("AUTHENTICATE {name}");
        let mut first = first;
        if self.can("SASL-IR")
            && let Some(initial) = first.take()
        {
            line.push(' ');
            line.push_str(&STANDARD.encode(initial));
        }
        let tag = self.send(&line)?;
        for _ in 0..STEPS_MAX {
            let response = self.reader.next()?;
            match read(&response)? {
                Answer::More(challenge) => {
                    let challenge = STANDARD.decode(challenge.trim_ascii());
                    let challenge = challenge.map_err(|_| said(b"a challenge is no base64"))?;
                    let answer = match first.take() {
                        Some(initial) => initial,
                        None => respond(&challenge)?,
                    };
                    self.write(format!("{}\r\n", STANDARD.encode(answer)).as_bytes())?;
                }
                Answer::Status { tag: of, condition, text, .. } if of == tag.as_bytes() => {
                    let ended = Ended { condition, text: words(text) };
                    return ended.outcome();
                }
                Answer::Status { tag: b"*", condition: Condition::Bye, text, .. } => {
                    return Err(Trouble::Lost(said(text)));
                }
                _ => {}
            }
        }
        Err(Trouble::Fatal("the server asks on and on".into()))
    }

    /// Opens a mailbox, unless it is open, so that nothing changes in it.
    pub(super) fn examine(&mut self, name: &[u8], anew: bool) -> Result<Examined, Trouble> {
        match &self.examined {
            Some((open, examined)) if open == name && !anew => return Ok(*examined),
            _ => self.examined = None,
        }
        let mut examined = Examined::default();
        self.ask(&[b"EXAMINE ", name], &mut |(answer, _)| {
            match answer {
                Answer::Exists(count) => examined.messages = count,
                Answer::Status { code, .. } => {
                    let number = |name: &str| {
                        code_number(code, name).and_then(|number| u32::try_from(number).ok())
                    };
                    examined.uidvalidity = number("UIDVALIDITY").unwrap_or(examined.uidvalidity);
                    examined.uidnext = number("UIDNEXT").unwrap_or(examined.uidnext);
                }
                _ => {}
            }
            Ok(())
        })?;
        self.examined = Some((name.to_vec(), examined));
        Ok(examined)
    }

    /// Asks, and hands each answer but the last to `take`. An argument may be any octets: every second
    /// part of the command is one.
    pub(super) fn ask(&mut self, parts: &[&[u8]], take: &mut Take<'_>) -> Result<(), Trouble> {
        let tag = self.tag();
        let mut octets = format!("{tag} ").into_bytes();
        for (at, part) in parts.iter().enumerate() {
            if at % 2 == 0 {
                octets.extend_from_slice(part);
            } else if let Some(quoted) = quoted(part, self.is_utf8) {
                octets.extend_from_slice(&quoted);
            } else {
                let can = self.can("LITERAL+") || self.can("LITERAL-") && part.len() <= 4_096;
                let plus = if can { "+" } else { "" };
                octets.extend_from_slice(format!("{{{}{plus}}}\r\n", part.len()).as_bytes());
                if !can {
                    self.write(&std::mem::take(&mut octets))?;
                    self.wait(&tag)?;
                }
                octets.extend_from_slice(part);
            }
        }
        octets.extend_from_slice(b"\r\n");
        self.write(&octets)?;
        self.hear(&tag, take)?.outcome()
    }

    pub(super) fn done(&mut self, line: &str, take: &mut Take<'_>) -> Result<(), Trouble> {
        self.ask(&[line.as_bytes()], take)
    }

    /// Says goodbye; whether it is heard does not matter.
    pub(super) fn close(mut self) {
        drop(self.send("LOGOUT"));
    }

    fn tag(&mut self) -> String {
        self.last_tag += 1;
        format!("p{}", self.last_tag)
    }

    fn send(&mut self, line: &str) -> io::Result<String> {
        let tag = self.tag();
        self.write(format!("{tag} {line}\r\n").as_bytes())?;
        Ok(tag)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let stream = self.reader.stream();
        stream.write_all(octets)?;
        stream.flush()
    }

    /// Waits until the server takes a literal.
    fn wait(&mut self, tag: &str) -> Result<(), Trouble> {
        loop {
            let response = self.reader.next()?;
            match read(&response)? {
                Answer::More(_) => return Ok(()),
                Answer::Status { tag: of, text, .. } if of == tag.as_bytes() => {
                    return Err(Trouble::Refused(words(text)));
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, tag: &str, take: &mut Take<'_>) -> Result<Ended, Trouble> {
        loop {
            let Response { text, mut literals } = self.reader.next()?;
            let answer = answer(&text).map_err(unsound)?;
            match answer {
                Answer::Status { tag: of, condition, text, .. } if of == tag.as_bytes() => {
                    return Ok(Ended { condition, text: words(text) });
                }
                Answer::Status { tag: b"*", condition: Condition::Bye, text, .. } => {
                    return Err(Trouble::Lost(said(text)));
                }
                answer => take((answer, &mut literals))?,
            }
        }
    }
}

impl Ended {
    fn outcome(self) -> Result<(), Trouble> {
        match self.condition {
            Condition::Ok => Ok(()),
            _ => Err(Trouble::Refused(self.text)),
        }
    }
}

fn read(response: &Response) -> Result<Answer<'_>, Trouble> {
    Ok(answer(&response.text).map_err(unsound)?)
}

fn words(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
    format!("the server says: {text}")
}

/// The server hangs up with these words.
fn said(text: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, words(text))
}

/// An argument in quotes; `None` where it has to be a literal.
fn quoted(argument: &[u8], is_utf8: bool) -> Option<Vec<u8>> {
    let is_text = std::str::from_utf8(argument).ok()?.chars().all(|letter| {
        matches!(letter, ' '..='~') || is_utf8 && !letter.is_ascii() && !letter.is_control()
    });
    let mut octets = vec![b'"'];
    for &octet in argument {
        if matches!(octet, b'"' | b'\\') {
            octets.push(b'\\');
        }
        octets.push(octet);
    }
    octets.push(b'"');
    is_text.then_some(octets)
}

/// The octets of a string; `None` for a literal that was dropped, and what is no string.
pub(super) fn string<'a>(value: &'a Value<'_>, literals: &'a [Literal]) -> Option<Cow<'a, [u8]>> {
    match value {
        Value::Atom(atom) => Some(Cow::Borrowed(atom)),
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Literal(at) => match literals.get(*at) {
            Some(Literal::Whole(octets)) => Some(Cow::Borrowed(octets)),
            _ => None,
        },
        Value::Nil | Value::List(_) => None,
    }
}
