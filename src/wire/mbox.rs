//! Messages of an mbox: the line in front of each, the fields in which servers keep what they know
//! of it, and the quoting of lines that begin with `From `.
//!
//! ```text
//! mbox    := ("From " sender date LF message LF){…}
//! Status: RO    X-Status: AFTD    X-Keywords: name…    X-UID: n    Content-Length: n
//! X-IMAPbase: UIDVALIDITY last-UID name…               in the first message only
//! ```
//! Lines end with LF or with CRLF.

use super::date::{self, Day};
use memchr::memchr;
use memchr::memmem;

/// Fields that say how a message stands, and are no part of it.
const FIELDS: [&str; 7] =
    ["Content-Length", "Status", "X-IMAP", "X-IMAPbase", "X-Keywords", "X-Status", "X-UID"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// What the fields of a message say.
#[expect(clippy::struct_excessive_bools, reason = "each is a letter of the format, or a field")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing<'a> {
    pub seen: bool,
    pub answered: bool,
    pub flagged: bool,
    pub deleted: bool,
    pub draft: bool,
    pub keywords: Vec<&'a str>,
    /// 0 for none.
    pub uid: u32,
    /// Octets of the body, as some program thought.
    pub content_length: Option<u64>,
    /// UIDVALIDITY, and the highest UID that was given.
    pub base: Option<(u32, u32)>,
    /// It is no message, but what a server wants to remember.
    pub is_internal: bool,
}

/// How lines of a body that begin with `From ` were kept apart from those between messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// `>` in front of `From `, and of `>From ` and so on: one is taken off.
    Rd,
    /// `>` in front of `From ` alone.
    O,
    /// Not at all.
    None,
}

/// The date of a line between messages, seconds since 1970, if it is one. Where it names no zone it
/// is `minutes` east of UTC.
pub fn from_line(line: &[u8], minutes: i32) -> Option<i64> {
    let line = line.strip_prefix(b"From ")?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let text = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let day = words.iter().rposition(|word| DAYS.contains(&word.trim_end_matches(',')))?;
    moment(words.get(day + 1..)?, minutes)
}

/// `Nov 29 22:33:52 2001`, with a zone in front of the year or behind it, and `29 Nov 2001 22:33:52`.
fn moment(words: &[&str], minutes: i32) -> Option<i64> {
    let (mut year, mut month, mut day, mut time) = (None, None, None, None);
    let mut zone = minutes;
    for word in words {
        if let Some(at) = MONTHS.iter().position(|name| name == word) {
            month = Some(i64::try_from(at).ok()? + 1);
        } else if word.contains(':') {
            time = Some(clock(word)?);
        } else if let Some(east) = offset(word) {
            zone = east;
        } else if let Ok(number) = word.parse::<u16>() {
            match number {
                1..=31 if day.is_none() => day = Some(i64::from(number)),
                1_900..=9_999 => year = Some(i64::from(number)),
                _ => return None,
            }
        }
    }
    let days = date::days(year?, month?, day?)?;
    Some(days * 86_400 + time? - i64::from(zone) * 60)
}

fn clock(word: &str) -> Option<i64> {
    let mut parts = word.split(':');
    let mut next = |max: i64| parts.next()?.parse::<i64>().ok().filter(|n| (0..=max).contains(n));
    let (hours, minutes) = (next(23)?, next(59)?);
    Some(hours * 3_600 + minutes * 60 + next(60).unwrap_or(0))
}

/// `+0100`, in minutes.
pub fn offset(word: &str) -> Option<i32> {
    let (sign, digits) = match word.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let number: i32 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    (number % 100 < 60 && number < 1_500).then_some(sign * (number / 100 * 60 + number % 100))
}

/// The line that stands in front of a message that came at `at`, seconds since 1970, with its LF.
pub fn put_from_line(sender: &str, at: u32, out: &mut Vec<u8>) {
    let days = at / 86_400;
    let Day { year, month, day } = date::day(days);
    let (hours, minutes, seconds) = (at / 3_600 % 24, at / 60 % 60, at % 60);
    let name = |names: &[&'static str], at: u32| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
    };
    // 1970 began on a Thursday.
    let (week, month) = (name(&DAYS, (days + 3) % 7), name(&MONTHS, month - 1));
    let line = format!(
        "From {sender} {week} {month} {day:2} {hours:02}:{minutes:02}:{seconds:02} {year}\n"
    );
    out.extend_from_slice(line.as_bytes());
}

/// Fields of a header with the lines that they go on in, and their line ends.
fn fields(mut header: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let rest = header.get(end..).unwrap_or_default();
            end += memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            if !matches!(header.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, rest) = header.split_at(end);
        header = rest;
        (!field.is_empty()).then_some(field)
    })
}

/// The name of a field, if it is one of ours, and its text.
fn ours(field: &[u8]) -> Option<(&'static str, &str)> {
    let colon = memchr(b':', field)?;
    let name = field.get(..colon)?.trim_ascii_end();
    let name = FIELDS.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
    Some((name, std::str::from_utf8(field.get(colon + 1..)?).unwrap_or_default().trim_ascii()))
}

