//! The sender's maildrop at the server: copies for local recipients, and reports.
//!
//! It is read and emptied by POP3 after the last 250, again and again until the run is over. What
//! was read is told only when its deletion was confirmed, so that nothing is told twice: a copy that
//! comes twice is the server's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::LOOK_EVERY;
use super::domains::Domains;
use crate::audit::message;
use crate::measure::report::pause;
use crate::pop3::{login, read_message};
use crate::run::runtime;
use crate::sink::body::read_report;
use crate::sink::desk::{Answer, Batch, Event, Taken};
use crate::values::{Instant, Pattern, to_u64, wall_us, write_number};
use crate::wire::link::{Link, Trouble};

/// Messages that are asked for before the first of them is read.
const WINDOW: u64 = 32;
/// The number of the first message; those of a sink begin at 1.
const FIRST_ID: u64 = 1 << 63;
/// The first octets of a report as it is stored (RFC 5321 §4.4).
const NULL_PATH: &[u8] = b"Return-Path: <>";

/// Where it is, and who opens it.
pub(super) struct Maildrop {
    pub(super) pop3: SocketAddr,
    pub(super) user: Pattern,
    pub(super) password: Pattern,
    pub(super) timeout: Duration,
    /// How long a server that is not there is waited for.
    pub(super) patience: Duration,
    pub(super) domains: Domains,
}

impl Maildrop {
    /// Tells what comes from when `is_draining` is set until `is_over`, and once more then.
    pub(super) fn watch(
        &self,
        is_draining: &AtomicBool,
        is_over: &AtomicBool,
        tell: &Sender<Batch>,
    ) -> Result<(), String> {
        let failed = |trouble: Trouble| format!("--maildrop: {}", trouble.label());
        let runtime = runtime();
        let (mut next_id, mut last_good) = (FIRST_ID, Instant::now());
        loop {
            let was_over = is_over.load(Ordering::Relaxed);
            if is_draining.load(Ordering::Relaxed) {
                match runtime.block_on(self.read(&mut next_id)) {
                    Ok((link, batch)) => {
                        runtime.block_on(self.leave(link)).map_err(failed)?;
                        last_good = Instant::now();
                        // Whoever keeps the ledger listens until this one ends.
                        tell.send(batch).ok();
                    }
                    Err(_) if last_good.elapsed() < self.patience => {
                        pause(LOOK_EVERY);
                        continue;
                    }
                    Err(trouble) => return Err(failed(trouble)),
                }
            } else {
                last_good = Instant::now();
            }
            if was_over {
                return Ok(());
            }
            pause(LOOK_EVERY);
        }
    }

    /// Reads all that is there, and marks it as deleted.
    async fn read(&self, next_id: &mut u64) -> Result<(Link, Batch), Trouble> {
        let opening = async {
            let mut link = Link::connect(self.pop3, None).await?;
            let (count, _) = login(&mut link, &self.user, &self.password, 0).await?;
            Ok((link, count))
        };
        let opened = tokio::time::timeout(self.timeout, opening).await;
        let (mut link, count) = opened.unwrap_or(Err(Trouble::Timeout))?;
        let (mut batch, mut read) = (Batch::default(), 0);
        while read < count {
            let upto = (read + WINDOW).min(count);
            let reading = self.some(&mut link, read + 1..=upto, next_id, &mut batch);
            let done = tokio::time::timeout(self.timeout, reading).await;
            done.unwrap_or(Err(Trouble::Timeout))?;
            read = upto;
        }
        Ok((link, batch))
    }

    /// What was marked is deleted now. Whoever does not hear so does not know.
    async fn leave(&self, mut link: Link) -> Result<(), Trouble> {
        let leaving = async {
            link.send("QUIT\r\n").await?;
            if link.status().await?.ok { Ok(()) } else { Err(Trouble::Denied) }
        };
        tokio::time::timeout(self.timeout, leaving).await.unwrap_or(Err(Trouble::Timeout))
    }

    async fn some(
        &self,
        link: &mut Link,
        numbers: std::ops::RangeInclusive<u64>,
        next_id: &mut u64,
        batch: &mut Batch,
    ) -> Result<(), Trouble> {
        for word in [&b"RETR "[..], b"DELE "] {
            for number in numbers.clone() {
                link.text().extend_from_slice(word);
                write_number(link.text(), number);
                link.text().extend_from_slice(b"\r\n");
            }
        }
        link.flush().await?;
        for _ in numbers.clone() {
            if !link.status().await?.ok {
                return Err(Trouble::Denied);
            }
            let mut text = Vec::new();
            read_message(link, |piece| text.extend_from_slice(piece)).await?;
            let id = *next_id;
            *next_id += 1;
            batch.events.push(Event::Taken(Box::new(self.taken(id, &text))));
            // It is the server's own: there was no answer to be lost.
            batch.events.push(Event::Answered { id, answer: Answer::Heard });
        }
        for _ in numbers {
            if !link.status().await?.ok {
                return Err(Trouble::Denied);
            }
        }
        Ok(())
    }

    fn taken(&self, id: u64, text: &[u8]) -> Taken {
        let is_null = text.starts_with(NULL_PATH);
        let mut reader = message::Reader::default();
        reader.take(text);
        let read = reader.end();
        let (told, read) = if is_null { read_report(text) } else { (Vec::new(), read) };
        let recipients = read.seq.map(|seq| self.domains.local_address(seq).into());
        Taken {
            id,
            connection: 0,
            at_us: wall_us(),
            octets: to_u64(text.len()),
            run: read.run,
            seq: read.seq,
            is_sound: read.announced.map(|it| it == read.digest).filter(|_| !is_null),
            is_null,
            recipients: recipients.into_iter().collect(),
            told,
        }
    }
}
