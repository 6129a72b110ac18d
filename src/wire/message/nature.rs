//! What the octets of a message ask of whoever sends it on, found out once and kept in one octet.

use super::fields::header_len;
use crate::model::limits::TEXT_LINE_OCTETS_MAX;
use crate::wire::dot::has_dot_line;
use crate::wire::text::{TextFault, TextScan};

/// One bit for each thing. The numbers are stored: never give one anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature(pub u8);

impl Nature {
    /// Some line begins with a dot: DATA has to stuff it (RFC 5321 §4.5.2).
    pub const DOT_LINES: Nature = Nature(1);
    /// It does not end with CRLF.
    pub const OPEN_END: Nature = Nature(1 << 1);
    /// An octet over 127 stands somewhere: it needs 8BITMIME (RFC 6152).
    pub const EIGHT_BIT: Nature = Nature(1 << 2);
    /// One stands in the header.
    pub const EIGHT_BIT_HEADER: Nature = Nature(1 << 3);
    /// A line is longer than DATA may send (RFC 5321 §4.5.3.1.6).
    pub const LONG_LINES: Nature = Nature(1 << 4);
    /// A CR or an LF stands alone, or a NUL somewhere: it needs BINARYMIME (RFC 3030 §3).
    pub const BINARY: Nature = Nature(1 << 5);

    /// Looks at a whole message; some passes over its octets.
    pub fn of(message: &[u8]) -> Nature {
        let mut nature = Nature::default();
        let mut add = |is_so: bool, what: Nature| {
            if is_so {
                nature = nature.with(what);
            }
        };
        add(has_dot_line(message), Nature::DOT_LINES);
        add(!message.ends_with(b"\r\n"), Nature::OPEN_END);
        let is_ascii = message.is_ascii();
        add(!is_ascii, Nature::EIGHT_BIT);
        add(!is_ascii && !message[..header_len(message)].is_ascii(), Nature::EIGHT_BIT_HEADER);
        let mut text = TextScan::new(TEXT_LINE_OCTETS_MAX);
        text.feed(message);
        text.end();
        add(text.has(TextFault::LongLine), Nature::LONG_LINES);
        add(text.has(TextFault::BareLineEnd) || text.has(TextFault::Nul), Nature::BINARY);
        nature
    }

    pub const fn has(self, what: Nature) -> bool {
        self.0 & what.0 == what.0
    }

    #[must_use]
    pub const fn with(self, what: Nature) -> Nature {
        Nature(self.0 | what.0)
    }

    #[must_use]
    pub const fn without(self, what: Nature) -> Nature {
        Nature(self.0 & !what.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_thing_by_itself() {
        let long = format!("A: b\r\n\r\n{}\r\n", "x".repeat(999));
        for (message, want) in [
            ("A: b\r\n\r\nc\r\n", Nature::default()),
            ("A: b\r\n\r\n.c\r\n", Nature::DOT_LINES),
            ("A: b\r\n\r\nc", Nature::OPEN_END),
            ("A: b\r\n\r\né\r\n", Nature::EIGHT_BIT),
            ("A: é\r\n\r\nc\r\n", Nature::EIGHT_BIT.with(Nature::EIGHT_BIT_HEADER)),
            (&long, Nature::LONG_LINES),
            ("A: b\r\n\r\nc\nd\r\n", Nature::BINARY),
            ("A: b\r\n\r\nc\rd\r\n", Nature::BINARY),
            ("A: b\r\n\r\nc\0d\r\n", Nature::BINARY),
        ] {
            assert_eq!(Nature::of(message.as_bytes()), want, "{message:?}");
        }
        let longest = format!("A: b\r\n\r\n{}\r\n", "x".repeat(998));
        assert_eq!(Nature::of(longest.as_bytes()), Nature::default());
    }
}
