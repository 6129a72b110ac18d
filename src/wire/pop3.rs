//! POP3 command lines, and numbers as POP3 writes them.
//!
//! ```text
//! line := keyword [SP argument]...        keyword of 3 or 4 letters in any case (RFC 1939 §3)
//! ```
//! A line that is not exactly a command with its arguments is refused; nothing is guessed.
//! Only PASS may hold spaces that count, so spaces at the end of other lines are passed over, as
//! some clients send them.

use crate::bytes::chain::Chain;

/// A command, borrowed from its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Refused by everyone who still knows it (RFC 1939 §7): MD5 over a stored clear password.
    Apop,
    /// Starts SASL (RFC 5034 §4); without a mechanism many clients want the list of them.
    Auth {
        mechanism: Option<&'a [u8]>,
        initial: Option<&'a [u8]>,
    },
    Capa,
    Dele(Number),
    List(Option<Number>),
    Noop,
    /// The rest of the line with every space (RFC 1939 §7).
    Pass(&'a [u8]),
    Quit,
    Retr(Number),
    Rset,
    Stat,
    Stls,
    Top {
        message: Number,
        lines: Number,
    },
    Uidl(Option<Number>),
    /// The rest of the line: names may hold spaces.
    User(&'a [u8]),
    Utf8,
}

/// A decimal number without sign; what is too large for 32 bits stands for [`u32::MAX`], which no
/// maildrop and no message reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u32);

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// No command of POP3, or none that is known here.
    Unknown,
    /// A command, but not with the arguments it takes.
    Arguments,
    /// NUL or another control character within.
    Control,
    /// The start of a request of HTTP: whoever sends it speaks to the wrong port, or was made to.
    Http,
}

/// Reads a line without its CRLF.
pub fn parse(line: &[u8]) -> Result<Command<'_>, CommandError> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(CommandError::Control);
    }
    let (keyword, rest) = match line.iter().position(|&octet| octet == b' ') {
        Some(space) => (&line[..space], Some(&line[space + 1..])),
        None => (line, None),
    };
    let mut upper = [0; 4];
    let Some(keyword_upper) = upper.get_mut(..keyword.len()) else {
        return Err(long_keyword(keyword));
    };
    keyword_upper.copy_from_slice(keyword);
    keyword_upper.make_ascii_uppercase();
    let arguments = Arguments(rest);
    match &*keyword_upper {
        b"APOP" => Ok(Command::Apop),
        b"AUTH" => arguments.auth(),
        b"CAPA" => arguments.none(Command::Capa),
        b"DELE" => arguments.one().map(Command::Dele),
        b"LIST" => arguments.optional().map(Command::List),
        b"NOOP" => arguments.none(Command::Noop),
        b"PASS" => arguments.whole().map(Command::Pass),
        b"QUIT" => arguments.none(Command::Quit),
        b"RETR" => arguments.one().map(Command::Retr),
        b"RSET" => arguments.none(Command::Rset),
        b"STAT" => arguments.none(Command::Stat),
        b"STLS" => arguments.none(Command::Stls),
        b"TOP" => arguments.two().map(|(message, lines)| Command::Top { message, lines }),
        b"UIDL" => arguments.optional().map(Command::Uidl),
        b"USER" => arguments.whole().map(|name| Command::User(name.trim_ascii_end())),
        b"UTF8" => arguments.none(Command::Utf8),
        b"GET" | b"POST" | b"PUT" | b"HEAD" => Err(CommandError::Http),
        _ => Err(CommandError::Unknown),
    }
}

fn long_keyword(keyword: &[u8]) -> CommandError {
    match keyword {
        b"CONNECT" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"PATCH" => CommandError::Http,
        _ => CommandError::Unknown,
    }
}

/// What follows the keyword and its space; `None` if there was no space.
#[derive(Clone, Copy)]
struct Arguments<'a>(Option<&'a [u8]>);

