//! The sending half of the audit: every message is announced to the journal, sent once at
//! most, and its answer noted. A server that dies is waited for; what was under way then is
//! unknown and stays so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::journal::{RECIPIENTS_MAX, Writer};
use super::message;
use crate::mails::Pool;
use crate::measure::tally::Stage;
use crate::pop3::{login, read_message};
use crate::run::{Context, Ticket};
use crate::smtp::{Envelope, Offered, Session, back_off, goodbye, receive};
use crate::values::{Instant, Pattern, Rng, to_u64, write_number};
use crate::wire::link::{Link, Trouble};

/// Who sends.
const FROM: &[u8] = b"loadgen@example.org";
/// Messages that one deleting session looks at.
const LOOKED_AT_MAX: u64 = 20;
/// Pause between two deleting sessions, so that senders get their share.
const DELETE_EVERY: Duration = Duration::from_millis(20);

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) smtp: SocketAddr,
    pub(crate) pop3: SocketAddr,
    pub(crate) journal: PathBuf,
    /// Set when the journal could not be written: the run is worth nothing then.
    pub(crate) journal_failed: AtomicBool,
    pub(crate) run: u64,
    /// The first sequence number of this round.
    pub(crate) first_seq: u64,
    /// The number that the next deleting session takes.
    pub(crate) next_deletion: AtomicU64,
    pub(crate) user: Pattern,
    pub(crate) users: u64,
    pub(crate) password: Pattern,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    pub(crate) pool: &'static Pool,
}

/// Buffers of one sending session.
struct Buffers {
    recipients: Vec<u64>,
    scratch: Vec<u8>,
    rng: Rng,
    journal: Writer,
}

