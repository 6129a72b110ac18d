//! How soon IDLE tells (RFC 2177): all sessions but the first wait in IDLE on one mailbox,
//! the first appends, and a round lasts until the last of them has seen EXISTS rise.
//!
//! Time counts from the first octet of APPEND, so that it holds the server's commit; the
//! stage `append` has how much of it that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::perform::append;
use super::session::Session;
use super::{Settings, count};
use crate::measure::tally::{IMAP_OK, Stage};
use crate::run::Context;
use crate::wire::imap::{Response, Status, parse};
use crate::wire::link::Trouble;

/// What the session that appends and those that watch tell each other.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Messages that the mailbox has once the round is over.
    wanted: AtomicU32,
    /// When the round began.
    from_ns: AtomicU64,
    /// Watchers that are in IDLE, and not lost.
    watching: AtomicU64,
    /// Watchers that have seen this round's message.
    seen: AtomicU64,
    /// The latest of them.
    last_ns: AtomicU64,
    all_seen: Notify,
    over: AtomicBool,
    leave: Notify,
}

/// The first session appends, all others watch; all are of one user.
pub(crate) async fn session(context: Context, settings: Arc<Settings>, board: Arc<Board>) {
    let appends = context.index == 0;
    let opening = Box::pin(open(&settings, appends));
    let opened = tokio::time::timeout(settings.timeout, opening).await;
    let opened = opened.unwrap_or(Err(Trouble::Timeout));
    match &opened {
        Ok(_) => context.count(|tally| tally.connections += 1),
        Err(trouble) => context.count(|tally| tally.trouble(*trouble)),
    }
    if opened.is_ok() && !appends {
        board.watching.fetch_add(1, Ordering::Relaxed);
    }
    context.ready().await;
    match opened {
        Ok(session) if appends => {
            let done = rounds(&context, &settings, &board, session).await;
            if let Err(trouble) = done {
                context.count(|tally| tally.trouble(trouble));
            }
        }
        Ok(session) => {
            if let Err(trouble) = watch(&context, &board, session).await {
                context.count(|tally| tally.trouble(trouble));
                board.watching.fetch_sub(1, Ordering::Relaxed);
                board.all_seen.notify_one();
            }
            return;
        }
        Err(_) => {}
    }
    if appends {
        board.over.store(true, Ordering::Release);
        board.leave.notify_waiters();
    }
    context.finished();
}

async fn open(settings: &Settings, appends: bool) -> Result<Session, Trouble> {
    let mut session = settings.log_in(0).await?;
    settings.create(&mut session).await?;
    settings.select(&mut session).await?;
    if !appends {
        session.idle().await?;
    }
    Ok(session)
}

/// Appends a message per ticket and waits until all have seen it.
async fn rounds(
    context: &Context,
    settings: &Settings,
    board: &Board,
    mut session: Session,
) -> Result<(), Trouble> {
    let mut wanted = session.exists;
    while let Some(ticket) = context.ticket().await {
        wanted += 1;
        let from_ns = context.now_ns();
        board.seen.store(0, Ordering::Relaxed);
        board.last_ns.store(from_ns, Ordering::Relaxed);
        board.from_ns.store(from_ns, Ordering::Relaxed);
        board.wanted.store(wanted, Ordering::Release);
        let answer = Box::pin(append(settings, &mut session, ticket.number));
        let answer = tokio::time::timeout(settings.timeout, answer).await;
        let answer = answer.unwrap_or(Err(Trouble::Timeout))?;
        count(context, Stage::Append, from_ns, answer, &session);
        if !answer.is_ok() {
            return Err(Trouble::Denied);
        }
        let all = async {
            while board.seen.load(Ordering::Acquire) < board.watching.load(Ordering::Relaxed) {
                board.all_seen.notified().await;
            }
        };
        tokio::time::timeout(settings.timeout, all).await.map_err(|_| Trouble::Timeout)?;
        let last_ns = board.last_ns.load(Ordering::Relaxed);
        context.count(|tally| tally.message(answer.octets, last_ns - from_ns));
    }
    Ok(())
}

/// Waits in IDLE until the rounds are over, then leaves.
async fn watch(context: &Context, board: &Board, mut session: Session) -> Result<(), Trouble> {
    let mut seen = session.exists;
    loop {
        let leave = board.leave.notified();
        if board.over.load(Ordering::Acquire) {
            break;
        }
        let len = tokio::select! {
            () = leave => break,
            len = session.link.peek_response() => len?,
        };
        match parse(&session.link.received()[..len])? {
            Response::Exists(count) => {
                if count < seen {
                    return Err(Trouble::Mismatch);
                }
                let wanted = board.wanted.load(Ordering::Acquire);
                if seen < wanted && count >= wanted {
                    tell(context, board);
                }
                seen = count;
            }
            Response::Expunge(_) => seen = seen.saturating_sub(1),
            Response::Notice { status: Status::Bye, .. } | Response::Tagged { .. } => {
                return Err(Trouble::Closed);
            }
            _ => {}
        }
        session.link.used(len);
    }
    context.finished();
    session.link.send("DONE\r\n").await?;
    session.answer(|_, _| {}).await?;
    session.command(b"LOGOUT").await?;
    Ok(())
}

fn tell(context: &Context, board: &Board) {
    let now_ns = context.now_ns();
    let latency_ns = now_ns.saturating_sub(board.from_ns.load(Ordering::Relaxed));
    context.count(|tally| {
        tally.command(Stage::Seen, latency_ns);
        tally.reply(Stage::Seen, IMAP_OK);
    });
    board.last_ns.fetch_max(now_ns, Ordering::Relaxed);
    let seen = board.seen.fetch_add(1, Ordering::Release) + 1;
    if seen >= board.watching.load(Ordering::Relaxed) {
        board.all_seen.notify_one();
    }
}
