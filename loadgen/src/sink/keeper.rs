//! Gathers what all threads of a sink hand over: the journal, duplicates, totals.
//!
//! A second copy of a message for the same recipient is a duplicate. It is excused when the
//! answer to the first was lost, or may not have been heard; and it is told apart when the
//! first was the last message of a connection that broke: the sender may have died between
//! the answer and writing it down.

use std::sync::mpsc::Receiver;

use pombal::bytes::hash::{Map, Set, Sorted};

use super::desk::{Action, Answer, Batch, Counts, Event, Taken};
use super::journal::Writer;
use super::rule::steady_hash;

/// Copies that are remembered to find the duplicates among them.
const COPIES_MAX: usize = 1 << 25;

/// Duplicates, by what became of the answer to the copy before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Doubled {
    /// It was not sent, or the connection ended before another word.
    pub(crate) answer_lost: u64,
    /// It was heard, and the connection broke before another message.
    pub(crate) broke_off: u64,
    /// It was heard.
    pub(crate) answer_heard: u64,
}

/// Answers of 250 to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Answers {
    pub(crate) heard: u64,
    pub(crate) unheard: u64,
    pub(crate) lost: u64,
}

/// All that a sink has seen.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) counts: Counts,
    journal: Option<Writer>,
    /// The message of the last copy, by mark and recipient.
    copies: Map<u64, u64>,
    /// More copies came than are remembered.
    pub(crate) is_blind: bool,
    /// The copy before each duplicate.
    doubled: Vec<u64>,
    /// Messages whose answer was not heard, or not yet.
    unheard: Set<u64>,
    broke: Set<u64>,
    pub(crate) answers: Answers,
    /// Messages without a mark, reports left out.
    pub(crate) foreign: u64,
    /// Messages whose body is another one than was sent.
    pub(crate) changed: u64,
    /// Recipients in reports.
    pub(crate) told: Sorted<Action, u64>,
    pub(crate) first_us: Option<u64>,
    pub(crate) last_us: u64,
}

impl Keeper {
    pub(crate) fn new(journal: Option<Writer>) -> Keeper {
        Keeper { journal, ..Keeper::default() }
    }

    /// Takes what comes until all threads have ended. `each` sees every event, in the order
    /// of its connection.
    pub(crate) fn take(&mut self, batch: &Batch, mut each: impl FnMut(&Event)) {
        self.counts.add(&batch.counts);
        for event in &batch.events {
            self.event(event);
            each(event);
        }
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }

    /// The same without anybody else, to the end.
    pub(crate) fn take_all(&mut self, batches: &Receiver<Batch>) {
        for batch in batches {
            self.take(&batch, |_| {});
        }
    }

    /// One event, of this process or read from a journal.
    pub(crate) fn event(&mut self, event: &Event) {
        if let Some(journal) = &mut self.journal {
            journal.write(event);
        }
        match event {
            Event::Taken(taken) => self.taken(taken),
            Event::Answered { id, answer: Answer::Heard } => {
                self.answers.heard += 1;
                self.unheard.remove(id);
            }
            Event::Answered { answer: Answer::Unheard, .. } => self.answers.unheard += 1,
            Event::Answered { answer: Answer::Lost, .. } => self.answers.lost += 1,
            Event::Broke { id } => {
                self.broke.insert(*id);
            }
        }
    }

    fn taken(&mut self, taken: &Taken) {
        self.first_us.get_or_insert(taken.at_us);
        self.last_us = self.last_us.max(taken.at_us);
        self.unheard.insert(taken.id);
        for told in &taken.told {
            *self.told.entry(told.action).or_default() += 1;
        }
        self.changed += u64::from(taken.is_sound == Some(false));
        if taken.is_null {
            return;
        }
        let (Some(run), Some(seq)) = (taken.run, taken.seq) else {
            self.foreign += 1;
            return;
        };
        for recipient in &taken.recipients {
            let copy = steady_hash(&(run, seq, recipient));
            self.is_blind |= self.copies.len() >= COPIES_MAX;
            if self.is_blind {
                if let Some(before) = self.copies.get_mut(&copy) {
                    self.doubled.push(std::mem::replace(before, taken.id));
                }
            } else if let Some(before) = self.copies.insert(copy, taken.id) {
                self.doubled.push(before);
            }
        }
    }

    /// The duplicates until now. Final when all connections have ended.
    pub(crate) fn doubled(&self) -> Doubled {
        let mut doubled = Doubled::default();
        for before in &self.doubled {
            let count = if self.unheard.contains(before) {
                &mut doubled.answer_lost
            } else if self.broke.contains(before) {
                &mut doubled.broke_off
            } else {
                &mut doubled.answer_heard
            };
            *count += 1;
        }
        doubled
    }

    /// Why the journal is worth nothing, if so.
    pub(crate) fn journal_failed(&self) -> Option<String> {
        Some(self.journal.as_ref()?.failed()?.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(id: u64, seq: u64, recipients: &[&str]) -> Event {
        Event::Taken(Box::new(Taken {
            id,
            connection: 1,
            at_us: id,
            octets: 1,
            run: Some(1),
            seq: Some(seq),
            is_sound: Some(true),
            is_null: false,
            recipients: recipients.iter().map(|one| (*one).into()).collect(),
            told: Vec::new(),
        }))
    }

    #[track_caller]
    fn check(events: &[Event], want: Doubled) {
        let mut keeper = Keeper::default();
        for event in events {
            keeper.event(event);
        }
        assert_eq!(keeper.doubled(), want);
    }

    #[test]
    fn a_duplicate_is_excused_by_a_lost_answer_alone() {
        let heard = |id| Event::Answered { id, answer: Answer::Heard };
        check(&[taken(1, 5, &["a", "b"]), heard(1), taken(2, 6, &["a"])], Doubled::default());
        check(
            &[taken(1, 5, &["a", "b"]), heard(1), taken(2, 5, &["b"])],
            Doubled { answer_heard: 1, ..Doubled::default() },
        );
        for answer in [Answer::Lost, Answer::Unheard] {
            let answer = Event::Answered { id: 1, answer };
            check(
                &[taken(1, 5, &["a"]), answer, taken(2, 5, &["a"])],
                Doubled { answer_lost: 1, ..Doubled::default() },
            );
        }
        // The answer became known after the duplicate.
        check(
            &[taken(1, 5, &["a"]), taken(2, 5, &["a"]), heard(1), heard(2)],
            Doubled { answer_heard: 1, ..Doubled::default() },
        );
        check(
            &[taken(1, 5, &["a"]), heard(1), Event::Broke { id: 1 }, taken(2, 5, &["a"])],
            Doubled { broke_off: 1, ..Doubled::default() },
        );
    }
}
