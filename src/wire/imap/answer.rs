//! What an IMAP server answers, as a client reads it (RFC 9051 §7 and §9).
//!
//! ```text
//!   text of a response, `{n}` CRLF in it for each literal ─> answer ─> Answer
//!   its literals, beside it                                            └ Value::Literal names one by its place
//! ```
//!
//! Servers are read more kindly than they should be: flags may hold any octet that ends no atom, dates
//! one digit, and what is not asked for is passed over. What cannot be read at all is [`Unsound`].

use super::date::take_date_time;
use super::scan::Scan;
use std::borrow::Cow;

/// Lists in lists. Nothing that is asked for has more than three.
const DEPTH_MAX: usize = 16;

/// A response that cannot be read, and what was expected in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound(pub &'static str);

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Nil,
    /// An atom, a number, a flag; with what stands in brackets right behind it.
    Atom(&'a [u8]),
    /// A quoted string.
    Text(Cow<'a, [u8]>),
    /// The literal at this place.
    Literal(usize),
    List(Vec<Value<'a>>),
}

/// How a command, or the server, is doing (RFC 9051 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

/// A prefix and a separator of each namespace: of one's own, of other users, of what is shared (RFC 9051
/// §7.3.5).
pub type Namespaces<'a> = [Vec<(Value<'a>, Option<u8>)>; 3];

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// `tag` is `*` where it belongs to no command; `code` is what stands in brackets in front.
    Status {
        tag: &'a [u8],
        condition: Condition,
        code: &'a [u8],
        text: &'a [u8],
    },
    /// `+`: the server waits for more.
    More(&'a [u8]),
    Capability(&'a [u8]),
    /// LIST or LSUB.
    Listed(Listed<'a>),
    Namespace(Namespaces<'a>),
    Exists(u32),
    /// The values of ID (RFC 2971), names and what they say by turns.
    Id(Vec<Value<'a>>),
    Fetch(Fetched<'a>),
    /// Nothing that is asked for here.
    Other,
}

/// A mailbox of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    pub is_lsub: bool,
    pub attributes: Vec<&'a [u8]>,
    /// What parts the levels of the name.
    pub separator: Option<u8>,
    pub name: Value<'a>,
}

/// What is told of a message; what was not told is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched<'a> {
    pub uid: Option<u32>,
    pub flags: Option<Vec<&'a [u8]>>,
    /// Seconds since 1970; 0 where there is no such moment.
    pub date: Option<u32>,
    pub octets: Option<u64>,
    /// Its octets; NIL where the server has none.
    pub body: Option<Value<'a>>,
}

/// Whether a line of a response goes on with a literal behind it, and of how many octets. Texts for
/// people (`* OK … {5}`) never do.
pub fn literal_at_end(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let open = memchr::memrchr(b'{', line)?;
    let digits = &line[open + 1..];
    let is_number = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |all, digit| all * 10 + u64::from(digit - b'0')))
}

/// Whether a response begins as one whose end is text for people.
pub fn is_status(text: &[u8]) -> bool {
    let (tag, rest) = word(text);
    tag == b"+" || condition(word(rest).0).is_some()
}

/// Reads a response, without the CRLF at its end.
pub fn answer(text: &[u8]) -> Result<Answer<'_>, Unsound> {
    let (tag, rest) = word(text);
    if tag == b"+" {
        return Ok(Answer::More(rest));
    }
    let (name, rest) = word(rest);
    if let Some(condition) = condition(name) {
        let (code, text) = code(rest);
        return Ok(Answer::Status { tag, condition, code, text });
    }
    if tag != b"*" {
        return Err(Unsound("a response begins with *, + or the tag of a command"));
    }
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    if is("CAPABILITY") {
        return Ok(Answer::Capability(rest));
    }
    if is("LIST") || is("LSUB") {
        return listed(rest, is("LSUB")).map(Answer::Listed);
    }
    if is("NAMESPACE") {
        return namespace(rest).map(Answer::Namespace);
    }
    if is("ID") {
        return Ok(match values(rest)?.into_iter().next() {
            Some(Value::List(all)) => Answer::Id(all),
            _ => Answer::Id(Vec::new()),
        });
    }
    let Some(number) = number(name) else { return Ok(Answer::Other) };
    let (what, rest) = word(rest);
    if what.eq_ignore_ascii_case(b"EXISTS") {
        let count = u32::try_from(number).map_err(|_| Unsound("a number of messages"))?;
        return Ok(Answer::Exists(count));
    }
    if what.eq_ignore_ascii_case(b"FETCH") {
        return fetched(rest).map(Answer::Fetch);
    }
    Ok(Answer::Other)
}

