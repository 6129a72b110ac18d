//! How far a long command is, what it left out, and what came of it.

use super::{Failure, show};
use std::io::Write;
use std::time::Duration;

/// How often the operator is told how far it is.
const TELL_PAUSE: Duration = Duration::from_secs(2);

pub(super) use self::clock::Clock;

/// Time by the machine's clock: the command belongs to no shard.
#[expect(clippy::disallowed_types, reason = "there is no Env to ask in a command")]
mod clock {
    use std::time::{Duration, Instant};

    #[derive(Clone, Copy)]
    pub(in super::super) struct Clock(Instant);

    impl Clock {
        pub(in super::super) fn begin() -> Clock {
            Clock(Instant::now())
        }

        pub(in super::super) fn age(self) -> Duration {
            self.0.elapsed()
        }
    }
}

/// Messages of a folder, and those of them that are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(u64, u64);

/// See the header.
pub(super) struct Report {
    clock: Clock,
    /// What became of the messages, in a word.
    what: &'static str,
    told_at: Duration,
    /// The folder at hand.
    folder: Tally,
    folders: u64,
    messages: u64,
    octets: u64,
    skipped: u64,
    changed: u64,
    removed: u64,
    left_out: u64,
    lost: u64,
    notes: u64,
}

impl Report {
    pub(super) fn new(clock: Clock, what: &'static str) -> Report {
        Report {
            clock,
            what,
            told_at: Duration::ZERO,
            folder: Tally::default(),
            folders: 0,
            messages: 0,
            octets: 0,
            skipped: 0,
            changed: 0,
            removed: 0,
            left_out: 0,
            lost: 0,
            notes: 0,
        }
    }

    /// Another folder begins, of so many messages.
    pub(super) fn folder(&mut self, messages: u64) {
        self.folders += 1;
        self.folder = Tally(messages, 0);
    }

    /// How far the folder at hand is, for [`Report::go_on`].
    pub(super) fn tally(&self) -> Tally {
        self.folder
    }

    /// Another folder is at hand again.
    pub(super) fn go_on(&mut self, tally: Tally) {
        self.folder = tally;
    }

    /// Messages were there, and got other flags.
    pub(super) fn change(&mut self, count: u64) {
        self.changed += count;
    }

    /// Messages were there, and went.
    pub(super) fn remove(&mut self, count: u64) {
        self.removed += count;
    }

    /// Messages are done, and nothing came of them.
    pub(super) fn pass(&mut self, count: u64) {
        self.folder.1 += count;
    }

    /// Messages that are there already.
    pub(super) fn skip(&mut self, count: u64) {
        self.skipped += count;
        self.folder.1 += count;
    }

    /// Messages are done, of so many octets.
    pub(super) fn take(
        &mut self,
        name: &str,
        count: u64,
        octets: u64,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.messages += count;
        self.octets += octets;
        self.folder.1 += count;
        let age = self.clock.age();
        if age.saturating_sub(self.told_at) >= TELL_PAUSE {
            self.told_at = age;
            let Tally(all, done) = self.folder;
            let (rate, octets) = (rate(self.messages, age), rate(self.octets, age) >> 10);
            let name = show::visible(name);
            writeln!(err, "{name}: {done} of {all} messages, {rate} a second, {octets} KiB/s")?;
        }
        Ok(())
    }

    /// Messages that stay where they are, and why.
    pub(super) fn leave_out(
        &mut self,
        name: &str,
        count: u64,
        why: &str,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.left_out += count;
        self.folder.1 += count;
        Ok(writeln!(err, "{}: left out: {}", show::visible(name), show::visible(why))?)
    }

    /// Something about messages is not kept.
    pub(super) fn lose(
        &mut self,
        name: &str,
        what: &str,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.lost += 1;
        self.note(name, what, err)
    }

    /// Something that the operator should know.
    pub(super) fn note(
        &mut self,
        name: &str,
        what: &str,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.notes += 1;
        Ok(writeln!(err, "{}: note: {}", show::visible(name), show::visible(what))?)
    }

    /// What came of it. A [`Failure`] if anything was left out.
    pub(super) fn show(&self, as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let age = self.clock.age();
        let rate = rate(self.messages, age);
        if as_json {
            let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let row = serde_json::json!({
                "folders": self.folders,
                "messages": self.messages,
                "octets": self.octets,
                "skipped": self.skipped,
                "changed": self.changed,
                "removed": self.removed,
                "left_out": self.left_out,
                "keywords_lost": self.lost,
                "notes": self.notes,
                "milliseconds": millis,
                "messages_per_second": rate,
            });
            show::json(&row, out)?;
        } else {
            writeln!(
                out,
                "{} messages of {} folders {} ({rate} a second), {} were there already, {} left out",
                self.messages, self.folders, self.what, self.skipped, self.left_out
            )?;
            if self.changed + self.removed > 0 {
                writeln!(out, "{} got other flags, {} were removed", self.changed, self.removed)?;
            }
        }
        if self.left_out + self.lost > 0 { Err(Failure::Failed(String::new())) } else { Ok(()) }
    }
}

fn rate(messages: u64, age: Duration) -> u64 {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
    messages.saturating_mul(1_000) / millis
}
