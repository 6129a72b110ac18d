//! What became of each recipient of each message.

use std::io::BufRead;

use pombal::bytes::hash::{Set, Sorted};

use super::domains::{Class, Domains, place};
use crate::sink::desk::{Action, Event, Taken};
use crate::values::{to_u64, to_usize};

/// What a sender learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way; nothing is known until one of the others follows.
    Begun {
        seq: u64,
    },
    /// 250, at a time in microseconds since 1970, for the recipients of the mask.
    Acknowledged {
        seq: u64,
        mask: u64,
        at_us: u64,
    },
    Refused {
        seq: u64,
    },
}

/// One message.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    is_begun: bool,
    is_refused: bool,
    /// Zero: not acknowledged.
    acknowledged_us: u64,
    /// Recipients that were acknowledged, one bit each.
    mask: u64,
    /// Recipients that a report said are failed.
    bounced: u64,
}

/// How far the recipients of a class are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Acknowledged recipients.
    acknowledged: u64,
    /// Of them, those that arrived or bounced.
    ended: u64,
}

/// All messages of a run.
pub(crate) struct Ledger {
    run: u64,
    recipients: u64,
    domains: Domains,
    messages: Vec<Message>,
    /// When each recipient's copy arrived first; zero: not.
    arrived_us: Vec<u64>,
    /// When each recipient's failure was reported first.
    bounced_us: Sorted<usize, u64>,
    progress: [Progress; 4],
    acknowledged: u64,
    /// Arrivals for recipients that no message had.
    pub(crate) never_sent: u64,
    /// Reports that a delivery is late.
    pub(crate) told_late: u64,
}

impl Ledger {
    pub(crate) fn new(run: u64, recipients: u64, domains: Domains) -> Ledger {
        Ledger {
            run,
            recipients,
            domains,
            messages: Vec::new(),
            arrived_us: Vec::new(),
            bounced_us: Sorted::new(),
            progress: [Progress::default(); 4],
            acknowledged: 0,
            never_sent: 0,
            told_late: 0,
        }
    }

    fn message(&mut self, seq: u64) -> &mut Message {
        let index = to_usize(seq);
        if index >= self.messages.len() {
            self.messages.resize(index + 1, Message::default());
            self.arrived_us.resize(place(seq + 1, 0, self.recipients), 0);
        }
        &mut self.messages[index]
    }

    /// What a sender learned.
    pub(crate) fn sent(&mut self, sent: Sent) {
        match sent {
            Sent::Begun { seq } => self.message(seq).is_begun = true,
            Sent::Refused { seq } => self.message(seq).is_refused = true,
            Sent::Acknowledged { seq, mask, at_us } => {
                let message = self.message(seq);
                (message.acknowledged_us, message.mask) = (at_us.max(1), mask);
                self.acknowledged += 1;
                for slot in (0..self.recipients).filter(|slot| mask & (1 << slot) != 0) {
                    let has_ended = self.has_arrived(seq, slot) || self.has_bounced(seq, slot);
                    let class = self.domains.of(seq, slot).class;
                    let progress = &mut self.progress[class as usize];
                    progress.acknowledged += 1;
                    progress.ended += u64::from(has_ended);
                }
            }
        }
    }

    fn has_arrived(&self, seq: u64, slot: u64) -> bool {
        self.arrived_us.get(place(seq, slot, self.recipients)).is_some_and(|at_us| *at_us > 0)
    }

    fn has_bounced(&self, seq: u64, slot: u64) -> bool {
        self.messages.get(to_usize(seq)).is_some_and(|message| message.bounced & (1 << slot) != 0)
    }

    /// A recipient's first arrival or bounce.
    fn ended(&mut self, seq: u64, slot: u64) {
        let message = self.message(seq);
        if message.acknowledged_us > 0 && message.mask & (1 << slot) != 0 {
            let class = self.domains.of(seq, slot).class;
            self.progress[class as usize].ended += 1;
        }
    }

