//! The reading half: both mailboxes of every user, in full.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Account;
use super::journal::{FLAGS, PLACES};
use super::verdict::Found;
use crate::audit::message;
use crate::imap::session::Session;
use crate::run::Context;
use crate::smtp::back_off;
use crate::values::{Instant, to_u64};
use crate::wire::imap::{Response, items, text};
use crate::wire::link::Trouble;

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) account: Account,
    pub(crate) run: u64,
    pub(crate) patience: Duration,
}

/// Reads one user per ticket. What breaks off is read again from its beginning.
pub(crate) async fn session(context: Context, settings: Arc<Settings>, found: Sender<Found>) {
    context.ready().await;
    while let Some(ticket) = context.ticket().await {
        let (user, began, mut failures) = (ticket.number, Instant::now(), 0);
        let seen = loop {
            let reading = Box::pin(read(&context, &settings, user));
            let done = tokio::time::timeout(settings.account.timeout, reading).await;
            match done.unwrap_or(Err(Trouble::Timeout)) {
                Ok(seen) => break seen,
                Err(trouble) if began.elapsed() > settings.patience => {
                    context.count(|tally| tally.trouble(trouble));
                    break vec![Found::Unread { user }];
                }
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(back_off(failures)).await;
                }
            }
        };
        for one in seen {
            // The receiver lives until all sessions have ended.
            found.send(one).ok();
        }
    }
    context.finished();
}

async fn read(context: &Context, settings: &Settings, user: u64) -> Result<Vec<Found>, Trouble> {
    let mut session = settings.account.log_in(user).await?;
    let mut seen = Vec::new();
    for (place, name) in PLACES.iter().enumerate() {
        // Where nothing was ever sent there is no mailbox, and nothing to be missed.
        if !session.command(format!("EXAMINE {name}").as_bytes()).await?.is_ok() {
            continue;
        }
        if session.exists > 0 {
            mailbox(context, settings, &mut session, (user, place), &mut seen).await?;
        }
    }
    session.command(b"LOGOUT").await.ok();
    Ok(seen)
}

async fn mailbox(
    context: &Context,
    settings: &Settings,
    session: &mut Session,
    (user, place): (u64, usize),
    seen: &mut Vec<Found>,
) -> Result<(), Trouble> {
    let exists = u64::from(session.exists);
    session.begin().extend_from_slice(b"UID FETCH 1:* (UID FLAGS BODY.PEEK[])\r\n");
    session.link.flush().await?;
    let mut reader = message::Reader::default();
    let answer = session.answer(|_, response| {
        let Response::Fetch { pairs, .. } = response else { return };
        let (mut body, mut flags) = (None, 0);
        for (name, value) in items(pairs) {
            if name.eq_ignore_ascii_case(b"BODY[]") {
                body = Some(text(value));
            } else if name.eq_ignore_ascii_case(b"FLAGS") {
                flags = flags_of(value);
            }
        }
        // Flags alone are news of another session's STORE.
        let Some(body) = body else { return };
        context.count(|tally| tally.message(to_u64(body.len()), 0));
        reader.begin();
        reader.take(body);
        let message::Read { run, seq, digest, .. } = reader.end();
        seen.push(match (run, seq) {
            (Some(run), Some(seq)) if run == settings.run => {
                Found::Copy { seq, user, place, digest, flags }
            }
            (Some(run), None) if run == settings.run => Found::Nameless { user },
            _ => Found::Foreign,
        });
    });
    let answer = answer.await?;
    if answer.is_ok() && answer.fetched >= exists { Ok(()) } else { Err(Trouble::Mismatch) }
}

fn flags_of(value: &[u8]) -> u8 {
    let inner = value.strip_prefix(b"(").and_then(|value| value.strip_suffix(b")"));
    let mut bits = 0;
    for flag in inner.unwrap_or(value).split(|octet| *octet == b' ') {
        let known = FLAGS.iter().position(|one| flag.eq_ignore_ascii_case(one.as_bytes()));
        bits |= known.map_or(0, |index| 1 << index);
    }
    bits
}
