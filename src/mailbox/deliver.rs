//! Delivery: one message into the INBOX of one or many accounts of this shard, in one commit.
//!
//! The message is stored once, however many get it; each recipient costs a record of 64 octets.

use super::account::INBOX;
use super::accounts::Accounts;
use super::quota::{Quota, Refused};
use super::record::{Deliver, put_create, put_deliver};
use super::row::{Entry, Flags, Marks};
use super::summary::summarize;
use crate::env::Env;
use crate::model::id::{AccountId, BlobId, Uid};
use crate::store::{AppendError, BlobDraft, Group, Log};
use crate::wire::dot::has_dot_line;
use crate::wire::message::fields::header_len;
use memchr::{memchr, memchr_iter};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// A message that came in, with everything that was found out about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Together the message as it is to be handed out, trace fields first; CRLF line ends.
    pub parts: Vec<Vec<u8>>,
    /// What [`super::summary::summarize`] made.
    pub summary: Vec<u8>,
    pub marks: Marks,
    /// When it was received, seconds since 1970.
    pub internal_date: u32,
}

impl Message {
    /// A message of `octets` that came at `at`, seconds since 1970. `utf8`: with SMTPUTF8; `is_text`: not
    /// with BODY=BINARYMIME.
    pub fn new(octets: Vec<u8>, utf8: bool, is_text: bool, at: u32) -> Message {
        let mut marks = Marks::default();
        if has_dot_line(&octets) {
            marks = marks.with(Marks::DOT_LINES);
        }
        if utf8 && !octets[..header_len(&octets)].is_ascii() {
            marks = marks.with(Marks::UTF8_HEADER);
        }
        if !is_text {
            marks = marks.with(Marks::BINARY);
        }
        if !octets.ends_with(b"\r\n") {
            marks = marks.with(Marks::OPEN_END);
        }
        let summary = summarize(&octets);
        Message { parts: vec![octets], summary, marks, internal_date: at }
    }

    /// The same; `is_listed`: the owner of a list stands for its sender ([`Marks::LISTED`]).
    #[must_use]
    pub fn listed(self, is_listed: bool) -> Message {
        let more = if is_listed { Marks::LISTED } else { Marks::default() };
        Message { marks: self.marks.with(more), ..self }
    }

    /// A message that a user or an operator brings, of which nothing is known but its octets and when
    /// it came, seconds since 1970.
    pub fn brought(octets: Vec<u8>, internal_date: u32) -> Message {
        let lone_cr = memchr_iter(b'\r', &octets).any(|at| octets.get(at + 1) != Some(&b'\n'));
        let is_text = !lone_cr && memchr(0, &octets).is_none();
        Message::new(octets, true, is_text, internal_date)
    }

    /// Octets; saturates at 4 GiB, which no segment can hold.
    pub fn size(&self) -> u32 {
        let octets: usize = self.parts.iter().map(Vec::len).sum();
        u32::try_from(octets).unwrap_or(u32::MAX)
    }
}

/// Who is to get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub account: AccountId,
    pub quota: Quota,
}

/// What a quota decides when a message has several recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Each recipient gets its own answer (LMTP, RFC 2033 §4.2).
    Each,
    /// There is one answer for all (SMTP). Where some have room, those who are not full yet get it
    /// too: each exceeds the quota by one message at most. If somebody is full, gone or cannot be
    /// asked, nobody gets it and the sender is to come back: one answer cannot tell of them. What
    /// can never fit one of them is refused for good.
    Together,
    /// It was judged already: who is there gets it.
    Judged,
}

impl Judge {
    /// Turns whether each recipient has room into whether each gets the message, in place. `yes` is
    /// what stands for those who do.
    pub fn decide<T: Copy>(self, rooms: &mut [Result<T, Refused>], yes: T) {
        if rooms.iter().all(Result::is_ok) {
            return rooms.fill(Ok(yes));
        }
        let is = |refused: Refused| move |room: &Result<T, Refused>| room.err() == Some(refused);
        let any = |refused: Refused| rooms.iter().any(is(refused));
        let some = rooms.iter().any(Result::is_ok);
        let all_gone = rooms.iter().all(is(Refused::Closed));
        match self {
            Judge::Judged => rooms.fill(Ok(yes)),
            Judge::Together if any(Refused::Unasked) => rooms.fill(Err(Refused::Unasked)),
            Judge::Together if any(Refused::Closed) && !all_gone => {
                rooms.fill(Err(Refused::Parted));
            }
            Judge::Together if some && any(Refused::NeverFits) => {
                rooms.fill(Err(Refused::NeverFits));
            }
            Judge::Together if some && any(Refused::Full) => rooms.fill(Err(Refused::Full)),
            Judge::Together if some => rooms.fill(Ok(yes)),
            Judge::Together | Judge::Each => {}
        }
    }
}

