//! An accepted envelope, and what became of each of its recipients.

use super::away::Away;
use crate::mailbox::{Judge, Quota, Recipient, Refused};
use crate::model::address::Address;
use crate::model::id::{AccountId, LogId};
use crate::model::reply::{Class, Enhanced};
use crate::store::AppendError;
use std::future::Future;
use std::pin::Pin;

/// A recipient as the directory resolved it: an account, who owns it, what it may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcpt {
    pub log: LogId,
    pub account: AccountId,
    pub quota: Quota,
}

impl Rcpt {
    pub(super) fn recipient(&self) -> Recipient {
        Recipient { account: self.account, quota: self.quota }
    }
}

/// Where mail for one address goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Its accounts: one, or those of an alias.
    pub accounts: Vec<Rcpt>,
    /// The address itself, or those that an alias names, on other servers.
    pub elsewhere: Vec<Address>,
    /// Whom reports are for, of each that is elsewhere: the owner of the list that led there, or its
    /// sender. Empty where no list led anywhere.
    pub owners: Vec<Option<Address>>,
    /// An alias brought it elsewhere: it is forwarded, not sent there by its sender.
    pub is_forwarded: bool,
    /// The address is a list of this owner: whoever is behind it is reached by it alone. What it is told
    /// by its sender ends here (RFC 3461 §5.2.7.1).
    pub list: Option<Address>,
}

impl Places {
    /// Several share the address, some of them elsewhere: what its sender wants to hear of success is told
    /// once for all of them (RFC 3461 §5.2.7.3).
    pub fn is_shared_elsewhere(&self) -> bool {
        !self.elsewhere.is_empty() && self.elsewhere.len() + self.accounts.len() > 1
    }

    /// One person has it: no list, and nobody else.
    pub fn is_one(&self) -> bool {
        let is_listed = self.list.is_some() || self.owners.iter().any(Option::is_some);
        !is_listed && self.accounts.len() + self.elsewhere.len() == 1
    }

    /// What its sender wants to hear of success is told here, when the message goes on: mail that is held
    /// waits here for that. With one other server the queue, or that server, tells it.
    pub fn has_news_here(&self) -> bool {
        !self.accounts.is_empty() || self.list.is_some() || self.is_shared_elsewhere()
    }
}

/// For whom a message is. The sender stands in the trace fields of the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub recipients: Vec<Rcpt>,
    /// Recipients elsewhere; none, or one for each sender that they are told of.
    pub away: Vec<Away>,
    /// [`Judge::Each`] where every recipient gets its own reply, else [`Judge::Together`].
    pub judge: Judge,
}

/// Whether recipients have room, in their order; on its way.
pub type Rooms = Pin<Box<dyn Future<Output = Vec<Result<(), Refused>>>>>;

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, and ours to bring home.
    Stored,
    /// Not stored; may be tried again (4xx).
    Transient(Enhanced, &'static str),
    /// Not stored; will not be (5xx).
    Permanent(Enhanced, &'static str),
    /// The log stopped with the message on its way: it may come back with the next start. The
    /// client is told neither yes nor no; the connection is dropped.
    Uncertain,
}

impl Outcome {
    /// The shard or its log has more to do than it may queue: 452 4.3.1.
    pub const CROWDED: Outcome =
        Outcome::Transient(Enhanced(3, 1), "system is full, try again later");
    /// Something of ours is out of order: 451 4.3.0.
    pub const BROKEN: Outcome = Outcome::Transient(Enhanced(3, 0), "temporary failure");
    /// 550 5.4.6: a message that an address of ours would lead in a circle (RFC 9228 §4).
    pub const LOOP: Outcome = Outcome::Permanent(Enhanced(4, 6), "mail forwarding loop");
    /// 552 5.3.4.
    pub const TOO_LARGE: Outcome =
        Outcome::Permanent(Enhanced(3, 4), "message is too large for this system");

    pub fn is_stored(self) -> bool {
        self == Outcome::Stored
    }

    pub fn class(self) -> Class {
        match self {
            Outcome::Stored => Class::Ok,
            Outcome::Transient(..) | Outcome::Uncertain => Class::Transient,
            Outcome::Permanent(..) => Class::Permanent,
        }
    }

    /// The one answer for all recipients of an SMTP transaction (RFC 5321 §4.2.5: after 250 the
    /// message is ours). Nobody has it unless somebody has it; a `Transient` one makes the client
    /// come back with all.
    pub fn overall(outcomes: &[Outcome]) -> Outcome {
        let find = |class| outcomes.iter().find(|outcome| outcome.class() == class).copied();
        let found = find(Class::Ok).or_else(|| find(Class::Transient));
        found.or_else(|| find(Class::Permanent)).unwrap_or(Outcome::BROKEN)
    }
}

impl From<Refused> for Outcome {
    fn from(refused: Refused) -> Outcome {
        match refused.reply() {
            (Class::Permanent, code, text) => Outcome::Permanent(code, text),
            (Class::Ok | Class::Transient, code, text) => Outcome::Transient(code, text),
        }
    }
}

impl From<&AppendError> for Outcome {
    fn from(error: &AppendError) -> Outcome {
        match error {
            AppendError::Full => Outcome::CROWDED,
            AppendError::TooLarge => Outcome::TOO_LARGE,
            AppendError::Failed(_) => Outcome::BROKEN,
            AppendError::Uncertain(_) => Outcome::Uncertain,
        }
    }
}

impl<T> From<Result<T, Refused>> for Outcome {
    fn from(verdict: Result<T, Refused>) -> Outcome {
        verdict.map_or_else(Outcome::from, |_| Outcome::Stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_for_all_what_loses_nothing() {
        let (stored, later, never) = (Outcome::Stored, Outcome::CROWDED, Outcome::TOO_LARGE);
        assert_eq!(Outcome::overall(&[never, stored, later]), stored);
        assert_eq!(Outcome::overall(&[never, later]), later);
        assert_eq!(Outcome::overall(&[never, never]), never);
        assert_eq!(Outcome::overall(&[]), Outcome::BROKEN);
    }

    /// RFC 3461 §5.2.7: that a list has it is told here, be it of one member elsewhere.
    #[test]
    fn knows_what_is_told_here() {
        let there = Address::from_parts("x", "far.example");
        let one = Places { elsewhere: vec![there.clone()], ..Places::default() };
        let list = Places { list: Some(there.clone()), ..one.clone() };
        let two = Places { elsewhere: vec![there.clone(), there], ..Places::default() };
        assert!(!one.has_news_here() && list.has_news_here() && two.has_news_here());
        assert!(one.is_one() && !list.is_one() && !two.is_one() && !Places::default().is_one());
    }

    #[test]
    fn tells_full_from_never() {
        assert_eq!(Outcome::from(Refused::Full).class(), Class::Transient);
        assert_eq!(Outcome::from(Refused::NeverFits).class(), Class::Permanent);
        assert_eq!(Outcome::from(Refused::Closed).class(), Class::Permanent);
    }
}
