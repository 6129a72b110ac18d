//! News of the selected mailbox, told in slices: a reader that does not read costs little memory,
//! however much others changed.
//!
//! The session takes the mailbox as it is now, as a whole; what is to be told of that is a list of
//! UIDs. No number moves and nothing else is said while the lines go out.

use super::Driver;
use super::selected::{Own, Selected};
use crate::env::Env;
use crate::mailbox::View;
use crate::model::id::Uid;
use crate::tls::Stream;
use crate::wire::imap::reply::put_count;
use crate::wire::imap::reply::search::begin_vanished;
use crate::wire::imap::reply::status::{Code, Kind, Status};
use crate::wire::imap::set::{Span, put_spans, runs};
use std::io;

/// Lines, numbers, or spans of a set, between two looks at how much waits to be sent.
pub(super) const TOLD_AT_ONCE: usize = 64;

impl<E: Env> Driver<E> {
    /// Tells what changed in the selected mailbox; messages that went only where the client
    /// expects it.
    pub(super) async fn sync(&mut self, conn: &mut Stream<E>, expunges: bool) -> io::Result<()> {
        if self.is_restored() {
            // It hears that next, and not of messages that would be others.
            return Ok(());
        }
        // Of a mailbox that somebody removed all messages are gone.
        let view = self.view_now().unwrap_or_else(View::empty);
        self.sync_to(conn, view, expunges, Own::NONE).await
    }

    /// Takes the mailbox as it is now, and tells what changed; but says nothing of the flags of
    /// messages that the command itself changed.
    pub(super) async fn sync_to(
        &mut self,
        conn: &mut Stream<E>,
        view: View,
        expunges: bool,
        own: Own<'_>,
    ) -> io::Result<()> {
        let Some(news) = self.selected_mut().and_then(|selected| selected.take(view)) else {
            return Ok(());
        };
        if expunges {
            self.tell_ghosts(conn).await?;
        }
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return Ok(());
        };
        let out = &mut self.out;
        if let Some(before) = selected.before_ghosts().filter(|_| self.enabled.qresync) {
            // RFC 7162 §3.2: the counters that follow are higher than those of the removals.
            let ok = Status::untagged(Kind::Ok, "messages went that are not told yet");
            ok.with(Code::HighestModSeq(before.0.max(1))).put(out);
        }
        if news.has_more {
            put_count(out, selected.count(), "EXISTS");
            if news.has_recent {
                put_count(out, selected.recent.count(&selected.view), "RECENT");
            }
        }
        if news.has_new_names {
            selected.put_flags(out);
        }
        self.tell_changed(conn, &news.changed, own).await
    }

    /// Tells of the messages that went.
    async fn tell_ghosts(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        if self.enabled.qresync {
            let ghosts = self.selected_mut().map(Selected::take_ghosts).unwrap_or_default();
            return self.tell_vanished(conn, false, runs(ghosts.iter().map(|uid| uid.0))).await;
        }
        while let Some(user) = &mut self.user
            && let Some(selected) = &mut user.selected
            && selected.put_ghosts(TOLD_AT_ONCE, &mut self.out)
        {
            self.flush_if_much(conn).await?;
        }
        Ok(())
    }

    /// `VANISHED`; nothing for no UIDs.
    pub(super) async fn tell_vanished(
        &mut self,
        conn: &mut Stream<E>,
        earlier: bool,
        uids: impl IntoIterator<Item = Span>,
    ) -> io::Result<()> {
        let mut uids = uids.into_iter().peekable();
        if uids.peek().is_none() {
            return Ok(());
        }
        begin_vanished(&mut self.out, earlier);
        self.put_set(conn, uids).await?;
        self.out.put(b"\r\n");
        Ok(())
    }

    /// The flags of messages that are there, by rising UID.
    pub(super) async fn tell_changed(
        &mut self,
        conn: &mut Stream<E>,
        uids: &[Uid],
        own: Own<'_>,
    ) -> io::Result<()> {
        for some in uids.chunks(TOLD_AT_ONCE) {
            if let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) {
                selected.put_changed(some, own, self.enabled, &mut self.out);
            }
            self.flush_if_much(conn).await?;
        }
        Ok(())
    }

    /// A set, which may end up in several writes, somewhere in a line.
    pub(super) async fn put_set(
        &mut self,
        conn: &mut Stream<E>,
        spans: impl IntoIterator<Item = Span>,
    ) -> io::Result<()> {
        let mut spans = spans.into_iter().peekable();
        while spans.peek().is_some() {
            put_spans(&mut self.out, spans.by_ref().take(TOLD_AT_ONCE));
            if spans.peek().is_some() {
                self.out.put(b",");
            }
            self.flush_if_much(conn).await?;
        }
        Ok(())
    }
}
