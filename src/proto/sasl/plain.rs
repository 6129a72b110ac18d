//! PLAIN: name and password in one message (RFC 4616).
//!
//! ```text
//! message := [authzid] NUL authcid NUL passwd        each UTF-8, without NUL
//! ```
//! Nobody acts for somebody else here: an authzid is taken only if it names the same user.

use super::{Credentials, Secret, prepare};

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainError {
    /// Not exactly two NULs, no name, no password, or not UTF-8 that SASLprep takes.
    Malformed,
    /// Well-formed, but the client wants to act as somebody else.
    Foreign,
}

/// Reads the one message of the mechanism (RFC 4616 §2).
pub fn read(message: &[u8]) -> Result<Credentials, PlainError> {
    let mut parts = message.split(|&octet| octet == 0);
    let (Some(authzid), Some(authcid), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(PlainError::Malformed);
    };
    let prepared = |part| prepare(part).map_err(|_| PlainError::Malformed);
    let user = prepared(authcid)?;
    let password = prepared(password)?;
    if !authzid.is_empty() && !prepared(authzid)?.eq_ignore_ascii_case(&user) {
        return Err(PlainError::Foreign);
    }
    Ok(Credentials { user: user.as_ref().into(), password: Secret::new(&password) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(message: &[u8], want: &Expect) {
        let got = match read(message) {
            Ok(found) => format!("{} / {}", found.user, found.password.expose()),
            Err(error) => format!("{error:?}"),
        };
        want.assert_eq(&got);
    }

    #[test]
    fn takes_name_and_password() {
        check(b"\0tim\0tanstaaftanstaaf", &expect!["tim / tanstaaftanstaaf"]);
        check("\0bj\u{f8}rn\0p\u{e5} ss ".as_bytes(), &expect!["bjørn / på ss "]);
    }

    #[test]
    fn takes_an_authzid_that_names_the_same_user_and_no_other() {
        check(b"Tim@a.example\0tim@a.example\0secret", &expect!["tim@a.example / secret"]);
        check(b"ursel\0kurt\0xipj3plmq", &expect!["Foreign"]);
    }

    #[test]
    fn wants_exactly_two_nuls() {
        for message in [&b""[..], b"\0", b"\0tim", b"tim\0secret", b"\0tim\0sec\0ret", b"\0\0\0"] {
            check(message, &expect!["Malformed"]);
        }
    }

    #[test]
    fn wants_a_name_a_password_and_utf8() {
        for message in
            [&b"\0\0secret"[..], b"\0tim\0", b"\0tim\0\xff", b"\0t\xc3\0s", b"\xff\0a\0b"]
        {
            check(message, &expect!["Malformed"]);
        }
    }

    #[test]
    fn never_panics() {
        arbtest::arbtest(|u| {
            let message: Vec<u8> = (0..u.int_in_range(0..=24)?)
                .map(|_| u.choose(b"\0\0ab\xc3\xa9\xff *").copied())
                .collect::<Result<_, _>>()?;
            if let Ok(found) = read(&message) {
                assert!(!found.user.is_empty() && !found.password.expose().is_empty());
            }
            Ok(())
        });
    }
}
