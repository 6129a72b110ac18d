//! Walks a TOML document key by key, gathers every mistake with its place, and what is in force.
//!
//! A caller asks a [`Section`] for each key it knows, with default and bounds. What was not asked
//! for is unknown and refused when the section ends. A mistake never stops the walk: the default
//! stands in, so that one run names all mistakes. Every key that was asked for is remembered as a
//! [`Setting`]: that list is `pombal check --effective`.

use super::units::{Network, NotNetwork, show_size, show_time, size, time};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file as it was named.
    pub file: String,
    /// From 1; 0 where the whole file is meant. Columns count characters.
    pub line: usize,
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty where there is nothing to add.
    pub allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { file, line, column, what, allowed } = self;
        if *line == 0 {
            write!(out, "{file}: {what}")?;
        } else {
            write!(out, "{file}:{line}:{column}: {what}")?;
        }
        if allowed.is_empty() { Ok(()) } else { write!(out, "; allowed: {allowed}") }
    }
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its path: `smtp.max_message_size`.
    pub key: String,
    /// As it would be written in the file; `None` for a key that is absent and has no default.
    pub value: Option<String>,
    /// Whether the file says it.
    pub from_file: bool,
    pub allowed: String,
}

/// The document under way.
pub(super) struct Reader<'t> {
    file: String,
    text: &'t str,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) settings: Vec<Setting>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &str, text: &'t str) -> Reader<'t> {
        Reader { file: file.into(), text, mistakes: Vec::new(), settings: Vec::new() }
    }

    /// Notes a mistake at `span` (octets of the text).
    pub(super) fn mistake(&mut self, span: &Range<usize>, what: impl Into<String>, allowed: &str) {
        let (line, column) = position(self.text, span.start);
        let file = self.file.clone();
        self.mistakes.push(Mistake {
            file,
            line,
            column,
            what: what.into(),
            allowed: allowed.into(),
        });
    }

    /// The mistakes in the order of the file.
    pub(super) fn sorted_mistakes(&mut self) -> Vec<Mistake> {
        let mut mistakes = std::mem::take(&mut self.mistakes);
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes.dedup();
        mistakes
    }
}

/// Line and column from 1 of an offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    (line, column)
}

/// What to write where a table ends without any more words.
fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value out of the file and where it stands.
type Found<'d, 't> = &'d Spanned<DeValue<'t>>;

/// One table of the document.
pub(super) struct Section<'r, 'd, 't> {
    pub(super) reader: &'r mut Reader<'t>,
    table: Option<&'d DeTable<'t>>,
    /// `smtp.` or nothing.
    prefix: String,
    /// Where it begins.
    at: Range<usize>,
    known: BTreeSet<&'static str>,
    /// Tables of a list are many: they are not settings of their own.
    listed: bool,
}

