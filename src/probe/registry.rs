//! All figures by name: what `/metrics` and `store stats` read.
//!
//! A [`Set`] is filled for each shard before it starts and not changed after; the [`Registry`]
//! joins the sets of all shards and sums what has the same name and labels.

use super::figures::{Counter, Gauge};
use super::histogram::{Histogram, Summary};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One figure of one shard.
#[derive(Clone, Debug)]
enum Figure {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Name and value, in the order in which they were given.
type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Debug)]
struct Entry {
    name: &'static str,
    help: &'static str,
    labels: Labels,
    figure: Figure,
}

/// The figures of one shard.
#[derive(Clone, Debug, Default)]
pub struct Set {
    entries: Vec<Entry>,
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    /// A new counter. By custom its name ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Counter> {
        let counter = Arc::new(Counter::default());
        self.add(name, help, labels, Figure::Counter(Arc::clone(&counter)));
        counter
    }

    /// A new gauge; the shards' values are summed.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.add(name, help, labels, Figure::Gauge(Arc::clone(&gauge)));
        gauge
    }

    /// A new histogram; the unit is the last word of its name (`_microseconds`, `_octets`).
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Arc<Histogram> {
        let histogram = Arc::new(Histogram::default());
        self.add(name, help, labels, Figure::Histogram(Arc::clone(&histogram)));
        histogram
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        figure: Figure,
    ) {
        debug_assert!(is_name(name), "{name} is no name that Prometheus takes");
        debug_assert!(labels.iter().all(|(label, _)| is_name(label)), "labels of {name}");
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        self.entries.push(Entry { name, help, labels, figure });
    }
}

fn is_name(name: &str) -> bool {
    let inner = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    name.bytes().all(inner) && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The sets of all shards. Clones read the same figures.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    sets: Arc<Vec<Set>>,
}

/// All that has one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// One for each combination of labels, sorted by them.
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub labels: Labels,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Counter(u64),
    Gauge(i64),
    Histogram(Summary),
}

impl Registry {
    pub fn new(sets: Vec<Set>) -> Registry {
        Registry { sets: Arc::new(sets) }
    }

    /// What the figures say now, summed over the shards, sorted by name.
    pub fn read(&self) -> Vec<Family> {
        let mut families: BTreeMap<&'static str, (&'static str, BTreeMap<Labels, Value>)> =
            BTreeMap::new();
        for entry in self.sets.iter().flat_map(|set| &set.entries) {
            let (_, series) =
                families.entry(entry.name).or_insert_with(|| (entry.help, BTreeMap::new()));
            let total = series.entry(entry.labels.clone()).or_insert_with(|| entry.figure.zero());
            entry.figure.add_to(total);
        }
        let family = |(name, (help, series)): (&'static str, (_, BTreeMap<Labels, Value>))| {
            let kind = series.values().next().map_or(Kind::Counter, Value::kind);
            let series =
                series.into_iter().map(|(labels, value)| Series { labels, value }).collect();
            Family { name, help, kind, series }
        };
        families.into_iter().map(family).collect()
    }

    /// The sum of all counters and gauges of one name, whatever their labels.
    pub fn total(&self, name: &str) -> i64 {
        let named =
            self.sets.iter().flat_map(|set| &set.entries).filter(|entry| entry.name == name);
        named
            .map(|entry| match &entry.figure {
                Figure::Counter(counter) => i64::try_from(counter.get()).unwrap_or(i64::MAX),
                Figure::Gauge(gauge) => gauge.get(),
                Figure::Histogram(_) => 0,
            })
            .sum()
    }
}

impl Value {
    fn kind(&self) -> Kind {
        match self {
            Value::Counter(_) => Kind::Counter,
            Value::Gauge(_) => Kind::Gauge,
            Value::Histogram(_) => Kind::Histogram,
        }
    }
}

impl Figure {
    fn zero(&self) -> Value {
        match self {
            Figure::Counter(_) => Value::Counter(0),
            Figure::Gauge(_) => Value::Gauge(0),
            Figure::Histogram(_) => Value::Histogram(Summary::default()),
        }
    }

