//! Names of mailboxes: modified UTF-7 and UTF-8, INBOX, and what may be made.
//!
//! ```text
//! modified UTF-7 := { printable but "&" / "&-" / "&" base64 "-" }...        (RFC 3501 §5.1.3)
//! base64         := of UTF-16, "," for "/", without padding; never of printable ASCII
//! ```
//! Each name has exactly one form in modified UTF-7; every other one is refused, so that no two
//! texts mean the same mailbox. Inside the server names are UTF-8.

use crate::model::limits::{MAILBOX_LEVELS_MAX, MAILBOX_NAME_OCTETS_MAX};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// What parts the levels of a name.
pub const DELIMITER: u8 = b'/';

const INBOX: &str = "INBOX";

/// Why a text is no name, or none that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Not UTF-8, or 8-bit octets in modified UTF-7.
    NotText,
    /// Modified UTF-7 that is not in its one right form.
    NotCanonical,
    /// A control character, a noncharacter, a line or paragraph separator.
    Forbidden,
    /// Empty, or with an empty level: at the front, at the end, or within.
    EmptyLevel,
    /// `%` or `*`, which no LIST could ask for by name.
    Wildcard,
    /// `#` at the front is another namespace (RFC 9051 §5.1.2).
    Namespace,
    /// A level `.` or `..`: nothing here is a path, but backups and tools may make one of it.
    Dots,
    /// More octets or levels than are taken.
    TooLong,
}

/// Reads modified UTF-7. What has no `&` in it is not copied.
pub fn decode(text: &[u8]) -> Result<Cow<'_, str>, NameError> {
    let ascii = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
    let ascii = ascii.ok_or(NameError::NotText)?;
    if ascii.bytes().any(|octet| octet.is_ascii_control()) {
        return Err(NameError::Forbidden);
    }
    let Some((plain, mut rest)) = ascii.split_once('&') else { return Ok(Cow::Borrowed(ascii)) };
    let mut name = String::with_capacity(ascii.len());
    name.push_str(plain);
    loop {
        let (shifted, after) = rest.split_once('-').ok_or(NameError::NotCanonical)?;
        if shifted.is_empty() {
            name.push('&');
        } else {
            decode_shifted(shifted.as_bytes(), &mut name)?;
        }
        // Two runs side by side must be one.
        let next = after.split_once('&');
        if let Some(("", next)) = next
            && !shifted.is_empty()
            && !next.starts_with('-')
        {
            return Err(NameError::NotCanonical);
        }
        let Some((plain, next)) = next else {
            name.push_str(after);
            return Ok(Cow::Owned(name));
        };
        name.push_str(plain);
        rest = next;
    }
}

/// Appends what one run of base64 stands for.
fn decode_shifted(base64: &[u8], name: &mut String) -> Result<(), NameError> {
    let mut units = Vec::with_capacity(base64.len() * 3 / 8 + 1);
    let (mut bits, mut count) = (0_u32, 0);
    for &octet in base64 {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b',' => 63,
            _ => return Err(NameError::NotCanonical),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from(bits >> count & 0xFFFF).unwrap_or_default());
            bits &= (1 << count) - 1;
        }
    }
    // What is left of the last octet is padding: fewer than six bits, all zero.
    if count >= 6 || bits != 0 {
        return Err(NameError::NotCanonical);
    }
    for letter in char::decode_utf16(units) {
        let letter = letter.map_err(|_| NameError::NotCanonical)?;
        if matches!(letter, ' '..='~') {
            return Err(NameError::NotCanonical);
        }
        if is_forbidden(letter) {
            return Err(NameError::Forbidden);
        }
        name.push(letter);
    }
    Ok(())
}

/// Writes a name in modified UTF-7. What is plain is not copied.
pub fn encode(name: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| matches!(letter, ' '..='~') && letter != '&';
    if name.chars().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if first == '&' {
            text.push_str("&-");
            rest = rest.strip_prefix('&').unwrap_or_default();
            continue;
        }
        let inside = matches!(first, ' '..='~');
        let same = |letter: char| letter != '&' && matches!(letter, ' '..='~') == inside;
        let (run, after) = rest.split_at(rest.find(|letter| !same(letter)).unwrap_or(rest.len()));
        if inside {
            text.push_str(run);
        } else {
            encode_shifted(run, &mut text);
        }
        rest = after;
    }
    Cow::Owned(text)
}

