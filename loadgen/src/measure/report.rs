//! The end of a run: one table for people, or the same figures as one JSON object.

use hdrhistogram::Histogram;
use pombal::bytes::hash::Sorted;
use serde::Serialize;

use super::http::{self, Url};
use super::table::{Table, figure, grouped};
use super::tally::{IMAP_BAD, IMAP_NO, IMAP_OK, POP3_ERR, POP3_OK, Tally};
use super::tree::{Spent, Tree};
use crate::run::{Observer, Outcome};
use crate::values::{Instant, float};
use crate::wire::secure::{Handshakes, handshakes};

/// What is asked about the server from outside.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    tree: Tree,
    url: Option<Url>,
    sync_metric: String,
    before: Option<f64>,
    after: Option<f64>,
    /// The first thing that went wrong while asking.
    pub(crate) failed: Option<String>,
    settle: std::time::Duration,
    settled_seconds: Option<f64>,
}

/// Below this share of one core a server counts as quiet.
const QUIET_SHARE: f64 = 0.03;
/// How long each look at a settling server takes.
const SETTLE_STEP: std::time::Duration = std::time::Duration::from_millis(500);

impl Outside {
    pub(crate) fn new(
        pids: &[u32],
        url: Option<Url>,
        sync_metric: &str,
        settle: std::time::Duration,
    ) -> Result<Outside, String> {
        let tree = Tree::new(pids)?;
        Ok(Outside { tree, url, sync_metric: sync_metric.into(), settle, ..Outside::default() })
    }

    fn syncs(&mut self) -> Option<f64> {
        let text = match self.url.as_ref()?.get() {
            Ok(text) => text,
            Err(why) => {
                self.failed.get_or_insert(why);
                return None;
            }
        };
        let found = http::sum(&text, &self.sync_metric);
        if found.is_none() {
            let why = format!("the server's metrics have no {}", self.sync_metric);
            self.failed.get_or_insert(why);
        }
        found
    }

    /// Waits until the server does nothing more, so that work done after its reply counts.
    fn wait_until_quiet(&mut self) {
        let began = Instant::now();
        let mut last_ns = self.tree.spent().map_or(0, |spent| spent.cpu_stat_ns);
        while began.elapsed() < self.settle {
            pause(SETTLE_STEP);
            self.tree.look();
            let now_ns = self.tree.spent().map_or(0, |spent| spent.cpu_stat_ns);
            if float(now_ns - last_ns) / 1e9 < QUIET_SHARE * SETTLE_STEP.as_secs_f64() {
                break;
            }
            last_ns = now_ns;
        }
        self.settled_seconds = Some(began.elapsed().as_secs_f64());
    }
}

/// Stops this thread, which has nothing else to do; the sessions run on others.
pub(crate) fn pause(time: std::time::Duration) {
    // Somebody may have unparked this thread before: one call can return at once.
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

impl Observer for Outside {
    fn before(&mut self) {
        self.before = self.syncs();
        self.tree.begin();
    }

    fn each_second(&mut self) {
        self.tree.look();
    }

    fn after(&mut self) {
        self.tree.look();
        if self.tree.is_watched() && !self.settle.is_zero() {
            self.wait_until_quiet();
        }
        self.after = self.syncs();
    }
}

/// Milliseconds at the usual quantiles.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Quantiles> {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1e6;
        (!histogram.is_empty()).then(|| Quantiles {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: float(histogram.max()) / 1e6,
        })
    }

    pub(crate) fn show(&self) -> String {
        format!(
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            figure(self.p50_ms),
            figure(self.p90_ms),
            figure(self.p99_ms),
            figure(self.p999_ms),
            figure(self.max_ms)
        )
    }
}

/// What the server spent per message.
#[derive(Debug, Serialize)]
struct Server {
    cpu_us_per_message: f64,
    cpu_source: &'static str,
    cpu_seconds: f64,
    voluntary_switches_per_message: f64,
    involuntary_switches_per_message: f64,
    write_octets_per_message: Option<f64>,
    processes: usize,
    threads: usize,
    settled_seconds: Option<f64>,
}

/// What the tickets of a run were for. The table says so; JSON has `message` in its keys
/// whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Messages,
    Operations,
}

