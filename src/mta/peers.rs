//! What shards ask each other about mail, and the seam through which they do.

use super::message::Outcome;
use crate::mailbox::{Judge, Message, Recipient, Refused};
use crate::model::id::LogId;
use crate::queue::SpoolId;
use std::future::Future;

/// Asks the shard that owns a log.
///
/// What an implementation has to keep:
///   - requests of one shard to one log are handed to [`super::Intake::serve`] in the order in
///     which they were asked, also if nobody waits for an answer any more
///   - a request that was answered with [`Unreachable::Lost`] may have been served, or will be, but
///     not after a later one; one with [`Unreachable::Full`] was not and never will be
pub trait Peers: 'static {
    /// Queues the request before it returns; the future gives the answer.
    fn ask(
        &self,
        owner: LogId,
        request: Request,
    ) -> impl Future<Output = Result<Answer, Unreachable>> + 'static;
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The owner's inbox is full: it never heard of the request.
    Full,
    /// The owner went without an answer: whether the request was served is unknown.
    Lost,
}

/// A message of a spool: who sends it under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub source: LogId,
    pub spool: SpoolId,
}

/// What one shard asks another. `Send`; the octets of a message are moved.
#[derive(Debug)]
pub enum Request {
    /// Whether each of these would take a message of `size` octets now, what is on its way into the
    /// owner's log counted in, and the octets beside each that are on their way from the source.
    /// Nothing is held for it. Answered by [`Answer::Rooms`].
    Room { recipients: Vec<(Recipient, u64)>, size: u32 },
    /// A message whose recipients all are the owner's. Answered by [`Answer::Outcomes`].
    Deliver { recipients: Vec<Recipient>, judge: Judge, message: Message },
    /// A message of the source's spool, perhaps not for the first time; `settled` as in
    /// [`Request::Settled`]. Answered by [`Answer::Outcomes`].
    Relay { key: Key, recipients: Vec<Recipient>, message: Message, settled: Vec<SpoolId> },
    /// The source will not send these again. Answered by [`Answer::Done`].
    Settled { source: LogId, spools: Vec<SpoolId> },
    /// The source has started anew: of what it numbered below `next` it will send `pending` only,
    /// which rises.
    /// Answered by [`Answer::Done`].
    Restarted { source: LogId, next: SpoolId, pending: Vec<SpoolId> },
}

/// What the owner answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the recipients.
    Rooms(Vec<Result<(), Refused>>),
    /// In the order of the recipients.
    Outcomes(Vec<Outcome>),
    /// Durable.
    Done,
    /// Not done; may be asked again.
    Later,
}

const _: () = {
    const fn crosses_shards<T: Send>() {}
    crosses_shards::<Request>();
    crosses_shards::<Answer>();
};
