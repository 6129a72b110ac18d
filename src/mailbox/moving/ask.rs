//! What is asked of a mailbox that moves in or out, and what is answered: over the admin socket as
//! JSON, with the octets of messages behind it.

use crate::mailbox::deliver::Message;
use crate::mailbox::digest::Sum;
use crate::mailbox::moved::Origin;
use crate::model::limits::{MOVING_BATCH_MESSAGES_MAX, MOVING_BATCH_OCTETS_MAX};
use serde::{Deserialize, Serialize};
use std::thread;

/// Messages that one more thread is worth.
const MESSAGES_PER_THREAD: usize = 64;
/// Threads that look through the messages of one batch.
const THREADS_MAX: usize = 4;

/// A request. Mailboxes are named by the numbers that [`Reply::Entered`] and [`Reply::Folders`]
/// gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// All mailboxes and subscriptions. Answered by [`Reply::Folders`].
    Folders,
    /// Make a mailbox ready to take another one in. Answered by [`Reply::Entered`].
    Enter(Wish),
    /// Messages, whose octets follow, one behind the other. Answered by [`Reply::Taken`] once they are
    /// durable, all of them or none.
    // Not by the name of earlier releases: they would pass over what they do not know of it.
    #[serde(rename = "put")]
    Deposit(Deposit),
    /// The mailbox is in: UIDs below `uidnext` are not given any more. Answered by [`Reply::Done`].
    Settle { mailbox: u32, uidnext: u32 },
    /// Answered by [`Reply::Done`].
    Subscribe { name: String },
    /// Messages from a UID on. Answered by [`Reply::Messages`], without octets.
    List { mailbox: u32, from: u32 },
    /// The same of those alone that were moved in.
    Rows { mailbox: u32, from: u32 },
    /// Messages, up to [`MOVING_BATCH_MESSAGES_MAX`], have these flags and keywords now, and no others.
    /// Answered by [`Reply::Done`].
    Reflag { mailbox: u32, uids: Vec<u32>, flags: u8, keywords: Vec<String> },
    /// Messages, as many, were removed there; those of them that were moved in go. Answered by
    /// [`Reply::Done`].
    Unbring { mailbox: u32, uids: Vec<u32> },
    /// Digests (xxh3-128) of messages from a UID on, 16 octets each, little-endian, in order. Answered by
    /// [`Reply::Part`].
    Digests { mailbox: u32, from: u32 },
    /// Messages from a UID on, as their octets follow. Answered by [`Reply::Messages`].
    Take { mailbox: u32, from: u32 },
    /// The sum of the digests of messages from a UID on. Answered by [`Reply::Summed`].
    Sum { mailbox: u32, from: u32, of: Standing },
}

/// Which mailbox is to take another one in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// UTF-8, `/` between levels; made if it is missing.
    pub name: String,
    /// What it is for ([`super::super::Use`]), unless there is another one for that.
    pub uses: u8,
    pub subscribe: bool,
    /// The UIDVALIDITY of the other one, 0 for none.
    pub uidvalidity: u32,
    /// The lowest UID of the other one.
    pub first: u32,
}

/// How a mailbox stood when somebody began to look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// 0: as it stands now.
    pub uidnext: u32,
    pub modseq: u64,
}

/// What some messages come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summed {
    pub sum: Sum,
    pub messages: u64,
    pub octets: u64,
    /// Go on from this UID; 0 for no more.
    pub next: u32,
    /// How it stood at the first question.
    pub of: Standing,
    /// Messages of then have changed or gone since, which is looked for behind the last one.
    pub changed: bool,
    /// Messages that cannot be read, and why.
    pub unread: Vec<(u32, String)>,
}