fn encode_shifted(run: &str, text: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    let letter = |value: u32| char::from(ALPHABET[usize::try_from(value & 63).unwrap_or_default()]);
    let (mut bits, mut count) = (0_u32, 0);
    text.push('&');
    for unit in run.encode_utf16() {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            text.push(letter(bits >> count));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(letter(bits << (6 - count)));
    }
    text.push('-');
}

/// Control characters and noncharacters: in no name, whoever sends it (RFC 9051 §5.1).
fn is_forbidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{FDD0}'..='\u{FDEF}')
        || u32::from(letter) & 0xFFFE == 0xFFFE
}

/// Reads the name of a mailbox as a client sends it: UTF-8 after it said so (RFC 9051 §5.1,
/// RFC 6855 §3), else modified UTF-7. INBOX in any case becomes INBOX, also as the first level of
/// a longer name.
pub fn name(text: &[u8], utf8: bool) -> Result<Cow<'_, str>, NameError> {
    let name = if utf8 {
        Cow::Borrowed(std::str::from_utf8(text).map_err(|_| NameError::NotText)?)
    } else {
        decode(text)?
    };
    if name.chars().any(is_forbidden) {
        return Err(NameError::Forbidden);
    }
    Ok(canonical(name))
}

/// A name, or a pattern, in the one form of Net-Unicode (RFC 9051 §5.1, RFC 5198 §2: NFC), which is
/// that of all that are made. What is in it already is not copied.
pub fn net_unicode(name: &str) -> Cow<'_, str> {
    if name.is_ascii() || is_nfc(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.nfc().collect())
}

