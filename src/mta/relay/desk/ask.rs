//! What an operator may ask of the outgoing mail of one log, and what he is told: the words that go
//! between shards and over the admin socket. All times are seconds since 1970.

use crate::queue::outgoing::Pause;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which entries are meant: those that meet all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// `LOG.NUMBER` of an entry, or the name of a message.
    pub id: Option<String>,
    /// An address; `<>` or nothing for the null sender.
    pub sender: Option<String>,
    /// An address.
    pub recipient: Option<String>,
    /// A domain, or an address literal.
    pub domain: Option<String>,
}

/// A part of an answer that may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Behind which place to go on; 0 to begin.
    pub after: u64,
    /// How many entries at most.
    pub most: usize,
    /// Entries that arrived later are not meant.
    pub before: u32,
}

/// What is to be done with entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Try them now, and the servers that rested.
    Retry,
    /// Do not try them until they are released.
    Hold,
    /// Try them again when they are due; those that their senders wanted to go later, now.
    Release,
    /// Give up, and report that to their senders.
    Bounce,
    /// Forget them; nobody is told.
    Delete,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Order::Retry => "retry",
            Order::Hold => "hold",
            Order::Release => "release",
            Order::Bounce => "bounce",
            Order::Delete => "delete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Answered by [`Reply::Rows`].
    List { filter: Filter, cut: Cut },
    /// Answered by [`Reply::Done`].
    Order { order: Order, filter: Filter, cut: Cut },
    /// Stop mail, or let it go on. Answered by [`Reply::Paused`].
    Pause { on: bool, pause: Pause },
    /// Answered by [`Reply::Stats`], with the `top` largest destinations.
    Stats { top: usize },
    /// How mail of a sender (empty for the null one) to a domain would go. Answered by
    /// [`Reply::Way`], with the servers if they are to be looked up.
    Way { domain: String, sender: String, look_up: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Rows {
        rows: Vec<Row>,
        /// Behind which place to go on; none: that was all.
        next: Option<u64>,
        /// Entries that were looked at for it.
        looked: u64,
    },
    Done {
        done: Done,
        next: Option<u64>,
    },
    Paused {
        /// Whether it was stopped before.
        was: bool,
    },
    Stats(Stats),
    Way(Way),
    /// The question cannot be meant.
    Wrong(String),
    /// It could not be done.
    Failed(String),
}

/// One entry: a message for recipients of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `LOG.NUMBER`.
    pub queue: String,
    /// The message's name, as in Received and in the log.
    pub id: String,
    /// Empty for the null sender.
    pub sender: String,
    pub domain: String,
    /// Octets of the message.
    pub size: u32,
    pub arrived: u32,
    /// Not tried before.
    pub due: u32,
    /// When its sender is told that it takes long; none: he was told, or is not.
    pub warn: Option<u32>,
    /// When it comes back.
    pub expires: u32,
    pub attempts: u16,
    /// RFC 6710.
    pub priority: i8,
    /// What its sender asked for, and what was decided about it.
    pub flags: Vec<String>,
    /// RFC 3461 §4.4.
    pub envid: Option<String>,
    /// When it has to be there (RFC 2852).
    pub by: Option<u32>,
    pub recipients: Vec<Recipient>,
    pub next: Next,
}

/// One recipient of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub address: String,
    /// `waiting`, `delivered` …
    pub fate: String,
    /// What was said last, as a server would say it.
    pub said: Option<String>,
    /// The server that said it; none: we did.
    pub host: Option<String>,
    /// What of its fate the sender wants to hear (RFC 3461 §4.1); none: he did not say.
    pub notify: Option<String>,
    /// RFC 3461 §4.2.
    pub orcpt: Option<String>,
}

/// What happens to an entry next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Next {
    /// It is being delivered.
    Active,
    /// An operator holds it.
    Held,
    /// It is stopped with others.
    Paused { by: Vec<Pause> },
    /// Its sender wants it to go at this time (RFC 4865).
    Later { at: u32 },
    /// It is tried at this time.
    Waits { at: u32 },
    /// It is due, and waits for its turn; none while the server is stopped.
    Ready { lane: Option<Lane> },
}

impl Next {
    pub fn name(&self) -> &'static str {
        match self {
            Next::Active => "active",
            Next::Held => "held",
            Next::Paused { .. } => "paused",
            Next::Later { .. } => "later",
            Next::Waits { .. } => "waits",
            Next::Ready { .. } => "ready",
        }
    }
}

/// Mail to one domain that waits for its turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Entries that wait.
    pub ready: u64,
    /// Connections, and what is looked up for them.
    pub workers: u64,
    /// Until when no new one is begun.
    pub rests_until: Option<u32>,
    /// The servers that the mail went to last.
    pub site: Option<Site>,
}

/// How a group of servers is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub name: String,
    /// Connections of all shards.
    pub open: u32,
    /// Connections that it gets at most at the moment; 0: nothing is known of it.
    pub window: u32,
    /// Failures in a row to reach it.
    pub failures: u32,
    pub rests_until: Option<u32>,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Entries that it was done to.
    pub done: u64,
    /// Entries that are being delivered, and were left alone.
    pub busy: u64,
    /// Entries that are held, and were left alone.
    pub held: u64,
    /// Entries that were so already.
    pub unchanged: u64,
}

impl Done {
    pub fn add(&mut self, other: Done) {
        self.done += other.done;
        self.busy += other.busy;
        self.held += other.held;
        self.unchanged += other.unchanged;
    }
}

/// The figures of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub entries: u64,
    /// Entries that are due and wait for their turn.
    pub ready: u64,
    /// Connections, and what is looked up for them.
    pub workers: u64,
    /// Entries that an operator holds.
    pub held: u64,
    /// When the one that is there longest arrived.
    pub oldest: Option<u32>,
    /// Recipients by what their last attempt came to: `untried`, `deferred`, and the fates of those
    /// whose message still waits for others.
    pub recipients: BTreeMap<String, u64>,
    /// What is stopped.
    pub pauses: Vec<Paused>,
    /// The largest ones.
    pub destinations: Vec<Destination>,
}

/// Something that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub pause: Pause,
    /// Entries that it stops; of a sender they are not counted.
    pub entries: Option<u64>,
}

/// A domain that has entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub domain: String,
    pub entries: u64,
    pub lane: Lane,
}

/// How mail to a domain would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Entries that are there for it.
    pub entries: u64,
    /// What stops it.
    pub paused: Vec<Pause>,
    pub lane: Lane,
    /// Where it would go; none: it was not looked up, or could not be while the server is stopped.
    pub servers: Option<Servers>,
}

/// What was found out about the servers of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Whether there are any.
    pub found: bool,
    /// A line each: how they were found, each address in the order in which it is tried, what was
    /// passed over and why; or why there are none.
    pub lines: Vec<String>,
}
