//! Sets of message numbers and UIDs (RFC 9051 §9, sequence-set), read and written.
//!
//! ```text
//! set   := range ["," range]...
//! range := bound [":" bound]        in any order: 4:2 is 2:4
//! bound := nz-number / "*"          "*" is the largest number in use
//! ```
//! A [`Set`] is checked text. What `*` stands for is known by the session only, so [`Set::spans`]
//! takes it; it gives what sessions work with: ascending spans that do not touch each other.

use super::super::pop3::put_number;
use crate::bytes::chain::Chain;

/// The numbers `first..=last`; never empty, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub first: u32,
    pub last: u32,
}

impl Span {
    /// The numbers from `first` to `last`; `None` if there are none, or if one of them is 0.
    pub fn new(first: u32, last: u32) -> Option<Span> {
        (first > 0 && first <= last).then_some(Span { first, last })
    }

    /// How many numbers there are.
    pub fn count(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    pub fn contains(self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// From 1.
    Number(u32),
    /// The largest number in use.
    Star,
}

impl Bound {
    fn resolve(self, largest: u32) -> u32 {
        match self {
            Bound::Number(number) => number,
            Bound::Star => largest,
        }
    }
}

/// A range as it was written; either end may be the larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: Bound,
    pub end: Bound,
}

impl Range {
    /// The numbers meant where `largest` is the largest in use; `None` for `*` in an empty mailbox.
    pub fn resolve(self, largest: u32) -> Option<Span> {
        let (start, end) = (self.start.resolve(largest), self.end.resolve(largest));
        Span::new(start.min(end), start.max(end))
    }
}

/// A set as it was written, known to be right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Set<'a>(&'a [u8]);

impl std::fmt::Debug for Set<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Set({})", self.0.escape_ascii())
    }
}

impl<'a> Set<'a> {
    /// Reads a whole text; `None` if it is no set.
    pub fn parse(text: &'a [u8]) -> Option<Set<'a>> {
        let mut walk = Walk(text);
        loop {
            walk.range()?;
            match walk.0.split_first() {
                None => return Some(Set(text)),
                Some((b',', rest)) => walk.0 = rest,
                Some(_) => return None,
            }
        }
    }

    /// Splits off the octets at the front that a set may be made of.
    pub fn split(text: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let in_set = |octet: &u8| octet.is_ascii_digit() || matches!(octet, b'*' | b':' | b',');
        text.split_at(text.iter().position(|octet| !in_set(octet)).unwrap_or(text.len()))
    }

    /// The text.
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// `*` stands in it somewhere.
    pub fn has_star(self) -> bool {
        memchr::memchr(b'*', self.0).is_some()
    }

    /// The ranges in the order that they were written in.
    pub fn ranges(self) -> impl Iterator<Item = Range> + 'a {
        let mut walk = Walk(self.0);
        std::iter::from_fn(move || {
            let range = walk.range()?;
            walk.0 = walk.0.get(1..).unwrap_or_default();
            Some(range)
        })
    }

    /// The numbers meant where `largest` is the largest in use (0: none is), sorted, with what
    /// overlaps or touches made one.
    pub fn spans(self, largest: u32) -> Vec<Span> {
        merge(self.ranges().filter_map(|range| range.resolve(largest)).collect())
    }
}

/// Sorts spans and makes one of those that overlap or touch.
pub fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    if !spans.is_sorted() {
        spans.sort_unstable();
    }
    spans.dedup_by(|next, kept| {
        let joins = next.first <= kept.last.saturating_add(1);
        if joins {
            kept.last = kept.last.max(next.last);
        }
        joins
    });
    spans
}

/// Whether a number is in one of some ascending spans.
pub fn is_among(spans: &[Span], number: u32) -> bool {
    let at = spans.partition_point(|span| span.last < number);
    spans.get(at).is_some_and(|span| span.contains(number))
}

/// What is in both of two lists of ascending spans, for sets against what a mailbox has.
pub fn intersect(mut left: &[Span], mut right: &[Span]) -> Vec<Span> {
    let mut both = Vec::new();
    while let ([one, left_rest @ ..], [other, right_rest @ ..]) = (left, right) {
        both.extend(Span::new(one.first.max(other.first), one.last.min(other.last)));
        if one.last < other.last {
            left = left_rest;
        } else {
            right = right_rest;
        }
    }
    both
}

/// Reads ranges off the front.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn range(&mut self) -> Option<Range> {
        let start = self.bound()?;
        let Some((b':', rest)) = self.0.split_first() else {
            return Some(Range { start, end: start });
        };
        self.0 = rest;
        Some(Range { start, end: self.bound()? })
    }

    fn bound(&mut self) -> Option<Bound> {
        let (&first, mut rest) = self.0.split_first()?;
        if first == b'*' {
            self.0 = rest;
            return Some(Bound::Star);
        }
        if !matches!(first, b'1'..=b'9') {
            return None;
        }
        let mut number = u32::from(first - b'0');
        while let Some((&digit @ b'0'..=b'9', more)) = rest.split_first() {
            number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
            rest = more;
        }
        self.0 = rest;
        Some(Bound::Number(number))
    }
}

/// The spans of numbers in the order given: runs that go up by one become one span.
pub fn runs(numbers: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Span> {
    let mut numbers = numbers.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|&next| last.checked_add(1) == Some(next)) {
            last = next;
        }
        Some(Span { first, last })
    })
}

