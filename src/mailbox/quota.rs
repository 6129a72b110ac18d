//! How much an account may keep, and what that means for a delivery.

use crate::model::reply::{Class, Enhanced};

/// The most that an account may keep. The numbers come from the directory with each delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub octets: u64,
    pub messages: u64,
}

impl Quota {
    /// No bound, also for mail that was promised already.
    pub const NONE: Quota = Quota { octets: u64::MAX, messages: u64::MAX };
}

/// What an account keeps, or is about to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub octets: u64,
    pub messages: u64,
}

/// Why an account does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Full, until something is removed.
    Full,
    /// Not full yet, but this message would be too much.
    Tight,
    /// Larger than all that the account may keep.
    NeverFits,
    /// Deleted.
    Closed,
    /// One of the others was deleted, and one answer has to do for all: the sender is to come back,
    /// and hears at RCPT who it was.
    Parted,
    /// Whoever has the account cannot be asked now.
    Unasked,
    /// The mailbox has given away its last UID.
    Exhausted,
}

impl Refused {
    /// For the peer: class, enhanced code (RFC 3463 §3.3), text.
    pub fn reply(self) -> (Class, Enhanced, &'static str) {
        match self {
            Refused::Full | Refused::Tight => (Class::Transient, Enhanced(2, 2), "mailbox full"),
            Refused::NeverFits => {
                (Class::Permanent, Enhanced(2, 2), "message is larger than the mailbox may be")
            }
            Refused::Closed => (Class::Permanent, Enhanced(1, 1), "no such user here any more"),
            Refused::Parted => {
                (Class::Transient, Enhanced(3, 0), "a recipient is gone, send to the others again")
            }
            Refused::Unasked => {
                (Class::Transient, Enhanced(3, 1), "system is full, try again later")
            }
            Refused::Exhausted => (Class::Transient, Enhanced(2, 0), "mailbox has no UID left"),
        }
    }
}

impl Usage {
    /// Whether one message of `size` octets more is within `quota`.
    pub(super) fn room(self, quota: Quota, size: u32) -> Result<(), Refused> {
        let size = u64::from(size);
        if size > quota.octets || quota.messages == 0 {
            return Err(Refused::NeverFits);
        }
        let is_over = self.octets >= quota.octets && quota.octets != Quota::NONE.octets;
        if is_over || self.messages >= quota.messages {
            return Err(Refused::Full);
        }
        if self.octets.saturating_add(size) > quota.octets {
            return Err(Refused::Tight);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(usage: (u64, u64), quota: (u64, u64), size: u32, want: Result<(), Refused>) {
        let usage = Usage { octets: usage.0, messages: usage.1 };
        assert_eq!(usage.room(Quota { octets: quota.0, messages: quota.1 }, size), want);
    }

    #[test]
    fn takes_what_just_fits_and_refuses_one_more() {
        check((90, 1), (100, 9), 10, Ok(()));
        check((90, 1), (100, 9), 11, Err(Refused::Tight));
        check((100, 1), (100, 9), 0, Err(Refused::Full));
        check((150, 1), (100, 9), 1, Err(Refused::Full));
        check((90, 1), (100, 9), 101, Err(Refused::NeverFits));
        check((90, 9), (100, 9), 1, Err(Refused::Full));
        check((0, 0), (100, 0), 1, Err(Refused::NeverFits));
        check((u64::MAX, 5), (u64::MAX, u64::MAX), 1, Ok(()));
    }
}
