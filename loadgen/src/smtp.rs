//! Sends mail by SMTP or LMTP and measures each message from MAIL to its last reply.
//!
//! With pipelining MAIL, RCPT and DATA go out as one write and the body as a second one
//! (RFC 2920). With BDAT (RFC 3030) up to `depth` whole transactions go out before any
//! reply is waited for. A message is never sent twice: what was under way when a
//! connection broke is counted as a trouble and left alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::mails::Pool;
use crate::measure::tally::Stage;
use crate::run::{Context, Ticket};
use crate::values::{Pattern, Rng, to_u64, write_number};
use crate::wire::link::{Link, Trouble};
use crate::wire::reply::{Reply, last_text, offers};
use pombal::wire::smtp::offers::Keywords;

/// Failures in a row after which a session gives up.
pub(crate) const FAILURES_MAX: u32 = 10;
/// First pause after a failure; it doubles up to a second.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) to: SocketAddr,
    pub(crate) is_lmtp: bool,
    pub(crate) from: Vec<u8>,
    pub(crate) user: Pattern,
    pub(crate) users: u64,
    pub(crate) recipients: u64,
    /// Messages before QUIT and a new connection; 0 is endless.
    pub(crate) per_session: u64,
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
    pub(crate) depth: usize,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    pub(crate) pool: &'static Pool,
}

/// A connection that has said hello.
pub(crate) struct Session {
    pub(crate) link: Link,
    takes_size: bool,
    takes_eight_bit: bool,
    /// Recipients of the message under way.
    recipients: Vec<u64>,
}

/// Appends the address of the recipient with this number.
pub(crate) type Name<'a> = &'a dyn Fn(u64, &mut Vec<u8>);

/// What MAIL and RCPT say.
pub(crate) struct Envelope<'a> {
    pub(crate) from: &'a [u8],
    /// Appends the address of a recipient.
    pub(crate) name: Name<'a>,
    /// Numbers for it.
    pub(crate) recipients: &'a [u64],
    pub(crate) size: usize,
    pub(crate) is_eight_bit: bool,
    pub(crate) pipelining: bool,
}

/// Which recipients the server took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) count: u64,
    /// One bit for each of the first 64.
    pub(crate) mask: u64,
}

impl Accepted {
    fn add(&mut self, index: usize, reply: Reply) {
        if reply.is_positive() {
            self.count += 1;
            if index < 64 {
                self.mask |= 1 << index;
            }
        }
    }
}

/// One message on its way.
#[derive(Clone, Copy)]
struct Pending {
    ticket: Ticket,
    octets: u64,
}

/// One session from the first connection to the last goodbye.
pub(crate) async fn session(context: Context, settings: Arc<Settings>) {
    let mut rng = Rng::new(settings.seed, to_u64(context.index));
    let mut open = connect(&context, &settings).await;
    context.ready().await;
    let (mut failures, mut sent) = (0, 0);
    let mut batch = Vec::with_capacity(settings.depth);
    loop {
        let mut session = match open {
            Ok(session) => session,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                failures += 1;
                if trouble == Trouble::NotOffered {
                    context.stop();
                }
                if failures >= FAILURES_MAX || context.is_over() {
                    break context.finished();
                }
                tokio::time::sleep(back_off(failures)).await;
                open = connect(&context, &settings).await;
                continue;
            }
        };
        let Some(ticket) = context.ticket().await else {
            context.finished();
            goodbye(&mut session, &context).await;
            return;
        };
        take_batch(&context, &settings, ticket, sent, &mut batch);
        sent += to_u64(batch.len());
        let exchange = session.exchange(&context, &settings, &mut rng, &mut batch);
        let done = tokio::time::timeout(settings.timeout, exchange).await;
        open = match done.unwrap_or(Err(Trouble::Timeout)) {
            Ok(()) if settings.per_session > 0 && sent.is_multiple_of(settings.per_session) => {
                failures = 0;
                goodbye(&mut session, &context).await;
                drop(session);
                connect(&context, &settings).await
            }
            Ok(()) => {
                failures = 0;
                Ok(session)
            }
            Err(trouble) => Err(trouble),
        };
    }
}

