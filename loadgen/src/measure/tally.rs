//! What the sessions of one thread counted; parts add up to a whole.
//!
//! A thread hands its tally over a few times a second and begins a new one, so that nothing is
//! shared and no lock stands in the measured path.

use hdrhistogram::Histogram;
use pombal::bytes::hash::Sorted;

use crate::wire::link::Trouble;

/// Latencies are kept from one microsecond to an hour, with three digits.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Which command a reply answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Data,
    /// The reply to the message itself.
    Message,
    Login,
    Stat,
    List,
    Retr,
    Dele,
    Quit,
    Select,
    Fetch,
    Store,
    Search,
    Sort,
    Thread,
    Append,
    Copy,
    Move,
    Expunge,
    Idle,
    /// The time until a watcher saw what was appended.
    Seen,
    Status,
    Noop,
    Logout,
    /// CAPABILITY, ID, NAMESPACE, ENABLE.
    Other,
}

impl Stage {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Stage::Greeting => "greeting",
            Stage::Hello => "hello",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Data => "data",
            Stage::Message => "message",
            Stage::Login => "login",
            Stage::Stat => "stat",
            Stage::List => "list",
            Stage::Retr => "retr",
            Stage::Dele => "dele",
            Stage::Quit => "quit",
            Stage::Select => "select",
            Stage::Fetch => "fetch",
            Stage::Store => "store",
            Stage::Search => "search",
            Stage::Sort => "sort",
            Stage::Thread => "thread",
            Stage::Append => "append",
            Stage::Copy => "copy",
            Stage::Move => "move",
            Stage::Expunge => "expunge",
            Stage::Idle => "idle",
            Stage::Seen => "seen",
            Stage::Status => "status",
            Stage::Noop => "noop",
            Stage::Logout => "logout",
            Stage::Other => "other",
        }
    }
}

/// A reply as it is counted: SMTP by its code, POP3 and IMAP by the numbers below.
pub(crate) type Answer = (Stage, u16);

/// Stands for `+OK`; no SMTP reply has this code.
pub(crate) const POP3_OK: u16 = 1;
/// Stands for `-ERR`; no SMTP reply has this code.
pub(crate) const POP3_ERR: u16 = 999;
/// Stands for IMAP's `OK`.
pub(crate) const IMAP_OK: u16 = 2;
/// Stands for IMAP's `NO`.
pub(crate) const IMAP_NO: u16 = 997;
/// Stands for IMAP's `BAD`.
pub(crate) const IMAP_BAD: u16 = 998;

/// Counts of one thread, of one second or of the whole run.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Messages (IMAP: operations) that were answered as they should.
    pub(crate) messages: u64,
    /// Octets of those messages, as they are on the wire without stuffing.
    pub(crate) octets: u64,
    /// Recipients that were answered with success.
    pub(crate) recipients: u64,
    /// Connections made.
    pub(crate) connections: u64,
    /// Messages that were answered with a refusal.
    pub(crate) refused: u64,
    /// FETCH responses of IMAP.
    pub(crate) fetched: u64,
    pub(crate) latency: Histogram<u64>,
    /// IMAP commands one by one, with two digits.
    pub(crate) commands: Sorted<Stage, Histogram<u64>>,
    /// Whole POP3 sessions, login to QUIT.
    pub(crate) session: Histogram<u64>,
    pub(crate) replies: Sorted<Answer, u64>,
    /// The first text seen of each reply that is not positive.
    pub(crate) texts: Sorted<Answer, String>,
    pub(crate) troubles: Sorted<Trouble, u64>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            messages: 0,
            octets: 0,
            recipients: 0,
            connections: 0,
            refused: 0,
            fetched: 0,
            latency: histogram(3),
            commands: Sorted::new(),
            session: histogram(3),
            replies: Sorted::new(),
            texts: Sorted::new(),
            troubles: Sorted::new(),
        }
    }

    /// One message that went through.
    pub(crate) fn message(&mut self, octets: u64, latency_ns: u64) {
        self.messages += 1;
        self.octets += octets;
        self.latency.saturating_record(latency_ns.max(LATENCY_NS_MIN));
    }

    /// One IMAP command that was answered.
    pub(crate) fn command(&mut self, stage: Stage, latency_ns: u64) {
        let commands = self.commands.entry(stage).or_insert_with(|| histogram(2));
        commands.saturating_record(latency_ns.max(LATENCY_NS_MIN));
    }

    pub(crate) fn whole_session(&mut self, latency_ns: u64) {
        self.session.saturating_record(latency_ns.max(LATENCY_NS_MIN));
    }

    pub(crate) fn reply(&mut self, stage: Stage, code: u16) {
        *self.replies.entry((stage, code)).or_default() += 1;
    }

    /// Keeps the text of a reply that a person will ask about.
    pub(crate) fn text(&mut self, stage: Stage, code: u16, text: impl FnOnce() -> String) {
        self.texts.entry((stage, code)).or_insert_with(text);
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble) {
        *self.troubles.entry(trouble).or_default() += 1;
    }

    /// Everything that was not asked for: refusals, troubles, and negative replies.
    pub(crate) fn errors(&self) -> u64 {
        let replies: u64 =
            self.replies.iter().filter(|((_, code), _)| *code >= 400).map(|(_, count)| count).sum();
        replies + self.troubles.values().sum::<u64>()
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        self.messages += other.messages;
        self.octets += other.octets;
        self.recipients += other.recipients;
        self.connections += other.connections;
        self.refused += other.refused;
        self.fetched += other.fetched;
        for (stage, part) in &other.commands {
            let whole = self.commands.entry(*stage).or_insert_with(|| histogram(2));
            whole.add(part).expect("all tallies have the same bounds");
        }
        self.latency.add(&other.latency).expect("all tallies have the same bounds");
        self.session.add(&other.session).expect("all tallies have the same bounds");
        for (answer, count) in &other.replies {
            *self.replies.entry(*answer).or_default() += count;
        }
        for (answer, text) in &other.texts {
            self.texts.entry(*answer).or_insert_with(|| text.clone());
        }
        for (trouble, count) in &other.troubles {
            *self.troubles.entry(*trouble).or_default() += count;
        }
    }
}

/// For latencies, with so many digits.
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, digits)
        .expect("the bounds are constants that fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut first, mut second) = (Tally::new(), Tally::new());
        first.message(100, 5_000);
        first.reply(Stage::Message, 250);
        second.message(50, 9_000_000);
        second.reply(Stage::Message, 250);
        second.reply(Stage::Rcpt, 450);
        second.text(Stage::Rcpt, 450, || "450 later".into());
        second.trouble(Trouble::Closed);
        first.add(&second);
        assert_eq!((first.messages, first.octets, first.errors()), (2, 150, 2));
        assert_eq!(first.replies[&(Stage::Message, 250)], 2);
        assert_eq!(first.texts[&(Stage::Rcpt, 450)], "450 later");
        assert_eq!(first.latency.len(), 2);
    }

    #[test]
    fn latencies_out_of_bounds_are_kept_at_the_bounds() {
        let mut tally = Tally::new();
        tally.message(1, 0);
        tally.message(1, u64::MAX);
        assert_eq!(tally.latency.len(), 2);
    }
}
