//! The journal of the audit over IMAP: what was about to be asked, what was answered with OK.
//!
//! Two mailboxes of each user take part, 0 and 1. A message belongs to one session, which does
//! one thing at a time with it; when an answer is missing or is not OK, it never touches that
//! message again. So each message has one state, or two of which either is right.
//!
//! ```text
//! R run                     once, at the top
//! I seq digest user place   about to APPEND
//! A seq                     answered with OK
//! C id place seq[,seq…]     about to COPY from there to the other mailbox
//! M id place seq[,seq…]     about to MOVE from there
//! + id place flag seqs      about to set a flag, by its number
//! - id place flag seqs      about to take it away
//! X id place seqs           about to UID EXPUNGE what is marked
//! K id                      answered with OK
//! ```

use pombal::bytes::hash::Map;

use crate::values::{to_u64, to_usize};

/// The mailboxes of each user.
pub(crate) const PLACES: [&str; 2] = ["audit-a", "audit-b"];
/// Flags by their number.
pub(crate) const FLAGS: [&str; 6] =
    ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "$Audit", "\\Deleted"];
/// The number of `\Deleted`.
pub(crate) const DELETED: u8 = 5;
/// Highest sequence number; the ledger is a list indexed by it.
const SEQ_MAX: u64 = 1 << 32;

/// A message: the flags of its copy in each mailbox, one bit each.
pub(crate) type State = [Option<u8>; 2];

/// What is done to a message in one of the mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Copy,
    Move,
    Set(u8),
    Clear(u8),
    Expunge,
}

impl Deed {
    /// The state behind the deed.
    pub(crate) fn apply(self, place: usize, before: State) -> State {
        let (mut after, here) = (before, before[place]);
        match self {
            Deed::Copy => after[1 - place] = here,
            Deed::Move => (after[place], after[1 - place]) = (None, here),
            Deed::Set(flag) => after[place] = here.map(|flags| flags | 1 << flag),
            Deed::Clear(flag) => after[place] = here.map(|flags| flags & !(1 << flag)),
            Deed::Expunge => after[place] = None,
        }
        after
    }

    /// The line that announces it, with its line end.
    pub(crate) fn line(self, id: u64, place: usize, seqs: &[u64]) -> String {
        let seqs: Vec<String> = seqs.iter().map(u64::to_string).collect();
        let seqs = seqs.join(",");
        match self {
            Deed::Copy => format!("C {id} {place} {seqs}\n"),
            Deed::Move => format!("M {id} {place} {seqs}\n"),
            Deed::Set(flag) => format!("+ {id} {place} {flag} {seqs}\n"),
            Deed::Clear(flag) => format!("- {id} {place} {flag} {seqs}\n"),
            Deed::Expunge => format!("X {id} {place} {seqs}\n"),
        }
    }
}

/// One message of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) digest: u128,
    pub(crate) user: u64,
    /// By everything that was answered.
    pub(crate) state: State,
    /// By the one thing that was not.
    pub(crate) maybe: Option<State>,
}

/// Everything that a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) run: u64,
    /// By sequence number.
    pub(crate) records: Vec<Option<Record>>,
    /// The first number that no deed has.
    pub(crate) next_deed: u64,
    /// APPEND commands and deeds that were answered.
    pub(crate) answered: u64,
    pub(crate) damaged: u64,
}

