//! The scrub: everything that the log stands on is read and checked once in an interval, little by
//! little, so that damage is found while a backup, or another copy, still has what was there.
//!
//! Which segment has its turn is said by the calendar alone: the interval is divided among the
//! segments in use, by number, and starts anew with each multiple of it since 1970. So nothing has to
//! be remembered over a restart, and what comes and goes meanwhile moves turns by little. Behind the
//! last segment comes the superblock.
//!
//! ```text
//!   0 ─────────── interval ─────────── 2 × interval     calendar
//!   │ 3 │ 4 │ 7 │ 8 │ 11 │ superblock │ 3 │ 4 │ …        segments
//! ```

use super::log::Log;
use super::segments::SegmentStore;
use super::verify::Pace;
use crate::env::Env;
use crate::model::limits::{
    SCRUB_FAULTS_TOLD, SCRUB_LOOK_MAX, SCRUB_LOOK_MIN, SCRUB_OCTETS_PER_SECOND,
};
use crate::model::time::Wall;
use crate::probe::event::{Level, event};
use std::time::Duration;

/// Whose turn it is among `count`.
fn turn(now: Wall, interval: Duration, count: usize) -> usize {
    let interval = interval.as_micros().max(1);
    let phase = u128::from(now.0) % interval;
    let turn = phase * u128::try_from(count).unwrap_or(1) / interval;
    usize::try_from(turn).unwrap_or(0).min(count.saturating_sub(1))
}

impl<E: Env, S: SegmentStore> Log<E, S> {
    /// Scrubs until the log is closed; an interval of zero is never.
    pub async fn scrub(self, interval: Duration) {
        let shared = &self.shared;
        if interval.is_zero() {
            return;
        }
        // What had its turn while nobody was here has it again in the next interval.
        let mut last = self.due(interval);
        while !shared.stopping.get() {
            shared.env.sleep(self.look(interval)).await;
            // Asked anew each time: the segment whose turn it was may be gone meanwhile.
            while last != self.due(interval) && !shared.stopping.get() {
                last = self.scrub_behind(last).await;
            }
        }
    }

    /// How long until somebody else may have the turn, roughly.
    fn look(&self, interval: Duration) -> Duration {
        let turns = u32::try_from(self.segments_in_use().len() + 1).unwrap_or(u32::MAX);
        (interval / turns / 2).clamp(SCRUB_LOOK_MIN, SCRUB_LOOK_MAX)
    }

    /// The segment that has its turn; `None`: what is behind them.
    fn due(&self, interval: Duration) -> Option<u64> {
        let numbers = self.segments_in_use();
        numbers.get(turn(self.shared.env.wall(), interval, numbers.len() + 1)).copied()
    }

    /// Checks what comes behind a segment, or the first one behind the rest; what that was. One that
    /// went meanwhile is passed over.
    async fn scrub_behind(&self, last: Option<u64>) -> Option<u64> {
        let shared = &self.shared;
        let mut pace = Pace::new(SCRUB_OCTETS_PER_SECOND);
        let (findings, next) = self.verify_part(last, &mut pace).await;
        shared.stats.scrubbed_octets.add(findings.octets);
        let count = u64::try_from(findings.faults.len()).unwrap_or(u64::MAX);
        shared.stats.scrub_faults.add(count);
        if next.is_none() {
            shared.stats.scrub_rounds.add(1);
        }
        for fault in findings.faults.iter().take(SCRUB_FAULTS_TOLD) {
            let log = shared.identity.log.0;
            let fields = [("log", log.into()), ("what", fault.as_str().into())];
            event(Level::Error, "store_damaged", &fields);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_gives_each_its_turn() {
        let interval = Duration::from_secs(10);
        let at = |seconds: u64| turn(Wall(seconds * 1_000_000), interval, 5);
        let turns: Vec<usize> = (100..120).map(at).collect();
        assert_eq!(turns, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(turn(Wall(u64::MAX), interval, 0), 0);
    }
}