/// The number that a code has behind its name, such as UIDNEXT.
pub fn code_number(code: &[u8], name: &str) -> Option<u64> {
    let (first, rest) = word(code);
    first.eq_ignore_ascii_case(name.as_bytes()).then(|| number(word(rest).0))?
}

fn condition(word: &[u8]) -> Option<Condition> {
    let known = [
        ("OK", Condition::Ok),
        ("NO", Condition::No),
        ("BAD", Condition::Bad),
        ("BYE", Condition::Bye),
        ("PREAUTH", Condition::Preauth),
    ];
    let found = known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, condition)| *condition)
}

/// What stands before the first space, and behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// What stands in brackets at the front, and the text behind it.
fn code(text: &[u8]) -> (&[u8], &[u8]) {
    let inner = text.strip_prefix(b"[").and_then(|rest| {
        let end = memchr::memchr(b']', rest)?;
        Some((&rest[..end], rest[end + 1..].trim_ascii_start()))
    });
    inner.unwrap_or((&[], text))
}

fn number(text: &[u8]) -> Option<u64> {
    let is_number = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |all, digit| all * 10 + u64::from(digit - b'0')))
}

/// A separator in quotes, or NIL.
fn separator(value: &Value<'_>) -> Option<u8> {
    match value {
        Value::Text(text) if text.len() == 1 => text.first().copied(),
        _ => None,
    }
}

fn atoms<'a>(values: &[Value<'a>]) -> Vec<&'a [u8]> {
    let atom = |value: &Value<'a>| match value {
        Value::Atom(atom) => Some(*atom),
        _ => None,
    };
    values.iter().filter_map(atom).collect()
}

fn listed(text: &[u8], is_lsub: bool) -> Result<Listed<'_>, Unsound> {
    let mut values = values(text)?.into_iter();
    match (values.next(), values.next(), values.next()) {
        (Some(Value::List(attributes)), Some(between), Some(name))
            if !matches!(name, Value::List(_)) =>
        {
            let (attributes, separator) = (atoms(&attributes), separator(&between));
            // Some servers have no quotes around NIL where a mailbox is called so.
            let name = if name == Value::Nil { Value::Atom(b"NIL") } else { name };
            Ok(Listed { is_lsub, attributes, separator, name })
        }
        _ => Err(Unsound("LIST has attributes, a separator and a name")),
    }
}

fn namespace(text: &[u8]) -> Result<Namespaces<'_>, Unsound> {
    let mut kinds = [Vec::new(), Vec::new(), Vec::new()];
    for (kind, value) in kinds.iter_mut().zip(values(text)?) {
        let Value::List(all) = value else { continue };
        for one in all {
            let Value::List(parts) = one else { continue };
            let mut parts = parts.into_iter();
            if let (Some(prefix), Some(between)) = (parts.next(), parts.next()) {
                kind.push((prefix, separator(&between)));
            }
        }
    }
    Ok(kinds)
}

fn fetched(text: &[u8]) -> Result<Fetched<'_>, Unsound> {
    const BAD: Unsound = Unsound("FETCH has names and values in parentheses");
    let Some(Value::List(items)) = values(text)?.into_iter().next() else { return Err(BAD) };
    let mut told = Fetched::default();
    let mut items = items.into_iter();
    while let Some(name) = items.next() {
        let (Value::Atom(name), Some(value)) = (name, items.next()) else { return Err(BAD) };
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match &value {
            Value::Atom(text) if is("UID") => {
                let uid = number(text).and_then(|uid| u32::try_from(uid).ok());
                told.uid = Some(uid.filter(|uid| *uid != 0).ok_or(Unsound("a UID"))?);
            }
            Value::Atom(text) if is("RFC822.SIZE") => {
                told.octets = Some(number(text).ok_or(Unsound("a number of octets"))?);
            }
            Value::List(flags) if is("FLAGS") => told.flags = Some(atoms(flags)),
            Value::Text(text) if is("INTERNALDATE") => told.date = Some(date(text)),
            _ if is("BODY[]") || is("RFC822") || is("BINARY[]") => told.body = Some(value),
            _ => {}
        }
    }
    Ok(told)
}

/// Seconds since 1970, as far as a date can be told in them.
fn date(text: &[u8]) -> u32 {
    let quoted = [b"\"", text, b"\""].concat();
    let told = take_date_time(&mut Scan::new(&quoted, false));
    told.map_or(0, |told| u32::try_from(told.seconds.max(0)).unwrap_or(u32::MAX))
}

