//! Does the steps of a script, once per ticket.

use std::sync::Arc;

use super::mix::{Act, Known, Script, Step, write};
use super::session::{Answer, Session, own_number, write_login};
use super::{Settings, count};
use crate::run::{Context, Ticket};
use crate::smtp::{FAILURES_MAX, back_off};
use crate::values::{Rng, to_u64};
use crate::wire::link::Trouble;

/// UIDs of which the profiles fetch what they show.
const RECENT_UIDS: u32 = 50;

/// What one session keeps from ticket to ticket.
struct Memory {
    rng: Rng,
    /// Tickets done.
    step: u64,
    /// Octets of the first answer to a search.
    alike: Option<u64>,
}

/// Does the script until no ticket is left.
pub(crate) async fn session(context: Context, settings: Arc<Settings>, script: Script) {
    let mut memory =
        Memory { rng: Rng::new(settings.seed, to_u64(context.index)), step: 0, alike: None };
    let mut open = None;
    let mut failures = 0;
    if !script.fresh {
        open = connect(&context, &settings, script).await;
    }
    context.ready().await;
    while failures < FAILURES_MAX {
        if open.is_none() && !script.fresh {
            failures += 1;
            if context.is_over() {
                break;
            }
            tokio::time::sleep(back_off(failures)).await;
            open = connect(&context, &settings, script).await;
            continue;
        }
        let Some(ticket) = context.ticket().await else { break };
        let doing =
            Box::pin(operation(&context, &settings, script, ticket, &mut open, &mut memory));
        match tokio::time::timeout(settings.timeout, doing).await.unwrap_or(Err(Trouble::Timeout)) {
            Ok(()) => failures = 0,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                open = None;
                failures += u32::from(script.fresh);
            }
        }
    }
    context.finished();
    if let Some(mut session) = open {
        let leaving = tokio::time::timeout(settings.timeout, session.command(b"LOGOUT"));
        leaving.await.ok();
    }
}

/// Connects, logs in, selects; what goes wrong is counted.
async fn connect(context: &Context, settings: &Settings, script: Script) -> Option<Session> {
    let connecting = async {
        let mut session = settings.log_in(to_u64(context.index) % settings.users).await?;
        if script.selected {
            settings.select(&mut session).await?;
            if script.flags() {
                clear(settings, context.index, &mut session).await?;
            }
        } else {
            settings.create(&mut session).await?;
        }
        Ok(session)
    };
    let connected = tokio::time::timeout(settings.timeout, Box::pin(connecting)).await;
    match connected.unwrap_or(Err(Trouble::Timeout)) {
        Ok(session) => {
            context.count(|tally| tally.connections += 1);
            Some(session)
        }
        Err(trouble) => {
            context.count(|tally| tally.trouble(trouble));
            None
        }
    }
}

/// Takes `\Flagged` away from the session's own messages: each STORE is to change something.
async fn clear(settings: &Settings, index: usize, session: &mut Session) -> Result<(), Trouble> {
    let (share, shares) = settings.share(index);
    let Some((first, _)) = own_number(session.exists, shares, share, 0) else { return Ok(()) };
    let last = first + u64::from(session.exists) / shares - 1;
    session.must(format!("STORE {first}:{last} -FLAGS.SILENT (\\Flagged)").as_bytes()).await
}

/// All steps for one ticket. A refusal ends them.
async fn operation(
    context: &Context,
    settings: &Settings,
    script: Script,
    ticket: Ticket,
    open: &mut Option<Session>,
    memory: &mut Memory,
) -> Result<(), Trouble> {
    let mut fresh = None;
    let session = if let Some(session) = open.as_mut() {
        session
    } else {
        let session = Session::open(settings.to).await?;
        context.count(|tally| tally.connections += 1);
        fresh.insert(session)
    };
    let mut octets = 0;
    for step in script.steps {
        let from_ns = context.now_ns();
        let answer = act(context, settings, ticket, session, step, memory).await?;
        count(context, step.stage, from_ns, answer, session);
        if !answer.is_ok() {
            context.count(|tally| tally.refused += 1);
            return Ok(());
        }
        octets += answer.octets;
    }
    memory.step += 1;
    let latency_ns = context.now_ns().saturating_sub(ticket.from_ns);
    context.count(|tally| tally.message(octets, latency_ns));
    Ok(())
}

async fn act(
    context: &Context,
    settings: &Settings,
    ticket: Ticket,
    session: &mut Session,
    step: &Step,
    memory: &mut Memory,
) -> Result<Answer, Trouble> {
    match step.act {
        Act::Say(text) | Act::SayForAll(text) | Act::SayAlike(text) => {
            say(context, settings, ticket, session, text, memory)?;
            session.link.flush().await?;
            let answer = session.answer(|_, _| {}).await?;
            let exists = u64::from(session.exists);
            let fits = match step.act {
                Act::SayForAll(_) => answer.fetched == exists && exists > 0,
                // The tag grows by a digit now and then; nothing else may change.
                Act::SayAlike(_) => {
                    let before = memory.alike.replace(answer.octets);
                    before.is_none_or(|before| before.abs_diff(answer.octets) <= 1)
                }
                _ => true,
            };
            if fits || !answer.is_ok() { Ok(answer) } else { Err(Trouble::Mismatch) }
        }
        Act::Login => {
            let user = ticket.number % settings.users;
            write_login(session.begin(), &settings.user, &settings.password, user);
            session.link.send("\r\n").await?;
            session.answer(|_, _| {}).await
        }
        Act::Append => append(settings, session, ticket.number).await,
        Act::IdleOnce => {
            session.begin().extend_from_slice(b"IDLE\r\n");
            session.link.flush().await?;
            if session.may_go_on().await? {
                session.link.send("DONE\r\n").await?;
            }
            session.answer(|_, _| {}).await
        }
    }
}

/// Writes a command with its line end; no flush.
fn say(
    context: &Context,
    settings: &Settings,
    ticket: Ticket,
    session: &mut Session,
    template: &str,
    memory: &mut Memory,
) -> Result<(), Trouble> {
    let (share, shares) = settings.share(context.index);
    let own = own_number(session.exists, shares, share, memory.step);
    if own.is_none() && (template.contains("$own") || template.contains("$any")) {
        // Fewer messages than sessions: there is nothing to work on.
        return Err(Trouble::Mismatch);
    }
    // Without messages of its own a session goes round the users.
    let goes_round = template.contains("$own");
    let (own, round) = own.filter(|_| goes_round).unwrap_or((0, ticket.number / settings.users));
    let known = Known {
        mailbox: &settings.mailbox,
        word: &settings.word,
        any: 1 + memory.rng.below(u64::from(session.exists.max(1))),
        own,
        plus: round.is_multiple_of(2),
        uid: u64::from(session.uid_seen),
        uids_from: u64::from(session.uid_next.saturating_sub(RECENT_UIDS).max(1)),
    };
    let out = session.begin();
    write(out, template, &known);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// One APPEND from its first octet to its answer.
pub(crate) async fn append(
    settings: &Settings,
    session: &mut Session,
    number: u64,
) -> Result<Answer, Trouble> {
    let out = session.begin();
    out.extend_from_slice(b"APPEND ");
    out.extend_from_slice(&settings.mailbox);
    out.push(b' ');
    if session.literal(settings.pool.pick(number), number).await? {
        session.link.send("\r\n").await?;
    }
    let mut answer = session.answer(|_, _| {}).await?;
    answer.octets += to_u64(settings.pool.pick(number).len());
    Ok(answer)
}
