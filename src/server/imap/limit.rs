//! Commands over many messages: MESSAGELIMIT, where the operator sets a limit (RFC 9738), and
//! UIDBATCHES, by which a client learns to ask for less at once (RFC 10022).
//!
//! A command that names more messages than the limit deals with those of the highest UIDs, from the
//! highest down, and says how far it came. What is done in full or not at all, or has to see all
//! messages, is refused instead: COPY, APPEND, SORT, THREAD.

use super::{Done, Driver, Outcome, Settings};
use crate::bytes::codec::to_usize;
use crate::env::Env;
use crate::model::id::Uid;
use crate::tls::Stream;
use crate::wire::imap::capability::Capabilities;
use crate::wire::imap::reply::search::put_uid_batches;
use crate::wire::imap::reply::status::{Code, Kind, Status, Word};
use crate::wire::imap::set::Span;

/// Messages of a batch, at least (RFC 10022 §3.1).
const BATCH_MIN: u32 = 500;
/// Messages of all batches that a client may name.
const BATCHES_MESSAGES_MAX: u64 = 100_000;

const LIMITED: &str = "these are all the messages that one command may have";

impl Settings {
    /// What is offered to nobody.
    pub(super) fn hidden(&self) -> Capabilities {
        match self.message_limit {
            Some(_) => self.hidden,
            None => self.hidden.and(Capabilities::MESSAGELIMIT),
        }
    }
}

pub(super) fn code(settings: &Settings, uid: Option<Uid>) -> Code<'static> {
    let limit = settings.message_limit.map_or(u32::MAX, u32::from);
    Code::MessageLimit { limit, uid: uid.map(|uid| uid.0) }
}

impl Done {
    /// The end of a command that came down to this UID only, or to all that it names.
    pub(super) fn limited(lowest: Option<Uid>, text: &'static str) -> Done {
        match lowest {
            Some(uid) => Done::Limited(Kind::Ok, Some(uid), LIMITED),
            None => Done::Ok(text),
        }
    }
}

impl<E: Env> Driver<E> {
    /// Messages of one command; without a limit, and where that is hidden, as many as there are.
    pub(super) fn message_limit(&self) -> usize {
        let limit = self.shard.settings().imap.message_limit;
        let limit = limit.filter(|_| !self.hidden.meets(Capabilities::MESSAGELIMIT));
        limit.map_or(usize::MAX, |limit| to_usize(u64::from(limit.get())))
    }

    /// Leaves of these, which rise, the highest ones that one command may have; the lowest that is
    /// left if some had to go.
    pub(super) fn limit(&self, uids: &mut Vec<Uid>) -> Option<Uid> {
        let surplus =
            uids.len().checked_sub(self.message_limit()).filter(|surplus| *surplus > 0)?;
        uids.drain(..surplus);
        uids.first().copied()
    }

    /// [`Done::limited`] in a line of its own, where the tagged one has another code (RFC 9738
    /// §3.1).
    pub(super) fn put_limited(&mut self, lowest: Option<Uid>) {
        if lowest.is_some() {
            let code = code(&self.shard.settings().imap, lowest);
            Status::untagged(Kind::No, LIMITED).with(code).put(&mut self.out);
        }
    }

    /// From the newest message down, without gaps, so that the last batch ends at UID 1.
    pub(super) async fn uid_batches(
        &mut self,
        conn: &mut Stream<E>,
        tag: &str,
        size: u32,
        batches: Option<(u32, u32)>,
    ) -> Outcome {
        if size < BATCH_MIN {
            return Ok(Done::No(Some(Word::TooFew), "a batch has 500 messages or more"));
        }
        let (first, last) = batches.unwrap_or((1, u32::MAX));
        if first > last {
            let bad = Status::tagged(tag, Kind::Bad, "the range of batches is in the wrong order");
            bad.because(Word::ClientBug).put(&mut self.out);
            self.errors += 1;
            return Ok(Done::Refused);
        }
        let wanted = u64::from(last - first).saturating_add(1).saturating_mul(size.into());
        if batches.is_some() && wanted > BATCHES_MESSAGES_MAX {
            return Ok(Done::No(Some(Word::TooMany), "no more than 100000 messages at once"));
        }
        self.sync(conn, true).await?;
        let Some(selected) = self.user.as_ref().and_then(|user| user.selected.as_deref()) else {
            return Ok(Done::Bad("no mailbox is selected"));
        };
        let view = &selected.view;
        let count = u64::from(view.count());
        // The highest UID of a batch: of the newest message, or just below the batch before.
        let highest = |batch: u32| {
            let newer = u64::from(batch - 1) * u64::from(size);
            let left = u32::try_from(count.checked_sub(newer)?).ok().filter(|left| *left > 0)?;
            match batch {
                1 => view.get(left - 1).map(|entry| entry.uid.0),
                _ => view.get(left).map(|entry| entry.uid.0 - 1),
            }
        };
        let spans = (first..=last).map_while(|batch| {
            let below = batch.checked_add(1).and_then(highest);
            Span::new(below.map_or(1, |below| below + 1), highest(batch)?)
        });
        put_uid_batches(&mut self.out, tag, spans);
        Ok(Done::Ok("those are the batches"))
    }
}
