//! The sink's journal: what was taken, and whether the answer was heard. Another process may
//! read it while it grows.
//!
//! ```text
//! T id at connection octets run seq sound kind recipient[,recipient…] told
//!       taken, at a time in microseconds since 1970; `-` where a message has no mark
//!       sound: `+` the body is the one that was sent, `!` it is not, `?` it does not say
//!       kind: `m` a message, `r` a report (null reverse path)
//!       told: `-`, or `action=recipient[,action=recipient…]` out of a report
//! H id  the answer was sent, and the peer said something after it
//! U id  the answer was sent, and the connection ended without another word
//! L id  the answer was not sent
//! B id  the connection ended without QUIT, and this was the last message taken on it
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use super::desk::{Action, Answer, Event, Taken, Told};

/// Appends the line of an event.
pub(crate) fn write_event(event: &Event, out: &mut String) {
    // Writing to a text does not fail.
    match event {
        Event::Taken(taken) => write_taken(taken, out),
        Event::Answered { id, answer } => {
            let letter = match answer {
                Answer::Heard => 'H',
                Answer::Unheard => 'U',
                Answer::Lost => 'L',
            };
            writeln!(out, "{letter} {id}").ok();
        }
        Event::Broke { id } => {
            writeln!(out, "B {id}").ok();
        }
    }
}

fn write_taken(taken: &Taken, out: &mut String) {
    let Taken { id, connection, at_us, octets, .. } = taken;
    write!(out, "T {id} {at_us} {connection} {octets} ").ok();
    match taken.run {
        Some(run) => write!(out, "{run:x} ").ok(),
        None => write!(out, "- ").ok(),
    };
    match taken.seq {
        Some(seq) => write!(out, "{seq} ").ok(),
        None => write!(out, "- ").ok(),
    };
    out.push(match taken.is_sound {
        Some(true) => '+',
        Some(false) => '!',
        None => '?',
    });
    out.push_str(if taken.is_null { " r " } else { " m " });
    for (index, recipient) in taken.recipients.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        escape(recipient, out);
    }
    out.push(' ');
    for (index, told) in taken.told.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(told.action.label());
        out.push('=');
        escape(&told.recipient, out);
    }
    out.push_str(if taken.told.is_empty() { "-\n" } else { "\n" });
}

/// An address as one word: `%` and two digits for what would part it.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        if letter.is_ascii() && (letter <= ' ' || matches!(letter, ',' | '%' | '\x7f')) {
            write!(out, "%{:02x}", u32::from(letter)).ok();
        } else {
            out.push(letter);
        }
    }
}

fn unescape(text: &str) -> Option<Box<str>> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        out.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        out.push_str(rest);
    }
    Some(out.into())
}

/// Reads one line, without its end.
pub(crate) fn parse(line: &str) -> Option<Event> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    let id = words.next()?.parse().ok()?;
    let answered = |answer| Some(Event::Answered { id, answer });
    match kind {
        "T" => parse_taken(id, &mut words),
        "H" => answered(Answer::Heard),
        "U" => answered(Answer::Unheard),
        "L" => answered(Answer::Lost),
        "B" => Some(Event::Broke { id }),
        _ => None,
    }
}

fn parse_taken<'a>(id: u64, words: &mut impl Iterator<Item = &'a str>) -> Option<Event> {
    let mut number = || words.next()?.parse().ok();
    let (at_us, connection, octets) = (number()?, number()?, number()?);
    let run = match words.next()? {
        "-" => None,
        run => Some(u64::from_str_radix(run, 16).ok()?),
    };
    let seq = match words.next()? {
        "-" => None,
        seq => Some(seq.parse().ok()?),
    };
    let is_sound = match words.next()? {
        "+" => Some(true),
        "!" => Some(false),
        "?" => None,
        _ => return None,
    };
    let is_null = match words.next()? {
        "r" => true,
        "m" => false,
        _ => return None,
    };
    let recipients = words.next()?.split(',').map(unescape).collect::<Option<_>>()?;
    let told = match words.next()? {
        "-" => Vec::new(),
        told => told.split(',').map(parse_told).collect::<Option<_>>()?,
    };
    Some(Event::Taken(Box::new(Taken {
        id,
        connection,
        at_us,
        octets,
        run,
        seq,
        is_sound,
        is_null,
        recipients,
        told,
    })))
}

fn parse_told(text: &str) -> Option<Told> {
    let (action, recipient) = text.split_once('=')?;
    Some(Told { recipient: unescape(recipient)?, action: Action::parse(action)? })
}

/// Writes a journal.
pub(crate) struct Writer {
    file: BufWriter<File>,
    line: String,
    failed: Option<std::io::Error>,
}

impl Writer {
    /// Begins a journal; one that is there is written anew.
    pub(crate) fn create(path: &Path) -> Result<Writer, String> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Writer { file: BufWriter::new(file), line: String::new(), failed: None })
    }

    pub(crate) fn write(&mut self, event: &Event) {
        self.line.clear();
        write_event(event, &mut self.line);
        let done = self.file.write_all(self.line.as_bytes());
        self.failed = self.failed.take().or(done.err());
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&mut self) {
        let done = self.file.flush();
        self.failed = self.failed.take().or(done.err());
    }

    /// The first error.
    pub(crate) fn failed(&self) -> Option<&std::io::Error> {
        self.failed.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(event: &Event, want: &Expect) {
        let mut line = String::new();
        write_event(event, &mut line);
        want.assert_eq(&line);
        assert_eq!(parse(line.strip_suffix('\n').unwrap()).as_ref(), Some(event));
    }

    fn taken() -> Taken {
        Taken {
            id: 7,
            connection: 3,
            at_us: 1_795_000_000_000_000,
            octets: 10_240,
            run: Some(0xabc),
            seq: Some(12),
            is_sound: Some(true),
            is_null: false,
            recipients: vec!["m12.0@d1.test".into(), "\"a, b%\"@d2.test".into()],
            told: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        check(
            &Event::Taken(Box::new(taken())),
            &expect![[r#"
                T 7 1795000000000000 3 10240 abc 12 + m m12.0@d1.test,"a%2c%20b%25"@d2.test -
            "#]],
        );
        let foreign = Taken {
            run: None,
            seq: None,
            is_sound: None,
            is_null: true,
            told: vec![
                Told { recipient: "a@b.test".into(), action: Action::Failed },
                Told { recipient: "c@b.test".into(), action: Action::Relayed },
            ],
            ..taken()
        };
        check(
            &Event::Taken(Box::new(foreign)),
            &expect![[r#"
                T 7 1795000000000000 3 10240 - - ? r m12.0@d1.test,"a%2c%20b%25"@d2.test failed=a@b.test,relayed=c@b.test
            "#]],
        );
        check(&Event::Answered { id: 7, answer: Answer::Heard }, &expect!["H 7\n"]);
        check(&Event::Answered { id: 7, answer: Answer::Unheard }, &expect!["U 7\n"]);
        check(&Event::Answered { id: 7, answer: Answer::Lost }, &expect!["L 7\n"]);
        check(&Event::Broke { id: 7 }, &expect!["B 7\n"]);
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        for line in ["", "T 1", "H", "H x", "X 1", "T 1 2 3 4 - - ? m a%zz -"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