pub(crate) fn back_off(failures: u32) -> Duration {
    (BACK_OFF * 2_u32.saturating_pow(failures.saturating_sub(1))).min(Duration::from_secs(1))
}

/// With BDAT takes more tickets whose moment has come, up to the depth.
fn take_batch(
    context: &Context,
    settings: &Settings,
    first: Ticket,
    sent: u64,
    batch: &mut Vec<Pending>,
) {
    batch.clear();
    batch.push(Pending { ticket: first, octets: 0 });
    if !settings.chunking {
        return;
    }
    let left = match settings.per_session {
        0 => u64::MAX,
        per_session => per_session - sent % per_session,
    };
    while batch.len() < settings.depth && to_u64(batch.len()) < left {
        let Some(ticket) = context.ticket_due() else { return };
        batch.push(Pending { ticket, octets: 0 });
    }
}

async fn connect(context: &Context, settings: &Settings) -> Result<Session, Trouble> {
    let opening = Session::open(context, settings.to, settings.is_lmtp);
    let session = tokio::time::timeout(settings.timeout, opening);
    let (session, offered) = session.await.unwrap_or(Err(Trouble::Timeout))?;
    if (settings.pipelining && !offered.pipelining) || (settings.chunking && !offered.chunking) {
        return Err(Trouble::NotOffered);
    }
    Ok(session)
}

/// Extensions that decide whether the run can be done as asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
}

pub(crate) async fn goodbye(session: &mut Session, context: &Context) {
    let leave = async {
        session.link.send("QUIT\r\n").await?;
        receive(&mut session.link, context, Stage::Quit).await
    };
    // A server that only closes has understood, too; the work is done in any case.
    tokio::time::timeout(Duration::from_secs(5), leave).await.ok();
}

/// Waits for a reply and counts it; after 421 the session is over (RFC 5321 §3.8).
pub(crate) async fn receive(
    link: &mut Link,
    context: &Context,
    stage: Stage,
) -> Result<Reply, Trouble> {
    let reply = link.peek_reply().await?;
    context.count(|tally| {
        tally.reply(stage, reply.code);
        if reply.code >= 400 {
            tally.text(stage, reply.code, || last_text(&link.received()[..reply.len]));
        }
    });
    link.used(reply.len);
    if reply.code == 421 { Err(Trouble::Denied) } else { Ok(reply) }
}

impl Session {
    pub(crate) async fn open(
        context: &Context,
        to: SocketAddr,
        is_lmtp: bool,
    ) -> Result<(Session, Offered), Trouble> {
        let mut link = Link::connect(to, None).await?;
        context.count(|tally| tally.connections += 1);
        if !receive(&mut link, context, Stage::Greeting).await?.is_positive() {
            return Err(Trouble::Denied);
        }
        let hello = if is_lmtp { "LHLO" } else { "EHLO" };
        link.send(&format!("{hello} loadgen.example.test\r\n")).await?;
        let reply = link.peek_reply().await?;
        let offers = offers(&link.received()[..reply.len]);
        let offered = Offered {
            pipelining: offers.has(Keywords::PIPELINING),
            chunking: offers.has(Keywords::CHUNKING),
        };
        let takes_size = offers.has(Keywords::SIZE);
        let takes_eight_bit = offers.has(Keywords::EIGHT_BIT_MIME);
        if !receive(&mut link, context, Stage::Hello).await?.is_positive() {
            return Err(Trouble::Denied);
        }
        let session = Session { link, takes_size, takes_eight_bit, recipients: Vec::new() };
        Ok((session, offered))
    }

