//! What a relay did with what it said 250 to.

use hdrhistogram::Histogram;
use pombal::bytes::hash::{Set, Sorted};
use serde::Serialize;

use super::domains::Class;
use super::ledger::{Fate, Ledger};
use crate::measure::report::Quantiles;
use crate::measure::table::{Table, figure, grouped};
use crate::measure::tally::histogram;
use crate::sink::keeper::{Doubled, Keeper};
use crate::values::{float, to_u64};

/// Findings that are shown one by one.
const FINDINGS_MAX: usize = 20;

/// Recipients of one class of domains.
#[derive(Debug, Default, Serialize)]
struct Of {
    /// Recipients that were answered with 250.
    acknowledged: u64,
    arrived: u64,
    bounced: u64,
    /// Found in the server's queue.
    queued: u64,
    /// Of a dead domain, and nobody looked into the queue.
    waiting: u64,
    missing: u64,
    /// From the start of the run to the last arrival.
    seconds: f64,
    /// From the 250 to the arrival.
    latency: Option<Quantiles>,
    /// From the 250 to the report.
    bounce_latency: Option<Quantiles>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    acknowledged: u64,
    arrived: u64,
    bounced: u64,
    queued: u64,
    waiting: u64,
    missing: u64,
    /// Arrived, and reported as failed.
    both: u64,
    /// Reported as failed more than once.
    told_twice: u64,
    refused: u64,
    /// Refused, and arrived.
    refused_arrived: u64,
    /// Messages that were not answered, and taken for some of their recipients alone.
    torn: u64,
    /// Neither 250 nor a refusal was heard.
    unknown: u64,
    unknown_arrived: u64,
    never_sent: u64,
    changed: u64,
    doubled: Doubled,
    told_late: u64,
    /// From the start to the last arrival.
    seconds: f64,
    arrived_per_second: f64,
    latency: Option<Quantiles>,
    classes: Sorted<&'static str, Of>,
    /// The first ones.
    findings: Vec<String>,
}

/// A verdict in the making.
struct Reckoning<'a> {
    /// The recipients in the server's queue, where somebody looked.
    queued: Option<&'a Set<(u64, u64)>>,
    classes: [Of; 5],
    /// Arrivals and bounces of each class.
    times: [(Histogram<u64>, Histogram<u64>); 5],
    both: u64,
    refused: u64,
    refused_arrived: u64,
    unknown: u64,
    unknown_arrived: u64,
    start_us: u64,
    findings: Vec<String>,
}

impl Reckoning<'_> {
    fn take(&mut self, fate: &Fate) {
        let Some(since_us) = fate.acknowledged_us else {
            self.refused += u64::from(fate.is_refused);
            self.refused_arrived += u64::from(fate.is_refused && fate.arrived_us.is_some());
            self.unknown += u64::from(!fate.is_refused);
            self.unknown_arrived += u64::from(!fate.is_refused && fate.arrived_us.is_some());
            return;
        };
        let of = &mut self.classes[fate.class as usize];
        let (arrivals, bounces) = &mut self.times[fate.class as usize];
        of.acknowledged += 1;
        let since_start_us = fate.arrived_us.unwrap_or(0).saturating_sub(self.start_us);
        of.seconds = of.seconds.max(float(since_start_us) / 1e6);
        let record = |histogram: &mut Histogram<u64>, at_us: u64| {
            histogram.saturating_record(at_us.saturating_sub(since_us) * 1_000);
        };
        if let Some(at_us) = fate.arrived_us {
            of.arrived += 1;
            record(arrivals, at_us);
        }
        if let Some(at_us) = fate.bounced_us {
            of.bounced += 1;
            record(bounces, at_us);
        }
        match (fate.arrived_us, fate.bounced_us) {
            (Some(_), Some(_)) => {
                self.both += 1;
                self.find("arrived and bounced", fate.seq, fate.slot);
            }
            (None, None) => match self.queued {
                Some(queued) if queued.contains(&(fate.seq, fate.slot)) => of.queued += 1,
                None if fate.class == Class::Dead => of.waiting += 1,
                _ => {
                    of.missing += 1;
                    self.find("missing", fate.seq, fate.slot);
                }
            },
            _ => {}
        }
    }

    fn find(&mut self, what: &str, seq: u64, slot: u64) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!("{what}: message {seq} recipient {slot}"));
        }
    }
}