/// One sending session.
pub(crate) async fn sender(context: Context, settings: Arc<Settings>) {
    let rng = Rng::new(settings.seed ^ settings.first_seq, to_u64(context.index));
    let mut open = connect(&context, &settings).await;
    context.ready().await;
    let Ok(journal) = Writer::open(&settings.journal) else {
        settings.journal_failed.store(true, Ordering::Relaxed);
        context.stop();
        return context.finished();
    };
    let mut buffers = Buffers { recipients: Vec::new(), scratch: Vec::new(), rng, journal };
    let (mut failures, mut last_good) = (0, Instant::now());
    loop {
        let (mut session, offered) = match open {
            Ok(open) => open,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                failures += 1;
                if context.is_over() || last_good.elapsed() > settings.patience {
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
        let sending =
            send(&context, &settings, &mut session, offered.pipelining, ticket, &mut buffers);
        let done = tokio::time::timeout(settings.timeout, Box::pin(sending)).await;
        if buffers.journal.is_broken() {
            settings.journal_failed.store(true, Ordering::Relaxed);
            context.stop();
        }
        open = match done.unwrap_or(Err(Trouble::Timeout)) {
            Ok(()) => {
                (failures, last_good) = (0, Instant::now());
                Ok((session, offered))
            }
            Err(trouble) => Err(trouble),
        };
    }
}

async fn connect(context: &Context, settings: &Settings) -> Result<(Session, Offered), Trouble> {
    let opening = Session::open(context, settings.smtp, false);
    tokio::time::timeout(settings.timeout, opening).await.unwrap_or(Err(Trouble::Timeout))
}

/// One message: intent, MAIL to body, answer.
async fn send(
    context: &Context,
    settings: &Settings,
    session: &mut Session,
    pipelining: bool,
    ticket: Ticket,
    buffers: &mut Buffers,
) -> Result<(), Trouble> {
    let seq = settings.first_seq + ticket.number;
    let mail = settings.pool.pick(seq);
    let Buffers { recipients, scratch, rng, journal } = buffers;
    choose(rng, settings.users, recipients);
    let digest = message::digest(mail, settings.run, seq, scratch);
    scratch.clear();
    message::write_head(scratch, FROM, settings.run, seq, digest);
    let size = scratch.len() + mail.body().len();
    journal.intent(seq, digest, recipients);
    if journal.is_broken() {
        return Err(Trouble::Broken);
    }
    let envelope = Envelope {
        from: FROM,
        name: &|number, out| settings.user.write(number, out),
        recipients,
        size,
        is_eight_bit: false,
        pipelining,
    };
    let accepted = session.envelope(context, &envelope).await?;
    if accepted.count == 0 {
        journal.refused(seq, 0);
        context.count(|tally| tally.refused += 1);
        return Ok(());
    }
    session.link.text().extend_from_slice(scratch);
    session.link.share(mail.stuffed());
    session.link.share(b".\r\n");
    session.link.flush().await?;
    let reply = session.link.peek_reply().await?;
    if reply.is_positive() {
        journal.acknowledged(seq, accepted.mask);
    } else if reply.code != 421 {
        // 421 may come from a server that is going down in the middle: nothing is known.
        journal.refused(seq, reply.code);
    }
    receive(&mut session.link, context, Stage::Message).await?;
    let latency_ns = context.now_ns().saturating_sub(ticket.from_ns);
    context.count(|tally| {
        if reply.is_positive() {
            tally.message(to_u64(size), latency_ns);
            tally.recipients += accepted.count;
        } else {
            tally.refused += 1;
        }
    });
    Ok(())
}

/// One to three different users.
fn choose(rng: &mut Rng, users: u64, recipients: &mut Vec<u64>) {
    let count = 1 + rng.below(to_u64(RECIPIENTS_MAX).min(users));
    recipients.clear();
    while to_u64(recipients.len()) < count {
        let user = rng.below(users);
        if !recipients.contains(&user) {
            recipients.push(user);
        }
    }
}

/// One session that deletes while others send. What goes wrong here is no error: the server
/// may be gone, or somebody else has the maildrop open.
pub(crate) async fn deleter(context: Context, settings: Arc<Settings>) {
    let mut rng = Rng::new(settings.seed ^ settings.first_seq, u64::MAX - to_u64(context.index));
    context.ready().await;
    if let Ok(mut journal) = Writer::open(&settings.journal) {
        while !context.is_over() && !journal.is_broken() {
            let user = rng.below(settings.users);
            let deleting = Box::pin(delete(&settings, user, &mut rng, &mut journal));
            tokio::time::timeout(settings.timeout, deleting).await.ok();
            tokio::time::sleep(DELETE_EVERY).await;
        }
    }
    context.finished();
}

async fn delete(
    settings: &Settings,
    user: u64,
    rng: &mut Rng,
    journal: &mut Writer,
) -> Result<(), Trouble> {
    let mut link = Link::connect(settings.pop3, None).await?;
    let (count, _) = login(&mut link, &settings.user, &settings.password, user).await?;
    let (mut reader, mut deleted) = (message::Reader::default(), Vec::new());
    for number in 1..=count.min(LOOKED_AT_MAX) {
        if rng.below(3) > 0 {
            continue;
        }
        command(&mut link, b"RETR ", number).await?;
        reader.begin();
        read_message(&mut link, |piece| reader.take(piece)).await?;
        let read = reader.end();
        let (Some(run), Some(seq)) = (read.run, read.seq) else { continue };
        if run == settings.run {
            command(&mut link, b"DELE ", number).await?;
            deleted.push(seq);
        }
    }
    if deleted.is_empty() {
        return link.send("QUIT\r\n").await;
    }
    let id = settings.next_deletion.fetch_add(1, Ordering::Relaxed);
    journal.deleting(id, user, &deleted);
    link.send("QUIT\r\n").await?;
    if link.status().await?.ok {
        journal.deleted(id);
    }
    Ok(())
}

async fn command(link: &mut Link, word: &[u8], number: u64) -> Result<(), Trouble> {
    link.text().extend_from_slice(word);
    write_number(link.text(), number);
    link.send("\r\n").await?;
    if link.status().await?.ok { Ok(()) } else { Err(Trouble::Denied) }
}
