//! The reading half of the audit: every maildrop of every user, once, in full.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::message;
use super::verdict::Found;
use crate::pop3::{login, read_message};
use crate::run::Context;
use crate::smtp::back_off;
use crate::values::{Instant, Pattern, write_number};
use crate::wire::link::{Link, Trouble};

/// RETR commands that may be unanswered where the server offers PIPELINING.
const WINDOW: u64 = 64;

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) pop3: SocketAddr,
    pub(crate) run: u64,
    pub(crate) user: Pattern,
    pub(crate) password: Pattern,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
}

/// Reads maildrops, one per ticket, until none is left. A maildrop that breaks off is read
/// again from its beginning, and only a whole one is reported.
pub(crate) async fn session(context: Context, settings: Arc<Settings>, found: Sender<Found>) {
    context.ready().await;
    let mut seen = Vec::new();
    while let Some(ticket) = context.ticket().await {
        let (user, began, mut failures) = (ticket.number, Instant::now(), 0);
        loop {
            seen.clear();
            let reading = Box::pin(maildrop(&context, &settings, user, &mut seen));
            match reading.await {
                Ok(()) => break,
                Err(trouble) if began.elapsed() > settings.patience => {
                    context.count(|tally| tally.trouble(trouble));
                    seen.clear();
                    seen.push(Found::Unread { user });
                    break;
                }
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(back_off(failures)).await;
                }
            }
        }
        for one in seen.drain(..) {
            // The receiver lives until all sessions have ended.
            found.send(one).ok();
        }
    }
    context.finished();
}

async fn maildrop(
    context: &Context,
    settings: &Settings,
    user: u64,
    seen: &mut Vec<Found>,
) -> Result<(), Trouble> {
    let late = || Trouble::Timeout;
    let opening = async {
        let mut link = Link::connect(settings.pop3, None).await?;
        let (count, _) = login(&mut link, &settings.user, &settings.password, user).await?;
        Ok((link, count))
    };
    let opened = tokio::time::timeout(settings.timeout, opening).await;
    let (mut link, count) = opened.map_err(|_| late()).and_then(|opened| opened)?;
    let mut reader = message::Reader::default();
    let (mut asked, mut read) = (0, 0);
    while read < count {
        if asked - read <= WINDOW / 2 && asked < count {
            let upto = (read + WINDOW).min(count);
            for number in asked + 1..=upto {
                link.text().extend_from_slice(b"RETR ");
                write_number(link.text(), number);
                link.text().extend_from_slice(b"\r\n");
            }
            asked = upto;
            link.flush().await?;
        }
        let reading = async {
            if !link.status().await?.ok {
                return Err(Trouble::Denied);
            }
            reader.begin();
            read_message(&mut link, |piece| reader.take(piece)).await
        };
        let octets = tokio::time::timeout(settings.timeout, reading).await;
        let octets = octets.map_err(|_| late()).and_then(|octets| octets)?;
        read += 1;
        context.count(|tally| tally.message(octets, 0));
        let message::Read { run, seq, digest, .. } = reader.end();
        seen.push(match (run, seq) {
            (Some(run), Some(seq)) if run == settings.run => Found::Copy { seq, user, digest },
            (Some(run), None) if run == settings.run => Found::Nameless { user, digest },
            _ => Found::Foreign,
        });
    }
    // Nothing was changed: how the server takes leave does not matter.
    link.send("QUIT\r\n").await.ok();
    Ok(())
}
