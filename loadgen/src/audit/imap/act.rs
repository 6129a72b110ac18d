//! The acting half: APPEND, COPY, MOVE, STORE and EXPUNGE, each announced to the journal,
//! done once at most, its OK noted. A server that dies is waited for.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Account;
use super::journal::{DELETED, Deed, FLAGS, PLACES, State};
use crate::audit::journal::Writer;
use crate::audit::message;
use crate::imap::session::{Answer, Session};
use crate::mails::Pool;
use crate::measure::tally::Stage;
use crate::run::{Context, Ticket};
use crate::smtp::back_off;
use crate::values::{Instant, Rng, to_u64, to_usize};
use crate::wire::imap::{Response, code_value, copies, number, word};
use crate::wire::link::Trouble;

/// Deeds in one mailbox before the other is selected.
const DEEDS_PER_SELECT: u64 = 16;
/// Messages that a session acts on; older ones are left as they are.
const LIVE_MAX: usize = 40;
/// Messages of one deed at most.
const TOGETHER_MAX: u64 = 3;

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) account: Account,
    pub(crate) users: u64,
    pub(crate) journal: PathBuf,
    pub(crate) journal_failed: AtomicBool,
    pub(crate) run: u64,
    pub(crate) next_seq: AtomicU64,
    pub(crate) next_deed: AtomicU64,
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    pub(crate) pool: &'static Pool,
}

/// A message whose state and UIDs are known for sure.
#[derive(Clone, Copy, Debug)]
struct Live {
    seq: u64,
    state: State,
    uids: [u32; 2],
}

/// What a session keeps from connection to connection.
struct Memory {
    journal: Writer,
    rng: Rng,
    user: u64,
    live: Vec<Live>,
    /// The selected mailbox.
    place: usize,
    /// Deeds until the other one is selected; 0 when none is selected.
    left: u64,
    validity: [u64; 2],
}

/// One acting session.
pub(crate) async fn session(context: Context, settings: Arc<Settings>) {
    context.ready().await;
    let Ok(journal) = Writer::open(&settings.journal) else {
        settings.journal_failed.store(true, Ordering::Relaxed);
        context.stop();
        return context.finished();
    };
    let user = to_u64(context.index) % settings.users;
    let rng = Rng::new(settings.seed ^ settings.run, to_u64(context.index));
    let mut memory =
        Memory { journal, rng, user, live: Vec::new(), place: 0, left: 0, validity: [0; 2] };
    let (mut open, mut failures, mut last_good) = (None, 0, Instant::now());
    while let Some(ticket) = context.ticket().await {
        let acting = Box::pin(act(&context, &settings, ticket, &mut open, &mut memory));
        let done = tokio::time::timeout(settings.account.timeout, acting).await;
        if memory.journal.is_broken() {
            settings.journal_failed.store(true, Ordering::Relaxed);
            context.stop();
        }
        match done.unwrap_or(Err(Trouble::Timeout)) {
            Ok(()) => (failures, last_good) = (0, Instant::now()),
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                (open, memory.left) = (None, 0);
                failures += 1;
                if last_good.elapsed() > settings.patience {
                    break;
                }
                tokio::time::sleep(back_off(failures)).await;
            }
        }
    }
    context.finished();
}

/// One ticket: an APPEND or a deed.
async fn act(
    context: &Context,
    settings: &Settings,
    ticket: Ticket,
    open: &mut Option<Session>,
    memory: &mut Memory,
) -> Result<(), Trouble> {
    if open.is_none() {
        let mut session = settings.account.log_in(memory.user).await?;
        context.count(|tally| tally.connections += 1);
        if !session.offers.uid_plus {
            // Without UIDs in the answers nobody could say which message is which.
            return Err(Trouble::NotOffered);
        }
        for place in PLACES {
            session.command(format!("CREATE {place}").as_bytes()).await?;
        }
        *open = Some(session);
    }
    let Some(session) = open.as_mut() else { return Err(Trouble::Closed) };
    if memory.left == 0 {
        select(session, memory, 1 - memory.place).await?;
        memory.left = DEEDS_PER_SELECT;
    }
    memory.left -= 1;
    let (stage, answer) = if memory.rng.below(3) == 0 {
        (Stage::Append, Some(append(settings, session, memory).await?))
    } else {
        deed(settings, session, memory).await?
    };
    let Some(answer) = answer else { return Ok(()) };
    crate::imap::count(context, stage, ticket.from_ns, answer, session);
    let latency_ns = context.now_ns().saturating_sub(ticket.from_ns);
    context.count(|tally| {
        if answer.is_ok() {
            tally.message(answer.octets, latency_ns);
        } else {
            tally.refused += 1;
        }
    });
    Ok(())
}

/// UIDs of an earlier UIDVALIDITY are worth nothing: their messages are left alone.
async fn select(session: &mut Session, memory: &mut Memory, place: usize) -> Result<(), Trouble> {
    session.begin().extend_from_slice(format!("SELECT {}\r\n", PLACES[place]).as_bytes());
    session.link.flush().await?;
    let mut validity = 0;
    let answer = session.answer(|_, response| {
        if let Response::Notice { code, .. } = response
            && let Some(it) = code_value(*code, "UIDVALIDITY").and_then(number)
        {
            validity = it;
        }
    });
    if !answer.await?.is_ok() {
        return Err(Trouble::Denied);
    }
    if memory.validity[place] != validity {
        memory.live.retain(|live| live.state[place].is_none());
        memory.validity[place] = validity;
    }
    memory.place = place;
    Ok(())
}

