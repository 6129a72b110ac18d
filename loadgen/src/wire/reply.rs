//! Replies of SMTP, LMTP and POP3, parsed out of a receive buffer without copying.
//!
//! A parser here never panics whatever the octets are; what is no reply is [`NoReply`].

use memchr::memchr;
use pombal::model::limits::ANSWER_OCTETS_MAX;
use pombal::wire::smtp::answer::Reader;
use pombal::wire::smtp::offers::Offers;

/// The peer said something that is not a reply of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoReply;

/// One SMTP reply, one or more lines (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 200 to 599.
    pub(crate) code: u16,
    /// Octets of all its lines with their line ends.
    pub(crate) len: usize,
}

impl Reply {
    pub(crate) fn is_positive(self) -> bool {
        self.code / 100 == 2
    }
}

/// Takes one reply off the front; `Ok(None)` asks for more octets.
pub(crate) fn take_reply(input: &[u8]) -> Result<Option<Reply>, NoReply> {
    let Some(answer) = Reader::new().take(input).map_err(|_| NoReply)? else { return Ok(None) };
    let reply = Reply { code: answer.code, len: answer.len() };
    if (200..600).contains(&reply.code) { Ok(Some(reply)) } else { Err(NoReply) }
}

/// What a server offers with this reply to EHLO.
pub(crate) fn offers(reply: &[u8]) -> Offers {
    let answer = Reader::new().take(reply).ok().flatten();
    answer.map(|answer| Offers::read(&answer)).unwrap_or_default()
}

/// The text of the last line of a reply: what a person wants to see.
pub(crate) fn last_text(reply: &[u8]) -> String {
    let line = reply.trim_ascii_end();
    let line = memchr::memrchr(b'\n', line).map_or(line, |lf| &line[lf + 1..]);
    String::from_utf8_lossy(line).into_owned()
}

/// The first line of a POP3 reply (RFC 1939 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) ok: bool,
    /// Octets of the line with its line end.
    pub(crate) len: usize,
}

/// Takes one status line off the front; `Ok(None)` asks for more octets.
pub(crate) fn take_status(input: &[u8]) -> Result<Option<Status>, NoReply> {
    let Some(lf) = memchr(b'\n', input) else {
        return if input.len() >= ANSWER_OCTETS_MAX { Err(NoReply) } else { Ok(None) };
    };
    let ok = if input.starts_with(b"+OK") {
        true
    } else if input.starts_with(b"-ERR") {
        false
    } else {
        return Err(NoReply);
    };
    Ok(Some(Status { ok, len: lf + 1 }))
}

/// The first two numbers of a line, as `STAT`, `LIST` lines have them.
pub(crate) fn two_numbers(line: &[u8]) -> Option<(u64, u64)> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use pombal::wire::smtp::offers::Keywords;

    #[track_caller]
    fn check(input: &str, want: &Expect) {
        want.assert_eq(&format!("{:?}", take_reply(input.as_bytes())));
    }

    #[test]
    fn takes_one_reply_and_leaves_the_pipelined_rest() {
        check("250 ok\r\n354 go\r\n", &expect!["Ok(Some(Reply { code: 250, len: 8 }))"]);
        check("250\r\n", &expect!["Ok(Some(Reply { code: 250, len: 5 }))"]);
        check("250-a\r\n250-b\r\n250 c\r\nx", &expect!["Ok(Some(Reply { code: 250, len: 21 }))"]);
    }

    #[test]
    fn asks_for_more_until_the_last_line_is_whole() {
        check("", &expect!["Ok(None)"]);
        check("250 ok", &expect!["Ok(None)"]);
        check("250-ok\r\n", &expect!["Ok(None)"]);
    }

    #[test]
    fn refuses_what_is_no_reply() {
        check("+OK hello\r\n", &expect!["Err(NoReply)"]);
        check("25\r\n", &expect!["Err(NoReply)"]);
        check("150 x\r\n", &expect!["Err(NoReply)"]);
        check("250-a\r\n251 b\r\n", &expect!["Err(NoReply)"]);
        check(&"2".repeat(ANSWER_OCTETS_MAX), &expect!["Err(NoReply)"]);
    }

    #[test]
    fn never_panics_and_does_not_depend_on_segmentation() {
        arbtest::arbtest(|u| {
            let whole: Vec<u8> = (0..u.int_in_range(0..=48)?)
                .map(|_| u.choose(b"2590- \r\nx").copied())
                .collect::<Result<_, _>>()?;
            let cut = u.int_in_range(0..=whole.len())?;
            match take_reply(&whole[..cut]) {
                Ok(None) => {}
                other => assert_eq!(other, take_reply(&whole)),
            }
            Ok(())
        });
    }

    #[test]
    fn finds_keywords_of_ehlo_and_the_last_text() {
        let ehlo = b"250-mx.example\r\n250-SIZE 100\r\n250-pipelining\r\n250 8BITMIME\r\n";
        assert!(offers(ehlo).has(Keywords::SIZE.with(Keywords::PIPELINING)));
        assert!(!offers(ehlo).has(Keywords::CHUNKING));
        assert_eq!(last_text(ehlo), "250 8BITMIME");
    }

    #[test]
    fn reads_pop3_status_and_numbers() {
        assert_eq!(take_status(b"+OK 2 3\r\n"), Ok(Some(Status { ok: true, len: 9 })));
        assert_eq!(take_status(b"-ERR no\r\n+OK"), Ok(Some(Status { ok: false, len: 9 })));
        assert_eq!(take_status(b"+O"), Ok(None));
        assert_eq!(take_status(b"250 x\r\n"), Err(NoReply));
        assert_eq!(two_numbers(b" 2 320\r"), Some((2, 320)));
        assert_eq!(two_numbers(b"2"), None);
    }
}
