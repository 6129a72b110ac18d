//! xtext and its kin: how DSN parameters carry any characters (RFC 3461 §4, RFC 6533 §3).
//!
//! The encoded form is what is kept and passed on; here it is only found good or bad.

use crate::wire::address::parse_mailbox;

/// The octets that `text` encodes, one by one; an `Err` ends it.
///
/// xtext: printable ASCII without `+` and `=`, or `+` and two upper-case hex digits.
fn decoded(text: &[u8]) -> impl Iterator<Item = Result<u8, ()>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, more) = rest.split_first()?;
        rest = more;
        Some(match first {
            b'+' => {
                let Some((&[high, low], more)) = rest.split_first_chunk::<2>() else {
                    rest = &[];
                    return Some(Err(()));
                };
                rest = more;
                hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low).ok_or(())
            }
            b'=' => Err(()),
            b'!'..=b'~' => Ok(first),
            _ => Err(()),
        })
    })
}

/// Upper case only (RFC 3461 §4).
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The text that xtext stands for, where it stands for text (RFC 3461 §4).
pub fn to_text(text: &[u8]) -> Option<String> {
    let octets: Result<Vec<u8>, ()> = decoded(text).collect();
    String::from_utf8(octets.ok()?).ok()
}

/// xtext that decodes to printable ASCII, as ENVID has to (RFC 3461 §4.4).
pub fn is_printable_xtext(text: &[u8]) -> bool {
    !text.is_empty() && decoded(text).all(|octet| matches!(octet, Ok(b' '..=b'~')))
}

/// What `text` stands for, if it is xtext of printable ASCII.
pub fn decode_xtext(text: &str) -> Option<String> {
    let octets: Result<Vec<u8>, ()> = decoded(text.as_bytes()).collect();
    let octets =
        octets.ok().filter(|octets| octets.iter().all(|octet| (b' '..=b'~').contains(octet)));
    String::from_utf8(octets?).ok()
}

/// What an address in an ORCPT of another type than utf-8 stands for, if it is one: xtext of printable
/// characters. Those outside of ASCII have no place there (RFC 3461 §4.2), and Postfix writes them all the
/// same, for each recipient in UTF-8.
pub fn decode_address(text: &str) -> Option<String> {
    to_text(text.as_bytes()).filter(|text| !text.is_empty() && !text.contains(char::is_control))
}

/// xtext of a mailbox or of `<>`, as AUTH= has it (RFC 4954 §5); in UTF-8 too (RFC 6531 §3.7.1 leaves
/// the parameter as it is, and servers are known to write one).
pub fn is_mailbox_xtext(text: &[u8]) -> bool {
    let octets: Result<Vec<u8>, ()> = decoded(text).collect();
    let Some(mailbox) = octets.ok().and_then(|octets| String::from_utf8(octets).ok()) else {
        return false;
    };
    mailbox == "<>" || !mailbox.starts_with('<') && parse_mailbox(&mailbox).is_ok()
}

/// An address of type utf-8 in an ORCPT (RFC 6533 §3): characters beside `\`, `+`, `=`, and
/// `\x{…}` for the others. Raw UTF-8 is taken too (utf-8-addr-unitext).
pub fn is_utf8_address(text: &[u8]) -> bool {
    let Ok(mut rest) = std::str::from_utf8(text) else { return false };
    if rest.is_empty() {
        return false;
    }
    while let Some(letter) = rest.chars().next() {
        if let Some(point) = rest.strip_prefix("\\x{") {
            let Some((digits, more)) = point.split_once('}') else { return false };
            if !is_code_point(digits) {
                return false;
            }
            rest = more;
        } else if matches!(letter, '!'..='~') && !matches!(letter, '\\' | '+' | '=')
            || !letter.is_ascii() && !letter.is_control()
        {
            let mut letters = rest.chars();
            letters.next();
            rest = letters.as_str();
        } else {
            return false;
        }
    }
    true
}

/// An address of type utf-8 with its `\x{…}` written out (RFC 6533 §3, §4.1), but for those that stand
/// for controls and for characters that mean something: these stay as they are.
pub fn decode_utf8_address(text: &str) -> Option<String> {
    if !is_utf8_address(text.as_bytes()) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once("\\x{") {
        let (digits, more) = escaped.split_once('}')?;
        out.push_str(plain);
        match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
            Some(letter) if !letter.is_ascii() && !letter.is_control() => out.push(letter),
            _ => out.extend(["\\x{", digits, "}"]),
        }
        rest = more;
    }
    out.push_str(rest);
    Some(out)
}

/// HEXPOINT: a character outside ASCII, or an ASCII one that cannot stand for itself.
fn is_code_point(digits: &str) -> bool {
    let sound = (2..=6).contains(&digits.len())
        && digits.bytes().all(|digit| hex(digit).is_some())
        && (digits.len() == 2 || !digits.starts_with('0'));
    let Some(letter) = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) else {
        return false;
    };
    sound && (!letter.is_ascii() || letter <= ' ' || matches!(letter, '+' | '=' | '\\' | '\x7f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_printable_xtext_only() {
        for good in ["a", "a+2Bb", "QQ314159", "a+20b", "rfc+3D!"] {
            assert!(is_printable_xtext(good.as_bytes()), "{good}");
        }
        for bad in ["", "a+2b", "a+zz", "a=b", "a+", "a+2", "a b", "a+0A", "a+7F", "a+FF", "é"] {
            assert!(!is_printable_xtext(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn takes_mailboxes_for_auth() {
        for good in ["<>", "+3C+3E", "a@b.example", "e+3Dmc2@b.example", "+D0+B8@b.example"] {
            assert!(is_mailbox_xtext(good.as_bytes()), "{good}");
        }
        for bad in ["", "<", "a", "a@", "<a@b.example>", "a+0D@b.example", "+FF@b.example", "a@b c"]
        {
            assert!(!is_mailbox_xtext(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn decodes_what_is_printable() {
        assert_eq!(decode_xtext("a+2Bb+20c").as_deref(), Some("a+b c"));
        for bad in ["a+0A", "a+zz", "a+FF"] {
            assert_eq!(decode_xtext(bad), None, "{bad}");
        }
    }

    #[test]
    fn decodes_addresses_of_any_letters() {
        for (text, want) in [
            ("a+2Bb@c", Some("a+b@c")),
            ("+D1+8E@b.example", Some("ю@b.example")),
            ("", None),
            ("+D1@b.example", None),
            ("a+0D+0A", None),
            ("a+C2+85", None),
            ("ю@b.example", None),
        ] {
            assert_eq!(decode_address(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn writes_out_what_is_no_ascii() {
        for (text, want) in [
            (r"a\x{438}b@c.example", Some("aиb@c.example")),
            (r"и@c", Some("и@c")),
            (r"\x{2B}\x{0A}\x{85}\x{438}", Some(r"\x{2B}\x{0A}\x{85}и")),
            (r"a\x{41}", None),
        ] {
            assert_eq!(decode_utf8_address(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn takes_utf8_addresses_raw_and_embedded() {
        for good in [r"\x{438}@b.example", "и@b.example", r"a\x{2B}b@c", r"\x{10FFFF}", r"\x{7F}"]
        {
            assert!(is_utf8_address(good.as_bytes()), "{good}");
        }
        for bad in ["", r"\x{41}", r"\x{D800}", r"\x{110000}", r"\x{}", r"\x{438", "a+b", r"a\b"] {
            assert!(!is_utf8_address(bad.as_bytes()), "{bad}");
        }
    }
}