impl Verdict {
    /// `queued` are the recipients in the server's queue, where somebody looked; the run began
    /// at `start_us`.
    pub(crate) fn new(
        ledger: &Ledger,
        keeper: &Keeper,
        queued: Option<&Set<(u64, u64)>>,
        start_us: u64,
    ) -> Verdict {
        let mut reckoning = Reckoning {
            queued,
            classes: Default::default(),
            times: Class::ALL.map(|_| (histogram(3), histogram(3))),
            both: 0,
            refused: 0,
            refused_arrived: 0,
            unknown: 0,
            unknown_arrived: 0,
            start_us,
            findings: Vec::new(),
        };
        ledger.each(|fate| reckoning.take(fate));
        let torn = ledger.torn(queued);
        for (seq, slot) in &torn {
            reckoning.find("taken for some alone, not", *seq, *slot);
        }
        let mut latency = histogram(3);
        for (of, (arrivals, bounces)) in reckoning.classes.iter_mut().zip(&reckoning.times) {
            latency.add(arrivals).expect("all histograms have the same bounds");
            (of.latency, of.bounce_latency) = (Quantiles::of(arrivals), Quantiles::of(bounces));
        }
        let sum = |count: fn(&Of) -> u64| reckoning.classes.iter().map(count).sum::<u64>();
        let seconds = reckoning.classes.iter().map(|of| of.seconds).fold(0.0, f64::max);
        Verdict {
            acknowledged: sum(|of| of.acknowledged),
            arrived: sum(|of| of.arrived),
            bounced: sum(|of| of.bounced),
            queued: sum(|of| of.queued),
            waiting: sum(|of| of.waiting),
            missing: sum(|of| of.missing),
            both: reckoning.both,
            told_twice: ledger.told_twice,
            refused: reckoning.refused,
            refused_arrived: reckoning.refused_arrived,
            torn: to_u64(torn.len()),
            unknown: reckoning.unknown,
            unknown_arrived: reckoning.unknown_arrived,
            never_sent: ledger.never_sent,
            changed: keeper.changed,
            doubled: keeper.doubled(),
            told_late: ledger.told_late,
            seconds,
            arrived_per_second: float(sum(|of| of.arrived)) / seconds.max(1e-9),
            latency: Quantiles::of(&latency),
            classes: Class::ALL
                .into_iter()
                .zip(reckoning.classes)
                .filter(|(_, of)| of.acknowledged > 0)
                .map(|(class, of)| (class.label(), of))
                .collect(),
            findings: reckoning.findings,
        }
    }

    /// Everything that was answered with 250 is accounted for, and nothing came twice without
    /// a reason.
    pub(crate) fn is_good(&self) -> bool {
        self.missing == 0
            && self.both == 0
            && self.told_twice == 0
            && self.torn == 0
            && self.never_sent == 0
            && self.changed == 0
            && self.doubled.answer_heard == 0
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::default();
        table.row("audit", if self.is_good() { "good" } else { "WRONG" });
        let row = |table: &mut Table, name: &str, count: u64| {
            if count > 0 {
                table.row(name, grouped(count));
            }
        };
        row(&mut table, "recipients answered 250", self.acknowledged);
        row(&mut table, "arrived", self.arrived);
        row(&mut table, "bounced", self.bounced);
        row(&mut table, "in the queue", self.queued);
        row(&mut table, "of dead domains, waiting", self.waiting);
        row(&mut table, "MISSING", self.missing);
        row(&mut table, "ARRIVED AND BOUNCED", self.both);
        row(&mut table, "BOUNCED TWICE", self.told_twice);
        row(&mut table, "refused", self.refused);
        row(&mut table, "refused, arrived", self.refused_arrived);
        row(&mut table, "TORN", self.torn);
        row(&mut table, "unknown", self.unknown);
        row(&mut table, "unknown, arrived", self.unknown_arrived);
        row(&mut table, "NEVER SENT", self.never_sent);
        row(&mut table, "CHANGED", self.changed);
        row(&mut table, "doubled, answer lost", self.doubled.answer_lost);
        row(&mut table, "doubled, then broke off", self.doubled.broke_off);
        row(&mut table, "DOUBLED, answer heard", self.doubled.answer_heard);
        row(&mut table, "reported late", self.told_late);
        for finding in &self.findings {
            table.row("found", finding);
        }
        table.gap();
        table.row("seconds to the last arrival", format!("{:.3}", self.seconds));
        table.row("rate of arrivals", format!("{}/s", figure(self.arrived_per_second)));
        if let Some(latency) = &self.latency {
            table.row("250 to arrival ms", latency.show());
        }
        for (class, of) in self.classes.iter().filter(|_| self.classes.len() > 1) {
            let counts = format!(
                "{} of {} arrived in {:.3} s, {} bounced",
                grouped(of.arrived),
                grouped(of.acknowledged),
                of.seconds,
                grouped(of.bounced)
            );
            table.row(*class, counts);
            if let Some(latency) = &of.latency {
                table.row(format!("{class} ms"), latency.show());
            }
            if let Some(latency) = &of.bounce_latency {
                table.row(format!("{class}, bounce ms"), latency.show());
            }
        }
        table.show()
    }
}
