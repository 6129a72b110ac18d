//! What the sessions of one thread saw: counts, and events in the order in which they were.
//!
//! A thread hands both over a few times a second, so that no lock stands in the way of a
//! session.

use std::cell::RefCell;
use std::rc::Rc;

use pombal::bytes::hash::Sorted;

use super::rule::Stage;

/// What became of an answer of 250 to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The peer said something after it was sent.
    Heard,
    /// It was sent, and the connection ended without another word.
    Unheard,
    /// It was not sent, or could not be.
    Lost,
}

/// What a report on a delivery (RFC 3464) says of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) recipient: Box<str>,
    pub(crate) action: Action,
}

/// RFC 3464 §2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
    Expanded,
}

impl Action {
    pub(crate) const ALL: [Action; 5] =
        [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Expanded => "expanded",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.label().eq_ignore_ascii_case(text))
    }
}

/// A message that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Of all messages of this sink.
    pub(crate) id: u64,
    /// Of all connections of this sink, for a person who looks into a journal.
    pub(crate) connection: u64,
    /// When all of it was there, in microseconds since 1970.
    pub(crate) at_us: u64,
    pub(crate) octets: u64,
    /// The mark of a message of ours.
    pub(crate) run: Option<u64>,
    pub(crate) seq: Option<u64>,
    /// Whether the body is the one that was sent, where it says so.
    pub(crate) is_sound: Option<bool>,
    /// The reverse path is null: it is a report.
    pub(crate) is_null: bool,
    /// Those for whom it was taken.
    pub(crate) recipients: Vec<Box<str>>,
    /// What a report tells.
    pub(crate) told: Vec<Told>,
}

/// What happened, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Taken(Box<Taken>),
    Answered {
        id: u64,
        answer: Answer,
    },
    /// A connection ended without QUIT, and this was the last message that was taken on it.
    Broke {
        id: u64,
    },
}

/// Counts of one thread, or of the whole run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    /// Connections above the limit of a site.
    pub(crate) turned_away: u64,
    /// Connections that could not be taken: no more open files.
    pub(crate) not_accepted: u64,
    /// Peers that said nothing for too long.
    pub(crate) timeouts: u64,
    pub(crate) encrypted: u64,
    /// Handshakes that failed.
    pub(crate) handshakes_failed: u64,
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
    pub(crate) octets: u64,
    pub(crate) replies: Sorted<(Stage, u16), u64>,
    /// What was done to connections on purpose.
    pub(crate) failings: Sorted<(Stage, &'static str), u64>,
    /// What peers did that they should not have done.
    pub(crate) faults: Sorted<&'static str, u64>,
    /// Messages by site.
    pub(crate) sites: Sorted<usize, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.connections += other.connections;
        self.turned_away += other.turned_away;
        self.not_accepted += other.not_accepted;
        self.timeouts += other.timeouts;
        self.encrypted += other.encrypted;
        self.handshakes_failed += other.handshakes_failed;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.octets += other.octets;
        add_all(&mut self.replies, &other.replies);
        add_all(&mut self.failings, &other.failings);
        add_all(&mut self.faults, &other.faults);
        add_all(&mut self.sites, &other.sites);
    }
}

fn add_all<K: Ord + Copy>(to: &mut Sorted<K, u64>, from: &Sorted<K, u64>) {
    for (key, count) in from {
        *to.entry(*key).or_default() += count;
    }
}

/// What is handed over at a time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) counts: Counts,
    pub(crate) events: Vec<Event>,
}

/// Where the sessions of a thread put what they saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk(Rc<RefCell<Batch>>);

impl Desk {
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.borrow_mut().counts);
    }

    pub(crate) fn note(&self, event: Event) {
        self.0.borrow_mut().events.push(event);
    }

    /// A peer did what it should not.
    pub(crate) fn fault(&self, kind: &'static str) {
        self.count(|counts| *counts.faults.entry(kind).or_default() += 1);
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Batch {
        self.0.take()
    }
}