/// INBOX is written in one way only.
fn canonical(name: Cow<'_, str>) -> Cow<'_, str> {
    match name.split_at_checked(INBOX.len()) {
        Some((front, rest))
            if front != INBOX
                && front.eq_ignore_ascii_case(INBOX)
                && (rest.is_empty() || rest.as_bytes()[0] == DELIMITER) =>
        {
            Cow::Owned([INBOX, rest].concat())
        }
        _ => name,
    }
}

/// Whether a name as the server keeps it is INBOX or below INBOX.
pub fn is_below_inbox(name: &str) -> bool {
    name.strip_prefix(INBOX).is_some_and(|rest| rest.is_empty() || rest.as_bytes()[0] == DELIMITER)
}

/// Whether a mailbox of this name may be made. A delimiter at its end is to be taken off before
/// (RFC 9051 §6.3.4). Names that exist are not held against this: older ones stay reachable.
pub fn check_new(name: &str) -> Result<(), NameError> {
    if name.len() > MAILBOX_NAME_OCTETS_MAX {
        return Err(NameError::TooLong);
    }
    if name.starts_with('#') {
        return Err(NameError::Namespace);
    }
    if name.chars().any(|letter| is_forbidden(letter) || matches!(letter, '\u{2028}' | '\u{2029}'))
    {
        return Err(NameError::Forbidden);
    }
    if name.contains(['%', '*']) {
        return Err(NameError::Wildcard);
    }
    let mut levels = 0;
    for level in name.split(char::from(DELIMITER)) {
        levels += 1;
        match level {
            "" => return Err(NameError::EmptyLevel),
            "." | ".." => return Err(NameError::Dots),
            _ => {}
        }
    }
    if levels > MAILBOX_LEVELS_MAX { Err(NameError::TooLong) } else { Ok(()) }
}

/// Law: a name and its modified UTF-7 lead to each other, and what is read is the one right form.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_mailbox(data: &[u8]) {
    if let Ok(read) = decode(data) {
        assert_eq!(encode(&read).as_bytes(), data, "{read:?} has one form only");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let encoded = encode(text);
        assert!(encoded.bytes().all(|octet| matches!(octet, b' '..=b'~')));
        match decode(encoded.as_bytes()) {
            Ok(read) => assert_eq!(read, text),
            Err(_) => assert!(text.chars().any(is_forbidden), "{text:?} became {encoded:?}"),
        }
    }
    for utf8 in [false, true] {
        if let Ok(read) = name(data, utf8) {
            let whole = read.trim_end_matches('/').to_owned();
            let made = check_new(&whole);
            assert!(
                made.is_err() || name(whole.as_bytes(), true).is_ok_and(|again| again == whole)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_names_of_the_corpus() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../shared/corpus/protocol/nasty/mailbox-names.jsonl"
        );
        let Ok(lines) = std::fs::read_to_string(path) else {
            println!("skipped: no corpus beside the repository");
            return;
        };
        let mut count = 0;
        for line in lines.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let mutf7 = case["mutf7"].as_str().unwrap();
            let read = name(mutf7.as_bytes(), false);
            if case["valid"] == true {
                assert!(read.is_ok(), "{line}: {read:?}");
            } else {
                assert!(read.is_err(), "{line}: {read:?}");
            }
            if let Some(utf8) = case["utf8"].as_str() {
                assert_eq!(read.as_deref(), Ok(utf8), "{line}");
                assert_eq!(encode(utf8), mutf7, "{line}");
                assert_eq!(name(utf8.as_bytes(), true).as_deref(), Ok(utf8), "{line}");
            }
            count += 1;
        }
        assert!(count > 30, "only {count} names");
    }

    #[test]
    fn knows_the_name_of_the_rfc() {
        let name = "~peter/mail/台北/日本語";
        assert_eq!(encode(name), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-").as_deref(), Ok(name));
        assert_eq!(encode("😀&é"), "&2D3eAA-&-&AOk-");
    }

    #[test]
    fn composes_what_can_be_composed() {
        assert_eq!(net_unicode("Entwu\u{308}rfe/\u{110b}\u{1161}"), "Entw\u{fc}rfe/\u{c544}");
        assert_eq!(
            net_unicode("\u{212b}"),
            "\u{c5}",
            "the sign of \u{c5}ngstr\u{f6}m is the letter"
        );
        assert!(matches!(net_unicode("Entw\u{fc}rfe"), Cow::Borrowed(_)));
        assert_eq!(net_unicode("a\u{308}%*"), "\u{e4}%*");
    }

    #[test]
    fn knows_inbox_in_any_case() {
        assert_eq!(name(b"inBOX", false).as_deref(), Ok("INBOX"));
        assert_eq!(name(b"inbox/a", true).as_deref(), Ok("INBOX/a"));
        assert_eq!(name(b"inboxes", false).as_deref(), Ok("inboxes"));
        assert_eq!(name(b"a/inbox", false).as_deref(), Ok("a/inbox"));
        assert!(is_below_inbox("INBOX") && is_below_inbox("INBOX/a") && !is_below_inbox("INBOXES"));
    }

    #[test]
    fn lets_only_names_be_made_that_every_client_can_use() {
        let long = "a".repeat(MAILBOX_NAME_OCTETS_MAX + 1);
        let deep = "a/".repeat(MAILBOX_LEVELS_MAX) + "a";
        for (name, want) in [
            ("a/b c/é", Ok(())),
            (".a", Ok(())),
            ("", Err(NameError::EmptyLevel)),
            ("/foo", Err(NameError::EmptyLevel)),
            ("a//b", Err(NameError::EmptyLevel)),
            ("a/", Err(NameError::EmptyLevel)),
            ("../../etc/x", Err(NameError::Dots)),
            ("a%b", Err(NameError::Wildcard)),
            ("#news.x", Err(NameError::Namespace)),
            ("a\u{2028}", Err(NameError::Forbidden)),
            ("a\u{85}", Err(NameError::Forbidden)),
            (&long, Err(NameError::TooLong)),
            (&deep, Err(NameError::TooLong)),
        ] {
            assert_eq!(check_new(name), want, "{name}");
        }
        assert_eq!(name(b"a\r\nb", true), Err(NameError::Forbidden));
    }

    #[test]
    fn reads_back_what_it_writes() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=16)?;
            let mut text = String::new();
            for _ in 0..len {
                let any = u.arbitrary()?;
                text.push(*u.choose(&['a', '&', '-', '/', 'é', '台', '😀', any])?);
            }
            fuzz_mailbox(text.as_bytes());
            let ascii: Vec<u8> =
                (0..len).map(|_| u.choose(b"&&--AOk,a+").copied()).collect::<Result<_, _>>()?;
            fuzz_mailbox(&ascii);
            Ok(())
        });
    }
}
