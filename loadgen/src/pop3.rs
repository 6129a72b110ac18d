//! Reads maildrops by POP3 and measures each message from its RETR to its last octet.
//!
//! One session reads one maildrop: login, STAT, UIDL, RETR of everything, QUIT. With
//! pipelining the login and the lists go out as one write, and RETR commands in a window, so
//! that a figure per message then holds the wait for those before it.
//! No maildrop is opened by two sessions at a time (RFC 1939 §8 locks it).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memchr::memchr;

use crate::measure::tally::{POP3_ERR, POP3_OK, Stage};
use crate::run::{Context, Ticket};
use crate::smtp::{FAILURES_MAX, back_off};
use crate::values::{Pattern, to_u64, to_usize, write_number};
use crate::wire::dots::{Piece, Reader};
use crate::wire::link::{Link, Trouble};
use crate::wire::reply::{last_text, two_numbers};

/// Commands that may be unanswered: few enough to fit into any socket buffer.
const WINDOW: usize = 128;
/// Messages of one maildrop that are read; a list beyond that is an error.
const MESSAGES_MAX: u64 = 10_000_000;

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) to: SocketAddr,
    pub(crate) user: Pattern,
    pub(crate) users: u64,
    pub(crate) password: Pattern,
    pub(crate) pipelining: bool,
    pub(crate) delete: bool,
    pub(crate) verify: bool,
    pub(crate) timeout: Duration,
    /// One flag per user whose maildrop is open.
    pub(crate) open: Vec<AtomicBool>,
}