impl Ledger {
    pub(crate) fn parse(text: &str) -> Ledger {
        let mut ledger = Ledger::default();
        let mut open: Map<u64, Vec<u64>> = Map::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if ledger.take(line, &mut open).is_none() {
                ledger.damaged += 1;
            }
        }
        ledger
    }

    /// The first sequence number that was never used.
    pub(crate) fn next_seq(&self) -> u64 {
        to_u64(self.records.len())
    }

    fn take(&mut self, line: &str, open: &mut Map<u64, Vec<u64>>) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        if kind == "R" {
            self.run = u64::from_str_radix(words.next()?, 16).ok()?;
            return Some(());
        }
        let number: u64 = words.next()?.parse().ok()?;
        match kind {
            "I" => {
                let digest = u128::from_str_radix(words.next()?, 16).ok()?;
                let user = words.next()?.parse().ok()?;
                let place = place(words.next()?)?;
                let mut maybe = [None; 2];
                maybe[place] = Some(0);
                self.insert(number, Record { digest, user, state: [None; 2], maybe: Some(maybe) })
            }
            "A" => self.answer(number),
            "K" => {
                for seq in open.remove(&number)? {
                    self.answer(seq)?;
                }
                Some(())
            }
            _ => {
                let place = place(words.next()?)?;
                let mut flag = || words.next()?.parse().ok().filter(|flag| *flag <= DELETED);
                let deed = match kind {
                    "C" => Deed::Copy,
                    "M" => Deed::Move,
                    "+" => Deed::Set(flag()?),
                    "-" => Deed::Clear(flag()?),
                    "X" => Deed::Expunge,
                    _ => return None,
                };
                let seqs = words.next()?.split(',').map(|seq| seq.parse().ok());
                let seqs = seqs.collect::<Option<Vec<u64>>>()?;
                for seq in &seqs {
                    let record = self.get_mut(*seq)?;
                    record.maybe = Some(deed.apply(place, record.state));
                }
                self.next_deed = self.next_deed.max(number + 1);
                open.insert(number, seqs);
                Some(())
            }
        }
    }

    fn insert(&mut self, seq: u64, record: Record) -> Option<()> {
        if seq >= SEQ_MAX {
            return None;
        }
        let index = to_usize(seq);
        if index >= self.records.len() {
            self.records.resize(index + 1, None);
        }
        let free = self.records[index].is_none();
        free.then(|| self.records[index] = Some(record))
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Record> {
        self.records.get(to_usize(seq))?.as_ref()
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut Record> {
        self.records.get_mut(to_usize(seq))?.as_mut()
    }

    fn answer(&mut self, seq: u64) -> Option<()> {
        let record = self.get_mut(seq)?;
        record.state = record.maybe.take()?;
        self.answered += 1;
        Some(())
    }
}

fn place(word: &str) -> Option<usize> {
    word.parse().ok().filter(|place| *place < PLACES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(text: &str) -> Vec<(State, Option<State>)> {
        let ledger = Ledger::parse(text);
        ledger.records.iter().flatten().map(|record| (record.state, record.maybe)).collect()
    }

    #[test]
    fn a_message_has_one_state_or_two() {
        assert_eq!(states("I 0 a 1 0\n"), [([None, None], Some([Some(0), None]))]);
        assert_eq!(states("I 0 a 1 1\nA 0\n"), [([None, Some(0)], None)]);
        let both = "I 0 a 1 0\nA 0\nI 1 b 1 0\nA 1\n";
        assert_eq!(
            states(&format!("{both}+ 1 0 1 0,1\nK 1\nM 2 0 1\n")),
            [([Some(2), None], None), ([Some(2), None], Some([None, Some(2)]))]
        );
        assert_eq!(
            states(&format!("{both}C 1 0 0\nK 1\n- 2 1 0 0\n+ 3 0 5 1\nK 3\nX 4 0 1\nK 4\n")),
            [([Some(0), Some(0)], Some([Some(0), Some(0)])), ([None, None], None)]
        );
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for (deed, line) in [
            (Deed::Copy, "C 3 0 7,8\n"),
            (Deed::Move, "M 3 0 7,8\n"),
            (Deed::Set(2), "+ 3 0 2 7,8\n"),
            (Deed::Clear(5), "- 3 0 5 7,8\n"),
            (Deed::Expunge, "X 3 0 7,8\n"),
        ] {
            assert_eq!(deed.line(3, 0, &[7, 8]), line);
        }
    }

    #[test]
    fn counts_lines_that_make_no_sense() {
        let ledger = Ledger::parse(
            "R ab\nI 0 a 1 0\nA 0\nA 0\nI 0 a 1 0\nC 1 2 0\n+ 1 0 9 0\nK 7\nZ 1\nX 1 0",
        );
        assert_eq!((ledger.run, ledger.damaged, ledger.answered), (0xab, 7, 1));
    }
}