impl<'r, 'd, 't> Section<'r, 'd, 't> {
    pub(super) fn root(reader: &'r mut Reader<'t>, table: &'d DeTable<'t>) -> Section<'r, 'd, 't> {
        let known = BTreeSet::new();
        Section {
            reader,
            table: Some(table),
            prefix: String::new(),
            at: 0..0,
            known,
            listed: false,
        }
    }

    /// The table `name` in this one; an empty one where it is absent or no table.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'_, 'd, 't> {
        let table = match self.find(name) {
            None => None,
            Some(found) => match found.get_ref() {
                DeValue::Table(table) => Some(table),
                other => {
                    let what = format!("`{}{name}` is {}", self.prefix, described(other));
                    self.reader.mistake(&found.span(), what, &format!("a table: [{name}]"));
                    None
                }
            },
        };
        let prefix = format!("{}{name}.", self.prefix);
        let at = self.span(name).unwrap_or_default();
        Section {
            at,
            reader: self.reader,
            table,
            prefix,
            known: BTreeSet::new(),
            listed: self.listed,
        }
    }

    /// The tables of the list `[[name]]`, each read by `read`.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(Section<'_, 'd, 't>) -> Option<T>,
    ) -> Vec<T> {
        let Some(found) = self.find(name) else { return Vec::new() };
        let allowed = format!("a list of tables: [[{}{name}]]", self.prefix);
        let DeValue::Array(list) = found.get_ref() else {
            let what = format!("`{}{name}` is {}", self.prefix, described(found.get_ref()));
            self.reader.mistake(&found.span(), what, &allowed);
            return Vec::new();
        };
        let mut all = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                let what = format!("`{}{name}` holds {}", self.prefix, described(item.get_ref()));
                self.reader.mistake(&item.span(), what, &allowed);
                continue;
            };
            let prefix = format!("{}{name}[{index}].", self.prefix);
            let reader = &mut *self.reader;
            let known = BTreeSet::new();
            all.extend(read(Section {
                reader,
                table: Some(table),
                prefix,
                at: item.span(),
                known,
                listed: true,
            }));
        }
        all
    }

    /// Where this table is `None`, nothing of it stands in the file.
    pub(super) fn find(&mut self, name: &'static str) -> Option<Found<'d, 't>> {
        self.known.insert(name);
        self.table.and_then(|table| table.get(name))
    }

    /// Refuses what was not asked for. To be called last.
    pub(super) fn end(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter().filter(|(key, _)| !self.known.contains(key.get_ref().as_ref()))
        {
            let name = key.get_ref();
            let near = self.known.iter().map(|known| (distance(name, known), known)).min();
            let hint = match near {
                Some((steps, known)) if steps <= 1 + name.len() / 4 => {
                    format!(", did you mean `{known}`?")
                }
                _ => String::new(),
            };
            let allowed: Vec<&str> = self.known.iter().copied().collect();
            let what = format!("unknown key `{}{name}`{hint}", self.prefix);
            self.reader.mistake(&key.span(), what, &allowed.join(", "));
        }
    }

    /// A value that `read` makes out of what the file says, or `default`.
    /// `show` writes it as in the file; `allowed` says what `read` takes.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        default: T,
        allowed: &str,
        read: impl FnOnce(&DeValue<'t>) -> Option<T>,
        show: impl FnOnce(&T) -> Option<String>,
    ) -> T {
        let found = self.find(name);
        let mut value = default;
        let mut from_file = false;
        if let Some(found) = found {
            match read(found.get_ref()) {
                Some(read) => {
                    value = read;
                    from_file = true;
                }
                None => self.wrong(name, found, allowed),
            }
        }
        if !self.listed {
            self.reader.settings.push(Setting {
                key: format!("{}{name}", self.prefix),
                value: show(&value),
                from_file,
                allowed: allowed.into(),
            });
        }
        value
    }

    /// Notes that `found` is not what `name` takes.
    pub(super) fn wrong(&mut self, name: &str, found: Found<'_, 't>, allowed: &str) {
        let is = match found.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            other => described(other).into(),
        };
        let what = format!("`{}{name}` cannot be {is}", self.prefix);
        self.reader.mistake(&found.span(), what, allowed);
    }

    pub(super) fn size(
        &mut self,
        name: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        let allowed = format!(
            "a size from {} to {} (K, M, G, T)",
            show_size(*bounds.start()),
            show_size(*bounds.end())
        );
        let read = |value: &DeValue<'_>| {
            let octets = match value {
                DeValue::String(text) => size(text),
                other => whole(other),
            };
            octets.filter(|octets| bounds.contains(octets))
        };
        self.value(name, default, &allowed, read, |octets| {
            Some(format!("{:?}", show_size(*octets)))
        })
    }

    pub(super) fn time(
        &mut self,
        name: &'static str,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let allowed = format!(
            "a time from {} to {} (s, m, h, d)",
            show_time(*bounds.start()),
            show_time(*bounds.end())
        );
        let read = |value: &DeValue<'_>| {
            let text = value.as_str()?;
            time(text).filter(|time| bounds.contains(time))
        };
        self.value(name, default, &allowed, read, |time| Some(format!("{:?}", show_time(*time))))
    }

    pub(super) fn count<N>(
        &mut self,
        name: &'static str,
        default: N,
        bounds: RangeInclusive<N>,
    ) -> N
    where
        N: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let allowed = format!("a number from {} to {}", bounds.start(), bounds.end());
        let read = |value: &DeValue<'_>| {
            let number = N::try_from(whole(value)?).ok()?;
            bounds.contains(&number).then_some(number)
        };
        self.value(name, default, &allowed, read, |number| Some(number.to_string()))
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.value(name, default, "true or false", DeValue::as_bool, |flag| Some(flag.to_string()))
    }

    /// A text that `read` takes, or nothing where the key is absent.
    pub(super) fn word<T>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let take = |value: &DeValue<'_>| value.as_str().and_then(read).map(Some);
        let write = |word: &Option<T>| word.as_ref().map(|word| format!("{:?}", show(word)));
        self.value(name, default, allowed, take, write)
    }

    /// A list of texts, each taken by `read`; a mistake names the one that is wrong.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        default: Option<Vec<T>>,
        allowed: &str,
        mut read: impl FnMut(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> Option<Vec<T>> {
        let mut bad = Vec::new();
        let take = |value: &DeValue<'_>| {
            let DeValue::Array(items) = value else { return None };
            let mut all = Vec::new();
            for item in items {
                match item.get_ref().as_str().map(&mut read) {
                    Some(Ok(value)) => all.push(value),
                    Some(Err(why)) => bad.push((item.span(), why)),
                    None => {
                        bad.push((item.span(), format!("is {}", described(item.get_ref()))));
                    }
                }
            }
            Some(Some(all))
        };
        let write = |list: &Option<Vec<T>>| {
            let list = list.as_ref()?;
            let words: Vec<String> = list.iter().map(|item| format!("{:?}", show(item))).collect();
            Some(format!("[{}]", words.join(", ")))
        };
        let value = self.value(name, default, allowed, take, write);
        for (span, why) in bad {
            self.reader.mistake(&span, format!("`{}{name}`: {why}", self.prefix), allowed);
        }
        value
    }

    /// A list of `"ip:port"`.
    pub(super) fn sockets(
        &mut self,
        name: &'static str,
        default: Option<Vec<SocketAddr>>,
    ) -> Option<Vec<SocketAddr>> {
        let read = |text: &str| text.parse().map_err(|_| format!("{text:?} is no socket address"));
        let allowed = r#"a list of "ip:port", for IPv6 "[ip]:port""#;
        self.list(name, default, allowed, read, SocketAddr::to_string)
    }

    /// A list of networks; none where the key is absent.
    pub(super) fn networks(&mut self, name: &'static str) -> Vec<Network> {
        self.networks_or(name, &[])
    }

    /// A list of networks.
    pub(super) fn networks_or(&mut self, name: &'static str, default: &[&str]) -> Vec<Network> {
        let default = default.iter().filter_map(|text| Network::parse(text).ok()).collect();
        let read = |text: &str| {
            Network::parse(text).map_err(|error| match error {
                NotNetwork::Syntax => format!("{text:?} is no network"),
                NotNetwork::HostBits(meant) => {
                    format!("{text:?} has bits set behind its prefix, did you mean \"{meant}\"?")
                }
            })
        };
        let allowed = r#"a list of "ip/prefix""#;
        self.list(name, Some(default), allowed, read, Network::to_string).unwrap_or_default()
    }

    /// Notes that the key must stand in this table, where it does not.
    pub(super) fn demand(&mut self, name: &'static str, missing: bool, allowed: &str) {
        if missing && self.find(name).is_none() {
            let at = self.at.clone();
            let what = format!("`{}{name}` is missing", self.prefix);
            self.reader.mistake(&at, what, allowed);
        }
    }

    /// Where the key stands, for mistakes that are seen later.
    pub(super) fn span(&mut self, name: &'static str) -> Option<Range<usize>> {
        self.find(name).map(Spanned::span)
    }
}

/// A whole number that is not negative.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// How many letters differ (Levenshtein), for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
