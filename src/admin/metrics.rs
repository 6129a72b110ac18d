//! Writes the figures in Prometheus' text format (version 0.0.4).

use crate::probe::{Family, Kind, Registry, Series, Value};
use std::fmt::Write;

/// What the answer's content type must be.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures as they are now, and those of the process itself.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    head(&mut text, "pombal_build_info", "Which version runs.", Kind::Gauge);
    put(&mut text, format_args!("pombal_build_info{{version=\"{version}\"}} 1\n"));
    if let Some(octets) = resident_octets() {
        let name = "process_resident_memory_bytes";
        head(&mut text, name, "Resident memory of the process.", Kind::Gauge);
        put(&mut text, format_args!("{name} {octets}\n"));
    }
    for family in registry.read() {
        head(&mut text, family.name, family.help, family.kind);
        for series in &family.series {
            put_series(&mut text, &family, series);
        }
    }
    text
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes all text");
}

fn head(text: &mut String, name: &str, help: &str, kind: Kind) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn put_series(text: &mut String, family: &Family, series: &Series) {
    let name = family.name;
    let labels = labels(&series.labels, None);
    match &series.value {
        Value::Counter(count) => put(text, format_args!("{name}{labels} {count}\n")),
        Value::Gauge(value) => put(text, format_args!("{name}{labels} {value}\n")),
        Value::Histogram(summary) => {
            for (bound, count) in summary.cumulative() {
                let labels = self::labels(&series.labels, Some(&bound.to_string()));
                put(text, format_args!("{name}_bucket{labels} {count}\n"));
            }
            let all = self::labels(&series.labels, Some("+Inf"));
            let (sum, count) = (summary.sum, summary.count());
            put(text, format_args!("{name}_bucket{all} {count}\n"));
            put(text, format_args!("{name}_sum{labels} {sum}\n{name}_count{labels} {count}\n"));
        }
    }
}

/// `{shard="0",le="7"}`, or nothing.
fn labels(labels: &[(&'static str, String)], bound: Option<&str>) -> String {
    let told = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let words: Vec<String> = told
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    if words.is_empty() { String::new() } else { format!("{{{}}}", words.join(",")) }
}

/// Out of /proc, which never waits for a disk.
fn resident_octets() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Set;
    use expect_test::expect;

    #[test]
    fn writes_each_kind_with_labels_escaped() {
        let mut set = Set::new();
        set.counter("mails_total", "Mails \\ taken.", &[("reply", "a\"b\\c\nd")]).add(3);
        set.gauge("sessions", "Open now.", &[]).set(-2);
        let took = set.histogram("took_microseconds", "Time.", &[("shard", "0")]);
        for value in [1, 1, 9, 20] {
            took.record(value);
        }
        let text = render(&Registry::new(vec![set]));
        let (_, ours) = text.split_once("# HELP mails_total ").expect("registered above");
        expect![[r#"
            Mails \\ taken.
            # TYPE mails_total counter
            mails_total{reply="a\"b\\c\nd"} 3
            # HELP sessions Open now.
            # TYPE sessions gauge
            sessions -2
            # HELP took_microseconds Time.
            # TYPE took_microseconds histogram
            took_microseconds_bucket{shard="0",le="7"} 2
            took_microseconds_bucket{shard="0",le="15"} 3
            took_microseconds_bucket{shard="0",le="31"} 4
            took_microseconds_bucket{shard="0",le="+Inf"} 4
            took_microseconds_sum{shard="0"} 31
            took_microseconds_count{shard="0"} 4
        "#]]
        .assert_eq(ours);
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
