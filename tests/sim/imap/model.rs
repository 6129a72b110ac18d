//! What one account holds, as far as clients were told: kept outside of the machine, over all lives.
//!
//! ```text
//!   asked for  ──answered──> Op with its window of change counters   (what may have changed flags)
//!   told       ────────────> fact: flags of a UID at a change counter
//! ```
//!
//! A message is what was said of it. Two facts of one counter agree; between two facts every flag
//! that differs has an [`Op`] that may have been made between their counters; what was told before
//! a command was sent is what that command finds, or something later, whatever crashed meanwhile.
//! What was seen goes only if somebody asked for that, and never comes back.

use super::wire::{DELETED, Flags};
use crate::oracle::{Fate, Verdict, trace_octets};
use std::collections::{BTreeMap, BTreeSet};

/// Counts what clients send and hear: earlier and later.
pub(super) type Tick = u64;

/// A change of flags that was asked for. Made, if at all, with a counter above `after` and not
/// above `until`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) number: u64,
    pub(super) set: Flags,
    pub(super) clear: Flags,
    pub(super) after: u64,
    pub(super) until: u64,
}

impl Op {
    fn may_be_between(&self, low: u64, high: u64) -> bool {
        self.after.max(low) < self.until.min(high)
    }
}

/// Flags at one change counter; `known` says which.
#[derive(Clone, Copy, Debug)]
struct Fact {
    known: Flags,
    flags: Flags,
}

#[derive(Debug, Default)]
pub(super) struct Message {
    facts: BTreeMap<u64, Fact>,
    ops: Vec<Op>,
    /// Counters in the order in which they were told.
    news: Vec<(Tick, u64)>,
    /// When somebody was first told that it is there.
    pub(super) told: Option<Tick>,
    /// Its removal was asked for by name.
    pub(super) leaving: bool,
    /// When somebody was first told that it is not there any more.
    pub(super) gone: Option<Tick>,
    pub(super) email: Option<String>,
    pub(super) content: Option<usize>,
    /// The life, and the number of the SELECT, in which it was `\Recent`.
    recent: Option<(u64, u64)>,
    /// It is a copy of one that may be marked as deleted.
    deletable: bool,
    /// Copies of it that were asked for.
    pub(super) copies: usize,
}

impl Message {
    fn explained(&self, bit: Flags, is_set: bool, low: u64, high: u64, but: Option<u64>) -> bool {
        self.ops.iter().any(|op| {
            let does = if is_set { op.set } else { op.clear };
            does & bit != 0 && Some(op.number) != but && op.may_be_between(low, high)
        })
    }

    /// Somebody asks for a change.
    pub(super) fn asked(&mut self, number: u64, set: Flags, clear: Flags) {
        let after = self.newest(Tick::MAX);
        self.ops.push(Op { number, set, clear, after, until: u64::MAX });
    }

    /// That change was not made.
    pub(super) fn refused(&mut self, number: u64) {
        self.ops.retain(|op| op.number != number);
    }

    /// That change was made, and then the message stood at this counter, with these flags.
    pub(super) fn made(&mut self, number: u64, modseq: u64, flags: Flags) -> Verdict {
        let Some(op) = self.ops.iter_mut().find(|op| op.number == number) else { return Ok(()) };
        op.until = modseq;
        let op = *op;
        for bit in (0..8).map(|bit| 1 << bit) {
            let wrong = (op.set & bit != 0 && flags & bit == 0)
                || (op.clear & bit != 0 && flags & bit != 0);
            if wrong && !self.explained(bit, flags & bit != 0, op.after, modseq, Some(number)) {
                return Err(format!("I5: a change was answered, but left {flags:#b} at {modseq}"));
            }
        }
        Ok(())
    }

    /// The highest counter that was told before `tick`.
    pub(super) fn newest(&self, tick: Tick) -> u64 {
        let before = self.news.partition_point(|&(told, _)| told < tick);
        self.news[..before].iter().map(|&(_, modseq)| modseq).max().unwrap_or(0)
    }