impl Settings {
    /// Takes the maildrop of this number or the next one that nobody has open.
    fn claim(&self, number: u64) -> Option<u64> {
        (0..self.users).map(|step| (number + step) % self.users).find(|user| {
            let flag = &self.open[to_usize(*user)];
            flag.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
    }

    fn release(&self, user: u64) {
        self.open[to_usize(user)].store(false, Ordering::Release);
    }
}

/// One session's buffers, reused from maildrop to maildrop.
#[derive(Default)]
struct Lists {
    /// Sizes by LIST, in order.
    sizes: Vec<u64>,
    /// When each RETR was written.
    sent_ns: Vec<u64>,
}

/// Reads maildrops until no ticket is left.
pub(crate) async fn session(context: Context, settings: Arc<Settings>) {
    context.ready().await;
    let (mut failures, mut lists) = (0, Lists::default());
    while failures < FAILURES_MAX {
        let Some(ticket) = context.ticket().await else { break };
        let Some(user) = settings.claim(ticket.number) else { break };
        let result = maildrop(&context, &settings, ticket, user, &mut lists).await;
        settings.release(user);
        match result {
            Ok(()) => failures = 0,
            Err(trouble) => {
                context.count(|tally| tally.trouble(trouble));
                failures += 1;
                tokio::time::sleep(back_off(failures)).await;
            }
        }
    }
    context.finished();
}

/// One maildrop from the connection to QUIT.
async fn maildrop(
    context: &Context,
    settings: &Settings,
    ticket: Ticket,
    user: u64,
    lists: &mut Lists,
) -> Result<(), Trouble> {
    let timeout = settings.timeout;
    let connecting = tokio::time::timeout(timeout, Link::connect(settings.to, None));
    let mut link = connecting.await.unwrap_or(Err(Trouble::Timeout))?;
    context.count(|tally| tally.connections += 1);
    let begin = begin(context, settings, user, &mut link, lists);
    let count = tokio::time::timeout(timeout, begin).await.unwrap_or(Err(Trouble::Timeout))?;
    retrieve(context, settings, &mut link, count, lists).await?;
    if settings.delete {
        let deleting = delete(context, &mut link, count, settings.pipelining);
        tokio::time::timeout(timeout, deleting).await.unwrap_or(Err(Trouble::Timeout))?;
    }
    link.send("QUIT\r\n").await?;
    let leaving = tokio::time::timeout(timeout, status(&mut link, context, Stage::Quit));
    if !leaving.await.unwrap_or(Err(Trouble::Timeout))? {
        return Err(Trouble::Denied);
    }
    let latency_ns = context.now_ns().saturating_sub(ticket.from_ns);
    context.count(|tally| tally.whole_session(latency_ns));
    Ok(())
}

/// Waits for a status line and counts it.
async fn status(link: &mut Link, context: &Context, stage: Stage) -> Result<bool, Trouble> {
    let status = link.peek_status().await?;
    let code = if status.ok { POP3_OK } else { POP3_ERR };
    context.count(|tally| {
        tally.reply(stage, code);
        if !status.ok {
            tally.text(stage, code, || last_text(&link.received()[..status.len]));
        }
    });
    link.used(status.len);
    Ok(status.ok)
}

/// Appends USER and PASS.
pub(crate) fn write_login(out: &mut Vec<u8>, user: &Pattern, password: &Pattern, number: u64) {
    out.extend_from_slice(b"USER ");
    user.write(number, out);
    out.extend_from_slice(b"\r\nPASS ");
    password.write(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Greeting, login and STAT, one command at a time and uncounted. Returns messages and octets.
pub(crate) async fn login(
    link: &mut Link,
    user: &Pattern,
    password: &Pattern,
    number: u64,
) -> Result<(u64, u64), Trouble> {
    let mut good = link.status().await?.ok;
    for (word, pattern) in [(&b"USER "[..], user), (&b"PASS "[..], password)] {
        if good {
            link.text().extend_from_slice(word);
            pattern.write(number, link.text());
            link.send("\r\n").await?;
            good = link.status().await?.ok;
        }
    }
    if !good {
        return Err(Trouble::Denied);
    }
    link.send("STAT\r\n").await?;
    let stat = link.peek_status().await?;
    let numbers = link.received()[..stat.len].get(4..).and_then(two_numbers);
    link.used(stat.len);
    numbers.filter(|_| stat.ok).ok_or(Trouble::Denied)
}

/// Greeting, login and lists. Returns the number of messages.
async fn begin(
    context: &Context,
    settings: &Settings,
    user: u64,
    link: &mut Link,
    lists: &mut Lists,
) -> Result<u64, Trouble> {
    if !status(link, context, Stage::Greeting).await? {
        return Err(Trouble::Denied);
    }
    if settings.pipelining {
        write_login(link.text(), &settings.user, &settings.password, user);
        let rest: &[u8] =
            if settings.verify { b"STAT\r\nUIDL\r\nLIST\r\n" } else { b"STAT\r\nUIDL\r\n" };
        link.text().extend_from_slice(rest);
        link.flush().await?;
    }
    for word in ["USER ", "PASS "] {
        if !settings.pipelining {
            let pattern = if word == "USER " { &settings.user } else { &settings.password };
            link.text().extend_from_slice(word.as_bytes());
            pattern.write(user, link.text());
            link.send("\r\n").await?;
        }
        if !status(link, context, Stage::Login).await? {
            return Err(Trouble::Denied);
        }
    }
    if !settings.pipelining {
        link.send("STAT\r\n").await?;
    }
    let stat = link.peek_status().await?;
    let numbers = link.received()[..stat.len].get(4..).and_then(two_numbers);
    if !status(link, context, Stage::Stat).await? {
        return Err(Trouble::Denied);
    }
    let (count, octets) =
        numbers.filter(|(count, _)| *count <= MESSAGES_MAX).ok_or(Trouble::Protocol)?;
    if !settings.pipelining {
        link.send("UIDL\r\n").await?;
    }
    if list(link, context, |_| Some(())).await? != count {
        return Err(Trouble::Mismatch);
    }
    lists.sizes.clear();
    if settings.verify {
        if !settings.pipelining {
            link.send("LIST\r\n").await?;
        }
        let sizes = &mut lists.sizes;
        let listed = list(link, context, |line| {
            let (_, size) = two_numbers(line)?;
            sizes.push(size);
            Some(())
        });
        if listed.await? != count || lists.sizes.iter().sum::<u64>() != octets {
            return Err(Trouble::Mismatch);
        }
    }
    Ok(count)
}

/// Reads the lines of a multi-line answer. Returns how many there were.
async fn list(
    link: &mut Link,
    context: &Context,
    mut line: impl FnMut(&[u8]) -> Option<()>,
) -> Result<u64, Trouble> {
    if !status(link, context, Stage::List).await? {
        return Err(Trouble::Denied);
    }
    let mut count = 0;
    loop {
        let Some(lf) = memchr(b'\n', link.received()) else {
            link.fill().await?;
            continue;
        };
        let text = link.received()[..lf].trim_ascii_end();
        let is_last = text == b".";
        if !is_last {
            line(text).ok_or(Trouble::Protocol)?;
            count += 1;
        }
        link.used(lf + 1);
        if is_last {
            return Ok(count);
        }
    }
}

/// RETR of everything, with a window of commands under way where pipelining is on.
async fn retrieve(
    context: &Context,
    settings: &Settings,
    link: &mut Link,
    count: u64,
    lists: &mut Lists,
) -> Result<(), Trouble> {
    let window = if settings.pipelining { WINDOW } else { 1 };
    lists.sent_ns.clear();
    for index in 0..to_usize(count) {
        let sent = lists.sent_ns.len();
        if sent - index <= window / 2 && sent < to_usize(count) {
            let upto = (index + window).min(to_usize(count));
            for number in sent..upto {
                link.text().extend_from_slice(b"RETR ");
                write_number(link.text(), to_u64(number) + 1);
                link.text().extend_from_slice(b"\r\n");
            }
            lists.sent_ns.resize(upto, context.now_ns());
            link.flush().await?;
        }
        let reading = message(context, link, |_| {});
        let octets = tokio::time::timeout(settings.timeout, reading).await;
        let octets = octets.unwrap_or(Err(Trouble::Timeout))?;
        let latency_ns = context.now_ns().saturating_sub(lists.sent_ns[index]);
        match octets {
            Some(octets) => {
                context.count(|tally| tally.message(octets, latency_ns));
                if lists.sizes.get(index).is_some_and(|size| *size != octets) {
                    context.count(|tally| tally.trouble(Trouble::Mismatch));
                }
            }
            None => context.count(|tally| tally.refused += 1),
        }
    }
    Ok(())
}

/// The answer to one RETR: hands out the unstuffed text and returns its octets; `None` for -ERR.
async fn message(
    context: &Context,
    link: &mut Link,
    text: impl FnMut(&[u8]),
) -> Result<Option<u64>, Trouble> {
    if !status(link, context, Stage::Retr).await? {
        return Ok(None);
    }
    read_message(link, text).await.map(Some)
}

/// A dot-stuffed message up to its end; returns its octets without the stuffing.
pub(crate) async fn read_message(
    link: &mut Link,
    mut text_to: impl FnMut(&[u8]),
) -> Result<u64, Trouble> {
    let (mut reader, mut octets) = (Reader::new(), 0);
    loop {
        match reader.next(link.received()) {
            Piece::Text { text, used } => {
                octets += to_u64(text.len());
                text_to(text);
                link.used(used);
            }
            Piece::End { used } => {
                link.used(used);
                return Ok(octets);
            }
            Piece::More => link.fill().await?,
            Piece::Unstuffed => return Err(Trouble::Protocol),
        }
    }
}

async fn delete(
    context: &Context,
    link: &mut Link,
    count: u64,
    pipelining: bool,
) -> Result<(), Trouble> {
    let window = if pipelining { to_u64(WINDOW) } else { 1 };
    let mut first = 1;
    while first <= count {
        let last = (first + window - 1).min(count);
        for number in first..=last {
            link.text().extend_from_slice(b"DELE ");
            write_number(link.text(), number);
            link.text().extend_from_slice(b"\r\n");
        }
        link.flush().await?;
        for _ in first..=last {
            status(link, context, Stage::Dele).await?;
        }
        first = last + 1;
    }
    Ok(())
}
