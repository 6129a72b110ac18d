//! The sending half of a relay run: each message once at most, and what was answered to it. A
//! server that dies is waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::domains::Domains;
use super::ledger::Sent;
use crate::audit::message;
use crate::mails::Pool;
use crate::measure::tally::Stage;
use crate::run::{Context, Ticket};
use crate::smtp::{Envelope, FAILURES_MAX, Offered, Session, back_off, goodbye, receive};
use crate::values::{Instant, to_u64, wall_us};
use crate::wire::link::Trouble;

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) to: SocketAddr,
    /// Name and password.
    pub(crate) login: Option<(String, String)>,
    pub(crate) from: Vec<u8>,
    pub(crate) run: u64,
    pub(crate) domains: Domains,
    pub(crate) pipelining: bool,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) pool: &'static Pool,
    /// Messages whose 250 was told to the ledger.
    pub(crate) acknowledged: AtomicU64,
    /// Somebody asked for the end.
    pub(crate) is_ended: AtomicBool,
}

/// One session.
pub(crate) async fn session(context: Context, settings: Arc<Settings>, tell: Sender<Sent>) {
    let mut open = connect(&context, &settings).await;
    context.ready().await;
    let (mut failures, mut last_good) = (0, Instant::now());
    let mut scratch = Vec::new();
    loop {
        if settings.is_ended.load(Ordering::Relaxed) {
            context.stop();
        }
        let (mut session, offered) = match open {
            Ok(open) => open,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                failures += 1;
                let is_enough =
                    failures >= FAILURES_MAX && last_good.elapsed() >= settings.patience;
                if is_enough || context.is_over() {
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
        let pipelining = offered.pipelining && settings.pipelining;
        let sending =
            send(&context, &settings, &mut session, pipelining, ticket, &tell, &mut scratch);
        let done = tokio::time::timeout(settings.timeout, Box::pin(sending)).await;
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
    let opening = async {
        let (mut session, offered) = Session::open(context, settings.to, false).await?;
        if let Some((name, password)) = &settings.login {
            session.login(context, name, password).await?;
        }
        Ok((session, offered))
    };
    tokio::time::timeout(settings.timeout, opening).await.unwrap_or(Err(Trouble::Timeout))
}

/// One message, from MAIL to its answer.
async fn send(
    context: &Context,
    settings: &Settings,
    session: &mut Session,
    pipelining: bool,
    ticket: Ticket,
    tell: &Sender<Sent>,
    scratch: &mut Vec<u8>,
) -> Result<(), Trouble> {
    // Whoever keeps the ledger outlives all sessions.
    let tell = |sent| tell.send(sent).map_err(|_| Trouble::Broken);
    let seq = ticket.number;
    let mail = settings.pool.pick(seq);
    let digest = message::digest(mail, settings.run, seq, scratch);
    scratch.clear();
    message::write_head(scratch, &settings.from, settings.run, seq, digest);
    let size = scratch.len() + mail.body().len();
    tell(Sent::Begun { seq })?;
    let recipients: Vec<u64> = settings.domains.slots(seq).collect();
    let envelope = Envelope {
        from: &settings.from,
        name: &|slot, out| settings.domains.write_recipient(seq, slot, out),
        recipients: &recipients,
        size,
        is_eight_bit: false,
        pipelining,
    };
    let accepted = session.envelope(context, &envelope).await?;
    if accepted.count == 0 {
        context.count(|tally| tally.refused += 1);
        return tell(Sent::Refused { seq });
    }
    tell(Sent::Offered { seq, mask: accepted.mask })?;
    session.link.text().extend_from_slice(scratch);
    session.link.share(mail.stuffed());
    session.link.share(b".\r\n");
    session.link.flush().await?;
    let reply = session.link.peek_reply().await?;
    if reply.is_positive() {
        tell(Sent::Acknowledged { seq, mask: accepted.mask, at_us: wall_us() })?;
        settings.acknowledged.fetch_add(1, Ordering::Relaxed);
    } else if reply.code != 421 {
        // 421 may come from a server that is going down in the middle: nothing is known.
        tell(Sent::Refused { seq })?;
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