/// All values of a text.
fn values(text: &[u8]) -> Result<Vec<Value<'_>>, Unsound> {
    let mut reader = Reader { rest: text, literals: 0 };
    let values = reader.values(0)?;
    if reader.rest.is_empty() { Ok(values) } else { Err(Unsound("a parenthesis is closed twice")) }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many were seen.
    literals: usize,
}

impl<'a> Reader<'a> {
    /// Up to the end, or to the closing parenthesis of the list.
    fn values(&mut self, depth: usize) -> Result<Vec<Value<'a>>, Unsound> {
        let mut values = Vec::new();
        loop {
            match self.rest.first() {
                Some(b' ') => self.rest = &self.rest[1..],
                None | Some(b')') => return Ok(values),
                Some(b'(') if depth == DEPTH_MAX => {
                    return Err(Unsound("lists lie in each other too deeply"));
                }
                Some(b'(') => {
                    self.rest = &self.rest[1..];
                    let list = self.values(depth + 1)?;
                    self.rest = self.rest.strip_prefix(b")").ok_or(Unsound("a list ends"))?;
                    values.push(Value::List(list));
                }
                Some(b'"') => values.push(self.quoted()?),
                Some(_) => values.push(self.atom()?),
            }
        }
    }

    fn quoted(&mut self) -> Result<Value<'a>, Unsound> {
        const OPEN: Unsound = Unsound("a quoted string ends");
        let body = &self.rest[1..];
        let mut at = 0;
        let mut escaped = false;
        loop {
            at += memchr::memchr2(b'"', b'\\', body.get(at..).ok_or(OPEN)?).ok_or(OPEN)?;
            if body[at] == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.rest = &body[at + 1..];
        let raw = &body[..at];
        if !escaped {
            return Ok(Value::Text(Cow::Borrowed(raw)));
        }
        let mut octets = Vec::with_capacity(raw.len());
        let mut letters = raw.iter();
        while let Some(&octet) = letters.next() {
            octets.extend(if octet == b'\\' { letters.next().copied() } else { Some(octet) });
        }
        Ok(Value::Text(Cow::Owned(octets)))
    }

    fn atom(&mut self) -> Result<Value<'a>, Unsound> {
        if let Some(len) = self.literal() {
            self.rest = &self.rest[len..];
            self.literals += 1;
            return Ok(Value::Literal(self.literals - 1));
        }
        let whole = self.rest;
        let mut at = 0;
        while let Some(&octet) = whole.get(at) {
            match octet {
                // A section has spaces and parentheses of its own.
                b'[' if at > 0 => {
                    let end =
                        memchr::memchr(b']', &whole[at..]).ok_or(Unsound("a section ends"))?;
                    at += end + 1;
                }
                b' ' | b'(' | b')' | b'"' | b'\r' | b'\n' | 0 => break,
                _ => at += 1,
            }
        }
        if at == 0 {
            return Err(Unsound("a value"));
        }
        let (atom, rest) = whole.split_at(at);
        self.rest = rest;
        Ok(if atom.eq_ignore_ascii_case(b"NIL") { Value::Nil } else { Value::Atom(atom) })
    }

    /// The octets by which a literal is announced at the front.
    fn literal(&self) -> Option<usize> {
        let rest = self.rest.strip_prefix(b"~").unwrap_or(self.rest);
        let skipped = self.rest.len() - rest.len();
        let end = memchr::memchr(b'\n', rest.strip_prefix(b"{")?)? + 1;
        let announced = rest[..end].strip_suffix(b"\r")?;
        let is_one = memchr::memrchr(b'{', announced) == Some(0);
        (is_one && literal_at_end(announced).is_some()).then_some(skipped + end + 1)
    }
}

/// Law: no response makes the reader panic, and a literal is named only if it was announced.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_answer(data: &[u8]) {
    fn highest(values: &[Value<'_>]) -> usize {
        let of = |value: &Value<'_>| match value {
            Value::Literal(at) => at + 1,
            Value::List(all) => highest(all),
            _ => 0,
        };
        values.iter().map(of).max().unwrap_or(0)
    }
    let announced = memchr::memmem::find_iter(data, b"}\r\n").count();
    if let Ok(values) = values(data) {
        assert!(highest(&values) <= announced);
    }
    drop(answer(data));
    assert!(literal_at_end(data).is_none() || data.ends_with(b"}"));
    assert!(!is_status(data) || !data.is_empty());
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
