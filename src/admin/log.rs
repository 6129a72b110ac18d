//! Writes the log: one event a line to stderr, by a thread of its own.
//!
//! A shard formats its event and puts the line into a bounded queue; it never waits. When the
//! queue is full the event is dropped and counted, and the writer tells how many were lost as soon
//! as it can write again. What strangers sent cannot break a line or colour a terminal: control
//! octets, line separators and bidirectional overrides are escaped, long values cut.
//!
//! ```text
//! ts=2026-11-25T04:10:45.123456Z level=info event=message queue_id=1-9f sender=a@b.example size=812
//! {"ts":"2026-11-25T04:10:45.123456Z","level":"info","event":"message","queue_id":"1-9f",…}
//! ```

use super::calendar;
use crate::config::LogFormat;
use crate::model::limits::{LOG_EVENTS_WAITING_MAX, LOG_VALUE_OCTETS_MAX};
use crate::model::time::Wall;
use crate::probe::event::{self, Level, Sink, Value};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Octets that the writer gathers into one write.
const WRITE_OCTETS_TARGET: usize = 64 << 10;

enum Item {
    Line(String),
    /// Answered once everything before it is written.
    Flush(Sender<()>),
}

/// The log of this process. Lives as long as the process.
#[derive(Clone)]
pub struct Log {
    queue: Sender<Item>,
    shared: Arc<Shared>,
}

struct Shared {
    format: LogFormat,
    dropped: AtomicU64,
}

impl Log {
    /// Starts the writer to stderr and takes the events of the whole process from here on.
    /// To be called once, before the shards start: the thread would inherit a shard's one core.
    pub fn start(format: LogFormat, level: Level) -> std::io::Result<Log> {
        let log = Log::to(std::io::stderr(), format)?;
        event::install(Box::new(log.clone()), level);
        Ok(log)
    }

    /// A log that writes to `out` and takes the events that it is handed.
    pub fn to(out: impl Write + Send + 'static, format: LogFormat) -> std::io::Result<Log> {
        let (queue, waiting) = bounded(LOG_EVENTS_WAITING_MAX);
        let shared = Arc::new(Shared { format, dropped: AtomicU64::new(0) });
        let log = Log { queue, shared: Arc::clone(&shared) };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(out, &waiting, &shared))?;
        Ok(log)
    }

    /// Waits until what was told so far is written, at most `patience`. Says whether it is.
    /// For the end of the process; never call it on a shard.
    pub fn flush(&self, patience: Duration) -> bool {
        let (written, done) = bounded(1);
        self.queue.send_timeout(Item::Flush(written), patience).is_ok()
            && done.recv_timeout(patience).is_ok()
    }

    /// Events lost so far that the log has not told yet.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }
}

impl Sink for Log {
    fn take(&self, level: Level, name: &str, fields: &[(&str, Value<'_>)]) {
        let line = line(self.shared.format, now(), level, name, fields);
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[expect(clippy::disallowed_types, reason = "a line in the log carries the machine's time")]
fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Wall(u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX))
}

/// The writer's thread: ends when the last [`Log`] is gone.
fn write_all(mut out: impl Write, waiting: &Receiver<Item>, shared: &Shared) {
    let mut gathered = String::new();
    let mut flushes = Vec::new();
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Line(line) => gathered.push_str(&line),
                Item::Flush(written) => flushes.push(written),
            }
            let more = gathered.len() < WRITE_OCTETS_TARGET;
            next = if more { waiting.try_recv().ok() } else { None };
        }
        let lost = shared.dropped.swap(0, Relaxed);
        if lost > 0 {
            let fields = [("count", Value::Number(lost))];
            gathered.push_str(&line(shared.format, now(), Level::Warn, "dropped", &fields));
        }
        // Nobody is left to tell when stderr is gone; mail goes on.
        drop(out.write_all(gathered.as_bytes()).and_then(|()| out.flush()));
        gathered.clear();
        for written in flushes.drain(..) {
            let _ = written.try_send(());
        }
    }
}

