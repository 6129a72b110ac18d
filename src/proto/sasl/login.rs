//! LOGIN: name and password, each asked for. No RFC has it; what clients expect is written down in
//! draft-murchison-sasl-login-00.

use super::{Secret, Unprepared, prepare};

/// The prompts that clients know; some take them literally.
pub(super) const NAME_PROMPT: &[u8] = b"Username:";
pub(super) const PASSWORD_PROMPT: &[u8] = b"Password:";

/// Reads the answer to the first prompt.
pub(super) fn name(message: &[u8]) -> Result<Box<str>, Unprepared> {
    prepare(message).map(|name| name.as_ref().into())
}

/// Reads the answer to the second one. Some clients end it with a NUL.
pub(super) fn password(message: &[u8]) -> Result<Secret, Unprepared> {
    let message = message.strip_suffix(b"\0").unwrap_or(message);
    prepare(message).map(|password| Secret::new(&password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_saslprep_takes_and_no_empty_word() {
        assert_eq!(name("bj\u{f8}rn".as_bytes()).as_deref(), Ok("bj\u{f8}rn"));
        assert_eq!(password(b"secret\0"), Ok(Secret::new("secret")));
        assert_eq!(name(b""), Err(Unprepared));
        assert_eq!(name(b"a\0b"), Err(Unprepared));
        assert_eq!(password(b"\0"), Err(Unprepared));
        assert_eq!(password(b"\xff"), Err(Unprepared));
    }
}
