//! Events: what happened, in words and figures, handed to whoever keeps the log.
//!
//! Any floor may tell an event; it costs a compare where its level is off, and never waits: the
//! sink that the node installed formats it and drops it when its queue is full, which it counts.
//! Without a sink (tests, tools) events vanish.
//!
//! One event per message or session, not per line of a dialog. Names are words with `_`; keys
//! likewise. What a stranger sent may be a value, never a name or a key.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// How much it matters. An operator must act on `Error`, should look at `Warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    pub fn parse(name: &str) -> Option<Level> {
        [Level::Error, Level::Warn, Level::Info, Level::Debug]
            .into_iter()
            .find(|level| level.name() == name)
    }
}

/// What a key of an event says.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    /// Octets as they came; what is no UTF-8 is shown escaped.
    Octets(&'a [u8]),
    Number(u64),
    Flag(bool),
    /// Written in microseconds.
    Time(Duration),
    Shown(&'a dyn fmt::Display),
    List(&'a [Value<'a>]),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(octets: &'a [u8]) -> Value<'a> {
        Value::Octets(octets)
    }
}

impl<'a> From<&'a std::io::Error> for Value<'a> {
    fn from(error: &'a std::io::Error) -> Value<'a> {
        Value::Shown(error)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Value::Number(number.into())
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Value::Number(number.into())
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Value::Number(number as u64)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl From<Duration> for Value<'_> {
    fn from(time: Duration) -> Self {
        Value::Time(time)
    }
}

/// Takes events. Must never wait.
pub trait Sink: Send + Sync {
    fn take(&self, level: Level, name: &str, fields: &[(&str, Value<'_>)]);
}

static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// From now on events up to `level` go to `sink`. The first call counts for the whole process;
/// says whether it was the first.
pub fn install(sink: Box<dyn Sink>, level: Level) -> bool {
    let first = SINK.set(sink).is_ok();
    if first {
        set_level(level);
    }
    first
}

/// Changes how much is told, on reload.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Relaxed);
}

/// Whether an event of this level would go anywhere: ask before costly preparations.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Relaxed)
}

/// Tells an event.
///
/// ```
/// use pombal::probe::event::{Level, event};
/// event(Level::Info, "ready", &[("listeners", 3_u64.into()), ("version", "0.1.0".into())]);
/// ```
pub fn event(level: Level, name: &str, fields: &[(&str, Value<'_>)]) {
    if !enabled(level) {
        return;
    }
    if let Some(sink) = SINK.get() {
        sink.take(level, name, fields);
    }
}
