//! Sets what the maildrops hold against what the journal says. No I/O, no clock.

use pombal::bytes::hash::{Set, Sorted};
use serde::Serialize;

use super::journal::{Ledger, RECIPIENTS_MAX, State};
use crate::measure::table::{Table, grouped};
use crate::values::to_u64;

/// Findings that are named one by one; the rest is only counted.
const NAMED_MAX: usize = 20;

/// One thing seen in a maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A message of this run in the maildrop of `user`.
    Copy { seq: u64, user: u64, digest: u128 },
    /// A message of this run that has lost its number.
    Nameless { user: u64, digest: u128 },
    /// Mail of another run or of somebody else.
    Foreign,
    /// The maildrop could not be read to its end.
    Unread { user: u64 },
}

/// What is wrong, each kind an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wrong {
    /// Acknowledged, not deleted, not there.
    Missing,
    /// More than one copy in one maildrop.
    Doubled,
    /// The body is not the one that was sent.
    Changed,
    /// The flags are not the ones that were set (IMAP).
    Flags,
    /// There, but never sent to this user.
    NeverSent,
    /// There, although its deletion was acknowledged.
    Undeleted,
    /// A maildrop that could not be read, so that nothing is known about it.
    Unread,
}

impl Wrong {
    fn label(self) -> &'static str {
        match self {
            Wrong::Missing => "missing",
            Wrong::Doubled => "doubled",
            Wrong::Changed => "changed",
            Wrong::Flags => "wrong flags",
            Wrong::NeverSent => "never sent",
            Wrong::Undeleted => "undeleted",
            Wrong::Unread => "unread maildrops",
        }
    }
}

/// The reckoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Copies found, all users together.
    pub(crate) present: u64,
    /// Copies of unknown messages: either way is right.
    pub(crate) unknown_present: u64,
    /// Copies of refused messages: not lost, but a sender would send them again.
    pub(crate) refused_present: u64,
    /// Copies whose deletion was acknowledged.
    pub(crate) deleted: u64,
    pub(crate) foreign: u64,
    pub(crate) journal_damaged_lines: u64,
    pub(crate) wrong: Sorted<Wrong, u64>,
    /// The first findings in words.
    pub(crate) findings: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Might waiting help? Mail that is queued elsewhere is missing until it is delivered.
    pub(crate) fn may_improve(&self) -> bool {
        self.wrong.contains_key(&Wrong::Missing) || self.wrong.contains_key(&Wrong::Unread)
    }

    pub(super) fn blame(&mut self, wrong: Wrong, seq: Option<u64>, user: u64) {
        *self.wrong.entry(wrong).or_default() += 1;
        if self.findings.len() < NAMED_MAX {
            let what = seq.map_or_else(String::new, |seq| format!(" message {seq}"));
            self.findings.push(format!("{}:{what} user {user}", wrong.label()));
        }
    }

    pub(crate) fn rows(&self, table: &mut Table) {
        for (name, number) in [
            ("sent", self.sent),
            ("acknowledged", self.acknowledged),
            ("refused", self.refused),
            ("unknown", self.unknown),
            ("copies present", self.present),
            ("of unknown", self.unknown_present),
            ("of refused", self.refused_present),
            ("deleted", self.deleted),
            ("foreign", self.foreign),
        ] {
            table.row(name, grouped(number));
        }
        if self.journal_damaged_lines > 0 {
            table.row("damaged journal lines", grouped(self.journal_damaged_lines));
        }
        table.gap();
        for kind in [
            Wrong::Missing,
            Wrong::Doubled,
            Wrong::Changed,
            Wrong::Flags,
            Wrong::NeverSent,
            Wrong::Undeleted,
            Wrong::Unread,
        ] {
            let count = self.wrong.get(&kind).copied().unwrap_or(0);
            table.row(kind.label().to_uppercase(), grouped(count));
        }
        for finding in &self.findings {
            table.row("found", finding);
        }
    }
}

/// Copies of one message, per recipient.
type Copies = [u32; RECIPIENTS_MAX];

