//! One connection with another server, on which any number of messages go.
//!
//! ```text
//!   open ─ connect ─ greeting, EHLO, TLS, AUTH ──> Session ── deliver, deliver, … ── quit
//! ```
//!
//! Promises:
//!   - each recipient of a delivery has one verdict, whatever the server does
//!   - every wait ends: with an answer, with the end of the connection, or at its deadline; and all waits
//!     together end at that of the call or the delivery, but for the first answer to a message that is out
//!   - memory is bounded: a receive block while octets come, and a block of the message; octets of the
//!     message that need not be changed are not copied, and nothing of it is kept while its answer is waited for
//!   - a message that the server cannot take as it is goes to it in 7 bits, if it can be changed
//!   - a server that does not read while we write, since it waits for us to read, is read
//!
//! Illegal: to deliver on a session that [`Session::is_open`] says nothing good of.

mod body;
#[cfg(test)]
mod tests;
mod wire;

use self::body::Source;
use self::wire::Wire;
use crate::env::{Conn as _, Env};
use crate::model::reply::Said;
use crate::model::time::Mono;
use crate::proto::smtp::client::{
    Client, Delivery, Kind, Login, Mail, Profile, StartTls, Step, Timeouts, Trouble, Turn, Verdict,
    Wait,
};
use crate::tls::{Aside, Call, CallFailure, Caller, Demand, Facts, Level, Stream};
use crate::wire::message::downgrade::{Cannot, Plan, to_vec};
use crate::wire::message::nature::Nature;
use crate::wire::smtp::offers::{Keywords, Offers};
use crate::wire::smtp::param::{self, MailParams};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

pub use body::Body;

/// What all sessions of a route have in common.
pub struct Terms {
    /// Our name, in ASCII (RFC 5321 §4.1.4).
    pub hello: Box<str>,
    /// LMTP instead of SMTP (RFC 2033).
    pub lmtp: bool,
    pub login: Option<Login>,
    pub timeouts: Timeouts,
    /// TLS from the first octet on (RFC 8314 §3.3) instead of by STARTTLS.
    pub is_encrypted_first: bool,
    pub caller: Caller,
    /// Where long chains of certificates are looked through.
    pub aside: Rc<Aside>,
}

/// Whom to call.
#[derive(Clone, Copy)]
pub struct Target<'t> {
    pub address: SocketAddr,
    /// One of our own addresses; `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// The server's name, in A-labels, which it is asked for by TLS.
    pub host: Option<&'t str>,
    /// What it has to prove.
    pub demand: &'t Demand,
    /// When the session has to have come about, however long each wait may be.
    pub end: Mono,
}

/// Why no session came about.
#[derive(Debug)]
pub struct Failed {
    pub trouble: Trouble,
    /// What was wrong with TLS, where it is that.
    pub tls: Option<CallFailure>,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Failed {
        Failed { trouble, tls: None }
    }
}

/// See the header of this file.
pub struct Session<E: Env> {
    client: Client,
    wire: Wire<E>,
    is_over: bool,
    /// Why it is in clear, where it was to be encrypted if that could be.
    unencrypted: Option<CallFailure>,
}

impl<E: Env> Session<E> {
    /// Connects, and says hello. Where TLS fails that nobody insists on, connects again and goes on
    /// in clear (RFC 7435 §3).
    pub async fn open(env: &E, target: Target<'_>, terms: &Terms) -> Result<Session<E>, Failed> {
        let may_be_clear = target.demand.level() == Level::May && !terms.is_encrypted_first;
        let wanted = match target.demand.level() {
            Level::None => StartTls::Never,
            Level::May => StartTls::Offered,
            Level::Encrypt | Level::Prove => StartTls::Needed,
        };
        match Session::attempt(env, target, terms, wanted).await {
            Err(Failed { tls: Some(failure), .. }) if may_be_clear => {
                let mut session = Session::attempt(env, target, terms, StartTls::Never).await?;
                session.unencrypted = Some(failure);
                Ok(session)
            }
            result => result,
        }
    }

    async fn attempt(
        env: &E,
        target: Target<'_>,
        terms: &Terms,
        start_tls: StartTls,
    ) -> Result<Session<E>, Failed> {
        let deadline = env.now().after(terms.timeouts.of(Wait::Connect)).min(target.end);
        let conn = env.connect(target.address, target.source, deadline).await;
        let mut stream = Stream::plain(conn.map_err(|error| unreachable(&error))?);
        let profile = Profile {
            hello: terms.hello.clone(),
            lmtp: terms.lmtp,
            start_tls,
            login: terms.login.clone(),
        };
        if terms.is_encrypted_first && target.demand.level() != Level::None {
            stream = secure(env, stream, target, terms).await?;
        }
        let is_encrypted = stream.facts().is_some();
        let nonce = match &terms.login {
            Some(_) => format!("{:016x}{:016x}", env.random(), env.random()),
            None => String::new(),
        };
        let client = Client::new(Rc::new(profile), is_encrypted, &nonce);
        let wire = Wire::new(env, stream, terms.timeouts, target.end);
        let session = Session { client, wire, is_over: false, unencrypted: None };
        session.greet(target, terms).await
    }