/// Reads the fields of a header, the empty line at its end included or not.
pub fn standing(header: &[u8]) -> Standing<'_> {
    let mut standing = Standing::default();
    for (name, text) in fields(header).filter_map(ours) {
        match name {
            "Content-Length" => standing.content_length = text.parse().ok(),
            "Status" => standing.seen |= text.contains('R'),
            "X-Status" => {
                standing.answered |= text.contains('A');
                standing.flagged |= text.contains('F');
                standing.deleted |= text.contains('D');
                standing.draft |= text.contains('T');
            }
            "X-Keywords" => standing.keywords.extend(text.split_ascii_whitespace()),
            "X-UID" => standing.uid = text.parse().unwrap_or(0),
            _ => {
                let mut words = text.split_ascii_whitespace().map(str::parse);
                let numbers = (words.next(), words.next());
                if let (Some(Ok(uidvalidity)), Some(Ok(last))) = numbers {
                    standing.base = Some((uidvalidity, last));
                }
                standing.is_internal |= name == "X-IMAP";
            }
        }
    }
    standing
}

/// The message without what servers wrote into it. `octets` is header, empty line and body.
pub fn message(octets: &[u8], quoting: Quoting) -> Vec<u8> {
    let end = header_end(octets);
    let (header, body) = octets.split_at(end);
    let mut out = Vec::with_capacity(octets.len());
    fields(header).filter(|field| ours(field).is_none()).for_each(|field| out.extend(field));
    unquote(body, quoting, &mut out);
    out
}

/// Where the body begins.
pub fn header_end(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Some(end) = memchr(b'\n', octets.get(at..).unwrap_or_default()) {
        let line = octets.get(at..at + end).unwrap_or_default();
        at += end + 1;
        if line.is_empty() || line == b"\r" {
            return at;
        }
    }
    octets.len()
}

fn unquote(body: &[u8], quoting: Quoting, out: &mut Vec<u8>) {
    if quoting == Quoting::None || memmem::find(body, b">From ").is_none() {
        out.extend_from_slice(body);
        return;
    }
    for line in body.split_inclusive(|&octet| octet == b'\n') {
        let quotes = line.iter().take_while(|&&octet| octet == b'>').count();
        let bare = line.get(quotes..).unwrap_or_default();
        let is_quoted = bare.starts_with(b"From ")
            && (quoting == Quoting::Rd && quotes > 0 || quoting == Quoting::O && quotes == 1);
        out.extend_from_slice(line.get(usize::from(is_quoted)..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_dates_of_lines_between_messages() {
        for (line, want) in [
            ("From a@b.example Thu Nov 29 22:33:52 2001\n", Some(1_007_073_232)),
            ("From a@b.example  Thu Nov  9 22:33:52 2001\r\n", Some(1_005_345_232)),
            ("From a b Thu Nov 29 22:33:52 +0300 2001\n", Some(1_007_062_432)),
            ("From a Thu Nov 29 22:33 2001 -0100\n", Some(1_007_076_780)),
            ("From - Thu, 29 Nov 2001 22:33:52\n", Some(1_007_073_232)),
            ("From a Thu Nov 29 22:33:52 MET 2001\n", Some(1_007_073_232)),
            ("From me to you\n", None),
            ("From Mon to Fri\n", None),
            (">From a Thu Nov 29 22:33:52 2001\n", None),
        ] {
            assert_eq!(from_line(line.as_bytes(), 0), want, "{line}");
        }
        let east = from_line(b"From a Thu Nov 29 22:33:52 2001", 60);
        assert_eq!(east, Some(1_007_069_632));
        assert_eq!((offset("+0130"), offset("-0030"), offset("0100")), (Some(90), Some(-30), None));
        let mut line = Vec::new();
        put_from_line("a@b.example", 1_007_073_232, &mut line);
        assert_eq!(line, b"From a@b.example Thu Nov 29 22:33:52 2001\n");
    }

    #[test]
    fn reads_what_servers_wrote_and_leaves_it_out() {
        let octets = b"X-IMAPbase: 99 7 $Junk\n Work\nSubject: a\n b\nStatus: RO\nx-status: AF\n\
            X-Keywords: Work  \n $Junk\nX-UID: 5\nContent-Length: 12\n\nStatus: x\n>From a\n";
        let standing = standing(octets);
        assert!(standing.seen && standing.answered && standing.flagged && !standing.deleted);
        assert_eq!(standing.keywords, ["Work", "$Junk"]);
        assert_eq!((standing.uid, standing.base), (5, Some((99, 7))));
        assert_eq!(standing.content_length, Some(12));
        let plain = message(octets, Quoting::Rd);
        assert_eq!(plain, b"Subject: a\n b\n\nStatus: x\nFrom a\n");
        assert_eq!(message(octets, Quoting::None), b"Subject: a\n b\n\nStatus: x\n>From a\n");
    }

    #[test]
    fn takes_quotes_off_as_they_were_put_on() {
        let body = b"\n>From a\n>>From b\n>Frog\nFrom c\n";
        assert_eq!(message(body, Quoting::Rd), b"\nFrom a\n>From b\n>Frog\nFrom c\n");
        assert_eq!(message(body, Quoting::O), b"\nFrom a\n>>From b\n>Frog\nFrom c\n");
    }

    #[test]
    fn reads_any_octets_without_panicking() {
        arbtest::arbtest(|u| {
            let octets = u.arbitrary::<Vec<u8>>()?;
            standing(&octets);
            from_line(&octets, 0);
            from_line(&[b"From a Thu ", &octets[..]].concat(), 0);
            assert!(message(&octets, Quoting::Rd).len() <= octets.len());
            Ok(())
        });
    }
}