/// Judges. The order of `found` does not matter.
pub(crate) fn judge(ledger: &Ledger, found: &[Found]) -> Verdict {
    let mut verdict = Verdict { journal_damaged_lines: ledger.damaged, ..Verdict::default() };
    let mut copies: Vec<Copies> = vec![[0; RECIPIENTS_MAX]; ledger.records.len()];
    let mut unread: Set<u64> = Set::default();
    for one in found {
        match *one {
            Found::Foreign => verdict.foreign += 1,
            Found::Unread { user } => {
                unread.insert(user);
                verdict.blame(Wrong::Unread, None, user);
            }
            Found::Nameless { user, .. } => verdict.blame(Wrong::Changed, None, user),
            Found::Copy { seq, user, digest } => {
                verdict.present += 1;
                let record = ledger.get(seq);
                let place = record.and_then(|record| Some((record, record.slot(user)?)));
                let Some((record, slot)) = place else {
                    verdict.blame(Wrong::NeverSent, Some(seq), user);
                    continue;
                };
                if record.digest != digest {
                    verdict.blame(Wrong::Changed, Some(seq), user);
                }
                copies[crate::values::to_usize(seq)][slot] += 1;
            }
        }
    }
    for (seq, (record, copies)) in ledger.records.iter().zip(&copies).enumerate() {
        let Some(record) = record else { continue };
        verdict.sent += 1;
        match record.state {
            State::Acknowledged => verdict.acknowledged += 1,
            State::Refused => verdict.refused += 1,
            State::Unknown => verdict.unknown += 1,
        }
        for (slot, (user, copies)) in record.users().iter().zip(copies).enumerate() {
            let (user, bit) = (u64::from(*user), 1 << slot);
            verdict.deleted += u64::from(record.deleted & bit != 0);
            if *copies > 1 {
                verdict.blame(Wrong::Doubled, Some(to_u64(seq)), user);
            }
            match (record.state, *copies > 0) {
                (State::Acknowledged, true) if record.accepted & bit == 0 => {
                    verdict.blame(Wrong::NeverSent, Some(to_u64(seq)), user);
                }
                (_, true) if record.deleted & bit != 0 => {
                    verdict.blame(Wrong::Undeleted, Some(to_u64(seq)), user);
                }
                (State::Acknowledged, false)
                    if record.accepted & bit != 0
                        && (record.deleted | record.maybe_deleted) & bit == 0
                        && !unread.contains(&user) =>
                {
                    verdict.blame(Wrong::Missing, Some(to_u64(seq)), user);
                }
                (State::Unknown, true) => verdict.unknown_present += 1,
                (State::Refused, true) => verdict.refused_present += 1,
                _ => {}
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Journal, then `seq/user/digest` of each copy.
    #[track_caller]
    fn check(journal: &str, found: &[(u64, u64, u128)], want: &Expect) {
        let found: Vec<Found> = found
            .iter()
            .map(|(seq, user, digest)| Found::Copy { seq: *seq, user: *user, digest: *digest })
            .collect();
        let verdict = judge(&Ledger::parse(journal), &found);
        want.assert_eq(&format!(
            "{:?} unknown {}/{} refused {}/{}",
            verdict.findings,
            verdict.unknown,
            verdict.unknown_present,
            verdict.refused,
            verdict.refused_present
        ));
    }

    const TWO: &str = "I 0 a 1,2\nA 0 3\n";

    #[test]
    fn acknowledged_mail_is_there_once_for_each_recipient() {
        check(TWO, &[(0, 1, 10), (0, 2, 10)], &expect!["[] unknown 0/0 refused 0/0"]);
        check(
            TWO,
            &[(0, 2, 10)],
            &expect![[r#"["missing: message 0 user 1"] unknown 0/0 refused 0/0"#]],
        );
        check(
            TWO,
            &[(0, 1, 10), (0, 2, 10), (0, 2, 10)],
            &expect![[r#"["doubled: message 0 user 2"] unknown 0/0 refused 0/0"#]],
        );
        check(
            TWO,
            &[(0, 1, 10), (0, 2, 11)],
            &expect![[r#"["changed: message 0 user 2"] unknown 0/0 refused 0/0"#]],
        );
    }

    #[test]
    fn mail_that_was_never_sent_is_an_error() {
        check(
            TWO,
            &[(0, 1, 10), (0, 2, 10), (0, 3, 10), (7, 1, 10)],
            &expect![[
                r#"["never sent: message 0 user 3", "never sent: message 7 user 1"] unknown 0/0 refused 0/0"#
            ]],
        );
        // RCPT refused user 2, the message went through for user 1.
        check(
            "I 0 a 1,2\nA 0 1\n",
            &[(0, 1, 10), (0, 2, 10)],
            &expect![[r#"["never sent: message 0 user 2"] unknown 0/0 refused 0/0"#]],
        );
        check("I 0 a 1,2\nA 0 1\n", &[(0, 1, 10)], &expect!["[] unknown 0/0 refused 0/0"]);
    }

    #[test]
    fn unanswered_mail_may_be_there_once_or_not_at_all() {
        let journal = "I 0 a 1\nI 1 b 1\nI 2 c 1\nN 2 451\n";
        check(journal, &[(1, 1, 11)], &expect!["[] unknown 2/1 refused 1/0"]);
        check(journal, &[(2, 1, 12)], &expect!["[] unknown 2/0 refused 1/1"]);
        check(
            journal,
            &[(1, 1, 11), (1, 1, 11)],
            &expect![[r#"["doubled: message 1 user 1"] unknown 2/1 refused 1/0"#]],
        );
    }

    #[test]
    fn deleted_mail_stays_away_once_quit_was_answered() {
        let answered = "I 0 a 1,2\nA 0 3\nD 1 1 0\nQ 1\n";
        check(answered, &[(0, 2, 10)], &expect!["[] unknown 0/0 refused 0/0"]);
        check(
            answered,
            &[(0, 1, 10), (0, 2, 10)],
            &expect![[r#"["undeleted: message 0 user 1"] unknown 0/0 refused 0/0"#]],
        );
        let unanswered = "I 0 a 1\nA 0 1\nD 1 1 0\n";
        check(unanswered, &[(0, 1, 10)], &expect!["[] unknown 0/0 refused 0/0"]);
        check(unanswered, &[], &expect!["[] unknown 0/0 refused 0/0"]);
    }

    #[test]
    fn a_maildrop_that_cannot_be_read_is_not_good() {
        let verdict = judge(&Ledger::parse(TWO), &[Found::Unread { user: 1 }, Found::Foreign]);
        assert_eq!(verdict.wrong[&Wrong::Unread], 1);
        assert_eq!(verdict.wrong[&Wrong::Missing], 1);
        assert_eq!(verdict.foreign, 1);
        assert!(!verdict.is_good() && verdict.may_improve());
    }
}
