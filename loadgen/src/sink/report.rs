//! What a sink has seen, as a table or as one JSON object.

use pombal::bytes::hash::Sorted;
use serde::Serialize;

use super::desk::Counts;
use super::keeper::{Answers, Doubled, Keeper};
use crate::measure::table::{Table, figure, grouped};
use crate::values::float;

#[derive(Debug, Serialize)]
pub(crate) struct SinkReport {
    work: &'static str,
    pub(crate) messages: u64,
    recipients: u64,
    octets: u64,
    /// From the first message to the last.
    seconds: f64,
    messages_per_second: f64,
    connections: u64,
    turned_away: u64,
    not_accepted: u64,
    timeouts: u64,
    encrypted: u64,
    handshakes_failed: u64,
    /// Messages without a mark of this tool; reports left out.
    foreign: u64,
    changed: u64,
    doubled: Doubled,
    answers: Answers,
    /// What reports (RFC 3464) told of recipients.
    told: Sorted<&'static str, u64>,
    replies: Sorted<&'static str, Sorted<u16, u64>>,
    /// What was done to connections on purpose.
    failings: Sorted<&'static str, Sorted<&'static str, u64>>,
    /// What clients did that they should not have done.
    faults: Sorted<&'static str, u64>,
    /// Messages by the first address of each site.
    sites: Sorted<String, u64>,
    notes: Vec<String>,
}

impl SinkReport {
    /// `sites` are the first addresses of all sites.
    pub(crate) fn new(keeper: &Keeper, sites: &[String]) -> SinkReport {
        let Counts { replies, failings, faults, .. } = &keeper.counts;
        let counts = &keeper.counts;
        let span_us = keeper.first_us.map_or(0, |first| keeper.last_us.saturating_sub(first));
        let seconds = float(span_us) / 1e6;
        let mut by_stage: Sorted<&'static str, Sorted<u16, u64>> = Sorted::new();
        for ((stage, code), count) in replies {
            by_stage.entry(stage.label()).or_default().insert(*code, *count);
        }
        let mut failed: Sorted<&'static str, Sorted<&'static str, u64>> = Sorted::new();
        for ((stage, how), count) in failings {
            failed.entry(stage.label()).or_default().insert(how, *count);
        }
        let mut notes: Vec<String> = keeper.journal_failed().into_iter().collect();
        if keeper.is_blind {
            notes.push(
                "more messages came than are remembered: not all duplicates are found".into(),
            );
        }
        SinkReport {
            work: "sink",
            messages: counts.messages,
            recipients: counts.recipients,
            octets: counts.octets,
            seconds,
            messages_per_second: if span_us > 0 { float(counts.messages) / seconds } else { 0.0 },
            connections: counts.connections,
            turned_away: counts.turned_away,
            not_accepted: counts.not_accepted,
            timeouts: counts.timeouts,
            encrypted: counts.encrypted,
            handshakes_failed: counts.handshakes_failed,
            foreign: keeper.foreign,
            changed: keeper.changed,
            doubled: keeper.doubled(),
            answers: keeper.answers,
            told: keeper.told.iter().map(|(action, count)| (action.label(), *count)).collect(),
            replies: by_stage,
            failings: failed,
            faults: faults.clone(),
            sites: counts
                .sites
                .iter()
                .filter_map(|(site, count)| Some((sites.get(*site)?.clone(), *count)))
                .collect(),
            notes,
        }
    }

    /// Nothing came that should not have come.
    pub(crate) fn is_good(&self) -> bool {
        self.changed == 0
            && self.doubled.answer_heard == 0
            && self.faults.is_empty()
            && self.notes.is_empty()
    }

    /// Figures for people, or one line of JSON.
    pub(crate) fn show(&self, json: bool) -> String {
        if json { crate::json_line(self) } else { self.table() }
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::default();
        let mut row = |name: &str, count: u64| {
            if count > 0 {
                table.row(name, grouped(count));
            }
        };
        row("messages taken", self.messages);
        row("recipients", self.recipients);
        row("connections", self.connections);
        row("turned away", self.turned_away);
        row("not accepted", self.not_accepted);
        row("timeouts", self.timeouts);
        row("encrypted", self.encrypted);
        row("handshakes failed", self.handshakes_failed);
        row("without a mark", self.foreign);
        row("CHANGED", self.changed);
        row("doubled, answer lost", self.doubled.answer_lost);
        row("doubled, then broke off", self.doubled.broke_off);
        row("DOUBLED, answer heard", self.doubled.answer_heard);
        row("answers not heard", self.answers.unheard);
        row("answers lost", self.answers.lost);
        table.row("seconds", format!("{:.3}", self.seconds));
        table.row("rate", format!("{} msg/s", figure(self.messages_per_second)));
        table.gap();
        for (action, count) in &self.told {
            table.row(format!("reported {action}"), grouped(*count));
        }
        for (stage, codes) in &self.replies {
            let codes: Vec<String> =
                codes.iter().map(|(code, count)| format!("{code}: {}", grouped(*count))).collect();
            table.row(format!("answers at {stage}"), codes.join("  "));
        }
        for (stage, kinds) in &self.failings {
            let kinds: Vec<String> =
                kinds.iter().map(|(kind, count)| format!("{kind}: {}", grouped(*count))).collect();
            table.row(format!("failings at {stage}"), kinds.join("  "));
        }
        for (fault, count) in &self.faults {
            table.row(format!("fault: {fault}"), grouped(*count));
        }
        for (site, count) in self.sites.iter().filter(|_| self.sites.len() > 1) {
            table.row(format!("at {site}"), grouped(*count));
        }
        for note in &self.notes {
            table.row("note", note);
        }
        table.show()
    }
}
