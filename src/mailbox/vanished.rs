//! What left a mailbox, and when: for clients that come back and ask (QRESYNC, RFC 7162 §3.2).
//!
//! The list is in the order of the change counters. It is bounded: the oldest runs are first
//! joined with their neighbours, which tells a client of the time between of messages that it
//! knows to be gone, then dropped. From below [`Vanished::floor`] nothing is known any more; whoever
//! asks from there is told of every UID that is not in use, as the RFC allows.

use crate::model::id::{ModSeq, Uid};
use crate::model::limits::VANISHED_RUNS_MAX;

/// UIDs from `first` to `last` that were gone when the counter stood at `modseq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub modseq: ModSeq,
    pub first: Uid,
    pub last: Uid,
}

/// The list of one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vanished {
    /// What changed at or below it may be missing.
    pub floor: ModSeq,
    pub runs: Vec<Run>,
}

impl Vanished {
    /// Adds what a removal took, by rising UID.
    pub(super) fn add(&mut self, modseq: ModSeq, uids: &[Uid]) {
        let mut rest = uids.iter().copied();
        let Some(first) = rest.next() else { return };
        let mut run = Run { modseq, first, last: first };
        for uid in rest {
            if uid.0 == run.last.0.wrapping_add(1) {
                run.last = uid;
            } else {
                self.runs.push(run);
                run = Run { modseq, first: uid, last: uid };
            }
        }
        self.runs.push(run);
        if self.runs.len() > VANISHED_RUNS_MAX {
            self.shrink();
        }
    }

    /// Halves the list, or more: one removal may bring more runs than there may be.
    fn shrink(&mut self) {
        let half = self.runs.len() / 2;
        let mut kept: Vec<Run> = Vec::with_capacity(self.runs.len());
        for run in self.runs.drain(..half) {
            match kept.last_mut() {
                Some(last) if last.last.0.wrapping_add(1) == run.first.0 => {
                    *last = Run { modseq: run.modseq, first: last.first, last: run.last };
                }
                _ => kept.push(run),
            }
        }
        kept.append(&mut self.runs);
        // Still too many: the oldest are forgotten.
        let over = kept.len().saturating_sub(VANISHED_RUNS_MAX * 3 / 4);
        if let Some(last) = kept.drain(..over).next_back() {
            self.floor = last.modseq;
        }
        self.runs = kept;
    }

    /// The runs that went after `since`; `None` if that is before what is known.
    pub(super) fn since(&self, since: ModSeq) -> Option<&[Run]> {
        let at = self.runs.partition_point(|run| run.modseq <= since);
        (since >= self.floor).then(|| &self.runs[at..])
    }

    pub(super) fn heap_octets(&self) -> usize {
        size_of::<Vanished>() + self.runs.capacity() * size_of::<Run>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(list: &[u32]) -> Vec<Uid> {
        list.iter().map(|&uid| Uid(uid)).collect()
    }

    #[test]
    fn tells_what_went_since() {
        let mut vanished = Vanished::default();
        vanished.add(ModSeq(5), &uids(&[1, 2, 3, 7]));
        vanished.add(ModSeq(9), &uids(&[4]));
        let since = |modseq| {
            let runs = vanished.since(ModSeq(modseq)).expect("nothing was forgotten");
            runs.iter().map(|run| (run.first.0, run.last.0)).collect::<Vec<_>>()
        };
        assert_eq!(since(0), [(1, 3), (7, 7), (4, 4)]);
        assert_eq!(since(5), [(4, 4)]);
        assert_eq!(since(9), []);
    }

    #[test]
    fn is_bounded_and_never_hides_what_it_forgot() {
        let mut vanished = Vanished::default();
        let count = u32::try_from(VANISHED_RUNS_MAX).expect("small") * 3;
        for number in 1..=count {
            vanished.add(ModSeq(number.into()), &uids(&[number * 2]));
        }
        assert!(vanished.runs.len() <= VANISHED_RUNS_MAX);
        let floor = vanished.floor;
        assert!(floor > ModSeq(0) && vanished.since(ModSeq(floor.0 - 1)).is_none());
        let told = vanished.since(floor).expect("known from there");
        let first = u32::try_from(floor.0).expect("small") + 1;
        let want: Vec<u32> = (first..=count).map(|number| number * 2).collect();
        assert_eq!(told.iter().map(|run| run.first.0).collect::<Vec<_>>(), want);
    }

    #[test]
    fn one_removal_of_more_runs_than_there_may_be_is_bounded_too() {
        let mut vanished = Vanished::default();
        let all: Vec<Uid> = (1..=140_000).map(|number| Uid(number * 2)).collect();
        vanished.add(ModSeq(7), &all);
        assert!(vanished.runs.len() <= VANISHED_RUNS_MAX);
        // Some of what went at 7 is known no more: nothing of it may be taken for all of it.
        assert_eq!(vanished.since(ModSeq(6)), None);
        assert!(vanished.since(ModSeq(7)).is_some_and(<[Run]>::is_empty));
    }

    #[test]
    fn joins_neighbours_before_it_forgets() {
        let mut vanished = Vanished::default();
        let count = u32::try_from(VANISHED_RUNS_MAX).expect("small") + 1;
        for number in 1..=count {
            vanished.add(ModSeq(number.into()), &uids(&[number]));
        }
        assert_eq!(vanished.floor, ModSeq(0));
        let all: u32 = vanished.runs.iter().map(|run| run.last.0 - run.first.0 + 1).sum();
        assert_eq!(all, count);
    }
}