    fn state(&mut self, modseq: u64, known: Flags, flags: Flags) -> Verdict {
        let fact = self.facts.entry(modseq).or_insert(Fact { known: 0, flags: 0 });
        let both = fact.known & known;
        if (fact.flags ^ flags) & both != 0 {
            let was = fact.flags;
            return Err(format!("I4: flags {was:#b} and {flags:#b} at the same counter {modseq}"));
        }
        let new = known & !fact.known;
        fact.known |= known;
        fact.flags |= flags & new;
        for bit in (0..8).map(|bit| 1 << bit).filter(|bit| new & bit != 0) {
            let is_known = |(_, fact): &(&u64, &Fact)| fact.known & bit != 0;
            let before = self.facts.range(..modseq).rev().find(is_known);
            let behind = self.facts.range(modseq + 1..).find(is_known);
            let this = (modseq, flags);
            let before = before.map(|(&at, fact)| ((at, fact.flags), this));
            let behind = behind.map(|(&at, fact)| (this, (at, fact.flags)));
            for ((low, was), (high, is)) in before.into_iter().chain(behind) {
                if (was ^ is) & bit != 0 && !self.explained(bit, is & bit != 0, low, high, None) {
                    return Err(format!(
                        "I5: flags {was:#b} at {low} became {is:#b} at {high}, which nobody asked for"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn may_be_deleted(&self) -> bool {
        self.deletable
            || self.ops.iter().any(|op| op.set & DELETED != 0)
            || self.facts.values().any(|fact| fact.flags & DELETED != 0)
    }
}

/// The messages under one UIDVALIDITY.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    pub(super) messages: BTreeMap<u32, Message>,
    /// Everything marked as deleted may go.
    pub(super) expunged: bool,
    /// All of it may go.
    pub(super) closing: bool,
    /// UIDs below are known, or were never seen and never will be.
    sealed: u32,
    uidnext: Vec<(Tick, u64)>,
    highest: Vec<(Tick, u64)>,
}

fn told_before(list: &[(Tick, u64)], tick: Tick) -> u64 {
    list.iter().filter(|(told, _)| *told < tick).map(|&(_, number)| number).max().unwrap_or(0)
}

impl Mailbox {
    /// A message that is known now, if it was not before.
    pub(super) fn message(&mut self, uid: u32) -> &mut Message {
        // RENAME of INBOX may take it along.
        let copies = usize::from(self.closing);
        self.messages.entry(uid).or_insert_with(|| Message { copies, ..Message::default() })
    }

    /// Somebody is told, in answer to what was sent at `sent`, that a message is there.
    pub(super) fn there(
        &mut self,
        uid: u32,
        sent: Tick,
        now: Tick,
    ) -> Result<&mut Message, String> {
        if uid < self.sealed && !self.messages.contains_key(&uid) {
            return Err(format!("I3: new UID {uid}, but all below {} were known", self.sealed));
        }
        let message = self.message(uid);
        if message.gone.is_some_and(|gone| gone < sent) {
            return Err(format!("I6: UID {uid} was gone and is there"));
        }
        message.told.get_or_insert(now);
        Ok(message)
    }

    /// Somebody is told of flags.
    pub(super) fn flags(
        &mut self,
        uid: u32,
        (modseq, flags): (u64, Flags),
        sent: Tick,
        now: Tick,
    ) -> Verdict {
        let message = self.there(uid, sent, now)?;
        let newest = message.newest(sent);
        if modseq < newest {
            return Err(format!("I4: UID {uid} stood at {newest}, and then at {modseq}"));
        }
        message.state(modseq, Flags::MAX, flags).map_err(|what| format!("UID {uid}: {what}"))?;
        message.news.push((now, modseq));
        Ok(())
    }

    /// A message is `\Recent` for who may change the mailbox, since a SELECT in this life: for one at
    /// most (RFC 3501 §2.3.2).
    pub(super) fn recent(&mut self, uid: u32, (life, opened): (u64, u64)) -> Verdict {
        let message = self.message(uid);
        match message.recent.replace((life, opened)) {
            Some((then, other)) if then == life && other != opened => {
                Err(format!("UID {uid} is \\Recent since commands {other} and {opened}"))
            }
            _ => Ok(()),
        }
    }

    /// A message was brought with these flags.
    pub(super) fn brought(&mut self, uid: u32, flags: Flags) -> Verdict {
        let message = self.message(uid);
        message.state(0, Flags::MAX, flags).map_err(|what| format!("UID {uid}: {what}"))
    }

    pub(super) fn may_go(&self, uid: u32) -> bool {
        self.messages.get(&uid).is_none_or(|message| {
            self.closing || message.leaving || (self.expunged && message.may_be_deleted())
        })
    }

    /// Somebody is told that a message is not there.
    pub(super) fn absent(&mut self, uid: u32, now: Tick) -> Verdict {
        if !self.may_go(uid) {
            return Err(format!("I3: UID {uid} was told of and is gone, which nobody asked for"));
        }
        if let Some(message) = self.messages.get_mut(&uid) {
            message.gone.get_or_insert(now);
        }
        Ok(())
    }

    /// Somebody listed everything: nothing that was told of before may be missing.
    pub(super) fn listed(&mut self, there: &BTreeSet<u32>, sent: Tick, now: Tick) -> Verdict {
        let told = |message: &Message| message.told.is_some_and(|told| told < sent);
        let known = self.messages.iter().filter(|(_, message)| told(message));
        let missing: Vec<u32> =
            known.map(|(&uid, _)| uid).filter(|uid| !there.contains(uid)).collect();
        missing.into_iter().try_for_each(|uid| self.absent(uid, now))
    }

    /// SELECT was answered with these.
    pub(super) fn selected(
        &mut self,
        (uidnext, highest): (u64, u64),
        sent: Tick,
        now: Tick,
    ) -> Verdict {
        let told = |message: &&Message| message.told.is_some_and(|told| told < sent);
        let uid =
            self.messages.iter().filter(|(_, message)| told(message)).map(|(&uid, _)| uid).max();
        let modseq = self.messages.values().map(|message| message.newest(sent)).max().unwrap_or(0);
        let least = told_before(&self.uidnext, sent).max(uid.map_or(0, |uid| u64::from(uid) + 1));
        if uidnext < least {
            return Err(format!("I3: UIDNEXT {uidnext}, after {least}"));
        }
        let least = told_before(&self.highest, sent).max(modseq);
        if highest < least {
            return Err(format!("I4: HIGHESTMODSEQ {highest}, after {least}"));
        }
        self.uidnext.push((now, uidnext));
        self.highest.push((now, highest));
        Ok(())
    }

    /// All UIDs below were told of to somebody who listed everything.
    pub(super) fn seal(&mut self, uidnext: u32) {
        self.sealed = self.sealed.max(uidnext);
    }
}

/// A message that somebody sent, under the number in its header.
pub(super) struct Sent {
    pub(super) octets: Vec<u8>,
    pub(super) fate: Fate,
}

/// What a client remembers of a mailbox until it comes back.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) uidvalidity: u32,
    pub(super) modseq: u64,
    pub(super) messages: BTreeMap<u32, Flags>,
}

/// A change that is made as a whole or not at all, and was not answered yet.
#[derive(Clone, Debug)]
pub(super) enum Whole {
    /// These contents come.
    Append(Vec<usize>),
    /// These UIDs go, their messages are elsewhere then.
    Move { uidvalidity: u32, uids: Vec<u32> },
}

/// Everything about one account.
#[derive(Default)]
pub(super) struct Account {
    tick: Tick,
    /// By UIDVALIDITY.
    pub(super) mailboxes: BTreeMap<u32, Mailbox>,
    pub(super) names: super::catalog::Catalog,
    pub(super) sent: Vec<Sent>,
    pub(super) memories: Vec<Memory>,
    /// Numbers of commands that are not answered yet.
    pub(super) under_way: BTreeMap<u64, (Tick, Whole)>,
    /// When each removal was sent and answered; one that failed is not answered.
    removals: BTreeMap<u64, (Tick, Tick)>,
    commands: u64,
    emails: BTreeMap<String, usize>,
}

impl Account {
    pub(super) fn tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// The number of a new command.
    pub(super) fn command(&mut self) -> u64 {
        self.commands += 1;
        self.commands
    }

    /// How many commands were numbered.
    pub(super) fn commands(&self) -> u64 {
        self.commands
    }

    pub(super) fn mailbox(&mut self, uidvalidity: u32) -> &mut Mailbox {
        self.mailboxes.entry(uidvalidity).or_default()
    }

    pub(super) fn removal(&mut self, number: u64) {
        let now = self.tick();
        self.removals.insert(number, (now, Tick::MAX));
    }

    pub(super) fn answered(&mut self, number: u64) {
        let now = self.tick();
        self.under_way.remove(&number);
        if let Some(removal) = self.removals.get_mut(&number) {
            removal.1 = now;
        }
    }

    /// Whether other removals than that of a command may have been made since it was sent.
    pub(super) fn is_disturbed(&self, number: u64, sent: Tick) -> bool {
        self.removals.iter().any(|(&other, &(_, end))| other != number && end > sent)
    }

    /// A message of which every octet is about to be sent.
    pub(super) fn send(&mut self, octets: impl FnOnce(usize) -> Vec<u8>) -> usize {
        let number = self.sent.len();
        self.sent.push(Sent { octets: octets(number), fate: Fate::Unknown });
        number
    }

    /// EMAILID of a message: for ever the same, and of copies too.
    pub(super) fn email(&mut self, uidvalidity: u32, uid: u32, email: &str) -> Verdict {
        let message = self.mailbox(uidvalidity).message(uid);
        let known = message.email.get_or_insert_with(|| email.to_owned());
        if *known != email {
            return Err(format!("I7: UID {uid}: EMAILID {known} became {email}"));
        }
        let content = message.content;
        content.map_or(Ok(()), |content| self.content(uidvalidity, uid, content))
    }

    /// Which message it is that has a UID.
    pub(super) fn content(&mut self, uidvalidity: u32, uid: u32, content: usize) -> Verdict {
        let message = self.mailbox(uidvalidity).message(uid);
        let known = *message.content.get_or_insert(content);
        if known != content {
            return Err(format!("I3: UID {uid} was message {known}, is message {content}"));
        }
        let Some(email) = message.email.clone() else { return Ok(()) };
        let known = *self.emails.entry(email).or_insert(content);
        if known == content {
            Ok(())
        } else {
            Err(format!("I7: EMAILID of {known} is {content}'s"))
        }
    }

    /// A copy: the same message under two UIDs.
    pub(super) fn copied(&mut self, from: (u32, u32), to: (u32, u32)) -> Verdict {
        let source = self.mailbox(from.0).messages.get(&from.1);
        let deletable = source.is_some_and(Message::may_be_deleted);
        self.mailbox(to.0).message(to.1).deletable |= deletable;
        for (one, other) in [(from, to), (to, from)] {
            let known = self.mailbox(one.0).messages.get(&one.1);
            let (email, content) =
                known.map_or((None, None), |known| (known.email.clone(), known.content));
            if let Some(email) = email {
                self.email(other.0, other.1, &email)?;
            }
            if let Some(content) = content {
                self.content(other.0, other.1, content)?;
            }
        }
        Ok(())
    }

    /// A body was read: one that was sent to this account, octet for octet.
    pub(super) fn body(&mut self, uidvalidity: u32, uid: u32, octets: &[u8]) -> Verdict {
        let body = &octets[trace_octets(octets).unwrap_or(0)..];
        let number = body.strip_prefix(b"X-Message: ".as_slice());
        let number = number.and_then(|rest| rest.split(|&octet| octet == b'\r').next());
        let number = number.and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
        let sent = number.and_then(|number| self.sent.get(number));
        let (Some(number), Some(sent)) = (number, sent) else {
            return Err(format!("I8: UID {uid} is no message of ours"));
        };
        if sent.octets != body {
            return Err(format!("I8: UID {uid}: message {number} has other octets"));
        }
        if sent.fate == Fate::Refused {
            return Err(format!("I2: UID {uid}: message {number} was refused, is there"));
        }
        self.content(uidvalidity, uid, number)
    }

    /// No message is there more often than it was copied; what was promised is, or was.
    pub(super) fn counts(&self) -> Verdict {
        let all = || self.mailboxes.values().flat_map(|mailbox| mailbox.messages.values());
        let content = |message: &Message| {
            let of_email = || self.emails.get(message.email.as_ref()?).copied();
            message.content.or_else(of_email)
        };
        // What nobody ever read may have been any message.
        let unread = || all().filter(|message| content(message).is_none());
        let unread_copies: usize = unread().map(|message| message.copies).sum();
        let may_be_gone = unread().any(|message| message.gone.is_some())
            || self.mailboxes.values().any(|mailbox| mailbox.closing);
        for (number, sent) in self.sent.iter().enumerate() {
            let its = || all().filter(|message| content(message) == Some(number));
            let count = its().count();
            let most = 1 + its().map(|message| message.copies).sum::<usize>() + unread_copies;
            if count > most {
                return Err(format!("I1: message {number} is there {count} times of {most}"));
            }
            if count == 0 && sent.fate == Fate::Promised && !may_be_gone {
                return Err(format!("I1: message {number} was promised, is missing"));
            }
        }
        Ok(())
    }
}