/// What there is to know of a message besides its octets.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub blob: BlobId,
    pub size: u32,
    pub marks: Marks,
    pub internal_date: u32,
    /// Now, seconds since 1970.
    pub save_date: u32,
}

/// Holds room under the quotas while a delivery is on its way into the log.
#[derive(Debug)]
pub struct Reserved {
    accounts: Rc<RefCell<Accounts>>,
    held: Vec<AccountId>,
    size: u32,
    /// Those of the recipients whose deliveries somebody wants to hear of.
    watched: Vec<AccountId>,
    blob: BlobId,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut accounts = self.accounts.borrow_mut();
        for &account in &self.watched {
            accounts.arrivals.put(account, self.blob);
        }
        self.held.iter().for_each(|&account| accounts.unreserve(account, self.size));
    }
}

/// A delivery whose records are in a group.
#[derive(Debug)]
pub struct Planned {
    /// In the order of the recipients. An account that was named twice gets the message once.
    pub verdicts: Vec<Result<Uid, Refused>>,
    /// To be dropped when the group was answered.
    pub reserved: Reserved,
}

impl Planned {
    /// Whether any recipient gets the message.
    pub fn any(&self) -> bool {
        self.verdicts.iter().any(Result::is_ok)
    }
}

/// Adds the records of a delivery to `group`, which has to be appended before the next await.
/// The blob has to be in the same log, in this group or before.
pub fn plan(
    accounts: &Rc<RefCell<Accounts>>,
    group: &mut Group,
    facts: &Facts,
    recipients: &[Recipient],
    judge: Judge,
) -> Planned {
    let mut state = accounts.borrow_mut();
    let size = facts.size;
    // Whether there is room first, the UID later.
    let room = |to: &Recipient| state.room(to.account, to.quota, size).map(|()| Uid(0));
    let mut verdicts: Vec<Result<Uid, Refused>> = recipients.iter().map(room).collect();
    judge.decide(&mut verdicts, Uid(0));
    let mut planned = Planned {
        verdicts,
        reserved: Reserved {
            accounts: Rc::clone(accounts),
            held: Vec::new(),
            size,
            watched: Vec::new(),
            blob: facts.blob,
        },
    };
    for (index, to) in recipients.iter().enumerate() {
        if let Some(twin) = recipients[..index].iter().position(|other| other.account == to.account)
        {
            planned.verdicts[index] = planned.verdicts[twin];
            continue;
        }
        if planned.verdicts[index].is_err() {
            continue;
        }
        let verdict = deliver_one(&mut state, group, facts, to.account);
        if verdict.is_ok() && to.quota != Quota::NONE {
            state.reserve(to.account, size);
            planned.reserved.held.push(to.account);
        }
        let may_be_answered = verdict.is_ok() && !facts.marks.has(Marks::LISTED);
        if may_be_answered && state.arrivals.watches(to.account) {
            planned.reserved.watched.push(to.account);
        }
        planned.verdicts[index] = verdict;
    }
    planned
}

fn deliver_one(
    state: &mut Accounts,
    group: &mut Group,
    facts: &Facts,
    account: AccountId,
) -> Result<Uid, Refused> {
    let assigned = state.assign(account, facts.save_date)?;
    if let Some(create) = &assigned.create {
        put_create(group, account, create);
    }
    let entry = Entry {
        uid: assigned.uid,
        modseq: assigned.modseq,
        internal_date: facts.internal_date,
        save_date: facts.save_date,
        size: facts.size,
        thread: 0,
        blob: facts.blob,
        keywords: 0,
        flags: Flags::default(),
        marks: facts.marks,
    };
    put_deliver(group, account, &Deliver { mailbox: INBOX, entry });
    Ok(assigned.uid)
}

/// Delivers `message`: queued in the log before this returns, durable and visible when the future
/// resolves with `Ok`. Each recipient has its verdict; with an `Err` nobody got anything.
/// Dropping the future does not take the message back.
pub fn deliver<E: Env>(
    log: &Log<E>,
    accounts: &Rc<RefCell<Accounts>>,
    recipients: &[Recipient],
    judge: Judge,
    message: Message,
) -> impl Future<Output = Result<Vec<Result<Uid, Refused>>, AppendError>> + use<E> {
    let mut group = Group::new();
    let facts = Facts {
        blob: log.reserve_blob(),
        size: message.size(),
        marks: message.marks,
        internal_date: message.internal_date,
        save_date: log.env().wall().seconds(),
    };
    let planned = plan(accounts, &mut group, &facts, recipients, judge);
    let appended = planned.any().then(|| {
        let Message { parts, summary, .. } = message;
        group.blobs.push(BlobDraft { id: facts.blob, summary, parts });
        log.append(group)
    });
    async move {
        if let Some(appended) = appended {
            appended.await?;
        }
        let Planned { verdicts, reserved } = planned;
        drop(reserved);
        Ok(verdicts)
    }
}
