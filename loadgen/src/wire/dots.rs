//! Dot-stuffing both ways (RFC 5321 §4.5.2, RFC 1939 §3), in streams of any cut.
//!
//! [`Reader`] is fed what a receive buffer holds and never needs a whole message. It also
//! finds lines that begin with a single dot, which a server must never send.

use memchr::memmem;

/// Appends `message` with a dot added to each line that begins with one.
pub(crate) fn stuff(message: &[u8], out: &mut Vec<u8>) {
    if message.first() == Some(&b'.') {
        out.push(b'.');
    }
    let mut from = 0;
    for at in memmem::find_iter(message, b"\r\n.") {
        out.extend_from_slice(&message[from..at + 2]);
        out.push(b'.');
        from = at + 2;
    }
    out.extend_from_slice(&message[from..]);
}

/// What one look at the buffer gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The next octets of the message, unstuffed, and how many octets of the buffer are used up.
    Text { text: &'a [u8], used: usize },
    /// The end; the octets of the buffer up to `used` are the terminator's.
    End { used: usize },
    /// Not enough to decide.
    More,
    /// A line of the message begins with a single dot.
    Unstuffed,
}

/// Takes a dot-stuffed message apart. Begin with `Reader::new()` after the status line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    at_line_start: bool,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { at_line_start: true }
    }

    /// Goes on after [`Piece::Unstuffed`], with the dot taken off: it is one octet to be dropped.
    pub(crate) fn pardon(&mut self) {
        self.at_line_start = false;
    }

    /// Decides about the front of `input`. The caller drops what was used and asks again.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        if self.at_line_start {
            match input {
                [] | [b'.'] | [b'.', b'\r'] => return Piece::More,
                [b'.', b'\r', b'\n', ..] => return Piece::End { used: 3 },
                [b'.', b'.', ..] => {
                    self.at_line_start = false;
                    return Piece::Text { text: &[], used: 1 };
                }
                [b'.', ..] => return Piece::Unstuffed,
                _ => self.at_line_start = false,
            }
        }
        // After a stuffed dot the text begins at that dot, so a search from 0 is right.
        if let Some(at) = memmem::find(input, b"\r\n.") {
            self.at_line_start = true;
            return Piece::Text { text: &input[..at + 2], used: at + 2 };
        }
        // The last octets may be the beginning of CRLF and a dot. A line end that stands at
        // the very end is kept back too: whether a dot follows is not known yet.
        let kept = match input {
            [.., b'\r', b'\n'] => 2,
            [.., b'\r'] => 1,
            _ => 0,
        };
        let used = input.len() - kept;
        if used == 0 { Piece::More } else { Piece::Text { text: &input[..used], used } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Reads `input` as it arrives in blocks of `block` octets.
    fn read(input: &[u8], block: usize) -> Result<(Vec<u8>, usize), &'static str> {
        let (mut reader, mut text_out, mut from) = (Reader::new(), Vec::new(), 0);
        let mut to = 0;
        loop {
            match reader.next(&input[from..to]) {
                Piece::Text { text, used } => {
                    text_out.extend_from_slice(text);
                    from += used;
                }
                Piece::End { used } => return Ok((text_out, from + used)),
                Piece::Unstuffed => return Err("unstuffed"),
                Piece::More if to == input.len() => return Err("more"),
                Piece::More => to = (to + block).min(input.len()),
            }
        }
    }

    #[track_caller]
    fn check(input: &str, want: &Expect) {
        let show = |got: Result<(Vec<u8>, usize), &str>| match got {
            Ok((text, used)) => format!("{} | {used}", text.escape_ascii()),
            Err(why) => why.into(),
        };
        let got = show(read(input.as_bytes(), 1));
        assert_eq!(got, show(read(input.as_bytes(), 1 << 20)), "the cut must not matter");
        want.assert_eq(&got);
    }

    #[test]
    fn ends_at_the_lone_dot_only() {
        check("a\r\n.\r\n+OK", &expect![[r"a\r\n | 6"]]);
        check(".\r\n", &expect![" | 3"]);
        check("a\r\n\r\n.\r\n", &expect![[r"a\r\n\r\n | 8"]]);
        check("a\n.\n.\r\nb\r\n.\r\n", &expect![[r"a\n.\n.\r\nb\r\n | 13"]]);
        check("a\r\n", &expect!["more"]);
    }

    #[test]
    fn takes_one_dot_off_and_sees_missing_ones() {
        check("..\r\n...x\r\n.\r\n", &expect![[r".\r\n..x\r\n | 13"]]);
        check("a\r\n.b\r\n.\r\n", &expect!["unstuffed"]);
        check(".b\r\n.\r\n", &expect!["unstuffed"]);
    }

    #[test]
    fn a_missing_dot_can_be_pardoned() {
        let mut reader = Reader::new();
        assert_eq!(reader.next(b".b\r\n.\r\n"), Piece::Unstuffed);
        reader.pardon();
        assert_eq!(reader.next(b"b\r\n.\r\n"), Piece::Text { text: b"b\r\n", used: 3 });
        assert_eq!(reader.next(b".\r\n"), Piece::End { used: 3 });
    }

    #[test]
    fn reading_undoes_stuffing_for_every_cut() {
        arbtest::arbtest(|u| {
            let mut message: Vec<u8> = (0..u.int_in_range(0..=64)?)
                .map(|_| u.choose(b"ab..\r\n\r\n").copied())
                .collect::<Result<_, _>>()?;
            message.extend_from_slice(b"\r\n");
            let mut stuffed = Vec::new();
            stuff(&message, &mut stuffed);
            stuffed.extend_from_slice(b".\r\nrest");
            let block = u.int_in_range(1..=stuffed.len())?;
            assert_eq!(read(&stuffed, block), Ok((message, stuffed.len() - 4)));
            Ok(())
        });
    }
}