/// Writes spans as a set, in their order: what COPYUID wants (RFC 4315 §3), where the n-th of one
/// set goes with the n-th of the other. Nothing is written for none.
pub fn put_spans(out: &mut Chain, spans: impl IntoIterator<Item = Span>) {
    for (index, span) in spans.into_iter().enumerate() {
        if index > 0 {
            out.put(b",");
        }
        put_number(out, u64::from(span.first));
        if span.first < span.last {
            out.put(b":");
            put_number(out, u64::from(span.last));
        }
    }
}

/// Writes numbers as a set, in their order.
pub fn put_set(out: &mut Chain, numbers: impl IntoIterator<Item = u32>) {
    put_spans(out, runs(numbers));
}

/// Law: what is read is what stands there, found a second way; written out it means the same.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_set(data: &[u8]) {
    let naive = std::str::from_utf8(data).ok().and_then(|text| {
        let bound = |text: &str| match text {
            "*" => Some(1_000),
            _ if text.starts_with(['0', '+']) => None,
            _ => text.parse::<u32>().ok(),
        };
        let ranges = text.split(',').map(|range| match range.split_once(':') {
            Some((start, end)) => Some((bound(start)?, bound(end)?)),
            None => Some((bound(range)?, bound(range)?)),
        });
        ranges.collect::<Option<Vec<_>>>()
    });
    let Some(set) = Set::parse(data) else { return assert_eq!(naive, None) };
    let naive = naive.expect("both read it");
    let spans = set.spans(1_000);
    assert!(spans.windows(2).all(|pair| pair[0].last + 1 < pair[1].first), "{spans:?}");
    let ends = naive.iter().flat_map(|&(start, end)| [start, end]);
    for number in ends.chain([1, 999, 1_000, 1_001, u32::MAX]) {
        let within =
            |&(start, end): &(u32, u32)| (start.min(end)..=start.max(end)).contains(&number);
        let found = spans.iter().any(|span| span.contains(number));
        assert_eq!(found, naive.iter().any(within), "{number} in {set:?}");
    }
    let mut out = Chain::new();
    put_spans(&mut out, spans.iter().copied());
    let text = out.to_vec();
    assert_eq!(Set::parse(&text).map(|set| set.spans(0)), Some(spans));
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// What it means where 10 is the largest number.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(text: &str, want: Expect) {
        want.assert_eq(&match Set::parse(text.as_bytes()) {
            None => "refused".into(),
            Some(set) => {
                let mut out = Chain::new();
                put_spans(&mut out, set.spans(10));
                String::from_utf8(out.to_vec()).unwrap()
            }
        });
    }

    #[test]
    fn reads_sets_of_the_rfc() {
        check("2,4:7,9,12:*", expect!["2,4:7,9:12"]);
        check("*:4,5:7", expect!["4:10"]);
        check("1:3,2:5,6", expect!["1:6"]);
        check("*", expect!["10"]);
        check("*:*", expect!["10"]);
        check("4294967295:*", expect!["10:4294967295"]);
        check("3,3,3:3", expect!["3"]);
    }

    #[test]
    fn refuses_what_is_no_set() {
        for text in [
            "",
            "0",
            "0:1",
            "1:0",
            "1,,2",
            ",1",
            "1,",
            "1:",
            ":1",
            "1:2:3",
            "4294967296",
            "-1",
            "1 2",
            "**",
            "1*",
            "$",
            "01",
            "+1",
        ] {
            check(text, expect!["refused"]);
        }
    }

    #[test]
    fn means_nothing_by_a_star_in_an_empty_mailbox() {
        let spans = |text: &'static str| Set::parse(text.as_bytes()).unwrap().spans(0);
        assert_eq!(spans("*"), []);
        assert_eq!(spans("5:*,2"), [Span { first: 2, last: 2 }]);
    }

    #[test]
    fn keeps_the_order_of_numbers_that_are_written() {
        let mut out = Chain::new();
        put_set(&mut out, [7, 3, 4, 5, 9, u32::MAX, 1]);
        assert_eq!(out.to_vec(), b"7,3:5,9,4294967295,1");
    }

    #[test]
    fn finds_what_two_lists_share() {
        let spans = |text: &'static str| Set::parse(text.as_bytes()).unwrap().spans(0);
        assert_eq!(
            intersect(&spans("1:5,8,10:20"), &spans("3:11,19:30")),
            spans("3:5,8,10:11,19:20")
        );
        assert_eq!(intersect(&spans("1:5"), &[]), []);
    }

    #[test]
    fn reads_a_hundred_thousand_elements_in_any_order() {
        let text: Vec<String> = (1..=100_000_u32)
            .map(|index| (index * 7_919 % 100_003 * 2).max(2).to_string())
            .collect();
        let text = text.join(",");
        assert_eq!(Set::parse(text.as_bytes()).unwrap().spans(0).len(), 100_000);
    }

    #[test]
    fn agrees_with_a_naive_reading() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=24)?;
            let text: Vec<u8> = (0..len)
                .map(|_| u.choose(b"0123456789*::,,").copied())
                .collect::<Result<_, _>>()?;
            fuzz_set(&text);
            Ok(())
        });
    }
}
