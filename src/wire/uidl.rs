//! Forms of unique ids of POP3 (RFC 1939 §7): what a mailbox that came from another server goes on
//! to tell of its messages.
//!
//! ```text
//! form := { printable but "%" / "%%" / "%" ["0"] [width] ["X" / "x"] ("u" / "v") }...
//! ```
//! `u` stands for the UID of a message and `v` for the UIDVALIDITY, decimal or hexadecimal with small
//! letters, as in Dovecot's `pop3_uidl_format`. A form without them is the id of one message as it stands.

use std::fmt;

/// What our own POP3 tells of messages that came from no other server.
pub const OWN: &str = "%v.%u";
/// Characters of a unique id.
pub const UIDL_OCTETS_MAX: usize = 70;
/// Digits that a number may be filled up to.
const WIDTH_MAX: usize = 20;

/// A part of a form.
enum Part<'a> {
    Text(&'a str),
    Number { is_uid: bool, filled: bool, width: usize, is_hexadecimal: bool },
}

/// Takes the first part off a form; `None` for what is no form.
fn part(form: &str) -> Option<(Part<'_>, &str)> {
    let Some(rest) = form.strip_prefix('%') else {
        let (text, rest) = form.split_at(form.find('%').unwrap_or(form.len()));
        return Some((Part::Text(text), rest));
    };
    if rest.starts_with('%') {
        let (text, rest) = rest.split_at(1);
        return Some((Part::Text(text), rest));
    }
    let filled = rest.starts_with('0');
    let (width, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
    let width = if width.is_empty() { 0 } else { width.parse().ok()? };
    let (is_hexadecimal, rest) = match rest.strip_prefix(['X', 'x']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (is_uid, rest) = match (rest.strip_prefix('u'), rest.strip_prefix('v')) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    (width <= WIDTH_MAX).then_some((Part::Number { is_uid, filled, width, is_hexadecimal }, rest))
}

/// Whether a text is a form whose ids are ids, however large the numbers are: 1 to
/// [`UIDL_OCTETS_MAX`] octets of 0x21 to 0x7E.
pub fn is_form(form: &str) -> bool {
    let (mut rest, mut octets) = (form, 0);
    while !rest.is_empty() {
        let Some((part, after)) = part(rest) else { return false };
        octets += match part {
            Part::Text(text) if text.bytes().any(|octet| !octet.is_ascii_graphic()) => {
                return false;
            }
            Part::Text(text) => text.len(),
            // A number that is not filled up with zeros would be with spaces.
            Part::Number { filled: false, width, .. } if width > 1 => return false,
            Part::Number { width, .. } => width.max(10),
        };
        rest = after;
    }
    (1..=UIDL_OCTETS_MAX).contains(&octets)
}

/// Whether every message has another id by this form.
pub fn is_for_many(form: &str) -> bool {
    let mut rest = form;
    while let Some((part, after)) = part(rest).filter(|_| !rest.is_empty()) {
        if matches!(part, Part::Number { is_uid: true, .. }) {
            return true;
        }
        rest = after;
    }
    false
}

/// The form of one id as it stands.
pub fn literal(id: &str) -> String {
    id.replace('%', "%%")
}

/// Writes the id of a message.
pub fn put(form: &str, uid: u32, uidvalidity: u32, out: &mut impl fmt::Write) -> fmt::Result {
    let mut rest = form;
    while let Some((part, after)) = part(rest).filter(|_| !rest.is_empty()) {
        match part {
            Part::Text(text) => out.write_str(text)?,
            Part::Number { is_uid, width, is_hexadecimal, .. } => {
                let number = if is_uid { uid } else { uidvalidity };
                if is_hexadecimal {
                    write!(out, "{number:0width$x}")?;
                } else {
                    write!(out, "{number:0width$}")?;
                }
            }
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: &str, want: &str) {
        assert!(is_form(form), "{form}");
        let mut id = String::new();
        put(form, 30, 0x5F00_00AB, &mut id).unwrap();
        assert_eq!(id, want);
    }

    #[test]
    fn writes_ids_as_other_servers_do() {
        check("%08Xu%08Xv", "0000001e5f0000ab");
        check("UID%u-%v", "UID30-1593835691");
        check("%v.%u", "1593835691.30");
        check("%xu%%x", "1e%x");
        check("whqtswO00WBw418f9t5JxYwZ", "whqtswO00WBw418f9t5JxYwZ");
        assert!(is_for_many("UID%u-%v") && !is_for_many("%%u%v"));
        check(&literal("a%ub"), "a%ub");
    }

    #[test]
    fn refuses_what_makes_no_ids() {
        for form in ["", "a b", "%", "%d", "%5u", "%021u", "é", "a\r\n", &"a".repeat(71)] {
            assert!(!is_form(form), "{form:?}");
        }
    }

    #[test]
    fn ids_of_any_form_are_ids() {
        arbtest::arbtest(|u| {
            let form: String = (0..u.int_in_range(0..=8)?)
                .map(|_| u.choose(&['%', '0', '8', 'X', 'x', 'u', 'v', 'a', ' ']).copied())
                .collect::<Result<_, _>>()?;
            if is_form(&form) {
                let mut id = String::new();
                put(&form, u.arbitrary()?, u.arbitrary()?, &mut id).unwrap();
                assert!((1..=UIDL_OCTETS_MAX).contains(&id.len()), "{form}: {id}");
                assert!(id.bytes().all(|octet| octet.is_ascii_graphic()), "{form}: {id}");
            }
            Ok(())
        });
    }
}