    /// The server is told who we are, and what it needs to hear before it takes mail.
    async fn greet(mut self, target: Target<'_>, terms: &Terms) -> Result<Session<E>, Failed> {
        loop {
            match self.converse().await {
                Ok(Step::Secure) => {
                    // What came behind the answer came in clear.
                    let Wire { env, stream, .. } = self.wire;
                    let stream = secure(&env, stream, target, terms).await?;
                    self.wire = Wire::new(&env, stream, terms.timeouts, target.end);
                    self.client.secured(&mut self.wire.out);
                }
                Ok(_) => return Ok(self),
                Err(trouble) => {
                    // RFC 5321 §4.1.1.10: goodbye is said to one who listens, whatever he said.
                    self.is_over = !matches!(trouble.kind, Kind::Refused | Kind::NotOffered);
                    self.quit().await;
                    return Err(trouble.into());
                }
            }
        }
    }

    /// Until the machine has something else to do than to wait for answers.
    async fn converse(&mut self) -> Result<Step, Trouble> {
        let Session { client, wire, .. } = self;
        loop {
            let (used, step) = client.step(wire.buffer.filled(), &mut wire.out);
            wire.used(used);
            match step {
                Step::Read(wait) => {
                    wire.exchange(wait).await.map_err(|loss| client.lost(loss))?;
                }
                Step::Failed(trouble) => return Err(trouble),
                step => return Ok(step),
            }
        }
    }

    /// What the server offers: its last EHLO.
    pub fn offers(&self) -> &Offers {
        self.client.offers()
    }

    /// How it is encrypted.
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        self.wire.stream.facts()
    }

    /// Why it is in clear although it was to be encrypted if that could be: TLS was tried and failed.
    pub fn unencrypted(&self) -> Option<&CallFailure> {
        self.unencrypted.as_ref()
    }

    /// Our own end of the connection.
    pub fn local(&self) -> SocketAddr {
        self.wire.stream.local()
    }

    /// Another message may go on it: it is not over, the server takes more in it, and has not hung up
    /// or spoken meanwhile.
    pub fn is_open(&self) -> bool {
        !self.is_over && !self.client.is_spent() && self.wire.is_quiet()
    }

    /// Sends one message to some recipients: one transaction. What `mail` says of the octets (size,
    /// kind) is set here. At `end` the server has had its time, unless the message is out: then it has
    /// that of [`Wait::Message`] once more, for the first answer or for all of them. The octets are let go
    /// of as soon as they are out.
    pub async fn deliver(&mut self, mail: &Mail<'_>, body: Body<'_>, end: Mono) -> Delivery {
        let Session { client, wire, is_over, .. } = self;
        wire.end = end;
        let form = match form(&body, client.offers(), client.is_lmtp()) {
            Ok(form) => form,
            Err(said) => {
                let verdicts = mail.recipients.iter().map(|_| Verdict::Unfit(said.clone()));
                return Delivery { verdicts: verdicts.collect(), trouble: None };
            }
        };
        // How long a message is that is made on its way out is known at its end: it goes by DATA.
        let (kind, size, plan) = match form {
            Form::AsItIs(kind) => (kind, u64::try_from(body.len()).ok(), None),
            Form::SevenBit(plan) => (param::Body::SevenBit, None, Some(plan)),
        };
        let mail = Mail { params: MailParams { size, body: kind, ..mail.params }, ..*mail };
        let mut source = Some(Source::new(body, plan));
        let mut transaction = client.transaction(&mail);
        let mut is_final = false;
        loop {
            let (used, turn) = transaction.step(wire.buffer.filled(), &mut wire.out);
            wire.used(used);
            let went = match turn {
                Turn::Done => break,
                Turn::Read(wait) => {
                    if wait == Wait::Message && !std::mem::replace(&mut is_final, true) {
                        wire.await_final();
                    }
                    wire.exchange(wait).await
                }
                Turn::Body(_) if wire.holds_more() => Ok(()),
                Turn::Body(framing) => {
                    let mut rest = source.take().expect("a message goes out once");
                    if rest.put_block(framing, &mut wire.out) {
                        source = Some(rest);
                        wire.send_block().await
                    } else {
                        transaction.body_sent(rest.is_open(), &mut wire.out);
                        wire.await_final();
                        Ok(())
                    }
                }
            };
            if let Err(loss) = went {
                transaction.lost(loss);
            }
        }
        let delivery = transaction.finish();
        // Who answers to a message that has not gone out does not want the rest.
        *is_over |= delivery.trouble.is_some() || wire.has_unsent();
        delivery
    }

    /// The message as it goes to this server, where that is not as it is.
    pub fn converted(&self, body: &Body<'_>) -> Option<Vec<u8>> {
        match form(body, self.client.offers(), self.client.is_lmtp()) {
            Ok(Form::SevenBit(plan)) => Some(to_vec(body.octets(), &plan)),
            _ => None,
        }
    }

    /// Says goodbye, unless the session is over, and hangs up.
    pub async fn quit(mut self) {
        self.wire.end = Mono::NEVER;
        if !self.is_over {
            self.client.quit(&mut self.wire.out);
            // Nothing depends on what it says to that.
            drop(self.converse().await);
        }
        self.wire.stream.close().await;
    }
}

