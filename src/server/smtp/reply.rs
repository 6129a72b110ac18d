//! What the driver answers: what keeps a recipient out, and what became of a message.

use crate::model::reply::{Class, Enhanced};
use crate::mta::Outcome;
use crate::proto::smtp;
use crate::wire::smtp::reply::Reply;

pub(super) const NO_ROOM: Reply<'static> =
    Reply::new(452, 3, 1, "No room at the moment, try again later");
pub(super) const NO_MAIL_FROM: Reply<'static> =
    Reply::new(550, 7, 27, "The domain of your sender says that it has no mail (null MX)");
pub(super) const NO_MAIL_TO: Reply<'static> =
    Reply::new(556, 1, 10, "The recipient's domain says that it takes no mail (null MX)");
pub(in crate::server) const NO_RELAY: Reply<'static> =
    Reply::new(550, 7, 1, "This server does not relay for you");
pub(in crate::server) const NO_USER: Reply<'static> = Reply::new(550, 1, 1, "No such user here");
pub(in crate::server) const DISABLED: Reply<'static> =
    Reply::new(550, 2, 1, "This mailbox is disabled");
pub(in crate::server) const BROKEN: Reply<'static> =
    Reply::new(451, 3, 5, "The directory is out of order here");

/// What a recipient that was accepted and is refused now is told.
pub(super) fn to_gone(reply: &Reply<'static>) -> Outcome {
    match (reply.class(), reply.enhanced) {
        (Class::Permanent, Some(enhanced)) => Outcome::Permanent(enhanced, reply.text),
        _ => Outcome::BROKEN,
    }
}

pub(super) fn to_reply(outcome: Outcome) -> Reply<'static> {
    let (code, Enhanced(subject, detail), text) = match outcome {
        Outcome::Stored => (250, Enhanced(0, 0), "Stored"),
        Outcome::Transient(enhanced @ (Enhanced(2, _) | Enhanced(3, 1)), text) => {
            (452, enhanced, text)
        }
        Outcome::Transient(enhanced, text) => (451, enhanced, text),
        Outcome::Permanent(enhanced @ (Enhanced(2, 2) | Enhanced(3, 4)), text) => {
            (552, enhanced, text)
        }
        Outcome::Permanent(enhanced, text) => (550, enhanced, text),
        Outcome::Uncertain => (451, Enhanced(3, 0), "Temporary failure"),
    };
    Reply::new(code, subject, detail, text)
}

pub(super) fn to_outcome(outcome: Outcome, id: &str) -> smtp::Outcome<'_> {
    match outcome {
        Outcome::Stored => smtp::Outcome::Stored(id),
        other => smtp::Outcome::Refused(to_reply(other)),
    }
}

pub(super) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Ok => "stored",
        Class::Transient => "deferred",
        Class::Permanent => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_a_full_mailbox_and_a_full_system_with_452() {
        let (reply, more) = (to_reply(Outcome::CROWDED), to_reply(Outcome::BROKEN));
        assert_eq!((reply.code, more.code), (452, 451));
        assert_eq!(to_reply(Outcome::TOO_LARGE).code, 552);
    }
}