impl Unit {
    /// Many of them, one of them, and the short form.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Unit::Messages => ("messages", "message", "msg"),
            Unit::Operations => ("operations", "operation", "op"),
        }
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    work: String,
    #[serde(skip)]
    unit: Unit,
    messages: u64,
    recipients: u64,
    octets: u64,
    refused: u64,
    fetched: u64,
    connections: u64,
    /// Where connections are encrypted.
    handshakes: Option<Handshakes>,
    seconds: f64,
    messages_per_second: f64,
    megabytes_per_second: f64,
    latency: Option<Quantiles>,
    session: Option<Quantiles>,
    /// IMAP commands one by one.
    commands: Sorted<&'static str, Quantiles>,
    /// Stage, then code, then count.
    replies: Sorted<&'static str, Sorted<String, u64>>,
    reply_texts: Vec<String>,
    troubles: Sorted<&'static str, u64>,
    errors: u64,
    server: Option<Server>,
    syncs: Option<f64>,
    syncs_per_message: Option<f64>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(work: &str, outcome: &Outcome, outside: &Outside) -> Report {
        let Outcome { tally, seconds } = outcome;
        let per_second = |number: u64| float(number) / seconds.max(1e-9);
        let mut replies: Sorted<&'static str, Sorted<String, u64>> = Sorted::new();
        for ((stage, code), count) in &tally.replies {
            let code = show_code(*code);
            replies.entry(stage.label()).or_default().insert(code, *count);
        }
        let per_message = |number: f64| number / float(tally.messages.max(1));
        let syncs = outside.after.zip(outside.before).map(|(after, before)| after - before);
        Report {
            work: work.into(),
            unit: Unit::Messages,
            messages: tally.messages,
            recipients: tally.recipients,
            octets: tally.octets,
            refused: tally.refused,
            fetched: tally.fetched,
            connections: tally.connections,
            handshakes: handshakes(),
            seconds: *seconds,
            messages_per_second: per_second(tally.messages),
            megabytes_per_second: per_second(tally.octets) / 1e6,
            latency: Quantiles::of(&tally.latency),
            session: Quantiles::of(&tally.session),
            commands: tally
                .commands
                .iter()
                .filter_map(|(stage, histogram)| Some((stage.label(), Quantiles::of(histogram)?)))
                .collect(),
            replies,
            reply_texts: tally
                .texts
                .iter()
                .map(|((stage, _), text)| format!("{}: {text}", stage.label()))
                .collect(),
            troubles: tally
                .troubles
                .iter()
                .map(|(trouble, count)| (trouble.label(), *count))
                .collect(),
            errors: tally.errors(),
            server: outside
                .tree
                .spent()
                .map(|spent| Server::new(&spent, tally, outside.settled_seconds)),
            syncs,
            syncs_per_message: syncs.map(per_message),
            notes: outside.failed.iter().cloned().collect(),
        }
    }

    /// Something to be told beside the figures.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Says what the tickets were for.
    pub(crate) fn counted_in(mut self, unit: Unit) -> Report {
        self.unit = unit;
        self
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Figures for people, or one line of JSON.
    pub(crate) fn show(&self, json: bool) -> String {
        if json { crate::json_line(self) } else { self.table() }
    }

    fn table(&self) -> String {
        let (many, one, short) = self.unit.words();
        let mut table = Table::default();
        table.row("work", &self.work);
        table.row(many, grouped(self.messages));
        if self.recipients > self.messages {
            table.row("recipients", grouped(self.recipients));
        }
        if self.refused > 0 {
            table.row("refused", grouped(self.refused));
        }
        if self.fetched > 0 {
            table.row("fetch responses", grouped(self.fetched));
        }
        table.row("connections", grouped(self.connections));
        if let Some(Handshakes { full, resumed }) = self.handshakes {
            let kinds = format!("{} full, {} resumed", grouped(full), grouped(resumed));
            table.row("tls handshakes", kinds);
        }
        table.row("seconds", format!("{:.3}", self.seconds));
        table.row("rate", format!("{} {short}/s", figure(self.messages_per_second)));
        table.row("throughput", format!("{} MB/s", figure(self.megabytes_per_second)));
        table.gap();
        for (name, quantiles) in [("latency", &self.latency), ("session", &self.session)] {
            if let Some(quantiles) = quantiles {
                table.row(format!("{name} ms"), quantiles.show());
            }
        }
        // A single kind of command has its row above.
        for (stage, quantiles) in self.commands.iter().filter(|_| self.commands.len() > 1) {
            table.row(format!("{stage} ms"), quantiles.show());
        }
        table.gap();
        if let Some(server) = &self.server {
            server.rows(&mut table, one);
        }
        if let (Some(syncs), Some(each)) = (self.syncs, self.syncs_per_message) {
            let text = format!("{} (1,000 {many}: {})", figure(syncs), figure(each * 1e3));
            table.row("server syncs", text);
        }
        table.gap();
        for (stage, codes) in &self.replies {
            let codes: Vec<String> =
                codes.iter().map(|(code, count)| format!("{code}: {}", grouped(*count))).collect();
            table.row(format!("replies to {stage}"), codes.join("  "));
        }
        for text in &self.reply_texts {
            table.row("said", text);
        }
        for (trouble, count) in &self.troubles {
            table.row(format!("trouble: {trouble}"), grouped(*count));
        }
        table.row("errors", grouped(self.errors));
        for note in &self.notes {
            table.row("note", note);
        }
        table.show()
    }
}

