//! What the relay of a shard counts: as a whole, and by classes of sites.
//!
//! A class is what one `[[site]]` is for, by its pattern; what none is for is `other`. The names are those
//! of the start: what a `[[site]]` is for that came by a reload counts as `other` until the next one.

use super::conclude::End;
use crate::bytes::hash::Sorted;
use crate::probe::Set;
use crate::queue::outgoing::Fate;

crate::figures! {
    /// What the relay of one shard counts.
    pub struct Figures {
        /// Entries of outgoing mail.
        pub entries: Gauge = "pombal_queue_entries",
        /// Recipients that are still to be tried.
        pub recipients: Gauge = "pombal_queue_recipients",
        /// Entries that an operator holds.
        pub held: Gauge = "pombal_queue_held",
        /// Entries that are due and wait for their turn.
        pub ready: Gauge = "pombal_queue_ready",
        /// Workers: connections to other servers, and what is being looked up for them.
        pub workers: Gauge = "pombal_queue_workers",
        /// Connections to other servers that were made.
        pub connected: Counter = "pombal_queue_connections_total",
        /// Destinations that could not be reached by any of their servers.
        pub unreachable: Counter = "pombal_queue_unreachable_total",
        /// Recipients that another server took.
        pub delivered: Counter = "pombal_queue_delivered_total",
        /// Recipients that are to be tried again.
        pub deferred: Counter = "pombal_queue_deferred_total",
        /// Recipients that were refused for good.
        pub failed: Counter = "pombal_queue_failed_total",
        /// Recipients that were tried for too long.
        pub expired: Counter = "pombal_queue_expired_total",
        /// Reports to senders.
        pub reports: Counter = "pombal_queue_reports_total",
        /// Reports that nobody can be given (double bounces).
        pub reports_lost: Counter = "pombal_queue_reports_lost_total",
        /// Entries whose moment passed without anything having happened: a fault of ours.
        pub overdue: Counter = "pombal_queue_overdue_total",
        /// Attempts that broke off: faults of ours.
        pub broken: Counter = "pombal_queue_broken_off_total",
    }
}

crate::figures! {
    /// What the relay of one shard counts for one class of sites.
    pub(super) struct OfClass {
        /// Connections that were made to servers of the class.
        pub connected: Counter = "pombal_queue_site_connections_total",
        /// Destinations of the class that could not be reached by any of their servers.
        pub unreachable: Counter = "pombal_queue_site_unreachable_total",
        /// Recipients that a server of the class took.
        pub delivered: Counter = "pombal_queue_site_delivered_total",
        /// Recipients that one put off.
        pub deferred: Counter = "pombal_queue_site_deferred_total",
        /// Recipients that one refused for good.
        pub failed: Counter = "pombal_queue_site_failed_total",
    }
}

impl OfClass {
    /// What a server of the class made of some recipients.
    pub(super) fn count(&self, ends: &[End]) {
        for end in ends {
            match end.fate {
                Fate::Waiting => self.deferred.one(),
                Fate::Delivered | Fate::Relayed => self.delivered.one(),
                Fate::Failed => self.failed.one(),
                Fate::Expired | Fate::Removed => {}
            }
        }
    }
}

/// See the header.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub all: Figures,
    classes: Sorted<Box<str>, OfClass>,
    others: OfClass,
}

impl Counts {
    /// Makes all of it known in the set of `shard`. `patterns` are those of the sites that have a class.
    pub fn register<'p>(
        set: &mut Set,
        shard: &str,
        patterns: impl Iterator<Item = &'p str>,
    ) -> Counts {
        let all = Figures::register(set, &[("shard", shard)]);
        let mut of = |class: &str| OfClass::register(set, &[("shard", shard), ("class", class)]);
        let others = of("other");
        let mut classes = Sorted::new();
        for pattern in patterns {
            classes.entry(pattern.into()).or_insert_with(|| of(pattern));
        }
        Counts { all, classes, others }
    }

    /// Of the class that a pattern stands for; none: of all others.
    pub(super) fn class(&self, pattern: Option<&str>) -> OfClass {
        pattern.and_then(|pattern| self.classes.get(pattern)).unwrap_or(&self.others).clone()
    }
}
