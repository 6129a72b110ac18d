//! Patterns of LIST and LSUB (RFC 9051 §6.3.9): `*` is any text, `%` any text without the
//! delimiter.
//!
//! A pattern is a small machine whose states are bits: state n says that the first n elements of
//! the pattern match what was read so far. One octet of a name moves all states at once, so that
//! no pattern, however full of wildcards, costs more than its length / 64 for each octet.

use super::mailbox::{DELIMITER, decode, is_below_inbox, net_unicode};
use crate::model::limits::MAILBOX_NAME_OCTETS_MAX;

/// Octets of INBOX, which every case of letters means.
const INBOX_OCTETS: usize = 5;

/// A pattern, made ready for many names.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// For each octet, `words` words: the states that it moves on.
    steps: Vec<u64>,
    /// States that any octet leaves where they are: they stand before a `*`.
    stay: Vec<u64>,
    /// The same for `%`, unless the octet is the delimiter.
    stay_in_level: Vec<u64>,
    words: usize,
    /// Elements of the pattern; the last state.
    len: usize,
}

/// Elements of a reference and pattern that are taken; names are shorter, but wildcards add.
pub const PATTERN_OCTETS_MAX: usize = 2 * MAILBOX_NAME_OCTETS_MAX;

impl Pattern {
    /// Makes a pattern of the reference and the mailbox argument of LIST, put together as they
    /// stand (RFC 9051 §6.3.9). `utf8` says whether they are UTF-8 or modified UTF-7. It is one for
    /// names in Net-Unicode.
    ///
    /// `None` if no name can match: the text is too long or no name in that encoding.
    pub fn new(reference: &[u8], mailbox: &[u8], utf8: bool) -> Option<Pattern> {
        if reference.len() + mailbox.len() > PATTERN_OCTETS_MAX {
            return None;
        }
        let whole = [reference, mailbox].concat();
        if utf8 {
            return std::str::from_utf8(&whole)
                .ok()
                .map(|text| Pattern::from_text(&net_unicode(text)));
        }
        decode(&whole).ok().map(|text| Pattern::from_text(&net_unicode(&text)))
    }

    fn from_text(text: &str) -> Pattern {
        let elements = collapse(text.as_bytes());
        let words = elements.len() / 64 + 1;
        let mut pattern = Pattern {
            steps: vec![0; 256 * words],
            stay: vec![0; words],
            stay_in_level: vec![0; words],
            words,
            len: elements.len(),
        };
        for (index, &element) in elements.iter().enumerate() {
            let bit = 1 << (index % 64);
            match element {
                b'*' => pattern.stay[index / 64] |= bit,
                b'%' => pattern.stay_in_level[index / 64] |= bit,
                _ => pattern.steps[usize::from(element) * words + index / 64] |= bit,
            }
        }
        pattern
    }

    /// Whether `name` (UTF-8) matches as a whole. INBOX and what lies below it match in any case.
    pub fn matches(&self, name: &str) -> bool {
        let folded = if is_below_inbox(name) { INBOX_OCTETS } else { 0 };
        if self.words == 1 { self.run_one(name, folded) } else { self.run(name, folded) }
    }

    /// The common case: all states in one word.
    fn run_one(&self, name: &str, folded: usize) -> bool {
        let wild = self.stay[0] | self.stay_in_level[0];
        let mut states = 1_u64;
        states |= (states & wild) << 1;
        for (index, &octet) in name.as_bytes().iter().enumerate() {
            let mut steps = self.steps[usize::from(octet)];
            if index < folded {
                steps |= self.steps[usize::from(octet ^ 0x20)];
            }
            let stay = if octet == DELIMITER { self.stay[0] } else { wild };
            states = (states & steps) << 1 | (states & stay);
            states |= (states & wild) << 1;
            if states == 0 {
                return false;
            }
        }
        states >> self.len & 1 == 1
    }

    fn run(&self, name: &str, folded: usize) -> bool {
        let mut states = vec![0_u64; self.words];
        states[0] = 1;
        self.pass_over_wildcards(&mut states);
        for (index, &octet) in name.as_bytes().iter().enumerate() {
            let mut carry = 0;
            for (word, state) in states.iter_mut().enumerate() {
                let mut steps = self.steps[usize::from(octet) * self.words + word];
                if index < folded {
                    steps |= self.steps[usize::from(octet ^ 0x20) * self.words + word];
                }
                let level = if octet == DELIMITER { 0 } else { self.stay_in_level[word] };
                let moved = *state & steps;
                *state = moved << 1 | carry | (*state & (self.stay[word] | level));
                carry = moved >> 63;
            }
            self.pass_over_wildcards(&mut states);
        }
        states[self.len / 64] >> (self.len % 64) & 1 == 1
    }

