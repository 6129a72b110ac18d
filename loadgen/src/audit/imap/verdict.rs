//! Sets what the mailboxes hold against what the journal says. No I/O, no clock.

use super::journal::{Ledger, State};
use crate::audit::verdict::{Verdict, Wrong};
use crate::values::{to_u64, to_usize};

/// One thing seen in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Copy {
        seq: u64,
        user: u64,
        place: usize,
        digest: u128,
        flags: u8,
    },
    /// A message of this run that has lost its number.
    Nameless {
        user: u64,
    },
    /// Mail of another run or of somebody else.
    Foreign,
    /// A mailbox that could not be read to its end.
    Unread {
        user: u64,
    },
}

/// Judges. The order of `found` does not matter.
pub(crate) fn judge(ledger: &Ledger, found: &[Found]) -> Verdict {
    let mut verdict = Verdict {
        journal_damaged_lines: ledger.damaged,
        acknowledged: ledger.answered,
        ..Verdict::default()
    };
    // How many copies, and the flags of the last of them.
    let mut seen: Vec<([u32; 2], State)> = vec![([0; 2], [None; 2]); ledger.records.len()];
    let mut unread = Vec::new();
    for one in found {
        match *one {
            Found::Foreign => verdict.foreign += 1,
            Found::Unread { user } => {
                unread.push(user);
                verdict.blame(Wrong::Unread, None, user);
            }
            Found::Nameless { user } => verdict.blame(Wrong::Changed, None, user),
            Found::Copy { seq, user, place, digest, flags } => {
                verdict.present += 1;
                let Some(record) = ledger.get(seq).filter(|record| record.user == user) else {
                    verdict.blame(Wrong::NeverSent, Some(seq), user);
                    continue;
                };
                if record.digest != digest {
                    verdict.blame(Wrong::Changed, Some(seq), user);
                }
                let (copies, state) = &mut seen[to_usize(seq)];
                copies[place] += 1;
                state[place] = Some(flags);
            }
        }
    }
    for (seq, (record, (copies, state))) in ledger.records.iter().zip(&seen).enumerate() {
        let Some(record) = record else { continue };
        verdict.sent += 1;
        verdict.unknown += u64::from(record.maybe.is_some());
        verdict.unknown_present += u64::from(record.maybe == Some(*state));
        verdict.deleted += u64::from(record.state == [None; 2] && record.maybe.is_none());
        for _ in copies.iter().filter(|count| **count > 1) {
            verdict.blame(Wrong::Doubled, Some(to_u64(seq)), record.user);
        }
        if *state == record.state || record.maybe == Some(*state) || unread.contains(&record.user) {
            continue;
        }
        verdict.blame(kind(record.state, record.maybe, *state), Some(to_u64(seq)), record.user);
    }
    verdict
}

/// What kind of wrong it is that neither state is the one that was found.
fn kind(state: State, maybe: Option<State>, seen: State) -> Wrong {
    let places = |state: State| state.map(|copy| copy.is_some());
    let right = [Some(state), maybe].into_iter().flatten().map(places);
    if right.clone().any(|right| right == places(seen)) {
        return Wrong::Flags;
    }
    let lost = |right: [bool; 2]| right.iter().zip(places(seen)).any(|(is, seen)| *is && !seen);
    if right.clone().all(lost) { Wrong::Missing } else { Wrong::Undeleted }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journal, then `place/flags` of each copy of message 0, as user 1 has them.
    fn check(journal: &str, found: &[(usize, u8)]) -> Vec<String> {
        let found: Vec<Found> = found
            .iter()
            .map(|(place, flags)| Found::Copy {
                seq: 0,
                user: 1,
                place: *place,
                digest: 10,
                flags: *flags,
            })
            .collect();
        judge(&Ledger::parse(journal), &found).findings
    }

    #[test]
    fn what_was_answered_is_there_as_it_was_left() {
        let one = "I 0 a 1 0\nA 0\n";
        assert_eq!(check(one, &[(0, 0)]), [""; 0]);
        assert_eq!(check(one, &[]), ["missing: message 0 user 1"]);
        assert_eq!(check(one, &[(0, 0), (0, 0)]), ["doubled: message 0 user 1"]);
        assert_eq!(check(one, &[(0, 1)]), ["wrong flags: message 0 user 1"]);
        assert_eq!(check(one, &[(1, 0)]), ["missing: message 0 user 1"]);
        assert_eq!(check(one, &[(0, 0), (1, 0)]), ["undeleted: message 0 user 1"]);
    }

    #[test]
    fn what_was_not_answered_is_done_or_not_done() {
        let append = "I 0 a 1 0\n";
        assert!(check(append, &[]).is_empty() && check(append, &[(0, 0)]).is_empty());
        let moving = "I 0 a 1 0\nA 0\n+ 1 0 1 0\nK 1\nM 2 0 0\n";
        assert!(check(moving, &[(0, 2)]).is_empty() && check(moving, &[(1, 2)]).is_empty());
        assert_eq!(check(moving, &[]), ["missing: message 0 user 1"]);
        assert_eq!(check(moving, &[(0, 2), (1, 2)]), ["undeleted: message 0 user 1"]);
        assert_eq!(check(moving, &[(1, 0)]), ["wrong flags: message 0 user 1"]);
        let expunged = "I 0 a 1 0\nA 0\n+ 1 0 5 0\nK 1\nX 2 0 0\nK 2\n";
        assert!(check(expunged, &[]).is_empty());
        assert_eq!(check(expunged, &[(0, 32)]), ["undeleted: message 0 user 1"]);
    }

    #[test]
    fn other_peoples_mail_is_told_apart() {
        let found = [
            Found::Copy { seq: 7, user: 1, place: 0, digest: 1, flags: 0 },
            Found::Foreign,
            Found::Unread { user: 1 },
            Found::Nameless { user: 2 },
        ];
        let verdict = judge(&Ledger::parse("I 0 a 1 0\nA 0\n"), &found);
        assert_eq!(verdict.wrong[&Wrong::NeverSent], 1);
        assert_eq!((verdict.foreign, verdict.wrong.get(&Wrong::Missing)), (1, None));
        assert_eq!((verdict.wrong[&Wrong::Unread], verdict.wrong[&Wrong::Changed]), (1, 1));
    }
}
