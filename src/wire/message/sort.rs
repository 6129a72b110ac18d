//! Messages in the order of SORT (RFC 5256 §3; RFC 5957 for the names that are displayed).
//!
//! What a message is sorted by is taken out of its summary once, as numbers and folded texts; the
//! sort itself compares those. Texts compare by i;unicode-casemap, dates by the moment in UTC, and
//! what is equal in all stands in the order of the mailbox.

use super::casemap::fold;
use super::envelope::{EnvelopeText, List, put_string_value};
use super::words::put_decoded;
use std::cmp::Ordering;

/// One key of SORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    Arrival,
    Cc,
    Date,
    DisplayFrom,
    DisplayTo,
    From,
    Size,
    Subject,
    To,
}

/// A key, and whether REVERSE stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criterion {
    pub key: SortKey,
    pub reverse: bool,
}

/// What is known of one message. Texts may be empty where no criterion asks for them.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Sequence number or UID: what SORT answers with, and the order among equals.
    pub number: u32,
    /// INTERNALDATE, seconds since 1970.
    pub arrival: u32,
    /// The moment of the Date field; without one, that of the arrival counts.
    pub sent: Option<i64>,
    /// Octets.
    pub size: u64,
    /// See [`super::subject`].
    pub base_subject: &'a [u8],
    pub envelope: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i64),
    Text(Vec<u8>),
}

/// One message on its way through the sort.
#[derive(Clone, Debug)]
pub struct Row {
    number: u32,
    /// One for each criterion.
    values: Vec<Value>,
}

impl Row {
    pub fn new(criteria: &[Criterion], facts: &Facts<'_>) -> Row {
        let values = criteria.iter().map(|criterion| value(criterion.key, facts)).collect();
        Row { number: facts.number, values }
    }

    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Sorts rows that were made for the same criteria.
pub fn sort(rows: &mut [Row], criteria: &[Criterion]) {
    rows.sort_unstable_by(|one, other| {
        let values = one.values.iter().zip(&other.values).zip(criteria);
        let orders = values.map(|((one, other), criterion)| {
            let order = one.cmp(other);
            if criterion.reverse { order.reverse() } else { order }
        });
        let first = orders.into_iter().find(|order| *order != Ordering::Equal);
        first.unwrap_or_else(|| one.number.cmp(&other.number))
    });
}

fn value(key: SortKey, facts: &Facts<'_>) -> Value {
    let address = |list, show: fn(&EnvelopeText<'_>, List) -> String| {
        let text = EnvelopeText::new(facts.envelope);
        let shown = text.map(|text| show(&text, list)).unwrap_or_default();
        let mut folded = Vec::with_capacity(shown.len());
        fold(&shown, &mut folded);
        Value::Text(folded)
    };
    match key {
        SortKey::Arrival => Value::Number(facts.arrival.into()),
        SortKey::Date => Value::Number(facts.sent.unwrap_or(facts.arrival.into())),
        SortKey::Size => Value::Number(i64::try_from(facts.size).unwrap_or(i64::MAX)),
        SortKey::Subject => Value::Text(facts.base_subject.to_vec()),
        SortKey::Cc => address(List::Cc, mailbox),
        SortKey::From => address(List::From, mailbox),
        SortKey::To => address(List::To, mailbox),
        SortKey::DisplayFrom => address(List::From, display),
        SortKey::DisplayTo => address(List::To, display),
    }
}

/// The local part of the first address (RFC 5256 §3).
fn mailbox(envelope: &EnvelopeText<'_>, list: List) -> String {
    let first = envelope.addresses(list).next();
    first.map(|address| text_of(address.mailbox)).unwrap_or_default()
}

/// The name of the first address, or the address itself (RFC 5957 §3).
fn display(envelope: &EnvelopeText<'_>, list: List) -> String {
    let Some(first) = envelope.addresses(list).next() else { return String::new() };
    let mut raw = Vec::new();
    if put_string_value(first.name, &mut raw) && !raw.is_empty() {
        let mut name = String::new();
        put_decoded(&raw, &mut name);
        return name;
    }
    let mailbox = text_of(first.mailbox);
    // The begin of a group has a name alone.
    if first.host == b"NIL" { mailbox } else { format!("{mailbox}@{}", text_of(first.host)) }
}

fn text_of(raw: &[u8]) -> String {
    let mut octets = Vec::new();
    put_string_value(raw, &mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::envelope::put_envelope;
    use super::super::head::Head;
    use super::super::subject::base_subject;
    use super::*;

    const MAILS: [(&str, u32, Option<i64>, u64); 4] = [
        ("From: \"Zed\" <a@x>\nTo: b@x\nSubject: Re: beta\n", 30, Some(5), 10),
        ("From: =?utf-8?q?=C3=84nne?= <B@x>\nTo: a@y\nSubject: alpha\n", 20, None, 10),
        ("From: c@x\nTo: g: k@x;\nSubject: BETA\n", 10, Some(7), 5),
        ("Subject: \n", 40, Some(6), 20),
    ];

    #[track_caller]
    fn check(keys: &[(SortKey, bool)], want: [u32; 4]) {
        let criteria: Vec<Criterion> =
            keys.iter().map(|&(key, reverse)| Criterion { key, reverse }).collect();
        let rows = MAILS.iter().zip(1..).map(|(&(header, arrival, sent, size), number)| {
            let octets = header.as_bytes();
            let (head, _) = Head::of(octets);
            let mut envelope = Vec::new();
            put_envelope(octets, &head, &mut envelope);
            let kind = super::super::head::FieldKind::Subject;
            let subject = base_subject(head.value(octets, kind).unwrap()).folded;
            let facts =
                Facts { number, arrival, sent, size, base_subject: &subject, envelope: &envelope };
            Row::new(&criteria, &facts)
        });
        let mut rows: Vec<Row> = rows.collect();
        sort(&mut rows, &criteria);
        let got: Vec<u32> = rows.iter().map(Row::number).collect();
        assert_eq!(got, want, "{keys:?}");
    }

    #[test]
    fn sorts_by_every_key() {
        check(&[], [1, 2, 3, 4]);
        check(&[(SortKey::Arrival, false)], [3, 2, 1, 4]);
        check(&[(SortKey::Arrival, true)], [4, 1, 2, 3]);
        check(&[(SortKey::Date, false)], [1, 4, 3, 2]);
        check(&[(SortKey::Size, false), (SortKey::Date, true)], [3, 2, 1, 4]);
        check(&[(SortKey::Subject, false)], [4, 2, 1, 3]);
        check(&[(SortKey::From, false)], [4, 1, 2, 3]);
        check(&[(SortKey::To, false)], [4, 2, 1, 3]);
        check(&[(SortKey::Cc, false)], [1, 2, 3, 4]);
        // An A with dots is an A and dots; c@x has no name.
        check(&[(SortKey::DisplayFrom, false)], [4, 2, 3, 1]);
        check(&[(SortKey::DisplayTo, true)], [3, 1, 2, 4]);
    }
}