impl Server {
    fn new(spent: &Spent, tally: &Tally, settled_seconds: Option<f64>) -> Server {
        let per_message = |number: u64| float(number) / float(tally.messages.max(1));
        Server {
            cpu_us_per_message: per_message(spent.cpu_ns) / 1e3,
            cpu_source: spent.cpu_source,
            cpu_seconds: float(spent.cpu_ns) / 1e9,
            voluntary_switches_per_message: per_message(spent.voluntary_switches),
            involuntary_switches_per_message: per_message(spent.involuntary_switches),
            write_octets_per_message: spent.write_octets.map(per_message),
            processes: spent.processes,
            threads: spent.threads,
            settled_seconds,
        }
    }

    fn rows(&self, table: &mut Table, one: &str) {
        let cpu = format!(
            "{} us per {one} ({:.3} s, by {})",
            figure(self.cpu_us_per_message),
            self.cpu_seconds,
            self.cpu_source
        );
        table.row("server cpu", cpu);
        let switches = format!(
            "{} voluntary, {} involuntary per {one}",
            figure(self.voluntary_switches_per_message),
            figure(self.involuntary_switches_per_message)
        );
        table.row("server switches", switches);
        let written = self.write_octets_per_message.map_or_else(
            || "unknown: /proc/PID/io may not be read".into(),
            |octets| format!("{} octets per {one}", figure(octets)),
        );
        table.row("server writes", written);
        let who = format!("{} processes, {} threads seen", self.processes, self.threads);
        table.row("server", who);
        if let Some(seconds) = self.settled_seconds {
            table.row("server quiet after", format!("{seconds:.1} s more"));
        }
    }
}

/// POP3 and IMAP have words where SMTP has codes.
fn show_code(code: u16) -> String {
    match code {
        POP3_OK => "+OK".into(),
        POP3_ERR => "-ERR".into(),
        IMAP_OK => "OK".into(),
        IMAP_NO => "NO".into(),
        IMAP_BAD => "BAD".into(),
        _ => code.to_string(),
    }
}

/// Takes note of work that was asked for and not done.
pub(crate) fn shortfall(asked: Option<u64>, done: u64) -> Option<String> {
    let asked = asked.filter(|asked| done < *asked)?;
    Some(format!("{} of {} asked for were not done", grouped(asked - done), grouped(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::Stage;
    use crate::wire::link::Trouble;
    use expect_test::expect;

    fn outcome() -> Outcome {
        let mut tally = Tally::new();
        for step in 1..=1_000 {
            tally.message(10_240, step * 10_000);
        }
        tally.connections = 64;
        tally.reply(Stage::Message, 250);
        tally.reply(Stage::Rcpt, 450);
        tally.text(Stage::Rcpt, 450, || "450 4.2.1 later".into());
        tally.trouble(Trouble::Closed);
        Outcome { tally, seconds: 2.0 }
    }

    #[test]
    fn shows_quantiles_replies_and_troubles() {
        let report = Report::new("smtp", &outcome(), &Outside::default());
        expect![[r"
            work                smtp
            messages            1,000
            connections         64
            seconds             2.000
            rate                500.0 msg/s
            throughput          5.12 MB/s

            latency ms          p50 5.00  p90 9.00  p99 9.90  p99.9 9.99  max 10.00

            replies to message  250: 1
            replies to rcpt     450: 1
            said                rcpt: 450 4.2.1 later
            trouble: closed     1
            errors              2
        "]]
        .assert_eq(&report.show(false));
    }

    #[test]
    fn gives_the_same_as_json() {
        let report = Report::new("smtp", &outcome(), &Outside::default());
        let json: serde_json::Value = serde_json::from_str(&report.show(true)).unwrap();
        assert_eq!(json["messages"], 1_000);
        assert_eq!(json["replies"]["rcpt"]["450"], 1);
        assert_eq!(json["latency"]["count"], 1_000);
        assert_eq!(json["errors"], 2);
    }
}
