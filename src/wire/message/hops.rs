//! How many hops a message has behind it: its Received fields, counted while it streams through.
//!
//! A message that goes round in a circle gets one more each time (RFC 5321 §6.3). Only the
//! header is looked at, and each octet of it once.

use memchr::memchr;

const NAME: &[u8] = b"received";

/// Where in the header the octets so far have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many octets of the name stand at the begin of this line.
    Name(u8),
    /// Behind the whole name; a colon makes it a field.
    Colon,
    /// Somewhere in a line that is decided.
    Line,
    Body,
}

/// The count of one message, over any cuts.
#[derive(Clone, Copy, Debug)]
pub struct Hops {
    count: u32,
    place: Place,
}

impl Hops {
    pub const fn new() -> Hops {
        Hops { count: 0, place: Place::Name(0) }
    }

    /// Received fields so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Looks at the next octets of the message.
    pub fn feed(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some((&octet, more)) = rest.split_first() {
            rest = more;
            self.place = match self.place {
                Place::Body => return,
                Place::Line => match memchr(b'\n', more) {
                    _ if octet == b'\n' => Place::Name(0),
                    Some(lf) => {
                        rest = &more[lf + 1..];
                        Place::Name(0)
                    }
                    None => return,
                },
                Place::Name(0) if matches!(octet, b'\r' | b'\n') => Place::Body,
                Place::Name(len) => match NAME.get(usize::from(len)) {
                    Some(&want) if octet.eq_ignore_ascii_case(&want) => {
                        let whole = usize::from(len) + 1 == NAME.len();
                        if whole { Place::Colon } else { Place::Name(len + 1) }
                    }
                    _ => Self::other(octet),
                },
                Place::Colon => match octet {
                    b' ' | b'\t' => Place::Colon,
                    b':' => {
                        self.count = self.count.saturating_add(1);
                        Place::Line
                    }
                    _ => Self::other(octet),
                },
            };
        }
    }

    fn other(octet: u8) -> Place {
        if octet == b'\n' { Place::Name(0) } else { Place::Line }
    }
}

impl Default for Hops {
    fn default() -> Hops {
        Hops::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::fields;
    use super::*;

    #[track_caller]
    fn check(message: &str, want: u32) {
        for piece in 1..=9 {
            let mut hops = Hops::new();
            message.as_bytes().chunks(piece).for_each(|part| hops.feed(part));
            assert_eq!(hops.count(), want, "cut into pieces of {piece}");
        }
    }

    #[test]
    fn counts_received_fields_of_the_header_alone() {
        check("Received: a\r\n\tb\r\nRECEIVED:c\r\nReceived : d\r\n\r\nReceived: e\r\n", 3);
        check("X-Received: a\r\nReceived-SPF: b\r\n Received: c\r\nReceive: d\r\n", 0);
        check("Receiv\r\nReceived: a\r\n", 1);
        check("\r\nReceived: a\r\n", 0);
        check("Received: a", 1);
    }

    #[test]
    fn agrees_with_the_field_scan() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=12)?;
            let words = ["Received", "received", ":", " ", "\r\n", "\r\n", "x", "Rec"];
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            let octets = text.as_bytes();
            let plain = fields(octets)
                .filter(|field| octets[field.name.clone()].eq_ignore_ascii_case(NAME))
                .count();
            check(&text, u32::try_from(plain).unwrap());
            Ok(())
        });
    }
}
