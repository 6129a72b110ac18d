//! What a sender asks of the queue: how far it is heeded, and what he hears of that.

use super::{Driver, Transaction};
use crate::bytes::chain::Chain;
use crate::env::Env;
use crate::model::reply::Enhanced;
use crate::mta::Outcome;
use crate::proto::smtp::Verdict;
use crate::wire::smtp::reply::Reply;

/// As long ago as can be said (RFC 2852 §4).
const BY_SECONDS_MIN: i32 = -999_999_999;
const LATE: Outcome =
    Outcome::Permanent(Enhanced(4, 7), "message was not here in the time that was asked for");

impl<E: Env> Driver<E> {
    /// The priority of a message whose sender asks for one: only who may relay here may have it go
    /// before others (RFC 6710 §4.1).
    pub(super) fn rank(&self, asked: i8) -> i8 {
        let of_users = self.shard.settings().submission.priority_max;
        let max = match self.account() {
            Some(_) => i8::try_from(of_users).unwrap_or(i8::MAX),
            None if self.may_relay() => i8::MAX,
            None => 0,
        };
        asked.min(max)
    }

    /// Begins a transaction, and says so.
    pub(super) fn take_sender(&mut self, opening: Box<Transaction>) {
        let mut out = Chain::new();
        match opening.options.priority.filter(|_| opening.is_ranked_anew) {
            None => self.session.sender(Verdict::Accept, &mut out),
            Some(priority) => {
                // RFC 6710 §4.1: the status, then the priority, then words.
                let text = format!("{priority} is the highest priority that you may give");
                let reply = Reply::new(250, 3, 6, &text);
                self.session.sender(Verdict::AcceptWith(reply), &mut out);
            }
        }
        self.transaction = Some(opening);
        self.put(out);
    }

    /// Takes what a message took to come off the time that it has (RFC 2852 §4), and says whether it
    /// waits before it goes anywhere (RFC 4865 §4.2).
    pub(super) fn count_down(&self, transaction: &mut Transaction) {
        let now = self.shard.env.wall().seconds();
        let took = i32::try_from(now.saturating_sub(transaction.begun)).unwrap_or(i32::MAX);
        if let Some(by) = &mut transaction.options.by {
            by.seconds = by.seconds.saturating_sub(took).max(BY_SECONDS_MIN);
        }
        transaction.is_held = transaction.options.hold.is_some_and(|hold| hold.pause(now) > 0);
    }
}

/// RFC 2852 §4.1.3: a message that was to come back when it is late, and took too long to come.
pub(super) fn comes_late(transaction: &Transaction) -> Option<Outcome> {
    let is_late = transaction.options.by.is_some_and(|by| by.returns && by.seconds <= 0);
    is_late.then_some(LATE)
}
