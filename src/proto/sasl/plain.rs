//! PLAIN: name and password in one message (RFC 4616).
//!
//! ```text
//! message := [authzid] NUL authcid NUL passwd        each UTF-8, without NUL
//! ```
//! An authzid that names the same user says nothing; any other one is whom this user acts for.

use super::{Credentials, Secret, prepare};

/// Reads the one message of the mechanism (RFC 4616 §2); `None` if it is none: not exactly two
/// NULs, no name, no password, or not UTF-8 that SASLprep takes.
pub(super) fn read(message: &[u8]) -> Option<Credentials> {
    let mut parts = message.split(|&octet| octet == 0);
    let (Some(authzid), Some(authcid), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let user = prepare(authcid).ok()?;
    let password = Secret::new(&prepare(password).ok()?);
    let mut acting_for = None;
    if !authzid.is_empty() {
        let other = prepare(authzid).ok()?;
        acting_for = (!other.eq_ignore_ascii_case(&user)).then(|| other.as_ref().into());
    }
    Some(Credentials { user: user.as_ref().into(), password, acting_for })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(message: &[u8], want: &Expect) {
        let got = match read(message) {
            Some(Credentials { user, password, acting_for: None }) => {
                format!("{user} / {}", password.expose())
            }
            Some(Credentials { user, password, acting_for: Some(other) }) => {
                format!("{user} / {} for {other}", password.expose())
            }
            None => "nothing".into(),
        };
        want.assert_eq(&got);
    }

    #[test]
    fn takes_name_and_password() {
        check(b"\0tim\0tanstaaftanstaaf", &expect!["tim / tanstaaftanstaaf"]);
        check("\0bj\u{f8}rn\0p\u{e5} ss ".as_bytes(), &expect!["bjørn / på ss "]);
    }

    #[test]
    fn tells_an_authzid_that_names_another_user() {
        check(b"Tim@a.example\0tim@a.example\0secret", &expect!["tim@a.example / secret"]);
        check(b"ursel\0kurt\0xipj3plmq", &expect!["kurt / xipj3plmq for ursel"]);
    }

    #[test]
    fn wants_exactly_two_nuls() {
        for message in [&b""[..], b"\0", b"\0tim", b"tim\0secret", b"\0tim\0sec\0ret", b"\0\0\0"] {
            check(message, &expect!["nothing"]);
        }
    }

    #[test]
    fn wants_a_name_a_password_and_utf8() {
        for message in
            [&b"\0\0secret"[..], b"\0tim\0", b"\0tim\0\xff", b"\0t\xc3\0s", b"\xff\0a\0b"]
        {
            check(message, &expect!["nothing"]);
        }
    }

    #[test]
    fn never_panics() {
        arbtest::arbtest(|u| {
            let message: Vec<u8> = (0..u.int_in_range(0..=24)?)
                .map(|_| u.choose(b"\0\0ab\xc3\xa9\xff *").copied())
                .collect::<Result<_, _>>()?;
            if let Some(found) = read(&message) {
                assert!(!found.user.is_empty() && !found.password.expose().is_empty());
            }
            Ok(())
        });
    }
}
