//! Fills mailboxes: batches of messages, by MULTIAPPEND (RFC 3502) where the server has it,
//! else by APPEND commands that are written ahead.
//!
//! A ticket is one message. Message `n` goes to user `n % users`, so that a batch takes every
//! ticket it gets to the mailbox of its session's user and all mailboxes fill alike.

use std::sync::Arc;

use super::session::Session;
use super::{Settings, count};
use crate::measure::tally::Stage;
use crate::run::{Context, Ticket};
use crate::smtp::{FAILURES_MAX, back_off};
use crate::values::{to_u64, to_usize};
use crate::wire::link::Trouble;

/// Appends batches until no ticket is left.
pub(crate) async fn session(context: Context, settings: Arc<Settings>) {
    context.ready().await;
    let (mut failures, mut turn, mut open) = (0, 0, None);
    while failures < FAILURES_MAX {
        // The users in turn; sessions of one round begin with different ones.
        let user = (to_u64(context.index) + turn * settings.sessions) % settings.users;
        let Some(first) = context.ticket().await else { break };
        let mut tickets = vec![first];
        while tickets.len() < to_usize(settings.batch) {
            let Some(ticket) = context.ticket_due() else { break };
            tickets.push(ticket);
        }
        let filling = Box::pin(batch(&context, &settings, user, &tickets, &mut open));
        match tokio::time::timeout(settings.timeout, filling).await.unwrap_or(Err(Trouble::Timeout))
        {
            Ok(()) => failures = 0,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                open = None;
                failures += 1;
                tokio::time::sleep(back_off(failures)).await;
            }
        }
        turn += 1;
    }
    context.finished();
}

/// One batch into the mailbox of `user`; the session stays open for the next of the same user.
async fn batch(
    context: &Context,
    settings: &Settings,
    user: u64,
    tickets: &[Ticket],
    open: &mut Option<(u64, Session)>,
) -> Result<(), Trouble> {
    if open.as_ref().is_none_or(|(of, _)| *of != user) {
        let mut session = settings.log_in(user).await?;
        settings.create(&mut session).await?;
        context.count(|tally| tally.connections += 1);
        *open = Some((user, session));
    }
    let Some((_, session)) = open.as_mut() else { return Err(Trouble::Closed) };
    let multi = session.offers.multi_append;
    let ahead = session.offers.may_send_at_once(settings.pool.pick(0).len());
    for commands in tickets.chunks(if multi || ahead { tickets.len() } else { 1 }) {
        let from_ns = context.now_ns();
        let mut wanted = true;
        for (index, ticket) in commands.iter().enumerate() {
            if index == 0 || !multi {
                let out = session.begin();
                out.extend_from_slice(b"APPEND ");
                out.extend_from_slice(&settings.mailbox);
            }
            session.link.text().push(b' ');
            wanted = session.literal(settings.pool.pick(ticket.number), ticket.number).await?;
            if !wanted {
                break;
            }
            if !multi || index + 1 == commands.len() {
                session.link.text().extend_from_slice(b"\r\n");
            }
        }
        session.link.flush().await?;
        let answers = if multi || !wanted { 1 } else { commands.len() };
        for index in 0..answers {
            let answer = session.answer(|_, _| {}).await?;
            count(context, Stage::Append, from_ns, answer, session);
            let done = if multi { commands } else { &commands[index..=index] };
            for ticket in done {
                let latency_ns = context.now_ns().saturating_sub(ticket.from_ns);
                let len = to_u64(settings.pool.pick(ticket.number).len());
                context.count(|tally| {
                    if answer.is_ok() {
                        tally.message(len, latency_ns);
                    } else {
                        tally.refused += 1;
                    }
                });
            }
        }
    }
    Ok(())
}