/// One event as one line with its line end.
fn line(
    format: LogFormat,
    at: Wall,
    level: Level,
    name: &str,
    fields: &[(&str, Value<'_>)],
) -> String {
    let ts = calendar::rfc3339(at);
    let level = level.name();
    let mut line = String::with_capacity(256);
    match format {
        LogFormat::Logfmt => {
            put(&mut line, format_args!("ts={ts} level={level} event={name}"));
            for (key, value) in fields {
                put(&mut line, format_args!(" {key}="));
                logfmt_value(&mut line, value);
            }
        }
        LogFormat::Json => {
            put(&mut line, format_args!(r#"{{"ts":"{ts}","level":"{level}","event":"{name}""#));
            for (key, value) in fields {
                put(&mut line, format_args!(r#","{key}":"#));
                json_value(&mut line, value);
            }
            line.push('}');
        }
    }
    line.push('\n');
    line
}

fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a String takes all text");
}

fn logfmt_value(line: &mut String, value: &Value<'_>) {
    match value {
        Value::Number(number) => put(line, format_args!("{number}")),
        Value::Flag(flag) => put(line, format_args!("{flag}")),
        Value::Time(time) => put(line, format_args!("{}us", time.as_micros())),
        Value::List(values) => {
            // One word with commas, so that a list is one value to every reader of logfmt.
            let mut joined = String::new();
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    joined.push(',');
                }
                joined.push_str(&text_of(value));
            }
            logfmt_text(line, &joined);
        }
        text => logfmt_text(line, &text_of(text)),
    }
}

fn logfmt_text(line: &mut String, text: &str) {
    let text = cut(text);
    let plain = |octet: u8| octet.is_ascii_graphic() && !b"\"=\\".contains(&octet);
    if !text.is_empty() && text.bytes().all(plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    escape(line, text, |line, letter| put(line, format_args!("\\u{{{:x}}}", u32::from(letter))));
    line.push('"');
}

fn json_value(line: &mut String, value: &Value<'_>) {
    match value {
        Value::Number(number) => put(line, format_args!("{number}")),
        Value::Flag(flag) => put(line, format_args!("{flag}")),
        Value::Time(time) => put(line, format_args!("{}", time.as_micros())),
        Value::List(values) => {
            line.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    line.push(',');
                }
                json_value(line, value);
            }
            line.push(']');
        }
        text => {
            line.push('"');
            escape(line, cut(&text_of(text)), |line, letter| {
                // All escaped letters lie in the first plane.
                put(line, format_args!("\\u{:04x}", u32::from(letter)));
            });
            line.push('"');
        }
    }
}

/// The text of a value that is text, or of an element of a list.
fn text_of(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => (*text).to_owned(),
        Value::Shown(shown) => shown.to_string(),
        Value::Octets(octets) => {
            let octets = octets.get(..LOG_VALUE_OCTETS_MAX).unwrap_or(octets);
            let mut text = String::with_capacity(octets.len());
            for chunk in octets.utf8_chunks() {
                text.push_str(chunk.valid());
                for octet in chunk.invalid() {
                    put(&mut text, format_args!("\\x{octet:02x}"));
                }
            }
            text
        }
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Time(time) => format!("{}us", time.as_micros()),
        // Lists in lists are nobody's business; flat is enough to see that one was there.
        Value::List(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
    }
}

/// At most [`LOG_VALUE_OCTETS_MAX`] octets of it, whole letters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LOG_VALUE_OCTETS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Writes `text` with quotes and backslashes escaped, and what could break or disguise a line
/// by `unseen`.
fn escape(line: &mut String, text: &str, unseen: impl Fn(&mut String, char)) {
    for letter in text.chars() {
        match letter {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            letter if letter.is_control() || is_disguise(letter) => unseen(line, letter),
            letter => line.push(letter),
        }
    }
}

/// Line separators, and what turns the direction of writing.
fn is_disguise(letter: char) -> bool {
    matches!(letter, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// One event in both formats.
    #[track_caller]
    fn check(fields: &[(&str, Value<'_>)], want: &Expect) {
        let at = Wall(1_795_579_845_123_456);
        let lines: String = [LogFormat::Logfmt, LogFormat::Json]
            .map(|format| line(format, at, Level::Info, "message", fields))
            .concat();
        want.assert_eq(&lines);
    }

    #[test]
    fn writes_words_figures_and_lists() {
        check(
            &[
                ("queue_id", "1-9f".into()),
                ("sender", "".into()),
                ("recipients", Value::List(&["a@b.example".into(), "c d@e.example".into()])),
                ("size", 812_u64.into()),
                ("took", Duration::from_micros(1_500).into()),
                ("tls", false.into()),
                ("peer", Value::Shown(&std::net::Ipv4Addr::LOCALHOST)),
            ],
            &expect![[r#"
                ts=2026-11-25T04:10:45.123456Z level=info event=message queue_id=1-9f sender="" recipients="a@b.example,c d@e.example" size=812 took=1500us tls=false peer=127.0.0.1
                {"ts":"2026-11-25T04:10:45.123456Z","level":"info","event":"message","queue_id":"1-9f","sender":"","recipients":["a@b.example","c d@e.example"],"size":812,"took":1500,"tls":false,"peer":"127.0.0.1"}
            "#]],
        );
    }

    #[test]
    fn keeps_hostile_values_on_their_line() {
        check(
            &[
                ("helo", "a\r\nts=0 level=error event=forged".into()),
                ("octets", (&b"\xff\x00\"\\=\x1b[31m"[..]).into()),
                ("turned", "a\u{202e}b\u{2028}c\u{85}d".into()),
                ("name", "Jörg".into()),
            ],
            &expect![[r#"
                ts=2026-11-25T04:10:45.123456Z level=info event=message helo="a\r\nts=0 level=error event=forged" octets="\\xff\u{0}\"\\=\u{1b}[31m" turned="a\u{202e}b\u{2028}c\u{85}d" name="Jörg"
                {"ts":"2026-11-25T04:10:45.123456Z","level":"info","event":"message","helo":"a\r\nts=0 level=error event=forged","octets":"\\xff\u0000\"\\=\u001b[31m","turned":"a\u202eb\u2028c\u0085d","name":"Jörg"}
            "#]],
        );
    }

    #[test]
    fn json_lines_are_json_whatever_they_hold() {
        arbtest::arbtest(|u| {
            let octets: Vec<u8> = u.arbitrary()?;
            let text: String = u.arbitrary()?;
            let fields = [("octets", Value::Octets(&octets)), ("text", Value::Text(&text))];
            let line = line(LogFormat::Json, Wall(0), Level::Debug, "noise", &fields);
            assert_eq!(line.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
            assert_eq!(read["text"], text);
            Ok(())
        });
    }

    #[test]
    fn cuts_long_values_between_letters() {
        let long = "ü".repeat(LOG_VALUE_OCTETS_MAX);
        assert_eq!(cut(&long).len(), LOG_VALUE_OCTETS_MAX);
        assert_eq!(cut("x").len(), 1);
        assert!(cut(&format!("x{long}")).len() < LOG_VALUE_OCTETS_MAX);
    }

    /// Hands each write to the test, which holds it up for as long as it likes.
    struct Held(Sender<Vec<u8>>);

    impl Write for Held {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.send(octets.to_vec()).map_err(std::io::Error::other)?;
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn drops_and_counts_when_the_reader_is_stuck_and_tells_it_later() {
        let (writes, read) = bounded(0);
        let log = Log::to(Held(writes), LogFormat::Logfmt).unwrap();
        // Far more than the queue and one gathered write hold: some are lost, none waits.
        for number in 0..2 * LOG_EVENTS_WAITING_MAX {
            log.take(Level::Info, "noise", &[("number", number.into())]);
        }
        assert!(log.dropped() > 0);
        let mut told = 0;
        let mut seen = 0;
        while told + seen < 2 * LOG_EVENTS_WAITING_MAX {
            let text = String::from_utf8(read.recv().unwrap()).unwrap();
            for line in text.lines() {
                match line.split_once("event=dropped count=") {
                    Some((_, count)) => told += count.parse::<usize>().unwrap(),
                    None => seen += 1,
                }
            }
        }
        assert_eq!(told + seen, 2 * LOG_EVENTS_WAITING_MAX);
        assert!(told > 0);
    }
}