    /// What the sink saw.
    pub(crate) fn seen(&mut self, event: &Event) {
        let Event::Taken(taken) = event else { return };
        if taken.is_null {
            self.told(taken);
        } else if taken.run == Some(self.run) {
            for recipient in &taken.recipients {
                let found = self.domains.parse_recipient(recipient);
                let is_ours = found.is_some_and(|(seq, slot)| {
                    taken.seq == Some(seq) && slot < self.recipients && self.is_begun(seq)
                });
                match found.filter(|_| is_ours) {
                    None => self.never_sent += 1,
                    Some((seq, slot)) => self.arrived(seq, slot, taken.at_us),
                }
            }
        }
    }

    fn is_begun(&self, seq: u64) -> bool {
        self.messages.get(to_usize(seq)).is_some_and(|message| message.is_begun)
    }

    fn arrived(&mut self, seq: u64, slot: u64, at_us: u64) {
        let is_first = !self.has_arrived(seq, slot);
        if is_first && !self.has_bounced(seq, slot) {
            self.ended(seq, slot);
        }
        if is_first {
            self.arrived_us[place(seq, slot, self.recipients)] = at_us;
        }
    }

    /// A report. Its recipients are known by their addresses, whatever else it returns.
    fn told(&mut self, taken: &Taken) {
        for told in &taken.told {
            let Some((seq, slot)) = self.domains.parse_recipient(&told.recipient) else { continue };
            if slot >= self.recipients || !self.is_begun(seq) {
                continue;
            }
            match told.action {
                Action::Delayed => self.told_late += 1,
                Action::Failed if !self.has_bounced(seq, slot) => {
                    if !self.has_arrived(seq, slot) {
                        self.ended(seq, slot);
                    }
                    self.message(seq).bounced |= 1 << slot;
                    self.bounced_us.insert(place(seq, slot, self.recipients), taken.at_us);
                }
                _ => {}
            }
        }
    }

    /// Acknowledged recipients that nothing is known of, those of dead domains left out.
    pub(crate) fn waited_for(&self) -> u64 {
        let classes = Class::ALL.iter().filter(|class| **class != Class::Dead);
        classes
            .map(|class| self.progress[*class as usize])
            .fold(0, |all, progress| all + progress.acknowledged.saturating_sub(progress.ended))
    }

    /// Is nothing known of some acknowledged recipient, of whatever domain?
    pub(crate) fn has_open(&self) -> bool {
        self.progress.iter().any(|progress| progress.acknowledged > progress.ended)
    }

    /// Messages that were answered with 250.
    pub(crate) fn acknowledged_messages(&self) -> u64 {
        self.acknowledged
    }

    /// Recipients of this run in what a command printed about the server's queue.
    pub(crate) fn find_queued(&self, text: impl BufRead) -> std::io::Result<Set<(u64, u64)>> {
        let mut found = Set::default();
        for line in text.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let is_address =
                |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '@' | '-');
            let words = line.split(|letter| !is_address(letter));
            found.extend(words.filter_map(|word| self.domains.parse_recipient(word)));
        }
        Ok(found)
    }

    /// Calls for each recipient of each message that was begun.
    pub(crate) fn each(&self, mut call: impl FnMut(&Fate)) {
        for (seq, message) in self.messages.iter().enumerate() {
            let seq = to_u64(seq);
            for slot in (0..self.recipients).filter(|_| message.is_begun) {
                let bit = 1 << slot;
                let at = place(seq, slot, self.recipients);
                let time = |at_us: u64| (at_us > 0).then_some(at_us);
                let is_acknowledged = message.mask & bit != 0;
                call(&Fate {
                    seq,
                    slot,
                    class: self.domains.of(seq, slot).class,
                    acknowledged_us: time(message.acknowledged_us).filter(|_| is_acknowledged),
                    is_refused: message.is_refused
                        || (message.acknowledged_us > 0 && !is_acknowledged),
                    arrived_us: time(self.arrived_us[at]),
                    bounced_us: self.bounced_us.get(&at).copied(),
                });
            }
        }
    }
}

/// What is known of one recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) seq: u64,
    pub(crate) slot: u64,
    pub(crate) class: Class,
    pub(crate) acknowledged_us: Option<u64>,
    pub(crate) is_refused: bool,
    pub(crate) arrived_us: Option<u64>,
    pub(crate) bounced_us: Option<u64>,
}
