//! How much each account may send: messages and recipients an hour and a day.
//!
//! The shard that owns an account counts for it, whichever shard its sessions are on. A count is one
//! moment: when all that was sent will be forgotten. Each message moves it on by its share of the
//! time, and may not move it further than the whole time ahead of now (the generic cell rate
//! algorithm). So an account may send its whole allowance at once, and the next message as soon as
//! one share of the time is over; and who sends little is forgotten soon.
//!
//! Invariants:
//!   - what is refused counts for nothing, but where the answer came too late
//!   - accounts that are remembered: no more than [`SUBMITTERS_MAX`]

use crate::bytes::hash::Map;
use crate::model::id::AccountId;
use crate::model::limits::SUBMITTERS_MAX;
use crate::model::time::Mono;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What the operator allows each account; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub messages_an_hour: u32,
    pub messages_a_day: u32,
    pub recipients_an_hour: u32,
    pub recipients_a_day: u32,
}

/// What was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    Messages,
    Recipients,
    /// One message has more recipients than may ever be sent to at once.
    Never,
    /// So many accounts send that this one cannot be counted.
    Crowded,
    /// The shard that counts for the account did not answer in time. It may count the message all the
    /// same.
    Unasked,
}

impl Exceeded {
    /// As the log says it.
    pub fn name(self) -> &'static str {
        match self {
            Exceeded::Messages => "messages",
            Exceeded::Recipients => "recipients",
            Exceeded::Never => "recipients_of_one_message",
            Exceeded::Crowded => "accounts",
            Exceeded::Unasked => "unasked",
        }
    }
}

/// The counts of one account: messages by hour and day, recipients by hour and day.
type Counts = [Mono; 4];

/// The counts of one shard's accounts.
#[derive(Debug, Default)]
pub struct Allowances {
    by_account: Map<AccountId, Counts>,
}

impl Allowances {
    /// Counts one message to so many recipients, if the account may send it now.
    pub fn take(
        &mut self,
        account: AccountId,
        recipients: u32,
        rates: Rates,
        now: Mono,
    ) -> Result<(), Exceeded> {
        let counts = self.by_account.get(&account).copied().unwrap_or([Mono::default(); 4]);
        let limits = [
            (rates.messages_an_hour, HOUR, 1, Exceeded::Messages),
            (rates.messages_a_day, DAY, 1, Exceeded::Messages),
            (rates.recipients_an_hour, HOUR, recipients, Exceeded::Recipients),
            (rates.recipients_a_day, DAY, recipients, Exceeded::Recipients),
        ];
        let mut moved = counts;
        for (count, (limit, time, number, exceeded)) in moved.iter_mut().zip(limits) {
            if limit == 0 {
                continue;
            }
            if number > limit {
                return Err(Exceeded::Never);
            }
            let next = (*count).max(now).after(time / limit * number);
            if next > now.after(time) {
                return Err(exceeded);
            }
            *count = next;
        }
        if moved == counts {
            return Ok(());
        }
        if self.by_account.len() >= SUBMITTERS_MAX && !self.by_account.contains_key(&account) {
            // Whose counts lie behind is as if it had never sent.
            self.by_account.retain(|_, counts| counts.iter().any(|count| *count > now));
            if self.by_account.len() >= SUBMITTERS_MAX {
                return Err(Exceeded::Crowded);
            }
        }
        self.by_account.insert(account, moved);
        Ok(())
    }

    /// Accounts that are remembered.
    pub fn len(&self) -> usize {
        self.by_account.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_account.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: AccountId = AccountId(1);

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(100_000 + seconds))
    }

    fn rates(messages_an_hour: u32, recipients_a_day: u32) -> Rates {
        Rates { messages_an_hour, recipients_a_day, ..Rates::default() }
    }

    #[test]
    fn lets_the_whole_allowance_go_at_once_and_then_a_share_at_a_time() {
        let mut allowances = Allowances::default();
        let mut take = |seconds| allowances.take(ANN, 1, rates(4, 0), at(seconds));
        for _ in 0..4 {
            assert_eq!(take(0), Ok(()));
        }
        assert_eq!(take(0), Err(Exceeded::Messages));
        assert_eq!(take(899), Err(Exceeded::Messages));
        assert_eq!(take(900), Ok(()));
        assert_eq!(take(901), Err(Exceeded::Messages));
        // A quiet hour gives all of it back, and no more than that.
        for _ in 0..4 {
            assert_eq!(take(10_000), Ok(()));
        }
        assert_eq!(take(10_000), Err(Exceeded::Messages));
    }

    #[test]
    fn counts_recipients_and_forgets_what_was_refused() {
        let mut allowances = Allowances::default();
        let mut take = |recipients| allowances.take(ANN, recipients, rates(0, 100), at(0));
        assert_eq!(take(101), Err(Exceeded::Never));
        assert_eq!(take(60), Ok(()));
        assert_eq!(take(41), Err(Exceeded::Recipients));
        assert_eq!(take(40), Ok(()));
        assert_eq!(take(1), Err(Exceeded::Recipients));
        let other = allowances.take(AccountId(2), 100, rates(0, 100), at(0));
        assert_eq!(other, Ok(()), "each account has its own");
    }

    #[test]
    fn remembers_nothing_where_nothing_is_bounded() {
        let mut allowances = Allowances::default();
        assert_eq!(allowances.take(ANN, u32::MAX, Rates::default(), at(0)), Ok(()));
        assert!(allowances.is_empty());
    }

    #[test]
    fn remembers_so_many_and_forgets_those_who_may_send_all_again() {
        let mut allowances = Allowances::default();
        for account in 0..u32::try_from(SUBMITTERS_MAX).unwrap() {
            allowances.take(AccountId(account), 1, rates(3_600, 0), at(0)).unwrap();
        }
        let mut more =
            |seconds| allowances.take(AccountId(u32::MAX), 1, rates(3_600, 0), at(seconds));
        assert_eq!(more(0), Err(Exceeded::Crowded));
        assert_eq!(more(1), Ok(()));
        assert_eq!(allowances.len(), 1);
    }
}