/// Messages on their way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    pub mailbox: u32,
    /// Names of the keywords that these messages have.
    pub keywords: Vec<String>,
    /// The form of unique ids of POP3 ([`crate::wire::uidl`]), for messages that name none.
    pub uidl: Option<String>,
    pub messages: Vec<Parcel>,
    /// That of the other mailbox, 0 for none: UIDs are kept where this one has the same.
    pub uidvalidity: u32,
    /// How far the other mailbox is in with these messages, if that is to be noted.
    pub origin: Option<Origin>,
}

/// What there is to know of a message besides its octets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    pub octets: u32,
    /// The UID there, 0 for none; with a reply, here.
    pub uid: u32,
    /// When it was received, seconds since 1970.
    pub date: u32,
    /// See [`super::super::Flags`].
    pub flags: u8,
    /// Places in the list of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<u16>,
    /// The form of its unique id of POP3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uidl: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Folders {
        folders: Vec<Folder>,
        subscriptions: Vec<String>,
    },
    Entered(Entered),
    Taken {
        /// Messages that could not keep their UID.
        renumbered: u32,
        /// Keywords that found no place in the mailbox.
        lost: Vec<String>,
    },
    /// Go on from this UID; 0 for no more.
    Part {
        next: u32,
    },
    Messages {
        keywords: Vec<String>,
        messages: Vec<Parcel>,
        /// Go on from this UID; 0 for no more.
        next: u32,
        /// Messages that cannot be read, and why.
        unread: Vec<(u32, String)>,
    },
    Summed(Summed),
    /// It was not done, for this reason.
    Failed(String),
}

/// A mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    pub mailbox: u32,
    pub name: String,
    pub uses: u8,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub messages: u32,
}

/// A mailbox that may take another one in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered {
    pub mailbox: u32,
    /// Whether it has the UIDVALIDITY of the other one: UIDs that are still free are kept.
    pub keeps: bool,
    /// Which mailbox has moved in, and how far; as it was before.
    pub origin: Origin,
    /// How many are there.
    pub messages: u32,
}

impl Ask {
    /// Octets that have to follow; `None` where they are more than are taken at once, but for a
    /// single message, or those of more messages than are.
    pub fn octets(&self) -> Option<u64> {
        let Ask::Deposit(deposit) = self else { return Some(0) };
        let messages = &deposit.messages;
        let octets = messages.iter().map(|one| u64::from(one.octets)).sum();
        let fits = octets <= MOVING_BATCH_OCTETS_MAX || messages.len() <= 1;
        (fits && messages.len() <= MOVING_BATCH_MESSAGES_MAX).then_some(octets)
    }

    /// The messages of a deposit, out of the octets that came with it, looked through by several
    /// threads; `None` where these are not as many as they should be.
    pub fn open(&self, octets: &[u8]) -> Option<Vec<Message>> {
        let Ask::Deposit(deposit) = self else {
            return octets.is_empty().then(Vec::new);
        };
        let mut rest = octets;
        let mut parts = Vec::with_capacity(deposit.messages.len());
        for parcel in &deposit.messages {
            let (one, behind) = rest.split_at_checked(usize::try_from(parcel.octets).ok()?)?;
            parts.push((one, parcel.date));
            rest = behind;
        }
        if !rest.is_empty() {
            return None;
        }
        let make = |some: &[(&[u8], u32)]| -> Vec<Message> {
            some.iter().map(|&(octets, date)| Message::brought(octets.to_vec(), date)).collect()
        };
        let share = parts.len().div_ceil(THREADS_MAX).max(MESSAGES_PER_THREAD);
        Some(thread::scope(|scope| {
            let mut shares = parts.chunks(share);
            let first = shares.next().unwrap_or_default();
            let begin = |some| thread::Builder::new().spawn_scoped(scope, move || make(some));
            let others: Vec<_> = shares.map(|some| (some, begin(some))).collect();
            let mut made = make(first);
            for (some, thread) in others {
                let theirs = thread.ok().and_then(|thread| thread.join().ok());
                made.extend(theirs.unwrap_or_else(|| make(some)));
            }
            made
        }))
    }
}