    fn add_to(&self, total: &mut Value) {
        match (self, total) {
            (Figure::Counter(counter), Value::Counter(total)) => {
                *total = total.wrapping_add(counter.get());
            }
            (Figure::Gauge(gauge), Value::Gauge(total)) => *total += gauge.get(),
            (Figure::Histogram(histogram), Value::Histogram(total)) => histogram.add_to(total),
            (_, total) => debug_assert!(false, "one name, two kinds: {total:?}"),
        }
    }
}

/// Declares the figures of a module as one struct.
///
/// ```
/// pombal::figures! {
///     /// What the doors count.
///     pub struct Doors {
///         /// Doors that were opened.
///         pub opened: Counter = "pombal_doors_opened_total",
///         /// Doors that stand open.
///         pub open: Gauge = "pombal_doors_open",
///         /// How long a door stood open.
///         pub stood: Histogram = "pombal_doors_stood_microseconds",
///     }
/// }
/// let mut set = pombal::probe::Set::new();
/// let doors = Doors::register(&mut set, &[("house", "north")]);
/// doors.opened.one();
/// assert_eq!(pombal::probe::Registry::new(vec![set]).total("pombal_doors_opened_total"), 1);
/// let unseen = Doors::default();   // for tests: counts, but nobody reads it by name
/// unseen.opened.one();
/// ```
#[macro_export]
macro_rules! figures {
    (
        $(#[doc = $doc:literal])*
        $visible:vis struct $name:ident {
            $( $(#[doc = $help:literal])+ $seen:vis $field:ident : $kind:ident = $metric:literal, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default)]
        $visible struct $name {
            $( $(#[doc = $help])+ $seen $field: ::std::sync::Arc<$crate::probe::$kind>, )*
        }

        impl $name {
            /// Makes the figures known in a shard's set, each with `labels`.
            $visible fn register(
                set: &mut $crate::probe::Set,
                labels: &[(&'static str, &str)],
            ) -> $name {
                $name {
                    $( $field: $crate::figures!(
                        @add $kind set $metric concat!($($help),+) labels
                    ), )*
                }
            }
        }
    };
    (@add Counter $set:ident $metric:literal concat!($($help:literal),+) $labels:ident) => {
        $set.counter($metric, concat!($($help),+).trim_ascii(), $labels)
    };
    (@add Gauge $set:ident $metric:literal concat!($($help:literal),+) $labels:ident) => {
        $set.gauge($metric, concat!($($help),+).trim_ascii(), $labels)
    };
    (@add Histogram $set:ident $metric:literal concat!($($help:literal),+) $labels:ident) => {
        $set.histogram($metric, concat!($($help),+).trim_ascii(), $labels)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::figures! {
        /// For the tests below.
        struct Doors {
            /// Doors that were
            /// opened.
            opened: Counter = "doors_opened_total",
            /// Doors that stand open.
            open: Gauge = "doors_open",
            /// How long.
            stood: Histogram = "doors_stood_seconds",
        }
    }

    #[test]
    fn sums_over_shards_and_keeps_labels_apart() {
        let mut sets = vec![Set::new(), Set::new()];
        for (index, set) in sets.iter_mut().enumerate() {
            let doors = Doors::register(set, &[("house", "north")]);
            doors.opened.add(2);
            doors.open.add(-1);
            doors.stood.record(3);
            if index == 1 {
                Doors::register(set, &[("house", "south")]).opened.one();
            }
        }
        let registry = Registry::new(sets);
        assert_eq!(registry.total("doors_opened_total"), 5);
        let families = registry.read();
        let names: Vec<_> = families.iter().map(|family| family.name).collect();
        assert_eq!(names, ["doors_open", "doors_opened_total", "doors_stood_seconds"]);
        let opened = &families[1];
        assert_eq!(opened.help, "Doors that were opened.");
        assert_eq!(opened.kind, Kind::Counter);
        let values: Vec<_> = opened.series.iter().map(|series| series.value.clone()).collect();
        assert_eq!(values, [Value::Counter(4), Value::Counter(1)]);
        assert_eq!(families[0].series[0].value, Value::Gauge(-2));
    }
}
