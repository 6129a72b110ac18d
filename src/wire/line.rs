//! Lines of a protocol, taken off the front of what was received.
//!
//! Only CRLF ends a line. A lone CR or LF is refused and never guessed at.

use memchr::memchr;

/// Why no line could be taken from the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// More octets than the protocol allows before a line end. The rest must be skipped.
    TooLong,
    /// LF without CR, or CR without LF: refused, since relays that disagree about
    /// line ends are how one message smuggles in another.
    BareLineEnd,
}

/// A line without its CRLF, and what follows it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Takes one line off the front of `input`; `max` counts the CRLF (RFC 5321 §4.5.3.1.4).
///
/// Returns the line without its CRLF and what follows it; `Ok(None)` asks for more octets.
pub fn take_line(input: &[u8], max: usize) -> Result<Option<Split<'_>>, LineError> {
    let window = &input[..input.len().min(max)];
    let Some(lf) = memchr(b'\n', window) else {
        if input.len() >= max {
            return Err(LineError::TooLong);
        }
        return Ok(None);
    };
    let (line, rest) = input.split_at(lf + 1);
    match line.strip_suffix(b"\r\n") {
        Some(line) if memchr(b'\r', line).is_none() => Ok(Some((line, rest))),
        _ => Err(LineError::BareLineEnd),
    }
}