    /// Logs in by AUTH PLAIN (RFC 4616).
    pub(crate) async fn login(
        &mut self,
        context: &Context,
        name: &str,
        password: &str,
    ) -> Result<(), Trouble> {
        let response = BASE64.encode(format!("\0{name}\0{password}"));
        self.link.send(&format!("AUTH PLAIN {response}\r\n")).await?;
        let reply = receive(&mut self.link, context, Stage::Login).await?;
        if reply.is_positive() { Ok(()) } else { Err(Trouble::Denied) }
    }

    async fn exchange(
        &mut self,
        context: &Context,
        settings: &Settings,
        rng: &mut Rng,
        batch: &mut [Pending],
    ) -> Result<(), Trouble> {
        // Taken out so that the session may be borrowed beside it; put back at the end.
        let mut recipients = std::mem::take(&mut self.recipients);
        let done = if settings.chunking {
            self.chunks(context, settings, rng, batch, &mut recipients).await
        } else {
            self.texts(context, settings, rng, batch, &mut recipients).await
        };
        self.recipients = recipients;
        done
    }

    /// Messages by DATA, one after the other.
    async fn texts(
        &mut self,
        context: &Context,
        settings: &Settings,
        rng: &mut Rng,
        batch: &mut [Pending],
        recipients: &mut Vec<u64>,
    ) -> Result<(), Trouble> {
        for pending in batch {
            let mail = settings.pool.pick(pending.ticket.number);
            pending.octets = to_u64(mail.len());
            choose(settings, rng, recipients);
            let envelope = Envelope {
                from: &settings.from,
                name: &|number, out| settings.user.write(number, out),
                recipients,
                size: mail.len(),
                is_eight_bit: mail.is_eight_bit,
                pipelining: settings.pipelining,
            };
            let accepted = self.envelope(context, &envelope).await?.count;
            if accepted == 0 {
                context.count(|tally| tally.refused += 1);
                continue;
            }
            mail.write_head(mark(settings, pending.ticket), self.link.text());
            self.link.share(mail.stuffed());
            self.link.share(b".\r\n");
            self.link.flush().await?;
            self.verdict(context, settings, *pending, accepted).await?;
        }
        Ok(())
    }

    /// MAIL, RCPT and DATA. Says which recipients wait for the message; with none the session
    /// is in step and the transaction is over.
    pub(crate) async fn envelope(
        &mut self,
        context: &Context,
        envelope: &Envelope<'_>,
    ) -> Result<Accepted, Trouble> {
        self.write_mail(envelope.from, envelope.size, envelope.is_eight_bit);
        let lockstep = !envelope.pipelining;
        if lockstep {
            self.link.flush().await?;
            if !receive(&mut self.link, context, Stage::Mail).await?.is_positive() {
                return Ok(Accepted::default());
            }
        }
        let mut accepted = Accepted::default();
        for (index, recipient) in envelope.recipients.iter().enumerate() {
            self.write_rcpt(envelope.name, *recipient);
            if lockstep {
                self.link.flush().await?;
                accepted.add(index, receive(&mut self.link, context, Stage::Rcpt).await?);
            }
        }
        if lockstep && accepted.count == 0 {
            return self.reset().await;
        }
        self.link.text().extend_from_slice(b"DATA\r\n");
        self.link.flush().await?;
        if !lockstep {
            receive(&mut self.link, context, Stage::Mail).await?;
            for index in 0..envelope.recipients.len() {
                accepted.add(index, receive(&mut self.link, context, Stage::Rcpt).await?);
            }
        }
        if receive(&mut self.link, context, Stage::Data).await?.code != 354 {
            return self.reset().await;
        }
        if accepted.count == 0 {
            // It takes a message for nobody; RFC 2920 §3.1 wants an empty one then.
            self.link.send(".\r\n").await?;
            receive(&mut self.link, context, Stage::Message).await?;
        }
        Ok(accepted)
    }

    async fn reset(&mut self) -> Result<Accepted, Trouble> {
        self.link.send("RSET\r\n").await?;
        self.link.reply().await?;
        Ok(Accepted::default())
    }