async fn append(
    settings: &Settings,
    session: &mut Session,
    memory: &mut Memory,
) -> Result<Answer, Trouble> {
    let seq = settings.next_seq.fetch_add(1, Ordering::Relaxed);
    let (mail, mut head) = (settings.pool.pick(seq), Vec::new());
    let digest = message::digest(mail, settings.run, seq, &mut head);
    head.clear();
    message::write_head(&mut head, b"loadgen@example.org", settings.run, seq, digest);
    let (user, place) = (memory.user, memory.place);
    memory.journal.line_now(format!("I {seq} {digest:032x} {user} {place}\n").as_bytes());
    if memory.journal.is_broken() {
        return Err(Trouble::Broken);
    }
    session.begin().extend_from_slice(format!("APPEND {} ", PLACES[place]).as_bytes());
    if session.announce(head.len() + mail.body().len()).await? {
        session.link.text().extend_from_slice(&head);
        session.link.share(mail.body());
        session.link.send("\r\n").await?;
    }
    let mut uid = None;
    let answer = session.answer(|_, response| {
        if let Response::Tagged { code, .. } = response {
            uid = code_value(*code, "APPENDUID").and_then(|value| number(word(value).1));
        }
    });
    let mut answer = answer.await?;
    answer.octets += to_u64(head.len() + mail.body().len());
    if answer.is_ok() {
        memory.journal.line_later(format!("A {seq}\n").as_bytes());
        if let Some(uid) = uid.and_then(|uid| u32::try_from(uid).ok()) {
            let (mut state, mut uids) = ([None; 2], [0; 2]);
            (state[place], uids[place]) = (Some(0), uid);
            if memory.live.len() >= LIVE_MAX {
                memory.live.swap_remove(to_usize(memory.rng.below(to_u64(LIVE_MAX))));
            }
            memory.live.push(Live { seq, state, uids });
        }
    }
    Ok(answer)
}

/// One deed with up to three messages that it fits; none when there are none.
async fn deed(
    settings: &Settings,
    session: &mut Session,
    memory: &mut Memory,
) -> Result<(Stage, Option<Answer>), Trouble> {
    let flag = u8::try_from(memory.rng.below(to_u64(FLAGS.len()))).unwrap_or_default();
    let (deed, stage) = match memory.rng.below(8) {
        0 => (Deed::Copy, Stage::Copy),
        1 if session.offers.moves => (Deed::Move, Stage::Move),
        2 => (Deed::Expunge, Stage::Expunge),
        3 => (Deed::Set(DELETED), Stage::Store),
        4 | 5 => (Deed::Clear(flag), Stage::Store),
        _ => (Deed::Set(flag), Stage::Store),
    };
    let chosen = choose(memory, deed);
    if chosen.is_empty() {
        return Ok((stage, None));
    }
    let place = memory.place;
    let id = settings.next_deed.fetch_add(1, Ordering::Relaxed);
    let seqs: Vec<u64> = chosen.iter().map(|live| live.seq).collect();
    memory.journal.line_now(deed.line(id, place, &seqs).as_bytes());
    if memory.journal.is_broken() {
        return Err(Trouble::Broken);
    }
    let uids: Vec<String> = chosen.iter().map(|live| live.uids[place].to_string()).collect();
    let (uids, other) = (uids.join(","), PLACES[1 - place]);
    let command = match deed {
        Deed::Copy => format!("UID COPY {uids} {other}\r\n"),
        Deed::Move => format!("UID MOVE {uids} {other}\r\n"),
        Deed::Expunge => format!("UID EXPUNGE {uids}\r\n"),
        Deed::Set(flag) => format!("UID STORE {uids} +FLAGS.SILENT ({})\r\n", name(flag)),
        Deed::Clear(flag) => format!("UID STORE {uids} -FLAGS.SILENT ({})\r\n", name(flag)),
    };
    session.begin().extend_from_slice(command.as_bytes());
    session.link.flush().await?;
    let mut copied = Vec::new();
    let answer = session.answer(|_, response| {
        if let Response::Tagged { code, .. } | Response::Notice { code, .. } = response {
            copied.extend(copies(*code).unwrap_or_default());
        }
    });
    let answer = answer.await?;
    if answer.is_ok() {
        memory.journal.line_later(format!("K {id}\n").as_bytes());
        keep(memory, deed, chosen, &copied);
    }
    Ok((stage, Some(answer)))
}

fn name(flag: u8) -> &'static str {
    FLAGS.get(usize::from(flag)).copied().unwrap_or_default()
}

/// Takes messages out of the list: they come back only when the deed was answered with OK.
fn choose(memory: &mut Memory, deed: Deed) -> Vec<Live> {
    let (place, count) = (memory.place, 1 + memory.rng.below(TOGETHER_MAX));
    let fits = |live: &Live| match (live.state[place], deed) {
        (None, _) => false,
        (Some(_), Deed::Copy | Deed::Move) => live.state[1 - place].is_none(),
        (Some(flags), Deed::Expunge) => flags & 1 << DELETED != 0,
        (Some(_), Deed::Set(_) | Deed::Clear(_)) => true,
    };
    let mut chosen = Vec::new();
    while to_u64(chosen.len()) < count {
        let Some(index) = memory.live.iter().position(fits) else { break };
        // The oldest first, and behind all others when it comes back.
        chosen.push(memory.live.remove(index));
    }
    chosen
}

/// Puts back what still exists and whose UID is known.
fn keep(memory: &mut Memory, deed: Deed, chosen: Vec<Live>, copied: &[(u32, u32)]) {
    let place = memory.place;
    for mut live in chosen {
        live.state = deed.apply(place, live.state);
        if matches!(deed, Deed::Copy | Deed::Move) {
            let copy = copied.iter().find(|(from, _)| *from == live.uids[place]);
            let Some((_, to)) = copy else { continue };
            live.uids[1 - place] = *to;
        }
        if live.state != [None; 2] {
            memory.live.push(live);
        }
    }
}