    /// A wildcard may match nothing. No two stand side by side, so one step does it.
    fn pass_over_wildcards(&self, states: &mut [u64]) {
        let mut carry = 0;
        for (word, state) in states.iter_mut().enumerate() {
            let wild = *state & (self.stay[word] | self.stay_in_level[word]);
            *state |= wild << 1 | carry;
            carry = wild >> 63;
        }
    }
}

/// The pattern without wildcards side by side: one `*` among them is as good as all.
fn collapse(text: &[u8]) -> Vec<u8> {
    let mut elements: Vec<u8> = Vec::with_capacity(text.len());
    for &octet in text {
        match (elements.last_mut(), octet) {
            (Some(last @ b'%'), b'*') => *last = b'*',
            (Some(b'*' | b'%'), b'%') | (Some(b'*'), b'*') => {}
            _ => elements.push(octet),
        }
    }
    elements
}

/// Law: the machine finds what a table of all prefixes finds. The first octet cuts pattern and name.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_pattern(data: &[u8]) {
    let Some((&cut, text)) = data.split_first() else { return };
    let cut = usize::from(cut).min(text.len());
    let (pattern, name) = text.split_at(cut);
    let (Ok(pattern), Ok(name)) = (std::str::from_utf8(pattern), std::str::from_utf8(name)) else {
        return;
    };
    if name.len() > MAILBOX_NAME_OCTETS_MAX || is_below_inbox(name) {
        return;
    }
    let found = Pattern::from_text(pattern).matches(name);
    assert_eq!(found, naive(pattern.as_bytes(), name.as_bytes()), "{pattern:?} on {name:?}");
}

#[cfg(any(test, feature = "sim"))]
fn naive(pattern: &[u8], name: &[u8]) -> bool {
    // reached[n]: the pattern so far matches the first n octets of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for &element in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match element {
                b'*' => reached[at] || at > 0 && next[at - 1],
                b'%' => reached[at] || at > 0 && next[at - 1] && name[at - 1] != DELIMITER,
                _ => at > 0 && reached[at - 1] && name[at - 1] == element,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const NAMES: [&str; 8] =
        ["INBOX", "INBOX/a", "Sent", "foo", "foo/bar", "foo/bar/baz", "été", "été/b"];

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(reference: &str, mailbox: &str, want: Expect) {
        let pattern = Pattern::new(reference.as_bytes(), mailbox.as_bytes(), false);
        let matching = |pattern: &Pattern| {
            NAMES.into_iter().filter(|name| pattern.matches(name)).collect::<Vec<_>>().join(" ")
        };
        want.assert_eq(&pattern.as_ref().map_or("none can".into(), matching));
    }

    #[test]
    fn matches_as_list_does() {
        check("", "*", expect!["INBOX INBOX/a Sent foo foo/bar foo/bar/baz été été/b"]);
        check("", "%", expect!["INBOX Sent foo été"]);
        check("foo/", "%", expect!["foo/bar"]);
        check("", "foo*", expect!["foo foo/bar foo/bar/baz"]);
        check("", "%/%", expect!["INBOX/a foo/bar été/b"]);
        check("", "*%", expect!["INBOX INBOX/a Sent foo foo/bar foo/bar/baz été été/b"]);
        check("", "f%/*z", expect!["foo/bar/baz"]);
        check("", "&AOk-t&AOk-%", expect!["été"]);
        check("", "", expect![""]);
    }

    #[test]
    fn matches_inbox_in_any_case_and_others_not() {
        check("", "iNb%", expect!["INBOX"]);
        check("", "inbox*", expect!["INBOX INBOX/a"]);
        check("", "sent", expect![""]);
    }

    #[test]
    fn matches_nothing_by_what_is_no_name() {
        check("", "&AOk*", expect!["none can"]);
        check("", "\u{e9}*", expect!["none can"]);
        assert!(Pattern::new(&[b'a'; 2_000], &[b'*'; 100], true).is_none());
    }

    #[test]
    fn takes_pattern_bombs_without_trying_all_ways() {
        let bomb = Pattern::from_text(&"%a*a".repeat(250));
        assert!(bomb.matches(&"a".repeat(1_000)));
        assert!(!bomb.matches(&format!("{}b", "a".repeat(1_000))));
    }

    #[test]
    fn agrees_with_a_table_of_prefixes() {
        arbtest::arbtest(|u| {
            let mut data = vec![u.int_in_range(0..=140)?];
            let len = u.int_in_range(0..=160)?;
            for _ in 0..len {
                data.push(*u.choose(b"aab/%*")?);
            }
            fuzz_pattern(&data);
            Ok(())
        });
    }
}
