//! What became of each recipient of each message.

use std::collections::BTreeSet;
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
    /// The server takes the recipients of the mask; the message follows.
    Offered {
        seq: u64,
        mask: u64,
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
    /// Recipients that the server would take it for, one bit each.
    offered: u64,
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
    progress: [Progress; 5],
    /// Messages that nobody heard a 250 for, and that were taken all the same: something came of them.
    unheard: BTreeSet<u64>,
    acknowledged: u64,
    /// Recipients that were reported as failed again.
    pub(crate) told_twice: u64,
    /// Arrivals for recipients that no message had.
    pub(crate) never_sent: u64,
    /// Reports that a delivery is late.
    pub(crate) told_late: u64,
}

impl Ledger {
    pub(crate) fn new(run: u64, domains: Domains) -> Ledger {
        Ledger {
            run,
            recipients: domains.recipients_max(),
            domains,
            messages: Vec::new(),
            arrived_us: Vec::new(),
            bounced_us: Sorted::new(),
            progress: [Progress::default(); 5],
            unheard: BTreeSet::new(),
            acknowledged: 0,
            told_twice: 0,
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
            Sent::Offered { seq, mask } => self.message(seq).offered = mask,
            Sent::Refused { seq } => self.message(seq).is_refused = true,
            Sent::Acknowledged { seq, mask, at_us } => {
                let message = self.message(seq);
                (message.acknowledged_us, message.mask) = (at_us.max(1), mask);
                self.acknowledged += 1;
                self.unheard.remove(&seq);
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
        if message.acknowledged_us == 0 {
            self.unheard.insert(seq);
        } else if message.mask & (1 << slot) != 0 {
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
                let is_ours =
                    found.is_some_and(|(seq, slot)| taken.seq == Some(seq) && self.has(seq, slot));
                match found.filter(|_| is_ours) {
                    None => self.never_sent += 1,
                    Some((seq, slot)) => self.arrived(seq, slot, taken.at_us),
                }
            }
        }
    }

    /// Whether there is such a recipient of a message that was begun.
    fn has(&self, seq: u64, slot: u64) -> bool {
        let is_begun = self.messages.get(to_usize(seq)).is_some_and(|message| message.is_begun);
        is_begun && self.domains.slots(seq).contains(&slot)
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
            if !self.has(seq, slot) {
                continue;
            }
            match told.action {
                Action::Delayed => self.told_late += 1,
                Action::Failed if self.has_bounced(seq, slot) => self.told_twice += 1,
                Action::Failed => {
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

    /// Recipients that nothing is known of, those of dead domains left out: of messages that were
    /// acknowledged, or that were taken, as others of their recipients show.
    pub(crate) fn waited_for(&self) -> u64 {
        let is_well = |class: Class| class != Class::Dead;
        let acknowledged = Class::ALL
            .into_iter()
            .filter(|class| is_well(*class))
            .map(|class| self.progress[class as usize])
            .fold(0, |all, progress| all + progress.acknowledged.saturating_sub(progress.ended));
        let open = |seq: &u64| {
            self.open(*seq).filter(|slot| is_well(self.domains.of(*seq, *slot).class)).count()
        };
        acknowledged + to_u64(self.unheard.iter().map(open).sum())
    }

    /// The recipients of a message that nothing is known of.
    fn open(&self, seq: u64) -> impl Iterator<Item = u64> {
        let offered = self.messages.get(to_usize(seq)).map_or(0, |message| message.offered);
        let is_open = move |slot: &u64| {
            offered & (1 << slot) != 0
                && !self.has_arrived(seq, *slot)
                && !self.has_bounced(seq, *slot)
        };
        self.domains.slots(seq).filter(is_open)
    }

    /// Is nothing known of some recipient of a message that was taken, of whatever domain?
    pub(crate) fn has_open(&self) -> bool {
        let mut unheard = self.unheard.iter();
        self.progress.iter().any(|progress| progress.acknowledged > progress.ended)
            || unheard.any(|seq| self.open(*seq).next().is_some())
    }

    /// Messages that were taken for some of their recipients alone: a server takes all of one, or
    /// nothing. Those that were answered with 250 are not among them: what they miss is missing.
    /// Each with the first recipient that nothing is known of.
    pub(crate) fn torn(&self, queued: Option<&Set<(u64, u64)>>) -> Vec<(u64, u64)> {
        let is_missing = |seq: u64, slot: u64| match queued {
            Some(queued) => !queued.contains(&(seq, slot)),
            None => self.domains.of(seq, slot).class != Class::Dead,
        };
        let first = |seq: &u64| self.open(*seq).find(|slot| is_missing(*seq, *slot));
        self.unheard.iter().filter_map(|seq| Some((*seq, first(seq)?))).collect()
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
            for slot in self.domains.slots(seq).filter(|_| message.is_begun) {
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

#[cfg(test)]
mod tests {
    use super::super::domains::{DomainOptions, Local, Recipients};
    use super::*;
    use crate::sink::desk::Told;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        domains: DomainOptions,
    }

    const RUN: u64 = 7;

    /// A message to three recipients, of which it is told what became.
    fn ledger(seq: u64) -> Ledger {
        let options = Line::parse_from(["x", "--domains", "50"]).domains;
        let recipients = Recipients { least: 3, most: 3 };
        let local = Local { share: 1.0, domain: "here.test".into() };
        let domains = Domains::new(&options, recipients, Some(local), 1).unwrap();
        let mut ledger = Ledger::new(RUN, domains);
        ledger.sent(Sent::Begun { seq });
        ledger.sent(Sent::Offered { seq, mask: 0b111 });
        ledger
    }

    fn taken(seq: u64, recipients: Vec<Box<str>>, told: Vec<Told>) -> Event {
        let is_null = !told.is_empty();
        Event::Taken(Box::new(Taken {
            id: 1,
            connection: 1,
            at_us: 5,
            octets: 1,
            run: Some(RUN),
            seq: Some(seq),
            is_sound: Some(true),
            is_null,
            recipients,
            told,
        }))
    }

    fn address(ledger: &Ledger, seq: u64, slot: u64) -> Box<str> {
        let mut address = Vec::new();
        ledger.domains.write_recipient(seq, slot, &mut address);
        String::from_utf8(address).unwrap().into()
    }

    #[test]
    fn a_message_that_nobody_answered_came_to_all_or_to_none() {
        let mut ledger = ledger(4);
        assert_eq!((ledger.waited_for(), ledger.has_open()), (0, false));
        let all: Vec<Box<str>> = (0..3).map(|slot| address(&ledger, 4, slot)).collect();
        assert_eq!(*all[0], *"m4.0@here.test");
        ledger.seen(&taken(4, vec![all[0].clone()], Vec::new()));
        assert_eq!((ledger.waited_for(), ledger.has_open()), (2, true));
        assert_eq!(ledger.torn(None), [(4, 1)]);
        let queued: Set<(u64, u64)> = [(4, 1)].into_iter().collect();
        assert_eq!(ledger.torn(Some(&queued)), [(4, 2)]);
        ledger.seen(&taken(4, vec![all[2].clone()], Vec::new()));
        assert_eq!(ledger.torn(Some(&queued)), []);
        ledger.seen(&taken(4, vec![all[1].clone()], Vec::new()));
        assert_eq!((ledger.waited_for(), ledger.torn(None)), (0, Vec::new()));
        assert_eq!(ledger.never_sent, 0);
    }

    #[test]
    fn a_failure_is_told_once() {
        let mut ledger = ledger(4);
        ledger.sent(Sent::Acknowledged { seq: 4, mask: 0b111, at_us: 2 });
        let told = || vec![Told { recipient: address(&ledger, 4, 1), action: Action::Failed }];
        let report = taken(4, Vec::new(), told());
        ledger.seen(&report);
        assert_eq!((ledger.waited_for(), ledger.told_twice), (2, 0));
        ledger.seen(&report);
        assert_eq!((ledger.waited_for(), ledger.told_twice), (2, 1));
    }
}