    pub(crate) fn write_mail(&mut self, from: &[u8], size: usize, is_eight_bit: bool) {
        let (takes_size, takes_eight_bit) = (self.takes_size, self.takes_eight_bit);
        let text = self.link.text();
        text.extend_from_slice(b"MAIL FROM:<");
        text.extend_from_slice(from);
        text.push(b'>');
        if takes_size {
            text.extend_from_slice(b" SIZE=");
            write_number(text, to_u64(size));
        }
        if is_eight_bit && takes_eight_bit {
            text.extend_from_slice(b" BODY=8BITMIME");
        }
        text.extend_from_slice(b"\r\n");
    }

    pub(crate) fn write_rcpt(&mut self, name: Name<'_>, number: u64) {
        let text = self.link.text();
        text.extend_from_slice(b"RCPT TO:<");
        name(number, text);
        text.extend_from_slice(b">\r\n");
    }

    /// The replies to the message: one, or with LMTP one per recipient (RFC 2033 §4.2).
    async fn verdict(
        &mut self,
        context: &Context,
        settings: &Settings,
        pending: Pending,
        accepted: u64,
    ) -> Result<(), Trouble> {
        let count = if settings.is_lmtp { accepted.max(1) } else { 1 };
        let mut positive = 0;
        for _ in 0..count {
            let reply = receive(&mut self.link, context, Stage::Message).await?;
            positive += u64::from(reply.is_positive());
        }
        let latency_ns = context.now_ns().saturating_sub(pending.ticket.from_ns);
        context.count(|tally| {
            if positive == count {
                tally.message(pending.octets, latency_ns);
            } else {
                tally.refused += 1;
            }
            let per_reply = if settings.is_lmtp { 1 } else { accepted };
            tally.recipients += positive * per_reply;
        });
        Ok(())
    }

    /// A batch of whole transactions by BDAT, then all their replies.
    async fn chunks(
        &mut self,
        context: &Context,
        settings: &Settings,
        rng: &mut Rng,
        batch: &mut [Pending],
        recipients: &mut Vec<u64>,
    ) -> Result<(), Trouble> {
        for pending in batch.iter_mut() {
            let mail = settings.pool.pick(pending.ticket.number);
            pending.octets = to_u64(mail.len());
            self.write_mail(&settings.from, mail.len(), mail.is_eight_bit);
            choose(settings, rng, recipients);
            for recipient in &*recipients {
                self.write_rcpt(&|number, out| settings.user.write(number, out), *recipient);
            }
            let text = self.link.text();
            text.extend_from_slice(b"BDAT ");
            write_number(text, pending.octets);
            text.extend_from_slice(b" LAST\r\n");
            mail.write_head(mark(settings, pending.ticket), text);
            self.link.share(mail.body());
        }
        self.link.flush().await?;
        let mut in_step = true;
        for pending in batch {
            let mail = receive(&mut self.link, context, Stage::Mail).await?;
            let mut accepted = 0;
            for _ in 0..settings.recipients {
                let reply = receive(&mut self.link, context, Stage::Rcpt).await?;
                accepted += u64::from(reply.is_positive());
            }
            in_step &= mail.is_positive() && accepted > 0;
            self.verdict(context, settings, *pending, accepted).await?;
        }
        if !in_step {
            self.reset().await?;
        }
        Ok(())
    }
}

/// Users in a row from a random one on: all different as long as there are enough.
fn choose(settings: &Settings, rng: &mut Rng, recipients: &mut Vec<u64>) {
    let first = rng.below(settings.users);
    recipients.clear();
    recipients.extend((first..first + settings.recipients).map(|user| user % settings.users));
}

/// Marks of different runs differ by the seed, those of one run by the number.
fn mark(settings: &Settings, ticket: Ticket) -> u64 {
    settings.seed.rotate_left(40) ^ ticket.number
}