/// How a message goes to a server.
enum Form {
    /// Its octets are of this kind, and stay as they are.
    AsItIs(param::Body),
    SevenBit(Plan),
}

/// How a message goes to such a server, or why it does not go there (RFC 6152 §3, RFC 3030 §3).
fn form(body: &Body<'_>, offers: &Offers, lmtp: bool) -> Result<Form, Said> {
    let nature = body.nature;
    let has_chunks = offers.has(Keywords::CHUNKING) && !lmtp;
    let is_binary = nature.has(Nature::BINARY);
    if is_binary && has_chunks && offers.has(Keywords::BINARY_MIME) {
        return Ok(Form::AsItIs(param::Body::Binary));
    }
    let is_eight_bit = nature.has(Nature::EIGHT_BIT);
    let is_too_long = nature.has(Nature::LONG_LINES) && !has_chunks;
    if !is_binary && !is_too_long {
        if !is_eight_bit {
            return Ok(Form::AsItIs(param::Body::SevenBit));
        }
        if offers.has(Keywords::EIGHT_BIT_MIME) {
            return Ok(Form::AsItIs(param::Body::EightBit));
        }
    }
    Plan::of(body.octets()).map(Form::SevenBit).map_err(|cannot| {
        let what = if is_binary {
            "no binary messages"
        } else if is_too_long {
            "no lines as long as those of the message"
        } else {
            "no octets over 127"
        };
        let text = format!("server takes {what}, and it cannot be converted: {cannot}");
        // RFC 3463 §3.7, RFC 5248: what must not be, and what is not known how to.
        let detail = match cannot {
            Cannot::EightBitHeader => 9,
            Cannot::Signed => 2,
            _ => 3,
        };
        Said::ours(554, 6, detail, &text)
    })
}

async fn secure<E: Env>(
    env: &E,
    stream: Stream<E>,
    target: Target<'_>,
    terms: &Terms,
) -> Result<Stream<E>, Failed> {
    let Target { host, demand, end, .. } = target;
    let call = Call { caller: &terms.caller, aside: &*terms.aside, host, demand };
    let deadline = env.now().after(terms.timeouts.of(Wait::Handshake)).min(end);
    stream.call(env, call, deadline).await.map_err(|failure| {
        let text = format!("no TLS with the server: {failure}");
        let text: String = text.chars().filter(|letter| matches!(letter, ' '..='~')).collect();
        let said = Said::ours(451, 7, 5, text.get(..text.len().min(400)).unwrap_or(&text));
        let trouble = Trouble { at: Wait::Handshake, kind: Kind::Tls, said };
        Failed { trouble, tls: Some(failure) }
    })
}

fn unreachable(error: &io::Error) -> Trouble {
    use io::ErrorKind;
    let is_ours = |code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
    let is_local =
        error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error().is_some_and(is_ours);
    let (kind, why) = match error.kind() {
        _ if is_local => (Kind::Local, "no connection can be made from here"),
        ErrorKind::TimedOut => (Kind::TimedOut, "server does not answer"),
        ErrorKind::ConnectionRefused => (Kind::Unreachable, "server refuses the connection"),
        ErrorKind::NetworkUnreachable => {
            (Kind::Unreachable, "network of the server is not reached")
        }
        ErrorKind::HostUnreachable => (Kind::Unreachable, "server is not reached"),
        _ => (Kind::Unreachable, "connection failed"),
    };
    let (subject, detail) = if is_local { (3, 0) } else { (4, 1) };
    let said = Said::ours(451, subject, detail, why);
    Trouble { at: Wait::Connect, kind, said }
}
