//! The first version of the summary, which is still read: where the header ends, where fields lie.
//!
//! Ranges count from the first octet of the stored message, trace fields included.

use super::archive::Archived;
use crate::bytes::codec::to_usize;
use crate::store::Damaged;
use rkyv::{Archive, Serialize};
use std::ops::Range;

pub(super) const VERSION: u8 = 1;

/// One header field.
#[derive(Archive, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldV1 {
    /// Which field, by the parser's numbers; 0 for one it has no number for.
    pub kind: u8,
    pub name_start: u32,
    pub name_len: u32,
    /// The value as it stands there, folded, without the last CRLF.
    pub value_start: u32,
    pub value_len: u32,
}

impl FieldV1 {
    pub fn name(&self) -> Range<usize> {
        range(self.name_start, self.name_len)
    }

    pub fn value(&self) -> Range<usize> {
        range(self.value_start, self.value_len)
    }
}

fn range(start: u32, len: u32) -> Range<usize> {
    let start = to_usize(u64::from(start));
    start..start + to_usize(u64::from(len))
}

/// What is known of a message without reading it.
#[derive(Archive, Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryV1 {
    /// Octets up to and with the empty line; all octets where there is none.
    pub header_len: u32,
    /// Lines behind the header; a last one without CRLF counts.
    pub body_lines: u32,
    /// In the order of the message, at most `SUMMARY_FIELDS_MAX`.
    pub fields: Vec<FieldV1>,
}

impl SummaryV1 {
    pub fn decode(octets: &[u8]) -> Result<SummaryV1, Damaged> {
        let archived = Archived::new(VERSION, octets)?;
        let summary: &ArchivedSummaryV1 = archived.access()?;
        let fields = summary.fields.iter().map(|field| FieldV1 {
            kind: field.kind,
            name_start: field.name_start.to_native(),
            name_len: field.name_len.to_native(),
            value_start: field.value_start.to_native(),
            value_len: field.value_len.to_native(),
        });
        Ok(SummaryV1 {
            header_len: summary.header_len.to_native(),
            body_lines: summary.body_lines.to_native(),
            fields: fields.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive;
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    #[track_caller]
    fn check(summary: &SummaryV1, want: &Expect) {
        let octets = archive::encode(VERSION, summary);
        let mut out = String::new();
        for line in octets.chunks(16) {
            for octet in line {
                write!(out, "{octet:02x}").unwrap();
            }
            out.push('\n');
        }
        want.assert_eq(&out);
        assert_eq!(&SummaryV1::decode(&octets).unwrap(), summary);
        assert!((0..octets.len()).all(|len| SummaryV1::decode(&octets[..len]).is_err()));
    }

    #[test]
    fn writes_these_octets_for_ever() {
        let subject =
            FieldV1 { kind: 3, name_start: 4, name_len: 7, value_start: 13, value_len: 2 };
        check(
            &SummaryV1 { header_len: 19, body_lines: 5, fields: vec![subject] },
            &expect![[r"
                01000000000000000000000000000000
                0300000004000000070000000d000000
                020000001300000005000000e4ffffff
                01000000
            "]],
        );
        assert_eq!(subject.value(), 13..15);
        assert_eq!(subject.name(), 4..11);
    }

    #[test]
    fn an_empty_one_is_a_summary_too() {
        check(
            &SummaryV1::default(),
            &expect![[r"
            01000000000000000000000000000000
            0000000000000000f8ffffff00000000
        "]],
        );
    }
}
