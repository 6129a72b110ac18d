//! Identities, one newtype each, so that a mailbox is never taken for an account.

use std::fmt;

/// Declares a number that names one kind of thing.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id!(
    /// An account of the directory. Given once, from 1, and never used again.
    AccountId(u32)
);
id!(
    /// A mailbox (folder) within one account. Given once, from 1; 1 is INBOX.
    MailboxId(u32)
);
id!(
    /// A blob within its log. Given once, from 1, in the order of the log.
    BlobId(u64)
);
id!(
    /// One executor, from 0. Several may share a core.
    ShardId(u16)
);
id!(
    /// One log (store.md calls it vlog), from 0. Shard `n` owns log `n`.
    LogId(u16)
);
id!(
    /// The position of a batch in its log: the batch number, from 1, without gaps.
    Lsn(u64)
);
id!(
    /// A message's unique identifier within its mailbox (RFC 9051 §2.3.1.1); from 1.
    Uid(u32)
);
id!(
    /// Which generation of UIDs a mailbox hands out (RFC 9051 §2.3.1.1).
    UidValidity(u32)
);
id!(
    /// An account's change counter (RFC 7162 §3.1); from 1.
    ModSeq(u64)
);

/// How many slots the accounts hash into; a slot belongs to one log (store.md 3.1).
pub const SLOT_COUNT: u16 = 16_384;

impl AccountId {
    /// The slot of this account. A multiplicative hash: accounts are numbered densely.
    pub fn slot(self) -> u16 {
        // 2^32 / the golden ratio; the upper bits are the well-mixed ones.
        let mixed = self.0.wrapping_mul(0x9E37_79B1);
        u16::try_from(mixed >> 18).expect("32 - 18 bits fit in 14")
    }

    /// The log in which this account lies if nothing else is known of it, in a store that was made
    /// with so many logs: so were accounts placed before their users' records said where they lie.
    pub fn log(self, first_logs: u16) -> LogId {
        LogId(self.slot() % first_logs.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_dense_accounts_evenly_over_logs() {
        let mut counts = [0_u32; 8];
        for account in 1..=8_000 {
            counts[usize::from(AccountId(account).log(8).0)] += 1;
        }
        assert!(counts.iter().all(|&count| (900..=1_100).contains(&count)), "{counts:?}");
    }

    /// Mail lies where this says, so it never changes.
    #[test]
    fn gives_accounts_to_these_logs_for_ever() {
        let slots: Vec<u16> = [1, 2, 3, 8, 1_000, u32::MAX].map(|one| AccountId(one).slot()).into();
        assert_eq!(slots, [10_125, 3_867, 13_993, 15_470, 556, 6_258]);
        let logs: Vec<u16> = (1..=10).map(|one| AccountId(one).log(2).0).collect();
        assert_eq!(logs, [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn keeps_slots_within_the_table() {
        assert!((0..100_000).all(|account| AccountId(account).slot() < SLOT_COUNT));
    }
}