impl<'a> Arguments<'a> {
    /// The words, each behind exactly one space.
    fn words(self) -> impl Iterator<Item = &'a [u8]> {
        let text = self.0.map(<[u8]>::trim_ascii_end).filter(|text| !text.is_empty());
        text.into_iter().flat_map(|text| text.split(|&octet| octet == b' '))
    }

    fn none(self, command: Command<'a>) -> Result<Command<'a>, CommandError> {
        if self.words().next().is_some() { Err(CommandError::Arguments) } else { Ok(command) }
    }

    fn one(self) -> Result<Number, CommandError> {
        self.optional()?.ok_or(CommandError::Arguments)
    }

    fn optional(self) -> Result<Option<Number>, CommandError> {
        let mut words = self.words();
        match (words.next(), words.next()) {
            (None, _) => Ok(None),
            (Some(word), None) => number(word).map(Some),
            _ => Err(CommandError::Arguments),
        }
    }

    fn two(self) -> Result<(Number, Number), CommandError> {
        let mut words = self.words();
        match (words.next(), words.next(), words.next()) {
            (Some(first), Some(second), None) => Ok((number(first)?, number(second)?)),
            _ => Err(CommandError::Arguments),
        }
    }

    fn auth(self) -> Result<Command<'a>, CommandError> {
        let mut words = self.words();
        let (mechanism, initial) = (words.next(), words.next());
        if words.next().is_some() {
            return Err(CommandError::Arguments);
        }
        Ok(Command::Auth { mechanism, initial })
    }

    fn whole(self) -> Result<&'a [u8], CommandError> {
        self.0.filter(|text| !text.is_empty()).ok_or(CommandError::Arguments)
    }
}

fn number(word: &[u8]) -> Result<Number, CommandError> {
    if word.is_empty() {
        return Err(CommandError::Arguments);
    }
    let mut value = 0_u32;
    for &octet in word {
        if !octet.is_ascii_digit() {
            return Err(CommandError::Arguments);
        }
        value = value.saturating_mul(10).saturating_add(u32::from(octet - b'0'));
    }
    Ok(Number(value))
}

/// Writes `value` in decimal. Listings are made of these; `write!` costs four times as much.
pub fn put_number(out: &mut Chain, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).expect("a digit is below ten");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(line: &str, want: &Expect) {
        want.assert_eq(&format!("{:?}", parse(line.as_bytes())));
    }

    #[test]
    fn reads_commands_in_any_case() {
        check("cApA", &expect!["Ok(Capa)"]);
        check("top 3 0", &expect!["Ok(Top { message: Number(3), lines: Number(0) })"]);
        check("Uidl", &expect!["Ok(Uidl(None))"]);
        check("LIST 0001", &expect!["Ok(List(Some(Number(1))))"]);
    }

    #[test]
    fn passes_over_spaces_at_the_end() {
        check("LIST ", &expect!["Ok(List(None))"]);
        check("QUIT  ", &expect!["Ok(Quit)"]);
        check(
            "AUTH PLAIN ",
            &expect!["Ok(Auth { mechanism: Some([80, 76, 65, 73, 78]), initial: None })"],
        );
    }

    #[test]
    fn refuses_what_is_no_number() {
        for line in
            ["LIST +1", "LIST -1", "LIST 1x", "LIST 1 2", "LIST  1", "DELE", "TOP 1", "TOP 1 -1"]
        {
            check(line, &expect!["Err(Arguments)"]);
        }
        check("LIST 18446744073709551617", &expect!["Ok(List(Some(Number(4294967295))))"]);
    }

    #[test]
    fn keeps_every_space_of_a_password() {
        assert_eq!(parse(b"PASS a b  c "), Ok(Command::Pass(b"a b  c ")));
        assert_eq!(parse(b"PASS  "), Ok(Command::Pass(b" ")));
        check("PASS ", &expect!["Err(Arguments)"]);
        check("PASS", &expect!["Err(Arguments)"]);
        check("USER", &expect!["Err(Arguments)"]);
    }

    #[test]
    fn refuses_control_characters_and_other_protocols() {
        check("USER a\0b", &expect!["Err(Control)"]);
        check("CAPA\rQUIT", &expect!["Err(Control)"]);
        check("GET / HTTP/1.1", &expect!["Err(Http)"]);
        check("OPTIONS *", &expect!["Err(Http)"]);
        check("", &expect!["Err(Unknown)"]);
        check(" QUIT", &expect!["Err(Unknown)"]);
        check("RETRIEVE 1", &expect!["Err(Unknown)"]);
    }

    #[test]
    fn never_panics() {
        arbtest::arbtest(|u| {
            let line: Vec<u8> = (0..u.int_in_range(0..=20)?)
                .map(|_| u.choose(b"TOPLISTUDEA  019-+\xff\0").copied())
                .collect::<Result<_, _>>()?;
            let _ = parse(&line);
            Ok(())
        });
    }

    #[test]
    fn writes_numbers_as_display_does() {
        for value in [0, 1, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = Chain::new();
            put_number(&mut out, value);
            assert_eq!(out.to_vec(), value.to_string().into_bytes());
        }
    }
}
